//! What several tests need: the references, rows as batches, gradients by tensor name.

use engine::executor::Executor;
use lower::builder::Capacities;
use lower::models::Model;
use ops::backend::{Backend, Draw};
use plan::program::Module;
use plan::weights::FileTensor;
use plan::work::{AdamW, batch, extent};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub const IGNORE_INDEX: i64 = -100;

pub const ADAMW: AdamW =
    AdamW { lr: 1e-3, weight_decay: 0.0, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

/// Returns a folder of references that this project keeps.
pub fn parity(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

/// Returns a JSON file.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Returns a JSONL file.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the numbers of a JSON array.
pub fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

/// Returns the model that a config.json describes.
pub fn model(config: &Path) -> Model {
    Model::from_config(&json(config)).unwrap()
}

/// Tensors of a safetensors file, floats widened, integers as they are.
pub struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Tensors {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let widen = |tensor: &safetensors::tensor::TensorView| match tensor.dtype() {
            safetensors::Dtype::F32 => {
                let chunks = tensor.data().chunks_exact(4);
                chunks.map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            safetensors::Dtype::I64 => tensor
                .data()
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                .collect(),
            other => panic!("unexpected dtype {other:?}"),
        };
        let all = file.tensors();
        Tensors(all.iter().map(|(name, t)| (name.clone(), (t.shape().to_vec(), widen(t)))).collect())
    }

    pub fn get(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("no tensor `{name}`")).1
    }

    pub fn rows(&self, name: &str) -> Vec<Vec<i64>> {
        let (shape, data) = &self.0[name];
        data.chunks(shape[1]).map(|row| row.iter().map(|&x| x as i64).collect()).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// One row of tokens with its labels, as the references give them.
#[derive(Debug, Clone)]
pub struct Row {
    pub ids: Vec<i64>,
    pub labels: Vec<i64>,
}

impl Row {
    pub fn trained(&self) -> usize {
        self.labels.iter().skip(1).filter(|label| **label != IGNORE_INDEX).count()
    }
}

/// Returns capacities that hold these rows.
pub fn capacities(rows: &[Row]) -> Capacities {
    let tokens: usize = rows.iter().map(|row| row.ids.len()).sum();
    Capacities { tokens: tokens as u64, rows: rows.len() as u64, trained: tokens as u64, slots: 0, cached: 0 }
}

/// Writes rows into the batch values of a module.
pub fn write_rows(executor: &mut Executor, rows: &[Row]) {
    let (mut ids, mut positions, mut bounds) = (Vec::new(), Vec::new(), vec![0]);
    let (mut index, mut labels, mut of_row) = (Vec::new(), Vec::new(), Vec::new());
    for (number, row) in rows.iter().enumerate() {
        for (position, (&id, &label)) in row.ids.iter().zip(&row.labels).enumerate() {
            if position > 0 && label != IGNORE_INDEX {
                index.push(ids.len() as i32 - 1);
                labels.push(label as i32);
                of_row.push(number as i32);
            }
            ids.push(id as i32);
            positions.push(position as i32);
        }
        bounds.push(ids.len() as i32);
    }
    let numbers: Vec<i32> = (0..rows.len() as i32).collect();
    for (name, size) in [
        (extent::TOKENS, ids.len()),
        (extent::ROWS, rows.len()),
        (extent::BOUNDS, bounds.len()),
        (extent::TRAINED, index.len()),
    ] {
        executor.set_extent(name, size as u64).unwrap();
    }
    for (name, values) in [
        (batch::IDS, &ids),
        (batch::POSITIONS, &positions),
        (batch::CU_SEQLENS, &bounds),
        (batch::ROW_NUMBERS, &numbers),
        (batch::TRAINED_INDEX, &index),
        (batch::TRAINED_LABELS, &labels),
        (batch::TRAINED_ROW, &of_row),
    ] {
        executor.write_i32(name, values).unwrap();
    }
    if executor.has(batch::PREFIXES) {
        executor.write_i32(batch::PREFIXES, &vec![0; rows.len()]).unwrap();
    }
}

/// Returns an executor with the weights of a model folder.
pub fn loaded<'a>(
    module: &'a Module,
    backend: &'a dyn Backend,
    model: &Model,
    folder: &Path,
) -> Executor<'a> {
    let mut executor = Executor::new(module, backend).unwrap();
    let map = lower::programs::file_tensors(model, module);
    engine::weights::load(&mut executor, &map, folder).unwrap();
    executor
}

/// Gathers a tensor of the model's files from values with that suffix (`.grad`, or none for weights).
pub fn gathered(executor: &Executor, tensor: &FileTensor, suffix: &str) -> Vec<f64> {
    let mut rows: Vec<f64> = Vec::new();
    for piece in &tensor.pieces {
        let name = &executor.module().values[piece.value.index()].name;
        rows.extend(executor.read(&format!("{name}{suffix}")).unwrap());
    }
    if !tensor.transpose {
        return rows;
    }
    let (inputs, outputs) = (tensor.shape[0] as usize, tensor.shape[1] as usize);
    (0..inputs * outputs).map(|at| rows[(at % outputs) * inputs + at / outputs]).collect()
}

pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

pub const NO_DRAW: Draw = Draw { seed: 0, step: 0 };
