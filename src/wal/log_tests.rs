//! Tests of the latch: a log that failed acknowledges and shows nothing, for good, and wakes whoever waits.

use super::super::group::BLOCK_BYTES;
use super::*;
use crate::fs::sim::SimDisk;
use crate::fs::{Barrier, File, FileSystem, Mapping, OpenMode};
use crate::options::Sizes;
use crate::sync::yield_now;
use crate::types::DatabaseId;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

type OnSync = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A file that asks before it syncs.
struct Asking {
    file: Arc<dyn File>,
    on_sync: parking_lot::Mutex<OnSync>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl File for Asking {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self, barrier: Barrier) -> io::Result<()> {
        (self.on_sync.lock())()?;
        self.file.sync_data(barrier)
    }
    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.file.map(len)
    }
}

/// A log with one segment whose syncs ask.
struct Fixture {
    log: Arc<Log>,
    space: LogSpace,
    file: Arc<Asking>,
}

fn fixture() -> Fixture {
    let disk = SimDisk::without_history();
    let dir = Path::new("/db");
    disk.create_dir(dir).unwrap();
    let file = disk.open(&dir.join("log"), OpenMode::CreateNew).unwrap();
    let file = Arc::new(Asking { file, on_sync: parking_lot::Mutex::new(Box::new(|| Ok(()))) });
    let id = DatabaseId([7; 16]);
    let space = LogSpace::new(Arc::new(disk), dir, id, 1 << 20, Sizes::DEFAULT);
    let path = dir.join("log");
    let segment = Segment { base: Lsn(1 << 20), bytes: 1 << 20, file: file.clone(), path };
    let log = Arc::new(Log::new(Arc::new(Counters::default()), Seqno(4)));
    log.start(Arc::new(segment), Epoch(1), 9, Generation(1));
    Fixture { log, space, file }
}

impl Fixture {
    fn on_sync(&self, what: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
        *self.file.on_sync.lock() = Box::new(what);
    }

    /// Commits without waiting; says where the record ends.
    fn commit(&self, seqno: u64) -> Lsn {
        let lsn = self.log.append(&self.space, Seqno(seqno), 1, b"operations").unwrap();
        self.log.mark_applied(Seqno(seqno));
        lsn
    }

    #[track_caller]
    fn assert_poisoned(&self, cause: &str) {
        let told = |outcome: Result<()>| match outcome {
            Err(Error::Poisoned { cause }) => cause.to_string(),
            other => panic!("{other:?}"),
        };
        let log = &self.log;
        assert!(log.is_poisoned());
        assert_eq!(told(log.check()), cause);
        assert_eq!(told(log.show(Seqno(5))), cause);
        assert_eq!(told(log.flush(Lsn::ZERO, Reach::Written)), cause);
        assert_eq!(told(log.write_witness(&self.space)), cause);
        assert!(!log.lacks_witness(), "there will be none");
        let counting = Arc::new(Counting::default());
        assert!(log.wake_when_durable(Lsn::MAX, &counting.into()), "there is nothing to wait for");
    }
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Counting {
    fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn a_sound_log_acknowledges_and_shows_what_is_durable() {
    let fixture = fixture();
    let log = &fixture.log;
    let lsn = fixture.commit(5);
    assert!(!log.is_poisoned() && log.check().is_ok());
    assert_eq!((log.visible(), log.durable_seqno()), (Seqno(4), Seqno(4)));
    log.flush(lsn, Reach::Written).unwrap();
    assert_eq!((log.visible(), log.durable_seqno()), (Seqno(4), Seqno(4)));
    assert!(!log.lacks_witness());
    log.flush(lsn, Reach::Durable).unwrap();
    assert_eq!((log.visible(), log.durable_seqno()), (Seqno(5), Seqno(5)));
    assert!(log.lacks_witness(), "nothing vouches for the commit");
    log.write_witness(&fixture.space).unwrap();
    assert!(!log.lacks_witness());
    // What is applied later than it is durable is shown then; without durability, when it is asked for.
    let lsn = log.append(&fixture.space, Seqno(6), 1, b"operations").unwrap();
    log.flush(lsn, Reach::Durable).unwrap();
    assert_eq!(log.visible(), Seqno(5));
    log.mark_applied(Seqno(6));
    assert_eq!(log.visible(), Seqno(6));
    fixture.commit(7);
    assert_eq!(log.visible(), Seqno(6));
    log.show(Seqno(9)).unwrap();
    assert_eq!(log.visible(), Seqno(7), "what is not applied is not shown");
}

#[test]
fn what_was_started_is_in_the_file_and_durable_when_it_is_synced() {
    let fixture = fixture();
    let log = &fixture.log;
    let record = |seqno| log.append(&fixture.space, Seqno(seqno), 1, b"operations").unwrap();
    let block = |lsn: Lsn| {
        let mut bytes = [0; 64];
        let offset = (lsn.get() - (1 << 20)) / BLOCK_BYTES * BLOCK_BYTES;
        fixture.file.read_at(&mut bytes, offset).unwrap();
        bytes != [0; 64]
    };
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = syncs.clone();
    fixture.on_sync(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    });
    let first = record(5);
    assert!(!block(first));
    log.start_write();
    assert!(block(first), "it is written");
    log.mark_applied(Seqno(5));
    assert_eq!((log.visible(), log.durable_seqno()), (Seqno(4), Seqno(4)), "not synced");
    // What comes after starts on a block of its own: a sync may have taken the one before.
    let second = record(6);
    assert!(second.get() / BLOCK_BYTES > first.get() / BLOCK_BYTES && !block(second));
    log.mark_applied(Seqno(6));
    log.flush(first, Reach::Written).unwrap();
    assert!(!block(second), "the first one was written already");
    log.flush(second, Reach::Durable).unwrap();
    assert_eq!((log.visible(), log.durable_seqno()), (Seqno(6), Seqno(6)));
    assert_eq!(syncs.load(std::sync::atomic::Ordering::SeqCst), 1);
    // Alone, a sync has nothing to write.
    let third = record(7);
    log.start_write();
    log.flush(third, Reach::Durable).unwrap();
    assert_eq!(log.durable_seqno(), Seqno(6), "durable, and not applied yet");
    log.mark_applied(Seqno(7));
    assert_eq!(log.visible(), Seqno(7));
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_or_shown_any_more() {
    let fixture = fixture();
    let lsn = fixture.commit(5);
    fixture.on_sync(|| Err(io::Error::other("the disk is gone")));
    let failed = fixture.log.flush(lsn, Reach::Durable);
    assert!(matches!(failed, Err(Error::Poisoned { .. })));
    // The next sync would succeed, and means nothing.
    fixture.on_sync(|| panic!("nothing is synced after a failure"));
    fixture.assert_poisoned("the disk is gone");
    assert_eq!((fixture.log.visible(), fixture.log.durable_seqno()), (Seqno(4), Seqno(4)));
    fixture.log.mark_applied(Seqno(5));
    assert_eq!(fixture.log.visible(), Seqno(4));
}

#[test]
fn a_commit_that_is_durable_and_applied_after_a_failure_is_not_shown() {
    let fixture = fixture();
    let lsn = fixture.log.append(&fixture.space, Seqno(5), 1, b"operations").unwrap();
    fixture.log.flush(lsn, Reach::Durable).unwrap();
    fixture.log.poison(io::Error::other("first"));
    fixture.log.mark_applied(Seqno(5));
    assert_eq!(fixture.log.visible(), Seqno(4));
}

#[test]
fn the_first_cause_is_told() {
    let fixture = fixture();
    fixture.log.poison(io::Error::other("first"));
    fixture.log.poison(io::Error::other("second"));
    fixture.assert_poisoned("first");
}

#[test]
fn a_failure_elsewhere_during_a_sync_makes_the_sync_worth_nothing() {
    let fixture = fixture();
    let lsn = fixture.commit(5);
    let log = Arc::downgrade(&fixture.log);
    fixture.on_sync(move || {
        log.upgrade().unwrap().poison(io::Error::other("elsewhere"));
        Ok(())
    });
    assert!(matches!(fixture.log.flush(lsn, Reach::Durable), Err(Error::Poisoned { .. })));
    fixture.assert_poisoned("elsewhere");
    assert_eq!((fixture.log.visible(), fixture.log.durable_seqno()), (Seqno(4), Seqno(4)));
}

#[test]
fn a_leader_that_panics_fails_the_log_and_wakes_who_waits() {
    let fixture = fixture();
    let lsn = fixture.commit(5);
    let counting = Arc::new(Counting::default());
    assert!(!fixture.log.wake_when_durable(lsn, &counting.clone().into()));
    fixture.on_sync(|| panic!("our own bug"));
    let log = fixture.log.clone();
    let leader = std::thread::spawn(move || log.flush(lsn, Reach::Durable));
    assert!(leader.join().is_err());
    fixture.assert_poisoned("a flush panicked");
    assert_eq!(counting.count(), 1);
}

#[test]
fn whoever_waits_is_woken_once_when_it_is_durable_or_never_will_be() {
    for fails in [false, true] {
        let fixture = fixture();
        let (first, second) = (fixture.commit(5), fixture.commit(6));
        let [one, other, later] = [(); 3].map(|()| Arc::new(Counting::default()));
        let wait =
            |lsn, who: &Arc<Counting>| fixture.log.wake_when_durable(lsn, &Arc::clone(who).into());
        assert!(wait(Lsn(1 << 20), &one), "that is durable");
        assert!(!wait(first, &one) && !wait(first, &one) && !wait(first, &other));
        assert!(!wait(Lsn::MAX, &one) && !wait(Lsn::MAX, &later));
        let counts = || [one.count(), other.count(), later.count()];
        if fails {
            fixture.on_sync(|| Err(io::Error::other("the disk is gone")));
        }
        assert_eq!(fixture.log.flush(second, Reach::Durable).is_err(), fails);
        assert_eq!(counts(), if fails { [2, 1, 1] } else { [1, 1, 0] });
        fixture.log.poison(io::Error::other("later"));
        assert_eq!(counts(), [2, 1, 1]);
        assert!(wait(second, &one));
    }
}

#[test]
fn those_who_wait_for_a_leader_are_told_of_its_failure() {
    let fixture = fixture();
    let lsn = fixture.commit(5);
    let (started, wait_for_start) = std::sync::mpsc::channel();
    let (go_on, wait_for_go) = std::sync::mpsc::channel::<()>();
    let wait_for_go = parking_lot::Mutex::new(wait_for_go);
    fixture.on_sync(move || {
        started.send(()).unwrap();
        wait_for_go.lock().recv().unwrap();
        Err(io::Error::other("the disk is gone"))
    });
    let flush = |log: Arc<Log>| std::thread::spawn(move || log.flush(lsn, Reach::Durable));
    let leader = flush(fixture.log.clone());
    wait_for_start.recv().unwrap();
    let follower = flush(fixture.log.clone());
    while fixture.log.flush.lock().waiters == 0 {
        yield_now();
    }
    go_on.send(()).unwrap();
    for thread in [leader, follower] {
        let error = thread.join().unwrap().unwrap_err();
        let Error::Poisoned { cause } = error else { panic!("{error}") };
        assert_eq!(cause.to_string(), "the disk is gone");
    }
    fixture.assert_poisoned("the disk is gone");
}
