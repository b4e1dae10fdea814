//! Wrong usage, wrong places, databases in use.

use crate::support::{Place, last_json, program};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

const READING: [&[&str]; 4] = [
    &["info", "db"],
    &["get", "db", "k", "a"],
    &["scan", "db", "k"],
    &["export", "db", "k", "--to", "csv"],
];
const CHANGING: [&[&str]; 5] = [
    &["put", "db", "k", "a", "b"],
    &["rm", "db", "k", "a"],
    &["checkpoint", "db"],
    &["compact", "db"],
    &["import", "db", "k", "--from", "csv"],
];

/// One paragraph on the standard error, that says more than the fact.
fn assert_told(code: i32, args: &[&str], place: &Place, word: &str) {
    let ran = place.run(args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args:?}: {ran:?}");
    assert!(ran.err.contains(word), "{args:?}: {ran:?}");
    assert!(ran.err.starts_with("highwater: "), "{ran:?}");
    let mut lines = ran.err.lines().skip(1);
    assert!(lines.next().is_none_or(|line| line.starts_with("  next: ")), "{ran:?}");
    assert_eq!(lines.next(), None, "{ran:?}");
}

#[test]
fn no_database() {
    let place = Place::new();
    for args in READING.iter().chain(&CHANGING[1..4]) {
        assert_told(10, args, &place, "there is no database in db");
        assert!(!place.path("db").exists(), "{args:?} made something");
    }
    std::fs::write(place.path("db"), "a file").unwrap();
    for args in READING.iter().chain(&CHANGING) {
        assert_told(10, args, &place, "is no highwater database");
    }
    std::fs::remove_file(place.path("db")).unwrap();
    std::fs::create_dir(place.path("db")).unwrap();
    for args in READING.iter().chain(&CHANGING[1..4]) {
        assert_told(10, args, &place, "there is no database in db");
    }
    std::fs::write(place.path("db/letter.txt"), "not ours").unwrap();
    for args in READING.iter().chain(&CHANGING) {
        assert_told(10, args, &place, "letter.txt");
    }
    assert_eq!(std::fs::read_dir(place.path("db")).unwrap().count(), 1);
}

#[test]
fn not_found() {
    let place = Place::new();
    place.ok(&["put", "db", "other", "a", "b"]);
    for args in [READING[1], READING[2], READING[3], CHANGING[1]] {
        assert_told(3, args, &place, "there is no keyspace \"k\"");
    }
    assert_told(3, &["get", "db", "other", "x\\n"], &place, "has no key x\\n");
}

#[test]
fn wrong_usage() {
    let place = Place::new();
    place.ok(&["put", "db", "k", "a", "b"]);
    let cases: [&[&str]; 14] = [
        &[],
        &["nonsense"],
        &["get", "db", "k"],
        &["get", "db", "k", "\\q"],
        &["get", "db", "k", "xyz", "--keys", "hex"],
        &["get", "db", "k", "a", "--keys", "xml"],
        &["put", "db", "k", "a", "\\x1"],
        &["scan", "db", "k", "--from", "\\"],
        &["scan", "db", "k", "--limit", "-1"],
        &["import", "db", "k"],
        &["import", "db", "k", "--from", "xml"],
        &["import", "db", "k", "--from", "csv", "--commit-every", "0"],
        &["drill", "--rounds", "0"],
        &["drill", "--threads", "65"],
    ];
    for args in cases {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}: {ran:?}");
        assert!(!ran.err.is_empty());
    }
}

#[test]
fn unusable_files() {
    let place = Place::new();
    place.ok(&["put", "db", "k", "a", "b"]);
    assert_told(1, &["import", "db", "k", "none", "--from", "csv"], &place, "cannot open none");
    assert_told(1, &["import", "db", "k", "db", "--from", "csv"], &place, "cannot read db");
    assert_told(
        1,
        &["export", "db", "k", "no/file", "--to", "csv"],
        &place,
        "cannot write no/file",
    );
    assert_told(1, &["export", "db", "k", "db", "--to", "csv"], &place, "cannot write db");
    assert_told(1, &["put", "db", "k", &"k".repeat(70_000), "v"], &place, "the limit is 65535");
    assert_told(1, &["put", "db", &"k".repeat(256), "a", "v"], &place, "the limit is 255");
    assert_told(1, &["drill", "--dir", "db"], &place, "db is not empty");
    assert_eq!(place.ok(&["scan", "db", "k"]), "a\tb\n");
}

/// An import that waits for its next line.
fn live_owner(place: &Place) -> (Child, impl Write) {
    let mut owner = program();
    owner.args(["import", "db", "k", "--from", "jsonl", "--commit-every", "1", "--ack"]);
    owner.current_dir(place.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = owner.stderr(Stdio::null()).spawn().unwrap();
    let mut input = owner.stdin.take().unwrap();
    writeln!(input, "{{\"key\": \"a\", \"value\": \"b\"}}").unwrap();
    input.flush().unwrap();
    let mut ack = String::new();
    BufReader::new(owner.stdout.as_mut().unwrap()).read_line(&mut ack).unwrap();
    assert!(ack.starts_with("ack 1 1 "), "{ack}");
    (owner, input)
}

#[test]
fn beside_a_live_owner() {
    let place = Place::new();
    let (mut owner, input) = live_owner(&place);
    for args in CHANGING {
        assert_told(11, args, &place, &format!("in use by process {}", owner.id()));
    }
    // A reader sees what is sure to be synced: the owner's last commit once its log has rested.
    let started = std::time::Instant::now();
    while place.run(&["get", "db", "k", "a"]).code != Some(0) {
        assert!(started.elapsed().as_secs() < 20, "the owner's commit never became readable");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for args in READING {
        place.ok(args);
    }
    assert_eq!(place.ok(&["get", "db", "k", "a"]), "b\n");
    let info = place.ok(&["info", "db", "--format", "json"]);
    assert_eq!(last_json(&info)["owner_pid"], owner.id());
    drop(input);
    assert!(owner.wait().unwrap().success());
    place.ok(&["put", "db", "k", "a", "c"]);
}

#[test]
fn killed_owners_leave_what_they_acknowledged() {
    let place = Place::new();
    let (mut owner, _input) = live_owner(&place);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let info = place.ok(&["info", "db", "--format", "json"]);
    assert_eq!(last_json(&info)["clean"], false);
    assert_eq!(place.ok(&["get", "db", "k", "a"]), "b\n");
    place.ok(&["checkpoint", "db"]);
    assert_eq!(last_json(&place.ok(&["info", "db", "--format", "json"]))["clean"], true);
}

#[cfg(unix)]
#[test]
fn an_interrupt_has_its_own_exit_code() {
    let place = Place::new();
    let (mut owner, _input) = live_owner(&place);
    Command::new("kill").args(["-INT", &owner.id().to_string()]).status().unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(130));
    assert_eq!(place.ok(&["get", "db", "k", "a"]), "b\n");
}

#[test]
fn help_fits_a_terminal_and_has_examples() {
    let place = Place::new();
    let top = place.ok(&["--help"]);
    assert!(top.contains("Exit codes") && !top.contains("drill-child"), "{top}");
    assert!(help_of(&place, &[]) > 30);
}

/// Looks at the help of a command and of all below it; how many those are.
fn help_of(place: &Place, command: &[&str]) -> usize {
    let help = place.ok(&[command, &["--help"]].concat());
    let name = command.join(" ");
    let example = help.lines().any(|line| line.contains(&format!("  highwater {name}")));
    assert!(help.contains("Example") && (example || name == "shell"), "{name}: {help}");
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{name}: {help}");
    let Some(below) = help.split("Commands:\n").nth(1) else { return 1 };
    let below = below.split("\n\n").next().unwrap();
    let names = below.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?.split_once(' ')?.0;
        (!name.is_empty() && name != "help").then_some(name)
    });
    1 + names.map(|name| help_of(place, &[command, &[name]].concat())).sum::<usize>()
}
