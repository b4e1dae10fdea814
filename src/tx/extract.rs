//! `extract_if`: takes the entries that a closure picks out of a range, one by one.
//!
//! It reads the layers as they were when it began; the tombstones that it writes on top of them lie behind
//! its reader.

use super::write_set::WriteSet;
use crate::error::Result;
use crate::slice::Slice;
use crate::types::KeyspaceId;
use crate::view::Range;
use std::iter::FusedIterator;

/// Takes the entries that a closure picks out of a range. From
/// [`WriteTx::extract_if`](crate::WriteTx::extract_if).
///
/// Keys and values borrow from the transaction, without a copy; [`Slice::into_vec`] makes one.
pub struct ExtractIf<'t, F> {
    set: &'t mut WriteSet,
    range: Range<'t>,
    keyspace: KeyspaceId,
    wanted: F,
    done: bool,
}

impl<F> std::fmt::Debug for ExtractIf<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtractIf").field("done", &self.done).finish_non_exhaustive()
    }
}

impl<'t, F: FnMut(&[u8], &[u8]) -> bool> ExtractIf<'t, F> {
    /// `range` reads what `set` had when it was made.
    pub(super) fn new(
        set: &'t mut WriteSet,
        range: Range<'t>,
        keyspace: KeyspaceId,
        wanted: F,
    ) -> Self {
        ExtractIf { set, range, keyspace, wanted, done: false }
    }

    fn pull(&mut self) -> Result<Option<(Slice<'t>, Slice<'t>)>> {
        for entry in &mut self.range {
            let (key, value) = entry?;
            if (self.wanted)(&key, &value) {
                self.set.remove(self.keyspace, &key)?;
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

impl<'t, F: FnMut(&[u8], &[u8]) -> bool> Iterator for ExtractIf<'t, F> {
    type Item = Result<(Slice<'t>, Slice<'t>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.pull().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl<F: FnMut(&[u8], &[u8]) -> bool> FusedIterator for ExtractIf<'_, F> {}
