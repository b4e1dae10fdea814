//! The keyspaces that a transaction changes.
//!
//! Most change one, which is kept without taking memory for it.

use crate::types::KeyspaceId;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub struct Changed {
    /// The last one that was added.
    last: Option<KeyspaceId>,
    /// The others, and it too once there are others.
    all: BTreeSet<KeyspaceId>,
}

impl Changed {
    /// Adds one.
    #[inline]
    pub fn add(&mut self, keyspace: KeyspaceId) {
        if self.last != Some(keyspace) {
            self.add_another(keyspace);
        }
    }

    fn add_another(&mut self, keyspace: KeyspaceId) {
        if let Some(last) = self.last.replace(keyspace) {
            self.all.extend([last, keyspace]);
        }
    }

    /// Each of them once.
    pub fn iter(&self) -> impl Iterator<Item = KeyspaceId> {
        let only = self.last.filter(|_| self.all.is_empty());
        only.into_iter().chain(self.all.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once() {
        let mut changed = Changed::default();
        let all = |changed: &Changed| changed.iter().map(KeyspaceId::get).collect::<Vec<_>>();
        assert_eq!(all(&changed), []);
        for (id, expected) in
            [(7, &[7][..]), (7, &[7]), (3, &[3, 7]), (7, &[3, 7]), (9, &[3, 7, 9]), (3, &[3, 7, 9])]
        {
            changed.add(KeyspaceId(id));
            assert_eq!(all(&changed), expected);
        }
    }
}
