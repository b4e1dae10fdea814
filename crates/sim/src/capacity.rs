//! Disks that fill up: in the middle of commits and of checkpoints.
//!
//! From some step on the disk has room for so many bytes more. Whatever fails then fails with `NoSpace`
//! and changed nothing; reads go on. On the full disk a checkpoint, a keyspace drop and a close succeed,
//! in any order. With room again, writes do, too.

use crate::check::{Failure, check_image, guarded};
use crate::faults::small_commit;
use crate::report::Tally;
use crate::run::Run;
use crate::script::{Step, Workload, workload};
use highwater::Error;
use highwater::fs::sim::SimDisk;
use std::sync::Arc;

/// Room left when the disk is limited, in bytes.
const ROOM: [u64; 8] = [0, 4 << 10, 40 << 10, 270 << 10, 600 << 10, 1 << 20, 1200 << 10, 2 << 20];

/// What is done on the full disk.
const ENDINGS: [&[Ending]; 4] = {
    use Ending::{Checkpoint, Close, Drop, Kill};
    [&[Checkpoint, Drop, Close], &[Drop, Checkpoint, Close], &[Close], &[Kill]]
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Checkpoint,
    Drop,
    Close,
    Kill,
}

/// Runs every `stride`th case.
pub fn campaign(name: &str, seed: u64, stride: usize, threads: usize, tally: &Tally) {
    let Some(workload) = workload(name, seed).map(Arc::new) else { return };
    let count = cases(&workload);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let workload = &workload;
            scope.spawn(move || {
                let picked = (0..count).step_by(stride.max(1)).enumerate();
                for (_, number) in picked.filter(|(at, _)| at % threads == thread) {
                    one(workload, number, tally);
                }
            });
        }
    });
}

/// How many cases a workload has.
pub fn cases(workload: &Workload) -> usize {
    workload.steps.len() * ROOM.len()
}

/// Repeats one case.
pub fn replay(name: &str, seed: u64, number: usize, tally: &Tally) {
    if let Some(workload) = workload(name, seed).map(Arc::new) {
        one(&workload, number, tally);
    }
}

fn one(workload: &Arc<Workload>, number: usize, tally: &Tally) {
    tally.capacities.add(1);
    if let Err(failure) = guarded(|| check(workload, number)) {
        let (name, seed) = (workload.name, workload.seed);
        let (from, room, ending) = case(workload, number);
        let what = format!(
            "workload {name} with room for {room} bytes more from step {from} on, then {ending:?}"
        );
        tally.failed(&failure, &what, &format!("capacity {name} --seed {seed} --case {number}"));
    }
}

/// From which step on, how much room, and what is done then.
fn case(workload: &Workload, number: usize) -> (usize, u64, &'static [Ending]) {
    let (from, room) = (number / ROOM.len() % workload.steps.len(), ROOM[number % ROOM.len()]);
    (from, room, ENDINGS[number / 3 % ENDINGS.len()])
}

/// Checks one case.
pub fn check(workload: &Arc<Workload>, number: usize) -> Result<(), Failure> {
    let (from, room, ending) = case(workload, number);
    let disk = SimDisk::with_seed(workload.seed);
    let mut run = Run::new(workload.clone(), disk.clone(), true);
    let violation = Failure::violation;
    run.open().map_err(violation)?;
    for (number, step) in workload.steps.iter().enumerate() {
        if number == from {
            disk.set_capacity(Some(disk.used_bytes() + room));
        }
        let (errors, started) = (run.space_errors, run.started());
        run.step(number, step)
            .map_err(|e| violation(format!("step {number} ({step:.60?}): {e}")))?;
        if run.other_errors {
            return Err(violation(format!(
                "step {number} ({step:.60?}) failed with another error"
            )));
        }
        let kept = matches!(step, Step::Checkpoint | Step::Reopen | Step::Drop(_));
        // A life that has not written yet needs room for its first two segments.
        let kept = kept && started;
        if kept && run.space_errors > errors {
            return Err(violation(format!("step {number} ({step:?}) found no room")));
        }
    }
    let live = run.states.last().and_then(|state| state.keyspaces().keys().next_back().cloned());
    for what in ending {
        let db = run.database().cloned().ok_or_else(|| violation("not open".to_owned()))?;
        let outcome = match what {
            Ending::Checkpoint => db.checkpoint().map(drop),
            Ending::Drop => match &live {
                Some(name) => {
                    let drop = db.existing_keyspace(name).and_then(|k| db.drop_keyspace(&k));
                    let mut next = run.states.last().cloned().unwrap_or_default();
                    next.drop_keyspace(name);
                    run.states.push(next);
                    drop.map(|_| ())
                }
                None => Ok(()),
            },
            Ending::Close => db.close(),
            Ending::Kill => break,
        };
        match outcome {
            Err(Error::NoSpace { .. }) if !run.started() => {
                if *what == Ending::Drop {
                    run.states.pop();
                }
                continue;
            }
            outcome => {
                outcome.map_err(|e| violation(format!("{what:?} on the full disk: {e}")))?;
            }
        }
        run.acknowledged = run.begun();
    }
    let window = run.window(true);
    let killed = disk.kill();
    if ending.contains(&Ending::Kill) {
        // Writes resume with room again, in the same life.
        disk.set_capacity(None);
        let name = match live.as_deref() {
            Some("a") => "a",
            Some("b") => "b",
            _ => "c",
        };
        let before = run.states.len();
        run.step(0, &small_commit(name)).map_err(violation)?;
        if live.is_some() && run.states.len() == before {
            return Err(violation("with room again, a commit fails".to_owned()));
        }
    }
    let (_, states) = run.abandon();
    // The next open may need room of its own; what it does without must do no harm.
    drop(crate::run::options(workload, &killed).open(crate::run::PATH));
    killed.set_capacity(None);
    check_image(&killed, workload, &states, window, from as u64)?;
    Ok(())
}
