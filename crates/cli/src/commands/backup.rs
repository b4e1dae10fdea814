//! `backup`: copies of a live database, their list, their check, and the drill of a restore.
//!
//! A copy is made through a read-only open, beside the owner. Where the owner's work takes a file away
//! before it was opened, the copy is begun again.

use crate::console::{Console, typed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::open;
use crate::output::Output;
use crate::rescue::{self, Limit, NewPlace};
use crate::time;
use clap::Subcommand;
use highwater::backup::{self, Backup, Drilled, Options};
use highwater::{Database, Error};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// Make backups of a live database, list them, check them
///
/// A directory of backups holds copies of one database; tables that several
/// backups share are there once. `highwater restore` makes a new database of one.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater backup create ./db ./backups
  highwater backup list ./backups
  highwater backup drill ./backups        for cron: restores, checks, compares")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Create(Create),
    List(List),
    Verify(Verify),
    Drill(Drill),
}

/// Copy a database as it is now, beside its owner
///
/// Writers go on meanwhile. Tables that an earlier backup brought are not copied
/// again. Beside a live owner the backup holds every commit that is sure to be
/// synced: all but those of the last moments.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater backup create ./db ./backups")]
struct Create {
    /// The database directory
    dir: PathBuf,
    /// The directory of backups; made if it is missing
    backups: PathBuf,
    /// Do not take the content hash, which reads every record once
    #[arg(long)]
    no_hash: bool,
    /// Read tables of earlier backups whole before relying on them
    #[arg(long)]
    check_earlier: bool,
}

/// List backups, oldest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater backup list ./backups")]
struct List {
    /// The directory of backups
    backups: PathBuf,
}

/// Read every byte of backups and check it
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater backup verify ./backups")]
struct Verify {
    /// The directory of backups
    backups: PathBuf,
    /// Only the backup of this number [default: all]
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    #[command(flatten)]
    limit: Limit,
}

/// Restore a backup to a place of its own, check it whole and compare its content
///
/// Fit for cron: says nothing but one paragraph, and ends with 0 only if a
/// restore gives what was backed up. The restored copy is removed afterwards.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater backup drill ./backups
  highwater backup drill ./backups --scratch /big/disk/drill --max-duration 2h")]
struct Drill {
    /// The directory of backups
    backups: PathBuf,
    /// The backup of this number [default: the newest]
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// A new directory for the restored copy [default: one in the system's
    /// directory for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
}

/// Attempts at a copy beside an owner whose merges take files away.
const ATTEMPTS: u32 = 20;

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    match &args.command {
        Command::Create(args) => create(args, console),
        Command::List(args) => list(args, console),
        Command::Verify(args) => verify(args, console),
        Command::Drill(args) => drill(args, console),
    }
}

fn create(args: &Create, console: &Console) -> Result<(), Failure> {
    let options = Options::default().hash(!args.no_hash).check_earlier(args.check_earlier);
    let mut attempts = 0;
    let backup = loop {
        attempts += 1;
        let db = open_beside(&args.dir)?;
        let outcome = rescue::waiting(console, || db.backup_with(&args.backups, options));
        match outcome {
            Err(error) if attempts < ATTEMPTS && is_gone(&error) && beside_owner(&args.dir) => {}
            outcome => break outcome,
        }
    };
    let backup = backup.map_err(|error| match error {
        Error::Locked { .. } => in_use(&args.backups, &error),
        error => rescue::failed(&args.dir, &error),
    })?;
    let mut output = Output::of(console, "backup create");
    if !console.is_text() {
        let mut document = of_backup(&backup);
        document["copied_bytes"] = backup.copied_bytes.into();
        output.document(document)?;
        return output.flush();
    }
    output.line(&format!(
        "backup {} of {}: commit {}, LSN {}",
        backup.number,
        args.dir.display(),
        human::count(backup.seqno.get()),
        backup.lsn
    ))?;
    output.line(&format!(
        "{} in {}, {} of it new; {}",
        human::bytes(backup.bytes()),
        human::plural(backup.files.len() as u64, "file"),
        human::bytes(backup.copied_bytes),
        human::plural(backup.keyspaces.len() as u64, "keyspace"),
    ))?;
    if let Some(content) = backup.content {
        output.line(&format!("content hash {content}"))?;
    }
    output.flush()
}

fn open_beside(dir: &Path) -> Result<Database, Failure> {
    open::read_only(dir)
}

fn beside_owner(dir: &Path) -> bool {
    open::owner(dir).is_some()
}

/// A file that was there when the database was opened has gone.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
}

fn list(args: &List, console: &Console) -> Result<(), Failure> {
    let fs = open::file_system();
    let listed = backup::list(&*fs, &args.backups).map_err(|e| failed(&args.backups, &e))?;
    let mut output = Output::of(console, "backup list");
    let mut bad = 0;
    if console.is_text() && !listed.is_empty() {
        let head = format!(
            "{:>6}  {:<25}  {:>12}  {:>14}  {:>11}",
            "Number", "Taken", "Commit", "LSN", "Size"
        );
        output.line(&console.paint(crate::console::Style::Heading, &head))?;
    }
    for one in &listed {
        match &one.backup {
            Ok(backup) if console.is_text() => output.line(&format!(
                "{:>6}  {:<25}  {:>12}  {:>14}  {:>11}",
                backup.number,
                time::show(backup.taken_micros),
                backup.seqno.get(),
                backup.lsn.get(),
                human::bytes(backup.bytes()),
            ))?,
            Ok(backup) => output.item("backup", of_backup(backup))?,
            Err(error) => {
                bad += 1;
                let what = short(error);
                if console.is_text() {
                    for line in crate::layout::paragraph(&format!("{:>6}  ", one.number), &what) {
                        output.line(&line)?;
                    }
                } else {
                    output.item("unreadable", json!({ "number": one.number, "what": what }))?;
                }
            }
        }
    }
    if console.is_text() {
        if listed.is_empty() {
            output.line(&format!("no backups in {}", args.backups.display()))?;
        }
    } else {
        output.summary(json!({ "backups": listed.len(), "unreadable": bad }))?;
    }
    output.flush()?;
    if bad > 0 {
        return Err(Failure::ended(Exit::Loss));
    }
    Ok(())
}

fn verify(args: &Verify, console: &Console) -> Result<(), Failure> {
    let fs = open::file_system();
    args.limit.start("the check");
    let mut progress = rescue::progress(&args.backups);
    let outcome = backup::verify(&fs, &args.backups, args.number, &mut |bytes| progress.at(bytes));
    progress.end();
    let verified = outcome.map_err(|error| failed(&args.backups, &error))?;
    let mut output = Output::of(console, "backup verify");
    if !console.is_text() {
        output.document(json!({
            "backups": verified.backups,
            "tables": verified.tables,
            "bytes": verified.bytes,
            "records": verified.entries,
            "leftovers": verified.leftovers,
        }))?;
        return output.flush();
    }
    output.line(&format!(
        "{} whole: {}, {}, {}, every byte read",
        match verified.backups.as_slice() {
            [one] => format!("backup {one} is"),
            all => format!("{} are", human::plural(all.len() as u64, "backup")),
        },
        human::plural(verified.tables, "table"),
        human::bytes(verified.bytes),
        human::plural(verified.entries, "record"),
    ))?;
    for name in &verified.leftovers {
        output.line(&format!("no backup names {name}: one that broke off left it"))?;
    }
    output.flush()
}

fn drill(args: &Drill, console: &Console) -> Result<(), Failure> {
    let fs = open::file_system();
    let temporary;
    let scratch = match &args.scratch {
        Some(scratch) => scratch.clone(),
        None => {
            temporary = tempfile::Builder::new().prefix("highwater-drill-").tempdir();
            let temporary = temporary.map_err(|error| {
                Failure::file("write to", &std::env::temp_dir(), &error)
                    .next(format!("highwater backup drill {} --scratch DIR", typed(&args.backups)))
            })?;
            // Removed below, or by an interrupt.
            temporary.keep().join("restored")
        }
    };
    let own = match &args.scratch {
        Some(_) => NewPlace::new(&scratch),
        None => NewPlace::made(scratch.parent().unwrap_or(&scratch)),
    };
    args.limit.start("the drill");
    let mut progress = rescue::progress(&args.backups);
    let outcome =
        backup::drill(&fs, &args.backups, args.number, &scratch, &mut |bytes| progress.at(bytes));
    progress.end();
    own.remove();
    let drilled = outcome.map_err(|error| failed(&args.backups, &error))?;
    report_drill(&drilled, console)
}

fn report_drill(drilled: &Drilled, console: &Console) -> Result<(), Failure> {
    let mut output = Output::of(console, "backup drill");
    let restored = &drilled.restored;
    if !console.is_text() {
        output.document(json!({
            "number": restored.number,
            "same": drilled.is_same(),
            "content": drilled.content.to_string(),
            "expected": drilled.expected.map(|hash| hash.to_string()),
            "seqno": restored.seqno.get(),
            "lsn": restored.lsn.get(),
            "bytes": restored.bytes,
        }))?;
    } else {
        output.line(&format!(
            "backup {} restores: commit {}, {}, every byte checked",
            restored.number,
            human::count(restored.seqno.get()),
            human::bytes(restored.bytes)
        ))?;
        output.line(&match drilled.is_same() {
            Some(true) => format!("its content is what was backed up: {}", drilled.content),
            Some(false) => "its content is NOT what was backed up".to_owned(),
            None => "it was made without a content hash: nothing to compare with".to_owned(),
        })?;
        if drilled.is_same() == Some(false) {
            output
                .row("Expected", &drilled.expected.map_or_else(String::new, |h| h.to_string()))?;
            output.row("Restored", &drilled.content.to_string())?;
        }
    }
    output.flush()?;
    match drilled.is_same() {
        Some(false) => Err(Failure::ended(Exit::NotFound)),
        _ => Ok(()),
    }
}

fn of_backup(backup: &Backup) -> Value {
    json!({
        "number": backup.number,
        "database": backup.database.to_string(),
        "taken_micros": backup.taken_micros,
        "lsn": backup.lsn.get(),
        "seqno": backup.seqno.get(),
        "content": backup.content.map(|hash| hash.to_string()),
        "salvaged": backup.salvaged,
        "files": backup.files.len(),
        "bytes": backup.bytes(),
        "keyspaces": backup.keyspaces,
    })
}

/// An error, without the advice that is meant for a database.
pub fn short(error: &Error) -> String {
    let text = error.to_string();
    text.split("; ").next().unwrap_or_default().to_owned()
}

fn in_use(backups: &Path, error: &Error) -> Failure {
    let Error::Locked { pid, .. } = error else { return failed(backups, error) };
    let holder = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let text = format!(
        "{} is in use by {holder}, which makes a backup; wait for it with --timeout 10m",
        backups.display()
    );
    Failure::new(Exit::Locked, text)
}

/// A failure that is about a directory of backups.
pub fn failed(backups: &Path, error: &Error) -> Failure {
    let shown = typed(backups);
    match error {
        Error::NotFound { path } if path == backups => {
            Failure::new(Exit::NotFound, format!("there is no backup in {}", backups.display()))
                .next(format!("highwater backup create DIR {shown}"))
        }
        Error::NotFound { path } => {
            Failure::new(Exit::NotFound, format!("there is no {}", path.display()))
                .next(format!("highwater backup list {shown}"))
        }
        Error::Damage { .. } => {
            Failure::new(Exit::Loss, short(error)).next(format!("highwater backup list {shown}"))
        }
        error => rescue::failed(backups, error),
    }
}
