//! Bytes that a read hands out: borrowed from the snapshot where that is possible, shared where not.
//!
//! A [`Slice`] borrows from the mapping or the memtable that the snapshot keeps alive (no copy, no
//! reference count). Where a block was read into memory ([`ReadMode::Pread`](crate::ReadMode)), it
//! shares that block.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A key or a value as a read returns it. Dereferences to `[u8]`.
#[derive(Clone)]
pub struct Slice<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Borrowed(&'a [u8]),
    Shared { block: Arc<Vec<u8>>, start: usize, end: usize },
}

impl<'a> Slice<'a> {
    /// Borrows bytes that live as long as the snapshot.
    #[inline]
    pub const fn borrowed(bytes: &'a [u8]) -> Self {
        Slice(Repr::Borrowed(bytes))
    }

    /// A part of a shared block.
    ///
    /// # Panics
    /// If `range` does not lie within `block`.
    #[inline]
    pub fn shared(block: Arc<Vec<u8>>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= block.len());
        Slice(Repr::Shared { block, start: range.start, end: range.end })
    }

    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Shared { block, start, end } => &block[*start..*end],
        }
    }

    /// A copy that owns its bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Deref for Slice<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Slice<'_> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<[u8]> for Slice<'_> {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Slice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Slice<'_> {
    fn eq(&self, other: &T) -> bool {
        self.as_bytes() == other.as_ref()
    }
}

impl Eq for Slice<'_> {}

impl PartialOrd for Slice<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Slice<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl From<Slice<'_>> for Vec<u8> {
    fn from(slice: Slice<'_>) -> Vec<u8> {
        slice.into_vec()
    }
}
