//! Finds all damage of a table file, not only the first: what `verify` is made of.
//!
//! If header, footer, index and range tombstones are sound, every block is checked by itself, as
//! [`Table::check`] does, and the walk goes on behind a bad one. If they are not, the file is read as a
//! salvage would read it, and the number of entries found says whether any is missing.
//!
//! Invariants: nothing is written; a flaw names its offset and its length; what was left out (a sample, a
//! time limit) is counted, never passed over in silence.

use super::ReadMode;
use super::check::{Pass, TableCheck};
use super::filter::Filter;
use super::format::{BlockKind, FILE_HEADER_BYTES, FOOTER_BYTES};
use super::index::{Index, Section};
use super::load::body;
use super::reader::{Loaded, Table};
use super::salvage::{SalvagedEntry, salvage};
use crate::error::{Error, Result};
use crate::fs::{File, OpenMode};
use crate::types::KeyspaceId;
use std::io;

/// How much of a table is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// File header, footer, index, range tombstones, filter.
    Structure,
    /// That, and about this share of the blocks (0.0 to 1.0), chosen by the seed.
    Sample(f64, u64),
    /// Every byte.
    Whole,
}

/// Damage in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFlaw {
    /// Where it begins.
    pub offset: u64,
    /// How long the damaged part is; 0 if the part is missing.
    pub bytes: u64,
    /// What is wrong, in words.
    pub what: String,
    /// Whether entries are lost with it.
    pub lossy: bool,
    /// Whose entries.
    pub keyspace: Option<KeyspaceId>,
    /// Lower bound, and upper bound (exclusive), of the keys that may be lost.
    pub keys: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Bytes read and held against their checksums.
    pub checked_bytes: u64,
    /// Bytes left out.
    pub skipped_bytes: u64,
    /// Entries looked at, tombstones included.
    pub entries: u64,
    /// The time limit came first.
    pub out_of_time: bool,
}

impl Table {
    /// Hands all damage of the file to `found`. `go_on` is told the bytes done, now and then, and ends
    /// the work with `false`.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn examine(
        &self,
        share: Share,
        go_on: &mut dyn FnMut(u64) -> bool,
        found: &mut dyn FnMut(TableFlaw),
    ) -> Result<Examined> {
        match self.load(ReadMode::Pread) {
            Ok(loaded) => self.examine_blocks(&loaded, share, go_on, found),
            Err(error @ Error::Unsupported { .. }) => Err(error),
            Err(error) => self.examine_remains(&error, found),
        }
    }

    fn examine_blocks(
        &self,
        loaded: &Loaded,
        share: Share,
        go_on: &mut dyn FnMut(u64) -> bool,
        found: &mut dyn FnMut(TableFlaw),
    ) -> Result<Examined> {
        let flaws = std::cell::Cell::new(0_u64);
        let mut report = |flaw: TableFlaw| {
            flaws.set(flaws.get() + 1);
            found(flaw);
        };
        let mut filter = None;
        if let Some((extent, crc)) = loaded.footer.filter {
            let read = self.read_vouched(&*loaded.file, BlockKind::Filter, extent, crc);
            filter = read
                .ok()
                .and_then(|(header, block)| Filter::decode(body(&header, &block), header.count));
            if filter.is_none() {
                let what = "the filter fails its check; lookups need it, the entries do not";
                report(structural(extent.offset(), extent.length_bytes(), what));
            }
        }
        if let Err(error) = self.check_tiling(loaded).and_then(|()| self.check_bounds(loaded)) {
            report(structural(offset_of(&error), 0, &words(&error)));
        }
        let mut nothing = |_| {};
        let mut pass = Pass {
            table: self,
            loaded,
            filter,
            progress: &mut nothing,
            next_value: 0,
            resync: false,
            section_bytes: 0,
            count: TableCheck::default(),
        };
        pass.begin();
        let mut out_of_time = false;
        let mut skipped = share == Share::Structure;
        if !skipped {
            'sections: for section in &loaded.index.sections {
                let mut last_key = None;
                for place in 0..section.block_count {
                    if !go_on(pass.count.bytes) {
                        (out_of_time, skipped) = (true, true);
                        break 'sections;
                    }
                    if is_left_out(share, self.meta.file_id.get(), section.first_block + place) {
                        (skipped, pass.resync, last_key) = (true, true, None);
                        continue;
                    }
                    if let Err(error) = pass.check_block(section, place, &mut last_key) {
                        pass.resync = true;
                        last_key = None;
                        report(self.block_flaw(loaded, section, place, &error));
                    }
                }
            }
        }
        let (checked, entries) = (pass.count.bytes.min(self.meta.file_bytes), pass.count.entries);
        if !skipped && flaws.get() == 0 {
            // Every block is sound by itself: so must be their sum.
            if let Err(error) = self.check(&mut |_| {}) {
                report(TableFlaw {
                    lossy: true,
                    ..structural(offset_of(&error), 0, &words(&error))
                });
            }
        }
        Ok(Examined {
            checked_bytes: if skipped { checked } else { self.meta.file_bytes },
            skipped_bytes: if skipped { self.meta.file_bytes - checked } else { 0 },
            entries,
            out_of_time,
        })
    }

    /// A block that fails, and the keys that it may have held.
    fn block_flaw(
        &self,
        loaded: &Loaded,
        section: &Section,
        place: u32,
        error: &Error,
    ) -> TableFlaw {
        let extent = loaded.index.extents[(section.first_block + place) as usize];
        let lower = match place.checked_sub(1) {
            Some(before) => section.fences.fence(before as usize),
            None if self.meta.first.0 == section.keyspace => Some(self.meta.first.1.clone()),
            None => Some(Vec::new()),
        };
        let upper = section.fences.fence(place as usize);
        // The damage may lie in a value block that the data block names.
        let offset = offset_of(error);
        let apart = loaded.index.extents[loaded.index.data_blocks as usize..]
            .iter()
            .find(|value| value.offset() == offset);
        TableFlaw {
            offset,
            bytes: apart.map_or(extent.length_bytes(), |value| value.length_bytes()),
            what: words(error),
            // Without the filter or the fence a key is not found, though it is there.
            lossy: !matches!(error, Error::Damage { what, .. } if what.contains("filter")),
            keyspace: Some(section.keyspace),
            keys: Some((lower.unwrap_or_default(), upper)),
        }
    }

    /// What can still be read of a file whose header, footer or index cannot.
    fn examine_remains(&self, error: &Error, found: &mut dyn FnMut(TableFlaw)) -> Result<Examined> {
        let first = (self.meta.first.0 == self.meta.last.0)
            .then(|| (self.meta.first.1.clone(), self.meta.last.1.clone()));
        let lost_whole = |what: String| TableFlaw {
            offset: offset_of(error),
            bytes: 0,
            what,
            lossy: true,
            keyspace: (self.meta.first.0 == self.meta.last.0).then_some(self.meta.first.0),
            keys: first.clone(),
        };
        let file = match self.fs.open(&self.path, OpenMode::Read) {
            Ok(file) => file,
            Err(_) => {
                found(lost_whole(words(error)));
                return Ok(Examined { skipped_bytes: 0, ..Examined::default() });
            }
        };
        let part_bytes = self.part_bytes(&*file, offset_of(error));
        let lost_whole = |what: String| TableFlaw { bytes: part_bytes, ..lost_whole(what) };
        let length = file.len().unwrap_or(0);
        let mut ranges = 0;
        let known = Some((self.identity.database, self.identity.file_id));
        let salvaged = salvage(&*file, &self.path, known, &mut |entry| {
            ranges += u64::from(matches!(entry, SalvagedEntry::Range(..)));
        });
        let Ok(salvaged) = salvaged else {
            found(lost_whole(words(error)));
            return Ok(Examined { skipped_bytes: length, ..Examined::default() });
        };
        let whole = salvaged.entries == self.meta.entries
            && salvaged.lost_values == 0
            && ranges == self.meta.range_tombstones;
        let readable = salvaged.entries - salvaged.lost_values;
        let rest = match whole {
            true => format!("all {readable} entries can still be read"),
            false => format!("{readable} of {} entries can still be read", self.meta.entries),
        };
        let mut flaw = lost_whole(format!("{}; {rest}", words(error)));
        flaw.lossy = !whole;
        if whole {
            (flaw.keyspace, flaw.keys) = (None, None);
        }
        found(flaw);
        Ok(Examined {
            checked_bytes: length.saturating_sub(salvaged.skipped_bytes),
            skipped_bytes: 0,
            entries: salvaged.entries,
            out_of_time: false,
        })
    }
}

impl Table {
    /// Length of the part that begins at `offset`, as far as the rest of the file says; otherwise 0.
    fn part_bytes(&self, file: &dyn File, offset: u64) -> u64 {
        if offset == 0 {
            return FILE_HEADER_BYTES as u64;
        }
        if offset == self.meta.file_bytes.wrapping_sub(FOOTER_BYTES as u64) {
            return FOOTER_BYTES as u64;
        }
        let Ok(footer) = self.read_footer(file) else { return 0 };
        let (extent, crc) = footer.index;
        if offset == extent.offset() {
            return extent.length_bytes();
        }
        let read = self.read_vouched(file, BlockKind::Index, extent, crc).ok();
        let index = read.and_then(|(header, block)| {
            Index::decode(body(&header, &block), header.count, extent.offset())
        });
        let extents = index.map(|index| index.extents).unwrap_or_default();
        let part = extents.iter().find(|extent| extent.offset() == offset);
        part.map_or(0, |extent| extent.length_bytes())
    }
}

/// Damage to a part that holds no entries.
fn structural(offset: u64, bytes: u64, what: &str) -> TableFlaw {
    let what = what.to_owned();
    TableFlaw { offset, bytes, what, lossy: false, keyspace: None, keys: None }
}

fn offset_of(error: &Error) -> u64 {
    match error {
        Error::Damage { offset, .. } => *offset,
        _ => 0,
    }
}

/// What an error says, without file, offset and advice.
fn words(error: &Error) -> String {
    match error {
        Error::Damage { what, .. } => what.clone(),
        Error::Io { cause, action, .. } if cause.kind() == io::ErrorKind::NotFound => {
            format!("cannot {action} it: the file is missing")
        }
        Error::Io { cause, action, .. } => format!("cannot {action} it: {cause}"),
        other => other.to_string(),
    }
}

fn is_left_out(share: Share, file_id: u64, ordinal: u32) -> bool {
    let Share::Sample(share, seed) = share else { return false };
    let mixed = xxhash_rust::xxh3::xxh3_64_with_seed(&ordinal.to_le_bytes(), seed ^ file_id);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64 >= share
}
