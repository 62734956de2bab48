//! The end of a step: sum of squares, clip factor, AdamW.

use super::adds;
use super::float::OutParts;
use super::pool::{Parts, Pool, stage};
use super::simd::{LANES, multiversion, put};
use crate::backend::{Call, OpError};
use plan::value::Dtype;

/// Elements of one task of AdamW.
const BLOCK: usize = 4096;

/// Most pieces that one tensor's sum of squares is cut into; their sums fit on the stack.
const PIECES: usize = 256;

/// Least elements of a piece.
const PIECE: usize = 8192;

/// `[count [1]] → [scale [1]]`.
pub fn reciprocal(call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let count = match call.inputs[0].dtype {
        Dtype::F32 => call.inputs[0].f32()[0],
        Dtype::I32 => call.inputs[0].i32()[0] as f32,
        Dtype::F64 | Dtype::Bf16 | Dtype::F16 | Dtype::U8 => {
            return Err(OpError(format!("reciprocal: `count` is {}", call.inputs[0].dtype.name())));
        }
    };
    let output = &mut call.outputs[0];
    put(adds(output), &mut output.f32()[0], 1.0 / count);
    Ok(())
}

/// `[gradients …] → [sum [1]]`: in f64, over pieces whose number depends on the size alone.
pub fn sum_squares(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let mut total = 0.0;
    for input in call.inputs {
        let x = input.f32();
        let piece = x.len().div_ceil(PIECES).next_multiple_of(PIECE);
        let mut sums = [0.0; PIECES];
        let sums = &mut sums[..x.len().div_ceil(piece.max(1))];
        pool.blocks(sums, 1, x.len(), |index, sum| {
            let end = x.len().min((index + 1) * piece);
            sum[0] = squares(&x[index * piece..end]);
        });
        total += sums.iter().sum::<f64>();
    }
    let output = &mut call.outputs[0];
    put(adds(output), &mut output.f32()[0], total as f32);
    Ok(())
}

multiversion! {
    fn squares[I](x: &[f32]) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        let blocks = x.chunks_exact(LANES);
        let rest: f64 = blocks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        for x in blocks {
            for i in 0..LANES {
                lanes[i] += f64::from(x[i]) * f64::from(x[i]);
            }
        }
        lanes.iter().sum::<f64>() + rest
    }
}

/// `[sum [1]] → [norm [1], factor [1]]`. A norm that is no number gives a factor that is none.
pub fn clip_factor(call: &mut Call<'_, '_>, max_norm: f64) -> Result<(), OpError> {
    let norm = call.inputs[0].f32()[0].sqrt();
    let factor = max_norm as f32 / (norm + 1e-6);
    let factor = if max_norm == 0.0 || factor > 1.0 { 1.0 } else { factor };
    for (output, value) in call.outputs.iter_mut().zip([norm, factor]) {
        put(adds(output), &mut output.f32()[0], value);
    }
    Ok(())
}

/// Attributes of AdamW.
#[derive(Clone, Copy)]
pub struct Rates {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub lr_scale: f64,
}

/// Rates of one step, as f32 numbers of the elementwise update.
#[derive(Clone, Copy)]
struct Step {
    factor: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    root: f32,
    eps: f32,
    size: f32,
}

/// `[gradient, factor [1], update_scalars [3]] → [weight, m, v, rounded?]`.
pub fn adamw(pool: &Pool, call: &mut Call<'_, '_>, rates: Rates) -> Result<(), OpError> {
    let (gradient, scalars) = (call.inputs[0].f32(), call.inputs[2].f32());
    let lr = f64::from(scalars[0]) * rates.lr_scale;
    let step = Step {
        factor: call.inputs[1].f32()[0],
        keep: (1.0 - lr * rates.weight_decay) as f32,
        beta1: rates.beta1 as f32,
        beta2: rates.beta2 as f32,
        rest1: (1.0 - rates.beta1) as f32,
        rest2: (1.0 - rates.beta2) as f32,
        root: (1.0 / f64::from(scalars[2]).sqrt()) as f32,
        eps: rates.eps as f32,
        size: (lr / f64::from(scalars[1])) as f32,
    };
    let [weight, m, v, rounded @ ..] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let rounded = rounded.first_mut().map(|rounded| OutParts::new(rounded.floats()));
    let (weight, m, v) = (Parts::new(weight.f32()), Parts::new(m.f32()), Parts::new(v.f32()));
    let len = gradient.len();
    pool.run(len.div_ceil(BLOCK), 8 * len, |task| {
        let (at, count) = (task * BLOCK, BLOCK.min(len - task * BLOCK));
        #[allow(unsafe_code)] // tasks write blocks of three outputs
        // SAFETY: each task takes its block of each output once.
        let (weight, m, v) = unsafe { (weight.get(at, count), m.get(at, count), v.get(at, count)) };
        update(&gradient[at..][..count], step, weight, m, v);
        if let Some(rounded) = &rounded {
            stage(count, |buffer| {
                #[allow(unsafe_code)] // as above
                // SAFETY: as above.
                unsafe {
                    rounded.write(at, count, false, buffer, |y, _| y.copy_from_slice(weight));
                }
            });
        }
    });
    Ok(())
}

multiversion! {
    fn update[I](gradient: &[f32], s: Step, weight: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let len = gradient.len();
        let (weight, m, v) = (&mut weight[..len], &mut m[..len], &mut v[..len]);
        for i in 0..len {
            let g = gradient[i] * s.factor;
            m[i] = I::fma(s.beta1, m[i], s.rest1 * g);
            v[i] = I::fma(s.beta2, v[i], s.rest2 * g * g);
            let direction = m[i] / I::fma(v[i].sqrt(), s.root, s.eps);
            weight[i] = I::fma(-s.size, direction, weight[i] * s.keep);
        }
    }
}
