//! Larger values: 1 KiB, 16 KiB, 1 MiB. Durable batches of about 1 MiB, reads that use every byte, size.

use super::parts::{load_batches, rest_from};
use crate::child::Context;
use crate::engine::{Engine, Outcome, Setup};
use crate::model::{Probes, refuse};
use crate::records::{KeyShape, Random, Shape};
use crate::system::allocated_bytes;
use std::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of all values, at full size.
const TOTAL_BYTES: u64 = 512 << 20;

/// Runs the group of a size; its phases begin with `name`.
pub fn run<E: Engine>(context: &Context, name: &str, value_bytes: usize) -> Outcome {
    let shape = Shape { keys: KeyShape::Random, value_bytes };
    let count = context.size(TOTAL_BYTES) / value_bytes as u64;
    let batch = ((1 << 20) / value_bytes as u64).max(1);
    let engine = E::open(&context.dir, &Setup { value_bytes, ..context.setup })?;
    let started = Instant::now();
    load_batches(&engine, shape, 0..count, batch, 0)?;
    // Until it rests: values may be written a second time.
    let rested = rest_from();
    let mib = (count * value_bytes as u64) as f64 / (1 << 20) as f64;
    context.value(&format!("{name}-load"), mib / (rested - started).as_secs_f64());
    let raw = count * (value_bytes + shape.key_bytes()) as u64;
    let size = allocated_bytes(&context.dir)? as f64 / raw as f64;
    context.value(&format!("{name}-size"), size);

    let probes = Probes::with(shape, 0..count, |number, value| {
        shape.value(number, 0, value);
        xxh3_64(value)
    });
    let phase = format!("{name}-reads");
    let limit = context.limit(10.0, 0.1);
    let (mut done, mut wrong) = (0_u64, 0_u64);
    // Once over everything, untimed, as a check; then at random.
    let spent = engine.read(|reader| {
        let mut read = |place: u64| -> Outcome {
            let (key, expected) = probes.at(place as usize);
            wrong += u64::from(E::get(reader, key, |value| value.map(xxh3_64))? != Some(expected));
            Ok(())
        };
        (0..count).try_for_each(&mut read)?;
        let mut random = Random(23);
        let started = Instant::now();
        while started.elapsed() < limit {
            read(random.below(count))?;
            done += 1;
        }
        Ok(started.elapsed())
    })?;
    refuse(E::NAME, wrong, "reads of large values")?;
    context.rate(&phase, done, spent);
    engine.close()
}
