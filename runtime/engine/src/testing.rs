//! What the tests of this crate share: a backend of plain loops and a layout without reuse.

use ops::backend::{Backend, Call, OpError};
use plan::op::{OpKind, Write};
use plan::program::{Arena, Module};
use plan::value::{Dtype, Role};

/// A backend of plain loops over f32, for the few ops that tests of the engine need.
pub struct Loops;

impl Backend for Loops {
    fn name(&self) -> &'static str {
        "loops"
    }

    fn supports(&self, kind: &OpKind, _float: Dtype) -> Result<(), OpError> {
        match kind {
            OpKind::Copy | OpKind::Reciprocal | OpKind::SumSquares | OpKind::ClipFactor { .. } => Ok(()),
            OpKind::AdamW { .. } | OpKind::LmHeadLoss { .. } | OpKind::Gather | OpKind::Embed => Ok(()),
            other => Err(OpError(format!("{} is not built", other.name()))),
        }
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError> {
        let Call { kind, inputs, outputs, .. } = call;
        match kind {
            OpKind::Copy => {
                let add = outputs[0].write == Write::Add;
                for (y, x) in outputs[0].f32().iter_mut().zip(inputs[0].f32()) {
                    *y = if add { *y + x } else { *x };
                }
            }
            OpKind::Reciprocal => outputs[0].f32()[0] = 1.0 / inputs[0].f32()[0],
            OpKind::SumSquares => {
                outputs[0].f32()[0] = inputs.iter().flat_map(|x| x.f32()).map(|g| g * g).sum();
            }
            OpKind::ClipFactor { max_norm } => {
                let norm = inputs[0].f32()[0].sqrt();
                outputs[0].f32()[0] = norm;
                let factor = if *max_norm == 0.0 { 1.0 } else { (*max_norm as f32 / (norm + 1e-6)).min(1.0) };
                outputs[1].f32()[0] = factor;
            }
            OpKind::Gather | OpKind::Embed => gather(kind, inputs, outputs),
            OpKind::LmHeadLoss { .. } => head_loss(inputs, outputs),
            OpKind::AdamW { beta1, beta2, eps, weight_decay, .. } => {
                let [b1, b2, eps, decay] = [*beta1, *beta2, *eps, *weight_decay].map(|x| x as f32);
                let [lr, c1, c2] = inputs[2].f32() else { return Err(OpError("three scalars".into())) };
                let factor = inputs[1].f32()[0];
                let [w, m, v] = outputs else { return Err(OpError("three outputs".into())) };
                let state = m.f32().iter_mut().zip(v.f32());
                for ((w, (m, v)), g) in w.f32().iter_mut().zip(state).zip(inputs[0].f32()) {
                    let g = g * factor;
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    *w -= lr * decay * *w + lr / c1 * *m / (v.sqrt() / c2.sqrt() + eps);
                }
            }
            other => return Err(OpError(format!("{} is not built", other.name()))),
        }
        Ok(())
    }
}

fn gather(kind: &OpKind, inputs: &[ops::view::View], outputs: &mut [ops::view::ViewMut]) {
    let (x, index) = if *kind == OpKind::Gather { (0, 1) } else { (1, 0) };
    let columns = inputs[x].dims.columns();
    for (y, &row) in outputs[0].f32().chunks_mut(columns).zip(inputs[index].i32()) {
        y.copy_from_slice(&inputs[x].f32()[row as usize * columns..][..columns]);
    }
}

/// Loss and both gradients by the definition.
fn head_loss(inputs: &[ops::view::View], outputs: &mut [ops::view::ViewMut]) {
    let (h, w) = (inputs[0].f32(), inputs[1].f32());
    let (vocab, hidden) = (inputs[1].dims.rows(), inputs[1].dims.columns());
    let scale = inputs.get(4).map_or(1.0, |scale| scale.f32()[0]);
    let mut loss = 0.0;
    let mut dh = vec![0.0; h.len()];
    let mut dw = vec![0.0; w.len()];
    for (&index, &label) in inputs[2].i32().iter().zip(inputs[3].i32()) {
        let x = &h[index as usize * hidden..][..hidden];
        let z: Vec<f32> = w.chunks(hidden).map(|w| w.iter().zip(x).map(|(a, b)| a * b).sum()).collect();
        let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let lse = most + z.iter().map(|z| (z - most).exp()).sum::<f32>().ln();
        loss += scale * (lse - z[label as usize]);
        for v in 0..vocab {
            let dz = scale * ((z[v] - lse).exp() - f32::from(v == label as usize));
            for i in 0..hidden {
                dh[index as usize * hidden + i] += dz * w[v * hidden + i];
                dw[v * hidden + i] += dz * x[i];
            }
        }
    }
    for (output, numbers) in outputs.iter_mut().zip([vec![loss], dh, dw]) {
        let add = output.write == Write::Add;
        for (y, x) in output.f32().iter_mut().zip(numbers) {
            *y = if add { *y + x } else { x };
        }
    }
}

/// Gives every value a place of its own, aligned to 64 bytes.
pub fn layout(module: &mut Module) {
    let capacities = module.capacities();
    module.arenas = Role::ALL.iter().map(|&role| Arena { role, bytes: 0 }).collect();
    for value in &mut module.values {
        let arena =
            module.arenas.iter_mut().find(|arena| arena.role == value.role).expect("all roles are there");
        value.offset = Some(arena.bytes);
        arena.bytes += value.bytes(&capacities).next_multiple_of(64);
    }
}

/// A stage that trains one weight `w` [vocab, hidden]: token embeddings scored against themselves.
///
/// h = w[ids], loss over the trained tokens with `w` as the head; the gradient flows through the head alone.
pub fn training_module() -> Module {
    use plan::op::{HeadGrads, Op, Output};
    use plan::program::Program;
    use plan::work::{batch, extent, result};
    let mut m = Module::default();
    let tokens = m.extent(extent::TOKENS, 32);
    let rows = m.extent(extent::ROWS, 8);
    let bounds = m.extent(extent::BOUNDS, 9);
    let trained = m.extent(extent::TRAINED, 32);
    let _ = rows;
    let (vocab, hidden) = (8, 4);
    let float = |m: &mut Module, name: &str, role, shape| m.value(name, Dtype::F32, role, shape);
    let w = float(&mut m, "w", Role::Weight, vec![vocab.into(), hidden.into()]);
    let dw = float(&mut m, "w.grad", Role::Gradient, vec![vocab.into(), hidden.into()]);
    let moment = float(&mut m, "w.m", Role::State, vec![vocab.into(), hidden.into()]);
    let variance = float(&mut m, "w.v", Role::State, vec![vocab.into(), hidden.into()]);
    let [count, scale, loss, norm] = [batch::STEP_COUNT, "loss_scale", result::LOSS, result::GRAD_NORM]
        .map(|name| float(&mut m, name, Role::Batch, vec![1.into()]));
    let scalars = float(&mut m, batch::UPDATE_SCALARS, Role::Batch, vec![3.into()]);
    let [sum, factor] = ["sum", "factor"].map(|name| float(&mut m, name, Role::Activation, vec![1.into()]));
    let h = float(&mut m, "h", Role::Activation, vec![tokens.into(), hidden.into()]);
    let dh = float(&mut m, "dh", Role::Activation, vec![tokens.into(), hidden.into()]);
    let [ids, index, labels] =
        [(batch::IDS, tokens), (batch::TRAINED_INDEX, trained), (batch::TRAINED_LABELS, trained)]
            .map(|(name, extent)| m.value(name, Dtype::I32, Role::Batch, vec![extent.into()]));
    let _cu = m.value(batch::CU_SEQLENS, Dtype::I32, Role::Batch, vec![bounds.into()]);
    let set = |value| Output { value, write: Write::Set };
    let embed = Op::new(OpKind::Embed, vec![ids, w], vec![set(h)], "embed");
    let head = |grads, inputs, outputs| Op::new(OpKind::LmHeadLoss { grads }, inputs, outputs, "head");
    let accumulate = |value| Output { value, write: Write::Accumulate };
    let inputs = vec![h, w, index, labels];
    let scaled = [&inputs[..], &[scale]].concat();
    let gradients = vec![accumulate(loss), set(dh), accumulate(dw)];
    let adamw = OpKind::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, lr_scale: 1.0 };
    let updated = [w, moment, variance].map(|value| Output { value, write: Write::Update }).to_vec();
    let programs = [
        ("begin", vec![Op::new(OpKind::Reciprocal, vec![count], vec![set(scale)], "begin")]),
        ("micro", vec![embed.clone(), head(HeadGrads::HiddenAndWeight, scaled, gradients)]),
        (
            "update",
            vec![
                Op::new(OpKind::SumSquares, vec![dw], vec![set(sum)], "update"),
                Op::new(
                    OpKind::ClipFactor { max_norm: 1.0 },
                    vec![sum],
                    vec![set(norm), set(factor)],
                    "update",
                ),
                Op::new(adamw, vec![dw, factor, scalars], updated, "update"),
            ],
        ),
        ("evaluate", vec![embed, head(HeadGrads::None, inputs, vec![set(loss)])]),
    ];
    m.programs = programs.map(|(name, ops)| Program { name: name.into(), ops }).to_vec();
    m.decisions.micro_batch_size = 2;
    layout(&mut m);
    m
}
