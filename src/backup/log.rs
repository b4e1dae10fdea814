//! The log that followed a backup: how far it leads, and what it makes of the base.

use super::format::BackupRecord;
use super::restore::Until;
use crate::catalog::Catalog;
use crate::checkpoint::write::TableWriter;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::manifest::{KeyspaceEntry, Manifest, names};
use crate::memtable::Memtable;
use crate::recovery::apply::{ApplyError, apply_operations};
use crate::salvage::parts::{
    Chain, FoundTransaction, Harvester, Scan, Survey, TableFile, transactions,
};
use crate::table::TableMeta;
use crate::types::{DatabaseId, Epoch, FileId, KeyspaceId, Lsn, Seqno};
use crate::wal::buffer::align_up;
use crate::wal::operation::{Operation, Operations};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Memory for the log's part before it becomes a table, in bytes.
const BATCH_BYTES: usize = 24 << 20;

/// A run of new tables: commits from, to, level.
pub type NewRun = (Seqno, Seqno, u8, Vec<TableMeta>);

/// All log of one database that some directories hold.
#[derive(Debug, Default)]
pub struct Log {
    found: Option<(Scan, Chain)>,
    tables: BTreeMap<FileId, TableFile>,
    directory: PathBuf,
    /// One of the directories is that of the database itself.
    has_database: bool,
    /// What its tables hold: commits up to this one were made.
    known: Seqno,
}

/// How far the log leads from a backup.
#[derive(Debug)]
pub struct Reached {
    pub seqno: Seqno,
    pub lsn: Lsn,
    pub last_commit_micros: u64,
    pub transactions: u64,
    /// Commits behind this one are missing.
    pub gap_after: Option<Seqno>,
    /// The first commit behind those.
    pub next: Option<(Seqno, Lsn)>,
    /// Nothing says that the log goes on past the point, so what came before the point may lie elsewhere.
    pub end_unsure: bool,
    /// Keyspaces at that point.
    pub keyspaces: Vec<KeyspaceEntry>,
    pub next_keyspace_id: KeyspaceId,
}

impl Log {
    /// Reads the log in `directories`. Segments of other databases are left out.
    pub fn read(fs: &dyn FileSystem, directories: &[PathBuf], database: DatabaseId) -> Result<Log> {
        let mut segments = Vec::new();
        let mut tables = BTreeMap::new();
        let mut manifest: Option<Manifest> = None;
        for directory in directories {
            let survey = match Survey::take(fs, directory) {
                // An archive into which nothing was released yet.
                Err(Error::NotADatabase { .. }) if is_empty(fs, directory) => continue,
                outcome => outcome?,
            };
            manifest = manifest.into_iter().chain(survey.manifest).max_by_key(|m| m.generation);
            if survey.database != database {
                return Err(Error::InvalidArgument(format!(
                    "{} holds log of database {}, the backup is of {database}; name the archive that \
                     belongs to it",
                    directory.display(),
                    survey.database
                )));
            }
            segments.extend(survey.segments);
            for (id, file) in survey.tables {
                tables.entry(id).or_insert(file);
            }
        }
        let scan = Scan::take(fs, segments);
        let mut chain = Chain::follow(fs, &scan, None);
        let has_database = manifest.is_some();
        let mut known = Seqno::ZERO;
        if let Some(manifest) = manifest.filter(|m| m.generation.get() >= scan.generation) {
            leave_out_what_was_cut(&mut chain, &scan, &manifest);
            known = manifest.checkpoint_seqno;
        }
        let directory = directories.first().cloned().unwrap_or_default();
        Ok(Log { found: Some((scan, chain)), tables, directory, has_database, known })
    }

    /// Log that was read already.
    pub fn of(
        scan: Scan,
        chain: Chain,
        tables: BTreeMap<FileId, TableFile>,
        directory: &Path,
    ) -> Log {
        let directory = directory.to_path_buf();
        let (has_database, known) = (true, Seqno::ZERO);
        Log { found: Some((scan, chain)), tables, directory, has_database, known }
    }

    /// The last epoch that left something.
    pub fn last_epoch(&self) -> Epoch {
        let last = self.found.as_ref().and_then(|(scan, _)| scan.groups.keys().next_back());
        last.map_or(Epoch(0), |(epoch, _)| Epoch(*epoch))
    }

    /// Finds the last commit to take.
    pub fn reach(
        &self,
        fs: &dyn FileSystem,
        record: &BackupRecord,
        until: Until,
    ) -> Result<Reached> {
        let mut catalog =
            Catalog::new(&record.manifest.keyspaces, record.manifest.next_keyspace_id);
        let mut reached = Reached {
            seqno: record.seqno,
            lsn: record.lsn,
            last_commit_micros: 0,
            transactions: 0,
            gap_after: None,
            next: None,
            end_unsure: false,
            keyspaces: Vec::new(),
            next_keyspace_id: KeyspaceId(1),
        };
        if let Some((scan, chain)) = &self.found {
            let mut passed = false;
            let pass = transactions(fs, scan, chain, Some(record.seqno), &mut |transaction| {
                passed = is_past(transaction, until);
                if transaction.seqno.get() != reached.seqno.get() + 1 {
                    // What is missing may lie before the point, unless that is the last commit there is.
                    if until != Until::Lsn(reached.lsn) {
                        reached.gap_after = Some(reached.seqno);
                        reached.next = Some((transaction.seqno, transaction.lsn));
                    }
                    return Ok(false);
                }
                if passed {
                    return Ok(false);
                }
                reached.seqno = transaction.seqno;
                reached.lsn = transaction.lsn;
                reached.last_commit_micros = transaction.time_micros;
                reached.transactions += 1;
                note_keyspaces(&mut catalog, transaction);
                Ok(true)
            })?;
            // Something is missing behind the last commit that was found.
            let ended = !passed && pass.last_seqno == reached.seqno && reached.gap_after.is_none();
            // The database's own tables hold more than the log that is left.
            let exact = until == Until::Lsn(reached.lsn);
            if ended && !exact && reached.gap_after.is_none() && self.known > reached.seqno {
                reached.gap_after = Some(reached.seqno);
            }
            reached.end_unsure = matches!(until, Until::Time(_)) && !passed && !self.has_database;
            if ended && pass.lost.iter().any(|lost| lost.certain && lost.from >= reached.lsn) {
                reached.gap_after = Some(reached.seqno);
            }
            self.check_reach(&reached, scan, until)?;
        }
        reached.keyspaces = catalog.entries_at(reached.seqno);
        reached.next_keyspace_id = catalog.next_id;
        Ok(reached)
    }

    fn check_reach(&self, reached: &Reached, scan: &Scan, until: Until) -> Result<()> {
        if let Some(gap_after) = reached.gap_after
            && until != Until::Damage
        {
            return Err(Error::LogGap {
                path: self.directory.clone(),
                after: gap_after,
                before: reached.next.map(|(seqno, _)| seqno),
                lsn: reached.lsn,
                next_lsn: reached.next.map(|(_, lsn)| lsn),
            });
        }
        if let Until::Lsn(lsn) = until {
            let end = scan.groups.values().filter(|group| group.intact).map(|group| group.end());
            let end = align_up(end.max().unwrap_or_default());
            if lsn > end.max(reached.lsn) {
                return Err(Error::InvalidArgument(format!(
                    "the log goes to LSN {end} and does not reach {lsn}; its last commit is at {}",
                    reached.lsn
                )));
            }
        }
        Ok(())
    }

    /// Writes the commits between the backup and the point as tables, oldest first.
    pub fn write(
        &self,
        writer: &TableWriter<'_>,
        record: &BackupRecord,
        reached: &Reached,
        catalog: &Catalog,
        next: &mut FileId,
        runs: &mut Vec<NewRun>,
    ) -> Result<()> {
        let Some((scan, chain)) = &self.found else { return Ok(()) };
        let mut batch =
            Batch { writer, catalog, next, runs, memtable: Memtable::new(), span: None };
        transactions(&**writer.fs, scan, chain, Some(record.seqno), &mut |transaction| {
            if transaction.seqno > reached.seqno {
                return Ok(false);
            }
            let mut installed = Vec::new();
            let applied = apply_operations(
                &batch.memtable,
                transaction.seqno,
                transaction.operations,
                &mut |operation| {
                    if let Operation::InstallTable { meta } = operation {
                        let mut input = *meta;
                        installed.extend(TableMeta::decode(&mut input));
                    }
                    Ok(())
                },
            );
            applied.map_err(|error| match error {
                ApplyError::Failed(error) => error,
                ApplyError::Fault(fault) => Error::damage(
                    &self.directory,
                    0,
                    format!("commit {} holds a bad operation: {fault}", transaction.seqno),
                ),
            })?;
            if !installed.is_empty() {
                batch.seal()?;
            }
            batch.note(transaction.seqno);
            for meta in installed {
                let table = self.installed(&meta)?;
                let id = batch.take_file_id();
                let written = self.harvest(&batch, record.database, table, &meta, id)?;
                let seqno = transaction.seqno;
                batch.runs.extend(written.map(|written| (seqno, seqno, 0, vec![written])));
                batch.span = None;
            }
            if batch.memtable.bytes() > BATCH_BYTES {
                batch.seal()?;
            }
            Ok(true)
        })?;
        batch.seal()
    }

    fn installed(&self, meta: &TableMeta) -> Result<&TableFile> {
        self.tables.get(&meta.file_id).ok_or_else(|| {
            let path = self.directory.join(names::table_name(meta.file_id));
            Error::damage(
                &path,
                0,
                "a large transaction of the log needs this table, which is in none of the directories",
            )
        })
    }

    fn harvest(
        &self,
        batch: &Batch<'_, '_>,
        database: DatabaseId,
        file: &TableFile,
        meta: &TableMeta,
        new_id: FileId,
    ) -> Result<Option<TableMeta>> {
        let is_dropped = |id| !batch.catalog.is_live(id, Seqno::MAX);
        let harvester = Harvester {
            fs: &**batch.writer.fs,
            database,
            writer: Some(*batch.writer),
            is_dropped: &is_dropped,
        };
        let harvest = harvester.harvest(meta.file_id, file, Some(meta), false, new_id)?;
        if harvest.is_whole() && harvest.lost_keys_count == 0 {
            return Ok(harvest.written);
        }
        Err(damaged_table(&file.path))
    }
}

/// All that counts of an epoch which the manifest no longer lists is in tables. Commits behind those were
/// cut by a recovery, and lie in files that were not used again yet.
fn leave_out_what_was_cut(chain: &mut Chain, scan: &Scan, manifest: &Manifest) {
    let first_cut = Seqno(manifest.checkpoint_seqno.get() + 1);
    let epochs: BTreeSet<u64> = scan.groups.keys().map(|(epoch, _)| *epoch).collect();
    for epoch in epochs.into_iter().map(Epoch) {
        let listed = manifest.epochs.iter().any(|range| range.epoch == epoch);
        if listed || epoch > manifest.last_epoch {
            continue;
        }
        match chain.cuts.iter_mut().find(|(of, _)| *of == epoch) {
            Some((_, cut)) => *cut = first_cut.min(*cut),
            None => chain.cuts.push((epoch, first_cut)),
        }
    }
}

fn is_empty(fs: &dyn FileSystem, directory: &Path) -> bool {
    fs.list(directory).is_ok_and(|entries| entries.is_empty())
}

fn damaged_table(path: &Path) -> Error {
    Error::damage(path, 0, "blocks of a table that a large transaction installed are damaged")
}

fn is_past(transaction: &FoundTransaction<'_>, until: Until) -> bool {
    match until {
        Until::Backup => true,
        Until::Lsn(lsn) => transaction.lsn > lsn,
        Until::Time(time) => transaction.time_micros > time,
        Until::Damage => false,
    }
}

fn note_keyspaces(catalog: &mut Catalog, transaction: &FoundTransaction<'_>) {
    for operation in Operations::new(transaction.operations).map_while(Result::ok) {
        match operation {
            Operation::CreateKeyspace { id, name } => {
                catalog.add(id, name, transaction.seqno);
            }
            Operation::DropKeyspace { id } => catalog.drop_keyspace(id, transaction.seqno),
            _ => {}
        }
    }
}

/// Commits that gather in memory until they are a table.
struct Batch<'a, 'w> {
    writer: &'a TableWriter<'w>,
    catalog: &'a Catalog,
    next: &'a mut FileId,
    runs: &'a mut Vec<NewRun>,
    memtable: Memtable,
    /// First and last commit in it.
    span: Option<(Seqno, Seqno)>,
}

impl Batch<'_, '_> {
    fn note(&mut self, seqno: Seqno) {
        let first = self.span.map_or(seqno, |(first, _)| first);
        self.span = Some((first, seqno));
    }

    fn take_file_id(&mut self) -> FileId {
        let id = *self.next;
        *self.next = FileId(id.get() + 1);
        id
    }

    fn seal(&mut self) -> Result<()> {
        let memtable = std::mem::take(&mut self.memtable);
        let Some((first, last)) = self.span.take() else { return Ok(()) };
        if memtable.is_empty() {
            return Ok(());
        }
        let id = self.take_file_id();
        let catalog = Some(self.catalog);
        let written = self.writer.write_memtable(&memtable, last, catalog, false, id)?;
        self.runs.extend(written.map(|meta| (first, last, 0, vec![meta])));
        Ok(())
    }
}
