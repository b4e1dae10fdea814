//! Things that nobody should do, or that only happen on a bad day. Each was a bug once.

use crate::support::{small, witnessed};
use highwater::check::{Verdict, VerifyOptions, explain, verify};
use highwater::fs::FileSystem;
use highwater::fs::sim::{Fault, FaultKind, OperationKind, SimDisk};
use highwater::{Database, Durability, Error};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn on(disk: &SimDisk) -> highwater::Builder {
    Database::builder().background(false).file_system(Arc::new(disk.clone()))
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A merge that was under way in another thread published its manifest over the next owner's.
#[test]
fn a_close_ends_a_merge_of_another_thread_before_it_gives_the_lock_up() {
    for round in 0..60_u64 {
        let dir = tempfile::tempdir().unwrap();
        let open = || Database::builder().background(false).open(dir.path());
        let db = open().unwrap();
        let items = db.keyspace("items").unwrap();
        for part in 0..2_u32 {
            let mut tx = db.write().unwrap();
            for n in 0..1500_u32 {
                tx.insert(&items, (part * 1000 + n).to_be_bytes(), [part as u8; 100]).unwrap();
            }
            tx.commit_with(Durability::Buffered).unwrap();
            db.checkpoint().unwrap();
        }
        let other = db.clone();
        let merge = std::thread::spawn(move || other.compact());
        std::thread::sleep(Duration::from_micros(round * 120));
        drop(items);
        db.close().unwrap();
        let db = open().unwrap();
        let items = db.keyspace("items").unwrap();
        items.insert("one", "1").unwrap();
        let merged = merge.join().unwrap();
        assert!(matches!(merged, Ok(()) | Err(Error::Closed)), "{merged:?}");
        items.insert("two", "2").unwrap();
        db.close().unwrap();
        let db = open().unwrap();
        assert_eq!(db.existing_keyspace("items").unwrap().len().unwrap(), 2502, "round {round}");
    }
}

/// It was acknowledged and vanished.
#[test]
fn a_blind_optimistic_write_into_a_dropped_keyspace_is_refused() {
    let db = Database::in_memory().unwrap();
    let items = db.keyspace("items").unwrap();
    let mut tx = db.optimistic().unwrap();
    tx.insert(&items, "a", "1").unwrap();
    db.drop_keyspace(&items).unwrap();
    assert!(matches!(tx.commit(), Err(Error::KeyspaceDropped { .. })));
}

#[test]
fn a_ticket_that_nobody_polls_becomes_durable() {
    let db = Database::in_memory().unwrap();
    let items = db.keyspace("items").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut tx = db.write().unwrap();
    tx.insert(&items, "a", "1").unwrap();
    let ticket = tx.commit_ticket().unwrap();
    wait_for("durability", || ticket.is_durable());
    assert_eq!(items.get("a").unwrap().unwrap(), b"1");
}

/// The idle log gave up for good when a transaction was open at that moment.
#[test]
fn a_witness_is_written_after_a_transaction_that_was_open_meanwhile() {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let db = Database::builder().file_system(fs).open("/db").unwrap();
    db.keyspace("items").unwrap().insert("a", "1").unwrap();
    let tx = db.write().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(tx);
    wait_for("the witness", || witnessed(&disk));
}

#[test]
fn a_witnessed_tail_is_not_reported_as_unwitnessed() {
    for witness in [false, true] {
        let disk = SimDisk::new();
        let db = on(&disk).open("/db").unwrap();
        db.keyspace("items").unwrap().insert("a", "1").unwrap();
        if witness {
            db.maintain().unwrap();
        }
        let db = on(&disk.durable_image()).open("/db").unwrap();
        assert_eq!(db.recovery().unwitnessed_tail, !witness, "{:?}", db.recovery());
    }
}

#[test]
fn a_full_disk_does_not_keep_a_killed_database_from_opening() {
    for commits in [1_u32, 100, 3000] {
        let disk = SimDisk::new();
        let db = on(&disk).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        for n in 0..commits {
            items.insert(n.to_be_bytes(), [1; 100]).unwrap();
        }
        let killed = disk.kill();
        killed.set_capacity(Some(killed.used_bytes()));
        let db = on(&killed).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        assert_eq!(items.len().unwrap(), u64::from(commits));
        // Whether there is room now or not, room that is made lets writes go on.
        killed.set_capacity(None);
        items.insert("more", "room").unwrap();
    }
}

/// The first write of a life needs room for its log before anything; the reserve was not spent on that.
#[test]
fn a_full_disk_lets_a_database_that_was_closed_drop_a_keyspace() {
    let disk = SimDisk::new();
    let db = on(&disk).open("/db").unwrap();
    let (items, rest) = (db.keyspace("items").unwrap(), db.keyspace("rest").unwrap());
    for n in 0..3000_u32 {
        items.insert_with(n.to_be_bytes(), [1; 300], Durability::Buffered).unwrap();
    }
    rest.insert("kept", "here").unwrap();
    db.checkpoint().unwrap();
    db.close().unwrap();
    disk.set_capacity(Some(disk.used_bytes()));

    let db = on(&disk).open("/db").unwrap();
    let rest = db.keyspace("rest").unwrap();
    assert!(matches!(rest.insert("more", [0; 10]), Err(Error::NoSpace { .. })));
    let items = db.existing_keyspace("items").unwrap();
    db.drop_keyspace(&items).unwrap();
    db.compact().unwrap();
    rest.insert("more", "room").unwrap();
    db.close().unwrap();

    let db = on(&disk).open("/db").unwrap();
    let rest = db.existing_keyspace("rest").unwrap();
    assert_eq!(rest.get("kept").unwrap().unwrap(), b"here");
    assert_eq!(rest.get("more").unwrap().unwrap(), b"room");
    assert!(db.existing_keyspace("items").is_err());
}

/// The short file was taken for a spare, and the writer panicked on its length.
#[test]
fn a_dead_segment_that_was_cut_is_not_reused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Database::builder().background(false).open(dir.path()).unwrap();
    let db = open();
    db.keyspace("items").unwrap().insert("a", "1").unwrap();
    db.checkpoint().unwrap();
    db.close().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hwl") {
            std::fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap();
        }
    }
    let db = open();
    let items = db.keyspace("items").unwrap();
    for n in 0..1000_u32 {
        items.insert_with(n.to_be_bytes(), vec![1; 4000], Durability::Buffered).unwrap();
    }
    assert_eq!(items.len().unwrap(), 1001);
}

/// The first write failed half-way, and no thread was there for what the next ones needed.
#[test]
fn an_orphan_that_cannot_be_removed_does_not_stop_the_writer() {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let db = small(&fs).open(Path::new("/db")).unwrap();
    db.keyspace("items").unwrap().insert("a", "1").unwrap();
    db.close().unwrap();
    disk.write_file("/db/table-00000000000000ff.hwt", b"an orphan").unwrap();
    disk.inject(Fault::new(FaultKind::Io).on(OperationKind::Remove).from_then_on());
    let db = small(&fs).open(Path::new("/db")).unwrap();
    let items = db.keyspace("items").unwrap();
    for n in 0..4000_u32 {
        items.insert_with(n.to_be_bytes(), vec![1; 1000], Durability::Memory).unwrap();
    }
    assert_eq!(items.len().unwrap(), 4001);
}

/// A reader beside a live owner shows only what is sure to be synced.
#[test]
fn a_reader_beside_an_owner_leaves_out_what_may_not_be_durable() {
    let dir = tempfile::tempdir().unwrap();
    let owner = Database::builder().background(false).open(dir.path().join("db")).unwrap();
    let items = owner.keyspace("items").unwrap();
    items.insert("durable", "1").unwrap();
    owner.maintain().unwrap();
    items.insert_with("written", "2", Durability::Buffered).unwrap();
    let read = || Database::builder().read_only(true).open(owner.path()).unwrap();
    let seen = read().existing_keyspace("items").unwrap();
    assert_eq!(seen.get("durable").unwrap().unwrap(), b"1");
    assert_eq!(seen.get("written").unwrap(), None);
    owner.maintain().unwrap();
    assert_eq!(read().existing_keyspace("items").unwrap().len().unwrap(), 2);
}

/// The open took the lock, which wrote the process id into the file, and only then looked at anything: a
/// file that somebody renamed over `LOCK`, perhaps the only copy, was gone after an open that then refused.
#[test]
fn a_file_in_the_place_of_the_lock_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, backups) = (dir.path().join("db"), dir.path().join("backups"));
    let lock = path.join("LOCK");
    let db = Database::open(&path).unwrap();
    db.keyspace("items").unwrap().insert("one", "1").unwrap();
    db.checkpoint().unwrap();
    db.backup(&backups).unwrap();
    db.close().unwrap();
    let table = std::fs::read(path.join("table-0000000000000001.hwt")).unwrap();
    let foreign: [&[u8]; 6] =
        [b"hello", b"12345 \n", b"123456789012345\n", &[b'7'; 5000], &[0; 4096], &table];
    for bytes in foreign {
        std::fs::write(&lock, bytes).unwrap();
        match Database::open(&path).unwrap_err() {
            Error::Damage { file, what, .. } => {
                assert_eq!(file, lock);
                assert!(what.contains("remove it"), "{what}");
            }
            other => panic!("{other}"),
        }
        assert_eq!(std::fs::read(&lock).unwrap(), bytes);
        let os: Arc<dyn FileSystem> = Arc::new(highwater::fs::os::OsFileSystem::new());
        assert!(explain(&*os, &path).unwrap_err().is_damage());
        let found = verify(&os, &path, &VerifyOptions::default(), &mut |_, _| {}).unwrap().unwrap();
        assert_eq!((found.verdict(false), found.findings.len()), (Verdict::Damage, 1));
        assert_eq!(found.findings[0].file, lock);
        let reader = Database::builder().read_only(true).open(&path).unwrap();
        assert_eq!(reader.existing_keyspace("items").unwrap().len().unwrap(), 1);
        assert!(std::fs::read(&lock).unwrap() == bytes);

        std::fs::remove_file(&lock).unwrap();
        let db = Database::open(&path).unwrap();
        std::fs::write(backups.join("LOCK"), bytes).unwrap();
        assert!(db.backup(&backups).unwrap_err().is_damage());
        assert_eq!(std::fs::read(backups.join("LOCK")).unwrap(), bytes);
        db.close().unwrap();
        std::fs::remove_file(backups.join("LOCK")).unwrap();
    }
    // What a crash may leave of a lock is one.
    let own: [&[u8]; 6] = [b"", b"1\n", b"4294967295\n", b"123", b"12\n\n", &[0; 7]];
    for bytes in own {
        std::fs::write(&lock, bytes).unwrap();
        Database::open(&path).unwrap().close().unwrap();
        assert_eq!(std::fs::read(&lock).unwrap(), format!("{}\n", std::process::id()).as_bytes());
    }
}
