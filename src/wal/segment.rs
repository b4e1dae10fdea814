//! The head of a segment, one file of the log: one block of 4096 bytes.
//!
//! ```text
//!  0  magic          8    48  salt            8
//!  8  format version 4    56  base            8   LSN of the file's first byte
//! 12  reserved       4    64  segment_bytes   8   length of the file
//! 16  features       8    72  generation      8
//! 24  database      16    80  created_micros  8
//! 40  epoch          8    88  padding      4004   zero
//!                       4092  crc             4   CRC-32 of bytes 0..4092
//! ```
//!
//! Invariants: an LSN is `base` plus the offset in the file, and `base` is a multiple of the block, so
//! that blocks of LSNs are blocks of the file; groups start at offset 4096. The checksum covers the
//! padding. It is checked before version and features, and lies in the same place in every version: a
//! changed bit is damage, never "a newer version".

use super::COUNTER_LIMIT;
use super::group::BLOCK_BYTES;
use crate::bytes::{array_at, is_zero, set_u32, set_u64, u32_at, u64_at};
use crate::types::{DatabaseId, Epoch, Generation, Lsn};

/// Length of a segment header; the first group follows. Frozen.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES as usize;
/// Version of the log's format.
pub const SEGMENT_FORMAT_VERSION: u32 = 1;
/// The incompatible feature bits of the log that this version knows.
pub const SEGMENT_FEATURES_KNOWN: u64 = 0;
/// Shortest segment: its header and one block.
pub const SEGMENT_MIN_BYTES: u64 = 2 * BLOCK_BYTES;
/// Longest segment.
pub const SEGMENT_MAX_BYTES: u64 = 1 << 40;

const MAGIC: [u8; 8] = *b"HWsegmnt";
const PADDING_AT: usize = 88;
const CRC_AT: usize = SEGMENT_HEADER_BYTES - 4;

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The database it belongs to.
    pub database: DatabaseId,
    /// The epoch that writes to it.
    pub epoch: Epoch,
    /// The epoch's random salt.
    pub salt: u64,
    /// LSN of the file's first byte.
    pub base: Lsn,
    /// Length of the file.
    pub segment_bytes: u64,
    /// The durable manifest generation when the header was written: a manifest older than that is damage.
    pub generation: Generation,
    /// When the header was written, in microseconds since 1970.
    pub created_micros: u64,
}

/// Why bytes are not the head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// All zero: a spare, or a file whose header was never written.
    #[error("no segment header here, only zeros")]
    Blank,
    /// The file is shorter than a header.
    #[error("the segment header is cut short")]
    Short,
    /// The magic is another one.
    #[error("no segment header here, the magic does not match")]
    Magic,
    /// Written by a newer version.
    #[error("the log has format version {found}")]
    Version {
        /// The version that the header names.
        found: u64,
    },
    /// Uses features that this version does not know.
    #[error("the log has feature bits {found:#x}")]
    Features {
        /// All incompatible feature bits of the header.
        found: u64,
    },
    /// The block fails its checksum.
    #[error("the segment header fails its checksum")]
    Crc,
    /// The checksum holds, but a field is one that no version could have written.
    #[error("the segment header has an impossible field")]
    Field,
}

impl SegmentHeader {
    /// The header's block.
    ///
    /// # Panics
    /// If a field is one that [`SegmentHeader::decode`] refuses.
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(self.check_fields(), Ok(()), "unreadable segment header: {self:?}");
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        set_u32(&mut bytes, 8, SEGMENT_FORMAT_VERSION);
        set_u64(&mut bytes, 16, SEGMENT_FEATURES_KNOWN);
        bytes[24..40].copy_from_slice(&self.database.0);
        set_u64(&mut bytes, 40, self.epoch.0);
        set_u64(&mut bytes, 48, self.salt);
        set_u64(&mut bytes, 56, self.base.0);
        set_u64(&mut bytes, 64, self.segment_bytes);
        set_u64(&mut bytes, 72, self.generation.0);
        set_u64(&mut bytes, 80, self.created_micros);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        set_u32(&mut bytes, CRC_AT, crc);
        bytes
    }

    /// Reads a header from the start of `bytes`. That the database, the base and the length of the file
    /// are the expected ones is for the caller to check.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, SegmentFault> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES).ok_or(SegmentFault::Short)?;
        if array_at(bytes, 0) != MAGIC {
            return Err(if is_zero(bytes) { SegmentFault::Blank } else { SegmentFault::Magic });
        }
        if crc32fast::hash(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Err(SegmentFault::Crc);
        }
        let version = u32_at(bytes, 8);
        if version != SEGMENT_FORMAT_VERSION {
            return Err(SegmentFault::Version { found: u64::from(version) });
        }
        let features = u64_at(bytes, 16);
        if features & !SEGMENT_FEATURES_KNOWN != 0 {
            return Err(SegmentFault::Features { found: features });
        }
        if u32_at(bytes, 12) != 0 || !is_zero(&bytes[PADDING_AT..CRC_AT]) {
            return Err(SegmentFault::Field);
        }
        let header = SegmentHeader {
            database: DatabaseId(array_at(bytes, 24)),
            epoch: Epoch(u64_at(bytes, 40)),
            salt: u64_at(bytes, 48),
            base: Lsn(u64_at(bytes, 56)),
            segment_bytes: u64_at(bytes, 64),
            generation: Generation(u64_at(bytes, 72)),
            created_micros: u64_at(bytes, 80),
        };
        header.check_fields().map(|()| header)
    }

    /// LSN of the first group.
    pub const fn first_group(&self) -> Lsn {
        self.base.plus(SEGMENT_HEADER_BYTES as u64)
    }

    /// LSN behind the last byte.
    pub const fn end(&self) -> Lsn {
        self.base.plus(self.segment_bytes)
    }

    fn check_fields(&self) -> Result<(), SegmentFault> {
        let possible = (1..COUNTER_LIMIT).contains(&self.epoch.0)
            && (1..COUNTER_LIMIT).contains(&self.generation.0)
            && is_segment_length(self.segment_bytes)
            && self.base.0.is_multiple_of(BLOCK_BYTES)
            && self.base.0 < COUNTER_LIMIT
            && self.base.0 + self.segment_bytes < COUNTER_LIMIT;
        if possible { Ok(()) } else { Err(SegmentFault::Field) }
    }
}

/// Whether a segment may have that length: whole blocks, within the bounds.
pub fn is_segment_length(bytes: u64) -> bool {
    (SEGMENT_MIN_BYTES..=SEGMENT_MAX_BYTES).contains(&bytes) && bytes.is_multiple_of(BLOCK_BYTES)
}

/// File name of the segment that starts at `base`.
pub fn segment_name(base: Lsn) -> String {
    format!("log-{:016x}.hwl", base.0)
}

/// The base in a segment's file name; `None` if it is no such name.
pub fn parse_segment_name(name: &str) -> Option<Lsn> {
    parse_hex16(name.strip_prefix("log-")?.strip_suffix(".hwl")?).map(Lsn)
}

/// A number of exactly 16 lower-case hex digits.
pub fn parse_hex16(digits: &str) -> Option<u64> {
    // `from_str_radix` alone would take a sign and upper case.
    let strict =
        digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    strict.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::testing::{Random, assert_golden, every_bit_flip};

    fn sample() -> SegmentHeader {
        SegmentHeader {
            database: DatabaseId(*b"0123456789abcdef"),
            epoch: Epoch(3),
            salt: 0x0123_4567_89ab_cdef,
            base: Lsn(0x10_0000),
            segment_bytes: 0x20_0000,
            generation: Generation(5),
            created_micros: 1_700_000_000_000_000,
        }
    }

    fn mended(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = sample().encode();
        change(&mut bytes);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        set_u32(&mut bytes, CRC_AT, crc);
        bytes
    }

    /// Changing these bytes means a new format version.
    #[test]
    fn golden() {
        let bytes = sample().encode();
        assert_eq!(bytes.len(), 4096);
        assert_golden(
            &bytes[..88],
            "
            48577365676d6e74 0100000000000000 0000000000000000 3031323334353637
            3839616263646566 0300000000000000 efcdab8967452301 0000100000000000
            0000200000000000 0500000000000000 00401e18240a0600
            ",
        );
        assert!(bytes[88..4092].iter().all(|byte| *byte == 0));
        assert_golden(&bytes[4092..], "1604bab5");
        assert_eq!(segment_name(Lsn(0x12_abcd)), "log-000000000012abcd.hwl");
    }

    #[test]
    fn round_trips() {
        let header = sample();
        let mut bytes = header.encode();
        bytes.extend_from_slice(&[0xff; 100]);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        assert_eq!(header.first_group(), Lsn(0x10_1000));
        assert_eq!(header.end(), Lsn(0x30_0000));
    }

    #[test]
    fn every_bit_flip_and_every_cut_is_refused() {
        let bytes = sample().encode();
        every_bit_flip(&bytes, |bit, changed| {
            let expected = if bit < 64 { SegmentFault::Magic } else { SegmentFault::Crc };
            assert_eq!(SegmentHeader::decode(changed), Err(expected), "bit {bit}");
        });
        for length in 0..bytes.len() {
            assert_eq!(SegmentHeader::decode(&bytes[..length]), Err(SegmentFault::Short));
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let set = |at: usize, value: u64| mended(|bytes| set_u64(bytes, at, value));
        let cases = [
            (vec![0; 4096], SegmentFault::Blank),
            (mended(|bytes| set_u32(bytes, 8, 2)), SegmentFault::Version { found: 2 }),
            (mended(|bytes| set_u32(bytes, 8, 0)), SegmentFault::Version { found: 0 }),
            (set(16, 1 << 63), SegmentFault::Features { found: 1 << 63 }),
            (mended(|bytes| bytes[12] = 1), SegmentFault::Field),
            (mended(|bytes| bytes[88] = 1), SegmentFault::Field),
            (mended(|bytes| bytes[4091] = 1), SegmentFault::Field),
            (set(40, 0), SegmentFault::Field),
            (set(40, u64::MAX), SegmentFault::Field),
            (set(56, 0x10_0008), SegmentFault::Field),
            (set(56, COUNTER_LIMIT - 4096), SegmentFault::Field),
            (set(56, COUNTER_LIMIT - sample().segment_bytes), SegmentFault::Field),
            (set(56, u64::MAX - 4095), SegmentFault::Field),
            (set(64, 4096), SegmentFault::Field),
            (set(64, 8193), SegmentFault::Field),
            (set(64, u64::MAX - 4095), SegmentFault::Field),
            (set(72, 0), SegmentFault::Field),
        ];
        for (index, (bytes, fault)) in cases.into_iter().enumerate() {
            assert_eq!(SegmentHeader::decode(&bytes), Err(fault), "case {index}");
        }
    }

    #[test]
    fn random_blocks_never_panic() {
        let mut random = Random(21);
        for _ in 0..crate::bytes::testing::scaled(200) {
            let noise = random.bytes(SEGMENT_HEADER_BYTES);
            assert_eq!(SegmentHeader::decode(&noise), Err(SegmentFault::Magic));
            let bytes = mended(|bytes| bytes[8..CRC_AT].copy_from_slice(&noise[8..CRC_AT]));
            assert!(SegmentHeader::decode(&bytes).is_err());
        }
    }
}
