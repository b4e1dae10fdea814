//! The names of all syncs. Each stands for one ordering edge that recovery relies on.

/// Which ordering edge a sync makes. The crash campaign deletes them one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Barrier {
    /// The parent directory, after the database directory was created in it.
    CreateParent,
    /// A log segment's groups, before they are acknowledged.
    LogCommit,
    /// A new or recycled segment's zeros and header, before it gets its name.
    SegmentContent,
    /// The directory, after a segment got its name and before the segment before it takes groups.
    SegmentName,
    /// A table's bytes, before a manifest or an install record names it.
    TableContent,
    /// The directory, after table files were created and before anything names them.
    TableName,
    /// The new manifest's bytes, before it is renamed over the old one.
    ManifestContent,
    /// The directory, after the manifest was renamed and before anything relies on it.
    ManifestName,
    /// A backup's or an export's bytes.
    Copy,
}

impl Barrier {
    /// All of them.
    pub const ALL: &'static [Barrier] = &[
        Barrier::CreateParent,
        Barrier::LogCommit,
        Barrier::SegmentContent,
        Barrier::SegmentName,
        Barrier::TableContent,
        Barrier::TableName,
        Barrier::ManifestContent,
        Barrier::ManifestName,
        Barrier::Copy,
    ];
}
