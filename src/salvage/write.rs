//! Puts the new database together: runs from tables, then from the log, oldest first, and at the end the
//! manifest.
//!
//! Every table of the source becomes at most one table here, in a run of the same place and commits, so
//! that nothing is held in memory but the log's part, in batches. What belongs to keyspaces that are known
//! to be dropped is left out.

use super::chain::Chain;
use super::harvest::{Harvest, Harvester, LostRange};
use super::named::Named;
use super::receipt::{LostTable, ManifestState, Receipt, SetAside};
use super::replay::{Pass, transactions};
use super::scan::Scan;
use super::survey::{Survey, TableFile};
use crate::checkpoint::write::{Purpose, TableWriter};
use crate::error::{Error, Result};
use crate::fresh;
use crate::fs::FileSystem;
use crate::manifest::{Manifest, RunEntry, names};
use crate::options::Builder;
use crate::recovery::plan::table_metas;
use crate::stats::Counters;
use crate::table::TableMeta;
use crate::types::{DatabaseId, FileId, KeyspaceId, Seqno};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A salvage under way.
pub struct Build<'a> {
    pub fs: &'a Arc<dyn FileSystem>,
    pub source: &'a Path,
    pub target: Option<&'a Path>,
    pub database: DatabaseId,
    pub new_database: DatabaseId,
    pub options: Builder,
    pub counters: Counters,
    pub named: Named,
    pub receipt: Receipt,
    /// Oldest first.
    pub runs: Vec<RunEntry>,
    pub next_file_id: u64,
    pub used_keyspaces: BTreeSet<KeyspaceId>,
    pub lost: Vec<(LostTable, Vec<LostRange>)>,
    pub lost_keys: Vec<(KeyspaceId, Vec<u8>)>,
    pub read_bytes: u64,
    pub progress: &'a mut dyn FnMut(u64),
}

/// Salvages `source` into `target`, or only counts without one.
pub fn run(
    fs: &Arc<dyn FileSystem>,
    source: &Path,
    target: Option<&Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Receipt> {
    let mut survey = Survey::take(&**fs, source)?;
    let scan = Scan::take(&**fs, std::mem::take(&mut survey.segments));
    let read_bytes = scan.segments.iter().map(|segment| segment.bytes).sum();
    progress(read_bytes);
    let trusted = judge_manifest(&mut survey, &scan);
    let manifest = survey.manifest.take();
    if manifest.is_none() && scan.groups.is_empty() && survey.tables.is_empty() {
        return Err(Error::NotADatabase {
            path: source.to_path_buf(),
            what: "it holds no readable manifest, group or table; nothing can be salvaged"
                .to_owned(),
        });
    }
    let trusted_manifest = manifest.as_ref().filter(|_| trusted);
    let chain = Chain::follow(&**fs, &scan, trusted_manifest);
    let mut named = Named::default();
    for keyspace in manifest.iter().flat_map(|manifest| &manifest.keyspaces) {
        named.names.insert(keyspace.id, (keyspace.name.clone(), keyspace.created));
        named.highest = named.highest.max(keyspace.id);
    }
    if let Some(manifest) = trusted_manifest {
        named.all_known_below = manifest.next_keyspace_id;
    }
    let after = trusted_manifest.map(|manifest| manifest.checkpoint_seqno);
    let mut pass = transactions(&**fs, &scan, &chain, after, &mut |transaction| {
        named.note(transaction);
        Ok(true)
    })?;
    named.settle();
    let new_database = match target {
        Some(target) => fresh::new_database_id(&**fs, target)?,
        None => survey.database,
    };
    let receipt = Receipt {
        source: source.to_path_buf(),
        source_database: survey.database,
        target: target.unwrap_or(Path::new("")).to_path_buf(),
        target_database: new_database,
        manifest: survey.manifest_state.clone(),
        order_guessed: false,
        last_seqno: pass.last_seqno,
        last_commit_micros: pass.last_commit_micros,
        tail: if pass.transactions > 0 { pass.last_lsn } else { chain.end },
        transactions: 0,
        tables_read: 0,
        tables_written: 0,
        entries: 0,
        keyspaces: Vec::new(),
        unnamed_keyspaces: Vec::new(),
        lost_log: std::mem::take(&mut pass.lost),
        lost_tables: Vec::new(),
        lost_keys: Vec::new(),
        lost_keys_count: 0,
        set_aside: std::mem::take(&mut survey.set_aside),
        doubts: Vec::new(),
    };
    let mut build = Build {
        fs,
        source,
        target,
        database: survey.database,
        new_database,
        options: Builder::default(),
        counters: Counters::default(),
        named,
        receipt,
        runs: Vec::new(),
        next_file_id: 1,
        used_keyspaces: BTreeSet::new(),
        lost: Vec::new(),
        lost_keys: Vec::new(),
        read_bytes,
        progress,
    };
    if let Some(target) = target {
        fresh::make_place(&**fs, target)?;
    }
    let outcome = build
        .tables(trusted_manifest, &survey.tables, &pass)
        .and_then(|()| build.log(&scan, &chain, &survey.tables, trusted_manifest, &pass))
        .and_then(|()| build.finish(manifest.as_ref(), &scan));
    match outcome {
        Ok(()) => Ok(build.receipt),
        Err(error) => {
            // Without a manifest they are nothing but in the way of the next try.
            if let Some(writer) = build.writer() {
                (1..build.next_file_id).for_each(|id| writer.discard(FileId(id)));
            }
            Err(error)
        }
    }
}

/// Whether the manifest is the newest, as far as the log knows.
fn judge_manifest(survey: &mut Survey, scan: &Scan) -> bool {
    let Some(manifest) = &survey.manifest else { return false };
    let found = manifest.generation.get();
    if found < scan.generation {
        survey.manifest_state = ManifestState::Older { found, named: scan.generation };
        return false;
    }
    true
}

impl Build<'_> {
    pub fn writer(&self) -> Option<TableWriter<'_>> {
        let (fs, options, counters) = (self.fs, &self.options, &self.counters);
        let database = self.new_database;
        let purpose = Purpose::Copy;
        self.target.map(|dir| TableWriter {
            fs,
            dir,
            database,
            options,
            counters,
            purpose,
            pacer: None,
        })
    }

    /// The tables that lie below the log.
    fn tables(
        &mut self,
        manifest: Option<&Manifest>,
        files: &BTreeMap<FileId, TableFile>,
        pass: &Pass,
    ) -> Result<()> {
        let Some(manifest) = manifest else { return self.tables_by_number(files, pass) };
        let metas = table_metas(self.source, manifest)?;
        for (index, run) in manifest.runs.iter().enumerate().rev() {
            let mut tables = Vec::new();
            for (_, meta) in metas.iter().filter(|(of, _)| *of == index) {
                let bottom = run.level > 0;
                let file = files.get(&meta.file_id);
                tables.extend(self.table(file, meta.file_id, Some(meta), bottom, run.max_seqno)?);
            }
            self.push_run(tables, run.min_seqno, run.max_seqno, run.level);
        }
        let listed = |id: &FileId| {
            metas.iter().any(|(_, meta)| meta.file_id == *id)
                || self.named.installed.iter().any(|(_, meta)| meta.file_id == *id)
        };
        let orphans: Vec<SetAside> = files
            .iter()
            .filter(|(id, _)| !listed(id))
            .map(|(_, file)| SetAside {
                file: file.name.clone(),
                bytes: file.bytes,
                why: "no manifest and no commit names this table".to_owned(),
            })
            .collect();
        self.receipt.set_aside.extend(orphans);
        Ok(())
    }

    /// Without a manifest: tables that a full merge wrote (they have no filter) lie lowest, the others
    /// above them by number. Those that the log installs come with it.
    fn tables_by_number(&mut self, files: &BTreeMap<FileId, TableFile>, pass: &Pass) -> Result<()> {
        let below = Seqno(pass.first_seqno.map_or(0, |first| first.get().saturating_sub(1)));
        let below = below.max(pass.contiguous_from);
        let installed: BTreeSet<FileId> = self
            .named
            .installed
            .iter()
            .filter(|(seqno, _)| *seqno > pass.contiguous_from)
            .map(|(_, meta)| meta.file_id)
            .collect();
        let mut base: Vec<(FileId, Harvest)> = Vec::new();
        let mut upper: Vec<FileId> = Vec::new();
        for (id, file) in files.iter().rev().filter(|(id, _)| !installed.contains(id)) {
            let named = &self.named;
            let is_dropped = |id| named.is_dropped(id);
            let looker = Harvester {
                fs: &**self.fs,
                database: self.database,
                writer: None,
                is_dropped: &is_dropped,
            };
            let seen = looker.harvest(*id, file, None, false, *id)?;
            if seen.filter != Some(false) {
                upper.push(*id);
                continue;
            }
            let overlaps = |other: &Harvest| match (&seen.first, &seen.last) {
                (Some(first), Some(last)) => {
                    other.first.as_ref().is_some_and(|f| f <= last)
                        && other.last.as_ref().is_some_and(|l| l >= first)
                }
                _ => false,
            };
            if base.iter().any(|(_, other)| overlaps(other)) {
                self.receipt.set_aside.push(SetAside {
                    file: file.name.clone(),
                    bytes: file.bytes,
                    why: "a later merge replaced this table".to_owned(),
                });
            } else {
                base.push((*id, seen));
            }
        }
        self.receipt.order_guessed = base.len() + upper.len() > 0;
        self.receipt.doubts.push(
            "without a usable manifest nothing says which tables there were; missing ones leave no \
             trace"
                .to_owned(),
        );
        base.sort_by(|(_, one), (_, two)| one.first.cmp(&two.first));
        let mut tables = Vec::new();
        for (id, _) in &base {
            tables.extend(self.table(files.get(id), *id, None, true, below)?);
        }
        self.push_run(tables, below, below, 1);
        for id in upper.iter().rev() {
            let table = self.table(files.get(id), *id, None, false, below)?;
            self.push_run(table.into_iter().collect(), below, below, 0);
        }
        Ok(())
    }

    /// One table: from its file into a new one.
    pub fn table(
        &mut self,
        file: Option<&TableFile>,
        id: FileId,
        meta: Option<&TableMeta>,
        bottom: bool,
        seqno: Seqno,
    ) -> Result<Option<TableMeta>> {
        let name = file.map_or_else(|| names::table_name(id), |file| file.name.clone());
        let lost = |what: &str, harvest: &Harvest| LostTable {
            file: name.clone(),
            what: what.to_owned(),
            entries: harvest.lost_entries,
            range_tombstones: harvest.lost_range_tombstones,
            ranges: Vec::new(),
            last_seqno: meta.map(|_| seqno),
        };
        let missing = || Harvest {
            lost_entries: meta.map(|meta| meta.entries),
            lost_range_tombstones: meta.map(|meta| meta.range_tombstones),
            lost: meta.map(|meta| LostRange::whole(Some(meta))).into_iter().collect(),
            ..Harvest::default()
        };
        let Some(file) = file else {
            let harvest = missing();
            self.lost.push((lost("the table is missing", &harvest), harvest.lost));
            return Ok(None);
        };
        let new_id = FileId(self.next_file_id);
        self.next_file_id += 1;
        let named = &self.named;
        let is_dropped = |id| named.is_dropped(id);
        let harvester = Harvester {
            fs: &**self.fs,
            database: self.database,
            writer: self.writer(),
            is_dropped: &is_dropped,
        };
        let harvest = match harvester.harvest(id, file, meta, bottom, new_id) {
            // The new disk failed; what the old one cannot read is skipped, not an error.
            Err(Error::Io { action: "open" | "read", path, cause }) if path == file.path => {
                let harvest = missing();
                let what = format!("the table cannot be read: {cause}");
                self.lost.push((lost(&what, &harvest), harvest.lost));
                return Ok(None);
            }
            outcome => outcome?,
        };
        self.read_bytes += file.bytes;
        (self.progress)(self.read_bytes);
        self.receipt.tables_read += 1;
        self.receipt.entries += harvest.entries;
        self.used_keyspaces.extend(&harvest.keyspaces);
        if harvest.skipped_bytes > 0 {
            self.receipt.set_aside.push(SetAside {
                file: name.clone(),
                bytes: harvest.skipped_bytes,
                why: "damaged".to_owned(),
            });
        }
        if !harvest.is_whole() {
            self.lost.push((lost("blocks are missing or damaged", &harvest), harvest.lost));
        }
        self.receipt.lost_keys_count += harvest.lost_keys_count;
        self.lost_keys.extend(harvest.lost_keys);
        Ok(harvest.written)
    }

    pub fn push_run(&mut self, tables: Vec<TableMeta>, min: Seqno, max: Seqno, level: u8) {
        if tables.is_empty() {
            return;
        }
        self.receipt.tables_written += tables.len() as u64;
        let encode = |table: &TableMeta| {
            let mut bytes = Vec::new();
            table.encode(&mut bytes);
            bytes
        };
        let tables = tables.iter().map(encode).collect();
        self.runs.push(RunEntry { min_seqno: min, max_seqno: max, level, tables });
    }
}
