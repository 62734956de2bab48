//! Small matrix products inside one task, on panels that lie in its scratch.
//!
//! c [m,n] = a [m,k] · b [k,n], or c += a·b; m is a multiple of [`ROWS`], n of [`GRAIN`], rows of b and c are
//! contiguous. The kernels are those of large products, on panels as they are. Zeros fill panels up to those multiples.
//! Where a matrix is triangular, [`Seen`] says what of it is left out: zeros, or what nobody reads.

use super::gemm::kernel::{self, Columns, Kernel, Rows, Sums};
#[cfg(target_arch = "x86_64")]
use super::simd::Level;
use super::simd::multiversion;

/// Panels have this multiple of columns.
pub const GRAIN: usize = 16;

/// Products have this multiple of rows.
pub const ROWS: usize = 8;

/// A matrix whose rows (or columns) are `stride` apart.
#[derive(Clone, Copy)]
pub struct Panel<'a>(Rows<'a>);

impl<'a> Panel<'a> {
    /// Views a[i·stride + p].
    #[inline(always)]
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Panel(Rows { data: bytemuck::cast_slice(data), row: stride, step: 1 })
    }

    /// Views a[p·stride + i].
    #[inline(always)]
    pub fn columns(data: &'a [f32], stride: usize) -> Self {
        Panel(Rows { data: bytemuck::cast_slice(data), row: 1, step: stride })
    }
}

/// Where products go: rows `stride` apart, written or added to.
pub struct To<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
    pub add: bool,
}

impl<'a> To<'a> {
    /// Writes to a panel.
    #[inline(always)]
    pub fn set(data: &'a mut [f32], stride: usize) -> Self {
        To { data, stride, add: false }
    }

    /// Adds to a panel.
    #[inline(always)]
    pub fn add(data: &'a mut [f32], stride: usize) -> Self {
        To { data, stride, add: true }
    }
}

/// What of a product is computed, where key i is seen by query j if i ≤ j + `before`.
#[derive(Clone, Copy)]
pub enum Seen {
    /// c is keys by queries: a key's scores for queries that do not see it are left as they are.
    Scores { before: isize },
    /// a is queries by keys, with zeros where a key is not seen. The row of a query that sees none is left as it is.
    ByQuery { before: isize },
    /// a is keys by queries, with zeros where a key is not seen; every key is seen by one.
    ByKey { before: isize },
}

impl Seen {
    /// Returns the rows that are computed of columns that end before `column`.
    #[inline(always)]
    fn rows(self, m: usize, column: usize) -> usize {
        match self {
            Seen::Scores { before } => m.min(column.saturating_add_signed(before).next_multiple_of(ROWS)),
            Seen::ByQuery { .. } | Seen::ByKey { .. } => m,
        }
    }

    /// Returns the terms of `rows` rows from `row` on.
    #[inline(always)]
    fn terms(self, k: usize, row: usize, rows: usize) -> (usize, usize) {
        match self {
            Seen::Scores { .. } => (0, k),
            Seen::ByQuery { before } => (0, k.min((row + rows).saturating_add_signed(before))),
            Seen::ByKey { before } => (row.saturating_add_signed(-before), k),
        }
    }
}

multiversion! {
    /// Computes a product of m × n × k.
    ///
    /// # Panics
    /// Panics when a panel is smaller than the shape says.
    pub fn multiply[I](shape: (usize, usize, usize), seen: Seen, a: Panel<'_>, b: &[f32], b_stride: usize, c: To<'_>) {
        let (m, n, k) = shape;
        let held = m > 0 && c.data.len() >= (m - 1) * c.stride + n;
        assert!(m % ROWS == 0 && n % GRAIN == 0 && held, "product of {m}×{n}×{k}");
        let b = Columns { data: bytemuck::cast_slice(b), step: b_stride, words: k };
        let strips = Strips { m, seen, a: a.0, b, start: c.data.as_mut_ptr(), stride: c.stride, add: c.add };
        let mut column = 0;
        while column < n {
            let left = n - column;
            column += match I::LEVEL {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if left == 48 || left >= 80 => strips.run::<kernel::Avx512, 8, 48>(column),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if left >= 32 => strips.run::<kernel::Avx512, 8, 32>(column),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => strips.run::<kernel::Avx512, 8, 16>(column),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 if left.is_multiple_of(24) => strips.run::<kernel::Avx2, 4, 24>(column),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => strips.run::<kernel::Avx2, 4, 16>(column),
                _ if left.is_multiple_of(24) => strips.run::<kernel::Portable, 4, 24>(column),
                _ => strips.run::<kernel::Portable, 4, 16>(column),
            };
        }
    }
}

/// A product whose shape was checked, by strips of columns.
struct Strips<'a> {
    m: usize,
    seen: Seen,
    a: Rows<'a>,
    b: Columns<'a>,
    start: *mut f32,
    stride: usize,
    add: bool,
}

impl Strips<'_> {
    /// Computes `NR` columns from `column` on; returns their number.
    #[inline(always)]
    fn run<K: Kernel<MR, NR>, const MR: usize, const NR: usize>(&self, column: usize) -> usize {
        for row in (0..self.seen.rows(self.m, column + NR)).step_by(MR) {
            let (first, end) = self.seen.terms(self.b.words, row, MR);
            if first >= end {
                continue;
            }
            let a = Rows { data: &self.a.data[row * self.a.row + first * self.a.step..], ..self.a };
            let data = &self.b.data[column + first * self.b.step..];
            let b = Columns { data, words: end - first, ..self.b };
            let start = self.start.wrapping_add(row * self.stride + column);
            #[allow(unsafe_code)] // kernels write through pointers
            // SAFETY: `multiply` checked that c, which it has alone, holds m rows of n columns. MR divides ROWS, and
            // it chose NR among what is left of the columns; it runs where the instructions are.
            unsafe {
                K::tile(a, b, Sums { start, stride: self.stride, add: self.add });
            }
        }
        NR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: usize = 24;
    const N: usize = 96;
    const K: usize = 40;

    /// Small integers, which every order of summing adds up to the same.
    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| (i * step % 13) as f32 - 6.0).collect()
    }

    fn naive(a: &[f32], b: &[f32]) -> Vec<f32> {
        let sum = |i: usize, j: usize| (0..K).map(|p| a[i * K + p] * b[p * N + j]).sum::<f32>();
        (0..M * N).map(|at| sum(at / N, at % N)).collect()
    }

    /// Clears what is not seen of [M,K].
    fn hide(a: &mut [f32], sees: impl Fn(usize, usize) -> bool) {
        for (at, x) in a.iter_mut().enumerate() {
            *x = if sees(at / K, at % K) { *x } else { 0.0 };
        }
    }

    /// Runs a kernel over all columns, for rows of a that lie along k, and across it.
    fn run<T: Kernel<MR, NR>, const MR: usize, const NR: usize>(
        seen: Seen,
        a: &[f32],
        b: &[f32],
    ) -> Vec<f32> {
        let turned: Vec<f32> = (0..K * M).map(|at| a[at % M * K + at / M]).collect();
        let once = |a: Panel<'_>, c: &mut [f32], add: bool| {
            let b = Columns { data: bytemuck::cast_slice(b), step: N, words: K };
            let strips = Strips { m: M, seen, a: a.0, b, start: c.as_mut_ptr(), stride: N, add };
            (0..N).step_by(NR).for_each(|column| {
                strips.run::<T, MR, NR>(column);
            });
        };
        let mut c = vec![0.0; M * N];
        once(Panel::rows(a, K), &mut c, false);
        let first = c.clone();
        once(Panel::columns(&turned, M), &mut c, true);
        assert!(c.iter().zip(&first).all(|(twice, once)| *twice == 2.0 * once));
        first
    }

    fn check<T: Kernel<MR, NR>, const MR: usize, const NR: usize>() {
        let (a, b) = (numbers(M * K, 7), numbers(K * N, 5));
        for before in [0, -9, 5, 200] {
            let sees = move |key: usize, query: usize| key as isize <= query as isize + before;
            // Rows are queries and terms keys: zeros of a are where a key is not seen.
            let mut masked = a.clone();
            hide(&mut masked, |row, term| sees(term, row));
            let expected = naive(&masked, &b);
            assert_eq!(
                run::<T, MR, NR>(Seen::ByQuery { before }, &masked, &b),
                expected,
                "by query, {before}"
            );
            // Rows are keys and terms queries; each key has a query that sees it.
            if before >= 0 {
                let mut masked = a.clone();
                hide(&mut masked, sees);
                let expected = naive(&masked, &b);
                assert_eq!(
                    run::<T, MR, NR>(Seen::ByKey { before }, &masked, &b),
                    expected,
                    "by key, {before}"
                );
            }
            // Rows are keys and columns queries: what is seen is computed.
            let (expected, got) = (naive(&a, &b), run::<T, MR, NR>(Seen::Scores { before }, &a, &b));
            for at in (0..M * N).filter(|at| sees(at / N, at % N)) {
                assert_eq!(got[at], expected[at], "scores, {before}");
            }
        }
    }

    #[test]
    fn every_kernel_computes_what_is_seen() {
        check::<kernel::Portable, 4, 24>();
        check::<kernel::Portable, 4, 16>();
        #[cfg(target_arch = "x86_64")]
        {
            use super::super::simd::level;
            if matches!(level(), Level::Avx2 | Level::Avx512) {
                check::<kernel::Avx2, 4, 24>();
                check::<kernel::Avx2, 4, 16>();
            }
            if level() == Level::Avx512 {
                check::<kernel::Avx512, 8, 48>();
                check::<kernel::Avx512, 8, 32>();
                check::<kernel::Avx512, 8, 16>();
            }
        }
    }
}
