//! The index block and the footer: sections, fences, and where every block lies.
//!
//! Blocks are numbered by kind. The *ordinal* of a block is its place in the block table: data blocks
//! first, then value blocks, then range blocks; a data block's number is its ordinal, a value block's
//! ordinal is its number plus the count of data blocks. A section's data blocks follow each other.
//!
//! Invariants after [`Index::decode`]: sections ascend by keyspace; together they own all data and range
//! blocks, in order; every extent lies between the file header and the footer.

use super::fence::{Fences, common_prefix};
use super::format::{
    BLOCK_HEADER_BYTES, Extent, FOOTER_BYTES, put_key, take, take_key, take_u32, take_u64, u32_at,
    u64_at,
};
use crate::cursor::RangeTombstone;
use crate::types::KeyspaceId;

const FOOTER_BODY_BYTES: usize = FOOTER_BYTES - BLOCK_HEADER_BYTES;

/// What the footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Length of the whole file.
    pub file_bytes: u64,
    /// Point entries, tombstones included.
    pub entries: u64,
    /// Point entries that are tombstones.
    pub tombstones: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// The index block.
    pub index: (Extent, u32),
    /// The filter block.
    pub filter: Option<(Extent, u32)>,
}

impl Footer {
    /// The body of the footer block.
    pub fn encode(&self) -> [u8; FOOTER_BODY_BYTES] {
        let (filter, filter_crc) =
            self.filter.map_or((0, 0), |(extent, crc)| (extent.encode(), crc));
        let mut out = [0; FOOTER_BODY_BYTES];
        let words = [
            self.file_bytes,
            self.entries,
            self.tombstones,
            self.range_tombstones,
            self.index.0.encode(),
            filter,
        ];
        for (place, word) in out.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out[48..52].copy_from_slice(&self.index.1.to_le_bytes());
        out[52..56].copy_from_slice(&filter_crc.to_le_bytes());
        out
    }

    /// From the body of the footer block.
    pub fn decode(body: &[u8]) -> Option<Footer> {
        let body: &[u8; FOOTER_BODY_BYTES] = body.try_into().ok()?;
        let file_bytes = u64_at(body, 0)?;
        let limit = file_bytes.checked_sub(FOOTER_BYTES as u64)?;
        let filter = match (u64_at(body, 40)?, u32_at(body, 52)?) {
            (0, 0) => None,
            (extent, crc) => Some((Extent::decode(extent, limit)?, crc)),
        };
        body[56..].iter().all(|byte| *byte == 0).then_some(Footer {
            file_bytes,
            entries: u64_at(body, 8)?,
            tombstones: u64_at(body, 16)?,
            range_tombstones: u64_at(body, 24)?,
            index: (Extent::decode(u64_at(body, 32)?, limit)?, u32_at(body, 48)?),
            filter,
        })
    }
}

/// One keyspace's part of a table.
#[derive(Debug)]
pub struct Section {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Point entries, tombstones included.
    pub entries: u64,
    /// Point entries that are tombstones.
    pub tombstones: u64,
    /// Bytes of the section's data, value and range blocks.
    pub block_bytes: u64,
    /// Ordinal of the first data block.
    pub first_block: u32,
    /// Number of data blocks.
    pub block_count: u32,
    /// Number of range blocks.
    pub range_block_count: u32,
    /// Which data block may hold a key: one fence less than there are blocks.
    pub fences: Fences,
    /// The range tombstones; filled in from the range blocks.
    pub ranges: Vec<RangeTombstone>,
}

/// The resident index.
#[derive(Debug)]
pub struct Index {
    /// Where each block lies, by ordinal.
    pub extents: Vec<Extent>,
    /// Number of data blocks.
    pub data_blocks: u32,
    /// Number of value blocks.
    pub value_blocks: u32,
    /// The sections, by keyspace.
    pub sections: Vec<Section>,
}

impl Index {
    /// From the body of the index block. `limit` is where the last block it may name ends.
    pub fn decode(mut body: &[u8], section_count: u32, limit: u64) -> Option<Index> {
        let input = &mut body;
        let (data_blocks, value_blocks, range_blocks) =
            (take_u32(input)?, take_u32(input)?, take_u32(input)?);
        let block_count = data_blocks.checked_add(value_blocks)?.checked_add(range_blocks)?;
        let words = take(input, usize::try_from(block_count).ok()?.checked_mul(8)?)?;
        let extents = words
            .chunks_exact(8)
            .map(|word| Extent::decode(u64_at(word, 0)?, limit))
            .collect::<Option<Vec<Extent>>>()?;
        let mut sections: Vec<Section> = Vec::new();
        let (mut next_block, mut next_range_block) = (0u32, 0u32);
        for _ in 0..section_count {
            let section = Section::decode(input, next_block)?;
            if sections.last().is_some_and(|last| last.keyspace >= section.keyspace) {
                return None;
            }
            next_block = next_block.checked_add(section.block_count)?;
            next_range_block = next_range_block.checked_add(section.range_block_count)?;
            sections.push(section);
        }
        let all_owned = next_block == data_blocks && next_range_block == range_blocks;
        (input.is_empty() && all_owned).then_some(Index {
            extents,
            data_blocks,
            value_blocks,
            sections,
        })
    }

    /// The section of a keyspace.
    #[inline(always)]
    pub fn section(&self, keyspace: KeyspaceId) -> Option<&Section> {
        // Most tables have one section or a few.
        if let [only] = self.sections.as_slice() {
            return (only.keyspace == keyspace).then_some(only);
        }
        self.section_of_many(keyspace)
    }

    #[inline(never)]
    fn section_of_many(&self, keyspace: KeyspaceId) -> Option<&Section> {
        let place = self.sections.binary_search_by_key(&keyspace, |section| section.keyspace);
        place.ok().and_then(|place| self.sections.get(place))
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        let of_section = |section: &Section| {
            let of_range = |range: &RangeTombstone| {
                size_of::<RangeTombstone>()
                    + range.start.capacity()
                    + range.end.as_ref().map_or(0, Vec::capacity)
            };
            size_of::<Section>()
                + section.fences.memory_bytes()
                + section.ranges.iter().map(of_range).sum::<usize>()
        };
        8 * self.extents.capacity() + self.sections.iter().map(of_section).sum::<usize>()
    }
}

impl Section {
    fn decode(input: &mut &[u8], first_block: u32) -> Option<Section> {
        let keyspace = KeyspaceId(take_u32(input)?);
        let (block_count, range_block_count) = (take_u32(input)?, take_u32(input)?);
        let (entries, tombstones) = (take_u64(input)?, take_u64(input)?);
        let block_bytes = take_u64(input)?;
        // Every data block holds an entry, and every entry lies in one.
        let blocks = u64::from(block_count);
        if tombstones > entries || blocks > entries || (blocks == 0) != (entries == 0) {
            return None;
        }
        let prefix = take_key(input)?;
        let fence_count = block_count.saturating_sub(1) as usize;
        let mut blob = Vec::new();
        // Each fence takes at least two bytes, so the input bounds what is allocated.
        let mut ends = Vec::with_capacity(fence_count.min(input.len() / 2));
        for position in 0..fence_count {
            let suffix = take_key(input)?;
            if position > 0 {
                let start = if position == 1 { 0 } else { ends[position - 2] as usize };
                if suffix <= &blob[start..] {
                    return None;
                }
            }
            blob.extend_from_slice(suffix);
            ends.push(u32::try_from(blob.len()).ok()?);
        }
        Some(Section {
            keyspace,
            entries,
            tombstones,
            block_bytes,
            first_block,
            block_count,
            range_block_count,
            fences: Fences::new(prefix, &ends, &blob)?,
            ranges: Vec::new(),
        })
    }
}

/// A section while the table is being built.
#[derive(Debug, Default)]
pub struct SectionDraft {
    /// Point entries so far.
    pub entries: u64,
    /// Tombstones so far.
    pub tombstones: u64,
    /// Bytes of blocks written so far.
    pub block_bytes: u64,
    /// Data blocks written so far.
    pub block_count: u32,
    /// Range blocks written so far.
    pub range_block_count: u32,
    /// First key of the section, if it has entries.
    pub first_key: Vec<u8>,
    /// Last key of the section, if it has entries.
    pub last_key: Vec<u8>,
    /// The separators, one after the other.
    separators: Vec<u8>,
    separator_ends: Vec<usize>,
}

impl SectionDraft {
    /// Notes the separator between the block before and the one that begins.
    pub fn push_separator(&mut self, separator: &[u8]) {
        self.separators.extend_from_slice(separator);
        self.separator_ends.push(self.separators.len());
    }

    /// Bytes that the section takes in the index, about.
    pub fn index_bytes(&self) -> usize {
        self.separators.len() + 2 * self.separator_ends.len() + 48
    }

    /// Appends the section to the body of the index block.
    pub fn encode(&self, keyspace: KeyspaceId, out: &mut Vec<u8>) {
        out.extend_from_slice(&keyspace.get().to_le_bytes());
        out.extend_from_slice(&self.block_count.to_le_bytes());
        out.extend_from_slice(&self.range_block_count.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.tombstones.to_le_bytes());
        out.extend_from_slice(&self.block_bytes.to_le_bytes());
        // They ascend, so what the first and the last share is shared by all.
        let prefix = match self.separator_ends.len() {
            0 => &[],
            count => {
                let (first, last) = (self.separator(0), self.separator(count - 1));
                &first[..common_prefix(first, last)]
            }
        };
        put_key(out, prefix);
        for position in 0..self.separator_ends.len() {
            put_key(out, &self.separator(position)[prefix.len()..]);
        }
    }

    fn separator(&self, position: usize) -> &[u8] {
        let start = if position == 0 { 0 } else { self.separator_ends[position - 1] };
        &self.separators[start..self.separator_ends[position]]
    }
}

/// The body of the index block, up to the sections.
pub fn encode_block_table(data: &[Extent], values: &[Extent], ranges: &[Extent]) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + 8 * (data.len() + values.len() + ranges.len()));
    for part in [data, values, ranges] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    for extent in data.iter().chain(values).chain(ranges) {
        out.extend_from_slice(&extent.encode().to_le_bytes());
    }
    out
}
