//! The products that a training step spends its time in: of a layer, and of the head with its loss.

use super::{Operand, Timed, bf16, floats, index, time};
use crate::cpu::Cpu;
use plan::op::{HeadGrads, OpKind};
use plan::value::Dtype;

/// A product of tokens with a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub tokens: usize,
    pub inputs: usize,
    pub outputs: usize,
}

/// Which product of a layer or of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// y = x·wᵀ
    Forward,
    /// dx = dy·w
    GradX,
    /// dw = dyᵀ·x
    GradW,
    /// Logits, loss and both gradients, in chunks.
    Head,
}

impl Product {
    pub const ALL: [Product; 4] = [Product::Forward, Product::GradX, Product::GradW, Product::Head];

    /// Returns the name that figures are printed under.
    pub fn name(self) -> &'static str {
        match self {
            Product::Forward => "forward",
            Product::GradX => "grad-x",
            Product::GradW => "grad-w",
            Product::Head => "head",
        }
    }

    /// Returns the operations of a product; a multiply and an add count as two.
    pub fn flops(self, shape: Shape) -> f64 {
        let one = 2.0 * (shape.tokens * shape.inputs * shape.outputs) as f64;
        match self {
            Product::Forward | Product::GradX | Product::GradW => one,
            Product::Head => 3.0 * one,
        }
    }

    /// Runs a product a number of times.
    pub fn time(self, cpu: &Cpu, shape: Shape, format: Dtype, times: usize) -> Timed {
        let Shape { tokens, inputs, outputs } = shape;
        let numbers = |shape: &[usize]| match format {
            Dtype::Bf16 => bf16(floats(shape)),
            _ => floats(shape),
        };
        let x = || numbers(&[tokens, inputs]);
        let w = || numbers(&[outputs, inputs]);
        let y = || numbers(&[tokens, outputs]);
        // Gradients of weights are in f32 in either format.
        let dw = || Operand::zeros(&[outputs, inputs], Dtype::F32);
        let (kind, read, mut written): (OpKind, Vec<Operand>, Vec<Operand>) = match self {
            Product::Forward => {
                (OpKind::Linear { quantized: None, adapter: None }, vec![x(), w()], vec![y()])
            }
            Product::GradX => (OpKind::LinearGradX, vec![y(), w()], vec![x()]),
            Product::GradW => (OpKind::LinearGradW, vec![y(), x()], vec![dw()]),
            Product::Head => {
                let trained = index(tokens, |token| token);
                let labels = index(tokens, |token| token * 31 % outputs);
                let kind = OpKind::LmHeadLoss { grads: HeadGrads::HiddenAndWeight };
                let read = vec![x(), w(), trained, labels, floats(&[1])];
                (kind, read, vec![Operand::zeros(&[1], Dtype::F32), x(), dw()])
            }
        };
        time(cpu, &kind, &read, &mut written, 1);
        time(cpu, &kind, &read, &mut written, times)
    }
}
