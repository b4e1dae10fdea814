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
    position: Option<Position<'a>>,
}

#[derive(Clone, Copy)]
struct Position<'a> {
    walk: Walk<'a>,
    /// The version that is seen, of the key on which `walk` is.
    record: Record<'a>,
}

impl<'a> MemtableCursor<'a> {
    /// A cursor that is not valid yet.
    pub fn new(tree: Option<&'a Tree>, at: Seqno) -> MemtableCursor<'a> {
        MemtableCursor { tree, at, position: None }
    }

    /// When the entry was written. Only on a valid cursor.
    pub fn seqno(&self) -> Seqno {
        self.position.map_or(Seqno::ZERO, |position| position.record.seqno())
    }

    #[inline]
    fn settle(
        &mut self,
        start: Option<Walk<'a>>,
        step: impl Fn(Walk<'a>) -> Option<Walk<'a>>,
    ) -> Result<()> {
        let mut next = start;
        self.position = None;
        while let Some(walk) = next {
            if let Some(record) = walk.record().visible(self.at) {
                self.position = Some(Position { walk, record });
                break;
            }
            next = step(walk);
        }
        Ok(())
    }
}

impl<'a> Cursor<'a> for MemtableCursor<'a> {
    fn first(&mut self) -> Result<()> {
        self.settle(self.tree.and_then(Walk::first), Walk::stepped)
    }

    fn last(&mut self) -> Result<()> {
        self.settle(self.tree.and_then(Walk::last), Walk::stepped_back)
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        let start = self.tree.and_then(|tree| Walk::at_or_after(tree, key));
        self.settle(start, Walk::stepped)
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let start = self.tree.and_then(|tree| Walk::before(tree, key));
        self.settle(start, Walk::stepped_back)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let start = self.position.and_then(|position| position.walk.stepped());
        self.settle(start, Walk::stepped)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let start = self.position.and_then(|position| position.walk.stepped_back());
        self.settle(start, Walk::stepped_back)
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.position.is_some()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.position.map_or(&[], |position| position.record.key())
    }

    #[inline]
    fn key_slice(&self) -> Slice<'a> {
        Slice::borrowed(self.position.map_or(&[], |position| position.record.key()))
    }

    #[inline]
    fn is_tombstone(&self) -> bool {
        self.position.is_some_and(|position| position.record.is_tombstone())
    }

    #[inline]
    fn value(&self) -> Result<Option<Slice<'a>>> {
        Ok(self.position.and_then(|position| position.record.value()).map(Slice::borrowed))
    }
}
