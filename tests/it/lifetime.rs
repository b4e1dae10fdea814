//! How long a database lives: as long as its last handle, whatever threads work for it.

use crate::jitter::{JitteryDisk, Pauses};
use highwater::fs::sim::SimDisk;
use highwater::{Database, Error, Snapshot};
use std::sync::Arc;
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

/// Handles that nobody uses any more kept the tables of the time of the close open, and with them their room
/// on the disk, however often a later owner merged them.
#[test]
fn handles_that_outlive_a_close_hold_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Database::open(&path).unwrap();
    let users = db.keyspace("users").unwrap();
    users.insert("ada", "1815").unwrap();
    db.checkpoint().unwrap();
    let (other, snapshot) = (db.clone(), db.snapshot());
    assert_eq!(users.get("ada").unwrap().unwrap(), b"1815");
    db.close().unwrap();

    // What was taken before goes on reading; everything else is closed.
    assert_eq!(snapshot.get(&users, "ada").unwrap().unwrap(), "1815");
    assert!(open_tables(&path) > 0 || cfg!(not(target_os = "linux")));
    drop(snapshot);
    assert_eq!(open_tables(&path), 0);
    let late = other.snapshot();
    let outcomes = [
        users.get("ada").map(drop),
        users.contains("ada").map(drop),
        users.len().map(drop),
        users.insert("ada", "").map(drop),
        late.get(&users, "ada").map(drop),
        late.iter(&users).map(drop),
        late.len(&users).map(drop),
        late.content_hash().map(drop),
        other.snapshot_durable().first(&users).map(drop),
        other.write().map(drop),
        other.optimistic().map(drop),
        other.checkpoint().map(drop),
        other.compact(),
    ];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        assert!(matches!(outcome, Err(Error::Closed)), "call {number}: {outcome:?}");
    }
    let _ = (other.stats(), other.keyspaces());

    let next = Database::open(&path).unwrap();
    next.keyspace("users").unwrap().insert("bob", "1900").unwrap();
    next.compact().unwrap();
    next.close().unwrap();
    assert_eq!(open_tables(&path), 0);
    drop(late);
}

/// Table files of a database that this process has open or mapped, removed ones included; 0 where the
/// system does not say.
fn open_tables(path: &std::path::Path) -> usize {
    let path = std::fs::canonicalize(path).unwrap();
    let of_table = |text: &str| text.contains(&*path.to_string_lossy()) && text.contains(".hwt");
    let Ok(handles) = std::fs::read_dir("/proc/self/fd") else { return 0 };
    let open = handles
        .filter_map(|handle| std::fs::read_link(handle.ok()?.path()).ok())
        .filter(|target| of_table(&target.to_string_lossy()))
        .count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    open + maps.lines().filter(|line| of_table(line)).count()
}

/// Who dropped the last view of tables that a merge had replaced removed their files, and most often that was a commit: it
/// took 60 to 170 ms.
#[test]
fn tables_are_removed_by_nobody_who_reads_or_commits() {
    let pauses = Pauses::new(1);
    let jittery = JitteryDisk { disk: SimDisk::new(), pauses: pauses.clone() };
    let db = Database::builder().file_system(Arc::new(jittery)).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    for round in 0..3_u32 {
        items.insert(round.to_be_bytes(), vec![7; 10_000]).unwrap();
        db.checkpoint().unwrap();
    }
    let snapshot = db.snapshot();
    assert_eq!(snapshot.len(&items).unwrap(), 3);
    db.compact().unwrap();
    let tables = || {
        let is_table = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".hwt");
        pauses.removals().into_iter().filter(move |(path, _)| is_table(path))
    };
    assert_eq!(tables().count(), 0, "a snapshot reads them");
    drop(snapshot);
    let started = Instant::now();
    while tables().count() < 3 {
        // A view of this thread's own may be what keeps them.
        assert_eq!(items.len().unwrap(), 3);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", pauses.removals());
        std::thread::sleep(Duration::from_millis(1));
    }
    let here = std::thread::current().id();
    assert!(tables().all(|(_, by)| by != here), "{:?}", pauses.removals());
    drop(items);
    db.close().unwrap();
}
