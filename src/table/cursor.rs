//! A position among the entries of one section, moving both ways.
//!
//! Invariant: `position` is `Some` exactly when the cursor is valid, and then `block`, `layout` and
//! `entry` describe that position. Keys are handed out through the block that the cursor holds, so they
//! stay good while it moves on (mapped) or are shared (read).

use super::block::{Entry, EntryKind, Layout, Malformed};
use super::index::Section;
use super::reader::{Block, Loaded, Table};
use crate::cursor::Cursor;
use crate::error::Result;
use crate::slice::Slice;

/// A cursor over the point entries of one keyspace of a table.
#[derive(Debug)]
pub struct TableCursor<'a> {
    table: &'a Table,
    loaded: &'a Loaded,
    section: Option<&'a Section>,
    /// The block last looked at; kept so that seeks nearby do not fetch it again.
    current: Option<Current<'a>>,
    /// Which entry of it; `None` if the cursor is not valid.
    position: Option<(usize, Entry)>,
}

#[derive(Debug)]
struct Current<'a> {
    /// Position of the block in the section.
    place: u32,
    ordinal: u32,
    block: Block<'a>,
    layout: Layout,
}

impl<'a> TableCursor<'a> {
    pub(super) fn new(
        table: &'a Table,
        loaded: &'a Loaded,
        section: Option<&'a Section>,
    ) -> TableCursor<'a> {
        let section = section.filter(|section| section.block_count > 0);
        TableCursor { table, loaded, section, current: None, position: None }
    }

    /// Makes the block at `place` of the section the current one.
    fn enter(&mut self, section: &Section, place: u32) -> Result<()> {
        self.position = None;
        if self.current.as_ref().is_some_and(|current| current.place == place) {
            return Ok(());
        }
        let ordinal = section.first_block + place;
        let block = self.table.block(self.loaded, ordinal)?;
        let Some(layout) = Layout::new(block.bytes()) else {
            return Err(self.table.malformed(self.loaded, ordinal));
        };
        self.current = Some(Current { place, ordinal, block, layout });
        Ok(())
    }

    /// To an entry of the current block, counted from the front.
    fn settle(&mut self, position: usize) -> Result<()> {
        self.position = None;
        let Some(current) = &self.current else { return Ok(()) };
        let entry = current.layout.entry(current.block.bytes(), position);
        match entry {
            Ok(entry) => self.position = Some((position, entry)),
            Err(Malformed) => return Err(self.table.malformed(self.loaded, current.ordinal)),
        }
        Ok(())
    }

    /// The current block's place in the section and its number of entries.
    fn extent(&self) -> (u32, usize) {
        self.current.as_ref().map_or((0, 0), |current| (current.place, current.layout.count()))
    }

    /// To the last entry of the current block.
    fn settle_last(&mut self) -> Result<()> {
        let (_, count) = self.extent();
        self.settle(count.saturating_sub(1))
    }

    /// Enters the block that may hold `key`; says how many of its entries are before `key`.
    fn descend(&mut self, section: &Section, key: &[u8]) -> Result<usize> {
        self.enter(section, section.fences.rank(key) as u32)?;
        let Some(current) = &self.current else { return Ok(0) };
        match current.layout.lower_bound(current.block.bytes(), key) {
            Ok(position) => Ok(position),
            Err(Malformed) => Err(self.table.malformed(self.loaded, current.ordinal)),
        }
    }

    #[cold]
    fn next_block(&mut self) -> Result<()> {
        let (place, _) = self.extent();
        self.position = None;
        match self.section {
            Some(section) if place + 1 < section.block_count => {
                self.enter(section, place + 1)?;
                self.settle(0)
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn previous_block(&mut self) -> Result<()> {
        let (place, _) = self.extent();
        self.position = None;
        match self.section {
            Some(section) if place > 0 => {
                self.enter(section, place - 1)?;
                self.settle_last()
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Cursor<'a> for TableCursor<'a> {
    fn first(&mut self) -> Result<()> {
        self.position = None;
        let Some(section) = self.section else { return Ok(()) };
        self.enter(section, 0)?;
        self.settle(0)
    }

    fn last(&mut self) -> Result<()> {
        self.position = None;
        let Some(section) = self.section else { return Ok(()) };
        self.enter(section, section.block_count - 1)?;
        self.settle_last()
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.position = None;
        let Some(section) = self.section else { return Ok(()) };
        let position = self.descend(section, key)?;
        let (_, count) = self.extent();
        if position < count { self.settle(position) } else { self.next_block() }
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.position = None;
        let Some(section) = self.section else { return Ok(()) };
        match self.descend(section, key)? {
            0 => self.previous_block(),
            position => self.settle(position - 1),
        }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some((position, _)) = self.position else { return Ok(()) };
        let (_, count) = self.extent();
        if position + 1 < count { self.settle(position + 1) } else { self.next_block() }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        match self.position {
            None => Ok(()),
            Some((0, _)) => self.previous_block(),
            Some((position, _)) => self.settle(position - 1),
        }
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.position.is_some()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        match (&self.current, &self.position) {
            (Some(current), Some((_, entry))) => {
                current.block.bytes().get(entry.key()).unwrap_or(&[])
            }
            _ => &[],
        }
    }

    fn key_slice(&self) -> Slice<'a> {
        let slice = match (&self.current, &self.position) {
            (Some(current), Some((_, entry))) => current.block.slice(entry.key()),
            _ => None,
        };
        slice.unwrap_or(Slice::borrowed(&[]))
    }

    #[inline]
    fn is_tombstone(&self) -> bool {
        self.position.is_some_and(|(_, entry)| entry.kind == EntryKind::Tombstone)
    }

    fn value(&self) -> Result<Option<Slice<'a>>> {
        match (&self.current, &self.position) {
            (Some(current), Some((_, entry))) => {
                self.table.value(self.loaded, &current.block, current.ordinal, entry)
            }
            _ => Ok(None),
        }
    }
}
