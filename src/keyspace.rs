//! Keyspaces: named, independent sets of keys in one database.

use crate::catalog::KeyspaceInfo;
use crate::db::Database;
use crate::engine::{Applied, Engine, Writer};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::tx::{check_key, check_value};
use crate::types::{KeyspaceId, Lsn, Seqno};
use crate::wal::operation::{Operation, Operations};
use std::sync::Arc;

/// A handle of a keyspace. Cheap to clone. Its methods are one-step transactions; for several steps use
/// [`Database::write`] or [`Database::transact`], for several reads [`Database::reader`] or
/// [`Database::snapshot`].
#[derive(Clone, Debug)]
pub struct Keyspace {
    db: Database,
    info: Arc<KeyspaceInfo>,
}

impl Keyspace {
    pub(crate) fn new(db: Database, info: Arc<KeyspaceInfo>) -> Keyspace {
        Keyspace { db, info }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its number, unique in this database for ever.
    pub fn id(&self) -> KeyspaceId {
        self.info.id
    }

    /// A copy of a key's current value. [`Snapshot::get`](crate::Snapshot::get) does without the copy.
    ///
    /// # Errors
    /// [`Error::Damage`], [`Error::Io`], [`Error::KeyspaceDropped`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let (view, at) = self.db.engine.borrowed_point();
        self.check(&self.db.engine, at)?;
        let found = view.get(self.id(), key.as_ref(), at)?;
        Ok(found.map(|value| value.into_vec()))
    }

    /// Whether a key has a value now.
    ///
    /// # Errors
    /// As [`get`](Keyspace::get).
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let (view, at) = self.db.engine.borrowed_point();
        self.check(&self.db.engine, at)?;
        Ok(view.get(self.id(), key.as_ref(), at)?.is_some())
    }

    /// The exact number of keys now. See [`Snapshot::len`](crate::Snapshot::len).
    ///
    /// # Errors
    /// As [`get`](Keyspace::get).
    pub fn len(&self) -> Result<u64> {
        self.db.reader().len(self)
    }

    /// Whether there is no key now.
    ///
    /// # Errors
    /// As [`get`](Keyspace::get).
    pub fn is_empty(&self) -> Result<bool> {
        self.db.reader().is_empty(self)
    }

    /// Sets the value of a key: a transaction of its own, with the database's default durability.
    ///
    /// # Errors
    /// As [`WriteTx::commit`](crate::WriteTx::commit), and [`Error::Limit`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Lsn> {
        self.insert_with(key, value, self.db.engine.options.durability)
    }

    /// Sets the value of a key with another durability.
    ///
    /// # Errors
    /// As [`insert`](Keyspace::insert).
    pub fn insert_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Lsn> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_key(key)?;
        check_value(value)?;
        if value.len() > self.db.engine.options.write_set_limit() / 2 {
            // Too large for the log; a transaction spills it.
            let mut tx = self.db.write()?;
            tx.insert(self, key, value)?;
            return tx.commit_with(durability);
        }
        self.commit_one(key, Some(value), durability)
    }

    /// Removes a key: a transaction of its own, with the database's default durability.
    ///
    /// # Errors
    /// As [`insert`](Keyspace::insert).
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<Lsn> {
        let key = key.as_ref();
        check_key(key)?;
        let durability = self.db.engine.options.durability;
        self.commit_one(key, None, durability)
    }

    fn commit_one(&self, key: &[u8], value: Option<&[u8]>, durability: Durability) -> Result<Lsn> {
        let (engine, keyspace) = (&self.db.engine, self.id());
        let operation = match value {
            Some(value) => Operation::Put { keyspace, key, value },
            None => Operation::Remove { keyspace, key },
        };
        let applied = {
            let mut writer = engine.writer.lock();
            self.check_live(engine)?;
            let mut operations = std::mem::take(&mut writer.leavings.buffer);
            operations.clear();
            operation.encode(&mut operations);
            debug_assert_eq!(Operations::new(&operations).next(), Some(Ok(operation)));
            let applied = self.apply_one(&mut writer, &operations, key, value);
            writer.leavings.buffer = operations;
            if value.is_some() {
                writer.popped.inserted(keyspace, key);
            }
            applied?
        };
        engine.settle(applied, durability)?;
        Ok(applied.lsn)
    }

    /// Commits one entry. The memory that it will need is on its way while the log takes it.
    fn apply_one(
        &self,
        writer: &mut Writer,
        operations: &[u8],
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Applied> {
        let engine = &self.db.engine;
        engine.admit(writer, operations.len(), false)?;
        let Writer { active, last_seqno, .. } = writer;
        let mut entries = active.writer();
        let aimed = entries.aim(self.id(), key)?;
        engine.place(last_seqno, operations, |seqno| aimed.insert(seqno, value).map(drop))
    }

    /// An error if the handle is of another database or the keyspace was dropped before `at`.
    #[inline]
    pub(crate) fn check(&self, engine: &Arc<Engine>, at: Seqno) -> Result<()> {
        if !Arc::ptr_eq(engine, &self.db.engine) {
            return Err(foreign());
        }
        self.info.check_readable(at)
    }

    /// An error if the handle is of another database or the keyspace was dropped.
    #[inline]
    pub(crate) fn check_live(&self, engine: &Arc<Engine>) -> Result<()> {
        self.check(engine, Seqno::MAX)
    }
}

fn foreign() -> Error {
    Error::InvalidArgument(
        "the keyspace belongs to another database; open it with `keyspace` on this one".to_owned(),
    )
}
