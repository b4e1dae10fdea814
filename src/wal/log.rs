//! The log buffer: where commits are placed, and how what has gathered is written and synced once.
//!
//! A commit appends its record under the writer's gate: the record's place in the endless log is decided
//! there and then ([`Log::append`]). The bytes are written later, by whoever needs them on disk first,
//! the *leader* (see [`super::flush`]).
//!
//! Invariants:
//! 1. Groups are written in LSN order and linked: each names the group before it and its CRC.
//! 2. A group that is placed after a sync took its groups starts on a fresh 4 KiB block, and that sync
//!    pads its own last block with zeros: the block of an acknowledged commit is never written again.
//! 3. A group lies in one segment whose successor is ready.
//! 4. The durable LSN only grows, and only after every segment that a flush wrote was synced.
//! 5. After a failed write or sync the log is poisoned: nothing is acknowledged any more.

use super::buffer::{Buffer, align_up};
use super::flush::{FlushState, Reach};
use super::group::GROUP_HEADER_BYTES;
use super::record;
use super::rhythm::Rhythm;
use super::space::{LogSpace, Segment};
use crate::error::{Error, Result};
use crate::mistakes::{Mistake, planted};
use crate::pacer::Pacer;
use crate::stats::Counters;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, in_one_order};
use crate::types::{Epoch, Generation, Lsn, Seqno};
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// The log of one open database.
#[derive(Debug)]
pub struct Log {
    pub(super) buffer: Mutex<Buffer>,
    pub(super) flush: Mutex<FlushState>,
    pub(super) flushed: Condvar,
    pub(super) poisoned: AtomicBool,
    pub(super) durable: AtomicU64,
    /// As [`FlushState::written`], for who only wants to know about how far it is.
    pub(super) written: AtomicU64,
    /// No record lies behind this, nor does the next group start there. Stored with the buffer's lock held.
    end_block: AtomicU64,
    pub(super) durable_seqno: AtomicU64,
    /// Commits up to here are in the memtable. A commit is in the log first, and may be durable before.
    applied: AtomicU64,
    /// Commits up to here are visible to readers.
    visible: AtomicU64,
    pub(super) rhythm: Rhythm,
    /// What the writing of tables knows of the log.
    pub pacer: Arc<Pacer>,
    pub(super) counters: Arc<Counters>,
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
            written: AtomicU64::new(0),
            end_block: AtomicU64::new(0),
            durable_seqno: AtomicU64::new(seqno.get()),
            applied: AtomicU64::new(seqno.get()),
            visible: AtomicU64::new(seqno.get()),
            rhythm: Rhythm::default(),
            pacer: Arc::new(Pacer::new(counters.clone())),
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
        self.note_end(&buffer);
        let mut flush = self.flush.lock();
        flush.written = first;
        self.written.store(first.get(), Ordering::Relaxed);
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
        Ok(self.note_end(&buffer))
    }

    fn note_end(&self, buffer: &Buffer) -> Lsn {
        let end = buffer.end();
        self.end_block.store(align_up(end).get(), Ordering::Relaxed);
        end
    }

    /// For those who write tables. `None` where nothing is handed to the disk before a sync asks for it.
    pub fn pacer(&self) -> Option<&Arc<Pacer>> {
        cfg!(target_os = "linux").then_some(&self.pacer)
    }

    /// Bytes that are usually written from one sync to the next.
    pub fn synced_bytes(&self) -> u64 {
        self.rhythm.usual_bytes()
    }

    /// How much lies behind what was written, up to `lsn`, in bytes.
    pub fn unwritten_bytes(&self, lsn: Lsn) -> u64 {
        lsn.get().saturating_sub(self.written.load(Ordering::Relaxed))
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

    /// The LSN just past the last record.
    pub fn end(&self) -> Lsn {
        self.buffer.lock().end()
    }

    /// The end of the block in which [`Log::end`] lies: what [`LogSpace::reserve`] counts from. Exact under the
    /// writer's gate.
    pub fn end_block(&self) -> Lsn {
        Lsn(self.end_block.load(Ordering::Relaxed))
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

    pub(super) fn show_applied(&self, seqno: Seqno) {
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

    /// Whether somebody is at work on the log, and others may wait for that.
    pub fn is_flushing(&self) -> bool {
        self.flush.lock().leader
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
            self.note_end(&buffer)
        };
        self.flush(target, Reach::Durable)
    }
}

#[cfg(all(test, not(loom)))]
#[path = "log_tests.rs"]
mod tests;
