//! Medians, percentiles, ratios.

use crate::phases::Better;

/// Median and range of the runs of one engine in one phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle run, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of at least one run.
    pub fn of(runs: &[f64]) -> Option<Summary> {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Summary { median, min, max })
    }

    /// Half the range, as a share of the median.
    pub fn spread(&self) -> f64 {
        if self.max == self.min { 0.0 } else { (self.max - self.min) / 2.0 / self.median }
    }
}

/// Ours over theirs, turned so that more is better. Nothing over nothing is one.
pub fn ratio(better: Better, ours: f64, theirs: f64) -> f64 {
    match better {
        _ if ours == 0.0 && theirs == 0.0 => 1.0,
        Better::More => ours / theirs,
        Better::Less => theirs / ours,
    }
}

/// Whether the first is better.
pub fn is_better(better: Better, one: f64, other: f64) -> bool {
    ratio(better, one, other) > 1.0
}

/// The value below which a share of the sorted values lies (nearest rank).
///
/// # Panics
/// If there is no value.
pub fn percentile<T: Copy>(sorted: &[T], share: f64) -> T {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        assert_eq!(Summary::of(&[]), None);
        let odd = Summary::of(&[3.0, 1.0, 2.0]).expect("values");
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(odd.spread(), 0.5);
        assert_eq!(Summary::of(&[4.0, 1.0]).expect("values").median, 2.5);
    }

    #[test]
    fn ratios_are_turned_so_that_more_is_better() {
        assert_eq!(ratio(Better::More, 30.0, 10.0), 3.0);
        assert_eq!(ratio(Better::Less, 30.0, 10.0), 1.0 / 3.0);
        assert!(is_better(Better::Less, 1.0, 2.0) && is_better(Better::More, 2.0, 1.0));
        assert!(!is_better(Better::More, 1.0, 1.0));
        assert_eq!(ratio(Better::Less, 0.0, 0.0), 1.0);
        assert_eq!(ratio(Better::Less, 0.0, 2.0), f64::INFINITY);
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let sorted: Vec<u32> = (1..=1000).collect();
        assert_eq!(percentile(&sorted, 0.5), 500);
        assert_eq!(percentile(&sorted, 0.99), 990);
        assert_eq!(percentile(&sorted, 0.999), 999);
        assert_eq!(percentile(&sorted, 1.0), 1000);
        assert_eq!(percentile(&[7], 0.001), 7);
    }
}
