//! Reading with proof: single blocks, and everything that a table needs before its first answer.
//!
//! Order of loading, each step before anything of the next is believed: the file header (whose file,
//! which version), the length, the footer (its checksum is the manifest's word), the index (the footer's
//! word), the blocks of range tombstones. The filter waits for the first point lookup.

use super::ReadMode;
use super::format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Extent, FILE_HEADER_BYTES, FOOTER_BYTES,
    FORMAT_VERSION, FileHeader, Identity, KNOWN_FEATURES,
};
use super::index::{Footer, Index, Section};
use super::ranges;
use super::reader::{Loaded, Table};
use crate::error::{Error, Result};
use crate::fs::{self, File, OpenMode};
use crate::sync::engine::thread_local;
use std::cell::RefCell;
use std::io;

/// How much a first touch under [`ReadMode::Mmap`] reads at once.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Table {
    /// Opens the file and reads and verifies header, footer, index and range tombstones.
    pub(super) fn load(&self, mode: ReadMode) -> Result<Loaded> {
        let file =
            self.fs.open(&self.path, OpenMode::Read).map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => self.damage(0, "the file is missing"),
                _ => Error::io("open", &self.path, cause),
            })?;
        let length = file.len().map_err(|cause| Error::io("read", &self.path, cause))?;
        self.check_file_header(&*file)?;
        if length != self.meta.file_bytes {
            let offset = length.min(self.meta.file_bytes);
            let expected = self.meta.file_bytes;
            let what = format!("the file has {length} bytes, it was published with {expected}");
            return Err(self.damage(offset, what));
        }
        let footer = self.read_footer(&*file)?;
        let index = self.read_index(&*file, &footer)?;
        let map = match mode {
            ReadMode::Mmap => Some(file.map(length).map_err(|cause| self.failed("map", 0, cause))?),
            ReadMode::Pread => None,
        };
        Ok(Loaded::new(file, map, footer, index))
    }

    /// A block, read now and verified, whatever the mode; for everything that reads once.
    pub(super) fn read_block(
        &self,
        file: &dyn File,
        extent: Extent,
    ) -> Result<(BlockHeader, Vec<u8>)> {
        let length = extent.length_bytes() as usize;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| {
            Error::io("read", &self.path, io::Error::from(io::ErrorKind::OutOfMemory))
        })?;
        bytes.resize(length, 0);
        self.read_at(file, &mut bytes, extent.offset())?;
        match self.identity.open_block(&bytes, extent.offset()) {
            Some(header) => Ok((header, bytes)),
            None => Err(self.damage(extent.offset(), "a block fails its checksum")),
        }
    }

    /// Verifies a block piece by piece, without keeping it.
    pub(super) fn verify_extent(&self, file: &dyn File, extent: Extent) -> Result<BlockHeader> {
        let damage = || self.damage(extent.offset(), "a block fails its checksum");
        SCRATCH.with(|scratch| {
            let mut scratch = scratch.borrow_mut();
            scratch.resize(SCRATCH_BYTES, 0);
            let mut offset = extent.offset();
            let mut hasher = self.identity.hasher(offset);
            let mut header = None;
            while offset < extent.end() {
                let length = (extent.end() - offset).min(SCRATCH_BYTES as u64) as usize;
                let piece = &mut scratch[..length];
                self.read_at(file, piece, offset)?;
                let is_first = header.is_none();
                let (decoded, _) = *header.insert(match header {
                    Some(header) => header,
                    None => BlockHeader::decode(piece).ok_or_else(damage)?,
                });
                offset += length as u64;
                // Pieces and blocks are multiples of 64, so the padding lies in the last piece.
                let padding =
                    if offset == extent.end() { usize::from(decoded.padding_bytes) } else { 0 };
                if piece[length - padding..].iter().any(|byte| *byte != 0) {
                    return Err(damage());
                }
                hasher.update(if is_first { &piece[8..] } else { piece });
            }
            match header {
                Some((header, crc))
                    if crc == hasher.finalize()
                        && u64::from(header.length_bytes) == extent.length_bytes() =>
                {
                    Ok(header)
                }
                _ => Err(damage()),
            }
        })
    }

    /// Reads a part of the file and keeps nothing of it but in the page cache.
    pub(super) fn pass(&self, file: &dyn File, offset: u64, length: usize) -> Result<()> {
        SCRATCH.with(|scratch| {
            let mut scratch = scratch.borrow_mut();
            scratch.resize(SCRATCH_BYTES, 0);
            let ends = offset + length as u64;
            for from in (offset..ends).step_by(SCRATCH_BYTES) {
                let piece = (ends - from).min(SCRATCH_BYTES as u64) as usize;
                self.read_at(file, &mut scratch[..piece], from)?;
            }
            Ok(())
        })
    }

    /// A block of which something else tells the checksum.
    pub(super) fn read_vouched(
        &self,
        file: &dyn File,
        kind: BlockKind,
        extent: Extent,
        crc: u32,
    ) -> Result<(BlockHeader, Vec<u8>)> {
        let (header, block) = self.read_block(file, extent)?;
        let is_the_one = BlockHeader::decode(&block).is_some_and(|(_, stored)| stored == crc);
        if header.kind != kind || !is_the_one {
            let what = format!("{kind:?} block is not the one that is vouched for");
            return Err(self.damage(extent.offset(), what));
        }
        Ok((header, block))
    }

    /// Reads exactly; a file that ends early is damaged.
    pub(super) fn read_at(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> Result<()> {
        fs::read_exact(file, buffer, offset).map_err(|cause| self.failed("read", offset, cause))
    }

    fn failed(&self, action: &'static str, offset: u64, cause: io::Error) -> Error {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => self.damage(offset, "the file ends early"),
            _ => Error::io(action, &self.path, cause),
        }
    }

    fn check_file_header(&self, file: &dyn File) -> Result<()> {
        let mut bytes = [0; FILE_HEADER_BYTES];
        self.read_at(file, &mut bytes, 0)?;
        let header = FileHeader::decode(&bytes)
            .ok_or_else(|| self.damage(0, "the file header fails its checksum"))?;
        if header.identity != self.identity {
            let Identity { database, file_id } = header.identity;
            let what = format!("the file is table {file_id} of database {database}");
            return Err(self.damage(0, what));
        }
        let unsupported = |what, found, supported| {
            Err(Error::Unsupported { file: self.path.clone(), what, found, supported })
        };
        if header.version > FORMAT_VERSION {
            let (found, supported) = (header.version, FORMAT_VERSION);
            return unsupported("format version", u64::from(found), u64::from(supported));
        }
        let features = header.incompatible_features;
        if features & !KNOWN_FEATURES != 0 {
            return unsupported("feature bits", u64::from(features), u64::from(KNOWN_FEATURES));
        }
        Ok(())
    }

    pub(super) fn read_footer(&self, file: &dyn File) -> Result<Footer> {
        let offset = self.meta.file_bytes.wrapping_sub(FOOTER_BYTES as u64);
        let extent = Extent::new(offset, FOOTER_BYTES as u64)
            .ok_or_else(|| self.damage(0, "the file is too short or too long for a table"))?;
        let (header, block) =
            self.read_vouched(file, BlockKind::Footer, extent, self.meta.footer_crc)?;
        let footer = Footer::decode(body(&header, &block))
            .ok_or_else(|| self.damage(offset, "the footer contradicts itself"))?;
        let agrees = footer.file_bytes == self.meta.file_bytes
            && footer.entries == self.meta.entries
            && footer.tombstones == self.meta.tombstones
            && footer.range_tombstones == self.meta.range_tombstones;
        if !agrees {
            return Err(self.damage(offset, "the footer contradicts the manifest"));
        }
        Ok(footer)
    }

    fn read_index(&self, file: &dyn File, footer: &Footer) -> Result<Index> {
        let (extent, crc) = footer.index;
        let damage = |what| self.damage(extent.offset(), what);
        let (header, block) = self.read_vouched(file, BlockKind::Index, extent, crc)?;
        let mut index = Index::decode(body(&header, &block), header.count, extent.offset())
            .ok_or_else(|| damage("the index contradicts itself"))?;
        drop(block);
        let mut ordinal = index.data_blocks + index.value_blocks;
        let mut range_tombstones = 0;
        for place in 0..index.sections.len() {
            let mut ranges = Vec::new();
            for _ in 0..index.sections[place].range_block_count {
                let extent = index.extents[ordinal as usize];
                let (header, block) = self.read_block(file, extent)?;
                let fits = self.header_fits(&index, ordinal, &header)
                    && header.keyspace == index.sections[place].keyspace.get();
                if !fits
                    || ranges::decode(&mut ranges, body(&header, &block), header.count).is_none()
                {
                    return Err(
                        self.damage(extent.offset(), "a block of range tombstones is malformed")
                    );
                }
                ordinal += 1;
            }
            range_tombstones += ranges.len() as u64;
            index.sections[place].ranges = ranges;
        }
        let total = |count: fn(&Section) -> u64| {
            index.sections.iter().try_fold(0_u64, |sum, section| sum.checked_add(count(section)))
        };
        let agrees = total(|section| section.entries) == Some(footer.entries)
            && total(|section| section.tombstones) == Some(footer.tombstones)
            && range_tombstones == footer.range_tombstones;
        if agrees { Ok(index) } else { Err(damage("the index contradicts the footer")) }
    }
}

/// The body of a block that was verified with this header.
pub(super) fn body<'b>(header: &BlockHeader, block: &'b [u8]) -> &'b [u8] {
    let end = block.len().saturating_sub(usize::from(header.padding_bytes));
    block.get(BLOCK_HEADER_BYTES..end).unwrap_or(&[])
}
