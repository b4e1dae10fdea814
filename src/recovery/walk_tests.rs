//! Tests of the walk: where the log goes on, where it ends, and what that means.

use super::*;
use crate::recovery::testlog::{
    BASE, EPOCH, GENERATION, SALT, SEGMENT_BYTES, TestLog, block, body_of, dir, segment_base,
    segment_header, segment_path,
};
use crate::types::Epoch;

/// What a sink was given: LSN, file, offset, body.
type Seen = Vec<(Lsn, PathBuf, u64, Vec<u8>)>;

#[derive(Default)]
struct Collect(Seen);

impl Sink for Collect {
    fn group(&mut self, header: &GroupHeader, body: &[u8], place: &GroupPlace<'_>) -> Result<()> {
        self.0.push((header.lsn, place.path.to_path_buf(), place.offset, body.to_vec()));
        Ok(())
    }
}

/// Walks the log from its first group on.
fn walk(log: &TestLog) -> (Result<EpochEnd>, Seen) {
    walk_to(log, None, BASE)
}

/// The same, of an epoch that ended at `closed`, from `from` on.
fn walk_to(log: &TestLog, closed: Option<Lsn>, from: Lsn) -> (Result<EpochEnd>, Seen) {
    let (segments, judged) = (log.segments(), Judged::default());
    let mut seen = Collect::default();
    let walk = Walk {
        fs: &log.disk,
        dir: dir(),
        manifest: &log.manifest,
        segments: &segments,
        judged: &judged,
    };
    let range = EpochRange { end: closed, ..log.range() };
    let ended = walk.epoch(&range, BASE, from, &mut seen);
    if let (Ok(end), Some(row)) = (&ended, judged.take().last()) {
        assert_eq!((row.0, row.3), (end.place, end.verdict));
    }
    (ended, seen.0)
}

/// File, offset, LSN range and text of damage.
#[track_caller]
fn damage<T>(outcome: Result<T>) -> (PathBuf, u64, Option<(Lsn, Lsn)>, String) {
    match outcome.err().expect("it is damage") {
        Error::Damage { file, offset, lsn_range, what } => (file, offset, lsn_range, what),
        other => panic!("{other}"),
    }
}

#[track_caller]
fn assert_older_manifest<T>(outcome: Result<T>) {
    let (file, _, _, what) = damage(outcome);
    assert_eq!(file, dir().join("MANIFEST"));
    assert!(what.contains("generation 5, but the log was written under generation 6"), "{what}");
}

#[test]
fn groups_follow_packed_on_a_fresh_block_and_in_the_next_segment() {
    let mut log = TestLog::with_segments(3);
    let places = [block(1), Lsn(0), block(2), segment_base(1).plus(BLOCK_BYTES)];
    let mut expected = Seen::new();
    let mut end = Lsn::ZERO;
    for (n, at) in places.into_iter().enumerate() {
        // The second is packed behind the first.
        let at = if n == 1 { end } else { at };
        let body = vec![n as u8 + 1; 30 + n];
        end = log.put(at, &body);
        let base = if n == 3 { segment_base(1) } else { BASE };
        expected.push((at, segment_path(base), at.get() - base.get(), body));
    }
    let (ended, seen) = walk(&log);
    let ended = ended.unwrap();
    assert_eq!(seen, expected);
    assert_eq!(ended.groups, 4);
    assert_eq!(ended.end, align_up(end), "the rest of the last block is padding");
    assert_eq!((ended.place, ended.verdict, ended.cut_bytes), (Place::Blank, Verdict::End, 0));
    assert_eq!(ended.segments, log.segments()[..2]);
    assert!(!ended.witnessed, "nothing vouches for the last group");
}

#[test]
fn groups_longer_than_a_window_are_read_whole() {
    let mut log = TestLog::new();
    let header = SegmentHeader { segment_bytes: 1 << 20, ..segment_header(0) };
    log.put_segment(&header, 1 << 20);
    log.put_segment(&SegmentHeader { base: header.end(), ..header }, 1 << 20);
    let mut at = block(1);
    let bodies = [100_000, 20_000, 20_000, 9, 70_000, 300_000, 17, 200_000];
    for (n, bytes) in bodies.into_iter().enumerate() {
        let body: Vec<u8> = (0..bytes).map(|i: usize| (i * 7 + n * 13) as u8).collect();
        at = log.put(at, &body);
    }
    let (ended, seen) = walk(&log);
    assert_eq!(ended.unwrap().groups, bodies.len() as u64);
    for (n, (_, _, _, body)) in seen.iter().enumerate() {
        assert_eq!(body.len(), bodies[n]);
        assert!(body.iter().enumerate().all(|(i, byte)| *byte == (i * 7 + n * 13) as u8), "{n}");
    }
}

#[test]
fn a_group_may_fill_its_segment_to_the_last_byte_and_the_next_one_follows() {
    let mut log = TestLog::with_segments(3);
    let rest = (SEGMENT_BYTES - BLOCK_BYTES) as usize - GROUP_HEADER_BYTES;
    assert_eq!(log.put(block(1), &vec![1; rest]), segment_base(1));
    // Whoever made the file longer did not make the log longer.
    let mut bytes = log.disk.read_file(segment_path(BASE)).unwrap();
    bytes.extend_from_slice(&[0xee; 100]);
    log.disk.write_file(segment_path(BASE), &bytes).unwrap();
    let ended = walk(&log).0.unwrap();
    assert_eq!((ended.groups, ended.end), (1, segment_base(1)));
    assert_eq!((ended.place, ended.verdict), (Place::Blank, Verdict::End));

    log.put(segment_base(1).plus(BLOCK_BYTES), &[2; 8]);
    assert_eq!(walk(&log).0.unwrap().groups, 2);
}

#[test]
fn a_group_that_reaches_out_of_its_segment_is_none() {
    let mut log = TestLog::with_segments(3);
    let rest = (SEGMENT_BYTES - BLOCK_BYTES) as usize - GROUP_HEADER_BYTES;
    for more in [1, 8, 64] {
        log.last = None;
        log.put(block(1), &vec![1; rest + more]);
        let ended = walk(&log).0.unwrap();
        assert_eq!((ended.groups, ended.place), (0, Place::BadHeader), "{more}");
        assert_eq!(ended.verdict, Verdict::Cut);
    }
}

/// Makes a place at [`AT`], behind one whole group, and returns where the log ends then.
type Make = fn(&mut TestLog) -> Lsn;
const AT: Lsn = block(2);

fn put_changed(log: &mut TestLog, change: impl FnOnce(&mut GroupHeader)) -> Lsn {
    let mut header = log.header(AT, &[3; 21]);
    change(&mut header);
    log.put_as(&header, AT, &[3; 21]);
    AT
}

const PLACES: [(Place, &str, Make); 12] = [
    (Place::Blank, "breaks off", |_| AT),
    (Place::Stale, "old group", |log| put_changed(log, |group| group.salt = SALT + 1)),
    (Place::Stale, "old group", |log| put_changed(log, |group| group.epoch = Epoch(2))),
    (Place::Stale, "old group", |log| put_changed(log, |group| group.lsn = block(3))),
    (Place::BadHeader, "group header fails", |log| {
        log.write(AT, b"something else");
        AT
    }),
    (Place::BadHeader, "group header fails", |log| {
        put_changed(log, |_| ());
        log.flip(AT.plus(30));
        AT
    }),
    (Place::BadBody, "body fails", |log| {
        put_changed(log, |_| ());
        log.flip(body_of(AT).plus(20));
        AT
    }),
    // Behind the 21 bytes of the body.
    (Place::BadBody, "body fails", |log| {
        put_changed(log, |_| ());
        log.flip(body_of(AT).plus(21));
        AT
    }),
    (Place::Unlinked, "does not follow", |log| {
        put_changed(log, |group| group.previous = group.previous.plus(8))
    }),
    (Place::Unlinked, "does not follow", |log| put_changed(log, |group| group.previous_crc ^= 1)),
    (Place::BadPadding, "padding", |log| {
        let end = log.put(AT, &[4; 40]);
        log.write(end.plus(64), &[9]);
        end
    }),
    // The next group is there, but not reached.
    (Place::BadPadding, "padding", |log| {
        let end = log.put(AT, &[4; 40]);
        log.put(block(3), &[5; 40]);
        log.write(end, &[9]);
        end
    }),
];

#[test]
fn the_end_is_what_stands_there_and_what_vouches_for_it() {
    for (n, (place, what, make)) in PLACES.into_iter().enumerate() {
        // Nothing vouches; a later group vouches for what is before the place; for more than that.
        for vouch in [None, Some(0), Some(8)] {
            let mut log = TestLog::with_segments(4);
            log.put(block(1), &[2; 40]);
            let end = make(&mut log);
            let promised = end.plus(vouch.unwrap_or_default());
            if vouch.is_some() {
                // In the last block of the segment after the next.
                log.put_vouching(block(15), promised);
            }
            let case = format!("{n} {place:?} {vouch:?}");
            let ended = walk(&log).0;
            if vouch == Some(8) {
                let (file, offset, range, text) = damage(ended);
                assert_eq!(file, segment_path(BASE), "{case}");
                assert_eq!(offset, end.get() - BASE.get(), "{case}");
                assert_eq!(range, Some((end, promised)), "{case}");
                assert!(text.contains(what), "{case}: {text}");
                continue;
            }
            let ended = ended.unwrap();
            assert_eq!((ended.place, ended.end), (place, end), "{case}");
            assert_eq!(ended.witnessed, vouch.is_some(), "{case}");
            let is_end = matches!(place, Place::Blank | Place::Stale);
            assert_eq!(ended.verdict, if is_end { Verdict::End } else { Verdict::Cut }, "{case}");
            let cut_to = match (vouch, is_end) {
                (Some(_), _) => block(15).plus(96),
                (None, true) => end,
                // Up to the end of the last group there, at least to the end of the block.
                (None, false) if n == 11 => block(3).plus(120),
                (None, false) => block(3),
            };
            assert_eq!(ended.cut_bytes, cut_to.get() - end.get(), "{case}");
            assert_eq!(ended.vouched, if vouch.is_some() { end } else { Lsn::ZERO }, "{case}");
        }
    }
}

#[test]
fn a_closed_epoch_ends_where_the_manifest_says_and_nowhere_before() {
    let mut log = TestLog::with_segments(1);
    let end = log.put(block(1), &[2; 40]);
    // Exactly there, and with the rest of the block; no successor is needed.
    for closed in [end, align_up(end)] {
        let (ended, seen) = walk_to(&log, Some(closed), BASE);
        let ended = ended.unwrap();
        assert_eq!((ended.end, ended.groups, seen.len()), (closed, 1, 1));
        assert_eq!((ended.verdict, ended.cut_bytes, ended.witnessed), (Verdict::End, 0, true));
    }
    // Groups behind it are not looked at.
    log.put(block(2), &[3; 40]);
    assert_eq!(walk_to(&log, Some(align_up(end)), BASE).0.unwrap().groups, 1);
    let beyond = block(3).plus(8);
    let (_, offset, range, _) = damage(walk_to(&log, Some(beyond), BASE).0);
    assert_eq!((offset, range), (3 * BLOCK_BYTES, Some((block(3), beyond))));
}

#[test]
fn bad_padding_is_not_stepped_over_into_the_next_segment() {
    let mut log = TestLog::with_segments(3);
    let end = log.put(block(7), &[2; 40]);
    log.write(end.plus(8), &[9]);
    log.put(segment_base(1).plus(BLOCK_BYTES), &[3; 40]);
    let (ended, seen) = walk_to(&log, None, block(7));
    assert_eq!((ended.unwrap().place, seen.len()), (Place::BadPadding, 1));
}

#[test]
fn the_first_group_of_a_replay_is_found_in_the_next_segment_if_it_skips_none() {
    let from = block(7);
    // The group before it lies before `from`: it was released. At or behind `from`: it is missing.
    let cases = [(block(6), true), (block(7).plus(8), false), (from, false)];
    for (previous, follows) in cases {
        let mut log = TestLog::with_segments(3);
        let first = segment_base(1).plus(BLOCK_BYTES);
        let header = GroupHeader { previous, previous_crc: 1, ..log.header(first, &[3; 40]) };
        log.put_as(&header, first, &[3; 40]);
        let (ended, seen) = walk_to(&log, None, from);
        let ended = ended.unwrap();
        assert_eq!(seen.len(), usize::from(follows), "{previous}");
        let expected = if follows { segment_base(1).plus(2 * BLOCK_BYTES) } else { from };
        assert_eq!((ended.place, ended.end), (Place::Blank, expected), "{previous}");
    }
}

#[test]
fn a_witness_needs_no_witness() {
    let mut log = TestLog::with_segments(2);
    let end = log.put(block(1), &[2; 40]);
    for (body, witnessed) in [(WITNESS_RECORD_BYTES, true), (WITNESS_RECORD_BYTES + 1, false)] {
        let body = vec![3; body];
        let header = GroupHeader { durable: end, ..log.header(block(2), &body) };
        let before = log.last;
        log.put_as(&header, block(2), &body);
        log.last = before;
        let ended = walk(&log).0.unwrap();
        assert_eq!((ended.groups, ended.witnessed, ended.vouched), (2, witnessed, end));
    }
}

#[test]
fn the_successor_of_a_segment_with_groups_must_exist() {
    let mut log = TestLog::with_segments(1);
    assert_eq!(walk(&log).0.unwrap().groups, 0, "one that holds nothing needs none");
    log.put(block(1), &[2; 40]);
    for missing in [1, 2] {
        let (file, _, range, what) = damage(walk(&log).0);
        let base = segment_base(missing);
        assert_eq!((file, range), (segment_path(base), Some((base, base))));
        assert!(what.contains("the one before it holds commits"), "{what}");
        log.put_segment(&segment_header(missing), SEGMENT_BYTES);
        assert_eq!(walk(&log).0.unwrap().groups, missing);
        log.put(base.plus(BLOCK_BYTES), &[3; 40]);
    }
    log.disk.remove_file(segment_path(BASE)).unwrap();
    assert!(damage(walk(&log).0).3.contains("the log segment is missing"));
}

#[test]
fn a_next_segment_of_a_later_life_is_none_and_any_other_is_damage() {
    let header = segment_header(1);
    let log = TestLog::with_segments(1);
    log.put_segment(&SegmentHeader { epoch: Epoch(4), salt: 1, ..header }, SEGMENT_BYTES);
    assert_eq!(walk(&log).0.unwrap().segments.len(), 1);
    for (epoch, salt) in [(Epoch(2), SALT), (EPOCH, SALT + 1)] {
        log.put_segment(&SegmentHeader { epoch, salt, ..header }, SEGMENT_BYTES);
        let (file, _, _, what) = damage(walk(&log).0);
        assert_eq!(file, segment_path(header.base));
        assert!(what.contains("belongs to epoch"), "{what}");
    }
}

#[test]
fn a_segment_is_what_its_name_and_the_manifest_say() {
    let header = segment_header(0);
    let log = TestLog::new();
    let outcome = |header: &SegmentHeader, bytes| {
        log.put_segment(header, bytes);
        walk(&log).0
    };
    assert!(outcome(&header, SEGMENT_BYTES).is_ok());
    assert!(outcome(&header, SEGMENT_BYTES + BLOCK_BYTES).is_ok(), "a longer file does no harm");
    let short = damage(outcome(&header, SEGMENT_BYTES - 1));
    assert_eq!(short.1, SEGMENT_BYTES - 1);
    assert!(short.3.contains("cut short"), "{}", short.3);
    let foreign = SegmentHeader { database: DatabaseId([8; 16]), ..header };
    assert!(damage(outcome(&foreign, SEGMENT_BYTES)).3.contains("another database"));
    let mut moved = SegmentHeader { base: segment_base(1), ..header }.encode();
    moved.resize(SEGMENT_BYTES as usize, 0);
    log.disk.write_file(segment_path(BASE), &moved).unwrap();
    assert!(damage(walk(&log).0).3.contains("starts at LSN"));
    log.disk.write_file(segment_path(BASE), &[0; 100]).unwrap();
    assert!(damage(walk(&log).0).3.contains("bad segment header"));
}

#[test]
fn log_of_a_newer_manifest_says_that_the_manifest_is_an_older_one() {
    let newer = Generation(GENERATION.get() + 1);
    let log = TestLog::with_segments(2);
    log.put_segment(&SegmentHeader { generation: newer, ..segment_header(0) }, SEGMENT_BYTES);
    assert_older_manifest(walk(&log).0);

    let mut log = TestLog::with_segments(2);
    let header = GroupHeader { generation: newer, ..log.header(block(1), &[1; 8]) };
    log.put_as(&header, block(1), &[1; 8]);
    assert_older_manifest(walk(&log).0);
}

#[test]
fn a_segment_that_nobody_claims_must_not_be_of_a_newer_manifest() {
    let newer = Generation(GENERATION.get() + 1);
    let check = |log: &TestLog| {
        let (segments, judged) = (log.segments(), Judged::default());
        let (fs, dir, manifest) = (&log.disk, dir(), &log.manifest);
        let walk = Walk { fs, dir, manifest, segments: &segments, judged: &judged };
        walk.check_unclaimed(&segments[0])
    };
    let mut log = TestLog::with_segments(1);
    check(&log).unwrap();
    let group = GroupHeader { generation: newer, ..log.header(block(1), &[1; 8]) };
    // What the file held before it was used again says nothing.
    for stale in [
        GroupHeader { lsn: block(2), ..group },
        GroupHeader { epoch: Epoch(2), ..group },
        GroupHeader { salt: SALT + 1, ..group },
        GroupHeader { generation: GENERATION, ..group },
    ] {
        log.put_as(&stale, block(1), &[1; 8]);
        check(&log).unwrap();
    }
    log.put_as(&group, block(1), &[1; 8]);
    assert_older_manifest(check(&log));

    let log = TestLog::with_segments(1);
    log.put_segment(&SegmentHeader { generation: newer, ..segment_header(0) }, SEGMENT_BYTES);
    assert_older_manifest(check(&log));
    // A file that is no segment is dead.
    log.flip(BASE.plus(40));
    check(&log).unwrap();
}
