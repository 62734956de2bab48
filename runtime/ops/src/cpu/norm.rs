//! RMSNorm and LayerNorm with the residual added in the same pass, and their gradients.
//!
//! Shapes: N tokens, H hidden_size. Rows are summed in f32 over fixed lanes; the gradient of the weight
//! is summed over `REDUCE_ROWS` rows at a time into partial sums in the workspace, then over those.

use super::float::{Floats, OutParts, round_in_place};
use super::linear::sum_rows;
use super::pool::{Pool, stage};
use super::simd::{LANES, fold, multiversion, put, put_all, put_scaled, put_sum};
use super::{adds, workspace};
use crate::backend::{Call, OpError};
use crate::view::ViewMut;
use plan::op::REDUCE_ROWS;

/// Rows of one task.
const ROWS: usize = REDUCE_ROWS as usize;

/// An output that tasks write row by row.
struct Out<'a> {
    parts: OutParts<'a>,
    columns: usize,
    add: bool,
}

impl<'a> Out<'a> {
    fn new(view: &'a mut ViewMut<'_>) -> Self {
        let (columns, add) = (view.dims.columns(), adds(view));
        Out { parts: OutParts::new(view.floats()), columns, add }
    }

    /// Lets a kernel write one row; `buffer` holds a row.
    ///
    /// # Safety
    /// While this runs nobody else writes the row.
    #[allow(unsafe_code)] // tasks write rows of several outputs
    #[inline(always)]
    unsafe fn row(&self, row: usize, buffer: &mut [f32], kernel: impl FnOnce(&mut [f32], bool)) {
        // SAFETY: rows do not overlap, and the caller keeps each to one task.
        unsafe { self.parts.write(row * self.columns, self.columns, self.add, buffer, kernel) }
    }
}

/// `[x, w, residual?] → [y, rstd, h?]`.
pub fn rms(pool: &Pool, call: &mut Call<'_, '_>, eps: f64) -> Result<(), OpError> {
    forward(pool, call, eps, false);
    Ok(())
}

/// `[x, w, b, residual?] → [y, mean, rstd, h?]`.
pub fn layer(pool: &Pool, call: &mut Call<'_, '_>, eps: f64) -> Result<(), OpError> {
    forward(pool, call, eps, true);
    Ok(())
}

fn forward(pool: &Pool, call: &mut Call<'_, '_>, eps: f64, centred: bool) {
    let (n, h) = (call.inputs[0].dims.rows(), call.inputs[0].dims.columns());
    let (x, w) = (call.inputs[0].floats(), call.inputs[1].floats());
    let b = centred.then(|| call.inputs[2].floats());
    let residual = call.inputs.get(if centred { 3 } else { 2 }).map(|view| view.floats());
    let mut outputs = call.outputs.iter_mut().map(Out::new);
    let y = outputs.next().expect("operands are checked");
    let mean = if centred { outputs.next() } else { None };
    let rstd = outputs.next().expect("operands are checked");
    let sums = outputs.next();
    pool.run(n.div_ceil(ROWS), n * h * 4, |task| {
        stage(6 * h, |buffer| {
            let mut buffers = buffer.chunks_exact_mut(h);
            let mut next = || buffers.next().expect("six buffers");
            let w = w.part(0, h, next());
            let b = b.map(|b| b.part(0, h, next()));
            let (x_line, residual_line, sum, out) = (next(), next(), next(), next());
            for row in task * ROWS..n.min(task * ROWS + ROWS) {
                let x = x.part(row * h, h, x_line);
                let mut normed = x;
                if let Some(residual) = residual {
                    put_sum(x, residual.part(row * h, h, residual_line), sum, false);
                    // The gradient reads the sum as it is stored, so that is what is normalised.
                    if matches!(residual, Floats::Bf16(_)) {
                        round_in_place(sum);
                    }
                    normed = sum;
                }
                let mut statistics = (0.0, 0.0);
                #[allow(unsafe_code)] // tasks write rows of several outputs
                // SAFETY: each task has its own rows.
                unsafe {
                    if let Some(sums) = &sums {
                        sums.row(row, out, |y, add| put_scaled(normed, 1.0, y, add));
                    }
                    y.row(row, out, |y, add| statistics = normalise(normed, w, b, eps as f32, y, add));
                    rstd.row(row, out, |y, add| put(add, &mut y[0], statistics.1));
                    if let Some(mean) = &mean {
                        mean.row(row, out, |y, add| put(add, &mut y[0], statistics.0));
                    }
                }
            }
        });
    });
}

multiversion! {
    /// Writes one row of y; returns its mean (0 without `b`) and rstd.
    fn normalise[I](h: &[f32], w: &[f32], b: Option<&[f32]>, eps: f32, y: &mut [f32], add: bool) -> (f32, f32) {
        let columns = y.len();
        let (h, w, count) = (&h[..columns], &w[..columns], columns as f32);
        let mean = if b.is_some() { reduce(h, h, h, |h, _, _, sum| sum + h) / count } else { 0.0 };
        let squares = reduce(h, h, h, |h, _, _, sum| {
            let d = h - mean;
            I::fma(d, d, sum)
        });
        let rstd = 1.0 / (squares / count + eps).sqrt();
        match b {
            Some(b) => {
                let all = w.iter().zip(h).zip(b);
                put_all(add, y, all.map(|((w, h), b)| I::fma(*w, (h - mean) * rstd, *b)));
            }
            None => put_all(add, y, w.iter().zip(h).map(|(w, h)| w * (h * rstd))),
        }
        (mean, rstd)
    }
}

/// Folds `step(a, b, c, sum)` over the elements of three slices of one length, in [`LANES`] lanes.
#[inline(always)]
fn reduce(a: &[f32], b: &[f32], c: &[f32], step: impl Fn(f32, f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, b, c) = (a.chunks_exact(LANES), b.chunks_exact(LANES), c.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).zip(c.remainder());
    for ((a, b), c) in a.zip(b).zip(c) {
        for i in 0..LANES {
            lanes[i] = step(a[i], b[i], c[i], lanes[i]);
        }
    }
    rest.fold(fold(&lanes), |sum, ((a, b), c)| step(*a, *b, *c, sum))
}

/// `[dy, h, w, rstd, dh?] → [dx, dw?]`: with x̂ = h·rstd, dx = rstd·(w·dy − x̂·mean(w·dy·x̂)) + dh, dw = Σ dy·x̂.
pub fn rms_grad(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    backward(pool, call, false)
}

/// `[dy, h, w, mean, rstd, dh?] → [dx, dw?, db?]`: with x̂ = (h − mean)·rstd,
/// dx = rstd·(w·dy − mean(w·dy) − x̂·mean(w·dy·x̂)) + dh, dw = Σ dy·x̂, db = Σ dy.
pub fn layer_grad(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    backward(pool, call, true)
}

fn backward(pool: &Pool, call: &mut Call<'_, '_>, centred: bool) -> Result<(), OpError> {
    let (n, h) = (call.inputs[0].dims.rows(), call.inputs[0].dims.columns());
    let (tasks, kind) = (n.div_ceil(ROWS), call.kind);
    let (dy, sums, w) = (call.inputs[0].floats(), call.inputs[1].floats(), call.inputs[2].floats());
    let mean = centred.then(|| call.inputs[3].f32());
    let rstd = call.inputs[if centred { 4 } else { 3 }].f32();
    let dh = call.inputs.get(if centred { 5 } else { 4 }).map(|view| view.floats());
    // Each task's sums of dy·x̂, and of dy with a mean.
    let width = if centred { 2 * h } else { h };
    let partials = workspace(kind, call.workspace, tasks * width)?;
    let (dx, weights) = call.outputs.split_first_mut().expect("operands are checked");
    let dx = Out::new(dx);
    pool.blocks(partials, width, n * h * 8, |task, partial| {
        partial.fill(0.0);
        let (dw, db) = partial.split_at_mut(h);
        stage(5 * h, |buffer| {
            let mut buffers = buffer.chunks_exact_mut(h);
            let mut next = || buffers.next().expect("five buffers");
            let w = w.part(0, h, next());
            let (dy_line, h_line, dh_line, out) = (next(), next(), next(), next());
            for row in task * ROWS..n.min(task * ROWS + ROWS) {
                let dy = dy.part(row * h, h, dy_line);
                let mean = mean.map(|mean| mean[row]);
                let line = Line { dy, h: sums.part(row * h, h, h_line), w, mean, rstd: rstd[row] };
                let dh = dh.map(|dh| dh.part(row * h, h, dh_line));
                #[allow(unsafe_code)] // tasks write rows
                // SAFETY: each task has its own rows.
                unsafe {
                    dx.row(row, out, |dx, add| {
                        backward_row(line, dx, add, dw);
                        if let Some(dh) = dh {
                            put_scaled(dh, 1.0, dx, true);
                        }
                    });
                }
                if mean.is_some() {
                    put_scaled(dy, 1.0, db, true);
                }
            }
        });
    });
    for (which, output) in weights.iter_mut().enumerate() {
        let add = adds(output);
        let dw = output.f32();
        if !add {
            dw.fill(0.0);
        }
        for partial in partials.chunks_exact(width) {
            sum_rows(&partial[which * h..][..h], dw, true);
        }
    }
    Ok(())
}

/// What the gradient of one row reads.
#[derive(Clone, Copy)]
struct Line<'a> {
    dy: &'a [f32],
    h: &'a [f32],
    w: &'a [f32],
    mean: Option<f32>,
    rstd: f32,
}

multiversion! {
    /// Writes dx of one row and adds dy·x̂ to dw.
    fn backward_row[I](line: Line<'_>, dx: &mut [f32], add: bool, dw: &mut [f32]) {
        let columns = dx.len();
        let (dy, h, w, dw) = (&line.dy[..columns], &line.h[..columns], &line.w[..columns], &mut dw[..columns]);
        let (rstd, mean, count) = (line.rstd, line.mean.unwrap_or(0.0), columns as f32);
        let along = reduce(dy, h, w, |dy, h, w, sum| I::fma(w * dy, (h - mean) * rstd, sum)) / count;
        let level = match line.mean {
            Some(_) => reduce(dy, w, w, |dy, w, _, sum| I::fma(w, dy, sum)) / count,
            None => 0.0,
        };
        let hat = |h: f32| (h - mean) * rstd;
        let slope = |w: f32, dy: f32, h: f32| rstd * (I::fma(w, dy, -level) - hat(h) * along);
        put_all(add, dx, w.iter().zip(dy).zip(h).map(|((w, dy), h)| slope(*w, *dy, *h)));
        for ((dw, dy), h) in dw.iter_mut().zip(dy).zip(h) {
            *dw = I::fma(*dy, hat(*h), *dw);
        }
    }
}
