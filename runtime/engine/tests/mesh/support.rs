//! What is trained over a mesh, how it is run, and how far two results are apart.

use crate::world::{ADAMW, CAPACITIES, Watch, World, train};
use engine::error::EngineError;
use engine::run::{Options, Outcome, run_task_on};
use lower::figures::shapes;
use lower::figures::trained::{Selection, lines};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::trained::part;
use lower::programs::{Training, draft};
use ops::backend::Backend;
use ops::cpu::Cpu;
use plan::program::{Mesh, Module};
use plan::task::Task;
use plan::value::Dtype;
use plan::work::{AdamW, Batch, Budget, Work};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

pub const ONE: Mesh = Mesh { replicas: 1, shards: 1 };
pub const REPLICAS: Mesh = Mesh { replicas: 2, shards: 1 };
pub const SHARDS: Mesh = Mesh { replicas: 1, shards: 2 };
pub const STEPS: u64 = 20;

/// Gradients of text are clipped, those of pairs are not.
pub const OPTIMIZER: AdamW = AdamW { lr: 1e-3, clip: 1.5, ..ADAMW };

/// A model and what is trained of it, on what.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub architecture: &'static str,
    pub tied: bool,
    pub objective: Objective,
    pub precision: Dtype,
    /// Lines of `train`; everything where there is none.
    pub train: &'static [&'static str],
    /// Sequences (or pairs) of a step.
    pub batch: u64,
    pub optimizer: AdamW,
}

/// A Llama whose embedding and head are two matrices.
pub const LLAMA: Case = Case {
    architecture: "llama",
    tied: false,
    objective: Objective::CrossEntropy,
    precision: Dtype::F32,
    train: &[],
    batch: 5,
    optimizer: OPTIMIZER,
};

/// A GPT-2: tied weights, biases, learned positions, dropout, and matrices that files hold transposed.
pub const GPT2: Case = Case { architecture: "gpt2", tied: true, ..LLAMA };

/// What a stage leaves behind: its metrics, and the tensors of its model.
pub struct Trained {
    pub metrics: Vec<Value>,
    pub weights: BTreeMap<String, Vec<f32>>,
}

impl Case {
    /// A world with a model of odd sizes, and its config.
    pub fn world(&self) -> (World, Value) {
        let world = World::new(1);
        let sizes = match self.architecture {
            "gpt2" => json!({"n_embd": 36, "n_inner": 53, "n_layer": 2, "n_head": 3, "n_positions": 97}),
            _ => json!({"hidden_size": 36, "intermediate_size": 53, "num_hidden_layers": 2,
                "num_attention_heads": 3, "num_key_value_heads": 1}),
        };
        let sizes = sizes.as_object().expect("an object").iter();
        let fields: Vec<(&str, Value)> = sizes
            .map(|(name, size)| (name.as_str(), size.clone()))
            .chain([("tie_word_embeddings", json!(self.tied))])
            .collect();
        let config = world.prepare_as(self.architecture, &fields);
        (world, config)
    }

    /// A stage over a mesh. Of five sequences a step one rank takes three and the other two, and one rank the one
    /// that is left at the end of an epoch.
    pub fn stage(&self, config: &Value, mesh: Mesh, micro: u64) -> Task {
        let pairs = self.objective != Objective::CrossEntropy;
        let data = if pairs { "data:pairs" } else { "data:text" };
        let mut task = train(config, "trained", "init:base", data, self.objective);
        let Work::Train(work) = &mut task.work else { panic!("a training task") };
        let model = Model::from_config(config).expect("sound");
        let words = |line: &&str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let selection = Selection {
            lora: None,
            train: self.train.iter().flat_map(|line| lines(&words(line), None)).collect(),
        };
        let part = part(&model, &shapes(config).expect("known"), &selection);
        let training =
            Training { objective: self.objective, optimizer: &self.optimizer, part: part.as_ref() };
        let mut module = draft(&model, &training, CAPACITIES, self.precision).divided(mesh).plan(&[]);
        module.decisions.micro_batch_size = micro;
        work.tensors = lower::programs::file_tensors(&model, &module);
        work.module = Some(module);
        (work.batch, work.pack, work.budget) = (Batch::Sequences(self.batch), false, Budget::Steps(STEPS));
        (work.optimizer, work.precision) = (self.optimizer, self.precision);
        work.trained = part.map(|part| part.tensors);
        task
    }

    /// The module of that stage.
    pub fn module(&self, mesh: Mesh) -> Module {
        let (_world, config) = self.world();
        let Work::Train(work) = self.stage(&config, mesh, 2).work else { panic!("a training task") };
        work.module.expect("planned")
    }

    /// Runs the stage to its end in a world of its own.
    pub fn trained(&self, mesh: Mesh, micro: u64) -> Trained {
        let (world, config) = self.world();
        let task = self.stage(&config, mesh, micro);
        assert!(matches!(run(&world, &task, mesh, None), Outcome::Done(_)));
        Trained::read(&world)
    }
}

impl Trained {
    /// Reads what the stage has left in a world.
    pub fn read(world: &World) -> Trained {
        Trained { metrics: world.metrics("trained"), weights: tensors(&world.model_bytes("trained")) }
    }

    /// How far metrics and weights are apart.
    pub fn apart(&self, other: &Trained) -> (f64, f64) {
        assert!(self.weights.keys().eq(other.weights.keys()));
        let determined = |of: &Trained, name: &String| determined(name, &of.weights[name]);
        let weights = |name: &String| weights_apart(&determined(self, name), &determined(other, name));
        let weights = self.weights.keys().map(weights).fold(0.0, f64::max);
        (metrics_apart(&self.metrics, &other.metrics), weights)
    }
}

/// Returns the numbers of a tensor without the biases of keys.
///
/// They add the same to all scores of a query, which softmax takes out again: their gradient is zero but for
/// rounding, whatever that is, and AdamW scales it up.
fn determined(name: &str, numbers: &[f32]) -> Vec<f32> {
    if !name.ends_with("c_attn.bias") {
        return numbers.to_vec();
    }
    // Queries, keys, values.
    let third = numbers.len() / 3;
    [&numbers[..third], &numbers[2 * third..]].concat()
}

/// Returns the tensors of a file in f32.
pub fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<f32>> {
    let file = SafeTensors::deserialize(bytes).expect("sound");
    let numbers = |data: &[u8]| data.chunks_exact(4).map(number).collect();
    file.tensors().into_iter().map(|(name, tensor)| (name, numbers(tensor.data()))).collect()
}

fn number(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

pub fn ranks(mesh: Mesh, threads: usize) -> Vec<Cpu> {
    (0..mesh.ranks()).map(|_| Cpu::new(threads)).collect()
}

/// Runs a stage; stops after so many events, or at the end. Returns also what was noted.
pub fn run_on(
    world: &World,
    task: &Task,
    backends: &[&dyn Backend],
    stop_after: Option<usize>,
) -> Result<(Outcome, String), EngineError> {
    let stop = AtomicBool::new(false);
    let mut watch = Watch { stop: &stop, left: stop_after, heard: String::new() };
    let outcome = run_task_on(task, &world.folder, backends, &mut watch, &stop, &Options::default())?;
    Ok((outcome, watch.heard))
}

/// Runs a stage on as many ranks as its mesh has.
pub fn run_noted(world: &World, task: &Task, mesh: Mesh, stop_after: Option<usize>) -> (Outcome, String) {
    let backends = ranks(mesh, 1);
    let backends: Vec<&dyn Backend> = backends.iter().map(|backend| backend as &dyn Backend).collect();
    run_on(world, task, &backends, stop_after).expect("runs")
}

pub fn run(world: &World, task: &Task, mesh: Mesh, stop_after: Option<usize>) -> Outcome {
    run_noted(world, task, mesh, stop_after).0
}

/// The largest difference, relative to the larger of the two and to what is usual for all of them.
pub fn weights_apart(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let usual = (a.iter().map(|w| f64::from(w * w)).sum::<f64>() / a.len() as f64).sqrt();
    let apart = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()) / f64::from(a.abs()).max(usual));
    apart.fold(0.0, f64::max)
}

/// The largest relative difference of the numbers of two runs' metrics.
pub fn metrics_apart(a: &[Value], b: &[Value]) -> f64 {
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
