//! `adapt plan`: what a run would do, how much there is to do, and what it needs.

use crate::facts::Gatherer;
use crate::rounds::{Compiled, Request, compile};
use crate::run::{compile_with_results, folder, sweep_of};
use crate::{devices, diagnostics, sweep, terminal, text};
use engine::folder::RunFolder;
use lang::diagnostic::Diagnostic;
use lang::facts::Facts;
use lower::figures::time::Machine;
use plan::program::{Mesh, Module, Program};
use plan::task::{Figure, Plan, Task};
use plan::work::Work;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print what a run would do: tasks, steps, tokens, parameters, memory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt plan recipe.kdl
  adapt plan recipe.kdl --set chat.batch=64          with another value
  adapt plan recipe.kdl --format mermaid             a drawing; `json` for machines
  adapt plan recipe.kdl --on 4xh100-80               memory and time there
  adapt plan recipe.kdl --devices 2                  what each of two devices of this machine holds
  adapt plan recipe.kdl --sweep                      what a sweep runs, and what its runs share
  adapt plan recipe.kdl --ops chat                   every op of a stage, with its place in memory")]
pub struct Args {
    /// Recipe; `-` is standard input
    pub recipe: String,
    /// Set a value: `dutch.lr=1e-4`, `warmup=10%`, a parameter by its name
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Print the ops of a stage's programs, or of one of them, as text or JSON
    #[arg(long, value_name = "STAGE[.PROGRAM]")]
    pub ops: Option<String>,
    /// Predict for these devices instead of this machine: `h100-80`, `4xrtx-3090`
    #[arg(long, value_name = "HARDWARE", value_parser = hardware)]
    pub on: Option<Machine>,
    /// Devices to train on, as in `adapt run`: groups of threads of this machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = devices::count, conflicts_with = "on")]
    pub devices: u32,
    /// Threads that the run will be told to use, instead of one per core: time and memory follow
    #[arg(long, value_name = "N", value_parser = crate::machine::count, conflicts_with = "on")]
    pub threads: Option<usize>,
    /// Say what a sweep runs, how often, and what its runs share
    #[arg(long, conflicts_with_all = ["ops", "format"])]
    pub sweep: bool,
    /// Folder of the run, when it is not the usual one
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Name of the run, when it has one
    #[arg(long, conflicts_with = "out")]
    pub name: Option<String>,
    /// Memory that a run may use, such as `8GiB`: more than that is an error; otherwise this machine's
    #[arg(long, value_name = "SIZE", value_parser = text::size)]
    pub memory: Option<u64>,
}

/// Whether a task's result is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Done,
    /// It would run.
    Open,
    /// That depends on what an earlier task yields.
    Unknown,
}

/// How to print a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
    Dot,
    Mermaid,
}

/// Prints the plan of a recipe.
pub fn run(args: &Args, cache: &Path) -> ExitCode {
    let request = match Request::read(&args.recipe, &args.set, args.memory) {
        Ok(request) => Request { on: args.on, devices: args.devices, ..request },
        Err(error) => return terminal::wrong_use(&error),
    };
    // What `adapt run` refuses is not planned either.
    if let Err(message) = devices::divided(args.devices, args.threads) {
        return terminal::wrong_use(&message);
    }
    let mut gatherer = Gatherer::full(cache).with_threads(args.threads);
    if args.sweep {
        return plan_sweep(&request, &mut gatherer);
    }
    let view = RunFolder::view(&folder(&request, args.out.as_deref(), args.name.as_deref()), cache);
    let (compiled, states, notes) =
        compile_with_results(&request, &mut Facts::default(), &mut gatherer, &view);
    // What cannot be run yet is marked in the plan itself.
    let is_marked = |found: &&Diagnostic| found.code == "not-yet-runnable";
    let found = compiled.diagnostics.iter().filter(|found| !is_marked(found)).cloned().collect();
    let compiled = Compiled { diagnostics: found, ..compiled };
    if let Some(failed) = compiled.report(diagnostics::Format::Full) {
        return failed;
    }
    let Some(lowered) = &compiled.lowered else { return ExitCode::FAILURE };
    for note in notes.into_iter().chain(compiled.notes()) {
        terminal::note(&note);
    }
    let text = match &args.ops {
        None => print(&lowered.plan, &states, args.format),
        Some(path) => match ops(&lowered.plan, path, args.format) {
            Ok(text) => text,
            Err(message) => return terminal::wrong_use(&message),
        },
    };
    terminal::print(&text)
}

/// Prints what a sweep runs.
fn plan_sweep(request: &Request, gatherer: &mut Gatherer) -> ExitCode {
    let combinations = match sweep_of(request) {
        Ok(combinations) => combinations,
        Err(Ok(message)) => return terminal::wrong_use(&message),
        Err(Err(compiled)) => return compiled.report(diagnostics::Format::Full).unwrap_or(ExitCode::FAILURE),
    };
    let mut plans = Vec::new();
    let mut facts = Facts::default();
    for combination in &combinations {
        let compiled = compile(&combination.request(request), &mut facts, gatherer);
        if let Some(failed) = compiled.report(diagnostics::Format::Full) {
            return failed;
        }
        plans.extend(compiled.lowered.map(|lowered| lowered.plan));
    }
    let text = sweep::text(&combinations, &plans);
    terminal::print(&text)
}

/// Reads devices to predict for: a name under `std:`, and how many of them.
pub fn hardware(text: &str) -> Result<Machine, String> {
    let (count, name) = match text.split_once('x') {
        Some((count, name)) if count.parse::<u64>().is_ok_and(|count| count > 0) => (count, name),
        _ => ("1", text),
    };
    let names = || stdlib::hardware::HARDWARE.iter().map(|hardware| hardware.name);
    let Some(hardware) = stdlib::hardware::find(name.trim_start_matches("std:")) else {
        let known: Vec<&str> = names().collect();
        let near =
            lang::nearest(name, names()).map_or(String::new(), |near| format!("; did you mean `{near}`"));
        let end = if near.is_empty() { ";" } else { "?" };
        return Err(format!("no hardware is called `{name}`{near}{end} there is {}", known.join(", ")));
    };
    // The clock that a core is taken to have when it is not this machine's.
    let ghz = 3.0;
    Ok(Machine { hardware, count: count.parse().expect("it was just read"), ghz })
}

/// Returns a plan in the given format.
pub fn print(plan: &Plan, states: &BTreeMap<String, State>, format: Format) -> String {
    match format {
        Format::Text => as_text(plan, states),
        Format::Json => serde_json::to_string_pretty(plan).expect("plans are plain data") + "\n",
        Format::Dot => as_dot(plan),
        Format::Mermaid => as_mermaid(plan),
    }
}

/// Returns the module of a task, if its work has one.
pub fn module(task: &Task) -> Option<&Module> {
    match &task.work {
        Work::Train(work) => work.module.as_ref(),
        Work::Evaluate(work) => work.module.as_ref(),
        Work::Generate(work) => work.module.as_ref(),
        Work::TrainTokenizer(_) | Work::Initialize(_) | Work::Prepare(_) | Work::Declared(_) => None,
    }
}

/// Returns the ops of a stage's programs, or of one of them: `STAGE` or `STAGE.PROGRAM`.
///
/// # Errors
/// Fails in words when there is no such stage or program, its programs are not known yet, or the format shows no ops.
pub fn ops(plan: &Plan, path: &str, format: Format) -> Result<String, String> {
    let (module, wanted) = programs(plan, path)?;
    match format {
        Format::Text => Ok(ops_as_text(module, wanted)),
        Format::Json => Ok(ops_as_json(module, wanted)),
        Format::Dot | Format::Mermaid => {
            Err("ops are printed as text or JSON; a drawing is one of tasks, without `--ops`".into())
        }
    }
}

/// Finds the programs of a stage, and the name of the one that is asked for.
fn programs<'p>(plan: &'p Plan, path: &'p str) -> Result<(&'p Module, Option<&'p str>), String> {
    let (stage, wanted) = match path.split_once('.') {
        Some((stage, program)) => (stage, Some(program)),
        None => (path, None),
    };
    let task = plan.task(stage).ok_or_else(|| {
        let names: Vec<&str> =
            plan.tasks.iter().filter(|task| module(task).is_some()).map(|task| task.name.as_str()).collect();
        format!("no stage `{stage}`; stages with programs: {}", names.join(", "))
    })?;
    let module = module(task).ok_or_else(|| {
        format!("the programs of `{stage}` are not known yet: run the tasks before it, or it has none")
    })?;
    let names: Vec<&str> = module.programs.iter().map(|program| program.name.as_str()).collect();
    if let Some(wanted) = wanted
        && !names.contains(&wanted)
    {
        return Err(format!("`{stage}` has no program `{wanted}`; it has {}", names.join(", ")));
    }
    Ok((module, wanted))
}

fn is_shown(program: &Program, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| program.name == wanted)
}

/// Returns a module as it stands in a plan, with all of its values.
fn ops_as_json(module: &Module, wanted: Option<&str>) -> String {
    let mut module = module.clone();
    module.programs.retain(|program| is_shown(program, wanted));
    serde_json::to_string_pretty(&module).expect("modules are plain data") + "\n"
}

fn ops_as_text(module: &Module, wanted: Option<&str>) -> String {
    let mut out = String::new();
    for extent in &module.extents {
        let _ = writeln!(out, "extent {} ≤ {}", extent.name, text::count(extent.capacity));
    }
    for arena in &module.arenas {
        let _ = writeln!(out, "arena {} {}", arena.role.name(), text::bytes(arena.bytes));
    }
    out.push_str("marks: + adds, * overwrites in the first micro-step and adds in the others, ! updates in place; @ is the place in the arena\n");
    for program in module.programs.iter().filter(|program| is_shown(program, wanted)) {
        out.push_str(&plan::text::program(module, program));
    }
    out
}

fn as_text(plan: &Plan, states: &BTreeMap<String, State>) -> String {
    let mut rows =
        vec![["task", "does", "steps", "tokens", "memory", "key", "state"].map(str::to_owned).to_vec()];
    rows.extend(
        plan.tasks.iter().map(|task| row(task, states.get(&task.name).copied().unwrap_or(State::Unknown))),
    );
    let mut out =
        format!("plan of `{}` (plan version {}, numerics {})\n\n", plan.recipe, plan.version, plan.numerics);
    out.push_str(&text::table(&rows, &[2, 3, 4]));
    for task in plan.tasks.iter() {
        out.push_str(&details(task));
    }
    out
}

fn row(task: &Task, state: State) -> Vec<String> {
    let memory: u64 = task.figures.memory.iter().map(|(_, bytes)| bytes).sum();
    let unknown = || if trains(task) { UNKNOWN.to_owned() } else { String::new() };
    vec![
        task.name.clone(),
        does(&task.work),
        task.figures.steps.map_or_else(unknown, figure),
        task.figures.tokens.map_or_else(unknown, figure),
        if memory > 0 { format!("{}{}", tilde(task), text::bytes(memory)) } else { unknown() },
        match &task.key {
            Some(key) => key.short().to_owned(),
            None if matches!(task.work, Work::Declared(_)) => String::new(),
            None => "not known yet".into(),
        },
        match state {
            _ if matches!(task.work, Work::Declared(_)) => "not yet runnable",
            State::Done => "done",
            State::Open => "to do",
            State::Unknown => "to do, waits for earlier results",
        }
        .to_owned(),
    ]
}

/// What stands for a figure that is not known.
const UNKNOWN: &str = "unknown";

/// Whether a task is a training stage, which has all figures once they are known.
pub fn trains(task: &Task) -> bool {
    match &task.work {
        Work::Train(_) => true,
        Work::Declared(work) => stdlib::schema::top(&work.kind).is_some_and(|kind| kind.training),
        Work::TrainTokenizer(_)
        | Work::Initialize(_)
        | Work::Prepare(_)
        | Work::Evaluate(_)
        | Work::Generate(_) => false,
    }
}

/// The mark of memory that is an estimate.
pub fn tilde(task: &Task) -> &'static str {
    if task.figures.memory_is_estimate { "~" } else { "" }
}

fn figure(figure: Figure) -> String {
    let mark = if figure.estimate { "~" } else { "" };
    format!("{mark}{}", text::count(figure.value.round() as u64))
}

/// Says in words what a work does.
pub fn does(work: &Work) -> String {
    match work {
        Work::TrainTokenizer(work) => format!("trains a tokenizer of {} tokens", text::count(work.vocab)),
        Work::Initialize(_) => "makes a new model".into(),
        Work::Prepare(work) => {
            let names: Vec<&str> = work.parts.iter().map(|part| part.name.as_str()).collect();
            format!("prepares {}", names.join(", "))
        }
        Work::Train(work) => match work.objective.as_str() {
            "cpt" => "continued pretraining".into(),
            "sft" => "supervised fine-tuning".into(),
            "dpo" => "preference alignment".into(),
            other => other.to_owned(),
        },
        Work::Evaluate(_) => "evaluates".into(),
        Work::Generate(work) if work.data.is_some() => "answers the prompts of rows".into(),
        Work::Generate(work) => format!("answers {} prompts", work.prompts.len()),
        Work::Declared(work) => declared(&work.kind).to_owned(),
    }
}

/// Says in words what a work does that cannot be run yet.
fn declared(kind: &str) -> &str {
    match kind {
        "fetch" => "fetches from the hub or the web",
        "model" => "opens a model",
        "tokenizer" => "trains a tokenizer",
        "prepare" => "prepares data",
        "cpt" => "continued pretraining",
        "sft" => "supervised fine-tuning",
        "dpo" | "orpo" | "kto" | "simpo" => "preference alignment",
        "swap-tokenizer" => "gives a model another tokenizer",
        "extend-tokenizer" => "adds tokens to a model",
        "thread" => "picks conversations from trees",
        "translate" => "translates rows",
        "merge" => "merges models",
        "evaluate" => "evaluates",
        "generate" => "answers prompts",
        "export" => "writes another format",
        "publish" => "pushes to the hub",
        other => other,
    }
}

fn details(task: &Task) -> String {
    let figures = &task.figures;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "    {name:<11} {value}");
    };
    if let Some(parameters) = figures.parameters {
        let trained = match figures.trained_parameters {
            Some(trained) => format!(", {} trained", text::count(trained)),
            None if trains(task) => format!(", {UNKNOWN} how many are trained"),
            None => String::new(),
        };
        line("parameters", format!("{}{trained}", text::count(parameters)));
    } else if trains(task) {
        line("parameters", UNKNOWN.to_owned());
    }
    if let Some(loss) = &figures.loss {
        line("loss", loss.clone());
    }
    if let Some(ranks) = &figures.ranks {
        line("devices", divided(ranks.mesh));
    }
    if let Some(micro) = figures.micro_batch_size {
        let each = if figures.ranks.is_some() { ", on each device" } else { "" };
        line("micro-step", format!("{micro} sequences at most{each}"));
    }
    if let Some(flops) = figures.flops_per_token {
        let total = figures
            .tokens
            .map_or(String::new(), |tokens| format!(", {}FLOP in all", text::short(flops * tokens.value)));
        line("compute", format!("{}FLOP per token{total}", text::short(flops)));
    }
    if let Some(seconds) = figures.seconds {
        let mark = match (figures.seconds_at_most, seconds.estimate) {
            (true, _) => "at most ~",
            (false, true) => "~",
            (false, false) => "",
        };
        let place = figures
            .devices
            .as_ref()
            .map_or("on this machine".into(), |(name, count)| text::on_devices(name, *count));
        line("time", format!("{mark}{} {place}", text::seconds(seconds.value)));
    }
    if !figures.memory.is_empty() {
        let on = figures.devices.as_ref();
        let each =
            if on.is_some_and(|(name, count)| text::has_own(name, *count)) { " per device" } else { "" };
        line("memory", format!("{}{}{each}", tilde(task), itemised(&figures.memory)));
    } else if trains(task) {
        line("memory", UNKNOWN.to_owned());
    }
    // On other hardware memory is that of a device already.
    if let Some(ranks) = figures.ranks.as_ref().filter(|_| figures.devices.is_none()) {
        line("per device", format!("{}{}", tilde(task), itemised(&ranks.memory)));
    }
    if !figures.mapped.is_empty() {
        line("mapped", format!("{}, which the system takes back at need", sizes(&figures.mapped)));
    }
    if out.is_empty() { out } else { format!("\n  {}\n{out}", task.name) }
}

/// Lists sizes by name, and their sum.
fn itemised(parts: &[(String, u64)]) -> String {
    let sum = parts.iter().map(|(_, bytes)| bytes).sum();
    format!("{}; together {}", sizes(parts), text::bytes(sum))
}

/// Lists sizes by name.
fn sizes(parts: &[(String, u64)]) -> String {
    let parts: Vec<String> =
        parts.iter().map(|(name, bytes)| format!("{name} {}", text::bytes(*bytes))).collect();
    parts.join(", ")
}

/// Says what each rank of this machine holds.
fn divided(mesh: Mesh) -> String {
    let part =
        if mesh.shards > 1 { "a part of weights, gradients and optimizer state" } else { "everything" };
    format!("{}, each with {part}", mesh.ranks())
}

fn as_dot(plan: &Plan) -> String {
    let mut out = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n");
    for task in &plan.tasks {
        let _ =
            writeln!(out, "  {:?} [label={:?}];", task.name, format!("{}\n{}", task.name, does(&task.work)));
        for input in &task.inputs {
            let _ = writeln!(out, "  {input:?} -> {:?};", task.name);
        }
    }
    out + "}\n"
}

fn as_mermaid(plan: &Plan) -> String {
    let id = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut out = String::from("flowchart LR\n");
    for task in &plan.tasks {
        let _ = writeln!(out, "  {}[\"{}<br/>{}\"]", id(&task.name), task.name, does(&task.work));
        for input in &task.inputs {
            let _ = writeln!(out, "  {} --> {}", id(input), id(&task.name));
        }
    }
    out
}
