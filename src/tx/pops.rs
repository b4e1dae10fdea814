//! Pops from the edges of a keyspace.
//!
//! A transaction that pops again and again would look for each entry anew, and would leave a trail of
//! tombstones. [`Edges`] remembers for each side how far it has moved (its *bound*), and keeps some entries
//! that it read ahead: first one, then twice as many each time. After some pops in a row it stops writing
//! tombstones: nothing lives between the first of those entries and the bound, so one range tombstone
//! says it all. It is written into the write set when somebody is about to look there: a read, an insertion
//! at or before the bound, a savepoint, the commit. Bounds outlive the commit (see [`Popped`]).
//!
//! Invariants:
//!
//! 1. Nothing lives at or past the bound of a side, in the write set, its unwritten ranges, and the view.
//! 2. Entries read ahead are the next ones of their side, up to the bound of the other one.
//! 3. While a range is unwritten there is a memtable on top of the write set.

use super::reads::Source;
use super::write_set::WriteSet;
use crate::cursor::RangeTombstone;
use crate::engine::{Bounds, Popped};
use crate::error::Result;
use crate::sync::engine::Mutex;
use crate::types::{KeyspaceId, MAX_KEY_BYTES, Seqno};
use crate::view::View;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

/// Pops of one side that each write a tombstone, before a range tombstone begins. (A range costs readers
/// more than a few tombstones do.)
const SINGLE_POPS: usize = 16;
/// Entries read ahead at a time.
const AHEAD_MAX: usize = 256;
/// Reading ahead stops after this many bytes.
const AHEAD_MAX_BYTES: usize = 256 << 10;

/// What is known of the edges of keyspaces. See the module.
#[derive(Debug, Default)]
pub struct Edges {
    edges: Mutex<BTreeMap<KeyspaceId, Edge>>,
    /// Some range is not in the write set yet.
    unwritten: AtomicBool,
    /// Bounds as of the beginning.
    known: Popped,
}

#[derive(Debug, Default)]
struct Edge {
    front: Side,
    back: Side,
}

#[derive(Debug, Default)]
struct Side {
    /// The last key that was popped.
    bound: Option<Vec<u8>>,
    /// The next entries.
    ahead: VecDeque<Taken>,
    /// How many entries to read ahead next.
    batch: usize,
    /// Pops in a row, up to [`SINGLE_POPS`].
    run: usize,
    /// Where the unwritten range begins (front side) or ends (back side). It reaches to the bound.
    anchor: Option<Vec<u8>>,
    unwritten: bool,
}

/// An entry that was taken out.
pub type Taken = (Vec<u8>, Vec<u8>);

impl Edges {
    /// Edges of which something is known. The transaction has changed nothing yet.
    pub fn new(known: Popped) -> Edges {
        Edges { known, ..Edges::default() }
    }

    /// What is known of a keyspace once the transaction commits.
    pub fn bounds(&mut self, keyspace: KeyspaceId) -> Option<Bounds> {
        let edges = self.edges.get_mut();
        // An insertion would have made an edge of what is known.
        let Some(edge) = edges.get(&keyspace) else { return self.known.get(keyspace).cloned() };
        let bounds = Bounds { front: edge.front.bound.clone(), back: edge.back.bound.clone() };
        (bounds != Bounds::default()).then_some(bounds)
    }

    /// The edge of a keyspace, if it was popped from.
    #[inline]
    fn edge(&mut self, keyspace: KeyspaceId) -> Option<&mut Edge> {
        match self.edges.get_mut().entry(keyspace) {
            Entry::Occupied(edge) => Some(edge.into_mut()),
            Entry::Vacant(edge) => Some(edge.insert(Edge::new(self.known.get(keyspace)?))),
        }
    }

    /// Takes the entry at an edge out.
    pub fn pop(
        &mut self,
        set: &mut WriteSet,
        view: &View,
        at: Seqno,
        keyspace: KeyspaceId,
        back: bool,
    ) -> Result<Option<Taken>> {
        let known = self.known.get(keyspace);
        let new = || known.map(Edge::new).unwrap_or_default();
        let edge = self.edges.get_mut().entry(keyspace).or_insert_with(new);
        edge.read_ahead(&Source { own: set.layers()?, view, at }, keyspace, back)?;
        let side = if back { &mut edge.back } else { &mut edge.front };
        let Some((key, _)) = side.ahead.front() else { return Ok(None) };
        if key.len() == MAX_KEY_BYTES {
            // No range can end behind it.
            set.remove(keyspace, key)?;
            side.write(set, keyspace, back)?;
            (side.run, side.anchor) = (0, None);
        } else if side.run < SINGLE_POPS {
            set.remove(keyspace, key)?;
            side.run += 1;
        } else if !side.unwritten {
            set.touch(keyspace)?;
            let anchor = || if back { after(key) } else { key.clone() };
            side.anchor.get_or_insert_with(anchor);
            side.unwritten = true;
            *self.unwritten.get_mut() = true;
        }
        let Some((key, _)) = side.ahead.front() else { return Ok(None) };
        let bound = side.bound.get_or_insert_default();
        bound.clear();
        bound.extend_from_slice(key);
        Ok(side.ahead.pop_front())
    }

    /// Writes what is unwritten, so that a reader of the write set sees it.
    #[inline]
    pub fn write(&self, set: &WriteSet) -> Result<()> {
        if self.unwritten.load(Ordering::Acquire) { self.write_all(set) } else { Ok(()) }
    }

    #[cold]
    fn write_all(&self, set: &WriteSet) -> Result<()> {
        for (keyspace, edge) in self.edges.lock().iter_mut() {
            edge.front.write(set, *keyspace, false)?;
            edge.back.write(set, *keyspace, true)?;
        }
        self.unwritten.store(false, Ordering::Release);
        Ok(())
    }

    /// A key is about to be inserted, perhaps past an edge.
    #[inline]
    pub fn before_insert(
        &mut self,
        set: &WriteSet,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> Result<()> {
        let Some(edge) = self.edge(keyspace) else { return Ok(()) };
        // With a bound gone, the other side may have read ahead what it hid.
        if edge.front.bound.as_deref().is_some_and(|bound| key <= bound) {
            edge.front.write(set, keyspace, false)?;
            edge.front = Side::default();
            edge.back.forget_ahead();
        }
        if edge.back.bound.as_deref().is_some_and(|bound| key >= bound) {
            edge.back.write(set, keyspace, true)?;
            edge.back = Side::default();
            edge.front.forget_ahead();
        }
        edge.forget_ahead(key);
        Ok(())
    }

    /// A key was removed.
    #[inline]
    pub fn removed(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        if let Some(edge) = self.edges.get_mut().get_mut(&keyspace) {
            edge.forget_ahead(key);
        }
    }

    /// Any keys were removed.
    pub fn removed_many(&mut self, keyspace: KeyspaceId) {
        if let Some(edge) = self.edges.get_mut().get_mut(&keyspace) {
            edge.front.forget_ahead();
            edge.back.forget_ahead();
        }
    }
}

impl Edge {
    fn new(known: &Bounds) -> Edge {
        let side = |bound: &Option<Vec<u8>>| Side { bound: bound.clone(), ..Side::default() };
        Edge { front: side(&known.front), back: side(&known.back) }
    }

    /// Makes sure that the next entry of a side, if there is one, was read.
    fn read_ahead(&mut self, source: &Source<'_>, keyspace: KeyspaceId, back: bool) -> Result<()> {
        let (side, other) = match back {
            false => (&mut self.front, &self.back),
            true => (&mut self.back, &self.front),
        };
        if let Some((key, _)) = side.ahead.front() {
            let crossed = other.bound.as_ref().is_some_and(|bound| match back {
                false => key >= bound,
                true => key <= bound,
            });
            if !crossed {
                return Ok(());
            }
            side.ahead.clear();
        }
        let bound = |side: &Side| side.bound.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let (lower, upper) = match back {
            false => (bound(side), bound(other)),
            true => (bound(other), bound(side)),
        };
        let lower = lower.as_ref().map(|key| key.as_slice());
        let upper = upper.as_ref().map(|key| key.as_slice());
        let mut range = source.range(keyspace, lower, upper);
        side.batch = (side.batch * 2).clamp(1, AHEAD_MAX);
        let mut bytes = 0;
        while side.ahead.len() < side.batch && bytes < AHEAD_MAX_BYTES {
            match if back { range.next_back() } else { range.next() } {
                Some(Ok((key, value))) => {
                    bytes += key.len() + value.len();
                    side.ahead.push_back((key.into_vec(), value.into_vec()));
                }
                Some(Err(error)) if side.ahead.is_empty() => return Err(error),
                // What was read is good; the error comes again when its turn is.
                Some(Err(_)) | None => break,
            }
        }
        Ok(())
    }

    /// What was read ahead is forgotten if `key` lies in it.
    fn forget_ahead(&mut self, key: &[u8]) {
        if self.front.ahead.back().is_some_and(|(last, _)| key <= last.as_slice()) {
            self.front.forget_ahead();
        }
        if self.back.ahead.back().is_some_and(|(last, _)| key >= last.as_slice()) {
            self.back.forget_ahead();
        }
    }
}

impl Side {
    fn forget_ahead(&mut self) {
        self.ahead.clear();
        self.batch = 0;
    }

    /// Writes the unwritten range. The next one will meet it, so that the two count as one.
    fn write(&mut self, set: &WriteSet, keyspace: KeyspaceId, back: bool) -> Result<()> {
        if !self.unwritten {
            return Ok(());
        }
        let (Some(anchor), Some(bound)) = (&self.anchor, &self.bound) else { return Ok(()) };
        let (start, end, next) = match back {
            false => (anchor.clone(), after(bound), after(bound)),
            true => (bound.clone(), anchor.clone(), bound.clone()),
        };
        set.hide(keyspace, RangeTombstone { start, end: Some(end) })?;
        self.anchor = Some(next);
        self.unwritten = false;
        Ok(())
    }
}

/// The smallest key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
