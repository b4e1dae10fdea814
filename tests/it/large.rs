//! Transactions that become tables: what they write before they read, and how many runs they leave.

use crate::support::Random;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Keyspace};
use std::collections::BTreeMap;
use std::sync::Arc;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn database(disk: &SimDisk, budget: usize) -> Database {
    let builder = Database::builder().background(false).memory_budget(budget);
    builder.file_system(Arc::new(disk.clone())).open("/db").unwrap()
}

fn contents(db: &Database, keyspace: &Keyspace) -> Map {
    let snapshot = db.snapshot();
    let entries = snapshot.iter(keyspace).unwrap();
    entries.map(|entry| entry.map(|(k, v)| (k.into_vec(), v.into_vec())).unwrap()).collect()
}

#[test]
fn sorted_changes_of_any_number_are_one_run() {
    for budget in [1 << 20, 32 << 20] {
        let disk = SimDisk::without_history();
        let db = database(&disk, budget);
        let items = db.keyspace("items").unwrap();
        items.insert(b"a", b"before").unwrap();
        let mut tx = db.write().unwrap();
        for number in 0..40_000_u32 {
            tx.insert(&items, number.to_be_bytes(), [7; 50]).unwrap();
        }
        tx.commit().unwrap();
        let stats = db.stats();
        assert!(stats.spills > 0, "{stats:?}");
        assert!(budget > 1 << 20 || stats.spills > 4, "{stats:?}");
        // And that of the commit before.
        assert!(stats.runs <= 2, "{stats:?}");
        assert_eq!(items.len().unwrap(), 40_001);
        assert_eq!(items.get(39_999_u32.to_be_bytes()).unwrap().as_deref(), Some(&[7; 50][..]));

        // Removed in order, of which one run is left, too.
        let mut tx = db.write().unwrap();
        let mut number = 0;
        tx.retain::<&[u8]>(&items, .., |_, _| {
            number += 1;
            number % 2 == 0
        })
        .unwrap();
        tx.commit().unwrap();
        assert_eq!(items.len().unwrap(), 20_000);
        let left = disk.kill();
        let db = database(&left, budget);
        let items = db.existing_keyspace("items").unwrap();
        assert_eq!(items.len().unwrap(), 20_000);
        db.checkpoint().unwrap();
        assert_eq!(contents(&db, &items).len(), 20_000);
    }
}

#[test]
fn reads_between_blind_writes_see_the_last_of_each_key() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let disk = SimDisk::without_history();
        let mut db = database(&disk, 1 << 20);
        let mut maps = [Map::new(), Map::new()];
        for _ in 0..5 {
            let spaces = [db.keyspace("one").unwrap(), db.keyspace("two").unwrap()];
            let mut tx = db.write().unwrap();
            let mut saved = Vec::new();
            for _ in 0..random.below(40) {
                // From a few changes to several tables.
                let steps = [3, 40, 700, 5000][random.below(4) as usize];
                let mut last = Vec::new();
                for _ in 0..random.below(steps) {
                    let which = usize::from(random.one_in(3));
                    let key = (random.below(3000) as u32).to_be_bytes().to_vec();
                    if random.one_in(4) {
                        tx.remove(&spaces[which], &key).unwrap();
                        maps[which].remove(&key);
                    } else {
                        let huge = random.one_in(2000);
                        let length = if huge { 70_000 } else { random.below(30) };
                        let value = random.bytes(length as usize);
                        tx.insert(&spaces[which], &key, &value).unwrap();
                        maps[which].insert(key.clone(), value);
                    }
                    last = key;
                }
                let which = usize::from(random.one_in(2));
                match random.below(7) {
                    0 => saved.push((tx.savepoint(), maps.clone())),
                    1 if !saved.is_empty() => {
                        let at = random.below(saved.len() as u64) as usize;
                        tx.rollback_to(saved[at].0).unwrap();
                        maps.clone_from(&saved[at].1);
                        saved.truncate(at + 1);
                    }
                    2 => {
                        let found = tx.get(&spaces[which], &last).unwrap().map(|v| v.into_vec());
                        assert_eq!(found.as_ref(), maps[which].get(&last), "seed {seed}");
                    }
                    3 => {
                        let range = tx.range(&spaces[which], last.clone()..).unwrap();
                        let found = range.take(20).map(|e| e.unwrap().0.into_vec());
                        let expected = maps[which].range(last..).take(20).map(|(k, _)| k.clone());
                        assert!(found.eq(expected), "seed {seed}");
                    }
                    4 => {
                        let (from, to) = ([0, 0, 2], [0, 0, 5]);
                        tx.remove_range(&spaces[which], from..to).unwrap();
                        maps[which].retain(|k, _| k[..] < from[..] || k[..] >= to[..]);
                    }
                    _ => {}
                }
            }
            let durability = [Durability::Sync, Durability::Memory][random.below(2) as usize];
            tx.commit_with(durability).unwrap();
            db.sync().unwrap();
            for (keyspace, map) in spaces.iter().zip(&maps) {
                assert!(contents(&db, keyspace) == *map, "seed {seed}");
                assert_eq!(keyspace.len().unwrap(), map.len() as u64, "seed {seed}");
            }
            if random.one_in(2) {
                drop(spaces);
                db.close().unwrap();
                db = database(&disk, 1 << 20);
            }
        }
    }
}

#[test]
fn one_key_written_again_and_again_is_one_entry() {
    let disk = SimDisk::without_history();
    let db = database(&disk, 1 << 20);
    let items = db.keyspace("items").unwrap();
    let mut tx = db.write().unwrap();
    for number in 0..60_000_u32 {
        tx.insert(&items, b"counter", number.to_be_bytes()).unwrap();
    }
    tx.commit().unwrap();
    assert_eq!(contents(&db, &items).len(), 1);
    let found = items.get(b"counter").unwrap();
    assert_eq!(found.as_deref(), Some(&59_999_u32.to_be_bytes()[..]));
}
