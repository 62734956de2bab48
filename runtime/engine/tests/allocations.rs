//! A training step allocates nothing, on no thread: rows, ops, update, the lines of its metrics.
//!
//! In a binary of its own, whose allocator counts. What is counted is all that happens between two reports
//! of steps. Outside are what happens seldom: the order of a new epoch, evaluations, samples, checkpoints.

mod world;

use engine::observer::{Observer, StepReport};
use engine::run::{Options, run_task};
use lower::objectives::Objective;
use plan::task::{Conduct, Task};
use plan::work::{Batch, Budget, Work};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use world::{DPO, World, train};

/// Steps after which buffers have their size.
const WARM_UP: usize = 2;

static COUNT: AtomicU64 = AtomicU64::new(0);

fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

struct Counting;

#[allow(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The count at each report of a step.
struct Counts(Vec<u64>);

impl Observer for Counts {
    fn step(&mut self, _task: &str, _report: &StepReport) {
        self.0.push(count());
    }
}

/// Returns the allocations of each step of a stage after the first.
fn of_steps(world: &World, mut task: Task) -> Vec<u64> {
    task.conduct = Conduct::default();
    let Work::Train(work) = &mut task.work else { panic!("a training task") };
    work.budget = Budget::Steps(8);
    work.pack = false;
    let mut counts = Counts(Vec::with_capacity(16));
    let never = AtomicBool::new(false);
    run_task(&task, &world.folder, &world.backend, &mut counts, &never, &Options::default()).expect("runs");
    counts.0.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn a_step_allocates_nothing() {
    for threads in [1, 2] {
        let world = World::new(threads);
        let config = world.prepare();
        let before = count();
        let tokens = train(&config, "dutch", "init:base", "data:text", Objective::CrossEntropy);
        let mut pairs = train(&config, "aligned", "init:base", "data:pairs", DPO);
        // Three steps of six pairs are an epoch; larger ones would cross its end.
        let Work::Train(work) = &mut pairs.work else { panic!("a training task") };
        work.batch = Batch::Sequences(2);
        for task in [tokens, pairs] {
            let name = task.name.clone();
            let counts = of_steps(&world, task);
            println!("{threads} threads, `{name}`: {counts:?}");
            assert_eq!(counts.len(), 7);
            assert!(counts[WARM_UP - 1..].iter().all(|count| *count == 0), "`{name}`: {counts:?}");
        }
        assert!(count() > before, "the allocator counts");
    }
}
