//! The log takes room as it is needed, and gives it back.

use highwater::Database;
use std::path::Path;

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
