//! Threads, and what they may touch: a fixed list of tasks, each with its own part of the output.

use rayon::prelude::*;
use std::cell::RefCell;
use std::marker::PhantomData;

/// Work, in rough scalar steps, below which waking other threads costs more than it saves.
const ALONE: usize = 60_000;

/// The threads of a backend. Which thread takes which task never changes a result.
#[derive(Debug)]
pub struct Pool {
    /// None with one thread: the caller does everything.
    threads: Option<rayon::ThreadPool>,
}

impl Pool {
    /// Makes a pool.
    ///
    /// # Panics
    /// Panics when the system refuses to start threads.
    pub fn new(threads: usize) -> Self {
        if threads <= 1 {
            return Pool { threads: None };
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("ops-{index}"))
            .build()
            .unwrap_or_else(|error| panic!("cannot start {threads} threads for ops: {error}"));
        Pool { threads: Some(pool) }
    }

    /// Runs tasks `0..count`, on all threads when their total `work` is worth it.
    pub fn run(&self, count: usize, work: usize, task: impl Fn(usize) + Sync) {
        match &self.threads {
            Some(pool) if count > 1 && work > ALONE => {
                pool.install(|| (0..count).into_par_iter().for_each(&task));
            }
            _ => (0..count).for_each(task),
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
        match &self.threads {
            Some(pool) if y.len() > block && work > ALONE => pool.install(|| {
                y.par_chunks_mut(block).enumerate().for_each(|(index, y)| task(index, y));
            }),
            _ => y.chunks_mut(block.max(1)).enumerate().for_each(|(index, y)| task(index, y)),
        }
    }
}

/// A slice of which tasks write parts that do not overlap.
#[derive(Clone, Copy)]
pub struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

#[allow(unsafe_code)] // tasks on several threads write one output
// SAFETY: `Parts` only hands out what `Parts::get` may hand out, and that is a `&mut [T]` of elements that are Send.
unsafe impl<T: Send> Send for Parts<'_, T> {}
#[allow(unsafe_code)] // as above
// SAFETY: as above; a shared `Parts` gives no shared access to elements.
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
        // SAFETY: the range lies within the slice that `new` borrowed for 'a; the caller keeps parts apart.
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

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static WIDE_SCRATCH: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's scratch. Its content is whatever the last task left.
///
/// It grows to the largest request and stays, so that a step allocates nothing once it has run.
pub fn scratch<R>(len: usize, task: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        task(&mut buffer[..len])
    })
}

/// Lends this thread's scratch of f64, as [`scratch`].
pub fn wide_scratch<R>(len: usize, task: impl FnOnce(&mut [f64]) -> R) -> R {
    WIDE_SCRATCH.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        task(&mut buffer[..len])
    })
}
