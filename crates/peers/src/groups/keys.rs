//! Other keys: big-endian numbers in sequence, and long shared prefixes. Load, reads, ranges, size.

use super::parts::{load, rest};
use crate::child::{Context, timed};
use crate::engine::{Engine, Outcome};
use crate::model::{Probes, refuse};
use crate::records::{KeyShape, Random, Shape, VALUE_BYTES, digest};
use crate::system::allocated_bytes;

const RANGE: usize = 10;

/// Runs the group of a shape of keys; its phases begin with `name`.
pub fn run<E: Engine>(context: &Context, name: &str, keys: KeyShape) -> Outcome {
    let shape = Shape { keys, value_bytes: VALUE_BYTES };
    let count = context.size(1_000_000);
    let engine = E::open(&context.dir, &context.setup)?;
    let spent = load(&engine, shape, 0..count)?;
    context.rate(&format!("{name}-load"), count, spent);
    rest();
    let phase = format!("{name}-size");
    context.value(&phase, allocated_bytes(&context.dir)? as f64 / (1 << 20) as f64);

    // Everything in key order, held against every entry.
    let mut order: Vec<(u64, u64)> = (0..count).map(|n| (shape.place(n), n)).collect();
    order.sort_unstable();
    let mut value = Vec::new();
    let digests: Vec<u64> = order
        .iter()
        .map(|(_, number)| {
            shape.value(*number, 0, &mut value);
            digest(&value)
        })
        .collect();
    let (mut at, mut wrong) = (0, 0_u64);
    engine.read(|reader| {
        E::scan(reader, &[0], u64::MAX, |_, value| {
            wrong += u64::from(digests.get(at) != Some(&digest(value)));
            at += 1;
        })
    })?;
    refuse(E::NAME, wrong + (at as u64).abs_diff(count), "entries of the whole scan")?;

    let reads = context.size(1_000_000);
    let mut random = Random(19);
    let phase = format!("{name}-reads");
    if context.wants(&phase) {
        let numbers = (0..reads).map(|_| random.below(count));
        let probes = Probes::of_numbers(shape, numbers.collect::<Vec<_>>().into_iter());
        // The second pass counts.
        engine.read(|reader| probes.read::<E>(reader, 0..probes.len()))?;
        let (spent, ()) =
            timed(|| engine.read(|reader| probes.read::<E>(reader, 0..probes.len())))?;
        context.rate(&phase, reads, spent);
    }
    let phase = format!("{name}-ranges");
    if context.wants(&phase) {
        let places: Vec<usize> = (0..reads / 2).map(|_| random.below(count) as usize).collect();
        let mut starts = places.iter();
        let numbers = places.iter().map(|place| order[*place].1);
        let probes = Probes::with(shape, numbers, |_, _| {
            let start = *starts.next().unwrap_or(&0);
            let entries = &digests[start..(start + RANGE).min(digests.len())];
            entries.iter().fold(0_u64, |sum, digest| sum.wrapping_add(*digest))
        });
        let (spent, ()) = timed(|| engine.read(|reader| probes.scan::<E>(reader, RANGE as u64)))?;
        context.rate(&phase, reads / 2, spent);
    }
    engine.close()
}
