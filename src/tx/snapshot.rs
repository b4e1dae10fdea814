//! Snapshots: one point in commit order, for as long as it is held.

use super::reads::{Source, bounds_of, read_methods};
use crate::catalog::KeyspaceInfo;
use crate::db::Database;
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::slice::Slice;
use crate::types::{KeyspaceId, Seqno};
use crate::view::{Range, View, prefix_bounds};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// The database at one point in commit order, across all keyspaces. Owned, `Send`, `Sync`, cheap to
/// clone.
///
/// Reads take no lock and never wait for writers. While it is held, the memtables that it sees stay in
/// memory and the files that it sees stay on the disk.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::Database;
/// let db = Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// let snapshot = db.snapshot();
/// users.insert("ada", "changed")?;
/// assert_eq!(snapshot.get(&users, "ada")?.unwrap(), "1815");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    db: Database,
    view: Arc<View>,
    at: Seqno,
}

impl Snapshot {
    pub(crate) fn new(db: Database, view: Arc<View>, at: Seqno) -> Snapshot {
        Snapshot { db, view, at }
    }

    /// The last commit that it sees.
    pub fn seqno(&self) -> Seqno {
        self.at
    }

    /// Names of the keyspaces that exist at this point, sorted.
    pub fn keyspaces(&self) -> Vec<String> {
        self.live_keyspaces().iter().map(|info| info.name.clone()).collect()
    }

    /// The keyspaces that exist at this point, by name.
    pub(crate) fn live_keyspaces(&self) -> Vec<Arc<KeyspaceInfo>> {
        let mut live = self.db.engine.catalog.read().live_at(self.at);
        live.sort_by(|one, two| one.name.cmp(&two.name));
        live
    }

    /// An error if it was taken of a closed database.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.view.check_open()
    }

    /// All entries of a keyspace, by its number.
    pub(crate) fn entries(&self, keyspace: KeyspaceId) -> Range<'_> {
        let source = Source { own: &[], view: &self.view, at: self.at };
        source.range(keyspace, Bound::Unbounded, Bound::Unbounded)
    }

    #[inline]
    fn source(&self, keyspace: &Keyspace) -> Result<Source<'_>> {
        self.view.check_open()?;
        keyspace.check(&self.db.engine, self.at)?;
        Ok(Source { own: &[], view: &self.view, at: self.at })
    }

    #[inline]
    fn note_point(&self, _keyspace: &Keyspace, _key: &[u8]) {}

    #[inline]
    fn note_range(&self, _keyspace: &Keyspace, _lower: Bound<&[u8]>, _upper: Bound<&[u8]>) {}

    read_methods!();
}
