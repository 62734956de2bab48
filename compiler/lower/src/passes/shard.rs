//! One rank's part of a module: weights, gradients and optimizer state over a mesh, and what ranks exchange.
//!
//! - Replicas hold everything. `update` first adds up every gradient over the ranks; from there on all of
//!   them compute the same.
//! - Shards hold equal parts of each trained matrix, its gradient, moments and master, cut along the first
//!   dimension. A region of a program gathers a matrix before its first op that reads it, and the place is free
//!   after the last. A gradient is made whole for one op, and each rank keeps the sum over all ranks of its part.
//!   Norms and biases are small: every rank holds all of them, as with replicas. So are frozen weights.

use crate::builder::set;
use plan::op::{MeshAxis, Op, OpKind, Output, Write};
use plan::program::{Mesh, Module, Program};
use plan::value::{Dtype, Role, ValueId};
use std::collections::{HashMap, HashSet};

/// The program that reads gradients and rewrites weights.
const UPDATE: &str = "update";

/// Divides a module that is not planned for memory.
///
/// # Panics
/// Panics on a mesh of several replicas of several shards, which is not built.
pub fn apply(module: &mut Module, mesh: Mesh) {
    module.mesh = mesh;
    if mesh.ranks() == 1 {
        return;
    }
    assert!(mesh.replicas == 1 || mesh.shards == 1, "replicas of shards are refused before lowering");
    let cut = if mesh.shards > 1 { cut(module, u64::from(mesh.shards)) } else { HashSet::new() };
    for mut program in std::mem::take(&mut module.programs) {
        if program.name == UPDATE {
            add_up(module, &mut program, &cut);
        } else if !cut.is_empty() {
            exchange(module, &mut program, &cut);
        }
        module.programs.push(program);
    }
}

/// Cuts what the optimizer reads and writes of each trained matrix; returns these values.
fn cut(module: &mut Module, shards: u64) -> HashSet<ValueId> {
    let ops = module.program(UPDATE).map_or(&[][..], |update| &update.ops);
    let updates = ops.iter().filter(|op| matches!(op.kind, OpKind::AdamW { .. }));
    let ids = updates.flat_map(|op| op.outputs.iter().map(|output| output.value).chain([op.inputs[0]]));
    let ids: HashSet<ValueId> =
        ids.filter(|id| is_divisible(&module.values[id.index()].shape, shards)).collect();
    for id in &ids {
        let value = &mut module.values[id.index()];
        let rows = value.shape[0].factor;
        value.whole_rows = Some(rows);
        value.shape[0] = rows.div_ceil(shards).into();
    }
    ids
}

/// Whether a tensor is a matrix of which every shard has a row.
fn is_divisible(shape: &[plan::value::Dim], shards: u64) -> bool {
    shape.len() > 1 && shape[0].factor >= shards
}

/// Gathers the matrices that a program reads, and deals out the gradients that it writes.
fn exchange(module: &mut Module, program: &mut Program, cut: &HashSet<ValueId>) {
    let axis = MeshAxis::Shards;
    let mut region = String::new();
    // What is gathered in the present run of ops of one region.
    let mut gathered: HashMap<ValueId, ValueId> = HashMap::new();
    let mut ops = Vec::with_capacity(program.ops.len());
    for mut op in std::mem::take(&mut program.ops) {
        if op.region != region {
            gathered.clear();
            region.clone_from(&op.region);
        }
        for input in op.inputs.iter_mut().filter(|input| cut.contains(input)) {
            *input = *gathered.entry(*input).or_insert_with(|| {
                let made = whole(module, *input, &program.name, ops.len());
                ops.push(Op::new(OpKind::AllGather { axis }, vec![*input], vec![set(made)], &region));
                made
            });
        }
        let mut dealt = Vec::new();
        for output in op.outputs.iter_mut().filter(|output| cut.contains(&output.value)) {
            let made = whole(module, output.value, &program.name, ops.len());
            let part = std::mem::replace(output, set(made));
            dealt.push(Op::new(OpKind::ReduceScatter { axis }, vec![made], vec![part], &region));
        }
        ops.push(op);
        ops.extend(dealt);
    }
    program.ops = ops;
}

/// Makes the value that all shards of another make up together, for a part of one program.
fn whole(module: &mut Module, part: ValueId, program: &str, index: usize) -> ValueId {
    let of = module.values[part.index()].clone();
    let mut shape = of.shape;
    shape[0] = of.whole_rows.expect("only cut values are made whole").into();
    module.value(format!("{program}/{index}.{}.whole", of.name), of.dtype, Role::Activation, shape)
}

/// Adds up over the ranks what `update` needs of all of them.
fn add_up(module: &mut Module, update: &mut Program, cut: &HashSet<ValueId>) {
    let updates = update.ops.iter().filter(|op| matches!(op.kind, OpKind::AdamW { .. }));
    let held_by_all = updates.map(|op| op.inputs[0]).filter(|gradient| !cut.contains(gradient));
    let mut ops: Vec<Op> = held_by_all.map(|gradient| all_reduce(gradient, UPDATE)).collect();
    for op in std::mem::take(&mut update.ops) {
        match op.kind {
            OpKind::SumSquares => ops.extend(norm(module, op, cut)),
            _ => ops.push(op),
        }
    }
    update.ops = ops;
}

/// Returns the ops that add the squares of all gradients up: those of parts over the ranks, the others once.
fn norm(module: &mut Module, op: Op, cut: &HashSet<ValueId>) -> Vec<Op> {
    let (parts, others): (Vec<_>, Vec<_>) = op.inputs.iter().partition(|gradient| cut.contains(gradient));
    if parts.is_empty() {
        return vec![op];
    }
    let (sum, region) = (op.outputs[0].value, op.region.as_str());
    let squares = |inputs, sum| Op::new(OpKind::SumSquares, inputs, vec![set(sum)], region);
    let mut ops = vec![squares(parts, sum), all_reduce(sum, region)];
    if !others.is_empty() {
        let name = format!("{UPDATE}/{region}.sum_squares.small");
        let own = module.value(name, Dtype::F32, Role::Activation, vec![1.into()]);
        let added = Output { value: sum, write: Write::Add };
        ops.extend([squares(others, own), Op::new(OpKind::Copy, vec![own], vec![added], region)]);
    }
    ops
}

/// Returns the op that adds a value up over all ranks, in place.
fn all_reduce(value: ValueId, region: &str) -> Op {
    let kind = OpKind::AllReduce { axis: MeshAxis::All };
    Op::new(kind, Vec::new(), vec![Output { value, write: Write::Update }], region)
}

#[cfg(test)]
mod tests;
