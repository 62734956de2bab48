//! The training loop: begin, micro-steps, update; in between evaluations, samples and checkpoints.
//!
//! One loop for all objectives. Going on from a checkpoint gives the bits of a run without a stop: the order
//! of rows and all random draws follow from seed and step, everything else is in the checkpoint.

use crate::batch;
use crate::checkpoint::{self, Checkpoint, State, instruction_set};
use crate::disk;
use crate::error::{EngineError, Result};
use crate::evaluate::{evaluate, write_reference};
use crate::executor::Executor;
use crate::generate::{Decoding, Prompting, answer};
use crate::metrics::{Marks, Metrics, Preference, StepLine};
use crate::model;
use crate::observer::StepReport;
use crate::record::Yields;
use crate::reference::{self, Reference};
use crate::report::Summary;
use crate::run::{Context, Ended, Made};
use crate::weights;
use data::{BatchSpec, Batches, MicroBatch, Side, Store};
use ops::backend::Draw;
use plan::NUMERICS_VERSION;
use plan::program::Module;
use plan::task::{Every, Key};
use plan::work::{Budget, Train, Unit, batch as names, result};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokenizer::Tokenizer;

/// Seconds between checkpoints, and how many are kept, when the recipe does not say.
const CHECKPOINT_SECONDS: u64 = 600;
const CHECKPOINTS_KEPT: u64 = 1;

/// Carries out a training stage.
pub fn run(context: &mut Context, work: &Train) -> Result<Ended> {
    let begun = Instant::now();
    let stage = context.stage()?;
    disk::remove_leftovers(&checkpoint::folder(&stage))?;
    let module = context.module(work.module.as_ref())?;
    let rows = Rows::open(context, work)?;
    let resumed = find_checkpoint(context, module, &stage)?;
    context
        .observer
        .task_started(&context.task.name, resumed.as_ref().map(|checkpoint| checkpoint.state.step));
    let mut executor = Executor::new(module, context.backend)?;
    let Some(reference) = load_reference(context, work, &mut executor, &rows, &stage)? else {
        return Ok(Ended::Stopped { step: resumed.map_or(0, |checkpoint| checkpoint.state.step) });
    };
    let start = context.folder.resolve(&work.model)?;
    if resumed.is_none() || !checkpoint::holds_all_weights(module) {
        weights::load(&mut executor, &work.tensors, &start)?;
    }
    let metrics = match &resumed {
        Some(checkpoint) => {
            checkpoint.restore(&mut executor)?;
            Metrics::resume(&stage, &checkpoint.state.marks)?
        }
        None => Metrics::create(&stage)?,
    };
    let tokenizer = Tokenizer::load(&start)?;
    let mut training = Training::new(context, work, executor, rows, metrics, &stage)?;
    training.reference = reference;
    training.tokenizer = Some(tokenizer);
    training.begun = begun;
    if let Some(step) = training.run(resumed.map(|checkpoint| checkpoint.state))? {
        return Ok(Ended::Stopped { step });
    }
    training.finish(&start)
}

/// The rows that a stage reads, and their order.
struct Rows {
    train: Store,
    /// Absent without held-out rows.
    eval: Option<Store>,
    batches: Batches,
}

impl Rows {
    fn open(context: &Context, work: &Train) -> Result<Rows> {
        let data = context.folder.result(&work.data)?;
        let train = Store::open(&data, Side::Train)?;
        let eval = match &work.eval_data {
            Some(task) => Store::open(&context.folder.result(task)?, Side::Eval)?,
            None => Store::open(&data, Side::Eval)?,
        };
        let spec = BatchSpec {
            unit: work.unit,
            batch: work.batch,
            order: work.order,
            sequence: work.sequence,
            pack: work.pack,
            seed: work.seed,
        };
        let batches = Batches::new(&train, &spec);
        if batches.steps_per_epoch() == 0 {
            return Err(EngineError::new("no-training-rows", "there are no rows to train on")
                .help("look at what was left out and why with `adapt rows`"));
        }
        Ok(Rows { train, eval: Some(eval).filter(|eval| eval.rows() > 0), batches })
    }

    fn steps(&self, work: &Train) -> u64 {
        let per_epoch = self.batches.steps_per_epoch();
        let tokens = || self.train.records().iter().map(|record| u64::from(record.length)).sum::<u64>();
        let steps = work.steps.unwrap_or_else(|| match work.budget {
            Budget::Steps(steps) => steps,
            Budget::Epochs(epochs) => (epochs * per_epoch as f64).ceil() as u64,
            Budget::Tokens(wanted) => {
                (wanted as f64 * per_epoch as f64 / tokens().max(1) as f64).ceil() as u64
            }
        });
        steps.max(1)
    }
}

/// Returns the checkpoint to go on from, after checking that it is one of this task.
fn find_checkpoint(context: &mut Context, module: &Module, stage: &Path) -> Result<Option<Checkpoint>> {
    let Some(checkpoint) = checkpoint::newest(stage)? else { return Ok(None) };
    let state = &checkpoint.state;
    let task = context.task;
    if Some(&state.key) != task.key.as_ref() && !context.options.fork {
        let message = format!(
            "{} holds step {} of `{}` under another recipe ({} instead of {})",
            stage.display(),
            state.step,
            task.name,
            state.key.short(),
            task.key.as_ref().map_or("none", Key::short),
        );
        return Err(EngineError::new("recipe-changed", message).help(
            "undo the change to go on, continue under the changed recipe with --fork, or start anew with --name",
        ));
    }
    if state.decisions != module.decisions {
        let message = format!(
            "the checkpoint was made with micro batch {} and the plan has {}, or they recompute different regions",
            state.decisions.micro_batch_size, module.decisions.micro_batch_size
        );
        context.observer.note(&task.name, &format!("{message}; results may differ in the last bits"));
    }
    let machine = (state.backend.as_str(), state.instruction_set.as_str());
    if machine != (context.backend.name(), instruction_set()) {
        let message = format!(
            "the checkpoint is from backend {} with {}; results may differ in the last bits",
            machine.0, machine.1
        );
        context.observer.note(&task.name, &message);
    }
    Ok(Some(checkpoint))
}

/// Returns the reference log-probabilities, if the objective has any; `None` when asked to stop.
fn load_reference(
    context: &mut Context,
    work: &Train,
    executor: &mut Executor,
    rows: &Rows,
    stage: &Path,
) -> Result<Option<Option<Reference>>> {
    let Some(model) = &work.reference else { return Ok(Some(None)) };
    let key = context.task.key.clone().unwrap_or(Key(String::new()));
    let sizes = [rows.train.rows(), rows.eval.as_ref().map_or(0, Store::rows)];
    if let Some(reference) = Reference::read(stage, &key, sizes) {
        return Ok(Some(Some(reference)));
    }
    weights::load(executor, &work.tensors, &context.folder.resolve(model)?)?;
    let mut score = |store: &Store| {
        reference::score(executor, store, context.stop, |done, total| {
            context.observer.progress(&context.task.name, "scoring the reference", done, Some(total));
        })
    };
    let Some(train) = score(&rows.train)? else { return Ok(None) };
    let eval = rows.eval.as_ref().map(&mut score).transpose()?;
    let Some(eval) = eval.unwrap_or(Some(Vec::new())) else { return Ok(None) };
    let reference = Reference { train, eval };
    reference.write(stage, &key)?;
    Ok(Some(Some(reference)))
}

/// A stage in training.
struct Training<'c, 'a> {
    context: &'c mut Context<'a>,
    work: &'c Train,
    executor: Executor<'c>,
    rows: Rows,
    steps: u64,
    reference: Option<Reference>,
    tokenizer: Option<Tokenizer>,
    metrics: Metrics,
    stage: PathBuf,
    micros: Vec<MicroBatch>,
    summary: Summary,
    begun: Instant,
    /// Seconds of earlier processes.
    seconds_before: f64,
    last_checkpoint: Instant,
    last_evaluation: Instant,
    last_sample: Instant,
    /// Steps and seconds of this process, for the time left.
    pace: (u64, f64),
}

/// What a step computed.
struct Stepped {
    loss: f32,
    grad_norm: f32,
    lr: f64,
    tokens: u64,
    trained_tokens: u64,
    preference: Option<Preference>,
}

impl<'c, 'a> Training<'c, 'a> {
    fn new(
        context: &'c mut Context<'a>,
        work: &'c Train,
        executor: Executor<'c>,
        rows: Rows,
        metrics: Metrics,
        stage: &Path,
    ) -> Result<Self> {
        if !context.task.conduct.samples.is_empty() && !executor.has_program("prefill") {
            return Err(EngineError::plan("the stage has prompts but no program to answer them"));
        }
        let now = Instant::now();
        Ok(Training {
            steps: rows.steps(work),
            context,
            work,
            executor,
            rows,
            reference: None,
            tokenizer: None,
            metrics,
            stage: stage.to_owned(),
            micros: Vec::new(),
            summary: Summary::default(),
            begun: now,
            seconds_before: 0.0,
            last_checkpoint: now,
            last_evaluation: now,
            last_sample: now,
            pace: (0, 0.0),
        })
    }

    /// Trains to the end; returns the steps done when asked to stop before.
    fn run(&mut self, resumed: Option<State>) -> Result<Option<u64>> {
        let mut reports_due = true;
        let mut done = 0;
        if let Some(state) = resumed {
            (done, reports_due) = (state.step, state.reports_due);
            self.seconds_before = state.summary.seconds;
            self.summary = state.summary;
        }
        loop {
            let marks = self.metrics.marks();
            if reports_due && !self.reports(done)? {
                self.checkpoint(done, marks, true)?;
                return Ok(Some(done));
            }
            if done >= self.steps {
                return Ok(None);
            }
            let stop = self.stopping();
            if stop || (reports_due && done > 0 && self.checkpoint_due(done)) {
                let marks = self.metrics.marks();
                self.checkpoint(done, marks, false)?;
            }
            if stop {
                return Ok(Some(done));
            }
            self.step(done)?;
            done += 1;
            reports_due = true;
        }
    }

    /// Takes the step with that index and reports it.
    fn step(&mut self, index: u64) -> Result<()> {
        let started = Instant::now();
        let stepped = self.compute(index)?;
        let seconds = started.elapsed().as_secs_f64();
        let step = index + 1;
        let epoch = self.epoch(step);
        let line = StepLine {
            step,
            epoch,
            loss: stepped.loss,
            lr: stepped.lr,
            grad_norm: stepped.grad_norm,
            preference: stepped.preference,
            tokens: stepped.tokens,
            trained_tokens: stepped.trained_tokens,
            seconds,
            tokens_per_second: stepped.tokens as f64 / seconds.max(1e-9),
        };
        self.metrics.step(&line)?;
        self.pace = (self.pace.0 + 1, self.pace.1 + seconds);
        self.summary.steps = step;
        self.summary.tokens += stepped.tokens;
        self.summary.trained_tokens += stepped.trained_tokens;
        self.summary.step_seconds += seconds;
        self.summary.loss = Some(stepped.loss);
        let report = StepReport {
            step,
            steps: self.steps,
            epoch,
            loss: stepped.loss,
            lr: stepped.lr,
            grad_norm: stepped.grad_norm,
            tokens: stepped.tokens,
            trained_tokens: stepped.trained_tokens,
            seconds,
            eta: self.pace.1 / self.pace.0 as f64 * (self.steps - step) as f64,
        };
        self.context.observer.step(&self.context.task.name, &report);
        Ok(())
    }

    /// Runs the programs of a step: gradients of all micro-steps, then the update.
    fn compute(&mut self, index: u64) -> Result<Stepped> {
        let draw = Draw { seed: self.work.seed, step: index };
        let micros = self.fill(index)?;
        let count: u64 = self.micros[..micros].iter().map(|micro| batch::count(micro, self.work.unit)).sum();
        let trained_tokens: u64 = self.micros[..micros].iter().map(|micro| micro.trained() as u64).sum();
        if count == 0 || trained_tokens == 0 {
            let rows = batch::name_rows(&self.rows.train, &self.micros[..micros]);
            let message = format!("no token of step {} has a loss: {rows}", index + 1);
            return Err(EngineError::new("no-trained-tokens-in-step", message)
                .help("look at these rows with `adapt rows`; shorten prompts or choose a larger batch"));
        }
        self.executor.write_f32(names::STEP_COUNT, &[count as f32])?;
        self.executor.run("begin", 0, draw)?;
        let (loss, metrics) = self.run_micros(index, micros, draw)?;
        let grad_norm = self.update(index, micros, draw)?;
        Ok(Stepped {
            loss: loss as f32,
            grad_norm,
            lr: self.lr(index),
            tokens: self.micros[..micros].iter().map(|micro| micro.tokens() as u64).sum(),
            trained_tokens,
            preference: metrics.map(|sums| preference(sums, count)),
        })
    }

    /// Lays out the rows of a step; returns the number of micro-steps.
    fn fill(&mut self, index: u64) -> Result<usize> {
        let per_epoch = self.rows.batches.steps_per_epoch();
        let sequences = self.rows.batches.step(index / per_epoch, index % per_epoch);
        let micro = self.executor.module().decisions.micro_batch_size;
        let chunks = self.rows.batches.micro_steps(&sequences, micro);
        let count = chunks.len();
        self.micros.resize_with(count.max(self.micros.len()), MicroBatch::default);
        for (micro, sequences) in self.micros.iter_mut().zip(chunks) {
            micro.fill(&self.rows.train, sequences);
        }
        Ok(count)
    }

    /// Runs all micro-steps; returns the loss, and the sums over pairs of a preference objective.
    fn run_micros(&mut self, index: u64, micros: usize, draw: Draw) -> Result<(f64, Option<[f64; 4]>)> {
        let executor = &mut self.executor;
        let whole = executor.accumulates("micro", result::LOSS);
        let sums_whole = executor.accumulates("micro", result::METRICS);
        let has_sums = self.work.unit == Unit::Pairs && executor.writes("micro", result::METRICS);
        let of_rows = self.reference.as_ref().map(|reference| reference.train.as_slice());
        let (mut loss, mut sums) = (0.0, [0.0; 4]);
        for (number, micro) in self.micros[..micros].iter().enumerate() {
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
                let now = executor.read(result::METRICS)?;
                sums = std::array::from_fn(|i| if sums_whole { now[i] } else { sums[i] + now[i] });
            }
        }
        Ok((loss, has_sums.then_some(sums)))
    }

    /// Runs `update`; a gradient norm that is not finite ends the run before any weight is touched.
    fn update(&mut self, index: u64, micros: usize, draw: Draw) -> Result<f32> {
        let optimizer = &self.work.optimizer;
        let correction = |beta: f64| (1.0 - beta.powf((index + 1) as f64)) as f32;
        let scalars = [self.lr(index) as f32, correction(optimizer.beta1), correction(optimizer.beta2)];
        self.executor.write_f32(names::UPDATE_SCALARS, &scalars)?;
        let rest = self.executor.run_to("update", result::GRAD_NORM, draw)?;
        let norm = self.executor.scalar(result::GRAD_NORM)?;
        if !norm.is_finite() {
            let rows = batch::name_rows(&self.rows.train, &self.micros[..micros]);
            return Err(non_finite("gradient norm", norm, index, &rows));
        }
        self.executor.run_from("update", rest, draw)?;
        Ok(norm as f32)
    }

    fn lr(&self, index: u64) -> f64 {
        self.work.schedule.lr(self.work.optimizer.lr, index, self.steps)
    }

    fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.rows.batches.steps_per_epoch() as f64
    }

    fn stopping(&self) -> bool {
        self.context.stop.load(Ordering::Relaxed)
    }

    /// Evaluates and samples where that is due; returns false when asked to stop meanwhile.
    fn reports(&mut self, step: u64) -> Result<bool> {
        let edge = step == 0 || step == self.steps;
        let every = self.context.task.conduct.evaluate;
        let due = edge || every.is_some_and(|every| self.due(every, step, self.last_evaluation));
        if due && !self.evaluate(step)? {
            return Ok(false);
        }
        match step {
            0 => self.summary.answers_before.clear(),
            _ => self.summary.answers_after.clear(),
        }
        let task = self.context.task;
        let since = self.last_sample;
        for sample in &task.conduct.samples {
            if (edge || self.due(sample.every, step, since)) && !self.sample(step, sample)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn evaluate(&mut self, step: u64) -> Result<bool> {
        let Some(store) = &self.rows.eval else { return Ok(true) };
        let of_rows = self.reference.as_ref().map(|reference| reference.eval.as_slice());
        let (task, observer) = (&self.context.task.name, &mut *self.context.observer);
        let progress = |done, total| observer.progress(task, "evaluating", done, Some(total));
        let figures =
            evaluate(&mut self.executor, store, self.work.unit, of_rows, self.context.stop, progress)?;
        let Some(figures) = figures else { return Ok(false) };
        self.metrics.evaluation(step, self.epoch(step), &figures)?;
        self.context.observer.evaluated(&self.context.task.name, step, &figures);
        self.last_evaluation = Instant::now();
        if step == 0 {
            self.summary.before = Some(figures.clone());
        }
        if step == self.steps {
            self.summary.after = Some(figures);
        }
        Ok(true)
    }

    fn sample(&mut self, step: u64, sample: &plan::task::Sample) -> Result<bool> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(true) };
        let prompting = Prompting {
            tokenizer,
            template: sample.template.as_deref(),
            decoding: Decoding { sampling: &sample.sampling, stop_ids: &sample.stop_ids, context: None },
        };
        let stop = self.context.stop;
        let answers = answer(&mut self.executor, &prompting, &sample.prompts, stop, &mut |_, _| {})?;
        let Some(answers) = answers else { return Ok(false) };
        for answer in &answers {
            self.metrics.sample(step, self.epoch(step), answer)?;
        }
        self.context.observer.sampled(&self.context.task.name, step, &answers);
        self.last_sample = Instant::now();
        if step == 0 {
            self.summary.answers_before.extend(answers.clone());
        }
        if step == self.steps {
            self.summary.answers_after.extend(answers);
        }
        Ok(true)
    }

    fn due(&self, every: Every, step: u64, since: Instant) -> bool {
        match every {
            Every::Steps(steps) => step.is_multiple_of(steps.max(1)),
            Every::Epochs(epochs) => {
                let passed = |step: u64| (self.epoch(step) / epochs.max(f64::MIN_POSITIVE) + 1e-9).floor();
                step > 0 && passed(step) > passed(step - 1)
            }
            Every::Seconds(seconds) => since.elapsed() >= Duration::from_secs(seconds),
        }
    }

    fn checkpoint_due(&self, step: u64) -> bool {
        let every = self.context.task.conduct.checkpoint.map(|checkpoint| checkpoint.every);
        self.due(every.unwrap_or(Every::Seconds(CHECKPOINT_SECONDS)), step, self.last_checkpoint)
    }

    /// Writes a checkpoint; metrics up to the marks belong to it.
    fn checkpoint(&mut self, step: u64, marks: Marks, reports_due: bool) -> Result<()> {
        self.metrics.sync()?;
        let task = self.context.task;
        let summary = Summary { seconds: self.seconds(), ..self.summary.clone() };
        let state = State {
            step,
            epoch: self.epoch(step),
            key: task.key.clone().unwrap_or(Key(String::new())),
            numerics: NUMERICS_VERSION,
            backend: self.context.backend.name().to_owned(),
            instruction_set: instruction_set().to_owned(),
            decisions: self.executor.module().decisions.clone(),
            marks,
            reports_due,
            summary,
            tensors: String::new(),
        };
        let keep = task.conduct.checkpoint.map_or(CHECKPOINTS_KEPT, |checkpoint| checkpoint.keep);
        checkpoint::write(&self.stage, &self.executor, &state, keep)?;
        self.last_checkpoint = Instant::now();
        self.context.observer.checkpoint(&task.name, step);
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    /// Saves the model.
    fn finish(mut self, start: &Path) -> Result<Ended> {
        self.metrics.sync()?;
        let path = self.stage.join("model");
        let work = self.work;
        let tokenizer = self.tokenizer.as_ref().expect("a tokenizer is loaded before training");
        let companions = model::Companions {
            config: work.config.as_ref(),
            generation_config: work.generation_config.as_ref(),
            tokenizer,
            chat_template: work.chat_template.as_deref(),
            start: Some(start),
        };
        let bytes = weights::saved_bytes(&work.tensors, &work.dtype)?;
        model::write(&path, bytes, &companions, |folder| {
            weights::save(&self.executor, &work.tensors, &work.dtype, folder)
        })?;
        // Those that the recipe asks for stay; the ones kept against a crash have done their work.
        if self.context.task.conduct.checkpoint.is_none() {
            checkpoint::remove_all(&self.stage)?;
        }
        self.summary.seconds = self.seconds();
        Ok(Ended::Made(Box::new(Made { path, yields: Yields::default(), summary: self.summary })))
    }
}

fn preference(sums: [f64; 4], pairs: u64) -> Preference {
    let [rewards_chosen, rewards_rejected, margin, accuracy] = sums.map(|sum| (sum / pairs as f64) as f32);
    Preference { rewards_chosen, rewards_rejected, margin, accuracy }
}

fn non_finite(what: &str, number: f64, index: u64, rows: &str) -> EngineError {
    let message = format!("the {what} of step {} is {number} in {rows}", index + 1);
    EngineError::new("non-finite-loss", message).help(
        "lower the learning rate, or look at these rows with `adapt rows`; the last checkpoint is untouched",
    )
}

#[cfg(test)]
mod tests;
