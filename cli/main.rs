//! The `adapt` command: arguments, disk, terminal and clock.
//!
//! Facts are gathered here, rounds of compiling and running are driven from here, results are shown
//! here. What a recipe means is the compiler's business, what a plan does is the engine's.

mod check;
mod diagnostics;
mod doctor;
mod explain;
mod facts;
mod generate;
mod plan;
mod progress;
mod resolve;
mod rounds;
mod run;
mod show;
mod sweep;
mod text;

use clap::{Args, Parser, Subcommand, ValueEnum};
use diagnostics::Format;
use std::path::PathBuf;
use std::process::ExitCode;

/// Adapt language models to a language or a domain, as one recipe says
///
/// A recipe names models, datasets and stages. `adapt check` finds its mistakes in milliseconds and says
/// what it needs, `adapt run` does what is not yet done, and can be killed and started again at any moment.
#[derive(Debug, Parser)]
#[command(name = "adapt", version = VERSION, max_term_width = 100)]
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
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (numerics 1)");
const _: () = assert!(::plan::NUMERICS_VERSION == 1, "VERSION names the numerics version");

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find mistakes in recipes, and predict what they need
    Check(CheckArgs),
    /// Print what a run would do: tasks, steps, tokens, parameters, memory
    Plan(PlanArgs),
    /// Run what is not yet done
    Run(RunArgs),
    /// Print a recipe with every value, and where each came from
    Show(show::Args),
    /// Explain a diagnostic, or list them all
    Explain(explain::Args),
    /// Let a model go on with a text, or answer
    Generate(GenerateArgs),
    /// Say what this machine offers, and what is missing
    Doctor,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Recipes; `-` is standard input
    #[arg(required = true, value_name = "RECIPE")]
    recipes: Vec<String>,
    /// Set a value: `dutch.lr=1e-4`, `warmup=10%`, a parameter by its name
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// How to write what was found
    #[arg(long, value_enum, default_value_t = Format::Full)]
    format: Format,
    /// Memory that a run may use, such as `8GiB`; otherwise this machine's
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Ask the hub for what `adapt.lock` lacks and pin it there; `--resolve=again` pins everything anew
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "missing")]
    resolve: Option<resolve::How>,
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// Recipe; `-` is standard input
    recipe: String,
    /// Set a value: `dutch.lr=1e-4`, `warmup=10%`, a parameter by its name
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t = plan::Format::Text)]
    format: plan::Format,
    /// Print the ops of a stage's programs, or of one of them
    #[arg(long, value_name = "STAGE[.PROGRAM]")]
    ops: Option<String>,
    /// Predict for these devices instead of this machine: `h100-80`, `4xrtx-3090`
    #[arg(long, value_name = "HARDWARE", value_parser = plan::hardware)]
    on: Option<lower::figures::time::Machine>,
    /// Say what a sweep runs, how often, and what its runs share
    #[arg(long, conflicts_with_all = ["ops", "format"])]
    sweep: bool,
    /// Folder of the run, when it is not the usual one
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name of the run, when it has one
    #[arg(long, conflicts_with = "out")]
    name: Option<String>,
    /// Memory that a run may use, such as `8GiB`; otherwise this machine's
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
}

#[derive(Debug, Clone, Args)]
struct RunArgs {
    /// Recipe; `-` is standard input
    recipe: String,
    /// Set a value: `dutch.lr=1e-4`, `warmup=10%`, a parameter by its name
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Run this stage and what it needs, nothing else
    #[arg(long, value_name = "STAGE")]
    only: Option<String>,
    /// Run this stage and those after it; those before must have run
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,
    /// Folder of the run, instead of `runs/<recipe>`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name of the run: its folder is `runs/<recipe>-<name>`
    #[arg(long, conflicts_with = "out")]
    name: Option<String>,
    /// Devices to run on
    #[arg(long, value_name = "N", default_value_t = 1)]
    devices: u32,
    /// Memory that the run may use, such as `8GiB`; otherwise this machine's
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Kernels to run on: `cpu`, or `plain`, the slow and obvious reference
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    backend: String,
    /// Threads to use, instead of one per core; results do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the plan and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on from a checkpoint of the recipe as it was before it changed
    #[arg(long)]
    fork: bool,
    /// Run once for every combination of the values that parameters list with `sweep`
    #[arg(long)]
    sweep: bool,
    /// How to write diagnostics
    #[arg(long, value_enum, default_value_t = Format::Full)]
    format: Format,
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// Model folder
    model: PathBuf,
    /// Text to go on with, or message to answer; standard input when absent
    #[arg(short, long)]
    prompt: Vec<String>,
    /// Template for messages, such as `std:chatml`; `none` goes on with the text. Otherwise the model's own, if it has one
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 128)]
    max_tokens: u64,
    /// 0 takes the most likely token each time
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Draw from the most likely tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Draw from this many most likely tokens; 0 is all
    #[arg(long, default_value_t = 0)]
    top_k: u64,
    /// Divide the score of what was said already
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads to use, instead of one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How to write diagnostics
    #[arg(long, value_enum, default_value_t = Format::Full)]
    format: Format,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    match &cli.command {
        Command::Check(args) => check::check(args, cli.quiet),
        Command::Plan(args) => check::plan(args, &cache_folder()),
        Command::Run(args) => run::run(args, &cache_folder(), cli.quiet),
        Command::Show(args) => check::show(args),
        Command::Explain(args) => explain::run(args),
        Command::Generate(args) => generate::run(args, &cache_folder()),
        Command::Doctor => {
            print!("{}", doctor::report(&cache_folder()));
            ExitCode::SUCCESS
        }
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

/// Reports wrong use of the command.
fn wrong_use(message: &str) -> ExitCode {
    anstream::eprintln!("error: {message}");
    ExitCode::from(2)
}

/// Returns whether standard output takes colour.
fn color_stdout() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Returns whether standard error takes colour.
fn color_stderr() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Reads a size: `8GiB`, `512MiB`, `4GB`, or bytes.
fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("GiB", 1u64 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("B", 1),
        ("", 1),
    ];
    for (unit, bytes) in units {
        if let Some(number) = text.strip_suffix(unit) {
            let number: f64 =
                number.trim().parse().map_err(|_| format!("`{text}` is not a size such as 8GiB"))?;
            return if number > 0.0 && number.is_finite() {
                Ok((number * bytes as f64) as u64)
            } else {
                Err("a size is greater than 0".into())
            };
        }
    }
    unreachable!("the empty unit fits every text")
}
