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
//! leaf of the last insertions (the *finger*) and does not go down from the root while keys stay in it.
//!
//! Invariants:
//!
//! 1. Memory is taken before anything is published: a failed insertion changes nothing that can be read.
//! 2. All nodes and records of a tree lie in the arena that the tree itself lies in, and whose writer is
//!    passed to each writing function. Every link is set under this one obligation, and everything in an
//!    arena lives until the arena is dropped, so that no link outlives its target.
//! 3. The keys that can come into a node share its prefix, as its bounds show.
#![allow(unsafe_code)]

use super::arena::{ArenaWriter, Either, Link, OutOfMemory};
use super::node::{Found, Inner, Keys, Leaf, Node, NodeLink, Order, SLOTS, head_of};
use super::record::{Record, RecordLink};
use super::walk::{Bounds, Walk};
use crate::types::Seqno;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// A prefix moves on only if at least so many bytes of the heads become useful.
const PREFIX_STEP_BYTES: usize = 4;

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

    /// Puts a tombstone on each key from `start` to before `end` that has a value; says how many.
    pub fn delete_range<'a>(
        &'a self,
        arena: &mut ArenaWriter<'a>,
        start: &[u8],
        end: Option<&[u8]>,
        seqno: Seqno,
    ) -> Result<u64, OutOfMemory> {
        let mut count = 0;
        let mut next = Walk::at_or_after(self, start);
        while let Some(walk) = next {
            let record = walk.record();
            if end.is_some_and(|end| record.key() >= end) {
                break;
            }
            if !record.is_tombstone() {
                let tombstone = write(arena, Some(record), record.key(), seqno, None)?;
                let (keys, slot) = walk.slot();
                set_record(&keys.records[slot], tombstone);
                count += 1;
            }
            next = walk.stepped();
        }
        Ok(count)
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

/// The leaf of the last insertion. Used by the writer only, on a cache line that readers do not touch.
#[derive(Debug)]
#[repr(align(64))]
pub struct Finger {
    leaf: Link<Leaf>,
    lower: RecordLink,
    upper: RecordLink,
    /// Set by the second insertion into the same leaf, so that scattered input does not pay for bounds.
    armed: AtomicBool,
}

impl Finger {
    pub const fn new() -> Finger {
        Finger {
            leaf: Link::empty(),
            lower: RecordLink::empty(),
            upper: RecordLink::empty(),
            armed: AtomicBool::new(false),
        }
    }

    /// The remembered leaf, if `key` lies within its bounds.
    #[inline]
    fn leaf_of(&self, key: &[u8]) -> Option<&Leaf> {
        let armed = self.armed.load(Ordering::Relaxed);
        let within = armed
            && self.lower.get().is_none_or(|lower| lower.key() <= key)
            && self.upper.get().is_none_or(|upper| key < upper.key());
        if within { self.leaf.get() } else { None }
    }

    /// Remembers a leaf. Must be called for each split, since the leaf before it is of no more use then.
    #[inline]
    fn point_to<'a>(&'a self, leaf: &'a Leaf, bounds: Bounds<'a>, in_sequence: bool) {
        let again = self.leaf.get().is_some_and(|old| std::ptr::eq(old, leaf));
        let armed = again || in_sequence;
        self.armed.store(armed, Ordering::Relaxed);
        // SAFETY: module invariant 2.
        unsafe {
            if !again {
                self.leaf.set(leaf);
            }
            if armed {
                self.lower.set(bounds.lower);
                self.upper.set(bounds.upper);
            }
        }
    }
}

impl<'a> Bounds<'a> {
    fn split(self, separator: Record<'a>) -> (Bounds<'a>, Bounds<'a>) {
        let below = Bounds { upper: Some(separator), ..self };
        let above = Bounds { lower: Some(separator), ..self };
        (below, above)
    }

    /// Length of what all keys within the bounds share, in bytes.
    fn shared_bytes(self) -> usize {
        let (Some(lower), Some(upper)) = (self.lower, self.upper) else { return 0 };
        lower.key().iter().zip(upper.key()).take_while(|(left, right)| left == right).count()
    }
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

fn new_leaf<'a>(
    arena: &mut ArenaWriter<'a>,
    bounds: Bounds<'a>,
    record: Record<'a>,
) -> Result<&'a Leaf, OutOfMemory> {
    let leaf = arena.alloc(Leaf::new(bounds.shared_bytes()))?;
    add(&leaf.keys, 0, record);
    Ok(leaf)
}

/// The leaf itself, or a copy if its narrower bounds allow a useful longer prefix.
fn tightened<'a>(
    arena: &mut ArenaWriter<'a>,
    leaf: &'a Leaf,
    bounds: Bounds<'a>,
) -> Result<&'a Leaf, OutOfMemory> {
    if prefix_for(&leaf.keys, 0..SLOTS, bounds) == leaf.keys.prefix_bytes() {
        return Ok(leaf);
    }
    copy_leaf(arena, leaf, 0..SLOTS, bounds)
}

fn copy_leaf<'a>(
    arena: &mut ArenaWriter<'a>,
    leaf: &'a Leaf,
    range: Range<usize>,
    bounds: Bounds<'a>,
) -> Result<&'a Leaf, OutOfMemory> {
    let copy = arena.alloc(Leaf::new(prefix_for(&leaf.keys, range.clone(), bounds)))?;
    let order = leaf.keys.order();
    range.for_each(|index| copy_key(&leaf.keys, order, index, &copy.keys));
    Ok(copy)
}

/// Copies the separators in `range`, and the children before, between and behind them.
fn copy_inner<'a>(
    arena: &mut ArenaWriter<'a>,
    inner: &'a Inner,
    range: Range<usize>,
    bounds: Bounds<'a>,
) -> Result<&'a Inner, OutOfMemory> {
    let copy = arena.alloc(Inner::new(prefix_for(&inner.keys, range.clone(), bounds)))?;
    let order = inner.keys.order();
    set_node(&copy.first_child, inner.child(order, range.start));
    for (slot, index) in range.enumerate() {
        set_node(&copy.children[slot], inner.child(order, index + 1));
        copy_key(&inner.keys, order, index, &copy.keys);
    }
    Ok(copy)
}

/// Adds a key to a node that nobody sees yet, behind those it has.
fn copy_key<'a>(from: &'a Keys, order: Order, index: usize, to: &'a Keys) {
    let record = from.record(order, index);
    let count = to.order().count();
    if from.prefix_bytes == to.prefix_bytes {
        add_with_head(to, count, from.head(order, index), record);
    } else {
        add(to, count, record);
    }
}

/// The prefix for a node that takes over the keys `range` of `keys` and has narrower bounds.
fn prefix_for(keys: &Keys, range: Range<usize>, bounds: Bounds<'_>) -> usize {
    let old = keys.prefix_bytes();
    let order = keys.order();
    if !range.is_empty() {
        // Cheap and nearly always enough: what the bounds share, the keys between them share, too.
        let differing = keys.head(order, range.start) ^ keys.head(order, range.end - 1);
        if (differing.leading_zeros() as usize) < 8 * PREFIX_STEP_BYTES {
            return old;
        }
    }
    let shared = bounds.shared_bytes();
    if shared >= old + PREFIX_STEP_BYTES { shared } else { old }
}

/// Adds a record to a node that has room, and publishes it.
fn add<'a>(keys: &'a Keys, index: usize, record: Record<'a>) {
    let rest = record.key().get(keys.prefix_bytes()..).unwrap_or_default();
    add_with_head(keys, index, head_of(rest), record);
}

fn add_with_head<'a>(keys: &'a Keys, index: usize, head: u64, record: Record<'a>) {
    let order = keys.order();
    let slot = order.count();
    keys.heads[slot].store(head, Ordering::Relaxed);
    set_record(&keys.records[slot], record);
    keys.publish(order.insert(index));
}

/// Adds a separator behind the child at `index`, and a child behind that.
fn add_child<'a>(inner: &'a Inner, index: usize, separator: Record<'a>, child: Node<'a>) {
    set_node(&inner.children[inner.keys.order().count()], child);
    add(&inner.keys, index, separator);
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

fn write<'a>(
    arena: &mut ArenaWriter<'a>,
    older: Option<Record<'a>>,
    key: &[u8],
    seqno: Seqno,
    value: Option<&[u8]>,
) -> Result<Record<'a>, OutOfMemory> {
    // SAFETY: module invariant 2.
    unsafe { Record::write(arena, older, key, seqno, value) }
}

fn set_record<'a>(link: &'a RecordLink, record: Record<'a>) {
    // SAFETY: module invariant 2.
    unsafe { link.set(Some(record)) }
}

fn set_node<'a>(link: &'a NodeLink, node: Node<'a>) {
    // SAFETY: module invariant 2.
    unsafe { link.set(node) }
}
