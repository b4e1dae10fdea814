//! `checkpoint`: writes what only the log holds to tables.

use crate::failure::{Failure, InDir};
use crate::human;
use crate::open;
use crate::output::Output;
use std::path::PathBuf;

/// Write what only the log holds to tables
///
/// After it, opening the database replays nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater checkpoint ./db")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let db = open::existing(&args.dir)?;
    let replayed = db.recovery().replayed_transactions;
    let lsn = db.checkpoint().in_dir(&args.dir)?;
    let stats = db.stats();
    db.close().in_dir(&args.dir)?;
    let mut output = Output::stdout();
    output.line(&format!(
        "{} from the log are in tables now ({}, {}); a replay starts at LSN {lsn}",
        human::plural(replayed, "commit"),
        human::plural(stats.tables, "table"),
        human::bytes(stats.live_table_bytes),
    ))?;
    output.flush()
}
