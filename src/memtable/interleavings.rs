//! How a split is published beside readers, in all interleavings that the memory model allows.
//!
//! The nodes hold dozens of atomics in memory of their own kind, which loom cannot watch; so this is a
//! small copy of the protocol. It mirrors, line for line:
//!
//! - `fill::add_child`: the right part, then `fill::add_with_head` and `Keys::publish` (`order`, Release);
//! - `tree::replace`: `add_child`, and only then `set_node` of the left part (`EitherLink::set`, Release);
//! - `walk::child_for` with `Inner::child_checked`: order (Acquire), child (Acquire), order again.
//!
//! Each mistake that the comments there warn of is planted once, and must be found. The real nodes run
//! under Miri and the thread sanitizer (see docs/testing.md).

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// What the writer does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// The left part is linked before the separator is published.
    LeftFirst,
    /// The separator is published without `Release`.
    RelaxedOrder,
    /// The left part is linked without `Release`.
    RelaxedLink,
    /// The reader does not look at the order again.
    NoSecondLook,
}

const UNSET: usize = usize::MAX;

/// An inner node with at most one separator, and the leaves that it may lead to.
struct Node {
    order: AtomicUsize,
    children: [AtomicUsize; 2],
    leaves: [UnsafeCell<&'static [u8]>; 3],
}

// The cells are what the protocol guards; loom says when it does not.
#[allow(unsafe_code)]
// SAFETY: every access goes through loom's cell, which fails the test if two of them race.
unsafe impl Sync for Node {}
#[allow(unsafe_code)]
// SAFETY: nothing in it is tied to a thread.
unsafe impl Send for Node {}

impl Node {
    /// One leaf with the keys 1 and 2.
    fn new() -> Node {
        Node {
            order: AtomicUsize::new(0),
            children: [AtomicUsize::new(0), AtomicUsize::new(UNSET)],
            leaves: [UnsafeCell::new(&[1, 2]), UnsafeCell::new(&[]), UnsafeCell::new(&[])],
        }
    }

    fn fill(&self, leaf: usize, keys: &'static [u8]) {
        #[allow(unsafe_code)]
        // SAFETY: nobody else has the leaf before it is linked; loom checks just that.
        self.leaves[leaf].with_mut(|place| unsafe { *place = keys });
    }

    /// Splits the leaf before key 2, which was full.
    fn split(&self, mistake: Mistake) {
        let release = |wrong| if mistake == wrong { Ordering::Relaxed } else { Ordering::Release };
        self.fill(1, &[1]);
        self.fill(2, &[2, 3]);
        if mistake == Mistake::LeftFirst {
            self.children[0].store(1, Ordering::Release);
        }
        self.children[1].store(2, Ordering::Release);
        self.order.store(1, release(Mistake::RelaxedOrder));
        self.children[0].store(1, release(Mistake::RelaxedLink));
    }

    fn has(&self, key: u8, mistake: Mistake) -> bool {
        loop {
            let order = self.order.load(Ordering::Acquire);
            let index = usize::from(order == 1 && key >= 2);
            let child = self.children[index].load(Ordering::Acquire);
            assert!(child != UNSET, "published children are set");
            if mistake != Mistake::NoSecondLook && self.order.load(Ordering::Acquire) != order {
                continue;
            }
            #[allow(unsafe_code)]
            // SAFETY: as in `fill`: loom checks that nobody writes.
            return self.leaves[child].with(|keys| unsafe { (*keys).contains(&key) });
        }
    }
}

fn check(mistake: Mistake) {
    loom::model(move || {
        let node = Arc::new(Node::new());
        let writer = {
            let node = node.clone();
            thread::spawn(move || node.split(mistake))
        };
        for key in [2, 1] {
            assert!(node.has(key, mistake), "a key that was always there is missing");
        }
        writer.join().unwrap();
        assert!(node.has(3, mistake));
    });
}

#[test]
fn readers_miss_nothing_while_a_node_splits() {
    check(Mistake::None);
}

#[test]
#[should_panic(expected = "a key that was always there is missing")]
fn a_left_part_that_is_linked_first_is_found() {
    check(Mistake::LeftFirst);
}

#[test]
#[should_panic]
fn an_order_without_release_is_found() {
    check(Mistake::RelaxedOrder);
}

#[test]
#[should_panic]
fn a_link_without_release_is_found() {
    check(Mistake::RelaxedLink);
}

#[test]
#[should_panic(expected = "a key that was always there is missing")]
fn a_missing_second_look_is_found() {
    check(Mistake::NoSecondLook);
}
