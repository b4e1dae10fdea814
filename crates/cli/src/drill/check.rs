//! Compares what a crash left with what was acknowledged and with the commit order.
//!
//! The database says how many transactions it holds; that must be at least the acknowledged ones and at
//! most those that can have begun, and every key must be exactly what that many transactions make it: no
//! key missing, none too many, no value of an older or a later one. Every key is read twice, by a scan and
//! by a look-up.

use super::workload::{Lines, Model, PROGRESS, PROGRESS_KEY, Position, RECORDS};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::text;
use highwater::{Database, Error};
use std::collections::HashMap;
use std::path::Path;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Transactions that the database holds, and the records in them.
    pub position: Position,
    /// Keys that differ from the state after that many transactions.
    pub wrong: u64,
    /// The first of them, in words.
    pub first_wrong: Option<String>,
}

/// Reads the whole database and compares it.
pub fn check(db: &Database, dir: &Path, lines: &Lines, seed: u64) -> Result<Found, Failure> {
    let snapshot = db.snapshot();
    let transactions = match db.existing_keyspace(PROGRESS) {
        Ok(progress) => {
            let digits = snapshot.get(&progress, PROGRESS_KEY).in_dir(dir)?;
            digits.map_or(Some(0), |digits| std::str::from_utf8(&digits).ok()?.parse().ok())
        }
        Err(Error::KeyspaceNotFound { .. }) => Some(0),
        Err(error) => return Err(Failure::engine(dir, &error)),
    };
    let Some(transactions) = transactions.filter(|count| *count < MORE_THAN_ANY_DRILL) else {
        return Err(Failure::new(Exit::Failed, "the count of transactions came back changed"));
    };
    let position = Position::after(seed, transactions);
    let model = Model { lines, records: position.records };
    let mut found = Found { position, wrong: 0, first_wrong: None };
    let records = match db.existing_keyspace(RECORDS) {
        Ok(records) => records,
        Err(Error::KeyspaceNotFound { .. }) => {
            found.wrong = model.keys();
            return Ok(found);
        }
        Err(error) => return Err(Failure::engine(dir, &error)),
    };

    let by_key: HashMap<&[u8], u64> =
        (0..lines.count()).map(|line| (lines.key(line).as_bytes(), line)).collect();
    let mut scanned = 0;
    for entry in snapshot.iter(&records).in_dir(dir)? {
        let (key, value) = entry.in_dir(dir)?;
        scanned += 1;
        let expected = by_key.get(&*key).and_then(|line| model.value(*line));
        if expected.as_deref().map(str::as_bytes) != Some(&*value) {
            found.note(format!("a scan met {} with another value", text::escape(&key)));
        }
    }
    if scanned != model.keys() {
        found.note(format!("{scanned} keys were scanned, {} expected", model.keys()));
    }
    for line in 0..lines.count() {
        let key = lines.key(line);
        let expected = model.value(line);
        let stored = snapshot.get(&records, key).in_dir(dir)?;
        if stored.as_deref() != expected.as_deref().map(str::as_bytes) {
            found.note(format!(
                "key {key}: found {}, expected {}",
                stored.as_deref().map_or("nothing".into(), String::from_utf8_lossy),
                expected.as_deref().unwrap_or("nothing")
            ));
        }
    }
    Ok(found)
}

impl Found {
    fn note(&mut self, what: String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(what);
    }
}

/// A damaged count must not make the check run for ever.
const MORE_THAN_ANY_DRILL: u64 = 1 << 32;
