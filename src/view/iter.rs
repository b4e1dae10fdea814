//! Iterators over a range of keys as one reader sees it.
//!
//! Each end has its own merge, made when that end is first used. The two meet where the keys do: a key
//! that one end has yielded bounds the other.
//!
//! Invariants: keys strictly ascend from the front and descend from the back; no key is yielded twice;
//! after an error, and after the end, there is only `None`.

use super::{Merge, MergeInput};
use crate::cursor::Cursor;
use crate::error::Result;
use crate::slice::Slice;
use std::iter::FusedIterator;
use std::ops::Bound;
use std::sync::Arc;

/// The entries of a range, from both ends. Yields `Result<(key, value)>` and ends after an error.
///
/// Keys and values borrow from the reader that made it. Making it costs a seek in every layer; each step
/// costs a few nanoseconds and no allocation.
pub struct Range<'a> {
    /// Makes the inputs of a merge anew, for the end that has none yet.
    inputs: Box<dyn Fn() -> Result<Vec<MergeInput<'a>>> + Send + Sync + 'a>,
    front: Option<Merge<'a>>,
    back: Option<Merge<'a>>,
    lower: Bound<Slice<'a>>,
    upper: Bound<Slice<'a>>,
    done: bool,
}

impl std::fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Range").field("lower", &self.lower).field("upper", &self.upper).finish()
    }
}

impl<'a> Range<'a> {
    pub(crate) fn new(
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        inputs: impl Fn() -> Result<Vec<MergeInput<'a>>> + Send + Sync + 'a,
    ) -> Range<'a> {
        let done = is_empty_range(lower, upper);
        Range {
            inputs: Box::new(inputs),
            front: None,
            back: None,
            lower: lower.map(owned),
            upper: upper.map(owned),
            done,
        }
    }

    fn front(&mut self) -> Result<&mut Merge<'a>> {
        if self.front.is_none() {
            let mut merge = Merge::new((self.inputs)()?);
            match &self.lower {
                Bound::Included(key) => merge.seek(Some(key))?,
                Bound::Unbounded => merge.seek(None)?,
                Bound::Excluded(key) => {
                    merge.seek(Some(key))?;
                    let on_bound =
                        merge.current().is_some_and(|entry| entry.key() == key.as_bytes());
                    if on_bound {
                        merge.advance()?;
                    }
                }
            }
            self.front = Some(merge);
        }
        self.front.as_mut().ok_or_else(no_merge)
    }

    fn back(&mut self) -> Result<&mut Merge<'a>> {
        if self.back.is_none() {
            let mut merge = Merge::new((self.inputs)()?);
            match &self.upper {
                Bound::Excluded(key) => merge.seek_before(Some(key))?,
                Bound::Unbounded => merge.seek_before(None)?,
                Bound::Included(key) => {
                    // The smallest key after `key` is `key` with a zero byte behind it.
                    let mut after = key.as_bytes().to_vec();
                    after.push(0);
                    merge.seek_before(Some(&after))?;
                }
            }
            self.back = Some(merge);
        }
        self.back.as_mut().ok_or_else(no_merge)
    }

    fn pull_front(&mut self) -> Result<Option<(Slice<'a>, Slice<'a>)>> {
        self.front()?;
        let Some(merge) = &mut self.front else { return Ok(None) };
        while let Some(entry) = merge.current() {
            let key = entry.key();
            let inside = match &self.upper {
                Bound::Unbounded => true,
                Bound::Included(last) => key <= last.as_bytes(),
                Bound::Excluded(end) => key < end.as_bytes(),
            };
            if !inside {
                return Ok(None);
            }
            let found = entry.value()?.map(|value| (entry.key_slice(), value));
            merge.advance()?;
            if let Some((key, value)) = found {
                self.lower = Bound::Excluded(key.clone());
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    fn pull_back(&mut self) -> Result<Option<(Slice<'a>, Slice<'a>)>> {
        self.back()?;
        let Some(merge) = &mut self.back else { return Ok(None) };
        while let Some(entry) = merge.current() {
            let key = entry.key();
            let inside = match &self.lower {
                Bound::Unbounded => true,
                Bound::Included(first) => key >= first.as_bytes(),
                Bound::Excluded(before) => key > before.as_bytes(),
            };
            if !inside {
                return Ok(None);
            }
            let found = entry.value()?.map(|value| (entry.key_slice(), value));
            merge.advance()?;
            if let Some((key, value)) = found {
                self.upper = Bound::Excluded(key.clone());
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Result<(Slice<'a>, Slice<'a>)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.pull_front().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl DoubleEndedIterator for Range<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.pull_back().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl FusedIterator for Range<'_> {}

/// The bounds of all keys that start with `prefix`.
pub fn prefix_bounds(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    let upper = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    (Bound::Included(prefix.to_vec()), upper)
}

/// A range that can hold no key (also one whose bounds are the wrong way round).
fn is_empty_range(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    match (lower, upper) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
        _ => false,
    }
}

fn owned<'a>(bytes: &[u8]) -> Slice<'a> {
    Slice::shared(Arc::new(bytes.to_vec()), 0..bytes.len())
}

fn no_merge() -> crate::Error {
    crate::Error::InvalidArgument("an iterator lost its position".to_owned())
}
