//! The output head: projection to the vocabulary, log-softmax and their gradients in one pass.
//!
//! Shapes: N tokens, T trained tokens, H hidden_size, V vocab_size, C ≤ `head_chunk` tokens of a chunk.
//! Logits exist for one chunk at a time, in the workspace; their gradient overwrites them. Hidden rows
//! of trained tokens are gathered first, so the others cost nothing.
//!
//! Logits lie as [V, C], a row for each word of the vocabulary: the weights are then read where they lie, and
//! sums over the vocabulary run down columns, in registers. A task has a block of the vocabulary and does all
//! there is to do with it while it is in the cache.

use super::float::{Floats, FloatsMut, round};
use super::gemm::{Finish, Matrix, Packed, Right, Shape, gemm_alone};
use super::pool::{Parts, Pool};
use super::simd::{dots_pairs, exp, multiversion, put};
use super::{adds, workspace};
use crate::backend::{Call, OpError};
use crate::check::check_index;
use crate::view::{View, ViewMut};
use half::bf16;
use plan::blocks::packed_words;
use plan::op::{OpKind, head_block, head_chunk, head_groups};
use std::ops::Range;

/// What all head ops read.
#[derive(Clone, Copy)]
struct Head<'a> {
    h: Floats<'a>,
    w: Floats<'a>,
    index: &'a [i32],
    labels: &'a [i32],
    hidden: usize,
    vocab: usize,
    /// Tokens of a chunk.
    chunk: usize,
    /// Whether gradients of logits are rounded to bf16, which the machine multiplies faster than f32.
    pairs: bool,
}

/// Scratch for one chunk of C tokens.
struct Chunk<'a> {
    /// `[C, H]` in the format of h
    hidden: &'a mut [f32],
    /// These rows packed, as columns and as rows of a product; the latter empty without gradients.
    columns: &'a mut [f32],
    rows: &'a mut [f32],
    /// `[V, C]`; of a block whose sums are known e^(z − m).
    logits: &'a mut [f32],
    /// For each block of the vocabulary `[C]`: the largest logit m, and Σ e^(z − m).
    most: &'a mut [f32],
    sums: &'a mut [f32],
    /// `[C]`: the logit of each token's label.
    chosen: &'a mut [f32],
    /// `[C]`
    lse: &'a mut [f32],
    /// `[C]`: what the softmax is multiplied by.
    slopes: &'a mut [f32],
    /// For each group of blocks `[C, H]`, its part of dh; empty without gradients.
    dhidden: &'a mut [f32],
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
            chunk: head_chunk(op) as usize,
            pairs: matches!(w.floats(), Floats::Bf16(_)) && dots_pairs(),
        })
    }

    /// Returns the number of blocks of the vocabulary.
    fn blocks(&self) -> usize {
        head_groups(self.vocab as u64).0 as usize
    }

    /// Blocks of a group, and the number of groups.
    fn groups(&self) -> (usize, usize) {
        let (_, each, groups) = head_groups(self.vocab as u64);
        (each as usize, groups as usize)
    }

    /// Words of the vocabulary in a block.
    fn words(&self, block: usize) -> Range<usize> {
        let size = head_block(self.vocab as u64) as usize;
        block * size..self.vocab.min((block + 1) * size)
    }

    /// Divides the workspace as `plan::op::head_workspace` counts it.
    fn scratch<'b>(&self, op: &OpKind, bytes: &'b mut [u8], grads: bool) -> Result<Chunk<'b>, OpError> {
        let tokens = self.index.len().min(self.chunk);
        let (blocks, groups) = (self.blocks(), if grads { self.groups().1 } else { 0 });
        let each = [self.hidden, self.vocab, blocks, blocks, 1, 1, 1, groups * self.hidden];
        let [hidden, logits, most, sums, chosen, lse, slopes, dhidden] = each.map(|each| tokens * each);
        let columns = packed_words(tokens, self.hidden);
        let rows = if grads { packed_words(self.hidden, tokens) } else { 0 };
        // Panels first: they begin at lines of the caches.
        let sizes = [columns, rows, hidden, logits, most, sums, chosen, lse, slopes, dhidden];
        let mut rest = workspace(op, bytes, sizes.iter().sum())?;
        let [columns, rows, hidden, logits, most, sums, chosen, lse, slopes, dhidden] = sizes.map(|size| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(size);
            rest = others;
            part
        });
        Ok(Chunk { hidden, columns, rows, logits, most, sums, chosen, lse, slopes, dhidden })
    }

    /// Gathers the hidden rows of tokens.
    fn gather(&self, index: &[i32], buffer: &mut [f32]) {
        let size = self.hidden;
        let from = |token: &i32| *token as usize * size..(*token as usize + 1) * size;
        match self.h {
            Floats::F32(h) => {
                for (row, token) in buffer.chunks_exact_mut(size).zip(index) {
                    row.copy_from_slice(&h[from(token)]);
                }
            }
            Floats::Bf16(h) => {
                let buffer: &mut [bf16] = bytemuck::cast_slice_mut(buffer);
                for (row, token) in buffer.chunks_exact_mut(size).zip(index) {
                    row.copy_from_slice(&h[from(token)]);
                }
            }
        }
    }

    /// Views the gathered rows.
    fn gathered<'b>(&self, buffer: &'b [f32]) -> Matrix<'b> {
        let floats = match self.h {
            Floats::F32(_) => Floats::F32(buffer),
            Floats::Bf16(_) => Floats::Bf16(bytemuck::cast_slice(buffer)),
        };
        Matrix::rows(floats, self.hidden)
    }

    /// Projects trained tokens `first..` to the vocabulary and sums their exponentials; returns their number.
    fn project(&self, pool: &Pool, first: usize, chunk: &mut Chunk<'_>) -> usize {
        let index = &self.index[first..self.index.len().min(first + self.chunk)];
        let count = index.len();
        self.gather(index, chunk.hidden);
        let hidden = self.gathered(chunk.hidden).transposed();
        let words = bytemuck::cast_slice_mut(chunk.columns);
        let hidden = Packed::new(pool, hidden, [count, self.hidden], self.pairs, words);
        let (logits, most, sums) = (Parts::new(chunk.logits), Parts::new(chunk.most), Parts::new(chunk.sums));
        let (labels, chosen) = (&self.labels[first..first + count], Parts::new(chunk.chosen));
        let blocks = self.blocks();
        pool.run(blocks, count * self.vocab * self.hidden / 8, |block| {
            let words = self.words(block);
            #[allow(unsafe_code)] // tasks write blocks of three slices
            // SAFETY: the parts of a block are of this task alone.
            let (logits, most, sums) = unsafe {
                let logits = logits.get(words.start * count, words.len() * count);
                (logits, most.get(block * count, count), sums.get(block * count, count))
            };
            let w = Matrix::rows(self.w.from(words.start * self.hidden), self.hidden);
            let shape = Shape { m: words.len(), n: count, k: self.hidden };
            gemm_alone(shape, w, Right::Packed(hidden), logits, Finish::default());
            for (token, &label) in labels.iter().enumerate() {
                if words.contains(&(label as usize)) {
                    #[allow(unsafe_code)] // as above
                    // SAFETY: a token's label lies in one block alone.
                    let chosen = unsafe { chosen.get(token, 1) };
                    chosen[0] = logits[(label as usize - words.start) * count + token];
                }
            }
            sum_exps(logits, most, sums);
        });
        for (token, lse) in chunk.lse[..count].iter_mut().enumerate() {
            let of_block =
                |block: usize| (chunk.most[block * count + token], chunk.sums[block * count + token]);
            let most = (0..blocks).map(|block| of_block(block).0).fold(f32::NEG_INFINITY, f32::max);
            let add = |sum: f32, (shift, part): (f32, f32)| sum + part * (shift - most).exp();
            *lse = most + (0..blocks).map(of_block).fold(0.0, add).ln();
        }
        count
    }

    /// Turns the chunk's exponentials into slope·(softmax − one-hot) and spreads that to the trained rows of dh and
    /// to dw. Groups of blocks sum dh on their own; their number follows from the shape alone.
    fn spread(&self, pool: &Pool, first: usize, count: usize, chunk: &mut Chunk<'_>, to: &mut Gradients<'_>) {
        let part = count * self.hidden;
        let (each, groups) = self.groups();
        let (logits, most) = (Parts::new(chunk.logits), Parts::new(chunk.most));
        let dhidden = Parts::new(chunk.dhidden);
        let hidden = to.dw.is_some().then(|| {
            let words = bytemuck::cast_slice_mut(chunk.rows);
            Packed::new(pool, self.gathered(chunk.hidden), [self.hidden, count], self.pairs, words)
        });
        let (lse, slopes) = (&chunk.lse[..count], &chunk.slopes[..count]);
        let dw = to.dw.as_mut().map(|(dw, add)| (Parts::new(dw), std::mem::replace(add, true)));
        pool.run(groups, count * self.vocab * self.hidden / 4, |group| {
            let blocks = group * each..self.blocks().min((group + 1) * each);
            for block in blocks.clone() {
                let words = self.words(block);
                #[allow(unsafe_code)] // tasks write blocks of four slices
                // SAFETY: the parts of a block, and of a group, are of this task alone.
                let (logits, most, dhidden, dw) = unsafe {
                    let dw = dw.as_ref().map(|(dw, add)| {
                        (dw.get(words.start * self.hidden, words.len() * self.hidden), *add)
                    });
                    let logits = logits.get(words.start * count, words.len() * count);
                    (logits, most.get(block * count, count), dhidden.get(group * part, part), dw)
                };
                softmax(logits, most, lse, slopes);
                for (token, &label) in self.labels[first..first + count].iter().enumerate() {
                    if words.contains(&(label as usize)) {
                        logits[(label as usize - words.start) * count + token] -= slopes[token];
                    }
                }
                let dz = Matrix::rows(if self.pairs { compress(logits) } else { Floats::F32(logits) }, count);
                if let (Some((dw, add)), Some(hidden)) = (dw, hidden) {
                    let shape = Shape { m: words.len(), n: self.hidden, k: count };
                    gemm_alone(shape, dz, Right::Packed(hidden), dw, Finish { add, bias: None });
                }
                let w = Matrix::rows(self.w.from(words.start * self.hidden), self.hidden);
                let shape = Shape { m: count, n: self.hidden, k: words.len() };
                let finish = Finish { add: block > blocks.start, bias: None };
                gemm_alone(shape, dz.transposed(), Right::Lies(w), dhidden, finish);
            }
        });
        let (sum, others) = chunk.dhidden[..groups * part].split_at_mut(part);
        pool.blocks(sum, 1 << 12, groups * part / 4, |block, sum| {
            for other in others.chunks_exact(part) {
                add_to(sum, &other[block << 12..][..sum.len()]);
            }
        });
        for (row, &token) in sum.chunks_exact(self.hidden).zip(&self.index[first..]) {
            // A token may come again, so rows are added to zeros or to what was there.
            to.dh.put(token as usize * self.hidden, row, true);
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
    let (loss, gradients) = call.outputs.split_first_mut().expect("operands are checked");
    let mut gradients = Gradients::new(pool, gradients, head.index.len());
    let mut chunk = head.scratch(call.kind, call.workspace, gradients.is_some())?;
    let mut total = 0.0;
    for first in (0..head.index.len()).step_by(head.chunk) {
        let count = head.project(pool, first, &mut chunk);
        let of_token = |token| f64::from(chunk.lse[token] - chunk.chosen[token]);
        total += (0..count).map(of_token).sum::<f64>();
        if let Some(gradients) = &mut gradients {
            chunk.slopes[..count].fill(scale);
            head.spread(pool, first, count, &mut chunk, gradients);
        }
    }
    let add = adds(loss);
    put(add, &mut loss.f32()[0], (f64::from(scale) * total) as f32);
    Ok(())
}

/// `[h, w, trained_index, trained_labels] → [logprob [T], lse [T]]`.
pub fn logprobs(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let head = Head::new(call.kind, &call.inputs[..4])?;
    let mut chunk = head.scratch(call.kind, call.workspace, false)?;
    let [logprob, lse] = &mut call.outputs[..] else { unreachable!("operands are checked") };
    let (add_logprob, add_lse) = (adds(logprob), adds(lse));
    let (logprob, lse) = (logprob.f32(), lse.f32());
    for first in (0..head.index.len()).step_by(head.chunk) {
        let count = head.project(pool, first, &mut chunk);
        for token in 0..count {
            let (all, chosen) = (chunk.lse[token], chunk.chosen[token]);
            put(add_logprob, &mut logprob[first + token], chosen - all);
            put(add_lse, &mut lse[first + token], all);
        }
    }
    Ok(())
}

/// `[dlogprob, h, w, trained_index, trained_labels, lse] → [dh, dw?]`: dz = dlogprob·(one-hot − softmax).
pub fn logprobs_grad(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let head = Head::new(call.kind, &call.inputs[1..5])?;
    let dlogprob = call.inputs[0].f32();
    let mut chunk = head.scratch(call.kind, call.workspace, true)?;
    let mut gradients = Gradients::new(pool, call.outputs, head.index.len()).expect("operands are checked");
    for first in (0..head.index.len()).step_by(head.chunk) {
        let count = head.project(pool, first, &mut chunk);
        for (slope, dlogprob) in chunk.slopes.iter_mut().zip(&dlogprob[first..first + count]) {
            *slope = -dlogprob;
        }
        head.spread(pool, first, count, &mut chunk, &mut gradients);
    }
    Ok(())
}

multiversion! {
    /// Computes for each column of z its largest element m, turns it into e^(z − m), and sums that.
    fn sum_exps[I](z: &mut [f32], most: &mut [f32], sums: &mut [f32]) {
        most.fill(f32::NEG_INFINITY);
        for row in z.chunks_exact(most.len()) {
            for (most, z) in most.iter_mut().zip(row) {
                *most = if *z > *most { *z } else { *most };
            }
        }
        sums.fill(0.0);
        for row in z.chunks_exact_mut(most.len()) {
            for ((sum, most), z) in sums.iter_mut().zip(&*most).zip(row) {
                *z = exp::<I>(*z - most);
                *sum += *z;
            }
        }
    }
}

multiversion! {
    /// Turns each row of e^(z − m) into e^(z − lse)·slope, and m into the factor between the two.
    fn softmax[I](z: &mut [f32], most: &mut [f32], lse: &[f32], slopes: &[f32]) {
        for ((most, lse), slope) in most.iter_mut().zip(lse).zip(slopes) {
            *most = exp::<I>(*most - lse) * slope;
        }
        for row in z.chunks_exact_mut(most.len()) {
            for (z, factor) in row.iter_mut().zip(&*most) {
                *z *= factor;
            }
        }
    }
}

multiversion! {
    fn add_to[I](sum: &mut [f32], x: &[f32]) {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    }
}

/// Rounds numbers to bf16 where they lie; they end up in the first half.
fn compress(x: &mut [f32]) -> Floats<'_> {
    const PART: usize = 64;
    let len = x.len();
    for at in (0..len).step_by(PART) {
        // What is written lies before what has not been read yet.
        let mut part = [0.0; PART];
        let count = PART.min(len - at);
        part[..count].copy_from_slice(&x[at..at + count]);
        round(&part[..count], &mut bytemuck::cast_slice_mut(x)[at..at + count], false);
    }
    Floats::Bf16(&bytemuck::cast_slice(x)[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_where_they_lie() {
        let mut x: Vec<f32> = (0..1000).map(|i| 1.0 / (i as f32 + 0.3)).collect();
        let expected: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let Floats::Bf16(rounded) = compress(&mut x) else { panic!("not rounded") };
        assert_eq!(rounded, expected);
    }

    const HIDDEN: usize = 20;
    const VOCAB: usize = 3500;

    /// Loss, dh and dw, in f64 and one token after another.
    fn naive(h: &[f32], w: &[f32], index: &[i32], labels: &[i32], scale: f64) -> (f64, Vec<f64>, Vec<f64>) {
        let (mut loss, mut dh, mut dw) = (0.0, vec![0.0; h.len()], vec![0.0; w.len()]);
        for (&token, &label) in index.iter().zip(labels) {
            let h = &h[token as usize * HIDDEN..][..HIDDEN];
            let dot = |w: &[f32]| h.iter().zip(w).map(|(h, w)| f64::from(*h) * f64::from(*w)).sum::<f64>();
            let z: Vec<f64> = w.chunks_exact(HIDDEN).map(dot).collect();
            let lse = z.iter().map(|z| z.exp()).sum::<f64>().ln();
            loss += scale * (lse - z[label as usize]);
            for (word, z) in z.iter().enumerate() {
                let dz = scale * ((z - lse).exp() - f64::from(word == label as usize));
                for i in 0..HIDDEN {
                    dh[token as usize * HIDDEN + i] += dz * f64::from(w[word * HIDDEN + i]);
                    dw[word * HIDDEN + i] += dz * f64::from(h[i]);
                }
            }
        }
        (loss, dh, dw)
    }

    /// Two chunks, a token that comes twice, blocks and groups that do not fill the vocabulary; f32, bf16
    /// widened, and bf16 whose gradients of logits are rounded for the instruction of pairs.
    #[test]
    fn loss_and_gradients_are_those_of_each_token() {
        let numbers = |len: usize, scale: f32| -> Vec<f32> {
            (0..len)
                .map(|i| bf16::from_f32(((i * 7919 % 1009) as f32 / 504.5 - 1.0) * scale).to_f32())
                .collect()
        };
        let (h, w) = (numbers(1100 * HIDDEN, 1.0), numbers(VOCAB * HIDDEN, 0.5));
        let index: Vec<i32> = (0..1000).map(|token| if token == 999 { 3 } else { token }).collect();
        let labels: Vec<i32> = (0..1000).map(|token| token * 31 % VOCAB as i32).collect();
        let (loss, dh, dw) = naive(&h, &w, &index, &labels, 0.01);
        let halves = |x: &[f32]| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
        let (hh, wh) = (halves(&h), halves(&w));
        let pool = Pool::new(2);
        // A sum of 768 products beside one of about 1 loses about √768 halves of its last bit.
        for (h, w, pairs, within) in [
            (Floats::F32(&h), Floats::F32(&w), false, 3e-6),
            (Floats::Bf16(&hh), Floats::Bf16(&wh), false, 3e-6),
            (Floats::Bf16(&hh), Floats::Bf16(&wh), true, 4e-3),
        ] {
            let head = Head {
                h,
                w,
                index: &index,
                labels: &labels,
                hidden: HIDDEN,
                vocab: VOCAB,
                chunk: 768,
                pairs,
            };
            let op = OpKind::LmHeadLoss { grads: plan::op::HeadGrads::HiddenAndWeight };
            let need = plan::op::head_workspace(&op, 1000, HIDDEN as u64, VOCAB as u64, true) as usize;
            let mut words = vec![f32::NAN; need];
            let mut chunk = head.scratch(&op, bytemuck::cast_slice_mut(&mut words), true).expect("enough");
            let (mut got_dh, mut got_dw) = (vec![0.0; dh.len()], vec![f32::NAN; dw.len()]);
            let mut to = Gradients { dh: FloatsMut::F32(&mut got_dh), dw: Some((&mut got_dw, false)) };
            let mut got = 0.0;
            for first in [0, head.chunk] {
                let count = head.project(&pool, first, &mut chunk);
                let of_token = |t| f64::from(chunk.lse[t] - chunk.chosen[t]);
                got += 0.01 * (0..count).map(of_token).sum::<f64>();
                chunk.slopes[..count].fill(0.01);
                head.spread(&pool, first, count, &mut chunk, &mut to);
            }
            assert!((got - loss).abs() < 1e-6 * loss, "{got} is not {loss}");
            for (name, got, expected) in [("dh", &got_dh, &dh), ("dw", &got_dw, &dw)] {
                let most = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                let off =
                    got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(off < within * most, "{name}, pairs {pairs}: {off} of {most}");
            }
        }
    }
}
