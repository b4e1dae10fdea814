//! Damage: bits flip; sectors are zeroed, stale, or hold what belongs elsewhere; files are cut, lost, swapped,
//! or put back from an older copy.
//!
//! The databases ([`crate::subjects`]): some that were closed, one whose process died after a witness was
//! written, and one whose process died before. An open of the damaged files may
//! refuse with a typed error that names a file, and then no byte of the directory has changed; or show
//! exactly the same state, because the damaged bytes are not read or not needed; or show it up to where
//! a read meets the damage and says so. Only without a witness may it cut the last commits, and reports
//! that. Anything else (another state, a panic, a hang) is a violation. `verify` must have found what the
//! open and the reads find ([`crate::verdict`]).
//!
//! One limit: the last log segment of a database that was not closed, put back from an older copy, is
//! byte for byte what a crash at the time of the copy leaves, and nothing outside that file says
//! otherwise. The database is then found as it was at that time, never older than its last checkpoint.

mod cases;
mod opened;
mod sectors;
mod visit;

pub use crate::subjects::{small_subject, subject};
pub use cases::cases;
pub use visit::{Damaged, visit, visit_all};

use crate::check::{Failure, FailureKind, guarded};
use crate::model::State;
use crate::report::Tally;
use crate::run::PATH;
use crate::script::Workload;
use crate::subjects::OLDER;
use crate::verdict::{self, Promised, Said};
use highwater::check::Verified;
use highwater::fs::sim::SimDisk;
use opened::judge;
use sectors::{SECTOR, sector_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of the databases.
pub const SUBJECTS: [&str; 4] = ["closed", "witnessed", "unwitnessed", "emptied"];

/// The same, and one with log of two lives, in which an older manifest has all that it names.
pub const DAMAGED: [&str; 5] = ["closed", "witnessed", "unwitnessed", "emptied", "reopened"];

/// A database to damage.
#[derive(Debug)]
pub struct Subject {
    pub(crate) name: &'static str,
    pub(crate) workload: Arc<Workload>,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// A disk with these files, all durable.
    pub(crate) disk: SimDisk,
    /// Earlier contents of the files, and files of another database.
    pub(crate) others: Vec<(&'static str, PathBuf, Vec<u8>)>,
    pub(crate) states: Vec<State>,
    /// The last commit that a witness vouches for.
    pub(crate) vouched: usize,
    /// The last commit that a checkpoint has seen.
    pub(crate) checkpointed: usize,
    /// It was closed.
    pub(crate) closed: bool,
    /// The bytes that something vouches for.
    pub(crate) promised: Promised,
}

/// What is done to the files.
#[derive(Clone, Debug)]
pub enum Damage {
    /// A bit of the byte at an offset is another one.
    Flip(PathBuf, u64, u8),
    /// The file is so long.
    Length(PathBuf, u64),
    /// The file is gone.
    Lose(PathBuf),
    /// The file holds what another one held, by its number among [`Subject`]'s others.
    Replace(PathBuf, usize),
    /// There is a file more.
    Foreign(&'static str),
    /// Two files have changed places.
    Swap(PathBuf, PathBuf),
    /// A sector, by its number, holds something else.
    Sector(PathBuf, u64, Sector),
}

/// What a sector holds instead.
#[derive(Clone, Debug)]
pub enum Sector {
    /// Zeros.
    Zeros,
    /// What lies at the same place of another file, by its number among [`Subject`]'s others: an older
    /// copy, or one of another database.
    Of(usize),
    /// What belongs elsewhere: another file or the same one, and a sector.
    From(PathBuf, u64),
}

/// What an open made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A typed error, and no file changed.
    Refused,
    /// The same state.
    Unread,
    /// The last commits are gone, and that was reported.
    Cut,
    /// Reads that meet the damage say so.
    Read,
    /// As it was when the older log was copied.
    RolledBack,
}

/// Runs every `stride`th case of flips (manifest flips and everything else always) for these databases.
pub fn campaign(names: &[&str], seed: u64, stride: usize, threads: usize, tally: &Tally) {
    for name in DAMAGED.into_iter().filter(|name| names.contains(name)) {
        let subject = match subject(name, seed) {
            Ok(subject) => subject,
            Err(what) => {
                tally.failed(&Failure::violation(what), name, "");
                continue;
            }
        };
        let cases = cases(&subject);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (subject, cases) = (&subject, &cases);
                scope.spawn(move || {
                    let picked = cases.iter().enumerate().filter(|(number, case)| {
                        let sampled = matches!(case, Damage::Flip(path, ..) if !is_manifest(path));
                        number % threads == thread
                            && (!sampled || (number / threads).is_multiple_of(stride))
                    });
                    for (number, case) in picked {
                        one(subject, seed, number, case, tally);
                    }
                });
            }
        });
    }
}

/// Repeats one case.
pub fn replay(name: &str, seed: u64, number: usize, tally: &Tally) {
    let Some(name) = DAMAGED.iter().find(|known| **known == name) else { return };
    match subject(name, seed) {
        Ok(subject) => match cases(&subject).get(number) {
            Some(case) => one(&subject, seed, number, case, tally),
            None => eprintln!("there is no case {number}"),
        },
        Err(what) => eprintln!("{what}"),
    }
}

fn one(subject: &Subject, seed: u64, number: usize, case: &Damage, tally: &Tally) {
    tally.damage.add(1);
    match guarded(|| check(subject, number, case)) {
        Ok(Finding::Refused) => tally.damage_refused.add(1),
        Ok(Finding::Unread) => tally.damage_unread.add(1),
        Ok(Finding::Cut) => tally.damage_cut.add(1),
        Ok(Finding::Read) => tally.damage_read.add(1),
        Ok(Finding::RolledBack) => tally.damage_rolled_back.add(1),
        Err(failure) => {
            let failure = match failure.kind {
                // Refusing is right here; a later refusal is a broken promise.
                FailureKind::Refused => Failure { kind: FailureKind::Violation, ..failure },
                _ => failure,
            };
            let case = subject.describe(case);
            let replay = format!("damage {} --seed {seed} --case {number}", subject.name);
            tally.failed(&failure, &format!("database {}: {case}", subject.name), &replay);
        }
    }
}

impl Subject {
    /// Its files and their bytes.
    pub fn files(&self) -> &BTreeMap<PathBuf, Vec<u8>> {
        &self.files
    }

    /// A case in words.
    pub fn describe(&self, case: &Damage) -> String {
        match case {
            Damage::Replace(path, index) => {
                format!("{} becomes {}", path.display(), self.others[*index].0)
            }
            Damage::Sector(path, sector, Sector::Of(index)) => {
                format!(
                    "sector {sector} of {} is that of {}",
                    path.display(),
                    self.others[*index].0
                )
            }
            case => format!("{case:?}"),
        }
    }
}

/// Checks one case.
pub fn check(subject: &Subject, number: usize, case: &Damage) -> Result<Finding, Failure> {
    let (disk, older_log) = damaged(subject, case)?;
    let (said, _) = verified(subject, case, &disk, older_log)?;
    let finding = judge(subject, &disk, number, older_log)?;
    agree(said, finding)?;
    Ok(finding)
}

fn verified(
    subject: &Subject,
    case: &Damage,
    disk: &SimDisk,
    older_log: bool,
) -> Result<(Said, Option<Verified>), Failure> {
    let is_legal = older_log || is_older_manifest(subject, case);
    verdict::judge(&subject.promised, &subject.files, disk, is_legal)
}

/// An older manifest may be what a crash leaves: one in the middle of the publication of the next, as
/// long as nothing was written under that. Then the state must be the same, which [`judge`] sees to.
fn is_older_manifest(subject: &Subject, case: &Damage) -> bool {
    matches!(case, Damage::Replace(path, index) | Damage::Sector(path, _, Sector::Of(index))
        if is_manifest(path) && subject.others[*index].0 == OLDER)
}

/// `verify` must find what an open or a read finds.
fn agree(said: Said, finding: Finding) -> Result<(), Failure> {
    let agrees = match finding {
        Finding::Refused => said != Said::Clean,
        Finding::Read => matches!(said, Said::Damage | Said::Loss),
        Finding::Cut | Finding::RolledBack => said == Said::Clean,
        Finding::Unread => matches!(said, Said::Clean | Said::Damage),
    };
    if agrees {
        return Ok(());
    }
    Err(Failure::violation(format!("an open finds {finding:?}, verify says {said:?}")))
}

/// The disk with one damage; and whether that is a log put back from an older copy.
fn damaged(subject: &Subject, case: &Damage) -> Result<(SimDisk, bool), Failure> {
    let disk = subject.disk.fork();
    let put = |path: &Path, bytes: &[u8]| disk.write_file(path, bytes).map_err(broken);
    let file = |path: &PathBuf| subject.files.get(path).cloned().unwrap_or_default();
    match case {
        Damage::Flip(path, offset, bit) => {
            disk.flip_bit(path, *offset, *bit).map_err(broken)?;
        }
        Damage::Length(path, length) => {
            let mut bytes = file(path);
            bytes.resize(*length as usize, 0);
            put(path, &bytes)?;
        }
        Damage::Lose(path) => {
            disk.remove_file(path).map_err(broken)?;
        }
        Damage::Replace(path, index) => put(path, &subject.others[*index].2)?,
        Damage::Foreign(name) => put(&Path::new(PATH).join(name), b"hello")?,
        Damage::Swap(one, two) => {
            let (first, second) = (file(one), file(two));
            put(one, &second)?;
            put(two, &first)?;
        }
        Damage::Sector(path, sector, instead) => {
            let instead = match instead {
                Sector::Zeros => vec![0; SECTOR],
                Sector::Of(index) => sector_of(&subject.others[*index].2, *sector),
                Sector::From(path, sector) => sector_of(&file(path), *sector),
            };
            let mut bytes = file(path);
            let from = *sector as usize * SECTOR;
            let end = bytes.len().min(from + SECTOR);
            bytes[from..end].copy_from_slice(&instead[..end - from]);
            put(path, &bytes)?;
        }
    }
    let older_log = match case {
        Damage::Replace(path, index) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("log-") && subject.others[*index].0 == OLDER && !subject.closed
        }
        _ => false,
    };
    Ok((disk, older_log))
}

fn is_manifest(path: &Path) -> bool {
    path.ends_with("MANIFEST")
}

fn broken(error: std::io::Error) -> Failure {
    Failure::violation(error.to_string())
}
