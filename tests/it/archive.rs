//! The archive: no commit behind a backup is ever missing in it, it never harms the database, and a restore
//! refuses to go over a gap. (Power cuts: `archive_cuts`.)

use crate::backup::{Model, Random, content, hash, history, on, point_among};
use highwater::backup::{self, Request, Restored, Until};
use highwater::fs::sim::{Fault, FaultKind, OperationKind, PageState, SimDisk};
use highwater::fs::{FileSystem, PathKind, os::OsFileSystem};
use highwater::{Builder, Database, Durability, Error, Lsn, Seqno};
use std::path::Path;
use std::sync::Arc;

pub const DB: &str = "/db";
pub const REPO: &str = "/backups";
pub const ARCHIVE: &str = "/archive";

/// From the first backup, with the log of the archive and of the database.
pub fn request(until: Until) -> Request {
    Request::new(REPO).number(Some(1)).log(ARCHIVE).log(DB).until(until)
}

pub const LATEST: Until = Until::Time(u64::MAX);

fn restore(fs: &Arc<dyn FileSystem>, until: Until, to: &str) -> highwater::Result<Restored> {
    backup::restore_to(fs, &request(until), to, &mut |_| {})
}

fn remove_all(disk: &SimDisk, directory: &str) {
    for (path, _) in disk.files() {
        if path.starts_with(directory) {
            disk.remove_file(&path).unwrap();
        }
    }
}

fn archived(disk: &SimDisk, kind: &str) -> usize {
    let files = disk.files().into_iter().map(|(path, _)| path);
    files.filter(|p| p.starts_with(ARCHIVE) && p.to_string_lossy().contains(kind)).count()
}

/// Checkpoints release the log again and again; lives end cleanly, by a kill, and by a power cut.
#[test]
fn a_hundred_points_behind_a_backup_can_be_restored() {
    for (background, points) in [(false, 60), (true, 40)] {
        let mut disk = SimDisk::without_history();
        let mut random = Random(11);
        let mut model = Model::new();
        let mut states: Vec<(Lsn, Model)> = Vec::new();
        for life in 0..7 {
            let (_, builder) = on(&disk);
            let db = builder.background(background).archive(ARCHIVE).open(DB).unwrap();
            if life == 0 {
                history(&db, &mut random, &mut model, 40);
                states.push((db.backup(REPO).unwrap().lsn, model.clone()));
            }
            states.extend(history(&db, &mut random, &mut model, 70));
            match life % 3 {
                0 => {
                    db.compact().unwrap();
                    states.extend(history(&db, &mut random, &mut model, 20));
                    disk = disk.kill();
                }
                1 => db.close().unwrap(),
                _ => {
                    db.checkpoint().unwrap();
                    disk = disk.power_cut(life);
                }
            }
        }
        let (fs, builder) = on(&disk);
        assert!(archived(&disk, "/log-") > 5, "little log was released");
        assert!(archived(&disk, "/table-") > 2, "no large transaction was installed");
        let (first, last) = (states[0].0, states.last().unwrap().0);
        for round in 0..points {
            let lsn = match round {
                0 => last,
                1 => first,
                _ => point_among(&states, &mut random),
            };
            let expected = &states.iter().rev().find(|(at, _)| *at <= lsn).unwrap().1;
            restore(&fs, Until::Lsn(lsn), "/point").unwrap();
            assert_eq!(content(&builder, "/point"), hash(expected), "LSN {lsn}");
            remove_all(&disk, "/point");
        }
    }
}

/// Commits of a few kilobytes until one fails, at most `most` of them; where the last one ended.
fn commit_until_refused(db: &Database, from: u32, most: u32) -> (u32, Option<Error>, Lsn) {
    let keyspace = db.keyspace("k").unwrap();
    let mut last = Lsn::ZERO;
    for i in 0..most {
        match keyspace.insert((from + i).to_be_bytes(), [7; 6000]) {
            Ok(lsn) => last = lsn,
            Err(error) => return (i, Some(error), last),
        }
    }
    (most, None, last)
}

/// What can go wrong in the archive, and what undoes it.
fn troubles() -> Vec<(&'static str, Option<Fault>)> {
    let of = |effect, kind| Some(Fault::new(effect).on(kind).path_contains(ARCHIVE).from_then_on());
    let clean = |fault: Option<Fault>| fault.map(|fault| fault.pages_after(PageState::MarkedClean));
    vec![
        ("not permitted", None),
        ("full", of(FaultKind::NoSpace, OperationKind::Write)),
        ("no new files", of(FaultKind::Error(std::io::ErrorKind::NotFound), OperationKind::Create)),
        ("syncs fail", clean(of(FaultKind::Io, OperationKind::SyncData))),
        ("names cannot be synced", clean(of(FaultKind::Io, OperationKind::SyncDir))),
    ]
}

#[test]
fn a_failing_archive_holds_the_log_and_then_commits() {
    for (what, fault) in troubles() {
        let disk = SimDisk::new();
        let (fs, builder) = on(&disk);
        let builder = builder.background(false).archive(ARCHIVE).archive_limit(3 << 20);
        let db = builder.clone().open(DB).unwrap();
        let (done, ..) = commit_until_refused(&db, 0, 50);
        let other = db.keyspace("other").unwrap();
        db.backup(REPO).unwrap();
        match fault {
            Some(fault) => disk.inject(fault),
            None => disk.deny(ARCHIVE),
        }
        let (more, error, _) = commit_until_refused(&db, done, 10_000);
        let Some(Error::Archive { held_bytes, path, .. }) = error else {
            panic!("{what}: {more} commits and {error:?}");
        };
        assert!(held_bytes > 3 << 20 && held_bytes < 12 << 20, "{what}: {held_bytes}");
        assert_eq!(db.stats().archive_held_bytes, held_bytes);
        assert_eq!(path, Path::new(ARCHIVE));
        // Reads, drops and a checkpoint go on; so does everything once the archive is back.
        let keyspace = db.existing_keyspace("k").unwrap();
        assert_eq!(db.snapshot().len(&keyspace).unwrap(), u64::from(done + more));
        db.checkpoint().unwrap();
        db.drop_keyspace(&other).unwrap();
        let again = keyspace.insert("x", "y");
        assert!(matches!(again, Err(Error::Archive { .. })), "{what}: {again:?}");
        disk.clear_faults();
        disk.allow(ARCHIVE);
        let (later, error, _) = commit_until_refused(&db, done + more, 300);
        assert!(error.is_none(), "{what}: {error:?}");
        db.checkpoint().unwrap();
        assert_eq!(db.stats().archive_held_bytes, 0, "{what}");
        // Nothing of it was a promise of the system's memory.
        let disk = disk.power_cut(7);
        let (fs_after, builder_after) = on(&disk);
        db.close().unwrap();
        for (fs, builder) in [(&fs, &builder), (&fs_after, &builder_after)] {
            restore(fs, LATEST, "/new").unwrap_or_else(|error| panic!("{what}: {error}"));
            let restored = builder.clone().read_only(true).open("/new").unwrap();
            let keyspace = restored.existing_keyspace("k").unwrap();
            let count = u64::from(done + more + later);
            assert_eq!(restored.snapshot().len(&keyspace).unwrap(), count, "{what}");
        }
    }
}

/// Tables must be in the archive before the transaction commits, and nothing may be half done.
#[test]
fn a_large_transaction_needs_the_archive() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let db = builder.clone().background(false).archive(ARCHIVE).open(DB).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("a", "small").unwrap();
    db.backup(REPO).unwrap();
    let large = |value: u8| {
        let mut tx = db.write().unwrap();
        (0..100_u32).for_each(|i| tx.insert(&keyspace, i.to_be_bytes(), [value; 8000]).unwrap());
        tx.commit()
    };
    disk.deny(ARCHIVE);
    for _ in 0..2 {
        let error = large(1).unwrap_err();
        assert!(matches!(error, Error::Archive { held_bytes: 0, .. }), "{error}");
        assert_eq!(keyspace.len().unwrap(), 1);
    }
    // Small ones go on.
    keyspace.insert("b", "small").unwrap();
    disk.allow(ARCHIVE);
    large(2).unwrap();
    assert!(archived(&disk, "/table-") > 0);
    // The archive's copy is what a restore takes, whatever a merge did to the table.
    keyspace.insert("c", "small").unwrap();
    db.compact().unwrap();
    db.close().unwrap();
    restore(&fs, LATEST, "/new").unwrap();
    assert_eq!(content(&builder, "/new"), content(&builder, DB));
    // Without that copy the transaction is named as missing.
    let table = disk.files().into_iter().map(|(path, _)| path);
    let mut table = table
        .filter(|path| path.starts_with("/archive/") && path.to_string_lossy().contains("table-"));
    let table = table.next().unwrap();
    disk.remove_file(&table).unwrap();
    let error = restore(&fs, LATEST, "/no").unwrap_err();
    let name = table.file_name().unwrap().to_string_lossy().into_owned();
    assert!(error.is_damage() && error.to_string().contains(&name), "{error}");
}

/// What a life without the archive released is missing, and a life that died leaves what it held.
#[test]
fn a_gap_is_refused() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let builder = builder.background(false);
    let kept = builder.clone().archive(ARCHIVE);
    let db = kept.clone().open(DB).unwrap();
    commit_until_refused(&db, 0, 50);
    db.backup(REPO).unwrap();
    // A life whose archive fails, and that dies: the next one finds what it held.
    disk.deny(ARCHIVE);
    let (_, _, before) = commit_until_refused(&db, 50, 400);
    let disk_after = disk.kill();
    let (fs_after, builder_after) = on(&disk_after);
    // It opens all the same.
    let kept_after = builder_after.clone().background(false).archive(ARCHIVE);
    kept_after.clone().open(DB).unwrap().close().unwrap();
    disk_after.allow(ARCHIVE);
    let db_after = kept_after.open(DB).unwrap();
    commit_until_refused(&db_after, 450, 400);
    db_after.close().unwrap();
    restore(&fs_after, LATEST, "/new").unwrap();
    assert_eq!(content(&builder_after, "/new"), content(&builder_after, DB));

    // A life without it.
    db.close().unwrap();
    disk.allow(ARCHIVE);
    let db = builder.clone().open(DB).unwrap();
    let (_, _, inside) = commit_until_refused(&db, 450, 1500);
    // Without the archive nothing keeps the released segments.
    db.compact().unwrap();
    db.close().unwrap();
    let db = kept.open(DB).unwrap();
    let (_, _, behind) = commit_until_refused(&db, 2000, 400);
    db.close().unwrap();
    for until in [Until::Lsn(inside), Until::Lsn(behind), LATEST] {
        let error = restore(&fs, until, "/no").unwrap_err();
        let Error::LogGap { after, before, lsn, next_lsn, .. } = error else {
            panic!("{until:?}: {error}");
        };
        assert!(before.unwrap() > Seqno(after.get() + 1) && next_lsn.unwrap() > lsn);
        // The point that it names can be restored.
        let plan = backup::plan_restore(&fs, &request(Until::Lsn(lsn))).unwrap();
        assert_eq!((plan.seqno, plan.gap_after), (after, None));
    }
    assert!(before < inside);
    let restored = restore(&fs, Until::Damage, "/gap").unwrap();
    assert_eq!(restored.gap_after, Some(restored.seqno));
    // From a newer backup on all is well.
    let db = builder.clone().archive(ARCHIVE).open(DB).unwrap();
    let second = db.backup(REPO).unwrap();
    commit_until_refused(&db, 3000, 400);
    db.close().unwrap();
    let newer = request(LATEST).number(Some(second.number));
    backup::restore_to(&fs, &newer, "/newer", &mut |_| {}).unwrap();
    assert_eq!(content(&builder, "/newer"), content(&builder, DB));
}

/// The archive alone ends before the database does, and says so.
#[test]
fn an_archive_alone_says_that_it_may_be_behind() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let db = builder.clone().background(false).archive(ARCHIVE).open(DB).unwrap();
    commit_until_refused(&db, 0, 5);
    db.backup(REPO).unwrap();
    let alone = |until| Request::new(REPO).number(Some(1)).log(ARCHIVE).until(until);
    // Nothing was released yet.
    let plan = backup::plan_restore(&fs, &alone(LATEST)).unwrap();
    assert_eq!((plan.transactions, plan.end_unsure), (0, true));
    let (_, _, last) = commit_until_refused(&db, 5, 600);
    let plan = backup::plan_restore(&fs, &alone(LATEST)).unwrap();
    assert!(plan.transactions > 100 && plan.lsn < last && plan.end_unsure, "{plan:?}");
    let error = backup::plan_restore(&fs, &alone(Until::Lsn(last))).unwrap_err();
    assert!(error.to_string().contains("does not reach"), "{error}");
    // A time that the log goes past is sure; and so is all that the database itself has.
    let time = Until::Time(plan.last_commit_micros - 1);
    assert!(!backup::plan_restore(&fs, &alone(time)).unwrap().end_unsure);
    let all = backup::plan_restore(&fs, &alone(LATEST).log(DB)).unwrap();
    assert_eq!((all.lsn, all.end_unsure), (last, false));
    assert!(backup::plan_restore(&fs, &alone(LATEST).log("/nothing")).is_err());
}

#[test]
fn a_folder_of_others_is_refused() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let builder = builder.background(false);
    for place in ["/db/archive", "/db", "/", ""] {
        let error = builder.clone().archive(place).open(DB).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{place}: {error}");
    }
    fs.create_dir(Path::new("/home")).unwrap();
    disk.write_file("/home/notes.txt", b"mine").unwrap();
    let error = builder.clone().archive("/home").open(DB).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    let db = builder.clone().archive(ARCHIVE).open(DB).unwrap();
    commit_until_refused(&db, 0, 1000);
    db.backup(REPO).unwrap();
    let error = builder.clone().archive(REPO).open("/other").unwrap_err();
    assert!(error.to_string().contains("belongs to no archive"), "{error}");
    let error = builder.clone().archive(DB).open("/other").unwrap_err();
    assert!(error.to_string().contains("belongs to no archive"), "{error}");
    db.close().unwrap();
    let error = builder.clone().archive(ARCHIVE).open("/other").unwrap_err();
    assert!(error.to_string().contains("is the archive of database"), "{error}");
    // What somebody put beside the log is in nobody's way.
    disk.write_file("/archive/notes.txt", b"of 2026").unwrap();
    builder.clone().archive(ARCHIVE).open(DB).unwrap();
    // A reader needs none.
    builder.archive("/missing").read_only(true).open(DB).unwrap();
    assert_eq!(fs.kind(Path::new("/missing")).unwrap(), PathKind::Missing);
}

/// Two copies of a database write different logs; their one archive takes only the first.
#[test]
fn a_copy_of_the_database_does_not_mix_in() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let builder = builder.background(false).archive(ARCHIVE).archive_limit(1 << 20);
    let db = builder.clone().open(DB).unwrap();
    commit_until_refused(&db, 0, 50);
    db.backup(REPO).unwrap();
    db.close().unwrap();
    fs.create_dir(Path::new("/copy")).unwrap();
    for (path, _) in disk.files().into_iter().filter(|(path, _)| path.starts_with(DB)) {
        let to = Path::new("/copy").join(path.file_name().unwrap());
        disk.write_file(to, &disk.read_file(&path).unwrap()).unwrap();
    }
    let db = builder.clone().open(DB).unwrap();
    assert!(commit_until_refused(&db, 50, 600).1.is_none());
    db.close().unwrap();
    let copy = builder.clone().open("/copy").unwrap();
    let (_, error, _) = commit_until_refused(&copy, 5000, 5000);
    let text = error.unwrap().to_string();
    assert!(text.contains("it holds another log-"), "{text}");
    drop(copy);
    restore(&fs, LATEST, "/new").unwrap();
    assert_eq!(content(&builder, "/new"), content(&builder, DB));
}

/// The option costs nothing where it is not used: the same operations on the disk, the same files.
#[test]
fn without_the_option_nothing_is_copied() {
    let disk = SimDisk::without_history();
    let (_, builder) = on(&disk);
    let db = builder.background(false).open(DB).unwrap();
    commit_until_refused(&db, 0, 400);
    assert_eq!(db.stats().archive_held_bytes, 0);
    drop(db);
    let places = disk.files().into_iter().map(|(path, _)| path);
    assert!(places.into_iter().all(|path| path.starts_with(DB)));
}

/// On the system's files: another disk, and a folder that is taken away under the database.
#[test]
#[cfg(target_os = "linux")]
fn the_archive_lies_on_another_disk_and_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    // A rename from one to the other would fail.
    let other = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let archive = other.path().join("deep/archive");
    let (path, repository) = (dir.path().join("db"), dir.path().join("backups"));
    let builder = Database::builder().memory_budget(1 << 20).durability(Durability::Buffered);
    let builder: Builder = builder.archive(&archive).archive_limit(2 << 20).background(false);
    let db = builder.clone().open(&path).unwrap();
    commit_until_refused(&db, 0, 10);
    db.backup(&repository).unwrap();
    assert!(commit_until_refused(&db, 10, 500).1.is_none());
    let count = || std::fs::read_dir(&archive).unwrap().count();
    assert!(count() > 1, "{} files", count());
    let away = other.path().join("away");
    std::fs::rename(&archive, &away).unwrap();
    let (done, error, _) = commit_until_refused(&db, 510, 5000);
    assert!(matches!(error, Some(Error::Archive { .. })), "{done} {error:?}");
    std::fs::rename(&away, &archive).unwrap();
    let (_, error, last) = commit_until_refused(&db, 510 + done, 500);
    assert!(error.is_none(), "{error:?}");
    let count = db.keyspace("k").unwrap().len().unwrap();
    db.close().unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem::new());
    let request = Request::new(&repository).log(&archive).log(&path).until(Until::Lsn(last));
    let target = dir.path().join("new");
    let restored = backup::restore_to(&fs, &request, &target, &mut |_| {}).unwrap();
    assert_ne!(restored.database, restored.source_database);
    assert_eq!(Database::open(&target).unwrap().keyspace("k").unwrap().len().unwrap(), count);
}
