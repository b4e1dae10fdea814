//! What a database must hold: states after each commit, cheap to keep, quick to compare.
//!
//! A [`State`] maps keyspaces to keys to values and shares with its predecessor all that is equal. Its
//! hash is a sum over entries, so that a change costs what it changes and a database can be hashed in
//! one scan, in any order. Names count too: an empty keyspace is not the same as none.

use highwater::{Database, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Keys and values of one keyspace.
pub type Entries = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// All that a database holds at one point in commit order.
#[derive(Clone, Debug, Default)]
pub struct State {
    keyspaces: BTreeMap<String, Arc<Entries>>,
    hash: u64,
}

impl State {
    /// Equal for equal states.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The keyspaces by name.
    pub fn keyspaces(&self) -> &BTreeMap<String, Arc<Entries>> {
        &self.keyspaces
    }

    /// Adds an empty keyspace.
    pub fn create(&mut self, name: &str) {
        if self.keyspaces.insert(name.to_owned(), Arc::default()).is_none() {
            self.hash = self.hash.wrapping_add(name_hash(name));
        }
    }

    /// Takes a keyspace away.
    pub fn drop_keyspace(&mut self, name: &str) {
        self.remove_range(name, &[], None);
        if self.keyspaces.remove(name).is_some() {
            self.hash = self.hash.wrapping_sub(name_hash(name));
        }
    }

    /// Sets a value.
    pub fn insert(&mut self, name: &str, key: &[u8], value: Arc<[u8]>) {
        let Some(entries) = self.keyspaces.get_mut(name) else { return };
        let added = entry_hash(name, key, &value);
        let old = Arc::make_mut(entries).insert(key.to_vec(), value);
        let gone = old.map_or(0, |old| entry_hash(name, key, &old));
        self.hash = self.hash.wrapping_add(added).wrapping_sub(gone);
    }

    /// Removes a key.
    pub fn remove(&mut self, name: &str, key: &[u8]) {
        let Some(entries) = self.keyspaces.get_mut(name) else { return };
        if let Some(old) = Arc::make_mut(entries).remove(key) {
            self.hash = self.hash.wrapping_sub(entry_hash(name, key, &old));
        }
    }

    /// Removes keys from `start` on, up to and without `end`.
    pub fn remove_range(&mut self, name: &str, start: &[u8], end: Option<&[u8]>) {
        let Some(entries) = self.keyspaces.get(name) else { return };
        let inside = |key: &&Vec<u8>| end.is_none_or(|end| key.as_slice() < end);
        let keys: Vec<Vec<u8>> = entries
            .range(start.to_vec()..)
            .map(|(key, _)| key)
            .take_while(inside)
            .cloned()
            .collect();
        keys.iter().for_each(|key| self.remove(name, key));
    }

    /// Removes the first or the last entry.
    pub fn pop(&mut self, name: &str, back: bool) {
        let Some(entries) = self.keyspaces.get(name) else { return };
        let found = if back { entries.last_key_value() } else { entries.first_key_value() };
        if let Some(key) = found.map(|(key, _)| key.clone()) {
            self.remove(name, &key);
        }
    }

    /// Removes the entries from `start` to before `end` whose value is `wanted`.
    pub fn remove_if(
        &mut self,
        name: &str,
        start: &[u8],
        end: &[u8],
        wanted: impl Fn(&[u8]) -> bool,
    ) {
        let Some(entries) = self.keyspaces.get(name) else { return };
        let inside = entries.range(start.to_vec()..).take_while(|(key, _)| key.as_slice() < end);
        let keys: Vec<Vec<u8>> =
            inside.filter(|(_, value)| wanted(value)).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.remove(name, key));
    }

    /// The value of a key.
    pub fn get(&self, name: &str, key: &[u8]) -> Option<&Arc<[u8]>> {
        self.keyspaces.get(name)?.get(key)
    }

    /// The first differences from `other`, in words: `-` is only here, `+` only there.
    pub fn difference(&self, other: &State) -> String {
        let mut text = String::new();
        let mut count = 0;
        let empty = Arc::default();
        let names: std::collections::BTreeSet<&String> =
            self.keyspaces.keys().chain(other.keyspaces.keys()).collect();
        for name in names {
            match (self.keyspaces.contains_key(name), other.keyspaces.contains_key(name)) {
                (true, false) => _ = writeln!(text, "- keyspace {name}"),
                (false, true) => _ = writeln!(text, "+ keyspace {name}"),
                _ => {}
            }
            let here = self.keyspaces.get(name).unwrap_or(&empty);
            let there = other.keyspaces.get(name).unwrap_or(&empty);
            let keys: std::collections::BTreeSet<&Vec<u8>> =
                here.keys().chain(there.keys()).collect();
            for key in keys {
                let (one, two) = (here.get(key), there.get(key));
                if one == two {
                    continue;
                }
                count += 1;
                if count <= 8 {
                    let short = |value: Option<&Arc<[u8]>>| {
                        value.map_or("nothing".to_owned(), |v| {
                            format!("{} bytes {:016x}", v.len(), xxh3_64_with_seed(v, 0))
                        })
                    };
                    let key = String::from_utf8_lossy(key);
                    _ = writeln!(text, "  {name}/{key}: {} | {}", short(one), short(two));
                }
            }
        }
        _ = writeln!(text, "{count} keys differ");
        text
    }
}

/// Everything that a database shows now.
pub fn read_state(db: &Database) -> Result<State> {
    let snapshot = db.snapshot();
    let mut state = State::default();
    for name in snapshot.keyspaces() {
        let keyspace = db.existing_keyspace(&name)?;
        let mut entries = Entries::new();
        let mut hash = name_hash(&name);
        for entry in snapshot.iter(&keyspace)? {
            let (key, value) = entry?;
            hash = hash.wrapping_add(entry_hash(&name, &key, &value));
            entries.insert(key.to_vec(), Arc::from(&value[..]));
        }
        state.hash = state.hash.wrapping_add(hash);
        state.keyspaces.insert(name, Arc::new(entries));
    }
    Ok(state)
}

/// [`State::hash`] of everything that a database shows now, and how many keys that is.
pub fn hash_of(db: &Database) -> Result<(u64, u64)> {
    let snapshot = db.snapshot();
    let (mut hash, mut count) = (0_u64, 0_u64);
    for name in snapshot.keyspaces() {
        let keyspace = db.existing_keyspace(&name)?;
        hash = hash.wrapping_add(name_hash(&name));
        for entry in snapshot.iter(&keyspace)? {
            let (key, value) = entry?;
            hash = hash.wrapping_add(entry_hash(&name, &key, &value));
            count += 1;
        }
    }
    Ok((hash, count))
}

fn name_hash(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), 1)
}

fn entry_hash(name: &str, key: &[u8], value: &[u8]) -> u64 {
    let name = xxh3_64_with_seed(name.as_bytes(), 2);
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, name))
}
