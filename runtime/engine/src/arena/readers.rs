//! Who reads what is frozen, and the wait of whoever wants to write to it.

use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering};
use std::sync::PoisonError;

/// How many readers there are.
#[derive(Debug)]
pub struct Readers {
    count: AtomicUsize,
    last_left: Condvar,
    lock: Mutex<()>,
}

impl Readers {
    pub fn new() -> Self {
        Readers { count: AtomicUsize::new(0), last_left: Condvar::new(), lock: Mutex::new(()) }
    }

    /// Counts a reader; by whoever could write now, so that no writer comes between.
    pub fn enter(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less.
    pub fn leave(&self) {
        // Release: what was read is read before whoever waits goes on to write.
        if self.count.fetch_sub(1, Ordering::Release) == 1 {
            // A writer that has seen this reader sleeps by now, since it keeps the lock until it does.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.last_left.notify_all();
        }
    }

    /// Waits until there are none.
    pub fn wait(&self) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.count.load(Ordering::Acquire) > 0 {
            lock = self.last_left.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(all(loom, test))]
mod models {
    //! Readers and a writer in every order; run by `.ci/sanitize loom`.

    use super::*;
    use loom::cell::UnsafeCell;
    use std::sync::Arc;

    /// What is frozen: loom watches the cell.
    struct Memory {
        readers: Readers,
        bytes: UnsafeCell<()>,
    }

    #[allow(unsafe_code, reason = "as memory of an arena is, the cell is shared without a lock")]
    // SAFETY: what is accessed is nothing, and whether that is in order is what loom is asked.
    unsafe impl Sync for Memory {}

    /// Runs a model in all orders with three switches of threads at most that no wait asks for.
    fn check(rounds: usize, readers: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let memory = Arc::new(Memory { readers: Readers::new(), bytes: UnsafeCell::new(()) });
            for _ in 0..rounds {
                for _ in 0..readers {
                    memory.readers.enter();
                    let memory = memory.clone();
                    loom::thread::spawn(move || {
                        memory.bytes.with(|_| ());
                        memory.readers.leave();
                    });
                }
                memory.readers.wait();
                memory.bytes.with_mut(|_| ());
            }
        });
    }

    #[test]
    fn a_writer_comes_after_the_last_reader() {
        check(1, 2);
    }

    #[test]
    fn readers_come_after_a_writer() {
        check(2, 1);
    }
}
