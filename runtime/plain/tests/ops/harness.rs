//! Operands in memory of their own, and one call of a backend on them.

use ops::backend::{Backend, Call, Draw, OpError};
use ops::view::{Dims, View, ViewMut};
use plan::op::{OpKind, Write, workspace_bytes};
use plan::value::Dtype;

/// Numbers of an operand, whatever the dtype of a run.
#[derive(Debug, Clone)]
pub enum Data {
    Float(Vec<f64>),
    Index(Vec<i32>),
}

/// An input, or an output with what it holds before.
#[derive(Debug, Clone)]
pub struct Operand {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// One row of the table: an op on operands.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub kind: OpKind,
    pub inputs: Vec<Operand>,
    pub outputs: Vec<Operand>,
}

/// Draws of all cases.
pub const DRAW: Draw = Draw { seed: 42, step: 3 };

/// A small generator of our own, so that cases never change under us.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number near the standard normal, exact in f32.
    pub fn normal(&mut self) -> f64 {
        let sum: f64 = (0..6).map(|_| (self.word() >> 40) as f64 / (1u64 << 24) as f64).sum();
        f64::from(((sum - 3.0) * std::f64::consts::SQRT_2) as f32)
    }

    pub fn below(&mut self, bound: usize) -> i32 {
        (self.word() % bound as u64) as i32
    }

    pub fn floats(&mut self, shape: &[usize], scale: f64) -> Operand {
        let count = shape.iter().product();
        let data = (0..count).map(|_| f64::from((self.normal() * scale) as f32)).collect();
        Operand { shape: shape.to_vec(), data: Data::Float(data) }
    }

    pub fn index(&mut self, count: usize, bound: usize) -> Operand {
        index((0..count).map(|_| self.below(bound)).collect())
    }
}

/// Makes an operand of given indices.
pub fn index(data: Vec<i32>) -> Operand {
    Operand { shape: vec![data.len()], data: Data::Index(data) }
}

/// Makes an operand of given numbers.
pub fn floats(data: Vec<f64>) -> Operand {
    Operand { shape: vec![data.len()], data: Data::Float(data) }
}

impl Operand {
    /// Returns the numbers of a float operand.
    pub fn numbers(&self) -> &[f64] {
        match &self.data {
            Data::Float(data) => data,
            Data::Index(_) => panic!("an index has no numbers"),
        }
    }

    /// Returns a float operand with other numbers.
    pub fn with(&self, data: Vec<f64>) -> Operand {
        Operand { shape: self.shape.clone(), data: Data::Float(data) }
    }

    /// Returns the operand with its numbers rounded to a dtype.
    pub fn rounded(&self, dtype: Dtype) -> Operand {
        let Data::Float(data) = &self.data else { return self.clone() };
        let round = |&x: &f64| match dtype {
            Dtype::Bf16 => half::bf16::from_f32(x as f32).to_f64(),
            _ => f64::from(x as f32),
        };
        self.with(data.iter().map(round).collect())
    }

    /// Returns the bytes, in words so that they are aligned, and their number.
    fn pack(&self, dtype: Dtype) -> (Vec<u64>, usize) {
        let bytes: Vec<u8> = match (&self.data, dtype) {
            (Data::Float(data), Dtype::F64) => bytemuck::cast_slice(data).to_vec(),
            (Data::Float(data), Dtype::Bf16) => {
                let narrow: Vec<half::bf16> = data.iter().map(|&x| half::bf16::from_f32(x as f32)).collect();
                bytemuck::cast_slice(&narrow).to_vec()
            }
            (Data::Float(data), _) => {
                let narrow: Vec<f32> = data.iter().map(|&x| x as f32).collect();
                bytemuck::cast_slice(&narrow).to_vec()
            }
            (Data::Index(data), _) => bytemuck::cast_slice(data).to_vec(),
        };
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(&bytes);
        (words, bytes.len())
    }
}

/// Runs a case with one way of writing for all outputs; returns the outputs as f64.
///
/// With `Set`, outputs and workspace hold NaN before: nothing may read them.
pub fn run(backend: &dyn Backend, case: &Case, float: Dtype, write: Write) -> Result<Vec<Vec<f64>>, OpError> {
    let (input_dtypes, output_dtypes) = dtypes(case, float);
    let inputs: Vec<_> = case.inputs.iter().zip(&input_dtypes).map(|(x, dtype)| x.pack(*dtype)).collect();
    let mut outputs: Vec<_> =
        case.outputs.iter().zip(&output_dtypes).map(|(y, dtype)| y.pack(*dtype)).collect();
    if write == Write::Set {
        for (words, _) in &mut outputs {
            words.fill(u64::MAX);
        }
    }
    let views: Vec<View<'_>> = case
        .inputs
        .iter()
        .zip(&input_dtypes)
        .zip(&inputs)
        .map(|((input, dtype), (words, len))| View {
            dtype: *dtype,
            dims: Dims::new(&input.shape),
            bytes: &bytemuck::cast_slice(words)[..*len],
        })
        .collect();
    let shapes = |operands: &[Operand]| -> Vec<Vec<u64>> {
        operands.iter().map(|operand| operand.shape.iter().map(|&size| size as u64).collect()).collect()
    };
    let need = workspace_bytes(&case.kind, &shapes(&case.inputs), float);
    let mut workspace = vec![u64::MAX; (need as usize).div_ceil(8)];
    {
        let mut written: Vec<ViewMut<'_>> = case
            .outputs
            .iter()
            .zip(&output_dtypes)
            .zip(&mut outputs)
            .map(|((output, dtype), (words, len))| ViewMut {
                dtype: *dtype,
                dims: Dims::new(&output.shape),
                write,
                bytes: &mut bytemuck::cast_slice_mut(words)[..*len],
            })
            .collect();
        backend.run(Call {
            kind: &case.kind,
            inputs: &views,
            outputs: &mut written,
            workspace: &mut bytemuck::cast_slice_mut(&mut workspace)[..need as usize],
            draw: DRAW,
        })?;
    }
    let unpack = |((words, len), dtype): (&(Vec<u64>, usize), &Dtype)| -> Vec<f64> {
        let bytes = &bytemuck::cast_slice::<u64, u8>(words)[..*len];
        match dtype {
            Dtype::F64 => bytemuck::cast_slice(bytes).to_vec(),
            Dtype::Bf16 => bytemuck::cast_slice::<u8, half::bf16>(bytes).iter().map(|x| x.to_f64()).collect(),
            _ => bytemuck::cast_slice::<u8, f32>(bytes).iter().map(|&x| f64::from(x)).collect(),
        }
    };
    Ok(outputs.iter().zip(&output_dtypes).map(unpack).collect())
}

/// Returns the dtypes of a case's inputs and outputs in a number format.
pub fn dtypes(case: &Case, float: Dtype) -> (Vec<Dtype>, Vec<Dtype>) {
    let (inputs, outputs) = ops::check::dtypes(&case.kind, float).unwrap_or_default();
    // Where operands have been left out of the middle, all that are left are sums.
    let of = |operands: &[Operand], dtypes: &[Dtype]| -> Vec<Dtype> {
        let one = |(index, operand): (usize, &Operand)| match operand.data {
            Data::Index(_) => Dtype::I32,
            Data::Float(_) => dtypes.get(index).or(dtypes.last()).copied().unwrap_or(float),
        };
        operands.iter().enumerate().map(one).collect()
    };
    (of(&case.inputs, &inputs), of(&case.outputs, &outputs))
}

/// Returns how a case writes its outputs when nothing else is asked.
pub fn usual_write(kind: &OpKind) -> Write {
    match kind {
        OpKind::AdamW { .. } | OpKind::CacheAppend => Write::Update,
        _ => Write::Set, // all others make their outputs
    }
}

/// Returns ‖a − b‖/‖b‖; NaN where either has one, 0 for two zero vectors.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let (difference, size) = (norm(&mut a.iter().zip(b).map(|(a, b)| a - b)), norm(&mut b.iter().copied()));
    if difference == 0.0 { 0.0 } else { difference / size }
}
