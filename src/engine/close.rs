//! Closing a database: everything committed becomes durable, the manifest vouches for it, the threads end, and the
//! lock is given back.
//!
//! Invariants: one thread closes, once, and everybody hears how it ended; nothing of this engine makes or
//! removes a file of the directory after the lock was given back ([`Tenure`](crate::fs::tenure::Tenure)).

use super::{Engine, Writer};
use crate::error::{Error, Result};
use crate::mistakes::{Mistake, planted};
use crate::sync::engine::Ordering;
use crate::view::View;
use crate::wal::flush::Reach;
use crate::wal::reserve::{RESERVE_EPOCH_BYTES, RESERVE_MIN_BYTES};
use std::sync::Arc;
use std::time::Duration;

/// Segments of earlier lives, each with a little live log, that a close leaves without a checkpoint.
const CLOSE_OLDER_SEGMENTS: usize = 2;
/// How long a close waits for a write transaction of another thread.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// Closes the database: everything committed becomes durable, and the manifest vouches for it. One thread
    /// does it; who comes later waits for it, and hears how it ended.
    pub fn close(&self) -> Result<()> {
        let mut closing = self.closing.lock();
        if let Some(outcome) = &*closing {
            return outcome.clone();
        }
        self.closed.store(true, Ordering::Release);
        let Some(mut writer) = self.writer.try_lock_for(CLOSE_PATIENCE) else {
            self.closed.store(false, Ordering::Release);
            return Err(Error::InvalidArgument(
                "a write transaction is still open; commit it or drop it, then close".to_owned(),
            ));
        };
        self.background.stop();
        let outcome = if self.options.read_only {
            Ok(())
        } else if writer.started {
            self.close_log(&mut writer)
        } else {
            self.log.check()
        };
        {
            // Merges and checkpoints that other threads of the user are at end here: whatever they come
            // to publish after this, they may not.
            let _merging = self.merging.lock();
            let _flushing = self.flushing.lock();
            let mut published = self.published.lock();
            published.sealed = true;
            // Handles that live on get `Closed`: the files that only they would see need not stay.
            published.runs.clear();
            drop(published);
            self.view.store(Arc::new(View::default()));
            self.space.seal();
        }
        drop(writer);
        self.chunks.end();
        self.remover.detach();
        self.tenure.end();
        *self.lock.lock() = None;
        closing.insert(outcome).clone()
    }

    fn close_log(&self, writer: &mut Writer) -> Result<()> {
        self.log.check()?;
        let end = self.log.end();
        if !planted(Mistake::ClosedBeforeSync) {
            self.log.flush(end, Reach::Durable)?;
        }
        // With more live log than that the next open would not be quick.
        let long = self.live_log_bytes() > self.options.sizes.live_log_bytes;
        let scattered = self.recovery.live_segments.len() > CLOSE_OLDER_SEGMENTS;
        let replayed_still_live = writer.older_log_bytes > 0;
        if long || (scattered && replayed_still_live) || !self.pending.lock().is_empty() {
            self.freeze(writer);
            match self.flush_all() {
                // The log holds it all; the next open replays it.
                Ok(()) | Err(Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let end = self.closing_lsn();
        self.insist(|| {
            self.publish(|manifest| {
                manifest.clean = true;
                if let Some(last) = manifest.epochs.last_mut() {
                    last.end = Some(end);
                }
            })
        })?;
        // What a recovery could have to write is no more than the live log.
        let live = self.live_log_bytes();
        let bytes = live + live / 8 + RESERVE_EPOCH_BYTES;
        self.space.reserve.shrink(bytes)?;
        // The next open may find the disk as full as this life did.
        let _ = self.space.reserve.refill(RESERVE_MIN_BYTES, bytes.max(RESERVE_MIN_BYTES));
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Errors of a close that nobody asked for have nowhere to go; the next open recovers.
        let _ = self.close();
    }
}
