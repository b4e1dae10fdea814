//! Merges: keep few runs, and give back the space of what was overwritten, removed or dropped.
//!
//! [`super::due`] says which runs are to be merged, and when; runs that do not overlap become one at any time, since
//! that costs a manifest and nothing else. A merge writes new tables beside the old ones, except for those that stay as
//! they are ([`super::parts`]), and publishes them in one manifest; old files go when the last reader has left them. A
//! full disk discards the new tables and changes nothing.

use super::dead::dead_bytes;
use super::due::{RunSize, due, due_at_rest, due_with_memory};
use super::flush::run_entry;
use super::parts::{Part, merged_bytes, parts};
use super::write::Purpose;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::mistakes::{Mistake, instead, planted};
use crate::sync::engine::{Ordering, RwLock};
use crate::table::TableMeta;
use crate::types::{FileId, KeyspaceId, Seqno};
use crate::view::{Layer, LiveTable, MemoryLayer, Run};
use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Tables of less than this fraction of the usual size are merged with their neighbours.
const SMALL_FRACTION: u64 = 4;

/// What a merge says that ended because somebody wanted its room.
const GAVE_WAY: &str = "a merge, beside what frees some";

/// Whether a merge ended because somebody wanted its room.
pub fn gave_way(error: &Error) -> bool {
    matches!(error, Error::NoSpace { what } if *what == GAVE_WAY)
}

impl Engine {
    /// Merges what is due, with `resting` what is due while nobody writes. Returns false if nothing was.
    pub fn merge_due(&self, resting: bool) -> Result<bool> {
        let _merging = self.merging.lock();
        self.check_open()?;
        if self.space.reserve.is_wanted() {
            return Err(Error::NoSpace { what: GAVE_WAY });
        }
        let (runs, generation) = {
            let published = self.published.lock();
            (published.runs.clone(), published.manifest.generation)
        };
        let dead = OnceCell::new();
        let dead_bytes = || *dead.get_or_init(|| dead_bytes(&runs, None));
        let by_size = || self.due_by_size(&runs, resting, dead_bytes);
        let due = self.apart(&runs).or_else(by_size).or_else(|| self.dropped_share(&runs));
        let Some(range) = due else {
            if resting {
                self.rested_at.store(generation.get(), Ordering::Release);
            }
            return Ok(false);
        };
        let bottom = range.end == runs.len();
        let merged_bytes = self.merge_range(&runs, range)?;
        if resting && bottom {
            self.allowance.spend(merged_bytes);
        }
        Ok(true)
    }

    /// Whether something was published since [`Engine::merge_due`] found nothing to do at rest.
    pub fn changed_since_rest(&self) -> bool {
        let generation = self.published.lock().manifest.generation;
        self.rested_at.load(Ordering::Acquire) != generation.get()
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
        let sizes = sizes(runs);
        let small_bytes = self.options.memory_budget as u64 / 2;
        let at_rest = || due_at_rest(&sizes, small_bytes, self.allowance.bytes(), &dead_bytes);
        due(&sizes, &dead_bytes).or_else(|| resting.then(at_rest).flatten())
    }

    /// Whether what memory holds, mostly removals, makes so much dead that a checkpoint and a merge pay. May read.
    pub fn memory_makes_much_dead(&self) -> bool {
        let view = self.view.load_full();
        let Some(Layer::Memory(active)) = view.layers.first() else { return false };
        // Looked at again only after a commit.
        let end = self.log.end().get();
        if active.is_untouched() || self.looked_at.swap(end, Ordering::AcqRel) == end {
            return false;
        }
        let runs = self.published.lock().runs.clone();
        let least_bytes = self.options.resting_log_limit();
        due_with_memory(&sizes(&runs), least_bytes, |with_memory| {
            let memory: Option<&MemoryLayer> = with_memory.then_some(active);
            dead_bytes(&runs, memory)
        })
    }

    /// Merges everything into one base.
    pub fn merge_all(&self) -> Result<()> {
        let _merging = self.merging.lock();
        self.check_open()?;
        let runs = self.published.lock().runs.clone();
        let liveness = self.liveness();
        let live = |run: &Arc<Run>| run.level > 0 && liveness.dropped_bytes_of_run(run) == 0;
        if runs.is_empty() || (runs.len() == 1 && live(&runs[0])) {
            return Ok(());
        }
        self.merge_range(&runs, 0..runs.len()).map(drop)
    }

    /// Neighbouring runs whose tables do not overlap, and may all stay as they are.
    fn apart(&self, runs: &[Arc<Run>]) -> Option<Range<usize>> {
        let liveness = self.liveness();
        let all_stay = |range: Range<usize>| {
            let parts = self.parts(&runs[range.clone()], range.end == runs.len(), &liveness);
            parts.iter().all(|part| matches!(part, Part::Kept(_)))
        };
        let first = (1..runs.len()).find(|&at| all_stay(at - 1..at + 1))? - 1;
        let end = (first + 2..runs.len()).find(|&at| !all_stay(first..at + 1));
        Some(first..end.unwrap_or(runs.len()))
    }

    /// How a merge of these runs is made up. At the bottom no tombstone stays, and nothing of dropped keyspaces does
    /// anywhere.
    fn parts(&self, runs: &[Arc<Run>], bottom: bool, liveness: &Liveness<'_>) -> Vec<Part> {
        parts(runs, self.options.table_bytes / SMALL_FRACTION, |table| {
            let meta = table.meta();
            let removes = meta.range_tombstones > 0 || (bottom && meta.tombstones > 0);
            !removes && liveness.dropped_bytes(table) == Some(0)
        })
    }

    /// Which keyspaces live as of the last checkpoint.
    fn liveness(&self) -> Liveness<'_> {
        let checkpoint = self.published.lock().manifest.checkpoint_seqno;
        Liveness { catalog: &self.catalog, checkpoint }
    }

    /// Merges `runs[range]`, which holds the base if it reaches to the end. Returns how many bytes were read for it:
    /// tables that stay as they are do not count. It ends as on a full disk when somebody wants its room.
    fn merge_range(&self, runs: &[Arc<Run>], range: Range<usize>) -> Result<u64> {
        let bottom = range.end == runs.len();
        let inputs = &runs[range];
        let liveness = self.liveness();
        let parts = self.parts(inputs, bottom, &liveness);
        let merged_bytes = merged_bytes(&parts);
        // Of tables that are younger by their number, the content is younger: checkpoints go on meanwhile.
        let numbers = merged_bytes / self.options.table_bytes + 2 * parts.len() as u64;
        let numbers: Vec<FileId> = (0..numbers).map(|_| self.take_file_id()).collect();
        let numbers = RefCell::new(numbers.into_iter());
        let take_file_id = || numbers.borrow_mut().next().unwrap_or_else(|| self.take_file_id());
        let writer = self.table_writer(Purpose::Merge);
        if planted(Mistake::RetiredBeforePublish) {
            let names = inputs.iter().flat_map(|run| &run.tables);
            names.for_each(|table| writer.discard(table.meta().file_id));
        }
        let newest = inputs.first().map_or(Seqno::ZERO, |run| run.max_seqno);
        // Runs hold nothing of a keyspace that was made later than they were.
        let checkpoint = liveness.checkpoint;
        let catalog = self.catalog_at(checkpoint);
        let mut written: Vec<TableMeta> = Vec::new();
        let discard = |written: &[TableMeta]| {
            written.iter().for_each(|meta| writer.discard(meta.file_id));
        };
        let mut tables: Vec<Arc<LiveTable>> = Vec::new();
        for part in parts {
            let inputs = match part {
                Part::Kept(table) => {
                    tables.push(table);
                    continue;
                }
                Part::Merged(inputs) => inputs,
            };
            let merge = || {
                self.merge_may_go_on()?;
                writer.merge(
                    &inputs,
                    &|keyspace| catalog.is_live(keyspace, checkpoint),
                    bottom,
                    &take_file_id,
                    &|| self.merge_may_go_on(),
                )
            };
            let metas = instead(Mistake::MergeMendsDamage, Mistake::BlocksNotVerified, merge);
            let metas = metas.map_err(|error| {
                discard(&written);
                self.or_poison_if_sync(error)
            })?;
            tables.extend(metas.iter().map(|meta| self.live_table(meta.clone())));
            written.extend(metas);
        }
        // After an error other than a full disk the new manifest may be in force, and name them.
        let discard_if_full = |error: Error| {
            if matches!(error, Error::NoSpace { .. }) {
                discard(&written);
            }
            self.or_poison_if_sync(error)
        };
        if !written.is_empty() {
            writer.sync_names().map_err(discard_if_full)?;
        }
        let oldest = inputs.last().map_or(Seqno::ZERO, |run| run.min_seqno);
        let merged =
            (!tables.is_empty()).then(|| Run::new(tables, oldest, newest, u8::from(bottom)));
        self.publish_merge(inputs, merged.as_ref()).map_err(discard_if_full)?;
        self.counters.merges.add(1);
        Ok(merged_bytes)
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
        self.note_memory();
        let merged = merged.iter().flat_map(|run| &run.tables);
        let stays: HashSet<FileId> = merged.map(|table| table.meta().file_id).collect();
        let tables = inputs.iter().flat_map(|run| &run.tables);
        tables.filter(|table| !stays.contains(&table.meta().file_id)).for_each(|t| t.retire());
        Ok(())
    }

    fn merge_may_go_on(&self) -> Result<()> {
        if self.is_room_wanted() {
            return Err(Error::NoSpace { what: GAVE_WAY });
        }
        // The space of tables that somebody read until now is not kept for the length of a merge.
        self.remover.run();
        self.log.check()?;
        self.check_open()
    }

    /// Runs worth rewriting because much of them belongs to dropped keyspaces.
    fn dropped_share(&self, runs: &[Arc<Run>]) -> Option<Range<usize>> {
        let liveness = self.liveness();
        let dropped: u64 = runs.iter().map(|run| liveness.dropped_bytes_of_run(run)).sum();
        let all: u64 = runs.iter().map(|run| run.bytes()).sum();
        (dropped > 0 && dropped * 4 >= all).then_some(0..runs.len())
    }
}

fn sizes(runs: &[Arc<Run>]) -> Vec<RunSize> {
    let size = |run: &Arc<Run>| RunSize {
        bytes: run.bytes(),
        tables: run.tables.len(),
        values: run.values(),
        tombstones: run.entries() - run.values(),
        is_base: run.level > 0,
    };
    runs.iter().map(size).collect()
}

/// What a checkpoint has seen of keyspaces.
struct Liveness<'e> {
    catalog: &'e RwLock<Catalog>,
    checkpoint: Seqno,
}

/// Keyspaces between the first and the last of a table that are looked up before the table is asked.
const NEIGHBOURS_MAX: u32 = 1024;

impl Liveness<'_> {
    fn is_live(&self, keyspace: KeyspaceId) -> bool {
        self.catalog.read().is_live(keyspace, self.checkpoint)
    }

    /// Bytes of a run that belong to dropped keyspaces, as far as tables can be read.
    fn dropped_bytes_of_run(&self, run: &Run) -> u64 {
        run.tables.iter().filter_map(|table| self.dropped_bytes(table)).sum()
    }

    /// Bytes of a table that belong to dropped keyspaces. It is read only if its bounds do not tell. `None` if it
    /// cannot be.
    fn dropped_bytes(&self, table: &LiveTable) -> Option<u64> {
        let meta = table.meta();
        let (first, last) = (meta.first.0.get(), meta.last.0.get());
        let few = last - first <= NEIGHBOURS_MAX;
        if few && (first..=last).all(|number| self.is_live(KeyspaceId(number))) {
            return Some(0);
        }
        if first == last {
            return Some(meta.file_bytes);
        }
        let sections = table.sections().ok()?;
        let dropped = sections.iter().filter(|section| !self.is_live(section.keyspace));
        Some(dropped.map(|section| section.bytes.max(1)).sum())
    }
}
