//! Durable batches of 1,000 over ten memory budgets, until everything is merged that the engine merges by itself:
//! nobody gets away with work put off.

use super::parts::{Chunk, rest_from};
use crate::child::Context;
use crate::engine::{Batch, Engine, Outcome, Promise, Setup};
use crate::model::Model;
use crate::records::{KEY_BYTES, STANDARD, VALUE_BYTES};
use std::time::Instant;

const BATCH: u64 = 1000;

/// Runs the group.
pub fn run<E: Engine>(context: &Context) -> Outcome {
    let write_bytes = context.size(64 << 20);
    let setup = Setup { write_bytes: write_bytes as usize, ..context.setup };
    let engine = E::open(&context.dir, &setup)?;
    let count = 10 * write_bytes / (KEY_BYTES + VALUE_BYTES) as u64 / BATCH * BATCH;
    let limit = context.limit(120.0, 0.4);
    let started = Instant::now();
    let mut next = 0;
    while next < count && started.elapsed() < limit {
        let chunk = Chunk::of(STANDARD, next..next + BATCH, 0);
        engine.batch(Promise::Durable, |batch| {
            chunk.records().try_for_each(|(key, value)| batch.insert(key, value))
        })?;
        next += BATCH;
    }
    let rested = rest_from();
    context.rate("drain", next, rested - started);
    if next < count {
        context.note("drain", &format!("stopped after {next} of {count} records"));
    }
    Model::of(0..next).verify(&engine, "the batches")?;
    engine.close()
}
