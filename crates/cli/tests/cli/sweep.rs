//! Many damaged databases through the commands that people run on a bad day: no panic, no hang, nothing
//! changed, exit codes as documented, and the commands agree with one another and with an open.

use crate::fixture::{self, End};
use crate::support::{Place, Ran, last_json, noise, program};
use highwater::Database;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Databases that are damaged; `HIGHWATER_SWEEP=1000` for more.
fn count() -> u64 {
    let typed = std::env::var("HIGHWATER_SWEEP").ok();
    typed.map_or(60, |typed| typed.parse().expect("HIGHWATER_SWEEP is a number of databases"))
}

/// A command that takes so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(dir: &Path) -> Files {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// Damages one file; says how. Every kind of file in turn, every kind of damage at random.
fn damage(files: &Files, seed: u64) -> String {
    let mut random = noise(seed, 64).into_iter();
    let mut below = |limit: usize| {
        let word: u64 = (0..4).fold(0, |word, _| word << 8 | u64::from(random.next().unwrap()));
        usize::try_from(word).unwrap() % limit.max(1)
    };
    let kinds = ["MANIFEST", "log-", "table-", "RESERVE", "LOCK"];
    // Log and tables have the most to lose.
    let kind = kinds[[0, 1, 1, 1, 2, 2, 2, 3, 4][usize::try_from(seed).unwrap() % 9]];
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let of_kind: Vec<&PathBuf> = files.keys().filter(|path| name(path).starts_with(kind)).collect();
    let path = of_kind[below(of_kind.len())];
    let mut bytes = files[path].clone();
    let at = below(bytes.len());
    let end = (at + 1 + below(4096)).min(bytes.len());
    let what = match below(8) {
        0 | 1 => {
            bytes[at] ^= 1 << below(8);
            format!("a bit of byte {at} turned")
        }
        2 => {
            bytes[at..end].fill(0);
            format!("zeros in {at}..{end}")
        }
        3 => {
            let garbage = noise(seed ^ 0xff, end - at);
            bytes[at..end].copy_from_slice(&garbage);
            format!("garbage in {at}..{end}")
        }
        4 => {
            bytes.truncate(at);
            format!("cut to {at} bytes")
        }
        5 => {
            bytes.extend(noise(seed, 512));
            "512 bytes more".to_owned()
        }
        6 => {
            let other = of_kind[below(of_kind.len())];
            bytes.clone_from(&files[other]);
            format!("replaced by {}", name(other))
        }
        _ => {
            std::fs::remove_file(path).unwrap();
            return format!("seed {seed}: {} removed", name(path));
        }
    };
    std::fs::write(path, bytes).unwrap();
    format!("seed {seed}: {}: {what}", name(path))
}

/// Runs a command; a panic, a signal, a hang or a change of a file is a failure.
fn run(place: &Place, args: &[&str], case: &str, before: &Files) -> Ran {
    let mut process = program();
    process.args(args).current_dir(place.dir.path()).stdin(Stdio::null());
    let started = Instant::now();
    let ran = Ran::from(process.output().unwrap());
    assert!(started.elapsed() < PATIENCE, "{case}: {args:?} took {:?}", started.elapsed());
    let code = ran.code.unwrap_or(-1);
    assert!(!ran.err.contains("panicked") && (0..=12).contains(&code), "{case}: {args:?} {ran:?}");
    assert_ne!(code, 2, "{case}: {args:?} {ran:?}");
    assert!(files(&place.path("db")) == *before, "{case}: {args:?} changed a file");
    ran
}

/// What an open for reading shows: every entry, or the error.
fn content(dir: &Path) -> highwater::Result<String> {
    let db = Database::builder().read_only(true).open(dir)?;
    Ok(db.snapshot().content_hash()?.to_string())
}

/// A salvage into a new directory: what comes of it opens and is sound, and no loss is told where `verify`
/// found none.
fn salvage(place: &Place, case: &str, before: &Files, verified: i32) {
    let _ = std::fs::remove_dir_all(place.path("new"));
    let ran = run(place, &["salvage", "db", "--to", "new"], case, before);
    match ran.code.unwrap() {
        6 => {}
        7 => assert!(![0, 4].contains(&verified), "{case}: {ran:?}"),
        // Of a manifest alone, or of another format, nothing is to be had.
        10 | 12 => return assert!(!place.path("new").exists(), "{case}: {ran:?}"),
        _ => panic!("{case}: {ran:?}"),
    }
    let sound = Ran::from(
        program().args(["verify", "new"]).current_dir(place.dir.path()).output().unwrap(),
    );
    assert_eq!(sound.code, Some(0), "{case}: {sound:?}");
    Database::open(place.path("new")).unwrap_or_else(|e| panic!("{case}: {e}"));
}

#[test]
fn commands_agree_on_damaged_databases() {
    let mut ends: BTreeMap<i32, u64> = BTreeMap::new();
    let made = [End::Clean, End::Killed].map(|end| {
        let place = Place::new();
        fixture::make(&place.path("db"), end);
        let expected = content(&place.path("db")).unwrap();
        let sound = files(&place.path("db"));
        (place, expected, sound)
    });
    for seed in 0..count() {
        let (place, expected, sound) = &made[usize::try_from(seed / 9 % 2).unwrap()];
        let dir = place.path("db");
        let case = damage(sound, seed);
        let before = files(&dir);
        let shown = content(&dir);

        let explain = run(place, &["explain", "db"], &case, &before);
        // What an owner's open does, tried on a copy.
        let copy = place.path("copy");
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).unwrap();
        for (path, bytes) in &before {
            std::fs::write(copy.join(path.file_name().unwrap()), bytes).unwrap();
        }
        let opens = Database::open(&copy);
        // The forecast does not read the tables: that is for verify.
        let may_fail = case.contains("table-");
        let agrees = opens.is_ok() == (explain.code == Some(0)) || (may_fail && opens.is_err());
        assert!(agrees, "{case}: {} {opens:?}", explain.out);
        if opens.is_err() {
            // Its own process id in a file that is a lock is no change.
            for (path, bytes) in before.iter().filter(|(path, _)| {
                !path.ends_with("LOCK")
                    || before[*path].iter().any(|b| !b.is_ascii_digit() && *b > 10)
            }) {
                let after = std::fs::read(copy.join(path.file_name().unwrap())).unwrap();
                assert!(after == *bytes, "{case}: a refused open changed {}", path.display());
            }
        }
        drop(opens);

        let verify = run(place, &["verify", "db", "--format", "json"], &case, &before);
        let code = verify.code.unwrap();
        *ends.entry(code).or_default() += 1;
        match code {
            0 => {
                let shown = shown.unwrap_or_else(|e| panic!("{case}: verify says sound: {e}"));
                // Behind the last witness of a killed process a damage may pass for a torn write.
                let json = last_json(&verify.out);
                let may_differ = json["open"]["unwitnessed_tail"] == true;
                assert!(shown == *expected || may_differ, "{case}: sound, but {shown}");
            }
            4 | 5 => {
                let findings = last_json(&verify.out)["findings"].clone();
                let first = &findings[0];
                assert!(first["offset"].is_u64(), "{case}: {findings}");
                let file = first["file"].as_str().unwrap();
                assert!(file.starts_with("db/"), "{case}: {findings}");
                assert_eq!(
                    code == 4,
                    findings.as_array().unwrap().iter().all(|one| one["loss"] == "none")
                );
            }
            // No manifest and nothing that points to one; or a version that it cannot know.
            10 | 12 => assert!(shown.is_err(), "{case}: {verify:?}"),
            _ => panic!("{case}: {verify:?}"),
        }
        for args in [
            ["log", "list", "db"].as_slice(),
            &["log", "stat", "db"],
            &["table", "list", "db"],
            &["table", "dump", "db", "1"],
            &["find", "db", "users", "ada"],
            &["hash", "db"],
            &["salvage", "db", "--dry-run"],
            &["repair", "plan", "db"],
        ] {
            run(place, args, &case, &before);
        }
        salvage(place, &case, &before, code);
        for (path, bytes) in &before {
            if sound.get(path).is_none_or(|was| was != bytes) && !bytes.is_empty() {
                let shown = path.display().to_string();
                let at = (seed.wrapping_mul(7919) % bytes.len() as u64).to_string();
                run(place, &["page", &shown, &at, "--annotate"], &case, &before);
            }
        }
        for (path, bytes) in sound {
            if before.get(path) != Some(bytes) {
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
    println!("{} databases; verify ended with {ends:?}", count());
    assert!(ends.contains_key(&0) && ends.contains_key(&5), "{ends:?}");
}
