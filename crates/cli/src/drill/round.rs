//! One round's import: starts the child, reads its acknowledgements, kills it at a moment that the seed
//! chooses, and reads what it had still printed.

use super::child::SEGMENT_BYTES;
use super::random::Random;
use super::workload::Position;
use super::{Args, tear};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use highwater::{Builder, Database};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a child may be silent, before the round is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Commits between the checkpoints that a kill aims at.
const CHECKPOINT_EVERY: u64 = 400;
/// Acknowledgements after which a moment that does not come is no longer waited for.
const MOMENT_PATIENCE: u64 = 2000;

/// In the middle of what the child is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A commit.
    Commit,
    /// A checkpoint, beside the commits.
    Checkpoint,
    /// The commits that go from one log file to the next.
    Segment,
}

impl Moment {
    /// Its name, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Commit => "commit",
            Moment::Checkpoint => "checkpoint",
            Moment::Segment => "log switch",
        }
    }
}

/// What a round does.
#[derive(Debug)]
pub struct Plan<'a> {
    pub dir: &'a Path,
    /// The directory is removed at the end.
    is_temporary: bool,
    pub number: u64,
    pub seed: u64,
    pub threads: u64,
    pub moment: Moment,
    pub memory_budget: usize,
    /// The child is killed some time after so many transactions in all.
    pub transactions: u64,
    checkpoint_every: u64,
    /// Decides what is left open.
    pub random: Random,
}

/// What a killed child had acknowledged.
#[derive(Debug, Default)]
pub struct Killed {
    /// Numbers of the transactions.
    pub acknowledged: Vec<u64>,
    /// The highest LSN among them.
    pub lsn: u64,
}

impl<'a> Plan<'a> {
    /// The plan of a round that goes on after `before`.
    pub fn new(args: &Args, dir: &'a Path, seed: u64, number: u64, before: &Position) -> Plan<'a> {
        let moments = [Moment::Commit, Moment::Checkpoint, Moment::Segment];
        let moment = match moments[((number - 1) % 3) as usize] {
            Moment::Checkpoint if args.checkpoint_every == Some(0) => Moment::Commit,
            moment => moment,
        };
        let due = if moment == Moment::Checkpoint { CHECKPOINT_EVERY } else { 0 };
        // Every second round has so little memory that checkpoints and merges are always under way.
        let memory_budget = if number.is_multiple_of(2) { 1 << 20 } else { 16 << 20 };
        let share = args.records.div_ceil(args.rounds) * number;
        let mut target = before.clone();
        // At least one transaction, so that there is something to judge.
        target.advance();
        while target.records < share {
            target.advance();
        }
        let random = Random::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Plan {
            dir,
            is_temporary: args.dir.is_none(),
            number,
            seed,
            threads: args.threads,
            moment,
            memory_budget,
            transactions: target.transactions,
            checkpoint_every: args.checkpoint_every.unwrap_or(due),
            random,
        }
    }

    /// How the database is opened in this round.
    pub fn builder(&self) -> Builder {
        Database::builder().memory_budget(self.memory_budget).segment_size(SEGMENT_BYTES)
    }
}

/// A line that the child printed.
enum Line {
    Ack { number: u64, lsn: u64 },
    Checkpoint,
    Unknown(String),
}

/// Runs a child until its moment has come and kills it. All acknowledgements that it printed count, those
/// read after the kill too.
pub fn import_and_kill(plan: &Plan<'_>) -> Result<Killed, Failure> {
    let mut process = spawn(plan)?;
    let stdout = process.stdout.take();
    let stderr = process.stderr.take();
    let process = Arc::new(Mutex::new(process));
    let victim = process.clone();
    let leftover = plan.is_temporary.then(|| plan.dir.to_path_buf());
    interrupt::on_interrupt(move || {
        kill(&victim);
        if let Some(leftover) = leftover {
            let _ = std::fs::remove_dir_all(leftover);
        }
    });
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || read_lines(stdout, &sender));
    let complaint = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.map(|stderr| stderr.take(64 << 10).read_to_string(&mut text));
        text
    });
    let mut killed = Killed::default();
    let waited = wait_for_moment(plan, &lines, &mut killed);
    kill(&process);
    // The pipe still holds what was printed before the kill.
    let _ = reader.join();
    let outcome = waited
        .and_then(|()| lines.try_iter().try_for_each(|line| take(line, &mut killed).map(|_| ())));
    let complaint = complaint.join().unwrap_or_default();
    interrupt::wait_if_interrupted();
    outcome.map_err(|what| {
        let said = complaint.trim();
        let said = if said.is_empty() { String::new() } else { format!(" It said: {said}") };
        Failure::new(Exit::Failed, format!("the drill cannot go on: {what}.{said}"))
    })?;
    Ok(killed)
}

fn spawn(plan: &Plan<'_>) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot find this program's own file: {error}; start it by its path"),
        )
    })?;
    let started = Command::new(&program)
        .arg("drill-child")
        .arg(format!("--seed={}", plan.seed))
        .arg(format!("--threads={}", plan.threads))
        .arg(format!("--memory-budget={}", plan.memory_budget))
        .arg(format!("--checkpoint-every={}", plan.checkpoint_every))
        .arg("--")
        .arg(plan.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    started.map_err(|error| Failure::file("start", &program, &error))
}

fn kill(process: &Mutex<Child>) {
    let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
    // It may have ended by itself; then there is nothing to kill.
    let _ = process.kill();
    let _ = process.wait();
}

/// Hands on each whole line; ends with the pipe.
fn read_lines(stdout: Option<ChildStdout>, sender: &Sender<Line>) {
    let Some(stdout) = stdout else { return };
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|length| length > 0) && line.ends_with('\n') {
        if sender.send(parse(line.trim_end())).is_err() {
            return;
        }
        line.clear();
    }
}

fn parse(text: &str) -> Line {
    let mut words = text.split(' ');
    let mut word = || words.next();
    match (word(), word(), word(), word()) {
        (Some("checkpoint"), None, None, None) => Line::Checkpoint,
        (Some("ack"), Some(number), Some(lsn), None) => match (number.parse(), lsn.parse()) {
            (Ok(number), Ok(lsn)) => Line::Ack { number, lsn },
            _ => Line::Unknown(text.to_owned()),
        },
        _ => Line::Unknown(text.to_owned()),
    }
}

fn wait_for_moment(
    plan: &Plan<'_>,
    lines: &Receiver<Line>,
    killed: &mut Killed,
) -> Result<(), String> {
    let mut random = plan.random.clone();
    let mut reached = 0;
    while reached < plan.transactions {
        reached = reached.max(next(lines, killed)?.unwrap_or_default());
    }
    match plan.moment {
        Moment::Commit => {
            for _ in 0..random.below(100) {
                next(lines, killed)?;
            }
        }
        Moment::Checkpoint => {
            for _ in 0..MOMENT_PATIENCE {
                if next(lines, killed)?.is_none() {
                    break;
                }
            }
            // A checkpoint takes some milliseconds.
            std::thread::sleep(Duration::from_micros(random.below(8000)));
        }
        Moment::Segment => {
            let segments = tear::segments(plan.dir).map_err(|failure| failure.message)?;
            let lsn = killed.lsn;
            let end =
                segments.iter().find(|s| s.base <= lsn && lsn < s.end()).map(tear::Segment::end);
            // Most commits take one block of 4 KiB.
            let near = end.unwrap_or_default().saturating_sub(random.below(3) * 4096);
            for _ in 0..MOMENT_PATIENCE {
                if killed.lsn >= near {
                    break;
                }
                next(lines, killed)?;
            }
        }
    }
    // Anywhere in the next commit, or the one after it.
    std::thread::sleep(Duration::from_micros(random.below(1500)));
    Ok(())
}

/// Takes the next line; gives the number of the transaction that it acknowledges.
fn next(lines: &Receiver<Line>, killed: &mut Killed) -> Result<Option<u64>, String> {
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => take(line, killed),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("the importing process was silent for {} s", PATIENCE.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err("the importing process ended by itself".to_owned())
        }
    }
}

fn take(line: Line, killed: &mut Killed) -> Result<Option<u64>, String> {
    match line {
        Line::Ack { number, lsn } => {
            killed.acknowledged.push(number);
            killed.lsn = killed.lsn.max(lsn);
            Ok(Some(number))
        }
        Line::Checkpoint => Ok(None),
        Line::Unknown(text) => Err(format!("the importing process printed {text:?}")),
    }
}
