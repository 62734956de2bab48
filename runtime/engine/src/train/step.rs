//! One optimizer step: begin, micro-steps, update.

use super::stage::Training;
use crate::batch;
use crate::error::{EngineError, Result};
use crate::evaluate::write_reference;
use crate::executor::{Executor, Sums};
use crate::metrics::Preference;
use data::MicroBatch;
use ops::backend::Draw;
use plan::work::{Unit, batch as names, result};

/// What to do about a loss that is not finite before anything was trained.
pub const UNTRAINED: &str = "check the weights and the config.json of the model that the stage starts from: it gives no finite loss before any training; or look at these rows in the data";

/// What a step computed.
pub struct Stepped {
    pub loss: f32,
    pub grad_norm: f32,
    pub lr: f64,
    pub tokens: u64,
    pub trained_tokens: u64,
    pub preference: Option<Preference>,
}

impl Training<'_, '_> {
    /// Runs the programs of a step: gradients of all micro-steps, then the update.
    pub fn compute(&mut self, index: u64) -> Result<Stepped> {
        let draw = Draw { seed: self.work.seed, step: index };
        self.laid = self.ahead.step(index, std::mem::take(&mut self.laid));
        let micros = self.laid.micros();
        let count: u64 = micros.iter().map(|micro| batch::count(micro, self.work.unit)).sum();
        let trained_tokens: u64 = micros.iter().map(|micro| micro.trained() as u64).sum();
        if count == 0 || trained_tokens == 0 {
            let rows = batch::name_rows(&self.rows.train, micros);
            let message = format!("no token of step {} has a loss: {rows}", index + 1);
            return Err(EngineError::new("no-trained-tokens-in-step", message)
                .help("look at these rows in the data; shorten prompts or choose a larger batch"));
        }
        self.executor.write_f32(names::STEP_COUNT, &[count as f32])?;
        self.executor.run("begin", 0, draw)?;
        let (loss, metrics) = self.run_micros(index, draw)?;
        let grad_norm = self.update(index, draw)?;
        Ok(Stepped {
            loss: loss as f32,
            grad_norm,
            lr: self.lr(index),
            tokens: self.laid.micros().iter().map(|micro| micro.tokens_of_rows() as u64).sum(),
            trained_tokens,
            preference: metrics.map(|sums| preference(sums, count)),
        })
    }

    /// Runs all micro-steps; returns the loss, and the sums over pairs of a preference objective.
    fn run_micros(&mut self, index: u64, draw: Draw) -> Result<(f64, Option<[f64; 4]>)> {
        let Training { executor, laid, total, rows, .. } = self;
        let has_sums = self.work.unit == Unit::Pairs && executor.writes("micro", result::METRICS);
        let of_rows = self.reference.as_ref().map(|reference| reference.train.as_slice());
        total.clear();
        for (number, round) in laid.rounds().enumerate() {
            let draw = Round { number: number as u64, draw };
            let done = run_round(executor, round, of_rows, draw, |rank, sums| {
                let loss = total.add(rank, sums);
                if !loss.is_finite() {
                    let rows = batch::name_rows(&rows.train, [&round[rank]]);
                    return Err(non_finite("loss", loss, index, &rows));
                }
                Ok(())
            });
            done.inspect_err(|error| executor.fail(error))?;
        }
        let (loss, sums) = total.over_all_ranks();
        Ok((loss, has_sums.then_some(sums)))
    }

    /// Runs `update`; a gradient norm that is not finite ends the run before any weight is touched.
    ///
    /// Nothing is touched either before the checkpoint of the step before is complete.
    fn update(&mut self, index: u64, draw: Draw) -> Result<f32> {
        let optimizer = &self.work.optimizer;
        let correction = |beta: f64| (1.0 - beta.powf((index + 1) as f64)) as f32;
        let scalars = [self.lr(index) as f32, correction(optimizer.beta1), correction(optimizer.beta2)];
        self.executor.write_f32(names::UPDATE_SCALARS, &scalars)?;
        let rest = self.executor.run_to("update", result::GRAD_NORM, draw)?;
        let norm = self.executor.scalar(result::GRAD_NORM)?;
        if !norm.is_finite() {
            let rows = batch::name_rows(&self.rows.train, self.laid.micros());
            return Err(non_finite("gradient norm", norm, index, &rows));
        }
        self.saved()?;
        self.executor.run_from("update", rest, draw)?;
        Ok(norm as f32)
    }

    fn lr(&self, index: u64) -> f64 {
        self.work.schedule.lr(self.work.optimizer.lr, index, self.steps)
    }
}

/// Which micro-step of a step it is.
#[derive(Clone, Copy)]
struct Round {
    number: u64,
    draw: Draw,
}

/// Runs the micro-steps that ranks take at once; `found` takes the results of each, in their order.
fn run_round(
    executor: &mut Executor,
    micros: &[MicroBatch],
    reference: Option<&[f32]>,
    Round { number, draw }: Round,
    mut found: impl FnMut(usize, Sums) -> Result<()>,
) -> Result<()> {
    let (own, others) = micros.split_first().expect("a round has a micro-step of each rank");
    // What the others take is written here first, and goes on from here.
    for (rank, micro) in others.iter().enumerate() {
        batch::write(executor, micro)?;
        write_reference(executor, micro, reference)?;
        executor.run_micro_on(rank + 1, number, draw)?;
    }
    batch::write(executor, own)?;
    write_reference(executor, own, reference)?;
    executor.run_micro(number, draw)?;
    found(0, executor.sums()?)?;
    (1..micros.len()).try_for_each(|rank| found(rank, executor.ran(rank)?))
}

/// Results of the micro-steps of a step, of each rank.
pub struct Total {
    /// Whether a rank's results are those of all its micro-steps so far, for the loss and the sums over pairs.
    whole: [bool; 2],
    own: Sums,
    others: Vec<Sums>,
}

impl Total {
    pub fn new(executor: &Executor) -> Total {
        let whole = [result::LOSS, result::METRICS].map(|name| executor.accumulates("micro", name));
        Total { whole, own: Sums::default(), others: vec![Sums::default(); executor.ranks() - 1] }
    }

    /// Begins another step.
    fn clear(&mut self) {
        self.own = Sums::default();
        self.others.fill(Sums::default());
    }

    /// Takes a rank's results; returns its loss so far.
    fn add(&mut self, rank: usize, (loss, sums): Sums) -> f64 {
        let [loss_whole, sums_whole] = self.whole;
        let so_far = if rank == 0 { &mut self.own } else { &mut self.others[rank - 1] };
        so_far.0 = if loss_whole { loss } else { so_far.0 + loss };
        so_far.1 = std::array::from_fn(|i| if sums_whole { sums[i] } else { so_far.1[i] + sums[i] });
        so_far.0
    }

    fn over_all_ranks(&self) -> Sums {
        let plus = |a: Sums, b: &Sums| (a.0 + b.0, std::array::from_fn(|i| a.1[i] + b.1[i]));
        self.others.iter().fold(self.own, plus)
    }
}

fn preference(sums: [f64; 4], pairs: u64) -> Preference {
    let [rewards_chosen, rewards_rejected, margin, accuracy] = sums.map(|sum| (sum / pairs as f64) as f32);
    Preference { rewards_chosen, rewards_rejected, margin, accuracy }
}

fn non_finite(what: &str, number: f64, index: u64, rows: &str) -> EngineError {
    let message = format!("the {what} of step {} is {number} in {rows}", index + 1);
    let error = EngineError::new("non-finite-loss", message);
    match index {
        0 => error.help(UNTRAINED),
        _ => error.help(
            "lower the learning rate, or look at these rows in the data; the last checkpoint is untouched",
        ),
    }
}
