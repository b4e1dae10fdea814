//! Damage of every kind is found, named, and never read as data.

use super::{
    BlockCache, DATABASE, FILE_ID, MemoryFile, MemoryFs, Model, open, path, read_everything, table,
};
use crate::Error;
use crate::table::format::{BlockHeader, BlockKind, Extent, FileHeader, Identity};
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
    // Every byte of every block set to a few values, resealed: never a panic, never out of bounds; and
    // where something vouches for the checksum, never accepted.
    let mut model = Model::default();
    model.put(1, "aa", "1");
    model.put(1, "bbb", "22");
    model.put(1, "c", vec![5; 9000]);
    model.delete(1, "d");
    let (bytes, meta) = model.build(SMALL);
    for (offset, header) in blocks(&bytes) {
        let length = header.length_bytes as usize;
        let is_vouched = !matches!(header.kind, BlockKind::Data | BlockKind::Value);
        for place in (offset + 8..offset + length).take(400) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[place] = value;
                reseal(&mut changed, offset, length);
                for mode in [ReadMode::Mmap, ReadMode::Pread] {
                    let table = table(changed.clone(), &meta, mode);
                    let _ = read_everything(&table, &model);
                    let checked = table.check(&mut |_| {});
                    let is_refused = checked.is_err_and(|error| error.is_damage());
                    let must_be = is_vouched && changed != bytes;
                    assert!(is_refused || !must_be, "{:?} block, byte {place}", header.kind);
                }
            }
        }
    }
}

#[test]
fn contradictions_with_matching_checksums_are_found_by_the_check() {
    let mut model = Model::default();
    for number in 0..30_u8 {
        model.put(1, [b'k', number, b'!'], "value");
    }
    model.put(2, "one", vec![1; 9000]);
    model.put(2, "two", vec![2; 9000]);
    let (bytes, meta) = model.build(TableOptions { block_bytes: 192, filter: true });
    let blocks = blocks(&bytes);
    let data: Vec<usize> = blocks
        .iter()
        .filter(|block| block.1.kind == BlockKind::Data)
        .map(|block| block.0)
        .collect();
    let count = blocks[0].1.count as usize;
    let first_key = 64 + 32 + count;
    let references = |offset: usize| {
        let at = bytes[offset..].windows(3).position(|window| window == b"one").unwrap();
        offset + at + 3
    };
    let last = data[data.len() - 1];
    type Change<'c> = &'c dyn Fn(&mut [u8]);
    let changes: [(&str, usize, Change<'_>); 7] = [
        ("fingerprint", data[0], &|bytes| bytes[64 + 32 + 1] ^= 1),
        ("out of order", data[0], &|bytes| bytes[first_key + 8 + 1] = 0),
        ("index leads", data[0], &|bytes| bytes[first_key + 8 * (count - 1) + 1] = 0xff),
        ("outside the bounds", data[0], &|bytes| bytes[first_key] = b'a'),
        ("not its own", last, &|bytes| bytes[references(last)] = 1),
        ("not its own", last, &|bytes| bytes[references(last) + 4] ^= 1),
        ("not the one that the index names", data[1], &|bytes| bytes[data[1] + 20] = 0),
    ];
    for (expected, offset, change) in changes {
        let mut changed = bytes.clone();
        change(&mut changed);
        assert_ne!(changed, bytes, "{expected}");
        let length = BlockHeader::decode(&bytes[offset..]).unwrap().0.length_bytes as usize;
        reseal(&mut changed, offset, length);
        let error = table(changed, &meta, ReadMode::Mmap).check(&mut |_| {}).unwrap_err();
        assert!(error.is_damage() && error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn an_index_that_lies_with_all_checksums_matching_is_refused_or_harmless() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    let sound = read_everything(&table(bytes.clone(), &meta, ReadMode::Mmap), &model).unwrap();
    let footer_at = bytes.len() - 128;
    for (offset, header) in blocks(&bytes) {
        if !matches!(header.kind, BlockKind::Index | BlockKind::Footer | BlockKind::Filter) {
            continue;
        }
        let length = header.length_bytes as usize;
        let body_end = offset + length - usize::from(header.padding_bytes);
        for place in (offset + 16..offset + 28).chain(offset + 32..body_end) {
            for value in [0, 1, 0x7f, 0x80, 0xff, bytes[place] ^ 1] {
                let (mut changed, mut meta) = (bytes.clone(), meta.clone());
                changed[place] = value;
                let is_same = changed == bytes;
                let crc = reseal(&mut changed, offset, length);
                let crc_at = match header.kind {
                    BlockKind::Index => Some(footer_at + 32 + 48),
                    BlockKind::Filter => Some(footer_at + 32 + 52),
                    _ => None,
                };
                if let Some(crc_at) = crc_at {
                    changed[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
                }
                meta.footer_crc = reseal(&mut changed, footer_at, 128);
                let table = table(changed, &meta, ReadMode::Mmap);
                let said = read_everything(&table, &model);
                let checked = table.check(&mut |_| {});
                let is_sound = is_same || said.is_ok_and(|said| said == sound);
                assert!(is_sound || checked.is_err(), "{:?} byte {place}: {value}", header.kind);
            }
        }
    }
}

/// The sections' counts add up to what the footer says, but only because the sum overflows.
#[test]
fn section_counts_that_overflow_are_damage() {
    let model = small_model();
    let (mut bytes, mut meta) = model.build(SMALL);
    let footer_at = bytes.len() - 128;
    let index = |(_, header): &(usize, BlockHeader)| header.kind == BlockKind::Index;
    let (offset, header) = blocks(&bytes).into_iter().find(index).unwrap();
    // Keyspace, blocks, range blocks, entries: six in each of the first two sections.
    for (keyspace, top_byte) in [(1_u32, 0xff), (2, 0x01)] {
        let is_section = |at: &usize| {
            bytes[*at..].starts_with(&keyspace.to_le_bytes())
                && bytes[at + 8..at + 20] == [0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]
        };
        let length = header.length_bytes as usize;
        let at = (offset + 32..offset + length - 20).find(is_section).unwrap();
        bytes[at + 19] = top_byte;
    }
    let crc = reseal(&mut bytes, offset, header.length_bytes as usize);
    bytes[footer_at + 80..footer_at + 84].copy_from_slice(&crc.to_le_bytes());
    meta.footer_crc = reseal(&mut bytes, footer_at, 128);
    let error = table(bytes, &meta, ReadMode::Mmap).check(&mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("the index contradicts the footer"), "{error}");
}

/// Where the index block lies, its length, and where its first section is.
fn index_of(bytes: &[u8]) -> (usize, usize, usize) {
    let index = |(_, header): &(usize, BlockHeader)| header.kind == BlockKind::Index;
    let (at, header) = blocks(bytes).into_iter().find(index).unwrap();
    let count = |part: usize| {
        u32::from_le_bytes(*bytes[at + 32 + 4 * part..].first_chunk().unwrap()) as usize
    };
    let extents: usize = (0..3).map(count).sum();
    (at, header.length_bytes as usize, at + 32 + 12 + 8 * extents)
}

/// A key that was found in such a section led to an index out of bounds.
#[test]
fn sections_with_fewer_entries_than_blocks_or_tombstones_are_damage() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    let (index_at, index_bytes, section_at) = index_of(&bytes);
    let footer_at = bytes.len() - 128;
    let blocks = u64::from(u32::from_le_bytes(*bytes[section_at + 4..].first_chunk().unwrap()));
    assert!(blocks > 1);
    // Entries and tombstones of the first section and of the whole table.
    for (entries, tombstones) in [(0, 0), (blocks - 1, 0), (blocks, blocks + 1)] {
        let (mut changed, mut meta) = (bytes.clone(), meta.clone());
        let old = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        let mut set =
            |at: usize, value: u64| changed[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let (own, removed) = (old(section_at + 12), old(section_at + 20));
        set(section_at + 12, entries);
        set(section_at + 20, tombstones);
        meta.entries = meta.entries - own + entries;
        meta.tombstones = meta.tombstones - removed + tombstones;
        set(footer_at + 40, meta.entries);
        set(footer_at + 48, meta.tombstones);
        let crc = reseal(&mut changed, index_at, index_bytes);
        changed[footer_at + 80..footer_at + 84].copy_from_slice(&crc.to_le_bytes());
        meta.footer_crc = reseal(&mut changed, footer_at, 128);
        let error = table(changed, &meta, ReadMode::Mmap).sections().unwrap_err();
        assert!(error.to_string().contains("index"), "{error}");
    }
}

#[test]
fn gaps_and_wrong_sizes_are_found_by_the_check() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    let (index_at, index_bytes, section_at) = index_of(&bytes);
    let footer_at = bytes.len() - 128;
    // The low byte of a section's block bytes; the last extent, that of a range block, twice as long.
    for place in [section_at + 28, section_at - 8] {
        let (mut changed, mut meta) = (bytes.clone(), meta.clone());
        changed[place] ^= 3;
        let crc = reseal(&mut changed, index_at, index_bytes);
        changed[footer_at + 80..footer_at + 84].copy_from_slice(&crc.to_le_bytes());
        meta.footer_crc = reseal(&mut changed, footer_at, 128);
        assert!(table(changed, &meta, ReadMode::Mmap).check(&mut |_| {}).is_err(), "{place}");
    }
    // A block that nothing names, between the ranges and the index.
    let mut builder = Model::default();
    builder.put(1, "a", "b");
    let (bytes, meta) = builder.build(TableOptions { block_bytes: 96, filter: false });
    let (index_at, header) =
        *blocks(&bytes).iter().find(|block| block.1.kind == BlockKind::Index).unwrap();
    let length = header.length_bytes as usize;
    let mut changed = bytes.clone();
    changed.splice(index_at..index_at, bytes[64..128].iter().copied());
    reseal(&mut changed, index_at, 64);
    let crc = reseal(&mut changed, index_at + 64, length);
    let footer_at = changed.len() - 128;
    let extent = Extent::new(index_at as u64 + 64, length as u64).unwrap().encode();
    let file_bytes = changed.len() as u64;
    changed[footer_at + 32..footer_at + 40].copy_from_slice(&file_bytes.to_le_bytes());
    changed[footer_at + 64..footer_at + 72].copy_from_slice(&extent.to_le_bytes());
    changed[footer_at + 80..footer_at + 84].copy_from_slice(&crc.to_le_bytes());
    let footer_crc = reseal(&mut changed, footer_at, 128);
    let meta = TableMeta { footer_crc, file_bytes, ..meta };
    let table = table(changed, &meta, ReadMode::Mmap);
    assert_eq!(table.sections().unwrap().len(), 1);
    let error = table.check(&mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("cover"), "{error}");
}

#[test]
fn padding_that_is_not_zero_is_damage_even_with_a_matching_checksum() {
    let model = small_model();
    let (bytes, meta) = model.build(SMALL);
    for (offset, header) in blocks(&bytes) {
        if header.padding_bytes == 0 {
            continue;
        }
        let length = header.length_bytes as usize;
        let mut changed = bytes.clone();
        changed[offset + length - 1] = 1;
        reseal(&mut changed, offset, length);
        for mode in [ReadMode::Mmap, ReadMode::Pread] {
            let table = table(changed.clone(), &meta, mode);
            assert!(read_everything(&table, &model).is_err(), "{:?} {mode:?}", header.kind);
            assert!(table.check(&mut |_| {}).is_err(), "{:?} {mode:?}", header.kind);
        }
    }
}

/// All blocks of a table: offset and header.
fn blocks(bytes: &[u8]) -> Vec<(usize, BlockHeader)> {
    let mut blocks = Vec::new();
    let mut offset = 64;
    while offset < bytes.len() {
        let (header, _) = BlockHeader::decode(&bytes[offset..]).unwrap();
        blocks.push((offset, header));
        offset += header.length_bytes as usize;
    }
    blocks
}

/// Makes the checksum of a changed block match again.
fn reseal(bytes: &mut [u8], offset: usize, length: usize) -> u32 {
    let identity = Identity { database: DATABASE, file_id: FILE_ID };
    let mut hasher = identity.hasher(offset as u64);
    hasher.update(&bytes[offset + 8..offset + length]);
    let crc = hasher.finalize();
    bytes[offset + 4..offset + 8].copy_from_slice(&crc.to_le_bytes());
    crc
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
