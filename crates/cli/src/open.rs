//! Opening databases the way commands need them.
//!
//! Invariant: [`read_only`] and everything else that looks takes no lock and writes nothing, not even to
//! the lock file; only [`existing`] and [`or_create`] own the database, and none of them waits longer for
//! another owner than `--timeout` says.

use crate::console::{Console, typed};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use highwater::fs::os::OsFileSystem;
use highwater::fs::{FileSystem, Holder};
use highwater::{Builder, Database, Error, Keyspace};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a database that is in use is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// For looking: writes nothing, takes no lock, works beside a live owner.
pub fn read_only(dir: &Path) -> Result<Database, Failure> {
    Database::builder().read_only(true).open(dir).in_dir(dir)
}

/// The file system, for the functions of the library that read files themselves.
pub fn file_system() -> Arc<dyn FileSystem> {
    Arc::new(OsFileSystem::new())
}

/// Where commands that change a database keep its log.
#[derive(clap::Args, Debug, Default)]
pub struct Keeping {
    /// The folder that keeps the log of this database. Name it if the
    /// application does, or the log of this command is missing there
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
}

impl Keeping {
    /// An application goes on while its archive cannot be reached, and tries again; a command has no later.
    fn apply(&self, builder: Builder) -> Result<Builder, Failure> {
        let Some(archive) = &self.archive else { return Ok(builder) };
        let within = archive.parent().filter(|parent| !parent.as_os_str().is_empty());
        let reached = match std::fs::read_dir(archive) {
            // It will be made.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                within.map_or(Ok(()), |parent| std::fs::read_dir(parent).map(drop))
            }
            other => other.map(drop),
        };
        match reached {
            Ok(()) => Ok(builder.archive(archive)),
            Err(cause) => {
                let text = format!(
                    "the archive {} cannot be reached: {cause}; nothing was changed",
                    archive.display()
                );
                Err(Failure::new(Exit::Failed, text)
                    .next(format!("ls -la {}", typed(within.unwrap_or(archive)))))
            }
        }
    }
}

/// For changing a database that exists.
pub fn existing(dir: &Path, keeping: &Keeping, console: &Console) -> Result<Database, Failure> {
    own(&keeping.apply(Database::builder().create(false))?, dir, console)
}

/// For changing a database; makes it if there is none, and says so.
pub fn or_create(dir: &Path, keeping: &Keeping, console: &Console) -> Result<Database, Failure> {
    let db = own(&keeping.apply(Database::builder())?, dir, console)?;
    if db.recovery().created {
        let _ = writeln!(std::io::stderr(), "made a new database in {}", dir.display());
    }
    Ok(db)
}

/// Opens for writing; waits as long as it may for another owner.
pub fn own(builder: &Builder, dir: &Path, console: &Console) -> Result<Database, Failure> {
    let started = Instant::now();
    let mut said = false;
    loop {
        let error = match builder.clone().open(dir) {
            Ok(db) => return Ok(db),
            Err(error) => error,
        };
        let left = console.timeout.unwrap_or_default().saturating_sub(started.elapsed());
        if !matches!(error, Error::Locked { .. }) || left.is_zero() {
            return Err(Failure::engine(dir, &error));
        }
        if !said {
            said = true;
            let holder = owner(dir).and_then(|holder| holder.pid);
            let holder =
                holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            let _ = writeln!(std::io::stderr(), "waiting for {holder}, which has it open");
        }
        std::thread::sleep(PAUSE.min(left));
    }
}

/// A keyspace that exists.
pub fn keyspace(db: &Database, dir: &Path, name: &str) -> Result<Keyspace, Failure> {
    db.existing_keyspace(name).map_err(|error| match error {
        Error::KeyspaceNotFound { name } => Failure::no_keyspace(dir, &name),
        other => Failure::engine(dir, &other),
    })
}

/// Who owns the database now.
pub fn owner(dir: &Path) -> Option<Holder> {
    OsFileSystem::new().lock_holder(&dir.join("LOCK")).ok().flatten()
}
