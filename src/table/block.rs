//! Data blocks: how entries are laid out, written and found.
//!
//! After the block header come one fingerprint byte per entry (the low byte of the key's hash), then,
//! in the general form, the end of every entry, then the entries in key order. A point lookup scans the
//! fingerprints (one or two cache lines) and then compares one key, seldom two. In the uniform forms
//! all entries have one length, so their places are computed and cost nothing on disk.
//!
//! Invariants: keys in a block are strictly ascending; a block has at least one entry; every access is
//! bounded, so that a malformed block with a matching checksum gives [`Malformed`], never a panic.

use super::format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Form, MAX_BLOCK_ENTRIES, u16_at, u32_at,
};
use std::cmp::Ordering;
use std::ops::Range;

/// A block's structure contradicts itself although its checksum matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The value, right behind the key.
    Value,
    /// Nothing: the key is deleted.
    Tombstone,
    /// Number (`u32`) and length (`u32`) of a value block.
    Apart,
}

/// Where one entry's key and value lie in their block.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    key_start: u32,
    key_end: u32,
    value_end: u32,
    /// What the entry holds.
    pub kind: EntryKind,
}

impl Entry {
    /// The key's bytes within the block.
    #[inline]
    pub fn key(&self) -> Range<usize> {
        self.key_start as usize..self.key_end as usize
    }

    /// The value's bytes within the block.
    #[inline]
    pub fn value(&self) -> Range<usize> {
        self.key_end as usize..self.value_end as usize
    }

    /// Number and length of the value block that an [`EntryKind::Apart`] entry names.
    pub fn apart(&self, block: &[u8]) -> Option<(u32, u32)> {
        let reference = block.get(self.value())?;
        (reference.len() == 8).then_some((u32_at(reference, 0)?, u32_at(reference, 4)?))
    }
}

/// The shape of one data block, read from its header; cheap to make and to copy. It does not hold the
/// block: every call gets the same bytes again.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    count: u32,
    form: Form,
    wide: bool,
    key_bytes: u32,
    stride_bytes: u32,
    entries_start: u32,
    entries_end: u32,
}

impl Layout {
    /// Reads the header of a data block; `None` if the parts do not fit into the block.
    #[inline]
    pub fn new(block: &[u8]) -> Option<Layout> {
        let head: &[u8; BLOCK_HEADER_BYTES] = block.first_chunk()?;
        let count = u32::from_le_bytes([head[24], head[25], head[26], head[27]]);
        let key_bytes = u32::from(u16::from_le_bytes([head[28], head[29]]));
        let value_bytes = u32::from(u16::from_le_bytes([head[30], head[31]]));
        let form = match head[13] {
            0 => Form::General,
            1 => Form::UniformValues,
            2 => Form::UniformTombstones,
            _ => return None,
        };
        if head[12] != BlockKind::Data as u8 || count == 0 || count > MAX_BLOCK_ENTRIES {
            return None;
        }
        let entries_end = u32::try_from(block.len()).ok()?.checked_sub(u32::from(head[15]))?;
        let wide = is_wide(block.len());
        let offsets_bytes = match form {
            Form::General => count * if wide { 4 } else { 2 },
            Form::UniformValues | Form::UniformTombstones => 0,
        };
        let layout = Layout {
            count,
            form,
            wide,
            key_bytes,
            stride_bytes: key_bytes + value_bytes,
            entries_start: BLOCK_HEADER_BYTES as u32 + count + offsets_bytes,
            entries_end,
        };
        let body = entries_end.checked_sub(layout.entries_start)?;
        let fits = match form {
            Form::General => key_bytes == 0 && value_bytes == 0,
            Form::UniformValues => {
                u64::from(count) * u64::from(layout.stride_bytes) == u64::from(body)
            }
            Form::UniformTombstones => {
                value_bytes == 0 && u64::from(count) * u64::from(key_bytes) == u64::from(body)
            }
        };
        fits.then_some(layout)
    }

    /// Number of entries; at least 1.
    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The fingerprint of every entry.
    #[inline]
    pub fn fingerprints<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        block.get(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + self.count()).unwrap_or(&[])
    }

    /// The entry at `position`.
    #[inline]
    pub fn entry(&self, block: &[u8], position: usize) -> Result<Entry, Malformed> {
        if position >= self.count() {
            return Err(Malformed);
        }
        let kind = match self.form {
            Form::General => return self.general_entry(block, position).ok_or(Malformed),
            Form::UniformValues => EntryKind::Value,
            Form::UniformTombstones => EntryKind::Tombstone,
        };
        // Cannot pass the block's end: the layout says that `count * stride` fits.
        let key_start = self.entries_start + position as u32 * self.stride_bytes;
        let key_end = key_start + self.key_bytes;
        Ok(Entry { key_start, key_end, value_end: key_start + self.stride_bytes, kind })
    }

    /// The key at `position`.
    #[inline]
    pub fn key<'b>(&self, block: &'b [u8], position: usize) -> Result<&'b [u8], Malformed> {
        block.get(self.entry(block, position)?.key()).ok_or(Malformed)
    }

    /// The entry of `key`, whose fingerprint is given.
    #[inline]
    pub fn find(
        &self,
        block: &[u8],
        key: &[u8],
        fingerprint: u8,
    ) -> Result<Option<Entry>, Malformed> {
        if self.form != Form::General && key.len() != self.key_bytes as usize {
            return Ok(None);
        }
        let fingerprints = self.fingerprints(block);
        let mut words = fingerprints.chunks_exact(8);
        let pattern = u64::from(fingerprint) * LOW_BITS;
        let mut base = 0;
        for word in &mut words {
            let word = word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            let mut hits = zero_bytes(word ^ pattern);
            while hits != 0 {
                let position = base + hits.trailing_zeros() as usize / 8;
                let entry = self.entry(block, position)?;
                if block.get(entry.key()) == Some(key) {
                    return Ok(Some(entry));
                }
                hits &= hits - 1;
            }
            base += 8;
        }
        for (position, byte) in words.remainder().iter().enumerate() {
            if *byte == fingerprint {
                let entry = self.entry(block, base + position)?;
                if block.get(entry.key()) == Some(key) {
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }

    /// Position of the first entry whose key is at or after `key`; the count if there is none.
    pub fn lower_bound(&self, block: &[u8], key: &[u8]) -> Result<usize, Malformed> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(block, middle)?.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Ok(low)
    }

    #[inline]
    fn general_entry(&self, block: &[u8], position: usize) -> Option<Entry> {
        let start = match position {
            0 => 0,
            _ => self.end(block, position - 1)?,
        };
        let end = self.entries_start.checked_add(self.end(block, position)?)?;
        let start = self.entries_start.checked_add(start)?;
        let is_last = position + 1 == self.count();
        if start > end || end > self.entries_end || (is_last && end != self.entries_end) {
            return None;
        }
        let bytes = block.get(start as usize..end as usize)?;
        let first = *bytes.first()?;
        let (word, used) = match first {
            0..0x80 => (u32::from(first), 1),
            _ => varint(bytes)?,
        };
        let kind = match word & 3 {
            0 => EntryKind::Value,
            1 => EntryKind::Tombstone,
            2 => EntryKind::Apart,
            _ => return None,
        };
        let key_start = start + used;
        let key_end = key_start + (word >> 2);
        let fits = match kind {
            EntryKind::Value => key_end <= end,
            EntryKind::Tombstone => key_end == end,
            EntryKind::Apart => key_end + 8 == end,
        };
        fits.then_some(Entry { key_start, key_end, value_end: end, kind })
    }

    #[inline]
    fn end(&self, block: &[u8], position: usize) -> Option<u32> {
        let ends = BLOCK_HEADER_BYTES + self.count();
        if self.wide {
            u32_at(block, ends + 4 * position)
        } else {
            u16_at(block, ends + 2 * position).map(u32::from)
        }
    }
}

/// Gathers the entries of one data block.
#[derive(Debug, Default)]
pub struct BlockStage {
    /// Keys and values, one after the other, without anything between them.
    records: Vec<u8>,
    fingerprints: Vec<u8>,
    shapes: Vec<Shape>,
    is_uniform: bool,
    prefix_bytes: usize,
    /// Filled when a block in the general form is finished.
    ends: Vec<u8>,
    entries: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    key_bytes: u16,
    value_bytes: u16,
    kind: EntryKind,
}

impl BlockStage {
    /// Number of entries gathered.
    pub fn count(&self) -> usize {
        self.shapes.len()
    }

    /// Length of the block if it were finished now, without padding.
    pub fn block_bytes(&self) -> usize {
        self.bytes_with(self.count(), self.records.len(), self.prefix_bytes, self.is_uniform)
    }

    /// Length of the block, without padding, if it had one more entry.
    pub fn block_bytes_with(&self, key: &[u8], kind: EntryKind, value: &[u8]) -> usize {
        let shape = Shape::new(key, kind, value);
        self.bytes_with(
            self.count() + 1,
            self.records.len() + key.len() + value.len(),
            self.prefix_bytes + shape.prefix_bytes(),
            self.stays_uniform(shape),
        )
    }

    /// Adds an entry. Keys have at most 65,535 bytes, values (references included) too.
    pub fn push(&mut self, key: &[u8], kind: EntryKind, value: &[u8], fingerprint: u8) {
        let shape = Shape::new(key, kind, value);
        self.is_uniform = self.stays_uniform(shape);
        self.prefix_bytes += shape.prefix_bytes();
        self.records.extend_from_slice(key);
        self.records.extend_from_slice(value);
        self.fingerprints.push(fingerprint);
        self.shapes.push(shape);
    }

    /// Header and body parts of the block. The caller clears the stage when it has written them.
    pub fn finish(&mut self, keyspace: u32, number: u32) -> (BlockHeader, [&[u8]; 3]) {
        let body_bytes = (self.block_bytes() - BLOCK_HEADER_BYTES) as u64;
        let mut header = BlockHeader::new(BlockKind::Data, keyspace, number, body_bytes)
            .expect("a data block is far below 4 GiB");
        header.count = self.count() as u32;
        if self.is_uniform {
            let shape = self.shapes[0];
            header.key_bytes = shape.key_bytes;
            header.value_bytes = shape.value_bytes;
            header.form = match shape.kind {
                EntryKind::Tombstone => Form::UniformTombstones,
                EntryKind::Value | EntryKind::Apart => Form::UniformValues,
            };
            return (header, [&self.fingerprints, &[], &self.records]);
        }
        let wide = is_wide(header.length_bytes as usize);
        let mut rest = self.records.as_slice();
        for shape in &self.shapes {
            let (record, after) =
                rest.split_at(usize::from(shape.key_bytes) + usize::from(shape.value_bytes));
            rest = after;
            put_varint(&mut self.entries, shape.word());
            self.entries.extend_from_slice(record);
            let end = self.entries.len() as u32;
            self.ends.extend_from_slice(&end.to_le_bytes()[..if wide { 4 } else { 2 }]);
        }
        (header, [&self.fingerprints, &self.ends, &self.entries])
    }

    /// Makes room for the next block.
    pub fn clear(&mut self) {
        self.records.clear();
        self.fingerprints.clear();
        self.shapes.clear();
        self.ends.clear();
        self.entries.clear();
        self.prefix_bytes = 0;
        self.is_uniform = false;
    }

    fn stays_uniform(&self, shape: Shape) -> bool {
        match self.shapes.first() {
            None => shape.kind != EntryKind::Apart,
            Some(first) => self.is_uniform && *first == shape,
        }
    }

    fn bytes_with(&self, count: usize, raw: usize, prefix: usize, is_uniform: bool) -> usize {
        let common = BLOCK_HEADER_BYTES + count + raw;
        if is_uniform {
            return common;
        }
        let narrow = common + prefix + 2 * count;
        narrow + if is_wide(narrow) { 2 * count } else { 0 }
    }
}

impl Shape {
    fn new(key: &[u8], kind: EntryKind, value: &[u8]) -> Shape {
        debug_assert!(key.len() <= usize::from(u16::MAX) && value.len() <= usize::from(u16::MAX));
        Shape { key_bytes: key.len() as u16, value_bytes: value.len() as u16, kind }
    }

    /// Key length and kind, as they stand before the key in the general form.
    fn word(self) -> u32 {
        u32::from(self.key_bytes) << 2 | self.kind as u32
    }

    fn prefix_bytes(self) -> usize {
        match self.word() {
            0..0x80 => 1,
            0x80..0x4000 => 2,
            _ => 3,
        }
    }
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;

/// The high bit of every byte of `word` that is zero; exact.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    let low = word & !(LOW_BITS << 7);
    !(low.wrapping_add(!(LOW_BITS << 7)) | word) & (LOW_BITS << 7)
}

/// Entry ends take four bytes where a block's length does not fit into two. Decided by the length that
/// is a multiple of 64, so that writer and reader agree.
#[inline]
fn is_wide(block_bytes: usize) -> bool {
    block_bytes > 1 << 16
}

/// A little-endian base-128 number of two or three bytes, and how many it took.
fn varint(bytes: &[u8]) -> Option<(u32, u32)> {
    let (first, second) = (u32::from(*bytes.first()?), u32::from(*bytes.get(1)?));
    let low = first & 0x7f | (second & 0x7f) << 7;
    if second < 0x80 {
        return Some((low, 2));
    }
    let third = u32::from(*bytes.get(2)?);
    (third < 0x10).then_some((low | third << 14, 3))
}

fn put_varint(out: &mut Vec<u8>, mut word: u32) {
    while word >= 0x80 {
        out.push(word as u8 | 0x80);
        word >>= 7;
    }
    out.push(word as u8);
}
