//! Mutates recipes and checks that the compiler survives them: no panic, no hang, no stack overflow, every
//! place in its text, every fix a fix, formatting without a change of meaning, the same answer twice.
//!
//! Inputs run in a child process, so that one that kills it is found and saved. The same seed, corpus and
//! number of inputs give the same run.

mod corpus;
mod mutate;
mod outcome;
mod parent;
mod random;
mod seeds;
mod targets;
mod words;
mod worker;
mod world;

use clap::Parser;
use std::io::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use targets::Target;
use worker::Job;

/// Mutate recipes and check that the compiler survives them
#[derive(Debug, Parser)]
struct Arguments {
    /// Fuzz this part of the compiler only
    #[arg(long)]
    target: Option<Target>,
    /// Run for so long over all targets (default: 60)
    #[arg(long)]
    seconds: Option<f64>,
    /// Run so many inputs over all targets
    #[arg(long)]
    inputs: Option<u64>,
    /// Begin the random numbers here
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Read saved inputs from the folders of the targets in DIR
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))]
    corpus: PathBuf,
    /// Save the inputs of findings in DIR
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/findings"))]
    save: PathBuf,
    /// Replace the saved inputs by the smallest that show all that was seen
    #[arg(long)]
    grow: bool,
    /// Count a call into the compiler that takes longer, in seconds, as a finding
    #[arg(long, default_value_t = 1.0)]
    limit: f64,
    /// Run these inputs of one target instead, in this process
    #[arg(requires = "target")]
    files: Vec<PathBuf>,
    /// Be a worker
    #[arg(long, hide = true)]
    worker: bool,
    /// The worker's folder
    #[arg(long, hide = true, default_value = ".")]
    scratch: PathBuf,
    /// Hashes of inputs that the worker leaves out
    #[arg(long, hide = true)]
    skip: Vec<u64>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.target {
        Some(target) if !arguments.files.is_empty() => replay(target, &arguments),
        Some(target) if arguments.worker => {
            worker::work(job(&arguments, target, 1.0, arguments.scratch.clone(), arguments.corpus.clone()))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => campaign(&arguments),
    }
}

fn job(arguments: &Arguments, target: Target, share: f64, scratch: PathBuf, corpus: PathBuf) -> Job {
    // Without a number of inputs time decides, and the reverse.
    let seconds = arguments.seconds.or(arguments.inputs.is_none().then_some(60.0));
    let seconds = seconds.map_or(f64::from(u32::MAX), |seconds| seconds * share);
    let inputs = arguments.inputs.map_or(u64::MAX, |inputs| (inputs as f64 * share).ceil() as u64);
    Job {
        target,
        seed: arguments.seed,
        inputs,
        time: Duration::from_secs_f64(seconds),
        limit: Duration::from_secs_f64(arguments.limit),
        scratch,
        save: arguments.save.clone(),
        corpus,
        grow: arguments.grow,
        skip: arguments.skip.clone(),
    }
}

fn campaign(arguments: &Arguments) -> Result<ExitCode> {
    let chosen: Vec<(Target, u32)> = match arguments.target {
        Some(target) => vec![(target, 1)],
        None => targets::ALL.to_vec(),
    };
    let whole: u32 = chosen.iter().map(|(_, share)| share).sum();
    let scratch = tempfile::tempdir()?;
    let (mut inputs, mut findings) = (0, Vec::new());
    for (target, share) in chosen {
        let corpus = arguments.corpus.join(target.name());
        let share = f64::from(share) / f64::from(whole);
        let summary = parent::supervise(&job(arguments, target, share, scratch.path().to_owned(), corpus))?;
        let seconds = summary.time.as_secs_f64();
        let speed = summary.inputs as f64 / seconds;
        println!(
            "{:6} {:9} inputs in {seconds:.1} s, {speed:.0} inputs/s, {} features, {} findings",
            target.name(),
            summary.inputs,
            summary.features,
            summary.findings.len()
        );
        inputs += summary.inputs;
        findings.extend(summary.findings);
    }
    println!("{inputs} inputs with seed {}, {} findings", arguments.seed, findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs single inputs and prints what is wrong with them.
fn replay(target: Target, arguments: &Arguments) -> Result<ExitCode> {
    worker::watch_panics();
    let limit = Duration::from_secs_f64(arguments.limit);
    let mut code = ExitCode::SUCCESS;
    for path in &arguments.files {
        let input = std::fs::read(path)?;
        match worker::guarded(target, &input, limit, &mut Default::default()) {
            Ok(()) => println!("{}: nothing is wrong", path.display()),
            Err(finding) => {
                println!("{}: {}\n{}", path.display(), finding.signature, finding.detail);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
