//! A few keys of a table, and what tables say of a key without a look at its value: enough to estimate what of a
//! table newer ones have replaced.
//!
//! Keys are drawn from blocks that are spread evenly, and within a block by the length of their records, so that a few
//! large values among many small ones are not missed. Each stands for a share of the file: that of its block's records
//! among those of all blocks that were looked at, values apart from their block included.

use super::block::{Entry, EntryKind, Layout, Malformed};
use super::key_hash;
use super::reader::{Table, find};
use super::scattered::Row;
use crate::error::Result;
use crate::types::KeyspaceId;

/// A key, its hash, and how many bytes of the table it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleKey {
    pub keyspace: KeyspaceId,
    pub key: Box<[u8]>,
    pub hash: u64,
    pub bytes: u64,
}

impl Table {
    /// Up to `wanted` keys that have values. Reads as many blocks at most.
    pub fn sample(&self, wanted: usize) -> Result<Vec<SampleKey>> {
        let loaded = self.loaded()?;
        let all = loaded.index.data_blocks as usize;
        let looked_at = wanted.min(all);
        let mut keys: Vec<SampleKey> = Vec::with_capacity(wanted);
        for nth in 0..looked_at {
            let ordinal = ((2 * nth + 1) * all / (2 * looked_at)) as u32;
            let sections = &loaded.index.sections;
            let at = sections.partition_point(|s| s.first_block + s.block_count <= ordinal);
            let Some(section) = sections.get(at) else { continue };
            let block = self.whole_block(loaded, ordinal, &mut Row::default())?;
            let malformed = || self.malformed(loaded, ordinal);
            let layout = Layout::new(block.bytes()).ok_or_else(malformed)?;
            let entries = (0..layout.count()).map(|position| layout.entry(block.bytes(), position));
            let entries: Vec<Entry> =
                entries.collect::<Result<_, Malformed>>().map_err(|Malformed| malformed())?;
            let lengths = entries.iter().map(|entry| record_bytes(entry, block.bytes()));
            let lengths: Vec<u64> = lengths.collect();
            let block_bytes: u64 = lengths.iter().sum();
            // Those of this block divide its records among them, and each is drawn from the middle of its part.
            let draws = (nth + 1) * wanted / looked_at - nth * wanted / looked_at;
            let part_bytes = block_bytes / draws.max(1) as u64;
            for draw in 0..draws as u64 {
                let Some(chosen) = drawn(&lengths, draw * part_bytes + part_bytes / 2) else {
                    continue;
                };
                let key = block.bytes().get(entries[chosen].key()).ok_or_else(malformed)?;
                let (keyspace, hash) = (section.keyspace, key_hash(section.keyspace, key));
                keys.push(SampleKey { keyspace, key: key.into(), hash, bytes: part_bytes });
            }
        }
        let sampled: u64 = keys.iter().map(|key| key.bytes).sum();
        for key in &mut keys {
            let share = u128::from(self.meta.file_bytes) * u128::from(key.bytes);
            key.bytes = (share / u128::from(sampled.max(1))) as u64;
        }
        Ok(keys)
    }

    /// Whether the table has an entry for the key, or hides it.
    pub fn decides(&self, wanted: &SampleKey) -> Result<bool> {
        let SampleKey { keyspace, key, hash, .. } = wanted;
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
            let block = self.whole_block(loaded, ordinal, &mut Row::default())?;
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

/// Bytes of a record in the file; none if it is a tombstone, which is never what takes the room.
fn record_bytes(entry: &Entry, block: &[u8]) -> u64 {
    let own = (entry.key().len() + entry.value().len()) as u64;
    match entry.kind {
        EntryKind::Value => own,
        EntryKind::Tombstone => 0,
        EntryKind::Apart => own + entry.apart(block).map_or(0, |(_, length)| u64::from(length)),
    }
}

/// Which of the records lies at this byte, if they are laid side by side.
fn drawn(lengths: &[u64], mut byte: u64) -> Option<usize> {
    lengths.iter().position(|length| {
        let here = byte < *length;
        byte = byte.saturating_sub(*length);
        here
    })
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn records_are_drawn_by_their_length() {
        let lengths = [2, 0, 3, 1];
        let of = |byte| drawn(&lengths, byte);
        let all: Vec<_> = (0..7).map(of).collect();
        assert_eq!(all, [Some(0), Some(0), Some(2), Some(2), Some(2), Some(3), None]);
        assert_eq!(drawn(&[0, 0], 0), None);
    }
}
