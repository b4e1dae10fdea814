//! The options that every command has, and what follows from them: the form of the output, of keys, of
//! colours, and whether a destructive step may go on.
//!
//! Invariants: colour and bars appear only on a terminal (or with `--color always`); nothing destructive
//! goes on without `--yes` or a typed word; a value is never printed by an inspecting command unless
//! `--show-values` asks for it.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::text::Form;
use anstream::{AutoStream, ColorChoice};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// The options of every command.
#[derive(clap::Args, Debug, Clone)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// Print text, one JSON document, or one JSON object a line
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_default_value = true
    )]
    format: Format,
    /// How keys and values are typed and printed: escaped text (the default), plain utf8, or hex
    #[arg(
        long,
        global = true,
        value_name = "FORM",
        default_value = "escaped",
        hide_default_value = true
    )]
    keys: Form,
    /// Show values in what inspects the log and the files; otherwise their lengths
    #[arg(long, global = true)]
    show_values: bool,
    /// Wait so long for a database that is in use: 500ms, 10s, 2m [default: not at all]
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Go on without asking
    #[arg(long, global = true)]
    yes: bool,
    /// Take a torn or unwitnessed tail for damage: exit code 4
    #[arg(long, global = true)]
    strict: bool,
    /// When to use colour [default: on a terminal]
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    color: Colour,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// One JSON object a line
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

/// What a command prints to and asks.
#[derive(Debug, Clone)]
pub struct Console {
    /// How results are printed.
    pub format: Format,
    /// How keys and values are typed and printed.
    pub form: Form,
    /// Values may be shown.
    pub show_values: bool,
    /// A torn tail counts as damage.
    pub strict: bool,
    /// How long to wait for a database that is in use.
    pub timeout: Option<Duration>,
    yes: bool,
    colour: bool,
}

impl Console {
    /// What the options ask for.
    pub fn new(globals: &Globals) -> Console {
        let choice = match globals.color {
            Colour::Always => ColorChoice::Always,
            Colour::Never => ColorChoice::Never,
            Colour::Auto => AutoStream::choice(&io::stdout()),
        };
        Console {
            format: globals.format,
            form: globals.keys,
            show_values: globals.show_values,
            strict: globals.strict,
            timeout: globals.timeout,
            yes: globals.yes,
            colour: choice != ColorChoice::Never,
        }
    }

    /// Whether results are for people.
    pub fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// A value as an inspecting command shows it: its length, unless values may be shown.
    pub fn value(&self, bytes: &[u8]) -> String {
        if self.show_values {
            self.form.show(bytes)
        } else {
            format!("<{}>", crate::human::plural(bytes.len() as u64, "byte"))
        }
    }

    /// Text in a style, on a terminal.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let style = style.ansi();
        format!("{style}{text}{style:#}")
    }

    /// Shows what is about to be destroyed and asks for a typed `yes`; `--yes` has answered already.
    /// `command` is the command that was typed, to be repeated with `--yes`.
    ///
    /// The failure, with [`Exit::Unconfirmed`], ends with that command.
    pub fn confirm(&self, about: &[String], command: &str) -> Result<(), Failure> {
        let mut stderr = io::stderr().lock();
        for line in about {
            let _ = writeln!(stderr, "{line}");
        }
        if self.yes {
            return Ok(());
        }
        let refused = || {
            Failure::new(Exit::Unconfirmed, "nothing was done: this has to be confirmed")
                .next(format!("{command} --yes"))
        };
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(refused());
        }
        let _ = write!(stderr, "Type yes to go on: ");
        let _ = stderr.flush();
        let mut answer = String::new();
        match io::stdin().lock().read_line(&mut answer) {
            Ok(_) if answer.trim() == "yes" => Ok(()),
            _ => Err(refused()),
        }
    }
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Heading,
    /// Good news.
    Good,
    /// Something to look at.
    Note,
    /// Bad news.
    Bad,
}

impl Style {
    fn ansi(self) -> anstyle::Style {
        use anstyle::AnsiColor::{Green, Red, Yellow};
        match self {
            Style::Heading => anstyle::Style::new().bold(),
            Style::Good => Green.on_default(),
            Style::Note => Yellow.on_default(),
            Style::Bad => Red.on_default().bold(),
        }
    }
}

/// A path as it can be typed in a shell.
pub fn typed(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word as it can be typed in a shell.
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Reads `500ms`, `10s`, `2m`, `1h`; a bare number is seconds.
pub fn duration(typed: &str) -> Result<Duration, String> {
    let digits = typed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis = match &typed[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number and ms, s, m or h: 500ms, 10s, 2m".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "write it as 500ms, 10s or 2m".to_owned())?;
    let seconds = number * f64::from(millis) / 1000.0;
    Duration::try_from_secs_f64(seconds).map_err(|_| "write it as 500ms, 10s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (typed, millis) in [("500ms", 500), ("10s", 10_000), ("2", 2000), ("1.5m", 90_000)] {
            assert_eq!(duration(typed), Ok(Duration::from_millis(millis)));
        }
        for bad in ["", "s", "-1s", "1d", "1e99h", "NaN", "é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_can_be_typed() {
        assert_eq!(typed(Path::new("./a/b-1.hwl")), "./a/b-1.hwl");
        assert_eq!(typed(Path::new("my db")), "'my db'");
        assert_eq!(typed(Path::new("it's")), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
