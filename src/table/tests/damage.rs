//! Damage of every kind is found, named, and never read as data.

use super::{
    BlockCache, DATABASE, FILE_ID, MemoryFile, MemoryFs, Model, path, read_everything, table,
};
use crate::Error;
use crate::table::format::{FileHeader, Identity};
use crate::table::{ReadMode, Table, TableMeta, TableOptions};
use crate::types::{DatabaseId, FileId};
use parking_lot::Mutex;
use std::sync::Arc;

/// All kinds of blocks and forms, in little space.
fn small_model() -> Model {
    let mut model = Model::default();
    for number in 0..6_u8 {
        model.put(1, [b'a', number], [number; 20]);
        model.delete(2, [b'b', number]);
    }
    model.put(3, "c1", vec![7; 8193]);
    model.put(3, "c2", "short");
    model.delete(3, "c3");
    model.delete_range(3, b"d", Some(b"e"));
    model.delete_range(9, b"x", None);
    model
}

const SMALL: TableOptions = TableOptions { block_bytes: 96, filter: true };

#[test]
fn every_flipped_bit_is_found_and_never_read_as_data() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    let sound = table(bytes.clone(), &meta, ReadMode::Mmap);
    let said = read_everything(&sound, &model).unwrap();
    let value_block = bytes.windows(64).position(|window| window == [7; 64]).unwrap();
    let file = Arc::new(MemoryFile { bytes: Mutex::new(bytes.clone()) });
    for bit in 0..bytes.len() * 8 {
        // The large value's inside is all alike: one bit in fifty of it will do.
        let is_inside = (value_block + 64..value_block + 8100).contains(&(bit / 8));
        if is_inside && bit % 53 != 0 {
            continue;
        }
        file.bytes.lock()[bit / 8] ^= 1 << (bit % 8);
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            let table = open(&file, &meta, mode);
            if mode == ReadMode::Mmap {
                let error = table.check(&mut |_| {}).expect_err("a flipped bit passed the check");
                assert!(error.is_damage(), "bit {bit}: {error}");
            }
            match read_everything(&table, &model) {
                Ok(now) => assert_eq!(now, said, "bit {bit} {mode:?}"),
                Err(error) => assert!(error.is_damage(), "bit {bit} {mode:?}: {error}"),
            }
        }
        file.bytes.lock()[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn every_shorter_or_longer_file_is_damage() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    let mut lengths: Vec<usize> = (0..bytes.len()).collect();
    lengths.extend([bytes.len() + 1, bytes.len() + 64]);
    for length in lengths {
        let mut cut = bytes.clone();
        cut.resize(length, 0);
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            let table = table(cut.clone(), &meta, mode);
            let error = read_everything(&table, &model).expect_err("a cut file was read");
            assert!(error.is_damage(), "length {length}: {error}");
        }
        let table = table(cut, &meta, ReadMode::Mmap);
        assert!(table.check(&mut |_| {}).unwrap_err().is_damage());
    }
}

#[test]
fn a_missing_or_foreign_file_is_damage() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    let cache = || Arc::new(BlockCache::new(0));
    let fs = Arc::new(MemoryFs { file: None });
    let table = Table::new(fs, path(), DATABASE, meta.clone(), ReadMode::Mmap, cache());
    let error = table.check(&mut |_| {}).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("missing"), "{error}");

    let file = Arc::new(MemoryFile { bytes: Mutex::new(bytes) });
    let foreign = |database, file_id| {
        let fs = Arc::new(MemoryFs { file: Some(file.clone()) });
        let meta = TableMeta { file_id, ..meta.clone() };
        Table::new(fs, path(), database, meta, ReadMode::Mmap, cache())
    };
    for table in [foreign(DatabaseId([9; 16]), FILE_ID), foreign(DATABASE, FileId(8))] {
        let error = table.sections().unwrap_err();
        assert!(error.is_damage() && error.to_string().contains("is table 7 of"), "{error}");
    }
    // A manifest that vouches for another footer, or other counts.
    for wrong in [
        TableMeta { footer_crc: meta.footer_crc ^ 1, ..meta.clone() },
        TableMeta { entries: meta.entries + 1, ..meta.clone() },
        TableMeta { range_tombstones: 1, ..meta.clone() },
    ] {
        assert!(open(&file, &wrong, ReadMode::Pread).sections().unwrap_err().is_damage());
    }
    let narrow = TableMeta { last: (crate::KeyspaceId(3), None), ..meta.clone() };
    assert!(open(&file, &narrow, ReadMode::Pread).check(&mut |_| {}).unwrap_err().is_damage());
}

#[test]
fn a_newer_version_or_feature_is_unsupported() {
    let (bytes, meta) = small_model().build(SMALL);
    let header = FileHeader::new(Identity { database: DATABASE, file_id: FILE_ID });
    let newer = [
        (FileHeader { version: 2, ..header }, "format version", 2),
        (FileHeader { incompatible_features: 4, ..header }, "feature bits", 4),
    ];
    for (header, expected, number) in newer {
        let mut bytes = bytes.clone();
        bytes[..64].copy_from_slice(&header.encode());
        match table(bytes, &meta, ReadMode::Mmap).check(&mut |_| {}) {
            Err(Error::Unsupported { what, found, .. }) => {
                assert_eq!((what, found), (expected, number));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut bytes = bytes;
    let header = FileHeader { compatible_features: 1, ..header };
    bytes[..64].copy_from_slice(&header.encode());
    table(bytes, &meta, ReadMode::Mmap).check(&mut |_| {}).unwrap();
}

#[test]
fn a_block_moved_within_its_file_does_not_verify() {
    let mut model = Model::default();
    (0..20_u8).for_each(|number| model.put(1, [number; 4], [number; 20]));
    let (bytes, meta) = model.build(TableOptions { block_bytes: 64, filter: false });
    let mut moved = bytes.clone();
    moved.copy_within(64..128, 128);
    let table = table(moved, &meta, ReadMode::Mmap);
    match table.check(&mut |_| {}) {
        Err(Error::Damage { offset: 128, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn malformed_blocks_with_matching_checksums_are_damage() {
    // Every byte of a data block set to a few values, resealed: never a panic, never out of bounds.
    use crate::table::format::BlockHeader;
    let mut model = Model::default();
    model.put(1, "aa", "1");
    model.put(1, "bbb", "22");
    model.put(1, "c", vec![5; 9000]);
    model.delete(1, "d");
    let (bytes, meta) = model.build(SMALL);
    let identity = Identity { database: DATABASE, file_id: FILE_ID };
    let mut offset = 64;
    while let Some((header, _)) = BlockHeader::decode(&bytes[offset..]) {
        let length = header.length_bytes as usize;
        for place in (offset + 8..offset + length).take(400) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[place] = value;
                let mut hasher = identity.hasher(offset as u64);
                hasher.update(&bytes[offset + 8..offset + length]);
                let crc = hasher.finalize();
                bytes[offset + 4..offset + 8].copy_from_slice(&crc.to_le_bytes());
                for mode in [ReadMode::Mmap, ReadMode::Pread] {
                    let table = table(bytes.clone(), &meta, mode);
                    let _ = read_everything(&table, &model);
                    let _ = table.check(&mut |_| {});
                }
            }
        }
        offset += length;
        if offset == bytes.len() {
            break;
        }
    }
    assert_eq!(offset, bytes.len());
}

#[test]
fn a_failed_read_is_an_error_and_may_be_tried_again() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    let fs = Arc::new(MemoryFs {
        file: Some(Arc::new(MemoryFile { bytes: Mutex::new(bytes[..100].to_vec()) })),
    });
    let file = fs.file.clone().unwrap();
    let cache = Arc::new(BlockCache::new(0));
    let table = Table::new(fs, path(), DATABASE, meta, ReadMode::Pread, cache);
    assert!(table.sections().is_err());
    *file.bytes.lock() = bytes;
    assert_eq!(table.sections().unwrap().len(), 4);
}

fn open(file: &Arc<MemoryFile>, meta: &TableMeta, mode: ReadMode) -> Table {
    let fs = Arc::new(MemoryFs { file: Some(file.clone()) });
    let cache = Arc::new(BlockCache::new(1 << 20));
    Table::new(fs, path(), DATABASE, meta.clone(), mode, cache)
}
