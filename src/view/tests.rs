//! Point reads over all kinds of layers. Both ends of a range over one sorted run and over several layers, in any order,
//! against a map: windows open and close.

use crate::{Database, Durability};
use std::collections::BTreeMap;
use std::ops::Bound;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn both_ends_of_a_run_meet_in_any_order() {
    let db = Database::in_memory().unwrap();
    let mut seed = 7;
    let cases = [("uniform", 0, 0), ("of all lengths", 40, 0), ("layers", 0, 3), ("all", 40, 4)];
    for (name, spread, layers) in cases {
        let items = db.keyspace(name).unwrap();
        let mut model = BTreeMap::new();
        let mut tx = db.write().unwrap();
        for number in 0..4000_u64 {
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
            let length = 20 + if spread > 0 { random(&mut seed) % spread } else { 0 };
            let mut value = vec![number as u8; length as usize];
            if spread > 0 && number % 500 == 0 {
                // Lies apart: no window yields it.
                value = vec![3; 9000];
            }
            tx.insert(&items, &key, &value).unwrap();
            model.insert(key, value);
        }
        tx.commit_with(Durability::Memory).unwrap();
        db.compact().unwrap();
        // In some places many changes, in others none; the last layer stays in memory.
        for layer in 1..=layers {
            let mut tx = db.write().unwrap();
            for _ in 0..300 {
                let at = random(&mut seed) as usize % model.len();
                let mut key = model.keys().nth(at / layer).unwrap().clone();
                if random(&mut seed).is_multiple_of(3) {
                    tx.remove(&items, &key).unwrap();
                    model.remove(&key);
                } else {
                    key.truncate(8 - random(&mut seed) as usize % 2);
                    let value = vec![layer as u8; 20];
                    tx.insert(&items, &key, &value).unwrap();
                    model.insert(key, value);
                }
            }
            tx.commit_with(Durability::Memory).unwrap();
            if layer < layers {
                db.checkpoint().unwrap();
            }
        }
        let snapshot = db.snapshot();
        for round in 0..400 {
            let mut edge = || {
                let key = random(&mut seed).to_be_bytes()[4..].to_vec();
                match random(&mut seed) % 3 {
                    0 => Bound::Unbounded,
                    1 => Bound::Included(key),
                    _ => {
                        let at = random(&mut seed) as usize % model.len();
                        Bound::Excluded(model.keys().nth(at).unwrap().clone())
                    }
                }
            };
            let bounds = (edge(), edge());
            let wrong_way = match (&bounds.0, &bounds.1) {
                (
                    Bound::Included(a) | Bound::Excluded(a),
                    Bound::Included(b) | Bound::Excluded(b),
                ) => a >= b,
                _ => false,
            };
            if wrong_way {
                continue;
            }
            let mut expected = model.range(bounds.clone());
            let mut found = snapshot.range(&items, bounds).unwrap();
            let mut left = random(&mut seed) % 300;
            let mut ends = 0;
            while left > 0 && ends < 2 {
                let from_back = round % 3 > 0 && random(&mut seed).is_multiple_of(1 + round % 7);
                let steps = 1 + random(&mut seed) % 5;
                for _ in 0..steps {
                    let (one, other) = match from_back {
                        true => (expected.next_back(), found.next_back()),
                        false => (expected.next(), found.next()),
                    };
                    let other = other.transpose().unwrap();
                    let other = other.map(|(key, value)| (key.into_vec(), value.into_vec()));
                    assert_eq!(one.map(|(key, value)| (key.clone(), value.clone())), other);
                    ends += u64::from(one.is_none());
                }
                left = left.saturating_sub(steps);
            }
        }
    }
}

/// A snapshot and what it must see.
type Seen = (crate::Snapshot, BTreeMap<Vec<u8>, Vec<u8>>);

fn assert_gets(seen: &[Seen], items: &crate::Keyspace, when: &str) {
    for (snapshot, model) in seen {
        // The second time a table knows where most lie.
        for pass in 0..2 {
            for number in 0..700_u16 {
                let key = number.to_be_bytes();
                let found = snapshot.get(items, key).unwrap();
                let expected = model.get(key.as_slice());
                assert_eq!(found.as_deref(), expected.map(Vec::as_slice), "{when} {pass} {number}");
            }
        }
    }
}

#[test]
fn a_key_is_found_in_whichever_layer_it_was_written_last() {
    for spread in [0, 7] {
        let db = Database::builder()
            .background(false)
            .file_system(std::sync::Arc::new(crate::fs::sim::SimDisk::new()));
        let db = db.open("/db").unwrap();
        // The same keys in another keyspace, before and behind.
        let before = db.keyspace("before").unwrap();
        let items = db.keyspace("items").unwrap();
        let behind = db.keyspace("behind").unwrap();
        let (mut model, mut seen, mut seed) = (BTreeMap::new(), Vec::<Seen>::new(), 11 + spread);
        for round in 0..9_u8 {
            for _ in 0..120 {
                let key = (random(&mut seed) % 600) as u16;
                let value = vec![round; 30 + (random(&mut seed) % (spread + 1)) as usize];
                let key = key.to_be_bytes().to_vec();
                if random(&mut seed).is_multiple_of(4) {
                    items.remove(&key).unwrap();
                    model.remove(&key);
                } else {
                    items.insert(&key, &value).unwrap();
                    model.insert(key.clone(), value);
                }
                before.insert(&key, "before").unwrap();
                behind.insert(&key, "behind").unwrap();
            }
            if round % 3 == 1 {
                let (from, to) = (100_u16.to_be_bytes().to_vec(), 130_u16.to_be_bytes().to_vec());
                let mut tx = db.write().unwrap();
                tx.remove_range(&items, from.clone()..to.clone()).unwrap();
                tx.commit().unwrap();
                model.retain(|key, _| *key < from || *key >= to);
            }
            seen.push((db.snapshot(), model.clone()));
            seen.drain(..seen.len().saturating_sub(3));
            assert_gets(&seen, &items, "in memory");
            match round % 3 {
                0 => db.compact().unwrap(),
                1 => drop(db.checkpoint().unwrap()),
                _ => {}
            }
            assert_gets(&seen, &items, "after it");
        }
        drop((seen, before, items, behind));
        db.close().unwrap();
    }
}
