//! The gradient of attention.

use super::lines::Head;
use super::rows::{Job, Row};
use super::tile::{Tile, vector};
use super::{KEYS, QUERIES, put_head};
use crate::backend::{Call, OpError};
use crate::cpu::float::{Floats, OutParts};
use crate::cpu::pool::{Parts, Pool, scratch, stage};
use crate::cpu::product::{Panel, ROWS, Seen, To, multiply};
use crate::cpu::simd::{LANES, dot, multiversion, put_all};
use crate::cpu::{adds, workspace};
use plan::op::Attention;
use std::ops::Range;

/// Tokens of one task that adds up heads.
const BLOCK: usize = 64;

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
