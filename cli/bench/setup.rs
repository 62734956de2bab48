//! A training step that is measured: what it is made of, its programs, and what is predicted of them.
//!
//! The programs are those of a stage: the same search decides micro batch and recomputation, unless they
//! are said.

use super::Bench;
use super::random::Rows;
use crate::{facts, text};
use lower::builder::Capacities;
use lower::figures::rates::{Size, program_seconds};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::search::{self, Choices, cheapest};
use lower::passes::trained::TrainedPart;
use lower::programs::{Training, draft};
use plan::cost::op_cost;
use plan::op::{OpKind, PreferenceLoss};
use plan::program::{Level, Module};
use plan::value::Dtype;
use plan::work::AdamW;

/// As people fine-tune: the values of the comparison, which cost nothing.
pub const OPTIMIZER: AdamW =
    AdamW { lr: 1e-5, weight_decay: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

/// Tokens of a micro-step that keep caches and cores busy, as stages have them.
const MICRO_STEP_TOKENS: u64 = 4096;

/// A training step.
pub struct Setup<'m> {
    pub model: &'m Model,
    /// What is trained; nothing when that is everything.
    pub part: Option<TrainedPart>,
    pub rows: Rows,
    /// Sequences of a step.
    pub batch: u64,
    pub dtype: Dtype,
    pub recompute: Recompute,
    /// Sequences of a micro-step; nothing leaves them to the search.
    pub micro: Option<u64>,
    /// Bytes that the process may take; nothing takes what the machine has.
    pub memory: Option<u64>,
}

/// What is computed again in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Recompute {
    /// As memory needs
    #[default]
    Auto,
    /// Nothing
    None,
    /// Norms and activation functions
    Cheap,
    /// Whole blocks
    Block,
}

impl From<Recompute> for search::Recompute {
    fn from(said: Recompute) -> Self {
        match said {
            Recompute::Auto => search::Recompute::Auto,
            Recompute::None => search::Recompute::All(None),
            Recompute::Cheap => search::Recompute::All(Some(Level::Cheap)),
            Recompute::Block => search::Recompute::All(Some(Level::Block)),
        }
    }
}

/// Operations of a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flops {
    pub all: f64,
    /// Of those the ones of attention.
    pub attention: f64,
}

impl Setup<'_> {
    /// Returns the programs, decided as a stage's are.
    pub fn planned(&self, bench: &Bench) -> Result<Module, String> {
        let capacities = |micro: u64| Capacities {
            tokens: micro * self.rows.computed(),
            rows: micro * self.rows.rows(),
            trained: micro * self.rows.computed(),
            slots: 0,
            cached: 0,
        };
        let micros = self.micros();
        let limit = self.memory.unwrap_or_else(|| facts::hardware().memory);
        let objective = self.objective();
        let training = Training { objective, optimizer: &OPTIMIZER, part: self.part.as_ref() };
        let drafted = draft(self.model, &training, capacities(micros[0]), self.dtype);
        let choices = Choices {
            micros,
            recompute: self.recompute.into(),
            batch: self.batch,
            sequence_tokens: self.rows.computed(),
            row_tokens: self.rows.row_tokens(),
            capacities: &capacities,
            bytes: &|module| bench.bytes(module),
            limit: Some(limit),
        };
        cheapest(&drafted, &choices).map_err(|too_large| {
            let [needed, limit] = [bench.bytes(&too_large.module), limit].map(text::bytes);
            format!("this needs {needed}, {limit} may be used")
        })
    }

    fn objective(&self) -> Objective {
        const DPO: PreferenceLoss = PreferenceLoss::Sigmoid { label_smoothing: 0.0 };
        match self.rows.pair {
            None => Objective::CrossEntropy,
            Some(_) => Objective::Preference { loss: DPO, beta: 0.1 },
        }
    }

    /// Sequences of a micro-step to choose from, from many to few.
    fn micros(&self) -> Vec<u64> {
        if let Some(micro) = self.micro {
            return vec![micro.min(self.batch)];
        }
        let most = (MICRO_STEP_TOKENS / self.rows.computed()).clamp(1, self.batch);
        let first = self.batch.div_ceil(self.batch.div_ceil(most));
        std::iter::successors(Some(first), |micro| (*micro > 1).then(|| micro.div_ceil(2))).collect()
    }

    /// Returns how often a step runs its micro-steps, and with how much.
    fn micro_steps(&self, module: &Module) -> (f64, Size) {
        let times = self.batch.div_ceil(module.decisions.micro_batch_size.max(1)) as f64;
        let sequences = self.batch as f64 / times;
        let tokens = sequences * self.rows.computed() as f64;
        let trained = sequences * self.rows.trained() as f64;
        (times, Size { tokens, trained, row_tokens: self.rows.row_tokens(), slots: 0, cached: 0 })
    }

    /// Returns the predicted seconds of a step, its share of the reference pass included.
    pub fn seconds(&self, bench: &Bench, module: &Module) -> f64 {
        let (times, size) = self.micro_steps(module);
        let run = |name| program_seconds(module, name, size, &bench.rates);
        run("begin") + times * (run("reference") + run("micro")) + run("update")
    }

    /// Returns the operations of a step, its share of the reference pass included.
    pub fn flops(&self, module: &Module) -> Flops {
        let (times, size) = self.micro_steps(module);
        let extents = size.extents(module);
        let programs = ["reference", "micro"].into_iter().filter_map(|name| module.program(name));
        programs.flat_map(|program| &program.ops).fold(Flops::default(), |sum, op| {
            let flops = times * op_cost(module, op, &extents, size.row_tokens).flops;
            let attends = matches!(op.kind, OpKind::Attention(_) | OpKind::AttentionGrad(_));
            Flops { all: sum.all + flops, attention: sum.attention + if attends { flops } else { 0.0 } }
        })
    }
}
