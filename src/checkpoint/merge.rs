//! Merges: keep few runs, and give back the space of what was overwritten, removed or dropped.
//!
//! [`super::due`] says which runs are to be merged, and when. A merge writes new tables beside the old ones and
//! publishes them in one manifest; old files go when the last reader has left them. A full disk discards the new
//! tables and changes nothing.

use super::dead::dead_bytes;
use super::due::{RunSize, due, due_at_rest};
use super::flush::run_entry;
use super::write::Purpose;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::mistakes::{Mistake, instead, planted};
use crate::types::Seqno;
use crate::view::{Layer, Run};
use std::ops::Range;
use std::sync::Arc;

impl Engine {
    /// Merges what is due, with `resting` what is due while nobody writes. Returns false if nothing was.
    pub fn merge_due(&self, resting: bool) -> Result<bool> {
        let _merging = self.merging.lock();
        self.check_open()?;
        let runs = self.published.lock().runs.clone();
        let by_size = self.due_by_size(&runs, resting, || dead_bytes(&runs));
        let Some(range) = by_size.or_else(|| self.dropped_share(&runs)) else {
            return Ok(false);
        };
        if resting && range.end == runs.len() {
            self.allowance.spend(runs.iter().map(|run| run.bytes()).sum());
        }
        self.merge_range(&runs, range).map(|()| true)
    }

    /// Whether a merge is due while nobody writes. Reads nothing, and takes what would have to be looked up for
    /// alive.
    pub fn wants_merge_at_rest(&self) -> bool {
        let runs = self.published.lock().runs.clone();
        self.due_by_size(&runs, true, || 0).is_some()
    }

    fn due_by_size(
        &self,
        runs: &[Arc<Run>],
        resting: bool,
        dead_bytes: impl Fn() -> u64,
    ) -> Option<Range<usize>> {
        let size = |run: &Arc<Run>| RunSize {
            bytes: run.bytes(),
            entries: run.entries(),
            is_base: run.level > 0,
        };
        let sizes: Vec<RunSize> = runs.iter().map(size).collect();
        let small_bytes = self.options.memory_budget as u64 / 2;
        let at_rest = || due_at_rest(&sizes, small_bytes, self.allowance.bytes(), &dead_bytes);
        due(&sizes, &dead_bytes).or_else(|| resting.then(at_rest).flatten())
    }

    /// Merges everything into one base.
    pub fn merge_all(&self) -> Result<()> {
        let _merging = self.merging.lock();
        self.check_open()?;
        let runs = self.published.lock().runs.clone();
        let live = |run: &Arc<Run>| run.level > 0 && self.dropped_bytes(run) == 0;
        if runs.is_empty() || (runs.len() == 1 && live(&runs[0])) {
            return Ok(());
        }
        self.merge_range(&runs, 0..runs.len())
    }

    /// Merges `runs[range]`, which holds the base if it reaches to the end.
    fn merge_range(&self, runs: &[Arc<Run>], range: Range<usize>) -> Result<()> {
        let bottom = range.end == runs.len();
        let inputs = &runs[range];
        let writer = self.table_writer(Purpose::Merge);
        if planted(Mistake::RetiredBeforePublish) {
            let names = inputs.iter().flat_map(|run| &run.tables);
            names.for_each(|table| writer.discard(table.meta().file_id));
        }
        let newest = inputs.first().map_or(Seqno::ZERO, |run| run.max_seqno);
        // Runs hold nothing of a keyspace that was made later than they were.
        let checkpoint = self.published.lock().manifest.checkpoint_seqno;
        let catalog = self.catalog_at(checkpoint);
        let metas = instead(Mistake::MergeMendsDamage, Mistake::BlocksNotVerified, || {
            writer.merge(
                inputs,
                &|keyspace| catalog.is_live(keyspace, checkpoint),
                bottom,
                &|| self.take_file_id(),
                &|| self.merge_may_go_on(),
            )
        });
        let metas = metas.map_err(|e| self.or_poison_if_sync(e))?;
        // After an error other than a full disk the new manifest may be in force, and name them.
        let discard_all = |error: Error| {
            if matches!(error, Error::NoSpace { .. }) {
                metas.iter().for_each(|meta| writer.discard(meta.file_id));
            }
            self.or_poison_if_sync(error)
        };
        if !metas.is_empty() {
            writer.sync_names().map_err(discard_all)?;
        }
        let oldest = inputs.last().map_or(Seqno::ZERO, |run| run.min_seqno);
        let tables: Vec<_> = metas.iter().map(|meta| self.live_table(meta.clone())).collect();
        let merged =
            (!tables.is_empty()).then(|| Run::new(tables, oldest, newest, u8::from(bottom)));
        self.publish_merge(inputs, merged.as_ref()).map_err(discard_all)?;
        self.counters.merges.add(1);
        Ok(())
    }

    fn publish_merge(&self, inputs: &[Arc<Run>], merged: Option<&Arc<Run>>) -> Result<()> {
        let is_input = |run: &Arc<Run>| inputs.iter().any(|input| Arc::ptr_eq(input, run));
        // Flushes put runs in front meanwhile; only they and this merge change the list.
        let _flushing = self.flushing.lock();
        let mut next: Vec<Arc<Run>> = Vec::new();
        let mut placed = false;
        for run in self.published.lock().runs.iter() {
            if !is_input(run) {
                next.push(run.clone());
            } else if !placed {
                placed = true;
                next.extend(merged.cloned());
            }
        }
        let entries = next.iter().map(|run| run_entry(run)).collect();
        self.publish(|manifest| manifest.runs = entries)?;
        self.published.lock().runs = next;
        self.change_view(|layers| {
            let at = layers
                .iter()
                .position(|layer| matches!(layer, Layer::Run(run) if is_input(run)))
                .unwrap_or(layers.len());
            layers.retain(|layer| !matches!(layer, Layer::Run(run) if is_input(run)));
            if let Some(merged) = merged {
                layers.insert(at, Layer::Run(merged.clone()));
            }
        });
        for table in inputs.iter().flat_map(|run| &run.tables) {
            table.retire();
        }
        Ok(())
    }

    fn merge_may_go_on(&self) -> Result<()> {
        // The space of tables that somebody read until now is not kept for the length of a merge.
        self.remover.run();
        self.log.check()?;
        self.check_open()
    }

    /// Runs worth rewriting because much of them belongs to dropped keyspaces.
    fn dropped_share(&self, runs: &[Arc<Run>]) -> Option<Range<usize>> {
        let dropped: u64 = runs.iter().map(|run| self.dropped_bytes(run)).sum();
        let all: u64 = runs.iter().map(|run| run.bytes()).sum();
        (dropped > 0 && dropped * 4 >= all).then_some(0..runs.len())
    }

    /// Bytes of a run that belong to keyspaces that a checkpoint has seen dropped.
    fn dropped_bytes(&self, run: &Run) -> u64 {
        let checkpoint = self.published.lock().manifest.checkpoint_seqno;
        let catalog = self.catalog.read();
        let of_table = |table: &Arc<crate::view::LiveTable>| {
            table.sections().map_or(0, |sections| {
                sections
                    .iter()
                    .filter(|section| !catalog.is_live(section.keyspace, checkpoint))
                    .map(|section| section.bytes.max(1))
                    .sum::<u64>()
            })
        };
        run.tables.iter().map(of_table).sum()
    }
}
