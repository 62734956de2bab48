//! Products with few rows: y [m,n] = x [m,k] · wᵀ, as in decoding.
//!
//! The weights are read once, where they lie; memory decides the time. Rows of w are taken four at a time, so
//! that their sums do not wait for each other.

use super::super::float::{Float, Floats};
use super::super::pool::{Parts, Pool, scratch};
use super::super::simd::{Isa, LANES, fold, multiversion};
use super::{Finish, Matrix, Shape};

/// Rows of w of one task.
const ROWS: usize = 64;

/// Rows of w side by side.
const BESIDE: usize = 4;

/// Computes the product; `b` is the transpose of `[n,k]`.
pub fn product<E: Float>(
    pool: &Pool,
    Shape { m, n, k }: Shape,
    a: Matrix<'_>,
    b: Matrix<'_>,
    y: &mut [E],
    finish: Finish<'_>,
) {
    let y = Parts::new(y);
    pool.run(n.div_ceil(ROWS), m * n * k / 8, |task| {
        let (first, count) = (task * ROWS, ROWS.min(n - task * ROWS));
        scratch(k + ROWS, |buffer| {
            let (x, sums) = buffer.split_at_mut(k);
            for row in 0..m {
                a.data.copy_to(row * a.stride, x);
                let sums = &mut sums[..count];
                match b.data {
                    Floats::F32(w) => dots(x, &w[first * b.stride..], b.stride, sums),
                    Floats::Bf16(w) => dots(x, &w[first * b.stride..], b.stride, sums),
                }
                #[allow(unsafe_code)] // tasks write columns of one matrix
                // SAFETY: columns `first..first + count` are this task's alone.
                let y = unsafe { y.get(row * n + first, count) };
                for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                    let bias = match finish.bias {
                        Some(Floats::F32(bias)) => bias[first + i],
                        Some(Floats::Bf16(bias)) => bias[first + i].widen(),
                        None => 0.0,
                    };
                    let sum = *sum + bias;
                    *y = E::round(if finish.add { y.widen() + sum } else { sum });
                }
            }
        });
    });
}

multiversion! {
    /// Writes x·wᵢ for rows of w that are `stride` apart.
    fn dots[I, W: Float](x: &[f32], w: &[W], stride: usize, y: &mut [f32]) {
        for (block, y) in y.chunks_mut(BESIDE).enumerate() {
            let at = |i: usize| &w[(block * BESIDE + i.min(y.len() - 1)) * stride..][..x.len()];
            let rows = [at(0), at(1), at(2), at(3)];
            y.copy_from_slice(&dots_beside::<I, W>(x, rows)[..y.len()]);
        }
    }
}

#[inline(always)]
fn dots_beside<I: Isa, W: Float>(x: &[f32], w: [&[W]; BESIDE]) -> [f32; BESIDE] {
    let mut lanes = [[0.0; LANES]; BESIDE];
    let whole = x.len() / LANES * LANES;
    let (head, rest) = x.split_at(whole);
    let w_head = w.map(|w| w[..whole].as_chunks::<LANES>().0);
    for (block, x) in head.as_chunks::<LANES>().0.iter().enumerate() {
        for row in 0..BESIDE {
            let w = &w_head[row][block];
            for i in 0..LANES {
                lanes[row][i] = I::fma(x[i], w[i].widen(), lanes[row][i]);
            }
        }
    }
    let mut sums = [0.0; BESIDE];
    for row in 0..BESIDE {
        sums[row] = fold(&lanes[row]);
        for (x, w) in rest.iter().zip(&w[row][whole..]) {
            sums[row] = I::fma(*x, w.widen(), sums[row]);
        }
    }
    sums
}
