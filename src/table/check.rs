//! Proves a whole table file: reads and verifies every byte, and that the parts agree with each other.
//!
//! What is held against what: the blocks tile the file without gaps; each verifies and is the one that
//! the index names; keys ascend within and across blocks and each lies in the block that its fences lead
//! to; each fingerprint is its key's; the filter knows every key; each value block is named exactly once,
//! in order, with its length; counts agree with section, footer and manifest; the manifest's bounds hold.

use super::ReadMode;
use super::block::{EntryKind, Layout};
use super::filter::Filter;
use super::format::{BlockKind, Extent, FILE_HEADER_BYTES, FOOTER_BYTES};
use super::index::Section;
use super::key_hash;
use super::load::body;
use super::reader::{Loaded, Table};
use crate::error::Result;

/// What [`Table::check`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCheck {
    /// Bytes read and verified: the whole file.
    pub bytes: u64,
    /// Data blocks.
    pub data_blocks: u64,
    /// Value blocks.
    pub value_blocks: u64,
    /// Point entries, tombstones included.
    pub entries: u64,
    /// Point entries that are tombstones.
    pub tombstones: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
}

impl Table {
    /// Reads and verifies the whole file anew, whatever was verified before. `progress` is told, now and
    /// then, how many bytes are done. The first damage found is the error.
    pub fn check(&self, progress: &mut dyn FnMut(u64)) -> Result<TableCheck> {
        let loaded = self.load(ReadMode::Pread)?;
        let filter = match loaded.footer.filter {
            Some((extent, crc)) => {
                let (header, block) =
                    self.read_vouched(&*loaded.file, BlockKind::Filter, extent, crc)?;
                let filter = Filter::decode(body(&header, &block), header.count)
                    .ok_or_else(|| self.damage(extent.offset(), "the filter contradicts itself"))?;
                Some(filter)
            }
            None => None,
        };
        self.check_tiling(&loaded)?;
        let mut pass = Pass {
            table: self,
            loaded: &loaded,
            filter,
            progress,
            next_value: 0,
            resync: false,
            section_bytes: 0,
            count: TableCheck::default(),
        };
        pass.begin();
        for section in &loaded.index.sections {
            pass.check_section(section)?;
        }
        let count = pass.finish()?;
        self.check_bounds(&loaded)?;
        Ok(count)
    }

    /// All blocks together cover the file, each byte once.
    pub(super) fn check_tiling(&self, loaded: &Loaded) -> Result<()> {
        let mut extents = loaded.index.extents.clone();
        extents.push(loaded.footer.index.0);
        extents.extend(loaded.footer.filter.map(|(extent, _)| extent));
        extents.sort_unstable_by_key(|extent| extent.offset());
        let mut end = FILE_HEADER_BYTES as u64;
        for extent in extents {
            if extent.offset() != end {
                return Err(self.damage(end, "the blocks of the index do not cover the file"));
            }
            end = extent.end();
        }
        if end + FOOTER_BYTES as u64 != self.meta.file_bytes {
            return Err(self.damage(end, "the blocks of the index do not cover the file"));
        }
        Ok(())
    }

    /// Range tombstones lie within the bounds that the manifest states. (Keys are looked at in passing.)
    pub(super) fn check_bounds(&self, loaded: &Loaded) -> Result<()> {
        for section in &loaded.index.sections {
            let (Some(first), Some(last)) = (section.ranges.first(), section.ranges.last()) else {
                continue;
            };
            let end_is_inside = match &last.end {
                Some(end) => self.meta.may_contain(section.keyspace, end),
                None => {
                    section.keyspace < self.meta.last.0
                        || self.meta.last == (section.keyspace, None)
                }
            };
            if !end_is_inside || !self.meta.may_contain(section.keyspace, &first.start) {
                return Err(self.damage(0, "a range tombstone is outside the table's bounds"));
            }
        }
        Ok(())
    }
}

/// The walk over all data and value blocks.
pub(super) struct Pass<'p> {
    pub table: &'p Table,
    pub loaded: &'p Loaded,
    pub filter: Option<Filter>,
    pub progress: &'p mut dyn FnMut(u64),
    pub next_value: u32,
    /// A block was left out or is damaged: the next value block may be any.
    pub resync: bool,
    pub section_bytes: u64,
    pub count: TableCheck,
}

impl Pass<'_> {
    /// Counts what loading has verified.
    pub(super) fn begin(&mut self) {
        let index = &self.loaded.index;
        let ranges = &index.extents[(index.data_blocks + index.value_blocks) as usize..];
        let footer = &self.loaded.footer;
        let filter_bytes = footer.filter.map_or(0, |(extent, _)| extent.length_bytes());
        self.count.bytes = (FILE_HEADER_BYTES + FOOTER_BYTES) as u64
            + footer.index.0.length_bytes()
            + filter_bytes
            + ranges.iter().map(|extent| extent.length_bytes()).sum::<u64>();
        (self.progress)(self.count.bytes);
    }

    pub(super) fn check_section(&mut self, section: &Section) -> Result<()> {
        let index = &self.loaded.index;
        let before = self.count;
        self.section_bytes = 0;
        let mut last_key: Option<Vec<u8>> = None;
        for place in 0..section.block_count {
            self.check_block(section, place, &mut last_key)?;
        }
        let first_range =
            index.sections.iter().take_while(|other| other.keyspace < section.keyspace);
        let first_range = index.data_blocks
            + index.value_blocks
            + first_range.map(|other| other.range_block_count).sum::<u32>();
        let range_extents = index.extents.iter().skip(first_range as usize);
        self.section_bytes += range_extents
            .take(section.range_block_count as usize)
            .map(|extent| extent.length_bytes())
            .sum::<u64>();
        self.count.range_tombstones += section.ranges.len() as u64;
        let agrees = self.count.entries - before.entries == section.entries
            && self.count.tombstones - before.tombstones == section.tombstones
            && self.section_bytes == section.block_bytes;
        if agrees { Ok(()) } else { Err(self.index_damage("a section's counts are wrong")) }
    }

    pub(super) fn check_block(
        &mut self,
        section: &Section,
        place: u32,
        last_key: &mut Option<Vec<u8>>,
    ) -> Result<()> {
        let (table, index) = (self.table, &self.loaded.index);
        let ordinal = section.first_block + place;
        let extent = index.extents[ordinal as usize];
        let (header, block) = table.read_block(&*self.loaded.file, extent)?;
        let damage = |what: &str| table.damage(extent.offset(), what);
        if !table.header_fits(index, ordinal, &header) || header.keyspace != section.keyspace.get()
        {
            return Err(damage("a block is not the one that the index names"));
        }
        self.count.data_blocks += 1;
        self.block_done(extent);
        let layout = Layout::new(&block).ok_or_else(|| table.malformed(self.loaded, ordinal))?;
        for position in 0..layout.count() {
            let entry = layout
                .entry(&block, position)
                .map_err(|_| table.malformed(self.loaded, ordinal))?;
            let key = &block[entry.key()];
            if last_key.as_ref().is_some_and(|last| last.as_slice() >= key) {
                return Err(damage("keys are out of order"));
            }
            if section.fences.rank(key) != place as usize {
                return Err(damage("a key is not in the block that the index leads to"));
            }
            if !table.meta.may_contain(section.keyspace, key) {
                return Err(damage("a key is outside the bounds of the table"));
            }
            let hash = key_hash(section.keyspace, key);
            if layout.fingerprints(&block)[position] != hash as u8 {
                return Err(damage("a fingerprint is not that of its key"));
            }
            if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(hash)) {
                return Err(damage("the filter does not know a key"));
            }
            self.count.entries += 1;
            match entry.kind {
                EntryKind::Value => {}
                EntryKind::Tombstone => self.count.tombstones += 1,
                EntryKind::Apart => self.check_value(section, entry.apart(&block), extent)?,
            }
            let last = last_key.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
        Ok(())
    }

    /// The value block that an entry names is the next one, and has the length that the entry says.
    fn check_value(
        &mut self,
        section: &Section,
        reference: Option<(u32, u32)>,
        from: Extent,
    ) -> Result<()> {
        let (table, index) = (self.table, &self.loaded.index);
        let damage =
            || table.damage(from.offset(), "an entry names a value block that is not its own");
        let (number, length) = reference.ok_or_else(damage)?;
        if std::mem::take(&mut self.resync) {
            self.next_value = number;
        }
        if number != self.next_value || number >= index.value_blocks {
            return Err(damage());
        }
        let ordinal = index.data_blocks + number;
        let extent = index.extents[ordinal as usize];
        let header = table.verify_extent(&*self.loaded.file, extent)?;
        let fits = table.header_fits(index, ordinal, &header)
            && header.body_bytes() == u64::from(length)
            && header.keyspace == section.keyspace.get();
        if !fits {
            return Err(damage());
        }
        self.next_value += 1;
        self.count.value_blocks += 1;
        self.block_done(extent);
        Ok(())
    }

    fn block_done(&mut self, extent: Extent) {
        self.count.bytes += extent.length_bytes();
        self.section_bytes += extent.length_bytes();
        (self.progress)(self.count.bytes);
    }

    pub(super) fn finish(self) -> Result<TableCheck> {
        if self.next_value != self.loaded.index.value_blocks {
            return Err(self.index_damage("a value block is named by no entry"));
        }
        if self.count.bytes != self.table.meta.file_bytes {
            return Err(self.index_damage("the blocks of the index do not cover the file"));
        }
        Ok(self.count)
    }

    fn index_damage(&self, what: &str) -> crate::Error {
        self.table.damage(self.loaded.footer.index.0.offset(), what)
    }
}
