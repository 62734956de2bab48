//! Matrix products, in f32 sums, of operands in f32 or bf16.
//!
//! Shapes: y [m,n] = a [m,k] · b [k,n]. A task computes one block of y over the whole of k: it packs its
//! parts of a and b into panels (see [`pack`]) for a long stretch of k, and runs the kernel over tiles of
//! MR × NR. Stretches follow from k alone, and every element of y is one sum over k in one order, whatever the
//! block or the thread. Products with few rows, as in decoding, read the
//! weights once and where they lie (see [`few`]).
//!
//! bf16 operands are widened while they are packed, which costs next to nothing, and multiplied in f32. Where
//! the processor multiplies bf16 pairs faster than f32 (see [`super::simd::dots_pairs`]), they are packed as pairs.

mod few;
pub(super) mod kernel;
mod pack;
mod packed;

use super::float::{Float, Floats, FloatsMut};
use super::pool::{Parts, Pool, scratch};
#[cfg(target_arch = "x86_64")]
use super::simd::Level;
use super::simd::{Isa, multiversion};
use crate::view::View;
use kernel::{Columns, Kernel, Rows, Sums};
use pack::Format;
pub use packed::Packed;
use plan::blocks::{FEW, GRAIN, INNER, block_words, cut, stretch};
use std::ops::Range;

/// A matrix in a slice, row by row; transposing swaps what rows and columns are.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: Floats<'a>,
    /// Elements from one stored row to the next.
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// Views a slice as rows of `columns` elements.
    pub fn rows(data: Floats<'a>, columns: usize) -> Self {
        Matrix { data, stride: columns, transposed: false }
    }

    /// Views an operand.
    pub fn of(view: &View<'a>) -> Self {
        Matrix::rows(view.floats(), view.dims.columns())
    }

    /// Returns the transpose.
    pub fn transposed(self) -> Self {
        Matrix { transposed: !self.transposed, ..self }
    }

    fn contains(&self, rows: usize, columns: usize) -> bool {
        let (stored, across) = if self.transposed { (columns, rows) } else { (rows, columns) };
        stored == 0
            || across == 0
            || (across <= self.stride && (stored - 1) * self.stride + across <= self.data.len())
    }

    fn is_bf16(&self) -> bool {
        matches!(self.data, Floats::Bf16(_))
    }
}

/// The product's shape.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy, Default)]
pub struct Finish<'a> {
    /// Whether y is added to.
    pub add: bool,
    /// Added to every row of y.
    pub bias: Option<Floats<'a>>,
}

/// The right operand: where it lies, or packed for more than one product.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    Lies(Matrix<'a>),
    Packed(Packed<'a>),
}

impl Right<'_> {
    fn contains(&self, rows: usize, columns: usize) -> bool {
        match self {
            Right::Lies(b) => b.contains(rows, columns),
            Right::Packed(b) => b.contains(rows, columns),
        }
    }
}

/// Computes y = a·b, or y += a·b, plus a bias; y has `n` columns, one row after another.
///
/// # Panics
/// Panics when a matrix is smaller than the shape says.
pub fn gemm(pool: &Pool, shape: Shape, a: Matrix<'_>, b: Matrix<'_>, y: FloatsMut<'_>, finish: Finish<'_>) {
    match y {
        FloatsMut::F32(y) => product(Some(pool), shape, a, Right::Lies(b), y, finish),
        FloatsMut::Bf16(y) => product(Some(pool), shape, a, Right::Lies(b), y, finish),
    }
}

/// Computes a product as [`gemm`], on this thread alone: for tasks that have more to do with it.
pub fn gemm_alone(shape: Shape, a: Matrix<'_>, b: Right<'_>, y: &mut [f32], finish: Finish<'_>) {
    product(None, shape, a, b, y, finish);
}

fn product<E: Float>(
    pool: Option<&Pool>,
    shape: Shape,
    a: Matrix<'_>,
    b: Right<'_>,
    y: &mut [E],
    finish: Finish<'_>,
) {
    let Shape { m, n, k } = shape;
    let biased = finish.bias.is_none_or(|bias| bias.len() == n);
    assert!(a.contains(m, k) && b.contains(k, n) && y.len() == m * n && biased, "gemm of {m}×{n}×{k}");
    if m == 0 || n == 0 {
        return;
    }
    if let (Some(pool), Right::Lies(b)) = (pool, b)
        && m <= FEW
        && b.transposed
        && !a.transposed
    {
        return few::product(pool, shape, a, b, y, finish);
    }
    let (rows, columns) = cut([m, n, k], !E::IS_F32, pool.map_or(0, Pool::threads));
    let across = n.div_ceil(columns);
    let y = Parts::new(y);
    let block = |task: usize| {
        let (row, column) = (task / across * rows, task % across * columns);
        let (rows, columns) = (row..m.min(row + rows), column..n.min(column + columns));
        let job = Job { a, b, y: &y, rows, columns, n, k, finish };
        scratch(job.scratch(), |words| job.run(words));
    };
    let blocks = m.div_ceil(rows) * across;
    match pool {
        Some(pool) => pool.run(blocks, 2 * m * n * k / 16, block),
        None => (0..blocks).for_each(block),
    }
}

/// One block of y.
struct Job<'a, E> {
    a: Matrix<'a>,
    b: Right<'a>,
    y: &'a Parts<'a, E>,
    rows: Range<usize>,
    columns: Range<usize>,
    n: usize,
    k: usize,
    finish: Finish<'a>,
}

impl<E: Float> Job<'_, E> {
    /// Returns the block's columns, and the rows that are packed at a time, with what fills up their panels.
    fn padded(&self) -> (usize, usize) {
        let rows = self.rows.len().min(INNER).next_multiple_of(GRAIN);
        (rows, self.columns.len().next_multiple_of(GRAIN))
    }

    /// Returns the words of scratch: panels of a and b, and the sums of the block unless y holds them.
    fn scratch(&self) -> usize {
        let sums = !E::IS_F32 || self.k == 0;
        block_words([self.rows.len(), self.columns.len(), self.k], sums)
    }

    fn run(&self, words: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if self.pairs() {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
            fn pairs<E: Float>(job: &Job<'_, E>, words: &mut [u32]) {
                job.multiply::<super::simd::Avx512, kernel::Avx512Pairs, 8, 48>(words);
            }
            #[allow(unsafe_code)] // calls a function compiled for more than the base of the target
            // SAFETY: `pairs` asked for every feature that the function was compiled for.
            return unsafe { pairs(self, words) };
        }
        block(self, words);
    }

    /// Returns whether pairs of bf16 are multiplied, which the machine can where they are.
    #[cfg(target_arch = "x86_64")]
    fn pairs(&self) -> bool {
        match self.b {
            Right::Lies(b) => self.a.is_bf16() && b.is_bf16() && super::simd::dots_pairs(),
            Right::Packed(b) => b.pairs,
        }
    }

    /// Computes the block: stretch by stretch of k, tile by tile.
    #[inline(always)]
    fn multiply<I: Isa, K: Kernel<MR, NR>, const MR: usize, const NR: usize>(&self, words: &mut [u32]) {
        let (rows, columns) = self.padded();
        let depth = stretch(self.k.max(1));
        let (a_panels, rest) = words.split_at_mut(rows * depth);
        let (b_panels, sums) = rest.split_at_mut(columns * depth);
        let sums: &mut [f32] = bytemuck::cast_slice_mut(sums);
        let in_place = pack::in_place::<K::Format>(self.a);
        let adds = self.begin();
        for start in (0..self.k).step_by(depth) {
            let part = start..self.k.min(start + depth);
            let words = part.len().div_ceil(K::Format::K);
            if let Right::Lies(b) = self.b {
                pack::columns::<I, K::Format, NR>(b, part.clone(), self.columns.clone(), b_panels);
            }
            let b_panel = |column: usize| match self.b {
                Right::Lies(_) => &b_panels[column * words..][..NR * words],
                Right::Packed(b) => b.panel::<NR>(self.columns.start + column, start, words),
            };
            for first in (0..self.rows.len()).step_by(INNER) {
                let count = INNER.min(self.rows.len() - first);
                // Rows that a kernel reads where they lie; the others are packed.
                let ready = if in_place.is_some() { count / MR * MR } else { 0 };
                let packed = self.rows.start + first + ready..self.rows.start + first + count;
                pack::rows::<K::Format, MR>(self.a, packed, part.clone(), a_panels);
                let (row_words, step) = if self.a.transposed { (1, MR) } else { (words, 1) };
                let panel = |row: usize| match in_place {
                    Some(a) if row < ready => {
                        let data = &a[(self.rows.start + first + row) * self.a.stride + start..];
                        Rows { data, row: self.a.stride, step: 1 }
                    }
                    _ => Rows { data: &a_panels[(row - ready) * words..], row: row_words, step },
                };
                for column in (0..self.columns.len()).step_by(NR) {
                    let b = Columns::packed(b_panel(column), NR);
                    for row in (0..count).step_by(MR) {
                        let at = (first + row, column);
                        self.tile::<K, MR, NR>(panel(row), b, at, start > 0 || adds, start > 0, sums);
                    }
                }
            }
        }
        if !E::IS_F32 || self.k == 0 {
            self.finish(sums, columns);
        }
    }

    /// Puts the bias where sums are added to it; returns whether the first stretch adds.
    #[inline(always)]
    fn begin(&self) -> bool {
        let Some(bias) = self.finish.bias else { return self.finish.add };
        if !E::IS_F32 {
            return false;
        }
        for row in self.rows.clone() {
            let y = self.line(row);
            match bias {
                Floats::F32(bias) => put(y, &bias[self.columns.start..], self.finish.add),
                Floats::Bf16(bias) => put(y, &bias[self.columns.start..], self.finish.add),
            }
        }
        true
    }

    /// Runs a kernel: on y itself when it is f32 and the tile lies within the block, else on scratch.
    #[inline(always)]
    fn tile<K: Kernel<MR, NR>, const MR: usize, const NR: usize>(
        &self,
        a: Rows<'_>,
        b: Columns<'_>,
        (row, column): (usize, usize),
        adds: bool,
        later: bool,
        sums: &mut [f32],
    ) {
        let within = row + MR <= self.rows.len() && column + NR <= self.columns.len();
        if E::IS_F32 && within {
            let start = self.y.pointer((self.rows.start + row) * self.n + self.columns.start + column).cast();
            #[allow(unsafe_code)] // tasks write blocks of one matrix
            // SAFETY: the tile lies within this task's block of y, whose elements are f32; the caller runs
            // where the instructions are.
            return unsafe { K::tile(a, b, Sums { start, stride: self.n, add: adds }) };
        }
        if E::IS_F32 {
            let mut edge = [[0.0; NR]; MR];
            let start = edge.as_mut_ptr().cast();
            #[allow(unsafe_code)] // as above
            // SAFETY: the tile is this array.
            unsafe {
                K::tile(a, b, Sums { start, stride: NR, add: false });
            }
            for (i, line) in edge.iter().enumerate().take(self.rows.len() - row) {
                put(&mut self.line(self.rows.start + row + i)[column..], line, adds);
            }
            return;
        }
        let stride = self.columns.len().next_multiple_of(GRAIN);
        let tile = &mut sums[row * stride + column..][..(MR - 1) * stride + NR];
        #[allow(unsafe_code)] // as above
        // SAFETY: the slice covers the rows of the tile.
        unsafe {
            K::tile(a, b, Sums { start: tile.as_mut_ptr(), stride, add: later });
        }
    }

    /// Returns the block's columns of one row of y.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // see `Parts`
    fn line(&self, row: usize) -> &mut [E] {
        #[allow(unsafe_code)] // tasks write blocks of one matrix
        // SAFETY: blocks share no element, and callers drop the slice before they ask for the next one.
        unsafe {
            self.y.get(row * self.n + self.columns.start, self.columns.len())
        }
    }

    /// Rounds the sums of the block, with the bias, into y.
    fn finish(&self, sums: &mut [f32], stride: usize) {
        for (index, row) in self.rows.clone().enumerate() {
            let line = &mut sums[index * stride..][..self.columns.len()];
            if self.k == 0 {
                line.fill(0.0);
            }
            // Of f32 only a product over nothing comes here, and its bias is there already.
            match self.finish.bias {
                Some(_) if E::IS_F32 => continue,
                Some(Floats::F32(bias)) => put(line, &bias[self.columns.start..], true),
                Some(Floats::Bf16(bias)) => put(line, &bias[self.columns.start..], true),
                None => {}
            }
            put(self.line(row), line, self.finish.add);
        }
    }
}

multiversion! {
    /// Writes numbers, or adds them; as many as `y` has.
    fn put[I, E: Float, F: Float](y: &mut [E], x: &[F], add: bool) {
        if add {
            for (y, x) in y.iter_mut().zip(x) {
                *y = E::round(y.widen() + x.widen());
            }
        } else {
            for (y, x) in y.iter_mut().zip(x) {
                *y = E::round(x.widen());
            }
        }
    }
}

multiversion! {
    /// Computes a block with the tile that the registers of the instruction set hold.
    fn block[I, E: Float](job: &Job<'_, E>, words: &mut [u32]) {
        match I::LEVEL {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => job.multiply::<I, kernel::Avx512, 8, 48>(words),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => job.multiply::<I, kernel::Avx2, 4, 24>(words),
            _ => job.multiply::<I, kernel::Portable, 4, 24>(words),
        }
    }
}

#[cfg(test)]
mod tests;
