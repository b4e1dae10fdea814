//! Damaged databases for tests of what comes after a refused open: salvage and repair.

use super::{Damage, SUBJECTS, cases, damaged, subject, verified};
use crate::check::{Failure, guarded};
use crate::model::State;
use crate::verdict::Said;
use highwater::check::Verified;
use highwater::fs::sim::SimDisk;
use std::sync::Mutex;

/// A database with one damage, for tests of what comes after a refused open.
#[derive(Debug)]
pub struct Damaged<'a> {
    /// The disk with the damaged database at [`PATH`](crate::run::PATH).
    pub disk: SimDisk,
    /// States after 0, 1, … commits.
    pub states: &'a [State],
    /// The last commit that a witness vouches for.
    pub vouched: usize,
    /// The last log segment was put back from an older copy, as a crash at that time leaves it; the state
    /// may be any from this commit on.
    pub rolled_back_to: Option<usize>,
    /// How `verify` ends; checked against what was damaged.
    pub said: Said,
    /// What `verify` found.
    pub verified: Option<Verified>,
    /// The case, in words.
    pub what: String,
}

/// Visits every `stride`th case of one database.
pub fn visit(
    name: &str,
    seed: u64,
    stride: usize,
    visit: &mut dyn FnMut(&Damaged<'_>),
) -> Result<(), String> {
    let name = SUBJECTS.iter().find(|known| **known == name).ok_or("no such database")?;
    let subject = subject(name, seed)?;
    for (number, case) in cases(&subject).iter().enumerate() {
        // Of what is rare, everything.
        let many = matches!(case, Damage::Flip(..) | Damage::Sector(..));
        if many && !number.is_multiple_of(stride) {
            continue;
        }
        let (disk, older_log) = damaged(&subject, case).map_err(|failure| failure.what)?;
        let what = subject.describe(case);
        let (said, verified) = verified(&subject, case, &disk, older_log)
            .map_err(|failure| format!("{what}: {}", failure.what))?;
        visit(&Damaged {
            disk,
            states: &subject.states,
            vouched: subject.vouched,
            rolled_back_to: older_log.then_some(subject.checkpointed),
            said,
            verified,
            what: format!("database {name}, case {number}: {what}"),
        });
    }
    Ok(())
}

/// Visits every `stride`th case of all databases, a thread for each, and counts. `check` is guarded against panics;
/// what it finds wrong comes back in words.
pub fn visit_all<C: Default + Send>(
    stride: usize,
    check: impl Fn(&Damaged<'_>, &mut C) -> Result<(), Failure> + Sync,
    add: impl Fn(&mut C, &C) + Sync,
) -> (C, Vec<String>) {
    let all = Mutex::new((C::default(), Vec::new()));
    std::thread::scope(|scope| {
        for name in SUBJECTS {
            let (all, check, add) = (&all, &check, &add);
            scope.spawn(move || {
                let (mut counts, mut failures) = (C::default(), Vec::new());
                let visited = visit(name, 1, stride, &mut |damaged| {
                    if let Err(failure) = guarded(|| check(damaged, &mut counts)) {
                        failures.push(format!("{}: {}", damaged.what, failure.what));
                    }
                });
                failures.extend(visited.err());
                let mut all = all.lock().unwrap();
                add(&mut all.0, &counts);
                all.1.extend(failures);
            });
        }
    });
    all.into_inner().unwrap()
}
