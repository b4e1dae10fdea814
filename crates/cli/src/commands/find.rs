//! `find`: the history of a key, from the log and the tables.

use super::explain::damage_exit;
use crate::console::{Console, Style, quoted, typed};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::keyspaces::Keyspaces;
use crate::open;
use crate::output::Output;
use crate::rescue::Limit;
use crate::text;
use crate::time;
use highwater::Lsn;
use highwater::check::{self, Found, History, LogItem};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Show the history of a key
///
/// Every version of it that the log and the tables still hold.
/// Newest first. The log knows the commit, its LSN and its time; a table knows
/// up to which commit it goes. What was merged away or
/// overwritten is gone. A star stands for what no table holds yet. Values are
/// hidden unless --show-values. Works beside a live owner, and on a database
/// whose log is damaged; writes nothing. Exit code 3 if nothing is known.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater find ./db users ada
  highwater find ./db users ada --show-values --format jsonl")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace; it may have been dropped
    keyspace: String,
    /// The key, as text with escapes (\n, \xNN, …)
    key: String,
    #[command(flatten)]
    time: Limit,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    args.time.start("the search");
    let dir = &args.dir;
    let key = console.form.read("the key", &args.key)?;
    let found = check::find(&open::file_system(), dir, &args.keyspace, &key).in_dir(dir)?;
    let mut output = Output::of(console, "find");
    if !found.iter().any(is_about_key) {
        return Err(unknown(args, console.form.show(&key)));
    }
    if console.is_text() {
        let heading = format!(
            "{:>12} {:>9}  {:<19}  what of {} {}",
            "LSN",
            "commit",
            time::HEADING,
            text::escape(args.keyspace.as_bytes()),
            human::cut(&console.form.show(&key), 60)
        );
        output.line(&console.paint(Style::Heading, &heading))?;
    }
    for one in &found {
        if console.is_text() {
            output.line(&line(one, console))?;
        } else {
            output.item("version", json(one, console))?;
        }
    }
    let damaged = damaged_places(dir)?;
    if !console.is_text() {
        output.summary(json!({ "versions": found.len(), "damaged_places": damaged }))?;
    }
    output.flush()?;
    if damaged == 0 {
        return Ok(());
    }
    if console.is_text() {
        let places = human::plural(damaged, "damaged place");
        let note = format!("{places} in the log: there may be versions that are not listed");
        let note = console.paint(Style::Bad, &note);
        let _ = writeln!(io::stderr(), "{note}\n  next: highwater verify {}", typed(dir));
    }
    Err(Failure::ended(damage_exit(dir)))
}

/// Places of the log that could not be read.
fn damaged_places(dir: &Path) -> Result<u64, Failure> {
    let mut damaged = 0;
    let read = check::read_log(&*open::file_system(), dir, Lsn::ZERO, &mut |item| {
        damaged += u64::from(matches!(item, LogItem::Damage { .. }));
        ControlFlow::Continue(())
    });
    read.in_dir(dir)?;
    Ok(damaged)
}

/// The keyspace alone was met, or nothing.
fn is_about_key(one: &History) -> bool {
    let (History::Log { what, .. } | History::Table { what, .. }) = one else { return false };
    matches!(what, Found::Put(_) | Found::Removed | Found::RangeRemoved)
}

fn unknown(args: &Args, key: String) -> Failure {
    if Keyspaces::with_log(&args.dir).find(&args.keyspace).is_empty() {
        return Failure::no_keyspace(&args.dir, &args.keyspace);
    }
    let message =
        format!("neither the log nor a table knows of a key {key} in keyspace {:?}", args.keyspace);
    let next = format!("highwater scan {} {} --limit 20", typed(&args.dir), quoted(&args.keyspace));
    Failure::new(Exit::NotFound, message).next(next)
}

fn line(one: &History, console: &Console) -> String {
    match one {
        History::Log { what, seqno, time_micros, lsn, live, .. } => format!(
            "{:>12}{}{:>9}  {}  {}",
            lsn.get(),
            if *live { '*' } else { ' ' },
            seqno.get(),
            time::short(*time_micros),
            shown(what, console)
        ),
        History::Table { what, table, run, seqnos, .. } => {
            let run = match run {
                Some(run) => format!("table {table} in run {run}"),
                None => format!("table {table}, not in a run yet"),
            };
            let commits = match seqnos.1.get() {
                0 => String::new(),
                last => format!(", up to commit {last}"),
            };
            format!("{:>43}  {}", format!("{run}{commits}"), shown(what, console))
        }
        _ => "of a kind unknown here".to_owned(),
    }
}

fn shown(what: &Found, console: &Console) -> String {
    match what {
        Found::Put(value) => format!("put {}", human::cut(&console.value(value), 4096)),
        Found::Removed => "removed".to_owned(),
        Found::RangeRemoved => "removed with a range of keys".to_owned(),
        Found::KeyspaceCreated => "its keyspace was made".to_owned(),
        Found::KeyspaceDropped => "its keyspace was dropped".to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn json(one: &History, console: &Console) -> Value {
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
    let what = match one {
        History::Log { what, keyspace, seqno, time_micros, lsn, live } => {
            add("source", "log".into());
            add("keyspace_id", keyspace.get().into());
            add("lsn", lsn.get().into());
            add("seqno", seqno.get().into());
            add("time_micros", (*time_micros).into());
            add("time", time::utc(*time_micros).into());
            add("live", (*live).into());
            what
        }
        History::Table { what, keyspace, table, file, run, seqnos } => {
            add("source", "table".into());
            add("keyspace_id", keyspace.get().into());
            add("table", table.get().into());
            add("file", file.clone().into());
            add("run", run.map_or(Value::Null, |run| (run as u64).into()));
            add("seqno_last", seqnos.1.get().into());
            what
        }
        _ => return Value::Null,
    };
    let kind = match what {
        Found::Put(_) => "put",
        Found::Removed => "remove",
        Found::RangeRemoved => "remove-range",
        Found::KeyspaceCreated => "create-keyspace",
        Found::KeyspaceDropped => "drop-keyspace",
        _ => "unknown",
    };
    object.insert("operation".to_owned(), kind.into());
    if let Found::Put(value) = what {
        object.insert("value_bytes".to_owned(), value.len().into());
        if console.show_values {
            console.form.member(&mut object, "value", value);
        }
    }
    Value::Object(object)
}
