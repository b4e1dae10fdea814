//! What a transaction changed and has not committed yet.
//!
//! A stack of layers, newest first: private memtables, sealed ones for savepoints below, and tables for
//! what was spilled because it grew past the transaction's share of memory. Each layer hides what lies
//! below it, first among themselves, then in the database.
//!
//! A small set is encoded into the log as operations, oldest layer first. A set that spilled spills
//! whole, and commits by naming its tables.
//!
//! Invariant: spilled tables are unlisted until the commit installs them; a set that is dropped removes
//! them.

use crate::checkpoint::write::Purpose;
use crate::cursor::{Cursor, RangeTombstone};
use crate::engine::{Applied, Engine, Writer};
use crate::error::{Error, Result};
use crate::recovery::apply::{ApplyError, apply_operations};
use crate::types::{KeyspaceId, Seqno};
use crate::view::{Layer, LiveTable, MemoryLayer, Run};
use crate::wal::operation::Operation;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The seqno of everything in a write set; it takes its real one when it commits.
const OWN: Seqno = Seqno(1);

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
    spilled: bool,
    serial: u64,
    savepoints: Vec<Savepoint>,
    /// Keyspaces that it changes (also what was rolled back counts).
    keyspaces: BTreeSet<KeyspaceId>,
    /// Something that should be here could not be put here.
    failed: Option<Error>,
}

impl WriteSet {
    pub fn new(engine: Arc<Engine>) -> WriteSet {
        WriteSet {
            engine,
            layers: Vec::new(),
            spilled: false,
            serial: 0,
            savepoints: Vec::new(),
            keyspaces: BTreeSet::new(),
            failed: None,
        }
    }

    /// The layers, newest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.failed.is_none()
            && self.layers.iter().all(|layer| match layer {
                Layer::Memory(memtable) => memtable.is_empty(),
                Layer::Run(_) => false,
            })
    }

    pub fn insert(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        super::check_key(key)?;
        super::check_value(value)?;
        self.prepare(keyspace)?;
        self.top().writer().insert(keyspace, key, OWN, Some(value)).map(drop)
    }

    pub fn remove(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        super::check_key(key)?;
        self.prepare(keyspace)?;
        self.top().writer().insert(keyspace, key, OWN, None).map(drop)
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
        match self.layers.first() {
            Some(Layer::Memory(memtable)) => memtable.writer().delete_range(keyspace, range, OWN),
            _ => unreachable!("touched sets have a memtable on top"),
        }
    }

    /// The keyspaces that it changes.
    pub fn keyspaces(&self) -> &BTreeSet<KeyspaceId> {
        &self.keyspaces
    }

    /// Before a change: room is made first, so that a full disk changes nothing.
    fn prepare(&mut self, keyspace: KeyspaceId) -> Result<()> {
        if self.keyspaces.last() != Some(&keyspace) {
            self.keyspaces.insert(keyspace);
        }
        self.spill_if_large()
    }

    /// Seals what is there, so that it can be come back to.
    pub fn savepoint(&mut self) -> Savepoint {
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
        if self.spilled {
            return self.install(writer);
        }
        let mut operations = std::mem::take(&mut writer.scratch);
        operations.clear();
        self.encode(&mut operations);
        let outcome = commit_operations(&self.engine.clone(), writer, &operations);
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
        for index in 0..self.layers.len() {
            self.spill(index)?;
        }
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
        let applied = engine.install(writer, &operations, |seqno| {
            tables.iter().map(|table| Run::new(vec![table.clone()], seqno, seqno, 0)).collect()
        });
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

    fn spill_if_large(&mut self) -> Result<()> {
        let in_memory: usize = self.layers.iter().map(memory_bytes).sum();
        if in_memory <= self.engine.options.write_set_limit() {
            return Ok(());
        }
        let outcome = (0..self.layers.len()).try_for_each(|index| self.spill(index));
        self.top();
        outcome
    }

    /// Turns a layer in memory into a table.
    fn spill(&mut self, index: usize) -> Result<()> {
        let Layer::Memory(memtable) = &self.layers[index] else { return Ok(()) };
        if memtable.is_empty() {
            return Ok(());
        }
        let engine = &self.engine;
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
    engine.apply(writer, operations, false, |memtable, seqno| {
        apply_operations(memtable, seqno, operations, &mut |_| Ok(())).map_err(|e| match e {
            ApplyError::Failed(error) => error,
            ApplyError::Fault(fault) => Error::InvalidArgument(fault.to_string()),
        })
    })
}

fn memory_bytes(layer: &Layer) -> usize {
    match layer {
        Layer::Memory(memtable) => memtable.bytes(),
        Layer::Run(_) => 0,
    }
}

fn retire(layer: &Layer) {
    if let Layer::Run(run) = layer {
        run.tables.iter().for_each(|table| table.retire());
    }
}
