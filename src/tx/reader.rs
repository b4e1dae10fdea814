//! Readers: one point in commit order, for a short while.

use super::reads::{Source, bounds_of, read_methods};
use crate::db::Database;
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::slice::Slice;
use crate::types::Seqno;
use crate::view::{Range, View, prefix_bounds};
use arc_swap::Guard;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// The database at one point in commit order, across all keyspaces, borrowed from its handle: what a
/// [`Snapshot`](crate::Snapshot) is, for reads that are soon over.
///
/// Making one changes no counter that threads share, so that many threads may make one for every read; a
/// snapshot costs each of them a few such changes, and can be kept, cloned and sent elsewhere. A thread that holds
/// more than eight readers at a time pays for the others what snapshots cost. While it is held, it keeps
/// memory and files as a snapshot does.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::Database;
/// let db = Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// let reader = db.reader();
/// assert_eq!(reader.get(&users, "ada")?.unwrap(), "1815");
/// assert_eq!(reader.len(&users)?, 1);
/// # Ok(())
/// # }
/// ```
pub struct Reader<'db> {
    db: &'db Database,
    view: Guard<Arc<View>>,
    at: Seqno,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'db> Reader<'db> {
    #[inline]
    pub(crate) fn new(db: &'db Database) -> Reader<'db> {
        let (view, at) = db.engine.borrowed_point();
        Reader { db, view, at }
    }

    /// The last commit that it sees.
    pub fn seqno(&self) -> Seqno {
        self.at
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
