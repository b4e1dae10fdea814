//! The nodes of a tree: how they lie in memory and how they are searched.
//!
//! A node holds up to 15 records, by key. Slots are filled from the first to the last and never given to
//! another key; `order` says which slot comes first, second, … in key order (4 bits each above a 4-bit
//! count), so that one store publishes an insertion (Mao, Kohler, Morris, "Cache craftiness for fast
//! multicore key-value storage", 2012).
//!
//! Beside each record lies its *head*, the 8 key bytes behind the node's prefix, big-endian and padded
//! with zeros: comparing heads as numbers decides nearly every comparison without a look at the record.
//! The prefix is what all keys that can ever come into the node share, as its bounds show; it is skipped,
//! not compared.
//!
//! An inner node has one child more than it has records. Its records only separate: child `n` holds keys
//! at or after separator `n - 1` and before separator `n`.
//!
//! Invariants:
//!
//! 1. A slot below the count of a published order has its head and its record set for ever: the record
//!    link of a leaf only moves to newer versions of the same key.
//! 2. A child link moves from a node to its left part only after the separator of its right part was
//!    published in `order`. Hence a reader that finds `order` unchanged *after* it followed the link
//!    has the child that belongs to that order.

use super::link::{Either, EitherLink};
use super::record::{Record, RecordLink};
use crate::prefetch::line;
use std::cmp::Ordering as KeyOrdering;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records in a full node.
pub const SLOTS: usize = 15;

/// A node of either kind.
pub type Node<'a> = Either<'a, Leaf, Inner>;
/// A link to a node.
pub type NodeLink = EitherLink<Leaf, Inner>;

/// Which slot holds the first, the second, … key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order(u64);

impl Order {
    /// No slot.
    #[cfg(test)]
    pub const EMPTY: Order = Order(0);

    /// Number of keys.
    #[inline]
    pub fn count(self) -> usize {
        (self.0 & 15) as usize
    }

    /// Whether no slot is left.
    #[inline]
    pub fn is_full(self) -> bool {
        self.count() == SLOTS
    }

    /// The slot of the key at `index`.
    #[inline]
    pub fn slot(self, index: usize) -> usize {
        debug_assert!(index < self.count());
        ((self.0 >> (4 + 4 * (index & 15))) & 15) as usize
    }

    /// The next free slot, put at `index`. Only if it is not full.
    #[inline]
    pub fn insert(self, index: usize) -> Order {
        debug_assert!(!self.is_full() && index <= self.count());
        let shift = 4 + 4 * index;
        let low = self.0 & ((1 << shift) - 1);
        let high = (self.0 >> shift) << shift;
        Order((low | (high << 4) | ((self.0 & 15) << shift)) + 1)
    }

    /// Whether the last keys that came into a full node came in ascending order at its end.
    pub fn grew_at_end(self) -> bool {
        self.is_full() && self.slot(14) == 14 && self.slot(13) == 13 && self.slot(12) == 12
    }

    /// Whether the last keys that came into a full node came in descending order at its start.
    pub fn grew_at_start(self) -> bool {
        self.is_full() && self.slot(0) == 14 && self.slot(1) == 13 && self.slot(2) == 12
    }
}

/// Where a key is or belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of keys before it.
    pub index: usize,
    /// Whether the key at `index` is it.
    pub exact: bool,
}

impl Found {
    /// The child that holds the key, if this was found in an inner node: a separator belongs to the
    /// child after it.
    #[inline]
    pub fn child(self) -> usize {
        self.index + usize::from(self.exact)
    }
}

/// The keys of a node.
#[derive(Debug)]
#[repr(C)]
pub struct Keys {
    pub order: AtomicU64,
    pub prefix_bytes: u64,
    pub heads: [AtomicU64; SLOTS],
    pub records: [RecordLink; SLOTS],
}

/// A node that holds the newest versions of its keys.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Leaf {
    pub keys: Keys,
}

/// A node that leads to others.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Inner {
    pub keys: Keys,
    pub first_child: NodeLink,
    pub children: [NodeLink; SLOTS],
}

impl Keys {
    pub fn new(prefix_bytes: usize) -> Keys {
        Keys {
            order: AtomicU64::new(0),
            prefix_bytes: prefix_bytes as u64,
            heads: [const { AtomicU64::new(0) }; SLOTS],
            records: [const { RecordLink::empty() }; SLOTS],
        }
    }

    /// The keys that are published.
    #[inline]
    pub fn order(&self) -> Order {
        Order(self.order.load(Ordering::Acquire))
    }

    /// Publishes what was filled in before.
    #[inline]
    pub fn publish(&self, order: Order) {
        self.order.store(order.0, Ordering::Release);
    }

    /// The record at `index` of a published order.
    #[inline]
    pub fn record(&self, order: Order, index: usize) -> Record<'_> {
        self.records[order.slot(index)].get().expect("published slots are set")
    }

    /// The head of the record at `index`.
    #[inline]
    pub fn head(&self, order: Order, index: usize) -> u64 {
        self.heads[order.slot(index)].load(Ordering::Relaxed)
    }

    /// The prefix that is skipped, in bytes.
    #[inline]
    pub fn prefix_bytes(&self) -> usize {
        self.prefix_bytes as usize
    }

    /// Finds the place of `key`, which lies within the node's bounds.
    #[inline]
    pub fn search(&self, order: Order, key: &[u8]) -> Found {
        let rest = key.get(self.prefix_bytes()..).unwrap_or_default();
        let head = head_of(rest);
        // All slots, without a branch; the ones that are not published are masked out afterwards. The
        // number of smaller heads is the place, whatever slots they are in.
        let mut smaller = 0u32;
        for slot in (0..SLOTS).rev() {
            let other = self.heads[slot].load(Ordering::Relaxed);
            smaller = (smaller << 1) | u32::from(other < head);
        }
        let published = (1u32 << order.count()) - 1;
        let index = (smaller & published).count_ones() as usize;
        let is_equal = |index| index < order.count() && self.head(order, index) == head;
        if !is_equal(index) {
            return Found { index, exact: false };
        }
        let run = (index..).take_while(|index| is_equal(*index)).count();
        self.search_run(order, rest, index, run)
    }

    /// Whether `key` is certainly before the key at `index`, or there is no key at `index`.
    #[inline]
    pub fn is_key_before(&self, order: Order, index: usize, key: &[u8]) -> bool {
        let rest = key.get(self.prefix_bytes()..).unwrap_or_default();
        index == order.count() || head_of(rest) < self.head(order, index)
    }

    /// Asks for the cache lines that a search will need after the heads.
    #[inline]
    pub fn prefetch_records(&self) {
        line(&self.records[1]);
        line(&self.records[9]);
    }

    /// Asks for the records themselves.
    pub fn prefetch_all_records(&self) {
        self.records.iter().take(self.order().count()).for_each(|link| link.prefetch());
    }

    /// Finds the place of a key among `run` keys with equal heads, from `first` on.
    fn search_run(&self, order: Order, rest: &[u8], first: usize, run: usize) -> Found {
        let compare = |index: usize| {
            let other = self.record(order, index).key();
            other.get(self.prefix_bytes()..).unwrap_or_default().cmp(rest)
        };
        // The last one first: input in ascending order is decided by it.
        let (mut low, mut high) = (first, first + run - 1);
        match compare(high) {
            KeyOrdering::Less => return Found { index: high + 1, exact: false },
            KeyOrdering::Equal => return Found { index: high, exact: true },
            KeyOrdering::Greater => {}
        }
        while low < high {
            let middle = low.midpoint(high);
            match compare(middle) {
                KeyOrdering::Less => low = middle + 1,
                KeyOrdering::Equal => return Found { index: middle, exact: true },
                KeyOrdering::Greater => high = middle,
            }
        }
        Found { index: low, exact: false }
    }
}

impl Leaf {
    /// Asks for all of it.
    #[inline]
    pub fn prefetch(&self) {
        let Keys { order, heads, records, .. } = &self.keys;
        line(order);
        line(&heads[6]);
        line(&heads[14]);
        line(&records[7]);
    }

    pub fn new(prefix_bytes: usize) -> Leaf {
        Leaf { keys: Keys::new(prefix_bytes) }
    }
}

impl Inner {
    /// Asks for all of it but the records.
    #[inline]
    pub fn prefetch(&self) {
        let Keys { order, heads, .. } = &self.keys;
        line(order);
        line(&heads[6]);
        line(&heads[14]);
        self.prefetch_children();
    }

    pub fn new(prefix_bytes: usize) -> Inner {
        Inner {
            keys: Keys::new(prefix_bytes),
            first_child: NodeLink::empty(),
            children: [const { NodeLink::empty() }; SLOTS],
        }
    }

    /// Asks for the cache lines of the child links.
    #[inline]
    pub fn prefetch_children(&self) {
        line(&self.first_child);
        line(&self.children[8]);
    }

    /// The child at `index`, 0 up to the number of separators.
    #[inline]
    pub fn child(&self, order: Order, index: usize) -> Node<'_> {
        let link = self.child_link(order, index);
        link.get().expect("published children are set")
    }

    /// The link to the child at `index`.
    #[inline]
    pub fn child_link(&self, order: Order, index: usize) -> &NodeLink {
        match index {
            0 => &self.first_child,
            _ => &self.children[order.slot(index - 1)],
        }
    }

    /// The child at `index`, if `order` is still the node's order (invariant 2).
    #[inline]
    pub fn child_checked(&self, order: Order, index: usize) -> Option<Node<'_>> {
        let child = self.child(order, index);
        (self.keys.order() == order).then_some(child)
    }
}

/// The first 8 bytes as a big-endian number, padded with zeros.
#[inline]
pub fn head_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => short_head(bytes),
    }
}

fn short_head(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .enumerate()
        .fold(0, |head, (index, byte)| head | u64::from(*byte) << (56 - 8 * index))
}
