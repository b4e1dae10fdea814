//! The log buffer: where commits are placed, and how what has gathered is written and synced once.
//!
//! A commit appends its record under the writer's gate: the record's place in the endless log is decided
//! there and then ([`Log::append`]). The bytes are written later, by whoever needs them on disk first,
//! the *leader* ([`Log::flush`]); everybody else whose record was taken along waits. At most one leader
//! is at work.
//!
//! Invariants:
//! 1. Groups are written in LSN order and linked: each names the group before it and its CRC.
//! 2. A group that is placed after a sync took its groups starts on a fresh 4 KiB block, and that sync
//!    pads its own last block with zeros: the block of an acknowledged commit is never written again.
//! 3. A group lies in one segment whose successor is ready.
//! 4. The durable LSN only grows, and only after every segment that a flush wrote was synced.
//! 5. After a failed write or sync the log is poisoned: nothing is acknowledged any more.

use super::buffer::{Buffer, align_up, note};
use super::group::{BLOCK_BYTES, GROUP_HEADER_BYTES, GroupHeader, body_crc};
use super::record;
use super::rhythm::Rhythm;
use super::space::{LogSpace, Segment};
use crate::error::{Error, Result};
use crate::fs::{self, Barrier};
use crate::mistakes::{Mistake, planted};
use crate::stats::Counters;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, in_one_order, yield_now};
use crate::types::{Epoch, Generation, Lsn, Seqno};
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// How far a flush goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Handed to the operating system.
    Written,
    /// Synced.
    Durable,
}

/// The log of one open database.
#[derive(Debug)]
pub struct Log {
    buffer: Mutex<Buffer>,
    flush: Mutex<FlushState>,
    flushed: Condvar,
    poisoned: AtomicBool,
    durable: AtomicU64,
    durable_seqno: AtomicU64,
    /// Commits up to here are in the memtable. A commit is in the log first, and may be durable before.
    applied: AtomicU64,
    /// Commits up to here are visible to readers.
    visible: AtomicU64,
    rhythm: Rhythm,
    counters: Arc<Counters>,
}

/// How far the log is on disk, and who is at work on it.
#[derive(Debug, Default)]
struct FlushState {
    leader: bool,
    written: Lsn,
    durable: Lsn,
    /// The group before the next one, and its body's CRC.
    previous: Option<(Lsn, u32)>,
    /// What group headers vouch for: the end of the last durable group, rounded up to its block.
    vouched: Lsn,
    /// Where the last witness group ended: if that is `vouched`, there is nothing to witness.
    witnessed: Lsn,
    poison: Option<Arc<io::Error>>,
    waiters: usize,
    last_batch_waiters: usize,
    wakers: Vec<(Lsn, Waker)>,
}

impl Log {
    /// A log that takes nothing before [`Log::start`].
    pub fn new(counters: Arc<Counters>, seqno: Seqno) -> Log {
        Log {
            buffer: Mutex::new(Buffer { last_seqno: seqno, ..Buffer::default() }),
            flush: Mutex::new(FlushState::default()),
            flushed: Condvar::new(),
            poisoned: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            durable_seqno: AtomicU64::new(seqno.get()),
            applied: AtomicU64::new(seqno.get()),
            visible: AtomicU64::new(seqno.get()),
            rhythm: Rhythm::default(),
            counters,
        }
    }

    /// Starts an epoch at the first group of `segment`. The manifest that names the epoch is durable.
    pub fn start(&self, segment: Arc<Segment>, epoch: Epoch, salt: u64, generation: Generation) {
        let mut buffer = self.buffer.lock();
        let first = segment.first_group();
        buffer.segment = Some(segment);
        buffer.start = first;
        buffer.position = first;
        buffer.last_group_end = first;
        buffer.unpadded = None;
        buffer.align = false;
        buffer.epoch = epoch;
        buffer.salt = salt;
        buffer.generation = generation;
        let mut flush = self.flush.lock();
        flush.written = first;
        flush.durable = first;
        flush.vouched = first;
        flush.witnessed = first;
        flush.previous = None;
        self.durable.store(first.get(), Ordering::Release);
    }

    /// Places one transaction's operations in the log and returns the LSN just past it. The room was
    /// reserved. Called under the writer's gate only.
    pub fn append(
        &self,
        space: &LogSpace,
        seqno: Seqno,
        time_micros: u64,
        operations: &[u8],
    ) -> Result<Lsn> {
        let mut buffer = self.buffer.lock();
        let whole = record::commit_record_bytes(operations.len());
        if whole <= space.sizes.group_bytes - GROUP_HEADER_BYTES {
            let group = buffer.room_for(space, whole)?;
            record::put_commit(&mut group.bytes, seqno, time_micros, operations);
        } else {
            let piece_bytes = space.sizes.group_bytes
                - GROUP_HEADER_BYTES
                - record::FINAL_FRAGMENT_OVERHEAD_BYTES;
            let count = operations.len().div_ceil(piece_bytes);
            for (index, piece) in operations.chunks(piece_bytes).enumerate() {
                let needed = piece.len() + record::FINAL_FRAGMENT_OVERHEAD_BYTES;
                let group = buffer.room_for(space, needed)?;
                let number = index as u32;
                if index + 1 < count {
                    record::put_fragment(&mut group.bytes, seqno, number, piece);
                } else {
                    let total = operations.len() as u64;
                    let out = &mut group.bytes;
                    record::put_final_fragment(out, seqno, time_micros, number, total, piece);
                }
            }
        }
        buffer.last_seqno = seqno;
        buffer.pending_bytes += whole;
        Ok(buffer.end())
    }

    /// Bytes that are usually written from one sync to the next.
    pub fn synced_bytes(&self) -> u64 {
        self.rhythm.usual_bytes()
    }

    /// Bytes appended and not yet written.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.lock().pending_bytes
    }

    /// Where this epoch's first group starts; zero before there is one.
    pub fn start_lsn(&self) -> Lsn {
        self.buffer.lock().start
    }

    /// Ends the open group, so that the next commit starts a new one on a fresh block, and returns the LSN
    /// from which a replay finds that one. Called under the writer's gate.
    pub fn boundary(&self) -> Lsn {
        let mut buffer = self.buffer.lock();
        buffer.close();
        buffer.align = true;
        buffer.next_start()
    }

    /// The LSN just past the last record: what [`LogSpace::reserve`] counts from.
    pub fn end(&self) -> Lsn {
        self.buffer.lock().end()
    }

    /// The last commit that is durable, and can be read.
    pub fn durable_seqno(&self) -> Seqno {
        let durable = self.durable_seqno.load(Ordering::SeqCst);
        Seqno(durable.min(self.applied.load(Ordering::SeqCst)))
    }

    /// A commit is in the memtable: from now on it may be shown.
    pub fn mark_applied(&self, seqno: Seqno) {
        self.applied.store(seqno.get(), Ordering::SeqCst);
        // A flush that took the record along before this could not show it; either it sees what was
        // just stored, or this sees what it stored.
        in_one_order();
        if self.durable_seqno.load(Ordering::SeqCst) >= seqno.get() && !self.is_poisoned() {
            self.show_applied(seqno);
        }
    }

    /// The last commit that readers see.
    #[inline]
    pub fn visible(&self) -> Seqno {
        Seqno(self.visible.load(Ordering::Acquire))
    }

    /// Lets readers see all commits up to `seqno` that are applied, unless the log is poisoned.
    ///
    /// # Errors
    /// [`Error::Poisoned`]: nothing was shown.
    pub fn show(&self, seqno: Seqno) -> Result<()> {
        self.check()?;
        self.show_applied(seqno);
        Ok(())
    }

    fn show_applied(&self, seqno: Seqno) {
        let seqno = seqno.get().min(self.applied.load(Ordering::SeqCst));
        self.visible.fetch_max(seqno, Ordering::AcqRel);
    }

    /// The generation that group headers name; it is durable.
    pub fn set_generation(&self, generation: Generation) {
        self.buffer.lock().generation = generation;
    }

    /// Whether the log failed.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// An error if the log failed.
    pub fn check(&self) -> Result<()> {
        if self.is_poisoned() && !planted(Mistake::PublishedAfterFailure) {
            let cause = self.flush.lock().poison.clone();
            let cause = cause.unwrap_or_else(|| Arc::new(io::Error::other("the log failed")));
            return Err(Error::Poisoned { cause });
        }
        Ok(())
    }

    /// Fails the log for good.
    pub fn poison(&self, cause: io::Error) {
        let mut state = self.flush.lock();
        self.poisoned.store(true, Ordering::Release);
        state.poison.get_or_insert_with(|| Arc::new(cause));
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.flushed.notify_all();
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Registers a waker for the moment when `lsn` is durable or the log failed. Returns true if that
    /// moment has passed.
    pub fn wake_when_durable(&self, lsn: Lsn, waker: &Waker) -> bool {
        let mut state = self.flush.lock();
        if state.poison.is_some() || state.durable >= lsn {
            return true;
        }
        match state.wakers.iter_mut().find(|(at, known)| *at == lsn && known.will_wake(waker)) {
            Some(_) => {}
            None => state.wakers.push((lsn, waker.clone())),
        }
        false
    }

    /// Whether the last durable groups still lack a witness.
    pub fn lacks_witness(&self) -> bool {
        let state = self.flush.lock();
        state.poison.is_none() && state.witnessed != state.vouched
    }

    /// Writes an empty group that vouches for everything durable, and syncs it. If commits are waiting
    /// to be written, they are written instead; they vouch as well.
    pub fn write_witness(&self, space: &LogSpace) -> Result<()> {
        self.check()?;
        let target = {
            let mut buffer = self.buffer.lock();
            if buffer.groups.is_empty() {
                let group = buffer.room_for(space, record::WITNESS_RECORD_BYTES)?;
                record::put_witness(&mut group.bytes);
                group.witness = true;
            }
            buffer.end()
        };
        self.flush(target, Reach::Durable)
    }

    /// Waits until everything below `target` is written or durable; leads the flush if nobody does.
    pub fn flush(&self, target: Lsn, reach: Reach) -> Result<()> {
        let mut state = self.flush.lock();
        loop {
            if let Some(cause) = &state.poison {
                return Err(Error::Poisoned { cause: cause.clone() });
            }
            let reached = match reach {
                Reach::Written => state.written,
                Reach::Durable => state.durable,
            };
            if reached >= target {
                return Ok(());
            }
            if !state.leader {
                break;
            }
            state.waiters += 1;
            self.flushed.wait(&mut state);
            state.waiters -= 1;
        }
        state.leader = true;
        let previous = state.previous;
        let vouched = state.vouched;
        let expected = state.last_batch_waiters;
        drop(state);
        if reach == Reach::Durable && expected > 0 {
            self.gather(expected);
        }

        let panicking = LeaderPanics(self);
        let outcome = self.lead(reach, previous, vouched);
        std::mem::forget(panicking);

        let mut state = self.flush.lock();
        state.leader = false;
        state.last_batch_waiters = state.waiters;
        // A sync elsewhere may have failed meanwhile; nothing is acknowledged after that.
        let outcome = match outcome {
            Ok(_) if state.poison.is_some() => {
                Err(io::Error::other("another sync failed meanwhile"))
            }
            outcome => outcome,
        };
        let outcome = match outcome {
            Ok(done) => {
                state.previous = done.previous;
                state.written = state.written.max(done.end);
                if reach == Reach::Durable {
                    state.durable = state.durable.max(done.end);
                    state.vouched = done.vouched;
                    if done.only_witness {
                        state.witnessed = done.vouched;
                    }
                    self.durable.store(state.durable.get(), Ordering::Release);
                    self.durable_seqno.fetch_max(done.last_seqno.get(), Ordering::SeqCst);
                    in_one_order();
                    self.show_applied(done.last_seqno);
                }
                Ok(())
            }
            Err(cause)
                if planted(Mistake::LogGoesOnAfterFailure)
                    || (planted(Mistake::FullLogGoesOn)
                        && cause.kind() == io::ErrorKind::StorageFull) =>
            {
                Err(Error::Poisoned { cause: Arc::new(cause) })
            }
            Err(cause) => {
                self.poisoned.store(true, Ordering::Release);
                let cause = state.poison.get_or_insert_with(|| Arc::new(cause)).clone();
                Err(Error::Poisoned { cause })
            }
        };
        let reached = if outcome.is_ok() { state.durable } else { Lsn::MAX };
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.wakers).into_iter().partition(|(lsn, _)| *lsn <= reached);
        state.wakers = later;
        drop(state);
        self.flushed.notify_all();
        due.into_iter().for_each(|(_, waker)| waker.wake());
        outcome
    }

    /// Gives the committers of the last batch a moment to join this one: they were woken when the last
    /// sync ended and are about to append.
    fn gather(&self, expected: usize) {
        let records_now =
            || self.buffer.lock().groups.iter().map(|g| g.records as usize).sum::<usize>();
        let mut seen = records_now();
        for _ in 0..GATHER_ROUNDS {
            if seen > expected {
                break;
            }
            yield_now();
            let now = records_now();
            if now == seen {
                break;
            }
            seen = now;
        }
    }

    /// Writes everything that has gathered, and syncs it if asked.
    fn lead(&self, reach: Reach, previous: Option<(Lsn, u32)>, vouched: Lsn) -> io::Result<Done> {
        let mut taken = self.buffer.lock().take(reach);
        if planted(Mistake::AcknowledgedBeforeSync) && reach == Reach::Durable {
            for segment in taken.unsynced.drain(..) {
                fs::sync_data(&*segment.file, Barrier::LogCommit)?;
            }
        }
        if let Some((segment, from)) = taken.pad.take() {
            let zeros = [0_u8; BLOCK_BYTES as usize];
            let bytes = &zeros[..(align_up(from).get() - from.get()) as usize];
            fs::write_full(&*segment.file, bytes, from.get() - segment.base.get())?;
        }
        let mut previous = previous;
        let mut recycled = Vec::with_capacity(taken.groups.len());
        let only_witness = taken.groups.len() == 1 && taken.groups[0].witness;
        let mut written_bytes = 0;
        let mut groups = taken.groups.into_iter().peekable();
        while let Some(mut group) = groups.next() {
            let end = group.end();
            let body = &group.bytes[GROUP_HEADER_BYTES..];
            let header = GroupHeader {
                lsn: group.lsn,
                epoch: taken.epoch,
                salt: taken.salt,
                durable: if planted(Mistake::VouchesForUnsynced) { group.lsn } else { vouched },
                previous: previous.map_or(group.lsn, |(lsn, _)| lsn),
                previous_crc: previous.map_or(0, |(_, crc)| crc),
                generation: taken.generation,
                body_bytes: body.len() as u32,
                body_crc: body_crc(group.lsn, taken.salt, body),
                records: group.records,
            };
            group.bytes[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode());
            // Up to the next group in this segment; the last block before a sync is padded whole.
            let written_end = match groups.peek() {
                Some(next) if next.segment.base == group.segment.base => next.lsn,
                None if reach == Reach::Written || planted(Mistake::PaddingLeftOut) => end,
                _ => align_up(end),
            };
            group.bytes.resize((written_end.get() - group.lsn.get()) as usize, 0);
            let offset = group.lsn.get() - group.segment.base.get();
            fs::write_full(&*group.segment.file, &group.bytes, offset)?;
            written_bytes += group.bytes.len() as u64;
            self.counters.groups.add(1);
            previous = Some((group.lsn, header.body_crc));
            note(&mut taken.unsynced, group.segment);
            recycled.push(group.bytes);
        }
        if reach == Reach::Durable && !planted(Mistake::AcknowledgedBeforeSync) {
            if planted(Mistake::OnlyLastSegmentSynced) && taken.unsynced.len() > 1 {
                taken.unsynced.drain(..taken.unsynced.len() - 1);
            }
            for segment in taken.unsynced.drain(..) {
                match fs::sync_data(&*segment.file, Barrier::LogCommit) {
                    Err(_) if planted(Mistake::SyncResultIgnored) => {}
                    Err(_) if planted(Mistake::FailedSyncRetried) => {
                        fs::sync_data(&*segment.file, Barrier::LogCommit)?;
                    }
                    outcome => outcome?,
                }
                self.counters.syncs.add(1);
            }
        }
        self.counters.log_bytes.add(written_bytes);
        self.rhythm.note(written_bytes, reach == Reach::Durable);
        let mut buffer = self.buffer.lock();
        buffer.give_back(recycled);
        // Nobody else leads, so that nothing was added to it meanwhile.
        buffer.unsynced = taken.unsynced;
        Ok(Done {
            previous,
            end: taken.end,
            vouched: taken.vouched,
            last_seqno: taken.last_seqno,
            only_witness,
        })
    }
}

/// A leader that panics (our own bug) must not leave the others waiting for ever: what it wrote is unknown,
/// and the log is poisoned.
struct LeaderPanics<'a>(&'a Log);

impl Drop for LeaderPanics<'_> {
    fn drop(&mut self) {
        let log = self.0;
        let mut state = log.flush.lock();
        state.leader = false;
        log.poisoned.store(true, Ordering::Release);
        state.poison.get_or_insert_with(|| Arc::new(io::Error::other("a flush panicked")));
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        log.flushed.notify_all();
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

struct Done {
    previous: Option<(Lsn, u32)>,
    end: Lsn,
    vouched: Lsn,
    last_seqno: Seqno,
    only_witness: bool,
}

/// How often a leader yields to committers that are about to join it.
const GATHER_ROUNDS: usize = 32;

#[cfg(all(test, not(loom)))]
#[path = "log_tests.rs"]
mod tests;
