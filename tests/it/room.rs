//! The log takes room as it is needed, and gives it back.

use highwater::fs::sim::SimDisk;
use highwater::{Database, Error};
use std::path::Path;
use std::sync::Arc;

fn file_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn opening_again_and_again_does_not_grow_the_log() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20_u32 {
        let db = Database::open(dir.path()).unwrap();
        db.keyspace("k").unwrap().insert(round.to_be_bytes(), "v").unwrap();
        db.close().unwrap();
    }
    let bytes = file_bytes(dir.path());
    assert!(bytes < 16 << 20, "20 small records take {bytes} bytes");
}

#[test]
fn compacting_what_was_just_opened_gives_log_files_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for round in 0..3000_u32 {
        let value = vec![7; 4000];
        keyspace.insert_with(round.to_be_bytes(), value, highwater::Durability::Buffered).unwrap();
    }
    keyspace.insert("more", "v").unwrap();
    db.close().unwrap();
    let before = file_bytes(dir.path());
    let db = Database::open(dir.path()).unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    let once = file_bytes(dir.path());
    let db = Database::open(dir.path()).unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    let twice = file_bytes(dir.path());
    let tables = 3000 * 4000;
    assert!(once < before && twice < tables + (4 << 20), "{before} {once} {twice} bytes");
}

/// Each merge that found no room at its very end left an unfinished table, and the next one tried again.
#[test]
fn a_merge_that_finds_no_room_leaves_no_files() {
    let disk = SimDisk::new();
    let builder = Database::builder().background(false).file_system(Arc::new(disk.clone()));
    let db = builder.open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    for round in 0..6_u8 {
        items.insert([round], vec![round; 900_000]).unwrap();
        db.checkpoint().unwrap();
    }
    let tables = || {
        let files = disk.files();
        files.iter().filter(|(path, _)| path.to_string_lossy().contains("table-")).count()
    };
    assert_eq!(tables(), 6);
    disk.set_capacity(Some(disk.used_bytes() + 100_000));
    for _ in 0..3 {
        assert!(matches!(db.compact(), Err(Error::NoSpace { .. })));
        assert_eq!(tables(), 6);
    }
    disk.set_capacity(None);
    db.compact().unwrap();
    assert_eq!(tables(), 1);
    assert_eq!(items.len().unwrap(), 6);
}
