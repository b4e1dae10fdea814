//! Faults in recoveries: a process dies, and while the next one opens the database an operation fails, once
//! or from then on; every failed sync leaves its pages dirty, clean or reverted.
//!
//! 1. An open that succeeds shows a state of the window, and has made it durable: whatever happens next,
//!    that state and no other is found.
//! 2. After one that fails, the process dies or the power fails, and the next open shows a state of the
//!    window. The first open's promise holds as well: it wrote nothing that is believed and was not synced.
//! 3. Interrupted and short operations must not be noticed at all.
//!
//! What is left in each case is checked like any image of a crash: opened, cut again, committed to.

use crate::check::{Failure, check_image, guarded, hash, in_window};
use crate::faults::{Case, cases};
use crate::kills::{Dead, dead};
use crate::report::Tally;
use crate::run::{PATH, Window, options};
use crate::script::{Workload, workload};
use highwater::fs::sim::SimDisk;
use std::sync::Arc;

/// A recovery to disturb.
struct Recovery {
    workload: Arc<Workload>,
    /// The operation at which the process before it died.
    death: usize,
    dead: Dead,
    cases: Vec<Case>,
    /// It has something to write.
    writes: bool,
}

/// Deaths at every `stride`th operation of a workload, and of the faults of each recovery every
/// `case_stride`th, another one each time.
pub fn campaign(
    name: &str,
    seed: u64,
    stride: usize,
    case_stride: usize,
    threads: usize,
    tally: &Tally,
) {
    let recorded = match crate::crash::record(name, seed) {
        Ok(recorded) => recorded,
        Err(what) => return tally.failed(&Failure::violation(what), "a run without faults", ""),
    };
    let deaths = (0..=recorded.recording.operations()).step_by(stride.max(1)).enumerate();
    let deaths: Vec<(usize, usize)> = deaths.collect();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (workload, deaths) = (&recorded.workload, &deaths);
            scope.spawn(move || {
                for (at, death) in deaths.iter().filter(|(at, _)| at % threads == thread) {
                    let recovery = match guarded(|| recovery(workload, *death)) {
                        Ok(recovery) => recovery,
                        Err(failure) => {
                            let what = format!("workload {name}, dead from operation {death} on");
                            tally.failed(&failure, &what, &replay_of(workload, *death, 0));
                            continue;
                        }
                    };
                    let first = at % case_stride.max(1);
                    for number in (first..recovery.cases.len()).step_by(case_stride.max(1)) {
                        one(&recovery, number, tally);
                    }
                }
            });
        }
    });
}

/// Repeats one case.
pub fn replay(name: &str, seed: u64, death: usize, number: usize, tally: &Tally) {
    let Some(workload) = workload(name, seed).map(Arc::new) else { return };
    match recovery(&workload, death) {
        Ok(recovery) if number < recovery.cases.len() => one(&recovery, number, tally),
        Ok(recovery) => eprintln!("there are {} cases", recovery.cases.len()),
        Err(failure) => eprintln!("{}", failure.what),
    }
}

fn replay_of(workload: &Workload, death: usize, number: usize) -> String {
    let (name, seed) = (workload.name, workload.seed);
    format!("refault {name} --seed {seed} --at {death}:{number}")
}

fn recovery(workload: &Arc<Workload>, death: usize) -> Result<Recovery, Failure> {
    let dead = dead(workload, death)?;
    let disk = dead.disk.fork();
    let opened = options(workload, &disk).open(PATH);
    let db = opened.map_err(|e| Failure::violation(format!("the open after the death: {e}")))?;
    let recording = disk.record();
    disk.set_read_only(true);
    drop(db);
    let (cases, writes) = (cases(&recording), recording.operations() > 0);
    Ok(Recovery { workload: workload.clone(), death, dead, cases, writes })
}

fn one(recovery: &Recovery, number: usize, tally: &Tally) {
    tally.note("recovery_faults", 1);
    if let Err(failure) = guarded(|| check(recovery, number)) {
        let Recovery { workload, death, cases, .. } = recovery;
        let case = &cases[number].what;
        let what = format!("workload {}, dead from {death} on, open with {case}", workload.name);
        tally.failed(&failure, &what, &replay_of(workload, *death, number));
    }
}

fn check(recovery: &Recovery, number: usize) -> Result<(), Failure> {
    let Recovery { workload, dead, cases, writes, .. } = recovery;
    let case = &cases[number];
    let disk = dead.disk.fork();
    case.faults.iter().for_each(|fault| disk.inject(fault.clone()));
    let opened = options(workload, &disk).open(PATH);
    let (window, db) = match opened {
        Ok(db) => {
            disk.clear_faults();
            let found = in_window(&db, hash(&db)?, &dead.states, dead.process)?;
            let durable = Window { least: found, most: found };
            (if *writes { durable } else { dead.power }, Some(db))
        }
        Err(error) if case.invisible => {
            return Err(Failure::violation(format!("it was noticed: {error}")));
        }
        Err(_) => (dead.power, None),
    };
    disk.clear_faults();
    let seed = number as u64;
    let images: [(&str, SimDisk); 4] = [
        ("the process died", disk.kill()),
        ("the power failed", disk.power_cut(seed)),
        ("the power failed", disk.power_cut(!seed)),
        ("the power failed and kept nothing", disk.durable_image()),
    ];
    disk.set_read_only(true);
    let how_it_opened = if db.is_some() { "opened" } else { "refused" };
    drop(db);
    for (how, image) in images {
        check_image(&image, workload, &dead.states, window, seed).map_err(|failure| Failure {
            what: format!("{how_it_opened}, then {how}: {}", failure.what),
            ..failure
        })?;
    }
    Ok(())
}
