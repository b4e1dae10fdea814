//! The block cache of [`ReadMode::Pread`](super::ReadMode): blocks that were read and verified, shared
//! by all tables, bounded by bytes. With it, what all tables may take for their [`heads`](super::heads) and for their
//! [`positions`](super::positions), and whether memory holds them.
//!
//! Sixteen shards, each with its own lock and its own clock hand: a hit sets a mark, the hand clears
//! marks and evicts what it finds unmarked. A block larger than a shard's share is not kept.

use super::heads::ResidentBudget;
use crate::sync::engine::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SHARDS: usize = 16;
/// For resident heads, and as much for positions, unless told otherwise.
const RESIDENT_BYTES: usize = 32 << 20;

/// Which block: a table's number within the process, and the block's ordinal.
pub type CacheKey = (u64, u32);

/// A bounded cache of verified blocks.
#[derive(Debug)]
pub struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    shard_capacity_bytes: usize,
    heads: Arc<ResidentBudget>,
    positions: Arc<ResidentBudget>,
    is_scattered: AtomicBool,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<CacheKey, usize>,
    slots: Vec<Slot>,
    hand: usize,
    used_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    key: CacheKey,
    block: Arc<Vec<u8>>,
    is_marked: bool,
}

impl BlockCache {
    /// A cache that keeps at most `capacity_bytes` of blocks; 0 keeps none.
    pub fn new(capacity_bytes: usize) -> BlockCache {
        BlockCache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_capacity_bytes: capacity_bytes / SHARDS,
            heads: ResidentBudget::new(RESIDENT_BYTES),
            positions: ResidentBudget::new(RESIDENT_BYTES),
            is_scattered: AtomicBool::new(false),
        }
    }

    /// With these limits for the resident heads of all tables, and for their positions.
    pub fn with_resident(self, heads_bytes: usize, positions_bytes: usize) -> BlockCache {
        let (heads, positions) =
            (ResidentBudget::new(heads_bytes), ResidentBudget::new(positions_bytes));
        BlockCache { heads, positions, ..self }
    }

    /// Whether memory holds only a part of the tables ([`scattered`](super::scattered)).
    #[inline]
    pub fn is_scattered(&self) -> bool {
        self.is_scattered.load(Ordering::Relaxed)
    }

    /// Says so; returns what was said before. Tables that are mapped by then are to be told ([`Table::advise`](super::Table::advise)).
    pub fn set_scattered(&self, scattered: bool) -> bool {
        self.is_scattered.swap(scattered, Ordering::Relaxed)
    }

    /// What the resident heads of all tables may take.
    pub fn heads(&self) -> &Arc<ResidentBudget> {
        &self.heads
    }

    /// What the positions of keys in all tables may take.
    pub fn positions(&self) -> &Arc<ResidentBudget> {
        &self.positions
    }

    /// The block, if it is kept.
    pub fn get(&self, key: CacheKey) -> Option<Arc<Vec<u8>>> {
        let mut shard = self.shard(key).lock();
        let place = *shard.places.get(&key)?;
        let slot = shard.slots.get_mut(place)?;
        slot.is_marked = true;
        Some(Arc::clone(&slot.block))
    }

    /// Keeps a block, evicting others to make room.
    pub fn insert(&self, key: CacheKey, block: &Arc<Vec<u8>>) {
        if block.len() > self.shard_capacity_bytes {
            return;
        }
        let mut shard = self.shard(key).lock();
        if shard.places.contains_key(&key) {
            return;
        }
        while shard.used_bytes + block.len() > self.shard_capacity_bytes {
            shard.evict_one();
        }
        let place = shard.slots.len();
        shard.used_bytes += block.len();
        shard.slots.push(Slot { key, block: Arc::clone(block), is_marked: false });
        shard.places.insert(key, place);
    }

    /// Bytes of all blocks kept.
    #[cfg(test)]
    pub fn used_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().used_bytes).sum()
    }

    fn shard(&self, key: CacheKey) -> &Mutex<Shard> {
        let mixed = (key.0 << 32 ^ u64::from(key.1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(mixed >> 32) as usize % SHARDS]
    }
}

impl Shard {
    /// Evicts the first unmarked block from the hand on. Only when there is a block.
    fn evict_one(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &mut self.slots[self.hand];
            if slot.is_marked {
                slot.is_marked = false;
                self.hand += 1;
                continue;
            }
            let evicted = self.slots.swap_remove(self.hand);
            self.places.remove(&evicted.key);
            self.used_bytes -= evicted.block.len();
            if let Some(moved) = self.slots.get(self.hand) {
                self.places.insert(moved.key, self.hand);
            }
            return;
        }
    }
}
