//! `adapt completions SHELL`: completion of commands and options for a shell.

use crate::terminal;
use clap_complete::Shell;
use std::io::Write;
use std::process::ExitCode;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt completions bash > ~/.local/share/bash-completion/completions/adapt
  adapt completions zsh > ~/.zfunc/_adapt        with `fpath+=~/.zfunc` before `compinit` in .zshrc
  adapt completions fish > ~/.config/fish/completions/adapt.fish")]
pub struct Args {
    /// Shell to print them for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, mut command: clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "adapt", &mut script);
    terminal::written(std::io::stdout().write_all(&script))
}
