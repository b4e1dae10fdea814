//! Tests of the record codec.

use super::*;
use crate::bytes::testing::{Random, assert_golden};

fn sample() -> Vec<u8> {
    let mut body = Vec::new();
    put_commit(&mut body, Seqno(7), 1_700_000_000_000_000, b"abc");
    put_fragment(&mut body, Seqno(8), 0, b"de");
    put_final_fragment(&mut body, Seqno(8), 1_700_000_000_000_001, 1, 3, b"f");
    put_witness(&mut body);
    body
}

fn expected() -> [Record<'static>; 4] {
    [
        Record::Commit { seqno: Seqno(7), time_micros: 1_700_000_000_000_000, operations: b"abc" },
        Record::Fragment { seqno: Seqno(8), index: 0, operations: b"de" },
        Record::FinalFragment {
            seqno: Seqno(8),
            time_micros: 1_700_000_000_000_001,
            index: 1,
            total_bytes: 3,
            operations: b"f",
        },
        Record::Witness,
    ]
}

/// Changing these bytes means a new format version.
#[test]
fn golden() {
    assert_golden(
        &sample(),
        "
        0100000013000000 0700000000000000 00401e18240a0600 6162630200000012
        0000000800000000 0000000000000000 0000006465030000 0021000000080000
        000000000001401e 18240a0600010000 0000000000030000 0000000000660400
        000000000000
        ",
    );
}

#[test]
fn round_trips() {
    let body = sample();
    let records: Result<Vec<_>, _> = Records::new(&body).collect();
    assert_eq!(records.unwrap(), expected());
    assert_eq!(
        body.len(),
        commit_record_bytes(3)
            + FRAGMENT_OVERHEAD_BYTES
            + 2
            + FINAL_FRAGMENT_OVERHEAD_BYTES
            + 1
            + WITNESS_RECORD_BYTES
    );
    assert_eq!(Records::new(&[]).next(), None);
}

#[test]
fn every_cut_inside_a_record_is_refused() {
    let body = sample();
    let mut ends = vec![0];
    let mut records = Records::new(&body);
    while records.next().is_some() {
        ends.push(records.offset());
    }
    for length in 0..body.len() {
        let last = Records::new(&body[..length]).last();
        assert_eq!(matches!(last, Some(Err(RecordFault::Short))), !ends.contains(&length));
    }
}

#[test]
fn faults_are_told_apart_and_end_the_iterator() {
    let record = |at: usize, byte: u8| {
        let mut body = Vec::new();
        put_final_fragment(&mut body, Seqno(8), 1, 1, 3, b"f");
        body[at] = byte;
        body
    };
    let cases: [(Vec<u8>, RecordFault); 13] = [
        (record(0, 0), RecordFault::UnknownKind(0)),
        (record(0, 5), RecordFault::UnknownKind(5)),
        (record(0, 16), RecordFault::UnknownKind(16)),
        (record(0, 4), RecordFault::Field),
        (vec![0, 1, 0, 0, 0, 0, 0, 0], RecordFault::UnknownKind(0)),
        (vec![200, 2, 0, 0, 0, 0, 0, 0], RecordFault::Flags),
        (vec![1, 0, 0, 0, 2, 0, 0, 0, 9, 9], RecordFault::Field),
        (record(1, 1), RecordFault::Flags),
        (record(3, 1), RecordFault::Field),
        (record(7, 0xff), RecordFault::Short),
        (record(15, 0x40), RecordFault::Field),
        (record(28, 1), RecordFault::Field),
        (record(32, 0), RecordFault::Field),
    ];
    for (index, (bytes, fault)) in cases.into_iter().enumerate() {
        let mut body = Vec::new();
        put_witness(&mut body);
        body.extend_from_slice(&bytes);
        let mut records = Records::new(&body);
        assert_eq!(records.next(), Some(Ok(Record::Witness)));
        assert_eq!(records.next(), Some(Err(fault)), "case {index}");
        assert_eq!(records.next(), None);
        assert_eq!(records.offset(), 8);
    }
}

#[test]
fn unknown_kinds_are_skipped_only_if_they_say_so() {
    let mut body = vec![200, 1, 0, 0, 3, 0, 0, 0, 1, 2, 3];
    put_witness(&mut body);
    let records: Vec<_> = Records::new(&body).collect();
    assert_eq!(records, [Ok(Record::Skipped { kind: 200 }), Ok(Record::Witness)]);
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(31);
    for _ in 0..crate::bytes::testing::scaled(50_000) {
        let mut body = sample();
        for _ in 0..=random.below(3) {
            let at = random.below(body.len());
            body[at] = random.next() as u8;
        }
        body.truncate(random.below(body.len()) + 1);
        Records::new(&body).for_each(drop);
        let length = random.below(100);
        Records::new(&random.bytes(length)).for_each(drop);
    }
}
