//! The loss receipt: what a salvage got, what is known to be lost, and what cannot be known.
//!
//! Invariant: whatever anything in the source vouches for and the new database lacks is named here: a
//! range of the log, a range of keys of a table, a key, or a doubt. An empty receipt
//! ([`Receipt::is_lossless`]) is a promise.

use crate::types::{DatabaseId, Lsn, Seqno};
use std::fmt;
use std::path::PathBuf;

/// What became of the source's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestState {
    /// It was whole.
    Whole,
    /// One bit was wrong, and is known: in the byte at this offset.
    Mended {
        /// Where.
        offset: u64,
    },
    /// It is older than the log says: only names were taken from it.
    Older {
        /// Its generation.
        found: u64,
        /// The newest generation that a file names.
        named: u64,
    },
    /// It belongs to another database.
    Foreign,
    /// It cannot be read.
    Damaged {
        /// Why.
        what: String,
    },
    /// There is none.
    Missing,
}

/// A part of the log that was promised and is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostLog {
    /// First lost byte.
    pub from: Lsn,
    /// Just past the last lost byte; `None`: nothing says how far the log went.
    pub to: Option<Lsn>,
    /// The first commit that is lost, if it is known which it is.
    pub first_seqno: Option<Seqno>,
    /// The last commit that is lost; `None`: not known.
    pub last_seqno: Option<Seqno>,
    /// Whether it is certain that commits are lost; if not, there may have been none.
    pub certain: bool,
    /// In words.
    pub what: String,
}

/// A range of keys in which a table lost blocks: values may be missing, older ones may show, and removed
/// keys may be back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostKeys {
    /// Name of the keyspace; `None`: of every keyspace.
    pub keyspace: Option<String>,
    /// All lost keys are at or after this one.
    pub from: Vec<u8>,
    /// `from` itself is there: lost is what comes after it.
    pub after: bool,
    /// All lost keys are at or before this one; `None`: to the end of the keyspace.
    pub to: Option<Vec<u8>>,
    /// `to` itself is there: lost is what comes before it.
    pub before: bool,
}

/// A table that lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTable {
    /// Name of its file.
    pub file: String,
    /// In words.
    pub what: String,
    /// Entries lost, where the count is known.
    pub entries: Option<u64>,
    /// Range tombstones lost, where the count is known: keys that they removed may be back.
    pub range_tombstones: Option<u64>,
    /// Where the lost keys lay.
    pub ranges: Vec<LostKeys>,
    /// Commits up to this one may be affected.
    pub last_seqno: Option<Seqno>,
}

/// A file or a part of one that was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Name of the file.
    pub file: String,
    /// Bytes of it that were not used.
    pub bytes: u64,
    /// Why.
    pub why: String,
}

/// What a salvage found, wrote and lost. Its text form is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The directory that was read.
    pub source: PathBuf,
    /// The database that was read.
    pub source_database: DatabaseId,
    /// The directory that was written.
    pub target: PathBuf,
    /// The database that was written.
    pub target_database: DatabaseId,
    /// What became of the manifest.
    pub manifest: ManifestState,
    /// Nothing says in which order the tables were written: it was guessed from their numbers, and a
    /// wrong guess shows an older value of a key, or one that was removed.
    pub order_guessed: bool,
    /// The last commit that was recovered.
    pub last_seqno: Seqno,
    /// When the last commit of the readable log was made, in microseconds since 1970; 0 if there is none.
    pub last_commit_micros: u64,
    /// Just past the last commit of the readable log; where it would go on, if there is none.
    pub tail: Lsn,
    /// Transactions taken from the log.
    pub transactions: u64,
    /// Tables of the source that were read.
    pub tables_read: u64,
    /// Tables written.
    pub tables_written: u64,
    /// Entries written, tombstones included.
    pub entries: u64,
    /// Names of the keyspaces of the new database.
    pub keyspaces: Vec<String>,
    /// Keyspaces whose names are lost and that got a made-up one.
    pub unnamed_keyspaces: Vec<String>,
    /// Parts of the log that are lost.
    pub lost_log: Vec<LostLog>,
    /// Tables that lost something.
    pub lost_tables: Vec<LostTable>,
    /// Keys whose values are lost, with their keyspaces: at most [`LOST_KEYS_LISTED`] of them.
    pub lost_keys: Vec<(String, Vec<u8>)>,
    /// How many there are.
    pub lost_keys_count: u64,
    /// Files and parts of files that were not used.
    pub set_aside: Vec<SetAside>,
    /// What cannot be known, in words.
    pub doubts: Vec<String>,
}

/// Most keys that a receipt lists one by one; their number is always right.
pub const LOST_KEYS_LISTED: usize = 10_000;

impl Receipt {
    /// Whether nothing that anything vouches for is lost, and nothing is in doubt.
    pub fn is_lossless(&self) -> bool {
        self.lost_log.is_empty()
            && self.lost_tables.is_empty()
            && self.lost_keys_count == 0
            && self.unnamed_keyspaces.is_empty()
            && self.doubts.is_empty()
            && !self.order_guessed
    }

    /// Bytes that were not used.
    pub fn set_aside_bytes(&self) -> u64 {
        self.set_aside.iter().map(|part| part.bytes).sum()
    }
}

impl fmt::Display for ManifestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestState::Whole => write!(f, "whole"),
            ManifestState::Mended { offset } => {
                write!(f, "one wrong bit at byte {offset}, turned back")
            }
            ManifestState::Older { found, named } => {
                write!(f, "generation {found}, older than generation {named} that the log names")
            }
            ManifestState::Foreign => write!(f, "of another database, not used"),
            ManifestState::Damaged { what } => write!(f, "not readable: {what}"),
            ManifestState::Missing => write!(f, "missing"),
        }
    }
}

impl fmt::Display for LostLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {}..", self.from)?;
        match self.to {
            Some(to) => write!(f, "{to}")?,
            None => write!(f, "?")?,
        }
        match (self.first_seqno, self.last_seqno) {
            (Some(first), Some(last)) if first == last => write!(f, ", commit {first}")?,
            (Some(first), Some(last)) => write!(f, ", commits {first} to {last}")?,
            (Some(first), None) => write!(f, ", commits from {first} on")?,
            (None, _) => {}
        }
        let certain = if self.certain { "" } else { " (perhaps nothing)" };
        write!(f, "{certain}: {}", self.what)
    }
}

impl fmt::Display for LostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)?;
        if let Some(entries) = self.entries {
            write!(f, "; {entries} entries lost")?;
        }
        if let Some(count) = self.range_tombstones.filter(|count| *count > 0) {
            write!(f, "; {count} range removals lost")?;
        }
        for range in &self.ranges {
            let keyspace = range.keyspace.as_deref().unwrap_or("(any keyspace)");
            write!(f, "\n    {keyspace}: from {}", range.from.escape_ascii())?;
            match &range.to {
                Some(to) => write!(f, " to {}", to.escape_ascii())?,
                None => write!(f, " to the end")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source    {} (database {})", self.source.display(), self.source_database)?;
        writeln!(f, "target    {} (database {})", self.target.display(), self.target_database)?;
        writeln!(f, "manifest  {}", self.manifest)?;
        writeln!(
            f,
            "read      {} tables, {} transactions of the log up to LSN {}",
            self.tables_read, self.transactions, self.tail
        )?;
        writeln!(
            f,
            "written   {} entries in {} tables, {} keyspaces, up to commit {}",
            self.entries,
            self.tables_written,
            self.keyspaces.len(),
            self.last_seqno
        )?;
        if self.is_lossless() {
            writeln!(f, "lost      nothing that anything vouches for")?;
        }
        for lost in &self.lost_log {
            writeln!(f, "lost      {lost}")?;
        }
        for lost in &self.lost_tables {
            writeln!(f, "lost      {lost}")?;
        }
        for (keyspace, key) in &self.lost_keys {
            writeln!(f, "lost      value of {keyspace}/{}", key.escape_ascii())?;
        }
        let unlisted = self.lost_keys_count - self.lost_keys.len() as u64;
        if unlisted > 0 {
            writeln!(f, "lost      {unlisted} more values, not listed")?;
        }
        if self.order_guessed {
            writeln!(f, "doubt     the order of the tables is guessed: older values may show")?;
        }
        for name in &self.unnamed_keyspaces {
            writeln!(f, "doubt     the name of keyspace {name} is made up; its own is lost")?;
        }
        for doubt in &self.doubts {
            writeln!(f, "doubt     {doubt}")?;
        }
        for part in &self.set_aside {
            writeln!(f, "unused    {}, {} bytes: {}", part.file, part.bytes, part.why)?;
        }
        Ok(())
    }
}
