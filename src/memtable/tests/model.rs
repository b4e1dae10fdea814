//! A model that is plainly right, and random histories that both must agree on at every seqno.

use super::{KEY_SETS, Key, Random, Seed, aimed, scaled};
use crate::cursor::{Cursor, RangeTombstone};
use crate::memtable::{Batch, Memtable, MemtableCursor, NewEntry, Prior};
use crate::types::{KeyspaceId, Seqno};
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

type Versions = Vec<(Seqno, Option<Vec<u8>>)>;

#[derive(Default)]
pub struct Model {
    keys: BTreeMap<(KeyspaceId, Key), Versions>,
    ranges: Vec<(KeyspaceId, Seqno, RangeTombstone)>,
    pub entries: u64,
}

impl Model {
    pub fn insert(
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

    pub fn get(&self, space: KeyspaceId, key: &[u8], at: Seqno) -> Option<(Seqno, Option<&[u8]>)> {
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
pub fn check_cursor(
    memtable: &Memtable,
    model: &Model,
    space: KeyspaceId,
    at: Seqno,
    probe: &[u8],
) {
    let expected = model.view(space, at);
    let mut cursor = memtable.cursor(space, at);
    assert!(!cursor.is_valid());
    let check = |cursor: &MemtableCursor<'_>, index: Option<usize>| match index {
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
            let within = |key: &[u8]| !is_empty && (start, end).contains(key);
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
        } else if random.below(8) == 0 {
            let value = vec![step as u8; random.below(60) as usize];
            let mut keys: Vec<Key> = (0..random.below(40)).map(|_| draw(random)).collect();
            let order = random.below(3);
            match order {
                0 => keys.sort(),
                1 => keys.sort_by(|a, b| b.cmp(a)),
                _ => {}
            }
            let mut entries: Vec<(KeyspaceId, Key, Option<&[u8]>)> = Vec::new();
            for key in keys {
                let other = order == 2 && random.below(9) == 0;
                let space = if other { KeyspaceId(3) } else { space };
                entries.push((space, key, (random.below(5) != 0).then_some(value.as_slice())));
            }
            let mut writer = memtable.writer();
            let mut batch = Batch::new(&mut writer, seqno);
            for (keyspace, key, value) in &entries {
                let entry = NewEntry { keyspace: *keyspace, key, value: *value };
                batch.push(entry).unwrap();
                model.insert(*keyspace, key, seqno, *value);
            }
            batch.finish().unwrap();
        } else {
            let key = draw(random);
            let value = (random.below(5) != 0).then(|| vec![step as u8; random.below(60) as usize]);
            let (mut writer, value) = (memtable.writer(), value.as_deref());
            let prior = match random.below(2) {
                0 => writer.insert(space, &key, seqno, value),
                _ => aimed(&mut writer, seqno, NewEntry { keyspace: space, key: &key, value }),
            };
            let prior = prior.unwrap();
            assert_eq!(prior, model.insert(space, &key, seqno, value));
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
        if step.is_multiple_of(steps / 8) {
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
