//! The parent: lets the engines take turns, each group in a child process, run after run, and gathers the lines.
//!
//! Only one engine is at work at a time. The order of the engines turns by one from run to run, so that what
//! another program does to the machine hits all alike. Before each child the file system is synced, so
//! that no engine pays for the writes of the one before.

use crate::child::Context;
use crate::engine::Outcome;
use crate::options::Options;
use crate::phases;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What all runs gave, by phase and engine.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Figures of each run.
    pub values: BTreeMap<(String, &'static str), Vec<f64>>,
    /// Figures of the bare loop beside each run.
    pub floors: BTreeMap<(String, &'static str), Vec<f64>>,
    /// Why an engine has no figure.
    pub missing: BTreeMap<(String, &'static str), String>,
    /// Why an engine's figure does not count in ratios.
    pub asides: BTreeMap<(String, &'static str), String>,
    /// How a figure went on over time, in the last run.
    pub series: BTreeMap<(String, &'static str), Vec<f64>>,
    /// What a reader of the figures must know.
    pub notes: BTreeMap<(String, &'static str), String>,
    /// Seconds of all runs, by group and engine.
    pub seconds: BTreeMap<(String, String), f64>,
    /// Groups that failed: the engine, the group and why.
    pub failures: Vec<(&'static str, &'static str, String)>,
}

/// Measures everything that was asked for.
///
/// # Errors
/// If children cannot be started. A child that fails is noted, not an error.
pub fn measure(options: &Options) -> Outcome<Gathered> {
    let mut gathered = Gathered::default();
    let groups: Vec<&'static str> = phases::groups()
        .into_iter()
        .filter(|group| options.phases_of(group).next().is_some())
        .collect();
    std::fs::create_dir_all(&options.dir)?;
    let temporary = tempfile::Builder::new().prefix("highwater-peers").tempdir_in(&options.dir)?;
    for run in 0..options.runs {
        for group in &groups {
            let mut engines = options.engines.clone();
            engines.rotate_left(run % options.engines.len().max(1));
            for engine in engines {
                let progress = format!("run {} of {}, {group}, {engine}", run + 1, options.runs);
                eprint!("\r{progress:<60}");
                std::io::stderr().flush()?;
                let dir = temporary.path().join(format!("{run}-{group}-{engine}"));
                std::fs::create_dir(&dir)?;
                // Only one file system is synced; a machine without the program is merely noisier.
                let _ = Command::new("sync").arg("-f").arg(&dir).status();
                let started = Instant::now();
                let done = child(options, group, engine, &dir, &mut gathered);
                let key = ((*group).to_owned(), engine.to_owned());
                *gathered.seconds.entry(key).or_default() += started.elapsed().as_secs_f64();
                if let Err(error) = done {
                    eprintln!("\r{engine}, {group}: {error}");
                    gathered.failures.push((engine, group, error.to_string()));
                }
                std::fs::remove_dir_all(&dir)?;
            }
        }
    }
    eprint!("\r{:<60}\r", "");
    Ok(gathered)
}

fn child(
    options: &Options,
    group: &'static str,
    engine: &'static str,
    dir: &Path,
    gathered: &mut Gathered,
) -> Outcome {
    let context = Context {
        engine: engine.to_owned(),
        dir: dir.to_owned(),
        full: options.full,
        phases: options.phases_of(group).map(str::to_owned).collect(),
        setup: options.setup(),
        memory_mib: options.memory_mib,
    };
    let mut child = Command::new(std::env::current_exe()?)
        .args(context.arguments(group))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().ok_or("no pipe")?;
    let complaints = std::thread::spawn(move || std::io::read_to_string(stderr));
    let mut done = false;
    for line in BufReader::new(child.stdout.take().ok_or("no pipe")?).lines() {
        let line = line?;
        done |= line == "done";
        gathered.line(engine, &line);
    }
    let status = child.wait()?;
    let complaints = complaints.join().map_err(|_| "the reading thread panicked")??;
    if !done || !status.success() {
        let last = complaints.trim().lines().last().unwrap_or("no message").to_owned();
        return Err(format!("{last} ({status})").into());
    }
    Ok(())
}

impl Gathered {
    /// Takes in a line of a child. Lines of another form are an engine's own words and are left alone.
    pub fn line(&mut self, engine: &'static str, line: &str) {
        let mut fields = line.splitn(3, '\t');
        let (Some(kind), Some(phase), Some(text)) = (fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let key = (phase.to_owned(), engine);
        match (kind, text.parse::<f64>()) {
            ("value", Ok(value)) => self.values.entry(key).or_default().push(value),
            ("floor", Ok(value)) => self.floors.entry(key).or_default().push(value),
            ("missing", _) => drop(self.missing.insert(key, text.to_owned())),
            ("aside", _) => drop(self.asides.insert(key, text.to_owned())),
            ("series", _) => {
                let values = text.split(',').filter_map(|value| value.parse().ok());
                self.series.insert(key, values.collect());
            }
            ("note", _) => drop(self.notes.insert(key, text.to_owned())),
            _ => {}
        }
    }
}
