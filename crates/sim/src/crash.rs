//! Power cuts: at every operation of a workload, and at every operation of the recoveries from them.
//!
//! For each cut the units that may have survived are decided in many ways ([`CrashPoint::choices`]). An
//! image is opened once, however many cuts and choices lead to it: what an open finds depends on its
//! bytes alone, and each cut compares it with its own window.

use crate::check::{Failure, check_image, find, guarded, in_window};
use crate::model::State;
use crate::random::Random;
use crate::report::Tally;
use crate::run::{PATH, Run, Window, options};
use crate::script::{Workload, workload};
use highwater::fs::Barrier;
use highwater::fs::sim::{Choice, CrashPoint, EnumerationLimits, Outcome, Recording, SimDisk};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Its name, for replays.
    pub name: &'static str,
    /// Choices for each cut.
    pub limits: EnumerationLimits,
    /// Choices for each cut of a recovery.
    pub nested_limits: EnumerationLimits,
    /// Every so manieth image has its recovery cut.
    pub nested_stride: usize,
    /// Every so manieth image of a recovery has its own recovery cut, too.
    pub deep_stride: usize,
    /// Every so manieth case of faults and damage is tried.
    pub stride: usize,
}

/// For tests.
pub const QUICK: Effort = Effort {
    name: "quick",
    limits: EnumerationLimits {
        exhaustive_units: 4,
        per_family: 3,
        samples: 6,
        torn_sectors: true,
    },
    nested_limits: EnumerationLimits {
        exhaustive_units: 2,
        per_family: 1,
        samples: 2,
        torn_sectors: false,
    },
    nested_stride: 400,
    deep_stride: 400,
    stride: 7,
};

/// For the report.
pub const FULL: Effort = Effort {
    name: "full",
    limits: EnumerationLimits {
        exhaustive_units: 7,
        per_family: 12,
        samples: 24,
        torn_sectors: true,
    },
    nested_limits: EnumerationLimits {
        exhaustive_units: 4,
        per_family: 3,
        samples: 6,
        torn_sectors: true,
    },
    nested_stride: 200,
    deep_stride: 200,
    stride: 1,
};

/// A recorded workload.
#[derive(Debug)]
pub struct Recorded {
    /// What was done.
    pub workload: Arc<Workload>,
    /// What the disk saw.
    pub recording: Recording,
    /// States after 0, 1, … commits.
    pub states: Vec<State>,
}

/// Runs a workload without faults and records it.
pub fn record(name: &str, seed: u64) -> Result<Recorded, String> {
    record_without(name, seed, None)
}

/// The same on a disk that ignores one kind of sync.
pub fn record_without(name: &str, seed: u64, barrier: Option<Barrier>) -> Result<Recorded, String> {
    let workload = Arc::new(workload(name, seed).ok_or_else(|| format!("no workload {name}"))?);
    let disk = SimDisk::with_seed(seed);
    barrier.into_iter().for_each(|barrier| disk.disable_barrier(barrier));
    let mut run = Run::new(workload.clone(), disk.clone(), false);
    run.all()?;
    let recording = disk.record();
    let (_, states) = run.abandon();
    Ok(Recorded { workload, recording, states })
}

/// Which choice of which cut of which recovery, for a replay: one pair for each depth.
pub type Trail = Vec<(usize, usize)>;

/// Every so manieth image is opened read-only as well.
const READ_ONLY_STRIDE: usize = 8;

/// What an open of an image found, by its content.
type Known = Mutex<HashMap<u64, u64>>;

/// Tries every cut of a workload, on `threads` threads.
pub fn campaign(recorded: &Recorded, effort: &Effort, threads: usize, tally: &Tally) {
    let known = Known::default();
    let images = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (known, images) = (&known, &images);
            scope.spawn(move || {
                let walker = recorded.recording.walker();
                for point in walker.filter(|point| point.position() % threads == thread) {
                    if tally.quiet && tally.failed_cases() > 0 {
                        return;
                    }
                    tally.cuts.add(1);
                    cut(recorded, effort, &point, known, images, tally);
                }
            });
        }
    });
    tally.states.add(recorded.states.len() as u64);
}

fn cut(
    recorded: &Recorded,
    effort: &Effort,
    point: &CrashPoint,
    known: &Known,
    images: &AtomicUsize,
    tally: &Tally,
) {
    let window = Window::of(point.marks(), false);
    let process_window = Window::of(point.marks(), true);
    for (number, choice) in choices(point, &effort.limits).enumerate() {
        let all_new = choice.outcomes().iter().all(|outcome| *outcome == Outcome::New);
        let window = if all_new { process_window } else { window };
        tally.choices.add(1);
        let hash = point.image_hash(&choice);
        let before = known.lock().expect("no holder panics").get(&hash).copied();
        if let Some(found) = before {
            if find(found, &recorded.states, window).is_none() {
                let what = format!("an image seen before shows no state of {window:?}");
                let failure = Failure::violation(what);
                let trail = [(point.position(), number)];
                report(recorded, effort, point, &choice, &trail, &failure, tally);
            }
            continue;
        }
        let image = point.image(&choice);
        let seed = hash ^ number as u64;
        let fresh = image.fork();
        tally.images.add(1);
        match check_image(&image, &recorded.workload, &recorded.states, window, seed) {
            Ok(found) => {
                known.lock().expect("no holder panics").insert(hash, found);
            }
            Err(failure) => {
                let trail = [(point.position(), number)];
                report(recorded, effort, point, &choice, &trail, &failure, tally);
                continue;
            }
        }
        let count = images.fetch_add(1, Ordering::Relaxed);
        if count.is_multiple_of(READ_ONLY_STRIDE) {
            tally.read_only.add(1);
            let checked = check_read_only(&fresh, &recorded.workload, &recorded.states, window);
            if let Err(failure) = checked {
                let trail = [(point.position(), number)];
                report(recorded, effort, point, &choice, &trail, &failure, tally);
            }
        }
        if count % effort.nested_stride == effort.nested_stride / 2 {
            let trail = vec![(point.position(), number)];
            nested(recorded, effort, &fresh, window, &trail, tally);
        }
    }
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
    let mut seen = HashMap::new();
    let mut count = 0;
    for point in recording.walker() {
        for (number, choice) in choices(&point, &effort.nested_limits).enumerate() {
            if seen.insert(point.image_hash(&choice), ()).is_some() {
                continue;
            }
            tally.nested_images.add(1);
            let image = point.image(&choice);
            let fresh = image.fork();
            let mut trail = trail.clone();
            trail.push((point.position(), number));
            let seed = Random::new(number as u64).number();
            let checked = check_image(&image, &recorded.workload, &recorded.states, window, seed);
            if let Err(failure) = checked {
                report(recorded, effort, &point, &choice, &trail, &failure, tally);
                continue;
            }
            count += 1;
            if trail.len() == 2 && count % effort.deep_stride == effort.deep_stride / 2 {
                nested(recorded, effort, &fresh, window, &trail, tally);
            }
        }
    }
}

/// Records an open, and a little use after it.
fn record_recovery(image: &SimDisk, recorded: &Recorded) -> Result<Recording, Failure> {
    guarded(|| {
        let db = options(&recorded.workload, image)
            .open(PATH)
            .map_err(|e| Failure::violation(e.to_string()))?;
        let recording = image.record();
        drop(db);
        Ok(recording)
    })
}

/// The choices of a point, always the same ones.
fn choices<'a>(
    point: &'a CrashPoint,
    limits: &EnumerationLimits,
) -> impl Iterator<Item = Choice> + use<'a> {
    let seed = Random::new(point.position() as u64).number();
    let all = Choice::all(Outcome::New, point.units().len());
    std::iter::once(all).chain(point.choices(limits, seed))
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
    let workload = &recorded.workload;
    let next = recorded.recording.operation(point.position()).filter(|_| trail.len() == 1);
    let next = next.map_or(String::new(), |operation| format!("; next: {operation}"));
    let mut lost = point.describe(choice);
    if lost.len() > 3000 {
        let cut = (0..=3000).rev().find(|at| lost.is_char_boundary(*at)).unwrap_or(0);
        lost.truncate(cut);
        lost.push_str("…\n");
    }
    tally.failed(
        failure,
        &format!("crash of workload {} at {}{next}\n{lost}", workload.name, path.join(",")),
        &format!(
            "crash {} --seed {} --effort {} --at {}",
            workload.name,
            workload.seed,
            effort.name,
            path.join(",")
        ),
    );
}

/// Repeats one image.
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
        let seed = match depth {
            0 => point.image_hash(&choice) ^ *number as u64,
            _ => Random::new(*number as u64).number(),
        };
        tally.images.add(1);
        match check_image(&image, &recorded.workload, &recorded.states, window, seed) {
            Ok(found) => {
                println!("as state {:?}", find(found, &recorded.states, window));
            }
            Err(failure) => report(recorded, effort, &point, &choice, trail, &failure, tally),
        }
    }
}

/// Opens an image read-only: it must show a state of the window and write no byte.
pub fn check_read_only(
    image: &SimDisk,
    workload: &Workload,
    states: &[State],
    window: Window,
) -> Result<(), Failure> {
    guarded(|| {
        let before = image.content_hash();
        let opened = options(workload, image).read_only(true).open(PATH);
        let outcome = match opened {
            Ok(db) => {
                let hash = crate::check::hash(&db)?;
                in_window(&db, hash, states, window).map(drop)
            }
            Err(highwater::Error::NotFound { .. }) if window.least == 0 => Ok(()),
            Err(error) => Err(Failure::violation(format!("a read-only open: {error}"))),
        };
        if image.content_hash() != before {
            return Err(Failure::violation("a read-only open wrote"));
        }
        outcome
    })
}
