//! Tests of the release of log: which segments are dead, and what becomes of them.

use super::*;
use crate::fs::sim::{Fault, FaultKind, SimDisk};
use crate::types::Epoch;
use crate::wal::group::{GroupHeader, body_crc};

const BASE: Lsn = Lsn(0x10_0000);
const BYTES: u64 = 32 << 10;
const SIZES: Sizes = Sizes {
    segment_min_bytes: BYTES,
    segment_small_bytes: 3 * BLOCK_BYTES,
    group_bytes: BLOCK_BYTES as usize,
    kept_for_drops_bytes: 0,
    live_log_bytes: 0,
};
const NEW: NewEpoch = NewEpoch { epoch: Epoch(3), salt: 9, base: BASE, generation: Generation(5) };

/// Room with `count` ready segments of one size.
fn space_with(count: u64, archive_limit: Option<u64>) -> (SimDisk, LogSpace) {
    let disk = SimDisk::new();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    fs.create_dir(dir()).unwrap();
    let id = DatabaseId([7; 16]);
    let archive = archive_limit
        .map(|limit| Archive::open(&fs, Path::new("/archive"), dir(), id, limit).unwrap());
    let space = LogSpace::new(fs, dir(), id, BYTES, SIZES).with_archive(archive);
    let prepared = space.prepare_epoch(NEW, false).unwrap();
    space.adopt(prepared);
    (2..count).for_each(|_| space.prepare_next(Fill::Zeros).unwrap());
    (disk, space)
}

fn dir() -> &'static Path {
    Path::new("/db")
}

/// Base of the `n`-th segment.
fn base(n: u64) -> Lsn {
    BASE.plus(n * BYTES)
}

fn path_of(n: u64) -> PathBuf {
    dir().join(segment_name(base(n)))
}

fn spare(n: u64) -> Spare {
    Spare { path: path_of(n), bytes: BYTES }
}

/// Puts a group, and what lies behind it, into the `n`-th segment.
fn use_segment(disk: &SimDisk, n: u64, salt: u64) {
    let (lsn, body) = (base(n).plus(BLOCK_BYTES), [1; 32]);
    let header = GroupHeader {
        lsn,
        epoch: NEW.epoch,
        salt,
        durable: Lsn::ZERO,
        previous: lsn,
        previous_crc: 0,
        generation: NEW.generation,
        body_bytes: body.len() as u32,
        body_crc: body_crc(lsn, salt, &body),
        records: 1,
    };
    let mut bytes = disk.read_file(path_of(n)).unwrap();
    bytes[BLOCK_BYTES as usize..][..80].copy_from_slice(&header.encode());
    bytes[BLOCK_BYTES as usize + 80..].fill(0xaa);
    disk.write_file(path_of(n), &bytes).unwrap();
}

fn ready(space: &LogSpace) -> Vec<Lsn> {
    space.state.lock().segments.iter().map(|segment| segment.base).collect()
}

fn names_of(spares: impl IntoIterator<Item = Spare>) -> Vec<PathBuf> {
    spares.into_iter().map(|spare| spare.path).collect()
}

fn spares(space: &LogSpace) -> Vec<PathBuf> {
    names_of(space.state.lock().spares.clone())
}

fn held(space: &LogSpace) -> Vec<PathBuf> {
    names_of(space.state.lock().held.clone())
}

fn exists(disk: &SimDisk, path: impl AsRef<Path>) -> bool {
    disk.read_file(path).is_ok()
}

#[test]
fn only_segments_that_end_before_the_start_of_the_log_are_released() {
    let (_, space) = space_with(4, None);
    assert!(!space.has_archive());
    let all: Vec<Lsn> = (0..4).map(base).collect();
    space.release(Lsn(base(1).get() - 1)).unwrap();
    assert_eq!((ready(&space), spares(&space).len()), (all.clone(), 0));
    space.release(base(1)).unwrap();
    assert_eq!((&ready(&space)[..], spares(&space)), (&all[1..], vec![path_of(0)]));
    // The one that takes groups and its successor stay.
    space.release(Lsn::MAX).unwrap();
    assert_eq!((&ready(&space)[..], spares(&space)), (&all[2..], vec![path_of(0), path_of(1)]));
    assert_eq!(space.bytes(), 4 * BYTES);
}

#[test]
fn segments_of_earlier_epochs_are_released_at_their_own_ends() {
    let (_, space) = space_with(2, None);
    let older = |n: u64| Spare { path: dir().join(format!("old-{n}")), bytes: BYTES };
    let end = |n: u64| Lsn(n * BYTES);
    (1..3).for_each(|n| space.add_older(end(n), older(n)));
    assert_eq!(space.bytes(), 4 * BYTES);
    space.release(Lsn(end(1).get() - 1)).unwrap();
    assert!(spares(&space).is_empty());
    space.release(end(1)).unwrap();
    assert_eq!(spares(&space), [older(1).path]);
    assert_eq!(space.state.lock().older.len(), 1);
    space.release(end(2)).unwrap();
    assert_eq!(spares(&space), [older(1).path, older(2).path]);
    assert_eq!(ready(&space), [base(0), base(1)]);
}

#[test]
fn the_base_of_a_place_is_that_of_its_segment() {
    let (_, space) = space_with(3, None);
    let older = Spare { path: dir().join("old"), bytes: 2 * BYTES };
    space.add_older(Lsn(5 * BYTES), older);
    let cases = [
        (3 * BYTES - 1, None),
        (3 * BYTES, Some(Lsn(3 * BYTES))),
        (5 * BYTES - 1, Some(Lsn(3 * BYTES))),
        (5 * BYTES, None),
        (BASE.get() - 1, None),
        (BASE.get(), Some(BASE)),
        (base(1).get() - 1, Some(BASE)),
        (base(1).get(), Some(base(1))),
        (base(3).get() - 1, Some(base(2))),
        (base(3).get(), None),
    ];
    for (lsn, expected) in cases {
        assert_eq!(space.base_of(Lsn(lsn)), expected, "{lsn}");
    }
}

#[test]
fn a_new_epoch_makes_the_segments_of_the_one_before_spare() {
    let (disk, space) = space_with(3, None);
    let prepared = space.prepare_epoch(NewEpoch { base: base(8), ..NEW }, false).unwrap();
    assert_eq!(ready(&space).len(), 3, "the old ones live until the manifest names the new ones");
    space.adopt(prepared);
    assert_eq!(ready(&space), [base(8), base(9)]);
    assert_eq!(spares(&space), [path_of(0), path_of(1), path_of(2)]);
    // One that came to nothing leaves nothing.
    let prepared = space.prepare_epoch(NewEpoch { base: base(20), ..NEW }, true).unwrap();
    assert!(exists(&disk, path_of(20)) && exists(&disk, path_of(21)));
    space.abandon(prepared);
    assert!(!exists(&disk, path_of(20)) && !exists(&disk, path_of(21)));
    assert_eq!((ready(&space), spares(&space).len()), (vec![base(8), base(9)], 3));
}

#[test]
fn spares_beyond_what_the_log_may_need_are_removed() {
    let (disk, space) = space_with(9, None);
    space.release(Lsn::MAX).unwrap();
    // Four of the longest segments.
    assert_eq!(spares(&space), (0..4).map(path_of).collect::<Vec<_>>());
    assert!(!exists(&disk, path_of(4)) && !exists(&disk, path_of(6)));
    // At rest four of the smallest, or a 32nd of the data, and no more than that.
    for data_bytes in [0, 32 * 5 * BYTES, u64::MAX] {
        space.add_rejected(vec![Spare { path: dir().join("x"), bytes: BYTES }]);
        let _ = space.trim_at_rest(data_bytes);
        assert_eq!(spares(&space).len(), 4);
    }
    space.shrink().unwrap();
    assert!(spares(&space).is_empty() && !exists(&disk, path_of(0)));
    assert_eq!(space.bytes(), 2 * BYTES);
}

#[test]
fn a_spare_that_cannot_be_removed_is_an_error_and_no_spare() {
    let (disk, space) = space_with(4, None);
    space.release(Lsn::MAX).unwrap();
    disk.deny(path_of(0));
    assert!(matches!(space.shrink(), Err(Error::Io { .. })));
    assert!(spares(&space).is_empty() && !exists(&disk, path_of(1)));
}

#[test]
fn a_new_segment_names_the_manifest_that_is_durable() {
    let (disk, space) = space_with(2, None);
    space.set_generation(Generation(6));
    space.prepare_next(Fill::Zeros).unwrap();
    let generation = |n| SegmentHeader::decode(&disk.read_file(path_of(n)).unwrap()).unwrap();
    assert_eq!([1, 2].map(|n| generation(n).generation), [Generation(5), Generation(6)]);
}

#[test]
fn the_largest_spare_is_used_first() {
    let (disk, space) = space_with(2, None);
    let lengths = [2 * BLOCK_BYTES, 6 * BLOCK_BYTES, 4 * BLOCK_BYTES];
    for (n, bytes) in lengths.into_iter().enumerate() {
        let path = dir().join(format!("spare-{n}"));
        disk.write_file(&path, &vec![0; bytes as usize]).unwrap();
        space.add_spares(vec![Spare { path, bytes }]);
    }
    space.prepare_next(Fill::Zeros).unwrap();
    assert_eq!(space.end(), base(2).plus(6 * BLOCK_BYTES));
    assert_eq!(spares(&space), [dir().join("spare-0"), dir().join("spare-2")]);
}

#[test]
fn dead_files_of_no_segment_s_length_are_removed() {
    for archive in [None, Some(1 << 20)] {
        let (disk, space) = space_with(2, archive);
        for (n, bytes) in [BYTES, BYTES - 1, BLOCK_BYTES].into_iter().enumerate() {
            let path = dir().join(format!("dead-{n}"));
            disk.write_file(&path, &vec![0; bytes as usize]).unwrap();
            match n {
                2 => space.add_rejected(vec![Spare { path, bytes }]),
                _ => space.add_spares(vec![Spare { path, bytes }]),
            }
        }
        assert_eq!(spares(&space), [dir().join("dead-0")]);
        assert!(!exists(&disk, dir().join("dead-1")) && !exists(&disk, dir().join("dead-2")));
    }
}

#[test]
fn with_an_archive_a_dead_segment_is_held_until_its_copy_is_durable() {
    let (disk, space) = space_with(4, Some(2 * BYTES));
    assert!(space.has_archive());
    (0..2).for_each(|n| use_segment(&disk, n, NEW.salt));
    let content = disk.read_file(path_of(0)).unwrap();
    let copy = Path::new("/archive").join(segment_name(base(0)));
    for barrier in [Barrier::Copy, Barrier::CopyName] {
        disk.inject(Fault::new(FaultKind::Io).barrier(barrier).from_then_on());
        space.release(base(1)).unwrap();
        assert_eq!((held(&space), spares(&space).len()), (vec![path_of(0)], 0), "{barrier:?}");
        assert!(!exists(&disk, &copy), "what is not durable has no name");
        assert_eq!(space.held_bytes(), BYTES);
        disk.clear_faults();
    }
    disk.inject(Fault::new(FaultKind::Io).barrier(Barrier::Copy).from_then_on());
    space.release(base(2)).unwrap();
    // As much as may be held stops no commit; more does, and says why.
    assert_eq!(space.held_bytes(), 2 * BYTES);
    space.reserve(base(2).plus(BLOCK_BYTES), 8, Claim::Commit).unwrap();
    space.add_spares(vec![spare(0)]);
    let error = space.reserve(base(2).plus(BLOCK_BYTES), 8, Claim::Commit).unwrap_err();
    assert!(matches!(error, Error::Archive { held_bytes, .. } if held_bytes == 3 * BYTES));
    space.reserve(base(2).plus(BLOCK_BYTES), 8, Claim::Freeing).expect("what frees room goes on");
    disk.clear_faults();
    space.archive_held().unwrap();
    assert_eq!(disk.read_file(&copy).unwrap(), content);
    assert_eq!((space.held_bytes(), spares(&space).len()), (0, 3));
}

#[test]
fn segments_that_took_no_group_of_this_life_are_not_archived() {
    let (disk, space) = space_with(5, Some(1 << 20));
    // Nothing; what the file held before; a group of this life; something that may have been one.
    use_segment(&disk, 1, NEW.salt + 1);
    use_segment(&disk, 2, NEW.salt);
    disk.write_file(path_of(0), &disk.read_file(path_of(0)).unwrap()).unwrap();
    space.release(base(3)).unwrap();
    let in_archive = |n: u64| exists(&disk, Path::new("/archive").join(segment_name(base(n))));
    assert_eq!([0, 1, 2].map(in_archive), [false, false, true]);
    assert_eq!(spares(&space).len(), 3);
    use_segment(&disk, 3, NEW.salt);
    disk.flip_bit(path_of(3), BLOCK_BYTES + 20, 0).unwrap();
    space.add_spares(vec![spare(3)]);
    assert!(in_archive(3));
}

#[test]
fn the_archive_takes_a_segment_again_but_no_other_of_its_name() {
    let (disk, space) = space_with(3, Some(1 << 20));
    use_segment(&disk, 0, NEW.salt);
    let archive = space.archive.as_ref().unwrap();
    archive.segment(&spare(0)).unwrap();
    archive.segment(&spare(0)).unwrap();
    let copy = Path::new("/archive").join(segment_name(base(0)));
    let whole = disk.read_file(&copy).unwrap();
    // Only the header tells segments apart: behind it a later life may have cut.
    let mut cut = whole.clone();
    cut[20_000..].fill(0);
    disk.write_file(&copy, &cut).unwrap();
    archive.segment(&spare(0)).unwrap();
    let mut other_life = whole.clone();
    other_life[48] ^= 1;
    for other in [&whole[..whole.len() - 1], &other_life] {
        disk.write_file(&copy, other).unwrap();
        let error = archive.segment(&spare(0)).unwrap_err();
        assert!(error.to_string().contains("it holds another"), "{error}");
    }
}

#[test]
fn a_table_in_the_archive_is_compared_to_the_last_byte() {
    let (disk, space) = space_with(2, Some(1 << 20));
    let name = names::table_name(crate::types::FileId(4));
    let path = dir().join(&name);
    let bytes: Vec<u8> = (0..(5 << 19) + 3).map(|i: u32| (i % 251) as u8).collect();
    disk.write_file(&path, &bytes).unwrap();
    space.archive_table(&path).unwrap();
    let copy = Path::new("/archive").join(&name);
    assert_eq!(disk.read_file(&copy).unwrap(), bytes);
    space.archive_table(&path).unwrap();
    for at in [0, (1 << 20) - 1, 1 << 20, bytes.len() - 1] {
        disk.flip_bit(&copy, at as u64, 0).unwrap();
        assert!(space.archive_table(&path).is_err(), "{at}");
        disk.flip_bit(&copy, at as u64, 0).unwrap();
    }
}

#[test]
fn a_settled_segment_ends_in_zeros_where_the_log_was_cut() {
    let (disk, space) = space_with(2, Some(1 << 20));
    use_segment(&disk, 0, NEW.salt);
    let before = disk.read_file(path_of(0)).unwrap();
    // One that an earlier try left is in nobody's way.
    let left = dir().join(names::spare_segment_name(u64::MAX));
    disk.write_file(&left, b"left").unwrap();
    let kept = 5 * BLOCK_BYTES + 16;
    space.settle(&spare(0), kept).unwrap();
    let after = disk.read_file(path_of(0)).unwrap();
    assert_eq!(after[..kept as usize], before[..kept as usize]);
    assert!(crate::bytes::is_zero(&after[kept as usize..]) && after.len() == before.len());
    assert!(!exists(&disk, &left));
    assert_eq!(disk.durable_image().read_file(path_of(0)).unwrap(), after);
    // Only its header is kept: nothing is to be done where nothing else is in it.
    let operations = disk.operations();
    space.settle(&spare(1), BLOCK_BYTES).unwrap();
    assert_eq!(disk.operations(), operations);
    space.settle(&spare(0), BLOCK_BYTES).unwrap();
    assert!(crate::bytes::is_zero(&disk.read_file(path_of(0)).unwrap()[BLOCK_BYTES as usize..]));
}

#[test]
fn a_file_is_blank_only_if_all_of_it_is() {
    let disk = SimDisk::new();
    let path = Path::new("/file");
    for at in [0, 4096, 5000, (1 << 20) + 4096, (1 << 20) + 5000, (3 << 20) - 1] {
        let mut bytes = vec![0; 3 << 20];
        bytes[at] = 1;
        disk.write_file(path, &bytes).unwrap();
        let file = disk.open(path, OpenMode::Read).unwrap();
        let blank = crate::wal::archive::is_blank_from(&*file, 4096).unwrap();
        assert_eq!(blank, at < 4096, "{at}");
    }
}

#[test]
fn on_a_full_disk_a_segment_is_settled_by_a_sync_and_after_an_error_it_is_not() {
    let (disk, space) = space_with(2, Some(1 << 20));
    use_segment(&disk, 0, NEW.salt);
    let before = disk.read_file(path_of(0)).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    space.settle(&spare(0), 2 * BLOCK_BYTES).unwrap();
    disk.set_capacity(None);
    disk.inject(Fault::new(FaultKind::Io).barrier(Barrier::Copy));
    assert!(matches!(space.settle(&spare(0), 2 * BLOCK_BYTES), Err(Error::Io { .. })));
    assert_eq!(disk.read_file(path_of(0)).unwrap(), before);
    assert!(!exists(&disk, dir().join(names::spare_segment_name(u64::MAX))));
}
