//! Bodies of groups that no writer writes, though each passes its checksum.

use super::{Assembler, Transaction};
use crate::error::{Error, Result};
use crate::recovery::walk::GroupPlace;
use crate::types::{Epoch, Generation, Lsn, Seqno};
use crate::wal::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::wal::record::{put_commit, put_final_fragment, put_fragment, put_witness};
use std::path::Path;

/// What was handed on: seqno, end, operations.
type Found = Vec<(u64, u64, Vec<u8>)>;

const LSN: Lsn = Lsn(8192);

fn header(records: u32, body: &[u8]) -> GroupHeader {
    GroupHeader {
        lsn: LSN,
        epoch: Epoch(1),
        salt: 1,
        durable: LSN,
        previous: LSN,
        previous_crc: 0,
        generation: Generation(1),
        body_bytes: body.len() as u32,
        body_crc: 0,
        records,
    }
}

/// One group more for an assembler.
fn group(assembler: &mut Assembler, records: u32, body: &[u8]) -> Result<Found> {
    let place = GroupPlace { path: Path::new("log"), offset: 4096 };
    let mut found = Found::new();
    assembler.group(&header(records, body), body, &place, &mut |tx: &Transaction<'_>| {
        found.push((tx.seqno.get(), tx.end.get(), tx.operations.to_vec()));
        Ok(())
    })?;
    Ok(found)
}

/// What the damage of a body is, for an assembler that saw commit 4 last.
fn damage(records: u32, put: impl Fn(&mut Vec<u8>)) -> String {
    let mut body = Vec::new();
    put(&mut body);
    match group(&mut Assembler::new(Seqno(4)), records, &body) {
        Err(Error::Damage { file, offset, lsn_range, what }) => {
            assert_eq!((file.as_path(), offset), (Path::new("log"), 4096));
            assert_eq!(lsn_range, Some((LSN, LSN)));
            what
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn whole_transactions_and_parts_are_handed_on_once_and_in_order() {
    let mut assembler = Assembler::new(Seqno(4));
    let mut body = Vec::new();
    put_commit(&mut body, Seqno(5), 9, b"five");
    put_witness(&mut body);
    let first = body.len() as u64 - 8;
    put_fragment(&mut body, Seqno(6), 0, b"si");
    let found = group(&mut assembler, 3, &body).unwrap();
    let end = LSN.get() + GROUP_HEADER_BYTES as u64 + first;
    assert_eq!(found, [(5, end, b"five".to_vec())]);
    assert_eq!((assembler.last_seqno(), assembler.unfinished()), (Seqno(5), 0));

    let mut body = Vec::new();
    put_fragment(&mut body, Seqno(6), 1, b"x");
    put_final_fragment(&mut body, Seqno(6), 9, 2, 4, b"!");
    let end = LSN.get() + (GROUP_HEADER_BYTES + body.len()) as u64;
    put_fragment(&mut body, Seqno(7), 0, b"seven");
    assert_eq!(group(&mut assembler, 3, &body).unwrap(), [(6, end, b"six!".to_vec())]);
    assert_eq!((assembler.last_seqno(), assembler.unfinished()), (Seqno(6), 0));

    // The epoch ends in the middle of transaction 7; the next one begins with another of that number.
    assembler.end_of_epoch();
    assert_eq!(assembler.unfinished(), 1);
    assembler.end_of_epoch();
    assert_eq!(assembler.unfinished(), 1);
    let mut body = Vec::new();
    put_commit(&mut body, Seqno(7), 9, b"7");
    assert_eq!(group(&mut assembler, 1, &body).unwrap().len(), 1);
}

#[test]
fn a_transaction_out_of_its_turn_is_damage() {
    for seqno in [0, 3, 4, 6, 7] {
        let what = damage(1, |body| put_commit(body, Seqno(seqno), 0, b""));
        let expected = format!("transaction {seqno} part 0 where 5 part 0 was expected");
        assert_eq!(what, expected);
        assert_eq!(damage(1, |body| put_fragment(body, Seqno(seqno), 0, b"a")), expected);
        assert_eq!(
            damage(1, |body| put_final_fragment(body, Seqno(seqno), 0, 0, 1, b"a")),
            expected
        );
    }
}

#[test]
fn a_part_out_of_its_turn_is_damage() {
    let what = damage(1, |body| put_fragment(body, Seqno(5), 1, b"a"));
    assert_eq!(what, "transaction 5 part 1 where 5 part 0 was expected");
    for (index, seqno) in [(0, 5), (2, 5), (1, 6), (1, 4)] {
        let what = damage(2, |body| {
            put_fragment(body, Seqno(5), 0, b"a");
            put_fragment(body, Seqno(seqno), index, b"b");
        });
        let expected = format!("transaction {seqno} part {index} where 5 part 1 was expected");
        assert_eq!(what, expected);
    }
    // Another transaction between two parts.
    let what = damage(2, |body| {
        put_fragment(body, Seqno(5), 0, b"a");
        put_commit(body, Seqno(5), 0, b"b");
    });
    assert_eq!(what, "transaction 5 part 0 where 5 part 1 was expected");
}

#[test]
fn a_transaction_of_another_length_than_it_says_is_damage() {
    for total in [2, 4] {
        let what = damage(2, |body| {
            put_fragment(body, Seqno(5), 0, b"ab");
            put_final_fragment(body, Seqno(5), 0, 1, total, b"c");
        });
        assert_eq!(what, format!("transaction 5 has 3 bytes of operations, expected {total}"));
    }
}

#[test]
fn more_or_fewer_records_than_the_header_says_are_damage() {
    for records in [0, 1, 3] {
        let what = damage(records, |body| {
            put_commit(body, Seqno(5), 0, b"a");
            put_witness(body);
        });
        assert_eq!(what, format!("the group has 2 records, expected {records}"));
    }
}

#[test]
fn a_record_that_is_cut_is_damage() {
    let what = damage(1, |body| {
        put_commit(body, Seqno(5), 0, b"abcd");
        body.pop();
    });
    assert_eq!(what, "bad record: a record is cut short");
}

#[test]
fn a_record_of_a_newer_version_is_unsupported_unless_it_may_be_skipped() {
    let newer = |flags| {
        let mut body = vec![200, flags, 0, 0, 1, 0, 0, 0, 7];
        put_commit(&mut body, Seqno(5), 0, b"a");
        group(&mut Assembler::new(Seqno(4)), 2, &body)
    };
    assert_eq!(newer(1).unwrap().len(), 1);
    let error = newer(0).unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { what: "record kind", found: 200, supported: 4, .. }),
        "{error:?}"
    );
}
