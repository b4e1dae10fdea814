//! How a command fails: an exit code and one paragraph that ends with what to do next.
//!
//! Invariants: every error of the engine has an exit code; a closed pipe is no failure (exit code 0, not
//! a word); messages speak of commands and arguments, not of the library's functions.

use highwater::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// An operation or I/O failed.
pub const FAILED: u8 = 1;
/// The command was used wrongly.
pub const USAGE: u8 = 2;
/// No such key or keyspace.
pub const NOT_FOUND: u8 = 3;
/// Bytes on the disk are damaged.
pub const DAMAGE: u8 = 4;
/// There is no database.
pub const NO_DATABASE: u8 = 10;
/// Another process owns the database.
pub const LOCKED: u8 = 11;
/// The database has a format that this version does not know.
pub const UNSUPPORTED: u8 = 12;
/// Interrupted by the user.
pub const INTERRUPTED: u8 = 130;

/// Why a command ends early. An empty message is not printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What happened and what to do next.
    pub message: String,
}

impl Failure {
    /// A failure with an exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// The command was used wrongly.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(USAGE, message)
    }

    /// Nobody reads the output any more: the end, but no failure.
    pub fn quiet() -> Failure {
        Failure::new(0, "")
    }

    /// Writing to the standard output failed.
    pub fn stdout(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::quiet();
        }
        Failure::new(
            FAILED,
            format!("cannot write to the standard output: {error}; see where it leads"),
        )
    }

    /// An operation on a file that is not part of a database failed.
    pub fn file(action: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::new(
            FAILED,
            format!(
                "cannot {action} {}: {error}; check the path and its permissions",
                path.display()
            ),
        )
    }

    /// An error of the engine on the database in `dir`.
    pub fn engine(dir: &Path, error: &Error) -> Failure {
        let at = dir.display();
        match error {
            Error::NotFound { .. } => Failure::new(
                NO_DATABASE,
                format!(
                    "there is no database in {at}; check the path, or make one with \
                     `highwater put` or `highwater import`"
                ),
            ),
            Error::NotADatabase { .. } => Failure::new(NO_DATABASE, error.to_string()),
            Error::Locked { pid, .. } => {
                let holder =
                    pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                Failure::new(
                    LOCKED,
                    format!(
                        "{at} is in use by {holder}; end that first, or use a command that only \
                         reads (info, get, scan, export), which works beside it"
                    ),
                )
            }
            Error::KeyspaceNotFound { name } | Error::KeyspaceDropped { name } => {
                Failure::no_keyspace(dir, name)
            }
            Error::NoSpace { what } => Failure::new(
                FAILED,
                format!(
                    "no space left on the disk for {what}; nothing was changed; free some space \
                     and try again"
                ),
            ),
            Error::Poisoned { cause } => Failure::new(
                FAILED,
                format!(
                    "writing the log of {at} failed: {cause}; whether the last commit was kept is \
                     decided when the database is opened again; see to the disk, then look with \
                     `highwater info`"
                ),
            ),
            Error::Damage { .. } => Failure::new(DAMAGE, error.to_string()),
            Error::Unsupported { .. } => Failure::new(UNSUPPORTED, error.to_string()),
            other => Failure::new(FAILED, other.to_string()),
        }
    }

    /// No keyspace of that name.
    pub fn no_keyspace(dir: &Path, name: &str) -> Failure {
        Failure::new(
            NOT_FOUND,
            format!(
                "there is no keyspace {name:?} in {at}; `highwater info {at}` lists those there are",
                at = dir.display()
            ),
        )
    }

    /// Prints the message and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            // Nothing can be done if even that fails.
            let _ = writeln!(io::stderr().lock(), "highwater: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

/// Gives results of the engine the directory that they are about.
pub trait InDir<T> {
    /// Turns an error of the engine into a failure.
    fn in_dir(self, dir: &Path) -> Result<T, Failure>;
}

impl<T> InDir<T> for highwater::Result<T> {
    fn in_dir(self, dir: &Path) -> Result<T, Failure> {
        self.map_err(|error| Failure::engine(dir, &error))
    }
}
