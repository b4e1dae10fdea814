//! What the system says of this process and of the machine: space, memory, traffic, rest.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of the disk that all files below a directory take, by allocated blocks.
pub fn allocated_bytes(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        // A file may go while this looks: engines remove theirs in the background.
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => total += allocated_bytes(&entry.path())?,
            Ok(metadata) => total += metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
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

/// Ticks of processor time that this process has used, in user and kernel mode (100 a second).
fn processor_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may hold spaces; it ends with the last parenthesis.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after.split_whitespace().collect();
    [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum()
}

/// Waits until this process rests: uses no processor and writes nothing for the time `quiet`. Says when the
/// rest began, or nothing if it did not within `limit`.
///
/// Engines work on in their own threads after a commit; this needs no word from them.
pub fn settle(quiet: Duration, limit: Duration) -> Option<Instant> {
    const STEP: Duration = Duration::from_millis(20);
    let started = Instant::now();
    let mut rest = Instant::now();
    let mut before = (processor_ticks(), disk_written_bytes());
    while started.elapsed() < limit {
        std::thread::sleep(STEP);
        let now = (processor_ticks(), disk_written_bytes());
        // One tick is the noise of the reading itself.
        if now.0 > before.0 + 1 || now.1 != before.1 {
            rest = Instant::now();
            before = now;
        } else if rest.elapsed() >= quiet {
            return Some(rest);
        }
    }
    None
}

/// What the printed table says of the machine: processor and threads, memory, kernel, file system of `dir`.
pub fn machine(dir: &Path) -> String {
    let line = |path: &str, start: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(start));
        found.and_then(|line| line.split(':').nth(1)).unwrap_or("?").trim().to_owned()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = line("/proc/meminfo", "MemTotal");
    let memory = memory.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {threads} threads, {:.0} GiB, Linux {}, {}",
        line("/proc/cpuinfo", "model name"),
        memory.unwrap_or(0) as f64 / (1 << 20) as f64,
        kernel.trim(),
        file_system(dir)
    )
}

/// The type of the file system that holds `dir`.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = mounts.filter(|(point, _)| dir.starts_with(point));
    holding.max_by_key(|(point, _)| point.len()).map_or("?", |(_, kind)| kind).to_owned()
}

/// Today's date, as of UTC.
pub fn today() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut days = since.map_or(0, |since| since.as_secs() / 86_400) as i64;
    // Civil date from days since 1970, years starting in March so that the leap day comes last.
    days += 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settling_waits_for_work_and_ends() {
        let worker = std::thread::spawn(|| {
            let started = Instant::now();
            let mut sum = 0_u64;
            while started.elapsed() < Duration::from_millis(300) {
                sum = std::hint::black_box(sum + 1);
            }
            Instant::now()
        });
        let rest = settle(Duration::from_millis(200), Duration::from_secs(20)).expect("it rests");
        let ended = worker.join().expect("the worker");
        assert!(rest + Duration::from_millis(60) > ended);
        assert!(settle(Duration::ZERO, Duration::ZERO).is_none());
    }

    #[test]
    fn the_date_looks_like_one() {
        let today = today();
        assert_eq!(today.len(), 10);
        assert!(today.as_str() > "2025-01-01" && today.as_str() < "2200-01-01");
    }
}
