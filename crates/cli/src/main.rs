//! `highwater`: the command-line tool of the Highwater storage engine.
//!
//! Each command is one file of [`commands`] with its arguments and a `run`. A command returns
//! `Result<(), Failure>`; [`failure`] knows the exit codes. Results go to the standard output, everything
//! else to the standard error.
//!
//! Invariants: commands that only read open the database read-only, so that they work beside a live owner
//! and write nothing; no command panics on any argument, file or closed pipe.

mod commands;
mod csv_form;
mod drill;
mod failure;
mod human;
mod interrupt;
mod jsonl_form;
mod open;
mod output;
mod records;
mod text;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Examples:
  highwater drill                      kill it, tear its log, see what it keeps
  highwater put ./db users ada 1815    makes the database if there is none
  highwater get ./db users ada
  highwater export ./db users --to jsonl | head

Keys and values are text in which \\n \\r \\t \\0 \\\\ and \\xNN (two hex digits) stand
for bytes, in what you type and in what is printed; --hex takes and prints hex.

Exit codes:
  0  done                            10  there is no database
  1  an operation or I/O failed      11  the database is in use
  2  wrong usage                     12  format not supported
  3  key or keyspace not found      130  interrupted
  4  the database is damaged";

/// Looks into Highwater databases, moves data in and out, and drills their
/// crash recovery.
#[derive(Parser, Debug)]
#[command(name = "highwater", version, after_help = AFTER_HELP, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Info(commands::info::Args),
    Get(commands::get::Args),
    Put(commands::put::Args),
    Rm(commands::rm::Args),
    Scan(commands::scan::Args),
    Checkpoint(commands::checkpoint::Args),
    Compact(commands::compact::Args),
    Import(commands::import::Args),
    Export(commands::export::Args),
    Drill(drill::Args),
    #[command(hide = true, name = "drill-child")]
    DrillChild(drill::child::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    interrupt::install();
    let outcome = match cli.command {
        Command::Info(args) => commands::info::run(&args),
        Command::Get(args) => commands::get::run(&args),
        Command::Put(args) => commands::put::run(&args),
        Command::Rm(args) => commands::rm::run(&args),
        Command::Scan(args) => commands::scan::run(&args),
        Command::Checkpoint(args) => commands::checkpoint::run(&args),
        Command::Compact(args) => commands::compact::run(&args),
        Command::Import(args) => commands::import::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::DrillChild(args) => drill::child::run(&args),
    };
    // An interrupt ends the process itself, with its own exit code.
    interrupt::wait_if_interrupted();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
