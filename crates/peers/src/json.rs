//! Results as one JSON object on one line, written and read back: several runs of parts make one table.
//!
//! ```json
//! {"date": "…", "machine": "…", "commands": ["…"], "size": "full", "runs": 3, "cache_mib": 4096, "write_mib": 128,
//!  "engines": {"lmdb": {"version": "…", "durable": "…", "buffered": "…", "memory": null, "notes": "…"}},
//!  "phases": [{"phase": "load", "unit": "records/s", "results": {"lmdb": {"median": 1.0, "min": 1.0, "max": 1.0}},
//!              "best_peer": "lmdb", "ratio": 3.0}],
//!  "seconds": {"main": {"lmdb": 60.0}}, "failures": []}
//! ```
//!
//! A phase has more fields: title, `better`, bars, the bare loop (`floor`), notes and series by engine. A ratio is null if
//! there is nothing to compare, or nothing to divide by.
//!
//! Files are joined phase by phase: of a phase in two files the later one counts, whole, so that no ratio is
//! ever of two invocations. Files of other sizes, budgets, machines or versions are refused.

use crate::engine::Outcome;
use crate::engines::{About, KNOWN};
use crate::phases::{self, Better, PHASES};
use crate::report::Row;
use crate::statistics::Summary;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What is said of runs as a whole.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Date, or dates of the first and of the last.
    pub date: String,
    /// Machine.
    pub machine: String,
    /// The command lines.
    pub commands: Vec<String>,
    /// `full` or `quick`.
    pub size: String,
    /// Runs of each phase, at least.
    pub runs: u64,
    /// Cache, in MiB.
    pub cache_mib: u64,
    /// Write memory, in MiB.
    pub write_mib: u64,
    /// The engines.
    pub engines: Vec<About>,
    /// Seconds of all runs, by group and engine.
    pub seconds: BTreeMap<(String, String), f64>,
    /// Groups that failed: the engine, the group and why.
    pub failures: Vec<(String, String, String)>,
}

/// Everything as one JSON object.
pub fn write(circumstances: &Circumstances, rows: &[Row]) -> Value {
    let engines: Map<String, Value> = circumstances
        .engines
        .iter()
        .map(|about| {
            let fields = json!({
                "version": about.version,
                "durable": about.durable,
                "buffered": about.buffered,
                "memory": about.memory,
                "notes": about.notes,
            });
            (about.name.to_owned(), fields)
        })
        .collect();
    let mut seconds: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for ((group, engine), spent) in &circumstances.seconds {
        seconds.entry(group).or_default().insert(engine, *spent);
    }
    let failures: Vec<Value> = circumstances
        .failures
        .iter()
        .map(|(engine, group, why)| json!({ "engine": engine, "group": group, "error": why }))
        .collect();
    json!({
        "date": circumstances.date,
        "machine": circumstances.machine,
        "commands": circumstances.commands,
        "size": circumstances.size,
        "runs": circumstances.runs,
        "cache_mib": circumstances.cache_mib,
        "write_mib": circumstances.write_mib,
        "engines": engines,
        "phases": rows.iter().map(phase).collect::<Vec<_>>(),
        "seconds": seconds,
        "failures": failures,
    })
}

fn phase(row: &Row) -> Value {
    let summary = |summary: &Summary| json!({ "median": summary.median, "min": summary.min, "max": summary.max });
    let texts = |texts: &[(&'static str, String)]| {
        let texts = texts.iter().map(|(engine, text)| ((*engine).to_owned(), json!(text)));
        Value::Object(texts.collect())
    };
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
            Better::More => "more",
            Better::Less => "less",
        },
        "results": results,
        "best_peer": row.best_peer,
        "ratio": row.ratio,
        "bar": row.phase.bar,
        "floor": row.floor.as_ref().map(summary),
        "floor_ratio": row.floor_ratio,
        "floor_bar": row.phase.floor_bar,
        "meets_bar": row.meets(),
        "series": row.series.iter().cloned().collect::<BTreeMap<_, _>>(),
        "notes": texts(&row.notes),
        "asides": texts(&row.asides),
        "missing": texts(&row.missing),
    })
}

/// Reads what one invocation printed: the last line of a file.
///
/// # Errors
/// If it is not the object that [`write()`] makes.
pub fn read(path: &Path) -> Outcome<(Circumstances, Vec<Row>)> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    parse(last).map_err(|error| {
        format!("{}: the last line is no result of --json: {error}", path.display()).into()
    })
}

fn parse(line: &str) -> Outcome<(Circumstances, Vec<Row>)> {
    let value: Value = serde_json::from_str(line)?;
    let text = |value: &Value, name: &str| -> Outcome<String> {
        Ok(value[name].as_str().ok_or_else(|| format!("no {name:?}"))?.to_owned())
    };
    let number = |name: &str| value[name].as_u64().ok_or_else(|| format!("no {name:?}"));
    let option = |value: &Value| value.as_str().map(str::to_owned);
    let commands = value["commands"].as_array().ok_or("no \"commands\"")?;
    let mut engines = by_engine(&value["engines"], |name, about| {
        Some(About {
            name,
            version: option(&about["version"])?,
            durable: option(&about["durable"])?,
            buffered: option(&about["buffered"]),
            memory: option(&about["memory"]),
            notes: option(&about["notes"])?,
        })
    });
    engines.sort_by_key(|about| KNOWN.iter().position(|name| *name == about.name));
    let mut seconds = BTreeMap::new();
    for (group, spent) in value["seconds"].as_object().into_iter().flatten() {
        for (engine, spent) in spent.as_object().into_iter().flatten() {
            seconds.insert((group.clone(), engine.clone()), spent.as_f64().unwrap_or(0.0));
        }
    }
    let failures = value["failures"].as_array().into_iter().flatten();
    let circumstances = Circumstances {
        date: text(&value, "date")?,
        machine: text(&value, "machine")?,
        commands: commands.iter().filter_map(option).collect(),
        size: text(&value, "size")?,
        runs: number("runs")?,
        cache_mib: number("cache_mib")?,
        write_mib: number("write_mib")?,
        engines,
        seconds,
        failures: failures
            .map(|failure| {
                Ok((text(failure, "engine")?, text(failure, "group")?, text(failure, "error")?))
            })
            .collect::<Outcome<_>>()?,
    };
    let rows = value["phases"].as_array().ok_or("no \"phases\"")?.iter().map(row);
    Ok((circumstances, rows.collect::<Outcome<_>>()?))
}

fn row(value: &Value) -> Outcome<Row> {
    let name = value["phase"].as_str().ok_or("a phase without a name")?;
    let phase = phases::named(name).ok_or_else(|| format!("no phase {name:?} in this build"))?;
    let texts = |name: &str| {
        by_engine(&value[name], |engine, text| Some((engine, text.as_str()?.to_owned())))
    };
    Ok(Row {
        phase,
        results: by_engine(&value["results"], |engine, result| Some((engine, summary(result)?))),
        floor: summary(&value["floor"]),
        floor_ratio: value["floor_ratio"].as_f64(),
        best_peer: value["best_peer"].as_str().and_then(known),
        ratio: value["ratio"].as_f64(),
        notes: texts("notes"),
        series: by_engine(&value["series"], |engine, series| {
            Some((engine, series.as_array()?.iter().filter_map(Value::as_f64).collect()))
        }),
        asides: texts("asides"),
        missing: texts("missing"),
    })
}

fn summary(value: &Value) -> Option<Summary> {
    let field = |name: &str| value[name].as_f64();
    Some(Summary { median: field("median")?, min: field("min")?, max: field("max")? })
}

fn known(name: &str) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| *known == name)
}

/// What each entry of an object with engines as names gives.
fn by_engine<T>(object: &Value, each: impl Fn(&'static str, &Value) -> Option<T>) -> Vec<T> {
    let entries = object.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| each(known(name)?, value)).collect()
}

/// Joins the results of several invocations.
///
/// # Errors
/// If they are not of one kind.
pub fn join(parts: Vec<(Circumstances, Vec<Row>)>) -> Outcome<(Circumstances, Vec<Row>)> {
    let mut parts = parts.into_iter();
    let (mut all, mut rows) = parts.next().ok_or("no file; name those that --json filled")?;
    for (one, others) in parts {
        let kind =
            |of: &Circumstances| (of.machine.clone(), of.size.clone(), of.cache_mib, of.write_mib);
        if kind(&one) != kind(&all) {
            let what = format!("not of one kind: {:?} and {:?}", kind(&all), kind(&one));
            return Err(what.into());
        }
        for about in one.engines {
            match all.engines.iter().find(|known| known.name == about.name) {
                Some(known) if *known == about => {}
                Some(known) => {
                    let (name, old, new) = (about.name, &known.version, &about.version);
                    return Err(format!("{name} is set up in two ways: {old} and {new}").into());
                }
                None => all.engines.push(about),
            }
        }
        if one.date != all.date {
            let first = all.date.split(" to ").next().unwrap_or_default();
            all.date = format!("{first} to {}", one.date);
        }
        all.commands.extend(one.commands);
        all.runs = all.runs.min(one.runs);
        all.seconds.extend(one.seconds);
        all.failures.extend(one.failures);
        rows.retain(|row| others.iter().all(|other| other.phase.name != row.phase.name));
        rows.extend(others);
    }
    all.engines.sort_by_key(|about| KNOWN.iter().position(|name| *name == about.name));
    rows.sort_by_key(|row| PHASES.iter().position(|phase| phase.name == row.phase.name));
    Ok((all, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{OURS, rows, tests::sample};

    fn circumstances() -> Circumstances {
        Circumstances {
            date: "2026-01-01".to_owned(),
            machine: "m".to_owned(),
            commands: vec!["c".to_owned()],
            size: "quick".to_owned(),
            runs: 3,
            cache_mib: 4096,
            write_mib: 128,
            engines: vec![crate::engines::about(OURS).expect("ours")],
            seconds: BTreeMap::from([(("main".to_owned(), OURS.to_owned()), 1.5)]),
            failures: vec![("redb".to_owned(), "main".to_owned(), "no room".to_owned())],
        }
    }

    #[test]
    fn it_is_one_line_with_the_promised_fields() {
        let (options, gathered) = sample();
        let text = write(&circumstances(), &rows(&options, &gathered)).to_string();
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let load = &value["phases"][0];
        assert_eq!(load["phase"], "load");
        assert_eq!(load["results"]["lmdb"], json!({"median": 10.0, "min": 9.0, "max": 11.0}));
        assert_eq!((&load["best_peer"], &load["ratio"]), (&json!("lmdb"), &json!(3.0)));
        assert_eq!(value["engines"][OURS]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (options, gathered) = sample();
        let text = write(&circumstances(), &rows(&options, &gathered)).to_string();
        let (again, rows) = parse(&text).expect("readable");
        assert_eq!(write(&again, &rows).to_string(), text);
        assert!(parse("{}").is_err() && parse("table").is_err());
    }

    #[test]
    fn parts_are_joined_and_the_later_one_counts() {
        let (options, gathered) = sample();
        let all = rows(&options, &gathered);
        let mut later = circumstances();
        later.date = "2026-01-03".to_owned();
        let mut changed = all[1].clone();
        changed.ratio = Some(7.0);
        let parts = vec![(circumstances(), all.clone()), (later.clone(), vec![changed])];
        let (joined, rows) = join(parts).expect("one kind");
        assert_eq!((joined.date.as_str(), joined.commands.len()), ("2026-01-01 to 2026-01-03", 2));
        let names: Vec<_> = rows.iter().map(|row| row.phase.name).collect();
        assert_eq!(names, all.iter().map(|row| row.phase.name).collect::<Vec<_>>());
        assert_eq!((rows[0].ratio, rows[1].ratio), (Some(3.0), Some(7.0)));

        let mut other = later;
        other.size = "full".to_owned();
        assert!(join(vec![(circumstances(), all.clone()), (other, all)]).is_err());
        assert!(join(Vec::new()).is_err());
    }
}
