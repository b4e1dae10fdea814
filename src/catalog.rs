//! The keyspaces of an open database: names, ids, and when each was made and dropped.
//!
//! Invariants: ids are never used twice; a live name belongs to one keyspace; dropped keyspaces stay
//! known until the database is closed, because snapshots may go on reading them.

use crate::error::{Error, Result};
use crate::manifest::KeyspaceEntry;
use crate::mistakes::{Mistake, planted};
use crate::sync::engine::{AtomicU64, Ordering};
use crate::types::{KeyspaceId, MAX_KEYSPACE_NAME_BYTES, Seqno};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One keyspace.
#[derive(Debug)]
pub struct KeyspaceInfo {
    pub id: KeyspaceId,
    pub name: String,
    pub created: Seqno,
    /// `u64::MAX` while it lives.
    dropped: AtomicU64,
}

impl KeyspaceInfo {
    /// The commit that dropped it.
    #[inline]
    pub fn dropped(&self) -> Option<Seqno> {
        match self.dropped.load(Ordering::Acquire) {
            u64::MAX => None,
            seqno => Some(Seqno(seqno)),
        }
    }

    /// Whether a reader at `at` may read it.
    #[inline]
    pub fn check_readable(&self, at: Seqno) -> Result<()> {
        match self.dropped() {
            Some(dropped) if dropped <= at => {
                Err(Error::KeyspaceDropped { name: self.name.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// All keyspaces.
#[derive(Debug, Default)]
pub struct Catalog {
    by_name: HashMap<String, Arc<KeyspaceInfo>>,
    by_id: BTreeMap<KeyspaceId, Arc<KeyspaceInfo>>,
    pub next_id: KeyspaceId,
}

impl Catalog {
    /// The catalog that a manifest describes.
    pub fn new(entries: &[KeyspaceEntry], next_id: KeyspaceId) -> Catalog {
        let again = planted(Mistake::KeyspaceIdsUsedAgain);
        let next_id = if again { KeyspaceId(1) } else { next_id };
        let mut catalog = Catalog { next_id, ..Catalog::default() };
        for entry in entries {
            catalog.add(entry.id, &entry.name, entry.created);
        }
        catalog
    }

    /// A live keyspace by name.
    pub fn find(&self, name: &str) -> Option<Arc<KeyspaceInfo>> {
        self.by_name.get(name).cloned()
    }

    /// A keyspace by number, dropped or not.
    pub fn get(&self, id: KeyspaceId) -> Option<Arc<KeyspaceInfo>> {
        self.by_id.get(&id).cloned()
    }

    /// Adds a keyspace (made by a commit, or found in the log).
    pub fn add(&mut self, id: KeyspaceId, name: &str, created: Seqno) -> Arc<KeyspaceInfo> {
        let dropped = AtomicU64::new(u64::MAX);
        let info = Arc::new(KeyspaceInfo { id, name: name.to_owned(), created, dropped });
        self.by_name.insert(name.to_owned(), info.clone());
        self.by_id.insert(id, info.clone());
        self.next_id = self.next_id.max(KeyspaceId(id.get().saturating_add(1)));
        info
    }

    /// Marks a keyspace as dropped.
    pub fn drop_keyspace(&mut self, id: KeyspaceId, seqno: Seqno) {
        if let Some(info) = self.by_id.get(&id) {
            info.dropped.store(seqno.get(), Ordering::Release);
            if self.by_name.get(&info.name).is_some_and(|live| live.id == id) {
                self.by_name.remove(&info.name);
            }
        }
    }

    /// Keyspaces that live at `at`, by id.
    pub fn live_at(&self, at: Seqno) -> Vec<Arc<KeyspaceInfo>> {
        self.by_id
            .values()
            .filter(|info| info.created <= at && info.dropped().is_none_or(|dropped| dropped > at))
            .cloned()
            .collect()
    }

    /// Whether a table needs to keep the keyspace's entries, in a checkpoint of all up to `at`.
    pub fn is_live(&self, id: KeyspaceId, at: Seqno) -> bool {
        self.by_id.get(&id).is_some_and(|info| info.dropped().is_none_or(|dropped| dropped > at))
    }

    /// What a manifest lists at a checkpoint of all commits up to `at`.
    pub fn entries_at(&self, at: Seqno) -> Vec<KeyspaceEntry> {
        self.live_at(at)
            .into_iter()
            .map(|info| KeyspaceEntry {
                id: info.id,
                name: info.name.clone(),
                created: info.created,
            })
            .collect()
    }
}

/// Checks a keyspace name.
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::InvalidArgument(
            "a keyspace name is empty; give it at least one character".to_owned(),
        ));
    }
    if name.len() > MAX_KEYSPACE_NAME_BYTES {
        return Err(Error::Limit {
            what: "the length of the keyspace name in bytes",
            found: name.len() as u64,
            limit: MAX_KEYSPACE_NAME_BYTES as u64,
            hint: "use a shorter name",
        });
    }
    Ok(())
}
