//! What every command prints, as text and as JSON, kept in `snapshots/`.
//!
//! The database is the same, byte for byte, on every run, so nothing has to be masked. After a change that
//! is meant: `INSTA_UPDATE=always cargo test -p highwater-cli snapshots`, and read the difference.

use crate::fixture::{self, End, file, flip};
use crate::support::Place;

/// Runs commands one after the other and compares all that they print with the snapshot of that name.
fn shows(place: &Place, name: &str, commands: &[&[&str]]) {
    let mut text = String::new();
    for args in commands {
        let ran = place.run(args);
        let shown: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        text.push_str(&format!("$ highwater {}\n{}", shown.join(" "), ran.out));
        if !ran.err.is_empty() {
            text.push_str(&format!("[standard error]\n{}", ran.err));
        }
        let code = ran.code.map_or("by a signal".to_owned(), |code| code.to_string());
        text.push_str(&format!("[exit {code}]\n\n"));
        if !args.contains(&"json") && !args.contains(&"jsonl") {
            let fits = |line: &str| line.chars().count() <= 80;
            // (Messages on the standard error are wrapped on a terminal.)
            let is_roff = args[0] == "man";
            assert!(is_roff || ran.out.lines().all(fits), "{args:?}: {}", ran.out);
        }
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:%=#".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) { arg.to_owned() } else { format!("'{arg}'") }
}

fn clean() -> (Place, Vec<String>) {
    let place = Place::new();
    let lsns = fixture::make(&place.path("db"), End::Clean);
    (place, lsns.iter().map(ToString::to_string).collect())
}

fn killed() -> Place {
    let place = Place::new();
    fixture::make(&place.path("db"), End::Killed);
    place
}

#[test]
fn explain_and_verify() {
    let (place, _) = clean();
    shows(&place, "explain", &[&["explain", "db"], &["explain", "db", "--format", "json"]]);
    shows(
        &place,
        "verify",
        &[
            &["verify", "db"],
            &["verify", "db", "--level", "quick"],
            &["verify", "db", "--level", "log", "--format", "json"],
        ],
    );
    let place = killed();
    shows(
        &place,
        "explain_killed",
        &[&["explain", "db"], &["explain", "db", "--strict", "--format", "json"]],
    );
    shows(&place, "verify_killed", &[&["verify", "db"], &["verify", "db", "--strict"]]);
}

#[test]
fn damage() {
    let (place, _) = clean();
    flip(&file(&place.path("db"), "table-"), 9000);
    let verify: [&[&str]; 3] =
        [&["verify", "db"], &["verify", "db", "--format", "json"], &["table", "dump", "db", "1"]];
    shows(&place, "damaged_table", &verify);

    let (place, lsns) = clean();
    let stat = crate::support::last_json(&place.ok(&["log", "stat", "db", "--format", "json"]));
    let live = stat["segments"].as_array().unwrap().iter().find(|one| one["live"] == true).unwrap();
    let at = lsns[1].parse::<u64>().unwrap() - live["base_lsn"].as_u64().unwrap();
    let segment = place.path("db").join(live["name"].as_str().unwrap());
    flip(&segment, usize::try_from(at).unwrap() - 4);
    let page = format!("db/{}", live["name"].as_str().unwrap());
    let at = (at - 4).to_string();
    shows(
        &place,
        "damaged_log",
        &[
            &["explain", "db"],
            &["explain", "db", "--format", "json"],
            &["verify", "db"],
            &["log", "list", "db", "--from", "98000"],
            &["log", "dump", "db", "--reverse", "--limit", "3", "--format", "jsonl"],
            &["page", &page, &at],
            &["get", "db", "users", "ada"],
            &["get", "db", "users", "ada", "--format", "json"],
            &["table", "list", "db"],
            &["find", "db", "users", "ada"],
        ],
    );

    let (place, _) = clean();
    flip(&place.path("db/MANIFEST"), 100);
    shows(&place, "damaged_manifest", &[&["verify", "db"], &["info", "db"]]);
}

#[test]
fn upkeep() {
    let (place, _) = clean();
    shows(
        &place,
        "info",
        &[
            &["info", "db"],
            &["info", "db", "--format", "json"],
            &["info", "none"],
            &["info", "none", "--format", "json"],
        ],
    );
    shows(
        &place,
        "checkpoint_compact",
        &[
            &["checkpoint", "db"],
            &["checkpoint", "db", "--format", "json"],
            &["compact", "db"],
            &["compact", "db", "--format", "json"],
            &["compact", "none"],
        ],
    );
    shows(&killed(), "info_killed", &[&["info", "db"]]);
}

#[test]
fn log() {
    let (place, lsns) = clean();
    shows(
        &place,
        "log_list",
        &[
            &["log", "list", "db", "--from", &lsns[0]],
            &["log", "list", "db", "--keyspace", "users", "--key", "ada"],
            &["log", "list", "db", "--since", "2026-11-21T09:30:04Z", "--format", "json"],
        ],
    );
    shows(
        &place,
        "log_dump",
        &[
            &["log", "dump", "db", "--from", &lsns[0]],
            &["log", "dump", "db", "--keyspace", "odd", "--show-values"],
            &["log", "dump", "db", "--keyspace", "odd", "--show-values", "--keys", "hex"],
            &["log", "dump", "db", "--keyspace", "odd", "--show-values", "--keys", "utf8"],
            &["log", "dump", "db", "--kind", "remove-range", "--kind", "remove"],
            &["log", "dump", "db", "--from", &lsns[2], "--format", "jsonl"],
            &[
                "log",
                "dump",
                "db",
                "--reverse",
                "--limit",
                "2",
                "--format",
                "json",
                "--show-values",
            ],
        ],
    );
    shows(
        &place,
        "log_stat",
        &[&["log", "stat", "db"], &["log", "stat", "db", "--format", "json"]],
    );
    let follow = ["log", "follow", "db", "--from", &lsns[2], "--limit", "3"];
    shows(
        &place,
        "log_follow",
        &[
            &follow,
            &[&follow[..], &["--transactions"]].concat(),
            &[&follow[..], &["--format", "jsonl"]].concat(),
        ],
    );
}

#[test]
fn tables_and_pages() {
    let (place, _) = clean();
    shows(
        &place,
        "table_list",
        &[&["table", "list", "db"], &["table", "list", "db", "--format", "json"]],
    );
    shows(
        &place,
        "table_show",
        &[
            &["table", "show", "db", "1", "--fences"],
            &["table", "show", "db", "2"],
            &["table", "show", "db", "2", "--fences", "--format", "json"],
            &["table", "show", "db", "99"],
        ],
    );
    shows(
        &place,
        "table_dump",
        &[
            &["table", "dump", "db", "2"],
            &["table", "dump", "db", "1", "--prefix", "user000", "--show-values", "--limit", "2"],
            &["table", "dump", "db", "2", "--keyspace", "users", "--format", "json"],
            &["table", "dump", "db", "2", "--keyspace", "none"],
        ],
    );
    let named = |start: &str| {
        format!("db/{}", file(&place.path("db"), start).file_name().unwrap().to_string_lossy())
    };
    let (log, table) = (named("log-"), named("table-0000000000000002"));
    shows(
        &place,
        "page",
        &[
            &["page", "db/MANIFEST", "0"],
            &["page", "db/MANIFEST", "70", "--annotate"],
            &["page", &log, "0", "--annotate"],
            &["page", &log, "0x1000", "--annotate"],
            &["page", &table, "64", "--annotate"],
            &["page", &table, "64", "--annotate", "--show-values", "--format", "json"],
            &["page", "db/MANIFEST", "99999"],
            &["page", "db/none", "0"],
        ],
    );
}

#[test]
fn keys_and_states() {
    let (place, lsns) = clean();
    shows(
        &place,
        "find",
        &[
            &["find", "db", "users", "ada"],
            &["find", "db", "users", "user0007", "--show-values"],
            &["find", "db", "users", "user0105"],
            &["find", "db", "odd", "\\x00\\xff\\n", "--format", "json"],
            &["find", "db", "users", "nobody"],
            &["find", "db", "none", "ada"],
        ],
    );
    let (first, third) = (format!("db@{}", lsns[0]), format!("db@{}", lsns[2]));
    shows(
        &place,
        "hash",
        &[
            &["hash", "db"],
            &["hash", &first],
            &["hash", "db", "--format", "json"],
            &["hash", "db@7"],
        ],
    );
    shows(
        &place,
        "diff",
        &[
            &["diff", &first, "db"],
            &["diff", &third, "db", "--show-values"],
            &["diff", "db", &first, "--format", "json"],
            &["diff", "db", &first, "--limit", "1"],
            &["diff", "db", "db"],
            &["diff", "db", "db", "--format", "jsonl"],
        ],
    );
    shows(
        &place,
        "count",
        &[
            &["count", "db"],
            &["count", "db", "users"],
            &["count", "db", "users", "--prefix", "user00", "--format", "json"],
            &["count", "db", "none"],
        ],
    );
}

#[test]
fn everyday() {
    let (place, _) = clean();
    shows(
        &place,
        "get_scan",
        &[
            &["get", "db", "users", "ada"],
            &["get", "db", "odd", "\\x00\\xff\\n"],
            &["get", "db", "users", "ada", "--format", "json"],
            &["get", "db", "odd", "00ff0a", "--keys", "hex", "--format", "jsonl"],
            &["get", "db", "users", "nobody"],
            &["get", "db", "users", "nobody", "--format", "json"],
            &["scan", "db", "users", "--limit", "3"],
            &["scan", "db", "odd", "--format", "json"],
            &["scan", "db", "ships", "--keys-only", "--format", "jsonl"],
        ],
    );
    shows(
        &place,
        "changes",
        &[
            &["put", "db", "users", "alan", "1912"],
            &["put", "db", "users", "alan", "1912", "--format", "json"],
            &["rm", "db", "users", "alan", "--format", "json"],
            &["rm", "db", "users", "alan"],
            &["export", "db", "odd", "--to", "jsonl"],
            &["export", "db", "odd", "--to", "csv"],
            &["put", "none/db", "users", "a", "b"],
            &["get", "none", "users", "a"],
        ],
    );
    std::fs::write(place.path("new.jsonl"), "{\"key\": \"n\", \"value\": \"1\"}\nbad\n").unwrap();
    shows(
        &place,
        "import",
        &[
            &["import", "db", "users", "new.jsonl", "--from", "jsonl"],
            &["import", "db", "users", "new.jsonl", "--from", "jsonl", "--skip-bad"],
        ],
    );
}

#[test]
fn the_shell() {
    let (place, _) = clean();
    let script =
        "# a script\ncount users\nhelp\nget users 'ada'\nnonsense\nlog\nget users nobody\n";
    let ran = place.feed(&["shell", "db"], script.as_bytes());
    let text = format!("{}[standard error]\n{}[exit {:?}]\n", ran.out, ran.err, ran.code);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{text}");
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("shell", text));
    // The code is that of the last line; what follows exit is not run.
    assert_eq!(ran.code, Some(3));
    assert_eq!(place.feed(&["shell", "db"], b"count none\ncount users\n").code, Some(0));
    assert_eq!(place.feed(&["shell", "db"], b"exit\ncount none\n").code, Some(0));
    assert_eq!(place.feed(&["shell", "none"], b"count\n").code, Some(10));
}

#[test]
fn manual_and_completions() {
    let place = Place::new();
    shows(&place, "man", &[&["man", "log", "follow"], &["man", "nonsense"]]);
    let top = place.ok(&["man"]);
    for code in ["0", "5", "12", "124", "130"] {
        assert!(top.contains(&format!("  {code}  ")), "{code}: {top}");
    }
    place.ok(&["man", "--dir", "man1"]);
    for page in ["highwater.1", "highwater-log.1", "highwater-log-follow.1", "highwater-get.1"] {
        let text = std::fs::read_to_string(place.path("man1").join(page)).unwrap();
        assert!(text.contains("EXIT STATUS"), "{page}: {text}");
    }
    assert!(!place.path("man1/highwater-drill-child.1").exists());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = place.ok(&["completions", shell]);
        assert!(text.contains("follow") && text.contains("show-values"), "{shell}");
    }
}

/// `docs/cli-json.md` names every key of the snapshots.
#[test]
fn every_key_is_documented() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let Ok(text) = std::fs::read_to_string(format!("{root}/docs/cli-json.md")) else { return };
    // What stands for the names of keyspaces.
    let names = ["users", "odd", "ships"];
    let mut keys = std::collections::BTreeSet::new();
    let snapshots = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/snapshots");
    for entry in std::fs::read_dir(snapshots).unwrap() {
        let snapshot = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let words: Vec<&str> = snapshot.split('"').collect();
        for pair in words.windows(2).filter(|pair| pair[1].starts_with(':')) {
            keys.insert(pair[0].to_owned());
        }
    }
    assert!(keys.len() > 100, "{keys:?}");
    for key in keys.iter().filter(|key| !names.contains(&key.as_str())) {
        let plain = key.strip_suffix("_hex").unwrap_or(key);
        let is_there = ["`", "\""].iter().any(|q| text.contains(&format!("{q}{plain}{q}")));
        assert!(is_there, "docs/cli-json.md lacks {key}");
    }
}
