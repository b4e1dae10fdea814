//! The start of a directory that is written from other data: by a salvage, a restore.
//!
//! Invariants: the place is new or an empty directory, and neither inside what is read nor around it;
//! its manifest is written last, so that a half-made database is seen as such (tables without a manifest
//! are damage to an open, never an empty database).

use crate::engine::{PublishError, create_dirs, parent_of, write_manifest};
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, FileSystem, PathKind};
use crate::manifest::Manifest;
use crate::types::DatabaseId;
use std::path::Path;

/// Checks that `target` can be written without touching `source`: it is missing or an empty directory,
/// and neither lies in the other. Writes nothing.
pub fn check_place(fs: &dyn FileSystem, source: &Path, target: &Path) -> Result<()> {
    if target.as_os_str().is_empty() {
        return Err(Error::InvalidArgument("the target is empty; name a new directory".to_owned()));
    }
    let real = |path: &Path| fs.canonical(path).map_err(|e| Error::io("look at", path, e));
    let (from, to) = (real(source)?, real(target)?);
    if to.starts_with(&from) || from.starts_with(&to) {
        return Err(Error::InvalidArgument(format!(
            "{} and {} lie in each other; name a new directory beside the source",
            source.display(),
            target.display()
        )));
    }
    match fs.kind(target).map_err(|e| Error::io("look at", target, e))? {
        PathKind::Missing => Ok(()),
        PathKind::Directory => {
            let entries = fs.list(target).map_err(|e| Error::io("list", target, e))?;
            match entries.first() {
                None => Ok(()),
                Some(entry) => Err(Error::InvalidArgument(format!(
                    "{} is not empty (it holds {:?}); name a new directory",
                    target.display(),
                    entry.name
                ))),
            }
        }
        PathKind::File => Err(Error::InvalidArgument(format!(
            "{} is a file; name a new directory",
            target.display()
        ))),
    }
}

/// Makes the directory, its name synced.
pub fn make_place(fs: &dyn FileSystem, target: &Path) -> Result<()> {
    create_dirs(fs, target)?;
    if let Some(parent) = parent_of(target) {
        fs::sync_dir(fs, &parent, Barrier::CreateParent)
            .map_err(|e| Error::io("sync", &parent, e))?;
    }
    Ok(())
}

/// A new random name for a database.
pub fn new_database_id(fs: &dyn FileSystem, dir: &Path) -> Result<DatabaseId> {
    let random = || fs.random().map_err(|e| Error::io("draw a random id for", dir, e));
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random()?.to_le_bytes());
    id[8..].copy_from_slice(&random()?.to_le_bytes());
    Ok(DatabaseId(id))
}

/// Makes what was written a database: its tables are synced, their names are made durable, and then the
/// manifest is written.
pub fn publish_new(fs: &dyn FileSystem, dir: &Path, manifest: &Manifest) -> Result<()> {
    fs::sync_dir(fs, dir, Barrier::CopyName).map_err(|e| Error::io("sync", dir, e))?;
    write_manifest(fs, dir, manifest).map_err(|error| match error {
        PublishError::Before(error) | PublishError::Unknown(error) => error,
    })
}
