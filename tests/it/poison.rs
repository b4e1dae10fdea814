//! A failed sync is final: nothing is acknowledged after it, everybody is told why, reads go on, and the next
//! open finds what was acknowledged before.

use highwater::fs::sim::{Fault, FaultKind, OperationKind, SimDisk};
use highwater::fs::{Barrier, FileSystem};
use highwater::{Database, Durability, Error};
use std::sync::Arc;

fn on(disk: &SimDisk) -> highwater::Builder {
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    Database::builder().file_system(fs)
}

fn poisoned<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{outcome:?}");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_reads_go_on() {
    for background in [false, true] {
        let disk = SimDisk::new();
        let db = on(&disk).background(background).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        items.insert("before", "acknowledged").unwrap();
        let ticket = {
            let mut tx = db.write().unwrap();
            tx.insert(&items, "ticket", "pending").unwrap();
            disk.inject(Fault::new(FaultKind::Io).barrier(Barrier::LogCommit));
            tx.commit_ticket().unwrap()
        };
        poisoned(ticket.wait());
        disk.clear_faults();
        assert!(!ticket.is_durable());
        // The disk works again. What it did with the bytes nobody knows, so nothing is tried again.
        for durability in [Durability::Sync, Durability::Buffered, Durability::Memory] {
            poisoned(items.insert_with("after", "1", durability));
        }
        poisoned(db.sync());
        poisoned(db.checkpoint());
        poisoned(db.keyspace("another").map(drop));
        assert_eq!(items.get("before").unwrap().unwrap(), b"acknowledged");
        assert!(items.get("after").unwrap().is_none());
        poisoned(db.close());
        let db = on(&disk.durable_image()).open("/db").unwrap();
        let items = db.existing_keyspace("items").unwrap();
        assert_eq!(items.get("before").unwrap().unwrap(), b"acknowledged");
        assert!(items.get("after").unwrap().is_none());
    }
}

/// Many wait for one sync; all of them hear of its failure, and of the same cause.
#[test]
fn everybody_who_waits_is_told_of_a_failed_sync() {
    let disk = SimDisk::new();
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    let told = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let (items, told, disk) = (&items, &told, &disk);
            scope.spawn(move || {
                for number in 0_u32.. {
                    if thread == 0 && number == 50 {
                        let kind = FaultKind::Error(std::io::ErrorKind::TimedOut);
                        disk.inject(Fault::new(kind).barrier(Barrier::LogCommit));
                    }
                    match items.insert([thread.to_be_bytes(), number.to_be_bytes()].concat(), "x") {
                        Ok(_) => {}
                        Err(Error::Poisoned { cause }) => {
                            assert_eq!(cause.kind(), std::io::ErrorKind::TimedOut);
                            break;
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
                told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            });
        }
    });
    assert_eq!(told.into_inner(), 8);
}

/// A write that fails half way is as final: the log may not go on behind a hole.
#[test]
fn after_a_failed_write_of_the_log_nothing_is_acknowledged() {
    for effect in [FaultKind::Io, FaultKind::NoSpace] {
        let disk = SimDisk::new();
        let db = on(&disk).background(false).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        items.insert("before", "acknowledged").unwrap();
        disk.inject(Fault::new(effect).on(OperationKind::Write).path_contains("log-"));
        poisoned(items.insert("during", "1"));
        disk.clear_faults();
        poisoned(items.insert("after", "1"));
        drop((db, items));
        let db = on(&disk.kill()).open("/db").unwrap();
        let items = db.existing_keyspace("items").unwrap();
        assert_eq!(items.get("before").unwrap().unwrap(), b"acknowledged");
        assert!(items.get("after").unwrap().is_none());
    }
}
