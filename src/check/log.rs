//! The log as its readers see it: segments, transactions, operations. For `highwater log` and whoever
//! wants to know what was written when.
//!
//! [`read_log`] goes through every segment file that can be read, live or not, in the order of LSNs:
//! what a checkpoint has released stays readable until its file is used again. Damaged places are
//! reported and stepped over.
//!
//! Invariants: it writes nothing and takes no lock; it yields a transaction once all of it was read, in
//! commit order; the LSN of a transaction is the one that its commit returned: just past its last byte.

use super::scan::{Flaw, Life, Piece, Segment};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::manifest::Manifest;
use crate::recovery::directory::{Directory, SegmentFile, read_manifest};
use crate::table::TableMeta;
use crate::types::{Epoch, FileId, KeyspaceId, Lsn, Seqno};
use crate::wal::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::wal::operation::{Operation, Operations};
use crate::wal::record::{Record, Records};
use std::ops::ControlFlow;
use std::path::Path;

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSegment {
    /// Its name.
    pub name: String,
    /// LSN of its first byte.
    pub base: Lsn,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// The epoch that writes to it; `None` if its header cannot be read.
    pub epoch: Option<Epoch>,
    /// When its header was written, in microseconds since 1970; 0 if it cannot be read.
    pub created_micros: u64,
    /// A replay may need it: it reaches past the checkpoint.
    pub live: bool,
}

/// A whole transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogTransaction<'a> {
    /// Its place in the commit order.
    pub seqno: Seqno,
    /// When it was committed, in microseconds since 1970.
    pub time_micros: u64,
    /// Where its first record begins.
    pub start: Lsn,
    /// Just past its last record: what the commit returned.
    pub lsn: Lsn,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// Groups that it lies in.
    pub groups: u32,
    /// No table holds it yet: a replay needs it.
    pub live: bool,
    operations: &'a [u8],
}

/// One change of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogOperation<'a> {
    /// Sets a key.
    Put {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Removes a key.
    Remove {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
    },
    /// Removes the keys from `start` up to but not including `end`.
    RemoveRange {
        /// Where.
        keyspace: KeyspaceId,
        /// The first key to go.
        start: &'a [u8],
        /// The first key to stay; `None`: none stays.
        end: Option<&'a [u8]>,
    },
    /// Creates a keyspace.
    CreateKeyspace {
        /// Its number.
        id: KeyspaceId,
        /// Its name.
        name: &'a str,
    },
    /// Drops a keyspace.
    DropKeyspace {
        /// Its number.
        id: KeyspaceId,
    },
    /// Makes a table that a large transaction wrote part of the database.
    InstallTable {
        /// Number of the table; 0 if the description cannot be read.
        table: FileId,
        /// Entries in it, tombstones included.
        entries: u64,
        /// Length of the file in bytes.
        bytes: u64,
    },
}

impl LogTransaction<'_> {
    /// Its changes in order. An error is a fault in the record, in words.
    pub fn operations(
        &self,
    ) -> impl Iterator<Item = std::result::Result<LogOperation<'_>, String>> {
        Operations::new(self.operations)
            .map(|operation| operation.map(LogOperation::from).map_err(|fault| fault.to_string()))
    }

    /// Length of its operations, encoded.
    pub fn operation_bytes(&self) -> u64 {
        self.operations.len() as u64
    }
}

impl<'a> From<Operation<'a>> for LogOperation<'a> {
    fn from(operation: Operation<'a>) -> Self {
        match operation {
            Operation::Put { keyspace, key, value } => LogOperation::Put { keyspace, key, value },
            Operation::Remove { keyspace, key } => LogOperation::Remove { keyspace, key },
            Operation::RemoveRange { keyspace, start, end } => {
                LogOperation::RemoveRange { keyspace, start, end }
            }
            Operation::CreateKeyspace { id, name } => LogOperation::CreateKeyspace { id, name },
            Operation::DropKeyspace { id } => LogOperation::DropKeyspace { id },
            Operation::InstallTable { mut meta } => {
                let meta = TableMeta::decode(&mut meta);
                LogOperation::InstallTable {
                    table: meta.as_ref().map_or(FileId::ZERO, |meta| meta.file_id),
                    entries: meta.as_ref().map_or(0, |meta| meta.entries),
                    bytes: meta.as_ref().map_or(0, |meta| meta.file_bytes),
                }
            }
        }
    }
}

/// What a reader of the log meets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogItem<'a> {
    /// A segment begins.
    Segment(&'a LogSegment),
    /// A group begins; its records follow.
    Group {
        /// Where it starts.
        lsn: Lsn,
        /// Just past its last byte.
        end: Lsn,
        /// Everything below was durable when it was written.
        durable: Lsn,
        /// Records in it.
        records: u32,
    },
    /// A whole transaction.
    Transaction(LogTransaction<'a>),
    /// A group that only vouches for those before it.
    Witness {
        /// Where its record ends.
        lsn: Lsn,
        /// Everything below was durable when it was written.
        durable: Lsn,
    },
    /// A place without a group that verifies, although groups follow.
    Damage {
        /// The file's name.
        file: &'a str,
        /// Offset of the place in the file.
        offset: u64,
        /// Where it begins.
        from: Lsn,
        /// Where the next group begins.
        to: Lsn,
        /// What is wrong, in words.
        what: String,
    },
}

/// Reads the log of `dir` from its first segment to its last and hands what it meets to `sink`, until
/// that breaks off. Segments that end before `from` are left out; groups before it are read, so that
/// their transactions are whole, and items that end at or before it are not handed on.
///
/// Cost: one pass over the segment files, in memory no more than the largest transaction.
///
/// # Errors
/// [`Error::NotFound`] if there is no directory, or no file of a database in it, [`Error::Io`] if a file cannot be opened. Damage is an
/// item, not an error.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::check::{LogItem, read_log};
/// use highwater::{Lsn, fs::os::OsFileSystem};
/// use std::ops::ControlFlow;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// highwater::Database::open(&path)?.keyspace("users")?.insert("ada", "1815")?;
/// let mut transactions = 0;
/// read_log(&OsFileSystem::new(), &path, Lsn::ZERO, &mut |item| {
///     transactions += u32::from(matches!(item, LogItem::Transaction(_)));
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(transactions, 2); // the keyspace and the insert
/// # Ok(())
/// # }
/// ```
pub fn read_log(
    fs: &dyn FileSystem,
    dir: impl AsRef<Path>,
    from: Lsn,
    sink: &mut dyn FnMut(LogItem<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let dir = dir.as_ref();
    let Some(directory) = Directory::read(fs, dir)? else {
        return Err(Error::NotFound { path: dir.to_path_buf() });
    };
    if !directory.has_manifest && directory.segments.is_empty() && directory.tables.is_empty() {
        return Err(Error::NotFound { path: dir.to_path_buf() });
    }
    let manifest = read_manifest(fs, dir, true).ok();
    let checkpoint = manifest.as_ref().map_or(Lsn::ZERO, |manifest| manifest.checkpoint_lsn);
    let mut assembler = Assembler::new(checkpoint);
    let mut last: Option<(Life, Lsn, u32)> = None;
    for named in &directory.segments {
        let mut segment = match Segment::open(fs, dir, named) {
            Ok(segment) => segment,
            // The owner has used the file again.
            Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if segment.end() <= from {
            continue;
        }
        let life = segment.life().or_else(|| life_of(manifest.as_ref(), named));
        let described = LogSegment {
            name: named.name.clone(),
            base: named.base,
            bytes: named.bytes,
            epoch: segment.life().map(|life| life.epoch),
            created_micros: segment.header.map_or(0, |header| header.created_micros),
            live: segment.end() > checkpoint,
        };
        if sink(LogItem::Segment(&described)).is_break() {
            return Ok(());
        }
        let Some(life) = life else { continue };
        let before = last.filter(|(known, _, _)| *known == life).map(|(_, lsn, crc)| (lsn, crc));
        let (first, end) = (segment.first_group(), segment.end());
        let base = named.base;
        let scanned = segment.scan(life, first, end, before, &mut |piece| {
            let flow = match piece {
                Piece::Group(header, body) => assembler.group(header, body, from, sink),
                Piece::Flaw { from: at, to, flaw } => {
                    if flaw != Flaw::Padding && flaw != Flaw::Witness {
                        assembler.gap();
                    }
                    if to <= from {
                        return Ok(true);
                    }
                    sink(LogItem::Damage {
                        file: &named.name,
                        offset: at.get() - base.get(),
                        from: at,
                        to,
                        what: describe(flaw),
                    })
                }
            };
            Ok(flow.is_continue())
        })?;
        if scanned.stopped {
            return Ok(());
        }
        if let Some((lsn, crc)) = scanned.last {
            last = Some((life, lsn, crc));
        }
    }
    Ok(())
}

/// The life that the manifest gives to the place of a segment.
pub(super) fn life_of(manifest: Option<&Manifest>, named: &SegmentFile) -> Option<Life> {
    let range = manifest?
        .epochs
        .iter()
        .find(|range| range.start <= named.base && range.end.is_none_or(|end| named.base < end))?;
    Some(Life { epoch: range.epoch, salt: range.salt })
}

/// A flaw in words.
pub(super) fn describe(flaw: Flaw) -> String {
    match flaw {
        Flaw::Padding => "the padding of a group is not zero; no record is missing".to_owned(),
        Flaw::Witness => "a witness fails its check; no record is missing".to_owned(),
        Flaw::Body(1) => "a group fails its check; 1 record is lost with it".to_owned(),
        Flaw::Body(records) => {
            format!("a group fails its check; {records} records are lost with it")
        }
        Flaw::Groups => "no group here verifies, and the next one follows one that was".to_owned(),
    }
}

/// Puts transactions together, forgiving gaps.
#[derive(Debug)]
pub(super) struct Assembler {
    checkpoint: Lsn,
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    seqno: Seqno,
    next_index: u32,
    start: Lsn,
    groups: u32,
    operations: Vec<u8>,
}

impl Assembler {
    pub fn new(checkpoint: Lsn) -> Assembler {
        Assembler { checkpoint, parts: None }
    }

    /// Something is missing here: what has begun cannot be whole.
    pub fn gap(&mut self) {
        self.parts = None;
    }

    /// Hands on what ends in a group, if it ends past `from`.
    pub fn group(
        &mut self,
        header: &GroupHeader,
        body: &[u8],
        from: Lsn,
        sink: &mut dyn FnMut(LogItem<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let end = header.lsn.plus(header.group_bytes());
        if end > from {
            let (lsn, durable, records) = (header.lsn, header.durable, header.records);
            sink(LogItem::Group { lsn, end, durable, records })?;
        }
        let body_at = header.lsn.plus(GROUP_HEADER_BYTES as u64);
        let mut at = body_at;
        let mut all = Records::new(body);
        while let Some(record) = all.next() {
            let Ok(record) = record else {
                self.gap();
                break;
            };
            let start = at;
            at = body_at.plus(all.offset() as u64);
            let live = end > self.checkpoint;
            let whole = |seqno, time_micros, operations, start, groups| {
                LogItem::Transaction(LogTransaction {
                    seqno,
                    time_micros,
                    start,
                    lsn: at,
                    epoch: header.epoch,
                    groups,
                    live,
                    operations,
                })
            };
            match record {
                Record::Commit { seqno, time_micros, operations } => {
                    self.parts = None;
                    if at > from {
                        sink(whole(seqno, time_micros, operations, start, 1))?;
                    }
                }
                Record::Fragment { seqno, index, operations } => {
                    self.append(seqno, index, start, operations);
                }
                Record::FinalFragment { seqno, time_micros, index, total_bytes, operations } => {
                    self.append(seqno, index, start, operations);
                    let parts = self.parts.take();
                    if let Some(parts) = parts
                        && parts.operations.len() as u64 == total_bytes
                        && at > from
                    {
                        let (operations, groups) = (parts.operations.as_slice(), parts.groups);
                        sink(whole(seqno, time_micros, operations, parts.start, groups))?;
                    }
                }
                Record::Witness => {
                    if at > from {
                        sink(LogItem::Witness { lsn: at, durable: header.durable })?;
                    }
                }
                Record::Skipped { .. } => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn append(&mut self, seqno: Seqno, index: u32, start: Lsn, operations: &[u8]) {
        if index == 0 {
            let operations = Vec::new();
            self.parts = Some(Parts { seqno, next_index: 0, start, groups: 0, operations });
        }
        let fits =
            self.parts.as_mut().filter(|parts| (parts.seqno, parts.next_index) == (seqno, index));
        match fits {
            Some(parts) => {
                if parts.operations.try_reserve(operations.len()).is_err() {
                    self.parts = None;
                    return;
                }
                parts.operations.extend_from_slice(operations);
                parts.next_index += 1;
                parts.groups += 1;
            }
            _ => self.parts = None,
        }
    }
}
