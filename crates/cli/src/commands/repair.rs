//! `repair`: repairs in place what can be proven, keeps the originals, and can be undone.
//!
//! The plan is not a file: its number is a hash over the database's files, and `apply` makes the plan
//! again.

use crate::console::{Console, Style, typed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::layout::paragraph;
use crate::open;
use crate::output::Output;
use crate::rescue;
use clap::Subcommand;
use highwater::Error;
use highwater::repair::{self, Action, Plan, PlanId};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Repair a database in place, as far as its own files prove how
///
/// A wrong bit of the manifest is turned back; a table whose records are all
/// readable is written anew; the log is cut before the first missing commit. All
/// else is refused, and `highwater salvage` is the way.
///
/// Every file that is replaced is kept in DIR/quarantine, and `undo` puts it back
/// as long as nothing was written since.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater repair plan ./db                what would be done and lost; writes nothing
  highwater repair apply ./db --plan 1f2e3d4c5b6a7988
  highwater repair undo ./db")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Plan(PlanArgs),
    Apply(ApplyArgs),
    Undo(UndoArgs),
}

/// Say what a repair would do and what would be lost; write nothing
///
/// Ends with 0 if there is nothing to repair, with 4 if a repair loses nothing,
/// with 5 if it loses commits or is not possible.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater repair plan ./db")]
struct PlanArgs {
    /// The database directory
    dir: PathBuf,
}

/// Carry out the plan of that number
///
/// Refuses with 3 if any file was changed since. Ends with 6 if nothing was lost,
/// with 7 if something was. If it is interrupted, run it again.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater repair apply ./db --plan 1f2e3d4c5b6a7988")]
struct ApplyArgs {
    /// The database directory
    dir: PathBuf,
    /// The number that `repair plan` gave
    #[arg(long, value_name = "NUMBER")]
    plan: PlanId,
}

/// Put every file back as it was before the repair
///
/// Refuses with 3 if something was written to the database since. If it is
/// interrupted, run it again.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater repair undo ./db")]
struct UndoArgs {
    /// The database directory
    dir: PathBuf,
    /// The repair of this plan [default: the one that is in force]
    #[arg(long, value_name = "NUMBER")]
    plan: Option<PlanId>,
}

/// Files and losses of one kind that the text form shows.
const SHOWN: usize = 12;

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    match &args.command {
        Command::Plan(args) => plan(args, console),
        Command::Apply(args) => apply(args, console),
        Command::Undo(args) => undo(args, console),
    }
}

fn plan(args: &PlanArgs, console: &Console) -> Result<(), Failure> {
    let plan = planned(&args.dir, console)?;
    let exit = match (plan.is_sound(), plan.is_lossless()) {
        (true, _) => Exit::Clean,
        (_, true) => Exit::Damage,
        _ => Exit::Loss,
    };
    let mut output = Output::of(console, "repair plan");
    if console.is_text() {
        for line in lines(&plan, console) {
            output.line(&line)?;
        }
        let dir = typed(&args.dir);
        let next = match plan.id {
            _ if plan.is_sound() => format!("highwater info {dir}"),
            Some(id) => format!("highwater repair apply {dir} --plan {id}"),
            None => format!("highwater salvage {dir} --dry-run"),
        };
        output.row("Next", &next)?;
    } else {
        output.document(document(&plan, exit))?;
    }
    output.flush()?;
    match exit {
        Exit::Clean => Ok(()),
        exit => Err(Failure::ended(exit)),
    }
}

fn planned(dir: &Path, console: &Console) -> Result<Plan, Failure> {
    let fs = open::file_system();
    let mut progress = rescue::progress(dir);
    let plan = rescue::waiting(console, || repair::plan(&fs, dir, &mut |bytes| progress.at(bytes)));
    progress.end();
    plan.map_err(|error| rescue::failed(dir, &error))
}

fn lines(plan: &Plan, console: &Console) -> Vec<String> {
    let mut lines = Vec::new();
    let mut row = |style: Option<Style>, name: &str, value: &str| {
        let mut part = paragraph(&format!("{name:<13}"), value);
        if let (Some(style), Some(first)) = (style, part.first_mut()) {
            let rest = first.split_off(name.len());
            *first = console.paint(style, first) + &rest;
        }
        lines.append(&mut part);
    };
    row(None, "Database", &plan.directory.display().to_string());
    if plan.is_sound() {
        row(Some(Style::Good), "Damage", "none: there is nothing to repair");
        return lines;
    }
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    for refusal in &plan.refusals {
        let file = name(&refusal.file).unwrap_or_default();
        let text = format!("{file} at byte {}: {}", refusal.offset, refusal.what);
        row(Some(Style::Bad), "Damage", &text);
    }
    for action in &plan.actions {
        let (damage, remedy) = match action {
            Action::MendManifest { offset } => {
                (format!("MANIFEST at byte {offset}: one bit is wrong"), "turn it back".to_owned())
            }
            Action::RebuildTable { file, offset, what, entries } => (
                format!("{file} at byte {offset}: {what}"),
                format!(
                    "write the table anew: all its {} can be read",
                    human::plural(*entries, "record")
                ),
            ),
            Action::RewriteLog { file, offset, what, commits } => (
                format!("{} at byte {offset}: {what}", name(file).unwrap_or_default()),
                format!(
                    "move the log's {} up to commit {} into tables, start the log afresh",
                    human::plural(*commits, "whole commit"),
                    human::count(plan.last_seqno.get())
                ),
            ),
            _ => continue,
        };
        row(Some(Style::Bad), "Damage", &damage);
        if plan.refusals.is_empty() {
            row(None, "Repair", &remedy);
        }
    }
    if !plan.refusals.is_empty() {
        let text = "not possible in place; a salvage gets what can be read into a new database";
        row(None, "Repair", text);
        return lines;
    }
    for lost in plan.lost_log.iter().take(SHOWN) {
        row(Some(Style::Bad), "Lost", &lost.to_string());
    }
    if let Some(rest) = plan.lost_log.len().checked_sub(SHOWN).filter(|rest| *rest > 0) {
        row(None, "Lost", &format!("… and {rest} more parts of the log; --format json has all"));
    }
    if plan.left_out > 0 {
        let text = format!(
            "{} behind the first missing one, though readable: a repair keeps no commit without the \
             ones before it; `highwater salvage` would keep them",
            human::plural(plan.left_out, "commit")
        );
        row(Some(Style::Bad), "Lost", &text);
    }
    if plan.is_lossless() {
        row(Some(Style::Good), "Lost", "nothing that was committed");
    }
    let quarantine = plan.id.map(|id| format!("quarantine/{id}")).unwrap_or_default();
    let bytes = plan.quarantined.iter().map(|(_, bytes)| bytes).sum();
    let files = human::plural(plan.quarantined.len() as u64, "file");
    let text = format!("{files} as they are in {quarantine}, {}", human::bytes(bytes));
    row(None, "Keeps", &text);
    lines
}

fn document(plan: &Plan, exit: Exit) -> Value {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let actions: Vec<Value> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::MendManifest { offset } => {
                json!({ "action": "mend_manifest", "file": "MANIFEST", "offset": offset })
            }
            Action::RebuildTable { file, offset, what, entries } => json!({
                "action": "rebuild_table", "file": file, "offset": offset, "what": what,
                "records": entries,
            }),
            Action::RewriteLog { file, offset, what, commits } => json!({
                "action": "rewrite_log", "file": path(file), "offset": offset, "what": what,
                "commits": commits,
            }),
            _ => json!({ "action": "other" }),
        })
        .collect();
    let refusals: Vec<Value> = plan
        .refusals
        .iter()
        .map(|one| json!({ "file": path(&one.file), "offset": one.offset, "what": one.what }))
        .collect();
    let quarantined: Vec<Value> = plan
        .quarantined
        .iter()
        .map(|(name, bytes)| json!({ "file": name, "bytes": bytes }))
        .collect();
    json!({
        "result": exit.name(),
        "plan": plan.id.map(|id| id.to_string()),
        "sound": plan.is_sound(),
        "lossless": plan.is_lossless(),
        "actions": actions,
        "refusals": refusals,
        "lost_log": plan.lost_log.iter().map(crate::receipt::lost_log).collect::<Vec<_>>(),
        "readable_commits_dropped": plan.left_out,
        "last_seqno": plan.last_seqno.get(),
        "last_lsn": plan.last_lsn.get(),
        "quarantined": quarantined,
    })
}

fn apply(args: &ApplyArgs, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let fs = open::file_system();
    let plan = planned(dir, console)?;
    // Of a repair that broke off behind its middle only the end is left to do.
    if plan.id == Some(args.plan) {
        let command = format!("highwater repair apply {} --plan {}", typed(dir), args.plan);
        let mut about = lines(&plan, console);
        about
            .push("The database is changed in place; its files are kept as said above.".to_owned());
        console.confirm(&about, &command)?;
    }
    let mut progress = rescue::progress(dir);
    let outcome = rescue::waiting(console, || {
        repair::apply(&fs, dir, args.plan, &mut |bytes| progress.at(bytes))
    });
    progress.end();
    let applied = outcome.map_err(|error| changed(dir, &error))?;
    let exit = if applied.lossy { Exit::RepairedWithLoss } else { Exit::Repaired };
    let mut output = Output::of(console, "repair apply");
    if console.is_text() {
        let what = if applied.lossy { "with the loss that the plan names" } else { "without loss" };
        output.row("Repaired", &format!("{}, {what}", dir.display()))?;
        output.row("Originals", &applied.quarantine.display().to_string())?;
        output.row("Undo", &format!("highwater repair undo {}", typed(dir)))?;
        output.row("Next", &format!("highwater verify {}", typed(dir)))?;
    } else {
        output.document(json!({
            "result": exit.name(),
            "plan": applied.id.to_string(),
            "quarantine": applied.quarantine.to_string_lossy(),
            "finished_earlier_run": applied.plan.is_none(),
        }))?;
    }
    output.flush()?;
    Err(Failure::ended(exit))
}

fn undo(args: &UndoArgs, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let fs = open::file_system();
    let text = "The files go back as they were before the repair, damage included.".to_owned();
    console.confirm(&[text], &format!("highwater repair undo {}", typed(dir)))?;
    let outcome = rescue::waiting(console, || repair::undo(&fs, dir, args.plan));
    let undone = outcome.map_err(|error| changed(dir, &error))?;
    let quarantine = dir.join(repair::QUARANTINE);
    // Only if they are empty.
    let _ = std::fs::remove_dir(quarantine.join(undone.id.to_string()));
    let _ = std::fs::remove_dir(&quarantine);
    let mut output = Output::of(console, "repair undo");
    if console.is_text() {
        let files = human::plural(undone.restored.len() as u64, "file");
        output.row("Undone", &format!("plan {}: {files} as before", undone.id))?;
        for (name, bytes) in undone.restored.iter().take(SHOWN) {
            output.row("", &format!("{name}, {}", human::bytes(*bytes)))?;
        }
        if let Some(rest) = undone.restored.len().checked_sub(SHOWN).filter(|rest| *rest > 0) {
            output.row("", &format!("… and {rest} more"))?;
        }
        output.row("Next", &format!("highwater salvage {} --to NEW", typed(dir)))?;
    } else {
        let restored = undone.restored.iter();
        let restored: Vec<Value> =
            restored.map(|(name, bytes)| json!({ "file": name, "bytes": bytes })).collect();
        output.document(json!({ "plan": undone.id.to_string(), "restored": restored }))?;
    }
    output.flush()
}

fn changed(dir: &Path, error: &Error) -> Failure {
    match error {
        Error::PlanChanged { .. } => Failure::new(Exit::NotFound, error.to_string())
            .next(format!("highwater repair plan {}", typed(dir))),
        Error::NotFound { path } if path.ends_with(repair::QUARANTINE) => {
            let text = format!("there is no repair to undo in {}", dir.display());
            Failure::new(Exit::NotFound, text).next(format!("highwater info {}", typed(dir)))
        }
        Error::Damage { .. } => Failure::new(Exit::Loss, super::backup::short(error))
            .next(format!("highwater salvage {} --dry-run", typed(dir))),
        error => rescue::failed(dir, error),
    }
}
