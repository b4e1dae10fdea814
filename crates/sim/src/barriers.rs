//! The campaign itself put to the test: every sync and every ordering edge of the engine, left out.
//!
//! Each [`Barrier`] names a sync, and each of [`EDGES`] an order in which two steps must come that no
//! sync of its own marks. With any of them gone, a hunt ([`crate::hunt`]) must find a promise broken
//! within 60 s, in cases that all pass with it in place. If it does not, either the campaign is blind
//! there or the barrier is not needed.

use crate::check::Failure;
use crate::hunt::{Ground, Wrong, control, hunt};
use crate::mistakes::{Caught, failed};
use crate::report::Tally;
use crate::scenarios;
use highwater::fs::Barrier;
use highwater::mistakes::Mistake;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A barrier that can be left out.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    wrong: Wrong,
    /// What it says: this before that.
    pub what: &'static str,
    grounds: &'static [Ground],
}

impl Edge {
    /// The name of the sync, or of the edge turned round.
    pub fn name(&self) -> String {
        match self.wrong {
            Wrong { mistake: Some(mistake), .. } => format!("{mistake:?}"),
            Wrong { barrier: Some(barrier), .. } => format!("{barrier:?}"),
            Wrong { .. } => String::new(),
        }
    }
}

const fn sync(barrier: Barrier, what: &'static str, grounds: &'static [Ground]) -> Edge {
    Edge { wrong: Wrong { mistake: None, barrier: Some(barrier) }, what, grounds }
}

const fn edge(mistake: Mistake, what: &'static str, grounds: &'static [Ground]) -> Edge {
    Edge { wrong: Wrong { mistake: Some(mistake), barrier: None }, what, grounds }
}

/// All barriers: the syncs, then the edges.
pub const EDGES: &[Edge] = {
    use Barrier::*;
    use Ground::{Cuts, Deaths, Full, Scenario};
    use Mistake::*;
    const CREATED: &[Ground] = &[Cuts("commits"), Deaths("commits")];
    const LOGGED: &[Ground] = &[Cuts("filled"), Cuts("groups"), Cuts("recycled"), Cuts("packed")];
    const RECYCLED: &[Ground] = &[Cuts("filled"), Cuts("recycled"), Cuts("little")];
    const TABLED: &[Ground] = &[Cuts("table"), Cuts("recycled"), Deaths("table")];
    const MERGED: &[Ground] = &[Cuts("merged"), Cuts("dropped"), Deaths("merged")];
    const SPILLED: &[Ground] = &[Cuts("spilled"), Cuts("little"), Deaths("spilled")];
    const RECOVERED: &[Ground] = &[Deaths("commits"), Deaths("table"), Deaths("little")];
    const RETIRED: &[Ground] = &[Deaths("merged"), Deaths("spilled"), Deaths("table")];
    const UNSYNCED: &[Ground] = &[Cuts("unsynced"), Deaths("unsynced")];
    const LIVES: &[Ground] = &[Cuts("lives"), Deaths("lives"), Cuts("little")];
    const SALVAGE: &[Ground] = &[Scenario("a salvage", scenarios::salvaged)];
    const ARCHIVED: &[Ground] = &[Scenario("backup and log", scenarios::restored_from_the_log)];
    const BACKUP: &[Ground] = &[Scenario("backups", scenarios::backed_up)];
    &[
        sync(
            CreateParent,
            "a found directory's name is durable before commits",
            &[Scenario("a found directory", scenarios::found_directory)],
        ),
        sync(
            CreateAncestor,
            "new directories' names are durable before commits",
            &[Scenario("new directories", scenarios::new_directories)],
        ),
        sync(LogCommit, "a commit is synced before it is acknowledged", CREATED),
        sync(SegmentContent, "a new segment is synced before it is named", CREATED),
        sync(SegmentName, "a new segment is named before its predecessor is used", LOGGED),
        sync(RecycledContent, "a recycled segment is synced before it is named", RECYCLED),
        sync(RecycledName, "a recycled segment is named before its predecessor is used", RECYCLED),
        sync(TableContent, "a checkpoint's table is synced before it is published", TABLED),
        sync(TableName, "a checkpoint's table is named before it is published", TABLED),
        sync(MergeContent, "a merge's table is synced before it is published", MERGED),
        sync(MergeName, "a merge's table is named before it is published", MERGED),
        sync(SpillContent, "a spilled table is synced before it is installed", SPILLED),
        sync(SpillName, "a spilled table is named before it is installed", SPILLED),
        sync(RecoveryContent, "a recovered table is synced before it is published", RECOVERED),
        sync(NewManifestContent, "the first manifest is synced before it is named", CREATED),
        sync(NewManifestName, "the first manifest is named before there is a log", CREATED),
        sync(ManifestContent, "a manifest is synced before it is renamed", CREATED),
        sync(ManifestName, "a manifest's name is durable before it is relied on", LIVES),
        sync(BackupContent, "a backup's table is synced before its record names it", BACKUP),
        sync(BackupName, "a backup's table is named before its record names it", BACKUP),
        sync(BackupRecordContent, "a backup's record is synced before it is named", BACKUP),
        sync(BackupRecordName, "a backup's record is named before it is reported", BACKUP),
        sync(Copy, "a salvaged table is synced before it is published", SALVAGE),
        sync(CopyName, "a salvaged table is named before it is published", SALVAGE),
        edge(AcknowledgedBeforeSync, "synced, then acknowledged", CREATED),
        edge(
            ShownBeforeSync,
            "synced, then shown to readers",
            &[Scenario("failed commits", scenarios::failed_commits_are_not_seen)],
        ),
        edge(PlacedBeforeRoom, "room made, then placed in commit order", &[Full("short")]),
        edge(TableBeforeLog, "the log written, then the table of its commits published", ARCHIVED),
        edge(
            ReleasedBeforePublish,
            "a checkpoint published, then the log released",
            &[Cuts("filled")],
        ),
        edge(RetiredBeforePublish, "a merge published, then its inputs removed", MERGED),
        edge(
            OrphansRemovedFirst,
            "the manifest made durable, then what it does not name removed",
            RETIRED,
        ),
        edge(RenamedBeforeSync, "a manifest synced, then renamed", CREATED),
        edge(SegmentNamedBeforeSync, "a segment synced, then named", LOGGED),
        edge(GroupsBeforeSuccessor, "a successor ready, then groups", LOGGED),
        edge(EpochNamedFirst, "segments ready, then their epoch in the manifest", CREATED),
        edge(ClosedBeforeSync, "the log synced, then marked as closed", UNSYNCED),
    ]
};

/// Hunts for one.
pub fn one(edge: &Edge, seed: u64) -> Caught {
    let hunted = hunt(edge.grounds, seed, edge.wrong);
    let control = control(edge.grounds, seed, &hunted);
    Caught { hunted, control }
}

/// Hunts for all, or for the one of that name, on `threads` threads; `done` is told of each.
pub fn all(seed: u64, threads: usize, only: &str, done: impl Fn(&Edge, &Caught) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(edge) = EDGES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if only.is_empty() || edge.name() == only {
                        done(edge, &one(edge, seed));
                    }
                }
            });
        }
    });
}

/// Hunts for all and prints a row for each. False if the loss of one was not noticed.
pub fn table(seed: u64, threads: usize, only: &str) -> bool {
    let (total, killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    all(seed, threads, only, |edge, caught| {
        total.fetch_add(1, Ordering::Relaxed);
        killed.fetch_add(usize::from(caught.holds()), Ordering::Relaxed);
        println!("{}", caught.row(&edge.name(), edge.what));
    });
    let (total, killed) = (total.into_inner(), killed.into_inner());
    println!("the loss of {killed} of {total} barriers is noticed");
    total == killed
}

/// Hunts for all and counts.
pub fn campaign(seed: u64, threads: usize, tally: &Tally) {
    all(seed, threads, "", |edge, caught| {
        tally.barriers.add(1);
        tally.barriers_found.add(u64::from(caught.holds()));
        if let Some(what) = failed(caught) {
            let left_out = format!("without the barrier {} ({})", edge.name(), edge.what);
            tally.failed(&Failure::violation(what), &left_out, "barriers");
        }
    });
}
