//! The start of an epoch: the first thing that a writing life of the database does, before its first
//! commit.
//!
//! The new epoch's segments lie past every LSN that an older one could have written, with a gap, so that
//! they never look like the successor of an old segment. Their headers carry a fresh random salt and are
//! durable before the manifest names the epoch; no group is written before the manifest is durable. An
//! epoch that the manifest names without an end therefore always has its first segment: if that is
//! missing, it was lost.

use super::{Engine, Writer};
use crate::error::{Error, Result};
use crate::manifest::{EpochRange, Manifest};
use crate::types::{Epoch, Lsn};
use crate::wal::group::BLOCK_BYTES;
use crate::wal::log::align_up;

impl Engine {
    /// Starts a new epoch. Called under the gate, before the first commit.
    pub fn start_epoch(&self, writer: &mut Writer) -> Result<()> {
        self.start_epoch_with(writer, |_| {})
    }

    /// Starts a new epoch in a manifest that `edit` changes further.
    pub fn start_epoch_with(
        &self,
        writer: &mut Writer,
        edit: impl FnOnce(&mut Manifest),
    ) -> Result<()> {
        let (epoch, generation, next_bytes) = {
            let published = self.published.lock();
            let manifest = &published.manifest;
            (Epoch(manifest.last_epoch.get() + 1), manifest.generation, manifest.next_segment_bytes)
        };
        let random = |e| Error::io("draw a random salt for", &self.dir, e);
        let salt = self.fs.random().map_err(random)?;
        let base = align_up(self.recovery.log_end.plus(BLOCK_BYTES));
        self.space.start(epoch, salt, base, generation, next_bytes)?;
        let live = self.recovery.live_log;
        self.publish(|manifest| {
            edit(manifest);
            manifest.last_epoch = epoch;
            manifest.clean = false;
            manifest.epochs.push(EpochRange { epoch, salt, start: base, end: None });
            if !live {
                manifest.epochs.retain(|range| range.epoch == epoch);
                manifest.checkpoint_lsn = base.plus(BLOCK_BYTES);
                manifest.segment_base = base;
            }
        })?;
        let generation = self.published.lock().manifest.generation;
        let first = self.space.first().ok_or(Error::Closed)?;
        writer.active_from = if live { writer.active_from } else { first.first_group() };
        self.log.start(first, epoch, salt, generation);
        writer.started = true;
        self.remove_orphans()?;
        self.background.start(self);
        Ok(())
    }

    /// Removes files of ours that no durable manifest names, and gives dead segments to the log. Called
    /// after a full replay and a published manifest.
    fn remove_orphans(&self) -> Result<()> {
        for name in &self.recovery.orphans {
            let path = self.dir.join(name);
            match self.fs.remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path, e));
                }
                _ => {}
            }
        }
        for spare in &self.recovery.dead_segments {
            self.space.add_spare(spare.clone());
        }
        if !self.recovery.live_log {
            for (_, segment) in &self.recovery.live_segments {
                self.space.add_spare(segment.clone());
            }
        } else {
            for (end, segment) in &self.recovery.live_segments {
                self.space.add_older(*end, segment.clone());
            }
        }
        Ok(())
    }

    /// The LSN up to which a clean close may vouch.
    pub fn closing_lsn(&self) -> Lsn {
        self.log.boundary()
    }
}
