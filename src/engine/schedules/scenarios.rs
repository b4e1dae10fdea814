//! The scenarios.

use super::explore;
use super::scheduler::Random;
use super::stage::{Stage, is_poisoned, note};
use crate::fs::Barrier;
use crate::fs::sim::{Fault, FaultKind, OperationKind, PageState};
use crate::{Durability, Error};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Threads = Vec<thread::JoinHandle<()>>;

/// Starts a thread with random numbers of its own.
fn start(
    threads: &mut Threads,
    stage: &Arc<Stage>,
    body: impl FnOnce(&Stage, &mut Random) + Send + 'static,
) {
    let (stage, number) = (stage.clone(), threads.len() as u64 + 1);
    let random = Random(stage.seed ^ number << 32);
    threads.push(thread::spawn(move || {
        let mut random = random;
        body(&stage, &mut random);
    }));
}

fn join(threads: Threads) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn commits(stage: &Stage, random: &mut Random, count: usize) {
    for _ in 0..count {
        stage.commit(random).unwrap();
    }
}

/// Checkpoints, full checkpoints, syncs, and power cuts on copies, by chance.
fn maintain(stage: &Stage, random: &mut Random, times: usize) -> Result<(), Error> {
    for _ in 0..times {
        match random.below(6) {
            0..=2 => drop(stage.db.checkpoint()?),
            3 => stage.db.compact()?,
            4 => drop(stage.db.sync()?),
            _ => thread::yield_now(),
        }
        stage.cut(None);
    }
    Ok(())
}

/// Three writers, a reader, checkpoints and merges, by the engine's threads and by another one.
pub fn together(seed: u64) {
    beside(seed, false);
}

/// The same with transactions that spill.
pub fn spilling(seed: u64) {
    beside(seed, true);
}

fn beside(seed: u64, large: bool) {
    let stage = Stage::new(seed, large);
    let mut threads = Threads::new();
    for _ in 0..3 {
        start(&mut threads, &stage, |stage, random| {
            commits(stage, random, 5);
        });
    }
    start(&mut threads, &stage, |stage, _| stage.read(4).unwrap());
    start(&mut threads, &stage, |stage, random| maintain(stage, random, 3).unwrap());
    join(threads);
    stage.finish(15);
}

/// Transactions that become tables when they commit, beside merges of all that is published, and readers.
/// (Full checkpoints would wait at the gate.)
pub fn installing(seed: u64) {
    let stage = Stage::new(seed, true);
    let mut threads = Threads::new();
    start(&mut threads, &stage, |stage, random| commits(stage, random, 8));
    for _ in 0..2 {
        start(&mut threads, &stage, |stage, _| stage.watch(60));
    }
    start(&mut threads, &stage, |stage, _| {
        for _ in 0..20 {
            stage.db.engine.flush_all().unwrap();
            stage.db.engine.merge_all().unwrap();
        }
    });
    join(threads);
    stage.finish(8);
}

/// Checkpoints of memtables without entries, of which nothing is left, and readers.
pub fn emptied(seed: u64) {
    let stage = Stage::new(seed, false);
    stage.counts_all.store(false, Ordering::Relaxed);
    let mut threads = Threads::new();
    start(&mut threads, &stage, |stage, _| {
        for number in 0..6 {
            stage.db.keyspace(&format!("more {number}")).unwrap();
            stage.db.checkpoint().unwrap();
        }
    });
    for _ in 0..2 {
        start(&mut threads, &stage, |stage, _| stage.watch(60));
    }
    start(&mut threads, &stage, |stage, _| {
        (0..30).for_each(|_| stage.db.engine.flush_all().unwrap());
    });
    join(threads);
    stage.finish(0);
}

/// Optimistic transactions that all read and write the same, beside a plain one and checkpoints.
pub fn optimistic(seed: u64) {
    let stage = Stage::new(seed, false);
    let mut threads = Threads::new();
    for _ in 0..3 {
        start(&mut threads, &stage, |stage, random| {
            for _ in 0..3 {
                let durability = [Durability::Sync, Durability::Memory][random.below(2) as usize];
                let number = stage.db.transact(|tx| {
                    tx.set_durability(durability);
                    stage.change(tx)
                });
                stage.acknowledged(number.unwrap(), durability == Durability::Sync);
            }
        });
    }
    start(&mut threads, &stage, |stage, random| {
        commits(stage, random, 3);
    });
    start(&mut threads, &stage, |stage, _| stage.read(3).unwrap());
    start(&mut threads, &stage, |stage, random| maintain(stage, random, 2).unwrap());
    join(threads);
    stage.finish(12);
}

/// A keyspace that all writers write is dropped and made again under the same name.
pub fn dropping(seed: u64) {
    let stage = Stage::new(seed, false);
    stage.counts_all.store(false, Ordering::Relaxed);
    let third = stage.db.keyspace("third").unwrap();
    let mut threads = Threads::new();
    for _ in 0..2 {
        let third = third.clone();
        start(&mut threads, &stage, move |stage, random| {
            for _ in 0..4 {
                let mut tx = stage.db.write().unwrap();
                let number = stage.change(&mut tx).unwrap();
                match tx.insert(&third, "number", number.to_be_bytes()) {
                    Ok(()) | Err(Error::KeyspaceDropped { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                let durability = [Durability::Sync, Durability::Memory][random.below(2) as usize];
                // It was not dropped after all, or before the transaction began: the gate was held.
                tx.commit_with(durability).unwrap();
                stage.acknowledged(number, durability == Durability::Sync);
            }
        });
    }
    let known = third.clone();
    start(&mut threads, &stage, move |stage, _| {
        let mut is_dropped = false;
        for _ in 0..6 {
            let snapshot = stage.db.snapshot();
            let number = stage.state(&snapshot, &stage.spaces).unwrap();
            match snapshot.get(&known, "number") {
                Ok(bytes) => {
                    let found = bytes.map_or(0, |b| u64::from_be_bytes(b[..8].try_into().unwrap()));
                    assert!(!is_dropped, "what was dropped is there again");
                    assert_eq!(found, number, "half a transaction in the third keyspace");
                }
                Err(Error::KeyspaceDropped { .. }) => is_dropped = true,
                Err(error) => panic!("{error}"),
            }
            let listed = snapshot.keyspaces().iter().any(|name| name == "third");
            if let Some(again) = stage.db.existing_keyspace("third").ok().filter(|_| listed) {
                if again.id() != known.id() {
                    let left = stage.db.snapshot().get(&again, "number").unwrap().is_some();
                    assert!(!left, "a new keyspace holds what a dropped one did");
                }
            }
        }
    });
    start(&mut threads, &stage, |stage, random| maintain(stage, random, 3).unwrap());
    start(&mut threads, &stage, move |stage, random| {
        (0..random.below(40)).for_each(|_| thread::yield_now());
        stage.db.drop_keyspace(&third).unwrap();
        let left = stage.disk.durable_image();
        let again = stage.db.keyspace("third").unwrap();
        assert_ne!(again.id(), third.id(), "the number of a keyspace was given out again");
        again.insert("again", "there").unwrap();
        left.end_history();
        let builder = super::stage::builder(stage.seed, false).background(false);
        let db = builder.file_system(Arc::new(left)).open("/db").unwrap();
        let found = db.existing_keyspace("third");
        assert!(found.is_err(), "a drop was acknowledged, and the keyspace survives a power cut");
    });
    join(threads);
    stage.finish(8);
}

/// A close while others commit, read and take checkpoints.
pub fn closing(seed: u64) {
    let stage = Stage::new(seed, (seed / 4).is_multiple_of(2));
    let mut threads = Threads::new();
    for _ in 0..2 {
        start(&mut threads, &stage, |stage, random| {
            for _ in 0..5 {
                match stage.commit(random) {
                    Ok(_) => {}
                    Err(Error::Closed) => return,
                    Err(error) => panic!("a commit beside a close: {error}"),
                }
            }
        });
    }
    start(&mut threads, &stage, |stage, _| match stage.read(3) {
        Ok(()) | Err(Error::Closed) => {}
        Err(error) => panic!("a read beside a close: {error}"),
    });
    start(&mut threads, &stage, |stage, random| match maintain(stage, random, 2) {
        Ok(()) | Err(Error::Closed) => {}
        Err(error) => panic!("a checkpoint beside a close: {error}"),
    });
    start(&mut threads, &stage, |stage, random| {
        (0..random.below(60)).for_each(|_| thread::yield_now());
        match stage.db.clone().close() {
            // It gave up waiting for a transaction, and the database stays open.
            Ok(()) | Err(Error::InvalidArgument(_)) => {}
            Err(error) => panic!("a close beside commits: {error}"),
        }
    });
    join(threads);
    note(&stage.db.stats());
    stage.db.clone().close().unwrap();
    let (shown, begun) = (&stage.shown, stage.begun.load(Ordering::SeqCst));
    let left = stage.disk.durable_image();
    let (shown, found) = (shown.load(Ordering::SeqCst), stage.reopen(&left, true));
    assert!(found >= shown, "{shown} was acknowledged, {found} is there after a close");
    assert!(found <= begun, "{found} is there after a close and was not begun");
    stage.check_cuts();
}

/// A sync fails in the middle, whichever it is and whatever it leaves: nobody is told of success after
/// somebody was told of the failure, and what was acknowledged survives.
pub fn failing(seed: u64) {
    let stage = Stage::new(seed, (seed / 4) % 4 == 3);
    let random = &mut Random(seed ^ 0xfa11);
    let pages = [PageState::Dirty, PageState::MarkedClean, PageState::Reverted];
    let pages = pages[random.below(3) as usize];
    let fault = Fault::new(FaultKind::Io).on(OperationKind::SyncData).pages_after(pages);
    let fault = match random.below(3) {
        // Any sync, of a table or a manifest too.
        0 => fault.nth(1 + random.below(14)),
        _ => fault.barrier(Barrier::LogCommit).nth(1 + random.below(8)),
    };
    stage.disk.inject(fault);
    let mut threads = Threads::new();
    for _ in 0..3 {
        start(&mut threads, &stage, |stage, random| {
            for _ in 0..4 {
                let failed = stage.failed.load(Ordering::SeqCst);
                match stage.commit(random) {
                    Ok(number) => assert!(!failed, "{number} was acknowledged after a failure"),
                    Err(error) if is_poisoned(&error) => {
                        stage.failed.store(true, Ordering::SeqCst);
                    }
                    // The segment that it would have gone to could not be made.
                    Err(Error::Io { .. }) => stage.failed.store(true, Ordering::SeqCst),
                    Err(error) => panic!("a commit beside a failed sync: {error}"),
                }
            }
        });
    }
    start(&mut threads, &stage, |stage, _| stage.read(3).unwrap());
    start(&mut threads, &stage, |stage, random| {
        let failed = stage.failed.load(Ordering::SeqCst);
        match maintain(stage, random, 2) {
            Ok(()) => {}
            Err(error) if is_poisoned(&error) || matches!(error, Error::Io { .. }) => {
                stage.failed.store(true, Ordering::SeqCst);
            }
            Err(error) => panic!("a checkpoint beside a failed sync ({failed}): {error}"),
        }
    });
    join(threads);
    let seen = stage.state(&stage.db.snapshot_durable(), &stage.spaces).unwrap();
    stage.cut(Some(seen));
    note(&stage.db.stats());
    let closed = stage.db.clone().close();
    let failed = stage.failed.load(Ordering::SeqCst);
    assert!(closed.is_err() || !failed, "a close succeeded after a failure");
    stage.cut(Some(seen));
    stage.check_cuts();
}

#[test]
fn writers_readers_checkpoints_and_merges_agree() {
    explore(together);
}

#[test]
fn transactions_that_spill_beside_commits_are_whole() {
    explore(spilling);
}

/// Once the tables of a large transaction could be published, and merged with older ones, before the
/// transaction could be shown: readers saw neither it nor what was there before.
#[test]
fn a_commit_that_is_being_installed_hides_nothing() {
    explore(installing);
}

/// Once a frozen memtable could be published before another had its place in the view. If it held no entries,
/// which is how the making of a keyspace leaves it, the view was empty then: that of a closed database.
#[test]
fn a_checkpoint_of_nothing_shuts_nobody_out() {
    explore(emptied);
}

#[test]
fn optimistic_transactions_lose_no_update() {
    explore(optimistic);
}

#[test]
fn a_keyspace_is_dropped_beside_writers_and_readers() {
    explore(dropping);
}

#[test]
fn a_close_beside_commits_keeps_what_was_acknowledged() {
    explore(closing);
}

#[test]
fn after_a_failed_sync_nobody_is_acknowledged() {
    explore(failing);
}
