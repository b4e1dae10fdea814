//! How a command fails: an exit code, one paragraph, and the exact command to run next.
//!
//! Invariants: every error of the engine has an exit code; a closed pipe is no failure (exit code 0, not
//! a word); messages speak of commands and arguments, not of the library's functions.

use crate::console::{Format, typed};
use crate::exit::Exit;
use crate::human;
use crate::layout;
use crate::output::JSON_VERSION;
use highwater::Error;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command ends early. An empty message is not printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// The command to run next.
    pub next: Option<String>,
}

impl Failure {
    /// A failure with an exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), next: None }
    }

    /// With the exact command to run next.
    pub fn next(mut self, command: impl Into<String>) -> Failure {
        self.next = Some(command.into());
        self
    }

    /// A command that has printed its result, and ends with this code.
    pub fn ended(exit: Exit) -> Failure {
        Failure::new(exit, "")
    }

    /// The command was used wrongly.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Nobody reads the output any more: the end, but no failure.
    pub fn quiet() -> Failure {
        Failure::new(Exit::Clean, "")
    }

    /// Writing to the standard output failed.
    pub fn stdout(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::quiet();
        }
        Failure::new(
            Exit::Failed,
            format!("cannot write to the standard output: {error}; see where it leads"),
        )
    }

    /// An operation on a file that is not part of a database failed.
    pub fn file(action: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::new(
            Exit::Failed,
            format!(
                "cannot {action} {}: {error}; check the path and its permissions",
                path.display()
            ),
        )
    }

    /// An error of the engine on the database in `dir`.
    pub fn engine(dir: &Path, error: &Error) -> Failure {
        let at = dir.display();
        let shown = typed(dir);
        match error {
            Error::NotFound { .. } => {
                Failure::new(Exit::NoDatabase, format!("there is no database in {at}"))
                    .next(format!("highwater put {shown} KEYSPACE KEY VALUE   (makes one)"))
            }
            Error::NotADatabase { what, .. } => {
                Failure::new(Exit::NoDatabase, format!("{at} is no highwater database: {what}"))
                    .next(format!("ls -la {shown}"))
            }
            Error::Locked { pid, .. } => {
                let (holder, look) = match pid {
                    Some(pid) => (format!("process {pid}"), format!("ps -p {pid}")),
                    None => ("another process".to_owned(), format!("highwater info {shown}")),
                };
                let message = format!(
                    "{at} is in use by {holder}; commands that only read work beside it, others \
                     wait for it with --timeout 10s"
                );
                Failure::new(Exit::Locked, message).next(look)
            }
            Error::KeyspaceNotFound { name } | Error::KeyspaceDropped { name } => {
                Failure::no_keyspace(dir, name)
            }
            Error::NoSpace { what } => Failure::new(
                Exit::Failed,
                format!(
                    "no space left on the disk for {what}; nothing was changed; free some space \
                     and try again"
                ),
            )
            .next(format!("df -h {shown}")),
            Error::Poisoned { cause } => Failure::new(
                Exit::Failed,
                format!(
                    "writing the log of {at} failed: {cause}; whether the last commit was kept is \
                     decided when the database is opened again; see to the disk first"
                ),
            )
            .next(format!("highwater explain {shown}")),
            Error::NotReachable { from, to, .. } => {
                let next =
                    format!("highwater log list {shown} --from {from} --to {}", to.get() + 1);
                Failure::new(Exit::NotFound, error.to_string()).next(next)
            }
            Error::Damage { file, .. } => {
                let text = error.to_string();
                let text = text.split("; copy the directory").next().unwrap_or_default();
                if file.ends_with("LOCK") {
                    // No part of the database.
                    return Failure::new(Exit::Damage, text).next(set_aside(file));
                }
                Failure::new(Exit::Loss, text).next(format!("highwater verify {shown}"))
            }
            Error::Archive { path, cause, held_bytes } => Failure::new(
                Exit::Failed,
                format!(
                    "the archive {} does not take the log of {at}: {cause}; {} of it wait; see to \
                     the archive and try again",
                    path.display(),
                    human::bytes(*held_bytes)
                ),
            )
            .next(format!("ls -la {}", typed(path))),
            Error::Unsupported { .. } => {
                Failure::new(Exit::Unsupported, error.to_string()).next("highwater --version")
            }
            Error::Io { .. } => Failure::new(Exit::Failed, error.to_string())
                .next(format!("highwater verify {shown}")),
            other => Failure::new(Exit::Failed, other.to_string()),
        }
    }

    /// No keyspace of that name.
    pub fn no_keyspace(dir: &Path, name: &str) -> Failure {
        let at = dir.display();
        Failure::new(Exit::NotFound, format!("there is no keyspace {name:?} in {at}"))
            .next(format!("highwater info {}", typed(dir)))
    }

    /// Prints the message, as text or as a JSON object on one line, and gives the exit code.
    pub fn report(&self, format: Format) -> ExitCode {
        if !self.message.is_empty() {
            // Nothing can be done if even that fails.
            let _ = writeln!(io::stderr().lock(), "{}", self.text(format));
        }
        ExitCode::from(self.exit.code())
    }

    fn text(&self, format: Format) -> String {
        if format == Format::Text {
            let next = self.next.as_ref().map(|next| format!("\n  next: {next}"));
            let message = match io::stderr().is_terminal() {
                true => layout::paragraph("highwater: ", &self.message).join("\n"),
                // One line is easier to search for.
                false => format!("highwater: {}", self.message),
            };
            return message + &next.unwrap_or_default();
        }
        let error = json!({
            "code": self.exit.code(),
            "kind": self.exit.name(),
            "message": self.message,
            "next": self.next,
        });
        json!({ "version": JSON_VERSION, "error": error }).to_string()
    }
}

/// The command that takes a file out of a database and keeps it beside.
pub fn set_aside(file: &Path) -> String {
    let dir = file.parent().unwrap_or(Path::new("."));
    let kept = beside(dir, &file.file_name().unwrap_or_default().to_string_lossy());
    format!("mv {} {}", typed(file), typed(&kept))
}

/// A name beside a directory.
pub fn beside(dir: &Path, ending: &str) -> PathBuf {
    match dir.file_name() {
        Some(name) => dir.with_file_name(format!("{}.{ending}", name.display())),
        None => dir.join(format!("../database.{ending}")),
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
