//! Plays the power cut on what was written and not synced: after a kill the system still holds every
//! write, a power cut would have kept any part of the unsynced ones.
//!
//! What may be torn, and nothing else:
//!
//! 1. A commit that returned is on the disk up to its LSN, and its 4 KiB block is never written again. So
//!    tearing starts at the last acknowledged LSN, rounded up to a block.
//! 2. A group names, at offset 32 of its header, the LSN below which everything was synced when it was
//!    written. Commits whose acknowledgement was never printed may lie below that; so tearing starts at
//!    the highest such LSN among the groups on the disk. With one importing thread that changes nothing:
//!    only one commit can be in flight. (An idle log's witness, or other threads' commits, can move it.)
//! 3. From there on, only the groups themselves, padding included: nothing else was written.
//! 4. The first block of each segment is its header, synced before use.
//!
//! The log is read here without the engine's code, by the frozen parts of its format: file
//! `log-<base>.hwl` holds LSN *x* at offset *x - base*; a group begins with `HWgroup1`, its own LSN, and
//! has its body's length at offset 60.

use super::random::Random;
use crate::failure::Failure;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const BLOCK_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;
/// How much of the acknowledged log a lying disk loses.
const LIE_BLOCKS: u64 = 3;
const GROUP_HEADER_BYTES: u64 = 80;
const GROUP_MAGIC: &[u8; 8] = b"HWgroup1";

/// What the power cut does to the unsynced sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All were kept.
    Kept,
    /// None was kept: zeros.
    Lost,
    /// The first ones were kept.
    Front,
    /// The last ones were kept.
    Back,
    /// Each one was kept or not.
    Holes,
    /// Some were half written: random bytes.
    Garbage,
    /// Some hold what another place of the log held.
    Stale,
}

impl Cut {
    const ALL: [Cut; 7] =
        [Cut::Lost, Cut::Holes, Cut::Garbage, Cut::Back, Cut::Stale, Cut::Front, Cut::Kept];

    /// Its name, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Cut::Kept => "kept",
            Cut::Lost => "lost",
            Cut::Front => "front kept",
            Cut::Back => "back kept",
            Cut::Holes => "holes",
            Cut::Garbage => "garbage",
            Cut::Stale => "stale",
        }
    }
}

/// What was torn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// How.
    pub cut: Cut,
    /// Bytes that were written and not acknowledged.
    pub unsynced_bytes: u64,
    /// Bytes of them whose sectors were changed.
    pub changed_bytes: u64,
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// LSN of its first byte.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    path: PathBuf,
}

impl Segment {
    /// LSN past its last byte.
    pub fn end(&self) -> u64 {
        self.base + self.bytes
    }
}

/// Tears what lies past the acknowledged LSN.
pub fn tear(dir: &Path, acknowledged: u64, random: &mut Random) -> Result<Torn, Failure> {
    let cut = Cut::ALL[random.below(Cut::ALL.len() as u64) as usize];
    let mut torn = Torn { cut, unsynced_bytes: 0, changed_bytes: 0 };
    let from = acknowledged.next_multiple_of(BLOCK_BYTES);
    let groups = groups_from(dir, from)?;
    let from = groups.iter().map(|group| group.durable).fold(from, u64::max);
    for group in groups.iter().filter(|group| group.lsn >= from) {
        torn.unsynced_bytes += group.end - group.lsn;
        torn.changed_bytes += tear_group(group, cut, random)?;
    }
    Ok(torn)
}

/// What no honest disk does: loses the last acknowledged commits, too.
pub fn lose_acknowledged(
    dir: &Path,
    acknowledged: u64,
    random: &mut Random,
) -> Result<Torn, Failure> {
    let mut torn = Torn { cut: Cut::Lost, unsynced_bytes: 0, changed_bytes: 0 };
    let end = acknowledged.next_multiple_of(BLOCK_BYTES);
    for group in groups_from(dir, end.saturating_sub(LIE_BLOCKS * BLOCK_BYTES))? {
        torn.changed_bytes += tear_group(&group, Cut::Lost, random)?;
    }
    Ok(torn)
}

/// The log files of a database, ascending.
pub fn segments(dir: &Path) -> Result<Vec<Segment>, Failure> {
    let fail = |error: &std::io::Error| Failure::file("list", dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| fail(&error))? {
        let entry = entry.map_err(|error| fail(&error))?;
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("log-")?.strip_suffix(".hwl"));
        let base = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let bytes = entry.metadata().map(|metadata| metadata.len());
        // A file may be renamed for its next use while it is looked at.
        if let (Some(base), Ok(bytes)) = (base, bytes) {
            found.push(Segment { base, bytes, path: entry.path() });
        }
    }
    found.sort_by_key(|segment| segment.base);
    Ok(found)
}

/// A group on the disk.
#[derive(Debug)]
struct Group {
    lsn: u64,
    /// Past its padding.
    end: u64,
    durable: u64,
    segment: Segment,
}

/// All groups that lie at `from` or later.
fn groups_from(dir: &Path, from: u64) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for segment in segments(dir)?.into_iter().filter(|segment| segment.end() > from) {
        let bytes = fs::read(&segment.path)
            .map_err(|error| Failure::file("read", &segment.path, &error))?;
        let mut at = from.max(segment.base + BLOCK_BYTES);
        while at + GROUP_HEADER_BYTES <= segment.end() {
            let header = &bytes[(at - segment.base) as usize..];
            at = match group_at(header, at, &segment) {
                Some(group) => {
                    let body_end = group.end;
                    groups.push(group);
                    body_end
                }
                None => (at + 1).next_multiple_of(BLOCK_BYTES),
            };
        }
    }
    // A sync pads its last block.
    for index in 0..groups.len() {
        let border = groups[index].end.next_multiple_of(BLOCK_BYTES);
        let next = groups.get(index + 1).map_or(u64::MAX, |next| next.lsn);
        groups[index].end = border.min(next).min(groups[index].segment.end());
    }
    Ok(groups)
}

fn group_at(bytes: &[u8], at: u64, segment: &Segment) -> Option<Group> {
    let number = |offset: usize, length: usize| {
        let mut wide = [0; 8];
        wide[..length].copy_from_slice(bytes.get(offset..offset + length)?);
        Some(u64::from_le_bytes(wide))
    };
    if bytes.get(..8)? != GROUP_MAGIC || number(8, 8)? != at {
        return None;
    }
    let end = at + (GROUP_HEADER_BYTES + number(60, 4)?).next_multiple_of(8);
    let fits = end <= segment.end();
    fits.then_some(Group { lsn: at, end, durable: number(32, 8)?, segment: segment.clone() })
}

fn tear_group(group: &Group, cut: Cut, random: &mut Random) -> Result<u64, Failure> {
    let path = &group.segment.path;
    let outcome = (|| {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let (first, last) = (group.lsn / SECTOR_BYTES, group.end.div_ceil(SECTOR_BYTES));
        // A group that packs behind another shares a sector with it; both are unsynced or neither is
        // touched, because tearing starts at a block.
        let split = first + random.below(last - first + 1);
        let mut changed = 0;
        for sector in first..last {
            let mut bytes = [0; SECTOR_BYTES as usize];
            let hit = match cut {
                Cut::Kept => false,
                Cut::Lost => true,
                Cut::Front => sector >= split,
                Cut::Back => sector < split,
                Cut::Holes | Cut::Garbage | Cut::Stale => random.below(2) == 0,
            };
            if !hit {
                continue;
            }
            match cut {
                Cut::Garbage => random.fill(&mut bytes),
                Cut::Stale => {
                    let others = group.segment.bytes / SECTOR_BYTES;
                    read_at(&mut file, random.below(others) * SECTOR_BYTES, &mut bytes)?;
                }
                _ => {}
            }
            let offset = sector * SECTOR_BYTES - group.segment.base;
            let length = SECTOR_BYTES.min(group.segment.bytes - offset) as usize;
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&bytes[..length])?;
            changed += length as u64;
        }
        Ok(changed)
    })();
    outcome.map_err(|error: std::io::Error| Failure::file("tear", path, &error))
}

fn read_at(file: &mut File, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}
