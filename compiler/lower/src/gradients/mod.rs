//! The pass that appends backward ops: what needs a gradient, then one rule per op, in reverse.
//!
//! Nothing is computed behind frozen weights. Gradients of weights accumulate in place over
//! micro-steps; gradients of activations live for one program run.

mod rules;

use crate::builder::{Builder, set};
use plan::op::{Op, OpKind, Output, Write};
use plan::value::{Dtype, Role, ValueId};
use std::collections::{HashMap, HashSet};

/// The gradient of a value while the pass runs.
#[derive(Debug, Clone, Copy)]
struct Slot {
    id: ValueId,
    /// Whether the same memory stands for other values' gradients too, so that nothing may be added to it.
    shared: bool,
}

/// State of the pass over one program.
struct Pass<'b, 'm> {
    b: &'b mut Builder<'m>,
    needed: HashSet<ValueId>,
    slots: HashMap<ValueId, Slot>,
}

/// Appends the backward ops of the program in `b`, whose last op gives the loss.
///
/// `trained` are the weights that get a gradient. Returns each with its gradient value.
pub fn append(b: &mut Builder, trained: &HashSet<ValueId>) -> Vec<(ValueId, ValueId)> {
    let forward = std::mem::take(&mut b.ops);
    let needed = needed(&forward, trained);
    let mut pass = Pass { b, needed, slots: HashMap::new() };
    // Losses that give their gradients in the same pass stay where they are, with more outputs.
    let mut forward = forward;
    if let Some(last) = forward.last_mut() {
        rules::fuse_loss(&mut pass, last);
    }
    pass.b.ops = forward.clone();
    for op in forward.iter().rev() {
        let region = op.region.clone();
        pass.b.region(region);
        rules::backward(&mut pass, op);
    }
    let mut gradients: Vec<(ValueId, ValueId)> =
        trained.iter().filter_map(|&weight| pass.slots.get(&weight).map(|slot| (weight, slot.id))).collect();
    gradients.sort();
    gradients
}

/// Returns the values that a trained weight reaches, and those weights.
fn needed(ops: &[Op], trained: &HashSet<ValueId>) -> HashSet<ValueId> {
    let mut needed = trained.clone();
    for op in ops {
        if op.inputs.iter().any(|input| needed.contains(input)) {
            needed.extend(op.outputs.iter().map(|output| output.value));
        }
    }
    needed
}

impl Pass<'_, '_> {
    fn needs(&self, value: ValueId) -> bool {
        self.needed.contains(&value)
    }

    /// Returns the gradient of a value if something has contributed to it.
    fn gradient(&self, value: ValueId) -> Option<ValueId> {
        self.slots.get(&value).map(|slot| slot.id)
    }

    /// Whether the gradient of a value outlives the program; of a frozen weight it does not.
    fn lasts(&self, value: ValueId) -> bool {
        self.b.module.values[value.index()].role == Role::Weight && self.needs(value)
    }

    /// Returns where to write a contribution to the gradient of `value`, and how.
    fn contribute(&mut self, value: ValueId) -> Output {
        match self.slots.get(&value).copied() {
            Some(Slot { id, shared: false }) => Output { value: id, write: Write::Add },
            Some(Slot { id, shared: true }) => {
                let own = self.fresh(value);
                self.b.push(OpKind::Copy, vec![id], vec![set(own)]);
                Output { value: own, write: Write::Add }
            }
            None => {
                let write = if self.lasts(value) { Write::Accumulate } else { Write::Set };
                Output { value: self.fresh(value), write }
            }
        }
    }

    /// Makes a gradient value for `value` and makes it the current one.
    fn fresh(&mut self, value: ValueId) -> ValueId {
        let of = self.b.module.values[value.index()].clone();
        let name = of.name.rsplit('/').next().unwrap_or(&of.name).to_owned();
        let id = if self.lasts(value) {
            // In f32 whatever the format: micro-steps and chunks add up.
            self.b.persistent(&format!("{name}.grad"), Dtype::F32, Role::Gradient, of.shape)
        } else {
            let short = name.rsplit('.').next().unwrap_or(&name).to_owned();
            match of.dtype {
                Dtype::F32 => self.b.statistic(&format!("{short}.grad"), of.shape),
                _ => self.b.activation(&format!("{short}.grad"), of.shape),
            }
        };
        self.slots.insert(value, Slot { id, shared: false });
        id
    }

    /// Makes `gradient` stand for the gradient of `value`, adding to what is there.
    fn share(&mut self, value: ValueId, gradient: ValueId) {
        if !self.needs(value) {
            return;
        }
        match self.slots.contains_key(&value) {
            false => {
                self.slots.insert(value, Slot { id: gradient, shared: true });
            }
            true => {
                let output = self.contribute(value);
                self.b.push(OpKind::Copy, vec![gradient], vec![output]);
            }
        }
    }
}
