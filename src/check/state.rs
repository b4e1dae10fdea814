//! States: opening a database as it was at an LSN, and comparing two states.
//!
//! An earlier state is the tables and the part of the log up to that commit, so it can be put together
//! from the last checkpoint on; what lies before is merged into the tables already.

use crate::catalog::KeyspaceInfo;
use crate::db::Database;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::recovery::plan::Plan;
use crate::recovery::reading::plan_for_reading;
use crate::tx::snapshot::Snapshot;
use crate::types::Lsn;
use crate::view::Range;
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// The LSNs whose states can be opened: from the last checkpoint to the end of the log.
///
/// # Errors
/// As [`explain`](super::explain); [`Error::NotFound`] if nothing is there.
pub fn reachable(fs: &dyn FileSystem, dir: impl AsRef<Path>) -> Result<(Lsn, Lsn)> {
    let dir = dir.as_ref();
    match plan_for_reading(fs, dir)? {
        Plan::Create => Err(Error::NotFound { path: dir.to_path_buf() }),
        Plan::Open(plan) => {
            let from = plan.manifest.checkpoint_lsn;
            Ok((from, plan.tail.at.max(from)))
        }
    }
}

/// Opens the database read-only as it was after the commit that returned `at`; a later LSN up to the next
/// commit gives the same state.
///
/// # Errors
/// [`Error::NotReachable`] says which states can be opened; otherwise as
/// [`Builder::open`](crate::Builder::open).
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// use highwater::{check::open_at, fs::os::OsFileSystem};
/// use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("db");
/// let db = highwater::Database::open(&path)?;
/// let users = db.keyspace("users")?;
/// let first = users.insert("ada", "1815")?;
/// users.insert("ada", "changed")?;
/// db.close()?;
/// let then = open_at(Arc::new(OsFileSystem::new()), &path, first)?;
/// assert_eq!(then.existing_keyspace("users")?.get("ada")?.unwrap(), b"1815");
/// # Ok(())
/// # }
/// ```
pub fn open_at(fs: Arc<dyn FileSystem>, dir: impl AsRef<Path>, at: Lsn) -> Result<Database> {
    let mut builder = Database::builder().file_system(fs).read_only(true);
    builder.until = Some(at);
    builder.open(dir)
}

/// One difference between two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference<'a> {
    /// A keyspace is in the second state alone. Its keys follow.
    KeyspaceAdded(&'a str),
    /// A keyspace is in the first state alone. Its keys follow.
    KeyspaceRemoved(&'a str),
    /// A key is in the second state alone.
    Added {
        /// Name of the keyspace.
        keyspace: &'a str,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A key is in the first state alone.
    Removed {
        /// Name of the keyspace.
        keyspace: &'a str,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A key has another value.
    Changed {
        /// Name of the keyspace.
        keyspace: &'a str,
        /// The key.
        key: &'a [u8],
        /// Its value in the first state.
        before: &'a [u8],
        /// Its value in the second.
        after: &'a [u8],
    },
}

/// Hands all differences between two states to `sink`, by keyspace and key, until that breaks off.
/// Keyspaces are compared by name. Cost: one pass over both.
///
/// # Errors
/// [`Error::Damage`], [`Error::Io`].
///
/// ```
/// # fn main() -> highwater::Result<()> {
/// # let db = highwater::Database::in_memory()?;
/// let users = db.keyspace("users")?;
/// let before = db.snapshot();
/// users.insert("ada", "1815")?;
/// let mut differences = 0;
/// highwater::check::diff(&before, &db.snapshot(), &mut |_| {
///     differences += 1;
///     std::ops::ControlFlow::Continue(())
/// })?;
/// assert_eq!(differences, 1);
/// # Ok(())
/// # }
/// ```
pub fn diff(
    before: &Snapshot,
    after: &Snapshot,
    sink: &mut dyn FnMut(Difference<'_>) -> ControlFlow<()>,
) -> Result<()> {
    before.check_open().and_then(|()| after.check_open())?;
    let (old, new) = (before.live_keyspaces(), after.live_keyspaces());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(two)) => one.name.cmp(&two.name),
        };
        let one = if order.is_le() { old.next() } else { None };
        let two = if order.is_ge() { new.next() } else { None };
        let flow = match (one, two) {
            (Some(info), None) => sink(Difference::KeyspaceRemoved(&info.name)),
            (None, Some(info)) => sink(Difference::KeyspaceAdded(&info.name)),
            _ => ControlFlow::Continue(()),
        };
        if flow.is_break() {
            return Ok(());
        }
        let entries = |snapshot, info: Option<&Arc<KeyspaceInfo>>| -> Option<Range<'_>> {
            info.map(|info| Snapshot::entries(snapshot, info.id))
        };
        let name = one.or(two).map_or("", |info| info.name.as_str());
        let merged = merge(name, entries(before, one), entries(after, two), sink)?;
        if merged.is_break() {
            return Ok(());
        }
    }
}

fn merge(
    keyspace: &str,
    old: Option<Range<'_>>,
    new: Option<Range<'_>>,
    sink: &mut dyn FnMut(Difference<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let (mut old, mut new) = (old.into_iter().flatten(), new.into_iter().flatten());
    let (mut one, mut two) = (old.next().transpose()?, new.next().transpose()?);
    loop {
        let order = match (&one, &two) {
            (None, None) => return Ok(ControlFlow::Continue(())),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.as_bytes().cmp(b.as_bytes()),
        };
        let flow = match (order, &one, &two) {
            (Ordering::Equal, Some((key, before)), Some((_, after))) if before != after => {
                sink(Difference::Changed { keyspace, key, before, after })
            }
            (Ordering::Less, Some((key, value)), _) => {
                sink(Difference::Removed { keyspace, key, value })
            }
            (Ordering::Greater, _, Some((key, value))) => {
                sink(Difference::Added { keyspace, key, value })
            }
            _ => ControlFlow::Continue(()),
        };
        if flow.is_break() {
            return Ok(flow);
        }
        if order.is_le() {
            one = old.next().transpose()?;
        }
        if order.is_ge() {
            two = new.next().transpose()?;
        }
    }
}
