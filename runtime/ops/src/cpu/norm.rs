//! RMSNorm and LayerNorm with the residual added in the same pass, and their gradients.
//!
//! Shapes: N tokens, H hidden_size. Rows are summed in f32 over fixed lanes; the gradient of the weight
//! is summed over `REDUCE_ROWS` rows at a time into partial sums in the workspace, then over those.

use super::linear::sum_rows;
use super::pool::{Parts, Pool, scratch};
use super::simd::{LANES, fold, multiversion, put, put_all, put_scaled, put_sum};
use super::{adds, workspace};
use crate::backend::{Call, OpError};
use crate::view::ViewMut;
use plan::op::REDUCE_ROWS;

/// Rows of one task.
const ROWS: usize = REDUCE_ROWS as usize;

/// An output of which tasks take rows.
struct Out<'a> {
    parts: Parts<'a, f32>,
    columns: usize,
    add: bool,
}

/// Rows of an output, for one task.
struct Rows<'a> {
    data: &'a mut [f32],
    add: bool,
}

impl<'a> Out<'a> {
    fn new(view: &'a mut ViewMut<'_>) -> Self {
        let (columns, add) = (view.dims.columns(), adds(view));
        Out { parts: Parts::new(view.f32()), columns, add }
    }

    /// Takes the rows of a task.
    ///
    /// # Safety
    /// While the result lives nobody takes rows of the same task.
    #[allow(unsafe_code)] // tasks write rows of several outputs
    unsafe fn rows(&self, first: usize, count: usize) -> Rows<'_> {
        // SAFETY: tasks have rows that do not overlap, and the caller takes them once.
        let data = unsafe { self.parts.get(first * self.columns, count * self.columns) };
        Rows { data, add: self.add }
    }
}

/// What a norm reads of one task's rows.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    w: &'a [f32],
    b: Option<&'a [f32]>,
    eps: f32,
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
    let (x, w) = (call.inputs[0].f32(), call.inputs[1].f32());
    let b = centred.then(|| call.inputs[2].f32());
    let residual = call.inputs.get(if centred { 3 } else { 2 }).map(|view| view.f32());
    let mut outputs = call.outputs.iter_mut().map(Out::new);
    let y = outputs.next().expect("operands are checked");
    let mean = if centred { outputs.next() } else { None };
    let rstd = outputs.next().expect("operands are checked");
    let sums = outputs.next();
    pool.run(n.div_ceil(ROWS), n * h * 4, |task| {
        let (first, count) = (task * ROWS, ROWS.min(n - task * ROWS));
        let input = Input {
            x: &x[first * h..][..count * h],
            residual: residual.map(|r| &r[first * h..][..count * h]),
            w,
            b,
            eps: eps as f32,
        };
        #[allow(unsafe_code)] // tasks write rows of several outputs
        // SAFETY: each task takes its rows of each output once.
        let (y, mean, rstd, sums) = unsafe {
            (
                y.rows(first, count),
                mean.as_ref().map(|mean| mean.rows(first, count)),
                rstd.rows(first, count),
                sums.as_ref().map(|sums| sums.rows(first, count)),
            )
        };
        scratch(h, |line| forward_rows(input, y, mean, rstd, sums, line));
    });
}

/// `line` is scratch for one row.
fn forward_rows(
    input: Input<'_>,
    y: Rows<'_>,
    mut mean: Option<Rows<'_>>,
    rstd: Rows<'_>,
    mut sums: Option<Rows<'_>>,
    line: &mut [f32],
) {
    let columns = input.w.len();
    for row in 0..rstd.data.len() {
        let cut = row * columns..(row + 1) * columns;
        let x = &input.x[cut.clone()];
        let h = match input.residual {
            Some(residual) => {
                put_sum(x, &residual[cut.clone()], line, false);
                &*line
            }
            None => x,
        };
        if let Some(sums) = &mut sums {
            put_scaled(h, 1.0, &mut sums.data[cut.clone()], sums.add);
        }
        let (mu, inverse) = normalise(h, input.w, input.b, input.eps, &mut y.data[cut], y.add);
        put(rstd.add, &mut rstd.data[row], inverse);
        if let Some(mean) = &mut mean {
            put(mean.add, &mut mean.data[row], mu);
        }
    }
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

/// What a gradient reads of one task's rows.
#[derive(Clone, Copy)]
struct Gradient<'a> {
    dy: &'a [f32],
    h: &'a [f32],
    w: &'a [f32],
    mean: Option<&'a [f32]>,
    rstd: &'a [f32],
    dh: Option<&'a [f32]>,
}

fn backward(pool: &Pool, call: &mut Call<'_, '_>, centred: bool) -> Result<(), OpError> {
    let (n, h) = (call.inputs[0].dims.rows(), call.inputs[0].dims.columns());
    let (tasks, kind) = (n.div_ceil(ROWS), call.kind);
    let input = |index: usize| call.inputs[index].f32();
    let (dy, sums, w) = (input(0), input(1), input(2));
    let mean = centred.then(|| input(3));
    let rstd = input(if centred { 4 } else { 3 });
    let dh = call.inputs.get(if centred { 5 } else { 4 }).map(|view| view.f32());
    // Each task's sums of dy·x̂, and of dy with a mean.
    let width = if centred { 2 * h } else { h };
    let partials = workspace(kind, call.workspace, tasks * width)?;
    let parts = Out { parts: Parts::new(partials), columns: width, add: false };
    let (dx, weights) = call.outputs.split_first_mut().expect("operands are checked");
    let dx = Out::new(dx);
    pool.run(tasks, n * h * 8, |task| {
        let (first, count) = (task * ROWS, ROWS.min(n - task * ROWS));
        let gradient = Gradient {
            dy: &dy[first * h..][..count * h],
            h: &sums[first * h..][..count * h],
            w,
            mean: mean.map(|mean| &mean[first..][..count]),
            rstd: &rstd[first..][..count],
            dh: dh.map(|dh| &dh[first * h..][..count * h]),
        };
        #[allow(unsafe_code)] // tasks write rows of several outputs
        // SAFETY: each task takes its rows of each output once.
        let (dx, partial) = unsafe { (dx.rows(first, count), parts.rows(task, 1)) };
        backward_rows(gradient, dx, partial.data);
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

/// `partial` takes the sums over these rows of dy·x̂ and, with a mean, of dy.
fn backward_rows(g: Gradient<'_>, dx: Rows<'_>, partial: &mut [f32]) {
    let columns = g.w.len();
    partial.fill(0.0);
    let (dw, db) = partial.split_at_mut(columns);
    for (row, &rstd) in g.rstd.iter().enumerate() {
        let cut = row * columns..(row + 1) * columns;
        let mean = g.mean.map(|mean| mean[row]);
        let line = Line { dy: &g.dy[cut.clone()], h: &g.h[cut.clone()], w: g.w, mean, rstd };
        backward_row(line, &mut dx.data[cut.clone()], dx.add, dw);
        if let Some(dh) = g.dh {
            put_scaled(&dh[cut.clone()], 1.0, &mut dx.data[cut.clone()], true);
        }
        if mean.is_some() {
            put_scaled(&g.dy[cut], 1.0, db, true);
        }
    }
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
