//! Insertion in two steps: finding where keys belong, which asks for the memory that they need, and inserting. What
//! waits for memory otherwise does something else meanwhile: a commit takes its place in the log, and of several entries
//! each waits for all.
//!
//! One insertion after the other waits for each node on its way down that is in no cache. A batch goes down the tree
//! level by level: each key finds its next node and asks for that, then comes the next key, and when the first is
//! looked at again its node has arrived. Then the versions are inserted one by one, in the order in which they were
//! given, each into the leaf that was found for it. A key that does not fit goes down once more.
//!
//! Where keys come in order, the keyspace's finger is on the leaf mostly, and leads there without a search; and keys of
//! a batch that ascend share their way as far as the separators allow.
//!
//! Invariant: a leaf that was found is used only while it is in the tree, and only a split takes one out. Within a batch
//! those leaves are split that turn out to be full: one that was found, which the whole batch then forgets; or, by an
//! entry without one, a leaf on which the finger was when the batch began, a leaf made since, or one that was forgotten:
//! the last two of a batch in order forget theirs, and no other comes after them.

use super::directory::Keyspace;
use super::link::Either;
use super::node::{Inner, Leaf, Node, Order};
use super::tree::insert_into;
use super::walk::Bounds;
use super::{Prior, Writer, check_entry};
use crate::error::Result;
use crate::hash::key_hash;
use crate::types::{KeyspaceId, Seqno};
use std::ptr;

/// Entries that go down together, at the most.
const BATCH: usize = 16;

/// A version to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'e> {
    pub keyspace: KeyspaceId,
    pub key: &'e [u8],
    /// `None`: a tombstone.
    pub value: Option<&'e [u8]>,
}

/// Entries of one seqno that wait for others. After an error some of them may have been inserted, and none is tried
/// again.
pub struct Batch<'w, 'm, 'e> {
    writer: &'w mut Writer<'m>,
    seqno: Seqno,
    entries: [NewEntry<'e>; BATCH],
    count: usize,
}

impl<'w, 'm, 'e> Batch<'w, 'm, 'e> {
    /// None yet.
    pub fn new(writer: &'w mut Writer<'m>, seqno: Seqno) -> Self {
        const NONE: NewEntry<'_> = NewEntry { keyspace: KeyspaceId(0), key: &[], value: None };
        Batch { writer, seqno, entries: [NONE; BATCH], count: 0 }
    }

    /// Adds an entry; inserts all if that makes them enough.
    #[inline]
    pub fn push(&mut self, entry: NewEntry<'e>) -> Result<()> {
        self.entries[self.count] = entry;
        self.count += 1;
        if self.count == BATCH { self.writer().map(drop) } else { Ok(()) }
    }

    /// Inserts all that wait; gives the writer for what must come behind them.
    pub fn writer(&mut self) -> Result<&mut Writer<'m>> {
        let count = std::mem::take(&mut self.count);
        self.writer.insert_batch(self.seqno, &self.entries[..count])?;
        Ok(self.writer)
    }

    /// Inserts all that wait.
    pub fn finish(mut self) -> Result<()> {
        self.writer().map(drop)
    }
}

/// Where a key belongs. Holds the writer, so that it still does when the key is inserted.
pub struct Aimed<'w, 'm, 'k> {
    writer: &'w mut Writer<'m>,
    place: &'m Keyspace,
    key: &'k [u8],
    /// Unless the keyspace's finger is on it.
    leaf: Option<(&'m Leaf, Bounds<'m>)>,
    /// If it is known.
    hash: Option<u64>,
}

impl Aimed<'_, '_, '_> {
    /// Inserts a version of the key.
    pub fn insert(self, seqno: Seqno, value: Option<&[u8]>) -> Result<Prior> {
        let Aimed { writer, place, key, leaf, hash } = self;
        check_entry(key, value)?;
        if let Some((leaf, bounds)) = leaf
            && let Some(prior) = insert_into(&mut writer.arena, leaf, key, seqno, value)?
        {
            place.finger.point_to(leaf, bounds, false);
            return Ok(writer.inserted(place, key, hash, prior));
        }
        writer.insert_alone(place, key, hash, seqno, value)
    }
}

/// The way of an entry of a batch.
#[derive(Clone, Copy)]
struct Way<'a> {
    place: &'a Keyspace,
    /// The next node on it; `None`: the entry is inserted as if alone.
    node: Option<Node<'a>>,
    /// If it is known.
    hash: Option<u64>,
}

impl<'a> Way<'a> {
    fn leaf(&self) -> Option<&'a Leaf> {
        match self.node? {
            Either::Left(leaf) => Some(leaf),
            Either::Right(_) => None,
        }
    }
}

impl<'m> Writer<'m> {
    /// Finds where a key belongs, and asks for the memory of that leaf.
    pub fn aim<'w, 'k>(
        &'w mut self,
        keyspace: KeyspaceId,
        key: &'k [u8],
    ) -> Result<Aimed<'w, 'm, 'k>> {
        let place = self.memtable.directory.get_or_add(keyspace)?;
        if place.finger.leaf_of(key).is_some() {
            return Ok(Aimed { writer: self, place, key, leaf: None, hash: None });
        }
        let hash = Some(self.hash_ahead(keyspace, key));
        let leaf = place.entries.leaf_for(key);
        if let Some((leaf, _)) = leaf {
            leaf.prefetch();
        }
        Ok(Aimed { writer: self, place, key, leaf, hash })
    }

    /// The hash of a key. What the filter will need of it is asked for.
    fn hash_ahead(&self, keyspace: KeyspaceId, key: &[u8]) -> u64 {
        let hash = key_hash(keyspace, key);
        self.memtable.filter.prefetch(hash);
        hash
    }

    /// Inserts versions, at most [`BATCH`], in their order.
    fn insert_batch(&mut self, seqno: Seqno, entries: &[NewEntry<'_>]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let place = self.memtable.directory.get_or_add(first.keyspace)?;
        let direction = Direction::of(entries);
        let is_on_finger = place.finger.leaf_of(first.key).is_some();
        if entries.len() == 1 || (is_on_finger && direction != Direction::None) {
            return entries.iter().try_for_each(|entry| {
                self.insert(entry.keyspace, entry.key, seqno, entry.value).map(drop)
            });
        }
        let mut ways = [Way { place, node: None, hash: None }; BATCH];
        let ways = &mut ways[..entries.len()];
        for (way, entry) in ways.iter_mut().zip(entries) {
            check_entry(entry.key, entry.value)?;
            way.place = self.memtable.directory.get_or_add(entry.keyspace)?;
            if way.place.finger.leaf_of(entry.key).is_none() {
                way.node = way.place.entries.root();
                way.hash = Some(self.hash_ahead(entry.keyspace, entry.key));
            }
        }
        descend(ways, entries, direction);
        if let [.., last_but_one, last] = &mut *ways
            && let (Some(leaf), Some(other)) = (last.leaf(), last_but_one.leaf())
            && ptr::eq(leaf, other)
            && direction != Direction::None
        {
            // Several in one leaf: alone, they put the finger on it, for the next batch.
            (last.node, last_but_one.node) = (None, None);
        }
        for (index, entry) in entries.iter().enumerate() {
            let Way { place, hash, .. } = ways[index];
            if let Some(leaf) = ways[index].leaf() {
                let arena = &mut self.arena;
                if let Some(prior) = insert_into(arena, leaf, entry.key, seqno, entry.value)? {
                    self.inserted(place, entry.key, hash, prior);
                    continue;
                }
                forget(ways, leaf);
            }
            self.insert_alone(place, entry.key, hash, seqno, entry.value)?;
        }
        Ok(())
    }
}

/// How the keys of a batch follow one another, if all are of one keyspace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
    /// Neither, or of several keyspaces.
    None,
}

impl Direction {
    fn of(entries: &[NewEntry<'_>]) -> Direction {
        // Scattered keys are found out with the first few.
        if entries.is_sorted_by(|a, b| a.keyspace == b.keyspace && a.key <= b.key) {
            Direction::Up
        } else if entries.is_sorted_by(|a, b| a.keyspace == b.keyspace && a.key >= b.key) {
            Direction::Down
        } else {
            Direction::None
        }
    }
}

/// Takes each to the leaf in which its key is or belongs.
fn descend(ways: &mut [Way<'_>], entries: &[NewEntry<'_>], direction: Direction) {
    let mut is_below = true;
    while is_below {
        is_below = false;
        let mut last: Option<(&Inner, Order, usize)> = None;
        for (way, entry) in ways.iter_mut().zip(entries) {
            let Some(Either::Right(inner)) = way.node else {
                last = None;
                continue;
            };
            let shared = last.filter(|(other, order, index)| {
                direction == Direction::Up
                    && ptr::eq(*other, inner)
                    && inner.keys.is_key_before(*order, *index, entry.key)
            });
            let (order, index) = match shared {
                Some((_, order, index)) => (order, index),
                None => {
                    let order = inner.keys.order();
                    (order, inner.keys.search(order, entry.key).child())
                }
            };
            last = Some((inner, order, index));
            let child = inner.child(order, index);
            match child {
                Either::Left(leaf) if shared.is_none() => leaf.prefetch(),
                Either::Right(inner) if shared.is_none() => inner.prefetch(),
                _ => {}
            }
            is_below |= matches!(child, Either::Right(_));
            way.node = Some(child);
        }
    }
}

/// A leaf is about to be split.
fn forget(ways: &mut [Way<'_>], split: &Leaf) {
    let leads_there = |way: &&mut Way<'_>| way.leaf().is_some_and(|leaf| ptr::eq(leaf, split));
    ways.iter_mut().filter(leads_there).for_each(|way| way.node = None);
}
