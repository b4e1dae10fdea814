//! What the manifest knows of a table: enough to skip it without opening it, and to vouch for it.

use super::format::{put_key, take, take_key, take_u32, take_u64};
use crate::types::{FileId, KeyspaceId};

/// The manifest's knowledge of one table file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// Number of the file.
    pub file_id: FileId,
    /// Length of the file.
    pub file_bytes: u64,
    /// Checksum of the footer, which names the checksums of index and filter.
    pub footer_crc: u32,
    /// Point entries, tombstones included.
    pub entries: u64,
    /// Point entries that are tombstones.
    pub tombstones: u64,
    /// Range tombstones, after overlapping ones were joined.
    pub range_tombstones: u64,
    /// Lower bound, inclusive: no entry and no hidden key lies before it.
    pub first: (KeyspaceId, Vec<u8>),
    /// Upper bound, inclusive: no entry and no hidden key lies behind it. `None` reaches to the end of
    /// the keyspace. (Where a range tombstone ends the table, its exclusive end stands here.)
    pub last: (KeyspaceId, Option<Vec<u8>>),
}

impl TableMeta {
    /// Whether the table may hold or hide `key`.
    #[inline]
    pub fn may_contain(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let after_first = match keyspace.cmp(&self.first.0) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => self.first.1.as_slice() <= key,
            std::cmp::Ordering::Greater => true,
        };
        let before_last = match keyspace.cmp(&self.last.0) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.last.1.as_deref().is_none_or(|last| key <= last),
            std::cmp::Ordering::Greater => false,
        };
        after_first && before_last
    }

    /// Whether all of the table, what it hides included, lies before `key`.
    #[inline]
    pub fn ends_before(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        match self.last.0.cmp(&keyspace) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.last.1.as_deref().is_some_and(|last| last < key),
            std::cmp::Ordering::Greater => false,
        }
    }

    /// Appends the encoding: the grammar's `table-meta`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.file_id.get().to_le_bytes());
        out.extend_from_slice(&self.file_bytes.to_le_bytes());
        out.extend_from_slice(&self.footer_crc.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.tombstones.to_le_bytes());
        out.extend_from_slice(&self.range_tombstones.to_le_bytes());
        out.extend_from_slice(&self.first.0.get().to_le_bytes());
        put_key(out, &self.first.1);
        out.extend_from_slice(&self.last.0.get().to_le_bytes());
        out.push(u8::from(self.last.1.is_some()));
        if let Some(key) = &self.last.1 {
            put_key(out, key);
        }
    }

    /// Takes one encoding off the front of `input`; `None` if it is malformed.
    pub fn decode(input: &mut &[u8]) -> Option<TableMeta> {
        let meta = TableMeta {
            file_id: FileId(take_u64(input)?),
            file_bytes: take_u64(input)?,
            footer_crc: take_u32(input)?,
            entries: take_u64(input)?,
            tombstones: take_u64(input)?,
            range_tombstones: take_u64(input)?,
            first: (KeyspaceId(take_u32(input)?), take_key(input)?.to_vec()),
            last: (
                KeyspaceId(take_u32(input)?),
                match take(input, 1)? {
                    [0] => None,
                    [1] => Some(take_key(input)?.to_vec()),
                    _ => return None,
                },
            ),
        };
        let last_key_is_after = || meta.last.1.as_ref().is_none_or(|last| meta.first.1 <= *last);
        let ordered =
            meta.first.0 < meta.last.0 || (meta.first.0 == meta.last.0 && last_key_is_after());
        (ordered && meta.file_id != FileId::ZERO && meta.tombstones <= meta.entries).then_some(meta)
    }
}
