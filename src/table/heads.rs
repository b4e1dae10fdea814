//! Resident heads: the shape and the fingerprints of the data blocks that were touched, side by side in
//! memory, so that a point read goes from the fences to the record without a look at the block's own head.
//!
//! The head of a block lies at the front of its first page. Reading it there costs a cache miss and, since
//! every block has a page of its own, a miss of the address translation; reading the copy costs at most
//! two neighbouring lines of a small array. Each data block has a *slot* of the same length: one word of
//! shape, then its fingerprints, eight in a word. A slot is filled when its block was verified; until then
//! its first word is 0. A block with more fingerprints than a slot has room for leaves them out: the reader
//! takes those in the block.
//!
//! Memory: about one byte a record, from the first point read or seek in a table on, until the table is
//! closed; all tables of a database together stay under the limit of their [`ResidentBudget`]. Tables beyond
//! it do without.
//!
//! Invariants:
//! 1. The first word of a slot is stored last (`Release`) and loaded first (`Acquire`), so that a slot that
//!    is not 0 is whole. Two threads that fill one slot store the same words.
//! 2. A filled slot says that the block was verified.

use super::block::Layout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Words in a cache line: slots with fingerprints are multiples of this.
const LINE_WORDS: usize = 8;
/// The longest slot: blocks of more than about a thousand records keep only their shape.
const MAX_SLOT_WORDS: usize = 16 * LINE_WORDS;

/// How much memory one kind of resident help for reads may take in all tables of a database together.
#[derive(Debug)]
pub struct ResidentBudget {
    used_bytes: AtomicUsize,
    limit_bytes: usize,
}

impl ResidentBudget {
    /// A budget with nothing used.
    pub fn new(limit_bytes: usize) -> Arc<ResidentBudget> {
        Arc::new(ResidentBudget { used_bytes: AtomicUsize::new(0), limit_bytes })
    }

    /// Takes a part, if so much is left.
    pub fn take(&self, bytes: usize) -> bool {
        let grown = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    /// Gives a part back.
    pub fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The heads of one table.
#[derive(Debug)]
pub struct Heads {
    words: Box<[AtomicU64]>,
    slot_words: usize,
    budget: Arc<ResidentBudget>,
}

impl Heads {
    /// Empty slots for a table of so many data blocks and entries; `None` if the budget has no room.
    pub fn new(blocks: u32, entries: u64, budget: &Arc<ResidentBudget>) -> Option<Heads> {
        let slot_words = slot_words(u64::from(blocks), entries);
        let count = slot_words.checked_mul(blocks as usize)?;
        if count == 0 || !budget.take(8 * count) {
            return None;
        }
        let words = (0..count).map(|_| AtomicU64::new(0)).collect();
        Some(Heads { words, slot_words, budget: Arc::clone(budget) })
    }

    /// The head of the data block with this ordinal, if it was filled.
    #[inline]
    pub fn get(&self, ordinal: u32) -> Option<Head<'_>> {
        let start = ordinal as usize * self.slot_words;
        let (first, rest) = self.words.get(start..start + self.slot_words)?.split_first()?;
        let shape = first.load(Ordering::Acquire);
        (shape != 0).then_some(Head { shape, rest })
    }

    /// Fills the slot of a verified block.
    pub fn fill(&self, ordinal: u32, layout: &Layout, block: &[u8]) {
        let start = ordinal as usize * self.slot_words;
        let Some((first, rest)) =
            self.words.get(start..start + self.slot_words).and_then(<[AtomicU64]>::split_first)
        else {
            return;
        };
        let fingerprints = layout.fingerprints(block).chunks(8);
        if fingerprints.len() <= rest.len() {
            for (word, bytes) in rest.iter().zip(fingerprints) {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
            }
        }
        first.store(layout.pack(block.len()), Ordering::Release);
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        8 * self.words.len()
    }
}

impl Drop for Heads {
    fn drop(&mut self) {
        self.budget.give_back(self.memory_bytes());
    }
}

/// One filled slot.
#[derive(Clone, Copy, Debug)]
pub struct Head<'h> {
    shape: u64,
    rest: &'h [AtomicU64],
}

impl<'h> Head<'h> {
    /// The shape of the block, which has this length; `None` if it cannot be (never for the block that
    /// filled it).
    #[inline]
    pub fn layout(&self, block_bytes: usize) -> Option<Layout> {
        Layout::unpack(self.shape, block_bytes)
    }

    /// The fingerprints, eight in a word, zeros behind the last; `None` if there was no room.
    #[inline]
    pub fn fingerprints(&self, layout: &Layout) -> Option<impl Iterator<Item = u64> + use<'h>> {
        let words = self.rest.get(..layout.count().div_ceil(8))?;
        Some(words.iter().map(|word| word.load(Ordering::Relaxed)))
    }
}

/// Length of a slot with room for a sixteenth more than the mean number of entries.
fn slot_words(blocks: u64, entries: u64) -> usize {
    let mean = entries.div_ceil(blocks.max(1));
    let wanted = 1 + (mean + mean / 16).div_ceil(8) as usize;
    match wanted.next_multiple_of(LINE_WORDS) {
        long if long > MAX_SLOT_WORDS => 1,
        words => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_what_a_block_of_mean_length_needs() {
        assert_eq!(slot_words(10, 940), 16);
        assert_eq!(slot_words(1, 1), 8);
        assert_eq!(slot_words(1, 65_536), 1);
    }

    #[test]
    fn the_budget_is_kept_and_comes_back() {
        let budget = ResidentBudget::new(1000);
        let one = Heads::new(10, 100, &budget).unwrap();
        assert_eq!(one.memory_bytes(), 640);
        assert!(Heads::new(10, 100, &budget).is_none());
        drop(one);
        assert!(Heads::new(10, 100, &budget).is_some());
        assert!(Heads::new(0, 0, &budget).is_none(), "a table without data has no heads");
    }
}
