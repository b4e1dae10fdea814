//! Trials of Highwater on the real machine, where the simulated disk cannot go: processes that are killed,
//! that race for the lock, that read beside a writer; a disk that is really full; memory that ends.
//!
//! ```text
//! highwater-trials kills  [--cycles N] [--seed N] [--dir DIR]
//! highwater-trials race   [--rounds N] [--dir DIR]
//! highwater-trials reader [--seconds N] [--seed N] [--dir DIR]
//! highwater-trials full   [--size MIB] [--seed N] [--dir DIR]
//! highwater-trials memory [--stride N] [--seed N] [--dir DIR]
//! highwater-trials all    (each with its defaults)
//! ```
//!
//! Each prints one line of counts, or what went wrong, and then ends with 1. The children are this program
//! again.

mod allocator;
mod child;
mod full;
mod history;
mod kills;
mod life;
mod memory;
mod race;
mod random;
mod reader;

use life::Life;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
highwater-trials: highwater on the real machine

  kills   [--cycles N] [--seed N]    kill -9 again and again, compared with what was acknowledged (2000)
  race    [--rounds N]               two processes open at once (400)
  reader  [--seconds N] [--seed N]   read-only opens beside a writer (10)
  full    [--size MIB] [--seed N]    a tmpfs of a few MiB, filled (12, 16, 24, 40)
  memory  [--stride N] [--seed N]    every allocation of commit and recovery fails (1)
  all                                each with its defaults

  --dir DIR   where the databases lie [a temporary directory]
";

/// The command line: words, and options that are numbers.
struct Arguments {
    words: Vec<String>,
    options: Vec<(String, u64)>,
    dir: Option<PathBuf>,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut parsed = Arguments { words: Vec::new(), options: Vec::new(), dir: None };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                parsed.words.push(argument);
                continue;
            };
            let value = arguments.next().ok_or(format!("--{name} needs a value"))?;
            match name {
                "dir" => parsed.dir = Some(PathBuf::from(value)),
                "cycles" | "rounds" | "seconds" | "stride" | "size" | "seed" | "whim"
                | "threads" => {
                    let number = value.parse().map_err(|_| format!("{value:?} is no number"))?;
                    parsed.options.push((name.to_owned(), number));
                }
                other => return Err(format!("no option --{other}")),
            }
        }
        Ok(parsed)
    }

    fn option(&self, name: &str, default: u64) -> u64 {
        let given = self.options.iter().rev().find(|(known, _)| known == name);
        given.map_or(default, |(_, value)| *value)
    }

    fn word(&self, index: usize) -> Result<&str, String> {
        self.words
            .get(index)
            .map(String::as_str)
            .ok_or_else(|| format!("argument {index} is missing"))
    }

    fn path(&self) -> Result<&Path, String> {
        self.word(1).map(Path::new)
    }
}

fn main() -> ExitCode {
    let outcome = Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let seed = arguments.option("seed", 1);
    match arguments.words.first().map(String::as_str) {
        // What trials start.
        Some("life") => life::live(
            arguments.path()?,
            Life {
                seed,
                whim: arguments.option("whim", 0),
                threads: arguments.option("threads", 1),
            },
        ),
        Some("contend") => race::contend(arguments.path()?),
        Some("fill") => full::fill(arguments.path()?, seed),
        Some("memory-fill") => memory::fill(arguments.path()?, arguments.word(2)?, seed),
        Some("memory-child") => {
            let index = arguments.word(4)?.parse().map_err(|_| "no index")?;
            let (part, mode) = (arguments.word(2)?, arguments.word(3)?);
            memory::live(arguments.path()?, part, mode, index, seed).map_err(|e| e.to_string())
        }
        // What people start.
        Some(trial) => {
            let temporary = tempfile::Builder::new().prefix("highwater-trials-").tempdir();
            let temporary = temporary.map_err(|e| format!("a temporary directory: {e}"))?;
            let dir = arguments.dir.as_deref().unwrap_or(temporary.path());
            let trials: &[&str] = match trial {
                "all" => &["race", "reader", "full", "memory", "kills"],
                _ => &[trial],
            };
            trials.iter().try_for_each(|trial| try_one(trial, arguments, dir, seed))
        }
        None => Err(USAGE.to_owned()),
    }
}

fn try_one(trial: &str, arguments: &Arguments, dir: &Path, seed: u64) -> Result<(), String> {
    let told = match trial {
        "kills" => kills::run(dir, arguments.option("cycles", 2000), seed)?,
        "race" => race::run(dir, arguments.option("rounds", 400))?,
        "reader" => reader::run(dir, Duration::from_secs(arguments.option("seconds", 10)), seed)?,
        "full" => full::run(dir, arguments.option("size", 0), seed)?.unwrap_or_else(|| {
            "full: left out, since this machine lets nobody mount a tmpfs (unshare --user --mount)"
                .to_owned()
        }),
        "memory" => memory::run(dir, arguments.option("stride", 1).max(1), seed)?,
        other => return Err(format!("no trial {other:?}\n\n{USAGE}")),
    };
    println!("{told}");
    Ok(())
}
