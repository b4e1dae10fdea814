//! Writing tables: from a memtable, or from a merge of runs.
//!
//! A table is written under its final name (numbers are never used twice, and nothing names it yet), and
//! synced. The caller syncs the directory and then names it in a manifest or an install record. If
//! anything fails, the file is removed; what it held is still where it came from.

use crate::catalog::Catalog;
use crate::cursor::{Cursor, RangeTombstone};
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, File, FileSystem, OpenMode};
use crate::manifest::names;
use crate::memtable::Memtable;
use crate::mistakes::{Mistake, planted};
use crate::options::Builder;
use crate::pacer::{Pace, Pacer};
use crate::stats::Counters;
use crate::table::{DEFAULT_BLOCK_BYTES, TableBuilder, TableMeta, TableOptions};
use crate::types::{DatabaseId, FileId, KeyspaceId, Seqno};
use crate::view::{Merge, Run};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A merge looks whether it may go on after so many entries, of which each 256 bytes count as one more: after a few
/// megabytes at the latest, if no value is larger.
const LOOK_AFTER: u64 = 4096;

/// Where tables are written to.
#[derive(Clone, Copy)]
pub struct TableWriter<'a> {
    pub fs: &'a Arc<dyn FileSystem>,
    pub dir: &'a Path,
    pub database: DatabaseId,
    pub options: &'a Builder,
    pub counters: &'a Counters,
    pub purpose: Purpose,
    /// If the tables give way to commits.
    pub pacer: Option<&'a Arc<Pacer>>,
}

/// What tables are written for: it names their syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Checkpoint,
    Merge,
    Spill,
    Recovery,
    Backup,
    Copy,
}

impl Purpose {
    fn content(self) -> Barrier {
        match self {
            Purpose::Checkpoint => Barrier::TableContent,
            Purpose::Merge => Barrier::MergeContent,
            Purpose::Spill => Barrier::SpillContent,
            Purpose::Recovery => Barrier::RecoveryContent,
            Purpose::Backup => Barrier::BackupContent,
            Purpose::Copy => Barrier::Copy,
        }
    }

    fn name(self) -> Barrier {
        match self {
            Purpose::Checkpoint => Barrier::TableName,
            Purpose::Merge => Barrier::MergeName,
            Purpose::Spill => Barrier::SpillName,
            // Not asked for: see `recovery/apply.rs`.
            Purpose::Recovery => Barrier::SegmentName,
            Purpose::Backup => Barrier::BackupName,
            Purpose::Copy => Barrier::CopyName,
        }
    }
}

/// A table file under construction.
pub struct OpenTable {
    builder: TableBuilder,
    file: Arc<dyn File>,
    path: PathBuf,
    file_id: FileId,
}

/// A table file that is complete and not synced yet.
#[derive(Debug)]
pub struct UnsyncedTable {
    file: Arc<dyn File>,
    path: PathBuf,
    purpose: Purpose,
}

impl UnsyncedTable {
    /// Syncs it.
    pub fn sync(&self) -> Result<()> {
        fs::sync_data(&*self.file, self.purpose.content())
            .map_err(|e| Error::io("sync", &self.path, e))
    }
}

impl OpenTable {
    /// What takes the entries.
    pub fn builder(&mut self) -> &mut TableBuilder {
        &mut self.builder
    }
}

impl TableWriter<'_> {
    /// Starts a table file.
    pub fn start(&self, file_id: FileId, filter: bool) -> Result<OpenTable> {
        let path = self.dir.join(names::table_name(file_id));
        let created = self.fs.open(&path, OpenMode::CreateNew);
        let file = created.map_err(|e| Error::io("create", &path, e))?;
        let options = TableOptions { block_bytes: DEFAULT_BLOCK_BYTES, filter };
        let mut builder =
            TableBuilder::new(file.clone(), path.clone(), self.database, file_id, options);
        if let Some(pacer) = self.pacer {
            builder.set_pace(Pace::new(pacer.clone()));
        }
        Ok(OpenTable { builder, file, path, file_id })
    }

    /// Ends a table file and syncs it. One that cannot be ended is removed.
    pub fn finish(&self, table: OpenTable) -> Result<TableMeta> {
        let file_id = table.file_id;
        let (meta, unsynced) = self.end(table)?;
        unsynced.sync().inspect_err(|_| self.discard(file_id))?;
        Ok(meta)
    }

    /// Ends a table file. One that cannot be ended is removed.
    fn end(&self, table: OpenTable) -> Result<(TableMeta, UnsyncedTable)> {
        let OpenTable { builder, file, path, file_id } = table;
        let meta = builder.finish().inspect_err(|_| self.discard(file_id))?;
        self.counters.table_bytes.add(meta.file_bytes);
        Ok((meta, UnsyncedTable { file, path, purpose: self.purpose }))
    }

    /// Removes a table file that nothing names.
    pub fn discard(&self, file_id: FileId) {
        // If it cannot be removed, it is an orphan, which the next open removes.
        let _ = self.fs.remove_large(&self.dir.join(names::table_name(file_id)));
    }

    /// A table that was started here and not ended. Not one that could not be started: its name may be
    /// that of another's file.
    fn discard_unfinished(&self, table: Option<OpenTable>) {
        if let Some(table) = table {
            self.discard(table.file_id);
        }
    }

    /// Makes the names of new tables durable.
    pub fn sync_names(&self) -> Result<()> {
        fs::sync_dir(&**self.fs, self.dir, self.purpose.name())
            .map_err(|e| Error::io("sync", self.dir, e))
    }

    /// Writes a memtable as it is at `at`, without dropped keyspaces. At the bottom there is nothing to
    /// hide, so that tombstones are left out. `None` if nothing is left to write.
    pub fn write_memtable(
        &self,
        memtable: &Memtable,
        at: Seqno,
        catalog: Option<&Catalog>,
        bottom: bool,
        file_id: FileId,
    ) -> Result<Option<TableMeta>> {
        let mut table: Option<OpenTable> = None;
        let write = |table: &mut Option<OpenTable>| -> Result<()> {
            for keyspace in memtable.keyspaces() {
                if catalog.is_some_and(|catalog| !catalog.is_live(keyspace, at)) {
                    continue;
                }
                let tombstones =
                    if bottom { Vec::new() } else { memtable.range_tombstones(keyspace, at) };
                for tombstone in &tombstones {
                    self.opened(table, file_id)?.add_range_tombstone(keyspace, tombstone)?;
                }
                let mut cursor = memtable.cursor(keyspace, at);
                cursor.first()?;
                while cursor.is_valid() {
                    if !(bottom && cursor.is_tombstone()) {
                        let value = cursor.value()?;
                        self.opened(table, file_id)?.add(
                            keyspace,
                            cursor.key(),
                            value.as_deref(),
                        )?;
                    }
                    cursor.next()?;
                }
            }
            Ok(())
        };
        let outcome =
            write(&mut table).and_then(|()| table.take().map(|open| self.finish(open)).transpose());
        self.discard_unfinished(table);
        outcome
    }

    /// Writes changes that ascend, removals as tombstones. `None` if there are none. The caller syncs the table
    /// before anything names it.
    pub fn write_changes<'c>(
        &self,
        mut changes: impl Iterator<Item = (KeyspaceId, &'c [u8], Option<&'c [u8]>)>,
        file_id: FileId,
    ) -> Result<Option<(TableMeta, UnsyncedTable)>> {
        let mut table: Option<OpenTable> = None;
        let added = changes.try_for_each(|(keyspace, key, value)| {
            self.opened(&mut table, file_id)?.add(keyspace, key, value)
        });
        let outcome = added.and_then(|()| table.take().map(|open| self.end(open)).transpose());
        self.discard_unfinished(table);
        outcome
    }

    fn opened<'t>(
        &self,
        table: &'t mut Option<OpenTable>,
        file_id: FileId,
    ) -> Result<&'t mut TableBuilder> {
        if table.is_none() {
            *table = Some(self.start(file_id, true)?);
        }
        match table {
            Some(open) => Ok(&mut open.builder),
            None => unreachable!("the table was just started"),
        }
    }

    /// Merges runs (newest first) into new tables of about `table_bytes` each, the last of each key only,
    /// without dropped keyspaces. The bottom run keeps no tombstones.
    pub fn merge(
        &self,
        runs: &[Arc<Run>],
        catalog: &dyn Fn(KeyspaceId) -> bool,
        bottom: bool,
        take_file_id: &dyn Fn() -> FileId,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Vec<TableMeta>> {
        let mut done: Vec<TableMeta> = Vec::new();
        let mut open: Option<OpenTable> = None;
        let outcome =
            self.merge_into(runs, catalog, bottom, take_file_id, go_on, &mut done, &mut open);
        match outcome {
            Ok(()) => Ok(done),
            Err(error) => {
                self.discard_unfinished(open);
                done.iter().for_each(|meta| self.discard(meta.file_id));
                Err(error)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn merge_into(
        &self,
        runs: &[Arc<Run>],
        catalog: &dyn Fn(KeyspaceId) -> bool,
        bottom: bool,
        take_file_id: &dyn Fn() -> FileId,
        go_on: &dyn Fn() -> Result<()>,
        done: &mut Vec<TableMeta>,
        open: &mut Option<OpenTable>,
    ) -> Result<()> {
        // The bottom run is met by almost every read, so that a filter would say yes anyway.
        let filter = !bottom;
        let mut unlooked = 0_u64;
        for keyspace in keyspaces_of(runs)? {
            if !catalog(keyspace) {
                continue;
            }
            // A large table ends with its keyspace, so that dropping one frees whole files.
            if open.as_ref().is_some_and(|t| t.builder.bytes() > self.options.table_bytes / 4) {
                done.extend(open.take().map(|t| self.finish(t)).transpose()?);
            }
            let mut inputs = Vec::new();
            let mut tombstones: Vec<RangeTombstone> = Vec::new();
            for run in runs {
                let own = run.range_tombstones(keyspace)?;
                tombstones.extend_from_slice(&own);
                inputs.push(crate::view::MergeInput {
                    cursor: crate::view::LayerCursor::Run(run.cursor(keyspace)),
                    range_tombstones: own,
                });
            }
            let bottom = bottom || planted(Mistake::TombstonesDropped);
            if bottom {
                tombstones.clear();
            }
            // Range tombstones go into the one table of the keyspace as a whole.
            let split = tombstones.is_empty();
            for tombstone in &tombstones {
                self.started(open, filter, take_file_id)?
                    .add_range_tombstone(keyspace, tombstone)?;
            }
            let mut merge = Merge::new(inputs);
            merge.seek(None)?;
            while let Some(entry) = merge.current() {
                if !(bottom && entry.is_tombstone()) {
                    let value = entry.value()?;
                    let bytes = entry.key().len() + value.as_ref().map_or(0, |value| value.len());
                    unlooked += bytes as u64 / 256;
                    let full = open
                        .as_ref()
                        .is_some_and(|t| t.builder.bytes() >= self.options.table_bytes);
                    if full && split {
                        done.extend(open.take().map(|t| self.finish(t)).transpose()?);
                        go_on()?;
                    }
                    self.started(open, filter, take_file_id)?.add(
                        keyspace,
                        entry.key(),
                        value.as_deref(),
                    )?;
                }
                merge.advance()?;
                unlooked += 1;
                if unlooked >= LOOK_AFTER {
                    unlooked = 0;
                    go_on()?;
                }
            }
        }
        done.extend(open.take().map(|t| self.finish(t)).transpose()?);
        Ok(())
    }

    fn started<'t>(
        &self,
        open: &'t mut Option<OpenTable>,
        filter: bool,
        take_file_id: &dyn Fn() -> FileId,
    ) -> Result<&'t mut TableBuilder> {
        if open.is_none() {
            *open = Some(self.start(take_file_id(), filter)?);
        }
        match open {
            Some(open) => Ok(&mut open.builder),
            None => unreachable!("the table was just started"),
        }
    }
}

/// The keyspaces that runs say something of, ascending.
fn keyspaces_of(runs: &[Arc<Run>]) -> Result<Vec<KeyspaceId>> {
    let mut keyspaces = std::collections::BTreeSet::new();
    for table in runs.iter().flat_map(|run| &run.tables) {
        keyspaces.extend(table.sections()?.iter().map(|section| section.keyspace));
    }
    Ok(keyspaces.into_iter().collect())
}
