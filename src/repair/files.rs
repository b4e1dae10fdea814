//! Files as a repair handles them: by name, length and hash; copied with a read back; removed.

use crate::error::{Error, Result};
use crate::fs::{self, Barrier, FileSystem, OpenMode, PathKind};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// What is read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMark {
    pub name: String,
    pub bytes: u64,
    /// XXH3-128 of its content.
    pub sum: u128,
}

/// Reads a file and says what it is; `None` if it is not there.
pub fn mark(fs: &dyn FileSystem, dir: &Path, name: &str) -> Result<Option<FileMark>> {
    let path = dir.join(name);
    let io = |e| Error::io("read", &path, e);
    if fs.kind(&path).map_err(io)? != PathKind::File {
        return Ok(None);
    }
    let file = fs.open(&path, OpenMode::Read).map_err(io)?;
    let mut hasher = Xxh3::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = fs::read_full(&*file, &mut chunk, bytes).map_err(io)?;
        if read == 0 {
            return Ok(Some(FileMark { name: name.to_owned(), bytes, sum: hasher.digest128() }));
        }
        hasher.update(&chunk[..read]);
        bytes += read as u64;
    }
}

/// Makes sure that `to` holds the file as it is marked: copies it from `from` unless it is there already,
/// syncs it and reads it back.
pub fn copy(fs: &dyn FileSystem, from: &Path, to: &Path, file: &FileMark) -> Result<()> {
    if mark(fs, to, &file.name)?.as_ref() == Some(file) {
        // Perhaps of a run that died before it synced.
        let path = to.join(&file.name);
        let synced = fs.open(&path, OpenMode::ReadWrite);
        let synced = synced.and_then(|copied| fs::sync_data(&*copied, Barrier::Copy));
        return synced.map_err(|e| Error::io("sync", &path, e));
    }
    remove(fs, to, &file.name)?;
    let (source, target) = (from.join(&file.name), to.join(&file.name));
    let read = fs.open(&source, OpenMode::Read).map_err(|e| Error::io("open", &source, e))?;
    let write =
        fs.open(&target, OpenMode::CreateNew).map_err(|e| Error::io("create", &target, e))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let count = fs::read_full(&*read, &mut chunk, at);
        let count = count.map_err(|e| Error::io("read", &source, e))?;
        if count == 0 {
            break;
        }
        fs::write_full(&*write, &chunk[..count], at).map_err(|e| Error::io("write", &target, e))?;
        at += count as u64;
    }
    fs::sync_data(&*write, Barrier::Copy).map_err(|e| Error::io("sync", &target, e))?;
    match mark(fs, to, &file.name)? {
        Some(copied) if copied == *file => Ok(()),
        _ => Err(Error::damage(&target, 0, "the copy is not what was copied")),
    }
}

/// Removes a file, if it is there.
pub fn remove(fs: &dyn FileSystem, dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(name);
    match fs.remove(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(|e| Error::io("remove", &path, e)),
    }
}

/// Writes a small file whole: beside, synced, renamed over the old one, the directory synced.
pub fn replace(
    fs: &dyn FileSystem,
    dir: &Path,
    name: &str,
    bytes: &[u8],
    (content, entry): (Barrier, Barrier),
) -> Result<()> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    remove(fs, dir, &format!("{name}.new"))?;
    let write = || -> std::io::Result<()> {
        let file = fs.open(&new, OpenMode::CreateNew)?;
        fs::write_full(&*file, bytes, 0)?;
        fs::sync_data(&*file, content)?;
        fs.rename(&new, &path)?;
        fs::sync_dir(fs, dir, entry)
    };
    write().map_err(|e| {
        let _ = fs.remove(&new);
        Error::io("write", &path, e)
    })
}

/// Makes the names of a directory durable.
pub fn sync_names(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    fs::sync_dir(fs, dir, Barrier::Copy).map_err(|e| Error::io("sync", dir, e))
}
