//! redb: a copy-on-write B-tree in one file, with a cache of its own.
//!
//! Commits: `Durability::Immediate` (the default) syncs the file with `fdatasync`, once. `Durability::None` is kept in memory until a later durable
//! commit: a commit in memory. There is nothing between the two. The cache is the run's cache budget (it
//! holds reads and writes). `retain`, `extract_if` and pops are redb's own; sorted inserts use its appending
//! cursor, which its documentation offers for them.

use crate::engine::{Batch, Change, Engine, Facts, Outcome, Promise, Reads, Setup};
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    Table, TableDefinition,
};
use std::ops::Bound;
use std::path::Path;

const ITEMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");

/// The adapter.
#[allow(missing_debug_implementations)]
pub struct Redb(Database);

/// A table as a read transaction sees it.
#[allow(missing_debug_implementations)]
pub struct Reader(ReadOnlyTable<&'static [u8], &'static [u8]>);

/// A table as a write transaction sees it.
#[allow(missing_debug_implementations)]
pub struct Tx<'a>(Table<'a, &'static [u8], &'static [u8]>);

impl Engine for Redb {
    const NAME: &'static str = "redb";
    const PACKAGE: &'static str = "redb";
    const FACTS: Facts = Facts {
        durable: "Immediate: fdatasync of the file",
        buffered: None,
        memory: Some("None: in memory until a durable commit"),
        logged: false,
        reads: Reads::Positional,
        notes: "appending cursor for sorted inserts",
    };

    type Reader<'a> = Reader;
    type Batch<'a> = Tx<'a>;
    type Change<'a> = Tx<'a>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let mut builder = Database::builder();
        builder.set_cache_size(setup.cache_bytes);
        let db = builder.create(dir.join("items.redb"))?;
        // Only a new database is written to, so that an open costs no commit.
        if let Err(redb::TableError::TableDoesNotExist(_)) = db.begin_read()?.open_table(ITEMS) {
            let tx = db.begin_write()?;
            tx.open_table(ITEMS)?;
            tx.commit()?;
        }
        Ok(Redb(db))
    }

    fn close(self) -> Outcome {
        Ok(self.0.close()?)
    }

    fn read<T>(&self, body: impl FnOnce(&mut Reader) -> Outcome<T>) -> Outcome<T> {
        let tx = self.0.begin_read()?;
        body(&mut Reader(tx.open_table(ITEMS)?))
    }

    fn get<T>(
        reader: &mut Reader,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Outcome<T> {
        // The trait's method borrows; the inherent one of the same name counts references.
        let found = ReadableTable::get(&reader.0, key)?;
        Ok(with(found.as_ref().map(|value| value.value())))
    }

    fn scan(
        reader: &mut Reader,
        from: &[u8],
        count: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut entries = ReadableTable::range::<&[u8]>(&reader.0, from..)?;
        for done in 0..count {
            match entries.next().transpose()? {
                Some((key, value)) => each(key.value(), value.value()),
                None => return Ok(done),
            }
        }
        Ok(count)
    }

    fn len(reader: &mut Reader) -> Outcome<u64> {
        Ok(reader.0.len()?)
    }

    fn batch<T>(
        &self,
        promise: Promise,
        body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut tx = self.0.begin_write()?;
        tx.set_durability(match promise {
            Promise::Durable => Durability::Immediate,
            Promise::Memory => Durability::None,
            Promise::Buffered => return Err("redb has no buffered commit".into()),
        })?;
        let done = body(&mut Tx(tx.open_table(ITEMS)?))?;
        tx.commit()?;
        Ok(done)
    }

    fn change<T>(&self, body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        self.batch(Promise::Durable, body)
    }

    fn insert_sorted<'r>(&self, records: impl Iterator<Item = (&'r [u8], &'r [u8])>) -> Outcome {
        self.batch(Promise::Durable, |tx| {
            let mut cursor = tx.0.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
            for (key, value) in records {
                cursor.insert_before(key, value)?;
            }
            Ok(cursor.close()?)
        })
    }

    fn compact(mut self, _dir: &Path, _setup: &Setup) -> Outcome<Self> {
        self.0.compact()?;
        Ok(self)
    }
}

impl Batch for Tx<'_> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.0.insert(key, value)?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.0.remove(key)?;
        Ok(())
    }
}

impl Change for Tx<'_> {
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool> {
        let found = if back { self.0.pop_last()? } else { self.0.pop_first()? };
        let popped = found.is_some();
        if let Some((key, value)) = found {
            with(key.value(), value.value());
        }
        Ok(popped)
    }

    fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Outcome<u64> {
        let mut removed = 0;
        self.0.retain(|key, value| {
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
        mut pick: impl FnMut(&[u8], &[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut extracted = 0;
        for entry in self.0.extract_from_if(from..to, |key, value| pick(key, value))? {
            let (key, value) = entry?;
            each(key.value(), value.value());
            extracted += 1;
        }
        Ok(extracted)
    }
}
