//! One file of the simulated disk: what the process sees, and what a power cut may leave of it.
//!
//! The content is the volatile one. What differs on the disk is kept beside it, as two histories since
//! the last sync:
//!
//! * **Lengths.** `lengths[0]` is durable, the last one is what the process sees; any of them may
//!   survive.
//! * **Sectors.** A sector in the map has its durable content as `old` and every distinct content written
//!   since as `versions`. A sector that is not in the map is the same on disk and in memory.
//!
//! A length and the sectors survive independently, but a cut (a shrinking length) takes bytes with it.
//! Every version therefore has a *birth*: the index of the length it was written under (`old` has 0). If
//! length `k` survives, a version of birth `b <= k` shows only its bytes below the least length in
//! `b..=k`, then zeros; a version of birth `b > k` all its bytes below length `k`.
//!
//! Invariants:
//! 1. The last version of each sector, under the last length, is the content.
//! 2. Without versions a sector has nothing to choose. It is in the map because a cut took its bytes and
//!    the old length may survive, or because a failed sync *stranded* it: the new bytes are in memory, the
//!    old ones on the disk, and no sync writes them until the sector is written again.
//! 3. A file of a disk without history has an empty map and one length.

use super::choice::Outcome;
use super::content::{Content, Sector, sector_hash};
use super::fault::PageState;
use super::view::{Saved, View};
use super::{SECTOR_BYTES, mix};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// One file.
#[derive(Clone, Debug)]
pub(super) struct FileNode {
    /// The path it was last named by, for reports and fault filters.
    pub path: Arc<Path>,
    /// What the process sees.
    pub content: Content,
    lengths: Vec<LengthVersion>,
    sectors: BTreeMap<u64, SectorHistory>,
}

#[derive(Clone, Copy, Debug)]
struct LengthVersion {
    len: u64,
    operation: usize,
}

#[derive(Clone, Debug)]
struct SectorHistory {
    old: View,
    versions: Vec<SectorVersion>,
    stranded: bool,
}

#[derive(Clone, Debug)]
struct SectorVersion {
    view: View,
    birth: usize,
    operation: usize,
}

/// What can be chosen about one sector.
pub(super) struct SectorUnit {
    pub sector: u64,
    pub versions: usize,
    pub operation: usize,
    pub silent: bool,
}

impl FileNode {
    /// A new, empty file whose length is durable.
    pub fn new(path: Arc<Path>) -> FileNode {
        FileNode::with_content(path, Content::default())
    }

    /// A file that is the same on disk and in memory.
    pub fn with_content(path: Arc<Path>, content: Content) -> FileNode {
        let lengths = vec![LengthVersion { len: content.len(), operation: 0 }];
        FileNode { path, content, lengths, sectors: BTreeMap::new() }
    }

    /// Bytes taken on the disk, in whole sectors.
    pub fn used_bytes(&self) -> u64 {
        self.content.len().next_multiple_of(SECTOR)
    }

    /// Whether disk and memory hold the same.
    pub fn is_clean(&self) -> bool {
        self.lengths.len() == 1 && self.sectors.is_empty()
    }

    /// A write, with its history.
    pub fn write(&mut self, data: &Arc<[u8]>, offset: u64, operation: usize) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        let (first, last) = (offset / SECTOR, (end - 1) / SECTOR);
        let before = self.save(first, last);
        self.content.write_at(data, offset);
        self.note_length(operation);
        let birth = self.lengths.len() - 1;
        let durable_len = self.lengths[0].len;
        for sector in first..=last {
            let start = sector * SECTOR;
            let view = if start >= offset && start + SECTOR <= end {
                View::of(data, (start - offset) as usize, SECTOR_BYTES)
            } else {
                View::copy(&self.content.sector(sector))
            };
            let version = SectorVersion { view, birth, operation };
            match self.sectors.entry(sector) {
                Entry::Vacant(entry) => {
                    let old = before.sector(first, sector);
                    // The same bytes again make no second state. A sector that the disk never held is
                    // noted even then: it may come back as garbage.
                    if start < durable_len && old == version.view {
                        continue;
                    }
                    entry.insert(SectorHistory { old, versions: vec![version], stranded: false });
                }
                Entry::Occupied(mut entry) => {
                    let history = entry.get_mut();
                    let (newest, newest_birth) = history.newest();
                    let cut = self.lengths[newest_birth..]
                        .iter()
                        .any(|later| later.len < self.lengths[newest_birth].len);
                    if cut || *newest != version.view {
                        history.versions.push(version);
                    }
                }
            }
        }
    }

    /// A cut or an extension, with its history.
    pub fn set_len(&mut self, len: u64, operation: usize) {
        let before = self.content.len();
        if len < before {
            let (first, last) = (len / SECTOR, (before - 1) / SECTOR);
            let saved = self.save(first, last);
            for sector in first..=last {
                let old = saved.sector(first, sector);
                if !old.is_zero() {
                    self.sectors.entry(sector).or_insert_with(|| SectorHistory {
                        old,
                        versions: Vec::new(),
                        stranded: false,
                    });
                }
            }
        }
        self.content.set_len(len);
        self.note_length(operation);
    }

    /// Changes the file on disk and in memory at once (a disk without history, tampering).
    pub fn change_through(&mut self, change: impl FnOnce(&mut Content)) {
        change(&mut self.content);
        let len = self.content.len();
        // Not a new vector: this is the write path of in-memory databases.
        self.lengths.truncate(1);
        self.lengths[0].len = len;
        self.sectors.clear();
    }

    /// A sync that succeeded: all that memory holds is durable, except what an earlier failure stranded.
    pub fn sync(&mut self) {
        let cut = self.lengths.iter().map(|version| version.len).min().unwrap_or(0);
        let len = self.content.len();
        self.sectors.retain(|sector, history| {
            let kept = history.stranded && history.versions.is_empty() && sector * SECTOR < len;
            if kept {
                history.old.cut(*sector, cut);
            }
            kept
        });
        self.lengths = vec![LengthVersion { len, operation: 0 }];
    }

    /// A sync that failed. The length belongs to the inode, not to the pages, and stays as it is.
    pub fn fail_sync(&mut self, pages: PageState) {
        let cut = self.lengths.iter().map(|version| version.len).min().unwrap_or(0);
        let len = self.content.len();
        for (sector, history) in &mut self.sectors {
            if history.versions.is_empty() || pages == PageState::Dirty {
                continue;
            }
            history.versions.clear();
            history.stranded = pages == PageState::MarkedClean;
            let start = sector * SECTOR;
            if pages == PageState::Reverted && start < len {
                let mut bytes = [0; SECTOR_BYTES];
                history.old.show(*sector, cut, &mut bytes);
                let size = (len - start).min(SECTOR) as usize;
                self.content.write_at(&bytes[..size], start);
            }
        }
    }

    /// Damage to the medium: the bit is flipped in every version. False if the file ends before it.
    pub fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        let mut byte = [0];
        if self.content.read_at(&mut byte, offset) == 0 {
            return false;
        }
        self.content.write_at(&[byte[0] ^ (1 << (bit % 8))], offset);
        if let Some(history) = self.sectors.get_mut(&(offset / SECTOR)) {
            let at = (offset % SECTOR) as usize;
            history.old.flip(at, bit);
            history.versions.iter_mut().for_each(|version| version.view.flip(at, bit));
        }
        true
    }

    /// Lengths that may survive, the durable one first.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.lengths.iter().map(|version| version.len)
    }

    /// The operation that made the last length.
    pub fn length_operation(&self) -> usize {
        self.lengths.last().map_or(0, |version| version.operation)
    }

    /// All sectors that leave a choice, ascending.
    pub fn sector_units(&self) -> impl Iterator<Item = SectorUnit> + '_ {
        // After a cut, equal versions of different births show different bytes; zeros never do.
        let cut = !self.lengths().is_sorted();
        self.sectors.iter().filter(|(_, history)| !history.versions.is_empty()).map(
            move |(sector, history)| {
                let old = &history.old;
                SectorUnit {
                    sector: *sector,
                    versions: history.versions.len() + 1,
                    operation: history.versions.last().map_or(0, |version| version.operation),
                    silent: (!cut || *old == View::default())
                        && history.versions.iter().all(|version| version.view == *old),
                }
            },
        )
    }

    /// The content that is left if the length of that index and, for each sector of
    /// [`Self::sector_units`] in order, that outcome survives.
    pub fn survivor(&self, length: usize, outcomes: impl Iterator<Item = Outcome>) -> Content {
        let mut content = self.content.clone();
        content.set_len(self.lengths[length].len);
        self.each_survivor(length, outcomes, |sector, bytes| {
            content.write_at(bytes, sector * SECTOR);
        });
        content
    }

    /// [`Self::content_hash`] of the file that [`Self::survivor`] would give.
    pub fn survivor_hash(&self, length: usize, outcomes: impl Iterator<Item = Outcome>) -> u64 {
        let mut sum = self.content.sum();
        for sector in self.sectors.keys() {
            sum = sum.wrapping_sub(sector_hash(*sector, &self.content.sector(*sector)));
        }
        self.each_survivor(length, outcomes, |sector, bytes| {
            sum = sum.wrapping_add(sector_hash(sector, bytes));
        });
        mix(sum ^ mix(self.lengths[length].len))
    }

    /// A hash of the length and the bytes that the process sees.
    pub fn content_hash(&self) -> u64 {
        mix(self.content.sum() ^ mix(self.content.len()))
    }

    /// Shows each sector of the map below the surviving length, ended where that length ends.
    fn each_survivor(
        &self,
        length: usize,
        mut outcomes: impl Iterator<Item = Outcome>,
        mut visit: impl FnMut(u64, &[u8]),
    ) {
        let len = self.lengths[length].len;
        // cuts[b]: the least length in b..=length.
        let mut cuts: Vec<u64> = self.lengths[..=length].iter().map(|v| v.len).collect();
        for index in (1..cuts.len()).rev() {
            cuts[index - 1] = cuts[index - 1].min(cuts[index]);
        }
        for (sector, history) in &self.sectors {
            let outcome = match history.versions.is_empty() {
                true => Outcome::Old,
                false => outcomes.next().unwrap_or(Outcome::Old),
            };
            let start = sector * SECTOR;
            if start >= len {
                continue;
            }
            let mut bytes = [0; SECTOR_BYTES];
            match outcome {
                Outcome::Zeros => {}
                Outcome::Garbage(seed) => fill_garbage(&mut bytes, seed ^ mix(*sector)),
                Outcome::Old | Outcome::New | Outcome::Version(_) => {
                    let (view, birth) = match outcome.version(history.versions.len()) {
                        0 => (&history.old, 0),
                        version => {
                            let version = &history.versions[version - 1];
                            (&version.view, version.birth)
                        }
                    };
                    let cut = cuts.get(birth).copied().unwrap_or(len);
                    view.show(*sector, cut, &mut bytes);
                }
            }
            visit(*sector, &bytes[..(len - start).min(SECTOR) as usize]);
        }
    }

    fn note_length(&mut self, operation: usize) {
        let len = self.content.len();
        if self.lengths.last().map(|version| version.len) != Some(len) {
            self.lengths.push(LengthVersion { len, operation });
        }
    }

    /// Copies the bytes of the sectors `first..=last`, unless all of them have a history already.
    fn save(&self, first: u64, last: u64) -> Saved {
        let start = first * SECTOR;
        let end = ((last + 1) * SECTOR).min(self.content.len());
        let known = self.sectors.range(first..=last).count() as u64;
        if start >= end || known == last - first + 1 {
            return Saved::new(Vec::new());
        }
        let mut bytes = vec![0; (end - start) as usize];
        self.content.read_at(&mut bytes, start);
        Saved::new(bytes)
    }
}

impl SectorHistory {
    fn newest(&self) -> (&View, usize) {
        self.versions.last().map_or((&self.old, 0), |version| (&version.view, version.birth))
    }
}

fn fill_garbage(bytes: &mut Sector, seed: u64) {
    for (index, part) in bytes.chunks_mut(8).enumerate() {
        part.copy_from_slice(&mix(seed.wrapping_add(index as u64)).to_le_bytes());
    }
}
