//! Backups and restores: consistent under load, incremental, and safe against whatever happens to the
//! repository.

use highwater::backup::{self, Options, Request, Until};
use highwater::check::{ContentHash, ContentHasher};
use highwater::fs::sim::{EnumerationLimits, SimDisk};
use highwater::fs::{FileSystem, os::OsFileSystem};
use highwater::{Builder, Database, Durability, Error, Lsn};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const DB: &str = "/db";
const REPO: &str = "/backups";

pub type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

pub fn hash(model: &Model) -> ContentHash {
    let mut hasher = ContentHasher::new();
    for (name, entries) in model {
        hasher.keyspace(name);
        entries.iter().for_each(|(key, value)| hasher.entry(key, value));
    }
    hasher.finish()
}

pub fn on(disk: &SimDisk) -> (Arc<dyn FileSystem>, Builder) {
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    (fs.clone(), Database::builder().file_system(fs).memory_budget(1 << 20))
}

pub fn content(builder: &Builder, path: &str) -> ContentHash {
    builder.clone().read_only(true).open(path).unwrap().snapshot().content_hash().unwrap()
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn a_backup_under_full_load_is_one_point_in_commit_order() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let db = builder.clone().durability(Durability::Memory).open(DB).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    // Commit number i (from 2 on) sets one key; the state at any commit can be told from its number.
    let change =
        |i: u64| (format!("key{:04}", i * 7919 % 600), vec![i as u8; 200 + (i % 97) as usize * 40]);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut backups, mut copied) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut i = 2;
            while !stop.load(Ordering::Relaxed) {
                let (key, value) = change(i);
                keyspace.insert(key, value).unwrap();
                written.store(i, Ordering::Relaxed);
                i += 1;
            }
        });
        for round in 1..=6 {
            while written.load(Ordering::Relaxed) < round * 250 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let backup = db.backup(REPO).unwrap();
            copied.push((backup.copied_bytes, backup.bytes()));
            backups.push(backup);
        }
        stop.store(true, Ordering::Relaxed);
    });
    db.close().unwrap();
    assert!(backups.last().unwrap().seqno.get() > 1000, "the writer hardly ran: {backups:?}");
    backup::verify(&fs, REPO, None, &mut |_| {}).unwrap();
    for backup in &backups {
        let mut entries = BTreeMap::new();
        for i in 2..=backup.seqno.get() {
            let (key, value) = change(i);
            entries.insert(key.into_bytes(), value);
        }
        let expected = hash(&BTreeMap::from([("k".to_owned(), entries)]));
        let target = format!("/restored{}", backup.number);
        let restored =
            backup::restore(&fs, REPO, Some(backup.number), &target, &mut |_| {}).unwrap();
        assert_eq!((restored.seqno, restored.lsn), (backup.seqno, backup.lsn));
        assert_eq!(backup.content, Some(expected), "backup {}", backup.number);
        assert_eq!(content(&builder, &target), expected, "backup {}", backup.number);
    }
}

#[test]
fn what_an_earlier_backup_brought_is_not_copied_again() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let db = builder.clone().open(DB).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..2000_u32 {
        keyspace.insert_with(i.to_be_bytes(), [7; 300], Durability::Memory).unwrap();
    }
    db.compact().unwrap();
    let full = db.backup(REPO).unwrap();
    assert!(full.copied_bytes >= full.bytes() && full.bytes() > 600_000);
    keyspace.insert("one", "more").unwrap();
    let next = db.backup(REPO).unwrap();
    assert!(next.copied_bytes < 10_000, "{next:?}");
    assert_ne!(next.content, full.content);
    let again = db.backup_with(REPO, Options::default().hash(false).check_earlier(true)).unwrap();
    assert_eq!((again.content, again.seqno), (None, next.seqno));

    // A damaged copy is replaced: with a look at its ends if they are damaged, else if it is checked.
    let table = full.files[0];
    let path = format!("{REPO}/table-{:016x}.hwt", table.file_id.get());
    disk.flip_bit(&path, table.bytes / 2, 3).unwrap();
    let error = backup::verify(&fs, REPO, None, &mut |_| {}).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains(".hwt"), "{error}");
    assert!(backup::restore(&fs, REPO, Some(1), "/no", &mut |_| {}).unwrap_err().is_damage());
    assert!(!disk.files().iter().any(|(path, _)| path.starts_with("/no")), "left behind");
    let healed = db.backup_with(REPO, Options::default().check_earlier(true)).unwrap();
    assert!(healed.copied_bytes >= table.bytes);
    let verified = backup::verify(&fs, REPO, None, &mut |_| {}).unwrap();
    assert_eq!((verified.backups, verified.leftovers), (vec![1, 2, 3, 4], vec![]));
    backup::restore(&fs, REPO, Some(1), "/one", &mut |_| {}).unwrap();
    assert_eq!(Some(content(&builder, "/one")), full.content);
    assert_eq!(
        backup::drill(&fs, REPO, None, "/drill", &mut |_| {}).unwrap().is_same(),
        Some(true)
    );
    let error = backup::drill(&fs, REPO, None, "/drill", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "a target that exists: {error}");
}

#[test]
fn a_reader_beside_the_owner_makes_a_backup() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let owner = builder.clone().open(DB).unwrap();
    let keyspace = owner.keyspace("k").unwrap();
    keyspace.insert("a", "1").unwrap();
    owner.maintain().unwrap();
    let reader = builder.clone().read_only(true).open(DB).unwrap();
    let backup = reader.backup(REPO).unwrap();
    assert_eq!(backup.content, Some(reader.snapshot().content_hash().unwrap()));
    keyspace.insert("a", "2").unwrap();
    let later = owner.backup(REPO).unwrap();
    for backup in [backup, later] {
        let target = format!("/r{}", backup.number);
        backup::restore(&fs, REPO, Some(backup.number), &target, &mut |_| {}).unwrap();
        assert_eq!(Some(content(&builder, &target)), backup.content);
    }
}

#[test]
fn a_repository_is_guarded() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    let db = builder.clone().open(DB).unwrap();
    db.keyspace("k").unwrap().insert("a", "1").unwrap();
    for place in ["", "/db", "/db/backups", "/"] {
        let error = db.backup(place).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{place}: {error}");
    }
    db.backup(REPO).unwrap();
    // Another database does not mix in.
    let other = builder.clone().open("/other").unwrap();
    let error = other.backup(REPO).unwrap_err();
    assert!(error.to_string().contains("holds backups of database"), "{error}");
    // Two at once.
    let held = fs.lock(Path::new("/backups/LOCK")).unwrap();
    assert!(matches!(db.backup(REPO).unwrap_err(), Error::Locked { .. }));
    drop(held);
    // Somebody's own directory.
    fs.create_dir(Path::new("/home")).unwrap();
    disk.write_file("/home/notes.txt", b"mine").unwrap();
    assert!(db.backup("/home").unwrap_err().to_string().contains("notes.txt"));
    assert_eq!(disk.files().iter().filter(|(path, _)| path.starts_with("/home")).count(), 1);
    // A backup whose own file is damaged or gone is none; the others stand.
    db.backup(REPO).unwrap();
    disk.flip_bit("/backups/backup-0000000000000002.hwb", 50, 1).unwrap();
    let listed = backup::list(&*fs, REPO).unwrap();
    assert!(listed[0].backup.is_ok() && listed[1].backup.is_err());
    assert!(backup::restore(&fs, REPO, None, "/new", &mut |_| {}).unwrap_err().is_damage());
    backup::restore(&fs, REPO, Some(1), "/new", &mut |_| {}).unwrap();
    assert_eq!(db.backup(REPO).unwrap().number, 3);
    for place in ["/backups/new", "/backups", "/db", "/"] {
        let error = backup::restore(&fs, REPO, Some(1), place, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{place}: {error}");
    }
    let error = backup::restore(&fs, REPO, Some(77), "/n", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[test]
#[cfg(unix)]
fn links_do_not_hide_where_a_path_leads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Database::open(&path).unwrap();
    db.keyspace("k").unwrap().insert("a", "1").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(db.backup(link.join("b")).unwrap_err(), Error::InvalidArgument(_)));
    let repository = dir.path().join("backups");
    db.backup(&repository).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem::new());
    let other = dir.path().join("other");
    std::os::unix::fs::symlink(&repository, &other).unwrap();
    let error = backup::restore(&fs, &repository, None, other.join("x"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    backup::restore(&fs, &other, None, dir.path().join("new"), &mut |_| {}).unwrap();
}

#[test]
fn a_full_disk_ends_a_backup_and_nothing_else() {
    let disk = SimDisk::new();
    let (fs, builder) = on(&disk);
    let db = builder.clone().background(false).open(DB).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..60_u32 {
        keyspace.insert(i.to_be_bytes(), [9; 3000]).unwrap();
    }
    db.checkpoint().unwrap();
    db.backup(REPO).unwrap();
    keyspace.insert("later", [3; 5000]).unwrap();
    db.compact().unwrap();
    let used = disk.used_bytes();
    let mut refused = 0;
    for spare in (0..400_000).step_by(20_000) {
        disk.set_capacity(Some(used + spare));
        match db.backup(REPO) {
            Ok(_) => break,
            Err(Error::NoSpace { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        let verified = backup::verify(&fs, REPO, None, &mut |_| {}).unwrap();
        assert_eq!((verified.backups, verified.leftovers), (vec![1], vec![]));
        keyspace.insert("a", "still works").unwrap();
    }
    assert!(refused > 2, "the disk was never full");
    disk.set_capacity(None);
    let backup = db.backup(REPO).unwrap();
    backup::restore(&fs, REPO, None, "/new", &mut |_| {}).unwrap();
    assert_eq!(Some(content(&builder, "/new")), backup.content);
}

/// The power fails at every operation of a backup: what is listed afterwards is whole, and the backup
/// before it stands.
#[test]
fn a_backup_that_broke_off_is_none() {
    let disk = SimDisk::new();
    let (_, builder) = on(&disk);
    let db = builder.clone().background(false).open(DB).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("a", [1; 2000]).unwrap();
    db.checkpoint().unwrap();
    db.backup(REPO).unwrap();
    keyspace.insert("b", [2; 2000]).unwrap();
    db.checkpoint().unwrap();
    keyspace.insert("c", [3; 300]).unwrap();
    disk.restart_recording();
    let second = db.backup(REPO).unwrap();
    disk.mark(2);
    let limits = EnumerationLimits { per_family: 2, samples: 2, ..EnumerationLimits::default() };
    let (mut images, mut whole) = (0, 0);
    for point in disk.record().walker() {
        for choice in point.choices(&limits, 5) {
            images += 1;
            let image = point.image(&choice);
            let (fs, builder) = on(&image);
            let verified = backup::verify(&fs, REPO, None, &mut |_| {}).unwrap();
            assert!(verified.backups[0] == 1, "the first backup is gone");
            assert!(point.marks().is_empty() || verified.backups == [1, 2]);
            if verified.backups.len() == 2 {
                whole += 1;
                backup::restore(&fs, REPO, None, "/new", &mut |_| {}).unwrap();
                assert_eq!(Some(content(&builder, "/new")), second.content);
            }
            // What is left over is in nobody's way.
            if images % 5 == 0 {
                let db = builder.clone().background(false).open(DB).unwrap();
                let third = db.backup(REPO).unwrap();
                drop(db);
                let target = "/third";
                backup::restore(&fs, REPO, Some(third.number), target, &mut |_| {}).unwrap();
                assert_eq!(Some(content(&builder, target)), third.content);
            }
        }
    }
    assert!(images > 60 && whole > 5, "{images} images, {whole} whole");
}

/// A history with everything in it: the LSN that each commit returned, and the state after it.
pub fn history(
    db: &Database,
    random: &mut Random,
    model: &mut Model,
    steps: usize,
) -> Vec<(Lsn, Model)> {
    let mut states = Vec::new();
    for step in 0..steps {
        let names: Vec<String> = model.keys().cloned().collect();
        let lsn = match random.below(12) {
            // (One of that name may be left of an earlier life.)
            0 if names.len() < 4 && !names.contains(&format!("space{step}")) => {
                let name = format!("space{step}");
                let keyspace = db.keyspace(&name).unwrap();
                model.insert(name.clone(), BTreeMap::new());
                drop(keyspace);
                db.sync().unwrap()
            }
            1 if names.len() > 2 => {
                let name = &names[random.below(names.len() as u64) as usize];
                model.remove(name);
                db.drop_keyspace(&db.existing_keyspace(name).unwrap()).unwrap()
            }
            kind => {
                let Some(name) = names.get(random.below(names.len().max(1) as u64) as usize) else {
                    continue;
                };
                let keyspace = db.existing_keyspace(name).unwrap();
                let entries = model.get_mut(name).unwrap();
                let mut tx = db.write().unwrap();
                for _ in 0..1 + random.below(4) {
                    let key = format!("{:03}", random.below(80)).into_bytes();
                    // Now and then in several groups, or in tables of its own.
                    let bytes = match kind {
                        2 => 120_000 + random.below(90_000),
                        3 => 9000,
                        _ => random.below(300),
                    };
                    let value = vec![step as u8; bytes as usize];
                    tx.insert(&keyspace, &key, &value).unwrap();
                    entries.insert(key, value);
                }
                if kind == 4 {
                    tx.remove_range(&keyspace, &b"020"[..]..&b"040"[..]).unwrap();
                    entries.retain(|key, _| key.as_slice() < b"020" || key.as_slice() >= b"040");
                }
                if kind == 5 {
                    let key = format!("{:03}", random.below(80)).into_bytes();
                    tx.remove(&keyspace, &key).unwrap();
                    entries.remove(&key);
                }
                tx.commit().unwrap()
            }
        };
        states.push((lsn, model.clone()));
    }
    states
}

/// A random point among `states`. The first is where a backup ends. (The point that a sync returns lies up to a
/// block behind the commit that it covers: between the two there is no telling which state it is.)
pub fn point_among(states: &[(Lsn, Model)], random: &mut Random) -> Lsn {
    let (first, last) = (states[0].0.get(), states.last().unwrap().0.get());
    let lsn = first + random.below(last - first + 1);
    let synced = states
        .iter()
        .map(|(at, _)| at.get())
        .find(|at| at % 4096 == 0 && lsn < *at && lsn + 4096 > *at);
    Lsn(synced.unwrap_or(lsn))
}

#[test]
fn a_hundred_points_of_the_log_behind_a_backup() {
    let disk = SimDisk::without_history();
    let (fs, builder) = on(&disk);
    // So much memory that no checkpoint releases the log.
    let builder = builder.memory_budget(256 << 20).background(false);
    let mut random = Random(5);
    let mut model = Model::new();
    let db = builder.clone().open(DB).unwrap();
    history(&db, &mut random, &mut model, 30);
    let backup = db.backup(REPO).unwrap();
    let mut states = vec![(backup.lsn, model.clone())];
    // Little enough that the close makes none either.
    states.extend(history(&db, &mut random, &mut model, 60));
    drop(db);
    // Another epoch.
    let db = builder.clone().open(DB).unwrap();
    states.extend(history(&db, &mut random, &mut model, 100));
    drop(db);
    let last = states.last().unwrap().0;
    let points: Vec<Lsn> = (0..100).map(|_| point_among(&states, &mut random)).collect();
    // Each thread on a copy of the disk.
    std::thread::scope(|scope| {
        for points in points.chunks(25) {
            let (states, disk) = (&states, disk.fork());
            scope.spawn(move || {
                let (fs, builder) = on(&disk);
                for lsn in points {
                    let expected = &states.iter().rev().find(|(at, _)| at <= lsn).unwrap().1;
                    let request = Request::new(REPO).log(DB).until(Until::Lsn(*lsn));
                    let plan = backup::plan_restore(&fs, &request).unwrap();
                    let restored =
                        backup::restore_to(&fs, &request, "/point", &mut |_| {}).unwrap();
                    assert_eq!((plan.seqno, plan.lsn), (restored.seqno, restored.lsn));
                    let found = content(&builder, "/point");
                    assert_eq!(found, hash(expected), "LSN {lsn}: {restored:?}");
                    for (path, _) in disk.files() {
                        if path.starts_with("/point") {
                            disk.remove_file(&path).unwrap();
                        }
                    }
                }
            });
        }
    });
    let error = backup::plan_restore(
        &fs,
        &Request::new(REPO).log(DB).until(Until::Lsn(Lsn(last.get() + (64 << 20)))),
    );
    assert!(error.unwrap_err().to_string().contains("does not reach"));
    // The clock of the commits.
    let all = Request::new(REPO).log(DB).until(Until::Time(u64::MAX));
    backup::restore_to(&fs, &all.number(Some(1)), "/all", &mut |_| {}).unwrap();
    assert_eq!(content(&builder, "/all"), hash(&states.last().unwrap().1));

    // Damage in the middle: no point behind it, every point before it.
    let segment = disk.files().into_iter().map(|(path, _)| path);
    let mut segments: Vec<_> =
        segment.filter(|path| path.to_string_lossy().contains("/db/log-")).collect();
    segments.sort();
    assert!(segments.len() > 3, "{segments:?}");
    disk.remove_file(&segments[2]).unwrap();
    let to_damage = Request::new(REPO).log(DB).until(Until::Damage);
    let restored = backup::restore_to(&fs, &to_damage, "/damage", &mut |_| {}).unwrap();
    let before = states.iter().rev().find(|(at, _)| *at <= restored.lsn).unwrap();
    assert_eq!(content(&builder, "/damage"), hash(&before.1));
    assert_eq!(restored.gap_after, Some(restored.seqno));
    assert!(restored.lsn > backup.lsn && restored.lsn < last);
    let behind = Request::new(REPO).log(DB).until(Until::Lsn(last));
    let error = backup::restore_to(&fs, &behind, "/behind", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::LogGap { .. }), "{error}");
}
