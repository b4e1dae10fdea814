//! The process dies, and the power fails while the next one recovers.
//!
//! A dead process leaves unsynced bytes and names behind, and the next one sees them and may build on
//! them before anything has made them durable. The death at one operation is played by a disk that does
//! nothing any more from then on. The recovery by the next process is recorded, unsynced changes of the
//! first included, and cut at every operation.

use crate::check::{Failure, check_at, guarded};
use crate::choices::choices;
use crate::crash::{Effort, level, record};
use crate::random::Random;
use crate::report::Tally;
use crate::run::{PATH, Run, Window, options};
use crate::script::{Workload, workload};
use highwater::fs::sim::{Fault, FaultKind, SimDisk};
use std::collections::HashSet;
use std::sync::Arc;

/// Kills the process at every `stride`th operation of a workload.
pub fn campaign(
    name: &str,
    seed: u64,
    effort: &Effort,
    stride: usize,
    threads: usize,
    tally: &Tally,
) {
    let recorded = match record(name, seed) {
        Ok(recorded) => recorded,
        Err(what) => return tally.failed(&Failure::violation(what), "a run without faults", ""),
    };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let recorded = &recorded;
            scope.spawn(move || {
                let picked = (0..recorded.recording.operations()).step_by(stride.max(1));
                for (_, operation) in picked.enumerate().filter(|(at, _)| at % threads == thread) {
                    one(&recorded.workload, operation, effort, None, tally);
                }
            });
        }
    });
}

/// Repeats the death at one operation; with `at`, only that cut and choice of the recovery.
pub fn replay(
    name: &str,
    seed: u64,
    effort: &Effort,
    operation: usize,
    at: Option<(usize, usize)>,
    tally: &Tally,
) {
    if let Some(workload) = workload(name, seed).map(Arc::new) {
        one(&workload, operation, effort, at, tally);
    }
}

fn one(
    workload: &Arc<Workload>,
    operation: usize,
    effort: &Effort,
    only: Option<(usize, usize)>,
    tally: &Tally,
) {
    tally.kills.add(1);
    let (name, seed) = (workload.name, workload.seed);
    let replay = format!("kill {name} --seed {seed} --effort {} --case {operation}", effort.name);
    let fail = |failure: &Failure, case: &str, replay: &str| {
        let case = format!("workload {name}, process dead from operation {operation} on{case}");
        tally.failed(failure, &case, replay);
    };
    let limits = &effort.nested_limits;
    let outcome = guarded(|| kill(workload, operation));
    let (recording, states, window, after) = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => return fail(&failure, "", &replay),
    };
    let mut seen = HashSet::new();
    for point in recording.walker() {
        let window = match point.position() == recording.operations() {
            true => after,
            false => window,
        };
        for (number, choice) in choices(&point, limits, 1).enumerate() {
            if only.is_some_and(|only| only != (point.position(), number))
                || !seen.insert((point.image_hash(&choice), window))
            {
                continue;
            }
            tally.kill_images.add(1);
            let seed = Random::new(number as u64).number();
            let level = level(point.image_hash(&choice), effort, tally);
            let image = point.image(&choice);
            if let Err(failure) = check_at(level, &image, workload, &states, window, seed) {
                let lost: String = point.describe(&choice).chars().take(2000).collect();
                let position = point.position();
                let next = recording.operation(position);
                let next = next.map_or(String::new(), |next| format!(" (next: {next})"));
                let case = format!(", power lost at {position}:{number}{next}\n{lost}");
                fail(&failure, &case, &format!("{replay} --at {position}:{number}"));
            }
        }
    }
}

type Killed = (highwater::fs::sim::Recording, Vec<crate::model::State>, Window, Window);

/// What a dead process left, and what may be found there.
pub struct Dead {
    /// The disk as the next process sees it; nothing is recorded yet.
    pub disk: SimDisk,
    /// States after 0, 1, … commits.
    pub states: Vec<crate::model::State>,
    /// After the loss of power.
    pub power: Window,
    /// By the next process.
    pub process: Window,
}

/// Runs a workload, on a disk of its own, whose process dies at an operation.
pub fn dead(workload: &Arc<Workload>, operation: usize) -> Result<Dead, Failure> {
    dead_on(&SimDisk::with_seed(workload.seed), workload, operation)
}

/// The same on this disk.
pub fn dead_on(
    disk: &SimDisk,
    workload: &Arc<Workload>,
    operation: usize,
) -> Result<Dead, Failure> {
    disk.inject(Fault::new(FaultKind::Io).at_operation(operation).from_then_on());
    let mut run = Run::new(workload.clone(), disk.clone(), true);
    run.all().map_err(Failure::violation)?;
    let next = disk.kill();
    next.clear_faults();
    next.restart_recording();
    let (power, process) = (run.window(false), run.window(true));
    let (_, states) = run.abandon();
    Ok(Dead { disk: next, states, power, process })
}

fn kill(workload: &Arc<Workload>, operation: usize) -> Result<Killed, Failure> {
    let Dead { disk: next, states, power: window, process } = dead(workload, operation)?;
    let refused = |e| Failure::violation(format!("the open after the death: {e}"));
    let db = options(workload, &next).open(PATH).map_err(refused)?;
    let hash = crate::check::hash(&db)?;
    let found = crate::check::in_window(&db, hash, &states, process)?;
    let recording = next.record();
    drop(db);
    // What a clean close left needs no recovery, and nothing that was found is newly durable.
    let after = match recording.operations() {
        0 => window,
        _ => Window { least: found, most: found },
    };
    Ok((recording, states, window, after))
}
