//! Read points: a view and a seqno that fit each other.
//!
//! A seqno is read between two looks at the current view. If the view did not change, every commit up to
//! the seqno was applied to its memtables, and every table in it holds only commits up to the seqno
//! (tables are published after what they hold is durable, and so visible). Otherwise it is tried again;
//! views change a few times a second at the most.

use super::Engine;
use crate::mistakes::{Mistake, planted};
use crate::sync::engine::turn;
use crate::types::Seqno;
use crate::view::View;
use arc_swap::Guard;
use std::sync::Arc;

impl Engine {
    /// What readers see now.
    pub fn read_point(&self) -> (Arc<View>, Seqno) {
        self.point(|| self.log.visible())
    }

    /// What is durable now.
    pub fn durable_point(&self) -> (Arc<View>, Seqno) {
        self.point(|| self.log.durable_seqno())
    }

    /// What readers see now, for a short while: no counter that threads share is changed.
    #[inline]
    pub fn borrowed_point(&self) -> (Guard<Arc<View>>, Seqno) {
        self.borrowed(|| self.log.visible())
    }

    fn point(&self, seqno: impl Fn() -> Seqno) -> (Arc<View>, Seqno) {
        let (view, at) = self.borrowed(seqno);
        (Guard::into_inner(view), at)
    }

    #[inline]
    fn borrowed(&self, seqno: impl Fn() -> Seqno) -> (Guard<Arc<View>>, Seqno) {
        loop {
            let view = self.view.load();
            turn();
            let at = seqno();
            turn();
            let is_current = Arc::ptr_eq(&view, &self.view.load());
            if is_current || planted(Mistake::ViewNotLookedAtAgain) {
                return (view, at);
            }
        }
    }
}
