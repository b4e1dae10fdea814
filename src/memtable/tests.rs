//! Checks the memtable at its limits and out of memory; against a model (`model`); beside concurrent readers
//! (`concurrent`).

mod concurrent;
mod model;

#[cfg(not(miri))]
use super::ChunkPool;
use super::fill::{add_child, copy_leaf};
use super::filter::Filter;
use super::link::Either;
use super::node::Order;
use super::walk::Bounds;
use super::{Batch, Memtable, NewEntry, Prior, Writer};
use crate::cursor::{Cursor, RangeTombstone};
use crate::error::{Error, Result};
use crate::hash::key_hash;
use crate::types::{KeyspaceId, MAX_KEY_BYTES, Seqno};
use model::{Model, check_cursor};
use std::sync::atomic::Ordering;

const SPACE: KeyspaceId = KeyspaceId(7);

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Prints the seed if the test fails.
struct Seed(&'static str, u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {} with seed {}", self.0, self.1);
        }
    }
}

/// Inserts in two steps.
pub(super) fn aimed(writer: &mut Writer<'_>, seqno: Seqno, entry: NewEntry<'_>) -> Result<Prior> {
    writer.aim(entry.keyspace, entry.key)?.insert(seqno, entry.value)
}

/// Miri is some thousand times slower.
const fn scaled(count: u64) -> u64 {
    if cfg!(miri) { count.div_ceil(60) } else { count }
}

type Key = Vec<u8>;

/// A way to draw keys.
type KeySet = (&'static str, fn(&mut Random) -> Key);

/// Each is a different difficulty for the nodes.
const KEY_SETS: &[KeySet] = &[
    ("few bytes, many repeats", |random| {
        let len = random.below(4);
        (0..len).map(|_| [0, 1, b'a', 255][random.below(4) as usize]).collect()
    }),
    ("random", |random| (0..3).flat_map(|_| random.next().to_be_bytes()).collect()),
    ("long shared prefix", |random| {
        format!("https://www.example.com/a/{}/{}", random.below(30), random.below(40)).into_bytes()
    }),
    ("several long prefixes, cut anywhere", |random| {
        let mut key = format!(
            "{}/the/same/for/very/many/keys/{}/and/again/the/same/{:06}",
            random.below(3),
            random.below(4),
            random.below(2000)
        );
        key.truncate(key.len() - (random.below(5) * random.below(12)) as usize % key.len());
        key.into_bytes()
    }),
    ("equal heads, zeros", |random| {
        let mut key = vec![0; random.below(24) as usize];
        if let Some(last) = key.last_mut() {
            *last = random.below(3) as u8;
        }
        key
    }),
    ("numbers", |random| random.below(5000).to_be_bytes().to_vec()),
];

#[test]
fn takes_input_in_any_order() {
    let count = scaled(5000);
    let key = |number: u64, style: u64| match style {
        0 => number.to_be_bytes().to_vec(),
        1 => format!("https://www.example.com/some/path/{number:08}").into_bytes(),
        _ => format!("{:02}/a/prefix/that/changes/{number:08}", number % 10).into_bytes(),
    };
    let mut bytes = Vec::new();
    for style in 0..3 {
        for (name, order) in
            [("up", 0), ("down", 1), ("scattered", 2), ("two runs", 3), ("out from the middle", 4)]
        {
            let _seed = Seed(name, style);
            let memtable = Memtable::new();
            for step in 0..count {
                let number = match order {
                    0 => step,
                    1 => count - 1 - step,
                    2 => (step * 7919) % count,
                    3 => {
                        if step.is_multiple_of(2) {
                            step / 2
                        } else {
                            count / 2 + step / 2
                        }
                    }
                    _ => {
                        if step.is_multiple_of(2) {
                            count / 2 + step / 2
                        } else {
                            count / 2 - 1 - step / 2
                        }
                    }
                };
                let prior =
                    memtable.writer().insert(SPACE, &key(number, style), Seqno(step), Some(b"v"));
                assert_eq!(prior.unwrap(), Prior::Absent);
            }
            let mut expected: Vec<_> = (0..count).map(|number| key(number, style)).collect();
            expected.sort();
            let mut cursor = memtable.cursor(SPACE, Seqno::MAX);
            cursor.first().unwrap();
            for key in &expected {
                assert_eq!(cursor.key(), key);
                assert!(memtable.get(SPACE, key, Seqno::MAX).is_some());
                cursor.next().unwrap();
            }
            assert!(!cursor.is_valid());
            bytes.push(memtable.arena.used_bytes());
        }
    }
    // Sorted input fills nodes: less memory than for scattered input.
    assert!(bytes[0] < bytes[2] && bytes[1] < bytes[2], "{bytes:?}");
}

#[test]
fn keeps_limits() {
    let memtable = Memtable::new();
    let longest = vec![9; MAX_KEY_BYTES];
    let large = vec![5; 3 << 20];
    let mut writer = memtable.writer();
    writer.insert(SPACE, &longest, Seqno(1), Some(&large)).unwrap();
    writer.insert(SPACE, &longest[1..], Seqno(1), Some(b"")).unwrap();
    writer.insert(SPACE, b"", Seqno(1), Some(b"empty key")).unwrap();
    writer.insert(SPACE, b"\0", Seqno(1), None).unwrap();
    let too_long = vec![9; MAX_KEY_BYTES + 1];
    let outcome = writer.insert(SPACE, &too_long, Seqno(1), None);
    assert!(matches!(outcome, Err(Error::Limit { .. })));
    for (start, end) in [(&too_long, None), (&longest, Some(too_long.clone()))] {
        let range = RangeTombstone { start: start.clone(), end };
        assert!(matches!(writer.delete_range(SPACE, range, Seqno(1)), Err(Error::Limit { .. })));
    }
    drop(writer);
    let get = |key: &[u8]| memtable.get(SPACE, key, Seqno(1)).map(|entry| entry.value);
    assert_eq!(get(&longest), Some(Some(large.as_slice())));
    assert_eq!(get(&longest[1..]), Some(Some(b"".as_slice())));
    assert_eq!(get(b""), Some(Some(b"empty key".as_slice())));
    assert_eq!(get(b"\0"), Some(None));
    assert_eq!(get(&too_long), None);
    assert!(memtable.bytes() >= large.len() && memtable.bytes() < large.len() + (300 << 10));
}

#[test]
fn takes_little_memory_for_little() {
    let memtable = Memtable::new();
    assert_eq!((memtable.bytes(), memtable.entries(), memtable.is_empty()), (0, 0, true));
    memtable.writer().insert(SPACE, b"key", Seqno(1), Some(b"value")).unwrap();
    assert!(memtable.bytes() <= 2 << 10);
    assert_eq!((memtable.entries(), memtable.is_empty()), (1, false));
    let only_range = Memtable::new();
    let all = RangeTombstone { start: Vec::new(), end: None };
    only_range.writer().delete_range(SPACE, all, Seqno(1)).unwrap();
    assert_eq!((only_range.entries(), only_range.is_empty()), (0, false));
    assert_eq!(only_range.keyspaces(), [SPACE]);
}

#[test]
fn holds_many_keyspaces() {
    let memtable = Memtable::new();
    let count = scaled(700) as u32;
    let id = |number: u32| {
        KeyspaceId(number.wrapping_mul(if number.is_multiple_of(2) { 1 } else { 65_536 }))
    };
    for number in 0..count {
        memtable.writer().insert(id(number), b"k", Seqno(1), Some(&number.to_le_bytes())).unwrap();
    }
    for number in 0..count {
        let entry = memtable.get(id(number), b"k", Seqno(1)).unwrap();
        assert_eq!(entry.value, Some(number.to_le_bytes().as_slice()));
    }
    assert!(memtable.get(KeyspaceId(u32::MAX), b"k", Seqno(1)).is_none());
    let mut expected: Vec<_> = (0..count).map(id).collect();
    expected.sort();
    assert_eq!(memtable.keyspaces(), expected);
}

#[test]
fn finds_old_versions_in_long_chains() {
    let memtable = Memtable::new();
    let count = scaled(20_000);
    for number in 1..=count {
        memtable
            .writer()
            .insert(SPACE, b"k", Seqno(number * 2), Some(&number.to_le_bytes()))
            .unwrap();
    }
    assert!(memtable.get(SPACE, b"k", Seqno(1)).is_none());
    for at in 2..=count * 2 {
        let entry = memtable.get(SPACE, b"k", Seqno(at)).unwrap();
        assert_eq!(entry.seqno, Seqno(at / 2 * 2));
        assert_eq!(entry.value, Some((at / 2).to_le_bytes().as_slice()));
    }
}

#[test]
fn later_insertion_wins_at_one_seqno() {
    let memtable = Memtable::new();
    for value in [b"one", b"two"] {
        memtable.writer().insert(SPACE, b"k", Seqno(3), Some(value)).unwrap();
    }
    assert_eq!(memtable.get(SPACE, b"k", Seqno(3)).unwrap().value, Some(b"two".as_slice()));
    let held = memtable.get(SPACE, b"k", Seqno(3)).unwrap();
    memtable.writer().insert(SPACE, b"k", Seqno(3), None).unwrap();
    assert_eq!(memtable.get(SPACE, b"k", Seqno(3)).unwrap().value, None);
    assert_eq!(held.value, Some(b"two".as_slice()));
}

#[test]
fn failed_insertion_changes_nothing() {
    for (name, draw) in KEY_SETS {
        let _seed = Seed(name, 1);
        let random = &mut Random(1);
        let (memtable, mut model) = (Memtable::new(), Model::default());
        for step in 0..scaled(1500) {
            let (key, seqno) = (draw(random), Seqno(step + 1));
            // Each allocation that this insertion makes fails once.
            for fails_in in 0.. {
                memtable.arena.fails_in.store(fails_in, Ordering::Relaxed);
                let entry = NewEntry { keyspace: SPACE, key: &key, value: Some(b"value") };
                let outcome = match step % 2 {
                    0 => memtable.writer().insert(SPACE, &key, seqno, entry.value),
                    _ => aimed(&mut memtable.writer(), seqno, entry),
                };
                memtable.arena.fails_in.store(usize::MAX, Ordering::Relaxed);
                match outcome {
                    Ok(prior) => {
                        assert_eq!(prior, model.insert(SPACE, &key, seqno, Some(b"value")));
                        break;
                    }
                    Err(error) => assert!(matches!(error, Error::Io { action: "allocate", .. })),
                }
                let seen = memtable.get(SPACE, &key, Seqno::MAX).map(|entry| entry.seqno);
                assert_eq!(seen, model.get(SPACE, &key, Seqno::MAX).map(|(seqno, _)| seqno));
            }
        }
        check_cursor(&memtable, &model, SPACE, Seqno::MAX, &draw(random));
        assert_eq!(memtable.entries(), model.entries);
    }
}

#[test]
fn a_failed_batch_is_carried_out_up_to_an_entry() {
    for (name, draw) in KEY_SETS {
        let _seed = Seed(name, 2);
        let random = &mut Random(2);
        let (memtable, mut model) = (Memtable::new(), Model::default());
        let mut failed = 0;
        for step in 0..scaled(600) {
            let seqno = Seqno(step + 1);
            let mut keys: Vec<Key> = (0..random.below(17)).map(|_| draw(random)).collect();
            if random.below(2) == 0 {
                keys.sort();
            }
            memtable.arena.fails_in.store(random.below(24) as usize, Ordering::Relaxed);
            let mut writer = memtable.writer();
            let mut batch = Batch::new(&mut writer, seqno);
            let entry = |key| NewEntry { keyspace: SPACE, key, value: Some(b"value") };
            let pushed = keys.iter().try_for_each(|key| batch.push(entry(key)));
            let outcome = pushed.and_then(|()| batch.finish());
            memtable.arena.fails_in.store(usize::MAX, Ordering::Relaxed);
            drop(writer);
            let done = (memtable.entries() - model.entries) as usize;
            match outcome {
                Ok(()) => assert_eq!(done, keys.len()),
                Err(_) => failed += 1,
            }
            for key in &keys[..done] {
                model.insert(SPACE, key, seqno, Some(b"value"));
            }
            for key in &keys {
                let seen = memtable.get(SPACE, key, Seqno::MAX).map(|entry| entry.seqno);
                assert_eq!(seen, model.get(SPACE, key, Seqno::MAX).map(|(seqno, _)| seqno));
            }
        }
        assert!(cfg!(miri) || failed > 100, "{failed}");
        check_cursor(&memtable, &model, SPACE, Seqno::MAX, &draw(random));
    }
}

#[test]
fn filter_knows_all_keys_and_few_others() {
    let filter = Filter::new();
    assert!(filter.may_contain(key_hash(SPACE, b"anything")));
    let count = scaled(40_000);
    filter.start((0..0).map(|_: u64| (SPACE, b"".as_slice())));
    for number in 0..count {
        filter.add(key_hash(SPACE, &number.to_le_bytes()), number);
    }
    assert!((0..count).all(|number| filter.may_contain(key_hash(SPACE, &number.to_le_bytes()))));
    let other = (count..2 * count)
        .filter(|number| filter.may_contain(key_hash(SPACE, &number.to_le_bytes())));
    assert!(other.count() as u64 <= count / 30);
}

#[test]
fn order_inserts_at_any_place() {
    for seed in 0..50 {
        let random = &mut Random(seed);
        let (mut order, mut expected) = (Order::EMPTY, Vec::new());
        for slot in 0..15 {
            let index = random.below(slot + 1) as usize;
            order = order.insert(index);
            expected.insert(index, slot as usize);
            let slots: Vec<_> = (0..order.count()).map(|index| order.slot(index)).collect();
            assert_eq!(slots, expected);
        }
        assert!(order.is_full());
    }
}

/// What was read before a memtable moves into a file, and what is read after it, is the same; its memory
/// is free.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_memtable_moves_into_a_file_and_reads_the_same() {
    use crate::fs::{FileSystem, os::OsFileSystem};
    let dir = tempfile::tempdir().unwrap();
    let file = match OsFileSystem::new().private_file(dir.path()) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return,
        Err(error) => panic!("{error}"),
    };
    let memtable = Memtable::new();
    let key = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    for n in 0..20_000 {
        let value = vec![n as u8; 20 + (n % 300) as usize];
        memtable.writer().insert(SPACE, &key(n), Seqno(n + 1), Some(&value)).unwrap();
    }
    // One that has a chunk of its own, of no round length.
    let large = vec![7; 100_001];
    memtable.writer().insert(SPACE, b"large", Seqno(20_001), Some(&large)).unwrap();
    let at = Seqno(20_001);
    let borrowed = memtable.get(SPACE, &key(77), at).unwrap();
    let before = memtable.movable_bytes();
    let freed = memtable.move_to_file(&*file).unwrap();
    assert!(freed > 3_000_000 && memtable.movable_bytes() == before - freed, "{freed} of {before}");
    assert_eq!(memtable.move_to_file(&*file).unwrap(), 0);
    // The system may read everything again from the file.
    drop(file);
    assert_eq!(borrowed.value.unwrap(), [77; 97]);
    for n in 0..20_000 {
        let value = memtable.get(SPACE, &key(n), at).unwrap().value.unwrap();
        assert!(value.len() == 20 + (n % 300) as usize && value.iter().all(|b| *b == n as u8));
    }
    assert_eq!(memtable.get(SPACE, b"large", at).unwrap().value.unwrap(), large);
    let mut cursor = memtable.cursor(SPACE, at);
    let mut count = 0;
    cursor.first().unwrap();
    while cursor.is_valid() {
        count += 1;
        cursor.next().unwrap();
    }
    assert_eq!(count, 20_001);
}

/// Memory of one that is gone serves the next, whatever was in it, up to the limit and until the end.
#[test]
#[cfg(not(miri))]
fn memory_is_handed_on() {
    const LIMIT_BYTES: usize = 6 << 20;
    let pool = ChunkPool::new(LIMIT_BYTES);
    let key = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    let filled = |byte: u8| {
        let memtable = Memtable::with_pool(&pool);
        for n in 0..10_000_u64 {
            memtable.writer().insert(SPACE, &key(n), Seqno(n + 1), Some(&[byte; 200])).unwrap();
        }
        let large = vec![byte; 300_000 + usize::from(byte)];
        memtable.writer().insert(SPACE, b"large", Seqno(10_001), Some(&large)).unwrap();
        for n in 0..10_000 {
            assert_eq!(
                memtable.get(SPACE, &key(n), Seqno::MAX).unwrap().value,
                Some(&[byte; 200][..])
            );
        }
        assert_eq!(memtable.get(SPACE, b"large", Seqno::MAX).unwrap().value, Some(&large[..]));
        memtable
    };
    let first = filled(1);
    assert_eq!(pool.bytes(), 0);
    let bytes = first.bytes();
    drop(first);
    let kept = pool.bytes();
    assert!((bytes - (200 << 10)..=bytes).contains(&kept), "{kept} of {bytes}");
    let second = filled(9);
    assert!(second.bytes() >= bytes, "counts what it took");
    assert!(pool.bytes() < kept / 8, "{} of {kept}", pool.bytes());
    let (third, fourth) = (filled(2), filled(3));
    drop((second, third, fourth));
    assert!((LIMIT_BYTES / 2..=LIMIT_BYTES).contains(&pool.bytes()), "{}", pool.bytes());
    pool.trim(1 << 20);
    assert!((1 << 10..=1 << 20).contains(&pool.bytes()), "{}", pool.bytes());
    let last = filled(4);
    pool.end();
    drop(last);
    assert_eq!(pool.bytes(), 0);
}

/// Between the two steps that publish a split, the whole leaf is found left of its right part. Walks came
/// upon keys again, or went back.
#[test]
fn walks_in_the_middle_of_a_split_see_each_key_once() {
    let count = 300_u64;
    for middle in 1..7 {
        let (memtable, mut model) = (Memtable::new(), Model::default());
        let mut key = Vec::new();
        for number in 0..count {
            key = (number * 7919 % count).to_be_bytes().to_vec();
            memtable.writer().insert(SPACE, &key, Seqno(1), Some(b"v")).unwrap();
            model.insert(SPACE, &key, Seqno(1), Some(b"v"));
        }
        let tree = &memtable.directory.get(SPACE).unwrap().entries;
        let mut node = tree.root().unwrap();
        let inner = loop {
            let Either::Right(inner) = node else { panic!("too few keys") };
            let child = inner.child(inner.keys.order(), 0);
            match child {
                Either::Left(_) => break inner,
                Either::Right(_) => node = child,
            }
        };
        let order = inner.keys.order();
        assert!(!order.is_full());
        for index in [order.count(), 0] {
            let Either::Left(leaf) = inner.child(inner.keys.order(), index) else { panic!() };
            let leaf_order = leaf.keys.order();
            let separator = leaf.keys.record(leaf_order, middle);
            let above = Bounds { lower: Some(separator), upper: None };
            let mut arena = memtable.arena.writer();
            let right = copy_leaf(&mut arena, leaf, middle..leaf_order.count(), above).unwrap();
            add_child(inner, index, separator, Either::Left(right));
            drop(arena);
            check_cursor(&memtable, &model, SPACE, Seqno(1), &key);
            for (number, probe) in [0, count / 3, count / 2, count - 1].into_iter().enumerate() {
                let probe = (probe + number as u64).to_be_bytes();
                check_cursor(&memtable, &model, SPACE, Seqno(1), &probe);
            }
        }
    }
}
