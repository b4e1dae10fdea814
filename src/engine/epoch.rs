//! The start of an epoch: the first thing that a writing life of the database does, before its first
//! commit.
//!
//! The new epoch's segments lie past every LSN that an older one could have written, with a gap, so that
//! they never look like the successor of an old segment. Their headers carry a fresh random salt and are
//! durable before the manifest names the epoch; no group is written before the manifest is durable. An
//! epoch that the manifest names without an end therefore always has its first segment: if that is
//! missing, it was lost.
//!
//! The manifest that an open reads may be one whose name was never synced: a process that died between
//! the rename and the sync of the directory leaves such a one, and a power cut may still take it back.
//! So it is published once more, by this life, before a segment header names its generation.

use super::{Engine, Writer};
use crate::error::{Error, Result};
use crate::manifest::names::{self, OurFile};
use crate::manifest::{EpochRange, Manifest};
use crate::mistakes::{Mistake, planted};
use crate::types::{Epoch, Generation, Lsn};
use crate::wal::buffer::align_up;
use crate::wal::flush::Reach;
use crate::wal::group::BLOCK_BYTES;
use crate::wal::space::{NewEpoch, Spare};

impl Engine {
    /// Starts a new epoch. Called under the gate, before the first commit.
    pub fn start_epoch(&self, writer: &mut Writer) -> Result<()> {
        self.start_epoch_with(writer, |_| {})
    }

    /// Starts a new epoch for what frees space: on a full disk the reserve is spent on it.
    pub fn start_epoch_freeing(&self, writer: &mut Writer) -> Result<()> {
        self.insist(|| self.start_epoch(writer))
    }

    /// Starts a new epoch in a manifest that `edit` changes further.
    pub fn start_epoch_with(
        &self,
        writer: &mut Writer,
        edit: impl FnOnce(&mut Manifest),
    ) -> Result<()> {
        let base = align_up(self.recovery.log_end.plus(BLOCK_BYTES));
        // That the manifest which was read is durable is not known: whoever wrote it may have died before
        // it synced the directory. The headers name the generation that certainly is.
        let certain = match planted(Mistake::HeaderNamesUnsyncedManifest) {
            true => self.published.lock().manifest.generation,
            false => Generation(1),
        };
        self.begin_epoch(writer, base, certain, self.recovery.live_log, false, edit)?;
        writer.started = true;
        self.background.start(self);
        self.remove_orphans();
        Ok(())
    }

    /// Moves an empty log into fresh, small segments, so that the large ones can be removed. Called under
    /// the gate. Does nothing if the log holds commits that no table holds.
    pub fn shrink_log(&self, writer: &mut Writer) -> Result<()> {
        let end = self.log.end();
        self.log.flush(end, Reach::Durable)?;
        // Past the checkpoint there may be witnesses, but no commit.
        let checkpoint = self.published.lock().manifest.checkpoint_seqno;
        if writer.last_seqno > checkpoint || !self.pending.lock().is_empty() {
            return Ok(());
        }
        let base = align_up(self.space.end().plus(BLOCK_BYTES));
        let generation = self.published.lock().manifest.generation;
        self.begin_epoch(writer, base, generation, false, true, |_| {})
    }

    /// Makes segments ready, names their epoch in the manifest, and lets the log write there. With
    /// `live`, older epochs still hold commits that no table holds.
    fn begin_epoch(
        &self,
        writer: &mut Writer,
        base: Lsn,
        generation: Generation,
        live: bool,
        fresh_only: bool,
        edit: impl FnOnce(&mut Manifest),
    ) -> Result<()> {
        let epoch = Epoch(self.published.lock().manifest.last_epoch.get() + 1);
        let random = |e| Error::io("draw a random salt for", &self.dir, e);
        let salt = self.fs.random().map_err(random)?;
        let new = NewEpoch { epoch, salt, base, generation };
        let prepare = || self.space.prepare_epoch(new, fresh_only).map_err(|e| self.or_poison(e));
        let ready = if planted(Mistake::EpochNamedFirst) { None } else { Some(prepare()?) };
        let published = self.publish(|manifest| {
            edit(manifest);
            manifest.last_epoch = epoch;
            manifest.clean = false;
            if planted(Mistake::OldLogStaysLive) {
                let end = self.recovery.report.tail;
                manifest.epochs.iter_mut().for_each(|old| old.end = old.end.or(Some(end)));
            }
            manifest.epochs.push(EpochRange { epoch, salt, start: base, end: None });
            if !live && !planted(Mistake::OldLogStaysLive) {
                manifest.epochs.retain(|range| range.epoch == epoch);
                manifest.checkpoint_lsn = base.plus(BLOCK_BYTES);
                manifest.segment_base = base;
            }
        });
        match published {
            Ok(()) => {}
            // The old manifest is in force; after any other error either may be.
            Err(error @ Error::NoSpace { .. }) => {
                if let Some(prepared) = ready {
                    self.space.abandon(prepared);
                }
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        let prepared = match ready {
            Some(prepared) => prepared,
            None => prepare()?,
        };
        let first = prepared.first();
        let generation = self.published.lock().manifest.generation;
        self.space.adopt(prepared);
        self.space.set_generation(generation);
        writer.active_from = first.first_group();
        writer.older_log_bytes = if live { self.recovery.report.replayed_bytes } else { 0 };
        self.log.start(first, epoch, salt, generation);
        Ok(())
    }

    /// Removes files of ours that no durable manifest names, and gives dead segments to the log. Called
    /// after a full replay and a published manifest. What cannot be removed stays for the next open.
    fn remove_orphans(&self) {
        for name in &self.recovery.orphans {
            let _ = self.fs.remove(&self.dir.join(name));
        }
        let (rejected, released): (Vec<Spare>, Vec<Spare>) =
            self.recovery.dead_segments.iter().cloned().partition(|dead| self.is_rejected(dead));
        self.space.add_rejected(rejected);
        self.space.add_spares(released);
        for (end, segment) in &self.recovery.live_segments {
            if self.recovery.live_log {
                self.space.add_older(*end, segment.clone());
            } else {
                self.space.add_spares(vec![segment.clone()]);
            }
        }
        let _ = self.space.trim_at_rest(self.table_bytes());
    }

    /// With an archive, before the old log dies: makes what was replayed of it last, and wipes what was
    /// cut. Called after an unclean stop.
    pub fn settle_old_log(&self) -> Result<()> {
        let open = {
            let published = self.published.lock();
            published.manifest.epochs.last().filter(|range| range.end.is_none()).copied()
        };
        let Some(open) = open.filter(|_| self.space.has_archive()) else { return Ok(()) };
        let tail = self.recovery.report.tail;
        for (end, segment) in &self.recovery.live_segments {
            let base = Lsn(end.get() - segment.bytes);
            if base >= open.start {
                self.space.settle(segment, tail.get().saturating_sub(base.get()))?;
            }
        }
        for segment in self.recovery.dead_segments.iter().filter(|dead| self.is_rejected(dead)) {
            self.space.settle(segment, BLOCK_BYTES)?;
        }
        Ok(())
    }

    /// Whether a dead segment lies behind what was recovered: whatever groups it holds were cut.
    fn is_rejected(&self, dead: &Spare) -> bool {
        let name = dead.path.file_name().map(|name| name.to_string_lossy().into_owned());
        match names::classify(&name.unwrap_or_default()) {
            OurFile::Segment(base) => {
                let report = &self.recovery.report;
                !report.clean && base.plus(BLOCK_BYTES) >= report.tail
            }
            _ => false,
        }
    }

    /// The LSN up to which a clean close may vouch.
    pub fn closing_lsn(&self) -> Lsn {
        self.log.boundary()
    }
}
