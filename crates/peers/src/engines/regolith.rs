//! regolith: a log-structured engine in Rust.
//!
//! Commits: its default is buffered; `sync` in the write options makes one durable, `disable_wal` one in memory.
//! The block cache is the run's cache budget; the write buffer is the run's write budget over two, which is how many it keeps
//! by default. No compression: the records are random. Blind writes are write batches. Pops run in its
//! optimistic transaction, which sees its own writes; `retain` and `extract_if` collect keys from a snapshot and remove
//! them in one batch. Compaction is a flush and `compact_range` over everything.

use crate::engine::{self, Change, Engine, Facts, Outcome, Promise, Reads, Setup};
use regolith::{
    CompressionType, DurabilityMode, OptimisticTransactionDb, Options, ScanDirection, Snapshot,
    Transaction, TxnOptions, WriteBatch, WriteOptions,
};
use std::path::Path;

/// The adapter.
#[allow(missing_debug_implementations)]
pub struct Regolith(OptimisticTransactionDb);

/// A write batch.
#[allow(missing_debug_implementations)]
pub struct Batch(WriteBatch);

/// A transaction.
#[allow(missing_debug_implementations)]
pub struct Tx<'a> {
    db: &'a OptimisticTransactionDb,
    /// Made by the first pop.
    tx: Option<Transaction>,
}

fn options(promise: Promise) -> WriteOptions {
    match promise {
        Promise::Durable => WriteOptions::sync(),
        Promise::Buffered => WriteOptions::new(),
        Promise::Memory => WriteOptions::disable_wal(),
    }
}

impl Engine for Regolith {
    const NAME: &'static str = "regolith";
    const PACKAGE: &'static str = "regolith";
    const FACTS: Facts = Facts {
        durable: "sync: fdatasync of the log, shared by waiting threads",
        buffered: Some("write to the log"),
        memory: Some("disable_wal: the write buffer"),
        logged: true,
        reads: Reads::Positional,
        notes: "uncompressed; retain and extract_if collect keys, then one batch",
    };

    type Reader<'a> = Snapshot;
    type Batch<'a> = Batch;
    type Change<'a> = Tx<'a>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let options = Options::default()
            .block_cache_size(setup.cache_bytes)
            .write_buffer_size(setup.write_bytes / 2)
            .compression(CompressionType::None)
            .durability(DurabilityMode::Eventual);
        Ok(Regolith(OptimisticTransactionDb::open(dir.join("regolith"), options)?))
    }

    fn close(self) -> Outcome {
        Ok(self.0.db().close()?)
    }

    fn read<T>(&self, body: impl FnOnce(&mut Snapshot) -> Outcome<T>) -> Outcome<T> {
        body(&mut self.0.db().snapshot())
    }

    fn get<T>(
        reader: &mut Snapshot,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Outcome<T> {
        Ok(with(reader.get_slice(key)?.as_deref()))
    }

    fn scan(
        reader: &mut Snapshot,
        from: &[u8],
        count: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut cursor = reader.iter();
        cursor.seek(from);
        for done in 0..count {
            let (Some(key), Some(value)) = (cursor.key(), cursor.value()) else {
                cursor.status()?;
                return Ok(done);
            };
            each(key, value);
            if done + 1 < count {
                cursor.next();
            }
        }
        Ok(count)
    }

    fn len(reader: &mut Snapshot) -> Outcome<u64> {
        // It offers no count: a user walks over the keys.
        let mut cursor = reader.iter();
        cursor.seek_to_first();
        let mut count = 0;
        while cursor.valid() {
            count += 1;
            cursor.next();
        }
        cursor.status()?;
        Ok(count)
    }

    fn batch<T>(
        &self,
        promise: Promise,
        body: impl FnOnce(&mut Batch) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut batch = Batch(WriteBatch::new());
        let done = body(&mut batch)?;
        self.0.db().write_opt(&options(promise), batch.0)?;
        Ok(done)
    }

    fn change<T>(&self, body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        let mut tx = Tx { db: &self.0, tx: None };
        let done = body(&mut tx)?;
        if let Some(tx) = tx.tx {
            tx.commit()?;
            // A transactional commit takes no write options; an empty durable batch would cover nothing.
            self.0.db().flush()?;
        }
        Ok(done)
    }

    fn put(&self, promise: Promise, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.0.db().put_opt(&options(promise), key, value)?)
    }

    fn compact(self, _dir: &Path, _setup: &Setup) -> Outcome<Self> {
        self.0.db().flush()?;
        self.0.db().compact_range(None, None).wait()?;
        Ok(self)
    }
}

impl engine::Batch for Batch {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.0.put(key, value);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.0.delete(key);
        Ok(())
    }
}

impl Tx<'_> {
    /// Removes the picked keys between two bounds in one durable batch.
    fn remove_picked(
        &self,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        mut pick: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Outcome<u64> {
        let snapshot = self.db.db().snapshot();
        let mut cursor = snapshot.iter();
        match from {
            Some(from) => cursor.seek(from),
            None => cursor.seek_to_first(),
        }
        let mut batch = WriteBatch::new();
        let mut removed = 0;
        while let (Some(key), Some(value)) = (cursor.key(), cursor.value()) {
            if to.is_some_and(|to| key >= to) {
                break;
            }
            if pick(key, value) {
                batch.delete(key);
                removed += 1;
            }
            cursor.next();
        }
        cursor.status()?;
        self.db.db().write_opt(&options(Promise::Durable), batch)?;
        Ok(removed)
    }
}

impl Change for Tx<'_> {
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool> {
        let tx = self.tx.get_or_insert_with(|| self.db.begin(&TxnOptions::new()));
        let direction = if back { ScanDirection::Reverse } else { ScanDirection::Forward };
        let found = tx.scan_stream_in(None, None, direction).next().transpose()?;
        let Some((key, value)) = found else { return Ok(false) };
        with(&key, &value);
        tx.delete(&key)?;
        Ok(true)
    }

    fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Outcome<u64> {
        self.remove_picked(None, None, |key, value| !keep(key, value))
    }

    fn extract(
        &mut self,
        from: &[u8],
        to: &[u8],
        mut pick: impl FnMut(&[u8], &[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        self.remove_picked(Some(from), Some(to), |key, value| {
            let picked = pick(key, value);
            if picked {
                each(key, value);
            }
            picked
        })
    }
}
