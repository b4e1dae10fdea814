//! One fault in a workload: every operation fails once, or from then on; every failed sync leaves its
//! pages dirty, clean or reverted.
//!
//! The workload goes on with errors; see [`crate::run`] for what must hold meanwhile. Then the fault is
//! gone, and the database is left in four ways: it is closed, the process dies, the power fails, the
//! power fails and keeps nothing unsynced. Each is checked like any image of a crash. Interrupted and
//! short operations must not be noticed at all.
//!
//! One limit: when the directory above a new database cannot be synced and the kernel takes its pages for
//! clean all the same, no process of the same boot can find out that the new directory's name is not on
//! the disk, nor write it again. That page state is left out there.

use crate::check::{Failure, check_image, guarded};
use crate::report::Tally;
use crate::run::{Run, Window};
use crate::script::{Change, Step, Workload, workload};
use highwater::Durability;
use highwater::fs::Barrier;
use highwater::fs::sim::{Action, Fault, FaultKind, OperationKind, PageState, Recording, SimDisk};
use std::sync::Arc;

/// A fault, and what must hold under it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the disk does.
    pub faults: Vec<Fault>,
    /// In words.
    pub what: String,
    /// Nobody may notice.
    pub invisible: bool,
    /// A sync fails for good: no commit may return `Ok` after it.
    fails_sync: bool,
}

/// What a failed sync left, as cases say it, and the row that counts it.
const PAGES: [(&str, &str); 3] = [
    ("EIO, pages Dirty", "failed_syncs.dirty"),
    ("EIO, pages MarkedClean", "failed_syncs.marked_clean"),
    ("EIO, pages Reverted", "failed_syncs.reverted"),
];

/// Read operations (of each kind) that are struck, at most.
const READS: u64 = 60;

/// All cases for a workload, from its recording without faults.
pub fn cases(recording: &Recording) -> Vec<Case> {
    let mut cases = Vec::new();
    for index in 0..recording.operations() {
        let Some(operation) = recording.operation(index) else { continue };
        let kind = kind_of(operation.action());
        let at = |effect| Fault::new(effect).on(kind).at_operation(index);
        let sync = matches!(kind, OperationKind::SyncData | OperationKind::SyncDir);
        let mut add = |name: &str, faults: Vec<Fault>, invisible, fails_sync| {
            let what = format!("{name} at operation {index} ({operation})");
            cases.push(Case { faults, what, invisible, fails_sync });
        };
        if sync {
            let parent = matches!(
                operation.action(),
                Action::SyncDir { barrier: Barrier::CreateParent, .. }
            );
            let states = [PageState::Dirty, PageState::MarkedClean, PageState::Reverted];
            let possible = |pages: &PageState| !(parent && *pages == PageState::MarkedClean);
            for pages in states.into_iter().filter(possible) {
                let fault = at(FaultKind::Io).pages_after(pages);
                add(&format!("EIO, pages {pages:?}"), vec![fault.clone()], false, true);
                add(
                    &format!("lasting EIO, pages {pages:?}"),
                    vec![fault.from_then_on()],
                    false,
                    true,
                );
            }
            let pages = if parent { PageState::Dirty } else { PageState::MarkedClean };
            let fault = at(FaultKind::NoSpace).pages_after(pages);
            // Of a directory it is final: the kernel may have forgotten names that others count on.
            let directory = kind == OperationKind::SyncDir;
            add(&format!("ENOSPC, pages {pages:?}"), vec![fault], false, directory);
        } else {
            add("EIO", vec![at(FaultKind::Io)], false, false);
            add("ENOSPC", vec![at(FaultKind::NoSpace)], false, false);
        }
        let all = Fault::new(FaultKind::Io).at_operation(index).from_then_on();
        add("EIO on everything from then on", vec![all], false, sync);
        let growing = [OperationKind::Create, OperationKind::Allocate, OperationKind::SetLen];
        let full =
            |kind| Fault::new(FaultKind::NoSpace).on(kind).at_operation(index).from_then_on();
        let mut faults: Vec<Fault> = growing.into_iter().map(full).collect();
        // Log segments are written in advance: writes into them find room on a full disk.
        for part in ["spare-", "table-", "MANIFEST"] {
            faults.push(full(OperationKind::Write).path_contains(part));
        }
        add("ENOSPC from then on", faults, false, false);
        if sync || kind == OperationKind::Write {
            add("EINTR", vec![at(FaultKind::Interrupted)], true, false);
        }
        if kind == OperationKind::Write {
            add("a short write", vec![at(FaultKind::Short(100))], true, false);
            add(
                "short writes from then on",
                vec![at(FaultKind::Short(40_000)).from_then_on()],
                true,
                false,
            );
        }
    }
    let kinds = [OperationKind::Read, OperationKind::Open, OperationKind::List, OperationKind::Map];
    for (kind, nth) in kinds.into_iter().flat_map(|kind| (1..=READS).map(move |nth| (kind, nth))) {
        let read = kind == OperationKind::Read;
        let mut effects = vec![FaultKind::Io];
        if read {
            effects.extend([FaultKind::Interrupted, FaultKind::Short(7)]);
        }
        for effect in effects {
            let invisible = effect != FaultKind::Io;
            let fault = Fault::new(effect).on(kind).nth(nth);
            let what = format!("{effect:?} on {kind:?} number {nth}");
            cases.push(Case { faults: vec![fault], what, invisible, fails_sync: false });
        }
    }
    cases
}

/// Runs every `stride`th case on `threads` threads.
pub fn campaign(name: &str, seed: u64, stride: usize, threads: usize, tally: &Tally) {
    let recorded = match crate::crash::record(name, seed) {
        Ok(recorded) => recorded,
        Err(what) => return tally.failed(&Failure::violation(what), "a run without faults", ""),
    };
    let cases = cases(&recorded.recording);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (workload, cases) = (&recorded.workload, &cases);
            scope.spawn(move || {
                let picked = (0..cases.len()).step_by(stride.max(1)).enumerate();
                for (_, number) in picked.filter(|(at, _)| at % threads == thread) {
                    one(workload, number, &cases[number], tally);
                }
            });
        }
    });
}

/// Repeats one case.
pub fn replay(name: &str, seed: u64, number: usize, tally: &Tally) {
    let Some(workload) = workload(name, seed).map(Arc::new) else { return };
    let Ok(recorded) = crate::crash::record(name, seed) else { return };
    match cases(&recorded.recording).get(number) {
        Some(case) => one(&workload, number, case, tally),
        None => eprintln!("there is no case {number}"),
    }
}

fn one(workload: &Arc<Workload>, number: usize, case: &Case, tally: &Tally) {
    tally.faults.add(1);
    for (text, row) in PAGES {
        tally.note(row, u64::from(case.what.contains(text)));
    }
    if let Err(failure) = guarded(|| check(workload, number, case)) {
        let (name, seed) = (workload.name, workload.seed);
        let replay = format!("fault {name} --seed {seed} --case {number}");
        tally.failed(&failure, &format!("workload {name} with {}", case.what), &replay);
    }
}

/// Checks one case.
pub fn check(workload: &Arc<Workload>, number: usize, case: &Case) -> Result<(), Failure> {
    let disk = SimDisk::with_seed(workload.seed);
    case.faults.iter().for_each(|fault| disk.inject(fault.clone()));
    let mut run = Run::new(workload.clone(), disk.clone(), !case.invisible);
    let mut go = || -> Result<(), String> {
        run.open()?;
        if case.fails_sync && disk.faults_struck() > 0 && run.database().is_some() {
            run.sync_failed();
        }
        for (number, step) in workload.steps.iter().enumerate() {
            let before = disk.faults_struck();
            run.step(number, step).map_err(|e| format!("step {number} ({step:.60?}): {e}"))?;
            let struck = disk.faults_struck() > before;
            if struck && case.fails_sync && !matches!(step, Step::Reopen) {
                run.sync_failed();
            }
        }
        disk.clear_faults();
        if !run.shows_its_state()? {
            return Err("without the fault, another state is shown".to_owned());
        }
        if run.database().is_some() && run.space_errors > 0 && !run.other_errors {
            let step = Step::Create("usable");
            let before = run.states.len();
            run.step(0, &step)?;
            if run.states.len() == before {
                return Err("after NoSpace and with room again, a commit fails".to_owned());
            }
        }
        Ok(())
    };
    go().map_err(Failure::violation)?;
    disk.clear_faults();
    // A failed sync may have taken written pages back.
    let process = run.window(!case.fails_sync && !run.other_errors);
    let power = run.window(false);
    let seed = number as u64;
    let images: Vec<(&str, SimDisk, Window)> = vec![
        ("the process died", disk.kill(), process),
        ("the power failed", disk.power_cut(seed), power),
        ("the power failed", disk.power_cut(!seed), power),
        ("the power failed and kept nothing", disk.durable_image(), power),
    ];
    let (_, states) = run.abandon();
    // Dropping the database has closed it, as well as it could.
    let closed = ("it was closed", disk.kill(), process);
    for (how, image, window) in images.into_iter().chain([closed]) {
        check_image(&image, workload, &states, window, seed)
            .map_err(|failure| Failure { what: format!("{how}: {}", failure.what), ..failure })?;
    }
    Ok(())
}

fn kind_of(action: &Action) -> OperationKind {
    match action {
        Action::Create => OperationKind::Create,
        Action::CreateDir => OperationKind::CreateDir,
        Action::Rename { .. } => OperationKind::Rename,
        Action::Remove => OperationKind::Remove,
        Action::SetLen { .. } => OperationKind::SetLen,
        Action::Allocate { .. } => OperationKind::Allocate,
        Action::SyncData { .. } => OperationKind::SyncData,
        Action::SyncDir { .. } => OperationKind::SyncDir,
        _ => OperationKind::Write,
    }
}

/// A small durable commit.
pub fn small_commit(keyspace: &'static str) -> Step {
    Step::Batch(vec![Change::Put(keyspace, "small".to_owned(), 50)], Durability::Sync)
}
