//! A simulated disk on which threads lose their turn at every call, as a seed says: the schedules of a busy
//! machine, and many that a quiet one never shows.
//!
//! The operating system still has a say, so a seed makes a schedule likely, not certain.

use highwater::fs::sim::SimDisk;
use highwater::fs::{
    Barrier, DirEntry, File, FileSystem, Holder, Join, LockOutcome, Mapping, OpenMode, PathKind,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

/// Decides who waits, and keeps in mind who removed what.
#[derive(Debug, Default)]
pub struct Pauses {
    seed: u64,
    calls: AtomicU64,
    removals: Mutex<Vec<(PathBuf, ThreadId)>>,
    /// How long a sync of commits takes besides.
    commit_sync_millis: AtomicU64,
}

impl Pauses {
    pub fn new(seed: u64) -> Arc<Pauses> {
        Arc::new(Pauses { seed, ..Pauses::default() })
    }

    /// From now on each sync of commits takes so long.
    pub fn slow_commits(&self, delay: Duration) {
        self.commit_sync_millis.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// The files that were removed, and by whom.
    pub fn removals(&self) -> Vec<(PathBuf, ThreadId)> {
        self.removals.lock().unwrap().clone()
    }

    /// Waits, or not.
    pub fn here(&self) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let number = crate::support::Random(self.seed ^ call.wrapping_mul(0x9e37_79b9)).next();
        match number % 16 {
            0..=5 => {}
            6..=11 => std::thread::yield_now(),
            12..=14 => (0..number >> 48 & 0xfff).for_each(|_| std::hint::spin_loop()),
            _ => std::thread::sleep(Duration::from_micros(number >> 32 & 0x1ff)),
        }
    }
}

/// The disk.
#[derive(Debug)]
pub struct JitteryDisk {
    pub disk: SimDisk,
    pub pauses: Arc<Pauses>,
}

#[derive(Debug)]
struct JitteryFile {
    file: Arc<dyn File>,
    pauses: Arc<Pauses>,
}

impl JitteryDisk {
    fn disk(&self) -> &SimDisk {
        self.pauses.here();
        &self.disk
    }
}

impl FileSystem for JitteryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk().open(path, mode)?;
        Ok(Arc::new(JitteryFile { file, pauses: self.pauses.clone() }))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk().create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk().list(dir)
    }
    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        self.disk().kind(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pauses.removals.lock().unwrap().push((path.to_owned(), std::thread::current().id()));
        self.disk().remove(path)
    }
    fn sync_dir(&self, dir: &Path, barrier: Barrier) -> io::Result<()> {
        let outcome = self.disk().sync_dir(dir, barrier);
        self.pauses.here();
        outcome
    }
    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.disk().lock(path)
    }
    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>> {
        self.disk().lock_holder(path)
    }
    fn now_micros(&self) -> u64 {
        self.disk().now_micros()
    }
    fn monotonic(&self) -> Duration {
        self.disk().monotonic()
    }
    fn random(&self) -> io::Result<u64> {
        self.disk().random()
    }
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Join>> {
        self.disk().spawn(name, body)
    }
    fn allocated_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk().allocated_bytes(dir)
    }
}

impl JitteryFile {
    fn file(&self) -> &dyn File {
        self.pauses.here();
        &*self.file
    }
}

impl File for JitteryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file().read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let outcome = self.file().write_at(bytes, offset);
        self.pauses.here();
        outcome
    }
    fn sync_data(&self, barrier: Barrier) -> io::Result<()> {
        if matches!(barrier, Barrier::LogCommit) {
            let millis = self.pauses.commit_sync_millis.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(millis));
        }
        let outcome = self.file().sync_data(barrier);
        self.pauses.here();
        outcome
    }
    fn start_writeback(&self, offset: u64, len: u64) {
        self.file().start_writeback(offset, len);
    }
    fn len(&self) -> io::Result<u64> {
        self.file().len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file().set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file().allocate(len)
    }
    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.file().map(len)
    }
}
