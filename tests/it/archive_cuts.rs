//! The archive and power cuts, in the middle of releases, installs, recoveries and reopenings: whatever the
//! disk kept, the log behind the backup stays whole, and gives the database's state and nothing else.

use crate::archive::{ARCHIVE, DB, LATEST, REPO, request};
use crate::backup::on;
use highwater::backup::{self, Request};
use highwater::check::ContentHash;
use highwater::fs::sim::{EnumerationLimits, Recording, SimDisk};
use highwater::fs::{Barrier, FileSystem};
use highwater::{Builder, Database, Durability, Error};
use std::sync::Arc;

fn small(disk: &SimDisk) -> (Arc<dyn FileSystem>, Builder) {
    sized(disk, 48 << 10)
}

fn sized(disk: &SimDisk, memory_budget: usize) -> (Arc<dyn FileSystem>, Builder) {
    let (fs, builder) = on(disk);
    (fs, builder.background(false).simulation_sizes(memory_budget).archive(ARCHIVE))
}

fn commits(db: &Database, from: u32, count: u32, durability: Durability) {
    let keyspace = db.keyspace("k").unwrap();
    for i in from..from + count {
        keyspace.insert_with(i.to_be_bytes(), [i as u8; 3000], durability).unwrap();
    }
}

fn content(db: &Database) -> ContentHash {
    db.snapshot().content_hash().unwrap()
}

/// Releases, a large transaction, a clean close, a checkpoint, an end without a close.
fn lives(disk: &SimDisk) {
    let db = small(disk).1.open(DB).unwrap();
    commits(&db, 10, 12, Durability::Memory);
    db.sync().unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut tx = db.write().unwrap();
    (100..112_u32).for_each(|i| tx.insert(&keyspace, i.to_be_bytes(), [2; 2500]).unwrap());
    tx.commit().unwrap();
    commits(&db, 30, 12, Durability::Buffered);
    db.checkpoint().unwrap();
    db.close().unwrap();
    let db = small(disk).1.open(DB).unwrap();
    commits(&db, 50, 16, Durability::Memory);
    commits(&db, 70, 2, Durability::Sync);
    commits(&db, 80, 4, Durability::Buffered);
    std::mem::forget(db);
}

/// Opens what is left, and restores: with the log of both, and with that of the archive alone.
fn check(image: &SimDisk) -> Result<(), String> {
    let (fs, builder) = small(image);
    for (round, more) in [0, 0, 2].into_iter().enumerate() {
        // In the first round nothing follows what was recovered.
        let db = builder.clone().open(DB).map_err(|e| format!("open: {e}"))?;
        commits(&db, 500, more, Durability::Sync);
        let expected = content(&db);
        if more > 0 {
            db.checkpoint().unwrap();
            let held = db.stats().archive_held_bytes;
            if held > 0 {
                return Err(format!("the archive cannot take {held} bytes"));
            }
        }
        db.close().unwrap();
        let target = format!("/new{round}");
        let restored = backup::restore_to(&fs, &request(LATEST), &target, &mut |_| {});
        let restored = restored.map_err(|e| format!("round {round}: {e}"))?;
        let reader = builder.clone().read_only(true).open(&target).unwrap();
        if content(&reader) != expected {
            return Err(format!("round {round}: another state at commit {}", restored.seqno));
        }
        let alone = Request::new(REPO).number(Some(1)).log(ARCHIVE).until(LATEST);
        let plan = backup::plan_restore(&fs, &alone).map_err(|e| format!("alone: {e}"))?;
        if plan.seqno > restored.seqno {
            return Err(format!("the archive goes on to {} past {}", plan.seqno, restored.seqno));
        }
    }
    Ok(())
}

/// Cuts the power at every operation of a recording; and, for one image in `nested`, at every operation of
/// its recovery.
fn sweep(recording: &Recording, limits: &EnumerationLimits, nested: u64) -> Result<u64, String> {
    let mut images = 0;
    for point in recording.walker() {
        for choice in point.choices(limits, 3) {
            images += 1;
            let image = point.image(&choice);
            check(&image.fork()).map_err(|e| format!("{}: {e}", point.describe(&choice)))?;
            if images % nested == 0 {
                // And once more, at every operation of the recovery.
                image.restart_recording();
                drop(small(&image).1.open(DB).unwrap());
                let few = EnumerationLimits { per_family: 1, samples: 1, ..*limits };
                images += sweep(&image.record(), &few, u64::MAX)?;
            }
        }
    }
    Ok(images)
}

/// The archive had the file already, but under its header; it took the rest for another file of that
/// name, and held the log for ever.
#[test]
fn a_header_torn_while_its_file_is_used_again_does_not_stop_the_archive() {
    let disk = SimDisk::new();
    let db = small(&disk).1.open(DB).unwrap();
    commits(&db, 0, 30, Durability::Sync);
    db.checkpoint().unwrap();
    disk.restart_recording();
    commits(&db, 0, 24, Durability::Sync);
    let limits =
        EnumerationLimits { exhaustive_units: 1, per_family: 1, samples: 1, torn_sectors: true };
    let mut torn = 0;
    for point in disk.record().walker() {
        for choice in point.choices(&limits, 3) {
            let image = point.image(&choice);
            let db = small(&image).1.open(DB).unwrap();
            commits(&db, 90, 1, Durability::Sync);
            db.checkpoint().unwrap();
            let held = db.stats().archive_held_bytes;
            assert_eq!(held, 0, "{}", point.describe(&choice));
            torn += 1;
        }
    }
    assert!(torn > 500, "{torn} images");
}

fn prepared(without: Option<Barrier>) -> SimDisk {
    let disk = SimDisk::new();
    without.into_iter().for_each(|barrier| disk.disable_barrier(barrier));
    let db = small(&disk).1.open(DB).unwrap();
    commits(&db, 0, 3, Durability::Sync);
    db.backup(REPO).unwrap();
    db.close().unwrap();
    disk.restart_recording();
    disk
}

fn cuts(limits: &EnumerationLimits, nested: u64) -> u64 {
    let disk = prepared(None);
    lives(&disk);
    let images = sweep(&disk.record(), limits, nested).unwrap();
    let kept = disk.files().iter().filter(|(path, _)| path.starts_with(ARCHIVE)).count();
    assert!(kept > 3, "{kept} files");
    println!("{images} images");
    images
}

#[test]
fn a_power_cut_leaves_no_gap() {
    let limits =
        EnumerationLimits { exhaustive_units: 1, per_family: 1, samples: 1, torn_sectors: false };
    assert!(cuts(&limits, 1999) > 1000);
}

#[test]
#[ignore = "minutes: more ways of losing power, more cuts within recoveries"]
fn many_power_cuts_leave_no_gap() {
    let limits =
        EnumerationLimits { exhaustive_units: 3, per_family: 1, samples: 2, torn_sectors: true };
    assert!(cuts(&limits, 97) > 20_000);
}

/// The syncs of the archive are all that keeps that promise.
#[test]
fn without_its_syncs_the_archive_has_gaps() {
    let limits =
        EnumerationLimits { exhaustive_units: 2, per_family: 2, samples: 4, torn_sectors: false };
    for barrier in [Barrier::Copy, Barrier::CopyName] {
        let disk = prepared(Some(barrier));
        lives(&disk);
        let outcome = sweep(&disk.record(), &limits, u64::MAX);
        assert!(outcome.is_err(), "{barrier:?}: {outcome:?}");
    }
}

/// A process dies and leaves commits in the system's memory; they are recovered; the archive fails; and
/// then the power does.
#[test]
fn what_a_recovery_took_from_memory_reaches_the_archive() {
    let disk = prepared(None);
    // So much memory that no checkpoint syncs the log.
    let db = sized(&disk, 512 << 10).1.open(DB).unwrap();
    commits(&db, 10, 2, Durability::Sync);
    commits(&db, 20, 14, Durability::Buffered);
    let disk = disk.kill();
    let len = |db: &Database| db.keyspace("k").unwrap().len().unwrap();
    let lost = |seed| len(&small(&disk.power_cut(seed)).1.open(DB).unwrap()) < 19;
    assert!((0..40).filter(|seed| lost(*seed)).count() > 10, "nothing was in memory alone");
    disk.deny(ARCHIVE);
    let db = sized(&disk, 512 << 10).1.open(DB).unwrap();
    assert_eq!(len(&db), 19);
    commits(&db, 40, 1, Durability::Sync);
    let expected = content(&db);
    for seed in 0..40 {
        let image = disk.power_cut(seed);
        image.allow(ARCHIVE);
        let db = small(&image).1.open(DB).unwrap();
        assert_eq!(content(&db), expected);
        // The log of the first process is released, and its files are used again.
        commits(&db, 50, 40, Durability::Sync);
        db.close().unwrap();
        check(&image).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Commits that nobody waited for, of which the disk kept any part.
#[test]
fn what_was_cut_is_never_restored() {
    let disk = prepared(None);
    let db = sized(&disk, 512 << 10).1.open(DB).unwrap();
    commits(&db, 10, 2, Durability::Sync);
    commits(&db, 20, 25, Durability::Buffered);
    let mut cut = 0;
    for seed in 0..300 {
        let image = disk.power_cut(seed);
        let probe = small(&image.fork()).1.open(DB).unwrap();
        cut += u64::from(probe.recovery().trimmed_bytes > 0);
        drop(probe);
        check(&image).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(cut > 30, "only {cut} logs were cut");
}

/// Without an archive the files of the old log still hold what was cut, until they are used again.
#[test]
fn what_was_cut_is_not_taken_for_a_gap() {
    let disk = SimDisk::new();
    let plain = |disk: &SimDisk| {
        let (fs, builder) = on(disk);
        (fs, builder.background(false).simulation_sizes(512 << 10))
    };
    let db = plain(&disk).1.open(DB).unwrap();
    commits(&db, 0, 3, Durability::Sync);
    db.backup(REPO).unwrap();
    commits(&db, 20, 25, Durability::Buffered);
    let (mut cut, mut whole) = (0, 0);
    for seed in 0..200 {
        let image = disk.power_cut(seed);
        let (fs, builder) = plain(&image);
        let log = Request::new(REPO).number(Some(1)).log(DB).until(LATEST);
        for more in [0, 2] {
            let db = builder.clone().open(DB).unwrap();
            cut += u64::from(db.recovery().trimmed_bytes > 0);
            commits(&db, 500, more, Durability::Sync);
            let (expected, recovered) = (content(&db), db.recovery().last_seqno);
            db.close().unwrap();
            let target = format!("/new{more}");
            match backup::restore_to(&fs, &log, &target, &mut |_| {}) {
                Ok(_) => whole += 1,
                // Files of the old log were removed: then commits that were recovered are missing.
                Err(Error::LogGap { after, .. }) if after < recovered => continue,
                Err(error) => panic!("seed {seed}, {more} more: {error}"),
            }
            let reader = builder.clone().read_only(true).open(&target).unwrap();
            assert_eq!(content(&reader), expected, "seed {seed}, {more} more");
        }
    }
    assert!(cut > 30 && whole > 30, "{cut} logs were cut, {whole} restored");
}
