//! What is written is what is read: gets, cursors, range tombstones, counts, in both read modes.

use super::{Model, Random, table, table_cached};
use crate::cursor::Cursor;
use crate::table::{Found, ReadMode, SectionInfo, Table, TableOptions, key_hash};
use crate::types::KeyspaceId;
use std::ops::Bound;

const MODES: [ReadMode; 2] = [ReadMode::Mmap, ReadMode::Pread];

#[test]
fn seeded_tables_read_back_in_both_modes() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let model = random_model(&mut random);
        let options = TableOptions {
            block_bytes: [128, 512, 4096, 16384][random.below(4) as usize],
            filter: random.below(2) == 0,
        };
        let (bytes, meta) = model.build(options);
        for mode in MODES {
            let cache_bytes = [0, 64 << 10, 64 << 20][random.below(3) as usize];
            let table = table_cached(bytes.clone(), &meta, mode, cache_bytes);
            verify(&table, &model, &mut random, &format!("seed {seed}, {mode:?}, {options:?}"));
        }
    }
}

#[test]
fn edges_of_lengths_read_back() {
    let mut model = Model::default();
    let mut random = Random(1);
    for length in [0, 1, 150, 8191, 8192, 8193, 65_535, 3 << 20] {
        model.put(3, format!("value of {length:08}"), random.bytes(length));
    }
    for length in [0, 1, 31, 32, 4095, 4096, 65_535] {
        model.put(4, vec![b'k'; length], b"short".as_slice());
        model.put(5, vec![b'k'; length], random.bytes(8192));
        model.put(6, vec![b'k'; length], random.bytes(8193));
        model.delete(7, vec![b'k'; length]);
    }
    // Blocks whose entry ends do not fit into two bytes.
    for last in 0..3 {
        let mut key = vec![b'x'; 65_535];
        key[65_534] = last;
        model.put(8, key.clone(), vec![last; 100 * usize::from(last)]);
    }
    for block_bytes in [128, 16 << 10, 1 << 20] {
        let (bytes, meta) = model.build(TableOptions { block_bytes, filter: true });
        for mode in MODES {
            let table = table(bytes.clone(), &meta, mode);
            verify(&table, &model, &mut random, &format!("{mode:?} {block_bytes}"));
            // 8,193 and more bytes: 3 in keyspace 3, all 7 of keyspace 6.
            assert_eq!(table.check(&mut |_| {}).unwrap().value_blocks, 10);
        }
    }
}

#[test]
fn limits_are_errors() {
    use super::{DATABASE, FILE_ID, MemoryFile, path};
    use crate::Error;
    use std::sync::Arc;
    let file = Arc::new(MemoryFile::default());
    let options = TableOptions::default();
    let mut builder = super::TableBuilder::new(file, path(), DATABASE, FILE_ID, options);
    let keyspace = KeyspaceId(2);
    let long = vec![0; 65_536];
    assert!(matches!(builder.add(keyspace, &long, None), Err(Error::Limit { .. })));
    builder.add(keyspace, b"b", Some(b"")).unwrap();
    let big = vec![0; 9000];
    for (keyspace, key, value) in
        [(2, b"b", None), (2, b"a", None), (1, b"c", None), (2, b"b", Some(big.as_slice()))]
    {
        let refused = builder.add(KeyspaceId(keyspace), key, value);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{keyspace} {key:?}");
    }
    let meta = builder.finish().unwrap();
    assert_eq!(meta.entries, 1);
}

#[test]
fn a_table_without_entries_is_legal() {
    let model = Model::default();
    let (bytes, meta) = model.build(TableOptions::default());
    for mode in MODES {
        let table = table(bytes.clone(), &meta, mode);
        verify(&table, &model, &mut Random(0), "empty");
        assert_eq!(table.sections().unwrap(), []);
    }
}

#[test]
fn new_does_no_io() {
    use super::{BlockCache, DATABASE, MemoryFs, path};
    use std::sync::Arc;
    let mut model = Model::default();
    model.put(1, "a", "b");
    let (_, meta) = model.build(TableOptions::default());
    let cache = Arc::new(BlockCache::new(0));
    let fs = Arc::new(MemoryFs { file: None });
    let table = Table::new(fs, path(), DATABASE, meta, ReadMode::Mmap, cache);
    assert!(table.index_bytes() < 1024);
    let missing = table.get(KeyspaceId(1), b"a", 0).unwrap_err();
    assert!(missing.is_damage(), "{missing}");
}

#[test]
fn the_file_is_at_most_four_and_a_half_percent_longer_than_its_records() {
    for value_bytes in [|_| 150, |position: u64| 140 + position as usize % 21] {
        let mut random = Random(9);
        let mut model = Model::default();
        let mut raw = 0;
        for position in 0..40_000 {
            let value = random.bytes(value_bytes(position));
            raw += 24 + value.len() as u64;
            model.put(1, random.bytes(24), value);
        }
        let (_, meta) = model.build(TableOptions::default());
        let ratio = meta.file_bytes as f64 / raw as f64;
        assert!(ratio <= 1.045, "{ratio}");
        println!("{ratio:.4}");
    }
}

#[test]
fn the_builder_knows_about_how_long_the_file_will_be() {
    use super::{DATABASE, FILE_ID, MemoryFile, path};
    use std::sync::Arc;
    let file = Arc::new(MemoryFile::default());
    let options = TableOptions::default();
    let mut builder = super::TableBuilder::new(file, path(), DATABASE, FILE_ID, options);
    assert!(builder.is_empty());
    for number in 0..20_000_u64 {
        builder.add(KeyspaceId(1), &number.to_be_bytes(), Some(&[1; 60])).unwrap();
    }
    let (guess, meta) = (builder.bytes() as f64, builder.finish().unwrap());
    assert!((guess / meta.file_bytes as f64 - 1.0).abs() < 0.01);
}

/// Holds everything that a table says against the model.
pub fn verify(table: &Table, model: &Model, random: &mut Random, label: &str) {
    let count = table.check(&mut |_| {}).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(count.bytes, table.meta().file_bytes, "{label}");
    assert_eq!(count.entries, model.entries.len() as u64, "{label}");
    let mut keyspaces: Vec<u32> = (0..12).collect();
    keyspaces.push(u32::MAX);
    let mut sections = Vec::new();
    for keyspace in keyspaces {
        let keyspace = KeyspaceId(keyspace);
        let keys = verify_section(table, model, keyspace, random, label);
        let ranges = verify_ranges(table, model, keyspace, random, label);
        if !keys.is_empty() || ranges > 0 {
            let deleted = |key: &&Vec<u8>| model.entries[&(keyspace, (*key).clone())].is_none();
            sections.push(SectionInfo {
                keyspace,
                entries: keys.len() as u64,
                tombstones: keys.iter().filter(deleted).count() as u64,
                range_tombstones: ranges,
                bytes: 0,
            });
        }
    }
    let mut found = table.sections().unwrap();
    found.iter_mut().for_each(|section| section.bytes = 0);
    assert_eq!(found, sections, "{label}");
}

fn verify_section(
    table: &Table,
    model: &Model,
    keyspace: KeyspaceId,
    random: &mut Random,
    label: &str,
) -> Vec<Vec<u8>> {
    let entries =
        || model.entries.range((keyspace, vec![])..).take_while(|entry| entry.0.0 == keyspace);
    let keys: Vec<Vec<u8>> = entries().map(|((_, key), _)| key.clone()).collect();
    for ((_, key), value) in entries() {
        let found = table.get(keyspace, key, key_hash(keyspace, key)).unwrap();
        let same = match (&found, value) {
            (Some(Found::Value(found)), Some(value)) => found == value,
            (Some(Found::Tombstone), None) => true,
            _ => false,
        };
        assert!(same, "{label}: get {}", key.escape_ascii());
        assert!(table.meta().may_contain(keyspace, key));
    }
    let mut probes: Vec<Vec<u8>> = (0..30).map(|_| probe(&keys, random)).collect();
    probes.extend([vec![], vec![0], vec![255; 70_000]]);
    for probe in &probes {
        let is_there = model.entries.contains_key(&(keyspace, probe.clone()));
        let found = table.get(keyspace, probe, key_hash(keyspace, probe)).unwrap();
        assert_eq!(found.is_some(), is_there, "{label}: get {}", probe.escape_ascii());
    }
    verify_cursor(table, model, keyspace, &probes, random, label);
    keys
}

/// Random moves of a cursor against a map.
fn verify_cursor(
    table: &Table,
    model: &Model,
    keyspace: KeyspaceId,
    probes: &[Vec<u8>],
    random: &mut Random,
    label: &str,
) {
    let within = |key: &Option<Vec<u8>>| key.clone();
    let at_or_after = |key: &[u8], bound: fn(Vec<u8>) -> Bound<Vec<u8>>| {
        let from = match bound(key.to_vec()) {
            Bound::Included(key) => Bound::Included((keyspace, key)),
            Bound::Excluded(key) => Bound::Excluded((keyspace, key)),
            Bound::Unbounded => Bound::Included((keyspace, vec![])),
        };
        let next = model.entries.range((from, Bound::Unbounded)).next();
        next.filter(|entry| entry.0.0 == keyspace).map(|entry| entry.0.1.clone())
    };
    let before = |key: &[u8]| {
        let to = Bound::Excluded((keyspace, key.to_vec()));
        let previous = model.entries.range((Bound::Unbounded, to)).next_back();
        previous.filter(|entry| entry.0.0 == keyspace).map(|entry| entry.0.1.clone())
    };
    let mut cursor = table.cursor(keyspace).unwrap();
    assert!(!cursor.is_valid());
    let mut expected: Option<Vec<u8>> = None;
    for step in 0..80 {
        let probe = &probes[random.below(probes.len() as u64) as usize];
        match random.below(10) {
            0 => {
                cursor.first().unwrap();
                expected = at_or_after(&[], Bound::Included);
            }
            1 => {
                cursor.last().unwrap();
                let end = Bound::Included((keyspace, vec![255; 65_536]));
                let last = model.entries.range((Bound::Unbounded, end)).next_back();
                expected =
                    last.filter(|entry| entry.0.0 == keyspace).map(|entry| entry.0.1.clone());
            }
            2 | 3 => {
                cursor.seek(probe).unwrap();
                expected = at_or_after(probe, Bound::Included);
            }
            4 | 5 => {
                cursor.seek_before(probe).unwrap();
                expected = before(probe);
            }
            6 | 7 => {
                cursor.next().unwrap();
                expected = within(&expected).and_then(|key| at_or_after(&key, Bound::Excluded));
            }
            _ => {
                cursor.prev().unwrap();
                expected = within(&expected).and_then(|key| before(&key));
            }
        }
        assert_eq!(cursor.is_valid(), expected.is_some(), "{label}: step {step}");
        if let Some(key) = &expected {
            assert_eq!(cursor.key(), key, "{label}: step {step}");
            assert_eq!(cursor.key_slice(), *key);
            let value = &model.entries[&(keyspace, key.clone())];
            assert_eq!(cursor.is_tombstone(), value.is_none(), "{label}: step {step}");
            let found = cursor.value().unwrap().map(Vec::from);
            assert_eq!(found, *value, "{label}: step {step}");
        }
    }
    let keys: Vec<&Vec<u8>> =
        model.entries.keys().filter(|entry| entry.0 == keyspace).map(|entry| &entry.1).collect();
    let mut found = Vec::new();
    cursor.first().unwrap();
    while cursor.is_valid() {
        found.push(cursor.key_slice());
        cursor.next().unwrap();
    }
    assert!(found.iter().eq(keys.iter().copied()), "{label}: forwards");
    found.clear();
    cursor.last().unwrap();
    while cursor.is_valid() {
        found.push(cursor.key_slice());
        cursor.prev().unwrap();
    }
    assert!(found.iter().eq(keys.iter().rev().copied()), "{label}: backwards");
}

fn verify_ranges(
    table: &Table,
    model: &Model,
    keyspace: KeyspaceId,
    random: &mut Random,
    label: &str,
) -> u64 {
    let given = || model.ranges.iter().filter(|range| range.0 == keyspace).map(|range| &range.1);
    let mut probes: Vec<Vec<u8>> = given().map(|range| range.start.clone()).collect();
    probes.extend(given().filter_map(|range| range.end.clone()));
    let ends = probes.clone();
    probes.extend((0..20).map(|_| probe(&ends, random)));
    for probe in probes {
        let expected = given().any(|range| range.covers(&probe));
        assert_eq!(table.covers(keyspace, &probe).unwrap(), expected, "{label}: {probe:?}");
        assert!(!expected || table.meta().may_contain(keyspace, &probe), "{label}: bounds");
    }
    let ranges = table.range_tombstones(keyspace).unwrap();
    for pair in ranges.windows(2) {
        assert!(pair[0].end.as_ref().unwrap() < &pair[1].start, "{label}");
    }
    ranges.len() as u64
}

/// A key, or one a little beside it.
fn probe(keys: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if keys.is_empty() || random.below(4) == 0 {
        let length = random.below(12) as usize;
        return random.bytes(length);
    }
    let mut key = keys[random.below(keys.len() as u64) as usize].clone();
    match random.below(5) {
        0 => key.push(random.next() as u8),
        1 => key.truncate(random.below(key.len() as u64 + 1) as usize),
        2 if !key.is_empty() => {
            let place = random.below(key.len() as u64) as usize;
            key[place] = key[place].wrapping_add([1, 255][random.below(2) as usize]);
        }
        _ => {}
    }
    key
}

pub fn random_model(random: &mut Random) -> Model {
    let mut model = Model::default();
    let shape = random.below(5);
    for _ in 0..random.below(6) {
        let keyspace = random.below(12) as u32;
        let count = [0, 1, 30, 300, 1000][random.below(5) as usize];
        for number in 0..count {
            let length = random.below(40) as usize;
            let key = match shape {
                0 => random.bytes(24),
                1 => (number as u64).to_be_bytes().to_vec(),
                2 => format!("https://example.org/a/long/path/{}", random.below(5000)).into_bytes(),
                3 => vec![0; random.below(60) as usize],
                _ => random.bytes(length),
            };
            match random.below(if shape == 0 { 40 } else { 4 }) {
                0 => model.delete(keyspace, key),
                1 => {
                    let length = [0, 10, 8192, 8193, 20_000][random.below(5) as usize];
                    model.put(keyspace, key, random.bytes(length.min(100 * number)));
                }
                _ => model.put(keyspace, key, random.bytes(30)),
            }
        }
        for _ in 0..random.below(8) {
            let bytes = |random: &mut Random| {
                let length = random.below(4) as usize;
                random.bytes(length)
            };
            let (start, end) = (bytes(random), bytes(random));
            let end = if random.below(6) == 0 { None } else { Some(end.as_slice()) };
            model.delete_range(keyspace, &start, end);
        }
    }
    model
}
