//! `diff`: the keys that differ between two states.

use crate::console::{Console, Style};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::output::Output;
use crate::rescue::Limit;
use crate::states::State;
use crate::text;
use highwater::check::{self, Difference};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// List the keys that differ between two states
///
/// A line for each key that was added (+), removed (-) or changed (~) from A to
/// B, by keyspace and key; keyspaces are compared by name. DIR@LSN is the state
/// after the commit that returned this LSN. Exit code 3 if the states differ.
/// Works beside a live owner; writes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater diff ./db ./restored
  highwater diff ./db@1052760 ./db --show-values
  highwater diff ./db ./copy --limit 0        only how many")]
pub struct Args {
    /// The first state
    #[arg(value_name = "A[@LSN]")]
    a: PathBuf,
    /// The second state
    #[arg(value_name = "B[@LSN]")]
    b: PathBuf,
    /// At most so many lines; all are counted
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    #[command(flatten)]
    time: Limit,
}

#[derive(Debug, Default)]
struct Counts {
    added: u64,
    removed: u64,
    changed: u64,
    keyspaces: u64,
    printed: u64,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    args.time.start("the comparison");
    let (a, b) = (State::of(&args.a), State::of(&args.b));
    let (before, _) = a.open()?;
    let (after, _) = b.open()?;
    let (before, after) = (before.snapshot(), after.snapshot());
    let mut output = Output::of(console, "diff");
    let mut counts = Counts::default();
    let mut outcome = Ok(());
    let found = check::diff(&before, &after, &mut |one| {
        counts.count(&one);
        if counts.printed < args.limit {
            counts.printed += 1;
            outcome = print(&one, &mut output, console);
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome?;
    // Errors name the file, so it does not matter whose they are.
    found.in_dir(&a.dir)?;
    let is_same = counts.total() == 0;
    if console.is_text() {
        counts.text(&mut output, console)?;
    } else {
        output.summary(json!({
            "same": is_same,
            "added": counts.added,
            "changed": counts.changed,
            "removed": counts.removed,
            "keyspaces": counts.keyspaces,
            "printed": counts.printed,
        }))?;
    }
    output.flush()?;
    if is_same { Ok(()) } else { Err(Failure::ended(Exit::NotFound)) }
}

impl Counts {
    fn count(&mut self, one: &Difference<'_>) {
        match one {
            Difference::Added { .. } => self.added += 1,
            Difference::Removed { .. } => self.removed += 1,
            Difference::Changed { .. } => self.changed += 1,
            _ => self.keyspaces += 1,
        }
    }

    fn total(&self) -> u64 {
        self.added + self.removed + self.changed + self.keyspaces
    }

    fn text(&self, output: &mut Output, console: &Console) -> Result<(), Failure> {
        if self.total() == 0 {
            return output.line(&console.paint(Style::Good, "no difference"));
        }
        if self.printed > 0 {
            output.line("")?;
        }
        if self.printed < self.total() {
            let more = human::count(self.total() - self.printed);
            output.line(&format!("{more} more not shown (--limit)"))?;
        }
        let keyspaces = match self.keyspaces {
            0 => String::new(),
            many => format!("; {} in one state alone", human::plural(many, "keyspace")),
        };
        output.line(&format!(
            "{} added, {} changed, {} removed{keyspaces}",
            human::plural(self.added, "key"),
            human::count(self.changed),
            human::count(self.removed)
        ))
    }
}

fn print(one: &Difference<'_>, output: &mut Output, console: &Console) -> Result<(), Failure> {
    let form = console.form;
    let mut object = Map::new();
    let name = |name: &str| text::escape(name.as_bytes());
    let mut about = |keyspace: &str, key: Option<&[u8]>, values: &[(&str, &[u8])]| {
        object.insert("keyspace".to_owned(), keyspace.into());
        if let Some(key) = key {
            form.member(&mut object, "key", key);
        }
        for (what, value) in values {
            object.insert(format!("{what}_bytes"), value.len().into());
            if console.show_values {
                form.member(&mut object, what, value);
            }
        }
    };
    let (style, kind, line) = match one {
        Difference::KeyspaceAdded(keyspace) => {
            about(keyspace, None, &[]);
            (Style::Good, "keyspace_added", format!("+ {}  (keyspace)", name(keyspace)))
        }
        Difference::KeyspaceRemoved(keyspace) => {
            about(keyspace, None, &[]);
            (Style::Bad, "keyspace_removed", format!("- {}  (keyspace)", name(keyspace)))
        }
        Difference::Added { keyspace, key, value } => {
            about(keyspace, Some(key), &[("value", value)]);
            let value = console.value(value);
            (Style::Good, "added", format!("+ {}  {} = {value}", name(keyspace), form.show(key)))
        }
        Difference::Removed { keyspace, key, value } => {
            about(keyspace, Some(key), &[("value", value)]);
            let value = console.value(value);
            (Style::Bad, "removed", format!("- {}  {} = {value}", name(keyspace), form.show(key)))
        }
        Difference::Changed { keyspace, key, before, after } => {
            about(keyspace, Some(key), &[("before", before), ("after", after)]);
            let change = format!("{} -> {}", console.value(before), console.value(after));
            (Style::Note, "changed", format!("~ {}  {} = {change}", name(keyspace), form.show(key)))
        }
        _ => (Style::Note, "unknown", "? a difference of a kind unknown here".to_owned()),
    };
    if console.is_text() {
        output.line(&console.paint(style, &line))
    } else {
        output.item(kind, Value::Object(object))
    }
}
