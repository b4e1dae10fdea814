//! `rm`: removes one key, durably.

use super::get::no_value;
use super::put::done;
use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::open;
use serde_json::json;
use std::path::PathBuf;

/// Remove a key
///
/// Exit code 3 if the key has no value.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater rm ./db users ada")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace
    keyspace: String,
    /// The key, as text with escapes (\n, \xNN, …)
    key: String,
    #[command(flatten)]
    keeping: open::Keeping,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let form = console.form;
    let key = form.read("the key", &args.key)?;
    let db = open::existing(&args.dir, &args.keeping, console)?;
    let keyspace = open::keyspace(&db, &args.dir, &args.keyspace)?;
    let mut tx = db.write().in_dir(&args.dir)?;
    if !tx.contains(&keyspace, &key).in_dir(&args.dir)? {
        return Err(no_value(&args.dir, &args.keyspace, form.show(&key)));
    }
    tx.remove(&keyspace, &key).in_dir(&args.dir)?;
    tx.commit().in_dir(&args.dir)?;
    db.close().in_dir(&args.dir)?;
    done(console, "rm", json!({ "removed": 1 }))
}
