//! What a token costs, over the tokens of a step and over the length of rows.
//!
//! More tokens in a step should leave the cost of one as it is. Longer rows make attention dearer and nothing
//! else: operations per token say by how much at least.

use super::random::{Rows, Weights};
use super::setup::{Flops, Recompute, Setup};
use super::steps::Steps;
use super::{Bench, Measured, load, median, print};
use serde_json::{Value, json};

/// Measure what a token costs, over the tokens of a step and over the length of rows
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench scaling --model-config config.json           1k to 64k tokens a step, rows of 256 to 8192
  adapt bench scaling --model-config config.json --precision bf16 --steps 3
  adapt bench scaling --model-config config.json --quick   few tokens: whether it works, not how fast it is")]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    /// What is computed again in the backward pass
    #[arg(long, value_enum, default_value_t)]
    recompute: Recompute,
    /// Steps that are measured at each size, after part of one; otherwise more where they are short
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Few tokens and short rows: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
}

/// Sizes that are gone through, each twice the one before.
struct Sizes {
    /// Tokens of a row, and most of a step.
    tokens: (u64, std::ops::RangeInclusive<u64>),
    /// Tokens of a step, and of a row.
    lengths: (u64, std::ops::RangeInclusive<u64>),
}

const WHOLE: Sizes = Sizes { tokens: (512, 1 << 10..=1 << 16), lengths: (1 << 13, 1 << 8..=1 << 13) };
const QUICK: Sizes = Sizes { tokens: (32, 1 << 6..=1 << 8), lengths: (1 << 7, 1 << 5..=1 << 7) };

/// Prints a line for each size, and one for each of the two kinds.
pub fn run(args: &Args, bench: &Bench) -> Result<(), String> {
    let sizes = if args.quick { QUICK } else { WHOLE };
    let mut config = args.measured.config()?;
    raise_positions(&mut config, *sizes.lengths.1.end());
    let model = args.measured.model(&config)?;
    let weights = Weights::new(bench, &model)?;
    let steps = |over: &'static str, points: Vec<(u64, u64)>| {
        let setup = |&(seq, batch): &(u64, u64)| Setup {
            model: &model,
            part: None,
            rows: Rows { seq, pair: None },
            batch,
            dtype: args.measured.dtype(),
            recompute: args.recompute,
            micro: None,
            memory: None,
        };
        let mut found: Vec<Point> = Vec::new();
        for setup in points.iter().map(setup) {
            let point = measure(args, bench, &setup, &weights)?;
            print(&point.line(args, bench, over, found.first().unwrap_or(&point)))?;
            found.push(point);
        }
        print(&summary(over, &found))?;
        Ok::<(), String>(())
    };
    let (seq, tokens) = sizes.tokens;
    steps("tokens", doubled(tokens).map(|tokens| (seq, tokens / seq)).collect())?;
    let (tokens, lengths) = sizes.lengths;
    steps("sequence", doubled(lengths).map(|seq| (seq, tokens / seq)).collect())
}

fn doubled(range: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = u64> {
    let (first, last) = range.into_inner();
    std::iter::successors(Some(first), move |size| Some(size * 2).filter(|size| *size <= last))
}

/// Lets a model know as many positions as rows have; its weights are random anyhow.
fn raise_positions(config: &mut Value, positions: u64) {
    for field in ["max_position_embeddings", "n_positions"] {
        if config[field].as_u64().is_some_and(|known| known < positions) {
            config[field] = json!(positions);
        }
    }
}

/// A size that was measured.
#[derive(Debug, Clone, Copy)]
struct Point {
    seq: u64,
    batch: u64,
    micro: u64,
    recomputed: usize,
    steps: u64,
    seconds: f64,
    predicted: f64,
    flops: Flops,
}

fn measure(args: &Args, bench: &Bench, setup: &Setup, weights: &Weights) -> Result<Point, String> {
    /// Tokens that are measured at each size, unless a step has more.
    const ENOUGH: u64 = 1 << 14;
    const MOST: u64 = 6;
    let module = setup.planned(bench)?;
    let micro = module.decisions.micro_batch_size.clamp(1, setup.batch);
    let count = args.steps.unwrap_or((ENOUGH / (setup.batch * setup.rows.seq)).clamp(1, MOST));
    let mut steps = Steps::new(bench, setup, &module, weights, micro + count * setup.batch)?;
    // One micro-step finds all pages and caches; a whole step of many would take as long as the measurement.
    steps.take(micro)?;
    let taken = (0..count).map(|_| steps.take(setup.batch)).collect::<Result<Vec<_>, _>>()?;
    Ok(Point {
        seq: setup.rows.seq,
        batch: setup.batch,
        micro,
        recomputed: module.decisions.recompute.len(),
        steps: count,
        seconds: median(&taken.iter().map(|step| step.seconds).collect::<Vec<_>>()),
        predicted: setup.seconds(bench, &module),
        flops: setup.flops(&module),
    })
}

impl Point {
    fn tokens(&self) -> f64 {
        (self.seq * self.batch) as f64
    }

    /// Seconds of a token.
    fn cost(&self) -> f64 {
        self.seconds / self.tokens()
    }

    /// Cost of a token as a multiple of another's, and its operations.
    fn ratios(&self, other: &Point) -> (f64, f64) {
        let flops = |point: &Point| point.flops.all / point.tokens();
        (self.cost() / other.cost(), flops(self) / flops(other))
    }

    fn line(&self, args: &Args, bench: &Bench, over: &str, first: &Point) -> Value {
        let (cost_ratio, flops_ratio) = self.ratios(first);
        json!({
            "bench": "scaling",
            "over": over,
            "config": args.measured.name(),
            "precision": args.measured.dtype().name(),
            "seq": self.seq,
            "batch": self.batch,
            "tokens": self.seq * self.batch,
            "micro": self.micro,
            "recomputed": self.recomputed,
            "threads": bench.threads,
            "steps": self.steps,
            "median_s": self.seconds,
            "predicted_s": self.predicted,
            "tokens_per_s": self.tokens() / self.seconds,
            "us_per_token": self.cost() * 1e6,
            "mflop_per_token": self.flops.all / self.tokens() / 1e6,
            "attention_share": self.flops.attention / self.flops.all,
            "share_of_peak": bench.share(self.flops.all / self.seconds, args.measured.dtype()),
            "cost_ratio": cost_ratio,
            "flops_ratio": flops_ratio,
            "excess": cost_ratio / flops_ratio,
            "load": load(),
        })
    }
}

/// Returns how far the costs of a token lie apart, and the most by which one grew more than its operations.
fn summary(over: &str, points: &[Point]) -> Value {
    let costs = || points.iter().map(Point::cost);
    let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    let excess = points.iter().map(|point| {
        let (cost, flops) = point.ratios(&points[0]);
        cost / flops
    });
    json!({
        "bench": "scaling-summary",
        "over": over,
        "most_over_least": most / least,
        "most_excess": excess.fold(0.0, f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_doubled_and_steps_hold_whole_rows() {
        assert_eq!(doubled(1..=8).collect::<Vec<_>>(), [1, 2, 4, 8]);
        for sizes in [WHOLE, QUICK] {
            let (seq, tokens) = sizes.tokens;
            assert!(doubled(tokens).all(|tokens| tokens % seq == 0));
            let (tokens, lengths) = sizes.lengths;
            assert!(doubled(lengths).all(|seq| tokens % seq == 0));
        }
    }

    #[test]
    fn costs_are_compared_with_operations() {
        let point = |seq, seconds, all| Point {
            seq,
            batch: 1,
            micro: 1,
            recomputed: 0,
            steps: 1,
            seconds,
            predicted: seconds,
            flops: Flops { all, attention: 0.0 },
        };
        // Twice the tokens in three times the time, for 2.5 times the operations.
        let points = [point(8, 1.0, 1e6), point(16, 3.0, 2.5e6)];
        assert_eq!(points[1].ratios(&points[0]), (1.5, 1.25));
        let line = summary("sequence", &points);
        assert_eq!((line["most_over_least"].as_f64(), line["most_excess"].as_f64()), (Some(1.5), Some(1.2)));
    }

    #[test]
    fn positions_are_raised_and_never_lowered() {
        let mut config = json!({ "max_position_embeddings": 256, "n_positions": 9000 });
        raise_positions(&mut config, 8192);
        assert_eq!(config, json!({ "max_position_embeddings": 8192, "n_positions": 9000 }));
        let mut config = json!({});
        raise_positions(&mut config, 8192);
        assert_eq!(config.get("max_position_embeddings"), None);
    }
}
