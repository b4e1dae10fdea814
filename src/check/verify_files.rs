//! The files of a directory against one another, in [`verify`](super::verify()): whether the manifest can
//! be read, whether it is the one of the files beside it, and whether they have their own names.
//!
//! A sound manifest of another database, or an older one of this, makes every other file look wrong. The
//! headers of log and tables say which it is: what none of them agrees with, or what names an older
//! generation than one of them was written under, is the manifest's own damage.

use super::verify::{Finding, Loss, finding};
use super::verify_pass::Pass;
use crate::error::{Error, Result};
use crate::fs::{self, OpenMode};
use crate::manifest::{Manifest, names};
use crate::recovery::directory::{Directory, read_manifest};
use crate::table::stated_table;
use crate::types::DatabaseId;
use crate::wal::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};

impl Pass<'_> {
    /// The manifest; if it cannot be read, that is a finding.
    pub(super) fn manifest(&mut self, directory: &Directory) -> Result<Option<Manifest>> {
        let read = match directory.has_manifest {
            true => read_manifest(&**self.fs, self.dir, true).map(Some),
            false => directory.check_empty(self.dir).map(|()| None),
        };
        match read {
            Ok(manifest) => Ok(manifest),
            Err(error @ Error::Damage { .. }) => {
                let found = finding(&error, Loss::Unknown);
                self.add(self.with_extent(found));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The extent of what a refusal names by its first byte alone: the whole manifest, as its checksum
    /// covers it whole, or the header of a segment.
    pub(super) fn with_extent(&self, found: Finding) -> Finding {
        let bytes = self.fs.open(&found.file, OpenMode::Read).and_then(|file| file.len());
        let bytes = bytes.unwrap_or(0);
        if found.file.ends_with(names::MANIFEST_NAME) {
            return Finding { offset: 0, bytes, ..found };
        }
        match (found.offset, found.bytes) {
            (0, 0) => Finding { bytes: bytes.min(SEGMENT_HEADER_BYTES as u64), ..found },
            _ => found,
        }
    }

    /// A sound manifest that is not the one of the other files: without this only they would be blamed.
    pub(super) fn doubt(&mut self, manifest: &Manifest, directory: &Directory) {
        let head = |name: &str| self.head(name);
        let headers: Vec<(&str, SegmentHeader)> = directory
            .segments
            .iter()
            .filter_map(|segment| {
                let header = SegmentHeader::decode(&head(&segment.name)?).ok()?;
                Some((segment.name.as_str(), header))
            })
            .collect();
        let tables = directory.tables.keys().filter_map(|id| {
            stated_table(&head(&names::table_name(*id))?).map(|(database, _)| database)
        });
        let others: Vec<DatabaseId> =
            headers.iter().map(|(_, header)| header.database).chain(tables).collect();
        let newest = headers
            .iter()
            .filter(|(_, header)| header.database == manifest.database)
            .max_by_key(|(_, header)| header.generation)
            .filter(|(_, header)| header.generation > manifest.generation);
        let what = match (others.first(), newest) {
            (Some(other), _) if !others.contains(&manifest.database) => format!(
                "the manifest is of database {}, and the other files are of database {other}: it was \
                 put here from elsewhere",
                manifest.database
            ),
            (_, Some((name, header))) => format!(
                "the manifest is generation {}, but {name} was written under generation {}; an older \
                 manifest was put in its place",
                manifest.generation, header.generation
            ),
            _ => return,
        };
        let file = self.dir.join(names::MANIFEST_NAME);
        let found = finding(&Error::damage(&file, 0, what), Loss::Unknown);
        self.add(self.with_extent(found));
    }

    /// The first bytes of a file.
    fn head(&self, name: &str) -> Option<Vec<u8>> {
        let mut head = vec![0; SEGMENT_HEADER_BYTES];
        let file = self.fs.open(&self.dir.join(name), OpenMode::Read).ok()?;
        let read = fs::read_full(&*file, &mut head, 0).ok()?;
        head.truncate(read);
        Some(head)
    }

    /// Whose own name something else bears, or nothing: its content may lie there under another name, and
    /// then nothing of it is known to be lost.
    pub(super) fn misplaced(&mut self, database: DatabaseId) -> Result<()> {
        if self.found.loss().is_none_or(|loss| loss == Loss::None) {
            return Ok(());
        }
        let entries = self.fs.list(self.dir).map_err(|e| Error::io("list", self.dir, e))?;
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            let Some(head) = self.head(&entry.name) else { continue };
            let own = match (SegmentHeader::decode(&head), stated_table(&head)) {
                (Ok(header), _) if header.database == database => segment_name(header.base),
                (_, Some((of, id))) if of == database => names::table_name(id),
                _ => continue,
            };
            if own == entry.name {
                continue;
            }
            for found in &mut self.found.findings {
                if found.file.ends_with(&own) && found.loss != Loss::None {
                    let what = &found.what;
                    found.what =
                        format!("{what}; by its header {} is this file, renamed", entry.name);
                    found.loss = Loss::Unknown;
                }
            }
        }
        Ok(())
    }
}
