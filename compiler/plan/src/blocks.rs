//! How a matrix product is cut into blocks, and what a thread needs to compute one of them.
//!
//! y [m,n] = a [m,k] · b [k,n]. Kernels cut by these functions and memory is predicted by them; both follow from
//! the shape alone.

use crate::op::{HEAD_CHUNK, HeadGrads, Op, OpKind};
use crate::program::Module;

/// Multiplications of one block: at least enough to hide what a task costs; between the bounds, about SHARE
/// blocks. Each block packs its parts of a and b again, so blocks are as large as caches allow.
const SMALLEST: usize = 1 << 20;
const SHARE: usize = 16;

/// Most rows and columns of a block, and the longest stretch of k: panels of both stay in a cache of 1 MiB,
/// one panel of b in the first one.
const ROWS: usize = 768;
const COLUMNS: usize = 384;
const DEPTH: usize = 208;

/// Blocks are cut at multiples of this, which the tiles divide.
pub const GRAIN: usize = 48;

/// Rows up to which the weights are read once instead of packed.
pub const FEW: usize = 4;

/// Returns the rows and columns of a block.
pub fn cut(m: usize, n: usize, k: usize) -> (usize, usize) {
    let even = |size: usize, most: usize| size.div_ceil(size.div_ceil(most)).next_multiple_of(GRAIN);
    let halve = |size: usize| (size / 2).next_multiple_of(GRAIN);
    let (mut rows, mut columns) = (even(m, ROWS), even(n, COLUMNS));
    let block = (m * n * k / SHARE).max(SMALLEST);
    while rows * columns * k > block {
        let (less_rows, less_columns) = (halve(rows), halve(columns));
        if rows >= columns && less_rows < rows {
            rows = less_rows;
        } else if less_columns < columns {
            columns = less_columns;
        } else if less_rows < rows {
            rows = less_rows;
        } else {
            break;
        }
    }
    (rows, columns)
}

/// Returns the length of the stretches that k is cut into.
pub fn stretch(k: usize) -> usize {
    // Even, so that pairs do not straddle stretches.
    k.div_ceil(k.div_ceil(DEPTH)).next_multiple_of(2)
}

/// Returns the words of 4 bytes that a block of so many rows and columns needs: panels of a and b, and its sums.
pub fn block_words(rows: usize, columns: usize, k: usize) -> usize {
    let (rows, columns) = (rows.next_multiple_of(GRAIN), columns.next_multiple_of(GRAIN));
    (rows + columns) * stretch(k.max(1)) + rows * columns
}

/// Returns the bytes that each thread has for the products of a module, whose extents are at their capacities.
pub fn bytes_per_thread(module: &Module) -> u64 {
    let extents = module.capacities();
    let ops = module.programs.iter().flat_map(|program| &program.ops);
    let of_op = |op: &Op| products(module, op, &extents).into_iter().map(largest).max().unwrap_or(0);
    4 * ops.map(of_op).max().unwrap_or(0) as u64
}

/// Returns the words of the largest block of a product.
fn largest([m, n, k]: [usize; 3]) -> usize {
    if m == 0 || n == 0 {
        return 0;
    }
    let (rows, columns) = cut(m, n, k);
    block_words(rows.min(m), columns.min(n), k)
}

/// Returns the products of an op, as m, n and k.
fn products(module: &Module, op: &Op, extents: &[u64]) -> Vec<[usize; 3]> {
    let size = |input: usize, axis: usize| {
        let sizes = module.values[op.inputs[input].index()].sizes(extents);
        sizes.get(axis).map_or(1, |&size| size as usize)
    };
    let head = |first: usize, dh: bool, dw: bool| {
        let chunk = size(first + 2, 0).min(HEAD_CHUNK as usize);
        let (vocab, hidden) = (size(first + 1, 0), size(first + 1, 1));
        let gradients = [(dh, [chunk, hidden, vocab]), (dw, [vocab, hidden, chunk])];
        let gradients = gradients.into_iter().filter(|(wanted, _)| *wanted).map(|(_, product)| product);
        std::iter::once([chunk, vocab, hidden]).chain(gradients).collect()
    };
    match &op.kind {
        // Few rows are multiplied where the weights lie.
        OpKind::Linear { .. } if size(0, 0) <= FEW => Vec::new(),
        OpKind::Linear { .. } => vec![[size(0, 0), size(1, 0), size(1, 1)]],
        OpKind::LinearGradX => vec![[size(0, 0), size(1, 1), size(1, 0)]],
        OpKind::LinearGradW => vec![[size(0, 1), size(1, 1), size(0, 0)]],
        OpKind::LmHeadLoss { grads } => {
            head(0, *grads != HeadGrads::None, *grads == HeadGrads::HiddenAndWeight)
        }
        OpKind::TokenLogprobs => head(0, false, false),
        OpKind::TokenLogprobsGrad => head(1, true, op.outputs.len() > 1),
        _ => Vec::new(), // no other op multiplies matrices in blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Output, Write};
    use crate::program::Program;
    use crate::value::{Dtype, Role};

    #[test]
    fn blocks_are_cut_by_shape_and_cover_everything() {
        for (m, n, k) in
            [(1, 1, 1), (4096, 64, 64), (64, 64, 8192), (256, 2000, 64), (5, 123, 123), (9, 50_000, 64)]
        {
            let (rows, columns) = cut(m, n, k);
            assert!(rows >= 1 && columns >= 1, "{m}×{n}×{k}: {rows}×{columns}");
            assert!(rows <= ROWS.next_multiple_of(GRAIN) && columns <= COLUMNS.next_multiple_of(GRAIN));
            let stretch = stretch(k);
            assert!(
                stretch.is_multiple_of(2) && stretch <= DEPTH && k.div_ceil(stretch) == k.div_ceil(DEPTH)
            );
        }
    }

    /// x [10,96] times w [480,96]: blocks of 48 × 240, one stretch of 96.
    #[test]
    fn a_thread_has_room_for_the_largest_block() {
        let mut module = Module::default();
        let mut value = |name: &str, shape: [u64; 2]| {
            module.value(name, Dtype::F32, Role::Activation, shape.map(Into::into).to_vec())
        };
        let (x, w, y) = (value("x", [10, 96]), value("w", [480, 96]), value("y", [10, 480]));
        let outputs = vec![Output { value: y, write: Write::Set }];
        let linear = Op::new(OpKind::Linear { quantized: None, adapter: None }, vec![x, w], outputs, "r");
        let program = Program { name: "p".into(), ops: vec![linear] };
        module.programs.push(program);
        assert_eq!(cut(10, 480, 96), (48, 240));
        assert_eq!(bytes_per_thread(&module), 4 * ((48 + 240) * 96 + 48 * 240));
    }
}
