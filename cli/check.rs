//! `adapt check`: mistakes of recipes, and what the recipes come to, without running anything.

use crate::diagnostics::{self, Format, Found};
use crate::facts::Gatherer;
use crate::resolve::{How, Resolver};
use crate::rounds::{Compiled, Request, compile};
use crate::terminal::{self, Volume};
use crate::text;
use lang::facts::Facts;
use lower::figures::time::Machine;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Find mistakes in recipes, and predict what they need
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt check recipe.kdl
  adapt check recipes/*.kdl                          several at once, one output
  adapt check recipe.kdl --set chat.lr=1e-4          as if the recipe said so
  adapt check - < recipe.kdl                         from standard input
  adapt check recipe.kdl --format sarif > a.sarif    for code scanning; `github` for annotations
  adapt check recipe.kdl --resolve                   pin its remote sources in adapt.lock
  adapt check recipe.kdl --on 4xh100-80              an error when it cannot fit there

Exit code 0 without errors, 1 with errors or when `--resolve` could not have everything,
2 when a recipe is not there.
`adapt explain CODE` explains what is found.")]
pub struct Args {
    /// Recipes; `-` is standard input
    #[arg(required = true, value_name = "RECIPE")]
    pub recipes: Vec<String>,
    /// Set a value: `dutch.lr=1e-4`, `warmup=10%`, a parameter by its name
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// How to write what was found
    #[arg(long, value_enum, default_value_t = Format::Full)]
    pub format: Format,
    /// Memory that a run may use, such as `8GiB`: more than that is an error; otherwise it is only predicted
    #[arg(long, value_name = "SIZE", value_parser = text::size)]
    pub memory: Option<u64>,
    /// Predict for these devices instead of this machine, and refuse what they cannot hold: `h100-80`, `4xrtx-3090`
    #[arg(long, value_name = "HARDWARE", value_parser = crate::plan::hardware)]
    pub on: Option<Machine>,
    /// Ask the hub for what `adapt.lock` lacks and pin it there; `--resolve=again` pins all sources anew
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "missing"
    )]
    pub resolve: Option<How>,
}

/// Checks recipes and prints what was found, all of it in one output.
pub fn run(args: &Args, cache: &Path) -> ExitCode {
    if args.recipes.iter().filter(|recipe| *recipe == "-").count() > 1 {
        return terminal::wrong_use("standard input can be read once; give `-` once");
    }
    let mut compiled = Vec::new();
    let mut all_pinned = true;
    for recipe in &args.recipes {
        let request = match Request::read(recipe, &args.set, args.memory) {
            Ok(request) => Request { on: args.on, ..request },
            Err(error) => return terminal::wrong_use(&error),
        };
        terminal::detail(|| format!("checks {recipe}"));
        let resolver = match args.resolve.map(Resolver::new).transpose() {
            Ok(resolver) => resolver,
            Err(error) => return terminal::wrong_use(&error),
        };
        let mut gatherer = Gatherer::quick().remembering(cache).resolving(resolver);
        compiled.push(compile(&request, &mut Facts::default(), &mut gatherer));
        if let Some(resolver) = gatherer.into_resolver() {
            all_pinned &= resolver.finish(recipe);
        }
    }
    let found: Vec<Found> = compiled.iter().map(Compiled::found).collect();
    let mut out = std::io::stdout().lock();
    let printed = diagnostics::print(&found, args.format, terminal::color_stdout(), &mut out);
    let failed = compiled.iter().any(Compiled::has_errors);
    let is_full = args.format == Format::Full && terminal::volume() != Volume::Quiet;
    if is_full && !failed && printed.is_ok() {
        for (recipe, compiled) in args.recipes.iter().zip(&compiled) {
            // A closed pipe is the reader's choice.
            let _ = writeln!(out, "{recipe}: {}", summary(compiled, args.on));
            for note in compiled.notes() {
                let _ = writeln!(out, "note: {note}");
            }
        }
    }
    if failed || !all_pinned { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says how long the stages take; nothing when that is not known of one that trains.
fn time(tasks: &[plan::task::Task], on: Option<Machine>) -> String {
    let trains = tasks.iter().filter(|task| crate::plan::trains(task));
    let Some(seconds) = trains.map(|task| Some(task.figures.seconds?.value)).sum::<Option<f64>>() else {
        return String::new();
    };
    let most = if tasks.iter().any(|task| task.figures.seconds_at_most) { "at most " } else { "" };
    let place = on.map_or("on this machine".to_owned(), |on| text::on_devices(on.hardware.name, on.count));
    if seconds > 0.0 { format!("; {most}~{} {place}", text::seconds(seconds)) } else { String::new() }
}

/// Says in a line what a correct recipe comes to, as far as it is known without preparing data.
fn summary(compiled: &Compiled, on: Option<Machine>) -> String {
    let tasks = compiled.lowered.as_ref().map(|lowered| lowered.plan.tasks.as_slice()).unwrap_or_default();
    let memory = tasks
        .iter()
        .map(|task| {
            (task.figures.memory.iter().map(|(_, bytes)| bytes).sum::<u64>(), crate::plan::tilde(task))
        })
        .max();
    let stages: Vec<String> = tasks
        .iter()
        .filter(|task| !task.name.contains(':'))
        .map(|task| match task.figures.steps {
            Some(steps) if steps.estimate => format!("{} (~{} steps)", task.name, steps.value),
            Some(steps) => format!("{} ({} steps)", task.name, steps.value),
            None => task.name.clone(),
        })
        .collect();
    let each = if on.is_some_and(|on| text::has_own(on.hardware.name, on.count)) { " on each" } else { "" };
    let memory = memory
        .filter(|(bytes, _)| *bytes > 0)
        .map_or(String::new(), |(bytes, mark)| format!("; {mark}{} of memory{each}", text::bytes(bytes)));
    format!("no errors; {}{memory}{}", stages.join(" → "), time(tasks, on))
}
