//! From a backup to a new database: as it was then, or, with the log that followed, at any later point.
//!
//! Every block of a table is bound to its database by its checksum, and a restored database gets a new id
//! (two databases of one id that go separate ways would each take the other's log for its own). So its
//! tables are written anew: the backup's runs are merged into one base, which checks every block on the
//! way. The log that is asked for is read group by group from the directories that hold it (an archive, or
//! the old database), applied in commit order without a gap, and becomes tables above the base.
//!
//! Invariants: the backup, the archive and the old database are only read; the manifest of the new one is
//! written last; a point that the log does not reach, or reaches over a gap, is an error and never
//! another point.

use super::format::{BackupRecord, backup_name};
use super::list::{choose, list};
use super::log::{Log, Reached};
use super::repository::read_record;
use crate::catalog::Catalog;
use crate::checkpoint::write::{Purpose, TableWriter};
use crate::content::ContentHash;
use crate::engine::{Home, live_table};
use crate::error::{Error, Result};
use crate::fresh;
use crate::fs::FileSystem;
use crate::fs::removal::Remover;
use crate::manifest::{Manifest, RunEntry};
use crate::options::{Builder, Sizes};
use crate::recovery::plan::table_metas;
use crate::stats::Counters;
use crate::table::{BlockCache, ReadMode, TableMeta};
use crate::types::{DatabaseId, FileId, Generation, Lsn, Seqno};
use crate::view::Run;
use crate::wal::buffer::align_up;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Up to where to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// The backup as it is, without any log.
    Backup,
    /// Every commit whose LSN is at or below this one (a commit returns the LSN just past it).
    Lsn(Lsn),
    /// Every commit made at or before this time, in microseconds since 1970, by the clock of then.
    Time(u64),
    /// As far as the log goes without a gap: before the first damage.
    Damage,
}

/// What to restore, and from where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// The directory of backups.
    pub repository: PathBuf,
    /// Which backup; `None`: the newest that lies at or before the point.
    pub number: Option<u64>,
    /// Directories with log: an archive, the old database's own.
    pub logs: Vec<PathBuf>,
    /// Up to where.
    pub until: Until,
}

impl Request {
    /// The newest backup as it is.
    pub fn new(repository: impl Into<PathBuf>) -> Request {
        Request {
            repository: repository.into(),
            number: None,
            logs: Vec::new(),
            until: Until::Backup,
        }
    }

    /// A certain backup.
    pub fn number(mut self, number: Option<u64>) -> Request {
        self.number = number;
        self
    }

    /// One more directory with log.
    pub fn log(mut self, directory: impl Into<PathBuf>) -> Request {
        self.logs.push(directory.into());
        self
    }

    /// Up to where.
    pub fn until(mut self, until: Until) -> Request {
        self.until = until;
        self
    }
}

/// A database that was restored, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Number of the backup.
    pub number: u64,
    /// The database that was backed up.
    pub source_database: DatabaseId,
    /// The new database's id; that of the source if nothing was written.
    pub database: DatabaseId,
    /// The last commit.
    pub seqno: Seqno,
    /// Its LSN; the backup's, if no log was applied.
    pub lsn: Lsn,
    /// When that commit was made, in microseconds since 1970; 0 if no log was applied.
    pub last_commit_micros: u64,
    /// Commits taken from the log.
    pub transactions: u64,
    /// Commits behind this one are missing in the log; the restore ends before them.
    pub gap_after: Option<Seqno>,
    /// Of a restore to a time: the log ends before it, and the database's own directory was not among those
    /// given. If the database went on, its last commits lie elsewhere.
    pub end_unsure: bool,
    /// Tables written.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What [`drill`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drilled {
    /// The restore.
    pub restored: Restored,
    /// The content hash of the restored database.
    pub content: ContentHash,
    /// The one that was taken with the backup, if it was.
    pub expected: Option<ContentHash>,
}

impl Drilled {
    /// Whether the restored database is the one that was backed up; `None` if the backup has no hash.
    pub fn is_same(&self) -> Option<bool> {
        self.expected.map(|expected| expected == self.content)
    }
}

/// Makes a new database in `target` from a backup as it is. See [`restore_to`].
///
/// # Errors
/// As [`restore_to`].
pub fn restore(
    fs: &Arc<dyn FileSystem>,
    repository: impl AsRef<Path>,
    number: Option<u64>,
    target: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored> {
    restore_to(fs, &Request::new(repository.as_ref()).number(number), target, progress)
}

/// Makes a new database in `target`, which is missing or empty, at the point that is asked for. It gets a
/// new id; LSNs and commit numbers go on from the old ones. `progress` is told how many bytes of tables
/// were read.
///
/// Costs a full read of the backup and of the log, and a write of the new database; then everything
/// that was written is read and checked.
///
/// # Errors
/// [`Error::NotFound`] if there is no such backup, or none at or before the point;
/// [`Error::InvalidArgument`] if the log does not reach the point or the target is not new;
/// [`Error::LogGap`] if commits are missing in the log before the point (with [`Until::Damage`] that is
/// where it ends); [`Error::Damage`] if the backup, or a table that the log needs, is damaged or missing;
/// [`Error::NoSpace`], [`Error::Io`]. Tables that were written
/// before an error are removed.
pub fn restore_to(
    fs: &Arc<dyn FileSystem>,
    request: &Request,
    target: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored> {
    let target = target.as_ref();
    for source in request.logs.iter().chain([&request.repository]) {
        fresh::check_place(&**fs, source, target)?;
    }
    let (record, log, reached) = prepare(fs, request)?;
    let id = fresh::new_database_id(&**fs, target)?;
    fresh::make_place(&**fs, target)?;
    let (options, counters) = (Builder::default(), Counters::default());
    let writer = TableWriter {
        fs,
        dir: target,
        database: id,
        options: &options,
        counters: &counters,
        purpose: Purpose::Copy,
        pacer: None,
    };
    let mut next = FileId(1);
    let outcome = write(&writer, request, &record, &log, &reached, &mut next, progress);
    let outcome = outcome.and_then(|restored| {
        crate::check::expect_sound(fs, target)?;
        Ok(restored)
    });
    if outcome.is_err() {
        let manifest = target.join(crate::manifest::names::MANIFEST_NAME);
        if fs.kind(&manifest).is_ok_and(|kind| kind != crate::fs::PathKind::Missing) {
            let _ = fs.remove(&manifest);
        }
        (1..next.get()).for_each(|id| writer.discard(FileId(id)));
    }
    outcome
}

/// What [`restore_to`] would do. Reads the backup's own file and the log; writes nothing.
///
/// # Errors
/// As [`restore_to`], but for what only a read of the tables would show.
pub fn plan_restore(fs: &Arc<dyn FileSystem>, request: &Request) -> Result<Restored> {
    let (record, _, reached) = prepare(fs, request)?;
    Ok(Restored { bytes: record.files.iter().map(|f| f.bytes).sum(), ..report(&record, &reached) })
}

/// Restores a backup into `scratch`, checks every byte of the result, and compares its content with the
/// hash that was taken with the backup. What was written stays; remove it when the report was read.
///
/// # Errors
/// As [`restore`]. A hash that differs is no error: see [`Drilled::is_same`].
pub fn drill(
    fs: &Arc<dyn FileSystem>,
    repository: impl AsRef<Path>,
    number: Option<u64>,
    scratch: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Drilled> {
    let (repository, scratch) = (repository.as_ref(), scratch.as_ref());
    let restored = restore(fs, repository, number, scratch, progress)?;
    let expected = read_record(&**fs, repository, restored.number)?.content;
    let builder = Builder::default().file_system(fs.clone()).read_only(true);
    let db = builder.read_mode(ReadMode::Pread).open(scratch)?;
    let content = db.snapshot().content_hash()?;
    Ok(Drilled { restored, content, expected })
}

/// Chooses the backup, reads the log, and finds out how far it leads.
fn prepare(fs: &Arc<dyn FileSystem>, request: &Request) -> Result<(BackupRecord, Log, Reached)> {
    let repository = &request.repository;
    let number = match (request.number, request.until) {
        (None, Until::Lsn(lsn)) => newest(&**fs, repository, &|b| b.lsn <= lsn)?,
        (None, Until::Time(time)) => newest(&**fs, repository, &|b| b.taken_micros <= time)?,
        (number, _) => choose(&**fs, repository, number)?,
    };
    let record = read_record(&**fs, repository, number)?;
    if let Until::Lsn(lsn) = request.until
        && lsn < record.lsn
    {
        return Err(Error::InvalidArgument(format!(
            "backup {number} holds commits up to LSN {}, past {lsn}; choose an earlier backup",
            record.lsn
        )));
    }
    let log = match request.until {
        Until::Backup => Log::default(),
        _ if request.logs.is_empty() => {
            return Err(Error::InvalidArgument(
                "a point behind the backup needs the log that followed; name the archive, or the old \
                 database's directory"
                    .to_owned(),
            ));
        }
        _ => Log::read(&**fs, &request.logs, record.database)?,
    };
    let reached = log.reach(&**fs, &record, request.until)?;
    Ok((record, log, reached))
}

/// The newest readable backup that fits. A damaged one that might fit better is an error, not passed over.
fn newest(
    fs: &dyn FileSystem,
    repository: &Path,
    fits: &dyn Fn(&super::Backup) -> bool,
) -> Result<u64> {
    for listed in list(fs, repository)?.into_iter().rev() {
        let backup = listed.backup?;
        if fits(&backup) {
            return Ok(backup.number);
        }
    }
    Err(Error::InvalidArgument(format!(
        "{0} holds no backup at or before that point; `highwater backup list {0}` shows what there is",
        repository.display()
    )))
}

fn report(record: &BackupRecord, reached: &Reached) -> Restored {
    Restored {
        number: record.number,
        source_database: record.database,
        database: record.database,
        seqno: reached.seqno,
        lsn: reached.lsn,
        last_commit_micros: reached.last_commit_micros,
        transactions: reached.transactions,
        gap_after: reached.gap_after,
        end_unsure: reached.end_unsure,
        tables: 0,
        bytes: 0,
    }
}

fn write(
    writer: &TableWriter<'_>,
    request: &Request,
    record: &BackupRecord,
    log: &Log,
    reached: &Reached,
    next: &mut FileId,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored> {
    let fs = writer.fs;
    let catalog = Catalog::new(&reached.keyspaces, reached.next_keyspace_id);
    let base = merge_base(writer, request, record, &catalog, next)?;
    progress(record.files.iter().map(|file| file.bytes).sum());
    let mut runs: Vec<(Seqno, Seqno, u8, Vec<TableMeta>)> = Vec::new();
    if !base.is_empty() {
        runs.push((record.seqno, record.seqno, 1, base));
    }
    log.write(writer, record, reached, &catalog, next, &mut runs)?;
    let mut restored = report(record, reached);
    restored.database = writer.database;
    restored.tables = runs.iter().map(|run| run.3.len() as u64).sum();
    restored.bytes = runs.iter().flat_map(|run| &run.3).map(|meta| meta.file_bytes).sum();

    let lsn = align_up(reached.lsn.max(record.manifest.checkpoint_lsn));
    let now = fs.now_micros();
    let entry = |(min_seqno, max_seqno, level, metas): &(Seqno, Seqno, u8, Vec<TableMeta>)| {
        let encode = |meta: &TableMeta| {
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            bytes
        };
        RunEntry {
            min_seqno: *min_seqno,
            max_seqno: *max_seqno,
            level: *level,
            tables: metas.iter().map(encode).collect(),
        }
    };
    let manifest = Manifest {
        generation: Generation(1),
        database: writer.database,
        features: record.manifest.features,
        created_micros: now,
        written_micros: now,
        next_file_id: *next,
        next_keyspace_id: reached.next_keyspace_id,
        checkpoint_seqno: reached.seqno,
        checkpoint_lsn: lsn,
        segment_base: lsn,
        next_segment_bytes: Sizes::DEFAULT.segment_min_bytes,
        epochs: Vec::new(),
        last_epoch: record.manifest.last_epoch.max(log.last_epoch()),
        clean: true,
        salvaged: record.manifest.salvaged,
        keyspaces: reached.keyspaces.clone(),
        runs: runs.iter().rev().map(entry).collect(),
    };
    fresh::publish_new(&**fs, writer.dir, &manifest)?;
    Ok(restored)
}

/// Merges the backup's runs into one.
fn merge_base(
    writer: &TableWriter<'_>,
    request: &Request,
    record: &BackupRecord,
    catalog: &Catalog,
    next: &mut FileId,
) -> Result<Vec<TableMeta>> {
    let repository = &request.repository;
    let own = repository.join(backup_name(record.number));
    let options = Builder::default().read_mode(ReadMode::Pread);
    let cache = Arc::new(BlockCache::new(options.block_cache_bytes));
    let remover = Arc::new(Remover::new(writer.fs.clone(), Arc::default()));
    let home = Home { fs: writer.fs, dir: repository, remover: &remover };
    let metas = table_metas(&own, &record.manifest)?;
    let mut runs = Vec::new();
    for (index, run) in record.manifest.runs.iter().enumerate() {
        let tables = metas
            .iter()
            .filter(|(of, _)| *of == index)
            .map(|(_, meta)| live_table(home, record.database, meta.clone(), &options, &cache));
        runs.push(Run::new(tables.collect(), run.min_seqno, run.max_seqno, run.level));
    }
    let taken = std::cell::Cell::new(*next);
    let take = || {
        let id = taken.get();
        taken.set(FileId(id.get() + 1));
        id
    };
    let is_live = |id| catalog.is_live(id, Seqno::MAX);
    let merged = writer.merge(&runs, &is_live, true, &take, &|| Ok(()));
    *next = taken.get();
    merged
}
