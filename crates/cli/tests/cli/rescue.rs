//! Salvage, backups, restores.

use crate::support::{Place, Ran, last_json, program};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Records as JSON Lines: `k00000`… with values that tell which round wrote them.
fn records(from: usize, count: usize, round: u32) -> Vec<u8> {
    let line = |i| format!("{{\"key\": \"k{i:05}\", \"value\": \"round {round} {i}\"}}\n");
    (from..from + count).map(line).collect::<String>().into_bytes()
}

/// A database with a table below and commits in the log.
fn database(place: &Place) {
    let import = ["import", "db", "k", "--from", "jsonl", "--durability", "buffered"];
    let ran = place.feed(&import, &records(0, 4000, 1));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    place.ok(&["checkpoint", "db"]);
    let ran = place.feed(&import, &records(0, 50, 2));
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

fn file(place: &Place, dir: &str, start: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = contents(&place.path(dir)).into_keys().collect();
    found.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(start));
    found.into_iter().next().unwrap()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn fits(text: &str) {
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

fn ends(ran: &Ran, code: i32) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    if !ran.out.starts_with('{') {
        fits(&ran.out);
    }
}

#[test]
fn a_salvage_without_loss() {
    let place = Place::new();
    database(&place);
    let scan = place.ok(&["scan", "db", "k"]);
    // A bit of the manifest: there is enough in it to know which one.
    flip(&place.path("db/MANIFEST"), 200);
    let before = contents(&place.path("db"));
    let dry = place.run(&["salvage", "db", "--dry-run"]);
    ends(&dry, 6);
    assert!(dry.out.contains("Lost         nothing"), "{}", dry.out);
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 1, "a dry run wrote");
    let ran = place.run(&["salvage", "db", "--to", "new", "--format", "json"]);
    ends(&ran, 6);
    let json = last_json(&ran.out);
    assert_eq!((&json["command"], &json["result"]), (&"salvage".into(), &"repaired".into()));
    assert_eq!((&json["lossless"], &json["manifest"]), (&true.into(), &"mended".into()));
    assert_eq!(place.ok(&["scan", "new", "k"]), scan);
    assert_eq!(contents(&place.path("db")), before, "the source was changed");
}

#[test]
fn a_salvage_with_loss_has_a_receipt() {
    let place = Place::new();
    database(&place);
    let table = file(&place, "db", "table-");
    flip(&table, 9000);
    let before = contents(&place.path("db"));
    let dry = place.run(&["salvage", "db", "--dry-run"]);
    ends(&dry, 7);
    let args = ["salvage", "db", "--to", "new", "--receipt", "lost.json"];
    let ran = place.run(&args);
    ends(&ran, 7);
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(ran.out.contains(&format!("Lost         {name}: ")), "{}", ran.out);
    assert!(ran.out.contains("k: keys after k0"), "{}", ran.out);
    let receipt = std::fs::read_to_string(place.path("lost.json")).unwrap();
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["lost_tables"][0]["file"], name);
    let range = &receipt["lost_tables"][0]["ranges"][0];
    let (from, to) = (range["from"].as_str().unwrap(), range["to"].as_str().unwrap());
    // What the new one lacks lies in the range.
    let count =
        |dir: &str, args: &[&str]| place.ok(&[&["scan", dir, "k"], args].concat()).lines().count();
    let found = place.ok(&["scan", "new", "k"]);
    for i in 0..4000 {
        let key = format!("k{i:05}");
        let inside = from <= key.as_str() && key.as_str() <= to;
        assert!(inside || found.contains(&format!("{key}\t")), "{key} is lost without a word");
    }
    assert!(count("new", &[]) < 4000);
    assert_eq!(contents(&place.path("db")), before, "the source was changed");
    // It is marked for ever, and a second salvage does not write over it.
    assert_eq!(place.run(&args).code, Some(2));
    let inside = ["salvage", "db", "--to", "new2", "--receipt", "db/lost.json"];
    assert_eq!(place.run(&inside).code, Some(2));
    assert!(!place.path("new2").exists() && !place.path("db/lost.json").exists());
}

#[test]
fn a_salvage_leaves_others_alone() {
    let place = Place::new();
    assert_eq!(place.run(&["salvage", "db", "--to", "new"]).code, Some(10));
    std::fs::create_dir(place.path("db")).unwrap();
    assert_eq!(place.run(&["salvage", "db", "--to", "new"]).code, Some(10));
    std::fs::write(place.path("db/letter.txt"), "not ours").unwrap();
    assert_eq!(place.run(&["salvage", "db", "--to", "new"]).code, Some(10));
    assert!(!place.path("new").exists());
    assert_eq!(place.run(&["salvage", "db"]).code, Some(2));
    std::fs::remove_dir_all(place.path("db")).unwrap();
    database(&place);
    let mut owner = program();
    owner.args(["import", "db", "k", "--from", "jsonl", "--commit-every", "1", "--ack"]);
    owner.current_dir(place.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = owner.spawn().unwrap();
    let mut input = owner.stdin.take().unwrap();
    input.write_all(&records(0, 1, 3)).unwrap();
    input.flush().unwrap();
    let mut ack = String::new();
    let mut out = std::io::BufReader::new(owner.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut ack).unwrap();
    let ran = place.run(&["salvage", "db", "--to", "new"]);
    ends(&ran, 11);
    assert!(ran.err.contains(&format!("process {}", owner.id())), "{ran:?}");
    drop(input);
    assert!(owner.wait().unwrap().success());
}

#[test]
fn backups_are_made_listed_checked_and_restored() {
    let place = Place::new();
    database(&place);
    let made = place.ok(&["backup", "create", "db", "backups"]);
    fits(&made);
    assert!(made.starts_with("backup 1 of db: commit "), "{made}");
    let first = place.ok(&["scan", "db", "k"]);
    place.ok(&["put", "db", "k", "later", "one"]);
    let json = last_json(&place.ok(&["backup", "create", "db", "backups", "--format", "json"]));
    assert_eq!(json["number"], 2);
    assert!(json["copied_bytes"].as_u64() < json["bytes"].as_u64(), "{json}");
    let list = place.ok(&["backup", "list", "backups"]);
    fits(&list);
    assert_eq!(list.lines().count(), 3, "{list}");
    let verified = place.ok(&["backup", "verify", "backups"]);
    fits(&verified);
    assert!(verified.starts_with("2 backups are whole: "), "{verified}");
    let drilled = place.ok(&["backup", "drill", "backups"]);
    fits(&drilled);
    assert!(drilled.contains("its content is what was backed up"), "{drilled}");

    let restored = place.ok(&["restore", "backups", "--number", "1", "--to", "one"]);
    fits(&restored);
    assert_eq!(place.ok(&["scan", "one", "k"]), first);
    // The log leads from the first backup to the last commit.
    let import = ["import", "db", "k", "--from", "jsonl", "--commit-every", "1"];
    ends(&place.feed(&import, &records(0, 5, 3)), 0);
    let args = ["restore", "backups", "--log", "db", "--before-damage"];
    let plan = place.ok(&[&args[..], &["--dry-run", "--format", "json"]].concat());
    assert_eq!(last_json(&plan)["log_commits"], 5, "{plan}");
    place.ok(&[&args[..], &["--to", "now"]].concat());
    assert_eq!(place.ok(&["scan", "now", "k"]), place.ok(&["scan", "db", "k"]));

    // Damage in the backup.
    flip(&file(&place, "backups", "table-"), 9000);
    for args in [&["backup", "verify", "backups"][..], &["backup", "drill", "backups"]] {
        let ran = place.run(args);
        ends(&ran, 5);
        assert!(ran.err.contains("damage in backups/table-"), "{ran:?}");
    }
    let ran = place.run(&["restore", "backups", "--to", "two"]);
    ends(&ran, 5);
    assert!(!place.path("two").exists(), "a restore that failed left something");
    flip(&file(&place, "backups", "backup-"), 100);
    ends(&place.run(&["backup", "list", "backups"]), 5);
}

#[test]
fn an_archive_leads_to_any_moment() {
    let place = Place::new();
    let keep = ["--archive", "archive"];
    let keeping = |args: &[&str]| place.ok(&[args, &keep[..]].concat());
    keeping(&["put", "db", "k", "a", "first"]);
    keeping(&["checkpoint", "db"]);
    place.ok(&["backup", "create", "db", "backups"]);
    for round in ["2", "3", "4"] {
        keeping(&["put", "db", "k", "a", round]);
        keeping(&["put", "db", "k", round, round]);
        keeping(&["checkpoint", "db"]);
    }
    keeping(&["rm", "db", "k", "a"]);
    assert!(place.path("archive").read_dir().unwrap().count() > 2);
    // The log list of the archive says which moments there are.
    let list = place.ok(&["log", "list", "archive", "--format", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let commits: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["type"] == "transaction")
        .collect();
    assert!(commits.len() >= 7, "{list}");
    let logs = ["--log", "archive", "--log", "db"];
    let restored = |to: &str, point: &[&str]| {
        let args = [&["restore", "backups", "--to", to, "--format", "json"][..], &logs, point];
        last_json(&place.ok(&args.concat()))
    };
    // The commit that set "3": "a" is 3, and 4 is not there.
    let at = commits.iter().find(|commit| commit["seqno"] == 6).unwrap();
    let lsn = at["lsn"].as_u64().unwrap().to_string();
    let by_lsn = restored("by-lsn", &["--lsn", &lsn]);
    assert_eq!((&by_lsn["last_seqno"], &by_lsn["end_unsure"]), (&6.into(), &false.into()));
    assert_ne!(by_lsn["database"], by_lsn["source_database"]);
    assert_eq!(place.ok(&["scan", "by-lsn", "k"]), "2\t2\n3\t3\na\t3\n");
    let by_time = restored("by-time", &["--time", at["time"].as_str().unwrap()]);
    assert_eq!(by_time["last_seqno"], 6, "{by_time}");
    let latest = restored("latest", &["--time", "0s ago"]);
    assert_eq!((&latest["gap_after_seqno"], &latest["end_unsure"]), (&Value::Null, &false.into()));
    assert_eq!(place.ok(&["scan", "latest", "k"]), place.ok(&["scan", "db", "k"]));
    // The archive alone does not know whether there is more.
    let alone = ["restore", "backups", "--log", "archive", "--time", "0s ago", "--dry-run"];
    let alone = place.ok(&alone);
    fits(&alone);
    assert!(alone.contains("Note         the log that was given ends before"), "{alone}");

    // A command that does not keep its log.
    place.ok(&["put", "db", "k", "b", "lost"]);
    place.ok(&["compact", "db"]);
    keeping(&["put", "db", "k", "c", "5"]);
    let behind = ["restore", "backups", "--to", "no", "--log", "archive", "--log", "db", "--time"];
    let ran = place.run(&[&behind[..], &["0s ago"]].concat());
    ends(&ran, 5);
    assert!(ran.err.contains("misses commits after ") && ran.err.contains("--before-damage"));
    assert!(!place.path("no").exists());

    // A folder that cannot be one.
    let ran = place.run(&["put", "db", "k", "d", "1", "--archive", "backups"]);
    ends(&ran, 1);
    assert!(ran.err.contains("belongs to no archive"), "{ran:?}");
    // A command has no later at which to try again.
    let ran = place.run(&["put", "new", "k", "d", "1", "--archive", "gone/archive"]);
    ends(&ran, 1);
    assert!(ran.err.contains("cannot be reached"), "{ran:?}");
    assert!(!place.path("new").exists());
}

#[test]
fn wrong_backups_and_points() {
    let place = Place::new();
    database(&place);
    let code = |args: &[&str]| place.run(args).code;
    assert_eq!(code(&["backup", "list", "none"]), Some(3));
    assert_eq!(code(&["backup", "verify", "none"]), Some(3));
    assert_eq!(code(&["backup", "drill", "none"]), Some(3));
    assert_eq!(code(&["restore", "none", "--to", "new"]), Some(3));
    assert_eq!(code(&["backup", "create", "none", "backups"]), Some(10));
    assert_eq!(code(&["backup", "create", "db", "db/backups"]), Some(2));
    place.ok(&["backup", "create", "db", "backups"]);
    assert_eq!(code(&["restore", "backups", "--number", "9", "--to", "new"]), Some(3));
    assert_eq!(code(&["restore", "backups", "--to", "db"]), Some(2));
    assert_eq!(code(&["restore", "backups", "--to", "new", "--lsn", "5"]), Some(2));
    assert_eq!(code(&["restore", "backups", "--to", "new", "--log", "db"]), Some(2));
    let far = ["restore", "backups", "--to", "new", "--log", "db", "--lsn", "99999999999"];
    assert_eq!(code(&far), Some(2));
    assert_eq!(code(&["restore", "backups", "--to", "new", "--time", "soon"]), Some(2));
    let none = ["restore", "backups", "--to", "new", "--log", "none", "--before-damage"];
    assert_eq!(code(&none), Some(3));
    assert!(!place.path("new").exists());
    // A limit that is over before the work is, unless the machine has other things to do than to look at it.
    let limited = ["backup", "drill", "backups", "--scratch", "drill", "--max-duration", "1ms"];
    let mut codes = (0..50).map(|_| code(&limited));
    assert_eq!(codes.find(|code| *code != Some(0)), Some(Some(124)));
}

/// Commits set one key each, in order: a prefix of the commit order is a prefix of the keys.
#[test]
fn a_backup_beside_a_busy_writer_is_a_prefix() {
    let place = Place::new();
    database(&place);
    let mut owner = program();
    owner.args(["import", "db", "log", "--from", "jsonl", "--commit-every", "1"]);
    owner.current_dir(place.dir.path()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut owner = owner.spawn().unwrap();
    let mut input = owner.stdin.take().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let ended = stop.clone();
    let writer = std::thread::spawn(move || {
        for from in (0..90_000).step_by(10) {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            input.write_all(&records(from, 10, 1)).unwrap();
        }
    });
    // Commits that nobody waits for are seen from outside when their log was written.
    let started = std::time::Instant::now();
    while place.run(&["count", "db", "log"]).out.trim().parse().unwrap_or(0) == 0 {
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "nothing was written");
    }
    let mut counts = Vec::new();
    for number in 1..=4_usize {
        place.ok(&["backup", "create", "db", "backups"]);
        let drilled = place.ok(&["backup", "drill", "backups", "--format", "json"]);
        assert_eq!(last_json(&drilled)["same"], true, "{drilled}");
        let to = format!("r{number}");
        place.ok(&["restore", "backups", "--to", &to]);
        let ran = place.run(&["scan", &to, "log"]);
        let keys: Vec<&str> = ran.out.lines().collect();
        for (i, line) in keys.iter().enumerate() {
            assert_eq!(*line, format!("k{i:05}\tround 1 {i}"));
        }
        counts.push(keys.len());
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(owner.wait().unwrap().success());
    assert!(counts.is_sorted() && counts[3] > 0, "{counts:?}");
}

#[test]
fn a_repair_is_planned_confirmed_done_and_undone() {
    let place = Place::new();
    database(&place);
    let sound = place.run(&["repair", "plan", "db"]);
    ends(&sound, 0);
    assert!(sound.out.contains("nothing to repair"), "{}", sound.out);
    let scan = place.ok(&["scan", "db", "k"]);
    // The filter of the table, which lies behind its records.
    let table = file(&place, "db", "table-");
    let at = std::fs::metadata(&table).unwrap().len() as usize - 600;
    flip(&table, at);
    let before = contents(&place.path("db"));
    let plan = place.run(&["repair", "plan", "db"]);
    ends(&plan, 4);
    let next = plan.out.lines().last().unwrap().strip_prefix("Next         highwater ").unwrap();
    let next: Vec<&str> = next.split(' ').collect();
    assert_eq!(next[..4], ["repair", "apply", "db", "--plan"]);
    let unconfirmed = place.run(&next);
    assert_eq!((unconfirmed.code, unconfirmed.out.as_str()), (Some(20), ""), "{unconfirmed:?}");
    assert!(unconfirmed.err.contains("write the table anew"), "{}", unconfirmed.err);
    fits(&unconfirmed.err);
    assert_eq!(contents(&place.path("db")), before, "changed without a confirmation");
    let confirmed = [&next[..], &["--yes"]].concat();
    ends(&place.run(&confirmed), 6);
    assert_eq!(place.ok(&["scan", "db", "k"]), scan);
    assert_eq!(place.run(&["repair", "undo", "db"]).code, Some(20));
    ends(&place.run(&["repair", "undo", "db", "--yes"]), 0);
    let mut after = contents(&place.path("db"));
    after.retain(|path, _| !path.ends_with("LOCK"));
    assert!(after.iter().all(|(path, bytes)| before.get(path) == Some(bytes)));
    assert_eq!(after.len(), before.len() - 1);
    assert_eq!(place.run(&["repair", "undo", "db", "--yes"]).code, Some(3));
    // Changed since.
    flip(&table, at + 8);
    let ran = place.run(&confirmed);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.ends_with("next: highwater repair plan db\n"), "{}", ran.err);
    // Records are damaged: not in place.
    flip(&table, 9000);
    let ran = place.run(&["repair", "plan", "db", "--format", "json"]);
    ends(&ran, 5);
    let json = last_json(&ran.out);
    assert_eq!(json["plan"], serde_json::Value::Null);
    assert_eq!(json["refusals"].as_array().unwrap().len(), 1);
    assert_eq!(place.run(&confirmed).code, Some(5));
}

#[test]
fn a_log_is_cut_with_a_receipt_and_writes_end_the_undoing() {
    let place = Place::new();
    database(&place);
    // Each commit in a group of its own.
    let import =
        ["import", "db", "k", "--from", "jsonl", "--commit-every", "1", "--durability", "sync"];
    ends(&place.feed(&import, &records(0, 10, 9)), 0);
    let mut logs: Vec<PathBuf> = contents(&place.path("db")).into_keys().collect();
    logs.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("log-"));
    let live = logs.iter().rev().find(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes[4096..].iter().any(|byte| *byte != 0)
    });
    // The fifth of ten commits.
    flip(live.unwrap(), 4096 * 5 + 30);
    assert_eq!(place.run(&["info", "db"]).code, Some(5));
    let plan = place.run(&["repair", "plan", "db", "--format", "json"]);
    ends(&plan, 5);
    let json = last_json(&plan.out);
    assert_eq!(json["actions"][0]["action"], "rewrite_log", "{json}");
    assert!(json["readable_commits_dropped"].as_u64() > Some(0), "{json}");
    let id = json["plan"].as_str().unwrap();
    ends(&place.run(&["repair", "apply", "db", "--plan", id, "--yes"]), 7);
    let scan = place.ok(&["scan", "db", "k"]);
    assert!(scan.contains("round 9 3\n") && !scan.contains("round 9 4\n"), "{scan}");
    place.ok(&["put", "db", "k", "new", "commit"]);
    let ran = place.run(&["repair", "undo", "db", "--yes"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(place.ok(&["get", "db", "k", "new"]), "commit\n");
}
