//! Writes a table, front to back, from entries in ascending order.
//!
//! Entries gather in a stage until their block is full; a value above 8 KiB becomes a block of its own
//! at once, before the data block that refers to it. What stays in memory until the end: eight bytes per
//! entry for the filter (none without one, or above [`MAX_FILTERED_ENTRIES`]), twenty-odd bytes per block
//! for the index, the range tombstones, and one chunk of output.
//!
//! Invariants: the builder writes each byte of the file once, in order, and never syncs; after an error
//! the file is of no use and is to be removed.

use super::block::EntryKind;
use super::fence::separator;
use super::filter::Filter;
use super::format::{BlockHeader, BlockKind, Extent, FOOTER_BYTES, FileHeader, Identity};
use super::index::{Footer, SectionDraft, encode_block_table};
use super::meta::TableMeta;
use super::output::Output;
use super::stage::BlockStage;
use super::{TableOptions, key_hash, ranges};
use crate::cursor::RangeTombstone;
use crate::error::{Error, Result};
use crate::fs::File;
use crate::pacer::Pace;
use crate::types::{DatabaseId, FileId, KeyspaceId, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Values above this length get a block of their own.
pub const MAX_INLINE_VALUE_BYTES: usize = 8 << 10;
/// Most entries of a block that the builder makes: more would mean more than one false fingerprint
/// match per lookup.
pub const MAX_STAGED_ENTRIES: usize = 256;
/// A block of range tombstones is closed at this length.
const RANGES_BLOCK_BYTES: usize = 1 << 20;
/// A table of more entries gets no filter: the hashes gathered for it would take more than 256 MiB.
pub const MAX_FILTERED_ENTRIES: usize = 1 << 25;

/// Builds one table file.
#[derive(Debug)]
pub struct TableBuilder {
    output: Output,
    identity: Identity,
    options: TableOptions,
    stage: BlockStage,
    /// The section that takes entries; `None` before the first one.
    current: Option<(KeyspaceId, SectionDraft)>,
    sections: BTreeMap<KeyspaceId, SectionDraft>,
    ranges: BTreeMap<KeyspaceId, Vec<RangeTombstone>>,
    ranges_bytes: usize,
    hashes: Option<Vec<u64>>,
    data_extents: Vec<Extent>,
    value_extents: Vec<Extent>,
}

impl TableBuilder {
    /// Starts a table in an empty file. Nothing is written before the first chunk is full.
    pub fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        database: DatabaseId,
        file_id: FileId,
        options: TableOptions,
    ) -> TableBuilder {
        let identity = Identity { database, file_id };
        TableBuilder {
            output: Output::new(file, path, identity),
            identity,
            stage: BlockStage::default(),
            current: None,
            sections: BTreeMap::new(),
            ranges: BTreeMap::new(),
            ranges_bytes: 0,
            hashes: options.filter.then(Vec::new),
            data_extents: Vec::new(),
            value_extents: Vec::new(),
            options,
        }
    }

    /// Gives way to commits from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.output.set_pace(pace);
    }

    /// Adds an entry; `None` is a tombstone. (keyspace, key) must be after the one before.
    pub fn add(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        check_limit("the length of a key", key.len(), MAX_KEY_BYTES)?;
        check_limit("the length of a value", value.map_or(0, <[u8]>::len), MAX_VALUE_BYTES)?;
        self.enter_section(keyspace)?;
        let hash = key_hash(keyspace, key);
        match value {
            None => self.stage_entry(key, EntryKind::Tombstone, &[], hash)?,
            Some(value) if value.len() <= MAX_INLINE_VALUE_BYTES => {
                self.stage_entry(key, EntryKind::Value, value, hash)?;
            }
            Some(value) => {
                self.check_order(key)?;
                let number = self.write_value(keyspace, value)?;
                let mut reference = [0; 8];
                reference[..4].copy_from_slice(&number.to_le_bytes());
                reference[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
                self.stage_entry(key, EntryKind::Apart, &reference, hash)?;
            }
        }
        if let Some(hashes) = &mut self.hashes {
            hashes.push(hash);
            if hashes.len() > MAX_FILTERED_ENTRIES {
                self.hashes = None;
            }
        }
        Ok(())
    }

    /// Adds a range tombstone, in any order. Empty ranges are ignored.
    pub fn add_range_tombstone(
        &mut self,
        keyspace: KeyspaceId,
        tombstone: &RangeTombstone,
    ) -> Result<()> {
        check_limit("the length of a key", tombstone.start.len(), MAX_KEY_BYTES)?;
        let end_bytes = tombstone.end.as_ref().map_or(0, Vec::len);
        check_limit("the length of a key", end_bytes, MAX_KEY_BYTES)?;
        if tombstone.end.as_ref().is_some_and(|end| *end <= tombstone.start) {
            return Ok(());
        }
        self.ranges_bytes += tombstone.start.len() + end_bytes + 5;
        self.ranges.entry(keyspace).or_default().push(tombstone.clone());
        Ok(())
    }

    /// Whether nothing was added yet.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.ranges.is_empty()
    }

    /// About how long the file would be if it were finished now.
    pub fn bytes(&self) -> u64 {
        let staged = if self.stage.count() == 0 { 0 } else { self.stage.block_bytes() };
        let filter = self.hashes.as_ref().map_or(0, |hashes| hashes.len() * 5 / 4);
        let fences = self.current.iter().map(|(_, section)| section.index_bytes()).sum::<usize>();
        let extents = 8 * (self.data_extents.len() + self.value_extents.len());
        self.output.position() + (staged + self.ranges_bytes + filter + fences + extents) as u64
    }

    /// Writes the rest. Does not sync: the caller does, before anything names the table. A table without
    /// any entry is legal; its bounds are both the empty key of keyspace 0.
    pub fn finish(mut self) -> Result<TableMeta> {
        self.write_file_header()?;
        self.finish_section()?;
        let (range_extents, ranges) = self.write_ranges()?;
        let entries = self.sections.values().map(|section| section.entries).sum();
        let tombstones = self.sections.values().map(|section| section.tombstones).sum();
        let range_tombstones = ranges.values().map(|ranges| ranges.len() as u64).sum();
        let (first, last) = self.bounds(&ranges);

        let mut body = encode_block_table(&self.data_extents, &self.value_extents, &range_extents);
        for (keyspace, section) in &self.sections {
            section.encode(*keyspace, &mut body);
        }
        let mut header = block_header(BlockKind::Index, 0, 0, body.len() as u64)?;
        header.count = self.sections.len() as u32;
        let index = self.output.append_block(&header, &[&body])?;

        let filter = match self.hashes.take() {
            Some(hashes) if !hashes.is_empty() => {
                let filter = Filter::build(&hashes);
                drop(hashes);
                let body = filter.encode();
                let mut header = block_header(BlockKind::Filter, 0, 0, body.len() as u64)?;
                header.count = filter.line_count();
                Some(self.output.append_block(&header, &[&body])?)
            }
            _ => None,
        };

        let file_bytes = self.output.position() + FOOTER_BYTES as u64;
        let footer =
            Footer { file_bytes, entries, tombstones, range_tombstones, index, filter }.encode();
        let header = block_header(BlockKind::Footer, 0, 0, footer.len() as u64)?;
        let (_, footer_crc) = self.output.append_block(&header, &[&footer])?;
        self.output.flush()?;
        Ok(TableMeta {
            file_id: self.identity.file_id,
            file_bytes,
            footer_crc,
            entries,
            tombstones,
            range_tombstones,
            first,
            last,
        })
    }

    fn write_file_header(&mut self) -> Result<()> {
        if self.output.position() == 0 {
            self.output.append(&FileHeader::new(self.identity).encode())?;
        }
        Ok(())
    }

    fn enter_section(&mut self, keyspace: KeyspaceId) -> Result<()> {
        match &self.current {
            Some((current, _)) if *current == keyspace => return Ok(()),
            Some((current, _)) if *current > keyspace => return Err(out_of_order()),
            Some(_) => self.finish_section()?,
            None => self.write_file_header()?,
        }
        self.current = Some((keyspace, SectionDraft::default()));
        Ok(())
    }

    fn check_order(&self, key: &[u8]) -> Result<()> {
        match &self.current {
            Some((_, section)) if section.entries > 0 && section.last_key.as_slice() >= key => {
                Err(out_of_order())
            }
            _ => Ok(()),
        }
    }

    fn stage_entry(&mut self, key: &[u8], kind: EntryKind, value: &[u8], hash: u64) -> Result<()> {
        self.check_order(key)?;
        let is_full = self.stage.count() > 0
            && (self.stage.count() >= MAX_STAGED_ENTRIES
                || self.stage.block_bytes_with(key, kind, value) > self.options.block_bytes);
        if is_full {
            self.write_stage()?;
        }
        let Some((_, section)) = &mut self.current else { return Err(out_of_order()) };
        if section.entries == 0 {
            section.first_key = key.to_vec();
        } else if self.stage.count() == 0 {
            section.push_separator(separator(&section.last_key, key));
        }
        section.entries += 1;
        section.tombstones += u64::from(kind == EntryKind::Tombstone);
        section.last_key.clear();
        section.last_key.extend_from_slice(key);
        self.stage.push(key, kind, value, hash as u8);
        Ok(())
    }

    fn write_stage(&mut self) -> Result<()> {
        let Some((keyspace, section)) = &mut self.current else { return Ok(()) };
        let number = next_number(&self.data_extents)?;
        let (header, parts) = self.stage.finish(keyspace.get(), number);
        let (extent, _) = self.output.append_block(&header, &parts)?;
        self.data_extents.push(extent);
        section.block_count += 1;
        section.block_bytes += extent.length_bytes();
        self.stage.clear();
        Ok(())
    }

    fn write_value(&mut self, keyspace: KeyspaceId, value: &[u8]) -> Result<u32> {
        let number = next_number(&self.value_extents)?;
        let header = block_header(BlockKind::Value, keyspace.get(), number, value.len() as u64)?;
        let (extent, _) = self.output.append_block(&header, &[value])?;
        self.value_extents.push(extent);
        if let Some((_, section)) = &mut self.current {
            section.block_bytes += extent.length_bytes();
        }
        Ok(number)
    }

    fn finish_section(&mut self) -> Result<()> {
        if self.stage.count() > 0 {
            self.write_stage()?;
        }
        if let Some((keyspace, section)) = self.current.take() {
            self.sections.insert(keyspace, section);
        }
        Ok(())
    }

    /// Writes the range blocks of all sections, makes sections that have only ranges, and hands back
    /// where the blocks are and what is in them.
    #[expect(clippy::type_complexity, reason = "used in one place")]
    fn write_ranges(&mut self) -> Result<(Vec<Extent>, BTreeMap<KeyspaceId, Vec<RangeTombstone>>)> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut all = BTreeMap::new();
        for (keyspace, unsorted) in std::mem::take(&mut self.ranges) {
            let ranges = ranges::coalesce(unsorted);
            let section = self.sections.entry(keyspace).or_default();
            let mut rest = ranges.iter().peekable();
            while rest.peek().is_some() {
                let (mut body, mut count) = (Vec::new(), 0);
                while let Some(range) = rest.next_if(|_| body.len() < RANGES_BLOCK_BYTES) {
                    ranges::encode(&mut body, range);
                    count += 1;
                }
                let number = next_number(&extents)?;
                let mut header =
                    block_header(BlockKind::Ranges, keyspace.get(), number, body.len() as u64)?;
                header.count = count;
                let (extent, _) = self.output.append_block(&header, &[&body])?;
                extents.push(extent);
                section.range_block_count += 1;
                section.block_bytes += extent.length_bytes();
            }
            all.insert(keyspace, ranges);
        }
        Ok((extents, all))
    }

    #[expect(clippy::type_complexity, reason = "the types of TableMeta's fields")]
    fn bounds(
        &self,
        ranges: &BTreeMap<KeyspaceId, Vec<RangeTombstone>>,
    ) -> ((KeyspaceId, Vec<u8>), (KeyspaceId, Option<Vec<u8>>)) {
        let (Some((first_id, first)), Some((last_id, last))) =
            (self.sections.first_key_value(), self.sections.last_key_value())
        else {
            return ((KeyspaceId::ZERO, Vec::new()), (KeyspaceId::ZERO, Some(Vec::new())));
        };
        let first_range = ranges.get(first_id).and_then(|ranges| ranges.first());
        let first_key = match first_range.map(|range| &range.start) {
            Some(start) if first.entries == 0 || *start < first.first_key => start,
            _ => &first.first_key,
        };
        let last_key = match ranges.get(last_id).and_then(|ranges| ranges.last()) {
            Some(RangeTombstone { end: None, .. }) => None,
            Some(RangeTombstone { end: Some(end), .. })
                if last.entries == 0 || *end > last.last_key =>
            {
                Some(end.clone())
            }
            _ => Some(last.last_key.clone()),
        };
        ((*first_id, first_key.clone()), (*last_id, last_key))
    }
}

fn block_header(
    kind: BlockKind,
    keyspace: u32,
    number: u32,
    body_bytes: u64,
) -> Result<BlockHeader> {
    BlockHeader::new(kind, keyspace, number, body_bytes).ok_or(Error::Limit {
        what: "the length of a block in a table",
        found: body_bytes,
        limit: u64::from(u32::MAX),
        hint: "write several tables",
    })
}

fn next_number(extents: &[Extent]) -> Result<u32> {
    u32::try_from(extents.len()).map_err(|_| Error::Limit {
        what: "the number of blocks in a table",
        found: extents.len() as u64,
        limit: u64::from(u32::MAX),
        hint: "write several tables",
    })
}

fn check_limit(what: &'static str, found: usize, limit: usize) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    let hint = "split it, or keep a reference in its place";
    Err(Error::Limit { what, found: found as u64, limit: limit as u64, hint })
}

fn out_of_order() -> Error {
    Error::InvalidArgument("entries of a table must come in strictly ascending order".to_owned())
}
