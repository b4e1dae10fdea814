//! `get`: prints the value of one key.

use crate::console::{Console, quoted, typed};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::open;
use crate::output::Output;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

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
    /// Print the value's bytes as they are, with nothing behind them
    #[arg(long)]
    raw: bool,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let form = console.form;
    let key = form.read("the key", &args.key)?;
    let db = open::read_only(&args.dir)?;
    let keyspace = open::keyspace(&db, &args.dir, &args.keyspace)?;
    let snapshot = db.snapshot();
    let Some(value) = snapshot.get(&keyspace, &key).in_dir(&args.dir)? else {
        return Err(no_value(&args.dir, &args.keyspace, form.show(&key)));
    };
    let mut output = Output::of(console, "get");
    if args.raw {
        output.bytes(&value)?;
    } else if console.is_text() {
        output.line(&form.show(&value))?;
    } else {
        let mut document = Map::new();
        document.insert("keyspace".to_owned(), args.keyspace.clone().into());
        form.member(&mut document, "key", &key);
        form.member(&mut document, "value", &value);
        output.document(Value::Object(document))?;
    }
    output.flush()
}

/// The key has no value.
pub fn no_value(dir: &Path, keyspace: &str, key: String) -> Failure {
    let message = format!("keyspace {keyspace:?} has no key {key}");
    let next = format!("highwater scan {} {} --limit 20", typed(dir), quoted(keyspace));
    Failure::new(Exit::NotFound, message).next(next)
}
