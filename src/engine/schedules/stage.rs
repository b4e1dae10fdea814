//! What the scenarios share: a database on a simulated disk, transactions whose effect follows from their
//! number alone, and what must hold of every state that anybody sees.
//!
//! Each transaction counts one number up, in two keyspaces, so that commit order is known; the rest of what
//! it does follows from the number ([`changes`]), so that the state after *n* transactions is known whoever
//! made them ([`expected`]). What was begun and acknowledged is kept in atomics of `std`, which shuttle does
//! not see, so that keeping it changes no schedule.

use super::scheduler::Random;
use crate::fs::sim::SimDisk;
use crate::{
    Builder, Database, Durability, Error, Keyspace, OptimisticTx, ReadMode, Result, Snapshot,
    Stats, WriteTx,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub const NAMES: [&str; 2] = ["left", "right"];
const COUNTER: &[u8] = b"number";

/// One change of a transaction, in both keyspaces.
enum Change {
    Put(u64, usize),
    Remove(u64),
    /// From the first key to before the second.
    RemoveRange(u64, u64),
}

/// What transaction `number` does beside counting. With `large` every fourth spills.
fn changes(number: u64, large: bool) -> Vec<Change> {
    let mut changes = vec![Change::Put(number % 6, 40 + (number % 5) as usize * 400)];
    if number % 3 == 2 {
        changes.push(Change::Remove((number + 2) % 6));
    }
    if number % 5 == 4 {
        changes.push(Change::RemoveRange(1, 3));
    }
    if large && number % 4 == 1 {
        let from = 10 + number % 3;
        changes.extend((from..from + 6).map(|key| Change::Put(key, 1_100)));
    }
    changes
}

fn key(key: u64) -> [u8; 8] {
    key.to_be_bytes()
}

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// The content of either keyspace after `number` transactions.
fn expected(number: u64, large: bool) -> State {
    let mut state = State::new();
    for number in 1..=number {
        state.insert(COUNTER.to_vec(), number.to_be_bytes().to_vec());
        for change in changes(number, large) {
            match change {
                Change::Put(at, bytes) => {
                    state.insert(key(at).to_vec(), vec![number as u8; bytes]);
                }
                Change::Remove(at) => {
                    state.remove(&key(at)[..]);
                }
                Change::RemoveRange(from, to) => {
                    state.retain(|at, _| *at < key(from).to_vec() || *at >= key(to).to_vec());
                }
            }
        }
    }
    state
}

/// Either kind of transaction.
pub trait Changes {
    fn number(&self, keyspace: &Keyspace) -> Result<u64>;
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()>;
    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()>;
    fn delete_range(&mut self, keyspace: &Keyspace, from: &[u8], to: &[u8]) -> Result<()>;
}

macro_rules! changes_of {
    ($transaction:ty) => {
        impl Changes for $transaction {
            fn number(&self, keyspace: &Keyspace) -> Result<u64> {
                Ok(self.get(keyspace, COUNTER)?.map_or(0, |bytes| number_of(&bytes)))
            }
            fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
                self.insert(keyspace, key, value)
            }
            fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
                self.remove(keyspace, key)
            }
            fn delete_range(&mut self, keyspace: &Keyspace, from: &[u8], to: &[u8]) -> Result<()> {
                self.remove_range(keyspace, from..to)
            }
        }
    };
}
changes_of!(WriteTx);
changes_of!(OptimisticTx);

fn number_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("a number"))
}

/// A disk after a power cut, with what had been durable before and begun after.
struct Cut {
    durable: u64,
    begun: u64,
    disk: SimDisk,
}

/// A database and what is known of it.
pub struct Stage {
    pub disk: SimDisk,
    pub db: Database,
    pub spaces: [Keyspace; 2],
    pub seed: u64,
    large: bool,
    /// The highest number that a transaction began with, that any was acknowledged with, and that one that
    /// asked for a sync was.
    pub begun: AtomicU64,
    pub shown: AtomicU64,
    pub durable: AtomicU64,
    /// Somebody was told that the log failed.
    pub failed: AtomicBool,
    /// There are no commits but those that count.
    pub counts_all: AtomicBool,
    cuts: Mutex<Vec<Cut>>,
}

/// With `large`, nearly every transaction becomes tables when it commits; otherwise none does.
pub fn builder(seed: u64, large: bool) -> Builder {
    let read_mode = if seed.is_multiple_of(3) { ReadMode::Pread } else { ReadMode::Mmap };
    let memory_budget = if large { 24 << 10 } else { 96 << 10 };
    Database::builder().simulation_sizes(memory_budget).read_mode(read_mode)
}

impl Stage {
    /// An empty database with two keyspaces; with `large`, some transactions spill.
    pub fn new(seed: u64, large: bool) -> Arc<Stage> {
        let disk = SimDisk::with_seed(seed);
        let db = builder(seed, large).file_system(Arc::new(disk.clone())).open("/db").unwrap();
        let spaces = NAMES.map(|name| db.keyspace(name).unwrap());
        Arc::new(Stage {
            disk,
            db,
            spaces,
            seed,
            large,
            begun: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            counts_all: AtomicBool::new(true),
            cuts: Mutex::default(),
        })
    }

    /// Makes the next transaction's changes; returns its number.
    pub fn change(&self, tx: &mut impl Changes) -> Result<u64> {
        let number = tx.number(&self.spaces[0])? + 1;
        assert_eq!(tx.number(&self.spaces[1])? + 1, number, "a transaction reads half of another");
        self.begun.fetch_max(number, Ordering::SeqCst);
        for space in &self.spaces {
            tx.put(space, COUNTER, &number.to_be_bytes())?;
            for change in changes(number, self.large) {
                match change {
                    Change::Put(at, bytes) => {
                        tx.put(space, &key(at), &vec![number as u8; bytes])?
                    }
                    Change::Remove(at) => tx.delete(space, &key(at))?,
                    Change::RemoveRange(from, to) => {
                        tx.delete_range(space, &key(from), &key(to))?;
                    }
                }
            }
        }
        Ok(number)
    }

    /// Notes that a transaction was acknowledged.
    pub fn acknowledged(&self, number: u64, is_durable: bool) {
        self.shown.fetch_max(number, Ordering::SeqCst);
        if is_durable {
            self.durable.fetch_max(number, Ordering::SeqCst);
        }
    }

    /// One transaction, of a durability that chance decides. Returns its number.
    pub fn commit(&self, random: &mut Random) -> Result<u64> {
        let mut tx = self.db.write()?;
        let number = self.change(&mut tx)?;
        match random.below(8) {
            0 => tx.commit_with(Durability::Buffered).map(|_| self.acknowledged(number, false))?,
            1 => tx.commit_with(Durability::Memory).map(|_| self.acknowledged(number, false))?,
            2 => {
                let ticket = tx.commit_ticket()?;
                shuttle::future::block_on(ticket)?;
                self.acknowledged(number, true);
            }
            3 => drop(tx.commit_ticket()?),
            _ => tx.commit_with(Durability::Sync).map(|_| self.acknowledged(number, true))?,
        }
        Ok(number)
    }

    /// The number of the state that a snapshot shows, which must be that state to the last entry.
    pub fn state(&self, snapshot: &Snapshot, spaces: &[Keyspace; 2]) -> Result<u64> {
        let number = snapshot.get(&spaces[0], COUNTER)?.map_or(0, |bytes| number_of(&bytes));
        let state = expected(number, self.large);
        self.check_point(snapshot, number);
        for space in spaces {
            let mut found = State::new();
            for entry in snapshot.iter(space)? {
                let (key, value) = entry?;
                found.insert(key.to_vec(), value.to_vec());
            }
            let name = space.name();
            assert!(found == state, "{name} is not as transaction {number} left it");
            assert_eq!(snapshot.len(space)?, state.len() as u64, "the number of keys is wrong");
        }
        Ok(number)
    }

    /// The making of the keyspaces is a commit each, and so is every transaction.
    fn check_point(&self, snapshot: &Snapshot, number: u64) {
        let (point, others) = (snapshot.seqno().get(), self.spaces.len() as u64);
        let wrong = self.counts_all.load(Ordering::Relaxed) && point != number + others;
        assert!(!wrong, "transaction {number} was seen at commit {point}");
    }

    /// A reader: `rounds` snapshots, each held while the next is taken.
    pub fn read(&self, rounds: usize) -> Result<()> {
        let mut held: Option<(Snapshot, u64)> = None;
        for _ in 0..rounds {
            let shown = self.shown.load(Ordering::SeqCst);
            let snapshot = self.db.snapshot();
            let begun = self.begun.load(Ordering::SeqCst);
            let seen = self.state(&snapshot, &self.spaces)?;
            assert!(seen >= shown, "{shown} was acknowledged, then {seen} was seen");
            assert!(seen <= begun, "{seen} was seen and not begun");
            if let Some((before, number)) = held {
                assert!(seen >= number, "{number} was seen, then {seen}");
                assert_eq!(self.state(&before, &self.spaces)?, number, "a snapshot moved");
            }
            held = Some((snapshot, seen));
            let durable = self.durable.load(Ordering::SeqCst);
            let seen = self.state(&self.db.snapshot_durable(), &self.spaces)?;
            assert!(seen >= durable, "{durable} was durable, then {seen} was seen as durable");
            self.cut(Some(seen));
        }
        Ok(())
    }

    /// A reader who only looks at the number.
    pub fn watch(&self, rounds: usize) {
        for _ in 0..rounds {
            let shown = self.shown.load(Ordering::SeqCst);
            let snapshot = self.db.snapshot();
            let found = snapshot.get(&self.spaces[0], COUNTER);
            let bytes = found.unwrap_or_else(|error| panic!("a reader was refused: {error}"));
            let seen = bytes.map_or(0, |bytes| number_of(&bytes));
            self.check_point(&snapshot, seen);
            assert!(seen >= shown, "{shown} was acknowledged, then {seen} was seen");
        }
    }

    /// The power fails on a copy of the disk. `durable`: what was seen as durable before.
    pub fn cut(&self, durable: Option<u64>) {
        let durable = durable.unwrap_or(0).max(self.durable.load(Ordering::SeqCst));
        let random = &mut Random(self.seed ^ self.disk.operations() as u64);
        let disk = match random.below(2) {
            0 => self.disk.durable_image(),
            _ => self.disk.power_cut(random.next()),
        };
        let begun = self.begun.load(Ordering::SeqCst);
        self.cuts.lock().unwrap().push(Cut { durable, begun, disk });
    }

    /// Opens what the power cuts left.
    pub fn check_cuts(&self) {
        let cuts = std::mem::take(&mut *self.cuts.lock().unwrap());
        for Cut { durable, begun, disk } in cuts {
            let found = self.reopen(&disk, false);
            assert!(found >= durable, "{durable} was durable, {found} is there after a power cut");
            assert!(found <= begun, "{found} is there after a power cut and was not begun");
        }
    }

    /// Opens a disk and returns the number of its state.
    pub fn reopen(&self, disk: &SimDisk, is_clean: bool) -> u64 {
        disk.end_history();
        let builder = builder(self.seed, self.large).background(false);
        let opened = builder.file_system(Arc::new(disk.clone())).open("/db");
        let db = opened.unwrap_or_else(|error| panic!("what is left does not open: {error}"));
        assert!(db.recovery().clean || !is_clean, "a closed database is not clean");
        let spaces = NAMES.map(|name| db.existing_keyspace(name));
        let [Ok(left), Ok(right)] = spaces else {
            return 0;
        };
        self.state(&db.snapshot(), &[left, right]).unwrap()
    }

    /// The end of a scenario in which nothing failed: a power cut, then a clean close.
    pub fn finish(&self, transactions: u64) {
        let seen = self.state(&self.db.snapshot_durable(), &self.spaces).unwrap();
        self.cut(Some(seen));
        note(&self.db.stats());
        self.db.clone().close().unwrap();
        let found = self.reopen(&self.disk.durable_image(), true);
        assert_eq!(found, transactions, "transactions were lost");
        self.check_cuts();
    }
}

thread_local! {
    /// What all executions of this thread did together.
    static DONE: Cell<[u64; 7]> = const { Cell::new([0; 7]) };
}

/// Adds up what an engine did, so that nobody takes a scenario for one in which nothing happens.
pub fn note(stats: &Stats) {
    let mut done = DONE.get();
    let Stats { commits, syncs, checkpoints, merges, stalls, spills, conflicts, .. } = *stats;
    let more = [commits, syncs, checkpoints, merges, stalls, spills, conflicts];
    done.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    DONE.set(done);
}

/// What all executions of this thread did together.
pub fn done() -> String {
    let [commits, syncs, checkpoints, merges, stalls, spills, conflicts] = DONE.get();
    format!(
        "{commits} commits, {syncs} syncs, {checkpoints} checkpoints, {merges} merges, {stalls} stalls, \
         {spills} spills, {conflicts} conflicts"
    )
}

/// Whether the log failed; any other error is our own mistake.
pub fn is_poisoned(error: &Error) -> bool {
    matches!(error, Error::Poisoned { .. })
}
