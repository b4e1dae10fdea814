//! Reads of keys whose place in the table is known from a read before ([`Positions`]).
//!
//! Invariant: an entry counts only if its block lies in the section of the keyspace that is read, and if its
//! record has the key.

use super::block::Layout;
use super::positions::{Place, Positions};
use super::reader::{Block, Loaded, Table};
use super::{Found, key_hash};
use crate::error::Result;
use crate::prefetch;
use crate::types::KeyspaceId;

impl Table {
    /// The value of a key, if it is known where that lies, in an even table. `None` says nothing.
    ///
    /// Kept short, and inlined by force: while the processor waits for one record it gets as far as the next read's
    /// place only if a read is no longer than what it can keep in flight (some 500 instructions).
    #[inline(always)]
    pub fn known_value(&self, keyspace: KeyspaceId, key: &[u8], hash: u64) -> Option<&[u8]> {
        let loaded = self.loaded.get()?;
        let (positions, map) = (loaded.positions.get()?.as_ref()?, loaded.map.as_ref()?);
        let section = loaded.index.section(keyspace)?;
        for (ordinal, position) in positions.places(hash) {
            let record = positions.record(ordinal, position)?;
            let bytes = map.get(record.bytes.clone())?;
            // All of it is needed next, and comes together with the key.
            let ask = |byte: Option<&u8>| {
                if let Some(byte) = byte {
                    prefetch::line(byte);
                }
            };
            ask(bytes.get(64));
            ask(bytes.get(128));
            ask(bytes.last());
            let (own, value) = bytes.split_at_checked(record.key_bytes)?;
            // Another keyspace may have the same key.
            let in_section = ordinal.wrapping_sub(section.first_block) < section.block_count;
            if is_same(own, key) && in_section {
                if self.cache.is_scattered() {
                    self.used_at(loaded, record.bytes.start, record.bytes.len()).ok()?;
                }
                return Some(value);
            }
        }
        None
    }

    /// As [`Table::get`], without a search, if it is known where the key lies. `None` says nothing.
    #[inline]
    pub fn get_known(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
    ) -> Result<Option<Found<'_>>> {
        let Some(loaded) = self.loaded.get() else { return Ok(None) };
        let Some(section) = loaded.index.section(keyspace) else { return Ok(None) };
        let (Some(Some(positions)), Some(map)) = (loaded.positions.get(), &loaded.map) else {
            return Ok(None);
        };
        for (ordinal, position) in positions.places(hash) {
            // Another keyspace may have the same key.
            if ordinal.wrapping_sub(section.first_block) >= section.block_count {
                continue;
            }
            let Some((block, layout)) = known_block(loaded, positions, map, ordinal) else {
                continue;
            };
            let Ok(entry) = layout.entry(block, position) else { continue };
            if block.get(entry.key()) == Some(key) {
                self.used(loaded, ordinal, &entry)?;
                let value = self.value(loaded, &Block::Mapped(block), ordinal, &entry)?;
                return Ok(Some(value.map_or(Found::Tombstone, Found::Value)));
            }
        }
        Ok(None)
    }

    /// A search found a key: the next time it is known where it lies.
    pub(super) fn found(
        &self,
        loaded: &Loaded,
        keyspace: KeyspaceId,
        hash: u64,
        (ordinal, position): (u32, usize),
        block: &Block<'_>,
        layout: &Layout,
    ) {
        let Block::Mapped(bytes) = block else { return };
        let positions = loaded.positions.get_or_init(|| {
            let blocks = loaded.index.extents.get(..loaded.index.data_blocks as usize)?;
            Positions::new(blocks, self.meta.entries, self.cache.positions())
        });
        if let Some(positions) = positions {
            let place = Place { ordinal, position, shape: layout.pack(bytes.len()) };
            positions.found(place, layout, bytes, hash, |key| key_hash(keyspace, key));
        }
    }
}

/// Whether two keys are equal: what `==` says, without a call for the usual lengths.
#[inline(always)]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<16>(), a.last_chunk::<16>(), b.first_chunk(), b.last_chunk()) {
        // The two chunks cover all of it.
        (Some(a_first), Some(a_last), Some(b_first), Some(b_last)) if a.len() <= 32 => {
            let differs = |a: &[u8; 16], b| u128::from_ne_bytes(*a) ^ u128::from_ne_bytes(b);
            differs(a_first, *b_first) | differs(a_last, *b_last) == 0
        }
        _ => a == b,
    }
}

/// A block that has entries, and its shape.
#[inline(always)]
fn known_block<'a>(
    loaded: &'a Loaded,
    positions: &Positions,
    map: &'a [u8],
    ordinal: u32,
) -> Option<(&'a [u8], Layout)> {
    let extent = loaded.index.extents.get(ordinal as usize)?;
    let bytes = map.get(extent.offset() as usize..extent.end() as usize)?;
    Some((bytes, Layout::unpack(positions.shape(ordinal)?, bytes.len())?))
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn keys_of_all_lengths_are_the_same_when_every_byte_is() {
        let key: Vec<u8> = (0..80).collect();
        for length in 0..=key.len() {
            let one = &key[..length];
            assert!(is_same(one, &Vec::from(one)), "{length}");
            assert!(!is_same(one, &key[..length.saturating_sub(1)]) || length == 0);
            for at in 0..length {
                let mut other = one.to_vec();
                other[at] ^= 1 << (at % 8);
                assert!(!is_same(one, &other), "{length}, {at}");
            }
        }
    }
}
