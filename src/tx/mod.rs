//! What users hold while they read and write: snapshots, write transactions, optimistic transactions.
//!
//! - [`Snapshot`](snapshot::Snapshot): one point in commit order, read without locks.
//! - [`Reader`](reader::Reader): the same for a short while, without a shared counter.
//! - [`WriteTx`](write::WriteTx): the one writer; holds the gate from begin to commit.
//! - [`OptimisticTx`](optimistic::OptimisticTx): many at a time; validated at commit.
//! - [`write_set`]: what a transaction changed and has not committed; spills to private tables.
//! - [`Ticket`](ticket::Ticket): a commit that is on its way to the disk.
//!
//! Invariants: a transaction sees its own writes above one point of the database; dropping it leaves no
//! trace; a read never waits.

mod changed;
pub mod extract;
pub mod optimistic;
pub mod pops;
pub mod read_set;
pub mod reader;
mod reads;
pub mod snapshot;
mod spill;
pub mod staged;
pub mod ticket;
pub mod write;
pub mod write_set;

use crate::error::{Error, Result};
use crate::types::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Checks the length of a key.
pub fn check_key(key: &[u8]) -> Result<()> {
    if key.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    Err(Error::Limit {
        what: "the length of a key in bytes",
        found: key.len() as u64,
        limit: MAX_KEY_BYTES as u64,
        hint: "store a hash of it as the key, and the whole in the value",
    })
}

/// Checks the length of a value.
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(Error::Limit {
        what: "the length of a value in bytes",
        found: value.len() as u64,
        limit: MAX_VALUE_BYTES as u64,
        hint: "split it over several keys",
    })
}
