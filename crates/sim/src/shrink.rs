//! Less of a workload that fails: the smallest list of steps that still does.
//!
//! Steps are left out by halves, quarters, …, one by one, then the changes within the transactions that
//! are left, as long as what remains still fails. What is kept is named by its numbers in the full
//! script, `2,5.0,5.3` for step 2 and two changes of step 5, and a replay gives the same to `--keep`.

use crate::script::{Change, Step, Workload};
use std::time::{Duration, Instant};

/// A step that is kept, and which of its changes.
type Kept = (usize, Option<Vec<usize>>);

/// The smallest workload found that `fails`, within that time. The workload itself must fail.
pub fn shrink(
    workload: &Workload,
    patience: Duration,
    mut fails: impl FnMut(&Workload) -> bool,
) -> Workload {
    let started = Instant::now();
    let mut kept: Vec<Kept> = (0..workload.steps.len()).map(|step| (step, None)).collect();
    let mut try_it = |kept: &[Kept]| started.elapsed() < patience && fails(&part(workload, kept));
    halve(&mut kept, &mut try_it);
    for at in 0..kept.len() {
        let (step, _) = kept[at];
        let Some(count) = changes(&workload.steps[step]).map(<[Change]>::len) else { continue };
        let mut inner: Vec<usize> = (0..count).collect();
        halve(&mut inner, &mut |inner| {
            let mut kept = kept.clone();
            kept[at].1 = Some(inner.to_vec());
            !inner.is_empty() && try_it(&kept)
        });
        if inner.len() < count {
            kept[at].1 = Some(inner);
        }
    }
    part(workload, &kept)
}

/// The workload with what `--keep` names.
///
/// # Errors
/// What cannot be read, or names what is not there.
pub fn keep(workload: &Workload, text: &str) -> Result<Workload, String> {
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is no number"));
    let mut kept: Vec<Kept> = Vec::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (step, change) = match item.split_once('.') {
            Some((step, change)) => (number(step)?, Some(number(change)?)),
            None => (number(item)?, None),
        };
        let known = workload.steps.get(step).ok_or_else(|| format!("there is no step {step}"))?;
        match change {
            None => kept.push((step, None)),
            Some(change) if changes(known).is_none_or(|all| change >= all.len()) => {
                return Err(format!("step {step} has no change {change}"));
            }
            Some(change) => match kept.last_mut() {
                Some((last, Some(list))) if *last == step => list.push(change),
                _ => kept.push((step, Some(vec![change]))),
            },
        }
    }
    Ok(part(workload, &kept))
}

/// The steps in words, one line each.
pub fn describe(workload: &Workload) -> String {
    workload.steps.iter().map(|step| format!("  {step:?}\n")).collect()
}

fn part(workload: &Workload, kept: &[Kept]) -> Workload {
    let step = |(step, inner): &Kept| {
        let whole = workload.steps[*step].clone();
        let Some(inner) = inner else { return whole };
        let pick = |all: Vec<Change>| inner.iter().map(|at| all[*at].clone()).collect();
        match whole {
            Step::Batch(all, durability) => Step::Batch(pick(all), durability),
            Step::Optimistic(all, durability) => Step::Optimistic(pick(all), durability),
            Step::Ticket(all) => Step::Ticket(pick(all)),
            other => other,
        }
    };
    let name = |(step, inner): &Kept| match inner {
        None => vec![step.to_string()],
        Some(inner) => inner.iter().map(|change| format!("{step}.{change}")).collect(),
    };
    let names: Vec<String> = kept.iter().flat_map(name).collect();
    Workload {
        steps: kept.iter().map(step).collect(),
        kept: Some(names.join(",")),
        ..workload.clone()
    }
}

fn changes(step: &Step) -> Option<&[Change]> {
    match step {
        Step::Batch(changes, _) | Step::Optimistic(changes, _) | Step::Ticket(changes) => {
            Some(changes)
        }
        _ => None,
    }
}

/// Leaves out runs of items, ever shorter ones, while what is left still fails.
fn halve<T: Clone>(items: &mut Vec<T>, fails: &mut impl FnMut(&[T]) -> bool) {
    let mut run = items.len().div_ceil(2);
    while run > 0 {
        let mut at = 0;
        while at < items.len() {
            let mut fewer = items.clone();
            fewer.drain(at..(at + run).min(items.len()));
            match fails(&fewer) {
                true => *items = fewer,
                false => at += run,
            }
        }
        run /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::workload;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_kept_is_the_least_that_fails_and_can_be_named_again() {
        let whole = workload("main", 3).unwrap();
        let fails = |w: &Workload| {
            let drops = w.steps.iter().any(|step| matches!(step, Step::Drop("a")));
            let puts = w.steps.iter().any(|step| {
                changes(step).is_some_and(|all| {
                    all.iter().any(|c| matches!(c, Change::Remove(_, key) if key == "key0001"))
                })
            });
            drops && puts
        };
        let least = shrink(&whole, LONG, fails);
        assert_eq!(least.steps.len(), 2, "{}", describe(&least));
        assert_eq!(least.steps.iter().filter_map(changes).map(<[_]>::len).sum::<usize>(), 1);
        let again = keep(&whole, least.kept.as_deref().unwrap()).unwrap();
        assert_eq!(describe(&again), describe(&least));
        assert!(keep(&whole, "9999").is_err() && keep(&whole, "0.1").is_err());
    }
}
