//! Training steps of a model with random weights on random tokens, beside what is predicted of them.
//!
//! There is no checkpoint and no evaluation; the rows of all steps are there before the first.

use super::memory::{self, Most};
use super::random::{Pair, Rows, Weights};
use super::rounds::Rounds;
use super::setup::{Recompute, Setup};
use super::steps::{Steps, Taken};
use super::{Bench, Measured, load, median, print};
use crate::text;
use lower::figures::architecture::Kind;
use lower::figures::trained::{Line, Selection, lines};
use lower::figures::{Shapes, shapes, trained};
use lower::models::Model;
use lower::passes::trained::{TrainedPart, part};
use plan::program::{Level, Module};
use plan::value::Role;
use serde_json::{Value, json};

/// Measure training steps of a model with random weights
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench train --model-config config.json
  adapt bench train --model-config config.json --seq 256 --batch 8 --steps 20 --precision bf16
  adapt bench train --model-config config.json --train norms,last
                                       frozen but for its norms and its last layer
  adapt bench train --model-config config.json --train \"embed_tokens,layers 0..4\"
  adapt bench train --model-config config.json --memory 2GiB
                                       what is computed again, as that much memory needs
  adapt bench train --model-config config.json --pairs 2
                                       DPO, half of each row the prompt, the reference pass included
  adapt bench train --model-config config.json --pairs 2 --prompt-tokens 400 --whole-rows
  adapt bench train --model-config config.json --rounds 5 --peer 'python3 train_step.py --seq 512'
                                       in turns with another program, and the ratio of the medians")]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    /// Tokens of a row
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(2..))]
    seq: u64,
    /// Rows of a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Train with DPO on so many pairs of rows a step; each pair is scored by the reference once
    #[arg(long, value_name = "N", conflicts_with = "batch", value_parser = clap::value_parser!(u64).range(1..))]
    pairs: Option<u64>,
    /// Tokens with which both rows of a pair begin; otherwise half of a row
    #[arg(long, value_name = "N", requires = "pairs", value_parser = clap::value_parser!(u64).range(1..))]
    prompt_tokens: Option<u64>,
    /// Compute the prompt of a pair in both of its rows, not once
    #[arg(long, requires = "pairs")]
    whole_rows: bool,
    /// Rows or pairs of a micro-step; otherwise as in a stage
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    micro: Option<u64>,
    /// Steps that are measured
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Steps before those
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: u64,
    /// What is trained, separated by commas: `norms`, `last` (the last layer), or lines of `train`; else everything
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    train: Vec<String>,
    /// What is computed again in the backward pass
    #[arg(long, value_enum, default_value_t)]
    recompute: Recompute,
    /// Memory that the process may use, such as `8GiB`: what is not said is decided by it; otherwise this machine's
    #[arg(long, value_name = "SIZE", value_parser = text::size)]
    memory: Option<u64>,
    #[command(flatten)]
    pub rounds: Rounds,
}

/// Prints the line of a training step.
pub fn run(args: &Args, bench: &Bench) -> Result<(), String> {
    let config = args.measured.config()?;
    let model = args.measured.model(&config)?;
    if args.seq > model.max_positions() {
        return Err(format!("the model knows {} positions, not {}", model.max_positions(), args.seq));
    }
    let shapes = shapes(&config).map_err(|_| "the shapes of this model are not known")?;
    let setup = Setup {
        part: selected(args, &model, &shapes)?,
        model: &model,
        rows: rows(args)?,
        batch: args.pairs.unwrap_or(args.batch),
        dtype: args.measured.dtype(),
        recompute: args.recompute,
        micro: args.micro,
        memory: args.memory,
    };
    let module = setup.planned(bench)?;
    let (taken, peak) = memory::watched(|| steps(args, bench, &setup, &module));
    print(&line(args, bench, &setup, &module, &taken?, peak))
}

fn rows(args: &Args) -> Result<Rows, String> {
    let prompt = args.prompt_tokens.unwrap_or(args.seq / 2);
    if args.pairs.is_some() && prompt >= args.seq {
        return Err(format!(
            "a row of {} tokens has no room for a prompt of {prompt} and an answer",
            args.seq
        ));
    }
    let pair = Pair { prompt, shared: !args.whole_rows };
    Ok(Rows { seq: args.seq, pair: args.pairs.map(|_| pair) })
}

/// Returns what is trained; nothing when that is everything.
fn selected(args: &Args, model: &Model, shapes: &Shapes) -> Result<Option<TrainedPart>, String> {
    let norms = || {
        let norms = shapes.tensors.iter().filter(|tensor| tensor.kind == Kind::Norm);
        Line::Modules(norms.map(|tensor| tensor.module().to_owned()).collect())
    };
    if args.train.iter().any(|word| word.trim().is_empty()) {
        return Err("`--train` names nothing; leave it out to train everything".into());
    }
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

/// Takes all steps; returns those that are measured.
fn steps(args: &Args, bench: &Bench, setup: &Setup, module: &Module) -> Result<Vec<Taken>, String> {
    let weights = Weights::new(bench, setup.model)?;
    let all = args.warmup + args.steps;
    let mut steps = Steps::new(bench, setup, module, &weights, all * setup.batch)?;
    let taken = (0..all).map(|_| steps.take(setup.batch)).collect::<Result<Vec<_>, _>>()?;
    Ok(taken[args.warmup as usize..].to_vec())
}

fn line(args: &Args, bench: &Bench, setup: &Setup, module: &Module, taken: &[Taken], peak: Most) -> Value {
    let seconds: Vec<f64> = taken.iter().map(|step| step.seconds).collect();
    let median = median(&seconds);
    let reached = setup.flops(module).all / median;
    let elements = |role| {
        let of_role = module.values.iter().filter(|value| value.role == role);
        of_role.map(|value| value.elements(&module.capacities())).sum::<u64>()
    };
    let recomputed = &module.decisions.recompute;
    let blocks = recomputed.iter().filter(|region| region.level == Level::Block).count();
    let mut line = json!({
        "bench": "train",
        "config": args.measured.name(),
        "precision": setup.dtype.name(),
        "seq": args.seq,
        "batch": setup.batch,
        "micro": module.decisions.micro_batch_size,
        "recomputed": recomputed.len(),
        "recomputed_blocks": blocks,
        "threads": bench.threads,
        "parameters": setup.model.parameters(),
        "trained_parameters": elements(Role::Gradient),
        "steps": args.steps,
        "warmup": args.warmup,
        "median_s": median,
        "min_s": seconds.iter().copied().fold(f64::INFINITY, f64::min),
        "max_s": seconds.iter().copied().fold(0.0, f64::max),
        "predicted_s": setup.seconds(bench, module),
        "tokens_per_s": (setup.batch * setup.rows.tokens()) as f64 / median,
        "gflops": reached / 1e9,
        "share_of_peak": bench.share(reached, setup.dtype),
        "peak_rss_anon_bytes": peak.anonymous,
        "predicted_bytes": bench.bytes(module),
        "peak_rss_bytes": peak.resident,
        "loss": taken.last().map(|step| step.loss),
        "load": load(),
    });
    if let Some(pair) = setup.rows.pair {
        line["bench"] = json!("train-pairs");
        line["prompt_tokens"] = json!(pair.prompt);
        line["prompts_shared"] = json!(pair.shared);
        line["reference_s"] = json!(taken.last().map(|step| step.reference));
    }
    line
}
