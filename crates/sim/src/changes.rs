//! The changes of a script, made in a database and in its model.

use crate::model::State;
use crate::script::{Change, value};
use highwater::{Database, Durability, Snapshot};

/// Makes the changes of a step in one transaction.
pub fn transact(
    db: &Database,
    changes: &[Change],
    seed: u64,
    number: usize,
    durability: Durability,
) -> highwater::Result<()> {
    let mut tx = db.write()?;
    for change in changes {
        let keyspace = db.existing_keyspace(keyspace_of(change))?;
        match change {
            Change::Put(_, key, bytes) => {
                tx.insert(&keyspace, key, value(seed, number, key, *bytes))?;
            }
            Change::Remove(_, key) => tx.remove(&keyspace, key)?,
            Change::RemoveRange(_, from, to) => {
                tx.remove_range(&keyspace, from.as_str()..to.as_str())?;
            }
            Change::Clear(_) => tx.clear(&keyspace)?,
            Change::Undone(_, key, bytes) => {
                let before = tx.savepoint();
                tx.insert(&keyspace, key, value(seed, !number, key, *bytes))?;
                tx.rollback_to(before)?;
            }
        }
    }
    tx.commit_with(durability).map(drop)
}

/// Makes one change in the model.
pub fn apply(state: &mut State, change: &Change, seed: u64, number: usize) {
    match change {
        Change::Put(name, key, bytes) => {
            state.insert(name, key.as_bytes(), value(seed, number, key, *bytes));
        }
        Change::Remove(name, key) => state.remove(name, key.as_bytes()),
        Change::RemoveRange(name, from, to) => {
            state.remove_range(name, from.as_bytes(), Some(to.as_bytes()));
        }
        Change::Clear(name) => state.remove_range(name, &[], None),
        Change::Undone(..) => {}
    }
}

/// The keyspace that a change is made in.
pub fn keyspace_of(change: &Change) -> &'static str {
    match change {
        Change::Put(name, ..)
        | Change::Remove(name, ..)
        | Change::RemoveRange(name, ..)
        | Change::Clear(name)
        | Change::Undone(name, ..) => name,
    }
}

/// A held snapshot must show its state as far as its keyspaces can still be named.
pub fn check_snapshot(db: &Database, snapshot: &Snapshot, state: &State) -> Result<(), String> {
    for (name, entries) in state.keyspaces() {
        let Ok(keyspace) = db.existing_keyspace(name) else { continue };
        let read = || -> highwater::Result<bool> {
            let mut expected = entries.iter();
            for entry in snapshot.iter(&keyspace)? {
                let (key, value) = entry?;
                if expected.next().is_none_or(|(k, v)| k[..] != key[..] || v[..] != value[..]) {
                    return Ok(false);
                }
            }
            Ok(expected.next().is_none())
        };
        match read() {
            Ok(true) => {}
            Ok(false) => return Err(format!("the held snapshot changed in keyspace {name}")),
            Err(error) => return Err(format!("the held snapshot cannot be read: {error}")),
        }
    }
    Ok(())
}
