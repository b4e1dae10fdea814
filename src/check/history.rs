//! The history of a key: every version of it that the log and the tables still hold.
//!
//! The log gives each change with its commit, its time and its LSN; a table gives the one version that
//! was the last when it was written, and knows of its commits only between which two its run lies. What a
//! merge dropped, and what was overwritten in the log, is gone.

use super::log::{LogItem, LogOperation, read_log};
use super::tables::{handle, metas};
use crate::error::Result;
use crate::fs::FileSystem;
use crate::table::{Found as TableFound, key_hash};
use crate::types::{FileId, KeyspaceId, Lsn, Seqno};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// A version of a key, or something that removed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// The key got this value.
    Put(Vec<u8>),
    /// The key was removed.
    Removed,
    /// A range of keys was removed, this one with it.
    RangeRemoved,
    /// The keyspace was made.
    KeyspaceCreated,
    /// The keyspace was dropped.
    KeyspaceDropped,
}

/// Where a version was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum History {
    /// In the log.
    Log {
        /// What happened.
        what: Found,
        /// The number of the keyspace: one that is dropped and made again gets a new one.
        keyspace: KeyspaceId,
        /// The commit.
        seqno: Seqno,
        /// When, in microseconds since 1970.
        time_micros: u64,
        /// Where: what the commit returned.
        lsn: Lsn,
        /// No table holds it yet.
        live: bool,
    },
    /// In a table.
    Table {
        /// What the table says.
        what: Found,
        /// The number of the keyspace.
        keyspace: KeyspaceId,
        /// The table.
        table: FileId,
        /// The name of its file.
        file: String,
        /// Its run, from 0, the newest; `None` if a transaction in the log installs it.
        run: Option<usize>,
        /// Where the run stands: see [`TableSummary::seqnos`](super::TableSummary::seqnos).
        seqnos: (Seqno, Seqno),
    },
}

/// Everything that is known of a key, newest first: the log, then the tables. Empty if neither the
/// keyspace nor the key was ever met.
///
/// Cost: one pass over the log, and one lookup in each table.
///
/// # Errors
/// [`Error::Damage`](crate::Error::Damage) in a table or the manifest, [`Error::Io`](crate::Error::Io),
/// [`Error::NotFound`](crate::Error::NotFound).
pub fn find(
    fs: &Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    keyspace: &str,
    key: &[u8],
) -> Result<Vec<History>> {
    let dir = dir.as_ref();
    let (manifest, listed) = metas(&**fs, dir)?;
    let named = manifest.keyspaces.iter().filter(|entry| entry.name == keyspace);
    let mut ids: Vec<KeyspaceId> = named.map(|entry| entry.id).collect();
    let mut found = Vec::new();
    read_log(&**fs, dir, Lsn::ZERO, &mut |item| {
        let LogItem::Transaction(transaction) = item else { return ControlFlow::Continue(()) };
        for operation in transaction.operations().flatten() {
            if let LogOperation::CreateKeyspace { id, name } = operation
                && name == keyspace
                && !ids.contains(&id)
            {
                ids.push(id);
            }
            if let Some((keyspace, what)) = about(&operation, &ids, key) {
                found.push(History::Log {
                    what,
                    keyspace,
                    seqno: transaction.seqno,
                    time_micros: transaction.time_micros,
                    lsn: transaction.lsn,
                    live: transaction.live,
                });
            }
        }
        ControlFlow::Continue(())
    })?;
    found.reverse();
    for (run, meta) in listed {
        let entry = run.and_then(|run| manifest.runs.get(run));
        let seqnos = entry.map_or_else(Default::default, |run| (run.min_seqno, run.max_seqno));
        let (id, file) = (meta.file_id, crate::manifest::names::table_name(meta.file_id));
        let table = handle(fs, dir, &manifest, meta);
        for keyspace in &ids {
            if !table.meta().may_contain(*keyspace, key) {
                continue;
            }
            let mut add = |what| {
                let (keyspace, file) = (*keyspace, file.clone());
                found.push(History::Table { what, keyspace, table: id, file, run, seqnos });
            };
            match table.get(*keyspace, key, key_hash(*keyspace, key))? {
                Some(TableFound::Value(value)) => add(Found::Put(value.into_vec())),
                Some(TableFound::Tombstone) => add(Found::Removed),
                None if table.covers(*keyspace, key)? => add(Found::RangeRemoved),
                None => {}
            }
        }
    }
    Ok(found)
}

/// What an operation says of the key in one of these keyspaces.
fn about(
    operation: &LogOperation<'_>,
    ids: &[KeyspaceId],
    wanted: &[u8],
) -> Option<(KeyspaceId, Found)> {
    let (keyspace, found) = match *operation {
        LogOperation::Put { keyspace, key, value } if key == wanted => {
            (keyspace, Found::Put(value.to_vec()))
        }
        LogOperation::Remove { keyspace, key } if key == wanted => (keyspace, Found::Removed),
        LogOperation::RemoveRange { keyspace, start, end }
            if start <= wanted && end.is_none_or(|end| wanted < end) =>
        {
            (keyspace, Found::RangeRemoved)
        }
        LogOperation::CreateKeyspace { id, .. } => (id, Found::KeyspaceCreated),
        LogOperation::DropKeyspace { id } => (id, Found::KeyspaceDropped),
        _ => return None,
    };
    ids.contains(&keyspace).then_some((keyspace, found))
}
