//! Seeded sequences of all operations against a model, a plain ordered map per keyspace.
//!
//! `HIGHWATER_SEED=n cargo test --test it model` replays one seed.

use crate::support::{Random, open};
use highwater::fs::FileSystem;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Error, Keyspace, Snapshot, WriteTx};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type State = BTreeMap<String, Map>;

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

fn key(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => Vec::new(),
        1 => {
            let length = random.below(40) as usize;
            random.bytes(length)
        }
        2..6 => format!("shared/prefix/of/keys/{:03}", random.below(300)).into_bytes(),
        _ => (random.below(500) as u32).to_be_bytes().to_vec(),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0 => 20_000,
        1..8 => 600,
        _ => random.below(60),
    };
    vec![random.next() as u8; length as usize]
}

fn bounds(random: &mut Random) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let side = |random: &mut Random| match random.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(random)),
        _ => Bound::Excluded(key(random)),
    };
    (side(random), side(random))
}

fn in_model(map: &Map, range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Vec<(Vec<u8>, Vec<u8>)> {
    use std::ops::RangeBounds;
    map.iter().filter(|(k, _)| range.contains(*k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn check_reads(random: &mut Random, snapshot: &Snapshot, keyspace: &Keyspace, map: &Map) {
    for _ in 0..4 {
        let key = key(random);
        let found = snapshot.get(keyspace, &key).unwrap().map(|v| v.into_vec());
        assert_eq!(found.as_ref(), map.get(&key), "get {key:?}");
    }
    let range = bounds(random);
    let expected = in_model(map, &range);
    let mut iter = snapshot.range(keyspace, range.clone()).unwrap();
    // From both ends at random until they meet.
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let entry = if random.one_in(2) { iter.next() } else { iter.next_back() };
        let Some(entry) = entry else { break };
        let (k, v) = entry.unwrap();
        // Which end it came from shows in the order.
        let item = (k.into_vec(), v.into_vec());
        if expected.get(front.len()) == Some(&item) { front.push(item) } else { back.push(item) }
    }
    back.reverse();
    front.extend(back);
    assert_eq!(front, expected, "range {range:?}");
    assert!(iter.next().is_none() && iter.next_back().is_none());
    assert_eq!(snapshot.len(keyspace).unwrap(), map.len() as u64, "len");
    let first = snapshot.first(keyspace).unwrap().map(|(k, _)| k.into_vec());
    assert_eq!(first.as_ref(), map.keys().next());
    let last = snapshot.last(keyspace).unwrap().map(|(k, _)| k.into_vec());
    assert_eq!(last.as_ref(), map.keys().next_back());
}

fn change(random: &mut Random, tx: &mut WriteTx, keyspace: &Keyspace, map: &mut Map) {
    match random.below(20) {
        0 => {
            let range = bounds(random);
            tx.remove_range(keyspace, range.clone()).unwrap();
            in_model(map, &range).iter().for_each(|(k, _)| drop(map.remove(k)));
        }
        1 if random.one_in(4) => {
            tx.clear(keyspace).unwrap();
            map.clear();
        }
        2..4 => {
            // Single pops write tombstones, many in a row a range.
            let count = if random.one_in(3) { random.below(120) } else { 1 };
            let sides = random.below(3);
            for _ in 0..count {
                if sides == 0 || (sides == 2 && random.one_in(2)) {
                    assert_eq!(tx.pop_first(keyspace).unwrap(), map.pop_first());
                } else {
                    assert_eq!(tx.pop_last(keyspace).unwrap(), map.pop_last());
                }
            }
        }
        4 => {
            let range = bounds(random);
            let odd = |k: &[u8]| k.iter().fold(0_u8, |a, b| a ^ b) & 1 == 1;
            tx.retain(keyspace, range.clone(), |k, _| odd(k)).unwrap();
            let gone = in_model(map, &range).into_iter().filter(|(k, _)| !odd(k));
            gone.for_each(|(k, _)| drop(map.remove(&k)));
        }
        5 => {
            let range = bounds(random);
            let limit = random.below(20) as usize;
            let taken: Vec<_> = tx
                .extract_if(keyspace, range.clone(), |k, _| k.len() % 2 == 0)
                .unwrap()
                .take(limit)
                .map(|entry| entry.map(|(k, v)| (k.into_vec(), v.into_vec())).unwrap())
                .collect();
            let expected: Vec<_> = in_model(map, &range)
                .into_iter()
                .filter(|(k, _)| k.len() % 2 == 0)
                .take(limit)
                .collect();
            assert_eq!(taken, expected);
            taken.iter().for_each(|(k, _)| drop(map.remove(k)));
        }
        6..9 => {
            let key = key(random);
            tx.remove(keyspace, &key).unwrap();
            map.remove(&key);
        }
        _ => {
            let (key, value) = (key(random), value(random));
            tx.insert(keyspace, &key, &value).unwrap();
            map.insert(key, value);
        }
    }
}

fn transaction(random: &mut Random, db: &Database, state: &mut State) {
    let before = state.clone();
    let mut tx = db.write().unwrap();
    let steps = if random.one_in(12) { 1500 } else { random.below(30) };
    let mut savepoints = Vec::new();
    for _ in 0..steps {
        let name = NAMES[random.below(3) as usize];
        let Some(map) = state.get_mut(name) else { continue };
        let keyspace = db.existing_keyspace(name).unwrap();
        if random.one_in(60) {
            savepoints.push((tx.savepoint(), state.clone()));
            continue;
        }
        if random.one_in(40) && !savepoints.is_empty() {
            let at = random.below(savepoints.len() as u64) as usize;
            tx.rollback_to(savepoints[at].0).unwrap();
            *state = savepoints[at].1.clone();
            savepoints.truncate(at + 1);
            continue;
        }
        change(random, &mut tx, &keyspace, map);
        if random.one_in(30) {
            let key = key(random);
            let found = tx.get(&keyspace, &key).unwrap().map(|v| v.into_vec());
            assert_eq!(found.as_ref(), map.get(&key));
            assert_eq!(tx.len(&keyspace).unwrap(), map.len() as u64);
        }
    }
    match random.below(6) {
        0 => {
            drop(tx);
            *state = before;
        }
        1 => drop(tx.commit_with(Durability::Memory).unwrap()),
        2 => drop(tx.commit_with(Durability::Buffered).unwrap()),
        3 => drop(tx.commit_ticket().unwrap().wait().unwrap()),
        _ => drop(tx.commit().unwrap()),
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let disk = SimDisk::without_history();
    let fs: Arc<dyn FileSystem> = Arc::new(disk);
    let path = Path::new("/db");
    let mut db = open(&fs, path);
    let mut state = State::new();
    let mut held: Vec<(Snapshot, Vec<(Keyspace, Map)>)> = Vec::new();
    for _ in 0..120 {
        match random.below(30) {
            0 => {
                held.clear();
                db.close().unwrap();
                db = open(&fs, path);
            }
            1 => drop(db.checkpoint().unwrap()),
            2 => db.compact().unwrap(),
            3 => {
                let name = NAMES[random.below(3) as usize];
                if state.remove(name).is_some() {
                    let keyspace = db.existing_keyspace(name).unwrap();
                    db.drop_keyspace(&keyspace).unwrap();
                    let gone = keyspace.get("x");
                    assert!(matches!(gone, Err(Error::KeyspaceDropped { .. })), "{gone:?}");
                }
            }
            4 => {
                let handle = |name: &String| db.existing_keyspace(name).unwrap();
                let keyspaces = state.iter().map(|(name, map)| (handle(name), map.clone()));
                held.push((db.snapshot(), keyspaces.collect()));
            }
            5 if !held.is_empty() => drop(held.remove(0)),
            _ => {
                let name = NAMES[random.below(3) as usize];
                db.keyspace(name).unwrap();
                state.entry(name.to_owned()).or_default();
                transaction(&mut random, &db, &mut state);
            }
        }
        let names: Vec<String> = state.keys().cloned().collect();
        assert_eq!(db.keyspaces(), names);
        for (name, map) in &state {
            let keyspace = db.existing_keyspace(name).unwrap();
            check_reads(&mut random, &db.snapshot(), &keyspace, map);
        }
        // Old points stay as they were, also those of keyspaces that were dropped since.
        for (snapshot, keyspaces) in &held {
            for (keyspace, map) in keyspaces {
                check_reads(&mut random, snapshot, keyspace, map);
            }
        }
    }
}

#[test]
fn every_operation_does_what_the_model_does() {
    if let Ok(seed) = std::env::var("HIGHWATER_SEED") {
        return run(seed.parse().unwrap());
    }
    for seed in 0..16 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = outcome {
            eprintln!("replay with: HIGHWATER_SEED={seed} cargo test --test it model");
            std::panic::resume_unwind(panic);
        }
    }
}
