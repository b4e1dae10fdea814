//! The campaign itself put to the test: mistakes of other engines, planted in this one.
//!
//! Each is caught if a hunt ([`crate::hunt`]) finds a case that fails within 60 s, and the same cases
//! pass without the mistake. Where a mistake is known from the history of an engine, the table says
//! where it was reported; "here" means that this engine once made it.

use crate::check::Failure;
use crate::hunt::{Ground, Hunted, Wrong, control, hunt};
use crate::report::Tally;
use crate::scenarios;
use highwater::mistakes::Mistake;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A mistake, and where its loss must show.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is planted.
    pub mistake: Mistake,
    /// In words.
    pub what: &'static str,
    /// Where it was made once; empty where no report is known for certain.
    pub history: &'static str,
    /// Where to look.
    pub grounds: &'static [Ground],
}

/// What came of a hunt for one.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The hunt with the mistake.
    pub hunted: Hunted,
    /// The same cases without.
    pub control: Hunted,
}

impl Caught {
    /// Found, and no false alarm.
    pub fn holds(&self) -> bool {
        self.hunted.found.is_some() && self.control.found.is_none()
    }

    /// A row of the table: outcome, cases, seconds, where it was found.
    pub fn row(&self, name: &str, what: &str) -> String {
        let outcome = match failed(self) {
            None => format!("caught by {}", self.hunted.found.as_deref().unwrap_or_default()),
            Some(why) => format!("NOT CAUGHT: {why}"),
        };
        let (cases, seconds) = (self.hunted.cases, self.hunted.time.as_secs_f64());
        format!("{name:<30}{cases:>7} cases{seconds:>7.2} s  {what}\n{:>30}{outcome:.220}", "")
    }
}

const fn case(
    mistake: Mistake,
    what: &'static str,
    history: &'static str,
    grounds: &'static [Ground],
) -> Case {
    Case { mistake, what, history, grounds }
}

/// All mistakes.
pub const CASES: &[Case] = {
    use Ground::{Cuts, Damage, Deaths, Faults, Full, Scenario};
    use Mistake::*;
    const SYNC: &str = "PostgreSQL before 11.2 (\"fsyncgate\", 2018)";
    &[
        case(
            SyncResultIgnored,
            "the result of a sync is not looked at",
            "",
            &[Faults("little", "LogCommit")],
        ),
        case(
            FailedSyncRetried,
            "a failed sync is tried again and believed",
            SYNC,
            &[Faults("little", "LogCommit")],
        ),
        case(
            LogGoesOnAfterFailure,
            "success after a failed sync",
            SYNC,
            &[Faults("little", "LogCommit")],
        ),
        case(
            FullLogGoesOn,
            "a full disk under a log write counts as nothing written",
            "RocksDB, issue 6316 (there: of the manifest)",
            &[Faults("little", "(write /db/log-")],
        ),
        case(
            OnlyLastSegmentSynced,
            "of the segments of a flush only the last is synced",
            "LevelDB, issue 193 (there: the file before is never synced)",
            &[Cuts("recycled"), Cuts("steady")],
        ),
        case(
            AcknowledgedBlockRewritten,
            "the block of an acknowledged commit is written again, and torn",
            "",
            &[Cuts("little")],
        ),
        case(
            PaddingLeftOut,
            "what a recycled file held stays behind a commit",
            "",
            &[Cuts("recycled"), Cuts("steady")],
        ),
        case(
            VouchesForUnsynced,
            "a group vouches for what is not synced",
            "",
            &[Cuts("little"), Cuts("main")],
        ),
        case(
            AppliedBeforeRoom,
            "a failed commit is half there",
            "",
            &[Full("short"), Full("main")],
        ),
        case(
            ShortWriteTaken,
            "a short write counts as a whole one",
            "",
            &[Faults("little", "a short write")],
        ),
        case(InterruptedSyncTaken, "an interrupted sync counts as done", "", &[INTERRUPTED]),
        case(
            HeaderBeforeGrowth,
            "metadata names a length that the file has not got yet",
            "",
            &[Cuts("little")],
        ),
        case(
            ManifestInPlace,
            "a torn slot: the manifest is overwritten in place",
            "RocksDB, pull request 6426 (there: a new manifest takes an old one's number)",
            &[Cuts("little")],
        ),
        case(
            CheckpointAtEndOfLog,
            "a checkpoint starts the log behind commits that it does not hold",
            "",
            &[Cuts("little"), Cuts("main")],
        ),
        case(
            LogResetUnderCommitter,
            "a checkpoint overlaps a committer that has moved the log on",
            "SQLite 3.7.0 to 3.51.2 (\"WAL-reset bug\")",
            &[Cuts("recycled"), Cuts("steady")],
        ),
        case(
            OldLogStaysLive,
            "what one recovery rejected is read by the next",
            "",
            &[Cuts("little")],
        ),
        case(
            HeaderNamesUnsyncedManifest,
            "a segment relies on a manifest whose name is not durable",
            "here, before 0.1",
            &[Deaths("little")],
        ),
        case(
            PublishedAfterFailure,
            "a checkpoint is published, and commits succeed, after a failed sync",
            "",
            &[Faults("little", "Content): durable")],
        ),
        case(
            TombstonesDropped,
            "a merge above the base forgets what was removed",
            "",
            &[Scenario("merges above a base", scenarios::merges_above_a_base)],
        ),
        case(
            MergeMendsDamage,
            "damage gets a fresh checksum by being rewritten",
            "",
            &[Damage("closed", "table-")],
        ),
        case(
            ShortReadTaken,
            "a short read counts as the end of the file",
            "",
            &[Faults("little", "Short(7) on Read")],
        ),
        case(
            ReplayPastHole,
            "the replay goes on behind a hole",
            "RocksDB, pull request 7701",
            &[Cuts("gaps"), Cuts("holes")],
        ),
        case(
            LinkNotChecked,
            "a group need not follow the one before it",
            "",
            &[Cuts("gaps"), Cuts("holes")],
        ),
        case(GapsAccepted, "gaps in commit order are accepted", "", &[Cuts("gaps"), Cuts("holes")]),
        case(
            StaleGroupsAccepted,
            "old records of a recycled file are accepted",
            "Pebble, pull request 580 (there: of a file that RocksDB wrote)",
            &[Cuts("recycled"), Cuts("steady")],
        ),
        case(
            MismatchIsEnd,
            "a failed checksum is taken for the end of the log",
            "Pebble, issues 453 and 864",
            &[Damage("witnessed", "log-")],
        ),
        case(
            ZerosAreEnd,
            "zeros are taken for the end of the log, whatever follows",
            "Pebble, issue 36 (there: a block of zeros inside a batch)",
            &[ROWS],
        ),
        case(
            TornTailIsDamage,
            "a torn tail keeps the database from opening",
            "",
            &[Cuts("little")],
        ),
        case(
            UnfinishedApplied,
            "half a transaction is applied",
            "Pebble, issues 540 and 620 (there a count noticed it)",
            &[Cuts("groups"), Cuts("fragments")],
        ),
        case(
            FirstGroupNotSearched,
            "the first group behind a checkpoint may lie in the next file",
            "here, before 0.1",
            &[Cuts("border")],
        ),
        case(
            UnsyncedBytesTrusted,
            "a recovery serves bytes that were never synced",
            "",
            &[Deaths("little")],
        ),
        case(
            FileIdsUsedAgain,
            "numbers of files are given out again",
            "RocksDB, pull request 7621",
            &[Deaths("little"), Cuts("little")],
        ),
        case(
            InstalledAreOrphans,
            "files that only the log names are removed",
            "",
            &[Cuts("little")],
        ),
        case(
            OlderManifestAccepted,
            "an older manifest is accepted",
            "",
            &[Damage("reopened", "MANIFEST becomes")],
        ),
        case(
            ForeignLogAccepted,
            "a log of another database is accepted",
            "",
            &[Damage("witnessed", "becomes one of another")],
        ),
        case(
            MissingManifestIsNew,
            "without its manifest a database is made anew",
            "",
            &[Damage("closed", "Lose")],
        ),
        case(
            KeyspaceIdsUsedAgain,
            "a new keyspace gets the number of another",
            "",
            &[Cuts("little"), Cuts("main")],
        ),
        case(
            ReadOnlyOpenWrites,
            "a read-only open recovers",
            "RocksDB, issue 10433 (there: it writes a manifest)",
            &[Cuts("little")],
        ),
        case(BlocksNotVerified, "blocks are not verified", "", &[Damage("closed", "table-")]),
        case(
            VerifiedDespiteError,
            "reader state is kept after an error: the second read believes",
            "",
            &[Damage("closed", "table-")],
        ),
        case(
            IteratorGoesOn,
            "an iterator goes on behind damage",
            "",
            &[Damage("closed", "table-")],
        ),
    ]
};

const ROWS: Ground = Ground::Scenario("damaged logs", scenarios::damaged_logs);
const INTERRUPTED: Ground = Ground::Scenario("interrupted syncs", scenarios::interrupted_syncs);

/// Hunts for all, or for the one of that name, on `threads` threads; `done` is told of each, in the order of their ends.
pub fn all(seed: u64, threads: usize, only: &str, done: impl Fn(&Case, &Caught) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !only.is_empty() && format!("{:?}", case.mistake) != only {
                        continue;
                    }
                    let caught = one(case, seed);
                    done(case, &caught);
                }
            });
        }
    });
}

/// Hunts for all, or for those of that name, and prints a row for each. False if one was not caught.
pub fn table(seed: u64, threads: usize, only: &str) -> bool {
    let (total, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    all(seed, threads, only, |case, caught| {
        total.fetch_add(1, Ordering::Relaxed);
        held.fetch_add(usize::from(caught.holds()), Ordering::Relaxed);
        let name = format!("{:?}", case.mistake);
        println!("{}", caught.row(&name, case.what));
        if !case.history.is_empty() {
            println!("{:>30}known from {}", "", case.history);
        }
    });
    let (total, held) = (total.into_inner(), held.into_inner());
    println!("{held} of {total} mistakes caught");
    total == held
}

/// Hunts for one.
pub fn one(case: &Case, seed: u64) -> Caught {
    let wrong = Wrong { mistake: Some(case.mistake), barrier: None };
    let hunted = hunt(case.grounds, seed, wrong);
    let control = control(case.grounds, seed, &hunted);
    Caught { hunted, control }
}

/// Hunts for all and counts.
pub fn campaign(seed: u64, threads: usize, tally: &Tally) {
    all(seed, threads, "", |case, caught| {
        tally.note("mistakes.total", 1);
        tally.note("mistakes.caught", u64::from(caught.holds()));
        if let Some(what) = failed(caught) {
            let planted = format!("the mistake {:?} was planted", case.mistake);
            tally.failed(&Failure::violation(what), &planted, "mistakes");
        }
    });
}

/// Why a hunt does not hold.
pub fn failed(caught: &Caught) -> Option<String> {
    match (&caught.hunted.found, &caught.control.found) {
        (None, _) => Some(format!("{} cases passed with it", caught.hunted.cases)),
        (_, Some(what)) => Some(format!("without it, too: {what}")),
        _ => None,
    }
}
