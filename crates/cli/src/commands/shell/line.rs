//! A line of the prompt: its words, and the arguments that they stand for.
//!
//! Words are split as a POSIX shell does it, without variables and without patterns. A command gets the
//! directory where it wants one; `@LSN` stands for the directory at that LSN; `page` takes names of files
//! in the directory.

use crate::Cli;
use clap::CommandFactory;
use std::ffi::OsString;
use std::path::Path;

/// Commands of the prompt: those that are about one database.
const HERE: [&str; 18] = [
    "info",
    "explain",
    "verify",
    "log",
    "table",
    "page",
    "find",
    "hash",
    "diff",
    "get",
    "put",
    "rm",
    "scan",
    "count",
    "checkpoint",
    "compact",
    "import",
    "export",
];

/// The words of a line; none of an empty one or a comment.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    if line.trim_start().starts_with('#') {
        return Ok(Vec::new());
    }
    shlex::split(line).ok_or_else(|| "a quote or a backslash at the end of the line".to_owned())
}

/// The commands of the prompt.
pub fn commands() -> Vec<clap::Command> {
    let mut program = without_help(Cli::command());
    program.build();
    let here = |command: &&clap::Command| HERE.contains(&command.get_name());
    program.get_subcommands().filter(here).cloned().collect()
}

/// Its `help` subcommands would do what `--help` does.
fn without_help(command: clap::Command) -> clap::Command {
    let groups: Vec<String> =
        command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let command = command.disable_help_subcommand(true);
    groups.into_iter().fold(command, |command, name| command.mut_subcommand(name, without_help))
}

/// The command that the words begin with, and how many words that takes.
pub fn command(words: &[String]) -> Option<(clap::Command, usize)> {
    let first = words.first()?;
    let mut found = commands().into_iter().find(|command| command.get_name() == first)?;
    let mut taken = 1;
    while let Some(next) = words.get(taken).and_then(|word| found.find_subcommand(word)) {
        found = next.clone();
        taken += 1;
    }
    Some((found, taken))
}

/// What the words stand for, as arguments of this program.
pub fn arguments(dir: &Path, words: &[String]) -> Result<Vec<OsString>, String> {
    let known = command(words);
    let Some((command, taken)) = known else {
        let first = words.first().map_or("", String::as_str);
        return Err(format!("{first:?} is no command here; help lists them"));
    };
    let (head, rest) = words.split_at(taken);
    let mut arguments: Vec<OsString> = head.iter().map(OsString::from).collect();
    let asks_help = rest.iter().any(|word| word == "--help" || word == "-h");
    if command.has_subcommands() || asks_help {
        // It says itself what is missing, or what was asked for.
        arguments.extend(rest.iter().map(OsString::from));
        return Ok(arguments);
    }
    match command.get_name() {
        "page" => {
            arguments.extend(page(dir, rest));
            return Ok(arguments);
        }
        "hash" | "diff" => {
            let states = usize::from(command.get_name() == "diff") + 1;
            let named = rest.iter().filter(|word| word.starts_with('@')).count();
            arguments.extend(rest.iter().map(|word| at(dir, word)));
            if named < states && !rest.iter().any(|word| !word.starts_with(['@', '-'])) {
                // The latest state is what is left to compare with.
                arguments.push(dir.into());
            }
            return Ok(arguments);
        }
        _ => arguments.push(dir.into()),
    }
    arguments.extend(rest.iter().map(OsString::from));
    Ok(arguments)
}

/// The first word that is no option names a file of the directory.
fn page(dir: &Path, rest: &[String]) -> Vec<OsString> {
    let mut is_named = false;
    let arguments = rest.iter().map(|word| {
        if is_named || word.starts_with('-') {
            return word.into();
        }
        is_named = true;
        dir.join(word).into_os_string()
    });
    arguments.collect()
}

fn at(dir: &Path, word: &str) -> OsString {
    if !word.starts_with('@') {
        return word.into();
    }
    let mut whole = dir.as_os_str().to_owned();
    whole.push(word);
    whole
}

/// The commands and what they do, a line each.
pub fn help() -> String {
    let mut text = String::new();
    for command in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let about = about.lines().next().unwrap_or_default().to_owned();
        text.push_str(&format!("  {:<12}{}\n", command.get_name(), crate::human::cut(&about, 64)));
    }
    text.push_str("  help        this list; COMMAND --help says all of a command\n");
    text.push_str("  exit        the end (or Ctrl-D)\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<String, String> {
        let words = split(line)?;
        let arguments = arguments(Path::new("a/db"), &words)?;
        let shown: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        Ok(shown.join("|"))
    }

    #[test]
    fn lines_become_arguments() {
        let cases = [
            ("get users ada", "get|a/db|users|ada"),
            ("put users 'two words' \"\"", "put|a/db|users|two words|"),
            ("log list --since 10m", "log|list|a/db|--since|10m"),
            ("table dump 3 --limit 1", "table|dump|a/db|3|--limit|1"),
            ("page MANIFEST 0 --annotate", "page|a/db/MANIFEST|0|--annotate"),
            ("page --annotate MANIFEST 0", "page|--annotate|a/db/MANIFEST|0"),
            ("hash", "hash|a/db"),
            ("hash @17", "hash|a/db@17"),
            ("diff @17", "diff|a/db@17|a/db"),
            ("diff @17 @20", "diff|a/db@17|a/db@20"),
            ("log --help", "log|--help"),
            ("scan --help", "scan|--help"),
            ("log", "log"),
        ];
        for (line, expected) in cases {
            assert_eq!(of(line).as_deref(), Ok(expected), "{line}");
        }
        assert_eq!(commands().len(), HERE.len());
        for bad in ["get 'users", "nonsense", "shell", "restore", "drill-child"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(split("  # a comment"), Ok(vec![]));
        assert_eq!(split(""), Ok(vec![]));
    }

    #[test]
    fn help_has_every_command_and_fits() {
        let help = help();
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        for command in commands() {
            assert!(help.contains(&format!("  {} ", command.get_name())), "{help}");
        }
    }
}
