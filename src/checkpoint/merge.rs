//! Merges: keep few runs, and give back the space of what was overwritten, removed or dropped.
//!
//! Lazy levelling. New runs gather above one base. When they hold a third of the base's bytes (or there
//! is no base), all are merged into a new base: each byte of the base is then rewritten once for every
//! third of it that was written anew. When there are many runs and they are small against the base, the
//! smallest neighbours are merged among themselves, so that a read never looks into more than a dozen.
//!
//! While nobody writes, fewer are left: upper runs that hold a third of the base go into it also when they are
//! few; newer ones are merged into the next older one if they hold as much as it does, or an eighth while both are
//! small. So a byte is rewritten eight times until it lies in a large run, and then once for each time that what
//! lies above the base doubles.
//!
//! A merge writes new tables beside the old ones and publishes them in one manifest; old files go when
//! the last reader has left them. A full disk discards the new tables and changes nothing.

use super::flush::run_entry;
use super::write::Purpose;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::mistakes::{Mistake, instead, planted};
use crate::types::Seqno;
use crate::view::{Layer, Run};
use std::ops::Range;
use std::sync::Arc;

/// More upper runs than this are merged among themselves.
const UPPER_RUNS_MAX: usize = 8;

impl Engine {
    /// Merges what is due, with `resting` what is due while nobody writes. Returns false if nothing was.
    pub fn merge_due(&self, resting: bool) -> Result<bool> {
        let _merging = self.merging.lock();
        self.check_open()?;
        let runs = self.published.lock().runs.clone();
        match self.due_by_size(&runs, resting).or_else(|| self.dropped_share(&runs)) {
            Some(range) => self.merge_range(&runs, range).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether a merge is due while nobody writes. Reads nothing.
    pub fn wants_merge_at_rest(&self) -> bool {
        let runs = self.published.lock().runs.clone();
        self.due_by_size(&runs, true).is_some()
    }

    fn due_by_size(&self, runs: &[Arc<Run>], resting: bool) -> Option<Range<usize>> {
        let sizes: Vec<(u64, bool)> = runs.iter().map(|run| (run.bytes(), run.level > 0)).collect();
        let small_bytes = self.options.memory_budget as u64 / 2;
        due(&sizes).or_else(|| resting.then(|| due_at_rest(&sizes, small_bytes)).flatten())
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

/// Which runs (newest first: bytes, is base) are to be merged.
fn due(runs: &[(u64, bool)]) -> Option<Range<usize>> {
    let base_bytes = runs.last().filter(|run| run.1).map_or(0, |run| run.0);
    let upper = runs.len() - usize::from(base_bytes > 0);
    let upper_bytes: u64 = runs[..upper].iter().map(|run| run.0).sum();
    if upper >= UPPER_RUNS_MAX && upper_bytes * 3 >= base_bytes {
        return Some(0..runs.len());
    }
    if upper > UPPER_RUNS_MAX {
        // The cheapest neighbours that halve the number of runs.
        let width = UPPER_RUNS_MAX / 2 + 1;
        return (0..=upper - width)
            .min_by_key(|&from| runs[from..from + width].iter().map(|run| run.0).sum::<u64>())
            .map(|from| from..from + width);
    }
    None
}

/// While nobody writes, newer runs are merged into a small one of up to so many times their size, and into a
/// large one no larger than they are.
const SMALL_RATIO: u64 = 8;

/// Which runs are to be merged while nobody writes. What is no more than `small_bytes` when it is merged is small.
fn due_at_rest(runs: &[(u64, bool)], small_bytes: u64) -> Option<Range<usize>> {
    let base_bytes = runs.last().filter(|run| run.1).map_or(0, |run| run.0);
    let upper = &runs[..runs.len() - usize::from(base_bytes > 0)];
    let bytes = |runs: &[(u64, bool)]| runs.iter().map(|run| run.0).sum::<u64>();
    if runs.len() > 1 && bytes(upper) * 3 >= base_bytes {
        return Some(0..runs.len());
    }
    let width = (2..=upper.len()).rev().find(|&width| {
        let (newer, next) = (bytes(&upper[..width - 1]), upper[width - 1].0);
        let ratio = if newer + next <= small_bytes { SMALL_RATIO } else { 1 };
        next <= ratio * newer
    })?;
    Some(0..width)
}

#[cfg(test)]
mod tests {
    use super::{due, due_at_rest};

    #[test]
    fn at_rest_what_holds_a_third_of_the_base_goes_into_it() {
        assert_eq!(due_at_rest(&[], 10), None);
        assert_eq!(due_at_rest(&[(5, true)], 10), None);
        assert_eq!(due_at_rest(&[(5, false)], 10), None);
        assert_eq!(due_at_rest(&[(33, false), (100, true)], 10), None);
        assert_eq!(due_at_rest(&[(34, false), (100, true)], 10), Some(0..2));
        assert_eq!(due_at_rest(&[(5, false), (5, false)], 10), Some(0..2));
    }

    #[test]
    fn at_rest_upper_runs_become_one_or_double_from_one_to_the_next() {
        let base = (1000, true);
        let upper = |sizes: &[u64]| -> Vec<(u64, bool)> {
            sizes.iter().map(|&bytes| (bytes, false)).chain([base]).collect()
        };
        assert_eq!(due_at_rest(&upper(&[1, 2, 7]), 10), Some(0..3), "small");
        assert_eq!(due_at_rest(&upper(&[1, 8]), 10), Some(0..2), "small");
        assert_eq!(due_at_rest(&upper(&[1, 8]), 8), None, "large");
        assert_eq!(due_at_rest(&upper(&[1, 9]), 10), None, "small, but much more than is new");
        assert_eq!(due_at_rest(&upper(&[1, 2, 8]), 10), Some(0..2));
        assert_eq!(due_at_rest(&upper(&[4, 5, 8, 100]), 10), Some(0..3));
        assert_eq!(due_at_rest(&upper(&[4, 8, 12]), 10), Some(0..3));
    }

    #[test]
    fn few_runs_rest() {
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[(5, true)]), None);
        assert_eq!(due(&[(1, false), (1, false), (100, true)]), None);
    }

    #[test]
    fn many_large_runs_go_into_the_base() {
        let mut runs = vec![(10, false); 8];
        runs.push((100, true));
        assert_eq!(due(&runs), Some(0..9));
        assert_eq!(due(&[(10, false); 8]), Some(0..8));
    }

    #[test]
    fn many_small_runs_are_merged_among_themselves() {
        let mut runs = vec![(1, false); 4];
        runs.extend([(50, false); 5]);
        runs.push((100_000, true));
        let range = due(&runs).unwrap();
        assert_eq!(range, 0..5);
    }
}
