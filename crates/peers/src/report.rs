//! Rows: medians, the best peer, ratios. As JSON they are written and read back by [`crate::json`].

use crate::options::Options;
use crate::phases::{PHASES, Phase};
use crate::run::Gathered;
use crate::statistics::{Summary, is_better, ratio};
use std::collections::BTreeMap;

/// The engine whose ratio counts.
pub const OURS: &str = "highwater";

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it measures.
    pub phase: &'static Phase,
    /// By engine, in the order of the command line.
    pub results: Vec<(&'static str, Summary)>,
    /// The bare loop beside ours, or beside all engines if ours did not run.
    pub floor: Option<Summary>,
    /// Ours over the bare loop of the same runs.
    pub floor_ratio: Option<f64>,
    /// The best of the others.
    pub best_peer: Option<&'static str>,
    /// Ours over theirs, turned so that more is better.
    pub ratio: Option<f64>,
    /// What a reader must know, by engine.
    pub notes: Vec<(&'static str, String)>,
    /// How a figure went on over time, by engine.
    pub series: Vec<(&'static str, Vec<f64>)>,
    /// Why engines are shown but do not count as a peer.
    pub asides: Vec<(&'static str, String)>,
    /// Why engines are not in it.
    pub missing: Vec<(&'static str, String)>,
}

impl Row {
    /// Whether every bar of the phase is met, if it has one and could be measured.
    pub fn meets(&self) -> Option<bool> {
        let over = |ratio: Option<f64>, bar: Option<f64>| Some(ratio? >= bar?);
        let met = [over(self.ratio, self.phase.bar), over(self.floor_ratio, self.phase.floor_bar)];
        met.iter().flatten().any(|_| true).then(|| met.iter().flatten().all(|met| *met))
    }

    /// The result of an engine.
    pub fn of(&self, engine: &str) -> Option<&Summary> {
        self.results.iter().find(|(name, _)| *name == engine).map(|(_, summary)| summary)
    }
}

/// The rows of all phases that have a figure or a reason.
pub fn rows(options: &Options, gathered: &Gathered) -> Vec<Row> {
    let wanted = PHASES.iter().filter(|phase| options.phases.contains(&phase.name));
    wanted.filter_map(|phase| row(options, gathered, phase)).collect()
}

fn row(options: &Options, gathered: &Gathered, phase: &'static Phase) -> Option<Row> {
    let key = |engine: &&'static str| (phase.name.to_owned(), *engine);
    let results: Vec<_> = options
        .engines
        .iter()
        .filter_map(|engine| Some((*engine, Summary::of(gathered.values.get(&key(engine))?)?)))
        .collect();
    let texts = |of: &BTreeMap<(String, &'static str), String>| {
        let found = options
            .engines
            .iter()
            .filter_map(|engine| Some((*engine, of.get(&key(engine))?.clone())));
        found.collect::<Vec<_>>()
    };
    let missing = texts(&gathered.missing);
    let asides = texts(&gathered.asides);
    if results.is_empty() && missing.is_empty() {
        return None;
    }
    let ours = results.iter().find(|(engine, _)| *engine == OURS).map(|(_, summary)| *summary);
    let counts = |engine: &str| engine != OURS && asides.iter().all(|(other, _)| *other != engine);
    let peers = results.iter().filter(|(engine, _)| counts(engine));
    let best = peers.reduce(|best, other| {
        if is_better(phase.better, other.1.median, best.1.median) { other } else { best }
    });
    let floors = |engines: &[&'static str]| {
        let all = engines.iter().filter_map(|engine| gathered.floors.get(&key(engine)));
        Summary::of(&all.flatten().copied().collect::<Vec<_>>())
    };
    let own_floor = floors(&[OURS]);
    Some(Row {
        phase,
        floor: own_floor.or_else(|| floors(&options.engines)),
        floor_ratio: ours
            .zip(own_floor)
            .map(|(ours, floor)| ratio(phase.better, ours.median, floor.median)),
        best_peer: best.map(|(engine, _)| *engine),
        ratio: ours.zip(best).map(|(ours, best)| ratio(phase.better, ours.median, best.1.median)),
        notes: texts(&gathered.notes),
        series: options
            .engines
            .iter()
            .filter_map(|engine| Some((*engine, gathered.series.get(&key(engine))?.clone())))
            .collect(),
        asides,
        missing,
        results,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::options::{Command, parse};

    pub(crate) fn sample() -> (Options, Gathered) {
        let Ok(Command::Run(mut options)) = parse(std::iter::empty()) else {
            unreachable!("no arguments are valid");
        };
        options.engines = vec![OURS, "lmdb", "redb"];
        let mut gathered = Gathered::default();
        for (engine, runs) in [(OURS, [9.0, 30.0, 31.0]), ("lmdb", [9.0, 10.0, 11.0])] {
            for run in runs {
                gathered.line(engine, &format!("value\tload\t{run}"));
                gathered.line(engine, &format!("value\tlen\t{run}"));
            }
        }
        gathered.line(OURS, "value\tsingle\t45");
        gathered.line(OURS, "floor\tsingle\t50");
        gathered.line("redb", "missing\tload\tbecause");
        gathered.line("redb", "value\tlen\t1");
        gathered.line("redb", "aside\tlen\tanother kind of figure");
        gathered.line("redb", "some other words");
        (options, gathered)
    }

    #[test]
    fn rows_have_medians_the_best_peer_and_turned_ratios() {
        let (options, gathered) = sample();
        let rows = rows(&options, &gathered);
        assert_eq!(rows.len(), 3);
        let load = &rows[0];
        assert_eq!((load.best_peer, load.ratio), (Some("lmdb"), Some(3.0)));
        assert_eq!(load.meets(), Some(true));
        assert_eq!(load.missing, [("redb", "because".to_owned())]);
        let single = &rows[1];
        assert_eq!((single.best_peer, single.ratio), (None, None));
        assert_eq!((single.floor_ratio, single.meets()), (Some(0.9), Some(true)));
        let len = &rows[2];
        // redb's is better, but does not count.
        assert_eq!((len.best_peer, len.ratio), (Some("lmdb"), Some(1.0 / 3.0)));
        assert_eq!(len.meets(), None);
        assert!(len.of("redb").is_some() && len.asides.len() == 1);
    }
}
