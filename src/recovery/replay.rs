//! From groups to transactions: puts fragments together and checks the commit order.
//!
//! Invariants: seqnos follow one another without a gap; fragments of a transaction follow one another
//! without another record between them; a transaction is handed on only when its last fragment was seen,
//! and its operations have the length that the last fragment names.

use super::walk::GroupPlace;
use crate::error::{Error, Result};
use crate::mistakes::{Mistake, planted};
use crate::types::{Lsn, Seqno};
use crate::wal::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::wal::record::{Record, RecordFault, Records};

/// A whole transaction from the log.
#[derive(Debug)]
pub struct Transaction<'a> {
    pub seqno: Seqno,
    pub time_micros: u64,
    /// Just past its last record: what its commit returned.
    pub end: Lsn,
    pub operations: &'a [u8],
}

/// Takes whole transactions in commit order.
pub trait TransactionSink {
    /// One transaction; `header` and `place` name the group that holds its last record.
    fn transaction(
        &mut self,
        transaction: &Transaction<'_>,
        header: &GroupHeader,
        place: &GroupPlace<'_>,
    ) -> Result<()>;
}

/// Puts transactions together.
#[derive(Debug)]
pub struct Assembler {
    last: Seqno,
    parts: Option<Parts>,
    unfinished: u64,
}

#[derive(Debug)]
struct Parts {
    seqno: Seqno,
    next_index: u32,
    operations: Vec<u8>,
}

impl Assembler {
    /// Expects the commit after `last` first.
    pub fn new(last: Seqno) -> Assembler {
        Assembler { last, parts: None, unfinished: 0 }
    }

    /// The last whole transaction.
    pub fn last_seqno(&self) -> Seqno {
        self.last
    }

    /// Transactions that began and never ended.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// What is there of a transaction that has not ended, for those who take it for all of it.
    pub fn unfinished_part(&self) -> Option<Transaction<'_>> {
        let parts = self.parts.as_ref().filter(|_| planted(Mistake::UnfinishedApplied))?;
        let (seqno, operations) = (parts.seqno, &parts.operations);
        Some(Transaction { seqno, time_micros: 0, end: Lsn::ZERO, operations })
    }

    /// The epoch is over: a transaction that has not ended never will.
    pub fn end_of_epoch(&mut self) {
        self.unfinished += u64::from(self.parts.take().is_some());
    }

    /// Takes the records of one group and hands on the transactions that end in it.
    pub fn group(
        &mut self,
        header: &GroupHeader,
        body: &[u8],
        place: &GroupPlace<'_>,
        sink: &mut dyn FnMut(&Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        let damage = |what: String| place.damage(header.lsn, what);
        let mut count = 0_u32;
        let mut records = Records::new(body);
        while let Some(record) = records.next() {
            count += 1;
            let end = header.lsn.plus((GROUP_HEADER_BYTES + records.offset()) as u64);
            let record = record.map_err(|fault| match fault {
                RecordFault::UnknownKind(kind) => Error::Unsupported {
                    file: place.path.to_path_buf(),
                    what: "record kind",
                    found: u64::from(kind),
                    supported: 4,
                },
                fault => damage(format!("bad record: {fault}")),
            })?;
            match record {
                Record::Commit { seqno, time_micros, operations } => {
                    self.expect(seqno, 0).map_err(damage)?;
                    self.last = seqno;
                    sink(&Transaction { seqno, time_micros, end, operations })?;
                }
                Record::Fragment { seqno, index, operations } => {
                    self.expect(seqno, index).map_err(damage)?;
                    self.append(seqno, operations).map_err(damage)?;
                }
                Record::FinalFragment { seqno, time_micros, index, total_bytes, operations } => {
                    self.expect(seqno, index).map_err(damage)?;
                    self.append(seqno, operations).map_err(damage)?;
                    let parts = self.parts.take();
                    let whole = parts.map(|parts| parts.operations).unwrap_or_default();
                    if whole.len() as u64 != total_bytes {
                        return Err(damage(format!(
                            "transaction {seqno} has {} bytes of operations, expected {total_bytes}",
                            whole.len()
                        )));
                    }
                    self.last = seqno;
                    sink(&Transaction { seqno, time_micros, end, operations: &whole })?;
                }
                Record::Witness | Record::Skipped { .. } => {}
            }
        }
        if count != header.records {
            return Err(damage(format!(
                "the group has {count} records, expected {}",
                header.records
            )));
        }
        Ok(())
    }

    fn expect(&self, seqno: Seqno, index: u32) -> Result<(), String> {
        let next = Seqno(self.last.get() + 1);
        let any = planted(Mistake::GapsAccepted) || planted(Mistake::ReplayPastHole);
        if any && seqno > self.last && index == 0 && self.parts.is_none() {
            return Ok(());
        }
        let expected_index = self.parts.as_ref().map_or(0, |parts| parts.next_index);
        if seqno != next || index != expected_index {
            return Err(format!(
                "transaction {seqno} part {index} where {next} part {expected_index} was expected"
            ));
        }
        Ok(())
    }

    fn append(&mut self, seqno: Seqno, operations: &[u8]) -> Result<(), String> {
        let parts = self.parts.get_or_insert_with(|| Parts {
            seqno,
            next_index: 0,
            operations: Vec::new(),
        });
        debug_assert_eq!(parts.seqno, seqno);
        parts.next_index += 1;
        parts
            .operations
            .try_reserve(operations.len())
            .map_err(|_| format!("transaction {seqno} does not fit into memory"))?;
        parts.operations.extend_from_slice(operations);
        Ok(())
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
