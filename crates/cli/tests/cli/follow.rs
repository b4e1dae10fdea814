//! `log follow` beside a writer that checkpoints, recycles its segments and is restarted: nothing is missed,
//! nothing comes twice.

use crate::support::{Place, program};
use highwater::Database;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Seconds that the writer writes; `HIGHWATER_FOLLOW_SECONDS=60` for a minute of it.
fn seconds() -> u64 {
    let typed = std::env::var("HIGHWATER_FOLLOW_SECONDS").ok();
    typed.map_or(8, |typed| typed.parse().expect("HIGHWATER_FOLLOW_SECONDS is a number of seconds"))
}

/// The log's segments, dead ones included.
fn segments(place: &Place) -> BTreeSet<PathBuf> {
    let paths = std::fs::read_dir(place.path("db")).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|kind| kind == "hwl")).collect()
}

/// Writes for so long, and until a segment of those in `seen` has got another name, that is, was recycled or
/// removed; with a checkpoint every second. Gives the last commit and the number of checkpoints.
fn write(place: &Place, time: Duration, seen: &mut BTreeSet<PathBuf>) -> (u64, u64) {
    let patience = Duration::from_secs(60);
    let started = Instant::now();
    let db = Database::open(place.path("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let (mut number, mut checkpoints) = (0_u64, 0);
    while started.elapsed() < time
        || seen.is_subset(&segments(place)) && started.elapsed() < patience
    {
        number += 1;
        keyspace.insert(number.to_be_bytes(), vec![number as u8; 20_000]).unwrap();
        if started.elapsed() > Duration::from_secs(checkpoints + 1) {
            checkpoints += 1;
            seen.extend(segments(place));
            db.checkpoint().unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let last = db.snapshot().seqno().get();
    db.close().unwrap();
    (last, checkpoints)
}

#[test]
fn follow_misses_and_repeats_nothing() {
    let place = Place::new();
    let db = Database::open(place.path("db")).unwrap();
    db.keyspace("k").unwrap();
    db.close().unwrap();
    let mut process = program();
    process.args(["log", "follow", "db", "--from", "0", "--transactions", "--format", "jsonl"]);
    process.current_dir(place.dir.path()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut process = process.spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            sender.send(line).unwrap();
        }
    });
    // Two lives of the writer.
    let half = Duration::from_secs(seconds()) / 2;
    let mut seen = BTreeSet::new();
    let (_, first) = write(&place, half, &mut seen);
    let (last, second) = write(&place, half, &mut seen);
    assert!(first + second >= seconds() / 2, "only {first} + {second} checkpoints");
    assert!(!seen.is_subset(&segments(&place)), "no segment was recycled");

    let mut expected = 1;
    let mut last_lsn = 0;
    while expected <= last {
        let line = receiver.recv_timeout(Duration::from_secs(60));
        let line = line.unwrap_or_else(|_| panic!("commit {expected} of {last} never came"));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["type"], "transaction", "{line}");
        assert_eq!(json["seqno"], expected, "{line}");
        let lsn = json["lsn"].as_u64().unwrap();
        assert!(lsn > last_lsn, "{line}");
        last_lsn = lsn;
        expected += 1;
    }
    // Nothing comes after the last.
    assert!(receiver.recv_timeout(Duration::from_millis(500)).is_err());
    process.kill().unwrap();
    process.wait().unwrap();
    reader.join().unwrap();
    println!("{last} commits, {last_lsn} bytes of log, {} checkpoints", first + second);
}
