//! The edges of log segments: where one ends exactly with a group, and where one is too small for any. Each
//! was a bug once.

use highwater::fs::sim::SimDisk;
use highwater::{Builder, Database, Durability};
use std::sync::Arc;

fn on(disk: &SimDisk) -> Builder {
    let builder = Database::builder().background(false).segment_size(1 << 20);
    builder.file_system(Arc::new(disk.clone()))
}

/// A checkpoint whose boundary is the first byte of the next segment: what was left by a death of the
/// process, or seen beside the owner, was refused as if that segment were missing.
#[test]
fn a_checkpoint_at_the_very_end_of_a_segment_opens_again() {
    let disk = SimDisk::new();
    let db = on(&disk).open("/db").unwrap();
    let items = db.keyspace("items").unwrap();
    let mut checked = 0;
    for number in 1..=520_u32 {
        // One block of 4 KiB for each commit; a segment has 255.
        items.insert(number.to_be_bytes(), "v").unwrap();
        if number % 255 < 244 {
            continue;
        }
        db.checkpoint().unwrap();
        let beside = on(&disk).read_only(true).open("/db").unwrap();
        assert_eq!(beside.existing_keyspace("items").unwrap().len().unwrap(), u64::from(number));
        let left = disk.kill();
        let db = on(&left).open("/db").unwrap();
        let items = db.existing_keyspace("items").unwrap();
        assert_eq!(items.len().unwrap(), u64::from(number));
        items.insert("more", "v").unwrap();
        let db = on(&left.power_cut(1)).open("/db").unwrap();
        let more = u64::from(number) + 1;
        assert_eq!(db.existing_keyspace("items").unwrap().len().unwrap(), more);
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

/// On a full disk an epoch starts with segments of two blocks. A commit that came after room was made, and
/// did not fit into one block, was put over the end of the second of them, or was never found again.
#[test]
fn a_commit_that_does_not_fit_into_the_first_segments_of_a_full_disk_is_found_again() {
    let (mut tried, mut tiny) = (0, 0);
    for first_bytes in [0, 100, 3_000, 5_000, 40_000, 200_000, 700_000] {
        for left_bytes in [30 << 10, 60 << 10, 200 << 10] {
            let disk = SimDisk::new();
            let db = on(&disk).open("/db").unwrap();
            let items = db.keyspace("items").unwrap();
            items.insert("early", "v").unwrap();
            disk.set_capacity(Some(disk.used_bytes() + left_bytes));
            // It moves the log into new, small segments.
            db.compact().unwrap();
            let log_files = || {
                let files = disk.files().into_iter();
                files.filter(|(path, _)| path.to_string_lossy().contains("log-"))
            };
            let is_tiny = log_files().all(|(_, bytes)| bytes == 8 << 10);
            tiny += u32::from(is_tiny);
            disk.set_capacity(None);
            let mut written = 1;
            for number in 0..6_u32 {
                let bytes = if number == 0 { first_bytes } else { 12_000 };
                let durability = match number % 3 {
                    2 => Durability::Buffered,
                    _ => Durability::Sync,
                };
                items.insert_with(number.to_be_bytes(), vec![7; bytes], durability).unwrap();
                written += 1;
                let db = on(&disk.kill()).open("/db").unwrap();
                let items = db.existing_keyspace("items").unwrap();
                assert_eq!(items.len().unwrap(), written, "{first_bytes} {left_bytes}");
                tried += 1;
            }
            db.sync().unwrap();
            let db = on(&disk.power_cut(left_bytes)).open("/db").unwrap();
            let items = db.existing_keyspace("items").unwrap();
            assert_eq!(items.len().unwrap(), written, "{first_bytes} {left_bytes}");
        }
    }
    assert_eq!(tried, 7 * 3 * 6);
    assert!(tiny >= 7, "{tiny}");
}
