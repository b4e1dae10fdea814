//! `kill -9` in cycles: a child goes on with the history and is killed at any moment, its opening and its
//! recovery included; then the database is compared with every acknowledgement that came through the pipe.
//!
//! This proves what survives the death of a process. It says nothing of power loss: the system keeps what
//! was handed to it. (The crash campaign simulates that.)
//!
//! Half of the checks open read-only, so that the next child finds the log as the kill left it and may
//! be killed while it recovers.

use crate::child::{Running, words};
use crate::history::{State, number_in};
use crate::life::builder;
use crate::random::Random;
use std::path::Path;
use std::time::{Duration, Instant};

/// Cycles after which a new database is begun, so that creations are killed as well.
const CYCLES_PER_DATABASE: u64 = 100;

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: u64,
    killed_in_open: u64,
    recoveries: u64,
    databases: u64,
}

/// Runs the cycles; an error names the one that failed.
pub fn run(dir: &Path, cycles: u64, seed: u64) -> Result<String, String> {
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut state = State::default();
    for cycle in 0..cycles {
        let base = cycle / CYCLES_PER_DATABASE;
        let place = dir.join(format!("kills-{base}"));
        if cycle % CYCLES_PER_DATABASE == 0 {
            // One of an earlier run has another history.
            let _ = std::fs::remove_dir_all(&place);
            state = State::default();
            counts.databases += 1;
        }
        let outcome = one(&place, seed ^ base, cycle, &mut state, &mut counts);
        outcome.map_err(|what| {
            format!("cycle {cycle} of seed {seed}, in {}: {what}", place.display())
        })?;
        if (cycle + 1) % CYCLES_PER_DATABASE == 0 {
            let _ = std::fs::remove_dir_all(&place);
        }
    }
    let Counts { acknowledged, killed_in_open, recoveries, databases } = counts;
    Ok(format!(
        "kills: {cycles} cycles on {databases} databases, {killed_in_open} killed before the open was \
         over, {recoveries} unclean logs recovered by the check, {acknowledged} commits acknowledged, \
         0 lost, 0 wrong, 0 refused, {:.1} s",
        started.elapsed().as_secs_f64()
    ))
}

fn one(
    dir: &Path,
    seed: u64,
    cycle: u64,
    state: &mut State,
    counts: &mut Counts,
) -> Result<(), String> {
    let mut random = Random::new(seed, cycle | 1 << 40);
    let threads = 1 + random.below(3);
    let child = Running::start(&words(&[
        &"life",
        &dir.display(),
        &"--seed",
        &seed,
        &"--whim",
        &random.next(),
        &"--threads",
        &threads,
    ]))?;
    let mut lines = Vec::new();
    // One in four dies some time after its start, whatever it is at; the others after some commits.
    if !random.one_in(4) {
        let most = if random.one_in(8) { 150 } else { 25 };
        let wanted = 1 + random.below(most) as usize;
        while lines.len() < wanted {
            let Some(line) = child.line()? else { break };
            lines.push(line);
        }
        std::thread::sleep(Duration::from_micros(random.below(2500)));
    } else {
        std::thread::sleep(Duration::from_micros(random.below(25_000)));
    }
    let (rest, _, errors) = child.kill()?;
    if !errors.is_empty() {
        return Err(format!("the child failed by itself: {errors}"));
    }
    lines.extend(rest);
    counts.killed_in_open += u64::from(lines.is_empty());
    let mut acknowledged = state.number;
    for line in lines {
        match line.strip_prefix("ack ").map(str::parse::<u64>) {
            Some(Ok(number)) => {
                acknowledged = acknowledged.max(number);
                counts.acknowledged += 1;
            }
            None if line == "open" => {}
            _ => return Err(format!("the child printed {line:?}")),
        }
    }
    let read_only = random.one_in(2);
    if read_only && !dir.join("MANIFEST").exists() {
        // The creation was killed; only a writer makes a database of it.
        return Ok(());
    }
    let db = builder().read_only(read_only).open(dir);
    let db = db.map_err(|e| format!("refused (read-only: {read_only}): {e}"))?;
    counts.recoveries += u64::from(!read_only && !db.recovery().clean);
    let number = number_in(&db)?;
    if number < acknowledged {
        return Err(format!("{number} commits are there, {acknowledged} were acknowledged: lost"));
    }
    if number > acknowledged + threads {
        return Err(format!("{number} commits are there, only {acknowledged} were acknowledged"));
    }
    state.advance_to(seed, number);
    state.check(&db)?;
    db.close().map_err(|e| format!("close: {e}"))
}
