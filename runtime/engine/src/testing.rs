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
