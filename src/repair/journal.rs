//! The journal of one repair, `quarantine/<plan>/JOURNAL`: which files were replaced, by what, and how the
//! manifest looked before and after. Text, so that it can be read on a bad day:
//!
//! ```text
//! highwater repair 1
//! plan 1f2e3d4c5b6a7988
//! manifest after 6b…(32 hex digits)
//! original MANIFEST 433 0e…(32 hex digits)
//! original log-0000000000001000.hwl 1048576 77…
//! new table-0000000000000007.hwt
//! lost 0
//! end 9c…(32 hex digits: XXH3-128 of the lines above)
//! ```
//!
//! Invariants: written whole (renamed into place) after the copies and the new tables are synced, and
//! before the manifest is exchanged; a journal that fails its hash is damage, never half believed.

use super::files::{self, FileMark};
use super::{PlanId, QUARANTINE};
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, FileSystem, OpenMode, PathKind};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

/// Name of the file.
pub const JOURNAL: &str = "JOURNAL";
const HEAD: &str = "highwater repair 1";
/// Longer ones are none of ours: about a million files.
const JOURNAL_MAX_BYTES: u64 = 128 << 20;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    pub plan: PlanId,
    /// XXH3-128 of the manifest that the repair publishes.
    pub after: u128,
    /// Files that were replaced or taken away; the manifest is one.
    pub originals: Vec<FileMark>,
    /// Files that the repair wrote.
    pub new: Vec<String>,
    /// Whether commits were dropped.
    pub lossy: bool,
}

/// Where the originals of a plan are kept.
pub fn place(dir: &Path, plan: PlanId) -> PathBuf {
    dir.join(QUARANTINE).join(plan.to_string())
}

impl Journal {
    /// Writes it into its place.
    pub fn write(&self, fs: &dyn FileSystem, dir: &Path) -> Result<()> {
        let place = place(dir, self.plan);
        files::replace(fs, &place, JOURNAL, &self.encode(), (Barrier::Copy, Barrier::Copy))
    }

    /// Reads the journal of a plan; `None` if there is none.
    pub fn read(fs: &dyn FileSystem, dir: &Path, plan: PlanId) -> Result<Option<Journal>> {
        let path = place(dir, plan).join(JOURNAL);
        let io = |e| Error::io("read", &path, e);
        if fs.kind(&path).map_err(io)? != PathKind::File {
            return Ok(None);
        }
        let file = fs.open(&path, OpenMode::Read).map_err(io)?;
        let length = file.len().map_err(io)?;
        if length > JOURNAL_MAX_BYTES {
            return Err(Error::damage(&path, 0, "the journal of a repair is too long"));
        }
        let mut bytes = vec![0; length as usize];
        fs::read_exact(&*file, &mut bytes, 0).map_err(io)?;
        let journal = Journal::decode(&bytes).filter(|journal| journal.plan == plan);
        let damaged = || Error::damage(&path, 0, "the journal of a repair cannot be read");
        journal.map(Some).ok_or_else(damaged)
    }

    /// All plans that have a place in the quarantine.
    pub fn plans(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<PlanId>> {
        let quarantine = dir.join(QUARANTINE);
        let io = |e| Error::io("list", &quarantine, e);
        if fs.kind(&quarantine).map_err(io)? != PathKind::Directory {
            return Ok(Vec::new());
        }
        let entries = fs.list(&quarantine).map_err(io)?;
        let mut plans: Vec<PlanId> =
            entries.iter().filter_map(|entry| entry.name.parse().ok()).collect();
        plans.sort_unstable();
        Ok(plans)
    }

    /// The original of that name.
    pub fn original(&self, name: &str) -> Option<&FileMark> {
        self.originals.iter().find(|file| file.name == name)
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = format!("{HEAD}\nplan {}\nmanifest after {:032x}\n", self.plan, self.after);
        for file in &self.originals {
            text.push_str(&format!("original {} {} {:032x}\n", file.name, file.bytes, file.sum));
        }
        for name in &self.new {
            text.push_str(&format!("new {name}\n"));
        }
        text.push_str(&format!("lost {}\n", u8::from(self.lossy)));
        let sum = xxh3_128(text.as_bytes());
        text.push_str(&format!("end {sum:032x}\n"));
        text.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Journal> {
        let text = std::str::from_utf8(bytes).ok()?;
        let end = text.rfind("end ")?;
        let sum = hex(text[end..].strip_prefix("end ")?.strip_suffix('\n')?)?;
        if xxh3_128(&bytes[..end]) != sum {
            return None;
        }
        let mut lines = text[..end].lines();
        if lines.next()? != HEAD {
            return None;
        }
        let plan = lines.next()?.strip_prefix("plan ")?.parse().ok()?;
        let after = hex(lines.next()?.strip_prefix("manifest after ")?)?;
        let mut journal =
            Journal { plan, after, originals: Vec::new(), new: Vec::new(), lossy: false };
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["original", name, bytes, sum] => journal.originals.push(FileMark {
                    name: plain(name)?,
                    bytes: bytes.parse().ok()?,
                    sum: hex(sum)?,
                }),
                ["new", name] => journal.new.push(plain(name)?),
                ["lost", lossy] => journal.lossy = *lossy == "1",
                _ => return None,
            }
        }
        Some(journal)
    }
}

/// A name that leads to no other directory.
fn plain(name: &str) -> Option<String> {
    let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
    is_plain.then(|| name.to_owned())
}

fn hex(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_reads_back_and_is_never_half_believed() {
        let mark = |name: &str, bytes| FileMark { name: name.to_owned(), bytes, sum: 5 << 100 };
        let journal = Journal {
            plan: PlanId(0x1f2e),
            after: 77,
            originals: vec![mark("MANIFEST", 433), mark("log-0000000000001000.hwl", 1 << 20)],
            new: vec!["table-0000000000000007.hwt".to_owned()],
            lossy: true,
        };
        let bytes = journal.encode();
        assert_eq!(Journal::decode(&bytes), Some(journal));
        for at in 0..bytes.len() {
            assert_eq!(Journal::decode(&bytes[..at]), None, "cut to {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Journal::decode(&changed), None, "byte {at}");
        }
        let names = ["../x", "a/b", "", ".", "a\\b"];
        assert!(names.iter().all(|name| plain(name).is_none()));
    }
}
