//! How far pops have emptied the edges of keyspaces.
//!
//! A queue pops one entry in each transaction. The tombstones stay in front of what lives until a merge
//! reaches them, so that looking for the first entry would take longer with each pop. The engine remembers
//! the last key that was popped at each side; the next write transaction looks behind it.
//!
//! Invariant: as of the writer's last commit nothing lives at or before a front bound, nor at or after a
//! back bound. Kept under the writer's gate.

use crate::types::KeyspaceId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keyspaces that are remembered; with more, all are forgotten.
const KEYSPACES_MAX: usize = 64;

/// The bounds of keyspaces. Cheap to clone, and empty for most databases.
#[derive(Clone, Debug, Default)]
pub struct Popped(Option<Arc<BTreeMap<KeyspaceId, Bounds>>>);

/// The bounds of one keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Nothing lives at or before it.
    pub front: Option<Vec<u8>>,
    /// Nothing lives at or after it.
    pub back: Option<Vec<u8>>,
}

impl Bounds {
    /// Whether nothing can live at the key.
    fn exclude(&self, key: &[u8]) -> bool {
        self.front.as_deref().is_some_and(|front| key <= front)
            || self.back.as_deref().is_some_and(|back| key >= back)
    }
}

impl Popped {
    /// What is known of a keyspace.
    #[inline]
    pub fn get(&self, keyspace: KeyspaceId) -> Option<&Bounds> {
        self.0.as_ref()?.get(&keyspace)
    }

    /// A commit changes a keyspace, after which these are its bounds.
    pub fn set(&mut self, keyspace: KeyspaceId, bounds: Option<Bounds>) {
        if self.get(keyspace) == bounds.as_ref() {
            return;
        }
        let all = Arc::make_mut(self.0.get_or_insert_default());
        match bounds {
            Some(_) if all.len() >= KEYSPACES_MAX && !all.contains_key(&keyspace) => all.clear(),
            Some(bounds) => drop(all.insert(keyspace, bounds)),
            None => drop(all.remove(&keyspace)),
        }
        if all.is_empty() {
            self.0 = None;
        }
    }

    /// A commit inserts a key.
    #[inline]
    pub fn inserted(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        if self.get(keyspace).is_some_and(|bounds| bounds.exclude(key)) {
            self.set(keyspace, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insertion_past_a_bound_forgets_it() {
        let bounds = Bounds { front: Some(b"c".to_vec()), back: Some(b"x".to_vec()) };
        let (one, two) = (KeyspaceId(1), KeyspaceId(2));
        for (key, stays) in [("a", false), ("c", false), ("d", true), ("x", false), ("y", false)] {
            let mut popped = Popped::default();
            popped.set(one, Some(bounds.clone()));
            let before = popped.clone();
            popped.inserted(two, key.as_bytes());
            assert_eq!(popped.get(one), Some(&bounds));
            popped.inserted(one, key.as_bytes());
            assert_eq!(popped.get(one).is_some(), stays, "{key}");
            assert_eq!(before.get(one), Some(&bounds), "a transaction keeps what it began with");
        }
    }

    #[test]
    fn there_is_a_limit() {
        let mut popped = Popped::default();
        for id in 0..10 * KEYSPACES_MAX as u32 {
            popped.set(KeyspaceId(id), Some(Bounds::default()));
            assert!(popped.0.as_ref().map_or(0, |all| all.len()) <= KEYSPACES_MAX);
        }
    }
}
