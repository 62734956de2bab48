//! Sums, copies, casts and dropout.
//!
//! Shapes: R rows, N tokens, H channels for dropout; any shape for the others.

use super::adds;
use super::float::{OutParts, by_blocks};
use super::pool::{Pool, stage};
use super::simd::{multiversion, put_all, put_scaled, put_sum};
use crate::backend::{Call, OpError};
use crate::check::check_rows;
use crate::random::{philox_side_by_side, stream, unit};
use crate::view::{View, ViewMut};
use half::{bf16, f16};
use plan::op::Dropout;
use plan::value::Dtype;

/// Elements of one task.
const BLOCK: usize = 4096;

/// `[a, b] → [y]`.
pub fn add(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let inputs = [call.inputs[0].floats(), call.inputs[1].floats()];
    let output = &mut call.outputs[0];
    let (add, work) = (adds(output), 2 * inputs[0].len());
    by_blocks(pool, inputs, (output.floats(), add), (BLOCK, work), |[a, b], y, add| put_sum(a, b, y, add));
    Ok(())
}

/// `[x] → [y]`.
pub fn copy(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let x = call.inputs[0].floats();
    let output = &mut call.outputs[0];
    let (add, work) = (adds(output), x.len());
    by_blocks(pool, [x], (output.floats(), add), (BLOCK, work), |[x], y, add| put_scaled(x, 1.0, y, add));
    Ok(())
}

/// `[x] → [y]` of another dtype.
pub fn cast(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (input, output) = (call.inputs[0], &mut call.outputs[0]);
    match (input.dtype, output.dtype) {
        (Dtype::F32, _) => cast_from::<f32>(pool, &input, output, |x| x),
        (Dtype::Bf16, _) => cast_from::<bf16>(pool, &input, output, bf16::to_f32),
        (Dtype::F16, _) => cast_from::<f16>(pool, &input, output, f16::to_f32),
        (Dtype::F64 | Dtype::I32 | Dtype::U8, _) => Err(no_cast(input.dtype, output.dtype)),
    }
}

fn no_cast(from: Dtype, to: Dtype) -> OpError {
    OpError(format!("cast: the cpu backend has none from {} to {}", from.name(), to.name()))
}

fn cast_from<T: bytemuck::Pod + Sync>(
    pool: &Pool,
    input: &View<'_>,
    output: &mut ViewMut<'_>,
    widen: impl Fn(T) -> f32 + Sync,
) -> Result<(), OpError> {
    let x: &[T] = bytemuck::cast_slice(input.bytes);
    let add = adds(output);
    match output.dtype {
        Dtype::F32 => {
            let y: &mut [f32] = bytemuck::cast_slice_mut(output.bytes);
            cast_to(pool, x, y, |x, y| *y = if add { *y + widen(x) } else { widen(x) });
        }
        Dtype::Bf16 => {
            let y: &mut [bf16] = bytemuck::cast_slice_mut(output.bytes);
            cast_to(pool, x, y, |x, y| {
                *y = bf16::from_f32(if add { y.to_f32() + widen(x) } else { widen(x) });
            });
        }
        Dtype::F16 => {
            let y: &mut [f16] = bytemuck::cast_slice_mut(output.bytes);
            cast_to(pool, x, y, |x, y| {
                *y = f16::from_f32(if add { y.to_f32() + widen(x) } else { widen(x) });
            });
        }
        Dtype::F64 | Dtype::I32 | Dtype::U8 => return Err(no_cast(input.dtype, output.dtype)),
    }
    Ok(())
}

fn cast_to<T: Copy + Sync, U: Send>(pool: &Pool, x: &[T], y: &mut [U], one: impl Fn(T, &mut U) + Sync) {
    pool.blocks(y, BLOCK, 2 * x.len(), |block, y| {
        for (y, x) in y.iter_mut().zip(&x[block * BLOCK..]) {
            one(*x, y);
        }
    });
}

/// `[x [N,H], cu_seqlens [R+1], row_numbers [R]] → [y]`.
///
/// Channel c of the token at `position` of a row draws word c % 4 of counter [c/4, position, row number, 0].
pub fn dropout(pool: &Pool, call: &mut Call<'_, '_>, dropout: Dropout) -> Result<(), OpError> {
    let (x, cu, numbers) = (call.inputs[0].floats(), call.inputs[1].i32(), call.inputs[2].i32());
    let columns = call.inputs[0].dims.columns();
    check_rows("dropout", cu, call.inputs[0].dims.rows())?;
    let key = stream(call.draw.seed, call.draw.step, dropout.site);
    let output = &mut call.outputs[0];
    let add = adds(output);
    let y = OutParts::new(output.floats());
    pool.run(numbers.len(), 16 * x.len(), |row| {
        let (first, end) = (cu[row] as usize, cu[row + 1] as usize);
        stage(2 * columns, |buffer| {
            let (out, buffer) = buffer.split_at_mut(columns);
            for token in first..end {
                let x = x.part(token * columns, columns, buffer);
                let (position, number) = ((token - first) as u32, numbers[row] as u32);
                #[allow(unsafe_code)] // tasks write rows
                // SAFETY: cu_seqlens rises, so rows do not overlap.
                unsafe {
                    y.write(token * columns, columns, add, out, |y, add| {
                        drop_token(x, key, position, number, dropout.p, y, add);
                    });
                }
            }
        });
    });
    Ok(())
}

multiversion! {
    fn drop_token[I](x: &[f32], key: [u32; 2], position: u32, number: u32, p: f64, y: &mut [f32], add: bool) {
        for (block, (x, y)) in x.chunks(MASK).zip(y.chunks_mut(MASK)).enumerate() {
            let mask = factors(key, block * MASK, position, number, p);
            put_all(add, y, x.iter().zip(&mask).map(|(x, factor)| x * factor));
        }
    }
}

/// Channels whose factors are made at once.
const MASK: usize = 64;

/// Returns the factors, 0 or 1/(1−p), of channels `channel..channel + MASK` of one token.
#[inline(always)]
fn factors(key: [u32; 2], channel: usize, position: u32, number: u32, p: f64) -> [f32; MASK] {
    const SIDE: usize = MASK / 4;
    let (threshold, scale) = (p as f32, (1.0 / (1.0 - p)) as f32);
    let blocks = std::array::from_fn(|side| (channel / 4 + side) as u32);
    let words = philox_side_by_side::<SIDE>(key, [blocks, [position; SIDE], [number; SIDE], [0; SIDE]]);
    let mut factors = [0.0; MASK];
    for (word, words) in words.iter().enumerate() {
        for (side, &bits) in words.iter().enumerate() {
            factors[4 * side + word] = if unit(bits) >= threshold { scale } else { 0.0 };
        }
    }
    factors
}
