//! Scenarios for what no workload reaches: directories on the way to a database, failed commits that
//! somebody looks for, interrupted syncs.
//!
//! Each works on the disk that it is given, on which a sync may do nothing, in an engine in which a
//! mistake may be planted; it must pass with neither.

use crate::check::Failure;
use crate::report::Tally;
use crate::rows;
use highwater::backup::{self, Request, Until};
use highwater::fs::sim::{EnumerationLimits, Fault, FaultKind, OperationKind, SimDisk};
use highwater::fs::{Barrier, FileSystem};
use highwater::salvage::salvage;
use highwater::{Builder, Database, Durability, Error};
use std::path::Path;
use std::sync::Arc;

const LIMITS: EnumerationLimits =
    EnumerationLimits { exhaustive_units: 8, per_family: 6, samples: 12, torn_sectors: false };

fn options(disk: &SimDisk) -> Builder {
    Database::builder()
        .file_system(Arc::new(disk.clone()))
        .background(false)
        .segment_size(1 << 20)
        .memory_budget(1 << 20)
        .table_size(64 << 10)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::violation(error.to_string())
}

/// A database some directories down.
pub fn new_directories(disk: &SimDisk) -> Result<(), Failure> {
    creation(disk, "/srv/data/db")
}

/// A database in a directory that somebody made and did not sync.
pub fn found_directory(disk: &SimDisk) -> Result<(), Failure> {
    disk.create_dir(Path::new("/db")).map_err(failed)?;
    creation(disk, "/db")
}

/// Creates a database, commits, and cuts the power everywhere.
fn creation(disk: &SimDisk, path: &str) -> Result<(), Failure> {
    let db = options(disk).open(path).map_err(failed)?;
    let items = db.keyspace("items").map_err(failed)?;
    items.insert("a", "1").map_err(failed)?;
    disk.mark(1);
    items.insert("b", "2").map_err(failed)?;
    disk.mark(2);
    for point in disk.record().walker() {
        let acknowledged = point.marks().len();
        for choice in point.choices(&LIMITS, 1) {
            let image = point.image(&choice);
            let at = |what: &str| format!("cut {}: {what}", point.position());
            let db = options(&image).open(path).map_err(|e| failed(at(&e.to_string())))?;
            let len = match db.existing_keyspace("items") {
                Ok(items) => items.len().map_err(failed)? as usize,
                Err(_) => 0,
            };
            if len < acknowledged {
                return Err(failed(at(&format!("{len} of {acknowledged} commits are there"))));
            }
        }
    }
    Ok(())
}

/// Where a power cut during a salvage leaves a manifest, the database behind it is whole; it is there once
/// the salvage has returned.
pub fn salvaged(disk: &SimDisk) -> Result<(), Failure> {
    let db = options(disk).open("/db").map_err(failed)?;
    let items = db.keyspace("items").map_err(failed)?;
    for i in 0..40_u8 {
        items.insert([i], [i; 900]).map_err(failed)?;
    }
    db.close().map_err(failed)?;
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    disk.restart_recording();
    salvage(&fs, "/db", "/new", &mut |_| {}).map_err(failed)?;
    disk.mark(1);
    for point in disk.record().walker() {
        for choice in point.choices(&LIMITS, 1) {
            let image = point.image(&choice);
            if point.marks().is_empty() && image.read_file("/new/MANIFEST").is_err() {
                continue;
            }
            let read = || -> highwater::Result<u64> {
                let db = options(&image).read_only(true).open("/new")?;
                let items = db.existing_keyspace("items")?;
                let snapshot = db.snapshot();
                snapshot.iter(&items)?.map(|entry| entry.map(|_| 1)).sum()
            };
            let len = read().map_err(|e| failed(format!("cut {}: {e}", point.position())))?;
            if len != 40 {
                return Err(failed(format!("{len} of 40 salvaged keys are there")));
            }
        }
    }
    Ok(())
}

/// A backup is there and whole, or not there; one that was reported is there.
pub fn backed_up(disk: &SimDisk) -> Result<(), Failure> {
    let db = options(disk).open("/db").map_err(failed)?;
    let items = db.keyspace("items").map_err(failed)?;
    let mut contents = Vec::new();
    let mut made = |from: u8| -> highwater::Result<()> {
        for i in from..from + 10 {
            items.insert([i], [i; 900])?;
        }
        db.checkpoint()?;
        items.insert([from], "in memory")?;
        contents.push(db.snapshot().content_hash()?);
        let backup = db.backup("/backups")?;
        disk.mark(backup.number);
        Ok(())
    };
    made(0).map_err(failed)?;
    disk.restart_recording();
    made(20).map_err(failed)?;
    for point in disk.record().walker() {
        let reported = 1 + point.marks().len();
        for choice in point.choices(&LIMITS, 1) {
            let image = point.image(&choice);
            let fs: Arc<dyn FileSystem> = Arc::new(image.clone());
            let at = |e: &dyn std::fmt::Display| failed(format!("cut {}: {e}", point.position()));
            let listed = backup::list(&*fs, "/backups").map_err(|e| at(&e))?;
            if listed.len() < reported {
                return Err(at(&"a backup is gone"));
            }
            for (listed, content) in listed.into_iter().zip(&contents) {
                let number = listed.backup.map_err(|e| at(&e))?.number;
                let target = format!("/restored{number}");
                let drilled = backup::drill(&fs, "/backups", Some(number), &target, &mut |_| {});
                if drilled.map_err(|e| at(&e))?.content != *content {
                    return Err(at(&"a backup holds something else"));
                }
            }
        }
    }
    Ok(())
}

/// What a checkpoint holds is in the log, too: a backup made before and the log give every commit that
/// survived, whatever its durability was.
pub fn restored_from_the_log(disk: &SimDisk) -> Result<(), Failure> {
    let db = options(disk).open("/db").map_err(failed)?;
    let items = db.keyspace("items").map_err(failed)?;
    items.insert("a", "1").map_err(failed)?;
    db.backup("/backups").map_err(failed)?;
    for i in 0..3_u8 {
        let mut tx = db.write().map_err(failed)?;
        tx.insert(&items, [i], [i; 100]).map_err(failed)?;
        tx.commit_with(Durability::Memory).map_err(failed)?;
    }
    db.checkpoint().map_err(failed)?;
    let cut = disk.durable_image();
    let survived = options(&cut).read_only(true).open("/db").map_err(failed)?;
    let survived = survived.snapshot().content_hash().map_err(failed)?;
    let fs: Arc<dyn FileSystem> = Arc::new(cut.clone());
    let all = Request::new("/backups").log("/db").until(Until::Time(u64::MAX));
    backup::restore_to(&fs, &all, "/new", &mut |_| {}).map_err(failed)?;
    let restored = options(&cut).read_only(true).open("/new").map_err(failed)?;
    if restored.snapshot().content_hash().map_err(failed)? != survived {
        return Err(failed("backup and log give less than what survived the power cut"));
    }
    Ok(())
}

/// Every row of recovery's decision table, on logs with one damaged block.
pub fn damaged_logs(_: &SimDisk) -> Result<(), Failure> {
    let tally = Tally::quiet();
    rows::campaign(1, 1, &tally);
    tally.first_failure().map_or(Ok(()), |what| Err(failed(what)))
}

/// What a failed commit wrote is shown to nobody.
pub fn failed_commits_are_not_seen(disk: &SimDisk) -> Result<(), Failure> {
    let db = options(disk).open("/db").map_err(failed)?;
    let items = db.keyspace("items").map_err(failed)?;
    items.insert("a", "1").map_err(failed)?;
    disk.inject(Fault::new(FaultKind::Io).barrier(Barrier::LogCommit));
    let outcome = items.insert("b", "2");
    if !matches!(outcome, Err(Error::Poisoned { .. })) {
        return Err(failed("a commit whose sync failed is no error"));
    }
    for snapshot in [db.snapshot(), db.snapshot_durable()] {
        if snapshot.get(&items, "b").map_err(failed)?.is_some() {
            return Err(failed("a commit whose sync failed is shown"));
        }
        if snapshot.get(&items, "a").map_err(failed)?.is_none() {
            return Err(failed("an acknowledged commit is gone"));
        }
    }
    Ok(())
}

/// Syncs that are interrupted, each of them once, must be tried again: power cuts then show nothing.
pub fn interrupted_syncs(disk: &SimDisk) -> Result<(), Failure> {
    let base = disk.fork();
    let run = |disk: &SimDisk| -> Result<(), Failure> {
        let db = options(disk).open("/db").map_err(failed)?;
        let items = db.keyspace("items").map_err(failed)?;
        for round in 0..4_u8 {
            items.insert([round], [round; 900]).map_err(failed)?;
            disk.mark(u64::from(round));
            let cut = disk.durable_image();
            let found = options(&cut).open("/db").map_err(failed)?;
            let found = found.existing_keyspace("items").map_err(failed)?;
            if found.len().map_err(failed)? != u64::from(round) + 1 {
                return Err(failed("an acknowledged commit is gone"));
            }
            if round == 1 {
                db.checkpoint().map_err(failed)?;
            }
        }
        Ok(())
    };
    run(disk)?;
    for nth in 1..40 {
        let disk = base.fork();
        let syncs = Fault::new(FaultKind::Interrupted).on(OperationKind::SyncData);
        disk.inject(syncs.nth(nth));
        run(&disk)?;
        if disk.faults_struck() == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Many small runs above a large base are merged among themselves: what they removed from the base stays
/// removed.
pub fn merges_above_a_base(disk: &SimDisk) -> Result<(), Failure> {
    let db = options(disk).open("/db").map_err(failed)?;
    let items = db.keyspace("items").map_err(failed)?;
    let fill = || -> highwater::Result<()> {
        let mut tx = db.write()?;
        for i in 0..200_u16 {
            tx.insert(&items, i.to_be_bytes(), [7; 1000])?;
        }
        tx.commit()?;
        db.compact()?;
        for i in 0..30_u16 {
            let mut tx = db.write()?;
            tx.remove(&items, i.to_be_bytes())?;
            tx.remove_range(&items, (100 + i).to_be_bytes()..(101 + i).to_be_bytes())?;
            tx.commit()?;
            db.checkpoint()?;
            db.maintain()?;
        }
        Ok(())
    };
    fill().map_err(failed)?;
    let stats = db.stats();
    if stats.merges < 2 || stats.runs < 2 {
        return Err(failed(format!("nothing was merged above the base: {stats:?}")));
    }
    match items.len().map_err(failed)? {
        140 => Ok(()),
        len => Err(failed(format!("{len} keys are left of 140"))),
    }
}
