//! Dead segments on their way back: kept in the archive first, if there is one, then ready to be used again,
//! or removed.
//!
//! What a process left that died may be in the system's memory alone. It is recovered into tables; but the
//! archive gets the segments later, or in a later life if it fails now, and a power cut in between could
//! take from them what was recovered. And the bytes behind the place where the log was cut must not come
//! back by a restore. So with an archive the segments of an epoch that nobody closed are *settled* before
//! a manifest ends it: replaced by synced copies that end in zeros where the recovered log ends.
//!
//! Invariants: with an archive, a dead segment is neither overwritten nor removed before its copy is
//! durable. Until then it is *held*, under its old name, and a later life finds it among the dead. What
//! lies behind the recovered log is not kept.

use super::archive::{copy_bytes, is_blank_from};
use super::group::BLOCK_BYTES;
use super::segment::is_segment_length;
use super::space::{LogSpace, Spare, State};
use crate::error::{Error, Result, is_no_space};
use crate::fs::{self, Barrier, OpenMode};
use crate::manifest::names;
use std::io;
use std::path::Path;

/// In the name of a copy that is not settled yet; numbers of spares count up from 0.
const SETTLED_NUMBER: u64 = u64::MAX;

impl LogSpace {
    /// Takes dead segments: held with an archive, spare without one. The archive gets them with
    /// [`LogSpace::archive_held`], which does not hold the state.
    pub(super) fn retire(&self, state: &mut State, dead: impl IntoIterator<Item = Spare>) {
        match self.archive {
            Some(_) => state.held.extend(dead),
            None => state.spares.extend(dead),
        }
    }

    /// Copies held segments to the archive, oldest first, and makes them spares. Ends at the first that
    /// cannot be copied.
    pub fn archive_held(&self) -> Result<()> {
        let Some(archive) = &self.archive else { return Ok(()) };
        let _work = archive.work.lock();
        loop {
            let next = {
                let state = self.state.lock();
                if state.sealed {
                    return Ok(());
                }
                state.held.front().cloned()
            };
            let Some(next) = next else { return Ok(()) };
            archive.segment(&next).map_err(|error| match error {
                Error::Archive { path, cause, .. } => {
                    Error::Archive { path, cause, held_bytes: self.held_bytes() }
                }
                error => error,
            })?;
            let mut state = self.state.lock();
            state.held.pop_front();
            self.reuse(&mut state, next);
        }
    }

    /// Replaces a segment that a recovery is about to end by a synced copy of its first `kept` bytes and
    /// zeros. On a full disk the segment itself is synced.
    ///
    /// # Errors
    /// [`Error::Io`]. The segment is there, in one form or the other.
    pub fn settle(&self, segment: &Spare, kept: u64) -> Result<()> {
        let path = &segment.path;
        let failed = |action, cause| Error::io(action, path, cause);
        let old = self.fs.open(path, OpenMode::ReadWrite).map_err(|e| failed("open", e))?;
        // Nothing of it is kept, and nothing is in it.
        let unused = kept <= BLOCK_BYTES
            && is_blank_from(&*old, BLOCK_BYTES).map_err(|e| failed("read", e))?;
        if unused {
            return Ok(());
        }
        let new = self.dir.join(names::spare_segment_name(SETTLED_NUMBER));
        // One that an earlier try left.
        if self.fs.kind(&new).map_err(|e| failed("look at", e))? != fs::PathKind::Missing {
            self.fs.remove(&new).map_err(|e| failed("remove", e))?;
        }
        let copied = || -> io::Result<()> {
            let copy = self.fs.open(&new, OpenMode::CreateNew)?;
            copy_bytes(&*old, &*copy, kept)?;
            fs::sync_data(&*copy, Barrier::Copy)
        };
        match copied() {
            Ok(()) => {}
            Err(error) => {
                let _ = self.fs.remove(&new);
                if !is_no_space(&error) {
                    return Err(failed("copy", error));
                }
                return fs::sync_data(&*old, Barrier::Copy).map_err(|e| failed("sync", e));
            }
        }
        self.fs.rename(&new, path).map_err(|e| failed("replace", e))?;
        fs::sync_dir(&*self.fs, &self.dir, Barrier::CopyName).map_err(|e| failed("sync", e))
    }

    /// Whether released segments are kept.
    pub fn has_archive(&self) -> bool {
        self.archive.is_some()
    }

    /// Copies a table that is about to be installed to the archive.
    ///
    /// # Errors
    /// [`Error::Archive`].
    pub fn archive_table(&self, path: &Path) -> Result<()> {
        self.archive.as_ref().map_or(Ok(()), |archive| archive.table(path))
    }

    /// Whether a commit may go on: a failing archive holds the log only up to its limit.
    ///
    /// # Errors
    /// [`Error::Archive`].
    pub(super) fn check_archive(&self) -> Result<()> {
        match &self.archive {
            Some(archive) if self.held_bytes() > archive.limit_bytes => self.archive_held(),
            _ => Ok(()),
        }
    }

    /// Bytes of dead segments that wait for the archive.
    pub fn held_bytes(&self) -> u64 {
        self.state.lock().held.iter().map(|spare| spare.bytes).sum()
    }

    /// Adds dead files.
    pub fn add_spares(&self, spares: Vec<Spare>) {
        if self.archive.is_none() {
            return self.add_rejected(spares);
        }
        self.state.lock().held.extend(spares);
        // What cannot be copied now is tried again.
        let _ = self.archive_held();
    }

    /// Adds dead files with nothing in them that was ever promised.
    pub fn add_rejected(&self, spares: Vec<Spare>) {
        let mut state = self.state.lock();
        spares.into_iter().for_each(|spare| self.reuse(&mut state, spare));
    }

    fn reuse(&self, state: &mut State, spare: Spare) {
        if is_segment_length(spare.bytes) {
            state.spares.push(spare);
        } else {
            // What was cut or extended by someone else is of no use. If it stays, it stays dead.
            let _ = self.fs.remove(&spare.path);
        }
    }

    /// Removes all spares (for `compact`).
    pub fn shrink(&self) -> Result<()> {
        self.trim(0)?;
        // Some file systems give the room back only when the names are gone for good.
        fs::sync_dir(&*self.fs, &self.dir, Barrier::SegmentName)
            .map_err(|e| Error::io("sync", &self.dir, e))
    }

    /// Gives all spares and the reserve back to the disk, for who asked for that
    /// ([`Reserve::want`](super::reserve::Reserve::want)). Returns whether there was anything to give.
    pub fn free_room(&self) -> bool {
        // Who makes a segment now may not have seen that room is wanted: the next one will.
        drop(self.making.lock());
        let has_spares = !self.state.lock().spares.is_empty();
        // One that cannot be removed is an orphan, which the next open removes.
        let _ = self.trim(0);
        self.reserve.spend() | has_spares
    }

    /// Removes spares beyond what a busy log keeps: four of the largest segments.
    pub(super) fn trim_spares(&self) -> Result<()> {
        self.trim(4 * self.segment_max_bytes)
    }

    /// Removes spares beyond what a log at rest keeps, so that the dead files of many short lives do not pile up:
    /// four of the smallest segments, or a 32nd of `data_bytes`.
    pub fn trim_at_rest(&self, data_bytes: u64) -> Result<()> {
        let keep_bytes = (4 * self.sizes.segment_min_bytes).max(data_bytes / 32);
        self.trim(keep_bytes.min(4 * self.segment_max_bytes))
    }

    /// Removes spares beyond `keep_bytes`. Commits that look for room meanwhile do not wait for the disk.
    fn trim(&self, keep_bytes: u64) -> Result<()> {
        let mut kept = 0;
        let dead: Vec<Spare> = {
            let mut state = self.state.lock();
            let is_beyond = |spare: &mut Spare| {
                kept += spare.bytes;
                kept > keep_bytes
            };
            state.spares.extract_if(.., is_beyond).collect()
        };
        let mut outcome = Ok(());
        for spare in dead {
            if let Err(error) = self.fs.remove(&spare.path) {
                outcome = Err(Error::io("remove", &spare.path, error));
            }
        }
        outcome
    }
}
