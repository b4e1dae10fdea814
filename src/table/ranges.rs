//! Range tombstones: joining them, writing them, finding the one that covers a key.
//!
//! Invariant of every list that this module returns: sorted by start, no two ranges overlap or touch,
//! none is empty, and only the last may be open-ended.

use super::format::{put_key, take, take_key};
use crate::cursor::RangeTombstone;

/// Sorts ranges and joins those that overlap or touch; drops empty ones.
pub fn coalesce(mut ranges: Vec<RangeTombstone>) -> Vec<RangeTombstone> {
    ranges.retain(|range| range.end.as_ref().is_none_or(|end| range.start < *end));
    ranges.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    let mut joined: Vec<RangeTombstone> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| range.start <= *end) => {
                // An open end stays; otherwise the farther end wins.
                if last.end.is_some() && (range.end.is_none() || range.end > last.end) {
                    last.end = range.end;
                }
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Whether one of `ranges` hides `key`.
pub fn covers(ranges: &[RangeTombstone], key: &[u8]) -> bool {
    let after = ranges.partition_point(|range| range.start.as_slice() <= key);
    after > 0 && ranges[after - 1].covers(key)
}

/// Appends one range.
pub fn encode(out: &mut Vec<u8>, range: &RangeTombstone) {
    out.push(u8::from(range.end.is_some()));
    put_key(out, &range.start);
    if let Some(end) = &range.end {
        put_key(out, end);
    }
}

/// Appends the ranges of one block's body to `out`; `None` if they are malformed or do not follow on
/// what `out` holds.
pub fn decode(out: &mut Vec<RangeTombstone>, mut body: &[u8], count: u32) -> Option<()> {
    for _ in 0..count {
        let has_end = match take(&mut body, 1)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let start = take_key(&mut body)?.to_vec();
        let end = if has_end { Some(take_key(&mut body)?.to_vec()) } else { None };
        let follows = out
            .last()
            .is_none_or(|last| last.end.as_ref().is_some_and(|last_end| *last_end < start));
        if !follows || end.as_ref().is_some_and(|end| *end <= start) {
            return None;
        }
        out.push(RangeTombstone { start, end });
    }
    body.is_empty().then_some(())
}
