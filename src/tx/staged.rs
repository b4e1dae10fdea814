//! Changes of a transaction that it has not read back yet: operations, one behind the other, as the log
//! takes them.
//!
//! A transaction that only writes needs no order among its changes before it ends. So they are kept as the
//! stream of operations that its commit record holds; a small one goes to the log as it is. A large one
//! is sorted once, by a small index (16 bytes for each operation: the first 8 bytes of the key, and where
//! the operation is), and becomes a table. Only when the transaction reads is there a memtable to
//! make.
//!
//! Invariants: the stream holds `Put` and `Remove` only, and is shorter than 4 GiB; of two operations for
//! one key the later counts.

use crate::types::KeyspaceId;
use crate::wal::operation::{Operation, Operations};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Memory of the index, by operation.
const INDEX_ENTRY_BYTES: usize = size_of::<Place>();

/// See the module.
#[derive(Debug, Default)]
pub struct Staged {
    operations: Vec<u8>,
    count: usize,
}

/// One change of one key, `None` for a removal.
pub type Change<'a> = (KeyspaceId, &'a [u8], Option<&'a [u8]>);

impl Staged {
    /// Nothing yet; `buffer` is used for its capacity.
    pub fn with_buffer(mut buffer: Vec<u8>) -> Staged {
        buffer.clear();
        Staged { operations: buffer, count: 0 }
    }

    /// Adds a change.
    #[inline]
    pub fn push(&mut self, keyspace: KeyspaceId, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => Operation::Put { keyspace, key, value }.encode(&mut self.operations),
            None => Operation::Remove { keyspace, key }.encode(&mut self.operations),
        }
        self.count += 1;
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Memory that it takes, that of the index included, in bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.operations.len() + self.count * INDEX_ENTRY_BYTES
    }

    /// The operations in the order in which they came.
    pub fn operations(&self) -> &[u8] {
        &self.operations
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.operations.clear();
        self.count = 0;
    }

    /// Gives the buffer up.
    pub fn into_buffer(self) -> Vec<u8> {
        self.operations
    }

    /// The order of the changes.
    pub fn sort(&self) -> Sorted<'_> {
        let mut keyspaces: BTreeMap<KeyspaceId, Vec<Place>> = BTreeMap::new();
        let mut current: Option<(KeyspaceId, Vec<Place>)> = None;
        let stream = self.operations.as_slice();
        let mut rest = Operations::new(stream);
        let mut at = 0;
        while let Some(Ok(operation)) = rest.next() {
            let (keyspace, key, value_bytes) = match operation {
                Operation::Put { keyspace, key, value } => (keyspace, key, value.len()),
                Operation::Remove { keyspace, key } => (keyspace, key, 0),
                _ => continue,
            };
            let next = rest.offset();
            let key_at = next - value_bytes - key.len();
            let place = Place {
                head: head_of(key),
                at: at as u32,
                key_bytes: key.len() as u16,
                head_bytes: (key_at - at) as u8,
            };
            at = next;
            match &mut current {
                Some((same, places)) if *same == keyspace => places.push(place),
                _ => {
                    // In turn, so that each keyspace has one list.
                    if let Some((last, places)) = current.take() {
                        keyspaces.insert(last, places);
                    }
                    let mut places = keyspaces.remove(&keyspace).unwrap_or_default();
                    places.push(place);
                    current = Some((keyspace, places));
                }
            }
        }
        keyspaces.extend(current);
        for places in keyspaces.values_mut() {
            let in_order = |pair: &[Place]| pair[0].cmp(&pair[1], stream) == Ordering::Less;
            if !places.windows(2).all(in_order) {
                places.sort_unstable_by(|a, b| a.cmp(b, stream));
            }
        }
        Sorted { stream, keyspaces }
    }
}

/// Where one operation is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first 8 bytes of the key, as a number, with zeros behind a shorter key.
    head: u64,
    at: u32,
    key_bytes: u16,
    /// From the start of the operation to the key.
    head_bytes: u8,
}

impl Place {
    #[inline]
    fn key<'a>(&self, stream: &'a [u8]) -> &'a [u8] {
        let start = self.at as usize + usize::from(self.head_bytes);
        &stream[start..start + usize::from(self.key_bytes)]
    }

    /// By key, then by age.
    #[inline]
    fn cmp(&self, other: &Place, stream: &[u8]) -> Ordering {
        let heads = self.head.cmp(&other.head);
        heads.then_with(|| {
            self.key(stream).cmp(other.key(stream)).then_with(|| self.at.cmp(&other.at))
        })
    }
}

#[inline]
fn head_of(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(head)
        }
    }
}

/// Changes in order of (keyspace, key).
#[derive(Debug)]
pub struct Sorted<'a> {
    stream: &'a [u8],
    keyspaces: BTreeMap<KeyspaceId, Vec<Place>>,
}

impl<'a> Sorted<'a> {
    /// The last change of each key, ascending.
    pub fn changes(&self) -> impl Iterator<Item = Change<'a>> {
        let stream = self.stream;
        self.keyspaces.iter().flat_map(move |(keyspace, places)| {
            places.iter().enumerate().filter_map(move |(index, place)| {
                let key = place.key(stream);
                let replaced = places
                    .get(index + 1)
                    .is_some_and(|next| next.head == place.head && next.key(stream) == key);
                if replaced {
                    return None;
                }
                let value = match Operations::new(&stream[place.at as usize..]).next() {
                    Some(Ok(Operation::Put { value, .. })) => Some(value),
                    _ => None,
                };
                Some((*keyspace, key, value))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of few different bytes and lengths, so that heads and whole keys repeat.
    fn key(number: u64) -> Vec<u8> {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let length = (mixed >> 60) as usize;
        (0..length).map(|at| (mixed >> (3 * at)) as u8 & 1).collect()
    }

    #[test]
    fn the_last_change_of_each_key_comes_out_in_order() {
        let mut staged = Staged::with_buffer(vec![1, 2, 3]);
        let mut model = BTreeMap::new();
        for number in 0..20_000_u64 {
            let keyspace = KeyspaceId((number * 7 % 3) as u32 * 200);
            let key = key(number);
            let value = (number % 5 != 0).then(|| number.to_be_bytes()[4..].to_vec());
            staged.push(keyspace, &key, value.as_deref());
            model.insert((keyspace, key), value);
        }
        let sorted = staged.sort();
        let changes = sorted
            .changes()
            .map(|(keyspace, key, value)| ((keyspace, key.to_vec()), value.map(<[u8]>::to_vec)));
        assert!(changes.eq(model));
        drop(sorted);
        staged.clear();
        assert!(staged.is_empty() && staged.sort().changes().next().is_none());
    }

    #[test]
    fn ascending_changes_stay_as_they_are() {
        let mut staged = Staged::default();
        (0..1000_u32).for_each(|n| staged.push(KeyspaceId(1), &n.to_be_bytes(), Some(b"v")));
        let keys: Vec<_> = staged.sort().changes().map(|(_, key, _)| key.to_vec()).collect();
        assert!(keys.into_iter().eq((0..1000_u32).map(|n| n.to_be_bytes().to_vec())));
    }
}
