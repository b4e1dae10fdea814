//! Write transactions: one at a time, serializable, all or nothing.

use super::extract::ExtractIf;
use super::pops::Edges;
use super::reads::{Source, bounds_of, read_methods};
use super::ticket::Ticket;
use super::write_set::{Savepoint, WriteSet};
use crate::cursor::RangeTombstone;
use crate::db::Database;
use crate::engine::{Applied, Writer};
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::slice::Slice;
use crate::sync::engine::GateGuard;
use crate::types::{Lsn, Seqno};
use crate::view::{Layer, Range, View, prefix_bounds};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// The write methods of a type with `source`, a write set and edges.
macro_rules! write_methods {
    () => {
        /// Sets the value of a key.
        ///
        /// # Errors
        /// [`Error::Limit`](crate::Error::Limit) for a key over 65,535 bytes or a value over 1 GiB;
        /// [`Error::NoSpace`](crate::Error::NoSpace) if the transaction spills and the disk is full.
        pub fn insert(
            &mut self,
            keyspace: &Keyspace,
            key: impl AsRef<[u8]>,
            value: impl AsRef<[u8]>,
        ) -> Result<()> {
            let key = key.as_ref();
            keyspace.check_live(&self.db.engine)?;
            self.edges.before_insert(&self.set, keyspace.id(), key)?;
            self.set.insert(keyspace.id(), key, value.as_ref())
        }

        /// Removes a key, whether it has a value or not.
        ///
        /// # Errors
        /// As [`insert`](Self::insert).
        pub fn remove(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
            let key = key.as_ref();
            keyspace.check_live(&self.db.engine)?;
            self.edges.removed(keyspace.id(), key);
            self.set.remove(keyspace.id(), key)
        }

        /// Removes all keys of a range, at the cost of one record.
        ///
        /// # Errors
        /// As [`insert`](Self::insert).
        pub fn remove_range<K: AsRef<[u8]>>(
            &mut self,
            keyspace: &Keyspace,
            range: impl RangeBounds<K>,
        ) -> Result<()> {
            keyspace.check_live(&self.db.engine)?;
            let after = |key: &[u8]| [key, &[0]].concat();
            let (lower, upper) = bounds_of(&range);
            let start = match lower {
                Bound::Included(key) => key.to_vec(),
                Bound::Excluded(key) => after(key),
                Bound::Unbounded => Vec::new(),
            };
            let end = match upper {
                Bound::Included(key) => Some(after(key)),
                Bound::Excluded(key) => Some(key.to_vec()),
                Bound::Unbounded => None,
            };
            if end.as_ref().is_some_and(|end| *end <= start) {
                return Ok(());
            }
            self.edges.removed_many(keyspace.id());
            self.set.remove_range(keyspace.id(), RangeTombstone { start, end })
        }

        /// Removes all keys of a keyspace, at the cost of one record.
        ///
        /// # Errors
        /// As [`insert`](Self::insert).
        pub fn clear(&mut self, keyspace: &Keyspace) -> Result<()> {
            self.remove_range::<&[u8]>(keyspace, ..)
        }

        /// Removes the entry with the smallest key and returns it.
        ///
        /// # Errors
        /// As [`insert`](Self::insert) and [`get`](Self::get).
        pub fn pop_first(&mut self, keyspace: &Keyspace) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
            self.pop(keyspace, false)
        }

        /// Removes the entry with the greatest key and returns it.
        ///
        /// # Errors
        /// As [`insert`](Self::insert) and [`get`](Self::get).
        pub fn pop_last(&mut self, keyspace: &Keyspace) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
            self.pop(keyspace, true)
        }

        fn pop(&mut self, keyspace: &Keyspace, back: bool) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
            keyspace.check_live(&self.db.engine)?;
            self.note_range(keyspace, Bound::Unbounded, Bound::Unbounded);
            self.edges.pop(&mut self.set, &self.view, self.at, keyspace.id(), back)
        }

        /// Removes the entries of a range that `keep` does not want.
        ///
        /// # Errors
        /// As [`insert`](Self::insert) and [`get`](Self::get). Entries before the error stay removed in
        /// the transaction.
        pub fn retain<K: AsRef<[u8]>>(
            &mut self,
            keyspace: &Keyspace,
            range: impl RangeBounds<K>,
            mut keep: impl FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<()> {
            keyspace.check_live(&self.db.engine)?;
            let (lower, upper) = bounds_of(&range);
            self.note_range(keyspace, lower, upper);
            self.edges.write(&self.set)?;
            self.edges.removed_many(keyspace.id());
            // The layers are kept while they are read; changes go on top of them, behind the reader.
            let own = self.set.layers()?.to_vec();
            self.set.stage();
            let view = self.view.clone();
            let source = Source { own: &own, view: &view, at: self.at };
            for entry in source.range(keyspace.id(), lower, upper) {
                let (key, value) = entry?;
                if !keep(&key, &value) {
                    self.set.remove(keyspace.id(), &key)?;
                }
            }
            Ok(())
        }

        /// Removes the entries of a range that `wanted` picks, and yields them. Entries that the iterator
        /// has not come to stay. Costs no copy: the entries borrow from the transaction.
        ///
        /// # Errors
        /// As [`insert`](Self::insert) and [`get`](Self::get); the iterator ends after an error.
        pub fn extract_if<K: AsRef<[u8]>, F>(
            &mut self,
            keyspace: &Keyspace,
            range: impl RangeBounds<K>,
            wanted: F,
        ) -> Result<ExtractIf<'_, F>>
        where
            F: FnMut(&[u8], &[u8]) -> bool,
        {
            keyspace.check_live(&self.db.engine)?;
            let (lower, upper) = bounds_of(&range);
            self.note_range(keyspace, lower, upper);
            self.edges.write(&self.set)?;
            self.edges.removed_many(keyspace.id());
            // As in `retain`.
            self.read = self.set.layers()?.to_vec();
            self.set.stage();
            let source = Source { own: &self.read, view: &self.view, at: self.at };
            let range = source.range(keyspace.id(), lower, upper);
            Ok(ExtractIf::new(&mut self.set, range, keyspace.id(), wanted))
        }

        /// Marks a point to come back to.
        pub fn savepoint(&mut self) -> Savepoint {
            if let Err(error) = self.edges.write(&self.set) {
                self.set.fail(error);
            }
            self.set.savepoint()
        }

        /// Undoes everything after a savepoint. The savepoint stays, later ones are gone.
        ///
        /// # Errors
        /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if the savepoint is not of this
        /// transaction or is gone.
        pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
            self.set.rollback_to(savepoint)?;
            self.edges = Edges::default();
            Ok(())
        }
    };
}
pub(crate) use write_methods;

/// A write transaction. While it lives no other can begin; others wait. It reads its own writes.
/// Dropping it rolls it back.
///
/// A transaction may be larger than memory: past its share of the memory budget it writes private
/// tables, and it stays atomic.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::Database;
/// let db = Database::in_memory()?;
/// let accounts = db.keyspace("accounts")?;
/// let mut tx = db.write()?;
/// tx.insert(&accounts, "ada", "10")?;
/// tx.insert(&accounts, "bob", "20")?;
/// let before = tx.savepoint();
/// tx.clear(&accounts)?;
/// tx.rollback_to(before)?;
/// assert_eq!(tx.len(&accounts)?, 2);
/// tx.commit()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a transaction rolls it back"]
pub struct WriteTx {
    writer: GateGuard<Writer>,
    view: Arc<View>,
    at: Seqno,
    pub(super) set: WriteSet,
    edges: Edges,
    /// What the last `extract_if` reads of the write set.
    read: Vec<Layer>,
    durability: Durability,
    /// Dropped last: if it is the last handle, it closes the database, for which the gate must be open.
    db: Database,
}

impl std::fmt::Debug for WriteTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteTx").field("at", &self.at).finish_non_exhaustive()
    }
}

impl WriteTx {
    pub(crate) fn begin(db: &Database) -> Result<WriteTx> {
        db.engine.check_writable()?;
        let mut writer = db.engine.writer.lock_arc();
        db.engine.check_writable()?;
        let at = writer.last_seqno;
        let leavings = std::mem::take(&mut writer.leavings);
        let popped = writer.popped.clone();
        Ok(WriteTx {
            view: db.engine.view.load_full(),
            writer,
            at,
            set: WriteSet::new(db.engine.clone(), leavings),
            edges: Edges::new(popped),
            read: Vec::new(),
            durability: db.engine.options.durability,
            db: db.clone(),
        })
    }

    /// What [`commit`](WriteTx::commit) waits for; the database's default unless set.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    fn source(&self, keyspace: &Keyspace) -> Result<Source<'_>> {
        keyspace.check(&self.db.engine, self.at)?;
        self.edges.write(&self.set)?;
        Ok(Source { own: self.set.layers()?, view: &self.view, at: self.at })
    }

    #[inline]
    fn note_point(&self, _keyspace: &Keyspace, _key: &[u8]) {}

    #[inline]
    fn note_range(&self, _keyspace: &Keyspace, _lower: Bound<&[u8]>, _upper: Bound<&[u8]>) {}

    read_methods!();
    write_methods!();

    /// Commits with the transaction's durability and returns the LSN just past the commit: when the
    /// durable LSN has reached it, the commit is durable. Costs one log write and, with
    /// [`Durability::Sync`], one sync shared with others.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::Error::NoSpace): nothing was changed.
    /// [`Error::Poisoned`](crate::Error::Poisoned): whether it is durable is decided by the next open.
    pub fn commit(self) -> Result<Lsn> {
        let durability = self.durability;
        self.commit_with(durability)
    }

    /// Commits with another durability than the transaction's.
    ///
    /// # Errors
    /// As [`commit`](WriteTx::commit).
    pub fn commit_with(self, durability: Durability) -> Result<Lsn> {
        let db = self.db.clone();
        match self.place()? {
            Placed::Nothing(read_to) => {
                db.engine.settle_read(read_to, durability)?;
                Ok(read_to)
            }
            Placed::Commit(applied) => {
                db.engine.settle(applied, durability)?;
                Ok(applied.lsn)
            }
        }
    }

    /// Commits and returns at once; the ticket tells when the commit is durable. It becomes visible when
    /// it is.
    ///
    /// # Errors
    /// As [`commit`](WriteTx::commit).
    pub fn commit_ticket(self) -> Result<Ticket> {
        let (db, at) = (self.db.clone(), self.at);
        let applied = match self.place()? {
            Placed::Nothing(lsn) => Applied { seqno: at, lsn },
            Placed::Commit(applied) => {
                db.engine.after_commit(applied.lsn)?;
                applied
            }
        };
        Ok(Ticket::new(db.engine.clone(), applied))
    }

    /// Rolls back, as dropping it does.
    pub fn rollback(self) {}

    /// Gives the transaction its place in the log and opens the gate for the next.
    fn place(mut self) -> Result<Placed> {
        self.edges.write(&self.set)?;
        if self.set.is_empty() {
            return Ok(Placed::Nothing(self.db.engine.log.end()));
        }
        let applied = self.set.commit(&mut self.writer);
        for keyspace in self.set.keyspaces().iter() {
            let bounds = applied.is_ok().then(|| self.edges.bounds(keyspace)).flatten();
            self.writer.popped.set(keyspace, bounds);
        }
        applied.map(Placed::Commit)
    }
}

enum Placed {
    /// Nothing was changed; everything that was read lies before the LSN.
    Nothing(Lsn),
    Commit(Applied),
}
