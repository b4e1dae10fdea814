//! The reserve: a file of allocated blocks that is given back to the disk when a checkpoint, a keyspace
//! drop, a close or a recovery finds the disk full.
//!
//! It grows with what memory holds, before a commit takes its place in the log, so that what is in memory
//! can always become a table. Its blocks are allocated and not synced: a power loss may take them back,
//! and an open on a full disk may then say `NoSpace`; nothing is lost by that.
//!
//! Who spends it asks for the room first: until they are done, no commit takes of it, neither for the reserve nor for
//! log segments, which only a checkpoint gives back.
//!
//! Invariant: the file is never shorter than `held_bytes`, but while it is spent.

use crate::error::{Error, Result, is_no_space};
use crate::fs::{FileSystem, OpenMode};
use crate::manifest::names;
use crate::sync::engine::{AtomicU64, Mutex, Ordering};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The reserve holds at least this much, in bytes.
pub const RESERVE_MIN_BYTES: u64 = 512 << 10;
/// What the start of an epoch takes of it on a full disk, in bytes: small segments and two manifests.
pub const RESERVE_EPOCH_BYTES: u64 = 384 << 10;

const NO_ROOM: Error = Error::NoSpace { what: "the reserve of a commit" };

/// See the module.
#[derive(Debug)]
pub struct Reserve {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    /// Bytes that this life knows to be allocated. Changed with the lock held.
    held_bytes: AtomicU64,
    changing: Mutex<()>,
    /// How many want its room, how many of them leave it to who has waited, and how many did want it.
    wanted: AtomicU64,
    lenient: AtomicU64,
    ended_wants: AtomicU64,
}

/// What log space and the reserve are claimed for, on a disk of which others want room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A commit.
    Commit,
    /// A commit that has waited: who is lenient no longer keeps it off.
    Waited,
    /// What frees room: nobody keeps it off.
    Freeing,
}

/// While it lasts, commits take no room.
#[derive(Debug)]
pub struct Wanted<'a> {
    reserve: &'a Reserve,
    lenient: bool,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if self.lenient {
            self.reserve.lenient.fetch_sub(1, Ordering::AcqRel);
        }
        self.reserve.wanted.fetch_sub(1, Ordering::AcqRel);
        self.reserve.ended_wants.fetch_add(1, Ordering::AcqRel);
    }
}

impl Reserve {
    /// The reserve of the database in `dir`.
    pub fn new(fs: Arc<dyn FileSystem>, dir: &Path) -> Reserve {
        Reserve {
            fs,
            path: dir.join(names::RESERVE_NAME),
            held_bytes: AtomicU64::new(0),
            changing: Mutex::new(()),
            wanted: AtomicU64::new(0),
            lenient: AtomicU64::new(0),
            ended_wants: AtomicU64::new(0),
        }
    }

    /// Asks for the room of the reserve, before it is spent.
    pub fn want(&self) -> Wanted<'_> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        Wanted { reserve: self, lenient: false }
    }

    /// As [`want`](Self::want), but a commit that has waited may take what there is.
    pub fn want_leniently(&self) -> Wanted<'_> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        self.lenient.fetch_add(1, Ordering::AcqRel);
        Wanted { reserve: self, lenient: true }
    }

    /// Whether somebody keeps such a claim off.
    pub fn keeps_off(&self, claim: Claim) -> bool {
        // First: who begins to be lenient in between is not counted as strict.
        let lenient = self.lenient.load(Ordering::Acquire);
        let wanted = self.wanted.load(Ordering::Acquire);
        match claim {
            Claim::Commit => wanted > 0,
            Claim::Waited => wanted > lenient,
            Claim::Freeing => false,
        }
    }

    /// How many asked for it and are done.
    pub fn ended_wants(&self) -> u64 {
        self.ended_wants.load(Ordering::Acquire)
    }

    /// Whether somebody asks for it.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    /// Makes it hold at least `bytes`, and `wished_bytes` if the disk has as much. For commits.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the disk is full, or if somebody asks for the room; it then holds what it held.
    pub fn grow(&self, bytes: u64, wished_bytes: u64, claim: Claim) -> Result<()> {
        // Most commits find enough.
        if self.held_bytes.load(Ordering::Acquire) >= bytes {
            return Ok(());
        }
        let _changing = self.changing.lock();
        if self.keeps_off(claim) {
            return Err(NO_ROOM);
        }
        // Another commit may have been quicker.
        if self.held_bytes.load(Ordering::Acquire) >= bytes {
            return Ok(());
        }
        self.fill(bytes, wished_bytes)
    }

    /// Fills it again behind who spent it, as [`grow`](Self::grow).
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the disk is full; it then holds what it held.
    pub fn refill(&self, bytes: u64, wished_bytes: u64) -> Result<()> {
        let _changing = self.changing.lock();
        if self.held_bytes.load(Ordering::Acquire) >= wished_bytes {
            return Ok(());
        }
        self.fill(bytes, wished_bytes)
    }

    fn fill(&self, bytes: u64, wished_bytes: u64) -> Result<()> {
        let attempt = || -> std::io::Result<u64> {
            let file = match self.fs.open(&self.path, OpenMode::ReadWrite) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    self.fs.open(&self.path, OpenMode::CreateNew)?
                }
                outcome => outcome?,
            };
            let before = file.len()?;
            // Some systems keep what they could allocate of what they could not.
            let allocate = |bytes: u64| {
                file.allocate(bytes).inspect_err(|_| drop(file.set_len(before))).map(|()| bytes)
            };
            match allocate(wished_bytes) {
                Err(e) if is_no_space(&e) && bytes < wished_bytes => allocate(bytes),
                outcome => outcome,
            }
        };
        let held_bytes =
            attempt().map_err(|e| match Error::io("allocate the reserve in", &self.path, e) {
                Error::NoSpace { .. } => NO_ROOM,
                other => other,
            })?;
        self.held_bytes.fetch_max(held_bytes, Ordering::AcqRel);
        Ok(())
    }

    /// Gives all of it back to the disk. Returns whether there was anything to give.
    pub fn spend(&self) -> bool {
        self.cut(0).unwrap_or(false)
    }

    /// Lets it shrink to `bytes`, when memory holds no more than that.
    pub fn shrink(&self, bytes: u64) -> Result<()> {
        self.cut(bytes.max(RESERVE_MIN_BYTES)).map(drop)
    }

    /// Cuts the file; an earlier life may have left a larger one than this life knows of.
    fn cut(&self, bytes: u64) -> Result<bool> {
        let _changing = self.changing.lock();
        // First, so that nobody counts on what is about to go.
        self.held_bytes.fetch_min(bytes, Ordering::AcqRel);
        let attempt = || match self.fs.open(&self.path, OpenMode::ReadWrite) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
            Ok(file) if file.len()? > bytes => file.set_len(bytes).map(|()| true),
            Ok(_) => Ok(false),
        };
        attempt().map_err(|e| Error::io("cut", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, RESERVE_MIN_BYTES, Reserve};
    use crate::error::Error;
    use crate::fs::FileSystem;
    use crate::fs::sim::{Fault, FaultKind, OperationKind, SimDisk};
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn it_grows_as_far_as_is_wished_or_as_is_needed_or_not_at_all() {
        let disk = SimDisk::new();
        let reserve = Reserve::new(Arc::new(disk.clone()), Path::new("/"));
        let used = || disk.allocated_bytes(Path::new("/")).unwrap();
        let capacity = 8 * RESERVE_MIN_BYTES;
        disk.set_capacity(Some(capacity));
        reserve.grow(RESERVE_MIN_BYTES, 2 * RESERVE_MIN_BYTES, Claim::Commit).unwrap();
        assert_eq!(used(), 2 * RESERVE_MIN_BYTES);
        reserve.grow(2 * RESERVE_MIN_BYTES, u64::MAX, Claim::Commit).unwrap();
        assert_eq!(used(), 2 * RESERVE_MIN_BYTES, "it holds that");
        reserve.grow(7 * RESERVE_MIN_BYTES, 9 * RESERVE_MIN_BYTES, Claim::Commit).unwrap();
        assert_eq!(used(), 7 * RESERVE_MIN_BYTES, "what is needed");
        let refused = reserve.grow(9 * RESERVE_MIN_BYTES, 16 * RESERVE_MIN_BYTES, Claim::Commit);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(used(), 7 * RESERVE_MIN_BYTES);
        reserve.shrink(3 * RESERVE_MIN_BYTES).unwrap();
        assert_eq!(used(), 3 * RESERVE_MIN_BYTES);
        reserve.grow(4 * RESERVE_MIN_BYTES, 4 * RESERVE_MIN_BYTES, Claim::Commit).unwrap();
        assert_eq!(used(), 4 * RESERVE_MIN_BYTES, "it knows that it was cut");
        assert!(reserve.spend());
        assert_eq!(used(), 0);
        assert!(!reserve.spend());
    }

    #[test]
    fn a_quota_that_forbids_what_is_wished_leaves_what_is_needed() {
        let disk = SimDisk::new();
        let reserve = Reserve::new(Arc::new(disk.clone()), Path::new("/"));
        let quota = FaultKind::Error(std::io::ErrorKind::QuotaExceeded);
        disk.inject(Fault::new(quota).on(OperationKind::Allocate).nth(0));
        reserve.grow(RESERVE_MIN_BYTES, 2 * RESERVE_MIN_BYTES, Claim::Commit).unwrap();
        assert_eq!(disk.faults_struck(), 1);
        assert_eq!(disk.allocated_bytes(Path::new("/")).unwrap(), RESERVE_MIN_BYTES);
    }

    #[test]
    fn what_cannot_be_filled_again_stays_as_it_is() {
        let disk = SimDisk::new();
        let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
        let used = || disk.allocated_bytes(Path::new("/")).unwrap();
        Reserve::new(fs.clone(), Path::new("/")).grow(8 << 20, 8 << 20, Claim::Commit).unwrap();
        disk.set_capacity(Some(9 << 20));
        // The next life knows nothing of it, and wishes for more than there is.
        let reserve = Reserve::new(fs, Path::new("/"));
        reserve.refill(RESERVE_MIN_BYTES, 10 << 20).unwrap();
        assert_eq!(used(), 8 << 20, "not cut to the least");
        assert!(matches!(
            reserve.grow(10 << 20, 10 << 20, Claim::Commit),
            Err(Error::NoSpace { .. })
        ));
        assert_eq!(used(), 8 << 20);
    }

    #[test]
    fn a_commit_takes_nothing_while_it_is_wanted() {
        let disk = SimDisk::new();
        let reserve = Reserve::new(Arc::new(disk.clone()), Path::new("/"));
        let used = || disk.allocated_bytes(Path::new("/")).unwrap();
        let wanted = reserve.want();
        let refused = reserve.grow(RESERVE_MIN_BYTES, RESERVE_MIN_BYTES, Claim::Commit);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(used(), 0);
        reserve.refill(RESERVE_MIN_BYTES, RESERVE_MIN_BYTES).unwrap();
        reserve.grow(RESERVE_MIN_BYTES, RESERVE_MIN_BYTES, Claim::Commit).unwrap();
        drop(wanted);
        reserve.grow(2 * RESERVE_MIN_BYTES, 2 * RESERVE_MIN_BYTES, Claim::Commit).unwrap();
        assert_eq!(used(), 2 * RESERVE_MIN_BYTES);
    }

    #[test]
    fn who_is_lenient_lets_those_pass_that_have_waited() {
        let reserve = Reserve::new(Arc::new(SimDisk::new()), Path::new("/"));
        let kept_off =
            || [Claim::Commit, Claim::Waited, Claim::Freeing].map(|claim| reserve.keeps_off(claim));
        assert_eq!(kept_off(), [false; 3]);
        let lenient = reserve.want_leniently();
        assert_eq!(kept_off(), [true, false, false]);
        let strict = reserve.want();
        assert_eq!(kept_off(), [true, true, false]);
        drop(lenient);
        assert_eq!(kept_off(), [true, true, false]);
        drop(strict);
        assert_eq!((kept_off(), reserve.ended_wants()), ([false; 3], 2));
    }
}
