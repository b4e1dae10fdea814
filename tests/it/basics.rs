//! The everyday life of a database: write, read, close, open again, on a disk and on the simulated one.

use crate::support::{on_both, open};
use highwater::fs::FileSystem;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Error};
use std::path::Path;
use std::sync::Arc;

#[test]
fn what_is_written_is_read_back() {
    on_both(|fs, path| {
        let db = open(&fs, &path);
        let users = db.keyspace("users").unwrap();
        let mut tx = db.write().unwrap();
        tx.insert(&users, "a", "1").unwrap();
        tx.insert(&users, "b", "2").unwrap();
        tx.insert(&users, "", "empty").unwrap();
        assert_eq!(tx.get(&users, "b").unwrap().unwrap(), "2");
        tx.commit().unwrap();
        users.remove("a").unwrap();
        let check = |db: &Database| {
            let users = db.existing_keyspace("users").unwrap();
            let snapshot = db.snapshot();
            let all: Vec<_> = snapshot.iter(&users).unwrap().map(|entry| entry.unwrap()).collect();
            assert_eq!(all.len(), 2);
            assert_eq!((&all[0].0[..], &all[0].1[..]), (&b""[..], &b"empty"[..]));
            assert_eq!((&all[1].0[..], &all[1].1[..]), (&b"b"[..], &b"2"[..]));
            assert_eq!(snapshot.len(&users).unwrap(), 2);
            assert_eq!(snapshot.first(&users).unwrap().unwrap().0, "");
            assert_eq!(snapshot.last(&users).unwrap().unwrap().0, "b");
        };
        check(&db);
        db.close().unwrap();
        for checkpoint in [false, true, false] {
            let db = open(&fs, &path);
            assert!(db.recovery().clean);
            check(&db);
            if checkpoint {
                db.checkpoint().unwrap();
                db.compact().unwrap();
                check(&db);
            }
            db.close().unwrap();
        }
    });
}

#[test]
fn much_more_than_memory() {
    on_both(|fs, path| {
        let db = open(&fs, &path);
        let items = db.keyspace("items").unwrap();
        let key = |i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes();
        for batch in 0..40 {
            let mut tx = db.write().unwrap();
            tx.set_durability(Durability::Buffered);
            for i in 0..500_u32 {
                let n = batch * 500 + i;
                tx.insert(&items, key(n), vec![n as u8; 150]).unwrap();
            }
            tx.commit().unwrap();
        }
        // One transaction larger than its share of memory.
        let mut tx = db.write().unwrap();
        for n in 20_000..40_000_u32 {
            tx.insert(&items, key(n), vec![n as u8; 150]).unwrap();
        }
        assert_eq!(tx.len(&items).unwrap(), 40_000);
        tx.commit().unwrap();
        let check = |db: &Database| {
            let items = db.existing_keyspace("items").unwrap();
            let snapshot = db.snapshot();
            for n in 0..40_000_u32 {
                let value = snapshot.get(&items, key(n)).unwrap().unwrap();
                assert_eq!(value, vec![n as u8; 150]);
            }
            assert_eq!(snapshot.iter(&items).unwrap().count(), 40_000);
            assert_eq!(snapshot.iter(&items).unwrap().rev().count(), 40_000);
            assert_eq!(snapshot.len(&items).unwrap(), 40_000);
        };
        check(&db);
        assert!(db.stats().checkpoints > 0);
        assert!(db.stats().spills > 0);
        db.close().unwrap();
        let db = open(&fs, &path);
        check(&db);
        db.compact().unwrap();
        check(&db);
        db.close().unwrap();
        check(&open(&fs, &path));
    });
}

#[test]
fn a_second_open_is_locked_out() {
    on_both(|fs, path| {
        let db = open(&fs, &path);
        let second = Database::builder().file_system(fs.clone()).open(&path);
        assert!(
            matches!(second, Err(Error::Locked { pid: Some(pid), .. }) if pid == std::process::id())
        );
        drop(db);
        open(&fs, &path);
    });
}

#[test]
fn an_unclean_stop_loses_nothing_that_was_synced() {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let db = open(&fs, Path::new("/db"));
    let users = db.keyspace("users").unwrap();
    for i in 0..100_u32 {
        users.insert(i.to_be_bytes(), i.to_le_bytes()).unwrap();
    }
    let crashed: Arc<dyn FileSystem> = Arc::new(disk.power_cut(3));
    let db = open(&crashed, Path::new("/db"));
    assert!(!db.recovery().clean);
    let users = db.existing_keyspace("users").unwrap();
    assert_eq!(users.len().unwrap(), 100);
    users.insert("more", "yes").unwrap();
    db.close().unwrap();
    let db = open(&crashed, Path::new("/db"));
    assert!(db.recovery().clean);
    assert_eq!(db.keyspace("users").unwrap().len().unwrap(), 101);
}

#[test]
fn compact_gives_the_log_back_also_after_a_witness() {
    on_both(|fs, path| {
        let db = crate::support::small(&fs).background(false).open(&path).unwrap();
        let items = db.keyspace("items").unwrap();
        for i in 0..200_u32 {
            let value = vec![i as u8; 60_000];
            items.insert_with(i.to_be_bytes(), value, Durability::Buffered).unwrap();
        }
        db.sync().unwrap();
        assert!(db.stats().log_file_bytes > 2 << 20);
        db.checkpoint().unwrap();
        db.maintain().unwrap();
        db.compact().unwrap();
        assert_eq!(db.stats().log_file_bytes, 2 << 20);
        items.insert("after", "compact").unwrap();
        db.close().unwrap();
        let db = open(&fs, &path);
        assert_eq!(db.keyspace("items").unwrap().len().unwrap(), 201);
    });
}
