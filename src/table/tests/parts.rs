//! The small parts, each against a plain model.

use super::{Model, Random};
use crate::cursor::RangeTombstone;
use crate::table::fence::{Fences, common_prefix, separator};
use crate::table::filter::Filter;
use crate::table::{BlockCache, TableMeta, TableOptions, key_hash, ranges};
use crate::types::KeyspaceId;
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn separators_lie_between() {
    for seed in 0..crate::bytes::testing::scaled(2000) {
        let mut random = Random(seed);
        let mut key = || {
            let length = random.below(5) as usize;
            random.bytes(length).iter().map(|byte| byte % 3).collect::<Vec<u8>>()
        };
        let (a, b) = (key(), key());
        let (last, first) = if a < b { (a, b) } else { (b, a) };
        if last < first {
            let separator = separator(&last, &first);
            assert!(last.as_slice() < separator && separator <= first.as_slice(), "seed {seed}");
        }
    }
}

#[test]
fn ranks_are_those_of_a_plain_search() {
    for seed in 0..crate::bytes::testing::scaled(300) {
        let mut random = Random(seed);
        let mut set = BTreeSet::new();
        let alphabet = [2, 5, 255][random.below(3) as usize];
        let stem_bytes = random.below(30) as usize;
        let stem = random.bytes(stem_bytes);
        for _ in 0..random.below(400) {
            let mut key = stem[..stem.len().min(stem_bytes)].to_vec();
            let parts = random.below(3);
            for _ in 0..parts {
                // Long runs that many keys share, so that ties go deep.
                key.extend(vec![random.below(2) as u8; random.below(20) as usize]);
            }
            let length = random.below(14) as usize;
            key.extend(random.bytes(length).iter().map(|byte| byte % alphabet));
            set.insert(key);
        }
        let keys: Vec<Vec<u8>> = set.into_iter().collect();
        let prefix = match (keys.first(), keys.last()) {
            (Some(first), Some(last)) => first[..common_prefix(first, last)].to_vec(),
            _ => Vec::new(),
        };
        let (mut blob, mut ends) = (Vec::new(), Vec::new());
        for key in &keys {
            blob.extend_from_slice(&key[prefix.len()..]);
            ends.push(blob.len() as u32);
        }
        let fences = Fences::new(&prefix, &ends, &blob).unwrap();
        let mut probes = keys.clone();
        for key in &keys {
            let mut beside = key.clone();
            beside.push(random.below(3) as u8);
            probes.push(beside.clone());
            let place = random.below(beside.len() as u64) as usize;
            beside[place] = beside[place].wrapping_add(1);
            probes.push(beside.clone());
            beside.truncate(place);
            probes.push(beside);
        }
        probes.push(vec![]);
        probes.push(vec![255; 100]);
        for probe in probes {
            let expected = keys.partition_point(|key| *key <= probe);
            assert_eq!(fences.rank(&probe), expected, "seed {seed}, probe {probe:?}");
        }
    }
}

#[test]
fn filters_have_no_false_negatives_and_few_false_positives() {
    for count in [1_usize, 10, 1000, 100_000] {
        let hash = |number: usize| key_hash(KeyspaceId(3), &number.to_le_bytes());
        let hashes: Vec<u64> = (0..count).map(hash).collect();
        let filter = Filter::build(&hashes);
        let again = Filter::decode(&filter.encode(), filter.line_count()).unwrap();
        assert!(hashes.iter().all(|hash| again.may_contain(*hash)));
        let wrong = (0..100_000).filter(|n| again.may_contain(hash(n + 1_000_000))).count();
        assert!(wrong < 1600, "{count}: {wrong}");
    }
}

#[test]
fn joined_ranges_cover_what_the_given_ones_cover() {
    for seed in 0..crate::bytes::testing::scaled(500) {
        let mut random = Random(seed);
        let given: Vec<RangeTombstone> = (0..random.below(10))
            .map(|_| RangeTombstone {
                start: vec![random.below(16) as u8],
                end: (random.below(8) > 0).then(|| vec![random.below(16) as u8]),
            })
            .collect();
        let joined = ranges::coalesce(given.clone());
        let mut body = Vec::new();
        joined.iter().for_each(|range| ranges::encode(&mut body, range));
        let mut decoded = Vec::new();
        ranges::decode(&mut decoded, &body, joined.len() as u32).unwrap();
        assert_eq!(decoded, joined, "seed {seed}");
        for key in 0..17_u8 {
            let expected = given.iter().any(|range| range.covers(&[key]));
            assert_eq!(ranges::covers(&joined, &[key]), expected, "seed {seed} key {key}");
        }
    }
}

#[test]
fn metas_read_back_and_cut_ones_do_not() {
    let mut model = Model::default();
    model.put(1, "a", "1");
    let (_, plain) = model.build(TableOptions::default());
    model.delete_range(4, b"x", None);
    let (_, open_ended) = model.build(TableOptions::default());
    assert_eq!(open_ended.last, (KeyspaceId(4), None));
    for meta in [plain, open_ended] {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(TableMeta::decode(&mut &bytes[..length]), None);
        }
        bytes.push(99);
        let mut input = bytes.as_slice();
        assert_eq!(TableMeta::decode(&mut input), Some(meta));
        assert_eq!(input, [99]);
    }
}

#[test]
fn the_cache_keeps_to_its_bound_and_to_what_is_used() {
    let cache = BlockCache::new(16 * 1000);
    let block = |fill: u8, length| Arc::new(vec![fill; length]);
    let mut random = Random(5);
    for step in 0..crate::bytes::testing::scaled(20_000) {
        let key = (random.below(3), random.below(300) as u32);
        if let Some(found) = cache.get(key) {
            assert_eq!(found[0], (key.0 * 7 + u64::from(key.1)) as u8, "step {step}");
        } else {
            let length = 1 + random.below(300) as usize;
            cache.insert(key, &block((key.0 * 7 + u64::from(key.1)) as u8, length));
        }
        assert!(cache.used_bytes() <= 16 * 1000);
    }
    assert!(cache.used_bytes() > 8 * 1000);
    cache.insert((9, 9), &block(1, 1001));
    assert!(cache.get((9, 9)).is_none());
    let none = BlockCache::new(0);
    none.insert((1, 1), &block(1, 1));
    assert!(none.get((1, 1)).is_none());
}
