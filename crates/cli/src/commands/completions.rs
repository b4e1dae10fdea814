//! `completions`: what a shell needs to complete the arguments of this program.

use crate::Cli;
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory;
use clap_complete::Shell;

/// Print the completions for a shell
///
/// Commands, options and their values.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  highwater completions bash > ~/.local/share/bash-completion/completions/highwater
  highwater completions zsh > ~/.zfunc/_highwater
  highwater completions fish > ~/.config/fish/completions/highwater.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "highwater", &mut bytes);
    let mut output = Output::stdout();
    output.bytes(&bytes)?;
    output.flush()
}
