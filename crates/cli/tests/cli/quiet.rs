//! Commands that read: they change nothing and create nothing, wherever they run; and they end as they
//! should when the pipe closes, the time is over, the lock is taken, or the user interrupts.

use crate::fixture::{self, End, file, flip};
use crate::support::{Place, Ran, last_json, program};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Every command that only reads; `{table}` and `{log}` stand for files of the database.
const READING: [&[&str]; 28] = [
    &["info", "db"],
    &["explain", "db"],
    &["verify", "db"],
    &["verify", "db", "--level", "quick"],
    &["verify", "db", "--level", "log", "--strict"],
    &["verify", "db", "--sample", "50%", "--max-duration", "20s"],
    &["log", "list", "db"],
    &["log", "list", "db", "--reverse", "--limit", "3"],
    &["log", "dump", "db", "--show-values"],
    &["log", "stat", "db"],
    &["log", "follow", "db", "--from", "0", "--for", "100ms"],
    &["table", "list", "db"],
    &["table", "show", "db", "{number}", "--fences"],
    &["table", "dump", "db", "{number}"],
    &["page", "{log}", "8192", "--annotate"],
    &["page", "{table}", "64", "--annotate"],
    &["page", "db/MANIFEST", "0", "--annotate"],
    &["find", "db", "users", "ada"],
    &["hash", "db"],
    &["diff", "db", "db"],
    &["get", "db", "users", "ada"],
    &["scan", "db", "users"],
    &["count", "db"],
    &["count", "db", "users", "--prefix", "a"],
    &["export", "db", "users", "--to", "jsonl"],
    &["salvage", "db", "--dry-run"],
    &["repair", "plan", "db"],
    &["shell", "db"],
];
/// Commands that write: to a database, or to a place of their own.
const WRITING: [&str; 7] = ["put", "rm", "checkpoint", "compact", "import", "backup", "restore"];
/// Commands that have nothing to do with a database that is there.
const ELSEWHERE: [&str; 5] = ["bench", "drill", "completions", "man", "help"];

/// Names, bytes and times of everything below a directory, by their sum.
type Print = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

fn print_of(dir: &Path) -> Print {
    let mut found = Print::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let time = path.metadata().unwrap().modified().unwrap();
        if path.is_dir() {
            found.extend(print_of(&path));
            found.insert(path, (Vec::new(), time));
        } else {
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), time));
        }
    }
    found
}

fn spelled(place: &Place, args: &[&str]) -> Vec<String> {
    let named = |start: &str| file(&place.path("db"), start).display().to_string();
    let spell = |arg: &&str| match *arg {
        "{log}" => named("log-"),
        "{table}" => named("table-"),
        // An owner at rest merges: there is no telling which tables there are.
        "{number}" => {
            let name = file(&place.path("db"), "table-");
            let digits =
                name.file_stem().unwrap().to_str().unwrap().trim_start_matches("table-").to_owned();
            u64::from_str_radix(&digits, 16).unwrap().to_string()
        }
        arg => arg.to_owned(),
    };
    args.iter().map(spell).collect()
}

/// Runs a reading command in every form of output; nothing may change.
fn reads(place: &Place, args: &[&str], codes: &[i32], user: Option<u32>) {
    let before = print_of(place.dir.path());
    for form in ["text", "json", "jsonl"] {
        let mut process = program();
        process.args(spelled(place, args)).args(["--format", form]);
        process.current_dir(place.dir.path()).stdin(Stdio::piped());
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        become_user(&mut process, user);
        let mut process = process.spawn().unwrap();
        // For the shell; the others do not look.
        let _ = process.stdin.take().unwrap().write_all(b"count users\nfind users ada\nhash\n");
        let ran = Ran::from(process.wait_with_output().unwrap());
        assert!(codes.contains(&ran.code.unwrap_or(-1)), "{args:?} {form}: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{args:?}: {ran:?}");
        assert!(print_of(place.dir.path()) == before, "{args:?} changed something");
    }
}

#[cfg(unix)]
fn become_user(process: &mut Command, user: Option<u32>) {
    use std::os::unix::process::CommandExt;
    if let Some(user) = user {
        process.uid(user).gid(user);
    }
}

#[cfg(not(unix))]
fn become_user(_: &mut Command, _: Option<u32>) {}

#[test]
fn every_command_is_known_here() {
    let help = Place::new().ok(&["--help"]);
    let commands = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    for name in names.filter_map(|line| line.split_whitespace().next()) {
        let is_known = READING.iter().any(|args| args[0] == name)
            || WRITING.contains(&name)
            || ELSEWHERE.contains(&name);
        assert!(is_known, "{name:?}: does it read or write? Add it to a list of this test");
    }
}

#[test]
fn reading_a_clean_database_changes_nothing() {
    let place = Place::new();
    fixture::make(&place.path("db"), End::Clean);
    for args in READING {
        let codes: &[i32] = if args[0] == "salvage" { &[6] } else { &[0] };
        reads(&place, args, codes, None);
    }
}

#[test]
fn reading_after_a_kill_changes_nothing() {
    let place = Place::new();
    fixture::make(&place.path("db"), End::Killed);
    for args in READING {
        let codes: &[i32] = match args {
            ["salvage", ..] => &[6],
            // The last commits have no witness.
            [.., "--strict"] => &[4],
            _ => &[0],
        };
        reads(&place, args, codes, None);
    }
}

#[test]
fn reading_a_damaged_database_changes_nothing() {
    for start in ["log-", "table-", "MANIFEST"] {
        let place = Place::new();
        fixture::make(&place.path("db"), End::Clean);
        let offset = if start == "log-" {
            live_group(&place)
        } else {
            (file(&place.path("db"), start), 200)
        };
        flip(&offset.0, offset.1);
        for args in READING {
            let codes: &[i32] = match args {
                ["salvage", ..] => &[6, 7],
                // They go on, or say what is damaged; never a failure without a reason.
                _ => &[0, 3, 4, 5],
            };
            reads(&place, args, codes, None);
        }
        let full = place.run(&["verify", "db"]);
        assert!([4, 5].map(Some).contains(&full.code), "{start}: {full:?}");
    }
}

/// A place in a group of the live log that a later group vouches for.
fn live_group(place: &Place) -> (PathBuf, usize) {
    let stat = last_json(&place.ok(&["log", "stat", "db", "--format", "json"]));
    let live = stat["segments"].as_array().unwrap().iter().find(|one| one["live"] == true).unwrap();
    let list = last_json(&place.ok(&["log", "list", "db", "--format", "json"]));
    let items = list["items"].as_array().unwrap();
    let one = items.iter().find(|one| one["live"] == true).unwrap();
    let at = one["lsn"].as_u64().unwrap() - live["base_lsn"].as_u64().unwrap();
    (place.path("db").join(live["name"].as_str().unwrap()), usize::try_from(at).unwrap() - 4)
}

/// An import that waits for its next line.
fn owner(place: &Place) -> (Child, impl Write + use<>) {
    let mut owner = program();
    owner.args(["import", "db", "users", "--from", "jsonl", "--commit-every", "1", "--ack"]);
    owner.current_dir(place.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = owner.stderr(Stdio::null()).spawn().unwrap();
    let mut input = owner.stdin.take().unwrap();
    writeln!(input, "{{\"key\": \"ada\", \"value\": \"b\"}}").unwrap();
    input.flush().unwrap();
    let mut ack = String::new();
    BufReader::new(owner.stdout.as_mut().unwrap()).read_line(&mut ack).unwrap();
    assert!(ack.starts_with("ack 1 1 "), "{ack}");
    (owner, input)
}

#[test]
fn reading_beside_a_live_owner_changes_nothing() {
    let place = Place::new();
    fixture::make(&place.path("db"), End::Clean);
    let (mut owner, mut input) = owner(&place);
    rests(&place);
    for args in READING {
        // These want no owner beside them.
        let codes: &[i32] = if ["salvage", "repair"].contains(&args[0]) { &[11] } else { &[0] };
        reads(&place, args, codes, None);
    }
    // The owner was not disturbed.
    writeln!(input, "{{\"key\": \"late\", \"value\": \"c\"}}").unwrap();
    drop(input);
    assert!(owner.wait().unwrap().success());
    assert_eq!(place.ok(&["get", "db", "users", "late"]), "c\n");
}

/// Waits until the owner has written its witness and done its upkeep.
fn rests(place: &Place) {
    let mut before = print_of(place.dir.path());
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(50));
        let now = print_of(place.dir.path());
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

#[cfg(unix)]
#[test]
fn reading_needs_no_right_to_write() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let place = Place::new();
    let dir = place.path("db");
    fixture::make(&dir, End::Killed);
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for entry in std::fs::read_dir(&dir).unwrap() {
        mode(&entry.unwrap().path(), 0o444);
    }
    mode(&dir, 0o555);
    mode(place.dir.path(), 0o555);
    // Rights mean nothing to root, who becomes nobody for this.
    let user = (place.dir.path().metadata().unwrap().uid() == 0).then_some(65_534);
    let mut put = program();
    put.args(["put", "db", "users", "a", "b"]).current_dir(place.dir.path());
    become_user(&mut put, user);
    let put = put.output().unwrap();
    assert_eq!(put.status.code(), Some(1), "the directory can be written to: {put:?}");
    for args in READING {
        let codes: &[i32] = match args {
            ["salvage", ..] => &[6],
            [.., "--strict"] => &[4],
            _ => &[0],
        };
        reads(&place, args, codes, user);
    }
    mode(place.dir.path(), 0o755);
    mode(&dir, 0o755);
}

/// A database whose dumps fill any pipe.
fn large(place: &Place) {
    let line = |i| format!("{{\"key\": \"key {i:06}\", \"value\": \"{}\"}}\n", "v".repeat(60));
    let lines: String = (0..5000).map(line).collect();
    let ran = place.feed(&["import", "db", "k", "--from", "jsonl"], lines.as_bytes());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    place.ok(&["checkpoint", "db"]);
    place.ok(&["put", "other", "k", "a", "b"]);
}

const LONG: [&[&str]; 6] = [
    &["log", "dump", "db"],
    &["log", "follow", "db", "--from", "0"],
    &["table", "dump", "db", "1"],
    &["scan", "db", "k"],
    &["export", "db", "k", "--to", "csv"],
    &["diff", "other", "db"],
];

#[test]
fn a_closed_pipe_ends_a_dump_quietly() {
    let place = Place::new();
    large(&place);
    for args in LONG {
        for form in ["text", "json", "jsonl"] {
            let mut process = program();
            process.args(args).args(["--format", form]).current_dir(place.dir.path());
            let mut process =
                process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut first = [0; 100];
            process.stdout.take().unwrap().read_exact(&mut first).unwrap();
            let ran = process.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert_eq!((ran.status.code(), &*said), (Some(0), ""), "{args:?} {form}");
        }
    }
}

#[test]
fn the_time_limit_has_its_own_exit_code() {
    let place = Place::new();
    large(&place);
    let ran = place.run(&["verify", "db", "--max-duration", "0s"]);
    assert_eq!(ran.code, Some(124), "{ran:?}");
    assert!(ran.out.contains("the time limit came first"), "{ran:?}");
    // Nobody reads, so that the comparison cannot end.
    let mut process = program();
    process.args(["diff", "other", "db", "--max-duration", "300ms"]);
    process.current_dir(place.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = process.spawn().unwrap();
    let kept = process.stdout.take();
    let ran = Ran::from(process.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(124), "{ran:?}");
    assert!(ran.err.contains("did not end within 300ms"), "{ran:?}");
    drop(kept);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_reader() {
    let place = Place::new();
    large(&place);
    for args in [LONG[1], LONG[5]] {
        let mut process = program();
        process.args(args).current_dir(place.dir.path());
        let mut process = process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        process.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
        let kept = process.stdout.take();
        let ran = Ran::from(process.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(130), ""), "{args:?}");
        drop(kept);
    }
}

#[test]
fn a_lock_is_waited_for_as_long_as_the_timeout_says() {
    let place = Place::new();
    fixture::make(&place.path("db"), End::Clean);
    let (mut owner, input) = owner(&place);
    let started = Instant::now();
    let ran = place.run(&["put", "db", "users", "a", "b", "--timeout", "400ms"]);
    assert_eq!(ran.code, Some(11), "{ran:?}");
    assert!(started.elapsed() >= Duration::from_millis(400), "{ran:?}");
    assert!(ran.err.contains(&format!("waiting for process {}", owner.id())), "{ran:?}");
    assert!(ran.err.contains(&format!("next: ps -p {}", owner.id())), "{ran:?}");
    let waits = std::thread::scope(|scope| {
        let waits =
            scope.spawn(|| place.run(&["put", "db", "users", "a", "b", "--timeout", "60s"]));
        std::thread::sleep(Duration::from_millis(300));
        drop(input);
        assert!(owner.wait().unwrap().success());
        waits.join().unwrap()
    });
    assert_eq!(waits.code, Some(0), "{waits:?}");
    assert_eq!(place.ok(&["get", "db", "users", "a"]), "b\n");
}
