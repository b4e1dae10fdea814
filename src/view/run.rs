//! A run: tables that do not overlap, in key order; one sorted layer of a view.
//!
//! Invariants: tables ascend and are disjoint in (keyspace, key); all commits in a run lie between
//! `min_seqno` and `max_seqno`; a reader whose point lies before `max_seqno` skips the run (it holds an
//! older view if it needs what the run replaced).

use super::count::Deltas;
use crate::cursor::{Cursor, RangeTombstone};
use crate::error::Result;
use crate::fs::removal::Remover;
use crate::slice::Slice;
use crate::sync::engine::{AtomicBool, Ordering};
use crate::table::{Found, SampleKey, Table, TableCursor, TableMeta, Window, head, key_hash};
use crate::types::{KeyspaceId, Seqno};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// A table file in use. When nothing refers to it any more and a durable manifest no longer lists it,
/// its file is removed, while the directory is ours.
#[derive(Debug)]
pub struct LiveTable {
    // Dropped first, so that the file is neither open nor mapped when it is removed.
    table: Table,
    end: TableEnd,
}

/// What becomes of the file in the end.
#[derive(Debug)]
struct TableEnd {
    path: PathBuf,
    remover: Arc<Remover>,
    obsolete: AtomicBool,
}

impl LiveTable {
    pub fn new(table: Table, remover: Arc<Remover>) -> LiveTable {
        let path = table.path().to_path_buf();
        LiveTable { table, end: TableEnd { path, remover, obsolete: AtomicBool::new(false) } }
    }

    /// The file goes when the last reader has. A durable manifest must have stopped listing it.
    pub fn retire(&self) {
        self.end.obsolete.store(true, Ordering::Release);
    }
}

impl Deref for LiveTable {
    type Target = Table;
    fn deref(&self) -> &Table {
        &self.table
    }
}

impl Drop for TableEnd {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            self.remover.remove(&self.path);
        }
    }
}

/// One sorted layer made of tables.
#[derive(Debug)]
pub struct Run {
    pub tables: Vec<Arc<LiveTable>>,
    pub min_seqno: Seqno,
    pub max_seqno: Seqno,
    /// 0: upper; 1: base.
    pub level: u8,
    /// How it changes the number of keys.
    pub deltas: Deltas,
    /// Comes when somebody asks for it.
    sample: OnceLock<Box<[SampleKey]>>,
    /// Keyspace and head of each table's last key, side by side: what a search among tables looks at.
    lasts: Box<[Last]>,
}

/// How many keys stand for all of a run, about.
const SAMPLE_KEYS: usize = 64;

/// Keyspace and head of a key in one number, which compares as they do.
type Last = u128;

#[inline]
fn last(keyspace: KeyspaceId, head: u64) -> Last {
    u128::from(keyspace.get()) << 64 | u128::from(head)
}

/// See [`Run::lasts`]; a table that reaches to the end of its keyspace comes last.
fn last_of(meta: &TableMeta) -> Last {
    last(meta.last.0, meta.last.1.as_deref().map_or(u64::MAX, head))
}

/// How many are less than `wanted`. Takes the same steps for every one, so that no step is guessed wrong.
#[inline(always)]
fn count_below(lasts: &[Last], wanted: Last) -> usize {
    let (mut from, mut left) = (0, lasts.len());
    while left > 1 {
        let half = left / 2;
        // Not an `if`, which would become a branch.
        from += half & usize::from(lasts[from + half - 1] < wanted).wrapping_neg();
        left -= half;
    }
    from + usize::from(lasts.get(from).is_some_and(|last| *last < wanted))
}

/// The first of these tables that does not end before the key; their number if all do.
#[inline]
fn first_reaching(
    tables: &[Arc<LiveTable>],
    lasts: &[Last],
    keyspace: KeyspaceId,
    key: &[u8],
) -> usize {
    let wanted = last(keyspace, head(key));
    let from = count_below(lasts, wanted);
    if lasts.get(from) != Some(&wanted) {
        return from;
    }
    // Equal heads: the keys decide.
    let to = lasts.partition_point(|last| *last <= wanted);
    let among = tables.get(from..to).unwrap_or(&[]);
    from + among.partition_point(|table| table.meta().ends_before(keyspace, key))
}

impl Run {
    /// A run; all that it holds was committed between the two seqnos.
    pub fn new(
        tables: Vec<Arc<LiveTable>>,
        min_seqno: Seqno,
        max_seqno: Seqno,
        level: u8,
    ) -> Arc<Run> {
        let lasts = tables.iter().map(|table| last_of(table.meta())).collect();
        let (deltas, sample) = (Deltas::default(), OnceLock::new());
        Arc::new(Run { tables, min_seqno, max_seqno, level, deltas, sample, lasts })
    }

    /// Its point entries, tombstones included.
    pub fn entries(&self) -> u64 {
        self.tables.iter().map(|table| table.meta().entries).sum()
    }

    /// Its point entries that are no tombstones.
    pub fn values(&self) -> u64 {
        self.tables.iter().map(|table| table.meta().entries - table.meta().tombstones).sum()
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.meta().file_bytes).sum()
    }

    /// The table whose bounds hold the key.
    #[inline]
    pub fn table_for(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Arc<LiveTable>> {
        self.table_near(keyspace, key).filter(|table| table.meta().may_contain(keyspace, key))
    }

    /// The only table that may hold the key.
    #[inline]
    fn table_near(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Arc<LiveTable>> {
        match self.tables.as_slice() {
            [only] => Some(only),
            tables => tables.get(first_reaching(tables, &self.lasts, keyspace, key)),
        }
    }

    /// The value of a key, if a table knows where it lies. `None` says nothing.
    #[inline(always)]
    pub fn known_value(&self, keyspace: KeyspaceId, key: &[u8], hash: u64) -> Option<&[u8]> {
        self.table_near(keyspace, key)?.known_value(keyspace, key, hash)
    }

    /// Looks a key up. `None`: the run says nothing of it.
    #[inline(never)]
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], hash: u64) -> Result<Option<Found<'_>>> {
        let Some(table) = self.table_near(keyspace, key) else { return Ok(None) };
        if let Some(found) = table.get_known(keyspace, key, hash)? {
            return Ok(Some(found));
        }
        if !table.meta().may_contain(keyspace, key) {
            return Ok(None);
        }
        if let Some(found) = table.get(keyspace, key, hash)? {
            return Ok(Some(found));
        }
        Ok(table.covers(keyspace, key)?.then_some(Found::Tombstone))
    }

    /// The run's own entry for a key.
    pub fn point(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Found<'_>>> {
        match self.table_for(keyspace, key) {
            Some(table) => table.get(keyspace, key, key_hash(keyspace, key)),
            None => Ok(None),
        }
    }

    /// Some of the keys that have values, spread evenly. Read once.
    pub fn sample(&self) -> Result<&[SampleKey]> {
        if let Some(sample) = self.sample.get() {
            return Ok(sample);
        }
        let step = self.tables.len().div_ceil(SAMPLE_KEYS).max(1);
        let asked = self.tables.iter().step_by(step);
        let wanted = SAMPLE_KEYS.div_ceil(asked.len().max(1));
        let mut keys = Vec::new();
        for table in asked {
            keys.extend(table.sample(wanted)?);
        }
        Ok(self.sample.get_or_init(|| keys.into()))
    }

    /// Whether the run has an entry for the key, or hides it.
    pub fn decides(&self, key: &SampleKey) -> Result<bool> {
        self.table_near(key.keyspace, &key.key).map_or(Ok(false), |table| table.decides(key))
    }

    /// The range tombstones of one keyspace, ascending.
    pub fn range_tombstones(&self, keyspace: KeyspaceId) -> Result<Vec<RangeTombstone>> {
        let mut all = Vec::new();
        for table in self.tables.iter().filter(|t| t.meta().range_tombstones > 0) {
            all.extend_from_slice(table.range_tombstones(keyspace)?);
        }
        Ok(all)
    }

    /// The tables that may say something of a keyspace.
    pub fn tables_of(&self, keyspace: KeyspaceId) -> &[Arc<LiveTable>] {
        self.tables.get(self.places_of(keyspace)).unwrap_or(&[])
    }

    fn places_of(&self, keyspace: KeyspaceId) -> std::ops::Range<usize> {
        let first = self.tables.first().map(|table| table.meta().first.0);
        let last_keyspace = self.tables.last().map(|table| table.meta().last.0);
        if first == Some(keyspace) && last_keyspace == Some(keyspace) {
            return 0..self.tables.len();
        }
        let from = count_below(&self.lasts, last(keyspace, 0));
        let to = self.tables.partition_point(|t| t.meta().first.0 <= keyspace);
        from..to.max(from)
    }

    /// A cursor over one keyspace.
    pub fn cursor(&self, keyspace: KeyspaceId) -> RunCursor<'_> {
        let places = self.places_of(keyspace);
        let lasts = self.lasts.get(places.clone()).unwrap_or(&[]);
        let tables = self.tables.get(places).unwrap_or(&[]);
        RunCursor { tables, lasts, keyspace, at: 0, cursor: None }
    }
}

/// The tables of one transaction, oldest first, as runs: tables that ascend one after the other are one run.
pub fn runs_of(tables: Vec<Arc<LiveTable>>, seqno: Seqno) -> Vec<Arc<Run>> {
    let mut runs: Vec<Vec<Arc<LiveTable>>> = Vec::new();
    for table in tables {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|last| ascend(last.meta(), table.meta())) => {
                run.push(table);
            }
            _ => runs.push(vec![table]),
        }
    }
    runs.into_iter().map(|tables| Run::new(tables, seqno, seqno, 0)).collect()
}

/// Whether all of `before` lies before all of `after`. Range tombstones, which hide what lies below a run
/// and not within it, are kept to runs of one table.
fn ascend(before: &TableMeta, after: &TableMeta) -> bool {
    let no_ranges = before.range_tombstones == 0 && after.range_tombstones == 0;
    no_ranges && before.ends_before(after.first.0, &after.first.1)
}

/// A position in a run.
pub struct RunCursor<'a> {
    tables: &'a [Arc<LiveTable>],
    /// Of these tables.
    lasts: &'a [Last],
    keyspace: KeyspaceId,
    at: usize,
    /// Belongs to `tables[at]`.
    cursor: Option<TableCursor<'a>>,
}

impl<'a> RunCursor<'a> {
    /// The entries from the one at hand to the end of its block, where they can be had so.
    pub fn window(&self) -> Option<Window<'a>> {
        self.cursor.as_ref()?.window()
    }

    /// To where a window of the block at hand has got.
    pub fn resume(&mut self, window: &Window<'_>) -> Result<()> {
        if let Some(cursor) = &mut self.cursor {
            cursor.resume(window)?;
            if cursor.is_valid() {
                return Ok(());
            }
        }
        self.forward_from(self.at + 1)
    }

    fn enter(&mut self, at: usize) -> Result<&mut TableCursor<'a>> {
        if self.at != at || self.cursor.is_none() {
            self.cursor = None;
            self.at = at;
            let tables: &'a [Arc<LiveTable>] = self.tables;
            self.cursor = Some(tables[at].cursor(self.keyspace)?);
        }
        match &mut self.cursor {
            Some(cursor) => Ok(cursor),
            None => unreachable!("the cursor was just made"),
        }
    }

    fn forward_from(&mut self, mut at: usize) -> Result<()> {
        while at < self.tables.len() {
            let cursor = self.enter(at)?;
            cursor.first()?;
            if cursor.is_valid() {
                return Ok(());
            }
            at += 1;
        }
        self.cursor = None;
        Ok(())
    }

    fn backward_from(&mut self, end: usize) -> Result<()> {
        for at in (0..end).rev() {
            let cursor = self.enter(at)?;
            cursor.last()?;
            if cursor.is_valid() {
                return Ok(());
            }
        }
        self.cursor = None;
        Ok(())
    }

    fn valid(&self) -> &TableCursor<'a> {
        match &self.cursor {
            Some(cursor) => cursor,
            None => unreachable!("only valid cursors are read"),
        }
    }
}

impl<'a> Cursor<'a> for RunCursor<'a> {
    fn first(&mut self) -> Result<()> {
        self.forward_from(0)
    }

    fn last(&mut self) -> Result<()> {
        self.backward_from(self.tables.len())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        let keyspace = self.keyspace;
        let at = first_reaching(self.tables, self.lasts, keyspace, key);
        if at == self.tables.len() {
            self.cursor = None;
            return Ok(());
        }
        let cursor = self.enter(at)?;
        cursor.seek(key)?;
        if cursor.is_valid() { Ok(()) } else { self.forward_from(at + 1) }
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let keyspace = self.keyspace;
        let end = self.tables.partition_point(|t| {
            let (first_keyspace, first_key) = &t.meta().first;
            (*first_keyspace, first_key.as_slice()) < (keyspace, key)
        });
        if end == 0 {
            self.cursor = None;
            return Ok(());
        }
        let cursor = self.enter(end - 1)?;
        cursor.seek_before(key)?;
        if cursor.is_valid() { Ok(()) } else { self.backward_from(end - 1) }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if let Some(cursor) = &mut self.cursor {
            cursor.next()?;
            if cursor.is_valid() {
                return Ok(());
            }
        }
        self.forward_from(self.at + 1)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if let Some(cursor) = &mut self.cursor {
            cursor.prev()?;
            if cursor.is_valid() {
                return Ok(());
            }
        }
        self.backward_from(self.at)
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.cursor.as_ref().is_some_and(Cursor::is_valid)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.valid().key()
    }

    #[inline]
    fn key_slice(&self) -> Slice<'a> {
        self.valid().key_slice()
    }

    #[inline]
    fn is_tombstone(&self) -> bool {
        self.valid().is_tombstone()
    }

    #[inline]
    fn value(&self) -> Result<Option<Slice<'a>>> {
        self.valid().value()
    }
}
