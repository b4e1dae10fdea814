//! Every way an operation can fail, as one matchable enum.
//!
//! Invariants: damage always names the file and the offset; each message ends with what to do next; an
//! error never means that something was half done unless it says so ([`Error::Poisoned`]).

use crate::types::{Lsn, Seqno};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Cheap to clone: a poisoned database hands the same cause to every caller.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another handle or process owns the directory.
    #[error("{path} is locked by {holder}; close it there, or open it with read_only(true)", path = .path.display(), holder = holder_text(.pid))]
    Locked {
        /// The database directory.
        path: PathBuf,
        /// Process id of the holder, where it could be read.
        pid: Option<u32>,
    },
    /// Bytes that were promised durable do not pass their check. Nothing was changed.
    #[error("damage in {file} at byte {offset}: {what}{range}; nothing was changed; copy the directory before trying anything else, then restore a backup", file = .file.display(), range = range_text(.lsn_range))]
    Damage {
        /// The damaged file.
        file: PathBuf,
        /// Byte offset of the damage in that file.
        offset: u64,
        /// The log range that is affected, where it is known.
        lsn_range: Option<(Lsn, Lsn)>,
        /// What is wrong, in words.
        what: String,
    },
    /// An optimistic transaction read something that a later commit changed. Retry it.
    #[error(
        "the transaction conflicts with one that committed first; run it again (`Database::transact` does)"
    )]
    Conflict,
    /// A log write or a sync failed. Whether the commits in flight are durable is not known until the
    /// database is reopened.
    #[error(
        "the log failed ({cause}) and no commit is accepted any more; whether the last ones are durable is decided when the database is reopened; close it, mend the disk, and open it again"
    )]
    Poisoned {
        /// The error that the operating system gave.
        cause: Arc<io::Error>,
    },
    /// No room on the disk. The operation changed nothing.
    #[error(
        "no space left for {what}; nothing was changed; free disk space, drop a keyspace or call compact, then try again"
    )]
    NoSpace {
        /// What needed the room.
        what: &'static str,
    },
    /// The files use a format that this version does not know.
    #[error("{file} has {what} {found}, this version supports {supported}; open it with a version of highwater that knows it", file = .file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// What was not known: "format version", "feature bits", "record kind".
        what: &'static str,
        /// What the file says.
        found: u64,
        /// The highest (or the set of bits) that this version knows.
        supported: u64,
    },
    /// There is no database at the path, and `create(false)` or `read_only(true)` was asked for.
    #[error("no database at {path}; check the path, or open it with create(true)", path = .path.display())]
    NotFound {
        /// The path that was opened.
        path: PathBuf,
    },
    /// The state at that LSN cannot be put together from the files: the tables already hold later
    /// commits, or the log does not reach so far.
    #[error("the state of {path} at LSN {at} is not there: the tables and the log reach from {from} to {to}; restore a backup to go further back", path = .path.display())]
    NotReachable {
        /// The database.
        path: PathBuf,
        /// The LSN asked for.
        at: Lsn,
        /// The earliest state: that of the last checkpoint.
        from: Lsn,
        /// The latest.
        to: Lsn,
    },
    /// The path holds something that is not a Highwater database. Nothing was changed.
    #[error("{path} is not a highwater database: {what}; give a new or an empty directory", path = .path.display())]
    NotADatabase {
        /// The path that was opened.
        path: PathBuf,
        /// What was found there.
        what: String,
    },
    /// The keyspace was dropped; the handle is of no more use.
    #[error(
        "keyspace {name:?} was dropped; open it again with Database::keyspace to make a new one"
    )]
    KeyspaceDropped {
        /// Name of the keyspace.
        name: String,
    },
    /// There is no keyspace of that name.
    #[error("no keyspace {name:?}; create it with Database::keyspace on a writable database")]
    KeyspaceNotFound {
        /// The name asked for.
        name: String,
    },
    /// The files are not those that a repair was planned for, or were changed since it was made.
    #[error("{path} was changed since: {what}; make a new plan")]
    PlanChanged {
        /// The database directory.
        path: PathBuf,
        /// What does not match.
        what: String,
    },
    /// An argument is out of its bounds.
    #[error("{what} is {found}, the limit is {limit}; {hint}")]
    Limit {
        /// Which argument.
        what: &'static str,
        /// Its value.
        found: u64,
        /// The largest value allowed.
        limit: u64,
        /// What to do.
        hint: &'static str,
    },
    /// A handle of one database was used with another, or an argument makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// A write on a database that was opened read-only.
    #[error("the database is open read-only; open it without read_only(true) to write")]
    ReadOnly,
    /// The database was closed while the handle lived on.
    #[error("the database is closed; open it again")]
    Closed,
    /// The archive does not take the log: more of it waits than `Builder::archive_limit` allows, or a large
    /// transaction's tables cannot be copied. The commit changed nothing; once the archive works again,
    /// the next one goes on.
    #[error("the archive {path} does not take the log ({cause}), and {held_bytes} bytes of it wait; nothing was changed; mend the archive and try again, or open the database without it and take a new backup", path = .path.display())]
    Archive {
        /// The folder.
        path: PathBuf,
        /// What failed there.
        cause: Arc<io::Error>,
        /// Bytes of released log that wait.
        held_bytes: u64,
    },
    /// The log that was given for a restore misses commits before the point that was asked for.
    #[error("the log in {path} misses commits after {after}{next}, so the point behind them cannot be restored; add the directory that holds them, or restore up to LSN {lsn}", path = .path.display(), next = next_text(.before, .next_lsn))]
    LogGap {
        /// The first of the directories with log.
        path: PathBuf,
        /// The last commit before the gap.
        after: Seqno,
        /// The first commit behind it, if any was found.
        before: Option<Seqno>,
        /// LSN of the commit before the gap: the last point that can be restored.
        lsn: Lsn,
        /// LSN of the commit behind it.
        next_lsn: Option<Lsn>,
    },
    /// The operating system refused or failed an operation.
    #[error("cannot {action} {path}: {cause}; check the path, its permissions and the disk", path = .path.display())]
    Io {
        /// What was tried: "open", "read", "write", "sync", …
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The error of the operating system.
        cause: Arc<io::Error>,
    },
}

impl Error {
    /// Wraps an operating-system error; a full disk becomes [`Error::NoSpace`].
    pub(crate) fn io(action: &'static str, path: &Path, cause: io::Error) -> Error {
        if is_no_space(&cause) {
            return Error::NoSpace { what: action };
        }
        Error::Io { action, path: path.to_path_buf(), cause: Arc::new(cause) }
    }

    /// Damage at one place of one file, outside the log.
    pub(crate) fn damage(file: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Damage { file: file.to_path_buf(), offset, lsn_range: None, what: what.into() }
    }

    /// True for errors that say that bytes on disk are damaged.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damage { .. })
    }
}

/// Whether an operating-system error means that the disk, or the quota, is full.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn next_text(before: &Option<Seqno>, next_lsn: &Option<Lsn>) -> String {
    match (before, next_lsn) {
        (Some(before), Some(lsn)) => format!(" (the next one is {before}, at LSN {lsn})"),
        _ => String::new(),
    }
}

fn holder_text(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) if *pid == std::process::id() => format!("this process (pid {pid})"),
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

fn range_text(range: &Option<(Lsn, Lsn)>) -> String {
    range.map(|(from, to)| format!(" (log range {from}..{to})")).unwrap_or_default()
}
