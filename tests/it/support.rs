//! What the tests share: seeded randomness, databases on both file systems.

use highwater::check::{Forecast, explain};
use highwater::fs::FileSystem;
use highwater::fs::os::OsFileSystem;
use highwater::fs::sim::SimDisk;
use highwater::{Builder, Database};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Runs a check on the operating system's disk and on the simulated one.
pub fn on_both(check: impl Fn(Arc<dyn FileSystem>, PathBuf)) {
    let dir = tempfile::tempdir().unwrap();
    check(Arc::new(OsFileSystem::new()), dir.path().join("db"));
    check(Arc::new(SimDisk::new()), PathBuf::from("/db"));
}

/// Options that make small data behave like large data.
pub fn small(fs: &Arc<dyn FileSystem>) -> Builder {
    Database::builder().file_system(fs.clone()).memory_budget(1 << 20).table_size(64 << 10)
}

pub fn open(fs: &Arc<dyn FileSystem>, path: &Path) -> Database {
    small(fs).open(path).unwrap()
}

/// Whether something vouches for every commit of "/db" that is on the disk.
pub fn witnessed(disk: &SimDisk) -> bool {
    match explain(&disk.durable_image(), "/db").unwrap() {
        Forecast::Open(found) => !found.unwitnessed_tail,
        other => panic!("no database: {other:?}"),
    }
}

/// The files of a directory with their bytes, without the lock.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap_or_default())
        })
        .filter(|(name, _)| name != "LOCK")
        .collect()
}
