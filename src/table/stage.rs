//! Writing data blocks: entries gather without any framing until the block is full; only then is it
//! known whether all have one shape, and the smaller form is written.
//!
//! Invariant: what [`BlockStage::block_bytes`] says is what [`BlockStage::finish`] makes.

use super::block::{EntryKind, is_wide};
use super::format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Form};

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

fn put_varint(out: &mut Vec<u8>, mut word: u32) {
    while word >= 0x80 {
        out.push(word as u8 | 0x80);
        word >>= 7;
    }
    out.push(word as u8);
}
