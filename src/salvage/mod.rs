//! Salvage: gets what can be read out of a damaged database, into a new one, and says what is lost.
//!
//! 1. `survey`: which files belong to the database, by their content; what the manifest is worth.
//! 2. `scan`: every group of the log that verifies; `chain`: which of them are its history, and where
//!    promised ones are missing; `replay`: from groups to transactions.
//! 3. `harvest`: every block of every table that verifies.
//! 4. `write`, `log`: tables and log become runs of a new database, oldest first; `finish`: its
//!    manifest, written last, carries the mark `salvaged` for ever. The `receipt` names every loss.
//!
//! What an open would cut from the end of the log is cut here too. Behind a damaged place in the middle of the log,
//! whole transactions that something vouches for are taken: the result then is no longer one point in
//! commit order, and the receipt says so. Newest wins, by commit number; where the manifest is gone,
//! the order of tables is guessed from their numbers, and the receipt says that too.
//!
//! Invariants: no byte of the source is written, and no lock of it taken; every loss that anything
//! vouches for is in the receipt; the result passes [`check::verify`](crate::check::verify).

mod chain;
mod finish;
mod harvest;
mod log;
mod named;
mod receipt;
mod replay;
mod scan;
mod survey;
mod write;

pub use receipt::{
    LOST_KEYS_LISTED, LostKeys, LostLog, LostTable, ManifestState, Receipt, SetAside,
};

/// What a restore needs of it too: reading log and tables without a manifest.
pub(crate) mod parts {
    pub(crate) use super::chain::Chain;
    pub(crate) use super::harvest::Harvester;
    pub(crate) use super::replay::{FoundTransaction, transactions};
    pub(crate) use super::scan::Scan;
    pub(crate) use super::survey::{Survey, TableFile};
}

use crate::error::{Error, Result};
use crate::fresh;
use crate::fs::FileSystem;
use crate::manifest::names;
use std::path::Path;
use std::sync::Arc;

/// Reads what can be read in the directory `source` and writes it to a new database in `target`.
/// `progress` is told, now and then, how many bytes of the source were read.
///
/// Costs one pass over the source (two over the tables without a usable manifest, and over the log), and
/// writes what it finds. Memory: a small entry per group of the log, and about 32 MiB.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::NotADatabase`] if there is nothing to salvage, [`Error::Locked`] if
/// the source is open somewhere, [`Error::InvalidArgument`] for a target that is not new,
/// [`Error::Unsupported`], [`Error::NoSpace`], [`Error::Io`]. Tables that were written before an error
/// are removed.
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// # use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// # let (path, new) = (dir.path().join("db"), dir.path().join("new"));
/// use highwater::fs::os::OsFileSystem;
/// let db = highwater::Database::open(&path)?;
/// db.keyspace("users")?.insert("ada", "1815")?;
/// db.close()?;
/// std::fs::remove_file(path.join("MANIFEST")).unwrap(); // a bad day
/// assert!(highwater::Database::open(&path).is_err());
///
/// let fs: Arc<dyn highwater::fs::FileSystem> = Arc::new(OsFileSystem::new());
/// let receipt = highwater::salvage::salvage(&fs, &path, &new, &mut |_| {})?;
/// println!("{receipt}");
/// let db = highwater::Database::open(&new)?;
/// assert_eq!(db.keyspace("users")?.get("ada")?.as_deref(), Some(&b"1815"[..]));
/// # db.close()
/// # }
/// ```
pub fn salvage(
    fs: &Arc<dyn FileSystem>,
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Receipt> {
    let (source, target) = (source.as_ref(), target.as_ref());
    fresh::check_place(&**fs, source, target)?;
    check_free(&**fs, source)?;
    write::run(fs, source, Some(target), progress)
}

/// What [`salvage`] would get and lose, without writing anything. The receipt's target is empty.
///
/// # Errors
/// As [`salvage`].
pub fn assess(
    fs: &Arc<dyn FileSystem>,
    source: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Receipt> {
    check_free(&**fs, source.as_ref())?;
    write::run(fs, source.as_ref(), None, progress)
}

/// The files of a live database change while they are read.
fn check_free(fs: &dyn FileSystem, source: &Path) -> Result<()> {
    match fs.lock_holder(&source.join(names::LOCK_NAME)) {
        Ok(Some(holder)) => Err(Error::Locked { path: source.to_path_buf(), pid: holder.pid }),
        // Without a lock file that can be looked at, nobody has it open.
        Ok(None) | Err(_) => Ok(()),
    }
}
