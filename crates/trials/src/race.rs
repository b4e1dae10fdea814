//! Two processes open one database at the same moment: one owns it, the other is told by whom.
//!
//! Both wait at a pipe and open when a byte comes. The owner stays until its pipe ends, so that the other
//! must meet it.

use crate::child::{Running, words};
use crate::life::{builder, say};
use highwater::Error;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

/// Runs the rounds; an error names the one that failed.
pub fn run(dir: &Path, rounds: u64) -> Result<String, String> {
    let started = Instant::now();
    let mut unnamed = 0;
    for round in 0..rounds {
        // In every fourth round they also race to create it.
        let place = dir.join(format!("race-{}", round / 4));
        if round % 4 == 0 {
            // One of an earlier run is there already.
            let _ = std::fs::remove_dir_all(&place);
        }
        unnamed += one(&place).map_err(|what| format!("round {round}: {what}"))?;
        if round % 4 == 3 {
            let _ = std::fs::remove_dir_all(&place);
        }
    }
    Ok(format!(
        "race: {rounds} rounds, one owner in each, {} losers were told its process id, {unnamed} came \
         before it was written, {:.1} s",
        rounds - unnamed,
        started.elapsed().as_secs_f64()
    ))
}

/// One round; 1 if the loser met the lock before its owner's id was written.
fn one(dir: &Path) -> Result<u64, String> {
    let mut both = Vec::new();
    for _ in 0..2 {
        let child = Running::start(&words(&[&"contend", &dir.display()]))?;
        match child.line()? {
            Some(line) if line == "ready" => both.push(child),
            other => return Err(format!("a contender said {other:?}")),
        }
    }
    for child in &mut both {
        let pipe = child.stdin.as_mut().ok_or("no pipe")?;
        pipe.write_all(b"!").map_err(|e| format!("start signal: {e}"))?;
    }
    let (mut owner, mut told) = (None, None);
    for child in &both {
        let line = child.line()?.ok_or("a contender said nothing")?;
        match line.split_once(' ') {
            Some(("owner", _)) if owner.is_none() => owner = Some(child.id()),
            Some(("locked", by)) if told.is_none() => told = Some(by.to_owned()),
            _ => return Err(format!("a contender said {line:?} after {owner:?}, {told:?}")),
        }
    }
    let (Some(owner), Some(told)) = (owner, told) else {
        return Err("not one owner and one loser".to_owned());
    };
    for child in both {
        let (_, status, errors) = child.finish()?;
        if !status.success() {
            return Err(format!("a contender failed: {errors}"));
        }
    }
    match told.as_str() {
        "?" => Ok(1),
        told if told == owner.to_string() => Ok(0),
        told => Err(format!("the owner is {owner}, the loser was told {told}")),
    }
}

/// The contender.
pub fn contend(dir: &Path) -> Result<(), String> {
    say("ready\n")?;
    let mut byte = [0];
    std::io::stdin().read_exact(&mut byte).map_err(|e| e.to_string())?;
    match builder().open(dir) {
        Ok(db) => {
            db.keyspace("left")
                .and_then(|left| left.insert("k", "v"))
                .map_err(|e| e.to_string())?;
            say("owner -\n")?;
            let _ = std::io::stdin().read(&mut byte);
            db.close().map_err(|e| e.to_string())
        }
        Err(Error::Locked { pid, .. }) => {
            say(&format!("locked {}\n", pid.map_or("?".to_owned(), |pid| pid.to_string())))
        }
        Err(error) => Err(format!("open: {error}")),
    }
}
