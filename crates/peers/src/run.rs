//! The parent: lets the engines take turns, each group in a child process, run after run, and gathers the lines.
//!
//! Only one engine is at work at a time. The order of the engines turns by one from run to run, so that what
//! another program does to the machine hits all alike. Before each child the file system is synced, so
//! that no engine pays for the writes of the one before.

use crate::engine::{Outcome, Setup};
use crate::options::Options;
use crate::phases::{self, PHASES};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The first argument of a child.
pub const CHILD: &str = "child";

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
    /// What a reader of the figures must know.
    pub notes: BTreeMap<(String, &'static str), String>,
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
        .filter(|group| {
            PHASES.iter().any(|phase| phase.group == *group && options.phases.contains(&phase.name))
        })
        .collect();
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
                if let Err(error) = child(options, group, engine, &dir, &mut gathered) {
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

/// What a child is told after engine, group and directory.
pub fn child_arguments(full: bool, phases: &str, setup: &Setup) -> [String; 4] {
    [
        if full { "full" } else { "quick" }.to_owned(),
        phases.to_owned(),
        (setup.cache_bytes >> 20).to_string(),
        (setup.write_bytes >> 20).to_string(),
    ]
}

fn child(
    options: &Options,
    group: &'static str,
    engine: &'static str,
    dir: &Path,
    gathered: &mut Gathered,
) -> Outcome {
    let wanted: Vec<&str> = PHASES
        .iter()
        .filter(|phase| phase.group == group && options.phases.contains(&phase.name))
        .map(|phase| phase.name)
        .collect();
    let mut child = Command::new(std::env::current_exe()?)
        .args([CHILD, engine, group])
        .arg(dir)
        .args(child_arguments(options.full, &wanted.join(","), &options.setup()))
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
            ("note", _) => drop(self.notes.insert(key, text.to_owned())),
            _ => {}
        }
    }
}
