//! What ops cost: floating point operations and bytes moved, as functions of the extents.

use crate::op::{Op, OpKind};
use crate::program::{Module, Program};
use crate::value::ValueId;

/// Operations and traffic of an op or a program.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Multiply and add count as two.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// Returns the cost of one op when extents have the given sizes; `row_len` is the mean row length.
pub fn op_cost(module: &Module, op: &Op, extents: &[u64], row_len: f64) -> Cost {
    let size = |id: ValueId| module.values[id.index()].elements(extents) as f64;
    let input = |index: usize| size(op.inputs[index]);
    let last = |id: ValueId| *module.values[id.index()].sizes(extents).last().unwrap_or(&1) as f64;
    let bytes = op.values().map(|id| module.values[id.index()].bytes(extents) as f64).sum();
    let flops = match &op.kind {
        OpKind::Linear { .. } => 2.0 * input(0) * input(1) / last(op.inputs[0]).max(1.0),
        OpKind::LinearGradX => 2.0 * input(0) * input(1) / last(op.inputs[0]).max(1.0),
        OpKind::LinearGradW => 2.0 * input(0) * last(op.inputs[1]),
        // Causal: half of the square, two products.
        OpKind::Attention(_) => 2.0 * input(0) * row_len,
        OpKind::AttentionGrad(_) => 5.0 * input(1) * row_len,
        OpKind::AttentionCached(_) => 4.0 * input(0) * row_len,
        OpKind::LmHeadLoss { .. } => 2.0 * size(op.inputs[2]) * input(1) * op.outputs.len() as f64,
        OpKind::TokenLogprobs => 2.0 * size(op.inputs[2]) * input(1),
        OpKind::TokenLogprobsGrad => 2.0 * size(op.inputs[3]) * input(2) * (1.0 + op.outputs.len() as f64),
        OpKind::GroupedLinear { .. } => 2.0 * input(0) * size(op.outputs[0].value) / input(0).max(1.0),
        _ => op.outputs.iter().map(|output| size(output.value)).sum::<f64>(),
    };
    Cost { flops, bytes }
}

/// Returns the cost of a whole program.
pub fn program_cost(module: &Module, program: &Program, extents: &[u64], row_len: f64) -> Cost {
    program.ops.iter().map(|op| op_cost(module, op, extents, row_len)).fold(Cost::default(), |a, b| a + b)
}
