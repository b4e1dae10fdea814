//! The merge of sorted layers into one: the newest layer that holds a key decides, range tombstones hide
//! what lies in older layers.
//!
//! Algorithm: all cursors stand at or past the current position; `order` holds the valid ones sorted by
//! (key, age), the winner first. A step moves the winner, and all that stand on the same key, and sinks
//! each to its place again: one comparison as long as the same layer keeps winning. An entry hidden by a
//! range tombstone makes its cursor jump past the tombstone's end.
//!
//! One merge goes one way; a double-ended iterator holds two.

use super::{MergeInput, RunCursor};
use crate::cursor::{Cursor, RangeTombstone};
use crate::error::Result;
use crate::memtable::MemtableCursor;
use crate::slice::Slice;
use std::cmp::Ordering;

/// A cursor over one layer of any kind.
pub enum LayerCursor<'a> {
    Memory(MemtableCursor<'a>),
    Run(RunCursor<'a>),
}

macro_rules! each {
    ($self:expr, $cursor:ident => $call:expr) => {
        match $self {
            LayerCursor::Memory($cursor) => $call,
            LayerCursor::Run($cursor) => $call,
        }
    };
}

impl<'a> Cursor<'a> for LayerCursor<'a> {
    fn first(&mut self) -> Result<()> {
        each!(self, cursor => cursor.first())
    }
    fn last(&mut self) -> Result<()> {
        each!(self, cursor => cursor.last())
    }
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        each!(self, cursor => cursor.seek(key))
    }
    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        each!(self, cursor => cursor.seek_before(key))
    }
    #[inline]
    fn next(&mut self) -> Result<()> {
        each!(self, cursor => cursor.next())
    }
    #[inline]
    fn prev(&mut self) -> Result<()> {
        each!(self, cursor => cursor.prev())
    }
    #[inline]
    fn is_valid(&self) -> bool {
        each!(self, cursor => cursor.is_valid())
    }
    #[inline]
    fn key(&self) -> &[u8] {
        each!(self, cursor => cursor.key())
    }
    #[inline]
    fn key_slice(&self) -> Slice<'a> {
        each!(self, cursor => cursor.key_slice())
    }
    #[inline]
    fn is_tombstone(&self) -> bool {
        each!(self, cursor => cursor.is_tombstone())
    }
    #[inline]
    fn value(&self) -> Result<Option<Slice<'a>>> {
        each!(self, cursor => cursor.value())
    }
}

/// Which way a merge goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// Many layers as one. Yields each key's newest entry, tombstones included.
pub struct Merge<'a> {
    cursors: Vec<LayerCursor<'a>>,
    /// Of each layer; hides keys in the layers after it.
    tombstones: Vec<Vec<RangeTombstone>>,
    any_tombstones: bool,
    /// Valid cursors, the winner first.
    order: Vec<usize>,
    direction: Direction,
}

impl<'a> Merge<'a> {
    /// A merge over layers, newest first. It stands nowhere before it was moved.
    pub fn new(inputs: Vec<MergeInput<'a>>) -> Merge<'a> {
        let any_tombstones = inputs.iter().any(|input| !input.range_tombstones.is_empty());
        let (cursors, tombstones) =
            inputs.into_iter().map(|input| (input.cursor, input.range_tombstones)).unzip();
        Merge {
            cursors,
            tombstones,
            any_tombstones,
            order: Vec::new(),
            direction: Direction::Forward,
        }
    }

    /// To the first key at or after `key` (or the very first), going forward from there.
    pub fn seek(&mut self, key: Option<&[u8]>) -> Result<()> {
        self.direction = Direction::Forward;
        for cursor in &mut self.cursors {
            match key {
                Some(key) => cursor.seek(key)?,
                None => cursor.first()?,
            }
        }
        self.rebuild()
    }

    /// To the last key before `key` (or the very last), going backward from there.
    pub fn seek_before(&mut self, key: Option<&[u8]>) -> Result<()> {
        self.direction = Direction::Backward;
        for cursor in &mut self.cursors {
            match key {
                Some(key) => cursor.seek_before(key)?,
                None => cursor.last()?,
            }
        }
        self.rebuild()
    }

    /// The entry it stands on.
    #[inline]
    pub fn current(&self) -> Option<&LayerCursor<'a>> {
        self.order.first().map(|&index| &self.cursors[index])
    }

    /// On to the next key in its direction.
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        if self.order.is_empty() {
            return Ok(());
        }
        self.step_past_winner()?;
        if self.any_tombstones { self.settle() } else { Ok(()) }
    }

    fn rebuild(&mut self) -> Result<()> {
        self.order.clear();
        for index in 0..self.cursors.len() {
            if self.cursors[index].is_valid() {
                self.order.push(index);
            }
        }
        let (cursors, direction) = (&self.cursors, self.direction);
        self.order.sort_by(|&a, &b| rank(cursors, direction, a, b));
        if self.any_tombstones { self.settle() } else { Ok(()) }
    }

    /// Moves the winner and everybody on its key.
    #[inline]
    fn step_past_winner(&mut self) -> Result<()> {
        let winner = self.order[0];
        while self.order.len() > 1 {
            let second = self.order[1];
            if self.cursors[second].key() != self.cursors[winner].key() {
                break;
            }
            self.step(second)?;
            self.sink(1);
        }
        self.step(winner)?;
        self.sink(0);
        Ok(())
    }

    #[inline]
    fn step(&mut self, index: usize) -> Result<()> {
        let outcome = match self.direction {
            Direction::Forward => self.cursors[index].next(),
            Direction::Backward => self.cursors[index].prev(),
        };
        if outcome.is_err() {
            self.order.clear();
        }
        outcome
    }

    /// Puts the cursor at `place` where it belongs, after it was moved; drops it if it ended.
    #[inline]
    fn sink(&mut self, mut place: usize) {
        let index = self.order[place];
        if !self.cursors[index].is_valid() {
            self.order.remove(place);
            return;
        }
        while place + 1 < self.order.len() {
            let next = self.order[place + 1];
            if rank(&self.cursors, self.direction, index, next) == Ordering::Less {
                break;
            }
            self.order[place] = next;
            place += 1;
        }
        self.order[place] = index;
    }

    /// Moves on until the winner is hidden by no newer layer's range tombstone.
    fn settle(&mut self) -> Result<()> {
        while let Some(&winner) = self.order.first() {
            let key = self.cursors[winner].key();
            let hiding = self.tombstones[..winner].iter().find_map(|list| covering(list, key));
            let Some(tombstone) = hiding.cloned() else { return Ok(()) };
            // Everything of this layer, and of the layers below, is hidden in that range.
            let outcome = match (self.direction, &tombstone.end) {
                (Direction::Forward, Some(end)) => self.cursors[winner].seek(end),
                (Direction::Backward, _) => self.cursors[winner].seek_before(&tombstone.start),
                (Direction::Forward, None) => {
                    self.order.remove(0);
                    continue;
                }
            };
            if outcome.is_err() {
                self.order.clear();
                return outcome;
            }
            // A table whose keys do not ascend could lead a seek back; a step never does.
            while self.cursors[winner].is_valid() && tombstone.covers(self.cursors[winner].key()) {
                self.step(winner)?;
            }
            self.sink(0);
        }
        Ok(())
    }
}

/// The range tombstone of a layer that hides `key`. Ranges of one layer ascend but may overlap (those of
/// a memtable), so that all that start at or before the key are looked at.
fn covering<'t>(list: &'t [RangeTombstone], key: &[u8]) -> Option<&'t RangeTombstone> {
    list.iter().find(|tombstone| tombstone.covers(key))
}

fn rank(cursors: &[LayerCursor<'_>], direction: Direction, a: usize, b: usize) -> Ordering {
    let keys = cursors[a].key().cmp(cursors[b].key());
    let keys = if direction == Direction::Forward { keys } else { keys.reverse() };
    keys.then(a.cmp(&b))
}
