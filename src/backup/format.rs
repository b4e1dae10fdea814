//! The file that makes a backup: what it consists of, as bytes.
//!
//! ```text
//!  0  magic           8   "HWbackup"       56  seqno           8
//!  8  format version  4   1                64  content        16   content hash; zeros without one
//! 12  flags           4   bit 0: hashed    80  files           4
//! 16  database       16                    84  reserved        4   zero
//! 32  number          8   from 1           88  manifest bytes  8
//! 40  taken           8   micros           96  file*, manifest
//! 48  lsn             8                        XXH3-128 of all before, 16
//!
//! file := file id: u64   bytes: u64   XXH3-128 of the file: u128
//! ```
//!
//! The manifest is one of the database's own format, as [`Manifest::encode`] writes it: it lists the tables
//! of the backup in place of the database's, has no live log, and is marked as closed cleanly.
//!
//! Invariants: the file is written last, after all that it names is synced; checked whole before a field
//! is believed; files and the manifest's tables are the same set.

use crate::bytes::{array_at, set_u32, set_u64, u32_at, u64_at};
use crate::content::ContentHash;
use crate::manifest::Manifest;
use crate::types::{DatabaseId, FileId, Lsn, Seqno};
use crate::wal::COUNTER_LIMIT;
use crate::wal::segment::parse_hex16;
use xxhash_rust::xxh3::xxh3_128;

/// Version of the format.
pub const BACKUP_FORMAT_VERSION: u32 = 1;
/// The longest such file that is read, in bytes.
pub const MAX_BACKUP_FILE_BYTES: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"HWbackup";
const FLAG_HASHED: u32 = 1;
const FIXED_BYTES: usize = 96;
const FILE_BYTES: usize = 32;
const SUM_BYTES: usize = 16;

/// One table of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupFile {
    /// Number of the table.
    pub file_id: FileId,
    /// Length of the file.
    pub bytes: u64,
    /// XXH3-128 of the file.
    pub sum: u128,
}

/// What a backup file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRecord {
    pub database: DatabaseId,
    pub number: u64,
    pub taken_micros: u64,
    pub lsn: Lsn,
    pub seqno: Seqno,
    pub content: Option<ContentHash>,
    pub files: Vec<BackupFile>,
    pub manifest: Manifest,
}

/// Why bytes are not a backup file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupFault {
    /// The file ends early.
    #[error("the backup file is cut short")]
    Short,
    /// The magic is another one.
    #[error("no backup file, the magic does not match")]
    Magic,
    /// The checksum does not match.
    #[error("the backup file fails its checksum")]
    Sum,
    /// Written by a newer version.
    #[error("the backup file has format version {0}")]
    Version(u32),
    /// The checksum holds, but a field is impossible.
    #[error("the backup file has an impossible field: {0}")]
    Field(&'static str),
    /// The manifest inside cannot be read.
    #[error("in the backup file, {0}")]
    Manifest(crate::manifest::codec::ManifestFault),
}

impl BackupRecord {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let manifest = self.manifest.encode();
        let mut out = vec![0; FIXED_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        set_u32(&mut out, 8, BACKUP_FORMAT_VERSION);
        set_u32(&mut out, 12, if self.content.is_some() { FLAG_HASHED } else { 0 });
        out[16..32].copy_from_slice(&self.database.0);
        set_u64(&mut out, 32, self.number);
        set_u64(&mut out, 40, self.taken_micros);
        set_u64(&mut out, 48, self.lsn.get());
        set_u64(&mut out, 56, self.seqno.get());
        let content = self.content.map_or(0, |hash| hash.0);
        out[64..80].copy_from_slice(&content.to_le_bytes());
        set_u32(&mut out, 80, self.files.len() as u32);
        set_u64(&mut out, 88, manifest.len() as u64);
        for file in &self.files {
            out.extend_from_slice(&file.file_id.get().to_le_bytes());
            out.extend_from_slice(&file.bytes.to_le_bytes());
            out.extend_from_slice(&file.sum.to_le_bytes());
        }
        out.extend_from_slice(&manifest);
        let sum = xxh3_128(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a whole file.
    pub fn decode(bytes: &[u8]) -> Result<BackupRecord, BackupFault> {
        if bytes.len() < FIXED_BYTES + SUM_BYTES {
            return Err(BackupFault::Short);
        }
        if array_at(bytes, 0) != MAGIC {
            return Err(BackupFault::Magic);
        }
        let (summed, sum) = bytes.split_at(bytes.len() - SUM_BYTES);
        if xxh3_128(summed) != u128::from_le_bytes(array_at(sum, 0)) {
            return Err(BackupFault::Sum);
        }
        let version = u32_at(bytes, 8);
        if version != BACKUP_FORMAT_VERSION {
            return Err(BackupFault::Version(version));
        }
        let flags = u32_at(bytes, 12);
        let content = u128::from_le_bytes(array_at(bytes, 64));
        let fixed = flags & !FLAG_HASHED == 0
            && u32_at(bytes, 84) == 0
            && (flags & FLAG_HASHED != 0 || content == 0);
        if !fixed {
            return Err(BackupFault::Field("flags"));
        }
        let (number, lsn, seqno) = (u64_at(bytes, 32), u64_at(bytes, 48), u64_at(bytes, 56));
        if number == 0 || [number, lsn, seqno].iter().any(|counter| *counter >= COUNTER_LIMIT) {
            return Err(BackupFault::Field("a number is out of its bounds"));
        }
        let count = u32_at(bytes, 80) as usize;
        let files_end = FIXED_BYTES as u64 + count as u64 * FILE_BYTES as u64;
        if files_end.checked_add(u64_at(bytes, 88)) != Some(summed.len() as u64) {
            return Err(BackupFault::Field("lengths"));
        }
        let files_end = files_end as usize;
        let files: Vec<BackupFile> = summed[FIXED_BYTES..files_end]
            .chunks_exact(FILE_BYTES)
            .map(|entry| BackupFile {
                file_id: FileId(u64_at(entry, 0)),
                bytes: u64_at(entry, 8),
                sum: u128::from_le_bytes(array_at(entry, 16)),
            })
            .collect();
        let manifest = Manifest::decode(&summed[files_end..]).map_err(BackupFault::Manifest)?;
        let database = DatabaseId(array_at(bytes, 16));
        if manifest.database != database || !manifest.clean {
            return Err(BackupFault::Field("the manifest is not of this backup"));
        }
        Ok(BackupRecord {
            database,
            number,
            taken_micros: u64_at(bytes, 40),
            lsn: Lsn(lsn),
            seqno: Seqno(seqno),
            content: (flags & FLAG_HASHED != 0).then_some(ContentHash(content)),
            files,
            manifest,
        })
    }
}

/// Name of a backup's file.
pub fn backup_name(number: u64) -> String {
    format!("backup-{number:016x}.hwb")
}

/// The number in such a name; `None` if it is none.
pub fn parse_backup_name(name: &str) -> Option<u64> {
    parse_hex16(name.strip_prefix("backup-")?.strip_suffix(".hwb")?).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::testing::{assert_golden, every_bit_flip};
    use crate::types::{Generation, KeyspaceId};

    fn sample() -> BackupRecord {
        BackupRecord {
            database: DatabaseId(*b"0123456789abcdef"),
            number: 3,
            taken_micros: 1_700_000_000_000_000,
            lsn: Lsn(0x1_2345_6788),
            seqno: Seqno(77),
            content: Some(ContentHash(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
            files: vec![BackupFile { file_id: FileId(9), bytes: 4096, sum: 5 }],
            manifest: Manifest {
                generation: Generation(1),
                database: DatabaseId(*b"0123456789abcdef"),
                next_file_id: FileId(10),
                next_keyspace_id: KeyspaceId(1),
                next_segment_bytes: 1 << 20,
                clean: true,
                ..Manifest::default()
            },
        }
    }

    /// Changing these bytes means a new format version.
    #[test]
    fn golden() {
        let bytes = sample().encode();
        assert_golden(
            &bytes[..128],
            "
            48576261636b7570 0100000001000000 3031323334353637 3839616263646566
            0300000000000000 00401e18240a0600 8867452301000000 4d00000000000000
            ffeeddccbbaa9988 7766554433221100 0100000000000000 b400000000000000
            0900000000000000 0010000000000000 0500000000000000 0000000000000000
            ",
        );
        assert_eq!(backup_name(0x1f), "backup-000000000000001f.hwb");
        assert_eq!(parse_backup_name("backup-000000000000001f.hwb"), Some(0x1f));
        assert_eq!(parse_backup_name("backup-0000000000000000.hwb"), None);
        assert_eq!(parse_backup_name("backup-1f.hwb"), None);
    }

    #[test]
    fn round_trips_and_refuses_every_change() {
        let record = sample();
        let bytes = record.encode();
        assert_eq!(BackupRecord::decode(&bytes), Ok(record));
        every_bit_flip(&bytes, |bit, changed| {
            assert!(BackupRecord::decode(changed).is_err(), "bit {bit}");
        });
        for length in 0..bytes.len() {
            assert!(BackupRecord::decode(&bytes[..length]).is_err(), "cut to {length}");
        }
    }
}
