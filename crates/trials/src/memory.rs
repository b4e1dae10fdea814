//! Memory that ends: each single allocation of a series of commits, and of a recovery, fails in a process of
//! its own, alone or with all after it.
//!
//! Allowed is that the operation succeeds all the same, that it returns an error, or that the process ends
//! with Rust's abort ("memory allocation of N bytes failed"). Not allowed are panics, other signals, hangs,
//! and wrong results. Whatever happened, the next process must find every acknowledged commit.
//!
//! The engine runs without threads, so that the numbers of allocations are the same in every run. Memory
//! that the memtable takes as anonymous mappings does not come from the allocator; the tests of the memtable
//! let those fail.

use crate::allocator;
use crate::child::{Running, words};
use crate::history::{self, Spaces, State, number_in};
use crate::life::builder;
use highwater::Builder;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

/// Commits before, and commits while memory ends.
const BEFORE: u64 = 25;
const COMMITS: u64 = 12;
/// The exit code of a child that got an error.
const GOT_ERROR: i32 = 3;

/// What ended the children.
#[derive(Debug, Default)]
struct Counts {
    children: u64,
    succeeded: u64,
    errors: u64,
    aborts: u64,
}

fn quiet() -> Builder {
    builder().background(false)
}

/// Runs every `stride`-th index of both parts.
pub fn run(dir: &Path, stride: u64, seed: u64) -> Result<String, String> {
    let started = Instant::now();
    let mut told = Vec::new();
    for part in ["commit", "recovery"] {
        let template = dir.join(format!("memory-{part}"));
        make_template(&template, part, seed)?;
        let total = count(dir, &template, part, seed)?;
        let mut counts = Counts::default();
        for mode in ["once", "for-good"] {
            for index in (0..total).step_by(stride as usize) {
                let outcome = one(dir, &template, part, mode, index, seed, &mut counts);
                outcome.map_err(|what| {
                    format!("{part}, allocation {index} of {total} fails {mode}: {what}")
                })?;
            }
        }
        let Counts { children, succeeded, errors, aborts } = counts;
        told.push(format!(
            "{part}: {total} allocations, {children} processes: {succeeded} succeeded all the same, \
             {errors} got an error, {aborts} ended with the abort"
        ));
    }
    Ok(format!(
        "memory: {}; 0 lost, 0 panics, 0 refused, {:.1} s",
        told.join("; "),
        started.elapsed().as_secs_f64()
    ))
}

/// A database with some commits: cleanly closed for the commits, with a log to recover for the recovery.
fn make_template(template: &Path, part: &str, seed: u64) -> Result<(), String> {
    // One of an earlier run has another history.
    let _ = std::fs::remove_dir_all(template);
    let arguments = words(&[&"memory-fill", &template.display(), &part, &"--seed", &seed]);
    let (_, status, errors) = Running::start(&arguments)?.finish()?;
    if status.success() { Ok(()) } else { Err(format!("the template: {errors}")) }
}

/// Makes the template, in a process of its own, which ends without a close for the recovery.
pub fn fill(template: &Path, part: &str, seed: u64) -> Result<(), String> {
    let db = quiet().open(template).map_err(|e| e.to_string())?;
    let spaces = Spaces::create(&db).map_err(|e| e.to_string())?;
    for number in 1..=BEFORE {
        let mut tx = db.write().map_err(|e| e.to_string())?;
        history::write(&mut tx, &spaces, seed, number).map_err(|e| e.to_string())?;
        tx.commit().map_err(|e| e.to_string())?;
        if number == BEFORE / 2 {
            db.checkpoint().map_err(|e| e.to_string())?;
        }
    }
    if part == "recovery" {
        std::process::exit(0);
    }
    db.close().map_err(|e| e.to_string())
}

/// How many allocations the part makes when none fails.
fn count(dir: &Path, template: &Path, part: &str, seed: u64) -> Result<u64, String> {
    let place = copy(dir, template)?;
    let (lines, status, errors) = child(&place, part, "once", u64::MAX, seed)?;
    let total = lines.iter().find_map(|line| line.strip_prefix("total ")?.parse().ok());
    match total {
        Some(total) if status.success() && total > 0 => Ok(total),
        _ => Err(format!("{part} does not even succeed with memory: {errors}")),
    }
}

fn one(
    dir: &Path,
    template: &Path,
    part: &str,
    mode: &str,
    index: u64,
    seed: u64,
    counts: &mut Counts,
) -> Result<(), String> {
    let place = copy(dir, template)?;
    let (lines, status, errors) = child(&place, part, mode, index, seed)?;
    counts.children += 1;
    if status.success() {
        counts.succeeded += 1;
    } else if status.code() == Some(GOT_ERROR) {
        counts.errors += 1;
    } else if is_clean_abort(status, &errors) {
        counts.aborts += 1;
    } else {
        return Err(format!("ended with {status}: {errors}"));
    }
    let acknowledged = lines.iter().filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
    let acknowledged = acknowledged.max().unwrap_or(BEFORE);
    let db = quiet().open(&place).map_err(|e| format!("refused: {e}"))?;
    let number = number_in(&db)?;
    if !(acknowledged..=acknowledged + 1).contains(&number) {
        return Err(format!("{number} commits are there, {acknowledged} were acknowledged"));
    }
    let mut state = State::default();
    state.advance_to(seed, number);
    state.check(&db)?;
    db.close().map_err(|e| format!("close: {e}"))
}

#[cfg(unix)]
fn is_clean_abort(status: ExitStatus, errors: &str) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const SIGABRT: i32 = 6;
    status.signal() == Some(SIGABRT)
        && errors.contains("memory allocation of")
        && !errors.contains("panicked")
}

#[cfg(not(unix))]
fn is_clean_abort(_: ExitStatus, errors: &str) -> bool {
    errors.contains("memory allocation of") && !errors.contains("panicked")
}

fn child(
    place: &Path,
    part: &str,
    mode: &str,
    index: u64,
    seed: u64,
) -> Result<(Vec<String>, ExitStatus, String), String> {
    let place = place.display();
    let arguments = words(&[&"memory-child", &place, &part, &mode, &index, &"--seed", &seed]);
    Running::start(&arguments)?.finish()
}

/// The child: arms the allocator, does its part, says what was acknowledged, and whether there was an
/// error.
pub fn live(
    place: &Path,
    part: &str,
    mode: &str,
    index: u64,
    seed: u64,
) -> Result<(), highwater::Error> {
    let for_good = mode == "for-good";
    // The output's own buffer is made before memory ends.
    acknowledge("begun", 0);
    let outcome = if part == "commit" {
        let db = quiet().open(place)?;
        let spaces = Spaces::create(&db)?;
        allocator::arm(index, for_good);
        let outcome = commits(&db, &spaces, seed);
        let total = allocator::disarm();
        // The database is left as it is, without a close.
        std::mem::forget((db, spaces));
        outcome.map(|()| total)
    } else {
        allocator::arm(index, for_good);
        let outcome = quiet().open(place);
        let total = allocator::disarm();
        outcome.map(|db| {
            std::mem::forget(db);
            total
        })
    };
    match outcome {
        Ok(total) => {
            acknowledge("total", total);
            Ok(())
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(GOT_ERROR)
        }
    }
}

fn commits(db: &highwater::Database, spaces: &Spaces, seed: u64) -> highwater::Result<()> {
    for number in BEFORE + 1..=BEFORE + COMMITS {
        let mut tx = db.write()?;
        history::write(&mut tx, spaces, seed, number)?;
        tx.commit()?;
        acknowledge("ack", number);
        if number == BEFORE + COMMITS / 2 {
            db.checkpoint()?;
        }
    }
    Ok(())
}

/// Prints a word and a number in one write, without memory.
fn acknowledge(word: &str, number: u64) {
    let mut line = [0_u8; 40];
    let mut rest = &mut line[..];
    let written = writeln!(rest, "{word} {number}").is_ok();
    let left = rest.len();
    let length = line.len() - left;
    let mut output = io::stdout().lock();
    if !written || output.write_all(&line[..length]).and_then(|()| output.flush()).is_err() {
        std::process::exit(1);
    }
}

fn copy(dir: &Path, template: &Path) -> Result<std::path::PathBuf, String> {
    let place = dir.join("memory-now");
    let work = || -> io::Result<()> {
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place)?;
        for entry in std::fs::read_dir(template)? {
            let entry = entry?;
            std::fs::copy(entry.path(), place.join(entry.file_name()))?;
        }
        Ok(())
    };
    work().map(|()| place.clone()).map_err(|e| format!("copy to {}: {e}", place.display()))
}
