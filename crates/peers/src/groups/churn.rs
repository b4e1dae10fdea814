//! Overwrite churn: the same keys ten times over, in durable batches of 1,000, and the space that it takes
//! over time. The write budget is an eighth of the data, so that rounds end up in tables.
//!
//! Space is that of allocated blocks, over the bytes of keys and values: the largest that was seen at any moment (a
//! look every 20 ms), and when the engine rests. The series is the space at the end of each round.

use super::parts::{load_batches, rest, rest_from};
use crate::child::Context;
use crate::engine::{Engine, Outcome, Setup};
use crate::model::Probes;
use crate::records::{KEY_BYTES, STANDARD, VALUE_BYTES, digest};
use crate::system::allocated_bytes;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BATCH: u64 = 1000;
const ROUNDS: u64 = 10;

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let count = context.size(400_000);
    let raw = count * (KEY_BYTES + VALUE_BYTES) as u64;
    // Some engines take no less than a mebibyte; then all get it.
    let setup = Setup { write_bytes: (raw / 8).max(1 << 20) as usize, ..context.setup };
    let engine = E::open(&context.dir, &setup)?;
    load_batches(&engine, STANDARD, 0..count, BATCH, 0)?;
    rest();

    let relative = |bytes: u64| bytes as f64 / raw as f64;
    let limit = context.limit(120.0, 0.4);
    let mut series = vec![relative(allocated_bytes(&context.dir)?)];
    let started = Instant::now();
    let mut rounds = 0;
    let peak = watch(&context.dir, || {
        while rounds < ROUNDS && started.elapsed() < limit {
            rounds += 1;
            load_batches(&engine, STANDARD, 0..count, BATCH, rounds)?;
            series.push(relative(allocated_bytes(&context.dir)?));
        }
        Ok(())
    })?;
    let rested = rest_from();
    let at_rest = relative(allocated_bytes(&context.dir)?);
    series.push(at_rest);
    context.rate("churn", rounds * count, rested - started);
    context.value("churn-peak", relative(peak));
    context.value("churn-rest", at_rest);
    for phase in ["churn", "churn-peak", "churn-rest"] {
        if rounds < ROUNDS {
            context.note(phase, &format!("stopped after {rounds} of {ROUNDS} rounds"));
        }
    }
    context.series("churn-rest", &series);

    let probes = Probes::with(STANDARD, 0..count, |number, value| {
        STANDARD.value(number, rounds, value);
        digest(value)
    });
    engine.read(|reader| probes.read::<E>(reader, 0..probes.len()))?;
    let len = engine.read(|reader| E::len(reader))?;
    if len != count {
        return Err(format!("{}: {len} records after the churn, not {count}", E::NAME).into());
    }
    engine.close()
}

/// Runs `body`; says the most bytes that a directory took meanwhile.
fn watch(dir: &Path, body: impl FnOnce() -> Outcome) -> Outcome<u64> {
    let (stop, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> std::io::Result<()> {
            loop {
                let stopped = stop.load(Ordering::Relaxed);
                peak.fetch_max(allocated_bytes(dir)?, Ordering::Relaxed);
                if stopped {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let done = body();
        stop.store(true, Ordering::Relaxed);
        watcher.join().map_err(|_| "the watching thread panicked")??;
        done
    })?;
    Ok(peak.into_inner())
}
