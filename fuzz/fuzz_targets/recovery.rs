//! An open of a directory in which anything was changed. It may refuse, and then must not have changed
//! anything; if it opens, what it shows must still be there after the next open.
#![no_main]

use highwater::fs::sim::SimDisk;
use highwater::{Builder, Database, Durability, fuzzing};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

type Content = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fuzz_target!(|data: &[u8]| {
    let Some((&which, edits)) = data.split_first() else { return };
    let templates = templates();
    let disk = templates[usize::from(which) % templates.len()].fork();
    for edit in edits.chunks(EDIT_BYTES) {
        change(&disk, edit);
    }
    let before = files(&disk);
    let read_only = options(&disk).read_only(true).open(DIRECTORY).map(|db| content(&db));
    assert_eq!(files(&disk), before, "a read-only open wrote");
    let db = match options(&disk).open(DIRECTORY) {
        Ok(db) => db,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(files(&disk), before, "an open that refused changed something: {error}");
            return;
        }
    };
    let Some(found) = content(&db) else { return };
    if let Ok(Some(read_only)) = read_only {
        assert_eq!(read_only, found, "a read-only open shows something else");
    }
    let more = db.keyspace("more").and_then(|more| more.insert("more", "yes"));
    if more.is_err() || db.close().is_err() {
        return;
    }
    let db = options(&disk).open(DIRECTORY).expect("what was closed opens");
    let mut expected = found;
    expected.insert(("more".to_owned(), b"more".to_vec()), b"yes".to_vec());
    assert_eq!(content(&db).as_ref(), Some(&expected), "the next open shows something else");
});

/// More than any template holds.
const MOST_ENTRIES: usize = 1000;
const DIRECTORY: &str = "/db";
const EDIT_BYTES: usize = 8;

/// One change: file, kind, place (three bytes, as a share of the file), value (two bytes), mend.
fn change(disk: &SimDisk, edit: &[u8]) {
    let mut bytes = [0; EDIT_BYTES];
    bytes[..edit.len()].copy_from_slice(edit);
    let [file, kind, high, middle, low, value, more, mend] = bytes;
    let files = disk.files();
    let Some((path, length)) = files.get(usize::from(file) % files.len().max(1)) else { return };
    let Ok(mut content) = disk.read_file(path) else { return };
    let place = u64::from(u32::from_be_bytes([0, high, middle, low]));
    let at = match kind & 0x80 {
        // The first bytes of a file are the most interesting.
        0 => (place % 8192).min(length.saturating_sub(1)) as usize,
        _ => (place * length.max(&1) >> 24) as usize,
    };
    match kind & 0x7f {
        0 => {
            let _ = disk.remove_file(path);
            return;
        }
        1 => content.truncate(at),
        2 => content.clear(),
        3 => content.resize(content.len() + usize::from(more) * 512, value),
        4 => {
            // Another file of the directory in its place.
            let other = &files[usize::from(value) % files.len()].0;
            content = disk.read_file(other).unwrap_or_default();
        }
        5 => {
            // A part of the same file somewhere else.
            let from = usize::from(value) * 4096 % content.len().max(1);
            let count = (usize::from(more) * 64).min(content.len() - from.max(at));
            content.copy_within(from..from + count, at);
        }
        6 => {
            // Any name of ours.
            let name = ["MANIFEST.new", "LOCK", "RESERVE", "table-00000000000000ff.hwt"];
            let name = name[usize::from(value) % name.len()];
            let _ = disk.write_file(Path::new(DIRECTORY).join(name), &[more; 100]);
            return;
        }
        7 => {
            let end = (at + usize::from(more) * 16).min(content.len());
            content[at.min(end)..end].fill(value);
        }
        _ => {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= value;
            }
            if let Some(byte) = content.get_mut(at + 1) {
                *byte ^= more;
            }
        }
    }
    if mend & 1 == 1 {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        match name.as_deref() {
            Some("MANIFEST") => fuzzing::mend_manifest(&mut content),
            Some(name) if name.ends_with(".hwt") => fuzzing::mend_table(&mut content),
            Some(name) if name.starts_with("log-") => fuzzing::mend_segment(&mut content),
            _ => {}
        }
    }
    let _ = disk.write_file(path, &content);
}

fn options(disk: &SimDisk) -> Builder {
    let builder = Database::builder().file_system(Arc::new(disk.clone())).background(false);
    builder.memory_budget(1 << 20).segment_size(1 << 20)
}

/// All files but the lock, whose content is for people.
fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| disk.read_file(&path).ok().map(|bytes| (path, bytes));
    disk.files()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("LOCK"))
        .filter_map(|(path, _)| read(path))
        .collect()
}

/// Everything that can be read; `None` if something cannot.
fn content(db: &Database) -> Option<Content> {
    let snapshot = db.snapshot();
    let mut found = Content::new();
    for name in snapshot.keyspaces() {
        let keyspace = db.existing_keyspace(&name).ok()?;
        for (number, entry) in snapshot.iter(&keyspace).ok()?.enumerate() {
            let (key, value) = entry.ok()?;
            found.insert((name.clone(), key.into_vec()), value.into_vec());
            // Keys out of order in a block with a right checksum can send a range in a circle.
            if number > MOST_ENTRIES {
                return None;
            }
        }
    }
    Some(found)
}

/// Databases to start from: closed and killed, with and without tables, and an empty one.
fn templates() -> &'static [SimDisk] {
    static TEMPLATES: OnceLock<Vec<SimDisk>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let mut made = Vec::new();
        for tables in [false, true] {
            for closed in [false, true] {
                let disk = SimDisk::new();
                let db = options(&disk).open(DIRECTORY).expect("a new database");
                fill(&db, tables);
                if closed {
                    db.close().expect("a clean close");
                }
                let left = disk.kill();
                left.restart_recording();
                made.push(left);
            }
        }
        made.push(SimDisk::new());
        made
    })
}

fn fill(db: &Database, tables: bool) {
    let users = db.keyspace("users").expect("a keyspace");
    let items = db.keyspace("items").expect("a keyspace");
    for number in 0..30_u32 {
        let mut tx = db.write().expect("a transaction");
        tx.insert(&users, number.to_be_bytes(), [1; 40]).expect("an insertion");
        tx.insert(&items, [number as u8], vec![2; number as usize * 50]).expect("an insertion");
        let durability = if number % 3 == 0 { Durability::Sync } else { Durability::Buffered };
        tx.commit_with(durability).expect("a commit");
        if tables && number % 10 == 9 {
            db.checkpoint().expect("a checkpoint");
        }
    }
    let mut tx = db.write().expect("a transaction");
    tx.remove_range(&users, [0, 0, 0, 3]..[0, 0, 0, 7]).expect("a removal");
    tx.commit().expect("a commit");
    db.maintain().expect("a witness");
    users.insert("last", "unwitnessed").expect("a commit");
}
