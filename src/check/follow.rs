//! Following the log of a live database: every transaction once, in commit order, as it becomes durable.
//!
//! The follower keeps the segment files open that it has seen. A segment that the owner releases and
//! uses again keeps its old groups until new ones reach them, and a file that is removed stays readable
//! while it is open; so a follower that lags behind a checkpoint still reads what was released. The
//! next segment is always there before the one in use is full, so none is missed.
//!
//! What counts is what was vouched for: a later group, or a manifest, says that it is durable. The owner
//! writes a witness after about 100 ms without commits, so the last transaction waits no longer.
//!
//! When the owner was restarted, a new epoch begins behind the old one; what the old one left unvouched
//! counts if it follows without a gap, as the recovery decides it too. Transactions are held against the
//! commit order: if one is missing (the follower fell behind too far), that is an item, not silence.
//!
//! Invariants: nothing is written and no lock is taken; no transaction is handed on twice; a gap in the
//! commit order is always reported.

use super::log::{Assembler, LogItem, LogTransaction};
use super::scan::{Life, Segment};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::manifest::Manifest;
use crate::recovery::directory::{Directory, SegmentFile, read_manifest};
use crate::types::{Epoch, Lsn, Seqno};
use crate::wal::buffer::align_up;
use crate::wal::group::GroupHeader;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a segment is read at once.
const WINDOW_BYTES: usize = 256 << 10;

/// What a follower hands on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Followed<'a> {
    /// The next transaction.
    Transaction(LogTransaction<'a>),
    /// Transactions that were released and overwritten before they could be read.
    Missed {
        /// The first one.
        from: Seqno,
        /// The one after the last.
        to: Seqno,
    },
}

/// Follows the log of one database.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::check::{Followed, Follower};
/// use highwater::fs::os::OsFileSystem;
/// use std::{ops::ControlFlow, sync::Arc};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// let db = highwater::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let mut follower = Follower::new(Arc::new(OsFileSystem::new()), &path)?;
/// users.insert("ada", "1815")?;
/// db.close()?; // or the next commit, or 100 ms: something vouches for it
/// let mut seen = 0;
/// follower.poll(&mut |item| {
///     seen += u32::from(matches!(item, Followed::Transaction(_)));
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(seen, 2); // the keyspace and the insert
/// # Ok(())
/// # }
/// ```
pub struct Follower {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    /// By base and salt: a file that is used again is a new segment.
    segments: BTreeMap<(Lsn, u64), Segment>,
    /// Where the next group is expected.
    at: Option<Place>,
    assembler: Assembler,
    next: Option<Seqno>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    life: Life,
    base: Lsn,
    at: Lsn,
    last: Option<(Lsn, u32)>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("dir", &self.dir).field("at", &self.at).finish()
    }
}

impl Follower {
    /// Follows from the first transaction that is still in the log.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn new(fs: Arc<dyn FileSystem>, dir: impl AsRef<Path>) -> Result<Follower> {
        let mut follower = Follower {
            fs,
            dir: dir.as_ref().to_path_buf(),
            segments: BTreeMap::new(),
            at: None,
            assembler: Assembler::new(Lsn::ZERO),
            next: None,
        };
        follower.look()?;
        Ok(follower)
    }

    /// Hands on what became durable since the last call. Returns how many transactions that were.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotFound`] if the directory is gone.
    pub fn poll(&mut self, sink: &mut dyn FnMut(Followed<'_>) -> ControlFlow<()>) -> Result<u64> {
        let manifest = self.look()?;
        let manifest = manifest.as_ref();
        let mut count = 0;
        loop {
            let Some(place) = self.at.or_else(|| self.begin()) else { return Ok(count) };
            self.at = Some(place);
            // First what is vouched for, in a pass that changes nothing; then that again, for the sink.
            let reach = self.reach(place, manifest);
            let (done, stopped) = self.take(reach.durable, sink);
            count += done;
            if stopped {
                return Ok(count);
            }
            let next = match reach.ended {
                // This epoch is over.
                true => self.next_life(place),
                false if done == 0 => self.after_loss(self.at.unwrap_or(place), manifest),
                false => None,
            };
            let Some(next) = next else { return Ok(count) };
            self.assembler.gap();
            self.at = Some(next);
            self.segments.retain(|(base, _), _| *base >= next.base);
        }
    }

    /// Opens the segments that are new.
    fn look(&mut self) -> Result<Option<Manifest>> {
        let Some(directory) = Directory::read(&*self.fs, &self.dir)? else {
            return Err(Error::NotFound { path: self.dir.clone() });
        };
        for named in &directory.segments {
            self.look_at(named)?;
        }
        let manifest = read_manifest(&*self.fs, &self.dir, true).ok();
        if let Some(place) = &self.at {
            // What was read is let go.
            self.segments.retain(|(base, salt), _| {
                *base >= place.base || (*salt != place.life.salt && *base > place.base)
            });
        }
        Ok(manifest)
    }

    fn look_at(&mut self, named: &SegmentFile) -> Result<()> {
        if self.at.is_some_and(|place| named.base < place.base) {
            return Ok(());
        }
        let known = self.segments.range((named.base, 0)..=(named.base, u64::MAX));
        // One that is in use keeps its salt; one of the same name with another salt is a later use.
        if known.count() > 0 && self.at.is_some_and(|place| place.base == named.base) {
            return Ok(());
        }
        let mut segment = match Segment::open(&*self.fs, &self.dir, named) {
            Ok(segment) => segment,
            Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        segment.window_bytes = WINDOW_BYTES;
        if let Some(life) = segment.life() {
            self.segments.entry((named.base, life.salt)).or_insert(segment);
        }
        Ok(())
    }

    /// The first place that can be read.
    fn begin(&self) -> Option<Place> {
        let (base, segment) = self.segments.iter().next().map(|((base, _), s)| (*base, s))?;
        Some(Place { life: segment.life()?, base, at: segment.first_group(), last: None })
    }

    /// The first place of an epoch after this one.
    fn next_life(&self, place: Place) -> Option<Place> {
        let mut later = self.segments.iter().filter(|((base, _), segment)| {
            *base > place.base && segment.life().is_some_and(|life| life.epoch > place.life.epoch)
        });
        let ((base, _), segment) = later.next()?;
        Some(Place { life: segment.life()?, base: *base, at: segment.first_group(), last: None })
    }

    /// How far this epoch may be read now.
    fn reach(&mut self, place: Place, manifest: Option<&Manifest>) -> Reach {
        let mut vouched = Lsn::ZERO;
        let end = self.walk(place, Lsn::MAX, &mut |header, _| {
            vouched = vouched.max(header.durable);
            true
        });
        let ranges = manifest.map(|manifest| manifest.epochs.as_slice()).unwrap_or_default();
        let range = ranges.iter().find(|range| range.epoch == place.life.epoch);
        let closed = range.is_some_and(|range| range.end.is_some());
        let newest = manifest.map_or(Epoch::ZERO, |manifest| manifest.last_epoch);
        // A later epoch that writes says that this one is over; all that follows without a gap counts.
        let ended = newest > place.life.epoch && self.next_life(place).is_some();
        // What a checkpoint has put into tables was made durable for it.
        let released = manifest.map_or(Lsn::ZERO, |manifest| manifest.checkpoint_lsn);
        let durable = if ended || closed { end.at } else { vouched.max(released).min(end.at) };
        Reach { durable, ended }
    }

    /// Hands on what ends at or before `until`, and moves there.
    fn take(
        &mut self,
        until: Lsn,
        sink: &mut dyn FnMut(Followed<'_>) -> ControlFlow<()>,
    ) -> (u64, bool) {
        let Some(place) = self.at else { return (0, false) };
        let mut assembler = std::mem::replace(&mut self.assembler, Assembler::new(Lsn::ZERO));
        let mut next = self.next;
        let mut count = 0;
        let mut stopped = false;
        let end = self.walk(place, until, &mut |header, body| {
            let flow = assembler.group(header, body, Lsn::ZERO, &mut |item| {
                let LogItem::Transaction(transaction) = item else {
                    return ControlFlow::Continue(());
                };
                let seqno = transaction.seqno;
                let expected = next.unwrap_or(seqno);
                if seqno < expected {
                    return ControlFlow::Continue(());
                }
                next = Some(Seqno(seqno.get() + 1));
                if seqno > expected {
                    sink(Followed::Missed { from: expected, to: seqno })?;
                }
                count += 1;
                sink(Followed::Transaction(transaction))
            });
            stopped |= flow.is_break();
            flow.is_continue()
        });
        self.assembler = assembler;
        self.next = next;
        self.at = Some(end);
        (count, stopped)
    }

    /// Walks over whole groups that follow each other and end at or before `until`.
    fn walk(
        &mut self,
        mut place: Place,
        until: Lsn,
        sink: &mut dyn FnMut(&GroupHeader, &[u8]) -> bool,
    ) -> Place {
        let keys: Vec<(Lsn, u64)> = self.segments.keys().copied().collect();
        for key in &keys {
            if let Some(segment) = self.segments.get_mut(key) {
                segment.refresh();
            }
        }
        loop {
            let Some(segment) = self.segments.get_mut(&(place.base, place.life.salt)) else {
                return place;
            };
            let end = segment.end();
            // Where the last one ended, or at the next block, or as the first of the next segment.
            let border = align_up(place.at);
            let step = take_group(segment, place, place.at, until, sink)
                .or_else(|| take_group(segment, place, border, until, sink));
            if let Some(step) = step {
                match step {
                    Step::Next(next) => place = next,
                    Step::Stop(next) => return next,
                    Step::Later => return place,
                }
                continue;
            }
            let Some(next) = self.segments.get_mut(&(end, place.life.salt)) else { return place };
            let first = next.first_group();
            match take_group(next, Place { base: end, ..place }, first, until, sink) {
                Some(Step::Next(next)) => place = next,
                Some(Step::Stop(next)) => return next,
                Some(Step::Later) | None => return place,
            }
        }
    }

    /// The segment in use was released and overwritten before it was read: the first place after it that
    /// can still be read.
    fn after_loss(&self, place: Place, manifest: Option<&Manifest>) -> Option<Place> {
        let released = manifest.is_some_and(|manifest| manifest.segment_base > place.base);
        let after = |base: Lsn| {
            released && base > place.base && manifest.is_some_and(|m| base >= m.segment_base)
        };
        let mut later = self.segments.iter().filter(|((base, _), segment)| {
            after(*base) && segment.life().is_some_and(|life| life == place.life)
        });
        let ((base, _), segment) = later.next()?;
        Some(Place { life: place.life, base: *base, at: segment.first_group(), last: None })
    }
}

/// What came of looking for a group.
enum Step {
    /// It was handed on.
    Next(Place),
    /// It was handed on, and the sink wants no more.
    Stop(Place),
    /// It is there, but ends past what may be read.
    Later,
}

/// Hands the group at `at` on, if there is one that follows.
fn take_group(
    segment: &mut Segment,
    place: Place,
    at: Lsn,
    until: Lsn,
    sink: &mut dyn FnMut(&GroupHeader, &[u8]) -> bool,
) -> Option<Step> {
    let (header, body) = segment.group_at(place.life, at)?;
    let linked =
        place.last.is_none_or(|(lsn, crc)| (header.previous, header.previous_crc) == (lsn, crc));
    if !linked {
        return None;
    }
    let to = at.plus(header.group_bytes());
    if to > until {
        return Some(Step::Later);
    }
    let goes_on = sink(&header, body);
    let next = Place { at: to, last: Some((header.lsn, header.body_crc)), ..place };
    Some(if goes_on { Step::Next(next) } else { Step::Stop(next) })
}

/// How far an epoch may be read.
#[derive(Clone, Copy, Debug)]
struct Reach {
    durable: Lsn,
    /// Nothing will be added to it.
    ended: bool,
}
