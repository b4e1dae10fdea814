//! One image of a disk, put to the test.
//!
//! Every image ([`Level::Open`]):
//! 1. `explain` says that it can be opened, and how; `verify` finds no damage and foretells the same.
//! 2. Open succeeds, does what was foretold (replayed transactions, last commit, bytes cut, no witness,
//!    …), and shows the state after a number of commits within the window.
//!
//! Some images ([`Level::Full`]) also:
//! 3. A read-only open shows a state of the window and writes nothing.
//! 4. Dying at once, or losing power, and opening again shows the same state.
//! 5. One more commit, a power cut, and a third open show that state and the commit, nothing else:
//!    nothing that was rejected returns, and what was undecided stays as it was decided.
//!
//! Where the workload keeps its log, after every open: the log of the archive and of the database leads
//! from the first backup to the last commit, without a gap and no further.
//!
//! Panics are caught and are violations, as are checks that take too long.

use crate::hunt::processor_time;
use crate::model::{State, hash_of, read_state};
use crate::run::{ARCHIVE, BACKUPS, PATH, Window, keeps_log, options};
use crate::script::Workload;
use highwater::backup::{self, Request, Until};
use highwater::check::{DecisionRow, Forecast, VerifyOptions, explain_judged, verify};
use highwater::fs::FileSystem;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Error};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

/// How a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Open refused a legal state.
    Refused,
    /// A panic.
    Panic,
    /// A wrong state, or a broken promise.
    Violation,
}

/// A failed check.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How.
    pub kind: FailureKind,
    /// What was expected and found.
    pub what: String,
}

/// How much of an image is checked; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The forecast and one open.
    Open,
    /// And what comes after it.
    Full,
}

/// Rows of recovery's decision table that were asked: place, vouched, closed, verdict.
pub type Rows = Vec<DecisionRow>;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The hash of the state that was found.
    pub hash: u64,
    /// The rows of the decision table that led to it.
    pub rows: Rows,
}

/// Longest time that one check may take, by the clock and in processor time.
const PATIENCE: Duration = Duration::from_secs(20);

impl Failure {
    /// A broken promise.
    pub fn violation(what: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Violation, what: what.into() }
    }

    fn refused(what: &str, error: &Error) -> Failure {
        Failure { kind: FailureKind::Refused, what: format!("{what}: {error}") }
    }
}

/// Checks an image against all `states`, in full; gives the hash of the state found. `seed` decides the
/// later power cuts.
pub fn check_image(
    image: &SimDisk,
    workload: &Workload,
    states: &[State],
    window: Window,
    seed: u64,
) -> Result<u64, Failure> {
    check_at(Level::Full, image, workload, states, window, seed).map(|checked| checked.hash)
}

/// The same at a level.
pub fn check_at(
    level: Level,
    image: &SimDisk,
    workload: &Workload,
    states: &[State],
    window: Window,
    seed: u64,
) -> Result<Checked, Failure> {
    guarded(|| {
        match level {
            Level::Full => read_only(&image.fork(), workload, states, window)?,
            // Nobody cuts the power of this one again.
            Level::Open => image.end_history(),
        }
        let (forecast, rows) = explain_judged(image, Path::new(PATH));
        let forecast = forecast.map_err(|e| Failure::refused("the forecast", &e))?;
        verified(image, &forecast)?;
        let db = open(image, workload, "the first open")?;
        foretold(&forecast, &db)?;
        let hash = hash(&db)?;
        let found = in_window(&db, hash, states, window)?;
        archived(image, workload, &db)?;
        if level == Level::Open {
            // The close of a database that is thrown away need not be played.
            image.set_read_only(true);
            return Ok(Checked { hash, rows });
        }
        let killed = image.kill();
        image.set_read_only(true);
        drop(db);
        let disk = if seed.is_multiple_of(2) { killed } else { killed.power_cut(seed) };
        let db = open(&disk, workload, "the second open")?;
        same(&db, hash, &states[found], "the second open")?;
        archived(&disk, workload, &db)?;

        let mut next = states[found].clone();
        let commit = || -> highwater::Result<()> {
            let keyspace = db.keyspace("later")?;
            keyspace.insert("after", "the crash").map(drop)
        };
        commit().map_err(|e| Failure::violation(format!("a commit after the crash: {e}")))?;
        next.create("later");
        next.insert("later", b"after", Arc::from(&b"the crash"[..]));
        let cut = disk.power_cut(seed / 2);
        disk.set_read_only(true);
        drop(db);
        let db = open(&cut, workload, "the third open")?;
        same(&db, next.hash(), &next, "the third open, after one more commit")?;
        archived(&cut, workload, &db)?;
        cut.set_read_only(true);
        Ok(Checked { hash, rows })
    })
}

/// What a crash leaves is no damage: `verify` must find none, foretell the same, and write nothing.
fn verified(image: &SimDisk, forecast: &Forecast) -> Result<(), Failure> {
    let before = image.content_hash();
    let fs: Arc<dyn FileSystem> = Arc::new(image.clone());
    let found = verify(&fs, PATH, &VerifyOptions::default(), &mut |_, _| {});
    let found = found.map_err(|e| Failure::refused("verify", &e))?;
    if image.content_hash() != before {
        return Err(Failure::violation("verify wrote"));
    }
    match (forecast, found) {
        (Forecast::Create, None) => Ok(()),
        (Forecast::Open(said), Some(found))
            if found.findings.is_empty() && found.explanation.as_ref() == Some(&**said) =>
        {
            Ok(())
        }
        (_, found) => {
            Err(Failure::violation(format!("verify says {found:?}, foretold was {forecast:?}")))
        }
    }
}

/// The archive, with what the database itself has of the log, must lead to what was found.
fn archived(disk: &SimDisk, workload: &Workload, db: &Database) -> Result<(), Failure> {
    // The backup may have been cut short.
    let list = backup::list(disk, BACKUPS);
    if !keeps_log(workload) || !list.is_ok_and(|list| list.iter().any(|b| b.backup.is_ok())) {
        return Ok(());
    }
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let request = Request::new(BACKUPS).number(Some(1)).log(ARCHIVE).log(PATH);
    let plan = backup::plan_restore(&fs, &request.until(Until::Time(u64::MAX)));
    let plan = plan.map_err(|e| Failure::violation(format!("the archive: {e}")))?;
    let last = db.recovery().last_seqno;
    if plan.seqno == last {
        return Ok(());
    }
    let what = format!("the archive leads to commit {}, the database has {last}", plan.seqno);
    Err(Failure::violation(what))
}

/// Open must have done what the plan alone said.
fn foretold(forecast: &Forecast, db: &Database) -> Result<(), Failure> {
    let did = db.recovery();
    let agrees = match forecast {
        Forecast::Create => did.created,
        Forecast::Open(said) => {
            !did.created
                && (did.clean, did.unwitnessed_tail) == (said.clean, said.unwitnessed_tail)
                && (did.last_seqno, did.tail) == (said.last_seqno, said.tail)
                && did.replayed_transactions == said.replay.transactions
                && did.replayed_operations == said.replay.operations
                && did.replayed_bytes == said.replay.bytes
                && did.trimmed_bytes == said.trim_bytes
                && did.unfinished_transactions == said.unfinished_transactions
        }
        _ => false,
    };
    if agrees {
        return Ok(());
    }
    Err(Failure::violation(format!("open did {did:?}, foretold was {forecast:?}")))
}

/// Opens an image read-only: it must show a state of the window and write no byte.
fn read_only(
    image: &SimDisk,
    workload: &Workload,
    states: &[State],
    window: Window,
) -> Result<(), Failure> {
    let before = image.content_hash();
    let opened = options(workload, image).read_only(true).open(PATH);
    match opened {
        Ok(db) => _ = in_window(&db, hash(&db)?, states, window)?,
        Err(Error::NotFound { .. }) if window.least == 0 => {}
        Err(error) => return Err(Failure::refused("a read-only open", &error)),
    }
    if image.content_hash() != before {
        return Err(Failure::violation("a read-only open wrote"));
    }
    Ok(())
}

/// Whether the state with this hash lies in the window.
pub fn find(hash: u64, states: &[State], window: Window) -> Option<usize> {
    (window.least..=window.most.min(states.len() - 1)).rev().find(|at| states[*at].hash() == hash)
}
/// As [`find`], with the difference in words if not.
pub fn in_window(
    db: &Database,
    hash: u64,
    states: &[State],
    window: Window,
) -> Result<usize, Failure> {
    if let Some(found) = find(hash, states, window) {
        return Ok(found);
    }
    let all = Window { least: 0, most: states.len() - 1 };
    let what = match find(hash, states, all) {
        Some(at) => format!("the state after commit {at} is not in {window:?}"),
        None => {
            let found = read_state(db).unwrap_or_default();
            let least = &states[window.least];
            format!("no state of {window:?}; against the least:\n{}", least.difference(&found))
        }
    };
    Err(Failure::violation(format!("{what} (recovery: {:?})", db.recovery())))
}

/// Opens a database that must open.
pub fn open(disk: &SimDisk, workload: &Workload, what: &str) -> Result<Database, Failure> {
    options(workload, disk).open(PATH).map_err(|e| Failure::refused(what, &e))
}

/// The hash of what a database shows; its lengths must fit.
pub fn hash(db: &Database) -> Result<u64, Failure> {
    let counted = || -> highwater::Result<(u64, u64, u64)> {
        let (hash, count) = hash_of(db)?;
        let snapshot = db.snapshot();
        let mut len = 0;
        for name in snapshot.keyspaces() {
            len += snapshot.len(&db.existing_keyspace(&name)?)?;
        }
        Ok((hash, count, len))
    };
    match counted() {
        Ok((hash, count, len)) if count == len => Ok(hash),
        Ok((_, count, len)) => {
            Err(Failure::violation(format!("{count} entries are found, len() says {len}")))
        }
        Err(error) => Err(Failure::violation(format!("reading: {error}"))),
    }
}

/// The database must show exactly this state.
pub fn same(db: &Database, expected: u64, state: &State, what: &str) -> Result<(), Failure> {
    if hash(db)? == expected {
        return Ok(());
    }
    let found = read_state(db).unwrap_or_default();
    Err(Failure::violation(format!("{what} shows another state:\n{}", state.difference(&found))))
}

/// Runs a check; a panic or too long a time makes it fail.
pub fn guarded<T>(check: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    thread_local!(static PANIC: RefCell<Option<String>> = const { RefCell::new(None) });
    thread_local!(static QUIET: RefCell<bool> = const { RefCell::new(false) });
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.with_borrow(|quiet| *quiet) {
                PANIC.set(Some(info.to_string()));
            } else {
                before(info);
            }
        }));
    });
    let (started, worked) = (Instant::now(), processor_time());
    let outer = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(check));
    QUIET.set(outer);
    let outcome = outcome.unwrap_or_else(|_| {
        let what = PANIC.take().unwrap_or_default();
        Err(Failure { kind: FailureKind::Panic, what: format!("panic: {what}") })
    });
    // A machine that was busy with something else, or stopped, is no fault of the engine.
    let too_long = || started.elapsed() > PATIENCE && processor_time() - worked > PATIENCE;
    if outcome.is_ok() && too_long() {
        return Err(Failure::violation(format!("it took {:?}", started.elapsed())));
    }
    outcome
}
