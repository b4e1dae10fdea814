//! The log takes room as it is needed, and gives it back.

use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Error};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// A drop was refused because a merge, or a segment that was made ahead, took the last room in the same moment.
#[test]
fn on_a_full_disk_a_drop_a_checkpoint_and_a_close_outlast_who_takes_the_room() {
    for round in 0..12_u64 {
        let disk = SimDisk::without_history();
        disk.set_capacity(Some((20 << 20) + round * 577_777));
        let builder = Database::builder().file_system(Arc::new(disk.clone()));
        let db = builder.memory_budget(4 << 20).open("/db").unwrap();
        let (stays, goes) = (db.keyspace("stays").unwrap(), db.keyspace("goes").unwrap());
        let mut number = 0_u64;
        let mut fill = || {
            loop {
                number += 1;
                let keyspace = if number.is_multiple_of(2) { &stays } else { &goes };
                let key = (number * 7919 % 100_000).to_be_bytes();
                match keyspace.insert_with(key, [7; 2000], Durability::Buffered) {
                    Ok(_) => {}
                    Err(Error::NoSpace { .. }) => return,
                    Err(error) => panic!("round {round}: {error}"),
                }
            }
        };
        for _ in 0..3 {
            fill();
            db.checkpoint().unwrap_or_else(|error| panic!("round {round}, checkpoint: {error}"));
        }
        fill();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    match db.compact() {
                        Ok(()) | Err(Error::NoSpace { .. }) => {}
                        Err(error) => panic!("round {round}, compaction: {error}"),
                    }
                }
            });
            scope.spawn(|| {
                for number in 0_u64.. {
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                    match stays.insert_with(number.to_be_bytes(), [7; 2000], Durability::Buffered) {
                        Ok(_) | Err(Error::NoSpace { .. }) => {}
                        Err(error) => panic!("round {round}, commit: {error}"),
                    }
                }
            });
            let dropped = db.drop_keyspace(&goes);
            let checkpoint = db.checkpoint();
            done.store(true, Ordering::Release);
            dropped.unwrap_or_else(|error| panic!("round {round}, drop: {error}"));
            checkpoint.unwrap_or_else(|error| panic!("round {round}, checkpoint: {error}"));
        });
        let live = stays.len().unwrap();
        db.checkpoint().unwrap_or_else(|error| panic!("round {round}, checkpoint: {error}"));
        db.close().unwrap_or_else(|error| panic!("round {round}, close: {error}"));
        let builder = Database::builder().file_system(Arc::new(disk.clone()));
        let db = builder.open("/db").unwrap();
        assert_eq!(db.keyspaces(), ["stays"]);
        assert_eq!(db.existing_keyspace("stays").unwrap().len().unwrap(), live);
    }
}
