//! A file's bytes as copy-on-write chunks, so that a crash image shares with its disk all that is equal.
//!
//! Invariants:
//! 1. A byte below the length that no chunk holds is zero; no chunk holds a byte at or past the length.
//! 2. [`Content::sum`] depends on the bytes alone: it is the wrapping sum of [`sector_hash`] over all
//!    sectors, where a sector of zeros counts nothing (so a hole equals written zeros). Sums are kept per
//!    chunk and computed once per state of a chunk.

use super::SECTOR_BYTES;
use crate::bytes::is_zero;
use std::sync::{Arc, OnceLock};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const CHUNK_BYTES: usize = 16 * 1024;
const SMALL_BYTES: usize = 1024;
const CHUNK_SECTORS: usize = CHUNK_BYTES / SECTOR_BYTES;

/// The longest file of a simulated disk (64 GiB); anything longer gives `FileTooLarge`.
pub const MAX_FILE_BYTES: u64 = 1 << 36;

/// One sector, padded with zeros.
pub(super) type Sector = [u8; SECTOR_BYTES];

/// The bytes of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    chunks: Vec<Option<Arc<Chunk>>>,
    len: u64,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    sum: OnceLock<u64>,
}

impl Clone for Chunk {
    /// Clones happen only to be changed, so the sum is not taken along.
    fn clone(&self) -> Chunk {
        Chunk { bytes: self.bytes.clone(), sum: OnceLock::new() }
    }
}

impl Content {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Reads up to the end of the file; says how much.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let (index, start) = place(offset + done as u64);
            let part = (CHUNK_BYTES - start).min(count - done);
            let target = &mut buffer[done..done + part];
            let held = self.chunk(index).get(start..).unwrap_or(&[]);
            let copied = held.len().min(part);
            target[..copied].copy_from_slice(&held[..copied]);
            target[copied..].fill(0);
            done += part;
        }
        count
    }

    /// Writes, growing the file if need be. The end is at most [`MAX_FILE_BYTES`].
    pub fn write_at(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        debug_assert!(end <= MAX_FILE_BYTES);
        let mut done = 0;
        while done < bytes.len() {
            let (index, start) = place(offset + done as u64);
            let part = (CHUNK_BYTES - start).min(bytes.len() - done);
            if self.chunks.len() <= index {
                self.chunks.resize(index + 1, None);
            }
            let chunk = Arc::make_mut(self.chunks[index].get_or_insert_default());
            chunk.sum = OnceLock::new();
            let held = chunk.bytes.len().saturating_sub(start).min(part);
            // Small files stay small; what grows beyond takes its whole chunk once.
            if start + part > SMALL_BYTES.max(chunk.bytes.capacity()) {
                chunk.bytes.reserve_exact(CHUNK_BYTES - chunk.bytes.len());
            }
            if chunk.bytes.len() < start {
                chunk.bytes.resize(start, 0);
            }
            chunk.bytes[start..start + held].copy_from_slice(&bytes[done..done + held]);
            chunk.bytes.extend_from_slice(&bytes[done + held..done + part]);
            done += part;
        }
        self.len = self.len.max(end);
    }

    /// Cuts or extends with zeros.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (index, start) = place(len);
            self.chunks.truncate(index + usize::from(start > 0));
            if start > 0
                && let Some(Some(chunk)) = self.chunks.get_mut(index)
                && chunk.bytes.len() > start
            {
                let chunk = Arc::make_mut(chunk);
                chunk.bytes.truncate(start);
                chunk.sum = OnceLock::new();
            }
        }
        self.len = len;
    }

    /// One sector, with zeros past the end of the file.
    pub fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        self.read_at(&mut bytes, sector * SECTOR_BYTES as u64);
        bytes
    }

    /// The sum of all sector hashes (invariant 2).
    pub fn sum(&self) -> u64 {
        let sums = self.chunks.iter().enumerate().filter_map(|(index, chunk)| {
            let chunk = chunk.as_ref()?;
            Some(*chunk.sum.get_or_init(|| {
                let sectors = chunk.bytes.chunks(SECTOR_BYTES).enumerate();
                sectors
                    .map(|(at, bytes)| sector_hash((index * CHUNK_SECTORS + at) as u64, bytes))
                    .fold(0, u64::wrapping_add)
            }))
        });
        sums.fold(0, u64::wrapping_add)
    }

    fn chunk(&self, index: usize) -> &[u8] {
        self.chunks.get(index).and_then(Option::as_ref).map_or(&[], |chunk| &chunk.bytes)
    }
}

/// Hash of the content of one sector at its place; bytes that are missing are zeros.
pub(super) fn sector_hash(sector: u64, bytes: &[u8]) -> u64 {
    if is_zero(bytes) {
        return 0;
    }
    if bytes.len() == SECTOR_BYTES {
        return xxh3_64_with_seed(bytes, sector);
    }
    let mut padded = [0; SECTOR_BYTES];
    padded[..bytes.len()].copy_from_slice(bytes);
    xxh3_64_with_seed(&padded, sector)
}

fn place(offset: u64) -> (usize, usize) {
    ((offset / CHUNK_BYTES as u64) as usize, (offset % CHUNK_BYTES as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::Random;
    use super::*;

    #[test]
    fn bytes_and_sums_are_those_of_plain_bytes_after_any_changes() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let (mut content, mut plain) = (Content::default(), Vec::new());
            for step in 0..60 {
                let place = format!("seed {seed}, step {step}");
                let offset = random.below(4 * CHUNK_BYTES);
                if random.below(3) == 0 {
                    content.set_len(offset as u64);
                    plain.resize(offset, 0);
                } else {
                    let len = 1 + random.below(2 * CHUNK_BYTES);
                    let letter = random.below(3) as u8;
                    content.write_at(&vec![letter; len], offset as u64);
                    plain.resize(plain.len().max(offset + len), 0);
                    plain[offset..offset + len].fill(letter);
                }
                // Asked for at every step, so that a sum that is out of date shows.
                let sectors = plain.chunks(SECTOR_BYTES).enumerate();
                let sum = sectors.map(|(index, bytes)| sector_hash(index as u64, bytes));
                assert_eq!(content.sum(), sum.fold(0, u64::wrapping_add), "{place}");
                let mut bytes = vec![1; plain.len() + 1];
                assert_eq!(content.read_at(&mut bytes, 0), plain.len(), "{place}");
                assert!(bytes[..plain.len()] == plain, "{place}");
            }
        }
    }
}
