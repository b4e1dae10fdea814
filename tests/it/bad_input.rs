//! Bad input: each gets a typed error that says what to do, and leaves every byte as it was.

use crate::support::files;
use highwater::{Database, Error, MAX_KEY_BYTES};
use std::fs;
use std::path::{Path, PathBuf};

/// A small closed database with a table, a manifest and live log.
fn database(dir: &Path) -> PathBuf {
    let path = dir.join("db");
    let db = Database::open(&path).unwrap();
    let items = db.keyspace("items").unwrap();
    for i in 0..2000_u32 {
        items.insert_with(i.to_be_bytes(), vec![7; 100], highwater::Durability::Memory).unwrap();
    }
    db.checkpoint().unwrap();
    items.insert("late", "in the log").unwrap();
    db.close().unwrap();
    path
}

fn file_like(path: &Path, start: &str) -> PathBuf {
    let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let name = names.iter().find(|name| name.to_str().unwrap().starts_with(start)).unwrap();
    path.join(name)
}

/// Spoils a database, expects the open to fail as `fits` says, and the files to stay as they are.
fn refused(what: &str, spoil: impl Fn(&Path), fits: impl Fn(&Error) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    spoil(&path);
    let before = files(&path);
    for read_only in [true, false] {
        let error = Database::builder()
            .read_only(read_only)
            .open(&path)
            .and_then(|db| {
                let items = db.keyspace("items")?;
                db.snapshot().iter(&items)?.try_for_each(|entry| entry.map(drop))
            })
            .unwrap_err();
        assert!(fits(&error), "{what}: {error:?}");
        assert!(error.to_string().contains(';'), "{what}: no advice in {error}");
        assert_eq!(files(&path), before, "{what}: something was written");
    }
}

#[test]
fn damaged_files_are_refused_with_their_name() {
    let damage = |name: &'static str| move |error: &Error| matches!(error, Error::Damage { file, .. } if file.file_name().unwrap().to_str().unwrap().starts_with(name));
    refused("no table", |p| fs::remove_file(file_like(p, "table-")).unwrap(), damage("table-"));
    refused(
        "a short table",
        |p| {
            let path = file_like(p, "table-");
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        },
        damage("table-"),
    );
    refused(
        "a flipped table",
        |p| {
            let path = file_like(p, "table-");
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
        },
        damage("table-"),
    );
    refused("no segment", |p| fs::remove_file(file_like(p, "log-")).unwrap(), damage("log-"));
    refused(
        "a short segment",
        |p| {
            let file = fs::File::options().write(true).open(file_like(p, "log-")).unwrap();
            file.set_len(5000).unwrap();
        },
        damage("log-"),
    );
    refused("no manifest", |p| fs::remove_file(p.join("MANIFEST")).unwrap(), damage("MANIFEST"));
    refused(
        "an empty manifest",
        |p| fs::write(p.join("MANIFEST"), b"").unwrap(),
        damage("MANIFEST"),
    );
    refused(
        "another format",
        |p| {
            fs::write(p.join("MANIFEST"), b"SQLite format 3\0 and so on, more than a header")
                .unwrap()
        },
        damage("MANIFEST"),
    );
}

/// Sets bytes in the head of a file, and the checksum behind them as a newer version would have.
fn rewrite(path: &Path, at: usize, bytes: &[u8], crc_at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32fast::hash(&content[..crc_at]);
    content[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, content).unwrap();
}

fn is_newer(error: &Error) -> bool {
    matches!(error, Error::Unsupported { found, supported, .. } if found > supported)
}

#[test]
fn a_newer_version_is_unsupported_not_damaged() {
    let version = 99_u32.to_le_bytes();
    refused("a newer manifest", |p| rewrite(&p.join("MANIFEST"), 8, &version, 60), is_newer);
    refused("a newer log", |p| rewrite(&file_like(p, "log-"), 8, &version, 4092), is_newer);
    let feature = [0, 0, 0, 0, 1];
    refused("a feature", |p| rewrite(&p.join("MANIFEST"), 32, &feature, 60), is_newer);
    refused("a feature", |p| rewrite(&file_like(p, "log-"), 16, &feature, 4092), is_newer);
}

/// What only a writer must know is no reason to refuse a reader.
#[test]
fn a_feature_for_writers_leaves_the_database_readable() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let manifest = path.join("MANIFEST");
    rewrite(&manifest, 24, &[0, 0, 0, 0, 1], 60);
    // The checksum of the body covers the header, but for the header's own.
    let mut bytes = fs::read(&manifest).unwrap();
    let body_end = bytes.len() - 4;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..60]);
    hasher.update(&bytes[64..body_end]);
    bytes[body_end..].copy_from_slice(&hasher.finalize().to_le_bytes());
    fs::write(&manifest, bytes).unwrap();
    let before = files(&path);
    let error = Database::open(&path).unwrap_err();
    assert!(is_newer(&error), "{error:?}");
    let db = Database::builder().read_only(true).open(&path).unwrap();
    assert_eq!(db.existing_keyspace("items").unwrap().get("late").unwrap().unwrap(), b"in the log");
    assert_eq!(files(&path), before);
}

#[test]
fn a_manifest_of_gigabytes_is_not_read_into_memory() {
    let grow = |p: &Path| {
        fs::File::options().write(true).open(p.join("MANIFEST")).unwrap().set_len(1 << 40).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    grow(&path);
    let error = Database::open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::Damage { file, .. } if file.ends_with("MANIFEST")),
        "{error:?}"
    );
}

#[test]
fn a_path_that_is_no_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    assert!(matches!(Database::open(&file), Err(Error::NotADatabase { .. })));
    assert!(matches!(
        Database::open(file.join("below")),
        Err(Error::Io { .. } | Error::NotADatabase { .. })
    ));

    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("holiday.jpg"), "picture").unwrap();
    assert!(matches!(Database::open(&foreign), Err(Error::NotADatabase { .. })));
    assert_eq!(
        fs::read_dir(&foreign).unwrap().count(),
        1,
        "a file was made in a foreign directory"
    );

    let missing = dir.path().join("missing");
    for builder in [Database::builder().create(false), Database::builder().read_only(true)] {
        assert!(matches!(builder.open(&missing), Err(Error::NotFound { .. })));
    }
    assert!(!missing.exists());
    assert!(matches!(Database::open(""), Err(Error::InvalidArgument(_))));
}

#[test]
fn foreign_files_beside_a_database_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    fs::write(path.join("notes.txt"), "mine").unwrap();
    fs::write(path.join("log-zz.hwl"), "not ours either").unwrap();
    fs::create_dir(path.join("folder")).unwrap();
    let db = Database::open(&path).unwrap();
    assert_eq!(db.keyspace("items").unwrap().len().unwrap(), 2001);
    db.compact().unwrap();
    db.close().unwrap();
    assert_eq!(fs::read(path.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(path.join("log-zz.hwl")).unwrap(), b"not ours either");
    assert!(path.join("folder").exists());
}

#[test]
fn keys_values_and_names_have_limits() {
    let db = Database::in_memory().unwrap();
    let items = db.keyspace("items").unwrap();
    let longest = vec![1; MAX_KEY_BYTES];
    items.insert(&longest, "v").unwrap();
    assert_eq!(items.get(&longest).unwrap().unwrap(), b"v");
    let over = vec![1; MAX_KEY_BYTES + 1];
    assert!(matches!(items.insert(&over, "v"), Err(Error::Limit { limit: 65_535, .. })));
    assert_eq!(items.get(&over).unwrap(), None);
    assert!(matches!(db.keyspace(""), Err(Error::InvalidArgument(_))));
    assert!(matches!(db.keyspace(&"n".repeat(256)), Err(Error::Limit { limit: 255, .. })));
    assert!(matches!(db.existing_keyspace("none"), Err(Error::KeyspaceNotFound { .. })));
    let other = Database::in_memory().unwrap();
    let foreign = other.keyspace("items").unwrap();
    assert!(matches!(db.snapshot().get(&foreign, "k"), Err(Error::InvalidArgument(_))));
}

#[test]
fn values_of_many_sizes_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::builder().memory_budget(4 << 20).open(dir.path().join("db")).unwrap();
    let items = db.keyspace("items").unwrap();
    let sizes = [0, 1, 8191, 8192, 8193, 100_000, 300_000, 1 << 20, 5 << 20, 20 << 20];
    for (i, size) in sizes.into_iter().enumerate() {
        items.insert([i as u8], vec![i as u8; size]).unwrap();
    }
    let check = |db: &Database| {
        let items = db.existing_keyspace("items").unwrap();
        for (i, size) in sizes.into_iter().enumerate() {
            assert!(items.get([i as u8]).unwrap().unwrap() == vec![i as u8; size], "{size}");
        }
    };
    check(&db);
    db.compact().unwrap();
    check(&db);
    db.close().unwrap();
    check(
        &Database::builder()
            .read_mode(highwater::ReadMode::Pread)
            .open(dir.path().join("db"))
            .unwrap(),
    );
}

#[test]
fn a_closed_database_says_so() {
    let db = Database::in_memory().unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("k", "v").unwrap();
    let snapshot = db.snapshot();
    db.clone().close().unwrap();
    assert!(matches!(items.insert("k", "w"), Err(Error::Closed)));
    assert!(matches!(db.write(), Err(Error::Closed)));
    assert_eq!(snapshot.get(&items, "k").unwrap().unwrap(), "v");
    db.close().unwrap();
}

#[test]
fn a_read_only_open_beside_the_owner_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = database(dir.path());
    let owner = Database::open(&path).unwrap();
    let items = owner.keyspace("items").unwrap();
    items.insert("now", "durable").unwrap();
    owner.sync().unwrap();
    let before = files(&path);
    let reader = Database::builder().read_only(true).open(&path).unwrap();
    let seen = reader.existing_keyspace("items").unwrap();
    assert_eq!(seen.get("late").unwrap().unwrap(), b"in the log");
    assert!(matches!(seen.insert("k", "v"), Err(Error::ReadOnly)));
    assert!(matches!(reader.checkpoint(), Err(Error::ReadOnly)));
    reader.close().unwrap();
    assert_eq!(files(&path), before);
    items.insert("and", "goes on").unwrap();
}

/// A directory without permission, and a file system that is mounted read-only: reading goes on where it
/// can, writing says why not, and nothing is changed.
#[test]
fn permissions_and_read_only_file_systems_are_told() {
    use highwater::fs::FileSystem;
    use highwater::fs::sim::SimDisk;
    use std::sync::Arc;
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let open = |read_only| {
        Database::builder().file_system(fs.clone()).read_only(read_only).open("/db").map(drop)
    };
    let db = Database::builder().file_system(fs.clone()).open("/db").unwrap();
    db.keyspace("items").unwrap().insert("k", "v").unwrap();
    db.close().unwrap();
    let before = disk.content_hash();

    disk.set_read_only(true);
    assert!(matches!(open(false), Err(Error::Io { .. })), "{:?}", open(false));
    open(true).unwrap();
    disk.set_read_only(false);

    disk.deny("/db/MANIFEST");
    for read_only in [false, true] {
        let error = open(read_only).unwrap_err();
        assert!(
            matches!(&error, Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied),
            "{error:?}"
        );
        assert!(error.to_string().contains("check"), "no advice in {error}");
    }
    disk.allow("/db/MANIFEST");
    assert_eq!(disk.content_hash(), before);
    open(false).unwrap();
}

/// A segment takes groups only when the next one is there: after a death its loss is damage, also when it
/// held nothing.
#[test]
fn a_missing_successor_of_a_segment_with_commits_is_damage() {
    let disk = highwater::fs::sim::SimDisk::new();
    let options = |disk: &highwater::fs::sim::SimDisk| {
        Database::builder().file_system(std::sync::Arc::new(disk.clone())).background(false)
    };
    let db = options(&disk).open("/db").unwrap();
    db.keyspace("items").unwrap().insert("key", "value").unwrap();
    let left = disk.kill();
    let is_segment = |path: &PathBuf| path.to_string_lossy().contains("/log-");
    let mut segments: Vec<_> = left.files().into_iter().map(|(path, _)| path).collect();
    segments.retain(is_segment);
    segments.sort();
    let last = segments.pop().unwrap();
    assert!(!segments.is_empty());
    left.remove_file(&last).unwrap();
    for read_only in [true, false] {
        let error = options(&left).read_only(read_only).open("/db").unwrap_err();
        let names_it = matches!(&error, Error::Damage { file, .. } if *file == last);
        assert!(names_it && error.to_string().contains("the log segment is missing"), "{error:?}");
    }
}
