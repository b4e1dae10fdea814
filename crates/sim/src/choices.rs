//! Which ways of losing power are tried at one crash point.
//!
//! A *unit* is a sector, a length or a name whose last change no sync has covered. Units that cannot
//! matter are left out of the combinations and vary in the samples only: sectors whose versions are all
//! the same bytes, and the length of `RESERVE`, which nothing ever reads or syncs.
//!
//! 1. All new; all old.
//! 2. Old and new in every combination, and every version in between if there are no more than
//!    `2^exhaustive_units` combinations, up to `exhaustive_units` units.
//! 3. Above that: each unit alone, each missing, every prefix, every suffix, at most `per_family` of each
//!    family, evenly spread; versions in between; and `samples` seeded random choices.
//! 4. Zeros and garbage in each sector, with the others new and with the others old; and in `torn_samples`
//!    random choices.
//!
//! The same point, limits and seed give the same choices, so a number names one for a replay.

use crate::random::Random;
use highwater::fs::sim::{Choice, CrashPoint, Outcome, Unit, UnitKind};

/// How many choices are tried at one crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Up to so many units, all combinations.
    pub exhaustive_units: u32,
    /// Above it, at most so many choices of each family.
    pub per_family: usize,
    /// Above it, so many random choices.
    pub samples: usize,
    /// At most so many sectors come back as zeros and as garbage, one at a time.
    pub torn: usize,
    /// So many random choices with zeros and garbage among them, if there are two sectors or more.
    pub torn_samples: usize,
}

/// The choices of a point.
pub fn choices<'a>(
    point: &'a CrashPoint,
    limits: &Limits,
    seed: u64,
) -> impl Iterator<Item = Choice> + use<'a> {
    let limits = *limits;
    let units = point.units();
    let count = units.len();
    let seed = seed ^ Random::new(point.position() as u64).number();
    let live: Vec<usize> = (0..count).filter(|unit| matters(&units[*unit])).collect();
    let ends = [Outcome::New, Outcome::Old].into_iter().map(move |all| Choice::all(all, count));
    let bound = 1_usize << limits.exhaustive_units;
    let combinations = live.iter().try_fold(1_usize, |product, unit| {
        product.checked_mul(units[*unit].versions).filter(|product| *product <= bound)
    });
    let few = live.len() <= limits.exhaustive_units as usize;
    let chosen: Box<dyn Iterator<Item = Choice>> = match combinations {
        Some(combinations) => Box::new(all_versions(units, live, combinations)),
        None => {
            let between = between(units, limits, seed);
            let random = (0..limits.samples).map(move |at| random_choice(units, seed, at, 0));
            let sets: Box<dyn Iterator<Item = Choice>> = match few {
                true => Box::new(all_subsets(count, live)),
                false => Box::new(families(count, live, limits.per_family, seed)),
            };
            Box::new(sets.chain(between).chain(random))
        }
    };
    ends.chain(chosen).chain(torn(units, limits, seed))
}

fn matters(unit: &Unit) -> bool {
    let reserve = matches!(unit.kind, UnitKind::Length(_)) && unit.path.ends_with("RESERVE");
    !unit.silent && !reserve
}

/// Every combination of every version, counted as a number with one digit per unit.
fn all_versions(
    units: &[Unit],
    live: Vec<usize>,
    combinations: usize,
) -> impl Iterator<Item = Choice> + '_ {
    (0..combinations).map(move |mut number| {
        let mut choice = Choice::all(Outcome::New, units.len());
        for unit in &live {
            let versions = units[*unit].versions;
            choice.set(*unit, Outcome::Version(number % versions));
            number /= versions;
        }
        choice
    })
}

fn all_subsets(count: usize, live: Vec<usize>) -> impl Iterator<Item = Choice> {
    (0..1_usize << live.len()).map(move |set| {
        let mut choice = Choice::all(Outcome::New, count);
        let kept = |bit: usize| if set >> bit & 1 == 1 { Outcome::New } else { Outcome::Old };
        live.iter().enumerate().for_each(|(bit, unit)| choice.set(*unit, kept(bit)));
        choice
    })
}

const OPPOSITES: [(Outcome, Outcome); 2] =
    [(Outcome::Old, Outcome::New), (Outcome::New, Outcome::Old)];

/// Each alone, each missing, prefixes, suffixes.
fn families(
    count: usize,
    live: Vec<usize>,
    most: usize,
    seed: u64,
) -> impl Iterator<Item = Choice> {
    let order = live.clone();
    let singles = spread(live.len(), most, seed).into_iter().flat_map(move |at| {
        let unit = live[at];
        OPPOSITES.into_iter().map(move |(rest, one)| Choice::all(rest, count).with(unit, one))
    });
    let cuts = spread(order.len().saturating_sub(1), most, !seed);
    let runs = cuts.into_iter().flat_map(move |at| {
        let end = order[at];
        OPPOSITES.into_iter().map(move |(before, after)| {
            (0..count).map(|unit| if unit <= end { before } else { after }).collect::<Choice>()
        })
    });
    singles.chain(runs)
}

/// Each version that is neither old nor new, with all others new and with all others old.
fn between(units: &[Unit], limits: Limits, seed: u64) -> impl Iterator<Item = Choice> {
    let count = units.len();
    let all: Vec<(usize, usize)> = (0..count)
        .flat_map(|unit| (1..units[unit].versions - 1).map(move |version| (unit, version)))
        .collect();
    spread(all.len(), limits.per_family, seed).into_iter().flat_map(move |at| {
        let (unit, version) = all[at];
        [Outcome::New, Outcome::Old]
            .into_iter()
            .map(move |rest| Choice::all(rest, count).with(unit, Outcome::Version(version)))
    })
}

/// Half of the units new, few of them, or nearly all; now and then an older version; `torn` of 16
/// sectors as zeros, and as many as garbage.
fn random_choice(units: &[Unit], seed: u64, at: usize, torn: usize) -> Choice {
    let mut random = Random::new(seed.wrapping_add(0x5851_f42d * (at as u64 + 1)));
    let kept_of_16 = [8, 2, 14][at % 3];
    let outcome = |unit: &Unit| {
        let dice = random.below(16);
        if matches!(unit.kind, UnitKind::Sector(_)) && !unit.silent {
            if dice < torn {
                return Outcome::Zeros;
            }
            if dice < 2 * torn {
                return Outcome::Garbage(random.number());
            }
        }
        if unit.versions > 2 && random.below(4) == 0 {
            return Outcome::Version(random.below(unit.versions));
        }
        if random.below(16) < kept_of_16 { Outcome::New } else { Outcome::Old }
    };
    units.iter().map(outcome).collect()
}

/// Zeros and garbage.
fn torn(units: &[Unit], limits: Limits, seed: u64) -> impl Iterator<Item = Choice> + '_ {
    let count = units.len();
    let sectors = |silent: bool| -> Vec<usize> {
        let sector = |unit: &usize| {
            matches!(units[*unit].kind, UnitKind::Sector(_)) && units[*unit].silent == silent
        };
        (0..count).filter(sector).collect()
    };
    let live = sectors(false);
    let samples = if live.len() > 1 { limits.torn_samples } else { 0 };
    let pick = |sectors: Vec<usize>, most| -> Vec<usize> {
        spread(sectors.len(), most, seed).into_iter().map(|at| sectors[at]).collect()
    };
    // Garbage where nothing was ever written but zeros: a few are enough.
    let quiet = pick(sectors(true), limits.torn.min(3));
    pick(live, limits.torn)
        .into_iter()
        .chain(quiet)
        .flat_map(move |unit| {
            let torn = [Outcome::Zeros, Outcome::Garbage(Random::new(seed ^ unit as u64).number())];
            [Outcome::New, Outcome::Old]
                .into_iter()
                .flat_map(move |rest| torn.map(|torn| Choice::all(rest, count).with(unit, torn)))
        })
        .chain((0..samples).map(move |at| random_choice(units, !seed, at, 2)))
}

/// All of `0..count`, or `most` of them: one from each of as many equal strides.
fn spread(count: usize, most: usize, seed: u64) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let mut random = Random::new(seed);
    (0..most)
        .map(|stride| {
            let (from, to) = (stride * count / most, (stride + 1) * count / most);
            from + random.below((to - from).max(1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater::fs::sim::SimDisk;
    use highwater::fs::{Barrier, FileSystem, OpenMode};
    use std::collections::BTreeSet;
    use std::path::Path;

    const LIMITS: Limits =
        Limits { exhaustive_units: 12, per_family: 40, samples: 1000, torn: 40, torn_samples: 50 };

    /// The durable file `a` with so many sectors written anew.
    fn point(sectors: usize) -> CrashPoint {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
        file.write_at(&vec![1; 512 * sectors], 0).unwrap();
        file.sync_data(Barrier::Copy).unwrap();
        disk.sync_dir(Path::new("/"), Barrier::Copy).unwrap();
        for sector in 0..sectors {
            file.write_at(&[2; 512], 512 * sector as u64).unwrap();
        }
        disk.crash_point()
    }

    #[test]
    fn up_to_twelve_units_all_combinations_are_tried() {
        let point = point(12);
        let images: BTreeSet<Vec<u8>> = choices(&point, &LIMITS, 1)
            .map(|choice| point.image(&choice).read_file("/a").unwrap())
            .map(|bytes| bytes.chunks(512).map(|sector| sector[0]).collect())
            .collect();
        let plain = images.iter().filter(|image| image.iter().all(|b| [1, 2].contains(b)));
        assert_eq!(plain.count(), 1 << 12);
        for sector in 0..12 {
            let zeroed = images.iter().filter(|image| image[sector] == 0).count();
            let garbled = images.iter().filter(|image| image[sector] > 2).count();
            assert!(zeroed >= 2 && garbled >= 2, "sector {sector}: {zeroed}, {garbled}");
        }
    }

    #[test]
    fn above_twelve_units_families_and_samples_are_tried() {
        let point = point(20);
        let all: Vec<Choice> = choices(&point, &LIMITS, 1).collect();
        assert_eq!(all, choices(&point, &LIMITS, 1).collect::<Vec<_>>());
        assert_eq!(all.len(), 2 + 2 * 20 + 2 * 19 + 1000 + 4 * 20 + 50);
        let distinct: BTreeSet<u64> = all.iter().map(|c| point.image_hash(c)).collect();
        assert!(distinct.len() > 950, "{}", distinct.len());
        for (rest, one) in OPPOSITES {
            assert!(all.contains(&Choice::all(rest, 20)));
            for unit in 0..20 {
                assert!(all.contains(&Choice::all(rest, 20).with(unit, one)));
                let prefix = (0..20).map(|u| if u <= unit { one } else { rest }).collect();
                assert!(unit == 19 || all.contains(&prefix));
            }
        }
    }
}
