//! Takes training steps on random rows, as a stage does, without files and evaluations around them.

use super::random::{Rows, Weights};
use super::setup::{OPTIMIZER, Setup};
use super::{Bench, median, said};
use data::{MicroBatch, Store};
use engine::evaluate::write_reference;
use engine::executor::Executor;
use engine::{batch, reference};
use ops::backend::Draw;
use plan::program::Module;
use plan::work::{Unit, batch as names, result};
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// A model in training.
pub struct Steps<'e> {
    executor: Executor<'e>,
    rows: Rows,
    store: Store,
    reference: Option<Reference>,
    /// Steps and sequences so far.
    taken: u64,
    seen: u64,
    micro: MicroBatch,
}

/// What the weights of the start say of all rows, as before the first step of a stage.
struct Reference {
    logprobs: Vec<f32>,
    seconds_per_sequence: f64,
}

/// A step.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Seconds, those of the reference pass over its rows included.
    pub seconds: f64,
    /// Of those the ones of the reference pass.
    pub reference: f64,
    pub loss: f64,
}

impl<'e> Steps<'e> {
    /// Loads weights, prepares so many sequences and scores them where the objective has a reference.
    pub fn new(
        bench: &'e Bench,
        setup: &Setup,
        module: &'e Module,
        weights: &Weights,
        sequences: u64,
    ) -> Result<Steps<'e>, String> {
        let mut executor = Executor::new(module, &bench.cpu).map_err(said)?;
        weights.load(&mut executor)?;
        let store = setup.rows.store(bench, setup.model.vocab_size(), sequences)?;
        let reference = match setup.rows.pair {
            None => None,
            Some(_) => Some(Reference::score(&mut executor, &store, sequences)?),
        };
        let micro = MicroBatch::default();
        Ok(Steps { executor, rows: setup.rows, store, reference, taken: 0, seen: 0, micro })
    }

    /// Takes a step on the next so many sequences.
    pub fn take(&mut self, sequences: u64) -> Result<Taken, String> {
        let next = self.seen..self.seen + sequences;
        let begun = Instant::now();
        let loss = self.step(next).map_err(said)?;
        let seconds = begun.elapsed().as_secs_f64();
        (self.taken, self.seen) = (self.taken + 1, self.seen + sequences);
        if !loss.is_finite() {
            return Err(format!("the loss of step {} is {loss}", self.taken));
        }
        let reference = self.reference.as_ref().map_or(0.0, |found| found.seconds_per_sequence);
        let reference = reference * sequences as f64;
        Ok(Taken { seconds: seconds + reference, reference, loss })
    }

    fn step(&mut self, sequences: Range<u64>) -> engine::error::Result<f64> {
        let draw = Draw { seed: 1, step: self.taken };
        let unit = if self.rows.pair.is_some() { Unit::Pairs } else { Unit::Tokens };
        let per_sequence = if unit == Unit::Pairs { 1 } else { self.rows.trained() };
        let count = (sequences.end - sequences.start) * per_sequence;
        self.executor.write_f32(names::STEP_COUNT, &[count as f32])?;
        self.executor.run("begin", 0, draw)?;
        let loss = self.micro_steps(sequences, draw)?;
        let correction = |beta: f64| (1.0 - beta.powi(self.taken as i32 + 1)) as f32;
        let scalars = [OPTIMIZER.lr as f32, correction(OPTIMIZER.beta1), correction(OPTIMIZER.beta2)];
        self.executor.write_f32(names::UPDATE_SCALARS, &scalars)?;
        self.executor.run("update", 0, draw)?;
        Ok(loss)
    }

    fn micro_steps(&mut self, sequences: Range<u64>, draw: Draw) -> engine::error::Result<f64> {
        let executor = &mut self.executor;
        let at_once = executor.module().decisions.micro_batch_size.max(1);
        let whole = executor.accumulates("micro", result::LOSS);
        let share = batch::shares(executor, "micro");
        let logprobs = self.reference.as_ref().map(|reference| reference.logprobs.as_slice());
        let mut loss = 0.0;
        for (number, first) in sequences.clone().step_by(at_once as usize).enumerate() {
            let of_micro = first..(first + at_once).min(sequences.end);
            let laid: Vec<_> = of_micro.map(|index| self.rows.sequence(index)).collect();
            self.micro.fill(&self.store, &laid, share);
            batch::write(executor, &self.micro)?;
            write_reference(executor, &self.micro, logprobs)?;
            executor.run("micro", number as u64, draw)?;
            let now = executor.scalar(result::LOSS)?;
            loss = if whole { now } else { loss + now };
        }
        Ok(loss)
    }
}

impl Reference {
    fn score(executor: &mut Executor, store: &Store, sequences: u64) -> Result<Reference, String> {
        let mut begun = Instant::now();
        let mut seconds = Vec::new();
        let stop = AtomicBool::new(false);
        let logprobs = reference::score(executor, store, &stop, |_, _| {
            seconds.push(begun.elapsed().as_secs_f64());
            begun = Instant::now();
        });
        let logprobs = logprobs.map_err(said)?.expect("nobody asked to stop");
        // The first rows also pay for pages and caches that are new.
        let seconds_per_sequence = median(&seconds) * seconds.len() as f64 / sequences as f64;
        Ok(Reference { logprobs, seconds_per_sequence })
    }
}
