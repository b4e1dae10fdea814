//! What a transaction changed and has not committed yet.
//!
//! A stack of layers, newest first: private memtables, sealed ones for savepoints below, and tables for
//! what was spilled because it grew past the transaction's share of memory. Each layer hides what lies
//! below it, first among themselves, then in the database. On top of them lie *staged* changes, without
//! order, as long as the transaction does not read: a read puts them into the newest memtable, and the
//! changes after it go there directly, until some hundred came without a read between them.
//!
//! A small set is encoded into the log as operations, oldest layer first. A larger one, and one that
//! spilled, becomes tables as a whole, and commits by naming them.
//!
//! Invariants: spilled tables are unlisted, and need no sync, until the commit installs them; a set that is
//! dropped removes them. While changes are staged there is a memtable on top of the layers.

use super::staged::Staged;
use crate::checkpoint::write::{Purpose, UnsyncedTable};
use crate::cursor::{Cursor, RangeTombstone};
use crate::engine::{Applied, Engine, Writer};
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::recovery::apply::{ApplyError, apply_operations};
use crate::sync::engine::Mutex;
use crate::types::{KeyspaceId, Seqno};
use crate::view::{Layer, LiveTable, MemoryLayer, Run, runs_of};
use crate::wal::operation::Operation;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The seqno of everything in a write set; it takes its real one when it commits.
const OWN: Seqno = Seqno(1);
/// Larger values go into a memtable, which takes memory for each of them alone.
const STAGED_VALUE_MAX_BYTES: usize = 64 << 10;
/// Staged changes take no more than this, whatever the budget: places in them are 32 bits.
const STAGED_MAX_BYTES: usize = 1 << 30;
/// Spilled tables that may wait for their sync.
const UNSYNCED_MAX: usize = 4;
/// After so many changes without a read between them the next ones are staged.
const STAGE_AFTER: u32 = 256;

/// A savepoint: the number of layers below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint {
    depth: usize,
    serial: u64,
}

/// See the module.
#[derive(Debug)]
pub struct WriteSet {
    engine: Arc<Engine>,
    /// Newest first. The first is the memtable that takes changes, once there are any.
    layers: Vec<Layer>,
    /// Changes above all layers. Empty unless `staging`.
    staged: Mutex<Staged>,
    /// What the staged changes may take before they are spilled, in bytes.
    staged_limit: usize,
    /// Changes are staged.
    staging: AtomicBool,
    /// There was a read since the last change that was not staged.
    read: AtomicBool,
    /// Changes without a read between them that were not staged.
    unread: u32,
    spilled: bool,
    /// Spilled tables that are not synced yet, oldest first; some may have been rolled back.
    unsynced: VecDeque<UnsyncedTable>,
    serial: u64,
    savepoints: Vec<Savepoint>,
    /// Keyspaces that it changes (also what was rolled back counts).
    keyspaces: BTreeSet<KeyspaceId>,
    /// Something that should be here could not be put here.
    failed: Option<Error>,
}

impl WriteSet {
    /// An empty set that uses `buffer` for its changes.
    pub fn new(engine: Arc<Engine>, buffer: Vec<u8>) -> WriteSet {
        WriteSet {
            engine,
            layers: Vec::new(),
            staged: Mutex::new(Staged::with_buffer(buffer)),
            staged_limit: 0,
            staging: AtomicBool::new(true),
            read: AtomicBool::new(false),
            unread: 0,
            spilled: false,
            unsynced: VecDeque::new(),
            serial: 0,
            savepoints: Vec::new(),
            keyspaces: BTreeSet::new(),
            failed: None,
        }
    }

    /// The layers, newest first, for a reader.
    #[inline]
    pub fn layers(&self) -> Result<&[Layer]> {
        self.note_read();
        self.pour()?;
        Ok(&self.layers)
    }

    /// The changes that follow are not read for a while.
    pub fn stage(&mut self) {
        *self.staging.get_mut() = true;
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.failed.is_none()
            && self.staged.lock().is_empty()
            && self.layers.iter().all(|layer| match layer {
                Layer::Memory(memtable) => memtable.is_empty(),
                Layer::Run(_) => false,
            })
    }

    pub fn insert(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        super::check_key(key)?;
        super::check_value(value)?;
        self.change(keyspace, key, Some(value))
    }

    pub fn remove(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        super::check_key(key)?;
        self.change(keyspace, key, None)
    }

    #[inline]
    fn change(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if self.keyspaces.last() != Some(&keyspace) {
            self.keyspaces.insert(keyspace);
        }
        let fits = value.is_none_or(|value| value.len() <= STAGED_VALUE_MAX_BYTES);
        if !(*self.staging.get_mut() && fits) {
            return self.change_memtable(keyspace, key, value);
        }
        let staged = self.staged.get_mut();
        if staged.is_empty() {
            self.top();
            let taken: usize = self.layers.iter().map(memory_bytes).sum();
            let limit = self.engine.options.write_set_limit().saturating_sub(taken);
            self.staged_limit = limit.min(STAGED_MAX_BYTES);
        } else if staged.bytes() > self.staged_limit {
            // Room is made first, so that a full disk changes nothing.
            self.spill_all()?;
        }
        self.staged.get_mut().push(keyspace, key, value);
        Ok(())
    }

    fn change_memtable(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        self.pour()?;
        if std::mem::take(self.read.get_mut()) {
            self.unread = 0;
        }
        self.unread += 1;
        if self.unread >= STAGE_AFTER {
            self.unread = 0;
            self.stage();
        }
        self.spill_if_large()?;
        self.top().writer().insert(keyspace, key, OWN, value).map(drop)
    }

    /// Puts staged changes into the newest memtable.
    #[inline]
    fn pour(&self) -> Result<()> {
        if self.staging.load(Ordering::Acquire) { self.pour_staged() } else { Ok(()) }
    }

    /// Notes that the transaction reads.
    #[inline]
    fn note_read(&self) {
        if !self.read.load(Ordering::Relaxed) {
            self.read.store(true, Ordering::Relaxed);
        }
    }

    #[cold]
    fn pour_staged(&self) -> Result<()> {
        let mut staged = self.staged.lock();
        if !staged.is_empty() {
            let Some(Layer::Memory(memtable)) = self.layers.first() else {
                unreachable!("there is a memtable below staged changes");
            };
            apply(memtable, OWN, staged.operations())?;
            staged.clear();
        }
        self.staging.store(false, Ordering::Release);
        Ok(())
    }

    pub fn remove_range(&mut self, keyspace: KeyspaceId, range: RangeTombstone) -> Result<()> {
        super::check_key(&range.start)?;
        range.end.as_deref().map_or(Ok(()), super::check_key)?;
        self.prepare(keyspace)?;
        self.top().writer().delete_range(keyspace, range, OWN)
    }

    /// Announces a [`hide`](WriteSet::hide): makes room, and puts a memtable on top.
    pub fn touch(&mut self, keyspace: KeyspaceId) -> Result<()> {
        self.prepare(keyspace)?;
        self.top();
        Ok(())
    }

    /// Hides a range of a keyspace that was touched. The bounds are made from keys.
    pub fn hide(&self, keyspace: KeyspaceId, range: RangeTombstone) -> Result<()> {
        self.pour()?;
        match self.layers.first() {
            Some(Layer::Memory(memtable)) => memtable.writer().delete_range(keyspace, range, OWN),
            _ => unreachable!("touched sets have a memtable on top"),
        }
    }

    /// The keyspaces that it changes.
    pub fn keyspaces(&self) -> &BTreeSet<KeyspaceId> {
        &self.keyspaces
    }

    /// Before a change of a memtable: room is made first, so that a full disk changes nothing.
    fn prepare(&mut self, keyspace: KeyspaceId) -> Result<()> {
        self.pour()?;
        if self.keyspaces.last() != Some(&keyspace) {
            self.keyspaces.insert(keyspace);
        }
        self.spill_if_large()
    }

    /// Seals what is there, so that it can be come back to.
    pub fn savepoint(&mut self) -> Savepoint {
        if let Err(error) = self.pour() {
            self.fail(error);
        }
        let fresh = matches!(self.layers.first(), Some(Layer::Memory(m)) if m.is_empty());
        let depth = self.layers.len() - usize::from(fresh);
        if !fresh {
            self.layers.insert(0, Layer::Memory(Arc::new(MemoryLayer::default())));
        }
        self.serial += 1;
        let savepoint = Savepoint { depth, serial: self.serial };
        self.savepoints.push(savepoint);
        savepoint
    }

    /// Forgets everything after a savepoint. Later savepoints are gone with it; itself it stays.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let Some(at) = self.savepoints.iter().position(|known| *known == savepoint) else {
            return Err(Error::InvalidArgument(
                "the savepoint is of another transaction, or was rolled back over; \
                 make a new one"
                    .to_owned(),
            ));
        };
        self.savepoints.truncate(at + 1);
        self.staged.get_mut().clear();
        let gone = self.layers.len() - savepoint.depth;
        for layer in self.layers.drain(..gone) {
            retire(&layer);
        }
        self.layers.insert(0, Layer::Memory(Arc::new(MemoryLayer::default())));
        self.spilled = self.layers.iter().any(|layer| matches!(layer, Layer::Run(_)));
        Ok(())
    }

    /// The set cannot be committed.
    pub fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// Commits under the writer's gate. What follows is waiting.
    pub fn commit(&mut self, writer: &mut Writer) -> Result<Applied> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let engine = self.engine.clone();
        let in_memory = self.memory_bytes();
        if self.spilled || in_memory > engine.options.install_from() {
            return self.install(writer);
        }
        let only_staged =
            self.layers.iter().all(|layer| memory(layer).is_none_or(|m| m.is_empty()));
        if !only_staged {
            self.pour()?;
        }
        let mut operations = std::mem::take(self.staged.get_mut()).into_buffer();
        if !only_staged {
            self.encode(&mut operations);
        }
        let outcome = commit_operations(&engine, writer, &operations);
        // A large buffer is not kept for small commits.
        if operations.capacity() <= SCRATCH_MAX_BYTES {
            writer.scratch = operations;
        }
        outcome
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for layer in self.layers.iter().rev() {
            let Layer::Memory(memtable) = layer else { continue };
            for keyspace in memtable.keyspaces() {
                for range in memtable.range_tombstones(keyspace, Seqno::MAX) {
                    let (start, end) = (range.start.as_slice(), range.end.as_deref());
                    Operation::RemoveRange { keyspace, start, end }.encode(out);
                }
                let mut cursor = memtable.cursor(keyspace, Seqno::MAX);
                let mut moved = cursor.first();
                while moved.is_ok() && cursor.is_valid() {
                    let key = cursor.key();
                    match cursor.value() {
                        Ok(Some(value)) => {
                            Operation::Put { keyspace, key, value: &value }.encode(out);
                        }
                        _ => Operation::Remove { keyspace, key }.encode(out),
                    }
                    moved = cursor.next();
                }
                debug_assert!(moved.is_ok(), "a memtable's cursor does not fail");
            }
        }
    }

    /// Spills what is left in memory, makes all tables durable, and installs them with one record.
    fn install(&mut self, writer: &mut Writer) -> Result<Applied> {
        self.spill_all()?;
        self.sync_spilled(0)?;
        let engine = self.engine.clone();
        let tables = engine.table_writer(Purpose::Spill);
        tables.sync_names().map_err(|e| engine.or_poison_if_sync(e))?;
        let tables: Vec<Arc<LiveTable>> = self
            .layers
            .iter()
            .rev()
            .filter_map(|layer| match layer {
                Layer::Run(run) => run.tables.first().cloned(),
                Layer::Memory(_) => None,
            })
            .collect();
        let mut operations = Vec::new();
        for table in &tables {
            let mut meta = Vec::new();
            table.meta().encode(&mut meta);
            Operation::InstallTable { meta: &meta }.encode(&mut operations);
        }
        let applied = engine.install(writer, &operations, |seqno| runs_of(tables, seqno));
        match &applied {
            // The tables are the database's now. After poison the log may name them too.
            Ok(_) | Err(Error::Poisoned { .. }) => self.layers.clear(),
            Err(_) => {}
        }
        applied
    }

    fn top(&mut self) -> &Arc<MemoryLayer> {
        if !matches!(self.layers.first(), Some(Layer::Memory(_))) {
            self.layers.insert(0, Layer::Memory(Arc::new(MemoryLayer::default())));
        }
        match self.layers.first() {
            Some(Layer::Memory(memtable)) => memtable,
            _ => unreachable!("a memtable was just put on top"),
        }
    }

    fn memory_bytes(&mut self) -> usize {
        self.layers.iter().map(memory_bytes).sum::<usize>() + self.staged.get_mut().bytes()
    }

    fn spill_if_large(&mut self) -> Result<()> {
        if self.memory_bytes() <= self.engine.options.write_set_limit() {
            return Ok(());
        }
        self.spill_all()
    }

    /// Turns everything in memory into tables.
    fn spill_all(&mut self) -> Result<()> {
        let outcome = (0..self.layers.len())
            .try_for_each(|index| self.spill(index))
            .and_then(|()| self.spill_staged());
        self.top();
        outcome
    }

    fn spill_staged(&mut self) -> Result<()> {
        let staged = self.staged.get_mut();
        if staged.is_empty() {
            return Ok(());
        }
        let engine = &self.engine;
        let sorted = staged.sort();
        let written = {
            let _held = engine.tenure.hold()?;
            let writer = engine.table_writer(Purpose::Spill);
            writer.write_changes(sorted.changes(), engine.take_file_id())
        };
        let Some((meta, unsynced)) = written? else { return Ok(()) };
        drop(sorted);
        staged.clear();
        self.unsynced.push_back(unsynced);
        engine.counters.spills.add(1);
        let run = Run::new(vec![engine.live_table(meta)], Seqno::ZERO, Seqno::ZERO, 0);
        // A memtable on top is empty by now.
        let at = usize::from(matches!(self.layers.first(), Some(Layer::Memory(_))));
        self.layers.insert(at, Layer::Run(run));
        self.spilled = true;
        self.sync_spilled(UNSYNCED_MAX)
    }

    /// Syncs spilled tables, oldest first, up to some. (The system has most of an older one written by then.)
    fn sync_spilled(&mut self, but: usize) -> Result<()> {
        while self.unsynced.len() > but
            && let Some(table) = self.unsynced.front()
        {
            if let Err(error) = table.sync() {
                // Its bytes may be lost, and a second sync would not say so.
                let error = self.engine.or_poison_if_sync(error);
                self.fail(error.clone());
                return Err(error);
            }
            self.unsynced.pop_front();
        }
        Ok(())
    }

    /// Turns a layer in memory into a table.
    fn spill(&mut self, index: usize) -> Result<()> {
        let Layer::Memory(memtable) = &self.layers[index] else { return Ok(()) };
        if memtable.is_empty() {
            return Ok(());
        }
        let engine = &self.engine;
        let _held = engine.tenure.hold()?;
        let file_id = engine.take_file_id();
        let writer = engine.table_writer(Purpose::Spill);
        let meta = writer.write_memtable(memtable, Seqno::MAX, None, false, file_id);
        let Some(meta) = meta.map_err(|e| engine.or_poison_if_sync(e))? else { return Ok(()) };
        engine.counters.spills.add(1);
        let run = Run::new(vec![engine.live_table(meta)], Seqno::ZERO, Seqno::ZERO, 0);
        self.layers[index] = Layer::Run(run);
        self.spilled = true;
        Ok(())
    }
}

impl Drop for WriteSet {
    fn drop(&mut self) {
        self.layers.iter().for_each(retire);
    }
}

/// Encoded operations up to this size keep their buffer for the next commit.
const SCRATCH_MAX_BYTES: usize = 1 << 20;

/// Commits operations that only change entries.
pub fn commit_operations(
    engine: &Engine,
    writer: &mut Writer,
    operations: &[u8],
) -> Result<Applied> {
    engine.apply(writer, operations, false, |memtable, seqno| apply(memtable, seqno, operations))
}

/// Applies operations that only change entries.
fn apply(memtable: &Memtable, seqno: Seqno, operations: &[u8]) -> Result<()> {
    apply_operations(memtable, seqno, operations, &mut |_| Ok(())).map_err(|e| match e {
        ApplyError::Failed(error) => error,
        ApplyError::Fault(fault) => Error::InvalidArgument(fault.to_string()),
    })
}

fn memory(layer: &Layer) -> Option<&Memtable> {
    match layer {
        Layer::Memory(memtable) => Some(memtable),
        Layer::Run(_) => None,
    }
}

fn memory_bytes(layer: &Layer) -> usize {
    memory(layer).map_or(0, Memtable::bytes)
}

fn retire(layer: &Layer) {
    if let Layer::Run(run) = layer {
        run.tables.iter().for_each(|table| table.retire());
    }
}
