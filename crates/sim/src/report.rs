//! The whole campaign, and counts of what was tried and what failed.

use crate::check::{Failure, FailureKind};
use crate::crash::{self, Effort};
use crate::{barriers, capacity, damage, faults, kills};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that threads add to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The scoreboard.
#[derive(Debug, Default)]
pub struct Tally {
    /// Moments at which the power failed.
    pub cuts: Count,
    /// Ways in which it failed.
    pub choices: Count,
    /// Different disks that this left; each was opened three times.
    pub images: Count,
    /// Disks left by power cuts during recoveries.
    pub nested_images: Count,
    /// Deaths of the process.
    pub kills: Count,
    /// Disks left by power cuts during recoveries from those.
    pub kill_images: Count,
    /// Images opened read-only.
    pub read_only: Count,
    /// States of the workloads.
    pub states: Count,
    /// Workloads run with a fault.
    pub faults: Count,
    /// Workloads run on a disk that fills up.
    pub capacities: Count,
    /// Damaged databases opened.
    pub damage: Count,
    /// Of those: refused with an error that names a file.
    pub damage_refused: Count,
    /// Of those: opened, and the same state found.
    pub damage_unread: Count,
    /// Of those: opened, and an unwitnessed tail cut and reported.
    pub damage_cut: Count,
    /// Of those: opened, and an error when the damaged table was read.
    pub damage_read: Count,
    /// Of those: an older log segment, found as it was then.
    pub damage_rolled_back: Count,
    /// Syncs that were left out for a test of the campaign itself.
    pub barriers: Count,
    /// Of those: the loss was found.
    pub barriers_found: Count,
    /// Legal states that open refused.
    pub refusals: Count,
    /// Panics.
    pub panics: Count,
    /// Wrong states and broken promises.
    pub violations: Count,
    /// See [`Tally::quiet`].
    pub quiet: bool,
    failures: Mutex<Vec<String>>,
}

/// Tries everything.
pub fn report(effort: &Effort, seed: u64, threads: usize, tally: &Tally) {
    let quick = effort.name == "quick";
    let seeds = if quick { seed..seed + 1 } else { seed..seed + 4 };
    for name in ["main", "fragments", "border", "short"] {
        crash_part(name, seed, effort, threads, tally);
    }
    for seed in seeds {
        crash_part("random", seed, effort, threads, tally);
    }
    kills::campaign("short", seed, effort, 2 * effort.stride, threads, tally);
    faults::campaign("short", seed, effort.stride, threads, tally);
    if !quick {
        kills::campaign("main", seed, effort, 10, threads, tally);
        faults::campaign("main", seed, 10, threads, tally);
        faults::campaign("random", seed, 5, threads, tally);
        capacity::campaign("random", seed, 2, threads, tally);
    }
    for name in ["short", "main"] {
        capacity::campaign(name, seed, effort.stride, threads, tally);
    }
    damage::campaign(&damage::SUBJECTS, seed, 20 * effort.stride, threads, tally);
    barriers::campaign(seed, threads, tally);
}

fn crash_part(name: &str, seed: u64, effort: &Effort, threads: usize, tally: &Tally) {
    match crash::record(name, seed) {
        Ok(recorded) => crash::campaign(&recorded, effort, threads, tally),
        Err(what) => {
            let failure = Failure::violation(what);
            let case = format!("workload {name}, without any fault");
            tally.failed(&failure, &case, &format!("operations {name} --seed {seed}"));
        }
    }
}

/// Failed cases that are printed in full.
const SHOWN: usize = 12;

impl Tally {
    /// A tally that prints nothing and ends campaigns at the first failed case.
    pub fn quiet() -> Tally {
        Tally { quiet: true, ..Tally::default() }
    }

    /// Notes a failed case; `replay` is the command line that repeats it.
    pub fn failed(&self, failure: &Failure, case: &str, replay: &str) {
        let (count, word) = match failure.kind {
            FailureKind::Refused => (&self.refusals, "refused"),
            FailureKind::Panic => (&self.panics, "panic"),
            FailureKind::Violation => (&self.violations, "violation"),
        };
        count.add(1);
        let text = format!(
            "{word}: {case}\n{}\nto repeat: cargo run -p highwater-sim -- {replay}\n",
            failure.what
        );
        let mut failures = self.failures.lock().expect("no holder panics");
        if failures.len() < SHOWN && !self.quiet {
            eprintln!("{text}");
        }
        failures.push(text);
    }

    /// How many cases failed.
    pub fn failed_cases(&self) -> u64 {
        self.refusals.get() + self.panics.get() + self.violations.get()
    }

    /// Names and numbers, in the order of printing.
    pub fn rows(&self) -> [(&'static str, u64); 22] {
        [
            ("cuts", self.cuts.get()),
            ("choices", self.choices.get()),
            ("images", self.images.get()),
            ("nested_images", self.nested_images.get()),
            ("kills", self.kills.get()),
            ("kill_images", self.kill_images.get()),
            ("read_only_opens", self.read_only.get()),
            ("states", self.states.get()),
            ("faults", self.faults.get()),
            ("full_disks", self.capacities.get()),
            ("damage_cases", self.damage.get()),
            ("damage_refused", self.damage_refused.get()),
            ("damage_unread", self.damage_unread.get()),
            ("damage_cut_and_reported", self.damage_cut.get()),
            ("damage_found_by_reads", self.damage_read.get()),
            ("damage_older_log", self.damage_rolled_back.get()),
            ("syncs_left_out", self.barriers.get()),
            ("syncs_missed", self.barriers_found.get()),
            ("refusals", self.refusals.get()),
            ("panics", self.panics.get()),
            ("violations", self.violations.get()),
            ("failed_cases", self.failed_cases()),
        ]
    }

    /// The scoreboard as lines.
    pub fn text(&self) -> String {
        self.rows().map(|(name, count)| format!("{name:<24}{count:>12}\n")).concat()
    }

    /// The scoreboard as a JSON object.
    pub fn json(&self) -> String {
        let fields = self.rows().map(|(name, count)| format!("  \"{name}\": {count}"));
        format!("{{\n{}\n}}", fields.join(",\n"))
    }
}
