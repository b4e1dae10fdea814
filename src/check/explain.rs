//! The forecast: what opening a directory would do, from the recovery's own plan.
//!
//! Invariant: it is the plan that the open itself follows; nothing is written and no lock is taken.

use crate::error::Result;
use crate::fs::FileSystem;
use crate::lock;
use crate::recovery::plan::{OpenPlan, Plan, table_metas};
use crate::recovery::reading::plan_for_reading;
use crate::types::{DatabaseId, Epoch, Generation, Lsn, Seqno};
use std::path::Path;

/// What an open would do. From [`explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forecast {
    /// It would create a database: nothing is there.
    Create,
    /// It would open the database.
    Open(Box<Explanation>),
}

/// What a database consists of and what opening it would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The database's random name.
    pub database: DatabaseId,
    /// Generation of the manifest.
    pub generation: Generation,
    /// The last epoch that was started.
    pub last_epoch: Epoch,
    /// When it was made, in microseconds since 1970.
    pub created_micros: u64,
    /// When the manifest was written, in microseconds since 1970.
    pub manifest_written_micros: u64,
    /// It was closed cleanly: opening it writes nothing.
    pub clean: bool,
    /// It was put together by [`salvage`](crate::salvage): something may be missing in it, for ever.
    pub salvaged: bool,
    /// All commits up to this one are in tables.
    pub checkpoint_seqno: Seqno,
    /// A replay starts here.
    pub checkpoint_lsn: Lsn,
    /// The last commit.
    pub last_seqno: Seqno,
    /// When the last replayed commit was made, in microseconds since 1970; 0 if none is replayed.
    pub last_commit_micros: u64,
    /// Where the log ends.
    pub tail: Lsn,
    /// Groups, transactions, operations and bytes of log to replay.
    pub replay: Replay,
    /// Bytes past the last valid group that would be cut: written, never promised.
    pub trim_bytes: u64,
    /// Transactions that began in the log and never ended; they would be rolled back.
    pub unfinished_transactions: u64,
    /// The last groups have no witness: damage to them could not be told from a torn write.
    pub unwitnessed_tail: bool,
    /// Keyspaces that the manifest lists, with their numbers.
    pub keyspaces: Vec<(String, u32)>,
    /// Sorted runs, newest first: files and bytes.
    pub runs: Vec<RunSummary>,
    /// Files of ours that nothing needs and that the first write would remove.
    pub orphans: Vec<String>,
    /// Log files that hold nothing live and that the first write would reuse.
    pub dead_segments: Vec<String>,
    /// Names in the directory that are not ours.
    pub foreign: Vec<String>,
}

/// Log to replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Groups.
    pub groups: u64,
    /// Whole transactions.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One run of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// 0: upper; 1: base.
    pub level: u8,
    /// Files.
    pub tables: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
}

/// Says what opening `dir` would do, from the plan that the open itself follows.
///
/// # Errors
/// What the open would refuse with: [`Error::Damage`](crate::Error::Damage),
/// [`Error::Unsupported`](crate::Error::Unsupported),
/// [`Error::NotADatabase`](crate::Error::NotADatabase), [`Error::Io`](crate::Error::Io).
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::check::{Forecast, explain};
/// use highwater::fs::os::OsFileSystem;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// highwater::Database::open(&path)?.keyspace("users")?.insert("ada", "1815")?;
/// let Forecast::Open(found) = explain(&OsFileSystem::new(), &path)? else { panic!() };
/// assert!(found.clean);
/// assert_eq!(found.replay.transactions, 2); // the keyspace and the insert
/// # Ok(())
/// # }
/// ```
pub fn explain(fs: &dyn FileSystem, dir: impl AsRef<Path>) -> Result<Forecast> {
    let dir = dir.as_ref();
    let found = plan_for_reading(fs, dir)?;
    lock::check(fs, dir)?;
    Ok(match found {
        Plan::Create => Forecast::Create,
        Plan::Open(found) => Forecast::Open(Box::new(explanation(dir, &found)?)),
    })
}

/// A plan in words.
pub(crate) fn explanation(dir: &Path, found: &OpenPlan) -> Result<Explanation> {
    let manifest = &found.manifest;
    let mut runs: Vec<RunSummary> = manifest
        .runs
        .iter()
        .map(|run| RunSummary { level: run.level, tables: 0, bytes: 0, entries: 0, tombstones: 0 })
        .collect();
    for (run, meta) in table_metas(dir, manifest)? {
        runs[run].tables += 1;
        runs[run].bytes += meta.file_bytes;
        runs[run].entries += meta.entries;
        runs[run].tombstones += meta.tombstones;
    }
    Ok(Explanation {
        database: manifest.database,
        generation: manifest.generation,
        last_epoch: manifest.last_epoch,
        created_micros: manifest.created_micros,
        manifest_written_micros: manifest.written_micros,
        clean: manifest.clean,
        salvaged: manifest.salvaged,
        checkpoint_seqno: manifest.checkpoint_seqno,
        checkpoint_lsn: manifest.checkpoint_lsn,
        last_seqno: found.last_seqno,
        last_commit_micros: found.last_commit_micros,
        tail: found.tail.at,
        replay: Replay {
            groups: found.spans.iter().map(|span| span.groups).sum(),
            transactions: found.transactions,
            operations: found.operations,
            bytes: found.replay_bytes,
        },
        trim_bytes: found.tail.cut_bytes,
        unfinished_transactions: found.tail.unfinished_transactions,
        unwitnessed_tail: found.tail.unwitnessed,
        keyspaces: manifest.keyspaces.iter().map(|k| (k.name.clone(), k.id.get())).collect(),
        runs,
        orphans: found.orphans.clone(),
        dead_segments: found.dead_segments.iter().map(|s| s.name.clone()).collect(),
        foreign: found.foreign.clone(),
    })
}
