//! Activation functions, gated and plain, and their gradients. Operands have any shape.

use super::adds;
use super::float::{OutParts, by_blocks, rewrite_by_blocks};
use super::pool::{Pool, stage};
use super::simd::{Isa, exp, multiversion, put_all, sigmoid, tanh};
use crate::backend::{Call, OpError};
use plan::op::Activation;

/// Elements of one task.
const BLOCK: usize = 2048;

/// Rough steps per element.
const WORK: usize = 16;

/// `[x] → [y]`.
pub fn act(pool: &Pool, call: &mut Call<'_, '_>, f: Activation) -> Result<(), OpError> {
    let x = call.inputs[0].floats();
    let output = &mut call.outputs[0];
    let (add, cut) = (adds(output), (BLOCK, WORK * x.len()));
    by_blocks(pool, [x], (output.floats(), add), cut, |[x], y, add| values(f, x, None, y, add));
    Ok(())
}

/// `[gate, up] → [y]`: y = f(gate)·up.
pub fn gated(pool: &Pool, call: &mut Call<'_, '_>, f: Activation) -> Result<(), OpError> {
    let inputs = [call.inputs[0].floats(), call.inputs[1].floats()];
    let output = &mut call.outputs[0];
    let (add, cut) = (adds(output), (BLOCK, WORK * inputs[0].len()));
    by_blocks(pool, inputs, (output.floats(), add), cut, |[gate, up], y, add| {
        values(f, gate, Some(up), y, add);
    });
    Ok(())
}

/// `[dy, x] → [dx]`, or in place `[x] → [dy]`.
pub fn act_grad(pool: &Pool, call: &mut Call<'_, '_>, f: Activation) -> Result<(), OpError> {
    let output = &mut call.outputs[0];
    let (add, cut) = (adds(output), (BLOCK, WORK * output.dims.elements()));
    let dx = output.floats();
    match call.inputs {
        [dy, x] => by_blocks(pool, [dy.floats(), x.floats()], (dx, add), cut, |[dy, x], dx, add| {
            slopes(f, dy, x, dx, add);
        }),
        [x] => rewrite_by_blocks(pool, x.floats(), dx, cut, |x, dy| scale(f, x, dy)),
        _ => unreachable!("operands are checked"),
    }
    Ok(())
}

/// `[dy, gate, up] → [dgate, dup]`, or in place `[dy] → [gate, up]`.
pub fn gated_grad(pool: &Pool, call: &mut Call<'_, '_>, f: Activation) -> Result<(), OpError> {
    let dy = call.inputs[0].floats();
    let operands = match call.inputs {
        [_, gate, up] => Some((gate.floats(), up.floats())),
        _ => None, // in place
    };
    let elements = dy.len();
    let [dgate, dup] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let (add_gate, add_up) = (adds(dgate), adds(dup));
    let (dgate, dup) = (OutParts::new(dgate.floats()), OutParts::new(dup.floats()));
    pool.run(elements.div_ceil(BLOCK), 2 * WORK * elements, |task| {
        let (at, len) = (task * BLOCK, BLOCK.min(elements - task * BLOCK));
        stage(5 * len, |buffer| {
            let mut buffers = buffer.chunks_exact_mut(len);
            let mut next = || buffers.next().expect("five buffers");
            let dy = dy.part(at, len, next());
            let operands = operands.map(|(gate, up)| (gate.part(at, len, next()), up.part(at, len, next())));
            let (gate_buffer, up_buffer) = (next(), next());
            #[allow(unsafe_code)] // tasks write blocks of two outputs
            // SAFETY: each task takes its block of each output once.
            unsafe {
                match operands {
                    Some((gate, up)) => dgate.write(at, len, add_gate, gate_buffer, |dgate, add_gate| {
                        dup.write(at, len, add_up, up_buffer, |dup, add_up| {
                            gated_slopes(f, dy, gate, up, dgate, dup, add_gate, add_up);
                        });
                    }),
                    None => dgate.rewrite(at, len, gate_buffer, |gate| {
                        dup.rewrite(at, len, up_buffer, |up| gated_slopes_in_place(f, dy, gate, up));
                    }),
                }
            }
        });
    });
    Ok(())
}

/// Returns f(x) and f′(x).
#[inline(always)]
fn both<I: Isa, const F: u8>(x: f32) -> (f32, f32) {
    match F {
        SILU => {
            let s = sigmoid::<I>(x);
            (x * s, s * I::fma(x, 1.0 - s, 1.0))
        }
        GELU => {
            let (cdf, density) = normal::<I>(x);
            (x * cdf, I::fma(x, density, cdf))
        }
        GELU_TANH => {
            const A: f32 = 0.797_884_6; // √(2/π)
            const B: f32 = 0.044_715;
            let square = x * x;
            let t = tanh::<I>(A * x * I::fma(B, square, 1.0));
            let inner = A * I::fma(3.0 * B, square, 1.0);
            let half = 0.5 * (1.0 + t);
            (x * half, I::fma(0.5 * x * (1.0 - t * t), inner, half))
        }
        // Written so that NaN stays NaN.
        _ => (if x < 0.0 { 0.0 } else { x }, if x > 0.0 { 1.0 } else { 0.0 }),
    }
}

const SILU: u8 = 0;
const GELU: u8 = 1;
const GELU_TANH: u8 = 2;
const RELU: u8 = 3;

/// Returns the normal distribution's Φ(x) and φ(x).
///
/// erfc(z) = e^(−z²)·t·g(t) with t = 1/(1 + z/2), g interpolated at Chebyshev nodes; the error is 2e-8.
#[inline(always)]
fn normal<I: Isa>(x: f32) -> (f32, f32) {
    const G: [f32; 10] = [
        0.282_083_84,
        0.282_437_38,
        0.242_438_88,
        0.206_710_84,
        -0.041_476_714,
        0.312_471_7,
        -0.537_253,
        0.328_849_85,
        -0.080_788_82,
        0.004_526_065,
    ];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let bell = exp::<I>(-0.5 * x * x);
    let t = 1.0 / I::fma(0.5, z, 1.0);
    let mut g = G[9];
    for i in (0..9).rev() {
        g = I::fma(g, t, G[i]);
    }
    let tail = 0.5 * bell * t * g;
    let cdf = if x > 0.0 { 1.0 - tail } else { tail };
    (cdf, 0.398_942_3 * bell)
}

/// Picks the function outside of the loops.
macro_rules! with_function {
    ($f:expr, $F:ident => $body:expr) => {
        match $f {
            Activation::Silu => {
                const $F: u8 = SILU;
                $body
            }
            Activation::Gelu => {
                const $F: u8 = GELU;
                $body
            }
            Activation::GeluTanh => {
                const $F: u8 = GELU_TANH;
                $body
            }
            Activation::Relu => {
                const $F: u8 = RELU;
                $body
            }
        }
    };
}

multiversion! {
    fn values[I](f: Activation, x: &[f32], up: Option<&[f32]>, y: &mut [f32], add: bool) {
        let x = &x[..y.len()];
        with_function!(f, F => match up {
            Some(up) => {
                let up = &up[..y.len()];
                put_all(add, y, x.iter().zip(up).map(|(x, up)| both::<I, F>(*x).0 * up));
            }
            None => put_all(add, y, x.iter().map(|x| both::<I, F>(*x).0)),
        });
    }
}

multiversion! {
    fn slopes[I](f: Activation, dy: &[f32], x: &[f32], dx: &mut [f32], add: bool) {
        let (dy, x) = (&dy[..dx.len()], &x[..dx.len()]);
        with_function!(f, F => put_all(add, dx, dy.iter().zip(x).map(|(dy, x)| dy * both::<I, F>(*x).1)));
    }
}

multiversion! {
    /// Multiplies dy by f′(x).
    fn scale[I](f: Activation, x: &[f32], dy: &mut [f32]) {
        let x = &x[..dy.len()];
        with_function!(f, F => for (dy, x) in dy.iter_mut().zip(x) {
            *dy *= both::<I, F>(*x).1;
        });
    }
}

multiversion! {
    /// Replaces gate and up by their gradients.
    fn gated_slopes_in_place[I](f: Activation, dy: &[f32], gate: &mut [f32], up: &mut [f32]) {
        let len = gate.len();
        let (dy, up) = (&dy[..len], &mut up[..len]);
        with_function!(f, F => for i in 0..len {
            let (value, slope) = both::<I, F>(gate[i]);
            gate[i] = dy[i] * up[i] * slope;
            up[i] = dy[i] * value;
        });
    }
}

multiversion! {
    fn gated_slopes[I](f: Activation, dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32], add_gate: bool, add_up: bool) {
        let len = dgate.len();
        let (dy, gate, up, dup) = (&dy[..len], &gate[..len], &up[..len], &mut dup[..len]);
        with_function!(f, F => if add_gate || add_up {
            let all = dy.iter().zip(gate).zip(up);
            put_all(add_gate, dgate, all.map(|((dy, gate), up)| dy * up * both::<I, F>(*gate).1));
            put_all(add_up, dup, dy.iter().zip(gate).map(|(dy, gate)| dy * both::<I, F>(*gate).0));
        } else {
            // The usual case computes both from one exponential.
            for i in 0..len {
                let (value, slope) = both::<I, F>(gate[i]);
                dgate[i] = dy[i] * up[i] * slope;
                dup[i] = dy[i] * value;
            }
        });
    }
}
