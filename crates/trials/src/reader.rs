//! A process that reads beside a live writer: opens read-only, again and again, while the other commits,
//! takes checkpoints and merges.
//!
//! Each open must show whole transactions, a state of the history, byte for byte, that is not older than
//! the one that the open before showed, and none that was not begun yet. It must never fail.

use crate::child::{Running, words};
use crate::history::{State, number_in};
use crate::life::builder;
use std::path::Path;
use std::time::{Duration, Instant};

/// Reads for that long, after the writer has begun.
pub fn run(dir: &Path, time: Duration, seed: u64) -> Result<String, String> {
    let place = dir.join("reader");
    // One of an earlier run has another history.
    let _ = std::fs::remove_dir_all(&place);
    let writer = Running::start(&words(&[
        &"life",
        &place.display(),
        &"--seed",
        &seed,
        &"--whim",
        &seed,
        &"--threads",
        &2,
    ]))?;
    let mut acknowledged = 0;
    while acknowledged < 10 {
        acknowledged = number(&writer.line()?.ok_or("the writer ended")?).max(acknowledged);
    }
    let started = Instant::now();
    let (mut opens, mut states, mut state) = (0_u64, 0_u64, State::default());
    while started.elapsed() < time {
        let db = builder().read_only(true).open(&place);
        let db = db.map_err(|e| format!("open {opens} beside the writer: {e}"))?;
        let seen = number_in(&db)?;
        if seen < state.number {
            return Err(format!("open {opens} shows {seen}, one before {}", state.number));
        }
        states += u64::from(seen > state.number);
        state.advance_to(seed, seen);
        state.check(&db).map_err(|what| format!("open {opens}: {what}"))?;
        db.close().map_err(|e| format!("close: {e}"))?;
        opens += 1;
    }
    let (rest, _, errors) = writer.kill()?;
    if !errors.is_empty() {
        return Err(format!("the writer failed beside the readers: {errors}"));
    }
    let last = rest.iter().map(|line| number(line)).max().unwrap_or_default().max(acknowledged);
    if state.number > last + 2 {
        return Err(format!("a reader saw {}, the writer only came to {last}", state.number));
    }
    if states < 2 && opens > 20 {
        return Err(format!("{opens} opens saw only {states} states: the trial tried nothing"));
    }
    Ok(format!(
        "reader: {opens} opens beside a writer that made {last} commits, {states} different states, none \
         older than the one before, none wrong, {:.1} s",
        started.elapsed().as_secs_f64()
    ))
}

fn number(line: &str) -> u64 {
    line.strip_prefix("ack ").and_then(|number| number.parse().ok()).unwrap_or_default()
}
