//! A few keys of a table, and what tables say of a key without a look at its value: enough to estimate what of a
//! table newer ones have replaced.

use super::block::{EntryKind, Layout, Malformed};
use super::key_hash;
use super::reader::{Loaded, Table, find};
use crate::error::Result;
use crate::types::KeyspaceId;

/// A key and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleKey {
    pub keyspace: KeyspaceId,
    pub key: Box<[u8]>,
    pub hash: u64,
}

impl Table {
    /// Up to `wanted` keys that have values, spread evenly over the data blocks and within them. Reads as many blocks.
    pub fn sample(&self, wanted: usize) -> Result<Vec<SampleKey>> {
        let loaded = self.loaded()?;
        let mut keys = Vec::with_capacity(wanted);
        for section in &loaded.index.sections {
            let (from, count) = (section.first_block as usize, section.block_count as usize);
            // Those of `wanted` places that lie in this section: place `i` of all lies in block `i * all / wanted`.
            let all = loaded.index.data_blocks as usize;
            let first = (from * wanted).div_ceil(all.max(1));
            let end = ((from + count) * wanted).div_ceil(all.max(1));
            for place in first..end {
                let (ordinal, within) = (place * all / wanted, place * all % wanted);
                keys.extend(self.key_at(loaded, section.keyspace, ordinal as u32, |entries| {
                    within * entries / wanted
                })?);
            }
        }
        Ok(keys)
    }

    /// The key at a position that is chosen by the number of the block's entries; `None` if that is a tombstone.
    fn key_at(
        &self,
        loaded: &Loaded,
        keyspace: KeyspaceId,
        ordinal: u32,
        choose: impl FnOnce(usize) -> usize,
    ) -> Result<Option<SampleKey>> {
        let block = self.block(loaded, ordinal)?;
        let malformed = || self.malformed(loaded, ordinal);
        let layout = Layout::new(block.bytes()).ok_or_else(malformed)?;
        let entry = layout.entry(block.bytes(), choose(layout.count()));
        let entry = entry.map_err(|Malformed| malformed())?;
        if entry.kind == EntryKind::Tombstone {
            return Ok(None);
        }
        let key = block.bytes().get(entry.key()).ok_or_else(malformed)?;
        Ok(Some(SampleKey { keyspace, key: key.into(), hash: key_hash(keyspace, key) }))
    }

    /// Whether the table has an entry for the key, or hides it.
    pub fn decides(&self, wanted: &SampleKey) -> Result<bool> {
        let SampleKey { keyspace, key, hash } = wanted;
        if !self.meta.may_contain(*keyspace, key) {
            return Ok(false);
        }
        let loaded = self.loaded()?;
        let Some(section) = loaded.index.section(*keyspace) else { return Ok(false) };
        let passes = match self.filter(loaded)? {
            Some(filter) => filter.may_contain(*hash),
            None => true,
        };
        if section.block_count > 0 && passes {
            let ordinal = section.first_block + section.fences.rank(key) as u32;
            let block = self.block(loaded, ordinal)?;
            let layout =
                Layout::new(block.bytes()).ok_or_else(|| self.malformed(loaded, ordinal))?;
            let found = find(&block, &layout, None, key, *hash as u8);
            if found.map_err(|Malformed| self.malformed(loaded, ordinal))?.is_some() {
                return Ok(true);
            }
        }
        self.covers(*keyspace, key)
    }
}
