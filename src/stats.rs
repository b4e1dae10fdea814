//! Counters of what the engine did, and the snapshot of them that users get.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that many threads may bump.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// As [`Counter::add`] where only one thread at a time adds: what spares a commit an instruction that locks.
    pub fn add_alone(&self, count: u64) {
        self.0.store(self.get() + count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The engine's counters since the database was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub commits: Counter,
    pub groups: Counter,
    pub syncs: Counter,
    pub log_bytes: Counter,
    pub table_bytes: Counter,
    pub checkpoints: Counter,
    pub merges: Counter,
    pub stalls: Counter,
    pub stall_micros: Counter,
    pub spills: Counter,
    pub conflicts: Counter,
}

/// What a database did since it was opened, and what it holds now. From [`Database::stats`](crate::Database::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Transactions that changed something and were committed.
    pub commits: u64,
    /// Groups written to the log.
    pub groups: u64,
    /// Syncs of log segments. `commits / syncs` tells how well commits share them.
    pub syncs: u64,
    /// Bytes written to the log, headers and padding included.
    pub log_bytes: u64,
    /// Bytes written to tables by checkpoints, merges and spills.
    pub table_bytes: u64,
    /// Memtables written as tables.
    pub checkpoints: u64,
    /// Merges of tables.
    pub merges: u64,
    /// Commits that had to wait for a checkpoint because memory was full.
    pub stalls: u64,
    /// Microseconds spent in those waits, and in short pauses while merges lag behind.
    pub stall_micros: u64,
    /// Parts of large transactions that were written to private tables.
    pub spills: u64,
    /// Optimistic transactions that ended in a conflict.
    pub conflicts: u64,
    /// Bytes that memtables hold now, the frozen ones included.
    pub memtable_bytes: u64,
    /// Bytes of all live tables.
    pub live_table_bytes: u64,
    /// Bytes of memory that the tables' indexes and filters hold.
    pub index_bytes: u64,
    /// Live tables.
    pub tables: u64,
    /// Sorted runs that a read may have to look into.
    pub runs: u64,
    /// Bytes of all log files, the spare ones included.
    pub log_file_bytes: u64,
    /// Bytes of log that a crash now would make the next open read.
    pub live_log_bytes: u64,
    /// Bytes of released log that wait for the archive. More than a few segments for more than a moment:
    /// it fails ([`Builder::archive`](crate::Builder::archive)).
    pub archive_held_bytes: u64,
}
