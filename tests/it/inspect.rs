//! What looks at a database without opening it: verify finds all damage, the log is read whole, states can
//! be opened and compared, bytes are named; and nothing is ever written.

use crate::support::Random;
use highwater::check::{self, Difference, Found, History, Level, LogItem, Loss, VerifyOptions};
use highwater::fs::FileSystem;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Error, Lsn};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/db";

/// A database with several tables, large values, range tombstones and live log over several groups.
fn database(clean: bool) -> SimDisk {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let builder = Database::builder().file_system(fs).background(false).memory_budget(1 << 20);
    // A base of several tables.
    let db = builder.table_size(64 << 10).open(DIR).unwrap();
    let items = db.keyspace("items").unwrap();
    let other = db.keyspace("other").unwrap();
    for round in 0..3_u32 {
        for i in 0..400_u32 {
            let value = vec![round as u8; 200];
            items.insert_with(i.to_be_bytes(), value, Durability::Memory).unwrap();
        }
        other.insert("large", vec![round as u8; 20_000]).unwrap();
        let mut tx = db.write().unwrap();
        tx.remove_range(&other, "x".as_bytes().."y".as_bytes()).unwrap();
        tx.commit().unwrap();
        db.checkpoint().unwrap();
    }
    for i in 0..30_u32 {
        items.insert(i.to_be_bytes(), "late").unwrap();
    }
    db.maintain().unwrap();
    if clean {
        db.close().unwrap();
        return disk;
    }
    let killed = disk.kill();
    drop(db);
    killed
}

fn shared(disk: &SimDisk) -> Arc<dyn FileSystem> {
    Arc::new(disk.clone())
}

fn findings(disk: &SimDisk, level: Level) -> Vec<check::Finding> {
    let before = disk.content_hash();
    let found = check::verify(&shared(disk), DIR, &VerifyOptions::new(level), &mut |_, _| {});
    assert_eq!(disk.content_hash(), before, "a verify wrote");
    found.unwrap().unwrap().findings
}

/// The first error of an open and of reading everything.
fn opens(disk: &SimDisk) -> Result<(), Error> {
    let db = Database::builder().file_system(shared(disk)).read_only(true).open(DIR)?;
    let snapshot = db.snapshot();
    for name in snapshot.keyspaces() {
        let keyspace = db.existing_keyspace(&name)?;
        snapshot.iter(&keyspace)?.try_for_each(|entry| entry.map(drop))?;
    }
    Ok(())
}

#[test]
fn sound_databases_have_no_findings() {
    for clean in [true, false] {
        let disk = database(clean);
        for level in [Level::Quick, Level::Log, Level::Full] {
            assert_eq!(findings(&disk, level), [], "clean {clean}, {level:?}");
        }
        let options = VerifyOptions::new(Level::Full);
        let found = check::verify(&shared(&disk), DIR, &options, &mut |_, _| {}).unwrap().unwrap();
        let all: u64 = disk.files().iter().map(|(_, bytes)| bytes).sum();
        let counted: u64 = found.scopes.iter().map(|s| s.checked_bytes + s.skipped_bytes).sum();
        assert_eq!(counted, all, "{:?}", found.scopes);
        assert!(found.tables > 1 && found.log_groups >= 30, "{found:?}");
        // A sample reads less, and says so.
        let sample = VerifyOptions::new(Level::Full).sample(0.3);
        let part = check::verify(&shared(&disk), DIR, &sample, &mut |_, _| {}).unwrap().unwrap();
        let skipped = |v: &check::Verified| {
            v.scopes.iter().find(|s| s.name == "tables").map(|s| s.skipped_bytes)
        };
        assert!(skipped(&part) > Some(0) && skipped(&found) == Some(0));
        assert_eq!(part.loss(), None);
    }
}

/// Whatever makes an open or a read fail is found, with its file; and what is found is not nothing.
#[test]
fn every_flipped_bit_that_matters_is_found() {
    for clean in [true, false] {
        let sound = database(clean);
        let mut random = Random(7);
        let (mut refused, mut found_count) = (0, 0);
        let files: Vec<(PathBuf, u64)> = sound.files();
        for round in 0..400 {
            let (path, length) = &files[random.below(files.len() as u64) as usize];
            if *length == 0 {
                continue;
            }
            let disk = sound.fork();
            let offset = random.below((*length).min(60_000));
            disk.flip_bit(path, offset, random.below(8) as u8).unwrap();
            let found = findings(&disk, Level::Full);
            let label = format!("clean {clean}, round {round}: {} at {offset}", path.display());
            found_count += usize::from(!found.is_empty());
            if let Err(error) = opens(&disk) {
                refused += 1;
                assert!(error.is_damage(), "{label}: {error}");
                let Error::Damage { file, .. } = &error else { unreachable!() };
                assert!(found.iter().any(|f| f.file == *file), "{label}: {error}, {found:?}");
            }
            for finding in &found {
                assert_eq!(finding.file, *path, "{label}: {finding:?}");
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("table-") {
                assert_eq!(found.len(), 1, "{label}: {found:?}");
                let place = &found[0];
                let structure = place.loss == Loss::None || place.bytes == 0;
                let holds = (place.offset..place.offset + place.bytes).contains(&offset);
                assert!(structure || holds, "{label}: {place:?}");
            }
        }
        assert!(refused > 40 && found_count >= refused, "{refused} refused, {found_count} found");
    }
}

/// Two flips in two blocks of a table, one in the log and one in another table: four findings.
#[test]
fn all_damage_is_found_not_only_the_first() {
    let disk = database(true);
    let tables: Vec<PathBuf> =
        disk.files().into_iter().map(|(p, _)| p).filter(|p| is_named(p, "table-")).collect();
    // The files begin with data blocks of up to 16 KiB.
    disk.flip_bit(&tables[0], 100, 1).unwrap();
    disk.flip_bit(&tables[0], 17_000, 1).unwrap();
    disk.flip_bit(&tables[1], 100, 1).unwrap();
    let mut groups = Vec::new();
    check::read_log(&disk, DIR, Lsn::ZERO, &mut |item| {
        if let LogItem::Group { lsn, end, .. } = item {
            groups.push((lsn, end));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let (live, _) = check::reachable(&disk, DIR).unwrap();
    let (at, _) = groups.iter().copied().filter(|(lsn, _)| *lsn >= live).nth(3).unwrap();
    let (second, _) = groups.iter().copied().filter(|(lsn, _)| *lsn >= live).nth(9).unwrap();
    let segment = disk
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| is_named(path, "log-") && base(path) <= at.get())
        .max_by_key(|path| base(path))
        .unwrap();
    // One in a body, one in a header.
    disk.flip_bit(&segment, at.get() - base(&segment) + 90, 0).unwrap();
    disk.flip_bit(&segment, second.get() - base(&segment) + 9, 0).unwrap();
    let found = findings(&disk, Level::Full);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found.iter().all(|finding| finding.loss == Loss::Committed));
    assert_eq!(found.iter().filter(|f| f.lsn_range.is_some()).count(), 2);
    // What is left of the log can still be read.
    let (mut transactions, mut damage) = (0, 0);
    check::read_log(&disk, DIR, live, &mut |item| {
        transactions += u32::from(matches!(item, LogItem::Transaction(_)));
        damage += u32::from(matches!(item, LogItem::Damage { .. }));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((transactions, damage), (28, 2));
}

#[test]
fn damage_that_costs_nothing_is_told_apart() {
    let disk = database(true);
    let segment = disk
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| is_named(path, "log-"))
        .filter(|path| base(path) <= check::reachable(&disk, DIR).unwrap().0.get())
        .max_by_key(|path| base(path))
        .unwrap();
    disk.flip_bit(&segment, 50, 0).unwrap();
    let found = findings(&disk, Level::Full);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].loss, found[0].offset), (Loss::None, 0));
    let disk = database(true);
    let (table, length) =
        disk.files().into_iter().find(|(path, _)| is_named(path, "table-")).unwrap();
    // The footer.
    disk.flip_bit(&table, length - 60, 0).unwrap();
    let found = findings(&disk, Level::Full);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].loss, Loss::None, "{found:?}");
    assert!(found[0].what.contains("entries can still be read"), "{found:?}");
}

#[test]
fn missing_files_are_found() {
    for name in ["MANIFEST", "table-", "log-"] {
        let disk = database(false);
        let live = check::reachable(&disk, DIR).unwrap().0.get();
        let path = disk
            .files()
            .into_iter()
            .map(|(path, _)| path)
            .filter(|path| is_named(path, name))
            .filter(|path| name != "log-" || base(path) <= live)
            .max_by_key(|path| if name == "log-" { base(path) } else { 0 })
            .unwrap();
        disk.remove_file(&path).unwrap();
        assert!(opens(&disk).is_err(), "{name}");
        let found = findings(&disk, Level::Full);
        assert!(found.iter().any(|f| f.file == path && f.loss > Loss::None), "{name}: {found:?}");
    }
}

/// Every state from the checkpoint on can be opened, and is the one that was there.
#[test]
fn states_are_opened_and_compared() {
    let disk = SimDisk::new();
    let fs = shared(&disk);
    let builder = Database::builder().file_system(fs.clone()).background(false);
    let db = builder.open(DIR).unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("before", "the checkpoint").unwrap();
    let early = items.insert("gone", "soon").unwrap();
    db.checkpoint().unwrap();
    let mut random = Random(3);
    let mut states: BTreeMap<Lsn, check::ContentHash> = BTreeMap::new();
    for i in 0..60 {
        let mut tx = db.write().unwrap();
        for _ in 0..=random.below(4) {
            let key = [random.below(20) as u8];
            if random.one_in(4) {
                tx.remove(&items, key).unwrap();
            } else {
                tx.insert(&items, key, i.to_string()).unwrap();
            }
        }
        let durability = if random.one_in(2) { Durability::Sync } else { Durability::Memory };
        let lsn = tx.commit_with(durability).unwrap();
        states.insert(lsn, db.snapshot().content_hash().unwrap());
    }
    db.close().unwrap();
    let before = disk.content_hash();
    for (lsn, hash) in &states {
        let then = check::open_at(fs.clone(), DIR, *lsn).unwrap();
        assert_eq!(then.snapshot().content_hash().unwrap(), *hash, "at {lsn}");
    }
    let (from, to) = check::reachable(&disk, DIR).unwrap();
    for outside in [early, Lsn(to.get() + 8)] {
        match check::open_at(fs.clone(), DIR, outside) {
            Err(Error::NotReachable { at, from: f, to: t, .. }) => {
                assert_eq!((at, f, t), (outside, from, to));
            }
            other => panic!("{other:?}"),
        }
    }
    let (first, last) = (*states.keys().next().unwrap(), *states.keys().last().unwrap());
    let one = check::open_at(fs.clone(), DIR, first).unwrap().snapshot();
    let two = check::open_at(fs.clone(), DIR, last).unwrap().snapshot();
    let mut replayed: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let keyspace = |db: &check::ContentHash| *db;
    let _ = keyspace;
    let open = check::open_at(fs.clone(), DIR, first).unwrap();
    let items = open.existing_keyspace("items").unwrap();
    for entry in open.snapshot().iter(&items).unwrap() {
        let (key, value) = entry.unwrap();
        replayed.insert(key.to_vec(), value.to_vec());
    }
    check::diff(&one, &two, &mut |difference| {
        match difference {
            Difference::Added { key, value, .. } => {
                assert_eq!(replayed.insert(key.to_vec(), value.to_vec()), None);
            }
            Difference::Removed { key, value, .. } => {
                assert_eq!(replayed.remove(key).as_deref(), Some(value));
            }
            Difference::Changed { key, before, after, .. } => {
                let old = replayed.insert(key.to_vec(), after.to_vec());
                assert_eq!(old.as_deref(), Some(before));
            }
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let mut hasher = check::ContentHasher::new();
    hasher.keyspace("items");
    replayed.iter().for_each(|(key, value)| hasher.entry(key, value));
    assert_eq!(hasher.finish(), two.content_hash().unwrap());
    assert_eq!(disk.content_hash(), before, "looking wrote");
}

#[test]
fn a_key_has_its_history() {
    let disk = SimDisk::new();
    let builder = Database::builder().file_system(shared(&disk)).background(false);
    let db = builder.open(DIR).unwrap();
    let items = db.keyspace("items").unwrap();
    items.insert("k", "one").unwrap();
    db.checkpoint().unwrap();
    items.insert("k", "two").unwrap();
    items.remove("k").unwrap();
    db.close().unwrap();
    let found = check::find(&shared(&disk), DIR, "items", b"k").unwrap();
    let told: Vec<&Found> = found
        .iter()
        .map(|history| match history {
            History::Log { what, .. } | History::Table { what, .. } => what,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told[0], &Found::Removed);
    assert_eq!(told[1], &Found::Put(b"two".to_vec()));
    assert!(told.contains(&&Found::Put(b"one".to_vec())), "{found:?}");
    assert!(found.iter().any(|h| matches!(h, History::Table { what: Found::Put(_), .. })));
    assert!(
        check::find(&shared(&disk), DIR, "items", b"other")
            .unwrap()
            .iter()
            .all(|h| { matches!(h, History::Log { what: Found::KeyspaceCreated, .. }) })
    );
}

/// Every byte of every file belongs to a structure whose fields tile it, and sound ones are called sound.
#[test]
fn every_byte_has_a_name() {
    let disk = database(false);
    let mut random = Random(11);
    for (path, length) in disk.files() {
        for round in 0..60 {
            if length == 0 {
                break;
            }
            let offset = if round < 20 { round * length / 20 } else { random.below(length) };
            let found = check::annotate(&disk, &path, offset).unwrap();
            let label = format!("{} at {offset}: {found:?}", path.display());
            assert!((found.offset..found.offset + found.bytes).contains(&offset), "{label}");
            assert!(!found.is_damaged(), "{label}");
            let mut at = found.offset;
            for field in &found.fields {
                assert_eq!(field.offset, at, "{label}");
                at += field.bytes;
            }
            assert_eq!(at, found.offset + found.bytes, "{label}");
        }
    }
}

/// Wrong bytes are called wrong, and nothing panics.
#[test]
fn damaged_structures_are_annotated() {
    let sound = database(false);
    let mut random = Random(12);
    let mut damaged = 0;
    for _ in 0..600 {
        let files = sound.files();
        let (path, length) = &files[random.below(files.len() as u64) as usize];
        if *length == 0 {
            continue;
        }
        let disk = sound.fork();
        let offset = random.below((*length).min(50_000));
        for _ in 0..=random.below(3) {
            disk.flip_bit(path, offset, random.below(8) as u8).unwrap();
        }
        if let Ok(found) = check::annotate(&disk, path, offset) {
            damaged += usize::from(found.is_damaged());
        }
    }
    assert!(damaged > 150, "{damaged}");
}

fn is_named(path: &Path, start: &str) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with(start)
}

fn base(path: &Path) -> u64 {
    let name = path.file_name().unwrap().to_str().unwrap();
    u64::from_str_radix(&name[4..20], 16).unwrap()
}

/// A run of groups that was never synced may keep its second group without its first. An open cuts both;
/// verify called it committed data lost, on a state that a power cut may leave.
#[test]
fn a_torn_run_is_no_damage() {
    let disk = SimDisk::new();
    let builder = Database::builder().file_system(shared(&disk)).background(false);
    let db = builder.open(DIR).unwrap();
    let items = db.keyspace("items").unwrap();
    let kept = items.insert("first", vec![1; 4000]).unwrap();
    let torn = items.insert_with("second", vec![2; 4000], Durability::Buffered).unwrap();
    items.insert_with("third", vec![3; 4000], Durability::Buffered).unwrap();
    let killed = disk.kill();
    drop(db);
    let log = killed.files().into_iter().map(|(path, _)| path);
    let first = log.filter(|path| path.to_string_lossy().contains("log-")).min().unwrap();
    let name = first.file_stem().unwrap().to_string_lossy().into_owned();
    let base = u64::from_str_radix(name.trim_start_matches("log-"), 16).unwrap();
    killed.flip_bit(&first, torn.get() - base - 100, 3).unwrap();

    let found = check::verify(&shared(&killed), DIR, &VerifyOptions::default(), &mut |_, _| {});
    let found = found.unwrap().unwrap();
    assert_eq!(found.findings, []);
    let forecast = found.explanation.unwrap();
    assert!(forecast.trim_bytes > 0 && forecast.unwitnessed_tail, "{forecast:?}");
    opens(&killed).unwrap();
    // What was promised is still found: the same in the group before.
    killed.flip_bit(&first, kept.get() - base - 100, 3).unwrap();
    let found = findings(&killed, Level::Full);
    assert_eq!(found.iter().map(|one| one.loss).collect::<Vec<_>>(), [Loss::Committed]);
}
