//! Memtables that are in tables already and that snapshots still see.
//!
//! A snapshot reads the memtables that it was taken with: they hold the versions of its moment, which the
//! tables may not. Snapshots of many moments would keep many memtables in memory. So when these take more
//! than a quarter of the memory budget, the oldest move into files without a name, at the same addresses:
//! readers notice nothing, values that were borrowed stay, and the system reads pages back as they are
//! needed. The disk space is free again when the last snapshot is dropped, or the process dies.
//!
//! Whoever reads or writes while a memtable is published holds it too, and leaves within moments: [`LEAVING`] is
//! waited for that, because moving costs the whole memtable once more on the disk.
//!
//! Not with [`ReadMode::Pread`](crate::ReadMode), which promises that no failing disk can raise a signal,
//! and not where the file system has no such files: there snapshots are limited by memory.

use crate::engine::Engine;
use crate::sync::engine::sleep;
use crate::table::ReadMode;
use crate::view::MemoryLayer;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Memtables with less than this stay, in bytes.
const WORTH_BYTES: usize = 64 << 10;
/// How long readers have to leave a memtable that was just published.
const LEAVING: Duration = Duration::from_millis(20);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_micros(500);

impl Engine {
    /// A memtable was published as a table; readers may still see it.
    pub fn note_published(&self, memtable: &Arc<MemoryLayer>) {
        self.pinned.lock().push(Arc::downgrade(memtable));
    }

    /// Lets those leave who hold the last memtable only because they were at work when it was published.
    fn wait_for_leaving(&self) {
        let limit = self.options.pinned_limit();
        let is_held = || {
            let pinned = self.pinned.lock();
            let bytes = |memtable: &Weak<MemoryLayer>| Some(memtable.upgrade()?.movable_bytes());
            let last = pinned.last().and_then(bytes).unwrap_or(0);
            last > WORTH_BYTES && pinned.iter().filter_map(bytes).sum::<usize>() > limit
        };
        for _ in 0..LEAVING.as_micros() / LOOK.as_micros() {
            if !is_held() {
                return;
            }
            sleep(LOOK);
        }
    }

    /// Moves memtables that are held for readers only out of memory, the oldest first, until the rest fits
    /// its share. What cannot be moved (a full disk) stays and is tried again.
    pub fn move_pinned(&self) {
        let can_move = cfg!(target_os = "linux") && self.options.read_mode != ReadMode::Pread;
        // Without threads it is a reader or writer, if any, that waits here.
        if can_move && self.options.background {
            self.wait_for_leaving();
        }
        let mut pinned = self.pinned.lock();
        pinned.retain(|memtable| memtable.strong_count() > 0);
        let held: Vec<Arc<MemoryLayer>> = pinned.iter().filter_map(Weak::upgrade).collect();
        let mut bytes: usize = held.iter().map(|memtable| memtable.movable_bytes()).sum();
        let limit = self.options.pinned_limit();
        if bytes <= limit || !can_move {
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

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests {
    use crate::{Database, Durability};
    use std::time::{Duration, Instant};

    #[test]
    fn a_memtable_stays_in_memory_for_readers_that_are_about_to_leave() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::builder().memory_budget(12 << 20).open(dir.path()).unwrap();
        if db.engine.fs.private_file(dir.path()).is_err() {
            return;
        }
        let keyspace = db.keyspace("items").unwrap();
        let mut stayed = 0;
        for _ in 0..20 {
            // Less than a memtable takes, and more than readers may hold.
            for i in 0..3_200_u32 {
                keyspace.insert_with(i.to_be_bytes(), [7; 1000], Durability::Memory).unwrap();
            }
            db.engine.chunks.trim(0);
            let snapshot = db.snapshot();
            let (checkpoints, engine) = (db.stats().checkpoints, db.engine.clone());
            let reader = std::thread::spawn(move || {
                let began = Instant::now();
                while engine.stats().checkpoints == checkpoints {
                    assert!(began.elapsed() < Duration::from_secs(20));
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_millis(2));
                drop(snapshot);
            });
            db.checkpoint().unwrap();
            reader.join().unwrap();
            // What was moved into a file is no memory for the next memtable.
            stayed += u32::from(db.engine.chunks.bytes() > db.engine.options.pinned_limit());
        }
        assert!(stayed >= 5, "{stayed} of 20");
        db.close().unwrap();
    }
}
