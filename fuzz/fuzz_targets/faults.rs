//! Any sequence of transactions, checkpoints and reopenings while operations of the disk fail, held against
//! a map in memory.
//!
//! A call may fail; then what readers see is still the last acknowledged commit. After `Poisoned`, no
//! commit succeeds before the next open. Without faults that next open succeeds, whatever the failed syncs
//! left, and shows a prefix of the commits with every acknowledged one. A refusal for want of room changes
//! nothing.
#![no_main]

use highwater::fs::Barrier;
use highwater::fs::sim::{Fault, FaultKind, OperationKind, PageState, SimDisk};
use highwater::{Database, Error, Keyspace};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keyspace and key, and the value.
type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let disk = SimDisk::new();
    let db = open(&disk).expect("a new database");
    let spaces = spaces(&db).expect("two keyspaces");
    let mut run = Run { disk, db, spaces, states: vec![Model::new()], poisoned: false };
    for _ in 0..MOST_STEPS {
        if input.0.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    let left = run.disk.kill();
    run.reopen(left);
});

const MOST_STEPS: usize = 120;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
}

struct Run {
    disk: SimDisk,
    db: Database,
    spaces: [Keyspace; 2],
    /// The last acknowledged state, and the one after a commit whose outcome is open.
    states: Vec<Model>,
    poisoned: bool,
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=4 => self.transaction(input),
            5..=7 => self.disk.inject(fault(input)),
            8 => {
                let room = u64::from(input.byte()) << 12;
                self.disk.set_capacity(Some(self.disk.used_bytes() + room));
            }
            9 => self.mend(),
            10 => drop(self.db.checkpoint().map_err(|e| self.note(&e))),
            11 => drop(self.db.compact().map_err(|e| self.note(&e))),
            12 => drop(self.db.maintain().map_err(|e| self.note(&e))),
            13 => {
                // A close that fails is a death.
                let _ = self.db.clone().close();
                if input.byte() % 2 == 0 {
                    // So may an open be.
                    let _ = open(&self.disk);
                }
                self.reopen(self.disk.clone());
            }
            14 => self.reopen(self.disk.kill()),
            _ => self.reopen(self.disk.power_cut(u64::from(input.byte()))),
        }
        self.check();
    }

    fn transaction(&mut self, input: &mut Input<'_>) {
        let mut next = self.states[0].clone();
        let outcome = (|| {
            let mut tx = self.db.write()?;
            for _ in 0..=input.byte() % 6 {
                let (choice, key) = (input.byte(), vec![input.byte() % 32; 2]);
                let space = choice & 1;
                let keyspace = &self.spaces[usize::from(space)];
                if choice & 6 == 0 {
                    tx.remove(keyspace, &key)?;
                    next.remove(&(space, key));
                } else {
                    let length = [1, 30, 500, 5_000, 40_000, 150_000][usize::from(choice >> 4) % 6];
                    let value = vec![choice; length];
                    tx.insert(keyspace, &key, &value)?;
                    next.insert((space, key), value);
                }
            }
            tx.commit()
        })();
        match outcome {
            Ok(_) => {
                assert!(!self.poisoned, "a commit succeeded after the log had failed");
                // What failed before it and is not there now never was.
                self.states = vec![next];
            }
            Err(error @ Error::NoSpace { .. }) => drop(error),
            Err(error) => {
                self.note(&error);
                if self.states.len() == 1 && next != self.states[0] {
                    self.states.push(next);
                }
            }
        }
    }

    fn note(&mut self, error: &Error) {
        assert!(!error.to_string().is_empty());
        self.poisoned |= matches!(error, Error::Poisoned { .. });
    }

    fn mend(&mut self) {
        self.disk.clear_faults();
        self.disk.set_capacity(None);
    }

    /// Opens what is left, on a disk that works again.
    fn reopen(&mut self, left: SimDisk) {
        self.disk = left;
        self.mend();
        self.db = open(&self.disk).expect("a legal disk opens");
        self.spaces = spaces(&self.db).expect("both keyspaces");
        self.poisoned = false;
        let found = content(&self.db, &self.spaces).expect("what was recovered can be read");
        let known = self.states.iter().position(|state| *state == found);
        let known = known.expect("the last acknowledged state, or the one after it");
        self.states = vec![self.states.swap_remove(known)];
    }

    fn check(&mut self) {
        // A read may fail like anything else, but not be wrong.
        if let Ok(found) = content(&self.db, &self.spaces) {
            assert!(found == self.states[0], "readers see something that was not acknowledged");
        }
    }
}

fn fault(input: &mut Input<'_>) -> Fault {
    let short = 1 + usize::from(input.byte());
    let effect = match input.byte() % 8 {
        0..=3 => FaultKind::Io,
        4 => FaultKind::NoSpace,
        5 => FaultKind::Interrupted,
        6 => FaultKind::Error(std::io::ErrorKind::TimedOut),
        _ => FaultKind::Short(short),
    };
    let mut fault = Fault::new(effect).nth(1 + u64::from(input.byte() % 24));
    let kinds = [
        OperationKind::Open,
        OperationKind::Create,
        OperationKind::Rename,
        OperationKind::Remove,
        OperationKind::Read,
        OperationKind::Write,
        OperationKind::SetLen,
        OperationKind::Allocate,
        OperationKind::Map,
        OperationKind::SyncData,
        OperationKind::SyncDir,
    ];
    let choice = usize::from(input.byte());
    if let Some(kind) = kinds.get(choice % 16) {
        fault = fault.on(*kind);
    }
    if choice % 16 == 12 {
        fault = fault.barrier(Barrier::LogCommit);
    }
    let names = ["log-", "table-", "MANIFEST", "spare-", "RESERVE"];
    if let Some(name) = names.get(choice / 16) {
        fault = fault.path_contains(name);
    }
    let pages = [PageState::Dirty, PageState::MarkedClean, PageState::Reverted];
    let how = usize::from(input.byte());
    fault = fault.pages_after(pages[how % 3]);
    // Without end: an interruption would be tried again for ever, and so is a short transfer harmless.
    let lasts = how >= 128 && !matches!(effect, FaultKind::Interrupted);
    if lasts { fault.from_then_on() } else { fault }
}

fn spaces(db: &Database) -> highwater::Result<[Keyspace; 2]> {
    Ok([db.keyspace("a")?, db.keyspace("b")?])
}

fn content(db: &Database, spaces: &[Keyspace; 2]) -> highwater::Result<Model> {
    let snapshot = db.snapshot();
    let mut found = Model::new();
    for (space, keyspace) in (0..).zip(spaces) {
        for entry in snapshot.iter(keyspace)? {
            let (key, value) = entry?;
            found.insert((space, key.to_vec()), value.to_vec());
        }
    }
    Ok(found)
}

fn open(disk: &SimDisk) -> highwater::Result<Database> {
    let builder = Database::builder().file_system(Arc::new(disk.clone())).background(false);
    builder.memory_budget(1 << 20).segment_size(1 << 20).open("/db")
}
