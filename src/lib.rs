//! Highwater: an embedded storage engine with a checksummed write-ahead log, periodic checkpoints and
//! recovery that is proven.

mod cursor;
mod error;
pub mod fs;
mod slice;
mod types;

pub use error::{Error, Result};
pub use slice::Slice;
pub use types::{
    DatabaseId, Epoch, FileId, Generation, KeyspaceId, Lsn, MAX_KEY_BYTES, MAX_KEYSPACE_NAME_BYTES,
    MAX_VALUE_BYTES, Seqno,
};
