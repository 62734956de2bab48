//! How a matrix product is cut into blocks, and what a thread needs to compute one of them.
//!
//! y [m,n] = a [m,k] · b [k,n]. Kernels cut by these functions and memory is predicted by them. Stretches of k,
//! and so results, follow from the shape alone; blocks also from the number of threads.

use crate::op::{Op, OpKind, head_block, head_chunk};
use crate::program::Module;

/// Multiplications of one block, at least: enough to hide what a task costs.
const SMALLEST: usize = 1 << 20;

/// Blocks for each thread, at least, so that none waits long for the last one.
const SHARE: usize = 2;

/// Multiplications of a block that is not cut further once every thread has one.
const LARGE: usize = 1 << 26;

/// Most rows and columns of a block: each element of b is packed once for the rows, and of a for the columns.
/// Half the columns where sums are kept beside the panels, to be rounded.
const ROWS: usize = 1056;
const COLUMNS: usize = 768;

/// The longest stretch of k: sums are read and written once for each, panels of b come from the second cache.
const DEPTH: usize = 768;

/// Rows whose panels stay in the second cache, of 1 MiB, while those of b pass.
pub const INNER: usize = 240;

/// Blocks are cut at multiples of this, which the tiles divide.
pub const GRAIN: usize = 48;

/// Rows up to which the weights are read once instead of packed.
pub const FEW: usize = 4;

/// Returns the rows and columns of a block for a number of threads; with none, blocks are as large as caches
/// allow. `sums` says whether sums are kept beside the panels. The size of blocks changes no result.
pub fn cut([m, n, k]: [usize; 3], sums: bool, threads: usize) -> (usize, usize) {
    let most = if sums { COLUMNS / 2 } else { COLUMNS };
    let even = |size: usize, most: usize| size.div_ceil(size.div_ceil(most)).next_multiple_of(GRAIN);
    let halve = |size: usize| (size / 2).next_multiple_of(GRAIN);
    let (mut rows, mut columns) = (even(m, ROWS), even(n, most));
    loop {
        let (blocks, work) = (m.div_ceil(rows) * n.div_ceil(columns), rows * columns * k);
        let (enough, least) = if blocks < threads { (threads, SMALLEST) } else { (SHARE * threads, LARGE) };
        if blocks >= enough || work <= least {
            break;
        }
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

/// Returns the words of 4 bytes that a block of so many rows and columns needs: panels of a and b, and its sums
/// unless y holds them.
pub fn block_words([rows, columns, k]: [usize; 3], sums: bool) -> usize {
    let (inner, columns) = (rows.min(INNER).next_multiple_of(GRAIN), columns.next_multiple_of(GRAIN));
    let sums = if sums { rows.next_multiple_of(GRAIN) * columns } else { 0 };
    (inner + columns) * stretch(k.max(1)) + sums
}

/// Returns the words that columns take which are packed once for many products.
pub fn packed_words(n: usize, k: usize) -> usize {
    n.next_multiple_of(GRAIN) * k.next_multiple_of(2)
}

/// A product, whether its sums are rounded at the end, and whether it is part of one task.
struct Product {
    shape: [usize; 3],
    rounded: bool,
    alone: bool,
}

/// Returns the bytes that each of so many threads has for the products of a module, whose extents are at their
/// capacities.
pub fn bytes_per_thread(module: &Module, threads: usize) -> u64 {
    let extents = module.capacities();
    let ops = module.programs.iter().flat_map(|program| &program.ops);
    let products = ops.flat_map(|op| products(module, op, &extents));
    4 * products.map(|product| product.largest(threads)).max().unwrap_or(0) as u64
}

impl Product {
    /// Returns the words of the largest block.
    fn largest(&self, threads: usize) -> usize {
        let [m, n, k] = self.shape;
        if m == 0 || n == 0 {
            return 0;
        }
        let (rows, columns) = cut(self.shape, self.rounded, if self.alone { 0 } else { threads });
        block_words([rows.min(m), columns.min(n), k], self.rounded)
    }
}

/// Returns the products of an op.
fn products(module: &Module, op: &Op, extents: &[u64]) -> Vec<Product> {
    let size = |input: usize, axis: usize| {
        let sizes = module.values[op.inputs[input].index()].sizes(extents);
        sizes.get(axis).map_or(1, |&size| size as usize)
    };
    let rounded = |output: usize| module.values[op.outputs[output].value.index()].dtype.bytes() < 4;
    let whole = |shape| vec![Product { shape, rounded: rounded(0), alone: false }];
    // A task of the head has a block of the vocabulary.
    let head = |first: usize| {
        let count = size(first + 2, 0).min(head_chunk(&op.kind) as usize);
        let (vocab, hidden) = (size(first + 1, 0), size(first + 1, 1));
        let words = vocab.min(head_block(vocab as u64) as usize);
        let shapes = [[words, count, hidden], [words, hidden, count], [count, hidden, words]];
        shapes.map(|shape| Product { shape, rounded: false, alone: true }).into()
    };
    match &op.kind {
        // Few rows are multiplied where the weights lie.
        OpKind::Linear { .. } if size(0, 0) <= FEW => Vec::new(),
        OpKind::Linear { .. } => whole([size(0, 0), size(1, 0), size(1, 1)]),
        OpKind::LinearGradX => whole([size(0, 0), size(1, 1), size(1, 0)]),
        OpKind::LinearGradW => whole([size(0, 1), size(1, 1), size(0, 0)]),
        OpKind::LmHeadLoss { .. } | OpKind::TokenLogprobs => head(0),
        OpKind::TokenLogprobsGrad => head(1),
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
    fn blocks_keep_to_their_bounds_and_give_every_thread_work() {
        for (m, n, k) in
            [(1, 1, 1), (4096, 64, 64), (64, 64, 8192), (256, 2000, 64), (5, 123, 123), (9, 50_000, 64)]
        {
            for threads in [0, 1, 2, 16] {
                let (rows, columns) = cut([m, n, k], false, threads);
                let blocks = m.div_ceil(rows) * n.div_ceil(columns);
                assert!(rows.is_multiple_of(GRAIN) && rows <= ROWS, "{m}×{n}×{k}: {rows}");
                assert!(columns.is_multiple_of(GRAIN) && columns <= COLUMNS, "{m}×{n}×{k}: {columns}");
                let small = (rows == GRAIN && columns == GRAIN) || rows * columns * k <= SMALLEST;
                assert!(blocks >= threads || small, "{m}×{n}×{k} on {threads}: {blocks} blocks");
            }
            let stretch = stretch(k);
            assert!(
                stretch.is_multiple_of(2) && stretch <= DEPTH && k.div_ceil(stretch) == k.div_ceil(DEPTH)
            );
        }
    }

    /// x [10,96] times w [480,96] on one thread: one block, one stretch of 96.
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
        assert_eq!(cut([10, 480, 96], false, 1), (48, 480));
        assert_eq!(bytes_per_thread(&module, 1), 4 * (48 + 480) * 96);
    }
}
