//! From the chain to transactions: puts fragments together, skips what is incomplete, and notes which
//! commits are missing.

use super::chain::{Chain, Link};
use super::receipt::LostLog;
use super::scan::Scan;
use crate::error::Result;
use crate::fs::FileSystem;
use crate::types::{Lsn, Seqno};
use crate::wal::group::GROUP_HEADER_BYTES;
use crate::wal::record::{Record, Records};

/// A whole transaction from the log.
#[derive(Debug)]
pub struct FoundTransaction<'a> {
    pub seqno: Seqno,
    pub time_micros: u64,
    /// Just past its last record: what its commit returned.
    pub lsn: Lsn,
    pub operations: &'a [u8],
}

/// What came of a pass over the chain.
#[derive(Debug, Default)]
pub struct Pass {
    pub transactions: u64,
    pub first_seqno: Option<Seqno>,
    pub last_seqno: Seqno,
    /// Just past the last transaction.
    pub last_lsn: Lsn,
    /// When it was committed, in microseconds since 1970; 0 if there is none.
    pub last_commit_micros: u64,
    /// The last commit before the newest place where commits are missing; what follows is contiguous.
    pub contiguous_from: Seqno,
    /// The chain's losses, with the commits that they cost.
    pub lost: Vec<LostLog>,
}

/// Hands the transactions of the chain to `sink`, in commit order, until it returns false. `after` is the
/// last commit that is known from elsewhere; with `None` the first one found is the beginning.
pub fn transactions(
    fs: &dyn FileSystem,
    scan: &Scan,
    chain: &Chain,
    after: Option<Seqno>,
    sink: &mut dyn FnMut(&FoundTransaction<'_>) -> Result<bool>,
) -> Result<Pass> {
    let mut pass = Pass {
        last_seqno: after.unwrap_or_default(),
        contiguous_from: after.unwrap_or_default(),
        lost: chain.lost.clone(),
        ..Pass::default()
    };
    let mut known = after.is_some();
    // Losses since the last transaction: their commits end before the next one.
    let mut open: Vec<usize> = Vec::new();
    let mut parts: Option<(Seqno, u32, Vec<u8>)> = None;
    for link in &chain.links {
        let group = match link {
            Link::Gap(lost) => {
                open.push(*lost);
                parts = None;
                continue;
            }
            Link::EpochEnd => {
                parts = None;
                continue;
            }
            Link::Group(group) => group,
        };
        let cut = chain.cuts.iter().find(|(epoch, _)| *epoch == group.header.epoch);
        let body = scan.body(fs, group)?;
        let mut record_end = group.header.lsn.plus(GROUP_HEADER_BYTES as u64);
        let mut records = Records::new(&body);
        loop {
            let record = records.next();
            let Some(Ok(record)) = record else { break };
            let offset = records.offset() as u64;
            record_end = record_end.max(group.header.lsn.plus(GROUP_HEADER_BYTES as u64 + offset));
            let (seqno, time_micros, whole) = match record {
                Record::Commit { seqno, time_micros, operations } => {
                    parts = None;
                    (seqno, time_micros, operations.to_vec())
                }
                Record::Fragment { seqno, index, operations } => {
                    parts = extend(parts.take(), seqno, index, operations);
                    continue;
                }
                Record::FinalFragment { seqno, time_micros, index, total_bytes, operations } => {
                    match extend(parts.take(), seqno, index, operations) {
                        Some((seqno, _, whole)) if whole.len() as u64 == total_bytes => {
                            (seqno, time_micros, whole)
                        }
                        // Its beginning is lost; the next whole transaction tells its number.
                        _ => continue,
                    }
                }
                Record::Witness | Record::Skipped { .. } => continue,
            };
            if cut.is_some_and(|(_, first)| seqno >= *first) || (known && seqno <= pass.last_seqno)
            {
                continue;
            }
            let next = Seqno(pass.last_seqno.get() + 1);
            if known && seqno > next {
                pass.contiguous_from = Seqno(seqno.get() - 1);
                note(&mut pass.lost, &open, next, Some(Seqno(seqno.get() - 1)), record_end);
            }
            // A loss that cost no commit (witnesses, or fragments of one that follows) is none.
            settle(&mut pass.lost, &mut open);
            known = true;
            pass.last_seqno = seqno;
            pass.first_seqno.get_or_insert(seqno);
            pass.transactions += 1;
            let found =
                FoundTransaction { seqno, time_micros, lsn: record_end, operations: &whole };
            (pass.last_lsn, pass.last_commit_micros) = (record_end, time_micros);
            (pass.last_lsn, pass.last_commit_micros) = (found.lsn, found.time_micros);
            if !sink(&found)? {
                return Ok(finish(pass, &[], known));
            }
        }
    }
    Ok(finish(pass, &open, known))
}

/// The commits of losses that nothing follows are those after the last one found.
fn finish(mut pass: Pass, open: &[usize], known: bool) -> Pass {
    let first = known.then_some(Seqno(pass.last_seqno.get() + 1));
    for lost in open {
        pass.lost[*lost].first_seqno = first;
    }
    // A loss before a transaction that followed without a missing number cost nothing.
    pass.lost.retain(|lost| lost.what != NOTHING_LOST);
    pass
}

const NOTHING_LOST: &str = "";

fn note(lost: &mut Vec<LostLog>, open: &[usize], first: Seqno, last: Option<Seqno>, at: Lsn) {
    if open.is_empty() {
        // Numbers are missing though every link holds: the groups were put there by somebody else.
        lost.push(LostLog {
            from: at,
            to: Some(at),
            first_seqno: Some(first),
            last_seqno: last,
            certain: true,
            what: "commits are missing between two groups".to_owned(),
        });
    }
    for index in open {
        lost[*index].first_seqno = Some(first);
        lost[*index].last_seqno = last;
    }
}

fn settle(lost: &mut [LostLog], open: &mut Vec<usize>) {
    for index in open.drain(..) {
        if lost[index].first_seqno.is_none() {
            lost[index].what = NOTHING_LOST.to_owned();
        }
    }
}

fn extend(
    parts: Option<(Seqno, u32, Vec<u8>)>,
    seqno: Seqno,
    index: u32,
    operations: &[u8],
) -> Option<(Seqno, u32, Vec<u8>)> {
    let (_, next, mut whole) = match parts {
        Some(parts) if parts.0 == seqno => parts,
        _ => (seqno, 0, Vec::new()),
    };
    if index != next || whole.try_reserve(operations.len()).is_err() {
        return None;
    }
    whole.extend_from_slice(operations);
    Some((seqno, next + 1, whole))
}
