//! The chain: which of the groups that were found belong to the history of the database, in order, and
//! where something that was promised is missing between them.
//!
//! Each group names the one before it. Where that is not the group that was found last, something is
//! missing. It was promised if anything later vouches for it: a group that survived names a durable LSN
//! past it, or the manifest says where the epoch ended. If nothing does, the log ends there, as it does
//! for an open.
//!
//! With a manifest to go by, the chain starts at its checkpoint and follows its epochs. Without one it
//! takes every epoch that left groups; an epoch ends where the next one's first commit begins.

use super::receipt::LostLog;
use super::scan::{FoundGroup, Scan};
use crate::fs::FileSystem;
use crate::manifest::{EpochRange, Manifest};
use crate::types::{Epoch, Lsn, Seqno};
use crate::wal::buffer::align_up;
use crate::wal::group::{BLOCK_BYTES, GROUP_HEADER_BYTES};

/// A step of the chain.
#[derive(Clone, Copy, Debug)]
pub enum Link {
    /// A group to replay.
    Group(FoundGroup),
    /// Something is missing: fragments from before do not go on behind it. Index into
    /// [`Chain::lost`].
    Gap(usize),
    /// An epoch is over: a transaction that has not ended never will.
    EpochEnd,
}

/// What of the log is to be replayed.
#[derive(Debug, Default)]
pub struct Chain {
    pub links: Vec<Link>,
    /// Commits from this one on do not count in the epoch of that number.
    pub cuts: Vec<(Epoch, Seqno)>,
    pub lost: Vec<LostLog>,
    /// Where the readable log ends.
    pub end: Lsn,
    /// Groups that nothing vouches for behind a place that is missing.
    pub unpromised_groups: u64,
}

impl Chain {
    /// Follows the groups of `scan`.
    pub fn follow(fs: &dyn FileSystem, scan: &Scan, manifest: Option<&Manifest>) -> Chain {
        let mut chain = Chain::default();
        match manifest {
            Some(manifest) => {
                chain.end = manifest.checkpoint_lsn;
                for range in &manifest.epochs {
                    let done = manifest.checkpoint_lsn;
                    let live = |end: Lsn| end > done && end > range.start.plus(BLOCK_BYTES);
                    if range.end.is_none_or(live) {
                        let from = if range.start <= manifest.segment_base {
                            manifest.checkpoint_lsn
                        } else {
                            range.start.plus(BLOCK_BYTES)
                        };
                        chain.epoch(fs, scan, range, Some(from));
                    }
                }
            }
            None => {
                let epochs: std::collections::BTreeSet<u64> =
                    scan.groups.keys().map(|(epoch, _)| *epoch).collect();
                let mut first_of_next: Option<Seqno> = None;
                for epoch in epochs.iter().rev() {
                    if let Some(cut) = first_of_next {
                        chain.cuts.push((Epoch(*epoch), cut));
                    }
                    let first = scan
                        .groups
                        .range((*epoch, Lsn::ZERO)..=(*epoch, Lsn::MAX))
                        .find_map(|(_, group)| group.first_seqno);
                    first_of_next = first.into_iter().chain(first_of_next).min();
                }
                for epoch in epochs {
                    let range = EpochRange { epoch: Epoch(epoch), ..EpochRange::default() };
                    chain.epoch(fs, scan, &range, None);
                }
            }
        }
        chain
    }

    fn epoch(&mut self, fs: &dyn FileSystem, scan: &Scan, range: &EpochRange, from: Option<Lsn>) {
        let number = range.epoch.get();
        let limit = range.end.unwrap_or(Lsn::MAX);
        let start = from.unwrap_or(Lsn::ZERO);
        let all = scan.groups.range((number, start)..(number, limit.max(start)));
        let all: Vec<&FoundGroup> = all
            .map(|(_, group)| group)
            .filter(|group| from.is_none() || group.header.salt == range.salt)
            .collect();
        let vouched = all.iter().map(|group| group.header.durable).max().unwrap_or_default();
        let vouched = range.end.unwrap_or(vouched);

        let mut last: Option<&FoundGroup> = None;
        let mut end = start;
        for group in all.iter().copied().filter(|group| group.intact) {
            let header = &group.header;
            let linked = match last {
                Some(last) => {
                    (header.previous, header.previous_crc)
                        == (last.header.lsn, last.header.body_crc)
                }
                // Before the first group of a replay only the LSN is known from which it starts.
                None => {
                    from.is_none_or(|from| header.previous < from || header.previous == header.lsn)
                }
            };
            if !linked {
                if vouched <= end {
                    self.unpromised_groups += 1;
                    // What recovery would cut was never promised, nor is what follows it.
                    last = None;
                    break;
                }
                self.gap(end, Some(header.lsn), "groups are missing or damaged", true);
            }
            self.links.push(Link::Group(*group));
            last = Some(group);
            end = group.end();
        }
        let blank_to = align_up(end);
        let whole = vouched <= end
            || (vouched <= blank_to && scan.is_blank(fs, end, blank_to))
            // Nothing was found to begin with, and nothing is known.
            || (last.is_none() && from.is_none());
        if !whole {
            let damaged = all.iter().filter(|group| !group.intact && group.header.lsn >= end);
            let to = damaged.map(|group| group.end()).fold(vouched, Lsn::max);
            self.gap(end, Some(to), "the end of the log is missing or damaged", true);
        } else if range.end.is_none() {
            self.judge_open_end(fs, scan, range, last, end);
        }
        self.end = self.end.max(end);
        self.links.push(Link::EpochEnd);
    }

    /// An epoch that nobody closed: whether the files say that its log may have gone on.
    fn judge_open_end(
        &mut self,
        fs: &dyn FileSystem,
        scan: &Scan,
        range: &EpochRange,
        last: Option<&FoundGroup>,
        end: Lsn,
    ) {
        let holder = match last {
            Some(group) => Some(&scan.segments[group.file]),
            None => scan.holder(end),
        };
        let Some(holder) = holder else {
            if range.start > Lsn::ZERO {
                self.gap(end, None, "the log segment is missing", false);
            }
            return;
        };
        // What was promised behind the last group would begin in the next block.
        let next = align_up(end);
        if scan.is_blank(fs, next, next.plus(GROUP_HEADER_BYTES as u64)) {
            return;
        }
        let Some(header) = &holder.header else {
            let what = "the segment's header is damaged; groups may be missing behind this place";
            return self.gap(end, None, what, false);
        };
        if holder.bytes < header.segment_bytes {
            return self.gap(end, None, "the segment is cut short", false);
        }
        if last.is_some() {
            let next = header.end();
            match scan.segments.iter().find(|segment| segment.base == next) {
                None => self.gap(end, None, "the next log segment is missing", false),
                Some(next) if next.header.is_none() => {
                    self.gap(end, None, "the next log segment's header is damaged", false);
                }
                Some(next) if next.bytes < BLOCK_BYTES => {
                    self.gap(end, None, "the next log segment is cut short", false);
                }
                Some(_) => {}
            }
        }
    }

    fn gap(&mut self, from: Lsn, to: Option<Lsn>, what: &str, certain: bool) {
        self.links.push(Link::Gap(self.lost.len()));
        self.lost.push(LostLog {
            from,
            to,
            first_seqno: None,
            last_seqno: None,
            certain,
            what: what.to_owned(),
        });
    }
}
