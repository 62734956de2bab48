//! Columns that are packed once for many products.

use super::super::pool::Pool;
#[cfg(target_arch = "x86_64")]
use super::super::simd;
use super::super::simd::{Isa, Level, dots_pairs, multiversion};
use super::Matrix;
#[cfg(target_arch = "x86_64")]
use super::pack::Pairs;
use super::pack::{Format, Wide, columns};
use plan::blocks::{GRAIN, packed_words, stretch};
use std::ops::Range;

/// b [k,n], in panels as kernels read them: of [`GRAIN`] columns after others all stretches of k.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    words: &'a [u32],
    n: usize,
    k: usize,
    /// Whether the panels hold pairs of bf16.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // of no use elsewhere
    pub pairs: bool,
}

impl<'a> Packed<'a> {
    /// Packs b for products with matrices in bf16, or in f32.
    ///
    /// # Panics
    /// Panics when the buffer holds less than [`packed_words`], or b less than the shape says.
    pub fn new(
        pool: &Pool,
        b: Matrix<'_>,
        [n, k]: [usize; 2],
        with_bf16: bool,
        buffer: &'a mut [u32],
    ) -> Self {
        assert!(b.contains(k, n), "columns of {k}×{n}");
        let pairs = with_bf16 && b.is_bf16() && dots_pairs();
        let words = &mut buffer[..packed_words(n, k)];
        pool.blocks(words, group_words(k), n * k / 4, |group, words| {
            let group = group * GRAIN..n.min((group + 1) * GRAIN);
            #[cfg(target_arch = "x86_64")]
            if pairs {
                #[allow(unsafe_code)] // calls a function compiled for more than the base of the target
                // SAFETY: `dots_pairs` found every feature that the function was compiled for.
                return unsafe { in_pairs(b, k, group, words) };
            }
            wide(b, k, group, words);
        });
        Packed { words, n, k, pairs }
    }

    pub fn contains(&self, rows: usize, columns: usize) -> bool {
        (self.k, self.n) == (rows, columns)
    }

    /// Returns the panel of `NR` columns from `column` on for the stretch of k from `start` on.
    #[inline(always)]
    pub fn panel<const NR: usize>(&self, column: usize, start: usize, words: usize) -> &'a [u32] {
        let group = &self.words[column / GRAIN * group_words(self.k) + GRAIN * start..];
        &group[column % GRAIN * words..][..NR * words]
    }
}

/// Returns the words of a group of columns.
fn group_words(k: usize) -> usize {
    packed_words(GRAIN, k)
}

/// Packs a group of columns, stretch by stretch.
#[inline(always)]
fn fill<I: Isa, F: Format, const NR: usize>(b: Matrix<'_>, k: usize, group: Range<usize>, words: &mut [u32]) {
    let depth = stretch(k.max(1));
    for start in (0..k).step_by(depth) {
        columns::<I, F, NR>(b, start..k.min(start + depth), group.clone(), &mut words[GRAIN * start..]);
    }
}

multiversion! {
    fn wide[I](b: Matrix<'_>, k: usize, group: Range<usize>, words: &mut [u32]) {
        match I::LEVEL {
            Level::Avx512 => fill::<I, Wide, 48>(b, k, group, words),
            _ => fill::<I, Wide, 24>(b, k, group, words),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn in_pairs(b: Matrix<'_>, k: usize, group: Range<usize>, words: &mut [u32]) {
    fill::<simd::Avx512, Pairs, 48>(b, k, group, words);
}
