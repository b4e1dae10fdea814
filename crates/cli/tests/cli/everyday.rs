//! put, get, rm, scan, info, checkpoint, compact.

use crate::support::{Place, last_json};

#[test]
fn what_is_put_is_got_scanned_and_removed() {
    let place = Place::new();
    let made = place.run(&["put", "db", "users", "ada", "1815"]);
    assert_eq!((made.code, made.out.as_str()), (Some(0), ""));
    assert!(made.err.contains("made a new database in db"), "{made:?}");
    for (key, value) in [("grace", "1906"), ("alan", "1912"), ("none", ""), ("minus", "-5")] {
        let ran = place.run(&["put", "db", "users", key, value]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    }
    assert_eq!(place.ok(&["get", "db", "users", "ada"]), "1815\n");
    assert_eq!(place.ok(&["get", "db", "users", "none"]), "\n");
    assert_eq!(place.ok(&["get", "db", "users", "ada", "--raw"]), "1815");
    assert_eq!(place.ok(&["get", "--keys", "hex", "db", "users", "616461"]), "31383135\n");
    let cases: [(&[&str], &str); 8] = [
        (&[], "ada\t1815\nalan\t1912\ngrace\t1906\nminus\t-5\nnone\t\n"),
        (&["--prefix", "a"], "ada\t1815\nalan\t1912\n"),
        (&["--from", "alan", "--to", "minus"], "alan\t1912\ngrace\t1906\n"),
        (&["--reverse", "--limit", "2", "--keys-only"], "none\nminus\n"),
        (&["--prefix", "a", "--from", "b"], ""),
        (&["--prefix", "a", "--to", "al", "--keys-only"], "ada\n"),
        (&["--from", "z", "--to", "a"], ""),
        (&["--keys", "hex", "--prefix", "67"], "6772616365\t31393036\n"),
    ];
    for (args, expected) in cases {
        let args = [&["scan", "db", "users"], args].concat();
        assert_eq!(place.ok(&args), expected, "{args:?}");
    }
    place.ok(&["rm", "db", "users", "alan"]);
    let gone = place.run(&["get", "db", "users", "alan"]);
    assert_eq!((gone.code, gone.out.as_str()), (Some(3), ""));
    assert_eq!(place.run(&["rm", "db", "users", "alan"]).code, Some(3));
    assert_eq!(place.ok(&["scan", "db", "users", "--keys-only"]), "ada\ngrace\nminus\nnone\n");
}

#[test]
fn any_bytes_pass_through_arguments() {
    let place = Place::new();
    let cases = [
        ("two\\nlines\\\\", "two\\nlines\\\\", "two\nlines\\".as_bytes()),
        ("\\x00\\xff\\xFe", "\\x00\\xff\\xfe", b"\x00\xff\xfe"),
        ("\\0", "\\x00", b"\0"),
        ("", "", b""),
        ("水\\t", "水\\t", "水\t".as_bytes()),
    ];
    for (typed, shown, bytes) in cases {
        place.ok(&["put", "db", "k s", typed, typed]);
        assert_eq!(place.ok(&["get", "db", "k s", typed]), format!("{shown}\n"));
        assert_eq!(place.run(&["get", "db", "k s", shown, "--raw"]).raw, bytes);
        let line = format!("{shown}\t{shown}\n");
        assert!(place.ok(&["scan", "db", "k s"]).contains(&line), "{line}");
    }
}

#[test]
fn info_tells_what_is_there() {
    let place = Place::new();
    place.ok(&["put", "db", "users", "ada", "1815"]);
    place.ok(&["put", "db", "ships", "a", "b"]);
    place.ok(&["put", "db", "ships", "c", "d"]);
    let text = place.ok(&["info", "db"]);
    for expected in ["Format       1", "closed cleanly", "ships", "2 keys", "users", "1 key"] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json = last_json(&place.ok(&["info", "db", "--format", "json"]));
    assert_eq!(json["keyspaces"][0]["name"], "ships");
    assert_eq!(json["keyspaces"][0]["keys"], 2);
    assert_eq!((&json["clean"], &json["in_use"]), (&true.into(), &false.into()));
    assert_eq!(json["database"].as_str().unwrap().len(), 32);
}

#[test]
fn checkpoint_and_compact_keep_everything() {
    let place = Place::new();
    for key in ["a", "b"] {
        place.ok(&["put", "db", "k", key, key]);
    }
    assert!(
        last_json(&place.ok(&["info", "db", "--format", "json"]))["replay_commits"].as_u64()
            > Some(0)
    );
    assert!(place.ok(&["checkpoint", "db"]).contains("went into tables"));
    let after = last_json(&place.ok(&["info", "db", "--format", "json"]));
    assert_eq!(after["replay_commits"], 0);
    assert!(after["tables"].as_u64() > Some(0), "{after}");
    assert!(place.ok(&["checkpoint", "db"]).contains("hold everything already"));
    for key in ["c", "d"] {
        place.ok(&["put", "db", "k", key, key]);
    }
    let disk = |place: &Place| {
        last_json(&place.ok(&["info", "db", "--format", "json"]))["disk_bytes"].as_u64()
    };
    let before = disk(&place);
    assert!(place.ok(&["compact", "db"]).contains("on the disk before"));
    assert!(disk(&place) < before);
    assert_eq!(place.ok(&["scan", "db", "k"]), "a\ta\nb\tb\nc\tc\nd\td\n");
}
