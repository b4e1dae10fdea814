//! Repair in place: what a damaged database still proves becomes a database that opens, and every file
//! that is replaced is kept in `quarantine/`.
//!
//! ```text
//! manifest, one wrong bit          the bit is turned back
//! table, all its entries readable  the table is written anew (index, filter, fences, footer)
//! live log                         the commits up to the first missing one become tables; the log starts afresh
//! anything else                    refused: salvage or a backup is the way
//! ```
//!
//! 1. [`plan`] reads everything and writes nothing. It names every step and every loss, and has a number
//!    ([`PlanId`]) that is a hash over the bytes of all files that matter and over the steps.
//! 2. [`apply`] plans again under the lock and refuses if the number is another one. It copies the
//!    originals to `quarantine/<number>/`, writes new tables, notes all that in a journal there, publishes
//!    one new manifest, and then takes the originals away.
//! 3. [`undo`] puts the originals back, byte for byte, as long as nothing was committed since.
//!
//! The manifest is what counts: before it is renamed the database is as damaged as it was, after it
//! repaired. A crash anywhere leaves one of the two, and the same command run again finishes the work.
//!
//! Invariants: no byte of an original changes before its copy is synced and was read back; what a repair
//! drops is in the plan's losses, and a database that lost something carries the mark `salvaged` for ever;
//! a repaired database is a prefix of the commit order; nothing is claimed that the checksums and the
//! counts of the manifest do not bear out.

mod apply;
mod binding;
mod diagnose;
mod files;
mod journal;
mod undo;

pub use apply::{Applied, apply};
pub use undo::{Undone, undo};

use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::manifest::names;
use crate::salvage::LostLog;
use crate::types::{DatabaseId, Lsn, Seqno};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory, in that of the database, that keeps the originals.
pub const QUARANTINE: &str = "quarantine";

/// What a plan is bound to: a hash over every file that matters and over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanId(pub u64);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for PlanId {
    type Err = String;

    fn from_str(text: &str) -> Result<PlanId, String> {
        let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
        number.map(PlanId).ok_or_else(|| "a plan's number has 16 hex digits".to_owned())
    }
}

/// One step of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The one wrong bit of the manifest, in the byte at this offset, is turned back.
    MendManifest {
        /// Where.
        offset: u64,
    },
    /// A table whose entries are all readable is written anew.
    RebuildTable {
        /// Its file.
        file: String,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
        /// Its entries, tombstones included.
        entries: u64,
    },
    /// The commits of the live log up to the first missing one become tables, and the log starts afresh.
    RewriteLog {
        /// The file that an open would name.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
        /// Commits that are kept.
        commits: u64,
    },
}

/// Why a repair is not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file.
    pub file: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// What is wrong, and why it cannot be repaired.
    pub what: String,
}

/// What a repair would do. From [`plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The directory.
    pub directory: PathBuf,
    /// The database.
    pub database: DatabaseId,
    /// What [`apply`] wants to be told; `None` if there is nothing to repair, or no way to.
    pub id: Option<PlanId>,
    /// The steps.
    pub actions: Vec<Action>,
    /// Damage that cannot be repaired in place. If there is any, nothing is.
    pub refusals: Vec<Refusal>,
    /// Parts of the log that are gone.
    pub lost_log: Vec<LostLog>,
    /// Commits behind the first missing one that could still be read: a repair drops them, a
    /// [`salvage`](crate::salvage) keeps them.
    pub left_out: u64,
    /// The last commit that the repaired database would have.
    pub last_seqno: Seqno,
    /// Its LSN, or the checkpoint's.
    pub last_lsn: Lsn,
    /// Files that go to the quarantine, with their lengths in bytes.
    pub quarantined: Vec<(String, u64)>,
}

impl Plan {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.actions.is_empty() && self.refusals.is_empty()
    }

    /// Whether a repair would lose nothing that was committed.
    pub fn is_lossless(&self) -> bool {
        self.refusals.is_empty() && self.lost_log.is_empty() && self.left_out == 0
    }
}

/// Reads all of the database in `dir` and says what a repair would do. Writes nothing. `progress` is told,
/// now and then, how many bytes were read.
///
/// Costs two passes over what is sound, three over what is damaged. Memory: a small entry for each group
/// of the log.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::NotADatabase`] if there is no database, [`Error::Locked`] if somebody
/// has it open, [`Error::Unsupported`], [`Error::Io`]. Damage is no error but what the plan is about.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// # use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// use highwater::fs::os::OsFileSystem;
/// use highwater::{Database, repair};
/// let db = Database::open(&path)?;
/// db.keyspace("users")?.insert("ada", "1815")?;
/// db.close()?;
/// let manifest = path.join("MANIFEST");
/// let mut bytes = std::fs::read(&manifest).unwrap();
/// bytes[100] ^= 1; // a bad day
/// std::fs::write(&manifest, &bytes).unwrap();
/// assert!(Database::open(&path).is_err());
///
/// let fs: Arc<dyn highwater::fs::FileSystem> = Arc::new(OsFileSystem::new());
/// let plan = repair::plan(&fs, &path, &mut |_| {})?;
/// assert!(plan.is_lossless());
/// repair::apply(&fs, &path, plan.id.unwrap(), &mut |_| {})?;
/// Database::open(&path)?.close()?;
/// repair::undo(&fs, &path, None)?; // no commit was made since
/// assert_eq!(std::fs::read(&manifest).unwrap(), bytes);
/// # Ok(())
/// # }
/// ```
pub fn plan(
    fs: &Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Plan> {
    let dir = dir.as_ref();
    if let Ok(Some(holder)) = fs.lock_holder(&dir.join(names::LOCK_NAME)) {
        return Err(Error::Locked { path: dir.to_path_buf(), pid: holder.pid });
    }
    diagnose::diagnose(fs, dir, progress).map(|diagnosis| diagnosis.plan)
}
