//! Recomputation: activations of a region that are computed again in the backward pass instead of kept.
//!
//! What a backward op reads and is not kept is made again just before it, by copies of the forward ops from
//! what is kept. Copies have the operands, attributes and random sites of their originals, so the bits are
//! those of a program that keeps everything. What crosses into a region from another is always kept.

use crate::builder::{attach_workspace, set};
use plan::op::{Op, OpKind, Output};
use plan::program::{Level, Module, Program, Recomputed};
use plan::value::{Role, ValueId};
use std::collections::HashMap;

/// Ends the name of a value that is made again.
pub const AGAIN: &str = ".again";

/// Returns the regions of a program that may be computed again: its layers, in order.
pub fn regions(ops: &[Op]) -> Vec<String> {
    let mut regions: Vec<String> = Vec::new();
    for op in ops.iter().filter(|op| op.region.starts_with("layers.")) {
        if regions.last() != Some(&op.region) {
            regions.push(op.region.clone());
        }
    }
    regions
}

/// Adds the copies to a program whose first `forward` ops are its forward pass.
pub fn apply(module: &mut Module, program: &mut Program, forward: usize, recomputed: &[Recomputed]) {
    if recomputed.is_empty() {
        return;
    }
    let levels = recomputed.iter().map(|one| (one.region.as_str(), one.level)).collect();
    let backward = program.ops.split_off(forward);
    let mut pass = Pass::new(module, &program.name, &program.ops, levels);
    for mut op in backward {
        for input in &mut op.inputs {
            *input = pass.available(*input);
        }
        pass.ops.push(op);
    }
    let backward = pass.ops;
    program.ops.extend(backward);
}

/// State of the pass over one program.
struct Pass<'a> {
    module: &'a mut Module,
    program: &'a str,
    forward: &'a [Op],
    levels: HashMap<&'a str, Level>,
    /// The forward op that makes each activation.
    makers: HashMap<ValueId, usize>,
    /// What was made again, by what it stands for.
    again: HashMap<ValueId, ValueId>,
    /// The backward pass with the copies, as far as it has come.
    ops: Vec<Op>,
}

impl<'a> Pass<'a> {
    fn new(
        module: &'a mut Module,
        program: &'a str,
        forward: &'a [Op],
        levels: HashMap<&'a str, Level>,
    ) -> Self {
        let mut makers = HashMap::new();
        for (index, op) in forward.iter().enumerate() {
            let made = op.outputs.iter().map(|output| output.value);
            makers.extend(
                made.filter(|id| module.values[id.index()].role == Role::Activation).map(|id| (id, index)),
            );
        }
        Pass { module, program, forward, levels, makers, again: HashMap::new(), ops: Vec::new() }
    }

    /// Returns what a backward op reads in place of a value: itself where it is kept, else its copy.
    fn available(&mut self, value: ValueId) -> ValueId {
        if self.is_kept(value) {
            return value;
        }
        if !self.again.contains_key(&value) {
            self.make(self.makers[&value]);
        }
        self.again[&value]
    }

    fn is_kept(&self, value: ValueId) -> bool {
        let Some(&maker) = self.makers.get(&value) else { return true };
        let op = &self.forward[maker];
        match self.levels.get(op.region.as_str()) {
            None => true,
            Some(Level::Cheap) => !is_cheap(&op.kind) || sum_of(op) == Some(value),
            Some(Level::Block) => sum_of(op) == Some(value) && self.begins_region(op),
        }
    }

    /// Whether all activations that an op reads come from outside its region.
    fn begins_region(&self, op: &Op) -> bool {
        let mut makers = op.inputs.iter().filter_map(|input| self.makers.get(input));
        makers.all(|&maker| self.forward[maker].region != op.region)
    }

    /// Adds a copy of a forward op, after those of the ops that it depends on.
    fn make(&mut self, maker: usize) {
        let forward = self.forward;
        let original = &forward[maker];
        let mut inputs = original.inputs.clone();
        let mut outputs: &[Output] = &original.outputs;
        if let Some(sum) = sum_of(original).filter(|&sum| self.is_kept(sum)) {
            // The sum is there: the norm starts from it and needs no residual.
            inputs.pop();
            inputs[0] = sum;
            outputs = &outputs[..outputs.len() - 1];
        }
        for input in &mut inputs {
            let outside = self.makers.get(input).is_some_and(|&at| forward[at].region != original.region);
            if !outside {
                *input = self.available(*input);
            }
        }
        let outputs = outputs.iter().map(|output| set(self.fresh(output.value))).collect();
        let mut op = Op::new(original.kind.clone(), inputs, outputs, &original.region);
        attach_workspace(self.module, &mut op, self.program, forward.len() + self.ops.len());
        if let Some(scratch) = op.workspace {
            self.module.values[scratch.index()].name += AGAIN;
        }
        self.ops.push(op);
    }

    fn fresh(&mut self, value: ValueId) -> ValueId {
        let of = self.module.values[value.index()].clone();
        let id = self.module.value(format!("{}{AGAIN}", of.name), of.dtype, of.role, of.shape);
        self.again.insert(value, id);
        id
    }
}

/// Returns the running sum that a norm with residual leaves, its last output.
fn sum_of(op: &Op) -> Option<ValueId> {
    let without = match op.kind {
        OpKind::RmsNorm { .. } => 2,
        OpKind::LayerNorm { .. } => 3,
        _ => return None, // other ops leave no sum
    };
    op.outputs.get(without).map(|output| output.value)
}

/// Whether an op costs little beside a matrix product, and reads only what its gradient reads too.
fn is_cheap(kind: &OpKind) -> bool {
    matches!(
        kind,
        OpKind::RmsNorm { .. } | OpKind::LayerNorm { .. } | OpKind::GatedAct { .. } | OpKind::Act { .. }
    )
}
