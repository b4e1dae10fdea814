//! What a repository holds, and whether it is whole.

use super::Backup;

use super::format::{backup_name, parse_backup_name};
use super::repository::{hash_file, read_record};
use crate::error::{Error, Result};
use crate::fs::{FileSystem, PathKind};
use crate::manifest::names;
use crate::recovery::plan::table_metas;
use crate::table::{BlockCache, ReadMode, Table};
use crate::types::FileId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// One backup of a repository, readable or not.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// The backup, or what is wrong with its own file.
    pub backup: Result<Backup>,
}

/// What [`verify`] read and found good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Backups, by number.
    pub backups: Vec<u64>,
    /// Tables read whole, each once.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries in them, tombstones included.
    pub entries: u64,
    /// Files that no backup names: a backup that broke off left them, or a damaged one named them.
    pub leftovers: Vec<String>,
}

/// The backups of a repository, oldest first. Reads their own files only.
///
/// # Errors
/// [`Error::NotFound`] if there is no such directory, [`Error::Io`].
pub fn list(fs: &dyn FileSystem, repository: impl AsRef<Path>) -> Result<Vec<Listed>> {
    let dir = repository.as_ref();
    match fs.kind(dir).map_err(|e| Error::io("look at", dir, e))? {
        PathKind::Directory => {}
        PathKind::Missing => return Err(Error::NotFound { path: dir.to_path_buf() }),
        PathKind::File => {
            return Err(Error::InvalidArgument(format!(
                "{} is a file; name a directory of backups",
                dir.display()
            )));
        }
    }
    let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let mut numbers: Vec<u64> =
        entries.iter().filter_map(|entry| parse_backup_name(&entry.name)).collect();
    numbers.sort_unstable();
    let listed = numbers.into_iter().map(|number| Listed {
        number,
        backup: read_record(fs, dir, number).map(|record| Backup::of(&record, 0)),
    });
    Ok(listed.collect())
}

/// The newest backup that can be read, or the one asked for.
pub fn choose(fs: &dyn FileSystem, dir: &Path, number: Option<u64>) -> Result<u64> {
    let listed = list(fs, dir)?;
    if let Some(number) = number {
        return match listed.iter().any(|one| one.number == number) {
            true => Ok(number),
            false => Err(Error::NotFound { path: dir.join(backup_name(number)) }),
        };
    }
    let newest = listed.into_iter().next_back();
    match newest {
        // Not silently an older one.
        Some(Listed { number, backup }) => backup.map(|_| number),
        None => Err(Error::NotFound { path: dir.to_path_buf() }),
    }
}

/// Reads every byte of a backup, or of all backups: checksums of files, and every block of every table.
/// `progress` is told how many bytes are done.
///
/// # Errors
/// The first damage found, with file and offset; [`Error::NotFound`] if there is no such backup,
/// [`Error::Io`].
pub fn verify(
    fs: &Arc<dyn FileSystem>,
    repository: impl AsRef<Path>,
    number: Option<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified> {
    let dir = repository.as_ref();
    let numbers: Vec<u64> = match number {
        Some(number) => vec![choose(&**fs, dir, Some(number))?],
        None => list(&**fs, dir)?.iter().map(|one| one.number).collect(),
    };
    if numbers.is_empty() {
        return Err(Error::NotFound { path: dir.to_path_buf() });
    }
    let cache = Arc::new(BlockCache::new(1 << 20));
    let mut verified = Verified { backups: numbers.clone(), ..Verified::default() };
    let mut done: BTreeMap<FileId, u128> = BTreeMap::new();
    let mut named: BTreeSet<String> = BTreeSet::new();
    for number in numbers {
        let record = read_record(&**fs, dir, number)?;
        let own = dir.join(backup_name(number));
        let metas = table_metas(&own, &record.manifest)?;
        if metas.len() != record.files.len() {
            return Err(Error::damage(&own, 0, "its files are not those of its manifest"));
        }
        for (_, meta) in metas {
            let path = dir.join(names::table_name(meta.file_id));
            named.insert(names::table_name(meta.file_id));
            let file = record.files.iter().find(|file| file.file_id == meta.file_id);
            let file = file
                .filter(|file| file.bytes == meta.file_bytes)
                .ok_or_else(|| Error::damage(&own, 0, "its files are not those of its manifest"))?;
            let sum = match done.get(&meta.file_id) {
                Some(sum) => *sum,
                None => {
                    if fs.kind(&path).map_err(|e| Error::io("look at", &path, e))?
                        == PathKind::Missing
                    {
                        return Err(Error::damage(&path, 0, "the table is missing"));
                    }
                    let (id, database) = (meta.file_id, record.database);
                    let table = Table::new(
                        fs.clone(),
                        path.clone(),
                        database,
                        meta,
                        ReadMode::Pread,
                        cache.clone(),
                    );
                    let before = verified.bytes;
                    let counted = table.check(&mut |bytes| progress(before + bytes))?;
                    verified.tables += 1;
                    verified.bytes += counted.bytes;
                    verified.entries += counted.entries;
                    let sum = hash_file(&**fs, &path)?;
                    done.insert(id, sum);
                    sum
                }
            };
            if sum != file.sum {
                return Err(Error::damage(&path, 0, "the table is not the one that was backed up"));
            }
        }
    }
    if number.is_none() {
        let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let own = |name: &str| parse_backup_name(name).is_some() || name == names::LOCK_NAME;
        verified.leftovers = entries
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| !own(name) && !named.contains(name))
            .collect();
        verified.leftovers.sort();
    }
    Ok(verified)
}
