//! Mistakes that a test can plant in the engine: what other engines once got wrong, and the ordering
//! edges that no sync names. The crash campaign plants one after another and must notice each, but for the
//! last five, which take threads.
//!
//! Each is a branch at the place where the mistake would be made, `if planted(Mistake::…)`. Without the
//! feature `mistakes`, which only the campaign asks for, [`planted`] is a constant `false` and the branch
//! is gone. With it, a mistake is planted for one thread, and none is at first, so that tests which run
//! side by side do not disturb each other. The engine must then have no threads of its own (but for
//! those of shuttle, which share one of the system's).

/// A mistake. The campaign's table (`highwater-sim mistakes`) says more of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mistake {
    // Ordering edges.
    /// A flush reports success after the write; the sync comes with the next flush.
    AcknowledgedBeforeSync,
    /// A commit is shown to readers before it is synced.
    ShownBeforeSync,
    /// The room for a commit is looked for after it took its place in commit order.
    PlacedBeforeRoom,
    /// A table is published before the log of its commits is written.
    TableBeforeLog,
    /// Log segments are recycled before the checkpoint is published.
    ReleasedBeforePublish,
    /// The inputs of a merge are removed before its output is published.
    RetiredBeforePublish,
    /// Files that nobody needs are removed before the manifest that was read is durable.
    OrphansRemovedFirst,
    /// A manifest is renamed over the old one before its bytes are synced.
    RenamedBeforeSync,
    /// A segment gets its name before its header is synced.
    SegmentNamedBeforeSync,
    /// A segment takes groups before its successor exists.
    GroupsBeforeSuccessor,
    /// A manifest names an epoch before the epoch's segments exist.
    EpochNamedFirst,
    /// The manifest says that the database was closed before the log is synced.
    ClosedBeforeSync,
    // Mistakes of writers.
    /// The result of the log's sync is not looked at.
    SyncResultIgnored,
    /// A failed sync of the log is tried again, and believed when it succeeds.
    FailedSyncRetried,
    /// After a failed sync the log goes on.
    LogGoesOnAfterFailure,
    /// A full disk under a log write counts as "nothing was written".
    FullLogGoesOn,
    /// Of the segments that a flush wrote, only the last is synced.
    OnlyLastSegmentSynced,
    /// The next commit continues in the block of an acknowledged one.
    AcknowledgedBlockRewritten,
    /// The rest of a group's last block keeps what a recycled segment held.
    PaddingLeftOut,
    /// A group vouches for what is written and not synced.
    VouchesForUnsynced,
    /// A commit changes memory before it is sure to have room, and fails.
    AppliedBeforeRoom,
    /// A short write counts as a whole one.
    ShortWriteTaken,
    /// An interrupted sync counts as done.
    InterruptedSyncTaken,
    /// A segment's header names its length before the file has it.
    HeaderBeforeGrowth,
    /// The manifest is overwritten in place.
    ManifestInPlace,
    /// A checkpoint's log position is the end of the log, past commits that it does not hold.
    CheckpointAtEndOfLog,
    /// The log is recycled up to its end, not up to what the checkpoint holds.
    LogResetUnderCommitter,
    /// The log's old range stays live beside what was recovered from it.
    OldLogStaysLive,
    /// Segment headers name a manifest whose name may not be durable.
    HeaderNamesUnsyncedManifest,
    /// A failed sync elsewhere does not keep manifests from being published.
    PublishedAfterFailure,
    /// A merge above the base drops tombstones.
    TombstonesDropped,
    /// A merge does not verify what it reads, and gives it a fresh checksum.
    MergeMendsDamage,
    // Mistakes of recovery.
    /// A short read counts as the end of the file.
    ShortReadTaken,
    /// The replay skips a hole and goes on behind it.
    ReplayPastHole,
    /// A group need not follow the one before it.
    LinkNotChecked,
    /// Nor need its transactions follow in commit order.
    GapsAccepted,
    /// A whole group counts whatever position, epoch and salt it names.
    StaleGroupsAccepted,
    /// A failed checksum is the end of the log, whatever lies behind it.
    MismatchIsEnd,
    /// Zeros are the end of the log, whatever lies behind them.
    ZerosAreEnd,
    /// A torn tail is damage.
    TornTailIsDamage,
    /// A transaction without its end is applied as far as it is there.
    UnfinishedApplied,
    /// The first group of a replay is looked for in one segment only.
    FirstGroupNotSearched,
    /// What the dead process wrote and did not sync is relied on.
    UnsyncedBytesTrusted,
    /// Numbers of table files are given out again.
    FileIdsUsedAgain,
    /// Tables that only the log names are taken for rubbish.
    InstalledAreOrphans,
    /// A manifest older than the log is accepted.
    OlderManifestAccepted,
    /// A log segment of another database is accepted as far as its header goes.
    ForeignLogAccepted,
    /// Without a manifest a new database is made.
    MissingManifestIsNew,
    /// Numbers of keyspaces are given out again.
    KeyspaceIdsUsedAgain,
    /// A read-only open recovers.
    ReadOnlyOpenWrites,
    // Mistakes of readers.
    /// Blocks of tables are not verified.
    BlocksNotVerified,
    /// A block counts as verified although its check failed.
    VerifiedDespiteError,
    /// An iterator goes on behind damage.
    IteratorGoesOn,
    // Mistakes that only threads show: `engine::schedules` plants them, not the campaign.
    /// A reader takes a view and a point and does not look whether the view has changed meanwhile.
    ViewNotLookedAtAgain,
    /// An optimistic transaction commits whatever was changed since its snapshot.
    ConflictsNotLookedFor,
    /// A commit may be shown before it is in the memtable.
    MarkedBeforeApplied,
    /// The tables of a large transaction may be published before the transaction may be shown.
    DueBeforeApplied,
    /// A frozen memtable may be published before another has taken its place in the view.
    DueBeforeReplaced,
}

#[cfg(feature = "mistakes")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// Plants a mistake for this thread, or takes it out.
#[cfg(feature = "mistakes")]
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

/// Whether this mistake is planted.
#[cfg(feature = "mistakes")]
pub fn planted(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// Runs `body` with `other` in the place of `mistake`, if that is planted.
#[cfg(feature = "mistakes")]
pub fn instead<T>(mistake: Mistake, other: Mistake, body: impl FnOnce() -> T) -> T {
    let before = PLANTED.get();
    if before == Some(mistake) {
        PLANTED.set(Some(other));
    }
    let outcome = body();
    PLANTED.set(before);
    outcome
}

/// Never.
#[cfg(not(feature = "mistakes"))]
#[inline(always)]
pub const fn planted(_: Mistake) -> bool {
    false
}

/// Runs `body`.
#[cfg(not(feature = "mistakes"))]
#[inline(always)]
pub fn instead<T>(_: Mistake, _: Mistake, body: impl FnOnce() -> T) -> T {
    body()
}
