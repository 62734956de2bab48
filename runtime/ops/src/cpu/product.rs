//! Small matrix products inside one task, on panels that lie in its scratch.
//!
//! c [m,n] += a [m,k] · b [k,n]; m is a multiple of 8, n of [`GRAIN`], rows of b and c are contiguous. The
//! compiler keeps a block of c in registers. Zeros fill panels up to those multiples.

use super::simd::{Isa, multiversion};

/// Panels have this multiple of columns.
pub const GRAIN: usize = 8;

/// How `a` lies in memory.
#[derive(Clone, Copy)]
pub enum Order {
    /// Row by row: a[i·stride + p].
    Rows,
    /// Column by column: a[p·stride + i].
    Columns,
}

/// A matrix whose rows (or columns) are `stride` apart.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub order: Order,
}

impl<'a> Panel<'a> {
    #[inline(always)]
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Panel { data, stride, order: Order::Rows }
    }

    #[inline(always)]
    pub fn columns(data: &'a [f32], stride: usize) -> Self {
        Panel { data, stride, order: Order::Columns }
    }
}

multiversion! {
    /// Computes c += a·b.
    pub fn multiply[I](shape: (usize, usize, usize), a: Panel<'_>, b: &[f32], b_stride: usize, c: &mut [f32], c_stride: usize) {
        let (m, n, k) = shape;
        debug_assert!(m % 8 == 0 && n % GRAIN == 0);
        let mut column = 0;
        while column < n {
            let left = n - column;
            let (b, c) = (&b[column..], &mut c[column..]);
            if I::WIDE && left >= 32 {
                strip::<I, 4, 32>(m, k, a, b, b_stride, c, c_stride);
                column += 32;
            } else if left >= 16 {
                if I::WIDE {
                    strip::<I, 8, 16>(m, k, a, b, b_stride, c, c_stride);
                } else {
                    strip::<I, 4, 16>(m, k, a, b, b_stride, c, c_stride);
                }
                column += 16;
            } else {
                strip::<I, 8, 8>(m, k, a, b, b_stride, c, c_stride);
                column += 8;
            }
        }
    }
}

/// Computes `N` columns of c, `M` rows at a time.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // one index into several arrays
fn strip<I: Isa, const M: usize, const N: usize>(
    m: usize,
    k: usize,
    a: Panel<'_>,
    b: &[f32],
    b_stride: usize,
    c: &mut [f32],
    c_stride: usize,
) {
    for row in (0..m).step_by(M) {
        let mut sums = [[0.0; N]; M];
        match a.order {
            Order::Rows => {
                let mut rows: [&[f32]; M] = [&[]; M];
                for i in 0..M {
                    rows[i] = &a.data[(row + i) * a.stride..][..k];
                }
                for p in 0..k {
                    let b = line::<N>(b, p * b_stride);
                    for i in 0..M {
                        axpy::<I, N>(rows[i][p], b, &mut sums[i]);
                    }
                }
            }
            Order::Columns => {
                for p in 0..k {
                    let b = line::<N>(b, p * b_stride);
                    let column = line::<M>(a.data, p * a.stride + row);
                    for i in 0..M {
                        axpy::<I, N>(column[i], b, &mut sums[i]);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            let c = &mut c[(row + i) * c_stride..][..N];
            for j in 0..N {
                c[j] += sums[j];
            }
        }
    }
}

#[inline(always)]
fn line<const N: usize>(x: &[f32], at: usize) -> &[f32; N] {
    x[at..at + N].try_into().expect("the slice has N elements")
}

#[inline(always)]
fn axpy<I: Isa, const N: usize>(a: f32, x: &[f32; N], y: &mut [f32; N]) {
    for j in 0..N {
        y[j] = I::fma(a, x[j], y[j]);
    }
}
