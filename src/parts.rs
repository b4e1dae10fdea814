//! Parts of the engine, each alone, opened to the benchmarks in `benches/`. Not part of the API: only with
//! feature `parts`, which applications have no use for.
//!
//! Each is the engine's own code with a face that needs none of its private types. One keyspace, keys and
//! values as bytes.

use crate::cursor::Cursor;
use crate::error::Result;
use crate::fs::os::OsFileSystem;
use crate::fs::{FileSystem, OpenMode};
use crate::memtable::Memtable;
use crate::options::Builder;
use crate::table::{BlockCache, Found, ReadMode, Table, TableBuilder, TableOptions, key_hash};
use crate::types::{DatabaseId, Epoch, FileId, Generation, KeyspaceId, Lsn, Seqno};
use crate::wal::group::{GROUP_HEADER_BYTES, GroupHeader, body_crc};
use crate::wal::operation::Operation;
use crate::wal::record::put_commit;
use std::path::Path;
use std::sync::Arc;

const KEYSPACE: KeyspaceId = KeyspaceId(1);

/// Puts a group with one commit of these records into `out`, as the log writes it: operations, record,
/// header, both checksums.
pub fn encode_group<'a>(
    records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    operations: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    operations.clear();
    for (key, value) in records {
        Operation::Put { keyspace: KEYSPACE, key, value }.encode(operations);
    }
    out.clear();
    out.resize(GROUP_HEADER_BYTES, 0);
    put_commit(out, Seqno(7), 1_700_000_000_000_000, operations);
    let (lsn, salt) = (Lsn(1 << 20), 0x0123_4567_89ab_cdef);
    let body = &out[GROUP_HEADER_BYTES..];
    let header = GroupHeader {
        lsn,
        epoch: Epoch(1),
        salt,
        durable: lsn,
        previous: lsn,
        previous_crc: 0,
        generation: Generation(1),
        body_bytes: body.len() as u32,
        body_crc: body_crc(lsn, salt, body),
        records: 1,
    };
    out[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
}

/// A memtable.
#[derive(Debug, Default)]
pub struct Memory(Memtable);

impl Memory {
    /// Inserts records, each as a commit of its own.
    ///
    /// # Errors
    /// If a key or a value is too long.
    pub fn insert<'a>(&self, records: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<()> {
        let mut writer = self.0.writer();
        for (place, (key, value)) in records.enumerate() {
            writer.insert(KEYSPACE, key, Seqno(1 + place as u64), Some(value))?;
        }
        Ok(())
    }

    /// The length of the value of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<usize> {
        self.0.get(KEYSPACE, key, Seqno(u64::MAX >> 8))?.value.map(<[u8]>::len)
    }

    /// Walks over up to `count` entries from `from` on; says how many there were.
    ///
    /// # Errors
    /// None; tables have some.
    pub fn scan(&self, from: &[u8], count: usize) -> Result<usize> {
        walk(self.0.cursor(KEYSPACE, Seqno(u64::MAX >> 8)), from, count)
    }
}

/// A table.
#[derive(Debug)]
pub struct Sorted(Table);

impl Sorted {
    /// Writes records, given in key order, as a table file, and opens it.
    ///
    /// # Errors
    /// Of the file system; if the records are not in order.
    pub fn build<'a>(
        path: &Path,
        records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        mode: ReadMode,
    ) -> Result<Sorted> {
        let (database, file_id) = (DatabaseId([7; 16]), FileId(1));
        let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem::new());
        let file = fs
            .open(path, OpenMode::CreateNew)
            .map_err(|error| crate::Error::InvalidArgument(error.to_string()))?;
        let options = TableOptions::default();
        let mut builder = TableBuilder::new(file, path.to_owned(), database, file_id, options);
        for (key, value) in records {
            builder.add(KEYSPACE, key, Some(value))?;
        }
        let meta = builder.finish()?;
        let cache = Arc::new(BlockCache::new(Builder::default().block_cache_bytes));
        Ok(Sorted(Table::new(fs, path.to_owned(), database, meta, mode, cache)))
    }

    /// The length of the value of a key.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<usize>> {
        let found = self.0.get(KEYSPACE, key, key_hash(KEYSPACE, key))?;
        Ok(match found {
            Some(Found::Value(value)) => Some(value.len()),
            Some(Found::Tombstone) | None => None,
        })
    }

    /// Walks over up to `count` entries from `from` on; says how many there were.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub fn scan(&self, from: &[u8], count: usize) -> Result<usize> {
        walk(self.0.cursor(KEYSPACE)?, from, count)
    }
}

fn walk<'a>(mut cursor: impl Cursor<'a>, from: &[u8], count: usize) -> Result<usize> {
    cursor.seek(from)?;
    let mut done = 0;
    while done < count && cursor.is_valid() {
        std::hint::black_box((cursor.key(), cursor.value()?));
        done += 1;
        if done < count {
            cursor.next()?;
        }
    }
    Ok(done)
}
