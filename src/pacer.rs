//! How the writing of tables gives way to commits.
//!
//! A commit that syncs the log waits for the flush of the disk, and with it for whatever else was handed to
//! the disk before. A table that is written as fast as its entries come makes a row of commits take
//! milliseconds instead of a tenth of one. So, while commits are synced, a table goes out in pieces of
//! [`PIECE_BYTES`], and behind each one some commits get their turn: until they synced the
//! [`TABLE_BYTES_PER_LOG_BYTE`]th part of the piece, or for [`PATIENCE`]. Where commits are large they bring
//! enough at once, and where nobody commits nobody waits.
//!
//! A file system that keeps what was written at once in one large folio of the page cache also hands it to
//! the disk at once; so the pieces are written in [`WRITE_BYTES`].
//!
//! Only time depends on any of this; who looks may see a moment between two changes.

use crate::sync::engine::sleep;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What of a table is handed to the disk at once while commits are synced, in bytes.
pub const PIECE_BYTES: usize = 256 << 10;
/// What of it is written at once, in bytes.
pub const WRITE_BYTES: usize = 64 << 10;
/// Each of the two that write tables may write so many times what commits do. More than a merge needs to
/// keep up: checkpoints and merges together write some ten times as much as commits.
const TABLE_BYTES_PER_LOG_BYTE: u64 = 24;
/// The longest wait for commits behind a piece: 128 MiB/s go out at least.
const PATIENCE: Duration = Duration::from_millis(2);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_micros(100);

/// What the log tells those who write tables.
#[derive(Debug, Default)]
pub struct Pacer {
    /// Bytes of log that were synced.
    synced_bytes: AtomicU64,
    /// A sync of the log is under way.
    syncing: AtomicBool,
    /// Merges lag behind.
    hurried: AtomicBool,
}

impl Pacer {
    /// A sync of the log begins.
    pub fn sync_begins(&self) {
        self.syncing.store(true, Ordering::Relaxed);
    }

    /// It has ended, and so many bytes are durable by it. Only one thread at a time syncs.
    pub fn sync_ended(&self, bytes: u64) {
        let before = self.synced_bytes.load(Ordering::Relaxed);
        self.synced_bytes.store(before + bytes, Ordering::Relaxed);
        self.syncing.store(false, Ordering::Relaxed);
    }

    /// Whether tables are to be written as fast as they can.
    pub fn set_hurried(&self, hurried: bool) {
        self.hurried.store(hurried, Ordering::Relaxed);
    }
}

/// One table that gives way.
#[derive(Debug)]
pub struct Pace {
    pacer: Arc<Pacer>,
    /// What was synced when the table last gave way.
    seen_bytes: u64,
    /// There were commits when it last did.
    had_company: bool,
}

impl Pace {
    /// For a table that begins now.
    pub fn new(pacer: Arc<Pacer>) -> Pace {
        let seen_bytes = pacer.synced_bytes.load(Ordering::Relaxed);
        Pace { pacer, seen_bytes, had_company: false }
    }

    /// Whether commits are being synced.
    pub fn has_company(&self) -> bool {
        let Pacer { synced_bytes, syncing, hurried } = &*self.pacer;
        !hurried.load(Ordering::Relaxed)
            && (self.had_company
                || syncing.load(Ordering::Relaxed)
                || synced_bytes.load(Ordering::Relaxed) != self.seen_bytes)
    }

    /// A piece of `bytes` is on its way to the disk: lets commits go before the next one.
    pub fn give_way(&mut self, bytes: usize) {
        let due_bytes = self.seen_bytes + bytes as u64 / TABLE_BYTES_PER_LOG_BYTE;
        let synced_bytes = || self.pacer.synced_bytes.load(Ordering::Relaxed);
        for _ in 0..PATIENCE.as_micros() / LOOK.as_micros() {
            if synced_bytes() >= due_bytes || self.pacer.hurried.load(Ordering::Relaxed) {
                break;
            }
            sleep(LOOK);
        }
        let synced_bytes = synced_bytes();
        self.had_company = synced_bytes != self.seen_bytes;
        self.seen_bytes = synced_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES, Pace, Pacer, TABLE_BYTES_PER_LOG_BYTE};
    use std::sync::Arc;

    #[test]
    fn a_table_gives_way_while_commits_are_synced() {
        let pacer = Arc::new(Pacer::default());
        pacer.sync_ended(4096);
        let mut pace = Pace::new(pacer.clone());
        assert!(!pace.has_company(), "what was synced before the table does not count");
        pacer.sync_begins();
        assert!(pace.has_company(), "a commit waits for the disk");
        pacer.sync_ended(4096);
        assert!(pace.has_company(), "one did");
        pace.give_way(PIECE_BYTES);
        assert!(pace.has_company(), "the next one is about to");
        pace.give_way(PIECE_BYTES);
        assert!(!pace.has_company(), "none came");

        let due = PIECE_BYTES as u64 / TABLE_BYTES_PER_LOG_BYTE;
        pacer.sync_begins();
        let others = pacer.clone();
        let commits = std::thread::spawn(move || (0..due).for_each(|_| others.sync_ended(1)));
        while !commits.is_finished() {
            pace.give_way(PIECE_BYTES);
        }
        commits.join().unwrap();
        pacer.sync_begins();
        assert!(pace.has_company());
        pacer.set_hurried(true);
        assert!(!pace.has_company(), "merges lag behind");
    }
}
