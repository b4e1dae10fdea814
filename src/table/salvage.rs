//! Getting entries out of a table file that lost its index, its footer, or its manifest.
//!
//! Looks for a block at every multiple of 64 bytes, takes each whose checksum matches, and steps over
//! it. A checksum contains database, file and offset, so what looks like a block inside a large value is
//! not taken for one. Value blocks come before the data blocks that name them, so one pass resolves all
//! references.
//!
//! Limits: what is found is what blocks say, without the proof that nothing is missing; the caller
//! learns how many bytes were skipped. Damaged lengths cannot make the pass quadratic: once failed
//! checksums have cost [`FAILED_READS_FACTOR`] times the file, only short blocks are tried.

use super::block::{EntryKind, Layout};
use super::format::{
    ALIGNMENT_BYTES, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, FILE_HEADER_BYTES, FileHeader,
    Identity, u32_at,
};
use super::load::body;
use super::ranges;
use crate::cursor::RangeTombstone;
use crate::error::{Error, Result};
use crate::fs::{self, File};
use crate::types::{DatabaseId, FileId, KeyspaceId};
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// How often the file may be read for checksums that then fail, before only short blocks are tried.
const FAILED_READS_FACTOR: u64 = 4;
const SHORT_BLOCK_BYTES: u64 = 256 << 10;
const WINDOW_BYTES: usize = 64 << 10;

/// Something that was found.
#[derive(Debug)]
pub enum SalvagedEntry<'a> {
    /// A key and its value.
    Value(KeyspaceId, &'a [u8], &'a [u8]),
    /// A deleted key.
    Tombstone(KeyspaceId, &'a [u8]),
    /// A key whose value block is damaged.
    LostValue(KeyspaceId, &'a [u8]),
    /// A range tombstone.
    Range(KeyspaceId, &'a RangeTombstone),
}

/// What a salvage found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salvage {
    /// Blocks of all kinds.
    pub blocks: u64,
    /// Point entries, tombstones and lost values included.
    pub entries: u64,
    /// Entries whose value block is damaged.
    pub lost_values: u64,
    /// Bytes that belong to no block that verifies.
    pub skipped_bytes: u64,
}

/// A block that verifies: told before its entries are handed over.
#[derive(Debug)]
pub struct SalvagedBlock<'a> {
    pub kind: BlockKind,
    /// Position among the blocks of its kind.
    pub number: u32,
    pub keyspace: KeyspaceId,
    /// First and last key of a data block.
    pub keys: Option<(&'a [u8], &'a [u8])>,
    /// Of an index: how many data and ranges blocks there are.
    pub totals: Option<(u32, u32)>,
}

/// Takes what a salvage finds.
pub trait SalvageSink {
    fn block(&mut self, block: SalvagedBlock<'_>);
    fn entry(&mut self, entry: SalvagedEntry<'_>);
}

struct Entries<'a>(&'a mut dyn FnMut(SalvagedEntry<'_>));

impl SalvageSink for Entries<'_> {
    fn block(&mut self, _: SalvagedBlock<'_>) {}

    fn entry(&mut self, entry: SalvagedEntry<'_>) {
        (self.0)(entry);
    }
}

/// Hands every entry that still verifies to `found`, in the order of the file. Whose table it is comes
/// from `known`, or else from the file header.
pub fn salvage(
    file: &dyn File,
    path: &Path,
    known: Option<(DatabaseId, FileId)>,
    found: &mut dyn FnMut(SalvagedEntry<'_>),
) -> Result<Salvage> {
    salvage_blocks(file, path, known, &mut Entries(found))
}

/// As [`salvage`], and tells of every block.
pub fn salvage_blocks(
    file: &dyn File,
    path: &Path,
    known: Option<(DatabaseId, FileId)>,
    found: &mut dyn SalvageSink,
) -> Result<Salvage> {
    let length = file.len().map_err(|cause| Error::io("read", path, cause))?;
    let identity = match known {
        Some((database, file_id)) => Identity { database, file_id },
        None => stated_identity(file, path)?,
    };
    let mut scan = Scan {
        file,
        path,
        identity,
        length,
        failed_bytes: 0,
        values: HashMap::new(),
        window: Vec::new(),
        window_start: 0,
        result: Salvage::default(),
    };
    scan.run(found)?;
    Ok(scan.result)
}

struct Scan<'f> {
    file: &'f dyn File,
    path: &'f Path,
    identity: Identity,
    length: u64,
    failed_bytes: u64,
    /// Offset and length of the value blocks met, by number.
    values: HashMap<u32, (u64, u64)>,
    window: Vec<u8>,
    window_start: u64,
    result: Salvage,
}

impl Scan<'_> {
    fn run(&mut self, found: &mut dyn SalvageSink) -> Result<()> {
        let mut offset = FILE_HEADER_BYTES as u64;
        while offset < self.length {
            match self.block_at(offset)? {
                Some((header, block)) => {
                    self.result.blocks += 1;
                    self.take_block(&header, &block, offset, found)?;
                    offset += block.len() as u64;
                }
                None => {
                    let step = (self.length - offset).min(ALIGNMENT_BYTES as u64);
                    self.result.skipped_bytes += step;
                    offset += step;
                }
            }
        }
        Ok(())
    }

    fn take_block(
        &mut self,
        header: &BlockHeader,
        block: &[u8],
        offset: u64,
        found: &mut dyn SalvageSink,
    ) -> Result<()> {
        let keyspace = KeyspaceId(header.keyspace);
        found.block(SalvagedBlock {
            kind: header.kind,
            number: header.number,
            keyspace,
            keys: if header.kind == BlockKind::Data { outer_keys(block) } else { None },
            totals: if header.kind == BlockKind::Index {
                totals(body(header, block))
            } else {
                None
            },
        });
        match header.kind {
            BlockKind::Data => self.take_entries(keyspace, block, found)?,
            BlockKind::Value => {
                self.values.insert(header.number, (offset, block.len() as u64));
            }
            BlockKind::Ranges => {
                let mut ranges = Vec::new();
                if ranges::decode(&mut ranges, body(header, block), header.count).is_some() {
                    ranges
                        .iter()
                        .for_each(|range| found.entry(SalvagedEntry::Range(keyspace, range)));
                }
            }
            BlockKind::Index | BlockKind::Filter | BlockKind::Footer => {}
        }
        Ok(())
    }

    fn take_entries(
        &mut self,
        keyspace: KeyspaceId,
        block: &[u8],
        found: &mut dyn SalvageSink,
    ) -> Result<()> {
        let Some(layout) = Layout::new(block) else { return Ok(()) };
        for position in 0..layout.count() {
            let Ok(entry) = layout.entry(block, position) else { continue };
            let (key, value) = (&block[entry.key()], &block[entry.value()]);
            self.result.entries += 1;
            match entry.kind {
                EntryKind::Value => found.entry(SalvagedEntry::Value(keyspace, key, value)),
                EntryKind::Tombstone => found.entry(SalvagedEntry::Tombstone(keyspace, key)),
                EntryKind::Apart => match self.value_apart(entry.apart(block))? {
                    Some((header, value)) => {
                        found.entry(SalvagedEntry::Value(keyspace, key, body(&header, &value)));
                    }
                    None => {
                        self.result.lost_values += 1;
                        found.entry(SalvagedEntry::LostValue(keyspace, key));
                    }
                },
            }
        }
        Ok(())
    }

    fn value_apart(
        &mut self,
        reference: Option<(u32, u32)>,
    ) -> Result<Option<(BlockHeader, Vec<u8>)>> {
        let Some((number, length)) = reference else { return Ok(None) };
        let Some((offset, block_bytes)) = self.values.get(&number).copied() else {
            return Ok(None);
        };
        let block = self.read_verified(offset, block_bytes)?;
        Ok(block.filter(|(header, _)| header.body_bytes() == u64::from(length)))
    }

    /// The block that begins at `offset`, if one does.
    fn block_at(&mut self, offset: u64) -> Result<Option<(BlockHeader, Vec<u8>)>> {
        let Some((header, _)) = BlockHeader::decode(self.head_at(offset)?) else {
            return Ok(None);
        };
        let block_bytes = u64::from(header.length_bytes);
        let is_short = block_bytes <= SHORT_BLOCK_BYTES;
        let spent = self.failed_bytes > self.length.saturating_mul(FAILED_READS_FACTOR);
        if block_bytes > self.length - offset || (spent && !is_short) {
            return Ok(None);
        }
        let block = self.read_verified(offset, block_bytes)?;
        if block.is_none() {
            self.failed_bytes += block_bytes;
        }
        Ok(block)
    }

    fn read_verified(
        &self,
        offset: u64,
        block_bytes: u64,
    ) -> Result<Option<(BlockHeader, Vec<u8>)>> {
        let mut block = Vec::new();
        let room = usize::try_from(block_bytes).ok().and_then(|room| {
            block.try_reserve_exact(room).ok()?;
            Some(room)
        });
        let Some(room) = room else {
            return Err(self.failed(io::Error::from(io::ErrorKind::OutOfMemory)));
        };
        block.resize(room, 0);
        match fs::read_exact(self.file, &mut block, offset) {
            Ok(()) => {}
            // A place that cannot be read is skipped like one that does not verify.
            Err(_) => return Ok(None),
        }
        Ok(self.identity.open_block(&block, offset).map(|header| (header, block)))
    }

    /// Some bytes at `offset`, at least a block header if the file goes on that far; none where the disk
    /// cannot read.
    fn head_at(&mut self, offset: u64) -> Result<&[u8]> {
        let covered = offset >= self.window_start
            && offset + BLOCK_HEADER_BYTES as u64 <= self.window_start + self.window.len() as u64;
        if !covered {
            self.window.resize(WINDOW_BYTES, 0);
            self.window_start = offset;
            let read = fs::read_full(self.file, &mut self.window, offset)
                .or_else(|_| fs::read_full(self.file, &mut self.window[..ALIGNMENT_BYTES], offset))
                .unwrap_or(0);
            self.window.truncate(read);
        }
        let start = (offset - self.window_start) as usize;
        Ok(self.window.get(start..).unwrap_or(&[]))
    }

    fn failed(&self, cause: io::Error) -> Error {
        Error::io("read", self.path, cause)
    }
}

/// First and last key of a data block.
fn outer_keys(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let layout = Layout::new(block)?;
    let first = layout.entry(block, 0).ok()?;
    let last = layout.entry(block, layout.count() - 1).ok()?;
    Some((&block[first.key()], &block[last.key()]))
}

/// The numbers of data and of ranges blocks that an index begins with.
fn totals(index: &[u8]) -> Option<(u32, u32)> {
    Some((u32_at(index, 0)?, u32_at(index, 8)?))
}

/// Whose table the beginning of a file says that it is.
pub fn stated_table(head: &[u8]) -> Option<(DatabaseId, FileId)> {
    let header = FileHeader::decode(head.first_chunk()?)?;
    Some((header.identity.database, header.identity.file_id))
}

fn stated_identity(file: &dyn File, path: &Path) -> Result<Identity> {
    let mut bytes = [0; FILE_HEADER_BYTES];
    fs::read_exact(file, &mut bytes, 0)
        .ok()
        .and_then(|()| FileHeader::decode(&bytes))
        .map(|header| header.identity)
        .ok_or_else(|| Error::damage(path, 0, "the file header does not say whose table this is"))
}
