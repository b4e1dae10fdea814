//! Runs the program in a directory of its own.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A directory for one test.
pub struct Place {
    pub dir: tempfile::TempDir,
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub raw: Vec<u8>,
}

pub fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_highwater"));
    // Local time is the same everywhere.
    program.env("TZ", "UTC");
    program
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the program in the directory.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.feed(args, b"")
    }

    /// Runs the program with a standard input.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut process = program();
        process.args(args).current_dir(self.dir.path());
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = process.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // The program may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let output = process.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran::from(output)
    }

    /// Runs the program; it must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.out
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            raw: output.stdout,
        }
    }
}

/// The JSON document, or the object on the last line.
pub fn last_json(out: &str) -> serde_json::Value {
    let line = if out.starts_with('{') { out } else { out.lines().next_back().unwrap() };
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["version"], 1, "{line}");
    value
}

/// Random bytes of a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
