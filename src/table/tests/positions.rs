//! Known positions change no answer: each form of block, before and after its keys were entered.

use super::{DATABASE, MemoryFile, MemoryFs, Model, Random, path};
use crate::slice::Slice;
use crate::table::{BlockCache, Found, ReadMode, Table, TableMeta, TableOptions, key_hash};
use crate::types::KeyspaceId;
use parking_lot::Mutex;
use std::sync::Arc;

fn table(bytes: Vec<u8>, meta: &TableMeta, mode: ReadMode, resident_bytes: usize) -> Table {
    let fs = MemoryFs { file: Some(Arc::new(MemoryFile { bytes: Mutex::new(bytes) })) };
    let cache = Arc::new(BlockCache::new(0).with_resident(resident_bytes, resident_bytes));
    Table::new(Arc::new(fs), path(), DATABASE, meta.clone(), mode, cache)
}

/// Keyspaces that share their keys, with blocks of every form; blocks of more entries than have positions.
fn model() -> Model {
    let mut model = Model::default();
    let mut random = Random(9);
    for number in 0..3000_u64 {
        let key = random.bytes(24);
        model.put(1, key.clone(), random.bytes(20));
        let length = random.below(60) as usize;
        model.put(2, key.clone(), random.bytes(length));
        model.delete(3, key.clone());
        match number % 3 {
            0 => model.delete(4, key),
            _ => model.put(4, key, b"x".as_slice()),
        }
        model.put(5, (number as u16).to_be_bytes(), b"".as_slice());
    }
    model.put(6, vec![1; 9], vec![2; 70_000]);
    model
}

fn expected(value: &Option<Vec<u8>>) -> Found<'_> {
    value.as_ref().map_or(Found::Tombstone, |value| Found::Value(Slice::borrowed(value)))
}

/// What is known without a search, by either way.
fn known<'t>(table: &'t Table, keyspace: KeyspaceId, key: &[u8], hash: u64) -> Option<Found<'t>> {
    let by_shape = table.get_known(keyspace, key, hash).unwrap();
    let even = table.known_value(keyspace, key, hash);
    let even = even.map(|value| Found::Value(Slice::borrowed(value)));
    assert!(even.is_none() || even == by_shape, "{even:?}, {by_shape:?}");
    by_shape
}

/// As a run reads.
fn read<'t>(table: &'t Table, keyspace: KeyspaceId, key: &[u8]) -> Option<Found<'t>> {
    let hash = key_hash(keyspace, key);
    known(table, keyspace, key, hash).or_else(|| table.get(keyspace, key, hash).unwrap())
}

#[test]
fn positions_change_no_answer() {
    let model = model();
    for block_bytes in [256, 4096, 16 << 10] {
        let (bytes, meta) = model.build(TableOptions { block_bytes, filter: true });
        let table = table(bytes, &meta, ReadMode::Mmap, 16 << 20);
        let mut all_known = 0;
        for round in 0..3 {
            for ((keyspace, key), value) in &model.entries {
                let hash = key_hash(*keyspace, key);
                all_known +=
                    usize::from(round == 2 && known(&table, *keyspace, key, hash).is_some());
                assert_eq!(
                    read(&table, *keyspace, key),
                    Some(expected(value)),
                    "{keyspace} {key:?}"
                );
                let absent = [key.as_slice(), &[0]].concat();
                assert_eq!(read(&table, *keyspace, &absent), None);
                assert_eq!(read(&table, KeyspaceId(7), key), None);
            }
        }
        // One in a hundred finds its bucket full.
        let least = model.entries.len() * 97 / 100;
        assert!(all_known > least, "{all_known} of {}", model.entries.len());
    }
}

/// Records of 44 bytes, with keys of 24 in one keyspace and of 20 in the other: blocks of one length and two shapes.
fn even_model(keyspaces: std::ops::RangeInclusive<u32>, records: usize) -> Model {
    let mut model = Model::default();
    let mut random = Random(10);
    let mut last = random.bytes(24);
    for _ in 0..records {
        let key = random.bytes(24);
        for keyspace in keyspaces.clone() {
            // Values that begin as another key does: read with the wrong shape they could be taken for it.
            match keyspace {
                1 => model.put(1, key.clone(), &last[..20]),
                _ => model.put(keyspace, &key[..20], last.clone()),
            }
        }
        last = key;
    }
    model
}

#[test]
fn where_records_lie_is_computed_while_all_blocks_have_one_shape() {
    let options = TableOptions { block_bytes: 4096, filter: true };
    let share = |table: &Table, model: &Model| {
        let is_computed = |(keyspace, key): &&(KeyspaceId, Vec<u8>)| {
            table.known_value(*keyspace, key, key_hash(*keyspace, key)).is_some()
        };
        model.entries.keys().filter(is_computed).count() as f64 / model.entries.len() as f64
    };
    let read_all = |table: &Table, model: &Model| {
        for ((keyspace, key), value) in &model.entries {
            assert_eq!(read(table, *keyspace, key), Some(expected(value)));
        }
    };
    let one = even_model(1..=1, 3000);
    let (bytes, meta) = one.build(options);
    let even = table(bytes, &meta, ReadMode::Mmap, 16 << 20);
    assert_eq!(share(&even, &one), 0.0);
    read_all(&even, &one);
    // All but the last block.
    assert!(share(&even, &one) > 0.95, "{}", share(&even, &one));
    read_all(&even, &one);

    // With a full last block of the first keyspace those of the second go on behind it.
    let mixed = (800..1000).find(|&records| {
        let (one, both) = (even_model(1..=1, records), even_model(1..=2, records));
        let (bytes, meta) = both.build(options);
        let mixed = table(bytes, &meta, ReadMode::Mmap, 16 << 20);
        read_all(&mixed, &one);
        let before = share(&mixed, &one);
        read_all(&mixed, &both);
        read_all(&mixed, &both);
        before > 0.95 && share(&mixed, &both) == 0.0
    });
    assert!(mixed.is_some());
}

#[test]
fn what_another_keyspace_has_under_the_same_hash_is_not_found() {
    let model = model();
    let (bytes, meta) = model.build(TableOptions::default());
    let table = table(bytes, &meta, ReadMode::Mmap, 16 << 20);
    let (one, two) = (KeyspaceId(1), KeyspaceId(2));
    for _ in 0..2 {
        for ((keyspace, key), value) in model.entries.range((one, Vec::new())..(two, Vec::new())) {
            let hash = key_hash(*keyspace, key);
            assert_eq!(table.get(*keyspace, key, hash).unwrap(), Some(expected(value)));
            // As if the hash under the other keyspace were the same.
            assert_eq!(known(&table, two, key, hash), None);
        }
    }
}

#[test]
fn without_room_there_are_no_positions() {
    let model = model();
    let (bytes, meta) = model.build(TableOptions::default());
    for (mode, resident_bytes) in [(ReadMode::Mmap, 1000), (ReadMode::Pread, 16 << 20)] {
        let table = table(bytes.clone(), &meta, mode, resident_bytes);
        for _ in 0..2 {
            for ((keyspace, key), value) in &model.entries {
                let hash = key_hash(*keyspace, key);
                assert_eq!(known(&table, *keyspace, key, hash), None);
                assert_eq!(table.get(*keyspace, key, hash).unwrap(), Some(expected(value)));
            }
        }
    }
}

#[test]
fn many_threads_enter_positions_at_once() {
    let model = model();
    let (bytes, meta) = model.build(TableOptions { block_bytes: 1024, filter: false });
    let table = table(bytes, &meta, ReadMode::Mmap, 16 << 20);
    let entries: Vec<_> = model.entries.iter().collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (table, entries) = (&table, &entries);
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..60_000 {
                    let ((keyspace, key), value) =
                        entries[random.below(entries.len() as u64) as usize];
                    assert_eq!(read(table, *keyspace, key), Some(expected(value)));
                }
            });
        }
    });
}
