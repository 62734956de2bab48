//! Matrix products, cut into blocks by their shape.
//!
//! Shapes: y [m,n] = a [m,k] · b [k,n]. Each block of y is one call of the `gemm` crate on one thread,
//! over the whole of k, so the order of every sum is that of the block and not of the threads.

use super::pool::{Parts, Pool};

/// A matrix in a slice, by strides; transposing swaps them.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Views a slice as rows of `columns` elements.
    pub fn rows(data: &'a [f32], columns: usize) -> Self {
        Matrix { data, row_stride: columns, column_stride: 1 }
    }

    /// Returns the transpose.
    pub fn transposed(self) -> Self {
        Matrix { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    fn contains(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// Multiplications of one block: at least enough to hide what a task costs, at most what a large machine
/// can still share out; between them, about SHARE blocks. Each block packs its parts of a and b again.
const SMALLEST: usize = 1 << 20;
const LARGEST: usize = 1 << 24;
const SHARE: usize = 16;

/// Blocks of y are cut at multiples of this, which the kernels of the crate divide.
const GRAIN: usize = 48;

/// Returns the rows and columns of a block, from the shape alone.
fn cut(m: usize, n: usize, k: usize) -> (usize, usize) {
    let halve = |size: usize| (size / 2).next_multiple_of(GRAIN);
    let (mut rows, mut columns) = (m, n);
    let block = (m * n * k / SHARE).clamp(SMALLEST, LARGEST);
    while rows * columns * k > block {
        let (less_rows, less_columns) = (halve(rows), halve(columns));
        if rows >= columns && less_rows < rows {
            rows = less_rows;
        } else if less_columns < columns {
            columns = less_columns;
        } else if less_rows < rows {
            rows = less_rows;
        } else {
            break;
        }
    }
    (rows, columns)
}

/// Computes y = a·b, or y += a·b with `add`; y has `n` columns, one row after another.
///
/// # Panics
/// Panics when a matrix is smaller than m, n and k say.
pub fn gemm(pool: &Pool, (m, n, k): (usize, usize, usize), a: Matrix, b: Matrix, y: &mut [f32], add: bool) {
    assert!(a.contains(m, k) && b.contains(k, n) && y.len() == m * n, "gemm of {m}×{n}×{k}");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            y.fill(0.0);
        }
        return;
    }
    let (rows, columns) = cut(m, n, k);
    let across = n.div_ceil(columns);
    let y = Parts::new(y);
    pool.run(m.div_ceil(rows) * across, 2 * m * n * k / 16, |task| {
        let (row, column) = (task / across * rows, task % across * columns);
        block(row..m.min(row + rows), column..n.min(column + columns), (n, k), a, b, &y, add);
    });
}

/// Computes one block of y.
fn block(
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    (n, k): (usize, usize),
    a: Matrix,
    b: Matrix,
    y: &Parts<f32>,
    add: bool,
) {
    let a_part = &a.data[rows.start * a.row_stride..];
    let b_part = &b.data[columns.start * b.column_stride..];
    let read = if add { 1.0 } else { 0.0 };
    #[allow(unsafe_code)] // the crate takes raw matrices
    // SAFETY: `gemm` asserted that m×k elements of a, k×n of b and m×n of y lie within their slices, and the
    // block is part of those. Tasks have blocks of y that share no element.
    unsafe {
        gemm::gemm(
            rows.len(),
            columns.len(),
            k,
            y.pointer(rows.start * n + columns.start),
            1,
            n as isize,
            add,
            a_part.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b_part.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            read,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_by_shape_and_cover_everything() {
        for (m, n, k) in
            [(1, 1, 1), (4096, 64, 64), (64, 64, 8192), (256, 2000, 64), (5, 123, 123), (1, 50_000, 64)]
        {
            let (rows, columns) = cut(m, n, k);
            assert!(rows >= 1 && rows <= m && columns >= 1 && columns <= n, "{m}×{n}×{k}: {rows}×{columns}");
        }
    }

    #[test]
    fn product_is_the_product() {
        let pool = Pool::new(2);
        for (m, n, k) in
            [(1, 1, 1), (7, 5, 3), (123, 5, 123), (1, 300, 7), (300, 1, 7), (200, 310, 129), (3, 4, 0)]
        {
            let a: Vec<f32> = (0..m * k).map(|i| ((i * 7919) % 13) as f32 - 6.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| ((i * 104_729) % 11) as f32 - 5.0).collect();
            let mut expected = vec![0.0; m * n];
            for i in 0..m {
                for j in 0..n {
                    expected[i * n + j] = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
                }
            }
            // Small integers: every order of summing gives the same number.
            let mut y = vec![f32::NAN; m * n];
            gemm(&pool, (m, n, k), Matrix::rows(&a, k), Matrix::rows(&b, n), &mut y, false);
            assert_eq!(y, expected, "{m}×{n}×{k}");
            gemm(&pool, (m, n, k), Matrix::rows(&a, k), Matrix::rows(&b, n), &mut y, true);
            assert!(y.iter().zip(&expected).all(|(y, e)| *y == 2.0 * e));
        }
    }
}
