//! The archive: a folder that keeps released segments, and the tables that large transactions installed,
//! so that the log behind a backup stays whole.
//!
//! ```text
//! log-<base>.hwl            a copy of a segment that was released
//! table-<file id>.hwt       a copy of a table that a large transaction installed
//! *.copying                 half-written, never read
//! ```
//!
//! A copy is written beside, synced, renamed, and the folder is synced: a name that is there is a whole copy.
//! It is never a rename out of the database's directory, so the folder may lie on another disk. Segments
//! that never took a group are left out. A restore reads the folder and refuses to go over a commit that is
//! missing.
//!
//! Invariants: nothing in the folder is ever overwritten with other bytes; a name that is taken by other
//! bytes (a copy of the database went its own way) is an error; a dead segment is handed out for reuse
//! only after its copy is durable ([`spares`](super::spares)); a table is copied before the record that
//! installs it is placed in the log. A folder that cannot be reached at the open is tried again by each
//! copy, and checked before the first one.

use super::group::{BLOCK_BYTES, GROUP_HEADER_BYTES, GroupFault, GroupHeader};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use super::space::Spare;
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, DirEntry, File, FileSystem, OpenMode, PathKind};
use crate::manifest::names::{self, OurFile};
use crate::sync::engine::Mutex;
use crate::table::stated_table;
use crate::types::DatabaseId;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is copied at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Behind the name of a copy that is not finished.
const COPYING_SUFFIX: &str = ".copying";

/// See the module.
#[derive(Debug)]
pub struct Archive {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    database_dir: PathBuf,
    database: DatabaseId,
    /// Dead segments may wait up to this many bytes; then commits do not.
    pub limit_bytes: u64,
    /// Held while segments are copied, so that one thread does it.
    pub work: Mutex<()>,
    /// The folder was looked at, and is ours.
    checked: AtomicBool,
}

impl Archive {
    /// Makes the folder, or looks at what is in it. One that cannot be reached is no error yet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it lies in the database's directory or the other way round, holds
    /// something else or the log of another database.
    pub fn open(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        database_dir: &Path,
        database: DatabaseId,
        limit_bytes: u64,
    ) -> Result<Archive> {
        let archive = Archive {
            fs: fs.clone(),
            dir: dir.to_path_buf(),
            database_dir: database_dir.to_path_buf(),
            database,
            limit_bytes,
            work: Mutex::new(()),
            checked: AtomicBool::new(false),
        };
        match archive.check() {
            Err(error @ Error::InvalidArgument(_)) => Err(error),
            _ => Ok(archive),
        }
    }

    /// Once: whether the folder may take the log of this database.
    fn check(&self) -> Result<()> {
        if self.checked.load(Ordering::Acquire) {
            return Ok(());
        }
        let dir = &self.dir;
        crate::backup::check_apart(&*self.fs, &self.database_dir, dir)?;
        crate::fresh::make_place(&*self.fs, dir)?;
        let entries = self.fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let (mut ours, mut foreign) = (false, None);
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            match names::classify(entry.name.strip_suffix(COPYING_SUFFIX).unwrap_or(&entry.name)) {
                OurFile::Segment(_) | OurFile::Table(_) => ours = true,
                OurFile::Foreign => foreign = foreign.or(Some(entry)),
                // What belongs to a database or to a directory of backups.
                _ => return Err(self.not_ours(entry)),
            }
        }
        if let (false, Some(entry)) = (ours, foreign) {
            return Err(self.not_ours(entry));
        }
        // All files of a folder are of one database; a damaged one says nothing, and a restore tells.
        for entry in &entries {
            let Some(owner) = self.owner_of(&entry.name)? else { continue };
            if owner != self.database {
                return Err(Error::InvalidArgument(format!(
                    "{} is the archive of database {owner}, this one is {}; name another folder",
                    dir.display(),
                    self.database
                )));
            }
            break;
        }
        self.checked.store(true, Ordering::Release);
        Ok(())
    }

    fn not_ours(&self, entry: &DirEntry) -> Error {
        Error::InvalidArgument(format!(
            "{} holds {:?}, which belongs to no archive; name an empty folder",
            self.dir.display(),
            entry.name
        ))
    }

    /// The database that a whole file of the archive says it is of.
    fn owner_of(&self, name: &str) -> Result<Option<DatabaseId>> {
        let kind = names::classify(name);
        if !matches!(kind, OurFile::Segment(_) | OurFile::Table(_)) {
            return Ok(None);
        }
        let path = self.dir.join(name);
        let opened = self.fs.open(&path, OpenMode::Read);
        let head = opened.and_then(|file| head_of(&*file));
        let head = head.map_err(|e| Error::io("read", &path, e))?;
        Ok(match kind {
            OurFile::Segment(_) => SegmentHeader::decode(&head).ok().map(|header| header.database),
            _ => stated_table(&head).map(|(database, _)| database),
        })
    }

    /// Copies a dead segment, if it ever took a group and is not there yet.
    ///
    /// # Errors
    /// [`Error::Archive`].
    pub fn segment(&self, spare: &Spare) -> Result<()> {
        let own = spare.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let own = own.unwrap_or_default();
        // A spare file is no segment before it is renamed.
        if !matches!(names::classify(&own), OurFile::Segment(_)) {
            return Ok(());
        }
        self.guarded(|| {
            let file = self.fs.open(&spare.path, OpenMode::Read)?;
            let head = head_of(&*file)?;
            let header_bytes = SEGMENT_HEADER_BYTES as u64;
            match SegmentHeader::decode(&head) {
                Ok(header) if !took_groups(&*file, &header)? => Ok(()),
                Ok(header) => self.copy(&*file, &segment_name(header.base), 0..header_bytes),
                // What cannot be told is kept under the name that it has. The power may have failed while
                // the file, long copied, got the header of its next use: then the rest tells.
                Err(_) => self.copy(&*file, &own, header_bytes..u64::MAX),
            }
        })
    }

    /// Copies a table that is about to be installed.
    ///
    /// # Errors
    /// [`Error::Archive`].
    pub fn table(&self, path: &Path) -> Result<()> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.guarded(|| {
            let file = self.fs.open(path, OpenMode::Read)?;
            self.copy(&*file, &name.unwrap_or_default(), 0..u64::MAX)
        })
    }

    fn guarded(&self, copy: impl FnOnce() -> io::Result<()>) -> Result<()> {
        let failed = |cause| self.failed(cause, 0);
        self.check().map_err(|error| match error {
            Error::Io { cause, .. } => failed(io::Error::new(cause.kind(), cause.to_string())),
            error => failed(io::Error::other(error.to_string())),
        })?;
        copy().map_err(failed)
    }

    /// The error of commits.
    pub fn failed(&self, cause: io::Error, held_bytes: u64) -> Error {
        Error::Archive { path: self.dir.clone(), cause: Arc::new(cause), held_bytes }
    }

    /// Copies `source`, unless a file of that name is there whose length and `telling` bytes are the same.
    /// (A segment's header holds the random salt of its life, so no two segments have one.)
    fn copy(&self, source: &dyn File, name: &str, telling: Range<u64>) -> io::Result<()> {
        let path = self.dir.join(name);
        let new = self.dir.join(format!("{name}{COPYING_SUFFIX}"));
        if self.fs.kind(&path)? != PathKind::Missing {
            if !same_bytes(source, &*self.fs.open(&path, OpenMode::Read)?, telling)? {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!(
                        "it holds another {name}: a copy of this database was opened with the same \
                         archive, or the file is damaged"
                    ),
                ));
            }
            // Its name may not be durable, if a run died behind the rename.
            return fs::sync_dir(&*self.fs, &self.dir, Barrier::CopyName);
        }
        if self.fs.kind(&new)? != PathKind::Missing {
            self.fs.remove(&new)?;
        }
        let mut renamed = false;
        let mut attempt = || -> io::Result<()> {
            let target = self.fs.open(&new, OpenMode::CreateNew)?;
            copy_bytes(source, &*target, u64::MAX)?;
            fs::sync_data(&*target, Barrier::Copy)?;
            self.fs.rename(&new, &path)?;
            renamed = true;
            fs::sync_dir(&*self.fs, &self.dir, Barrier::CopyName)
        };
        let outcome = attempt();
        if outcome.is_err() {
            // No later sync says anything about what a failed one covered: the next try starts anew.
            let _ = self.fs.remove(if renamed { &path } else { &new });
        }
        outcome
    }
}

/// Copies a whole file: the first `kept` bytes, and zeros for the rest.
pub fn copy_bytes(source: &dyn File, target: &dyn File, kept: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let count = fs::read_full(source, &mut chunk, at)?;
        if count == 0 {
            return Ok(());
        }
        let whole = kept.saturating_sub(at).min(count as u64) as usize;
        chunk[whole..count].fill(0);
        fs::write_full(target, &chunk[..count], at)?;
        at += count as u64;
    }
}

fn same_bytes(one: &dyn File, other: &dyn File, telling: Range<u64>) -> io::Result<bool> {
    let bytes = one.len()?;
    if other.len()? != bytes {
        return Ok(false);
    }
    let (mut at, end) = (telling.start, bytes.min(telling.end));
    while at < end {
        let count = (end - at).min(CHUNK_BYTES as u64) as usize;
        let (mut left, mut right) = (vec![0; count], vec![0; count]);
        fs::read_exact(one, &mut left, at)?;
        fs::read_exact(other, &mut right, at)?;
        if left != right {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

fn head_of(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; SEGMENT_HEADER_BYTES];
    let read = fs::read_full(file, &mut head, 0)?;
    head.truncate(read);
    Ok(head)
}

/// Whether a file holds nothing but zeros from `at` on.
pub fn is_blank_from(file: &dyn File, mut at: u64) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = fs::read_full(file, &mut chunk, at)?;
        if count == 0 {
            return Ok(true);
        }
        if chunk[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += count as u64;
    }
}

/// Whether the place of the first group holds one of this life, or something that may have been one.
fn took_groups(file: &dyn File, header: &SegmentHeader) -> io::Result<bool> {
    let mut first = vec![0; GROUP_HEADER_BYTES];
    let read = fs::read_full(file, &mut first, BLOCK_BYTES)?;
    Ok(match GroupHeader::decode(&first[..read.min(GROUP_HEADER_BYTES)]) {
        // What a recycled file held before has another place and another salt.
        Ok(group) => {
            (group.lsn, group.epoch, group.salt)
                == (header.base.plus(BLOCK_BYTES), header.epoch, header.salt)
        }
        Err(GroupFault::Blank) => false,
        Err(_) => read == GROUP_HEADER_BYTES,
    })
}
