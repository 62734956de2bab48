//! The ranks beside the leading one: a thread each, with a backend and an executor of its own.

use super::{Collective, Threads};
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use ops::backend::Backend;
use plan::program::Module;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// What a rank is asked to do.
pub type Job<T> = Box<dyn FnOnce(&mut Executor<'_>) -> Result<T> + Send>;

/// The other ranks, as the leading one sees them. They end when this is dropped.
#[derive(Debug)]
pub struct Ranks {
    own: Arc<Threads>,
    others: Vec<Sender<Asked>>,
}

/// A job that has a way to answer.
type Asked = Box<dyn FnOnce(&mut Executor<'_>) + Send>;

/// What ranks will answer, in their order.
#[derive(Debug)]
#[must_use = "ranks may have failed"]
pub struct Answers<T> {
    own: Arc<Threads>,
    answers: Vec<Receiver<Result<T>>>,
}

/// Tells the other ranks when this one goes away.
struct Leaving(Arc<Threads>);

impl Ranks {
    /// Starts a thread for each backend; the leading rank comes before them.
    ///
    /// # Errors
    /// Fails when one of them has not enough memory, or its backend lacks an op.
    pub fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        module: &'env Module,
        backends: &[&'env dyn Backend],
    ) -> Result<Ranks> {
        let mut group = Threads::group(backends.len() + 1).into_iter().map(Arc::new);
        let own = group.next().expect("the leading rank is one");
        let mut ranks = Ranks { own, others: Vec::new() };
        for (collective, &backend) in group.zip(backends) {
            let (sender, jobs) = channel();
            let name = format!("rank-{}", collective.rank());
            let thread = std::thread::Builder::new().name(name);
            let started = thread.spawn_scoped(scope, move || serve(module, backend, collective, &jobs));
            started.map_err(|error| {
                EngineError::new("out-of-memory", format!("cannot start the thread of a rank: {error}"))
                    .help("let the process have more threads, or take fewer devices")
            })?;
            ranks.others.push(sender);
        }
        ranks.ask(|_| Box::new(|_| Ok(()))).wait()?;
        Ok(ranks)
    }

    /// Returns what the leading rank exchanges through.
    pub fn own(&self) -> Arc<Threads> {
        self.own.clone()
    }

    /// Asks all other ranks; `job` makes what the rank of that number is to do.
    pub fn ask<T: Send + 'static>(&self, mut job: impl FnMut(usize) -> Job<T>) -> Answers<T> {
        let answers = (1..=self.others.len()).map(|rank| self.send(rank, job(rank))).collect();
        Answers { own: self.own(), answers }
    }

    /// Asks one of the other ranks.
    pub fn ask_one<T: Send + 'static>(&self, rank: usize, job: Job<T>) -> Answers<T> {
        Answers { own: self.own(), answers: vec![self.send(rank, job)] }
    }

    fn send<T: Send + 'static>(&self, rank: usize, job: Job<T>) -> Receiver<Result<T>> {
        let (answer, receiver) = channel();
        let asked: Asked = Box::new(move |executor| {
            let done = job(executor);
            if let Err(error) = &done {
                executor.fail(error);
            }
            // Nobody listens when the leading rank has failed.
            let _ = answer.send(done);
        });
        // A rank that has gone does not answer, which `wait` tells.
        let _ = self.others[rank - 1].send(asked);
        receiver
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        self.own.fail(&gone());
    }
}

impl<T> Answers<T> {
    /// Waits for all answers.
    ///
    /// # Errors
    /// Fails with the error of the first rank that failed.
    pub fn wait(self) -> Result<Vec<T>> {
        let ended = || self.own.failure().unwrap_or_else(gone);
        let answers = self.answers.iter().map(|answer| answer.recv().unwrap_or_else(|_| Err(ended())));
        // All of them, so that no rank is still at work when the first error is told.
        answers.collect::<Vec<_>>().into_iter().collect()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fail(&gone());
    }
}

/// Does what the leading rank asks for until it is gone.
fn serve(module: &Module, backend: &dyn Backend, collective: Arc<Threads>, jobs: &Receiver<Asked>) {
    let leaving = Leaving(collective.clone());
    let mut executor = match Executor::of_rank(module, backend, collective) {
        Ok(executor) => executor,
        Err(error) => return leaving.0.fail(&error),
    };
    while let Ok(job) = jobs.recv() {
        job(&mut executor);
    }
}

/// The error where a rank has left none: it panicked.
fn gone() -> EngineError {
    EngineError::plan("another rank of the mesh has ended")
}
