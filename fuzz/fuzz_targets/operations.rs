//! Any sequence of operations, reopenings, deaths of the process and power cuts on the simulated disk, held
//! against a map in memory.
#![no_main]

use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Keyspace, Seqno};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Keyspaces by name; a keyspace that is missing was dropped.
type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut run = Run::new();
    for _ in 0..MOST_STEPS {
        if input.0.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.check();
});

const MOST_STEPS: usize = 200;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Few different keys, so that they meet again; some long ones.
    fn key(&mut self) -> Vec<u8> {
        let byte = self.byte();
        let length = [1, 1, 1, 2, 3, 9, 40, 0][usize::from(byte >> 5)];
        vec![byte & 0x0f; length]
    }

    /// Mostly small; some larger than a block, than a group, than a transaction's share of memory.
    fn value(&mut self) -> Vec<u8> {
        let byte = self.byte();
        let length = match byte >> 5 {
            0..=3 => usize::from(byte & 31),
            4 | 5 => usize::from(byte & 31) * 100,
            6 => 9_000 + usize::from(byte & 31),
            _ if byte == 255 => 300_000,
            _ => usize::from(byte & 31) * 2_000,
        };
        vec![byte; length]
    }
}

struct Run {
    disk: SimDisk,
    db: Database,
    model: Model,
    /// The model after each commit since the last durable one, oldest first.
    history: Vec<(Seqno, Model)>,
    /// Commits up to here were acknowledged as durable, and up to there as handed to the system.
    durable: Seqno,
    written: Seqno,
}

impl Run {
    fn new() -> Run {
        let disk = SimDisk::new();
        let db = open(&disk);
        Run {
            disk,
            db,
            model: Model::new(),
            history: vec![(Seqno::ZERO, Model::new())],
            durable: Seqno::ZERO,
            written: Seqno::ZERO,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=6 => self.transaction(input),
            7 => self.check(),
            8 => {
                self.db.checkpoint().expect("a checkpoint");
                self.all_durable();
            }
            9 => {
                self.db.compact().expect("a compaction");
                self.all_durable();
            }
            10 => {
                self.db.sync().expect("a sync");
                self.all_durable();
            }
            11 => self.db.maintain().expect("maintenance"),
            12 => {
                let name = name(input.byte());
                if let Ok(keyspace) = self.db.existing_keyspace(&name) {
                    self.db.drop_keyspace(&keyspace).expect("a drop");
                    self.model.remove(&name);
                    self.committed(Durability::Sync);
                }
            }
            13 => {
                self.db.clone().close().expect("a clean close");
                self.all_durable();
                self.db = open(&self.disk);
                assert!(self.db.recovery().clean);
                self.check();
            }
            14 => {
                let left = self.disk.kill();
                self.recover(left, self.written);
            }
            _ => {
                let left = self.disk.power_cut(u64::from(input.byte()));
                self.recover(left, self.durable);
            }
        }
    }

    fn transaction(&mut self, input: &mut Input<'_>) {
        let name = name(input.byte());
        let keyspace = self.keyspace(&name);
        let mut next = self.model[&name].clone();
        let mut saved = None;
        let mut tx = self.db.write().expect("a transaction");
        for _ in 0..=input.byte() % 12 {
            match input.byte() % 8 {
                0..=2 => {
                    let (key, value) = (input.key(), input.value());
                    tx.insert(&keyspace, &key, &value).expect("an insertion");
                    next.insert(key, value);
                }
                3 => {
                    let key = input.key();
                    tx.remove(&keyspace, &key).expect("a removal");
                    next.remove(&key);
                }
                4 => {
                    let (start, end) = (input.key(), input.key());
                    tx.remove_range::<Vec<u8>>(&keyspace, start.clone()..end.clone())
                        .expect("a removal");
                    next.retain(|key, _| *key < start || *key >= end);
                }
                5 => {
                    let found = tx.pop_first(&keyspace).expect("a pop");
                    assert_eq!(found, next.pop_first());
                }
                6 => {
                    let found = tx.pop_last(&keyspace).expect("a pop");
                    assert_eq!(found, next.pop_last());
                }
                _ => match saved.take() {
                    None => saved = Some((tx.savepoint(), next.clone())),
                    Some((savepoint, model)) => {
                        tx.rollback_to(savepoint).expect("a rollback");
                        next = model;
                    }
                },
            }
        }
        assert_eq!(tx.len(&keyspace).expect("a length"), next.len() as u64);
        let durability = match input.byte() % 4 {
            0 => Durability::Sync,
            1 => Durability::Buffered,
            2 => Durability::Memory,
            _ => return,
        };
        tx.commit_with(durability).expect("a commit");
        self.model.insert(name, next);
        self.committed(durability);
    }

    fn keyspace(&mut self, name: &str) -> Keyspace {
        let keyspace = self.db.keyspace(name).expect("a keyspace");
        if !self.model.contains_key(name) {
            self.model.insert(name.to_owned(), BTreeMap::new());
            self.committed(Durability::Sync);
        }
        keyspace
    }

    fn committed(&mut self, durability: Durability) {
        let seqno = self.db.snapshot().seqno();
        self.history.push((seqno, self.model.clone()));
        match durability {
            Durability::Sync => self.all_durable(),
            Durability::Buffered => self.written = seqno,
            _ => {}
        }
    }

    fn all_durable(&mut self) {
        let last = self.history.pop().expect("there is always a last commit");
        self.durable = last.0;
        self.written = last.0;
        self.history = vec![last];
    }

    /// The process died, and left this disk. What was acknowledged up to `promised` must be there, and
    /// nothing else than a prefix of the commits.
    fn recover(&mut self, left: SimDisk, promised: Seqno) {
        self.disk = left;
        self.db = open(&self.disk);
        let recovered = self.db.recovery().last_seqno;
        assert!(recovered >= promised, "{recovered} was recovered, {promised} was promised");
        let after = self.history.iter().rposition(|(seqno, _)| *seqno <= recovered);
        let after = after.expect("what is durable comes first");
        self.history.truncate(after + 1);
        let (_, model) = &self.history[after];
        self.model = model.clone();
        self.all_durable();
        self.check();
    }

    fn check(&self) {
        let snapshot = self.db.snapshot();
        let names: Vec<String> = self.model.keys().cloned().collect();
        assert_eq!(snapshot.keyspaces(), names);
        for (name, model) in &self.model {
            let keyspace = self.db.existing_keyspace(name).expect("a keyspace");
            let mut expected = model.iter();
            for entry in snapshot.iter(&keyspace).expect("a range") {
                let (key, value) = entry.expect("an entry");
                let (expected_key, expected_value) = expected.next().expect("no more entries");
                assert_eq!((&key[..], &value[..]), (&expected_key[..], &expected_value[..]));
            }
            assert_eq!(expected.next(), None);
            let mut backwards = model.keys().rev();
            for entry in snapshot.iter(&keyspace).expect("a range").rev() {
                let (key, _) = entry.expect("an entry");
                assert_eq!(Some(&key[..]), backwards.next().map(Vec::as_slice));
            }
            assert_eq!(backwards.next(), None);
            assert_eq!(snapshot.len(&keyspace).expect("a length"), model.len() as u64);
            for byte in 0..16_u8 {
                for length in [0, 1, 2, 40] {
                    let key = vec![byte; length];
                    let found = snapshot.get(&keyspace, &key).expect("a read");
                    assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice));
                }
            }
            let from: &[u8] = &[5];
            let bounds = (Bound::Excluded(from), Bound::<&[u8]>::Unbounded);
            let found = snapshot.range::<&[u8]>(&keyspace, bounds).expect("a range").count();
            assert_eq!(found, model.keys().filter(|key| key.as_slice() > from).count());
        }
    }
}

fn name(byte: u8) -> String {
    ["a", "b", "c"][usize::from(byte % 3)].to_owned()
}

fn open(disk: &SimDisk) -> Database {
    let builder = Database::builder().file_system(Arc::new(disk.clone())).background(false);
    builder.memory_budget(1 << 20).segment_size(1 << 20).open("/db").expect("a legal disk opens")
}
