//! A checkpoint that is being written on a thread of its own.

use crate::error::{EngineError, Result};
use std::thread::JoinHandle;

/// A checkpoint on its way to the disk.
///
/// Dropping it waits for its end: no thread may write in a run folder that another process has taken.
#[derive(Debug)]
pub struct Saving {
    step: u64,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Saving {
    /// Starts to write the checkpoint of a step.
    pub fn start(step: u64, write: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Saving> {
        let named = std::thread::Builder::new().name("checkpoint".into());
        let thread = named.spawn(write).map_err(|error| {
            EngineError::new("out-of-memory", format!("cannot start the thread of a checkpoint: {error}"))
                .help("let the process have more threads")
        })?;
        Ok(Saving { step, thread: Some(thread) })
    }

    /// Waits until it is complete; returns its step.
    ///
    /// # Errors
    /// Fails with what kept it from being written.
    ///
    /// # Panics
    /// Panics when the writer did.
    pub fn end(mut self) -> Result<u64> {
        let thread = self.thread.take().expect("only `end` and `drop` take it, and each is the last");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(self.step)
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The run ends with another error or panic, which is the one to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn the_end_brings_the_step_or_the_error() {
        assert_eq!(Saving::start(3, || Ok(())).expect("started").end(), Ok(3));
        let failing = Saving::start(3, || Err(EngineError::new("disk-full", "full"))).expect("started");
        assert_eq!(failing.end().expect_err("full").code, "disk-full");
    }

    #[test]
    fn dropping_waits() {
        let done = Arc::new(AtomicBool::new(false));
        let write = {
            let done = done.clone();
            move || {
                std::thread::sleep(Duration::from_millis(30));
                done.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        drop(Saving::start(1, write).expect("started"));
        assert!(done.load(Ordering::SeqCst));
    }
}
