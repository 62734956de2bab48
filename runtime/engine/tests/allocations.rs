//! A training step allocates nothing, on no thread: rows, ops, update, what ranks exchange, the lines of its metrics.
//!
//! In a binary of its own, whose allocator counts. What is counted is all that happens between two reports
//! of steps. Outside are what happens seldom: the order of a new epoch, evaluations, samples, checkpoints.

mod world;

use engine::observer::{Observer, StepReport};
use engine::run::{Options, run_task_on};
use lower::models::Model;
use lower::objectives::Objective;
use lower::programs::{Training, draft, file_tensors};
use ops::backend::Backend;
use ops::cpu::Cpu;
use plan::program::Mesh;
use plan::task::{Conduct, Task};
use plan::value::Dtype;
use plan::work::{Batch, Budget, Work};
use serde_json::Value;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use world::{ADAMW, CAPACITIES, DPO, World, train};

/// Steps after which buffers have their size.
const WARM_UP: usize = 2;

/// Steps of a stage, within an epoch.
const STEPS: usize = 8;

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

/// A stage, divided over a mesh, on so many sequences or pairs a step.
fn stage(config: &Value, objective: Objective, precision: Dtype, mesh: Mesh, batch: u64) -> Task {
    let data = if objective == DPO { "data:pairs" } else { "data:text" };
    let name = format!("{}-{}", data.replace("data:", ""), precision.name());
    let mut task = train(config, &name, "init:base", data, objective);
    let Work::Train(work) = &mut task.work else { panic!("a training task") };
    (work.batch, work.budget, work.pack) = (Batch::Sequences(batch), Budget::Steps(STEPS as u64), false);
    let model = Model::from_config(config).expect("sound");
    let training = Training { objective, optimizer: &ADAMW, part: None };
    let mut module = draft(&model, &training, CAPACITIES, precision).divided(mesh).plan(&[]);
    module.decisions.micro_batch_size = 1;
    work.tensors = file_tensors(&model, &module);
    work.module = Some(module);
    task.conduct = Conduct::default();
    task
}

/// Returns the allocations of each step of a stage after the first.
fn of_steps(world: &World, task: &Task, backends: &[Cpu]) -> Vec<u64> {
    let mut counts = Counts(Vec::with_capacity(2 * STEPS));
    let never = AtomicBool::new(false);
    let backends: Vec<&dyn Backend> = backends.iter().map(|backend| backend as &dyn Backend).collect();
    run_task_on(task, &world.folder, &backends, &mut counts, &never, &Options::default()).expect("runs");
    counts.0.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Three steps of six pairs are an epoch, so batches are small: larger ones would cross its end. One that two ranks
/// do not divide leaves a rank a micro-step without rows.
#[test]
fn a_step_allocates_nothing() {
    let [one, replicas, shards] =
        [(1, 1), (2, 1), (1, 2)].map(|(replicas, shards)| Mesh { replicas, shards });
    for (threads, mesh) in [(1, one), (2, one), (1, replicas), (2, replicas), (1, shards)] {
        let world = World::new(threads);
        let config = world.prepare();
        let backends: Vec<Cpu> = (0..mesh.ranks()).map(|_| Cpu::new(threads)).collect();
        let before = count();
        let stages = [(Objective::CrossEntropy, Dtype::F32, 3), (Objective::CrossEntropy, Dtype::Bf16, 3)];
        let pairs = [(DPO, Dtype::F32, 2), (DPO, Dtype::Bf16, 2)];
        for (objective, precision, batch) in stages.into_iter().chain(pairs) {
            let task = stage(&config, objective, precision, mesh, batch);
            let counts = of_steps(&world, &task, &backends);
            let what = format!("{mesh} of {threads} threads, `{}`", task.name);
            println!("{what}: {counts:?}");
            assert_eq!(counts.len(), STEPS - 1);
            let later = &counts[WARM_UP - 1..];
            assert!(later.iter().all(|count| *count == 0), "{what}: {counts:?}");
        }
        assert!(count() > before, "the allocator counts");
    }
}
