//! `table dump`: what one table holds, by keyspace and key.

use super::{must_be_there, parse};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::keyspaces::Keyspaces;
use crate::open;
use crate::output::Output;
use crate::ranges::{Keys, Span};
use highwater::check::{self, TableEntry};
use highwater::{FileId, KeyspaceId};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What one table holds: keys, lengths of values, tombstones
///
/// By keyspace and key; the range tombstones of a keyspace come first. A newer
/// table, or the log, may have a later version of a key: `highwater find` shows
/// all of them.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater table dump ./db 3 --limit 20
  highwater table dump ./db 3 --keyspace users --prefix a --show-values")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The number of the table, or the name of its file
    #[arg(value_parser = parse)]
    table: FileId,
    /// Only this keyspace, by its name, or by its number as #7
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    #[command(flatten)]
    keys: Keys,
    /// At most so many lines
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let span = args.keys.span(console.form)?;
    let names = Keyspaces::from(must_be_there(dir, args.table)?);
    let wanted = args.keyspace.as_ref().map(|name| names.find(name));
    if let (Some(name), Some([])) = (&args.keyspace, wanted.as_deref()) {
        return Err(Failure::no_keyspace(dir, name));
    }
    let mut output = Output::of(console, "table dump");
    let mut printed = 0_u64;
    let mut outcome = Ok(());
    let read = check::read_table(&open::file_system(), dir, args.table, &mut |id, entry| {
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&id)) || !takes(&span, &entry) {
            return ControlFlow::Continue(());
        }
        if printed == args.limit {
            return ControlFlow::Break(());
        }
        printed += 1;
        outcome = print(id, &entry, &names, &mut output, console);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    outcome?;
    // What was read before a damaged block is shown.
    if let Err(error) = &read
        && matches!(error, highwater::Error::Damage { .. })
    {
        output.flush()?;
        let failure = Failure::engine(dir, error);
        return Err(Failure { exit: Exit::Loss, ..failure });
    }
    read.in_dir(dir)?;
    if !console.is_text() {
        output.summary(json!({ "printed": printed }))?;
    }
    output.flush()
}

fn takes(span: &Span, entry: &TableEntry<'_>) -> bool {
    match entry {
        TableEntry::Value(key, _) | TableEntry::Tombstone(key) => span.contains(key),
        TableEntry::Range(range) => span.meets(&range.start, range.end.as_deref()),
        _ => true,
    }
}

fn print(
    id: KeyspaceId,
    entry: &TableEntry<'_>,
    names: &Keyspaces,
    output: &mut Output,
    console: &Console,
) -> Result<(), Failure> {
    let form = console.form;
    let show = |bytes: &[u8]| human::cut(&form.show(bytes), 4096);
    let mut object = Map::new();
    object.insert("keyspace_id".to_owned(), id.get().into());
    object.insert("keyspace".to_owned(), names.json(id));
    let name = names.show(id);
    let (kind, text) = match entry {
        TableEntry::Value(key, value) => {
            form.member(&mut object, "key", key);
            object.insert("value_bytes".to_owned(), value.len().into());
            if console.show_values {
                form.member(&mut object, "value", value);
            }
            let value = human::cut(&console.value(value), 4096);
            ("put", format!("put {name} {} = {value}", show(key)))
        }
        TableEntry::Tombstone(key) => {
            form.member(&mut object, "key", key);
            ("remove", format!("remove {name} {}", show(key)))
        }
        TableEntry::Range(range) => {
            form.member(&mut object, "from", &range.start);
            if let Some(end) = &range.end {
                form.member(&mut object, "to", end);
            }
            let end = range.end.as_ref();
            let end = end.map_or("the end".to_owned(), |end| format!("before {}", show(end)));
            ("remove-range", format!("remove-range {name} from {} to {end}", show(&range.start)))
        }
        _ => ("unknown", "unknown".to_owned()),
    };
    match console.is_text() {
        true => output.line(&text),
        false => output.item(kind, Value::Object(object)),
    }
}
