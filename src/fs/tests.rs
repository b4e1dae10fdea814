//! One contract, two file systems: every case runs on the operating system's files and on the simulated
//! disk, with and without history.

use super::os::OsFileSystem;
use super::sim::SimDisk;
use super::*;
use std::io::ErrorKind;

type Case = (&'static str, fn(&dyn FileSystem, &Path));

const CASES: &[Case] = &[
    ("open and create", open_and_create),
    ("read and write", read_and_write),
    ("directories", directories),
    ("rename", rename),
    ("remove", remove),
    ("lengths", lengths),
    ("allocate", allocate),
    ("map", map),
    ("lock", lock),
    ("lock file text", lock_file_text),
    ("clock, chance and threads", clock_chance_and_threads),
];

#[test]
fn both_file_systems_keep_the_contract() {
    for (name, case) in CASES {
        println!("{name}: operating system");
        let dir = tempfile::tempdir().unwrap();
        case(&OsFileSystem::new(), dir.path());
        for (kind, disk) in [("recording", SimDisk::new()), ("plain", SimDisk::without_history())] {
            println!("{name}: simulated, {kind}");
            disk.create_dir(Path::new("/base")).unwrap();
            case(&disk, Path::new("/base"));
        }
    }
}

fn open_and_create(fs: &dyn FileSystem, root: &Path) {
    let path = root.join("a");
    assert_eq!(fs.kind(&path).unwrap(), PathKind::Missing);
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(fs.open(&path, mode).unwrap_err().kind(), ErrorKind::NotFound);
    }
    put(fs, &path, b"12");
    assert_eq!(fs.kind(&path).unwrap(), PathKind::File);
    let taken = fs.open(&path, OpenMode::CreateNew).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    let reader = fs.open(&path, OpenMode::Read).unwrap();
    assert!(reader.write_at(b"x", 0).is_err());
    assert_eq!(reader.len().unwrap(), 2);
    let writer = fs.open(&path, OpenMode::ReadWrite).unwrap();
    write_full(&*writer, b"3", 1).unwrap();
    assert_eq!(get(fs, &path), b"13");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(fs.open(root, mode).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
    let below_file = fs.kind(&path.join("b")).unwrap_err();
    assert_eq!(below_file.kind(), ErrorKind::NotADirectory);
}

fn read_and_write(fs: &dyn FileSystem, root: &Path) {
    let file = fs.open(&root.join("a"), OpenMode::CreateNew).unwrap();
    assert!(file.is_empty().unwrap());
    // Lengths around sectors, pages and chunks; a hole before each.
    let mut expected = Vec::new();
    for (index, len) in [1, 511, 512, 513, 4096, 16_383, 16_384, 16_385, 40_000].iter().enumerate()
    {
        let offset = expected.len() + index * 777;
        let bytes: Vec<u8> = (0..*len).map(|at| (at * 7 + index) as u8).collect();
        write_full(&*file, &bytes, offset as u64).unwrap();
        expected.resize(offset, 0);
        expected.extend(bytes);
        assert_eq!(file.len().unwrap(), expected.len() as u64);
    }
    write_full(&*file, &[9; 30_000], 1000).unwrap();
    expected[1000..31_000].fill(9);
    let mut all = vec![1; expected.len() + 100];
    assert_eq!(read_full(&*file, &mut all, 0).unwrap(), expected.len());
    assert_eq!(all[..expected.len()], expected);
    assert_eq!(all[expected.len()..], [1; 100]);
    let mut part = [0; 1000];
    read_exact(&*file, &mut part, 15_900).unwrap();
    assert_eq!(part[..], expected[15_900..16_900]);
    let end = expected.len() as u64;
    assert_eq!(file.read_at(&mut part, end).unwrap(), 0);
    assert_eq!(file.read_at(&mut part, u64::from(u32::MAX) * 2).unwrap(), 0);
    assert_eq!(read_full(&*file, &mut part, end - 10).unwrap(), 10);
    let early = read_exact(&*file, &mut part, end - 10).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(file.write_at(&[], 5).unwrap(), 0);
    assert_eq!(file.len().unwrap(), end);
    file.start_writeback(0, end);
    sync_data(&*file, Barrier::Copy).unwrap();
}

fn directories(fs: &dyn FileSystem, root: &Path) {
    let dir = root.join("d");
    fs.create_dir(&dir).unwrap();
    assert_eq!(fs.kind(&dir).unwrap(), PathKind::Directory);
    assert_eq!(fs.create_dir(&dir).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let orphan = fs.create_dir(&root.join("x/y")).unwrap_err();
    assert_eq!(orphan.kind(), ErrorKind::NotFound);
    assert_eq!(fs.list(&dir).unwrap(), []);
    assert_eq!(fs.list(&root.join("x")).unwrap_err().kind(), ErrorKind::NotFound);
    put(fs, &dir.join("b"), b"123");
    put(fs, &dir.join("a"), b"");
    fs.create_dir(&dir.join("c")).unwrap();
    let mut entries = fs.list(&dir).unwrap();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let entry = |name: &str, len, is_dir| DirEntry { name: name.to_owned(), len, is_dir };
    assert_eq!(entries, [entry("a", 0, false), entry("b", 3, false), entry("c", 0, true)]);
    assert_eq!(fs.list(&dir.join("b")).unwrap_err().kind(), ErrorKind::NotADirectory);
    sync_dir(fs, &dir, Barrier::SegmentName).unwrap();
    sync_dir(fs, root, Barrier::CreateParent).unwrap();
    assert!(fs.sync_dir(&root.join("x"), Barrier::SegmentName).is_err());
    assert!(fs.allocated_bytes(&dir).unwrap() >= 3);
}

fn rename(fs: &dyn FileSystem, root: &Path) {
    let (old, new) = (root.join("old"), root.join("new"));
    assert_eq!(fs.rename(&old, &new).unwrap_err().kind(), ErrorKind::NotFound);
    put(fs, &old, b"one");
    fs.rename(&old, &new).unwrap();
    assert_eq!(fs.kind(&old).unwrap(), PathKind::Missing);
    put(fs, &old, b"two");
    let replaced = fs.open(&new, OpenMode::Read).unwrap();
    fs.rename(&old, &new).unwrap();
    assert_eq!(get(fs, &new), b"two");
    let mut bytes = [0; 3];
    read_exact(&*replaced, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"one", "an open file outlives its name");
    fs.rename(&new, &new).unwrap();
    assert_eq!(get(fs, &new), b"two");
    fs.create_dir(&root.join("d")).unwrap();
    let elsewhere = fs.rename(&new, &root.join("d/new")).unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::InvalidInput);
    assert_eq!(fs.rename(&new, &root.join("d")).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(fs.rename(&root.join("d"), &new).unwrap_err().kind(), ErrorKind::NotADirectory);
}

fn remove(fs: &dyn FileSystem, root: &Path) {
    let path = root.join("a");
    assert_eq!(fs.remove(&path).unwrap_err().kind(), ErrorKind::NotFound);
    put(fs, &path, b"here");
    let open = fs.open(&path, OpenMode::ReadWrite).unwrap();
    fs.remove(&path).unwrap();
    assert_eq!(fs.kind(&path).unwrap(), PathKind::Missing);
    write_full(&*open, b"!", 4).unwrap();
    let mut bytes = [0; 5];
    read_exact(&*open, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"here!", "an open file outlives its name");
    put(fs, &path, b"other");
    assert_eq!(get(fs, &path), b"other");
    assert!(fs.remove(root).is_err());
}

fn lengths(fs: &dyn FileSystem, root: &Path) {
    let path = root.join("a");
    put(fs, &path, &[7; 20_000]);
    let file = fs.open(&path, OpenMode::ReadWrite).unwrap();
    // A cut takes the bytes with it.
    for len in [17_000, 16_384, 600, 512, 100, 0] {
        file.set_len(len).unwrap();
        file.set_len(20_000).unwrap();
        let bytes = get(fs, &path);
        assert!(bytes[..len as usize].iter().all(|&byte| byte == 7), "{len}");
        assert!(bytes[len as usize..].iter().all(|&byte| byte == 0), "{len}");
        assert_eq!(bytes.len(), 20_000);
    }
    let reader = fs.open(&path, OpenMode::Read).unwrap();
    assert!(reader.set_len(3).is_err());
    assert!(file.set_len(u64::MAX).is_err());
    assert!(file.write_at(b"x", u64::MAX - 4).is_err());
    assert_eq!(file.len().unwrap(), 20_000);
}

fn allocate(fs: &dyn FileSystem, root: &Path) {
    let path = root.join("a");
    put(fs, &path, b"kept");
    let file = fs.open(&path, OpenMode::ReadWrite).unwrap();
    for (len, expected) in [(0, 4), (2, 4), (4, 4), (100_000, 100_000), (50, 100_000)] {
        file.allocate(len).unwrap();
        assert_eq!(file.len().unwrap(), expected);
    }
    let bytes = get(fs, &path);
    assert_eq!(&bytes[..4], b"kept");
    assert!(bytes[4..].iter().all(|&byte| byte == 0));
    assert!(fs.allocated_bytes(root).unwrap() >= 100_000);
}

fn map(fs: &dyn FileSystem, root: &Path) {
    let path = root.join("a");
    let bytes: Vec<u8> = (0..50_000u32).map(|at| (at / 3) as u8).collect();
    put(fs, &path, &bytes);
    let file = fs.open(&path, OpenMode::Read).unwrap();
    for len in [0, 1, 4096, 49_999, 50_000] {
        assert_eq!(file.map(len as u64).unwrap()[..], bytes[..len]);
    }
    for len in [50_001, u64::MAX] {
        assert_eq!(file.map(len).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

fn lock(fs: &dyn FileSystem, root: &Path) {
    let path = root.join("LOCK");
    let me = Some(std::process::id());
    assert_eq!(fs.lock_holder(&path).unwrap(), None);
    assert_eq!(fs.kind(&path).unwrap(), PathKind::Missing, "probing creates nothing");
    for _ in 0..2 {
        let guard = acquired(fs, &path);
        assert_eq!(get(fs, &path), format!("{}\n", std::process::id()).as_bytes());
        for _ in 0..2 {
            assert_eq!(fs.lock_holder(&path).unwrap(), Some(Holder { pid: me }));
            match fs.lock(&path).unwrap() {
                LockOutcome::Held { pid } => assert_eq!(pid, me),
                LockOutcome::Acquired(_) => panic!("locked twice"),
            }
        }
        drop(guard);
        assert_eq!(fs.lock_holder(&path).unwrap(), None);
    }
    assert!(fs.lock(&root.join("missing/LOCK")).is_err());
}

fn lock_file_text(fs: &dyn FileSystem, root: &Path) {
    let path = root.join("LOCK");
    put(fs, &path, b"4294967295\n");
    assert_eq!(fs.lock_holder(&path).unwrap(), None, "the text is not the lock");
    drop(acquired(fs, &path));
    assert_eq!(get(fs, &path), format!("{}\n", std::process::id()).as_bytes());
    for foreign in [&b"hello"[..], &[b'9'; 12], &[0; 5000]] {
        fs.remove(&path).unwrap();
        put(fs, &path, foreign);
        let refused = fs.lock(&path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
        assert_eq!(get(fs, &path), foreign);
        assert_eq!(fs.lock_holder(&path).unwrap(), None);
    }
    fs.remove(&path).unwrap();
    put(fs, &path, b"12\0\0");
    let _guard = acquired(fs, &path);
    assert_eq!(get(fs, &path), format!("{}\n", std::process::id()).as_bytes());
}

fn clock_chance_and_threads(fs: &dyn FileSystem, _root: &Path) {
    let (before, steady) = (fs.now_micros(), fs.monotonic());
    assert!(before > 1_500_000_000_000_000);
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = fs.spawn("a\0name", Box::new(move || sender.send(5).unwrap())).unwrap();
    thread.join();
    assert_eq!(receiver.recv().unwrap(), 5);
    assert!(fs.monotonic() >= steady);
    assert_ne!(fs.random().unwrap(), fs.random().unwrap());
    fs.spawn("ends", Box::new(|| {})).unwrap().join();
}

#[test]
fn a_lock_of_the_system_can_be_probed_without_write_access() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("LOCK");
    let fs = OsFileSystem::new();
    let guard = acquired(&fs, &path);
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert!(fs.lock_holder(&path).unwrap().is_some());
    drop(guard);
    assert_eq!(fs.lock_holder(&path).unwrap(), None);
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
}

#[cfg(unix)]
#[test]
fn a_lock_of_the_system_holds_against_other_processes_and_dies_with_them() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    const PATH: &str = "HIGHWATER_TEST_LOCK_PATH";
    let fs = OsFileSystem::new();
    if let Ok(path) = std::env::var(PATH) {
        // The other process: this test again.
        let _guard = acquired(&fs, Path::new(&path));
        println!("locked");
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("LOCK");
    let name = "fs::tests::a_lock_of_the_system_holds_against_other_processes_and_dies_with_them";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(PATH, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The harness may put its own words on the same line.
    assert!(lines.any(|line| line.unwrap().contains("locked")), "the other process ended");
    let pid = Some(child.id());
    assert_eq!(fs.lock_holder(&path).unwrap(), Some(Holder { pid }));
    let held = matches!(fs.lock(&path).unwrap(), LockOutcome::Held { pid: found } if found == pid);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(held);
    assert_eq!(fs.lock_holder(&path).unwrap(), None);
    drop(acquired(&fs, &path));
}

#[cfg(unix)]
#[test]
fn names_of_the_system_that_lead_nowhere_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("gone"), &link).unwrap();
    let fs = OsFileSystem::new();
    assert_eq!(fs.kind(&link).unwrap(), PathKind::File);
    assert_eq!(fs.kind(Path::new("")).unwrap(), PathKind::Directory);
    fs.sync_dir(Path::new(""), Barrier::CreateParent).unwrap();
}

/// Freed in steps, and only if nobody can notice.
#[cfg(target_os = "linux")]
#[test]
fn a_large_file_goes_and_those_who_have_it_open_or_mapped_or_linked_keep_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let fs = OsFileSystem::new();
    let bytes: Vec<u8> = (0..5_000_001_u32).map(|n| (n / 7) as u8).collect();
    for name in ["alone", "open", "mapped", "linked"] {
        put(&fs, &path(name), &bytes);
        let open = (name == "open").then(|| fs.open(&path(name), OpenMode::Read).unwrap());
        let map = (name == "mapped").then(|| {
            let file = fs.open(&path(name), OpenMode::Read).unwrap();
            file.map(bytes.len() as u64).unwrap()
        });
        if name == "linked" {
            std::fs::hard_link(path(name), path("other name")).unwrap();
        }
        fs.remove_large(&path(name)).unwrap();
        assert_eq!(fs.kind(&path(name)).unwrap(), PathKind::Missing);
        if let Some(file) = open {
            assert_eq!(file.len().unwrap(), bytes.len() as u64);
        }
        assert!(map.is_none_or(|map| map[..] == bytes[..]));
        assert!(name != "linked" || get(&fs, &path("other name")) == bytes);
    }
    assert_eq!(fs.remove_large(&path("alone")).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs.create_dir(&path("directory")).unwrap();
    assert!(fs.remove_large(&path("directory")).is_err());
}

/// It is about to be cut, perhaps: what is read of it could be anything.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_lost_its_name_while_it_was_opened_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let fs = OsFileSystem::new();
    put(&fs, &path, b"here");
    let file = std::fs::File::open(&path).unwrap();
    fs.remove(&path).unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    let again = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
    assert_eq!(fs.open(&again, OpenMode::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
}

fn acquired(fs: &dyn FileSystem, path: &Path) -> Box<dyn LockGuard> {
    match fs.lock(path).unwrap() {
        LockOutcome::Acquired(guard) => guard,
        LockOutcome::Held { pid } => panic!("held by {pid:?}"),
    }
}

fn put(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) {
    let file = fs.open(path, OpenMode::CreateNew).unwrap();
    write_full(&*file, bytes, 0).unwrap();
}

fn get(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    read_exact(&*file, &mut bytes, 0).unwrap();
    bytes
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn the_system_tells_what_of_a_mapping_is_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (len, page) = (3 << 20, 64 << 10);
    let file = OsFileSystem::new().open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    // Of a hole nobody has read there is nothing in memory.
    file.set_len(len as u64).unwrap();
    let map = file.map(len as u64).unwrap();
    assert!(!map.is_resident(0..len) && !map.is_resident(len - 1..len));
    assert!(!map.is_resident(len..len + 1), "not of the file");
    for at in (0..len).step_by(page) {
        assert_eq!(file.write_at(&vec![1; page], at as u64).unwrap(), page);
        assert!(map.is_resident(at..at + page) && map.is_resident(at + 4095..at + 4097));
    }
    assert!(map.is_resident(0..len) && map.is_resident(4095..len - 4095));
    assert!(!Mapping::Copied(vec![0; 9]).is_resident(0..9), "that is not known");
}
