//! The loss receipt of a salvage, as text for people and as JSON.
//!
//! Invariant: the JSON form has everything; the text form names every lost part of log and table, and
//! the first keys, and says how many more there are.

use crate::console::{Console, Style};
use crate::human;
use crate::layout::paragraph;
use crate::text;
use crate::time;
use highwater::salvage::{LostKeys, LostLog, LostTable, ManifestState, Receipt};
use serde_json::{Map, Value, json};

/// Lines of one kind that the text form shows.
const SHOWN: usize = 20;

/// The receipt as lines of text.
pub fn lines(receipt: &Receipt, console: &Console) -> Vec<String> {
    let mut lines = Vec::new();
    let mut row = |style: Option<Style>, name: &str, value: &str| {
        let mut part = paragraph(&format!("{name:<13}"), value);
        if let (Some(style), Some(first)) = (style, part.first_mut())
            && !name.is_empty()
        {
            let rest = first.split_off(name.len());
            *first = console.paint(style, first) + &rest;
        }
        lines.append(&mut part);
    };
    row(None, "Source", &receipt.source.display().to_string());
    row(None, "", &format!("database {}", receipt.source_database));
    row(None, "Manifest", &receipt.manifest.to_string());
    row(
        None,
        "Read",
        &format!(
            "{}, {} of the log up to LSN {}",
            human::plural(receipt.tables_read, "table"),
            human::plural(receipt.transactions, "commit"),
            receipt.tail
        ),
    );
    if receipt.last_commit_micros > 0 {
        row(
            None,
            "",
            &format!("its last commit was made {}", time::show(receipt.last_commit_micros)),
        );
    }
    let is_dry = receipt.target.as_os_str().is_empty();
    let tables = match is_dry {
        true => String::new(),
        false => format!(" in {}", human::plural(receipt.tables_written, "new table")),
    };
    row(
        None,
        if is_dry { "Can be saved" } else { "Saved" },
        &format!(
            "{} of {}{tables}, up to commit {}",
            human::plural(receipt.entries, "record"),
            human::plural(receipt.keyspaces.len() as u64, "keyspace"),
            human::count(receipt.last_seqno.get())
        ),
    );
    for part in receipt.set_aside.iter().take(SHOWN) {
        let text = format!("{}, {}: {}", part.file, human::bytes(part.bytes), part.why);
        row(None, "Not used", &text);
    }
    more(&mut row, "Not used", receipt.set_aside.len() as u64, "file");
    let lost = Some(Style::Bad);
    for part in receipt.lost_log.iter().take(SHOWN) {
        row(lost, "Lost", &part.to_string());
    }
    more(&mut row, "Lost", receipt.lost_log.len() as u64, "range of the log");
    for table in receipt.lost_tables.iter().take(SHOWN) {
        row(lost, "Lost", &of_table(table));
        for range in table.ranges.iter().take(SHOWN) {
            row(None, "", &of_range(range, console));
        }
        more(&mut row, "", table.ranges.len() as u64, "range of keys");
    }
    more(&mut row, "Lost", receipt.lost_tables.len() as u64, "table");
    for (keyspace, key) in receipt.lost_keys.iter().take(SHOWN) {
        let keyspace = text::escape(keyspace.as_bytes());
        row(lost, "Lost", &format!("value of {keyspace}/{}", console.form.show(key)));
    }
    more(&mut row, "Lost", receipt.lost_keys_count, "value");
    let doubt = Some(Style::Note);
    if receipt.order_guessed {
        let text = "the order of the tables is guessed from their numbers: older values may show, \
                    removed keys may be back";
        row(doubt, "In doubt", text);
    }
    for name in &receipt.unnamed_keyspaces {
        let text = format!(
            "the keyspace name {} is made up; its own is lost",
            text::escape(name.as_bytes())
        );
        row(doubt, "In doubt", &text);
    }
    for what in &receipt.doubts {
        row(doubt, "In doubt", what);
    }
    if receipt.is_lossless() {
        row(Some(Style::Good), "Lost", "nothing that anything in the source vouches for");
    }
    lines
}

fn more(row: &mut dyn FnMut(Option<Style>, &str, &str), name: &str, count: u64, what: &str) {
    if let Some(rest) = count.checked_sub(SHOWN as u64).filter(|rest| *rest > 0) {
        let text =
            format!("… and {} more like this ({what}); --receipt FILE has all", human::count(rest));
        row(None, name, &text);
    }
}

fn of_table(table: &LostTable) -> String {
    let mut text = format!("{}: {}", table.file, table.what);
    if let Some(entries) = table.entries {
        text.push_str(&format!("; {} lost", human::plural(entries, "record")));
    }
    if let Some(count) = table.range_tombstones.filter(|count| *count > 0) {
        text.push_str(&format!("; {} lost", human::plural(count, "range removal")));
    }
    text
}

fn of_range(range: &LostKeys, console: &Console) -> String {
    let keyspace = match &range.keyspace {
        Some(name) => text::escape(name.as_bytes()),
        None => "(any keyspace)".to_owned(),
    };
    let from = human::cut(&console.form.show(&range.from), 60);
    let from = match (range.after, range.from.is_empty()) {
        (true, _) => format!("after {from}"),
        (false, true) => String::new(),
        (false, false) => format!("from {from}"),
    };
    let to = range.to.as_ref().map(|to| human::cut(&console.form.show(to), 60));
    let to = match (to, range.before) {
        (Some(to), true) => format!("before {to}"),
        (Some(to), false) => format!("to {to}"),
        (None, _) if from.is_empty() => return format!("{keyspace}: any key"),
        (None, _) => "to the end".to_owned(),
    };
    let gap = match (range.after && range.before, from.is_empty()) {
        (true, _) => " and ",
        (false, true) => "",
        (false, false) => " ",
    };
    format!("{keyspace}: keys {from}{gap}{to}")
}

/// The receipt as JSON.
pub fn document(receipt: &Receipt, console: &Console) -> Value {
    let keys: Vec<Value> = receipt
        .lost_keys
        .iter()
        .map(|(keyspace, key)| {
            let mut object = Map::new();
            object.insert("keyspace".to_owned(), keyspace.as_str().into());
            console.form.member(&mut object, "key", key);
            Value::Object(object)
        })
        .collect();
    let set_aside: Vec<Value> = receipt
        .set_aside
        .iter()
        .map(|part| json!({ "file": part.file, "bytes": part.bytes, "why": part.why }))
        .collect();
    json!({
        "lossless": receipt.is_lossless(),
        "source": receipt.source.to_string_lossy(),
        "source_database": receipt.source_database.to_string(),
        "target": receipt.target.to_string_lossy(),
        "target_database": receipt.target_database.to_string(),
        "manifest": manifest(&receipt.manifest),
        "manifest_note": receipt.manifest.to_string(),
        "order_guessed": receipt.order_guessed,
        "last_seqno": receipt.last_seqno.get(),
        "last_commit_micros": receipt.last_commit_micros,
        "tail_lsn": receipt.tail.get(),
        "transactions": receipt.transactions,
        "tables_read": receipt.tables_read,
        "tables_written": receipt.tables_written,
        "records": receipt.entries,
        "keyspaces": receipt.keyspaces,
        "unnamed_keyspaces": receipt.unnamed_keyspaces,
        "lost_log": receipt.lost_log.iter().map(lost_log).collect::<Vec<_>>(),
        "lost_tables":
            receipt.lost_tables.iter().map(|table| lost_table(table, console)).collect::<Vec<_>>(),
        "lost_keys": keys,
        "lost_keys_count": receipt.lost_keys_count,
        "set_aside": set_aside,
        "set_aside_bytes": receipt.set_aside_bytes(),
        "doubts": receipt.doubts,
    })
}

fn manifest(state: &ManifestState) -> &'static str {
    match state {
        ManifestState::Whole => "whole",
        ManifestState::Mended { .. } => "mended",
        ManifestState::Older { .. } => "older",
        ManifestState::Foreign => "foreign",
        ManifestState::Missing => "missing",
        _ => "damaged",
    }
}

/// A lost part of the log, as JSON.
pub fn lost_log(lost: &LostLog) -> Value {
    json!({
        "from_lsn": lost.from.get(),
        "to_lsn": lost.to.map(|lsn| lsn.get()),
        "first_seqno": lost.first_seqno.map(|seqno| seqno.get()),
        "last_seqno": lost.last_seqno.map(|seqno| seqno.get()),
        "certain": lost.certain,
        "what": lost.what,
    })
}

fn lost_table(table: &LostTable, console: &Console) -> Value {
    let range = |range: &LostKeys| {
        let mut object = Map::new();
        object.insert("keyspace".to_owned(), range.keyspace.as_deref().into());
        console.form.member(&mut object, "from", &range.from);
        match &range.to {
            Some(to) => console.form.member(&mut object, "to", to),
            None => drop(object.insert("to".to_owned(), Value::Null)),
        }
        object.insert("from_is_there".to_owned(), range.after.into());
        object.insert("to_is_there".to_owned(), range.before.into());
        Value::Object(object)
    };
    json!({
        "file": table.file,
        "what": table.what,
        "entries": table.entries,
        "range_tombstones": table.range_tombstones,
        "last_seqno": table.last_seqno.map(|seqno| seqno.get()),
        "ranges": table.ranges.iter().map(range).collect::<Vec<_>>(),
    })
}
