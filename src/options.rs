//! How a database is opened: every knob, its unit, its default and what it costs.

use crate::error::Result;
use crate::fs::FileSystem;
use crate::fs::os::OsFileSystem;
use crate::table::{BlockCache, ReadMode};
use crate::types::Lsn;
use crate::{Database, Error};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Until it is synced to the disk: it survives power loss. One sync, shared with other commits.
    #[default]
    Sync,
    /// Until it is handed to the operating system: it survives the death of the process, and power loss
    /// once a later sync covers it. One write.
    Buffered,
    /// Nothing: it survives nothing until a later sync or buffered commit covers it. A copy in memory.
    Memory,
}

/// How a database is to be opened. `Database::builder()` makes one.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// use highwater::{Database, Durability};
/// let db = Database::builder()
///     .memory_budget(64 << 20)
///     .durability(Durability::Buffered)
///     .open(&path)?;
/// # db.close()
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `open`"]
pub struct Builder {
    pub(crate) memory_budget: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) table_bytes: u64,
    pub(crate) durability: Durability,
    pub(crate) read_mode: ReadMode,
    pub(crate) file_system: Arc<dyn FileSystem>,
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    pub(crate) background: bool,
    pub(crate) witness_delay: Duration,
    pub(crate) block_cache_bytes: usize,
    pub(crate) archive: Option<PathBuf>,
    pub(crate) archive_limit_bytes: u64,
    /// Read-only: the state after this commit; see [`check::open_at`](crate::check::open_at).
    pub(crate) until: Option<Lsn>,
    pub(crate) sizes: Sizes,
}

/// Sizes that are fixed but for simulations, where a small database goes through its life in few
/// operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The smallest log segment, in bytes; the first ones of a database have this size.
    pub segment_min_bytes: u64,
    /// A segment that takes a few small groups, on a full disk, in bytes: more than a group.
    pub segment_small_bytes: u64,
    /// The largest group that the writer makes, header included, in bytes. (The format allows more.)
    pub group_bytes: usize,
    /// The writer keeps this much of the log for records that free space (drops) on a full disk.
    pub kept_for_drops_bytes: u64,
    /// Live log that never makes a checkpoint due, nor one at a close, in bytes.
    pub live_log_bytes: u64,
}

impl Sizes {
    pub const DEFAULT: Sizes = Sizes {
        segment_min_bytes: 1 << 20,
        segment_small_bytes: (256 << 10) + (64 << 10),
        group_bytes: 256 << 10,
        kept_for_drops_bytes: 16 << 10,
        live_log_bytes: 4 << 20,
    };
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            memory_budget: 128 << 20,
            segment_bytes: 32 << 20,
            table_bytes: 64 << 20,
            durability: Durability::Sync,
            read_mode: ReadMode::Mmap,
            file_system: Arc::new(OsFileSystem::new()),
            create: true,
            read_only: false,
            background: true,
            witness_delay: Duration::from_millis(100),
            block_cache_bytes: 32 << 20,
            archive: None,
            archive_limit_bytes: 1 << 30,
            sizes: Sizes::DEFAULT,
            until: None,
        }
    }
}

/// The smallest memory budget, in bytes.
pub const MEMORY_BUDGET_MIN_BYTES: usize = 1 << 20;

impl Builder {
    /// Bytes of memory for unsaved changes: memtables and the write sets of transactions. Default
    /// 128 MiB, at least 1 MiB. More memory means fewer, larger checkpoints and a longer log to replay
    /// after a crash. The resident table indexes (about 0.6 bytes per record, and 1.25 more where a table
    /// has a filter) come on top, and up to a quarter of the budget for the shapes and fingerprints of
    /// blocks that were read through a mapping (about 1.3 bytes per record; tables beyond that are read
    /// without them, at about 1.3 times the cost), and up to three eighths for where keys lie that were read
    /// (about 6.5 bytes per record; without, at about 1.5 times the cost).
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = bytes.max(MEMORY_BUDGET_MIN_BYTES);
        self
    }

    /// Largest log segment, in bytes. Default 32 MiB, at least 1 MiB. Segments start at 1 MiB and
    /// grow with the log, to a quarter of it; larger ones mean fewer directory syncs, smaller ones less disk held by the log.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.clamp(1 << 20, 1 << 30).next_multiple_of(4096);
        self
    }

    /// Size at which a merge starts another table file, in bytes. Default 64 MiB, at least 64 KiB.
    pub fn table_size(mut self, bytes: u64) -> Self {
        self.table_bytes = bytes.max(64 << 10);
        self
    }

    /// What commits wait for unless they say otherwise. Default [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How tables are read. Default [`ReadMode::Mmap`].
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Bytes of memory for blocks under [`ReadMode::Pread`]. Default 32 MiB. Unused under `Mmap`.
    pub fn block_cache(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// The file system that holds the database. Default: the operating system's.
    pub fn file_system(mut self, file_system: Arc<dyn FileSystem>) -> Self {
        self.file_system = file_system;
        self
    }

    /// Whether a missing or empty directory becomes a new database. Default true; if false, opening one
    /// is [`Error::NotFound`].
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens for reading only: writes no byte and takes no lock, works beside a live owner and on a
    /// read-only file system. Sees what was durable when it was opened. Default false.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether checkpoints, merges, the log's witness and its next segments are made by threads of the
    /// engine. Default true. If false, the committing thread does what is due at once, which makes every
    /// run repeat exactly (for simulations), and [`Database::maintain`] does the rest.
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// How long the log rests before a witness is written that vouches for the last commits. Default
    /// 100 ms. One small write and sync per pause. Until then, damage to the last commits cannot be told
    /// from a torn write if the machine stops.
    pub fn witness_delay(mut self, delay: Duration) -> Self {
        self.witness_delay = delay;
        self
    }

    /// A database as small as it gets, for simulations: segments of 32 KiB, groups of 8 KiB, tables of
    /// 16 KiB, and any memory budget. The format is the same, and so is the code but for the sizes. Slow
    /// on a real disk, and on a full one there is less left for drops.
    #[doc(hidden)]
    pub fn simulation_sizes(mut self, memory_budget: usize) -> Self {
        self.segment_bytes = 32 << 10;
        self.table_bytes = 16 << 10;
        self.memory_budget = memory_budget;
        self.sizes = Sizes {
            segment_min_bytes: 32 << 10,
            segment_small_bytes: 24 << 10,
            group_bytes: 8 << 10,
            kept_for_drops_bytes: 2 << 10,
            live_log_bytes: 128 << 10,
        };
        self
    }

    /// A folder that keeps released log segments, and the tables that large transactions install, so that a
    /// backup can be restored to any later point ([`backup::restore_to`](crate::backup::restore_to)). Made
    /// if it is missing; must not lie in the database's directory, and may lie on another disk. Default:
    /// none, released log is overwritten.
    ///
    /// The folder gets a segment once a checkpoint has passed it, so the last commits are in the
    /// database's directory alone. Costs a copy and two syncs for each segment, beside the commits; for a
    /// large transaction a copy of its tables before it commits; after an unclean stop a copy of the log
    /// that is recovered. Nothing is ever removed from the folder: that is for the user, after a newer
    /// backup. The log of a life without this option is missing in it, and a restore refuses to go over
    /// the gap.
    ///
    /// While the folder fails (full, gone, not writable), also at the open, the log is held in the
    /// database's directory: see [`Builder::archive_limit`] and
    /// [`Stats::archive_held_bytes`](crate::Stats::archive_held_bytes).
    ///
    /// ```
    /// # fn main() -> highwater::Result<()> {
    /// # let scratch = tempfile::tempdir().unwrap();
    /// # let (db_path, archive, backups) =
    /// #     (scratch.path().join("db"), scratch.path().join("archive"), scratch.path().join("backups"));
    /// use highwater::Database;
    /// use highwater::backup::{Request, Until, restore_to};
    /// use highwater::fs::{FileSystem, os::OsFileSystem};
    /// use std::sync::Arc;
    ///
    /// let db = Database::builder().archive(&archive).open(&db_path)?;
    /// db.backup(&backups)?;
    /// let keyspace = db.keyspace("users")?;
    /// let mut tx = db.write()?;
    /// tx.insert(&keyspace, "ada", "1815")?;
    /// let good = tx.commit()?;
    /// keyspace.remove("ada")?; // regretted later
    /// db.close()?;
    ///
    /// let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem::new());
    /// let request = Request::new(&backups).log(&archive).log(&db_path).until(Until::Lsn(good));
    /// let target = scratch.path().join("restored");
    /// restore_to(&fs, &request, &target, &mut |_| {})?;
    /// let restored = Database::open(&target)?;
    /// assert_eq!(restored.keyspace("users")?.get("ada")?.as_deref(), Some(&b"1815"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn archive(mut self, folder: impl Into<PathBuf>) -> Self {
        self.archive = Some(folder.into());
        self
    }

    /// How many bytes of released log may wait for an archive that fails before commits fail with
    /// [`Error::Archive`]. Default 1 GiB. The log takes that much more disk meanwhile; drops and
    /// checkpoints go on. Once the folder takes the log again, so do commits. A large transaction, whose
    /// tables must be in the archive before it commits, fails at once.
    pub fn archive_limit(mut self, bytes: u64) -> Self {
        self.archive_limit_bytes = bytes;
        self
    }

    /// Opens the database at `path`, creates it if allowed, recovers it if it was not closed cleanly.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Damage`], [`Error::NotFound`], [`Error::NotADatabase`],
    /// [`Error::Unsupported`], [`Error::NoSpace`], [`Error::Io`]. Nothing that was on the disk is changed
    /// by an open that fails.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(Error::InvalidArgument(
                "the path of the database is empty; name a directory".to_owned(),
            ));
        }
        Database::open_with(self, path)
    }

    /// Memory for the active memtable before it is frozen.
    pub(crate) fn active_limit(&self) -> usize {
        self.memory_budget / 3
    }

    /// Memory of published memtables that is kept for the next ones while nobody writes.
    pub(crate) fn resting_chunks_limit(&self) -> usize {
        self.memory_budget / 8
    }

    /// What the tables of the database share: the block cache, and the room for what reads keep in memory.
    pub(crate) fn table_cache(&self) -> Arc<BlockCache> {
        let (heads, positions) = (self.memory_budget / 4, self.memory_budget / 8 * 3);
        Arc::new(BlockCache::new(self.block_cache_bytes).with_resident(heads, positions))
    }

    /// Memory for memtables that only readers hold.
    pub(crate) fn pinned_limit(&self) -> usize {
        self.memory_budget / 4
    }

    /// Memory for the write set of one transaction before it spills.
    pub(crate) fn write_set_limit(&self) -> usize {
        self.memory_budget / 4
    }

    /// Bytes of changes from which on a transaction commits as a table: written once, instead of once into
    /// the log and again by the checkpoint.
    pub(crate) fn install_from(&self) -> usize {
        (self.write_set_limit() / 8).max(1 << 20).min(self.write_set_limit())
    }

    /// Bytes of log that may stay live while nobody writes.
    pub(crate) fn resting_log_limit(&self) -> u64 {
        (self.memory_budget as u64 / 32).max(self.sizes.live_log_bytes)
    }

    /// Bytes of log that may be live before a checkpoint is due.
    pub(crate) fn live_log_limit(&self) -> u64 {
        (self.memory_budget as u64).max(self.sizes.live_log_bytes)
    }
}
