//! Writing a tree: insertion, and splitting without disturbing readers.
//!
//! The one writer fills free slots and publishes each insertion with one store. A full node is never
//! changed again: its records go into two new nodes, which first get their places in the parent
//! (separator and right part), then take the place of the full node (left part). Both states are right for
//! readers, who look twice if they meet the moment between (see `node.rs`, invariant 2). Full inner nodes
//! are split on the way down, so that a parent always has room.
//!
//! Input in order: if the last keys came in ascending (descending) order, a full leaf stays as it is, and
//! the new key begins the next (previous) leaf; so sorted input fills nodes. And the writer remembers the
//! leaf of the last insertions (the *finger*) and does not go down from the root while keys stay in it. (Scattered keys of
//! a batch, for which leaves are found beforehand, leave the finger where it is, unless a leaf is split.)
//!
//! Invariant: memory is taken before anything is published, so that a failed insertion changes nothing
//! that can be read.

use super::arena::ArenaWriter;
use super::fill::{
    Finger, add, add_child, copy_inner, copy_leaf, new_leaf, set_node, set_record, tightened, write,
};
use super::link::Either;
use super::node::{Found, Inner, Leaf, Node, NodeLink, SLOTS};
use super::record::Record;
use super::walk::{Bounds, Walk};
use crate::memory::OutOfMemory;
use crate::types::Seqno;

/// What was there before an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prior {
    /// Nothing: the key is new in this memtable.
    Absent,
    /// A value.
    Live,
    /// A tombstone.
    Tombstone,
}

/// The keys of one keyspace.
#[derive(Debug)]
pub struct Tree {
    root: NodeLink,
}

impl Tree {
    pub const fn new() -> Tree {
        Tree { root: NodeLink::empty() }
    }

    /// The root; `None` while nothing was inserted.
    #[inline]
    pub fn root(&self) -> Option<Node<'_>> {
        self.root.get()
    }

    /// Inserts a version. Its seqno is not below those that the key has. `finger` is the tree's own: the
    /// same with each insertion, or never one.
    pub fn insert<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        finger: Option<&'a Finger>,
        key: &[u8],
        seqno: Seqno,
        value: Option<&[u8]>,
    ) -> Result<Prior, OutOfMemory> {
        if let Some(leaf) = finger.and_then(|finger| finger.leaf_of(key))
            && let Ok(prior) = put(arena, leaf, key, seqno, value)?
        {
            return Ok(prior);
        }
        let Some(place) = self.descend(arena, key)? else {
            let record = write(arena, None, key, seqno, value)?;
            let leaf = new_leaf(arena, Bounds::default(), record)?;
            set_node(&self.root, Either::Left(leaf));
            return Ok(Prior::Absent);
        };
        match put(arena, place.leaf, key, seqno, value)? {
            Ok(prior) => {
                point_finger(finger, place.leaf, place.bounds, false);
                Ok(prior)
            }
            Err(found) => {
                let record = write(arena, None, key, seqno, value)?;
                self.split_leaf(arena, finger, place, found, record)?;
                Ok(Prior::Absent)
            }
        }
    }

    /// The leaf in which a key is or belongs; `None` while nothing was inserted. For the one writer.
    pub fn leaf_for(&self, key: &[u8]) -> Option<(&Leaf, Bounds<'_>)> {
        let (mut node, mut bounds) = (self.root()?, Bounds::default());
        loop {
            let inner = match node {
                Either::Left(leaf) => return Some((leaf, bounds)),
                Either::Right(inner) => inner,
            };
            inner.keys.prefetch_records();
            inner.prefetch_children();
            let order = inner.keys.order();
            let index = inner.keys.search(order, key).child();
            bounds = bounds.of_child(inner, order, index);
            node = inner.child(order, index);
        }
    }

    /// Puts a tombstone on each key from `start` to before `end` that has a value; says how many.
    pub fn delete_range<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        start: &[u8],
        end: Option<&[u8]>,
        seqno: Seqno,
    ) -> Result<u64, OutOfMemory> {
        let mut count = 0;
        let Some(mut walk) = Walk::at_or_after(self, start) else { return Ok(0) };
        loop {
            let record = walk.record();
            if end.is_some_and(|end| record.key() >= end) {
                return Ok(count);
            }
            if !record.is_tombstone() {
                let tombstone = write(arena, Some(record), record.key(), seqno, None)?;
                let (keys, slot) = walk.slot();
                set_record(&keys.records[slot], tombstone);
                count += 1;
            }
            if !walk.step() {
                return Ok(count);
            }
        }
    }

    /// Goes down to the leaf of a key and splits full inner nodes on the way.
    fn descend<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        key: &[u8],
    ) -> Result<Option<Place<'a>>, OutOfMemory> {
        let Some(mut node) = self.root() else { return Ok(None) };
        let (mut bounds, mut parent) = (Bounds::default(), None);
        loop {
            let inner = match node {
                Either::Left(leaf) => return Ok(Some(Place { leaf, bounds, parent })),
                Either::Right(inner) => inner,
            };
            inner.keys.prefetch_records();
            inner.prefetch_children();
            let order = inner.keys.order();
            let index = inner.keys.search(order, key).child();
            if order.is_full() {
                self.split_inner(arena, inner, index, bounds, parent)?;
                // Rare, and simplest from the top. It ends: each time there is one full node less.
                return self.descend(arena, key);
            }
            parent = Some((inner, index));
            bounds = bounds.of_child(inner, order, index);
            node = inner.child(order, index);
        }
    }

    /// Splits a full leaf and adds `record`, which belongs at `found`.
    fn split_leaf<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        finger: Option<&'a Finger>,
        place: Place<'a>,
        found: Found,
        record: Record<'a>,
    ) -> Result<(), OutOfMemory> {
        let Place { leaf, bounds, parent } = place;
        let order = leaf.keys.order();
        let index = found.index;
        if index == SLOTS && order.grew_at_end() {
            let (below, above) = bounds.split(record);
            let right = new_leaf(arena, above, record)?;
            let left = tightened(arena, leaf, below)?;
            self.replace(arena, parent, Either::Left(left), record, Either::Left(right))?;
            point_finger(finger, right, above, true);
        } else if index == 0 && order.grew_at_start() {
            let separator = leaf.keys.record(order, 0);
            let (below, above) = bounds.split(separator);
            let left = new_leaf(arena, below, record)?;
            let right = tightened(arena, leaf, above)?;
            self.replace(arena, parent, Either::Left(left), separator, Either::Left(right))?;
            point_finger(finger, left, below, true);
        } else {
            let middle = if index < 8 { 7 } else { 8 };
            let separator = leaf.keys.record(order, middle);
            let (below, above) = bounds.split(separator);
            let left = copy_leaf(arena, leaf, 0..middle, below)?;
            let right = copy_leaf(arena, leaf, middle..SLOTS, above)?;
            let (target, within, index) = match index <= middle {
                true => (left, below, index),
                false => (right, above, index - middle),
            };
            add(&target.keys, index, record);
            self.replace(arena, parent, Either::Left(left), separator, Either::Left(right))?;
            point_finger(finger, target, within, false);
        }
        Ok(())
    }

    /// Splits a full inner node in which `index` is the next child on the way down.
    fn split_inner<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        inner: &'a Inner,
        index: usize,
        bounds: Bounds<'a>,
        parent: Option<(&'a Inner, usize)>,
    ) -> Result<(), OutOfMemory> {
        let order = inner.keys.order();
        let middle = match index {
            SLOTS if order.grew_at_end() => SLOTS - 1,
            0 if order.grew_at_start() => 0,
            _ => SLOTS / 2,
        };
        let separator = inner.keys.record(order, middle);
        let (below, above) = bounds.split(separator);
        let left = copy_inner(arena, inner, 0..middle, below)?;
        let right = copy_inner(arena, inner, middle + 1..SLOTS, above)?;
        self.replace(arena, parent, Either::Right(left), separator, Either::Right(right))
    }

    /// Puts `left` and `right` where one node was: in the parent, which has room, or under a new root.
    fn replace<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        parent: Option<(&'a Inner, usize)>,
        left: Node<'a>,
        separator: Record<'a>,
        right: Node<'a>,
    ) -> Result<(), OutOfMemory> {
        if let Some((inner, index)) = parent {
            let link = inner.child_link(inner.keys.order(), index);
            add_child(inner, index, separator, right);
            set_node(link, left);
        } else {
            let root = arena.alloc(Inner::new(0))?;
            set_node(&root.first_child, left);
            add_child(root, 0, separator, right);
            set_node(&self.root, Either::Right(root));
        }
        Ok(())
    }
}

/// A leaf, and the inner node and child number that lead to it.
struct Place<'a> {
    leaf: &'a Leaf,
    bounds: Bounds<'a>,
    parent: Option<(&'a Inner, usize)>,
}

impl<'a> Bounds<'a> {
    fn split(self, separator: Record<'a>) -> (Bounds<'a>, Bounds<'a>) {
        let below = Bounds { upper: Some(separator), ..self };
        let above = Bounds { lower: Some(separator), ..self };
        (below, above)
    }
}

/// Adds a version of a key that belongs into `leaf`; `None` if it does not fit. Splits nothing, so that the finger may stay
/// where it is.
pub fn insert_into<'a>(
    arena: &mut ArenaWriter<'a>,
    leaf: &'a Leaf,
    key: &[u8],
    seqno: Seqno,
    value: Option<&[u8]>,
) -> Result<Option<Prior>, OutOfMemory> {
    Ok(put(arena, leaf, key, seqno, value)?.ok())
}

/// Adds a version to a leaf; `Err` with the key's place if it is a new key and the leaf is full.
#[inline]
fn put<'a>(
    arena: &mut ArenaWriter<'a>,
    leaf: &'a Leaf,
    key: &[u8],
    seqno: Seqno,
    value: Option<&[u8]>,
) -> Result<Result<Prior, Found>, OutOfMemory> {
    let keys = &leaf.keys;
    keys.prefetch_records();
    let order = keys.order();
    let found = keys.search(order, key);
    if found.exact {
        let older = keys.record(order, found.index);
        debug_assert!(older.seqno() <= seqno);
        let record = write(arena, Some(older), key, seqno, value)?;
        set_record(&keys.records[order.slot(found.index)], record);
        return Ok(Ok(if older.is_tombstone() { Prior::Tombstone } else { Prior::Live }));
    }
    if order.is_full() {
        return Ok(Err(found));
    }
    add(keys, found.index, write(arena, None, key, seqno, value)?);
    Ok(Ok(Prior::Absent))
}

fn point_finger<'a>(
    finger: Option<&'a Finger>,
    leaf: &'a Leaf,
    bounds: Bounds<'a>,
    in_sequence: bool,
) {
    if let Some(finger) = finger {
        finger.point_to(leaf, bounds, in_sequence);
    }
}
