//! How much of the runs newer ones have replaced, estimated: of each run some keys are looked up in the runs above it.
//!
//! What is found there, a value, a tombstone or a range tombstone, makes the run's own value dead. A share of the
//! sample is taken for the same share of the run's bytes. The keys are read once for each run and stay in memory (a
//! few KiB a run); a look-up passes by most runs' filters without a read.

use crate::error::Result;
use crate::view::Run;
use std::sync::Arc;

/// Bytes of the runs (newest first) that are dead, estimated. What cannot be read counts as alive: what is wrong with
/// it is for those to say who need it.
pub fn dead_bytes(runs: &[Arc<Run>]) -> u64 {
    let of_run = |place: usize| dead_in(&runs[place], &runs[..place]).unwrap_or(0);
    (1..runs.len()).map(of_run).sum()
}

fn dead_in(run: &Run, newer: &[Arc<Run>]) -> Result<u64> {
    let sample = run.sample()?;
    let mut dead = 0_u64;
    for key in sample {
        for above in newer {
            if above.decides(key)? {
                dead += 1;
                break;
            }
        }
    }
    Ok((u128::from(run.bytes()) * u128::from(dead) / (sample.len() as u128).max(1)) as u64)
}
