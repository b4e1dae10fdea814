//! Durable commits of one record each from many threads, in turns with a naive leader loop of as many
//! threads on the same disk.

use super::parts::{load, rest, together};
use crate::child::Context;
use crate::engine::{Engine, Outcome, Promise};
use crate::floor::LeaderLoop;
use crate::model::Probes;
use crate::records::{STANDARD, record};
use std::time::{Duration, Instant};

/// How often engine and floor take turns.
const TURNS: u64 = 2;

/// Threads have this many numbers each: the rank of a thread above, the count of its records below.
const SHIFT: u32 = 40;

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let engine = E::open(&context.dir, &context.setup)?;
    let base = context.size(1_000_000);
    load(&engine, STANDARD, 0..base)?;
    rest();
    let leader = LeaderLoop::new(&context.dir)?;
    let turn = context.limit(2.5, 0.05);
    // The number of the next record of each thread, over all phases.
    let mut next = [0_u64; 64];
    for threads in [1_usize, 4, 16, 64] {
        let phase = format!("commits-{threads}");
        if !context.wants(&phase) {
            continue;
        }
        let (mut ours, mut floor) = (Rate::default(), Rate::default());
        for _ in 0..TURNS {
            let from = next;
            let (spent, done) = together(threads, |thread| {
                until(turn, |count| {
                    let number = number(thread, from[thread] + count);
                    let (key, value) = record(number, 0);
                    engine.put(Promise::Durable, &key, &value)
                })
            })?;
            next.iter_mut().zip(&done).for_each(|(next, done)| *next += done);
            ours.add(&done, spent);
            let (spent, done) = together(threads, |_| {
                until(turn / 2, |count| {
                    let (_, value) = record(count, 0);
                    Ok(leader.commit(&value)?)
                })
            })?;
            floor.add(&done, spent);
        }
        context.value(&phase, ours.per_second());
        context.floor(&phase, floor.per_second());
    }
    let total: u64 = next.iter().sum();
    let len = engine.read(|reader| E::len(reader))?;
    if len != base + total {
        return Err(format!("{}: {len} records, not {}", E::NAME, base + total).into());
    }
    let numbers = (0..64).flat_map(|thread| (0..next[thread]).map(move |n| number(thread, n)));
    let probes = Probes::of_numbers(STANDARD, numbers);
    engine.read(|reader| probes.read::<E>(reader, 0..probes.len()))?;
    engine.close()
}

fn number(thread: usize, count: u64) -> u64 {
    ((thread as u64 + 1) << SHIFT) | count
}

/// Repeats a step for a time; says how often.
fn until(limit: Duration, mut step: impl FnMut(u64) -> Outcome) -> Outcome<u64> {
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < limit {
        step(count)?;
        count += 1;
    }
    Ok(count)
}

#[derive(Default)]
struct Rate {
    count: u64,
    spent: Duration,
}

impl Rate {
    fn add(&mut self, counts: &[u64], spent: Duration) {
        self.count += counts.iter().sum::<u64>();
        self.spent += spent;
    }

    fn per_second(&self) -> f64 {
        self.count as f64 / self.spent.as_secs_f64()
    }
}
