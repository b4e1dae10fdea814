//! The simulated disk as its users meet it: choices, marks, images, tampering. Exact crash states are in
//! [`scripts`], faults and settings in [`faults`]; [`random`] compares with a second, simpler machine.

mod faults;
mod random;
mod scripts;

use super::*;
use crate::fs::{File, FileSystem, OpenMode, sync_data, sync_dir, write_full};
use std::collections::BTreeSet;

/// Exhaustive, as far as these scripts go.
const LIMITS: EnumerationLimits =
    EnumerationLimits { exhaustive_units: 12, per_family: 64, samples: 0, torn_sectors: false };

#[test]
fn torn_sectors_are_zeros_or_garbage_and_nothing_else_changes() {
    let disk = prepared();
    write(&disk, "a", 0, b'C', 1024);
    let point = disk.crash_point();
    let limits = EnumerationLimits { torn_sectors: true, ..LIMITS };
    let mut garbage = 0;
    let mut shown = BTreeSet::new();
    for choice in point.choices(&limits, 3) {
        let torn = choice.outcomes().iter().any(|outcome| matches!(outcome, Outcome::Garbage(_)));
        if torn {
            garbage += 1;
            let bytes = point.image(&choice).read_file("a").unwrap();
            assert_eq!(bytes.len(), 1024);
            let whole = bytes.chunks(512).filter(|half| half.iter().all(|byte| *byte == half[0]));
            assert_eq!(whole.count(), 1, "{}", point.describe(&choice));
        } else {
            shown.insert(render(&point.image(&choice)));
        }
    }
    assert_eq!(garbage, 4);
    for image in ["a:.512B512", "a:.512C512", "a:A512.512", "a:C512.512"] {
        assert!(shown.contains(image), "{image}");
    }
    assert_eq!(shown.len(), 8);
}

#[test]
fn zeros_on_new_sectors_matter_only_when_torn() {
    let disk = prepared();
    create(&disk, "b", 0, 1 << 20);
    let point = disk.crash_point();
    assert_eq!(point.units().len(), 2 + 2048);
    assert_eq!(point.units().iter().filter(|unit| unit.silent).count(), 2048);
    // The name and the length.
    assert_eq!(point.choices(&LIMITS, 0).count(), 4);
    let torn = EnumerationLimits { torn_sectors: true, ..LIMITS };
    assert_eq!(point.choices(&torn, 0).count(), 4 + 4 * 64);
}

#[test]
fn many_units_are_sampled_by_families() {
    let disk = prepared();
    for sector in 0..40 {
        write(&disk, "a", sector * 512, b'C', 512);
    }
    let point = disk.crash_point();
    // Sectors, and one length with a version for every growth.
    assert_eq!(point.units().len(), 41);
    let operations: Vec<usize> = point.units().iter().map(|unit| unit.operation).collect();
    assert!(operations.is_sorted());
    let limits = EnumerationLimits { samples: 100, ..LIMITS };
    let choices: Vec<Choice> = point.choices(&limits, 1).collect();
    assert_eq!(choices.len(), 2 + 2 * 41 + 2 * 40 + 2 * 37 + 100);
    let all: BTreeSet<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
    assert!(all.len() > choices.len() - 40, "{} of {}", all.len(), choices.len());
    for outcome in [Outcome::Old, Outcome::New] {
        assert!(choices.contains(&Choice::all(outcome, 41)));
        for unit in 0..41 {
            let other = if outcome == Outcome::Old { Outcome::New } else { Outcome::Old };
            assert!(choices.contains(&Choice::all(outcome, 41).with(unit, other)));
        }
    }
    let few = EnumerationLimits { per_family: 5, samples: 3, ..LIMITS };
    assert_eq!(point.choices(&few, 1).count(), 2 + 10 + 10 + 10 + 3);
    let again: Vec<Choice> = point.choices(&limits, 1).collect();
    assert_eq!(again, choices, "the same seed, the same choices");
}

#[test]
fn marks_belong_to_the_crash_points_from_their_place_on() {
    let disk = SimDisk::new();
    disk.mark(10);
    create(&disk, "a", b'A', 1);
    disk.mark(11);
    disk.mark(12);
    sync(&disk, "a");
    disk.mark(13);
    let recording = disk.record();
    assert_eq!(recording.operations(), 3);
    let seen: Vec<Vec<u64>> = recording
        .walker()
        .map(|point| point.marks().iter().map(|mark| mark.payload).collect())
        .collect();
    assert_eq!(seen, [vec![10], vec![10], vec![10, 11, 12], vec![10, 11, 12, 13]]);
    let words: Vec<String> =
        (0..3).map(|index| recording.operation(index).unwrap().to_string()).collect();
    assert_eq!(words, ["create /a", "write /a 0..1", "sync /a (Copy): durable"]);
    disk.restart_recording();
    assert_eq!((disk.operations(), disk.record().marks().len()), (0, 0));
    assert_eq!(recording.marks().len(), 4, "a recording does not change any more");
    assert_eq!(images(&disk.record().crash_point(0)), images(&disk.crash_point()));
}

#[test]
fn images_are_new_disks() {
    let disk = prepared();
    let guard = disk.lock(Path::new("LOCK")).unwrap();
    disk.set_capacity(Some(1));
    write(&disk, "a", 0, b'C', 512);
    let image = disk.power_cut(1);
    assert!(!matches!(image.lock(Path::new("LOCK")).unwrap(), crate::fs::LockOutcome::Held { .. }));
    let image = disk.durable_image();
    assert_eq!((render(&image).as_str(), image.operations()), ("a:A512B512", 0));
    assert_eq!(images(&image.crash_point()).len(), 1);
    // The copy goes its own way, and so does the original.
    create(&image, "b", b'N', 4000);
    write(&disk, "a", 512, b'D', 512);
    assert_eq!(disk.read_file("a").unwrap()[512], b'D');
    assert_eq!(image.read_file("a").unwrap()[512], b'B');
    // A second life is recorded from the image on.
    assert_eq!(images(&image.record().crash_point(0)), BTreeSet::from(["a:A512B512".to_owned()]));
    assert_eq!(image.record().operations(), 2);
    let fates: BTreeSet<u64> = (0..20).map(|seed| disk.power_cut(seed).random().unwrap()).collect();
    assert!(fates.len() > 2, "lives after different power cuts draw different numbers");
    let next = disk.kill();
    assert!(next.lock_holder(Path::new("LOCK")).unwrap().is_none());
    assert!(disk.lock_holder(Path::new("LOCK")).unwrap().is_some());
    assert_eq!(next.content_hash(), disk.content_hash());
    assert_eq!(images(&next.crash_point()), images(&disk.crash_point()));
    drop(guard);
}

#[test]
fn without_history_all_is_durable_and_nothing_is_kept() {
    let disk = SimDisk::without_history();
    let file = disk.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
    write_full(&*file, &[1; 100_000], 0).unwrap();
    disk.mark(1);
    assert_eq!(disk.power_cut(3).content_hash(), disk.content_hash());
    assert_eq!(disk.record().operations(), 0);
    assert_eq!(disk.record().walker().count(), 1);
    assert_eq!(disk.record().crash_point(0).units(), []);
    remove(&disk, "/a");
    assert_eq!(disk.used_bytes(), 100_352, "still open");
    drop(file);
    assert_eq!(disk.used_bytes(), 0);
    create(&disk, "/b", b'B', 600);
    create(&disk, "/c", b'C', 600);
    rename(&disk, "/b", "/c");
    assert_eq!(disk.used_bytes(), 1024);
}

#[test]
fn a_disk_whose_history_ends_keeps_what_the_process_sees() {
    let disk = prepared();
    create(&disk, "b", b'B', 600);
    write(&disk, "a", 0, b'C', 512);
    remove(&disk, "b");
    create(&disk, "c", b'D', 700);
    rename(&disk, "c", "d");
    let random = disk.fork().random().unwrap();
    disk.end_history();
    let expected = "a:C512B512 d:D700";
    assert_eq!(render(&disk), expected);
    write(&disk, "d", 0, b'E', 700);
    create(&disk, "e", b'F', 1);
    remove(&disk, "a");
    assert_eq!(render(&disk), "d:E700 e:F1");
    assert_eq!(render(&disk.durable_image()), "d:E700 e:F1");
    assert_eq!(images(&disk.crash_point()).len(), 1);
    assert_eq!(disk.used_bytes(), 1024 + 512);
    assert_eq!(disk.random().unwrap(), random, "chance stays simulated");
}

#[test]
fn files_that_nothing_leads_to_are_dropped() {
    let count = |disk: &SimDisk| disk.shared.state.read().model.node_count();
    for (kind, disk, unsynced) in
        [("recording", SimDisk::new(), 1), ("plain", SimDisk::without_history(), 0)]
    {
        create(&disk, "a", b'A', 1);
        create(&disk, "b", b'B', 1);
        sync_names(&disk, "/");
        rename(&disk, "a", "b");
        assert_eq!(count(&disk), 2 + unsynced, "{kind}: the replaced file may come back");
        let open = open(&disk, "b");
        remove(&disk, "b");
        sync_names(&disk, "/");
        assert_eq!((count(&disk), disk.used_bytes()), (2, 512), "{kind}: open");
        assert_eq!((count(&disk.fork()), disk.fork().used_bytes()), (1, 0), "{kind}: copied");
        drop(open);
        assert_eq!((count(&disk), disk.used_bytes()), (1, 0), "{kind}: closed");
    }
}

#[test]
fn tampering_is_durable_and_replayed_but_no_operation() {
    let disk = prepared();
    write(&disk, "a", 0, b'C', 512);
    disk.flip_bit("/a", 3, 5).unwrap();
    let operations = disk.operations();
    let flipped = |letter: u8| (letter ^ 32) as char;
    let (old, new) = (flipped(b'A'), flipped(b'C'));
    let expected = BTreeSet::from([format!("a:A3{old}1A508B512"), format!("a:C3{new}1C508B512")]);
    assert_eq!(images(&disk.crash_point()), expected);
    disk.write_file("b", b"xyz").unwrap();
    create(&disk, "c", b'c', 0);
    disk.remove_file("c").unwrap();
    disk.write_file("a", b"").unwrap();
    assert_eq!(disk.operations(), operations + 1);
    assert_eq!(images(&disk.crash_point()), BTreeSet::from(["a: b:x1y1z1".to_owned()]));
    let recording = disk.record();
    assert_eq!(images(&recording.crash_point(operations + 1)), images(&disk.crash_point()));
    assert_eq!(disk.files(), [(PathBuf::from("/a"), 0), (PathBuf::from("/b"), 3)]);
    for missing in [disk.remove_file("x"), disk.flip_bit("a", 0, 0), disk.write_file("/", b"")] {
        assert!(missing.is_err());
    }
}

/// A disk with the durable file `a` of `A` and `B`.
fn prepared() -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file("a", &[[b'A'; 512], [b'B'; 512]].concat()).unwrap();
    disk.restart_recording();
    disk
}

/// All images that the choices give, in words; every hash is checked on the way.
fn images(point: &CrashPoint) -> BTreeSet<String> {
    let image = |choice: &Choice| {
        let image = point.image(choice);
        assert_eq!(image.content_hash(), point.image_hash(choice), "{}", point.describe(choice));
        render(&image)
    };
    point.choices(&LIMITS, 0).map(|choice| image(&choice)).collect()
}

/// `name:` and runs of bytes, each with its length; zeros as dots.
fn render(disk: &SimDisk) -> String {
    let file = |path: &Path| {
        let bytes = disk.read_file(path).unwrap();
        let mut text = format!("{}:", path.strip_prefix("/").unwrap().display());
        if bytes == format!("{}\n", std::process::id()).as_bytes() {
            return text + "pid";
        }
        for run in bytes.chunk_by(|one, other| one == other) {
            let letter = if run[0] == 0 { '.' } else { run[0] as char };
            text.push_str(&format!("{letter}{}", run.len()));
        }
        text
    };
    disk.files().iter().map(|(path, _)| file(path)).collect::<Vec<_>>().join(" ")
}

fn open(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), OpenMode::ReadWrite).unwrap()
}

fn create(disk: &SimDisk, path: &str, letter: u8, len: usize) {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    write_full(&*file, &vec![letter; len], 0).unwrap();
}

fn write(disk: &SimDisk, path: &str, offset: u64, letter: u8, len: usize) {
    write_full(&*open(disk, path), &vec![letter; len], offset).unwrap();
}

fn set_len(disk: &SimDisk, path: &str, len: u64) {
    open(disk, path).set_len(len).unwrap();
}

fn allocate(disk: &SimDisk, path: &str, len: u64) {
    open(disk, path).allocate(len).unwrap();
}

fn sync(disk: &SimDisk, path: &str) {
    sync_data(&*open(disk, path), Barrier::Copy).unwrap();
}

fn sync_names(disk: &SimDisk, path: &str) {
    sync_dir(disk, Path::new(path), Barrier::Copy).unwrap();
}

fn rename(disk: &SimDisk, from: &str, to: &str) {
    disk.rename(Path::new(from), Path::new(to)).unwrap();
}

fn remove(disk: &SimDisk, path: &str) {
    disk.remove(Path::new(path)).unwrap();
}
