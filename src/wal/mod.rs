//! The write-ahead log: segments of groups of records of operations.
//!
//! ```text
//! segment   4096-byte header, then groups, then zeros or what an earlier use left behind
//! group     what one flush writes: header, body, padding to 8 bytes
//! record    one logical entry of a body: a transaction, or a part of one
//! operation one change of a transaction
//! ```
//!
//! The codecs of this folder ([`segment`], [`group`], [`record`], [`operation`]) are pure: bytes in,
//! values or a typed fault out. `docs/format.md` holds the grammar.
//!
//! Invariants: a decoder never panics and never allocates; whatever an encoder writes, its decoder
//! takes (encoders assert their bounds, since a record that cannot be read back is a lost commit).

pub mod archive;
pub mod buffer;
pub mod flush;
pub mod fresh;
pub mod group;
#[cfg(all(test, loom))]
mod interleavings;
pub mod log;
pub mod operation;
mod ready;
pub mod record;
pub mod reserve;
mod rhythm;
pub mod segment;
pub mod space;
pub mod spares;

/// Every LSN, seqno, epoch, generation and file id on disk is below this, so that adding lengths to
/// them cannot overflow. Frozen.
pub const COUNTER_LIMIT: u64 = 1 << 62;
