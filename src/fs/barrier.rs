//! The names of all syncs. Each stands for one ordering edge that recovery relies on.

/// Which ordering edge a sync makes. The crash campaign deletes them one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Barrier {
    /// The parent directory of a database that is being created.
    CreateParent,
    /// A directory, after one on the way to a new database was created in it.
    CreateAncestor,
    /// A log segment's groups, before they are acknowledged.
    LogCommit,
    /// A new segment's zeros and header, before it gets its name.
    SegmentContent,
    /// The directory, after a new segment got its name and before the segment before it takes groups.
    /// In a recovery also: before a manifest names its tables.
    SegmentName,
    /// A recycled segment's new header, before it gets its new name.
    RecycledContent,
    /// The directory, after a recycled segment got its new name.
    RecycledName,
    /// The bytes of a checkpoint's table, before a manifest names it.
    TableContent,
    /// The directory, after a checkpoint's table was created and before a manifest names it.
    TableName,
    /// The bytes of a merge's table, before a manifest names it.
    MergeContent,
    /// The directory, after a merge's tables were created and before a manifest names them.
    MergeName,
    /// The bytes of a table of a large transaction, before an install record names it.
    SpillContent,
    /// The directory, after the tables of a large transaction were created and before an install record
    /// names them.
    SpillName,
    /// The bytes of a table that a recovery wrote, before a manifest names it. (Its name becomes durable
    /// with those of the next epoch's segments.)
    RecoveryContent,
    /// A new database's first manifest, before it gets its name.
    NewManifestContent,
    /// The directory, after a new database's first manifest got its name.
    NewManifestName,
    /// The new manifest's bytes, before it is renamed over the old one.
    ManifestContent,
    /// The directory, after the manifest was renamed and before anything relies on it.
    ManifestName,
    /// The tables of a backup, before its record names them.
    BackupContent,
    /// The directory of a backup, after its tables were created and before its record names them.
    BackupName,
    /// A backup's record, before it gets its name.
    BackupRecordContent,
    /// The directory of a backup, after its record got its name and before the backup is reported.
    BackupRecordName,
    /// The tables of a salvage or a restore, before a manifest names them; an application's own files.
    Copy,
    /// The directory of a salvage or a restore, after its tables were created.
    CopyName,
}

impl Barrier {
    /// All of them.
    pub const ALL: &'static [Barrier] = &[
        Barrier::CreateParent,
        Barrier::CreateAncestor,
        Barrier::LogCommit,
        Barrier::SegmentContent,
        Barrier::SegmentName,
        Barrier::RecycledContent,
        Barrier::RecycledName,
        Barrier::TableContent,
        Barrier::TableName,
        Barrier::MergeContent,
        Barrier::MergeName,
        Barrier::SpillContent,
        Barrier::SpillName,
        Barrier::RecoveryContent,
        Barrier::NewManifestContent,
        Barrier::NewManifestName,
        Barrier::ManifestContent,
        Barrier::ManifestName,
        Barrier::BackupContent,
        Barrier::BackupName,
        Barrier::BackupRecordContent,
        Barrier::BackupRecordName,
        Barrier::Copy,
        Barrier::CopyName,
    ];
}
