//! The rest of a block, entry by entry, without a cursor between: what makes a scan cheap.
//!
//! A cursor keeps its place and its entry in memory, and what it returns goes through memory again; the
//! processor cannot look ahead past such a store while the record before still comes from memory. A window
//! is small enough that all of it stays in registers when it is inlined into the caller's loop, so that the
//! misses of several records overlap.
//!
//! Invariant: a window yields what the cursor that opened it would; it stops before an entry that is no
//! plain value, and before one that contradicts the block, and leaves those to the cursor.

use super::block::{Entry, EntryKind, Layout};
use crate::prefetch;

/// How far ahead of the reader the window asks for its bytes.
const AHEAD_BYTES: usize = 1024;
/// Of a long entry it asks for the beginning.
const MOST_BYTES: usize = 512;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    block: &'a [u8],
    layout: Layout,
    position: usize,
}

impl<'a> Window<'a> {
    /// Yields nothing.
    pub const EMPTY: Window<'static> = Window { block: &[], layout: Layout::EMPTY, position: 0 };

    /// The entries of a block from `position` on.
    pub fn new(block: &'a [u8], layout: Layout, position: usize) -> Window<'a> {
        let window = Window { block, layout, position };
        if let Ok(entry) = layout.entry(block, position) {
            prefetch::read(block, entry.key().start, AHEAD_BYTES);
        }
        window
    }

    /// Key and value of the next entry.
    #[inline(always)]
    pub fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let entry = self.plain(self.position)?;
        let found = (self.block.get(entry.key())?, self.block.get(entry.value())?);
        self.position += 1;
        let (start, end) = (entry.key().start, entry.value().end);
        prefetch::read(self.block, start + AHEAD_BYTES, (end - start).min(MOST_BYTES));
        Some(found)
    }

    /// Takes back the entry that [`next`](Window::next) yielded last.
    pub fn put_back(&mut self) {
        self.position = self.position.saturating_sub(1);
    }

    /// The key before the next entry, which [`next`](Window::next) has yielded or the cursor before it.
    pub fn last_key(&self) -> Option<&'a [u8]> {
        self.block.get(self.plain(self.position.checked_sub(1)?)?.key())
    }

    /// Position in the block of the entry that comes next.
    pub fn position(&self) -> usize {
        self.position
    }

    #[inline(always)]
    fn plain(&self, position: usize) -> Option<Entry> {
        let entry = self.layout.entry(self.block, position).ok()?;
        (entry.kind == EntryKind::Value).then_some(entry)
    }
}
