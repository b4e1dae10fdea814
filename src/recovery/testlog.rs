//! A log that is put down group by group on a simulated disk, for the tests of the walk and the plan.
//!
//! Epoch 3 is open and starts at [`BASE`]; the manifest is generation 5. A group is linked to the last
//! one that was put down, unless the test says otherwise, and is what a writer writes: whole, with its
//! padding to 8 bytes, in a file that holds zeros elsewhere.

use super::directory::{Directory, SegmentFile};
use crate::fs::FileSystem;
use crate::fs::sim::SimDisk;
use crate::manifest::{EpochRange, Manifest};
use crate::table::TableMeta;
use crate::types::{DatabaseId, Epoch, FileId, Generation, KeyspaceId, Lsn, Seqno};
use crate::wal::group::{BLOCK_BYTES, GROUP_HEADER_BYTES, GroupHeader, body_crc};
use crate::wal::segment::{SegmentHeader, segment_name};
use std::path::{Path, PathBuf};

/// Base of the first segment.
pub const BASE: Lsn = Lsn(0x10_0000);
/// Length of most segments.
pub const SEGMENT_BYTES: u64 = 8 * BLOCK_BYTES;
pub const EPOCH: Epoch = Epoch(3);
pub const SALT: u64 = 77;
pub const GENERATION: Generation = Generation(5);
pub const DATABASE: DatabaseId = DatabaseId([7; 16]);

pub struct TestLog {
    pub disk: SimDisk,
    pub manifest: Manifest,
    pub last: Option<GroupHeader>,
}

impl TestLog {
    /// No segments, and a manifest that is not written.
    pub fn new() -> TestLog {
        let disk = SimDisk::without_history();
        disk.create_dir(dir()).unwrap();
        let range = EpochRange { epoch: EPOCH, salt: SALT, start: BASE, end: None };
        let manifest = Manifest {
            generation: GENERATION,
            database: DATABASE,
            next_file_id: FileId(9),
            next_keyspace_id: KeyspaceId(2),
            checkpoint_seqno: Seqno(40),
            checkpoint_lsn: BASE.plus(BLOCK_BYTES),
            segment_base: BASE,
            next_segment_bytes: SEGMENT_BYTES,
            epochs: vec![range],
            last_epoch: EPOCH,
            ..Manifest::default()
        };
        TestLog { disk, manifest, last: None }
    }

    /// With `count` empty segments.
    pub fn with_segments(count: u64) -> TestLog {
        let log = TestLog::new();
        (0..count).for_each(|n| log.put_segment(&segment_header(n), SEGMENT_BYTES));
        log
    }

    /// A segment file of that length: its header and zeros.
    pub fn put_segment(&self, header: &SegmentHeader, file_bytes: u64) {
        let mut bytes = header.encode();
        bytes.resize(file_bytes as usize, 0);
        self.disk.write_file(segment_path(header.base), &bytes).unwrap();
    }

    pub fn range(&self) -> EpochRange {
        self.manifest.epochs[0]
    }

    /// The header of the next group, at `at`.
    pub fn header(&self, at: Lsn, body: &[u8]) -> GroupHeader {
        let link = self.last.map_or((at, 0), |last| (last.lsn, last.body_crc));
        GroupHeader {
            lsn: at,
            epoch: EPOCH,
            salt: SALT,
            durable: Lsn::ZERO,
            previous: link.0,
            previous_crc: link.1,
            generation: GENERATION,
            body_bytes: body.len() as u32,
            body_crc: body_crc(at, SALT, body),
            records: 1,
        }
    }

    /// Puts down the next group and returns where it ends.
    pub fn put(&mut self, at: Lsn, body: &[u8]) -> Lsn {
        let header = self.header(at, body);
        self.put_as(&header, at, body)
    }

    /// The same with a header of the test's.
    pub fn put_as(&mut self, header: &GroupHeader, at: Lsn, body: &[u8]) -> Lsn {
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(body);
        bytes.resize(header.group_bytes() as usize, 0);
        self.write(at, &bytes);
        self.last = Some(*header);
        at.plus(header.group_bytes())
    }

    /// Puts down a group at `at` that vouches for everything below `durable`; nothing links to it.
    pub fn put_vouching(&mut self, at: Lsn, durable: Lsn) -> Lsn {
        let before = self.last;
        let header = GroupHeader { durable, ..self.header(at, &[1; 16]) };
        let end = self.put_as(&header, at, &[1; 16]);
        self.last = before;
        end
    }

    /// Overwrites bytes of the log, as far as they lie in the segment that holds `at`.
    pub fn write(&self, at: Lsn, bytes: &[u8]) {
        let segment = self.segments().into_iter().rev().find(|segment| segment.base <= at).unwrap();
        let path = segment_path(segment.base);
        let mut file = self.disk.read_file(&path).unwrap();
        let offset = (at.get() - segment.base.get()) as usize;
        let count = bytes.len().min(file.len() - offset);
        file[offset..offset + count].copy_from_slice(&bytes[..count]);
        self.disk.write_file(&path, &file).unwrap();
    }

    /// Changes a bit of the log.
    pub fn flip(&self, at: Lsn) {
        let segment = self.segments().into_iter().rev().find(|segment| segment.base <= at).unwrap();
        let offset = at.get() - segment.base.get();
        self.disk.flip_bit(segment_path(segment.base), offset, 0).unwrap();
    }

    pub fn segments(&self) -> Vec<SegmentFile> {
        Directory::read(&self.disk, dir()).unwrap().unwrap().segments
    }
}

/// The header of the `n`-th segment.
pub fn segment_header(n: u64) -> SegmentHeader {
    SegmentHeader {
        database: DATABASE,
        epoch: EPOCH,
        salt: SALT,
        base: segment_base(n),
        segment_bytes: SEGMENT_BYTES,
        generation: GENERATION,
        created_micros: 0,
    }
}

pub fn segment_base(n: u64) -> Lsn {
    BASE.plus(n * SEGMENT_BYTES)
}

/// Start of the `n`-th block from [`BASE`] on.
pub const fn block(n: u64) -> Lsn {
    BASE.plus(n * BLOCK_BYTES)
}

/// Where the body of the group at `at` starts.
pub fn body_of(at: Lsn) -> Lsn {
    at.plus(GROUP_HEADER_BYTES as u64)
}

pub fn dir() -> &'static Path {
    Path::new("/db")
}

pub fn segment_path(base: Lsn) -> PathBuf {
    dir().join(segment_name(base))
}

/// A manifest's or an operation's description of a table.
pub fn put_meta(id: u64, file_bytes: u64) -> Vec<u8> {
    let meta = TableMeta {
        file_id: FileId(id),
        file_bytes,
        footer_crc: 1,
        entries: 1,
        tombstones: 0,
        range_tombstones: 0,
        first: (KeyspaceId(1), b"a".to_vec()),
        last: (KeyspaceId(1), Some(b"b".to_vec())),
    };
    let mut bytes = Vec::new();
    meta.encode(&mut bytes);
    bytes
}
