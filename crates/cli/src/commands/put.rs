//! `put`: sets the value of one key, durably.

use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::open;
use crate::output::Output;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Set the value of a key
///
/// Makes the database and the keyspace if there is none. The value is on the
/// disk when the command ends.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater put ./db users ada 1815
  highwater put ./db users -- --odd-key 'two\\nlines'")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace
    keyspace: String,
    /// The key, as text with escapes (\n, \xNN, …)
    key: String,
    /// The value, as text with escapes
    #[arg(allow_negative_numbers = true)]
    value: String,
    #[command(flatten)]
    keeping: open::Keeping,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let form = console.form;
    let key = form.read("the key", &args.key)?;
    let value = form.read("the value", &args.value)?;
    let db = open::or_create(&args.dir, &args.keeping, console)?;
    let keyspace = db.keyspace(&args.keyspace).in_dir(&args.dir)?;
    keyspace.insert(&key, &value).in_dir(&args.dir)?;
    db.close().in_dir(&args.dir)?;
    done(console, "put", json!({ "put": 1 }))
}

/// Says as JSON that a change is on the disk; as text, nothing.
pub fn done(console: &Console, command: &'static str, document: Value) -> Result<(), Failure> {
    if console.is_text() {
        return Ok(());
    }
    let mut output = Output::of(console, command);
    output.document(document)?;
    output.flush()
}
