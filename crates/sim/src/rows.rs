//! Every row of recovery's decision table, the damaged ones included.
//!
//! Power cuts lead to the rows of an open epoch that nothing vouches for. The others judge damage, so it
//! is made here: a log of small commits, one on each block, and one block of it changed: zeroed, put in
//! the place of another, header or body garbled, bytes behind a group, or the block of a twin, a history
//! that is the same up to the commit before and of which every group is whole. With the last block
//! nothing vouches for what was there; with one before, the next group does; after a clean close the
//! manifest does.
//!
//! What the row says must be what `explain` and `open` do: refuse with damage and touch nothing, or open
//! with the commits before.

use crate::check::{Failure, Rows, guarded, hash};
use crate::model::State;
use crate::random::Random;
use crate::report::Tally;
use crate::run::{PATH, Run, options};
use crate::script::{Change, Step, Workload, key};
use highwater::check::{DecisionRow, decision_rows, explain_judged};
use highwater::fs::sim::SimDisk;
use highwater::{Durability, Error};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often each row is made in the report.
pub const ROUNDS: u64 = 120;

const BLOCK: usize = 4096;
/// Length of a group's header; its body follows.
const GROUP_HEADER: usize = 80;

/// What is done to a block.
const PLACES: [&str; 6] = ["Blank", "Stale", "BadHeader", "BadBody", "Unlinked", "BadPadding"];

/// What vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witness {
    Nothing,
    NextGroup,
    Manifest,
}

/// The name of a row in the scoreboard.
pub fn row_name((place, vouched, closed, verdict): &DecisionRow) -> String {
    let evidence = match (vouched, closed) {
        (_, true) => "closed",
        (true, false) => "vouched",
        (false, false) => "unvouched",
    };
    format!("rows.{place} {evidence}: {verdict}")
}

/// All rows that can be asked. A manifest that closes an epoch vouches for it: rows that are closed and
/// not vouched for cannot be.
pub fn reachable() -> Vec<String> {
    let rows: Rows = decision_rows();
    rows.iter().filter(|row| row.1 || !row.2).map(row_name).collect()
}

/// Makes every row so many times.
pub fn campaign(seed: u64, rounds: u64, tally: &Tally) {
    reachable().iter().for_each(|row| tally.note(row, 0));
    for round in seed..seed + rounds {
        for place in PLACES {
            for witness in [Witness::Nothing, Witness::NextGroup, Witness::Manifest] {
                tally.row_cases.add(1);
                let outcome = guarded(|| one(place, witness, round));
                match outcome {
                    Ok(rows) => tally.asked(&rows),
                    Err(failure) => {
                        let case = format!("a log damaged by hand: {place}, {witness:?}");
                        tally.failed(&failure, &case, &format!("rows --seed {round}"));
                    }
                }
            }
        }
    }
}

/// A log, its twin, and the states after each commit.
struct History {
    disk: SimDisk,
    log: PathBuf,
    twin: Vec<u8>,
    states: Vec<State>,
}

fn one(place: &str, witness: Witness, seed: u64) -> Result<Rows, Failure> {
    let mut random = Random::new(seed);
    let commits = 4 + random.below(3);
    let broken = |what: String| Failure::violation(what);
    let closed = witness == Witness::Manifest;
    let history = history(&mut random, commits, closed, seed).map_err(broken)?;
    // Block 0 is the header, block 1 the creation of the keyspace.
    let at = match witness {
        Witness::Nothing => commits + 1,
        // A twin's first block follows what is there.
        Witness::NextGroup | Witness::Manifest => 3 + random.below(commits - 2),
    };
    let disk = &history.disk;
    let mut bytes = disk.read_file(&history.log).map_err(|e| broken(e.to_string()))?;
    damage(&mut bytes, place, at, &history.twin, &mut random);
    disk.write_file(&history.log, &bytes).map_err(|e| broken(e.to_string()))?;

    let before = disk.content_hash();
    let (forecast, rows) = explain_judged(disk, Path::new(PATH));
    let asked = rows.last().cloned().ok_or_else(|| broken("no row was asked".to_owned()))?;
    let expected = (place, witness != Witness::Nothing, closed);
    if (asked.0.as_str(), asked.1, asked.2) != expected {
        return Err(broken(format!("made {expected:?}, recovery saw {asked:?}")));
    }
    let opened = options(&workload(seed), disk).open(PATH);
    match (forecast, opened) {
        (Err(Error::Damage { file, .. }), Err(Error::Damage { .. })) => {
            if witness == Witness::Nothing || file != history.log {
                return Err(broken(format!("damage in {} was reported", file.display())));
            }
            if disk.content_hash() != before {
                return Err(broken("an open that refused has written".to_owned()));
            }
        }
        (Ok(_), Ok(db)) if witness == Witness::Nothing => {
            // Bytes behind the last group leave it whole.
            let kept = if place == "BadPadding" { commits + 1 } else { commits };
            if hash(&db)? != history.states[kept].hash() {
                return Err(broken(format!("not the state after commit {kept}")));
            }
            disk.set_read_only(true);
        }
        (forecast, opened) => {
            return Err(broken(format!("foretold {forecast:?}, open gave {opened:?}")));
        }
    }
    Ok(rows)
}

fn damage(bytes: &mut [u8], place: &str, at: usize, twin: &[u8], random: &mut Random) {
    let start = at * BLOCK;
    let block = start..start + BLOCK;
    let last = start + bytes[block.clone()].iter().rposition(|byte| *byte != 0).unwrap_or(0);
    match place {
        "Blank" => bytes[block].fill(0),
        "Stale" => bytes.copy_within(start - BLOCK..start, start),
        "BadHeader" => bytes[start + random.below(GROUP_HEADER)] ^= 1 << random.below(8),
        "BadBody" => {
            let body = start + GROUP_HEADER;
            bytes[body + random.below(last - body)] ^= 1 << random.below(8);
        }
        "Unlinked" => bytes[block.clone()].copy_from_slice(&twin[block]),
        _ => bytes[last + 16 + random.below(start + BLOCK - last - 16)] = 1 + random.below(9) as u8,
    }
}

fn workload(seed: u64) -> Workload {
    let steps = Vec::new();
    Workload { name: "rows", seed, memory_budget: 256 << 10, steps, kept: None }
}

/// Commits of one block each; the twin differs from the second on.
fn history(
    random: &mut Random,
    commits: usize,
    closed: bool,
    seed: u64,
) -> Result<History, String> {
    let sizes: Vec<usize> = (0..commits).map(|_| 20 + random.below(2500)).collect();
    let mut made = Vec::new();
    for twin in [0, 1] {
        let disk = SimDisk::with_seed(seed);
        let mut run = Run::new(Arc::new(workload(seed)), disk.clone(), false);
        run.open()?;
        run.step(0, &Step::Create("a"))?;
        for (number, bytes) in sizes.iter().enumerate() {
            let put = Change::Put("a", key(number), *bytes);
            // The number of a step goes into its values.
            let number = if twin == 1 { number + 100 } else { number };
            run.step(number, &Step::Batch(vec![put], Durability::Sync))?;
        }
        if closed {
            let db = run.database().cloned().ok_or("not open")?;
            db.close().map_err(|e| e.to_string())?;
        }
        made.push(run.abandon());
    }
    let (twin, _) = made.pop().ok_or("no twin")?;
    let (disk, states) = made.pop().ok_or("no history")?;
    let is_log = |path: &PathBuf| path.to_string_lossy().contains("/log-");
    let log = disk.files().into_iter().map(|(path, _)| path).find(is_log).ok_or("no log")?;
    let twin = twin.read_file(&log).map_err(|e| e.to_string())?;
    Ok(History { disk, log, twin, states })
}
