//! Opening databases the way commands need them.

use crate::failure::{Failure, InDir};
use highwater::fs::os::OsFileSystem;
use highwater::fs::{FileSystem, Holder};
use highwater::{Database, Error, Keyspace};
use std::path::Path;

/// For looking: writes nothing, takes no lock.
pub fn read_only(dir: &Path) -> Result<Database, Failure> {
    Database::builder().read_only(true).open(dir).in_dir(dir)
}

/// For changing a database that exists.
pub fn existing(dir: &Path) -> Result<Database, Failure> {
    Database::builder().create(false).open(dir).in_dir(dir)
}

/// For changing a database; makes it if there is none, and says so.
pub fn or_create(dir: &Path) -> Result<Database, Failure> {
    let db = Database::open(dir).in_dir(dir)?;
    if db.recovery().created {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "made a new database in {}", dir.display());
    }
    Ok(db)
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
