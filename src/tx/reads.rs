//! Reads over a write set (if there is one) and a view, and the methods that every reader has.

use crate::error::Result;
use crate::slice::Slice;
use crate::types::{KeyspaceId, Seqno};
use crate::view::{Layer, Range, Sight, View, count, get_in};
use std::ops::{Bound, RangeBounds};

/// Everything that a reader sees: its own changes above one point of the database.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The write set's layers, newest first.
    pub own: &'a [Layer],
    pub view: &'a View,
    pub at: Seqno,
}

impl<'a> Source<'a> {
    #[inline]
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Slice<'a>>> {
        if !self.own.is_empty()
            && let Some(decided) = get_in(self.own, keyspace, key, Seqno::MAX)?
        {
            return Ok(decided);
        }
        self.view.get(keyspace, key, self.at)
    }

    pub fn range(
        &self,
        keyspace: KeyspaceId,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Range<'a> {
        let sight = Sight { own: self.own, view: &self.view.layers, keyspace, at: self.at };
        Range::new(lower, upper, sight)
    }

    pub fn len(&self, keyspace: KeyspaceId) -> Result<u64> {
        count(self.own, &self.view.layers, keyspace, self.at)
    }
}

/// Turns the bounds of any range of byte strings into bounds of slices.
pub fn bounds_of<'r, K: AsRef<[u8]> + 'r>(
    range: &'r impl RangeBounds<K>,
) -> (Bound<&'r [u8]>, Bound<&'r [u8]>) {
    (range.start_bound().map(AsRef::as_ref), range.end_bound().map(AsRef::as_ref))
}

/// The read methods of a type that has `fn source(&self, &Keyspace) -> Result<Source<'_>>` and notes
/// what it read with `fn note_point` and `fn note_range`.
macro_rules! read_methods {
    () => {
        /// The value of a key. Costs about two cache misses when the data is in memory; no lock, no copy.
        ///
        /// # Errors
        /// [`Error::Damage`](crate::Error::Damage), [`Error::Io`](crate::Error::Io),
        /// [`Error::KeyspaceDropped`](crate::Error::KeyspaceDropped).
        #[inline]
        pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice<'_>>> {
            let key = key.as_ref();
            let source = self.source(keyspace)?;
            self.note_point(keyspace, key);
            source.get(keyspace.id(), key)
        }

        /// Whether a key has a value. Costs as much as [`get`](Self::get).
        ///
        /// # Errors
        /// As [`get`](Self::get).
        pub fn contains(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool> {
            Ok(self.get(keyspace, key)?.is_some())
        }

        /// All entries in key order, from both ends.
        ///
        /// # Errors
        /// As [`get`](Self::get); the iterator yields what it meets later.
        pub fn iter(&self, keyspace: &Keyspace) -> Result<Range<'_>> {
            self.range_of(keyspace, Bound::Unbounded, Bound::Unbounded)
        }

        /// The entries of a range of keys, from both ends: `snapshot.range(&users, "a".."b")`.
        ///
        /// # Errors
        /// As [`get`](Self::get); the iterator yields what it meets later.
        pub fn range<K: AsRef<[u8]>>(
            &self,
            keyspace: &Keyspace,
            range: impl RangeBounds<K>,
        ) -> Result<Range<'_>> {
            let (lower, upper) = bounds_of(&range);
            self.range_of(keyspace, lower, upper)
        }

        /// The entries whose keys start with `prefix`, from both ends.
        ///
        /// # Errors
        /// As [`get`](Self::get); the iterator yields what it meets later.
        pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Result<Range<'_>> {
            let (lower, upper) = prefix_bounds(prefix.as_ref());
            let lower = lower.as_ref().map(|key| key.as_slice());
            let upper = upper.as_ref().map(|key| key.as_slice());
            self.range_of(keyspace, lower, upper)
        }

        /// The entry with the smallest key.
        ///
        /// # Errors
        /// As [`get`](Self::get).
        pub fn first(&self, keyspace: &Keyspace) -> Result<Option<(Slice<'_>, Slice<'_>)>> {
            self.iter(keyspace)?.next().transpose()
        }

        /// The entry with the greatest key.
        ///
        /// # Errors
        /// As [`get`](Self::get).
        pub fn last(&self, keyspace: &Keyspace) -> Result<Option<(Slice<'_>, Slice<'_>)>> {
            self.iter(keyspace)?.next_back().transpose()
        }

        /// The exact number of keys. Tables are not scanned; entries of which it is not known whether
        /// they replaced one are looked up, once.
        ///
        /// # Errors
        /// As [`get`](Self::get).
        pub fn len(&self, keyspace: &Keyspace) -> Result<u64> {
            let source = self.source(keyspace)?;
            self.note_range(keyspace, Bound::Unbounded, Bound::Unbounded);
            source.len(keyspace.id())
        }

        /// Whether there is no key.
        ///
        /// # Errors
        /// As [`get`](Self::get).
        pub fn is_empty(&self, keyspace: &Keyspace) -> Result<bool> {
            Ok(self.first(keyspace)?.is_none())
        }

        fn range_of(
            &self,
            keyspace: &Keyspace,
            lower: Bound<&[u8]>,
            upper: Bound<&[u8]>,
        ) -> Result<Range<'_>> {
            let source = self.source(keyspace)?;
            self.note_range(keyspace, lower, upper);
            Ok(source.range(keyspace.id(), lower, upper))
        }
    };
}
pub(crate) use read_methods;
