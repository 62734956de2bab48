//! Rotary position embedding. Su et al. 2021, <https://arxiv.org/abs/2104.09864>, half-split layout.
//!
//! Shapes: N tokens, heads·D channels. Angles are f64: the first of a run exactly, those of the next
//! positions by turning on, so that a token costs no sine; cos and sin are rounded to f32 once.

use super::adds;
use super::float::OutParts;
use super::pool::{Pool, scratch, stage, wide_scratch};
use super::simd::{multiversion, put_all};
use crate::backend::{Call, OpError};

/// Tokens of one task, and the longest run of turning on.
const ROWS: usize = 32;

/// `[x [N, heads·D], positions [N]] → [y]`, or in place `[positions] → [x]`.
pub fn rope(
    pool: &Pool,
    call: &mut Call<'_, '_>,
    head_dim: usize,
    inv_freq: &[f64],
    scale: f64,
    inverse: bool,
) -> Result<(), OpError> {
    let (x, positions) = match call.inputs {
        [x, positions] => (Some(x.floats()), positions.i32()),
        [positions] => (None, positions.i32()),
        _ => unreachable!("operands are checked"),
    };
    let output = &mut call.outputs[0];
    let (columns, add) = (output.dims.columns(), adds(output));
    let y = OutParts::new(output.floats());
    pool.run(positions.len().div_ceil(ROWS), positions.len() * columns * 4, |task| {
        let first = task * ROWS;
        let positions = &positions[first..positions.len().min(first + ROWS)];
        let (at, len) = (first * columns, positions.len() * columns);
        let rotate = |x: Option<&[f32]>, y: &mut [f32], add: bool| {
            wide_scratch(4 * inv_freq.len(), |angles| {
                scratch(head_dim, |turn| {
                    rotate(x, positions, inv_freq, scale, inverse, angles, turn, y, add);
                });
            });
        };
        stage(2 * len, |buffer| {
            let (out, buffer) = buffer.split_at_mut(len);
            #[allow(unsafe_code)] // tasks write rows of one output
            // SAFETY: each task has its own rows.
            unsafe {
                match x.map(|x| x.part(at, len, buffer)) {
                    Some(x) => y.write(at, len, add, out, |y, add| rotate(Some(x), y, add)),
                    None => y.rewrite(at, len, out, |y| rotate(None, y, add)),
                }
            }
        });
    });
    Ok(())
}

multiversion! {
    /// `angles` is scratch for four numbers per frequency, `turn` for one per channel of a head.
    /// Without `x` the rows of y are turned where they are.
    fn rotate[I](x: Option<&[f32]>, positions: &[i32], inv_freq: &[f64], scale: f64, inverse: bool, angles: &mut [f64], turn: &mut [f32], y: &mut [f32], add: bool) {
        let half = inv_freq.len();
        let columns = y.len() / positions.len().max(1);
        let (cos, rest) = angles.split_at_mut(half);
        let (sin, rest) = rest.split_at_mut(half);
        let (step_cos, step_sin) = rest.split_at_mut(half);
        // One token, as in decoding, does not turn on.
        if positions.len() > 1 {
            for (i, &frequency) in inv_freq.iter().enumerate() {
                (step_sin[i], step_cos[i]) = frequency.sin_cos();
            }
        }
        let (turn_cos, turn_sin) = turn.split_at_mut(half);
        let sine_scale = if inverse { -scale } else { scale };
        let mut previous = None;
        for (row, &position) in positions.iter().enumerate() {
            if previous.map(|p: i32| p.wrapping_add(1)) == Some(position) {
                for i in 0..half {
                    let (c, s) = (cos[i], sin[i]);
                    cos[i] = c * step_cos[i] - s * step_sin[i];
                    sin[i] = s * step_cos[i] + c * step_sin[i];
                }
            } else if previous != Some(position) {
                for (i, &frequency) in inv_freq.iter().enumerate() {
                    (sin[i], cos[i]) = (f64::from(position) * frequency).sin_cos();
                }
            }
            previous = Some(position);
            for i in 0..half {
                turn_cos[i] = (cos[i] * scale) as f32;
                turn_sin[i] = (sin[i] * sine_scale) as f32;
            }
            let (c, s) = (&turn_cos[..half], &turn_sin[..half]);
            let y = y[row * columns..][..columns].chunks_exact_mut(2 * half);
            let Some(x) = x else {
                for y in y {
                    let (low, high) = y.split_at_mut(half);
                    for ((l, h), (c, s)) in low.iter_mut().zip(high).zip(c.iter().zip(s)) {
                        (*l, *h) = (I::fma(*l, *c, -(*h * s)), I::fma(*h, *c, *l * s));
                    }
                }
                continue;
            };
            let x = x[row * columns..][..columns].chunks_exact(2 * half);
            for (x, y) in x.zip(y) {
                let (low, high) = x.split_at(half);
                let (y_low, y_high) = y.split_at_mut(half);
                let turned = low.iter().zip(high).zip(c.iter().zip(s));
                put_all(add, y_low, turned.clone().map(|((l, h), (c, s))| I::fma(*l, *c, -(h * s))));
                put_all(add, y_high, turned.map(|((l, h), (c, s))| I::fma(*h, *c, l * s)));
            }
        }
    }
}
