//! The key-value cache of decoding: appending, and attention of one new token per slot.
//!
//! Shapes: S slots, C cached positions, A num_heads, K num_kv_heads, D head_dim.

use super::adds;
use super::float::{Float, Floats, OutParts};
use super::pool::{Pool, scratch, stage};
use super::simd::{Isa, LANES, ask, exp, fold, max, multiversion};
use crate::backend::{Call, OpError};
use crate::check::check_index;
use plan::op::Attention;

/// `[x [N,K·D], slots [N], positions [N]] → [cache [S,C,K·D]]`.
pub fn append(call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (slots, positions) = (call.inputs[1].i32(), call.inputs[2].i32());
    let (x, dtype) = (call.inputs[0].bytes, call.inputs[0].dtype);
    // A copy, whatever the numbers are.
    let columns = call.inputs[0].dims.columns() * dtype.bytes() as usize;
    let cache = &mut call.outputs[0];
    let (rows, cached) = (cache.dims.rows(), cache.dims.sizes()[1]);
    check_index("cache_append", "slots", slots, rows)?;
    check_index("cache_append", "positions", positions, cached)?;
    let cache = &mut *cache.bytes;
    for (token, (&slot, &position)) in slots.iter().zip(positions).enumerate() {
        let at = (slot as usize * cached + position as usize) * columns;
        cache[at..][..columns].copy_from_slice(&x[token * columns..][..columns]);
    }
    Ok(())
}

/// `[q [S,A·D], k_cache [S,C,K·D], v_cache, lengths [S]] → [o [S,A·D]]`.
pub fn attention(pool: &Pool, call: &mut Call<'_, '_>, attention: &Attention) -> Result<(), OpError> {
    let (q, keys, values) = (call.inputs[0].floats(), call.inputs[1].floats(), call.inputs[2].floats());
    let lengths = call.inputs[3].i32();
    let cached = call.inputs[1].dims.sizes()[1];
    check_index("attention_cached", "lengths", lengths, cached + 1)?;
    let (heads, dim) = (attention.heads as usize, attention.head_dim as usize);
    let columns = attention.kv_heads as usize * dim;
    let group = heads / attention.kv_heads as usize;
    let output = &mut call.outputs[0];
    let add = adds(output);
    let o = OutParts::new(output.floats());
    let work: usize = lengths.iter().map(|&length| 4 * length as usize * heads * dim).sum();
    pool.run(lengths.len() * heads, work, |task| {
        let (slot, head) = (task / heads, task % heads);
        let length = lengths[slot] as usize;
        let shown = attention.window.map_or(length, |window| length.min(window as usize));
        let first = (slot * cached + length - shown) * columns + head / group * dim;
        let end = (slot * cached + length) * columns;
        let slope = attention.alibi.as_ref().map_or(0.0, |slopes| slopes[head]);
        let (scale, softcap) = (attention.scale as f32, attention.softcap);
        stage(2 * dim, |buffer| {
            let (out, q_buffer) = buffer.split_at_mut(dim);
            let q = q.part(task * dim, dim, q_buffer);
            scratch(shown + dim, |scratch| {
                let head = |o: &mut [f32], add: bool| match (keys, values) {
                    (Floats::F32(keys), Floats::F32(values)) => {
                        let (keys, values) = (&keys[first.min(end)..end], &values[first.min(end)..end]);
                        one_head(q, keys, values, columns, scale, softcap, slope, scratch, o, add);
                    }
                    (Floats::Bf16(keys), Floats::Bf16(values)) => {
                        let (keys, values) = (&keys[first.min(end)..end], &values[first.min(end)..end]);
                        one_head(q, keys, values, columns, scale, softcap, slope, scratch, o, add);
                    }
                    _ => unreachable!("operands are checked"),
                };
                #[allow(unsafe_code)] // tasks write heads of one output
                // SAFETY: each task has its own head of its own slot.
                unsafe {
                    o.write(task * dim, dim, add, out, head);
                }
            });
        });
    });
    Ok(())
}

/// Channels of a head whose sums stay in registers.
const SIDE: usize = 4 * LANES;

/// Positions whose scores are made at once.
const BLOCK: usize = 16;

multiversion! {
    /// `scratch` holds one score per shown position and the output.
    fn one_head[I, E: Float](q: &[f32], keys: &[E], values: &[E], columns: usize, scale: f32, softcap: Option<f64>, slope: f32, scratch: &mut [f32], o: &mut [f32], add: bool) {
        let dim = q.len();
        let (sum, scores) = scratch.split_at_mut(dim);
        let shown = scores.len();
        let whole = dim / LANES * LANES;
        for (block, scores) in scores.chunks_mut(BLOCK).enumerate() {
            let first = block * BLOCK;
            let mut lanes = [[0.0; LANES]; BLOCK];
            for position in first..first + scores.len() {
                ask(keys, (position + BLOCK) * columns, dim);
                ask(values, position * columns, dim);
            }
            products(&q[..whole], &keys[first * columns..], columns, &mut lanes[..scores.len()]);
            for (i, (score, lanes)) in scores.iter_mut().zip(&lanes).enumerate() {
                let rest = q[whole..].iter().zip(&keys[(first + i) * columns + whole..]);
                *score = scale * rest.fold(fold(lanes), |sum, (q, key)| I::fma(*q, key.widen(), sum));
                if let Some(cap) = softcap {
                    let cap = cap as f32;
                    *score = cap * (*score / cap).tanh();
                }
                *score += slope * ((first + i) as f32 + 1.0 - shown as f32);
            }
        }
        let most = max(scores);
        for score in scores.iter_mut() {
            *score = exp::<I>(*score - most);
        }
        let total = scores.iter().fold(0.0, |total, weight| total + weight);
        let (sides, rest) = sum.as_chunks_mut();
        for (i, sums) in sides.iter_mut().enumerate() {
            weigh::<I, E, SIDE>(scores, values, columns, i * SIDE, sums);
        }
        let done = dim - rest.len();
        let (lines, rest) = rest.as_chunks_mut();
        for (i, sums) in lines.iter_mut().enumerate() {
            weigh::<I, E, LANES>(scores, values, columns, done + i * LANES, sums);
        }
        let done = dim - rest.len();
        for (i, sum) in rest.iter_mut().enumerate() {
            weigh::<I, E, 1>(scores, values, columns, done + i, std::array::from_mut(sum));
        }
        for (o, sum) in o.iter_mut().zip(sum) {
            let value = if shown == 0 { 0.0 } else { *sum / total };
            *o = if add { *o + value } else { value };
        }
    }
}

multiversion! {
    /// Sums q·k in lanes, for keys `columns` apart.
    ///
    /// A function of its own: beside the folding of the lanes the compiler makes the sums of registers of four.
    #[inline(never)]
    fn products[I, E: Float](q: &[f32], keys: &[E], columns: usize, y: &mut [[f32; LANES]]) {
        for (position, y) in y.iter_mut().enumerate() {
            let keys = &keys[position * columns..][..q.len()];
            let mut sums = [0.0; LANES];
            for (q, keys) in q.as_chunks::<LANES>().0.iter().zip(keys.as_chunks::<LANES>().0) {
                for i in 0..LANES {
                    sums[i] = I::fma(q[i], keys[i].widen(), sums[i]);
                }
            }
            *y = sums;
        }
    }
}

/// Sums the weighted values of some channels, position after position.
#[inline(always)]
fn weigh<I: Isa, E: Float, const N: usize>(
    weights: &[f32],
    values: &[E],
    columns: usize,
    first: usize,
    y: &mut [f32; N],
) {
    let mut sums = [0.0; N];
    for (position, weight) in weights.iter().enumerate() {
        let values = values[position * columns + first..].first_chunk::<N>().expect("the row has them");
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = I::fma(*weight, value.widen(), *sum);
        }
    }
    *y = sums;
}
