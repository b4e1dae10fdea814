//! One structure of a file, field by field: whose bytes are these, what do they say, do they verify?
//!
//! The file says by its first bytes, or else by its name, what it is. The structure around an offset is
//! found as a reader finds it: in a segment, groups follow each other from the first block, and past a
//! bad one from a later block; in a table, blocks follow each other, and past a bad one every multiple of
//! 64 is tried. `docs/format.md` and `docs/format-table.md` name the fields.
//!
//! Invariants: nothing is written; damaged structures are shown as far as their fields can be told apart;
//! at most [`SHOWN_BYTES`] of a structure are read.

pub use super::layout::{Content, Field};
use super::layout::{Reader, hex, plain};
use super::scan::Segment;
use crate::error::{Error, Result};
use crate::fs::{self, File, FileSystem, OpenMode};
use crate::manifest::names::{self, OurFile};
use crate::recovery::directory::SegmentFile;
use crate::types::Lsn;
use crate::wal::group::{BLOCK_BYTES, GROUP_HEADER_BYTES, GroupHeader, body_crc};
use crate::wal::segment::SEGMENT_HEADER_BYTES;
use std::path::Path;

/// The most bytes of one structure that are read.
pub const SHOWN_BYTES: u64 = 16 << 20;

/// A structure of a file and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Annotation {
    /// What the file is: "segment", "table", "manifest", "lock", "reserve", "spare segment".
    pub file_kind: &'static str,
    /// What the structure is: "group", "data block", …
    pub structure: String,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// Its fields in order.
    pub fields: Vec<Field>,
}

impl Annotation {
    /// Whether a checksum or a mark of it is wrong.
    pub fn is_damaged(&self) -> bool {
        self.fields.iter().any(|field| field.sound == Some(false))
    }
}

/// Explains the structure around `offset` of a file of a database.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::InvalidArgument`] if it is none of a database, or
/// shorter than `offset`.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// highwater::Database::open(&path)?.close()?;
/// let fs = highwater::fs::os::OsFileSystem::new();
/// let header = highwater::check::annotate(&fs, path.join("MANIFEST"), 0)?;
/// assert_eq!(header.structure, "manifest header");
/// assert!(!header.is_damaged());
/// # Ok(())
/// # }
/// ```
pub fn annotate(fs: &dyn FileSystem, path: impl AsRef<Path>, offset: u64) -> Result<Annotation> {
    let path = path.as_ref();
    let file = fs.open(path, OpenMode::Read).map_err(|e| Error::io("open", path, e))?;
    let length = file.len().map_err(|e| Error::io("read", path, e))?;
    if offset >= length {
        return Err(Error::InvalidArgument(format!(
            "{} has {length} bytes, there is no byte {offset}; give a smaller offset",
            path.display()
        )));
    }
    let head = read(&*file, path, 0, 16)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kind = match (head.get(..8), names::classify(name)) {
        (Some(b"HWsegmnt"), kind) => match kind {
            OurFile::Segment(_) => kind,
            _ => OurFile::Segment(Lsn::ZERO),
        },
        (Some(b"HWmanif\n"), _) => OurFile::Manifest,
        (Some(b"HWTABLE\n"), OurFile::Table(id)) => OurFile::Table(id),
        (Some(b"HWTABLE\n"), _) => OurFile::Table(crate::types::FileId(1)),
        (_, kind) => kind,
    };
    match kind {
        OurFile::Manifest | OurFile::ManifestNew => {
            let bytes = read(&*file, path, 0, length.min(SHOWN_BYTES))?;
            Ok(super::annotate_manifest::manifest(&bytes, offset))
        }
        OurFile::Table(_) | OurFile::TableNew(_) => {
            super::annotate_table::table(&*file, path, length, offset)
        }
        OurFile::Segment(_) => segment(fs, &*file, path, offset),
        OurFile::Lock => Ok(whole(&read(&*file, path, 0, length.min(4096))?, "lock", "process id")),
        OurFile::Reserve => Ok(raw(&*file, path, offset, "reserve", "bytes that mean nothing")?),
        OurFile::SpareSegment(_) => {
            Ok(raw(&*file, path, offset, "spare segment", "bytes that mean nothing")?)
        }
        OurFile::Foreign => Err(Error::InvalidArgument(format!(
            "{} is no file of a database; give its MANIFEST, a log-*.hwl or a table-*.hwt",
            path.display()
        ))),
    }
}

/// Up to `length` bytes at `offset`.
pub(super) fn read(file: &dyn File, path: &Path, offset: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    let read = fs::read_full(file, &mut bytes, offset).map_err(|e| Error::io("read", path, e))?;
    bytes.truncate(read);
    Ok(bytes)
}

fn whole(bytes: &[u8], file_kind: &'static str, name: &str) -> Annotation {
    let mut reader = Reader::new(bytes, 0);
    let length = bytes.len();
    reader.take(length, name, Content::Plain, |bytes| bytes.escape_ascii().to_string());
    made(file_kind, file_kind, 0, length as u64, reader)
}

/// The 64 bytes around an offset, of which nothing can be told.
pub(super) fn raw(
    file: &dyn File,
    path: &Path,
    offset: u64,
    file_kind: &'static str,
    what: &str,
) -> Result<Annotation> {
    let start = offset - offset % 64;
    let bytes = read(file, path, start, 64)?;
    let mut reader = Reader::new(&bytes, start);
    while reader.left() > 0 {
        let length = reader.left().min(16);
        reader.take(length, "bytes", Content::Value, hex);
    }
    Ok(made(file_kind, what, start, bytes.len() as u64, reader))
}

pub(super) fn made(
    file_kind: &'static str,
    structure: &str,
    offset: u64,
    bytes: u64,
    reader: Reader<'_>,
) -> Annotation {
    let structure = structure.to_owned();
    Annotation { file_kind, structure, offset, bytes, fields: reader.fields }
}

fn segment(fs: &dyn FileSystem, file: &dyn File, path: &Path, offset: u64) -> Result<Annotation> {
    if offset < SEGMENT_HEADER_BYTES as u64 {
        return Ok(segment_header(&read(file, path, 0, SEGMENT_HEADER_BYTES as u64)?));
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let dir = path.parent().unwrap_or(Path::new("."));
    let bytes = file.len().map_err(|e| Error::io("read", path, e))?;
    let named = SegmentFile { base: Lsn::ZERO, bytes, name: name.to_owned() };
    let mut segment = Segment::open(fs, dir, &named)?;
    // The file may have another name than the one that it had in its database.
    if let Ok(header) = segment.header {
        segment.base = header.base;
    } else if let OurFile::Segment(base) = names::classify(name) {
        segment.base = base;
    }
    let wanted = segment.base.plus(offset);
    let (mut place, mut what) = (None, "bytes between groups");
    if let Some(life) = segment.life() {
        let (first, end) = (segment.first_group(), segment.end());
        let ended = segment.scan(life, first, end, None, &mut |piece| {
            let (from, to) = match piece {
                super::scan::Piece::Group(header, _) => {
                    (header.lsn, header.lsn.plus(header.group_bytes()))
                }
                super::scan::Piece::Flaw { from, to, .. } => (from, to),
            };
            if (from..to).contains(&wanted) {
                place = Some(from);
            }
            Ok(place.is_none() && from <= wanted)
        })?;
        if place.is_none() && ended.at <= wanted {
            what = "behind the last group";
        }
    }
    // A group of an earlier use of the file, or one of which only the header is left.
    let block = wanted.get() - wanted.get() % BLOCK_BYTES;
    let candidate = place.or_else(|| {
        let head = segment.bytes_at(Lsn(block), GROUP_HEADER_BYTES).to_vec();
        let header = GroupHeader::decode(&head).ok()?;
        (wanted.get() < block + header.group_bytes()).then_some(Lsn(block))
    });
    let Some(at) = candidate else { return raw(file, path, offset, "segment", what) };
    let start = at.get() - segment.base.get();
    let bytes = read(file, path, start, crate::wal::group::GROUP_MAX_BYTES as u64)?;
    Ok(group(&bytes, start, segment.life().map(|life| (at, life.epoch, life.salt))))
}

fn segment_header(bytes: &[u8]) -> Annotation {
    let mut reader = Reader::new(bytes, 0);
    reader.magic(b"HWsegmnt");
    reader.u32("format version", plain);
    reader.zeros(4, "reserved");
    reader.u64("incompatible features", |bits| format!("{bits:#x}"));
    reader.hex(16, "database id");
    reader.u64("epoch", plain);
    reader.u64("salt", |salt| format!("{salt:016x}"));
    reader.u64("base", |lsn| format!("LSN {lsn} of the file's first byte"));
    reader.u64("segment bytes", |bytes| format!("{bytes}, the length of the file"));
    reader.u64("generation", |number| format!("{number}, of a manifest that was durable"));
    reader.time("created");
    reader.zeros(4004, "padding");
    let end = bytes.len().min(SEGMENT_HEADER_BYTES - 4);
    reader.crc("CRC", crc32fast::hash(&bytes[..end]));
    made("segment", "segment header", 0, bytes.len() as u64, reader)
}

fn group(bytes: &[u8], start: u64, place: Option<(Lsn, crate::types::Epoch, u64)>) -> Annotation {
    let mut reader = Reader::new(bytes, start);
    reader.magic(b"HWgroup1");
    let lsn = reader.u64("lsn", |lsn| match place {
        Some((here, _, _)) if here.get() != lsn => {
            format!("{lsn}, but this place is {here}: stale")
        }
        _ => plain(lsn),
    });
    reader.u64("epoch", |epoch| match place {
        Some((_, here, _)) if here.get() != epoch => {
            format!("{epoch}, but the segment's is {here}: stale")
        }
        _ => plain(epoch),
    });
    let salt = reader.u64("salt", |salt| match place {
        Some((_, _, here)) if here != salt => format!("{salt:016x}, not the segment's: stale"),
        _ => format!("{salt:016x}"),
    });
    reader.u64("durable", |lsn| format!("{lsn}: all below was durable"));
    reader.u64("previous", |before| match lsn {
        Some(lsn) if lsn == before => format!("{before}: none, the first of its epoch"),
        _ => format!("{before}: the group before"),
    });
    reader.u64("generation", plain);
    reader.u32("previous CRC", |crc| format!("{crc:08x}"));
    let body_bytes = reader.u32("body bytes", plain).unwrap_or(0) as usize;
    let body = bytes.get(GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + body_bytes);
    let body_sum = body_crc(Lsn(lsn.unwrap_or(0)), salt.unwrap_or(0), body.unwrap_or_default());
    reader.crc("body CRC", body_sum);
    reader.u32("records", plain);
    reader.zeros(4, "reserved");
    reader.crc("header CRC", crc32fast::hash(&bytes[..bytes.len().min(76)]));
    let mut length = GROUP_HEADER_BYTES;
    if let Some(body) = body {
        records(&mut reader, body);
        reader.seek(GROUP_HEADER_BYTES + body_bytes);
        length = (GROUP_HEADER_BYTES + body_bytes).next_multiple_of(8);
        reader.zeros(length - GROUP_HEADER_BYTES - body_bytes, "padding");
    }
    made("segment", "group", start, length as u64, reader)
}

/// The records of a body, as far as they can be told apart.
fn records(reader: &mut Reader<'_>, body: &[u8]) -> Option<()> {
    let end = reader.at() + body.len();
    let mut number = 0;
    while reader.at() + 8 <= end {
        number += 1;
        let kind = reader.u8(&format!("record {number} kind"), |kind| match kind {
            1 => "1: commit".to_owned(),
            2 => "2: fragment of a transaction".to_owned(),
            3 => "3: last fragment of a transaction".to_owned(),
            4 => "4: witness".to_owned(),
            other => format!("{other}: unknown"),
        })?;
        reader.u8("flags", |flags| format!("{flags:#x}"));
        reader.zeros(2, "reserved");
        let payload = reader.u32("payload bytes", plain)? as usize;
        let stop = (reader.at() + payload).min(end);
        match kind {
            1 => {
                reader.u64("seqno", plain);
                reader.time("time");
                operations(reader, stop);
            }
            2 => {
                reader.u64("seqno", plain);
                reader.u32("index", plain);
                reader.zeros(4, "reserved");
            }
            3 => {
                reader.u64("seqno", plain);
                reader.time("time");
                reader.u32("index", plain);
                reader.zeros(4, "reserved");
                reader.u64("total bytes", plain);
            }
            _ => {}
        }
        if stop > reader.at() {
            // A part of a stream may begin and end anywhere.
            reader.bytes_of(stop - reader.at(), "operations", Content::Value);
        }
        reader.seek(stop);
    }
    Some(())
}

fn operations(reader: &mut Reader<'_>, stop: usize) -> Option<()> {
    while reader.at() < stop {
        let kind = reader.u8("operation", |kind| {
            let name = match kind {
                1 => "put",
                2 => "remove",
                3 => "remove range",
                4 => "create keyspace",
                5 => "drop keyspace",
                6 => "install table",
                _ => "unknown",
            };
            format!("{kind}: {name}")
        })?;
        match kind {
            1 => {
                reader.varint("keyspace", plain)?;
                let key = reader.varint("key bytes", plain)?;
                let value = reader.varint("value bytes", plain)?;
                reader.bytes_of(key as usize, "key", Content::Key)?;
                reader.bytes_of(value as usize, "value", Content::Value)?;
            }
            2 => {
                reader.varint("keyspace", plain)?;
                let key = reader.varint("key bytes", plain)?;
                reader.bytes_of(key as usize, "key", Content::Key)?;
            }
            3 => {
                reader.varint("keyspace", plain)?;
                let start = reader.varint("start bytes", plain)?;
                let end = reader.varint("end", |end| match end {
                    0 => "0: no end".to_owned(),
                    end => format!("{end}: one more than its length"),
                })?;
                reader.bytes_of(start as usize, "start", Content::Key)?;
                if end > 1 {
                    reader.bytes_of(end as usize - 1, "end key", Content::Key)?;
                }
            }
            4 => {
                reader.varint("keyspace", plain)?;
                let name = reader.varint("name bytes", plain)?;
                reader.bytes_of(name as usize, "name", Content::Key)?;
            }
            5 => {
                reader.varint("keyspace", plain)?;
            }
            6 => {
                let meta = reader.varint("meta bytes", plain)? as usize;
                let until = reader.at() + meta;
                super::annotate_manifest::table_meta(reader);
                reader.seek(until);
            }
            _ => return None,
        }
    }
    Some(())
}
