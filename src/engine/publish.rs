//! Publication of a manifest: the only way in which durable state changes shape.
//!
//! The new manifest is written beside the old one, synced, renamed over it, and the directory is synced.
//! A failure before the rename leaves the old one in force; a failure of the rename or of the directory's
//! sync leaves it open which one is, and poisons.

use super::Engine;
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, FileSystem, OpenMode};
use crate::manifest::{Manifest, names};
use crate::mistakes::{Mistake, planted};
use crate::types::Generation;
use std::path::Path;

/// How far a publication got when it failed.
pub enum PublishError {
    /// The old manifest is in force.
    Before(Error),
    /// Either may be.
    Unknown(Error),
}

impl Engine {
    /// Publishes the manifest as `edit` changes it.
    pub fn publish(&self, edit: impl FnOnce(&mut Manifest)) -> Result<()> {
        let mut published = self.published.lock();
        if published.sealed {
            return Err(Error::Closed);
        }
        self.log.check()?;
        let mut next = published.manifest.clone();
        edit(&mut next);
        next.generation = Generation(next.generation.get() + 1);
        next.written_micros = self.fs.now_micros();
        next.next_file_id = self.next_file_id();
        next.next_segment_bytes = self.space.next_segment_bytes();
        match write_manifest(&*self.fs, &self.dir, &next) {
            Ok(()) => {}
            Err(PublishError::Before(error @ Error::NoSpace { .. })) => return Err(error),
            Err(failed) => {
                published.doubtful |= matches!(failed, PublishError::Unknown(_));
                let (PublishError::Before(error) | PublishError::Unknown(error)) = failed;
                self.log.poison(std::io::Error::other(error.to_string()));
                return Err(error);
            }
        }
        self.space.set_generation(next.generation);
        self.log.set_generation(next.generation);
        published.manifest = next;
        Ok(())
    }

    fn next_file_id(&self) -> crate::types::FileId {
        let id = self.next_file_id.load(crate::sync::engine::Ordering::Acquire);
        crate::types::FileId(id)
    }
}

/// Writes `manifest` over the one in `dir`.
pub fn write_manifest(
    file_system: &dyn FileSystem,
    dir: &Path,
    manifest: &Manifest,
) -> Result<(), PublishError> {
    let new = dir.join(names::MANIFEST_NEW_NAME);
    let path = dir.join(names::MANIFEST_NAME);
    let bytes = manifest.encode();
    if let Err(fault) = Manifest::decode(&bytes) {
        // A manifest that could not be read back would be the end of the database.
        let what = format!("the new manifest cannot be read back: {fault}; please report this");
        return Err(PublishError::Before(Error::InvalidArgument(what)));
    }
    // The first one of a database.
    let (content, name) = match manifest.generation {
        Generation(1) => (Barrier::NewManifestContent, Barrier::NewManifestName),
        _ => (Barrier::ManifestContent, Barrier::ManifestName),
    };
    if planted(Mistake::ManifestInPlace) && manifest.generation > Generation(1) {
        let in_place = || -> std::io::Result<()> {
            let file = file_system.open(&path, OpenMode::ReadWrite)?;
            fs::write_full(&*file, &bytes, 0)?;
            file.set_len(bytes.len() as u64)?;
            fs::sync_data(&*file, content)
        };
        return in_place().map_err(|e| PublishError::Unknown(no_space_is_io(&path, e)));
    }
    let write = || -> std::io::Result<()> {
        let file = match file_system.open(&new, OpenMode::CreateNew) {
            // An unfinished one of an earlier life.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                file_system.remove(&new)?;
                file_system.open(&new, OpenMode::CreateNew)?
            }
            outcome => outcome?,
        };
        fs::write_full(&*file, &bytes, 0)?;
        if planted(Mistake::RenamedBeforeSync) {
            file_system.rename(&new, &path)?;
        }
        fs::sync_data(&*file, content)
    };
    write().map_err(|e| {
        let _ = file_system.remove(&new);
        PublishError::Before(Error::io("write", &new, e))
    })?;
    let rename = || -> std::io::Result<()> {
        if !planted(Mistake::RenamedBeforeSync) {
            file_system.rename(&new, &path)?;
        }
        fs::sync_dir(file_system, dir, name)
    };
    rename().map_err(|e| PublishError::Unknown(no_space_is_io(&path, e)))
}

/// A full disk after the rename began is no longer a plain [`Error::NoSpace`]: the outcome is open.
fn no_space_is_io(path: &Path, error: std::io::Error) -> Error {
    Error::Io {
        action: "publish",
        path: path.to_path_buf(),
        cause: std::sync::Arc::new(std::io::Error::other(error)),
    }
}
