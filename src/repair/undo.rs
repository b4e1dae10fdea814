//! Undoing a repair: the originals go back, byte for byte.
//!
//! First all of them but the manifest, which nothing names yet, synced; then the manifest, which is the
//! moment of the undoing; then the new tables and the quarantine go, the journal last. Every step can be
//! done twice, so that a run that died is finished by running it again.
//!
//! Invariant: whoever has written to the database since the repair has published another manifest; then
//! nothing is undone, because their commits would be lost.

use super::files::{self, FileMark};
use super::journal::{JOURNAL, Journal, place};
use super::{PlanId, QUARANTINE};
use crate::error::{Error, Result};
use crate::fs::{Barrier, FileSystem, OpenMode, PathKind};
use crate::lock;
use crate::manifest::names;
use std::path::Path;
use std::sync::Arc;

/// What was undone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undone {
    /// The plan's number.
    pub id: PlanId,
    /// The files that are back, with their lengths in bytes.
    pub restored: Vec<(String, u64)>,
}

/// Undoes a repair: the one of that number, or the one that made the database what it is now.
///
/// # Errors
/// [`Error::NotFound`] if there is no such repair, [`Error::PlanChanged`] if the database was written to
/// since, [`Error::Damage`] if an original in the quarantine is not what it was, [`Error::Locked`],
/// [`Error::NoSpace`], [`Error::Io`]. The same call again finishes what an error or a crash broke off.
pub fn undo(fs: &Arc<dyn FileSystem>, dir: impl AsRef<Path>, id: Option<PlanId>) -> Result<Undone> {
    let dir = dir.as_ref();
    if fs.kind(dir).map_err(|e| Error::io("look at", dir, e))? != PathKind::Directory {
        return Err(Error::NotFound { path: dir.to_path_buf() });
    }
    let _lock = lock::take(&**fs, dir)?;
    let now = files::mark(&**fs, dir, names::MANIFEST_NAME)?;
    let mut journals = Vec::new();
    for plan in Journal::plans(&**fs, dir)? {
        if id.is_none_or(|id| id == plan) {
            journals.extend(Journal::read(&**fs, dir, plan)?);
        }
    }
    if journals.is_empty() {
        return Err(Error::NotFound { path: dir.join(QUARANTINE) });
    }
    let is_state = |journal: &&Journal| {
        // Repaired, or an undo of it got as far as the manifest.
        let sum = now.as_ref().map(|now| now.sum);
        sum == Some(journal.after)
            || sum == journal.original(names::MANIFEST_NAME).map(|file| file.sum)
    };
    let Some(journal) = journals.iter().find(is_state) else {
        let what = "something was written to the database after the repair".to_owned();
        return Err(Error::PlanChanged { path: dir.to_path_buf(), what });
    };
    put_back(&**fs, dir, journal)?;
    let restored = journal.originals.iter().map(|file| (file.name.clone(), file.bytes)).collect();
    Ok(Undone { id: journal.plan, restored })
}

/// Puts the originals back and removes what the repair wrote.
pub fn put_back(fs: &dyn FileSystem, dir: &Path, journal: &Journal) -> Result<()> {
    let quarantine = place(dir, journal.plan);
    let is_manifest = |file: &&FileMark| file.name == names::MANIFEST_NAME;
    let back =
        |file: &FileMark| Ok::<_, Error>(files::mark(fs, dir, &file.name)?.as_ref() == Some(file));
    for file in &journal.originals {
        // Before anything is touched: whether all can be put back.
        if files::mark(fs, &quarantine, &file.name)?.as_ref() != Some(file) && !back(file)? {
            let path = quarantine.join(&file.name);
            return Err(Error::damage(&path, 0, "the original in the quarantine was changed"));
        }
    }
    for file in journal.originals.iter().filter(|file| !is_manifest(file)) {
        if back(file)? {
            continue;
        }
        files::copy(fs, &quarantine, dir, file)?;
    }
    files::sync_names(fs, dir)?;
    if let Some(file) = journal.original(names::MANIFEST_NAME)
        && !back(file)?
    {
        let path = quarantine.join(&file.name);
        let io = |e| Error::io("read", &path, e);
        let source = fs.open(&path, OpenMode::Read).map_err(io)?;
        let mut bytes = vec![0; usize::try_from(file.bytes).unwrap_or(0)];
        crate::fs::read_exact(&*source, &mut bytes, 0).map_err(io)?;
        let barriers = (Barrier::ManifestContent, Barrier::ManifestName);
        files::replace(fs, dir, names::MANIFEST_NAME, &bytes, barriers)?;
    }
    // The name may not be durable if an earlier run died here.
    crate::fs::sync_dir(fs, dir, Barrier::ManifestName).map_err(|e| Error::io("sync", dir, e))?;
    for name in &journal.new {
        files::remove(fs, dir, name)?;
    }
    files::sync_names(fs, dir)?;
    for file in &journal.originals {
        files::remove(fs, &quarantine, &file.name)?;
    }
    files::sync_names(fs, &quarantine)?;
    files::remove(fs, &quarantine, JOURNAL)?;
    files::sync_names(fs, &quarantine)
}
