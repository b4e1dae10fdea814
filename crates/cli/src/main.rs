//! `highwater`: the command-line tool of the Highwater storage engine.
//!
//! Each command is one file of [`commands`] with its arguments and a `run`. A command returns
//! `Result<(), Failure>`; [`failure`] knows the exit codes. Results go to the standard output, everything
//! else to the standard error.
//!
//! Options that every command has are in [`console`].
//!
//! Invariants: commands that only read open the database read-only, so that they work beside a live owner
//! and write nothing; no command panics on any argument, file or closed pipe.

mod commands;
mod console;
mod csv_form;
mod drill;
mod exit;
mod failure;
mod human;
mod interrupt;
mod jsonl_form;
mod keyspaces;
mod layout;
mod mdb_form;
mod open;
mod output;
mod progress;
mod ranges;
mod receipt;
mod records;
mod rescue;
mod states;
mod text;
mod time;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Examples:
  highwater put ./db users ada 1815    makes the database if there is none
  highwater get ./db users ada
  highwater explain ./db               what would an open do?
  highwater verify ./db                is anything damaged, and what does it cost?
  highwater log dump ./db --since 10m  what was written?
  highwater shell ./db                 a prompt with history and completion

Keys and values are text in which \\n \\r \\t \\0 \\\\ and \\xNN (two hex digits) stand
for bytes, in what you type and in what is printed; --keys hex takes and prints hex.

Exit codes:";

/// Looks into Highwater databases, moves data in and out, and drills their
/// crash recovery.
#[derive(Parser, Debug)]
#[command(name = "highwater", version, after_help = format!("{AFTER_HELP}\n{}", exit::Exit::table()), max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    globals: console::Globals,
}

#[derive(Subcommand, Debug)]
enum Command {
    Info(commands::info::Args),
    Explain(commands::explain::Args),
    Verify(commands::verify::Args),
    Log(commands::log::Args),
    Table(commands::table::Args),
    Page(commands::page::Args),
    Find(commands::find::Args),
    Hash(commands::hash::Args),
    Diff(commands::diff::Args),
    Get(commands::get::Args),
    Put(commands::put::Args),
    Rm(commands::rm::Args),
    Scan(commands::scan::Args),
    Count(commands::count::Args),
    Checkpoint(commands::checkpoint::Args),
    Compact(commands::compact::Args),
    Import(commands::import::Args),
    Export(commands::export::Args),
    Salvage(commands::salvage::Args),
    Repair(commands::repair::Args),
    Backup(commands::backup::Args),
    Restore(commands::restore::Args),
    Bench(commands::bench::Args),
    Drill(drill::Args),
    Shell(commands::shell::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
    #[command(hide = true, name = "drill-child")]
    DrillChild(drill::child::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = console::Console::new(&cli.globals);
    interrupt::install();
    let outcome = match cli.command {
        Command::Info(args) => commands::info::run(&args, &console),
        Command::Explain(args) => commands::explain::run(&args, &console),
        Command::Verify(args) => commands::verify::run(&args, &console),
        Command::Log(args) => commands::log::run(&args, &console),
        Command::Table(args) => commands::table::run(&args, &console),
        Command::Page(args) => commands::page::run(&args, &console),
        Command::Find(args) => commands::find::run(&args, &console),
        Command::Hash(args) => commands::hash::run(&args, &console),
        Command::Diff(args) => commands::diff::run(&args, &console),
        Command::Get(args) => commands::get::run(&args, &console),
        Command::Put(args) => commands::put::run(&args, &console),
        Command::Rm(args) => commands::rm::run(&args, &console),
        Command::Scan(args) => commands::scan::run(&args, &console),
        Command::Count(args) => commands::count::run(&args, &console),
        Command::Checkpoint(args) => commands::checkpoint::run(&args, &console),
        Command::Compact(args) => commands::compact::run(&args, &console),
        Command::Import(args) => commands::import::run(&args, &console),
        Command::Export(args) => commands::export::run(&args, &console),
        Command::Repair(args) => commands::repair::run(&args, &console),
        Command::Salvage(args) => commands::salvage::run(&args, &console),
        Command::Backup(args) => commands::backup::run(&args, &console),
        Command::Restore(args) => commands::restore::run(&args, &console),
        Command::Bench(args) => commands::bench::run(&args, &console),
        Command::Drill(args) => drill::run(&args, &console),
        Command::Shell(args) => commands::shell::run(&args, &console),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Man(args) => commands::man::run(&args),
        Command::DrillChild(args) => drill::child::run(&args),
    };
    // An interrupt ends the process itself, with its own exit code.
    interrupt::wait_if_interrupted();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(console.format),
    }
}
