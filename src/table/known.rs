//! Reads of keys whose place in the table is known from a read before ([`Positions`]).
//!
//! Invariant: an entry counts only if its block lies in the section of the keyspace that is read, and if its
//! record has the key.

use super::block::{Entry, Layout};
use super::index::Section;
use super::positions::{Place, Positions};
use super::reader::{Block, Loaded, Table};
use super::{Found, key_hash};
use crate::error::Result;
use crate::types::KeyspaceId;

/// Where a key lies.
pub(super) struct Known<'a> {
    pub block: Block<'a>,
    pub ordinal: u32,
    pub entry: Entry,
}

impl Table {
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
        match self.known(loaded, section, key, hash) {
            Some(known) => {
                Ok(Some(match self.value(loaded, &known.block, known.ordinal, &known.entry)? {
                    Some(value) => Found::Value(value),
                    None => Found::Tombstone,
                }))
            }
            None => Ok(None),
        }
    }

    /// Where the key lies, if that is known.
    #[inline(always)]
    pub(super) fn known<'a>(
        &'a self,
        loaded: &'a Loaded,
        section: &Section,
        key: &[u8],
        hash: u64,
    ) -> Option<Known<'a>> {
        let (positions, map) = (loaded.positions.get()?.as_ref()?, loaded.map.as_ref()?);
        for Place { ordinal, position, shape } in positions.places(hash) {
            // Another keyspace may have the same key.
            if ordinal.wrapping_sub(section.first_block) >= section.block_count {
                continue;
            }
            let extent = loaded.index.extents.get(ordinal as usize)?;
            let bytes = map.get(extent.offset() as usize..extent.end() as usize)?;
            let layout = Layout::unpack(shape, bytes.len())?;
            let entry = layout.entry(bytes, position).ok()?;
            if bytes.get(entry.key()) == Some(key) {
                return Some(Known { block: Block::Mapped(bytes), ordinal, entry });
            }
        }
        None
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
            Positions::new(loaded.index.data_blocks, self.meta.entries, self.cache.positions())
        });
        if let Some(positions) = positions {
            let place = Place { ordinal, position, shape: layout.pack(bytes.len()) };
            positions.found(place, layout, bytes, hash, |key| key_hash(keyspace, key));
        }
    }
}
