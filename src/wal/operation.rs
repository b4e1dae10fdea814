//! The operations stream of a transaction: what it changes, in the order in which it was asked for.
//!
//! ```text
//! 1 Put             keyspace, key_bytes, value_bytes, key, value
//! 2 Remove          keyspace, key_bytes, key
//! 3 RemoveRange     keyspace, start_bytes, end, start, end key      end = 0: no end, else its length + 1
//! 4 CreateKeyspace  id, name_bytes, name
//! 5 DropKeyspace    id
//! 6 InstallTable    meta_bytes, meta
//! ```
//!
//! The kind is one byte, all numbers are [varints](crate::varint). The numbers come first, so that an
//! operation is one short head and one copy for each string.
//!
//! Invariants: one operation has one encoding; the limits on keys, values and names hold for everything
//! that is encoded or decoded; the iterator ends after its first fault.

use crate::types::{KeyspaceId, MAX_KEY_BYTES, MAX_KEYSPACE_NAME_BYTES, MAX_VALUE_BYTES};
#[cfg(test)]
use crate::varint::varint_bytes;
use crate::varint::{VarintFault, take_varint, take_varint_u32, write_varint};

/// Longest encoded table meta (it holds two keys). Frozen.
pub const MAX_TABLE_META_BYTES: usize = 256 << 10;

const KIND_PUT: u8 = 1;
const KIND_REMOVE: u8 = 2;
const KIND_REMOVE_RANGE: u8 = 3;
const KIND_CREATE_KEYSPACE: u8 = 4;
const KIND_DROP_KEYSPACE: u8 = 5;
const KIND_INSTALL_TABLE: u8 = 6;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Sets a key.
    Put {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Removes a key.
    Remove {
        /// Where.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
    },
    /// Removes the keys from `start` up to but not including `end`.
    RemoveRange {
        /// Where.
        keyspace: KeyspaceId,
        /// The first key to go.
        start: &'a [u8],
        /// The first key to stay; `None`: none stays. At or before `start`, nothing goes.
        end: Option<&'a [u8]>,
    },
    /// Creates a keyspace.
    CreateKeyspace {
        /// Its id, never used before.
        id: KeyspaceId,
        /// Its name.
        name: &'a str,
    },
    /// Drops a keyspace with all that it holds.
    DropKeyspace {
        /// Its id.
        id: KeyspaceId,
    },
    /// Makes a table that was written beforehand part of the database.
    InstallTable {
        /// The encoded table meta, opaque here.
        meta: &'a [u8],
    },
}

/// Why bytes are not an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationFault {
    /// The stream ends inside the operation.
    #[error("an operation is cut short")]
    Short,
    /// A number is not in its one form, or too large.
    #[error("an operation holds a malformed number")]
    Varint,
    /// A kind that this version does not know.
    #[error("an operation has kind {0}")]
    UnknownKind(u8),
    /// A key, value, name or meta is longer than its limit, or a meta is empty.
    #[error("an operation holds a string that is out of its limits")]
    Length,
    /// A keyspace name is not UTF-8.
    #[error("an operation holds a keyspace name that is not UTF-8")]
    Name,
}

impl From<VarintFault> for OperationFault {
    fn from(fault: VarintFault) -> Self {
        match fault {
            VarintFault::Short => OperationFault::Short,
            VarintFault::Overlong | VarintFault::Overflow => OperationFault::Varint,
        }
    }
}

impl Operation<'_> {
    /// Appends the operation.
    ///
    /// # Panics
    /// If a string is longer than its limit: what cannot be read back must not be acknowledged.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Operation::Put { keyspace, key, value } => {
                assert!(key.len() <= MAX_KEY_BYTES && value.len() <= MAX_VALUE_BYTES);
                let numbers = [keyspace.0.into(), key.len() as u64, value.len() as u64];
                put(out, KIND_PUT, numbers, [key, value]);
            }
            Operation::Remove { keyspace, key } => {
                assert!(key.len() <= MAX_KEY_BYTES);
                put(out, KIND_REMOVE, [keyspace.0.into(), key.len() as u64], [key]);
            }
            Operation::RemoveRange { keyspace, start, end } => {
                let end_bytes = end.unwrap_or_default();
                assert!(start.len() <= MAX_KEY_BYTES && end_bytes.len() <= MAX_KEY_BYTES);
                let numbers = [keyspace.0.into(), start.len() as u64, end_number(end)];
                put(out, KIND_REMOVE_RANGE, numbers, [start, end_bytes]);
            }
            Operation::CreateKeyspace { id, name } => {
                assert!(name.len() <= MAX_KEYSPACE_NAME_BYTES);
                let numbers = [id.0.into(), name.len() as u64];
                put(out, KIND_CREATE_KEYSPACE, numbers, [name.as_bytes()]);
            }
            Operation::DropKeyspace { id } => put(out, KIND_DROP_KEYSPACE, [id.0.into()], []),
            Operation::InstallTable { meta } => {
                assert!((1..=MAX_TABLE_META_BYTES).contains(&meta.len()));
                put(out, KIND_INSTALL_TABLE, [meta.len() as u64], [meta]);
            }
        }
    }

    /// Length of the encoding.
    #[inline]
    #[cfg(test)]
    pub fn encoded_bytes(&self) -> usize {
        let string = |bytes: &[u8]| varint_bytes(bytes.len() as u64) + bytes.len();
        let number = |id: KeyspaceId| varint_bytes(id.0.into());
        1 + match *self {
            Operation::Put { keyspace, key, value } => {
                number(keyspace) + string(key) + string(value)
            }
            Operation::Remove { keyspace, key } => number(keyspace) + string(key),
            Operation::RemoveRange { keyspace, start, end } => {
                let end_key_bytes = end.map_or(0, <[u8]>::len);
                number(keyspace) + string(start) + varint_bytes(end_number(end)) + end_key_bytes
            }
            Operation::CreateKeyspace { id, name } => number(id) + string(name.as_bytes()),
            Operation::DropKeyspace { id } => number(id),
            Operation::InstallTable { meta } => string(meta),
        }
    }
}

/// The operations of a transaction. Ends after the first fault.
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    rest: &'a [u8],
    stream_bytes: usize,
    failed: bool,
}

impl<'a> Operations<'a> {
    /// The operations of a whole stream (all fragments put together).
    pub fn new(stream: &'a [u8]) -> Self {
        Operations { rest: stream, stream_bytes: stream.len(), failed: false }
    }

    /// Where in the stream the next operation starts; after a fault, where the bad one does.
    #[inline]
    pub fn offset(&self) -> usize {
        self.stream_bytes - self.rest.len()
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>, OperationFault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let (&kind, after) = self.rest.split_first()?;
        let mut rest = after;
        let decoded = decode(kind, &mut rest);
        match decoded {
            Ok(_) => self.rest = rest,
            Err(_) => self.failed = true,
        }
        Some(decoded)
    }
}

impl std::iter::FusedIterator for Operations<'_> {}

/// Longest head: the kind, a keyspace id and two lengths of five bytes each; rounded up.
const HEAD_MAX_BYTES: usize = 32;

#[inline]
fn put<const N: usize, const S: usize>(
    out: &mut Vec<u8>,
    kind: u8,
    numbers: [u64; N],
    strings: [&[u8]; S],
) {
    let mut head = [0; HEAD_MAX_BYTES];
    head[0] = kind;
    let mut head_bytes = 1;
    for number in numbers {
        head_bytes += write_varint(&mut head[head_bytes..], number);
    }
    out.reserve(head_bytes + strings.iter().map(|string| string.len()).sum::<usize>());
    out.extend_from_slice(&head[..head_bytes]);
    for string in strings {
        out.extend_from_slice(string);
    }
}

/// The number that stands for the end of a range: 0 for none, else one more than its length.
fn end_number(end: Option<&[u8]>) -> u64 {
    end.map_or(0, |end| end.len() as u64 + 1)
}

fn decode<'a>(kind: u8, rest: &mut &'a [u8]) -> Result<Operation<'a>, OperationFault> {
    Ok(match kind {
        KIND_PUT => {
            let keyspace = take_keyspace(rest)?;
            let key_bytes = take_length(rest, MAX_KEY_BYTES)?;
            let value_bytes = take_length(rest, MAX_VALUE_BYTES)?;
            let key = take(rest, key_bytes)?;
            Operation::Put { keyspace, key, value: take(rest, value_bytes)? }
        }
        KIND_REMOVE => {
            let keyspace = take_keyspace(rest)?;
            let key_bytes = take_length(rest, MAX_KEY_BYTES)?;
            Operation::Remove { keyspace, key: take(rest, key_bytes)? }
        }
        KIND_REMOVE_RANGE => {
            let keyspace = take_keyspace(rest)?;
            let start_bytes = take_length(rest, MAX_KEY_BYTES)?;
            let end_number = take_length(rest, MAX_KEY_BYTES + 1)?;
            let start = take(rest, start_bytes)?;
            let end = end_number.checked_sub(1).map(|bytes| take(rest, bytes)).transpose()?;
            Operation::RemoveRange { keyspace, start, end }
        }
        KIND_CREATE_KEYSPACE => {
            let id = take_keyspace(rest)?;
            let name_bytes = take_length(rest, MAX_KEYSPACE_NAME_BYTES)?;
            let name = std::str::from_utf8(take(rest, name_bytes)?);
            Operation::CreateKeyspace { id, name: name.map_err(|_| OperationFault::Name)? }
        }
        KIND_DROP_KEYSPACE => Operation::DropKeyspace { id: take_keyspace(rest)? },
        KIND_INSTALL_TABLE => match take_length(rest, MAX_TABLE_META_BYTES)? {
            0 => return Err(OperationFault::Length),
            meta_bytes => Operation::InstallTable { meta: take(rest, meta_bytes)? },
        },
        kind => return Err(OperationFault::UnknownKind(kind)),
    })
}

#[inline]
fn take_keyspace(rest: &mut &[u8]) -> Result<KeyspaceId, OperationFault> {
    Ok(KeyspaceId(take_varint_u32(rest)?))
}

#[inline]
fn take_length(rest: &mut &[u8], limit: usize) -> Result<usize, OperationFault> {
    let length = take_varint(rest)?;
    if length > limit as u64 { Err(OperationFault::Length) } else { Ok(length as usize) }
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], OperationFault> {
    let (taken, after) = rest.split_at_checked(length).ok_or(OperationFault::Short)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
