//! The process that a drill kills: imports without end and says what it has been promised.
//!
//! After each durable commit it prints `ack TRANSACTION LSN` in one write and flushes it before the same
//! thread begins another commit: beyond the acknowledgements that were printed there is at most one
//! commit for each thread. Before each checkpoint of its own it prints `checkpoint`.
//!
//! The number of a transaction is taken under the database's own gate, so that it is its place in commit
//! order.

use super::workload::{Lines, PROGRESS, PROGRESS_KEY, Position, RECORDS};
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use highwater::{Database, Keyspace};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Import and acknowledge until killed.
#[derive(clap::Args, Debug)]
pub struct Args {
    dir: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    threads: usize,
    #[arg(long)]
    memory_budget: usize,
    #[arg(long)]
    checkpoint_every: u64,
}

/// Size of the log's segments: small, so that kills meet switches from one to the next.
pub const SEGMENT_BYTES: u64 = 1 << 20;

/// Runs the command. Returns only when something fails, or nobody listens any more.
pub fn run(args: &Args) -> Result<(), Failure> {
    let dir = &args.dir;
    let lines = Lines::unpack().map_err(|error| unpack_failure(&error))?;
    let builder = Database::builder().memory_budget(args.memory_budget);
    let db = builder.segment_size(SEGMENT_BYTES).open(dir).in_dir(dir)?;
    let records = db.keyspace(RECORDS).in_dir(dir)?;
    let progress = db.keyspace(PROGRESS).in_dir(dir)?;
    let so_far = progress.get(PROGRESS_KEY).in_dir(dir)?;
    let so_far = so_far.map_or(Some(0), |digits| std::str::from_utf8(&digits).ok()?.parse().ok());
    let so_far = so_far
        .ok_or_else(|| Failure::new(Exit::Failed, "the count of transactions is not a number"))?;
    let (ring, rung) = sync_channel(1);
    let import = Import {
        args,
        db: &db,
        lines: &lines,
        records,
        progress,
        position: Mutex::new(Position::after(args.seed, so_far)),
        ring,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| checkpoints(&import, rung));
        let threads: Vec<_> = (0..args.threads).map(|_| scope.spawn(|| import.run())).collect();
        for thread in threads {
            let outcome = thread.join();
            let outcome = outcome
                .unwrap_or_else(|_| Err(Failure::new(Exit::Failed, "an import thread panicked")));
            if let Err(failure) = outcome {
                // The other threads would go on.
                let _ = failure.report(crate::console::Format::Text);
                std::process::exit(i32::from(failure.exit.code()));
            }
        }
        std::process::exit(0)
    })
}

struct Import<'a> {
    args: &'a Args,
    db: &'a Database,
    lines: &'a Lines,
    records: Keyspace,
    progress: Keyspace,
    position: Mutex<Position>,
    ring: SyncSender<()>,
}

impl Import<'_> {
    fn run(&self) -> Result<(), Failure> {
        let dir = &self.args.dir;
        loop {
            let mut tx = self.db.write().in_dir(dir)?;
            let (records, number) = {
                let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
                (position.advance(), position.transactions)
            };
            for record in records {
                let (line, pass) = (record % self.lines.count(), record / self.lines.count());
                let value = self.lines.value(line, pass);
                tx.insert(&self.records, self.lines.key(line), value).in_dir(dir)?;
            }
            tx.insert(&self.progress, PROGRESS_KEY, number.to_string()).in_dir(dir)?;
            let lsn = tx.commit().in_dir(dir)?;
            say(&format!("ack {number} {lsn}\n"))?;
            if self.args.checkpoint_every > 0 && number.is_multiple_of(self.args.checkpoint_every) {
                // If the last one is still under way, this one is left out.
                let _ = self.ring.try_send(());
            }
        }
    }
}

/// Takes checkpoints beside the commits, so that a kill can meet one.
fn checkpoints(import: &Import<'_>, rung: Receiver<()>) {
    while rung.recv().is_ok() {
        let outcome = say("checkpoint\n")
            .and_then(|()| import.db.checkpoint().in_dir(&import.args.dir).map(|_| ()));
        if let Err(failure) = outcome {
            let _ = failure.report(crate::console::Format::Text);
            std::process::exit(i32::from(failure.exit.code()));
        }
    }
}

/// Prints a line in one write.
fn say(line: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    let said = output.write_all(line.as_bytes()).and_then(|()| output.flush());
    said.map_err(|error| Failure::stdout(&error))
}

/// The embedded data cannot be read.
pub fn unpack_failure(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the data in this program is broken: {error}; build it again"),
    )
}
