//! Operands made of nothing in particular, and the time of an op on them.

use crate::backend::{Backend, Call, Draw};
use crate::cpu::Cpu;
use crate::view::{Dims, View, ViewMut};
use memmap2::MmapMut;
use plan::op::{OpKind, Write, workspace_bytes};
use plan::value::Dtype;
use std::time::Instant;

/// An operand: its shape and its words.
#[derive(Debug)]
pub struct Operand {
    shape: Vec<usize>,
    dtype: Dtype,
    words: Words,
}

/// Words that lie as in the arenas of a run: from a page's beginning on, and on large pages.
#[derive(Debug)]
struct Words(MmapMut);

impl Words {
    /// Makes zeros, at least one.
    fn zeros(count: usize) -> Words {
        let map =
            MmapMut::map_anon(4 * count.max(1)).unwrap_or_else(|error| panic!("{count} words: {error}"));
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage); // where there are none, measuring goes on without
        Words(map)
    }

    fn collect(words: impl ExactSizeIterator<Item = u32>) -> Words {
        let mut all = Words::zeros(words.len());
        for (to, word) in all.get_mut().iter_mut().zip(words) {
            *to = word;
        }
        all
    }

    fn get(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }

    fn get_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl Operand {
    /// Makes an operand of zeros.
    pub fn zeros(shape: &[usize], dtype: Dtype) -> Operand {
        let bytes = shape.iter().product::<usize>() * dtype.bytes() as usize;
        Operand { shape: shape.to_vec(), dtype, words: Words::zeros(bytes.div_ceil(4)) }
    }

    /// Returns the bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes() as usize
    }

    fn view(&self) -> View<'_> {
        let bytes = &bytemuck::cast_slice(self.words.get())[..self.bytes()];
        View { dtype: self.dtype, dims: Dims::new(&self.shape), bytes }
    }

    fn view_mut(&mut self, write: Write) -> ViewMut<'_> {
        let (bytes, dims) = (self.bytes(), Dims::new(&self.shape));
        ViewMut {
            dtype: self.dtype,
            dims,
            write,
            bytes: &mut bytemuck::cast_slice_mut(self.words.get_mut())[..bytes],
        }
    }
}

/// Returns numbers between -1 and 1.
pub fn floats(shape: &[usize]) -> Operand {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 8_388_608.0 - 1.0).to_bits()
    };
    let words = Words::collect((0..shape.iter().product()).map(|_| next()));
    Operand { shape: shape.to_vec(), dtype: Dtype::F32, words }
}

/// Returns f32 numbers in bf16: of each pair of words the upper halves.
pub fn bf16(wide: Operand) -> Operand {
    let count = wide.shape.iter().product();
    let pairs = wide.words.get()[..count].chunks(2);
    let words = Words::collect(pairs.map(|pair| pair[0] >> 16 | pair[pair.len() - 1] & 0xffff_0000));
    Operand { words, dtype: Dtype::Bf16, shape: wide.shape }
}

/// Returns indices.
pub fn index(count: usize, of: impl Fn(usize) -> usize) -> Operand {
    Operand { shape: vec![count], dtype: Dtype::I32, words: Words::collect((0..count).map(|i| of(i) as u32)) }
}

/// Seconds of an op.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timed {
    pub best: f64,
    pub median: f64,
}

/// Runs an op a number of times (at least once).
///
/// # Panics
/// Panics when the op does not take these operands: they are written here, not by a user.
pub fn time(cpu: &Cpu, kind: &OpKind, inputs: &[Operand], outputs: &mut [Operand], times: usize) -> Timed {
    let shapes: Vec<Vec<u64>> =
        inputs.iter().map(|o| o.shape.iter().map(|&size| size as u64).collect()).collect();
    let need = workspace_bytes(kind, &shapes, inputs[0].dtype) as usize;
    let mut workspace = Words::zeros(need.div_ceil(4));
    let views: Vec<View<'_>> = inputs.iter().map(Operand::view).collect();
    let write = if matches!(kind, OpKind::AdamW { .. }) { Write::Update } else { Write::Set };
    let mut seconds: Vec<f64> = (0..times.max(1))
        .map(|_| {
            let mut written: Vec<ViewMut<'_>> = outputs.iter_mut().map(|o| o.view_mut(write)).collect();
            let workspace = &mut bytemuck::cast_slice_mut(workspace.get_mut())[..need];
            let draw = Draw { seed: 1, step: 1 };
            let call = Call { kind, inputs: &views, outputs: &mut written, workspace, draw };
            let begun = Instant::now();
            cpu.run(call).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    Timed { best: seconds[0], median: seconds[seconds.len() / 2] }
}
