//! One optimizer step: begin, micro-steps, update.

use super::stage::Training;
use crate::batch;
use crate::error::{EngineError, Result};
use crate::evaluate::write_reference;
use crate::metrics::Preference;
use ops::backend::Draw;
use plan::work::{Unit, batch as names, result};

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
        let executor = &mut self.executor;
        let whole = executor.accumulates("micro", result::LOSS);
        let sums_whole = executor.accumulates("micro", result::METRICS);
        let has_sums = self.work.unit == Unit::Pairs && executor.writes("micro", result::METRICS);
        let of_rows = self.reference.as_ref().map(|reference| reference.train.as_slice());
        let (mut loss, mut sums) = (0.0, [0.0; 4]);
        for (number, micro) in self.laid.micros().iter().enumerate() {
            batch::write(executor, micro)?;
            write_reference(executor, micro, of_rows)?;
            executor.run("micro", number as u64, draw)?;
            let now = executor.scalar(result::LOSS)?;
            loss = if whole { now } else { loss + now };
            if !loss.is_finite() {
                let rows = batch::name_rows(&self.rows.train, [micro]);
                return Err(non_finite("loss", loss, index, &rows));
            }
            if has_sums {
                let now = executor.first::<4>(result::METRICS)?;
                sums = std::array::from_fn(|i| if sums_whole { now[i] } else { sums[i] + now[i] });
            }
        }
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

fn preference(sums: [f64; 4], pairs: u64) -> Preference {
    let [rewards_chosen, rewards_rejected, margin, accuracy] = sums.map(|sum| (sum / pairs as f64) as f32);
    Preference { rewards_chosen, rewards_rejected, margin, accuracy }
}

fn non_finite(what: &str, number: f64, index: u64, rows: &str) -> EngineError {
    let message = format!("the {what} of step {} is {number} in {rows}", index + 1);
    EngineError::new("non-finite-loss", message)
        .help("lower the learning rate, or look at these rows in the data; the last checkpoint is untouched")
}
