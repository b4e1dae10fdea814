//! Reading a table of which memory holds only a part, through its mapping.
//!
//! A page of the mapping that is not in memory is read when it is touched, and with it, unless the system is told not to,
//! as much around it as the read-ahead of the device says: up to megabytes for one record, which push out as much that
//! was of use. So the mapping is told that it is read here and there, and brings single pages. That is right for lookups and
//! ranges of a few records. Three things it takes away are given back:
//!
//! * **Who reads on.** A block that is come to from its neighbour, a value with a block of its own, and the rest of a long
//!   record are brought by positional reads if they are not in memory. The system sees those that follow each other,
//!   as of scans and merges, and reads ahead of them. Blocks are verified on the way as if for the first time.
//! * **Age.** Linux does not look at whether pages of such a mapping were used; it would drop what is read all the
//!   time as soon as a scan passes. One lookup in [`USES`] reads a byte of what it found by a positional read,
//!   which counts as a use.
//! * **Failures.** Where a positional read brings the bytes, a disk that fails gives an error and no signal, unless they go out
//!   again before they are used.
//!
//! Invariant: what is read is the same either way.

use super::block::Entry;
use super::reader::{Block, Loaded, Table};
use crate::error::Result;
use crate::mistakes::{Mistake, planted};
use crate::sync::engine::thread_local;
use std::cell::Cell;
use std::ops::Range;

/// Of so many lookups one tells the system what it used. A prime: nothing that comes every so many lookups escapes.
const USES: u32 = 31;
/// Of a longer record more than its first page is brought at once, in bytes.
const PAGE_BYTES: usize = 4096;
/// Blocks in a row that are read although they are in memory, behind one that was not: the system reads ahead of reads only.
const READ_ON: u32 = 32;
/// Of so many blocks in a row the system is asked at once whether they are in memory: to ask takes as long as to scan one.
const ASKED_AT_ONCE: u32 = 16;
/// They take less than this, in bytes: large values may lie between them.
const ASKED_BYTES: u64 = 1 << 20;

/// What is known of a row of blocks that are read as a whole. The default is right for the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Of so many more is read what is in memory.
    left: u32,
    /// The blocks that were in memory a moment ago.
    held: Range<u32>,
    /// The one before; none before the first.
    last: Option<u32>,
}

thread_local! {
    static LOOKUPS: Cell<u32> = const { Cell::new(0) };
}

impl Table {
    /// Tells the mapping how it is read, if there is one yet: [`BlockCache::is_scattered`](super::BlockCache::is_scattered)
    /// has changed.
    pub fn advise(&self) {
        // Who loads meanwhile has seen the change, or is waited for.
        let _loading = self.loading.lock();
        if let Some(map) = self.loaded.get().and_then(|loaded| loaded.map.as_ref()) {
            map.advise_scattered(self.cache.is_scattered());
        }
    }

    /// A verified block of which all will be read.
    #[inline]
    pub(super) fn whole_block<'a>(
        &'a self,
        loaded: &'a Loaded,
        ordinal: u32,
        row: &mut Row,
    ) -> Result<Block<'a>> {
        // Of one that was not verified yet all is read anyhow.
        if self.cache.is_scattered() && loaded.has_verified(ordinal) {
            self.bring(loaded, ordinal, row)?;
        }
        self.block(loaded, ordinal)
    }

    #[cold]
    fn bring(&self, loaded: &Loaded, ordinal: u32, row: &mut Row) -> Result<()> {
        if row.left == 0 && row.held.contains(&ordinal) {
            return Ok(());
        }
        let Some(map) = &loaded.map else { return Ok(()) };
        let is_held = |first: u32, last: u32| -> Result<bool> {
            let (start, end) =
                (self.extent(loaded, first)?.offset(), self.extent(loaded, last)?.end());
            let is_short = first == last || end.saturating_sub(start) <= ASKED_BYTES;
            Ok(is_short && map.is_resident(start as usize..end as usize))
        };
        // Many rows have but one.
        let (first, last) = match row.last.replace(ordinal) {
            None => (ordinal, ordinal),
            Some(before) if ordinal < before => {
                (ordinal.saturating_sub(ASKED_AT_ONCE - 1), ordinal)
            }
            Some(_) => {
                let blocks = loaded.index.data_blocks.max(ordinal + 1);
                (ordinal, (ordinal + ASKED_AT_ONCE).min(blocks) - 1)
            }
        };
        if row.left == 0 && is_held(first, last)? {
            row.held = first..last + 1;
            return Ok(());
        }
        row.left = if is_held(ordinal, ordinal)? { row.left.saturating_sub(1) } else { READ_ON };
        if row.left == 0 || planted(Mistake::BlocksNotVerified) {
            return Ok(());
        }
        self.verify(loaded, ordinal)
    }

    /// A lookup found this entry of a data block.
    #[inline]
    pub(super) fn used(&self, loaded: &Loaded, ordinal: u32, entry: &Entry) -> Result<()> {
        if !self.cache.is_scattered() {
            return Ok(());
        }
        let offset = self.extent(loaded, ordinal)?.offset() as usize + entry.key().start;
        self.used_at(loaded, offset, entry.value().end - entry.key().start)
    }

    /// A lookup found what lies there in the file.
    #[cold]
    pub(super) fn used_at(&self, loaded: &Loaded, offset: usize, length: usize) -> Result<()> {
        let Some(map) = &loaded.map else { return Ok(()) };
        if length > PAGE_BYTES && !map.is_resident(offset..offset + length) {
            return self.pass(&*loaded.file, offset as u64, length);
        }
        let lookups = LOOKUPS.with(|lookups| lookups.replace(lookups.get().wrapping_add(1)));
        if lookups.is_multiple_of(USES) {
            // The page is there, for the key was compared. It is a hint: a failure takes nothing from what was found.
            let _ = self.read_at(&*loaded.file, &mut [0], offset as u64);
        }
        Ok(())
    }
}
