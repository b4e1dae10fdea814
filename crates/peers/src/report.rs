//! Rows: medians, the best peer, ratios; and the same as JSON.

use crate::engines::About;
use crate::options::Options;
use crate::phases::{PHASES, Phase};
use crate::run::Gathered;
use crate::statistics::{Summary, is_better, ratio};
use serde_json::{Map, Value, json};
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

/// What is said of the run as a whole.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Date.
    pub date: String,
    /// Machine.
    pub machine: String,
    /// The command line.
    pub command: String,
    /// The engines.
    pub engines: Vec<About>,
}

/// Everything as one JSON object.
pub fn json(
    options: &Options,
    circumstances: &Circumstances,
    rows: &[Row],
    gathered: &Gathered,
) -> Value {
    let summary = |summary: &Summary| json!({ "median": summary.median, "min": summary.min, "max": summary.max });
    let texts = |texts: &[(&'static str, String)]| {
        let texts = texts.iter().map(|(engine, text)| ((*engine).to_owned(), json!(text)));
        Value::Object(texts.collect())
    };
    let phases: Vec<Value> = rows
        .iter()
        .map(|row| {
            let results: Map<String, Value> = row
                .results
                .iter()
                .map(|(engine, result)| ((*engine).to_owned(), summary(result)))
                .collect();
            json!({
                "phase": row.phase.name,
                "title": row.phase.title,
                "unit": row.phase.unit,
                "better": match row.phase.better {
                    crate::phases::Better::More => "more",
                    crate::phases::Better::Less => "less",
                },
                "results": results,
                "best_peer": row.best_peer,
                "ratio": row.ratio,
                "bar": row.phase.bar,
                "floor": row.floor.as_ref().map(summary),
                "floor_ratio": row.floor_ratio,
                "floor_bar": row.phase.floor_bar,
                "meets_bar": row.meets(),
                "notes": texts(&row.notes),
                "series": row.series.iter().cloned().collect::<BTreeMap<_, _>>(),
                "asides": texts(&row.asides),
                "missing": texts(&row.missing),
            })
        })
        .collect();
    let engines: Map<String, Value> = circumstances
        .engines
        .iter()
        .map(|about| {
            let facts = &about.facts;
            let about_json = json!({
                "version": about.version,
                "durable": facts.durable,
                "buffered": facts.buffered,
                "memory": facts.memory,
                "notes": facts.notes,
            });
            (about.name.to_owned(), about_json)
        })
        .collect();
    let failures: Vec<Value> = gathered
        .failures
        .iter()
        .map(|(engine, group, why)| json!({ "engine": engine, "group": group, "error": why }))
        .collect();
    json!({
        "date": circumstances.date,
        "machine": circumstances.machine,
        "command": circumstances.command,
        "size": if options.full { "full" } else { "quick" },
        "runs": options.runs,
        "cache_mib": options.cache_mib,
        "write_mib": options.write_mib,
        "engines": engines,
        "phases": phases,
        "failures": failures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Command, parse};

    fn sample() -> (Options, Gathered) {
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

    #[test]
    fn json_is_one_line_with_the_promised_fields() {
        let (options, gathered) = sample();
        let circumstances = Circumstances {
            date: "2026-01-01".to_owned(),
            machine: "m".to_owned(),
            command: "c".to_owned(),
            engines: vec![crate::engines::about(OURS).expect("ours")],
        };
        let rows = rows(&options, &gathered);
        let text = json(&options, &circumstances, &rows, &gathered).to_string();
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let load = &value["phases"][0];
        assert_eq!(load["phase"], "load");
        assert_eq!(load["results"]["lmdb"], json!({"median": 10.0, "min": 9.0, "max": 11.0}));
        assert_eq!((&load["best_peer"], &load["ratio"]), (&json!("lmdb"), &json!(3.0)));
        assert!(value["engines"][OURS]["version"].as_str().is_some_and(|v| v.starts_with("0.")));
    }
}
