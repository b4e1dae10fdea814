//! Highwater: an embedded storage engine with a checksummed write-ahead log, periodic checkpoints and
//! recovery that is proven.
//!
//! ```
//! # fn main() -> highwater::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("db");
//! use highwater::Database;
//!
//! let db = Database::open(&path)?;
//! let users = db.keyspace("users")?;
//!
//! let mut tx = db.write()?;
//! tx.insert(&users, "ada", "1815")?;
//! tx.insert(&users, "grace", "1906")?;
//! tx.commit()?; // on the disk when it returns
//!
//! let snapshot = db.snapshot();
//! for entry in snapshot.prefix(&users, "a")? {
//!     let (name, born) = entry?;
//!     println!("{} {}", String::from_utf8_lossy(&name), String::from_utf8_lossy(&born));
//! }
//! # drop(snapshot);
//! # db.close()
//! # }
//! ```
//!
//! What it promises, and what it does not, stands in `docs/durability.md`; how it works in
//! `docs/architecture.md`; the bytes on disk in `docs/format.md`.

pub mod backup;
mod bytes;
mod catalog;
pub mod check;
mod checkpoint;
mod content;
mod cursor;
mod db;
mod engine;
mod error;
mod fresh;
pub mod fs;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod keyspace;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod lanes;
mod lock;
mod manifest;
mod memory;
mod memtable;
#[cfg(not(feature = "mistakes"))]
mod mistakes;
#[cfg(feature = "mistakes")]
#[doc(hidden)]
pub mod mistakes;
mod options;
mod pacer;
#[cfg(any(test, feature = "parts"))]
#[doc(hidden)]
pub mod parts;
mod prefetch;
mod recovery;
pub mod repair;
pub mod salvage;
pub mod sim;
mod slice;
mod stats;
mod sync;
mod table;
mod tx;
mod types;
mod varint;
mod view;
mod wal;

pub use db::Database;
pub use error::{Error, Result};
pub use keyspace::Keyspace;
pub use manifest::codec::MANIFEST_FORMAT_VERSION as FORMAT_VERSION;
pub use options::{Builder, Durability, MEMORY_BUDGET_MIN_BYTES};
pub use recovery::Recovery;
pub use slice::Slice;
pub use stats::Stats;
pub use table::ReadMode;
pub use tx::extract::ExtractIf;
pub use tx::optimistic::OptimisticTx;
pub use tx::reader::Reader;
pub use tx::snapshot::Snapshot;
pub use tx::ticket::Ticket;
pub use tx::write::WriteTx;
pub use tx::write_set::Savepoint;
pub use types::{
    DatabaseId, Epoch, FileId, Generation, KeyspaceId, Lsn, MAX_KEY_BYTES, MAX_KEYSPACE_NAME_BYTES,
    MAX_VALUE_BYTES, Seqno,
};
pub use view::Range;

/// The README's example, compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
