//! The names of a database directory. Whatever is not one of ours is foreign and is left alone.
//!
//! ```text
//! MANIFEST  MANIFEST.new  LOCK  RESERVE
//! log-<base>.hwl     spare-<number>.hwl
//! table-<file id>.hwt     table-<file id>.hwt.new
//! ```
//!
//! Numbers are exactly 16 lower-case hex digits. Invariant: a name has one meaning and a meaning has one
//! name; a temporary name (`*.new`) is never read, only removed.

use crate::types::{FileId, Lsn};
#[cfg(test)]
use crate::wal::segment::segment_name;
use crate::wal::segment::{parse_hex16, parse_segment_name};

/// The manifest. Frozen.
pub const MANIFEST_NAME: &str = "MANIFEST";
/// The manifest while it is written.
pub const MANIFEST_NEW_NAME: &str = "MANIFEST.new";
/// The file whose lock means ownership. Frozen.
pub const LOCK_NAME: &str = "LOCK";
/// Space kept back for a full disk.
pub const RESERVE_NAME: &str = "RESERVE";

const NEW_SUFFIX: &str = ".new";

/// What a name in the directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OurFile {
    /// The manifest.
    Manifest,
    /// A manifest that was being written.
    ManifestNew,
    /// The lock.
    Lock,
    /// The reserve of disk space.
    Reserve,
    /// A segment, by its base.
    Segment(Lsn),
    /// A table.
    Table(FileId),
    /// A table that was being written.
    TableNew(FileId),
    /// A zeroed segment that waits for use.
    SpareSegment(u64),
    /// Not ours.
    Foreign,
}

/// What a name in the directory means.
pub fn classify(name: &str) -> OurFile {
    match name {
        MANIFEST_NAME => OurFile::Manifest,
        MANIFEST_NEW_NAME => OurFile::ManifestNew,
        LOCK_NAME => OurFile::Lock,
        RESERVE_NAME => OurFile::Reserve,
        _ => None
            .or_else(|| parse_segment_name(name).map(OurFile::Segment))
            .or_else(|| parse_table_name(name).map(OurFile::Table))
            .or_else(|| parse_table_name(name.strip_suffix(NEW_SUFFIX)?).map(OurFile::TableNew))
            .or_else(|| parse_spare_name(name).map(OurFile::SpareSegment))
            .unwrap_or(OurFile::Foreign),
    }
}

impl OurFile {
    #[cfg(test)]
    /// The name that [`classify`] takes for this; `None` for what is not ours.
    pub fn name(&self) -> Option<String> {
        Some(match *self {
            OurFile::Manifest => MANIFEST_NAME.to_owned(),
            OurFile::ManifestNew => MANIFEST_NEW_NAME.to_owned(),
            OurFile::Lock => LOCK_NAME.to_owned(),
            OurFile::Reserve => RESERVE_NAME.to_owned(),
            OurFile::Segment(base) => segment_name(base),
            OurFile::Table(id) => table_name(id),
            OurFile::TableNew(id) => table_new_name(id),
            OurFile::SpareSegment(number) => spare_segment_name(number),
            OurFile::Foreign => return None,
        })
    }
}

/// Name of a table.
pub fn table_name(id: FileId) -> String {
    format!("table-{:016x}.hwt", id.0)
}

/// Name of a table while it is written.
#[cfg(test)]
pub fn table_new_name(id: FileId) -> String {
    format!("table-{:016x}.hwt{NEW_SUFFIX}", id.0)
}

/// Name of a zeroed segment that waits for use.
pub fn spare_segment_name(number: u64) -> String {
    format!("spare-{number:016x}.hwl")
}

/// The number in a table's name; `None` if it is no such name. 0 is never a file id.
pub fn parse_table_name(name: &str) -> Option<FileId> {
    let id = parse_hex16(name.strip_prefix("table-")?.strip_suffix(".hwt")?)?;
    (id != 0).then_some(FileId(id))
}

fn parse_spare_name(name: &str) -> Option<u64> {
    parse_hex16(name.strip_prefix("spare-")?.strip_suffix(".hwl")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::testing::Random;

    /// Changing these names means a new format version.
    #[test]
    fn golden() {
        let cases = [
            ("MANIFEST", OurFile::Manifest),
            ("MANIFEST.new", OurFile::ManifestNew),
            ("LOCK", OurFile::Lock),
            ("RESERVE", OurFile::Reserve),
            ("log-0000000000100000.hwl", OurFile::Segment(Lsn(0x10_0000))),
            ("table-00000000000000af.hwt", OurFile::Table(FileId(0xaf))),
            ("table-00000000000000af.hwt.new", OurFile::TableNew(FileId(0xaf))),
            ("spare-0000000000000000.hwl", OurFile::SpareSegment(0)),
        ];
        for (name, file) in cases {
            assert_eq!(classify(name), file);
            assert_eq!(file.name().as_deref(), Some(name));
        }
        assert_eq!(OurFile::Foreign.name(), None);
    }

    #[test]
    fn every_number_round_trips() {
        let mut random = Random(51);
        for round in 0..2000 {
            let shift = random.below(64);
            let number = if round == 0 { u64::MAX } else { (random.next() >> shift).max(1) };
            for file in [
                OurFile::Segment(Lsn(number)),
                OurFile::Table(FileId(number)),
                OurFile::TableNew(FileId(number)),
                OurFile::SpareSegment(number),
            ] {
                assert_eq!(classify(&file.name().unwrap()), file);
            }
        }
    }

    #[test]
    fn names_that_are_almost_ours_are_foreign() {
        for name in [
            "",
            ".",
            "manifest",
            "MANIFEST.new.new",
            "MANIFEST ",
            "LOCK.new",
            "log-.hwl",
            "log-000000000010000.hwl",
            "log-00000000000100000.hwl",
            "log-00000000001000A0.hwl",
            "log-+000000000100000.hwl",
            "log-0000000000100000.hwt",
            "log-0000000000100000.hwl.new",
            "log-00000000001000é.hwl",
            "table-0000000000000000.hwt",
            "table-0000000000000000.hwt.new",
            "table-00000000000000af.hwl",
            "table-00000000000000AF.hwt",
            "spare-00000000000000af.hwt",
            "spare-00000000000000af.hwl.new",
            ".new",
        ] {
            assert_eq!(classify(name), OurFile::Foreign, "{name:?}");
        }
    }

    /// A name has one meaning: whatever is taken for ours is exactly the name that we would give.
    #[test]
    fn changed_names_are_foreign_or_exact() {
        let mut random = Random(52);
        let seeds = ["log-0000000000100000.hwl", "table-00000000000000af.hwt.new", "MANIFEST.new"];
        for round in 0..20_000 {
            let mut name = seeds[round % seeds.len()].as_bytes().to_vec();
            let at = random.below(name.len());
            name[at] = b' ' + random.below(95) as u8;
            let name = String::from_utf8(name).unwrap();
            if let Some(again) = classify(&name).name() {
                assert_eq!(again, name);
            }
        }
    }
}
