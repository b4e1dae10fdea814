//! fjall: a log-structured engine in Rust.
//!
//! Commits: its default is buffered (handed to the operating system). Durable commits persist the journal with
//! `SyncData` (`fdatasync`), which its documentation names for durable use; with `manual_journal_persist` a commit
//! stays in the journal's buffer: in memory. All three are chosen per commit, so the keyspace is opened with
//! `manual_journal_persist` and the adapter persists. The cache is the run's cache budget; memtables are the
//! run's write budget over two (one active, one on its way to the disk). No compression: the records are random.
//! Values from 1 KiB on are kept apart from keys, as its documentation advises for large values.
//! Blind writes are write batches, which its documentation offers for them. Pops run in its single-writer
//! transaction, which sees its own writes; `retain` and `extract_if` collect keys from a snapshot and remove
//! them in one batch, as a user would with nobody else writing. Compaction is `major_compact`.

use crate::engine::{self, Change, Engine, Facts, Outcome, Promise, Reads, Setup};
use fjall::{
    Guard, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable,
    SingleWriterTxDatabase, SingleWriterTxKeyspace, SingleWriterWriteTx, Snapshot,
};
use std::path::Path;

/// The adapter.
#[allow(missing_debug_implementations)]
pub struct Fjall {
    db: SingleWriterTxDatabase,
    items: SingleWriterTxKeyspace,
}

/// A snapshot.
#[allow(missing_debug_implementations)]
pub struct Reader<'a>(Snapshot, &'a SingleWriterTxKeyspace);

/// A write batch.
#[allow(missing_debug_implementations)]
pub struct Batch<'a>(fjall::OwnedWriteBatch, &'a SingleWriterTxKeyspace);

/// A transaction.
#[allow(missing_debug_implementations)]
pub struct Tx<'a> {
    db: &'a SingleWriterTxDatabase,
    items: &'a SingleWriterTxKeyspace,
    /// Made by the first pop.
    tx: Option<SingleWriterWriteTx<'a>>,
}

fn mode(promise: Promise) -> Option<PersistMode> {
    match promise {
        Promise::Durable => Some(PersistMode::SyncData),
        Promise::Buffered => Some(PersistMode::Buffer),
        Promise::Memory => None,
    }
}

impl Engine for Fjall {
    const NAME: &'static str = "fjall";
    const PACKAGE: &'static str = "fjall";
    const FACTS: Facts = Facts {
        durable: "persist(SyncData): fdatasync of the journal",
        buffered: Some("persist(Buffer): write to the journal"),
        memory: Some("the journal's buffer"),
        logged: true,
        reads: Reads::Positional,
        notes: "uncompressed; retain and extract_if collect keys, then one batch",
    };

    type Reader<'a> = Reader<'a>;
    type Batch<'a> = Batch<'a>;
    type Change<'a> = Tx<'a>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let db = SingleWriterTxDatabase::builder(dir.join("fjall"))
            .cache_size(setup.cache_bytes as u64)
            .open()?;
        let memtable = (setup.write_bytes / 2) as u64;
        let apart = (setup.value_bytes >= 1024).then(KvSeparationOptions::default);
        let items = db.keyspace("items", || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(memtable)
                .with_kv_separation(apart)
        })?;
        Ok(Fjall { db, items })
    }

    fn close(self) -> Outcome {
        self.db.persist(PersistMode::SyncAll)?;
        Ok(())
    }

    fn read<T>(&self, body: impl FnOnce(&mut Reader<'_>) -> Outcome<T>) -> Outcome<T> {
        body(&mut Reader(self.db.read_tx(), &self.items))
    }

    fn get<T>(
        reader: &mut Reader<'_>,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Outcome<T> {
        Ok(with(reader.0.get(reader.1, key)?.as_deref()))
    }

    fn scan(
        reader: &mut Reader<'_>,
        from: &[u8],
        count: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut entries = reader.0.range(reader.1, from..);
        for done in 0..count {
            match entries.next().map(Guard::into_inner).transpose()? {
                Some((key, value)) => each(&key, &value),
                None => return Ok(done),
            }
        }
        Ok(count)
    }

    fn len(reader: &mut Reader<'_>) -> Outcome<u64> {
        Ok(reader.0.len(reader.1)? as u64)
    }

    fn batch<T>(
        &self,
        promise: Promise,
        body: impl FnOnce(&mut Batch<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let batch = self.db.inner().batch().durability(mode(promise));
        let mut batch = Batch(batch, &self.items);
        let done = body(&mut batch)?;
        batch.0.commit()?;
        Ok(done)
    }

    fn change<T>(&self, body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        let mut tx = Tx { db: &self.db, items: &self.items, tx: None };
        let done = body(&mut tx)?;
        if let Some(tx) = tx.tx {
            tx.commit()?;
        }
        Ok(done)
    }

    fn put(&self, promise: Promise, key: &[u8], value: &[u8]) -> Outcome {
        self.items.inner().insert(key, value)?;
        if let Some(mode) = mode(promise) {
            self.db.persist(mode)?;
        }
        Ok(())
    }

    fn compact(self, _dir: &Path, _setup: &Setup) -> Outcome<Self> {
        let items = self.items.inner();
        items.rotate_memtable_and_wait()?;
        items.major_compact()?;
        Ok(self)
    }
}

impl engine::Batch for Batch<'_> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.0.insert(self.1.inner(), key, value);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.0.remove(self.1.inner(), key);
        Ok(())
    }
}

impl Tx<'_> {
    /// Removes keys in one durable batch.
    fn remove_all(&self, keys: Vec<fjall::Slice>) -> Outcome<u64> {
        let removed = keys.len() as u64;
        let mut batch = self.db.inner().batch().durability(mode(Promise::Durable));
        for key in keys {
            batch.remove(self.items.inner(), key);
        }
        batch.commit()?;
        Ok(removed)
    }
}

impl Change for Tx<'_> {
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool> {
        let tx =
            self.tx.get_or_insert_with(|| self.db.write_tx().durability(mode(Promise::Durable)));
        let found =
            if back { tx.last_key_value(self.items) } else { tx.first_key_value(self.items) };
        let Some((key, value)) = found.map(Guard::into_inner).transpose()? else {
            return Ok(false);
        };
        with(&key, &value);
        tx.remove(self.items, key);
        Ok(true)
    }

    fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Outcome<u64> {
        let mut keys = Vec::new();
        for entry in self.db.read_tx().iter(self.items) {
            let (key, value) = entry.into_inner()?;
            if !keep(&key, &value) {
                keys.push(key);
            }
        }
        self.remove_all(keys)
    }

    fn extract(
        &mut self,
        from: &[u8],
        to: &[u8],
        mut pick: impl FnMut(&[u8], &[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut keys = Vec::new();
        for entry in self.db.read_tx().range(self.items, from..to) {
            let (key, value) = entry.into_inner()?;
            if pick(&key, &value) {
                each(&key, &value);
                keys.push(key);
            }
        }
        self.remove_all(keys)
    }
}
