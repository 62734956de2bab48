//! The `begin` and `update` programs of a training stage.

use crate::builder::{Builder, Mode, set};
use plan::op::{OpKind, Output, Write};
use plan::program::Module;
use plan::value::{Dtype, Role, ValueId};
use plan::work::{AdamW, batch, result};

/// Name of the value that `begin` leaves for the losses: one over the step's count.
pub const LOSS_SCALE: &str = "loss_scale";

/// Adds `begin`: the divisor of the loss, from the counts of the whole step.
pub fn add_begin(module: &mut Module, dtype: Dtype) {
    let mut b = Builder::new(module, "begin", Mode::Train, dtype);
    b.region("begin");
    let count = b.exchanged(batch::STEP_COUNT, vec![1.into()]);
    let scale = b.exchanged(LOSS_SCALE, vec![1.into()]);
    b.push(OpKind::Reciprocal, vec![count], vec![set(scale)]);
    b.finish();
}

/// Adds `update`: norm, clipping and AdamW over the given weights and gradients.
///
/// Weights of one dimension (norms and biases) do not decay, as in the trainers of Hugging Face.
pub fn add_update(module: &mut Module, dtype: Dtype, optimizer: &AdamW, gradients: &[(ValueId, ValueId)]) {
    let mut b = Builder::new(module, "update", Mode::Train, dtype);
    b.region("update");
    let sum = b.activation("sum_squares", vec![1.into()]);
    let norm = b.exchanged(result::GRAD_NORM, vec![1.into()]);
    let factor = b.activation("clip_factor", vec![1.into()]);
    let scalars = b.exchanged(batch::UPDATE_SCALARS, vec![3.into()]);
    b.push(OpKind::SumSquares, gradients.iter().map(|&(_, gradient)| gradient).collect(), vec![set(sum)]);
    b.push(OpKind::ClipFactor { max_norm: optimizer.clip }, vec![sum], vec![set(norm), set(factor)]);
    for &(weight, gradient) in gradients {
        let of = b.module.values[weight.index()].clone();
        let m = b.persistent(&format!("{}.m", of.name), of.dtype, Role::State, of.shape.clone());
        let v = b.persistent(&format!("{}.v", of.name), of.dtype, Role::State, of.shape.clone());
        let decays = of.shape.len() > 1;
        let kind = OpKind::AdamW {
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            eps: optimizer.eps,
            weight_decay: if decays { optimizer.weight_decay } else { 0.0 },
            lr_scale: 1.0,
        };
        let outputs = [weight, m, v].map(|value| Output { value, write: Write::Update }).to_vec();
        b.push(kind, vec![gradient, factor, scalars], outputs);
    }
    b.finish();
}
