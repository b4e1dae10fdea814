//! Tables that memory does not hold: the same answers, and what is read as a whole is verified each time.

use super::{BlockCache, DATABASE, MemoryFile, Model, open, read_everything};
use crate::cursor::Cursor;
use crate::fs::os::OsFileSystem;
use crate::table::{ReadMode, Table, TableOptions, key_hash};
use crate::types::KeyspaceId;
use parking_lot::Mutex;
use std::sync::Arc;

const SMALL: TableOptions = TableOptions { block_bytes: 96, filter: true };

#[test]
fn what_is_read_as_a_whole_is_verified_each_time() {
    let mut model = Model::default();
    for number in 0..40_u8 {
        model.put(1, [b'a', number], [number; 20]);
    }
    // Of a record longer than a page the rest is brought before it is used.
    model.put(1, "aa", vec![55; 6000]);
    model.put(1, "b", vec![77; 20_000]);
    let (bytes, meta) = model.build(SMALL);
    let place = |inside: &[u8]| bytes.windows(inside.len()).position(|w| w == inside).unwrap();
    let (in_block, in_value) = (place(&[20; 20]), place(&[77; 200]));
    let file = Arc::new(MemoryFile { bytes: Mutex::new(bytes) });
    let table = open(&file, &meta, ReadMode::Mmap);
    let said = read_everything(&table, &model).unwrap();

    let keyspace = KeyspaceId(1);
    let get = |key: &[u8]| table.get(keyspace, key, key_hash(keyspace, key)).map(drop);
    let back = || {
        let mut cursor = table.cursor(keyspace)?;
        cursor.seek(&[b'a', 39])?;
        while cursor.is_valid() {
            cursor.prev()?;
        }
        Ok::<_, crate::Error>(())
    };
    for scattered in [false, true, false] {
        table.cache.set_scattered(scattered);
        table.advise();
        assert_eq!(read_everything(&table, &model).unwrap(), said);
        for (place, in_data) in [(in_block, true), (in_value, false)] {
            file.bytes.lock()[place] ^= 1;
            // The mapping of this file system is a copy: only who reads again can see it.
            let outcomes =
                [get(&[b'a', 20]), get(b"b"), back(), read_everything(&table, &model).map(drop)];
            let found = outcomes.map(|outcome| match outcome {
                Ok(()) => false,
                Err(error) => {
                    assert!(error.is_damage(), "{error}");
                    true
                }
            });
            let wanted = [false, !in_data, in_data, true].map(|found| found && scattered);
            assert_eq!(found, wanted, "scattered {scattered}, in a data block {in_data}");
            file.bytes.lock()[place] ^= 1;
        }
    }
}

/// The system says how it was told that a mapping is read.
#[cfg(target_os = "linux")]
#[test]
fn the_system_is_told_before_and_after_a_table_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    model.put(1, "key", "value");
    let (bytes, meta) = model.build(SMALL);
    let path = dir.path().join("table");
    std::fs::write(&path, bytes).unwrap();
    let is_scattered = || {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = maps.split("VmFlags:").zip(maps.split("VmFlags:").skip(1));
        let flags = ours.filter(|(head, _)| head.contains(path.to_str().unwrap()));
        let flags: Vec<&str> = flags.map(|(_, tail)| tail.lines().next().unwrap()).collect();
        assert_eq!(flags.len(), 1, "one mapping: {flags:?}");
        flags[0].split_whitespace().any(|flag| flag == "rr")
    };
    for before in [false, true] {
        let cache = Arc::new(BlockCache::new(0));
        let fs = Arc::new(OsFileSystem::new());
        let table = Table::new(fs, path.clone(), DATABASE, meta.clone(), ReadMode::Mmap, cache);
        table.cache.set_scattered(before);
        table.advise();
        table.loaded().unwrap();
        assert_eq!(is_scattered(), before);
        for later in [true, false] {
            table.cache.set_scattered(later);
            table.advise();
            assert_eq!(is_scattered(), later, "it was {before}");
        }
    }
}
