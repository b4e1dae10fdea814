//! A position among the entries of one section, moving both ways.
//!
//! Invariant: if `is_valid`, then `block`, `layout` and `entry` describe the entry at `position` of the
//! data block at `place` of the section; if not, `place` still says which block they are of (none at
//! first), so that a seek nearby does not fetch it again. Slices handed out outlive the cursor: they
//! borrow from the mapping or share the block.

use super::block::{Entry, EntryKind, Layout, Malformed};
use super::index::Section;
use super::reader::{Block, Loaded, Table, find};
use super::scattered::Row;
use super::{Window, key_hash};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::slice::Slice;

/// A cursor over the point entries of one keyspace of a table.
#[derive(Debug)]
pub struct TableCursor<'a> {
    table: &'a Table,
    loaded: &'a Loaded,
    section: Option<&'a Section>,
    /// Position in the section of the block at hand; [`NO_BLOCK`] before the first.
    place: u32,
    block: Block<'a>,
    layout: Layout,
    position: usize,
    entry: Entry,
    is_valid: bool,
    /// See [`Table::whole_block`].
    row: Row,
}

const NO_BLOCK: u32 = u32::MAX;

impl<'a> TableCursor<'a> {
    pub(super) fn new(
        table: &'a Table,
        loaded: &'a Loaded,
        section: Option<&'a Section>,
    ) -> TableCursor<'a> {
        TableCursor {
            table,
            loaded,
            section: section.filter(|section| section.block_count > 0),
            place: NO_BLOCK,
            block: Block::Mapped(&[]),
            layout: Layout::EMPTY,
            position: 0,
            entry: Entry::EMPTY,
            is_valid: false,
            row: Row::default(),
        }
    }

    fn ordinal(&self) -> u32 {
        self.section.map_or(0, |section| section.first_block + self.place)
    }

    /// A seek found the current entry.
    fn note_use(&mut self) -> Result<()> {
        let used = self.table.used(self.loaded, self.ordinal(), &self.entry);
        used.inspect_err(|_| self.is_valid = false)
    }

    #[cold]
    fn malformed(&self) -> Error {
        self.table.malformed(self.loaded, self.ordinal())
    }

    /// Makes the block at `place` of the section the one at hand, to read all of it. The cursor is not valid afterwards.
    fn enter(&mut self, section: &Section, place: u32) -> Result<()> {
        self.is_valid = false;
        if self.place == place {
            return Ok(());
        }
        self.place = NO_BLOCK;
        let ordinal = section.first_block + place;
        let block = self.table.whole_block(self.loaded, ordinal, &mut self.row)?;
        let layout = Layout::new(block.bytes());
        let layout = layout.ok_or_else(|| self.table.malformed(self.loaded, ordinal))?;
        (self.block, self.layout, self.place) = (block, layout, place);
        Ok(())
    }

    /// To an entry of the block at hand, counted from the front.
    #[inline]
    fn settle(&mut self, position: usize) -> Result<()> {
        match self.layout.entry(self.block.bytes(), position) {
            Ok(entry) => {
                (self.entry, self.position, self.is_valid) = (entry, position, true);
                Ok(())
            }
            Err(Malformed) => {
                self.is_valid = false;
                Err(self.malformed())
            }
        }
    }

    /// The entries from the one at hand to the end of the block, if the block is mapped.
    pub fn window(&self) -> Option<Window<'a>> {
        match self.block {
            Block::Mapped(bytes) if self.is_valid => {
                Some(Window::new(bytes, self.layout, self.position))
            }
            _ => None,
        }
    }

    /// To where a window of the block at hand has got. The cursor is not valid behind the last entry of
    /// the section.
    pub fn resume(&mut self, window: &Window<'_>) -> Result<()> {
        match window.position() {
            position if position < self.layout.count() => self.settle(position),
            _ => self.next_block(),
        }
    }

    /// Enters the block that may hold `key`; says how many of its entries are before `key`.
    fn descend(&mut self, section: &Section, key: &[u8]) -> Result<usize> {
        let rank = section.fences.rank(key);
        let place = rank as u32;
        self.is_valid = false;
        if self.place == place {
            let guess = section.fences.guess(key, rank, self.layout.count());
            let position = self.layout.lower_bound(self.block.bytes(), key, guess);
            return position.map_err(|Malformed| self.malformed());
        }
        self.place = NO_BLOCK;
        let ordinal = section.first_block + place;
        let (block, layout, head) = self.table.headed(self.loaded, ordinal)?;
        (self.block, self.layout, self.place) = (block, layout, place);
        // A key that is there is found by its fingerprint, with one look at one record.
        if head.is_some() && self.layout.may_have_length(key.len()) {
            let fingerprint = key_hash(section.keyspace, key) as u8;
            match find(&self.block, &self.layout, head, key, fingerprint) {
                Ok(Some((position, _))) => return Ok(position),
                Ok(None) => {}
                Err(Malformed) => return Err(self.malformed()),
            }
        }
        let guess = section.fences.guess(key, rank, self.layout.count());
        let position = self.layout.lower_bound(self.block.bytes(), key, guess);
        position.map_err(|Malformed| self.malformed())
    }

    #[cold]
    fn next_block(&mut self) -> Result<()> {
        self.is_valid = false;
        match self.section {
            Some(section) if self.place + 1 < section.block_count => {
                self.enter(section, self.place + 1)?;
                self.settle(0)
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn previous_block(&mut self) -> Result<()> {
        self.is_valid = false;
        match self.section {
            Some(section) if self.place > 0 => {
                self.enter(section, self.place - 1)?;
                self.settle(self.layout.count() - 1)
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Cursor<'a> for TableCursor<'a> {
    fn first(&mut self) -> Result<()> {
        self.is_valid = false;
        let Some(section) = self.section else { return Ok(()) };
        self.enter(section, 0)?;
        self.settle(0)
    }

    fn last(&mut self) -> Result<()> {
        self.is_valid = false;
        let Some(section) = self.section else { return Ok(()) };
        self.enter(section, section.block_count - 1)?;
        self.settle(self.layout.count() - 1)
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.is_valid = false;
        let Some(section) = self.section else { return Ok(()) };
        let position = self.descend(section, key)?;
        if position == self.layout.count() {
            return self.next_block();
        }
        self.settle(position)?;
        self.note_use()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.is_valid = false;
        let Some(section) = self.section else { return Ok(()) };
        match self.descend(section, key)? {
            0 => self.previous_block(),
            position => {
                self.settle(position - 1)?;
                self.note_use()
            }
        }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let position = self.position + 1;
        match self.is_valid {
            true if position < self.layout.count() => self.settle(position),
            true => self.next_block(),
            false => Ok(()),
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        match self.is_valid {
            true if self.position > 0 => self.settle(self.position - 1),
            true => self.previous_block(),
            false => Ok(()),
        }
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.is_valid
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.block.bytes().get(self.entry.key()).unwrap_or(&[])
    }

    fn key_slice(&self) -> Slice<'a> {
        self.block.slice(self.entry.key()).unwrap_or(Slice::borrowed(&[]))
    }

    #[inline]
    fn is_tombstone(&self) -> bool {
        self.is_valid && self.entry.kind == EntryKind::Tombstone
    }

    fn value(&self) -> Result<Option<Slice<'a>>> {
        if !self.is_valid {
            return Ok(None);
        }
        self.table.value(self.loaded, &self.block, self.ordinal(), &self.entry)
    }
}
