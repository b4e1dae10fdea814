//! Completion at the prompt: commands, options, values of options, and names of keyspaces.

use super::line;
use crate::open;
use clap::Arg;
use rustyline::completion::{Completer, Pair};
use rustyline::{Context, Helper, Highlighter, Hinter, Validator};
use std::path::{Path, PathBuf};

/// What can be typed.
#[derive(Debug, Helper, Hinter, Highlighter, Validator)]
pub struct Words {
    dir: PathBuf,
}

impl Words {
    /// For the database in `dir`.
    pub fn new(dir: &Path) -> Words {
        Words { dir: dir.to_path_buf() }
    }

    /// What the last of the words may become; `words` has it as it was begun, maybe empty.
    fn candidates(&self, words: &[String]) -> Vec<String> {
        let Some((begun, before)) = words.split_last() else { return Vec::new() };
        let mut found = match line::command(before) {
            None if before.is_empty() => {
                let names = line::commands().into_iter().map(|one| one.get_name().to_owned());
                names.chain(["help".to_owned(), "exit".to_owned()]).collect()
            }
            None => Vec::new(),
            Some((command, _)) if command.has_subcommands() => {
                command.get_subcommands().map(|one| one.get_name().to_owned()).collect()
            }
            Some((command, taken)) => self.arguments(&command, &before[taken..], begun),
        };
        found.retain(|word| word.starts_with(begun.as_str()) && word != begun);
        found.sort();
        found.dedup();
        found
    }

    fn arguments(&self, command: &clap::Command, before: &[String], begun: &str) -> Vec<String> {
        let options = || command.get_arguments().filter(|one| one.get_long().is_some());
        if begun.starts_with('-') {
            let shown = options().filter(|one| !one.is_hide_set());
            let names = shown.filter_map(|one| one.get_long()).map(|name| format!("--{name}"));
            return names.collect();
        }
        let takes_value = |one: &&Arg| one.get_action().takes_values();
        let option = |word: &String| {
            let name = word.strip_prefix("--")?;
            options().filter(takes_value).find(|one| one.get_long() == Some(name))
        };
        if let Some(option) = before.last().and_then(option) {
            if option.get_id() == "keyspace" {
                return self.keyspaces();
            }
            return option
                .get_possible_values()
                .iter()
                .map(|one| one.get_name().to_owned())
                .collect();
        }
        // The words that are neither options nor their values.
        let mut plain = 0;
        for (at, word) in before.iter().enumerate() {
            let is_value = at > 0 && option(&before[at - 1]).is_some();
            plain += usize::from(!word.starts_with('-') && !is_value);
        }
        // The directory, which nobody types here, is the first.
        let wanted = command.get_positionals().nth(plain + 1);
        match wanted {
            Some(one) if one.get_id() == "keyspace" => self.keyspaces(),
            _ if command.get_name() == "page" && plain == 0 => self.files(),
            _ => Vec::new(),
        }
    }

    fn keyspaces(&self) -> Vec<String> {
        let names = open::read_only(&self.dir).map(|db| db.keyspaces()).unwrap_or_default();
        names.iter().map(|name| crate::console::quoted(name)).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "LOCK").collect()
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        typed: &str,
        cursor: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = typed.get(..cursor).unwrap_or_default();
        let start = typed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        // Inside quotes nothing is completed.
        let Ok(mut words) = line::split(&typed[..start]) else { return Ok((cursor, Vec::new())) };
        words.push(typed[start..].to_owned());
        let pair = |word: String| Pair { display: word.clone(), replacement: word + " " };
        Ok((start, self.candidates(&words).into_iter().map(pair).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("db");
        let db = highwater::Database::open(&dir).unwrap();
        for name in ["users", "usage", "my ships"] {
            db.keyspace(name).unwrap();
        }
        db.close().unwrap();
        let words = Words::new(&dir);
        let of = |line: &str| {
            let begun: Vec<String> = line.split(' ').map(str::to_owned).collect();
            words.candidates(&begun).join(" ")
        };
        assert_eq!(of("sc"), "scan");
        assert_eq!(of("he"), "help");
        assert!(of("").contains("verify") && !of("").contains("drill"));
        assert_eq!(of("log f"), "follow");
        assert_eq!(of("log "), "dump follow list stat");
        assert_eq!(of("get us"), "usage users");
        assert_eq!(of("get my"), "");
        assert_eq!(of("get users "), "");
        assert_eq!(of("get --keys hex us"), "usage users");
        assert_eq!(of("log dump --keyspace us"), "usage users");
        assert_eq!(of("log dump --kind re"), "remove remove-range");
        assert_eq!(of("scan users --re"), "--reverse");
        assert!(of("scan users --").contains("--format"));
        assert!(of("page M").contains("MANIFEST"));
        assert_eq!(of("nonsense us"), "");
    }
}
