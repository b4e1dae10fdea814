//! The walk over the live log: group after group, each checked whole, handed to a sink.
//!
//! `plan` walks to find out where the log ends and what that means; the replay walks again over the same
//! groups. Both run this code.
//!
//! The next group is expected where the last one ended; or, past zeros, at the next 4 KiB block; or, where
//! a group did not fit into the rest of its segment, as the first of the next segment. A group counts only
//! if its header, body, position, epoch, salt, and its link to the group before it are right.

use super::decide::{Judged, Place, Verdict, decide};
use super::directory::SegmentFile;
use crate::bytes::is_zero;
use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, OpenMode};
use crate::manifest::{EpochRange, Manifest};
use crate::mistakes::{Mistake, planted};
use crate::types::{DatabaseId, Generation, Lsn};
use crate::wal::buffer::align_up;
use crate::wal::group::{
    BLOCK_BYTES, GROUP_HEADER_BYTES, GROUP_MAX_BYTES, GroupFault, GroupHeader,
};
use crate::wal::record::WITNESS_RECORD_BYTES;
use crate::wal::segment::{SEGMENT_HEADER_BYTES, SegmentFault, SegmentHeader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Takes the groups of the log in order.
pub trait Sink {
    /// One valid group. `place` names file and offset for errors.
    fn group(&mut self, header: &GroupHeader, body: &[u8], place: &GroupPlace<'_>) -> Result<()>;
}

/// Where a group lies.
pub struct GroupPlace<'a> {
    pub path: &'a Path,
    pub offset: u64,
}

impl GroupPlace<'_> {
    /// Damage in this group.
    pub fn damage(&self, lsn: Lsn, what: impl Into<String>) -> Error {
        Error::Damage {
            file: self.path.to_path_buf(),
            offset: self.offset,
            lsn_range: Some((lsn, lsn)),
            what: what.into(),
        }
    }
}

/// How the walk over one epoch ended.
#[derive(Clone, Debug)]
pub struct EpochEnd {
    /// Just past the last group.
    pub end: Lsn,
    /// Valid groups.
    pub groups: u64,
    /// What lies at the end.
    pub place: Place,
    /// Whether something was cut there.
    pub verdict: Verdict,
    /// From `end` to the last byte of the log that is not known to be unwritten.
    pub cut_bytes: u64,
    /// The last group was durable, as a later structure says; otherwise it has no witness.
    pub witnessed: bool,
    /// Everything below it was durable when the last group was written.
    pub vouched: Lsn,
    /// Segments that hold groups of this walk: base and just past the last byte.
    pub segments: Vec<SegmentFile>,
}

/// A log to walk.
pub struct Walk<'a> {
    pub fs: &'a dyn FileSystem,
    pub dir: &'a Path,
    pub manifest: &'a Manifest,
    pub segments: &'a [SegmentFile],
    /// Takes what was looked up in the decision table.
    pub judged: &'a Judged,
}

impl Walk<'_> {
    /// Walks one epoch of the live log. `first` is the base of its first live segment, `from` the
    /// position of the first group in it.
    pub fn epoch(
        &self,
        range: &EpochRange,
        first: Lsn,
        from: Lsn,
        sink: &mut dyn Sink,
    ) -> Result<EpochEnd> {
        let mut segment = self
            .open_segment(range, first)?
            .ok_or_else(|| self.missing(first, "the log segment is missing"))?;
        let mut used = vec![segment.named.clone()];
        let mut successor_checked = false;
        let mut at = from.max(segment.header.first_group());
        let mut last: Option<(Lsn, u32)> = None;
        let mut vouched = Lsn::ZERO;
        let mut groups = 0;
        let mut data_end = Lsn::ZERO;
        let (mut end, place);
        loop {
            end = at;
            if range.end.is_some_and(|closed| at >= closed) {
                return Ok(EpochEnd {
                    end,
                    groups,
                    place: Place::Blank,
                    verdict: Verdict::End,
                    cut_bytes: 0,
                    witnessed: true,
                    vouched,
                    segments: used,
                });
            }
            let mut looked = self.look(range, &mut segment, at, last)?;
            if looked.is_err() {
                // Perhaps the rest of the block, if any, is padding, and the next group starts on a fresh one.
                let border = align_up(at);
                let gap = (border.get() - at.get()) as usize;
                let zeros = is_zero(segment.bytes(at, gap)?);
                if zeros {
                    at = border;
                    end = border;
                    if range.end.is_some_and(|closed| at >= closed) {
                        continue;
                    }
                    looked = self.look(range, &mut segment, at, last)?;
                } else if matches!(looked, Err(Place::Blank | Place::BadHeader | Place::Stale)) {
                    looked = Err(Place::BadPadding);
                }
            }
            if let Err(here) = looked {
                // Perhaps the group did not fit here and opens the next segment.
                let next_base = segment.header.end();
                if let Some(mut next) = self.open_segment(range, next_base)? {
                    let start = next.header.first_group();
                    let opens = self.look(range, &mut next, start, last)?;
                    // Before the first group of a replay nothing is known but where it starts: a group
                    // that names one before that as its predecessor has skipped none.
                    let follows = match &opens {
                        Ok(_) if planted(Mistake::FirstGroupNotSearched) => last.is_some(),
                        Ok(group) => last.is_some() || group.previous < at,
                        Err(_) => false,
                    };
                    if follows && here != Place::BadPadding {
                        segment = next;
                        used.push(segment.named.clone());
                        successor_checked = false;
                        at = start;
                        continue;
                    }
                }
                let further = align_up(at.plus(1));
                if planted(Mistake::ReplayPastHole) && further < segment.header.end() {
                    (at, last) = (further, None);
                    continue;
                }
                place = here;
                break;
            }
            let Ok(header) = looked else { unreachable!("a bad place has left the loop") };
            if !successor_checked && range.end.is_none() {
                if self.open_segment(range, segment.header.end())?.is_none() {
                    let what = "the log segment is missing (the one before it holds commits)";
                    return Err(self.missing(segment.header.end(), what));
                }
                successor_checked = true;
            }
            let body_at = at.plus(GROUP_HEADER_BYTES as u64);
            let offset = at.get() - segment.header.base.get();
            let path = segment.path.clone();
            let body = segment.bytes(body_at, header.body_bytes as usize)?;
            sink.group(&header, body, &GroupPlace { path: &path, offset })?;
            vouched = vouched.max(header.durable);
            groups += 1;
            // A witness has nothing to lose, and needs no witness.
            if header.body_bytes as usize > WITNESS_RECORD_BYTES {
                data_end = at.plus(header.group_bytes());
            }
            last = Some((header.lsn, header.body_crc));
            at = at.plus(header.group_bytes());
        }
        let evidence = match range.end {
            Some(closed) => Evidence { vouched: closed, last_written: Lsn::ZERO },
            None => self.probe(range, &mut segment, end)?,
        };
        vouched = vouched.max(evidence.vouched);
        let promised = vouched > end;
        let verdict = decide(place, promised, range.end.is_some());
        self.judged.borrow_mut().push((place, promised, range.end.is_some(), verdict));
        if verdict == Verdict::Damage {
            let offset = end.get() - segment.header.base.get();
            return Err(Error::Damage {
                file: segment.path.clone(),
                offset,
                lsn_range: Some((end, vouched.max(end))),
                what: describe(place).to_owned(),
            });
        }
        let cut_end = evidence.last_written.max(end);
        Ok(EpochEnd {
            end,
            groups,
            place,
            verdict,
            // Of bytes that are no group, at least the block that holds the first of them.
            cut_bytes: match verdict {
                Verdict::Cut => cut_end.max(align_up(end.plus(1))).get() - end.get(),
                _ => cut_end.get() - end.get(),
            },
            witnessed: vouched >= data_end,
            vouched: vouched.min(end),
            segments: used,
        })
    }

    /// Looks at the place of the next group.
    fn look(
        &self,
        range: &EpochRange,
        segment: &mut OpenSegment,
        at: Lsn,
        last: Option<(Lsn, u32)>,
    ) -> Result<Result<GroupHeader, Place>> {
        // No room for a header and a record.
        if at.plus(GROUP_HEADER_BYTES as u64) >= segment.header.end() {
            return Ok(Err(Place::Blank));
        }
        let header = match GroupHeader::decode(segment.bytes(at, GROUP_HEADER_BYTES)?) {
            Ok(header) => header,
            Err(GroupFault::Blank) => return Ok(Err(Place::Blank)),
            Err(_) => return Ok(Err(Place::BadHeader)),
        };
        if planted(Mistake::StaleGroupsAccepted) {
            let whole = segment.bytes(at, GROUP_HEADER_BYTES + header.body_bytes as usize)?;
            return Ok(match header.check_body(&whole[GROUP_HEADER_BYTES..]) {
                Ok(()) => Ok(header),
                Err(_) => Err(Place::BadBody),
            });
        }
        if (header.lsn, header.epoch, header.salt) != (at, range.epoch, range.salt) {
            return Ok(Err(Place::Stale));
        }
        if self.is_newer(header.generation) {
            return Err(self.older_manifest(header.generation));
        }
        if at.plus(header.group_bytes()) > segment.header.end() {
            return Ok(Err(Place::BadHeader));
        }
        let whole = segment.bytes(at, header.group_bytes() as usize)?;
        if header.checked_body(whole).is_err() {
            return Ok(Err(Place::BadBody));
        }
        let linked = match last {
            Some((lsn, crc)) => header.previous == lsn && header.previous_crc == crc,
            // The first group of a replay follows one that was released.
            None => true,
        };
        let any = planted(Mistake::LinkNotChecked) || planted(Mistake::GapsAccepted);
        if !linked && !any {
            return Ok(Err(Place::Unlinked));
        }
        Ok(Ok(header))
    }

    /// Looks for groups of this epoch past a bad place, at every block to the end of the last segment.
    fn probe(&self, range: &EpochRange, segment: &mut OpenSegment, from: Lsn) -> Result<Evidence> {
        let mut evidence = Evidence { vouched: Lsn::ZERO, last_written: Lsn::ZERO };
        probe_segment(range, segment, align_up(from), &mut evidence)?;
        let mut next_base = segment.header.end();
        while let Some(mut next) = self.open_segment(range, next_base)? {
            let start = next.header.first_group();
            probe_segment(range, &mut next, start, &mut evidence)?;
            next_base = next.header.end();
        }
        Ok(evidence)
    }

    /// Opens the segment of this epoch at `base`. `None` if there is none, or one of another epoch (a
    /// later life began its log there and never wrote).
    fn open_segment(&self, range: &EpochRange, base: Lsn) -> Result<Option<OpenSegment>> {
        let Some(named) = self.segments.iter().find(|s| s.base == base) else { return Ok(None) };
        let opened = OpenSegment::open(self.fs, self.dir, named, self.manifest.database)?;
        if self.is_newer(opened.header.generation) {
            return Err(self.older_manifest(opened.header.generation));
        }
        let foreign = planted(Mistake::ForeignLogAccepted)
            && opened.header.database != self.manifest.database;
        if !foreign && (opened.header.epoch, opened.header.salt) != (range.epoch, range.salt) {
            if opened.header.epoch > range.epoch {
                return Ok(None);
            }
            let what = format!(
                "the segment belongs to epoch {}, expected {}",
                opened.header.epoch, range.epoch
            );
            return Err(Error::damage(&opened.path, 0, what));
        }
        Ok(Some(opened))
    }

    /// Checks that no segment that the manifest does not know was used under a newer manifest.
    pub fn check_unclaimed(&self, named: &SegmentFile) -> Result<()> {
        let Ok(mut segment) = OpenSegment::open(self.fs, self.dir, named, self.manifest.database)
        else {
            // Dead whatever it holds.
            return Ok(());
        };
        if self.is_newer(segment.header.generation) {
            return Err(self.older_manifest(segment.header.generation));
        }
        let first = segment.header.first_group();
        let decoded = GroupHeader::decode(segment.bytes(first, GROUP_HEADER_BYTES)?);
        if let Ok(group) = decoded
            && (group.lsn, group.epoch, group.salt)
                == (first, segment.header.epoch, segment.header.salt)
            && self.is_newer(group.generation)
        {
            return Err(self.older_manifest(group.generation));
        }
        Ok(())
    }

    /// Written under a manifest that came after this one.
    fn is_newer(&self, generation: Generation) -> bool {
        generation > self.manifest.generation && !planted(Mistake::OlderManifestAccepted)
    }

    fn older_manifest(&self, named: Generation) -> Error {
        let path = self.dir.join(crate::manifest::names::MANIFEST_NAME);
        let what = format!(
            "the manifest is generation {}, but the log was written under generation {named}; \
             an older manifest was put in its place",
            self.manifest.generation
        );
        Error::damage(&path, 0, what)
    }

    fn missing(&self, base: Lsn, what: &str) -> Error {
        Error::Damage {
            file: self.dir.join(crate::wal::segment::segment_name(base)),
            offset: 0,
            lsn_range: Some((base, base)),
            what: what.to_owned(),
        }
    }
}

struct Evidence {
    vouched: Lsn,
    last_written: Lsn,
}

fn probe_segment(
    range: &EpochRange,
    segment: &mut OpenSegment,
    from: Lsn,
    evidence: &mut Evidence,
) -> Result<()> {
    let mut at = from;
    while at.plus(BLOCK_BYTES) <= segment.header.end() {
        if let Ok(header) = GroupHeader::decode(segment.bytes(at, GROUP_HEADER_BYTES)?)
            && (header.lsn, header.epoch, header.salt) == (at, range.epoch, range.salt)
        {
            evidence.vouched = evidence.vouched.max(header.durable);
            evidence.last_written = at.plus(header.group_bytes());
        }
        at = at.plus(BLOCK_BYTES);
    }
    Ok(())
}

/// A segment that is read from front to back through a window.
struct OpenSegment {
    header: SegmentHeader,
    path: PathBuf,
    file: Arc<dyn File>,
    named: SegmentFile,
    window: Vec<u8>,
    window_from: u64,
    next_window_bytes: usize,
}

/// What is read at once: little at first, for a look at one header should not cost megabytes; then twice as
/// much each time, up to the most.
const WINDOW_BYTES: usize = 2 * GROUP_MAX_BYTES;
const FIRST_WINDOW_BYTES: usize = 32 << 10;

impl OpenSegment {
    fn open(
        fs: &dyn FileSystem,
        dir: &Path,
        named: &SegmentFile,
        database: DatabaseId,
    ) -> Result<OpenSegment> {
        let path = dir.join(crate::wal::segment::segment_name(named.base));
        let file = fs.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))?;
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        let read = fs::read_full(&*file, &mut bytes, 0).map_err(|e| Error::io("read", &path, e))?;
        bytes.truncate(read);
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => header,
            Err(SegmentFault::Version { found }) => {
                return Err(Error::Unsupported {
                    file: path,
                    what: "format version",
                    found,
                    supported: u64::from(crate::wal::segment::SEGMENT_FORMAT_VERSION),
                });
            }
            Err(SegmentFault::Features { found }) => {
                return Err(Error::Unsupported {
                    file: path,
                    what: "feature bits",
                    found,
                    supported: crate::wal::segment::SEGMENT_FEATURES_KNOWN,
                });
            }
            Err(fault) => {
                return Err(Error::damage(&path, 0, format!("bad segment header ({fault:?})")));
            }
        };
        if header.database != database && !planted(Mistake::ForeignLogAccepted) {
            return Err(Error::damage(&path, 0, "the segment belongs to another database"));
        }
        if header.base != named.base {
            let what = format!("the segment says that it starts at LSN {}", header.base);
            return Err(Error::damage(&path, 0, what));
        }
        if named.bytes < header.segment_bytes {
            let what = format!(
                "the segment is cut short: {} of {} bytes",
                named.bytes, header.segment_bytes
            );
            return Err(Error::damage(&path, named.bytes, what));
        }
        let named = named.clone();
        let next_window_bytes = FIRST_WINDOW_BYTES;
        let window = Vec::new();
        Ok(OpenSegment { header, path, file, named, window, window_from: 0, next_window_bytes })
    }

    /// `count` bytes at `lsn`, which lie within the segment; past the end of the file they are zeros.
    fn bytes(&mut self, lsn: Lsn, count: usize) -> Result<&[u8]> {
        let offset = lsn.get() - self.header.base.get();
        let inside = offset.checked_sub(self.window_from).map(|from| from as usize);
        let inside = inside.filter(|from| from + count <= self.window.len());
        let from = match inside {
            Some(from) => from,
            None => {
                let left = self.header.segment_bytes.saturating_sub(offset) as usize;
                let wanted = self.next_window_bytes.max(count).min(left.max(count));
                self.next_window_bytes = (2 * self.next_window_bytes).min(WINDOW_BYTES);
                self.window.resize(wanted, 0);
                self.window_from = offset;
                let read = fs::read_full(&*self.file, &mut self.window, offset)
                    .map_err(|e| Error::io("read", &self.path, e))?;
                self.window[read..].fill(0);
                0
            }
        };
        Ok(&self.window[from..from + count])
    }
}

fn describe(place: Place) -> &'static str {
    match place {
        Place::Blank => "the log breaks off, but later bytes say that it went on",
        Place::Stale => "an old group stands where a later one was promised",
        Place::BadHeader => "a group header fails its check",
        Place::BadBody => "a group's body fails its check",
        Place::Unlinked => "a group does not follow the one before it",
        Place::BadPadding => "the padding after a group is not zero",
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
