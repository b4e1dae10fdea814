//! `docs/operations.md` is a transcript: every command in it is run, and its output must be what the page
//! says.
//!
//! A section (`## …`) is one directory and one shell. `<!-- prepare` holds commands that the reader is not
//! shown; a fence ```` ```console ```` holds commands (`$ …`) and their output. `<!-- disk 3m -->` gives the
//! section a disk of its own of that size (Linux, where user namespaces are allowed; else it is left out,
//! and said so).
//!
//! What differs from run to run is written as a constant: ids, hashes, plans, times, processes.
//! `HIGHWATER_WRITE_DOCS=1 cargo test -p highwater-cli operations` writes the page anew.

use crate::support::{Place, program};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
const PLAN: &str = "1f2e3d4c5b6a7988";
const TIME: &str = "2026-11-21 09:30:00+00:00";
/// In columns, whose heading says which zone.
const COLUMN: &str = "2026-11-21 09:30:00";

/// Lines of the page, and whether they are to be run.
struct Section {
    first: usize,
    lines: Vec<String>,
}

#[test]
fn the_transcript_of_operations_is_true() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in page.lines().enumerate() {
        if number == 0 || line.starts_with("## ") {
            sections.push(Section { first: number + 1, lines: Vec::new() });
        }
        sections.last_mut().unwrap().lines.push(line.to_owned());
    }
    let mut written = String::new();
    let mut wrong = Vec::new();
    let mut commands = 0;
    for section in &sections {
        commands += section.lines.iter().filter(|line| line.starts_with("$ ")).count();
        let lines = settled(section);
        for (at, line) in lines.iter().enumerate() {
            if section.lines.get(at) != Some(line) {
                wrong.push(format!("line {}: {line}", section.first + at));
            }
            written.push_str(line);
            written.push('\n');
        }
        if lines.len() != section.lines.len() {
            wrong.push(format!("{}: {} lines", section.lines[0], lines.len()));
        }
    }
    assert!(commands > 25, "only {commands} commands were found");
    if std::env::var_os("HIGHWATER_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, written).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "docs/operations.md is not what happens:\n{}", wrong.join("\n"));
}

/// The lines of a section as they should be.
///
/// An engine that finds nothing to do for 100 ms vouches for its last commits with a group in the log, and
/// where the groups lie is part of what the page shows. A machine that stops for so long in the middle of
/// a command gives other lines than one that does not: a section that differs is run again, a few times.
fn settled(section: &Section) -> Vec<String> {
    let mut lines = section.lines.clone();
    for _ in 0..5 {
        match run(section) {
            Some(ran) => lines = ran,
            None => return section.lines.clone(),
        }
        if lines == section.lines {
            break;
        }
    }
    lines
}

/// Runs a section; gives its lines as they should be. `None`: it cannot be run here.
fn run(section: &Section) -> Option<Vec<String>> {
    let disk = section.lines.iter().find_map(|line| line.strip_prefix("<!-- disk "));
    let disk = disk.map(|size| size.trim_end_matches(" -->").to_owned());
    if !section.lines.iter().any(|line| line.starts_with("$ ")) {
        return Some(section.lines.clone());
    }
    if disk.is_some() && !has_namespaces() {
        eprintln!("{}: left out, this system allows no disk of its own", section.lines[0]);
        return None;
    }
    let place = Place::new();
    let mut shell = Shell::start(place.dir.path(), disk.as_deref());
    let mut out = Vec::new();
    let mut inside = "";
    for line in &section.lines {
        match (inside, line.as_str()) {
            ("", "<!-- prepare") => inside = "prepare",
            ("prepare", "-->") | ("console", "```") => inside = "",
            ("", "```console") => inside = "console",
            ("prepare", command) => drop(shell.run(command)),
            ("console", line) => {
                let Some(command) = line.strip_prefix("$ ") else { continue };
                out.push(line.to_owned());
                for line in shell.run(command) {
                    // A message is one line, so that it can be searched for; a terminal breaks it.
                    let fits = line.chars().count() <= 80 || line.starts_with("highwater: ");
                    assert!(fits, "{command}: {line}");
                    out.push(line);
                }
                continue;
            }
            _ => {}
        }
        out.push(line.clone());
    }
    Some(out)
}

fn has_namespaces() -> bool {
    let tried = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    code: String,
    /// Ids and hashes in the order in which they came up.
    ids: Vec<String>,
    plan: String,
}

impl Shell {
    fn start(dir: &Path, disk: Option<&str>) -> Shell {
        let mut command = match disk {
            Some(_) => Command::new("unshare"),
            None => Command::new("sh"),
        };
        if disk.is_some() {
            command.args(["-rm", "sh"]);
        }
        let own = program().get_program().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut paths = vec![Path::new(&own).parent().unwrap().to_path_buf()];
        paths.extend(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths).unwrap()).env("TZ", "UTC");
        command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (code, ids, plan) = ("0".to_owned(), Vec::new(), String::new());
        let mut shell = Shell { process, input, output, code, ids, plan };
        shell.run("exec 2>&1; set +m");
        if let Some(size) = disk {
            shell.run(&format!("mkdir disk; mount -t tmpfs -o size={size} tmpfs disk; cd disk"));
        }
        shell
    }

    /// Runs a command; gives its output with constants in place of what changes.
    fn run(&mut self, command: &str) -> Vec<String> {
        let command = command.replace(PLAN, &self.plan);
        let code = &self.code;
        writeln!(self.input, "(exit {code})\n{command}\nprintf '\\n@@@%s\\n' $?").unwrap();
        self.input.flush().unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the shell ended: {command}");
            let line = line.trim_end_matches('\n').to_owned();
            if let Some(code) = line.strip_prefix("@@@") {
                self.code = code.to_owned();
                break;
            }
            lines.push(self.settle(&line));
        }
        // The line break before the mark.
        assert_eq!(lines.pop().as_deref(), Some(""), "{command}: {lines:?}");
        lines
    }

    fn settle(&mut self, line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let before = out.chars().next_back();
            let starts = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-');
            let hex = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
            if starts && hex == 32 {
                let at = self.ids.iter().position(|id| *id == rest[..32]).unwrap_or_else(|| {
                    self.ids.push(rest[..32].to_owned());
                    self.ids.len() - 1
                });
                out.push_str(&format!("{:032x}", (at as u128 + 1) << 96));
                rest = &rest[32..];
            } else if starts && hex == 16 {
                self.plan = rest[..16].to_owned();
                out.push_str(PLAN);
                rest = &rest[16..];
            } else if starts
                && let Some(time) = [TIME, COLUMN].into_iter().find(|t| is_time(rest, t))
            {
                out.push_str(time);
                rest = &rest[time.len()..];
            } else if let Some(after) = rest.strip_prefix("process ") {
                out.push_str("process 4711");
                rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            } else {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        out.trim_end().to_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `2026-11-21 15:20:30+00:00`, or what `like` is.
fn is_time(text: &str, like: &str) -> bool {
    text.is_char_boundary(like.len().min(text.len()))
        && text.len() >= like.len()
        && like.chars().zip(text.chars()).all(|(one, two)| match one.is_ascii_digit() {
            true => two.is_ascii_digit(),
            false => one == two,
        })
}
