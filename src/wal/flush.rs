//! How what has gathered in the log buffer is written and synced once: the *leader* does it, and everybody else
//! whose record was taken along waits. At most one leader is at work.
//!
//! A large commit is written by its own thread before it is applied to the memtable ([`Log::start_write`]): the disk
//! is at work meanwhile, and the sync that follows finds less to do.

use super::buffer::{Written, align_up, note};
use super::group::{BLOCK_BYTES, GROUP_HEADER_BYTES, GroupHeader, body_crc};
use super::log::Log;
use super::ready::Segment;
use crate::error::{Error, Result};
use crate::fs::{self, Barrier};
use crate::mistakes::{Mistake, planted};
use crate::sync::{Ordering, in_one_order, yield_now};
use crate::types::{Lsn, Seqno};
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// How far a flush goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Handed to the operating system.
    Written,
    /// Handed to it, padded as before a sync, and on its way to the disk.
    Started,
    /// Synced.
    Durable,
}

/// How far the log is on disk, and who is at work on it.
#[derive(Debug, Default)]
pub struct FlushState {
    pub leader: bool,
    pub written: Lsn,
    pub durable: Lsn,
    /// The group before the next one, and its body's CRC.
    pub previous: Option<(Lsn, u32)>,
    /// What group headers vouch for: the end of the last durable group, rounded up to its block.
    pub vouched: Lsn,
    /// Where the last witness group ended: if that is `vouched`, there is nothing to witness.
    pub witnessed: Lsn,
    /// The leader's own, between one and the next.
    pub kept: Kept,
    pub poison: Option<Arc<io::Error>>,
    pub waiters: usize,
    pub last_batch_waiters: usize,
    pub wakers: Vec<(Lsn, Waker)>,
}

/// What one leader leaves to the next.
#[derive(Debug, Default)]
pub struct Kept {
    /// Segments that were written and not synced, in the order of the log.
    unsynced: Vec<Arc<Segment>>,
    written: Written,
}

/// What a leader begins with.
struct Turn {
    previous: Option<(Lsn, u32)>,
    vouched: Lsn,
    kept: Kept,
}

impl FlushState {
    fn take_lead(&mut self) -> Turn {
        self.leader = true;
        Turn {
            previous: self.previous,
            vouched: self.vouched,
            kept: std::mem::take(&mut self.kept),
        }
    }
}

impl Log {
    /// Waits until everything below `target` is written or durable; leads the flush if nobody does.
    pub fn flush(&self, target: Lsn, reach: Reach) -> Result<()> {
        let mut state = self.flush.lock();
        loop {
            if let Some(cause) = &state.poison {
                return Err(Error::Poisoned { cause: cause.clone() });
            }
            let reached = match reach {
                Reach::Written | Reach::Started => state.written,
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
        let turn = state.take_lead();
        let expected = state.last_batch_waiters;
        drop(state);
        if reach == Reach::Durable && expected > 0 {
            self.gather(expected);
        }
        self.lead_and_tell(turn, reach)
    }

    /// Hands what has gathered to the operating system and lets it begin to write, if nobody else is at work on the
    /// log. A failure poisons the log, which tells whoever waits for it.
    pub fn start_write(&self) {
        let mut state = self.flush.lock();
        if state.leader || state.poison.is_some() {
            return;
        }
        let turn = state.take_lead();
        drop(state);
        let _ = self.lead_and_tell(turn, Reach::Started);
    }

    /// Leads a flush, and tells everybody how it ended.
    fn lead_and_tell(&self, turn: Turn, reach: Reach) -> Result<()> {
        let panicking = LeaderPanics(self);
        let outcome = self.lead(reach, turn);
        std::mem::forget(panicking);
        if reach == Reach::Durable {
            self.pacer.set_syncing(false);
        }

        let mut state = self.flush.lock();
        state.leader = false;
        if reach != Reach::Started {
            state.last_batch_waiters = state.waiters;
        }
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
                state.kept = done.kept;
                state.written = state.written.max(done.end);
                self.written.store(state.written.get(), Ordering::Relaxed);
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
        let due: Vec<_> = state.wakers.extract_if(.., |(lsn, _)| *lsn <= reached).collect();
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
    fn lead(&self, reach: Reach, turn: Turn) -> io::Result<Done> {
        let Turn { mut previous, vouched, kept: Kept { mut unsynced, mut written } } = turn;
        let mut taken = self.buffer.lock().take(reach, &mut written);
        if planted(Mistake::AcknowledgedBeforeSync) && reach == Reach::Durable {
            for segment in unsynced.drain(..) {
                fs::sync_data(&*segment.file, Barrier::LogCommit)?;
            }
        }
        if let Some((segment, from)) = taken.pad.take() {
            let zeros = [0_u8; BLOCK_BYTES as usize];
            let bytes = &zeros[..(align_up(from).get() - from.get()) as usize];
            fs::write_full(&*segment.file, bytes, from.get() - segment.base.get())?;
        }
        let only_witness = taken.groups.len() == 1 && taken.groups[0].witness;
        let mut written_bytes = 0;
        let mut rest = taken.groups.as_mut_slice();
        while let Some((group, after)) = rest.split_first_mut() {
            rest = after;
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
            let written_end = match rest.first() {
                Some(next) if next.segment.base == group.segment.base => next.lsn,
                None if reach == Reach::Written || planted(Mistake::PaddingLeftOut) => end,
                _ => align_up(end),
            };
            group.bytes.resize((written_end.get() - group.lsn.get()) as usize, 0);
            let offset = group.lsn.get() - group.segment.base.get();
            fs::write_full(&*group.segment.file, &group.bytes, offset)?;
            if reach == Reach::Started {
                group.segment.file.start_writeback(offset, group.bytes.len() as u64);
            }
            written_bytes += group.bytes.len() as u64;
            self.counters.groups.add_alone(1);
            previous = Some((group.lsn, header.body_crc));
            note(&mut unsynced, &group.segment);
        }
        if reach == Reach::Durable && !planted(Mistake::AcknowledgedBeforeSync) {
            self.pacer.set_syncing(true);
            if planted(Mistake::OnlyLastSegmentSynced) && unsynced.len() > 1 {
                unsynced.drain(..unsynced.len() - 1);
            }
            for segment in unsynced.drain(..) {
                match fs::sync_data(&*segment.file, Barrier::LogCommit) {
                    Err(_) if planted(Mistake::SyncResultIgnored) => {}
                    Err(_) if planted(Mistake::FailedSyncRetried) => {
                        fs::sync_data(&*segment.file, Barrier::LogCommit)?;
                    }
                    outcome => outcome?,
                }
                self.counters.syncs.add_alone(1);
            }
        }
        self.counters.log_bytes.add_alone(written_bytes);
        self.rhythm.note(written_bytes, reach == Reach::Durable);
        written.put(taken.groups);
        Ok(Done {
            kept: Kept { unsynced, written },
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
        log.pacer.set_syncing(false);
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
    kept: Kept,
    previous: Option<(Lsn, u32)>,
    end: Lsn,
    vouched: Lsn,
    last_seqno: Seqno,
    only_witness: bool,
}

/// How often a leader yields to committers that are about to join it.
const GATHER_ROUNDS: usize = 32;
