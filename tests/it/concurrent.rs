//! Many threads: one writer at a time, readers that never wait, optimistic transactions, tickets.

use crate::support::{on_both, small, witnessed};
use highwater::fs::FileSystem;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Error};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn commits_of_many_threads_share_syncs_and_none_is_lost() {
    on_both(|fs, path| {
        let db = small(&fs).open(&path).unwrap();
        let items = db.keyspace("items").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8_u32 {
                let items = &items;
                scope.spawn(move || {
                    for i in 0..100_u32 {
                        items
                            .insert([thread.to_be_bytes(), i.to_be_bytes()].concat(), "x")
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(items.len().unwrap(), 800);
        assert!(db.stats().syncs <= db.stats().commits + 10);
        db.close().unwrap();
        let db = small(&fs).open(&path).unwrap();
        assert_eq!(db.keyspace("items").unwrap().len().unwrap(), 800);
    });
}

#[test]
fn snapshots_see_whole_transactions_while_checkpoints_and_merges_run() {
    on_both(|fs, path| {
        let db = small(&fs).durability(Durability::Memory).open(&path).unwrap();
        let (left, right) = (db.keyspace("left").unwrap(), db.keyspace("right").unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (db, left, right, done) = (&db, &left, &right, &done);
                scope.spawn(move || {
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let snapshot = db.snapshot();
                        let number = |bytes: Option<highwater::Slice<'_>>| {
                            bytes.map_or(0, |b| u32::from_le_bytes(b[..4].try_into().unwrap()))
                        };
                        let first = number(snapshot.get(left, 0_u32.to_be_bytes()).unwrap());
                        for key in 0..50_u32 {
                            let l = number(snapshot.get(left, key.to_be_bytes()).unwrap());
                            let r = number(snapshot.get(right, key.to_be_bytes()).unwrap());
                            assert_eq!((l, r), (first, first));
                        }
                        let mut count = 0;
                        for entry in snapshot.iter(right).unwrap() {
                            assert_eq!(number(Some(entry.unwrap().1)), first);
                            count += 1;
                        }
                        assert!(count == 0 || count == 50, "{count}");
                        assert!(first >= last, "time went back from {last} to {first}");
                        last = first;
                    }
                });
            }
            for version in 1..400_u32 {
                let mut tx = db.write().unwrap();
                for key in 0..50_u32 {
                    let mut value = vec![0; 100];
                    value[..4].copy_from_slice(&version.to_le_bytes());
                    tx.insert(&left, key.to_be_bytes(), &value).unwrap();
                    tx.insert(&right, key.to_be_bytes(), &value).unwrap();
                }
                tx.commit().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(db.stats().checkpoints > 0);
    });
}

#[test]
fn optimistic_increments_are_all_counted() {
    let db = Database::in_memory().unwrap();
    let counters = db.keyspace("counters").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (db, counters) = (&db, &counters);
            scope.spawn(move || {
                for _ in 0..200 {
                    db.transact(|tx| {
                        let old = tx
                            .get(counters, "n")?
                            .map_or(0, |v| u32::from_le_bytes(v[..4].try_into().unwrap()));
                        tx.insert(counters, "n", (old + 1).to_le_bytes())
                    })
                    .unwrap();
                }
            });
        }
    });
    let end = counters.get("n").unwrap().unwrap();
    assert_eq!(u32::from_le_bytes(end.try_into().unwrap()), 800);
}

#[test]
fn optimistic_conflicts_are_found_and_only_they() {
    type Body = fn(&mut highwater::OptimisticTx, &highwater::Keyspace) -> highwater::Result<()>;
    let reads: [(&str, Body, bool); 9] = [
        ("the key", |tx, ks| tx.get(ks, "k").map(drop), true),
        ("a miss", |tx, ks| tx.get(ks, "new").map(drop), true),
        ("another key", |tx, ks| tx.get(ks, "z").map(drop), false),
        ("a range with it", |tx, ks| tx.range(ks, "a".."l").map(drop), true),
        ("a range without it", |tx, ks| tx.range(ks, "y".."z").map(drop), false),
        ("the length", |tx, ks| tx.len(ks).map(drop), true),
        ("the first", |tx, ks| tx.first(ks).map(drop), true),
        ("a prefix", |tx, ks| tx.prefix(ks, "k").map(drop), true),
        ("nothing", |_, _| Ok(()), false),
    ];
    for (what, body, conflicts) in reads {
        let db = Database::in_memory().unwrap();
        let items = db.keyspace("items").unwrap();
        items.insert("k", "1").unwrap();
        let mut tx = db.optimistic().unwrap();
        body(&mut tx, &items).unwrap();
        tx.insert(&items, "own", "1").unwrap();
        let mut other = db.write().unwrap();
        other.insert(&items, "k", "2").unwrap();
        other.insert(&items, "new", "2").unwrap();
        other.commit().unwrap();
        let outcome = tx.commit();
        assert_eq!(matches!(outcome, Err(Error::Conflict)), conflicts, "{what}: {outcome:?}");
    }
}

#[test]
fn write_skew_is_refused() {
    let db = Database::in_memory().unwrap();
    let duty = db.keyspace("duty").unwrap();
    duty.insert("ada", "on").unwrap();
    duty.insert("bob", "on").unwrap();
    let (mut one, mut two) = (db.optimistic().unwrap(), db.optimistic().unwrap());
    for (tx, leaves) in [(&mut one, "ada"), (&mut two, "bob")] {
        assert_eq!(tx.iter(&duty).unwrap().filter(|e| e.as_ref().unwrap().1 == "on").count(), 2);
        tx.insert(&duty, leaves, "off").unwrap();
    }
    one.commit().unwrap();
    assert!(matches!(two.commit(), Err(Error::Conflict)));
}

#[test]
fn a_ticket_is_a_future_that_wakes() {
    struct Wake(std::thread::Thread);
    impl std::task::Wake for Wake {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    on_both(|fs, path| {
        let db = small(&fs).open(&path).unwrap();
        let items = db.keyspace("items").unwrap();
        let mut tx = db.write().unwrap();
        tx.insert(&items, "k", "v").unwrap();
        let ticket = tx.commit_ticket().unwrap();
        let waker = Arc::new(Wake(std::thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut future = Box::pin(ticket.clone());
        let lsn = loop {
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(outcome) => break outcome.unwrap(),
                std::task::Poll::Pending => std::thread::park(),
            }
        };
        assert_eq!(lsn, ticket.lsn());
        assert!(ticket.is_durable());
        assert_eq!(db.snapshot_durable().get(&items, "k").unwrap().unwrap(), "v");
    });
}

#[test]
fn an_idle_log_gets_its_witness() {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let db = small(&fs)
        .witness_delay(std::time::Duration::from_millis(10))
        .open(Path::new("/db"))
        .unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("k", "v").unwrap();
    let started = std::time::Instant::now();
    while !witnessed(&disk) {
        assert!(started.elapsed().as_secs() < 20, "no witness came");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // And no more than one: the log is at rest now.
    let groups = db.stats().groups;
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(db.stats().groups, groups);
    let killed: Arc<dyn FileSystem> = Arc::new(disk.durable_image());
    let db = small(&killed).open(Path::new("/db")).unwrap();
    assert_eq!(db.keyspace("items").unwrap().get("k").unwrap().unwrap(), b"v");
}

/// Snapshots of many moments, all held, while their memtables go to tables and out of memory.
#[test]
fn snapshots_of_many_moments_stay_exact() {
    const KEYS: u32 = 3000;
    const MOMENTS: u32 = 40;
    on_both(|fs, path| {
        let db = small(&fs).open(&path).unwrap();
        let items = db.keyspace("items").unwrap();
        let value = |key: u32, moment: u32| vec![(key + moment) as u8; 100 + (moment % 7) as usize];
        let mut held = Vec::new();
        for moment in 0..MOMENTS {
            for keys in (0..KEYS).collect::<Vec<_>>().chunks(500) {
                let mut tx = db.write().unwrap();
                for key in keys {
                    tx.insert(&items, key.to_be_bytes(), value(*key, moment)).unwrap();
                }
                tx.commit_with(Durability::Buffered).unwrap();
            }
            held.push(db.snapshot());
        }
        db.checkpoint().unwrap();
        for (snapshot, moment) in held.iter().zip(0..) {
            for key in 0..KEYS {
                let found = snapshot.get(&items, key.to_be_bytes()).unwrap().unwrap();
                assert_eq!(found, value(key, moment), "key {key} of moment {moment}");
            }
            assert_eq!(snapshot.iter(&items).unwrap().count(), KEYS as usize);
        }
    });
}
