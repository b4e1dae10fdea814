//! `explain`: what opening a database would do, from the plan that the open itself follows.

use crate::console::{Console, Style, typed};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::layout::paragraph;
use crate::open;
use crate::output::Output;
use highwater::Error;
use highwater::check::{self, Explanation, Forecast, Level, Loss, VerifyOptions};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Say what opening a database would do, and why
///
/// Load, replay, trim, or refuse: the plan that the open itself follows, not
/// carried out. Works beside a live owner; writes nothing. It does not read the
/// tables: `highwater verify` finds damage in them.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater explain ./db
  highwater explain ./db --format json --strict")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let mut output = Output::of(console, "explain");
    match check::explain(&*open::file_system(), dir) {
        Ok(Forecast::Open(found)) => {
            if console.is_text() {
                text(&mut output, console, dir, &found)?;
            } else {
                output.document(document(&found))?;
            }
            output.flush()?;
            let has_tail = found.trim_bytes > 0 || found.unwitnessed_tail;
            match console.strict && has_tail {
                true => Err(Failure::ended(Exit::Damage)),
                false => Ok(()),
            }
        }
        Err(error @ Error::Damage { .. }) => refusal(&mut output, console, dir, &error),
        Ok(_) => Err(Failure::engine(dir, &Error::NotFound { path: dir.clone() })),
        other => other.in_dir(dir).map(drop),
    }
}

fn text(
    output: &mut Output,
    console: &Console,
    dir: &Path,
    found: &Explanation,
) -> Result<(), Failure> {
    let state = match found.clean {
        true => console.paint(Style::Good, "closed cleanly"),
        false => console.paint(Style::Note, "not closed cleanly"),
    };
    output.line(&format!("{} was {state}. An open would", dir.display()))?;
    let tables: u64 = found.runs.iter().map(|run| run.tables).sum();
    let bytes: u64 = found.runs.iter().map(|run| run.bytes).sum();
    output.line(&format!(
        "  load      {} in {}, {}, up to commit {}",
        human::plural(tables, "table"),
        human::plural(found.runs.len() as u64, "run"),
        human::bytes(bytes),
        human::count(found.checkpoint_seqno.get())
    ))?;
    let replay = &found.replay;
    output.line(&format!(
        "  replay    {}, {}, {} of log from LSN {}",
        human::plural(replay.transactions, "commit"),
        human::plural(replay.operations, "operation"),
        human::bytes(replay.bytes),
        found.checkpoint_lsn
    ))?;
    output.line(&format!(
        "  end at    commit {}, LSN {}",
        human::count(found.last_seqno.get()),
        found.tail
    ))?;
    if found.trim_bytes > 0 {
        let what = format!("{} behind it: written, never promised", human::bytes(found.trim_bytes));
        output.line(&format!("  trim      {}", console.paint(Style::Note, &what)))?;
    }
    if found.unfinished_transactions > 0 {
        output.line(&format!(
            "  roll back {} that never ended",
            human::plural(found.unfinished_transactions, "transaction")
        ))?;
    }
    if !found.clean {
        output.line("  write     what it recovers to new tables, and start a new epoch")?;
    }
    let dead = found.orphans.len() + found.dead_segments.len();
    if dead > 0 {
        output.line(&format!(
            "  clear     {} that nothing needs, with the first commit",
            human::plural(dead as u64, "file")
        ))?;
    }
    if found.unwitnessed_tail {
        output.line("")?;
        output.line(&console.paint(Style::Note, "Unwitnessed tail:"))?;
        output
            .line("  nothing vouches for the last commits before the stop. Damage to them would")?;
        output.line("  look like a torn write.")?;
    }
    if found.salvaged {
        output.line("")?;
        output.line(
            &console.paint(Style::Note, "Put together by salvage: something may be missing."),
        )?;
    }
    if !found.foreign.is_empty() {
        let names: Vec<String> =
            found.foreign.iter().map(|name| crate::text::escape(name.as_bytes())).collect();
        output.line("")?;
        output.line(&format!("Not ours, left alone: {}", names.join(", ")))?;
    }
    Ok(())
}

/// What an open would do, as JSON; `verify` shares it.
pub fn document(found: &Explanation) -> Value {
    let runs: Vec<Value> = found
        .runs
        .iter()
        .map(|run| {
            json!({ "level": run.level, "tables": run.tables, "bytes": run.bytes,
                "entries": run.entries, "tombstones": run.tombstones })
        })
        .collect();
    json!({
        "verdict": "open",
        "database": found.database.to_string(),
        "generation": found.generation.get(),
        "last_epoch": found.last_epoch.get(),
        "created_micros": found.created_micros,
        "manifest_written_micros": found.manifest_written_micros,
        "clean": found.clean,
        "salvaged": found.salvaged,
        "checkpoint_seqno": found.checkpoint_seqno.get(),
        "checkpoint_lsn": found.checkpoint_lsn.get(),
        "last_seqno": found.last_seqno.get(),
        "last_commit_micros": found.last_commit_micros,
        "tail_lsn": found.tail.get(),
        "replay_groups": found.replay.groups,
        "replay_commits": found.replay.transactions,
        "replay_operations": found.replay.operations,
        "replay_bytes": found.replay.bytes,
        "trim_bytes": found.trim_bytes,
        "unfinished_transactions": found.unfinished_transactions,
        "unwitnessed_tail": found.unwitnessed_tail,
        "runs": runs,
        "orphans": found.orphans,
        "dead_segments": found.dead_segments,
        "foreign": found.foreign,
    })
}

/// How a command ends that has met damage in the log: whether commits are lost is looked up.
pub fn damage_exit(dir: &Path) -> Exit {
    let options = VerifyOptions::new(Level::Log);
    match check::verify(&open::file_system(), dir, &options, &mut |_, _| {}) {
        // Without a loss: also what lies in log that nothing needs any more.
        Ok(Some(found)) if matches!(found.loss(), None | Some(Loss::None)) => Exit::Damage,
        _ => Exit::Loss,
    }
}

/// The open would refuse. Whether commits are lost is looked up.
fn refusal(
    output: &mut Output,
    console: &Console,
    dir: &Path,
    error: &Error,
) -> Result<(), Failure> {
    let exit = damage_exit(dir);
    let Error::Damage { file, offset, lsn_range, what } = error else {
        return Err(Failure::engine(dir, error));
    };
    let next = format!("highwater verify {}", typed(dir));
    if console.is_text() {
        let refuse = console.paint(Style::Bad, "REFUSE");
        output.line(&format!("An open would {refuse} {} and touch nothing:", dir.display()))?;
        output.line(&format!("  file      {}", file.display()))?;
        output.line(&format!("  at byte   {offset}"))?;
        if let Some((from, to)) = lsn_range {
            output.line(&format!("  log range {from}..{to}"))?;
        }
        for line in paragraph("  because   ", what) {
            output.line(&line)?;
        }
        output.line(&format!("  exit code {}: {}", exit.code(), exit.meaning()))?;
        output.line(&format!("  next: {next}"))?;
    } else {
        output.document(json!({
            "verdict": "refuse",
            "file": file.display().to_string(),
            "offset": offset,
            "lsn_from": lsn_range.map(|(from, _)| from.get()),
            "lsn_to": lsn_range.map(|(_, to)| to.get()),
            "what": what,
            "exit": exit.code(),
            "next": next,
        }))?;
    }
    output.flush()?;
    Err(Failure::ended(exit))
}
