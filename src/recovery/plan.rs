//! `plan`: reads everything, decides everything, writes nothing.
//!
//! `open`, the read-only open, `explain` and `verify` share it. The plan says which groups are replayed,
//! where the log ends and why, which files are dead, and whether `apply` has to do anything. What it
//! cannot accept comes back as the error that `open` would give.

use super::decide::{Judged, Place, Verdict};
use super::directory::{Directory, SegmentFile, read_manifest};
use super::replay::{Assembler, Transaction, TransactionSink};
use super::walk::{GroupPlace, Sink, Walk};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::manifest::{EpochRange, Manifest, names};
use crate::mistakes::{Mistake, planted};
use crate::table::TableMeta;
use crate::types::{FileId, Lsn, Seqno};
use crate::wal::group::{BLOCK_BYTES, GroupHeader};
use crate::wal::operation::{Operation, Operations};
use std::path::Path;

/// What an open would do with a directory.
#[derive(Debug)]
pub enum Plan {
    /// Nothing is there: it would create a database.
    Create,
    /// It would open this.
    Open(Box<OpenPlan>),
}

/// How an existing database would be opened.
#[derive(Debug)]
pub struct OpenPlan {
    pub manifest: Manifest,
    /// The walks over the live log, oldest epoch first.
    pub spans: Vec<Span>,
    /// Transactions to replay.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
    /// Bytes of log to replay.
    pub replay_bytes: u64,
    /// The last commit.
    pub last_seqno: Seqno,
    /// When it was made, if it is in the log.
    pub last_commit_micros: u64,
    /// Why and where the log ends.
    pub tail: Tail,
    /// Files of ours that nothing needs.
    pub orphans: Vec<String>,
    /// Segments that hold no live log.
    pub dead_segments: Vec<SegmentFile>,
    /// Segments that hold live log, with the LSN just past it.
    pub live_segments: Vec<(Lsn, SegmentFile)>,
    /// Past every LSN that any segment here could hold.
    pub log_end: Lsn,
    /// Tables that large transactions in the log install.
    pub installed: Vec<TableMeta>,
    /// The smallest table number that was never used.
    pub next_file_id: FileId,
    /// Names that are not ours.
    pub foreign: Vec<String>,
    /// Replay only what was committed up to here; for looking at an earlier state.
    pub until: Option<Lsn>,
}

/// One epoch of the live log.
#[derive(Clone, Debug)]
pub struct Span {
    pub range: EpochRange,
    /// Base of its first live segment.
    pub first: Lsn,
    /// Its first live group.
    pub from: Lsn,
    /// Just past the last group.
    pub end: Lsn,
    pub groups: u64,
}

/// The end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    pub at: Lsn,
    pub place: Place,
    pub verdict: Verdict,
    /// Bytes that are cut.
    pub cut_bytes: u64,
    /// Transactions that began in the log and never ended.
    pub unfinished_transactions: u64,
    /// The last groups, or what was cut after them, had no witness: damage there cannot be told from a
    /// torn write.
    pub unwitnessed: bool,
}

impl OpenPlan {
    /// The plan for the state after the commit at `until`: the tables, and the log up to there.
    pub fn stopping_at(mut self: Box<Self>, dir: &Path, until: Option<Lsn>) -> Result<OpenPlan> {
        let Some(at) = until else { return Ok(*self) };
        let (from, to) = (self.manifest.checkpoint_lsn, self.tail.at);
        if !(from..=to.max(from)).contains(&at) {
            return Err(Error::NotReachable {
                path: dir.to_path_buf(),
                at,
                from,
                to: to.max(from),
            });
        }
        self.until = until;
        Ok(*self)
    }

    /// Whether `apply` has to write before the database can be used.
    pub fn needs_apply(&self) -> bool {
        let trusted = planted(Mistake::UnsyncedBytesTrusted);
        (!self.manifest.clean && !trusted) || !self.installed.is_empty()
    }
}

/// Who plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody who will write, and holds the lock.
    Owner,
    /// Somebody who only reads, and there is no owner.
    Alone,
    /// Somebody who only reads, while an owner writes. What lies past the last vouched LSN may not be
    /// synced: it is left out.
    BesideOwner,
}

/// Plans the opening of `dir`.
pub fn plan(fs: &dyn FileSystem, dir: &Path, reader: Reader) -> Result<Plan> {
    plan_judged(fs, dir, reader, &Judged::default())
}

/// The same; `judged` takes the rows of the decision table that were asked, also if the plan refuses.
pub fn plan_judged(
    fs: &dyn FileSystem,
    dir: &Path,
    reader: Reader,
    judged: &Judged,
) -> Result<Plan> {
    let Some(directory) = Directory::read(fs, dir)? else { return Ok(Plan::Create) };
    if !directory.has_manifest {
        if !planted(Mistake::MissingManifestIsNew) {
            directory.check_empty(dir)?;
        }
        return Ok(Plan::Create);
    }
    let manifest = read_manifest(fs, dir, reader != Reader::Owner)?;
    plan_of(fs, dir, directory, manifest, reader, judged)
}

/// The same with a manifest that was read already, or mended, for a repair.
pub fn plan_with(
    fs: &dyn FileSystem,
    dir: &Path,
    directory: Directory,
    manifest: Manifest,
    reader: Reader,
) -> Result<Plan> {
    plan_of(fs, dir, directory, manifest, reader, &Judged::default())
}

fn plan_of(
    fs: &dyn FileSystem,
    dir: &Path,
    directory: Directory,
    manifest: Manifest,
    reader: Reader,
    judged: &Judged,
) -> Result<Plan> {
    let listed = check_tables(dir, &manifest, &directory)?;
    let walk = Walk { fs, dir, manifest: &manifest, segments: &directory.segments, judged };

    let mut check = Check::new(dir, &directory, manifest.checkpoint_seqno);
    let mut spans = Vec::new();
    let mut live_segments = Vec::new();
    let mut tail = Tail {
        at: manifest.checkpoint_lsn,
        place: Place::Blank,
        verdict: Verdict::End,
        cut_bytes: 0,
        unfinished_transactions: 0,
        unwitnessed: false,
    };
    for range in live_ranges(&manifest) {
        let (first, from) = if range.start <= manifest.segment_base {
            // A checkpoint's boundary may be the very end of a segment, which is the base of the next one:
            // no group lies in a segment's header.
            let first_group = manifest.segment_base.plus(BLOCK_BYTES);
            (manifest.segment_base, manifest.checkpoint_lsn.max(first_group))
        } else {
            (range.start, range.start.plus(BLOCK_BYTES))
        };
        let mut range = *range;
        if reader == Reader::BesideOwner && range.end.is_none() {
            let mut nothing = Nothing;
            let vouched = walk.epoch(&range, first, from, &mut nothing)?.vouched;
            range.end = Some(vouched.max(from));
        }
        let range = &range;
        let ended = walk.epoch(range, first, from, &mut check)?;
        check.assembler.end_of_epoch();
        for segment in &ended.segments {
            if ended.end > segment.base.plus(BLOCK_BYTES) {
                live_segments.push((segment.base.plus(segment.bytes), segment.clone()));
            }
        }
        tail = Tail {
            at: ended.end,
            place: ended.place,
            verdict: ended.verdict,
            cut_bytes: ended.cut_bytes,
            unfinished_transactions: 0,
            unwitnessed: range.end.is_none() && (!ended.witnessed || ended.cut_bytes > 0),
        };
        spans.push(Span { range: *range, first, from, end: ended.end, groups: ended.groups });
    }
    tail.unfinished_transactions = check.assembler.unfinished();
    let is_live = |segment: &SegmentFile| live_segments.iter().any(|(_, s)| s == segment);
    let dead_segments: Vec<SegmentFile> =
        directory.segments.iter().filter(|segment| !is_live(segment)).cloned().collect();
    for segment in dead_segments.iter().filter(|s| s.base >= manifest.segment_base) {
        walk.check_unclaimed(segment)?;
    }

    let mut orphans = directory.temporary.clone();
    let by_log = !planted(Mistake::InstalledAreOrphans);
    let in_use = |id: &FileId| listed.contains(id) || (by_log && check.installed.contains_key(id));
    orphans
        .extend(directory.tables.keys().filter(|id| !in_use(id)).map(|id| names::table_name(*id)));
    let highest = directory.tables.keys().next_back().map_or(0, |id| id.get());
    let highest = if planted(Mistake::FileIdsUsedAgain) { 0 } else { highest };
    let next_file_id = FileId(manifest.next_file_id.get().max(highest + 1));
    let named_end = directory.segments.iter().map(|s| s.base.plus(s.bytes)).max();
    let ranges_end = manifest.epochs.iter().map(|r| r.end.unwrap_or(r.start)).max();
    let log_end = named_end
        .into_iter()
        .chain(ranges_end)
        .chain([manifest.checkpoint_lsn, tail.at])
        .max()
        .unwrap_or_default();
    Ok(Plan::Open(Box::new(OpenPlan {
        spans,
        transactions: check.transactions,
        operations: check.operations,
        replay_bytes: check.bytes,
        last_seqno: check.assembler.last_seqno(),
        last_commit_micros: check.last_commit_micros,
        tail,
        orphans,
        dead_segments,
        live_segments,
        log_end,
        installed: check.installed.into_values().collect(),
        next_file_id,
        foreign: directory.foreign,
        until: None,
        manifest,
    })))
}

/// Replays what a plan found into `sink`. The groups are checked again; if they are not the same as when
/// the plan was made, that is an error.
pub fn replay(
    fs: &dyn FileSystem,
    dir: &Path,
    plan: &OpenPlan,
    sink: &mut dyn TransactionSink,
) -> Result<()> {
    let segments: Vec<SegmentFile> =
        plan.live_segments.iter().map(|(_, segment)| segment.clone()).collect();
    let judged = Judged::default();
    let walk = Walk { fs, dir, manifest: &plan.manifest, segments: &segments, judged: &judged };
    let assembler = Assembler::new(plan.manifest.checkpoint_seqno);
    let mut replay = Replay { assembler, until: plan.until, sink };
    for span in plan.spans.iter().filter(|span| span.end > span.from) {
        // The plan knows where the span ends.
        let range = EpochRange { end: Some(span.end), ..span.range };
        walk.epoch(&range, span.first, span.from, &mut replay)?;
        replay.assembler.end_of_epoch();
    }
    Ok(())
}

/// Ranges that hold live log.
pub fn live_ranges(manifest: &Manifest) -> impl Iterator<Item = &EpochRange> {
    manifest.epochs.iter().filter(|range| {
        range
            .end
            .is_none_or(|end| end > manifest.checkpoint_lsn && end > range.start.plus(BLOCK_BYTES))
    })
}

/// Checks that every table of the manifest is there with its length; returns their numbers.
fn check_tables(
    dir: &Path,
    manifest: &Manifest,
    directory: &Directory,
) -> Result<std::collections::BTreeSet<FileId>> {
    let mut listed = std::collections::BTreeSet::new();
    for (_, meta) in table_metas(dir, manifest)? {
        check_table(dir, directory, &meta)?;
        listed.insert(meta.file_id);
    }
    Ok(listed)
}

fn check_table(dir: &Path, directory: &Directory, meta: &TableMeta) -> Result<()> {
    let path = dir.join(names::table_name(meta.file_id));
    match directory.tables.get(&meta.file_id) {
        None => Err(Error::damage(&path, 0, "the table is missing")),
        Some(bytes) if *bytes != meta.file_bytes => {
            let what = format!("the table has {bytes} bytes, expected {}", meta.file_bytes);
            Err(Error::damage(&path, meta.file_bytes.min(*bytes), what))
        }
        Some(_) => Ok(()),
    }
}

/// The tables that a manifest lists, with the index of their run.
pub fn table_metas(dir: &Path, manifest: &Manifest) -> Result<Vec<(usize, TableMeta)>> {
    let mut metas = Vec::new();
    for (index, run) in manifest.runs.iter().enumerate() {
        for bytes in &run.tables {
            let mut input = bytes.as_slice();
            let meta = TableMeta::decode(&mut input).filter(|_| input.is_empty());
            let meta = meta.ok_or_else(|| {
                let path = dir.join(names::MANIFEST_NAME);
                Error::damage(&path, 0, "a table's entry in the manifest cannot be read")
            })?;
            metas.push((index, meta));
        }
    }
    Ok(metas)
}

/// Checks the transactions of the log without applying them.
struct Check<'a> {
    dir: &'a Path,
    directory: &'a Directory,
    assembler: Assembler,
    transactions: u64,
    operations: u64,
    bytes: u64,
    last_commit_micros: u64,
    installed: std::collections::BTreeMap<FileId, TableMeta>,
}

impl<'a> Check<'a> {
    fn new(dir: &'a Path, directory: &'a Directory, after: Seqno) -> Self {
        Check {
            dir,
            directory,
            assembler: Assembler::new(after),
            transactions: 0,
            operations: 0,
            bytes: 0,
            last_commit_micros: 0,
            installed: std::collections::BTreeMap::new(),
        }
    }
}

impl Sink for Check<'_> {
    fn group(&mut self, header: &GroupHeader, body: &[u8], place: &GroupPlace<'_>) -> Result<()> {
        self.bytes += header.group_bytes();
        let (dir, directory) = (self.dir, self.directory);
        let (transactions, operations) = (&mut self.transactions, &mut self.operations);
        let installed = &mut self.installed;
        let last_commit_micros = &mut self.last_commit_micros;
        self.assembler.group(header, body, place, &mut |transaction: &Transaction<'_>| {
            *transactions += 1;
            *last_commit_micros = transaction.time_micros;
            for operation in Operations::new(transaction.operations) {
                let operation = operation
                    .map_err(|fault| place.damage(header.lsn, format!("bad operation: {fault}")))?;
                *operations += 1;
                if let Operation::InstallTable { meta } = operation {
                    let meta = decode_installed(meta, header, place)?;
                    check_table(dir, directory, &meta)?;
                    installed.insert(meta.file_id, meta);
                }
            }
            Ok(())
        })
    }
}

/// The table that an install operation names.
pub fn decode_installed(
    bytes: &[u8],
    header: &GroupHeader,
    place: &GroupPlace<'_>,
) -> Result<TableMeta> {
    let mut input = bytes;
    TableMeta::decode(&mut input)
        .filter(|_| input.is_empty())
        .ok_or_else(|| place.damage(header.lsn, "an installed table's description cannot be read"))
}

/// Takes groups and does nothing.
struct Nothing;

impl Sink for Nothing {
    fn group(&mut self, _: &GroupHeader, _: &[u8], _: &GroupPlace<'_>) -> Result<()> {
        Ok(())
    }
}

struct Replay<'a> {
    assembler: Assembler,
    until: Option<Lsn>,
    sink: &'a mut dyn TransactionSink,
}

impl Sink for Replay<'_> {
    fn group(&mut self, header: &GroupHeader, body: &[u8], place: &GroupPlace<'_>) -> Result<()> {
        let (sink, until) = (&mut *self.sink, self.until);
        self.assembler.group(header, body, place, &mut |transaction: &Transaction<'_>| {
            if until.is_some_and(|until| transaction.end > until) {
                return Ok(());
            }
            sink.transaction(transaction, header, place)
        })?;
        if let Some(part) = self.assembler.unfinished_part() {
            let _ = self.sink.transaction(&part, header, place);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
