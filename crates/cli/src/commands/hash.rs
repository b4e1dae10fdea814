//! `hash`: one number for everything that a state shows.

use crate::console::Console;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::output::Output;
use crate::progress::Progress;
use crate::rescue::Limit;
use crate::states::State;
use highwater::check::ContentHasher;
use highwater::{Database, Snapshot};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Print one content hash of a state
///
/// Equal keyspaces, keys and values have an equal hash, whatever the files
/// they lie in: before and after a compaction, in a backup, on another disk.
/// DIR@LSN is the state after the commit that returned this LSN; the tables
/// and the log have those since the last checkpoint. Works beside a live
/// owner; writes nothing.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater hash ./db
  highwater hash ./db@1052760
  highwater hash ./db --format json | jq -r .hash")]
pub struct Args {
    /// The database directory, or DIR@LSN for an earlier state
    #[arg(value_name = "DIR[@LSN]")]
    state: PathBuf,
    #[command(flatten)]
    limit: Limit,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    args.limit.start("the hash");
    let state = State::of(&args.state);
    let (db, lsn) = state.open()?;
    let snapshot = db.snapshot();
    let (hash, keys) = hash(&db, &snapshot, &state.dir)?;
    let mut output = Output::of(console, "hash");
    if console.is_text() {
        output.line(&format!("{hash}  {}", args.state.display()))?;
    } else {
        output.document(json!({
            "hash": hash,
            "seqno": snapshot.seqno().get(),
            "lsn": lsn.get(),
            "keyspaces": snapshot.keyspaces().len(),
            "keys": keys,
        }))?;
    }
    output.flush()
}

/// The same as [`Snapshot::content_hash`], with progress; and the number of keys.
fn hash(db: &Database, snapshot: &Snapshot, dir: &Path) -> Result<(String, u64), Failure> {
    let total = db.stats().live_table_bytes + db.recovery().replayed_bytes;
    let mut progress = Progress::bytes(Some(total));
    let mut hasher = ContentHasher::new();
    let (mut keys, mut bytes) = (0_u64, 0_u64);
    for name in snapshot.keyspaces() {
        hasher.keyspace(&name);
        let keyspace = db.existing_keyspace(&name).in_dir(dir)?;
        for entry in snapshot.iter(&keyspace).in_dir(dir)? {
            let (key, value) = entry.in_dir(dir)?;
            hasher.entry(&key, &value);
            keys += 1;
            bytes += (key.len() + value.len()) as u64;
            if keys.is_multiple_of(1024) {
                progress.bar().set_length(total.max(bytes));
                progress.at(bytes);
                progress.say(|| human::plural(keys, "key"));
            }
        }
    }
    progress.end();
    Ok((hasher.finish().to_string(), keys))
}
