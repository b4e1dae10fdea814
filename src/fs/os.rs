//! The operating system's files.
//!
//! * `sync_data` is `fdatasync` (`F_FULLFSYNC` on Apple systems, `FlushFileBuffers` on Windows).
//! * `sync_dir` opens the directory and syncs it. On Windows it does nothing: directories cannot be
//!   synced there, and NTFS journals its names itself.
//! * Positional reads and writes are single system calls, short where the system's are.
//! * An error of the system is handed on as it is, so `StorageFull` and `QuotaExceeded` keep their kind.
//! * Memory holds files that take no more than half of what the heap leaves: the other half is for the application, for
//!   other files, and for other databases of the process.
//! * An empty path is the current directory, so that the parent of a relative name can be used.
//!
//! Everything unsafe (system calls that `std` does not have, mappings) is in `raw`, locks in
//! `lock`.

mod lock;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod memory;
mod raw;

pub(super) use raw::is_resident;

use super::{
    Barrier, DirEntry, File, FileSystem, Holder, Join, LockOutcome, Mapping, OpenMode, PathKind,
};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Any memory holds files of less than this.
#[cfg(any(target_os = "linux", target_os = "android"))]
const HELD_ANYHOW_BYTES: u64 = 1 << 20;

/// The operating system's file system. Has no state; all values are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFileSystem;

#[derive(Debug)]
struct OsFile {
    file: fs::File,
}

struct OsThread {
    handle: JoinHandle<()>,
}

impl OsFileSystem {
    /// The operating system's file system.
    pub fn new() -> OsFileSystem {
        OsFileSystem
    }
}

impl FileSystem for OsFileSystem {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn is_held_by_memory(&self, file_bytes: u64, heap_bytes: u64) -> bool {
        file_bytes < HELD_ANYHOW_BYTES
            || memory::bytes().is_none_or(|memory| memory::holds(memory, file_bytes, heap_bytes))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        let file = options.open(path)?;
        if mode == OpenMode::Read {
            let metadata = file.metadata()?;
            // Unix opens directories for reading, and fails only at the first read.
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            // Its owner may be about to cut it: [`free_in_steps`]. (There are file systems that count no names.)
            #[cfg(target_os = "linux")]
            if !has_name(&file)? && !leads_to(path, &metadata) {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        Ok(Arc::new(OsFile { file }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        each_entry(dir, |entry, metadata| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name, len: if is_dir { 0 } else { metadata.len() }, is_dir });
        })?;
        Ok(entries)
    }

    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        // A link that leads nowhere is something too: its name is taken.
        let metadata = match fs::metadata(or_current(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::symlink_metadata(path),
            outcome => outcome,
        };
        match metadata {
            Ok(metadata) if metadata.is_dir() => Ok(PathKind::Directory),
            Ok(_) => Ok(PathKind::File),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PathKind::Missing),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if from.parent() != to.parent() {
            let what = "a rename leads from one directory to another";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    #[cfg(target_os = "linux")]
    fn remove_large(&self, path: &Path) -> io::Result<()> {
        // Opened before it has no name. Whatever is in the way of that, the name can go.
        let file = fs::OpenOptions::new().write(true).open(path);
        let file = file.ok().filter(|file| has_name(file).unwrap_or(false));
        fs::remove_file(path)?;
        if let Some(file) = file {
            // What is not freed here is freed with the handle.
            let _ = free_in_steps(&file);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path, _barrier: Barrier) -> io::Result<()> {
        if cfg!(windows) {
            return Ok(());
        }
        fs::File::open(or_current(dir))?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        lock::lock(path)
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>> {
        lock::lock_holder(path)
    }

    fn now_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    fn random(&self) -> io::Result<u64> {
        getrandom::u64().map_err(|error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(error.to_string()),
        })
    }

    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Join>> {
        // A name with a zero byte would panic in `std`.
        let handle = Builder::new().name(name.replace('\0', "")).spawn(body)?;
        Ok(Box::new(OsThread { handle }))
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let path = std::path::absolute(path)?;
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match (path.parent(), path.file_name()) {
                    (Some(parent), Some(name)) => Ok(self.canonical(parent)?.join(name)),
                    _ => Err(error),
                }
            }
            outcome => outcome,
        }
    }

    fn allocated_bytes(&self, dir: &Path) -> io::Result<u64> {
        let mut total = 0u64;
        each_entry(dir, |_, metadata| {
            if metadata.is_file() {
                total = total.saturating_add(allocated(metadata));
            }
        })?;
        Ok(total)
    }

    #[cfg(target_os = "linux")]
    fn private_file(&self, dir: &Path) -> io::Result<Arc<dyn File>> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600);
        let file = options.open(or_current(dir))?;
        Ok(Arc::new(OsFile { file }))
    }
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset);
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_at(&self.file, bytes, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_write(&self.file, bytes, offset);
    }

    fn sync_data(&self, _barrier: Barrier) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        raw::start_writeback(&self.file, offset, len);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 || raw::allocate(&self.file, len)? {
            return Ok(());
        }
        self.extend_with_zeros(len)
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        if self.len()? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if len == 0 {
            // Mappings of nothing are an error in most systems.
            return Ok(Mapping::Copied(Vec::new()));
        }
        let size = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let map = raw::map(&self.file, size)?;
        Ok(Mapping::Mapped { map, tells_residence: raw::tells_residence(&self.file) })
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(&self.file))
    }
}

/// Cuts a file that lost its only name, bit by bit. One that somebody else has open or mapped, here or in another process,
/// is not touched. Who of us opened it and is not seen here yet sees that it has no name ([`OsFileSystem::open`]): one of
/// the two always sees the other. (Another program that opens it in that moment may find less of it than there was.)
#[cfg(target_os = "linux")]
fn free_in_steps(file: &fs::File) -> io::Result<()> {
    if has_name(file)? || !raw::is_only_handle(file) {
        return Ok(());
    }
    let mut length = file.metadata()?.len();
    while length > FREED_AT_ONCE_BYTES {
        length = (length - 1) / FREED_AT_ONCE_BYTES * FREED_AT_ONCE_BYTES;
        file.set_len(length)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn has_name(file: &fs::File) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 0)
}

/// Whether a path leads to the file of `metadata`.
#[cfg(target_os = "linux")]
fn leads_to(path: &Path, metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_it =
        |found: fs::Metadata| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino());
    fs::symlink_metadata(path).is_ok_and(is_it)
}

/// Bytes that one step of [`free_in_steps`] frees. Measured (docs/performance.md): a `fdatasync` beside the removal of
/// 64 MiB takes up to 21 ms when they go at once, 6 in steps of 8 MiB, 2.5 in steps of 2, and no less in steps of 1.
#[cfg(target_os = "linux")]
const FREED_AT_ONCE_BYTES: u64 = 2 << 20;

impl OsFile {
    /// Where the system cannot allocate. Holes below the present length stay holes.
    fn extend_with_zeros(&self, len: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let before = self.len()?;
        let mut at = before;
        while at < len {
            let part = (len - at).min(ZEROS.len() as u64) as usize;
            if let Err(error) = super::write_full(self, &ZEROS[..part], at) {
                // What did not fit is given back; the first error is the one to tell.
                let _ = self.set_len(before);
                return Err(error);
            }
            at += part as u64;
        }
        Ok(())
    }
}

impl Join for OsThread {
    fn join(self: Box<Self>) {
        if self.handle.thread().id() != std::thread::current().id() {
            // A thread that panicked has ended, and has said so itself.
            let _ = self.handle.join();
        }
    }
}

/// Visits all entries of a directory, except those that vanish meanwhile.
fn each_entry(dir: &Path, mut visit: impl FnMut(&fs::DirEntry, &fs::Metadata)) -> io::Result<()> {
    for entry in fs::read_dir(or_current(dir))? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) => visit(&entry, &metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn allocated(metadata: &fs::Metadata) -> u64 {
    // `st_blocks` counts 512 bytes each, whatever the block size.
    std::os::unix::fs::MetadataExt::blocks(metadata).saturating_mul(512)
}

#[cfg(not(unix))]
fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

fn or_current(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
