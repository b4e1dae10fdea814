//! The manifest as bytes: a header of 64 bytes, a body, the body's checksum, and nothing behind it.
//!
//! ```text
//!  0  magic           8    32  incompatible features  8
//!  8  format version  4    40  body_bytes             8
//! 12  reserved        4    48  reserved              12   zero
//! 16  compatible      8    60  header_crc             4   CRC-32 of bytes 0..60
//! 24  read-only       8    64  body, then CRC-32 of bytes 0..60 and the body
//! ```
//!
//! The body's fields are written and read in one order, see [`Manifest::encode`].
//!
//! Invariants: header and checksum are in the same place in every version, and are checked before
//! version and features are looked at. The body's checksum covers the header too, so that halves of two
//! manifests do not make a third. Counts are checked against the bytes that are left before anything is
//! allocated. What is decoded keeps the invariants of [`super`].

use super::reader::Reader;
use super::{EpochRange, Features, KeyspaceEntry, MAX_RUN_LEVEL, Manifest, RunEntry};
use crate::bytes::{array_at, is_zero, set_u32, set_u64, u32_at, u64_at};
use crate::types::{
    DatabaseId, Epoch, FileId, Generation, KeyspaceId, Lsn, MAX_KEYSPACE_NAME_BYTES, Seqno,
};
use crate::wal::COUNTER_LIMIT;
use crate::wal::group::{BLOCK_BYTES, GROUP_ALIGN_BYTES};
use crate::wal::operation::MAX_TABLE_META_BYTES;
use crate::wal::segment::is_segment_length;
use std::collections::HashSet;

/// Version of the manifest's format.
pub const MANIFEST_FORMAT_VERSION: u32 = 1;
/// Length of the header. Frozen.
pub const MANIFEST_HEADER_BYTES: usize = 64;
/// Longest manifest, so that a reader can refuse a longer file unread.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"HWmanif\n";
const HEADER_CRC_AT: usize = 60;
const FLAG_CLEAN: u32 = 1;
const FLAG_SALVAGED: u32 = 2;
/// Stands for "no end yet"; beyond every LSN.
const NO_LSN: u64 = u64::MAX;

const BODY_FIXED_BYTES: usize = 112;
const EPOCH_BYTES: usize = 32;
const KEYSPACE_FIXED_BYTES: usize = 16;
const RUN_FIXED_BYTES: usize = 24;
const TABLE_FIXED_BYTES: usize = 4;

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    /// The file ends before the manifest does.
    #[error("the manifest is cut short")]
    Short,
    /// The magic is another one.
    #[error("no manifest here, the magic does not match")]
    Magic,
    /// Written by a newer version.
    #[error("the manifest has format version {found}")]
    Version {
        /// The version that the header names.
        found: u64,
    },
    /// Uses features that this version does not know.
    #[error("the manifest has incompatible feature bits {found:#x}")]
    IncompatibleFeatures {
        /// All incompatible feature bits of the header.
        found: u64,
    },
    /// A checksum does not match.
    #[error("the manifest fails its checksum at byte {offset}")]
    Crc {
        /// Where the checksum lies.
        offset: u64,
    },
    /// The checksum holds, but a field is one that no version could have written.
    #[error("the manifest has an impossible field at byte {offset}: {what}")]
    Field {
        /// Where the field lies.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There are bytes behind the manifest.
    #[error("there are bytes behind the manifest, from byte {offset}")]
    Trailing {
        /// Where they begin.
        offset: u64,
    },
}

impl Manifest {
    /// The manifest's bytes. A manifest that breaks the invariants of [`super`] encodes, but does not
    /// decode: publish only what [`Manifest::decode`] takes (tests assert it here).
    pub fn encode(&self) -> Vec<u8> {
        let bytes = self.encode_unchecked();
        debug_assert_eq!(Manifest::decode(&bytes).err(), None, "unreadable manifest: {self:?}");
        bytes
    }

    /// Length of the encoding.
    pub fn encoded_bytes(&self) -> usize {
        let keyspaces: usize =
            self.keyspaces.iter().map(|keyspace| KEYSPACE_FIXED_BYTES + keyspace.name.len()).sum();
        let tables = self.runs.iter().flat_map(|run| &run.tables);
        let tables: usize = tables.map(|table| TABLE_FIXED_BYTES + table.len()).sum();
        let lists = self.epochs.len() * EPOCH_BYTES + self.runs.len() * RUN_FIXED_BYTES;
        MANIFEST_HEADER_BYTES + BODY_FIXED_BYTES + lists + keyspaces + tables + 4
    }

    /// Reads a manifest from a whole file.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestFault> {
        let header = bytes.get(..MANIFEST_HEADER_BYTES).ok_or(ManifestFault::Short)?;
        let (features, body_bytes) = decode_header(header)?;
        let body_end = MANIFEST_HEADER_BYTES as u64 + body_bytes;
        let file_end = body_end + 4;
        if (bytes.len() as u64) < file_end {
            return Err(ManifestFault::Short);
        }
        if bytes.len() as u64 > file_end {
            return Err(ManifestFault::Trailing { offset: file_end });
        }
        let body_end = body_end as usize;
        let body = &bytes[MANIFEST_HEADER_BYTES..body_end];
        if body_crc(header, body) != u32_at(bytes, body_end) {
            return Err(ManifestFault::Crc { offset: body_end as u64 });
        }
        let mut reader = Reader::new(&bytes[..body_end], MANIFEST_HEADER_BYTES);
        let manifest = decode_body(&mut reader, features)?;
        reader.check(reader.left() == 0, "bytes behind the last run")?;
        Ok(manifest)
    }

    fn encode_unchecked(&self) -> Vec<u8> {
        let length = self.encoded_bytes();
        let mut out = Vec::with_capacity(length);
        out.resize(MANIFEST_HEADER_BYTES, 0);
        out[..8].copy_from_slice(&MAGIC);
        set_u32(&mut out, 8, MANIFEST_FORMAT_VERSION);
        set_u64(&mut out, 16, self.features.compatible);
        set_u64(&mut out, 24, self.features.read_only);
        set_u64(&mut out, 32, self.features.incompatible);
        set_u64(&mut out, 40, (length - MANIFEST_HEADER_BYTES - 4) as u64);
        let crc = crc32fast::hash(&out[..HEADER_CRC_AT]);
        set_u32(&mut out, HEADER_CRC_AT, crc);
        self.put_body(&mut out);
        let crc = body_crc(&out[..MANIFEST_HEADER_BYTES], &out[MANIFEST_HEADER_BYTES..]);
        put_u32(&mut out, crc);
        debug_assert_eq!(out.len(), length);
        out
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        put_u64(out, self.generation.0);
        out.extend_from_slice(&self.database.0);
        put_u64(out, self.created_micros);
        put_u64(out, self.written_micros);
        put_u64(out, self.next_file_id.0);
        put_u32(out, self.next_keyspace_id.0);
        let clean = if self.clean { FLAG_CLEAN } else { 0 };
        let salvaged = if self.salvaged { FLAG_SALVAGED } else { 0 };
        put_u32(out, clean | salvaged);
        put_u64(out, self.checkpoint_seqno.0);
        put_u64(out, self.checkpoint_lsn.0);
        put_u64(out, self.segment_base.0);
        put_u64(out, self.next_segment_bytes);
        put_u64(out, self.last_epoch.0);
        put_u32(out, self.epochs.len() as u32);
        put_u32(out, self.keyspaces.len() as u32);
        put_u32(out, self.runs.len() as u32);
        put_u32(out, 0);
        for range in &self.epochs {
            put_u64(out, range.epoch.0);
            put_u64(out, range.salt);
            put_u64(out, range.start.0);
            put_u64(out, range.end.map_or(NO_LSN, Lsn::get));
        }
        for keyspace in &self.keyspaces {
            put_u32(out, keyspace.id.0);
            put_u32(out, keyspace.name.len() as u32);
            put_u64(out, keyspace.created.0);
            out.extend_from_slice(keyspace.name.as_bytes());
        }
        for run in &self.runs {
            put_u64(out, run.min_seqno.0);
            put_u64(out, run.max_seqno.0);
            put_u32(out, u32::from(run.level));
            put_u32(out, run.tables.len() as u32);
            for table in &run.tables {
                put_u32(out, table.len() as u32);
                out.extend_from_slice(table);
            }
        }
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// CRC-32 of header and body. The header's own checksum is left out: a CRC that runs over data and its
/// CRC ends in the same state whatever the data, and would bind nothing.
fn body_crc(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..HEADER_CRC_AT]);
    hasher.update(body);
    hasher.finalize()
}

/// The features, and the length of the body.
fn decode_header(header: &[u8]) -> Result<(Features, u64), ManifestFault> {
    if array_at(header, 0) != MAGIC {
        return Err(ManifestFault::Magic);
    }
    if crc32fast::hash(&header[..HEADER_CRC_AT]) != u32_at(header, HEADER_CRC_AT) {
        return Err(ManifestFault::Crc { offset: HEADER_CRC_AT as u64 });
    }
    let version = u32_at(header, 8);
    if version != MANIFEST_FORMAT_VERSION {
        return Err(ManifestFault::Version { found: u64::from(version) });
    }
    let features = Features {
        compatible: u64_at(header, 16),
        read_only: u64_at(header, 24),
        incompatible: u64_at(header, 32),
    };
    if !features.incompatible_features_supported() {
        return Err(ManifestFault::IncompatibleFeatures { found: features.incompatible });
    }
    if u32_at(header, 12) != 0 || !is_zero(&header[48..HEADER_CRC_AT]) {
        return Err(ManifestFault::Field { offset: 12, what: "reserved bytes are not zero" });
    }
    let body_bytes = u64_at(header, 40);
    if body_bytes > MAX_MANIFEST_BYTES - MANIFEST_HEADER_BYTES as u64 - 4 {
        return Err(ManifestFault::Field { offset: 40, what: "the body is too long" });
    }
    Ok((features, body_bytes))
}

fn decode_body(reader: &mut Reader<'_>, features: Features) -> Result<Manifest, ManifestFault> {
    let mut manifest = Manifest {
        features,
        generation: Generation(reader.counter(1, "generation")?),
        database: DatabaseId(array_at(reader.take(16)?, 0)),
        created_micros: reader.u64()?,
        written_micros: reader.u64()?,
        next_file_id: FileId(reader.counter(1, "next file id")?),
        next_keyspace_id: KeyspaceId(reader.u32()?),
        ..Manifest::default()
    };
    let flags = reader.u32()?;
    reader.check(flags & !(FLAG_CLEAN | FLAG_SALVAGED) == 0, "unknown flags")?;
    manifest.clean = flags & FLAG_CLEAN != 0;
    manifest.salvaged = flags & FLAG_SALVAGED != 0;
    manifest.checkpoint_seqno = Seqno(reader.counter(0, "checkpoint seqno")?);
    manifest.checkpoint_lsn = Lsn(reader.counter(0, "checkpoint LSN")?);
    reader.check(
        manifest.checkpoint_lsn.0.is_multiple_of(GROUP_ALIGN_BYTES),
        "the checkpoint LSN is no group boundary",
    )?;
    manifest.segment_base = Lsn(reader.counter(0, "segment base")?);
    reader.check(
        manifest.segment_base.0.is_multiple_of(BLOCK_BYTES)
            && manifest.segment_base <= manifest.checkpoint_lsn,
        "the segment base does not fit the checkpoint LSN",
    )?;
    manifest.next_segment_bytes = reader.u64()?;
    reader.check(is_segment_length(manifest.next_segment_bytes), "segment length out of bounds")?;
    manifest.last_epoch = Epoch(reader.counter(0, "last epoch")?);
    let epochs = reader.u32()?;
    let keyspaces = reader.u32()?;
    let runs = reader.u32()?;
    let reserved = reader.u32()?;
    reader.check(reserved == 0, "reserved bytes are not zero")?;
    decode_epochs(reader, epochs, &mut manifest)?;
    decode_keyspaces(reader, keyspaces, &mut manifest)?;
    decode_runs(reader, runs, &mut manifest)?;
    Ok(manifest)
}

fn decode_epochs(
    reader: &mut Reader<'_>,
    count: u32,
    manifest: &mut Manifest,
) -> Result<(), ManifestFault> {
    let count = reader.count(count, EPOCH_BYTES)?;
    manifest.epochs.reserve_exact(count);
    for _ in 0..count {
        let epoch = Epoch(reader.counter(1, "epoch")?);
        let salt = reader.u64()?;
        let start = Lsn(reader.counter(0, "start of an epoch")?);
        let end = reader.u64()?;
        let end = (end != NO_LSN).then_some(Lsn(end));
        reader.check(
            end.is_none_or(|end| start <= end && end.0 < COUNTER_LIMIT),
            "the end of an epoch is out of bounds",
        )?;
        reader.check(epoch <= manifest.last_epoch, "an epoch is above the last one")?;
        reader.check(end.is_some() || !manifest.clean, "an epoch is open after a clean close")?;
        if let Some(before) = manifest.epochs.last() {
            reader.check(before.epoch < epoch, "epochs do not ascend")?;
            reader.check(
                before.end.is_some_and(|end| end <= start),
                "an epoch starts before the end of the one before",
            )?;
        }
        manifest.epochs.push(EpochRange { epoch, salt, start, end });
    }
    Ok(())
}

fn decode_keyspaces(
    reader: &mut Reader<'_>,
    count: u32,
    manifest: &mut Manifest,
) -> Result<(), ManifestFault> {
    let count = reader.count(count, KEYSPACE_FIXED_BYTES)?;
    manifest.keyspaces.reserve_exact(count);
    let (mut ids, mut names) = (HashSet::with_capacity(count), HashSet::with_capacity(count));
    for _ in 0..count {
        let id = KeyspaceId(reader.u32()?);
        reader.check(id < manifest.next_keyspace_id, "a keyspace id is above the next one")?;
        reader.check(ids.insert(id), "a keyspace id appears twice")?;
        let name_bytes = reader.u32()? as usize;
        reader.check(name_bytes <= MAX_KEYSPACE_NAME_BYTES, "a keyspace name is too long")?;
        let created = Seqno(reader.counter(0, "seqno of a keyspace")?);
        let name = std::str::from_utf8(reader.take(name_bytes)?);
        let name = name.map_err(|_| reader.fault("a keyspace name is not UTF-8"))?;
        reader.check(names.insert(name), "a keyspace name appears twice")?;
        manifest.keyspaces.push(KeyspaceEntry { id, name: name.to_owned(), created });
    }
    Ok(())
}

fn decode_runs(
    reader: &mut Reader<'_>,
    count: u32,
    manifest: &mut Manifest,
) -> Result<(), ManifestFault> {
    let count = reader.count(count, RUN_FIXED_BYTES)?;
    manifest.runs.reserve_exact(count);
    for _ in 0..count {
        let min_seqno = Seqno(reader.counter(0, "seqno of a run")?);
        let max_seqno = Seqno(reader.counter(0, "seqno of a run")?);
        reader.check(min_seqno <= max_seqno, "the seqnos of a run are the wrong way round")?;
        let level = reader.u32()?;
        reader.check(level <= u32::from(MAX_RUN_LEVEL), "the level of a run is out of bounds")?;
        let tables = reader.u32()?;
        let tables = reader.count(tables, TABLE_FIXED_BYTES + 1)?;
        let mut run = RunEntry {
            min_seqno,
            max_seqno,
            level: level as u8,
            tables: Vec::with_capacity(tables),
        };
        for _ in 0..tables {
            let meta_bytes = reader.u32()? as usize;
            reader.check(
                (1..=MAX_TABLE_META_BYTES).contains(&meta_bytes),
                "length of a table meta",
            )?;
            run.tables.push(reader.take(meta_bytes)?.to_vec());
        }
        manifest.runs.push(run);
    }
    Ok(())
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
