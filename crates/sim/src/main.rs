//! The campaign's command line: the whole report, one part of it, or one case again.

use highwater_sim::crash::{self, Effort, FULL, QUICK};
use highwater_sim::report::{Scope, Tally, report};
use highwater_sim::{capacity, damage, faults, kills, script};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "\
highwater-sim: the crash campaign of highwater

  report [--quick] [--json] [--seed N] [--threads N]   everything; fails if a case failed
  crash    WORKLOAD [--seed N] [--effort quick|full] [--at CUT:CHOICE,...]
  kill     WORKLOAD [--seed N] [--effort quick|full] [--case N] [--at CUT:CHOICE]
  fault    WORKLOAD [--seed N] [--case N] [--stride N]
  capacity WORKLOAD [--seed N] [--case N] [--stride N]
  damage   DATABASE [--seed N] [--case N] [--stride N]
  operations WORKLOAD [--seed N]                       what a workload does to the disk

workloads: main, fragments, border, short, random; databases: closed, witnessed, unwitnessed, emptied
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
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
    effort: Effort,
    threads: usize,
    stride: usize,
    case: Option<usize>,
    at: Vec<(usize, usize)>,
    json: bool,
    name: String,
}

fn run(arguments: &[String]) -> Result<bool, String> {
    let Some(command) = arguments.first() else { return Err("no command".to_owned()) };
    let options = parse(command, &arguments[1..])?;
    let Options { seed, effort, threads, stride, case, json, .. } = options;
    let name = options.name.as_str();
    let tally = Tally::default();
    let started = Instant::now();
    match command.as_str() {
        "report" => report(&Scope { effort, seed, threads }, &tally),
        "crash" | "operations" => {
            let recorded = crash::record(name, seed)?;
            if command == "operations" {
                for index in 0..recorded.recording.operations() {
                    if let Some(operation) = recorded.recording.operation(index) {
                        println!("{index} {operation}");
                    }
                }
                return Ok(true);
            }
            match options.at.as_slice() {
                [] => crash::campaign(&recorded, &effort, threads, &tally),
                trail => crash::replay(&recorded, &effort, trail, &tally),
            }
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
        "capacity" => match case {
            Some(case) => capacity::replay(name, seed, case, &tally),
            None => capacity::campaign(name, seed, stride, threads, &tally),
        },
        "damage" => match case {
            Some(case) => damage::replay(name, seed, case, &tally),
            None => damage::campaign(&[name], seed, stride, threads, &tally),
        },
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

fn parse(command: &str, arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        effort: if command == "report" { FULL } else { QUICK },
        threads: std::thread::available_parallelism().map_or(1, |count| count.get()),
        stride: 1,
        case: None,
        at: Vec::new(),
        json: false,
        name: String::new(),
    };
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
                options.effort = match value()?.as_str() {
                    "quick" => QUICK,
                    "full" => FULL,
                    other => return Err(format!("no effort {other:?}")),
                }
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
    let known: &[&str] = match command {
        "report" => return Ok(options),
        "damage" => &damage::SUBJECTS,
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
