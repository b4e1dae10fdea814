//! Pops in long runs, which become range tombstones, and everything that may come between them.

use crate::support::Random;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Keyspace, WriteTx};
use std::collections::BTreeMap;
use std::sync::Arc;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn database(disk: &SimDisk) -> Database {
    let builder = Database::builder().background(false).memory_budget(1 << 20);
    builder.file_system(Arc::new(disk.clone())).open("/db").unwrap()
}

fn contents(db: &Database, keyspace: &Keyspace) -> Map {
    let snapshot = db.snapshot();
    let entries = snapshot.iter(keyspace).unwrap();
    entries.map(|entry| entry.map(|(k, v)| (k.into_vec(), v.into_vec())).unwrap()).collect()
}

fn pop(tx: &mut WriteTx, keyspace: &Keyspace, map: &mut Map, back: bool) {
    if back {
        assert_eq!(tx.pop_last(keyspace).unwrap(), map.pop_last());
    } else {
        assert_eq!(tx.pop_first(keyspace).unwrap(), map.pop_first());
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key/{number:05}").into_bytes()
}

fn fill(db: &Database, keyspace: &Keyspace, count: u64) -> Map {
    let map: Map = (0..count).map(|number| (key(number), vec![b'v'; 40])).collect();
    let mut tx = db.write().unwrap();
    map.iter().for_each(|(k, v)| tx.insert(keyspace, k, v).unwrap());
    tx.commit().unwrap();
    map
}

#[test]
fn a_transaction_that_pops_everything_leaves_nothing() {
    for both in [false, true] {
        let disk = SimDisk::new();
        let db = database(&disk);
        let items = db.keyspace("items").unwrap();
        let mut map = fill(&db, &items, 5000);
        let mut tx = db.write().unwrap();
        for number in 0..5001 {
            pop(&mut tx, &items, &mut map, both && number % 2 == 1);
        }
        assert_eq!(tx.len(&items).unwrap(), 0);
        tx.commit().unwrap();
        assert!(contents(&db, &items).is_empty());
        assert_eq!(items.len().unwrap(), 0);
        // A snapshot of before would still see them; an open replays the ranges.
        drop((items, db));
        let db = database(&disk);
        assert!(db.existing_keyspace("items").unwrap().is_empty().unwrap());
    }
}

#[test]
fn a_long_run_of_pops_costs_the_log_no_record_of_each() {
    let disk = SimDisk::new();
    let db = database(&disk);
    let items = db.keyspace("items").unwrap();
    fill(&db, &items, 5000);
    let before = db.stats().log_bytes;
    let mut tx = db.write().unwrap();
    for _ in 0..2000 {
        tx.pop_first(&items).unwrap();
        tx.pop_last(&items).unwrap();
    }
    tx.commit().unwrap();
    let bytes = db.stats().log_bytes - before;
    assert!(bytes <= 4096, "{bytes} bytes of log");
    assert_eq!(items.len().unwrap(), 1000);
}

#[test]
fn whatever_comes_between_pops_sees_them() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let disk = SimDisk::without_history();
        let db = database(&disk);
        let items = db.keyspace("items").unwrap();
        let mut map = fill(&db, &items, 3000);
        for _ in 0..6 {
            let mut tx = db.write().unwrap();
            let mut saved = None;
            for _ in 0..60 {
                let back = random.one_in(2);
                for _ in 0..random.below(70) {
                    pop(&mut tx, &items, &mut map, back ^ random.one_in(8));
                }
                match random.below(9) {
                    0 => {
                        // Anywhere, also among what was popped.
                        let (k, v) = (key(random.below(3000)), vec![b'n'; 3]);
                        tx.insert(&items, &k, &v).unwrap();
                        map.insert(k, v);
                    }
                    1 => {
                        let k = key(random.below(3000));
                        let found = tx.get(&items, &k).unwrap().map(|v| v.into_vec());
                        assert_eq!(found.as_ref(), map.get(&k), "seed {seed}");
                    }
                    2 => saved = Some((tx.savepoint(), map.clone())),
                    3 => {
                        if let Some((savepoint, at)) = &saved {
                            tx.rollback_to(*savepoint).unwrap();
                            map.clone_from(at);
                        }
                    }
                    4 => {
                        let next = map.keys().nth(random.below(5) as usize).cloned();
                        if let Some(next) = next {
                            tx.remove(&items, &next).unwrap();
                            map.remove(&next);
                        }
                    }
                    5 => assert_eq!(tx.len(&items).unwrap(), map.len() as u64, "seed {seed}"),
                    6 => {
                        let at = key(random.below(3000));
                        tx.remove_range(&items, at.clone()..key(3000)).unwrap();
                        map.retain(|k, _| *k < at);
                        for number in 0..200 {
                            let k = key(random.below(3000));
                            tx.insert(&items, &k, [number as u8]).unwrap();
                            map.insert(k, vec![number as u8]);
                        }
                    }
                    7 => {
                        let mut count = 0;
                        let taken = tx.extract_if::<&[u8], _>(&items, .., |_, _| {
                            count += 1;
                            count % 7 == 0
                        });
                        let taken: Vec<_> =
                            taken.unwrap().take(9).map(|e| e.unwrap().0.into_vec()).collect();
                        taken.iter().for_each(|k| assert!(map.remove(k).is_some()));
                    }
                    _ => {
                        let first = tx.first(&items).unwrap().map(|(k, _)| k.into_vec());
                        assert_eq!(first.as_ref(), map.keys().next(), "seed {seed}");
                    }
                }
            }
            tx.commit().unwrap();
            assert_eq!(contents(&db, &items), map, "seed {seed}");
            if random.one_in(3) {
                db.checkpoint().unwrap();
            }
            map = fill_again(&db, &items, &mut random, map);
        }
    }
}

fn fill_again(db: &Database, items: &Keyspace, random: &mut Random, mut map: Map) -> Map {
    let mut tx = db.write().unwrap();
    for _ in 0..1500 {
        let (k, v) = (key(random.below(3000)), random.bytes(20));
        tx.insert(items, &k, &v).unwrap();
        map.insert(k, v);
    }
    tx.commit().unwrap();
    map
}

#[test]
fn the_longest_keys_are_popped() {
    let disk = SimDisk::without_history();
    let db = database(&disk);
    let items = db.keyspace("items").unwrap();
    let mut map = Map::new();
    let mut tx = db.write().unwrap();
    for number in 0..60_u8 {
        let length = if number % 20 == 19 { 65_535 } else { 3 };
        let k = vec![number; length];
        tx.insert(&items, &k, [number]).unwrap();
        map.insert(k, vec![number]);
    }
    tx.commit().unwrap();
    for back in [false, true] {
        let (mut map, mut tx) = (map.clone(), db.write().unwrap());
        for _ in 0..60 {
            pop(&mut tx, &items, &mut map, back);
            let left: Vec<_> =
                tx.iter(&items).unwrap().map(|entry| entry.unwrap().0.into_vec()).collect();
            assert!(left.iter().eq(map.keys()));
        }
        tx.rollback();
    }
    let mut tx = db.write().unwrap();
    while tx.pop_last(&items).unwrap().is_some() {}
    tx.commit().unwrap();
    assert!(contents(&db, &items).is_empty());
}

#[test]
fn optimistic_pops_see_what_was_popped_and_conflict_with_what_was_inserted() {
    let db = database(&SimDisk::without_history());
    let items = db.keyspace("items").unwrap();
    let mut map = fill(&db, &items, 500);
    let popped = db.transact(|tx| {
        let mut popped = Vec::new();
        for _ in 0..200 {
            popped.extend(tx.pop_first(&items)?);
        }
        assert!(tx.get(&items, key(0))?.is_none());
        Ok(popped)
    });
    let expected: Vec<_> = (0..200).filter_map(|_| map.pop_first()).collect();
    assert_eq!(popped.unwrap(), expected);
    assert_eq!(contents(&db, &items), map);

    let mut tx = db.optimistic().unwrap();
    for _ in 0..100 {
        tx.pop_last(&items).unwrap();
    }
    // Within the range that would hide it.
    items.insert(b"key/00450+", "new").unwrap();
    assert!(matches!(tx.commit(), Err(highwater::Error::Conflict)));
    assert_eq!(items.get(b"key/00450+").unwrap().as_deref(), Some(b"new".as_slice()));
}

#[test]
fn pops_of_one_transaction_each_meet_whatever_was_inserted_between() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let disk = SimDisk::without_history();
        let db = database(&disk);
        let spaces = [db.keyspace("one").unwrap(), db.keyspace("two").unwrap()];
        let mut maps = [fill(&db, &spaces[0], 400), fill(&db, &spaces[1], 400)];
        for _ in 0..1200 {
            let which = usize::from(random.one_in(4));
            let (space, map) = (&spaces[which], &mut maps[which]);
            let (k, v) = (key(random.below(400)), random.bytes(4));
            match random.below(16) {
                0 => {
                    space.insert(&k, &v).unwrap();
                    map.insert(k, v);
                }
                1 => {
                    db.transact(|tx| tx.insert(space, &k, &v)).unwrap();
                    map.insert(k, v);
                }
                2 => {
                    space.remove(&k).unwrap();
                    map.remove(&k);
                }
                3 if random.one_in(20) => {
                    db.checkpoint().unwrap();
                }
                4 => {
                    // Nothing of it stays, and nothing that is known gets wrong.
                    let mut tx = db.write().unwrap();
                    tx.insert(space, &k, &v).unwrap();
                    let mut seen = map.clone();
                    seen.insert(k, v);
                    pop(&mut tx, space, &mut seen, random.one_in(2));
                    tx.rollback();
                }
                5 => {
                    let mut tx = db.write().unwrap();
                    tx.insert(space, &k, &v).unwrap();
                    map.insert(k, v);
                    let savepoint = tx.savepoint();
                    pop(&mut tx, space, &mut map.clone(), false);
                    tx.rollback_to(savepoint).unwrap();
                    pop(&mut tx, space, map, random.one_in(2));
                    tx.commit().unwrap();
                }
                6 => {
                    let mut tx = db.write().unwrap();
                    tx.remove(space, &k).unwrap();
                    tx.remove(&spaces[1 - which], &k).unwrap();
                    tx.commit().unwrap();
                    maps.iter_mut().for_each(|map| drop(map.remove(&k)));
                }
                _ => {
                    let mut tx = db.write().unwrap();
                    let back = random.one_in(3);
                    for _ in 0..random.below(3) {
                        pop(&mut tx, space, map, back);
                    }
                    tx.commit().unwrap();
                }
            }
        }
        for (space, map) in spaces.iter().zip(&maps) {
            assert_eq!(contents(&db, space), *map, "seed {seed}");
        }
    }
}
