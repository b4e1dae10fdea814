//! Databases that are the same, byte for byte, on every run: made on the simulated disk, whose clock and
//! random numbers come from a seed, and copied to a real directory.

use highwater::fs::FileSystem;
use highwater::fs::sim::SimDisk;
use highwater::{Database, Durability, Lsn};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// 2026-11-21 09:30:00 UTC.
const THEN_MICROS: u64 = 1_795_253_400_000_000;

/// How the database was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Closed.
    Clean,
    /// Its process was killed.
    Killed,
}

/// Makes it in `dir`. Gives the LSNs of its last commits.
///
/// Two tables (a base, and an upper one with tombstones, a range of removed keys and a large value) and
/// six commits in the log; keyspaces `users`, `ships`, and `odd`, with bytes that are no text.
pub fn make(dir: &Path, end: End) -> Vec<Lsn> {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    disk.set_clock_micros(THEN_MICROS);
    let builder = Database::builder().file_system(fs).background(false);
    let db = builder.simulation_sizes(256 << 10).open("/db").unwrap();
    let pause = || disk.advance_clock(Duration::from_secs(1));
    let users = db.keyspace("users").unwrap();
    for i in 0..300_u32 {
        let value = format!("value {i} of the first round");
        users.insert_with(format!("user{i:04}"), value, Durability::Buffered).unwrap();
    }
    pause();
    db.checkpoint().unwrap();
    let ships = db.keyspace("ships").unwrap();
    ships.insert("beagle", "1820").unwrap();
    ships.insert("large", vec![b'x'; 20_000]).unwrap();
    users.remove("user0007").unwrap();
    let mut tx = db.write().unwrap();
    tx.remove_range(&users, "user0100".."user0110").unwrap();
    tx.insert(&users, "user0200", "of the second round").unwrap();
    tx.commit().unwrap();
    pause();
    db.checkpoint().unwrap();
    let odd = db.keyspace("odd").unwrap();
    let mut lsns = Vec::new();
    for (keyspace, key, value) in [
        (&users, "ada".as_bytes(), "1815".as_bytes()),
        (&users, b"grace", b"1906"),
        (&odd, b"\x00\xff\n", b"\x1b[31m"),
        (&users, b"ada", b"1852"),
    ] {
        pause();
        lsns.push(keyspace.insert(key, value).unwrap());
    }
    pause();
    lsns.push(users.remove("grace").unwrap());
    match end {
        End::Clean => {
            db.close().unwrap();
            copy(&disk, dir);
        }
        End::Killed => {
            let killed = disk.kill();
            drop(db);
            copy(&killed, dir);
        }
    }
    lsns
}

fn copy(disk: &SimDisk, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    for (path, _) in disk.files() {
        let name = path.file_name().unwrap();
        std::fs::write(dir.join(name), disk.read_file(&path).unwrap()).unwrap();
    }
    // It names the process that had it open last.
    std::fs::write(dir.join("LOCK"), "12345\n").unwrap();
}

/// The first file of the directory whose name starts so.
pub fn file(dir: &Path, start: &str) -> PathBuf {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.collect();
    found.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(start));
    found.sort();
    found.into_iter().next().unwrap()
}

/// Changes one bit.
pub fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}
