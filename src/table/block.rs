//! Data blocks: how entries are laid out and found. ([`stage`](super::stage) writes them.)
//!
//! After the block header come one fingerprint byte per entry (the low byte of the key's hash), then,
//! in the general form, the end of every entry, then the entries in key order. A point lookup scans the
//! fingerprints (one or two cache lines, mostly from their copy in [`heads`](super::heads)) and then
//! compares one key, seldom two. In the uniform forms
//! all entries have one length, so their places are computed and cost nothing on disk.
//!
//! Invariants: keys in a block are strictly ascending; a block has at least one entry; every access is
//! bounded, so that a malformed block with a matching checksum gives [`Malformed`], never a panic.

use super::format::{BLOCK_HEADER_BYTES, BlockKind, Form, MAX_BLOCK_ENTRIES, u16_at, u32_at};
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
    /// No entry.
    pub const EMPTY: Entry =
        Entry { key_start: 0, key_end: 0, value_end: 0, kind: EntryKind::Tombstone };

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The shape of no block.
    pub const EMPTY: Layout = Layout {
        count: 0,
        form: Form::General,
        wide: false,
        key_bytes: 0,
        stride_bytes: 0,
        entries_start: 0,
        entries_end: 0,
    };

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
        if head[12] != BlockKind::Data as u8 {
            return None;
        }
        Layout::of(form, count, key_bytes, value_bytes, head[15], block.len())
    }

    /// The shape that a header with these fields states.
    #[inline(always)]
    fn of(
        form: Form,
        count: u32,
        key_bytes: u32,
        value_bytes: u32,
        padding_bytes: u8,
        block_bytes: usize,
    ) -> Option<Layout> {
        if count == 0 || count > MAX_BLOCK_ENTRIES {
            return None;
        }
        let entries_end = u32::try_from(block_bytes).ok()?.checked_sub(u32::from(padding_bytes))?;
        let wide = is_wide(block_bytes);
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

    /// The shape in one word, which is not 0. With the block's length it is all that the header says.
    pub fn pack(&self, block_bytes: usize) -> u64 {
        let padding = block_bytes as u64 - u64::from(self.entries_end);
        let value_bytes = u64::from(self.stride_bytes - self.key_bytes);
        u64::from(self.count)
            | u64::from(self.key_bytes) << 17
            | value_bytes << 33
            | padding << 49
            | (self.form as u64) << 55
    }

    /// The shape that was packed, of a block of this length.
    #[inline(always)]
    pub fn unpack(word: u64, block_bytes: usize) -> Option<Layout> {
        let form = match word >> 55 {
            0 => Form::General,
            1 => Form::UniformValues,
            _ => Form::UniformTombstones,
        };
        let (count, key_bytes) = (word & 0x1_ffff, word >> 17 & 0xffff);
        let (value_bytes, padding) = (word >> 33 & 0xffff, word >> 49 & 0x3f);
        Layout::of(
            form,
            count as u32,
            key_bytes as u32,
            value_bytes as u32,
            padding as u8,
            block_bytes,
        )
    }

    /// Number of entries; at least 1.
    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// If all entries are values of one length: where in the block the first record begins, and the bytes of a key
    /// and of a record.
    pub fn uniform_values(&self) -> Option<(usize, usize, usize)> {
        let bytes =
            (self.entries_start as usize, self.key_bytes as usize, self.stride_bytes as usize);
        (self.form == Form::UniformValues).then_some(bytes)
    }

    /// The fingerprint of every entry.
    #[inline]
    pub fn fingerprints<'b>(&self, block: &'b [u8]) -> &'b [u8] {
        block.get(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + self.count()).unwrap_or(&[])
    }

    /// The entry at `position`. Inlined by force: an entry that is returned through memory is stored in
    /// pieces and loaded as a whole, and such a load waits for all reads before it to finish.
    #[inline(always)]
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

    /// The fingerprints, eight in a word, with zeros behind the last.
    #[inline]
    pub fn fingerprint_words<'b>(&self, block: &'b [u8]) -> impl Iterator<Item = u64> + 'b {
        self.fingerprints(block).chunks(8).map(|bytes| match bytes.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(padded)
            }
        })
    }

    /// Position and place of the entry of `key`. `words` are the block's fingerprints, `fingerprint` is
    /// the key's.
    #[inline(always)]
    pub fn find(
        &self,
        block: &[u8],
        key: &[u8],
        fingerprint: u8,
        words: impl Iterator<Item = u64>,
    ) -> Result<Option<(usize, Entry)>, Malformed> {
        if self.form != Form::General && key.len() != self.key_bytes as usize {
            return Ok(None);
        }
        let pattern = u64::from(fingerprint) * LOW_BITS;
        let mut base = 0;
        for word in words {
            let mut hits = zero_bytes(word ^ pattern);
            while hits != 0 {
                let position = base + hits.trailing_zeros() as usize / 8;
                if position >= self.count() {
                    // The zeros behind the last fingerprint.
                    return Ok(None);
                }
                let entry = self.entry(block, position)?;
                if block.get(entry.key()) == Some(key) {
                    return Ok(Some((position, entry)));
                }
                hits &= hits - 1;
            }
            base += 8;
        }
        Ok(None)
    }

    /// Whether a key of this length can be in the block.
    #[inline]
    pub fn may_have_length(&self, key_bytes: usize) -> bool {
        self.form == Form::General || self.key_bytes as usize == key_bytes
    }

    /// Position of the first entry whose key is at or after `key`; the count if there is none. The search
    /// begins at `guess` and widens, so that after a good guess it stays near; without one it halves.
    pub fn lower_bound(
        &self,
        block: &[u8],
        key: &[u8],
        guess: Option<usize>,
    ) -> Result<usize, Malformed> {
        let (mut low, mut high) = (0, self.count());
        let (mut probe, mut step) = match guess {
            Some(guess) => (guess.min(high - 1), FIRST_STEP),
            None => (high / 2, usize::MAX),
        };
        let mut was_before = None;
        while low < high {
            let is_before = match self.key(block, probe)?.cmp(key) {
                Ordering::Equal => return Ok(probe),
                ordering => ordering == Ordering::Less,
            };
            if is_before {
                low = probe + 1;
            } else {
                high = probe;
            }
            if was_before.is_some_and(|before| before != is_before) {
                step = usize::MAX;
            }
            was_before = Some(is_before);
            let half = low + (high - low) / 2;
            probe = match is_before {
                true => low.saturating_add(step - 1).min(half),
                false => high.saturating_sub(step).max(half),
            };
            step = step.saturating_mul(2);
        }
        Ok(low)
    }

    #[inline(always)]
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

/// How far from its guess a search looks first.
const FIRST_STEP: usize = 4;
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
pub fn is_wide(block_bytes: usize) -> bool {
    block_bytes > 1 << 16
}

/// A little-endian base-128 number of two or three bytes, and how many it took.
#[cold]
fn varint(bytes: &[u8]) -> Option<(u32, u32)> {
    let (first, second) = (u32::from(*bytes.first()?), u32::from(*bytes.get(1)?));
    let low = first & 0x7f | (second & 0x7f) << 7;
    if second < 0x80 {
        return Some((low, 2));
    }
    let third = u32::from(*bytes.get(2)?);
    (third < 0x10).then_some((low | third << 14, 3))
}
