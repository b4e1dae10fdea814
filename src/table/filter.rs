//! The bloom filter: says of most keys that are not in the table that they are not, with one cache
//! line.
//!
//! A filter is an array of 64-byte lines. A key belongs to one line and has one bit in each of the
//! line's eight words. Ten bits a key give about 1 % false positives. Frozen: `line` and `mask`.

use super::format::u64_at;

/// Bits per key that the builder spends.
pub const BITS_PER_KEY: u64 = 10;
/// Length of a line.
pub const LINE_BYTES: usize = 64;
/// The longest filter: 1 GiB, enough for 850 million keys; a block may not be much longer.
const MAX_LINES: u64 = 1 << 24;

#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

/// A bloom filter over key hashes.
#[derive(Debug)]
pub struct Filter {
    lines: Vec<Line>,
}

impl Filter {
    /// Builds the filter of a table.
    pub fn build(hashes: &[u64]) -> Filter {
        let bits = (hashes.len() as u64).saturating_mul(BITS_PER_KEY);
        let count = bits.div_ceil(LINE_BYTES as u64 * 8).clamp(1, MAX_LINES);
        let mut lines = vec![Line::default(); count as usize];
        for hash in hashes {
            let line = &mut lines[line_of(*hash, count as usize)];
            for (word, bit) in line.0.iter_mut().zip(bits_of(*hash)) {
                *word |= bit;
            }
        }
        Filter { lines }
    }

    /// From the body of a filter block.
    pub fn decode(body: &[u8], count: u32) -> Option<Filter> {
        if count == 0 || body.len() as u64 != u64::from(count) * LINE_BYTES as u64 {
            return None;
        }
        let mut lines = vec![Line::default(); count as usize];
        for (line, bytes) in lines.iter_mut().zip(body.chunks_exact(LINE_BYTES)) {
            for (position, word) in line.0.iter_mut().enumerate() {
                *word = u64_at(bytes, 8 * position)?;
            }
        }
        Some(Filter { lines })
    }

    /// The body of the filter block.
    pub fn encode(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| line.0).flat_map(u64::to_le_bytes).collect()
    }

    /// Number of lines.
    pub fn line_count(&self) -> u32 {
        self.lines.len() as u32
    }

    /// Whether a key with this hash may be in the table. False is certain.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        let line = &self.lines[line_of(hash, self.lines.len())].0;
        let bits = bits_of(hash);
        let mut missing = 0;
        for position in 0..8 {
            missing |= bits[position] & !line[position];
        }
        missing == 0
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }
}

/// The line of a hash: its upper half, scaled. Always below `count`.
#[inline]
fn line_of(hash: u64, count: usize) -> usize {
    (((hash >> 32) * count as u64) >> 32) as usize
}

/// One bit for each word, six bits of a remixed hash each.
#[inline]
fn bits_of(hash: u64) -> [u64; 8] {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bits = [0; 8];
    for (position, bit) in bits.iter_mut().enumerate() {
        *bit = 1 << (mixed >> (16 + 6 * position) & 63);
    }
    bits
}
