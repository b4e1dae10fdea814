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

use super::changed::Changed;
use super::staged::Staged;
use crate::checkpoint::write::UnsyncedTable;
use crate::cursor::{Cursor, RangeTombstone};
use crate::engine::{Applied, Engine, Writer};
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::recovery::apply::{ApplyError, apply_operations};
use crate::sync::engine::Mutex;
use crate::types::{KeyspaceId, Seqno};
use crate::view::{Layer, MemoryLayer};
use crate::wal::operation::Operation;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The seqno of everything in a write set; it takes its real one when it commits.
const OWN: Seqno = Seqno(1);
/// Larger values go into a memtable, which takes memory for each of them alone.
const STAGED_VALUE_MAX_BYTES: usize = 64 << 10;
/// Staged changes take no more than this, whatever the budget: places in them are 32 bits.
const STAGED_MAX_BYTES: usize = 1 << 30;
/// After so many changes without a read between them the next ones are staged.
const STAGE_AFTER: u32 = 256;

/// A savepoint: the number of layers below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint {
    depth: usize,
    serial: u64,
}

/// What a set leaves to the next one, which need not take memory for it then.
#[derive(Debug, Default)]
pub struct Leavings {
    /// For encoded operations. Its content does not matter.
    pub buffer: Vec<u8>,
    /// One memtable that nothing was written to, or nothing. Making one takes as long as placing a small commit in
    /// the log, and most sets write nothing into theirs.
    layers: Vec<Layer>,
}

/// See the module.
#[derive(Debug)]
pub struct WriteSet {
    pub(super) engine: Arc<Engine>,
    /// Newest first. The first is the memtable that takes changes, once there are any.
    pub(super) layers: Vec<Layer>,
    /// The first layer, untouched, or nothing.
    unused: Vec<Layer>,
    /// Changes above all layers. Empty unless `staging`.
    pub(super) staged: Mutex<Staged>,
    /// What the staged changes may take before they are spilled, in bytes.
    staged_limit: usize,
    /// Changes are staged.
    staging: AtomicBool,
    /// There was a read since the last change that was not staged.
    read: AtomicBool,
    /// Changes without a read between them that were not staged.
    unread: u32,
    pub(super) spilled: bool,
    /// Spilled tables that are not synced yet, oldest first; some may have been rolled back.
    pub(super) unsynced: VecDeque<UnsyncedTable>,
    serial: u64,
    savepoints: Vec<Savepoint>,
    /// Keyspaces that it changes (also what was rolled back counts).
    keyspaces: Changed,
    /// Something that should be here could not be put here.
    failed: Option<Error>,
}

impl WriteSet {
    /// An empty set that uses what another one left.
    pub fn new(engine: Arc<Engine>, leavings: Leavings) -> WriteSet {
        let Leavings { buffer, layers } = leavings;
        WriteSet {
            engine,
            layers: Vec::new(),
            unused: layers,
            staged: Mutex::new(Staged::with_buffer(buffer)),
            staged_limit: 0,
            staging: AtomicBool::new(true),
            read: AtomicBool::new(false),
            unread: 0,
            spilled: false,
            unsynced: VecDeque::new(),
            serial: 0,
            savepoints: Vec::new(),
            keyspaces: Changed::default(),
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
    pub fn is_empty(&mut self) -> bool {
        self.failed.is_none()
            && self.staged.get_mut().is_empty()
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
        self.keyspaces.add(keyspace);
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
    pub fn keyspaces(&self) -> &Changed {
        &self.keyspaces
    }

    /// Before a change of a memtable: room is made first, so that a full disk changes nothing.
    fn prepare(&mut self, keyspace: KeyspaceId) -> Result<()> {
        self.pour()?;
        self.keyspaces.add(keyspace);
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
            writer.leavings.buffer = operations;
        }
        if let [Layer::Memory(layer)] = &mut self.layers[..]
            && Arc::get_mut(layer).is_some_and(|layer| layer.is_untouched())
        {
            writer.leavings.layers = std::mem::take(&mut self.layers);
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

    pub(super) fn top(&mut self) -> &Arc<MemoryLayer> {
        if !matches!(self.layers.first(), Some(Layer::Memory(_))) {
            self.put_top();
        }
        match self.layers.first() {
            Some(Layer::Memory(memtable)) => memtable,
            _ => unreachable!("a memtable was just put on top"),
        }
    }

    #[cold]
    fn put_top(&mut self) {
        if self.layers.is_empty() {
            self.layers = std::mem::take(&mut self.unused);
        }
        if !matches!(self.layers.first(), Some(Layer::Memory(_))) {
            self.layers.insert(0, Layer::Memory(Arc::default()));
        }
    }

    pub(super) fn memory_bytes(&mut self) -> usize {
        self.layers.iter().map(memory_bytes).sum::<usize>() + self.staged.get_mut().bytes()
    }
}

impl Drop for WriteSet {
    fn drop(&mut self) {
        // Before the tables are removed: a file that is open is freed as a whole.
        self.unsynced.clear();
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
