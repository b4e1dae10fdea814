//! Even tables: data blocks of one length and one shape, with records of one length. Where a record lies is
//! computed from its block's number and its position, so that a read that knows both ([`Positions`](super::positions))
//! waits for nothing between the index and the record.
//!
//! Extents say how many blocks from the first on have one length and lie behind each other; that they have one shape
//! shows as they are entered. One of another shape ends it for the whole table, before its first entry is stored.
//!
//! Invariant: a place is said only of a block that was entered, so that it was verified, and only if all that were
//! entered have this shape.

use super::block::Layout;
use super::format::Extent;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Even {
    first_offset: usize,
    block_bytes: usize,
    /// So many blocks have that length.
    blocks: u32,
    /// A block that was entered has another shape.
    mixed: AtomicBool,
    shape: OnceLock<Shape>,
}

#[derive(Debug)]
struct Shape {
    layout: Layout,
    /// From the first byte of the first block to its first record.
    records_offset: usize,
    count: usize,
    key_bytes: usize,
    record_bytes: usize,
}

/// Where a record lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Not empty.
    pub bytes: Range<usize>,
    /// The value comes behind them.
    pub key_bytes: usize,
}

impl Even {
    /// What the extents of the data blocks say. The last block is mostly of another shape.
    pub fn of(extents: &[Extent]) -> Even {
        let extents = extents.split_last().map_or(extents, |(_, before)| before);
        let first = extents.first();
        let (offset, bytes) = first.map_or((0, 0), |e| (e.offset(), e.end() - e.offset()));
        let expected = |index: usize| offset + index as u64 * bytes;
        let even = |(index, extent): &(usize, &Extent)| {
            extent.offset() == expected(*index) && extent.end() == expected(*index + 1)
        };
        Even {
            first_offset: offset as usize,
            block_bytes: bytes as usize,
            blocks: extents.iter().enumerate().take_while(even).count() as u32,
            mixed: AtomicBool::new(false),
            shape: OnceLock::new(),
        }
    }

    /// A block is about to be entered. What is stored with `Release` after this is read with `Acquire` before
    /// [`Even::record`] is asked.
    pub fn note(&self, ordinal: u32, layout: &Layout) {
        if ordinal >= self.blocks || self.mixed.load(Ordering::Relaxed) {
            return;
        }
        let shape = self.shape.get_or_init(|| Shape::of(layout, self.first_offset));
        if shape.layout != *layout || shape.record_bytes == 0 {
            self.mixed.store(true, Ordering::Relaxed);
        }
    }

    /// The record at a position of a block that has entries; `None` if its block has to be asked.
    #[inline(always)]
    pub fn record(&self, ordinal: u32, position: usize) -> Option<Record> {
        let shape = self.shape.get()?;
        if ordinal >= self.blocks || position >= shape.count || self.mixed.load(Ordering::Relaxed) {
            return None;
        }
        let block = shape.records_offset + ordinal as usize * self.block_bytes;
        let start = block + position * shape.record_bytes;
        Some(Record { bytes: start..start + shape.record_bytes, key_bytes: shape.key_bytes })
    }
}

impl Shape {
    /// Without records if they have no common length, or no values.
    fn of(layout: &Layout, first_offset: usize) -> Shape {
        let (start, key_bytes, record_bytes) = layout.uniform_values().unwrap_or_default();
        Shape {
            layout: *layout,
            records_offset: first_offset + start,
            count: layout.count(),
            key_bytes,
            record_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Even, Record};
    use crate::table::block::Layout;
    use crate::table::format::Extent;

    fn extents(places: &[(u64, u64)]) -> Vec<Extent> {
        places.iter().map(|(offset, bytes)| Extent::new(*offset, *bytes).unwrap()).collect()
    }

    /// Of a block of 256 bytes: 3 records of 10 + 20 bytes, whose header and fingerprints take 35.
    fn layout(count: u64, key_bytes: u64) -> Layout {
        let value_bytes = 20;
        let used = 32 + count + count * (key_bytes + value_bytes);
        let padding = used.next_multiple_of(64) - used;
        let word = count | key_bytes << 17 | value_bytes << 33 | padding << 49 | 1 << 55;
        Layout::unpack(word, used.next_multiple_of(64) as usize).expect("a sound shape")
    }

    #[test]
    fn places_are_computed_while_blocks_are_of_one_length_and_shape() {
        let even = Even::of(&extents(&[(4096, 128), (4224, 128), (4352, 128), (4480, 128)]));
        assert_eq!(even.record(0, 0), None, "nothing was entered");
        even.note(1, &layout(3, 10));
        assert_eq!(even.record(1, 0), Some(Record { bytes: 4259..4289, key_bytes: 10 }));
        assert_eq!(even.record(2, 2), Some(Record { bytes: 4447..4477, key_bytes: 10 }));
        assert_eq!(even.record(2, 3), None, "there are three");
        assert_eq!(even.record(3, 0), None, "the last");
        even.note(3, &layout(1, 10));
        assert!(even.record(1, 0).is_some(), "it does not count");
        even.note(2, &layout(3, 9));
        assert_eq!(even.record(1, 0), None, "two shapes");
        even.note(1, &layout(3, 10));
        assert_eq!(even.record(1, 0), None, "for good");
    }

    #[test]
    fn gaps_and_other_lengths_end_it() {
        let even = Even::of(&extents(&[(4096, 128), (4288, 128), (4416, 128), (4544, 128)]));
        even.note(0, &layout(3, 10));
        assert!(even.record(0, 1).is_some());
        assert_eq!(even.record(1, 0), None);
        let none = Even::of(&[]);
        none.note(0, &layout(3, 10));
        assert_eq!(none.record(0, 0), None);
    }
}
