//! `verify`: finds all damage of a database, says which of it costs committed data, and how many bytes
//! were looked at.
//!
//! Three levels, each with what the one before it reads:
//!
//! ```text
//! quick  manifest; presence and length of every table; headers, footers, indexes; headers of live segments
//! log    every group of the live log, held against its checksums, its links and the commit order
//! full   every byte of every table: checksums, key order, counts, fences, filters
//! ```
//!
//! *Live* log is what a replay reads: from the checkpoint on. What lies before it, spare segments, the
//! reserve and files that are not ours are not looked at, and counted as such.
//!
//! Invariants: nothing is written and no lock is taken; whatever makes an open refuse is a finding; beside
//! a live owner a finding counts only if a second pass makes it, too.

use super::explain::Explanation;
use super::scan::Segment;
use super::verify_pass::Pass;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::manifest::names;
use crate::table::TableFlaw;
use crate::types::{KeyspaceId, Lsn};
use crate::wal::group::BLOCK_BYTES;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a pass beside a live owner is made anew because the last two did not agree.
const TRIES: usize = 10;

/// How much is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What an open reads of the manifest and the tables.
    Quick,
    /// That, and the live log.
    Log,
    /// Everything.
    #[default]
    Full,
}

/// What to verify.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// How much is read.
    pub level: Level,
    /// Of the tables' blocks, about this share (0.0 to 1.0) instead of all. With [`Level::Full`].
    pub sample: Option<f64>,
    /// Stop after so long and say what is left.
    pub max_duration: Option<Duration>,
}

impl VerifyOptions {
    /// Everything of a level.
    pub fn new(level: Level) -> VerifyOptions {
        VerifyOptions { level, ..VerifyOptions::default() }
    }

    /// Only about this share of the tables' blocks, chosen at random.
    pub fn sample(mut self, share: f64) -> VerifyOptions {
        self.sample = Some(share.clamp(0.0, 1.0));
        self
    }

    /// Stop after so long.
    pub fn max_duration(mut self, time: Duration) -> VerifyOptions {
        self.max_duration = Some(time);
        self
    }
}

/// What damage costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Nothing that was committed: the bytes held nothing, or everything they held can still be read.
    None,
    /// Nobody can tell.
    Unknown,
    /// Committed data.
    Committed,
}

/// One piece of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How long the damaged part is; 0 if it is not there.
    pub bytes: u64,
    /// The part of the log that is affected.
    pub lsn_range: Option<(Lsn, Lsn)>,
    /// What is wrong, in words.
    pub what: String,
    /// What it costs.
    pub loss: Loss,
    /// Whose entries may be lost.
    pub keyspace: Option<KeyspaceId>,
    /// Lower bound, and upper bound (exclusive), of the keys that may be lost.
    pub keys: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

/// One part of the directory, and how many of its bytes were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scope {
    /// Which part.
    pub name: &'static str,
    /// Bytes held against checksums.
    pub checked_bytes: u64,
    /// Bytes left out.
    pub skipped_bytes: u64,
    /// Why bytes were left out; empty if none were.
    pub why: &'static str,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// All damage, by file and offset.
    pub findings: Vec<Finding>,
    /// What an open would do; `None` at [`Level::Quick`], or if it would refuse.
    pub explanation: Option<Explanation>,
    /// What was read and what was not.
    pub scopes: Vec<Scope>,
    /// Tables looked at.
    pub tables: u64,
    /// Entries looked at in them, tombstones included.
    pub entries: u64,
    /// Groups of the live log that verify.
    pub log_groups: u64,
    /// Names of the keyspaces, by number, as far as the manifest could be read.
    pub keyspaces: Vec<(KeyspaceId, String)>,
    /// The time limit came before the end.
    pub out_of_time: bool,
    /// Another process has the database open.
    pub in_use: bool,
}

/// All that was found in one word: what `highwater verify` ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No damage.
    Sound,
    /// No damage in what was looked at; the time limit came before the rest.
    OutOfTime,
    /// Damage, and every commit that was promised can still be read.
    Damage,
    /// Damage, and commits that were promised are gone, or nobody can tell.
    Loss,
}

impl Verified {
    /// The worst that was found; `None` if there is no damage.
    pub fn loss(&self) -> Option<Loss> {
        self.findings.iter().map(|finding| finding.loss).max()
    }

    /// The one word. `strict` takes bytes that an open would cut from the end of the log, and an end that
    /// nothing vouches for, for damage: a crash leaves both, and neither was promised.
    pub fn verdict(&self, strict: bool) -> Verdict {
        let tail = |said: &Explanation| said.trim_bytes > 0 || said.unwitnessed_tail;
        match self.loss() {
            Some(Loss::None) => Verdict::Damage,
            Some(_) => Verdict::Loss,
            None if self.out_of_time => Verdict::OutOfTime,
            None if strict && self.explanation.as_ref().is_some_and(tail) => Verdict::Damage,
            None => Verdict::Sound,
        }
    }
}

/// Looks for damage, all of it. `progress` is told the bytes done and the bytes to do. `None` if nothing
/// is there.
///
/// # Errors
/// [`Error::Unsupported`], [`Error::NotADatabase`], [`Error::Io`] if the directory cannot be read. Damage,
/// and files that cannot be read, are findings.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::check::{Level, VerifyOptions, verify};
/// use highwater::fs::{FileSystem, os::OsFileSystem};
/// use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// highwater::Database::open(&path)?.keyspace("users")?.insert("ada", "1815")?;
/// let fs: Arc<dyn FileSystem> = Arc::new(OsFileSystem::new());
/// let options = VerifyOptions::new(Level::Full);
/// let found = verify(&fs, &path, &options, &mut |_, _| {})?.unwrap();
/// assert_eq!(found.loss(), None);
/// # Ok(())
/// # }
/// ```
pub fn verify(
    fs: &Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Verified>> {
    let dir = dir.as_ref();
    let deadline = options.max_duration.map(|time| fs.monotonic() + time);
    let mut before: Option<Vec<Finding>> = None;
    for round in 0.. {
        let in_use = fs.lock_holder(&dir.join(names::LOCK_NAME)).is_ok_and(|h| h.is_some());
        let pass = Pass::new(fs, dir, options, deadline, progress, in_use);
        let Some(found) = pass.run()? else { return Ok(None) };
        let is_sure = !in_use
            || found.findings.is_empty()
            || found.out_of_time
            || before.as_ref() == Some(&found.findings)
            || round == TRIES;
        if is_sure {
            return Ok(Some(found));
        }
        before = Some(found.findings);
    }
    Ok(None)
}

/// The check of a database that was just written: its first damage is an error.
pub(crate) fn expect_sound(fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<()> {
    let found = verify(fs, dir, &VerifyOptions::new(Level::Full), &mut |_, _| {})?;
    let first = found.and_then(|found| found.findings.into_iter().next());
    first.map_or(Ok(()), |finding| {
        let Finding { file, offset, lsn_range, what, .. } = finding;
        Err(Error::Damage { file, offset, lsn_range, what })
    })
}

pub(super) fn header_finding(segment: &Segment) -> Option<Finding> {
    let make = |offset: u64, what: String, loss: Loss| Finding {
        file: segment.path.clone(),
        offset,
        bytes: if offset == 0 { BLOCK_BYTES } else { 0 },
        lsn_range: Some((segment.base, segment.first_group())),
        what,
        loss,
        keyspace: None,
        keys: None,
    };
    match &segment.header {
        Err(_) if segment.bytes <= BLOCK_BYTES => {
            let what = format!("the segment is cut short to {} bytes", segment.bytes);
            Some(make(0, what, Loss::None))
        }
        Err(fault) => Some(make(0, format!("{fault}; its groups can still be read"), Loss::None)),
        Ok(header) if header.base != segment.base => {
            let what = format!("the segment says that it starts at LSN {}", header.base);
            Some(make(0, what, Loss::Unknown))
        }
        Ok(header) if segment.bytes < header.segment_bytes => {
            let what = format!(
                "the segment is cut short: {} of {} bytes",
                segment.bytes, header.segment_bytes
            );
            // Whether groups are missing is seen where the log breaks off, or else by the caller.
            Some(make(segment.bytes, what, Loss::None))
        }
        Ok(_) => None,
    }
}

pub(super) fn table_finding(path: &Path, flaw: TableFlaw) -> Finding {
    Finding {
        file: path.to_path_buf(),
        offset: flaw.offset,
        bytes: flaw.bytes,
        lsn_range: None,
        what: flaw.what,
        loss: if flaw.lossy { Loss::Committed } else { Loss::None },
        keyspace: flaw.keyspace,
        keys: flaw.keys,
    }
}

/// What an error of the recovery says.
pub(super) fn finding(error: &Error, loss: Loss) -> Finding {
    let Error::Damage { file, offset, lsn_range, what } = error else {
        return Finding {
            file: PathBuf::new(),
            offset: 0,
            bytes: 0,
            lsn_range: None,
            what: error.to_string(),
            loss,
            keyspace: None,
            keys: None,
        };
    };
    Finding {
        file: file.clone(),
        offset: *offset,
        bytes: lsn_range.map_or(0, |(from, to)| to.get().saturating_sub(from.get())),
        lsn_range: *lsn_range,
        what: what.clone(),
        loss,
        keyspace: None,
        keys: None,
    }
}

/// Whether a finding is about the place that an error names.
pub(super) fn covers(finding: &Finding, error: &Error) -> bool {
    let Error::Damage { file, offset, .. } = error else { return false };
    finding.file == *file && (finding.offset..=finding.offset + finding.bytes).contains(offset)
}
