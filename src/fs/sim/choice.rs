//! Deciding the units of a crash point: one [`Choice`], and which choices are worth trying.
//!
//! With few units all combinations are tried. With many, those that find bugs: nothing and everything,
//! each unit alone, each one missing, every prefix and suffix in the order of writing, versions in
//! between, and seeded random ones. Units whose versions are equal bytes are left out of all this; they
//! matter only when torn content is asked for.

use super::crash::{CrashPoint, Unit, UnitKind};
use super::{Random, mix};

/// What one unit is after the power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As it was before all unsynced changes.
    Old,
    /// As it was written last.
    New,
    /// As of one of its versions: 0 is `Old`, `versions - 1` and everything above is `New`.
    Version(usize),
    /// A sector of zeros. Names and lengths have no such state: `Old`.
    Zeros,
    /// A sector of random bytes. Names and lengths have no such state: `Old`.
    Garbage(u64),
}

/// An outcome for every unit of one crash point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    outcomes: Vec<Outcome>,
}

/// How many choices to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnumerationLimits {
    /// Up to this many units (or while there are at most `2^exhaustive_units` combinations of all
    /// versions), all combinations.
    pub exhaustive_units: u32,
    /// Above it, at most so many choices of each family (each alone, each missing, prefixes, suffixes,
    /// versions in between), spread evenly over the units.
    pub per_family: usize,
    /// Above it, so many random choices.
    pub samples: usize,
    /// Also bring single sectors back as zeros and as garbage, at most `per_family` of them.
    pub torn_sectors: bool,
}

impl Default for EnumerationLimits {
    fn default() -> EnumerationLimits {
        EnumerationLimits { exhaustive_units: 12, per_family: 64, samples: 64, torn_sectors: false }
    }
}

impl Outcome {
    /// Which of `newest + 1` versions this is.
    pub(super) fn version(self, newest: usize) -> usize {
        match self {
            Outcome::New => newest,
            Outcome::Version(version) => version.min(newest),
            Outcome::Old | Outcome::Zeros | Outcome::Garbage(_) => 0,
        }
    }
}

impl Choice {
    /// The same outcome for all units.
    pub fn all(outcome: Outcome, units: usize) -> Choice {
        Choice { outcomes: vec![outcome; units] }
    }

    /// The outcome of a unit; `Old` for units that the choice does not know.
    pub fn outcome(&self, unit: usize) -> Outcome {
        self.outcomes.get(unit).copied().unwrap_or(Outcome::Old)
    }

    /// Changes the outcome of one unit.
    pub fn set(&mut self, unit: usize, outcome: Outcome) {
        if self.outcomes.len() <= unit {
            self.outcomes.resize(unit + 1, Outcome::Old);
        }
        self.outcomes[unit] = outcome;
    }

    /// This choice with one outcome changed.
    pub fn with(mut self, unit: usize, outcome: Outcome) -> Choice {
        self.set(unit, outcome);
        self
    }

    /// All outcomes, in the order of the units.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.outcomes.iter().fold(0, |hash, outcome| {
            mix(hash
                ^ match outcome {
                    Outcome::Old => 1,
                    Outcome::New => 2,
                    Outcome::Version(version) => mix(3 + *version as u64),
                    Outcome::Zeros => 4,
                    Outcome::Garbage(seed) => mix(!seed),
                })
        })
    }
}

impl FromIterator<Outcome> for Choice {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Choice {
        Choice { outcomes: outcomes.into_iter().collect() }
    }
}

impl CrashPoint {
    /// Choices to try, as the limits say; the same for the same seed. Different choices may give equal
    /// images: see [`CrashPoint::image_hash`].
    pub fn choices<'a>(
        &'a self,
        limits: &EnumerationLimits,
        seed: u64,
    ) -> impl Iterator<Item = Choice> + use<'a> {
        let limits = *limits;
        let units = self.units();
        let live: Vec<usize> = (0..units.len()).filter(|unit| !units[*unit].silent).collect();
        let bound = 1usize.checked_shl(limits.exhaustive_units).unwrap_or(usize::MAX);
        let combinations = live.iter().try_fold(1usize, |product, unit| {
            product.checked_mul(units[*unit].versions).filter(|product| *product <= bound)
        });
        let torn = torn_choices(units, limits, seed);
        let choices: Box<dyn Iterator<Item = Choice>> = match combinations {
            Some(combinations) => Box::new(all_versions(units, live, combinations)),
            None => {
                let middle = middle_choices(units, limits, seed);
                let random = random_choices(units, limits, seed);
                let subsets: Box<dyn Iterator<Item = Choice>> =
                    if live.len() <= limits.exhaustive_units as usize {
                        Box::new(all_subsets(units.len(), live))
                    } else {
                        Box::new(families(units.len(), live, limits, seed))
                    };
                Box::new(subsets.chain(middle).chain(random))
            }
        };
        choices.chain(torn)
    }

    /// One random choice: every unit gets any of its versions.
    pub fn random_choice(&self, seed: u64) -> Choice {
        let mut random = Random::new(seed);
        let version = |unit: &Unit| Outcome::Version(random.below(unit.versions));
        self.units().iter().map(version).collect()
    }
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
            choice.set(*unit, digit(number % units[*unit].versions, units[*unit].versions));
            number /= units[*unit].versions;
        }
        choice
    })
}

fn all_subsets(units: usize, live: Vec<usize>) -> impl Iterator<Item = Choice> {
    (0..1usize << live.len()).map(move |set| {
        let mut choice = Choice::all(Outcome::New, units);
        for (bit, unit) in live.iter().enumerate() {
            choice.set(*unit, digit(set >> bit & 1, 2));
        }
        choice
    })
}

/// Nothing, everything, each alone, each missing, prefixes, suffixes.
fn families(
    units: usize,
    live: Vec<usize>,
    limits: EnumerationLimits,
    seed: u64,
) -> impl Iterator<Item = Choice> {
    const NOT: [(Outcome, Outcome); 2] =
        [(Outcome::Old, Outcome::New), (Outcome::New, Outcome::Old)];
    let extremes = NOT.into_iter().map(move |(most, _)| Choice::all(most, units));
    let ends = live.clone();
    let singles = spread(live.len(), limits.per_family, seed).into_iter().flat_map(move |at| {
        let unit = live[at];
        NOT.into_iter().map(move |(most, one)| Choice::all(most, units).with(unit, one))
    });
    // Between the first and the last unit only: the ends are "nothing" and "everything".
    let cuts = spread(ends.len().saturating_sub(1), limits.per_family, mix(seed));
    let runs = cuts.into_iter().flat_map(move |at| {
        let end = ends[at];
        let run = move |before, after| {
            (0..units).map(|unit| if unit <= end { before } else { after }).collect::<Choice>()
        };
        NOT.into_iter().map(move |(before, after)| run(before, after))
    });
    extremes.chain(singles).chain(runs)
}

/// Each version that is neither old nor new, with all others new and with all others old.
fn middle_choices(
    units: &[Unit],
    limits: EnumerationLimits,
    seed: u64,
) -> impl Iterator<Item = Choice> {
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

/// Random choices: half of the units new, few of them, or nearly all; now and then an older version.
fn random_choices(
    units: &[Unit],
    limits: EnumerationLimits,
    seed: u64,
) -> impl Iterator<Item = Choice> + '_ {
    (0..limits.samples).map(move |sample| {
        let mut random = Random::new(mix(seed).wrapping_add(sample as u64));
        let kept_of_16 = [8, 2, 14][sample % 3];
        let outcome = |unit: &Unit| {
            if unit.versions > 2 && random.below(4) == 0 {
                return Outcome::Version(random.below(unit.versions));
            }
            if random.below(16) < kept_of_16 { Outcome::New } else { Outcome::Old }
        };
        units.iter().map(outcome).collect()
    })
}

fn torn_choices(
    units: &[Unit],
    limits: EnumerationLimits,
    seed: u64,
) -> impl Iterator<Item = Choice> {
    let count = units.len();
    let is_sector = |unit: &usize| matches!(units[*unit].kind, UnitKind::Sector(_));
    let sectors: Vec<usize> = (0..count).filter(is_sector).collect();
    let most = if limits.torn_sectors { limits.per_family } else { 0 };
    spread(sectors.len(), most, seed).into_iter().flat_map(move |at| {
        let unit = sectors[at];
        let torn = [Outcome::Zeros, Outcome::Garbage(mix(seed ^ unit as u64))];
        [Outcome::New, Outcome::Old]
            .into_iter()
            .flat_map(move |rest| torn.map(|torn| Choice::all(rest, count).with(unit, torn)))
    })
}

fn digit(version: usize, versions: usize) -> Outcome {
    match version {
        0 => Outcome::Old,
        _ if version == versions - 1 => Outcome::New,
        _ => Outcome::Version(version),
    }
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
