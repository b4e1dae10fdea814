//! The core workloads A to F of the Yahoo! Cloud Serving Benchmark, in their order for one database (A, B,
//! C, F, D, E): records of 1,000 bytes, four threads, each operation a transaction of its own, each write durable.
//!
//! Keys are drawn by the scrambled Zipf distribution; D reads near the newest record; E scans up to 100
//! records. A read of F and the write after it are two transactions, as in the original. Each workload
//! runs for a set time.
//!
//! A value tells its version and carries a hash of version and number at both ends, so that every read is
//! checked, whichever of the concurrent updates it finds.

use super::parts::{rest, together};
use crate::child::Context;
use crate::engine::{Batch, Engine, Outcome, Promise, Setup};
use crate::records::{KEY_BYTES, Random, Zipf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const THREADS: usize = 4;
const VALUE: usize = 1000;
const SCAN_MOST: u64 = 100;
/// Records of a transaction of the load.
const BATCH: u64 = 1000;

/// One workload: shares of a hundred operations; what is left is updates.
struct Workload {
    phase: &'static str,
    reads: u64,
    scans: u64,
    inserts: u64,
    modifies: u64,
    latest: bool,
}

const fn workload(phase: &'static str, reads: u64) -> Workload {
    Workload { phase, reads, scans: 0, inserts: 0, modifies: 0, latest: false }
}

const WORKLOADS: [Workload; 6] = [
    workload("ycsb-a", 50),
    workload("ycsb-b", 95),
    workload("ycsb-c", 100),
    Workload { modifies: 50, ..workload("ycsb-f", 50) },
    Workload { inserts: 5, latest: true, ..workload("ycsb-d", 95) },
    Workload { scans: 95, inserts: 5, ..workload("ycsb-e", 0) },
];

/// Makes values, of bytes that do not compress.
struct Values(Vec<u8>);

impl Values {
    fn new() -> Values {
        let mut random = Random(31);
        Values((0..8192).flat_map(|_| random.next_u64().to_le_bytes()).collect())
    }

    fn make(&self, number: u64, version: u64) -> [u8; VALUE] {
        let hash = hash(number, version);
        let mut value = [0; VALUE];
        let from = (hash % (self.0.len() - VALUE) as u64) as usize;
        value.copy_from_slice(&self.0[from..from + VALUE]);
        value[..8].copy_from_slice(&version.to_le_bytes());
        value[8..16].copy_from_slice(&hash.to_le_bytes());
        value[VALUE - 8..].copy_from_slice(&hash.to_le_bytes());
        value
    }
}

fn hash(number: u64, version: u64) -> u64 {
    Random(number ^ version.rotate_left(40)).next_u64()
}

fn is_of(number: u64, value: &[u8]) -> bool {
    let (Some(version), Some(last)) = (value.first_chunk::<8>(), value.last_chunk::<8>()) else {
        return false;
    };
    let hash = hash(number, u64::from_le_bytes(*version)).to_le_bytes();
    value.len() == VALUE && value[8..16] == hash && *last == hash
}

fn key(number: u64) -> [u8; KEY_BYTES] {
    crate::records::record(number, 0).0
}

struct Run<'a, E> {
    engine: &'a E,
    values: Values,
    zipf: Zipf,
    /// The number of the next insert.
    next: AtomicU64,
    /// By thread: everything below it that the thread has taken is in the database.
    under_way: [AtomicU64; THREADS],
}

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let engine = E::open(&context.dir, &Setup { value_bytes: VALUE, ..context.setup })?;
    let count = context.size(500_000);
    let run = Run {
        engine: &engine,
        values: Values::new(),
        zipf: Zipf::new(count),
        next: AtomicU64::new(count),
        under_way: [const { AtomicU64::new(u64::MAX) }; THREADS],
    };
    for from in (0..count).step_by(BATCH as usize) {
        engine.batch(Promise::Durable, |batch| {
            (from..(from + BATCH).min(count))
                .try_for_each(|number| batch.insert(&key(number), &run.values.make(number, 0)))
        })?;
    }
    rest();
    let limit = context.limit(15.0, 0.1);
    for (place, workload) in WORKLOADS.iter().enumerate() {
        if context.wants(workload.phase) {
            let body = |thread: usize| {
                let mut random = Random(((place << 8) | thread) as u64);
                run.thread(workload, thread, limit, &mut random)
            };
            let (spent, done) = together(THREADS, body)?;
            context.rate(workload.phase, done.iter().sum(), spent);
        }
    }
    let expected = run.next.load(Ordering::Relaxed);
    let len = engine.read(|reader| E::len(reader))?;
    if len != expected {
        return Err(format!("{}: {len} records after YCSB, not {expected}", E::NAME).into());
    }
    (0..expected).try_for_each(|number| run.read(number))?;
    engine.close()
}

impl<E: Engine> Run<'_, E> {
    fn thread(
        &self,
        workload: &Workload,
        thread: usize,
        limit: Duration,
        random: &mut Random,
    ) -> Outcome<u64> {
        let started = Instant::now();
        let mut done = 0;
        while started.elapsed() < limit {
            let number =
                if workload.latest { self.latest(random) } else { self.zipf.number(random) };
            let mut dice = random.below(100);
            let mut falls = |share: u64| {
                let falls = dice < share;
                dice = dice.saturating_sub(share);
                falls
            };
            if falls(workload.reads) {
                self.read(number)?;
            } else if falls(workload.scans) {
                self.scan(number, 1 + random.below(SCAN_MOST))?;
            } else if falls(workload.inserts) {
                self.insert(thread)?;
            } else {
                if falls(workload.modifies) {
                    self.read(number)?;
                }
                let value = self.values.make(number, random.next_u64());
                self.engine.put(Promise::Durable, &key(number), &value)?;
            }
            done += 1;
        }
        Ok(done)
    }

    /// A record near the newest of those that are surely there.
    fn latest(&self, random: &mut Random) -> u64 {
        let next = self.next.load(Ordering::SeqCst);
        let under_way = self.under_way.iter().map(|number| number.load(Ordering::SeqCst));
        let end = under_way.fold(next, u64::min);
        end - 1 - self.zipf.rank(random)
    }

    fn insert(&self, thread: usize) -> Outcome {
        // Set before the number is taken, so that nobody reads past it.
        self.under_way[thread].store(self.next.load(Ordering::SeqCst), Ordering::SeqCst);
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.engine.put(Promise::Durable, &key(number), &self.values.make(number, 0))?;
        self.under_way[thread].store(u64::MAX, Ordering::SeqCst);
        Ok(())
    }

    fn read(&self, number: u64) -> Outcome {
        let key = key(number);
        let right = self.engine.read(|reader| {
            E::get(reader, &key, |value| value.is_some_and(|value| is_of(number, value)))
        })?;
        if right { Ok(()) } else { Err(format!("{}: record {number} is wrong", E::NAME).into()) }
    }

    fn scan(&self, number: u64, count: u64) -> Outcome {
        let key = key(number);
        let (mut before, mut right) = (None, true);
        let found = self.engine.read(|reader| {
            E::scan(reader, &key, count, |found, value| {
                // The first is the record asked for; the others must be whole and in order.
                right &= match before.replace(found.first_chunk::<8>().copied()) {
                    None => found == key && is_of(number, value),
                    Some(before) => {
                        before <= found.first_chunk::<8>().copied() && value.len() == VALUE
                    }
                };
            })
        })?;
        if right && found > 0 {
            return Ok(());
        }
        Err(format!("{}: a range from record {number} is wrong", E::NAME).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_its_number_only_and_whole() {
        let values = Values::new();
        let mut value = values.make(7, 3);
        assert!(is_of(7, &value) && !is_of(8, &value) && !is_of(7, &value[..VALUE - 1]));
        value[VALUE - 1] ^= 1;
        assert!(!is_of(7, &value));
    }

    #[test]
    fn shares_add_up() {
        for workload in WORKLOADS {
            let sum = workload.reads + workload.scans + workload.inserts + workload.modifies;
            assert!(sum <= 100, "{}", workload.phase);
        }
    }
}
