//! The training loop: begin, micro-steps, update; in between evaluations, samples and checkpoints.
//!
//! One loop for all objectives. Going on from a checkpoint gives the bits of a run without a stop: the order
//! of rows and all random draws follow from seed and step, everything else is in the checkpoint.

mod ahead;
mod saving;
mod stage;
mod step;

use crate::checkpoint::{self, Checkpoint};
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::mesh::Ranks;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::reference::{self, Reference};
use crate::run::{Context, Ended};
use crate::{disk, weights};
use data::{BatchSpec, Batches, Side, Store};
use ops::backend::Backend;
use ops::cpu::instruction_set;
use plan::task::Key;
use plan::work::{Budget, Train};
use stage::{Loaded, Training};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokenizer::Tokenizer;

/// Carries out a training stage, on as many ranks as its module is planned for.
pub fn run(context: &mut Context, work: &Train) -> Result<Ended> {
    let module = context.module(work.module.as_ref())?;
    let ranks = usize::try_from(module.mesh.ranks()).unwrap_or(usize::MAX);
    if ranks == 1 {
        let executor = |backend| Executor::new(module, backend);
        return run_with(context, work, executor);
    }
    let Some(others) = context.others.get(..ranks - 1) else {
        let message = format!("the plan is for {ranks} devices, there are {}", context.others.len() + 1);
        return Err(EngineError::plan(message));
    };
    std::thread::scope(|scope| {
        let executor = |backend| Executor::leading(module, backend, Ranks::start(scope, module, others)?);
        run_with(context, work, executor)
    })
}

fn run_with<'c>(
    context: &'c mut Context,
    work: &'c Train,
    executor: impl FnOnce(&'c dyn Backend) -> Result<Executor<'c>>,
) -> Result<Ended> {
    let begun = Instant::now();
    let stage = context.stage()?;
    disk::remove_leftovers(&checkpoint::folder(&stage))?;
    let module = context.module(work.module.as_ref())?;
    let rows = Rows::open(context, work)?;
    let origin = Origin::of(context, work);
    let resumed = find_checkpoint(context, work, &origin, &stage)?;
    context
        .observer
        .task_started(&context.task.name, resumed.as_ref().map(|checkpoint| checkpoint.state.step));
    let start = context.folder.resolve(&work.model)?;
    // Before the arenas are there, since reading it takes more memory for a while than it has in the end.
    let tokenizer = Tokenizer::load(&start)?;
    let mut executor = executor(context.backend)?;
    let Some(reference) = load_reference(context, work, &mut executor, &rows, &stage)? else {
        return Ok(Ended::Stopped { step: resumed.map_or(0, |checkpoint| checkpoint.state.step) });
    };
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
    let loaded = Loaded { begun, stage, origin, executor, rows, reference, tokenizer, metrics };
    let mut training = Training::new(context, work, loaded)?;
    if let Some(step) = training.run(resumed.map(|checkpoint| checkpoint.state))? {
        return Ok(Ended::Stopped { step });
    }
    training.finish(&start)
}

/// The rows that a stage reads, and their order.
struct Rows {
    train: Arc<Store>,
    /// Absent without held-out rows.
    eval: Option<Store>,
    batches: Arc<Batches>,
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
                .help("look at what was left out and why in the notes of its data task"));
        }
        let eval = Some(eval).filter(|eval| eval.rows() > 0);
        Ok(Rows { train: Arc::new(train), eval, batches: Arc::new(batches) })
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
fn find_checkpoint(
    context: &mut Context,
    work: &Train,
    origin: &Origin,
    stage: &Path,
) -> Result<Option<Checkpoint>> {
    let Some(checkpoint) = checkpoint::newest(stage)? else { return Ok(None) };
    let module = context.module(work.module.as_ref())?;
    let state = &checkpoint.state;
    let task = context.task;
    if Some(&state.key) != task.key.as_ref() && !context.options.fork {
        let (how, undo) = state.origin.differs(origin, state.numerics, work);
        let message = format!(
            "{} holds step {} of `{}` {how} ({} instead of {})",
            stage.display(),
            state.step,
            task.name,
            state.key.short(),
            task.key.as_ref().map_or("none", Key::short),
        );
        return Err(EngineError::new("recipe-changed", message).help(format!(
            "{undo}, continue with what is there now with --fork, or start anew with --name"
        )));
    }
    // What is computed again leaves no trace in the results; how a step is cut does.
    let (before, now) = (state.decisions.micro_batch_size, module.decisions.micro_batch_size);
    if before != now {
        let message = format!("the checkpoint was made with micro batch {before} and the plan has {now}");
        context.observer.note(&task.name, &format!("{message}; results may differ in the last bits"));
    }
    let (before, now) = (state.mesh, module.mesh);
    if before != now {
        let message = format!("the checkpoint is of {before} and the plan of {now}");
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

#[cfg(test)]
mod tests;
