//! The manifest: what the database consists of. Live tables, where the log starts, keyspaces, epochs,
//! features. Small, checksummed, replaced atomically.
//!
//! [`codec`] turns it to bytes and back, [`names`] knows the names of all files of the directory; both
//! are pure. `docs/format.md` holds the grammar.
//!
//! Invariants of every manifest that was decoded:
//!
//! 1. Generation and next file id are not zero; all counters are below
//!    [`COUNTER_LIMIT`](crate::wal::COUNTER_LIMIT).
//! 2. Keyspace ids are below the next one; neither an id nor a name appears twice.
//! 3. Epochs ascend, none is above `last_epoch`, and their ranges do not overlap. All but the last have
//!    an end: a new epoch is named only once it is known where the one before it ended.
//! 4. If `clean`, no epoch is open.
//! 5. `segment_base <= checkpoint_lsn`; the base is a multiple of the block, the LSN one of 8.

pub mod codec;
pub mod mend;
pub mod names;
mod reader;

use crate::types::{DatabaseId, Epoch, FileId, Generation, KeyspaceId, Lsn, Seqno};

/// Read-only features that this version knows. With unknown ones, a database can be read, not written.
pub const READ_ONLY_FEATURES_KNOWN: u64 = 0;
/// Incompatible features that this version knows. With unknown ones, a database cannot be opened.
pub const INCOMPATIBLE_FEATURES_KNOWN: u64 = 0;
/// Highest level of a run that the format has room for.
pub const MAX_RUN_LEVEL: u8 = 7;

/// Which parts of the format a database uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A version that does not know these may read and write.
    pub compatible: u64,
    /// A version that does not know these may read.
    pub read_only: u64,
    /// A version that does not know these must keep its hands off.
    pub incompatible: u64,
}

impl Features {
    /// Whether this version may write.
    pub const fn read_only_features_supported(&self) -> bool {
        self.read_only & !READ_ONLY_FEATURES_KNOWN == 0
    }

    /// Whether this version may open the database at all.
    pub const fn incompatible_features_supported(&self) -> bool {
        self.incompatible & !INCOMPATIBLE_FEATURES_KNOWN == 0
    }
}

/// The part of the log that one epoch writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochRange {
    /// The epoch.
    pub epoch: Epoch,
    /// Its random salt.
    pub salt: u64,
    /// The first LSN that it may write.
    pub start: Lsn,
    /// Where it ended, if it was closed or recovered: the manifest vouches for everything below.
    pub end: Option<Lsn>,
}

/// A keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEntry {
    /// Its id.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// The commit that created it.
    pub created: Seqno,
}

/// Tables that together hold at most one version of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunEntry {
    /// The oldest commit in it.
    pub min_seqno: Seqno,
    /// The newest commit in it.
    pub max_seqno: Seqno,
    /// 0 upper, 1 base; at most [`MAX_RUN_LEVEL`].
    pub level: u8,
    /// Encoded table metas, opaque here, ascending by key range, each of 1 to
    /// [`MAX_TABLE_META_BYTES`](crate::wal::operation::MAX_TABLE_META_BYTES) bytes.
    pub tables: Vec<Vec<u8>>,
}

/// What the database consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Grows by one with every publication; the first is 1.
    pub generation: Generation,
    /// The database.
    pub database: DatabaseId,
    /// The parts of the format that it uses.
    pub features: Features,
    /// When the database was created, in microseconds since 1970.
    pub created_micros: u64,
    /// When this manifest was written.
    pub written_micros: u64,
    /// The next table file gets this number.
    pub next_file_id: FileId,
    /// The next keyspace gets this number.
    pub next_keyspace_id: KeyspaceId,
    /// All commits up to and including this one are in tables.
    pub checkpoint_seqno: Seqno,
    /// Replay starts here, at a group boundary.
    pub checkpoint_lsn: Lsn,
    /// Base of the segment that holds `checkpoint_lsn`; older segments are dead.
    pub segment_base: Lsn,
    /// Length of the next segment that is made.
    pub next_segment_bytes: u64,
    /// The epochs of the live log, ascending.
    pub epochs: Vec<EpochRange>,
    /// The last epoch that was ever named; 0 before the first.
    pub last_epoch: Epoch,
    /// Whether the database was closed cleanly.
    pub clean: bool,
    /// Whether the database was put together by salvage.
    pub salvaged: bool,
    /// The keyspaces.
    pub keyspaces: Vec<KeyspaceEntry>,
    /// The tables, newest run first.
    pub runs: Vec<RunEntry>,
}

impl Manifest {
    /// Whether this version may write to the database.
    pub const fn read_only_features_supported(&self) -> bool {
        self.features.read_only_features_supported()
    }
}
