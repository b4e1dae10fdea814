//! The log buffer: where records get their place, and what waits to be written.
//!
//! Everything here happens under one short lock. A group is opened where the last one ended: packed
//! behind it, or on a fresh block if a sync has taken what came before. It takes records until it is
//! full, or until a leader takes it.
//!
//! Invariants: positions only grow; a group lies in one segment whose successor is ready; whatever a
//! leader takes is contiguous with what the leader before it took.

use super::flush::Reach;
use super::group::{BLOCK_BYTES, GROUP_HEADER_BYTES};
use super::record::put_witness;
use super::space::{LogSpace, Segment};
use crate::error::{Error, Result};
use crate::mistakes::{Mistake, planted};
use crate::types::{Epoch, Generation, Lsn, Seqno};
use std::sync::Arc;

/// What was appended and not yet taken by a leader.
#[derive(Debug, Default)]
pub struct Buffer {
    pub segment: Option<Arc<Segment>>,
    /// Where this epoch's first group starts.
    pub start: Lsn,
    /// Where the next group starts, if it needs no fresh block.
    pub position: Lsn,
    /// The next group starts on a fresh block.
    pub align: bool,
    pub groups: Vec<PendingGroup>,
    /// The last of `groups` takes more records.
    pub open: bool,
    /// Just past the last group that was placed.
    pub last_group_end: Lsn,
    /// End of the last group that was written without a sync and whose block is not padded yet.
    pub unpadded: Option<(Arc<Segment>, Lsn)>,
    pub last_seqno: Seqno,
    pub recycled: Vec<Vec<u8>>,
    pub epoch: Epoch,
    pub salt: u64,
    pub generation: Generation,
}

#[derive(Debug)]
pub struct PendingGroup {
    pub lsn: Lsn,
    pub segment: Arc<Segment>,
    /// Room for the header, then the body.
    pub bytes: Vec<u8>,
    pub records: u32,
    /// Holds nothing but a witness record.
    pub witness: bool,
}

impl Buffer {
    /// The LSN just past the last record, or where the next group starts if no group is open.
    pub fn end(&self) -> Lsn {
        match self.groups.last() {
            Some(group) if self.open => group.lsn.plus(group.bytes.len() as u64),
            _ => self.next_start(),
        }
    }

    pub fn next_start(&self) -> Lsn {
        if self.align { align_up(self.position) } else { self.position }
    }

    /// A group with room for a record of `needed` bytes: the open one, or a new one.
    pub fn room_for(&mut self, space: &LogSpace, needed: usize) -> Result<&mut PendingGroup> {
        let segment = self.segment.as_ref().ok_or_else(not_started)?;
        let fits_open = self.open
            && self.groups.last().is_some_and(|group| {
                let bytes = group.bytes.len() + needed;
                !group.witness
                    && bytes <= space.sizes.group_bytes
                    && group.lsn.plus(bytes as u64) <= segment.end()
            });
        if !fits_open {
            let mut segment = segment.clone();
            self.close();
            let mut start = self.next_start();
            while start.plus((GROUP_HEADER_BYTES + needed) as u64) > segment.end() {
                if start == segment.first_group() {
                    // Too small for the record and still empty, as the first ones of an epoch are that began
                    // on a full disk. A replay goes from one segment to the next over groups only.
                    let group = self.open_group(segment.clone(), start);
                    group.witness = true;
                    group.records = 1;
                    put_witness(&mut group.bytes);
                    self.close();
                }
                segment = space.after(&segment).ok_or_else(not_started)?;
                start = segment.first_group();
                self.segment = Some(segment.clone());
            }
            self.open_group(segment, start);
        }
        let group = self.groups.last_mut().ok_or_else(not_started)?;
        group.records += 1;
        Ok(group)
    }

    fn open_group(&mut self, segment: Arc<Segment>, start: Lsn) -> &mut PendingGroup {
        let mut bytes = self.recycled.pop().unwrap_or_default();
        bytes.resize(GROUP_HEADER_BYTES, 0);
        self.open = true;
        self.align = false;
        let group = PendingGroup { lsn: start, segment, bytes, records: 0, witness: false };
        let index = self.groups.len();
        self.groups.push(group);
        &mut self.groups[index]
    }

    pub fn close(&mut self) {
        if self.open
            && let Some(group) = self.groups.last()
        {
            self.position = group.end();
            self.last_group_end = group.end();
        }
        self.open = false;
    }

    /// Takes what has gathered, and leaves what was `written` before it for the next groups.
    pub fn take(&mut self, reach: Reach, written: &mut Written) -> Taken {
        self.close();
        self.recycled.append(&mut written.bytes);
        self.recycled.truncate(RECYCLED_BUFFERS);
        let groups = std::mem::replace(&mut self.groups, std::mem::take(&mut written.groups));
        // A block that was left unpadded is padded unless the next group follows in it.
        let pad = match self.unpadded.take() {
            Some((_, from)) if groups.first().is_some_and(|g| g.lsn == from) => None,
            Some(place) if groups.is_empty() && reach == Reach::Written => {
                self.unpadded = Some(place);
                None
            }
            place => place,
        };
        match reach {
            Reach::Started => self.align = true,
            Reach::Durable => self.align = !planted(Mistake::AcknowledgedBlockRewritten),
            Reach::Written => {
                if let Some(last) = groups.last()
                    && last.end() != align_up(last.end())
                {
                    self.unpadded = Some((last.segment.clone(), last.end()));
                }
            }
        }
        Taken {
            groups,
            pad,
            end: self.next_start(),
            vouched: align_up(self.last_group_end),
            last_seqno: self.last_seqno,
            epoch: self.epoch,
            salt: self.salt,
            generation: self.generation,
        }
    }
}

impl PendingGroup {
    /// Where the group ends, rounded up to 8 bytes.
    pub fn end(&self) -> Lsn {
        self.lsn.plus(self.bytes.len().next_multiple_of(8) as u64)
    }
}

/// What a leader took from the buffer.
pub struct Taken {
    pub groups: Vec<PendingGroup>,
    pub pad: Option<(Arc<Segment>, Lsn)>,
    pub end: Lsn,
    pub vouched: Lsn,
    pub last_seqno: Seqno,
    pub epoch: Epoch,
    pub salt: u64,
    pub generation: Generation,
}

/// The memory of groups that were written. Not their segments: a dead one takes room on the disk as long as it is open.
#[derive(Debug, Default)]
pub struct Written {
    bytes: Vec<Vec<u8>>,
    /// Empty.
    groups: Vec<PendingGroup>,
}

impl Written {
    pub fn put(&mut self, mut groups: Vec<PendingGroup>) {
        for mut group in groups.drain(..).take(RECYCLED_BUFFERS) {
            group.bytes.clear();
            self.bytes.push(group.bytes);
        }
        self.groups = groups;
    }
}

/// Write buffers that are kept for the next groups.
const RECYCLED_BUFFERS: usize = 4;
pub fn note(segments: &mut Vec<Arc<Segment>>, segment: &Arc<Segment>) {
    if segments.iter().all(|known| known.base != segment.base) {
        segments.push(segment.clone());
    }
}

/// The next block border at or after `lsn`.
pub fn align_up(lsn: Lsn) -> Lsn {
    Lsn(lsn.get().next_multiple_of(BLOCK_BYTES))
}

pub fn not_started() -> Error {
    Error::InvalidArgument("the log was used before room was reserved in it".to_owned())
}
