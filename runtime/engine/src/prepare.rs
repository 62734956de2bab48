//! Work that makes what training reads: tokenizers, new models, prepared data.

use crate::error::{EngineError, Result};
use crate::observer::Observer;
use crate::record::Yields;
use crate::report::Summary;
use crate::run::{Context, Ended, Made};
use crate::weights::file_dtype;
use crate::{disk, initialize, model};
use plan::work::{Initialize, Prepare, TrainTokenizer};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokenizer::Tokenizer;

/// Texts between two reports of progress.
const REPORT_EVERY: u64 = 256;

/// Trains a tokenizer into the cache.
pub fn train_tokenizer(context: &mut Context, work: &TrainTokenizer) -> Result<Ended> {
    let start = Instant::now();
    let path = entry(context)?;
    let (task, observer) = (&context.task.name, &mut *context.observer);
    observer.task_started(task, None);
    let mut failure = None;
    let mut done = 0;
    let texts = data::texts(&work.data).map_while(|text| text.map_err(|error| failure = Some(error)).ok());
    let counted = texts.inspect(|_| {
        done += 1;
        if done % REPORT_EVERY == 0 {
            observer.progress(task, "reading texts", done, None);
        }
    });
    let trained = tokenizer::train(work, counted, |_| {});
    // A row that could not be read ends the texts early; it, and not its consequence, is the error.
    if let Some(error) = failure {
        return Err(error.into());
    }
    let trained = trained?;
    put_in_cache(&path, |folder| Ok(trained.save(folder, None)?))?;
    let yields = Yields { prepared: None, vocab: Some(trained.vocab_size() as u64) };
    Ok(made(path, yields, start))
}

/// Prepares data into the cache.
pub fn prepare(context: &mut Context, work: &Prepare) -> Result<Ended> {
    let start = Instant::now();
    let path = entry(context)?;
    let tokenizer = Tokenizer::load(&context.folder.resolve(&work.tokenizer)?)?;
    let (task, observer) = (&context.task.name, &mut *context.observer);
    observer.task_started(task, None);
    let report = data::prepare(work, &tokenizer, &path, &mut |progress| show(observer, task, &progress))?;
    for part in &report.parts {
        for (reason, rows) in &part.dropped {
            context.observer.note(task, &format!("{rows} rows of `{}` left out: {reason}", part.name));
        }
    }
    let yields = Yields { prepared: Some(report.prepared), vocab: None };
    Ok(made(path, yields, start))
}

fn show(observer: &mut dyn Observer, task: &str, progress: &data::Progress) {
    let verb = match progress.phase {
        data::Phase::Reading => "reading rows",
        data::Phase::Encoding => "encoding rows",
    };
    observer.progress(task, verb, progress.bytes, Some(progress.total_bytes));
}

/// Writes a new model.
pub fn initialize(context: &mut Context, work: &Initialize) -> Result<Ended> {
    let start = Instant::now();
    let tokenizer = Tokenizer::load(&context.folder.resolve(&work.tokenizer)?)?;
    context.observer.task_started(&context.task.name, None);
    let path = context.stage()?.join("model");
    let companions = model::Companions {
        config: Some(&work.config),
        generation_config: Some(&work.generation_config),
        tokenizer: &tokenizer,
        chat_template: None,
        start: None,
    };
    let elements: u64 = work.tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
    let bytes = elements * file_dtype(&work.dtype)?.bytes();
    model::write(&path, bytes, &companions, |folder| {
        initialize::write(&work.tensors, &work.dtype, work.seed, folder, context.backend)
    })?;
    Ok(made(path, Yields::default(), start))
}

fn made(path: PathBuf, yields: Yields, start: Instant) -> Ended {
    let summary = Summary { seconds: start.elapsed().as_secs_f64(), ..Summary::default() };
    Ended::Made(Box::new(Made { path, yields, summary }))
}

fn entry(context: &Context) -> Result<PathBuf> {
    let entry = context.folder.cache_entry(context.task);
    entry.ok_or_else(|| EngineError::plan(format!("task `{}` has no key yet", context.task.name)))
}

/// Creates a cache entry; when another process was faster, its equal one is kept.
fn put_in_cache(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    match disk::create_folder(path, 0, fill) {
        Err(_) if path.is_dir() => Ok(()),
        result => result,
    }
}
