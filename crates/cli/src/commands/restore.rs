//! `restore`: a new database from a backup, as it was then or at a later point of the log.
//!
//! Invariant: the backups, and the directories with log, are only read.

use super::backup;
use crate::console::{Console, typed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::open;
use crate::output::Output;
use crate::rescue::{Limit, NewPlace};
use crate::time;
use highwater::backup::{Request, Restored, Until, plan_restore, restore_to};
use highwater::{Error, Lsn};
use serde_json::json;
use std::path::PathBuf;

/// Make a new database from a backup
///
/// As it was when the backup was made; or, with the log that followed (--log),
/// at any later point: up to an LSN, up to a time, or as far as the log goes
/// without a gap. The new database gets an id of its own.
///
/// The log lies in the archive, if the database keeps one, and its end in the
/// database's own directory: name both, as far as they are left.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater restore ./backups --to ./new
  highwater restore ./backups --to ./new --log ./db --before-damage
  highwater restore ./backups --to ./new --log ./archive --time '10m ago'
  highwater restore ./backups --log ./archive --log ./db --lsn 81920 --dry-run")]
pub struct Args {
    /// The directory of backups
    #[arg(value_name = "SRC")]
    backups: PathBuf,
    /// The directory of the new database; missing or empty
    #[arg(long, value_name = "NEW", required_unless_present = "dry_run")]
    to: Option<PathBuf>,
    /// The backup of this number [default: the newest that lies before the point]
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// A directory with log: an archive, or the old database's own (repeatable)
    #[arg(long, value_name = "DIR")]
    log: Vec<PathBuf>,
    /// Every commit at or below this LSN
    #[arg(long, value_name = "LSN", group = "point")]
    lsn: Option<u64>,
    /// Every commit made at or before this time: 2026-11-21T15:03:23Z,
    /// "2026-11-21 15:03:23" (local), "10m ago"
    #[arg(long, value_name = "TIME", group = "point", value_parser = time::read)]
    time: Option<u64>,
    /// As far as the log goes without a gap
    #[arg(long, group = "point")]
    before_damage: bool,
    /// Say what would be restored; write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    limit: Limit,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let fs = open::file_system();
    let request = request(args)?;
    let target = args.to.as_deref().filter(|_| !args.dry_run);
    args.limit.start("the restore");
    let outcome = match target {
        Some(target) => {
            let place = NewPlace::new(target);
            let mut progress = crate::progress::Progress::bytes(None);
            let outcome = restore_to(&fs, &request, target, &mut |bytes| progress.at(bytes));
            progress.end();
            if outcome.is_err() {
                place.remove();
            }
            outcome
        }
        None => plan_restore(&fs, &request),
    };
    let restored = outcome.map_err(|error| failed(args, &error))?;
    print(args, &restored, console)?;
    match restored.gap_after {
        Some(_) => Err(Failure::ended(Exit::RepairedWithLoss)),
        None => Ok(()),
    }
}

fn request(args: &Args) -> Result<Request, Failure> {
    let until = match (args.lsn, args.time, args.before_damage) {
        (Some(lsn), ..) => Until::Lsn(Lsn(lsn)),
        (_, Some(time), _) => Until::Time(time),
        (_, _, true) => Until::Damage,
        _ => Until::Backup,
    };
    if until == Until::Backup && !args.log.is_empty() {
        return Err(Failure::usage(
            "--log is of use only with a point to restore to: add --before-damage (as far as it \
             goes), --lsn or --time",
        ));
    }
    let mut request = Request::new(&args.backups).number(args.number).until(until);
    for log in &args.log {
        request = request.log(log);
    }
    Ok(request)
}

fn failed(args: &Args, error: &Error) -> Failure {
    let of_log = |path: &PathBuf| args.log.iter().any(|log| path.starts_with(log));
    match error {
        Error::LogGap { .. } => {
            Failure::new(Exit::Loss, backup::short(error)).next(before_damage(args))
        }
        Error::Damage { file, .. } if of_log(file) => {
            Failure::new(Exit::Loss, backup::short(error)).next(before_damage(args))
        }
        Error::NotFound { path } | Error::NotADatabase { path, .. } if of_log(path) => {
            Failure::new(Exit::NotFound, format!("there is no log in {}", path.display()))
                .next(format!("ls -la {}", typed(path)))
        }
        error => backup::failed(&args.backups, error),
    }
}

/// The command that says how far the log leads.
fn before_damage(args: &Args) -> String {
    let mut command = format!("highwater restore {}", typed(&args.backups));
    if let Some(number) = args.number {
        command.push_str(&format!(" --number {number}"));
    }
    for log in &args.log {
        command.push_str(&format!(" --log {}", typed(log)));
    }
    command + " --before-damage --dry-run"
}

fn print(args: &Args, restored: &Restored, console: &Console) -> Result<(), Failure> {
    let mut output = Output::of(console, "restore");
    if !console.is_text() {
        output.document(json!({
            "dry_run": args.dry_run,
            "number": restored.number,
            "source_database": restored.source_database.to_string(),
            "database": (!args.dry_run).then(|| restored.database.to_string()),
            "last_seqno": restored.seqno.get(),
            "last_lsn": restored.lsn.get(),
            "last_commit_micros": restored.last_commit_micros,
            "log_commits": restored.transactions,
            "gap_after_seqno": restored.gap_after.map(|seqno| seqno.get()),
            "end_unsure": restored.end_unsure,
            "tables": restored.tables,
            "bytes": restored.bytes,
        }))?;
        return output.flush();
    }
    let what = if args.dry_run { "Would take" } else { "Restored" };
    output.row(what, &format!("backup {} of {}", restored.number, args.backups.display()))?;
    if restored.transactions > 0 {
        output.row(
            "",
            &format!("and {} of the log", human::plural(restored.transactions, "commit")),
        )?;
    }
    output.row(
        "Last commit",
        &format!("{}, LSN {}", human::count(restored.seqno.get()), restored.lsn),
    )?;
    if restored.last_commit_micros > 0 {
        output.row("", &format!("made {}", time::show(restored.last_commit_micros)))?;
    }
    if let Some(seqno) = restored.gap_after {
        let text = format!(
            "the log has a gap after commit {}: what was committed behind it is not there",
            human::count(seqno.get())
        );
        for line in crate::layout::paragraph(&format!("{:<13}", "Lost"), &text) {
            output.line(&line)?;
        }
    }
    if restored.end_unsure {
        let text = "the log that was given ends before that time. If the database went on, its last \
                    commits are in its own directory: add it with --log";
        for line in crate::layout::paragraph(&format!("{:<13}", "Note"), text) {
            output.line(&line)?;
        }
    }
    output.row("Size", &human::bytes(restored.bytes))?;
    if let (Some(target), false) = (&args.to, args.dry_run) {
        output.row("New", &target.display().to_string())?;
        output.row("", &format!("database {}", restored.database))?;
        output.row("Next", &format!("highwater info {}", typed(target)))?;
    }
    output.flush()
}
