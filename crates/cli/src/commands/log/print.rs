//! Transactions and operations as lines, and as JSON.

use super::filter::{Filter, Kind};
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::human;
use crate::keyspaces::Keyspaces;
use crate::layout;
use crate::output::Output;
use crate::time;
use highwater::Lsn;
use highwater::check::{LogOperation, LogTransaction};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Columns that a key or a value may take on a line of text.
const SHOWN_CHARS: usize = 4096;

/// Something to print.
#[derive(Debug)]
pub struct Line {
    kind: &'static str,
    text: String,
    json: Value,
}

impl Line {
    /// Prints it in the form that was asked for.
    pub fn print(&self, output: &mut Output, console: &Console) -> Result<(), Failure> {
        match console.is_text() {
            true => output.line(&self.text),
            false => output.item(self.kind, self.json.clone()),
        }
    }
}

/// Turns what the log holds into lines.
#[derive(Debug)]
pub struct Printer<'a> {
    pub console: &'a Console,
    pub keyspaces: Keyspaces,
    /// A line for each operation.
    pub dump: bool,
    /// It is known which transactions no table holds yet.
    pub knows_live: bool,
    /// The commit after the last one that was met.
    next: Option<u64>,
    /// A damaged place was met behind it.
    damaged: bool,
}

impl<'a> Printer<'a> {
    /// Prints transactions, or with `dump` operations.
    pub fn new(console: &'a Console, keyspaces: Keyspaces, dump: bool) -> Printer<'a> {
        Printer { console, keyspaces, dump, knows_live: true, next: None, damaged: false }
    }

    /// What the log no longer has before a transaction.
    fn gap(&mut self, seqno: u64) -> Option<Line> {
        let damaged = std::mem::take(&mut self.damaged);
        let from = self.next.replace(seqno + 1).filter(|next| *next < seqno)?;
        let to = seqno - 1;
        let what = match damaged {
            true => "in the damaged place",
            false => "not in the log any more: released, and overwritten or removed",
        };
        let which = match from == to {
            true => format!("commit {from}"),
            false => format!("commits {from} to {to}"),
        };
        let gone = format!("{which}: {what}");
        let text = layout::paragraph(&format!("{:13}", ""), &gone).join("\n");
        let json = json!({ "seqno_from": from, "seqno_to": to, "what": what });
        Some(Line { kind: "gap", text: self.console.paint(Style::Note, &text), json })
    }

    /// The lines of a transaction that pass the filter; before them, what is missing in front of it.
    pub fn listed(&mut self, one: &LogTransaction<'_>, filter: &mut Filter) -> Vec<Line> {
        let gap = self.gap(one.seqno.get());
        gap.into_iter().chain(self.transaction(one, filter)).collect()
    }

    /// What stands above the lines.
    pub fn heading(&self, output: &mut Output) -> Result<(), Failure> {
        let text = match self.dump {
            true => format!("{:>12} {:>9}  operation", "LSN", "commit"),
            false => format!(
                "{:>12} {:>9}  {:<19} {:>6} {:>9}  keyspaces",
                "LSN",
                "commit",
                time::HEADING,
                "ops",
                "bytes"
            ),
        };
        output.line(&self.console.paint(Style::Heading, &text))
    }

    /// The lines of a transaction that pass the filter.
    pub fn transaction(&mut self, one: &LogTransaction<'_>, filter: &mut Filter) -> Vec<Line> {
        for operation in one.operations().flatten() {
            self.keyspaces.learn(&operation);
            filter.learn(&operation);
        }
        if !filter.takes(one.time_micros, one.lsn) {
            return Vec::new();
        }
        if self.dump {
            return self.operations(one, filter);
        }
        let taken = || one.operations().flatten().filter(|o| filter.takes_operation(o));
        if !filter.takes_all() && taken().next().is_none() {
            return Vec::new();
        }
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut operations = 0_u64;
        for operation in one.operations().flatten() {
            operations += 1;
            *counts.entry(self.owner(&operation)).or_default() += 1;
        }
        let names: Vec<&str> = counts.keys().map(String::as_str).collect();
        let star = if one.live && self.knows_live { '*' } else { ' ' };
        let text = format!(
            "{:>12}{star}{:>9}  {:<19} {:>6} {:>9}  {}",
            one.lsn.get(),
            one.seqno.get(),
            time::short(one.time_micros),
            operations,
            human::bytes(one.operation_bytes()),
            human::cut(&names.join(", "), 17)
        );
        let mut json = json!({
            "lsn": one.lsn.get(),
            "seqno": one.seqno.get(),
            "start_lsn": one.start.get(),
            "epoch": one.epoch.get(),
            "time_micros": one.time_micros,
            "time": time::utc(one.time_micros),
            "operations": operations,
            "operation_bytes": one.operation_bytes(),
            "groups": one.groups,
            "keyspaces": counts,
        });
        if self.knows_live {
            json["live"] = one.live.into();
        }
        vec![Line { kind: "transaction", text, json }]
    }

    fn operations(&self, one: &LogTransaction<'_>, filter: &Filter) -> Vec<Line> {
        let mut lines = Vec::new();
        for (index, operation) in one.operations().enumerate() {
            let (text, json) = match &operation {
                Ok(operation) if !filter.takes_operation(operation) => continue,
                Ok(operation) => self.operation(operation),
                Err(fault) => (format!("unreadable: {fault}"), json!({ "unreadable": fault })),
            };
            let text = format!("{:>12} {:>9}  {text}", one.lsn.get(), one.seqno.get());
            let mut object = Map::new();
            object.insert("lsn".to_owned(), one.lsn.get().into());
            object.insert("seqno".to_owned(), one.seqno.get().into());
            object.insert("time_micros".to_owned(), one.time_micros.into());
            object.insert("index".to_owned(), index.into());
            if let Value::Object(rest) = json {
                object.extend(rest);
            }
            lines.push(Line { kind: "operation", text, json: Value::Object(object) });
        }
        lines
    }

    fn operation(&self, operation: &LogOperation<'_>) -> (String, Value) {
        let form = self.console.form;
        let show = |bytes: &[u8]| human::cut(&form.show(bytes), SHOWN_CHARS);
        let kind = Kind::of(operation).name();
        let mut object = Map::new();
        object.insert("operation".to_owned(), kind.into());
        let mut about = |id: highwater::KeyspaceId| {
            object.insert("keyspace_id".to_owned(), id.get().into());
            object.insert("keyspace".to_owned(), self.keyspaces.json(id));
            self.keyspaces.show(id)
        };
        let text = match *operation {
            LogOperation::Put { keyspace, key, value } => {
                let name = about(keyspace);
                form.member(&mut object, "key", key);
                object.insert("value_bytes".to_owned(), value.len().into());
                if self.console.show_values {
                    form.member(&mut object, "value", value);
                }
                let value = human::cut(&self.console.value(value), SHOWN_CHARS);
                format!("put {name} {} = {value}", show(key))
            }
            LogOperation::Remove { keyspace, key } => {
                let name = about(keyspace);
                form.member(&mut object, "key", key);
                format!("remove {name} {}", show(key))
            }
            LogOperation::RemoveRange { keyspace, start, end } => {
                let name = about(keyspace);
                form.member(&mut object, "from", start);
                if let Some(end) = end {
                    form.member(&mut object, "to", end);
                }
                let end = end.map_or("the end".to_owned(), |end| format!("before {}", show(end)));
                format!("remove-range {name} from {} to {end}", show(start))
            }
            LogOperation::CreateKeyspace { id, .. } => {
                format!("create-keyspace {} as #{id}", about(id))
            }
            LogOperation::DropKeyspace { id } => format!("drop-keyspace {} #{id}", about(id)),
            LogOperation::InstallTable { table, entries, bytes } => {
                object.insert("table".to_owned(), table.get().into());
                object.insert("entries".to_owned(), entries.into());
                object.insert("bytes".to_owned(), bytes.into());
                format!(
                    "install-table {table}: {}, {}",
                    human::plural_of(entries, "entry", "entries"),
                    human::bytes(bytes)
                )
            }
            _ => "unknown".to_owned(),
        };
        (text, Value::Object(object))
    }

    /// The keyspace of an operation, for the summary line of its transaction.
    fn owner(&self, operation: &LogOperation<'_>) -> String {
        match *operation {
            LogOperation::Put { keyspace, .. }
            | LogOperation::Remove { keyspace, .. }
            | LogOperation::RemoveRange { keyspace, .. } => self.keyspaces.show(keyspace),
            LogOperation::CreateKeyspace { id, .. } | LogOperation::DropKeyspace { id } => {
                self.keyspaces.show(id)
            }
            LogOperation::InstallTable { table, .. } => format!("table {table}"),
            _ => "?".to_owned(),
        }
    }

    /// A witness.
    pub fn witness(&self, lsn: Lsn, durable: Lsn) -> Line {
        let text = format!("{:>12} {:>9}  witness: all below {durable} was durable", lsn.get(), "");
        let json = json!({ "lsn": lsn.get(), "durable_lsn": durable.get() });
        Line { kind: "witness", text, json }
    }

    /// A damaged place.
    pub fn damage(&mut self, file: &str, offset: u64, from: Lsn, to: Lsn, what: &str) -> Line {
        self.damaged = true;
        let place = format!("damage up to LSN {to}: {file} at byte {offset}: {what}");
        let text = layout::paragraph(&format!("{:>12} ", from.get()), &place).join("\n");
        let json = json!({ "file": file, "offset": offset, "lsn_from": from.get(),
            "lsn_to": to.get(), "what": what });
        Line { kind: "damage", text: self.console.paint(Style::Bad, &text), json }
    }
}
