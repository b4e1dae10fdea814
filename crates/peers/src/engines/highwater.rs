//! Highwater, with its defaults: every feature that it measures is what `Database::open` gives.
//!
//! Commits: `Sync` (one `fdatasync` of pre-written log, shared between threads), `Buffered` (one `write`), `Memory`.
//! Memory: `memory_budget` is the run's write budget; mapped tables use the page cache; under positional
//! reads the block cache is the run's cache budget.

use crate::engine::{Batch, Change, Engine, Facts, Outcome, Promise, Reads, Setup};
use highwater::{Database, Durability, Keyspace, ReadMode, WriteTx};
use std::path::Path;

/// The adapter.
#[derive(Debug)]
pub struct Highwater {
    db: Database,
    items: Keyspace,
}

fn durability(promise: Promise) -> Durability {
    match promise {
        Promise::Durable => Durability::Sync,
        Promise::Buffered => Durability::Buffered,
        Promise::Memory => Durability::Memory,
    }
}

/// A point in commit order and the keyspace that is read.
#[derive(Debug)]
pub struct Reader<'a>(highwater::Reader<'a>, &'a Keyspace);

/// A transaction and the keyspace that it changes.
#[derive(Debug)]
pub struct Tx<'a>(WriteTx, &'a Keyspace);

impl Engine for Highwater {
    const NAME: &'static str = "highwater";
    const PACKAGE: &'static str = "highwater";
    const FACTS: Facts = Facts {
        durable: "fdatasync of the log, shared by waiting threads",
        buffered: Some("write to the log"),
        memory: Some("copy in memory"),
        logged: true,
        reads: Reads::Either,
        notes: "defaults",
    };

    type Reader<'a> = Reader<'a>;
    type Batch<'a> = Tx<'a>;
    type Change<'a> = Tx<'a>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let mut builder = Database::builder().memory_budget(setup.write_bytes);
        if setup.positional {
            builder = builder.read_mode(ReadMode::Pread).block_cache(setup.cache_bytes);
        }
        let db = builder.open(dir.join("db"))?;
        let items = db.keyspace("items")?;
        Ok(Highwater { db, items })
    }

    fn close(self) -> Outcome {
        let Highwater { db, items } = self;
        drop(items);
        Ok(db.close()?)
    }

    fn read<T>(&self, body: impl FnOnce(&mut Reader<'_>) -> Outcome<T>) -> Outcome<T> {
        body(&mut Reader(self.db.reader(), &self.items))
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
        let mut entries = reader.0.range(reader.1, from..)?;
        for done in 0..count {
            match entries.next() {
                Some(entry) => {
                    let (key, value) = entry?;
                    each(&key, &value);
                }
                None => return Ok(done),
            }
        }
        Ok(count)
    }

    fn len(reader: &mut Reader<'_>) -> Outcome<u64> {
        Ok(reader.0.len(reader.1)?)
    }

    fn batch<T>(
        &self,
        promise: Promise,
        body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut tx = Tx(self.db.write()?, &self.items);
        let done = body(&mut tx)?;
        tx.0.commit_with(durability(promise))?;
        Ok(done)
    }

    fn change<T>(&self, body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        self.batch(Promise::Durable, body)
    }

    fn put(&self, promise: Promise, key: &[u8], value: &[u8]) -> Outcome {
        self.items.insert_with(key, value, durability(promise))?;
        Ok(())
    }

    fn compact(self, _dir: &Path, _setup: &Setup) -> Outcome<Self> {
        self.db.compact()?;
        Ok(self)
    }
}

impl Batch for Tx<'_> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        Ok(self.0.insert(self.1, key, value)?)
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        Ok(self.0.remove(self.1, key)?)
    }
}

impl Change for Tx<'_> {
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool> {
        let found = if back { self.0.pop_last(self.1)? } else { self.0.pop_first(self.1)? };
        let popped = found.is_some();
        if let Some((key, value)) = found {
            with(&key, &value);
        }
        Ok(popped)
    }

    fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Outcome<u64> {
        let mut removed = 0;
        self.0.retain::<&[u8]>(self.1, .., |key, value| {
            let keep = keep(key, value);
            removed += u64::from(!keep);
            keep
        })?;
        Ok(removed)
    }

    fn extract(
        &mut self,
        from: &[u8],
        to: &[u8],
        pick: impl FnMut(&[u8], &[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut extracted = 0;
        for entry in self.0.extract_if(self.1, from..to, pick)? {
            let (key, value) = entry?;
            each(&key, &value);
            extracted += 1;
        }
        Ok(extracted)
    }
}
