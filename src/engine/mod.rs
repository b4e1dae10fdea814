//! The engine behind a [`Database`](crate::Database): its parts, and who may touch what.
//!
//! | part | changed by | read by |
//! |---|---|---|
//! | [`Writer`] (active memtable, last seqno) | whoever holds its lock, the *writer's gate* | same |
//! | [`View`] | gate holder (freeze, install), flusher, merger, under `view_change` | everybody, without a lock |
//! | pending layers | gate holder pushes, flusher pops | both |
//! | manifest | [`Engine::publish`], one at a time | same |
//! | log, log space | see [`crate::wal`] | |
//!
//! Lock order: `closing` → gate → `merging` → `flushing` → manifest → `view_change` → pending →
//! `flush_failure` → the active memtable's writer → log and space. A thread that holds a later one never takes an earlier one. The tenure is
//! no lock: whoever holds it takes none but those of log and space.

mod close;
mod commit;
mod epoch;
mod insist;
mod open;
mod popped;
mod publish;
mod residence;
#[cfg(all(test, shuttle))]
mod schedules;
mod snapshots;

pub use commit::Applied;
pub use open::{create_dirs, parent_of};
pub use popped::{Bounds, Popped};
pub use publish::{PublishError, write_manifest};

use crate::catalog::Catalog;
use crate::checkpoint::{Allowance, Background};
use crate::error::{Error, Result};
use crate::fs::removal::Remover;
use crate::fs::tenure::Tenure;
use crate::fs::{FileSystem, LockGuard};
use crate::manifest::{Manifest, names};
use crate::memtable::ChunkPool;
use crate::options::Builder;
use crate::recovery::RecoveryReport;
use crate::stats::{Counters, Stats};
use crate::sync::engine::{
    self as sync, AtomicBool, AtomicU64, Condvar, Gate, Mutex, Ordering, RwLock,
};
use crate::table::{BlockCache, Table, TableMeta};
use crate::tx::write_set::Leavings;
use crate::types::{DatabaseId, FileId, Lsn, Seqno};
use crate::view::{Layer, LiveTable, MemoryLayer, Run, View};
use crate::wal::log::Log;
use crate::wal::space::LogSpace;
use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// Everything of one open database.
#[derive(Debug)]
pub struct Engine {
    pub fs: Arc<dyn FileSystem>,
    pub dir: PathBuf,
    pub options: Builder,
    pub database: DatabaseId,
    pub counters: Arc<Counters>,
    pub writer: Arc<Gate<Writer>>,
    pub view: ArcSwap<View>,
    view_change: Mutex<()>,
    pub catalog: RwLock<Catalog>,
    pub log: Log,
    pub space: LogSpace,
    pub pending: Mutex<VecDeque<Pending>>,
    /// Memory of the frozen memtables among them. Follows `pending` under its lock; see [`Engine::note_frozen`].
    pub frozen_bytes: AtomicU64,
    /// Told when a pending layer was published, or could not be.
    pub pending_done: Condvar,
    pub published: Mutex<Published>,
    pub flushing: Mutex<()>,
    /// Published memtables that readers may still see, oldest first.
    pub pinned: Mutex<Vec<Weak<MemoryLayer>>>,
    pub merging: Mutex<()>,
    /// How many wait for the room that merges take ([`Engine::insist`]).
    room_wanted: AtomicU64,
    /// What may be merged into the base while nobody writes.
    pub allowance: Allowance,
    /// Generation of the manifest at which nothing was to be merged at rest.
    pub rested_at: AtomicU64,
    /// Where the log ended when the active memtable was last looked at, whether it makes much dead.
    pub looked_at: AtomicU64,
    pub background: Background,
    pub recovery: RecoveryReport,
    pub cache: Arc<BlockCache>,
    /// Memory of published memtables, for the next ones.
    pub chunks: Arc<ChunkPool>,
    /// Why the last try to publish a layer failed; `None` while the next one is under way.
    pub flush_failure: Mutex<Option<Error>>,
    next_file_id: AtomicU64,
    /// Held by what makes or removes files without the gate.
    pub tenure: Arc<Tenure>,
    /// Takes tables that are listed and read no more.
    pub remover: Arc<Remover>,
    lock: Mutex<Option<Box<dyn LockGuard>>>,
    closed: AtomicBool,
    /// How the close ended.
    closing: Mutex<Option<Result<()>>>,
}

/// What only the holder of the writer's gate touches.
#[derive(Debug)]
pub struct Writer {
    /// Where commits are applied; the first layer of the view.
    pub active: Arc<MemoryLayer>,
    /// The last commit, visible or not.
    pub last_seqno: Seqno,
    /// An epoch was started, so that the log takes groups.
    pub started: bool,
    /// Of the last commit, for the next one.
    pub leavings: Leavings,
    /// Where the log of this epoch stood when the active memtable was made.
    pub active_from: Lsn,
    /// Bytes of older epochs' log whose commits are in the active memtable.
    pub older_log_bytes: u64,
    /// Bytes of commits since their pace was last looked at.
    pub unpaced_bytes: u64,
    /// How far pops have emptied the edges of keyspaces.
    pub popped: Popped,
}

/// A layer of the view that no manifest lists yet. Oldest at the front of the queue.
#[derive(Debug, Clone)]
pub struct Pending {
    pub layer: PendingLayer,
    /// A replay starts here once the layer is published.
    pub lsn: Lsn,
    /// The last commit up to and with this layer.
    pub seqno: Seqno,
}

/// Kinds of pending layers.
#[derive(Debug, Clone)]
pub enum PendingLayer {
    /// A frozen memtable, to be written as a table.
    Frozen(Arc<MemoryLayer>),
    /// Tables of a large transaction, to be listed; oldest run first.
    Installed(Vec<Arc<Run>>),
}

/// The last durable manifest and the runs that it lists, in its order.
#[derive(Debug)]
pub struct Published {
    pub manifest: Manifest,
    pub runs: Vec<Arc<Run>>,
    /// A later manifest may be in force all the same.
    pub doubtful: bool,
    /// The close is over: the directory may have another owner, and nothing is written any more.
    pub sealed: bool,
}

impl Engine {
    /// An error if the database is closed, read-only or poisoned.
    pub fn check_writable(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.check_open()?;
        self.log.check()
    }

    /// An error if the database is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// A number for a new table file.
    pub fn take_file_id(&self) -> FileId {
        FileId(self.next_file_id.fetch_add(1, Ordering::Relaxed))
    }

    /// A table of this database, not opened yet.
    pub fn live_table(&self, meta: TableMeta) -> Arc<LiveTable> {
        let home = Home { fs: &self.fs, dir: &self.dir, remover: &self.remover };
        live_table(home, self.database, meta, &self.options, &self.cache)
    }

    /// Changes the view.
    pub fn change_view(&self, change: impl FnOnce(&mut Vec<Layer>)) {
        let _guard = self.view_change.lock();
        let mut layers = self.view.load().layers.clone();
        change(&mut layers);
        self.log.pacer.set_hurried(layers.len() >= commit::PACED_FROM_LAYERS);
        sync::turn();
        self.view.store(Arc::new(View { layers }));
    }

    /// Bytes of log that the next open would replay. (Positions of one epoch; between epochs there are
    /// gaps.)
    pub fn live_log_bytes(&self) -> u64 {
        let replay_from = self.published.lock().manifest.checkpoint_lsn;
        let (start, end) = (self.log.start_lsn(), self.log.end());
        let older = if replay_from < start { self.recovery.report.replayed_bytes } else { 0 };
        older + end.get().saturating_sub(replay_from.max(start).get())
    }

    /// Bytes of the tables that the manifest lists.
    pub fn table_bytes(&self) -> u64 {
        self.published.lock().runs.iter().map(|run| run.bytes()).sum()
    }

    /// Counters and sizes now.
    pub fn stats(&self) -> Stats {
        let view = self.view.load_full();
        let (mut memtable_bytes, mut live_table_bytes, mut tables, mut runs) = (0, 0, 0, 0);
        let mut index_bytes = 0;
        for layer in &view.layers {
            match layer {
                Layer::Memory(memtable) => memtable_bytes += memtable.bytes() as u64,
                Layer::Run(run) => {
                    live_table_bytes += run.bytes();
                    index_bytes += run.tables.iter().map(|t| t.index_bytes() as u64).sum::<u64>();
                    tables += run.tables.len() as u64;
                    runs += 1;
                }
            }
        }
        let counters = &self.counters;
        let live_log_bytes = self.live_log_bytes();
        Stats {
            commits: counters.commits.get(),
            groups: counters.groups.get(),
            syncs: counters.syncs.get(),
            log_bytes: counters.log_bytes.get(),
            table_bytes: counters.table_bytes.get(),
            checkpoints: counters.checkpoints.get(),
            merges: counters.merges.get(),
            stalls: counters.stalls.get(),
            stall_micros: counters.stall_micros.get(),
            spills: counters.spills.get(),
            conflicts: counters.conflicts.get(),
            memtable_bytes,
            live_table_bytes,
            index_bytes,
            tables,
            runs,
            log_file_bytes: self.space.bytes(),
            live_log_bytes,
            archive_held_bytes: self.space.held_bytes(),
        }
    }
}

/// Where tables lie, and who removes them.
#[derive(Clone, Copy)]
pub struct Home<'a> {
    pub fs: &'a Arc<dyn FileSystem>,
    pub dir: &'a Path,
    pub remover: &'a Arc<Remover>,
}

/// A table of a database, not opened yet.
pub fn live_table(
    home: Home<'_>,
    database: DatabaseId,
    meta: TableMeta,
    options: &Builder,
    cache: &Arc<BlockCache>,
) -> Arc<LiveTable> {
    let Home { fs, dir, remover } = home;
    let path = dir.join(names::table_name(meta.file_id));
    let table = Table::new(fs.clone(), path, database, meta, options.read_mode, cache.clone());
    Arc::new(LiveTable::new(table, remover.clone()))
}
