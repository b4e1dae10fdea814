//! Tests of the plan: which log is live, what every file is, and what an open would do.

use super::*;
use crate::recovery::testlog::{
    BASE, GENERATION, SALT, SEGMENT_BYTES, TestLog, block, body_of, dir, put_meta, segment_base,
    segment_header, segment_path,
};
use crate::types::{Epoch, Generation, KeyspaceId};
use crate::wal::record::{put_commit, put_fragment};
use crate::wal::segment::SegmentHeader;

fn put_one() -> Vec<u8> {
    let mut bytes = Vec::new();
    Operation::Put { keyspace: KeyspaceId(1), key: b"key", value: b"value" }.encode(&mut bytes);
    bytes
}

/// A commit of `count` operations.
fn commit(seqno: u64, count: usize) -> Vec<u8> {
    commit_of(seqno, &put_one().repeat(count))
}

fn commit_of(seqno: u64, operations: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_commit(&mut body, Seqno(seqno), 1_000 * seqno, operations);
    body
}

fn plan_as(log: &TestLog, reader: Reader) -> Result<OpenPlan> {
    log.disk.write_file(dir().join(names::MANIFEST_NAME), &log.manifest.encode()).unwrap();
    match plan(&log.disk, dir(), reader)? {
        Plan::Open(plan) => Ok(*plan),
        Plan::Create => panic!("there is a manifest"),
    }
}

fn open_plan(log: &TestLog) -> OpenPlan {
    plan_as(log, Reader::Owner).unwrap()
}

/// File, offset and text of the damage that stops an open.
#[track_caller]
fn damage(log: &TestLog) -> (String, u64, String) {
    match plan_as(log, Reader::Owner) {
        Err(Error::Damage { file, offset, what, .. }) => {
            (file.file_name().unwrap().to_string_lossy().into_owned(), offset, what)
        }
        other => panic!("{other:?}"),
    }
}

fn put_table(log: &TestLog, id: u64, bytes: usize) {
    log.disk.write_file(dir().join(names::table_name(FileId(id))), &vec![0; bytes]).unwrap();
}

#[derive(Default)]
struct Collect(Vec<u64>);

impl TransactionSink for Collect {
    fn transaction(
        &mut self,
        transaction: &Transaction<'_>,
        _: &GroupHeader,
        _: &GroupPlace<'_>,
    ) -> Result<()> {
        self.0.push(transaction.seqno.get());
        Ok(())
    }
}

fn replayed(log: &TestLog, plan: &OpenPlan) -> Result<Vec<u64>> {
    let mut seen = Collect::default();
    replay(&log.disk, dir(), plan, &mut seen)?;
    Ok(seen.0)
}

#[test]
fn the_plan_counts_what_the_log_holds() {
    let mut log = TestLog::with_segments(2);
    let first = log.put(block(1), &commit(41, 2));
    let second = log.put(first, &commit(42, 3));
    let plan = open_plan(&log);
    assert_eq!((plan.transactions, plan.operations), (2, 5));
    assert_eq!(plan.replay_bytes, second.get() - block(1).get());
    assert_eq!((plan.last_seqno, plan.last_commit_micros), (Seqno(42), 42_000));
    assert_eq!(plan.live_segments, [(segment_base(1), log.segments()[0].clone())]);
    assert_eq!(plan.dead_segments, log.segments()[1..]);
    assert_eq!((plan.log_end, plan.next_file_id), (segment_base(2), FileId(9)));
    let [span] = &plan.spans[..] else { panic!("{:?}", plan.spans) };
    assert_eq!((span.first, span.from, span.end, span.groups), (BASE, block(1), block(2), 2));
    assert_eq!((plan.tail.at, plan.tail.verdict), (block(2), Verdict::End));
    assert!(plan.tail.unwitnessed && plan.needs_apply());
    assert_eq!(replayed(&log, &plan).unwrap(), [41, 42]);
}

#[test]
fn a_tail_is_unwitnessed_if_something_was_cut_or_the_last_groups_lack_a_witness() {
    let mut log = TestLog::with_segments(3);
    assert!(!open_plan(&log).tail.unwitnessed, "nothing was written");
    let end = log.put(block(1), &commit(41, 1));
    assert!(open_plan(&log).tail.unwitnessed);
    log.put_vouching(block(3), end);
    let tail = open_plan(&log).tail;
    assert!(tail.unwitnessed && tail.cut_bytes > 0, "what was cut had no witness");
    log.manifest.epochs[0].end = Some(end);
    assert!(!open_plan(&log).tail.unwitnessed, "the manifest vouches");
}

#[test]
fn a_transaction_without_its_end_is_counted_and_left_out() {
    let mut log = TestLog::with_segments(2);
    let mut body = commit(41, 1);
    put_fragment(&mut body, Seqno(42), 0, &put_one());
    let header = GroupHeader { records: 2, ..log.header(block(1), &body) };
    log.put_as(&header, block(1), &body);
    let plan = open_plan(&log);
    assert_eq!((plan.transactions, plan.tail.unfinished_transactions), (1, 1));
    assert_eq!(replayed(&log, &plan).unwrap(), [41]);
}

#[test]
fn segments_without_live_groups_are_dead() {
    let log = TestLog::with_segments(2);
    let plan = open_plan(&log);
    assert!(plan.live_segments.is_empty());
    assert!(replayed(&log, &plan).unwrap().is_empty());
    assert_eq!(plan.dead_segments, log.segments());
}

#[test]
fn groups_in_two_segments_keep_both_alive_up_to_their_own_ends() {
    let mut log = TestLog::with_segments(3);
    log.put(block(1), &commit(41, 1));
    let end = log.put(segment_base(1).plus(BLOCK_BYTES), &commit(42, 1));
    let plan = open_plan(&log);
    let ends: Vec<Lsn> = plan.live_segments.iter().map(|(end, _)| *end).collect();
    assert_eq!(ends, [segment_base(1), segment_base(2)]);
    assert_eq!(plan.dead_segments, log.segments()[2..]);
    assert_eq!(plan.tail.at, crate::wal::buffer::align_up(end));
}

#[test]
fn a_checkpoint_at_the_end_of_a_segment_starts_in_the_next_one() {
    let mut log = TestLog::with_segments(3);
    log.manifest.checkpoint_lsn = segment_base(1);
    log.manifest.segment_base = segment_base(1);
    log.put(segment_base(1).plus(BLOCK_BYTES), &commit(41, 1));
    let plan = open_plan(&log);
    assert_eq!((plan.transactions, plan.spans[0].from), (1, segment_base(1).plus(BLOCK_BYTES)));
    assert_eq!(plan.dead_segments.len(), 2, "the one before the checkpoint, and the last");
}

/// Epoch 3 wrote one commit into the first segment and was closed; epoch 4 starts at the third.
fn two_epochs() -> TestLog {
    let mut log = TestLog::with_segments(2);
    let end = log.put(block(1), &commit(41, 1));
    log.manifest.epochs[0].end = Some(end);
    log.manifest.last_epoch = Epoch(4);
    let start = segment_base(2);
    log.manifest.epochs.push(EpochRange { epoch: Epoch(4), salt: SALT + 1, start, end: None });
    for n in [2, 3] {
        let header = SegmentHeader { epoch: Epoch(4), salt: SALT + 1, ..segment_header(n) };
        log.put_segment(&header, SEGMENT_BYTES);
    }
    log
}

#[test]
fn epochs_are_walked_one_after_the_other() {
    let mut log = two_epochs();
    let first = segment_base(2).plus(BLOCK_BYTES);
    log.last = None;
    let body = commit(42, 1);
    let header = GroupHeader {
        epoch: Epoch(4),
        salt: SALT + 1,
        body_crc: crate::wal::group::body_crc(first, SALT + 1, &body),
        ..log.header(first, &body)
    };
    log.put_as(&header, first, &body);
    let plan = open_plan(&log);
    let spans: Vec<_> = plan.spans.iter().map(|span| (span.first, span.from)).collect();
    assert_eq!(spans, [(BASE, block(1)), (segment_base(2), first)]);
    assert_eq!(replayed(&log, &plan).unwrap(), [41, 42]);
}

#[test]
fn epochs_that_a_checkpoint_has_passed_or_that_wrote_nothing_are_not_walked() {
    // Passed: exactly up to its end.
    let mut log = two_epochs();
    log.manifest.checkpoint_lsn = log.manifest.epochs[0].end.unwrap();
    log.manifest.checkpoint_seqno = Seqno(41);
    log.disk.remove_file(segment_path(BASE)).unwrap();
    assert_eq!(open_plan(&log).spans.len(), 1);
    // Wrote nothing: it ended where its first group would have been.
    let mut log = two_epochs();
    log.manifest.checkpoint_lsn = BASE;
    log.manifest.epochs[0].end = Some(block(1));
    log.disk.remove_file(segment_path(BASE)).unwrap();
    assert_eq!(open_plan(&log).spans.len(), 1);
}

#[test]
fn the_end_of_the_log_lies_behind_all_that_may_have_been_handed_out() {
    let mut log = TestLog::with_segments(2);
    assert_eq!(open_plan(&log).log_end, segment_base(2));
    // Where nothing is left but the manifest.
    log.disk.remove_file(segment_path(BASE)).unwrap();
    log.disk.remove_file(segment_path(segment_base(1))).unwrap();
    log.manifest.checkpoint_lsn = block(9);
    log.manifest.epochs[0].end = Some(block(9));
    assert_eq!(open_plan(&log).log_end, block(9));
    log.manifest.epochs[0].end = Some(block(5));
    assert_eq!(open_plan(&log).log_end, block(9));
    log.manifest.checkpoint_lsn = block(4);
    log.manifest.epochs[0] = EpochRange { start: block(4), end: Some(block(5)), ..log.range() };
    assert_eq!(open_plan(&log).log_end, block(5));
}

#[test]
fn beside_an_owner_only_what_is_vouched_for_is_read() {
    let mut log = TestLog::with_segments(2);
    assert_eq!(plan_as(&log, Reader::BesideOwner).unwrap().tail.at, block(1));
    let end = log.put(block(1), &commit(41, 1));
    let header = GroupHeader { durable: end, ..log.header(block(2), &commit(42, 1)) };
    log.put_as(&header, block(2), &commit(42, 1));
    for (reader, transactions) in [(Reader::Owner, 2), (Reader::Alone, 2), (Reader::BesideOwner, 1)]
    {
        let plan = plan_as(&log, reader).unwrap();
        assert_eq!(plan.transactions, transactions, "{reader:?}");
    }
}

#[test]
fn tables_are_there_with_their_lengths() {
    let mut log = TestLog::with_segments(2);
    let tables = vec![put_meta(3, 500)];
    log.manifest.runs =
        vec![crate::manifest::RunEntry { max_seqno: Seqno(40), tables, ..Default::default() }];
    assert_eq!(damage(&log), (names::table_name(FileId(3)), 0, "the table is missing".to_owned()));
    for (bytes, offset) in [(499, 499), (501, 500)] {
        put_table(&log, 3, bytes);
        let (file, at, what) = damage(&log);
        assert_eq!((file, at), (names::table_name(FileId(3)), offset));
        assert!(what.contains(&format!("has {bytes} bytes, expected 500")), "{what}");
    }
    put_table(&log, 3, 500);
    let plan = open_plan(&log);
    assert!(plan.orphans.is_empty());
    assert_eq!(plan.next_file_id, FileId(9));
    let metas = table_metas(dir(), &plan.manifest).unwrap();
    assert_eq!((metas.len(), metas[0].1.file_id), (1, FileId(3)));
    // Others are orphans, and their numbers are not given out again.
    put_table(&log, 12, 1);
    let plan = open_plan(&log);
    assert_eq!(plan.orphans, [names::table_name(FileId(12))]);
    assert_eq!(plan.next_file_id, FileId(13));

    log.manifest.runs[0].tables[0].push(0);
    assert!(damage(&log).2.contains("cannot be read"));
}

#[test]
fn tables_that_the_log_installs_are_in_use_and_must_be_there() {
    let install = |meta: &[u8]| {
        let mut operations = Vec::new();
        Operation::InstallTable { meta }.encode(&mut operations);
        let mut log = TestLog::with_segments(2);
        log.put(block(1), &commit_of(41, &operations));
        log
    };
    let mut log = install(&put_meta(12, 300));
    assert_eq!(damage(&log).2, "the table is missing");
    put_table(&log, 12, 299);
    assert_eq!(damage(&log).1, 299);
    put_table(&log, 12, 300);
    put_table(&log, 13, 300);
    let plan = open_plan(&log);
    assert_eq!(plan.installed.len(), 1);
    assert_eq!(plan.orphans, [names::table_name(FileId(13))]);
    // Also after a clean close they must be published.
    assert!(plan.needs_apply());
    log.manifest.clean = true;
    log.manifest.epochs[0].end = Some(log.last.unwrap().lsn.plus(log.last.unwrap().group_bytes()));
    assert!(open_plan(&log).needs_apply());

    let mut longer = put_meta(12, 300);
    longer.push(0);
    let (_, offset, what) = damage(&install(&longer));
    assert_eq!(offset, BLOCK_BYTES);
    assert!(what.contains("cannot be read"), "{what}");
}

#[test]
fn features_that_only_a_writer_must_know_stop_the_owner_only() {
    let mut log = TestLog::with_segments(1);
    log.manifest.features.read_only = 1;
    assert!(plan_as(&log, Reader::Alone).is_ok() && plan_as(&log, Reader::BesideOwner).is_ok());
    assert!(matches!(plan_as(&log, Reader::Owner), Err(Error::Unsupported { .. })));
}

#[test]
fn a_clean_database_needs_no_recovery() {
    let mut log = TestLog::with_segments(1);
    log.manifest.clean = true;
    log.manifest.epochs[0].end = Some(block(1));
    assert!(!open_plan(&log).needs_apply());
    log.manifest.clean = false;
    assert!(open_plan(&log).needs_apply());
}

#[test]
fn dead_segments_tell_of_an_older_manifest_from_its_log_on() {
    let newer = Generation(GENERATION.get() + 1);
    let mut log = TestLog::with_segments(2);
    log.manifest.checkpoint_lsn = segment_base(1).plus(BLOCK_BYTES);
    log.manifest.segment_base = segment_base(1);
    log.put_segment(&segment_header(2), SEGMENT_BYTES);
    // One before it is dead whatever it holds.
    log.put_segment(&SegmentHeader { generation: newer, ..segment_header(0) }, SEGMENT_BYTES);
    assert_eq!(open_plan(&log).dead_segments.len(), 3);
    log.put_segment(&SegmentHeader { generation: newer, ..segment_header(2) }, SEGMENT_BYTES);
    assert!(damage(&log).2.contains("older manifest"));
    // The very segment that the log starts in, where a closed epoch ended before.
    log.put_segment(&segment_header(2), SEGMENT_BYTES);
    log.put_segment(&SegmentHeader { generation: newer, ..segment_header(1) }, SEGMENT_BYTES);
    log.manifest.epochs[0].end = Some(log.manifest.checkpoint_lsn);
    assert!(damage(&log).2.contains("older manifest"));
}

#[test]
fn without_a_manifest_there_is_nothing_or_damage() {
    let log = TestLog::new();
    let outcome = |log: &TestLog| plan(&log.disk, dir(), Reader::Owner);
    assert!(matches!(outcome(&log), Ok(Plan::Create)));
    assert!(matches!(plan(&log.disk, Path::new("/none"), Reader::Owner), Ok(Plan::Create)));
    put_table(&log, 1, 1);
    assert!(matches!(outcome(&log), Err(Error::Damage { .. })), "a table");
    let log = TestLog::with_segments(1);
    assert!(matches!(outcome(&log), Err(Error::Damage { .. })), "a segment");
    let log = TestLog::new();
    log.disk.write_file("/db/letter.txt", b"").unwrap();
    assert!(matches!(outcome(&log), Err(Error::NotADatabase { .. })));
}

#[test]
fn the_replay_checks_the_groups_again() {
    let mut log = TestLog::with_segments(2);
    log.put(block(1), &commit(41, 1));
    log.put(block(2), &commit(42, 1));
    let plan = open_plan(&log);
    // More than the plan saw is left alone; less is an error.
    log.put(block(3), &commit(43, 1));
    assert_eq!(replayed(&log, &plan).unwrap(), [41, 42]);
    log.flip(body_of(block(2)));
    assert!(matches!(replayed(&log, &plan), Err(Error::Damage { .. })));
}

#[test]
fn a_replay_up_to_a_commit_ends_with_it() {
    let mut log = TestLog::with_segments(2);
    let first = log.put(block(1), &commit(41, 1));
    let second = log.put(first, &commit(42, 1));
    let of = |until| Box::new(open_plan(&log)).stopping_at(dir(), until);
    let end = |at: Lsn, body: &[u8]| body_of(at).plus(body.len() as u64);
    let cases = [
        (None, vec![41, 42]),
        (Some(block(1)), vec![]),
        (Some(end(block(1), &commit(41, 1))), vec![41]),
        (Some(end(first, &commit(42, 1))), vec![41, 42]),
        (Some(crate::wal::buffer::align_up(second)), vec![41, 42]),
    ];
    for (until, expected) in cases {
        assert_eq!(replayed(&log, &of(until).unwrap()).unwrap(), expected, "{until:?}");
    }
    for until in [Lsn(block(1).get() - 1), block(2).plus(1)] {
        let error = of(Some(until)).unwrap_err();
        let Error::NotReachable { at, from, to, .. } = error else { panic!("{error}") };
        assert_eq!((at, from, to), (until, block(1), block(2)));
    }
}
