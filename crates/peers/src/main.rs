//! The comparison with other engines. `--help` says how to call it, `docs/performance.md` what it means.

use highwater_peers::child::{self, Context};
use highwater_peers::engine::Outcome;
use highwater_peers::options::{Command, Options, USAGE, parse};
use highwater_peers::report::{self, Circumstances};
use highwater_peers::{chart, engines, phases, run, system, table};
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
    let options = match parse(arguments.iter().cloned())? {
        Command::Run(options) => options,
        Command::Help => {
            print!("{USAGE}");
            return Ok(true);
        }
        Command::List => {
            println!("engines: {}", engines::names().join(", "));
            for phase in phases::PHASES {
                println!("{:8} {:16} {} ({})", phase.group, phase.name, phase.title, phase.unit);
            }
            return Ok(true);
        }
    };
    let circumstances = circumstances(&options, arguments)?;
    println!("{}, {}", circumstances.date, circumstances.machine);
    println!("{}\n", circumstances.command);
    println!("{}", table::promises(&circumstances));
    let gathered = run::measure(&options)?;
    let rows = report::rows(&options, &gathered);
    print!("{}", table::plain(&rows, &circumstances));
    for (engine, group, why) in &gathered.failures {
        println!("FAILED {engine}, {group}: {why}");
    }
    if let Some(path) = &options.markdown {
        std::fs::write(path, table::markdown(&rows, &circumstances))?;
    }
    if let Some(path) = &options.chart {
        chart::draw(path, &rows, &circumstances)?;
    }
    if options.json {
        println!("{}", report::json(&options, &circumstances, &rows, &gathered));
    }
    Ok(gathered.failures.is_empty())
}

fn circumstances(options: &Options, arguments: &[String]) -> Outcome<Circumstances> {
    let about: Result<Vec<_>, _> =
        options.engines.iter().map(|name| engines::about(name)).collect();
    let command = "cargo run --release -p highwater-peers --";
    Ok(Circumstances {
        date: system::today(),
        machine: system::machine(&options.dir),
        command: [command, &arguments.join(" ")].join(" ").trim_end().to_owned(),
        engines: about?,
    })
}
