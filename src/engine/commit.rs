//! The commit path: validate, make room, place in the log, apply to the memtable, wait as asked.
//!
//! Everything up to and with [`Engine::apply`] happens under the writer's gate; waiting for the disk
//! ([`Engine::settle`]) does not. Whatever may fail for want of space comes before the transaction takes
//! its seqno and its place in the log.

use super::{Engine, Pending, PendingLayer, Writer};
use crate::error::{Error, Result};
use crate::manifest::names;
use crate::memtable::Memtable;
use crate::mistakes::{Mistake, planted};
use crate::options::Durability;
use crate::sync::engine::{Ordering, sleep};
use crate::table::TableMeta;
use crate::types::{Lsn, Seqno};
use crate::view::{Layer, MemoryLayer, Run};
use crate::wal::flush::Reach;
use crate::wal::operation::{Operation, Operations};
use crate::wal::reserve::{Claim, RESERVE_EPOCH_BYTES, RESERVE_MIN_BYTES};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a commit got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub seqno: Seqno,
    /// Just past its record.
    pub lsn: Lsn,
}

/// Log bytes of `Memory` commits that wait in memory before the log's thread is asked to write them.
const WRITTEN_FROM_BYTES: u64 = 1 << 20;
/// Log bytes that may wait; a `Memory` commit writes more than that itself.
const UNWRITTEN_LOG_LIMIT_BYTES: u64 = 4 << 20;
/// Commits of this fraction of a group or more are on their way to the disk while they are applied.
const STARTED_FRACTION: usize = 8;
/// The reserve grows in steps of this size, in bytes, or of an eighth to a quarter of what is held if that is more: to
/// grow takes the commit that does it about as long as a hundred others.
const RESERVE_STEP_BYTES: u64 = 1 << 20;
/// Bytes of commits after which their pace is looked at.
const PACE_STEP_BYTES: u64 = 64 << 10;
/// Layers of the view from which on merges are in a hurry, and beyond which commits are slowed down. Large records have
/// almost as many before they are merged.
pub(super) const PACED_FROM_LAYERS: usize = 16;
/// The longest pause, in microseconds.
const PACE_MAX_MICROS: u64 = 20_000;
/// Frozen memtables that may wait for a checkpoint before commits do.
const FROZEN_LIMIT: usize = 2;
/// How often a commit asks the disk for room, if others gave some back meanwhile.
const ROOM_TRIES: u32 = 3;

impl Engine {
    /// Commits encoded operations: `apply` puts them, and nothing else, into the memtable it is given, at the seqno it is
    /// given. With `freeing`, the record may use log space kept for drops.
    pub fn apply(
        &self,
        writer: &mut Writer,
        operations: &[u8],
        freeing: bool,
        apply: impl FnOnce(&Memtable, Seqno) -> Result<()>,
    ) -> Result<Applied> {
        let mut apply = Some(apply);
        if planted(Mistake::AppliedBeforeRoom) && writer.started && !self.log.is_poisoned() {
            let seqno = Seqno(writer.last_seqno.get() + 1);
            apply.take().map_or(Ok(()), |apply| apply(&writer.active, seqno))?;
        }
        self.admit(writer, operations.len(), freeing)?;
        let Writer { active, last_seqno, .. } = writer;
        self.place(last_seqno, operations, |seqno| {
            apply.map_or(Ok(()), |apply| apply(active, seqno))
        })
    }

    /// The first half of [`Engine::apply`]: makes room, and places nothing. Afterwards the active memtable is the one that
    /// takes the commit.
    pub fn admit(&self, writer: &mut Writer, bytes: usize, freeing: bool) -> Result<()> {
        self.check_writable()?;
        if planted(Mistake::PlacedBeforeRoom) {
            writer.last_seqno = Seqno(writer.last_seqno.get() + 1);
        }
        self.make_room(writer, bytes, freeing)
    }

    /// The second half: `apply` puts the operations into the active memtable. `last_seqno` is the writer's.
    pub fn place(
        &self,
        last_seqno: &mut Seqno,
        operations: &[u8],
        apply: impl FnOnce(Seqno) -> Result<()>,
    ) -> Result<Applied> {
        let placed_already = u64::from(planted(Mistake::PlacedBeforeRoom));
        let seqno = Seqno(last_seqno.get() + 1 - placed_already);
        let now = self.fs.now_micros();
        // From here on the commit has its place; any failure is final.
        let outcome = self.log.append(&self.space, seqno, now, operations).and_then(|lsn| {
            if planted(Mistake::MarkedBeforeApplied) {
                self.log.mark_applied(seqno);
            }
            if operations.len() >= self.options.sizes.group_bytes / STARTED_FRACTION {
                self.log.start_write();
            }
            apply(seqno).map(|()| lsn)
        });
        let lsn = match outcome {
            Ok(lsn) => lsn,
            Err(error) => {
                self.log.poison(std::io::Error::other(error.to_string()));
                return Err(error);
            }
        };
        *last_seqno = seqno;
        self.log.mark_applied(seqno);
        self.counters.commits.add_alone(1);
        Ok(Applied { seqno, lsn })
    }

    /// Commits a spilled transaction: `operations` installs the tables of `runs` (oldest first), which
    /// are synced. What came before lies below them, what comes after above.
    pub fn install(
        &self,
        writer: &mut Writer,
        operations: &[u8],
        make_runs: impl FnOnce(Seqno) -> Vec<Arc<Run>>,
    ) -> Result<Applied> {
        self.check_writable()?;
        self.make_room(writer, operations.len(), false)?;
        self.wait_for_memory(false)?;
        self.archive_installed(operations)?;
        self.freeze(writer);
        let seqno = Seqno(writer.last_seqno.get() + 1);
        let now = self.fs.now_micros();
        let lsn = match self.log.append(&self.space, seqno, now, operations) {
            Ok(lsn) => lsn,
            Err(error) => {
                self.log.poison(std::io::Error::other(error.to_string()));
                return Err(error);
            }
        };
        writer.last_seqno = seqno;
        let after = self.log.boundary();
        let runs = make_runs(seqno);
        let layer = PendingLayer::Installed(runs.clone());
        let mut due = Some(Pending { layer, lsn: after, seqno });
        let mut make_due = || self.pending.lock().extend(due.take());
        if planted(Mistake::DueBeforeApplied) {
            make_due();
        }
        self.change_view(|layers| {
            for run in &runs {
                layers.insert(1, Layer::Run(run.clone()));
            }
        });
        self.log.mark_applied(seqno);
        // Not before: what is published may be merged with older runs at once, and readers who do not see
        // this commit yet would miss those.
        make_due();
        writer.active_from = after;
        self.counters.commits.add_alone(1);
        self.background.wake_flusher();
        Ok(Applied { seqno, lsn })
    }

    /// Copies the tables that `operations` install to the archive, if there is one.
    fn archive_installed(&self, operations: &[u8]) -> Result<()> {
        if !self.space.has_archive() {
            return Ok(());
        }
        for operation in Operations::new(operations).map_while(Result::ok) {
            let Operation::InstallTable { meta } = operation else { continue };
            let mut input = meta;
            if let Some(meta) = TableMeta::decode(&mut input) {
                self.space.archive_table(&self.dir.join(names::table_name(meta.file_id)))?;
            }
        }
        Ok(())
    }

    /// Waits until a commit is as durable as it asked to be, and makes it visible.
    pub fn settle(&self, applied: Applied, durability: Durability) -> Result<()> {
        if planted(Mistake::ShownBeforeSync) {
            self.log.show(applied.seqno)?;
        }
        match durability {
            Durability::Sync => self.log.flush(applied.lsn, Reach::Durable)?,
            Durability::Buffered => {
                self.log.flush(applied.lsn, Reach::Written)?;
                self.log.show(applied.seqno)?;
            }
            Durability::Memory => {
                let unwritten_bytes = self.log.unwritten_bytes(applied.lsn);
                if unwritten_bytes > UNWRITTEN_LOG_LIMIT_BYTES {
                    self.log.flush(applied.lsn, Reach::Written)?;
                } else if unwritten_bytes > WRITTEN_FROM_BYTES {
                    self.background.write_log();
                }
                self.log.show(applied.seqno)?;
            }
        }
        self.after_commit(applied.lsn)
    }

    /// A commit that changed nothing makes what it read, which lies before `read_to`, as durable as it
    /// asked to be itself.
    pub fn settle_read(&self, read_to: Lsn, durability: Durability) -> Result<()> {
        match durability {
            Durability::Sync => self.log.flush(read_to, Reach::Durable),
            Durability::Buffered => self.log.flush(read_to, Reach::Written),
            Durability::Memory => Ok(()),
        }
    }

    /// What is due after a commit: wakes the threads that do it, or does it here if there are none.
    pub fn after_commit(&self, lsn: Lsn) -> Result<()> {
        if self.options.background {
            if self.space.wants_more(lsn) {
                self.background.wake_log();
            }
            self.background.note_commit();
            return Ok(());
        }
        // The commit stands; what follows it is tried again later if it fails.
        let _ = self.run_due();
        Ok(())
    }

    /// Makes sure that memory, log and reserve have room for a commit of `bytes` of operations.
    fn make_room(&self, writer: &mut Writer, bytes: usize, freeing: bool) -> Result<()> {
        match (writer.started, freeing) {
            (true, _) => {}
            (false, true) => self.start_epoch_freeing(writer)?,
            (false, false) => self.start_epoch(writer)?,
        }
        self.pace(writer, bytes);
        let mut end = self.log.end_block();
        let own_log = end.get().saturating_sub(writer.active_from.get());
        let live_log = writer.older_log_bytes + own_log;
        let mut active_bytes = writer.active.bytes();
        let large =
            active_bytes > self.options.active_limit() || live_log > self.options.live_log_limit();
        if large {
            if self.wait_for_memory(freeing)? {
                self.freeze(writer);
                self.background.wake_flusher();
                active_bytes = writer.active.bytes();
            }
            end = self.log.end_block();
        }
        let reserve = |claim| self.space.reserve(end, bytes as u64, claim);
        if freeing {
            return self.insist(|| reserve(Claim::Freeing)).map_err(|e| self.or_poison(e));
        }
        self.keep_reserve(active_bytes + bytes)?;
        let outcome = self.with_room(reserve).map_err(|e| self.or_poison(e));
        if let Err(Error::NoSpace { .. }) = &outcome {
            // Others may need what was kept for a commit that is not made.
            let _ = self.shrink_reserve(active_bytes);
        }
        outcome
    }

    /// What a commit needs on the disk, again if others gave room back: removed tables, or who made some.
    pub(super) fn with_room(&self, attempt: impl Fn(Claim) -> Result<()>) -> Result<()> {
        let mut claim = Claim::Commit;
        for _ in 1..ROOM_TRIES {
            let ended = self.space.reserve.ended_wants();
            let outcome = attempt(claim);
            if !matches!(outcome, Err(Error::NoSpace { .. })) {
                return outcome;
            }
            if self.outwait() {
                claim = Claim::Waited;
            } else if !self.remover.run() && self.space.reserve.ended_wants() == ended {
                return outcome;
            }
        }
        attempt(claim)
    }

    /// A failed sync is final, also one of a table that is thrown away: what else it covered is unknown.
    pub fn or_poison_if_sync(&self, error: Error) -> Error {
        match &error {
            Error::Io { action: "sync", .. } => self.or_poison(error),
            _ => error,
        }
    }

    /// Slows commits down a little, by their bytes, while merges lag behind: the more runs there are, the
    /// more. So the runs stay few enough to read through, and no commit waits for a whole merge.
    fn pace(&self, writer: &mut Writer, bytes: usize) {
        writer.unpaced_bytes += bytes as u64;
        if writer.unpaced_bytes < PACE_STEP_BYTES || !self.options.background {
            return;
        }
        let kibibytes = std::mem::take(&mut writer.unpaced_bytes) >> 10;
        let excess = self.view.load().layers.len().saturating_sub(PACED_FROM_LAYERS).min(64) as u64;
        if excess > 0 {
            // At one layer too many about 1 GiB/s may pass, at twenty about 50 MiB/s.
            let pause = Duration::from_micros((kibibytes * excess).min(PACE_MAX_MICROS));
            self.counters.stall_micros.add(pause.as_micros() as u64);
            sleep(pause);
        }
    }

    /// An I/O error while log space is made ready may be a failed sync: final.
    pub fn or_poison(&self, error: Error) -> Error {
        if let Error::Io { cause, .. } = &error {
            self.log.poison(std::io::Error::new(cause.kind(), error.to_string()));
        }
        error
    }

    /// Keeps enough disk for a checkpoint of everything in memory.
    fn keep_reserve(&self, active_bytes: usize) -> Result<()> {
        let bytes = self.wanted_reserve(active_bytes);
        let step_bytes = (1 << (bytes / 4).ilog2()).max(RESERVE_STEP_BYTES);
        let wished_bytes = match bytes {
            RESERVE_MIN_BYTES => bytes,
            _ => bytes.next_multiple_of(step_bytes),
        };
        self.with_room(|claim| self.space.reserve.grow(bytes, wished_bytes, claim))
    }

    /// Gives back what the reserve holds beyond that.
    pub fn shrink_reserve(&self, active_bytes: usize) -> Result<()> {
        self.space.reserve.shrink(self.wanted_reserve(active_bytes))
    }

    /// How much the reserve should hold, in bytes.
    pub fn wanted_reserve(&self, active_bytes: usize) -> u64 {
        let held = active_bytes as u64 + self.frozen_bytes.load(Ordering::Acquire);
        if held < (RESERVE_MIN_BYTES - RESERVE_EPOCH_BYTES) / 2 {
            return RESERVE_MIN_BYTES;
        }
        (held + held / 8 + RESERVE_EPOCH_BYTES).next_multiple_of(RESERVE_STEP_BYTES)
    }

    /// `pending` has changed: every commit asks what it takes, and is spared the lock.
    pub fn note_frozen(&self, pending: &VecDeque<Pending>) {
        let layers = pending.iter().map(|entry| match &entry.layer {
            PendingLayer::Frozen(memtable) => memtable.bytes() as u64,
            PendingLayer::Installed(_) => 0,
        });
        self.frozen_bytes.store(layers.sum(), Ordering::Release);
    }

    /// Waits while too many frozen memtables wait for their checkpoint, which the flusher is at, or tries
    /// again after a pause. False if there is no room for one more, and what frees room goes on without.
    fn wait_for_memory(&self, freeing: bool) -> Result<bool> {
        let frozen = |pending: &VecDeque<Pending>| {
            pending.iter().filter(|p| matches!(p.layer, PendingLayer::Frozen(_))).count()
        };
        if !self.options.background || !self.background.is_running() {
            while frozen(&self.pending.lock()) >= FROZEN_LIMIT {
                self.flush_oldest()?;
            }
            return Ok(true);
        }
        let mut pending = self.pending.lock();
        if frozen(&pending) < FROZEN_LIMIT {
            return Ok(true);
        }
        self.counters.stalls.add(1);
        let started = self.fs.monotonic();
        while frozen(&pending) >= FROZEN_LIMIT {
            self.log.check()?;
            self.check_open()?;
            match &*self.flush_failure.lock() {
                None => {}
                Some(Error::NoSpace { .. }) if freeing => return Ok(false),
                Some(Error::NoSpace { .. }) => {
                    return Err(Error::NoSpace {
                        what: "the checkpoint that must come before a commit",
                    });
                }
                Some(failure) => return Err(failure.clone()),
            }
            self.pending_done.wait_for(&mut pending, Duration::from_millis(100));
        }
        drop(pending);
        let waited = self.fs.monotonic().saturating_sub(started);
        self.counters.stall_micros.add(waited.as_micros() as u64);
        Ok(true)
    }

    /// Freezes the active memtable at a group boundary. Does nothing if it is empty.
    pub fn freeze(&self, writer: &mut Writer) {
        if writer.active.is_empty() && !self.log_moved(writer) {
            return;
        }
        let lsn = self.log.boundary();
        let next = Arc::new(MemoryLayer::with_pool(&self.chunks));
        let frozen = std::mem::replace(&mut writer.active, next);
        let active = writer.active.clone();
        let layer = PendingLayer::Frozen(frozen);
        let mut due = Some(Pending { layer, lsn, seqno: writer.last_seqno });
        let mut make_due = || {
            let mut pending = self.pending.lock();
            pending.extend(due.take());
            self.note_frozen(&pending);
        };
        if planted(Mistake::DueBeforeReplaced) {
            make_due();
        }
        self.change_view(|layers| layers.insert(0, Layer::Memory(active)));
        // Not before: a memtable without entries goes from the view as soon as it is published, and it may be
        // the only layer.
        make_due();
        writer.active_from = lsn;
        writer.older_log_bytes = 0;
    }

    /// Whether the log holds something since the active memtable was made (drops and witnesses leave no
    /// entries).
    fn log_moved(&self, writer: &Writer) -> bool {
        writer.started && self.log.end() > writer.active_from
    }
}
