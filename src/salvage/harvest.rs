//! The harvest of one table: every entry that still verifies goes into a new table of the new database;
//! what is missing is named by the keys around it.
//!
//! Data blocks are numbered and ascend by key. A number that is missing lost the keys between the last
//! one of the block before and the first one of the block behind. Where the file breaks off, the
//! manifest's entry, or else the index, says whether something is missing.
//!
//! A key whose value lies in a block of its own that is damaged gets a tombstone, so that no older value
//! is passed off as the current one.

use super::receipt::LOST_KEYS_LISTED;
use super::survey::TableFile;
use crate::checkpoint::write::{OpenTable, TableWriter};
use crate::error::{Error, Result};
use crate::fs::{FileSystem, OpenMode};
use crate::table::{
    BlockKind, SalvageSink, SalvagedBlock, SalvagedEntry, TableMeta, salvage_blocks,
};
use crate::types::{DatabaseId, FileId, KeyspaceId};
use std::collections::BTreeSet;

/// A range of keys that lost blocks.
#[derive(Clone, Debug)]
pub struct LostRange {
    pub from: (KeyspaceId, Vec<u8>),
    /// The first key is the last one before the gap: it is there.
    pub after: bool,
    pub to: (KeyspaceId, Option<Vec<u8>>),
    /// The last key is the first one behind the gap: it is there.
    pub before: bool,
}

impl LostRange {
    /// All keys of a table, or of everything.
    pub fn whole(meta: Option<&TableMeta>) -> LostRange {
        let (from, to) = match meta {
            Some(meta) => (meta.first.clone(), meta.last.clone()),
            None => ((KeyspaceId::ZERO, Vec::new()), (KeyspaceId::MAX, None)),
        };
        LostRange { from, after: false, to, before: false }
    }
}

/// What came of one table.
#[derive(Debug, Default)]
pub struct Harvest {
    /// The new table, if there was something to write.
    pub written: Option<TableMeta>,
    /// Entries written, or counted.
    pub entries: u64,
    /// Whether the table has a filter, if that can be told.
    pub filter: Option<bool>,
    pub first: Option<(KeyspaceId, Vec<u8>)>,
    pub last: Option<(KeyspaceId, Vec<u8>)>,
    pub keyspaces: BTreeSet<KeyspaceId>,
    pub lost: Vec<LostRange>,
    pub lost_entries: Option<u64>,
    pub lost_range_tombstones: Option<u64>,
    /// At most [`LOST_KEYS_LISTED`] keys whose values are lost.
    pub lost_keys: Vec<(KeyspaceId, Vec<u8>)>,
    pub lost_keys_count: u64,
    /// Bytes that belong to no block that verifies.
    pub skipped_bytes: u64,
}

impl Harvest {
    /// Whether entries or range tombstones are missing.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty()
            && self.lost_entries.unwrap_or(0) == 0
            && self.lost_range_tombstones.unwrap_or(0) == 0
    }
}

/// How a table is harvested.
pub struct Harvester<'a> {
    pub fs: &'a dyn FileSystem,
    pub database: DatabaseId,
    /// Where the entries go; `None`: they are only counted.
    pub writer: Option<TableWriter<'a>>,
    /// Keyspaces that are known to be dropped are left out.
    pub is_dropped: &'a dyn Fn(KeyspaceId) -> bool,
}

impl Harvester<'_> {
    /// Harvests a table; `meta` is what the manifest or the log says of it. With `bottom`, nothing lies
    /// below it.
    pub fn harvest(
        &self,
        id: FileId,
        file: &TableFile,
        meta: Option<&TableMeta>,
        bottom: bool,
        new_id: FileId,
    ) -> Result<Harvest> {
        let opened = self.fs.open(&file.path, OpenMode::Read);
        let source = opened.map_err(|e| Error::io("open", &file.path, e))?;
        let mut reaper = Reaper {
            harvester: self,
            bottom,
            new_id,
            table: None,
            failed: None,
            harvest: Harvest::default(),
            previous: None,
            first_gap: false,
            totals: None,
            ranges: 0,
            range_blocks: 0,
            all_entries: 0,
            at: None,
        };
        let known = Some((self.database, id));
        let outcome = salvage_blocks(&*source, &file.path, known, &mut reaper);
        let outcome = outcome.and_then(|found| {
            reaper.harvest.skipped_bytes = found.skipped_bytes;
            reaper.failed.take().map_or(Ok(()), Err)
        });
        if let Err(error) = outcome {
            if let (Some(_), Some(writer)) = (&reaper.table, &self.writer) {
                writer.discard(new_id);
            }
            return Err(error);
        }
        reaper.finish(meta)
    }
}

struct Reaper<'a> {
    harvester: &'a Harvester<'a>,
    bottom: bool,
    new_id: FileId,
    table: Option<OpenTable>,
    failed: Option<Error>,
    harvest: Harvest,
    /// Number and last key of the data block before.
    previous: Option<(u32, (KeyspaceId, Vec<u8>))>,
    /// Blocks are missing before the first one found.
    first_gap: bool,
    totals: Option<(u32, u32)>,
    ranges: u64,
    range_blocks: u32,
    /// Entries met, those of dropped keyspaces included.
    all_entries: u64,
    /// The last key that was written.
    at: Option<(KeyspaceId, Vec<u8>)>,
}

impl SalvageSink for Reaper<'_> {
    fn block(&mut self, block: SalvagedBlock<'_>) {
        match block.kind {
            BlockKind::Data => {
                let Some((first, last)) = block.keys else { return };
                let expected = self.previous.as_ref().map_or(0, |(number, _)| number + 1);
                if block.number != expected {
                    match &self.previous {
                        Some((_, last)) => self.harvest.lost.push(LostRange {
                            from: last.clone(),
                            after: true,
                            to: (block.keyspace, Some(first.to_vec())),
                            before: true,
                        }),
                        None => self.first_gap = true,
                    }
                }
                if self.harvest.first.is_none() {
                    self.harvest.first = Some((block.keyspace, first.to_vec()));
                }
                self.harvest.last = Some((block.keyspace, last.to_vec()));
                self.previous = Some((block.number, (block.keyspace, last.to_vec())));
            }
            BlockKind::Ranges => self.range_blocks += 1,
            BlockKind::Index => {
                self.totals = block.totals;
                // What follows the index is the filter, or the footer.
                self.harvest.filter = Some(false);
            }
            BlockKind::Filter => self.harvest.filter = Some(true),
            BlockKind::Value | BlockKind::Footer => {}
        }
    }

    fn entry(&mut self, entry: SalvagedEntry<'_>) {
        let (keyspace, key, value) = match entry {
            SalvagedEntry::Range(keyspace, range) => {
                self.ranges += 1;
                if self.failed.is_none() && !(self.harvester.is_dropped)(keyspace) {
                    self.harvest.keyspaces.insert(keyspace);
                    let outcome = self.opened().map(|table| match table {
                        Some(table) => table.builder().add_range_tombstone(keyspace, range),
                        None => Ok(()),
                    });
                    self.failed = outcome.and_then(|added| added).err();
                }
                return;
            }
            SalvagedEntry::Value(keyspace, key, value) => (keyspace, key, Some(value)),
            SalvagedEntry::Tombstone(keyspace, key) => (keyspace, key, None),
            SalvagedEntry::LostValue(keyspace, key) => {
                self.harvest.lost_keys_count += 1;
                if self.harvest.lost_keys.len() < LOST_KEYS_LISTED {
                    self.harvest.lost_keys.push((keyspace, key.to_vec()));
                }
                (keyspace, key, None)
            }
        };
        self.all_entries += 1;
        if self.failed.is_some()
            || (self.harvester.is_dropped)(keyspace)
            || (self.bottom && value.is_none())
        {
            return;
        }
        // Blocks that verify ascend; whoever forged others gets none of them in.
        let follows =
            self.at.as_ref().is_none_or(|(at, last)| (*at, last.as_slice()) < (keyspace, key));
        if !follows {
            return;
        }
        match &mut self.at {
            Some((at, last)) => {
                *at = keyspace;
                last.clear();
                last.extend_from_slice(key);
            }
            at => *at = Some((keyspace, key.to_vec())),
        }
        self.harvest.keyspaces.insert(keyspace);
        self.harvest.entries += 1;
        let outcome = self.opened().map(|table| match table {
            Some(table) => table.builder().add(keyspace, key, value),
            None => Ok(()),
        });
        self.failed = outcome.and_then(|added| added).err();
    }
}

impl Reaper<'_> {
    fn opened(&mut self) -> Result<Option<&mut OpenTable>> {
        let Some(writer) = &self.harvester.writer else { return Ok(None) };
        if self.table.is_none() {
            self.table = Some(writer.start(self.new_id, !self.bottom)?);
        }
        Ok(self.table.as_mut())
    }

    fn finish(mut self, meta: Option<&TableMeta>) -> Result<Harvest> {
        if let (Some(table), Some(writer)) = (self.table.take(), &self.harvester.writer) {
            match writer.finish(table) {
                Ok(written) => self.harvest.written = Some(written),
                Err(error) => {
                    writer.discard(self.new_id);
                    return Err(error);
                }
            }
        }
        let mut harvest = self.harvest;
        let whole = || LostRange::whole(meta);
        if let Some(meta) = meta {
            harvest.lost_entries = Some(meta.entries.saturating_sub(self.all_entries));
            harvest.lost_range_tombstones = Some(meta.range_tombstones.saturating_sub(self.ranges));
        } else if let Some((_, range_blocks)) = self.totals {
            let lost = range_blocks.saturating_sub(self.range_blocks);
            harvest.lost_range_tombstones = Some(u64::from(lost));
        }
        if self.first_gap {
            let lost = match harvest.first.clone() {
                Some((keyspace, key)) => {
                    LostRange { to: (keyspace, Some(key)), before: true, ..whole() }
                }
                None => whole(),
            };
            harvest.lost.insert(0, lost);
        }
        let found = self.previous.as_ref().map_or(0, |(number, _)| number + 1);
        let tail_lost = match (self.totals, meta) {
            (Some((data_blocks, _)), _) => found < data_blocks,
            // Gaps that are known do not say how much they cost, so the end is doubtful with them.
            (None, Some(_)) => harvest.lost_entries.is_some_and(|lost| lost > 0),
            (None, None) => true,
        };
        if tail_lost {
            harvest.lost.push(match self.previous {
                Some((_, last)) => LostRange { from: last, after: true, ..whole() },
                None => whole(),
            });
        }
        if harvest.lost.is_empty() && harvest.lost_range_tombstones.is_some_and(|lost| lost > 0) {
            // Which keys they hid is not known: any of the table's.
            harvest.lost.push(whole());
        }
        Ok(harvest)
    }
}
