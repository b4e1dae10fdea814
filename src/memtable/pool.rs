//! Memory of memtables that are gone, for those that come.
//!
//! To have pages filled by the system costs more than to fill them with records. So an engine keeps the mapped chunks
//! of a memtable that was published, up to a limit, and its next one takes them.
//!
//! Invariant: what is here belongs to nobody else; who takes it must not expect it to be zero.

use crate::memory::Chunk;
use crate::sync::engine::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

/// A chunk may be larger than what is asked for by this fraction.
const SPARE_FRACTION: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct ChunkPool(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    /// Oldest first.
    chunks: VecDeque<Chunk>,
    bytes: usize,
    limit_bytes: usize,
}

impl ChunkPool {
    /// Keeps up to so many bytes.
    pub fn new(limit_bytes: usize) -> Arc<ChunkPool> {
        Arc::new(ChunkPool(Mutex::new(Kept { chunks: VecDeque::new(), bytes: 0, limit_bytes })))
    }

    /// A chunk of at least `bytes`, and not of many more. If there is none, as much goes as the system is asked for
    /// now, so that what is here and what is in use do not grow together.
    pub(super) fn take(&self, bytes: usize) -> Option<Chunk> {
        let mut kept = self.0.lock();
        let fits = |chunk: &Chunk| (bytes..=bytes + bytes / SPARE_FRACTION).contains(&chunk.len());
        let Some(at) = kept.chunks.iter().rposition(fits) else {
            let left_bytes = kept.bytes.saturating_sub(bytes);
            free_behind_the_lock(kept, left_bytes);
            return None;
        };
        let chunk = kept.chunks.swap_remove_back(at)?;
        kept.bytes -= chunk.len();
        Some(chunk)
    }

    /// Takes chunks back.
    pub(super) fn give(&self, chunks: impl Iterator<Item = Chunk>) {
        let mut kept = self.0.lock();
        for chunk in chunks {
            kept.bytes += chunk.len();
            kept.chunks.push_back(chunk);
        }
        let limit_bytes = kept.limit_bytes;
        free_behind_the_lock(kept, limit_bytes);
    }

    /// Gives what is more than `bytes` back to the system.
    pub fn trim(&self, bytes: usize) {
        free_behind_the_lock(self.0.lock(), bytes);
    }

    /// Gives everything back, and keeps nothing from now on.
    pub fn end(&self) {
        let mut kept = self.0.lock();
        kept.limit_bytes = 0;
        free_behind_the_lock(kept, 0);
    }

    /// Memory kept, in bytes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.0.lock().bytes
    }
}

/// The oldest first. Giving memory back takes the system a while.
fn free_behind_the_lock(mut kept: MutexGuard<'_, Kept>, limit_bytes: usize) {
    let mut freed = Vec::new();
    while kept.bytes > limit_bytes
        && let Some(oldest) = kept.chunks.pop_front()
    {
        kept.bytes -= oldest.len();
        freed.push(oldest);
    }
    drop(kept);
    drop(freed);
}
