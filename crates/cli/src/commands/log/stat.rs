//! `log stat`: what the log consists of, in numbers.

use super::filter::Kind;
use crate::console::{Console, Style};
use crate::failure::{Failure, InDir};
use crate::human;
use crate::keyspaces::Keyspaces;
use crate::open;
use crate::output::Output;
use crate::time;
use highwater::Lsn;
use highwater::check::{self, LogItem, LogOperation, LogSegment};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Segments, and counts by kind and keyspace
///
/// Of everything that the segment files still hold, released or not.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  highwater log stat ./db")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
}

#[derive(Debug, Default)]
struct Counts {
    segments: Vec<LogSegment>,
    groups: u64,
    group_bytes: u64,
    witnesses: u64,
    transactions: u64,
    live_transactions: u64,
    largest: (u64, u64),
    first: Option<(Lsn, u64, u64)>,
    last: Option<(Lsn, u64, u64)>,
    damaged: u64,
    kinds: BTreeMap<&'static str, u64>,
    keyspaces: BTreeMap<u32, (u64, u64)>,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let mut names = Keyspaces::of(&args.dir);
    let mut counts = Counts::default();
    let read = check::read_log(&*open::file_system(), &args.dir, Lsn::ZERO, &mut |item| {
        counts.take(&item, &mut names);
        ControlFlow::Continue(())
    });
    read.in_dir(&args.dir)?;
    let mut output = Output::of(console, "log stat");
    if console.is_text() {
        counts.text(&mut output, console, &names)?;
    } else {
        output.document(counts.document(&names))?;
    }
    output.flush()
}

impl Counts {
    fn take(&mut self, item: &LogItem<'_>, names: &mut Keyspaces) {
        match item {
            LogItem::Segment(segment) => self.segments.push((*segment).clone()),
            LogItem::Group { lsn, end, .. } => {
                self.groups += 1;
                self.group_bytes += end.get() - lsn.get();
            }
            LogItem::Witness { .. } => self.witnesses += 1,
            LogItem::Damage { .. } => self.damaged += 1,
            LogItem::Transaction(one) => {
                self.transactions += 1;
                self.live_transactions += u64::from(one.live);
                self.largest = self.largest.max((one.operation_bytes(), one.seqno.get()));
                let place = (one.lsn, one.seqno.get(), one.time_micros);
                self.first.get_or_insert(place);
                self.last = Some(place);
                for operation in one.operations().flatten() {
                    names.learn(&operation);
                    *self.kinds.entry(Kind::of(&operation).name()).or_default() += 1;
                    let (id, bytes) = match operation {
                        LogOperation::Put { keyspace, key, value } => {
                            (keyspace, key.len() + value.len())
                        }
                        LogOperation::Remove { keyspace, key } => (keyspace, key.len()),
                        LogOperation::RemoveRange { keyspace, start, .. } => {
                            (keyspace, start.len())
                        }
                        _ => continue,
                    };
                    let count = self.keyspaces.entry(id.get()).or_default();
                    count.0 += 1;
                    count.1 += bytes as u64;
                }
            }
            _ => {}
        }
    }

    fn text(
        &self,
        output: &mut Output,
        console: &Console,
        names: &Keyspaces,
    ) -> Result<(), Failure> {
        let heading = format!(
            "{:<24} {:>12} {:>10} {:>6}  {:<8} made",
            "segment", "base LSN", "bytes", "epoch", "state"
        );
        output.line(&console.paint(Style::Heading, &heading))?;
        for segment in &self.segments {
            let epoch = segment.epoch.map_or("?".to_owned(), |epoch| epoch.to_string());
            let made = time::short(segment.created_micros);
            let row = format!(
                "{:<24} {:>12} {:>10} {epoch:>6}  {:<8} {}",
                segment.name,
                segment.base.get(),
                human::bytes(segment.bytes),
                if segment.live { "live" } else { "released" },
                made.get(5..16).unwrap_or(&made)
            );
            output.line(&row)?;
        }
        output.line("")?;
        output.row(
            "Groups",
            &format!(
                "{}, {}; {} alone vouch for others",
                human::count(self.groups),
                human::bytes(self.group_bytes),
                human::count(self.witnesses)
            ),
        )?;
        output.row(
            "Commits",
            &format!(
                "{}; {} in no table yet",
                human::count(self.transactions),
                human::count(self.live_transactions)
            ),
        )?;
        for (name, place) in [("First", self.first), ("Last", self.last)] {
            if let Some((lsn, seqno, time)) = place {
                let seqno = human::count(seqno);
                output.row(name, &format!("commit {seqno}, LSN {lsn}, {}", time::short(time)))?;
            }
        }
        if self.transactions > 0 {
            let (bytes, seqno) = self.largest;
            let seqno = human::count(seqno);
            output.row("Largest", &format!("commit {seqno}, {}", human::bytes(bytes)))?;
        }
        for (kind, count) in &self.kinds {
            output.line(&format!("  {kind:<24} {:>12}", human::count(*count)))?;
        }
        if !self.keyspaces.is_empty() {
            output.line("")?;
            let heading = format!("  {:<24} {:>12} {:>12}", "keyspace", "operations", "bytes");
            output.line(&console.paint(Style::Heading, &heading))?;
            for (id, (count, bytes)) in &self.keyspaces {
                let name = human::cut(&names.show(highwater::KeyspaceId(*id)), 24);
                let (count, bytes) = (human::count(*count), human::bytes(*bytes));
                output.line(&format!("  {name:<24} {count:>12} {bytes:>12}"))?;
            }
        }
        if self.damaged > 0 {
            let places = human::plural(self.damaged, "damaged place");
            output.line(&console.paint(Style::Bad, &format!("{places}: see highwater verify")))?;
        }
        Ok(())
    }

    fn document(&self, names: &Keyspaces) -> Value {
        let segments: Vec<Value> = self
            .segments
            .iter()
            .map(|one| {
                json!({ "name": one.name, "base_lsn": one.base.get(), "bytes": one.bytes,
                    "epoch": one.epoch.map(|epoch| epoch.get()),
                    "created_micros": one.created_micros, "live": one.live })
            })
            .collect();
        let keyspaces: Vec<Value> = self
            .keyspaces
            .iter()
            .map(|(id, (operations, bytes))| {
                json!({ "id": id, "name": names.json(highwater::KeyspaceId(*id)),
                    "operations": operations, "bytes": bytes })
            })
            .collect();
        let place = |place: Option<(Lsn, u64, u64)>| {
            place.map(|(lsn, seqno, time)| {
                json!({ "lsn": lsn.get(), "seqno": seqno, "time_micros": time })
            })
        };
        json!({
            "segments": segments,
            "groups": self.groups,
            "group_bytes": self.group_bytes,
            "witnesses": self.witnesses,
            "commits": self.transactions,
            "live_commits": self.live_transactions,
            "largest_commit_bytes": self.largest.0,
            "largest_commit_seqno": self.largest.1,
            "first": place(self.first),
            "last": place(self.last),
            "kinds": self.kinds,
            "keyspaces": keyspaces,
            "damaged_places": self.damaged,
        })
    }
}
