//! Making a backup of a live database.
//!
//! 1. The repository is locked and read: whose it is, which files its backups name.
//! 2. Under the gate, for a moment, the last commit, its LSN and the view are taken; writers go on. The log
//!    is made durable up to there, so that a backup never holds what the database could still lose.
//! 3. Tables of the view are copied, unless a backup named them already and they pass a look at header,
//!    footer and index; memtables are written as tables as of that commit. The view keeps the files.
//! 4. All is synced, names too; then the backup's own file is written, synced and named.
//!
//! Tables made from memtables get numbers from 2^61 on, so that they never meet one of the database.

use super::Backup;
use super::format::{BackupFile, BackupRecord, backup_name};
use super::repository::{Repository, check_apart, hash_file};
use crate::checkpoint::write::{Purpose, TableWriter};
use crate::db::Database;
use crate::error::{Error, Result};
use crate::fresh;
use crate::fs::{self, Barrier, FileSystem, OpenMode, PathKind};
use crate::manifest::{Manifest, RunEntry, names};
use crate::stats::Counters;
use crate::table::{BlockCache, ReadMode, Table, TableMeta};
use crate::tx::snapshot::Snapshot;
use crate::types::{FileId, Lsn, Seqno};
use crate::view::Layer;
use crate::wal::buffer::align_up;
use crate::wal::flush::Reach;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Tables of memtables are numbered from here.
const MEMORY_FILE_IDS: u64 = 1 << 61;
/// Most memtables of one view; a view has three at the most.
const MEMORY_TABLES_MAX: u64 = 1 << 16;
/// What is copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// How a backup is made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Take the content hash too, for [`drill`](super::drill) and for comparing: reads every key and value
    /// once, also on an incremental backup. Default true.
    pub hash: bool,
    /// Hash whole the files that earlier backups brought, in place of a look at their ends. Default
    /// false.
    pub check_earlier: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { hash: true, check_earlier: false }
    }
}

impl Options {
    /// Whether to take the content hash.
    pub fn hash(mut self, hash: bool) -> Options {
        self.hash = hash;
        self
    }

    /// Whether to hash files of earlier backups whole before they are relied on.
    pub fn check_earlier(mut self, check: bool) -> Options {
        self.check_earlier = check;
        self
    }
}

impl Database {
    /// Makes a backup in the repository `directory`, which is made if it is missing: a consistent copy of
    /// everything committed when it is called, while writers go on. Tables that an earlier backup in the
    /// same repository brought are not copied again. Also works on a database that was opened read-only,
    /// beside its owner.
    ///
    /// Costs reading, writing and checking the tables that are new, and one read of everything for the
    /// content hash (see [`backup_with`](Database::backup_with)). Files that are being copied stay on the
    /// disk until it is done.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the directory holds other things, backups of another database, or lies
    /// in the database's; [`Error::Locked`] while another backup is made there; [`Error::Damage`] if a
    /// table of the database is damaged; [`Error::NoSpace`], [`Error::Io`]. Backups made before stay as
    /// they are.
    ///
    /// ```
    /// # fn main() -> highwater::Result<()> {
    /// # use std::sync::Arc;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (path, backups, new) =
    /// #     (dir.path().join("db"), dir.path().join("backups"), dir.path().join("new"));
    /// let db = highwater::Database::open(&path)?;
    /// let users = db.keyspace("users")?;
    /// users.insert("ada", "1815")?;
    /// let backup = db.backup(&backups)?;
    /// users.insert("ada", "changed")?; // after the backup
    ///
    /// let fs: Arc<dyn highwater::fs::FileSystem> = Arc::new(highwater::fs::os::OsFileSystem::new());
    /// let restored = highwater::backup::restore(&fs, &backups, Some(backup.number), &new, &mut |_| {})?;
    /// let copy = highwater::Database::open(&new)?;
    /// assert_eq!(copy.keyspace("users")?.get("ada")?.as_deref(), Some(&b"1815"[..]));
    /// assert_eq!(Some(copy.snapshot().content_hash()?), backup.content);
    /// assert_ne!(copy.id(), db.id());
    /// # drop(restored);
    /// # copy.close()?;
    /// # db.close()
    /// # }
    /// ```
    pub fn backup(&self, directory: impl AsRef<Path>) -> Result<Backup> {
        self.backup_with(directory, Options::default())
    }

    /// As [`backup`](Database::backup), with options.
    ///
    /// # Errors
    /// As [`backup`](Database::backup).
    pub fn backup_with(&self, directory: impl AsRef<Path>, options: Options) -> Result<Backup> {
        let directory = directory.as_ref();
        self.engine.check_open()?;
        check_apart(&*self.engine.fs, &self.engine.dir, directory)?;
        fresh::make_place(&*self.engine.fs, directory)?;
        let repository = Repository::lock(&self.engine.fs, directory, self.engine.database)?;
        let mut creation = Creation {
            db: self,
            repository: &repository,
            options,
            counters: Counters::default(),
            cache: Arc::new(BlockCache::new(self.engine.options.block_cache_bytes)),
            files: Vec::new(),
            made: Vec::new(),
            copied_bytes: 0,
        };
        let outcome = creation.run();
        if outcome.is_err() {
            // No backup names them; what cannot be removed is replaced by the next one.
            let writer = creation.writer();
            creation.made.iter().for_each(|id| writer.discard(*id));
        }
        outcome
    }
}

struct Creation<'a> {
    db: &'a Database,
    repository: &'a Repository,
    options: Options,
    counters: Counters,
    cache: Arc<BlockCache>,
    files: Vec<BackupFile>,
    /// Files that this backup brought.
    made: Vec<FileId>,
    copied_bytes: u64,
}

impl Creation<'_> {
    fn writer(&self) -> TableWriter<'_> {
        let engine = &self.db.engine;
        TableWriter {
            fs: &engine.fs,
            dir: &self.repository.dir,
            database: engine.database,
            options: &engine.options,
            counters: &self.counters,
            purpose: Purpose::Backup,
            pacer: engine.log.pacer(),
        }
    }

    fn run(&mut self) -> Result<Backup> {
        let engine = self.db.engine.clone();
        let (view, seqno, lsn) = self.point()?;
        let number = self.repository.next_number;
        let mut runs = Vec::new();
        let mut memory_tables = 0;
        for layer in &view.layers {
            match layer {
                Layer::Memory(memtable) => {
                    let id = MEMORY_FILE_IDS + number * MEMORY_TABLES_MAX + memory_tables;
                    memory_tables += 1;
                    let id = FileId(id);
                    self.remove_leftover(id)?;
                    let meta = self.writer().write_memtable(memtable, seqno, None, false, id)?;
                    let Some(meta) = meta else { continue };
                    self.made.push(id);
                    let sum = hash_file(&*engine.fs, &self.path(id))?;
                    self.copied_bytes += meta.file_bytes;
                    self.add(&meta, sum);
                    runs.push(run_entry(seqno, seqno, 0, &[meta]));
                }
                Layer::Run(run) if run.max_seqno <= seqno => {
                    let metas: Vec<TableMeta> =
                        run.tables.iter().map(|table| table.meta().clone()).collect();
                    for table in &run.tables {
                        self.table(table)?;
                    }
                    runs.push(run_entry(run.min_seqno, run.max_seqno, run.level, &metas));
                }
                Layer::Run(_) => {}
            }
        }
        let content = match self.options.hash {
            true => {
                let snapshot = Snapshot::new(self.db.clone(), view.clone(), seqno);
                Some(snapshot.content_hash()?)
            }
            false => None,
        };
        let manifest = self.manifest(seqno, lsn, runs);
        let record = BackupRecord {
            database: engine.database,
            number,
            taken_micros: engine.fs.now_micros(),
            lsn,
            seqno,
            content,
            files: std::mem::take(&mut self.files),
            manifest,
        };
        self.publish(&record)?;
        Ok(Backup::of(&record, self.copied_bytes))
    }

    /// The view now, its last commit and that commit's LSN, durable.
    fn point(&self) -> Result<(Arc<crate::view::View>, Seqno, Lsn)> {
        let engine = &self.db.engine;
        let recovery = &engine.recovery.report;
        if engine.options.read_only {
            let (view, seqno) = engine.read_point();
            view.check_open()?;
            return Ok((view, seqno, recovery.tail));
        }
        let (view, seqno, lsn) = {
            let writer = engine.writer.lock();
            engine.check_open()?;
            let lsn = if writer.started { engine.log.end() } else { recovery.tail };
            (engine.view.load_full(), writer.last_seqno, lsn)
        };
        if lsn > recovery.tail {
            engine.log.flush(lsn, Reach::Durable)?;
        }
        Ok((view, seqno, lsn))
    }

    fn manifest(&self, seqno: Seqno, lsn: Lsn, runs: Vec<RunEntry>) -> Manifest {
        let engine = &self.db.engine;
        let (keyspaces, next_keyspace_id) = {
            let catalog = engine.catalog.read();
            (catalog.entries_at(seqno), catalog.next_id)
        };
        let published = engine.published.lock().manifest.clone();
        let base = align_up(lsn);
        Manifest {
            checkpoint_seqno: seqno,
            checkpoint_lsn: base,
            segment_base: base,
            epochs: Vec::new(),
            clean: true,
            keyspaces,
            next_keyspace_id,
            runs,
            ..published
        }
    }

    fn path(&self, id: FileId) -> std::path::PathBuf {
        self.repository.dir.join(names::table_name(id))
    }

    fn add(&mut self, meta: &TableMeta, sum: u128) {
        let file = BackupFile { file_id: meta.file_id, bytes: meta.file_bytes, sum };
        self.files.push(file);
    }

    /// A backup that broke off may have left a file of this name; no backup names it.
    fn remove_leftover(&self, id: FileId) -> Result<()> {
        let fs = &self.db.engine.fs;
        let path = self.path(id);
        match fs.kind(&path).map_err(|e| Error::io("look at", &path, e))? {
            PathKind::Missing => Ok(()),
            _ => fs.remove(&path).map_err(|e| Error::io("remove", &path, e)),
        }
    }

    /// Brings one table of the database into the repository, or relies on the copy that is there.
    fn table(&mut self, table: &Table) -> Result<()> {
        let fs = self.db.engine.fs.clone();
        let meta = table.meta().clone();
        let path = self.path(meta.file_id);
        let copy = || {
            let database = self.db.engine.database;
            let (meta, cache) = (meta.clone(), self.cache.clone());
            Table::new(fs.clone(), path.clone(), database, meta, ReadMode::Pread, cache)
        };
        if let Some(known) = self.repository.named.get(&meta.file_id) {
            let sound = known.bytes == meta.file_bytes
                && copy().sections().is_ok()
                && (!self.options.check_earlier
                    || hash_file(&*fs, &path).is_ok_and(|sum| sum == known.sum));
            if sound {
                self.add(&meta, known.sum);
                return Ok(());
            }
        }
        // Beside the old copy, if there is one: an earlier backup may name it.
        let new = self.repository.dir.join(format!("{}.new", names::table_name(meta.file_id)));
        if fs.kind(&new).map_err(|e| Error::io("look at", &new, e))? != PathKind::Missing {
            fs.remove(&new).map_err(|e| Error::io("remove", &new, e))?;
        }
        let known = self.repository.named.contains_key(&meta.file_id);
        let outcome = copy_table(&*fs, table, &new).and_then(|sum| {
            fs.rename(&new, &path).map_err(|e| Error::io("rename", &new, e))?;
            Ok(sum)
        });
        let sum = outcome.inspect_err(|_| {
            let _ = fs.remove(&new);
        })?;
        if !known {
            self.made.push(meta.file_id);
        }
        if let Err(error) = copy().check(&mut |_| {}) {
            // If the table itself is damaged, that is what to tell.
            table.check(&mut |_| {})?;
            return Err(error);
        }
        self.copied_bytes += meta.file_bytes;
        self.add(&meta, sum);
        Ok(())
    }

    fn publish(&self, record: &BackupRecord) -> Result<()> {
        let fs = &*self.db.engine.fs;
        let dir = &self.repository.dir;
        fs::sync_dir(fs, dir, Barrier::BackupName).map_err(|e| Error::io("sync", dir, e))?;
        let path = dir.join(backup_name(record.number));
        let new = dir.join(format!("{}.new", backup_name(record.number)));
        let write = || -> std::io::Result<()> {
            if fs.kind(&new)? != PathKind::Missing {
                fs.remove(&new)?;
            }
            let file = fs.open(&new, OpenMode::CreateNew)?;
            fs::write_full(&*file, &record.encode(), 0)?;
            fs::sync_data(&*file, Barrier::BackupRecordContent)?;
            fs.rename(&new, &path)?;
            fs::sync_dir(fs, dir, Barrier::BackupRecordName)
        };
        write().map_err(|e| {
            let _ = fs.remove(&new);
            // Whether the name is durable is not known; without its tables it must not count.
            let _ = fs.remove(&path);
            Error::io("write", &path, e)
        })
    }
}

fn run_entry(min_seqno: Seqno, max_seqno: Seqno, level: u8, metas: &[TableMeta]) -> RunEntry {
    let encode = |meta: &TableMeta| {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        bytes
    };
    RunEntry { min_seqno, max_seqno, level, tables: metas.iter().map(encode).collect() }
}

/// Copies a table's file and syncs the copy; gives its XXH3-128.
fn copy_table(fs: &dyn FileSystem, table: &Table, to: &Path) -> Result<u128> {
    let source = table.file()?;
    let target = fs.open(to, OpenMode::CreateNew).map_err(|e| Error::io("create", to, e))?;
    let mut hasher = Xxh3::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = fs::read_full(&*source, &mut chunk, at);
        let read = read.map_err(|e| Error::io("read", table.path(), e))?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
        let written = fs::write_full(&*target, &chunk[..read], at);
        written.map_err(|e| Error::io("write", to, e))?;
        target.start_writeback(at, read as u64);
        at += read as u64;
    }
    fs::sync_data(&*target, Barrier::BackupContent).map_err(|e| Error::io("sync", to, e))?;
    Ok(hasher.digest128())
}
