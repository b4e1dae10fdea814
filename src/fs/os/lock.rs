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
//! holder, or empty. So where the system tells (Linux), a process id counts only while there is such a
//! process, and who asks waits a moment for a new one.

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::raw::{lock_exclusive as take, lock_is_held as is_held, unlock};
use crate::fs::{Holder, LOCK_MAX_BYTES, LockGuard, LockOutcome, is_lock_text};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

/// How often, and how long between, a loser looks for the process id of the holder.
const HOLDER_TRIES: u32 = 10;
const HOLDER_PAUSE: Duration = Duration::from_millis(2);

/// Releases the lock when it is dropped. Closing the file alone would not do: a process that another thread forks
/// has a copy of the descriptor until it runs its program, and the lock lives as long as any copy.
#[derive(Debug)]
struct OsLock {
    file: File,
}

impl Drop for OsLock {
    fn drop(&mut self) {
        // Closing the file does the same, later.
        let _ = unlock(&self.file);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn unlock(file: &File) -> io::Result<()> {
    file.unlock()
}

impl LockGuard for OsLock {}

/// Takes the lock, or says who holds it.
pub(super) fn lock(path: &Path) -> io::Result<LockOutcome> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    if !take(&file)? {
        return Ok(LockOutcome::Held { pid: holder_pid(&file) });
    }
    let mut text = Vec::new();
    (&file).take(LOCK_MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    if !is_lock_text(&text) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    Ok(LockOutcome::Acquired(Box::new(OsLock { file })))
}

/// Who holds the lock, without taking it or writing anything.
pub(super) fn lock_holder(path: &Path) -> io::Result<Option<Holder>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(if is_held(&file)? { Some(Holder { pid: holder_pid(&file) }) } else { None })
}

/// The process that holds the lock, if the text names one that is there.
fn holder_pid(file: &File) -> Option<u32> {
    for _ in 0..HOLDER_TRIES {
        match read_pid(file) {
            Some(pid) if is_alive(pid) => return Some(pid),
            _ => std::thread::sleep(HOLDER_PAUSE),
        }
    }
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_alive(pid: u32) -> bool {
    // Without a process file system nothing is known.
    !Path::new("/proc/self").exists() || Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_alive(_: u32) -> bool {
    true
}

/// The process id in a lock file; `None` for anything but 1 to 10 digits and a newline.
fn read_pid(file: &File) -> Option<u32> {
    let mut text = Vec::new();
    (&*file).rewind().ok()?;
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
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_copy_of_the_descriptor_does_not_hold_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        assert!(take(&file).unwrap());
        // What a fork leaves with the child.
        let copy = file.try_clone().unwrap();
        drop(OsLock { file });
        assert!(matches!(lock(&path).unwrap(), LockOutcome::Acquired(_)));
        drop(copy);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_ended_is_not_told_as_the_holder() {
        let own = std::process::id();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let LockOutcome::Acquired(_guard) = lock(&path).unwrap() else { panic!("it is free") };
        assert_eq!(lock_holder(&path).unwrap().unwrap().pid, Some(own));
        // As in the moment before the new holder writes its own.
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        std::fs::write(&path, format!("{}\n", ended.id())).unwrap();
        assert_eq!(lock_holder(&path).unwrap().unwrap().pid, None);
        assert!(matches!(lock(&path).unwrap(), LockOutcome::Held { pid: None }));
        // Who is told waits until it is there.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(HOLDER_PAUSE);
                std::fs::write(&path, format!("{own}\n")).unwrap();
            });
            assert!(
                matches!(lock(&path).unwrap(), LockOutcome::Held { pid: Some(pid) } if pid == own)
            );
        });
    }

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
