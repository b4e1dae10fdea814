//! The fixed part of the campaign: every test is a slice of what `highwater-sim report` does in full.
//! `cargo test -p highwater-sim -- --nocapture` prints the counts.

use highwater::fs::Barrier;
use highwater::fs::sim::EnumerationLimits;
use highwater_sim::crash::{self, Effort, QUICK};
use highwater_sim::report::Tally;
use highwater_sim::{barriers, capacity, damage, faults, kills};

/// The seed of everything here.
const SEED: u64 = 1;

fn passed(what: &str, tally: &Tally) {
    let rows = tally.rows();
    let counted: Vec<String> = rows
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("{what}: {}", counted.join(", "));
    assert_eq!(tally.failed_cases(), 0, "{what}: see above for the cases");
}

fn crashes(name: &str, effort: &Effort) -> Tally {
    let tally = Tally::default();
    let recorded = crash::record(name, SEED).unwrap();
    crash::campaign(&recorded, effort, 1, &tally);
    assert!(tally.cuts.get() as usize > recorded.recording.operations());
    passed(name, &tally);
    tally
}

#[test]
fn power_cuts_of_everything() {
    let tally = crashes("main", &QUICK);
    assert!(tally.images.get() > 3000 && tally.nested_images.get() > 100, "too little was tried");
}

#[test]
fn power_cuts_of_transactions_in_several_groups() {
    crashes("fragments", &QUICK);
}

#[test]
fn power_cuts_near_the_end_of_a_segment() {
    crashes("border", &QUICK);
}

#[test]
fn power_cuts_of_a_random_workload() {
    let limits = EnumerationLimits { per_family: 2, samples: 3, ..QUICK.limits };
    crashes("random", &Effort { limits, nested_stride: 900, ..QUICK });
}

#[test]
fn deaths_of_the_process_and_power_cuts_of_what_follows() {
    let tally = Tally::default();
    kills::campaign("short", SEED, &QUICK, 17, 1, &tally);
    passed("kills", &tally);
}

#[test]
fn faults_at_every_kind_of_place() {
    let tally = Tally::default();
    faults::campaign("short", SEED, QUICK.stride, 1, &tally);
    assert!(tally.faults.get() > 300);
    passed("faults", &tally);
}

#[test]
fn full_disks() {
    let tally = Tally::default();
    capacity::campaign("short", SEED, 1, 1, &tally);
    capacity::campaign("main", SEED, 5, 1, &tally);
    passed("full disks", &tally);
}

#[test]
fn damaged_files() {
    let tally = Tally::default();
    damage::campaign(&damage::SUBJECTS, SEED, 150, 1, &tally);
    assert!(tally.damage_refused.get() > 1000 && tally.damage_unread.get() > 100);
    passed("damage", &tally);
}

#[test]
fn every_sync_left_out_is_missed() {
    for barrier in Barrier::ALL.iter().filter(|barrier| **barrier != Barrier::Copy) {
        assert!(barriers::is_missed(*barrier, SEED, 1), "{barrier:?} is not missed");
    }
}
