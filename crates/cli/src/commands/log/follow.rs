//! `log follow`: every transaction as it becomes durable.

use super::filter::{Filter, Wanted};
use super::print::Printer;
use crate::console::{Console, duration};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::keyspaces::Keyspaces;
use crate::open;
use crate::output::Output;
use highwater::Lsn;
use highwater::check::{Followed, Follower};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the log is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Print every transaction as it becomes durable
///
/// From now on, or from where --from says, until it is interrupted. Survives
/// rotation, recycling, checkpoints, and restarts of the owner. Prints
/// operations; --transactions prints a line for each commit. If the log went
/// on faster than it was read, that is said, and the exit code is 3.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater log follow ./db
  highwater log follow ./db --from 0 --keyspace users --show-values
  highwater log follow ./db --transactions --for 60s --format jsonl")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// Begin with what was committed at or after this LSN [default: now]
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// A line for each commit instead of each operation
    #[arg(long)]
    transactions: bool,
    /// End after so long: 500ms, 30s, 10m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// End after so many commits
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    #[command(flatten)]
    what: Wanted,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let dir = &args.dir;
    let keyspaces = Keyspaces::with_log(dir);
    let mut filter = Filter::wanted(&args.what, console, &keyspaces)?;
    let mut follower = Follower::new(open::file_system(), dir).in_dir(dir)?;
    let mut output = Output::of(console, "log follow");
    let mut printer = Printer::new(console, keyspaces, !args.transactions);
    // A follower does not look which tables there are.
    printer.knows_live = false;
    if console.is_text() {
        printer.heading(&mut output)?;
        output.flush()?;
    }
    let started = Instant::now();
    let from = match args.from {
        Some(from) => Lsn(from.saturating_sub(1)),
        None if args.what.since.is_some() => Lsn::ZERO,
        None => {
            let mut last = Lsn::ZERO;
            let skipped = follower.poll(&mut |item| {
                if let Followed::Transaction(one) = item {
                    last = one.lsn;
                }
                ControlFlow::Continue(())
            });
            skipped.in_dir(dir)?;
            last
        }
    };
    let (mut commits, mut missed) = (0_u64, 0_u64);
    loop {
        let mut outcome = Ok(());
        let mut printed = false;
        let polled = follower.poll(&mut |item| {
            let lines = match item {
                Followed::Transaction(one) if one.lsn > from => {
                    commits += 1;
                    printer.transaction(&one, &mut filter)
                }
                Followed::Missed { from, to } => {
                    missed += to.get() - from.get();
                    let what = "released and overwritten before they were read";
                    outcome = match console.is_text() {
                        true => output
                            .line(&format!("missed commits {from} to {}: {what}", to.get() - 1)),
                        false => output.item(
                            "missed",
                            json!({ "seqno_from": from.get(), "seqno_to": to.get(), "what": what }),
                        ),
                    };
                    Vec::new()
                }
                _ => Vec::new(),
            };
            for line in lines {
                printed = true;
                outcome = line.print(&mut output, console);
                if outcome.is_err() {
                    return ControlFlow::Break(());
                }
            }
            if commits >= args.limit || outcome.is_err() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        polled.in_dir(dir)?;
        outcome?;
        if printed {
            output.flush()?;
        }
        if commits >= args.limit || args.time.is_some_and(|time| started.elapsed() >= time) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    if !console.is_text() {
        output.summary(json!({ "commits": commits, "missed": missed }))?;
    }
    output.flush()?;
    if missed == 0 { Ok(()) } else { Err(Failure::ended(Exit::NotFound)) }
}
