//! `count`: how many keys there are.

use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::open;
use crate::output::Output;
use crate::ranges::Keys;
use crate::rescue::Limit;
use crate::text;
use highwater::{Keyspace, Snapshot};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Count keys
///
/// Of one keyspace, or of each. A whole keyspace is counted without reading
/// its tables where their counts say it; a range is scanned. Works beside a
/// live owner; writes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater count ./db
  highwater count ./db users
  highwater count ./db users --prefix a")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace [default: each]
    keyspace: Option<String>,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    limit: Limit,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    args.keys.span(console.form)?;
    args.limit.start("the count");
    let db = open::read_only(dir)?;
    let snapshot = db.snapshot();
    let names = match &args.keyspace {
        Some(name) => vec![name.clone()],
        None => snapshot.keyspaces(),
    };
    let mut counts = Vec::new();
    for name in names {
        let keyspace = open::keyspace(&db, dir, &name)?;
        counts.push((name, args.count(&snapshot, &keyspace, console)?));
    }
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let mut output = Output::of(console, "count");
    if !console.is_text() {
        let each: Vec<Value> =
            counts.iter().map(|(name, keys)| json!({ "name": name, "keys": keys })).collect();
        output.document(json!({ "keys": total, "keyspaces": each }))?;
        return output.flush();
    }
    if args.keyspace.is_some() {
        output.line(&total.to_string())?;
        return output.flush();
    }
    for (name, count) in &counts {
        let name = human::cut(&text::escape(name.as_bytes()), 60);
        output.line(&format!("{:>16}  {name}", human::count(*count)))?;
    }
    output.line(&format!("{:>16}  in all", human::count(total)))?;
    output.flush()
}

impl Args {
    fn count(
        &self,
        snapshot: &Snapshot,
        keyspace: &Keyspace,
        console: &Console,
    ) -> Result<u64, Failure> {
        let dir = &self.dir;
        if self.keys.is_all() {
            return snapshot.len(keyspace).in_dir(dir);
        }
        let bounds = self.keys.span(console.form)?.bounds();
        let mut count = 0;
        for entry in snapshot.range(keyspace, bounds).in_dir(dir)? {
            entry.in_dir(dir)?;
            count += 1;
        }
        Ok(count)
    }
}
