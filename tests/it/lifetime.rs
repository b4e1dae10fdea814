//! How long a database lives: as long as its last handle, whatever threads work for it.

use highwater::{Database, Error, Snapshot};
use std::time::{Duration, Instant};

#[test]
fn dropping_the_last_handle_closes_a_database_that_was_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    for round in 0..3_u64 {
        let db = Database::open(&path).unwrap();
        assert!(db.recovery().clean, "round {round}");
        let users = db.keyspace("users").unwrap();
        assert_eq!(users.len().unwrap(), round);
        users.insert(round.to_be_bytes(), "here").unwrap();
        drop(db);
        drop(users);
    }
}

#[test]
fn a_snapshot_keeps_the_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let snapshot: Snapshot = {
        let db = Database::open(&path).unwrap();
        db.keyspace("users").unwrap().insert("ada", "1815").unwrap();
        db.snapshot()
    };
    assert!(matches!(Database::open(&path), Err(Error::Locked { .. })));
    drop(snapshot);
    Database::open(&path).unwrap();
}

#[test]
fn dropping_everything_by_dropping_a_transaction_does_not_wait_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let tx = {
        let db = Database::open(&path).unwrap();
        let users = db.keyspace("users").unwrap();
        let mut tx = db.write().unwrap();
        tx.insert(&users, "ada", "1815").unwrap();
        tx
    };
    let started = Instant::now();
    drop(tx);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let db = Database::open(&path).unwrap();
    assert!(db.recovery().clean);
    assert_eq!(db.existing_keyspace("users").unwrap().len().unwrap(), 0);
}
