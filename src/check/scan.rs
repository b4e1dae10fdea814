//! Reading a segment of the log that may be damaged: every group that still verifies, and every place
//! where there must have been one.
//!
//! The walk of the recovery stops at the first place that is no valid next group, because that is where
//! an open has to decide. This one goes on: past a bad place it tries every 4 KiB boundary, as the
//! recovery does for its evidence, and the link of the group that it finds there (`previous`,
//! `previous_crc`) says whether anything is missing in between. A group whose header verifies and whose
//! body does not is stepped over by its length.
//!
//! Invariants: it writes nothing and fails only where a file cannot be opened; bytes that the disk cannot
//! read count as bytes that do not verify; each byte is looked at a bounded number of times.

use crate::bytes::is_zero;
use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, OpenMode};
use crate::recovery::directory::SegmentFile;
use crate::types::{Epoch, Lsn};
use crate::wal::buffer::align_up;
use crate::wal::group::{
    BLOCK_BYTES, GROUP_HEADER_BYTES, GROUP_MAX_BYTES, GroupFault, GroupHeader,
};
use crate::wal::record::WITNESS_RECORD_BYTES;
use crate::wal::segment::{SEGMENT_HEADER_BYTES, SegmentFault, SegmentHeader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const WINDOW_BYTES: usize = 2 * GROUP_MAX_BYTES;
/// Stands for bytes that the disk could not read; no header begins like this.
const UNREADABLE: u8 = 0xee;

/// One segment file, opened for scanning.
pub(crate) struct Segment {
    pub path: PathBuf,
    pub base: Lsn,
    /// Length of the file.
    pub bytes: u64,
    pub header: Result<SegmentHeader, SegmentFault>,
    file: Arc<dyn File>,
    window: Vec<u8>,
    window_from: u64,
    /// How much is read at once.
    pub window_bytes: usize,
    /// Blocks that the disk could not read.
    pub unreadable: u64,
}

/// Whose groups count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub epoch: Epoch,
    pub salt: u64,
}

/// Why a place in the log holds no group that verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A whole group is there, but its padding, or the gap behind it, is not zero: nothing is missing.
    Padding,
    /// The group only vouched for others.
    Witness,
    /// A group with these many records was there, as its header says.
    Body(u32),
    /// A group, or several, were there, as the link of the next one says.
    Groups,
}

/// What was met.
pub(crate) enum Piece<'a> {
    /// A group that verifies.
    Group(&'a GroupHeader, &'a [u8]),
    /// A place without one, up to the next group or the end of the bad one.
    Flaw { from: Lsn, to: Lsn, flaw: Flaw },
}

/// How a scan over one segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Just past the last group that verifies (or the last header that does).
    pub at: Lsn,
    /// The group before the next one: start and body CRC.
    pub last: Option<(Lsn, u32)>,
    /// Zeros follow, or the end of the segment.
    pub blank: bool,
    /// The scan was stopped by its caller.
    pub stopped: bool,
}

impl Segment {
    pub fn open(fs: &dyn FileSystem, dir: &Path, named: &SegmentFile) -> Result<Segment> {
        let path = dir.join(&named.name);
        let file = fs.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))?;
        let bytes = file.len().map_err(|e| Error::io("read", &path, e))?;
        let mut segment = Segment {
            path,
            base: named.base,
            bytes,
            header: Err(SegmentFault::Short),
            file,
            window: Vec::new(),
            window_from: 0,
            window_bytes: WINDOW_BYTES,
            unreadable: 0,
        };
        segment.read_header();
        Ok(segment)
    }

    /// Reads the header anew.
    pub fn read_header(&mut self) {
        let mut head = vec![0; SEGMENT_HEADER_BYTES];
        let read = fs::read_full(&*self.file, &mut head, 0).unwrap_or(0);
        head.truncate(read);
        self.header = SegmentHeader::decode(&head);
    }

    /// The life that the header names, if it can be read and is of this place.
    pub fn life(&self) -> Option<Life> {
        let header = self.header.ok().filter(|header| header.base == self.base)?;
        Some(Life { epoch: header.epoch, salt: header.salt })
    }

    /// LSN of the first group.
    pub fn first_group(&self) -> Lsn {
        self.base.plus(SEGMENT_HEADER_BYTES as u64)
    }

    /// LSN behind the last byte: by the header, or else by the length of the file.
    pub fn end(&self) -> Lsn {
        match self.header {
            Ok(header) if header.base == self.base => header.end(),
            _ => self.base.plus(self.bytes),
        }
    }

    /// Forgets what was read, so that later looks see what was written since.
    pub fn refresh(&mut self) {
        self.window.clear();
    }

    /// `count` bytes at `lsn`; past the end of the file they are zeros.
    pub fn bytes_at(&mut self, lsn: Lsn, count: usize) -> &[u8] {
        let offset = lsn.get() - self.base.get();
        let inside = offset >= self.window_from
            && offset + count as u64 <= self.window_from + self.window.len() as u64;
        if !inside {
            let left = self.bytes.saturating_sub(offset) as usize;
            let wanted = self.window_bytes.max(count).min(left.max(count));
            self.window.resize(wanted, 0);
            self.window_from = offset;
            match fs::read_full(&*self.file, &mut self.window, offset) {
                Ok(read) => self.window[read..].fill(0),
                Err(_) => self.read_in_blocks(offset),
            }
        }
        let from = (offset - self.window_from) as usize;
        &self.window[from..from + count]
    }

    fn read_in_blocks(&mut self, offset: u64) {
        for (place, block) in self.window.chunks_mut(BLOCK_BYTES as usize).enumerate() {
            let at = offset + place as u64 * BLOCK_BYTES;
            match fs::read_full(&*self.file, block, at) {
                Ok(read) => block[read..].fill(0),
                Err(_) => {
                    block.fill(UNREADABLE);
                    self.unreadable += 1;
                }
            }
        }
    }

    /// The header of a group of this life at `at`, checked by itself; `Err(true)` if the place is blank.
    fn header_at(&mut self, life: Life, at: Lsn) -> std::result::Result<GroupHeader, bool> {
        if at.plus(GROUP_HEADER_BYTES as u64) > self.end() {
            return Err(true);
        }
        let end = self.end();
        match GroupHeader::decode(self.bytes_at(at, GROUP_HEADER_BYTES)) {
            Ok(header)
                if (header.lsn, header.epoch, header.salt) == (at, life.epoch, life.salt)
                    && at.plus(header.group_bytes()) <= end =>
            {
                Ok(header)
            }
            Err(GroupFault::Blank) => Err(true),
            _ => Err(false),
        }
    }

    /// The group of this life at `at`, if a whole one is there: header and body.
    pub fn group_at(&mut self, life: Life, at: Lsn) -> Option<(GroupHeader, &[u8])> {
        let header = self.header_at(life, at).ok()?;
        let whole = self.bytes_at(at, header.group_bytes() as usize);
        let body = &whole[GROUP_HEADER_BYTES..][..header.body_bytes as usize];
        header.check_body(body).is_ok().then_some((header, body))
    }

    /// Hands all groups of `life` from `from` to `until` to `sink`, and what is missing between them.
    /// `last` is the group before the first. `sink` ends the scan with `false`.
    pub fn scan(
        &mut self,
        life: Life,
        from: Lsn,
        until: Lsn,
        last: Option<(Lsn, u32)>,
        sink: &mut dyn FnMut(Piece<'_>) -> Result<bool>,
    ) -> Result<End> {
        let mut end = End { at: from, last, blank: true, stopped: false };
        let mut at = from;
        while at < until {
            let header = match self.header_at(life, at) {
                Ok(header) => header,
                Err(blank) => {
                    end.blank = blank;
                    let Some((next, found)) = self.next_header(life, at, until) else { break };
                    if let Some((flaw, to)) = self.between(at, next, &found, end.last)
                        && !sink(Piece::Flaw { from: at, to, flaw })?
                    {
                        return Ok(End { stopped: true, ..end });
                    }
                    at = next;
                    found
                }
            };
            let to = at.plus(header.group_bytes());
            let whole = self.bytes_at(at, header.group_bytes() as usize);
            let body_end = GROUP_HEADER_BYTES + header.body_bytes as usize;
            let body = &whole[GROUP_HEADER_BYTES..body_end];
            let is_whole = header.check_body(body).is_ok();
            let mut flaw = None;
            if !is_whole {
                let witness =
                    header.records == 1 && header.body_bytes as usize == WITNESS_RECORD_BYTES;
                flaw = Some(if witness { Flaw::Witness } else { Flaw::Body(header.records) });
            } else if header.check_padding(&whole[body_end..]).is_err() {
                flaw = Some(Flaw::Padding);
            }
            let goes_on = match is_whole {
                true => sink(Piece::Group(&header, body))?,
                false => true,
            };
            let goes_on = match flaw {
                Some(flaw) => goes_on && sink(Piece::Flaw { from: at, to, flaw })?,
                None => goes_on,
            };
            end = End { at: to, last: Some((header.lsn, header.body_crc)), ..end };
            at = to;
            if !goes_on {
                return Ok(End { stopped: true, ..end });
            }
        }
        Ok(end)
    }

    /// The next block border behind `at` (or at it, if it is none) where a header of this life stands.
    fn next_header(&mut self, life: Life, at: Lsn, until: Lsn) -> Option<(Lsn, GroupHeader)> {
        let mut border = align_up(at);
        if border == at {
            border = border.plus(BLOCK_BYTES);
        }
        while border < until && border < self.end() {
            if let Ok(header) = self.header_at(life, border) {
                return Some((border, header));
            }
            border = border.plus(BLOCK_BYTES);
        }
        None
    }

    /// What is wrong between `at` and the group that was found at `next`.
    fn between(
        &mut self,
        at: Lsn,
        next: Lsn,
        found: &GroupHeader,
        last: Option<(Lsn, u32)>,
    ) -> Option<(Flaw, Lsn)> {
        let follows = match last {
            Some((lsn, crc)) => found.previous == lsn && found.previous_crc == crc,
            None => found.previous < at || found.previous == found.lsn,
        };
        if !follows {
            return Some((Flaw::Groups, next));
        }
        let gap = (next.get() - at.get()) as usize;
        let short = gap < BLOCK_BYTES as usize;
        (!short || !is_zero(self.bytes_at(at, gap))).then_some((Flaw::Padding, next))
    }
}
