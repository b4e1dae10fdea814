//! `checkpoint`: writes what only the log holds to tables.

use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::open;
use crate::output::Output;
use serde_json::json;
use std::path::PathBuf;

/// Write what only the log holds to tables
///
/// After it, opening the database replays nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater checkpoint ./db")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    #[command(flatten)]
    keeping: open::Keeping,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let db = open::existing(&args.dir, &args.keeping, console)?;
    let replayed = db.recovery().replayed_transactions;
    db.checkpoint().in_dir(&args.dir)?;
    let stats = db.stats();
    db.close().in_dir(&args.dir)?;
    let mut output = Output::of(console, "checkpoint");
    if !console.is_text() {
        output.document(json!({
            "commits": replayed,
            "tables": stats.tables,
            "table_bytes": stats.live_table_bytes,
        }))?;
        return output.flush();
    }
    let tables = format!(
        "{}, {}",
        human::plural(stats.tables, "table"),
        human::bytes(stats.live_table_bytes)
    );
    if replayed == 0 {
        output.line(&format!("the tables hold everything already ({tables})"))?;
    } else {
        output.line(&format!(
            "{} from the log went into tables ({tables})",
            human::plural(replayed, "commit")
        ))?;
    }
    output.flush()
}
