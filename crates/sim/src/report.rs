//! The whole campaign, and counts of what was tried and what failed.

use crate::bits::{EVERY, Sample};
use crate::check::{Failure, FailureKind, Rows};
use crate::crash::{DEEP, Effort, QUICK, SPARSE};
use crate::damage::{self, DAMAGED, SUBJECTS};
use crate::long::{self, Goal};
use crate::rows::{self, row_name};
use crate::{barriers, bits, capacity, faults, kills, mistakes, refaults, small};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// Different disks that this left, across all workloads; each was foretold, opened and compared.
    pub images: Count,
    /// Of those and the next two: opened read-only, opened again, committed to, cut, opened a third time.
    pub full_checks: Count,
    /// Different disks left by power cuts during recoveries.
    pub nested_images: Count,
    /// Different disks left by power cuts during recoveries from those.
    pub deep_images: Count,
    /// Recoveries that were cut at every operation.
    pub recoveries: Count,
    /// Seeded workloads.
    pub seeds: Count,
    /// Logs damaged by hand, for the rows of the decision table.
    pub row_cases: Count,
    /// Deaths of the process.
    pub kills: Count,
    /// Disks left by power cuts during recoveries from those.
    pub kill_images: Count,
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
    noted: Mutex<BTreeMap<String, u64>>,
    seen: [Mutex<HashSet<u64>>; SHARDS],
    images_wanted: Count,
    deadline: Mutex<Option<Instant>>,
    ended: AtomicBool,
    failures: Mutex<Vec<String>>,
}

/// What a report is to try.
#[derive(Clone, Debug)]
pub struct Scope {
    /// How much of each part.
    pub effort: Effort,
    /// The first seed.
    pub seed: u64,
    /// Threads of each part.
    pub threads: usize,
    /// Distinct images of power cuts that are wanted.
    pub images: u64,
    /// Longest time for them.
    pub time: Option<Duration>,
}

impl Scope {
    /// Whether it has to end within minutes.
    pub fn quick(&self) -> bool {
        self.effort.name == "quick"
    }
}

/// A part of the report: its name, and what tries it and counts.
pub type Part = (&'static str, fn(&Scope, &Tally));

/// All parts, in the order of trying.
pub const PARTS: &[Part] = &[
    ("rows of the decision table", decisions),
    ("large power cuts", large_power_cuts),
    ("nested power cuts", nested_power_cuts),
    ("power cuts", power_cuts),
    ("deaths", deaths),
    ("faults", faults),
    ("faults in recoveries", recovery_faults),
    ("full disks", full_disks),
    ("damage", damage),
    ("flipped bits", flipped_bits),
    ("barriers left out", barriers_left_out),
    ("planted mistakes", planted_mistakes),
];

/// Tries everything. Says on standard error what it is at.
pub fn report(scope: &Scope, tally: &Tally) {
    for (name, part) in PARTS {
        let started = Instant::now();
        part(scope, tally);
        eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    }
}

fn decisions(scope: &Scope, tally: &Tally) {
    rows::campaign(scope.seed, rows::ROUNDS, tally);
}

fn large_power_cuts(scope: &Scope, tally: &Tally) {
    let (seeds, effort) = if scope.quick() { (1, &SPARSE) } else { (4, &QUICK) };
    for name in ["main", "fragments", "border", "short"] {
        long::one(name, scope.seed, effort, scope.threads, tally);
    }
    for seed in scope.seed..scope.seed + seeds {
        long::one("random", seed, effort, scope.threads, tally);
    }
}

fn nested_power_cuts(scope: &Scope, tally: &Tally) {
    let names = if scope.quick() { &small::BY_HAND[..1] } else { small::BY_HAND };
    long::deep(scope.seed, names, &DEEP, scope.threads, tally);
}

fn power_cuts(scope: &Scope, tally: &Tally) {
    let goal = Goal { images: scope.images, time: scope.time };
    long::seeded(scope.seed, goal, &scope.effort, scope.threads, tally);
}

fn deaths(scope: &Scope, tally: &Tally) {
    let Scope { effort, seed, threads, .. } = scope;
    kills::campaign("short", *seed, effort, 2 * effort.stride, *threads, tally);
    if !scope.quick() {
        kills::campaign("main", *seed, effort, 10, *threads, tally);
    }
}

fn faults(scope: &Scope, tally: &Tally) {
    let Scope { effort, seed, threads, .. } = *scope;
    faults::campaign("short", seed, effort.stride, threads, tally);
    if !scope.quick() {
        faults::campaign("main", seed, 10, threads, tally);
        faults::campaign("random", seed, 5, threads, tally);
    }
}

fn recovery_faults(scope: &Scope, tally: &Tally) {
    let Scope { effort, seed, threads, .. } = *scope;
    for name in small::BY_HAND.iter().chain(&["merged", "little"]) {
        refaults::campaign(name, seed, 5 * effort.stride, effort.stride, threads, tally);
    }
}

fn full_disks(scope: &Scope, tally: &Tally) {
    let Scope { effort, seed, threads, .. } = *scope;
    for name in ["short", "main"] {
        capacity::campaign(name, seed, effort.stride, threads, tally);
    }
    if !scope.quick() {
        capacity::campaign("random", seed, 2, threads, tally);
    }
}

fn damage(scope: &Scope, tally: &Tally) {
    let stride = 20 * scope.effort.stride;
    damage::campaign(&DAMAGED, scope.seed, stride, scope.threads, tally);
}

fn flipped_bits(scope: &Scope, tally: &Tally) {
    let (names, zeros) = if scope.quick() { (&SUBJECTS[..1], 97) } else { (&SUBJECTS[..], 1) };
    bits::campaign(names, scope.seed, Sample { zeros, ..EVERY }, scope.threads, tally);
}

fn barriers_left_out(scope: &Scope, tally: &Tally) {
    barriers::campaign(scope.seed, scope.threads, tally);
}

fn planted_mistakes(scope: &Scope, tally: &Tally) {
    mistakes::campaign(scope.seed, scope.threads, tally);
}

/// Parts of the set of images.
const SHARDS: usize = 16;

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

    /// Adds to a row of that name. A name `group.key` belongs to the object `group` of the JSON form.
    /// For parts of the campaign that have rows of their own.
    pub fn note(&self, name: &str, count: u64) {
        let mut noted = self.noted.lock().expect("no holder panics");
        match noted.get_mut(name) {
            Some(held) => *held += count,
            None => _ = noted.insert(name.to_owned(), count),
        }
    }

    /// Counts the rows of recovery's decision table that a plan asked.
    pub fn asked(&self, rows: &Rows) {
        rows.iter().for_each(|row| self.note(&row_name(row), 1));
    }

    /// Whether no image with this content was counted before.
    pub fn is_new(&self, hash: u64) -> bool {
        let shard = &self.seen[(hash >> 32) as usize % SHARDS];
        shard.lock().expect("no holder panics").insert(hash)
    }

    /// Campaigns end at so many images, or at that time.
    pub fn stop_at(&self, images: u64, deadline: Option<Instant>) {
        self.images_wanted.0.store(images.max(1), Ordering::Relaxed);
        *self.deadline.lock().expect("no holder panics") = deadline;
    }

    /// Undoes [`Tally::stop_at`].
    pub fn never_stop(&self) {
        self.images_wanted.0.store(0, Ordering::Relaxed);
        *self.deadline.lock().expect("no holder panics") = None;
        self.ended.store(false, Ordering::Relaxed);
    }

    /// Whether campaigns are to end now.
    pub fn is_over(&self) -> bool {
        if self.ended.load(Ordering::Relaxed) {
            return true;
        }
        let wanted = self.images_wanted.get();
        let late = || {
            let deadline = *self.deadline.lock().expect("no holder panics");
            deadline.is_some_and(|deadline| Instant::now() >= deadline)
        };
        let over = (self.quiet && self.failed_cases() > 0)
            || (wanted > 0 && self.images.get() >= wanted)
            || late();
        if over {
            self.ended.store(true, Ordering::Relaxed);
        }
        over
    }

    /// The first failed case, in words.
    pub fn first_failure(&self) -> Option<String> {
        self.failures.lock().expect("no holder panics").first().cloned()
    }

    /// The number of a row of [`Tally::note`].
    pub fn noted(&self, name: &str) -> u64 {
        self.noted.lock().expect("no holder panics").get(name).copied().unwrap_or(0)
    }

    /// Names and numbers, in the order of printing.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        let before = [
            ("cuts", self.cuts.get()),
            ("choices", self.choices.get()),
            ("images", self.images.get()),
            ("full_checks", self.full_checks.get()),
            ("recoveries_cut", self.recoveries.get()),
            ("nested_images", self.nested_images.get()),
            ("nested_images_depth_3", self.deep_images.get()),
            ("seeded_workloads", self.seeds.get()),
            ("damaged_logs", self.row_cases.get()),
            ("kills", self.kills.get()),
            ("kill_images", self.kill_images.get()),
            ("states", self.states.get()),
            ("faults", self.faults.get()),
            ("full_disks", self.capacities.get()),
            ("damage_cases", self.damage.get()),
            ("damage_refused", self.damage_refused.get()),
            ("damage_unread", self.damage_unread.get()),
            ("damage_cut_and_reported", self.damage_cut.get()),
            ("damage_found_by_reads", self.damage_read.get()),
            ("damage_older_log", self.damage_rolled_back.get()),
            ("barriers.total", self.barriers.get()),
            ("barriers.killed", self.barriers_found.get()),
        ];
        let after = [
            ("refusals", self.refusals.get()),
            ("panics", self.panics.get()),
            ("violations", self.violations.get()),
            ("failed_cases", self.failed_cases()),
        ];
        let noted = self.noted.lock().expect("no holder panics").clone();
        before.into_iter().map(named).chain(noted).chain(after.into_iter().map(named)).collect()
    }

    /// The scoreboard as lines.
    pub fn text(&self) -> String {
        let row = |(name, count): (String, u64)| format!("{name:<44}{count:>12}\n");
        self.rows().into_iter().map(row).collect()
    }

    /// The scoreboard as one JSON object on one line. Names with a dot are objects in it.
    pub fn json(&self) -> String {
        let mut text = String::from("{");
        let rows = self.rows();
        let mut done: Vec<&str> = Vec::new();
        for (name, count) in &rows {
            let (group, key) = name.split_once('.').unwrap_or((name.as_str(), ""));
            if done.contains(&group) {
                continue;
            }
            done.push(group);
            text.push_str(if text.len() > 1 { ", " } else { "" });
            if key.is_empty() {
                _ = write!(text, "\"{name}\": {count}");
                continue;
            }
            let inner = rows.iter().filter_map(|(name, count)| {
                let (of, key) = name.split_once('.')?;
                (of == group).then(|| format!("\"{key}\": {count}"))
            });
            let inner: Vec<String> = inner.collect();
            _ = write!(text, "\"{group}\": {{{}}}", inner.join(", "));
        }
        text.push('}');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_one_object_on_one_line() {
        let tally = Tally::default();
        tally.images.add(7);
        tally.barriers.add(2);
        tally.note("mistakes.total", 3);
        tally.note("mistakes.caught", 1);
        tally.note("mistakes.caught", 2);
        tally.note("plain", 9);
        let json = tally.json();
        assert!(!json.contains('\n') && json.starts_with('{') && json.ends_with('}'));
        for part in [
            "\"images\": 7",
            "\"barriers\": {\"total\": 2, \"killed\": 0}",
            "\"mistakes\": {\"caught\": 3, \"total\": 3}",
            "\"plain\": 9",
            "\"violations\": 0",
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }
}
