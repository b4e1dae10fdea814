//! The one history that all trials write: transaction number *n* is a function of the seed and *n*, so that
//! whoever knows how many transactions a database holds knows every byte that it must hold.
//!
//! Invariants: each transaction changes both keyspaces and writes its number into both, so that half a
//! transaction shows; numbers are taken under the database's own gate, so that they are commit order.

use crate::random::Random;
use highwater::{Database, Durability, Error, Keyspace, Result, WriteTx};
use std::collections::BTreeMap;

/// The key under which both keyspaces hold the number of the last transaction.
const NUMBER: &[u8] = b"number";
/// Different keys, so that they are overwritten and removed again and again.
const KEYS: u64 = 150;

/// One change of a transaction, in one of the two keyspaces.
enum Change {
    Put(usize, Vec<u8>, Vec<u8>),
    Remove(usize, Vec<u8>),
    RemoveRange(usize, Vec<u8>, Vec<u8>),
}

/// What a database of this history holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Number of transactions.
    pub number: u64,
    spaces: [BTreeMap<Vec<u8>, Vec<u8>>; 2],
}

/// The two keyspaces.
#[derive(Clone, Debug)]
pub struct Spaces(pub [Keyspace; 2]);

impl Spaces {
    /// Opens them, creating them where need be.
    pub fn create(db: &Database) -> Result<Spaces> {
        Ok(Spaces([db.keyspace("left")?, db.keyspace("right")?]))
    }

    /// Opens them; `None` if they are not there yet.
    fn existing(db: &Database) -> Result<Option<Spaces>> {
        let open = |name| match db.existing_keyspace(name) {
            Ok(keyspace) => Ok(Some(keyspace)),
            Err(Error::KeyspaceNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        Ok(match (open("left")?, open("right")?) {
            (Some(left), Some(right)) => Some(Spaces([left, right])),
            _ => None,
        })
    }
}

/// How durable transaction `number` asks to be. Either kind survives the death of the process.
pub fn durability(number: u64) -> Durability {
    if number % 5 == 3 { Durability::Buffered } else { Durability::Sync }
}

/// Puts the changes of transaction `number` into `tx`.
pub fn write(tx: &mut WriteTx, spaces: &Spaces, seed: u64, number: u64) -> Result<()> {
    for change in changes(seed, number) {
        match change {
            Change::Put(space, key, value) => tx.insert(&spaces.0[space], key, value)?,
            Change::Remove(space, key) => tx.remove(&spaces.0[space], key)?,
            Change::RemoveRange(space, start, end) => {
                tx.remove_range(&spaces.0[space], start..end)?;
            }
        }
    }
    Ok(())
}

/// The number of the last transaction that the database holds, as both keyspaces say.
pub fn number_in(db: &Database) -> std::result::Result<u64, String> {
    let snapshot = db.snapshot();
    let Some(spaces) = Spaces::existing(db).map_err(|e| e.to_string())? else { return Ok(0) };
    let number = |space: &Keyspace| -> std::result::Result<u64, String> {
        let bytes = snapshot.get(space, NUMBER).map_err(|e| e.to_string())?;
        let Some(bytes) = bytes else { return Ok(0) };
        let bytes = bytes[..].try_into().map_err(|_| "a number that is none".to_owned())?;
        Ok(u64::from_be_bytes(bytes))
    };
    let (left, right) = (number(&spaces.0[0])?, number(&spaces.0[1])?);
    if left == right { Ok(left) } else { Err(format!("half a transaction: {left} and {right}")) }
}

impl State {
    /// Goes on to transaction `number`.
    pub fn advance_to(&mut self, seed: u64, number: u64) {
        while self.number < number {
            self.number += 1;
            for change in changes(seed, self.number) {
                match change {
                    Change::Put(space, key, value) => {
                        self.spaces[space].insert(key, value);
                    }
                    Change::Remove(space, key) => {
                        self.spaces[space].remove(&key);
                    }
                    Change::RemoveRange(space, start, end) => {
                        self.spaces[space].retain(|key, _| *key < start || *key >= end);
                    }
                }
            }
        }
    }

    /// Compares each entry of the database. The database holds this many transactions.
    pub fn check(&self, db: &Database) -> std::result::Result<(), String> {
        let snapshot = db.snapshot();
        let Some(spaces) = Spaces::existing(db).map_err(|e| e.to_string())? else {
            return if self.number == 0 { Ok(()) } else { Err("no keyspaces".to_owned()) };
        };
        for (space, expected) in spaces.0.iter().zip(&self.spaces) {
            let mut expected = expected.iter();
            for entry in snapshot.iter(space).map_err(|e| e.to_string())? {
                let (key, value) = entry.map_err(|e| e.to_string())?;
                let wanted = expected.next();
                if wanted.is_none_or(|(k, v)| **k != key[..] || **v != value[..]) {
                    return Err(format!(
                        "after transaction {}, {:?} holds a wrong entry at {:?}; expected {:?}",
                        self.number,
                        space.name(),
                        String::from_utf8_lossy(&key),
                        wanted.map(|(key, _)| String::from_utf8_lossy(key)),
                    ));
                }
            }
            if let Some((key, _)) = expected.next() {
                let (number, key) = (self.number, String::from_utf8_lossy(key));
                return Err(format!("after transaction {number}, {key:?} is missing"));
            }
        }
        Ok(())
    }
}

fn changes(seed: u64, number: u64) -> Vec<Change> {
    let mut random = Random::new(seed, number);
    let mut changes = Vec::new();
    for space in 0..2 {
        for _ in 0..=random.below(4) {
            let key = key(random.below(KEYS));
            changes.push(match random.below(10) {
                0 | 1 => Change::Remove(space, key),
                _ => Change::Put(space, key, value(&mut random)),
            });
        }
        if random.one_in(25) {
            let start = random.below(KEYS);
            let end = key(start + random.below(20));
            changes.push(Change::RemoveRange(space, key(start), end));
        }
        changes.push(Change::Put(space, NUMBER.to_vec(), number.to_be_bytes().to_vec()));
    }
    if random.one_in(70) {
        // Larger than a transaction's share of a small budget: it spills.
        changes.insert(0, Change::Put(0, key(KEYS), vec![number as u8; 400_000]));
    }
    changes
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{number:04}").into_bytes()
}

/// Mostly small; some longer than a block, a few longer than most groups.
fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0 => 20_000,
        1..=3 => 5_000,
        _ => random.below(200) as usize,
    };
    vec![random.next() as u8; length]
}
