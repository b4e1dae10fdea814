//! The handle of an open database.

use crate::catalog::check_name;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::fs::sim::SimDisk;
use crate::keyspace::Keyspace;
use crate::options::{Builder, Durability};
use crate::recovery::Recovery;
use crate::stats::Stats;
use crate::sync::engine::yield_now;
use crate::tx::optimistic::OptimisticTx;
use crate::tx::reader::Reader;
use crate::tx::snapshot::Snapshot;
use crate::tx::write::WriteTx;
use crate::types::{DatabaseId, Lsn};
use crate::wal::flush::Reach;
use crate::wal::operation::Operation;
use std::path::Path;
use std::sync::Arc;

/// An open database. Cheap to clone; all clones are the same database, and the last one closes it.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// use highwater::Database;
///
/// let db = Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// users.insert("ada", "1815")?; // durable when it returns
/// assert_eq!(users.get("ada")?.as_deref(), Some(&b"1815"[..]));
/// db.close()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) engine: Arc<Engine>,
    /// Shared by the handles only: the engine itself is also held by its threads.
    _closer: Arc<Closer>,
}

impl Database {
    /// Opens the database at `path` with the default options; creates it if nothing is there.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Database> {
        Builder::default().open(path)
    }

    /// Options to open a database with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A database in memory, for tests: the same engine on a file system that keeps everything in
    /// memory. Gone when the last handle is.
    ///
    /// # Errors
    /// None in practice; the engine is the same as on a disk.
    pub fn in_memory() -> Result<Database> {
        let disk = SimDisk::without_history();
        Builder::default().file_system(Arc::new(disk)).open("/memory")
    }

    pub(crate) fn open_with(options: Builder, path: &Path) -> Result<Database> {
        let engine = Engine::open(options, path)?;
        Ok(Database { _closer: Arc::new(Closer(engine.clone())), engine })
    }

    /// Opens a keyspace; creates it if there is none of that name. Creating costs one commit with the
    /// database's default durability; opening costs a look into a table in memory.
    ///
    /// # Errors
    /// [`Error::Limit`] for a name over 255 bytes, [`Error::KeyspaceNotFound`] on a read-only database,
    /// otherwise as [`WriteTx::commit`].
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        check_name(name)?;
        let engine = &self.engine;
        engine.check_open()?;
        if let Some(info) = engine.catalog.read().find(name) {
            return Ok(Keyspace::new(self.clone(), info));
        }
        if engine.options.read_only {
            return Err(Error::KeyspaceNotFound { name: name.to_owned() });
        }
        let (info, applied) = {
            let mut writer = engine.writer.lock();
            if let Some(info) = engine.catalog.read().find(name) {
                return Ok(Keyspace::new(self.clone(), info));
            }
            let id = engine.catalog.read().next_id;
            if id.get() == u32::MAX {
                return Err(Error::Limit {
                    what: "the number of keyspaces ever made",
                    found: u64::from(u32::MAX),
                    limit: u64::from(u32::MAX) - 1,
                    hint: "export the database and import it into a new one",
                });
            }
            let mut operations = Vec::new();
            Operation::CreateKeyspace { id, name }.encode(&mut operations);
            let mut made = None;
            let applied = engine.apply(&mut writer, &operations, false, |_, seqno| {
                made = Some(engine.catalog.write().add(id, name, seqno));
                Ok(())
            })?;
            (made.ok_or(Error::Closed)?, applied)
        };
        engine.settle(applied, engine.options.durability)?;
        Ok(Keyspace::new(self.clone(), info))
    }

    /// A keyspace that exists. Never creates one.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`].
    pub fn existing_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.engine.check_open()?;
        let info = self.engine.catalog.read().find(name);
        let info = info.ok_or_else(|| Error::KeyspaceNotFound { name: name.to_owned() })?;
        Ok(Keyspace::new(self.clone(), info))
    }

    /// Names of all keyspaces, sorted.
    pub fn keyspaces(&self) -> Vec<String> {
        self.snapshot().keyspaces()
    }

    /// Drops a keyspace with all its keys: one commit, however large it is. Snapshots taken before go on
    /// reading it; handles of it give [`Error::KeyspaceDropped`]. Its space comes back with the next
    /// checkpoint and merges. Works on a full disk.
    ///
    /// # Errors
    /// [`Error::KeyspaceDropped`] if it was dropped already, otherwise as [`WriteTx::commit`].
    pub fn drop_keyspace(&self, keyspace: &Keyspace) -> Result<Lsn> {
        let engine = &self.engine;
        let id = keyspace.id();
        let applied = {
            let mut writer = engine.writer.lock();
            keyspace.check_live(engine)?;
            let mut operations = Vec::new();
            Operation::DropKeyspace { id }.encode(&mut operations);
            engine.apply(&mut writer, &operations, true, |_, seqno| {
                engine.catalog.write().drop_keyspace(id, seqno);
                Ok(())
            })?
        };
        engine.settle(applied, engine.options.durability)?;
        Ok(applied.lsn)
    }

    /// Begins a write transaction; waits while there is another one.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Poisoned`].
    pub fn write(&self) -> Result<WriteTx> {
        WriteTx::begin(self)
    }

    /// Begins an optimistic transaction, which runs beside others.
    ///
    /// # Errors
    /// As [`write`](Database::write).
    pub fn optimistic(&self) -> Result<OptimisticTx> {
        OptimisticTx::begin(self)
    }

    /// Runs `body` in an optimistic transaction and commits it; runs it again as often as it conflicts.
    /// If `body` fails, the transaction is rolled back.
    ///
    /// # Errors
    /// What `body` returns, and as [`WriteTx::commit`]; never [`Error::Conflict`] from the commit.
    ///
    /// ```
    /// # fn main() -> highwater::Result<()> {
    /// # let db = highwater::Database::in_memory()?;
    /// let counters = db.keyspace("counters")?;
    /// let now = db.transact(|tx| {
    ///     let old = tx.get(&counters, "hits")?.map_or(0, |v| v[0]);
    ///     tx.insert(&counters, "hits", [old + 1])?;
    ///     Ok(old + 1)
    /// })?;
    /// assert_eq!(now, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn transact<T>(&self, mut body: impl FnMut(&mut OptimisticTx) -> Result<T>) -> Result<T> {
        let mut tx = self.optimistic()?;
        loop {
            let outcome = body(&mut tx);
            match outcome.and_then(|value| tx.commit().map(|_| value)) {
                Err(Error::Conflict) => {
                    yield_now();
                    tx = OptimisticTx::begin_at_written(self)?;
                }
                outcome => return outcome,
            }
        }
    }

    /// A snapshot of everything visible now. Lock-free.
    pub fn snapshot(&self) -> Snapshot {
        let (view, at) = self.engine.read_point();
        Snapshot::new(self.clone(), view, at)
    }

    /// Everything that is visible now, for reads that are soon over: quicker to make than a snapshot where many
    /// threads read.
    #[inline]
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }

    /// A snapshot of everything durable now: what it sees survives power loss.
    pub fn snapshot_durable(&self) -> Snapshot {
        let (view, at) = self.engine.durable_point();
        Snapshot::new(self.clone(), view, at)
    }

    /// Makes all earlier commits durable, whatever their durability. Costs one sync.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn sync(&self) -> Result<Lsn> {
        self.engine.check_writable()?;
        let end = self.engine.log.end();
        self.engine.log.flush(end, Reach::Durable)?;
        Ok(end)
    }

    /// Writes everything in memory to tables and releases the log. Returns the LSN from which a replay
    /// would start. Commits go on meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSpace`] (nothing was changed), [`Error::Poisoned`], [`Error::ReadOnly`].
    pub fn checkpoint(&self) -> Result<Lsn> {
        self.engine.checkpoint()
    }

    /// A full checkpoint: merges all tables into one sorted base, drops what was overwritten or removed,
    /// and gives spare log files back. Rewrites the whole database; needs room for a copy of it.
    ///
    /// # Errors
    /// As [`checkpoint`](Database::checkpoint).
    pub fn compact(&self) -> Result<()> {
        self.engine.compact()
    }

    /// Does on this thread what the engine's threads would do: due checkpoints and merges, room in the
    /// log, the witness of the last commits. For databases opened with `background(false)`.
    ///
    /// # Errors
    /// As [`checkpoint`](Database::checkpoint).
    pub fn maintain(&self) -> Result<()> {
        self.engine.check_writable()?;
        self.engine.run_due()?;
        if !self.engine.rest()? {
            self.engine.run_due()?;
            self.engine.rest()?;
        }
        Ok(())
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What opening this database found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.engine.recovery.report
    }

    /// The random name that the database was given when it was created.
    pub fn id(&self) -> DatabaseId {
        self.engine.database
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.engine.dir
    }

    /// The default durability of commits.
    pub fn durability(&self) -> Durability {
        self.engine.options.durability
    }

    /// Whether it was opened read-only.
    pub fn is_read_only(&self) -> bool {
        self.engine.options.read_only
    }

    /// Closes the database: makes everything durable, marks it as cleanly closed, releases the lock.
    /// Other handles, reads through them included, get [`Error::Closed`]; snapshots that were taken before
    /// go on reading, and only they keep files that a later owner removed on the disk. Dropping the last handle does the
    /// same and has nobody to tell of errors.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`], [`Error::NoSpace`]; the next open recovers in any case.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }
}

/// Closes the engine when the last handle is gone.
#[derive(Debug)]
struct Closer(Arc<Engine>);

impl Drop for Closer {
    fn drop(&mut self) {
        // Errors of a close that nobody asked for have nowhere to go; the next open recovers.
        let _ = self.0.close();
    }
}
