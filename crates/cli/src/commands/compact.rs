//! `compact`: merges everything into one sorted base and gives space back.

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::open;
use crate::output::Output;
use highwater::fs::FileSystem;
use highwater::fs::os::OsFileSystem;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Merge all tables into one base and give unused space back
///
/// Rewrites the whole database; while it runs it needs room for a copy of it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater compact ./db")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    #[command(flatten)]
    keeping: open::Keeping,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let db = open::existing(&args.dir, &args.keeping, console)?;
    let before = on_disk(&args.dir)?;
    db.compact().in_dir(&args.dir)?;
    let stats = db.stats();
    db.close().in_dir(&args.dir)?;
    let after = on_disk(&args.dir)?;
    let mut output = Output::of(console, "compact");
    if !console.is_text() {
        output.document(json!({
            "bytes_before": before,
            "bytes_after": after,
            "tables": stats.tables,
            "table_bytes": stats.live_table_bytes,
        }))?;
        return output.flush();
    }
    output.line(&format!(
        "{} on the disk before, {} now; {} with {}",
        human::bytes(before),
        human::bytes(after),
        human::plural(stats.tables, "table"),
        human::bytes(stats.live_table_bytes),
    ))?;
    output.flush()
}

/// Bytes that the database takes on the disk.
pub fn on_disk(dir: &Path) -> Result<u64, Failure> {
    OsFileSystem::new().allocated_bytes(dir).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot list {}: {error}; check its permissions", dir.display()),
        )
    })
}
