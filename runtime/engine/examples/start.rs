//! How long a stage takes to its first forward pass, and what lies between two steps.
//!
//! Builds a model of SmolLM2-135M's shape with random weights and trains it for some steps, with and without
//! checkpoints: `cargo run --release -p engine --example start`, with `-- STEPS` for more than six.

#[path = "../tests/world/mod.rs"]
mod world;

use engine::observer::{Observer, StepReport};
use engine::run::{Options, run_task};
use lower::builder::Capacities;
use lower::models::Model;
use lower::objectives::Objective;
use lower::programs;
use ops::backend::{Backend, Call, OpError};
use ops::cpu::Cpu;
use plan::op::OpKind;
use plan::task::{Checkpoint, Conduct, Every, Task};
use plan::value::Dtype;
use plan::work::{Batch, Budget, Work};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use world::{ADAMW, World, train};

/// SmolLM2-135M.
fn fields() -> [(&'static str, Value); 7] {
    [
        ("vocab_size", json!(49_152)),
        ("hidden_size", json!(576)),
        ("intermediate_size", json!(1536)),
        ("num_hidden_layers", json!(30)),
        ("num_attention_heads", json!(9)),
        ("num_key_value_heads", json!(3)),
        ("tie_word_embeddings", json!(true)),
    ]
}

const ROOM: Capacities = Capacities { tokens: 512, rows: 64, trained: 512, slots: 1, cached: 16 };

/// The CPU backend, which notes when its first op began and how long it was idle before each step.
struct Clocked<'a> {
    cpu: &'a Cpu,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    first: Option<(Instant, f64)>,
    last: Option<Instant>,
    idle: Vec<Duration>,
}

impl Backend for Clocked<'_> {
    fn name(&self) -> &'static str {
        self.cpu.name()
    }

    fn supports(&self, kind: &OpKind, float: Dtype) -> Result<(), OpError> {
        self.cpu.supports(kind, float)
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError> {
        let now = Instant::now();
        let mut times = self.times.lock().expect("nothing panics under it");
        times.first.get_or_insert_with(|| (now, processor_seconds()));
        // The scale of the loss is what a step begins with.
        if let (OpKind::Reciprocal, Some(last)) = (call.kind, times.last) {
            times.idle.push(now - last);
        }
        drop(times);
        let ran = self.cpu.run(call);
        self.times.lock().expect("nothing panics under it").last = Some(Instant::now());
        ran
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        self.cpu.parallel(count, task);
    }
}

/// Returns the processor time of this process, in which other processes on the machine do not show.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time are fields 14 and 15, in hundredths of a second.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

struct Seconds(Vec<f64>);

impl Observer for Seconds {
    fn step(&mut self, _task: &str, report: &StepReport) {
        self.0.push(report.seconds);
    }
}

/// A stage of some steps of up to 512 tokens.
fn stage(config: &Value, name: &str, steps: u64, conduct: Conduct) -> Task {
    let mut task = train(config, name, "init:base", "data:text", Objective::CrossEntropy);
    task.conduct = conduct;
    let model = Model::from_config(config).expect("sound");
    let mut module = programs::train(&model, Objective::CrossEntropy, &ADAMW, ROOM, Dtype::F32);
    module.decisions.micro_batch_size = 1;
    let Work::Train(work) = &mut task.work else { panic!("a training task") };
    work.tensors = programs::file_tensors(&model, &module);
    (work.sequence, work.batch, work.budget) = (512, Batch::Sequences(1), Budget::Steps(steps));
    work.module = Some(module);
    task
}

fn measure(world: &World, task: &Task) {
    let backend = Clocked { cpu: &world.backend, times: Mutex::default() };
    let mut seconds = Seconds(Vec::new());
    let never = AtomicBool::new(false);
    let processor_before = processor_seconds();
    let begun = Instant::now();
    run_task(task, &world.folder, &backend, &mut seconds, &never, &Options::default()).expect("runs");
    let all = begun.elapsed();
    let times = backend.times.into_inner().expect("nothing panics under it");
    let (first, processor) = times.first.expect("it ran");
    let (wall, processor) = ((first - begun).as_secs_f64(), processor - processor_before);
    println!("{}: first op after {wall:.3} s, {processor:.3} s of processors", task.name);
    let steps: Vec<String> = seconds.0.iter().map(|seconds| format!("{seconds:.3}")).collect();
    println!("  seconds of the steps: {}", steps.join(" "));
    let mut idle: Vec<f64> = times.idle.iter().skip(1).map(|idle| idle.as_secs_f64() * 1e3).collect();
    idle.sort_by(f64::total_cmp);
    println!(
        "  idle between two steps: median {:.3} ms, most {:.3} ms",
        idle[idle.len() / 2],
        idle[idle.len() - 1]
    );
    println!("  whole stage, saving included: {:.1} s", all.as_secs_f64());
}

fn main() {
    let steps = std::env::args().nth(1).and_then(|steps| steps.parse().ok()).unwrap_or(6);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let world = World::new(threads);
    let text: Vec<String> = (0..4000)
        .map(|i| format!("{{\"text\": \"de kat zit op mat {} en de hond op mat {}\"}}", i % 7, i % 5))
        .collect();
    std::fs::write(world.place.path().join("text.jsonl"), text.join("\n")).expect("written");
    let begun = Instant::now();
    let config = world.prepare_with(&fields());
    println!("tokenizer, new model, data: {:.1} s, {threads} threads", begun.elapsed().as_secs_f64());
    measure(&world, &stage(&config, "plain", steps, Conduct::default()));
    let checkpoint = Some(Checkpoint { every: Every::Steps(2), keep: 1 });
    measure(&world, &stage(&config, "saved-every-2", steps, Conduct { checkpoint, ..Conduct::default() }));
}
