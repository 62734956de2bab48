//! Rows by index: embedding, its gradient, gathering.
//!
//! Shapes: N tokens, V vocab_size, H hidden_size, S picked rows.

use super::adds;
use super::float::OutParts;
use super::pool::{Parts, Pool, stage};
use super::simd::{multiversion, put_scaled};
use crate::backend::{Call, OpError};
use crate::check::check_index;

/// Rows of one task.
const ROWS: usize = 64;

/// Columns of one task of the gradient: a cache line of f32, twice.
const COLUMNS: usize = 32;

/// `[index [N], table [V,H]] → [y [N,H]]`.
pub fn embed(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    check_index("embed", "index", call.inputs[0].i32(), call.inputs[1].dims.rows())?;
    pick(pool, call, 0, 1);
    Ok(())
}

/// `[x [N,H], index [S]] → [y [S,H]]`.
pub fn gather(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    check_index("gather", "index", call.inputs[1].i32(), call.inputs[0].dims.rows())?;
    pick(pool, call, 1, 0);
    Ok(())
}

fn pick(pool: &Pool, call: &mut Call<'_, '_>, index: usize, table: usize) {
    let (index, columns) = (call.inputs[index].i32(), call.inputs[table].dims.columns());
    let table = call.inputs[table].floats();
    let output = &mut call.outputs[0];
    let add = adds(output);
    let y = OutParts::new(output.floats());
    pool.run(index.len().div_ceil(ROWS), index.len() * columns, |task| {
        let first = task * ROWS;
        stage(2 * columns, |buffer| {
            let (out, buffer) = buffer.split_at_mut(columns);
            for (token, &row) in index.iter().enumerate().skip(first).take(ROWS) {
                let row = table.part(row as usize * columns, columns, buffer);
                #[allow(unsafe_code)] // tasks write rows of one output
                // SAFETY: each task has its own rows.
                unsafe {
                    y.write(token * columns, columns, add, out, |y, add| put_scaled(row, 1.0, y, add));
                }
            }
        });
    });
}

/// `[dy [N,H], index [N]] → [dtable [V,H]]`.
///
/// Each task owns some columns of the whole table and goes through the tokens in order.
pub fn embed_grad(pool: &Pool, call: &mut Call<'_, '_>) -> Result<(), OpError> {
    let (dy, index) = (call.inputs[0].floats(), call.inputs[1].i32());
    let output = &mut call.outputs[0];
    let (rows, columns, add) = (output.dims.rows(), output.dims.columns(), adds(output));
    check_index("embed_grad", "index", index, rows)?;
    let table = output.f32();
    if !add {
        let work = table.len();
        pool.blocks(table, ROWS * columns, work, |_, table| table.fill(0.0));
    }
    let table = Parts::new(table);
    pool.run(columns.div_ceil(COLUMNS), index.len() * columns, |task| {
        let first = task * COLUMNS;
        let width = COLUMNS.min(columns - first);
        for (token, &row) in index.iter().enumerate() {
            #[allow(unsafe_code)] // tasks write columns of one table
            // SAFETY: the elements are of this task's columns, and `part` is dropped before the next one is taken.
            let part = unsafe { table.get(row as usize * columns + first, width) };
            let mut buffer = [0.0; COLUMNS];
            add_to(dy.part(token * columns + first, width, &mut buffer), part);
        }
    });
    Ok(())
}

multiversion! {
    fn add_to[I](x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}
