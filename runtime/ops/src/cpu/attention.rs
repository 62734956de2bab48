//! Causal softmax attention inside each row, and its gradient, in tiles. Dao et al. 2022,
//! <https://arxiv.org/abs/2205.14135>; the gradient from log-sum-exp as in section B.
//!
//! Shapes: N tokens, R rows, A num_heads, K num_kv_heads, D head_dim. A tile is KEYS by QUERIES,
//! in this order: queries lie side by side in vectors, so that nothing is summed across a vector. Scores
//! exist for one tile at a time, and of what a tile's queries do not see next to nothing is computed. A row that
//! goes on from a prefix of its trunk sees the keys of two places, one after the other; no tile lies across both.
//!
//! A score is cap·tanh(scale·q·k / cap) + slope·(key − query); positions count within the row. A dropped
//! probability counts as zero in the product with v, not in the sum that normalises.

use super::float::{Float, Floats, OutParts, round_scaled};
use super::pool::{Parts, Pool, scratch, stage};
use super::product::{GRAIN, Panel, ROWS, Seen, To, multiply};
use super::simd::{Isa, LANES, dot, exp, multiversion, put, put_all, put_scaled, tanh};
use super::{adds, workspace};
use crate::backend::{Call, Draw, OpError};
use crate::check::{check_prefixes, check_rows};
use crate::random::{philox_side_by_side, stream, unit};
use crate::view::View;
use plan::op::Attention;
use std::ops::Range;

/// Queries of a tile: as many as keep its scores in the second cache, so that keys are packed seldom.
const QUERIES: usize = 128;

/// Keys of a tile.
const KEYS: usize = 64;

/// Tokens from which on a row's gradient is shared out by heads, where several share keys: of such rows a batch has few.
const LONG: usize = 2048;

/// Tokens of one task that adds up heads.
const BLOCK: usize = 64;

/// A row of the batch, and where its tokens lie.
#[derive(Clone, Copy)]
struct Row {
    first: usize,
    len: usize,
    number: u32,
    /// Tokens of its trunk that it goes on from, the position of its own first one.
    prefix: usize,
    /// First token of its trunk.
    trunk: usize,
}

impl Row {
    /// Returns the tiles of keys before the position `end`: those of the prefix, then the row's own.
    #[inline(always)]
    fn keys(self, end: usize) -> impl Iterator<Item = Keys> {
        let tiles = |first: usize, range: Range<usize>| {
            let Range { start, end } = range;
            range.step_by(KEYS).map(move |position| Keys {
                position,
                token: first + position - start,
                present: KEYS.min(end - position),
            })
        };
        tiles(self.trunk, 0..self.prefix).chain(tiles(self.first, self.prefix..end))
    }
}

/// A tile of keys: position and token of the first, and their number.
#[derive(Clone, Copy)]
struct Keys {
    position: usize,
    token: usize,
    present: usize,
}

/// The operands of a task: attributes, rows and strides.
#[derive(Clone, Copy)]
struct Job<'a> {
    attention: &'a Attention,
    cu: &'a [i32],
    numbers: &'a [i32],
    /// Empty where every row begins anew.
    prefixes: &'a [i32],
    key: [u32; 2],
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// `dim` rounded up.
    wide: usize,
}

impl<'a> Job<'a> {
    /// Takes `cu_seqlens, row_numbers, prefixes?`.
    fn new(
        attention: &'a Attention,
        rows: &[View<'a>],
        draw: Draw,
        (op, tokens): (&str, usize),
    ) -> Result<Self, OpError> {
        let (cu, numbers) = (rows[0].i32(), rows[1].i32());
        let prefixes = rows.get(2).map_or(&[][..], View::i32);
        check_rows(op, cu, tokens)?;
        check_prefixes(op, cu, prefixes)?;
        let dim = attention.head_dim as usize;
        let site = attention.dropout.map_or(0, |dropout| dropout.site);
        Ok(Job {
            attention,
            cu,
            numbers,
            prefixes,
            key: stream(draw.seed, draw.step, site),
            heads: attention.heads as usize,
            kv_heads: attention.kv_heads as usize,
            dim,
            wide: dim.next_multiple_of(GRAIN),
        })
    }

    fn row(&self, row: usize) -> Row {
        let (first, end) = (self.cu[row] as usize, self.cu[row + 1] as usize);
        let (prefix, trunk) = (self.prefix(row), self.cu[self.trunk(row)] as usize);
        Row { first, len: end - first, number: self.numbers[row] as u32, prefix, trunk }
    }

    /// Returns the row that a row goes on from: itself, where it begins anew.
    fn trunk(&self, row: usize) -> usize {
        let mut trunk = row;
        while self.prefix(trunk) > 0 {
            trunk -= 1; // the first row has no prefix
        }
        trunk
    }

    fn prefix(&self, row: usize) -> usize {
        self.prefixes.get(row).map_or(0, |&prefix| prefix as usize)
    }

    /// Returns a trunk and the rows that go on from it; nothing for one of those.
    fn family(&self, trunk: usize) -> Range<usize> {
        if self.prefix(trunk) > 0 {
            return trunk..trunk;
        }
        let rows = trunk + 1..self.numbers.len();
        trunk..rows.clone().find(|&row| self.prefix(row) == 0).unwrap_or(rows.end)
    }

    /// Returns the tokens of the longest row.
    fn longest(&self) -> usize {
        self.cu.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize
    }

    /// Returns whether each head has tasks of its own for the gradient of a family: as its length says, so that the bits
    /// of a row do not depend on those beside it.
    fn by_heads(&self, family: &Range<usize>) -> bool {
        self.group() > 1 && (self.cu[family.end] - self.cu[family.start]) as usize >= LONG
    }

    /// Returns the rough work of the whole op.
    fn work(&self) -> usize {
        let seen = |(row, pair): (usize, &[i32])| {
            let len = (pair[1] - pair[0]) as usize;
            len * (len + 2 * self.prefix(row))
        };
        self.cu.windows(2).enumerate().map(seen).sum::<usize>() * self.heads * (self.dim / 8 + 1)
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Returns the first position that a query sees.
    #[inline(always)]
    fn oldest(&self, query: usize) -> usize {
        self.attention.window.map_or(0, |window| (query + 1).saturating_sub(window as usize))
    }

    /// Returns whether the window hides a whole tile of keys from `query` and all later ones.
    #[inline(always)]
    fn hides(&self, query: usize, keys: Keys) -> bool {
        self.oldest(query) >= keys.position + keys.present
    }
}

/// One head's columns, in a `[N, columns]` operand.
#[derive(Clone, Copy)]
struct Head<'a> {
    data: Floats<'a>,
    /// The head's first column.
    first: usize,
    columns: usize,
    dim: usize,
}

impl<'a> Head<'a> {
    fn new(data: Floats<'a>, heads: usize, head: usize, dim: usize) -> Self {
        Head { data, first: head * dim, columns: heads * dim, dim }
    }

    /// Packs `count` tokens from `start` as lines of whole vectors, with zeros around them.
    #[inline(always)]
    fn lines(&self, start: usize, count: usize, panel: &mut [f32]) {
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
    fn across<I: Isa>(&self, start: usize, count: usize, scale: f32, panel: &mut [f32]) {
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

/// Returns one vector of a tile.
#[inline(always)]
fn vector(tile: &mut [f32], at: usize) -> &mut [f32; LANES] {
    (&mut tile[at..at + LANES]).try_into().expect("the slice has LANES elements")
}

/// `[q, k, v, cu_seqlens, row_numbers, prefixes?] → [o, lse]`.
///
/// A task is one tile of queries of one head; it goes through the tiles of keys in order.
pub fn attention(pool: &Pool, call: &mut Call<'_, '_>, attributes: &Attention) -> Result<(), OpError> {
    let [q, k, v, rows @ ..] = call.inputs else { unreachable!("operands are checked") };
    let job = Job::new(attributes, rows, call.draw, ("attention", q.dims.rows()))?;
    let (q, k, v) = (q.floats(), k.floats(), v.floats());
    let [o, lse] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let (add_o, add_lse) = (adds(o), adds(lse));
    let (o, lse) = (OutParts::new(o.floats()), Parts::new(lse.f32()));
    let (tiles, dim, heads, wide) = (job.longest().div_ceil(QUERIES), job.dim, job.heads, job.wide);
    pool.run(job.numbers.len() * heads * tiles, job.work(), |task| {
        let (row, head, tile) = (task / tiles / heads, task / tiles % heads, task % tiles);
        let (row, start) = (job.row(row), tile * QUERIES);
        if start >= row.len {
            return;
        }
        let q = Head::new(q, heads, head, dim);
        let kv = head / job.group();
        let (k, v) = (Head::new(k, job.kv_heads, kv, dim), Head::new(v, job.kv_heads, kv, dim));
        scratch(QUERIES * (wide + dim + KEYS + 2) + 2 * KEYS * wide, |scratch| {
            forward_tile(&job, row, head, start, q, k, v, scratch);
            let (sums, rest) = scratch.split_at(QUERIES * wide);
            for i in 0..QUERIES.min(row.len - start) {
                let at = (row.first + start + i) * heads + head;
                put_head(&o, at, &sums[i * wide..][..dim], 1.0, add_o);
                #[allow(unsafe_code)] // tasks write columns of some tokens
                // SAFETY: each task has its own queries (`cu_seqlens` rises) and head.
                let lse = unsafe { lse.get(at, 1) };
                put(add_lse, &mut lse[0], rest[i]);
            }
        });
    });
    Ok(())
}

multiversion! {
    /// Leaves o `[QUERIES, wide]` and lse `[QUERIES]` at the start of the scratch.
    fn forward_tile[I](job: &Job<'_>, row: Row, head: usize, start: usize, q: Head<'_>, k: Head<'_>, v: Head<'_>, scratch: &mut [f32]) {
        let (dim, wide) = (job.dim, job.wide);
        let (o, rest) = scratch.split_at_mut(QUERIES * wide);
        let (most, rest) = rest.split_at_mut(QUERIES);
        let (total, rest) = rest.split_at_mut(QUERIES);
        let (q_across, rest) = rest.split_at_mut(dim * QUERIES);
        let (k_lines, rest) = rest.split_at_mut(KEYS * wide);
        let (v_lines, scores) = rest.split_at_mut(KEYS * wide);
        let count = QUERIES.min(row.len - start);
        let (lanes, rows) = (count.next_multiple_of(LANES), count.next_multiple_of(ROWS));
        o.fill(0.0);
        most.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        q.across::<I>(row.first + start, count, job.attention.scale as f32, q_across);
        let query = row.prefix + start;
        for keys in row.keys(query + count) {
            if job.hides(query, keys) {
                continue;
            }
            let present = keys.present;
            let m = present.next_multiple_of(ROWS);
            let before = query as isize - keys.position as isize;
            k.lines(keys.token, present, k_lines);
            v.lines(keys.token, present, v_lines);
            let to = To::set(scores, QUERIES);
            multiply((m, lanes, dim), Seen::Scores { before }, Panel::rows(k_lines, wide), q_across, QUERIES, to);
            for lane in (0..lanes).step_by(LANES) {
                let tile = Tile { job, row, head, query: query + lane, keys: keys.position, present };
                tile.probabilities::<I>(&mut scores[lane..], vector(most, lane), vector(total, lane), &mut o[lane * wide..], wide);
            }
            let to = To::add(o, wide);
            multiply((rows, wide, present), Seen::ByQuery { before }, Panel::columns(scores, QUERIES), v_lines, wide, to);
        }
        for i in 0..count {
            let inverse = 1.0 / total[i];
            for o in o[i * wide..][..wide].iter_mut() {
                *o *= inverse;
            }
            most[i] += total[i].ln();
        }
    }
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
struct Tile<'a> {
    job: &'a Job<'a>,
    row: Row,
    head: usize,
    query: usize,
    keys: usize,
    present: usize,
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
    fn probabilities<I: Isa>(
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
    fn gradients<I: Isa>(
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

/// `[do, q, k, v, o, lse, cu_seqlens, row_numbers, prefixes?] → [dq, dk, dv]`.
///
/// A task is one key-value head, or of long rows one head, of one row and of those that go on from it: for each head and
/// each tile of queries it goes through the tiles of keys in order. Δ = Σ do·o of each token and head lies in the
/// workspace, and so do gradients of keys and values that are rounded, or summed over heads, at the end.
pub fn attention_grad(pool: &Pool, call: &mut Call<'_, '_>, attributes: &Attention) -> Result<(), OpError> {
    let [d_o, q, k, v, o, lse, rows @ ..] = call.inputs else { unreachable!("operands are checked") };
    let tokens = q.dims.rows();
    let job = Job::new(attributes, rows, call.draw, ("attention_grad", tokens))?;
    let (heads, group, dim) = (job.heads, job.group(), job.dim);
    let (d_o, o, lse) = (d_o.floats(), o.floats(), lse.f32());
    let (q, k, v) = (q.floats(), k.floats(), v.floats());
    let rounded = matches!(k, Floats::Bf16(_));
    let own = if rounded || group > 1 { q.len() } else { 0 };
    let scratch_space = workspace(call.kind, call.workspace, tokens * heads + 2 * own)?;
    let (deltas, rest) = scratch_space.split_at_mut(tokens * heads);
    let (dk_sums, dv_sums) = rest.split_at_mut(own);
    pool.blocks(deltas, 8 * heads, 2 * q.len(), |block, deltas| {
        let (at, len) = (block * 8 * heads * dim, deltas.len() * dim);
        stage(2 * len, |buffer| {
            let (a, b) = buffer.split_at_mut(len);
            dots(d_o.part(at, len, a), o.part(at, len, b), dim, deltas);
        });
    });
    let deltas = &*deltas;
    let [dq, dk, dv] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let (add_q, add_k, add_v) = (adds(dq), adds(dk), adds(dv));
    let (dq, dk, dv) = (OutParts::new(dq.floats()), OutParts::new(dk.floats()), OutParts::new(dv.floats()));
    let of = Saved { d_o, q, k, v, lse, deltas };
    let direct = Out { dq: &dq, dk: &dk, dv: &dv, of: job.kv_heads, adds: [add_q, add_k, add_v] };
    {
        let dk = OutParts::F32(Parts::new(dk_sums));
        let dv = OutParts::F32(Parts::new(dv_sums));
        let apart = Out { dk: &dk, dv: &dv, of: heads, adds: [add_q, false, false], ..direct };
        let numbers = QUERIES * (3 * job.wide + 2 * dim + 2 * KEYS + 2) + 4 * KEYS * job.wide;
        pool.run(job.numbers.len() * heads, 3 * job.work(), |task| {
            let (family, head) = (job.family(task / heads), task % heads);
            let by_heads = job.by_heads(&family);
            if !by_heads && head % group > 0 {
                return; // the first one of its group does its work
            }
            let out = if by_heads || rounded { apart } else { direct };
            let heads = head..head + if by_heads { 1 } else { group };
            for row in family {
                scratch(numbers, |scratch| backward_row(&job, job.row(row), heads.clone(), of, out, scratch));
            }
        });
    }
    sum_heads(pool, &job, (dk_sums, &dk, add_k), rounded);
    sum_heads(pool, &job, (dv_sums, &dv, add_v), rounded);
    Ok(())
}

/// Adds up what lies apart, `[N, A, D] → [N, K, D]`: the lines of each group of heads of long rows; of others, where they
/// are to be rounded, the first line alone, which holds the sum already.
fn sum_heads(
    pool: &Pool,
    job: &Job<'_>,
    (sums, gradient, add): (&[f32], &OutParts<'_>, bool),
    rounded: bool,
) {
    let (group, dim, rows) = (job.group(), job.dim, job.numbers.len());
    let blocks = job.longest().div_ceil(BLOCK);
    let by_heads = |row: usize| job.by_heads(&job.family(job.trunk(row)));
    if !rounded && !(0..rows).any(by_heads) {
        return;
    }
    pool.run(rows * blocks, sums.len(), |task| {
        let (row, start) = (task / blocks, task % blocks * BLOCK);
        let by_heads = by_heads(row);
        let (first, end) = (job.cu[row] as usize, job.cu[row + 1] as usize);
        if first + start >= end || !(by_heads || rounded) {
            return;
        }
        let (first, count) = (first + start, BLOCK.min(end - first - start));
        let lines = &sums[first * job.heads * dim..][..count * job.heads * dim];
        let (at, len) = (first * job.kv_heads * dim, count * job.kv_heads * dim);
        let taken = if by_heads { group } else { 1 };
        stage(len, |buffer| {
            #[allow(unsafe_code)] // tasks write tokens of one output
            // SAFETY: each task has tokens of its own (`cu_seqlens` rises), and those that wrote heads have ended.
            unsafe {
                gradient.write(at, len, add, buffer, |y, add| sum_lines(lines, group, taken, dim, y, add));
            }
        });
    });
}

multiversion! {
    fn sum_lines[I](lines: &[f32], group: usize, taken: usize, dim: usize, y: &mut [f32], add: bool) {
        for (lines, y) in lines.chunks_exact(group * dim).zip(y.chunks_exact_mut(dim)) {
            for (i, line) in lines.chunks_exact(dim).take(taken).enumerate() {
                put_all(add || i > 0, y, line.iter().copied());
            }
        }
    }
}

multiversion! {
    fn dots[I](a: &[f32], b: &[f32], dim: usize, y: &mut [f32]) {
        for ((a, b), y) in a.chunks_exact(dim).zip(b.chunks_exact(dim)).zip(y) {
            *y = dot::<I>(a, b);
        }
    }
}

/// What the gradient reads.
#[derive(Clone, Copy)]
struct Saved<'a> {
    d_o: Floats<'a>,
    q: Floats<'a>,
    k: Floats<'a>,
    v: Floats<'a>,
    lse: &'a [f32],
    deltas: &'a [f32],
}

/// What it writes, and whether it adds.
#[derive(Clone, Copy)]
struct Out<'a> {
    dq: &'a OutParts<'a>,
    dk: &'a OutParts<'a>,
    dv: &'a OutParts<'a>,
    /// Lines that dk and dv have for each token: one for each key-value head, or for each head.
    of: usize,
    adds: [bool; 3],
}

/// Writes one head of one token, or adds to it.
#[allow(unsafe_code)] // tasks write columns of some tokens
#[inline(always)]
fn put_head(parts: &OutParts<'_>, at: usize, x: &[f32], scale: f32, add: bool) {
    match parts {
        OutParts::F32(parts) => {
            // SAFETY: one task alone writes a head of a token. In the forward op it has a tile of queries and a
            // head; in the gradient the heads of a group, or one whose lines of dk and dv are its own, of a family of
            // rows, and families share no row: prefixes lie within their trunk (`check_prefixes`). The slice is
            // dropped before the task takes the next one.
            let y = unsafe { parts.get(at * x.len(), x.len()) };
            put_scaled(x, scale, y, add);
        }
        OutParts::Bf16(parts) => {
            // SAFETY: as above.
            let y = unsafe { parts.get(at * x.len(), x.len()) };
            round_scaled(x, scale, y, add);
        }
    }
}

multiversion! {
    fn backward_row[I](job: &Job<'_>, row: Row, heads: Range<usize>, of: Saved<'_>, out: Out<'_>, scratch: &mut [f32]) {
        let (dim, wide, kv_head) = (job.dim, job.wide, heads.start / job.group());
        let (dq, rest) = scratch.split_at_mut(QUERIES * wide);
        let (q_lines, rest) = rest.split_at_mut(QUERIES * wide);
        let (do_lines, rest) = rest.split_at_mut(QUERIES * wide);
        let (dk, rest) = rest.split_at_mut(KEYS * wide);
        let (dv, rest) = rest.split_at_mut(KEYS * wide);
        let (k_lines, rest) = rest.split_at_mut(KEYS * wide);
        let (v_lines, rest) = rest.split_at_mut(KEYS * wide);
        let (q_across, rest) = rest.split_at_mut(dim * QUERIES);
        let (do_across, rest) = rest.split_at_mut(dim * QUERIES);
        let (lse, rest) = rest.split_at_mut(QUERIES);
        let (delta, rest) = rest.split_at_mut(QUERIES);
        let (scores, slopes) = rest.split_at_mut(QUERIES * KEYS);
        let scale = job.attention.scale as f32;
        let (k, v) = (Head::new(of.k, job.kv_heads, kv_head, dim), Head::new(of.v, job.kv_heads, kv_head, dim));
        // Of lines for each head those of the first one are used.
        let line = if out.of == job.heads { heads.start } else { kv_head };
        let place = |token: usize| token * out.of + line;
        // Tiles add to dk and dv; a trunk is cleared before the rows that go on from it add to it.
        dk.fill(0.0);
        for token in row.first..row.first + row.len {
            if !out.adds[1] {
                put_head(out.dk, place(token), &dk[..dim], 1.0, false);
            }
            if !out.adds[2] {
                put_head(out.dv, place(token), &dk[..dim], 1.0, false);
            }
        }
        for head in heads {
            let (q, d_o) = (Head::new(of.q, job.heads, head, dim), Head::new(of.d_o, job.heads, head, dim));
            for start in (0..row.len).step_by(QUERIES) {
                let count = QUERIES.min(row.len - start);
                let (lanes, rows) = (count.next_multiple_of(LANES), count.next_multiple_of(ROWS));
                let (token, query) = (row.first + start, row.prefix + start);
                q.across::<I>(token, count, scale, q_across);
                d_o.across::<I>(token, count, 1.0, do_across);
                q.lines(token, count, q_lines);
                d_o.lines(token, count, do_lines);
                for i in 0..count {
                    let at = (token + i) * job.heads + head;
                    (lse[i], delta[i]) = (of.lse[at], of.deltas[at]);
                }
                dq.fill(0.0);
                for keys in row.keys(query + count) {
                    if job.hides(query, keys) {
                        continue;
                    }
                    let present = keys.present;
                    let m = present.next_multiple_of(ROWS);
                    let before = query as isize - keys.position as isize;
                    k.lines(keys.token, present, k_lines);
                    v.lines(keys.token, present, v_lines);
                    let seen = Seen::Scores { before };
                    let (k_rows, v_rows) = (Panel::rows(k_lines, wide), Panel::rows(v_lines, wide));
                    multiply((m, lanes, dim), seen, k_rows, q_across, QUERIES, To::set(scores, QUERIES));
                    multiply((m, lanes, dim), seen, v_rows, do_across, QUERIES, To::set(slopes, QUERIES));
                    for lane in (0..lanes).step_by(LANES) {
                        let tile = Tile { job, row, head, query: query + lane, keys: keys.position, present };
                        let (scores, slopes) = (&mut scores[lane..], &mut slopes[lane..]);
                        tile.gradients::<I>(scores, slopes, vector(lse, lane), vector(delta, lane));
                    }
                    let seen = Seen::ByKey { before };
                    multiply((m, wide, count), seen, Panel::rows(scores, QUERIES), do_lines, wide, To::set(dv, wide));
                    multiply((m, wide, count), seen, Panel::rows(slopes, QUERIES), q_lines, wide, To::set(dk, wide));
                    let (seen, slopes) = (Seen::ByQuery { before }, Panel::columns(slopes, QUERIES));
                    multiply((rows, wide, present), seen, slopes, k_lines, wide, To::add(dq, wide));
                    for j in 0..present {
                        put_head(out.dk, place(keys.token + j), &dk[j * wide..][..dim], scale, true);
                        put_head(out.dv, place(keys.token + j), &dv[j * wide..][..dim], 1.0, true);
                    }
                }
                for i in 0..count {
                    let at = (token + i) * job.heads + head;
                    put_head(out.dq, at, &dq[i * wide..][..dim], scale, out.adds[0]);
                }
            }
        }
    }
}
