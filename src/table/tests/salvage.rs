//! Entries come out of a file without index, footer or header, and nothing false comes with them.

use super::round_trip::random_model;
use super::{DATABASE, FILE_ID, MemoryFile, Model, Random, path};
use crate::table::{Salvage, SalvagedEntry, TableOptions, salvage};
use crate::types::KeyspaceId;
use parking_lot::Mutex;

#[test]
fn all_entries_come_back_without_header_and_footer() {
    for seed in 0..20 {
        let model = random_model(&mut Random(seed));
        let (mut bytes, _) = model.build(TableOptions { block_bytes: 512, filter: true });
        let (found, report) = run(bytes.clone(), false);
        assert_eq!(found.entries, model.entries, "seed {seed}");
        assert_eq!((report.skipped_bytes, report.lost_values), (0, 0), "seed {seed}");
        bytes[..64].fill(0xee);
        let length = bytes.len();
        bytes[length - 100..].fill(0xee);
        let (found, _) = run(bytes, true);
        assert_eq!(found.entries, model.entries, "seed {seed}");
    }
}

#[test]
fn what_a_damaged_file_still_gives_is_true() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let model = random_model(&mut random);
        let (mut bytes, _) = model.build(TableOptions { block_bytes: 512, filter: false });
        for _ in 0..5 {
            let place = random.below(bytes.len() as u64) as usize;
            bytes[place] ^= 1 << random.below(8);
        }
        let (found, report) = run(bytes, true);
        for (key, value) in &found.entries {
            let lost = value.as_deref() == Some(b"lost".as_slice());
            assert!(model.entries.get(key) == Some(value) || lost, "seed {seed}");
        }
        assert!(report.skipped_bytes > 0 || report.blocks > 0, "seed {seed}");
    }
}

#[test]
fn a_table_inside_a_value_is_not_taken_for_blocks() {
    let mut inner = Model::default();
    inner.put(1, "inner", "x");
    let (inner_bytes, _) = inner.build(TableOptions::default());
    let mut outer = Model::default();
    let mut value = inner_bytes[64..].to_vec();
    value.resize(9000, 0);
    // The value's bytes begin 32 bytes after a multiple of 64; shift so that the blocks are aligned.
    value.splice(0..0, [0; 32]);
    outer.put(1, "outer", value);
    let (mut bytes, _) = outer.build(TableOptions::default());
    bytes[70] ^= 1;
    let (found, report) = run(bytes, true);
    assert_eq!(report.lost_values, 1);
    assert_eq!(found.entries.len(), 1);
}

fn run(bytes: Vec<u8>, is_known: bool) -> (Model, Salvage) {
    let file = MemoryFile { bytes: Mutex::new(bytes) };
    let known = is_known.then_some((DATABASE, FILE_ID));
    let mut found = Model::default();
    let report = salvage(&file, &path(), known, &mut |entry| match entry {
        SalvagedEntry::Value(KeyspaceId(keyspace), key, value) => found.put(keyspace, key, value),
        SalvagedEntry::Tombstone(KeyspaceId(keyspace), key) => found.delete(keyspace, key),
        SalvagedEntry::LostValue(KeyspaceId(keyspace), key) => found.put(keyspace, key, "lost"),
        SalvagedEntry::Range(keyspace, range) => found.ranges.push((keyspace, range.clone())),
    })
    .unwrap();
    (found, report)
}
