//! Tests of tables, and what they share: a file system in memory, a generator, a way to build a table.

mod damage;
mod golden;
mod heads;
mod parts;
mod positions;
mod round_trip;
mod salvage;
mod scattered;
mod speed;

use super::{BlockCache, ReadMode, Table, TableBuilder, TableMeta, TableOptions};
use crate::cursor::RangeTombstone;
use crate::error::Result;
use crate::fs::{
    Barrier, DirEntry, File, FileSystem, Holder, Join, LockOutcome, Mapping, OpenMode, PathKind,
};
use crate::types::{DatabaseId, FileId, KeyspaceId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a table should hold.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub entries: BTreeMap<(KeyspaceId, Vec<u8>), Option<Vec<u8>>>,
    pub ranges: Vec<(KeyspaceId, RangeTombstone)>,
}

impl Model {
    pub fn put(&mut self, keyspace: u32, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.entries.insert((KeyspaceId(keyspace), key.into()), Some(value.into()));
    }

    pub fn delete(&mut self, keyspace: u32, key: impl Into<Vec<u8>>) {
        self.entries.insert((KeyspaceId(keyspace), key.into()), None);
    }

    pub fn delete_range(&mut self, keyspace: u32, start: &[u8], end: Option<&[u8]>) {
        let range = RangeTombstone { start: start.to_vec(), end: end.map(<[u8]>::to_vec) };
        self.ranges.push((KeyspaceId(keyspace), range));
    }

    pub fn build(&self, options: TableOptions) -> (Vec<u8>, TableMeta) {
        let file = Arc::new(MemoryFile::default());
        let mut builder = TableBuilder::new(file.clone(), path(), DATABASE, FILE_ID, options);
        for (keyspace, range) in &self.ranges {
            builder.add_range_tombstone(*keyspace, range).unwrap();
        }
        for ((keyspace, key), value) in &self.entries {
            builder.add(*keyspace, key, value.as_deref()).unwrap();
        }
        let meta = builder.finish().unwrap();
        let bytes = file.bytes.lock().clone();
        assert_eq!(meta.file_bytes, bytes.len() as u64);
        (bytes, meta)
    }
}

pub const DATABASE: DatabaseId = DatabaseId(*b"0123456789abcdef");
pub const FILE_ID: FileId = FileId(7);

pub fn path() -> PathBuf {
    PathBuf::from("/db/7.table")
}

/// A table over bytes in memory.
pub fn table(bytes: Vec<u8>, meta: &TableMeta, mode: ReadMode) -> Table {
    table_cached(bytes, meta, mode, 1 << 20)
}

pub fn table_cached(bytes: Vec<u8>, meta: &TableMeta, mode: ReadMode, cache_bytes: usize) -> Table {
    let fs = MemoryFs { file: Some(Arc::new(MemoryFile { bytes: Mutex::new(bytes) })) };
    let cache = Arc::new(BlockCache::new(cache_bytes));
    Table::new(Arc::new(fs), path(), DATABASE, meta.clone(), mode, cache)
}

/// A table of a file that the test can change.
pub fn open(file: &Arc<MemoryFile>, meta: &TableMeta, mode: ReadMode) -> Table {
    let fs = Arc::new(MemoryFs { file: Some(file.clone()) });
    let cache = Arc::new(BlockCache::new(1 << 20));
    Table::new(fs, path(), DATABASE, meta.clone(), mode, cache)
}

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

/// One file, or none, at any path.
#[derive(Debug)]
pub struct MemoryFs {
    pub file: Option<Arc<MemoryFile>>,
}

#[derive(Debug, Default)]
pub struct MemoryFile {
    pub bytes: Mutex<Vec<u8>>,
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock();
        let rest = bytes.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn write_at(&self, new: &[u8], offset: u64) -> io::Result<usize> {
        let mut bytes = self.bytes.lock();
        let end = offset as usize + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(new);
        Ok(new.len())
    }
    fn sync_data(&self, _: Barrier) -> io::Result<()> {
        Err(io::Error::other("a table does not sync"))
    }
    fn start_writeback(&self, _: u64, _: u64) {}
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        unused()
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        unused()
    }
    fn map(&self, len: u64) -> io::Result<Mapping> {
        Ok(Mapping::Copied(self.bytes.lock()[..len as usize].to_vec()))
    }
}

impl FileSystem for MemoryFs {
    fn open(&self, _: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        assert_eq!(mode, OpenMode::Read);
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unused()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<DirEntry>> {
        unused()
    }
    fn kind(&self, _: &Path) -> io::Result<PathKind> {
        unused()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unused()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        unused()
    }
    fn sync_dir(&self, _: &Path, _: Barrier) -> io::Result<()> {
        unused()
    }
    fn lock(&self, _: &Path) -> io::Result<LockOutcome> {
        unused()
    }
    fn lock_holder(&self, _: &Path) -> io::Result<Option<Holder>> {
        unused()
    }
    fn now_micros(&self) -> u64 {
        0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn random(&self) -> io::Result<u64> {
        unused()
    }
    fn spawn(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Join>> {
        unused()
    }
    fn allocated_bytes(&self, _: &Path) -> io::Result<u64> {
        unused()
    }
}

fn unused<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Everything that reads of a table can say, in one comparable value; the first error ends it.
pub fn read_everything(table: &Table, model: &Model) -> Result<String> {
    use super::key_hash;
    use crate::cursor::Cursor;
    use std::fmt::Write;
    let mut said = String::new();
    let mut keyspaces: Vec<KeyspaceId> =
        model.entries.keys().map(|(keyspace, _)| *keyspace).collect();
    keyspaces.extend(model.ranges.iter().map(|(keyspace, _)| *keyspace));
    keyspaces.sort_unstable();
    keyspaces.dedup();
    for (keyspace, key) in model.entries.keys() {
        let found = table.get(*keyspace, key, key_hash(*keyspace, key))?;
        writeln!(said, "{found:?} {}", table.covers(*keyspace, key)?).unwrap();
    }
    for keyspace in keyspaces {
        let mut cursor = table.cursor(keyspace)?;
        cursor.first()?;
        while cursor.is_valid() {
            writeln!(said, "{:?} {:?}", cursor.key_slice(), cursor.value()?).unwrap();
            cursor.next()?;
        }
        writeln!(said, "{:?}", table.range_tombstones(keyspace)?).unwrap();
    }
    Ok(said)
}
