//! Two ranks come to what one device comes to: losses, norms, weights, evaluations, and from each other's
//! checkpoints. Replicas and shards, with micro-steps and rows that do not divide evenly.

#[path = "world/mod.rs"]
mod world;

use engine::error::EngineError;
use engine::executor::Executor;
use engine::mesh::Ranks;
use engine::run::{Options, Outcome, run_task_on};
use lower::models::Model;
use lower::objectives::Objective;
use lower::programs::{Training, draft};
use ops::backend::{Backend, Call, OpError};
use ops::cpu::Cpu;
use plan::op::OpKind;
use plan::program::Mesh;
use plan::task::Task;
use plan::value::{Dtype, Role};
use plan::work::{AdamW, Batch, Budget, Work};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use world::{ADAMW, CAPACITIES, DPO, Watch, World, train};

const ONE: Mesh = Mesh { replicas: 1, shards: 1 };
const REPLICAS: Mesh = Mesh { replicas: 2, shards: 1 };
const SHARDS: Mesh = Mesh { replicas: 1, shards: 2 };
const STEPS: u64 = 20;

/// Gradients of text are clipped, those of pairs are not.
const OPTIMIZER: AdamW = AdamW { lr: 1e-3, clip: 1.5, ..ADAMW };

/// A stage over a mesh: five sequences a step, of which one rank takes three and the other two, and one alone
/// at the end of an epoch.
fn stage(config: &Value, objective: Objective, mesh: Mesh, micro: u64) -> Task {
    let pairs = objective != Objective::CrossEntropy;
    let data = if pairs { "data:pairs" } else { "data:text" };
    let mut task = train(config, "trained", "init:base", data, objective);
    let Work::Train(work) = &mut task.work else { panic!("a training task") };
    let model = Model::from_config(config).expect("sound");
    let training = Training { objective, optimizer: &OPTIMIZER, part: None };
    let mut module = draft(&model, &training, CAPACITIES, Dtype::F32).divided(mesh).plan(&[]);
    module.decisions.micro_batch_size = micro;
    work.module = Some(module);
    (work.batch, work.pack, work.budget) =
        (Batch::Sequences(if pairs { 3 } else { 5 }), false, Budget::Steps(STEPS));
    work.optimizer = OPTIMIZER;
    task
}

fn ranks(mesh: Mesh, threads: usize) -> Vec<Cpu> {
    (0..mesh.ranks()).map(|_| Cpu::new(threads)).collect()
}

fn run_on(
    world: &World,
    task: &Task,
    backends: &[&dyn Backend],
    stop_after: Option<usize>,
) -> Result<Outcome, EngineError> {
    let stop = AtomicBool::new(false);
    let mut watch = Watch { stop: &stop, left: stop_after, heard: String::new() };
    run_task_on(task, &world.folder, backends, &mut watch, &stop, &Options::default())
}

/// Runs the stage on as many ranks as its mesh has; stops after so many events, or at the end.
fn run(world: &World, task: &Task, mesh: Mesh, stop_after: Option<usize>) -> Outcome {
    let backends = ranks(mesh, 1);
    let backends: Vec<&dyn Backend> = backends.iter().map(|backend| backend as &dyn Backend).collect();
    run_on(world, task, &backends, stop_after).expect("runs")
}

/// A world with a model of odd sizes and its config.
fn world() -> (World, Value) {
    let world = World::new(1);
    let sizes = [("hidden_size", 36), ("intermediate_size", 53), ("num_hidden_layers", 2)];
    let heads = [("num_attention_heads", 3), ("num_key_value_heads", 1)];
    let fields: Vec<(&str, Value)> =
        sizes.into_iter().chain(heads).map(|(name, size)| (name, json!(size))).collect();
    let config = world.prepare_with(&fields);
    (world, config)
}

/// Runs a stage to its end in a world of its own; returns its metrics and its weights.
fn trained(objective: Objective, mesh: Mesh, micro: u64) -> (Vec<Value>, Vec<f32>) {
    let (world, config) = world();
    let task = stage(&config, objective, mesh, micro);
    assert!(matches!(run(&world, &task, mesh, None), Outcome::Done(_)));
    (world.metrics("trained"), weights(&world))
}

fn weights(world: &World) -> Vec<f32> {
    let bytes = world.model_bytes("trained");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[8 + header..].chunks_exact(4).map(number).collect()
}

fn number(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

/// The largest difference, relative to the larger of the two and to what is usual for all of them.
fn weights_apart(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let usual = (a.iter().map(|w| f64::from(w * w)).sum::<f64>() / a.len() as f64).sqrt();
    let apart = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()) / f64::from(a.abs()).max(usual));
    apart.fold(0.0, f64::max)
}

/// The largest relative difference of the numbers of two runs' metrics.
fn metrics_apart(a: &[Value], b: &[Value]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| values_apart(a, b)).fold(0.0, f64::max)
}

fn values_apart(a: &Value, b: &Value) -> f64 {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()));
            a.iter().map(|(name, a)| values_apart(a, &b[name])).fold(0.0, f64::max)
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().expect("a number"), b.as_f64().expect("a number"));
            // Logarithms of likelihoods near 1 have no digits of their own: 1e-2 is what they are compared to.
            (a - b).abs() / a.abs().max(b.abs()).max(1e-2)
        }
        // Answers are sampled from likelihoods, which agree; a draw between two may still fall either way.
        (Value::String(_), Value::String(_)) => 0.0,
        _ => {
            if a == b {
                0.0
            } else {
                f64::INFINITY
            }
        }
    }
}

#[test]
fn two_ranks_come_to_what_one_device_comes_to() {
    for objective in [Objective::CrossEntropy, DPO] {
        let (metrics, weights) = trained(objective, ONE, 2);
        let clipped = |line: &&Value| line["grad_norm"].as_f64().is_some_and(|norm| norm > OPTIMIZER.clip);
        let steps = metrics.iter().filter(|line| line["grad_norm"].is_number()).count();
        assert_eq!(steps as u64, STEPS);
        // The divisor of the loss and the norm are over all ranks, or clipped steps would differ.
        assert!(objective == DPO || metrics.iter().filter(clipped).count() > 0);
        for (mesh, micro) in [(REPLICAS, 1), (REPLICAS, 2), (SHARDS, 1), (SHARDS, 2)] {
            let (found, found_weights) = trained(objective, mesh, micro);
            let apart = (metrics_apart(&metrics, &found), weights_apart(&weights, &found_weights));
            println!(
                "{objective:?} on {mesh:?}, micro {micro}: metrics {:.1e}, weights {:.1e}",
                apart.0, apart.1
            );
            assert!(apart.0 < 1e-5 && apart.1 < 1e-5, "{objective:?} on {mesh:?}: {apart:?}");
        }
    }
}

#[test]
fn threads_leave_no_trace() {
    for mesh in [REPLICAS, SHARDS] {
        let bits = |threads: usize| {
            let (world, config) = world();
            let task = stage(&config, Objective::CrossEntropy, mesh, 2);
            let backends = ranks(mesh, threads);
            let backends: Vec<&dyn Backend> =
                backends.iter().map(|backend| backend as &dyn Backend).collect();
            run_on(&world, &task, &backends, None).expect("runs");
            (world.model_bytes("trained"), world.metrics("trained"))
        };
        let once = bits(1);
        assert!(once == bits(1) && once == bits(2), "{mesh:?}");
    }
}

#[test]
fn any_number_of_ranks_goes_on_from_a_checkpoint() {
    let (metrics, whole) = trained(Objective::CrossEntropy, ONE, 2);
    for (first, then) in [(SHARDS, ONE), (ONE, SHARDS), (REPLICAS, SHARDS), (SHARDS, REPLICAS)] {
        let (world, config) = world();
        let task = |mesh| stage(&config, Objective::CrossEntropy, mesh, 2);
        let stopped = run(&world, &task(first), first, Some(9));
        assert!(matches!(stopped, Outcome::Stopped { step } if step > 3 && step < STEPS), "{stopped:?}");
        assert!(matches!(run(&world, &task(then), then, None), Outcome::Done(_)));
        let apart =
            (metrics_apart(&metrics, &world.metrics("trained")), weights_apart(&whole, &weights(&world)));
        assert!(apart.0 < 1e-5 && apart.1 < 1e-5, "{first:?} to {then:?}: {apart:?}");
    }
    // With the same ranks the bits are those of a run that was not stopped.
    let (straight, config) = world();
    let task = stage(&config, Objective::CrossEntropy, SHARDS, 2);
    run(&straight, &task, SHARDS, None);
    let (stopping, _) = world();
    run(&stopping, &task, SHARDS, Some(7));
    run(&stopping, &task, SHARDS, None);
    assert!(straight.model_bytes("trained") == stopping.model_bytes("trained"));
}

/// A rank whose backend fails at its n-th op.
struct Failing(Cpu, AtomicUsize);

impl Backend for Failing {
    fn name(&self) -> &'static str {
        "cpu"
    }
    fn supports(&self, kind: &OpKind, float: Dtype) -> Result<(), OpError> {
        self.0.supports(kind, float)
    }
    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError> {
        match self.1.fetch_sub(1, Ordering::Relaxed) {
            1 => Err(OpError("the device is on fire".into())),
            _ => self.0.run(call),
        }
    }
}

#[test]
fn the_error_of_any_rank_ends_all_of_them() {
    for mesh in [REPLICAS, SHARDS] {
        for failing in [0, 1] {
            let (world, config) = world();
            let task = stage(&config, Objective::CrossEntropy, mesh, 2);
            let sound = Cpu::new(1);
            let broken = Failing(Cpu::new(1), AtomicUsize::new(700));
            let mut backends: Vec<&dyn Backend> = vec![&sound, &sound];
            backends[failing] = &broken;
            let error = run_on(&world, &task, &backends, None).expect_err("one has failed");
            assert!(error.message.contains("on fire"), "{mesh:?}, rank {failing}: {}", error.message);
        }
    }
}

#[test]
fn too_few_devices_are_refused() {
    let (world, config) = world();
    let task = stage(&config, Objective::CrossEntropy, SHARDS, 2);
    let error = run_on(&world, &task, &[&Cpu::new(1)], None).expect_err("there is one");
    assert!(error.message.contains("2 devices"), "{}", error.message);
}

#[test]
fn the_memory_of_a_rank_is_that_of_the_plan() {
    let (_world, config) = world();
    let module = |mesh| {
        let Work::Train(work) = stage(&config, Objective::CrossEntropy, mesh, 2).work else { panic!() };
        work.module.expect("planned")
    };
    let (one, shards) = (module(ONE), module(SHARDS));
    for role in [Role::Weight, Role::Gradient, Role::State] {
        let (all, part) = (one.arena_bytes(role), shards.arena_bytes(role));
        // Norms are whole on each rank, and places are rounded up to cache lines.
        assert!(part >= all / 2 && part < all * 53 / 100, "{role:?}: {part} of {all}");
    }
    // What a rank holds is what its arenas have room for: every place of every value is within them.
    let backends = ranks(SHARDS, 1);
    std::thread::scope(|scope| {
        let others: [&dyn Backend; 1] = [&backends[1]];
        let ranks = Ranks::start(scope, &shards, &others).expect("started");
        let executor = Executor::leading(&shards, &backends[0], ranks).expect("sound");
        for role in [Role::Weight, Role::Gradient, Role::State] {
            let ids = (0..shards.values.len() as u32).map(plan::value::ValueId);
            let ends = ids.filter(|id| shards.values[id.index()].role == role).map(|id| {
                let (place, length) = executor.located(id).expect("placed");
                (place.start + length).next_multiple_of(64) as u64
            });
            assert_eq!(ends.max(), Some(shards.arena_bytes(role)), "{role:?}");
        }
    });
}
