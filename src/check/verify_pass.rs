//! One pass of [`verify`](super::verify()): reads what the level asks for and judges what it meets.
//!
//! The manifest says what is live. The log is walked life by life, segment by segment; a flaw in it is
//! damage only where something vouches for the bytes (the end that the manifest names, or a later
//! group's durable mark), and a torn tail otherwise. Then the tables, those included that the log installs.
//!
//! Invariant: a finding is made once per file and offset; every byte of the directory is in one scope.

use super::explain::explanation;
use super::log::{describe, life_of};
use super::scan::{Flaw, Life, Piece, Segment};
use super::verify::{
    Finding, Level, Loss, Scope, Verified, VerifyOptions, covers, finding, header_finding,
    table_finding,
};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::lock;
use crate::manifest::{EpochRange, Manifest, names};
use crate::options::Builder;
use crate::recovery::directory::{Directory, SegmentFile};
use crate::recovery::plan::{Plan, live_ranges, table_metas};
use crate::recovery::reading::plan_for_reading;
use crate::table::{BlockCache, ReadMode, Share, Table, TableMeta};
use crate::types::Lsn;
use crate::wal::buffer::align_up;
use crate::wal::group::{BLOCK_BYTES, GROUP_HEADER_BYTES};
use crate::wal::segment::segment_name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// One look at everything that the options ask for.
pub(super) struct Pass<'p> {
    pub(super) fs: &'p Arc<dyn FileSystem>,
    pub(super) dir: &'p Path,
    options: &'p VerifyOptions,
    deadline: Option<Duration>,
    progress: &'p mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
    pub(super) found: Verified,
}

impl<'p> Pass<'p> {
    pub(super) fn new(
        fs: &'p Arc<dyn FileSystem>,
        dir: &'p Path,
        options: &'p VerifyOptions,
        deadline: Option<Duration>,
        progress: &'p mut dyn FnMut(u64, u64),
        in_use: bool,
    ) -> Pass<'p> {
        let found = Verified {
            findings: Vec::new(),
            explanation: None,
            scopes: Vec::new(),
            tables: 0,
            entries: 0,
            log_groups: 0,
            keyspaces: Vec::new(),
            out_of_time: false,
            in_use,
        };
        Pass { fs, dir, options, deadline, progress, done: 0, total: 0, found }
    }

    pub(super) fn run(mut self) -> Result<Option<Verified>> {
        let Some(directory) = Directory::read(&**self.fs, self.dir)? else { return Ok(None) };
        let sizes = self.sizes()?;
        if let Err(error) = lock::check(&**self.fs, self.dir) {
            let bytes = sizes.get(names::LOCK_NAME).copied().unwrap_or(0);
            self.add(Finding { bytes, ..finding(&error, Loss::None) });
        }
        let size = |name: &str| sizes.get(name).copied().unwrap_or(0);
        let manifest = self.manifest(&directory)?;
        let Some(manifest) = manifest else {
            if self.found.findings.is_empty() {
                return Ok(None);
            }
            let rest = sizes.values().sum::<u64>() - size(names::MANIFEST_NAME);
            self.scope("manifest", 0, size(names::MANIFEST_NAME), "it is damaged");
            self.scope("other files", 0, rest, "the manifest would say whose they are");
            return Ok(Some(self.found));
        };
        self.scope("manifest", size(names::MANIFEST_NAME), 0, "");
        self.doubt(&manifest, &directory);
        self.found.keyspaces =
            manifest.keyspaces.iter().map(|entry| (entry.id, entry.name.clone())).collect();
        let listed = match table_metas(self.dir, &manifest) {
            Ok(listed) => listed.into_iter().map(|(_, meta)| meta).collect(),
            Err(error) => {
                self.add(finding(&error, Loss::Unknown));
                Vec::new()
            }
        };
        let live = live_segments(&manifest, &directory);
        let log_bytes: u64 = live.iter().map(|segment| segment.bytes).sum();
        self.total = listed.iter().map(|meta: &TableMeta| meta.file_bytes).sum();
        if self.options.level >= Level::Log {
            self.total += log_bytes;
        }
        let mut installed = Vec::new();
        if self.options.level >= Level::Log {
            let read = self.log(&manifest, &directory)?;
            self.scope("live log", log_bytes.min(read), log_bytes.saturating_sub(read), "released");
            installed = self.plan()?;
        } else {
            let read = self.headers(&live)?;
            let why = "--level quick reads the headers alone";
            self.scope("live log", read, log_bytes.saturating_sub(read), why);
        }
        let metas: Vec<TableMeta> = listed.into_iter().chain(installed).collect();
        let (tables, skipped) = self.tables(&manifest, &metas)?;
        let why = match (self.found.out_of_time, self.options.level, self.options.sample) {
            (true, _, _) => "the time limit came first",
            (_, Level::Full, Some(_)) => "a sample was asked for",
            (_, Level::Full, None) => "it cannot be read",
            _ => "only --level full reads it all",
        };
        self.scope("tables", tables, skipped, why);
        let named = |meta: &TableMeta| names::table_name(meta.file_id);
        let in_use: Vec<String> = metas.iter().map(named).collect();
        let others: u64 = sizes
            .iter()
            .filter(|(name, _)| {
                name.as_str() != names::MANIFEST_NAME
                    && !in_use.contains(name)
                    && !live.iter().any(|segment| segment.name == **name)
            })
            .map(|(_, bytes)| bytes)
            .sum();
        self.scope("other files", 0, others, "nothing depends on them");
        self.misplaced(manifest.database)?;
        self.found.findings.sort_by(|one, two| {
            (&one.file, one.offset, &one.what).cmp(&(&two.file, two.offset, &two.what))
        });
        Ok(Some(self.found))
    }

    /// Lengths of all files by name.
    fn sizes(&self) -> Result<BTreeMap<String, u64>> {
        let entries = self.fs.list(self.dir).map_err(|e| Error::io("list", self.dir, e))?;
        Ok(entries.into_iter().filter(|e| !e.is_dir).map(|e| (e.name, e.len)).collect())
    }

    fn scope(&mut self, name: &'static str, checked: u64, skipped: u64, why: &'static str) {
        let why = if skipped == 0 { "" } else { why };
        let scope = Scope { name, checked_bytes: checked, skipped_bytes: skipped, why };
        self.found.scopes.push(scope);
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let mut known = self.found.findings.iter_mut();
        match known.find(|known| known.file == finding.file && known.offset == finding.offset) {
            Some(known) => known.loss = known.loss.max(finding.loss),
            None => self.found.findings.push(finding),
        }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.fs.monotonic() >= deadline)
    }

    /// What an open would do; its refusal is a finding. Returns the tables that the log installs.
    fn plan(&mut self) -> Result<Vec<TableMeta>> {
        match plan_for_reading(&**self.fs, self.dir) {
            Ok(Plan::Create) => Ok(Vec::new()),
            Ok(Plan::Open(plan)) => {
                self.found.explanation = Some(explanation(self.dir, &plan)?);
                // Behind the tail that recovery decided on nothing was promised: a group there whose
                // run was never synced may have lost the one before it.
                let tail = plan.tail.at;
                let is_promised = |(from, _): (Lsn, Lsn)| align_up(from) < tail;
                self.found.findings.retain(|found| found.lsn_range.is_none_or(is_promised));
                Ok(plan.installed)
            }
            Err(error @ Error::Damage { .. }) => {
                let known = |finding: &Finding| covers(finding, &error);
                if !self.found.findings.iter().any(known) {
                    let found = self.with_extent(finding(&error, Loss::Unknown));
                    self.add(found);
                }
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// The headers of live segments.
    fn headers(&mut self, live: &[SegmentFile]) -> Result<u64> {
        let mut read = 0;
        for named in live {
            let segment = Segment::open(&**self.fs, self.dir, named)?;
            read += BLOCK_BYTES.min(segment.bytes);
            if let Some(found) = header_finding(&segment) {
                self.add(found);
            }
        }
        Ok(read)
    }

    /// Every group of the live log. Returns the bytes read.
    fn log(&mut self, manifest: &Manifest, directory: &Directory) -> Result<u64> {
        let mut read = 0;
        for range in live_ranges(manifest) {
            let (first, from) = if range.start <= manifest.segment_base {
                (manifest.segment_base, manifest.checkpoint_lsn)
            } else {
                (range.start, range.start.plus(BLOCK_BYTES))
            };
            read += self.epoch(range, first, from, manifest, directory)?;
        }
        Ok(read)
    }

    fn epoch(
        &mut self,
        range: &EpochRange,
        first: Lsn,
        from: Lsn,
        manifest: &Manifest,
        directory: &Directory,
    ) -> Result<u64> {
        let life = Life { epoch: range.epoch, salt: range.salt };
        let closed = range.end;
        let mut walked =
            Walked { end: from, vouched: closed.unwrap_or_default(), ..Walked::default() };
        let mut last = None;
        let mut base = first;
        let mut read = 0;
        loop {
            if closed.is_some_and(|end| base >= end) {
                break;
            }
            let Some(named) = directory.segments.iter().find(|s| s.base == base) else {
                // A segment is missing if this life goes on behind it, or was promised to.
                let later = directory
                    .segments
                    .iter()
                    .find(|s| s.base > base && life_of(Some(manifest), s) == Some(life));
                let Some(later) = later.filter(|s| self.is_of(s, life)) else { break };
                walked.missing.push((base, later.base));
                last = None;
                base = later.base;
                continue;
            };
            let mut segment = Segment::open(&**self.fs, self.dir, named)?;
            if segment.life().is_some_and(|found| found != life) {
                break;
            }
            let of_header = header_finding(&segment);
            let start = from.max(segment.first_group());
            let until = closed.unwrap_or(Lsn::MAX).min(segment.end());
            let path = segment.path.clone();
            let late = self.deadline;
            let (clock, progress) = (self.fs.clone(), &mut self.progress);
            let (done, total) = (self.done, self.total);
            let mut out_of_time = false;
            let ended = segment.scan(life, start, until, last, &mut |piece| {
                match piece {
                    Piece::Group(header, _) => {
                        walked.vouched = walked.vouched.max(header.durable);
                        walked.groups += 1;
                    }
                    Piece::Flaw { from, to, flaw } => {
                        walked.flaws.push((path.clone(), base, from, to, flaw));
                    }
                }
                out_of_time = late.is_some_and(|deadline| clock.monotonic() >= deadline);
                progress(done, total);
                Ok(!out_of_time)
            })?;
            if let Some(mut found) = of_header {
                // Where nobody closed the log, only a blank place for the next group says that it ended.
                let next = align_up(ended.at).plus(GROUP_HEADER_BYTES as u64);
                let seen_to = base.plus(segment.bytes);
                let is_end_seen = match closed {
                    Some(end) => end.min(segment.end()) <= seen_to,
                    None => ended.blank && next <= seen_to,
                };
                if !is_end_seen {
                    found.loss = found.loss.max(Loss::Unknown);
                }
                self.add(found);
            }
            self.found.out_of_time |= out_of_time;
            self.done += segment.bytes;
            read += segment.bytes;
            if ended.last.is_some() {
                walked.end = ended.at;
                walked.place = Some((path, base));
                last = ended.last;
            }
            if out_of_time || segment.bytes == 0 {
                break;
            }
            base = match segment.header {
                Ok(_) => segment.end(),
                // Nothing says how long it was: as far as the next, whose links say whether that is so.
                Err(_) => {
                    let next = directory.segments.iter().find(|s| s.base > base);
                    next.map_or(segment.end(), |next| next.base)
                }
            };
        }
        self.found.log_groups += walked.groups;
        self.judge(range, &walked, first, directory);
        Ok(read)
    }

    fn is_of(&self, named: &SegmentFile, life: Life) -> bool {
        let opened = Segment::open(&**self.fs, self.dir, named);
        opened.is_ok_and(|segment| segment.life() == Some(life))
    }

    /// Which of what was met is damage: what something vouches for.
    fn judge(&mut self, range: &EpochRange, walked: &Walked, first: Lsn, directory: &Directory) {
        for (path, base, from, to, flaw) in &walked.flaws {
            if *from >= walked.vouched {
                // The torn tail, which an open cuts.
                continue;
            }
            let loss = match flaw {
                Flaw::Padding | Flaw::Witness => Loss::None,
                Flaw::Body(_) | Flaw::Groups => Loss::Committed,
            };
            self.add(Finding {
                file: path.clone(),
                offset: from.get() - base.get(),
                bytes: to.get() - from.get(),
                lsn_range: Some((*from, *to)),
                what: describe(*flaw),
                loss,
                keyspace: None,
                keys: None,
            });
        }
        for (from, to) in &walked.missing {
            self.add(Finding {
                file: self.dir.join(segment_name(*from)),
                offset: 0,
                bytes: 0,
                lsn_range: Some((*from, *to)),
                what: "the log segment is missing; commits in it are lost".to_owned(),
                loss: Loss::Committed,
                keyspace: None,
                keys: None,
            });
        }
        let promised = walked.vouched;
        if promised <= walked.end || align_up(walked.end) >= promised || self.found.out_of_time {
            return;
        }
        let (path, base) =
            walked.place.clone().unwrap_or_else(|| (self.dir.join(segment_name(first)), first));
        // The segment that held the rest may be missing whole, or its end may be.
        let holder = directory.segments.iter().rfind(|s| s.base <= walked.end);
        let holder = holder.and_then(|named| Segment::open(&**self.fs, self.dir, named).ok());
        // Without a header nothing says how long it was.
        let is_whole = |s: &Segment| s.header.is_ok() && s.base.plus(s.bytes) >= s.end();
        let short = holder.as_ref().filter(|s| {
            !is_whole(s) && s.base.plus(s.bytes.max(BLOCK_BYTES)) <= align_up(walked.end)
        });
        let is_missing = holder.as_ref().is_none_or(|s| is_whole(s) && s.end() <= walked.end);
        let (what, file, offset) = if let Some(short) = short {
            (
                "the log segment is cut short; commits in it are lost",
                short.path.clone(),
                short.bytes,
            )
        } else if is_missing {
            let base = holder.as_ref().map_or(first, Segment::end).max(first);
            let file = self.dir.join(segment_name(base));
            ("the log segment is missing; commits in it are lost", file, 0)
        } else {
            let what = match range.end.is_some() {
                true => "the log breaks off before the end that the manifest names",
                false => "the log breaks off, but later bytes say that it went on",
            };
            (what, path, walked.end.get() - base.get())
        };
        self.add(Finding {
            file,
            offset,
            bytes: if is_missing { 0 } else { promised.get() - walked.end.get() },
            lsn_range: Some((walked.end, promised)),
            what: what.to_owned(),
            loss: Loss::Committed,
            keyspace: None,
            keys: None,
        });
    }

    /// All tables. Returns bytes checked and bytes left out.
    fn tables(&mut self, manifest: &Manifest, metas: &[TableMeta]) -> Result<(u64, u64)> {
        let cache = Arc::new(BlockCache::new(Builder::default().block_cache_bytes));
        let seed = self.fs.random().unwrap_or(0);
        let share = match (self.options.level, self.options.sample) {
            (Level::Full, None) => Share::Whole,
            (Level::Full, Some(share)) => Share::Sample(share, seed),
            _ => Share::Structure,
        };
        let (mut checked, mut skipped) = (0, 0);
        for meta in metas {
            if self.is_late() {
                self.found.out_of_time = true;
                skipped += meta.file_bytes;
                continue;
            }
            let path = self.dir.join(names::table_name(meta.file_id));
            let (fs, database) = (self.fs.clone(), manifest.database);
            let table = Table::new(
                fs,
                path.clone(),
                database,
                meta.clone(),
                ReadMode::Pread,
                cache.clone(),
            );
            let mut flaws = Vec::new();
            let (done, total, deadline) = (self.done, self.total, self.deadline);
            let (clock, progress) = (self.fs.clone(), &mut self.progress);
            let examined = table.examine(
                share,
                &mut |bytes| {
                    progress(done + bytes, total);
                    deadline.is_none_or(|deadline| clock.monotonic() < deadline)
                },
                &mut |flaw| flaws.push(flaw),
            )?;
            flaws.into_iter().for_each(|flaw| self.add(table_finding(&path, flaw)));
            self.done += meta.file_bytes;
            self.found.tables += 1;
            self.found.entries += examined.entries;
            self.found.out_of_time |= examined.out_of_time;
            checked += examined.checked_bytes;
            skipped += examined.skipped_bytes;
        }
        Ok((checked, skipped))
    }
}

/// What a walk over one epoch met.
#[derive(Debug, Default)]
struct Walked {
    groups: u64,
    /// Just past the last group.
    end: Lsn,
    vouched: Lsn,
    /// The segment that holds the last group.
    place: Option<(PathBuf, Lsn)>,
    flaws: Vec<(PathBuf, Lsn, Lsn, Lsn, Flaw)>,
    missing: Vec<(Lsn, Lsn)>,
}

/// Segments that a replay reads.
fn live_segments(manifest: &Manifest, directory: &Directory) -> Vec<SegmentFile> {
    let is_live = |segment: &&SegmentFile| {
        segment.base >= manifest.segment_base
            && live_ranges(manifest).any(|range| {
                segment.base.plus(segment.bytes) > range.start
                    && range.end.is_none_or(|end| segment.base < end)
            })
    };
    directory.segments.iter().filter(is_live).cloned().collect()
}
