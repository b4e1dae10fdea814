//! `scan`: prints the entries of a keyspace in key order, one a line: key, tab, value.

use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::open;
use crate::output::Output;
use crate::ranges::Keys;
use crate::rescue::Limit;
use highwater::Slice;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// List keys and values in key order
///
/// One entry a line: key, tab, value. Works beside a live owner; writes
/// nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater scan ./db users --prefix a --limit 10
  highwater scan ./db users --from ada --to grace --reverse --keys-only")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace
    keyspace: String,
    #[command(flatten)]
    keys: Keys,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// At most this many entries
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Leave the values out
    #[arg(long)]
    keys_only: bool,
    #[command(flatten)]
    time: Limit,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    args.time.start("the scan");
    let form = console.form;
    let bounds = args.keys.span(form)?.bounds();
    let db = open::read_only(&args.dir)?;
    let keyspace = open::keyspace(&db, &args.dir, &args.keyspace)?;
    let snapshot = db.snapshot();
    let range = snapshot.range(&keyspace, bounds).in_dir(&args.dir)?;
    let mut output = Output::of(console, "scan");
    let mut printed = 0_u64;
    let mut print = |(key, value): (Slice<'_>, Slice<'_>)| -> Result<(), Failure> {
        printed += 1;
        if !console.is_text() {
            let mut entry = Map::new();
            form.member(&mut entry, "key", &key);
            if !args.keys_only {
                form.member(&mut entry, "value", &value);
            }
            return output.item("entry", Value::Object(entry));
        }
        output.bytes(form.show(&key).as_bytes())?;
        if !args.keys_only {
            output.bytes(b"\t")?;
            output.bytes(form.show(&value).as_bytes())?;
        }
        output.bytes(b"\n")
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    if args.reverse {
        for entry in range.rev().take(limit) {
            print(entry.in_dir(&args.dir)?)?;
        }
    } else {
        for entry in range.take(limit) {
            print(entry.in_dir(&args.dir)?)?;
        }
    }
    if !console.is_text() {
        output.summary(json!({ "entries": printed }))?;
    }
    output.flush()
}
