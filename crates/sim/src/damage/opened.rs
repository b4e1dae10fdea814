//! What an open of damaged files may show, and the reads after it: see [`damage`](super).

use super::{Finding, Subject};
use crate::check::{Failure, check_image};
use crate::model::{State, hash_of};
use crate::run::{PATH, Window, options};
use highwater::fs::sim::SimDisk;
use highwater::{Database, Error};
use std::path::Path;

/// Opens the files and reads everything.
pub(super) fn judge(
    subject: &Subject,
    disk: &SimDisk,
    number: usize,
    older_log: bool,
) -> Result<Finding, Failure> {
    let before = contents(disk);
    let last = subject.states.len() - 1;
    let db = match options(&subject.workload, disk).open(PATH) {
        Ok(db) => db,
        Err(error) => {
            if contents(disk) != before {
                return Err(Failure::violation(format!("a refused open changed files: {error}")));
            }
            let named = matches!(
                &error,
                Error::Damage { .. } | Error::Unsupported { .. } | Error::NotADatabase { .. }
            );
            if !named {
                return Err(Failure::violation(format!("the error names no damage: {error}")));
            }
            return Ok(Finding::Refused);
        }
    };
    let hash = match hash_of(&db) {
        Ok((hash, _)) => hash,
        Err(Error::Damage { .. } | Error::Unsupported { .. }) => {
            return reads_stay_right(&db, &subject.states[last]).map(|()| Finding::Read);
        }
        Err(error) => return Err(Failure::violation(format!("reading: {error}"))),
    };
    if let Some(at) = (subject.vouched..last).find(|at| subject.states[*at].hash() == hash) {
        if !db.recovery().unwitnessed_tail {
            return Err(Failure::violation(format!("commits after {at} are gone without a word")));
        }
        return Ok(Finding::Cut);
    }
    if older_log && subject.states[subject.checkpointed..].iter().any(|s| s.hash() == hash) {
        return Ok(Finding::RolledBack);
    }
    if hash != subject.states[last].hash() {
        let found = crate::model::read_state(&db).unwrap_or_default();
        let difference = subject.states[last].difference(&found);
        let recovery = db.recovery();
        return Err(Failure::violation(format!("another state:\n{difference}{recovery:?}")));
    }
    match lookups(&db, &subject.states[last]) {
        Ok(None) => {}
        Ok(Some(what)) => return Err(Failure::violation(what)),
        Err(Error::Damage { .. }) => return Ok(Finding::Read),
        Err(error) => return Err(Failure::violation(format!("a lookup: {error}"))),
    }
    if number.is_multiple_of(8) {
        // What a merge reads it gives a new checksum: damage must not slip through.
        match db.compact() {
            Ok(()) => reads_stay_right(&db, &subject.states[last])?,
            Err(Error::Damage { .. }) => {}
            Err(error) => return Err(Failure::violation(format!("compact: {error}"))),
        }
    }
    if number.is_multiple_of(16) {
        let window = Window { least: last, most: last };
        let image = disk.kill();
        drop(db);
        check_image(&image, &subject.workload, &subject.states, window, number as u64)?;
    }
    Ok(Finding::Unread)
}

/// Reads again and again after an error: every read is right or an error, and an iterator ends with its
/// error. A merge must not turn damage into something that reads well.
fn reads_stay_right(db: &Database, state: &State) -> Result<(), Failure> {
    for round in 0..3 {
        let snapshot = db.snapshot();
        for (name, entries) in state.keyspaces() {
            let keyspace = match db.existing_keyspace(name) {
                Ok(keyspace) => keyspace,
                Err(error) => return Err(Failure::violation(format!("after damage: {error}"))),
            };
            let wrong = |what: &str| {
                Err(Failure::violation(format!("after an error, round {round}: {what} in {name}")))
            };
            let mut expected = entries.iter();
            let Ok(mut found) = snapshot.iter(&keyspace) else { continue };
            while let Some(entry) = found.next() {
                match (entry, expected.next()) {
                    (Ok((k, v)), Some((key, value))) if k[..] == key[..] && v[..] == value[..] => {}
                    (Ok(_), _) => return wrong("an iterator shows another entry"),
                    (Err(_), _) if found.next().is_some() => {
                        return wrong("an iterator goes on behind its error");
                    }
                    (Err(_), _) => break,
                }
            }
            for (key, value) in entries.iter() {
                match snapshot.get(&keyspace, key) {
                    Ok(Some(found)) if found[..] == value[..] => {}
                    Ok(_) => return wrong("a lookup shows another value"),
                    Err(_) => {}
                }
            }
        }
        if round == 1 {
            let _ = db.compact();
        }
    }
    Ok(())
}

/// Looks every key up, and a few that are not there: filters and indexes lie on that way only.
fn lookups(db: &Database, state: &State) -> highwater::Result<Option<String>> {
    let snapshot = db.snapshot();
    for (name, entries) in state.keyspaces() {
        let keyspace = db.existing_keyspace(name)?;
        if snapshot.len(&keyspace)? != entries.len() as u64 {
            return Ok(Some(format!("len() of {name} is wrong")));
        }
        for (key, value) in entries.iter() {
            let found = snapshot.get(&keyspace, key)?;
            if found.as_ref().is_none_or(|found| found[..] != value[..]) {
                return Ok(Some(format!("a lookup of {name}/{} is wrong", key.escape_ascii())));
            }
            let absent = [key.as_slice(), b"?"].concat();
            if snapshot.get(&keyspace, absent)?.is_some() {
                return Ok(Some("a lookup finds a key that was never there".to_owned()));
            }
        }
    }
    Ok(None)
}

/// A hash of all names and bytes of the database but those of the lock, which every open for writing may
/// make anew.
fn contents(disk: &SimDisk) -> u64 {
    let disk = disk.fork();
    let _ = disk.remove_file(Path::new(PATH).join("LOCK"));
    disk.content_hash_of(PATH).unwrap_or(0)
}
