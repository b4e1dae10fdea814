//! Memory of memtables that are gone, for those that come.
//!
//! To have pages filled by the system costs more than to fill them with records. So an engine keeps the mapped chunks
//! of a memtable that was published, up to a limit, and its next one takes them. Where there are none left of the usual
//! size, the engine's checkpointing thread, if it is idle, has the next one filled while commits use up the one before.
//!
//! Invariant: what is here belongs to nobody else; who takes it must not expect it to be zero.

use super::arena::LAST_RECORD_CHUNK_BYTES;
use crate::memory::{Chunk, Fill};
use crate::sync::engine::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

/// A chunk may be larger than what is asked for by this fraction.
const SPARE_FRACTION: usize = 8;

/// What is kept must be able to grow to so many chunks of the usual size before one is made ahead.
const AHEAD_FROM_CHUNKS: usize = 8;

/// See the module.
pub struct ChunkPool(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Oldest first.
    chunks: VecDeque<Chunk>,
    bytes: usize,
    limit_bytes: usize,
    /// The last chunk of the usual size was taken, and the next one is to be made.
    lacks_next: bool,
    /// Tells the thread that makes it.
    wake: Option<Box<dyn Fn() + Send>>,
}

impl std::fmt::Debug for ChunkPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkPool").finish_non_exhaustive()
    }
}

impl ChunkPool {
    /// Keeps up to so many bytes.
    pub fn new(limit_bytes: usize) -> Arc<ChunkPool> {
        Arc::new(ChunkPool(Mutex::new(Kept { limit_bytes, ..Kept::default() })))
    }

    /// From now on `wake` is called when a chunk is to be made ahead, and calls [`ChunkPool::make_next`] from another
    /// thread.
    pub fn attach(&self, wake: impl Fn() + Send + 'static) {
        self.0.lock().wake = Some(Box::new(wake));
    }

    /// From now on no chunk is made ahead.
    pub fn detach(&self) {
        self.0.lock().wake = None;
    }

    /// Makes a chunk ahead if one is to be made.
    pub fn make_next(&self) {
        if !std::mem::take(&mut self.0.lock().lacks_next) {
            return;
        }
        // Without memory, who needs it will say so.
        if let Ok(chunk) = Chunk::new(LAST_RECORD_CHUNK_BYTES, Fill::Pages) {
            self.give(std::iter::once(chunk));
        }
    }

    /// A chunk of at least `bytes`, and not of many more. If there is none, as much goes as the system is asked for
    /// now, so that what is here and what is in use do not grow together.
    pub(super) fn take(&self, bytes: usize) -> Option<Chunk> {
        let mut kept = self.0.lock();
        let fits = |chunk: &Chunk| (bytes..=bytes + bytes / SPARE_FRACTION).contains(&chunk.len());
        let at = kept.chunks.iter().rposition(fits);
        let chunk = at.and_then(|at| kept.chunks.swap_remove_back(at));
        kept.bytes -= chunk.as_ref().map_or(0, Chunk::len);
        if bytes == LAST_RECORD_CHUNK_BYTES
            && kept.limit_bytes >= AHEAD_FROM_CHUNKS * bytes
            && kept.chunks.iter().all(|chunk| !fits(chunk))
        {
            kept.lacks_next = kept.wake.as_ref().map(|wake| wake()).is_some();
        }
        if chunk.is_none() {
            let left_bytes = kept.bytes.saturating_sub(bytes);
            free_behind_the_lock(kept, left_bytes);
        }
        chunk
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

#[cfg(test)]
mod tests {
    use super::{AHEAD_FROM_CHUNKS, ChunkPool};
    use crate::memtable::arena::LAST_RECORD_CHUNK_BYTES as BYTES;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Each chunk of the usual size that is taken, the last one here, has the next one made, once; and nobody is asked who
    /// is gone, or for a pool that may not keep much.
    #[test]
    fn the_next_chunk_is_made_while_the_last_is_used() {
        let pool = ChunkPool::new(AHEAD_FROM_CHUNKS * BYTES);
        pool.make_next();
        assert_eq!(pool.bytes(), 0, "nobody took one");
        let woken = Arc::new(AtomicU32::new(0));
        let counter = woken.clone();
        pool.attach(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert!(pool.take(BYTES).is_none(), "there was none");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        pool.make_next();
        assert_eq!(pool.bytes(), BYTES);
        pool.make_next();
        assert_eq!(pool.bytes(), BYTES, "it is made once");
        let made = pool.take(BYTES).expect("the one that was made");
        assert_eq!((woken.load(Ordering::Relaxed), pool.bytes()), (2, 0));
        pool.give(std::iter::once(made));
        pool.make_next();
        assert_eq!(pool.bytes(), 2 * BYTES);
        assert!(pool.take(BYTES).is_some());
        assert_eq!(woken.load(Ordering::Relaxed), 2, "one is left");
        pool.detach();
        assert!(pool.take(BYTES).is_some());
        pool.make_next();
        assert_eq!((woken.load(Ordering::Relaxed), pool.bytes()), (2, 0), "nobody is asked");

        let small = ChunkPool::new(AHEAD_FROM_CHUNKS * BYTES - 1);
        small.attach(|| panic!("it may keep too little"));
        assert!(small.take(BYTES).is_none());
    }
}
