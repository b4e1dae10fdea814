//! `shell`: a prompt for one database.
//!
//! A line is a command as it is typed after `highwater`, without the directory. Each runs in a process of
//! its own, so that it does exactly what it does outside, and that an interrupt or a limit of time ends the
//! command and not the prompt. Nothing holds the database between two lines: others can use it.
//!
//! Invariants: the prompt itself writes nothing to the database directory; the history lies in the user's
//! state directory.

mod complete;
mod line;

use crate::console::{Console, typed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::open;
use complete::Words;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Open a prompt with history and completion
///
/// Type commands without `highwater` and without the directory: `get users ada`,
/// `log list --since 10m`, `hash @1052760`. Tab completes commands, options and
/// keyspaces; help lists the commands; exit or Ctrl-D ends. Lines from a pipe or
/// a file are run one after the other, and the exit code is that of the last.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater shell ./db
  echo 'count users' | highwater shell ./db")]
pub struct Args {
    /// The database directory
    dir: PathBuf,
    /// Keep no history of what was typed
    #[arg(long)]
    no_history: bool,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    let _ = console;
    // A mistyped directory is found here, and not with the first line.
    drop(open::read_only(&args.dir)?);
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot find this program to run it: {error}"))
    })?;
    let shell = Shell { dir: &args.dir, program, is_terminal: io::stdin().is_terminal() };
    let code = if shell.is_terminal { shell.prompt(args)? } else { shell.script()? };
    match code {
        0 => Ok(()),
        code => Err(Failure::ended(Exit::of(code))),
    }
}

struct Shell<'a> {
    dir: &'a Path,
    program: PathBuf,
    is_terminal: bool,
}

/// What a line asks for.
enum Step {
    /// It ran, or there was nothing to run.
    Done(u8),
    /// The end.
    Leave,
}

impl Shell<'_> {
    fn prompt(&self, args: &Args) -> Result<u8, Failure> {
        // Ctrl-C is for the command that runs; at the prompt it clears the line.
        interrupt::ignore();
        let failed = |error: ReadlineError| {
            Failure::new(Exit::Failed, format!("cannot use the terminal: {error}"))
        };
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .history_ignore_space(true)
            .build();
        let mut editor: Editor<Words, FileHistory> = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Words::new(self.dir)));
        let history = history_file().filter(|_| !args.no_history);
        if let Some(path) = &history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        let name = self.dir.file_name().map_or("db".into(), |name| name.to_string_lossy());
        let prompt = format!("{}> ", crate::text::escape(name.as_bytes()));
        loop {
            match editor.readline(&prompt) {
                Ok(typed) => {
                    if matches!(self.step(&typed)?, Step::Leave) {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        if let Some(path) = &history {
            let made = path.parent().map(std::fs::create_dir_all).transpose().map(drop);
            let saved = made.map_err(ReadlineError::from).and_then(|()| editor.save_history(path));
            if let Err(error) = saved {
                let note = format!("the history was not kept in {}: {error}", path.display());
                let _ = writeln!(io::stderr(), "{note}");
            }
        }
        Ok(0)
    }

    fn script(&self) -> Result<u8, Failure> {
        let mut last = 0;
        for read in io::stdin().lock().lines() {
            let typed = read.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot read the commands: {error}"))
            })?;
            match self.step(&typed)? {
                Step::Done(code) => last = code,
                Step::Leave => break,
            }
        }
        Ok(last)
    }

    fn step(&self, typed_line: &str) -> Result<Step, Failure> {
        let say = |text: &str| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        };
        let words = match line::split(typed_line) {
            Ok(words) => words,
            Err(fault) => {
                say(&format!("highwater: {fault}"));
                return Ok(Step::Done(Exit::Usage.code()));
            }
        };
        let Some(first) = words.first() else { return Ok(Step::Done(0)) };
        if ["exit", "quit"].contains(&first.as_str()) {
            return Ok(Step::Leave);
        }
        if first == "help" && words.len() == 1 {
            print!("{}", line::help());
            return Ok(Step::Done(0));
        }
        let arguments = match line::arguments(self.dir, &words) {
            Ok(arguments) => arguments,
            Err(fault) => {
                say(&format!("highwater: {fault}"));
                return Ok(Step::Done(Exit::Usage.code()));
            }
        };
        self.run(&arguments).map(Step::Done)
    }

    fn run(&self, arguments: &[OsString]) -> Result<u8, Failure> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        if !self.is_terminal {
            // What is typed is for the prompt.
            command.stdin(Stdio::null());
        }
        let status = command.status().map_err(|error| {
            let path = typed(&self.program);
            Failure::new(Exit::Failed, format!("cannot run {path}: {error}"))
        })?;
        // Without a code it was ended by a signal.
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(130))
    }
}

/// Where the history lies, by the custom of the system.
fn history_file() -> Option<PathBuf> {
    let from =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = from("XDG_STATE_HOME")
        .or_else(|| from("LOCALAPPDATA"))
        .or_else(|| from("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("highwater").join("history"))
}
