//! What `verify` says of a damaged database, held against the bytes that were damaged.
//!
//! [`Promised`] is worked out on the sound database: the manifest; every table that it or the live log
//! names; of the log the headers of live segments, and everything from the checkpoint up to the place
//! that something vouches for (the end, after a clean close; else the highest durable mark of a group).
//! All else is the business of nobody: released log, the zeros behind the tail, the last run without
//! a witness, `LOCK`, `RESERVE`, names that are not ours.
//!
//! - A promised byte is another one, or gone: `verify --level full` must end with 4 or 5 and name one of
//!   the damaged files and an offset in or next to the damage. Only a version or feature number that
//!   this release cannot know may end with 12 instead.
//! - No promised byte is touched: it may be clean. What a torn write leaves is of this kind, and that is
//!   how a damage case that is a legal state of a crash is told from one that is not: by where the bytes
//!   lie in the sound database, and not by what any code says of the damaged one.
//! - What is named must lie in the damage, or the damage in it, or next to it.

use crate::check::Failure;
use crate::run::PATH;
use highwater::Error;
use highwater::check::{
    Finding, Forecast, LogItem, Verdict, Verified, VerifyOptions, explain, read_log, verify,
};
use highwater::fs::FileSystem;
use highwater::fs::sim::SimDisk;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Length of a block of the log, and of a segment's header.
const HEADER_BYTES: u64 = 4096;

/// Files by path.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Which bytes of a sound database anything vouches for.
#[derive(Debug, Default)]
pub struct Promised(BTreeMap<PathBuf, Vec<Range<u64>>>);

/// How `verify` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// With 0: no promised byte was touched.
    Clean,
    /// With 4: nothing that was committed is lost.
    Damage,
    /// With 5.
    Loss,
    /// With 12: a version that this release does not know.
    Unsupported,
    /// With 10: this is no database.
    NoDatabase,
}

impl Promised {
    /// Works it out.
    pub fn of(disk: &SimDisk, files: &Files) -> Result<Promised, String> {
        let text = |error: Error| error.to_string();
        let Forecast::Open(said) = explain(disk, PATH).map_err(text)? else {
            return Err("there is no database".to_owned());
        };
        let mut promised = Promised::default();
        for (path, bytes) in files {
            let name = name_of(path);
            let is_table = name.starts_with("table-") && !said.orphans.contains(&name);
            if name == "MANIFEST" || is_table {
                let whole = Range { start: 0, end: bytes.len() as u64 };
                promised.0.insert(path.clone(), vec![whole]);
            }
        }
        let mut vouched = if said.clean { said.tail } else { said.checkpoint_lsn };
        let mut groups: Vec<(u64, u64)> = Vec::new();
        let mut live: Vec<highwater::check::LogSegment> = Vec::new();
        read_log(disk, PATH, highwater::Lsn::ZERO, &mut |item| {
            match item {
                LogItem::Segment(segment) if segment.live => live.push(segment.clone()),
                LogItem::Group { lsn, end, durable, .. } if lsn >= said.checkpoint_lsn => {
                    vouched = vouched.max(durable);
                    groups.push((lsn.get(), end.get()));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .map_err(text)?;
        for segment in live {
            // What follows the last segment is read only where nobody closed the log.
            if said.dead_segments.contains(&segment.name) {
                continue;
            }
            if said.clean && (said.tail <= segment.base || said.tail <= said.checkpoint_lsn) {
                continue;
            }
            let base = segment.base.get();
            let mut ranges = vec![Range { start: 0, end: HEADER_BYTES }];
            for (from, to) in &groups {
                // With the rest of its last block, as far as that was promised.
                let to = to.next_multiple_of(HEADER_BYTES).min(vouched.get()).max(*to);
                if *from < vouched.get() && (base..base + segment.bytes).contains(from) {
                    ranges.push(from - base..to - base);
                }
            }
            promised.0.insert(Path::new(PATH).join(&segment.name), ranges);
        }
        Ok(promised)
    }

    /// Whether one of these bytes is promised.
    fn touches(&self, path: &Path, bytes: &[u64]) -> bool {
        let ranges = self.0.get(path).map(Vec::as_slice).unwrap_or_default();
        bytes.iter().any(|at| ranges.iter().any(|range| range.contains(at)))
    }
}

/// Runs `verify` over a damaged disk and holds it against what differs from the sound files. `is_legal`: a
/// crash may have left just this, although promised bytes are touched.
pub fn judge(
    promised: &Promised,
    sound: &Files,
    disk: &SimDisk,
    is_legal: bool,
) -> Result<(Said, Option<Verified>), Failure> {
    let before = disk.content_hash();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let found = verify(&fs, PATH, &VerifyOptions::default(), &mut |_, _| {});
    if disk.content_hash() != before {
        return Err(Failure::violation("verify wrote"));
    }
    let changed = changed(sound, disk);
    let touched: Vec<&PathBuf> = changed
        .iter()
        .filter(|(path, bytes)| promised.touches(path, bytes))
        .map(|(path, _)| path)
        .collect();
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => return no_database(sound, disk).map(|said| (said, None)),
        Err(Error::Unsupported { .. }) => return Ok((Said::Unsupported, None)),
        Err(Error::NotADatabase { .. }) => return Ok((Said::NoDatabase, None)),
        Err(error) => return Err(Failure::violation(format!("verify: {error}"))),
    };
    let said = match found.verdict(false) {
        Verdict::Sound => Said::Clean,
        Verdict::Damage => Said::Damage,
        Verdict::Loss => Said::Loss,
        Verdict::OutOfTime => return Err(Failure::violation("verify ran out of no time limit")),
    };
    if said == Said::Clean {
        if !touched.is_empty() && !is_legal {
            let what = format!("verify is content, and promised bytes differ in {touched:?}");
            return Err(Failure::violation(what));
        }
        return Ok((said, Some(found)));
    }
    let named = |finding: &Finding| {
        changed.iter().any(|(path, bytes)| finding.file == *path && is_near(finding, bytes))
    };
    // An older manifest may name files that are long gone.
    let has_manifest = !changed.keys().any(|path| path.ends_with("MANIFEST"));
    let is_known = |finding: &&Finding| {
        let file = &finding.file;
        !has_manifest || sound.contains_key(file) || disk.read_file(file).is_ok()
    };
    if let Some(finding) = found.findings.iter().find(|finding| !is_known(finding)) {
        return Err(Failure::violation(format!("verify names a file that never was: {finding:?}")));
    }
    // And that such a file is missing says that the manifest is not the one that belongs here.
    let is_gone = |finding: &Finding| !has_manifest && disk.read_file(&finding.file).is_err();
    if !found.findings.iter().any(|finding| named(finding) || is_gone(finding)) {
        let what = format!("verify names another place: {:?}", found.findings);
        return Err(Failure::violation(what));
    }
    Ok((said, Some(found)))
}

/// Whether a finding lies in the damage, or the damage in the finding.
fn is_near(finding: &Finding, changed: &[u64]) -> bool {
    let (Some(first), Some(last)) = (changed.first(), changed.last()) else { return false };
    let end = finding.offset + finding.bytes.max(1);
    finding.offset <= *last + 1 && *first <= end
}

/// `verify` says that there is nothing: right only where no file of ours is left that says otherwise.
fn no_database(sound: &Files, disk: &SimDisk) -> Result<Said, Failure> {
    let ours = |path: &PathBuf| {
        let name = name_of(path);
        name.starts_with("table-") || name.starts_with("log-")
    };
    let left: BTreeSet<PathBuf> = disk.files().into_iter().map(|(path, _)| path).collect();
    match sound.keys().find(|path| ours(path) && left.contains(*path)) {
        Some(path) => {
            Err(Failure::violation(format!("verify finds no database beside {}", path.display())))
        }
        None => Ok(Said::NoDatabase),
    }
}

/// Offsets that differ, by file; those of a missing or shorter file count, and its first if it is empty.
fn changed(sound: &Files, disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u64>> {
    let mut changed = BTreeMap::new();
    let there = disk.files().into_iter().map(|(path, _)| path);
    let paths: BTreeSet<PathBuf> = sound.keys().cloned().chain(there).collect();
    for path in paths {
        let now = disk.read_file(&path).ok();
        let was = sound.get(&path);
        if was == now.as_ref() {
            continue;
        }
        let (was, now) = (was.map_or(&[][..], Vec::as_slice), now.unwrap_or_default());
        let length = was.len().max(now.len()).max(1);
        let differs = |at: &usize| was.get(*at) != now.get(*at) || length == 1;
        changed.insert(path, (0..length).filter(differs).map(|at| at as u64).collect());
    }
    changed
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
