//! Tables: immutable sorted files, what a checkpoint and a merge write and what reads mostly meet.
//!
//! A table has a section for each keyspace that it knows something of; a section has entries in
//! ascending key order, at most one for each key (a value or a tombstone), and range tombstones, which
//! hide only what lies in lower layers. `docs/format-table.md` is the grammar of the file.
//!
//! ```text
//! file header │ data, value, data, data, value … │ ranges │ index │ filter │ footer
//! ```
//!
//! - [`TableBuilder`] writes one, front to back ([`stage`], [`output`]).
//! - [`Table`] reads one. Making it costs nothing; the first use opens the file and loads the index
//!   ([`load`], [`index`], [`fence`]); the first use of each block verifies it ([`reader`], [`block`])
//!   and leaves its shape and fingerprints in memory ([`heads`]), the second where its keys lie ([`positions`]).
//! - [`TableCursor`] moves over one section, [`Window`] over the rest of a block. [`Table::check`] proves a whole file ([`check`]);
//!   [`sample`] gives a few of its keys; [`salvage`] gets the entries out of a file that lost its index.
//!
//! Invariants:
//! 1. No byte decides a result before the checksum of its block was held against it.
//! 2. The manifest ([`TableMeta`]) vouches for the footer's checksum, the footer for those of index and
//!    filter; all seeds contain database, file and offset.
//! 3. A point read under [`ReadMode::Mmap`] on a warm table takes no lock, allocates nothing and writes
//!    no shared memory.

mod block;
mod builder;
mod cache;
mod check;
mod cursor;
mod even;
mod examine;
mod fence;
mod filter;
pub mod format;
mod heads;
mod index;
mod known;
mod load;
mod meta;
mod output;
mod positions;
mod ranges;
mod reader;
mod salvage;
mod sample;
mod scattered;
mod stage;
#[cfg(test)]
mod tests;
mod window;

pub use crate::hash::key_hash;
pub use builder::TableBuilder;
pub use cache::BlockCache;
pub use cursor::TableCursor;
pub use examine::{Share, TableFlaw};
pub use fence::head;
pub use format::BlockKind;
pub use index::Section;
pub use meta::TableMeta;
pub use reader::Table;
pub use salvage::{
    Salvage, SalvageSink, SalvagedBlock, SalvagedEntry, salvage, salvage_blocks, stated_table,
};
pub use sample::SampleKey;

pub use window::Window;

use crate::slice::Slice;
use crate::types::KeyspaceId;

/// How tables are read, and with it how far the promise "every byte that is interpreted is checked"
/// reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// Through memory mappings: reads borrow from the page cache and copy nothing. A block is verified
    /// when it is first touched after the table was opened (by a positional read, so that a media error
    /// then comes back as an error), and not again after the kernel evicts and rereads it. A media error
    /// on such a reread, or a file cut short by someone else, may raise SIGBUS.
    ///
    /// Tables that together take more than half of the memory of the machine, or of the control group, are
    /// read page by page, without the read-ahead that the device has; blocks of scans and merges, and values
    /// of more than 8 KiB, are then read and verified again if they have left memory (measured in
    /// `docs/decisions/0011`: lookups cost nothing more, ranges a sixth). Memory is looked at when the
    /// database opens and when tables are written. Only Linux says how much there is; elsewhere prefer
    /// `Pread` for tables that memory does not hold.
    #[default]
    Mmap,
    /// Through positional reads into a bounded cache: every block is verified each time it comes from
    /// the disk, and no failure of the disk is more than an error. Slower where memory holds the tables.
    Pread,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// How long a data block should be, header included. A single entry may make it longer.
    pub block_bytes: usize,
    /// Whether the table gets a filter: 1.25 bytes a key, for tables that most reads should skip.
    pub filter: bool,
}

impl Default for TableOptions {
    fn default() -> TableOptions {
        TableOptions { block_bytes: DEFAULT_BLOCK_BYTES, filter: true }
    }
}

/// Length of data blocks unless told otherwise.
pub const DEFAULT_BLOCK_BYTES: usize = 16 << 10;

/// What a point read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The key's value.
    Value(Slice<'a>),
    /// The key is deleted here; lower layers do not matter.
    Tombstone,
}

impl<'a> Found<'a> {
    /// The value, if the key has one.
    #[inline]
    pub fn into_value(self) -> Option<Slice<'a>> {
        match self {
            Found::Value(value) => Some(value),
            Found::Tombstone => None,
        }
    }
}

/// One section of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Point entries, tombstones included.
    pub entries: u64,
    /// Point entries that are tombstones.
    pub tombstones: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// Length of the section's blocks in the file.
    pub bytes: u64,
}
