//! Backups: consistent copies of a live database in a *repository*, a directory of their own.
//!
//! ```text
//! backup-<number>.hwb     one for each backup, written last; grammar: `format`
//! table-<file id>.hwt     tables, shared by the backups that name them
//! LOCK                    held while a backup is made
//! *.new                   half-written, never read
//! ```
//!
//! A backup holds one point in commit order (`create`): the tables of a snapshot, which are immutable,
//! copied unless an earlier backup brought them, and what the snapshot has in memory, written as tables.
//! Tables are checked whole after they were copied, so that damage is not carried on in silence.
//!
//! A repository holds backups of one database. `restore` makes a new database of one, with a new id.
//!
//! Invariants: a file that a backup names is never written again, unless it is found damaged and replaced
//! whole; a backup counts only if its own file is whole, so that one that broke off in the middle is
//! none; nothing is ever written to the database.

mod create;
mod format;
mod list;
mod log;
mod repository;
mod restore;

pub use create::Options;
pub use format::BackupFile;
pub use list::{Listed, Verified, list, verify};
pub use restore::{Drilled, Request, Restored, Until, drill, plan_restore, restore, restore_to};

pub(crate) use repository::check_apart;

/// What a repair needs of it too: the log behind a point, as tables.
pub(crate) mod parts {
    pub(crate) use super::format::BackupRecord;
    pub(crate) use super::log::{Log, NewRun, Reached};
    pub(crate) use super::restore::Until;
}

use crate::check::ContentHash;
use crate::types::{DatabaseId, Lsn, Seqno};
use format::BackupRecord;

/// A backup in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Its number in the repository, from 1.
    pub number: u64,
    /// The database that it was made of.
    pub database: DatabaseId,
    /// When it was made, in microseconds since 1970.
    pub taken_micros: u64,
    /// It holds every commit up to this LSN and none behind it.
    pub lsn: Lsn,
    /// The last commit in it.
    pub seqno: Seqno,
    /// The hash of its content, if it was taken with one.
    pub content: Option<ContentHash>,
    /// The database was put together by salvage.
    pub salvaged: bool,
    /// Its tables.
    pub files: Vec<BackupFile>,
    /// Names of its keyspaces.
    pub keyspaces: Vec<String>,
    /// Bytes that were copied for it; the rest an earlier backup had brought. 0 in listings.
    pub copied_bytes: u64,
}

impl Backup {
    /// Bytes of its tables.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn of(record: &BackupRecord, copied_bytes: u64) -> Backup {
        let mut keyspaces: Vec<String> =
            record.manifest.keyspaces.iter().map(|k| k.name.clone()).collect();
        keyspaces.sort();
        Backup {
            number: record.number,
            database: record.database,
            taken_micros: record.taken_micros,
            lsn: record.lsn,
            seqno: record.seqno,
            content: record.content,
            salvaged: record.manifest.salvaged,
            files: record.files.clone(),
            keyspaces,
            copied_bytes,
        }
    }
}
