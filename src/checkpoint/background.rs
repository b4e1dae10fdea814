//! The engine's threads: one publishes frozen memtables, one merges, one keeps room and a witness in the
//! log. They start with the first write, or with the open if there is something to merge, and end with the close.
//!
//! Each sleeps until it is woken or its time has come, does what is due, and looks again. An error that
//! is not final (a full disk) is tried again after a pause; the commit path reports what it means for
//! commits.

use super::merge::gave_way;
use crate::engine::{Engine, Writer};
use crate::error::{Error, Result};
use crate::fs::Join;
use crate::sync::engine::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering};
use crate::types::Lsn;
use crate::wal::flush::Reach;
use crate::wal::reserve::Claim;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The threads and how they are woken.
#[derive(Default)]
pub struct Background {
    shared: Arc<Shared>,
    threads: Mutex<Vec<Box<dyn Join>>>,
    engine: Mutex<Weak<Engine>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    flusher: Bell,
    merger: Bell,
    log: Bell,
    tickets: AtomicBool,
    /// Much of the log waits to be written.
    unwritten: AtomicBool,
    /// The merger may merge what is due while nobody writes.
    resting: AtomicBool,
    /// Bumped by each commit; tells the log thread whether it is idle.
    commits: AtomicU64,
    /// The log thread sleeps until it is woken; otherwise it looks again by itself.
    log_asleep: AtomicBool,
}

impl std::fmt::Debug for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Background").field("threads", &self.threads.lock().len()).finish()
    }
}

/// Wakes one thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    condvar: Condvar,
}

impl Bell {
    fn ring(&self) {
        let mut rung = self.rung.lock();
        if !*rung {
            *rung = true;
            self.condvar.notify_one();
        }
    }

    /// Waits until it is rung; returns whether it was, rather than the time having passed.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let mut rung = self.rung.lock();
        if !*rung {
            match limit {
                Some(limit) => {
                    self.condvar.wait_for(&mut rung, limit);
                }
                None => self.condvar.wait(&mut rung),
            }
        }
        std::mem::take(&mut *rung)
    }
}

/// What a thread does.
type Body = fn(&Engine, &Shared);

/// The log thread looks again no sooner than this while it cannot rest.
const RETRY_LEAST: Duration = Duration::from_millis(10);
/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

impl Background {
    /// The engine whose work it does.
    pub fn attach(&self, engine: &Arc<Engine>) {
        *self.engine.lock() = Arc::downgrade(engine);
    }

    /// Starts the threads, if the options ask for them.
    pub fn start(&self, engine: &Engine) {
        if !engine.options.background {
            return;
        }
        let Some(engine) = self.engine.lock().upgrade() else { return };
        let bodies: [(&str, Body); 3] = [
            ("highwater-flush", run_flusher),
            ("highwater-merge", run_merger),
            ("highwater-log", run_log),
        ];
        let mut threads = self.threads.lock();
        if !threads.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        engine.remover.attach(move || shared.merger.ring());
        let shared = self.shared.clone();
        engine.chunks.attach(move || shared.flusher.ring());
        for (name, body) in bodies {
            let (held, shared) = (engine.clone(), self.shared.clone());
            // Without a thread, commits that must wait for its work do it themselves.
            if let Ok(thread) = engine.fs.spawn(name, Box::new(move || body(&held, &shared))) {
                threads.push(thread);
            }
        }
        if threads.len() < bodies.len() {
            engine.remover.detach();
            engine.chunks.detach();
        }
    }

    /// Stops the threads and waits for them.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.flusher.ring();
        self.shared.merger.ring();
        self.shared.log.ring();
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().for_each(|thread| thread.join());
    }

    /// Whether all threads run.
    pub fn is_running(&self) -> bool {
        self.threads.lock().len() == 3
    }

    /// There is something to flush.
    pub fn wake_flusher(&self) {
        self.shared.flusher.ring();
    }

    /// There may be something to merge.
    pub fn wake_merger(&self) {
        self.shared.merger.ring();
    }

    /// Nobody writes: there is a merge that should be made now.
    fn wake_merger_at_rest(&self) {
        self.shared.resting.store(true, Ordering::Release);
        self.shared.merger.ring();
    }

    /// The log needs room or a sync.
    pub fn wake_log(&self) {
        self.shared.log.ring();
    }

    /// Much of the log waits to be handed to the system, and nobody waits for that.
    #[inline]
    pub fn write_log(&self) {
        let unwritten = &self.shared.unwritten;
        if !unwritten.load(Ordering::Relaxed) && !unwritten.swap(true, Ordering::AcqRel) {
            self.shared.log.ring();
        }
    }

    /// Somebody waits for durability without leading a flush.
    pub fn flush_tickets(&self) {
        self.shared.tickets.store(true, Ordering::Release);
        self.shared.log.ring();
    }

    /// A commit was made.
    #[inline]
    pub fn note_commit(&self) {
        self.shared.commits.fetch_add(1, Ordering::SeqCst);
        // Either this sees that it is asleep, or it sees the commit before it falls asleep.
        if self.shared.log_asleep.load(Ordering::SeqCst) {
            self.shared.log.ring();
        }
    }
}

fn run_flusher(engine: &Engine, shared: &Shared) {
    let mut pause = None;
    loop {
        shared.flusher.wait(pause);
        if shared.stopping.load(Ordering::Acquire) || engine.log.is_poisoned() {
            return;
        }
        engine.chunks.make_next();
        pause = match flush_all_and_wake(engine, shared) {
            Ok(()) => None,
            Err(_) => Some(RETRY_PAUSE),
        };
    }
}

fn flush_all_and_wake(engine: &Engine, shared: &Shared) -> Result<()> {
    while engine.flush_oldest()? {
        shared.merger.ring();
    }
    Ok(())
}

fn run_merger(engine: &Engine, shared: &Shared) {
    merge_until_the_end(engine, shared);
    engine.remover.detach();
}

fn merge_until_the_end(engine: &Engine, shared: &Shared) {
    let (mut pause, mut resting) = (None, false);
    loop {
        shared.merger.wait(pause);
        loop {
            // Taken before the look, so that a rest that begins during it is seen by the next.
            resting |= shared.resting.swap(false, Ordering::AcqRel);
            if shared.stopping.load(Ordering::Acquire) || engine.log.is_poisoned() {
                return;
            }
            engine.remover.run();
            match engine.merge_due(resting) {
                Ok(true) => continue,
                Ok(false) => (pause, resting) = (None, false),
                Err(error) => {
                    pause = Some(RETRY_PAUSE);
                    // What gave way is still due; what failed would fail again and again.
                    resting &= gave_way(&error);
                }
            }
            break;
        }
    }
}

fn run_log(engine: &Engine, shared: &Shared) {
    let delay = engine.options.witness_delay;
    // At first as if a commit had been made: what an earlier life left may be merged.
    let mut limit = Some(delay);
    loop {
        shared.log_asleep.store(limit.is_none(), Ordering::SeqCst);
        if limit.is_none() && shared.commits.load(Ordering::SeqCst) > 0 {
            limit = Some(delay);
        }
        let rung = shared.log.wait(limit);
        shared.log_asleep.store(false, Ordering::SeqCst);
        if shared.stopping.load(Ordering::Acquire) || engine.log.is_poisoned() {
            return;
        }
        if shared.tickets.swap(false, Ordering::AcqRel) {
            // Those who wait are told by their wakers, also of a failure.
            let _ = engine.log.flush(engine.log.end(), Reach::Durable);
        }
        if shared.unwritten.load(Ordering::Acquire) {
            // A failure poisons the log, which the next commit tells.
            let _ = engine.log.flush(engine.log.end(), Reach::Written);
            shared.unwritten.store(false, Ordering::Release);
        }
        // Without room here the commit that needs it reports it.
        let _ = engine.prepare_ahead();
        // Who waits for a slow disk is not at rest: the commit counts when it is durable, and the next may follow at once.
        let flushing = engine.log.is_flushing();
        let busy = shared.commits.swap(0, Ordering::AcqRel) > 0;
        if busy || rung || flushing {
            limit = Some(if flushing { delay.max(RETRY_LEAST) } else { delay });
            continue;
        }
        let rested = matches!(engine.rest(), Ok(true));
        let all_seen = shared.commits.load(Ordering::Acquire) == 0;
        limit = if rested && all_seen { None } else { Some(delay.max(RETRY_LEAST)) };
    }
}

impl Engine {
    /// What is due while nobody writes: what an idle log is due, then fewer runs, and the room back that was kept for
    /// more. Also in a life without a write, which touches no log. False if there is something left to do.
    pub fn rest(&self) -> Result<bool> {
        // Not behind the gate: it may read.
        let much_is_dead = self.memory_makes_much_dead();
        // A busy gate means that somebody writes.
        let Some(mut writer) = self.writer.try_lock() else { return Ok(false) };
        self.check_open()?;
        let started = writer.started;
        if started && !self.rest_log(&mut writer, much_is_dead)? {
            return Ok(false);
        }
        drop(writer);
        self.chunks.trim(self.options.resting_chunks_limit());
        // What a life that wrote has made dead is for the merge to look up.
        if self.wants_merge_at_rest() || (started && self.changed_since_rest()) {
            match self.options.background {
                true => self.background.wake_merger_at_rest(),
                false => while self.merge_due(true)? {},
            }
        }
        if started {
            // Behind the gate a close may have passed.
            let _held = self.tenure.hold()?;
            // What cannot be removed now is tried again by the next release, or by the next life.
            let _ = self.space.trim_at_rest(self.table_bytes());
        }
        Ok(true)
    }

    /// A sync of what was not synced yet (tickets that nobody polls among it), a witness for the last commits, a
    /// checkpoint if the log is long or much is dead, and a smaller reserve. False if the checkpoint is still to be made.
    fn rest_log(&self, writer: &mut Writer, much_is_dead: bool) -> Result<bool> {
        let end = self.log.end();
        self.log.flush(end, Reach::Durable)?;
        if self.log.lacks_witness() {
            self.space.reserve(self.log.end(), 0, Claim::Freeing).map_err(|e| self.or_poison(e))?;
            self.log.write_witness(&self.space)?;
        }
        if much_is_dead || self.live_log_bytes() > self.options.resting_log_limit() {
            self.freeze(writer);
            self.background.wake_flusher();
        }
        if !self.pending.lock().is_empty() {
            return Ok(false);
        }
        // Under the gate, so that no commit counts on what is given back. A failure takes nothing away.
        let _ = self.shrink_reserve(writer.active.bytes());
        Ok(true)
    }

    /// Does what is due, on this thread, when there are no background threads.
    pub fn run_due(&self) -> Result<()> {
        self.check_open()?;
        self.flush_all()?;
        while self.merge_due(false)? {}
        if self.space.wants_more(self.log.end()) {
            self.prepare_ahead()?;
        }
        Ok(())
    }

    /// Makes log space ready before a commit needs it. A failed sync is final.
    fn prepare_ahead(&self) -> Result<()> {
        let ahead = self.space.prepare_ahead(self.log.end(), self.log.synced_bytes());
        ahead.map_err(|e| self.or_poison(e))
    }

    /// A checkpoint of everything committed so far. Returns the LSN from which a replay starts.
    pub fn checkpoint(&self) -> Result<Lsn> {
        self.check_writable()?;
        {
            let mut writer = self.writer.lock();
            self.check_open()?;
            if !writer.started {
                if writer.active.is_empty() && self.pending.lock().is_empty() {
                    return Ok(self.published.lock().manifest.checkpoint_lsn);
                }
                self.start_epoch_freeing(&mut writer)?;
            }
            self.freeze(&mut writer);
        }
        if let Err(error) = self.insist(|| self.flush_all()) {
            // It tries again.
            self.background.wake_flusher();
            return Err(error);
        }
        self.background.wake_merger();
        Ok(self.published.lock().manifest.checkpoint_lsn)
    }

    /// A full checkpoint: everything in one base, spare files gone.
    pub fn compact(&self) -> Result<()> {
        self.check_writable()?;
        {
            // Also when there is nothing to merge, old log files are given back.
            let mut writer = self.writer.lock();
            self.check_open()?;
            if !writer.started && self.recovery.has_segments() {
                match self.start_epoch_freeing(&mut writer) {
                    Ok(()) | Err(Error::NoSpace { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.checkpoint()?;
        self.insist_giving_way(|| self.merge_all())?;
        {
            let mut writer = self.writer.lock();
            self.check_open()?;
            if writer.started {
                // On a full disk the log stays as large as it is.
                match self.shrink_log(&mut writer) {
                    Ok(()) | Err(Error::NoSpace { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.shrink_reserve(writer.active.bytes())?;
        }
        // Behind the gate a close may have passed.
        let _held = self.tenure.hold()?;
        self.remover.run();
        self.space.shrink().map_err(|e| self.or_poison_if_sync(e))
    }
}
