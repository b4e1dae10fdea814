//! The file-system seam: every file and directory operation, sync, mapping, clock reading, random number
//! and thread start of the engine goes through [`FileSystem`] and [`File`].
//!
//! Two implementations stand side by side: [`os`] and [`sim`]. The traits are what POSIX promises and no
//! more:
//!
//! 1. A write is not durable until [`File::sync_data`] on that file returned `Ok`.
//! 2. A created, renamed or removed name is not durable until [`FileSystem::sync_dir`] on its directory
//!    returned `Ok`. A rename is atomic: either name, never neither.
//! 3. Unsynced writes and names reach the disk in any order, or not at all, by sectors of 512 bytes.
//! 4. After a failed sync nothing is known of the bytes that it covered.
//! 5. Reads and writes may be short and may be interrupted; [`read_full`] and [`write_full`] finish them.
//!
//! Every sync carries its [`Barrier`], its name: the crash campaign turns one after another into a no-op
//! and must find the loss.

mod barrier;
pub mod os;
pub(crate) mod removal;
pub mod sim;
pub(crate) mod tenure;
#[cfg(test)]
mod tests;

pub use barrier::Barrier;

use crate::error::is_no_space;
use crate::mistakes::{Mistake, planted};
use std::fmt::Debug;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new file, for reading and writing; `AlreadyExists` if the name is taken.
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, lossily converted where it is not UTF-8 (such a file is not ours).
    pub name: String,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Nothing.
    Missing,
    /// A directory.
    Directory,
    /// A file or something else that is not a directory.
    File,
}

/// The outcome of [`FileSystem::lock`].
#[derive(Debug)]
pub enum LockOutcome {
    /// The lock is ours until the guard is dropped.
    Acquired(Box<dyn LockGuard>),
    /// Someone else (another process, or another handle in this one) holds it.
    Held {
        /// The holder's process id, as the lock file says; `None` if it says nothing readable.
        pid: Option<u32>,
    },
}

/// Length of the longest text of a lock: ten digits and a newline.
pub const LOCK_MAX_BYTES: usize = 11;

/// Whether a file that holds this may be a lock: a process id, or what a crash may leave of one (nothing,
/// a part of it, zeros).
pub fn is_lock_text(text: &[u8]) -> bool {
    let is_own = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'\n' | 0);
    text.len() <= LOCK_MAX_BYTES && text.iter().all(is_own)
}

/// Holds a lock; dropping it releases the lock.
pub trait LockGuard: Debug + Send + Sync {}

/// Something to wait for at the end of a thread.
pub trait Join: Send {
    /// Waits until the thread has ended. The thread itself does not wait: it ends when it returns from what it
    /// is at, which may be a waker of the application that dropped the last handle.
    fn join(self: Box<Self>);
}

/// A file system with directories of files. See the module for what it promises.
pub trait FileSystem: Debug + Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Creates one directory; its parent exists. `AlreadyExists` if the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// All names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// What lies at a path.
    fn kind(&self, path: &Path) -> io::Result<PathKind>;
    /// Renames within one directory, replacing an existing target atomically. `InvalidInput` if it leads
    /// to another directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name. Open handles stay usable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes the name of a file that may be large. Where its blocks go with it, they go in steps: a file system frees
    /// a whole file at once, and syncs of other files wait for that.
    fn remove_large(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }
    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &Path, barrier: Barrier) -> io::Result<()>;
    /// Takes the exclusive lock on the file at `path` (created if missing) and writes this process's id
    /// into it as decimal digits and a newline; never waits. The lock dies with the process. A file that
    /// holds anything else ([`is_lock_text`]) is not changed: `InvalidData`.
    fn lock(&self, path: &Path) -> io::Result<LockOutcome>;
    /// Whether somebody holds the lock at `path`, found out without taking it. `None`: free, or no file.
    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>>;
    /// Wall-clock time, in microseconds since 1970.
    fn now_micros(&self) -> u64;
    /// Time since some fixed moment, never going back.
    fn monotonic(&self) -> Duration;
    /// 64 random bits.
    fn random(&self) -> io::Result<u64>;
    /// Starts a thread.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Join>>;
    /// The one absolute path of what lies at `path`, links followed; of what is not there yet, with the
    /// links above it followed. For telling whether two paths are the same place.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }
    /// Bytes that the files of `dir` take on the disk, by allocated blocks where that is known.
    fn allocated_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Whether memory holds files of so many bytes beside a heap of so many, and all else that it is for. True where that
    /// is not known; who wraps a file system hands it on.
    fn is_held_by_memory(&self, file_bytes: u64, heap_bytes: u64) -> bool {
        let _ = (file_bytes, heap_bytes);
        true
    }
    /// An empty file without a name on the disk of `dir`; it is gone with its last handle. `Unsupported`
    /// where there is no such thing.
    fn private_file(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id, where it could be read.
    pub pid: Option<u32>,
}

/// An open file.
pub trait File: Debug + Send + Sync {
    /// Reads at an offset; may be short; 0 at or past the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset, growing the file if need be; may be short.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the file's bytes and its length durable (`fdatasync`; `F_FULLFSYNC` on Apple systems).
    fn sync_data(&self, barrier: Barrier) -> io::Result<()>;
    /// Asks the system to start writing dirty pages of a range back; a hint, never a promise.
    fn start_writeback(&self, offset: u64, len: u64);
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes sure that the blocks of `0..len` are allocated, without changing what they hold; extends the
    /// file. `StorageFull` if there is no room.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// The first `len` bytes as memory; `UnexpectedEof` if the file is shorter. The file must not be cut
    /// or changed while the mapping lives.
    fn map(&self, len: u64) -> io::Result<Mapping>;
    /// The system's handle of the file, if it is a file of the operating system.
    #[cfg(unix)]
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

/// A file's bytes as memory.
#[derive(Debug)]
pub enum Mapping {
    /// Mapped by the operating system.
    Mapped {
        /// The bytes.
        map: memmap2::Mmap,
        /// Whether the system tells this process which of them are in memory.
        tells_residence: bool,
    },
    /// A copy (file systems without mappings).
    Copied(Vec<u8>),
}

impl Mapping {
    /// Tells the system that the bytes are read here and there, so that a page that is touched is brought alone, or that they
    /// are not any more. A hint, never a promise.
    pub fn advise_scattered(&self, scattered: bool) {
        #[cfg(unix)]
        if let Mapping::Mapped { map, .. } = self {
            let advice = if scattered { memmap2::Advice::Random } else { memmap2::Advice::Normal };
            let _ = map.advise(advice);
        }
        #[cfg(not(unix))]
        let _ = scattered;
    }

    /// Whether all of a range is in memory, as far as is known: touching it waits for no disk.
    pub fn is_resident(&self, range: Range<usize>) -> bool {
        match self {
            Mapping::Mapped { map, tells_residence: true } => {
                map.get(range).is_some_and(os::is_resident)
            }
            _ => false,
        }
    }
}

impl Deref for Mapping {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Mapping::Mapped { map, .. } => map,
            Mapping::Copied(bytes) => bytes,
        }
    }
}

/// Reads until `buffer` is full or the file ends; says how much was read.
pub fn read_full(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) if planted(Mistake::ShortReadTaken) => return Ok(done + count),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads exactly `buffer.len()` bytes; `UnexpectedEof` if the file is shorter.
pub fn read_exact(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let wanted = buffer.len();
    if read_full(file, buffer, offset)? == wanted {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends early"))
}

/// Writes all of `bytes`.
pub fn write_full(file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "nothing was written")),
            Ok(_) if planted(Mistake::ShortWriteTaken) => return Ok(()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// [`File::sync_data`], tried again when interrupted. (An interrupted sync has not failed.)
pub fn sync_data(file: &dyn File, barrier: Barrier) -> io::Result<()> {
    loop {
        match file.sync_data(barrier) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                if planted(Mistake::InterruptedSyncTaken) {
                    return Ok(());
                }
            }
            outcome => return outcome,
        }
    }
}

/// [`FileSystem::sync_dir`], tried again when interrupted. Any other failure is final, want of room
/// included: the kernel may have forgotten all unsynced names of the directory, also those that somebody
/// else gave and counts on a later sync for. So it is never passed on as a mere lack of space, after which
/// one could free some and try again.
pub fn sync_dir(fs: &dyn FileSystem, dir: &Path, barrier: Barrier) -> io::Result<()> {
    loop {
        match fs.sync_dir(dir, barrier) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_no_space(&error) => return Err(io::Error::other(error)),
            outcome => return outcome,
        }
    }
}
