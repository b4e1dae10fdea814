//! Range tombstones of one keyspace, cut into fragments.
//!
//! A tree of boundaries: each boundary key begins a fragment that ends before the next boundary. All keys
//! of a fragment are covered by the same range tombstones, of which two seqnos matter: the *first* (is a
//! key hidden from a read at some seqno?) and the *last* (was it hidden after some seqno?). The record of
//! a boundary carries the first as its value and the last as its seqno; a first of `u64::MAX` means that
//! nothing covers the fragment. So any number of overlapping tombstones costs one search.
//!
//! Invariants: cutting a fragment in two changes no answer; the first seqno of a fragment is set once; the
//! last only grows. A reader at `at` that meets a later tombstone half entered gives the same answers.

use super::arena::ArenaWriter;
use super::record::Record;
use super::tree::Tree;
use super::walk::Walk;
use crate::cursor::RangeTombstone;
use crate::memory::OutOfMemory;
use crate::types::Seqno;
use std::ops::Bound;

/// See the module.
#[derive(Debug)]
pub struct Fragments {
    boundaries: Tree,
}

/// The tombstones that cover one fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Seqno of the first of them.
    pub first: Seqno,
    /// Seqno of the last of them.
    pub last: Seqno,
}

impl Fragments {
    pub const fn new() -> Fragments {
        Fragments { boundaries: Tree::new() }
    }

    /// Whether there never was a range tombstone.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.boundaries.root().is_none()
    }

    /// What covers a key.
    #[inline]
    pub fn cover(&self, key: &[u8]) -> Option<Cover> {
        if self.is_empty() {
            return None;
        }
        Walk::at_or_before(&self.boundaries, key).and_then(|walk| cover_of(walk.record()))
    }

    /// Whether a tombstone later than `after` touches the keys between `start` and `end`, which are not
    /// an empty range. (An excluded start counts as if it were included.)
    pub fn touched(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, after: Seqno) -> bool {
        let mut next = match start {
            Bound::Included(key) | Bound::Excluded(key) => {
                let before = Walk::at_or_before(&self.boundaries, key);
                before.or_else(|| Walk::first(&self.boundaries))
            }
            Bound::Unbounded => Walk::first(&self.boundaries),
        };
        while let Some(walk) = &mut next {
            let record = walk.record();
            if is_past(record.key(), end) {
                return false;
            }
            if cover_of(record).is_some_and(|cover| cover.last > after) {
                return true;
            }
            if !walk.step() {
                return false;
            }
        }
        false
    }

    /// The tombstones that a read at `at` sees, joined where they meet: ascending and apart.
    pub fn tombstones(&self, at: Seqno) -> Vec<RangeTombstone> {
        let mut tombstones: Vec<RangeTombstone> = Vec::new();
        let mut is_open = false;
        let Some(mut walk) = Walk::first(&self.boundaries) else { return tombstones };
        loop {
            let record = walk.record();
            let covered = cover_of(record).is_some_and(|cover| cover.first <= at);
            if covered && !is_open {
                tombstones.push(RangeTombstone { start: record.key().to_vec(), end: None });
            }
            if !covered && is_open {
                let last = tombstones.last_mut().expect("a tombstone is open");
                last.end = Some(record.key().to_vec());
            }
            is_open = covered;
            if !walk.step() {
                return tombstones;
            }
        }
    }

    /// Adds a tombstone; its seqno is not below those of the others. One without keys changes nothing.
    pub fn add<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        tombstone: &RangeTombstone,
        seqno: Seqno,
    ) -> Result<(), OutOfMemory> {
        let (start, end) = (tombstone.start.as_slice(), tombstone.end.as_deref());
        if let Some(end) = end {
            if start >= end {
                return Ok(());
            }
            self.cut(arena, end)?;
        }
        self.cut(arena, start)?;
        let Some(mut walk) = Walk::at_or_after(&self.boundaries, start) else { return Ok(()) };
        loop {
            let record = walk.record();
            if end.is_some_and(|end| record.key() >= end) {
                return Ok(());
            }
            if cover_of(record).is_some() {
                record.raise_seqno(seqno);
            } else {
                let first = seqno.0.to_le_bytes();
                self.boundaries.insert(arena, None, record.key(), seqno, Some(&first))?;
            }
            if !walk.step() {
                return Ok(());
            }
        }
    }

    /// Makes `key` a boundary.
    fn cut<'a>(&'a self, arena: &mut ArenaWriter<'a>, key: &[u8]) -> Result<(), OutOfMemory> {
        let before = Walk::at_or_before(&self.boundaries, key).map(|walk| walk.record());
        if before.is_some_and(|record| record.key() == key) {
            return Ok(());
        }
        let cover = before.and_then(cover_of);
        let cover = cover.unwrap_or(Cover { first: Seqno::MAX, last: Seqno::ZERO });
        let first = cover.first.0.to_le_bytes();
        self.boundaries.insert(arena, None, key, cover.last, Some(&first))?;
        Ok(())
    }
}

/// Whether `key` lies behind the end of a range.
pub fn is_past(key: &[u8], end: Bound<&[u8]>) -> bool {
    match end {
        Bound::Included(end) => key > end,
        Bound::Excluded(end) => key >= end,
        Bound::Unbounded => false,
    }
}

/// Whether no key can lie between `start` and `end`, by their order alone.
pub fn is_empty_range(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}

fn cover_of(boundary: Record<'_>) -> Option<Cover> {
    let first = boundary.value().and_then(|value| value.first_chunk::<8>());
    let first = Seqno(u64::from_le_bytes(*first?));
    (first != Seqno::MAX).then(|| Cover { first, last: boundary.seqno() })
}
