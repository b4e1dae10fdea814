//! Recovery: from the bytes on disk to a state that holds every acknowledged commit.
//!
//! 1. [`directory`]: what lies there, and the manifest.
//! 2. [`plan`] reads the live log ([`walk`]), decides where it ends ([`decide`]) and what every file is.
//!    It writes nothing.
//! 3. [`apply`] replays ([`replay`]) into memory, or, after an unclean stop, into new tables.
//!
//! Invariants: a plan that refuses has changed nothing; whatever is cut was vouched for by nothing; the
//! replay takes exactly the groups that the plan saw; bytes that were cut can never be read again,
//! because the next epoch starts elsewhere with another salt.

pub mod apply;
pub mod decide;
pub mod directory;
pub mod plan;
pub mod reading;
pub mod replay;
#[cfg(test)]
mod testlog;
pub mod walk;

use crate::types::{FileId, Lsn, Seqno};
use crate::wal::space::Spare;

/// What opening a database found and did. From [`Database::recovery`](crate::Database::recovery).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The database was made by this open.
    pub created: bool,
    /// The database had been closed cleanly.
    pub clean: bool,
    /// Transactions replayed from the log.
    pub replayed_transactions: u64,
    /// Operations in them.
    pub replayed_operations: u64,
    /// Bytes of log read for them.
    pub replayed_bytes: u64,
    /// Bytes cut from the end of the log: written, never promised.
    pub trimmed_bytes: u64,
    /// Transactions in the log without their end, rolled back.
    pub unfinished_transactions: u64,
    /// The last groups before the stop had no witness: damage to them could not be told from a torn
    /// write. A clean close, and a pause of the log, leave none.
    pub unwitnessed_tail: bool,
    /// The last commit that was recovered.
    pub last_seqno: Seqno,
    /// Where the log ended.
    pub tail: Lsn,
    /// Tables written by the recovery.
    pub tables_written: u64,
    /// Time that the open took, in microseconds.
    pub micros: u64,
}

/// What the open leaves for the first write.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    pub report: Recovery,
    /// Tables that the recovery wrote.
    pub written: Vec<FileId>,
    /// Files that nothing needs.
    pub orphans: Vec<String>,
    pub dead_segments: Vec<Spare>,
    /// Segments that hold log which a replay would still need, with the LSN past them.
    pub live_segments: Vec<(Lsn, Spare)>,
    /// Past every LSN that was ever handed out.
    pub log_end: Lsn,
    /// The log holds commits that no table holds.
    pub live_log: bool,
    /// What was recovered is published, in a new epoch, before the database is handed out.
    pub must_start: bool,
}

impl RecoveryReport {
    /// Whether there are log files of earlier epochs.
    pub fn has_segments(&self) -> bool {
        !self.dead_segments.is_empty() || !self.live_segments.is_empty()
    }
}
