//! `verify`: all damage, what it costs, and how many bytes were looked at.

use super::explain;
use crate::console::{Console, Style, duration, typed};
use crate::exit::Exit;
use crate::failure::{Failure, InDir, beside, set_aside};
use crate::human;
use crate::keyspaces::Keyspaces;
use crate::open;
use crate::output::Output;
use crate::progress::Progress;
use highwater::check::{self, Finding, Level, Loss, Verdict, Verified, VerifyOptions};
use highwater::{Error, KeyspaceId};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Find all damage, and say what it costs
///
/// Exit code 0 if there is none, 4 if no committed data is lost with it, 5 if
/// some is or nobody can tell, 124 if the time limit came before the end.
/// Works beside a live owner and on a read-only disk; writes nothing.
///
/// quick: the manifest; presence, headers and indexes of the tables.
/// log: that, and every group of the live log.
/// full: that, and every byte of every table.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater verify ./db
  highwater verify ./db --level full --sample 5% --max-duration 30s")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// How much to read
    #[arg(long, value_enum, default_value = "full")]
    level: Depth,
    /// Of the tables' blocks read about so many, chosen at random
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<f64>,
    /// Stop after so long and say what is left: 500ms, 30s, 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_duration: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Depth {
    Quick,
    Log,
    Full,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let mut options = VerifyOptions::new(match args.level {
        Depth::Quick => Level::Quick,
        Depth::Log => Level::Log,
        Depth::Full => Level::Full,
    });
    if let Some(share) = args.sample {
        if args.level != Depth::Full {
            return Err(Failure::usage(
                "--sample is a share of what --level full reads; leave one \
                                       of them out",
            ));
        }
        options = options.sample(share);
    }
    if let Some(time) = args.max_duration {
        options = options.max_duration(time);
    }
    let mut progress = Progress::bytes(Some(1));
    let found = check::verify(&open::file_system(), dir, &options, &mut |done, total| {
        progress.bar().set_length(total.max(done));
        progress.at(done);
    });
    progress.end();
    let Some(found) = found.in_dir(dir)? else {
        return Err(Failure::engine(dir, &Error::NotFound { path: dir.clone() }));
    };
    let exit = match found.verdict(console.strict) {
        Verdict::Sound => Exit::Clean,
        Verdict::OutOfTime => Exit::TimeLimit,
        Verdict::Damage => Exit::Damage,
        Verdict::Loss => Exit::Loss,
    };
    let report = Report { dir, found: &found, exit, console };
    let mut output = Output::of(console, "verify");
    if console.is_text() {
        report.text(&mut output, args)?;
    } else {
        output.document(report.document(args))?;
    }
    output.flush()?;
    if exit == Exit::Clean { Ok(()) } else { Err(Failure::ended(exit)) }
}

struct Report<'a> {
    dir: &'a Path,
    found: &'a Verified,
    exit: Exit,
    console: &'a Console,
}

impl Report<'_> {
    /// The command to run next.
    fn next(&self) -> Option<String> {
        let at = typed(self.dir);
        if let [only] = &self.found.findings[..]
            && only.file.ends_with("LOCK")
        {
            return Some(set_aside(&only.file));
        }
        match self.exit {
            Exit::Loss => Some(format!("highwater salvage {at} --dry-run")),
            Exit::Damage => Some(format!("highwater explain {at}")),
            Exit::TimeLimit => Some(format!("highwater verify {at}")),
            _ => None,
        }
    }

    fn text(&self, output: &mut Output, args: &Args) -> Result<(), Failure> {
        let (found, console) = (self.found, self.console);
        let level = format!("{:?}", args.level).to_lowercase();
        let in_use = if found.in_use { ", beside its owner" } else { "" };
        output.line(&format!("{}, level {level}{in_use}", self.dir.display()))?;
        output.line("")?;
        let heading = format!("  {:<12} {:>11} {:>13}", "part", "checked", "not checked");
        output.line(&console.paint(Style::Heading, &heading))?;
        for scope in &found.scopes {
            let row = format!(
                "  {:<12} {:>11} {:>13}  {}",
                scope.name,
                human::bytes(scope.checked_bytes),
                human::bytes(scope.skipped_bytes),
                scope.why
            );
            output.line(row.trim_end())?;
        }
        output.line("")?;
        let mut read = Vec::new();
        if args.level != Depth::Quick {
            read.push(format!("{} of live log", human::plural(found.log_groups, "group")));
        }
        read.push(human::plural(found.tables, "table"));
        if args.level == Depth::Full {
            read.push(human::plural_of(found.entries, "entry", "entries"));
        }
        output.line(&format!("  {} looked at", read.join(", ")))?;
        for (number, finding) in found.findings.iter().enumerate() {
            output.line("")?;
            self.finding(output, number + 1, finding)?;
        }
        if let Some(explanation) = &found.explanation {
            if explanation.trim_bytes > 0 {
                let bytes = human::bytes(explanation.trim_bytes);
                let note = format!("  torn tail: {bytes} at the end of the log, never promised");
                output.line(&console.paint(Style::Note, &note))?;
            }
            if explanation.unwitnessed_tail {
                let note = "  unwitnessed tail: nothing vouches for the last commits yet";
                output.line(&console.paint(Style::Note, note))?;
            }
        }
        output.line("")?;
        let (style, verdict) = match self.exit {
            Exit::Clean => (Style::Good, "Sound.".to_owned()),
            Exit::TimeLimit => {
                (Style::Note, "No damage so far; the time limit came first.".to_owned())
            }
            Exit::Damage if found.loss().is_none() => {
                (Style::Note, "Sound but for the end of the log (--strict).".to_owned())
            }
            exit => {
                let places = human::plural(found.findings.len() as u64, "place");
                let cost = match exit {
                    Exit::Damage => "no committed data is lost",
                    _ => "committed data is lost, or nobody can tell",
                };
                (Style::Bad, format!("Damage in {places}: {cost}"))
            }
        };
        let code = match self.exit {
            Exit::Clean => String::new(),
            exit => format!(" (exit code {})", exit.code()),
        };
        output.line(&format!("{}{code}", console.paint(style, &verdict)))?;
        if self.exit == Exit::Loss {
            let (dir, copy) = (typed(self.dir), typed(&beside(self.dir, "copy")));
            output.line(&format!("Copy the directory before anything else: cp -a {dir} {copy}"))?;
        }
        match self.next() {
            Some(next) => output.line(&format!("  next: {next}")),
            None => Ok(()),
        }
    }

    fn finding(&self, output: &mut Output, number: usize, found: &Finding) -> Result<(), Failure> {
        let console = self.console;
        let length = match found.bytes {
            0 => String::new(),
            bytes => format!(", {}", human::plural(bytes, "byte")),
        };
        let name = found.file.file_name().map_or_else(
            || found.file.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        let place = format!("{number:>3}. {name} at byte {}{length}", found.offset);
        output.line(&console.paint(Style::Heading, &place))?;
        for line in human::wrap(&found.what, 74) {
            output.line(&format!("     {line}"))?;
        }
        if let Some((from, to)) = found.lsn_range {
            output.line(&format!("     log range {from}..{to}"))?;
        }
        if let (Some(keyspace), Some((lower, upper))) = (found.keyspace, &found.keys) {
            let form = console.form;
            let name = self.keyspace(keyspace);
            output.line(&format!("     keyspace {}", crate::text::escape(name.as_bytes())))?;
            output.line(&format!("     keys from {}", human::cut(&form.show(lower), 60)))?;
            if let Some(upper) = upper {
                output.line(&format!("     to before {}", human::cut(&form.show(upper), 60)))?;
            }
        }
        let (style, loss) = match found.loss {
            Loss::None => (Style::Note, "no committed data lost"),
            Loss::Unknown => (Style::Bad, "nobody can tell whether committed data is lost"),
            Loss::Committed => (Style::Bad, "committed data lost"),
        };
        output.line(&format!("     {}", console.paint(style, loss)))
    }

    fn keyspace(&self, id: KeyspaceId) -> String {
        let known = self.found.keyspaces.iter().find(|(known, _)| *known == id);
        known.map_or_else(|| Keyspaces::default().show(id), |(_, name)| name.clone())
    }

    fn document(&self, args: &Args) -> Value {
        let found = self.found;
        let scopes: Vec<Value> = found
            .scopes
            .iter()
            .map(|scope| {
                json!({ "part": scope.name, "checked_bytes": scope.checked_bytes,
                    "skipped_bytes": scope.skipped_bytes, "why": scope.why })
            })
            .collect();
        let findings: Vec<Value> =
            found.findings.iter().map(|one| self.finding_json(one)).collect();
        json!({
            "level": format!("{:?}", args.level).to_lowercase(),
            "verdict": self.exit.name(),
            "exit": self.exit.code(),
            "in_use": found.in_use,
            "out_of_time": found.out_of_time,
            "parts": scopes,
            "log_groups": found.log_groups,
            "tables": found.tables,
            "entries": found.entries,
            "findings": findings,
            "open": found.explanation.as_ref().map(explain::document),
            "next": self.next(),
        })
    }

    fn finding_json(&self, finding: &Finding) -> Value {
        let mut object = Map::new();
        let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
        add("file", finding.file.display().to_string().into());
        add("offset", finding.offset.into());
        add("bytes", finding.bytes.into());
        add("lsn_from", finding.lsn_range.map(|(from, _)| from.get()).into());
        add("lsn_to", finding.lsn_range.map(|(_, to)| to.get()).into());
        add("what", finding.what.clone().into());
        add(
            "loss",
            match finding.loss {
                Loss::None => "none",
                Loss::Unknown => "unknown",
                Loss::Committed => "committed",
            }
            .into(),
        );
        if let (Some(keyspace), Some((lower, upper))) = (finding.keyspace, &finding.keys) {
            add("keyspace", self.keyspace(keyspace).into());
            self.console.form.member(&mut object, "key_from", lower);
            if let Some(upper) = upper {
                self.console.form.member(&mut object, "key_to", upper);
            }
        }
        Value::Object(object)
    }
}

fn percent(typed: &str) -> Result<f64, String> {
    let number: f64 =
        typed.trim_end_matches('%').parse().map_err(|_| "write it as 5%".to_owned())?;
    if (0.0..=100.0).contains(&number) {
        Ok(number / 100.0)
    } else {
        Err("write a share from 0% to 100%".to_owned())
    }
}
