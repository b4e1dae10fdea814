//! One writer and two readers at a time. Readers learn a seqno from an atomic and check all that they see.

use super::{Random, SPACE, aimed};
use crate::cursor::{Cursor, RangeTombstone};
use crate::memtable::{Batch, Memtable, NewEntry};
use crate::types::Seqno;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One writer sets all keys to the number of its batch and then publishes that number; readers must find
/// exactly that number everywhere, and only the keys that the batches up to it brought.
#[test]
fn readers_see_whole_batches_beside_a_writer() {
    let (base, added_per_batch, batches) = if cfg!(miri) { (20, 7, 5) } else { (200, 7, 300) };
    let key = |number: u64, random: bool| {
        let spread = if random { number.wrapping_mul(0x9E37_79B9_7F4A_7C15) } else { number };
        [b"prefix/that/is/shared/".as_slice(), &spread.to_be_bytes()].concat()
    };
    for random in [false, true] {
        let memtable = Memtable::new();
        let (published, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let keys_at = |batch: u64| if batch == 0 { 0 } else { base + batch * added_per_batch };
        let check = |rng: &mut Random| {
            let batch = published.load(Ordering::Acquire);
            let count = keys_at(batch);
            let mut cursor = memtable.cursor(SPACE, Seqno(batch));
            let mut seen = 0;
            let upwards = rng.below(2) == 0;
            if upwards {
                cursor.first().unwrap()
            } else {
                cursor.last().unwrap()
            }
            let mut last: Option<Vec<u8>> = None;
            while cursor.is_valid() {
                assert_eq!(cursor.value().unwrap().unwrap().as_bytes(), batch.to_le_bytes());
                if let Some(last) = &last {
                    assert_eq!(last.as_slice() < cursor.key(), upwards);
                }
                last = Some(cursor.key().to_vec());
                seen += 1;
                if upwards { cursor.next().unwrap() } else { cursor.prev().unwrap() }
            }
            assert_eq!(seen, count, "keys by cursor at batch {batch}");
            for _ in 0..200.min(count) {
                let number = rng.below(count);
                let entry = memtable.get(SPACE, &key(number, random), Seqno(batch)).unwrap();
                assert_eq!(entry.value, Some(batch.to_le_bytes().as_slice()));
            }
            assert!(memtable.get(SPACE, &key(count, random), Seqno(batch)).is_none());
        };
        std::thread::scope(|scope| {
            let readers = [0, 1].map(|seed| {
                let (check, done) = (&check, &done);
                scope.spawn(move || {
                    let rng = &mut Random(seed);
                    while !done.load(Ordering::Acquire) {
                        check(rng);
                    }
                    check(rng);
                })
            });
            for batch in 1..=batches {
                let (mut writer, value) = (memtable.writer(), u64::to_le_bytes(batch));
                let keys: Vec<_> = (0..keys_at(batch)).map(|number| key(number, random)).collect();
                let entries = keys.iter().map(|key| NewEntry {
                    keyspace: SPACE,
                    key,
                    value: Some(value.as_slice()),
                });
                match batch % 3 {
                    0 => entries.for_each(|it| {
                        writer.insert(it.keyspace, it.key, Seqno(batch), it.value).unwrap();
                    }),
                    1 => {
                        let mut together = Batch::new(&mut writer, Seqno(batch));
                        entries.for_each(|entry| together.push(entry).unwrap());
                        together.finish().unwrap();
                    }
                    _ => entries.for_each(|entry| {
                        aimed(&mut writer, Seqno(batch), entry).unwrap();
                    }),
                }
                drop(writer);
                published.store(batch, Ordering::Release);
            }
            done.store(true, Ordering::Release);
            join(readers);
        });
    }
}

/// Growth without rewrites, so that splits happen beside readers all the time.
#[test]
fn readers_miss_nothing_while_nodes_split() {
    let count = if cfg!(miri) { 100 } else { 60_000 };
    for style in 0..3u64 {
        let key = |number: u64| match style {
            0 => number.to_be_bytes(),
            1 => (count - number).to_be_bytes(),
            _ => number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes(),
        };
        let memtable = Memtable::new();
        let published = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let readers = [0, 1].map(|seed| {
                let (memtable, published) = (&memtable, &published);
                scope.spawn(move || {
                    let rng = &mut Random(seed);
                    loop {
                        let last = published.load(Ordering::Acquire);
                        for _ in 0..20.min(last) {
                            let number = rng.below(last) + 1;
                            let entry = memtable.get(SPACE, &key(number), Seqno(last));
                            assert_eq!(entry.map(|entry| entry.seqno), Some(Seqno(number)));
                            let mut cursor = memtable.cursor(SPACE, Seqno(last));
                            cursor.seek(&key(number)).unwrap();
                            assert_eq!(cursor.key(), key(number));
                            assert_eq!(cursor.seqno(), Seqno(number));
                        }
                        if last == count {
                            break;
                        }
                    }
                })
            });
            for number in 1..=count {
                let key = &key(number);
                let entry = NewEntry { keyspace: SPACE, key, value: Some(b"v") };
                aimed(&mut memtable.writer(), Seqno(number), entry).unwrap();
                published.store(number, Ordering::Release);
            }
            join(readers);
        });
    }
}

/// Range deletions beside readers: each seqno has its own, exact picture.
#[test]
fn readers_see_whole_range_deletions() {
    let (count, rounds) = if cfg!(miri) { (20, 4) } else { (500, 400) };
    let memtable = Memtable::new();
    let published = AtomicU64::new(0);
    let key = |number: u64| (number * 3).to_be_bytes();
    std::thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            scope.spawn(|| {
                loop {
                    let at = published.load(Ordering::Acquire);
                    // Odd seqnos fill, even ones delete the first half.
                    let mut cursor = memtable.cursor(SPACE, Seqno(at));
                    cursor.first().unwrap();
                    for number in 0..if at == 0 { 0 } else { count } {
                        assert_eq!(cursor.key(), key(number));
                        let is_deleted = at.is_multiple_of(2) && number < count / 2;
                        assert_eq!(cursor.is_tombstone(), is_deleted);
                        cursor.next().unwrap();
                    }
                    assert_eq!(memtable.covers(SPACE, &key(0), Seqno(at)), at >= 2);
                    assert!(!memtable.covers(SPACE, &key(count / 2), Seqno(at)));
                    if at == rounds * 2 {
                        break;
                    }
                }
            })
        });
        for round in 0..rounds {
            let (fill, delete) = (round * 2 + 1, round * 2 + 2);
            for number in 0..count {
                memtable.writer().insert(SPACE, &key(number), Seqno(fill), Some(b"v")).unwrap();
            }
            published.store(fill, Ordering::Release);
            let half = key(count / 2).to_vec();
            let range = RangeTombstone { start: Vec::new(), end: Some(half) };
            memtable.writer().delete_range(SPACE, range, Seqno(delete)).unwrap();
            published.store(delete, Ordering::Release);
        }
        join(readers);
    });
}

/// Joins one by one: the thread sanitizer knows of this, not of the end of a scope.
fn join(readers: [std::thread::ScopedJoinHandle<'_, ()>; 2]) {
    for reader in readers {
        reader.join().unwrap();
    }
}
