//! Which runs are to be merged, and when. Decides by sizes, and for large records by what is dead, and touches nothing.
//!
//! Lazy levelling. New runs gather above one base. When they hold a third of the base's bytes (or there
//! is no base), all are merged into a new base: each byte of the base is then rewritten once for every
//! third of it that was written anew. When there are many runs and they are small against the base, the
//! smallest neighbours are merged among themselves, so that a read never looks into more than a dozen.
//!
//! While nobody writes, fewer are left:
//! 1. Upper runs that hold a third of the base go into it also when they are few.
//! 2. So do smaller ones while the [`Allowance`] lasts: each record that was written since the database was opened pays
//!    for half a KiB of rewriting. One run is read twice as fast as two, and many small records gain more by that
//!    than it costs to write them once more; large values do not. A life that writes little rewrites little.
//! 3. Otherwise newer ones are merged into the next older one if they hold as much as it does, or an eighth while
//!    both are small. So a byte is rewritten eight times until it lies in a large run, and then once for each time
//!    that what lies above the base doubles.
//!
//! Large records are rewritten for space alone. To look into a run costs less than a tenth of what it costs to read
//! such a record, and to rewrite it costs much. So all is merged when a quarter of it is dead (overwritten or removed;
//! see [`dead`](super::dead)), which is what a third of the base may be at worst, and upper runs among
//! themselves when they are more than [`LARGE_UPPER_RUNS_MAX`].

use crate::sync::engine::{AtomicU64, Ordering};
use std::ops::Range;

/// More upper runs than this are merged among themselves.
const UPPER_RUNS_MAX: usize = 8;
/// Records of so many bytes and more, on average, are large.
const LARGE_RECORD_BYTES: u64 = 4 << 10;
/// What a tombstone is taken to take.
const TOMBSTONE_BYTES: u64 = 64;
/// As [`UPPER_RUNS_MAX`], where records are large.
const LARGE_UPPER_RUNS_MAX: usize = 12;
/// Bytes of the base that may be rewritten at rest for each record that was written.
const ALLOWED_PER_RECORD_BYTES: u64 = 512;
/// While nobody writes, newer runs are merged into a small one of up to so many times their size, and into a
/// large one no larger than they are.
const SMALL_RATIO: u64 = 8;

/// What the choice looks at of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunSize {
    pub bytes: u64,
    pub tables: usize,
    /// Point entries that are no tombstones.
    pub values: u64,
    /// Tombstones of keys.
    pub tombstones: u64,
    pub is_base: bool,
}

/// How many bytes may still be merged into the base at rest beyond what is due anyway.
#[derive(Debug, Default)]
pub struct Allowance(AtomicU64);

impl Allowance {
    /// So many records came into new runs.
    pub fn earn(&self, records: u64) {
        self.change(|bytes| bytes.saturating_add(records.saturating_mul(ALLOWED_PER_RECORD_BYTES)));
    }

    /// So many bytes are merged.
    pub fn spend(&self, spent_bytes: u64) {
        self.change(|bytes| bytes.saturating_sub(spent_bytes));
    }

    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        // Always `Ok`: the closure never declines.
        let _ =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| Some(change(bytes)));
    }
}

fn bytes_of(runs: &[RunSize]) -> u64 {
    runs.iter().map(|run| run.bytes).sum()
}

/// The runs above the base, and the base's bytes.
fn split(runs: &[RunSize]) -> (&[RunSize], u64) {
    match runs.split_last() {
        Some((base, upper)) if base.is_base => (upper, base.bytes),
        _ => (runs, 0),
    }
}

/// Whether records are large enough that runs are merged for space alone.
fn are_large(runs: &[RunSize]) -> bool {
    let values: u64 = runs.iter().map(|run| run.values).sum();
    let tombstones: u64 = runs.iter().map(|run| run.tombstones).sum();
    let value_bytes = bytes_of(runs).saturating_sub(tombstones.saturating_mul(TOMBSTONE_BYTES));
    values > 0 && value_bytes >= values.saturating_mul(LARGE_RECORD_BYTES)
}

/// Whether so much is dead that it pays to rewrite all the rest.
fn is_much(dead_bytes: u64, runs: &[RunSize]) -> bool {
    dead_bytes.saturating_mul(4) >= bytes_of(runs)
}

/// Whether a checkpoint of what memory holds would make a merge due that gives back space, and at least `least_bytes` by
/// what is in memory. Asked for what is dead without memory and with it.
pub fn due_with_memory(
    runs: &[RunSize],
    least_bytes: u64,
    dead_bytes: impl Fn(bool) -> u64,
) -> bool {
    if !are_large(runs) || bytes_of(runs) < least_bytes {
        return false;
    }
    let (without, with) = (dead_bytes(false), dead_bytes(true));
    !is_much(without, runs) && is_much(with, runs) && with - without.min(with) >= least_bytes
}

/// The cheapest neighbours that halve the number of runs, if these are more than `most`.
fn cheapest_neighbours(upper: &[RunSize], most: usize) -> Option<Range<usize>> {
    let width = most / 2 + 1;
    let starts = (upper.len() > most).then(|| 0..=upper.len() - width)?;
    let cheapest = starts.min_by_key(|&from| bytes_of(&upper[from..from + width]))?;
    Some(cheapest..cheapest + width)
}

/// Which runs (newest first) are to be merged whether or not somebody writes. `dead_bytes` is asked only where it
/// decides.
pub fn due(runs: &[RunSize], dead_bytes: impl FnOnce() -> u64) -> Option<Range<usize>> {
    let (upper, base_bytes) = split(runs);
    let are_large = are_large(runs);
    // Runs that do not overlap have become one: their tables tell how much was written.
    let tables: usize = upper.iter().map(|run| run.tables).sum();
    if runs.len() > 1 && tables >= UPPER_RUNS_MAX {
        let all = match are_large {
            true => is_much(dead_bytes(), runs),
            false => bytes_of(upper) * 3 >= base_bytes,
        };
        if all {
            return Some(0..runs.len());
        }
    }
    cheapest_neighbours(upper, if are_large { LARGE_UPPER_RUNS_MAX } else { UPPER_RUNS_MAX })
}

/// Which runs are to be merged while nobody writes. What is no more than `small_bytes` when it is merged is small.
pub fn due_at_rest(
    runs: &[RunSize],
    small_bytes: u64,
    allowed_bytes: u64,
    dead_bytes: impl FnOnce() -> u64,
) -> Option<Range<usize>> {
    if runs.len() < 2 {
        return None;
    }
    let (upper, base_bytes) = split(runs);
    let are_large = are_large(runs);
    let all = bytes_of(runs) <= allowed_bytes
        || match are_large {
            true => is_much(dead_bytes(), runs),
            false => bytes_of(upper) * 3 >= base_bytes,
        };
    if all {
        return Some(0..runs.len());
    }
    if are_large {
        return None;
    }
    let width = (2..=upper.len()).rev().find(|&width| {
        let (newer, next) = (bytes_of(&upper[..width - 1]), upper[width - 1].bytes);
        let ratio = if newer + next <= small_bytes { SMALL_RATIO } else { 1 };
        next <= ratio * newer
    })?;
    Some(0..width)
}

#[cfg(test)]
mod tests {
    use super::{Allowance, RunSize, due, due_at_rest, due_with_memory};

    const NOT_ASKED: fn() -> u64 = || unreachable!("small records: sizes decide");

    fn of_bytes(bytes: u64, is_base: bool) -> RunSize {
        RunSize { bytes, tables: 1, values: bytes, tombstones: 0, is_base }
    }

    fn upper(sizes: &[u64]) -> Vec<RunSize> {
        sizes.iter().map(|&bytes| of_bytes(bytes, false)).collect()
    }

    fn with_base(sizes: &[u64], base_bytes: u64) -> Vec<RunSize> {
        let mut runs = upper(sizes);
        runs.push(of_bytes(base_bytes, true));
        runs
    }

    /// The same runs with records of 4 KiB.
    fn large(runs: Vec<RunSize>) -> Vec<RunSize> {
        let grown = |run: RunSize| RunSize { bytes: run.bytes << 12, ..run };
        runs.into_iter().map(grown).collect()
    }

    #[test]
    fn at_rest_what_holds_a_third_of_the_base_goes_into_it() {
        assert_eq!(due_at_rest(&[], 10, 0, NOT_ASKED), None);
        assert_eq!(due_at_rest(&with_base(&[], 5), 10, 0, NOT_ASKED), None);
        assert_eq!(due_at_rest(&upper(&[5]), 10, 0, NOT_ASKED), None);
        assert_eq!(due_at_rest(&with_base(&[33], 100), 10, 0, NOT_ASKED), None);
        assert_eq!(due_at_rest(&with_base(&[34], 100), 10, 0, NOT_ASKED), Some(0..2));
        assert_eq!(due_at_rest(&upper(&[5, 5]), 10, 0, NOT_ASKED), Some(0..2));
    }

    #[test]
    fn at_rest_what_the_allowance_covers_goes_into_the_base() {
        assert_eq!(due_at_rest(&with_base(&[1], 100), 10, 100, NOT_ASKED), None);
        assert_eq!(due_at_rest(&with_base(&[1], 100), 10, 101, NOT_ASKED), Some(0..2));
        assert_eq!(
            due_at_rest(&with_base(&[], 100), 10, 1000, NOT_ASKED),
            None,
            "nothing to merge"
        );
        assert_eq!(due_at_rest(&upper(&[5]), 10, 1000, NOT_ASKED), None, "nothing to merge");
    }

    #[test]
    fn the_allowance_is_earned_by_records_and_spent_by_bytes() {
        let allowance = Allowance::default();
        assert_eq!(allowance.bytes(), 0);
        allowance.earn(3);
        assert_eq!(allowance.bytes(), 3 * 512);
        allowance.spend(512);
        assert_eq!(allowance.bytes(), 2 * 512);
        allowance.spend(u64::MAX);
        assert_eq!(allowance.bytes(), 0);
        allowance.earn(u64::MAX);
        allowance.earn(1);
        assert_eq!(allowance.bytes(), u64::MAX);
    }

    #[test]
    fn at_rest_upper_runs_become_one_or_double_from_one_to_the_next() {
        let due_above_base =
            |sizes, small| due_at_rest(&with_base(sizes, 1000), small, 0, NOT_ASKED);
        assert_eq!(due_above_base(&[1, 2, 7], 10), Some(0..3), "small");
        assert_eq!(due_above_base(&[1, 8], 10), Some(0..2), "small");
        assert_eq!(due_above_base(&[1, 8], 8), None, "large");
        assert_eq!(due_above_base(&[1, 9], 10), None, "small, but much more than is new");
        assert_eq!(due_above_base(&[1, 2, 8], 10), Some(0..2));
        assert_eq!(due_above_base(&[4, 5, 8, 100], 10), Some(0..3));
        assert_eq!(due_above_base(&[4, 8, 12], 10), Some(0..3));
    }

    #[test]
    fn few_runs_rest() {
        assert_eq!(due(&[], NOT_ASKED), None);
        assert_eq!(due(&with_base(&[], 5), NOT_ASKED), None);
        assert_eq!(due(&with_base(&[1, 1], 100), NOT_ASKED), None);
    }

    #[test]
    fn many_large_runs_go_into_the_base() {
        assert_eq!(due(&with_base(&[10; 8], 100), NOT_ASKED), Some(0..9));
        assert_eq!(due(&upper(&[10; 8]), NOT_ASKED), Some(0..8));
    }

    #[test]
    fn many_small_runs_are_merged_among_themselves() {
        let runs = with_base(&[1, 1, 1, 1, 50, 50, 50, 50, 50], 100_000);
        assert_eq!(due(&runs, NOT_ASKED), Some(0..5));
    }

    #[test]
    fn large_records_are_merged_for_what_is_dead() {
        let runs = large(with_base(&[10; 8], 100));
        let all_bytes = 180 << 12;
        assert_eq!(due(&runs, || all_bytes / 4 - 1), None);
        assert_eq!(due(&runs, || all_bytes / 4), Some(0..9));
        assert_eq!(due(&runs[1..], || u64::MAX), None, "few upper runs, while somebody writes");
        assert_eq!(due_at_rest(&runs[1..], 10, 0, || 0), None);
        assert_eq!(due_at_rest(&runs[1..], 10, 0, || all_bytes / 4), Some(0..8));
        assert_eq!(due_at_rest(&runs[1..], 10, all_bytes, NOT_ASKED), Some(0..8), "allowed");
        assert_eq!(due_at_rest(&runs[8..], 10, all_bytes, NOT_ASKED), None, "nothing to merge");
        let slightly_smaller = |run: &RunSize| RunSize { values: run.values + 1, ..*run };
        let small: Vec<_> = runs.iter().map(slightly_smaller).collect();
        assert_eq!(due(&small, NOT_ASKED), Some(0..9));
    }

    #[test]
    fn very_many_runs_of_large_records_are_merged_among_themselves() {
        let of = |count| large(with_base(&vec![10; count], 1000));
        assert_eq!(due(&of(12), || 0), None);
        assert_eq!(due(&of(13), || 0), Some(0..7));
        assert_eq!(due_at_rest(&of(12), 10, 0, || 0), None);
    }

    #[test]
    fn tables_of_runs_that_became_one_count() {
        let joined = |tables| {
            let mut runs = with_base(&[80], 100);
            runs[0].tables = tables;
            runs
        };
        assert_eq!(due(&joined(7), NOT_ASKED), None);
        assert_eq!(due(&joined(8), NOT_ASKED), Some(0..2));
        assert_eq!(due(&large(joined(8)), || 180 << 10), Some(0..2));
        assert_eq!(due(&large(joined(7)), || 180 << 12), None);
        assert_eq!(due(&joined(8)[..1], NOT_ASKED), None, "one run");
    }

    #[test]
    fn tombstones_make_no_record_large() {
        let mut runs = with_base(&[10, 10], 10);
        runs[0] = RunSize { bytes: 64 << 20, tombstones: 1 << 20, values: 1, ..runs[0] };
        assert_eq!(due_at_rest(&runs, 10, 0, NOT_ASKED), Some(0..3));
    }

    #[test]
    fn memory_counts_where_it_makes_the_difference() {
        let runs = large(with_base(&[], 100));
        let (all, quarter) = (100 << 12, 100 << 10);
        let asked = |least, without, with| {
            due_with_memory(&runs, least, |memory| if memory { with } else { without })
        };
        assert!(asked(quarter, 0, quarter));
        assert!(!asked(quarter, 0, quarter - 1), "a little less is dead");
        assert!(!asked(quarter, 1, quarter), "less than that by what is in memory");
        assert!(asked(quarter - 1, 1, quarter));
        assert!(!asked(1, quarter, all), "a merge is due anyway");
        assert!(!due_with_memory(&runs, all + 1, |_| unreachable!("a small database")));
    }
}
