//! Filling nodes: additions, copies for splits, and the writer's finger. All links of a tree are set here.
//!
//! Obligations of every caller, on which every `SAFETY` comment here rests:
//!
//! 1. All nodes, records and links that are passed lie in one arena (or, for the links of a keyspace, in
//!    the memtable that owns that arena), and the writer that is passed is that arena's. An arena frees
//!    nothing before it is dropped, so that no link outlives its target.
//! 2. The caller holds the writer: nobody else fills nodes meanwhile.
//!
//! Invariant: the keys that can come into a node share its prefix, as its bounds show.
#![allow(unsafe_code)]

use super::arena::ArenaWriter;
use super::link::Link;
use super::node::{Inner, Keys, Leaf, Node, NodeLink, Order, SLOTS, head_of};
use super::record::{Record, RecordLink};
use super::walk::Bounds;
use crate::memory::OutOfMemory;
use crate::types::Seqno;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// A prefix moves on only if the heads see at least so many more bytes then.
const PREFIX_STEP_BYTES: usize = 4;

/// The leaf of the last insertion that was made alone, or of the last split. Used by the writer only, on a cache line that readers do not touch.
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
    pub fn leaf_of(&self, key: &[u8]) -> Option<&Leaf> {
        let armed = self.armed.load(Ordering::Relaxed);
        let within = armed
            && self.lower.get().is_none_or(|lower| lower.key() <= key)
            && self.upper.get().is_none_or(|upper| key < upper.key());
        if within { self.leaf.get() } else { None }
    }

    /// Remembers a leaf. Must be called for each split, since the leaf before it is of no more use then.
    #[inline]
    pub fn point_to<'a>(&'a self, leaf: &'a Leaf, bounds: Bounds<'a>, in_sequence: bool) {
        let again = self.leaf.get().is_some_and(|old| std::ptr::eq(old, leaf));
        let armed = again || in_sequence;
        self.armed.store(armed, Ordering::Relaxed);
        // SAFETY: obligation 1.
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

/// A leaf that holds one record.
pub fn new_leaf<'a>(
    arena: &mut ArenaWriter<'a>,
    bounds: Bounds<'a>,
    record: Record<'a>,
) -> Result<&'a Leaf, OutOfMemory> {
    let leaf = arena.alloc(Leaf::new(bounds.shared_bytes()))?;
    add(&leaf.keys, 0, record);
    Ok(leaf)
}

/// The leaf itself, or a copy if its narrower bounds allow a useful longer prefix.
pub fn tightened<'a>(
    arena: &mut ArenaWriter<'a>,
    leaf: &'a Leaf,
    bounds: Bounds<'a>,
) -> Result<&'a Leaf, OutOfMemory> {
    if prefix_for(&leaf.keys, 0..SLOTS, bounds) == leaf.keys.prefix_bytes() {
        return Ok(leaf);
    }
    copy_leaf(arena, leaf, 0..SLOTS, bounds)
}

/// Copies the keys in `range`.
pub fn copy_leaf<'a>(
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
pub fn copy_inner<'a>(
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
    let repeats = |index| keys.head(order, index) == keys.head(order, index - 1);
    if !range.is_empty() && !(range.start + 1..range.end).any(repeats) {
        // As long as heads tell all keys apart, others would do no better.
        return old;
    }
    let shared = bounds.shared_bytes();
    if shared >= old + PREFIX_STEP_BYTES { shared } else { old }
}

/// Adds a record to a node that has room, and publishes it.
pub fn add<'a>(keys: &'a Keys, index: usize, record: Record<'a>) {
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
pub fn add_child<'a>(inner: &'a Inner, index: usize, separator: Record<'a>, child: Node<'a>) {
    set_node(&inner.children[inner.keys.order().count()], child);
    add(&inner.keys, index, separator);
}

/// Writes a version into the arena.
pub fn write<'a>(
    arena: &mut ArenaWriter<'a>,
    older: Option<Record<'a>>,
    key: &[u8],
    seqno: Seqno,
    value: Option<&[u8]>,
) -> Result<Record<'a>, OutOfMemory> {
    // SAFETY: obligation 1.
    unsafe { Record::write(arena, older, key, seqno, value) }
}

/// Publishes a newer version.
pub fn set_record<'a>(link: &'a RecordLink, record: Record<'a>) {
    // SAFETY: obligation 1.
    unsafe { link.set(Some(record)) }
}

/// Publishes a node.
pub fn set_node<'a>(link: &'a NodeLink, node: Node<'a>) {
    // SAFETY: obligation 1.
    unsafe { link.set(node) }
}

impl Bounds<'_> {
    /// Length of what all keys within the bounds share, in bytes.
    fn shared_bytes(self) -> usize {
        let (Some(lower), Some(upper)) = (self.lower, self.upper) else { return 0 };
        lower.key().iter().zip(upper.key()).take_while(|(left, right)| left == right).count()
    }
}
