//! `adapt bench`: how fast this machine does the work, beside its peak of the same moment, as JSON lines.
//!
//! Every line stands for itself and has the load of the machine in it; a figure from a machine with other work
//! is a lower bound. Weights and tokens are random: any config.json will do, and nothing is fetched.

mod decode;
mod products;
mod train;

use crate::{machine, terminal};
use lang::facts::Rates;
use ops::cpu::Cpu;
use ops::probe::peak;
use plan::value::Dtype;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measure speed and memory, beside this machine's peak, as JSON lines
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench products                                     the products of a layer and of the head
  adapt bench train --model-config config.json             full training steps, f32
  adapt bench train --model-config config.json --seq 512 --batch 4 --precision bf16
  adapt bench train --model-config config.json --train norms,last
  adapt bench decode --model-config config.json            128 tokens, one after another

The first line is the machine: what its cores multiply and add at best, and what its memory gives. Shares are
of that. Other programs make every figure worse: look at `load`. How to compare with another trainer:
docs/benchmarks/README.md.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Threads to use, instead of one per core
    #[arg(long, value_name = "N", global = true)]
    threads: Option<usize>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Products(products::Args),
    Train(train::Args),
    Decode(decode::Args),
}

/// What every benchmark needs.
struct Bench {
    cpu: Cpu,
    threads: usize,
    rates: Rates,
    /// Bytes per second that a sum reads.
    read: f64,
    /// Operations per second of f32 and of bf16 instructions, where they are known.
    peaks: [Option<f64>; 2],
    /// Where weights lie before they are loaded.
    scratch: PathBuf,
}

/// Measures and prints.
pub fn run(args: &Args, cache: &Path) -> ExitCode {
    let bench = Bench::new(args.threads.unwrap_or_else(machine::threads).max(1), cache);
    let printed = print(&bench.line());
    if printed != ExitCode::SUCCESS {
        return printed;
    }
    let done = match &args.what {
        What::Products(args) => products::run(args, &bench),
        What::Train(args) => train::run(args, &bench),
        What::Decode(args) => decode::run(args, &bench),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            anstream::eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

impl Bench {
    fn new(threads: usize, cache: &Path) -> Bench {
        const ROUNDS: usize = 100_000;
        let cpu = Cpu::new(threads);
        let found = machine::probe(&cpu);
        let peaks = [Dtype::F32, Dtype::Bf16].map(|format| peak::flops(&cpu, threads, format, ROUNDS));
        let scratch = cache.join(format!(".bench-{}", std::process::id()));
        Bench { cpu, threads, rates: machine::of(found), read: found.read, peaks, scratch }
    }

    /// The line of the machine.
    fn line(&self) -> Value {
        let peak = |at: usize| self.peaks[at].map(|peak| peak / 1e9);
        json!({
            "bench": "machine",
            "version": env!("CARGO_PKG_VERSION"),
            "processor": machine::processor(),
            "threads": self.threads,
            "peak_f32_gflops": peak(0),
            "peak_bf16_gflops": peak(1),
            "copy_gb_per_s": self.rates.bytes / 1e9,
            "read_gb_per_s": self.read / 1e9,
            "load": load(),
        })
    }

    /// Returns the share of the peak that a rate is; nothing where the peak is not known.
    fn share(&self, flops_per_second: f64, format: Dtype) -> Option<f64> {
        Some(flops_per_second / self.peaks[usize::from(format == Dtype::Bf16)]?)
    }
}

/// Number formats of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Precision {
    F32,
    Bf16,
}

impl Precision {
    fn dtype(self) -> Dtype {
        match self {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::Bf16,
        }
    }
}

/// Prints a line.
fn print(line: &Value) -> ExitCode {
    terminal::written(writeln!(std::io::stdout(), "{line}"))
}

/// Returns the mean number of programs at work during the last minute, where the system tells.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Returns the middle of some numbers, of an even count the lower of the two.
fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// Returns the ids of a row: even over the vocabulary, of which the first three are usually special.
fn row(vocab: u64, seed: u64, number: u64, tokens: u64) -> Vec<i32> {
    const SPECIAL: u64 = 3;
    let key = ops::random::stream(seed, number, 0);
    let first = SPECIAL.min(vocab - 1);
    let id = |at: u64| {
        let [word, ..] = ops::random::philox(key, [at as u32, 0, 0, 0]);
        (first + u64::from(word) % (vocab - first)) as i32
    };
    (0..tokens).map(id).collect()
}

/// Reads a config.json; returns it with the model that it describes.
fn model(path: &Path) -> Result<(Value, lower::models::Model), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let config: Value =
        serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", path.display()))?;
    let model = lower::models::Model::from_config(&config)
        .map_err(|problem| format!("{}: {}", path.display(), problem.message))?;
    Ok((config, model))
}

/// Gives an executor random weights as a new model has them, by way of files, as a run does.
fn load_weights(
    bench: &Bench,
    executor: &mut engine::executor::Executor,
    model: &lower::models::Model,
) -> Result<(), String> {
    let map = lower::programs::file_tensors(model, executor.module());
    let folder = Scratch(&bench.scratch);
    std::fs::create_dir_all(folder.0).map_err(|error| format!("{}: {error}", folder.0.display()))?;
    let written = engine::initialize::write(&model.new_tensors(), "f32", 0, folder.0, &bench.cpu);
    written.and_then(|()| engine::weights::load(executor, &map, folder.0)).map_err(said)
}

/// A folder that goes when it has been used.
struct Scratch<'a>(&'a Path);

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // What cannot be removed lies in the cache, where it may be deleted.
        let _ = std::fs::remove_dir_all(self.0);
    }
}

/// Says what went wrong in the engine.
fn said(error: engine::error::EngineError) -> String {
    error.message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_from_the_vocabulary() {
        let ids = row(100, 1, 0, 5000);
        assert!(ids.iter().all(|id| (3..100).contains(id)));
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 97);
        assert_eq!(row(100, 1, 0, 10), ids[..10]);
        assert_ne!(row(100, 1, 1, 10), ids[..10]);
    }

    #[test]
    fn the_middle_is_found() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[5.0])), (2.0, 1.0, 5.0));
    }
}
