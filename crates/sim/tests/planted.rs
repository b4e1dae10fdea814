//! The campaign itself put to the test: with a mistake planted, or a barrier left out, it must find a
//! case that fails; the same cases must pass without. `highwater-sim mistakes` and `highwater-sim
//! barriers` print the tables.

use highwater::fs::Barrier;
use highwater_sim::{barriers, mistakes};
use std::collections::BTreeSet;

#[test]
fn every_planted_mistake_is_caught() {
    assert!(mistakes::CASES.len() >= 25);
    assert!(mistakes::table(1, 2, ""), "see above");
}

#[test]
fn every_barrier_left_out_is_missed() {
    assert!(barriers::table(1, 2, ""), "see above");
}

#[test]
fn every_sync_has_a_hunt() {
    let hunted: BTreeSet<String> = barriers::EDGES.iter().map(|edge| edge.name()).collect();
    for barrier in Barrier::ALL {
        assert!(hunted.contains(&format!("{barrier:?}")), "{barrier:?} is never left out");
    }
    assert_eq!(hunted.len(), barriers::EDGES.len(), "a barrier is hunted twice");
}
