//! What several groups do: make records ahead, load them, read with threads, rest.

use crate::engine::{Batch, Engine, Outcome, Promise};
use crate::model::Probes;
use crate::records::Shape;
use crate::system;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Inserts records in one durable transaction; says how long it took. They are all made before it, so that
/// nobody gets pauses in which threads of its own work on.
pub fn load<E: Engine>(engine: &E, shape: Shape, numbers: Range<u64>) -> Outcome<Duration> {
    let chunk = Chunk::of(shape, numbers, 0);
    let started = Instant::now();
    engine.batch(Promise::Durable, |batch| {
        chunk.records().try_for_each(|(key, value)| batch.insert(key, value))
    })?;
    Ok(started.elapsed())
}

/// Inserts records in durable transactions of `size`; says how long that took, the making of the records included.
pub fn load_batches<E: Engine>(
    engine: &E,
    shape: Shape,
    numbers: Range<u64>,
    size: u64,
    version: u64,
) -> Outcome<Duration> {
    let started = Instant::now();
    let mut next = numbers.start;
    while next < numbers.end {
        let chunk = Chunk::of(shape, next..(next + size).min(numbers.end), version);
        next += chunk.len() as u64;
        engine.batch(Promise::Durable, |batch| {
            chunk.records().try_for_each(|(key, value)| batch.insert(key, value))
        })?;
    }
    Ok(started.elapsed())
}

/// Reads all probes with a number of threads, each a part of them on a snapshot of its own.
pub fn read_threads<E: Engine>(engine: &E, probes: &Probes, threads: usize) -> Outcome<Duration> {
    let share = probes.len().div_ceil(threads);
    together(threads, |thread| {
        let part = (thread * share).min(probes.len())..((thread + 1) * share).min(probes.len());
        engine.read(|reader| probes.read::<E>(reader, part))
    })
    .map(|(spent, _)| spent)
}

/// Runs `body` in a number of threads that start together; says how long it took from the start of the
/// first to the end of the last, and what each gave.
///
/// Each thread takes its own times: one that only waits for the others may get the processor last of all.
pub fn together<T: Send>(
    threads: usize,
    body: impl Fn(usize) -> Outcome<T> + Sync,
) -> Outcome<(Duration, Vec<T>)> {
    let barrier = std::sync::Barrier::new(threads);
    let done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, body) = (&barrier, &body);
                scope.spawn(move || {
                    barrier.wait();
                    let started = Instant::now();
                    body(thread).map(|given| (started, Instant::now(), given))
                })
            })
            .collect();
        let done = workers.into_iter().map(|worker| worker.join());
        done.collect::<Result<Vec<_>, _>>().map_err(|_| "a thread panicked")
    })?;
    let done = done.into_iter().collect::<Outcome<Vec<_>>>()?;
    let start = done.iter().map(|(start, ..)| *start).min().ok_or("no thread")?;
    let end = done.iter().map(|(_, end, _)| *end).max().ok_or("no thread")?;
    Ok((end - start, done.into_iter().map(|(.., given)| given).collect()))
}

/// Waits until the engine's own threads rest. An engine that does not within a minute is measured as it is.
pub fn rest() {
    rest_from();
}

/// The same, and says when the rest began.
pub fn rest_from() -> Instant {
    let quiet = Duration::from_millis(QUIET_MILLIS.load(Ordering::Relaxed));
    system::settle(quiet, Duration::from_secs(60)).unwrap_or_else(Instant::now)
}

/// How long nothing happens until an engine is taken to rest: longer than the pauses after which engines begin with what
/// they do then.
static QUIET_MILLIS: AtomicU64 = AtomicU64::new(300);

/// Half as long: a quick run is made of rests, mostly.
pub fn rest_quickly() {
    QUIET_MILLIS.store(150, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_timed_from_the_first_start_to_the_last_end() {
        let nap = Duration::from_millis(30);
        let (spent, given) = together(40, |thread| {
            std::thread::sleep(nap);
            Ok(thread)
        })
        .expect("no error");
        assert!(spent >= nap, "{spent:?}");
        assert_eq!(given, (0..40).collect::<Vec<_>>());
        let failed =
            together(2, |thread| if thread == 1 { Err("on purpose".into()) } else { Ok(()) });
        assert!(failed.is_err());
    }
}
