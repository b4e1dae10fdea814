//! What an optimistic transaction has read: keys, misses included, and the bounds of scans.
//!
//! Invariants: whatever was noted stays covered; of each keyspace no more than [`COUNT_MAX`] keys or scans and
//! [`BYTES_MAX`] bytes of either are held: beyond that the keys become one range, and the scans one over everything.

use crate::memtable::Memtable;
use crate::types::{KeyspaceId, Seqno};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Keys, or scans, of a keyspace.
const COUNT_MAX: usize = 100_000;
/// Bytes of the keys, or of the bounds of the scans, of a keyspace.
const BYTES_MAX: usize = 16 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct ReadSet(BTreeMap<KeyspaceId, Reads>);

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

#[derive(Debug, Default)]
struct Reads {
    points: BTreeSet<Vec<u8>>,
    point_bytes: usize,
    ranges: Vec<Bounds>,
    range_bytes: usize,
}

impl ReadSet {
    /// A key was looked up.
    pub fn note_point(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        let reads = self.0.entry(keyspace).or_default();
        if reads.points.contains(key) {
            return;
        }
        reads.points.insert(key.to_vec());
        reads.point_bytes += key.len();
        if reads.points.len() > COUNT_MAX || reads.point_bytes > BYTES_MAX {
            let points = std::mem::take(&mut reads.points);
            reads.point_bytes = 0;
            if let (Some(first), Some(last)) = (points.first(), points.last()) {
                reads.add_range(Bound::Included(first), Bound::Included(last));
            }
        }
    }

    /// A range was scanned, or may have been.
    pub fn note_range(&mut self, keyspace: KeyspaceId, lower: Bound<&[u8]>, upper: Bound<&[u8]>) {
        self.0.entry(keyspace).or_default().add_range(lower, upper);
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keyspaces that were read.
    pub fn keyspaces(&self) -> impl Iterator<Item = KeyspaceId> + '_ {
        self.0.keys().copied()
    }

    /// Whether something that was read was changed in this memtable after `at`.
    pub fn changed_in(&self, memtable: &Memtable, at: Seqno) -> bool {
        self.0.iter().any(|(keyspace, reads)| {
            let point = |key: &Vec<u8>| {
                memtable.newest(*keyspace, key).is_some_and(|newest| newest > at)
                    || memtable.covered_after(*keyspace, key, at)
            };
            reads.points.iter().any(point)
                || reads.ranges.iter().any(|(lower, upper)| {
                    let lower = lower.as_ref().map(Vec::as_slice);
                    let upper = upper.as_ref().map(Vec::as_slice);
                    memtable.changed_in(*keyspace, lower, upper, at)
                })
        })
    }
}

impl Reads {
    fn add_range<K: AsRef<[u8]>>(&mut self, lower: Bound<K>, upper: Bound<K>) {
        let owned = |bound: Bound<K>| bound.map(|key| key.as_ref().to_vec());
        let range = (owned(lower), owned(upper));
        if self.ranges.last() == Some(&range) {
            return;
        }
        self.range_bytes += bound_bytes(&range.0) + bound_bytes(&range.1);
        self.ranges.push(range);
        if self.ranges.len() > COUNT_MAX || self.range_bytes > BYTES_MAX {
            self.ranges = vec![(Bound::Unbounded, Bound::Unbounded)];
            self.range_bytes = 0;
        }
    }
}

fn bound_bytes(bound: &Bound<Vec<u8>>) -> usize {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => key.len(),
        Bound::Unbounded => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, COUNT_MAX, ReadSet};
    use crate::types::KeyspaceId;
    use std::ops::Bound;

    const K: KeyspaceId = KeyspaceId(1);

    fn covers(set: &ReadSet, key: &[u8]) -> bool {
        let reads = &set.0[&K];
        reads.points.contains(key)
            || reads.ranges.iter().any(|range| {
                let range = (range.0.as_ref(), range.1.as_ref());
                std::ops::RangeBounds::contains(&range, &key.to_vec())
            })
    }

    #[test]
    fn many_keys_and_large_keys_become_ranges_that_cover_them() {
        for (count, length) in [(COUNT_MAX * 2 + 5, 8), (BYTES_MAX / 60_000 * 2 + 5, 60_000)] {
            let mut set = ReadSet::default();
            let key = |n: usize| {
                let mut key = n.to_be_bytes().to_vec();
                key.resize(length, 7);
                key
            };
            for n in 0..count {
                set.note_point(K, &key(n));
                let reads = &set.0[&K];
                assert!(reads.points.len() <= COUNT_MAX && reads.point_bytes <= BYTES_MAX);
            }
            assert_eq!(set.0[&K].ranges.len(), 2);
            assert!((0..count).step_by(97).all(|n| covers(&set, &key(n))));
            assert!(!covers(&set, &key(count)));
        }
    }

    #[test]
    fn many_scans_become_one_over_everything() {
        let mut set = ReadSet::default();
        let key = |n: usize| [&n.to_be_bytes()[..], &[7; 60_000]].concat();
        for n in 0..BYTES_MAX / 120_000 - 1 {
            set.note_range(K, Bound::Included(&key(n)), Bound::Excluded(&key(n)));
        }
        assert!(set.0[&K].ranges.len() > 100);
        for n in 0..2 {
            set.note_range(K, Bound::Included(&key(n)), Bound::Unbounded);
            set.note_range(K, Bound::Excluded(&key(n)), Bound::Unbounded);
        }
        assert!(set.0[&K].ranges.len() < 5 && covers(&set, b"anything"));
    }
}
