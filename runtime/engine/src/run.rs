//! Runs one task of a plan: what is done is left alone, what is made gets its record last.

use crate::error::{EngineError, Result};
use crate::folder::{Done, RunFolder};
use crate::observer::Observer;
use crate::record::{Record, Yields};
use crate::report::Summary;
use crate::{disk, evaluate, generate, prepare, train};
use ops::backend::Backend;
use plan::program::Module;
use plan::task::Task;
use plan::work::Work;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a run is carried out, beyond what the plan says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Continue from the checkpoint of a changed recipe.
    pub fork: bool,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It ran to its end.
    Done(Box<Record>),
    /// Its result was there before.
    AlreadyDone(Box<Record>),
    /// It was asked to stop; running it again goes on after that step.
    Stopped { step: u64 },
}

/// What a task works with.
pub struct Context<'a> {
    pub task: &'a Task,
    pub folder: &'a RunFolder,
    pub backend: &'a dyn Backend,
    /// The devices besides that of `backend`.
    pub others: &'a [&'a dyn Backend],
    pub observer: &'a mut dyn Observer,
    pub stop: &'a AtomicBool,
    pub options: &'a Options,
}

/// What the function of a kind of work returns.
pub enum Ended {
    Made(Box<Made>),
    Stopped { step: u64 },
}

/// A result, before its record is written.
pub struct Made {
    /// Folder or file.
    pub path: PathBuf,
    pub yields: Yields,
    pub summary: Summary,
}

/// Runs a task, unless its result is there; the tasks that it reads must be done.
///
/// # Errors
/// Fails with the task's name and place in the recipe. Results and checkpoints that are complete stay.
pub fn run_task(
    task: &Task,
    folder: &RunFolder,
    backend: &dyn Backend,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    options: &Options,
) -> Result<Outcome> {
    run_task_on(task, folder, &[backend], observer, stop, options)
}

/// Runs a task on several devices, as many as its module is planned for or more; see [`run_task`].
///
/// # Errors
/// As [`run_task`].
///
/// # Panics
/// Panics without a device.
pub fn run_task_on(
    task: &Task,
    folder: &RunFolder,
    backends: &[&dyn Backend],
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    options: &Options,
) -> Result<Outcome> {
    let (&backend, others) = backends.split_first().expect("there is a device to run on");
    let mut context = Context { task, folder, backend, others, observer, stop, options };
    run(&mut context).map_err(|error| error.of(task))
}

fn run(context: &mut Context) -> Result<Outcome> {
    let Context { task, folder, .. } = *context;
    let own = folder.task_folder(&task.name);
    match folder.is_done(task) {
        Done::Yes(record) => {
            // One from the cache is not recorded in this run yet; those that read it look here.
            if folder.record(&task.name).as_ref() != Some(&record) {
                record.write(&own)?;
            }
            context.observer.task_done(&task.name, true);
            return Ok(Outcome::AlreadyDone(record));
        }
        Done::No(Some(note)) => context.observer.note(&task.name, &note),
        Done::No(None) => {}
    }
    // The record in front of a cache entry holds nothing that could be lost.
    if folder.cache_entry(task).is_none()
        && let Some(aside) = folder.set_aside(&task.name)?
    {
        context.observer.note(&task.name, &format!("the earlier result is now in {}", aside.display()));
    }
    if context.stop.load(Ordering::Relaxed) {
        return Ok(Outcome::Stopped { step: 0 });
    }
    let ended = match &task.work {
        Work::TrainTokenizer(work) => prepare::train_tokenizer(context, work),
        Work::Initialize(work) => prepare::initialize(context, work),
        Work::Prepare(work) => prepare::prepare(context, work),
        Work::Train(work) => train::run(context, work),
        Work::Evaluate(work) => evaluate::run(context, work),
        Work::Generate(work) => generate::run(context, work),
        Work::Declared(work) => Err(EngineError::new(
            "not-yet-runnable",
            format!("this version of adapt cannot run `{}` yet", work.kind),
        )),
    };
    let made = match ended? {
        Ended::Made(made) => made,
        Ended::Stopped { step } => return Ok(Outcome::Stopped { step }),
    };
    let record = folder.make_record(task, &made.path, made.yields, made.summary)?;
    record.write(&own)?;
    context.observer.task_done(&task.name, false);
    Ok(Outcome::Done(Box::new(record)))
}

impl Context<'_> {
    /// Returns the task's folder, created where it is missing and cleared of what a killed run left.
    pub fn stage(&self) -> Result<PathBuf> {
        let stage = self.folder.task_folder(&self.task.name);
        std::fs::create_dir_all(&stage).map_err(|e| EngineError::io("create folder", &stage, &e))?;
        disk::remove_leftovers(&stage)?;
        Ok(stage)
    }

    /// Returns the module of a task whose facts are all known.
    pub fn module<'m>(&self, module: Option<&'m Module>) -> Result<&'m Module> {
        module.ok_or_else(|| {
            EngineError::plan(format!("task `{}` has no program: facts are missing", self.task.name))
        })
    }
}
