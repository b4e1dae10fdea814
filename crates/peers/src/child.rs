//! One engine, one group of phases, one run: what happens in a process of its own.
//!
//! Figures leave it as lines `kind <tab> phase <tab> text`, each as soon as it is known, so that a group that
//! fails late keeps its early figures. `kind` is `value`, `floor` (the bare loop beside it), `missing` (the
//! engine has no such operation, and why), `aside` (the figure does not count in ratios, and why), `series` (how it went on over time) or `note`. The last line is `done`.

use crate::engine::{Engine, Facts, Outcome, Promise, Setup};
use crate::engines::{self, Visit};
use crate::groups;
use crate::phases::{self, PHASES};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first argument of a child.
pub const CHILD: &str = "child";

/// What a group needs to know.
#[derive(Clone, Debug)]
pub struct Context {
    /// MiB of memory that the process may use where the data is to be larger than memory; 0 for the default.
    pub memory_mib: usize,
    /// The engine's name.
    pub engine: String,
    /// An empty directory for it alone.
    pub dir: PathBuf,
    /// Full size, or a twentieth.
    pub full: bool,
    /// The phases whose figures are wanted.
    pub phases: Vec<String>,
    /// Budgets.
    pub setup: Setup,
}

impl Context {
    /// What a child is told on its command line, to do a group.
    pub fn arguments(&self, group: &str) -> [OsString; 9] {
        let mib = |bytes: usize| (bytes >> 20).to_string();
        let size = if self.full { "full" } else { "quick" };
        [
            CHILD.into(),
            self.engine.clone().into(),
            group.into(),
            self.dir.clone().into(),
            size.into(),
            self.phases.join(",").into(),
            mib(self.setup.cache_bytes).into(),
            mib(self.setup.write_bytes).into(),
            self.memory_mib.to_string().into(),
        ]
    }

    /// The group and the context of a child, from its command line after [`CHILD`].
    ///
    /// # Errors
    /// If they are not [`Context::arguments`].
    pub fn of(arguments: &[String]) -> Outcome<(String, Context)> {
        let [engine, group, dir, size, phases, cache, write, memory] = arguments else {
            return Err(
                "a child takes eight arguments; it is started by the benchmark itself".into()
            );
        };
        let setup = Setup {
            cache_bytes: cache.parse::<usize>()? << 20,
            write_bytes: write.parse::<usize>()? << 20,
            ..Setup::default()
        };
        let context = Context {
            engine: engine.clone(),
            dir: dir.into(),
            full: size == "full",
            phases: phases.split(',').map(str::to_owned).collect(),
            setup,
            memory_mib: memory.parse()?,
        };
        Ok((group.clone(), context))
    }

    /// A count at full size, scaled.
    pub fn size(&self, full: u64) -> u64 {
        if self.full { full } else { full / 20 }
    }

    /// Whether the figure of a phase is wanted.
    pub fn wants(&self, phase: &str) -> bool {
        self.phases.iter().any(|wanted| wanted == phase)
    }

    /// Whether any phase from this one on is wanted: whether the group has to go on.
    pub fn goes_on(&self, phase: &str) -> bool {
        let group = phases::named(phase).map(|phase| phase.group);
        let rest = PHASES.iter().skip_while(|other| other.name != phase);
        rest.take_while(|other| Some(other.group) == group).any(|other| self.wants(other.name))
    }

    /// Reports a figure.
    pub fn value(&self, phase: &str, value: f64) {
        self.line("value", phase, &value.to_string());
    }

    /// Reports a rate.
    pub fn rate(&self, phase: &str, count: u64, spent: Duration) {
        self.value(phase, count as f64 / spent.as_secs_f64());
    }

    /// Reports what the bare loop did beside a phase.
    pub fn floor(&self, phase: &str, value: f64) {
        self.line("floor", phase, &value.to_string());
    }

    /// Reports how a figure went on over time.
    pub fn series(&self, phase: &str, values: &[f64]) {
        let texts: Vec<String> = values.iter().map(|value| format!("{value:.4}")).collect();
        self.line("series", phase, &texts.join(","));
    }

    /// Reports that the engine has no figure for a phase, and why.
    pub fn missing(&self, phase: &str, why: &str) {
        self.line("missing", phase, why);
    }

    /// Reports something that a reader of the figure must know.
    pub fn note(&self, phase: &str, text: &str) {
        self.line("note", phase, text);
    }

    /// Reports that the figure of a phase is shown, but stands for something else than the others, and why: it is
    /// not counted as the best peer's.
    pub fn aside(&self, phase: &str, why: &str) {
        self.line("aside", phase, why);
    }

    /// How long a step may take before it is cut short; its figure is a rate, and a note says so.
    pub fn limit(&self, full_seconds: f64, quick_seconds: f64) -> Duration {
        Duration::from_secs_f64(if self.full { full_seconds } else { quick_seconds })
    }

    /// Whether a phase is wanted and the engine has its kind of commit; reports it as missing if not.
    pub fn offers(&self, phase: &str, facts: &Facts, promise: Promise) -> bool {
        let offered = facts.offers(promise);
        if !offered {
            self.missing(phase, "no commit of this promise");
        }
        offered && self.wants(phase)
    }

    fn line(&self, kind: &str, phase: &str, text: &str) {
        if self.wants(phase) {
            println!("{kind}\t{phase}\t{text}");
        }
    }
}

/// Runs `body` and says how long it took.
pub fn timed<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<(Duration, T)> {
    let started = Instant::now();
    let done = body()?;
    Ok((started.elapsed(), done))
}

/// Runs a group with the context's engine.
///
/// # Errors
/// If there is no such engine, and whatever fails in it or is found wrong.
pub fn run(group: &str, context: &Context) -> Outcome {
    struct Run<'a>(&'a str, &'a Context);
    impl Visit for Run<'_> {
        type Out = ();
        fn visit<E: Engine>(self) -> Outcome {
            groups::run::<E>(self.0, self.1)
        }
    }
    std::fs::create_dir_all(&context.dir)?;
    if !context.full {
        groups::rest_quickly();
    }
    engines::visit(&context.engine, Run(group, context))?;
    println!("done");
    Ok(())
}

/// A directory inside the context's, made anew.
///
/// # Errors
/// Of the file system.
pub fn fresh(context: &Context, name: &str) -> Outcome<PathBuf> {
    let dir = context.dir.join(name);
    if Path::exists(&dir) {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
