//! `apply`: carries a plan out.
//!
//! After a clean close the log is replayed into memory and nothing is written. After an unclean stop
//! nothing is trusted but what was read: the transactions are replayed into new tables, in batches
//! within the memory budget; tables, directory and manifest are synced; the new manifest starts a fresh
//! epoch in fresh segments, past every LSN that the old one could have written. Only then are old
//! segments recycled. What the plan rejected is never looked at again.

use super::plan::{OpenPlan, decode_installed, replay, table_metas};
use super::replay::{Transaction, TransactionSink};
use super::walk::GroupPlace;
use crate::catalog::Catalog;
use crate::checkpoint::write::TableWriter;
use crate::cursor::RangeTombstone;
use crate::error::{Error, Result};
use crate::memtable::{Batch, Memtable, NewEntry};
use crate::table::TableMeta;
use crate::types::{FileId, Seqno};
use crate::view::{Layer, LiveTable, MemoryLayer, Run, runs_of};
use crate::wal::group::GroupHeader;
use crate::wal::operation::{Operation, OperationFault, Operations};
use std::sync::Arc;

/// The state of a database as replayed.
#[derive(Debug)]
pub struct Rebuilt {
    /// Newest first; the runs of the manifest included.
    pub layers: Vec<Layer>,
    /// The runs that the manifest lists, newest first.
    pub listed: Vec<Arc<Run>>,
    /// Where the replay left the last commits, if they are in memory.
    pub memtable: Arc<MemoryLayer>,
    pub catalog: Catalog,
    pub last_seqno: Seqno,
    pub next_file_id: FileId,
    /// Tables that were written. (Others in the layers are older than the recovery.)
    pub written: Vec<FileId>,
}

/// Replays a plan. With `to_tables`, everything goes to new tables, which are synced; their names are
/// durable when the segments of the next epoch are ready.
pub fn rebuild(
    writer: TableWriter<'_>,
    open: OpenTable<'_>,
    plan: &OpenPlan,
    to_tables: bool,
) -> Result<Rebuilt> {
    let manifest = &plan.manifest;
    let mut tables: Vec<Vec<Arc<LiveTable>>> = vec![Vec::new(); manifest.runs.len()];
    for (run, meta) in table_metas(writer.dir, manifest)? {
        tables[run].push(open(meta));
    }
    let runs = manifest.runs.iter().zip(tables);
    let listed: Vec<Arc<Run>> = runs
        .map(|(entry, tables)| Run::new(tables, entry.min_seqno, entry.max_seqno, entry.level))
        .collect();
    let mut rebuild = Rebuild {
        writer,
        open,
        catalog: Catalog::new(&manifest.keyspaces, manifest.next_keyspace_id),
        memtable: Arc::new(MemoryLayer::default()),
        layers: Vec::new(),
        to_tables,
        bottom: listed.is_empty(),
        last_seqno: manifest.checkpoint_seqno,
        next_file_id: plan.next_file_id,
        written: Vec::new(),
    };
    if let Err(error) = rebuild.run(plan) {
        // Nothing names them; the next try begins anew.
        rebuild.layers.clear();
        rebuild.written.iter().for_each(|file_id| writer.discard(*file_id));
        return Err(error);
    }
    let Rebuild { mut layers, memtable, catalog, last_seqno, next_file_id, written, .. } = rebuild;
    if !to_tables {
        layers.push(Layer::Memory(memtable.clone()));
    }
    layers.reverse();
    layers.extend(listed.iter().cloned().map(Layer::Run));
    Ok(Rebuilt { layers, listed, memtable, catalog, last_seqno, next_file_id, written })
}

/// Makes a table of the database from what a manifest or its writer says of it.
pub type OpenTable<'a> = &'a dyn Fn(TableMeta) -> Arc<LiveTable>;

struct Rebuild<'a> {
    writer: TableWriter<'a>,
    open: OpenTable<'a>,
    catalog: Catalog,
    memtable: Arc<MemoryLayer>,
    /// Oldest first.
    layers: Vec<Layer>,
    to_tables: bool,
    /// Nothing lies below the first layer.
    bottom: bool,
    last_seqno: Seqno,
    next_file_id: FileId,
    written: Vec<FileId>,
}

impl Rebuild<'_> {
    fn run(&mut self, plan: &OpenPlan) -> Result<()> {
        let writer = self.writer;
        replay(&**writer.fs, writer.dir, plan, self)?;
        if self.to_tables {
            // The names of the tables need no sync of their own: before a manifest names them, the
            // segments of the new epoch get their names, and each time this directory is synced. That
            // makes all earlier changes to it durable. (Left out, a sync here was not missed by any cut.)
            self.seal()?;
        }
        Ok(())
    }

    /// Ends the memtable and makes it a layer.
    fn seal(&mut self) -> Result<()> {
        if self.memtable.is_empty() {
            return Ok(());
        }
        let memtable = std::mem::replace(&mut self.memtable, Arc::new(MemoryLayer::default()));
        if !self.to_tables {
            self.layers.push(Layer::Memory(memtable));
            return Ok(());
        }
        let file_id = self.take_file_id();
        let bottom = self.bottom && self.layers.is_empty();
        let at = self.last_seqno;
        let meta =
            self.writer.write_memtable(&memtable, at, Some(&self.catalog), bottom, file_id)?;
        if let Some(meta) = meta {
            self.written.push(file_id);
            self.push_run(meta, at, u8::from(bottom));
        }
        Ok(())
    }

    fn push_run(&mut self, meta: TableMeta, seqno: Seqno, level: u8) {
        let tables = vec![(self.open)(meta)];
        self.layers.push(Layer::Run(Run::new(tables, seqno, seqno, level)));
    }

    fn take_file_id(&mut self) -> FileId {
        let id = self.next_file_id;
        self.next_file_id = FileId(id.get() + 1);
        id
    }
}

impl TransactionSink for Rebuild<'_> {
    fn transaction(
        &mut self,
        transaction: &Transaction<'_>,
        header: &GroupHeader,
        place: &GroupPlace<'_>,
    ) -> Result<()> {
        let seqno = transaction.seqno;
        if self.to_tables && self.memtable.bytes() > self.writer.options.active_limit() {
            self.seal()?;
        }
        self.last_seqno = seqno;
        let memtable = self.memtable.clone();
        let mut installed = Vec::new();
        let outcome =
            apply_operations(&memtable, seqno, transaction.operations, &mut |operation| {
                match operation {
                    Operation::CreateKeyspace { id, name } => {
                        self.catalog.add(*id, name, seqno);
                        Ok(())
                    }
                    Operation::DropKeyspace { id } => {
                        self.catalog.drop_keyspace(*id, seqno);
                        Ok(())
                    }
                    Operation::InstallTable { meta } => {
                        installed.push(decode_installed(meta, header, place)?);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            });
        outcome.map_err(|error| match error {
            ApplyError::Fault(fault) => place.damage(header.lsn, format!("bad operation: {fault}")),
            ApplyError::Failed(error) => error,
        })?;
        if !installed.is_empty() {
            // A spilled transaction consists of nothing but its tables: what came before lies below.
            self.last_seqno = Seqno(seqno.get() - 1);
            self.seal()?;
            self.last_seqno = seqno;
        }
        let mut tables = Vec::with_capacity(installed.len());
        for meta in installed {
            let table = (self.open)(meta);
            // The footer is the one that the log names.
            table.sections()?;
            tables.push(table);
        }
        self.layers.extend(runs_of(tables, seqno).into_iter().map(Layer::Run));
        Ok(())
    }
}

/// Why operations could not be applied.
pub enum ApplyError {
    /// They cannot be read.
    Fault(OperationFault),
    /// Something else.
    Failed(Error),
}

/// Applies a transaction's operations to a memtable; those that are not about entries go to `other`. Commits and
/// replay share it. After a fault, all operations before it are applied.
pub fn apply_operations(
    memtable: &Memtable,
    seqno: Seqno,
    operations: &[u8],
    other: &mut dyn FnMut(&Operation<'_>) -> Result<()>,
) -> Result<(), ApplyError> {
    let mut writer = memtable.writer();
    let mut batch = Batch::new(&mut writer, seqno);
    let mut outcome = Ok(());
    for operation in Operations::new(operations) {
        let applied = match operation {
            Ok(Operation::Put { keyspace, key, value }) => {
                batch.push(NewEntry { keyspace, key, value: Some(value) })
            }
            Ok(Operation::Remove { keyspace, key }) => {
                batch.push(NewEntry { keyspace, key, value: None })
            }
            Ok(Operation::RemoveRange { keyspace, start, end }) => {
                let end = end.map(<[u8]>::to_vec);
                let tombstone = RangeTombstone { start: start.to_vec(), end };
                batch.writer().and_then(|writer| writer.delete_range(keyspace, tombstone, seqno))
            }
            Ok(other_kind) => other(&other_kind),
            Err(fault) => {
                outcome = Err(ApplyError::Fault(fault));
                break;
            }
        };
        applied.map_err(ApplyError::Failed)?;
    }
    batch.finish().map_err(ApplyError::Failed)?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::{ApplyError, apply_operations};
    use crate::memtable::Memtable;
    use crate::types::{KeyspaceId, Seqno};
    use crate::wal::operation::Operation;

    /// Salvage keeps what comes before an operation that cannot be read, and says so.
    #[test]
    fn what_comes_before_a_fault_is_applied() {
        for count in [0_u8, 1, 2, 15, 16, 17, 40] {
            let mut operations = Vec::new();
            for number in 0..count {
                let (keyspace, key) = (KeyspaceId(1), [number]);
                Operation::Put { keyspace, key: &key, value: b"v" }.encode(&mut operations);
            }
            operations.push(0xFF);
            let memtable = Memtable::new();
            let outcome = apply_operations(&memtable, Seqno(1), &operations, &mut |_| Ok(()));
            assert!(matches!(outcome, Err(ApplyError::Fault(_))));
            for number in 0..count {
                let entry = memtable.get(KeyspaceId(1), &[number], Seqno(1));
                assert_eq!(entry.unwrap().value, Some(b"v".as_slice()), "{number} of {count}");
            }
        }
    }
}
