//! What the campaign has found in the engine, each as small as it gets.

use highwater::fs::Barrier;
use highwater::fs::sim::{EnumerationLimits, Fault, FaultKind, OperationKind, PageState, SimDisk};
use highwater::mistakes::{Mistake, plant};
use highwater::{Builder, Database, Durability, Error};
use highwater_sim::run::Run;
use highwater_sim::script::workload;
use std::sync::Arc;

fn options(disk: &SimDisk) -> Builder {
    Database::builder()
        .file_system(Arc::new(disk.clone()))
        .background(false)
        .segment_size(1 << 20)
        .memory_budget(3 << 20)
}

fn open(disk: &SimDisk) -> Database {
    options(disk).open("/db").unwrap()
}

/// One transaction of `count` values of 20,000 bytes.
fn fill(db: &Database, round: u8, count: u8) {
    let items = db.keyspace("items").unwrap();
    let mut tx = db.write().unwrap();
    for i in 0..count {
        tx.insert(&items, [i], vec![round; 20_000]).unwrap();
    }
    tx.commit().unwrap();
}

/// A checkpoint ended near the end of a segment, and the next group did not fit into the rest of it: the
/// replay found nothing where it began and took that for the end of the log. Acknowledged commits were
/// lost, or the open refused.
#[test]
fn the_first_group_of_a_replay_may_lie_in_the_next_segment() {
    for witness in [false, true] {
        let disk = SimDisk::new();
        let db = open(&disk);
        for round in 0..4 {
            fill(&db, round, 12);
        }
        db.checkpoint().unwrap();
        fill(&db, 9, 12);
        if witness {
            db.maintain().unwrap();
        }
        let files = disk.files();
        assert!(
            files.iter().filter(|(path, _)| path.to_string_lossy().contains("log-")).count() > 2
        );
        let cut = disk.durable_image();
        let db = open(&cut);
        let items = db.existing_keyspace("items").unwrap();
        assert_eq!(items.get([0]).unwrap().unwrap(), vec![9; 20_000]);
    }
}

/// As above, but the first group behind the checkpoint is torn and the one in the next segment is whole:
/// it must not be taken for the first.
#[test]
fn a_torn_first_group_is_not_skipped() {
    let disk = SimDisk::new();
    let db = open(&disk);
    for round in 0..3 {
        fill(&db, round, 12);
    }
    db.checkpoint().unwrap();
    disk.restart_recording();
    let items = db.keyspace("items").unwrap();
    for round in 20..23 {
        // Two go into the rest of the segment, the third into the next.
        let mut tx = db.write().unwrap();
        for i in 0..8 {
            tx.insert(&items, [i], vec![round; 20_000]).unwrap();
        }
        tx.commit_with(Durability::Buffered).unwrap();
    }
    let recording = disk.record();
    let point = recording.crash_point(recording.operations());
    let limits =
        EnumerationLimits { exhaustive_units: 2, per_family: 40, samples: 60, torn_sectors: true };
    let mut seen = std::collections::BTreeSet::new();
    for choice in point.choices(&limits, 5) {
        let image = point.image(&choice);
        let opened = options(&image).open("/db");
        let db = opened.unwrap_or_else(|e| panic!("{e}\n{}", point.describe(&choice)));
        let items = db.existing_keyspace("items").unwrap();
        let rounds: Vec<u8> = (0..8).map(|i| items.get([i]).unwrap().unwrap()[0]).collect();
        assert!(rounds.iter().all(|round| *round == rounds[0]), "{rounds:?}");
        seen.insert(rounds[0]);
    }
    assert!(seen.contains(&2) && seen.contains(&22), "{seen:?}");
}

/// A process died between the rename of a manifest and the sync of its name. The next one named its
/// generation in segment headers; a power cut took the rename back and left the segments, and the open
/// refused, blaming an older manifest.
#[test]
fn the_name_of_the_manifest_read_is_durable_before_anything_relies_on_it() {
    let disk = SimDisk::new();
    let db = open(&disk);
    let items = db.keyspace("items").unwrap();
    items.insert("a", "1").unwrap();
    let manifest_name =
        Fault::new(FaultKind::Io).on(OperationKind::SyncDir).barrier(Barrier::ManifestName);
    disk.inject(manifest_name);
    db.checkpoint().unwrap_err();
    // What a dead process leaves: the rename is there, and not durable.
    let next = disk.kill();
    next.clear_faults();
    next.restart_recording();
    let db = open(&next);
    assert_eq!(db.existing_keyspace("items").unwrap().get("a").unwrap().unwrap(), b"1");
    let limits =
        EnumerationLimits { exhaustive_units: 8, per_family: 8, samples: 8, torn_sectors: false };
    for point in next.record().walker() {
        for choice in point.choices(&limits, 3) {
            let opened = options(&point.image(&choice)).open("/db");
            let text = || format!("at {}\n{}", point.position(), point.describe(&choice));
            let db = opened.unwrap_or_else(|e| panic!("{e}\n{}", text()));
            let items = db.existing_keyspace("items").unwrap();
            assert_eq!(items.get("a").unwrap().as_deref(), Some(&b"1"[..]), "{}", text());
        }
    }
}

/// Syncs of tables, and of segments that are made ahead or for a new epoch, failed, and later commits
/// returned `Ok`. A failed sync is final, whatever it was for.
#[test]
fn every_failed_sync_is_final() {
    let kinds = [
        Barrier::LogCommit,
        Barrier::SegmentContent,
        Barrier::SegmentName,
        Barrier::TableContent,
        Barrier::TableName,
        Barrier::ManifestContent,
        Barrier::ManifestName,
    ];
    for barrier in kinds {
        for nth in 1..12 {
            let disk = SimDisk::new();
            drop(open(&disk));
            let fault = Fault::new(FaultKind::Io).barrier(barrier).nth(nth);
            disk.inject(fault.pages_after(PageState::MarkedClean));
            let db = open(&disk);
            for round in 0..12 {
                let failed = disk.faults_struck() > 0;
                let committed = || -> highwater::Result<()> {
                    let items = db.keyspace("items")?;
                    let mut tx = db.write()?;
                    // The eighth spills.
                    for i in 0..if round == 7 { 50 } else { 11 } {
                        tx.insert(&items, [i], vec![round; 20_000])?;
                    }
                    tx.commit().map(drop)
                };
                let outcome = committed();
                assert!(!(failed && outcome.is_ok()), "{barrier:?} number {nth}, round {round}");
                if round % 4 == 3 {
                    let _ = db.checkpoint();
                }
                if round % 6 == 5 {
                    let _ = db.compact();
                }
            }
            if disk.faults_struck() > 0 {
                assert!(matches!(db.close(), Err(Error::Poisoned { .. })), "{barrier:?} {nth}");
            }
        }
    }
}

/// The removal of a spare segment failed after a checkpoint was published, and the checkpoint stayed due:
/// the next one published the same layer again.
#[test]
fn a_checkpoint_that_cannot_remove_spare_segments_is_not_made_twice() {
    for spilled in [false, true] {
        let disk = SimDisk::new();
        let db = options(&disk).memory_budget(64 << 20).open("/db").unwrap();
        for round in 0..40 {
            fill(&db, round, 12);
        }
        let items = db.keyspace("items").unwrap();
        disk.inject(Fault::new(FaultKind::Io).on(OperationKind::Remove).path_contains("/log-"));
        if spilled {
            let mut tx = db.write().unwrap();
            for i in 0..9_u16 {
                tx.insert(&items, i.to_be_bytes(), vec![1; 2 << 20]).unwrap();
            }
            tx.commit().unwrap();
        }
        let outcome = db.checkpoint();
        let (struck, runs) = (disk.faults_struck(), db.stats().runs);
        assert_eq!(struck, 1, "{outcome:?}");
        db.checkpoint().unwrap();
        assert_eq!(db.stats().runs, runs, "{outcome:?}");
        assert_eq!(items.len().unwrap(), if spilled { 21 } else { 12 });
        drop(items);
        db.close().unwrap();
        let db = open(&disk);
        assert_eq!(db.stats().runs, runs);
        let items = db.keyspace("items").unwrap();
        assert_eq!(items.len().unwrap(), if spilled { 21 } else { 12 });
    }
}

/// The last group before a checkpoint ended in the last block of its segment, so the checkpoint lay at the
/// very end of it, which is the base of the next one: the replay of nothing from there asked for a segment
/// that the plan had not called live, and the open refused.
#[test]
fn a_checkpoint_may_lie_at_the_very_end_of_a_segment() {
    let small = |disk: &SimDisk| {
        options(disk).simulation_sizes(48 << 10).open("/db").unwrap_or_else(|e| panic!("{e}"))
    };
    let mut at_the_end = 0;
    for count in 1..12_u8 {
        let disk = SimDisk::new();
        let db = small(&disk);
        let items = db.keyspace("items").unwrap();
        // Each takes one block of the seven that a segment of 32 KiB has for groups.
        for key in 0..count {
            items.insert([key], vec![key; 3000]).unwrap();
        }
        let lsn = db.checkpoint().unwrap();
        at_the_end += u32::from(lsn.get() % (32 << 10) == 4096);
        for image in [disk.kill(), disk.durable_image()] {
            let db = small(&image);
            assert_eq!(db.recovery().replayed_transactions, 0);
            let items = db.existing_keyspace("items").unwrap();
            assert_eq!(items.len().unwrap(), u64::from(count));
            items.insert("more", "1").unwrap();
            drop((items, db));
            let db = small(&image);
            assert_eq!(db.existing_keyspace("items").unwrap().len().unwrap(), u64::from(count) + 1);
        }
    }
    assert!(at_the_end > 0, "no checkpoint lay at the end of a segment");
}

/// A `Buffered` commit that changed nothing returned before what it had read, a `Memory` commit, was
/// handed to the operating system.
#[test]
fn an_empty_buffered_commit_writes_what_it_read() {
    for optimistic in [false, true] {
        let disk = SimDisk::new();
        let db = open(&disk);
        let items = db.keyspace("items").unwrap();
        items.insert_with("a", "1", Durability::Memory).unwrap();
        assert_eq!(open(&disk.kill()).existing_keyspace("items").unwrap().len().unwrap(), 0);
        if optimistic {
            let mut tx = db.optimistic().unwrap();
            assert!(tx.get(&items, "a").unwrap().is_some());
            tx.remove_range(&items, "x".."x").unwrap();
            tx.commit_with(Durability::Buffered).unwrap();
        } else {
            db.write().unwrap().commit_with(Durability::Buffered).unwrap();
        }
        assert_eq!(open(&disk.kill()).existing_keyspace("items").unwrap().len().unwrap(), 1);
    }
}

/// A planted mistake makes the thread that leads a flush panic. It stayed the leader, and the close of the
/// database waited for it, for ever.
#[test]
fn a_panic_in_a_flush_leaves_nobody_waiting() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        plant(Some(Mistake::AcknowledgedBlockRewritten));
        let workload = Arc::new(workload("little", 1).unwrap());
        let mut run = Run::new(workload, SimDisk::with_seed(1), false);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.all()));
        drop(run);
        sender.send(outcome.is_err()).unwrap();
    });
    let panicked = receiver.recv_timeout(std::time::Duration::from_secs(60));
    assert_eq!(panicked, Ok(true), "the database was not dropped, or nothing panicked");
}

/// A recovery wrote tables; the sync of the directory that was to make their names durable failed for want of
/// room, and the kernel forgot the names. Other, smaller segments were tried and their sync succeeded, so a
/// manifest was published that named tables whose names the disk did not hold: after a power cut the open
/// refused.
#[test]
fn a_recovery_does_not_go_on_after_a_directory_sync_that_failed_for_want_of_room() {
    for pages in [PageState::Dirty, PageState::MarkedClean, PageState::Reverted] {
        let disk = SimDisk::new();
        let db = open(&disk);
        fill(&db, 7, 12);
        let dead = disk.kill();
        let full = Fault::new(FaultKind::NoSpace).barrier(Barrier::SegmentName).pages_after(pages);
        dead.inject(full);
        let opened = options(&dead).open("/db");
        assert_eq!(dead.faults_struck(), 1);
        let is_there = |disk: &SimDisk, at: &str| {
            let db = options(disk).open("/db").unwrap_or_else(|e| panic!("{pages:?}, {at}: {e}"));
            let items = db.existing_keyspace("items").unwrap();
            assert_eq!(items.get([11]).unwrap().unwrap(), vec![7; 20_000], "{pages:?}, {at}");
        };
        is_there(&dead.durable_image(), "power cut after the open");
        drop(opened);
        is_there(&dead.durable_image(), "power cut after the close");
        // The next process of the same boot sees what the disk does not hold.
        let next = dead.kill();
        is_there(&next, "the next process");
        is_there(&next.durable_image(), "power cut after the next process");
    }
}

/// The sync of a spilled table found no room, and the kernel took its pages for clean. The transaction went
/// on; its commit synced the table again, with success, and installed it. After a power cut an acknowledged
/// commit could not be read.
#[test]
fn a_spilled_table_whose_sync_failed_is_never_installed() {
    for nth in 1..=8 {
        let disk = SimDisk::new();
        let db = open(&disk);
        let items = db.keyspace("items").unwrap();
        let full = Fault::new(FaultKind::NoSpace).barrier(Barrier::SpillContent).nth(nth);
        disk.inject(full.pages_after(PageState::MarkedClean));
        let mut tx = db.write().unwrap();
        let put = |i: u16| tx.insert(&items, i.to_be_bytes(), vec![7; 20_000]).is_ok();
        let taken = (0..400).map(put).filter(|taken| *taken).count() as u64;
        let committed = tx.commit().is_ok();
        assert_eq!(disk.faults_struck(), 1, "fault {nth}");
        let cut = disk.durable_image();
        drop(db);
        let db = open(&cut);
        let items = db.existing_keyspace("items").unwrap();
        let snapshot = db.snapshot();
        let mut found = 0;
        for entry in snapshot.iter(&items).unwrap() {
            entry.expect("readable");
            found += 1;
        }
        assert_eq!(found, if committed { taken } else { 0 }, "fault {nth}, {committed}");
    }
}
