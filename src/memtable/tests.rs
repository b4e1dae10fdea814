//! Checks the memtable against a model, at its limits, out of memory, and beside concurrent readers.

use super::filter::Filter;
use super::node::Order;
use super::{Memtable, Prior};
use crate::cursor::{Cursor, RangeTombstone};
use crate::error::Error;
use crate::types::{KeyspaceId, MAX_KEY_BYTES, Seqno};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// Miri is some thousand times slower.
const fn scaled(count: u64) -> u64 {
    if cfg!(miri) { count.div_ceil(25) } else { count }
}

type Key = Vec<u8>;

/// How keys are drawn. Each is a different difficulty for the nodes.
const KEY_SETS: &[(&str, fn(&mut Random) -> Key)] = &[
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

type Versions = Vec<(Seqno, Option<Vec<u8>>)>;

#[derive(Default)]
struct Model {
    keys: BTreeMap<(KeyspaceId, Key), Versions>,
    ranges: Vec<(KeyspaceId, Seqno, RangeTombstone)>,
    entries: u64,
}

impl Model {
    fn insert(
        &mut self,
        space: KeyspaceId,
        key: &[u8],
        seqno: Seqno,
        value: Option<&[u8]>,
    ) -> Prior {
        let versions = self.keys.entry((space, key.to_vec())).or_default();
        let prior = versions.last().map_or(Prior::Absent, |(_, value)| prior_of(value));
        versions.push((seqno, value.map(<[u8]>::to_vec)));
        self.entries += 1;
        prior
    }

    fn delete_range(&mut self, space: KeyspaceId, range: &RangeTombstone, seqno: Seqno) {
        for ((other, key), versions) in &mut self.keys {
            let is_live = versions.last().is_some_and(|(_, value)| value.is_some());
            if *other == space && range.covers(key) && is_live {
                versions.push((seqno, None));
                self.entries += 1;
            }
        }
        if range.end.as_ref().is_none_or(|end| &range.start < end) {
            self.ranges.push((space, seqno, range.clone()));
        }
    }

    fn get(&self, space: KeyspaceId, key: &[u8], at: Seqno) -> Option<(Seqno, Option<&[u8]>)> {
        visible(self.keys.get(&(space, key.to_vec()))?, at)
    }

    fn view(&self, space: KeyspaceId, at: Seqno) -> Vec<(&[u8], Option<&[u8]>)> {
        let of_space = self.keys.iter().filter(|((other, _), _)| *other == space);
        let entries = of_space.map(|((_, key), versions)| (key.as_slice(), visible(versions, at)));
        entries.filter_map(|(key, seen)| Some((key, seen?.1))).collect()
    }
}

fn prior_of(value: &Option<Vec<u8>>) -> Prior {
    if value.is_some() { Prior::Live } else { Prior::Tombstone }
}

fn visible(versions: &Versions, at: Seqno) -> Option<(Seqno, Option<&[u8]>)> {
    let newest = versions.iter().rev().find(|(seqno, _)| *seqno <= at);
    newest.map(|(seqno, value)| (*seqno, value.as_deref()))
}

/// Walks both ways and compares each step.
fn check_cursor(memtable: &Memtable, model: &Model, space: KeyspaceId, at: Seqno, probe: &[u8]) {
    let expected = model.view(space, at);
    let mut cursor = memtable.cursor(space, at);
    assert!(!cursor.is_valid());
    let check = |cursor: &super::MemtableCursor<'_>, index: Option<usize>| match index {
        Some(index) if index < expected.len() => {
            assert!(cursor.is_valid(), "the walk ended before entry {index}");
            assert_eq!(cursor.key(), expected[index].0);
            assert_eq!(cursor.key_slice().as_bytes(), expected[index].0);
            let value = cursor.value().unwrap();
            assert_eq!(value.as_deref(), expected[index].1);
            assert_eq!(cursor.is_tombstone(), expected[index].1.is_none());
        }
        _ => assert!(!cursor.is_valid()),
    };
    cursor.first().unwrap();
    for index in 0..expected.len() {
        check(&cursor, Some(index));
        cursor.next().unwrap();
    }
    check(&cursor, None);
    cursor.last().unwrap();
    for index in (0..expected.len()).rev() {
        check(&cursor, Some(index));
        cursor.prev().unwrap();
    }
    check(&cursor, None);
    let place = expected.partition_point(|(key, _)| *key < probe);
    cursor.seek(probe).unwrap();
    check(&cursor, Some(place));
    if cursor.is_valid() {
        cursor.prev().unwrap();
        check(&cursor, place.checked_sub(1));
    }
    cursor.seek_before(probe).unwrap();
    check(&cursor, place.checked_sub(1));
    if cursor.is_valid() {
        cursor.next().unwrap();
        check(&cursor, Some(place));
    }
}

fn check_ranges(memtable: &Memtable, model: &Model, space: KeyspaceId, at: Seqno, key: &[u8]) {
    let covering = |wanted: &dyn Fn(Seqno) -> bool| {
        let mut ranges = model.ranges.iter();
        ranges.any(|(other, seqno, range)| *other == space && wanted(*seqno) && range.covers(key))
    };
    assert_eq!(memtable.covers(space, key, at), covering(&|seqno| seqno <= at));
    assert_eq!(memtable.covered_after(space, key, at), covering(&|seqno| seqno > at));
    let joined = memtable.range_tombstones(space, at);
    assert_eq!(joined.iter().any(|range| range.covers(key)), covering(&|seqno| seqno <= at));
    for pair in joined.windows(2) {
        assert!(pair[0].end.as_ref().is_some_and(|end| *end < pair[1].start));
    }
    let any = model.ranges.iter().any(|(other, ..)| *other == space);
    assert_eq!(memtable.has_range_tombstones(space), any);
}

fn check_changed(
    memtable: &Memtable,
    model: &Model,
    space: KeyspaceId,
    after: Seqno,
    a: &[u8],
    b: &[u8],
) {
    for start in [Bound::Included(a), Bound::Excluded(a), Bound::Unbounded] {
        for end in [Bound::Included(b), Bound::Excluded(b), Bound::Unbounded] {
            let is_empty = match (start, end) {
                (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
                (Bound::Included(_), Bound::Included(_)) => a > b,
                _ => a >= b,
            };
            let within = |key: &[u8]| {
                use std::ops::RangeBounds;
                !is_empty && (start, end).contains(key)
            };
            let version = model.keys.iter().any(|((other, key), versions)| {
                *other == space && within(key) && versions.last().unwrap().0 > after
            });
            // An excluded start counts as included for range tombstones.
            let touching = model.ranges.iter().any(|(other, seqno, range)| {
                let begins_early = start == Bound::Unbounded || range.covers(a);
                let within_start =
                    within(&range.start) || (start == Bound::Excluded(a) && range.start == a);
                let starts_below = matches!(end, Bound::Unbounded)
                    || matches!(end, Bound::Included(b) if range.start.as_slice() <= b)
                    || matches!(end, Bound::Excluded(b) if range.start.as_slice() < b);
                let touches = match start {
                    Bound::Unbounded => starts_below,
                    _ => begins_early || within_start,
                };
                *other == space && *seqno > after && !is_empty && touches
            });
            let changed = memtable.changed_in(space, start, end, after);
            assert_eq!(changed, version || touching, "{start:?} to {end:?} after {after:?}");
        }
    }
}

fn run_model(draw: fn(&mut Random) -> Key, seed: u64, steps: u64, with_ranges: bool) {
    let random = &mut Random(seed);
    let (memtable, mut model) = (Memtable::new(), Model::default());
    let mut seqno = Seqno(1);
    for step in 0..steps {
        let space = KeyspaceId(random.below(3) as u32);
        seqno = Seqno(seqno.0 + random.below(2));
        if with_ranges && random.below(25) == 0 {
            let end = (random.below(8) != 0).then(|| draw(random));
            let range = RangeTombstone { start: draw(random), end };
            model.delete_range(space, &range, seqno);
            memtable.writer().delete_range(space, range, seqno).unwrap();
        } else {
            let key = draw(random);
            let value = (random.below(5) != 0).then(|| vec![step as u8; random.below(60) as usize]);
            let prior = memtable.writer().insert(space, &key, seqno, value.as_deref()).unwrap();
            assert_eq!(prior, model.insert(space, &key, seqno, value.as_deref()));
        }
        let (key, at) = (draw(random), Seqno(random.below(seqno.0 + 2)));
        let seen = memtable.get(space, &key, at).map(|entry| (entry.seqno, entry.value));
        assert_eq!(seen, model.get(space, &key, at));
        let newest = model.get(space, &key, Seqno::MAX).map(|(seqno, _)| seqno);
        assert_eq!(memtable.newest(space, &key), newest);
        if with_ranges {
            check_ranges(&memtable, &model, space, at, &key);
            check_changed(&memtable, &model, space, at, &key, &draw(random));
        }
        if step % (steps / 8) == 0 {
            check_cursor(&memtable, &model, space, at, &key);
        }
    }
    for ((space, key), versions) in &model.keys {
        for (at, _) in versions {
            let seen = memtable.get(*space, key, *at).map(|entry| (entry.seqno, entry.value));
            assert_eq!(seen, visible(versions, *at));
        }
    }
    for space in (0..4).map(KeyspaceId) {
        check_cursor(&memtable, &model, space, Seqno::MAX, &draw(random));
        check_cursor(&memtable, &model, space, Seqno(seqno.0 / 2), &draw(random));
    }
    assert_eq!(memtable.entries(), model.entries);
}

#[test]
fn agrees_with_the_model() {
    for (name, draw) in KEY_SETS {
        for seed in 0..if cfg!(miri) { 1 } else { 3 } {
            let _seed = Seed(name, seed);
            run_model(*draw, seed, scaled(4000), false);
        }
    }
}

#[test]
fn range_deletions_agree_with_the_model() {
    for (name, draw) in KEY_SETS {
        for seed in 0..if cfg!(miri) { 1 } else { 4 } {
            let _seed = Seed(name, seed);
            run_model(*draw, seed, scaled(500), true);
        }
    }
}

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
                        if step % 2 == 0 {
                            step / 2
                        } else {
                            count / 2 + step / 2
                        }
                    }
                    _ => {
                        if step % 2 == 0 {
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
    let id =
        |number: u32| KeyspaceId(number.wrapping_mul(if number % 2 == 0 { 1 } else { 65_536 }));
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
                let outcome = memtable.writer().insert(SPACE, &key, seqno, Some(b"value"));
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
fn filter_knows_all_keys_and_few_others() {
    let filter = Filter::new();
    assert!(filter.may_contain(SPACE, b"anything"));
    let count = scaled(40_000);
    filter.start((0..0).map(|_: u64| (SPACE, b"".as_slice())));
    for number in 0..count {
        filter.add(SPACE, &number.to_le_bytes(), number);
    }
    assert!((0..count).all(|number| filter.may_contain(SPACE, &number.to_le_bytes())));
    let other =
        (count..2 * count).filter(|number| filter.may_contain(SPACE, &number.to_le_bytes()));
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

/// One writer sets all keys to the number of its batch and then publishes that number; readers must find
/// exactly that number everywhere, and only the keys that the batches up to it brought.
#[test]
fn readers_see_whole_batches_beside_a_writer() {
    let (base, added_per_batch, batches) = (scaled(200), 7, scaled(300));
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
            for seed in 0..2 {
                let (check, done) = (&check, &done);
                scope.spawn(move || {
                    let rng = &mut Random(seed);
                    while !done.load(Ordering::Acquire) {
                        check(rng);
                    }
                    check(rng);
                });
            }
            for batch in 1..=batches {
                let mut writer = memtable.writer();
                for number in 0..keys_at(batch) {
                    let value = batch.to_le_bytes();
                    writer.insert(SPACE, &key(number, random), Seqno(batch), Some(&value)).unwrap();
                }
                drop(writer);
                published.store(batch, Ordering::Release);
            }
            done.store(true, Ordering::Release);
        });
    }
}

/// Growth without rewrites, so that splits happen beside readers all the time.
#[test]
fn readers_miss_nothing_while_nodes_split() {
    let count = scaled(60_000);
    for style in 0..3u64 {
        let key = |number: u64| match style {
            0 => number.to_be_bytes(),
            1 => (count - number).to_be_bytes(),
            _ => number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes(),
        };
        let memtable = Memtable::new();
        let published = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 0..2 {
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
                });
            }
            for number in 1..=count {
                memtable.writer().insert(SPACE, &key(number), Seqno(number), Some(b"v")).unwrap();
                published.store(number, Ordering::Release);
            }
        });
    }
}

/// Range deletions beside readers: each seqno has its own, exact picture.
#[test]
fn readers_see_whole_range_deletions() {
    let (count, rounds) = (scaled(500), scaled(400));
    let memtable = Memtable::new();
    let published = AtomicU64::new(0);
    let key = |number: u64| (number * 3).to_be_bytes();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = published.load(Ordering::Acquire);
                    // Odd seqnos fill, even ones delete the first half.
                    let mut cursor = memtable.cursor(SPACE, Seqno(at));
                    cursor.first().unwrap();
                    for number in 0..if at == 0 { 0 } else { count } {
                        assert_eq!(cursor.key(), key(number));
                        let is_deleted = at % 2 == 0 && number < count / 2;
                        assert_eq!(cursor.is_tombstone(), is_deleted);
                        cursor.next().unwrap();
                    }
                    assert_eq!(memtable.covers(SPACE, &key(0), Seqno(at)), at >= 2);
                    assert!(!memtable.covers(SPACE, &key(count / 2), Seqno(at)));
                    if at == rounds * 2 {
                        break;
                    }
                }
            });
        }
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
    });
}
