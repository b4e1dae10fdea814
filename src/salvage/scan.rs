//! The scan: every group of the log that can still be read, wherever it lies, without trust in anything
//! but its own checksums.
//!
//! A group is taken if its header and body verify and its LSN is that of its place. (An LSN is written
//! once in the life of a database, so what an earlier use of the file left behind has another one.)
//! Groups start at multiples of 8; behind a valid one the next is looked for at its end, elsewhere at
//! every 8 bytes. A header whose body is damaged is kept as evidence: it says that something was there,
//! and vouches like any other.
//!
//! Cost: one pass over the files; one small entry per group in memory.

use super::survey::SegmentFile;
use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, OpenMode};
use crate::types::{Lsn, Seqno};
use crate::wal::group::{BLOCK_BYTES, GROUP_ALIGN_BYTES, GROUP_HEADER_BYTES, GroupHeader};
use crate::wal::record::{Record, Records};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A group, or the header of one.
#[derive(Clone, Copy, Debug)]
pub struct FoundGroup {
    pub header: GroupHeader,
    /// Index of its file in [`Scan::segments`].
    pub file: usize,
    pub offset: u64,
    /// The body verifies.
    pub intact: bool,
    /// The first commit that one of its records belongs to.
    pub first_seqno: Option<Seqno>,
}

impl FoundGroup {
    /// Just past the group.
    pub fn end(&self) -> Lsn {
        self.header.lsn.plus(self.header.group_bytes())
    }
}

/// All groups of a log.
#[derive(Debug)]
pub struct Scan {
    pub segments: Vec<SegmentFile>,
    /// By epoch and LSN.
    pub groups: BTreeMap<(u64, Lsn), FoundGroup>,
    /// The newest manifest generation that a segment or a group names.
    pub generation: u64,
    /// Bytes that the disk could not read.
    pub unreadable_bytes: u64,
}

impl Scan {
    /// Reads all segments.
    pub fn take(fs: &dyn FileSystem, segments: Vec<SegmentFile>) -> Scan {
        let mut scan =
            Scan { segments, groups: BTreeMap::new(), generation: 0, unreadable_bytes: 0 };
        for file in 0..scan.segments.len() {
            scan.read_segment(fs, file);
        }
        scan
    }

    fn read_segment(&mut self, fs: &dyn FileSystem, number: usize) {
        let segment = self.segments[number].clone();
        if let Some(header) = &segment.header {
            self.generation = self.generation.max(header.generation.get());
        }
        let Ok(mut reader) = Reader::open(fs, &segment) else {
            self.unreadable_bytes += segment.bytes;
            return;
        };
        let mut at = BLOCK_BYTES;
        while at + GROUP_HEADER_BYTES as u64 <= segment.bytes {
            let Ok(header) = GroupHeader::decode(reader.bytes(at, GROUP_HEADER_BYTES)) else {
                at += GROUP_ALIGN_BYTES;
                continue;
            };
            let of_place = header.lsn == segment.base.plus(at)
                && segment
                    .header
                    .is_none_or(|own| (own.epoch, own.salt) == (header.epoch, header.salt));
            if !of_place {
                at += GROUP_ALIGN_BYTES;
                continue;
            }
            self.generation = self.generation.max(header.generation.get());
            let body_at = at + GROUP_HEADER_BYTES as u64;
            let body_bytes = u64::from(header.body_bytes);
            let mut intact = false;
            let mut first_seqno = None;
            if body_at + body_bytes <= segment.bytes {
                let body = reader.bytes(body_at, header.body_bytes as usize);
                intact = header.check_body(body).is_ok();
                if intact {
                    first_seqno = Records::new(body).flatten().find_map(seqno_of);
                }
            }
            let found = FoundGroup { header, file: number, offset: at, intact, first_seqno };
            let place = (header.epoch.get(), header.lsn);
            if self.groups.get(&place).is_none_or(|known| !known.intact) {
                self.groups.insert(place, found);
            }
            at += if intact { header.group_bytes() } else { GROUP_ALIGN_BYTES };
        }
        self.unreadable_bytes += reader.unreadable_bytes;
    }

    /// A group's body, read and checked again.
    pub fn body(&self, fs: &dyn FileSystem, group: &FoundGroup) -> Result<Vec<u8>> {
        let segment = &self.segments[group.file];
        let path = &segment.path;
        let mut body = vec![0; group.header.body_bytes as usize];
        let file = fs.open(path, OpenMode::Read).map_err(|e| Error::io("open", path, e))?;
        let at = group.offset + GROUP_HEADER_BYTES as u64;
        fs::read_exact(&*file, &mut body, at).map_err(|e| Error::io("read", path, e))?;
        group.header.check_body(&body).map_err(|_| {
            Error::damage(path, group.offset, "the group changed since it was first read")
        })?;
        Ok(body)
    }

    /// Whether the log from `from` to `to` is there and blank: nothing was written to it.
    pub fn is_blank(&self, fs: &dyn FileSystem, from: Lsn, to: Lsn) -> bool {
        let holder = self
            .segments
            .iter()
            .find(|segment| segment.base <= from && to <= segment.base.plus(segment.bytes));
        let Some(segment) = holder else { return from == to };
        let Ok(file) = fs.open(&segment.path, OpenMode::Read) else { return false };
        let mut bytes = vec![0; (to.get() - from.get()) as usize];
        let offset = from.get() - segment.base.get();
        fs::read_exact(&*file, &mut bytes, offset).is_ok() && crate::bytes::is_zero(&bytes)
    }

    /// The segment file that holds `lsn`, by its header or, without one, by its length.
    pub fn holder(&self, lsn: Lsn) -> Option<&SegmentFile> {
        self.segments.iter().find(|segment| {
            let bytes = segment.header.map_or(segment.bytes, |header| header.segment_bytes);
            segment.base <= lsn && lsn < segment.base.plus(bytes)
        })
    }
}

fn seqno_of(record: Record<'_>) -> Option<Seqno> {
    match record {
        Record::Commit { seqno, .. }
        | Record::Fragment { seqno, .. }
        | Record::FinalFragment { seqno, .. } => Some(seqno),
        Record::Witness | Record::Skipped { .. } => None,
    }
}

/// Reads a file from front to back through a window; what the disk cannot read is zeros.
struct Reader {
    file: Arc<dyn File>,
    bytes: u64,
    window: Vec<u8>,
    from: u64,
    unreadable_bytes: u64,
}

const WINDOW_BYTES: usize = 2 << 20;
const PIECE_BYTES: usize = 4096;

impl Reader {
    fn open(fs: &dyn FileSystem, segment: &SegmentFile) -> std::io::Result<Reader> {
        let file = fs.open(&segment.path, OpenMode::Read)?;
        let bytes = segment.bytes;
        Ok(Reader { file, bytes, window: Vec::new(), from: 0, unreadable_bytes: 0 })
    }

    /// `count` bytes at `at`; they lie within the file.
    fn bytes(&mut self, at: u64, count: usize) -> &[u8] {
        let inside = at >= self.from && at + count as u64 <= self.from + self.window.len() as u64;
        if !inside {
            let left = (self.bytes - at).min(usize::MAX as u64) as usize;
            self.window.clear();
            self.window.resize(WINDOW_BYTES.max(count).min(left.max(count)), 0);
            self.from = at;
            if fs::read_full(&*self.file, &mut self.window, at).is_err() {
                let mut piece_at = at;
                for piece in self.window.chunks_mut(PIECE_BYTES) {
                    if fs::read_full(&*self.file, piece, piece_at).is_err() {
                        piece.fill(0);
                        self.unreadable_bytes += piece.len() as u64;
                    }
                    piece_at += piece.len() as u64;
                }
            }
        }
        let start = (at - self.from) as usize;
        &self.window[start..start + count]
    }
}
