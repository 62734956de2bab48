//! Threads, and what they may touch: a fixed list of tasks, each with its own part of the output.
//!
//! Threads are parked between jobs and take tasks from one counter. A step has more than a thousand short
//! jobs, so threads watch for the next one for a moment before they sleep; nothing is allocated per job.

use super::sync::{
    AtomicBool, AtomicUsize, Builder, Condvar, JoinHandle, Mutex, MutexGuard, Ordering, spin_loop,
};
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};

/// Work, in rough scalar steps, below which waking other threads costs more than it saves. Under Miri, which takes
/// small operands only, other threads are the point.
const ALONE: usize = if cfg!(miri) { 0 } else { 60_000 };

/// Looks at the counter of jobs before a thread sleeps: some tens of microseconds. In models one is as good as many.
const LOOKS: usize = if cfg!(all(loom, test)) { 1 } else { 1000 };

/// The threads of a backend. Which thread takes which task never changes a result.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    /// All but the caller's; none with one thread.
    threads: Vec<JoinHandle<()>>,
    /// What was asked for as scratch when all threads last grew theirs, as `asked_scratch` tells it.
    grown: Largest,
}

/// What the threads of a pool share.
#[derive(Debug)]
struct Shared {
    /// Number of the newest job: what idle threads watch.
    newest: AtomicUsize,
    /// Threads of the pool that are at work on the job.
    inside: AtomicUsize,
    /// Whether the caller sleeps until nobody is inside.
    caller_sleeps: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
    looks: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The job that threads may join.
    job: Option<Job>,
    /// Threads that wait to be woken.
    sleeping: usize,
    /// Whether a caller has the threads; it may have closed its job already and wait for the last of them.
    taken: bool,
    stop: bool,
}

/// A job on the stack of its caller, who waits until nobody is inside before it goes.
#[derive(Debug, Clone, Copy)]
struct Job(*const Tasks<'static>);

#[allow(unsafe_code)] // threads of the pool read what the caller's stack holds
// SAFETY: it stands for a `&Tasks`, and `Tasks` is Sync, which `share` has the compiler check. Where the pointer
// may be followed is up to `work`.
unsafe impl Send for Job {}

struct Tasks<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    count: usize,
    next: AtomicUsize,
    /// What the first task that panicked on another thread said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Pool {
    /// Makes a pool.
    ///
    /// # Panics
    /// Panics when the system refuses to start threads.
    pub fn new(threads: usize) -> Self {
        // Where threads share a core, one that watches keeps another from its work.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shared = Arc::new(Shared {
            newest: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            state: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
            looks: if threads > cores { 0 } else { LOOKS },
        });
        // Those that have started are ended when the next one cannot be.
        let others = Vec::with_capacity(threads.saturating_sub(1));
        let mut pool = Pool { shared, threads: others, grown: Largest::new(0) };
        for index in 1..threads {
            let shared = pool.shared.clone();
            let started = Builder::new().name(format!("ops-{index}")).spawn(move || shared.work());
            let refused = |error| panic!("cannot start {threads} threads for ops: {error}");
            pool.threads.push(started.unwrap_or_else(refused));
        }
        pool
    }

    /// Returns the number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        1 + self.threads.len()
    }

    /// Runs tasks `0..count`, on all threads when their total `work` is worth it.
    ///
    /// # Panics
    /// Panics when a task does, once no task runs any more.
    pub fn run(&self, count: usize, work: usize, task: impl Fn(usize) + Sync) {
        if self.threads.is_empty() || count <= 1 || work <= ALONE || !self.shared.take() {
            return (0..count).for_each(task);
        }
        let asked = asked_scratch();
        if self.grown.swap(asked, Ordering::Relaxed) != asked {
            // Now, not at its first task of a kind, which may be in any step.
            self.on_every_thread(|| with_buffers(|lines, largest| grow(lines, 0, largest)));
            // It let the threads go, and another caller may have come between.
            if !self.shared.take() {
                return (0..count).for_each(task);
            }
        }
        self.share_out(count, &task);
    }

    /// Has every thread let its scratch go: what comes next may need less of it.
    pub fn release(&self) {
        if !self.shared.take() {
            return; // another caller is at work and needs it
        }
        LARGEST.iter().for_each(|largest| largest.store(0, Ordering::Relaxed));
        self.grown.store(0, Ordering::Relaxed);
        self.on_every_thread(|| with_buffers(|buffer, _| *buffer = Vec::new()));
    }

    /// Does something once on every thread of the pool, which the caller has taken: nobody leaves before all are there.
    fn on_every_thread(&self, each: impl Fn() + Sync) {
        let (met, all) = (Mutex::new(0), Condvar::new());
        self.share_out(self.threads(), &|_| {
            each();
            let mut met = locked(&met);
            *met += 1;
            all.notify_all();
            while *met < self.threads() {
                met = all.wait(met).unwrap_or_else(PoisonError::into_inner);
            }
        });
    }

    /// Runs tasks on the threads, which the caller has taken; lets them go.
    fn share_out(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let tasks = Tasks { task, count, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        let open = self.shared.open(&tasks);
        tasks.run();
        drop(open);
        #[cfg(all(loom, test))]
        models::ended(&tasks);
        if let Some(panic) = locked(&tasks.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Runs one task per block of `block` elements of `y`.
    pub fn blocks<T: Send>(
        &self,
        y: &mut [T],
        block: usize,
        work: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let (len, block) = (y.len(), block.max(1));
        let parts = Parts::new(y);
        self.run(len.div_ceil(block), work, |index| {
            let at = index * block;
            #[allow(unsafe_code)] // tasks on several threads write one output
            // SAFETY: `run` gives every index to one task only, and the blocks of two indices share no element.
            let y = unsafe { parts.get(at, block.min(len - at)) };
            task(index, y);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        locked(&self.shared.state).stop = true;
        self.shared.newest.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // It has handed its panics to the callers of its jobs.
            let _ = thread.join();
        }
    }
}

impl Job {
    /// Cuts off the lifetime; `work` says why the tasks are there for as long as they are read.
    fn share<'a>(tasks: &'a Tasks<'a>) -> Self {
        fn is_sync<T: Sync>(_: &T) {}
        is_sync(tasks);
        Job(std::ptr::from_ref(tasks).cast())
    }
}

impl Tasks<'_> {
    /// Takes tasks until there are none.
    fn run(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return;
            }
            (self.task)(index);
        }
    }
}

impl Shared {
    /// Takes the threads for one caller; another one, or a task that has tasks itself, goes on alone.
    fn take(&self) -> bool {
        !std::mem::replace(&mut locked(&self.state).taken, true)
    }

    /// Lets threads join a job until the result is dropped.
    fn open<'a>(&'a self, tasks: &'a Tasks<'a>) -> Open<'a> {
        let mut state = locked(&self.state);
        state.job = Some(Job::share(tasks));
        self.newest.fetch_add(1, Ordering::Release);
        if state.sleeping > 0 {
            self.wake.notify_all();
        }
        drop(state);
        Open { shared: self, job: PhantomData }
    }

    /// What a thread of the pool does.
    fn work(&self) {
        let mut seen = 0;
        while let Some(job) = self.join(&mut seen) {
            #[allow(unsafe_code)] // threads of the pool read what the caller's stack holds
            // SAFETY: `join` counted this thread as inside while the job was open. Until it leaves, which is
            // after its last use of the tasks, `Open::drop` keeps the frame of the caller where they are, also
            // when a task of the caller panics. That nothing of this thread's unwinds past `leave` is for the
            // caller's sake, who would wait for ever.
            let tasks = unsafe { &*job.0 };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| tasks.run())) {
                locked(&tasks.panic).get_or_insert(panic);
            }
            self.leave();
        }
    }

    /// Waits for a job that this thread has not seen and counts it as inside; `None` when the pool ends.
    fn join(&self, seen: &mut usize) -> Option<Job> {
        loop {
            self.watch(*seen);
            let mut state = locked(&self.state);
            while !state.stop && self.newest.load(Ordering::Acquire) == *seen {
                state.sleeping += 1;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sleeping -= 1;
            }
            if state.stop {
                return None;
            }
            *seen = self.newest.load(Ordering::Acquire);
            if state.job.is_some() {
                // The lock orders this: `Open::drop` takes the job away under it, and looks who is inside after that.
                self.inside.fetch_add(1, Ordering::Relaxed);
                return state.job;
            }
        }
    }

    /// Watches for a job for a moment.
    fn watch(&self, seen: usize) {
        for _ in 0..self.looks {
            if self.newest.load(Ordering::Acquire) != seen {
                return;
            }
            spin_loop();
        }
    }

    /// Counts this thread as inside no more; the tasks may be gone from here on.
    fn leave(&self) {
        // Release: what the tasks did is done before the caller goes on. Acquire: see `Open::drop`.
        if self.inside.fetch_sub(1, Ordering::AcqRel) == 1 && self.caller_sleeps.load(Ordering::Relaxed) {
            // A caller that has seen this thread inside sleeps by now, since it keeps the lock until it does.
            drop(locked(&self.state));
            self.done.notify_all();
        }
    }
}

/// A job that threads may join.
struct Open<'a> {
    shared: &'a Shared,
    job: PhantomData<&'a Tasks<'a>>,
}

impl Drop for Open<'_> {
    /// Closes the job and waits until nobody is inside, also when a task of the caller panicked.
    fn drop(&mut self) {
        let Shared { inside, caller_sleeps, state, done, looks, .. } = self.shared;
        locked(state).job = None;
        let busy = || inside.load(Ordering::Acquire) > 0;
        let mut left = *looks;
        while busy() && left > 0 {
            spin_loop();
            left -= 1;
        }
        let mut state = locked(state);
        if busy() {
            caller_sleeps.store(true, Ordering::Relaxed);
            // Looked at by a write, so that it has a place among those of `leave`: the last of them comes before,
            // and this sees it, or after, and then that thread sees the caller asleep.
            while inside.fetch_add(0, Ordering::AcqRel) > 0 {
                state = done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            caller_sleeps.store(false, Ordering::Relaxed);
        }
        state.taken = false;
    }
}

/// Locks; nothing under these locks can panic half way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slice of which tasks write parts that do not overlap.
#[derive(Clone, Copy)]
pub struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

#[allow(unsafe_code)] // tasks on several threads write one output
// SAFETY: as good as the `&'a mut [T]` that it was made from: nobody else has the elements for 'a, and those that
// are Send may be written on any thread.
unsafe impl<T: Send> Send for Parts<'_, T> {}
#[allow(unsafe_code)] // as above
// SAFETY: a shared `Parts` gives no shared access to elements: by the contract of `get` each is one thread's at a
// time, so that it only moves between threads. `pointer` reads and writes nothing.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Takes the slice for the time that tasks run.
    pub fn new(slice: &'a mut [T]) -> Self {
        Parts { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Returns elements `at..at + len`.
    ///
    /// # Safety
    /// While the result lives nobody else asks for any of these elements.
    ///
    /// # Panics
    /// Panics when the elements are not all within the slice.
    #[allow(unsafe_code)] // tasks on several threads write one output
    #[allow(clippy::mut_from_ref)] // the point of the type; the caller keeps parts apart
    pub unsafe fn get(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at <= self.len && len <= self.len - at, "part {at}+{len} of {}", self.len);
        // SAFETY: the range lies within the slice (just checked), which `new` borrowed mutably for 'a, so that it
        // is aligned, initialised and nobody else's; the caller keeps parts apart.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// Returns a pointer to element `at`, for kernels that take strides.
    ///
    /// # Panics
    /// Panics when the element is not within the slice.
    pub fn pointer(&self, at: usize) -> *mut T {
        assert!(at < self.len, "element {at} of {}", self.len);
        self.start.wrapping_add(at)
    }
}

/// A line of the caches. Scratch begins at one, because a register's load that crosses two costs twice.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// A thread's buffer for one kind of scratch.
#[derive(Default)]
struct Buffer(RefCell<Vec<Line>>);

thread_local! {
    static SCRATCH: Buffer = const { Buffer(RefCell::new(Vec::new())) };
    static WIDE_SCRATCH: Buffer = const { Buffer(RefCell::new(Vec::new())) };
    static STAGE: Buffer = const { Buffer(RefCell::new(Vec::new())) };
}

/// The largest requests of any thread in lines, so that all threads have their scratch before their tasks.
static LARGEST: [Largest; 3] = [const { Largest::new(0) }; 3];

/// Of std in models, too: it is no part of the protocol.
type Largest = std::sync::atomic::AtomicUsize;

impl Buffer {
    fn lend<T: bytemuck::Pod, R>(
        &self,
        len: usize,
        largest: &Largest,
        task: impl FnOnce(&mut [T]) -> R,
    ) -> R {
        let mut lines = self.0.borrow_mut();
        grow(&mut lines, (len * size_of::<T>()).div_ceil(size_of::<Line>()), largest);
        task(&mut bytemuck::cast_slice_mut(&mut lines)[..len])
    }
}

/// Lends this thread's scratch, which begins at a line of the caches. Its content is whatever the last task left.
///
/// It grows to the largest request of any thread and stays until it is released, so that a step allocates nothing once
/// one has run.
pub fn scratch<T: bytemuck::Pod, R>(len: usize, task: impl FnOnce(&mut [T]) -> R) -> R {
    SCRATCH.with(|buffer| buffer.lend(len, &LARGEST[0], task))
}

/// Lends this thread's second scratch, as [`scratch`].
pub fn wide_scratch<R>(len: usize, task: impl FnOnce(&mut [f64]) -> R) -> R {
    WIDE_SCRATCH.with(|buffer| buffer.lend(len, &LARGEST[1], task))
}

/// Lends this thread's buffer for widened operands, as [`scratch`], which may be lent at the same time.
pub fn stage<R>(len: usize, task: impl FnOnce(&mut [f32]) -> R) -> R {
    STAGE.with(|buffer| buffer.lend(len, &LARGEST[2], task))
}

/// Gives this thread's buffers, each with the largest request of its kind; not what is lent at this moment.
fn with_buffers(mut each: impl FnMut(&mut Vec<Line>, &Largest)) {
    let buffers = [&SCRATCH, &WIDE_SCRATCH, &STAGE];
    for (buffer, largest) in buffers.into_iter().zip(&LARGEST) {
        buffer.with(|buffer| buffer.0.try_borrow_mut().map(|mut lines| each(&mut lines, largest)).ok());
    }
}

/// Returns a number that grows with what any thread has asked for.
fn asked_scratch() -> usize {
    LARGEST.iter().map(|largest| largest.load(Ordering::Relaxed)).sum()
}

fn grow(lines: &mut Vec<Line>, len: usize, largest: &Largest) {
    let most = largest.fetch_max(len, Ordering::Relaxed).max(len);
    if lines.len() < most {
        lines.resize(most, Line::default());
    }
}

#[cfg(all(loom, test))]
mod models;

#[cfg(all(not(loom), test))]
mod tests {
    use super::*;

    /// Every task runs once, whichever thread takes it, and blocks are written by their own task.
    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for count in [0, 1, 2, 7, 300] {
                let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.run(count, usize::MAX, |task| {
                    hits[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{threads} {count}");
                let mut y = vec![0; count];
                pool.blocks(&mut y, 4, usize::MAX, |index, y| y.fill(index + 1));
                let expected: Vec<usize> = (0..count).map(|at| at / 4 + 1).collect();
                assert_eq!(y, expected, "{threads} {count}");
            }
        }
    }

    /// Short jobs one after another, some with pauses in which threads fall asleep.
    #[test]
    fn threads_come_to_every_kind_of_job() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        let jobs = if cfg!(miri) { 40 } else { 2000 };
        for job in 0..jobs {
            if job % (jobs / 4) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            pool.run(3, usize::MAX, |task| {
                total.fetch_add(task, Ordering::Relaxed);
            });
        }
        assert_eq!(total.into_inner(), 3 * jobs);
    }

    #[test]
    fn other_threads_take_tasks() {
        let pool = Pool::new(2);
        let met = std::sync::Barrier::new(2);
        // Returns only when two threads are at it at the same time.
        pool.run(2, usize::MAX, |_| {
            met.wait();
        });
    }

    #[test]
    fn tasks_with_tasks_and_two_callers_go_on_alone() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        let nested = || {
            pool.run(8, usize::MAX, |_| {
                pool.run(8, usize::MAX, |_| {
                    total.fetch_add(1, Ordering::Relaxed);
                });
            });
        };
        let times = if cfg!(miri) { 3 } else { 50 };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..times).for_each(|_| nested()));
            }
        });
        assert_eq!(total.into_inner(), 4 * times * 64);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_stays() {
        let pool = Pool::new(2);
        for bad in 0..4 {
            let run = || pool.run(4, usize::MAX, |task| assert_ne!(task, bad, "task {bad}"));
            let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it panicked");
            let said = panic.downcast_ref::<String>().expect("a message");
            assert!(said.contains(&format!("task {bad}")), "{said}");
        }
        let total = AtomicUsize::new(0);
        pool.run(100, usize::MAX, |_| {
            total.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), 100);
    }

    #[test]
    fn all_threads_have_the_scratch_that_one_asked_for_until_it_is_released() {
        let pool = Pool::new(2);
        scratch(1000, |_: &mut [f32]| ());
        let met = std::sync::Barrier::new(2);
        pool.run(2, usize::MAX, |_| {
            SCRATCH.with(|buffer| assert!(buffer.0.borrow().len() >= 1000 * 4 / size_of::<Line>()));
            met.wait();
        });
        pool.release();
        let kept = AtomicUsize::new(0);
        assert!(pool.shared.take());
        pool.on_every_thread(|| {
            let lines = SCRATCH.with(|buffer| buffer.0.borrow().capacity());
            kept.fetch_add(lines, Ordering::Relaxed);
        });
        assert_eq!(kept.into_inner(), 0);
    }
}
