//! The `adapt` command: arguments, disk, terminal and clock.
//!
//! Facts are gathered here, rounds of compiling and running are driven from here, results are shown
//! here. What a recipe means is the compiler's business, what a plan does is the engine's. Each
//! command is a file with its arguments and its help.

// They panic where nobody listens any more; `terminal` writes instead.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod check;
mod completions;
mod devices;
mod diagnostics;
mod doctor;
mod effect;
mod explain;
mod facts;
mod fmt;
mod gallery;
mod generate;
mod import;
mod lsp;
mod machine;
mod new;
mod plan;
mod progress;
mod resolve;
mod rounds;
mod run;
mod schema;
mod show;
mod sweep;
mod terminal;
mod text;

use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use terminal::{Color, Volume};

/// Adapt language models to a language or a domain, as one recipe says
///
/// A recipe names models, datasets and stages. `adapt check` finds its mistakes in milliseconds and says
/// what it needs, `adapt run` does what is not yet done, and can be killed and started again at any moment.
#[derive(Debug, Parser)]
#[command(name = "adapt", version = VERSION, max_term_width = 100, after_help = "Start here:
  adapt new --list                       recipes to start from
  adapt new dutch --from quickstart      write one
  adapt check dutch/dutch.kdl            find its mistakes, and what it needs
  adapt run dutch/dutch.kdl              run it
  adapt explain sft                      what may stand in a recipe

`adapt help COMMAND` shows examples of a command.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Show results and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Show more of what happens
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

/// The version, and that of the numerics, which every key contains.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (numerics 6)");
const _: () = assert!(::plan::NUMERICS_VERSION == 6, "VERSION names the numerics version");

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Plan(plan::Args),
    Run(run::Args),
    Show(show::Args),
    Fmt(fmt::Args),
    Import(import::Args),
    Lsp(lsp::Args),
    New(new::Args),
    Explain(explain::Args),
    Schema(schema::Args),
    Generate(generate::Args),
    Completions(completions::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let volume = match (cli.quiet, cli.verbose) {
        (true, _) => Volume::Quiet,
        (false, true) => Volume::Verbose,
        (false, false) => Volume::Normal,
    };
    terminal::set(cli.color, volume);
    match &cli.command {
        Command::Check(args) => check::run(args, &cache_folder()),
        Command::Plan(args) => plan::run(args, &cache_folder()),
        Command::Run(args) => run::run(args, &cache_folder()),
        Command::Show(args) => show::run(args),
        Command::Fmt(args) => fmt::run(args),
        Command::Import(args) => import::run(args),
        Command::Lsp(_) => lsp::run(&cache_folder()),
        Command::New(args) => new::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Generate(args) => generate::run(args, &cache_folder()),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Doctor(args) => doctor::run(args, &cache_folder()),
        Command::Bench(args) => bench::run(args, &cache_folder()),
    }
}

/// Returns the cache: `ADAPT_CACHE`, else the platform's.
fn cache_folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").unwrap_or_else(|| PathBuf::from("."));
    set("ADAPT_CACHE").unwrap_or_else(|| match std::env::consts::OS {
        "macos" => home().join("Library/Caches/adapt"),
        _ => set("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("adapt"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("adapt {}", command.get_name());
            assert!(help.contains("Example") && help.contains(&example), "{}: {help}", command.get_name());
        }
    }
}
