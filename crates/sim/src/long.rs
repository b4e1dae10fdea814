//! As many images as are asked for: the hand-written small workloads, then seeded ones with ever new
//! seeds, one on each thread, until the number is reached or the time is up.
//!
//! Distinct images are counted across all workloads, by the hash of everything on the disk.

use crate::check::Failure;
use crate::crash::{self, Effort, Recorded};
use crate::report::Tally;
use crate::script::{Workload, workload};
use crate::shrink::{describe, shrink};
use crate::small;
use highwater::fs::Barrier;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Until when it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// So many distinct images.
    pub images: u64,
    /// And no longer than that.
    pub time: Option<Duration>,
}

/// Longest time for shrinking one failure.
const SHRINK_PATIENCE: Duration = Duration::from_secs(60);

/// The hand-written small workloads, with the recovery of every image cut at every operation.
pub fn deep(seed: u64, names: &[&str], effort: &Effort, threads: usize, tally: &Tally) {
    for name in names {
        let started = Instant::now();
        let nested = tally.nested_images.get();
        one(name, seed, effort, threads, tally);
        let nested = tally.nested_images.get() - nested;
        let spent = started.elapsed().as_secs_f64();
        eprintln!("  {name}: every recovery cut, {nested} images of recoveries, {spent:.1} s");
    }
}

/// Seeded workloads from `seed` on, until the goal is reached.
pub fn seeded(seed: u64, goal: Goal, effort: &Effort, threads: usize, tally: &Tally) {
    for name in small::BY_HAND {
        one(name, seed, effort, threads, tally);
    }
    let started = Instant::now();
    let next = AtomicU64::new(seed);
    let ended = AtomicBool::new(false);
    tally.stop_at(goal.images, goal.time.map(|time| started + time));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    while !tally.is_over() {
                        one("seeded", next.fetch_add(1, Ordering::Relaxed), effort, 1, tally);
                        tally.seeds.add(1);
                    }
                })
            })
            .collect();
        let ended = &ended;
        scope.spawn(move || progress(started, goal, ended, tally));
        let failed = workers.into_iter().any(|worker| worker.join().is_err());
        ended.store(true, Ordering::Release);
        assert!(!failed, "the campaign itself panicked");
    });
    tally.never_stop();
}

fn progress(started: Instant, goal: Goal, ended: &AtomicBool, tally: &Tally) {
    let mut shown = Instant::now();
    while !ended.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(200));
        if shown.elapsed() < Duration::from_secs(15) {
            continue;
        }
        shown = Instant::now();
        eprintln!(
            "  {} of {} images, {} workloads, {} failed cases, {:.0} s",
            tally.images.get(),
            goal.images,
            tally.seeds.get(),
            tally.failed_cases(),
            started.elapsed().as_secs_f64()
        );
    }
}

/// All cuts of one workload; what fails is shrunk.
pub fn one(name: &str, seed: u64, effort: &Effort, threads: usize, tally: &Tally) {
    let Some(workload) = workload(name, seed).map(Arc::new) else { return };
    let failed = tally.failed_cases();
    match crash::record_workload(workload.clone(), None) {
        Ok(recorded) => crash::campaign(&recorded, effort, threads, tally),
        Err(what) => {
            let failure = Failure::violation(what);
            let case = format!("workload {name}, without any fault");
            tally.failed(&failure, &case, &format!("crash {name} --seed {seed}"));
        }
    }
    if tally.failed_cases() > failed
        && !tally.quiet
        && let Some(least) = least(&workload, None, effort)
    {
        eprintln!("{least}");
    }
}

/// The smallest part of a failing workload that fails, its steps, and the command that repeats it.
pub fn least(workload: &Workload, without: Option<Barrier>, effort: &Effort) -> Option<String> {
    let effort = Effort { nested_stride: usize::MAX, ..*effort };
    let mut last: Option<(Workload, String)> = None;
    let least = shrink(workload, SHRINK_PATIENCE, |part| match failure(part, without, &effort) {
        Some(text) => {
            last = Some((part.clone(), text));
            true
        }
        None => false,
    });
    let (_, text) = last.filter(|(part, _)| part.kept == least.kept)?;
    let steps = describe(&least);
    Some(format!("the least that fails:\n{steps}{text}"))
}

/// How a workload fails, if it does.
fn failure(workload: &Workload, without: Option<Barrier>, effort: &Effort) -> Option<String> {
    let recorded: Recorded = match crash::record_workload(Arc::new(workload.clone()), without) {
        Ok(recorded) => recorded,
        Err(what) => return Some(what),
    };
    let tally = Tally::quiet();
    crash::campaign(&recorded, effort, 1, &tally);
    tally.first_failure()
}
