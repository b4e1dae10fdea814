//! Reading a table: blocks that are verified on first touch, and point lookups in them.
//!
//! All blocks, data and values alike, come through [`Table::block`]. Under [`ReadMode::Mmap`] its first
//! call for a block reads the block with positional reads and checks it, then sets the block's bit; later
//! calls are a load of the bit and a slice of the mapping. The positional read and the mapping see the
//! same page cache, so the bytes that were checked are the bytes that the mapping shows, for as long as
//! the kernel does not evict and reread them (more of that in [`scattered`](super::scattered)). Under [`ReadMode::Pread`] a block is read, checked and
//! cached as a whole.
//!
//! Invariants: nothing is read before the first use; a failed load is tried again by the next use; a
//! loaded table's parts never change, but for bits, heads and the filter, which only come.

use super::block::{Entry, EntryKind, Layout, Malformed};
use super::cursor::TableCursor;
use super::filter::Filter;
use super::format::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Extent, Identity};
use super::heads::{Head, Heads};
use super::index::{Footer, Index};
use super::load::body;
use super::meta::TableMeta;
use super::positions::Positions;
use super::scattered::Row;
use super::{BlockCache, Found, ReadMode, SectionInfo, ranges};
use crate::cursor::RangeTombstone;
use crate::error::{Error, Result};
use crate::fs::{File, FileSystem, Mapping};
use crate::mistakes::{Mistake, planted};
use crate::slice::Slice;
use crate::sync::engine::Mutex;
use crate::types::{DatabaseId, KeyspaceId};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Numbers the tables of the process, for the keys of the block cache.
static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(0);

/// An immutable sorted file.
#[derive(Debug)]
pub struct Table {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) meta: TableMeta,
    mode: ReadMode,
    pub(super) cache: Arc<BlockCache>,
    instance: u64,
    pub(super) loaded: OnceLock<Loaded>,
    pub(super) loading: Mutex<()>,
}

/// What the first use brings into memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(super) file: Arc<dyn File>,
    pub(super) map: Option<Mapping>,
    pub(crate) footer: Footer,
    pub(crate) index: Index,
    filter: OnceLock<Filter>,
    /// Comes with the first point read or seek through a mapping; `None` if there was no room for it.
    heads: OnceLock<Option<Heads>>,
    pub(super) positions: OnceLock<Option<Positions>>,
    /// One bit for each ordinal: the block was verified.
    verified: Vec<AtomicU64>,
}

/// A verified block.
#[derive(Clone, Debug)]
pub(super) enum Block<'a> {
    Mapped(&'a [u8]),
    Shared(Arc<Vec<u8>>),
}

impl Loaded {
    pub(super) fn new(
        file: Arc<dyn File>,
        map: Option<Mapping>,
        footer: Footer,
        index: Index,
    ) -> Loaded {
        let words = index.extents.len().div_ceil(64);
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        let (filter, heads, positions) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Loaded { file, map, footer, index, filter, heads, positions, verified }
    }

    /// Whether a block of the mapping was verified.
    pub(super) fn has_verified(&self, ordinal: u32) -> bool {
        let word = self.verified.get(ordinal as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) & 1 << (ordinal % 64) != 0)
    }
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

    /// Where the file lies.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The open file: it stays readable when its name is removed.
    pub fn file(&self) -> Result<Arc<dyn File>> {
        Ok(self.loaded()?.file.clone())
    }

    /// What the manifest knows of the table.
    pub fn meta(&self) -> &TableMeta {
        &self.meta
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
        let (block, layout, head) = self.headed(loaded, ordinal)?;
        match find(&block, &layout, head, key, hash as u8) {
            Ok(None) => Ok(None),
            Ok(Some((position, entry))) => {
                self.found(loaded, keyspace, hash, (ordinal, position), &block, &layout);
                self.used(loaded, ordinal, &entry)?;
                Ok(Some(match self.value(loaded, &block, ordinal, &entry)? {
                    Some(value) => Found::Value(value),
                    None => Found::Tombstone,
                }))
            }
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
                + loaded.heads.get().and_then(Option::as_ref).map_or(0, Heads::memory_bytes)
                + loaded.positions.get().and_then(Option::as_ref).map_or(0, Positions::memory_bytes)
        };
        size_of::<Table>() + self.loaded.get().map_or(0, of_loaded)
    }

    /// The resident parts; loads them on first use.
    #[inline]
    pub(crate) fn loaded(&self) -> Result<&Loaded> {
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
        let extent = self.extent(loaded, ordinal)?;
        let bit = 1 << (ordinal % 64);
        let word = &loaded.verified[ordinal as usize / 64];
        if word.load(Ordering::Acquire) & bit == 0 {
            if planted(Mistake::VerifiedDespiteError) {
                word.fetch_or(bit, Ordering::Release);
            }
            if !planted(Mistake::BlocksNotVerified) {
                self.verify(loaded, ordinal)?;
            }
            word.fetch_or(bit, Ordering::Release);
        }
        match map.get(extent.offset() as usize..extent.end() as usize) {
            Some(bytes) => Ok(Block::Mapped(bytes)),
            None => Err(self.damage(extent.offset(), "the mapping is shorter than the file")),
        }
    }

    /// A verified data block, its shape, and its head if it is resident. If it is, nothing of the block was
    /// touched.
    #[inline]
    pub(super) fn headed<'a>(
        &'a self,
        loaded: &'a Loaded,
        ordinal: u32,
    ) -> Result<(Block<'a>, Layout, Option<Head<'a>>)> {
        let resident = loaded.heads.get().and_then(|heads| heads.as_ref()?.get(ordinal));
        if let (Some(head), Some(map)) = (resident, &loaded.map)
            && let Some(extent) = loaded.index.extents.get(ordinal as usize).copied()
            && let Some(bytes) = map.get(extent.offset() as usize..extent.end() as usize)
            && let Some(layout) = head.layout(bytes.len())
        {
            return Ok((Block::Mapped(bytes), layout, Some(head)));
        }
        let (block, layout) = self.touched(loaded, ordinal)?;
        Ok((block, layout, None))
    }

    /// A verified data block and its shape, read from it; leaves its head in memory.
    #[cold]
    fn touched<'a>(&'a self, loaded: &'a Loaded, ordinal: u32) -> Result<(Block<'a>, Layout)> {
        let block = self.block(loaded, ordinal)?;
        let Some(layout) = Layout::new(block.bytes()) else {
            return Err(self.malformed(loaded, ordinal));
        };
        if let Block::Mapped(bytes) = &block {
            let (blocks, entries) = (loaded.index.data_blocks, self.meta.entries);
            let heads =
                loaded.heads.get_or_init(|| Heads::new(blocks, entries, self.cache.heads()));
            if let Some(heads) = heads {
                heads.fill(ordinal, &layout, bytes);
            }
        }
        Ok((block, layout))
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
        let value = self.whole_block(loaded, value_ordinal, &mut Row::default())?;
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

    #[inline]
    pub(super) fn extent(&self, loaded: &Loaded, ordinal: u32) -> Result<Extent> {
        match loaded.index.extents.get(ordinal as usize) {
            Some(extent) => Ok(*extent),
            None => Err(self.damage(0, "a block is named that the index does not have")),
        }
    }

    /// Reads and verifies a block, whether it was or not.
    #[cold]
    pub(super) fn verify(&self, loaded: &Loaded, ordinal: u32) -> Result<()> {
        let extent = self.extent(loaded, ordinal)?;
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
        let extent = self.extent(loaded, ordinal)?;
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
        if let Some(map) = &loaded.map
            && self.cache.is_scattered()
        {
            map.advise_scattered(true);
        }
        Ok(self.loaded.get_or_init(|| loaded))
    }
}

/// Position and place of the entry of `key` in a block; its fingerprints come from the resident head, if
/// that has them.
#[inline(always)]
pub(super) fn find(
    block: &Block<'_>,
    layout: &Layout,
    head: Option<Head<'_>>,
    key: &[u8],
    fingerprint: u8,
) -> Result<Option<(usize, Entry)>, Malformed> {
    let bytes = block.bytes();
    match head.and_then(|head| head.fingerprints(layout)) {
        Some(words) => layout.find(bytes, key, fingerprint, words),
        None => layout.find(bytes, key, fingerprint, layout.fingerprint_words(bytes)),
    }
}
