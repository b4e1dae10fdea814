//! The private decoders, opened to the fuzz targets in `fuzz/`. Not part of the API: only with feature
//! `fuzzing`, which applications have no use for.
//!
//! Each function takes any bytes, reads them as one structure of the format, and panics if the decoder
//! breaks a rule: nothing that was accepted may encode to other bytes, and no reader may disagree with
//! another. With `mend`, lengths and checksums are put right first, so that the fuzzer gets past them.

use crate::bytes::{set_u32, set_u64, u32_at, u64_at};
use crate::cursor::Cursor;
use crate::fs::sim::SimDisk;
use crate::fs::{FileSystem, OpenMode};
use crate::manifest::Manifest;
use crate::manifest::codec::MANIFEST_HEADER_BYTES;
use crate::table::{BlockCache, ReadMode, Table, TableMeta, key_hash, salvage};
use crate::types::{DatabaseId, FileId, KeyspaceId, Lsn};
use crate::wal::group::{GROUP_ALIGN_BYTES, GROUP_HEADER_BYTES, GroupHeader, body_crc};
use crate::wal::operation::Operations;
use crate::wal::record::{Record, Records};
use crate::wal::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use std::path::Path;
use std::sync::Arc;

/// Reads bytes as a group with its records and operations.
pub fn group(bytes: &[u8], mend: bool) {
    let mut bytes = bytes.to_vec();
    if mend {
        mend_group(&mut bytes);
    }
    let Ok(header) = GroupHeader::decode(&bytes) else { return };
    assert_eq!(header.encode(), bytes[..GROUP_HEADER_BYTES]);
    let Ok(body) = header.checked_body(&bytes) else { return };
    for record in Records::new(body) {
        let Ok(record) = record else { return };
        match record {
            Record::Commit { operations: stream, .. }
            | Record::Fragment { operations: stream, .. }
            | Record::FinalFragment { operations: stream, .. } => operations(stream),
            Record::Witness | Record::Skipped { .. } => {}
        }
    }
}

/// Reads bytes as an operations stream.
pub fn operations(stream: &[u8]) {
    let mut again = Vec::new();
    for operation in Operations::new(stream) {
        let Ok(operation) = operation else {
            assert!(stream.starts_with(&again), "an operation has two encodings");
            return;
        };
        operation.encode(&mut again);
    }
    assert_eq!(again, stream, "an operation has two encodings");
}

/// Reads bytes as the head of a segment.
pub fn segment(bytes: &[u8], mend: bool) {
    let mut bytes = bytes.to_vec();
    if mend {
        mend_segment(&mut bytes);
    }
    if let Ok(header) = SegmentHeader::decode(&bytes) {
        assert_eq!(header.encode(), bytes[..SEGMENT_HEADER_BYTES]);
        let _ = header.end();
    }
}

/// Reads bytes as a manifest, and the table descriptions in it.
pub fn manifest(bytes: &[u8], mend: bool) {
    let mut bytes = bytes.to_vec();
    if mend {
        mend_manifest(&mut bytes);
    }
    let Ok(manifest) = Manifest::decode(&bytes) else { return };
    assert_eq!(manifest.encode(), bytes);
    for mut input in manifest.runs.iter().flat_map(|run| &run.tables).map(Vec::as_slice) {
        let whole = input;
        if let Some(meta) = TableMeta::decode(&mut input) {
            let mut again = Vec::new();
            meta.encode(&mut again);
            assert_eq!(again, whole[..whole.len() - input.len()]);
        }
    }
}

/// Reads bytes as a table file: point reads, cursors, the full check, salvage, in both read modes. If the
/// check passes, all readers must agree.
pub fn table(bytes: &[u8], mend: bool) {
    if bytes.len() < TABLE_LEAST_BYTES {
        return;
    }
    let mut bytes = bytes.to_vec();
    if mend {
        mend_table(&mut bytes);
    }
    let mut database = [0; 16];
    database.copy_from_slice(&bytes[32..48]);
    let footer = bytes.len() - FOOTER_BYTES;
    let meta = TableMeta {
        file_id: FileId(u64_at(&bytes, 24)),
        file_bytes: bytes.len() as u64,
        footer_crc: u32_at(&bytes, footer + 4),
        entries: u64_at(&bytes, footer + 40),
        tombstones: u64_at(&bytes, footer + 48),
        range_tombstones: u64_at(&bytes, footer + 56),
        first: (KeyspaceId(0), Vec::new()),
        last: (KeyspaceId(u32::MAX), None),
    };
    let disk = SimDisk::without_history();
    let path = Path::new("/table");
    disk.write_file(path, &bytes).expect("a file in memory");
    let fs: Arc<dyn FileSystem> = Arc::new(disk);
    let cache = Arc::new(BlockCache::new(1 << 20));
    let mut read = Vec::new();
    for mode in [ReadMode::Mmap, ReadMode::Pread] {
        let id = DatabaseId(database);
        let table = Table::new(fs.clone(), path.into(), id, meta.clone(), mode, cache.clone());
        let checked = table.check(&mut |_| {}).is_ok();
        let all = read_all(&table, checked);
        read.push((checked, all));
    }
    assert_eq!(read[0], read[1], "the read modes disagree");
    let file = fs.open(path, OpenMode::Read).expect("a file in memory");
    let _ = salvage(&*file, path, None, &mut |_| {});
}

const TABLE_LEAST_BYTES: usize = 64 + 32 + FOOTER_BYTES;
const FOOTER_BYTES: usize = 128;
/// More entries than this are not worth the fuzzer's time.
const ENTRIES_READ_MAX: usize = 10_000;

type Entries = Vec<(KeyspaceId, Vec<u8>, Option<Vec<u8>>)>;

/// Reads forwards, backwards and by key; `None` after the first error.
fn read_all(table: &Table, sound: bool) -> Option<Entries> {
    let mut entries = Vec::new();
    for section in table.sections().ok()? {
        let keyspace = section.keyspace;
        let mut cursor = table.cursor(keyspace).ok()?;
        let mut forwards = 0_u64;
        cursor.first().ok()?;
        while cursor.is_valid() && entries.len() < ENTRIES_READ_MAX {
            let key = cursor.key().to_vec();
            let value = cursor.value().ok()?.map(|value| value.into_vec());
            let found = table.get(keyspace, &key, key_hash(keyspace, &key)).ok()?;
            assert!(found.is_some() || !sound, "a key of a sound table is not found");
            entries.push((keyspace, key, value));
            forwards += 1;
            cursor.next().ok()?;
        }
        if cursor.is_valid() {
            return Some(entries);
        }
        let mut backwards = 0_u64;
        cursor.last().ok()?;
        while cursor.is_valid() {
            backwards += 1;
            cursor.prev().ok()?;
        }
        assert!(forwards == backwards || !sound, "a sound table reads otherwise backwards");
        table.range_tombstones(keyspace).ok()?;
    }
    Some(entries)
}

/// Makes bytes a group as far as length and checksums go.
pub fn mend_group(bytes: &mut Vec<u8>) {
    if bytes.len() <= GROUP_HEADER_BYTES {
        return;
    }
    let body_bytes = bytes.len() - GROUP_HEADER_BYTES;
    set_u32(bytes, 60, body_bytes as u32);
    let (lsn, salt) = (Lsn(u64_at(bytes, 8)), u64_at(bytes, 24));
    let crc = body_crc(lsn, salt, &bytes[GROUP_HEADER_BYTES..]);
    set_u32(bytes, 64, crc);
    set_u32(bytes, 72, 0);
    seal(bytes, 76);
    bytes.resize(bytes.len().next_multiple_of(GROUP_ALIGN_BYTES as usize), 0);
}

/// Puts the checksum of a segment's head right.
pub fn mend_segment(bytes: &mut Vec<u8>) {
    if bytes.len() < SEGMENT_HEADER_BYTES {
        bytes.resize(SEGMENT_HEADER_BYTES, 0);
    }
    seal(bytes, SEGMENT_HEADER_BYTES - 4);
}

/// Puts length and checksums of a manifest right.
pub fn mend_manifest(bytes: &mut [u8]) {
    if bytes.len() < MANIFEST_HEADER_BYTES + 4 {
        return;
    }
    let body_end = bytes.len() - 4;
    set_u64(bytes, 40, (body_end - MANIFEST_HEADER_BYTES) as u64);
    seal(bytes, 60);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..60]);
    hasher.update(&bytes[MANIFEST_HEADER_BYTES..body_end]);
    set_u32(bytes, body_end, hasher.finalize());
}

/// Puts the checksums of a table's file header and blocks right, and those that its footer names.
pub fn mend_table(bytes: &mut [u8]) {
    if bytes.len() < TABLE_LEAST_BYTES {
        return;
    }
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&bytes[32..48]);
    seed[16..24].copy_from_slice(&bytes[24..32]);
    let crc = |offset: usize, part: &[u8]| {
        let mut seed = seed;
        set_u64(&mut seed, 24, offset as u64);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&seed);
        hasher.update(part);
        hasher.finalize()
    };
    let header_crc = crc(0, &bytes[..60]);
    set_u32(bytes, 60, header_crc);
    let footer = bytes.len() - FOOTER_BYTES;
    let mut at = 64;
    while at + 32 <= footer {
        let length = u32_at(bytes, at + 8) as usize;
        if length < 32 || length > footer - at {
            break;
        }
        let sum = crc(at, &bytes[at + 8..at + length]);
        set_u32(bytes, at + 4, sum);
        // The footer names the checksums of index and filter by their extents.
        for (extent_at, crc_at) in [(footer + 64, footer + 80), (footer + 72, footer + 84)] {
            if (u64_at(bytes, extent_at) >> 26) * 64 == at as u64 {
                set_u32(bytes, crc_at, sum);
            }
        }
        at += length;
    }
    let sum = crc(footer, &bytes[footer + 8..]);
    set_u32(bytes, footer + 4, sum);
}

/// Puts the CRC of everything before `at` there.
fn seal(bytes: &mut [u8], at: usize) {
    let crc = crc32fast::hash(&bytes[..at]);
    set_u32(bytes, at, crc);
}
