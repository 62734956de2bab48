//! `adapt check`, `adapt plan` and `adapt show`: what can be said without running anything.

use crate::diagnostics::{self, Found};
use crate::facts::Gatherer;
use crate::resolve::Resolver;
use crate::rounds::{Compiled, Request, compile};
use crate::run::{compile_with_results, folder, sweep_of};
use crate::{CheckArgs, PlanArgs, color_stdout, show, sweep};
use engine::folder::RunFolder;
use lang::facts::Facts;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Checks recipes and prints what was found, all of it in one output.
pub fn check(args: &CheckArgs, quiet: bool) -> ExitCode {
    let mut compiled = Vec::new();
    let mut all_pinned = true;
    for recipe in &args.recipes {
        let request = match Request::read(recipe, &args.set, args.memory) {
            Ok(request) => request,
            Err(error) => return crate::wrong_use(&error),
        };
        let resolver = match args.resolve.map(Resolver::new).transpose() {
            Ok(resolver) => resolver,
            Err(error) => return crate::wrong_use(&error),
        };
        let mut gatherer = Gatherer::quick().resolving(resolver);
        compiled.push(compile(&request, &mut Facts::default(), &mut gatherer));
        if let Some(resolver) = gatherer.into_resolver() {
            all_pinned &= resolver.finish(recipe, quiet);
        }
    }
    let found: Vec<Found> = compiled.iter().map(Compiled::found).collect();
    let mut out = std::io::stdout().lock();
    let printed = diagnostics::print(&found, args.format, color_stdout(), &mut out);
    let failed = compiled.iter().any(Compiled::has_errors);
    if args.format == diagnostics::Format::Full && !failed && printed.is_ok() {
        for (recipe, compiled) in args.recipes.iter().zip(&compiled) {
            // A closed pipe is the reader's choice.
            let _ = writeln!(out, "{recipe}: {}", summary(compiled));
            if !compiled.unknown.is_empty() {
                let names = compiled.unknown.join(", ");
                let _ =
                    writeln!(out, "note: nothing is known of {names}; what depends on it was not checked");
            }
        }
    }
    if failed || !all_pinned { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says in a line what a correct recipe comes to, as far as it is known without preparing data.
fn summary(compiled: &Compiled) -> String {
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
    let memory = memory
        .filter(|(bytes, _)| *bytes > 0)
        .map_or(String::new(), |(bytes, mark)| format!("; {mark}{} of memory", crate::text::bytes(bytes)));
    format!("no errors; {}{memory}", stages.join(" → "))
}

/// Prints the plan of a recipe.
pub fn plan(args: &PlanArgs, cache: &Path) -> ExitCode {
    let request = match Request::read(&args.recipe, &args.set, args.memory) {
        Ok(request) => Request { on: args.on, ..request },
        Err(error) => return crate::wrong_use(&error),
    };
    if args.sweep {
        return plan_sweep(&request, cache);
    }
    let view = RunFolder::view(&folder(&request, args.out.as_deref(), args.name.as_deref()), cache);
    let (compiled, states, notes) =
        compile_with_results(&request, &mut Facts::default(), &mut Gatherer::full(cache), &view);
    if let Some(failed) = report_errors(&compiled) {
        return failed;
    }
    let Some(lowered) = &compiled.lowered else { return ExitCode::FAILURE };
    for note in notes {
        anstream::eprintln!("note: {note}");
    }
    match &args.ops {
        None => print!("{}", crate::plan::print(&lowered.plan, &states, args.format)),
        Some(path) => match crate::plan::ops(&lowered.plan, path) {
            Ok(text) => print!("{text}"),
            Err(message) => return crate::wrong_use(&message),
        },
    }
    ExitCode::SUCCESS
}

/// Prints what a sweep runs.
fn plan_sweep(request: &Request, cache: &Path) -> ExitCode {
    let combinations = match sweep_of(request) {
        Ok(combinations) => combinations,
        Err(Ok(message)) => return crate::wrong_use(&message),
        Err(Err(compiled)) => return report_errors(&compiled).unwrap_or(ExitCode::FAILURE),
    };
    let mut plans = Vec::new();
    let mut gatherer = Gatherer::full(cache);
    let mut facts = Facts::default();
    for combination in &combinations {
        let compiled = compile(&combination.request(request), &mut facts, &mut gatherer);
        if let Some(failed) = report_errors(&compiled) {
            return failed;
        }
        plans.extend(compiled.lowered.map(|lowered| lowered.plan));
    }
    print!("{}", sweep::text(&combinations, &plans));
    ExitCode::SUCCESS
}

/// Prints a recipe with every value filled in.
pub fn show(args: &show::Args) -> ExitCode {
    let request = match Request::read(&args.recipe, &args.sets, None) {
        Ok(request) => request,
        Err(error) => return crate::wrong_use(&error),
    };
    let compiled = compile(&request, &mut Facts::default(), &mut Gatherer::quick());
    if let Some(failed) = report_errors(&compiled) {
        return failed;
    }
    print!("{}", show::text(&compiled.checked, true));
    ExitCode::SUCCESS
}

/// Prints diagnostics to stderr; returns the exit code when one of them is an error.
pub fn report_errors(compiled: &Compiled) -> Option<ExitCode> {
    let mut out = std::io::stderr().lock();
    let format = diagnostics::Format::Full;
    // Nothing can be said when stderr is closed; the exit code still tells.
    let _ = diagnostics::print(&[compiled.found()], format, crate::color_stderr(), &mut out);
    compiled.has_errors().then_some(ExitCode::FAILURE)
}
