//! `import`: reads records from a file or a pipe into a keyspace.
//!
//! Records go into the open transaction as they are read and are committed every N, so that neither the
//! input nor a commit has to fit in memory. Unless somebody counts on each commit (`--ack`), most of them go
//! to the operating system only: a commit syncs if the last sync is [`SYNC_PAUSE`] ago, and the last one
//! does. So a stream that trickles in is durable as it comes, and a large file does not wait for the disk. A bad line ends the import: what stands before it is
//! committed, nothing after it.

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::human;
use crate::open;
use crate::output::Output;
use crate::progress::Progress;
use crate::records::{BadLine, Format};
use highwater::{Database, Durability, Error, Keyspace, Lsn, WriteTx};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Read records from a file or a pipe into a keyspace
///
/// Makes the database and the keyspace if there is none. Records replace those
/// with the same key, so an import that was stopped can be run again.
///
/// jsonl: one object a line, {"key": "…", "value": "…"}; for bytes that are no
/// text, "key_hex" and "value_hex".
///
/// csv: a header with the columns key and value, and, for bytes that are no
/// text, key_encoding and value_encoding (text or hex).
///
/// mdb_dump: what LMDB's tool of that name writes, with and without -p.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater import ./db users users.jsonl
  cat users.csv | highwater import ./db users - --from csv --ack
  mdb_dump -s users ./lmdb | highwater import ./db users --from mdb_dump")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// The keyspace
    keyspace: String,
    /// The file to read, or - for the standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The form of the records [default: by the ending of the file: .jsonl, .csv,
    /// .mdb or .dump]
    #[arg(long, value_name = "FORM")]
    from: Option<Format>,
    /// Records in one commit
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    commit_every: u64,
    /// What a commit waits for: the disk, or only the operating system, with one
    /// sync at the end [default: the disk ten times a second and at the end, or,
    /// with --ack, each time]
    #[arg(long, value_enum)]
    durability: Option<Wait>,
    /// Print a line for each durable commit: ack COMMIT RECORDS-SO-FAR LSN
    #[arg(long)]
    ack: bool,
    /// Skip and count bad lines instead of ending at the first
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    keeping: open::Keeping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wait {
    Sync,
    Buffered,
}

/// Longest time that commits go without a sync, unless one way was asked for.
const SYNC_PAUSE: Duration = Duration::from_millis(100);

/// Bad lines that are named when they are skipped; the rest are only counted.
const NAMED_BAD_LINES: u64 = 10;

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    if args.ack && args.durability == Some(Wait::Buffered) {
        return Err(Failure::usage(
            "--ack promises durable commits, which --durability buffered does not make; \
             leave one of them out",
        ));
    }
    let form = Format::of("--from", args.from, &args.file)?;
    let (input, length) = open_input(&args.file)?;
    let mut progress = Progress::bytes(length);
    let shown = progress.bar().clone();
    let input = BufReader::with_capacity(256 << 10, shown.wrap_read(input));
    // A bad header is found before a database is made.
    let mut reader = form.reader(Box::new(input) as Box<dyn BufRead>)?;

    let db = open::or_create(&args.dir, &args.keeping, console)?;
    let keyspace = db.keyspace(&args.keyspace).in_dir(&args.dir)?;
    let mut import = Import {
        args,
        db: &db,
        keyspace,
        tx: None,
        in_tx: 0,
        seen: 0,
        done: Done::default(),
        synced: Instant::now(),
    };
    let outcome = loop {
        let record = match reader.next_record() {
            None => break Ok(()),
            Some(record) => record,
        };
        let outcome = match record {
            Ok((key, value)) => import.insert(&key, &value, reader.line()),
            Err(bad) => import.bad_line(&bad),
        };
        if let Err(failure) = outcome {
            break Err(failure);
        }
        import.seen += 1;
        if import.seen.is_multiple_of(1024) {
            progress.say(|| human::plural(import.seen, "record"));
        }
    };
    progress.end();
    import.commit()?;
    let done = std::mem::take(&mut import.done);
    drop(import);
    if !syncs_each(args) {
        db.sync().in_dir(&args.dir)?;
    }
    db.close().in_dir(&args.dir)?;
    if let Err(mut failure) = outcome {
        let kept = human::plural(done.records, "record");
        failure.message =
            format!("{}; {kept} before it are imported, nothing after it", failure.message);
        return Err(failure);
    }
    summary(args, &done, console)
}

fn summary(args: &Args, done: &Done, console: &Console) -> Result<(), Failure> {
    let mut output = Output::of(console, "import");
    if !console.is_text() {
        output.document(json!({
            "records": done.records,
            "commits": done.commits,
            "bad_lines": done.bad,
            "last_lsn": done.lsn.get(),
        }))?;
        return output.flush();
    }
    let skipped = match done.bad {
        0 => String::new(),
        bad => format!(", {} skipped", human::plural(bad, "bad line")),
    };
    output.line(&format!(
        "imported {} into {:?} in {}{skipped}",
        human::plural(done.records, "record"),
        args.keyspace,
        human::plural(done.commits, "commit"),
    ))?;
    output.flush()
}

#[derive(Debug, Default)]
struct Done {
    records: u64,
    commits: u64,
    bad: u64,
    lsn: Lsn,
}

struct Import<'a> {
    args: &'a Args,
    db: &'a Database,
    keyspace: Keyspace,
    tx: Option<WriteTx>,
    in_tx: u64,
    /// Records and bad lines met.
    seen: u64,
    done: Done,
    /// When the last commit that waited for the disk was made.
    synced: Instant,
}

impl Import<'_> {
    fn insert(&mut self, key: &[u8], value: &[u8], line: u64) -> Result<(), Failure> {
        let dir: &Path = &self.args.dir;
        let mut tx = match self.tx.take() {
            Some(tx) => tx,
            None => self.db.write().in_dir(dir)?,
        };
        let outcome = tx.insert(&self.keyspace, key, value);
        self.tx = Some(tx);
        match outcome {
            Ok(()) => self.in_tx += 1,
            Err(error @ Error::Limit { .. }) => {
                let what = error.to_string();
                return self.bad_line(&BadLine { line, what, is_fatal: false });
            }
            Err(error) => return Err(Failure::engine(dir, &error)),
        }
        if self.in_tx >= self.args.commit_every { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let Some(tx) = self.tx.take() else { return Ok(()) };
        if self.in_tx == 0 {
            return Ok(());
        }
        let is_due = self.args.durability.is_none() && self.synced.elapsed() >= SYNC_PAUSE;
        let durability = match syncs_each(self.args) || is_due {
            true => Durability::Sync,
            false => Durability::Buffered,
        };
        self.done.lsn = tx.commit_with(durability).in_dir(&self.args.dir)?;
        if durability == Durability::Sync {
            self.synced = Instant::now();
        }
        self.done.records += std::mem::take(&mut self.in_tx);
        self.done.commits += 1;
        if self.args.ack {
            let Done { commits, records, lsn, .. } = &self.done;
            let mut output = io::stdout().lock();
            let said = writeln!(output, "ack {commits} {records} {lsn}");
            said.and_then(|()| output.flush()).map_err(|error| {
                // Nobody may count on acknowledgements that nobody can read.
                let message = format!("cannot acknowledge commit {commits}: {error}");
                Failure::new(Exit::Failed, message)
            })?;
        }
        Ok(())
    }

    fn bad_line(&mut self, bad: &BadLine) -> Result<(), Failure> {
        let message = format!("line {}: {}", bad.line, bad.what);
        if bad.is_fatal || !self.args.skip_bad {
            return Err(Failure::new(Exit::Failed, message));
        }
        self.done.bad += 1;
        if self.done.bad <= NAMED_BAD_LINES {
            let _ = writeln!(io::stderr(), "skipped {message}");
        }
        Ok(())
    }
}

/// Whether every commit waits for the disk.
fn syncs_each(args: &Args) -> bool {
    args.ack || args.durability == Some(Wait::Sync)
}

fn open_input(path: &Path) -> Result<(Box<dyn io::Read>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    let metadata = file.metadata().map_err(|error| Failure::file("open", path, &error))?;
    if metadata.is_dir() {
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(Failure::file("read", path, &error));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}
