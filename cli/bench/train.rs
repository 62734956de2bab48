//! Training steps of a model with random weights on random tokens, beside what is predicted of them.
//!
//! The programs are those of a stage: the same search decides micro batch and recomputation. There is no
//! data, no checkpoint and no evaluation; the tokens of a step are drawn before its time begins.

use super::{Bench, Precision, load, load_weights, median, model, print, row, said};
use crate::facts;
use engine::executor::Executor;
use lower::builder::Capacities;
use lower::figures::architecture::Kind;
use lower::figures::process::Process;
use lower::figures::rates::{Size, program_seconds};
use lower::figures::trained::{Line, Selection, lines};
use lower::figures::{Shapes, shapes, trained};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::search::{Choices, Recompute, cheapest};
use lower::passes::trained::{TrainedPart, part};
use lower::programs::{Training, draft};
use ops::backend::Draw;
use plan::cost::program_cost;
use plan::program::Module;
use plan::value::Role;
use plan::work::{AdamW, batch, extent, result};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Measure training steps of a model with random weights
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench train --model-config config.json
  adapt bench train --model-config config.json --seq 256 --batch 8 --steps 20 --precision bf16
  adapt bench train --model-config config.json --train norms,last
                                       frozen but for its norms and its last layer
  adapt bench train --model-config config.json --train \"embed_tokens,layers 0..4\"")]
pub struct Args {
    /// A config.json of a model that this version can run; weights are random
    #[arg(long, value_name = "FILE")]
    model_config: PathBuf,
    /// Tokens of a row
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(2..))]
    seq: u64,
    /// Rows of a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Steps that are measured
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Steps before those
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: u64,
    /// Number format of weights and activations; masters and sums are in f32
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
    /// What is trained, separated by commas: `norms`, `last` (the last layer), or lines of `train`; else everything
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    train: Vec<String>,
}

/// As people fine-tune: the values of the comparison, which cost nothing.
const OPTIMIZER: AdamW =
    AdamW { lr: 1e-5, weight_decay: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

/// Tokens of a micro-step that keep caches and cores busy, as stages have them.
const MICRO_STEP_TOKENS: u64 = 4096;

/// Prints the line of a training step.
pub fn run(args: &Args, bench: &Bench) -> Result<(), String> {
    let (config, model) = model(&args.model_config)?;
    if args.seq > model.max_positions() {
        return Err(format!("the model knows {} positions, not {}", model.max_positions(), args.seq));
    }
    let shapes = shapes(&config).map_err(|_| "the shapes of this model are not known")?;
    let part = selected(args, &model, &shapes)?;
    let module = planned(args, bench, &model, part.as_ref())?;
    let peak = Peak::default();
    let (seconds, loss) = std::thread::scope(|scope| {
        scope.spawn(|| peak.watch());
        let _watched = Watched(&peak);
        steps(args, bench, &model, &module)
    })?;
    let median = median(&seconds);
    let tokens = (args.seq * args.batch) as f64;
    let reached = flops(args, &module) / median;
    let dtype = args.precision.dtype();
    let elements = |role| {
        let of_role = module.values.iter().filter(|value| value.role == role);
        of_role.map(|value| value.elements(&module.capacities())).sum::<u64>()
    };
    print(&json!({
        "bench": "train",
        "config": args.model_config.file_name().map(|name| name.to_string_lossy()),
        "precision": dtype.name(),
        "seq": args.seq,
        "batch": args.batch,
        "micro": module.decisions.micro_batch_size,
        "recomputed": module.decisions.recompute.len(),
        "threads": bench.threads,
        "parameters": model.parameters(),
        "trained_parameters": elements(Role::Gradient),
        "steps": args.steps,
        "warmup": args.warmup,
        "median_s": median,
        "min_s": seconds.iter().copied().fold(f64::INFINITY, f64::min),
        "max_s": seconds.iter().copied().fold(0.0, f64::max),
        "predicted_s": predicted(args, bench, &module),
        "tokens_per_s": tokens / median,
        "gflops": reached / 1e9,
        "share_of_peak": bench.share(reached, dtype),
        "peak_rss_anon_bytes": peak.most.load(Ordering::Relaxed),
        "predicted_bytes": bytes(bench, &module),
        "loss": loss,
        "load": load(),
    }));
    Ok(())
}

/// Returns what is trained; nothing when that is everything.
fn selected(args: &Args, model: &Model, shapes: &Shapes) -> Result<Option<TrainedPart>, String> {
    let norms = || {
        let norms = shapes.tensors.iter().filter(|tensor| tensor.kind == Kind::Norm);
        Line::Modules(norms.map(|tensor| tensor.module().to_owned()).collect())
    };
    let chosen = args.train.iter().flat_map(|word| match word.trim() {
        "norms" => vec![norms()],
        "last" => vec![Line::Layers(Some(shapes.layers - 1..shapes.layers))],
        line => lines(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), None),
    });
    let selection = Selection { lora: None, train: chosen.collect() };
    match trained(shapes, &selection).missing.first() {
        Some(missing) => Err(format!("no weight of the model is called `{}`", missing.name)),
        None => Ok(part(model, shapes, &selection)),
    }
}

/// Returns the programs, decided as a stage's are.
fn planned(args: &Args, bench: &Bench, model: &Model, part: Option<&TrainedPart>) -> Result<Module, String> {
    let capacities = |micro: u64| Capacities {
        tokens: micro * args.seq,
        rows: micro,
        trained: micro * args.seq,
        slots: 0,
        cached: 0,
    };
    let most = (MICRO_STEP_TOKENS / args.seq).clamp(1, args.batch);
    let first = args.batch.div_ceil(args.batch.div_ceil(most));
    let halves = std::iter::successors(Some(first), |micro| (*micro > 1).then(|| micro.div_ceil(2)));
    let training = Training { objective: Objective::CrossEntropy, optimizer: &OPTIMIZER, part };
    let drafted = draft(model, &training, capacities(first), args.precision.dtype());
    let choices = Choices {
        micros: halves.collect(),
        recompute: Recompute::Auto,
        batch: args.batch,
        sequence_tokens: args.seq,
        row_tokens: args.seq as f64,
        capacities: &capacities,
        bytes: &|module| bytes(bench, module),
        limit: Some(facts::hardware().memory),
    };
    cheapest(&drafted, &choices).map_err(|too_large| {
        let bytes = bytes(bench, &too_large.module);
        format!("this needs {}, more than may be used", crate::text::bytes(bytes))
    })
}

/// Returns the bytes that the steps of a module take; there is no tokenizer, and rows are few.
fn bytes(bench: &Bench, module: &Module) -> u64 {
    let process = Process { threads: bench.threads as u64, ..Process::default() };
    module.total_bytes() + process.bytes(module)
}

/// Takes all steps; returns the seconds of those that are measured, and the loss of the last.
fn steps(args: &Args, bench: &Bench, model: &Model, module: &Module) -> Result<(Vec<f64>, f64), String> {
    let mut executor = Executor::new(module, &bench.cpu).map_err(said)?;
    load_weights(bench, &mut executor, model)?;
    let (mut seconds, mut loss) = (Vec::new(), f64::NAN);
    for index in 0..args.warmup + args.steps {
        let rows: Vec<Vec<i32>> = (0..args.batch)
            .map(|row_of_step| row(model.vocab_size(), 1, index * args.batch + row_of_step, args.seq))
            .collect();
        let begun = Instant::now();
        loss = step(&mut executor, &rows, index).map_err(said)?;
        if index >= args.warmup {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    if !loss.is_finite() {
        return Err(format!("the loss of the last step is {loss}"));
    }
    Ok((seconds, loss))
}

/// Takes one step on rows of which every token but the first is predicted.
fn step(executor: &mut Executor, rows: &[Vec<i32>], index: u64) -> engine::error::Result<f64> {
    let draw = Draw { seed: 1, step: index };
    let trained: usize = rows.iter().map(|row| row.len() - 1).sum();
    executor.write_f32(batch::STEP_COUNT, &[trained as f32])?;
    executor.run("begin", 0, draw)?;
    let micro = executor.module().decisions.micro_batch_size.max(1) as usize;
    let whole = executor.accumulates("micro", result::LOSS);
    let mut loss = 0.0;
    for (number, rows) in rows.chunks(micro).enumerate() {
        write(executor, rows)?;
        executor.run("micro", number as u64, draw)?;
        let now = executor.scalar(result::LOSS)?;
        loss = if whole { now } else { loss + now };
    }
    let correction = |beta: f64| (1.0 - beta.powi(index as i32 + 1)) as f32;
    let scalars = [OPTIMIZER.lr as f32, correction(OPTIMIZER.beta1), correction(OPTIMIZER.beta2)];
    executor.write_f32(batch::UPDATE_SCALARS, &scalars)?;
    executor.run("update", 0, draw)?;
    Ok(loss)
}

/// Writes rows as the batch of a micro-step.
fn write(executor: &mut Executor, rows: &[Vec<i32>]) -> engine::error::Result<()> {
    let (mut ids, mut positions, mut bounds) = (Vec::new(), Vec::new(), vec![0]);
    let (mut index, mut labels, mut of_row) = (Vec::new(), Vec::new(), Vec::new());
    for (number, row) in rows.iter().enumerate() {
        index.extend((0..row.len() as i32 - 1).map(|at| ids.len() as i32 + at));
        labels.extend(&row[1..]);
        of_row.extend(std::iter::repeat_n(number as i32, row.len() - 1));
        ids.extend(row);
        positions.extend(0..row.len() as i32);
        bounds.push(ids.len() as i32);
    }
    executor.set_extent(extent::TOKENS, ids.len() as u64)?;
    executor.set_extent(extent::ROWS, rows.len() as u64)?;
    executor.set_extent(extent::BOUNDS, bounds.len() as u64)?;
    executor.set_extent(extent::TRAINED, index.len() as u64)?;
    executor.write_i32(batch::IDS, &ids)?;
    executor.write_i32(batch::POSITIONS, &positions)?;
    executor.write_i32(batch::CU_SEQLENS, &bounds)?;
    executor.write_i32(batch::ROW_NUMBERS, &(0..rows.len() as i32).collect::<Vec<_>>())?;
    executor.write_i32(batch::TRAINED_INDEX, &index)?;
    executor.write_i32(batch::TRAINED_LABELS, &labels)?;
    executor.write_i32(batch::TRAINED_ROW, &of_row)
}

/// Returns how often a step runs its micro-steps, and with how much.
fn micro(args: &Args, module: &Module) -> (f64, Size) {
    let times = args.batch.div_ceil(module.decisions.micro_batch_size.max(1)) as f64;
    let rows = args.batch as f64 / times;
    let (tokens, trained) = (rows * args.seq as f64, rows * (args.seq - 1) as f64);
    (times, Size { tokens, trained, row_tokens: args.seq as f64, slots: 0, cached: 0 })
}

/// Returns the predicted seconds of a step.
fn predicted(args: &Args, bench: &Bench, module: &Module) -> f64 {
    let (times, size) = micro(args, module);
    let run = |name| program_seconds(module, name, size, &bench.rates);
    run("begin") + times * run("micro") + run("update")
}

/// Returns the operations of a step.
fn flops(args: &Args, module: &Module) -> f64 {
    let (times, size) = micro(args, module);
    let program = module.program("micro").expect("training has micro-steps");
    times * program_cost(module, program, &size.extents(module), size.row_tokens).flops
}

/// The most anonymous memory that the process has had.
#[derive(Debug, Default)]
struct Peak {
    most: AtomicU64,
    stop: AtomicBool,
}

impl Peak {
    fn watch(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.most.fetch_max(resident().unwrap_or(0), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Ends the watching when it goes, also when what is watched panics.
struct Watched<'p>(&'p Peak);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Returns the anonymous memory of this process, in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}
