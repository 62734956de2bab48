//! One gradient rule per op. Formulas stand with the gradient ops in `plan::op`.

use super::Pass;
use crate::builder::{resize_workspace, set};
use plan::op::{HeadGrads, Op, OpKind, Output};
use plan::value::ValueId;

/// Gives a loss op the outputs for its gradients, where it computes them in the same pass.
pub fn fuse_loss(pass: &mut Pass, op: &mut Op) {
    let &[hidden, weight, ..] = op.inputs.as_slice() else { return };
    let OpKind::LmHeadLoss { grads } = &mut op.kind else { return };
    pass.b.region(op.region.clone());
    *grads = HeadGrads::Hidden;
    let dh = pass.contribute(hidden);
    op.outputs.push(dh);
    if pass.needs(weight) {
        *grads = HeadGrads::HiddenAndWeight;
        let dw = pass.contribute(weight);
        op.outputs.push(dw);
    }
    // Gradients are summed in scratch.
    resize_workspace(pass.b.module, op);
}

/// Appends the ops that carry the gradients of an op's outputs to its inputs.
pub fn backward(pass: &mut Pass, op: &Op) {
    // Nothing trained reaches the op: its outputs may have gradients only because a fused op gives them too.
    if !op.outputs.iter().any(|output| pass.needs(output.value)) {
        return;
    }
    let input = |index: usize| op.inputs[index];
    let output = |index: usize| op.outputs[index].value;
    match &op.kind {
        OpKind::Embed => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            one(pass, OpKind::EmbedGrad, &[dy, input(0)], input(1));
        }
        OpKind::Linear { .. } => linear(pass, op),
        OpKind::RmsNorm { .. } => norm(pass, op, OpKind::RmsNormGrad, 1, 1),
        OpKind::LayerNorm { .. } => norm(pass, op, OpKind::LayerNormGrad, 2, 2),
        OpKind::Rope { head_dim, inv_freq, scale, inverse } => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            let kind = OpKind::Rope {
                head_dim: *head_dim,
                inv_freq: inv_freq.clone(),
                scale: *scale,
                inverse: !inverse,
            };
            one(pass, kind, &[dy, input(1)], input(0));
        }
        OpKind::Attention(attributes) => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            let (q, k, v) = (input(0), input(1), input(2));
            let rows = &op.inputs[3..]; // with or without prefixes
            let inputs = [&[dy, q, k, v, output(0), output(1)], rows].concat();
            let outputs = [q, k, v].map(|value| pass.contribute(value)).to_vec();
            pass.b.push(OpKind::AttentionGrad(attributes.clone()), inputs, outputs);
        }
        OpKind::GatedAct { f } => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            let outputs = [input(0), input(1)].map(|value| pass.contribute(value)).to_vec();
            pass.b.push(OpKind::GatedActGrad { f: *f }, vec![dy, input(0), input(1)], outputs);
        }
        OpKind::Act { f } => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            one(pass, OpKind::ActGrad { f: *f }, &[dy, input(0)], input(0));
        }
        OpKind::Add => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            pass.share(input(0), dy);
            pass.share(input(1), dy);
        }
        OpKind::Copy => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            pass.share(input(0), dy);
        }
        OpKind::Dropout(dropout) => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            one(pass, OpKind::Dropout(*dropout), &[dy, input(1), input(2)], input(0));
        }
        // Its gradients came with the loss.
        OpKind::LmHeadLoss { .. } => {}
        OpKind::TokenLogprobs => token_logprobs(pass, op),
        OpKind::SumByRow { mean } => {
            let Some(dy) = pass.gradient(output(0)) else { return };
            one(pass, OpKind::SpreadToTokens { mean: *mean }, &[dy, input(1)], input(0));
        }
        // With a gradient it has three outputs, the second being that of the policy.
        OpKind::PreferenceLoss { .. } => {
            if let [_, dpolicy, _] = op.outputs.as_slice() {
                pass.share(input(0), dpolicy.value);
            }
        }
        OpKind::Cast => unreachable!("casts of trained values are not built; lowering emits none"),
        OpKind::EmbedGrad
        | OpKind::LinearGradX
        | OpKind::LinearGradW
        | OpKind::BiasGrad
        | OpKind::RmsNormGrad
        | OpKind::LayerNormGrad
        | OpKind::AttentionGrad(_)
        | OpKind::GatedActGrad { .. }
        | OpKind::ActGrad { .. }
        | OpKind::TokenLogprobsGrad
        | OpKind::SpreadToTokens { .. }
        | OpKind::Reciprocal
        | OpKind::SumSquares
        | OpKind::ClipFactor { .. }
        | OpKind::AdamW { .. }
        | OpKind::Gather
        | OpKind::CacheAppend
        | OpKind::AttentionCached(_)
        | OpKind::Route { .. }
        | OpKind::Dispatch { .. }
        | OpKind::GroupedLinear { .. }
        | OpKind::Combine { .. }
        | OpKind::AllGather { .. }
        | OpKind::ReduceScatter { .. }
        | OpKind::AllReduce { .. } => {
            let depends = op.outputs.iter().any(|output| pass.gradient(output.value).is_some());
            assert!(!depends, "no gradient rule for `{}` in a training program", op.kind.name());
        }
    }
}

/// Appends an op with one output: the gradient of `of`, if that is needed.
fn one(pass: &mut Pass, kind: OpKind, inputs: &[ValueId], of: ValueId) {
    if pass.needs(of) {
        let output = pass.contribute(of);
        pass.b.push(kind, inputs.to_vec(), vec![output]);
    }
}

fn linear(pass: &mut Pass, op: &Op) {
    let Some(dy) = pass.gradient(op.outputs[0].value) else { return };
    let (x, w) = (op.inputs[0], op.inputs[1]);
    if let Some(&bias) = op.inputs.get(2) {
        one(pass, OpKind::BiasGrad, &[dy], bias);
    }
    // The weight comes before x, whose gradient may then lie where x was.
    one(pass, OpKind::LinearGradW, &[dy, x], w);
    one(pass, OpKind::LinearGradX, &[dy, w], x);
}

/// Norms with residual: `affine` weights follow x among the inputs, `statistics` follow y among the outputs.
fn norm(pass: &mut Pass, op: &Op, kind: OpKind, affine: usize, statistics: usize) {
    let Some(dy) = pass.gradient(op.outputs[0].value) else { return };
    let x = op.inputs[0];
    let residual = op.inputs.get(1 + affine).copied();
    let sum = op.outputs.get(1 + statistics).map_or(x, |output| output.value);
    let mut inputs = vec![dy, sum, op.inputs[1]];
    inputs.extend(op.outputs[1..=statistics].iter().map(|output| output.value));
    // What reaches the sum on other ways is added in the same pass; it is then no longer the whole gradient.
    inputs.extend(pass.gradient(sum));
    if residual.is_none() {
        pass.slots.remove(&x);
    }
    let dx = if residual.is_none() && pass.needs(x) {
        pass.fresh(x)
    } else {
        let shape = pass.b.shape(sum);
        pass.b.activation("sum.grad", shape)
    };
    let weights: Vec<ValueId> = op.inputs[1..=affine].to_vec();
    let mut outputs: Vec<Output> = vec![set(dx)];
    if weights.iter().any(|&weight| pass.needs(weight)) {
        outputs.extend(weights.iter().map(|&weight| pass.contribute(weight)));
    }
    pass.b.push(kind, inputs, outputs);
    if let Some(residual) = residual {
        pass.share(x, dx);
        pass.share(residual, dx);
    }
}

fn token_logprobs(pass: &mut Pass, op: &Op) {
    let Some(dlogprob) = pass.gradient(op.outputs[0].value) else { return };
    let &[h, w, index, labels] = op.inputs.as_slice() else { return };
    let mut outputs = vec![pass.contribute(h)];
    if pass.needs(w) {
        outputs.push(pass.contribute(w));
    }
    let inputs = vec![dlogprob, h, w, index, labels, op.outputs[1].value];
    pass.b.push(OpKind::TokenLogprobsGrad, inputs, outputs);
}
