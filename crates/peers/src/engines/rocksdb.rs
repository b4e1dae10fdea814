//! RocksDB: a log-structured engine in C++.
//!
//! Commits: `sync` in the write options makes one durable (`fdatasync` of the log, shared by waiting threads); the default is buffered; with
//! `disableWAL` a commit is in memory. Set up as its tuning guide says: as many background jobs as processors, dynamic level sizes, bytes per
//! sync 1 MiB, 16 KiB blocks, filters of 10 bits a key, index and filters in the cache with those of level 0 pinned, compaction by least overlap.
//! The block cache is the run's cache budget; two write buffers share the run's write budget. No compression: the records are random.
//! Values from 1 KiB on go to blob files, as its guide advises for large values; they share the block cache.
//! Reads are pinned (borrowed). Blind writes are write batches. Pops run in an optimistic transaction, which sees its own
//! writes; `retain` and `extract_if` collect keys from an iterator and remove them in one batch. Compaction is a
//! flush and `CompactRange` over everything, the last level included.

use crate::engine::{self, Change, Engine, Facts, Outcome, Promise, Reads, Setup};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DBCompressionType,
    OptimisticTransactionDB, OptimisticTransactionOptions, Options, SnapshotWithThreadMode,
    Transaction, WriteBatchWithTransaction, WriteOptions,
};
use std::path::Path;

/// The adapter.
#[allow(missing_debug_implementations)]
pub struct RocksDb(OptimisticTransactionDB);

/// A snapshot.
#[allow(missing_debug_implementations)]
pub struct Reader<'a>(SnapshotWithThreadMode<'a, OptimisticTransactionDB>);

/// A write batch.
#[allow(missing_debug_implementations)]
pub struct Batch(WriteBatchWithTransaction<true>);

/// A transaction.
#[allow(missing_debug_implementations)]
pub struct Tx<'a> {
    db: &'a OptimisticTransactionDB,
    /// Made by the first pop.
    tx: Option<Transaction<'a, OptimisticTransactionDB>>,
}

fn options(promise: Promise) -> WriteOptions {
    let mut options = WriteOptions::new();
    options.set_sync(promise == Promise::Durable);
    options.disable_wal(promise == Promise::Memory);
    options
}

impl Engine for RocksDb {
    const NAME: &'static str = "rocksdb";
    const PACKAGE: &'static str = "librocksdb-sys";
    const FACTS: Facts = Facts {
        durable: "sync: fdatasync of the log, shared by waiting threads",
        buffered: Some("write to the log"),
        memory: Some("disableWAL: the write buffer"),
        logged: true,
        reads: Reads::Positional,
        notes: "uncompressed; retain and extract_if collect keys, then one batch",
    };

    type Reader<'a> = Reader<'a>;
    type Batch<'a> = Batch;
    type Change<'a> = Tx<'a>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let mut blocks = BlockBasedOptions::default();
        let cache = Cache::new_lru_cache(setup.cache_bytes);
        blocks.set_block_cache(&cache);
        blocks.set_block_size(16 << 10);
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        options.increase_parallelism(threads as i32);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_bytes_per_sync(1 << 20);
        options.set_compaction_pri(rocksdb::CompactionPri::MinOverlappingRatio);
        options.set_write_buffer_size(setup.write_bytes / 2);
        options.set_max_write_buffer_number(2);
        options.set_compression_type(DBCompressionType::None);
        if setup.value_bytes >= 1024 {
            options.set_enable_blob_files(true);
            options.set_enable_blob_gc(true);
            options.set_min_blob_size(1024);
            options.set_blob_cache(&cache);
        }
        Ok(RocksDb(OptimisticTransactionDB::open(&options, dir.join("rocksdb"))?))
    }

    fn close(self) -> Outcome {
        // Dropping it closes it; its log is synced first.
        Ok(self.0.flush_wal(true)?)
    }

    fn read<T>(&self, body: impl FnOnce(&mut Reader<'_>) -> Outcome<T>) -> Outcome<T> {
        body(&mut Reader(self.0.snapshot()))
    }

    fn get<T>(
        reader: &mut Reader<'_>,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Outcome<T> {
        Ok(with(reader.0.get_pinned(key)?.as_deref()))
    }

    fn scan(
        reader: &mut Reader<'_>,
        from: &[u8],
        count: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut cursor = reader.0.raw_iterator();
        cursor.seek(from);
        for done in 0..count {
            let Some((key, value)) = cursor.item() else {
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

    fn len(reader: &mut Reader<'_>) -> Outcome<u64> {
        // It offers only an estimate: a user walks over the keys.
        let mut cursor = reader.0.raw_iterator();
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
        let mut batch = Batch(WriteBatchWithTransaction::new());
        let done = body(&mut batch)?;
        self.0.write_opt(batch.0, &options(promise))?;
        Ok(done)
    }

    fn change<T>(&self, body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        let mut tx = Tx { db: &self.0, tx: None };
        let done = body(&mut tx)?;
        if let Some(tx) = tx.tx {
            tx.commit()?;
        }
        Ok(done)
    }

    fn put(&self, promise: Promise, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.0.put_opt(key, value, &options(promise))?)
    }

    fn compact(self, _dir: &Path, _setup: &Setup) -> Outcome<Self> {
        self.0.flush()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.0.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
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
        let mut cursor = self.db.raw_iterator();
        match from {
            Some(from) => cursor.seek(from),
            None => cursor.seek_to_first(),
        }
        let mut batch = WriteBatchWithTransaction::<true>::new();
        while let Some((key, value)) = cursor.item() {
            if to.is_some_and(|to| key >= to) {
                break;
            }
            if pick(key, value) {
                batch.delete(key);
            }
            cursor.next();
        }
        cursor.status()?;
        let removed = batch.len() as u64;
        self.db.write_opt(batch, &options(Promise::Durable))?;
        Ok(removed)
    }
}

impl Change for Tx<'_> {
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool> {
        let tx = self.tx.get_or_insert_with(|| {
            let transaction = OptimisticTransactionOptions::default();
            self.db.transaction_opt(&options(Promise::Durable), &transaction)
        });
        let mut cursor = tx.raw_iterator();
        if back {
            cursor.seek_to_last();
        } else {
            cursor.seek_to_first();
        }
        let Some((key, value)) = cursor.item() else {
            cursor.status()?;
            return Ok(false);
        };
        with(key, value);
        tx.delete(key)?;
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
