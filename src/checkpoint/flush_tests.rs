//! Tests of what a checkpoint lets go of: the log before it, the epochs that it passed, and, after a failed
//! sync, everything.

use crate::fs::Barrier;
use crate::fs::FileSystem;
use crate::fs::sim::{Fault, FaultKind, OperationKind, SimDisk};
use crate::manifest::Manifest;
use crate::{Builder, Database, Error};
use std::sync::Arc;

fn on(disk: &SimDisk) -> Builder {
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    Database::builder().file_system(fs).background(false)
}

fn manifest(disk: &SimDisk) -> Manifest {
    Manifest::decode(&disk.read_file("/db/MANIFEST").unwrap()).unwrap()
}

#[test]
fn epochs_that_a_checkpoint_has_passed_leave_the_manifest() {
    let disk = SimDisk::without_history();
    for life in 1..=3 {
        let db = on(&disk).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        items.insert([life], "value").unwrap();
        // The log of the lives before is live until then.
        assert_eq!(manifest(&disk).epochs.len(), usize::from(life));
        db.close().unwrap();
    }
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("last", "value").unwrap();
    assert_eq!(manifest(&disk).epochs.len(), 4);
    let replay_from = db.checkpoint().unwrap();
    let manifest = manifest(&disk);
    assert_eq!(manifest.epochs.len(), 1);
    assert_eq!(manifest.checkpoint_lsn, replay_from);
    assert!(manifest.epochs[0].start < replay_from && manifest.segment_base <= replay_from);
    assert_eq!(manifest.checkpoint_seqno, db.snapshot().seqno());
}

#[test]
fn a_checkpoint_with_nothing_new_writes_nothing() {
    let disk = SimDisk::without_history();
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("key", "value").unwrap();
    let first = db.checkpoint().unwrap();
    let generation = manifest(&disk).generation;
    assert_eq!(db.checkpoint().unwrap(), first);
    assert_eq!(manifest(&disk).generation, generation);
    // A drop leaves no entry in memory, but moves the log.
    db.drop_keyspace(&items).unwrap();
    assert!(db.checkpoint().unwrap() > first);
    assert!(manifest(&disk).generation > generation);
}

#[test]
fn a_failed_sync_of_a_table_is_final_and_a_failed_write_is_not() {
    for (fault, is_final) in [
        (Fault::new(FaultKind::Io).barrier(Barrier::TableContent), true),
        (Fault::new(FaultKind::Io).barrier(Barrier::TableName), true),
        (Fault::new(FaultKind::Io).on(OperationKind::Write).path_contains("table-"), false),
    ] {
        let disk = SimDisk::new();
        let db = on(&disk).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        items.insert("key", "value").unwrap();
        disk.inject(fault.clone());
        assert!(matches!(db.checkpoint(), Err(Error::Io { .. })), "{fault:?}");
        assert_eq!(disk.faults_struck(), 1, "{fault:?}");
        let outcome = items.insert("after", "1");
        assert_eq!(matches!(outcome, Err(Error::Poisoned { .. })), is_final, "{fault:?}");
        assert_eq!(db.checkpoint().is_err(), is_final, "{fault:?}");
        drop((items, db));
        let db = on(&disk.kill()).open("/db").unwrap();
        let items = db.existing_keyspace("items").unwrap();
        assert_eq!(items.get("key").unwrap().unwrap(), b"value");
        assert_eq!(items.get("after").unwrap().is_none(), is_final);
    }
}

#[test]
fn what_is_logged_after_a_checkpoint_names_its_manifest() {
    let disk = SimDisk::without_history();
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("key", "value").unwrap();
    let before = disk.read_file("/db/MANIFEST").unwrap();
    db.checkpoint().unwrap();
    let put_back = || {
        let killed = disk.kill();
        killed.write_file("/db/MANIFEST", &before).unwrap();
        on(&killed).open("/db")
    };
    assert!(put_back().is_ok(), "the log alone holds as much");
    items.insert("after", "1").unwrap();
    let error = put_back().unwrap_err();
    assert!(error.to_string().contains("an older manifest was put in its place"), "{error}");
}

#[test]
fn a_full_disk_at_the_manifest_is_no_failure() {
    let disk = SimDisk::new();
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("key", "value").unwrap();
    disk.inject(Fault::new(FaultKind::NoSpace).path_contains("MANIFEST.new"));
    // The reserve is spent once, and the checkpoint goes on.
    db.checkpoint().unwrap();
    assert_eq!(disk.faults_struck(), 1);
    items.insert("after", "1").unwrap();
}
