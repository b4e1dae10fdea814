//! `bench`: what this disk can do, and how much of it the database gets.
//!
//! The floor is the bare loop that every durable commit needs: one write of 4 KiB into a file that is there
//! already, and one sync. Commits are measured beside it, in the same place and minute, because the number
//! alone says more about the disk than about the engine.
//!
//! Invariants: works in a new directory of its own and removes it; each measured part takes about `--seconds`.

use crate::console::{Console, Style};
use crate::failure::{Failure, InDir};
use crate::human;
use crate::output::Output;
use crate::rescue::NewPlace;
use highwater::fs::os::OsFileSystem;
use highwater::fs::{Barrier, FileSystem, OpenMode};
use highwater::{Database, Durability, Keyspace};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measure commits, reads and scans on this disk
///
/// Commits are measured beside the bare loop of one write and one sync, which no
/// durable engine can beat. Takes a few seconds and about 100 MiB, in a new
/// directory that is removed at the end.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater bench                     the disk of this directory
  highwater bench --dir /data --seconds 5")]
pub struct Args {
    /// The directory whose disk is measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How long each part takes
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Threads that commit together
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=256))]
    threads: u64,
}

/// Length of a block, in bytes.
const BLOCK_BYTES: usize = 4096;
/// Blocks of the bare loop's file.
const BLOCKS: u64 = 2048;
/// Records for reads and scans.
const RECORDS: u64 = 200_000;
/// Length of their values, in bytes.
const VALUE_BYTES: usize = 100;

/// What one part gave.
struct Part {
    name: String,
    /// Operations, and how long they took all in all.
    count: u64,
    time: Duration,
    /// Of single operations, ascending.
    micros: Vec<u64>,
    unit: &'static str,
    key: &'static str,
}

impl Part {
    fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn quantile(&self, share: f64) -> Option<u64> {
        let at = (self.micros.len().checked_sub(1)? as f64 * share) as usize;
        self.micros.get(at).copied()
    }
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let place = tempfile::Builder::new().prefix("highwater-bench-").tempdir_in(&args.dir);
    let place = place.map_err(|error| Failure::file("write to", &args.dir, &error))?.keep();
    let cleaning = NewPlace::made(&place);
    let outcome = measure(args, &place);
    cleaning.remove();
    let parts = outcome?;
    print(args, &parts, console)
}

fn measure(args: &Args, place: &Path) -> Result<Vec<Part>, Failure> {
    let time = Duration::from_secs(args.seconds);
    let mut parts = vec![bare(place, time).map_err(|e| Failure::file("write to", place, &e))?];
    let dir = place.join("db");
    let db = Database::open(&dir).in_dir(&dir)?;
    let keyspace = db.keyspace("bench").in_dir(&dir)?;
    // The first commit of a life makes the log's first segments.
    keyspace.insert("first", "commit").in_dir(&dir)?;
    parts.push(commits(&keyspace, 1, time, &dir)?);
    parts.push(commits(&keyspace, args.threads, time, &dir)?);
    parts.push(load(&db, &keyspace, &dir)?);
    db.compact().in_dir(&dir)?;
    parts.push(reads(&keyspace, time, &dir)?);
    parts.push(scan(&db, &keyspace, time, &dir)?);
    db.close().in_dir(&dir)?;
    Ok(parts)
}

/// One write into a file of zeros and one sync, again and again.
fn bare(place: &Path, time: Duration) -> io::Result<Part> {
    let fs = OsFileSystem::new();
    let file = fs.open(&place.join("bare"), OpenMode::CreateNew)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..BLOCKS * BLOCK_BYTES as u64).step_by(zeros.len()) {
        highwater::fs::write_full(&*file, &zeros, at)?;
    }
    file.sync_data(Barrier::Copy)?;
    let block = [7; BLOCK_BYTES];
    let mut micros = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time {
        let before = Instant::now();
        let at = micros.len() as u64 % BLOCKS * BLOCK_BYTES as u64;
        highwater::fs::write_full(&*file, &block, at)?;
        file.sync_data(Barrier::Copy)?;
        micros.push(before.elapsed().as_micros() as u64);
    }
    let spent = started.elapsed();
    micros.sort_unstable();
    let (name, count) = ("bare write and sync".to_owned(), micros.len() as u64);
    Ok(Part { name, count, time: spent, micros, unit: "/s", key: "bare" })
}

/// Durable commits of one record each.
fn commits(keyspace: &Keyspace, threads: u64, time: Duration, dir: &Path) -> Result<Part, Failure> {
    let started = Instant::now();
    let one = |thread: u64| -> highwater::Result<Vec<u64>> {
        let mut micros = Vec::new();
        while started.elapsed() < time {
            let before = Instant::now();
            let key = [thread.to_be_bytes(), (micros.len() as u64).to_be_bytes()].concat();
            keyspace.insert_with(key, [1; VALUE_BYTES], Durability::Sync)?;
            micros.push(before.elapsed().as_micros() as u64);
        }
        Ok(micros)
    };
    let mut micros = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        for thread in running {
            match thread.join() {
                Ok(done) => micros.extend(done.in_dir(dir)?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })?;
    let spent = started.elapsed();
    micros.sort_unstable();
    let (name, key) = match threads {
        1 => ("commits, 1 thread".to_owned(), "commits_1"),
        _ => (format!("commits, {threads} threads"), "commits_n"),
    };
    Ok(Part { name, count: micros.len() as u64, time: spent, micros, unit: "/s", key })
}

/// Records in commits of a thousand, one sync at the end.
fn load(db: &Database, keyspace: &Keyspace, dir: &Path) -> Result<Part, Failure> {
    let started = Instant::now();
    for from in (0..RECORDS).step_by(1000) {
        let mut tx = db.write().in_dir(dir)?;
        for i in from..from + 1000 {
            tx.insert(keyspace, scatter(i), [2; VALUE_BYTES]).in_dir(dir)?;
        }
        tx.commit_with(Durability::Buffered).in_dir(dir)?;
    }
    db.sync().in_dir(dir)?;
    let time = started.elapsed();
    let name = "records written, in bulk".to_owned();
    Ok(Part { name, count: RECORDS, time, micros: Vec::new(), unit: "/s", key: "load" })
}

fn reads(keyspace: &Keyspace, time: Duration, dir: &Path) -> Result<Part, Failure> {
    let started = Instant::now();
    let mut count = 0_u64;
    while started.elapsed() < time {
        for _ in 0..1000 {
            // Another order than that of the writes.
            let key = scatter(count.wrapping_mul(7919) % RECORDS);
            let found = keyspace.get(key).in_dir(dir)?;
            assert!(found.is_some_and(|value| value.len() == VALUE_BYTES), "a record is missing");
            count += 1;
        }
    }
    let name = "point reads, 1 thread".to_owned();
    let time = started.elapsed();
    Ok(Part { name, count, time, micros: Vec::new(), unit: "/s", key: "reads" })
}

fn scan(db: &Database, keyspace: &Keyspace, time: Duration, dir: &Path) -> Result<Part, Failure> {
    let snapshot = db.snapshot();
    let started = Instant::now();
    let mut count = 0_u64;
    while started.elapsed() < time {
        for entry in snapshot.iter(keyspace).in_dir(dir)? {
            entry.in_dir(dir)?;
            count += 1;
        }
    }
    let name = "records scanned".to_owned();
    let time = started.elapsed();
    Ok(Part { name, count, time, micros: Vec::new(), unit: "/s", key: "scan" })
}

/// The keys in an order that is none, 16 bytes each.
fn scatter(number: u64) -> [u8; 16] {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mixed.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn print(args: &Args, parts: &[Part], console: &Console) -> Result<(), Failure> {
    let mut output = Output::of(console, "bench");
    let bare = parts[0].rate();
    if !console.is_text() {
        let of = |part: &Part| -> Value {
            json!({
                "per_second": part.rate(),
                "count": part.count,
                "micros": part.time.as_micros() as u64,
                "median_micros": part.quantile(0.5),
                "p99_micros": part.quantile(0.99),
            })
        };
        let mut document = json!({
            "dir": args.dir.to_string_lossy(),
            "threads": args.threads,
            "value_bytes": VALUE_BYTES,
            "commit_share_of_bare": parts[1].rate() / bare,
        });
        for part in parts {
            document[part.key] = of(part);
        }
        output.document(document)?;
        return output.flush();
    }
    let head =
        format!("{:<26}{:>12}  {:>10}  {:>10}  {:>12}", "", "", "median", "99 %", "of the bare");
    output.line(&console.paint(Style::Heading, &head))?;
    for (index, part) in parts.iter().enumerate() {
        let rate = format!("{}{}", human::count(part.rate() as u64), part.unit);
        let quantile = |share| part.quantile(share).map_or(String::new(), human::micros);
        let share = match index {
            1 | 2 => format!("{:.0} %", part.rate() / bare * 100.0),
            _ => String::new(),
        };
        let (median, high) = (quantile(0.5), quantile(0.99));
        let line = format!("{:<26}{rate:>12}  {median:>10}  {high:>10}  {share:>12}", part.name);
        output.line(line.trim_end())?;
    }
    output.line("")?;
    let text = format!(
        "Records of 16-byte keys and {VALUE_BYTES}-byte values, on the disk of {}. The bare loop is one write of 4 \
         KiB and one sync: a commit that waits for the disk cannot be faster alone, and several share \
         one sync. Other work on this machine shows in every line.",
        args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone()).display()
    );
    for line in crate::layout::paragraph("", &text) {
        output.line(&line)?;
    }
    output.flush()
}
