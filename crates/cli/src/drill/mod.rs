//! `drill`: the engine's promise, tried on this machine's disk in one command.
//!
//! Each round starts a [`child`] that imports real records ([`workload`]) and acknowledges each durable
//! commit, kills it in the middle of that ([`round`]), plays a power cut on what was not synced
//! ([`tear`]), reopens, and compares what is there with what was acknowledged and with the commit order
//! ([`check`]). The next round goes on in the same database.
//!
//! Invariants: no byte that an acknowledged commit needs is ever torn; an acknowledgement counts once its
//! line was printed, whenever the parent reads it; a round that cannot be judged is an error, never a
//! success.

mod check;
pub mod child;
mod random;
mod report;
mod round;
mod tear;
mod workload;

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::{Failure, InDir};
use crate::open;
use crate::output::Output;
use report::{Report, Round};
use round::{Killed, Plan};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use workload::{Lines, Position};

/// Import records, kill it, tear its log, and see what it kept
///
/// Each round imports the Unicode character database in a child process, a few
/// records to a commit, and kills that process in the middle of its commits.
/// Then it tears the bytes that were written and not synced, as a power cut
/// may, reopens the database, and compares it with every acknowledged commit.
///
/// Exit code 0 only if no acknowledged commit was lost, nothing else was there
/// than a prefix of the commits, and no open was refused.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater drill
  highwater drill --rounds 20 --records 200000 --dir ./drill-db
  highwater drill --json | tail -n 1 | python3 -m json.tool

With --threads above 1 a commit may be synced before its acknowledgement is
printed, and a later one may vouch for it; such bytes are not torn.")]
pub struct Args {
    /// Where to keep the database: a new or empty directory [default: a
    /// temporary one, removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How often to kill it
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rounds: u64,
    /// Records to import at least, in all rounds together
    #[arg(long, value_name = "N", default_value_t = 35_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    records: u64,
    /// Threads that commit
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// Take a checkpoint every N commits, beside those that are due, 0 for none
    /// [default: 400 in every third round, whose kill aims at one]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Choose the sizes, the moments and the tears by this number [default: a
    /// random one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Lose commits on purpose, as a disk does that answers a sync before it is
    /// done: shows that the drill notices; it ends with exit code 1
    #[arg(long)]
    lying_disk: bool,
    /// End with one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let place = Place::new(args.dir.as_deref())?;
    let dir = &place.path().to_path_buf();
    // Short enough to be typed again.
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000);
    let lines = Lines::unpack().map_err(|error| child::unpack_failure(&error))?;
    let mut output = Output::stdout();
    let text = console.is_text();
    if text {
        output.line(&report::header(args.records, args.rounds, seed, dir))?;
    }
    output.flush()?;

    let mut report = Report::new(args.rounds, seed, args.lying_disk);
    let mut before = Position::start(seed);
    for number in 1..=args.rounds {
        let plan = Plan::new(args, dir, seed, number, &before);
        let killed = round::import_and_kill(&plan)?;
        let round = judge(&plan, killed, &lines, &mut before, args.lying_disk)?;
        if text {
            output.line(&report::row(&round))?;
        }
        output.flush()?;
        let is_refused = round.refused.is_some();
        report.add(round);
        if is_refused {
            break;
        }
    }
    if !report.was_refused() {
        // What the last round left is there after a clean close, too.
        let db = open::existing(dir, &open::Keeping::default(), console)?;
        let found = check::check(&db, dir, &lines, seed)?;
        report.ends_well = found.position == before && found.wrong == 0;
        db.close().in_dir(dir)?;
    }
    // What went wrong can be looked at.
    let kept = if report.is_good() || args.lying_disk { place.given() } else { place.keep() };
    if text {
        output.line(&report.summary(kept.as_deref()))?;
    }
    if args.json || !text {
        output.line(&report.json().to_string())?;
    }
    output.flush()?;
    // The verdict was printed.
    if report.is_good() { Ok(()) } else { Err(Failure::new(Exit::Failed, "")) }
}

/// Tears, reopens and compares.
fn judge(
    plan: &Plan<'_>,
    killed: Killed,
    lines: &Lines,
    before: &mut Position,
    lying_disk: bool,
) -> Result<Round, Failure> {
    let mut random = plan.random.clone();
    let torn = if lying_disk {
        tear::lose_acknowledged(plan.dir, killed.lsn, &mut random)?
    } else {
        tear::tear(plan.dir, killed.lsn, &mut random)?
    };
    let acknowledged_to = killed.acknowledged.iter().copied().max().unwrap_or_default();
    let mut round = Round {
        number: plan.number,
        killed_in: plan.moment.name(),
        memory_budget: plan.memory_budget as u64,
        acknowledged: killed.acknowledged.len() as u64,
        torn,
        ..Round::default()
    };
    let started = std::time::Instant::now();
    let opened = plan.builder().open(plan.dir);
    round.open_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let db = match opened {
        Ok(db) => db,
        Err(error) => {
            round.lost = round.acknowledged;
            round.refused = Some(error.to_string());
            return Ok(round);
        }
    };
    round.recovery = db.recovery().clone();
    let found = check::check(&db, plan.dir, lines, plan.seed)?;
    let reached = found.position.transactions;
    round.recovered = reached.saturating_sub(before.transactions);
    round.records = found.position.records.saturating_sub(before.records);
    round.lost = killed.acknowledged.iter().filter(|number| **number > reached).count() as u64;
    round.wrong = found.wrong;
    round.first_wrong = found.first_wrong;
    // Beyond the acknowledged commits there may be one for each thread, no more.
    if reached > acknowledged_to.max(before.transactions) + plan.threads {
        round.wrong += 1;
        let what = format!("{reached} commits are there, {acknowledged_to} were acknowledged");
        round.first_wrong.get_or_insert(what);
    }
    *before = found.position;
    db.close().in_dir(plan.dir)?;
    Ok(round)
}

/// Where the database of a drill lies.
enum Place {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn new(dir: Option<&Path>) -> Result<Place, Failure> {
        let Some(dir) = dir else {
            let made = tempfile::Builder::new().prefix("highwater-drill-").tempdir();
            let temporary = std::env::temp_dir();
            return made
                .map(Place::Temporary)
                .map_err(|error| Failure::file("make a directory in", &temporary, &error));
        };
        match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("{} is not empty; give a new or an empty directory", dir.display()),
                ));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::file("list", dir, &error)),
        }
        Ok(Place::Given(dir.to_path_buf()))
    }

    /// The path, if the user gave it.
    fn given(self) -> Option<PathBuf> {
        match self {
            Place::Given(path) => Some(path),
            Place::Temporary(_) => None,
        }
    }

    /// Keeps the directory.
    fn keep(self) -> Option<PathBuf> {
        Some(match self {
            Place::Given(path) => path,
            Place::Temporary(dir) => dir.keep(),
        })
    }

    fn path(&self) -> &Path {
        match self {
            Place::Given(path) => path,
            Place::Temporary(dir) => dir.path(),
        }
    }
}
