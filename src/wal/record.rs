//! The record: one logical entry of a group's body. Records follow each other without gaps.
//!
//! ```text
//! record = kind u8, flags u8, reserved u16 (zero), payload_bytes u32, payload
//!
//! 1 Commit         seqno u64, time_micros u64, operations
//! 2 Fragment       seqno u64, index u32, reserved u32 (zero), operations
//! 3 FinalFragment  seqno u64, time_micros u64, index u32, reserved u32 (zero), total_bytes u64, operations
//! 4 Witness        (nothing)
//! ```
//!
//! A transaction that does not fit one group is cut into fragments, numbered from 0 without gaps; it
//! exists only once its final fragment does. Kinds 16 to 31 are kept for prepared transactions. Flag
//! bit 0 says that a version that does not know the kind may skip the record; the kinds above never set
//! it, and all other bits are zero.
//!
//! Invariants: a body is taken whole or not at all: every byte belongs to a record; the iterator ends
//! after its first fault.

use super::COUNTER_LIMIT;
use super::group::GROUP_BODY_MAX_BYTES;
use crate::bytes::{set_u32, set_u64, u32_at, u64_at};
use crate::types::Seqno;

/// Length of a record's header. Frozen.
pub const RECORD_HEADER_BYTES: usize = 8;
/// What a commit record adds to its operations.
pub const COMMIT_OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + 16;
/// What a fragment record adds to its operations.
pub const FRAGMENT_OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + 16;
/// What a final fragment record adds to its operations.
pub const FINAL_FRAGMENT_OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + 32;
/// Length of a witness record.
pub const WITNESS_RECORD_BYTES: usize = RECORD_HEADER_BYTES;

const KIND_COMMIT: u8 = 1;
const KIND_FRAGMENT: u8 = 2;
const KIND_FINAL_FRAGMENT: u8 = 3;
const KIND_WITNESS: u8 = 4;
const FLAG_SKIPPABLE: u8 = 1;

/// One logical entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A whole transaction.
    Commit {
        /// Its place in the commit order.
        seqno: Seqno,
        /// When it committed, in microseconds since 1970.
        time_micros: u64,
        /// What it changes: a stream of [`Operation`](super::operation::Operation)s.
        operations: &'a [u8],
    },
    /// A part of a transaction, not the last.
    Fragment {
        /// The transaction's place in the commit order.
        seqno: Seqno,
        /// Number of the part, from 0 without gaps.
        index: u32,
        /// The next bytes of the operations stream; operations may be cut anywhere.
        operations: &'a [u8],
    },
    /// The last part of a transaction: with it the transaction exists.
    FinalFragment {
        /// The transaction's place in the commit order.
        seqno: Seqno,
        /// When it committed, in microseconds since 1970.
        time_micros: u64,
        /// Number of the part: how many came before.
        index: u32,
        /// Length of the whole operations stream, all parts together.
        total_bytes: u64,
        /// The last bytes of the operations stream.
        operations: &'a [u8],
    },
    /// Nothing: the group exists to vouch for those before it.
    Witness,
    /// A record of a kind that this version does not know, and may skip.
    Skipped {
        /// The kind.
        kind: u8,
    },
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The body ends inside the record.
    #[error("a record is cut short")]
    Short,
    /// A flag that no version sets.
    #[error("a record has unknown flags")]
    Flags,
    /// A kind that this version does not know and may not skip.
    #[error("a record has kind {0}")]
    UnknownKind(u8),
    /// A reserved field is not zero, or a field is out of its bounds.
    #[error("a record has an impossible field")]
    Field,
}

/// Length of a commit record with that many bytes of operations.
#[inline]
pub const fn commit_record_bytes(operations_len: usize) -> usize {
    COMMIT_OVERHEAD_BYTES + operations_len
}

/// Appends a whole transaction.
///
/// # Panics
/// If the record is longer than a group's body.
#[inline]
pub fn put_commit(out: &mut Vec<u8>, seqno: Seqno, time_micros: u64, operations: &[u8]) {
    let mut head = head::<COMMIT_OVERHEAD_BYTES>(KIND_COMMIT, seqno, operations.len());
    set_u64(&mut head, 16, time_micros);
    put(out, &head, operations);
}

/// Appends a part of a transaction that is not its last.
///
/// # Panics
/// If the record is longer than a group's body.
#[inline]
pub fn put_fragment(out: &mut Vec<u8>, seqno: Seqno, index: u32, operations: &[u8]) {
    let mut head = head::<FRAGMENT_OVERHEAD_BYTES>(KIND_FRAGMENT, seqno, operations.len());
    set_u32(&mut head, 16, index);
    put(out, &head, operations);
}

/// Appends the last part of a transaction. `total_bytes` is the length of the whole operations stream.
///
/// # Panics
/// If the record is longer than a group's body, or `total_bytes` is less than this part.
#[inline]
pub fn put_final_fragment(
    out: &mut Vec<u8>,
    seqno: Seqno,
    time_micros: u64,
    index: u32,
    total_bytes: u64,
    operations: &[u8],
) {
    assert!(total_bytes >= operations.len() as u64, "a part is longer than the whole");
    let mut head =
        head::<FINAL_FRAGMENT_OVERHEAD_BYTES>(KIND_FINAL_FRAGMENT, seqno, operations.len());
    set_u64(&mut head, 16, time_micros);
    set_u32(&mut head, 24, index);
    set_u64(&mut head, 32, total_bytes);
    put(out, &head, operations);
}

/// Appends the record of an otherwise empty group.
#[inline]
pub fn put_witness(out: &mut Vec<u8>) {
    out.extend_from_slice(&[KIND_WITNESS, 0, 0, 0, 0, 0, 0, 0]);
}

/// The records of a body. Ends after the first fault.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> Records<'a> {
    /// The records of a body that passed its checksum.
    pub fn new(body: &'a [u8]) -> Self {
        Records { body, at: 0, failed: false }
    }

    /// Where in the body the next record starts; after a fault, where the bad one does.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.at == self.body.len() {
            return None;
        }
        let decoded = decode(&self.body[self.at..]);
        match decoded {
            Ok((_, length)) => self.at += length,
            Err(_) => self.failed = true,
        }
        Some(decoded.map(|(record, _)| record))
    }
}

impl std::iter::FusedIterator for Records<'_> {}

/// The header of a record and its seqno; the rest is zero.
#[inline]
fn head<const N: usize>(kind: u8, seqno: Seqno, operations_len: usize) -> [u8; N] {
    assert!(N + operations_len <= GROUP_BODY_MAX_BYTES, "a record must fit one group");
    assert!(seqno.0 < COUNTER_LIMIT, "seqno {seqno} is out of bounds");
    let mut head = [0; N];
    head[0] = kind;
    set_u32(&mut head, 4, (N - RECORD_HEADER_BYTES + operations_len) as u32);
    set_u64(&mut head, 8, seqno.0);
    head
}

#[inline]
fn put(out: &mut Vec<u8>, head: &[u8], operations: &[u8]) {
    out.reserve(head.len() + operations.len());
    out.extend_from_slice(head);
    out.extend_from_slice(operations);
}

/// The record at the start of `bytes`, and its length.
fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), RecordFault> {
    let (header, rest) = bytes.split_at_checked(RECORD_HEADER_BYTES).ok_or(RecordFault::Short)?;
    let (kind, flags) = (header[0], header[1]);
    if flags & !FLAG_SKIPPABLE != 0 {
        return Err(RecordFault::Flags);
    }
    if header[2..4] != [0, 0] {
        return Err(RecordFault::Field);
    }
    let payload = rest.get(..u32_at(header, 4) as usize).ok_or(RecordFault::Short)?;
    let length = RECORD_HEADER_BYTES + payload.len();
    let record = match kind {
        KIND_COMMIT..=KIND_WITNESS if flags != 0 => return Err(RecordFault::Flags),
        KIND_COMMIT => {
            let (fields, operations) = split(payload, 16)?;
            Record::Commit { seqno: seqno(fields)?, time_micros: u64_at(fields, 8), operations }
        }
        KIND_FRAGMENT => {
            let (fields, operations) = split(payload, 16)?;
            check(u32_at(fields, 12) == 0)?;
            Record::Fragment { seqno: seqno(fields)?, index: u32_at(fields, 8), operations }
        }
        KIND_FINAL_FRAGMENT => {
            let (fields, operations) = split(payload, 32)?;
            let total_bytes = u64_at(fields, 24);
            check(u32_at(fields, 20) == 0 && total_bytes >= operations.len() as u64)?;
            Record::FinalFragment {
                seqno: seqno(fields)?,
                time_micros: u64_at(fields, 8),
                index: u32_at(fields, 16),
                total_bytes,
                operations,
            }
        }
        KIND_WITNESS => {
            check(payload.is_empty())?;
            Record::Witness
        }
        // Zero is what unwritten bytes read as: never a kind, whatever the flags say.
        kind if kind != 0 && flags & FLAG_SKIPPABLE != 0 => Record::Skipped { kind },
        kind => return Err(RecordFault::UnknownKind(kind)),
    };
    Ok((record, length))
}

fn split(payload: &[u8], fields_bytes: usize) -> Result<(&[u8], &[u8]), RecordFault> {
    payload.split_at_checked(fields_bytes).ok_or(RecordFault::Field)
}

fn seqno(fields: &[u8]) -> Result<Seqno, RecordFault> {
    let seqno = u64_at(fields, 0);
    check(seqno < COUNTER_LIMIT).map(|()| Seqno(seqno))
}

fn check(holds: bool) -> Result<(), RecordFault> {
    if holds { Ok(()) } else { Err(RecordFault::Field) }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
