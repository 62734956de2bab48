//! Greedy decoding of one prompt: a token after another, each of which reads all weights.

use super::random::{self, Weights};
use super::rounds::Rounds;
use super::{Bench, Measured, load, median, memory, print, said};
use engine::executor::Executor;
use engine::generate::{Decoding, generate};
use lower::builder::Capacities;
use lower::models::Model;
use ops::probe;
use plan::program::Module;
use plan::value::Role;
use plan::work::Sampling;
use serde_json::json;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Measure greedy decoding of a model with random weights, one prompt at a time
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench decode --model-config config.json
  adapt bench decode --model-config config.json --tokens 256 --prompt 512 --precision bf16
  adapt bench decode --model-config config.json --rounds 5 --peer 'python3 generate.py --tokens 128'")]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(2..))]
    tokens: u64,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    prompt: u64,
    /// Answers that are measured, after one that is not
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    #[command(flatten)]
    pub rounds: Rounds,
}

/// Prints the line of an answer.
pub fn run(args: &Args, bench: &Bench) -> Result<(), String> {
    let model = args.measured.model(&args.measured.config()?)?;
    let cached = args.prompt + args.tokens;
    if cached > model.max_positions() {
        return Err(format!("the model knows {} positions, not {cached}", model.max_positions()));
    }
    let capacities = Capacities { tokens: args.prompt, rows: 1, trained: 0, slots: 1, cached };
    let module = lower::programs::generate(&model, capacities, args.measured.dtype());
    let (measured, peak) = memory::watched(|| answers(args, bench, &model, &module));
    let measured = measured?;
    let whole: Vec<f64> = measured.iter().map(|(seconds, _)| *seconds).collect();
    let each = measured.iter().map(|(seconds, first)| (seconds - first) / (args.tokens - 1) as f64);
    let token = median(&each.collect::<Vec<_>>());
    let weights = module.arena_bytes(Role::Weight);
    let bandwidth = bandwidth(bench, weights)?;
    print(&json!({
        "bench": "decode",
        "config": args.measured.name(),
        "precision": args.measured.dtype().name(),
        "prompt": args.prompt,
        "tokens": args.tokens,
        "threads": bench.threads,
        "median_s": median(&whole),
        "min_s": whole.iter().copied().fold(f64::INFINITY, f64::min),
        "tokens_per_s": args.tokens as f64 / median(&whole),
        "tokens_per_s_after_prompt": 1.0 / token,
        "weight_bytes": weights,
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "share_of_bandwidth": weights as f64 / token / bandwidth,
        "peak_rss_anon_bytes": peak.anonymous,
        "predicted_bytes": bench.bytes(&module),
        "peak_rss_bytes": peak.resident,
        "load": load(),
    }))
}

/// Returns the bytes per second that are read of as many bytes as the weights have, on large pages like theirs.
fn bandwidth(bench: &Bench, bytes: u64) -> Result<f64, String> {
    let mut map = memmap2::MmapMut::map_anon(bytes as usize / 4 * 4).map_err(|error| error.to_string())?;
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    // Pages that nobody has written are all the same one.
    map.fill(1);
    Ok(probe::bandwidth(&bench.cpu, bytemuck::cast_slice(&map)))
}

/// Answers all times but the first, which finds pages and caches; returns the seconds of each and of its prompt.
fn answers(args: &Args, bench: &Bench, model: &Model, module: &Module) -> Result<Vec<(f64, f64)>, String> {
    let mut executor = Executor::new(module, &bench.cpu).map_err(said)?;
    Weights::new(bench, model)?.load(&mut executor)?;
    let prompts = [random::ids(model.vocab_size(), 2, 0, args.prompt)];
    one(&mut executor, args, &prompts)?;
    (0..args.steps).map(|_| one(&mut executor, args, &prompts)).collect()
}

/// Answers once; returns the seconds in all, and those to the first token.
fn one(executor: &mut Executor, args: &Args, prompts: &[Vec<u32>]) -> Result<(f64, f64), String> {
    let sampling = Sampling {
        max_tokens: args.tokens,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repetition_penalty: 1.0,
        seed: 1,
    };
    // Nothing ends an answer before its length does.
    let decoding = Decoding { sampling: &sampling, stop_ids: &[], context: None };
    let begun = Instant::now();
    let mut first = None;
    let mut on_token = |_: usize, _: u32| {
        first.get_or_insert_with(|| begun.elapsed().as_secs_f64());
    };
    let stop = AtomicBool::new(false);
    let answers = generate(executor, &decoding, prompts, &stop, &mut on_token).map_err(said)?;
    let made = answers.iter().flatten().map(|answer| answer.ids.len() as u64).sum::<u64>();
    if made != args.tokens {
        return Err(format!("the answer has {made} tokens, not {}", args.tokens));
    }
    Ok((begun.elapsed().as_secs_f64(), first.unwrap_or(0.0)))
}
