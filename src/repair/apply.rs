//! Carrying a plan out.
//!
//! 1. Under the lock the plan is made again; another number is a refusal.
//! 2. Originals are copied to the quarantine, synced, read back.
//! 3. New tables are written under numbers that were never used, and synced, names too.
//! 4. The journal says what is about to happen.
//! 5. The manifest is exchanged: this is the moment of the repair.
//! 6. Originals that nothing names any more are taken away. The result is checked whole; if it fails, all is
//!    undone.
//!
//! A run that died before 5 left the database as it was; run again, it starts anew and finds its copies.
//! One that died after 5 left it repaired; run again, it finishes 6.

use super::diagnose::{Diagnosis, diagnose};
use super::files::{self, FileMark};
use super::journal::{Journal, place};
use super::undo::put_back;
use super::{Plan, PlanId, QUARANTINE};
use crate::backup::parts::NewRun;
use crate::catalog::Catalog;
use crate::checkpoint::write::{Purpose, TableWriter};
use crate::error::{Error, Result};
use crate::fs::{self, Barrier, FileSystem, PathKind};
use crate::lock;
use crate::manifest::{Manifest, RunEntry, names};
use crate::options::{Builder, Sizes};
use crate::recovery::plan::table_metas;
use crate::salvage::parts::Harvester;
use crate::stats::Counters;
use crate::table::TableMeta;
use crate::types::{Epoch, FileId, Generation};
use crate::wal::buffer::align_up;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The plan's number.
    pub id: PlanId,
    /// Where the originals are.
    pub quarantine: PathBuf,
    /// The plan; `None` if an earlier run had done all but the end.
    pub plan: Option<Plan>,
    /// Whether something that was committed is gone.
    pub lossy: bool,
}

/// Carries out the plan of that number. `progress` is told, now and then, how many bytes were read.
///
/// Needs room for a copy of the files that it replaces, and for the new ones.
///
/// # Errors
/// [`Error::PlanChanged`] if the files are not those of the plan, [`Error::Damage`] if it cannot be repaired,
/// [`Error::Locked`], [`Error::NoSpace`], [`Error::Io`]. After an error the database is as it was, or, if
/// the error came behind the exchange of the manifest, repaired; the same call again finishes the work.
pub fn apply(
    fs: &Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    id: PlanId,
    progress: &mut dyn FnMut(u64),
) -> Result<Applied> {
    let dir = dir.as_ref();
    if fs.kind(dir).map_err(|e| Error::io("look at", dir, e))? != PathKind::Directory {
        return Err(Error::NotFound { path: dir.to_path_buf() });
    }
    let _lock = lock::take(&**fs, dir)?;
    let quarantine = place(dir, id);
    if let Some(journal) = Journal::read(&**fs, dir, id)? {
        let now = files::mark(&**fs, dir, names::MANIFEST_NAME)?.map(|now| now.sum);
        if now == Some(journal.after) {
            // The name may not be durable yet.
            let synced = fs::sync_dir(&**fs, dir, Barrier::ManifestName);
            synced.map_err(|e| Error::io("sync", dir, e))?;
            take_away(&**fs, dir, &journal)?;
            return Ok(Applied { id, quarantine, plan: None, lossy: journal.lossy });
        }
        if now == journal.original(names::MANIFEST_NAME).map(|file| file.sum) {
            // An earlier run died before it exchanged the manifest.
            journal.new.iter().try_for_each(|name| files::remove(&**fs, dir, name))?;
        }
    }
    let found = diagnose(fs, dir, progress)?;
    if let Some(refusal) = found.plan.refusals.first() {
        return Err(Error::damage(&refusal.file, refusal.offset, refusal.what.clone()));
    }
    if found.plan.id != Some(id) {
        let what = match found.plan.id {
            Some(now) => format!("the plan of its files is now {now}, not {id}"),
            None => format!("nothing is to be repaired; plan {id} was made of other files"),
        };
        return Err(Error::PlanChanged { path: dir.to_path_buf(), what });
    }
    keep(&**fs, dir, &quarantine, &found.originals)?;
    let mut new = Vec::new();
    let outcome = write(fs, dir, &found, &mut new);
    let (manifest, bytes) = outcome.inspect_err(|_| discard(&**fs, dir, &new))?;
    let journal = Journal {
        plan: id,
        after: xxh3_128(&bytes),
        originals: found.originals.clone(),
        new: new.iter().map(|id| names::table_name(*id)).collect(),
        lossy: manifest.salvaged && !found.manifest.salvaged,
    };
    journal.write(&**fs, dir).inspect_err(|_| discard(&**fs, dir, &new))?;
    let barriers = (Barrier::ManifestContent, Barrier::ManifestName);
    files::replace(&**fs, dir, names::MANIFEST_NAME, &bytes, barriers)?;
    take_away(&**fs, dir, &journal)?;
    if let Err(error) = crate::check::expect_sound(fs, dir) {
        put_back(&**fs, dir, &journal)?;
        return Err(error);
    }
    let lossy = journal.lossy;
    Ok(Applied { id, quarantine, plan: Some(found.plan), lossy })
}

/// Copies the originals.
fn keep(fs: &dyn FileSystem, dir: &Path, to: &Path, originals: &[FileMark]) -> Result<()> {
    for (made, parent) in [(dir.join(QUARANTINE), dir), (to.to_path_buf(), &dir.join(QUARANTINE))] {
        match fs.create_dir(&made) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            outcome => outcome.map_err(|e| Error::io("create", &made, e))?,
        }
        files::sync_names(fs, parent)?;
    }
    for file in originals {
        files::copy(fs, dir, to, file)?;
    }
    files::sync_names(fs, to)
}

fn discard(fs: &dyn FileSystem, dir: &Path, new: &[FileId]) {
    // What stays is an orphan, which the next open removes.
    new.iter().for_each(|id| drop(fs.remove(&dir.join(names::table_name(*id)))));
}

/// Writes the new tables; gives the manifest that names them, and its bytes.
fn write(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    found: &Diagnosis,
    new: &mut Vec<FileId>,
) -> Result<(Manifest, Vec<u8>)> {
    let (options, counters) = (Builder::default(), Counters::default());
    let database = found.manifest.database;
    let (options, counters, purpose) = (&options, &counters, Purpose::Copy);
    let writer = TableWriter { fs, dir, database, options, counters, purpose, pacer: None };
    let mut next = found.next_file_id;
    let mut manifest = found.manifest.clone();
    if found.rebuilds.is_empty() && found.log.is_none() {
        let bytes = manifest.encode();
        return Ok((manifest, bytes));
    }
    let mut metas = table_metas(dir, &found.manifest)?;
    for rebuild in &found.rebuilds {
        let id = take(&mut next, new);
        let written = rewrite(&writer, found, rebuild.run, &rebuild.meta, &rebuild.file, id)?;
        for (_, meta) in metas.iter_mut().filter(|(_, m)| m.file_id == rebuild.meta.file_id) {
            *meta = written.clone();
        }
    }
    for (index, run) in manifest.runs.iter_mut().enumerate() {
        let of_run = metas.iter().filter(|(of, _)| *of == index);
        run.tables = of_run.map(|(_, meta)| encoded(meta)).collect();
    }
    if let Some((log, record, reached)) = &found.log {
        let catalog = Catalog::new(&reached.keyspaces, reached.next_keyspace_id);
        let mut runs: Vec<NewRun> = Vec::new();
        let first = next;
        let outcome = log.write(&writer, record, reached, &catalog, &mut next, &mut runs);
        new.extend((first.get()..next.get()).map(FileId));
        outcome?;
        let runs = runs.into_iter().rev().map(|(min_seqno, max_seqno, level, metas)| RunEntry {
            min_seqno,
            max_seqno,
            level,
            tables: metas.iter().map(encoded).collect(),
        });
        manifest.runs.splice(0..0, runs);
        let base = align_up(found.log_end);
        manifest.checkpoint_seqno = reached.seqno;
        manifest.checkpoint_lsn = base;
        manifest.segment_base = base;
        manifest.next_segment_bytes = Sizes::DEFAULT.segment_min_bytes;
        manifest.epochs = Vec::new();
        manifest.last_epoch = Epoch(found.last_epoch);
        manifest.clean = true;
        manifest.keyspaces = reached.keyspaces.clone();
        manifest.next_keyspace_id = reached.next_keyspace_id;
        manifest.salvaged |= !found.plan.is_lossless();
    }
    if !new.is_empty() {
        writer.sync_names()?;
    }
    manifest.generation = Generation(found.generation + 1);
    manifest.written_micros = fs.now_micros();
    manifest.next_file_id = next;
    let bytes = manifest.encode();
    if let Err(fault) = Manifest::decode(&bytes) {
        let what = format!("the new manifest cannot be read back: {fault}; please report this");
        return Err(Error::InvalidArgument(what));
    }
    Ok((manifest, bytes))
}

fn take(next: &mut FileId, new: &mut Vec<FileId>) -> FileId {
    let id = *next;
    *next = FileId(id.get() + 1);
    new.push(id);
    id
}

fn encoded(meta: &TableMeta) -> Vec<u8> {
    let mut bytes = Vec::new();
    meta.encode(&mut bytes);
    bytes
}

/// Writes a damaged table anew. What comes out must be what the manifest said of it.
fn rewrite(
    writer: &TableWriter<'_>,
    found: &Diagnosis,
    run: usize,
    meta: &TableMeta,
    file: &crate::salvage::parts::TableFile,
    id: FileId,
) -> Result<TableMeta> {
    let harvester = Harvester {
        fs: &**writer.fs,
        database: found.manifest.database,
        writer: Some(*writer),
        is_dropped: &|_| false,
    };
    let bottom = found.manifest.runs[run].level > 0;
    let harvest = harvester.harvest(meta.file_id, file, Some(meta), bottom, id)?;
    let is_whole = harvest.is_whole() && harvest.lost_keys_count == 0;
    let of = |meta: &TableMeta| {
        (
            meta.entries,
            meta.tombstones,
            meta.range_tombstones,
            meta.first.clone(),
            meta.last.clone(),
        )
    };
    match harvest.written {
        Some(written) if is_whole && of(&written) == of(meta) => Ok(written),
        _ => Err(Error::damage(
            &file.path,
            0,
            "what was written anew is not what the manifest says of the table",
        )),
    }
}

/// Removes originals that are in the quarantine and that the new manifest does not name.
fn take_away(fs: &dyn FileSystem, dir: &Path, journal: &Journal) -> Result<()> {
    for file in journal.originals.iter().filter(|file| file.name != names::MANIFEST_NAME) {
        // Nobody had it open meanwhile; what is another file now is not ours to remove.
        if files::mark(fs, dir, &file.name)?.as_ref() == Some(file) {
            files::remove(fs, dir, &file.name)?;
        }
    }
    files::sync_names(fs, dir)
}
