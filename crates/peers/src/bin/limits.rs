//! Measures the limits that the engine keeps, each against a floor or a peer in the same run.
//!
//! `cargo run --release -p highwater-peers --bin limits -- [--quick] [--dir DIR] [names…]`

use highwater::{Database, Durability, ReadMode};
use highwater_peers::{
    BareLoop, KEY_BYTES, MemoryWatch, Random, VALUE_BYTES, allocated_bytes, anonymous_bytes,
    disk_written_bytes, record,
};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn Error>>;

const MIB: f64 = 1024.0 * 1024.0;
const RECORD_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

struct Settings {
    dir: PathBuf,
    million: u64,
}

type Measure = fn(&Settings) -> Outcome;

const MEASURES: [(&str, Measure); 8] = [
    ("single", single_commits),
    ("threads", many_threads),
    ("load", big_load),
    ("kill", open_after_kill),
    ("space", space),
    ("read", point_reads),
    ("huge", huge_transaction),
    ("snapshot", held_snapshot),
];

fn main() -> Outcome {
    let mut names = Vec::new();
    let mut base = std::env::temp_dir();
    let mut million = 1_000_000;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => million = 50_000,
            "--dir" => base = arguments.next().ok_or("--dir needs a directory")?.into(),
            "child-writer" => return child_writer(&mut arguments),
            name if MEASURES.iter().any(|(known, _)| *known == name) => names.push(argument),
            other => return Err(format!("unknown argument {other:?}").into()),
        }
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let chosen: Vec<_> = MEASURES.iter().filter(|(name, _)| wanted(name)).collect();
    if let [(name, measure)] = chosen.as_slice() {
        let temporary = tempfile::Builder::new().prefix("highwater-limits").tempdir_in(base)?;
        println!("== {name}");
        return measure(&Settings { dir: temporary.path().to_owned(), million });
    }
    // Each in a process of its own, so that none inherits the memory that another one has not given back.
    for (name, _) in chosen {
        let mut one = std::process::Command::new(std::env::current_exe()?);
        one.arg(name).arg("--dir").arg(&base);
        if million < 1_000_000 {
            one.arg("--quick");
        }
        if !one.status()?.success() {
            return Err(format!("{name} failed").into());
        }
    }
    Ok(())
}

/// Durable single-record commits on one thread, against the bare loop of the same bytes. They take turns
/// of fifty, so that both see the same disk; compared are the medians and the means.
fn single_commits(settings: &Settings) -> Outcome {
    const TURN: u64 = 50;
    let turns = 200;
    let db = Database::open(settings.dir.join("db"))?;
    let items = db.keyspace("items")?;
    let mut bare = BareLoop::new(&settings.dir, 4096, TURN * turns)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        for i in 0..TURN {
            let (key, value) = record(turn * TURN + i, 0);
            let started = Instant::now();
            items.insert(key, value)?;
            ours.push(started.elapsed());
        }
        for _ in 0..TURN {
            floor.push(bare.step()?);
        }
    }
    let mean = |times: &[Duration]| {
        times.iter().sum::<Duration>().as_secs_f64() * 1e6 / times.len() as f64
    };
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let means = (mean(&ours), mean(&floor));
    let medians = (median(&mut ours), median(&mut floor));
    println!(
        "  median {:.1} us, bare loop {:.1} us, ratio {:.3} (bar 0.85)",
        medians.0,
        medians.1,
        medians.1 / medians.0
    );
    println!(
        "  mean   {:.1} us, bare loop {:.1} us, ratio {:.3}",
        means.0,
        means.1,
        means.1 / means.0
    );
    Ok(db.close()?)
}

/// Commits per sync and per second from many threads.
fn many_threads(settings: &Settings) -> Outcome {
    for threads in [1_u64, 4, 16, 64] {
        let db = Database::open(settings.dir.join(format!("db{threads}")))?;
        let items = db.keyspace("items")?;
        let before = db.stats();
        let each = 20_000 / threads;
        let started = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let items = &items;
                scope.spawn(move || {
                    for i in 0..each {
                        let (key, value) = record(thread * each + i, 0);
                        items.insert(key, value).expect("the commit");
                    }
                });
            }
        });
        let spent = started.elapsed().as_secs_f64();
        let after = db.stats();
        let (commits, syncs) = (after.commits - before.commits, after.syncs - before.syncs);
        println!(
            "  {threads:2} threads: {:.0} commits/s, {:.2} commits per sync{}",
            commits as f64 / spent,
            commits as f64 / syncs as f64,
            if threads == 16 { " (bar 7)" } else { "" }
        );
        db.close()?;
    }
    Ok(())
}

fn small_memory(path: &Path) -> highwater::Result<Database> {
    Database::builder().memory_budget(64 << 20).open(path)
}

fn load(db: &Database, records: u64) -> Outcome {
    let items = db.keyspace("items")?;
    let mut number = 0;
    while number < records {
        let mut tx = db.write()?;
        tx.set_durability(Durability::Buffered);
        for _ in 0..1000.min(records - number) {
            let (key, value) = record(number, 0);
            tx.insert(&items, key, value)?;
            number += 1;
        }
        tx.commit()?;
    }
    Ok(db.sync().map(|_| ())?)
}

/// Ten million records in 64 MiB of memory; clean opens of ten and of one million.
fn big_load(settings: &Settings) -> Outcome {
    let path = settings.dir.join("ten");
    let records = 10 * settings.million;
    let watch = MemoryWatch::start();
    let db = small_memory(&path)?;
    let started = Instant::now();
    load(&db, records)?;
    let spent = started.elapsed().as_secs_f64();
    println!("  loaded {records} in {spent:.1} s ({:.0} k/s)", records as f64 / spent / 1e3);
    println!("  {:?}", db.stats());
    let items = db.keyspace("items")?;
    let snapshot = db.snapshot();
    let started = Instant::now();
    for number in 0..records {
        let (key, value) = record(number, 0);
        let found = snapshot.get(&items, key)?.ok_or("a record is missing")?;
        assert_eq!(found, value, "record {number}");
    }
    println!(
        "  read all back: {:.0} ns each",
        started.elapsed().as_nanos() as f64 / records as f64
    );
    drop(snapshot);
    println!("  peak anonymous memory {:.0} MiB (bar 256)", watch.peak() as f64 / MIB);
    db.close()?;

    let small = settings.dir.join("one");
    let db = small_memory(&small)?;
    load(&db, settings.million)?;
    db.close()?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..15 {
        for (which, path) in [&small, &path].into_iter().enumerate() {
            let started = Instant::now();
            let db = small_memory(path)?;
            let items = db.existing_keyspace("items")?;
            let (key, _) = record(5, 0);
            db.snapshot().get(&items, key)?.ok_or("a record is missing")?;
            times[which].push(started.elapsed().as_secs_f64());
            assert_eq!(db.stats().syncs, 0);
            db.close()?;
        }
    }
    let [one, ten] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2] * 1e3
    });
    println!(
        "  open and first read: one {one:.2} ms, ten {ten:.2} ms, ratio {:.2} (bar 1.5)",
        ten / one
    );
    Ok(())
}

/// A child writes until it is killed with 64 MiB of live log; then the open is timed.
fn open_after_kill(settings: &Settings) -> Outcome {
    let path = settings.dir.join("db");
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .arg("child-writer")
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.as_mut().ok_or("no pipe")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    child.kill()?;
    child.wait()?;
    let started = Instant::now();
    let db = Database::builder().memory_budget(256 << 20).open(&path)?;
    let ours = started.elapsed().as_secs_f64();
    let recovery = db.recovery().clone();
    let bytes = recovery.replayed_bytes;
    // The floor: read and checksum those bytes, and write them once, synced.
    let log = settings.dir.join("floor");
    std::fs::write(&log, vec![1; bytes as usize])?;
    let started = Instant::now();
    let read = std::fs::read(&log)?;
    let crc = crc(&read);
    let out = std::fs::File::create(settings.dir.join("floor-out"))?;
    std::os::unix::fs::FileExt::write_all_at(&out, &read, 0)?;
    out.sync_data()?;
    let floor = started.elapsed().as_secs_f64();
    println!(
        "  open {:.0} ms for {:.1} MiB of log ({} transactions), floor {:.0} ms, ratio {:.2} (bar 3) [{crc}]",
        ours * 1e3,
        bytes as f64 / MIB,
        recovery.replayed_transactions,
        floor * 1e3,
        ours / floor
    );
    Ok(db.close()?)
}

fn crc(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte))
}

fn child_writer(arguments: &mut dyn Iterator<Item = String>) -> Outcome {
    let path = arguments.next().ok_or("no path")?;
    let db = Database::builder().memory_budget(256 << 20).open(path)?;
    let items = db.keyspace("items")?;
    let mut number = 0;
    while db.stats().live_log_bytes < 64 << 20 {
        let mut tx = db.write()?;
        for _ in 0..100 {
            let (key, value) = record(number, 0);
            tx.insert(&items, key, value)?;
            number += 1;
        }
        tx.commit()?;
    }
    println!("ready");
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

/// Allocated blocks after `compact`, and of an empty database.
fn space(settings: &Settings) -> Outcome {
    let empty = settings.dir.join("empty");
    let db = Database::open(&empty)?;
    db.keyspace("items")?;
    db.close()?;
    println!("  empty database: {:.2} MiB (bar 3)", allocated_bytes(&empty)? as f64 / MIB);
    let path = settings.dir.join("db");
    let db = small_memory(&path)?;
    load(&db, settings.million)?;
    let before = allocated_bytes(&path)?;
    db.compact()?;
    let raw = settings.million * RECORD_BYTES;
    let after = allocated_bytes(&path)?;
    println!(
        "  before compact {:.3}, after {:.4} of the raw bytes (bar 1.06)",
        before as f64 / raw as f64,
        after as f64 / raw as f64
    );
    Ok(db.close()?)
}

/// Random point reads, second pass, against LMDB on the same data.
fn point_reads(settings: &Settings) -> Outcome {
    let records = 5 * settings.million;
    let reads = settings.million;
    let path = settings.dir.join("db");
    let db = Database::open(&path)?;
    load(&db, records)?;
    db.compact()?;
    let items = db.keyspace("items")?;
    let ours = |mode: &str, db: &Database| -> Result<f64, Box<dyn Error>> {
        let items = db.existing_keyspace("items")?;
        let snapshot = db.snapshot();
        let mut best = f64::MAX;
        for pass in 0..3 {
            let mut random = Random(pass);
            let keys: Vec<_> = (0..reads).map(|_| record(random.below(records), 0).0).collect();
            let started = Instant::now();
            let mut sum = 0_u64;
            for key in &keys {
                let value = snapshot.get(&items, key)?.ok_or("missing")?;
                sum += u64::from(value[0]) + u64::from(value[149]);
            }
            let each = started.elapsed().as_nanos() as f64 / reads as f64;
            println!("  highwater {mode} pass {pass}: {each:.0} ns a read [{sum}]");
            if pass > 0 {
                best = best.min(each);
            }
        }
        Ok(best)
    };
    let mapped = ours("mmap", &db)?;
    drop(items);
    db.close()?;
    let db = Database::builder().read_mode(ReadMode::Pread).open(&path)?;
    ours("pread", &db)?;
    db.close()?;
    #[cfg(feature = "lmdb")]
    {
        let lmdb = lmdb_reads(&settings.dir.join("lmdb"), records, reads)?;
        println!("  LMDB {lmdb:.0} ns, ratio {:.2} (bar 2)", lmdb / mapped);
    }
    let _ = mapped;
    Ok(())
}

#[cfg(feature = "lmdb")]
#[allow(unsafe_code)]
fn lmdb_reads(path: &Path, records: u64, reads: u64) -> Result<f64, Box<dyn Error>> {
    use heed::types::Bytes;
    std::fs::create_dir(path)?;
    // SAFETY: the directory is new and private to this process.
    let env = unsafe { heed::EnvOpenOptions::new().map_size(8 << 30).open(path)? };
    let mut tx = env.write_txn()?;
    let items: heed::Database<Bytes, Bytes> = env.create_database(&mut tx, None)?;
    for number in 0..records {
        let (key, value) = record(number, 0);
        items.put(&mut tx, &key, &value)?;
    }
    tx.commit()?;
    let tx = env.read_txn()?;
    let mut best = f64::MAX;
    for pass in 0..3 {
        let mut random = Random(pass);
        let keys: Vec<_> = (0..reads).map(|_| record(random.below(records), 0).0).collect();
        let started = Instant::now();
        let mut sum = 0_u64;
        for key in &keys {
            let value = items.get(&tx, key)?.ok_or("missing")?;
            sum += u64::from(value[0]) + u64::from(value[149]);
        }
        let each = started.elapsed().as_nanos() as f64 / reads as f64;
        println!("  LMDB pass {pass}: {each:.0} ns a read [{sum}]");
        if pass > 0 {
            best = best.min(each);
        }
    }
    Ok(best)
}

/// One transaction of five million records.
fn huge_transaction(settings: &Settings) -> Outcome {
    let records = 5 * settings.million;
    let path = settings.dir.join("db");
    let watch = MemoryWatch::start();
    let db = Database::open(&path)?;
    let items = db.keyspace("items")?;
    let disk_before = disk_written_bytes();
    let written = |db: &Database| {
        let stats = db.stats();
        stats.log_bytes + stats.table_bytes
    };
    let started = Instant::now();
    let mut tx = db.write()?;
    for number in 0..records {
        let (key, value) = record(number, 0);
        tx.insert(&items, key, value)?;
    }
    tx.commit()?;
    let raw = (records * RECORD_BYTES) as f64;
    let spent = started.elapsed().as_secs_f64();
    println!(
        "  commit after {spent:.1} s ({:.0} k/s), written {:.2} x (bar 1.3), disk {:.2} x",
        records as f64 / spent / 1e3,
        written(&db) as f64 / raw,
        (disk_written_bytes() - disk_before) as f64 / raw
    );
    let mut last = (0, 0);
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let stats = db.stats();
        if (stats.table_bytes, stats.merges) == last {
            break;
        }
        last = (stats.table_bytes, stats.merges);
    }
    println!(
        "  settled: written {:.2} x (bar 2.4), {} runs",
        written(&db) as f64 / raw,
        db.stats().runs
    );
    println!("  peak anonymous memory {:.0} MiB (bar 512)", watch.peak() as f64 / MIB);
    assert_eq!(items.len()?, records);
    Ok(db.close()?)
}

/// A snapshot is held while every key is overwritten ten times; then one more for each time.
fn held_snapshot(settings: &Settings) -> Outcome {
    let records = settings.million;
    for many in [false, true] {
        let path = settings.dir.join(format!("db-{many}"));
        let db = small_memory(&path)?;
        load(&db, records)?;
        let items = db.keyspace("items")?;
        let idle = anonymous_bytes();
        let watch = MemoryWatch::start();
        let mut snapshots = vec![db.snapshot()];
        for version in 1..=10 {
            for start in (0..records).step_by(1000) {
                let mut tx = db.write()?;
                tx.set_durability(Durability::Buffered);
                for number in start..(start + 1000).min(records) {
                    tx.insert(&items, record(number, 0).0, record(number, version).1)?;
                }
                tx.commit()?;
            }
            if many {
                snapshots.push(db.snapshot());
            }
        }
        for (version, snapshot) in snapshots.iter().enumerate() {
            for number in (0..records).step_by(if version == 0 { 1 } else { 101 }) {
                let found = snapshot.get(&items, record(number, 0).0)?.ok_or("missing")?;
                assert_eq!(found, record(number, version as u64).1);
            }
        }
        println!(
            "  {} held: peak anonymous memory {:.0} MiB, {:.0} before (bar 128: twice the budget)",
            snapshots.len(),
            watch.peak() as f64 / MIB,
            idle as f64 / MIB
        );
        drop(snapshots);
        db.close()?;
    }
    Ok(())
}
