//! The columns of one head, widened and packed as the products of tiles read them.

use super::QUERIES;
use super::tile::vector;
use crate::cpu::float::{Float, Floats};
use crate::cpu::product::{GRAIN, ROWS};
use crate::cpu::simd::{Isa, LANES};

/// One head's columns, in a `[N, columns]` operand.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    data: Floats<'a>,
    /// The head's first column.
    first: usize,
    columns: usize,
    dim: usize,
}

impl<'a> Head<'a> {
    pub(super) fn new(data: Floats<'a>, heads: usize, head: usize, dim: usize) -> Self {
        Head { data, first: head * dim, columns: heads * dim, dim }
    }

    /// Packs `count` tokens from `start` as lines of whole vectors, with zeros around them.
    #[inline(always)]
    pub(super) fn lines(&self, start: usize, count: usize, panel: &mut [f32]) {
        let wide = self.dim.next_multiple_of(GRAIN);
        let (filled, rest) = panel.split_at_mut(count * wide);
        let first = self.first + start * self.columns;
        match self.data {
            Floats::F32(data) => lines(&data[first..], self.columns, self.dim, filled),
            Floats::Bf16(data) => lines(&data[first..], self.columns, self.dim, filled),
        }
        rest[..(count.next_multiple_of(ROWS) - count) * wide].fill(0.0);
    }

    /// Packs `count` tokens from `start` times `scale` as the columns of a panel `[D, QUERIES]`, with zeros up to whole
    /// vectors.
    #[inline(always)]
    pub(super) fn across<I: Isa>(&self, start: usize, count: usize, scale: f32, panel: &mut [f32]) {
        let first = self.first + start * self.columns;
        match self.data {
            Floats::F32(data) => across::<I, _>(&data[first..], self.columns, count, scale, panel),
            Floats::Bf16(data) => across::<I, _>(&data[first..], self.columns, count, scale, panel),
        }
    }
}

/// Widens lines of `dim` numbers, `columns` apart, with zeros up to whole vectors.
#[inline(always)]
fn lines<E: Float>(data: &[E], columns: usize, dim: usize, to: &mut [f32]) {
    let wide = dim.next_multiple_of(GRAIN);
    for (i, line) in to.chunks_exact_mut(wide).enumerate() {
        // Vectors and not lines: the compiler makes a call of a copy whose length it does not know.
        let (whole, rest) = data[i * columns..][..dim].as_chunks::<LANES>();
        let (to, beyond) = line.split_at_mut(LANES * whole.len());
        for (from, to) in whole.iter().zip(to.as_chunks_mut::<LANES>().0) {
            *to = from.map(E::widen);
        }
        if let Some(beyond) = beyond.first_chunk_mut::<LANES>() {
            *beyond = partial(rest);
        }
    }
}

/// Returns less than a vector of numbers, then zeros.
fn partial<E: Float>(from: &[E]) -> [f32; LANES] {
    let mut to = [0.0; LANES];
    for (from, to) in from.iter().zip(&mut to) {
        *to = from.widen();
    }
    to
}

#[inline(always)]
fn across<I: Isa, E: Float>(data: &[E], columns: usize, count: usize, scale: f32, panel: &mut [f32]) {
    let dim = panel.len() / QUERIES;
    for token in (0..count).step_by(LANES) {
        for first in (0..dim).step_by(LANES) {
            let mut block = [[0; LANES]; LANES];
            let tokens = LANES.min(count - token);
            for (i, line) in block[..tokens].iter_mut().enumerate() {
                let from = &data[(token + i) * columns..][first..dim];
                *line = match from.first_chunk::<LANES>() {
                    Some(from) => from.map(|x| (x.widen() * scale).to_bits()),
                    None => partial(from).map(|x| (x * scale).to_bits()),
                };
            }
            I::transpose(&mut block);
            for (line, to) in block.iter().zip(panel[first * QUERIES..].chunks_mut(QUERIES)) {
                *vector(to, token) = line.map(f32::from_bits);
            }
        }
    }
}
