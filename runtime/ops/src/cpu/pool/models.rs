//! Short lives of a pool that loom runs in every order of its threads, with every value that a load may see.
//!
//! It reports threads that wait for each other, and uses of a cell that nothing puts in an order. Run by
//! `.ci/sanitize loom`. Loom takes `SeqCst` for `AcqRel`, so the protocol rests on no more than that.

use super::*;
use loom::cell::UnsafeCell;
use loom::model::Builder as Model;

/// What a task writes: loom watches the cell, the number counts.
#[derive(Default)]
struct Part {
    cell: UnsafeCell<()>,
    written: usize,
}

impl Part {
    fn write(&mut self) {
        self.cell.with_mut(|_| self.written += 1);
    }
}

/// Tells loom that the caller's frame ends: whatever threads did to the tasks must be in its past.
pub fn ended(tasks: &Tasks<'_>) {
    #[allow(unsafe_code)] // the point is that loom sees an access without synchronisation
    // SAFETY: as of any plain read: no thread writes meanwhile, which loom checks here.
    unsafe {
        tasks.next.unsync_load();
    }
}

/// Runs a model in all orders with so many switches of threads at most that no wait asks for.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut all = Model::new();
    all.preemption_bound = Some(preemptions);
    all.check(model);
}

/// Runs a job of so many tasks and looks at what each has written.
fn job(pool: &Pool, tasks: usize) {
    let mut parts: Vec<Part> = (0..tasks).map(|_| Part::default()).collect();
    pool.blocks(&mut parts, 1, usize::MAX, |_, parts| parts[0].write());
    for part in &mut parts {
        part.write();
        assert_eq!(part.written, 2, "the task, and this");
    }
}

#[test]
fn tasks_run_once_and_have_ended_when_the_job_has() {
    check(6, || job(&Pool::new(2), 3));
}

#[test]
fn threads_come_to_the_next_job() {
    check(4, || {
        let pool = Pool::new(2);
        job(&pool, 2);
        job(&pool, 2);
    });
}

#[test]
fn two_threads_beside_the_caller_leave_it_in_peace() {
    check(3, || job(&Pool::new(3), 2));
}

#[test]
fn a_pool_without_jobs_ends() {
    check(4, || drop(Pool::new(3)));
}

#[test]
fn threads_that_sleep_are_woken() {
    check(3, || {
        let pool = Pool::new(2);
        for _ in 0..2 {
            let (met, both) = (Mutex::new(0), Condvar::new());
            // Two tasks that wait for each other: a caller alone would wait for ever.
            pool.run(2, usize::MAX, |_| {
                let mut met = locked(&met);
                *met += 1;
                both.notify_all();
                while *met < 2 {
                    met = both.wait(met).unwrap_or_else(PoisonError::into_inner);
                }
            });
        }
    });
}

#[test]
fn two_callers_share_the_threads() {
    check(3, || {
        let pool = Arc::new(Pool::new(2));
        let other = pool.clone();
        let caller = loom::thread::spawn(move || job(&other, 2));
        job(&pool, 2);
        caller.join().expect("it does not panic");
    });
}

/// What panics on another thread reaches the caller, after that thread has left, and the pool stays.
///
/// A caller that panics itself cannot be modelled: loom's threads are one of the system's, all of which would be
/// panicking while the caller waits. Miri runs that case.
#[test]
fn a_panic_of_another_thread_reaches_the_caller() {
    check(3, || {
        let pool = Pool::new(2);
        let caller = loom::thread::current().id();
        let mut parts = [Part::default(), Part::default()];
        let run = || {
            pool.blocks(&mut parts, 1, usize::MAX, |_, parts| {
                parts[0].write();
                if loom::thread::current().id() != caller {
                    resume_unwind(Box::new("silently"));
                }
            });
        };
        let ended = catch_unwind(AssertUnwindSafe(run));
        parts.iter_mut().for_each(Part::write);
        // The thread that panics takes no second task, so the caller does.
        assert_eq!(parts.iter().map(|part| part.written).sum::<usize>(), 4);
        if let Err(panic) = ended {
            assert_eq!(panic.downcast_ref(), Some(&"silently"));
        }
        job(&pool, 2);
    });
}
