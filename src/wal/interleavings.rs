//! The log and its room in all interleavings of a few threads, on the real code (`--cfg loom`).
//!
//! The disk underneath is as small as can be: it knows which groups were written to which file and which
//! of them a sync covered that began afterwards, and complains by itself when a group comes into a file that
//! is not the segment of its place. Each operation of the disk is a point at which threads may change.
//!
//! What must hold: a commit that is acknowledged is synced; what readers see was applied, and never moves
//! back; after a failed sync nothing is acknowledged and nothing more is shown; a segment that a durable
//! manifest still needs is never used again. Each model is also run with a planted mistake, which must be
//! found.

use super::flush::Reach;
use super::group::{BLOCK_BYTES, GroupHeader};
use super::log::Log;
use super::reserve::Claim;
use super::segment::segment_name;
use super::space::{LogSpace, NewEpoch};
use crate::error::Result;
use crate::fs::{
    Barrier, DirEntry, File, FileSystem, Holder, Join, LockOutcome, Mapping, OpenMode, PathKind,
};
use crate::stats::Counters;
use crate::types::{DatabaseId, Epoch, Generation, Lsn, Seqno};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The disk. Its own lock is held for moments only, never where threads may change.
#[derive(Debug)]
struct Disk {
    files: Mutex<HashMap<PathBuf, Arc<Sheet>>>,
    /// A point for loom to change threads at. `Relaxed`: it orders nothing.
    tick: AtomicU64,
    /// A durable manifest starts here: what lies before is dead.
    manifest: Mutex<Lsn>,
    /// Sync number `.0` from now on fails (0 is the next), or, if `.1`, only says that it succeeded.
    fails: Mutex<Option<(u64, bool)>>,
}

/// A file: groups by place, and how many of them are synced.
#[derive(Debug)]
struct Sheet {
    disk: std::sync::Weak<Disk>,
    state: Mutex<SheetState>,
}

#[derive(Debug, Default)]
struct SheetState {
    /// Of its name, if that is a segment's.
    base: Option<Lsn>,
    bytes: u64,
    /// Where groups start and end, in the order of their writes.
    groups: Vec<(Lsn, Lsn)>,
    synced: usize,
}

impl Disk {
    fn new() -> Arc<Disk> {
        Arc::new(Disk {
            files: Mutex::new(HashMap::new()),
            tick: AtomicU64::new(0),
            manifest: Mutex::new(Lsn::ZERO),
            fails: Mutex::new(None),
        })
    }

    fn tick(&self) {
        self.tick.fetch_add(1, Ordering::Relaxed);
    }

    /// Just past the last group whose sync began after its write.
    fn synced_end(&self) -> Lsn {
        let files = self.files.lock().unwrap();
        let ends = files.values().filter_map(|sheet| {
            let state = sheet.state.lock().unwrap();
            state.groups[..state.synced].iter().map(|(_, end)| *end).max()
        });
        ends.max().unwrap_or(Lsn::ZERO)
    }
}

impl SheetState {
    /// The file gets another use.
    fn give_up(&mut self, manifest: Lsn) {
        let last = self.groups.iter().map(|(_, end)| *end).max();
        let needed = last.is_some_and(|end| end > manifest && manifest > Lsn::ZERO);
        assert!(
            !needed,
            "a segment with log up to {last:?} is lost; the manifest starts at {manifest}"
        );
        self.groups.clear();
        self.synced = 0;
        self.base = None;
    }
}

impl File for Sheet {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.upgrade().expect("the disk outlives its files");
        disk.tick();
        let mut state = self.state.lock().unwrap();
        state.bytes = state.bytes.max(offset + bytes.len() as u64);
        if let Ok(header) = GroupHeader::decode(bytes) {
            let place = state.base.map(|base| base.plus(offset));
            assert_eq!(place, Some(header.lsn), "a group was written into a file of another place");
            state.groups.push((header.lsn, header.lsn.plus(bytes.len() as u64)));
        }
        Ok(bytes.len())
    }

    fn sync_data(&self, barrier: Barrier) -> io::Result<()> {
        let disk = self.disk.upgrade().expect("the disk outlives its files");
        if barrier != Barrier::LogCommit {
            return Ok(());
        }
        let written = self.state.lock().unwrap().groups.len();
        let fate = {
            let mut fails = disk.fails.lock().unwrap();
            match fails.as_mut() {
                Some((0, lies)) => Some(*lies),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        disk.tick();
        match fate {
            Some(true) => Ok(()),
            Some(false) => Err(io::Error::other("a failed sync")),
            None => {
                let mut state = self.state.lock().unwrap();
                state.synced = state.synced.max(written);
                Ok(())
            }
        }
    }

    fn start_writeback(&self, _: u64, _: u64) {}

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state.lock().unwrap().bytes = len;
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, _: u64) -> io::Result<Mapping> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What the trait is implemented for.
#[derive(Debug, Clone)]
struct Shared(Arc<Disk>);

impl FileSystem for Shared {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut files = self.0.files.lock().unwrap();
        if mode == OpenMode::CreateNew {
            let sheet = Sheet { disk: Arc::downgrade(&self.0), state: Mutex::default() };
            files.insert(path.to_path_buf(), Arc::new(sheet));
        }
        let sheet = files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(sheet)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.tick();
        let manifest = *self.0.manifest.lock().unwrap();
        let mut files = self.0.files.lock().unwrap();
        let sheet = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        {
            let mut state = sheet.state.lock().unwrap();
            state.give_up(manifest);
            let name = to.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digits = name.strip_prefix("log-").and_then(|rest| rest.strip_suffix(".hwl"));
            state.base = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Lsn);
            assert_eq!(state.base.map(segment_name).as_deref(), Some(name));
        }
        files.insert(to.to_path_buf(), sheet);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.tick();
        let manifest = *self.0.manifest.lock().unwrap();
        let removed = self.0.files.lock().unwrap().remove(path);
        let removed = removed.ok_or(io::ErrorKind::NotFound)?;
        removed.state.lock().unwrap().give_up(manifest);
        Ok(())
    }

    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        let there = self.0.files.lock().unwrap().contains_key(path);
        Ok(if there { PathKind::File } else { PathKind::Missing })
    }

    fn sync_dir(&self, _: &Path, _: Barrier) -> io::Result<()> {
        Ok(())
    }

    fn now_micros(&self) -> u64 {
        1
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn lock(&self, _: &Path) -> io::Result<LockOutcome> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn lock_holder(&self, _: &Path) -> io::Result<Option<Holder>> {
        Ok(None)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn random(&self) -> io::Result<u64> {
        Ok(7)
    }
    fn spawn(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Join>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn allocated_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

/// Commits of so many bytes start their write before they are applied.
const LARGE_BYTES: usize = 1000;

/// The engine around the log, as small as can be: the gate with the last seqno, and the memtable of which
/// only the last seqno counts.
struct Engine {
    disk: Arc<Disk>,
    log: Log,
    space: LogSpace,
    gate: loom::sync::Mutex<u64>,
    memtable: AtomicU64,
}

impl Engine {
    fn new() -> Arc<Engine> {
        let disk = Disk::new();
        let shared: Arc<dyn FileSystem> = Arc::new(Shared(disk.clone()));
        let (id, sizes) = (DatabaseId([1; 16]), crate::options::Sizes::DEFAULT);
        let space = LogSpace::new(shared, Path::new("/db"), id, 1 << 20, sizes);
        let (epoch, generation) = (Epoch(1), Generation(1));
        let new = NewEpoch { epoch, salt: 5, base: Lsn(BLOCK_BYTES), generation };
        let prepared = space.prepare_epoch(new, false).expect("room");
        let first = prepared.first();
        space.adopt(prepared);
        let log = Log::new(Arc::new(Counters::default()), Seqno::ZERO);
        log.start(first, epoch, 5, generation);
        let (gate, memtable) = (loom::sync::Mutex::new(0), AtomicU64::new(0));
        Arc::new(Engine { disk, log, space, gate, memtable })
    }

    /// As `Engine::apply` does, with this many bytes of operations.
    fn place(&self, bytes: usize, applied_too_early: bool) -> Result<(Lsn, Seqno)> {
        let mut last = self.gate.lock().unwrap();
        self.log.check()?;
        self.space.reserve(self.log.end_block(), bytes as u64, Claim::Commit)?;
        let seqno = Seqno(*last + 1);
        let lsn = self.log.append(&self.space, seqno, 1, &vec![0; bytes])?;
        *last = seqno.get();
        if bytes >= LARGE_BYTES {
            self.log.start_write();
        }
        if applied_too_early {
            self.log.mark_applied(seqno);
        }
        self.memtable.store(seqno.get(), Ordering::Relaxed);
        if !applied_too_early {
            self.log.mark_applied(seqno);
        }
        Ok((lsn, seqno))
    }
}

/// Few enough changes of threads against a thread's will that a model ends, enough for known mistakes.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // LOOM_MAX_PREEMPTIONS asks for more.
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Runs a mistaken model in a process of its own, since a thread of a model that failed cannot be unwound,
/// and sees that it fails for the reason given.
fn must_fail(name: &str, message: &str) {
    let name = format!("{}::{name}", module_path!().split_once("::").expect("a crate").1);
    let program = std::env::current_exe().expect("this program");
    let mut command = std::process::Command::new(program);
    let output = command.args(["--exact", &name, "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{name} found nothing");
    assert!(said.contains(message), "{name} failed for another reason: {said}");
}

/// Two committers. What is acknowledged is synced, durable and visible. With `reach` too short the
/// acknowledgement comes too early.
fn group_commit(reach: Reach, bytes: usize) {
    explore(move || {
        let engine = Engine::new();
        let commit = move |engine: &Engine| {
            let (lsn, seqno) = engine.place(bytes, false).unwrap();
            engine.log.flush(lsn, reach).unwrap();
            assert!(engine.disk.synced_end() >= lsn, "acknowledged and not synced");
            assert!(engine.log.durable_seqno() >= seqno);
            assert!(engine.log.visible() >= seqno);
        };
        let other = engine.clone();
        let thread = thread::spawn(move || commit(&other));
        commit(&engine);
        thread.join().unwrap();
    });
}

#[test]
fn what_is_acknowledged_is_synced() {
    group_commit(Reach::Durable, 100);
}

#[test]
fn what_was_started_before_is_synced_as_well() {
    group_commit(Reach::Durable, LARGE_BYTES);
}

#[test]
#[ignore = "fails on purpose, in a process of its own"]
fn mistaken_an_acknowledgement_before_the_sync_is_found() {
    group_commit(Reach::Written, 100);
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    must_fail(
        "mistaken_an_acknowledgement_before_the_sync_is_found",
        "acknowledged and not synced",
    );
}

/// A committer whose record another flush may take along, and a reader. What is visible was applied; it
/// never moves back.
fn watermark(applied_too_early: bool) {
    explore(move || {
        let engine = Engine::new();
        let other = engine.clone();
        let flusher = thread::spawn(move || {
            let end = other.log.end();
            other.log.flush(end, Reach::Durable).unwrap();
        });
        let other = engine.clone();
        let reader = thread::spawn(move || {
            let first = other.log.visible();
            let applied = other.memtable.load(Ordering::Relaxed);
            assert!(applied >= first.get(), "visible and not applied");
            assert!(other.log.visible() >= first, "visibility moved back");
        });
        let (lsn, _) = engine.place(100, applied_too_early).unwrap();
        engine.log.flush(lsn, Reach::Durable).unwrap();
        flusher.join().unwrap();
        reader.join().unwrap();
        assert_eq!(engine.log.visible(), Seqno(1));
    });
}

#[test]
fn what_is_visible_was_applied() {
    watermark(false);
}

#[test]
#[ignore = "fails on purpose, in a process of its own"]
fn mistaken_a_commit_that_is_shown_before_it_is_applied_is_found() {
    watermark(true);
}

#[test]
fn a_commit_that_is_shown_before_it_is_applied_is_found() {
    must_fail(
        "mistaken_a_commit_that_is_shown_before_it_is_applied_is_found",
        "visible and not applied",
    );
}

/// Two committers, and the first sync fails. Nobody is told that it succeeded, before or after; the
/// visible mark stands. A disk that lies is what the mistake of ignoring the result amounts to.
fn poison(lies: bool) {
    explore(move || {
        let engine = Engine::new();
        *engine.disk.fails.lock().unwrap() = Some((0, lies));
        let commit = |engine: &Engine| {
            let Ok((lsn, _)) = engine.place(100, false) else { return };
            let outcome = engine.log.flush(lsn, Reach::Durable);
            assert!(outcome.is_err(), "acknowledged after a failed sync");
            assert!(engine.log.is_poisoned());
            assert_eq!(engine.log.visible(), Seqno::ZERO, "shown after a failed sync");
        };
        let other = engine.clone();
        let thread = thread::spawn(move || commit(&other));
        commit(&engine);
        thread.join().unwrap();
        assert!(engine.place(100, false).is_err(), "a commit was taken after a failed sync");
    });
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    poison(false);
}

#[test]
#[ignore = "fails on purpose, in a process of its own"]
fn mistaken_an_ignored_sync_result_is_found() {
    poison(true);
}

#[test]
fn an_ignored_sync_result_is_found() {
    must_fail("mistaken_an_ignored_sync_result_is_found", "acknowledged after a failed sync");
}

/// A committer that needs a further segment, while a checkpoint releases the first ones. With
/// `released_too_early` the manifest comes after the release.
fn release(released_too_early: bool) {
    explore(move || {
        let engine = Engine::new();
        // Most of two segments.
        for _ in 0..8 {
            engine.place(220_000, false).unwrap();
        }
        let end = engine.log.end();
        engine.log.flush(end, Reach::Durable).unwrap();
        *engine.disk.manifest.lock().unwrap() = Lsn(1);
        let other = engine.clone();
        let checkpoint = thread::spawn(move || {
            let boundary = {
                let _gate = other.gate.lock().unwrap();
                other.log.boundary()
            };
            other.log.flush(boundary, Reach::Durable).unwrap();
            if released_too_early {
                other.space.release(boundary).unwrap();
            }
            other.disk.tick();
            *other.disk.manifest.lock().unwrap() = boundary;
            if !released_too_early {
                other.space.release(boundary).unwrap();
            }
        });
        for _ in 0..5 {
            let (lsn, _) = engine.place(220_000, false).unwrap();
            engine.log.flush(lsn, Reach::Durable).unwrap();
            assert!(engine.disk.synced_end() >= lsn);
        }
        checkpoint.join().unwrap();
    });
}

#[test]
fn a_release_takes_nothing_that_the_manifest_needs() {
    release(false);
}

#[test]
#[ignore = "fails on purpose, in a process of its own"]
fn mistaken_a_release_before_the_manifest_is_found() {
    release(true);
}

#[test]
fn a_release_before_the_manifest_is_found() {
    must_fail("mistaken_a_release_before_the_manifest_is_found", "is lost; the manifest starts at");
}
