//! The lock that makes one handle in one process the owner of a database directory.
//!
//! The lock is on the open file, never the file's existence, so it dies with its process. The file's text
//! is the holder's process id, for error messages only: decimal digits and a newline.
//!
//! * **Linux, Android**: locks of the open file description (`F_OFD_SETLK`). A second handle in the same
//!   process conflicts like a second process. Probing (`F_OFD_GETLK`) needs only read access and takes
//!   nothing.
//! * **Elsewhere**: `std`'s file locks. Probing is best effort: it takes a shared lock and gives it back
//!   at once, and an owner that tries to lock in that moment finds the file held. On Windows the text of
//!   a locked file cannot be read, so the holder has no process id.
//!
//! A file with any other content is not a lock: it is left as it is.
//!
//! Between taking the lock and writing the text there is a moment in which the text is that of the last
//! holder, or empty.

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::raw::{lock_exclusive as take, lock_is_held as is_held};
use crate::fs::{Holder, LOCK_MAX_BYTES, LockGuard, LockOutcome, is_lock_text};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Closing the file releases the lock.
#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl LockGuard for OsLock {}

/// Takes the lock, or says who holds it.
pub(super) fn lock(path: &Path) -> io::Result<LockOutcome> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    if !take(&file)? {
        return Ok(LockOutcome::Held { pid: read_pid(&file) });
    }
    let mut text = Vec::new();
    (&file).take(LOCK_MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    if !is_lock_text(&text) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    Ok(LockOutcome::Acquired(Box::new(OsLock { _file: file })))
}

/// Who holds the lock, without taking it or writing anything.
pub(super) fn lock_holder(path: &Path) -> io::Result<Option<Holder>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(if is_held(&file)? { Some(Holder { pid: read_pid(&file) }) } else { None })
}

/// The process id in a lock file; `None` for anything but 1 to 10 digits and a newline.
fn read_pid(file: &File) -> Option<u32> {
    let mut text = Vec::new();
    file.take(12).read_to_end(&mut text).ok()?;
    parse_pid(&text)
}

fn parse_pid(text: &[u8]) -> Option<u32> {
    let digits = text.strip_suffix(b"\n")?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|pid| *pid != 0)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn take(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_held(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_pid;

    #[test]
    fn a_process_id_is_read_strictly() {
        let cases: &[(&[u8], Option<u32>)] = &[
            (b"1\n", Some(1)),
            (b"4194304\n", Some(4_194_304)),
            (b"4294967295\n", Some(u32::MAX)),
            (b"4294967296\n", None),
            (b"99999999999\n", None),
            (b"0\n", None),
            (b"12", None),
            (b"12\n\n", None),
            (b" 12\n", None),
            (b"+12\n", None),
            (b"-12\n", None),
            (b"\n", None),
            (b"", None),
            (b"\xff\xfe\n", None),
        ];
        for (text, pid) in cases {
            assert_eq!(parse_pid(text), *pid, "{text:?}");
        }
    }
}
