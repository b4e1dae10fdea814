//! What the commands that write a new directory have in common: waiting for a lock, a limit of time, and
//! taking away what a command that did not finish has written.
//!
//! Invariant: only a directory that was not there when the command began is ever removed.

use crate::console::{Console, typed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Progress;
use highwater::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often something that is in use is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// A limit of time, for work that may be long.
#[derive(clap::Args, Debug, Clone, Copy)]
pub struct Limit {
    /// End after so long, with exit code 124: 30s, 10m, 2h [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = crate::console::duration)]
    max_duration: Option<Duration>,
}

/// A directory that is about to be written.
#[derive(Debug)]
pub struct NewPlace {
    dir: PathBuf,
    is_new: bool,
}

impl NewPlace {
    /// The place `dir`; if an interrupt comes, what was written there goes away.
    pub fn new(dir: &Path) -> NewPlace {
        let is_new =
            matches!(dir.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
        let own = NewPlace { dir: dir.to_path_buf(), is_new };
        interrupt::on_interrupt(move || own.remove());
        NewPlace { dir: dir.to_path_buf(), is_new }
    }

    /// A directory that this command has just made for itself.
    pub fn made(dir: &Path) -> NewPlace {
        let place = NewPlace { dir: dir.to_path_buf(), is_new: true };
        let own = NewPlace { dir: dir.to_path_buf(), is_new: true };
        interrupt::on_interrupt(move || own.remove());
        place
    }

    /// Takes it away again, if it is ours.
    pub fn remove(&self) {
        if self.is_new {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Limit {
    /// Ends the process when the time is over, as an interrupt does, but with exit code 124.
    pub fn start(&self, what: &'static str) {
        let Some(limit) = self.max_duration else { return };
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            let text = format!("highwater: {what} did not end within {limit:?}");
            let _ = writeln!(io::stderr().lock(), "{text}");
            interrupt::end(Exit::TimeLimit);
        });
    }
}

/// Does something that needs nobody else to have it open; tries again as long as `--timeout` says.
pub fn waiting<T>(
    console: &Console,
    mut attempt: impl FnMut() -> highwater::Result<T>,
) -> highwater::Result<T> {
    let started = Instant::now();
    loop {
        let outcome = attempt();
        let left = console.timeout.unwrap_or_default().saturating_sub(started.elapsed());
        if !matches!(outcome, Err(Error::Locked { .. })) || left.is_zero() {
            return outcome;
        }
        std::thread::sleep(PAUSE.min(left));
    }
}

/// A failure of the engine; what it calls a bad argument is a wrong use of the command.
pub fn failed(dir: &Path, error: &Error) -> Failure {
    match error {
        Error::InvalidArgument(what) => Failure::usage(what.clone()),
        Error::NotFound { path } => {
            let text = format!("there is no database in {}", path.display());
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = typed(parent.unwrap_or(Path::new(".")));
            Failure::new(Exit::NoDatabase, text).next(format!("ls -la {parent}"))
        }
        error => Failure::engine(dir, error),
    }
}

/// Progress through the files of a directory, in bytes.
pub fn progress(dir: &Path) -> Progress {
    let bytes = std::fs::read_dir(dir).ok().map(|entries| {
        let lengths = entries.flatten().filter_map(|entry| entry.metadata().ok());
        lengths.filter(|metadata| metadata.is_file()).map(|metadata| metadata.len()).sum()
    });
    Progress::bytes(bytes)
}
