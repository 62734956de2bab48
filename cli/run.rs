//! `adapt run`: drives rounds of compiling and running until nothing is left to do.

use crate::devices::{self, Devices};
use crate::diagnostics::{self, Format, Found};
use crate::facts::{Gatherer, tokenizer_of};
use crate::plan::State;
use crate::progress::Progress;
use crate::rounds::{Compiled, Request, compile};
use crate::terminal::{self, Volume};
use crate::{show, sweep, text};
use engine::error::EngineError;
use engine::folder::{Done, RunFolder};
use engine::record::Record;
use engine::run::{Options, Outcome, run_task_on};
use lang::capability::Missing;
use lang::diagnostic::Diagnostic;
use lang::facts::{Facts, PartFact, PreparedFact};
use lang::recipe::{Planned, Precision, Stage, Train};
use lang::source::{SourceId, Span};
use plan::task::{Plan, Task};
use plan::work::{Prepared, PreparedSide, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Run what is not yet done
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  adapt run recipe.kdl                               results in runs/recipe
  adapt run recipe.kdl --set chat.lr=1e-4 --name hot results in runs/recipe-hot
  adapt run recipe.kdl --only dutch                  one stage, and what it needs
  adapt run recipe.kdl --sweep                       once for every combination of swept values
  adapt run recipe.kdl --devices 2                   training divided over two groups of threads
  adapt run recipe.kdl --dry-run                     print the plan and run nothing

A run may be killed at any moment; the same command goes on where it was.
Exit code 75 when it was asked to stop and wrote a checkpoint.")]
pub struct Args {
    /// Recipe; `-` is standard input
    pub recipe: String,
    /// Set a value: `dutch.lr=1e-4`, `warmup=10%`, a parameter by its name
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Run this stage and what it needs, nothing else
    #[arg(long, value_name = "STAGE")]
    pub only: Option<String>,
    /// Run this stage and those after it; those before must have run
    #[arg(long, value_name = "STAGE")]
    pub from: Option<String>,
    /// Folder of the run, instead of `runs/<recipe>`
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Name of the run: its folder is `runs/<recipe>-<name>`
    #[arg(long, conflicts_with = "out")]
    pub name: Option<String>,
    /// Devices to train on: here groups of threads, among which memory and cores are divided
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = devices::count)]
    pub devices: u32,
    /// Memory that the run may use, such as `8GiB`; otherwise this machine's
    #[arg(long, value_name = "SIZE", value_parser = text::size)]
    pub memory: Option<u64>,
    /// Kernels to run on: `cpu`, or `plain`, the slow and obvious reference
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub backend: String,
    /// Threads to use, instead of one per core; results do not depend on it
    #[arg(long, value_name = "N", value_parser = crate::machine::count)]
    pub threads: Option<usize>,
    /// Print the plan and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go on from a checkpoint of the recipe as it was before it changed
    #[arg(long)]
    pub fork: bool,
    /// Run once for every combination of the values that parameters list with `sweep`
    #[arg(long)]
    pub sweep: bool,
    /// How to write diagnostics
    #[arg(long, value_enum, default_value_t = Format::Full)]
    pub format: Format,
}

/// Exit code of a run that stopped on request with a checkpoint written.
const STOPPED: u8 = 75;

/// File in a run folder that tells which recipe file it belongs to.
const OWNER: &str = ".recipe";

/// Why a run ended early.
enum Failure {
    /// Diagnostics of the recipe; already in the compilation.
    Recipe(Box<Compiled>),
    Engine(Box<EngineError>, Box<Compiled>),
    /// Wrong use of the command or of the folder, in words.
    Use(String, u8),
    /// In which task, and what is kept of it, in words.
    Stopped(String, &'static str),
}

/// Runs a recipe.
pub fn run(args: &Args, cache: &Path) -> ExitCode {
    let request = match Request::read(&args.recipe, &args.set, args.memory) {
        Ok(request) => Request { runs: true, devices: args.devices, ..request },
        Err(error) => return terminal::wrong_use(&error),
    };
    let driven = match args.sweep {
        true => sweep(args, &request, cache),
        false => drive(args, &request, cache, &[]),
    };
    match driven {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Recipe(compiled)) => {
            print_found(&compiled.diagnostics, &compiled, args);
            ExitCode::FAILURE
        }
        Err(Failure::Engine(error, compiled)) => {
            let diagnostic = from_engine(&error, &compiled);
            print_found(&[diagnostic], &compiled, args);
            ExitCode::FAILURE
        }
        Err(Failure::Use(message, code)) => {
            terminal::say(format_args!("error: {message}"));
            ExitCode::from(code)
        }
        Err(Failure::Stopped(stage, kept)) => {
            terminal::say(format_args!("stopped in `{stage}` {kept}; run the same command again to go on"));
            ExitCode::from(STOPPED)
        }
    }
}

/// Runs every combination of the values that parameters list; what several have in common runs once.
fn sweep(args: &Args, request: &Request, cache: &Path) -> Result<(), Failure> {
    let combinations = sweep_of(request).map_err(|failure| match failure {
        Ok(message) => Failure::Use(message, 2),
        Err(compiled) => Failure::Recipe(compiled),
    })?;
    let base = folder(request, args.out.as_deref(), args.name.as_deref());
    let place = |combination: &sweep::Combination| {
        let stem = base.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        base.with_file_name(format!("{stem}-{}", combination.name()))
    };
    let places: Vec<PathBuf> = combinations.iter().map(place).collect();
    for (at, combination) in combinations.iter().enumerate() {
        if terminal::volume() != Volume::Quiet {
            terminal::say(format_args!(
                "run {} of {}: {}",
                at + 1,
                combinations.len(),
                combination.values.join(", ")
            ));
        }
        let args = Args { out: Some(places[at].clone()), name: None, ..args.clone() };
        drive(&args, &combination.request(request), cache, &places)?;
    }
    Ok(())
}

/// Returns the combinations of a recipe's sweep.
///
/// # Errors
/// The compilation when the recipe has errors, else why there is nothing to sweep.
pub fn sweep_of(request: &Request) -> Result<Vec<sweep::Combination>, Result<String, Box<Compiled>>> {
    let compiled = compile(request, &mut Facts::default(), &mut Gatherer::quick());
    if compiled.has_errors() {
        return Err(Err(Box::new(compiled)));
    }
    sweep::combinations(&compiled.checked.sweeps).map_err(Ok)
}

/// Returns where a run keeps its results.
pub fn folder(request: &Request, out: Option<&Path>, name: Option<&str>) -> PathBuf {
    match (out, name) {
        (Some(out), _) => out.to_owned(),
        (None, Some(name)) => Path::new("runs").join(format!("{}-{name}", request.name())),
        (None, None) => Path::new("runs").join(request.name()),
    }
}

/// Compiles with what finished tasks have yielded; returns the states of all tasks.
pub fn compile_with_results(
    request: &Request,
    facts: &mut Facts,
    gatherer: &mut Gatherer,
    run_folder: &RunFolder,
) -> (Compiled, BTreeMap<String, State>, Vec<String>) {
    let mut notes = Vec::new();
    let mut request = request.clone();
    loop {
        let compiled = compile(&request, facts, gatherer);
        if add_decisions(&compiled, run_folder, &mut request) {
            continue;
        }
        let mut states = BTreeMap::new();
        let mut news = false;
        let tasks =
            compiled.lowered.as_ref().map(|lowered| lowered.plan.tasks.as_slice()).unwrap_or_default();
        for task in tasks {
            let state = match run_folder.is_done(task) {
                Done::Yes(record) => {
                    news |= add_yields(task, &record, run_folder, facts);
                    State::Done
                }
                Done::No(note) => {
                    notes.extend(note);
                    if task.key.is_some() { State::Open } else { State::Unknown }
                }
            };
            states.insert(task.name.clone(), state);
        }
        if !news {
            notes.sort();
            notes.dedup();
            return (compiled, states, notes);
        }
    }
}

/// Takes the decisions of unfinished stages from their checkpoints; returns whether that is news.
fn add_decisions(compiled: &Compiled, folder: &RunFolder, request: &mut Request) -> bool {
    let mut news = false;
    let tasks = compiled.lowered.iter().flat_map(|lowered| &lowered.plan.tasks);
    for task in tasks.filter(|task| matches!(task.work, Work::Train(_))) {
        // A checkpoint that cannot be read is the engine's to report, when it is used.
        if let Ok(Some(state)) = folder.unfinished(&task.name)
            && Some(&state.key) == task.key.as_ref()
        {
            news |=
                request.decisions.insert(task.name.clone(), state.decisions.clone()) != Some(state.decisions);
        }
    }
    news
}

/// Adds what a finished task has yielded to the facts; returns whether that is news.
fn add_yields(task: &Task, record: &Record, folder: &RunFolder, facts: &mut Facts) -> bool {
    let mut news = false;
    if let (Work::Prepare(_), Some(prepared)) = (&task.work, &record.yields.prepared) {
        let fact = prepared_fact(prepared);
        news |= facts.prepared.get(&task.name) != Some(&fact);
        facts.prepared.insert(task.name.clone(), fact);
    }
    if let Work::TrainTokenizer(_) = &task.work {
        let path = folder.path().join(&record.path);
        let fact = tokenizer_of(&path);
        news |= facts.tokenizers.get(&task.name) != Some(&fact);
        facts.tokenizers.insert(task.name.clone(), fact);
    }
    news
}

fn prepared_fact(prepared: &Prepared) -> PreparedFact {
    let part = |side: &PreparedSide| PartFact {
        rows: side.rows,
        tokens: side.tokens,
        trained_tokens: side.trained_tokens,
        longest: side.longest,
        sequences: side.packed_sequences,
        longest_pair: side.longest_pair,
        shared_tokens: side.shared_tokens,
    };
    PreparedFact { train: part(&prepared.train), eval: part(&prepared.eval) }
}

fn drive(args: &Args, request: &Request, cache: &Path, siblings: &[PathBuf]) -> Result<(), Failure> {
    let devices = Devices::new(&args.backend, args.devices, args.threads);
    let devices = devices.map_err(|message| Failure::Use(message, 2))?;
    let mut facts = Facts::default();
    let mut gatherer = Gatherer::full(cache).with_threads(args.threads);
    let path = folder(request, args.out.as_deref(), args.name.as_deref());
    let view = RunFolder::view(&path, cache).with_siblings(siblings);
    let (compiled, states, _) = compile_with_results(request, &mut facts, &mut gatherer, &view);
    if compiled.has_errors() {
        return Err(Failure::Recipe(Box::new(compiled)));
    }
    let refused = |compiled| refuse_precision(refuse_planned(compiled, &states, args)?, &states, args);
    let compiled = if args.dry_run { compiled } else { refused(compiled)? };
    show_warnings(&compiled, args);
    if args.dry_run {
        let mut plan = plan_of(&compiled);
        let wanted = selection(&plan, &states, args)?;
        plan.tasks.retain(|task| wanted.contains(&task.name));
        let text = crate::plan::print(&plan, &states, crate::plan::Format::Text);
        return terminal::result(&text).map_err(|error| Failure::Use(error, 1));
    }
    check_owner(&path, request)?;
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let run_folder = RunFolder::open(&path, cache, &command)
        .map_err(|error| Failure::Engine(Box::new(error), Box::new(compiled)))?
        .with_siblings(siblings);
    let stop = stop_flag();
    let mut progress = Progress::new(terminal::volume());
    let mut ran: BTreeSet<String> = BTreeSet::new();
    loop {
        // What changed is noted when its task runs again.
        let (mut compiled, states, _) = compile_with_results(request, &mut facts, &mut gatherer, &run_folder);
        if compiled.has_errors() {
            return Err(Failure::Recipe(Box::new(compiled)));
        }
        let mut plan = compiled.lowered.take().expect("a recipe without errors is lowered").plan;
        let wanted = selection(&plan, &states, args)?;
        write_records(&path, request, &compiled, &facts, &plan).map_err(|error| Failure::Use(error, 1))?;
        let next = plan.tasks.iter().position(|task| {
            let ready = task.inputs.iter().all(|input| states.get(input) == Some(&State::Done));
            // What lies in the cache but was not used by this run yet is only noted down.
            let recorded =
                || run_folder.record(&task.name).is_some_and(|record| Some(&record.key) == task.key.as_ref());
            let open = match states[&task.name] {
                State::Open => true,
                State::Done => !recorded(),
                State::Unknown => false,
            };
            wanted.contains(&task.name) && open && ready
        });
        let Some(task) = next else {
            let open: Vec<&str> =
                wanted.iter().filter(|name| states[*name] != State::Done).map(String::as_str).collect();
            if !open.is_empty() {
                return Err(Failure::Use(
                    format!(
                        "{} cannot be planned: the results before it are there, but facts are still missing",
                        open.join(", ")
                    ),
                    1,
                ));
            }
            let text = results(&plan, &run_folder, &ran);
            return terminal::result(&text).map_err(|error| Failure::Use(error, 1));
        };
        // The other tasks are planned again afterwards; meanwhile the memory is this one's.
        let task = plan.tasks.swap_remove(task);
        drop(plan);
        let options = Options { fork: args.fork };
        match run_task_on(&task, &run_folder, &devices.of(&task), &mut progress, &stop, &options) {
            Ok(Outcome::Done(_)) => {
                ran.insert(task.name.clone());
            }
            Ok(Outcome::AlreadyDone(_)) => {}
            Ok(Outcome::Stopped { step }) => {
                return Err(Failure::Stopped(task.name.clone(), kept(&task, step, &run_folder)));
            }
            Err(error) => return Err(Failure::Engine(Box::new(error.of(&task)), Box::new(compiled))),
        }
    }
}

/// Says what a task that was asked to stop has left to go on from.
fn kept(task: &Task, step: u64, folder: &RunFolder) -> &'static str {
    let has_checkpoint = || matches!(folder.unfinished(&task.name), Ok(Some(_)));
    match &task.work {
        Work::Train(_) if has_checkpoint() => "with a checkpoint written",
        Work::Generate(_) if step > 0 => "with its answers kept",
        _ => "before anything of it was kept",
    }
}

/// Refuses a run of tasks that are planned and cannot be run, with the same places that the check warns of.
fn refuse_planned(
    mut compiled: Compiled,
    states: &BTreeMap<String, State>,
    args: &Args,
) -> Result<Compiled, Failure> {
    let plan = plan_of(&compiled);
    let wanted = selection(&plan, states, args)?;
    let is_declared = |task: &&Task| matches!(task.work, Work::Declared(_)) && wanted.contains(&task.name);
    let names: BTreeSet<&str> = plan
        .tasks
        .iter()
        .filter(is_declared)
        .map(|task| task.name.split_once(':').map_or(task.name.as_str(), |(_, name)| name))
        .collect();
    if names.is_empty() {
        return Ok(compiled);
    }
    let planned = compiled.checked.recipe.iter().flat_map(|recipe| &recipe.planned);
    // Data and templates have no tasks of their own; they belong to the stages that read them.
    let is_wanted = |planned: &&Planned| {
        names.contains(planned.name.as_str())
            || matches!(planned.kind.as_str(), "dataset" | "mix" | "template")
    };
    let missing = planned.filter(is_wanted).flat_map(|planned| &planned.missing);
    let mut refusals: Vec<Diagnostic> = missing.map(Missing::refusal).collect();
    refusals.sort_by_key(Diagnostic::primary);
    refusals.dedup();
    compiled.diagnostics = refusals;
    Err(Failure::Recipe(Box::new(compiled)))
}

/// Refuses stages in a precision that the plain backend does not have: later ones are planned only when those before
/// them have run.
fn refuse_precision(
    mut compiled: Compiled,
    states: &BTreeMap<String, State>,
    args: &Args,
) -> Result<Compiled, Failure> {
    if args.backend != "plain" {
        return Ok(compiled);
    }
    let wanted = selection(&plan_of(&compiled), states, args)?;
    let trained =
        compiled.checked.recipe.iter().flat_map(|recipe| &recipe.stages).filter_map(|stage| match stage {
            Stage::Train(train) => Some(&**train),
            _ => None,
        });
    let is_refused = |train: &&Train| train.precision.value != Precision::F32 && wanted.contains(&train.name);
    let refusals: Vec<Diagnostic> = trained.filter(is_refused).map(in_f32_only).collect();
    if refusals.is_empty() {
        return Ok(compiled);
    }
    compiled.diagnostics = refusals;
    Err(Failure::Recipe(Box::new(compiled)))
}

fn in_f32_only(train: &Train) -> Diagnostic {
    Diagnostic::error(
        "unsupported-op",
        format!("stage `{}` does not compute in f32, as backend `plain` does", train.name),
        train.precision.span,
        "another precision",
    )
    .with_help(format!("add `--set {}.precision=f32`, or leave out `--backend`", train.name))
}

fn plan_of(compiled: &Compiled) -> Plan {
    compiled.lowered.as_ref().expect("a recipe without errors is lowered").plan.clone()
}

/// A folder belongs to one recipe file; another one's results are never mixed into it.
fn check_owner(path: &Path, request: &Request) -> Result<(), Failure> {
    let own = match request.path.as_str() {
        "-" => "-".to_owned(),
        file => std::fs::canonicalize(file).map_or(file.to_owned(), |path| path.display().to_string()),
    };
    let file = path.join(OWNER);
    match std::fs::read_to_string(&file) {
        Ok(owner) if owner != own => Err(Failure::Use(
            format!(
                "{} holds the run of {owner}; choose another place with `--out` or `--name`",
                path.display()
            ),
            1,
        )),
        Ok(_) => Ok(()),
        Err(_) => {
            let written = std::fs::create_dir_all(path).and_then(|()| std::fs::write(&file, own));
            written.map_err(|error| Failure::Use(unwritable(path, &error), 1))
        }
    }
}

/// Says that a file of the run cannot be written, and what to do where that is known.
fn unwritable(path: &Path, error: &std::io::Error) -> String {
    let help = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "\n  help: free some space, or choose another place with `--out`"
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
            "\n  help: choose a place that can be written with `--out`"
        }
        _ => "",
    };
    format!("{}: {error}{help}", path.display())
}

/// Returns the tasks that are wanted: all, or those that `--only` and `--from` name with what they need.
fn selection(
    plan: &Plan,
    states: &BTreeMap<String, State>,
    args: &Args,
) -> Result<BTreeSet<String>, Failure> {
    let known = |name: &String| match plan.task(name) {
        Some(_) => Ok(()),
        None => {
            let names: Vec<&str> = plan.tasks.iter().map(|task| task.name.as_str()).collect();
            Err(Failure::Use(format!("there is no stage `{name}`; the plan has {}", names.join(", ")), 2))
        }
    };
    let mut wanted: BTreeSet<String> = plan.tasks.iter().map(|task| task.name.clone()).collect();
    if let Some(only) = &args.only {
        known(only)?;
        wanted = ancestors(plan, only);
    }
    if let Some(from) = &args.from {
        known(from)?;
        let before: BTreeSet<String> = ancestors(plan, from);
        let missing = before.iter().find(|name| {
            let stage = !name.contains(':');
            stage && *name != from && states.get(*name) != Some(&State::Done)
        });
        if let Some(missing) = missing {
            return Err(Failure::Use(
                format!("`{from}` starts from `{missing}`, which has not run; leave `--from` out"),
                1,
            ));
        }
        let mut reached: BTreeSet<String> = before;
        for task in &plan.tasks {
            if task.inputs.iter().any(|input| ancestors(plan, input).contains(from)) {
                reached.extend(ancestors(plan, &task.name));
            }
        }
        wanted = wanted.intersection(&reached).cloned().collect();
    }
    Ok(wanted)
}

fn ancestors(plan: &Plan, name: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([name.to_owned()]);
    let inputs = plan.task(name).map(|task| task.inputs.clone()).unwrap_or_default();
    inputs.iter().for_each(|input| all.extend(ancestors(plan, input)));
    all
}

/// Writes what the run is about into its folder.
fn write_records(
    path: &Path,
    request: &Request,
    compiled: &Compiled,
    facts: &Facts,
    plan: &Plan,
) -> Result<(), String> {
    let write = |name: &str, text: String| {
        let temporary = path.join(format!(".{name}.tmp"));
        let written =
            std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path.join(name)));
        written.map_err(|error| unwritable(&path.join(name), &error))
    };
    write("recipe.kdl", request.text.clone())?;
    write("resolved.kdl", show::text(&compiled.checked, facts, false))?;
    write("adapt.lock", "{\"version\":1,\"sources\":{}}\n".into())?;
    let plan = serde_json::to_string(plan).map_err(|error| error.to_string())?;
    write("plan.json", plan + "\n")
}

/// Registers the signals that ask for a stop: the first sets the flag, a second one ends the process at once.
fn stop_flag() -> Arc<AtomicBool> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        // Order matters: the shutdown looks at the flag as it was before this signal set it.
        let shutdown = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag.clone());
        let set = signal_hook::flag::register(signal, flag.clone());
        if shutdown.is_err() || set.is_err() {
            terminal::say(format_args!(
                "warning: signal {signal} cannot be caught; a kill goes on from the last checkpoint"
            ));
        }
    }
    flag
}

fn show_warnings(compiled: &Compiled, args: &Args) {
    if !compiled.diagnostics.is_empty() && terminal::volume() != Volume::Quiet {
        print_found(&compiled.diagnostics, compiled, args);
    }
}

/// Prints diagnostics to stderr: stdout is for results.
fn print_found(found: &[Diagnostic], compiled: &Compiled, args: &Args) {
    let found = Found { diagnostics: found, sources: &compiled.sources };
    // Nothing can be said when stderr is closed; the exit code still tells.
    let _ =
        diagnostics::print(&[found], args.format, terminal::color_stderr(), &mut std::io::stderr().lock());
}

/// Turns a failure of the engine into a diagnostic at the recipe line that the task comes from.
fn from_engine(error: &EngineError, compiled: &Compiled) -> Diagnostic {
    let at = error.place.as_ref().and_then(|place| {
        let source = compiled.sources.iter().position(|source| source.path == place.file)?;
        Some(Span { source: SourceId(source as u32), start: place.start, end: place.end })
    });
    let span = at.unwrap_or(Span { source: SourceId(0), start: 0, end: 0 });
    let label = error.stage.as_ref().map_or(String::new(), |stage| format!("while `{stage}` ran"));
    let mut diagnostic = Diagnostic::error(error.code, error.message.clone(), span, label);
    diagnostic.help = error.help.clone();
    diagnostic
}

/// Returns the answers, the table of results and where the models are.
fn results(plan: &Plan, folder: &RunFolder, ran: &BTreeSet<String>) -> String {
    let stages: Vec<(&Task, Record)> = plan
        .tasks
        .iter()
        .filter(|task| !task.name.contains(':'))
        .filter_map(|task| folder.record(&task.name).map(|record| (task, record)))
        .collect();
    let mut out = if ran.is_empty() {
        format!("nothing to do: all {} tasks are done\n", plan.tasks.len())
    } else if terminal::volume() != Volume::Quiet {
        answers(&stages, ran)
    } else {
        String::new()
    };
    let mut rows = vec![
        ["stage", "steps", "tokens", "held-out", "before", "after", "tokens/s", "time"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (task, record) in &stages {
        match &task.work {
            Work::Train(_) => rows.push(train_row(&task.name, record)),
            Work::Evaluate(_) => {
                let mut row = train_row(&task.name, record);
                // An evaluation has no steps and nothing before it; its tokens are those that it scored.
                row[1].clear();
                row[2] =
                    record.summary.after.as_ref().map_or(String::new(), |after| text::count(after.count));
                rows.push(row);
            }
            Work::TrainTokenizer(_)
            | Work::Initialize(_)
            | Work::Prepare(_)
            | Work::Generate(_)
            | Work::Declared(_) => {}
        }
    }
    out += &format!("\n{}", text::table(&rows, &[1, 2, 4, 5, 6, 7]));
    let mut models = stages.iter().filter(|(task, _)| matches!(task.work, Work::Train(_)));
    if let Some((task, record)) = models.next_back() {
        out += &format!("\n  model of `{}`: {}\n", task.name, folder.path().join(&record.path).display());
    }
    for (task, record) in stages.iter().filter(|(task, _)| matches!(task.work, Work::Generate(_))) {
        out += &format!("  answers of `{}`: {}\n", task.name, folder.path().join(&record.path).display());
    }
    out
}

/// Returns each stage's prompts answered before and after it.
fn answers(stages: &[(&Task, Record)], ran: &BTreeSet<String>) -> String {
    let mut out = String::new();
    for (task, record) in stages.iter().filter(|(task, _)| ran.contains(&task.name)) {
        let summary = &record.summary;
        for (before, after) in summary.answers_before.iter().zip(&summary.answers_after) {
            out += &format!("\n  {}: {}\n", task.name, crate::progress::one_line(&before.prompt));
            out += &format!("    before → {}\n", crate::progress::one_line(&before.answer));
            out += &format!("    after  → {}\n", crate::progress::one_line(&after.answer));
        }
    }
    out
}

fn train_row(name: &str, record: &Record) -> Vec<String> {
    let row = record.summary.row(name);
    let shown = |value: Option<f64>| match (value, row.metric) {
        (None, _) => String::new(),
        (Some(value), "accuracy") => format!("{:.1} %", 100.0 * value),
        (Some(value), _) => format!("{value:.3}"),
    };
    vec![
        row.stage.clone(),
        text::count(row.steps),
        text::count(row.tokens),
        row.metric.to_owned(),
        shown(row.before),
        shown(row.after),
        row.tokens_per_second.map_or(String::new(), |speed| text::count(speed as u64)),
        text::seconds(row.seconds),
    ]
}
