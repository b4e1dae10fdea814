//! How long durable commits take while checkpoints and merges go on: small commits without a pause over
//! ten memory budgets, on a database that has something to merge with.
//!
//! Beside an engine with a log stands a bare loop: the same number of writes of the same bytes, each synced,
//! beside a thread that puts as many bytes a second on the disk as the engine did beyond its log.
//! What the bare loop shows is the disk's doing. Engines without a log have no such background.

use super::parts::{Chunk, load, rest};
use crate::child::Context;
use crate::engine::{Batch, Engine, Outcome, Promise, Setup};
use crate::floor::{BareLoop, Traffic};
use crate::model::Model;
use crate::records::{KEY_BYTES, STANDARD, VALUE_BYTES};
use crate::statistics::percentile;
use crate::system::disk_written_bytes;
use std::time::{Duration, Instant};

/// Records of a commit.
const BATCH: u64 = 20;
/// A commit that takes longer is counted.
const SLOW: Duration = Duration::from_millis(50);

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let write_bytes = context.size(32 << 20);
    let setup = Setup { write_bytes: write_bytes as usize, ..context.setup };
    let engine = E::open(&context.dir, &setup)?;
    let base = context.size(1_000_000);
    load(&engine, STANDARD, 0..base)?;
    rest();

    let commits = 10 * write_bytes / ((KEY_BYTES + VALUE_BYTES) as u64 * BATCH);
    let limit = context.limit(60.0, 0.3);
    let disk_before = disk_written_bytes();
    let started = Instant::now();
    let mut times = Vec::with_capacity(commits as usize);
    let mut next = base;
    while (times.len() as u64) < commits && started.elapsed() < limit {
        let chunk = Chunk::of(STANDARD, next..next + BATCH, 0);
        let began = Instant::now();
        engine.batch(Promise::Durable, |batch| {
            chunk.records().try_for_each(|(key, value)| batch.insert(key, value))
        })?;
        times.push(began.elapsed());
        next += BATCH;
    }
    let spent = started.elapsed();
    let disk = disk_written_bytes() - disk_before;
    let done = times.len();
    report(&mut times, |phase, value| context.value(phase, value));
    context.value("latency-rate", done as f64 / spent.as_secs_f64());
    if (done as u64) < commits {
        for phase in PHASES {
            context.note(phase, &format!("stopped after {done} of {commits} commits"));
        }
    }
    rest();
    Model::of(0..next).verify(&engine, "the commits")?;
    engine.close()?;
    if E::FACTS.logged {
        floor(context, write_bytes, done, disk, spent)?;
    }
    Ok(())
}

const PHASES: [&str; 6] =
    ["latency-p50", "latency-p99", "latency-p999", "latency-max", "latency-slow", "latency-rate"];

fn report(times: &mut [Duration], mut each: impl FnMut(&str, f64)) {
    times.sort_unstable();
    let shares = [0.5, 0.99, 0.999, 1.0];
    for (phase, share) in PHASES.into_iter().zip(shares) {
        each(phase, percentile(times, share).as_secs_f64() * 1e6);
    }
    each("latency-slow", times.iter().filter(|time| **time > SLOW).count() as f64);
}

/// The bare loop beside the same traffic.
fn floor(
    context: &Context,
    write_bytes: u64,
    commits: usize,
    disk: u64,
    spent: Duration,
) -> Outcome {
    let bytes = BATCH as usize * (KEY_BYTES + VALUE_BYTES);
    let limit = spent;
    let log = commits as u64 * (bytes as u64).next_multiple_of(4096);
    let mut bare = BareLoop::new(&context.dir, bytes, 2048)?;
    let rate = disk.saturating_sub(log) as f64 / spent.as_secs_f64();
    let traffic = Traffic::start(&context.dir, rate, write_bytes / 3);
    let started = Instant::now();
    let mut times = Vec::with_capacity(commits);
    // As long as the engine at most, so that a slow disk does not double the time.
    while times.len() < commits && started.elapsed() < limit {
        if bare.is_at_end() {
            bare.rewind();
        }
        times.push(bare.step()?);
    }
    let (done, spent) = (times.len(), started.elapsed());
    traffic.stop()?;
    report(&mut times, |phase, value| context.floor(phase, value));
    context.floor("latency-rate", done as f64 / spent.as_secs_f64());
    Ok(())
}
