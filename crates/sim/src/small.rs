//! Workloads with databases as small as they get: segments of 32 KiB, groups of 8 KiB, memory of a few
//! dozen KiB. What takes megabytes elsewhere takes a few operations here, so that images cost little and
//! every way of losing power can be tried.
//!
//! The hand-written ones are each about one thing, short enough for cuts within cuts. `seeded` makes any
//! call of the interface in any order, of any durability, from its seed.

use crate::random::Random;
use crate::script::{Change, Step, Workload, key};
use highwater::Durability;

/// Names of all small workloads.
pub const NAMES: [&str; 14] = [
    "commits", "packed", "groups", "table", "spilled", "lives", "dropped", "recycled", "gaps",
    "filled", "unsynced", "merged", "little", "seeded",
];

/// The hand-written ones that are short enough for cuts within cuts.
pub const BY_HAND: &[&str] = NAMES.split_at(8).0;

use Change::{Clear, ExtractIf, PopFirst, PopLast, Put, Remove, RemoveRange, Retain, Undone};
use Durability::{Buffered, Memory, Sync};

/// A small workload by name.
pub fn workload(name: &str, seed: u64) -> Option<Workload> {
    let name = *NAMES.iter().find(|known| **known == name)?;
    let mut random = Random::new(seed);
    let mut memory_budget = 48 << 10;
    let steps = match name {
        "commits" => commits(),
        "packed" => packed(),
        "groups" => {
            memory_budget = 512 << 10;
            groups()
        }
        "table" => table(),
        "spilled" => spilled(),
        "lives" => lives(),
        "dropped" => dropped(),
        "recycled" => recycled(),
        "gaps" => {
            memory_budget = 512 << 10;
            gaps()
        }
        "filled" => {
            memory_budget = 512 << 10;
            filled()
        }
        "unsynced" => {
            memory_budget = 512 << 10;
            unsynced()
        }
        "merged" => merged(),
        "little" => little(),
        _ => {
            memory_budget = [24 << 10, 48 << 10, 96 << 10, 400 << 10][random.below(4)];
            seeded(&mut random)
        }
    };
    Some(Workload { name, seed, memory_budget, steps, kept: None })
}

fn put(name: &'static str, number: usize, bytes: usize) -> Change {
    Put(name, key(number), bytes)
}

fn batch(changes: Vec<Change>, durability: Durability) -> Step {
    Step::Batch(changes, durability)
}

fn one(number: usize, bytes: usize, durability: Durability) -> Step {
    batch(vec![put("a", number, bytes)], durability)
}

/// The creation, and commits that are each on the disk when they return.
fn commits() -> Vec<Step> {
    vec![Step::Create("a"), one(1, 40, Sync), one(2, 900, Sync), one(1, 60, Sync)]
}

/// Commits that share blocks, with and without a sync, a ticket and a witness.
fn packed() -> Vec<Step> {
    vec![
        Step::Create("a"),
        one(1, 300, Buffered),
        one(2, 500, Buffered),
        one(3, 200, Memory),
        one(4, 700, Buffered),
        Step::Sync,
        Step::Ticket(vec![put("a", 5, 100)]),
        one(6, 100, Memory),
        Step::Redeem,
        Step::Maintain,
        one(7, 400, Sync),
    ]
}

/// A transaction in several groups, over the border of a segment.
fn groups() -> Vec<Step> {
    let large = |from: usize| (from..from + 7).map(|i| put("a", i, 3000)).collect();
    vec![Step::Create("a"), batch(large(0), Sync), one(1, 50, Buffered), batch(large(3), Sync)]
}

/// A checkpoint, and a replay that starts at one.
fn table() -> Vec<Step> {
    vec![
        Step::Create("a"),
        one(1, 400, Sync),
        Step::Checkpoint,
        one(2, 400, Sync),
        batch(vec![Remove("a", key(1)), put("a", 3, 10)], Buffered),
    ]
}

/// A transaction larger than its share of memory.
fn spilled() -> Vec<Step> {
    let mut changes: Vec<Change> = (0..9).map(|i| put("a", i, 3000)).collect();
    changes.insert(5, RemoveRange("a", key(1), key(3)));
    vec![Step::Create("a"), one(1, 100, Sync), batch(changes, Sync), one(2, 30, Sync)]
}

/// Clean closes, and log of an earlier life that is still live.
fn lives() -> Vec<Step> {
    vec![
        Step::Create("a"),
        one(1, 200, Sync),
        Step::Reopen,
        one(2, 200, Sync),
        Step::Reopen,
        one(3, 200, Buffered),
        Step::Sync,
    ]
}

/// Keyspaces come and go.
fn dropped() -> Vec<Step> {
    vec![
        Step::Create("a"),
        Step::Create("b"),
        batch(vec![put("a", 1, 100), put("b", 1, 100)], Sync),
        Step::Drop("b"),
        Step::Create("b"),
        Step::Compact,
        batch(vec![put("b", 2, 100)], Sync),
    ]
}

/// Segments are used again, with what they held before behind the tail.
fn recycled() -> Vec<Step> {
    let mut steps = vec![Step::Create("a")];
    for round in 0..4 {
        steps.extend((0..3).map(|i| one(i, 4000 + 100 * round, [Sync, Buffered][i % 2])));
        steps.push(Step::Checkpoint);
    }
    steps.push(one(1, 300, Sync));
    steps.push(one(2, 300, Buffered));
    steps
}

/// Unsynced commits on both sides of a segment's border: the earlier may be lost and the later be there.
fn gaps() -> Vec<Step> {
    let large = |from: usize, count| (from..from + count).map(|i| put("a", i, 3000)).collect();
    let mut steps = vec![Step::Create("a"), batch(large(0, 5), Sync)];
    for round in 0..4 {
        steps.push(batch(large(round, 1), Buffered));
        steps.push(one(9 + round, 50, Buffered));
    }
    steps.extend([Step::Sync, one(1, 60, Sync)]);
    steps
}

/// Fresh and recycled segments take small and larger commits over several borders, with no checkpoint in
/// between.
fn filled() -> Vec<Step> {
    let mut steps = vec![Step::Create("a")];
    steps.extend((0..12).map(|i| one(i, 50, Sync)));
    for round in 0..2 {
        steps.extend((0..13).map(|i| one(i, 6000 + round, Sync)));
        steps.push(Step::Checkpoint);
    }
    // More than is kept for recycling is removed by the checkpoint.
    steps.extend((0..45).map(|i| one(i, 6000, Sync)));
    steps.extend([Step::Checkpoint, one(1, 50, Sync)]);
    steps
}

/// Checkpoints and closes over commits that are not synced, or not even written.
fn unsynced() -> Vec<Step> {
    let mut steps = vec![Step::Create("a"), one(0, 50, Sync)];
    steps.extend((0..9).map(|i| one(i, 6000, Memory)));
    steps.push(Step::Checkpoint);
    steps.push(one(1, 70, Sync));
    steps.extend((0..3).map(|i| one(i, 2000, Memory)));
    steps.push(Step::Checkpoint);
    steps.extend([one(2, 400, Buffered), one(3, 500, Memory), Step::Reopen]);
    steps.extend([one(4, 400, Memory), Step::Reopen, one(5, 50, Sync)]);
    steps
}

/// Merges that retire tables.
fn merged() -> Vec<Step> {
    let mut steps = vec![Step::Create("a")];
    for round in 0..2 {
        steps.extend([one(1, 300 + round, Sync), Step::Checkpoint]);
        steps.extend([batch(vec![Remove("a", key(1)), put("a", 2, 80)], Sync), Step::Compact]);
    }
    steps.push(one(3, 40, Sync));
    steps
}

/// A bit of everything.
fn little() -> Vec<Step> {
    let spill = |from: usize| batch((from..from + 9).map(|i| put("b", i, 3000)).collect(), Sync);
    let mut steps = vec![
        Step::Create("a"),
        Step::Create("b"),
        one(1, 300, Sync),
        one(2, 100, Buffered),
        one(3, 100, Memory),
        Step::Sync,
        batch(vec![RemoveRange("a", key(0), key(3)), put("a", 4, 60)], Sync),
        Step::Maintain,
        Step::Checkpoint,
        one(5, 200, Sync),
        spill(0),
        batch(vec![put("b", 1, 50)], Sync),
        Step::Checkpoint,
    ];
    for round in 0..3 {
        steps.push(batch((0..3).map(|i| put("a", i, 4000 + round)).collect(), Sync));
        steps.push(one(7, 100, Buffered));
    }
    steps.extend([
        Step::Compact,
        Step::Transact("a", key(3), key(4), 30),
        Step::Reopen,
        one(8, 100, Sync),
        Step::Drop("b"),
        Step::Create("c"),
        one(9, 100, Sync),
    ]);
    steps
}

/// Anything, in any order.
fn seeded(random: &mut Random) -> Vec<Step> {
    let names = ["a", "b"];
    let mut steps: Vec<Step> = names.map(Step::Create).to_vec();
    let mut live = [true; 2];
    for _ in 0..14 + random.below(10) {
        let at = random.below(2);
        let name = names[at];
        if !live[at] {
            steps.push(Step::Create(name));
            live[at] = true;
            continue;
        }
        let durability = [Sync, Sync, Buffered, Memory][random.below(4)];
        steps.push(match random.below(40) {
            0..=13 => batch(changes(random, name), durability),
            14..=17 => {
                let mut both = changes(random, "a");
                both.extend(changes(random, if live[0] && live[1] { "b" } else { name }));
                batch(both, durability)
            }
            18..=20 => Step::Optimistic(changes(random, name), durability),
            21 => Step::Transact(name, key(1), key(2), random.below(300)),
            22..=24 => Step::Ticket(changes(random, name)),
            25 | 26 => Step::Redeem,
            27..=29 => {
                let (count, bytes) = (2 + random.below(9), 500 + random.below(3000));
                let from = random.below(9);
                batch((from..from + count).map(|i| put(name, i, bytes)).collect(), durability)
            }
            30 => Step::Sync,
            31 | 32 => Step::Checkpoint,
            33 => Step::Compact,
            34 => Step::Maintain,
            35 | 36 => Step::Reopen,
            37 => {
                live[at] = false;
                Step::Drop(name)
            }
            38 => Step::ReadOnly,
            _ => [Step::Hold, Step::Release][random.below(2)].clone(),
        });
    }
    steps
}

/// One to four changes of any kind.
fn changes(random: &mut Random, name: &'static str) -> Vec<Change> {
    let range = |random: &mut Random| {
        let from = random.below(20);
        (key(from), key(from + 1 + random.below(12)))
    };
    (0..1 + random.below(4))
        .map(|_| {
            let number = random.below(24);
            match random.below(24) {
                0..=13 => put(name, number, 1 + random.below([60, 300, 1500][number % 3])),
                14 | 15 => Remove(name, key(number)),
                16 => Undone(name, key(number), 30),
                17 => PopFirst(name),
                18 => PopLast(name),
                19 => {
                    let (from, to) = range(random);
                    Retain(name, from, to)
                }
                20 => {
                    let (from, to) = range(random);
                    ExtractIf(name, from, to)
                }
                21 | 22 => {
                    let (from, to) = range(random);
                    RemoveRange(name, from, to)
                }
                _ => Clear(name),
            }
        })
        .collect()
}
