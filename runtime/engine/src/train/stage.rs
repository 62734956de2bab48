//! A stage in training: steps, and between them evaluations, samples and checkpoints.

use super::Rows;
use super::ahead::{Ahead, Laid, Source};
use super::saving::Saving;
use super::step::{Total, UNTRAINED};
use crate::checkpoint::{self, Reports, Snapshot, State};
use crate::error::{EngineError, Result};
use crate::evaluate::evaluate;
use crate::executor::Executor;
use crate::frozen::Frozen;
use crate::generate::{Decoding, Prompting, answer};
use crate::metrics::{Metrics, Position, StepLine};
use crate::observer::StepReport;
use crate::origin::Origin;
use crate::record::Yields;
use crate::reference::Reference;
use crate::report::Summary;
use crate::run::{Context, Ended, Made};
use crate::{model, weights};
use ops::cpu::instruction_set;
use plan::NUMERICS_VERSION;
use plan::task::{Every, Key};
use plan::work::Train;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokenizer::Tokenizer;

/// Seconds between checkpoints, and how many are kept, when the recipe does not say.
const CHECKPOINT_SECONDS: u64 = 600;
const CHECKPOINTS_KEPT: u64 = 1;

/// What is loaded before the first step.
pub struct Loaded<'c> {
    pub begun: Instant,
    pub stage: PathBuf,
    pub origin: Origin,
    pub executor: Executor<'c>,
    pub rows: Rows,
    pub reference: Option<Reference>,
    pub tokenizer: Tokenizer,
    pub metrics: Metrics,
}

/// A stage in training.
pub struct Training<'c, 'a> {
    pub context: &'c mut Context<'a>,
    pub work: &'c Train,
    pub executor: Executor<'c>,
    pub rows: Rows,
    pub steps: u64,
    pub reference: Option<Reference>,
    pub tokenizer: Tokenizer,
    pub metrics: Metrics,
    pub stage: PathBuf,
    origin: Origin,
    /// The rows of the present step, and those of the next on their way.
    pub laid: Laid,
    pub ahead: Ahead,
    /// Results of the present step.
    pub total: Total,
    /// The checkpoint that is being written.
    saving: Option<Saving>,
    pub summary: Summary,
    pub begun: Instant,
    /// Seconds of earlier processes.
    pub seconds_before: f64,
    pub last_checkpoint: Instant,
    pub last_evaluation: Instant,
    pub last_sample: Instant,
    /// Steps and seconds of this process, for the time left.
    pub pace: (u64, f64),
}

impl<'c, 'a> Training<'c, 'a> {
    pub fn new(context: &'c mut Context<'a>, work: &'c Train, loaded: Loaded<'c>) -> Result<Self> {
        let Loaded { begun, stage, origin, executor, rows, reference, tokenizer, metrics } = loaded;
        if !context.task.conduct.samples.is_empty() && !executor.has_program("prefill") {
            return Err(EngineError::plan("the stage has prompts but no program to answer them"));
        }
        let now = Instant::now();
        let steps = rows.steps(work);
        Ok(Training {
            ahead: Ahead::new(Source::new(&rows, &executor), steps)?,
            total: Total::new(&executor),
            steps,
            origin,
            context,
            work,
            executor,
            rows,
            reference,
            tokenizer,
            metrics,
            stage,
            laid: Laid::default(),
            saving: None,
            summary: Summary::default(),
            begun,
            seconds_before: 0.0,
            last_checkpoint: now,
            last_evaluation: now,
            last_sample: now,
            pace: (0, 0.0),
        })
    }

    /// Trains to the end; returns the steps done when asked to stop before.
    pub fn run(&mut self, resumed: Option<State>) -> Result<Option<u64>> {
        let ended = self.run_steps(resumed);
        // Every way out waits for the checkpoint that is being written.
        match (ended, self.saved()) {
            (Err(error), Err(second)) => {
                let note = format!("the last checkpoint was not written: {}", second.message);
                self.context.observer.note(&self.context.task.name, &note);
                Err(error)
            }
            (ended, saved) => saved.and(ended),
        }
    }

    fn run_steps(&mut self, resumed: Option<State>) -> Result<Option<u64>> {
        let mut reports = Reports::Due;
        let mut done = 0;
        if let Some(state) = resumed {
            (done, reports) = (state.step, state.reports);
            self.seconds_before = state.summary.seconds;
            self.summary = state.summary;
        }
        loop {
            let fresh = reports != Reports::Done;
            let position = self.report(done, &mut reports)?;
            if reports != Reports::Done {
                self.checkpoint(done, position, reports)?;
                return Ok(Some(done));
            }
            if done >= self.steps {
                return Ok(None);
            }
            let stop = self.stopping();
            if stop || (fresh && done > 0 && self.checkpoint_due(done)) {
                self.checkpoint(done, position, reports)?;
            }
            if stop {
                return Ok(Some(done));
            }
            self.step(done)?;
            done += 1;
            reports = Reports::Due;
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

    fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.rows.batches.steps_per_epoch() as f64
    }

    fn stopping(&self) -> bool {
        self.context.stop.load(Ordering::Relaxed)
    }

    /// Evaluates and samples where that is due, unless asked to stop meanwhile.
    ///
    /// Moves `reports` on, and returns how much of the metrics belongs to what was reported.
    fn report(&mut self, step: u64, reports: &mut Reports) -> Result<Position> {
        let position = self.metrics.position();
        if *reports == Reports::Due {
            let due = |every| self.at_edge(step) || self.due(every, step, self.last_evaluation);
            if self.context.task.conduct.evaluate.is_some_and(due) && !self.evaluate(step)? {
                return Ok(position);
            }
            *reports = Reports::Evaluated;
        }
        let position = self.metrics.position();
        if *reports == Reports::Evaluated {
            if !self.samples(step)? {
                return Ok(position);
            }
            *reports = Reports::Done;
        }
        Ok(self.metrics.position())
    }

    /// Returns whether the step is one after which everything is reported: before the first, and the last.
    fn at_edge(&self, step: u64) -> bool {
        step == 0 || step == self.steps
    }

    fn samples(&mut self, step: u64) -> Result<bool> {
        match step {
            0 => self.summary.answers_before.clear(),
            _ => self.summary.answers_after.clear(),
        }
        let task = self.context.task;
        let since = self.last_sample;
        for sample in &task.conduct.samples {
            let due = self.at_edge(step) || self.due(sample.every, step, since);
            if due && !self.sample(step, sample)? {
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
        let evaluated =
            evaluate(&mut self.executor, store, self.work.unit, of_rows, self.context.stop, progress);
        let figures = evaluated.map_err(|error| match step {
            0 if error.code == "non-finite-loss" => error.help(UNTRAINED),
            _ => error,
        })?;
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
        let prompting = Prompting {
            tokenizer: &self.tokenizer,
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

    /// Begins to write a checkpoint; metrics up to the position belong to it.
    fn checkpoint(&mut self, step: u64, position: Position, reports: Reports) -> Result<()> {
        self.saved()?;
        let task = self.context.task;
        let summary = Summary { seconds: self.seconds(), ..self.summary.clone() };
        let state = State {
            step,
            epoch: self.epoch(step),
            key: task.key.clone().unwrap_or(Key(String::new())),
            origin: self.origin.clone(),
            numerics: NUMERICS_VERSION,
            backend: self.context.backend.name().to_owned(),
            instruction_set: instruction_set().to_owned(),
            decisions: self.executor.module().decisions.clone(),
            mesh: self.executor.module().mesh,
            marks: self.metrics.marks(position),
            reports,
            summary,
            tensors: String::new(),
        };
        let keep = task.conduct.checkpoint.map_or(CHECKPOINTS_KEPT, |checkpoint| checkpoint.keep);
        let (stage, metrics) = (self.stage.clone(), self.metrics.synced()?);
        let snapshot = Snapshot::take(&self.executor)?;
        let write = move || {
            metrics.run()?;
            checkpoint::write(&stage, &snapshot, &state, keep)
        };
        self.saving = Some(Saving::start(step, write)?);
        self.last_checkpoint = Instant::now();
        Ok(())
    }

    /// Waits until the checkpoint that is being written is complete.
    pub fn saved(&mut self) -> Result<()> {
        if let Some(saving) = self.saving.take() {
            let step = saving.end()?;
            self.context.observer.checkpoint(&self.context.task.name, step);
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    /// Saves the model.
    pub fn finish(mut self, start: &Path) -> Result<Ended> {
        self.metrics.sync()?;
        let path = self.stage.join("model");
        let work = self.work;
        let companions = model::Companions {
            config: work.config.as_ref(),
            generation_config: work.generation_config.as_ref(),
            tokenizer: &self.tokenizer,
            chat_template: work.chat_template.as_deref(),
            start: Some(start),
        };
        let bytes = weights::saved_bytes(&work.tensors, &work.dtype)?;
        model::write(&path, bytes, &companions, |folder| {
            let frozen = Frozen::open(self.executor.module(), &work.tensors, start)?;
            weights::save(&self.executor, &work.tensors, &frozen, &work.dtype, folder)
        })?;
        // Those that the recipe asks for stay; the ones kept against a crash have done their work.
        if self.context.task.conduct.checkpoint.is_none() {
            checkpoint::remove_all(&self.stage)?;
        }
        self.summary.seconds = self.seconds();
        self.summary.start_seconds =
            self.executor.begun().map(|first| first.duration_since(self.begun).as_secs_f64());
        Ok(Ended::Made(Box::new(Made { path, yields: Yields::default(), summary: self.summary })))
    }
}
