//! Number formats and what they cost in bytes: precisions, quantised weights, optimizer states.

use super::architecture::Kind;
use super::trained::Update;
use plan::value::Dtype;

/// The formats of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// Of weights, their gradients, and activations.
    pub compute: Dtype,
    /// Whether what is trained also exists in f32.
    pub masters: bool,
}

impl Precision {
    pub const F32: Precision = Precision { compute: Dtype::F32, masters: false };
    pub const BF16: Precision = Precision { compute: Dtype::Bf16, masters: true };
    pub const BF16_WITHOUT_MASTERS: Precision = Precision { compute: Dtype::Bf16, masters: false };
    pub const F16: Precision = Precision { compute: Dtype::F16, masters: true };
}

/// How frozen matrices of the layers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantized {
    /// 4 for `nf4` and `fp4`, 8 for `int8`.
    pub bits: u64,
    /// Elements that share a scale.
    pub block: u64,
    /// Whether the scales are quantised too.
    pub double: bool,
}

/// Scales that share a scale of their own when they are quantised too (Dettmers et al. 2023, section 3).
const SCALES_PER_SCALE: u64 = 256;

impl Quantized {
    /// Returns the bytes of a matrix: its elements, an f32 scale per block, or with `double` one byte
    /// per block and an f32 scale per 256 of those.
    pub fn bytes(self, elements: u64) -> u64 {
        let blocks = elements.div_ceil(self.block);
        let scales = match self.double {
            true => blocks + 4 * blocks.div_ceil(SCALES_PER_SCALE),
            false => 4 * blocks,
        };
        (elements * self.bits).div_ceil(8) + scales
    }
}

/// What the optimizer keeps of each trained parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimizer {
    /// Two moments.
    AdamW(State),
    /// One moment.
    Lion,
    /// Row and column sums of a matrix, one number per element of a vector; no first moment.
    Adafactor,
    /// One moment of each matrix of the layers; the rest is AdamW's.
    Muon,
    /// One moment.
    RmsProp,
    /// Nothing.
    Sgd,
}

/// Format of AdamW's moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    F32,
    Bf16,
    Int8,
}

/// Elements of an 8-bit moment that share an f32 scale.
const STATE_BLOCK: u64 = 256;

impl State {
    fn bytes(self, elements: u64) -> u64 {
        match self {
            State::F32 => 4 * elements,
            State::Bf16 => 2 * elements,
            State::Int8 => elements + 4 * elements.div_ceil(STATE_BLOCK),
        }
    }
}

impl Optimizer {
    /// Returns the bytes of the state of one trained tensor.
    pub fn bytes(self, update: &Update) -> u64 {
        let elements = update.elements();
        match self {
            Optimizer::AdamW(state) => 2 * state.bytes(elements),
            Optimizer::Lion | Optimizer::RmsProp => 4 * elements,
            Optimizer::Adafactor => match update.shape.as_slice() {
                [rows, columns] => 4 * (rows + columns),
                _ => 4 * elements,
            },
            Optimizer::Muon if update.shape.len() == 2 && update.layer.is_some() => 4 * elements,
            Optimizer::Muon => 8 * elements,
            Optimizer::Sgd => 0,
        }
    }
}

/// Returns whether a tensor of this kind is quantised: the matrices of the layers, but not routers, whose
/// few numbers decide where tokens go.
pub(super) fn is_quantized(kind: Kind) -> bool {
    match kind {
        Kind::Linear | Kind::Expert => true,
        Kind::Embedding | Kind::Head | Kind::Norm | Kind::Bias | Kind::Router | Kind::Positions => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::trained::Part;

    fn update(shape: &[u64], layer: Option<u32>) -> Update {
        Update { tensor: 0, shape: shape.to_vec(), layer, kind: Kind::Linear, place: None, part: Part::Whole }
    }

    #[test]
    fn quantised_bytes() {
        let quantized = |bits, double| Quantized { bits, block: 64, double };
        assert_eq!(quantized(4, false).bytes(6400), 3200 + 100 * 4);
        assert_eq!(quantized(4, true).bytes(6400), 3200 + 100 + 4);
        assert_eq!(quantized(8, false).bytes(65), 65 + 8);
        // 4.127 bits per parameter, as in the paper.
        let elements = 1 << 30;
        let bits = quantized(4, true).bytes(elements) as f64 * 8.0 / elements as f64;
        assert!((bits - 4.127).abs() < 5e-4, "{bits}");
    }

    #[test]
    fn state_bytes_of_a_matrix_and_a_vector() {
        let bytes = |optimizer: Optimizer| {
            [update(&[32, 16], Some(0)), update(&[32, 16], None), update(&[16], Some(0))]
                .map(|update| optimizer.bytes(&update))
        };
        assert_eq!(bytes(Optimizer::AdamW(State::F32)), [4096, 4096, 128]);
        assert_eq!(bytes(Optimizer::AdamW(State::Bf16)), [2048, 2048, 64]);
        assert_eq!(bytes(Optimizer::AdamW(State::Int8)), [2 * (512 + 8), 2 * (512 + 8), 2 * (16 + 4)]);
        assert_eq!(bytes(Optimizer::Lion), [2048, 2048, 64]);
        assert_eq!(bytes(Optimizer::RmsProp), [2048, 2048, 64]);
        assert_eq!(bytes(Optimizer::Adafactor), [192, 192, 64]);
        assert_eq!(bytes(Optimizer::Muon), [2048, 4096, 128]);
        assert_eq!(bytes(Optimizer::Sgd), [0, 0, 0]);
    }
}
