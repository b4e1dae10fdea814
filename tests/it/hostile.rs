//! Things that nobody should do, or that only happen on a bad day. Each was a bug once.

use crate::support::{small, witnessed};
use highwater::check::{Verdict, VerifyOptions, explain, verify};
use highwater::fs::FileSystem;
use highwater::fs::sim::{Fault, FaultKind, OperationKind, SimDisk};
use highwater::{Database, Durability, Error};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn on(disk: &SimDisk) -> highwater::Builder {
    Database::builder().background(false).file_system(Arc::new(disk.clone()))
}

fn tables(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let mut files = disk.files();
    files.retain(|(path, _)| path.to_string_lossy().contains("table-"));
    files
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

/// Its spills went on into a directory that had another owner by then, took the names of that owner's tables,
/// and removed one.
#[test]
fn a_transaction_that_outlives_the_close_leaves_the_next_owner_alone() {
    let disk = SimDisk::new();
    let open = || on(&disk).simulation_sizes(48 << 10).open("/db").unwrap();
    let db = open();
    let items = db.keyspace("items").unwrap();
    let mut tx = db.optimistic().unwrap();
    // One spill before the close, whose file goes with it or with the next open.
    for i in 0..40_u32 {
        tx.insert(&items, i.to_be_bytes(), [7; 1000]).unwrap();
    }
    db.clone().close().unwrap();
    let next = open();
    let owned = next.keyspace("items").unwrap();
    for i in 0..60_u32 {
        owned.insert(i.to_be_bytes(), [1; 1000]).unwrap();
    }
    next.checkpoint().unwrap();
    let before = tables(&disk);
    let refused = (0..400_u32).find_map(|i| tx.insert(&items, i.to_be_bytes(), [7; 1000]).err());
    assert!(matches!(refused, Some(Error::Closed)), "{refused:?}");
    assert_eq!(tables(&disk), before);
    drop(tx);
    assert_eq!(tables(&disk), before);
    drop((items, db, owned));
    next.close().unwrap();
    let db = open();
    assert_eq!(db.existing_keyspace("items").unwrap().len().unwrap(), 60);
}

/// The commits after the snapshot were removals only, and nothing of them was left to compare with.
#[test]
fn optimistic_conflicts_are_found_when_a_checkpoint_or_a_merge_leaves_no_table() {
    for merged in [false, true] {
        let disk = SimDisk::new();
        let db = on(&disk).open("/db").unwrap();
        let items = db.keyspace("items").unwrap();
        items.insert("job", "1").unwrap();
        if merged {
            db.checkpoint().unwrap();
        }
        let mut tx = db.optimistic().unwrap();
        assert_eq!(tx.get(&items, "job").unwrap().unwrap(), b"1");
        items.remove("job").unwrap();
        db.checkpoint().unwrap();
        if merged {
            db.compact().unwrap();
        }
        assert_eq!(db.stats().tables, 0);
        tx.insert(&items, "done", "1").unwrap();
        assert!(matches!(tx.commit(), Err(Error::Conflict)));
        // What began after that has nothing to conflict with.
        let mut tx = db.optimistic().unwrap();
        assert!(tx.get(&items, "job").unwrap().is_none());
        tx.insert(&items, "done", "2").unwrap();
        tx.commit().unwrap();
    }
}

/// The second said Ok at once.
#[test]
fn every_close_says_how_the_close_ended() {
    let disk = SimDisk::new();
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("a", "1").unwrap();
    items.insert_with("b", "2", Durability::Memory).unwrap();
    disk.inject(Fault::new(FaultKind::Io).on(OperationKind::SyncData));
    let other = db.clone();
    assert!(matches!(db.close(), Err(Error::Poisoned { .. })));
    assert!(matches!(other.clone().close(), Err(Error::Poisoned { .. })));
    disk.clear_faults();
    assert!(matches!(other.close(), Err(Error::Poisoned { .. })));
    let db = on(&disk.durable_image()).open("/db").unwrap();
    let other = db.clone();
    assert_eq!(db.existing_keyspace("items").unwrap().get("a").unwrap().unwrap(), b"1");
    db.close().unwrap();
    other.close().unwrap();
}

/// Commits waited without an end, and had the flusher try again without a pause.
#[test]
fn commits_say_so_when_tables_cannot_be_written() {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let db = Database::builder().file_system(fs).simulation_sizes(48 << 10).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    let denied = FaultKind::Error(std::io::ErrorKind::PermissionDenied);
    let create = Fault::new(denied).on(OperationKind::Create).path_contains("table-");
    disk.inject(create.from_then_on());
    let value = [1; 3000];
    let refused = (0..200_u32)
        .find_map(|i| items.insert_with(i.to_be_bytes(), value, Durability::Memory).err());
    assert!(matches!(&refused, Some(Error::Io { path, .. }) if path.starts_with("/db/")));
    assert!(disk.faults_struck() < 50, "{} tries", disk.faults_struck());
    disk.clear_faults();
    wait_for("a commit", || items.insert_with("late", "1", Durability::Memory).is_ok());
    db.checkpoint().unwrap();
    assert!(items.len().unwrap() > 1);
}

/// Each left the tables of one more recovery behind.
#[test]
fn opens_that_fail_behind_the_recovery_do_not_fill_the_disk() {
    let disk = SimDisk::new();
    let open = |disk: &SimDisk| on(disk).simulation_sizes(96 << 10).open("/db");
    let db = open(&disk).unwrap();
    let items = db.keyspace("items").unwrap();
    // A table that a large transaction installed is needed as long as the log names it.
    let mut tx = db.write().unwrap();
    for i in 100..140_u32 {
        tx.insert(&items, i.to_be_bytes(), [1; 3000]).unwrap();
    }
    tx.commit().unwrap();
    for i in 0..8_u32 {
        items.insert(i.to_be_bytes(), [1; 3000]).unwrap();
    }
    let disk = disk.kill();
    let before = tables(&disk);
    assert!(!before.is_empty());
    let denied = FaultKind::Error(std::io::ErrorKind::PermissionDenied);
    let create = Fault::new(denied).on(OperationKind::Create).path_contains("spare-");
    disk.inject(create.from_then_on());
    for _ in 0..3 {
        open(&disk).unwrap_err();
        assert_eq!(tables(&disk), before);
    }
    assert!(disk.faults_struck() >= 3);
    disk.clear_faults();
    let db = open(&disk).unwrap();
    assert_eq!(db.existing_keyspace("items").unwrap().len().unwrap(), 48);
    assert_eq!(tables(&disk).len(), before.len() + 1);
}

/// It stayed pending for ever: no thread was there to lead the flush.
#[test]
fn a_polled_ticket_becomes_durable_without_background_threads() {
    let disk = SimDisk::new();
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    let mut tx = db.write().unwrap();
    tx.insert(&items, "a", "1").unwrap();
    let mut ticket = std::pin::pin!(tx.commit_ticket().unwrap());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(ticket.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(_))));
    assert!(ticket.is_durable());
}

/// A thread of the engine waited for itself.
#[test]
fn the_last_handle_may_be_dropped_by_the_waker_of_a_ticket() {
    struct Last(std::sync::Mutex<Option<Database>>);
    impl std::task::Wake for Last {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let open = || Database::builder().file_system(fs.clone()).open("/db");
    let db = open().unwrap();
    let items = db.keyspace("items").unwrap();
    let mut tx = db.write().unwrap();
    tx.insert(&items, "a", "1").unwrap();
    drop(items);
    let mut ticket = std::pin::pin!(tx.commit_ticket().unwrap());
    let waker = std::task::Waker::from(Arc::new(Last(std::sync::Mutex::new(Some(db)))));
    let mut context = std::task::Context::from_waker(&waker);
    while ticket.as_mut().poll(&mut context).is_pending() {
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_for("the close", || open().is_ok());
}
