//! Floors: bare system calls that do the least that a commit must.

mod leader;
mod traffic;

pub use leader::LeaderLoop;
pub use traffic::Traffic;

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A bare loop of `pwrite` + `fdatasync`, each step on a fresh block of a pre-written file.
#[derive(Debug)]
pub struct BareLoop {
    file: fs::File,
    data: Vec<u8>,
    at: u64,
    end: u64,
}

impl BareLoop {
    /// A loop of up to `count` synced steps of `bytes`, each on fresh blocks.
    ///
    /// # Errors
    /// Of the file system.
    pub fn new(dir: &Path, bytes: usize, count: u64) -> io::Result<BareLoop> {
        BareLoop::over(dir, bytes, count * (bytes as u64).next_multiple_of(4096))
    }

    /// A loop of up to `count` unsynced steps of `bytes`, one right behind the other.
    ///
    /// # Errors
    /// Of the file system.
    pub fn packed(dir: &Path, bytes: usize, count: u64) -> io::Result<BareLoop> {
        BareLoop::over(dir, bytes, count * bytes as u64)
    }

    fn over(dir: &Path, bytes: usize, end: u64) -> io::Result<BareLoop> {
        let file = prewritten(&dir.join("bare-loop"), end)?;
        Ok(BareLoop { file, data: vec![7; bytes], at: 0, end })
    }

    /// Goes back to the beginning of the file, so that any number of steps may follow.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// Whether there is no room for a further step.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    /// One write without a sync; says how long it took.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write(&mut self) -> io::Result<Duration> {
        assert!(self.at < self.end, "the loop was made for fewer steps");
        let started = Instant::now();
        self.file.write_all_at(&self.data, self.at)?;
        self.at += self.data.len() as u64;
        Ok(started.elapsed())
    }

    /// One write and sync; says how long they took.
    ///
    /// # Errors
    /// Of the file system.
    pub fn step(&mut self) -> io::Result<Duration> {
        assert!(self.at < self.end, "the loop was made for fewer steps");
        let started = Instant::now();
        self.file.write_all_at(&self.data, self.at)?;
        self.file.sync_data()?;
        self.at += (self.data.len() as u64).next_multiple_of(4096);
        Ok(started.elapsed())
    }
}

/// A file whose blocks are all written and synced, so that writes to it change no metadata. Its name is
/// gone already; it goes when it is closed.
fn prewritten(path: &Path, bytes: u64) -> io::Result<fs::File> {
    let file = fs::File::options().create(true).truncate(true).write(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        file.write_all_at(&zeros, at)?;
        at += zeros.len() as u64;
    }
    file.sync_all()?;
    fs::remove_file(path)?;
    Ok(file)
}
