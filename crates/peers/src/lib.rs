//! What the measuring programs share: seeded records, floors, memory readings.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A small, fast, seeded generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }
}

/// Length of the keys, in bytes.
pub const KEY_BYTES: usize = 24;
/// Length of the values, in bytes.
pub const VALUE_BYTES: usize = 150;

/// Record `number` of a seeded set: a random key, and a value that tells the record and its version.
pub fn record(number: u64, version: u64) -> ([u8; KEY_BYTES], [u8; VALUE_BYTES]) {
    let mut random = Random(number.wrapping_mul(0xa076_1d64_78bd_642f) ^ 0x5bd1_e995);
    let mut key = [0; KEY_BYTES];
    for chunk in key.chunks_mut(8) {
        chunk.copy_from_slice(&random.next_u64().to_le_bytes());
    }
    let mut random = Random(random.next_u64() ^ version);
    let mut value = [0; VALUE_BYTES];
    for chunk in value.chunks_mut(8) {
        let bytes = random.next_u64().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    (key, value)
}

/// Bytes of the disk that a directory's files take, by allocated blocks.
pub fn allocated_bytes(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        total += entry?.metadata()?.blocks() * 512;
    }
    Ok(total)
}

/// Anonymous memory of this process now, in bytes.
pub fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
    kib.unwrap_or(0) * 1024
}

/// Bytes that this process has caused to be written to the disk.
pub fn disk_written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find(|line| line.starts_with("write_bytes:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Watches the anonymous memory of this process and keeps its peak.
#[derive(Debug)]
pub struct MemoryWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl MemoryWatch {
    /// Starts watching, every 5 ms.
    pub fn start() -> MemoryWatch {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (held, stopped) = (peak.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                held.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        MemoryWatch { peak, stop, thread: Some(thread) }
    }

    /// Stops and says the peak, in bytes.
    pub fn peak(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.peak.load(Ordering::Relaxed)
    }
}

/// A bare loop of `pwrite` + `fdatasync`, each step on a fresh block of a pre-written file.
#[derive(Debug)]
pub struct BareLoop {
    file: fs::File,
    data: Vec<u8>,
    at: u64,
    end: u64,
}

impl BareLoop {
    /// A loop of up to `count` steps of `bytes`.
    pub fn new(dir: &Path, bytes: usize, count: u64) -> io::Result<BareLoop> {
        let path = dir.join("bare-loop");
        let file = fs::File::options().create(true).truncate(true).write(true).open(&path)?;
        let end = count * (bytes as u64).next_multiple_of(4096);
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < end {
            file.write_all_at(&zeros, at)?;
            at += zeros.len() as u64;
        }
        file.sync_all()?;
        fs::remove_file(&path)?;
        Ok(BareLoop { file, data: vec![7; bytes], at: 0, end })
    }

    /// One step; says how long it took.
    pub fn step(&mut self) -> io::Result<Duration> {
        assert!(self.at < self.end, "the loop was made for fewer steps");
        let started = Instant::now();
        self.file.write_all_at(&self.data, self.at)?;
        self.file.sync_data()?;
        self.at += (self.data.len() as u64).next_multiple_of(4096);
        Ok(started.elapsed())
    }
}
