//! Panels: parts of the operands as the kernels read them.
//!
//! A *word* of a panel is one f32, or two bf16 that follow one another along k. Panels of `a` hold MR rows
//! of words, row by row or, when the operand lies so, column by column; panels of `b` hold for each word of k
//! the NR columns side by side. What lies beyond the operand is zero.

use super::super::float::{Float, Floats};
use super::super::simd::{FIRST, Isa, LINE, ask_line};
use super::Matrix;
use half::bf16;
use std::ops::Range;

/// How numbers become words.
pub trait Format {
    /// Elements of k in a word.
    const K: usize;

    /// Makes a word of elements k and, with two in a word, k + 1.
    fn word<E: Float>(first: E, second: E) -> u32;
}

/// One f32.
pub struct Wide;

/// Two bf16, the lower one first.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // of no use elsewhere
pub struct Pairs;

impl Format for Wide {
    const K: usize = 1;

    #[inline(always)]
    fn word<E: Float>(first: E, _: E) -> u32 {
        first.widen().to_bits()
    }
}

impl Format for Pairs {
    const K: usize = 2;

    #[inline(always)]
    fn word<E: Float>(first: E, second: E) -> u32 {
        let bits = |x: E| u32::from(<bf16 as Float>::round(x.widen()).to_bits());
        bits(first) | bits(second) << 16
    }
}

/// Makes words of elements that follow one another along k.
#[inline(always)]
fn along<F: Format, E: Float>(x: &[E], words: &mut [u32]) {
    let (pairs, rest) = (x.chunks_exact(F::K), x.chunks_exact(F::K).remainder());
    for (word, pair) in words.iter_mut().zip(pairs) {
        *word = F::word(pair[0], pair[F::K - 1]);
    }
    if let [last] = rest {
        words[x.len() / F::K] = F::word(*last, E::round(0.0));
    }
}

/// Makes `N` words of two lines of k (the same one with one element in a word), whose elements lie beside one
/// another.
#[inline(always)]
fn across<F: Format, E: Float, const N: usize>(first: &[E], second: &[E], words: &mut [u32]) {
    let (first, second, words) = (&first[..N], &second[..N], &mut words[..N]);
    for i in 0..N {
        words[i] = F::word(first[i], second[i]);
    }
}

/// Returns the words of `a` where they lie, when kernels can read them there: f32 in rows.
pub fn in_place<F: Format>(a: Matrix<'_>) -> Option<&[u32]> {
    match a.data {
        Floats::F32(data) if F::K == 1 && !a.transposed => Some(bytemuck::cast_slice(data)),
        _ => None,
    }
}

/// Packs `rows` × `depth` of `a` into panels of `MR` rows.
#[inline(always)]
pub fn rows<F: Format, const MR: usize>(
    a: Matrix<'_>,
    rows: Range<usize>,
    depth: Range<usize>,
    panels: &mut [u32],
) {
    match a.data {
        Floats::F32(data) if a.transposed => lines::<F, f32, MR>(data, a.stride, depth, rows, panels),
        Floats::Bf16(data) if a.transposed => lines::<F, bf16, MR>(data, a.stride, depth, rows, panels),
        Floats::F32(data) => rows_of::<F, f32, MR>(data, a.stride, rows, depth, panels),
        Floats::Bf16(data) => rows_of::<F, bf16, MR>(data, a.stride, rows, depth, panels),
    }
}

#[inline(always)]
fn rows_of<F: Format, E: Float, const MR: usize>(
    data: &[E],
    stride: usize,
    rows: Range<usize>,
    depth: Range<usize>,
    panels: &mut [u32],
) {
    let words = depth.len().div_ceil(F::K);
    let lines = rows.len().next_multiple_of(MR);
    for (row, line) in panels.chunks_exact_mut(words).take(lines).enumerate() {
        if row < rows.len() {
            along::<F, E>(&data[(rows.start + row) * stride + depth.start..][..depth.len()], line);
        } else {
            line.fill(0);
        }
    }
}

/// Words of k that are packed together: what they take of a narrow panel is whole lines of the caches, which
/// panels that lie a power of two apart would push out half written.
const TOGETHER: usize = 4;

/// Asks for elements that are packed soon: rows of a wide matrix lie too far apart for the machine to guess.
#[inline(always)]
fn ahead<E>(data: &[E], at: usize, len: usize) {
    for at in (at..at + len).step_by(LINE / size_of::<E>()) {
        ask_line::<FIRST, _>(data.as_ptr().wrapping_add(at));
    }
}

/// Packs lines of k whose elements lie beside one another into panels of `WIDTH`, a line after another.
#[inline(always)]
fn lines<F: Format, E: Float, const WIDTH: usize>(
    data: &[E],
    stride: usize,
    depth: Range<usize>,
    beside: Range<usize>,
    panels: &mut [u32],
) {
    let (words, whole) = (depth.len().div_ceil(F::K), beside.len() / WIDTH);
    for start in (0..words).step_by(TOGETHER) {
        let k = depth.start + start * F::K;
        for k in k + TOGETHER * F::K..k + 2 * TOGETHER * F::K {
            ahead(data, k * stride + beside.start, beside.len());
        }
        let of = |k: usize| &data[k * stride + beside.start..][..beside.len()];
        let group = TOGETHER.min(words - start);
        let mut ready = 0;
        if k + TOGETHER * F::K <= depth.end {
            let lines: [_; TOGETHER] =
                std::array::from_fn(|i| (of(k + i * F::K), of(k + (i + 1) * F::K - 1)));
            for panel in 0..whole {
                let to = &mut panels[(panel * words + start) * WIDTH..][..TOGETHER * WIDTH];
                for (i, (first, second)) in lines.into_iter().enumerate() {
                    let part = panel * WIDTH..(panel + 1) * WIDTH;
                    across::<F, E, WIDTH>(&first[part.clone()], &second[part], &mut to[i * WIDTH..][..WIDTH]);
                }
            }
            ready = whole;
        }
        for panel in ready..beside.len().div_ceil(WIDTH) {
            let part = panel * WIDTH..beside.len().min((panel + 1) * WIDTH);
            let to = &mut panels[(panel * words + start) * WIDTH..][..group * WIDTH];
            for (i, line) in to.chunks_exact_mut(WIDTH).enumerate() {
                let (first, second) = (k + i * F::K, k + (i + 1) * F::K - 1);
                line.fill(0);
                for (to, column) in line.iter_mut().zip(part.clone()) {
                    let second = if second < depth.end { of(second)[column] } else { E::round(0.0) };
                    *to = F::word(of(first)[column], second);
                }
            }
        }
    }
}

/// Packs `depth` × `columns` of `b` into panels of `NR` columns.
#[inline(always)]
pub fn columns<I: Isa, F: Format, const NR: usize>(
    b: Matrix<'_>,
    depth: Range<usize>,
    columns: Range<usize>,
    panels: &mut [u32],
) {
    match b.data {
        Floats::F32(data) => columns_of::<I, F, f32, NR>(data, b, depth, columns, panels),
        Floats::Bf16(data) => columns_of::<I, F, bf16, NR>(data, b, depth, columns, panels),
    }
}

#[inline(always)]
fn columns_of<I: Isa, F: Format, E: Float, const NR: usize>(
    data: &[E],
    b: Matrix<'_>,
    depth: Range<usize>,
    columns: Range<usize>,
    panels: &mut [u32],
) {
    if !b.transposed {
        return lines::<F, E, NR>(data, b.stride, depth, columns, panels);
    }
    let words = depth.len().div_ceil(F::K);
    for (panel, first) in panels.chunks_exact_mut(NR * words).zip(columns.clone().step_by(NR)) {
        let count = NR.min(columns.end - first);
        turn::<I, F, E, NR>(data, b.stride, depth.clone(), first, count, panel);
    }
}

/// Words of a block that is transposed in registers.
pub const SIDE: usize = 16;

/// Packs columns that lie along k: blocks of `SIDE` × `SIDE` words are transposed.
#[inline(always)]
fn turn<I: Isa, F: Format, E: Float, const NR: usize>(
    data: &[E],
    stride: usize,
    depth: Range<usize>,
    first: usize,
    count: usize,
    panel: &mut [u32],
) {
    let words = depth.len().div_ceil(F::K);
    let of = |column: usize, k: usize| &data[(first + column) * stride + k..];
    for word in (0..words).step_by(SIDE) {
        let (k, end) = (depth.start + word * F::K, depth.end.min(depth.start + (word + SIDE) * F::K));
        let lines = SIDE.min(words - word);
        for column in (0..NR).step_by(SIDE) {
            let width = SIDE.min(NR - column);
            let mut block = [[0; SIDE]; SIDE];
            if end - k == SIDE * F::K && column + SIDE <= count {
                for (i, line) in block.iter_mut().enumerate() {
                    along::<F, E>(&of(column + i, k)[..SIDE * F::K], line);
                }
            } else {
                for (column, line) in (column..count).zip(block.iter_mut()) {
                    along::<F, E>(&of(column, k)[..end - k], line);
                }
            }
            I::transpose(&mut block);
            for (line, to) in block[..lines].iter().zip(panel[word * NR..].chunks_exact_mut(NR)) {
                if width == SIDE {
                    to[column..column + SIDE].copy_from_slice(line);
                } else {
                    to[column..column + width].copy_from_slice(&line[..width]);
                }
            }
        }
    }
}
