//! Resident heads change no answer: each form of block, with and without them, first and second touch.

use super::{DATABASE, MemoryFile, MemoryFs, Model, Random, path};
use crate::cursor::Cursor;
use crate::table::{BlockCache, Found, ReadMode, Table, TableMeta, TableOptions, key_hash};
use crate::types::KeyspaceId;
use parking_lot::Mutex;
use std::sync::Arc;

fn table(bytes: Vec<u8>, meta: &TableMeta, heads_bytes: usize) -> Table {
    let fs = MemoryFs { file: Some(Arc::new(MemoryFile { bytes: Mutex::new(bytes) })) };
    let cache = Arc::new(BlockCache::new(0).with_resident(heads_bytes, heads_bytes));
    Table::new(Arc::new(fs), path(), DATABASE, meta.clone(), ReadMode::Mmap, cache)
}

/// Keyspaces with blocks of every form; long blocks of tiny entries whose fingerprints find no room; equal
/// heads, long shared prefixes and evenly spread keys.
fn model() -> Model {
    let mut model = Model::default();
    let mut random = Random(5);
    for number in 0..3000_u64 {
        model.put(1, random.bytes(24), random.bytes(20));
        let length = random.below(40) as usize;
        model.put(2, random.bytes(length), random.bytes(length / 2));
        model.delete(3, number.to_be_bytes());
        model.put(4, format!("https://example.org/some/long/path/{number:06}"), b"x".as_slice());
        if number % 3 == 0 {
            model.delete(5, random.bytes(9));
        } else {
            model.put(5, random.bytes(9), b"".as_slice());
        }
    }
    model.put(6, vec![1; 9], vec![2; 70_000]);
    model
}

#[test]
fn heads_change_no_answer() {
    let model = model();
    let mut random = Random(6);
    let mut with_heads = 0;
    for block_bytes in [256, 4096, 16 << 10, 100 << 10] {
        let (bytes, meta) = model.build(TableOptions { block_bytes, filter: false });
        let plain = table(bytes.clone(), &meta, 0);
        let headed = table(bytes, &meta, 16 << 20);
        for round in 0..2 {
            for ((keyspace, key), value) in &model.entries {
                let absent = match random.below(3) {
                    0 => [key.as_slice(), &[0]].concat(),
                    1 => key[..key.len() / 2].to_vec(),
                    _ => random.bytes(key.len()),
                };
                let expected = match value {
                    Some(value) => Found::Value(crate::slice::Slice::borrowed(value)),
                    None => Found::Tombstone,
                };
                let found = headed.get(*keyspace, key, key_hash(*keyspace, key)).unwrap();
                assert_eq!(found, Some(expected), "{block_bytes} {round} {keyspace} {key:?}");
                for probe in [key, &absent] {
                    let hash = key_hash(*keyspace, probe);
                    let answer = |table: &Table| {
                        table.get(*keyspace, probe, hash).unwrap().map(|found| format!("{found:?}"))
                    };
                    assert_eq!(
                        answer(&headed),
                        answer(&plain),
                        "{block_bytes} {keyspace} {probe:?}"
                    );
                    let seek = |table: &Table, before: bool| seek(table, *keyspace, probe, before);
                    assert_eq!(seek(&headed, false), seek(&plain, false), "{keyspace} {probe:?}");
                    assert_eq!(seek(&headed, true), seek(&plain, true), "{keyspace} {probe:?}");
                    let expected = model.entries.range((*keyspace, probe.clone())..).next();
                    let expected = expected.filter(|((found, _), _)| found == keyspace);
                    assert_eq!(
                        seek(&headed, false).as_deref(),
                        expected.map(|((_, key), _)| key.as_slice())
                    );
                }
            }
        }
        with_heads += usize::from(headed.index_bytes() > plain.index_bytes());
    }
    assert_eq!(with_heads, 4, "the tables had room for their heads");
}

fn seek(table: &Table, keyspace: KeyspaceId, key: &[u8], before: bool) -> Option<Vec<u8>> {
    let mut cursor = table.cursor(keyspace).unwrap();
    match before {
        true => cursor.seek_before(key).unwrap(),
        false => cursor.seek(key).unwrap(),
    }
    cursor.is_valid().then(|| cursor.key().to_vec())
}
