//! Whole modules: the programs that each kind of work needs, planned for memory.

use crate::builder::{Builder, Capacities, Mode, ext, new_module, resize};
use crate::gradients;
use crate::models::Model;
use crate::objectives::Objective;
use crate::passes::trained::TrainedPart;
use crate::passes::{self, recompute, shard, trained, update};
use plan::program::{Mesh, Module, Program, Recomputed};
use plan::value::{Dtype, Role, ValueId};
use plan::weights::{FileTensor, Piece};
use plan::work::{AdamW, batch, result};
use std::collections::HashMap;

/// Name of the program of a micro-step.
const MICRO: &str = "micro";

/// Returns the module of a training stage that trains everything and keeps everything: begin, micro, update, evaluate and, where they are needed,
/// reference, prefill and decode.
pub fn train(
    model: &Model,
    objective: Objective,
    optimizer: &AdamW,
    capacities: Capacities,
    dtype: Dtype,
) -> Module {
    draft(model, &Training { objective, optimizer, part: None }, capacities, dtype).plan(&[])
}

/// What a training stage asks for besides its model.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    pub objective: Objective,
    pub optimizer: &'a AdamW,
    /// What is trained; everything where nothing stands.
    pub part: Option<&'a TrainedPart>,
}

/// The programs of a training stage before anything is decided: what is computed again, and places in memory.
#[derive(Debug, Clone)]
pub struct Draft {
    module: Module,
    /// Ops of the forward pass in `micro`.
    forward: usize,
    mesh: Mesh,
}

/// Returns the draft of a training stage.
pub fn draft(model: &Model, training: &Training, capacities: Capacities, dtype: Dtype) -> Draft {
    let Training { objective, optimizer, part } = *training;
    let mut module = new_module(capacities);
    update::add_begin(&mut module);
    let mut b = Builder::new(&mut module, MICRO, Mode::Train, dtype);
    objective.add(&mut b, model);
    let forward = b.ops.len();
    let trained = trained::weights(b.module, part);
    let gradients = gradients::append(&mut b, &trained);
    b.finish();
    update::add_update(&mut module, optimizer, &gradients);
    add_scoring(&mut module, model, objective, dtype);
    if capacities.slots > 0 {
        add_generation(&mut module, model, dtype);
    }
    Draft { module, forward, mesh: Mesh::default() }
}

impl Draft {
    /// Returns the same programs for other capacities, which must have slots where the draft has.
    pub fn resized(&self, capacities: Capacities) -> Draft {
        let mut draft = self.clone();
        resize(&mut draft.module, capacities);
        draft
    }

    /// Returns the same programs for one rank of a mesh.
    pub fn divided(&self, mesh: Mesh) -> Draft {
        Draft { mesh, ..self.clone() }
    }

    /// Returns the module that computes these regions again, divided over the mesh and planned for memory.
    pub fn plan(&self, recompute: &[Recomputed]) -> Module {
        let mut module = self.module.clone();
        if let Some(at) = module.programs.iter().position(|program| program.name == MICRO) {
            let mut micro = std::mem::take(&mut module.programs[at]);
            recompute::apply(&mut module, &mut micro, self.forward, recompute);
            module.programs[at] = micro;
        }
        module.decisions.recompute = recompute.to_vec();
        shard::apply(&mut module, self.mesh);
        passes::finish(&mut module);
        module
    }

    /// Returns the regions that may be computed again.
    pub fn regions(&self) -> Vec<String> {
        recompute::regions(&self.micro().ops[..self.forward])
    }

    /// Returns the module without places in memory.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Returns the program of a micro-step.
    pub fn micro(&self) -> &Program {
        self.module.program(MICRO).expect("a draft has a micro-step")
    }
}

/// Returns the module of an evaluation.
pub fn evaluate(model: &Model, objective: Objective, capacities: Capacities, dtype: Dtype) -> Module {
    let mut module = new_module(capacities);
    add_scoring(&mut module, model, objective, dtype);
    passes::finish(&mut module);
    module
}

/// Returns the module of a generation: prefill and decode.
pub fn generate(model: &Model, capacities: Capacities, dtype: Dtype) -> Module {
    let mut module = new_module(capacities);
    add_generation(&mut module, model, dtype);
    passes::finish(&mut module);
    module
}

/// Returns a module with the one program `logits`: all logits of whole rows, `[tokens, vocab]`.
pub fn logits(model: &Model, capacities: Capacities, dtype: Dtype) -> Module {
    let mut module = new_module(capacities);
    let mut b = Builder::new(&mut module, "logits", Mode::Score, dtype);
    let hidden = model.forward(&mut b);
    let y = b.exchanged(result::LOGITS, vec![ext::TOKENS.into(), model.vocab_size().into()]);
    push_logits(&mut b, hidden.states, hidden.head, y);
    b.finish();
    passes::finish(&mut module);
    module
}

fn add_scoring(module: &mut Module, model: &Model, objective: Objective, dtype: Dtype) {
    let mut b = Builder::new(module, "evaluate", Mode::Score, dtype);
    objective.add(&mut b, model);
    b.finish();
    if let Objective::Preference { .. } = objective {
        let mut b = Builder::new(module, "reference", Mode::Score, dtype);
        objective.add_reference(&mut b, model);
        b.finish();
    }
}

fn add_generation(module: &mut Module, model: &Model, dtype: Dtype) {
    let mut b = Builder::new(module, "prefill", Mode::Prefill, dtype);
    let hidden = model.forward(&mut b);
    let last = b.index(batch::LAST_INDEX, ext::SLOTS);
    let states = b.gather(hidden.states, last, "last");
    let y = b.exchanged(result::LOGITS, vec![ext::SLOTS.into(), model.vocab_size().into()]);
    push_logits(&mut b, states, hidden.head, y);
    b.finish();
    let mut b = Builder::new(module, "decode", Mode::Decode, dtype);
    let hidden = model.forward(&mut b);
    let y = b.exchanged(result::LOGITS, vec![ext::SLOTS.into(), model.vocab_size().into()]);
    push_logits(&mut b, hidden.states, hidden.head, y);
    b.finish();
}

fn push_logits(b: &mut Builder, states: ValueId, head: ValueId, y: ValueId) {
    let kind = plan::op::OpKind::Linear { quantized: None, adapter: None };
    b.push(kind, vec![states, head], vec![crate::builder::set(y)]);
}

/// Returns how the model's files map to the values of a module.
pub fn file_tensors(model: &Model, module: &Module) -> Vec<FileTensor> {
    let values = module.values.iter().enumerate();
    let ids: HashMap<&str, ValueId> =
        values.map(|(index, value)| (value.name.as_str(), ValueId(index as u32))).collect();
    let tensor = |spec: crate::models::WeightSpec| {
        let mut start = 0;
        let pieces = spec
            .values
            .iter()
            .map(|(name, rows)| {
                let value =
                    *ids.get(name.as_str()).expect("every weight of a model is used by its forward pass");
                debug_assert_eq!(module.values[value.index()].role, Role::Weight);
                start += rows;
                Piece { value, file_start: start - rows, value_start: 0, rows: *rows }
            })
            .collect();
        FileTensor {
            name: spec.tensor,
            aliases: spec.aliases,
            shape: spec.shape,
            transpose: spec.transpose,
            pieces,
        }
    };
    model.weights().into_iter().map(tensor).collect()
}
