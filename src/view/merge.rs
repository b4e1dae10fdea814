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
use crate::table::Window;
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

/// One layer or many as one. Yields each key's newest entry, tombstones included.
pub struct Merge<'a> {
    direction: Direction,
    layers: Layers<'a>,
}

/// A reader that sees one layer with entries, the most usual one, pays for no merge.
enum Layers<'a> {
    One(LayerCursor<'a>),
    Many(Many<'a>),
}

struct Many<'a> {
    cursors: Vec<LayerCursor<'a>>,
    /// Of each layer; hides keys in the layers after it.
    tombstones: Vec<Vec<RangeTombstone>>,
    any_tombstones: bool,
    /// Valid cursors, the winner first.
    order: Vec<usize>,
    /// The last step left the winner what it was.
    won_again: bool,
}

impl<'a> Merge<'a> {
    /// A merge over layers, newest first. It stands nowhere before it was moved.
    pub fn new(inputs: impl IntoIterator<Item = MergeInput<'a>>) -> Merge<'a> {
        let mut inputs = inputs.into_iter();
        match (inputs.next(), inputs.next()) {
            (Some(only), None) => Merge::of_one(only.cursor),
            (first, second) => {
                let many = Many::new(first.into_iter().chain(second).chain(inputs));
                Merge { direction: Direction::Forward, layers: Layers::Many(many) }
            }
        }
    }

    /// One layer alone: its range tombstones hide what lies below, and nothing does.
    #[inline]
    pub fn of_one(cursor: LayerCursor<'a>) -> Merge<'a> {
        Merge { direction: Direction::Forward, layers: Layers::One(cursor) }
    }

    /// To the first key at or after `key` (or the very first), going forward from there.
    pub fn seek(&mut self, key: Option<&[u8]>) -> Result<()> {
        self.direction = Direction::Forward;
        match (&mut self.layers, key) {
            (Layers::One(cursor), Some(key)) => cursor.seek(key),
            (Layers::One(cursor), None) => cursor.first(),
            (Layers::Many(many), key) => many.seek(key),
        }
    }

    /// To the last key before `key` (or the very last), going backward from there.
    pub fn seek_before(&mut self, key: Option<&[u8]>) -> Result<()> {
        self.direction = Direction::Backward;
        match (&mut self.layers, key) {
            (Layers::One(cursor), Some(key)) => cursor.seek_before(key),
            (Layers::One(cursor), None) => cursor.last(),
            (Layers::Many(many), key) => many.seek_before(key),
        }
    }

    /// The entry it stands on.
    #[inline]
    pub fn current(&self) -> Option<&LayerCursor<'a>> {
        match &self.layers {
            Layers::One(cursor) => cursor.is_valid().then_some(cursor),
            Layers::Many(many) => many.order.first().map(|&index| &many.cursors[index]),
        }
    }

    /// The entries from the one it stands on to the end of a block, and the key from which on another layer
    /// has a say, if any has. The merge stands still until [`resume`](Merge::resume).
    pub fn window(&self) -> Option<(Window<'a>, Option<Slice<'a>>)> {
        match &self.layers {
            Layers::One(LayerCursor::Run(cursor)) => Some((cursor.window()?, None)),
            Layers::One(LayerCursor::Memory(_)) => None,
            Layers::Many(many) => many.window(self.direction),
        }
    }

    /// To where a window has got that it gave out.
    pub fn resume(&mut self, window: &Window<'_>) -> Result<()> {
        match &mut self.layers {
            Layers::One(LayerCursor::Run(cursor)) => cursor.resume(window),
            Layers::One(LayerCursor::Memory(_)) => Ok(()),
            Layers::Many(many) => many.resume(window),
        }
    }

    /// On to the next key in its direction.
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        match (&mut self.layers, self.direction) {
            (Layers::One(cursor), Direction::Forward) => cursor.next(),
            (Layers::One(cursor), Direction::Backward) => cursor.prev(),
            (Layers::Many(many), direction) => many.advance(direction),
        }
    }
}

impl<'a> Many<'a> {
    fn new(inputs: impl Iterator<Item = MergeInput<'a>>) -> Many<'a> {
        let (cursors, tombstones): (Vec<_>, Vec<_>) =
            inputs.map(|input| (input.cursor, input.range_tombstones)).unzip();
        let any_tombstones = tombstones.iter().any(|list| !list.is_empty());
        Many { cursors, tombstones, any_tombstones, order: Vec::new(), won_again: false }
    }

    /// Only for a layer that won twice in a row: where layers take turns a window would not pay.
    fn window(&self, direction: Direction) -> Option<(Window<'a>, Option<Slice<'a>>)> {
        if !self.won_again || self.any_tombstones || direction == Direction::Backward {
            return None;
        }
        let (&winner, rest) = self.order.split_first()?;
        let LayerCursor::Run(cursor) = &self.cursors[winner] else { return None };
        Some((cursor.window()?, rest.first().map(|&second| self.cursors[second].key_slice())))
    }

    fn resume(&mut self, window: &Window<'_>) -> Result<()> {
        let Some(&winner) = self.order.first() else { return Ok(()) };
        let LayerCursor::Run(cursor) = &mut self.cursors[winner] else { return Ok(()) };
        cursor.resume(window).inspect_err(|_| self.order.clear())?;
        self.sink(Direction::Forward, 0);
        Ok(())
    }

    fn seek(&mut self, key: Option<&[u8]>) -> Result<()> {
        for cursor in &mut self.cursors {
            match key {
                Some(key) => cursor.seek(key)?,
                None => cursor.first()?,
            }
        }
        self.rebuild(Direction::Forward)
    }

    fn seek_before(&mut self, key: Option<&[u8]>) -> Result<()> {
        for cursor in &mut self.cursors {
            match key {
                Some(key) => cursor.seek_before(key)?,
                None => cursor.last()?,
            }
        }
        self.rebuild(Direction::Backward)
    }

    fn advance(&mut self, direction: Direction) -> Result<()> {
        if self.order.is_empty() {
            return Ok(());
        }
        self.step_past_winner(direction)?;
        if self.any_tombstones { self.settle(direction) } else { Ok(()) }
    }

    fn rebuild(&mut self, direction: Direction) -> Result<()> {
        self.order.clear();
        for index in 0..self.cursors.len() {
            if self.cursors[index].is_valid() {
                self.order.push(index);
            }
        }
        let cursors = &self.cursors;
        self.order.sort_by(|&a, &b| rank(cursors, direction, a, b));
        if self.any_tombstones { self.settle(direction) } else { Ok(()) }
    }

    /// Moves the winner and everybody on its key.
    #[inline]
    fn step_past_winner(&mut self, direction: Direction) -> Result<()> {
        let winner = self.order[0];
        while self.order.len() > 1 {
            let second = self.order[1];
            if self.cursors[second].key() != self.cursors[winner].key() {
                break;
            }
            self.step(direction, second)?;
            self.sink(direction, 1);
        }
        self.step(direction, winner)?;
        self.sink(direction, 0);
        self.won_again = self.order.first() == Some(&winner);
        Ok(())
    }

    #[inline]
    fn step(&mut self, direction: Direction, index: usize) -> Result<()> {
        let outcome = match direction {
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
    fn sink(&mut self, direction: Direction, mut place: usize) {
        let index = self.order[place];
        if !self.cursors[index].is_valid() {
            self.order.remove(place);
            return;
        }
        while place + 1 < self.order.len() {
            let next = self.order[place + 1];
            if rank(&self.cursors, direction, index, next) == Ordering::Less {
                break;
            }
            self.order[place] = next;
            place += 1;
        }
        self.order[place] = index;
    }

    /// Moves on until the winner is hidden by no newer layer's range tombstone.
    fn settle(&mut self, direction: Direction) -> Result<()> {
        while let Some(&winner) = self.order.first() {
            let key = self.cursors[winner].key();
            let hiding = self.tombstones[..winner].iter().find_map(|list| covering(list, key));
            let Some(tombstone) = hiding.cloned() else { return Ok(()) };
            // Everything of this layer, and of the layers below, is hidden in that range.
            let outcome = match (direction, &tombstone.end) {
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
                self.step(direction, winner)?;
            }
            self.sink(direction, 0);
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
