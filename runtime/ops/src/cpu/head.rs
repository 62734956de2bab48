//! The output head: projection to the vocabulary, log-softmax and their gradients in one pass.
//!
//! Shapes: N tokens, T trained tokens, H hidden_size, V vocab_size, C ≤ `HEAD_CHUNK` tokens of a chunk.
//! Logits exist for one chunk at a time, in the workspace; their gradient overwrites them. Hidden rows
//! of trained tokens are gathered first, so the others cost nothing.

use super::float::{Floats, FloatsMut};
use super::gemm::{Finish, Matrix, Shape, gemm};
use super::pool::{Parts, Pool};
use super::simd::{Isa, LANES, exp, fold, max, multiversion, put};
use super::{adds, workspace};
use crate::backend::{Call, OpError};
use crate::check::check_index;
use crate::view::{View, ViewMut};
use plan::op::{HEAD_CHUNK, OpKind};

/// Tokens of a chunk.
const CHUNK: usize = HEAD_CHUNK as usize;

/// Rows of one task.
const ROWS: usize = 8;

/// What all head ops read.
#[derive(Clone, Copy)]
struct Head<'a> {
    h: Floats<'a>,
    w: Floats<'a>,
    index: &'a [i32],
    labels: &'a [i32],
    hidden: usize,
    vocab: usize,
}

/// Scratch for one chunk.
struct Chunk<'a> {
    /// `[C, H]`
    hidden: &'a mut [f32],
    /// `[C, H]`
    dhidden: &'a mut [f32],
    /// `[C, V]`
    logits: &'a mut [f32],
}

impl<'a> Head<'a> {
    /// Takes `h, w, trained_index, trained_labels`.
    fn new(op: &OpKind, inputs: &[View<'a>]) -> Result<Self, OpError> {
        let [h, w, index, labels] = inputs else { unreachable!("operands are checked") };
        check_index(op.name(), "trained_index", index.i32(), h.dims.rows())?;
        check_index(op.name(), "trained_labels", labels.i32(), w.dims.rows())?;
        Ok(Head {
            h: h.floats(),
            w: w.floats(),
            index: index.i32(),
            labels: labels.i32(),
            hidden: w.dims.columns(),
            vocab: w.dims.rows(),
        })
    }

    fn scratch<'b>(&self, op: &OpKind, bytes: &'b mut [u8]) -> Result<Chunk<'b>, OpError> {
        let rows = self.index.len().min(CHUNK);
        let all = workspace(op, bytes, rows * (self.vocab + 2 * self.hidden))?;
        let (logits, rest) = all.split_at_mut(rows * self.vocab);
        let (hidden, dhidden) = rest.split_at_mut(rows * self.hidden);
        Ok(Chunk { hidden, dhidden, logits })
    }

    /// Gathers the hidden rows of trained tokens `first..` and projects them; returns their number.
    fn project(&self, pool: &Pool, first: usize, chunk: &mut Chunk<'_>) -> usize {
        let index = &self.index[first..self.index.len().min(first + CHUNK)];
        let hidden = &mut chunk.hidden[..index.len() * self.hidden];
        for (row, &token) in hidden.chunks_exact_mut(self.hidden).zip(index) {
            self.h.copy_to(token as usize * self.hidden, row);
        }
        let a = Matrix::rows(Floats::F32(hidden), self.hidden);
        let b = Matrix::rows(self.w, self.hidden).transposed();
        let logits = &mut chunk.logits[..index.len() * self.vocab];
        let shape = Shape { m: index.len(), n: self.vocab, k: self.hidden };
        gemm(pool, shape, a, b, FloatsMut::F32(logits), Finish::default());
        index.len()
    }

    /// Spreads the chunk's logit gradients, `[count, V]`, to the trained rows of dh and to dw.
    fn spread(&self, pool: &Pool, first: usize, count: usize, chunk: &mut Chunk<'_>, to: &mut Gradients<'_>) {
        let (logits, hidden) = (&chunk.logits[..count * self.vocab], &chunk.hidden[..count * self.hidden]);
        let dhidden = &mut chunk.dhidden[..count * self.hidden];
        let (dz, w) = (Matrix::rows(Floats::F32(logits), self.vocab), Matrix::rows(self.w, self.hidden));
        let shape = Shape { m: count, n: self.hidden, k: self.vocab };
        gemm(pool, shape, dz, w, FloatsMut::F32(dhidden), Finish::default());
        for (row, &token) in dhidden.chunks_exact(self.hidden).zip(&self.index[first..]) {
            // A token may come again, so rows are added to zeros or to what was there.
            to.dh.put(token as usize * self.hidden, row, true);
        }
        if let Some((dw, add)) = &mut to.dw {
            let x = Matrix::rows(Floats::F32(hidden), self.hidden);
            let shape = Shape { m: self.vocab, n: self.hidden, k: count };
            let finish = Finish { add: *add, bias: None };
            gemm(pool, shape, dz.transposed(), x, FloatsMut::F32(dw), finish);
            *add = true;
        }
    }
}

/// Where gradients go. Chunks after the first add to dw.
struct Gradients<'a> {
    dh: FloatsMut<'a>,
    dw: Option<(&'a mut [f32], bool)>,
}

impl<'a> Gradients<'a> {
    /// Takes `dh, dw?` and clears dh unless it is added to.
    fn new(pool: &Pool, outputs: &'a mut [ViewMut<'_>], trained: usize) -> Option<Self> {
        let (dh, rest) = outputs.split_first_mut()?;
        if !adds(dh) {
            // Zeros are zero bytes in every format.
            let work = dh.bytes.len() / 16;
            pool.blocks(dh.bytes, 1 << 16, work, |_, dh| dh.fill(0));
        }
        let dh = dh.floats();
        let dw = rest.first_mut().map(|dw| {
            let add = adds(dw);
            let dw = dw.f32();
            if trained == 0 && !add {
                dw.fill(0.0);
            }
            (dw, add)
        });
        Some(Gradients { dh, dw })
    }
}

/// `[h, w, trained_index, trained_labels, scale?] → [loss [1], dh?, dw?]`.
pub fn loss(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let head = Head::new(call.kind, &call.inputs[..4])?;
    let scale = call.inputs.get(4).map_or(1.0, |scale| scale.f32()[0]);
    let mut chunk = head.scratch(call.kind, call.workspace)?;
    let (loss, gradients) = call.outputs.split_first_mut().expect("operands are checked");
    let mut gradients = Gradients::new(pool, gradients, head.index.len());
    let slope = gradients.as_ref().map(|_| scale);
    let mut total = 0.0;
    for first in (0..head.index.len()).step_by(CHUNK) {
        let count = head.project(pool, first, &mut chunk);
        let labels = &head.labels[first..][..count];
        // Each row leaves its loss in the scratch of dh, which is not in use yet.
        let losses = &mut chunk.dhidden[..count];
        let logits = &mut chunk.logits[..count * head.vocab];
        softmax_rows(pool, logits, labels, head.vocab, losses, slope);
        total += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        if let Some(gradients) = &mut gradients {
            head.spread(pool, first, count, &mut chunk, gradients);
        }
    }
    let add = adds(loss);
    put(add, &mut loss.f32()[0], (f64::from(scale) * total) as f32);
    Ok(())
}

/// Turns rows of logits into −logprob of their labels and, with a slope, into slope·(softmax − one-hot).
fn softmax_rows(
    pool: &Pool,
    logits: &mut [f32],
    labels: &[i32],
    vocab: usize,
    losses: &mut [f32],
    slope: Option<f32>,
) {
    let work = 4 * logits.len();
    let losses = Parts::new(losses);
    pool.blocks(logits, ROWS * vocab, work, |block, logits| {
        for (row, logits) in logits.chunks_exact_mut(vocab).enumerate() {
            let row = block * ROWS + row;
            let label = labels[row] as usize;
            let chosen = logits[label];
            let (shift, lse) = log_sum_exp(logits, slope.is_some());
            if let Some(slope) = slope {
                scale_row(logits, slope * (shift - lse).exp());
                logits[label] -= slope;
            }
            #[allow(unsafe_code)] // tasks write rows of two slices
            // SAFETY: `row` is of this task alone.
            let loss = unsafe { losses.get(row, 1) };
            loss[0] = lse - chosen;
        }
    });
}

multiversion! {
    /// Returns the largest element m and log Σ eˣ; with `keep`, elements become e^(x − m).
    fn log_sum_exp[I](x: &mut [f32], keep: bool) -> (f32, f32) {
        let most = max(x);
        let sum = if keep { exp_sum_in_place::<I>(x, most) } else { exp_sum::<I>(x, most) };
        (most, most + sum.ln())
    }
}

#[inline(always)]
fn exp_sum<I: Isa>(x: &[f32], shift: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest = blocks.remainder();
    for x in blocks {
        for i in 0..LANES {
            lanes[i] += exp::<I>(x[i] - shift);
        }
    }
    rest.iter().fold(fold(&lanes), |sum, &x| sum + exp::<I>(x - shift))
}

#[inline(always)]
fn exp_sum_in_place<I: Isa>(x: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut blocks = x.chunks_exact_mut(LANES);
    for x in &mut blocks {
        for i in 0..LANES {
            x[i] = exp::<I>(x[i] - shift);
            lanes[i] += x[i];
        }
    }
    blocks.into_remainder().iter_mut().fold(fold(&lanes), |sum, x| {
        *x = exp::<I>(*x - shift);
        sum + *x
    })
}

multiversion! {
    fn scale_row[I](x: &mut [f32], scale: f32) {
        for x in x {
            *x *= scale;
        }
    }
}

/// `[h, w, trained_index, trained_labels] → [logprob [T], lse [T]]`.
pub fn logprobs(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let head = Head::new(call.kind, &call.inputs[..4])?;
    let mut chunk = head.scratch(call.kind, call.workspace)?;
    let [logprob, lse] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let (add_logprob, add_lse) = (adds(logprob), adds(lse));
    let (logprob, lse) = (logprob.f32(), lse.f32());
    for first in (0..head.index.len()).step_by(CHUNK) {
        let count = head.project(pool, first, &mut chunk);
        let labels = &head.labels[first..][..count];
        let logits = &mut chunk.logits[..count * head.vocab];
        // The gathered rows and the scratch of dh are not in use any more.
        let (chosen, sums) = (&mut chunk.hidden[..count], &mut chunk.dhidden[..count]);
        for (row, chosen) in chosen.iter_mut().enumerate() {
            *chosen = logits[row * head.vocab + labels[row] as usize];
        }
        let vocab = head.vocab;
        let logits = Parts::new(logits);
        pool.blocks(sums, ROWS, 4 * count * vocab, |block, sums| {
            for (row, sum) in sums.iter_mut().enumerate() {
                #[allow(unsafe_code)] // tasks read and write rows of two slices
                // SAFETY: the row is of this task alone.
                let logits = unsafe { logits.get((block * ROWS + row) * vocab, vocab) };
                *sum = log_sum_exp(logits, false).1;
            }
        });
        for row in 0..count {
            put(add_logprob, &mut logprob[first + row], chosen[row] - sums[row]);
            put(add_lse, &mut lse[first + row], sums[row]);
        }
    }
    Ok(())
}

/// `[dlogprob, h, w, trained_index, trained_labels, lse] → [dh, dw?]`: dz = dlogprob·(one-hot − softmax).
pub fn logprobs_grad(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let head = Head::new(call.kind, &call.inputs[1..5])?;
    let (slopes, lse) = (call.inputs[0].f32(), call.inputs[5].f32());
    let mut chunk = head.scratch(call.kind, call.workspace)?;
    let mut gradients = Gradients::new(pool, call.outputs, head.index.len()).expect("operands are checked");
    for first in (0..head.index.len()).step_by(CHUNK) {
        let count = head.project(pool, first, &mut chunk);
        let labels = &head.labels[first..][..count];
        let (slopes, lse) = (&slopes[first..][..count], &lse[first..][..count]);
        let logits = &mut chunk.logits[..count * head.vocab];
        pool.blocks(logits, ROWS * head.vocab, 4 * count * head.vocab, |block, logits| {
            for (row, logits) in logits.chunks_exact_mut(head.vocab).enumerate() {
                let row = block * ROWS + row;
                softmax_of(logits, lse[row], -slopes[row]);
                logits[labels[row] as usize] += slopes[row];
            }
        });
        head.spread(pool, first, count, &mut chunk, &mut gradients);
    }
    Ok(())
}

multiversion! {
    fn softmax_of[I](x: &mut [f32], lse: f32, scale: f32) {
        for x in x {
            *x = exp::<I>(*x - lse) * scale;
        }
    }
}
