//! A position in one keyspace of a memtable, as of one seqno.
//!
//! It sees each key by its newest version at or before its seqno, and passes over keys that have none.
//! Versions that are inserted while it lives are seen if their seqno allows it and their leaf was not yet
//! reached; versions that were there when it was made are never missed.

use super::record::Record;
use super::tree::Tree;
use super::walk::Walk;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::slice::Slice;
use crate::types::Seqno;

/// See the module. Never fails.
pub struct MemtableCursor<'a> {
    tree: Option<&'a Tree>,
    at: Seqno,
    walk: Option<Walk<'a>>,
    /// The version that is seen, of the key on which `walk` is; `None` if the cursor is not valid.
    record: Option<Record<'a>>,
}

impl<'a> MemtableCursor<'a> {
    /// A cursor that is not valid yet.
    pub fn new(tree: Option<&'a Tree>, at: Seqno) -> MemtableCursor<'a> {
        MemtableCursor { tree, at, walk: None, record: None }
    }

    /// When the entry was written. Only on a valid cursor.
    #[cfg(test)]
    pub fn seqno(&self) -> Seqno {
        self.record.map_or(Seqno::ZERO, Record::seqno)
    }

    /// To the first key from `start` on that has a version to see.
    fn start(&mut self, start: Option<Walk<'a>>, step: impl Fn(&mut Walk<'a>) -> bool) {
        self.walk = start;
        self.record = self.walk.as_ref().and_then(|walk| walk.record().visible(self.at));
        if self.walk.is_some() && self.record.is_none() {
            self.step(step);
        }
    }

    /// To the next key, in the direction of `step`, that has a version to see.
    #[inline]
    fn step(&mut self, step: impl Fn(&mut Walk<'a>) -> bool) {
        self.record = None;
        let Some(walk) = &mut self.walk else { return };
        while step(walk) {
            self.record = walk.record().visible(self.at);
            if self.record.is_some() {
                return;
            }
        }
        self.walk = None;
    }
}

impl<'a> Cursor<'a> for MemtableCursor<'a> {
    fn first(&mut self) -> Result<()> {
        self.start(self.tree.and_then(Walk::first), Walk::step);
        Ok(())
    }

    fn last(&mut self) -> Result<()> {
        self.start(self.tree.and_then(Walk::last), Walk::step_back);
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.start(self.tree.and_then(|tree| Walk::at_or_after(tree, key)), Walk::step);
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.start(self.tree.and_then(|tree| Walk::before(tree, key)), Walk::step_back);
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(Walk::step);
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.step(Walk::step_back);
        Ok(())
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.record.is_some()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.record.map_or(&[], Record::key)
    }

    #[inline]
    fn key_slice(&self) -> Slice<'a> {
        Slice::borrowed(self.record.map_or(&[], Record::key))
    }

    #[inline]
    fn is_tombstone(&self) -> bool {
        self.record.is_some_and(Record::is_tombstone)
    }

    #[inline]
    fn value(&self) -> Result<Option<Slice<'a>>> {
        Ok(self.record.and_then(Record::value).map(Slice::borrowed))
    }
}
