//! Taking entries out: pops from the edges of a keyspace, and `extract_if`.
//!
//! A transaction that pops again and again leaves a trail of tombstones at the edge. [`Edges`] remembers
//! how far each edge has moved, so that the next pop starts behind the trail.

use super::reads::Source;
use super::write_set::WriteSet;
use crate::error::Result;
use crate::types::{KeyspaceId, Seqno};
use crate::view::View;
use std::collections::{HashMap, VecDeque};
use std::iter::FusedIterator;
use std::ops::Bound;
use std::sync::Arc;

/// Bounds of what may be live, by keyspace: nothing lives at or before `front`, nor at or after `back`.
#[derive(Debug, Default)]
pub struct Edges(HashMap<KeyspaceId, Edge>);

#[derive(Debug, Default)]
struct Edge {
    front: Option<Vec<u8>>,
    back: Option<Vec<u8>>,
}

/// An entry that was taken out.
pub type Taken = (Vec<u8>, Vec<u8>);

impl Edges {
    /// The entry at an edge.
    pub fn find(
        &self,
        source: &Source<'_>,
        keyspace: KeyspaceId,
        back: bool,
    ) -> Result<Option<Taken>> {
        let edge = self.0.get(&keyspace);
        let bound = |key: Option<&Vec<u8>>| {
            key.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()))
        };
        let lower = bound(edge.and_then(|edge| edge.front.as_ref()));
        let upper = bound(edge.and_then(|edge| edge.back.as_ref()));
        let lower = lower.as_ref().map(|key| key.as_slice());
        let upper = upper.as_ref().map(|key| key.as_slice());
        let mut range = source.range(keyspace, lower, upper);
        let found = if back { range.next_back() } else { range.next() };
        Ok(found.transpose()?.map(|(key, value)| (key.into_vec(), value.into_vec())))
    }

    /// An entry at an edge was taken out.
    pub fn popped(&mut self, keyspace: KeyspaceId, key: &[u8], back: bool) {
        let edge = self.0.entry(keyspace).or_default();
        let side = if back { &mut edge.back } else { &mut edge.front };
        let kept = side.get_or_insert_default();
        kept.clear();
        kept.extend_from_slice(key);
    }

    /// Nothing is left between the edges.
    pub fn emptied(&mut self, keyspace: KeyspaceId) {
        self.0.remove(&keyspace);
    }

    /// A key was inserted, perhaps past an edge.
    #[inline]
    pub fn inserted(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        if self.0.is_empty() {
            return;
        }
        if let Some(edge) = self.0.get_mut(&keyspace) {
            if edge.front.as_deref().is_some_and(|front| key <= front) {
                edge.front = None;
            }
            if edge.back.as_deref().is_some_and(|back| key >= back) {
                edge.back = None;
            }
        }
    }
}

/// Entries read ahead at a time.
const READ_AHEAD: usize = 64;

/// Takes the entries that a closure picks out of a range. From
/// [`WriteTx::extract_if`](crate::WriteTx::extract_if).
pub struct ExtractIf<'t, F> {
    set: &'t mut WriteSet,
    view: Arc<View>,
    at: Seqno,
    keyspace: KeyspaceId,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    ahead: VecDeque<Taken>,
    wanted: F,
    done: bool,
}

impl<F> std::fmt::Debug for ExtractIf<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtractIf").field("done", &self.done).finish_non_exhaustive()
    }
}

impl<'t, F: FnMut(&[u8], &[u8]) -> bool> ExtractIf<'t, F> {
    pub(super) fn new(
        set: &'t mut WriteSet,
        view: Arc<View>,
        at: Seqno,
        keyspace: KeyspaceId,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        wanted: F,
    ) -> Self {
        ExtractIf {
            set,
            view,
            at,
            keyspace,
            lower: lower.map(<[u8]>::to_vec),
            upper: upper.map(<[u8]>::to_vec),
            ahead: VecDeque::new(),
            wanted,
            done: false,
        }
    }

    fn pull(&mut self) -> Result<Option<Taken>> {
        loop {
            while let Some((key, value)) = self.ahead.pop_front() {
                if (self.wanted)(&key, &value) {
                    self.set.remove(self.keyspace, &key)?;
                    return Ok(Some((key, value)));
                }
            }
            let source = Source { own: self.set.layers(), view: &self.view, at: self.at };
            let lower = self.lower.as_ref().map(Vec::as_slice);
            let upper = self.upper.as_ref().map(Vec::as_slice);
            let mut bytes = 0;
            for entry in source.range(self.keyspace, lower, upper).take(READ_AHEAD) {
                let (key, value) = entry?;
                bytes += key.len() + value.len();
                self.ahead.push_back((key.into_vec(), value.into_vec()));
                if bytes > 1 << 20 {
                    break;
                }
            }
            match self.ahead.back() {
                Some((key, _)) => self.lower = Bound::Excluded(key.clone()),
                None => return Ok(None),
            }
        }
    }
}

impl<F: FnMut(&[u8], &[u8]) -> bool> Iterator for ExtractIf<'_, F> {
    type Item = Result<Taken>;

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
