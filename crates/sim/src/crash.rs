//! Power cuts: at every operation of a workload, and at every operation of the recoveries from them.
//!
//! For each cut the units that may have survived are decided in many ways ([`crate::choices`]). An image is
//! opened once, however many cuts and choices lead to it: what an open finds depends on its bytes alone,
//! and each cut compares it with its own window.
//!
//! Which images are checked in full, and which have their recovery cut, is decided by their hashes: the
//! same images whatever the threads do.

use crate::check::{Failure, Level, check_at, find, guarded};
use crate::choices::{Limits, choices as choices_of};
pub use crate::effort::{DEEP, Effort, FULL, QUICK, SPARSE};
use crate::model::State;
use crate::random::Random;
use crate::report::Tally;
use crate::run::{PATH, Run, Window, options};
use crate::script::{Workload, workload};
use highwater::fs::Barrier;
use highwater::fs::sim::{Choice, CrashPoint, Outcome, Recording, SimDisk};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// A recorded workload.
#[derive(Debug)]
pub struct Recorded {
    /// What was done.
    pub workload: Arc<Workload>,
    /// What the disk saw.
    pub recording: Recording,
    /// States after 0, 1, … commits.
    pub states: Vec<State>,
    /// The kind of sync that the disk ignored.
    pub without: Option<Barrier>,
}

/// Runs a workload without faults and records it.
pub fn record(name: &str, seed: u64) -> Result<Recorded, String> {
    record_without(name, seed, None)
}

/// The same on a disk that ignores one kind of sync.
pub fn record_without(name: &str, seed: u64, barrier: Option<Barrier>) -> Result<Recorded, String> {
    let workload = workload(name, seed).ok_or_else(|| format!("no workload {name}"))?;
    record_workload(Arc::new(workload), barrier)
}

/// The same of any workload.
pub fn record_workload(
    workload: Arc<Workload>,
    without: Option<Barrier>,
) -> Result<Recorded, String> {
    let disk = SimDisk::with_seed(workload.seed);
    without.into_iter().for_each(|barrier| disk.disable_barrier(barrier));
    let mut run = Run::new(workload.clone(), disk.clone(), false);
    run.all()?;
    let recording = disk.record();
    let (_, states) = run.abandon();
    Ok(Recorded { workload, recording, states, without })
}

/// Which choice of which cut of which recovery, for a replay: one pair for each depth.
pub type Trail = Vec<(usize, usize)>;

/// What an open of an image found, by its content.
type Known = Mutex<HashMap<u64, u64>>;

/// Tries every cut of a workload, on `threads` threads.
pub fn campaign(recorded: &Recorded, effort: &Effort, threads: usize, tally: &Tally) {
    let known = Known::default();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let known = &known;
            scope.spawn(move || {
                let mut walker = recorded.recording.walker();
                loop {
                    if tally.is_over() {
                        return;
                    }
                    if walker.position() % threads == thread {
                        tally.cuts.add(1);
                        cut(recorded, effort, &walker.crash_point(), known, tally);
                    }
                    if !walker.advance() {
                        return;
                    }
                }
            });
        }
    });
    tally.states.add(recorded.states.len() as u64);
}

fn cut(recorded: &Recorded, effort: &Effort, point: &CrashPoint, known: &Known, tally: &Tally) {
    let Recorded { workload, states, .. } = recorded;
    let window = Window::of(point.marks(), false);
    let process_window = Window::of(point.marks(), true);
    for (number, choice) in choices(point, &effort.limits).enumerate() {
        if number % 64 == 0 && tally.is_over() {
            return;
        }
        let all_new = choice.outcomes().iter().all(|outcome| *outcome == Outcome::New);
        let window = if all_new { process_window } else { window };
        tally.choices.add(1);
        let hash = point.image_hash(&choice);
        let trail = vec![(point.position(), number)];
        let fail = |failure: &Failure| {
            report(recorded, effort, point, &choice, &trail, failure, tally);
        };
        let before = known.lock().expect("no holder panics").get(&hash).copied();
        if let Some(found) = before {
            if find(found, states, window).is_none() {
                let what = format!("an image seen before shows no state of {window:?}");
                fail(&Failure::violation(what));
            }
            continue;
        }
        let level = level(hash, effort, tally);
        tally.images.add(u64::from(tally.is_new(hash)));
        let image = point.image(&choice);
        match check_at(level, &image, workload, states, window, hash ^ number as u64) {
            Ok(checked) => {
                tally.asked(&checked.rows);
                known.lock().expect("no holder panics").insert(hash, checked.hash);
            }
            Err(failure) => {
                fail(&failure);
                continue;
            }
        }
        if picked(hash, effort.nested_stride, 1) {
            tally.recoveries.add(1);
            nested(recorded, effort, &point.image(&choice), window, &trail, tally);
        }
    }
}

/// One in `stride`, by the hash.
fn picked(hash: u64, stride: usize, salt: u64) -> bool {
    Random::new(hash ^ salt).number().is_multiple_of(stride.max(1) as u64)
}

/// How much of an image is checked.
pub(crate) fn level(hash: u64, effort: &Effort, tally: &Tally) -> Level {
    if picked(hash, effort.full_stride, 2) {
        tally.full_checks.add(1);
        return Level::Full;
    }
    Level::Open
}

/// Cuts the recovery of an image at every operation; at depth 2 the recovery of some of those.
fn nested(
    recorded: &Recorded,
    effort: &Effort,
    image: &SimDisk,
    window: Window,
    trail: &Trail,
    tally: &Tally,
) {
    let Ok(recording) = record_recovery(image, recorded) else { return };
    if recording.operations() == 0 {
        return;
    }
    let Recorded { workload, states, .. } = recorded;
    let mut seen = HashSet::new();
    let mut walker = recording.walker();
    loop {
        let point = walker.crash_point();
        for (number, choice) in choices(&point, &effort.nested_limits).enumerate() {
            let hash = point.image_hash(&choice);
            if !seen.insert(hash) || tally.is_over() {
                continue;
            }
            let count = if trail.len() == 1 { &tally.nested_images } else { &tally.deep_images };
            count.add(1);
            let mut trail = trail.clone();
            trail.push((point.position(), number));
            let level = level(hash, effort, tally);
            let image = point.image(&choice);
            match check_at(level, &image, workload, states, window, hash ^ number as u64) {
                Ok(checked) => tally.asked(&checked.rows),
                Err(failure) => {
                    report(recorded, effort, &point, &choice, &trail, &failure, tally);
                    continue;
                }
            }
            if trail.len() == 2 && picked(hash, effort.deep_stride, 3) {
                nested(recorded, effort, &point.image(&choice), window, &trail, tally);
            }
        }
        if !walker.advance() {
            return;
        }
    }
}

/// Records an open.
fn record_recovery(image: &SimDisk, recorded: &Recorded) -> Result<Recording, Failure> {
    guarded(|| {
        let db = options(&recorded.workload, image)
            .open(PATH)
            .map_err(|e| Failure::violation(e.to_string()))?;
        let recording = image.record();
        image.set_read_only(true);
        drop(db);
        Ok(recording)
    })
}

/// The choices of a point, always the same ones.
fn choices<'a>(point: &'a CrashPoint, limits: &Limits) -> impl Iterator<Item = Choice> + use<'a> {
    choices_of(point, limits, 0)
}

fn report(
    recorded: &Recorded,
    effort: &Effort,
    point: &CrashPoint,
    choice: &Choice,
    trail: &[(usize, usize)],
    failure: &Failure,
    tally: &Tally,
) {
    let path: Vec<String> = trail.iter().map(|(cut, choice)| format!("{cut}:{choice}")).collect();
    let next = recorded.recording.operation(point.position()).filter(|_| trail.len() == 1);
    let next = next.map_or(String::new(), |operation| format!("; next: {operation}"));
    let mut lost = point.describe(choice);
    if lost.len() > 3000 {
        let cut = (0..=3000).rev().find(|at| lost.is_char_boundary(*at)).unwrap_or(0);
        lost.truncate(cut);
        lost.push_str("…\n");
    }
    let name = recorded.workload.name;
    tally.failed(
        failure,
        &format!("crash of workload {name} at {}{next}\n{lost}", path.join(",")),
        &format!("{} --effort {} --at {}", command(recorded), effort.name, path.join(",")),
    );
}

/// The command line that records this workload again, without the effort and the place.
pub fn command(recorded: &Recorded) -> String {
    let workload = &recorded.workload;
    let without = recorded.without.map_or(String::new(), |b| format!(" --without {b:?}"));
    let kept = workload.kept.as_ref().map_or(String::new(), |kept| format!(" --keep {kept}"));
    format!("crash {} --seed {}{kept}{without}", workload.name, workload.seed)
}

/// Repeats one image, with all checks.
pub fn replay(recorded: &Recorded, effort: &Effort, trail: &[(usize, usize)], tally: &Tally) {
    let mut recording = recorded.recording.clone();
    let mut window = Window { least: 0, most: 0 };
    for (depth, (cut, number)) in trail.iter().enumerate() {
        let point = recording.crash_point(*cut);
        let limits = if depth == 0 { &effort.limits } else { &effort.nested_limits };
        let Some(choice) = choices(&point, limits).nth(*number) else {
            eprintln!("there is no choice {number} at {cut}");
            return;
        };
        let all_new = choice.outcomes().iter().all(|outcome| *outcome == Outcome::New);
        if depth == 0 {
            window = Window::of(point.marks(), all_new);
        }
        let image = point.image(&choice);
        for (path, bytes) in image.files() {
            println!("{bytes:>9} {}", path.display());
        }
        if depth + 1 < trail.len() {
            match record_recovery(&image, recorded) {
                Ok(next) => recording = next,
                Err(failure) => eprintln!("{}", failure.what),
            }
            continue;
        }
        println!("{window:?}");
        tally.images.add(1);
        let Recorded { workload, states, .. } = recorded;
        let seed = point.image_hash(&choice) ^ *number as u64;
        match check_at(Level::Full, &image, workload, states, window, seed) {
            Ok(checked) => println!("as state {:?}", find(checked.hash, states, window)),
            Err(failure) => report(recorded, effort, &point, &choice, trail, &failure, tally),
        }
    }
}
