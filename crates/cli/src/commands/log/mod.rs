//! `log`: what was written when.
//!
//! `list` prints a line for each transaction, `dump` one for each operation, `stat` counts, `follow` goes on.
//! All of them read the segment files as they lie there, those too that a checkpoint has released; damaged
//! places are told and stepped over.

mod filter;
mod follow;
mod print;
mod stat;

use super::explain::damage_exit;
use crate::console::{Console, Style, typed};
use crate::failure::{Failure, InDir};
use crate::keyspaces::Keyspaces;
use crate::open;
use crate::output::Output;
use filter::{Filter, Options};
use highwater::check::{self, LogItem};
use print::{Line, Printer};
use serde_json::json;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Look into the write-ahead log
///
/// Values are hidden unless --show-values. Works beside a live owner; writes
/// nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater log list ./db --since 10m
  highwater log dump ./db --keyspace users --prefix ada --show-values
  highwater log stat ./db
  highwater log follow ./db --format jsonl")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    List(List),
    Dump(Dump),
    Stat(stat::Args),
    Follow(follow::Args),
}

/// One line for each transaction
///
/// LSN, commit number, time, operations, bytes, keyspaces. The LSN is the one
/// that the commit returned. A star stands for what no table holds yet.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater log list ./db --limit 20 --reverse
  highwater log list ./db --from 1052672 --to 1056768
  highwater log list ./db --keyspace users --key ada")]
struct List {
    #[command(flatten)]
    options: Options,
}

/// One line for each operation
///
/// LSN and commit number, what was done, keyspace, key, and the value's length
/// (or the value, with --show-values).
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater log dump ./db --since 2026-11-21T09:30:00Z
  highwater log dump ./db --kind remove --kind remove-range
  highwater log dump ./db --format jsonl --show-values")]
struct Dump {
    #[command(flatten)]
    options: Options,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    match &args.what {
        What::List(list) => show(&list.options, console, false),
        What::Dump(dump) => show(&dump.options, console, true),
        What::Stat(args) => stat::run(args, console),
        What::Follow(args) => follow::run(args, console),
    }
}

fn show(options: &Options, console: &Console, dump: bool) -> Result<(), Failure> {
    let dir: &PathBuf = &options.dir;
    let keyspaces = Keyspaces::with_log(dir);
    let mut filter = Filter::new(options, console, &keyspaces)?;
    let mut output = Output::of(console, if dump { "log dump" } else { "log list" });
    let mut printer = Printer::new(console, keyspaces, dump);
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    // In reverse only the last lines are kept.
    let mut kept: VecDeque<Line> = VecDeque::new();
    let (mut printed, mut damage) = (0_u64, 0_u64);
    let mut outcome = Ok(());
    if !options.reverse && console.is_text() {
        printer.heading(&mut output)?;
    }
    let read = check::read_log(&*open::file_system(), dir, filter.from, &mut |item| {
        let lines = match item {
            LogItem::Transaction(transaction) => {
                if filter.is_past(transaction.start) {
                    return ControlFlow::Break(());
                }
                printer.listed(&transaction, &mut filter)
            }
            LogItem::Witness { lsn, durable } if filter.wants_witness() => {
                if filter.is_past(lsn) {
                    return ControlFlow::Break(());
                }
                vec![printer.witness(lsn, durable)]
            }
            LogItem::Damage { file, offset, from, to, what } if !filter.is_past(from) => {
                damage += 1;
                vec![printer.damage(file, offset, from, to, &what)]
            }
            _ => Vec::new(),
        };
        for line in lines {
            if options.reverse {
                kept.push_back(line);
                if kept.len() > limit {
                    kept.pop_front();
                }
                continue;
            }
            if printed == options.limit {
                return ControlFlow::Break(());
            }
            printed += 1;
            outcome = line.print(&mut output, console);
            if outcome.is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    read.in_dir(dir)?;
    outcome?;
    if options.reverse {
        if console.is_text() {
            printer.heading(&mut output)?;
        }
        for line in kept.iter().rev() {
            printed += 1;
            line.print(&mut output, console)?;
        }
    }
    if !console.is_text() {
        output.summary(json!({ "printed": printed, "damaged_places": damage }))?;
    }
    output.flush()?;
    if damage == 0 {
        return Ok(());
    }
    if console.is_text() {
        eprint_note(console, dir, damage);
    }
    Err(Failure::ended(damage_exit(dir)))
}

fn eprint_note(console: &Console, dir: &std::path::Path, damage: u64) {
    use std::io::Write;
    let places = crate::human::plural(damage, "damaged place");
    let note = console.paint(Style::Bad, &format!("{places} in the log"));
    let _ = writeln!(std::io::stderr(), "{note}\n  next: highwater verify {}", typed(dir));
}
