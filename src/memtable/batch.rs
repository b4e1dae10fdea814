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
use super::walk::Bounds;
use super::{Prior, Writer, check_entry};
use crate::error::Result;
use crate::hash::key_hash;
use crate::types::{KeyspaceId, Seqno};
use std::ptr;

/// Entries that go down together, at the most: some more than the processor has misses under way at a time.
pub const BATCH: usize = 16;

/// A version to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'e> {
    pub keyspace: KeyspaceId,
    pub key: &'e [u8],
    /// `None`: a tombstone.
    pub value: Option<&'e [u8]>,
}

/// Entries that wait for others.
#[derive(Debug)]
pub struct Batch<'e> {
    entries: [NewEntry<'e>; BATCH],
    count: usize,
}

impl<'e> Batch<'e> {
    /// None yet.
    pub const fn new() -> Batch<'e> {
        const NONE: NewEntry<'_> = NewEntry { keyspace: KeyspaceId(0), key: &[], value: None };
        Batch { entries: [NONE; BATCH], count: 0 }
    }

    /// Adds an entry; inserts all if that makes them enough.
    #[inline]
    pub fn push(
        &mut self,
        writer: &mut Writer<'_>,
        seqno: Seqno,
        entry: NewEntry<'e>,
    ) -> Result<()> {
        self.entries[self.count] = entry;
        self.count += 1;
        if self.count == BATCH { self.insert(writer, seqno) } else { Ok(()) }
    }

    /// Inserts what is left.
    pub fn insert(&mut self, writer: &mut Writer<'_>, seqno: Seqno) -> Result<()> {
        let count = std::mem::take(&mut self.count);
        writer.insert_batch(seqno, &self.entries[..count])
    }
}

/// Where an entry of a batch belongs.
#[derive(Clone, Copy)]
struct Target<'a> {
    place: &'a Keyspace,
    /// The next node on its way; `None`: it is inserted as if alone.
    node: Option<Node<'a>>,
    /// If it is known.
    hash: Option<u64>,
}

impl<'a> Target<'a> {
    fn leaf(&self) -> Option<&'a Leaf> {
        match self.node? {
            Either::Left(leaf) => Some(leaf),
            Either::Right(_) => None,
        }
    }
}

/// Where a key belongs, for the next insertion.
#[derive(Clone, Copy)]
pub struct Aimed<'a> {
    place: &'a Keyspace,
    /// Unless the keyspace's finger is on it.
    leaf: Option<(&'a Leaf, Bounds<'a>)>,
    /// If it is known.
    hash: Option<u64>,
}

impl<'a> Writer<'a> {
    /// Finds where a key belongs, and asks for the memory of that leaf.
    pub fn aim(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Aimed<'a>> {
        let place = self.memtable.directory.get_or_add(keyspace)?;
        if place.finger.leaf_of(key).is_some() {
            return Ok(Aimed { place, leaf: None, hash: None });
        }
        let hash = self.hash(keyspace, key);
        let (mut node, mut bounds) = (place.entries.root(), Bounds::default());
        while let Some(Either::Right(inner)) = node {
            inner.keys.prefetch_records();
            inner.prefetch_children();
            let order = inner.keys.order();
            let index = inner.keys.search(order, key).child();
            bounds = bounds.of_child(inner, order, index);
            node = Some(inner.child(order, index));
        }
        let leaf = match node {
            Some(Either::Left(leaf)) => {
                leaf.prefetch();
                Some((leaf, bounds))
            }
            _ => None,
        };
        Ok(Aimed { place, leaf, hash })
    }

    /// Inserts a version of the key at which was aimed, with the same writer and nothing inserted since.
    pub fn insert_aimed(
        &mut self,
        aimed: Aimed<'a>,
        key: &[u8],
        seqno: Seqno,
        value: Option<&[u8]>,
    ) -> Result<Prior> {
        check_entry(key, value)?;
        let Aimed { place, leaf, hash } = aimed;
        let fitting = match leaf {
            Some((leaf, bounds)) => {
                let arena = &mut self.arena;
                place.entries.insert_into(arena, leaf, key, seqno, value)?.inspect(|_| {
                    place.finger.point_to(leaf, bounds, false);
                })
            }
            None => None,
        };
        match fitting {
            Some(prior) => Ok(self.inserted(place, key, hash, prior)),
            None => self.insert_alone(place, key, hash, seqno, value),
        }
    }

    /// The hash of a key. What the filter will need of it is asked for.
    fn hash(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<u64> {
        let hash = key_hash(keyspace, key);
        self.memtable.filter.prefetch(hash);
        Some(hash)
    }

    /// Inserts versions, at most [`BATCH`], in their order.
    fn insert_batch(&mut self, seqno: Seqno, entries: &[NewEntry<'_>]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let place = self.memtable.directory.get_or_add(first.keyspace)?;
        let order = KeyOrder::of(entries);
        let is_on_finger = place.finger.leaf_of(first.key).is_some();
        if entries.len() == 1 || (is_on_finger && order != KeyOrder::None) {
            return entries.iter().try_for_each(|entry| {
                self.insert(entry.keyspace, entry.key, seqno, entry.value).map(drop)
            });
        }
        let mut targets = [Target { place, node: None, hash: None }; BATCH];
        let targets = &mut targets[..entries.len()];
        for (target, entry) in targets.iter_mut().zip(entries) {
            check_entry(entry.key, entry.value)?;
            target.place = self.memtable.directory.get_or_add(entry.keyspace)?;
            if target.place.finger.leaf_of(entry.key).is_none() {
                target.node = target.place.entries.root();
                target.hash = self.hash(entry.keyspace, entry.key);
            }
        }
        descend(targets, entries, order);
        if let (KeyOrder::Up | KeyOrder::Down, [.., last_but_one, last]) = (order, &mut *targets)
            && let (Some(leaf), Some(other)) = (last.leaf(), last_but_one.leaf())
            && ptr::eq(leaf, other)
        {
            // Several in one leaf: alone, they put the finger on it, for the next batch.
            (last.node, last_but_one.node) = (None, None);
        }
        for (index, entry) in entries.iter().enumerate() {
            let target = targets[index];
            let (place, hash) = (target.place, target.hash);
            if let Some(leaf) = target.leaf() {
                let arena = &mut self.arena;
                let fitting =
                    place.entries.insert_into(arena, leaf, entry.key, seqno, entry.value)?;
                if let Some(prior) = fitting {
                    self.inserted(place, entry.key, hash, prior);
                    continue;
                }
                forget(targets, leaf);
            }
            self.insert_alone(place, entry.key, hash, seqno, entry.value)?;
        }
        Ok(())
    }
}

/// The order of a batch's keys, all of one keyspace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyOrder {
    Up,
    Down,
    /// None, or of several keyspaces.
    None,
}

impl KeyOrder {
    fn of(entries: &[NewEntry<'_>]) -> KeyOrder {
        // Scattered keys are found out with the first few.
        if entries.is_sorted_by(|a, b| a.keyspace == b.keyspace && a.key <= b.key) {
            KeyOrder::Up
        } else if entries.is_sorted_by(|a, b| a.keyspace == b.keyspace && a.key >= b.key) {
            KeyOrder::Down
        } else {
            KeyOrder::None
        }
    }
}

/// Takes each to the leaf in which its key is or belongs.
fn descend(targets: &mut [Target<'_>], entries: &[NewEntry<'_>], key_order: KeyOrder) {
    let mut is_below = true;
    while is_below {
        is_below = false;
        let mut last: Option<(&Inner, Order, usize)> = None;
        for (target, entry) in targets.iter_mut().zip(entries) {
            let Some(Either::Right(inner)) = target.node else {
                last = None;
                continue;
            };
            let shared = last.filter(|(other, order, index)| {
                key_order == KeyOrder::Up
                    && ptr::eq(*other, inner)
                    && inner.keys.is_before(*order, *index, entry.key)
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
            target.node = Some(child);
        }
    }
}

/// A leaf is about to be split.
fn forget(targets: &mut [Target<'_>], split: &Leaf) {
    let is_it = |it: &&mut Target<'_>| it.leaf().is_some_and(|leaf| ptr::eq(leaf, split));
    targets.iter_mut().filter(is_it).for_each(|it| it.node = None);
}
