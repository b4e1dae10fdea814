//! import and export.

use crate::support::{Place, last_json, noise, program};
use std::io::Read;
use std::process::Stdio;

#[test]
fn any_bytes_survive_both_forms() {
    let place = Place::new();
    let mut lines = String::new();
    for seed in 0..300 {
        let key = noise(seed, (seed % 40) as usize + 2);
        let value = noise(seed + 1000, (seed % 90) as usize);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        lines += &format!("{{\"key_hex\":\"{}\",\"value_hex\":\"{}\"}}\n", hex(&key), hex(&value));
    }
    let quoted = r#"{"key":"a,\"b\"\r\n","value":"\u0000\t\\x,'水\ufeff"}"#;
    lines += &format!("{quoted}\n{{\"key\":\"\",\"value\":\"\"}}\n");
    let ran = place.feed(&["import", "db", "k", "--from", "jsonl"], lines.as_bytes());
    assert_eq!(ran.out, "imported 302 records into \"k\" in 1 commit\n", "{ran:?}");
    let scanned = place.ok(&["scan", "db", "k", "--keys", "hex"]);
    assert_eq!(scanned.lines().count(), 302);
    for form in ["jsonl", "csv"] {
        place.ok(&["export", "db", "k", form, "--to", form]);
        assert!(!place.path(&format!("{form}.part")).exists());
        place.ok(&["import", &format!("{form}.db"), "k", form, "--from", form]);
        assert_eq!(place.ok(&["scan", &format!("{form}.db"), "k", "--keys", "hex"]), scanned);
        let piped = place.run(&["export", "db", "k", "--to", form]);
        assert_eq!(piped.raw, std::fs::read(place.path(form)).unwrap());
    }
}

/// The ending of the file says the form; where there is none, the command says what to add.
#[test]
fn the_form_is_that_of_the_file() {
    let place = Place::new();
    std::fs::write(place.path("a.jsonl"), "{\"key\":\"one\",\"value\":\"1\"}\n").unwrap();
    place.ok(&["import", "db", "k", "a.jsonl"]);
    for name in ["b.csv", "c.CSV", "d.mdb", "e.dump", "f.ndjson"] {
        place.ok(&["export", "db", "k", name]);
        place.ok(&["import", name.split('.').next().unwrap(), "k", name]);
        let dir = name.split('.').next().unwrap();
        assert_eq!(place.ok(&["scan", dir, "k"]), "one\t1\n", "{name}");
    }
    assert!(std::fs::read_to_string(place.path("b.csv")).unwrap().starts_with("key,value"));
    // What was asked for goes before.
    place.ok(&["export", "db", "k", "odd.csv", "--to", "jsonl"]);
    assert!(std::fs::read_to_string(place.path("odd.csv")).unwrap().starts_with('{'));
    for args in [["export", "db", "k", "-"], ["import", "db", "k", "a.txt"]] {
        let ran = place.run(&args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("csv or --"), "{ran:?}");
    }
}

/// A limit of time ends what may be long, and an export leaves no half of a file.
#[test]
fn a_time_limit_ends_what_is_long() {
    let place = Place::new();
    let lines: String = (0..200_000)
        .map(|i| format!("{{\"key\":\"{i:06}\",\"value\":\"{}\"}}\n", "v".repeat(50)))
        .collect();
    place.feed(&["import", "db", "k", "--from", "jsonl"], lines.as_bytes());
    let commands: [&[&str]; 5] = [
        &["scan", "db", "k"],
        &["export", "db", "k", "out.jsonl"],
        &["hash", "db"],
        &["find", "db", "k", "000001"],
        &["diff", "db", "db"],
    ];
    for args in commands {
        let ran = place.run(&[args, &["--max-duration", "1ms"]].concat());
        assert_eq!(ran.code, Some(124), "{args:?} {}", ran.err);
        assert!(ran.err.contains("did not end within 1ms"), "{}", ran.err);
        assert_eq!(place.run(&[args, &["--max-duration", "10m"]].concat()).code, Some(0));
    }
    assert!(!place.path("out.jsonl.part").exists());
}

#[test]
fn foreign_csv_is_taken_as_it_is() {
    let place = Place::new();
    let input = b"value,key\r\nC:\\temp\\new,path\r\n\"say \"\"hi\"\",\nthen go\",quote\r\n";
    let ran = place.feed(&["import", "db", "k", "-", "--from", "csv", "--format", "json"], input);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(last_json(&ran.out)["records"], 2);
    assert_eq!(place.ok(&["get", "db", "k", "path", "--raw"]), "C:\\temp\\new");
    assert_eq!(place.ok(&["get", "db", "k", "quote", "--raw"]), "say \"hi\",\nthen go");
}

#[test]
fn acknowledgements_count_commits() {
    let place = Place::new();
    let lines: String =
        (0..25).map(|i| format!("{{\"key\":\"{i:03}\",\"value\":\"v{i}\"}}\n")).collect();
    let args = ["import", "db", "k", "--from", "jsonl", "--ack", "--commit-every", "10"];
    let ran = place.feed(&args, lines.as_bytes());
    let acks: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(acks.len(), 4, "{ran:?}");
    let lsn = |index: usize| acks[index][3].parse::<u64>().unwrap();
    for (index, records) in ["10", "20", "25"].into_iter().enumerate() {
        let number = (index + 1).to_string();
        assert_eq!(acks[index][..3], ["ack", number.as_str(), records]);
        assert!(index == 0 || lsn(index) > lsn(index - 1));
    }
    let buffered = [&args[..5], &["--durability", "buffered"]].concat();
    assert_eq!(place.feed(&buffered, lines.as_bytes()).code, Some(0));
    let both = [&args[..], &["--durability", "buffered"]].concat();
    assert_eq!(place.feed(&both, lines.as_bytes()).code, Some(2));
}

#[test]
fn a_bad_line_is_named_and_nothing_after_it_is_kept() {
    let good = |i: u32| format!("{{\"key\":\"{i}\",\"value\":\"v\"}}\n");
    let bad = ["nonsense\n", "{\"key\":\"x\"}\n", "{\"key\":\"x\",\"value\":\"\",\"more\":1}\n"];
    for (index, bad) in bad.iter().enumerate() {
        let place = Place::new();
        let input: String = [good(1), good(2), good(3), (*bad).to_owned(), good(5)].concat();
        let args = ["import", "db", "k", "--from", "jsonl", "--commit-every", "2"];
        let ran = place.feed(&args, input.as_bytes());
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "case {index}");
        assert!(ran.err.contains("line 4: "), "{ran:?}");
        assert!(ran.err.contains("3 records before it are imported, nothing after it"), "{ran:?}");
        assert_eq!(place.ok(&["scan", "db", "k", "--keys-only"]), "1\n2\n3\n");
        let skipping = [&args[..], &["--skip-bad", "--format", "json"]].concat();
        let ran = place.feed(&skipping, input.as_bytes());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let json = last_json(&ran.out);
        assert_eq!((&json["records"], &json["bad_lines"]), (&4.into(), &1.into()));
        assert_eq!(place.ok(&["scan", "db", "k", "--keys-only"]), "1\n2\n3\n5\n");
    }
}

#[test]
fn bad_csv_is_named() {
    let place = Place::new();
    let args = ["import", "db", "k", "--from", "csv"];
    let header = place.feed(&args, b"name,age\nada,36\n");
    assert_eq!(header.code, Some(1));
    assert!(header.err.contains("line 1: unknown column"), "{header:?}");
    assert!(!place.path("db").exists(), "a bad header makes no database");
    let row = place.feed(&args, b"key,value\na,b\nc,d,e\nf,g\n");
    assert_eq!(row.code, Some(1));
    assert!(row.err.contains("line 3: 3 fields, but the header has 2"), "{row:?}");
    assert_eq!(place.ok(&["scan", "db", "k"]), "a\tb\n");
}

#[test]
fn odd_inputs() {
    let place = Place::new();
    for (form, input) in [("jsonl", ""), ("jsonl", "\n\n"), ("csv", ""), ("csv", "key,value\n")] {
        let ran = place.feed(&["import", "db", "k", "--from", form], input.as_bytes());
        assert_eq!(ran.out, "imported 0 records into \"k\" in 0 commits\n", "{ran:?}");
    }
    // A line past the limit, and a key past the engine's: both are bad lines.
    let long = format!("{{\"key\":\"long\",\"value\":\"{}\"}}\n", "v".repeat(64 << 20));
    let wide = format!("{{\"key\":\"{}\",\"value\":\"\"}}\n", "k".repeat(70_000));
    let input = format!("{long}{wide}{{\"key\":\"last\",\"value\":\"ok\"}}\n");
    let args = ["import", "db", "k", "--from", "jsonl"];
    let ran = place.feed(&args, input.as_bytes());
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("line 1: the line is longer than 67108864 bytes"), "{}", ran.err);
    let ran = place.feed(&[&args[..], &["--skip-bad"]].concat(), input.as_bytes());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("line 2: the length of a key"), "{}", ran.err);
    assert_eq!(place.ok(&["get", "db", "k", "last"]), "ok\n");
    // A large value that is within the limit, larger than a log group.
    let large = format!("{{\"key\":\"large\",\"value\":\"{}\"}}\n", "v".repeat(20 << 20));
    assert_eq!(place.feed(&args, large.as_bytes()).code, Some(0));
    assert_eq!(place.run(&["get", "db", "k", "large", "--raw"]).raw.len(), 20 << 20);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let lines: String = (0..20_000)
        .map(|i| format!("{{\"key\":\"{i:06}\",\"value\":\"{}\"}}\n", "v".repeat(50)))
        .collect();
    place.feed(&["import", "db", "k", "--from", "jsonl"], lines.as_bytes());
    let commands: [&[&str]; 3] = [
        &["export", "db", "k", "--to", "jsonl"],
        &["export", "db", "k", "--to", "csv"],
        &["scan", "db", "k"],
    ];
    for args in commands {
        let mut process = program();
        process.args(args).current_dir(place.dir.path());
        let mut process = process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        process.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

/// A dump that LMDB's own tool wrote comes in, and what goes out comes back the same.
#[test]
fn dumps_of_lmdb_come_in_and_go_out() {
    let place = Place::new();
    for name in ["lmdb-bytevalue", "lmdb-print"] {
        let dump = format!("{}/tests/fixtures/{name}.dump", env!("CARGO_MANIFEST_DIR"));
        place.ok(&["import", "db", name, &dump, "--from", "mdb_dump"]);
        let expected = "ada\t1815\nback\\\\slash\ta\\\\b\\n\\x00c\nempty\t\n\
                        k\\xff\\xfe\t\\x00\\x01\\x02\\x7f\\x80 and text\n\
                        spaces  in it \t lead and trail \nété\tsummer\n";
        assert_eq!(place.ok(&["scan", "db", name]), expected);
        place.ok(&["export", "db", name, "out.dump", "--to", "mdb_dump"]);
        place.ok(&["import", "again", name, "out.dump", "--from", "mdb_dump"]);
        assert_eq!(place.ok(&["scan", "again", name]), expected);
    }
    let all = format!("{}/tests/fixtures/lmdb-all.dump", env!("CARGO_MANIFEST_DIR"));
    let ran = place.run(&["import", "new", "k", &all, "--from", "mdb_dump"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("several values") && !place.path("new").exists(), "{ran:?}");
}
