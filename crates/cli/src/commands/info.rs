//! `info`: what a database is and holds.
//!
//! Opens read-only, so that it works beside a live owner; the files are counted by their names, so that
//! what the owner keeps in reserve is seen too.

use super::compact::on_disk;
use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::open;
use crate::output::Output;
use crate::text;
use highwater::check::Forecast;
use highwater::fs::FileSystem;
use highwater::fs::os::OsFileSystem;
use highwater::{Database, FORMAT_VERSION, Recovery};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Show what a database is and holds
///
/// Works beside a live owner; writes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater info ./db
  highwater info ./db --format json")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let owner = open::owner(dir);
    let db = open::read_only(dir)?;
    let recovery = db.recovery();
    let stats = db.stats();
    let keyspaces = key_counts(&db, dir)?;
    let log = LogFiles::count(dir)?;
    let disk = on_disk(dir)?;
    let forecast = highwater::check::explain(&OsFileSystem::new(), dir);
    let salvaged = matches!(forecast, Ok(Forecast::Open(said)) if said.salvaged);
    let state = match owner {
        Some(holder) => match holder.pid {
            Some(pid) => format!("in use by process {pid}"),
            None => "in use by another process".to_owned(),
        },
        None if recovery.clean => "closed cleanly".to_owned(),
        None => unclean(recovery),
    };

    let mut output = Output::of(console, "info");
    if !console.is_text() {
        let keyspaces: Vec<_> =
            keyspaces.iter().map(|(name, keys)| json!({ "name": name, "keys": keys })).collect();
        output.document(json!({
            "database": db.id().to_string(),
            "format": FORMAT_VERSION,
            "clean": recovery.clean,
            "salvaged": salvaged,
            "in_use": owner.is_some(),
            "owner_pid": owner.and_then(|holder| holder.pid),
            "last_seqno": recovery.last_seqno.get(),
            "keyspaces": keyspaces,
            "tables": stats.tables,
            "runs": stats.runs,
            "table_bytes": stats.live_table_bytes,
            "log_files": log.files,
            "log_bytes": log.bytes,
            "replay_commits": recovery.replayed_transactions,
            "replay_bytes": recovery.replayed_bytes,
            "trimmed_bytes": recovery.trimmed_bytes,
            "reserve_bytes": log.reserve_bytes,
            "disk_bytes": disk,
        }))?;
        return output.flush();
    }
    let mut row = |name: &str, value: String| output.line(&format!("{name:<13}{value}"));
    row("Database", dir.display().to_string())?;
    row("Id", db.id().to_string())?;
    row("Format", FORMAT_VERSION.to_string())?;
    row("State", state)?;
    if salvaged {
        row("", "put together by a salvage: something may be missing in it".to_owned())?;
    }
    row("Last commit", human::count(recovery.last_seqno.get()))?;
    row(
        "Tables",
        format!(
            "{} in {}, {}",
            human::plural(stats.tables, "table"),
            human::plural(stats.runs, "run"),
            human::bytes(stats.live_table_bytes)
        ),
    )?;
    row(
        "Log",
        format!(
            "{}, {}; {} to replay, {}",
            human::plural(log.files, "file"),
            human::bytes(log.bytes),
            human::plural(recovery.replayed_transactions, "commit"),
            human::bytes(recovery.replayed_bytes)
        ),
    )?;
    row("Reserve", format!("{}, kept for a full disk", human::bytes(log.reserve_bytes)))?;
    row("On disk", human::bytes(disk))?;
    row("Keyspaces", human::count(keyspaces.len() as u64))?;
    for (name, keys) in &keyspaces {
        let shown = text::escape(name.as_bytes());
        output.line(&format!("  {shown:<30} {:>20}", human::plural(*keys, "key")))?;
    }
    output.flush()
}

fn unclean(recovery: &Recovery) -> String {
    if recovery.trimmed_bytes == 0 {
        return "not closed cleanly; the next open for writing recovers it".to_owned();
    }
    format!(
        "unclean; the next open recovers it and cuts {} never promised",
        human::bytes(recovery.trimmed_bytes)
    )
}

fn key_counts(db: &Database, dir: &Path) -> Result<Vec<(String, u64)>, Failure> {
    let snapshot = db.snapshot();
    let mut counts = Vec::new();
    for name in snapshot.keyspaces() {
        let keyspace = open::keyspace(db, dir, &name)?;
        counts.push((name, snapshot.len(&keyspace).in_dir(dir)?));
    }
    Ok(counts)
}

/// The files of the log, spare ones included.
struct LogFiles {
    files: u64,
    bytes: u64,
    /// Of the file that is given up when the disk is full.
    reserve_bytes: u64,
}

impl LogFiles {
    fn count(dir: &Path) -> Result<LogFiles, Failure> {
        let entries = OsFileSystem::new().list(dir);
        let entries = entries.map_err(|error| Failure::file("list", dir, &error))?;
        let is_log = |name: &str| {
            name.ends_with(".hwl") && (name.starts_with("log-") || name.starts_with("spare-"))
        };
        let mut found = LogFiles { files: 0, bytes: 0, reserve_bytes: 0 };
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            if is_log(&entry.name) {
                found.files += 1;
                found.bytes += entry.len;
            } else if entry.name == "RESERVE" {
                found.reserve_bytes = entry.len;
            }
        }
        Ok(found)
    }
}
