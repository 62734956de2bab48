//! What is done to the scores of a tile between its products.

use super::QUERIES;
use super::rows::{Job, Row};
use crate::cpu::simd::{Isa, LANES, exp, tanh};
use crate::random::{philox_side_by_side, unit};
use plan::op::Attention;

/// Returns one vector of a tile.
#[inline(always)]
pub(super) fn vector(tile: &mut [f32], at: usize) -> &mut [f32; LANES] {
    (&mut tile[at..at + LANES]).try_into().expect("the slice has LANES elements")
}

/// Takes what is larger.
#[inline(always)]
fn rise(most: &mut [f32; LANES], x: &[f32; LANES]) {
    for lane in 0..LANES {
        most[lane] = if x[lane] > most[lane] { x[lane] } else { most[lane] };
    }
}

/// The keys of a tile against one vector of queries, from `query` on.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) row: Row,
    pub(super) head: usize,
    pub(super) query: usize,
    pub(super) keys: usize,
    pub(super) present: usize,
}

impl Tile<'_> {
    /// Applies softcap and slope to the scores of one key and hides it from queries that do not see it;
    /// `cap_slope` takes the derivative of the cap.
    #[inline(always)]
    fn mask<I: Isa>(&self, key: usize, scores: &mut [f32; LANES], cap_slope: Option<&mut [f32; LANES]>) {
        let attributes = self.job.attention;
        if let Some(cap) = attributes.softcap {
            let cap = cap as f32;
            let mut t = [0.0; LANES];
            for lane in 0..LANES {
                t[lane] = tanh::<I>(scores[lane] / cap);
                scores[lane] = cap * t[lane];
            }
            if let Some(slope) = cap_slope {
                for lane in 0..LANES {
                    slope[lane] = 1.0 - t[lane] * t[lane];
                }
            }
        }
        // The first lane that sees the key, and the first that sees it no more.
        let since = (self.keys + key) as i32 - self.query as i32;
        if let Some(slopes) = &attributes.alibi {
            for (lane, score) in scores.iter_mut().enumerate() {
                *score = I::fma(slopes[self.head], (since - lane as i32) as f32, *score);
            }
        }
        if since > 0 {
            for (lane, score) in scores.iter_mut().enumerate() {
                *score = if lane as i32 >= since { *score } else { f32::NEG_INFINITY };
            }
        }
        if let Some(window) = attributes.window {
            let until = since.saturating_add_unsigned(window);
            for (lane, score) in scores.iter_mut().enumerate() {
                *score = if (lane as i32) < until { *score } else { f32::NEG_INFINITY };
            }
        }
    }

    /// Returns the keys that at least one query of the vector sees.
    #[inline(always)]
    fn seen(&self) -> usize {
        self.present.min((self.query + LANES).saturating_sub(self.keys))
    }

    /// Returns how many keys, a multiple of four, all queries of the vector see, with nothing to do to their scores.
    #[inline(always)]
    fn plain(&self) -> usize {
        let Attention { window, softcap, alibi, dropout, .. } = self.job.attention;
        if window.is_some() || softcap.is_some() || alibi.is_some() || dropout.is_some() {
            return 0;
        }
        self.present.min((self.query + 1).saturating_sub(self.keys)) / 4 * 4
    }

    /// Returns the factors of dropout for four keys from `key`, a multiple of four.
    #[inline(always)]
    fn factors(&self, key: usize) -> [[f32; LANES]; 4] {
        let Some(dropout) = self.job.attention.dropout else { return [[1.0; LANES]; 4] };
        let mut queries = [0; LANES];
        for (lane, query) in queries.iter_mut().enumerate() {
            *query = (self.query + lane) as u32;
        }
        let block = (self.keys + key) as u32 / 4;
        let counters = [[block; LANES], queries, [self.row.number; LANES], [self.head as u32; LANES]];
        let words = philox_side_by_side(self.job.key, counters);
        let (threshold, scale) = (dropout.p as f32, (1.0 / (1.0 - dropout.p)) as f32);
        let mut factors = [[0.0; LANES]; 4];
        for (factors, words) in factors.iter_mut().zip(&words) {
            for lane in 0..LANES {
                factors[lane] = if unit(words[lane]) >= threshold { scale } else { 0.0 };
            }
        }
        factors
    }

    /// Turns scores into probabilities relative to the largest score so far, which `most`, `total` and o follow.
    #[inline(always)]
    pub(super) fn probabilities<I: Isa>(
        &self,
        scores: &mut [f32],
        most: &mut [f32; LANES],
        total: &mut [f32; LANES],
        o: &mut [f32],
        wide: usize,
    ) {
        let seen = self.seen();
        if seen == 0 {
            return;
        }
        let plain = self.plain();
        // Four at a time, since one waits for the last.
        let mut four = [*most; 4];
        for first in (0..plain).step_by(4) {
            for (key, new) in four.iter_mut().enumerate() {
                rise(new, vector(scores, (first + key) * QUERIES));
            }
        }
        let [mut new, others @ ..] = four;
        for other in &others {
            rise(&mut new, other);
        }
        for key in plain..seen {
            let scores = vector(scores, key * QUERIES);
            self.mask::<I>(key, scores, None);
            rise(&mut new, scores);
        }
        // A query that has seen nothing yet has no largest score.
        let mut shift = new;
        for shift in &mut shift {
            *shift = if *shift == f32::NEG_INFINITY { 0.0 } else { *shift };
        }
        let mut sums = [0.0; LANES];
        for key in 0..seen {
            let scores = vector(scores, key * QUERIES);
            for lane in 0..LANES {
                scores[lane] = exp::<I>(scores[lane] - shift[lane]);
                sums[lane] += scores[lane];
            }
        }
        for key in seen..self.present {
            vector(scores, key * QUERIES).fill(0.0);
        }
        let mut shrink = [0.0; LANES];
        for lane in 0..LANES {
            shrink[lane] = exp::<I>(most[lane] - shift[lane]);
            total[lane] = I::fma(total[lane], shrink[lane], sums[lane]);
        }
        for lane in 0..LANES {
            if shrink[lane] != 1.0 {
                for o in o[lane * wide..][..wide].iter_mut() {
                    *o *= shrink[lane];
                }
            }
        }
        *most = new;
        if self.job.attention.dropout.is_some() {
            for first in (0..seen).step_by(4) {
                for (key, factors) in (first..seen).zip(self.factors(first)) {
                    let scores = vector(scores, key * QUERIES);
                    for lane in 0..LANES {
                        scores[lane] *= factors[lane];
                    }
                }
            }
        }
    }

    /// Turns scores into probabilities (dropped ones zero, others scaled), and do·v into the gradients of
    /// the scores: p·(factor·do·v − Δ), times the derivative of the cap.
    #[inline(always)]
    pub(super) fn gradients<I: Isa>(
        &self,
        scores: &mut [f32],
        slopes: &mut [f32],
        lse: &mut [f32; LANES],
        delta: &mut [f32; LANES],
    ) {
        let (seen, plain) = (self.seen(), self.plain());
        for key in 0..plain {
            let (p, slope) = (vector(scores, key * QUERIES), vector(slopes, key * QUERIES));
            for lane in 0..LANES {
                p[lane] = exp::<I>(p[lane] - lse[lane]);
                slope[lane] = p[lane] * (slope[lane] - delta[lane]);
            }
        }
        for first in (plain..seen).step_by(4) {
            for (key, factors) in (first..seen).zip(self.factors(first)) {
                let (p, slope) = (vector(scores, key * QUERIES), vector(slopes, key * QUERIES));
                let mut cap_slope = [1.0; LANES];
                self.mask::<I>(key, p, Some(&mut cap_slope));
                for lane in 0..LANES {
                    p[lane] = exp::<I>(p[lane] - lse[lane]);
                    slope[lane] =
                        p[lane] * I::fma(slope[lane], factors[lane], -delta[lane]) * cap_slope[lane];
                    p[lane] *= factors[lane];
                }
            }
        }
        for key in seen..self.present {
            vector(scores, key * QUERIES).fill(0.0);
            vector(slopes, key * QUERIES).fill(0.0);
        }
    }
}
