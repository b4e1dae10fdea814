//! What every sorted layer of a view (write set, memtable, table, run) offers to the merged iterators:
//! a position that moves both ways over the entries of one keyspace.
//!
//! Invariants: keys are strictly ascending as bytes, each key once; a cursor is either on an entry or
//! not valid; after an error it is not valid.

use crate::error::Result;
use crate::slice::Slice;

/// A position in one layer's entries of one keyspace. New cursors are not valid until they were moved.
pub(crate) trait Cursor<'a> {
    /// To the first entry.
    fn first(&mut self) -> Result<()>;
    /// To the last entry.
    fn last(&mut self) -> Result<()>;
    /// To the first entry whose key is at or after `key`.
    fn seek(&mut self, key: &[u8]) -> Result<()>;
    /// To the last entry whose key is before `key`.
    fn seek_before(&mut self, key: &[u8]) -> Result<()>;
    /// To the next entry. Only on a valid cursor.
    fn next(&mut self) -> Result<()>;
    /// To the entry before. Only on a valid cursor.
    fn prev(&mut self) -> Result<()>;
    /// Whether the cursor is on an entry.
    fn is_valid(&self) -> bool;
    /// The key. Only on a valid cursor.
    fn key(&self) -> &[u8];
    /// The key with the layer's lifetime. Only on a valid cursor.
    fn key_slice(&self) -> Slice<'a>;
    /// Whether the entry is a tombstone. Only on a valid cursor.
    fn is_tombstone(&self) -> bool;
    /// The value; `None` for a tombstone. Only on a valid cursor. May read (large values lie apart).
    fn value(&self) -> Result<Option<Slice<'a>>>;
}

/// Hides the keys `start..end` (`end` of `None`: to the last key) in all layers below the one that holds
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTombstone {
    /// First hidden key.
    pub start: Vec<u8>,
    /// First key that is not hidden any more.
    pub end: Option<Vec<u8>>,
}

impl RangeTombstone {
    /// Whether `key` is hidden.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_deref().is_none_or(|end| key < end)
    }
}
