//! Takes the fields of a manifest's body one after another, each within its bounds.
//!
//! Invariants: nothing is read behind the end; a number of entries is believed only if the bytes left
//! have room for that many, so that allocations stay in proportion to the file.

use super::codec::ManifestFault;
use crate::bytes::{u32_at, u64_at};
use crate::wal::COUNTER_LIMIT;

/// Takes fields from the body one after another. `at` counts from the start of the file.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from `at` on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Reader { bytes, at }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], ManifestFault> {
        let taken = self.bytes[self.at..].get(..length).ok_or(self.fault("the body ends early"))?;
        self.at += length;
        Ok(taken)
    }

    /// The next number of four bytes.
    pub fn u32(&mut self) -> Result<u32, ManifestFault> {
        Ok(u32_at(self.take(4)?, 0))
    }

    /// The next number of eight bytes.
    pub fn u64(&mut self) -> Result<u64, ManifestFault> {
        Ok(u64_at(self.take(8)?, 0))
    }

    /// A number that is at least `least` and below the limit of all counters.
    pub fn counter(&mut self, least: u64, what: &'static str) -> Result<u64, ManifestFault> {
        let value = self.u64()?;
        self.check((least..COUNTER_LIMIT).contains(&value), what).map(|()| value)
    }

    /// A number of entries, each of at least `entry_bytes`, that the bytes left have room for.
    pub fn count(&self, count: u32, entry_bytes: usize) -> Result<usize, ManifestFault> {
        let count = count as usize;
        let fits = count <= self.left() / entry_bytes;
        self.check(fits, "more entries than bytes").map(|()| count)
    }

    /// A fault of the field that was just read, unless `holds`.
    pub fn check(&self, holds: bool, what: &'static str) -> Result<(), ManifestFault> {
        if holds { Ok(()) } else { Err(self.fault(what)) }
    }

    /// A fault of the field that was just read (the offset is that behind it).
    pub fn fault(&self, what: &'static str) -> ManifestFault {
        ManifestFault::Field { offset: self.at as u64, what }
    }
}
