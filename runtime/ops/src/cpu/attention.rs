//! Causal softmax attention inside each row, and its gradient, in tiles. Dao et al. 2022,
//! <https://arxiv.org/abs/2205.14135>; the gradient from log-sum-exp as in section B.
//!
//! Shapes: N tokens, R rows, A num_heads, K num_kv_heads, D head_dim. A tile is TILE queries by TILE keys;
//! scores exist for one tile at a time. Panels in scratch have D rounded up to a multiple of 8, rows
//! beyond the end of a row are zero.
//!
//! A score is cap·tanh(scale·q·k / cap) + slope·(key − query); positions count within the row. A dropped
//! probability counts as zero in the product with v, not in the sum that normalises.

use super::adds;
use super::elementwise::{MASK, keep};
use super::pool::{Parts, Pool, scratch};
use super::product::{GRAIN, Panel, multiply};
use super::simd::{Isa, dot, exp, max, multiversion, put, put_all, sum, tanh};
use super::workspace;
use crate::backend::{Call, Draw, OpError};
use crate::check::check_rows;
use crate::random::stream;
use plan::op::Attention;

/// Queries, and keys, of a tile; also what one call of [`keep`] covers.
const TILE: usize = MASK;

/// A row of the batch, and where its tokens lie.
#[derive(Clone, Copy)]
struct Row {
    first: usize,
    len: usize,
    number: u32,
}

/// The operands of a task: attributes, rows and strides.
#[derive(Clone, Copy)]
struct Job<'a> {
    attention: &'a Attention,
    cu: &'a [i32],
    numbers: &'a [i32],
    key: [u32; 2],
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// `dim` rounded up.
    wide: usize,
}

impl<'a> Job<'a> {
    fn new(
        attention: &'a Attention,
        cu: &'a [i32],
        numbers: &'a [i32],
        draw: Draw,
        (op, tokens): (&str, usize),
    ) -> Result<Self, OpError> {
        check_rows(op, cu, tokens)?;
        let dim = attention.head_dim as usize;
        let site = attention.dropout.map_or(0, |dropout| dropout.site);
        Ok(Job {
            attention,
            cu,
            numbers,
            key: stream(draw.seed, draw.step, site),
            heads: attention.heads as usize,
            kv_heads: attention.kv_heads as usize,
            dim,
            wide: dim.next_multiple_of(GRAIN),
        })
    }

    fn row(&self, row: usize) -> Row {
        let (first, end) = (self.cu[row] as usize, self.cu[row + 1] as usize);
        Row { first, len: end - first, number: self.numbers[row] as u32 }
    }

    /// Returns the tiles of the longest row.
    fn tiles(&self) -> usize {
        let longest = self.cu.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        (longest as usize).div_ceil(TILE)
    }

    /// Returns the rough work of the whole op.
    fn work(&self) -> usize {
        let square = |pair: &[i32]| (pair[1] - pair[0]) as usize * (pair[1] - pair[0]) as usize;
        self.cu.windows(2).map(square).sum::<usize>() * self.heads * (self.dim / 8 + 1)
    }

    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Returns the first position that a query sees.
    #[inline(always)]
    fn oldest(&self, query: usize) -> usize {
        self.attention.window.map_or(0, |window| (query + 1).saturating_sub(window as usize))
    }

    /// Returns the range of the tile of keys at `start` that a query sees.
    #[inline(always)]
    fn seen(&self, query: usize, start: usize) -> (usize, usize) {
        let end = (query + 1).saturating_sub(start).min(TILE);
        (self.oldest(query).saturating_sub(start).min(end), end)
    }

    /// Returns whether the window hides a whole tile of keys from `query` and all later ones.
    #[inline(always)]
    fn hides(&self, query: usize, start: usize) -> bool {
        self.oldest(query) >= start + TILE
    }
}

/// One head's columns of a `[N, columns]` operand.
#[derive(Clone, Copy)]
struct Columns<'a> {
    data: &'a [f32],
    columns: usize,
    first: usize,
}

impl<'a> Columns<'a> {
    fn new(data: &'a [f32], columns: usize, first: usize) -> Self {
        Columns { data, columns, first }
    }

    #[inline(always)]
    fn token(&self, token: usize, dim: usize) -> &'a [f32] {
        &self.data[token * self.columns + self.first..][..dim]
    }

    /// Copies `count` tokens times `scale` into a panel of `wide` columns; the rest of the tile becomes 0.
    #[inline(always)]
    fn pack(&self, token: usize, count: usize, dim: usize, scale: f32, panel: &mut [f32], wide: usize) {
        let (filled, rest) = panel[..TILE * wide].split_at_mut(count * wide);
        for (i, line) in filled.chunks_exact_mut(wide).enumerate() {
            let x = self.token(token + i, dim);
            for (y, x) in line.iter_mut().zip(x) {
                *y = x * scale;
            }
            line[dim..].fill(0.0);
        }
        rest.fill(0.0);
    }

    /// Copies `count` tokens into the columns of a panel `[D, TILE]`; the rest becomes 0.
    #[inline(always)]
    fn pack_transposed(&self, token: usize, count: usize, dim: usize, panel: &mut [f32]) {
        if count < TILE {
            panel[..dim * TILE].fill(0.0);
        }
        for i in 0..count {
            let x = self.token(token + i, dim);
            for (d, x) in x.iter().enumerate() {
                panel[d * TILE + i] = *x;
            }
        }
    }
}

/// `[q, k, v, cu_seqlens, row_numbers] → [o, lse]`.
///
/// A task is one tile of queries of one head; it goes through the tiles of keys in order.
pub fn attention(pool: &Pool, call: &mut Call<'_, '_>, attributes: &Attention) -> Result<(), OpError> {
    let [q, k, v, cu, numbers] = call.inputs else { unreachable!("operands are checked") };
    let job = Job::new(attributes, cu.i32(), numbers.i32(), call.draw, ("attention", q.dims.rows()))?;
    let (q, k, v) = (q.f32(), k.f32(), v.f32());
    let [o, lse] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let (add_o, add_lse) = (adds(o), adds(lse));
    let (o, lse) = (Parts::new(o.f32()), Parts::new(lse.f32()));
    let (tiles, dim, heads) = (job.tiles(), job.dim, job.heads);
    pool.run(job.numbers.len() * heads * tiles, job.work(), |task| {
        let (row, head, tile) = (task / tiles / heads, task / tiles % heads, task % tiles);
        let row = job.row(row);
        let start = tile * TILE;
        if start >= row.len {
            return;
        }
        let count = TILE.min(row.len - start);
        let q = Columns::new(q, heads * dim, head * dim);
        let kv = head / job.group() * dim;
        let (k, v) = (Columns::new(k, job.kv_heads * dim, kv), Columns::new(v, job.kv_heads * dim, kv));
        let size = TILE * (4 * job.wide + TILE + 2);
        scratch(size, |scratch| {
            forward_tile(&job, row, head, start, count, q, k, v, scratch);
            let (sums, rest) = scratch.split_at(TILE * job.wide);
            let logs = &rest[..TILE];
            for i in 0..count {
                let token = row.first + start + i;
                #[allow(unsafe_code)] // tasks write columns of some tokens
                // SAFETY: each task has its own queries and head.
                let (o, lse) =
                    unsafe { (o.get((token * heads + head) * dim, dim), lse.get(token * heads + head, 1)) };
                let sums = &sums[i * job.wide..][..dim];
                put_all(add_o, o, |d| sums[d]);
                put(add_lse, &mut lse[0], logs[i]);
            }
        });
    });
    Ok(())
}

multiversion! {
    /// Leaves o `[TILE, wide]` and lse `[TILE]` at the start of the scratch.
    fn forward_tile[I](job: &Job<'_>, row: Row, head: usize, start: usize, count: usize, q: Columns<'_>, k: Columns<'_>, v: Columns<'_>, scratch: &mut [f32]) {
        let (dim, wide) = (job.dim, job.wide);
        let (o, rest) = scratch.split_at_mut(TILE * wide);
        let (most, rest) = rest.split_at_mut(TILE);
        let (total, rest) = rest.split_at_mut(TILE);
        let (q_panel, rest) = rest.split_at_mut(TILE * wide);
        let (k_panel, rest) = rest.split_at_mut(TILE * wide);
        let (v_panel, scores) = rest.split_at_mut(TILE * wide);
        let m = count.next_multiple_of(8);
        o.fill(0.0);
        most.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        q.pack(row.first + start, count, dim, job.attention.scale as f32, q_panel, wide);
        for keys in (0..start + count).step_by(TILE) {
            if job.hides(start, keys) {
                continue;
            }
            let present = TILE.min(start + count - keys);
            let n = present.next_multiple_of(GRAIN);
            k.pack_transposed(row.first + keys, present, dim, k_panel);
            v.pack(row.first + keys, present, dim, 1.0, v_panel, wide);
            scores[..m * TILE].fill(0.0);
            multiply::<I>((m, n, dim), Panel::rows(q_panel, wide), k_panel, TILE, scores, TILE);
            for i in 0..count {
                let query = start + i;
                let (from, to) = job.seen(query, keys);
                let line = &mut scores[i * TILE..][..TILE];
                if from >= to {
                    line.fill(0.0);
                    continue;
                }
                bias::<I>(job, head, query, keys + from, &mut line[from..to], None);
                let new = max(&line[from..to]);
                let new = if new > most[i] { new } else { most[i] };
                let shrink = exp::<I>(most[i] - new);
                for s in line[from..to].iter_mut() {
                    *s = exp::<I>(*s - new);
                }
                line[..from].fill(0.0);
                line[to..].fill(0.0);
                total[i] = I::fma(total[i], shrink, sum(line));
                most[i] = new;
                if shrink != 1.0 {
                    for o in o[i * wide..][..wide].iter_mut() {
                        *o *= shrink;
                    }
                }
                if job.attention.dropout.is_some() {
                    let mask = drop_mask::<I>(job, row, head, query, keys);
                    for (p, mask) in line.iter_mut().zip(&mask) {
                        *p *= mask;
                    }
                }
            }
            multiply::<I>((m, wide, n), Panel::rows(scores, TILE), v_panel, wide, o, wide);
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

/// Applies softcap and slope to the scores of keys from `first`; `caps` takes the derivative of the cap.
#[inline(always)]
fn bias<I: Isa>(
    job: &Job<'_>,
    head: usize,
    query: usize,
    first: usize,
    scores: &mut [f32],
    caps: Option<&mut [f32]>,
) {
    if let Some(cap) = job.attention.softcap {
        let cap = cap as f32;
        for s in scores.iter_mut() {
            *s = tanh::<I>(*s / cap);
        }
        if let Some(caps) = caps {
            for (c, s) in caps.iter_mut().zip(scores.iter()) {
                *c = 1.0 - s * s;
            }
        }
        for s in scores.iter_mut() {
            *s *= cap;
        }
    }
    if let Some(slopes) = &job.attention.alibi {
        let slope = slopes[head];
        let offset = first as f32 - query as f32;
        for (j, s) in scores.iter_mut().enumerate() {
            *s = I::fma(slope, offset + j as f32, *s);
        }
    }
}

/// Returns the factors of TILE probabilities from `keys`: 1 without dropout.
#[inline(always)]
fn drop_mask<I: Isa>(job: &Job<'_>, row: Row, head: usize, query: usize, keys: usize) -> [f32; TILE] {
    let mut mask = [1.0; TILE];
    if let Some(dropout) = job.attention.dropout {
        keep::<I>(job.key, [(keys / 4) as u32, query as u32, row.number, head as u32], dropout.p, &mut mask);
    }
    mask
}

/// `[do, q, k, v, o, lse, cu_seqlens, row_numbers] → [dq, dk, dv]`.
///
/// A task is one key-value head of one row: for each tile of keys it goes through the heads of the group
/// and their tiles of queries in order. Δ = Σ do·o of each token and head lies in the workspace.
pub fn attention_grad(pool: &Pool, call: &mut Call<'_, '_>, attributes: &Attention) -> Result<(), OpError> {
    let [d_o, q, k, v, o, lse, cu, numbers] = call.inputs else { unreachable!("operands are checked") };
    let tokens = q.dims.rows();
    let job = Job::new(attributes, cu.i32(), numbers.i32(), call.draw, ("attention_grad", tokens))?;
    let (heads, kv_heads, dim) = (job.heads, job.kv_heads, job.dim);
    let (d_o, q, k, v, o, lse) = (d_o.f32(), q.f32(), k.f32(), v.f32(), o.f32(), lse.f32());
    let deltas = workspace(call.kind, call.workspace, tokens * heads)?;
    pool.blocks(deltas, TILE * heads, 2 * q.len(), |block, deltas| {
        let at = block * TILE * heads * dim;
        let len = deltas.len() * dim;
        dots(&d_o[at..][..len], &o[at..][..len], dim, deltas);
    });
    let deltas = &*deltas;
    let [dq, dk, dv] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let adds = (adds(dq), adds(dk), adds(dv));
    let (dq, dk, dv) = (Parts::new(dq.f32()), Parts::new(dk.f32()), Parts::new(dv.f32()));
    pool.run(job.numbers.len() * kv_heads, 3 * job.work(), |task| {
        let (row, kv_head) = (job.row(task / kv_heads), task % kv_heads);
        let (k, v) =
            (Columns::new(k, kv_heads * dim, kv_head * dim), Columns::new(v, kv_heads * dim, kv_head * dim));
        let grads = Slopes { dq: &dq, dk: &dk, dv: &dv, adds };
        let of_row = Backward { d_o, q, k, v, lse, deltas, kv_head };
        scratch(8 * TILE * job.wide + 2 * TILE * TILE + TILE, |scratch| {
            backward_row(&job, row, of_row, grads, scratch);
        });
    });
    Ok(())
}

multiversion! {
    fn dots[I](a: &[f32], b: &[f32], dim: usize, y: &mut [f32]) {
        for ((a, b), y) in a.chunks_exact(dim).zip(b.chunks_exact(dim)).zip(y) {
            *y = dot::<I>(a, b);
        }
    }
}

/// What the gradient of one key-value head reads.
#[derive(Clone, Copy)]
struct Backward<'a> {
    d_o: &'a [f32],
    q: &'a [f32],
    k: Columns<'a>,
    v: Columns<'a>,
    lse: &'a [f32],
    deltas: &'a [f32],
    kv_head: usize,
}

/// What it writes, and whether it adds.
#[derive(Clone, Copy)]
struct Slopes<'a> {
    dq: &'a Parts<'a, f32>,
    dk: &'a Parts<'a, f32>,
    dv: &'a Parts<'a, f32>,
    adds: (bool, bool, bool),
}

impl Slopes<'_> {
    /// Returns dq of one token and head.
    #[allow(unsafe_code)] // tasks write columns of some tokens
    fn dq(&self, job: &Job<'_>, token: usize, head: usize) -> &mut [f32] {
        // SAFETY: a task has its own row and group of heads; it holds one of these at a time.
        unsafe { self.dq.get((token * job.heads + head) * job.dim, job.dim) }
    }

    /// Writes dk and dv of one token.
    #[inline(always)]
    fn put_kv(&self, job: &Job<'_>, token: usize, kv_head: usize, dk: &[f32], dv: &[f32]) {
        let at = (token * job.kv_heads + kv_head) * job.dim;
        #[allow(unsafe_code)] // tasks write columns of some tokens
        // SAFETY: a task has its own row and key-value head.
        let (to_k, to_v) = unsafe { (self.dk.get(at, job.dim), self.dv.get(at, job.dim)) };
        put_all(self.adds.1, to_k, |d| dk[d]);
        put_all(self.adds.2, to_v, |d| dv[d]);
    }
}

multiversion! {
    fn backward_row[I](job: &Job<'_>, row: Row, of: Backward<'_>, to: Slopes<'_>, scratch: &mut [f32]) {
        let (dim, wide) = (job.dim, job.wide);
        let (k_across, rest) = scratch.split_at_mut(TILE * wide);
        let (v_across, rest) = rest.split_at_mut(TILE * wide);
        let (k_panel, rest) = rest.split_at_mut(TILE * wide);
        let (dk, rest) = rest.split_at_mut(TILE * wide);
        let (dv, rest) = rest.split_at_mut(TILE * wide);
        let (q_panel, rest) = rest.split_at_mut(TILE * wide);
        let (do_panel, rest) = rest.split_at_mut(TILE * wide);
        let (dq, rest) = rest.split_at_mut(TILE * wide);
        let (scores, rest) = rest.split_at_mut(TILE * TILE);
        let (slopes, caps) = rest.split_at_mut(TILE * TILE);
        let heads = of.kv_head * job.group()..(of.kv_head + 1) * job.group();
        let scale = job.attention.scale as f32;
        if !to.adds.0 {
            for token in row.first..row.first + row.len {
                for head in heads.clone() {
                    to.dq(job, token, head).fill(0.0);
                }
            }
        }
        for keys in (0..row.len).step_by(TILE) {
            let present = TILE.min(row.len - keys);
            let n = present.next_multiple_of(8);
            of.k.pack_transposed(row.first + keys, present, dim, k_across);
            of.v.pack_transposed(row.first + keys, present, dim, v_across);
            of.k.pack(row.first + keys, present, dim, 1.0, k_panel, wide);
            dk.fill(0.0);
            dv.fill(0.0);
            for head in heads.clone() {
                let q = Columns::new(of.q, job.heads * dim, head * dim);
                let d_o = Columns::new(of.d_o, job.heads * dim, head * dim);
                for start in (keys..row.len).step_by(TILE) {
                    if job.hides(start, keys) {
                        break;
                    }
                    let count = TILE.min(row.len - start);
                    let m = count.next_multiple_of(8);
                    q.pack(row.first + start, count, dim, scale, q_panel, wide);
                    d_o.pack(row.first + start, count, dim, 1.0, do_panel, wide);
                    scores[..m * TILE].fill(0.0);
                    slopes[..m * TILE].fill(0.0);
                    multiply::<I>((m, n, dim), Panel::rows(q_panel, wide), k_across, TILE, scores, TILE);
                    multiply::<I>((m, n, dim), Panel::rows(do_panel, wide), v_across, TILE, slopes, TILE);
                    for i in 0..count {
                        let (query, at) = (start + i, (row.first + start + i) * job.heads + head);
                        let line = (&mut scores[i * TILE..][..TILE], &mut slopes[i * TILE..][..TILE]);
                        slope_line::<I>(job, row, (head, query, keys), (of.lse[at], of.deltas[at]), line, &mut caps[..TILE]);
                    }
                    multiply::<I>((n, wide, count), Panel::columns(scores, TILE), do_panel, wide, dv, wide);
                    multiply::<I>((n, wide, count), Panel::columns(slopes, TILE), q_panel, wide, dk, wide);
                    dq[..m * wide].fill(0.0);
                    multiply::<I>((m, wide, present), Panel::rows(slopes, TILE), k_panel, wide, dq, wide);
                    for i in 0..count {
                        let line = &dq[i * wide..][..dim];
                        for (to, dq) in to.dq(job, row.first + start + i, head).iter_mut().zip(line) {
                            *to = I::fma(scale, *dq, *to);
                        }
                    }
                }
            }
            for j in 0..present {
                let (dk, dv) = (&dk[j * wide..][..dim], &dv[j * wide..][..dim]);
                to.put_kv(job, row.first + keys + j, of.kv_head, dk, dv);
            }
        }
    }
}

/// Turns a line of scores into probabilities (dropped ones zero, others scaled), and of do·v into the
/// gradients of the scores: p·(mask·do·v − Δ), times the derivative of the cap.
#[inline(always)]
fn slope_line<I: Isa>(
    job: &Job<'_>,
    row: Row,
    (head, query, keys): (usize, usize, usize),
    (lse, delta): (f32, f32),
    (scores, slopes): (&mut [f32], &mut [f32]),
    caps: &mut [f32],
) {
    let (from, to) = job.seen(query, keys);
    let capped = job.attention.softcap.is_some();
    bias::<I>(job, head, query, keys + from, &mut scores[from..to], capped.then_some(&mut caps[from..to]));
    for s in scores[from..to].iter_mut() {
        *s = exp::<I>(*s - lse);
    }
    scores[..from].fill(0.0);
    scores[to..].fill(0.0);
    let mask = drop_mask::<I>(job, row, head, query, keys);
    for ((p, slope), mask) in scores.iter_mut().zip(slopes.iter_mut()).zip(&mask) {
        *slope = *p * I::fma(*slope, *mask, -delta);
        *p *= mask;
    }
    if capped {
        for (slope, cap) in slopes[from..to].iter_mut().zip(&caps[from..to]) {
            *slope *= cap;
        }
    }
}
