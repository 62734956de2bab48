//! Seconds of real programs on a machine that was probed.
//!
//! An op takes the larger of its operations over what the kernels reach and its traffic over the bandwidth, and
//! a little of its own; a program takes the sum. That describes what is printed and decides nothing: two
//! machines with the same limits have the same plan, whatever they reach.

use crate::builder::ext;
use lang::facts::{Products, Rates};
use plan::cost::op_cost;
use plan::op::{Op, OpKind, Write};
use plan::program::{Module, Program};
use plan::value::{Dtype, ValueId};

/// The sizes of one run of a program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    pub tokens: f64,
    /// Of those the ones with a loss.
    pub trained: f64,
    /// Mean tokens of a row.
    pub row_tokens: f64,
    /// Answers at once, and positions that each has filled.
    pub slots: u64,
    pub cached: u64,
}

impl Size {
    /// Returns the sizes of the extents of a module.
    pub fn extents(self, module: &Module) -> Vec<u64> {
        let rows = (self.tokens / self.row_tokens.max(1.0)).ceil();
        let mut extents = module.capacities();
        let sizes = [
            (ext::TOKENS, self.tokens.ceil() as u64),
            (ext::ROWS, rows as u64),
            (ext::BOUNDS, rows as u64 + 1),
            (ext::TRAINED, self.trained.ceil() as u64),
            (ext::SLOTS, self.slots),
            (ext::CACHED, self.cached),
        ];
        for (extent, size) in sizes {
            extents[extent.0 as usize] = size;
        }
        extents
    }
}

/// Returns the seconds of one run of a program of that name; none where there is no such program.
pub fn program_seconds(module: &Module, name: &str, size: Size, rates: &Rates) -> f64 {
    module.program(name).map_or(0.0, |program| seconds(module, program, size, rates))
}

fn seconds(module: &Module, program: &Program, size: Size, rates: &Rates) -> f64 {
    let extents = size.extents(module);
    // One row cannot be longer than what there is; in decoding it is what the cache holds.
    let row_tokens = if size.slots > 0 { size.cached as f64 } else { size.row_tokens };
    program.ops.iter().map(|op| op_seconds(module, op, &extents, row_tokens, rates)).sum()
}

fn op_seconds(module: &Module, op: &Op, extents: &[u64], row_tokens: f64, rates: &Rates) -> f64 {
    let flops = op_cost(module, op, extents, row_tokens).flops;
    let computed = rate(module, op, rates).map_or(0.0, |rate| flops / rate);
    computed.max(traffic(module, op, extents) / rates.bytes) + rates.per_op
}

/// Returns the operations per second of an op; nothing where its traffic is all that counts.
fn rate(module: &Module, op: &Op, rates: &Rates) -> Option<f64> {
    // The matrix that tokens are multiplied with, or is the sum of their products.
    let matrix = match &op.kind {
        OpKind::Linear { .. } | OpKind::LinearGradX | OpKind::LmHeadLoss { .. } | OpKind::TokenLogprobs => {
            op.inputs[1]
        }
        OpKind::TokenLogprobsGrad => op.inputs[2],
        OpKind::LinearGradW => op.outputs[0].value,
        OpKind::Attention(_) | OpKind::AttentionGrad(_) => return Some(rates.attention),
        _ => return None,
    };
    let numbers = &module.values[op.inputs[0].index()];
    let products = if numbers.dtype == Dtype::Bf16 { rates.bf16 } else { rates.f32 };
    let widths = module.values[matrix.index()].shape.iter().map(|dim| dim.factor);
    Some(at_width(products, widths.min().unwrap_or(1)))
}

/// Returns the operations per second at a width: what is done once per operand is spread over its width.
fn at_width(products: Products, width: u64) -> f64 {
    let inverse = |width: u64| 1.0 / width.max(1) as f64;
    let (narrow, wide) = (1.0 / products.narrow, 1.0 / products.wide);
    let slope = (narrow - wide).max(0.0) / (inverse(Products::NARROW) - inverse(Products::WIDE));
    1.0 / (wide + slope * (inverse(width) - inverse(Products::WIDE))).max(wide / 2.0)
}

/// Returns the bytes that an op reads and writes; of tables only the rows that it looks up.
fn traffic(module: &Module, op: &Op, extents: &[u64]) -> f64 {
    let bytes = |id: ValueId| module.values[id.index()].bytes(extents) as f64;
    let written: f64 = op.outputs.iter().map(|output| bytes(output.value)).sum();
    match &op.kind {
        OpKind::Embed | OpKind::Gather => 2.0 * written,
        OpKind::CacheAppend => 2.0 * op.inputs.iter().map(|&id| bytes(id)).sum::<f64>(),
        _ => {
            let read: f64 = op.inputs.iter().map(|&id| bytes(id)).sum();
            let also_read = op.outputs.iter().filter(|output| output.write != Write::Set);
            read + written + also_read.map(|output| bytes(output.value)).sum::<f64>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::op::Output;
    use plan::value::Role;

    /// A thousand times as fast in products as in bytes, and a second per op.
    const RATES: Rates = Rates {
        f32: Products { narrow: 1e6, wide: 4e6 },
        bf16: Products { narrow: 2e6, wide: 8e6 },
        attention: 1e6,
        bytes: 1e3,
        per_op: 1.0,
    };

    fn size(tokens: f64) -> Size {
        Size { tokens, trained: tokens, row_tokens: tokens, slots: 0, cached: 0 }
    }

    /// y = x·wᵀ with a square matrix, and a copy of y.
    fn product(width: u64, dtype: Dtype) -> Module {
        let mut module = crate::builder::new_module(crate::builder::Capacities {
            tokens: 1 << 20,
            rows: 1,
            trained: 1,
            slots: 0,
            cached: 0,
        });
        let shape = vec![ext::TOKENS.into(), width.into()];
        let x = module.value("x", dtype, Role::Activation, shape.clone());
        let w = module.value("w", dtype, Role::Weight, vec![width.into(), width.into()]);
        let [y, z] = ["y", "z"].map(|name| module.value(name, dtype, Role::Activation, shape.clone()));
        let set = |value| vec![Output { value, write: Write::Set }];
        let linear = Op::new(OpKind::Linear { quantized: None, adapter: None }, vec![x, w], set(y), "");
        let copy = Op::new(OpKind::Copy, vec![y], set(z), "");
        for (name, op) in [("linear", linear), ("copy", copy)] {
            module.programs.push(Program { name: name.into(), ops: vec![op] });
        }
        module
    }

    #[test]
    fn a_product_takes_its_operations_and_a_copy_its_bytes() {
        let module = product(128, Dtype::F32);
        let rates = Rates { bytes: 1e9, ..RATES };
        let linear = program_seconds(&module, "linear", size(1000.0), &rates);
        assert!((linear - (1.0 + 2.0 * 1000.0 * 128.0 * 128.0 / 1e6)).abs() < 1e-9, "{linear}");
        let copy = program_seconds(&module, "copy", size(1000.0), &RATES);
        assert!((copy - (1.0 + 2.0 * 1000.0 * 128.0 * 4.0 / 1e3)).abs() < 1e-9, "{copy}");
        // What is not there takes no time.
        assert_eq!(program_seconds(&module, "decode", size(1.0), &RATES), 0.0);
    }

    #[test]
    fn one_token_waits_for_the_weights() {
        let module = product(768, Dtype::F32);
        let expected = 1.0 + (768.0 * 768.0 + 2.0 * 768.0) * 4.0 / 1e3;
        assert!((program_seconds(&module, "linear", size(1.0), &RATES) - expected).abs() < 1e-6);
    }

    #[test]
    fn formats_and_widths_have_their_rates() {
        let rates = Rates { bytes: 1e12, per_op: 0.0, ..RATES };
        let reached = |width: u64, dtype| {
            let seconds = program_seconds(&product(width, dtype), "linear", size(100.0), &rates);
            2.0 * 100.0 * (width * width) as f64 / seconds
        };
        for (width, f32, bf16) in [(128, 1e6, 2e6), (768, 4e6, 8e6)] {
            assert!((reached(width, Dtype::F32) / f32 - 1.0).abs() < 1e-9, "{width}");
            assert!((reached(width, Dtype::Bf16) / bf16 - 1.0).abs() < 1e-9, "{width}");
        }
        assert!(reached(64, Dtype::F32) < 1e6 && reached(4096, Dtype::F32) > 4e6);
        let between = reached(256, Dtype::F32);
        assert!(between > 1e6 && between < 4e6, "{between}");
    }

    #[test]
    fn what_is_added_to_is_read_too() {
        let mut module = product(128, Dtype::F32);
        let plain = program_seconds(&module, "copy", size(10.0), &RATES);
        module.programs[1].ops[0].outputs[0].write = Write::Add;
        let added = program_seconds(&module, "copy", size(10.0), &RATES);
        assert!(((added - 1.0) / (plain - 1.0) - 1.5).abs() < 1e-9, "{plain} {added}");
    }
}
