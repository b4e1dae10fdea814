//! What [`space`](super::space) hands out and takes back: segments that are ready, dead files, the
//! segments of an epoch that is about to begin; and how much room a row of segments has.
//!
//! Invariant of a row: contiguous in LSN, ascending; the last one takes no group yet.

use super::group::BLOCK_BYTES;
use crate::fs::File;
use crate::mistakes::{Mistake, planted};
use crate::sync::{AtomicU64, Ordering};
use crate::types::{Epoch, Generation, Lsn};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// A named, synced segment file.
#[derive(Debug)]
pub struct Segment {
    /// LSN of the first byte of its header.
    pub base: Lsn,
    /// Length in bytes, the header included.
    pub bytes: u64,
    /// The open file.
    pub file: Arc<dyn File>,
    /// Where it lies.
    pub path: PathBuf,
}

impl Segment {
    /// The LSN just past it, which is the base of the next one.
    pub fn end(&self) -> Lsn {
        self.base.plus(self.bytes)
    }

    /// The LSN of its first group.
    pub fn first_group(&self) -> Lsn {
        self.base.plus(BLOCK_BYTES)
    }
}

/// A dead file that can become a segment again.
#[derive(Debug, Clone)]
pub struct Spare {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Spare {
    /// The file of a segment that is dead now.
    pub fn of(segment: &Segment) -> Spare {
        Spare { path: segment.path.clone(), bytes: segment.bytes }
    }
}

/// What the segments of an epoch have in common.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewEpoch {
    pub epoch: Epoch,
    pub salt: u64,
    /// Where its first segment starts.
    pub base: Lsn,
    /// A manifest generation that is durable for certain.
    pub generation: Generation,
}

/// An epoch whose first segments are ready and that no manifest names yet.
#[derive(Debug)]
pub struct PreparedEpoch {
    pub(super) new: NewEpoch,
    pub(super) segments: VecDeque<Arc<Segment>>,
}

impl PreparedEpoch {
    /// Its first segment.
    pub fn first(&self) -> Arc<Segment> {
        self.segments[0].clone()
    }
}

/// Bytes that groups may use from `position` on, given that a segment takes groups only when its
/// successor is ready, and that the end of each may be wasted by a group that does not fit.
pub fn usable_bytes(segments: &VecDeque<Arc<Segment>>, position: Lsn, group_bytes: usize) -> u64 {
    let successor = usize::from(!planted(Mistake::GroupsBeforeSuccessor));
    let takers = segments.len().saturating_sub(successor);
    segments
        .iter()
        .take(takers)
        .filter(|s| s.end() > position)
        .map(|s| {
            let from = position.max(s.first_group());
            (s.end().get() - from.get()).saturating_sub(group_bytes as u64 + BLOCK_BYTES)
        })
        .sum()
}

/// Where the last segment lies that takes groups, for a look without the lock of the row.
#[derive(Debug)]
pub struct Frontier {
    base: AtomicU64,
    end: AtomicU64,
}

impl Frontier {
    /// That of no segments.
    pub fn new() -> Frontier {
        Frontier { base: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    /// The row has changed; its lock is held.
    pub fn note(&self, segments: &VecDeque<Arc<Segment>>) {
        let taker = last_taker(segments);
        let (base, end) = taker.map_or((0, 0), |s| (s.base.get(), s.end().get()));
        // In this order: who sees the new end sees the new base too, and what lies between an old base and a new end would
        // be too much.
        self.base.store(base, Ordering::Relaxed);
        self.end.store(end, Ordering::Release);
    }

    /// Whether groups may use `needed` bytes from `position` on, as [`usable_bytes`] counts them. `false` says nothing.
    pub fn has_room(&self, position: Lsn, needed: u64, group_bytes: usize) -> bool {
        let end = self.end.load(Ordering::Acquire);
        let from = position.get().max(self.base.load(Ordering::Relaxed) + BLOCK_BYTES);
        from + needed + group_bytes as u64 + BLOCK_BYTES <= end
    }

    /// See [`runs_low`].
    pub fn runs_low(&self, position: Lsn) -> bool {
        let end = self.end.load(Ordering::Acquire);
        let base = self.base.load(Ordering::Relaxed);
        end != 0 && is_low(position, base, end) && !planted(Mistake::GroupsBeforeSuccessor)
    }
}

fn last_taker(segments: &VecDeque<Arc<Segment>>) -> Option<&Segment> {
    segments.len().checked_sub(2).map(|at| &*segments[at])
}

fn is_low(position: Lsn, base: u64, end: u64) -> bool {
    position.get() > base + end.saturating_sub(base) / 8
}

/// Whether the log has used an eighth of the last segment that may take groups. (Not the first byte: a
/// database with a few commits stays small.)
pub fn runs_low(segments: &VecDeque<Arc<Segment>>, position: Lsn) -> bool {
    if planted(Mistake::GroupsBeforeSuccessor) {
        return false;
    }
    last_taker(segments).is_some_and(|s| is_low(position, s.base.get(), s.end().get()))
}

#[cfg(test)]
mod tests {
    use super::{Frontier, Segment, runs_low, usable_bytes};
    use crate::fs::{FileSystem, OpenMode, sim::SimDisk};
    use crate::types::Lsn;
    use std::collections::VecDeque;
    use std::path::Path;
    use std::sync::Arc;

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// What says that there is room without the lock never says more than what holds it, through all that happens to a row:
    /// segments come at the end, and go at the front.
    #[test]
    fn the_frontier_never_promises_more_than_the_row_has() {
        let file = SimDisk::new().open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let (mut seed, group_bytes) = (88_172_645_463_325_252, 8 << 10);
        let (mut promised, mut low) = (0, 0);
        for _ in 0..200 {
            let mut end = 8192 + ((random(&mut seed) % 64) << 13);
            let (mut segments, frontier) = (VecDeque::new(), Frontier::new());
            for _ in 0..8 {
                let bytes = 8192 << (random(&mut seed) % 6);
                let path = "/file".into();
                segments.push_back(Arc::new(Segment {
                    base: Lsn(end),
                    bytes,
                    file: file.clone(),
                    path,
                }));
                end += bytes;
                if segments.len() > 4 {
                    segments.pop_front();
                }
                frontier.note(&segments);
                let first = segments[0].base.get();
                for _ in 0..50 {
                    let position = Lsn(first + ((random(&mut seed) % (end - first + 8192)) & !7));
                    let needed = random(&mut seed) % (64 << 10);
                    let usable = usable_bytes(&segments, position, group_bytes);
                    let has_room = frontier.has_room(position, needed, group_bytes);
                    assert!(!has_room || usable >= needed, "{position:?} {needed}: {usable}");
                    assert_eq!(frontier.runs_low(position), runs_low(&segments, position));
                    promised += u32::from(has_room);
                    low += u32::from(frontier.runs_low(position));
                }
            }
            segments.clear();
            frontier.note(&segments);
            assert!(!frontier.has_room(Lsn(end), 0, group_bytes));
            assert!(!frontier.runs_low(Lsn(end)));
        }
        assert!(promised > 1000 && low > 1000, "{promised}, {low}: both are asked");
    }
}
