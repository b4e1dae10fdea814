//! The frame that everything in a table file stands in: the file header and the block header.
//!
//! A table is a 64-byte file header and then blocks, each a multiple of 64 bytes, without gaps. Every
//! block has the same 32-byte header; the checksum in it covers the rest of the header, the body and the
//! zero padding. `docs/format-table.md` is the grammar; the values in this file are frozen.
//!
//! Invariants:
//! 1. A checksum is the CRC-32 of `database id ‖ file id ‖ offset of the block ‖ bytes`, so a block that
//!    lies in the wrong place, file or database never verifies.
//! 2. Nothing here does I/O, and no length is believed before it was held against its bounds.

use crate::types::{DatabaseId, FileId};

/// Blocks begin and end at multiples of this many bytes.
pub const ALIGNMENT_BYTES: usize = 64;
/// Length of the file header.
pub const FILE_HEADER_BYTES: usize = 64;
/// Length of a block header.
pub const BLOCK_HEADER_BYTES: usize = 32;
/// Length of the footer block, which is the last of the file.
pub const FOOTER_BYTES: usize = 128;
/// The format version that is written, and the highest that is read.
pub const FORMAT_VERSION: u32 = 1;
/// Incompatible feature bits that this version knows.
pub const KNOWN_FEATURES: u32 = 0;
/// Most entries that a data block may say it has.
pub const MAX_BLOCK_ENTRIES: u32 = 1 << 16;

const FILE_MAGIC: [u8; 8] = *b"HWTABLE\n";
const BLOCK_MAGIC: [u8; 4] = *b"HWBK";
const EXTENT_LENGTH_BITS: u32 = 26;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Entries of one keyspace.
    Data = 1,
    /// One large value.
    Value = 2,
    /// Range tombstones of one keyspace.
    Ranges = 3,
    /// Sections, fences and the places of all blocks above.
    Index = 4,
    /// The bloom filter.
    Filter = 5,
    /// Where index and filter are.
    Footer = 6,
}

impl BlockKind {
    fn from_u8(byte: u8) -> Option<BlockKind> {
        use BlockKind::{Data, Filter, Footer, Index, Ranges, Value};
        [Data, Value, Ranges, Index, Filter, Footer].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// How the entries of a data block are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// Entry ends, then entries of any shape. Also the form of all blocks that are not data.
    General = 0,
    /// Values only; all keys have one length, and so have all values.
    UniformValues = 1,
    /// Tombstones only; all keys have one length.
    UniformTombstones = 2,
}

impl Form {
    fn from_u8(byte: u8) -> Option<Form> {
        [Form::General, Form::UniformValues, Form::UniformTombstones]
            .into_iter()
            .find(|form| *form as u8 == byte)
    }
}

/// The fields of a block header that are not derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// What the block holds.
    pub kind: BlockKind,
    /// Layout of a data block.
    pub form: Form,
    /// Zero bytes at the end.
    pub padding_bytes: u8,
    /// Length of the whole block: header, body and padding.
    pub length_bytes: u32,
    /// Keyspace of data, values and ranges; 0 elsewhere.
    pub keyspace: u32,
    /// Position among the blocks of its kind, from 0.
    pub number: u32,
    /// Entries, ranges, sections or filter lines; 0 elsewhere.
    pub count: u32,
    /// Length of every key, in the uniform forms; 0 elsewhere.
    pub key_bytes: u16,
    /// Length of every value, in [`Form::UniformValues`]; 0 elsewhere.
    pub value_bytes: u16,
}

impl BlockHeader {
    /// A header for a body of `body_bytes`; `None` if the block would be longer than the format allows.
    pub fn new(
        kind: BlockKind,
        keyspace: u32,
        number: u32,
        body_bytes: u64,
    ) -> Option<BlockHeader> {
        let used = body_bytes.checked_add(BLOCK_HEADER_BYTES as u64)?;
        let length = used.checked_next_multiple_of(ALIGNMENT_BYTES as u64)?;
        Some(BlockHeader {
            kind,
            form: Form::General,
            padding_bytes: (length - used) as u8,
            length_bytes: u32::try_from(length).ok()?,
            keyspace,
            number,
            count: 0,
            key_bytes: 0,
            value_bytes: 0,
        })
    }

    /// The header's bytes, with the checksum still to be filled in by [`BlockHeader::seal`].
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut out = [0; BLOCK_HEADER_BYTES];
        out[0..4].copy_from_slice(&BLOCK_MAGIC);
        out[8..12].copy_from_slice(&self.length_bytes.to_le_bytes());
        out[12] = self.kind as u8;
        out[13] = self.form as u8;
        out[15] = self.padding_bytes;
        out[16..20].copy_from_slice(&self.keyspace.to_le_bytes());
        out[20..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..28].copy_from_slice(&self.count.to_le_bytes());
        out[28..30].copy_from_slice(&self.key_bytes.to_le_bytes());
        out[30..32].copy_from_slice(&self.value_bytes.to_le_bytes());
        out
    }

    /// Puts a checksum into an encoded header.
    pub fn seal(encoded: &mut [u8; BLOCK_HEADER_BYTES], crc: u32) {
        encoded[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Header and stored checksum from the first bytes of a block; `None` if they are no block header.
    pub fn decode(bytes: &[u8]) -> Option<(BlockHeader, u32)> {
        let bytes: &[u8; BLOCK_HEADER_BYTES] = bytes.first_chunk()?;
        let header = BlockHeader {
            kind: BlockKind::from_u8(bytes[12])?,
            form: Form::from_u8(bytes[13])?,
            padding_bytes: bytes[15],
            length_bytes: u32_at(bytes, 8)?,
            keyspace: u32_at(bytes, 16)?,
            number: u32_at(bytes, 20)?,
            count: u32_at(bytes, 24)?,
            key_bytes: u16_at(bytes, 28)?,
            value_bytes: u16_at(bytes, 30)?,
        };
        let fits = header.length_bytes as usize
            >= (BLOCK_HEADER_BYTES + usize::from(header.padding_bytes))
            && (header.length_bytes as usize).is_multiple_of(ALIGNMENT_BYTES)
            && header.length_bytes > 0
            && usize::from(header.padding_bytes) < ALIGNMENT_BYTES;
        let known = bytes[0..4] == BLOCK_MAGIC && bytes[14] == 0;
        (fits && known).then_some((header, u32_at(bytes, 4)?))
    }

    /// Length of the body: without header and padding.
    pub fn body_bytes(&self) -> u64 {
        u64::from(self.length_bytes) - BLOCK_HEADER_BYTES as u64 - u64::from(self.padding_bytes)
    }
}

/// Whose blocks these are: the seed of all checksums of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The database.
    pub database: DatabaseId,
    /// The table file.
    pub file_id: FileId,
}

impl Identity {
    /// A checksum that has taken in the identity and an offset, ready for the bytes that lie there.
    /// For a block these are all bytes after the checksum field.
    pub fn hasher(&self, offset: u64) -> crc32fast::Hasher {
        let mut seed = [0; 32];
        seed[0..16].copy_from_slice(&self.database.0);
        seed[16..24].copy_from_slice(&self.file_id.get().to_le_bytes());
        seed[24..32].copy_from_slice(&offset.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&seed);
        hasher
    }

    /// Whether a whole block that lies at `offset` is sound; its header then.
    pub fn open_block(&self, block: &[u8], offset: u64) -> Option<BlockHeader> {
        let (header, crc) = BlockHeader::decode(block)?;
        if header.length_bytes as usize != block.len() {
            return None;
        }
        let mut hasher = self.hasher(offset);
        hasher.update(&block[8..]);
        let padding = &block[block.len() - usize::from(header.padding_bytes)..];
        (hasher.finalize() == crc && padding.iter().all(|byte| *byte == 0)).then_some(header)
    }
}

/// What a file header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Whose file it is.
    pub identity: Identity,
    /// Format version.
    pub version: u32,
    /// Features that a reader must know.
    pub incompatible_features: u32,
    /// Features that a reader may ignore.
    pub compatible_features: u32,
}

impl FileHeader {
    /// The header that this version writes.
    pub fn new(identity: Identity) -> FileHeader {
        FileHeader {
            identity,
            version: FORMAT_VERSION,
            incompatible_features: 0,
            compatible_features: 0,
        }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = [0; FILE_HEADER_BYTES];
        out[0..8].copy_from_slice(&FILE_MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[12..16].copy_from_slice(&self.incompatible_features.to_le_bytes());
        out[16..20].copy_from_slice(&self.compatible_features.to_le_bytes());
        out[24..32].copy_from_slice(&self.identity.file_id.get().to_le_bytes());
        out[32..48].copy_from_slice(&self.identity.database.0);
        let mut hasher = self.identity.hasher(0);
        hasher.update(&out[..60]);
        out[60..64].copy_from_slice(&hasher.finalize().to_le_bytes());
        out
    }

    /// Reads a header of any version; `None` if it is none, is damaged, or has set bytes that version 1
    /// reserves. The identity is the one that the header states.
    pub fn decode(bytes: &[u8; FILE_HEADER_BYTES]) -> Option<FileHeader> {
        let header = FileHeader {
            identity: Identity {
                database: DatabaseId(*bytes[32..].first_chunk()?),
                file_id: FileId(u64_at(bytes, 24)?),
            },
            version: u32_at(bytes, 8)?,
            incompatible_features: u32_at(bytes, 12)?,
            compatible_features: u32_at(bytes, 16)?,
        };
        let mut hasher = header.identity.hasher(0);
        hasher.update(&bytes[..60]);
        let reserved_are_zero = bytes[20..24].iter().chain(&bytes[48..60]).all(|byte| *byte == 0);
        (bytes[0..8] == FILE_MAGIC
            && hasher.finalize() == u32_at(bytes, 60)?
            && (reserved_are_zero || header.version > FORMAT_VERSION))
            .then_some(header)
    }
}

/// Where a block lies: offset and length, both in units of 64 bytes, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent(u64);

impl Extent {
    /// `None` if the place is not aligned or too far out (16 TiB), or the block too long (4 GiB).
    pub fn new(offset: u64, length_bytes: u64) -> Option<Extent> {
        let unit = ALIGNMENT_BYTES as u64;
        let (start, length) = (offset / unit, length_bytes / unit);
        let fits = offset.is_multiple_of(unit)
            && length_bytes.is_multiple_of(unit)
            && length > 0
            && length < 1 << EXTENT_LENGTH_BITS
            && start < 1 << (64 - EXTENT_LENGTH_BITS);
        fits.then_some(Extent(start << EXTENT_LENGTH_BITS | length))
    }

    /// From the word on disk; `None` unless it lies after the file header and ends by `limit`.
    pub fn decode(word: u64, limit: u64) -> Option<Extent> {
        let extent = Extent(word);
        (extent.length_bytes() > 0
            && extent.offset() >= FILE_HEADER_BYTES as u64
            && extent.end() <= limit)
            .then_some(extent)
    }

    /// The word on disk.
    pub fn encode(self) -> u64 {
        self.0
    }

    /// Offset of the first byte.
    #[inline]
    pub fn offset(self) -> u64 {
        (self.0 >> EXTENT_LENGTH_BITS) * ALIGNMENT_BYTES as u64
    }

    /// Length of the block.
    #[inline]
    pub fn length_bytes(self) -> u64 {
        (self.0 & ((1 << EXTENT_LENGTH_BITS) - 1)) * ALIGNMENT_BYTES as u64
    }

    /// Offset behind the last byte.
    #[inline]
    pub fn end(self) -> u64 {
        self.offset() + self.length_bytes()
    }
}

/// The `u16` at `offset`, if there is one.
#[inline]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

/// The `u32` at `offset`, if there is one.
#[inline]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

/// The `u64` at `offset`, if there is one.
#[inline]
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Takes bytes off the front of `input`; `None`, and nothing taken, if there are too few.
pub fn take<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(head)
}

/// Takes a `u32` off the front of `input`.
pub fn take_u32(input: &mut &[u8]) -> Option<u32> {
    take(input, 4).and_then(|bytes| u32_at(bytes, 0))
}

/// Takes a `u64` off the front of `input`.
pub fn take_u64(input: &mut &[u8]) -> Option<u64> {
    take(input, 8).and_then(|bytes| u64_at(bytes, 0))
}

/// Takes a key with a `u16` length before it off the front of `input`.
pub fn take_key<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(input, 2).and_then(|bytes| u16_at(bytes, 0))?;
    take(input, usize::from(length))
}

/// Appends a key with a `u16` length before it. Keys have at most 65,535 bytes: the builder checks.
pub fn put_key(out: &mut Vec<u8>, key: &[u8]) {
    debug_assert!(key.len() <= crate::types::MAX_KEY_BYTES);
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key);
}
