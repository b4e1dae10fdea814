//! The campaign itself put to the test: a disk that ignores one kind of sync must be caught.
//!
//! Each [`Barrier`] of the engine names an ordering that recovery relies on. With any of them gone, some
//! power cut of some workload has to break a promise; if none does, either the campaign is blind there
//! or the sync is not needed.

use crate::check::Failure;
use crate::crash::{Effort, QUICK, campaign as crashes, record_without};
use crate::report::Tally;
use highwater::fs::Barrier;

/// Leaves each kind of sync out in turn.
pub fn campaign(seed: u64, threads: usize, tally: &Tally) {
    for barrier in Barrier::ALL.iter().filter(|barrier| **barrier != Barrier::Copy) {
        tally.barriers.add(1);
        if is_missed(*barrier, seed, threads) {
            tally.barriers_found.add(1);
            continue;
        }
        let failure = Failure::violation("no power cut broke a promise");
        tally.failed(&failure, &format!("{barrier:?} left out"), "report");
    }
}

/// Whether a power cut shows that this kind of sync is gone.
pub fn is_missed(barrier: Barrier, seed: u64, threads: usize) -> bool {
    let effort = Effort { nested_stride: usize::MAX, ..QUICK };
    ["short", "main", "border"].iter().any(|name| {
        let tally = Tally::quiet();
        match record_without(name, seed, Some(barrier)) {
            Ok(recorded) => crashes(&recorded, &effort, threads, &tally),
            Err(_) => return true,
        }
        tally.failed_cases() > 0
    })
}
