//! The command line.

use crate::engine::Setup;
use crate::engines;
use crate::phases::{self, PHASES};
use std::path::PathBuf;

/// How to call it.
pub const USAGE: &str = "\
highwater-peers [--quick|--full] [--engines a,b] [--phases p,q|group] [--runs N] [--dir DIR]
                [--json] [--markdown FILE] [--chart FILE] [--cache MIB] [--write MIB] [--memory MIB] [--list]
highwater-peers table FILE... [--json] [--markdown FILE] [--chart FILE]

  table          joins the last lines of files that --json filled; of a phase in two files the later one counts
  --quick        a twentieth of the size (the default)
  --full         5,000,000 records, as the field's best-known comparison has
  --engines      only these; highwater is always first in line for the ratio
  --phases       only these phases or groups; --list names them
  --runs         runs of each phase, the median of which counts (default 3)
  --dir          where databases are made and removed again; made if it is missing (default: the system's directory for
                 temporary files)
  --json         one JSON object as the last line
  --markdown     writes the table to a file
  --chart        draws the ratios into an SVG file
  --cache        MiB of cache for engines that have their own (default 4096)
  --write        MiB for changes not in their final place yet (default 128)
  --memory       MiB of memory, page cache included, for the phases whose data is four times as large
                 (default 16, with --full 256; takes the right to make a control group)
";

/// What to make of results beside the table.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Whether to print JSON.
    pub json: bool,
    /// Where to write Markdown.
    pub markdown: Option<PathBuf>,
    /// Where to draw.
    pub chart: Option<PathBuf>,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Full size.
    pub full: bool,
    /// Names of engines.
    pub engines: Vec<&'static str>,
    /// Names of phases.
    pub phases: Vec<&'static str>,
    /// Runs of each phase.
    pub runs: usize,
    /// Where databases are made.
    pub dir: PathBuf,
    /// What to make of the results beside the table.
    pub outputs: Outputs,
    /// Cache, in MiB.
    pub cache_mib: usize,
    /// Write memory, in MiB.
    pub write_mib: usize,
    /// Memory where the data is to be larger, in MiB; 0 for the default of the size.
    pub memory_mib: usize,
}

impl Options {
    /// The wanted phases of a group.
    pub fn phases_of(&self, group: &str) -> impl Iterator<Item = &'static str> {
        let wanted = PHASES.iter().filter(move |phase| phase.group == group);
        wanted.map(|phase| phase.name).filter(|name| self.phases.contains(name))
    }

    /// The budgets that were asked for.
    pub fn setup(&self) -> Setup {
        Setup {
            cache_bytes: self.cache_mib << 20,
            write_bytes: self.write_mib << 20,
            ..Setup::default()
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Measure.
    Run(Options),
    /// Join results of earlier invocations.
    Join(Vec<PathBuf>, Outputs),
    /// Name the phases and engines.
    List,
    /// Say how to call it.
    Help,
}

/// Reads the command line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Options {
        full: false,
        engines: engines::names(),
        phases: PHASES.iter().map(|phase| phase.name).collect(),
        runs: 3,
        dir: std::env::temp_dir(),
        outputs: Outputs::default(),
        cache_mib: 4096,
        write_mib: 128,
        memory_mib: 0,
    };
    let mut arguments = arguments.peekable();
    let joins = arguments.next_if(|first| first == "table").is_some();
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => options.full = false,
            "--full" => options.full = true,
            "--json" => options.outputs.json = true,
            "--engines" => options.engines = chosen_engines(&value()?)?,
            "--phases" => options.phases = chosen_phases(&value()?)?,
            "--runs" => options.runs = number(&argument, &value()?)?,
            "--dir" => options.dir = value()?.into(),
            "--markdown" => options.outputs.markdown = Some(value()?.into()),
            "--chart" => options.outputs.chart = Some(value()?.into()),
            "--cache" => options.cache_mib = number(&argument, &value()?)?,
            "--write" => options.write_mib = number(&argument, &value()?)?,
            "--memory" => options.memory_mib = number(&argument, &value()?)?,
            "--list" => return Ok(Command::List),
            "--help" | "-h" => return Ok(Command::Help),
            file if joins && !file.starts_with('-') => files.push(file.into()),
            other => return Err(format!("unknown argument {other:?}; --help lists them")),
        }
    }
    if joins {
        return Ok(Command::Join(files, options.outputs));
    }
    Ok(Command::Run(options))
}

fn number(argument: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{argument} needs a number above 0, not {value:?}")),
    }
}

fn chosen_engines(list: &str) -> Result<Vec<&'static str>, String> {
    let known = engines::names();
    let wanted: Vec<&str> = list.split(',').collect();
    if let Some(name) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(format!("no engine {name:?} in this build; there are {}", known.join(", ")));
    }
    Ok(known.into_iter().filter(|name| wanted.contains(name)).collect())
}

fn chosen_phases(list: &str) -> Result<Vec<&'static str>, String> {
    let wanted: Vec<&str> = list.split(',').collect();
    let groups = phases::groups();
    for name in &wanted {
        if phases::named(name).is_none() && !groups.contains(name) {
            return Err(format!("no phase or group {name:?}; --list names them"));
        }
    }
    let chosen =
        PHASES.iter().filter(|phase| wanted.contains(&phase.name) || wanted.contains(&phase.group));
    Ok(chosen.map(|phase| phase.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Options, String> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Command::Run(options) => Ok(options),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn chooses_engines_and_phases() {
        let options = run("--full --engines highwater --phases reads,pop --runs 5").expect("valid");
        assert!(options.full);
        assert_eq!(options.engines, ["highwater"]);
        assert_eq!(options.phases, ["reads", "pop"]);
        assert_eq!(options.runs, 5);
        assert!(run("--phases main").expect("valid").phases.contains(&"load"));
    }

    #[test]
    fn joins_files() {
        let line = ["table", "a.txt", "--chart", "c.svg", "b.txt"].map(str::to_owned);
        let Ok(Command::Join(files, outputs)) = parse(line.into_iter()) else {
            panic!("it is a valid line");
        };
        assert_eq!(files, [PathBuf::from("a.txt"), PathBuf::from("b.txt")]);
        assert_eq!(outputs.chart, Some(PathBuf::from("c.svg")));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for line in
            ["--engines leveldb", "--phases nothing", "--runs 0", "--frobnicate", "--dir", "a.txt"]
        {
            assert!(run(line).is_err(), "{line}");
        }
    }
}
