//! What several groups do: make records ahead, load them, read with threads, rest.

use crate::engine::{Batch, Engine, Outcome, Promise};
use crate::model::Probes;
use crate::records::Shape;
use crate::system;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Records made ahead, so that no timed step spends its time on making them.
#[derive(Debug)]
pub struct Chunk {
    shape: Shape,
    keys: Vec<u8>,
    values: Vec<u8>,
    count: usize,
}

impl Chunk {
    /// The records of a range of numbers.
    pub fn of(shape: Shape, numbers: Range<u64>, version: u64) -> Chunk {
        Chunk::listed(shape, numbers, version)
    }

    /// The records of some numbers.
    pub fn listed(shape: Shape, numbers: impl Iterator<Item = u64>, version: u64) -> Chunk {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut chunk = Chunk { shape, keys: Vec::new(), values: Vec::new(), count: 0 };
        for number in numbers {
            shape.key(number, &mut key);
            shape.value(number, version, &mut value);
            chunk.keys.extend_from_slice(&key);
            chunk.values.extend_from_slice(&value);
            chunk.count += 1;
        }
        chunk
    }

    /// Keys and values, in order.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let keys = self.keys.chunks_exact(self.shape.key_bytes());
        keys.zip(self.values.chunks_exact(self.shape.value_bytes))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }
}

/// Records made at a time while a transaction runs.
const AHEAD: u64 = 4096;

/// Inserts records in one durable transaction; says how long it took without making them.
pub fn load<E: Engine>(engine: &E, shape: Shape, numbers: Range<u64>) -> Outcome<Duration> {
    let started = Instant::now();
    let mut making = Duration::ZERO;
    engine.batch(Promise::Durable, |batch| {
        let mut next = numbers.start;
        while next < numbers.end {
            let paused = Instant::now();
            let chunk = Chunk::of(shape, next..(next + AHEAD).min(numbers.end), 0);
            next += chunk.len() as u64;
            making += paused.elapsed();
            for (key, value) in chunk.records() {
                batch.insert(key, value)?;
            }
        }
        Ok(())
    })?;
    Ok(started.elapsed() - making)
}

/// Inserts records in durable transactions of `size`; says how long that took without making them.
pub fn load_batches<E: Engine>(
    engine: &E,
    shape: Shape,
    numbers: Range<u64>,
    size: u64,
    version: u64,
) -> Outcome<Duration> {
    let mut spent = Duration::ZERO;
    let mut next = numbers.start;
    while next < numbers.end {
        let chunk = Chunk::of(shape, next..(next + size).min(numbers.end), version);
        next += chunk.len() as u64;
        let started = Instant::now();
        engine.batch(Promise::Durable, |batch| {
            chunk.records().try_for_each(|(key, value)| batch.insert(key, value))
        })?;
        spent += started.elapsed();
    }
    Ok(spent)
}

/// Reads all probes with a number of threads, each a part of them on a snapshot of its own.
pub fn read_threads<E: Engine>(engine: &E, probes: &Probes, threads: usize) -> Outcome<Duration> {
    let barrier = std::sync::Barrier::new(threads + 1);
    let share = probes.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let barrier = &barrier;
                let part = thread * share..((thread + 1) * share).min(probes.len());
                scope.spawn(move || {
                    barrier.wait();
                    engine.read(|reader| probes.read::<E>(reader, part))
                })
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        for worker in workers {
            worker.join().map_err(|_| "a reading thread panicked")??;
        }
        Ok(started.elapsed())
    })
}

/// Waits until the engine's own threads rest. An engine that does not within a minute is measured as it is.
pub fn rest() {
    system::settle(Duration::from_secs(60));
}
