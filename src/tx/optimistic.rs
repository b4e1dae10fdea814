//! Optimistic transactions: many at a time, each on a snapshot, validated when it commits.
//!
//! It remembers what it read: keys, misses included, and the bounds of what it scanned. At commit, under
//! the gate, it looks whether anything of that was changed by a commit after its snapshot: the memtables
//! know the seqno of each key's newest version. If a checkpoint has already turned such commits into a
//! table, there is no telling, and it is a conflict. If nothing was changed, its reads are as if made at
//! the commit, so that all optimistic and plain transactions are serializable in commit order.

use super::extract::ExtractIf;
use super::pops::Edges;
use super::read_set::ReadSet;
use super::reads::{Source, bounds_of, read_methods};
use super::ticket::Ticket;
use super::write::write_methods;
use super::write_set::{Leavings, Savepoint, WriteSet};
use crate::cursor::RangeTombstone;
use crate::db::Database;
use crate::engine::Applied;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::mistakes::{Mistake, planted};
use crate::options::Durability;
use crate::slice::Slice;
use crate::sync::engine::Mutex;
use crate::types::{Lsn, Seqno};
use crate::view::{Layer, Range, View, prefix_bounds};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// A transaction that runs beside others and may end in [`Error::Conflict`]. Most use it through
/// [`Database::transact`], which runs it again then.
#[derive(Debug)]
#[must_use = "dropping a transaction rolls it back"]
pub struct OptimisticTx {
    view: Arc<View>,
    at: Seqno,
    set: WriteSet,
    edges: Edges,
    /// What the last `extract_if` reads of the write set.
    read: Vec<Layer>,
    reads: Mutex<ReadSet>,
    durability: Durability,
    /// Dropped last: if it is the last handle, it closes the database.
    db: Database,
}

impl OptimisticTx {
    pub(crate) fn begin(db: &Database) -> Result<OptimisticTx> {
        db.engine.check_writable()?;
        let (view, at) = db.engine.read_point();
        view.check_open()?;
        Ok(OptimisticTx::at(db, view, at))
    }

    /// Begins at everything written, durable or not. It waits for the durability of what it read when it
    /// commits.
    pub(crate) fn begin_at_written(db: &Database) -> Result<OptimisticTx> {
        db.engine.check_writable()?;
        let writer = db.engine.writer.lock();
        let (view, at) = (db.engine.view.load_full(), writer.last_seqno);
        drop(writer);
        view.check_open()?;
        Ok(OptimisticTx::at(db, view, at))
    }

    fn at(db: &Database, view: Arc<View>, at: Seqno) -> OptimisticTx {
        OptimisticTx {
            view,
            at,
            set: WriteSet::new(db.engine.clone(), Leavings::default()),
            edges: Edges::default(),
            read: Vec::new(),
            reads: Mutex::default(),
            durability: db.engine.options.durability,
            db: db.clone(),
        }
    }

    /// What [`commit`](OptimisticTx::commit) waits for; the database's default unless set.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    fn source(&self, keyspace: &Keyspace) -> Result<Source<'_>> {
        keyspace.check(&self.db.engine, self.at)?;
        self.edges.write(&self.set)?;
        Ok(Source { own: self.set.layers()?, view: &self.view, at: self.at })
    }

    fn note_point(&self, keyspace: &Keyspace, key: &[u8]) {
        self.reads.lock().note_point(keyspace.id(), key);
    }

    fn note_range(&self, keyspace: &Keyspace, lower: Bound<&[u8]>, upper: Bound<&[u8]>) {
        self.reads.lock().note_range(keyspace.id(), lower, upper);
    }

    read_methods!();
    write_methods!();

    /// Validates and commits with the transaction's durability.
    ///
    /// # Errors
    /// [`Error::Conflict`] if something that it read was changed meanwhile; nothing was changed then.
    /// Otherwise as [`WriteTx::commit`](crate::WriteTx::commit).
    pub fn commit(self) -> Result<Lsn> {
        let durability = self.durability;
        self.commit_with(durability)
    }

    /// Validates and commits with another durability.
    ///
    /// # Errors
    /// As [`commit`](OptimisticTx::commit).
    pub fn commit_with(mut self, durability: Durability) -> Result<Lsn> {
        let engine = self.db.engine.clone();
        let read_to = engine.log.end();
        let Some(applied) = self.place()? else {
            engine.settle_read(read_to, durability)?;
            return Ok(read_to);
        };
        engine.settle(applied, durability)?;
        Ok(applied.lsn)
    }

    /// Validates, commits and returns at once; the ticket tells when the commit is durable.
    ///
    /// # Errors
    /// As [`commit`](OptimisticTx::commit).
    pub fn commit_ticket(mut self) -> Result<Ticket> {
        let engine = self.db.engine.clone();
        let lsn = engine.log.end();
        let placed = self.place()?;
        let applied = placed.unwrap_or(Applied { seqno: self.at, lsn });
        if placed.is_some() {
            engine.after_commit(applied.lsn)?;
        }
        Ok(Ticket::new(engine, applied))
    }

    /// Rolls back, as dropping it does.
    pub fn rollback(self) {}

    fn place(&mut self) -> Result<Option<Applied>> {
        let engine = self.db.engine.clone();
        engine.check_writable()?;
        self.edges.write(&self.set)?;
        if self.set.is_empty() {
            // What it read was one point in commit order: that is where it stands.
            return Ok(None);
        }
        let mut writer = engine.writer.lock();
        {
            let catalog = engine.catalog.read();
            let mut changed = self.set.keyspaces().iter().filter_map(|id| catalog.get(id));
            changed.try_for_each(|keyspace| keyspace.check_readable(Seqno::MAX))?;
        }
        if writer.last_seqno > self.at
            && !planted(Mistake::ConflictsNotLookedFor)
            && self.conflicts(&engine.view.load())?
        {
            engine.counters.conflicts.add(1);
            return Err(Error::Conflict);
        }
        let applied = self.set.commit(&mut writer);
        self.set.keyspaces().iter().for_each(|keyspace| writer.popped.set(keyspace, None));
        applied.map(Some)
    }

    /// Whether a commit after the snapshot changed something that was read.
    fn conflicts(&self, now: &View) -> Result<bool> {
        let reads = self.reads.lock();
        for id in reads.keyspaces() {
            if !self.db.engine.catalog.read().is_live(id, Seqno::MAX) {
                return Ok(true);
            }
        }
        for layer in &now.layers {
            match layer {
                Layer::Memory(memtable) => {
                    if reads.changed_in(memtable, self.at) {
                        return Ok(true);
                    }
                }
                // Commits after the snapshot are in a table by now; which keys they changed, it does
                // not tell.
                Layer::Run(run) if run.max_seqno > self.at => {
                    return Ok(!reads.is_empty());
                }
                // Layers descend in seqno.
                Layer::Run(_) => return Ok(false),
            }
        }
        // No table at all: what was committed after the snapshot may have been removals only, of which a
        // checkpoint or a merge with nothing below leaves no trace. The view was loaded before this.
        let checkpoint = self.db.engine.published.lock().manifest.checkpoint_seqno;
        Ok(checkpoint > self.at && !reads.is_empty())
    }
}
