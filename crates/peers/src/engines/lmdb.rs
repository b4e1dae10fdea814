//! LMDB through `heed`: a B-tree in one mapped file.
//!
//! Commits: the default is durable: `fdatasync` of the pages, then the meta page written through a synchronous descriptor.
//! With `MDB_NOSYNC` the pages are handed to the operating system and not synced: buffered as long as the
//! machine stays up (after power loss the file may be damaged, which the documentation says plainly).
//! There is no commit in memory only. For data beyond memory,
//! `MDB_NORDAHEAD`, as the documentation advises. Caching is the page cache's; there is no write budget. The map is far
//! larger than the data, as the documentation recommends. `retain`, `extract_if` and pops delete at the
//! cursor. Sorted inserts use `MDB_APPEND`. Compaction is a compacting copy that replaces the file.
//!
//! # Safety
//! Environments are opened on directories that this process just made for itself, and one at a time. Nothing
//! borrowed from a cursor is held across `del_current`: keys and values are used or copied before it.
#![allow(unsafe_code)]

use crate::engine::{Batch, Change, Engine, Facts, Outcome, Promise, Reads, Setup};
use heed::types::Bytes;
use heed::{CompactionOption, Env, EnvFlags, EnvOpenOptions, FlagSetMode, PutFlags, RoTxn, RwTxn};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Address space for the map, in bytes.
const MAP_BYTES: usize = 64 << 30;

type Items = heed::Database<Bytes, Bytes>;

/// The adapter.
#[derive(Debug)]
pub struct Lmdb {
    env: Env,
    items: Items,
    unsynced: AtomicBool,
}

/// A read transaction.
#[allow(missing_debug_implementations)]
pub struct Reader<'a>(RoTxn<'a, heed::WithTls>, Items);

/// A write transaction.
#[allow(missing_debug_implementations)]
pub struct Tx<'a>(RwTxn<'a>, Items);

impl Lmdb {
    /// Switches the environment between synced and unsynced commits.
    fn promise(&self, promise: Promise) -> Outcome {
        let unsynced = match promise {
            Promise::Durable => false,
            Promise::Buffered => true,
            Promise::Memory => return Err("LMDB has no commit in memory only".into()),
        };
        if self.unsynced.swap(unsynced, Ordering::Relaxed) != unsynced {
            let mode = if unsynced { FlagSetMode::Enable } else { FlagSetMode::Disable };
            // SAFETY: the flag may be changed at any time between transactions of this process.
            unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode)? };
        }
        Ok(())
    }

    fn close_env(self) {
        self.env.prepare_for_closing().wait();
    }
}

impl Engine for Lmdb {
    const NAME: &'static str = "lmdb";
    const PACKAGE: &'static str = "heed";
    const FACTS: Facts = Facts {
        durable: "fdatasync of the pages and of the meta page",
        buffered: Some("MDB_NOSYNC: pages written, not synced"),
        memory: None,
        logged: false,
        reads: Reads::Mapped,
        notes: "page cache instead of a cache of its own; append mode for sorted inserts",
    };

    type Reader<'a> = Reader<'a>;
    type Batch<'a> = Tx<'a>;
    type Change<'a> = Tx<'a>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let path = dir.join("lmdb");
        std::fs::create_dir_all(&path)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_readers(256);
        if setup.beyond_memory {
            // SAFETY: it is advice to the system about reads, nothing else.
            unsafe { options.flags(EnvFlags::NO_READ_AHEAD) };
        }
        // SAFETY: the directory is private to this process, which opens it once at a time.
        let env = unsafe { options.open(path)? };
        let mut tx = env.write_txn()?;
        let items = env.create_database(&mut tx, None)?;
        tx.commit()?;
        Ok(Lmdb { env, items, unsynced: AtomicBool::new(false) })
    }

    fn close(self) -> Outcome {
        self.env.force_sync()?;
        self.close_env();
        Ok(())
    }

    fn read<T>(&self, body: impl FnOnce(&mut Reader<'_>) -> Outcome<T>) -> Outcome<T> {
        body(&mut Reader(self.env.read_txn()?, self.items))
    }

    fn get<T>(
        reader: &mut Reader<'_>,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Outcome<T> {
        Ok(with(reader.1.get(&reader.0, key)?))
    }

    fn scan(
        reader: &mut Reader<'_>,
        from: &[u8],
        count: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let range = (Bound::Included(from), Bound::Unbounded);
        let mut entries = reader.1.range(&reader.0, &range)?;
        for done in 0..count {
            match entries.next().transpose()? {
                Some((key, value)) => each(key, value),
                None => return Ok(done),
            }
        }
        Ok(count)
    }

    fn len(reader: &mut Reader<'_>) -> Outcome<u64> {
        Ok(reader.1.stat(&reader.0)?.entries as u64)
    }

    fn batch<T>(
        &self,
        promise: Promise,
        body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        self.promise(promise)?;
        let mut tx = Tx(self.env.write_txn()?, self.items);
        let done = body(&mut tx)?;
        tx.0.commit()?;
        Ok(done)
    }

    fn change<T>(&self, body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        self.batch(Promise::Durable, body)
    }

    fn insert_sorted<'r>(
        &self,
        mut records: impl Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Outcome {
        self.batch(Promise::Durable, |tx| {
            records.try_for_each(|(key, value)| {
                Ok(tx.1.put_with_flags(&mut tx.0, PutFlags::APPEND, key, value)?)
            })
        })
    }

    fn compact(self, dir: &Path, setup: &Setup) -> Outcome<Self> {
        let path = dir.join("lmdb");
        let copy = path.join("copy.mdb");
        let mut file = std::fs::File::create_new(&copy)?;
        self.env.copy_to_file(&mut file, CompactionOption::Enabled)?;
        file.sync_all()?;
        self.close_env();
        std::fs::rename(copy, path.join("data.mdb"))?;
        std::fs::File::open(&path)?.sync_all()?;
        Lmdb::open(dir, setup)
    }
}

impl Batch for Tx<'_> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.1.put(&mut self.0, key, value)?)
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.1.delete(&mut self.0, key)?;
        Ok(())
    }
}

impl Change for Tx<'_> {
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool> {
        if back {
            let mut entries = self.1.rev_iter_mut(&mut self.0)?;
            let Some((key, value)) = entries.next().transpose()? else { return Ok(false) };
            with(key, value);
            // SAFETY: the borrowed entry is not used any more.
            unsafe { entries.del_current()? };
        } else {
            let mut entries = self.1.iter_mut(&mut self.0)?;
            let Some((key, value)) = entries.next().transpose()? else { return Ok(false) };
            with(key, value);
            // SAFETY: the borrowed entry is not used any more.
            unsafe { entries.del_current()? };
        }
        Ok(true)
    }

    fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Outcome<u64> {
        let mut entries = self.1.iter_mut(&mut self.0)?;
        let mut removed = 0;
        while let Some((key, value)) = entries.next().transpose()? {
            if !keep(key, value) {
                // SAFETY: the borrowed entry is not used any more.
                unsafe { entries.del_current()? };
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn extract(
        &mut self,
        from: &[u8],
        to: &[u8],
        mut pick: impl FnMut(&[u8], &[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut entries = self.1.range_mut(&mut self.0, &range)?;
        let mut extracted = 0;
        while let Some((key, value)) = entries.next().transpose()? {
            if pick(key, value) {
                each(key, value);
                // SAFETY: the borrowed entry is not used any more.
                unsafe { entries.del_current()? };
                extracted += 1;
            }
        }
        Ok(extracted)
    }
}
