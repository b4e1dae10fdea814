//! Reading a table: loading it on first use, verifying blocks on first touch, point lookups.
//!
//! All blocks, data and values alike, come through [`Table::block`]. Under [`ReadMode::Mmap`] its first
//! call for a block reads the block with positional reads and checks it, then sets the block's bit; later
//! calls are a load of the bit and a slice of the mapping. The positional read and the mapping see the
//! same page cache, so the bytes that were checked are the bytes that the mapping shows, for as long as
//! the kernel does not evict and reread them. Under [`ReadMode::Pread`] a block is read, checked and
//! cached as a whole.
//!
//! Invariants: nothing is read before the first use; a failed load is tried again by the next use; the
//! file's length, header, footer and index were held against the manifest's word before any block is
//! believed.

use super::block::{Entry, EntryKind, Layout, Malformed};
use super::cursor::TableCursor;
use super::filter::Filter;
use super::format::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Extent, FILE_HEADER_BYTES, FOOTER_BYTES,
    FORMAT_VERSION, FileHeader, Identity, KNOWN_FEATURES,
};
use super::index::{Footer, Index};
use super::meta::TableMeta;
use super::{BlockCache, Found, ReadMode, SectionInfo, ranges};
use crate::cursor::RangeTombstone;
use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, Mapping, OpenMode};
use crate::slice::Slice;
use crate::types::{DatabaseId, KeyspaceId};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How much a first touch under [`ReadMode::Mmap`] reads at once.
const SCRATCH_BYTES: usize = 64 << 10;

/// Numbers the tables of the process, for the keys of the block cache.
static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An immutable sorted file.
#[derive(Debug)]
pub struct Table {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    pub(super) identity: Identity,
    pub(super) meta: TableMeta,
    mode: ReadMode,
    cache: Arc<BlockCache>,
    instance: u64,
    loaded: OnceLock<Loaded>,
    loading: Mutex<()>,
}

/// What the first use brings into memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) file: Arc<dyn File>,
    map: Option<Mapping>,
    pub(super) footer: Footer,
    pub(super) index: Index,
    filter: OnceLock<Filter>,
    /// One bit for each ordinal: the block was verified.
    verified: Vec<AtomicU64>,
}

/// A verified block.
#[derive(Clone, Debug)]
pub(super) enum Block<'a> {
    Mapped(&'a [u8]),
    Shared(Arc<Vec<u8>>),
}

impl<'a> Block<'a> {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Block::Mapped(bytes) => bytes,
            Block::Shared(bytes) => bytes,
        }
    }

    /// A part of the block, with the table's lifetime; `None` if it does not lie within.
    #[inline]
    pub(super) fn slice(&self, range: Range<usize>) -> Option<Slice<'a>> {
        match self {
            Block::Mapped(bytes) => bytes.get(range).map(Slice::borrowed),
            Block::Shared(bytes) => {
                bytes.get(range.clone())?;
                Some(Slice::shared(Arc::clone(bytes), range))
            }
        }
    }
}

impl Table {
    /// A table that the manifest or an install record vouches for. Does no I/O.
    pub fn new(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        database: DatabaseId,
        meta: TableMeta,
        mode: ReadMode,
        cache: Arc<BlockCache>,
    ) -> Table {
        Table {
            fs,
            path,
            identity: Identity { database, file_id: meta.file_id },
            meta,
            mode,
            cache,
            instance: NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed),
            loaded: OnceLock::new(),
            loading: Mutex::new(()),
        }
    }

    /// What the manifest knows of the table.
    pub fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The point entry of `key`, if the table has one; `hash` is the key's [`key_hash`](super::key_hash).
    /// Range tombstones do not matter here: see [`Table::covers`].
    #[inline]
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], hash: u64) -> Result<Option<Found<'_>>> {
        let loaded = self.loaded()?;
        let Some(section) = loaded.index.section(keyspace) else { return Ok(None) };
        if section.block_count == 0 || !self.may_contain(loaded, hash)? {
            return Ok(None);
        }
        let ordinal = section.first_block + section.fences.rank(key) as u32;
        let block = self.block(loaded, ordinal)?;
        let bytes = block.bytes();
        let found = match Layout::new(bytes) {
            Some(layout) => layout.find(bytes, key, hash as u8),
            None => Err(Malformed),
        };
        match found {
            Ok(None) => Ok(None),
            Ok(Some(entry)) => Ok(Some(match self.value(loaded, &block, ordinal, &entry)? {
                Some(value) => Found::Value(value),
                None => Found::Tombstone,
            })),
            Err(Malformed) => Err(self.malformed(loaded, ordinal)),
        }
    }

    /// Whether a range tombstone of this table hides `key` in lower layers.
    #[inline]
    pub fn covers(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool> {
        if self.meta.range_tombstones == 0 {
            return Ok(false);
        }
        Ok(ranges::covers(self.range_tombstones(keyspace)?, key))
    }

    /// The range tombstones of a keyspace: sorted, neither overlapping nor touching.
    pub fn range_tombstones(&self, keyspace: KeyspaceId) -> Result<&[RangeTombstone]> {
        if self.meta.range_tombstones == 0 {
            return Ok(&[]);
        }
        let section = self.loaded()?.index.section(keyspace);
        Ok(section.map_or(&[], |section| section.ranges.as_slice()))
    }

    /// A cursor over the point entries of a keyspace, not valid until it is moved.
    pub fn cursor(&self, keyspace: KeyspaceId) -> Result<TableCursor<'_>> {
        let loaded = self.loaded()?;
        Ok(TableCursor::new(self, loaded, loaded.index.section(keyspace)))
    }

    /// All sections, by keyspace.
    pub fn sections(&self) -> Result<Vec<SectionInfo>> {
        let sections = self.loaded()?.index.sections.iter();
        Ok(sections
            .map(|section| SectionInfo {
                keyspace: section.keyspace,
                entries: section.entries,
                tombstones: section.tombstones,
                range_tombstones: section.ranges.len() as u64,
                bytes: section.block_bytes,
            })
            .collect())
    }

    /// Memory that the table takes now, without mapped and cached blocks.
    pub fn index_bytes(&self) -> usize {
        let of_loaded = |loaded: &Loaded| {
            loaded.index.memory_bytes()
                + 8 * loaded.verified.len()
                + loaded.filter.get().map_or(0, Filter::memory_bytes)
        };
        size_of::<Table>() + self.loaded.get().map_or(0, of_loaded)
    }

    /// The resident parts; loads them on first use.
    #[inline]
    pub(super) fn loaded(&self) -> Result<&Loaded> {
        match self.loaded.get() {
            Some(loaded) => Ok(loaded),
            None => self.load_once(),
        }
    }

    /// The filter; loads it on first use.
    pub(super) fn filter<'a>(&'a self, loaded: &'a Loaded) -> Result<Option<&'a Filter>> {
        let Some((extent, crc)) = loaded.footer.filter else { return Ok(None) };
        if let Some(filter) = loaded.filter.get() {
            return Ok(Some(filter));
        }
        let _loading = self.loading.lock();
        if let Some(filter) = loaded.filter.get() {
            return Ok(Some(filter));
        }
        let (header, block) = self.read_vouched(&*loaded.file, BlockKind::Filter, extent, crc)?;
        let filter = Filter::decode(body(&header, &block), header.count)
            .ok_or_else(|| self.damage(extent.offset(), "the filter contradicts itself"))?;
        Ok(Some(loaded.filter.get_or_init(|| filter)))
    }

    /// A verified data or value block: the one path to all of them.
    #[inline]
    pub(super) fn block<'a>(&'a self, loaded: &'a Loaded, ordinal: u32) -> Result<Block<'a>> {
        let Some(map) = &loaded.map else { return self.block_copy(loaded, ordinal) };
        let Some(extent) = loaded.index.extents.get(ordinal as usize).copied() else {
            return Err(self.damage(0, "a block is named that the index does not have"));
        };
        let bit = 1 << (ordinal % 64);
        let word = &loaded.verified[ordinal as usize / 64];
        if word.load(Ordering::Acquire) & bit == 0 {
            self.verify(loaded, ordinal, extent)?;
            word.fetch_or(bit, Ordering::Release);
        }
        match map.get(extent.offset() as usize..extent.end() as usize) {
            Some(bytes) => Ok(Block::Mapped(bytes)),
            None => Err(self.damage(extent.offset(), "the mapping is shorter than the file")),
        }
    }

    /// The value of an entry of the block with this ordinal; `None` for a tombstone.
    #[inline]
    pub(super) fn value<'a>(
        &'a self,
        loaded: &'a Loaded,
        block: &Block<'a>,
        ordinal: u32,
        entry: &Entry,
    ) -> Result<Option<Slice<'a>>> {
        match entry.kind {
            EntryKind::Value => match block.slice(entry.value()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.malformed(loaded, ordinal)),
            },
            EntryKind::Tombstone => Ok(None),
            EntryKind::Apart => self.value_apart(loaded, block, ordinal, entry).map(Some),
        }
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
        SCRATCH.with_borrow_mut(|scratch| {
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

    /// Damage in this file.
    #[cold]
    pub(super) fn damage(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::damage(&self.path, offset, what)
    }

    /// Damage: the block's checksum matches, its structure does not.
    #[cold]
    pub(super) fn malformed(&self, loaded: &Loaded, ordinal: u32) -> Error {
        let offset = loaded.index.extents.get(ordinal as usize).map_or(0, |extent| extent.offset());
        self.damage(offset, "the entries of a block contradict its header")
    }

    /// Reads exactly; a file that ends early is damaged.
    pub(super) fn read_at(&self, file: &dyn File, buffer: &mut [u8], offset: u64) -> Result<()> {
        fs::read_exact(file, buffer, offset).map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => self.damage(offset, "the file ends early"),
            _ => Error::io("read", &self.path, cause),
        })
    }

    /// Whether a block at `ordinal` may have this header.
    pub(super) fn header_fits(&self, index: &Index, ordinal: u32, header: &BlockHeader) -> bool {
        let (kind, first) = match ordinal {
            _ if ordinal < index.data_blocks => (BlockKind::Data, 0),
            _ if ordinal < index.data_blocks + index.value_blocks => {
                (BlockKind::Value, index.data_blocks)
            }
            _ => (BlockKind::Ranges, index.data_blocks + index.value_blocks),
        };
        header.kind == kind && header.number == ordinal - first
    }

    #[inline]
    fn may_contain(&self, loaded: &Loaded, hash: u64) -> Result<bool> {
        match loaded.filter.get() {
            Some(filter) => Ok(filter.may_contain(hash)),
            None => Ok(self.filter(loaded)?.is_none_or(|filter| filter.may_contain(hash))),
        }
    }

    fn value_apart<'a>(
        &'a self,
        loaded: &'a Loaded,
        block: &Block<'a>,
        ordinal: u32,
        entry: &Entry,
    ) -> Result<Slice<'a>> {
        let reference = entry.apart(block.bytes());
        let Some((number, length)) =
            reference.filter(|(number, _)| *number < loaded.index.value_blocks)
        else {
            return Err(self.malformed(loaded, ordinal));
        };
        let value_ordinal = loaded.index.data_blocks + number;
        let value = self.block(loaded, value_ordinal)?;
        let header = BlockHeader::decode(value.bytes()).map(|(header, _)| header);
        let end = BLOCK_HEADER_BYTES + length as usize;
        match header {
            Some(header) if header.body_bytes() == u64::from(length) => {
                value.slice(BLOCK_HEADER_BYTES..end)
            }
            _ => None,
        }
        .ok_or_else(|| self.malformed(loaded, value_ordinal))
    }

    #[cold]
    fn verify(&self, loaded: &Loaded, ordinal: u32, extent: Extent) -> Result<()> {
        let header = self.verify_extent(&*loaded.file, extent)?;
        if self.header_fits(&loaded.index, ordinal, &header) {
            return Ok(());
        }
        Err(self.damage(extent.offset(), "a block is not the one that the index names"))
    }

    fn block_copy<'a>(&self, loaded: &Loaded, ordinal: u32) -> Result<Block<'a>> {
        let key = (self.instance, ordinal);
        if let Some(block) = self.cache.get(key) {
            return Ok(Block::Shared(block));
        }
        let Some(extent) = loaded.index.extents.get(ordinal as usize).copied() else {
            return Err(self.damage(0, "a block is named that the index does not have"));
        };
        let (header, bytes) = self.read_block(&*loaded.file, extent)?;
        if !self.header_fits(&loaded.index, ordinal, &header) {
            return Err(self.damage(extent.offset(), "a block is not the one that the index names"));
        }
        let block = Arc::new(bytes);
        self.cache.insert(key, &block);
        Ok(Block::Shared(block))
    }

    #[cold]
    fn load_once(&self) -> Result<&Loaded> {
        let _loading = self.loading.lock();
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let loaded = self.load(self.mode)?;
        Ok(self.loaded.get_or_init(|| loaded))
    }

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
            ReadMode::Mmap => {
                Some(file.map(length).map_err(|cause| Error::io("map", &self.path, cause))?)
            }
            ReadMode::Pread => None,
        };
        let words = index.extents.len().div_ceil(64);
        Ok(Loaded {
            file,
            map,
            footer,
            index,
            filter: OnceLock::new(),
            verified: (0..words).map(|_| AtomicU64::new(0)).collect(),
        })
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

    fn read_footer(&self, file: &dyn File) -> Result<Footer> {
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
        let total =
            |count: fn(&super::index::Section) -> u64| index.sections.iter().map(count).sum();
        let (entries, tombstones): (u64, u64) =
            (total(|section| section.entries), total(|section| section.tombstones));
        let agrees = entries == footer.entries
            && tombstones == footer.tombstones
            && range_tombstones == footer.range_tombstones;
        if agrees { Ok(index) } else { Err(damage("the index contradicts the footer")) }
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
}

/// The body of a block that was verified with this header.
pub(super) fn body<'b>(header: &BlockHeader, block: &'b [u8]) -> &'b [u8] {
    let end = block.len().saturating_sub(usize::from(header.padding_bytes));
    block.get(BLOCK_HEADER_BYTES..end).unwrap_or(&[])
}
