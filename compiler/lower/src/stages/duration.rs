//! How long a training stage takes on a machine that was probed: its programs, as often as they run.
//!
//! Steps, evaluations, samples and the reference's pass count; loading, and checkpoints that are written
//! beside the next step, do not.

use super::train::Counts;
use crate::figures::rates::{Size, program_seconds};
use lang::facts::{PartFact, PreparedFact, Rates};
use plan::program::Module;
use plan::task::{Conduct, Every, Figure, Sample};
use plan::work::extent;

/// Bytes of a token of a prompt, about.
const TOKEN_BYTES: f64 = 4.0;

/// What a stage runs.
#[derive(Clone, Copy)]
pub(super) struct Stage<'s> {
    pub module: &'s Module,
    pub counts: &'s Counts,
    pub conduct: &'s Conduct,
    /// What is known of its rows.
    pub prepared: Option<&'s PreparedFact>,
}

impl Stage<'_> {
    /// Returns the predicted time; always an estimate.
    pub(super) fn seconds(self, rates: &Rates) -> Figure {
        let steps = self.counts.steps() as f64 * self.step(rates);
        let value = steps + self.evaluations(rates) + self.samples(rates) + self.reference(rates);
        Figure { value, estimate: true }
    }

    fn step(self, rates: &Rates) -> f64 {
        let counts = self.counts;
        let decided = Some(self.module.decisions.micro_batch_size).filter(|micro| *micro > 0);
        let micro = decided.unwrap_or_else(|| counts.default_micro(counts.batch));
        let micros = counts.batch.max(1).div_ceil(micro) as f64;
        let tokens = counts.tokens_per_step() / micros;
        let micro = self.rows(tokens, self.prepared.map(|fact| &fact.train));
        let run = |name, size| program_seconds(self.module, name, size, rates);
        run("begin", micro) + micros * run("micro", micro) + run("update", micro)
    }

    /// Sizes of rows of one side that are run together.
    fn rows(self, tokens: f64, side: Option<&PartFact>) -> Size {
        let share = side.filter(|side| side.tokens > 0);
        let share = share.map_or(1.0, |side| side.trained_tokens as f64 / side.tokens as f64);
        Size { tokens, trained: tokens * share, row_tokens: self.counts.mean_row, slots: 0, cached: 0 }
    }

    /// Returns the time of a program over all rows of a side, as many at once as fit.
    fn over(self, name: &str, side: &PartFact, rates: &Rates) -> f64 {
        let room = self.module.extents.iter().find(|extent| extent.name == extent::TOKENS);
        let room = room.map_or(1, |extent| extent.capacity).max(1);
        let times = side.tokens.div_ceil(room).max(1) as f64;
        times * program_seconds(self.module, name, self.rows(side.tokens as f64 / times, Some(side)), rates)
    }

    fn evaluations(self, rates: &Rates) -> f64 {
        let Some(side) = self.prepared.map(|fact| &fact.eval).filter(|side| side.rows > 0) else {
            return 0.0;
        };
        let times = self.conduct.evaluate.map_or(0.0, |every| self.times(every));
        times * self.over("evaluate", side, rates)
    }

    fn reference(self, rates: &Rates) -> f64 {
        let sides = self.prepared.into_iter().flat_map(|fact| [&fact.train, &fact.eval]);
        sides.filter(|side| side.rows > 0).map(|side| self.over("reference", side, rates)).sum()
    }

    fn samples(self, rates: &Rates) -> f64 {
        let each = |sample: &Sample| self.times(sample.every) * self.sample(sample, rates);
        self.conduct.samples.iter().map(each).sum()
    }

    fn sample(self, sample: &Sample, rates: &Rates) -> f64 {
        let slots = sample.prompts.len() as u64;
        let bytes: usize = sample.prompts.iter().map(String::len).sum();
        let tokens = (bytes as f64 / TOKEN_BYTES).max(slots as f64);
        let prompt = tokens / slots.max(1) as f64;
        let most = sample.sampling.max_tokens;
        let whole = Size { tokens, trained: 0.0, row_tokens: prompt, slots, cached: prompt as u64 };
        let one = Size { tokens: slots as f64, cached: prompt as u64 + most / 2, ..whole };
        let decode = most.saturating_sub(1) as f64 * program_seconds(self.module, "decode", one, rates);
        program_seconds(self.module, "prefill", whole, rates) + decode
    }

    /// Returns how often something is done: before the first step, after the last, and in between.
    fn times(self, every: Every) -> f64 {
        let steps = self.counts.steps();
        let between = match every {
            Every::Steps(every) => (steps.saturating_sub(1) / every.max(1)) as f64,
            Every::Epochs(every) => ((self.counts.epochs() / every).ceil() - 1.0).max(0.0),
            // How many intervals fit is what is being asked.
            Every::Seconds(_) => 0.0,
        };
        2.0 + between
    }
}
