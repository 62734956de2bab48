//! `adapt generate MODEL`: a small recipe of its own, so that the same checks apply, answered at once.

use crate::diagnostics::Format;
use crate::facts::Gatherer;
use crate::rounds::{Compiled, Request, compile};
use crate::terminal::{self, Volume};
use engine::error::EngineError;
use engine::executor::Executor;
use engine::generate::{Decoding, Prompting, answer};
use lang::diagnostic::{Diagnostic, Severity};
use lang::facts::Facts;
use plan::work::{Artifact, Generate, Work};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use tokenizer::Tokenizer;

/// Let a model go on with a text, or answer
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt generate runs/recipe/chat/model --prompt \"Wat is het meervoud van boom?\"
  adapt generate models/stories --template none --prompt \"Er was eens\" --temperature 0.8
  adapt generate runs/recipe/chat/model < question.txt")]
pub struct Args {
    /// Model folder
    pub model: PathBuf,
    /// Text to go on with, or message to answer; standard input when absent
    #[arg(short, long)]
    pub prompt: Vec<String>,
    /// Template for messages, such as `std:chatml`; `none` goes on with the text. Otherwise the model's own, if it has one
    #[arg(long, value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 128)]
    pub max_tokens: u64,
    /// 0 takes the most likely token each time
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Draw from the most likely tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Draw from this many most likely tokens; 0 is all
    #[arg(long, default_value_t = 0)]
    pub top_k: u64,
    /// Divide the score of what was said already
    #[arg(long, default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Threads to use, instead of one per core
    #[arg(long, value_name = "N", value_parser = crate::machine::count)]
    pub threads: Option<usize>,
    /// How to write diagnostics
    #[arg(long, value_enum, default_value_t = Format::Full)]
    pub format: Format,
}

/// Answers prompts with a model folder.
pub fn run(args: &Args, cache: &Path) -> ExitCode {
    let prompts = match prompts(args) {
        Ok(prompts) => prompts,
        Err(error) => return terminal::wrong_use(&format!("standard input: {error}")),
    };
    let text = recipe(args, &prompts);
    if text.len() > lang::syntax::MAX_BYTES {
        let bytes: usize = prompts.iter().map(String::len).sum();
        return terminal::wrong_use(&format!("a prompt of {bytes} bytes is longer than can be read"));
    }
    let request = Request {
        path: "-".into(),
        text,
        not_utf8: None,
        sets: Vec::new(),
        memory: None,
        decisions: Default::default(),
        on: None,
        runs: true,
        devices: 1,
    };
    let compiled =
        compile(&request, &mut Facts::default(), &mut Gatherer::full(cache).with_threads(args.threads));
    if let Some(failed) = report(&compiled, args.format) {
        return failed;
    }
    let tasks = compiled.lowered.iter().flat_map(|lowered| &lowered.plan.tasks);
    let work = tasks.filter_map(|task| match &task.work {
        Work::Generate(work) => Some(work),
        _ => None,
    });
    match work.map(|work| answer_all(args, work, &prompts)).next_back() {
        Some(Ok(printed)) => terminal::written(printed),
        Some(Err(error)) => {
            let help = error.help.map_or(String::new(), |help| format!("\n  help: {help}"));
            terminal::say(format_args!("error[{}]: {}{help}", error.code, error.message));
            ExitCode::FAILURE
        }
        None => terminal::wrong_use("there is nothing to generate"),
    }
}

/// Says what was found to a person without its places, which are in a recipe that nobody wrote; returns the exit code
/// when one is an error.
fn report(compiled: &Compiled, format: Format) -> Option<ExitCode> {
    if !matches!(format, Format::Full | Format::Concise) {
        return compiled.report(format);
    }
    let is_said =
        |found: &&Diagnostic| found.severity == Severity::Error || terminal::volume() != Volume::Quiet;
    for found in compiled.diagnostics.iter().filter(is_said) {
        let severity = match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let help = found.help.as_ref().filter(|_| format == Format::Full);
        let help = help.map_or(String::new(), |help| format!("\n  help: {help}"));
        terminal::say(format_args!("{severity}[{}]: {}{help}", found.code, found.message));
    }
    compiled.has_errors().then_some(ExitCode::FAILURE)
}

/// Returns the prompts: those given, else all of standard input.
fn prompts(args: &Args) -> std::io::Result<Vec<String>> {
    if !args.prompt.is_empty() {
        return Ok(args.prompt.clone());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(vec![text.trim_end_matches('\n').to_owned()])
}

fn recipe(args: &Args, prompts: &[String]) -> String {
    let quote = lang::resolved::quote;
    let template = args.template.as_deref().filter(|name| *name != "none");
    let lines = [
        "adapt 1".to_owned(),
        format!("model m {}", quote(&args.model.display().to_string())),
        "generate answer {".to_owned(),
        "model m".to_owned(),
        prompts.iter().map(|prompt| format!("prompt {}\n", quote(prompt))).collect(),
        template.map_or(String::new(), |name| format!("template {name}")),
        format!("max-tokens {}", args.max_tokens),
        format!("temperature {}", args.temperature),
        format!("top-p {}", args.top_p),
        format!("top-k {}", args.top_k),
        format!("repetition-penalty {}", args.repetition_penalty),
        format!("seed {}", args.seed),
        "}".to_owned(),
    ];
    lines.join("\n")
}

/// Loads the model and prints answers as they come, until nobody reads on; several prompts are answered in turn.
///
/// Returns how printing went.
fn answer_all(args: &Args, work: &Generate, prompts: &[String]) -> Result<std::io::Result<()>, EngineError> {
    let path = |artifact: &Artifact| match artifact {
        Artifact::Path(path) => PathBuf::from(path),
        Artifact::Task(task) => unreachable!("a model folder has no task `{task}`"),
    };
    let module = work.module.as_ref().ok_or_else(|| {
        EngineError::new("unknown-facts", "the model folder tells too little to run it".to_owned())
    })?;
    let backend = crate::devices::backend("cpu", args.threads).map_err(EngineError::plan)?;
    let tokenizer = Tokenizer::load(&path(&work.tokenizer))?;
    let mut executor = Executor::new(module, backend.as_ref())?;
    engine::weights::load(&mut executor, &work.tensors, &path(&work.model))?;
    let prompting = Prompting {
        tokenizer: &tokenizer,
        template: work.template.as_deref().filter(|_| args.template.as_deref() != Some("none")),
        decoding: Decoding {
            sampling: &work.sampling,
            stop_ids: &work.stop_ids,
            context: Some(work.context),
        },
    };
    let unread = AtomicBool::new(false);
    let mut out = std::io::stdout();
    let mut outcome = Ok(());
    for prompt in prompts {
        let mut print = |text: &str| {
            if outcome.is_ok() {
                outcome = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                unread.store(outcome.is_err(), Ordering::Relaxed);
            }
        };
        answer(&mut executor, &prompting, std::slice::from_ref(prompt), &unread, &mut |_, piece| {
            print(piece)
        })?;
        print("\n");
    }
    Ok(outcome)
}
