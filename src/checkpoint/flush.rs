//! Checkpoints: the oldest layer in memory becomes durable tables, and the log before it is released.
//!
//! 1. The memtable was frozen at a group boundary (see `Engine::freeze`).
//! 2. It is written as a table, synced, and the directory is synced.
//! 3. The log is made durable up to the boundary: a table never runs ahead of the log.
//! 4. The manifest that lists the table, and starts the log at the boundary, is published.
//! 5. The view gets the table in place of the memtable; the segments before the boundary are recycled.
//!
//! A full disk before step 4 discards the table and changes nothing else. The reserve is spent once.

use super::write::{Purpose, TableWriter};
use crate::engine::{Engine, Pending, PendingLayer};
use crate::error::{Error, Result};
use crate::manifest::RunEntry;
use crate::memtable::Memtable;
use crate::mistakes::{Mistake, planted};
use crate::view::{Layer, Run};
use crate::wal::flush::Reach;
use std::sync::Arc;

impl Engine {
    /// How this engine writes tables.
    pub fn table_writer(&self, purpose: Purpose) -> TableWriter<'_> {
        TableWriter {
            fs: &self.fs,
            dir: &self.dir,
            database: self.database,
            options: &self.options,
            counters: &self.counters,
            purpose,
            // While it spills, a transaction may hold the gate that commits wait for.
            pacer: self.log.pacer().filter(|_| purpose != Purpose::Spill),
        }
    }

    /// Publishes the oldest pending layer. Returns false if there is none.
    pub fn flush_oldest(&self) -> Result<bool> {
        let _flushing = self.flushing.lock();
        if self.published.lock().sealed {
            return Err(Error::Closed);
        }
        let Some(oldest) = self.pending.lock().front().cloned() else { return Ok(false) };
        *self.flush_failure.lock() = None;
        let mut outcome = self.flush_layer(&oldest);
        let full = matches!(outcome, Err(Error::NoSpace { .. }));
        let wanted = full.then(|| self.space.reserve.want());
        if full && self.free_room() {
            outcome = self.flush_layer(&oldest);
        }
        let outcome = outcome.map_err(|e| self.or_poison_if_sync(e));
        *self.flush_failure.lock() = outcome.as_ref().err().cloned();
        if outcome.is_ok() {
            let mut pending = self.pending.lock();
            pending.pop_front();
            self.note_frozen(&pending);
        }
        if full {
            self.refill_reserve();
        }
        drop(wanted);
        self.pending_done.notify_all();
        drop(oldest);
        self.move_pinned();
        outcome.map(|()| true)
    }

    /// Publishes all pending layers.
    pub fn flush_all(&self) -> Result<()> {
        while self.flush_oldest()? {}
        Ok(())
    }

    fn flush_layer(&self, oldest: &Pending) -> Result<()> {
        if planted(Mistake::ReleasedBeforePublish) {
            let _ = self.space.release(oldest.lsn);
        }
        match &oldest.layer {
            PendingLayer::Frozen(memtable) => {
                let run = self.write_frozen(memtable, oldest)?;
                let outcome = self.publish_layer(oldest, run.as_slice());
                if let (Err(Error::NoSpace { .. }), Some(run)) = (&outcome, &run) {
                    // The old manifest is in force; after any other error either may be.
                    let writer = self.table_writer(Purpose::Checkpoint);
                    run.tables.iter().for_each(|t| writer.discard(t.meta().file_id));
                }
                outcome?;
                self.change_view(|layers| {
                    let at = layers.iter().position(
                        |layer| matches!(layer, Layer::Memory(m) if Arc::ptr_eq(m, memtable)),
                    );
                    if let Some(at) = at {
                        match run {
                            Some(run) => layers[at] = Layer::Run(run),
                            None => {
                                layers.remove(at);
                            }
                        }
                    }
                });
                self.note_published(memtable);
                self.counters.checkpoints.add(1);
            }
            PendingLayer::Installed(runs) => self.publish_layer(oldest, runs)?,
        }
        self.note_memory();
        // The layer is published, and no longer due. A spare file that cannot be removed is found by the
        // next open.
        let reset_at = planted(Mistake::LogResetUnderCommitter).then(|| self.log.end());
        let _ = self.space.release(reset_at.unwrap_or(oldest.lsn));
        Ok(())
    }

    fn write_frozen(&self, memtable: &Memtable, oldest: &Pending) -> Result<Option<Arc<Run>>> {
        let bottom = self.published.lock().runs.is_empty();
        let file_id = self.take_file_id();
        let writer = self.table_writer(Purpose::Checkpoint);
        let catalog = self.catalog_at(oldest.seqno);
        let meta =
            writer.write_memtable(memtable, oldest.seqno, Some(&catalog), bottom, file_id)?;
        let Some(meta) = meta else { return Ok(None) };
        if let Err(error) = writer.sync_names() {
            writer.discard(file_id);
            return Err(error);
        }
        let tables = vec![self.live_table(meta)];
        Ok(Some(Run::new(tables, oldest.seqno, oldest.seqno, u8::from(bottom))))
    }

    /// A copy of what a checkpoint needs of the catalog, so that its lock is not held while writing.
    pub fn catalog_at(&self, at: crate::types::Seqno) -> crate::catalog::Catalog {
        let catalog = self.catalog.read();
        crate::catalog::Catalog::new(&catalog.entries_at(at), catalog.next_id)
    }

    /// Publishes a layer's runs (oldest first) as the newest; a replay starts behind the layer.
    fn publish_layer(&self, oldest: &Pending, runs: &[Arc<Run>]) -> Result<()> {
        if !planted(Mistake::TableBeforeLog) {
            self.log.flush(oldest.lsn, Reach::Durable)?;
        }
        let (keyspaces, next_id) = {
            let catalog = self.catalog.read();
            (catalog.entries_at(oldest.seqno), catalog.next_id)
        };
        let past = planted(Mistake::CheckpointAtEndOfLog).then(|| self.log.end());
        let replay_from = past.unwrap_or(oldest.lsn);
        let segment_base = self.space.base_of(replay_from);
        self.publish(|manifest| {
            for run in runs {
                manifest.runs.insert(0, run_entry(run));
            }
            manifest.checkpoint_lsn = replay_from;
            manifest.checkpoint_seqno = oldest.seqno;
            manifest.segment_base = segment_base.unwrap_or(manifest.segment_base);
            manifest.epochs.retain(|range| range.end.is_none_or(|end| end > oldest.lsn));
            manifest.keyspaces = keyspaces;
            manifest.next_keyspace_id = next_id;
        })?;
        self.allowance.earn(runs.iter().map(|run| run.entries()).sum());
        let mut published = self.published.lock();
        for run in runs {
            published.runs.insert(0, run.clone());
        }
        Ok(())
    }
}

/// What a manifest says of a run.
pub fn run_entry(run: &Run) -> RunEntry {
    let encode = |table: &Arc<crate::view::LiveTable>| {
        let mut bytes = Vec::new();
        table.meta().encode(&mut bytes);
        bytes
    };
    RunEntry {
        min_seqno: run.min_seqno,
        max_seqno: run.max_seqno,
        level: run.level,
        tables: run.tables.iter().map(encode).collect(),
    }
}

#[cfg(test)]
#[path = "flush_tests.rs"]
mod tests;
