//! Linear layers and their gradients.
//!
//! Shapes: N tokens, `in` and `out` features; weights are `[out, in]`.

use super::gemm::{Matrix, gemm};
use super::pool::Pool;
use super::simd::multiversion;
use super::{adds, workspace};
use crate::backend::{Call, OpError};
use plan::op::REDUCE_ROWS;

/// `[x [N,in], w [out,in], bias? [out]] → [y [N,out]]`: y = x wᵀ + bias.
pub fn linear(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (x, w) = (call.inputs[0], call.inputs[1]);
    let (n, inputs, outputs) = (x.dims.rows(), x.dims.columns(), w.dims.rows());
    let y = &mut call.outputs[0];
    let mut add = adds(y);
    let y = y.f32();
    if let Some(bias) = call.inputs.get(2) {
        let bias = bias.f32();
        let work = y.len();
        pool.blocks(y, 64 * outputs, work, |_, y| add_bias(bias, y, add));
        add = true;
    }
    let (x, w) = (Matrix::rows(x.f32(), inputs), Matrix::rows(w.f32(), inputs));
    gemm(pool, (n, outputs, inputs), x, w.transposed(), y, add);
    Ok(())
}

multiversion! {
    fn add_bias[I](bias: &[f32], y: &mut [f32], add: bool) {
        for y in y.chunks_exact_mut(bias.len()) {
            if add {
                for (y, b) in y.iter_mut().zip(bias) {
                    *y += b;
                }
            } else {
                y.copy_from_slice(bias);
            }
        }
    }
}

/// `[dy [N,out], w [out,in]] → [dx [N,in]]`: dx = dy w.
pub fn grad_x(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (dy, w) = (call.inputs[0], call.inputs[1]);
    let (n, outputs, inputs) = (dy.dims.rows(), dy.dims.columns(), w.dims.columns());
    let dx = &mut call.outputs[0];
    let add = adds(dx);
    let (dy, w) = (Matrix::rows(dy.f32(), outputs), Matrix::rows(w.f32(), inputs));
    gemm(pool, (n, inputs, outputs), dy, w, dx.f32(), add);
    Ok(())
}

/// `[dy [N,out], x [N,in]] → [dw [out,in]]`: dw = dyᵀ x.
pub fn grad_w(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (dy, x) = (call.inputs[0], call.inputs[1]);
    let (n, outputs, inputs) = (dy.dims.rows(), dy.dims.columns(), x.dims.columns());
    let dw = &mut call.outputs[0];
    let add = adds(dw);
    let (dy, x) = (Matrix::rows(dy.f32(), outputs), Matrix::rows(x.f32(), inputs));
    gemm(pool, (outputs, inputs, n), dy.transposed(), x, dw.f32(), add);
    Ok(())
}

/// `[dy [N,out]] → [db [out]]`: column sums, over partial sums of `REDUCE_ROWS` rows in the workspace.
pub fn bias_grad(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let dy = call.inputs[0];
    let (n, columns) = (dy.dims.rows(), dy.dims.columns());
    let rows = REDUCE_ROWS as usize;
    let partials = workspace(call.kind, call.workspace, n.div_ceil(rows) * columns)?;
    let dy = dy.f32();
    pool.blocks(partials, columns, n * columns, |block, partial| {
        let end = dy.len().min((block + 1) * rows * columns);
        sum_rows(&dy[block * rows * columns..end], partial, false);
    });
    let db = &mut call.outputs[0];
    let add = adds(db);
    sum_rows(partials, db.f32(), add);
    Ok(())
}

multiversion! {
    /// Sums the rows of `x` into `y`, one after another; `add` keeps what is there.
    pub fn sum_rows[I](x: &[f32], y: &mut [f32], add: bool) {
        if !add {
            y.fill(0.0);
        }
        for x in x.chunks_exact(y.len().max(1)) {
            for (y, x) in y.iter_mut().zip(x) {
                *y += x;
            }
        }
    }
}
