//! The changes of a script, made in a database and in its model.

use crate::model::State;
use crate::script::{Change, is_odd, value};
use highwater::{Database, Durability, KeyspaceId, Snapshot, Ticket};
use std::collections::BTreeMap;

/// Makes changes in a transaction; both kinds have the same calls.
macro_rules! make {
    ($tx:ident, $db:ident, $changes:ident, $seed:ident, $number:ident) => {
        for change in $changes {
            let keyspace = $db.existing_keyspace(keyspace_of(change))?;
            match change {
                Change::Put(_, key, bytes) => {
                    $tx.insert(&keyspace, key, value($seed, $number, key, *bytes))?;
                }
                Change::Remove(_, key) => $tx.remove(&keyspace, key)?,
                Change::RemoveRange(_, from, to) => {
                    $tx.remove_range(&keyspace, from.as_str()..to.as_str())?;
                }
                Change::Clear(_) => $tx.clear(&keyspace)?,
                Change::Undone(_, key, bytes) => {
                    let before = $tx.savepoint();
                    $tx.insert(&keyspace, key, value($seed, !$number, key, *bytes))?;
                    let _inner = $tx.savepoint();
                    $tx.remove(&keyspace, key)?;
                    $tx.rollback_to(before)?;
                }
                Change::PopFirst(_) => _ = $tx.pop_first(&keyspace)?,
                Change::PopLast(_) => _ = $tx.pop_last(&keyspace)?,
                Change::Retain(_, from, to) => {
                    $tx.retain(&keyspace, from.as_str()..to.as_str(), |_, value| is_odd(value))?;
                }
                Change::ExtractIf(_, from, to) => {
                    let range = from.as_str()..to.as_str();
                    let taken = $tx.extract_if(&keyspace, range, |_, value| is_odd(value))?;
                    taken.into_iter().try_for_each(|entry| entry.map(drop))?;
                }
            }
        }
    };
}

/// Makes the changes of a step in one transaction; a single insertion every other time without one, which goes another way.
pub fn transact(
    db: &Database,
    changes: &[Change],
    seed: u64,
    number: usize,
    durability: Durability,
) -> highwater::Result<()> {
    if let [Change::Put(name, key, bytes)] = changes
        && number.is_multiple_of(2)
    {
        let keyspace = db.existing_keyspace(name)?;
        let value = value(seed, number, key, *bytes);
        return keyspace.insert_with(key, value, durability).map(drop);
    }
    let mut tx = db.write()?;
    make!(tx, db, changes, seed, number);
    tx.commit_with(durability).map(drop)
}

/// Makes them in one optimistic transaction.
pub fn transact_optimistic(
    db: &Database,
    changes: &[Change],
    seed: u64,
    number: usize,
    durability: Durability,
) -> highwater::Result<()> {
    let mut tx = db.optimistic()?;
    make!(tx, db, changes, seed, number);
    tx.commit_with(durability).map(drop)
}

/// Makes them in one transaction that does not wait.
pub fn ticket(
    db: &Database,
    changes: &[Change],
    seed: u64,
    number: usize,
) -> highwater::Result<Ticket> {
    let mut tx = db.write()?;
    make!(tx, db, changes, seed, number);
    tx.commit_ticket()
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
        Change::PopFirst(name) => state.pop(name, false),
        Change::PopLast(name) => state.pop(name, true),
        Change::Retain(name, from, to) => {
            state.remove_if(name, from.as_bytes(), to.as_bytes(), |value| !is_odd(value));
        }
        Change::ExtractIf(name, from, to) => {
            state.remove_if(name, from.as_bytes(), to.as_bytes(), is_odd);
        }
    }
}

/// The keyspace that a change is made in.
pub fn keyspace_of(change: &Change) -> &'static str {
    match change {
        Change::Put(name, ..)
        | Change::Remove(name, ..)
        | Change::RemoveRange(name, ..)
        | Change::Clear(name)
        | Change::Undone(name, ..)
        | Change::PopFirst(name)
        | Change::PopLast(name)
        | Change::Retain(name, ..)
        | Change::ExtractIf(name, ..) => name,
    }
}

/// What a held snapshot shows, and which keyspaces the names stood for when it was taken.
pub type Held = (State, BTreeMap<String, KeyspaceId>);

/// The keyspaces of a state that is current.
pub fn held_keyspaces(db: &Database, state: State) -> Held {
    let id = |name: &String| db.existing_keyspace(name).ok().map(|k| (name.clone(), k.id()));
    let ids = state.keyspaces().keys().filter_map(id).collect();
    (state, ids)
}

/// A held snapshot must show its state as far as its keyspaces can still be named. (One that was dropped
/// and made again is another.)
pub fn check_snapshot(db: &Database, snapshot: &Snapshot, held: &Held) -> Result<(), String> {
    let (state, ids) = held;
    for (name, entries) in state.keyspaces() {
        let Ok(keyspace) = db.existing_keyspace(name) else { continue };
        if ids.get(name) != Some(&keyspace.id()) {
            continue;
        }
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
