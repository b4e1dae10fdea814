//! How the writing of tables gives way to commits.
//!
//! A commit that syncs the log waits for the flush of the disk, and with it for whatever else was handed to
//! the disk before. A table that is written as fast as its entries come makes a row of commits take
//! milliseconds instead of a tenth of one. So, while commits are synced, a table goes out in pieces of
//! [`PIECE_BYTES`], and behind each one some commits get their turn: until they brought the
//! [`TABLE_BYTES_PER_LOG_BYTE`]th part of the piece, or for [`PATIENCE`]. A large commit pays for up to
//! nine, so that tables keep up with it; where nobody syncs nobody waits.
//!
//! A file system that keeps what was written at once in one large folio of the page cache also hands it to
//! the disk at once; so the pieces are written in [`WRITE_BYTES`].
//!
//! Only time depends on any of this; who looks may see a moment between two changes.

use crate::stats::Counters;
use crate::sync::engine::sleep;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What of a table is handed to the disk at once while commits are synced, in bytes.
pub const PIECE_BYTES: usize = 256 << 10;
/// What of it is written at once, in bytes.
pub const WRITE_BYTES: usize = 64 << 10;
/// Each of the two that write tables may write so many times what commits do. More than a merge needs to
/// keep up: checkpoints and merges together write some ten times as much as commits.
const TABLE_BYTES_PER_LOG_BYTE: u64 = 24;
/// The longest wait for commits behind a piece: 128 MiB/s go out at least.
const PATIENCE: Duration = Duration::from_millis(2);
/// The most that one commit may bring beyond the share of a piece: eight pieces follow at once.
const CREDIT_MAX_BYTES: u64 = 8 * PIECE_BYTES as u64 / TABLE_BYTES_PER_LOG_BYTE;
/// [`Pace::turns`] behind a sync.
const TURNS: u8 = 2;
/// How often it is looked meanwhile, at least. (Schedules that a seed decides know no time.)
const LOOK: Duration = Duration::from_micros(100);

/// What the log tells those who write tables.
#[derive(Debug)]
pub struct Pacer {
    /// What the log wrote and synced: bytes that are to be synced count when they are.
    counters: Arc<Counters>,
    /// A sync of the log is under way.
    syncing: AtomicBool,
    /// Merges lag behind.
    hurried: AtomicBool,
}

impl Pacer {
    /// For the log that counts with `counters`.
    pub fn new(counters: Arc<Counters>) -> Pacer {
        Pacer { counters, syncing: AtomicBool::new(false), hurried: AtomicBool::new(false) }
    }

    /// A sync of the log begins, or has ended or failed. Only one thread at a time syncs.
    pub fn set_syncing(&self, syncing: bool) {
        self.syncing.store(syncing, Ordering::Relaxed);
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
    /// The log when the table last gave way.
    seen_bytes: u64,
    /// Log and syncs when a sync was last seen.
    synced_bytes: u64,
    seen_syncs: u64,
    /// What a large commit brought and no piece has used up yet.
    credit_bytes: u64,
    /// Behind so many more pieces commits get their turn, whether or not one is seen.
    turns: u8,
}

impl Pace {
    /// For a table that begins now.
    pub fn new(pacer: Arc<Pacer>) -> Pace {
        let (seen_bytes, seen_syncs) = (pacer.counters.log_bytes.get(), pacer.counters.syncs.get());
        Pace { pacer, seen_bytes, synced_bytes: seen_bytes, seen_syncs, credit_bytes: 0, turns: 0 }
    }

    /// Whether commits are being synced.
    pub fn has_company(&self) -> bool {
        let Pacer { counters, syncing, hurried } = &*self.pacer;
        !hurried.load(Ordering::Relaxed)
            && (self.turns > 0
                || syncing.load(Ordering::Relaxed)
                || counters.syncs.get() != self.seen_syncs)
    }

    /// A piece of `bytes` is on its way to the disk: lets commits go before the next one.
    pub fn give_way(&mut self, bytes: usize) {
        let share_bytes = bytes as u64 / TABLE_BYTES_PER_LOG_BYTE;
        if self.credit_bytes >= share_bytes {
            self.credit_bytes -= share_bytes;
            return;
        }
        let due_bytes = self.seen_bytes + share_bytes;
        let Pacer { counters, hurried, .. } = &*self.pacer;
        let began = Instant::now();
        for _ in 0..PATIENCE.as_micros() / LOOK.as_micros() {
            if counters.log_bytes.get() >= due_bytes || hurried.load(Ordering::Relaxed) {
                break;
            }
            sleep(LOOK);
            // A system may sleep for much longer than it is asked to.
            if cfg!(not(shuttle)) && began.elapsed() >= PATIENCE {
                break;
            }
        }
        let (log_bytes, syncs) = (counters.log_bytes.get(), counters.syncs.get());
        let came = syncs.saturating_sub(self.seen_syncs);
        self.turns = match came > 0 {
            true => TURNS,
            // A large commit is written before it is synced.
            false if log_bytes >= due_bytes => self.turns.saturating_sub(1),
            false => 0,
        };
        if let Some(each) = log_bytes.saturating_sub(self.synced_bytes).checked_div(came) {
            self.credit_bytes = each.saturating_sub(share_bytes).min(CREDIT_MAX_BYTES);
            (self.synced_bytes, self.seen_syncs) = (log_bytes, syncs);
        }
        self.seen_bytes = log_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES, Pace, Pacer, TABLE_BYTES_PER_LOG_BYTE};
    use std::sync::Arc;

    #[test]
    fn a_table_gives_way_while_commits_are_synced() {
        let pacer = Arc::new(Pacer::new(Arc::default()));
        let commit = |pacer: &Pacer, bytes| {
            pacer.counters.syncs.add_alone(1);
            pacer.counters.log_bytes.add_alone(bytes);
        };
        commit(&pacer, 4096);
        let mut pace = Pace::new(pacer.clone());
        assert!(!pace.has_company(), "what was synced before the table does not count");
        pacer.counters.log_bytes.add_alone(4096);
        assert!(!pace.has_company(), "nor does what is only written");
        pacer.set_syncing(true);
        assert!(pace.has_company(), "a commit waits for the disk");
        pacer.set_syncing(false);
        commit(&pacer, 4096);
        assert!(pace.has_company(), "one did");
        pace.give_way(PIECE_BYTES);
        assert!(pace.has_company(), "the next one is about to");
        pace.give_way(PIECE_BYTES);
        assert!(!pace.has_company(), "none came");

        let due = PIECE_BYTES as u64 / TABLE_BYTES_PER_LOG_BYTE;
        let others = pacer.clone();
        let commits = std::thread::spawn(move || (0..due).for_each(|_| commit(&others, 1)));
        while !commits.is_finished() {
            pace.give_way(PIECE_BYTES);
        }
        commits.join().unwrap();
        pacer.set_syncing(true);
        assert!(pace.has_company());
        pacer.set_hurried(true);
        assert!(!pace.has_company(), "merges lag behind");
    }

    #[test]
    fn a_large_commit_pays_for_several_pieces_and_small_ones_for_one() {
        let share = PIECE_BYTES as u64 / TABLE_BYTES_PER_LOG_BYTE;
        let pieces_paid = |commits: &[u64]| {
            let pacer = Arc::new(Pacer::new(Arc::default()));
            let mut pace = Pace::new(pacer.clone());
            for bytes in commits {
                pacer.counters.log_bytes.add_alone(*bytes);
                pacer.counters.syncs.add_alone(1);
            }
            let mut pieces = 0;
            while pace.has_company() {
                pace.give_way(PIECE_BYTES);
                pieces += 1;
                assert!(pieces < 1000);
            }
            // Behind the last of them it was waited in vain.
            pieces - 1
        };
        assert_eq!(pieces_paid(&[share]), 1);
        assert_eq!(pieces_paid(&[share / 4; 40]), 1, "they passed before");
        assert_eq!(pieces_paid(&[share * 5]), 5);
        assert_eq!(pieces_paid(&[share * 5; 3]), 5, "the others passed before");
        assert_eq!(pieces_paid(&[share * 1000]), 9);
    }
}
