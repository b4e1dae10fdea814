//! Fences: which block of a section may hold a key.
//!
//! A section of *n* blocks has *n* − 1 fences, each the shortest key that separates two neighbouring
//! blocks. The block that may hold a key has the position of [`Fences::rank`]: the number of fences at or
//! before the key.
//!
//! The search structure is a tree of *layers*. A layer serves a run of fences: it knows the prefix that
//! all of them share, and the *head* of each, the eight bytes behind the prefix as one number. A table of
//! buckets, as many as there are heads, cuts the span between the least and the greatest head into equal
//! parts and says where each part begins, so that evenly spread keys are found with one load of the bucket
//! and one of the heads. A bucket with many heads is searched by halving. Fences whose heads are equal (long
//! shared prefixes) have a layer of their own below, or, if they are few, are compared in full.
//! `docs/decisions/0002-table-index.md` has the candidates and their figures.
//!
//! Invariants: heads within a layer are strictly ascending; a layer below has a longer prefix or fewer
//! fences than the one above, so a search ends; memory is linear in the fences.

use std::cmp::Ordering;
use std::ops::Range;

/// Groups of at most this many fences with equal heads are compared in full.
const FULL_COMPARE_FENCES: u32 = 4;
/// How many heads are looked at, without branches, before a bucket is searched by halving.
const SCAN_HEADS: usize = 4;

/// The fences of one section.
#[derive(Debug, Default)]
pub struct Fences {
    /// What all fences share, and then each fence without it.
    blob: Vec<u8>,
    /// Where each fence ends in the blob; the first entry is where the shared prefix ends.
    ends: Vec<u32>,
    layers: Vec<Layer>,
    /// The heads of all layers, and [`SCAN_HEADS`] more so that a scan never passes the end.
    heads: Vec<u64>,
    /// For layers with equal heads, the first fence of each head and the layer below it.
    groups: Vec<Group>,
    /// The buckets of all layers: position of the first head in each, relative to the layer.
    buckets: Vec<u32>,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
struct Layer {
    /// The shared prefix, in the blob.
    prefix_start: u32,
    prefix_end: u32,
    /// The fences served.
    first_fence: u32,
    end_fence: u32,
    /// Place and number of the heads.
    first_head: u32,
    head_count: u32,
    /// Place of the buckets: one more than there are heads.
    first_bucket: u32,
    /// Place of the groups; [`NONE`] if all heads differ.
    first_group: u32,
    least_head: u64,
    /// Buckets per unit of head, times 2^64.
    scale: u64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_fence: u32,
    /// The layer that tells these fences apart, or [`NONE`].
    layer: u32,
}

const NONE: u32 = u32::MAX;

impl Fences {
    /// Fences in strictly ascending order, all of which begin with `prefix`: `suffixes` holds them
    /// without it, one after the other, and `ends` where each one ends. `None` if there are too many
    /// for 32-bit offsets.
    pub fn new(prefix: &[u8], ends: &[u32], suffixes: &[u8]) -> Option<Fences> {
        let shared = u32::try_from(prefix.len()).ok()?;
        let mut fences = Fences {
            blob: [prefix, suffixes].concat(),
            ends: Vec::with_capacity(ends.len() + 1),
            ..Fences::default()
        };
        u32::try_from(fences.blob.len()).ok()?;
        fences.ends.push(shared);
        fences.ends.extend(ends.iter().map(|end| end + shared));
        if !ends.is_empty() {
            fences.build();
        }
        fences.heads.extend([u64::MAX; SCAN_HEADS]);
        fences.heads.shrink_to_fit();
        fences.buckets.shrink_to_fit();
        Some(fences)
    }

    /// A fence: the block behind it holds no key before it.
    pub fn fence(&self, place: usize) -> Option<Vec<u8>> {
        let (start, end) = (*self.ends.get(place)?, *self.ends.get(place + 1)?);
        let prefix = self.blob.get(..*self.ends.first()? as usize)?;
        Some([prefix, self.blob.get(start as usize..end as usize)?].concat())
    }

    /// Number of fences at or before `key`: the position of the block that may hold it.
    #[inline]
    pub fn rank(&self, key: &[u8]) -> usize {
        let Some(mut layer) = self.layers.first() else { return 0 };
        let mut rest = key;
        loop {
            let prefix = &self.blob[layer.prefix_start as usize..layer.prefix_end as usize];
            if !prefix.is_empty() {
                match rest.strip_prefix(prefix) {
                    Some(behind) => rest = behind,
                    None if rest < prefix => return layer.first_fence as usize,
                    None => return layer.end_fence as usize,
                }
            }
            let wanted = head(rest);
            let at_or_before = self.heads_at_or_before(layer, wanted);
            let is_tie = at_or_before > 0
                && self.heads[layer.first_head as usize + at_or_before - 1] == wanted;
            if !is_tie {
                return self.first_fence(layer, at_or_before);
            }
            let fences =
                self.first_fence(layer, at_or_before - 1)..self.first_fence(layer, at_or_before);
            match self.layer_below(layer, at_or_before - 1) {
                Some(below) => layer = below,
                None => return self.compare_in_full(fences, key),
            }
        }
    }

    /// Where in its block `key` should lie, out of `count` entries, if keys are spread evenly between the
    /// two fences around it. `rank` is the key's. `None` where nothing speaks for it.
    #[inline]
    pub fn guess(&self, key: &[u8], rank: usize, count: usize) -> Option<usize> {
        let [layer] = self.layers.as_slice() else { return None };
        if layer.first_group != NONE || rank == 0 || rank >= layer.head_count as usize {
            return None;
        }
        let rest = key.strip_prefix(self.blob.get(..layer.prefix_end as usize)?)?;
        let (from, to) = (*self.heads.get(rank - 1)?, *self.heads.get(rank)?);
        let (distance, span) = (head(rest).checked_sub(from)?, to.checked_sub(from)?);
        let scaled = u128::from(distance) * count as u128 / u128::from(span.max(1));
        Some(scaled as usize)
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.blob.capacity()
            + 4 * (self.ends.capacity() + self.buckets.capacity())
            + 8 * (self.heads.capacity() + self.groups.capacity())
            + size_of::<Layer>() * self.layers.capacity()
    }

    /// How many heads of a layer are at or before `wanted`.
    #[inline]
    fn heads_at_or_before(&self, layer: &Layer, wanted: u64) -> usize {
        let Some(distance) = wanted.checked_sub(layer.least_head) else { return 0 };
        let scaled = (u128::from(distance) * u128::from(layer.scale)) >> 64;
        let bucket = (scaled as u64).min(u64::from(layer.head_count) - 1) as usize;
        let place = layer.first_bucket as usize + bucket;
        let (start, end) = (self.buckets[place] as usize, self.buckets[place + 1] as usize);
        let first = layer.first_head as usize + start;
        if end - start <= SCAN_HEADS {
            let scanned = &self.heads[first..first + SCAN_HEADS];
            let mut count = start;
            for (position, head) in scanned.iter().enumerate() {
                count += usize::from(start + position < end) & usize::from(*head <= wanted);
            }
            return count;
        }
        let heads = &self.heads[first..first + (end - start)];
        start + heads.partition_point(|head| *head <= wanted)
    }

    /// First fence behind the heads before `position`.
    #[inline]
    fn first_fence(&self, layer: &Layer, position: usize) -> usize {
        if layer.first_group == NONE {
            return layer.first_fence as usize + position;
        }
        match position == layer.head_count as usize {
            true => layer.end_fence as usize,
            false => self.groups[layer.first_group as usize + position].first_fence as usize,
        }
    }

    fn layer_below(&self, layer: &Layer, position: usize) -> Option<&Layer> {
        if layer.first_group == NONE {
            return None;
        }
        self.layers.get(self.groups[layer.first_group as usize + position].layer as usize)
    }

    #[cold]
    fn compare_in_full(&self, fences: Range<usize>, key: &[u8]) -> usize {
        let shared = self.ends[0] as usize;
        let suffix = key.get(shared..).unwrap_or(&[]);
        let (mut low, mut high) = (fences.start, fences.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.suffix(middle).cmp(suffix) {
                Ordering::Greater => high = middle,
                Ordering::Less | Ordering::Equal => low = middle + 1,
            }
        }
        low
    }

    /// A fence without what all fences share.
    fn suffix(&self, fence: usize) -> &[u8] {
        &self.blob[self.ends[fence] as usize..self.ends[fence + 1] as usize]
    }

    /// Makes the layers, each after the one above it.
    fn build(&mut self) {
        let count = self.ends.len() as u32 - 1;
        // (fences, bytes of their suffixes that the layers above have consumed, group to link to)
        let mut pending: Vec<(Range<u32>, usize, Option<usize>)> = vec![(0..count, 0, None)];
        let mut heads: Vec<(u64, u32)> = Vec::new();
        while let Some((fences, consumed, parent)) = pending.pop() {
            let first = &self.suffix(fences.start as usize)[consumed..];
            let last = &self.suffix(fences.end as usize - 1)[consumed..];
            let shared = common_prefix(first, last);
            let behind = consumed + shared;
            heads.clear();
            for fence in fences.clone() {
                let head = head(&self.suffix(fence as usize)[behind..]);
                if heads.last().is_none_or(|(last, _)| *last != head) {
                    heads.push((head, fence));
                }
            }
            if parent.is_some() && heads.len() == 1 {
                // Fences that differ only in zeros at their ends: left to the full comparison.
                continue;
            }
            // The first fence lies right behind the prefix that was cut off all of them, so the prefix of
            // the root begins where the blob does.
            let start = self.ends[fences.start as usize] + consumed as u32;
            let prefix = if parent.is_none() { 0 } else { start }..start + shared as u32;
            let layer = self.layers.len() as u32;
            if let Some(group) = parent {
                self.groups[group].layer = layer;
            }
            self.push_layer(prefix, fences.clone(), &heads);
            let first_group = self.layers[layer as usize].first_group;
            if first_group != NONE {
                for position in 0..heads.len() {
                    let start = heads[position].1;
                    let end = heads.get(position + 1).map_or(fences.end, |(_, fence)| *fence);
                    if end - start > FULL_COMPARE_FENCES {
                        pending.push((start..end, behind, Some(first_group as usize + position)));
                    }
                }
            }
        }
    }

    fn push_layer(&mut self, prefix: Range<u32>, fences: Range<u32>, heads: &[(u64, u32)]) {
        let (least, greatest) = (heads[0].0, heads[heads.len() - 1].0);
        let count = heads.len() as u64;
        // The largest scale that puts the greatest head into the last bucket.
        let span = u128::from(greatest - least) + 1;
        let scale = ((u128::from(count) << 64) / span).min(u128::from(u64::MAX)) as u64;
        let first_group = if heads.len() == fences.len() { NONE } else { self.groups.len() as u32 };
        if first_group != NONE {
            let group =
                |(_, first_fence): &(u64, u32)| Group { first_fence: *first_fence, layer: NONE };
            self.groups.extend(heads.iter().map(group));
        }
        self.layers.push(Layer {
            prefix_start: prefix.start,
            prefix_end: prefix.end,
            first_fence: fences.start,
            end_fence: fences.end,
            first_head: self.heads.len() as u32,
            head_count: count as u32,
            first_bucket: self.buckets.len() as u32,
            first_group,
            least_head: least,
            scale,
        });
        let mut next = 0;
        for (position, (head, _)) in heads.iter().enumerate() {
            let scaled = (u128::from(*head - least) * u128::from(scale)) >> 64;
            let bucket = (scaled as u64).min(count - 1);
            while next <= bucket {
                self.buckets.push(position as u32);
                next += 1;
            }
        }
        while next <= count {
            self.buckets.push(count as u32);
            next += 1;
        }
        self.heads.extend(heads.iter().map(|(head, _)| *head));
    }
}

/// The shortest key that is after `last` and not after `first`. `last` is before `first`.
pub fn separator<'a>(last: &[u8], first: &'a [u8]) -> &'a [u8] {
    &first[..(common_prefix(last, first) + 1).min(first.len())]
}

/// Length of the longest common prefix.
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number that sorts as they do; missing bytes count as zeros.
#[inline]
pub fn head(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk() {
        return u64::from_be_bytes(*chunk);
    }
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(padded)
}
