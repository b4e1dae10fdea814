//! The fixed part of the campaign: every test is a slice of what `highwater-sim report` does in full.
//! `cargo test -p highwater-sim -- --nocapture` prints the counts.

use highwater::fs::Barrier;
use highwater_sim::choices::Limits;
use highwater_sim::crash::{self, DEEP, Effort, QUICK, SPARSE};
use highwater_sim::long::{self, Goal};
use highwater_sim::report::Tally;
use highwater_sim::script::workload;
use highwater_sim::shrink::{self, keep};
use highwater_sim::{bits, capacity, damage, faults, kills, refaults, rows, small};

/// The seed of everything here.
const SEED: u64 = 1;

/// For databases of the usual sizes, whose images cost milliseconds.
const LARGE: Effort = Effort {
    limits: Limits { exhaustive_units: 3, per_family: 2, samples: 3, torn: 2, torn_samples: 1 },
    nested_stride: 900,
    ..SPARSE
};

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

/// Distinct images in each of the four tests below, so that all together are more than 100,000.
const SEEDED_IMAGES: u64 = 26_000;

/// Hand-written small workloads, then seeded ones until there are enough images.
fn seeded(seed: u64) {
    let tally = Tally::default();
    let goal = Goal { images: SEEDED_IMAGES, time: None };
    long::seeded(seed, goal, &QUICK, 1, &tally);
    passed("small workloads", &tally);
    assert!(tally.images.get() >= SEEDED_IMAGES && tally.full_checks.get() > SEEDED_IMAGES / 10);
    assert!(tally.nested_images.get() > 500, "too few recoveries were cut");
}

#[test]
fn power_cuts_of_small_workloads_1() {
    seeded(1000);
}

#[test]
fn power_cuts_of_small_workloads_2() {
    seeded(2000);
}

#[test]
fn power_cuts_of_small_workloads_3() {
    seeded(3000);
}

#[test]
fn power_cuts_of_small_workloads_4() {
    seeded(4000);
}

#[test]
fn power_cuts_of_every_recovery_from_a_power_cut() {
    let tally = Tally::default();
    long::deep(SEED, &small::BY_HAND[..2], &DEEP, 1, &tally);
    passed("recoveries", &tally);
    assert!(tally.recoveries.get() > 100 && tally.nested_images.get() > 2000);
}

#[test]
fn every_row_of_the_decision_table_is_reached() {
    let tally = Tally::default();
    rows::campaign(SEED, 20, &tally);
    passed("rows", &tally);
    let rows = rows::reachable();
    assert_eq!(rows.len(), 18);
    for row in rows {
        assert!(tally.noted(&row) >= 20, "{row}: {}", tally.noted(&row));
    }
}

/// The campaign put to the test: on a disk that ignores the sync of commits, a workload of dozens of steps
/// shrinks to the one or two that matter, and the command that is printed fails again.
#[test]
fn a_failure_shrinks_to_the_steps_that_matter() {
    let whole = workload("seeded", 5).unwrap();
    let without = Some(Barrier::LogCommit);
    let text = long::least(&whole, without, &SPARSE).expect("it fails");
    let (_, command) = text.rsplit_once("-- crash seeded --seed 5 --keep ").expect("a command");
    let mut words = command.split_whitespace();
    let least = keep(&whole, words.next().unwrap()).unwrap();
    assert!(least.steps.len() <= 2, "{text}");
    assert!(text.contains(&shrink::describe(&least)), "{text}");
    let rest: Vec<&str> = words.collect();
    let ["--without", "LogCommit", "--effort", "sparse", "--at", at] = rest[..] else {
        panic!("{text}")
    };
    let (cut, choice) = at.split_once(':').unwrap();
    let trail = [(cut.parse().unwrap(), choice.parse().unwrap())];
    let recorded = crash::record_workload(least.into(), without).unwrap();
    let tally = Tally::quiet();
    crash::replay(&recorded, &SPARSE, &trail, &tally);
    assert_eq!(tally.failed_cases(), 1, "{text}");
}

#[test]
fn power_cuts_of_everything() {
    let tally = crashes("main", &SPARSE);
    assert!(tally.images.get() > 1000, "too little was tried");
}

#[test]
fn power_cuts_of_transactions_in_several_groups() {
    crashes("fragments", &LARGE);
}

#[test]
fn power_cuts_near_the_end_of_a_segment() {
    crashes("border", &LARGE);
}

#[test]
fn power_cuts_of_a_random_workload() {
    crashes("random", &LARGE);
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
fn faults_in_recoveries() {
    let tally = Tally::default();
    for (name, stride) in [("table", 23), ("spilled", 29), ("lives", 31), ("little", 97)] {
        refaults::campaign(name, SEED, stride, 11, 1, &tally);
    }
    assert!(tally.noted("recovery_faults") > 300);
    passed("faults in recoveries", &tally);
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
    damage::campaign(&damage::DAMAGED, SEED, 150, 1, &tally);
    assert!(tally.damage_refused.get() > 1000 && tally.damage_unread.get() > 100);
    passed("damage", &tally);
}

#[test]
fn flipped_bits_are_found_or_without_effect() {
    let tally = Tally::default();
    // `report --quick` takes every byte that was written.
    let sample = bits::Sample { written: 5, zeros: 4999 };
    bits::campaign(&["closed"], SEED, sample, 1, &tally);
    passed("bits", &tally);
    assert!(tally.noted("bit_flips.total") > 50_000 && tally.noted("bit_flips.undetected") == 0);
    for kind in ["manifest_refused", "log_refused", "table_found_by_reads", "log_without_effect"] {
        assert!(tally.noted(&format!("bit_flips.{kind}")) > 100, "{kind}");
    }
}
