//! Says of most keys that were never inserted that they were not, with a few loads and no search.
//!
//! A Bloom filter whose keys each keep to one 64-bit word and set up to four bits there. A generation
//! takes a fixed number of keys at 16 bits each; then the next one, eight times larger, takes the
//! newcomers, so that nothing is ever built anew while a commit waits. About one absent key in a hundred
//! passes each full generation.
//!
//! Invariant: bits are set before an insertion returns, and never cleared. A reader learns of a seqno
//! after that, so whoever is entitled to see an entry sees its bits.

use crate::hash::key_hash;
use crate::memory::{OutOfMemory, Zeros};
use crate::prefetch;
use crate::types::KeyspaceId;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const FIRST_GENERATION_KEYS: u64 = 4096;
const GENERATION_GROWTH: u64 = 8;
const GENERATIONS: usize = 6;
const KEYS_PER_WORD: u64 = 4;

/// See the module. Empty at first, and then knows nothing.
#[derive(Debug)]
pub struct Filter {
    generations: [OnceLock<Zeros>; GENERATIONS],
}

impl Filter {
    pub const fn new() -> Filter {
        Filter { generations: [const { OnceLock::new() }; GENERATIONS] }
    }

    /// Whether it has any keys.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.generations[0].get().is_some()
    }

    /// Whether a key with this hash may be one of those that were added.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        if !self.is_on() {
            return true;
        }
        let bits = bits(hash);
        let mut generations = self.generations.iter().map_while(OnceLock::get);
        generations.any(|words| word(words, hash).load(Ordering::Relaxed) & bits == bits)
    }

    /// Begins with the keys that are there. Readers see the filter only when it knows them all. Without
    /// memory there is no filter.
    pub fn start<'k>(&self, keys: impl Iterator<Item = (KeyspaceId, &'k [u8])>) {
        let Ok(words) = Zeros::new(words_for(FIRST_GENERATION_KEYS)) else { return };
        keys.for_each(|(keyspace, key)| set(&words, key_hash(keyspace, key)));
        self.generations[0].get_or_init(|| words);
    }

    /// Adds the key with this hash; `before` is the number of keys before it. For the one writer, once it is on.
    #[inline]
    pub fn add(&self, hash: u64, before: u64) {
        if let Some(words) = self.generation_for(before) {
            set(words, hash);
        }
    }

    /// Asks for what [`Filter::add`] will need.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(words) = self.generations.iter().map_while(OnceLock::get).last() {
            prefetch::line(word(words, hash));
        }
    }

    /// Memory taken, in bytes.
    pub fn bytes(&self) -> usize {
        self.generations.iter().map_while(OnceLock::get).map(Zeros::bytes).sum()
    }

    /// The generation that takes the key after `before` others. The last one takes any number, and so
    /// does the one before a generation that finds no memory.
    #[inline]
    fn generation_for(&self, before: u64) -> Option<&Zeros> {
        let (mut keys, mut end) = (FIRST_GENERATION_KEYS, FIRST_GENERATION_KEYS);
        let mut last = self.generations[0].get()?;
        for generation in &self.generations[1..] {
            if before < end {
                break;
            }
            keys *= GENERATION_GROWTH;
            end += keys;
            last = match generation.get() {
                Some(words) => words,
                None => match Zeros::new(words_for(keys)) {
                    Ok(words) => generation.get_or_init(|| words),
                    Err(OutOfMemory) => break,
                },
            };
        }
        Some(last)
    }
}

const fn words_for(keys: u64) -> usize {
    (keys / KEYS_PER_WORD) as usize
}

#[inline]
fn set(words: &[AtomicU64], hash: u64) {
    let word = word(words, hash);
    word.store(word.load(Ordering::Relaxed) | bits(hash), Ordering::Relaxed);
}

/// Up to four bits out of 64, from the low 24 bits of the hash.
#[inline]
fn bits(hash: u64) -> u64 {
    (1 << (hash & 63))
        | (1 << ((hash >> 6) & 63))
        | (1 << ((hash >> 12) & 63))
        | (1 << ((hash >> 18) & 63))
}

/// The word of a key, from the high 32 bits of the hash.
#[inline]
fn word(words: &[AtomicU64], hash: u64) -> &AtomicU64 {
    let index = ((hash >> 32) * words.len() as u64) >> 32;
    &words[index as usize]
}
