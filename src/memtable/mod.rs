//! The ordered table in memory: many versions of each key, one writer, readers without locks.
//!
//! It takes what was committed since the last checkpoint, and it is the private write set of a
//! transaction; hence one with a single entry is cheap to make and to drop.
//!
//! ```text
//! Memtable ── directory ── keyspace ── tree ── node ── … ── record ── older record ── …
//!          │                        └─ fragments (range tombstones), a tree as well
//!          ├─ filter (over all keys, once there are some hundred)
//!          └─ arena (all nodes and records)
//! ```
//!
//! Invariants:
//!
//! 1. Seqnos are inserted in an order that does not go down. Of two versions with one seqno, the one that
//!    was inserted later counts.
//! 2. A read at a seqno sees what had been inserted at or before that seqno when it began, provided that
//!    the caller learned of the seqno after those insertions (the usual publication by an atomic or a
//!    lock). Later insertions never change what it sees at an earlier seqno.
//! 3. Reads take no lock, never wait, write nothing, and return borrowed bytes. What they borrow lives
//!    until the memtable is dropped.
//! 4. Range tombstones hide only what lies in layers below. Within the memtable the writer puts a
//!    tombstone on each key instead.
//! 5. A failed insertion changes nothing. A failed range deletion and a failed batch may have been carried out in
//!    part; what they did carries their seqno.

mod arena;
mod batch;
mod cursor;
mod directory;
mod fill;
mod filter;
mod link;
mod node;
mod pool;
mod ranges;
mod record;
mod tree;
mod walk;

#[cfg(all(test, loom))]
mod interleavings;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;

pub use batch::{Batch, NewEntry};
pub use cursor::MemtableCursor;
pub use pool::ChunkPool;
pub use tree::Prior;

use crate::cursor::RangeTombstone;
use crate::error::{Error, Result};
use crate::fs::File;
use crate::hash::key_hash;
use crate::types::{KeyspaceId, MAX_KEY_BYTES, MAX_VALUE_BYTES, Seqno};
use arena::{Arena, ArenaWriter};
use directory::{Directory, Keyspace};
use filter::Filter;
use ranges::{is_empty_range, is_past};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use walk::Walk;

/// From this number of keys on the filter pays.
const FILTER_FROM_KEYS: u64 = 512;

/// See the module.
#[derive(Debug)]
pub struct Memtable {
    directory: Directory,
    filter: Filter,
    counts: Counts,
    arena: Arena,
}

/// The right to write, for one at a time.
pub struct Writer<'a> {
    memtable: &'a Memtable,
    arena: ArenaWriter<'a>,
}

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was written.
    pub seqno: Seqno,
    /// The value; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
}

impl Memtable {
    /// An empty memtable. Takes no memory yet.
    pub fn new() -> Memtable {
        Memtable::in_arena(Arena::new(None))
    }

    /// An empty memtable with memory of earlier ones, as far as there is some.
    pub fn with_pool(pool: &Arc<ChunkPool>) -> Memtable {
        Memtable::in_arena(Arena::new(Some(pool.clone())))
    }

    fn in_arena(arena: Arena) -> Memtable {
        Memtable {
            directory: Directory::new(),
            filter: Filter::new(),
            counts: Counts::default(),
            arena,
        }
    }

    /// Becomes the writer; waits while there is another one.
    pub fn writer(&self) -> Writer<'_> {
        Writer { memtable: self, arena: self.arena.writer() }
    }

    /// Moves nearly all of its memory into a private file at the same addresses. For a memtable that is
    /// not written any more; readers notice nothing. Returns how many bytes that freed.
    pub fn move_to_file(&self, file: &dyn File) -> std::io::Result<usize> {
        self.arena.move_to_file(file)
    }

    /// The newest version of a key at or before `at`, tombstones included.
    #[inline]
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], at: Seqno) -> Option<Entry<'_>> {
        self.get_hashed(keyspace, key, key_hash(keyspace, key), at)
    }

    /// The same, with the [`key_hash`] of the key.
    #[inline]
    pub fn get_hashed(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
        at: Seqno,
    ) -> Option<Entry<'_>> {
        let record = self.record(keyspace, key, hash)?.visible(at)?;
        Some(Entry { seqno: record.seqno(), value: record.value() })
    }

    /// The seqno of the newest version of a key.
    pub fn newest(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Seqno> {
        self.record(keyspace, key, key_hash(keyspace, key)).map(|record| record.seqno())
    }

    /// Whether a key between `start` and `end` has a version later than `after`, or a range tombstone
    /// later than `after` touches that range. Looks at each key of the range, up to the first such.
    pub fn changed_in(
        &self,
        keyspace: KeyspaceId,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        after: Seqno,
    ) -> bool {
        let Some(keyspace) = self.directory.get(keyspace) else { return false };
        let mut next = match start {
            _ if is_empty_range(start, end) => return false,
            Bound::Included(key) => Walk::at_or_after(&keyspace.entries, key),
            Bound::Excluded(key) => Walk::at_or_after(&keyspace.entries, key)
                .and_then(|mut walk| (walk.record().key() != key || walk.step()).then_some(walk)),
            Bound::Unbounded => Walk::first(&keyspace.entries),
        };
        while let Some(walk) = &mut next {
            let record = walk.record();
            if is_past(record.key(), end) {
                break;
            }
            if record.seqno() > after {
                return true;
            }
            if !walk.step() {
                break;
            }
        }
        keyspace.fragments.touched(start, end, after)
    }

    /// Whether a range tombstone at or before `at` hides `key` in the layers below.
    #[inline]
    pub fn covers(&self, keyspace: KeyspaceId, key: &[u8], at: Seqno) -> bool {
        let cover = self.directory.get(keyspace).and_then(|keyspace| keyspace.fragments.cover(key));
        cover.is_some_and(|cover| cover.first <= at)
    }

    /// Whether a range tombstone later than `after` covers `key`.
    #[inline]
    pub fn covered_after(&self, keyspace: KeyspaceId, key: &[u8], after: Seqno) -> bool {
        let cover = self.directory.get(keyspace).and_then(|keyspace| keyspace.fragments.cover(key));
        cover.is_some_and(|cover| cover.last > after)
    }

    /// The range tombstones at or before `at`, joined where they overlap or meet, in ascending order.
    pub fn range_tombstones(&self, keyspace: KeyspaceId, at: Seqno) -> Vec<RangeTombstone> {
        let keyspace = self.directory.get(keyspace);
        keyspace.map_or_else(Vec::new, |keyspace| keyspace.fragments.tombstones(at))
    }

    /// Whether anything was ever written to the keyspace here.
    #[inline]
    pub fn knows(&self, keyspace: KeyspaceId) -> bool {
        self.directory.get(keyspace).is_some()
    }

    /// Whether the keyspace has range tombstones at any seqno.
    #[inline]
    pub fn has_range_tombstones(&self, keyspace: KeyspaceId) -> bool {
        self.directory.get(keyspace).is_some_and(|keyspace| !keyspace.fragments.is_empty())
    }

    /// A cursor over all keys that have a version at or before `at`, tombstones included.
    pub fn cursor(&self, keyspace: KeyspaceId, at: Seqno) -> MemtableCursor<'_> {
        let keyspace = self.directory.get(keyspace);
        MemtableCursor::new(keyspace.map(|keyspace| &keyspace.entries), at)
    }

    /// The keyspaces that have entries or range tombstones, ascending.
    pub fn keyspaces(&self) -> Vec<KeyspaceId> {
        let has_any = |keyspace: &&Keyspace| {
            keyspace.entries.root().is_some() || !keyspace.fragments.is_empty()
        };
        let mut ids: Vec<_> = self.directory.iter().filter(has_any).map(|it| it.id).collect();
        ids.sort_unstable();
        ids
    }

    /// How much [`Memtable::move_to_file`] would free at the most, in bytes.
    pub fn movable_bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// Memory taken from the system, in bytes.
    pub fn bytes(&self) -> usize {
        self.arena.bytes() + self.filter.bytes() + self.directory.bytes()
    }

    /// Whether it is as it was made: nobody ever wrote to it.
    pub fn is_untouched(&self) -> bool {
        self.is_empty() && self.arena.bytes() == 0 && self.directory.iter().next().is_none()
    }

    /// Number of versions that were inserted.
    pub fn entries(&self) -> u64 {
        self.counts.entries.load(Ordering::Relaxed)
    }

    /// Whether there are neither entries nor range tombstones.
    pub fn is_empty(&self) -> bool {
        self.entries() == 0 && self.counts.range_deletions.load(Ordering::Relaxed) == 0
    }

    #[inline]
    fn record(&self, keyspace: KeyspaceId, key: &[u8], hash: u64) -> Option<record::Record<'_>> {
        let entries = &self.directory.get(keyspace)?.entries;
        if self.filter.may_contain(hash) { entries.get(key) } else { None }
    }
}

impl Default for Memtable {
    fn default() -> Memtable {
        Memtable::new()
    }
}

impl<'a> Writer<'a> {
    /// Inserts a version of a key (`None`: a tombstone) and says what the memtable had of it before.
    pub fn insert(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        seqno: Seqno,
        value: Option<&[u8]>,
    ) -> Result<Prior> {
        check_entry(key, value)?;
        let place = self.memtable.directory.get_or_add(keyspace)?;
        self.insert_alone(place, key, None, seqno, value)
    }

    /// Inserts a version of a key of bounded length. `hash` is its [`key_hash`], if known.
    #[inline]
    fn insert_alone(
        &mut self,
        place: &'a Keyspace,
        key: &[u8],
        hash: Option<u64>,
        seqno: Seqno,
        value: Option<&[u8]>,
    ) -> Result<Prior> {
        let finger = Some(&place.finger);
        let prior = place.entries.insert(&mut self.arena, finger, key, seqno, value)?;
        Ok(self.inserted(place, key, hash, prior))
    }

    /// Counts a version, and adds a new key to the filter.
    #[inline]
    fn inserted(&self, place: &Keyspace, key: &[u8], hash: Option<u64>, prior: Prior) -> Prior {
        let Memtable { directory, filter, counts, .. } = self.memtable;
        add(&counts.entries, 1);
        if prior == Prior::Absent {
            let keys = add(&counts.keys, 1);
            if filter.is_on() {
                filter.add(hash.unwrap_or_else(|| key_hash(place.id, key)), keys - 1);
            } else if keys == FILTER_FROM_KEYS {
                filter.start(directory.iter().flat_map(Keyspace::keys));
            }
        }
        prior
    }

    /// Puts a tombstone on each key of the range that has a value here, and hides the range in all layers
    /// below.
    pub fn delete_range(
        &mut self,
        keyspace: KeyspaceId,
        tombstone: RangeTombstone,
        seqno: Seqno,
    ) -> Result<()> {
        let (start, end) = (tombstone.start.as_slice(), tombstone.end.as_deref());
        check_len("key length", start.len(), MAX_KEY_BYTES)?;
        check_len("key length", end.map_or(0, <[u8]>::len), MAX_KEY_BYTES)?;
        if end.is_some_and(|end| start >= end) {
            return Ok(());
        }
        let Memtable { directory, counts, .. } = self.memtable;
        let place = directory.get_or_add(keyspace)?;
        place.fragments.add(&mut self.arena, &tombstone, seqno)?;
        add(&counts.range_deletions, 1);
        let count = place.entries.delete_range(&mut self.arena, start, end, seqno)?;
        add(&counts.entries, count);
        Ok(())
    }
}

/// What was written, on a cache line that readers do not need.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counts {
    entries: AtomicU64,
    keys: AtomicU64,
    range_deletions: AtomicU64,
}

/// Adds to a number that only the writer changes; gives the new one.
fn add(number: &AtomicU64, more: u64) -> u64 {
    let sum = number.load(Ordering::Relaxed) + more;
    number.store(sum, Ordering::Relaxed);
    sum
}

fn check_entry(key: &[u8], value: Option<&[u8]>) -> Result<()> {
    check_len("key length", key.len(), MAX_KEY_BYTES)?;
    check_len("value length", value.map_or(0, <[u8]>::len), MAX_VALUE_BYTES)
}

fn check_len(what: &'static str, found: usize, limit: usize) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    let hint = "split it, or store a hash or a reference instead";
    Err(Error::Limit { what, found: found as u64, limit: limit as u64, hint })
}
