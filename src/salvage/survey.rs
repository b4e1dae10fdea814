//! The survey: which files of a directory belong to the database, by what is in them rather than by what
//! they are called, and what the manifest is worth.
//!
//! A file says itself what it is: segments and tables begin with a checksummed header that names the
//! database, and their base or number. The name is believed only where the header cannot be read. Which
//! database is meant is decided by the majority of readable headers; the manifest has one voice.

use super::receipt::{ManifestState, SetAside};
use crate::error::{Error, Result};
use crate::fs::{self, FileSystem, OpenMode, PathKind};
use crate::manifest::codec::{MAX_MANIFEST_BYTES, ManifestFault};
use crate::manifest::mend::mend;
use crate::manifest::names::{OurFile, classify};
use crate::manifest::{INCOMPATIBLE_FEATURES_KNOWN, Manifest};
use crate::table::stated_table;
use crate::types::{DatabaseId, FileId, Lsn};
use crate::wal::segment::{SEGMENT_HEADER_BYTES, SegmentFault, SegmentHeader};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A table file.
#[derive(Clone, Debug)]
pub struct TableFile {
    pub path: PathBuf,
    pub name: String,
    pub bytes: u64,
}

/// A segment file.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    pub path: PathBuf,
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// From the header, or else from the name.
    pub base: Lsn,
    pub header: Option<SegmentHeader>,
}

/// What lies in a directory.
#[derive(Debug)]
pub struct Survey {
    pub database: DatabaseId,
    /// Whole or mended, and of this database. Whether it is the newest, the log has to say.
    pub manifest: Option<Manifest>,
    pub manifest_state: ManifestState,
    pub tables: BTreeMap<FileId, TableFile>,
    /// Ascending by base.
    pub segments: Vec<SegmentFile>,
    pub set_aside: Vec<SetAside>,
}

/// A file before it is known which database is meant.
enum Seen {
    Table(Option<DatabaseId>, FileId, TableFile),
    Segment(SegmentFile),
}

impl Survey {
    /// Looks at every file of `dir` that has one of our names. Writes nothing.
    pub fn take(fs: &dyn FileSystem, dir: &Path) -> Result<Survey> {
        match fs.kind(dir).map_err(|e| Error::io("look at", dir, e))? {
            PathKind::Directory => {}
            PathKind::Missing => return Err(Error::NotFound { path: dir.to_path_buf() }),
            PathKind::File => {
                return Err(Error::NotADatabase {
                    path: dir.to_path_buf(),
                    what: "it is a file, not a directory".to_owned(),
                });
            }
        }
        let mut entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
        entries.sort_by(|one, two| one.name.cmp(&two.name));
        let mut seen = Vec::new();
        let mut set_aside = Vec::new();
        let mut manifest = Judged { state: ManifestState::Missing, manifest: None };
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            let kind = classify(&entry.name);
            if kind == OurFile::Foreign {
                continue;
            }
            let path = dir.join(&entry.name);
            let head = head_of(fs, &path);
            let unused = |why: &str| SetAside {
                file: entry.name.clone(),
                bytes: entry.len,
                why: why.to_owned(),
            };
            let segment = SegmentHeader::decode(&head);
            let stated = stated_table(&head);
            if kind == OurFile::Manifest || head.starts_with(b"HWmanif\n") {
                let found = judge(fs, &path, entry.len)?;
                // An unfinished one, or one under another name, counts only where the own one fails.
                if kind == OurFile::Manifest || manifest.manifest.is_none() {
                    let better = found.manifest.is_some() || kind == OurFile::Manifest;
                    if better && (manifest.manifest.is_none() || found.manifest.is_some()) {
                        manifest = found;
                    }
                }
                continue;
            }
            match (segment, stated, kind) {
                (Ok(header), ..) => seen.push(Seen::Segment(SegmentFile {
                    path,
                    name: entry.name,
                    bytes: entry.len,
                    base: header.base,
                    header: Some(header),
                })),
                (_, Some((database, id)), _) => {
                    let file = TableFile { path, name: entry.name, bytes: entry.len };
                    seen.push(Seen::Table(Some(database), id, file));
                }
                (Err(SegmentFault::Version { .. } | SegmentFault::Features { .. }), ..) => {
                    set_aside.push(unused("a log of a format that this version does not know"));
                }
                (_, _, OurFile::Segment(base)) => seen.push(Seen::Segment(SegmentFile {
                    path,
                    name: entry.name,
                    bytes: entry.len,
                    base,
                    header: None,
                })),
                (_, _, OurFile::Table(id)) => {
                    let file = TableFile { path, name: entry.name, bytes: entry.len };
                    seen.push(Seen::Table(None, id, file));
                }
                _ => {}
            }
        }
        settle(dir, seen, manifest, set_aside)
    }
}

/// Decides which database is meant, and sets aside what belongs to another.
fn settle(
    dir: &Path,
    seen: Vec<Seen>,
    manifest: Judged,
    mut set_aside: Vec<SetAside>,
) -> Result<Survey> {
    let Judged { mut state, mut manifest } = manifest;
    let mut voices: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    let stated = seen.iter().filter_map(|file| match file {
        Seen::Table(database, ..) => *database,
        Seen::Segment(segment) => segment.header.map(|header| header.database),
    });
    // A tie goes to the manifest.
    stated.for_each(|id| *voices.entry(id.0).or_default() += 2);
    let own = manifest.as_ref().map(|manifest| manifest.database);
    own.into_iter().for_each(|id| *voices.entry(id.0).or_default() += 3);
    let database = voices.iter().max_by_key(|(_, count)| **count).map(|(id, _)| DatabaseId(*id));
    let Some(database) = database else {
        return Err(Error::NotADatabase {
            path: dir.to_path_buf(),
            what: "no file in it has a readable header, so nothing can be salvaged".to_owned(),
        });
    };
    if own.is_some_and(|own| own != database) {
        (manifest, state) = (None, ManifestState::Foreign);
    }
    let mut tables: BTreeMap<FileId, TableFile> = BTreeMap::new();
    let mut segments = Vec::new();
    for file in seen {
        let (name, bytes, stated) = match &file {
            Seen::Table(stated, _, file) => (file.name.clone(), file.bytes, *stated),
            Seen::Segment(file) => (file.name.clone(), file.bytes, file.header.map(|h| h.database)),
        };
        if stated.is_some_and(|stated| stated != database) {
            let why = "it belongs to another database".to_owned();
            set_aside.push(SetAside { file: name, bytes, why });
            continue;
        }
        match file {
            Seen::Segment(segment) => segments.push(segment),
            Seen::Table(stated, id, file) => {
                // A header is believed before a name.
                if stated.is_some() || !tables.contains_key(&id) {
                    tables.insert(id, file);
                }
            }
        }
    }
    segments.sort_by_key(|segment| (segment.base, segment.header.is_none()));
    Ok(Survey { database, manifest, manifest_state: state, tables, segments, set_aside })
}

struct Judged {
    state: ManifestState,
    manifest: Option<Manifest>,
}

fn judge(fs: &dyn FileSystem, path: &Path, length: u64) -> Result<Judged> {
    let damaged = |what: String| Judged { state: ManifestState::Damaged { what }, manifest: None };
    if length > MAX_MANIFEST_BYTES {
        return Ok(damaged(format!("it has {length} bytes")));
    }
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(length as usize).is_err() {
        return Ok(damaged("it does not fit into memory".to_owned()));
    }
    bytes.resize(length as usize, 0);
    let read = fs.open(path, OpenMode::Read).and_then(|file| fs::read_full(&*file, &mut bytes, 0));
    match read {
        Ok(read) => bytes.truncate(read),
        Err(error) => return Ok(damaged(error.to_string())),
    }
    Ok(match Manifest::decode(&bytes) {
        Ok(manifest) => Judged { state: ManifestState::Whole, manifest: Some(manifest) },
        Err(ManifestFault::IncompatibleFeatures { found }) => {
            return Err(Error::Unsupported {
                file: path.to_path_buf(),
                what: "incompatible feature bits",
                found,
                supported: INCOMPATIBLE_FEATURES_KNOWN,
            });
        }
        Err(ManifestFault::Version { found }) => {
            return Err(Error::Unsupported {
                file: path.to_path_buf(),
                what: "format version",
                found,
                supported: u64::from(crate::manifest::codec::MANIFEST_FORMAT_VERSION),
            });
        }
        Err(fault) => match mend(&bytes) {
            Some((at, manifest)) => Judged {
                state: ManifestState::Mended { offset: at as u64 },
                manifest: Some(manifest),
            },
            None => damaged(fault.to_string()),
        },
    })
}

/// The first bytes of a file: as many as a segment's header has, or as can be read.
fn head_of(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let mut head = vec![0; SEGMENT_HEADER_BYTES];
    let read = fs.open(path, OpenMode::Read).and_then(|file| fs::read_full(&*file, &mut head, 0));
    head.truncate(read.unwrap_or(0));
    head
}
