//! Positions: where in a mapped table keys lie, by their hash, so that a point read goes to the record without
//! a search.
//!
//! A read that searches waits for the fences, then for the block's fingerprints, then for the record. With a
//! position it waits for one line of this index and for the record, and takes a third of the instructions, so
//! that the processor begins the next read before this one has its record.
//!
//! The index is an array of buckets of eight entries of 32 bits, two in a word:
//!
//! ```text
//! entry  := fingerprint (what is left of 32 bits, not 0)   block: block_bits   position in it: 8 bits
//! bucket := the one that the upper half of the hash chooses
//! ```
//!
//! It is a hint: an entry leads to a record whose key is then compared, and a key without an entry is
//! searched for. So an entry may be missing (its bucket was full; it lies behind the 256th of its block; two
//! threads stored at once), and stores need no more order than that of a word. A key is entered when a search
//! found it. A block that was searched a quarter as often as it has keys is entered as a whole: by then that costs no
//! more than the searches did, and what is read once or twice does not pay for it.
//!
//! Memory: 6.4 bytes a record and 8 a block, from the first search in a table until it is closed; all tables of a
//! database together stay under the limit of their budget. Tables beyond it do without.
//!
//! Invariant: only blocks that were verified have entries, and have a shape here.

use super::block::Layout;
use super::even::{Even, Record};
use super::format::Extent;
use super::heads::ResidentBudget;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::lanes::matching;
use crate::memory::Zeros;
use crate::prefetch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits for the position in a block: the builder's blocks have at most so many entries.
const POSITION_BITS: u32 = 8;
/// Fewer would send too many reads to a wrong record.
const FINGERPRINT_MIN_BITS: u32 = 6;
/// Entries that a bucket is made for, of the eight that it has room for: one key in a hundred finds none.
const ENTRIES_A_BUCKET: u64 = 5;
/// Keys of a block whose buckets are asked for before the first is needed.
const AT_ONCE: usize = 64;
/// Both halves of a word, but for their top bits.
#[cfg(any(not(target_arch = "x86_64"), miri, test))]
const LOW: u64 = 0x7fff_ffff_7fff_ffff;

/// A block's word: its shape, and above that how often it was searched. 0: never.
const SHAPE_BITS: u32 = 58;
const SHAPE: u64 = (1 << SHAPE_BITS) - 1;
/// As many searches as can be counted stand for a block that was entered as a whole.
const WHOLE: u64 = u64::MAX >> SHAPE_BITS;

/// Words of a bucket: eight entries, half a cache line.
const BUCKET_WORDS: usize = 4;
type Bucket = [AtomicU64; BUCKET_WORDS];

/// The positions of one table.
#[derive(Debug)]
pub struct Positions {
    /// Bucket by bucket, in huge pages.
    words: Zeros,
    /// By ordinal of the data block.
    shapes: Box<[AtomicU64]>,
    even: Even,
    /// The lower bits of an entry: block and position.
    place_mask: u32,
    budget: Arc<ResidentBudget>,
}

/// The entries of a bucket that have the fingerprint of a key. Found without a branch for each entry: which of them it is
/// cannot be foretold.
#[derive(Debug)]
pub struct Places {
    words: [u64; BUCKET_WORDS],
    /// One bit for each entry, the lowest first.
    hits: u32,
    place_mask: u32,
}

impl Iterator for Places {
    /// A block, and the position in it.
    type Item = (u32, usize);

    // By force: without it a read makes a call, for its most usual case alone.
    #[inline(always)]
    fn next(&mut self) -> Option<(u32, usize)> {
        if self.hits == 0 {
            return None;
        }
        let lane = self.hits.trailing_zeros();
        self.hits &= self.hits - 1;
        let entry = (self.words[(lane / 2) as usize & 3] >> (lane % 2 * 32)) as u32;
        let place = entry & self.place_mask;
        let position = place as usize & ((1 << POSITION_BITS) - 1);
        Some((place >> POSITION_BITS, position))
    }
}

/// Where a search found a key.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub ordinal: u32,
    pub position: usize,
    /// The shape of the block: see [`Layout::pack`].
    pub shape: u64,
}

impl Positions {
    /// An empty index for a table of these data blocks and so many entries; `None` if the budget has no room, or if
    /// there are too many blocks.
    pub fn new(
        extents: &[Extent],
        entries: u64,
        budget: &Arc<ResidentBudget>,
    ) -> Option<Positions> {
        let blocks = u32::try_from(extents.len()).ok()?;
        let place_bits = POSITION_BITS + u32::BITS - blocks.leading_zeros();
        if blocks == 0 || place_bits > u32::BITS - FINGERPRINT_MIN_BITS {
            return None;
        }
        let buckets = u32::try_from(entries.div_ceil(ENTRIES_A_BUCKET)).ok()?.max(1) as usize;
        let bytes = buckets * size_of::<Bucket>() + blocks as usize * size_of::<u64>();
        if !budget.take(bytes) {
            return None;
        }
        let Ok(words) = Zeros::in_huge_pages(buckets * BUCKET_WORDS) else {
            budget.give_back(bytes);
            return None;
        };
        let shapes = (0..blocks).map(|_| AtomicU64::new(0)).collect();
        let even = Even::of(extents);
        let place_mask = (1 << place_bits) - 1;
        Some(Positions { words, shapes, even, place_mask, budget: Arc::clone(budget) })
    }

    #[inline(always)]
    fn bucket(&self, hash: u64) -> &Bucket {
        let (buckets, _) = self.words.as_chunks();
        let at = ((hash >> 32) * buckets.len() as u64) >> 32;
        &buckets[at as usize]
    }

    /// The fingerprint, where an entry has it.
    #[inline(always)]
    fn fingerprint(&self, hash: u64) -> u32 {
        (hash as u32 & !self.place_mask).max(self.place_mask + 1)
    }

    /// Blocks, and positions in them, where a key with this hash may lie.
    #[inline(always)]
    pub fn places(&self, hash: u64) -> Places {
        let words = self.bucket(hash).each_ref().map(|word| word.load(Ordering::Acquire));
        let hits = matching(words, self.fingerprint(hash), !self.place_mask);
        Places { words, hits, place_mask: self.place_mask }
    }

    /// The record at a place, if it can be said without a look at its block's shape.
    #[inline(always)]
    pub fn record(&self, ordinal: u32, position: usize) -> Option<Record> {
        self.even.record(ordinal, position)
    }

    /// The shape of a block that has entries: see [`Layout::unpack`].
    #[inline(always)]
    pub fn shape(&self, ordinal: u32) -> Option<u64> {
        let shape = self.shapes.get(ordinal as usize)?.load(Ordering::Acquire) & SHAPE;
        (shape != 0).then_some(shape)
    }

    /// A search found a key with this hash in a verified block. `hash_of` is the hash of any key of it.
    pub fn found(
        &self,
        place: Place,
        layout: &Layout,
        block: &[u8],
        hash: u64,
        hash_of: impl Fn(&[u8]) -> u64,
    ) {
        let Place { ordinal, position, shape } = place;
        let Some(word) = self.shapes.get(ordinal as usize) else { return };
        self.even.note(ordinal, layout);
        self.enter(ordinal, position, hash);
        let before = word.load(Ordering::Relaxed);
        let searches = before >> SHAPE_BITS;
        if searches == WHOLE {
            return;
        }
        let enough = (layout.count() as u64 / 4).min(WHOLE - 1);
        if searches < enough {
            // Not counted if another thread counts at once; counting exactly would make reads wait.
            word.store(shape | (searches + 1) << SHAPE_BITS, Ordering::Release);
            return;
        }
        let whole = shape | WHOLE << SHAPE_BITS;
        let won = word.compare_exchange(before, whole, Ordering::Release, Ordering::Relaxed);
        if won.is_ok() {
            self.enter_all(ordinal, layout, block, hash_of);
        }
    }

    #[cold]
    fn enter_all(
        &self,
        ordinal: u32,
        layout: &Layout,
        block: &[u8],
        hash_of: impl Fn(&[u8]) -> u64,
    ) {
        let mut hashes = [0; AT_ONCE];
        for from in (0..layout.count()).step_by(AT_ONCE) {
            let part = from..layout.count().min(from + AT_ONCE);
            for (position, hash) in part.clone().zip(&mut hashes) {
                // What is wrong with the block is for a search to say.
                let Ok(key) = layout.key(block, position) else { return };
                *hash = hash_of(key);
                prefetch::line(self.bucket(*hash));
            }
            for (position, hash) in part.zip(hashes) {
                self.enter(ordinal, position, hash);
            }
        }
    }

    fn enter(&self, ordinal: u32, position: usize, hash: u64) {
        if position >> POSITION_BITS != 0 {
            return;
        }
        let entry = self.fingerprint(hash) | ordinal << POSITION_BITS | position as u32;
        for slot in self.bucket(hash) {
            // Whoever sees an entry sees what was noted before it, whichever thread stored the word last.
            let word = slot.load(Ordering::Acquire);
            for shift in [0, 32] {
                match (word >> shift) as u32 {
                    0 => {
                        slot.store(word | u64::from(entry) << shift, Ordering::Release);
                        return;
                    }
                    known if known == entry => return,
                    _ => {}
                }
            }
        }
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.words.bytes() + size_of_val(&*self.shapes)
    }
}

/// One bit for each half of a word, the lower first, that is `wanted` where `mask` is set.
#[cfg(any(not(target_arch = "x86_64"), miri, test))]
#[inline(always)]
fn matching_by_words(words: [u64; 4], wanted: u32, mask: u32) -> u32 {
    let pair = |half: u32| u64::from(half) << 32 | u64::from(half);
    let mut hits = 0;
    for (at, word) in words.into_iter().enumerate() {
        let differs = (word ^ pair(wanted)) & pair(mask);
        // The top bit of a half is set where it is the wanted one.
        let equal = !(((differs & LOW) + LOW) | differs | LOW);
        hits |= ((equal >> 31 & 1 | equal >> 62 & 2) as u32) << (2 * at);
    }
    hits
}

#[cfg(any(not(target_arch = "x86_64"), miri))]
use matching_by_words as matching;

impl Drop for Positions {
    fn drop(&mut self) {
        self.budget.give_back(self.memory_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_kept_and_comes_back() {
        let budget = ResidentBudget::new(1000);
        let blocks = |count: u64| -> Vec<Extent> {
            (1..=count).map(|number| Extent::new(number * 64, 64).unwrap()).collect()
        };
        let one = Positions::new(&blocks(10), 100, &budget).unwrap();
        assert_eq!(one.memory_bytes(), 20 * 32 + 80);
        assert!(Positions::new(&blocks(10), 100, &budget).is_none());
        drop(one);
        assert!(Positions::new(&blocks(10), 100, &budget).is_some());
        assert!(Positions::new(&[], 0, &budget).is_none(), "a table without data has none");
    }

    #[test]
    fn a_table_of_too_many_blocks_has_none() {
        let budget = ResidentBudget::new(usize::MAX);
        let mut blocks = vec![Extent::new(64, 64).unwrap(); 1 << 18];
        assert!(Positions::new(&blocks, 100, &budget).is_none());
        blocks.pop();
        assert!(Positions::new(&blocks, 100, &budget).is_some());
    }

    #[test]
    fn entries_are_matched_alike_by_words_and_all_at_once() {
        let mut state = 7_u64;
        for round in 0..20_000_u32 {
            let mut half = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Few different ones, so that many are equal.
                ((state >> 60) as u32).wrapping_mul(0x2100_0011)
            };
            let entries: [u32; 8] = std::array::from_fn(|_| half());
            let (wanted, mask) = (half(), [u32::MAX, 0xFFFF_0000, 0xF000_0000][round as usize % 3]);
            let word =
                |at: usize| u64::from(entries[2 * at + 1]) << 32 | u64::from(entries[2 * at]);
            let words = std::array::from_fn(word);
            let expected = (0..8).filter(|at| entries[*at] & mask == wanted & mask);
            let expected = expected.fold(0, |hits, at| hits | 1 << at);
            assert_eq!(matching(words, wanted & mask, mask), expected);
            assert_eq!(matching_by_words(words, wanted & mask, mask), expected);
        }
    }
}
