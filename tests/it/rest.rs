//! What is merged while nobody writes.

use crate::jitter::{JitteryDisk, Pauses};
use highwater::check::{self, VerifyOptions};
use highwater::fs::{FileSystem, os::OsFileSystem, sim::SimDisk};
use highwater::{Database, Keyspace};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Without threads, so that nothing rests.
fn restless(path: &Path) -> (Database, Keyspace) {
    let db = Database::builder().background(false).open(path).unwrap();
    let items = db.keyspace("items").unwrap();
    (db, items)
}

fn put(db: &Database, items: &Keyspace, numbers: std::ops::Range<u32>, value: &[u8]) {
    let mut tx = db.write().unwrap();
    numbers.for_each(|number| tx.insert(items, number.to_be_bytes(), value).unwrap());
    tx.commit().unwrap();
    db.checkpoint().unwrap();
}

fn wait_for_one_run(db: &Database) {
    let started = Instant::now();
    while db.stats().runs != 1 {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", db.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An open that only read looked into all the runs that earlier lives had left, for as long as it lived.
#[test]
fn a_life_that_only_reads_merges_what_earlier_ones_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (db, items) = restless(&path);
    put(&db, &items, 0..1000, b"old");
    put(&db, &items, 900..1500, b"new");
    put(&db, &items, 1400..2000, b"newest");
    assert_eq!(db.stats().runs, 3);
    drop(items);
    db.close().unwrap();

    let db = Database::open(&path).unwrap();
    let items = db.existing_keyspace("items").unwrap();
    let before = db.snapshot();
    wait_for_one_run(&db);
    assert_eq!(db.stats().commits, 0);
    for at in [&before, &db.snapshot()] {
        assert_eq!(at.len(&items).unwrap(), 2000);
        let value = |number: u32| at.get(&items, number.to_be_bytes()).unwrap().unwrap();
        assert_eq!([value(899), value(900), value(1400)], ["old", "new", "newest"]);
    }
    // It goes on as any life does.
    items.insert(7_u32.to_be_bytes(), "later").unwrap();
    drop((before, items));
    db.close().unwrap();
    let db = Database::open(&path).unwrap();
    assert!(db.recovery().clean);
    let items = db.existing_keyspace("items").unwrap();
    assert_eq!(items.get(7_u32.to_be_bytes()).unwrap().unwrap(), b"later");
    assert_eq!(items.len().unwrap(), 2000);
}

#[test]
fn a_read_only_open_merges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (db, items) = restless(&path);
    put(&db, &items, 0..100, b"old");
    put(&db, &items, 50..150, b"new");
    drop(items);
    db.close().unwrap();
    let before = crate::support::files(&path);
    let db = Database::builder().read_only(true).open(&path).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(db.stats().runs, 2);
    drop(db);
    assert_eq!(crate::support::files(&path), before);
}

#[test]
fn many_records_pay_for_one_run_and_few_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (db, items) = restless(&path);
    put(&db, &items, 0..20_000, &[7; 100]);
    put(&db, &items, 5..25, b"new");
    assert_eq!(db.stats().runs, 2);
    db.maintain().unwrap();
    assert_eq!(db.stats().runs, 1, "what this life wrote is in one run");
    drop(items);
    db.close().unwrap();

    let (db, items) = restless(&path);
    put(&db, &items, 30..50, b"new");
    db.maintain().unwrap();
    assert_eq!(db.stats().runs, 2, "twenty records do not pay for twenty thousand");
    assert_eq!(items.len().unwrap(), 20_000);
}

/// Rewriting large values costs much, and reads gain little by it.
#[test]
fn large_values_are_rewritten_when_a_quarter_of_them_is_dead() {
    let value = [7; 64 << 10];
    type Change = fn(&Database, &Keyspace);
    let ways: [(&str, Change); 3] = [
        ("overwritten", |db, items| {
            let mut tx = db.write().unwrap();
            (0..100_u32).for_each(|n| tx.insert(items, n.to_be_bytes(), [8; 64 << 10]).unwrap());
            tx.commit().unwrap();
        }),
        ("removed", |db, items| {
            let mut tx = db.write().unwrap();
            (0..100_u32).for_each(|n| tx.remove(items, n.to_be_bytes()).unwrap());
            tx.commit().unwrap();
        }),
        ("removed as a range", |db, items| {
            let mut tx = db.write().unwrap();
            tx.remove_range(items, ..100_u32.to_be_bytes()).unwrap();
            tx.commit().unwrap();
        }),
    ];
    for (way, change) in ways {
        let dir = tempfile::tempdir().unwrap();
        let (db, items) = restless(&dir.path().join("db"));
        for round in 0..5 {
            let mut tx = db.write().unwrap();
            let numbers = (0..40_u32).map(|number| 5 * number + round);
            numbers.for_each(|n| tx.insert(&items, n.to_be_bytes(), value).unwrap());
            tx.commit().unwrap();
            db.checkpoint().unwrap();
        }
        put(&db, &items, 0..20, &value);
        let before = db.stats();
        db.maintain().unwrap();
        let stats = db.stats();
        assert_eq!((stats.runs, stats.merges), (6, 0), "{way}: a tenth is dead");
        assert_eq!(stats.table_bytes, before.table_bytes);

        // No checkpoint: at rest one is made for this.
        change(&db, &items);
        db.maintain().unwrap();
        let stats = db.stats();
        assert_eq!(stats.runs, 1, "{way}: half is dead");
        let left = items.len().unwrap();
        assert_eq!(left, if way == "overwritten" { 200 } else { 100 });
        let bytes = left * value.len() as u64;
        assert!((bytes..bytes + bytes / 50).contains(&stats.live_table_bytes), "{way}: {stats:?}");
    }
}

fn append(db: &Database, items: &Keyspace, numbers: std::ops::Range<u32>) {
    put(db, items, numbers, &[7; 200]);
}

/// Records whose keys ascend were rewritten by each merge, though none lay between others.
#[test]
fn what_is_appended_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let open = || {
        let db = Database::builder().background(false).table_size(64 << 10).open(&path).unwrap();
        let items = db.keyspace("items").unwrap();
        (db, items)
    };
    let (db, items) = open();
    for round in 0..40 {
        append(&db, &items, round * 100..(round + 1) * 100);
        db.maintain().unwrap();
    }
    let stats = db.stats();
    assert_eq!((stats.runs, stats.tables), (1, 40), "{stats:?}");
    assert_eq!(stats.table_bytes, stats.live_table_bytes, "nothing was written twice");
    let before = db.snapshot();
    // Two tables change: the other 38 stay.
    put(&db, &items, 1150..1250, b"new");
    db.compact().unwrap();
    let after = db.stats();
    assert_eq!((after.runs, after.tables), (1, 39), "two became one: {after:?}");
    assert!(after.table_bytes - stats.table_bytes < 4 * (20 << 10), "{after:?}");
    for (at, value) in [(before, &[7; 200][..]), (db.snapshot(), b"new")] {
        assert_eq!(at.get(&items, 1200_u32.to_be_bytes()).unwrap().unwrap(), *value);
        assert_eq!(at.len(&items).unwrap(), 4000);
        assert_eq!(at.iter(&items).unwrap().count(), 4000);
    }
    // Small ones gather.
    let base_bytes = db.stats().live_table_bytes;
    for round in 400..440 {
        append(&db, &items, round * 10..(round + 1) * 10);
    }
    db.compact().unwrap();
    let stats = db.stats();
    assert!(stats.runs == 1 && stats.tables < 39 + 8, "{stats:?}");
    assert!(stats.live_table_bytes > base_bytes + 400 * 200);
    drop(items);
    db.close().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem::new());
    let found = check::verify(&fs, &path, &VerifyOptions::default(), &mut |_, _| {});
    assert_eq!(found.unwrap().unwrap().findings, []);

    let (db, items) = open();
    assert_eq!(items.len().unwrap(), 4400);
    // What the front loses goes by whole tables.
    let written = db.stats().table_bytes;
    let mut tx = db.write().unwrap();
    tx.remove_range(&items, ..2000_u32.to_be_bytes()).unwrap();
    tx.commit().unwrap();
    db.compact().unwrap();
    let stats = db.stats();
    assert!(stats.table_bytes - written < 40 << 10, "{stats:?}");
    assert!(stats.live_table_bytes < base_bytes * 2 / 3, "{stats:?}");
    assert_eq!(items.len().unwrap(), 2400);
    assert_eq!(db.snapshot().first(&items).unwrap().unwrap().0, 2000_u32.to_be_bytes());
}

/// What a dropped keyspace leaves goes without a look at the others' tables.
#[test]
fn dropping_one_keyspace_rewrites_nothing_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Database::builder().background(false).table_size(64 << 10);
    let db = builder.open(dir.path().join("db")).unwrap();
    let (first, second) = (db.keyspace("first").unwrap(), db.keyspace("second").unwrap());
    append(&db, &first, 0..200);
    append(&db, &second, 0..200);
    db.compact().unwrap();
    let before = db.stats();
    assert_eq!((before.runs, before.tables), (1, 2));
    db.drop_keyspace(&first).unwrap();
    db.compact().unwrap();
    let after = db.stats();
    assert_eq!(after.table_bytes, before.table_bytes);
    assert_eq!((after.runs, after.tables), (1, 1));
    assert_eq!(second.len().unwrap(), 200);
}

/// One large value among a hundred records is most of the bytes, and little of what is looked up.
#[test]
fn a_few_large_values_count_by_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (db, items) = restless(&dir.path().join("db"));
    let is_large = |number: &u32| number.is_multiple_of(100);
    let mut tx = db.write().unwrap();
    for number in 0..2500_u32 {
        let bytes = if is_large(&number) { 1 << 20 } else { 50 };
        tx.insert(&items, number.to_be_bytes(), vec![7; bytes]).unwrap();
    }
    tx.commit().unwrap();
    db.checkpoint().unwrap();
    let mut tx = db.write().unwrap();
    for number in (0..2500_u32).filter(|number| !is_large(number)) {
        tx.insert(&items, number.to_be_bytes(), b"new").unwrap();
    }
    tx.commit().unwrap();
    db.checkpoint().unwrap();
    let before = db.stats();
    assert_eq!(before.runs, 2);
    db.maintain().unwrap();
    assert_eq!(db.stats().table_bytes, before.table_bytes, "all but a hundredth is alive");
    let mut tx = db.write().unwrap();
    (0..2500_u32).filter(is_large).for_each(|n| tx.remove(&items, n.to_be_bytes()).unwrap());
    tx.commit().unwrap();
    db.maintain().unwrap();
    let stats = db.stats();
    assert!(stats.runs == 1 && stats.live_table_bytes < 1 << 20, "{stats:?}");
    assert_eq!(items.len().unwrap(), 2475);
}

/// A disk that took long for a sync passed for one that nobody writes to: each commit was followed by a checkpoint.
#[test]
fn a_commit_that_waits_long_for_its_sync_is_no_rest() {
    let pauses = Pauses::new(3);
    let jittery = JitteryDisk { disk: SimDisk::new(), pauses: pauses.clone() };
    let builder = Database::builder().file_system(Arc::new(jittery));
    let db = builder.witness_delay(Duration::from_millis(300)).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    pauses.slow_commits(Duration::from_millis(700));
    for number in 0..3_u32 {
        items.insert(number.to_be_bytes(), vec![7; 5 << 20]).unwrap();
        assert_eq!(db.stats().checkpoints, 0, "{number}");
    }
    pauses.slow_commits(Duration::ZERO);
    let started = Instant::now();
    while db.stats().checkpoints == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "at rest: {:?}", db.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}
