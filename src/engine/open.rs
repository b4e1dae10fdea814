//! Opening: what the plan of the recovery says is carried out, the engine is put together, and after an unclean stop
//! what was recovered is published in a new epoch before anybody gets a handle.

use super::publish::{PublishError, write_manifest};
use super::{Engine, Home, Popped, Published, Writer, live_table};
use crate::catalog::Catalog;
use crate::checkpoint::flush::run_entry;
use crate::checkpoint::write::{Purpose, TableWriter};
use crate::checkpoint::{Allowance, Background};
use crate::error::{Error, Result};
use crate::fs::removal::Remover;
use crate::fs::{self, Barrier, FileSystem, LockGuard, PathKind};
use crate::lock;
use crate::manifest::Manifest;
use crate::memtable::ChunkPool;
use crate::mistakes::{Mistake, planted};
use crate::options::Builder;
use crate::recovery::apply::{Rebuilt, rebuild};
use crate::recovery::directory::SegmentFile;
use crate::recovery::plan::{OpenPlan, Plan, Reader, plan};
use crate::recovery::reading::reader;
use crate::recovery::{Recovery, RecoveryReport};
use crate::stats::Counters;
use crate::sync::engine::{AtomicBool, AtomicU64, Condvar, Gate, Mutex, RwLock};
use crate::table::BlockCache;
use crate::types::{DatabaseId, FileId, Generation, KeyspaceId};
use crate::view::{Layer, LiveTable, MemoryLayer, Run, View};
use crate::wal::archive::Archive;
use crate::wal::log::Log;
use crate::wal::reserve::Reserve;
use crate::wal::space::{LogSpace, Spare};
use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a read-only open starts again because the owner changed something under it.
const READ_ONLY_TRIES: usize = 100;

impl Engine {
    /// Opens the database in `dir`.
    pub fn open(options: Builder, dir: &Path) -> Result<Arc<Engine>> {
        let file_system = options.file_system.clone();
        let started = file_system.monotonic();
        let mut engine = if options.read_only {
            open_read_only(options, dir)?
        } else {
            open_writable(options, dir)?
        };
        let spent = file_system.monotonic().saturating_sub(started);
        engine.recovery.report.micros = spent.as_micros() as u64;
        let engine = Arc::new(engine);
        engine.background.attach(&engine);
        if engine.recovery.must_start {
            // After an unclean stop the new epoch starts at once: it ends the old one for good.
            let outcome = match engine.start_recovered() {
                Err(Error::NoSpace { .. }) if engine.free_room() => engine.start_recovered(),
                outcome => outcome,
            };
            outcome.inspect_err(|_| engine.discard_recovered())?;
        }
        engine.note_memory();
        // A life that only reads looks into fewer runs as well.
        if !engine.options.read_only && engine.wants_merge_at_rest() {
            engine.background.start(&engine);
        }
        Ok(engine)
    }

    /// Publishes what was recovered, in a new epoch.
    fn start_recovered(&self) -> Result<()> {
        let runs: Vec<Arc<Run>> = {
            let view = self.view.load();
            let runs = view.layers.iter().filter_map(|layer| match layer {
                Layer::Run(run) => Some(run.clone()),
                Layer::Memory(_) => None,
            });
            runs.collect()
        };
        let mut writer = self.writer.lock();
        let seqno = writer.last_seqno;
        let (keyspaces, next_id) = {
            let catalog = self.catalog.read();
            (catalog.entries_at(seqno), catalog.next_id)
        };
        let entries = runs.iter().map(|run| run_entry(run)).collect();
        self.settle_old_log()?;
        self.start_epoch_with(&mut writer, |manifest| {
            manifest.runs = entries;
            manifest.checkpoint_seqno = seqno;
            manifest.keyspaces = keyspaces;
            manifest.next_keyspace_id = next_id;
        })?;
        let tables = runs.iter().flat_map(|run| &run.tables);
        let recovered = tables.filter(|table| self.was_recovered(table));
        self.allowance.earn(recovered.map(|table| table.meta().entries).sum());
        self.published.lock().runs = runs;
        Ok(())
    }

    /// Lets go of what was recovered into tables and could not be published: the next open recovers it again.
    fn discard_recovered(&self) {
        if self.published.lock().doubtful {
            return;
        }
        for layer in &self.view.load().layers {
            let Layer::Run(run) = layer else { continue };
            run.tables.iter().filter(|table| self.was_recovered(table)).for_each(|t| t.retire());
        }
    }

    /// Whether this recovery wrote the table.
    fn was_recovered(&self, table: &LiveTable) -> bool {
        self.recovery.written.contains(&table.meta().file_id)
    }
}

fn open_writable(options: Builder, dir: &Path) -> Result<Engine> {
    let fs = options.file_system.clone();
    let existed = fs.kind(dir).map_err(|e| Error::io("look at", dir, e))?;
    match existed {
        PathKind::Missing if !options.create => {
            return Err(Error::NotFound { path: dir.to_path_buf() });
        }
        PathKind::Missing => create_dirs(&*fs, dir)?,
        PathKind::File | PathKind::Directory => {}
    }
    // Looked at once without the lock, so that a directory that is not ours is left as it is.
    if matches!(plan_without_replay(&*fs, dir)?, Found::Nothing) && !options.create {
        return Err(Error::NotFound { path: dir.to_path_buf() });
    }
    let lock = lock::take(&*fs, dir)?;
    match plan(&*fs, dir, Reader::Owner)? {
        Plan::Create => create(options, dir, lock),
        Plan::Open(found) => {
            let to_tables = found.needs_apply();
            if planted(Mistake::OrphansRemovedFirst) {
                found.orphans.iter().for_each(|name| drop(fs.remove(&dir.join(name))));
            }
            assemble(options, dir, *found, Some(lock), to_tables)
        }
    }
}

enum Found {
    Nothing,
    Database,
}

fn plan_without_replay(fs: &dyn FileSystem, dir: &Path) -> Result<Found> {
    use crate::recovery::directory::Directory;
    match Directory::read(fs, dir)? {
        None => Ok(Found::Nothing),
        Some(directory) if directory.has_manifest => Ok(Found::Database),
        Some(directory) => {
            if !planted(Mistake::MissingManifestIsNew) {
                directory.check_empty(dir)?;
            }
            Ok(Found::Nothing)
        }
    }
}

fn open_read_only(options: Builder, dir: &Path) -> Result<Engine> {
    let fs = options.file_system.clone();
    if planted(Mistake::ReadOnlyOpenWrites) {
        let mut options = options;
        options.read_only = false;
        return open_writable(options, dir);
    }
    let mut last: Option<Error> = None;
    for _ in 0..READ_ONLY_TRIES {
        // Beside a live owner only what is vouched for is sure to be synced.
        let outcome = match plan(&*fs, dir, reader(&*fs, dir)) {
            Ok(Plan::Create) => return Err(Error::NotFound { path: dir.to_path_buf() }),
            Ok(Plan::Open(found)) => found
                .stopping_at(dir, options.until)
                .and_then(|found| assemble(options.clone(), dir, found, None, false)),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(engine) => return Ok(engine),
            // A live owner may have published, recycled or removed meanwhile: what looks like damage is
            // believed when a second look says exactly the same.
            Err(error) => {
                let text = error.to_string();
                if last.is_some_and(|before| before.to_string() == text) {
                    return Err(error);
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::NotFound { path: dir.to_path_buf() }))
}

fn create(options: Builder, dir: &Path, lock: Box<dyn LockGuard>) -> Result<Engine> {
    let fs = options.file_system.clone();
    let random = |e| Error::io("draw a random id for", dir, e);
    let (high, low) = (fs.random().map_err(random)?, fs.random().map_err(random)?);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.to_le_bytes());
    id[8..].copy_from_slice(&low.to_le_bytes());
    let now = fs.now_micros();
    let manifest = Manifest {
        generation: Generation(1),
        database: DatabaseId(id),
        created_micros: now,
        written_micros: now,
        next_file_id: FileId(1),
        next_keyspace_id: KeyspaceId(1),
        next_segment_bytes: options.sizes.segment_min_bytes,
        clean: true,
        ..Manifest::default()
    };
    let archive = open_archive(&options, dir, manifest.database)?;
    // The directory may have been made by somebody who did not sync its name.
    if let Some(parent) = parent_of(dir) {
        fs::sync_dir(&*fs, &parent, Barrier::CreateParent)
            .map_err(|e| Error::io("sync", &parent, e))?;
    }
    write_manifest(&*fs, dir, &manifest).map_err(|error| match error {
        PublishError::Before(error) | PublishError::Unknown(error) => error,
    })?;
    let report = RecoveryReport {
        report: Recovery { created: true, clean: true, ..Recovery::default() },
        ..RecoveryReport::default()
    };
    let chunks = ChunkPool::new(options.active_limit());
    let memtable = Arc::new(MemoryLayer::with_pool(&chunks));
    let rebuilt = Rebuilt {
        layers: vec![Layer::Memory(memtable.clone())],
        listed: Vec::new(),
        memtable,
        catalog: Catalog::new(&[], KeyspaceId(1)),
        last_seqno: crate::types::Seqno::ZERO,
        next_file_id: FileId(1),
        written: Vec::new(),
    };
    let cache = options.table_cache();
    let remover = Remover::new(options.file_system.clone(), Arc::default());
    let remover = Arc::new(remover);
    let lock = Some(lock);
    let parts = Parts { rebuilt, recovery: report, cache, chunks, remover, lock, archive };
    Ok(build(options, dir, manifest, parts))
}

/// Before anything is written.
fn open_archive(options: &Builder, dir: &Path, database: DatabaseId) -> Result<Option<Archive>> {
    let Some(folder) = options.archive.as_ref().filter(|_| !options.read_only) else {
        return Ok(None);
    };
    let limit = options.archive_limit_bytes;
    Archive::open(&options.file_system, folder, dir, database, limit).map(Some)
}

fn assemble(
    options: Builder,
    dir: &Path,
    found: OpenPlan,
    lock: Option<Box<dyn LockGuard>>,
    to_tables: bool,
) -> Result<Engine> {
    let fs = options.file_system.clone();
    let archive = open_archive(&options, dir, found.manifest.database)?;
    let cache = options.table_cache();
    let counters = Counters::default();
    let writer = TableWriter {
        fs: &fs,
        dir,
        database: found.manifest.database,
        options: &options,
        counters: &counters,
        purpose: Purpose::Recovery,
        pacer: None,
    };
    let remover = Arc::new(Remover::new(fs.clone(), Arc::default()));
    let home = Home { fs: &fs, dir, remover: &remover };
    let open = |meta| live_table(home, found.manifest.database, meta, &options, &cache);
    let mut rebuilt = match rebuild(writer, &open, &found, to_tables) {
        Err(Error::NoSpace { .. }) if to_tables => {
            // The reserve was kept for this.
            Reserve::new(fs.clone(), dir).spend();
            rebuild(writer, &open, &found, to_tables)?
        }
        outcome => outcome?,
    };
    if options.read_only {
        // The owner may remove files at any time; those that are open stay readable.
        for layer in &rebuilt.layers {
            let Layer::Run(run) = layer else { continue };
            run.tables.iter().try_for_each(|table| table.sections().map(drop))?;
        }
    }
    if to_tables {
        rebuilt.layers.insert(0, Layer::Memory(rebuilt.memtable.clone()));
    }
    let spare =
        |segment: &SegmentFile| Spare { path: dir.join(&segment.name), bytes: segment.bytes };
    let tail = &found.tail;
    let report = RecoveryReport {
        report: Recovery {
            created: false,
            clean: found.manifest.clean,
            replayed_transactions: found.transactions,
            replayed_operations: found.operations,
            replayed_bytes: found.replay_bytes,
            trimmed_bytes: tail.cut_bytes,
            unfinished_transactions: tail.unfinished_transactions,
            unwitnessed_tail: tail.unwitnessed,
            last_seqno: rebuilt.last_seqno,
            tail: tail.at,
            tables_written: rebuilt.written.len() as u64,
            micros: 0,
        },
        written: std::mem::take(&mut rebuilt.written),
        orphans: found.orphans.clone(),
        dead_segments: found.dead_segments.iter().map(spare).collect(),
        live_segments: found.live_segments.iter().map(|(end, s)| (*end, spare(s))).collect(),
        log_end: found.log_end,
        live_log: !to_tables && found.transactions > 0,
        must_start: to_tables,
    };
    let chunks = ChunkPool::new(options.active_limit());
    let parts = Parts { rebuilt, recovery: report, cache, chunks, remover, lock, archive };
    Ok(build(options, dir, found.manifest, parts))
}

/// What an engine is made of beside its manifest.
struct Parts {
    rebuilt: Rebuilt,
    recovery: RecoveryReport,
    cache: Arc<BlockCache>,
    chunks: Arc<ChunkPool>,
    remover: Arc<Remover>,
    lock: Option<Box<dyn LockGuard>>,
    archive: Option<Archive>,
}

fn build(options: Builder, dir: &Path, manifest: Manifest, parts: Parts) -> Engine {
    let Parts { rebuilt, recovery, cache, chunks, remover, lock, archive } = parts;
    let fs = options.file_system.clone();
    let counters = Arc::new(Counters::default());
    let database = manifest.database;
    let space = LogSpace::new(fs.clone(), dir, database, options.segment_bytes, options.sizes)
        .with_archive(archive);
    Engine {
        log: Log::new(counters.clone(), rebuilt.last_seqno),
        space,
        counters,
        writer: Arc::new(Gate::new(Writer {
            active: rebuilt.memtable,
            last_seqno: rebuilt.last_seqno,
            started: false,
            leavings: Default::default(),
            active_from: manifest.checkpoint_lsn,
            older_log_bytes: 0,
            unpaced_bytes: 0,
            popped: Popped::default(),
        })),
        view: ArcSwap::from_pointee(View { layers: rebuilt.layers }),
        view_change: Mutex::new(()),
        catalog: RwLock::new(rebuilt.catalog),
        pending: Mutex::new(VecDeque::new()),
        frozen_bytes: AtomicU64::new(0),
        pending_done: Condvar::new(),
        published: Mutex::new(Published {
            manifest,
            runs: rebuilt.listed,
            doubtful: false,
            sealed: false,
        }),
        flushing: Mutex::new(()),
        pinned: Mutex::default(),
        merging: Mutex::new(()),
        room_wanted: AtomicU64::new(0),
        allowance: Allowance::default(),
        rested_at: AtomicU64::new(0),
        looked_at: AtomicU64::new(0),
        background: Background::default(),
        recovery,
        cache,
        chunks,
        flush_failure: Mutex::new(None),
        next_file_id: AtomicU64::new(rebuilt.next_file_id.get()),
        tenure: remover.tenure().clone(),
        remover,
        lock: Mutex::new(lock),
        closed: AtomicBool::new(false),
        closing: Mutex::new(None),
        fs,
        dir: dir.to_path_buf(),
        options,
        database,
    }
}

/// Creates a directory and those above it that are missing, each name synced.
pub fn create_dirs(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut at = Some(dir.to_path_buf());
    while let Some(path) = at {
        match fs.kind(&path).map_err(|e| Error::io("look at", &path, e))? {
            PathKind::Directory => break,
            PathKind::File => {
                return Err(Error::NotADatabase {
                    path: dir.to_path_buf(),
                    what: format!("{} is a file", path.display()),
                });
            }
            PathKind::Missing => {
                at = parent_of(&path);
                missing.push(path);
            }
        }
    }
    for path in missing.iter().rev() {
        match fs.create_dir(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create the directory", path, e));
            }
            _ => {}
        }
        if let Some(parent) = parent_of(path) {
            fs::sync_dir(fs, &parent, Barrier::CreateAncestor)
                .map_err(|e| Error::io("sync", &parent, e))?;
        }
    }
    Ok(())
}

/// The directory above `path`; the current one for a bare name.
pub fn parent_of(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() })
}
