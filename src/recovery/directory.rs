//! What lies in a database directory, by name and length; and the manifest.

use crate::error::{Error, Result};
use crate::fs::{self, FileSystem, OpenMode, PathKind};
use crate::manifest::codec::{MANIFEST_FORMAT_VERSION, MAX_MANIFEST_BYTES, ManifestFault};
use crate::manifest::names::OurFile;
use crate::manifest::{INCOMPATIBLE_FEATURES_KNOWN, Manifest, READ_ONLY_FEATURES_KNOWN, names};
use crate::types::{FileId, Lsn};
use std::collections::BTreeMap;
use std::path::Path;

/// A file with a segment's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    pub base: Lsn,
    /// Length of the file in bytes.
    pub bytes: u64,
    pub name: String,
}

/// The names in a directory, sorted by what they are.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub has_manifest: bool,
    /// Ascending by base.
    pub segments: Vec<SegmentFile>,
    /// Length in bytes by id.
    pub tables: BTreeMap<FileId, u64>,
    /// Temporary and spare files: never needed.
    pub temporary: Vec<String>,
    pub foreign: Vec<String>,
}

impl Directory {
    /// Lists `dir`. `None` if nothing lies there.
    pub fn read(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Directory>> {
        match fs.kind(dir).map_err(|e| Error::io("look at", dir, e))? {
            PathKind::Missing => return Ok(None),
            PathKind::File => {
                return Err(Error::NotADatabase {
                    path: dir.to_path_buf(),
                    what: "it is a file, not a directory".to_owned(),
                });
            }
            PathKind::Directory => {}
        }
        let mut found = Directory::default();
        for entry in fs.list(dir).map_err(|e| Error::io("list", dir, e))? {
            if entry.is_dir {
                found.foreign.push(entry.name);
                continue;
            }
            match names::classify(&entry.name) {
                OurFile::Manifest => found.has_manifest = true,
                OurFile::ManifestNew | OurFile::TableNew(_) | OurFile::SpareSegment(_) => {
                    found.temporary.push(entry.name);
                }
                OurFile::Lock | OurFile::Reserve => {}
                OurFile::Segment(base) => {
                    found.segments.push(SegmentFile { base, bytes: entry.len, name: entry.name });
                }
                OurFile::Table(id) => {
                    found.tables.insert(id, entry.len);
                }
                OurFile::Foreign => found.foreign.push(entry.name),
            }
        }
        found.segments.sort_by_key(|segment| segment.base);
        found.temporary.sort();
        Ok(Some(found))
    }

    /// Checks that a directory without a manifest may become a database: a crash while one was created
    /// leaves at most a lock and an unfinished manifest.
    pub fn check_empty(&self, dir: &Path) -> Result<()> {
        if !self.segments.is_empty() || !self.tables.is_empty() {
            let path = dir.join(names::MANIFEST_NAME);
            return Err(Error::damage(
                &path,
                0,
                "the manifest is missing, but there are log segments or tables",
            ));
        }
        if let Some(name) = self.foreign.first() {
            return Err(Error::NotADatabase {
                path: dir.to_path_buf(),
                what: format!("it holds {name:?}, which is not ours, and no manifest"),
            });
        }
        Ok(())
    }
}

/// Reads and checks the manifest.
pub fn read_manifest(fs: &dyn FileSystem, dir: &Path, read_only: bool) -> Result<Manifest> {
    let path = dir.join(names::MANIFEST_NAME);
    let file = fs.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))?;
    let length = file.len().map_err(|e| Error::io("read", &path, e))?;
    if length > MAX_MANIFEST_BYTES {
        return Err(Error::damage(&path, 0, format!("a manifest of {length} bytes is too long")));
    }
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(length as usize);
    reserved.map_err(|_| {
        Error::io("read", &path, std::io::Error::from(std::io::ErrorKind::OutOfMemory))
    })?;
    bytes.resize(length as usize, 0);
    let read = fs::read_full(&*file, &mut bytes, 0).map_err(|e| Error::io("read", &path, e))?;
    bytes.truncate(read);
    let unsupported =
        |what, found, supported| Error::Unsupported { file: path.clone(), what, found, supported };
    let manifest = Manifest::decode(&bytes).map_err(|fault| match fault {
        ManifestFault::Version { found } => {
            unsupported("format version", found, u64::from(MANIFEST_FORMAT_VERSION))
        }
        ManifestFault::IncompatibleFeatures { found } => {
            unsupported("incompatible feature bits", found, INCOMPATIBLE_FEATURES_KNOWN)
        }
        fault => Error::damage(&path, fault_offset(&fault), fault.to_string()),
    })?;
    if !read_only && !manifest.read_only_features_supported() {
        let found = manifest.features.read_only;
        return Err(unsupported("feature bits for writing", found, READ_ONLY_FEATURES_KNOWN));
    }
    Ok(manifest)
}

fn fault_offset(fault: &ManifestFault) -> u64 {
    match fault {
        ManifestFault::Crc { offset }
        | ManifestFault::Field { offset, .. }
        | ManifestFault::Trailing { offset } => *offset,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::testlog::{TestLog, dir};

    fn read(log: &TestLog, bytes: &[u8], read_only: bool) -> Result<Manifest> {
        log.disk.write_file(dir().join(names::MANIFEST_NAME), bytes).unwrap();
        read_manifest(&log.disk, dir(), read_only)
    }

    #[test]
    fn unknown_features_for_writing_stop_writers_only() {
        let mut log = TestLog::new();
        for (features, writable) in [(0, true), (1, false)] {
            log.manifest.features.read_only = features;
            let bytes = log.manifest.encode();
            assert_eq!(read(&log, &bytes, true).unwrap(), log.manifest);
            let outcome = read(&log, &bytes, false);
            assert_eq!(outcome.is_ok(), writable);
            let unsupported = matches!(outcome, Err(Error::Unsupported { found: 1, .. }));
            assert_eq!(unsupported, !writable);
        }
    }

    #[test]
    fn damage_of_the_manifest_names_its_place() {
        let log = TestLog::new();
        let bytes = log.manifest.encode();
        let offset = |bytes: &[u8]| match read(&log, bytes, false) {
            Err(Error::Damage { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        let mut flipped = bytes.clone();
        flipped[20] ^= 1;
        assert_eq!(offset(&flipped), 60, "the header's checksum");
        flipped = bytes.clone();
        flipped[80] ^= 1;
        assert_eq!(offset(&flipped), bytes.len() as u64 - 4, "the body's checksum");
        assert_eq!(offset(&[&bytes[..], b"more"].concat()), bytes.len() as u64);
        assert_eq!(offset(&bytes[..50]), 0);
    }

    #[test]
    fn a_manifest_that_is_too_long_is_not_read() {
        let log = TestLog::new();
        let path = dir().join(names::MANIFEST_NAME);
        let file = log.disk.open(&path, OpenMode::CreateNew).unwrap();
        file.set_len(MAX_MANIFEST_BYTES + 1).unwrap();
        let error = read_manifest(&log.disk, dir(), false).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
