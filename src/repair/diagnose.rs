//! The diagnosis: what is damaged, and what of it can be repaired from what is there.
//!
//! 1. The manifest: whole, or with one wrong bit. Everything below hangs on it: it says which tables there
//!    are, in which order, with how many entries, and where the log begins.
//! 2. Tables: read whole. What fails is harvested block by block; if all entries that the manifest counts
//!    are there, it can be written anew.
//! 3. The live log: walked as an open does. If that refuses, the groups that verify are chained as a
//!    salvage does, but only up to the first missing commit.
//!
//! Invariant: nothing is written; the same files give the same plan, leftovers of a repair that broke off
//! included.

use super::binding::work_id;
use super::files::{self, FileMark};
use super::{Action, Plan, Refusal};
use crate::backup::parts::{BackupRecord, Log, Reached, Until};
use crate::error::{Error, Result};
use crate::fs::{FileSystem, PathKind};
use crate::manifest::mend::mend;
use crate::manifest::names::{self, OurFile};
use crate::manifest::{Manifest, codec};
use crate::recovery::directory::{Directory, read_manifest};
use crate::recovery::plan::{Plan as OpenPlan, Reader, plan_with, table_metas};
use crate::salvage::LostLog;
use crate::salvage::parts::{Chain, Harvester, Scan, Survey, TableFile, transactions};
use crate::table::{BlockCache, ReadMode, Table, TableMeta};
use crate::types::{FileId, Lsn, Seqno};
use crate::wal::operation::{Operation, Operations};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A table that is to be written anew.
#[derive(Clone, Debug)]
pub struct Rebuild {
    /// Its run, as an index into the manifest's.
    pub run: usize,
    pub meta: TableMeta,
    /// Where its blocks are.
    pub file: TableFile,
}

/// Everything that the repair needs to know.
pub struct Diagnosis {
    pub plan: Plan,
    /// As it is, or mended.
    pub manifest: Manifest,
    pub rebuilds: Vec<Rebuild>,
    /// The log, and how far it leads, if it is to be rewritten.
    pub log: Option<(Log, BackupRecord, Reached)>,
    /// The newest manifest generation that any file names.
    pub generation: u64,
    /// Past every LSN that was ever used.
    pub log_end: Lsn,
    /// The last epoch that left something.
    pub last_epoch: u64,
    /// The smallest table number that was never used.
    pub next_file_id: FileId,
    /// Files that go to the quarantine.
    pub originals: Vec<FileMark>,
}

/// Reads everything and decides.
pub fn diagnose(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Diagnosis> {
    let Some(directory) = Directory::read(&**fs, dir)? else {
        return Err(Error::NotFound { path: dir.to_path_buf() });
    };
    if !directory.has_manifest {
        let nothing = directory.segments.is_empty() && directory.tables.is_empty();
        if nothing && directory.foreign.is_empty() {
            return Err(Error::NotFound { path: dir.to_path_buf() });
        }
        if nothing {
            directory.check_empty(dir)?;
        }
    }
    let mut work = Work { fs, dir, progress, read: 0, refusals: Vec::new() };
    let manifest = if directory.has_manifest { work.manifest()? } else { Err(None) };
    let (manifest, mended) = match manifest {
        Ok(found) => found,
        Err(refusal) => {
            let missing = || Refusal {
                file: dir.join(names::MANIFEST_NAME),
                offset: 0,
                what: "the manifest is missing, and nothing else says which tables there were"
                    .to_owned(),
            };
            return Ok(refused(dir, refusal.unwrap_or_else(missing)));
        }
    };
    let mut survey = Survey::take(&**fs, dir)?;
    let segments = std::mem::take(&mut survey.segments);
    let segment_bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let named_end = segments.iter().map(|segment| segment.base.plus(segment.bytes)).max();
    let scan = Scan::take(&**fs, segments);
    work.note(segment_bytes);
    if survey.database != manifest.database {
        work.refuse(names::MANIFEST_NAME, 0, "the manifest belongs to another database");
    }
    if scan.generation > manifest.generation.get() {
        let what = format!(
            "the manifest is generation {}, older than generation {} that the log names: nothing says \
             what the newer one listed",
            manifest.generation, scan.generation
        );
        work.refuse(names::MANIFEST_NAME, 0, what);
    }
    let of_log = scan.segments.iter().map(|segment| &segment.name);
    let of_tables = survey.tables.values().map(|table| &table.name);
    if of_log.chain(of_tables).any(|name| name == names::LOCK_NAME) {
        let what = "under this name lies a part of the database, and the lock that a repair takes would \
                    overwrite it";
        work.refuse(names::LOCK_NAME, 0, what);
    }
    if scan.unreadable_bytes > 0 {
        let what = format!("the disk cannot read {} bytes of the log", scan.unreadable_bytes);
        work.refuse("", 0, what);
    }
    let mut actions = Vec::new();
    if let Some(offset) = mended {
        actions.push(Action::MendManifest { offset });
    }
    let rebuilds = work.tables(&manifest, &directory, &survey, &mut actions)?;
    let log = if work.refusals.is_empty() {
        work.log(&manifest, directory.clone(), &survey, scan, &mut actions)?
    } else {
        LogFinding::sound(&manifest, scan.groups.keys().map(|(epoch, _)| *epoch).max())
    };
    let mut originals = Vec::new();
    if !actions.is_empty() && work.refusals.is_empty() {
        originals = work.originals(&manifest, &directory, &rebuilds, &log)?;
    }
    let quarantined = originals.iter().map(|file| (file.name.clone(), file.bytes)).collect();
    let highest = directory.tables.keys().next_back().map_or(0, |id| id.get());
    let highest = highest.max(log.installed.iter().map(|id| id.get()).max().unwrap_or(0));
    let ranges_end = manifest.epochs.iter().map(|range| range.end.unwrap_or(range.start)).max();
    let log_end = named_end.into_iter().chain(ranges_end).chain([manifest.checkpoint_lsn, log.end]);
    let mut diagnosis = Diagnosis {
        plan: Plan {
            directory: dir.to_path_buf(),
            database: manifest.database,
            id: None,
            actions,
            refusals: work.refusals,
            lost_log: log.lost,
            left_out: log.left_out,
            last_seqno: log.last_seqno,
            last_lsn: log.last_lsn,
            quarantined,
        },
        rebuilds,
        log: log.rewrite,
        generation: log.generation.max(manifest.generation.get()),
        log_end: log_end.max().unwrap_or_default(),
        last_epoch: log.last_epoch.max(manifest.last_epoch.get()),
        next_file_id: FileId(manifest.next_file_id.get().max(highest + 1)),
        originals,
        manifest,
    };
    diagnosis.plan.id = work_id(fs, dir, &diagnosis)?;
    Ok(diagnosis)
}

fn refused(dir: &Path, refusal: Refusal) -> Diagnosis {
    Diagnosis {
        plan: Plan {
            directory: dir.to_path_buf(),
            database: Default::default(),
            id: None,
            actions: Vec::new(),
            refusals: vec![refusal],
            lost_log: Vec::new(),
            left_out: 0,
            last_seqno: Seqno::ZERO,
            last_lsn: Lsn::ZERO,
            quarantined: Vec::new(),
        },
        manifest: Manifest::default(),
        rebuilds: Vec::new(),
        log: None,
        generation: 0,
        log_end: Lsn::ZERO,
        last_epoch: 0,
        next_file_id: FileId(1),
        originals: Vec::new(),
    }
}

/// What is to be said of the log.
struct LogFinding {
    rewrite: Option<(Log, BackupRecord, Reached)>,
    lost: Vec<LostLog>,
    left_out: u64,
    last_seqno: Seqno,
    last_lsn: Lsn,
    end: Lsn,
    last_epoch: u64,
    generation: u64,
    /// Tables that its transactions install.
    installed: BTreeSet<FileId>,
}

impl LogFinding {
    fn sound(manifest: &Manifest, last_epoch: Option<u64>) -> LogFinding {
        LogFinding {
            rewrite: None,
            lost: Vec::new(),
            left_out: 0,
            last_seqno: manifest.checkpoint_seqno,
            last_lsn: manifest.checkpoint_lsn,
            end: manifest.checkpoint_lsn,
            last_epoch: last_epoch.unwrap_or(0),
            generation: 0,
            installed: BTreeSet::new(),
        }
    }
}

/// The manifest and where a bit of it was wrong, or why there is none to go by.
type FoundManifest = Result<(Manifest, Option<u64>), Option<Refusal>>;

struct Work<'a> {
    fs: &'a Arc<dyn FileSystem>,
    dir: &'a Path,
    progress: &'a mut dyn FnMut(u64),
    read: u64,
    refusals: Vec<Refusal>,
}

impl Work<'_> {
    fn note(&mut self, bytes: u64) {
        self.read += bytes;
        (self.progress)(self.read);
    }

    fn refuse(&mut self, name: &str, offset: u64, what: impl Into<String>) {
        self.refusals.push(Refusal { file: self.dir.join(name), offset, what: what.into() });
    }

    fn manifest(&mut self) -> Result<FoundManifest> {
        let error = match read_manifest(&**self.fs, self.dir, false) {
            Ok(manifest) => return Ok(Ok((manifest, None))),
            Err(error @ Error::Damage { .. }) => error,
            Err(error) => return Err(error),
        };
        let Error::Damage { file, offset, what, .. } = error else { return Err(error) };
        let bytes = self.fs.open(&file, crate::fs::OpenMode::Read).and_then(|open| {
            let length = open.len()?.min(codec::MAX_MANIFEST_BYTES);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            let read = crate::fs::read_full(&*open, &mut bytes, 0)?;
            bytes.truncate(read);
            Ok(bytes)
        });
        let bytes = bytes.map_err(|e| Error::io("read", &file, e))?;
        if let Some((at, manifest)) = mend(&bytes)
            && manifest.read_only_features_supported()
        {
            return Ok(Ok((manifest, Some(at as u64))));
        }
        let what = format!("{what}; more than one bit is wrong, and there is no other manifest");
        Ok(Err(Some(Refusal { file, offset, what })))
    }

    /// Reads the tables that the manifest lists.
    fn tables(
        &mut self,
        manifest: &Manifest,
        directory: &Directory,
        survey: &Survey,
        actions: &mut Vec<Action>,
    ) -> Result<Vec<Rebuild>> {
        let cache = Arc::new(BlockCache::new(1 << 20));
        let mut rebuilds = Vec::new();
        for (run, meta) in table_metas(self.dir, manifest)? {
            let Err(error) = self.check(manifest, directory, &meta, &cache) else { continue };
            let Error::Damage { offset, what, .. } = error else { return Err(error) };
            let name = names::table_name(meta.file_id);
            let found = self.harvestable(manifest, survey, &meta);
            match found {
                Ok(file) => {
                    let entries = meta.entries;
                    actions.push(Action::RebuildTable { file: name, offset, what, entries });
                    rebuilds.push(Rebuild { run, meta, file });
                }
                Err(why) => self.refuse(&name, offset, format!("{what}; {why}")),
            }
        }
        Ok(rebuilds)
    }

    /// Reads a table whole.
    fn check(
        &mut self,
        manifest: &Manifest,
        directory: &Directory,
        meta: &TableMeta,
        cache: &Arc<BlockCache>,
    ) -> Result<()> {
        let path = self.dir.join(names::table_name(meta.file_id));
        match directory.tables.get(&meta.file_id) {
            None => return Err(Error::damage(&path, 0, "the table is missing")),
            Some(bytes) if *bytes != meta.file_bytes => {
                let what = format!("the table has {bytes} bytes, expected {}", meta.file_bytes);
                return Err(Error::damage(&path, meta.file_bytes.min(*bytes), what));
            }
            Some(_) => {}
        }
        let (fs, database) = (self.fs.clone(), manifest.database);
        let table = Table::new(fs, path, database, meta.clone(), ReadMode::Pread, cache.clone());
        let outcome = table.check(&mut |_| {}).map(drop);
        self.note(meta.file_bytes);
        outcome
    }

    /// The file from which a damaged table can be written anew, or why it cannot.
    fn harvestable(
        &mut self,
        manifest: &Manifest,
        survey: &Survey,
        meta: &TableMeta,
    ) -> std::result::Result<TableFile, String> {
        let Some(file) = survey.tables.get(&meta.file_id) else {
            return Err("there is nothing to write it anew from".to_owned());
        };
        let harvester = Harvester {
            fs: &**self.fs,
            database: manifest.database,
            writer: None,
            is_dropped: &|_| false,
        };
        let harvest = harvester.harvest(meta.file_id, file, Some(meta), false, FileId(0));
        self.note(file.bytes);
        match harvest {
            Err(error) => Err(error.to_string()),
            Ok(found) if !found.is_whole() || found.lost_keys_count > 0 => {
                let lost = found.lost_entries.unwrap_or(0) + found.lost_keys_count;
                Err(format!("{lost} of its {} entries cannot be read", meta.entries))
            }
            Ok(found) if found.entries != meta.entries => {
                Err("what can be read of it is not what the manifest says of it".to_owned())
            }
            Ok(_) => Ok(file.clone()),
        }
    }

    fn log(
        &mut self,
        manifest: &Manifest,
        directory: Directory,
        survey: &Survey,
        scan: Scan,
        actions: &mut Vec<Action>,
    ) -> Result<LogFinding> {
        let last_epoch = scan.groups.keys().map(|(epoch, _)| *epoch).max();
        let mut finding = LogFinding::sound(manifest, last_epoch);
        finding.generation = scan.generation;
        let ends = scan.groups.values().map(|group| group.end());
        finding.end = ends.max().unwrap_or_default();
        // The tables have been looked at; here only the log is in question.
        let bare = Manifest { runs: Vec::new(), ..manifest.clone() };
        let cache = Arc::new(BlockCache::new(1 << 20));
        let fault = match plan_with(&**self.fs, self.dir, directory.clone(), bare, Reader::Alone) {
            Ok(OpenPlan::Create) => None,
            Ok(OpenPlan::Open(open)) => {
                finding.last_seqno = open.last_seqno;
                finding.last_lsn = open.tail.at;
                finding.installed = open.installed.iter().map(|meta| meta.file_id).collect();
                let check = |meta| self.check(manifest, &directory, meta, &cache).err();
                open.installed.iter().find_map(check)
            }
            Err(error) => Some(error),
        };
        let Some(error) = fault else { return Ok(finding) };
        let Error::Damage { file, offset, what, .. } = error else { return Err(error) };
        let chain = Chain::follow(&**self.fs, &scan, Some(manifest));
        self.follow(manifest, survey, &scan, &chain, &mut finding)?;
        let record = BackupRecord {
            database: manifest.database,
            number: 0,
            taken_micros: 0,
            lsn: manifest.checkpoint_lsn,
            seqno: manifest.checkpoint_seqno,
            content: None,
            files: Vec::new(),
            manifest: manifest.clone(),
        };
        let log = Log::of(scan, chain, survey.tables.clone(), self.dir);
        let reached = log.reach(&**self.fs, &record, Until::Damage)?;
        finding.last_seqno = reached.seqno;
        finding.last_lsn = reached.lsn;
        actions.push(Action::RewriteLog { file, offset, what, commits: reached.transactions });
        finding.rewrite = Some((log, record, reached));
        Ok(finding)
    }

    /// What the groups that verify give: losses, commits behind the first missing one, installed tables.
    fn follow(
        &mut self,
        manifest: &Manifest,
        survey: &Survey,
        scan: &Scan,
        chain: &Chain,
        finding: &mut LogFinding,
    ) -> Result<()> {
        let after = manifest.checkpoint_seqno;
        let mut last = after;
        let mut left_out = 0;
        let mut installed: BTreeMap<FileId, TableMeta> = BTreeMap::new();
        let pass = transactions(&**self.fs, scan, chain, Some(after), &mut |transaction| {
            if left_out > 0 || transaction.seqno.get() != last.get() + 1 {
                left_out += 1;
                return Ok(true);
            }
            last = transaction.seqno;
            for operation in Operations::new(transaction.operations).map_while(Result::ok) {
                if let Operation::InstallTable { meta } = operation {
                    let mut input = meta;
                    let meta = TableMeta::decode(&mut input);
                    installed.extend(meta.map(|meta| (meta.file_id, meta)));
                }
            }
            Ok(true)
        })?;
        finding.lost = pass.lost;
        finding.left_out = left_out;
        for meta in installed.values() {
            if let Err(why) = self.harvestable(manifest, survey, meta) {
                let what = format!("a large transaction of the log needs this table; {why}");
                self.refuse(&names::table_name(meta.file_id), 0, what);
            }
        }
        finding.installed = installed.into_keys().collect();
        Ok(())
    }

    /// The files that the repair replaces or takes away.
    fn originals(
        &self,
        manifest: &Manifest,
        directory: &Directory,
        rebuilds: &[Rebuild],
        log: &LogFinding,
    ) -> Result<Vec<FileMark>> {
        let mut replaced = BTreeSet::from([names::MANIFEST_NAME.to_owned()]);
        for rebuild in rebuilds {
            replaced.insert(names::table_name(rebuild.meta.file_id));
            replaced.insert(rebuild.file.name.clone());
        }
        if log.rewrite.is_some() {
            let live = directory
                .segments
                .iter()
                .filter(|segment| segment.base.plus(segment.bytes) > manifest.segment_base);
            replaced.extend(live.map(|segment| segment.name.clone()));
            replaced.extend(log.installed.iter().map(|id| names::table_name(*id)));
        }
        // A file that the manifest names stays, even if it holds what belongs elsewhere.
        let kept: BTreeSet<String> = table_metas(self.dir, manifest)?
            .into_iter()
            .filter(|(_, meta)| !rebuilds.iter().any(|one| one.meta.file_id == meta.file_id))
            .map(|(_, meta)| names::table_name(meta.file_id))
            .collect();
        let mut marks = Vec::new();
        for name in replaced.difference(&kept) {
            debug_assert!(names::classify(name) != OurFile::Foreign, "{name}");
            if self.fs.kind(&self.dir.join(name)).is_ok_and(|kind| kind == PathKind::File) {
                marks.extend(files::mark(&**self.fs, self.dir, name)?);
            }
        }
        Ok(marks)
    }
}
