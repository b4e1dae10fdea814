//! Runs a script on a disk beside its model.
//!
//! Every commit is begun, and acknowledged once it must survive power loss; both are marked on the disk.
//! `Buffered` commits are noted as written: they must survive the death of the process. In a run without
//! faults every error is a violation, and the database must show the model's state after each step. In a
//! run with faults these rules hold:
//!
//! 1. A commit that fails with anything but `Poisoned` changed nothing. One that fails with `Poisoned`
//!    may be there after the next open.
//! 2. After `Poisoned`, or after a sync failed for good, no commit returns `Ok` until the next open.

use crate::changes::{
    Held, apply, check_snapshot, held_keyspaces, keyspace_of, ticket, transact, transact_optimistic,
};
use crate::model::{State, hash_of, read_state};
use crate::script::{Change, Step, Workload, value};
use highwater::fs::sim::{Mark, SimDisk};
use highwater::{Builder, Database, Durability, Error, Keyspace, ReadMode, Snapshot, Ticket};
use std::sync::Arc;

/// Where every database of the campaign lies.
pub const PATH: &str = "/db";

const BEGUN: u64 = 1 << 32;
const ACKNOWLEDGED: u64 = 2 << 32;
const WRITTEN: u64 = 3 << 32;

/// Which states may be found: by the number of commits, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The last commit that must be there.
    pub least: usize,
    /// The last commit that may be there.
    pub most: usize,
}

impl Window {
    /// The window that marks describe; for the death of the process only, written commits must be there
    /// as well.
    pub fn of(marks: &[Mark], process_only: bool) -> Window {
        let mut window = Window { least: 0, most: 0 };
        for mark in marks {
            let number = (mark.payload & u64::from(u32::MAX)) as usize;
            match mark.payload - number as u64 {
                BEGUN => window.most = window.most.max(number),
                ACKNOWLEDGED => window.least = window.least.max(number),
                WRITTEN if process_only => window.least = window.least.max(number),
                _ => {}
            }
        }
        window
    }
}

/// A database, its disk and its model.
#[derive(Debug)]
pub struct Run {
    /// The disk.
    pub disk: SimDisk,
    workload: Arc<Workload>,
    db: Option<Database>,
    /// States after 0, 1, … commits.
    pub states: Vec<State>,
    /// The last commit that must survive power loss.
    pub acknowledged: usize,
    written: usize,
    /// The last commit that readers see; later ones are tickets.
    visible: usize,
    ticket: Option<(Ticket, usize)>,
    held: Option<(Snapshot, Held)>,
    faulty: bool,
    poisoned: bool,
    failed_sync: bool,
    /// Errors other than `NoSpace` were met.
    pub other_errors: bool,
    /// `NoSpace` was met.
    pub space_errors: u64,
}

/// Where the log is kept, if it is.
pub const ARCHIVE: &str = "/archive";

/// Where the backup lies behind which the archive must be whole: one of the new database.
pub const BACKUPS: &str = "/backups";

/// Whether a workload keeps its log: one seed in eight does, on the same disk.
pub fn keeps_log(workload: &Workload) -> bool {
    workload.is_small() && workload.seed % 8 == 5
}

/// Options of every database of the campaign.
pub fn options(workload: &Workload, disk: &SimDisk) -> Builder {
    let options = Database::builder().file_system(Arc::new(disk.clone())).background(false);
    // One seed in four reads its tables without the page cache.
    let mode = if workload.seed % 4 == 3 { ReadMode::Pread } else { ReadMode::Mmap };
    // And one in four maps tables that memory does not hold.
    if workload.seed % 4 == 1 {
        disk.set_memory(Some(0));
    }
    if workload.is_small() {
        let options = if keeps_log(workload) { options.archive(ARCHIVE) } else { options };
        return options
            .simulation_sizes(workload.memory_budget)
            .block_cache(64 << 10)
            .read_mode(mode);
    }
    options.segment_size(1 << 20).memory_budget(workload.memory_budget).table_size(64 << 10)
}

impl Run {
    /// Opens a new database on `disk`. With `faulty`, errors are no violations.
    pub fn new(workload: Arc<Workload>, disk: SimDisk, faulty: bool) -> Run {
        Run {
            disk,
            workload,
            db: None,
            states: vec![State::default()],
            acknowledged: 0,
            written: 0,
            visible: 0,
            ticket: None,
            held: None,
            faulty,
            poisoned: false,
            failed_sync: false,
            other_errors: false,
            space_errors: 0,
        }
    }

    /// The database, while it is open.
    pub fn database(&self) -> Option<&Database> {
        self.db.as_ref()
    }

    /// Whether this life of the database has written to its log.
    pub fn started(&self) -> bool {
        self.db.as_ref().is_some_and(|db| !db.recovery().clean || db.stats().commits > 0)
    }

    /// The last commit that may be found.
    pub fn begun(&self) -> usize {
        self.states.len() - 1
    }

    /// Which states an open may find now.
    pub fn window(&self, process_only: bool) -> Window {
        let least = if process_only { self.written } else { 0 };
        Window { least: least.max(self.acknowledged), most: self.begun() }
    }

    /// A sync failed for good: from now on no commit may return `Ok`.
    pub fn sync_failed(&mut self) {
        self.failed_sync = true;
    }

    /// Opens the database; it must show a state that is possible.
    pub fn open(&mut self) -> Result<(), String> {
        let opened = options(&self.workload, &self.disk).open(PATH);
        let db = match opened {
            Ok(db) => db,
            Err(error) => return self.failed("open", &error),
        };
        if keeps_log(&self.workload) && db.recovery().created {
            match db.backup(BACKUPS) {
                Err(error) if !self.faulty => return Err(format!("the backup: {error}")),
                _ => {}
            }
        }
        let Some(hash) = self.read(&db)? else { return Ok(()) };
        // A failed sync may have taken back what was written.
        let window = self.window(!self.poisoned && !self.failed_sync);
        let found = (window.least..=window.most).rev().find(|at| self.states[*at].hash() == hash);
        let Some(found) = found else {
            return Err(format!("open shows no state of {window:?}:\n{}", self.compare(&db)));
        };
        self.states.truncate(found + 1);
        (self.acknowledged, self.written, self.visible) = (found, found, found);
        (self.poisoned, self.failed_sync) = (false, false);
        self.db = Some(db);
        Ok(())
    }

    /// Makes all steps.
    pub fn all(&mut self) -> Result<(), String> {
        self.open()?;
        let workload = self.workload.clone();
        for (number, step) in workload.steps.iter().enumerate() {
            if self.db.is_none() {
                break;
            }
            self.step(number, step).map_err(|e| format!("step {number} ({step:?}): {e}"))?;
        }
        Ok(())
    }

    /// Makes one step.
    pub fn step(&mut self, number: usize, step: &Step) -> Result<(), String> {
        let Some(db) = self.db.clone() else { return Ok(()) };
        let struck_before = self.disk.faults_struck();
        match step {
            // Opening one that is there already is no commit.
            Step::Create(name) if self.has(name) => {}
            Step::Create(name) if self.poisoned && db.existing_keyspace(name).is_ok() => {}
            Step::Create(name) => {
                let edit = |state: &mut State| state.create(name);
                self.commit(Durability::Sync, edit, || db.keyspace(name).map(drop))?;
            }
            Step::Drop(name) => {
                let Some(keyspace) = self.keyspace(&db, name) else { return Ok(()) };
                let edit = |state: &mut State| state.drop_keyspace(name);
                self.commit(Durability::Sync, edit, || db.drop_keyspace(&keyspace).map(drop))?;
            }
            Step::Batch(changes, durability) | Step::Optimistic(changes, durability) => {
                let seed = self.workload.seed;
                let edit = |state: &mut State| {
                    changes.iter().for_each(|change| apply(state, change, seed, number));
                };
                if !changes.iter().all(|c| self.has(keyspace_of(c))) {
                    return Ok(());
                }
                let optimistic = matches!(step, Step::Optimistic(..));
                if optimistic {
                    // It reads what is shown, and would not see what waits behind a ticket.
                    self.redeem()?;
                }
                let act = || match optimistic {
                    true => transact_optimistic(&db, changes, seed, number, *durability),
                    false => transact(&db, changes, seed, number, *durability),
                };
                self.commit(*durability, edit, act)?;
            }
            Step::Ticket(changes) => {
                if changes.iter().all(|c| self.has(keyspace_of(c))) {
                    self.ticket(&db, changes, number)?;
                }
            }
            Step::Redeem => self.redeem()?,
            Step::ReadOnly => self.look_beside(struck_before)?,
            Step::Transact(name, one, two, bytes) => {
                let Some(keyspace) = self.keyspace(&db, name) else { return Ok(()) };
                let bytes = value(self.workload.seed, number, one, *bytes);
                let edit = |state: &mut State| {
                    let old = state.get(name, one.as_bytes()).cloned().unwrap_or_default();
                    state.insert(name, two.as_bytes(), old);
                    state.insert(name, one.as_bytes(), bytes.clone());
                };
                let act = || {
                    db.transact(|tx| {
                        let old = tx.get(&keyspace, one)?.map_or(Vec::new(), |v| v.into_vec());
                        tx.insert(&keyspace, two, old)?;
                        tx.insert(&keyspace, one, &bytes)
                    })
                };
                self.commit(Durability::Sync, edit, act)?;
            }
            Step::Sync => self.settle("sync", db.sync().map(drop), true)?,
            Step::Checkpoint => self.settle("checkpoint", db.checkpoint().map(drop), true)?,
            Step::Compact => self.settle("compact", db.compact(), true)?,
            Step::Maintain => self.settle("maintain", db.maintain(), false)?,
            Step::Reopen => {
                drop(db);
                return self.reopen();
            }
            // After poison the model may know of a commit that no reader sees.
            Step::Hold if self.poisoned => {}
            Step::Hold => {
                let state = self.states[self.visible].clone();
                self.held = Some((db.snapshot(), held_keyspaces(&db, state)));
            }
            Step::Release => {
                if let Some((snapshot, state)) = self.held.take() {
                    let checked = check_snapshot(&db, &snapshot, &state);
                    // A fault may strike the reading itself.
                    if !self.faulty || self.disk.faults_struck() == struck_before {
                        checked?;
                    }
                }
            }
        }
        let quiet = !self.faulty || self.disk.faults_struck() == struck_before;
        if quiet && !self.poisoned {
            let Some(hash) = self.read(&db)? else { return Ok(()) };
            if !self.saw(hash) {
                return Err(format!("the database shows another state:\n{}", self.compare(&db)));
            }
        }
        Ok(())
    }

    /// Whether the database, if it is open and not poisoned, shows the newest state.
    pub fn shows_its_state(&self) -> Result<bool, String> {
        let Some(db) = self.db.as_ref().filter(|_| !self.poisoned) else { return Ok(true) };
        let hash = self.read(db)?;
        Ok(hash.is_none_or(|hash| self.states[self.visible..].iter().any(|s| s.hash() == hash)))
    }

    /// What is shown; commits behind tickets may show at any time. False if it is no such state.
    fn saw(&mut self, hash: u64) -> bool {
        let found = self.states[self.visible..].iter().rposition(|state| state.hash() == hash);
        self.visible += found.unwrap_or(0);
        found.is_some()
    }

    /// The hash of what the database shows. A fault may strike the reading itself; then it is read again,
    /// and `None` if that is struck as well.
    fn read(&self, db: &Database) -> Result<Option<u64>, String> {
        for _ in 0..3 {
            let struck = self.disk.faults_struck();
            match hash_of(db) {
                Ok((hash, _)) => return Ok(Some(hash)),
                Err(_) if self.faulty && self.disk.faults_struck() > struck => {}
                Err(error) => return Err(format!("reading: {error}")),
            }
        }
        Ok(None)
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.held = None;
        self.ticket = None;
        let Some(db) = self.db.take() else { return Ok(()) };
        let outcome = db.close();
        self.settle("close", outcome, true)?;
        self.open()
    }

    fn has(&self, name: &str) -> bool {
        self.states.last().is_some_and(|state| state.keyspaces().contains_key(name))
    }

    fn keyspace(&self, db: &Database, name: &str) -> Option<Keyspace> {
        self.has(name).then(|| db.existing_keyspace(name).ok()).flatten()
    }

    fn commit(
        &mut self,
        durability: Durability,
        edit: impl FnOnce(&mut State),
        act: impl FnOnce() -> highwater::Result<()>,
    ) -> Result<(), String> {
        let mut next = self.states.last().cloned().unwrap_or_default();
        edit(&mut next);
        let number = self.states.len() as u64;
        if !self.poisoned {
            self.states.push(next);
        }
        self.disk.mark(BEGUN | number);
        match act() {
            Ok(()) if self.poisoned || self.failed_sync => {
                Err("a commit returned Ok after a failed sync".to_owned())
            }
            Ok(()) => {
                // One that changes nothing may be none, and shows no ticket before it.
                let last = self.states.len() - 1;
                if self.states[last].hash() != self.states[last - 1].hash() {
                    self.visible = last;
                }
                match durability {
                    Durability::Sync => {
                        self.acknowledged = number as usize;
                        self.disk.mark(ACKNOWLEDGED | number);
                    }
                    Durability::Buffered => {
                        self.written = number as usize;
                        self.disk.mark(WRITTEN | number);
                    }
                    _ => {}
                }
                Ok(())
            }
            Err(error) => {
                if !matches!(error, Error::Poisoned { .. }) && !self.poisoned {
                    self.states.pop();
                }
                self.failed("commit", &error)
            }
        }
    }

    /// A transaction whose commit hands back a ticket.
    fn ticket(&mut self, db: &Database, changes: &[Change], number: usize) -> Result<(), String> {
        let seed = self.workload.seed;
        let mut taken = None;
        let (visible, written) = (self.visible, self.written);
        let edit = |state: &mut State| {
            changes.iter().for_each(|change| apply(state, change, seed, number))
        };
        self.commit(Durability::Memory, edit, || {
            taken = Some(ticket(db, changes, seed, number)?);
            Ok(())
        })?;
        (self.visible, self.written) = (visible, written);
        if let Some(ticket) = taken {
            if ticket.is_durable() {
                self.visible = self.begun();
            }
            self.ticket = Some((ticket, self.begun()));
        }
        Ok(())
    }

    fn redeem(&mut self) -> Result<(), String> {
        let Some((ticket, at)) = self.ticket.take() else { return Ok(()) };
        match ticket.wait() {
            Ok(_) if self.poisoned => return Err("a ticket came true after poison".into()),
            Ok(_) => self.acknowledge(at),
            Err(error) => self.failed("ticket", &error)?,
        }
        Ok(())
    }

    /// All commits up to this one are durable, and shown.
    fn acknowledge(&mut self, at: usize) {
        self.acknowledged = self.acknowledged.max(at);
        self.visible = self.visible.max(at);
        self.disk.mark(ACKNOWLEDGED | at as u64);
    }

    /// A reader beside the owner sees what is durable, and perhaps more.
    fn look_beside(&self, struck_before: u64) -> Result<(), String> {
        let opened = options(&self.workload, &self.disk).read_only(true).open(PATH);
        let found = opened.and_then(|db| hash_of(&db));
        match found {
            Ok(_) if self.poisoned => {}
            // What no later group vouches for may not be synced, and a reader leaves it out.
            Ok((hash, _)) if self.states.iter().any(|state| state.hash() == hash) => {}
            Ok(_) => return Err("a reader beside the owner sees a state that never was".into()),
            Err(_) if self.faulty && self.disk.faults_struck() > struck_before => {}
            Err(_) if self.poisoned => {}
            Err(error) => return Err(format!("a read-only open beside the owner: {error}")),
        }
        Ok(())
    }

    fn settle(
        &mut self,
        what: &str,
        outcome: highwater::Result<()>,
        durable: bool,
    ) -> Result<(), String> {
        match outcome {
            Ok(()) if durable && self.poisoned => Err(format!("{what} returned Ok after poison")),
            Ok(()) => {
                if durable {
                    self.acknowledge(self.begun());
                }
                Ok(())
            }
            Err(error) => self.failed(what, &error),
        }
    }

    fn failed(&mut self, what: &str, error: &Error) -> Result<(), String> {
        if !self.faulty {
            return Err(format!("{what} failed: {error}"));
        }
        match error {
            Error::NoSpace { .. } => self.space_errors += 1,
            Error::Poisoned { .. } => {
                self.poisoned = true;
                self.other_errors = true;
            }
            _ => self.other_errors = true,
        }
        Ok(())
    }

    /// The newest state against what a database shows, in words.
    pub fn compare(&self, db: &Database) -> String {
        match (read_state(db), self.states.last()) {
            (Ok(found), Some(expected)) => expected.difference(&found),
            (Err(error), _) => format!("it cannot be read: {error}"),
            _ => String::new(),
        }
    }

    /// Ends the run without closing the database on its disk.
    pub fn abandon(mut self) -> (SimDisk, Vec<State>) {
        let after = self.disk.kill();
        self.held = None;
        self.db = None;
        (after, self.states)
    }
}
