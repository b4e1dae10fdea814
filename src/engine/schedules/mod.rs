//! Whole engines with all their threads, on the simulated disk, in schedules that a seed decides: shuttle
//! chooses before each use of a lock, a condition variable, a thread, or an atomic that matters for order,
//! who is next (`crate::sync`).
//!
//! `HIGHWATER_SCHEDULES=500` runs that many of each scenario, `HIGHWATER_SCHEDULES=17..18` exactly one,
//! as a failure prints. What is checked stands in [`stage`], how the seed decides in [`scheduler`].
//!
//! shuttle runs in sequentially consistent order (what weaker orders allow is for loom and the thread
//! sanitizer), and does not see the nodes and filters of memtables, the heads and positions of tables, counters,
//! and the swapping of the view; around the last there is [`turn`](crate::sync::engine::turn).

#[cfg(feature = "mistakes")]
mod mistaken;
mod scenarios;
mod scheduler;
mod stage;

use scheduler::{Seeded, Told};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Schedules of each scenario, unless told otherwise.
const SCHEDULES: u64 = 1_000;
/// Of a scenario with a planted mistake, which must be found among them.
#[cfg(feature = "mistakes")]
const SCHEDULES_TO_FIND: u64 = 40_000;
/// An execution that takes longer hangs: the longest takes a tenth of it.
const STEPS_MAX: usize = 1_000_000;
const STACK_BYTES: usize = 512 << 10;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("HIGHWATER_SCHEDULES") else { return 0..SCHEDULES };
    match text.split_once("..") {
        Some((first, end)) => first.parse().expect("a number")..end.parse().expect("a number"),
        None => 0..text.parse().expect("HIGHWATER_SCHEDULES=COUNT or FIRST..END"),
    }
}

/// Runs a scenario in all schedules that were asked for.
fn explore(scenario: fn(u64)) {
    let started = std::time::Instant::now();
    let (count, told) = run(seeds(), scenario);
    let (millis, steps) = (started.elapsed().as_millis(), told.steps.load(Ordering::Relaxed));
    eprintln!("{count} schedules, {steps} steps, {millis} ms: {}", stage::done());
}

/// Runs a scenario in these schedules; returns how many that were.
fn run(seeds: Range<u64>, scenario: fn(u64)) -> (usize, Arc<Told>) {
    struct Place(Arc<Told>);
    impl Drop for Place {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let seed = self.0.seed.load(Ordering::Relaxed);
                eprintln!("to run it again: HIGHWATER_SCHEDULES={seed}..{}", seed + 1);
            }
        }
    }
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    let told = Arc::new(Told::default());
    let _place = Place(told.clone());
    let runner = Runner::new(Seeded::new(seeds, told.clone()), config);
    let at_work = told.clone();
    let count = runner.run(move || scenario(at_work.seed.load(Ordering::Relaxed)));
    (count, told)
}

/// Or else the number of a schedule that failed would be worth nothing.
#[test]
fn a_schedule_repeats_exactly() {
    let choices = |seeds| run(seeds, scenarios::spilling).1.choices.load(Ordering::Relaxed);
    assert_eq!(choices(0..20), choices(0..20));
    assert_ne!(choices(20..21), choices(21..22));
}

/// Runs a mistaken scenario in a process of its own, since a thread of an execution that failed cannot be
/// unwound, and sees that it fails for the reason given.
#[cfg(feature = "mistakes")]
fn must_fail(name: &str, messages: &[&str]) {
    let module = module_path!().split_once("::").expect("a crate").1;
    let name = format!("{module}::mistaken::{name}");
    let program = std::env::current_exe().expect("this program");
    let mut command = std::process::Command::new(program);
    command.env("HIGHWATER_SCHEDULES", SCHEDULES_TO_FIND.to_string());
    let output = command.args(["--exact", &name, "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{name} found nothing");
    assert!(messages.iter().any(|m| said.contains(m)), "{name} failed for another reason: {said}");
    said.lines().filter(|line| line.contains("HIGHWATER_SCHEDULES")).for_each(|l| eprintln!("{l}"));
}
