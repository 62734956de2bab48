//! Linear layers and their gradients.
//!
//! Shapes: N tokens, `in` and `out` features; weights are `[out, in]`.

use super::gemm::{Finish, Matrix, Shape, gemm};
use super::pool::{Pool, stage};
use super::simd::multiversion;
use super::{adds, workspace};
use crate::backend::{Call, OpError};
use plan::op::REDUCE_ROWS;

/// `[x [N,in], w [out,in], bias? [out]] → [y [N,out]]`: y = x wᵀ + bias.
pub fn linear(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (x, w) = (call.inputs[0], call.inputs[1]);
    let shape = Shape { m: x.dims.rows(), n: w.dims.rows(), k: x.dims.columns() };
    let bias = call.inputs.get(2).map(|bias| bias.floats());
    let y = &mut call.outputs[0];
    let finish = Finish { add: adds(y), bias };
    gemm(pool, shape, Matrix::of(&x), Matrix::of(&w).transposed(), y.floats(), finish);
    Ok(())
}

/// `[dy [N,out], w [out,in]] → [dx [N,in]]`: dx = dy w.
pub fn grad_x(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (dy, w) = (call.inputs[0], call.inputs[1]);
    let shape = Shape { m: dy.dims.rows(), n: w.dims.columns(), k: dy.dims.columns() };
    let dx = &mut call.outputs[0];
    let finish = Finish { add: adds(dx), bias: None };
    gemm(pool, shape, Matrix::of(&dy), Matrix::of(&w), dx.floats(), finish);
    Ok(())
}

/// `[dy [N,out], x [N,in]] → [dw [out,in]]`: dw = dyᵀ x, in f32.
pub fn grad_w(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (dy, x) = (call.inputs[0], call.inputs[1]);
    let shape = Shape { m: dy.dims.columns(), n: x.dims.columns(), k: dy.dims.rows() };
    let dw = &mut call.outputs[0];
    let finish = Finish { add: adds(dw), bias: None };
    gemm(pool, shape, Matrix::of(&dy).transposed(), Matrix::of(&x), dw.floats(), finish);
    Ok(())
}

/// `[dy [N,out]] → [db [out]]`: column sums, over partial sums of `REDUCE_ROWS` rows in the workspace.
pub fn bias_grad(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let dy = call.inputs[0];
    let (n, columns) = (dy.dims.rows(), dy.dims.columns());
    let rows = REDUCE_ROWS as usize;
    let partials = workspace(call.kind, call.workspace, n.div_ceil(rows) * columns)?;
    let dy = dy.floats();
    pool.blocks(partials, columns, n * columns, |block, partial| {
        let (first, count) = (block * rows, rows.min(n - block * rows));
        stage(count * columns, |buffer| {
            sum_rows(dy.part(first * columns, count * columns, buffer), partial, false);
        });
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
