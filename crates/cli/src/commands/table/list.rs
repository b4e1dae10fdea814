//! `table list`: all tables, newest run first.

use super::{level, listed};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::human;
use crate::keyspaces::Keyspaces;
use crate::output::Output;
use highwater::KeyspaceId;
use highwater::check::TableSummary;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// All tables, newest run first, with their key ranges
///
/// A run is sorted: its tables do not overlap. Run 0 is the newest; the lowest
/// one is the base. "install" is what a large transaction has put beside the
/// log and no checkpoint has passed yet. "removed" counts tombstones.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater table list ./db")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let (tables, names) = listed(&args.dir)?;
    let names = Keyspaces::from(names);
    let mut output = Output::of(console, "table list");
    if !console.is_text() {
        for table in &tables {
            output.item("table", json(table, &names, console))?;
        }
        let bytes: u64 = tables.iter().map(|table| table.bytes).sum();
        output.summary(json!({ "tables": tables.len(), "bytes": bytes }))?;
        return output.flush();
    }
    if tables.is_empty() {
        output.line("no tables: the log holds everything")?;
        return output.flush();
    }
    let heading = format!(
        "{:>6} {:>4}  {:<7} {:>12} {:>10} {:>10}  commits",
        "table", "run", "level", "entries", "removed", "bytes"
    );
    output.line(&console.paint(Style::Heading, &heading))?;
    for table in &tables {
        let run = table.run.map_or("-".to_owned(), |run| run.to_string());
        let commits = match table.run {
            Some(_) => format!("up to {}", table.seqnos.1),
            None => "-".to_owned(),
        };
        output.line(&format!(
            "{:>6} {run:>4}  {:<7} {:>12} {:>10} {:>10}  {commits}",
            table.id.get(),
            level(table),
            human::count(table.entries),
            human::count(table.tombstones + table.range_tombstones),
            human::bytes(table.bytes),
        ))?;
        let (from, to) = range(table, &names, console);
        output.line(&format!("{:13}{from}", ""))?;
        if from != to {
            output.line(&format!("{:10}to {to}", ""))?;
        }
    }
    output.flush()
}

fn range(table: &TableSummary, names: &Keyspaces, console: &Console) -> (String, String) {
    let show = |id: KeyspaceId, key: Option<&[u8]>| {
        let name = human::cut(&names.show(id), 24);
        match key {
            Some(key) => format!("{name} {}", human::cut(&console.form.show(key), 40)),
            None => format!("{name}, its end"),
        }
    };
    let (first, last) = (&table.first, &table.last);
    (show(first.0, Some(&first.1)), show(last.0, last.1.as_deref()))
}

/// A table as JSON.
pub fn json(table: &TableSummary, names: &Keyspaces, console: &Console) -> Value {
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
    add("table", table.id.get().into());
    add("file", table.file.clone().into());
    add("run", table.run.map_or(Value::Null, |run| (run as u64).into()));
    add("level", level(table).into());
    add("seqno_last", table.run.map(|_| table.seqnos.1.get()).into());
    add("bytes", table.bytes.into());
    add("entries", table.entries.into());
    add("tombstones", table.tombstones.into());
    add("range_tombstones", table.range_tombstones.into());
    add("first_keyspace_id", table.first.0.get().into());
    add("first_keyspace", names.json(table.first.0));
    console.form.member(&mut object, "first_key", &table.first.1);
    object.insert("last_keyspace_id".to_owned(), table.last.0.get().into());
    object.insert("last_keyspace".to_owned(), names.json(table.last.0));
    if let Some(key) = &table.last.1 {
        console.form.member(&mut object, "last_key", key);
    }
    Value::Object(object)
}
