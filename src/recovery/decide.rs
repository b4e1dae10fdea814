//! The decision table of recovery: what the first place in the log that is not a valid next group means.
//!
//! A place is looked at together with the evidence: does anything that survived *vouch* for it (a later
//! group or the manifest names a durable LSN past it), and did the manifest close the epoch (then it says
//! exactly where the log ends)? The table is data, one row for each input, so that it can be tested
//! whole and mutated by the crash campaign.

use crate::mistakes::{Mistake, planted};

/// What was found where the next group was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Zeros, or the end of the last segment.
    Blank,
    /// A whole group of another position, epoch or salt: what a recycled segment held before.
    Stale,
    /// Bytes that are no group header.
    BadHeader,
    /// A header of this place whose body or padding fails its check.
    BadBody,
    /// A whole group of this place that does not follow the group before it.
    Unlinked,
    /// Bytes other than zeros between a group and the next block.
    BadPadding,
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The log ends here; nothing was written past it.
    End,
    /// The log ends here; what follows was never promised, or was the last run before the stop and has
    /// no witness. It is cut and reported.
    Cut,
    /// Bytes that were promised are gone. Refuse, touch nothing.
    Damage,
}

/// One row: place, vouched, closed by the manifest, verdict.
pub type Row = (Place, bool, bool, Verdict);

/// What was looked up, in the order of asking.
pub type Judged = std::cell::RefCell<Vec<Row>>;

/// The decisions.
pub const TABLE: [Row; 24] = {
    use Place::*;
    use Verdict::*;
    [
        // An open epoch: evidence decides.
        (Blank, false, false, End),
        (Blank, true, false, Damage),
        (Stale, false, false, End),
        (Stale, true, false, Damage),
        (BadHeader, false, false, Cut),
        (BadHeader, true, false, Damage),
        (BadBody, false, false, Cut),
        (BadBody, true, false, Damage),
        (Unlinked, false, false, Cut),
        (Unlinked, true, false, Damage),
        (BadPadding, false, false, Cut),
        (BadPadding, true, false, Damage),
        // A closed epoch: the manifest vouches for all of it; the walk ends at its end and asks only
        // about places before that.
        (Blank, false, true, Damage),
        (Blank, true, true, Damage),
        (Stale, false, true, Damage),
        (Stale, true, true, Damage),
        (BadHeader, false, true, Damage),
        (BadHeader, true, true, Damage),
        (BadBody, false, true, Damage),
        (BadBody, true, true, Damage),
        (Unlinked, false, true, Damage),
        (Unlinked, true, true, Damage),
        (BadPadding, false, true, Damage),
        (BadPadding, true, true, Damage),
    ]
};

/// Looks the verdict up.
pub fn decide(place: Place, vouched: bool, closed: bool) -> Verdict {
    let bad_sum = matches!(place, Place::BadHeader | Place::BadBody);
    if (planted(Mistake::MismatchIsEnd) && bad_sum)
        || (planted(Mistake::ZerosAreEnd) && place == Place::Blank)
    {
        return Verdict::End;
    }
    if planted(Mistake::TornTailIsDamage) && bad_sum {
        return Verdict::Damage;
    }
    TABLE
        .iter()
        .find(|row| (row.0, row.1, row.2) == (place, vouched, closed))
        .map_or(Verdict::Damage, |row| row.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Place; 6] = [
        Place::Blank,
        Place::Stale,
        Place::BadHeader,
        Place::BadBody,
        Place::Unlinked,
        Place::BadPadding,
    ];

    #[test]
    fn the_table_has_each_input_once() {
        for place in PLACES {
            for vouched in [false, true] {
                for closed in [false, true] {
                    let rows = TABLE
                        .iter()
                        .filter(|row| (row.0, row.1, row.2) == (place, vouched, closed))
                        .count();
                    assert_eq!(rows, 1, "{place:?} vouched={vouched} closed={closed}");
                }
            }
        }
    }

    #[test]
    fn what_is_vouched_for_is_never_cut() {
        for place in PLACES {
            for closed in [false, true] {
                assert_eq!(decide(place, true, closed), Verdict::Damage, "{place:?}");
            }
            assert_eq!(decide(place, false, true), Verdict::Damage, "{place:?}");
            assert_ne!(decide(place, false, false), Verdict::Damage, "{place:?}");
        }
    }
}
