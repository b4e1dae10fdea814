//! The lock of a directory: whose it is, and that the file is one.
//!
//! Taking a lock writes to its file. What lies there under that name may be something else, moved or
//! restored to the wrong place, and perhaps the only copy: then the lock is not taken, and nothing is
//! written ([`FileSystem::lock`] looks under the lock it has, so nothing comes between).

use crate::error::{Error, Result};
use crate::fs::{self, FileSystem, LOCK_MAX_BYTES, LockGuard, LockOutcome, OpenMode, PathKind};
use crate::manifest::names;
use std::io;
use std::path::Path;

/// Makes this handle the owner of `dir`.
pub(crate) fn take(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn LockGuard>> {
    let path = dir.join(names::LOCK_NAME);
    match fs.lock(&path) {
        Ok(LockOutcome::Acquired(guard)) => Ok(guard),
        Ok(LockOutcome::Held { pid }) => Err(Error::Locked { path: dir.to_path_buf(), pid }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(no_lock(&path)),
        Err(error) => Err(Error::io("lock", &path, error)),
    }
}

/// Whether [`take`] would refuse for what the file holds. Takes nothing and writes nothing.
pub(crate) fn check(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    let path = dir.join(names::LOCK_NAME);
    if !fs.kind(&path).is_ok_and(|kind| kind == PathKind::File) {
        return Ok(());
    }
    // One that cannot be read is not judged; some systems hide the text of a lock that is held.
    let Ok(file) = fs.open(&path, OpenMode::Read) else { return Ok(()) };
    let mut text = [0; LOCK_MAX_BYTES + 1];
    match fs::read_full(&*file, &mut text, 0) {
        Ok(read) if !fs::is_lock_text(&text[..read]) => Err(no_lock(&path)),
        _ => Ok(()),
    }
}

fn no_lock(path: &Path) -> Error {
    let what = "it holds something that is not the process id of an owner: another file was put in its \
                place; move it to where it belongs, or remove it if nobody needs it";
    Error::damage(path, 0, what)
}
