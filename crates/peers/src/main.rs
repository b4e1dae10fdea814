//! The comparison with other engines. `--help` says how to call it, `docs/performance.md` what it means.

use highwater_peers::child::{self, Context};
use highwater_peers::engine::Outcome;
use highwater_peers::json::{self, Circumstances};
use highwater_peers::options::{Command, Options, USAGE, parse};
use highwater_peers::{chart, engines, phases, report, run, system, table};
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments.first().is_some_and(|first| first == child::CHILD) {
        as_child(&arguments[1..]).map(|()| true)
    } else {
        as_parent(&arguments)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn as_child(arguments: &[String]) -> Outcome {
    let (group, context) = Context::of(arguments)?;
    child::run(&group, &context)
}

/// Whether every group of every engine went well.
fn as_parent(arguments: &[String]) -> Outcome<bool> {
    let (outputs, circumstances, rows) = match parse(arguments.iter().cloned())? {
        Command::Run(options) => {
            let mut circumstances = circumstances(&options, arguments)?;
            say(format_args!("{}, {}", circumstances.date, circumstances.machine));
            say(format_args!("{}\n", circumstances.commands[0]));
            say(format_args!("{}", table::promises(&circumstances)));
            let gathered = run::measure(&options)?;
            circumstances.failures = gathered.failures.iter().map(owned).collect();
            circumstances.seconds.clone_from(&gathered.seconds);
            (options.outputs.clone(), circumstances, report::rows(&options, &gathered))
        }
        Command::Join(files, outputs) => {
            let parts: Outcome<Vec<_>> = files.iter().map(|file| json::read(file)).collect();
            let (circumstances, rows) = json::join(parts?)?;
            say(format_args!("{}, {}", circumstances.date, circumstances.machine));
            say(format_args!("{}\n", circumstances.commands.join("\n")));
            say(format_args!("{}", table::promises(&circumstances)));
            (outputs, circumstances, rows)
        }
        Command::Help => {
            say(USAGE.trim_end());
            return Ok(true);
        }
        Command::List => {
            say(format_args!("engines: {}", engines::names().join(", ")));
            for phase in phases::PHASES {
                say(format_args!(
                    "{:10} {:18} {} ({})",
                    phase.group, phase.name, phase.title, phase.unit
                ));
            }
            return Ok(true);
        }
    };
    if let Some(path) = &outputs.markdown {
        std::fs::write(path, table::markdown(&rows, &circumstances))?;
    }
    if let Some(path) = &outputs.chart {
        chart::draw(path, &rows, &circumstances)?;
    }
    say(table::plain(&rows, &circumstances).trim_end());
    let minutes = circumstances.seconds.values().sum::<f64>() / 60.0;
    say(format_args!(
        "measured for {minutes:.1} minutes, at least {} runs each",
        circumstances.runs
    ));
    for (engine, group, why) in &circumstances.failures {
        say(format_args!("FAILED {engine}, {group}: {why}"));
    }
    if outputs.json {
        say(format_args!("{}", json::write(&circumstances, &rows)));
    }
    Ok(circumstances.failures.is_empty())
}

/// Prints a line. Who reads no further does not stop the rest.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn owned(failure: &(&str, &str, String)) -> (String, String, String) {
    (failure.0.to_owned(), failure.1.to_owned(), failure.2.clone())
}

fn circumstances(options: &Options, arguments: &[String]) -> Outcome<Circumstances> {
    let about: Result<Vec<_>, _> =
        options.engines.iter().map(|name| engines::about(name)).collect();
    let command = "cargo run --release -p highwater-peers --";
    Ok(Circumstances {
        date: system::today(),
        machine: system::machine(&options.dir),
        commands: vec![[command, &arguments.join(" ")].join(" ").trim_end().to_owned()],
        size: if options.full { "full" } else { "quick" }.to_owned(),
        runs: options.runs as u64,
        cache_mib: options.cache_mib as u64,
        write_mib: options.write_mib as u64,
        engines: about?,
        seconds: Default::default(),
        failures: Vec::new(),
    })
}
