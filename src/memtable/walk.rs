//! Reading a tree: finding one key, and walking from leaf to leaf in both directions.
//!
//! Leaves have no links to their neighbours. A walk remembers the lowest inner node and moves to its next
//! child as long as that node is unchanged; otherwise it goes down from the root again, to the bound of
//! the leaf that it leaves.
//!
//! Invariant: a node that was reachable once holds everything that had been written in its bounds by
//! then; it is replaced by copies and never cleared. So a walk that began after a seqno was published
//! misses nothing at or before that seqno, however old the nodes are that it stands on.

use super::link::Either;
use super::node::{Found, Inner, Keys, Leaf, Node, Order};
use super::record::{Record, prefetch};
use super::tree::Tree;

/// Where to go down to.
#[derive(Clone, Copy, Debug)]
enum Target<'k> {
    /// The first leaf.
    First,
    /// The last leaf.
    Last,
    /// The leaf in which the key is or belongs.
    At(&'k [u8]),
    /// The leaf that holds the last key before this one, unless that leaf begins with it.
    Before(&'k [u8]),
}

/// A position on one key of a tree.
pub struct Walk<'a> {
    tree: &'a Tree,
    leaf: LeafView<'a>,
    index: usize,
}

impl<'a> Walk<'a> {
    /// On the first key; `None` if there is none (as in all of these).
    pub fn first(tree: &'a Tree) -> Option<Walk<'a>> {
        let leaf = tree.leaf_at(Target::First)?;
        leaf.prefetch();
        Walk { tree, leaf, index: 0 }.on_key_or_next()
    }

    /// On the last key.
    pub fn last(tree: &'a Tree) -> Option<Walk<'a>> {
        let leaf = tree.leaf_at(Target::Last)?;
        leaf.prefetch();
        Walk { tree, leaf, index: leaf.count() }.on_key_before()
    }

    /// On the first key at or after `key`.
    pub fn at_or_after(tree: &'a Tree, key: &[u8]) -> Option<Walk<'a>> {
        let leaf = tree.leaf_at(Target::At(key))?;
        Walk { tree, leaf, index: leaf.search(key).index }.on_key_or_next()
    }

    /// On the last key before `key`.
    pub fn before(tree: &'a Tree, key: &[u8]) -> Option<Walk<'a>> {
        let leaf = tree.leaf_at(Target::Before(key))?;
        Walk { tree, leaf, index: leaf.search(key).index }.on_key_before()
    }

    /// On the last key at or before `key`.
    pub fn at_or_before(tree: &'a Tree, key: &[u8]) -> Option<Walk<'a>> {
        let leaf = tree.leaf_at(Target::At(key))?;
        Walk { tree, leaf, index: leaf.search(key).child() }.on_key_before()
    }

    /// The newest version of the key.
    #[inline]
    pub fn record(&self) -> Record<'a> {
        self.leaf.record(self.index)
    }

    /// The node and the slot of the key.
    pub fn slot(&self) -> (&'a Keys, usize) {
        (self.leaf.keys, self.leaf.order.slot(self.index))
    }

    /// To the next key; `false` if there is none, and then the walk is over.
    #[inline]
    pub fn step(&mut self) -> bool {
        self.index += 1;
        self.index < self.leaf.count() || self.step_to_next_leaf()
    }

    /// To the key before; `false` if there is none, and then the walk is over.
    #[inline]
    pub fn step_back(&mut self) -> bool {
        if self.index == 0 && !self.step_to_leaf_before() {
            return false;
        }
        self.index -= 1;
        true
    }

    /// To the first key of a leaf after this one.
    ///
    /// While a node is split, a reader may find the whole of it left of its right part, and has then passed
    /// keys that come again.
    fn step_to_next_leaf(&mut self) -> bool {
        let passed = self.leaf.count().checked_sub(1).map(|last| self.leaf.record(last).key());
        loop {
            let Some(leaf) = self.leaf.next(self.tree) else { return false };
            leaf.prefetch_neighbours(|index| index + 1);
            (self.leaf, self.index) = (leaf, 0);
            if leaf.count() == 0 {
                continue;
            }
            if let Some(passed) = passed
                && leaf.record(0).key() <= passed
            {
                self.index = leaf.search_from_outside(passed).child();
            }
            if self.index < leaf.count() {
                return true;
            }
        }
    }

    /// Behind the last key of a leaf before this one. (As above.)
    fn step_to_leaf_before(&mut self) -> bool {
        let passed = (self.leaf.count() > 0).then(|| self.leaf.record(0).key());
        loop {
            let Some(leaf) = self.leaf.prev(self.tree) else { return false };
            leaf.prefetch_neighbours(|index| index.wrapping_sub(1));
            (self.leaf, self.index) = (leaf, leaf.count());
            if leaf.count() == 0 {
                continue;
            }
            if let Some(passed) = passed
                && leaf.record(leaf.count() - 1).key() >= passed
            {
                self.index = leaf.search_from_outside(passed).index;
            }
            if self.index > 0 {
                return true;
            }
        }
    }

    fn on_key_or_next(mut self) -> Option<Walk<'a>> {
        let is_on_key = self.index < self.leaf.count() || self.step_to_next_leaf();
        is_on_key.then_some(self)
    }

    fn on_key_before(mut self) -> Option<Walk<'a>> {
        self.step_back().then_some(self)
    }
}

/// A leaf as it was at one moment.
#[derive(Clone, Copy)]
struct LeafView<'a> {
    keys: &'a Keys,
    order: Order,
    bounds: Bounds<'a>,
    parent: Option<Parent<'a>>,
}

/// Keys of a node: at or after `lower`, before `upper`; `None` is no bound.
#[derive(Clone, Copy, Default)]
pub struct Bounds<'a> {
    pub lower: Option<Record<'a>>,
    pub upper: Option<Record<'a>>,
}

#[derive(Clone, Copy)]
struct Parent<'a> {
    inner: &'a Inner,
    order: Order,
    index: usize,
    bounds: Bounds<'a>,
}

impl Tree {
    /// The newest version of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Record<'_>> {
        let mut node = self.root()?;
        loop {
            match node {
                Either::Left(leaf) => {
                    leaf.keys.prefetch_records();
                    let order = leaf.keys.order();
                    let found = leaf.keys.search(order, key);
                    return found.exact.then(|| leaf.keys.record(order, found.index));
                }
                Either::Right(inner) => node = inner.child_for(key),
            }
        }
    }

    /// Goes down from the root; `None` if the tree is empty.
    fn leaf_at(&self, target: Target<'_>) -> Option<LeafView<'_>> {
        let mut node = self.root()?;
        let mut bounds = Bounds::default();
        let mut parent = None;
        loop {
            let inner = match node {
                Either::Left(leaf) => {
                    return Some(LeafView::new(&leaf.keys, bounds, parent));
                }
                Either::Right(inner) => inner,
            };
            let order = inner.keys.order();
            let index = match target {
                Target::First => 0,
                Target::Last => order.count(),
                Target::At(key) => inner.keys.search(order, key).child(),
                Target::Before(key) => inner.keys.search(order, key).index,
            };
            let Some(child) = inner.child_checked(order, index) else { continue };
            parent = Some(Parent { inner, order, index, bounds });
            bounds = bounds.of_child(inner, order, index);
            node = child;
        }
    }
}

impl Inner {
    #[inline]
    fn child_for(&self, key: &[u8]) -> Node<'_> {
        self.keys.prefetch_records();
        self.prefetch_children();
        loop {
            let order = self.keys.order();
            let index = self.keys.search(order, key).child();
            if let Some(child) = self.child_checked(order, index) {
                return child;
            }
        }
    }
}

impl<'a> LeafView<'a> {
    fn new(keys: &'a Keys, bounds: Bounds<'a>, parent: Option<Parent<'a>>) -> LeafView<'a> {
        LeafView { keys, order: keys.order(), bounds, parent }
    }

    /// Number of keys.
    #[inline]
    fn count(&self) -> usize {
        self.order.count()
    }

    /// The newest version of the key at `index`, below the count.
    #[inline]
    fn record(&self, index: usize) -> Record<'a> {
        self.keys.record(self.order, index)
    }

    /// Where a key is or belongs.
    fn search(&self, key: &[u8]) -> Found {
        self.keys.search(self.order, key)
    }

    /// Where a key is or belongs that may lie outside of the leaf's bounds, and so lack its prefix.
    fn search_from_outside(&self, key: &[u8]) -> Found {
        let compare = |index: usize| self.record(index).key().cmp(key);
        let smaller = (0..self.count()).take_while(|index| compare(*index).is_lt()).count();
        Found { index: smaller, exact: smaller < self.count() && compare(smaller).is_eq() }
    }

    /// Asks the processor for all records.
    fn prefetch(&self) {
        self.keys.prefetch_all_records();
    }

    /// Asks the processor for what a walk will need soon: the records of the leaf after this one, and the
    /// node after that, so that its records can be asked for when the walk has come one leaf further.
    fn prefetch_neighbours(&self, step: impl Fn(usize) -> usize) {
        self.prefetch();
        let Some(parent) = &self.parent else { return };
        let next = step(parent.index);
        if let Some(leaf) = parent.peek(next) {
            leaf.keys.prefetch_all_records();
        }
        if let Some(leaf) = parent.peek(step(next)) {
            prefetch(leaf);
            leaf.keys.prefetch_records();
        }
    }

    /// The leaf after this one.
    fn next(&self, tree: &'a Tree) -> Option<LeafView<'a>> {
        let upper = self.bounds.upper?;
        if let Some(parent) = self.parent
            && parent.index < parent.order.count()
            && let Some(view) = parent.leaf(parent.index + 1)
        {
            return Some(view);
        }
        tree.leaf_at(Target::At(upper.key()))
    }

    /// The leaf before this one.
    fn prev(&self, tree: &'a Tree) -> Option<LeafView<'a>> {
        let lower = self.bounds.lower?;
        if let Some(parent) = self.parent
            && parent.index > 0
            && let Some(view) = parent.leaf(parent.index - 1)
        {
            return Some(view);
        }
        tree.leaf_at(Target::Before(lower.key()))
    }
}

impl<'a> Bounds<'a> {
    /// The bounds of the child at `index` of a node that has these bounds.
    pub fn of_child(self, inner: &'a Inner, order: Order, index: usize) -> Bounds<'a> {
        let lower = if index == 0 { self.lower } else { Some(inner.keys.record(order, index - 1)) };
        let last = index == order.count();
        let upper = if last { self.upper } else { Some(inner.keys.record(order, index)) };
        Bounds { lower, upper }
    }
}

impl<'a> Parent<'a> {
    /// The leaf at `index`, if there is one, perhaps not the right one any more.
    fn peek(&self, index: usize) -> Option<&'a Leaf> {
        if index > self.order.count() {
            return None;
        }
        match self.inner.child(self.order, index) {
            Either::Left(leaf) => Some(leaf),
            Either::Right(_) => None,
        }
    }

    /// The child at `index`, if the node has not changed.
    fn leaf(&self, index: usize) -> Option<LeafView<'a>> {
        let Either::Left(leaf) = self.inner.child_checked(self.order, index)? else { return None };
        let bounds = self.bounds.of_child(self.inner, self.order, index);
        Some(LeafView::new(&leaf.keys, bounds, Some(Parent { index, ..*self })))
    }
}
