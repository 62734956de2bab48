//! The ranks beside the leading one: a thread each, with a backend and an executor of its own.
//!
//! They are asked for jobs, which is seldom, and for runs of a program, which is several times a step: those go
//! through mailboxes, with buffers that go back and forth, and allocate nothing.

use super::{Collective, Threads};
use crate::error::{EngineError, Result};
use crate::executor::{Executor, Payload, Run, Sums};
use crate::mailbox::{Receiver, Sender, mailbox};
use ops::backend::Backend;
use plan::program::Module;
use std::sync::Arc;
use std::thread::Scope;

/// What a rank is asked to do.
pub type Job<T> = Box<dyn FnOnce(&mut Executor<'_>) -> Result<T> + Send>;

/// The other ranks, as the leading one sees them. They end when this is dropped.
#[derive(Debug)]
pub struct Ranks {
    own: Arc<Threads>,
    others: Vec<Other>,
}

/// One of the other ranks.
#[derive(Debug)]
struct Other {
    asked: Sender<Asked>,
    ran: Receiver<Ran>,
    /// What its next run reads is written here; away while it runs.
    payload: Option<Payload>,
}

/// What a rank is asked for.
enum Asked {
    Run(Run, Payload),
    /// A job that has a way to answer.
    Job(Box<dyn FnOnce(&mut Executor<'_>) + Send>),
}

/// A run that has ended.
struct Ran {
    payload: Payload,
    done: Result<Sums>,
}

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
            let ((asked, jobs), (answers, ran)) = (mailbox(), mailbox());
            let name = format!("rank-{}", collective.rank());
            let thread = std::thread::Builder::new().name(name);
            let started =
                thread.spawn_scoped(scope, move || serve(module, backend, collective, &jobs, &answers));
            started.map_err(|error| {
                EngineError::new("out-of-memory", format!("cannot start the thread of a rank: {error}"))
                    .help("let the process have more threads, or take fewer devices")
            })?;
            ranks.others.push(Other { asked, ran, payload: Some(Payload::new(module)) });
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

    /// Returns the buffers for what the next run of a rank reads.
    ///
    /// # Errors
    /// Fails while the rank runs, which it does only after an error, and when it has ended.
    pub fn payload(&mut self, rank: usize) -> Result<Payload> {
        self.others[rank - 1].payload.take().ok_or_else(|| ended(&self.own))
    }

    /// Asks a rank to run ops with what is in those buffers.
    pub fn run(&self, rank: usize, run: Run, payload: Payload) {
        // A rank that has gone does not answer, which `ran` tells.
        let _ = self.others[rank - 1].asked.send(Asked::Run(run, payload));
    }

    /// Waits for the run that a rank was asked for; returns its results.
    ///
    /// # Errors
    /// Fails with the error of that rank.
    pub fn ran(&mut self, rank: usize) -> Result<Sums> {
        let other = &mut self.others[rank - 1];
        let Ran { payload, done } = other.ran.recv().ok_or_else(|| ended(&self.own))?;
        other.payload = Some(payload);
        done
    }

    /// Waits for all runs that ranks were asked for.
    ///
    /// # Errors
    /// Fails with the error of the first rank that failed.
    pub fn all_ran(&mut self) -> Result<()> {
        let mut all = Ok(());
        for rank in 1..=self.others.len() {
            // Each of them, so that no rank is still at work when the first error is told.
            if self.others[rank - 1].payload.is_none() {
                all = all.and(self.ran(rank).map(|_| ()));
            }
        }
        all
    }

    fn send<T: Send + 'static>(&self, rank: usize, job: Job<T>) -> Receiver<Result<T>> {
        let (answer, receiver) = mailbox();
        let asked = Asked::Job(Box::new(move |executor| {
            let done = job(executor);
            if let Err(error) = &done {
                executor.fail(error);
            }
            // Nobody listens when the leading rank has failed.
            let _ = answer.send(done);
        }));
        // A rank that has gone does not answer, which `wait` tells.
        let _ = self.others[rank - 1].asked.send(asked);
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
        let ended = || Err(ended(&self.own));
        let answers = self.answers.iter().map(|answer| answer.recv().unwrap_or_else(ended));
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
fn serve(
    module: &Module,
    backend: &dyn Backend,
    collective: Arc<Threads>,
    asked: &Receiver<Asked>,
    answers: &Sender<Ran>,
) {
    let leaving = Leaving(collective.clone());
    let mut executor = match Executor::of_rank(module, backend, collective) {
        Ok(executor) => executor,
        Err(error) => return leaving.0.fail(&error),
    };
    while let Some(asked) = asked.recv() {
        match asked {
            Asked::Job(job) => job(&mut executor),
            Asked::Run(run, payload) => {
                let done = executor.run_asked(&run, &payload);
                if let Err(error) = &done {
                    executor.fail(error);
                }
                // Nobody listens when the leading rank has failed.
                let _ = answers.send(Ran { payload, done });
            }
        }
    }
}

/// The error of a rank that does not answer.
fn ended(own: &Threads) -> EngineError {
    own.failure().unwrap_or_else(gone)
}

/// The error where a rank has left none: it panicked.
fn gone() -> EngineError {
    EngineError::plan("another rank of the mesh has ended")
}
