//! Memtables that are in tables already and that snapshots still see.
//!
//! A snapshot reads the memtables that it was taken with: they hold the versions of its moment, which the
//! tables may not. Snapshots of many moments would keep many memtables in memory. So when these take more
//! than a quarter of the memory budget, the oldest move into files without a name, at the same addresses:
//! readers notice nothing, values that were borrowed stay, and the system reads pages back as they are
//! needed. The disk space is free again when the last snapshot is dropped, or the process dies.
//!
//! Not with [`ReadMode::Pread`](crate::ReadMode), which promises that no failing disk can raise a signal,
//! and not where the file system has no such files: there snapshots are limited by memory.

use crate::engine::Engine;
use crate::table::ReadMode;
use crate::view::MemoryLayer;
use std::sync::{Arc, Weak};

/// Memtables with less than this stay, in bytes.
const WORTH_BYTES: usize = 64 << 10;

impl Engine {
    /// A memtable was published as a table; readers may still see it.
    pub fn note_published(&self, memtable: &Arc<MemoryLayer>) {
        self.pinned.lock().push(Arc::downgrade(memtable));
    }

    /// Moves memtables that are held for readers only out of memory, the oldest first, until the rest fits
    /// its share. What cannot be moved (a full disk) stays and is tried again.
    pub fn move_pinned(&self) {
        let mut pinned = self.pinned.lock();
        pinned.retain(|memtable| memtable.strong_count() > 0);
        let held: Vec<Arc<MemoryLayer>> = pinned.iter().filter_map(Weak::upgrade).collect();
        let mut bytes: usize = held.iter().map(|memtable| memtable.movable_bytes()).sum();
        let limit = self.options.pinned_limit();
        if bytes <= limit || self.options.read_mode == ReadMode::Pread {
            return;
        }
        for memtable in held.iter().filter(|memtable| memtable.movable_bytes() > WORTH_BYTES) {
            let moved =
                self.fs.private_file(&self.dir).and_then(|file| memtable.move_to_file(&*file));
            match moved {
                Ok(freed) => bytes -= freed.min(bytes),
                Err(_) => return,
            }
            if bytes <= limit {
                return;
            }
        }
    }
}
