//! SQLite through `rusqlite`, in WAL mode.
//!
//! Commits: WAL with `synchronous=FULL` syncs the WAL at every commit (with `fdatasync`:
//! `.cargo/config.toml` tells the bundled library that the system has it); with `NORMAL` a commit is handed to the operating
//! system and synced by checkpoints: buffered. There is no commit in memory. The table is
//! `WITHOUT ROWID`, which its documentation recommends for keys that are not integers and small rows, and a
//! plain table with a unique key for large values. Each thread has a connection of its own from a
//! pool; the cache budget is the page cache's limit and the limit of the mapping (`mmap_size`).
//! Statements are prepared once per use of a connection. Writers take turns by a lock of this process, which is quicker than the
//! busy handler. Pops are `DELETE … RETURNING`; `retain` and `extract_if` read, then delete by key.
//! Compaction is a truncating checkpoint and `VACUUM`.

use crate::engine::{Batch, Change, Engine, Facts, Outcome, Promise, Reads, Setup};
use rusqlite::{CachedStatement, Connection};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The adapter.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    setup: Setup,
    readers: Mutex<Vec<Connection>>,
    /// The connection that writes, and what it is set to promise.
    writer: Mutex<(Connection, Promise)>,
}

/// Prepared reads in one read transaction.
#[allow(missing_debug_implementations)]
pub struct Reader<'a> {
    get: CachedStatement<'a>,
    scan: CachedStatement<'a>,
    len: CachedStatement<'a>,
}

/// Prepared writes in one transaction.
#[allow(missing_debug_implementations)]
pub struct Tx<'a> {
    connection: &'a Connection,
    insert: CachedStatement<'a>,
    remove: CachedStatement<'a>,
    pop_first: CachedStatement<'a>,
    pop_last: CachedStatement<'a>,
}

fn connect(path: &Path, setup: &Setup) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Negative: in KiB.
    connection.pragma_update(None, "cache_size", -((setup.cache_bytes >> 10) as i64))?;
    let mapped = if setup.positional { 0 } else { setup.cache_bytes as i64 };
    connection.pragma_update(None, "mmap_size", mapped)?;
    if setup.hold_log {
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    }
    Ok(connection)
}

fn poisoned<T>(_: T) -> &'static str {
    "a thread panicked while it held a connection"
}

impl Engine for Sqlite {
    const NAME: &'static str = "sqlite";
    const PACKAGE: &'static str = "rusqlite";
    const FACTS: Facts = Facts {
        durable: match option_env!("LIBSQLITE3_FLAGS") {
            Some(_) => "WAL, synchronous=FULL: fdatasync of the WAL",
            None => "WAL, synchronous=FULL: fsync of the WAL",
        },
        buffered: Some("WAL, synchronous=NORMAL: write to the WAL"),
        memory: None,
        logged: true,
        reads: Reads::Either,
        notes: "WITHOUT ROWID table; prepared statements; retain and extract_if read, then delete by key",
    };

    type Reader<'a> = Reader<'a>;
    type Batch<'a> = Tx<'a>;
    type Change<'a> = Tx<'a>;

    fn open(dir: &Path, setup: &Setup) -> Outcome<Self> {
        let path = dir.join("items.sqlite");
        let connection = connect(&path, setup)?;
        let rowid = if setup.value_bytes > 200 { "" } else { "WITHOUT ROWID" };
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS items (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) {rowid}"
        ))?;
        let writer = Mutex::new((connection, Promise::Durable));
        Ok(Sqlite { path, setup: *setup, readers: Mutex::new(Vec::new()), writer })
    }

    fn close(self) -> Outcome {
        drop(self.readers);
        let (connection, _) = self.writer.into_inner().map_err(poisoned)?;
        connection.flush_prepared_statement_cache();
        connection.close().map_err(|(_, error)| error)?;
        Ok(())
    }

    fn read<T>(&self, body: impl FnOnce(&mut Reader<'_>) -> Outcome<T>) -> Outcome<T> {
        let idle = self.readers.lock().map_err(poisoned)?.pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, &self.setup)?,
        };
        connection.prepare_cached("BEGIN")?.execute(())?;
        let done = body(&mut Reader {
            get: connection.prepare_cached("SELECT value FROM items WHERE key = ?")?,
            scan: connection.prepare_cached(
                "SELECT key, value FROM items WHERE key >= ? ORDER BY key LIMIT ?",
            )?,
            len: connection.prepare_cached("SELECT count(*) FROM items")?,
        });
        connection.prepare_cached("COMMIT")?.execute(())?;
        self.readers.lock().map_err(poisoned)?.push(connection);
        done
    }

    fn get<T>(
        reader: &mut Reader<'_>,
        key: &[u8],
        with: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Outcome<T> {
        let mut rows = reader.get.query((key,))?;
        match rows.next()? {
            Some(row) => Ok(with(Some(row.get_ref(0)?.as_blob()?))),
            None => Ok(with(None)),
        }
    }

    fn scan(
        reader: &mut Reader<'_>,
        from: &[u8],
        count: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let mut rows = reader.scan.query((from, count.min(i64::MAX as u64) as i64))?;
        let mut done = 0;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
            done += 1;
        }
        Ok(done)
    }

    fn len(reader: &mut Reader<'_>) -> Outcome<u64> {
        let count: i64 = reader.len.query_row((), |row| row.get(0))?;
        Ok(count as u64)
    }

    fn batch<T>(
        &self,
        promise: Promise,
        body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut writer = self.writer.lock().map_err(poisoned)?;
        let (connection, current) = &mut *writer;
        if *current != promise {
            let synchronous = match promise {
                Promise::Durable => "FULL",
                Promise::Buffered => "NORMAL",
                Promise::Memory => return Err("SQLite has no commit in memory only".into()),
            };
            connection.pragma_update(None, "synchronous", synchronous)?;
            *current = promise;
        }
        let connection = &*connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let pop = |order: &str| {
            connection.prepare_cached(&format!(
                "DELETE FROM items WHERE key = (SELECT key FROM items ORDER BY key {order} LIMIT 1) \
                 RETURNING key, value"
            ))
        };
        let done = body(&mut Tx {
            connection,
            insert: connection.prepare_cached(
                "INSERT INTO items (key, value) VALUES (?, ?) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?,
            remove: connection.prepare_cached("DELETE FROM items WHERE key = ?")?,
            pop_first: pop("ASC")?,
            pop_last: pop("DESC")?,
        });
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        connection.prepare_cached(end)?.execute(())?;
        done
    }

    fn change<T>(&self, body: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        self.batch(Promise::Durable, body)
    }

    fn compact(self, _dir: &Path, _setup: &Setup) -> Outcome<Self> {
        {
            // Idle connections hold parts of the WAL.
            self.readers.lock().map_err(poisoned)?.clear();
            let writer = self.writer.lock().map_err(poisoned)?;
            writer.0.execute_batch("VACUUM")?;
            writer.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        }
        Ok(self)
    }
}

impl Batch for Tx<'_> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        self.insert.execute((key, value))?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Outcome {
        self.remove.execute((key,))?;
        Ok(())
    }
}

impl Tx<'_> {
    /// Removes the keys that a query's rows are picked for.
    fn remove_picked(
        &mut self,
        query: &str,
        bounds: impl rusqlite::Params,
        mut pick: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Outcome<u64> {
        let mut keys = Vec::new();
        let mut statement = self.connection.prepare(query)?;
        let mut rows = statement.query(bounds)?;
        while let Some(row) = rows.next()? {
            let key = row.get_ref(0)?.as_blob()?;
            if pick(key, row.get_ref(1)?.as_blob()?) {
                keys.push(key.to_vec());
            }
        }
        for key in &keys {
            self.remove(key)?;
        }
        Ok(keys.len() as u64)
    }
}

impl Change for Tx<'_> {
    fn pop(&mut self, back: bool, with: impl FnOnce(&[u8], &[u8])) -> Outcome<bool> {
        let statement = if back { &mut self.pop_last } else { &mut self.pop_first };
        let mut rows = statement.query(())?;
        let Some(row) = rows.next()? else { return Ok(false) };
        with(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        // Stepping to the end completes the statement.
        rows.next()?;
        Ok(true)
    }

    fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Outcome<u64> {
        let query = "SELECT key, value FROM items ORDER BY key";
        self.remove_picked(query, (), |key, value| !keep(key, value))
    }

    fn extract(
        &mut self,
        from: &[u8],
        to: &[u8],
        mut pick: impl FnMut(&[u8], &[u8]) -> bool,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Outcome<u64> {
        let query = "SELECT key, value FROM items WHERE key >= ? AND key < ? ORDER BY key";
        self.remove_picked(query, (from, to), |key, value| {
            let picked = pick(key, value);
            if picked {
                each(key, value);
            }
            picked
        })
    }
}
