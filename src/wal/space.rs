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

use super::group::BLOCK_BYTES;
use super::segment::{SegmentHeader, segment_name};
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, File, FileSystem, OpenMode};
use crate::manifest::names;
use crate::types::{DatabaseId, Epoch, Generation, Lsn};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The smallest segment, in bytes; the first ones of a database have this size.
pub const SEGMENT_MIN_BYTES: u64 = 1 << 20;
/// The largest group that the writer makes, header included, in bytes. (The format allows more.)
pub const WRITER_GROUP_BYTES: usize = 256 << 10;
/// The reserve holds at least this much, in bytes.
pub const RESERVE_MIN_BYTES: u64 = 256 << 10;
/// The writer keeps this much of the log for records that free space (drops) on a full disk.
const KEPT_FOR_DROPS_BYTES: u64 = 16 << 10;

/// A named, synced segment file.
#[derive(Debug)]
pub struct Segment {
    /// LSN of the first byte of its header.
    pub base: Lsn,
    /// Length in bytes, the header included.
    pub bytes: u64,
    /// The open file.
    pub file: Arc<dyn File>,
    /// Where it lies.
    pub path: PathBuf,
}

impl Segment {
    /// The LSN just past it, which is the base of the next one.
    pub fn end(&self) -> Lsn {
        self.base.plus(self.bytes)
    }

    /// The LSN of its first group.
    pub fn first_group(&self) -> Lsn {
        self.base.plus(BLOCK_BYTES)
    }
}

/// A dead file that can become a segment again.
#[derive(Debug, Clone)]
pub struct Spare {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Hands out ready segments and takes dead ones back.
#[derive(Debug)]
pub struct LogSpace {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    database: DatabaseId,
    segment_max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    epoch: Epoch,
    salt: u64,
    generation: Generation,
    /// Live and ready segments of this epoch, ascending.
    segments: VecDeque<Arc<Segment>>,
    /// Segments of earlier epochs that a checkpoint has not passed yet, ascending by end.
    older: Vec<(Lsn, Spare)>,
    spares: Vec<Spare>,
    next_bytes: u64,
    next_spare: u64,
    /// Bytes that the reserve file holds, and should hold.
    reserve_bytes: u64,
}

impl LogSpace {
    /// Room for the log of one database. Nothing is written before [`LogSpace::start`].
    pub fn new(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        database: DatabaseId,
        segment_max_bytes: u64,
    ) -> LogSpace {
        let state = State { next_bytes: SEGMENT_MIN_BYTES, ..State::default() };
        LogSpace {
            fs,
            dir: dir.to_path_buf(),
            database,
            segment_max_bytes: segment_max_bytes.max(SEGMENT_MIN_BYTES),
            state: Mutex::new(state),
        }
    }

    /// Starts an epoch at `base`: makes its first two segments ready. The manifest names the epoch
    /// afterwards, and no group is written before that.
    pub fn start(
        &self,
        epoch: Epoch,
        salt: u64,
        base: Lsn,
        generation: Generation,
        next_bytes: u64,
    ) -> Result<()> {
        let mut state = self.state.lock();
        state.epoch = epoch;
        state.salt = salt;
        state.generation = generation;
        state.next_bytes = next_bytes.clamp(SEGMENT_MIN_BYTES, self.segment_max_bytes);
        state.segments.clear();
        self.prepare(&mut state, base)?;
        let next = state.segments[0].end();
        self.prepare(&mut state, next)
    }

    /// Adds a dead file.
    pub fn add_spare(&self, spare: Spare) {
        self.state.lock().spares.push(spare);
    }

    /// Adds a segment of an earlier epoch that still holds live log; it dies when a checkpoint passes
    /// `end`.
    pub fn add_older(&self, end: Lsn, segment: Spare) {
        self.state.lock().older.push((end, segment));
    }

    /// The manifest generation that new segment headers name; it must be durable.
    pub fn set_generation(&self, generation: Generation) {
        self.state.lock().generation = generation;
    }

    /// Size of the next fresh segment, in bytes.
    pub fn next_segment_bytes(&self) -> u64 {
        self.state.lock().next_bytes
    }

    /// The first segment of this epoch.
    pub fn first(&self) -> Option<Arc<Segment>> {
        self.state.lock().segments.front().cloned()
    }

    /// The ready segment that holds `lsn`.
    pub fn segment_at(&self, lsn: Lsn) -> Option<Arc<Segment>> {
        let state = self.state.lock();
        state.segments.iter().find(|s| s.base <= lsn && lsn < s.end()).cloned()
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
    /// [`Error::NoSpace`] if the disk is full; nothing was changed.
    pub fn reserve(&self, position: Lsn, bytes: u64, freeing: bool) -> Result<()> {
        let groups = bytes / (WRITER_GROUP_BYTES as u64 / 2) + 2;
        let kept = if freeing { 0 } else { KEPT_FOR_DROPS_BYTES };
        let needed = bytes + groups * (BLOCK_BYTES + 256) + kept;
        let mut state = self.state.lock();
        while usable_bytes(&state.segments, position) < needed {
            self.prepare_next(&mut state)?;
        }
        Ok(())
    }

    /// Makes another segment ready if less than half a segment of room is left. For the background.
    pub fn prepare_ahead(&self, position: Lsn) -> Result<()> {
        let mut state = self.state.lock();
        let Some(last) = state.segments.back() else { return Ok(()) };
        if usable_bytes(&state.segments, position) < last.bytes / 2 {
            self.prepare_next(&mut state)?;
        }
        Ok(())
    }

    /// Whether [`LogSpace::prepare_ahead`] would do something.
    pub fn wants_more(&self, position: Lsn) -> bool {
        let Some(state) = self.state.try_lock() else { return false };
        let Some(last) = state.segments.back() else { return false };
        usable_bytes(&state.segments, position) < last.bytes / 2
    }

    /// A durable manifest starts at `lsn`: what lies before it is dead and may be recycled. Keeps as many
    /// spares as the log is likely to need and removes the rest.
    pub fn release(&self, lsn: Lsn) -> Result<()> {
        let mut state = self.state.lock();
        while state.segments.len() > 2 && state.segments[0].end() <= lsn {
            if let Some(segment) = state.segments.pop_front() {
                state.spares.push(Spare { path: segment.path.clone(), bytes: segment.bytes });
            }
        }
        let (dead, live): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.older).into_iter().partition(|(end, _)| *end <= lsn);
        state.older = live;
        state.spares.extend(dead.into_iter().map(|(_, spare)| spare));
        let keep_bytes = 4 * self.segment_max_bytes;
        self.trim(&mut state, keep_bytes)
    }

    /// Removes all spares and cuts the reserve to its least size (for `compact`).
    pub fn shrink(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.trim(&mut state, 0)?;
        let path = self.dir.join(names::RESERVE_NAME);
        if state.reserve_bytes > RESERVE_MIN_BYTES {
            let cut = self.fs.open(&path, OpenMode::ReadWrite);
            let cut = cut.and_then(|file| file.set_len(RESERVE_MIN_BYTES));
            cut.map_err(|e| Error::io("cut", &path, e))?;
            state.reserve_bytes = RESERVE_MIN_BYTES;
        }
        state.next_bytes = SEGMENT_MIN_BYTES;
        Ok(())
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
            + state.spares.iter().map(|s| s.bytes).sum::<u64>()
    }

    /// Makes the reserve file hold at least `bytes` of allocated blocks.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the disk is full; the reserve then holds what it held.
    pub fn grow_reserve(&self, bytes: u64) -> Result<()> {
        let mut state = self.state.lock();
        if state.reserve_bytes >= bytes {
            return Ok(());
        }
        let path = self.dir.join(names::RESERVE_NAME);
        let attempt = || -> std::io::Result<()> {
            let file = match self.fs.open(&path, OpenMode::ReadWrite) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    self.fs.open(&path, OpenMode::CreateNew)?
                }
                outcome => outcome?,
            };
            file.allocate(bytes)
        };
        attempt().map_err(|e| match Error::io("allocate the reserve in", &path, e) {
            Error::NoSpace { .. } => Error::NoSpace { what: "the reserve of a commit" },
            other => other,
        })?;
        state.reserve_bytes = bytes;
        Ok(())
    }

    /// Gives the reserve's blocks back to the disk, for a checkpoint, a drop or a close on a full disk.
    /// Returns whether there was anything to give.
    pub fn spend_reserve(&self) -> bool {
        let mut state = self.state.lock();
        let had = state.reserve_bytes > 0;
        state.reserve_bytes = 0;
        let path = self.dir.join(names::RESERVE_NAME);
        let cut = self.fs.open(&path, OpenMode::ReadWrite).and_then(|file| file.set_len(0));
        had && cut.is_ok()
    }

    fn prepare_next(&self, state: &mut State) -> Result<()> {
        let base = state.segments.back().map_or(Lsn::ZERO, |s| s.end());
        self.prepare(state, base)
    }

    fn prepare(&self, state: &mut State, base: Lsn) -> Result<()> {
        let (from, bytes, file) = match take_spare(state) {
            Some(spare) => {
                let opened = self.fs.open(&spare.path, OpenMode::ReadWrite);
                let file = opened.map_err(|e| Error::io("open", &spare.path, e))?;
                (spare.path, spare.bytes, file)
            }
            None => self.fresh_file(state)?,
        };
        let header = SegmentHeader {
            database: self.database,
            epoch: state.epoch,
            salt: state.salt,
            base,
            segment_bytes: bytes,
            generation: state.generation,
            created_micros: self.fs.now_micros(),
        };
        let path = self.dir.join(segment_name(base));
        let attempt = || {
            fs::write_full(&*file, &header.encode(), 0)?;
            fs::sync_data(&*file, Barrier::SegmentContent)?;
            self.fs.rename(&from, &path)?;
            fs::sync_dir(&*self.fs, &self.dir, Barrier::SegmentName)
        };
        attempt().map_err(|e| Error::io("prepare the log segment", &path, e))?;
        state.segments.push_back(Arc::new(Segment { base, bytes, file, path }));
        Ok(())
    }

    /// A new file of zeros. A file that could not be filled is removed again.
    fn fresh_file(&self, state: &mut State) -> Result<(PathBuf, u64, Arc<dyn File>)> {
        let path = loop {
            let path = self.dir.join(names::spare_segment_name(state.next_spare));
            state.next_spare += 1;
            if matches!(self.fs.kind(&path), Ok(fs::PathKind::Missing)) {
                break path;
            }
        };
        let created = self.fs.open(&path, OpenMode::CreateNew);
        let file = created.map_err(|e| no_log_space(Error::io("create", &path, e)))?;
        let mut bytes = state.next_bytes;
        let mut outcome = write_zeros(&*file, bytes);
        if outcome.is_err() && bytes > SEGMENT_MIN_BYTES {
            // A nearly full disk may still have room for a small one.
            bytes = SEGMENT_MIN_BYTES;
            outcome = file.set_len(0).and_then(|()| write_zeros(&*file, bytes));
        }
        if let Err(error) = outcome {
            let _ = self.fs.remove(&path);
            return Err(no_log_space(Error::io("write", &path, error)));
        }
        state.next_bytes = (bytes * 2).min(self.segment_max_bytes);
        Ok((path, bytes, file))
    }

    fn trim(&self, state: &mut State, keep_bytes: u64) -> Result<()> {
        let mut kept = 0;
        let mut dead = Vec::new();
        state.spares.retain(|spare| {
            kept += spare.bytes;
            let keep = kept <= keep_bytes;
            if !keep {
                dead.push(spare.path.clone());
            }
            keep
        });
        for path in dead {
            self.fs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }
}

/// Bytes that groups may use from `position` on, given that a segment takes groups only when its
/// successor is ready, and that the end of each may be wasted by a group that does not fit.
fn usable_bytes(segments: &VecDeque<Arc<Segment>>, position: Lsn) -> u64 {
    let takers = segments.len().saturating_sub(1);
    segments
        .iter()
        .take(takers)
        .filter(|s| s.end() > position)
        .map(|s| {
            let from = position.max(s.first_group());
            (s.end().get() - from.get()).saturating_sub(WRITER_GROUP_BYTES as u64 + BLOCK_BYTES)
        })
        .sum()
}

/// The largest spare, so that a log that grew once keeps its large segments.
fn take_spare(state: &mut State) -> Option<Spare> {
    let (at, _) = state.spares.iter().enumerate().max_by_key(|(_, spare)| spare.bytes)?;
    Some(state.spares.swap_remove(at))
}

fn write_zeros(file: &dyn File, bytes: u64) -> std::io::Result<()> {
    let zeros = vec![0_u8; (256 << 10).min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let count = zeros.len().min((bytes - at) as usize);
        fs::write_full(file, &zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

fn no_log_space(error: Error) -> Error {
    match error {
        Error::NoSpace { .. } => Error::NoSpace { what: "the log record of a commit" },
        other => other,
    }
}
