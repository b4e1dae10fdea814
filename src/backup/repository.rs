//! A repository: the directory that holds the backups of one database.
//!
//! Invariants: a directory that holds anything else is refused before a byte is written to it; while a
//! backup is made, the lock keeps out another one; a damaged backup file names nothing.

use super::format::{
    BACKUP_FORMAT_VERSION, BackupFault, BackupFile, BackupRecord, MAX_BACKUP_FILE_BYTES,
    backup_name, parse_backup_name,
};
use crate::error::{Error, Result};
use crate::fs::{self, FileSystem, LockGuard, OpenMode, PathKind};
use crate::lock;
use crate::manifest::names;
use crate::types::{DatabaseId, FileId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// What is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Neither may lie in the other: the database leaves foreign files alone, and backups are for the day on
/// which its directory is gone.
pub fn check_apart(fs: &dyn FileSystem, database: &Path, directory: &Path) -> Result<()> {
    if directory.as_os_str().is_empty() {
        return Err(Error::InvalidArgument(
            "the directory for backups is empty; name one".to_owned(),
        ));
    }
    let real = |path: &Path| fs.canonical(path).map_err(|e| Error::io("look at", path, e));
    let (from, to) = (real(database)?, real(directory)?);
    if from.starts_with(&to) || to.starts_with(&from) {
        return Err(Error::InvalidArgument(format!(
            "{} and {} lie in each other; name a directory for backups beside the database, best on \
             another disk",
            database.display(),
            directory.display()
        )));
    }
    Ok(())
}

/// A locked repository.
pub struct Repository {
    pub dir: PathBuf,
    _lock: Box<dyn LockGuard>,
    pub next_number: u64,
    /// Files that whole backups name.
    pub named: BTreeMap<FileId, BackupFile>,
}

impl Repository {
    /// Takes the lock and reads what is there.
    pub fn lock(fs: &Arc<dyn FileSystem>, dir: &Path, database: DatabaseId) -> Result<Repository> {
        // Looked at before the lock file is made: what is not ours stays as it is.
        for entry in fs.list(dir).map_err(|e| Error::io("list", dir, e))? {
            let own = parse_backup_name(entry.name.strip_suffix(".new").unwrap_or(&entry.name))
                .is_some()
                || matches!(
                    names::classify(&entry.name),
                    names::OurFile::Table(_) | names::OurFile::TableNew(_) | names::OurFile::Lock
                );
            if entry.is_dir || !own {
                return Err(Error::InvalidArgument(format!(
                    "{} holds {:?}, which belongs to no backup; name an empty directory or one that \
                     holds backups only",
                    dir.display(),
                    entry.name
                )));
            }
        }
        let lock = lock::take(&**fs, dir)?;
        let mut repository = Repository {
            dir: dir.to_path_buf(),
            _lock: lock,
            next_number: 1,
            named: BTreeMap::new(),
        };
        for entry in fs.list(dir).map_err(|e| Error::io("list", dir, e))? {
            let Some(number) = parse_backup_name(&entry.name) else { continue };
            repository.next_number = repository.next_number.max(number + 1);
            // A damaged one names nothing; `verify` tells of it.
            let Ok(record) = read_record(&**fs, dir, number) else { continue };
            if record.database != database {
                return Err(Error::InvalidArgument(format!(
                    "{} holds backups of database {}, this one is {database}; name another directory",
                    dir.display(),
                    record.database
                )));
            }
            repository.named.extend(record.files.iter().map(|file| (file.file_id, *file)));
        }
        Ok(repository)
    }
}

/// Reads and checks a backup's own file.
pub fn read_record(fs: &dyn FileSystem, dir: &Path, number: u64) -> Result<BackupRecord> {
    let path = dir.join(backup_name(number));
    let io = |e| Error::io("read", &path, e);
    if fs.kind(&path).map_err(io)? == PathKind::Missing {
        return Err(Error::NotFound { path });
    }
    let file = fs.open(&path, OpenMode::Read).map_err(io)?;
    let length = file.len().map_err(io)?;
    if length > MAX_BACKUP_FILE_BYTES {
        return Err(Error::damage(
            &path,
            0,
            format!("a backup file of {length} bytes is too long"),
        ));
    }
    let mut bytes = vec![0; length as usize];
    fs::read_exact(&*file, &mut bytes, 0).map_err(io)?;
    let record = BackupRecord::decode(&bytes).map_err(|fault| match fault {
        BackupFault::Version(found) => Error::Unsupported {
            file: path.clone(),
            what: "backup format version",
            found: u64::from(found),
            supported: u64::from(BACKUP_FORMAT_VERSION),
        },
        fault => Error::damage(&path, 0, fault.to_string()),
    })?;
    if record.number != number {
        return Err(Error::damage(
            &path,
            32,
            format!("it says that it is backup {}", record.number),
        ));
    }
    Ok(record)
}

/// XXH3-128 of a whole file.
pub fn hash_file(fs: &dyn FileSystem, path: &Path) -> Result<u128> {
    let io = |e| Error::io("read", path, e);
    let file = fs.open(path, OpenMode::Read).map_err(io)?;
    let mut hasher = Xxh3::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = fs::read_full(&*file, &mut chunk, at).map_err(io)?;
        if read == 0 {
            return Ok(hasher.digest128());
        }
        hasher.update(&chunk[..read]);
        at += read as u64;
    }
}
