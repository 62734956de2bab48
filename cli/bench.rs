//! `adapt bench`: how fast this machine does the work, beside its peak of the same moment, as JSON lines.
//!
//! Every line stands for itself and has the load of the machine in it; a figure from a machine with other work
//! is a lower bound. Weights and tokens are random: any config.json will do, and nothing is fetched.

mod busy;
mod decode;
mod memory;
mod products;
mod random;
mod rounds;
mod scaling;
mod setup;
mod start;
mod steps;
mod train;

use crate::{machine, terminal};
use lang::facts::Rates;
use lower::figures::process::Process;
use lower::models::Model;
use ops::cpu::Cpu;
use ops::probe::peak;
use plan::program::Module;
use plan::value::Dtype;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measure speed and memory, beside this machine's peak, as JSON lines
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench products                                     the products of a layer and of the head
  adapt bench train --model-config config.json             full training steps, f32
  adapt bench train --model-config config.json --seq 512 --batch 4 --precision bf16
  adapt bench train --model-config config.json --train norms,last
  adapt bench train --model-config config.json --pairs 2   DPO, the reference pass included
  adapt bench decode --model-config config.json            128 tokens, one after another
  adapt bench scaling --model-config config.json           over tokens of a step and lengths of rows
  adapt bench start --model-config config.json             from `adapt run` to the first forward pass
  adapt bench train --model-config config.json --peer 'python3 train_step.py'
                                                           five rounds in turns, and the ratio

The first line is the machine: what its cores multiply and add at best, and what its memory gives. Shares are
of that. Other programs make every figure worse: look at `load`. How to compare with another trainer:
docs/benchmarks/README.md.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Threads to use, instead of one per core
    #[arg(long, value_name = "N", value_parser = crate::machine::count, global = true)]
    threads: Option<usize>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Products(products::Args),
    Train(train::Args),
    Decode(decode::Args),
    Scaling(scaling::Args),
    Start(start::Args),
}

impl What {
    /// Returns how a benchmark is repeated, where it can be.
    fn rounds(&self) -> Option<&rounds::Rounds> {
        match self {
            What::Train(args) => Some(&args.rounds),
            What::Decode(args) => Some(&args.rounds),
            What::Products(_) | What::Scaling(_) | What::Start(_) => None,
        }
    }
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
    /// Where weights and rows lie before they are loaded.
    cache: PathBuf,
}

/// Measures and prints.
pub fn run(args: &Args, cache: &Path) -> ExitCode {
    // Those who start rounds do nothing else, so that they take neither memory nor cores from them.
    let done = match args.what.rounds().filter(|rounds| rounds.are_wanted()) {
        Some(rounds) => rounds.run(),
        None => measure(args, cache),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => terminal::failure(&message),
    }
}

fn measure(args: &Args, cache: &Path) -> Result<(), String> {
    let bench = Bench::new(machine::threads_of(args.threads), cache);
    print(&bench.line())?;
    match &args.what {
        What::Products(args) => products::run(args, &bench),
        What::Train(args) => train::run(args, &bench),
        What::Decode(args) => decode::run(args, &bench),
        What::Scaling(args) => scaling::run(args, &bench),
        What::Start(args) => start::run(args, &bench),
    }
}

impl Bench {
    fn new(threads: usize, cache: &Path) -> Bench {
        const ROUNDS: usize = 100_000;
        let cpu = Cpu::new(threads);
        let found = machine::probe(&cpu);
        let peaks = [Dtype::F32, Dtype::Bf16].map(|format| peak::flops(&cpu, threads, format, ROUNDS));
        Bench { cpu, threads, rates: machine::of(found), read: found.read, peaks, cache: cache.to_owned() }
    }

    /// Makes a folder for files of this process that are needed for a while.
    fn scratch(&self, name: &str) -> Result<Scratch, String> {
        let path = self.cache.join(format!(".bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }

    /// Returns the bytes that a module takes, with the process; there is no tokenizer, and rows are few.
    fn bytes(&self, module: &Module) -> u64 {
        let process = Process { threads: self.threads as u64, ..Process::default() };
        module.total_bytes() + process.bytes(module)
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

/// What is measured.
#[derive(Debug, clap::Args)]
struct Measured {
    /// A config.json of a model that this version can run; weights are random
    #[arg(long, value_name = "FILE")]
    model_config: PathBuf,
    /// Number format of weights and activations; in training masters and sums are in f32
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
}

impl Measured {
    /// Reads the config.
    fn config(&self) -> Result<Value, String> {
        let (path, name) = (&self.model_config, self.model_config.display());
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{name} is not JSON: {error}"))
    }

    /// Returns the model that its config describes.
    fn model(&self, config: &Value) -> Result<Model, String> {
        let name = self.model_config.display();
        Model::from_config(config).map_err(|problem| format!("{name}: {}", problem.message))
    }

    fn dtype(&self) -> Dtype {
        self.precision.dtype()
    }

    /// Returns the name of the file, as lines have it.
    fn name(&self) -> Option<String> {
        self.model_config.file_name().map(|name| name.to_string_lossy().into_owned())
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

/// Prints a line; that nobody reads on is no failure.
fn print(line: &Value) -> Result<(), String> {
    terminal::result(&format!("{line}\n"))
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

/// Returns the middle, the least and the most of some numbers.
fn spread(numbers: &[f64]) -> Value {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    json!({ "median": median(numbers), "min": least, "max": most })
}

/// A folder that goes when it has been used.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the cache, where it may be deleted.
        let _ = std::fs::remove_dir_all(&self.0);
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
    fn the_middle_is_found() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[5.0])), (2.0, 1.0, 5.0));
    }
}
