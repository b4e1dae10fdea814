//! The keyspaces of one memtable.
//!
//! The first keyspace has a place of its own, so that a memtable with one keyspace has nothing to look
//! up. The others lie in hash tables with open addressing: when one is half full, the next, eight times
//! larger, takes the newcomers. Nothing ever moves, so readers need no lock.

use super::fill::Finger;
use super::ranges::Fragments;
use super::tree::Tree;
use super::walk::Walk;
use crate::memory::OutOfMemory;
use crate::types::KeyspaceId;
use std::iter::from_fn;
use std::sync::OnceLock;

const FIRST_LEVEL_SLOTS: usize = 8;
const LEVEL_GROWTH: usize = 8;
const LEVELS: usize = 8;

/// What a memtable knows of one keyspace. The finger belongs to the writer and keeps to its own cache line.
#[derive(Debug)]
#[repr(C)]
pub struct Keyspace {
    pub id: KeyspaceId,
    pub entries: Tree,
    pub fragments: Fragments,
    pub finger: Finger,
}

impl Keyspace {
    fn new(id: KeyspaceId) -> Keyspace {
        Keyspace { id, entries: Tree::new(), fragments: Fragments::new(), finger: Finger::new() }
    }

    /// All keys, ascending, with the keyspace's id.
    pub fn keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8])> {
        let mut walk = Walk::first(&self.entries);
        from_fn(move || {
            let key = walk.as_ref()?.record().key();
            if !walk.as_mut()?.step() {
                walk = None;
            }
            Some((self.id, key))
        })
    }
}

/// All keyspaces.
#[derive(Debug)]
pub struct Directory {
    first: OnceLock<Keyspace>,
    levels: [OnceLock<Level>; LEVELS],
}

/// Slots are filled up to the half, so that every probe meets an empty one.
type Level = Vec<OnceLock<Keyspace>>;

impl Directory {
    pub const fn new() -> Directory {
        Directory { first: OnceLock::new(), levels: [const { OnceLock::new() }; LEVELS] }
    }

    /// The keyspace, if anything was ever written to it.
    #[inline]
    pub fn get(&self, id: KeyspaceId) -> Option<&Keyspace> {
        let first = self.first.get()?;
        if first.id == id { Some(first) } else { self.get_in_levels(id) }
    }

    /// The keyspace, made if it is new. For the one writer.
    pub fn get_or_add(&self, id: KeyspaceId) -> Result<&Keyspace, OutOfMemory> {
        let first = self.first.get_or_init(|| Keyspace::new(id));
        if first.id == id {
            return Ok(first);
        }
        if let Some(keyspace) = self.get_in_levels(id) {
            return Ok(keyspace);
        }
        for (depth, level) in self.levels.iter().enumerate() {
            let slots = match level.get() {
                Some(slots) => slots,
                None => {
                    let made = new_level(FIRST_LEVEL_SLOTS * LEVEL_GROWTH.pow(depth as u32))?;
                    level.get_or_init(|| made)
                }
            };
            let is_last = self.levels.get(depth + 1).is_none_or(|next| next.get().is_none());
            let used = || slots.iter().filter(|slot| slot.get().is_some()).count();
            if is_last && used() < slots.len() / 2 {
                let slot = probe(slots, id);
                return Ok(slot.get_or_init(|| Keyspace::new(id)));
            }
        }
        Err(OutOfMemory)
    }

    /// All keyspaces, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Keyspace> {
        let levels = self.levels.iter().filter_map(OnceLock::get).flatten();
        self.first.get().into_iter().chain(levels.filter_map(OnceLock::get))
    }

    /// Memory taken for others than the first keyspace, in bytes.
    pub fn bytes(&self) -> usize {
        let slots = self.levels.iter().map_while(OnceLock::get).map(Vec::len).sum::<usize>();
        slots * size_of::<OnceLock<Keyspace>>()
    }

    fn get_in_levels(&self, id: KeyspaceId) -> Option<&Keyspace> {
        let levels = self.levels.iter().map_while(OnceLock::get);
        levels.filter_map(|slots| probe(slots, id).get()).next()
    }
}

fn new_level(count: usize) -> Result<Level, OutOfMemory> {
    let mut slots = Vec::new();
    slots.try_reserve_exact(count).map_err(|_| OutOfMemory)?;
    slots.resize_with(count, OnceLock::new);
    Ok(slots)
}

/// The slot of a keyspace, or the empty one where it would come. The number of slots is a power of two.
fn probe(slots: &[OnceLock<Keyspace>], id: KeyspaceId) -> &OnceLock<Keyspace> {
    let mask = slots.len() - 1;
    // Multiplication by 2^32 divided by the golden ratio spreads ids that follow one another.
    let mut index = (id.0.wrapping_mul(0x9E37_79B9) >> 7) as usize & mask;
    while slots[index].get().is_some_and(|keyspace| keyspace.id != id) {
        index = (index + 1) & mask;
    }
    &slots[index]
}
