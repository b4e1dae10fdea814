//! The drill, small.

use crate::support::{Place, last_json, program};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const SMALL: [&str; 6] = ["drill", "--rounds", "3", "--records", "1500", "--json"];

#[test]
fn a_drill_finds_everything() {
    for (seed, threads) in [("1", "1"), ("2", "4")] {
        let place = Place::new();
        let args = [&SMALL[..], &["--seed", seed, "--threads", threads, "--dir", "kept"]].concat();
        let ran = place.run(&args);
        assert_eq!(ran.code, Some(0), "highwater {}: {ran:?}", args.join(" "));
        assert!(ran.out.contains("Kept its promise: 3 kills"), "{}", ran.out);
        let json = last_json(&ran.out);
        let number = |name: &str| json[name].as_u64().unwrap();
        assert_eq!((number("rounds"), number("lost"), number("refused")), (3, 0, 0));
        assert!(number("acknowledged") >= 200, "{json}");
        assert!(number("recovered") >= number("acknowledged"));
        assert!(number("recovered") <= number("acknowledged") + 3 * (1 + 2 * 4), "{json}");
        assert!(number("records") >= 1500);
        let details = json["details"].as_array().unwrap();
        assert_eq!(details.len(), 3);
        let sum = |name: &str| details.iter().map(|d| d[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum("acknowledged"), number("acknowledged"));
        let table: Vec<&str> = ran.out.lines().take_while(|line| !line.starts_with('{')).collect();
        assert!(table.iter().all(|line| line.chars().count() <= 80), "{table:#?}");
        // The database is there to be looked at.
        let keys = place.ok(&["scan", "kept", "progress"]);
        assert_eq!(keys, format!("transactions\t{}\n", number("recovered")));
        let line = place.ok(&["get", "kept", "characters", "0041"]);
        assert!(line.starts_with("0041;LATIN CAPITAL LETTER A;"), "{line}");
    }
}

/// A drill that could not fail would prove nothing.
#[test]
fn a_drill_notices_lost_commits() {
    let place = Place::new();
    let ran = place.run(&[&SMALL[..], &["--seed", "3", "--lying-disk"]].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("BROKE ITS PROMISE"), "{}", ran.out);
    let json = last_json(&ran.out);
    assert_eq!(json["ok"], false);
    assert!(json["lost"].as_u64().unwrap() > 0, "{json}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_drill_leaves_nothing_behind() {
    let place = Place::new();
    let mut drill = program();
    drill.args(["drill", "--records", "100000000"]).env("TMPDIR", place.dir.path());
    let mut drill = drill.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(drill.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = drill.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert_eq!(drill.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 0);
}
