//! Iterators over a range of keys as one reader sees it.
//!
//! Each end has its own merge, made when that end is first used. The two meet where the keys do: a key
//! that one end has yielded bounds the other.
//!
//! Invariants: keys strictly ascend from the front and descend from the back; no key is yielded twice;
//! after an error, and after the end, there is only `None`.

use super::{Merge, Sight};
use crate::cursor::Cursor;
use crate::error::Result;
use crate::mistakes::{Mistake, planted};
use crate::slice::Slice;
use crate::table::Window;
use std::iter::FusedIterator;
use std::ops::Bound;

/// The entries of a range, from both ends. Yields `Result<(key, value)>` and ends after an error.
///
/// Keys and values borrow from the reader that made it. Making it costs a seek in every layer; each step
/// costs a few nanoseconds and no allocation.
pub struct Range<'a> {
    /// For the end that has no merge yet.
    sight: Sight<'a>,
    front: Option<Merge<'a>>,
    back: Option<Merge<'a>>,
    lower: Bound<Limit<'a>>,
    upper: Bound<Limit<'a>>,
    /// What the front yields next without its merge, which stands where the window began.
    window: Window<'a>,
    window_is_open: bool,
    /// From this key on the window does not count.
    window_end: Option<Slice<'a>>,
    pending: Option<Result<(Slice<'a>, Slice<'a>)>>,
    done: bool,
}

/// A key that bounds a range: the caller's, copied, or that of an entry that an end has yielded.
enum Limit<'a> {
    Entry(Slice<'a>),
    Short { bytes: [u8; SHORT_BYTES], length: u8 },
    Long(Box<[u8]>),
}

/// Keys up to this length cost a range no allocation.
const SHORT_BYTES: usize = 38;

impl Limit<'_> {
    fn copy(key: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        match bytes.get_mut(..key.len()) {
            Some(start) => {
                start.copy_from_slice(key);
                Limit::Short { bytes, length: key.len() as u8 }
            }
            None => Limit::Long(key.into()),
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            Limit::Entry(slice) => slice.as_bytes(),
            Limit::Short { bytes, length } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Limit::Long(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Limit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl std::fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Range").field("lower", &self.lower).field("upper", &self.upper).finish()
    }
}

impl<'a> Range<'a> {
    pub(crate) fn new(lower: Bound<&[u8]>, upper: Bound<&[u8]>, sight: Sight<'a>) -> Range<'a> {
        let done = is_empty_range(lower, upper);
        Range {
            sight,
            front: None,
            back: None,
            lower: lower.map(Limit::copy),
            upper: upper.map(Limit::copy),
            window: Window::EMPTY,
            window_is_open: false,
            window_end: None,
            pending: None,
            done,
        }
    }

    /// Puts the next entry where the window does not have it into `pending`. Not returned: what a call
    /// writes has an address, and then what the window yields would go through memory as well.
    #[inline(never)]
    fn pull_pending(&mut self) {
        if !self.done {
            self.pending = self.pull_front().transpose();
            self.done = !matches!(self.pending, Some(Ok(_)));
            if planted(Mistake::IteratorGoesOn) && matches!(self.pending, Some(Err(_))) {
                self.done = false;
            }
        }
    }

    /// Before the back end is used: from here on both ends go by the bounds.
    fn close_window(&mut self) {
        if self.window_is_open {
            if let Some(key) = self.window.last_key() {
                self.lower = Bound::Excluded(Limit::Entry(Slice::borrowed(key)));
            }
            (self.front, self.window, self.window_is_open) = (None, Window::EMPTY, false);
        }
    }

    fn front(&mut self) -> Result<&mut Merge<'a>> {
        if self.front.is_none() {
            // In its place before it is moved: it is large.
            let merge = self.front.insert(self.sight.merge()?);
            if let Err(error) = to_lower(merge, &self.lower) {
                self.front = None;
                return Err(error);
            }
        }
        self.front.as_mut().ok_or_else(no_merge)
    }

    fn back(&mut self) -> Result<&mut Merge<'a>> {
        if self.back.is_none() {
            let mut merge = self.sight.merge()?;
            match &self.upper {
                Bound::Excluded(key) => merge.seek_before(Some(key.as_bytes()))?,
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
        if self.window_is_open {
            self.window_is_open = false;
            merge.resume(&std::mem::replace(&mut self.window, Window::EMPTY))?;
        }
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
                if self.back.is_none()
                    && let Some((window, end)) = merge.window()
                {
                    (self.window, self.window_is_open, self.window_end) = (window, true, end);
                }
                self.lower = Bound::Excluded(Limit::Entry(key.clone()));
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
                self.upper = Bound::Excluded(Limit::Entry(key.clone()));
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
        let Some((key, value)) = self.window.next() else {
            self.pull_pending();
            return self.pending.take();
        };
        if let Some(end) = &self.window_end
            && key >= end.as_bytes()
        {
            self.window.put_back();
            self.pull_pending();
            return self.pending.take();
        }
        let inside = match &self.upper {
            Bound::Unbounded => true,
            Bound::Included(last) => key <= last.as_bytes(),
            Bound::Excluded(end) => key < end.as_bytes(),
        };
        if inside {
            return Some(Ok((Slice::borrowed(key), Slice::borrowed(value))));
        }
        (self.window, self.done) = (Window::EMPTY, true);
        None
    }
}

impl DoubleEndedIterator for Range<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        self.close_window();
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

/// To the first entry of a range.
fn to_lower(merge: &mut Merge<'_>, lower: &Bound<Limit<'_>>) -> Result<()> {
    match lower {
        Bound::Included(key) => merge.seek(Some(key.as_bytes())),
        Bound::Unbounded => merge.seek(None),
        Bound::Excluded(key) => {
            merge.seek(Some(key.as_bytes()))?;
            let on_bound = merge.current().is_some_and(|entry| entry.key() == key.as_bytes());
            if on_bound { merge.advance() } else { Ok(()) }
        }
    }
}

fn no_merge() -> crate::Error {
    crate::Error::InvalidArgument("an iterator lost its position".to_owned())
}
