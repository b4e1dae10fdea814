//! What of a write set lies in tables: those that are written when it grows past its share of memory, and how it commits
//! by naming them.
//!
//! Invariants: those of [`super::write_set`]. A failed sync fails the set for good.

use super::write_set::WriteSet;
use crate::checkpoint::write::Purpose;
use crate::engine::{Applied, Writer};
use crate::error::{Error, Result};
use crate::types::Seqno;
use crate::view::{Layer, LiveTable, Run, runs_of};
use crate::wal::operation::Operation;
use std::sync::Arc;

/// Spilled tables that may wait for their sync.
const UNSYNCED_MAX: usize = 4;

impl WriteSet {
    /// Spills what is left in memory, makes all tables durable, and installs them with one record.
    pub(super) fn install(&mut self, writer: &mut Writer) -> Result<Applied> {
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

    pub(super) fn spill_if_large(&mut self) -> Result<()> {
        if self.memory_bytes() <= self.engine.options.write_set_limit() {
            return Ok(());
        }
        self.spill_all()
    }

    /// Turns everything in memory into tables.
    pub(super) fn spill_all(&mut self) -> Result<()> {
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
        // What makes room comes first.
        engine.outwait();
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
        // What makes room comes first.
        engine.outwait();
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
