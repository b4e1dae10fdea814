//! A view: the layers that a reader looks through, newest first, and how reads merge them.
//!
//! Layers are memtables (multi-version: a reader sees what is at or before its seqno) and runs of tables
//! (one version: all of it is at or before the seqno of every reader that looks into it). A view never
//! changes; the engine publishes a new one when a memtable is frozen, a checkpoint or a merge is
//! published, or a spilled transaction is installed.
//!
//! Invariant: layers ascend in age and are disjoint in seqno, so that the first layer that says anything
//! of a key, value or tombstone, decides.

mod count;
mod iter;
mod merge;
mod run;
#[cfg(test)]
mod tests;

pub use count::{Deltas, count};
pub use iter::{Range, prefix_bounds};
pub use merge::{LayerCursor, Merge};
pub use run::{LiveTable, Run, RunCursor, runs_of};

use crate::cursor::RangeTombstone;
use crate::error::{Error, Result};
use crate::memtable::{ChunkPool, Memtable};
use crate::slice::Slice;
use crate::table::{Found, key_hash};
use crate::types::{KeyspaceId, Seqno};
use std::sync::Arc;

/// A memtable as a layer.
#[derive(Debug, Default)]
pub struct MemoryLayer {
    memtable: Memtable,
    /// How it changes the number of keys.
    deltas: Deltas,
}

impl MemoryLayer {
    /// An empty one with memory of earlier ones, as far as there is some.
    pub fn with_pool(pool: &Arc<ChunkPool>) -> MemoryLayer {
        MemoryLayer { memtable: Memtable::with_pool(pool), deltas: Deltas::default() }
    }

    /// Whether it can stand for a new one: nobody ever wrote to it, or counted its keys.
    pub fn is_untouched(&self) -> bool {
        self.memtable.is_untouched() && self.deltas.is_empty()
    }
}

impl std::ops::Deref for MemoryLayer {
    type Target = Memtable;
    #[inline]
    fn deref(&self) -> &Memtable {
        &self.memtable
    }
}

/// One sorted layer.
#[derive(Debug, Clone)]
pub enum Layer {
    /// Versions in memory.
    Memory(Arc<MemoryLayer>),
    /// Tables.
    Run(Arc<Run>),
}

/// The layers of the database at one moment, newest first. None at all: the database is closed, and what
/// the handles that live on would see was let go.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub layers: Vec<Layer>,
}

impl View {
    /// [`Error::Closed`] for the view of a closed database.
    #[inline]
    pub fn check_open(&self) -> Result<()> {
        if self.layers.is_empty() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Looks a key up at `at`.
    #[inline]
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], at: Seqno) -> Result<Option<Slice<'_>>> {
        let hash = key_hash(keyspace, key);
        match self.known_value(keyspace, key, hash, at) {
            Ok(value) => Ok(Some(Slice::borrowed(value))),
            Err(from) => self.look_up(from, keyspace, key, hash, at),
        }
    }

    /// The value of a key in the usual layers of a database at rest, if it is in memory or a table knows where it lies;
    /// otherwise the first layer that may say something of it.
    ///
    /// What it returns fits into registers, and nothing lies between the call and the lookup: see
    /// [`Table::known_value`](crate::table::Table::known_value).
    #[inline(never)]
    fn known_value(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
        at: Seqno,
    ) -> Result<&[u8], usize> {
        let [Layer::Memory(memory), Layer::Run(run)] = self.layers.as_slice() else {
            return Err(0);
        };
        if memory.knows(keyspace) {
            if let Some(entry) = memory.get_hashed(keyspace, key, hash, at) {
                return entry.value.ok_or(0);
            }
            if memory.has_range_tombstones(keyspace) {
                return Err(0);
            }
        }
        if run.max_seqno > at {
            return Err(0);
        }
        run.known_value(keyspace, key, hash).ok_or(1)
    }

    /// Looks a key up in the layers from `from` on. If that is not the first, it is the last, and does not know where the
    /// key lies.
    #[inline(never)]
    fn look_up(
        &self,
        from: usize,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
        at: Seqno,
    ) -> Result<Option<Slice<'_>>> {
        if from > 0
            && let Some(Layer::Run(run)) = self.layers.get(from)
        {
            return Ok(run.get(keyspace, key, hash)?.and_then(Found::into_value));
        }
        self.check_open()?;
        Ok(search(&self.layers, keyspace, key, hash, at)?.flatten())
    }
}

/// One layer's entries and range tombstones, as the merge takes them.
pub struct MergeInput<'a> {
    pub cursor: LayerCursor<'a>,
    pub range_tombstones: Vec<RangeTombstone>,
}

/// Looks a key up in layers, newest first. Outer `None`: no layer says anything of it. Inner `None`: it
/// is removed.
pub fn get_in<'a>(
    layers: &'a [Layer],
    keyspace: KeyspaceId,
    key: &[u8],
    at: Seqno,
) -> Result<Option<Option<Slice<'a>>>> {
    search(layers, keyspace, key, key_hash(keyspace, key), at)
}

/// What [`get_in`] does, with the [`key_hash`] of the key.
#[inline(always)]
fn search<'a>(
    layers: &'a [Layer],
    keyspace: KeyspaceId,
    key: &[u8],
    hash: u64,
    at: Seqno,
) -> Result<Option<Option<Slice<'a>>>> {
    for layer in layers {
        match layer {
            Layer::Memory(memtable) if memtable.knows(keyspace) => {
                if let Some(entry) = memtable.get_hashed(keyspace, key, hash, at) {
                    return Ok(Some(entry.value.map(Slice::borrowed)));
                }
                if memtable.has_range_tombstones(keyspace) && memtable.covers(keyspace, key, at) {
                    return Ok(Some(None));
                }
            }
            Layer::Run(run) if run.max_seqno <= at => {
                if let Some(value) = run.known_value(keyspace, key, hash) {
                    return Ok(Some(Some(Slice::borrowed(value))));
                }
                if let Some(found) = run.get(keyspace, key, hash)? {
                    return Ok(Some(found.into_value()));
                }
            }
            Layer::Memory(_) | Layer::Run(_) => {}
        }
    }
    Ok(None)
}

/// What a reader looks through for one keyspace: its own changes, and below them a view at one point.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The layers of a write set, newest first.
    pub own: &'a [Layer],
    /// The layers of the view, newest first.
    pub view: &'a [Layer],
    pub keyspace: KeyspaceId,
    pub at: Seqno,
}

impl<'a> Sight<'a> {
    /// All that it sees as one, standing nowhere yet.
    pub fn merge(&self) -> Result<Merge<'a>> {
        let own = self.own.iter().map(|layer| (layer, Seqno::MAX));
        let view = self.view.iter().map(|layer| (layer, self.at));
        let mut seen = own.chain(view).filter(|(layer, at)| is_seen(layer, self.keyspace, *at));
        let (first, second) = (seen.next(), seen.next());
        // One is the most usual, and its cursor is large: it is moved once.
        if let (Some((layer, at)), None) = (first, second) {
            return Ok(Merge::of_one(cursor_of(layer, self.keyspace, at)));
        }
        let all = first.into_iter().chain(second).chain(seen);
        let inputs = all.map(|(layer, at)| seen_input_of(layer, self.keyspace, at));
        Ok(Merge::new(inputs.collect::<Result<Vec<_>>>()?))
    }
}

/// Whether a reader at `at` may see anything of a layer.
#[inline]
fn is_seen(layer: &Layer, keyspace: KeyspaceId, at: Seqno) -> bool {
    match layer {
        // An empty one was empty when the reader's point was taken, too.
        Layer::Memory(memtable) => !memtable.is_empty() || memtable.has_range_tombstones(keyspace),
        Layer::Run(run) => run.max_seqno <= at,
    }
}

#[inline]
fn cursor_of(layer: &Layer, keyspace: KeyspaceId, at: Seqno) -> LayerCursor<'_> {
    match layer {
        Layer::Memory(memtable) => LayerCursor::Memory(memtable.cursor(keyspace, at)),
        Layer::Run(run) => LayerCursor::Run(run.cursor(keyspace)),
    }
}

fn seen_input_of(layer: &Layer, keyspace: KeyspaceId, at: Seqno) -> Result<MergeInput<'_>> {
    let range_tombstones = match layer {
        Layer::Memory(memtable) => memtable.range_tombstones(keyspace, at),
        Layer::Run(run) => run.range_tombstones(keyspace)?,
    };
    Ok(MergeInput { cursor: cursor_of(layer, keyspace, at), range_tombstones })
}

/// A layer as a merge takes it; `None` if a reader at `at` sees nothing of it.
pub fn input_of(layer: &Layer, keyspace: KeyspaceId, at: Seqno) -> Result<Option<MergeInput<'_>>> {
    let seen = is_seen(layer, keyspace, at);
    seen.then(|| seen_input_of(layer, keyspace, at)).transpose()
}
