//! `get`: prints the value of one key.

use crate::failure::{Failure, InDir, NOT_FOUND};
use crate::open;
use crate::output::Output;
use crate::text::Form;
use std::path::PathBuf;

/// Print the value of a key
///
/// Works beside a live owner; writes nothing. Exit code 3 if the key has no
/// value.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater get ./db users ada")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace
    keyspace: String,
    /// The key, as text with escapes (\n, \xNN, …)
    key: String,
    /// Take the key and print the value as hex
    #[arg(long, conflicts_with = "raw")]
    hex: bool,
    /// Print the value's bytes as they are, with nothing behind them
    #[arg(long)]
    raw: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let form = Form::of(args.hex);
    let key = form.read("the key", &args.key)?;
    let db = open::read_only(&args.dir)?;
    let keyspace = open::keyspace(&db, &args.dir, &args.keyspace)?;
    let snapshot = db.snapshot();
    let Some(value) = snapshot.get(&keyspace, &key).in_dir(&args.dir)? else {
        return Err(no_value(&args.keyspace, form.show(&key)));
    };
    let mut output = Output::stdout();
    if args.raw {
        output.bytes(&value)?;
    } else {
        output.line(&form.show(&value))?;
    }
    output.flush()
}

/// The key has no value.
pub fn no_value(keyspace: &str, key: String) -> Failure {
    let message =
        format!("keyspace {keyspace:?} has no key {key}; `highwater scan` lists the keys it has");
    Failure::new(NOT_FOUND, message)
}
