//! System calls that `std` does not have. All unsafe code of the file-system seam is here.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// Maps the first `len` bytes for reading; `len` is not 0 and not more than the file's length.
pub(super) fn map(file: &File, len: usize) -> io::Result<memmap2::Mmap> {
    // SAFETY: 1. The mapping is read-only and shares no Rust memory.
    // 2. The bytes must not change while it lives. `File::map` demands that of its callers, and the
    //    engine maps only files that are never written again once they are named. Another program that
    //    cuts or writes them breaks this; that limit is documented with `ReadMode::Mmap`.
    unsafe { memmap2::MmapOptions::new().len(len).map(file) }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in super::super) use linux::is_resident;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::tells_residence;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::{allocate, lock_exclusive, lock_is_held, unlock};
#[cfg(target_os = "linux")]
pub(super) use linux::{is_only_handle, start_writeback};

/// Whether the system tells this process what of a file is in memory. It is not asked here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn tells_residence(_file: &File) -> bool {
    false
}

/// Nobody asks.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in super::super) fn is_resident(_mapped: &[u8]) -> bool {
    false
}

/// Whether the system allocated the room. Here it cannot.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn allocate(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// Nothing to ask for here.
#[cfg(not(target_os = "linux"))]
pub(super) fn start_writeback(_file: &File, _offset: u64, _len: u64) {}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    // The kernel's numbers, the same on all architectures; `libc` lacks them on Android.
    const F_OFD_GETLK: libc::c_int = 36;
    const F_OFD_SETLK: libc::c_int = 37;

    // Locks of open file descriptions take 64-bit offsets everywhere.
    #[cfg(all(target_pointer_width = "32", not(target_env = "musl")))]
    type LockRange = libc::flock64;
    #[cfg(not(all(target_pointer_width = "32", not(target_env = "musl"))))]
    type LockRange = libc::flock;

    /// Takes the exclusive lock of the whole file for this open file description, without waiting. False
    /// if another one, in this process or elsewhere, holds it.
    pub fn lock_exclusive(file: &File) -> io::Result<bool> {
        match lock_call(file, F_OFD_SETLK, libc::F_WRLCK) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the lock of this open file description back, also if a process that was just forked still has a
    /// copy of the descriptor.
    pub fn unlock(file: &File) -> io::Result<()> {
        lock_call(file, F_OFD_SETLK, libc::F_UNLCK).map(drop)
    }

    /// Whether another open file description holds a lock; takes none.
    pub fn lock_is_held(file: &File) -> io::Result<bool> {
        let range = lock_call(file, F_OFD_GETLK, libc::F_WRLCK)?;
        Ok(range.l_type != libc::F_UNLCK as libc::c_short)
    }

    /// Makes sure of the blocks of `0..len`; false if the file system cannot.
    pub fn allocate(file: &File, len: u64) -> io::Result<bool> {
        let len = libc::off64_t::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        loop {
            // SAFETY: the descriptor is open as long as `file` is borrowed; the call takes no pointer.
            let code = unsafe { posix_fallocate(file.as_raw_fd(), 0, len) };
            match code {
                0 => return Ok(true),
                libc::EINTR => {}
                libc::EOPNOTSUPP | libc::ENOSYS => return Ok(false),
                code => return Err(io::Error::from_raw_os_error(code)),
            }
        }
    }

    /// Whether the system tells this process what of a file is in memory: only its owner and root are told for sure. (Others
    /// who may not write it hear that all of it is.)
    pub fn tells_residence(file: &File) -> bool {
        use std::os::unix::fs::MetadataExt;
        // SAFETY: takes nothing and cannot fail.
        let user = unsafe { libc::geteuid() };
        user == 0 || file.metadata().is_ok_and(|metadata| metadata.uid() == user)
    }

    /// Whether all pages of these bytes, a part of a mapping, are in memory. False if the system does not say.
    pub fn is_resident(mapped: &[u8]) -> bool {
        const PAGES: usize = 256;
        // SAFETY: takes no pointer.
        let page_bytes = match usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) {
            Ok(bytes) if bytes.is_power_of_two() => bytes,
            _ => return false,
        };
        let start = mapped.as_ptr() as usize & !(page_bytes - 1);
        let end = mapped.as_ptr() as usize + mapped.len();
        (start..end).step_by(PAGES * page_bytes).all(|from| {
            let length = (end - from).min(PAGES * page_bytes);
            let mut pages = [0_u8; PAGES];
            // SAFETY: 1. The range lies in the pages of a mapping that lives as long as `mapped` is borrowed; the call
            // reads none of it, and says so if a page is not mapped. 2. It fills one byte for each page that the
            // range touches, and those are at most `PAGES`.
            let code = unsafe { libc::mincore(from as *mut _, length, pages.as_mut_ptr()) };
            code == 0 && pages[..length.div_ceil(page_bytes)].iter().all(|page| page & 1 == 1)
        })
    }

    /// Asks for writeback of a range; errors come back with the sync.
    #[cfg(target_os = "linux")]
    pub fn start_writeback(file: &File, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return };
        // SAFETY: the descriptor is open as long as `file` is borrowed; the call takes no pointer.
        unsafe {
            libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
        };
    }

    /// Whether nobody else, in this process or another, has the file open or mapped. The file has no name, so that
    /// it stays so. False where the system does not tell, or only knows of those on this machine.
    ///
    /// A lease for writing is what Linux gives to the only one who has a file open; it is given back at once. Who opens the
    /// file in between sends a signal, by default one that would end this process; here one that is ignored.
    #[cfg(target_os = "linux")]
    pub fn is_only_handle(file: &File) -> bool {
        const F_SETSIG: libc::c_int = 10;
        let fd = file.as_raw_fd();
        // SAFETY: the descriptor is open as long as `file` is borrowed; the calls take no pointers.
        is_on_local_disk(file)
            && unsafe {
                libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0
                    && libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) == 0
                    && libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) == 0
            }
    }

    /// Whether the file lies on one of the file systems of which only this kernel has files open.
    #[cfg(target_os = "linux")]
    fn is_on_local_disk(file: &File) -> bool {
        // ext2 to ext4, XFS, btrfs, F2FS, bcachefs, tmpfs: the kernel's numbers (linux/magic.h).
        const LOCAL: [u32; 6] =
            [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0xCA45_1A4E, 0x0102_1994];
        let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: 1. The descriptor is open as long as `file` is borrowed. 2. The pointer leads to a struct of the
        // layout that the call fills; it is read only if the call says that it was filled.
        unsafe {
            libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) == 0
                && LOCAL.contains(&(stat.assume_init().f_type as u32))
        }
    }

    fn lock_call(file: &File, command: libc::c_int, kind: libc::c_int) -> io::Result<LockRange> {
        // SAFETY: the struct is plain integers, for which zeros are valid; length 0 means the whole file,
        // and the kernel wants process id 0.
        let mut range: LockRange = unsafe { std::mem::zeroed() };
        range.l_type = kind as _;
        range.l_whence = libc::SEEK_SET as _;
        loop {
            // SAFETY: 1. The descriptor is open as long as `file` is borrowed. 2. The pointer leads to a
            // struct of the layout that these commands read and write, which lives through the call.
            let code = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) };
            if code != -1 {
                return Ok(range);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    #[cfg(all(target_os = "linux", target_env = "musl"))]
    use libc::posix_fallocate;
    #[cfg(all(target_os = "linux", not(target_env = "musl")))]
    use libc::posix_fallocate64 as posix_fallocate;

    /// Android's C library has only the system call.
    #[cfg(target_os = "android")]
    unsafe fn posix_fallocate(fd: libc::c_int, from: i64, len: i64) -> libc::c_int {
        // SAFETY: as for the caller.
        match unsafe { libc::fallocate64(fd, 0, from, len) } {
            0 => 0,
            _ => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::linux::is_only_handle;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// The signal that tells the holder of a lease of another one who opens the file ends a process, by default.
    #[test]
    fn who_opens_a_file_while_it_is_asked_for_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create_new(&path).unwrap();
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::remove_file(&path).unwrap();
        let is_told = is_only_handle(&file);
        let other = File::open(&again).unwrap();
        assert!(!is_only_handle(&file), "somebody else has it open");
        drop(other);
        assert_eq!(is_only_handle(&file), is_told);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(File::open(&again));
                }
            });
            (0..20_000).for_each(|_| {
                is_only_handle(&file);
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
}
