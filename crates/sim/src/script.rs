//! Workloads: deterministic scripts of steps, from a seed.
//!
//! The phases are laid out by hand, so that every path of the engine is on the way; sizes, keys and
//! order within a phase come from the seed. A script is a value: two runs of it do the same.

use crate::random::Random;
use crate::small;
use highwater::Durability;
use std::sync::Arc;

/// One call of the database's interface.
#[derive(Clone, Debug)]
pub enum Step {
    /// Creates a keyspace.
    Create(&'static str),
    /// Drops a keyspace.
    Drop(&'static str),
    /// A transaction.
    Batch(Vec<Change>, Durability),
    /// An optimistic transaction that reads the first key's value and writes both.
    Transact(&'static str, String, String, usize),
    /// The same as a [`Step::Batch`], as an optimistic transaction.
    Optimistic(Vec<Change>, Durability),
    /// A transaction whose commit hands back a ticket. It is begun, and neither shown nor acknowledged.
    Ticket(Vec<Change>),
    /// Waits for the last ticket.
    Redeem,
    /// A read-only open beside the owner.
    ReadOnly,
    /// Makes all earlier commits durable.
    Sync,
    /// A checkpoint.
    Checkpoint,
    /// A full checkpoint.
    Compact,
    /// What the engine's threads would do, the witness included.
    Maintain,
    /// A clean close and an open.
    Reopen,
    /// Takes a snapshot and keeps it.
    Hold,
    /// Checks the kept snapshot and drops it.
    Release,
}

/// One change within a transaction.
#[derive(Clone, Debug)]
pub enum Change {
    /// Sets a key to a value of so many bytes.
    Put(&'static str, String, usize),
    /// Removes a key.
    Remove(&'static str, String),
    /// Removes the keys from the first to before the second.
    RemoveRange(&'static str, String, String),
    /// Removes all keys.
    Clear(&'static str),
    /// Puts that are rolled back to a savepoint.
    Undone(&'static str, String, usize),
    /// Removes the first entry.
    PopFirst(&'static str),
    /// Removes the last entry.
    PopLast(&'static str),
    /// Keeps, from the first key to before the second, the entries that [`is_odd`] picks.
    Retain(&'static str, String, String),
    /// Takes those out.
    ExtractIf(&'static str, String, String),
}

/// What `Retain` and `ExtractIf` ask of a value.
pub fn is_odd(value: &[u8]) -> bool {
    value.first().is_some_and(|byte| byte & 1 == 1)
}

/// A workload: its script and the options of its database.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// What the values are made of.
    pub seed: u64,
    /// See [`highwater::Builder::memory_budget`].
    pub memory_budget: usize,
    /// What is done.
    pub steps: Vec<Step>,
    /// If not all of its steps: which, for replays. See [`crate::shrink`].
    pub kept: Option<String>,
}

impl Workload {
    /// Whether its database has the sizes of [`highwater::Builder::simulation_sizes`]: segments of
    /// 32 KiB, so that an image costs little. Budgets below the least one say so.
    pub fn is_small(&self) -> bool {
        self.memory_budget < 1 << 20
    }
}

/// Names of the workloads with databases of the usual sizes.
const LARGE: [&str; 7] = ["main", "fragments", "border", "steady", "holes", "short", "random"];

/// Names of all workloads.
pub const NAMES: [&str; LARGE.len() + small::NAMES.len()] = {
    let mut names = [""; LARGE.len() + small::NAMES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = if at < LARGE.len() { LARGE[at] } else { small::NAMES[at - LARGE.len()] };
        at += 1;
    }
    names
};

/// A workload by name.
pub fn workload(name: &str, seed: u64) -> Option<Workload> {
    if let Some(workload) = small::workload(name, seed) {
        return Some(workload);
    }
    let mut script = Script { random: Random::new(seed), steps: Vec::new() };
    let mut memory_budget = 1 << 20;
    let name = *LARGE.iter().find(|known| **known == name)?;
    match name {
        "main" => script.main(),
        "fragments" => {
            memory_budget = 6 << 20;
            script.fragments();
        }
        "border" => {
            memory_budget = 3 << 20;
            script.border();
        }
        "steady" => {
            memory_budget = 6 << 20;
            script.steady();
        }
        "holes" => {
            memory_budget = 6 << 20;
            script.holes();
        }
        "short" => script.short(),
        _ => script.random(),
    }
    Some(Workload { name, seed, memory_budget, steps: script.steps, kept: None })
}

/// The bytes of a value: they differ from all others and do not compress.
pub fn value(seed: u64, step: usize, key: &str, bytes: usize) -> Arc<[u8]> {
    let mut state = seed ^ (step as u64) << 32;
    key.bytes().for_each(|byte| state = Random::new(state ^ u64::from(byte)).number());
    let mut random = Random::new(state);
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend_from_slice(&random.number().to_le_bytes());
    }
    value.truncate(bytes);
    value.into()
}

struct Script {
    random: Random,
    steps: Vec<Step>,
}

use Change::{Clear, Put, Remove, RemoveRange, Undone};
use Durability::{Buffered, Memory, Sync};

impl Script {
    fn main(&mut self) {
        self.create(&["a", "b"]);
        for _ in 0..4 {
            self.small("a", Sync);
        }
        self.steps.push(Step::Maintain);
        self.small("b", Buffered);
        self.small("b", Buffered);
        self.small("a", Memory);
        self.small("b", Buffered);
        self.steps.push(Step::Sync);
        self.small("a", Memory);
        self.small("a", Memory);
        self.small("a", Sync);
        self.steps.push(Step::Transact("a", key(1), key(2), 100));
        self.steps.push(Step::Checkpoint);
        self.small("a", Sync);
        self.batch(vec![Remove("a", key(1)), Put("b", key(50), 700)], Sync);
        self.batch(vec![RemoveRange("a", key(2), key(5)), Put("a", key(3), 60)], Sync);
        self.steps.push(Step::Hold);
        // Fills segments: they switch, checkpoints come by themselves, and the log is recycled.
        for round in 0..7 {
            self.large("a", 4, 12_000, [Sync, Buffered, Memory][round % 3]);
            self.small("b", Buffered);
        }
        self.steps.push(Step::Reopen);
        self.small("a", Sync);
        self.spill("b", 40, 8_000);
        self.small("b", Sync);
        self.steps.push(Step::Checkpoint);
        self.steps.push(Step::Release);
        self.steps.push(Step::Compact);
        self.batch(vec![Clear("b"), Put("b", key(7), 40)], Sync);
        self.create(&["c"]);
        self.spill("c", 36, 8_000);
        self.small("c", Buffered);
        self.steps.push(Step::Drop("a"));
        self.create(&["a"]);
        self.small("a", Sync);
        for round in 0..10 {
            self.large("a", 5, 11_000, [Sync, Buffered][round % 2]);
        }
        self.steps.push(Step::Maintain);
        self.steps.push(Step::Transact("c", key(3), key(4), 300));
        self.steps.push(Step::Reopen);
        // Live log of two lives, replayed into memory and written on.
        self.small("c", Sync);
        self.small("a", Memory);
        self.steps.push(Step::Reopen);
        self.small("c", Sync);
        self.batch(vec![Undone("c", key(9), 500), Put("c", key(8), 90)], Sync);
        self.steps.push(Step::Checkpoint);
        self.small("c", Sync);
        self.steps.push(Step::Compact);
        self.steps.push(Step::Drop("b"));
        self.small("c", Sync);
        self.steps.push(Step::Maintain);
        self.spill("c", 36, 8_000);
        self.steps.push(Step::Reopen);
        self.small("c", Sync);
        self.small("a", Sync);
    }

    /// Transactions in several groups, over the border of segments.
    fn fragments(&mut self) {
        self.create(&["a"]);
        self.small("a", Sync);
        for round in 0..6 {
            self.large("a", 30, 20_000, [Sync, Buffered, Memory][round % 3]);
            self.small("a", Buffered);
        }
        self.steps.push(Step::Sync);
        self.small("a", Sync);
        self.steps.push(Step::Checkpoint);
        self.large("a", 30, 25_000, Sync);
        self.small("a", Sync);
        self.steps.push(Step::Reopen);
        self.large("a", 25, 25_000, Buffered);
        self.small("a", Sync);
    }

    /// Checkpoints at every distance from the end of a segment.
    fn border(&mut self) {
        self.create(&["a"]);
        for round in 0..5 {
            self.large("a", 10, 20_000 + round * 700, Sync);
            self.steps.push(Step::Checkpoint);
            self.large("a", 12, 20_000, Sync);
            self.large("a", 6, 20_000, Buffered);
            self.steps.push(Step::Checkpoint);
            self.large("a", 12, 19_000, Sync);
        }
        self.small("a", Sync);
    }

    /// Commits over the border of segments, with little else: the log fills, is recycled, and fills again,
    /// and checkpoints come by themselves, in the middle of commits.
    fn steady(&mut self) {
        self.create(&["a"]);
        self.small("a", Sync);
        for _ in 0..6 {
            self.large("a", 30, 20_000, Sync);
        }
        for _ in 0..6 {
            self.large("a", 10, 20_000, Buffered);
        }
        self.steps.push(Step::Sync);
        for _ in 0..4 {
            self.large("a", 30, 20_000, Sync);
            self.small("a", Sync);
            self.small("a", Sync);
        }
    }

    /// Unsynced commits on both sides of a segment's border, so that the earlier may be lost and the later
    /// be there.
    fn holes(&mut self) {
        self.create(&["a"]);
        self.large("a", 30, 20_000, Sync);
        self.large("a", 14, 20_000, Sync);
        for _ in 0..3 {
            self.large("a", 3, 20_000, Buffered);
            self.small("a", Buffered);
        }
        self.steps.push(Step::Sync);
        self.small("a", Sync);
    }

    /// A bit of everything, for faults.
    fn short(&mut self) {
        self.create(&["a", "b"]);
        self.small("a", Sync);
        self.small("b", Buffered);
        self.small("a", Memory);
        self.steps.push(Step::Sync);
        self.batch(vec![RemoveRange("a", key(0), key(20)), Put("a", key(3), 60)], Sync);
        self.steps.push(Step::Maintain);
        self.steps.push(Step::Checkpoint);
        self.small("a", Sync);
        self.spill("b", 38, 8_000);
        self.small("b", Sync);
        self.steps.push(Step::Checkpoint);
        for _ in 0..5 {
            self.large("a", 9, 20_000, Sync);
            self.small("b", Buffered);
        }
        self.steps.push(Step::Compact);
        self.steps.push(Step::Transact("a", key(3), key(4), 300));
        self.steps.push(Step::Reopen);
        self.small("a", Sync);
        self.steps.push(Step::Drop("b"));
        self.small("a", Sync);
    }

    /// Anything, in any order.
    fn random(&mut self) {
        self.create(&["a", "b", "c"]);
        let mut live = ["a", "b", "c"].map(|name| (name, true));
        for _ in 0..70 {
            let durability = [Sync, Sync, Buffered, Memory][self.random.below(4)];
            let at = self.random.below(3);
            let (name, is_live) = live[at];
            if !is_live {
                self.create(&[name]);
                live[at].1 = true;
                continue;
            }
            match self.random.below(40) {
                0..=17 => self.small(name, durability),
                18..=25 => {
                    let (count, bytes) = (1 + self.random.below(12), self.random.below(16_000));
                    self.large(name, count, bytes, durability);
                }
                26 => self.spill(name, 40, 8_000),
                27 | 28 => {
                    let from = self.random.below(50);
                    let to = from + self.random.below(20);
                    self.batch(vec![RemoveRange(name, key(from), key(to))], durability);
                }
                29 => self.batch(vec![Clear(name), Put(name, key(1), 9)], durability),
                30 => self.steps.push(Step::Transact(name, key(1), key(2), 100)),
                31 => self.steps.push(Step::Sync),
                32 | 33 => self.steps.push(Step::Checkpoint),
                34 => self.steps.push(Step::Compact),
                35 => self.steps.push(Step::Maintain),
                36 | 37 => self.steps.push(Step::Reopen),
                38 => {
                    self.steps.push(Step::Drop(name));
                    live[at].1 = false;
                }
                _ => {
                    self.steps.push(Step::Hold);
                    self.small(name, durability);
                    self.steps.push(Step::Release);
                }
            }
        }
    }

    fn create(&mut self, names: &[&'static str]) {
        self.steps.extend(names.iter().map(|name| Step::Create(name)));
    }

    fn batch(&mut self, changes: Vec<Change>, durability: Durability) {
        self.steps.push(Step::Batch(changes, durability));
    }

    /// A few small puts and now and then a remove.
    fn small(&mut self, name: &'static str, durability: Durability) {
        let mut changes = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            changes.push(Put(name, key(self.random.below(60)), 1 + self.random.below(900)));
        }
        if self.random.below(3) == 0 {
            changes.push(Remove(name, key(self.random.below(60))));
        }
        self.batch(changes, durability);
    }

    fn large(&mut self, name: &'static str, count: usize, bytes: usize, durability: Durability) {
        let first = self.random.below(30);
        let puts = (0..count).map(|i| Put(name, key(first + i), bytes + i)).collect();
        self.batch(puts, durability);
    }

    /// More than a transaction's share of memory.
    fn spill(&mut self, name: &'static str, count: usize, bytes: usize) {
        let mut changes: Vec<Change> =
            (0..count).map(|i| Put(name, key(10 + i), bytes + i)).collect();
        changes.insert(count / 2, RemoveRange(name, key(12), key(14)));
        changes.push(Remove(name, key(20)));
        self.batch(changes, Sync);
    }
}

/// The key of a number.
pub(crate) fn key(number: usize) -> String {
    format!("key{number:04}")
}
