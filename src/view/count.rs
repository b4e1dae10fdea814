//! The exact number of keys, without scanning tables.
//!
//! The lowest run knows its count. Each layer above changes it by a delta: for each of its keys, whether it is
//! live here less whether it was live below; for each range tombstone, less what was live below and has
//! no entry here. A key's existence below costs a point lookup, once: the delta of a run never changes,
//! because merges below it keep what is live, and is remembered; a memtable's is remembered for the
//! point it was asked at.

use super::{Layer, Merge, Sight, get_in, input_of};
use crate::cursor::{Cursor, RangeTombstone};
use crate::error::Result;
use crate::sync::engine::Mutex;
use crate::types::{KeyspaceId, Seqno};
use std::collections::HashMap;

/// Deltas that were worked out, by keyspace, with the point they hold at.
#[derive(Debug, Default)]
pub struct Deltas(Mutex<HashMap<KeyspaceId, (Seqno, i64)>>);

impl Deltas {
    pub fn get(&self, keyspace: KeyspaceId, at: Seqno) -> Option<i64> {
        self.0.lock().get(&keyspace).filter(|known| known.0 == at).map(|known| known.1)
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub fn set(&self, keyspace: KeyspaceId, at: Seqno, delta: i64) {
        self.0.lock().insert(keyspace, (at, delta));
    }
}

/// Counts the live keys of `view` (newest first) at `at`, changed by the write set `own` above it.
pub fn count(own: &[Layer], view: &[Layer], keyspace: KeyspaceId, at: Seqno) -> Result<u64> {
    let mut total: i64 = 0;
    for (index, layer) in view.iter().enumerate().rev() {
        let below = Below { own: &[], view: &view[index + 1..], keyspace, at };
        total += match layer {
            Layer::Run(run) if run.max_seqno > at => 0,
            Layer::Run(run) if below.view.is_empty() => {
                let mut count = 0;
                for table in run.tables_of(keyspace) {
                    let sections = table.sections()?;
                    let own = sections.iter().find(|section| section.keyspace == keyspace);
                    count += own.map_or(0, |own| (own.entries - own.tombstones) as i64);
                }
                count
            }
            Layer::Run(run) => remembered(&run.deltas, keyspace, run.max_seqno, || {
                delta(layer, at, &below, total)
            })?,
            Layer::Memory(memory) => {
                remembered(&memory.deltas, keyspace, at, || delta(layer, at, &below, total))?
            }
        };
    }
    for (index, layer) in own.iter().enumerate().rev() {
        let below = Below { own: &own[index + 1..], view, keyspace, at };
        total += delta(layer, Seqno::MAX, &below, total)?;
    }
    Ok(u64::try_from(total).unwrap_or(0))
}

fn remembered(
    deltas: &Deltas,
    keyspace: KeyspaceId,
    at: Seqno,
    work_out: impl FnOnce() -> Result<i64>,
) -> Result<i64> {
    if let Some(known) = deltas.get(keyspace, at) {
        return Ok(known);
    }
    let delta = work_out()?;
    deltas.set(keyspace, at, delta);
    Ok(delta)
}

/// What lies below a layer.
struct Below<'a> {
    own: &'a [Layer],
    view: &'a [Layer],
    keyspace: KeyspaceId,
    at: Seqno,
}

impl Below<'_> {
    fn has(&self, key: &[u8]) -> Result<bool> {
        if let Some(decided) = get_in(self.own, self.keyspace, key, Seqno::MAX)? {
            return Ok(decided.is_some());
        }
        Ok(matches!(get_in(self.view, self.keyspace, key, self.at)?, Some(Some(_))))
    }

    fn merge(&self) -> Result<Merge<'_>> {
        let (own, view) = (self.own, self.view);
        Sight { own, view, keyspace: self.keyspace, at: self.at }.merge()
    }
}

/// How one layer, seen at `at`, changes the count of what lies below it.
fn delta(layer: &Layer, at: Seqno, below: &Below<'_>, below_count: i64) -> Result<i64> {
    let keyspace = below.keyspace;
    let mut delta = 0;
    let Some(input) = input_of(layer, keyspace, at)? else {
        return Ok(0);
    };
    let all_hidden = input.range_tombstones.iter().any(hides_all);
    let mut cursor = input.cursor;
    cursor.first()?;
    while cursor.is_valid() {
        let existed = !all_hidden && below.has(cursor.key())?;
        delta += i64::from(!cursor.is_tombstone()) - i64::from(existed);
        cursor.next()?;
    }
    if all_hidden {
        return Ok(delta - below_count);
    }
    // Overlapping ranges are counted once.
    let mut ranges = input.range_tombstones;
    ranges.sort_by(|a, b| a.start.cmp(&b.start));
    let mut counted_to: Vec<u8> = Vec::new();
    for range in &ranges {
        let start = range.start.as_slice().max(&counted_to);
        let mut merge = below.merge()?;
        merge.seek(Some(start))?;
        while let Some(entry) = merge.current() {
            let key = entry.key();
            if range.end.as_deref().is_some_and(|end| key >= end) {
                break;
            }
            if !entry.is_tombstone() && !has_entry(layer, keyspace, key, at)? {
                delta -= 1;
            }
            merge.advance()?;
        }
        match &range.end {
            None => break,
            Some(end) if *end > counted_to => counted_to.clone_from(end),
            Some(_) => {}
        }
    }
    Ok(delta)
}

fn hides_all(range: &RangeTombstone) -> bool {
    range.start.is_empty() && range.end.is_none()
}

/// Whether the layer has a point entry for the key.
fn has_entry(layer: &Layer, keyspace: KeyspaceId, key: &[u8], at: Seqno) -> Result<bool> {
    Ok(match layer {
        Layer::Memory(memtable) => memtable.get(keyspace, key, at).is_some(),
        Layer::Run(run) => run.point(keyspace, key)?.is_some(),
    })
}
