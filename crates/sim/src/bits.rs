//! Single-bit damage: every bit of every byte of every file of small databases.
//!
//! Each flip is judged as all damage is ([`crate::damage`]). It is *detected* if the open refuses with an
//! error that names a file, if reads that meet it say so, or if it lies in the last commits, for which
//! nothing vouches, and the open reports that it cut them; it is *without effect* if the whole state, read
//! by iterators and by lookups, is what it was. Anything else is *undetected*. The kinds are counted for
//! each type of file.
//!
//! `RESERVE` is zeros that nothing reads, hundreds of KiB of them: of its bytes one in so many is tried, and
//! counted apart (`bit_flips_reserve`).

use crate::check::{Failure, guarded};
use crate::damage::{Damage, Finding, SUBJECTS, Subject, check, small_subject};
use crate::report::Tally;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of `RESERVE` of which one is tried.
const RESERVE_STRIDE: usize = 1024;

/// Cases that a thread takes at once.
const BATCH: usize = 256;

/// Of which bytes all bits are flipped. Of manifests it is every byte.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// One in so many of those that were written.
    pub written: usize,
    /// One in so many of the zeros in a log segment behind everything that was written.
    pub zeros: usize,
}

/// Every byte.
pub const EVERY: Sample = Sample { written: 1, zeros: 1 };

/// Flips the bits of these databases.
pub fn campaign(names: &[&str], seed: u64, sample: Sample, threads: usize, tally: &Tally) {
    ["total", "undetected"].iter().for_each(|key| tally.note(&format!("bit_flips.{key}"), 0));
    for name in SUBJECTS.iter().filter(|name| names.contains(name)) {
        match small_subject(name, seed) {
            Ok(subject) => flips(&subject, seed, sample, threads, tally),
            Err(what) => {
                tally.failed(&Failure::violation(what), &format!("database {name}"), "bits");
            }
        }
    }
}

fn flips(subject: &Subject, seed: u64, sample: Sample, threads: usize, tally: &Tally) {
    let cases = cases(subject, sample);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    let Some(batch) = cases.get(from..cases.len().min(from + BATCH)) else {
                        return;
                    };
                    if batch.is_empty() {
                        return;
                    }
                    for (at, case) in batch.iter().enumerate() {
                        one(subject, seed, from + at, case, tally);
                    }
                }
            });
        }
    });
}

fn one(subject: &Subject, seed: u64, number: usize, case: &Damage, tally: &Tally) {
    let Damage::Flip(path, offset, _) = case else { return };
    let kind = kind(path);
    let outcome = guarded(|| check(subject, number, case));
    if kind == "reserve" {
        tally.note("bit_flips_reserve", 1);
    } else {
        tally.note("bit_flips.total", 1);
        tally.note("bit_flips.undetected", u64::from(outcome.is_err()));
    }
    match outcome {
        Ok(finding) => {
            let found = match finding {
                Finding::Refused => "refused",
                Finding::Unread => "without_effect",
                Finding::Cut => "cut_and_reported",
                Finding::Read => "found_by_reads",
                Finding::RolledBack => "rolled_back",
            };
            tally.note(&format!("bit_flips.{kind}_{found}"), 1);
        }
        Err(failure) => {
            let what =
                format!("{}: bit of byte {offset}: {}", path.display(), subject.describe(case));
            tally.failed(&failure, &what, &format!("bits --seed {seed}"));
        }
    }
}

fn cases(subject: &Subject, sample: Sample) -> Vec<Damage> {
    let mut cases = Vec::new();
    for (path, bytes) in subject.files() {
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        for at in 0..bytes.len() {
            let every = match kind(path) {
                "reserve" => RESERVE_STRIDE,
                "log" if at >= written => sample.zeros,
                "manifest" => 1,
                _ => sample.written,
            };
            if at % every == 0 {
                let flip = |bit| Damage::Flip(path.clone(), at as u64, bit);
                cases.extend((0..8).map(flip));
            }
        }
    }
    cases
}

/// The type of a file.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match &*name {
        "MANIFEST" => "manifest",
        "RESERVE" => "reserve",
        "LOCK" => "lock",
        name if name.starts_with("log-") => "log",
        name if name.starts_with("table-") => "table",
        name if name.starts_with("spare-") => "spare",
        _ => "other",
    }
}
