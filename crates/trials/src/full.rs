//! A disk that is really full: a tmpfs of a few MiB, mounted in a namespace of its own, so that no rights are
//! needed beyond what the machine gives to everybody. Where it gives them not, the trial is left out and
//! says so.
//!
//! The history is written until there is no room; reads must go on, what was acknowledged must be there, a
//! removal must still find room, and after it commits must work again. Then the same once more after a
//! reopening on the full disk.

use crate::history::{self, Spaces, State};
use crate::life::{builder, say};
use highwater::{Database, Durability, Error};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long commits may find no room after some was made.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sizes of the disk, in MiB.
const SIZES: [u64; 4] = [12, 16, 24, 40];

/// Runs the trial for one size in MiB, or for some (0). `Ok(None)`: this machine does not allow it.
pub fn run(dir: &Path, size: u64, seed: u64) -> Result<Option<String>, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut told = Vec::new();
    let one = [size];
    for &size in if size == 0 { &SIZES[..] } else { &one[..] } {
        let place = dir.join(format!("full-{size}"));
        std::fs::create_dir_all(&place).map_err(|e| e.to_string())?;
        let script = "mount -t tmpfs -o size=\"$1\"m highwater-full \"$2\" || exit 77; \
                      exec \"$3\" fill \"$2\" --seed \"$4\"";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(size.to_string()).arg(&place).arg(&program).arg(seed.to_string());
        let Ok(output) = command.output() else { return Ok(None) };
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.code() == Some(77) || (said.is_empty() && complaint.contains("unshare")) {
            return Ok(None);
        }
        if !output.status.success() {
            return Err(format!("a disk of {size} MiB: {said} {complaint}"));
        }
        told.push(format!("{size} MiB: {said}"));
    }
    Ok(Some(format!("full: {}; 0 lost, 0 refused", told.join("; "))))
}

/// What runs inside of the namespace, on the small disk.
pub fn fill(dir: &Path, seed: u64) -> Result<(), String> {
    let place = dir.join("db");
    let mut state = State::default();
    let mut refused = 0;
    for pass in 0..3 {
        let db = builder().open(&place).map_err(|e| format!("open in pass {pass}: {e}"))?;
        let spaces = Spaces::create(&db).map_err(|e| e.to_string())?;
        let filler = db.keyspace("filler").map_err(|e| format!("pass {pass}: {e}"))?;
        state.check(&db)?;
        refused += fill_up(&db, &filler, &spaces, seed, &mut state, pass)?;
        // Reads go on.
        state.check(&db)?;
        if pass == 1 {
            // Closed while full: it must come back, and still know everything. (Handles would keep the
            // files open that the next owner removes, and so their room.)
            drop((filler, spaces));
            close_full(db)?;
            let db = builder().open(&place).map_err(|e| format!("open of a full disk: {e}"))?;
            state.check(&db)?;
            free(&db)?;
            resume(&db, seed, &mut state)?;
            close_full(db)?;
        } else {
            free(&db)?;
            resume(&db, seed, &mut state)?;
            close_full(db)?;
        }
    }
    let db = builder().open(&place).map_err(|e| format!("last open: {e}"))?;
    state.check(&db)?;
    say(&format!("{} commits, {refused} refused for want of room\n", state.number))
}

/// Fills the disk with values that are there to take room; the history goes on meanwhile.
fn fill_up(
    db: &Database,
    filler: &highwater::Keyspace,
    spaces: &Spaces,
    seed: u64,
    state: &mut State,
    pass: u64,
) -> Result<u64, String> {
    let mut refused = 0;
    for round in 0..100_000_u64 {
        // Different bytes, so that no file system saves them.
        let value: Vec<u8> = (0..20_000_u64).map(|i| ((i * (round + 7)) >> 3) as u8).collect();
        match filler.insert_with((pass << 32 | round).to_be_bytes(), value, Durability::Buffered) {
            Ok(_) => {}
            Err(Error::NoSpace { .. }) => refused += 1,
            Err(error) => return Err(format!("filler {round} in pass {pass}: {error}")),
        }
        match next(db, spaces, seed, state) {
            Ok(()) => {}
            Err(Error::NoSpace { .. }) => refused += 1,
            Err(error) => return Err(format!("commit in pass {pass}: {error}")),
        }
        if refused >= 20 {
            return Ok(refused);
        }
    }
    Err("the disk is never full".to_owned())
}

fn next(db: &Database, spaces: &Spaces, seed: u64, state: &mut State) -> highwater::Result<()> {
    let mut tx = db.write()?;
    history::write(&mut tx, spaces, seed, state.number + 1)?;
    tx.commit_with(Durability::Sync)?;
    state.advance_to(seed, state.number + 1);
    Ok(())
}

fn free(db: &Database) -> Result<(), String> {
    let filler = db.existing_keyspace("filler").map_err(|e| e.to_string())?;
    db.drop_keyspace(&filler).map_err(|e| format!("a drop on a full disk: {e}"))?;
    db.compact().map_err(|e| format!("a compaction on a full disk: {e}"))
}

/// After room was made, commits work again: at once, or when a merge that was under way has given its room
/// back.
fn resume(db: &Database, seed: u64, state: &mut State) -> Result<(), String> {
    let started = Instant::now();
    let mut once = || -> highwater::Result<()> {
        let spaces = Spaces::create(db)?;
        (0..50).try_for_each(|_| next(db, &spaces, seed, state))
    };
    loop {
        match once() {
            Ok(()) => return state.check(db),
            Err(Error::NoSpace { .. }) if started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => {
                return Err(format!("after room was made: {error}; {:?}", db.stats()));
            }
        }
    }
}

fn close_full(db: Database) -> Result<(), String> {
    db.close().map_err(|e| format!("close: {e}"))
}
