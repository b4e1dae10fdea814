//! The tables of a database: what they are, how they are built, and what they hold.
//!
//! Invariants: nothing is written and no lock is taken; every block is verified before anything of it is
//! handed on.

use crate::cursor::{Cursor, RangeTombstone};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::manifest::{Manifest, names};
use crate::options::Builder;
use crate::recovery::directory::read_manifest;
use crate::recovery::plan::{Plan, table_metas};
use crate::recovery::reading::plan_for_reading;
use crate::table::{BlockCache, ReadMode, Table, TableMeta};
use crate::types::{FileId, KeyspaceId, Seqno};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// What the manifest, or the log, says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSummary {
    /// Its number.
    pub id: FileId,
    /// The name of its file.
    pub file: String,
    /// Its run, from 0, the newest; `None` if a large transaction in the log installs it.
    pub run: Option<usize>,
    /// 0: upper; 1: base.
    pub level: u8,
    /// Where its run stands: the newest commit in it, and before that the newest commit of the oldest part
    /// that was merged into it. (Which commit is the oldest in it, no file says.)
    pub seqnos: (Seqno, Seqno),
    /// Length of the file.
    pub bytes: u64,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// Lower bound, inclusive.
    pub first: (KeyspaceId, Vec<u8>),
    /// Upper bound, inclusive; without a key it reaches to the end of the keyspace.
    pub last: (KeyspaceId, Option<Vec<u8>>),
}

/// How a table is built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableDetail {
    /// What the manifest says of it.
    pub summary: TableSummary,
    /// Its sections, by keyspace.
    pub sections: Vec<SectionSummary>,
    /// Large values that lie in blocks of their own.
    pub value_blocks: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of the filter; 0 if it has none.
    pub filter_bytes: u64,
}

/// One keyspace's part of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionSummary {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// The range tombstones.
    pub ranges: Vec<RangeTombstone>,
    /// Bytes of its blocks.
    pub bytes: u64,
    /// Its data blocks.
    pub blocks: Vec<BlockInfo>,
}

/// One data block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockInfo {
    /// Where it lies in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// The fence before it: no key in it is smaller. `None` for the first.
    pub fence: Option<Vec<u8>>,
}

/// What a table says of a key, or of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableEntry<'a> {
    /// A key and its value.
    Value(&'a [u8], &'a [u8]),
    /// A removed key.
    Tombstone(&'a [u8]),
    /// A range of keys that it hides in the tables below.
    Range(&'a RangeTombstone),
}

/// Keyspaces by number, with their names.
pub type KeyspaceNames = Vec<(KeyspaceId, String)>;

/// A table and its run; none if the log alone installs it.
type Listed = (Option<usize>, TableMeta);

/// The tables of a database, newest run first, with the names of its keyspaces by number. If the log is
/// damaged, those that it installs are left out.
///
/// # Errors
/// [`Error::Damage`] if the manifest cannot be read, [`Error::NotFound`], [`Error::Io`].
pub fn list_tables(
    fs: &dyn FileSystem,
    dir: impl AsRef<Path>,
) -> Result<(Vec<TableSummary>, KeyspaceNames)> {
    let dir = dir.as_ref();
    let (manifest, listed) = metas(fs, dir)?;
    let keyspaces = manifest.keyspaces.iter().map(|entry| (entry.id, entry.name.clone()));
    let tables = listed.iter().map(|(run, meta)| summary(&manifest, *run, meta));
    Ok((tables.collect(), keyspaces.collect()))
}

/// How one table is built. Reads its footer and index.
///
/// # Errors
/// As [`list_tables`]; [`Error::InvalidArgument`] if the database has no such table.
pub fn table_detail(
    fs: &Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    id: FileId,
) -> Result<TableDetail> {
    let (manifest, run, table) = open(fs, dir.as_ref(), id)?;
    let loaded = table.loaded()?;
    let blocks = |section: &crate::table::Section| {
        let extent = |place: u32| loaded.index.extents.get((section.first_block + place) as usize);
        (0..section.block_count)
            .filter_map(|place| {
                extent(place).map(|extent| BlockInfo {
                    offset: extent.offset(),
                    bytes: extent.length_bytes(),
                    fence: place.checked_sub(1).and_then(|at| section.fences.fence(at as usize)),
                })
            })
            .collect()
    };
    let sections = loaded.index.sections.iter().map(|section| SectionSummary {
        keyspace: section.keyspace,
        entries: section.entries,
        tombstones: section.tombstones,
        ranges: section.ranges.clone(),
        bytes: section.block_bytes,
        blocks: blocks(section),
    });
    Ok(TableDetail {
        summary: summary(&manifest, run, table.meta()),
        sections: sections.collect(),
        value_blocks: u64::from(loaded.index.value_blocks),
        index_bytes: loaded.footer.index.0.length_bytes(),
        filter_bytes: loaded.footer.filter.map_or(0, |(extent, _)| extent.length_bytes()),
    })
}

/// Hands what a table holds to `sink`, by keyspace and key, the range tombstones of a keyspace first,
/// until that breaks off.
///
/// # Errors
/// As [`table_detail`].
pub fn read_table(
    fs: &Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    id: FileId,
    sink: &mut dyn FnMut(KeyspaceId, TableEntry<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let (_, _, table) = open(fs, dir.as_ref(), id)?;
    for section in table.sections()? {
        let keyspace = section.keyspace;
        for range in table.range_tombstones(keyspace)? {
            if sink(keyspace, TableEntry::Range(range)).is_break() {
                return Ok(());
            }
        }
        let mut cursor = table.cursor(keyspace)?;
        cursor.first()?;
        while cursor.is_valid() {
            let value = cursor.value()?;
            let entry = match &value {
                Some(value) => TableEntry::Value(cursor.key(), value),
                None => TableEntry::Tombstone(cursor.key()),
            };
            if sink(keyspace, entry).is_break() {
                return Ok(());
            }
            cursor.next()?;
        }
    }
    Ok(())
}

/// Opens one table of a database for reading.
pub(super) fn open(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    id: FileId,
) -> Result<(Manifest, Option<usize>, Table)> {
    let (manifest, listed) = metas(&**fs, dir)?;
    let found = listed.into_iter().find(|(_, meta)| meta.file_id == id);
    let (run, meta) = found.ok_or_else(|| {
        Error::InvalidArgument(format!(
            "{} has no table {id}; `highwater table list` names those it has",
            dir.display()
        ))
    })?;
    let table = handle(fs, dir, &manifest, meta);
    Ok((manifest, run, table))
}

/// A table that is read through positional reads.
pub(super) fn handle(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    manifest: &Manifest,
    meta: TableMeta,
) -> Table {
    let cache = Arc::new(BlockCache::new(Builder::default().block_cache_bytes));
    let path = dir.join(names::table_name(meta.file_id));
    Table::new(fs.clone(), path, manifest.database, meta, ReadMode::Pread, cache)
}

/// The manifest, and all tables with their run.
pub(super) fn metas(fs: &dyn FileSystem, dir: &Path) -> Result<(Manifest, Vec<Listed>)> {
    let (manifest, installed) = match plan_for_reading(fs, dir) {
        Ok(Plan::Create) => return Err(Error::NotFound { path: dir.to_path_buf() }),
        Ok(Plan::Open(plan)) => (plan.manifest, plan.installed),
        // The tables can be looked at whatever the log is like.
        Err(Error::Damage { .. }) => (read_manifest(fs, dir, true)?, Vec::new()),
        Err(error) => return Err(error),
    };
    let installed = installed.into_iter().map(|meta| (None, meta));
    let listed = table_metas(dir, &manifest)?.into_iter().map(|(run, meta)| (Some(run), meta));
    let all = installed.chain(listed).collect();
    Ok((manifest, all))
}

fn summary(manifest: &Manifest, run: Option<usize>, meta: &TableMeta) -> TableSummary {
    let entry = run.and_then(|run| manifest.runs.get(run));
    TableSummary {
        id: meta.file_id,
        file: names::table_name(meta.file_id),
        run,
        level: entry.map_or(0, |entry| entry.level),
        seqnos: entry.map_or_else(Default::default, |entry| (entry.min_seqno, entry.max_seqno)),
        bytes: meta.file_bytes,
        entries: meta.entries,
        tombstones: meta.tombstones,
        range_tombstones: meta.range_tombstones,
        first: meta.first.clone(),
        last: meta.last.clone(),
    }
}
