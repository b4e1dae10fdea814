//! The campaign's command line: the whole report, one part of it, or one case again.

use highwater::fs::Barrier;
use highwater_sim::crash::{self, DEEP, FULL, QUICK, Recorded};
use highwater_sim::long::{self, Goal};
use highwater_sim::report::{Scope, Tally, report};
use highwater_sim::shrink::keep;
use highwater_sim::{
    barriers, bits, capacity, damage, effort, faults, kills, mistakes, refaults, rows, script,
    small,
};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const USAGE: &str = "\
highwater-sim: the crash campaign of highwater

  report [--quick] [--json] [--images N] [--minutes N]  everything; fails if a case failed
  crash all      [--images N] [--minutes N]            power cuts of small workloads, ever new seeds
  crash deep     [--effort deep]                       every cut of the recovery from every cut
  crash WORKLOAD [--at CUT:CHOICE,...] [--keep STEPS] [--without SYNC]
  shrink WORKLOAD [--without SYNC]                     the least of a workload that fails
  rows                                                 every row of the decision table
  barriers [NAME]                                      leaves out syncs and orders; each must be missed
  mistakes [NAME]                                      plants mistakes; each must be caught
  kill WORKLOAD [--case N] [--at CUT:CHOICE]
  fault WORKLOAD [--case N] [--stride N]
  refault WORKLOAD [--at DEATH:CASE] [--stride N]      faults while a dead process's database is opened
  capacity WORKLOAD [--case N] [--stride N]
  damage DATABASE [--case N] [--stride N]
  bits [DATABASE] [--stride N]                         every bit of every file of small databases
  operations WORKLOAD                                  what a workload does to the disk
  steps WORKLOAD                                       what it does to the database

  all of them: [--seed N] [--threads N] [--effort quick|sparse|full|deep] [--json]

workloads: main, fragments, border, steady, holes, short, random; small ones: commits, packed, groups, table, spilled,
lives, dropped, recycled, gaps, filled, unsynced,
merged, little, seeded; databases: closed, witnessed, unwitnessed, emptied; reopened (damage only)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| matches!(word.as_str(), "help" | "--help" | "-h")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What the command line says.
struct Options {
    seed: u64,
    effort: effort::Effort,
    threads: usize,
    stride: usize,
    case: Option<usize>,
    at: Vec<(usize, usize)>,
    images: u64,
    time: Option<Duration>,
    kept: Option<String>,
    without: Option<Barrier>,
    json: bool,
    name: String,
}

impl Options {
    fn workload(&self) -> Result<script::Workload, String> {
        let whole = script::workload(&self.name, self.seed).ok_or("no such workload")?;
        self.kept.as_ref().map_or(Ok(whole.clone()), |kept| keep(&whole, kept))
    }

    fn record(&self) -> Result<Recorded, String> {
        crash::record_workload(Arc::new(self.workload()?), self.without)
    }
}

fn run(arguments: &[String]) -> Result<bool, String> {
    let Some(command) = arguments.first() else { return Err("no command".to_owned()) };
    let options = parse(command, &arguments[1..])?;
    let Options { seed, effort, threads, stride, case, json, images, time, .. } = options;
    let name = options.name.as_str();
    let tally = Tally::default();
    let started = Instant::now();
    match command.as_str() {
        "report" => report(&Scope { effort, seed, threads, images, time }, &tally),
        "rows" => rows::campaign(seed, 1, &tally),
        "crash" => match (name, options.at.as_slice()) {
            ("all", _) => {
                long::seeded(seed, Goal { images, time }, &effort, threads, &tally);
            }
            ("deep", _) => long::deep(seed, small::BY_HAND, &effort, threads, &tally),
            (_, []) => crash::campaign(&options.record()?, &effort, threads, &tally),
            (_, trail) => crash::replay(&options.record()?, &effort, trail, &tally),
        },
        "shrink" => {
            let least = long::least(&options.workload()?, options.without, &effort);
            println!("{}", least.as_deref().unwrap_or("nothing fails"));
            return Ok(least.is_none());
        }
        "operations" => {
            let recorded = options.record()?;
            for index in 0..recorded.recording.operations() {
                if let Some(operation) = recorded.recording.operation(index) {
                    println!("{index} {operation}");
                }
            }
            return Ok(true);
        }
        "steps" => {
            for (number, step) in options.workload()?.steps.iter().enumerate() {
                println!("{number} {step:?}");
            }
            return Ok(true);
        }
        "kill" => match case {
            Some(case) => {
                kills::replay(name, seed, &effort, case, options.at.first().copied(), &tally);
            }
            None => kills::campaign(name, seed, &effort, stride, threads, &tally),
        },
        "fault" => match case {
            Some(case) => faults::replay(name, seed, case, &tally),
            None => faults::campaign(name, seed, stride, threads, &tally),
        },
        "refault" => match options.at.first() {
            Some((death, case)) => refaults::replay(name, seed, *death, *case, &tally),
            None => refaults::campaign(name, seed, stride, 1, threads, &tally),
        },
        "capacity" => match case {
            Some(case) => capacity::replay(name, seed, case, &tally),
            None => capacity::campaign(name, seed, stride, threads, &tally),
        },
        "damage" => match case {
            Some(case) => damage::replay(name, seed, case, &tally),
            None => damage::campaign(&[name], seed, stride, threads, &tally),
        },
        "bits" => bits::campaign(
            &damage::SUBJECTS.map(|subject| if name.is_empty() { subject } else { name }),
            seed,
            bits::Sample { zeros: stride, ..bits::EVERY },
            threads,
            &tally,
        ),
        "mistakes" => return Ok(mistakes::table(seed, threads, name)),
        "barriers" => return Ok(barriers::table(seed, threads, name)),
        other => return Err(format!("no command {other:?}")),
    }
    if json {
        println!("{}", tally.json());
    } else {
        print!("{}", tally.text());
        println!("{:<32}{:>10.1} s", "time", started.elapsed().as_secs_f64());
    }
    Ok(tally.failed_cases() == 0)
}

/// Distinct images of a report that names no number.
const FULL_IMAGES: u64 = 2_000_000;
/// The same of a quick one.
const QUICK_IMAGES: u64 = 150_000;

fn parse(command: &str, arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        effort: if command == "report" { FULL } else { QUICK },
        threads: std::thread::available_parallelism().map_or(1, |count| count.get()),
        stride: 1,
        case: None,
        at: Vec::new(),
        images: 0,
        time: None,
        kept: None,
        without: None,
        json: false,
        name: String::new(),
    };
    let mut named_effort = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => options.effort = QUICK,
            "--json" => options.json = true,
            "--seed" => options.seed = number(value()?)? as u64,
            "--threads" => options.threads = number(value()?)?.max(1),
            "--stride" => options.stride = number(value()?)?.max(1),
            "--case" => options.case = Some(number(value()?)?),
            "--effort" => {
                let name = value()?;
                let known = effort::ALL.iter().find(|effort| effort.name == name);
                options.effort = *known.ok_or_else(|| format!("no effort {name:?}"))?;
                named_effort = true;
            }
            "--images" => options.images = number(value()?)? as u64,
            "--minutes" => {
                options.time = Some(Duration::from_secs(60 * number(value()?)? as u64));
            }
            "--keep" => options.kept = Some(value()?.clone()),
            "--without" => {
                let name = value()?;
                let known = Barrier::ALL.iter().find(|barrier| format!("{barrier:?}") == *name);
                options.without = Some(*known.ok_or_else(|| format!("no sync {name:?}"))?);
            }
            "--at" => {
                for pair in value()?.split(',') {
                    let (cut, choice) = pair.split_once(':').ok_or("--at takes CUT:CHOICE")?;
                    options.at.push((number(cut)?, number(choice)?));
                }
            }
            name if !name.starts_with('-') && options.name.is_empty() => {
                name.clone_into(&mut options.name);
            }
            other => return Err(format!("no option {other:?}")),
        }
    }
    match (command, options.name.as_str()) {
        ("crash", "all") if !named_effort => options.effort = FULL,
        ("crash", "deep") if !named_effort => options.effort = DEEP,
        _ => {}
    }
    if options.images == 0 {
        options.images = if options.effort.name == "quick" { QUICK_IMAGES } else { FULL_IMAGES };
    }
    let known: &[&str] = match command {
        "report" | "rows" => return Ok(options),
        "crash" if ["all", "deep"].contains(&options.name.as_str()) => return Ok(options),
        "damage" => &damage::DAMAGED,
        "mistakes" | "barriers" | "bits" => return Ok(options),
        _ => &script::NAMES,
    };
    if known.contains(&options.name.as_str()) {
        return Ok(options);
    }
    Err(format!("{command} needs one of {known:?}"))
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
