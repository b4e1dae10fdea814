//! `table`: which tables there are, how each is built, and what it holds.
//!
//! Tables can be looked at whatever the log is like, as long as the manifest can be read.

mod dump;
mod list;
mod show;

use crate::console::{Console, typed};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::open;
use highwater::FileId;
use highwater::check::{self, KeyspaceNames, TableSummary};
use std::path::Path;

/// Look into the tables
///
/// Values are hidden unless --show-values. Works beside a live owner, and on a
/// database whose log is damaged; writes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater table list ./db
  highwater table show ./db 3 --fences
  highwater table dump ./db 3 --keyspace users --prefix a --show-values")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    List(list::Args),
    Show(show::Args),
    Dump(dump::Args),
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    match &args.what {
        What::List(args) => list::run(args, console),
        What::Show(args) => show::run(args, console),
        What::Dump(args) => dump::run(args, console),
    }
}

/// A table by its number, or by the name of its file.
fn parse(typed: &str) -> Result<FileId, String> {
    let hint = "write the number of a table, as `highwater table list` shows it";
    let file = typed.strip_prefix("table-").and_then(|rest| rest.strip_suffix(".hwt"));
    let number = match file {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => typed.parse().ok(),
    };
    number.filter(|number| *number > 0).map(FileId).ok_or_else(|| hint.to_owned())
}

/// That table must be there.
fn must_be_there(dir: &Path, table: FileId) -> Result<KeyspaceNames, Failure> {
    let (tables, names) = listed(dir)?;
    if tables.iter().any(|one| one.id == table) {
        return Ok(names);
    }
    let message = format!("{} has no table {table}", dir.display());
    Err(Failure::new(Exit::NotFound, message).next(format!("highwater table list {}", typed(dir))))
}

fn listed(dir: &Path) -> Result<(Vec<TableSummary>, KeyspaceNames), Failure> {
    check::list_tables(&*open::file_system(), dir).in_dir(dir)
}

/// What a table is, in one word.
fn level(table: &TableSummary) -> &'static str {
    match (table.run, table.level) {
        (None, _) => "install",
        (_, 0) => "upper",
        _ => "base",
    }
}
