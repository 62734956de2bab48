//! The `begin` and `update` programs of a training stage.

use crate::builder::{Builder, Mode, set};
use plan::op::{OpKind, Output, Write};
use plan::program::Module;
use plan::value::{Dtype, Role, ValueId};
use plan::work::{AdamW, batch, result};

/// Name of the value that `begin` leaves for the losses: one over the step's count.
pub const LOSS_SCALE: &str = "loss_scale";

/// Adds `begin`: the divisor of the loss, from the counts of the whole step.
pub fn add_begin(module: &mut Module) {
    let mut b = Builder::new(module, "begin", Mode::Train, Dtype::F32);
    b.region("begin");
    let count = b.exchanged(batch::STEP_COUNT, vec![1.into()]);
    let scale = b.exchanged(LOSS_SCALE, vec![1.into()]);
    b.push(OpKind::Reciprocal, vec![count], vec![set(scale)]);
    b.finish();
}

/// Adds `update`: norm, clipping and AdamW over the given weights and gradients.
///
/// A weight in less than f32 has a master copy in f32, which the optimizer updates and rounds into it.
/// Weights of one dimension (norms and biases) do not decay, as in the trainers of Hugging Face.
pub fn add_update(module: &mut Module, optimizer: &AdamW, gradients: &[(ValueId, ValueId)]) {
    let mut b = Builder::new(module, "update", Mode::Train, Dtype::F32);
    b.region("update");
    let sum = b.activation("sum_squares", vec![1.into()]);
    let norm = b.exchanged(result::GRAD_NORM, vec![1.into()]);
    let factor = b.activation("clip_factor", vec![1.into()]);
    let scalars = b.exchanged(batch::UPDATE_SCALARS, vec![3.into()]);
    b.push(OpKind::SumSquares, gradients.iter().map(|&(_, gradient)| gradient).collect(), vec![set(sum)]);
    b.push(OpKind::ClipFactor { max_norm: optimizer.clip }, vec![sum], vec![set(norm), set(factor)]);
    for &(weight, gradient) in gradients {
        let of = b.module.values[weight.index()].clone();
        let mut like = |suffix: &str, role: Role| {
            b.persistent(&format!("{}.{suffix}", of.name), Dtype::F32, role, of.shape.clone())
        };
        let (m, v) = (like("m", Role::State), like("v", Role::State));
        let updated = if of.dtype == Dtype::F32 { weight } else { like("master", Role::Master) };
        let rounded = (updated != weight).then_some(weight);
        let decays = of.shape.len() > 1;
        let kind = OpKind::AdamW {
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            eps: optimizer.eps,
            weight_decay: if decays { optimizer.weight_decay } else { 0.0 },
            lr_scale: 1.0,
        };
        let outputs = [updated, m, v].into_iter().chain(rounded);
        let outputs = outputs.map(|value| Output { value, write: Write::Update }).collect();
        b.push(kind, vec![gradient, factor, scalars], outputs);
    }
    b.finish();
}
