//! Room in the log: segments that are pre-written, named and synced before a commit may use them.
//!
//! A segment is made under a temporary name (or taken from the dead ones), gets its header, is synced
//! ([`Barrier::SegmentContent`]), is renamed to the name that says its base, and the directory is synced
//! ([`Barrier::SegmentName`]). Only then is it *ready*. A name is the claim: files whose name lies before
//! the manifest's `segment_base` are dead whatever they hold, so that a crash between the new header and
//! the rename does no harm.
//!
//! Invariants:
//! 1. Ready segments are contiguous in LSN and end with one that takes no group yet: the segment before
//!    the last ready one is the last that may take groups.
//! 2. Room is made before a transaction takes its LSN; making it is the only step that may find the disk
//!    full.
//! 3. A segment is recycled only after a durable manifest starts past it ([`LogSpace::release`]).
//!
//! 4. With an archive, a dead segment is used again only after its copy is durable (`spares`).
//!
//! Two locks: `making` is held while a segment is made, which takes as long as the disk does; `state` never
//! over I/O of segments, so that commits with room go on meanwhile. `making` is taken first.

use super::archive::Archive;
use super::fresh::{Fill, fresh_file};
use super::group::BLOCK_BYTES;
use super::ready::{Frontier, runs_low, usable_bytes};
pub use super::ready::{NewEpoch, PreparedEpoch, Segment, Spare};
use super::reserve::{Claim, Reserve};
use super::segment::{SegmentHeader, segment_name};
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, File, FileSystem, OpenMode};
use crate::manifest::names;
use crate::mistakes::{Mistake, planted};
use crate::options::Sizes;
use crate::sync::Mutex;
use crate::types::{DatabaseId, Generation, Lsn};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment that takes no group, on a full disk, in bytes.
const SEGMENT_TINY_BYTES: u64 = 8 << 10;

/// Where a sync covers at least this much, in bytes, new segments are allocated, not filled with zeros. The
/// zeros would take as long to write as the metadata takes that they save (docs/decisions/0001).
const ZEROS_BELOW_BYTES: u64 = 32 << 10;

/// Hands out ready segments and takes dead ones back.
#[derive(Debug)]
pub struct LogSpace {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) dir: PathBuf,
    database: DatabaseId,
    pub(super) segment_max_bytes: u64,
    pub sizes: Sizes,
    /// Disk kept for what must also work when it is full.
    pub reserve: Reserve,
    /// Held while segments are made, so that they follow each other.
    pub(super) making: Mutex<()>,
    pub(super) state: Mutex<State>,
    /// Of `state`'s segments.
    frontier: Frontier,
    /// Where released segments are kept, if anywhere.
    pub(super) archive: Option<Archive>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Of the epoch under way, with the generation that is durable now.
    new: NewEpoch,
    /// Live and ready segments of this epoch, ascending.
    pub(super) segments: VecDeque<Arc<Segment>>,
    /// Segments of earlier epochs that a checkpoint has not passed yet, ascending by end.
    older: Vec<(Lsn, Spare)>,
    pub(super) spares: Vec<Spare>,
    /// Dead segments that the archive does not have yet, oldest first.
    pub(super) held: VecDeque<Spare>,
    next_spare: u64,
    /// The close is over; the directory may have another owner.
    pub(super) sealed: bool,
}

impl LogSpace {
    /// Room for the log of one database. Nothing is written before
    /// [`LogSpace::prepare_epoch`].
    pub fn new(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        database: DatabaseId,
        segment_max_bytes: u64,
        sizes: Sizes,
    ) -> LogSpace {
        LogSpace {
            reserve: Reserve::new(fs.clone(), dir),
            fs,
            dir: dir.to_path_buf(),
            database,
            segment_max_bytes: segment_max_bytes.max(sizes.segment_min_bytes),
            sizes,
            making: Mutex::new(()),
            state: Mutex::new(State::default()),
            frontier: Frontier::new(),
            archive: None,
        }
    }

    /// Keeps released segments in an archive.
    pub fn with_archive(self, archive: Option<Archive>) -> LogSpace {
        LogSpace { archive, ..self }
    }

    /// Makes the first two segments of an epoch ready, from `base` on. The manifest names the epoch
    /// afterwards, and no group is written before that. `fresh_only` takes no spare files, which may be
    /// large.
    pub fn prepare_epoch(&self, new: NewEpoch, fresh_only: bool) -> Result<PreparedEpoch> {
        let _making = self.making.lock();
        let mut held = Vec::new();
        if fresh_only {
            let mut state = self.state.lock();
            held = std::mem::take(&mut state.spares);
        }
        let mut outcome = self.prepare_two(&new, [self.sizes.segment_min_bytes; 2]);
        // A full disk: small segments name the epoch and take what frees space; other commits wait.
        let small_bytes = self.sizes.segment_small_bytes;
        for bytes in [[small_bytes, SEGMENT_TINY_BYTES], [SEGMENT_TINY_BYTES; 2]] {
            if matches!(outcome, Err(Error::NoSpace { .. })) {
                outcome = self.prepare_two(&new, bytes);
            }
        }
        self.state.lock().spares.extend(held);
        Ok(PreparedEpoch { new, segments: outcome? })
    }

    fn prepare_two(&self, new: &NewEpoch, bytes: [u64; 2]) -> Result<VecDeque<Arc<Segment>>> {
        let mut segments = VecDeque::new();
        let mut base = new.base;
        for bytes in bytes {
            match self.prepare(new, base, bytes, Fill::Zeros) {
                Ok(segment) => {
                    base = segment.end();
                    segments.push_back(segment);
                }
                Err(error) => {
                    self.discard(&segments);
                    return Err(error);
                }
            }
        }
        Ok(segments)
    }

    /// The manifest names the epoch now: its segments are the log, those of the epoch before are dead.
    pub fn adopt(&self, prepared: PreparedEpoch) {
        let making = self.making.lock();
        let mut state = self.state.lock();
        let PreparedEpoch { new, segments } = prepared;
        let old = std::mem::replace(&mut state.segments, segments);
        self.frontier.note(&state.segments);
        self.retire(&mut state, old.iter().map(|segment| Spare::of(segment)));
        state.new = new;
        drop(state);
        drop(making);
        // What cannot be copied now is held, and tried again.
        let _ = self.archive_held();
    }

    /// The manifest could not be published: the epoch never was.
    pub fn abandon(&self, prepared: PreparedEpoch) {
        self.discard(&prepared.segments);
    }

    fn discard(&self, segments: &VecDeque<Arc<Segment>>) {
        // What cannot be removed is dead, and the next open recycles it.
        segments.iter().for_each(|segment| drop(self.fs.remove(&segment.path)));
    }

    /// Adds a segment of an earlier epoch that still holds live log; it dies when a checkpoint passes
    /// `end`.
    pub fn add_older(&self, end: Lsn, segment: Spare) {
        self.state.lock().older.push((end, segment));
    }

    /// The manifest generation that new segment headers name; it must be durable.
    pub fn set_generation(&self, generation: Generation) {
        self.state.lock().new.generation = generation;
    }

    /// Size of the next fresh segment, in bytes: a quarter of the log that there is, so that what is made
    /// ahead stays a small part of it.
    pub fn next_segment_bytes(&self) -> u64 {
        let least = self.sizes.segment_min_bytes;
        let quarter = self.bytes() / 4;
        (quarter - quarter % least).clamp(least, self.segment_max_bytes)
    }

    /// The ready segment after `segment`, which a group may not use before a further one is ready.
    pub fn after(&self, segment: &Segment) -> Option<Arc<Segment>> {
        let state = self.state.lock();
        state.segments.iter().find(|s| s.base == segment.end()).cloned()
    }

    /// Makes sure that a transaction of `bytes` of operations can be written from `position` on.
    /// `freeing` transactions (drops) may use what is kept for them.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the disk is full, [`Error::Archive`] if too much log waits for a failing
    /// archive; nothing was changed.
    pub fn reserve(&self, position: Lsn, bytes: u64, claim: Claim) -> Result<()> {
        let freeing = claim == Claim::Freeing;
        if !freeing {
            self.check_archive()?;
        }
        // Most commits are spared the division, and the lock.
        let half_group = self.sizes.group_bytes as u64 / 2;
        let groups = if bytes < half_group { 2 } else { bytes / half_group + 2 };
        let kept = if freeing { 0 } else { self.sizes.kept_for_drops_bytes };
        let needed = bytes + groups * (BLOCK_BYTES + 256) + kept;
        let group_bytes = self.sizes.group_bytes;
        if self.frontier.has_room(position, needed, group_bytes) {
            return Ok(());
        }
        let lacks = || usable_bytes(&self.state.lock().segments, position, group_bytes) < needed;
        if !lacks() {
            return Ok(());
        }
        let _making = self.making.lock();
        while lacks() {
            if self.reserve.keeps_off(claim) {
                return Err(NO_ROOM);
            }
            // The commit waits: no zeros.
            match self.prepare_next(Fill::Allocated) {
                Err(Error::NoSpace { .. }) if freeing => {
                    self.prepare_more(self.sizes.segment_small_bytes, Fill::Zeros)?;
                    self.prepare_more(SEGMENT_TINY_BYTES, Fill::Zeros)?;
                    return if lacks() { Err(NO_ROOM) } else { Ok(()) };
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Makes another segment ready if the log has come some way into the last one that may take groups.
    /// `synced_bytes` is what is usually written from one sync to the next. For the background. Nothing is made ready
    /// while somebody asks for room.
    pub fn prepare_ahead(&self, position: Lsn, synced_bytes: u64) -> Result<()> {
        let _making = self.making.lock();
        if self.reserve.is_wanted() {
            return Ok(());
        }
        if runs_low(&self.state.lock().segments, position) {
            let large = synced_bytes >= ZEROS_BELOW_BYTES;
            self.prepare_next(if large { Fill::Allocated } else { Fill::Zeros })?;
        }
        Ok(())
    }

    /// Whether [`LogSpace::prepare_ahead`] would do something. False while it is at work.
    pub fn wants_more(&self, position: Lsn) -> bool {
        self.frontier.runs_low(position) && !self.making.is_locked()
    }

    /// A durable manifest starts at `lsn`: what lies before it is dead and may be recycled. Keeps as many
    /// spares as the log is likely to need and removes the rest.
    pub fn release(&self, lsn: Lsn) -> Result<()> {
        let mut state = self.state.lock();
        while state.segments.len() > 2 && state.segments[0].end() <= lsn {
            if let Some(segment) = state.segments.pop_front() {
                self.retire(&mut state, [Spare::of(&segment)]);
            }
        }
        let (dead, live): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.older).into_iter().partition(|(end, _)| *end <= lsn);
        state.older = live;
        self.retire(&mut state, dead.into_iter().map(|(_, spare)| spare));
        drop(state);
        // What cannot be copied now is held, and tried again: by the next release, or by a commit.
        let _ = self.archive_held();
        self.trim_spares()
    }

    /// Base of the segment that holds `lsn`, the segments of earlier epochs included.
    pub fn base_of(&self, lsn: Lsn) -> Option<Lsn> {
        let state = self.state.lock();
        state
            .older
            .iter()
            .map(|(end, spare)| (Lsn(end.get() - spare.bytes), *end))
            .chain(state.segments.iter().map(|s| (s.base, s.end())))
            .find(|(base, end)| *base <= lsn && lsn < *end)
            .map(|(base, _)| base)
    }

    /// The LSN past every segment that this epoch has ready.
    pub fn end(&self) -> Lsn {
        self.state.lock().segments.back().map_or(Lsn::ZERO, |s| s.end())
    }

    /// Bytes of all segments and spares.
    pub fn bytes(&self) -> u64 {
        let state = self.state.lock();
        state.segments.iter().map(|s| s.bytes).sum::<u64>()
            + state.older.iter().map(|(_, s)| s.bytes).sum::<u64>()
            + state.spares.iter().chain(&state.held).map(|s| s.bytes).sum::<u64>()
    }

    /// Called with `making` held.
    fn prepare_next(&self, fill: Fill) -> Result<()> {
        self.prepare_more(self.next_segment_bytes(), fill)
    }

    /// Called with `making` held.
    fn prepare_more(&self, bytes: u64, fill: Fill) -> Result<()> {
        let (new, base) = {
            let state = self.state.lock();
            (state.new, state.segments.back().map_or(Lsn::ZERO, |s| s.end()))
        };
        let segment = self.prepare(&new, base, bytes, fill)?;
        let mut state = self.state.lock();
        state.segments.push_back(segment);
        self.frontier.note(&state.segments);
        Ok(())
    }

    /// Nothing is made ready any more, and no file is held open for it: the next owner may remove it.
    pub fn seal(&self) {
        let _making = self.making.lock();
        let mut state = self.state.lock();
        state.sealed = true;
        state.segments.clear();
        self.frontier.note(&state.segments);
    }

    /// A segment out of the largest spare, or a new one of `bytes`. Called with `making` held.
    fn prepare(&self, new: &NewEpoch, base: Lsn, bytes: u64, fill: Fill) -> Result<Arc<Segment>> {
        let spare = {
            let mut state = self.state.lock();
            if state.sealed {
                return Err(Error::Closed);
            }
            take_spare(&mut state)
        };
        let recycled = spare.is_some();
        let (from, bytes, file) = match spare {
            Some(spare) => {
                let opened = self.fs.open(&spare.path, OpenMode::ReadWrite);
                let file = opened.map_err(|e| Error::io("open", &spare.path, e))?;
                (spare.path, spare.bytes, file)
            }
            None => self.fresh_file(bytes, fill)?,
        };
        let header = SegmentHeader {
            database: self.database,
            epoch: new.epoch,
            salt: new.salt,
            base,
            segment_bytes: bytes,
            generation: new.generation,
            created_micros: self.fs.now_micros(),
        };
        let path = self.dir.join(segment_name(base));
        let (content, name) = match recycled {
            true => (Barrier::RecycledContent, Barrier::RecycledName),
            false => (Barrier::SegmentContent, Barrier::SegmentName),
        };
        let attempt = || {
            if planted(Mistake::HeaderBeforeGrowth) {
                file.set_len(BLOCK_BYTES)?;
            }
            fs::write_full(&*file, &header.encode(), 0)?;
            if planted(Mistake::SegmentNamedBeforeSync) {
                self.fs.rename(&from, &path)?;
                fs::sync_data(&*file, content)?;
                return fs::sync_dir(&*self.fs, &self.dir, name);
            }
            fs::sync_data(&*file, content)?;
            self.fs.rename(&from, &path)?;
            fs::sync_dir(&*self.fs, &self.dir, name)?;
            if planted(Mistake::HeaderBeforeGrowth) {
                file.set_len(bytes)?;
            }
            Ok(())
        };
        attempt().map_err(|e| {
            let error = Error::io("prepare the log segment", &path, e);
            if matches!(error, Error::NoSpace { .. }) {
                // It has one of the two names, and nothing relies on it.
                let _ = self.fs.remove(&from).or_else(|_| self.fs.remove(&path));
            }
            no_log_space(error)
        })?;
        Ok(Arc::new(Segment { base, bytes, file, path }))
    }

    /// A file that reads as zeros, the next number in its name. Called with `making` held.
    fn fresh_file(&self, wanted: u64, fill: Fill) -> Result<(PathBuf, u64, Arc<dyn File>)> {
        let first = self.state.lock().next_spare;
        let missing = |path: &PathBuf| matches!(self.fs.kind(path), Ok(fs::PathKind::Missing));
        let mut names = (first..).map(|n| (n, self.dir.join(names::spare_segment_name(n))));
        let (number, path) = names.find(|(_, path)| missing(path)).expect("numbers have no end");
        self.state.lock().next_spare = number + 1;
        let made = fresh_file(&*self.fs, &path, fill, wanted, self.sizes.segment_min_bytes);
        let (file, bytes) = made.map_err(no_log_space)?;
        Ok((path, bytes, file))
    }
}

/// The largest spare, so that a log that grew once keeps its large segments.
fn take_spare(state: &mut State) -> Option<Spare> {
    let (at, _) = state.spares.iter().enumerate().max_by_key(|(_, spare)| spare.bytes)?;
    Some(state.spares.swap_remove(at))
}

const NO_ROOM: Error = Error::NoSpace { what: "the log record of a commit" };

fn no_log_space(error: Error) -> Error {
    match error {
        Error::NoSpace { .. } => NO_ROOM,
        other => other,
    }
}

#[cfg(all(test, not(loom)))]
#[path = "space_tests.rs"]
mod tests;
