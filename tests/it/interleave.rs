//! The whole engine with all its threads: committers, readers, checkpoints and merges, on a disk where
//! threads lose their turn at every call. The power fails in the middle of it.
//!
//! All transactions count one number up, in two keyspaces, so that their order is known. What must hold:
//! a snapshot sees both keyspaces at the same number; what was acknowledged before a snapshot was taken is
//! in it; no snapshot sees less than one that was taken before; nothing is seen before it was begun. After
//! the power cut both numbers are the same, and not less than what was acknowledged before it.
//!
//! `HIGHWATER_SEEDS=100..500 cargo test --test it interleave` runs other seeds.

use crate::jitter::{JitteryDisk, Pauses};
use crate::support::Random;
use highwater::fs::sim::SimDisk;
use highwater::{Builder, Database, Durability, Keyspace, ReadMode, Snapshot};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const COMMITTERS: u64 = 3;
const COMMITS: u64 = 25;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("HIGHWATER_SEEDS") else { return 0..8 };
    let (start, end) = text.split_once("..").expect("HIGHWATER_SEEDS=FIRST..END");
    start.parse().unwrap()..end.parse().unwrap()
}

fn number(snapshot: &Snapshot, keyspace: &Keyspace) -> u64 {
    let bytes = snapshot.get(keyspace, "number").unwrap();
    bytes.map_or(0, |bytes| u64::from_be_bytes(bytes[..8].try_into().unwrap()))
}

/// The number that a snapshot shows, in both keyspaces.
fn both(snapshot: &Snapshot, spaces: &[Keyspace; 2]) -> u64 {
    let seen = spaces.each_ref().map(|space| number(snapshot, space));
    assert_eq!(seen[0], seen[1], "half a transaction");
    seen[0]
}

struct Run {
    db: Database,
    spaces: [Keyspace; 2],
    /// The highest number that a transaction began with, that one that asked for a sync was acknowledged
    /// with, and that any was acknowledged with.
    begun: AtomicU64,
    durable: AtomicU64,
    visible: AtomicU64,
    done: AtomicBool,
}

impl Run {
    fn commit(&self, random: &mut Random, pauses: &Pauses) {
        let mut tx = self.db.write().unwrap();
        let number = {
            let bytes = tx.get(&self.spaces[0], "number").unwrap();
            bytes.map_or(0, |b| u64::from_be_bytes(b[..8].try_into().unwrap())) + 1
        };
        self.begun.fetch_max(number, Ordering::SeqCst);
        for space in &self.spaces {
            pauses.here();
            tx.insert(space, "number", number.to_be_bytes()).unwrap();
            let size = if random.one_in(4) { 30_000 } else { 300 };
            tx.insert(space, (number % 40).to_be_bytes(), vec![number as u8; size]).unwrap();
        }
        let durability = match random.below(6) {
            0 => Durability::Buffered,
            1 => Durability::Memory,
            _ => Durability::Sync,
        };
        tx.commit_with(durability).unwrap();
        self.visible.fetch_max(number, Ordering::SeqCst);
        if durability == Durability::Sync {
            self.durable.fetch_max(number, Ordering::SeqCst);
        }
    }

    fn read(&self, pauses: &Pauses) {
        let mut last = 0;
        while !self.done.load(Ordering::Acquire) {
            let acknowledged = self.visible.load(Ordering::SeqCst);
            let snapshot = self.db.snapshot();
            pauses.here();
            let seen = both(&snapshot, &self.spaces);
            assert!(seen >= acknowledged, "{acknowledged} was acknowledged, then {seen} was seen");
            assert!(seen >= last, "{last} was seen, then {seen}");
            assert!(seen <= self.begun.load(Ordering::SeqCst), "{seen} was seen and not begun");
            last = seen;
            let durable = self.durable.load(Ordering::SeqCst);
            let seen = both(&self.db.snapshot_durable(), &self.spaces);
            assert!(seen >= durable, "{durable} was durable, then {seen} was seen as durable");
        }
    }

    fn maintain(&self, random: &mut Random, pauses: &Pauses) {
        while !self.done.load(Ordering::Acquire) {
            match random.below(8) {
                0..=2 => drop(self.db.checkpoint().unwrap()),
                3 => self.db.compact().unwrap(),
                4 => drop(self.db.sync().unwrap()),
                _ => std::thread::sleep(std::time::Duration::from_micros(random.below(1500))),
            }
            pauses.here();
        }
    }
}

fn builder(seed: u64) -> Builder {
    let read_mode = if seed.is_multiple_of(2) { ReadMode::Mmap } else { ReadMode::Pread };
    let builder = Database::builder().memory_budget(1 << 20).segment_size(1 << 20);
    builder.read_mode(read_mode).table_size(64 << 10)
}

fn one(seed: u64) {
    let disk = SimDisk::with_seed(seed);
    let pauses = Pauses::new(seed);
    let jittery = JitteryDisk { disk: disk.clone(), pauses: pauses.clone() };
    let db = builder(seed).file_system(Arc::new(jittery)).open("/db").unwrap();
    let spaces = ["left", "right"].map(|name| db.keyspace(name).unwrap());
    let run = Run {
        db,
        spaces,
        begun: AtomicU64::new(0),
        durable: AtomicU64::new(0),
        visible: AtomicU64::new(0),
        done: AtomicBool::new(false),
    };
    let mut cuts = Vec::new();
    std::thread::scope(|scope| {
        let (run, pauses) = (&run, &*pauses);
        let committers: Vec<_> = (0..COMMITTERS)
            .map(|thread| {
                scope.spawn(move || {
                    let random = &mut Random(seed ^ (thread + 1) << 32);
                    (0..COMMITS).for_each(|_| run.commit(random, pauses));
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| run.read(pauses));
        }
        scope.spawn(move || run.maintain(&mut Random(seed ^ 77), pauses));
        // The power fails on copies of the disk, while everybody goes on.
        let random = &mut Random(seed ^ 99);
        while !committers.iter().all(|thread| thread.is_finished()) {
            std::thread::sleep(std::time::Duration::from_micros(random.below(8000)));
            let durable = run.durable.load(Ordering::SeqCst);
            let left = disk.power_cut(random.next());
            cuts.push((durable, run.begun.load(Ordering::SeqCst), left));
        }
        for committer in committers {
            // So that a failure shows, and the others end.
            if committer.join().is_err() {
                run.done.store(true, Ordering::Release);
            }
        }
        run.done.store(true, Ordering::Release);
    });
    let all = COMMITTERS * COMMITS;
    assert_eq!(both(&run.db.snapshot(), &run.spaces), all, "a commit was not counted");
    let durable = run.durable.load(Ordering::SeqCst);
    cuts.push((durable, all, disk.power_cut(seed)));
    for (durable, begun, left) in cuts.split_off(cuts.len().saturating_sub(6)) {
        let db = builder(seed).background(false).file_system(Arc::new(left)).open("/db").unwrap();
        let spaces = ["left", "right"].map(|name| db.keyspace(name).unwrap());
        let found = both(&db.snapshot(), &spaces);
        assert!(found >= durable, "{durable} was durable, {found} is there after a power cut");
        assert!(found <= begun, "{found} is there after a power cut and was not begun");
    }
}

#[test]
fn readers_committers_and_checkpoints_agree_in_any_schedule() {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let (first, end) = (self.0, self.0 + 1);
                eprintln!("HIGHWATER_SEEDS={first}..{end} cargo test --test it interleave");
            }
        }
    }
    for seed in seeds() {
        let _seed = Seed(seed);
        one(seed);
    }
}
