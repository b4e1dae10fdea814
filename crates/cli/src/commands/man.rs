//! `man`: the manual pages, of the program and of each command.
//!
//! Invariant: every page has the exit codes, and the examples of the command's `--help`.

use crate::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Print a manual page, or write all of them
///
/// Without a command: the page of the program, with the exit codes.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater man | man -l -
  highwater man log follow | man -l -
  highwater man --dir ~/.local/share/man/man1")]
pub struct Args {
    /// A command, as it is typed: log follow
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands to this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).map_err(|error| Failure::file("make", dir, &error))?;
        return write_all(&program, dir);
    }
    let mut command = &program;
    for word in &args.command {
        command = command.find_subcommand(word).ok_or_else(|| {
            Failure::usage(format!("there is no command {:?}", args.command.join(" ")))
                .next("highwater --help")
        })?;
    }
    let mut output = Output::stdout();
    output.bytes(&page(command).map_err(|error| Failure::stdout(&error))?)?;
    output.flush()
}

fn write_all(command: &Command, dir: &Path) -> Result<(), Failure> {
    let name = Man::new(command.clone()).get_filename();
    let path = dir.join(name);
    let written = page(command).and_then(|bytes| fs::write(&path, bytes));
    written.map_err(|error| Failure::file("write", &path, &error))?;
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    visible.into_iter().try_for_each(|command| write_all(command, dir))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    // The examples and the table of exit codes are set line by line, not filled.
    let (text, has_codes) = match command.get_after_help() {
        Some(help) => (help.to_string(), command.get_name() == "highwater"),
        None => (String::new(), false),
    };
    let man = Man::new(command.clone().after_help("")).manual("Highwater");
    let mut bytes = Vec::new();
    man.render_title(&mut bytes)?;
    man.render_name_section(&mut bytes)?;
    man.render_synopsis_section(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    man.render_options_section(&mut bytes)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut bytes)?;
    }
    let examples = text.split("\nExit codes:").next().unwrap_or_default();
    if !examples.is_empty() {
        unfilled(
            "EXAMPLES",
            examples.lines().filter(|line| !line.starts_with("Example")),
            &mut bytes,
        )?;
    }
    let codes = Exit::table();
    let lines: Vec<&str> = codes.lines().collect();
    debug_assert!(!has_codes || text.contains("Exit codes:"));
    unfilled("EXIT STATUS", lines.into_iter(), &mut bytes)?;
    Ok(bytes)
}

fn unfilled<'a>(
    heading: &str,
    lines: impl Iterator<Item = &'a str>,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", [heading]);
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(bytes)
}
