//! Disk traffic at a given rate, beside which a bare loop runs: what checkpoints and merges put on the
//! disk, without the work of making it.
//!
//! Files are written one after the other in pieces, each is synced when it is whole, and the one before
//! it is removed. The rate is kept over all pieces: a slow sync is caught up with.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes written at a time.
const PIECE_BYTES: u64 = 256 << 10;

/// Traffic of a thread of its own, until it is stopped.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<io::Result<u64>>,
}

impl Traffic {
    /// Starts writing files of `file_bytes` in `dir`, `bytes_per_second` in all. None is written at a rate
    /// below one byte a second.
    pub fn start(dir: &Path, bytes_per_second: f64, file_bytes: u64) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, dir) = (stop.clone(), dir.to_owned());
        let thread = std::thread::spawn(move || {
            if bytes_per_second < 1.0 {
                return Ok(0);
            }
            write(&dir, bytes_per_second, file_bytes.max(PIECE_BYTES), &stopped)
        });
        Traffic { stop, thread }
    }

    /// Stops, and says how many bytes were written.
    ///
    /// # Errors
    /// Of the file system.
    pub fn stop(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the writing thread panicked"))?
    }
}

fn write(dir: &Path, rate: f64, file_bytes: u64, stopped: &AtomicBool) -> io::Result<u64> {
    let piece = vec![0x5a; PIECE_BYTES as usize];
    let started = Instant::now();
    let (mut total, mut number) = (0, 0_u64);
    let mut before: Option<PathBuf> = None;
    while !stopped.load(Ordering::Relaxed) {
        let path = dir.join(format!("traffic-{number}"));
        number += 1;
        let file = fs::File::create(&path)?;
        let mut at = 0;
        while at < file_bytes && !stopped.load(Ordering::Relaxed) {
            file.write_all_at(&piece, at)?;
            at += PIECE_BYTES;
            total += PIECE_BYTES;
            let due = Duration::from_secs_f64(total as f64 / rate);
            // Short naps, so that it stops soon.
            while started.elapsed() < due && !stopped.load(Ordering::Relaxed) {
                let nap = due.saturating_sub(started.elapsed()).min(Duration::from_millis(20));
                std::thread::sleep(nap);
            }
        }
        file.sync_data()?;
        if let Some(before) = before.replace(path) {
            fs::remove_file(before)?;
        }
    }
    before.map_or(Ok(()), fs::remove_file)?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_its_rate_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let started = Instant::now();
        let traffic = Traffic::start(dir.path(), 20e6, 1 << 20);
        std::thread::sleep(Duration::from_millis(400));
        let total = traffic.stop().expect("no error") as f64;
        let most = 20e6 * started.elapsed().as_secs_f64() + PIECE_BYTES as f64;
        assert!(total >= PIECE_BYTES as f64 && total <= most, "{total} of {most}");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        assert_eq!(Traffic::start(dir.path(), 0.0, 1).stop().expect("no error"), 0);
    }
}
