//! Who is next: a scheduler that a seed decides, each execution for itself, so that the number of a
//! schedule is all that it takes to run it again.
//!
//! Three ways by turns, since each finds what the others find late: anybody at any time; somebody who goes
//! on for a while; and priorities, after the scheduler of Burckhardt et al. ("A randomized scheduler with
//! probabilistic guarantees of finding bugs", ASPLOS 2010): the highest runs, and now and then falls to the
//! bottom. Where these falls come is drawn step by step, not out of the length of earlier executions, of
//! which a schedule must not depend.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeded random numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

enum Way {
    Anybody,
    /// Somebody else once in so many steps.
    Spells(u64),
    /// The highest falls once in so many steps.
    Priorities(u64),
}

/// What a scheduler tells while it is at work.
#[derive(Default)]
pub struct Told {
    /// The seed of the execution under way.
    pub seed: AtomicU64,
    /// Choices, those among one thread included.
    pub steps: AtomicU64,
    /// A hash of all choices among several threads.
    pub choices: AtomicU64,
}

/// See the module.
pub struct Seeded {
    seeds: Range<u64>,
    told: Arc<Told>,
    random: Random,
    /// Of its own, so that chance in the scenario does not move the schedule.
    data: Random,
    way: Way,
    /// By number of the task; higher runs first.
    priorities: Vec<u64>,
    bottom: u64,
}

impl Seeded {
    pub fn new(seeds: Range<u64>, told: Arc<Told>) -> Seeded {
        let (random, data, way) = (Random(0), Random(0), Way::Anybody);
        Seeded { seeds, told, random, data, way, priorities: Vec::new(), bottom: 0 }
    }
}

impl Scheduler for Seeded {
    fn new_execution(&mut self) -> Option<Schedule> {
        let seed = self.seeds.next()?;
        self.told.seed.store(seed, Ordering::Relaxed);
        self.random = Random(seed ^ 0x5eed);
        self.data = Random(seed ^ 0xda7a);
        let long = [20, 60, 200, 600][self.random.below(4) as usize];
        self.way = match seed % 4 {
            0 => Way::Anybody,
            1 => Way::Spells(long / 5),
            _ => Way::Priorities(long),
        };
        self.priorities.clear();
        self.bottom = 1 << 32;
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.told.steps.fetch_add(1, Ordering::Relaxed);
        if let [only] = runnable {
            return Some(only.id());
        }
        let anybody = self.random.below(runnable.len() as u64) as usize;
        let chosen = match self.way {
            Way::Anybody => Some(runnable[anybody].id()),
            Way::Spells(long) => {
                let goes_on = !is_yielding && self.random.below(long) > 0;
                let same = current.filter(|id| goes_on && runnable.iter().any(|t| t.id() == *id));
                same.or(Some(runnable[anybody].id()))
            }
            Way::Priorities(long) => {
                let last = runnable.iter().map(|task| usize::from(task.id())).max()?;
                while self.priorities.len() <= last {
                    self.priorities.push(self.random.next() | 1 << 40);
                }
                if is_yielding || self.random.below(long) == 0 {
                    if let Some(falls) = current.map(usize::from) {
                        self.bottom -= 1;
                        *self.priorities.get_mut(falls)? = self.bottom;
                    }
                }
                let highest =
                    runnable.iter().max_by_key(|task| self.priorities[usize::from(task.id())]);
                highest.map(|task| task.id())
            }
        };
        let (number, choices) = (usize::from(chosen?) as u64, &self.told.choices);
        let so_far = choices.load(Ordering::Relaxed);
        choices.store(Random(so_far ^ number).next(), Ordering::Relaxed);
        chosen
    }

    fn next_u64(&mut self) -> u64 {
        self.data.next()
    }
}
