//! Looking for the first case that fails: what a planted mistake or a sync that was left out must lead to.
//!
//! A *ground* is a part of the campaign with a workload or a database: power cuts, deaths, faults, full
//! disks, damage, or a scenario of its own. A hunt tries its cases one after another on one thread
//! (mistakes are planted per thread), widely spread ones first, until one fails, none is left, or the
//! time is up. The control hunts the same ground for as many cases with nothing planted, and must find
//! nothing.

use crate::check::{Failure, check_image, guarded, hash, in_window, same};
use crate::choices::{Limits, choices};
use crate::kills::{Dead, dead_on};
use crate::model::State;
use crate::run::{PATH, Run, Window, options};
use crate::script::{Workload, workload};
use crate::{capacity, damage, faults};
use highwater::fs::Barrier;
use highwater::fs::sim::{Choice, CrashPoint, Outcome, Recording, SimDisk};
use highwater::mistakes::{Mistake, plant};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Where to hunt.
#[derive(Clone, Copy, Debug)]
pub enum Ground {
    /// Power cuts of a workload.
    Cuts(&'static str),
    /// Deaths of the process, and power cuts while the next one recovers.
    Deaths(&'static str),
    /// Faults of a workload, those whose description holds this text.
    Faults(&'static str, &'static str),
    /// Full disks.
    Full(&'static str),
    /// Damage of a database, the cases whose description holds this text.
    Damage(&'static str, &'static str),
    /// Something of its own; the disk to use comes from the caller.
    Scenario(&'static str, fn(&SimDisk) -> Result<(), Failure>),
}

/// What is wrong while hunting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// In the engine.
    pub mistake: Option<Mistake>,
    /// A sync that does nothing.
    pub barrier: Option<Barrier>,
}

/// The end of a hunt.
#[derive(Clone, Debug, Default)]
pub struct Hunted {
    /// Cases tried.
    pub cases: u64,
    /// The first that failed: where and how.
    pub found: Option<String>,
    /// How long it took: processor time of its one thread, so that a busy machine changes nothing.
    pub time: Duration,
}

/// How long a hunt may take, in processor time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Hunts on these grounds, in this order.
pub fn hunt(grounds: &[Ground], seed: u64, wrong: Wrong) -> Hunted {
    let started = processor_time();
    let mut hunted = Hunted::default();
    for ground in grounds {
        let mut chase = Chase::new(seed, wrong, u64::MAX, started + PATIENCE);
        chase.run(*ground);
        hunted.cases += chase.cases;
        if let Some(what) = chase.found {
            hunted.found = Some(format!("{ground}: {what}"));
            break;
        }
    }
    hunted.time = processor_time().saturating_sub(started);
    hunted
}

/// The same with nothing wrong, as many cases as the hunt tried; what it finds is a false alarm.
pub fn control(grounds: &[Ground], seed: u64, like: &Hunted) -> Hunted {
    let started = processor_time();
    let mut hunted = Hunted::default();
    for ground in grounds {
        let most = like.cases - hunted.cases;
        let mut chase = Chase::new(seed, Wrong::default(), most, started + 4 * PATIENCE);
        chase.run(*ground);
        hunted.cases += chase.cases;
        hunted.found = chase.found.map(|what| format!("{ground}: {what}"));
        if hunted.found.is_some() || hunted.cases >= like.cases {
            break;
        }
    }
    hunted.time = processor_time().saturating_sub(started);
    hunted
}

impl std::fmt::Display for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ground::Cuts(name) => write!(f, "power cuts of {name}"),
            Ground::Deaths(name) => write!(f, "deaths in {name}"),
            Ground::Faults(name, part) => write!(f, "faults ({part}) in {name}"),
            Ground::Full(name) => write!(f, "full disks under {name}"),
            Ground::Damage(name, part) => write!(f, "damage ({part}) of {name}"),
            Ground::Scenario(name, _) => write!(f, "{name}"),
        }
    }
}

/// Cases of one ground are visited in so many rounds, each of which spreads over all of them.
const ROUNDS: usize = 16;

const LIMITS: Limits =
    Limits { exhaustive_units: 5, per_family: 24, samples: 8, torn: 4, torn_samples: 2 };

struct Chase {
    seed: u64,
    wrong: Wrong,
    most: u64,
    until: Duration,
    cases: u64,
    found: Option<String>,
}

impl Chase {
    fn new(seed: u64, wrong: Wrong, most: u64, until: Duration) -> Chase {
        Chase { seed, wrong, most, until, cases: 0, found: None }
    }

    fn run(&mut self, ground: Ground) {
        plant(self.wrong.mistake);
        match ground {
            Ground::Cuts(name) => self.cuts(name),
            Ground::Deaths(name) => self.deaths(name),
            Ground::Faults(name, part) => self.faults(name, part),
            Ground::Full(name) => self.full(name),
            Ground::Damage(name, part) => self.damage(name, part),
            Ground::Scenario(name, scenario) => {
                let disk = self.disk();
                self.case(name, || scenario(&disk));
            }
        }
        plant(None);
    }

    /// Tries one case; false if the hunt is over.
    fn case(&mut self, what: &str, check: impl FnOnce() -> Result<(), Failure>) -> bool {
        self.cases += 1;
        if let Err(failure) = guarded(check) {
            let first = failure.what.lines().next().unwrap_or_default().to_owned();
            self.found = Some(format!("{what}: {first}"));
        }
        !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.found.is_some() || self.cases >= self.most || processor_time() > self.until
    }

    fn disk(&self) -> SimDisk {
        let disk = SimDisk::with_seed(self.seed);
        self.leave_out(&disk);
        disk
    }

    fn leave_out(&self, disk: &SimDisk) {
        self.wrong.barrier.into_iter().for_each(|barrier| disk.disable_barrier(barrier));
    }

    fn workload(&mut self, name: &'static str) -> Option<Arc<Workload>> {
        let found = workload(name, self.seed).map(Arc::new);
        if found.is_none() {
            self.found = Some("there is no such workload".to_owned());
        }
        found
    }

    /// A run without faults; if that fails already, it is the case that is looked for.
    fn record(&mut self, workload: &Arc<Workload>) -> Option<(Recording, Vec<State>)> {
        let disk = self.disk();
        let mut run = Run::new(workload.clone(), disk.clone(), false);
        let went = self.case("a run without faults", || run.all().map_err(Failure::violation));
        went.then(|| (disk.record(), run.abandon().1))
    }

    fn cuts(&mut self, name: &'static str) {
        let Some(workload) = self.workload(name) else { return };
        let Some((recording, states)) = self.record(&workload) else { return };
        let mut seen = HashSet::new();
        // First what is lost in the plainest way, everywhere.
        for round in std::iter::once(None).chain((0..ROUNDS).map(Some)) {
            let mut walker = recording.walker();
            loop {
                let turn = |round: usize| walker.position() % ROUNDS == (7 * round) % ROUNDS;
                if round.is_none_or(turn) {
                    let plain = round.is_none();
                    let point = walker.crash_point();
                    if !self.cut(&point, plain, &workload, &states, None, &mut seen) {
                        return;
                    }
                }
                if !walker.advance() {
                    break;
                }
            }
        }
    }

    /// Tries the images of one crash point, or only the two that kept nothing and everything; false if the
    /// hunt is over.
    fn cut(
        &mut self,
        point: &CrashPoint,
        plain: bool,
        workload: &Workload,
        states: &[State],
        window: Option<Window>,
        seen: &mut HashSet<(u64, Window)>,
    ) -> bool {
        let all = |outcome| Choice::all(outcome, point.units().len());
        let plainest = [all(Outcome::New), all(Outcome::Old)].into_iter();
        let further = choices(point, &LIMITS, self.seed).take_while(|_| !plain);
        for (number, choice) in plainest.chain(further).enumerate() {
            let all_new = choice.outcomes().iter().all(|outcome| *outcome == Outcome::New);
            let window = window.unwrap_or_else(|| Window::of(point.marks(), all_new));
            let hash = point.image_hash(&choice);
            if !seen.insert((hash, window)) {
                continue;
            }
            let image = point.image(&choice);
            self.leave_out(&image);
            let what = format!("cut {} choice {number}", point.position());
            let go_on = self.case(&what, || {
                check_image(&image, workload, states, window, hash ^ number as u64).map(drop)
            });
            if !go_on {
                return false;
            }
        }
        true
    }

    fn deaths(&mut self, name: &'static str) {
        let Some(workload) = self.workload(name) else { return };
        let Some((recording, _)) = self.record(&workload) else { return };
        for operation in spread(recording.operations()) {
            let disk = self.disk();
            let mut death = None;
            let what = format!("death at {operation}");
            let go_on = self.case(&what, || {
                death = Some(die(&workload, &disk, operation)?);
                Ok(())
            });
            let Some((recording, states, window)) = death.filter(|_| go_on) else { return };
            let mut seen = HashSet::new();
            for point in recording.walker() {
                if !self.cut(&point, false, &workload, &states, Some(window), &mut seen) {
                    return;
                }
            }
        }
    }

    fn faults(&mut self, name: &'static str, part: &str) {
        let Some(workload) = self.workload(name) else { return };
        let Some((recording, _)) = self.record(&workload) else { return };
        let cases = faults::cases(&recording);
        let numbers = spread(cases.len()).filter(|number| cases[*number].what.contains(part));
        for number in numbers {
            let case = &cases[number];
            if !self.case(&case.what, || faults::check(&workload, number, case)) {
                return;
            }
        }
    }

    fn full(&mut self, name: &'static str) {
        let Some(workload) = self.workload(name) else { return };
        for number in spread(capacity::cases(&workload)) {
            if !self.case(&format!("case {number}"), || capacity::check(&workload, number)) {
                return;
            }
        }
    }

    fn damage(&mut self, name: &'static str, part: &str) {
        let subject = match damage::subject(name, self.seed) {
            Ok(subject) => subject,
            Err(what) => {
                self.cases += 1;
                self.found = Some(what);
                return;
            }
        };
        let cases = damage::cases(&subject);
        for number in spread(cases.len()) {
            let what = subject.describe(&cases[number]);
            if !what.contains(part) {
                continue;
            }
            if !self.case(&what, || damage::check(&subject, number, &cases[number]).map(drop)) {
                return;
            }
        }
    }
}

/// The process dies at an operation, and the next one opens the database. What that one shows must
/// survive power loss from then on. Gives the recording of the open, and what may be found meanwhile.
fn die(
    workload: &Arc<Workload>,
    disk: &SimDisk,
    operation: usize,
) -> Result<(Recording, Vec<State>, Window), Failure> {
    let Dead { disk: next, states, power: window, process } = dead_on(disk, workload, operation)?;
    let refused = |e| Failure::violation(format!("the open after the death: {e}"));
    let db = options(workload, &next).open(PATH).map_err(refused)?;
    let shown = hash(&db)?;
    let found = in_window(&db, shown, &states, process)?;
    let (recording, cut) = (next.record(), next.durable_image());
    drop(db);
    let refused = |e| Failure::violation(format!("the open after the power cut: {e}"));
    let db = options(workload, &cut).open(PATH).map_err(refused)?;
    same(&db, shown, &states[found], "a power cut after the recovery")?;
    Ok((recording, states, window))
}

/// Processor time of this thread where the system tells it (Linux), else the time since the first call.
pub fn processor_time() -> Duration {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    match nanoseconds {
        Some(nanoseconds) => Duration::from_nanos(nanoseconds),
        None => STARTED.get_or_init(Instant::now).elapsed(),
    }
}

/// All numbers below `count`, such that every beginning of them spreads widely.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    (0..ROUNDS).flat_map(move |round| (0..count).skip((7 * round) % ROUNDS).step_by(ROUNDS))
}
