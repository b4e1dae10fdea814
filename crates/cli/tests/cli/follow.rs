//! `log follow` beside a writer that checkpoints, recycles its segments and is restarted: nothing is missed,
//! nothing comes twice.

use crate::support::{Place, program};
use highwater::Database;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Seconds that the writer writes; `HIGHWATER_FOLLOW_SECONDS=60` for a minute of it.
fn seconds() -> u64 {
    let typed = std::env::var("HIGHWATER_FOLLOW_SECONDS").ok();
    typed.map_or(8, |typed| typed.parse().expect("HIGHWATER_FOLLOW_SECONDS is a number of seconds"))
}

/// Writes for so long, with a checkpoint every second; gives the last commit.
fn write(place: &Place, time: Duration) -> (u64, u64) {
    let started = Instant::now();
    let db = Database::open(place.path("db")).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let (mut number, mut checkpoints) = (0_u64, 0);
    while started.elapsed() < time {
        number += 1;
        keyspace.insert(number.to_be_bytes(), vec![number as u8; 20_000]).unwrap();
        if started.elapsed() > Duration::from_secs(checkpoints + 1) {
            checkpoints += 1;
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
    let first_segment = crate::fixture::file(&place.path("db"), "log-");
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
    let (_, first) = write(&place, half);
    let (last, second) = write(&place, half);
    assert!(first + second >= seconds() / 2, "only {first} + {second} checkpoints");
    assert!(!first_segment.exists(), "no segment was recycled");

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
