//! How much of the runs newer ones have replaced, estimated: of each run some keys are looked up in the runs above it.
//!
//! What is found there, a value, a tombstone or a range tombstone, makes the run's own value dead. The bytes that the
//! keys of the sample stand for ([`SampleKey`](crate::table::SampleKey)) are taken for those of the run. The keys are read once for each run and stay in memory (a
//! few KiB a run); a look-up passes by most runs' filters without a read.

use crate::error::Result;
use crate::table::SampleKey;
use crate::types::Seqno;
use crate::view::{MemoryLayer, Run};
use std::sync::Arc;

/// Bytes of the runs (newest first) that are dead, estimated; `memory` is what was committed after them. What cannot be
/// read counts as alive: what is wrong with it is for those to say who need it.
pub fn dead_bytes(runs: &[Arc<Run>], memory: Option<&MemoryLayer>) -> u64 {
    let of_run = |place: usize| dead_in(&runs[place], &runs[..place], memory).unwrap_or(0);
    (0..runs.len()).map(of_run).sum()
}

fn dead_in(run: &Run, newer: &[Arc<Run>], memory: Option<&MemoryLayer>) -> Result<u64> {
    if newer.is_empty() && memory.is_none() {
        return Ok(0);
    }
    let sample = run.sample()?;
    let (mut dead, mut sampled) = (0, 0);
    for key in sample {
        sampled += key.bytes;
        if memory.is_some_and(|memory| decides(memory, key)) {
            dead += key.bytes;
            continue;
        }
        for above in newer {
            if above.decides(key)? {
                dead += key.bytes;
                break;
            }
        }
    }
    Ok((u128::from(run.bytes()) * u128::from(dead) / u128::from(sampled.max(1))) as u64)
}

/// Whether a memtable has an entry for the key, or hides it.
fn decides(memory: &MemoryLayer, key: &SampleKey) -> bool {
    let at = Seqno::MAX;
    memory.get(key.keyspace, &key.key, at).is_some()
        || (memory.has_range_tombstones(key.keyspace) && memory.covers(key.keyspace, &key.key, at))
}
