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
mod gradient;
mod lines;
mod rows;
mod tile;

pub use gradient::attention_grad;

use super::adds;
use super::float::{OutParts, round_scaled};
use super::pool::{Parts, Pool, scratch};
use super::product::{Panel, ROWS, Seen, To, multiply};
use super::simd::{LANES, multiversion, put, put_scaled};
use crate::backend::{Call, OpError};
use lines::Head;
use plan::op::Attention;
use rows::{Job, Row};
use tile::{Tile, vector};

/// Queries of a tile: as many as keep its scores in the second cache, so that keys are packed seldom.
const QUERIES: usize = 128;

/// Keys of a tile.
const KEYS: usize = 64;

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
