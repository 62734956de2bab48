//! Operands: typed, shaped views of arena bytes.

use crate::cpu::float::{Floats, FloatsMut};
use plan::op::Write;
use plan::value::Dtype;

/// Most dimensions of a value.
pub const MAX_RANK: usize = 4;

/// Sizes of an operand at the extents of this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    sizes: [usize; MAX_RANK],
    rank: usize,
}

impl Dims {
    /// Makes dims from sizes.
    ///
    /// # Panics
    /// Panics with more than [`MAX_RANK`] sizes; plans have none.
    pub fn new(sizes: &[usize]) -> Self {
        let mut all = [1; MAX_RANK];
        all[..sizes.len()].copy_from_slice(sizes);
        Dims { sizes: all, rank: sizes.len() }
    }

    /// Returns the sizes.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.sizes().iter().product()
    }

    /// Returns the size of the first dimension (1 for a scalar).
    pub fn rows(&self) -> usize {
        self.sizes[0]
    }

    /// Returns the product of all dimensions but the first.
    pub fn columns(&self) -> usize {
        self.sizes[1..].iter().product()
    }
}

/// An operand that is read. The bytes are exactly its elements at the extents of this call.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub dtype: Dtype,
    pub dims: Dims,
    pub bytes: &'a [u8],
}

/// An operand that is written. `write` is `Set`, `Add` or `Update`: `Accumulate` is resolved by the caller.
#[derive(Debug)]
pub struct ViewMut<'a> {
    pub dtype: Dtype,
    pub dims: Dims,
    pub write: Write,
    pub bytes: &'a mut [u8],
}

impl<'a> View<'a> {
    /// Returns the elements as f32.
    ///
    /// # Panics
    /// Panics when the bytes are not aligned f32; arenas are aligned to 64 bytes.
    pub fn f32(&self) -> &'a [f32] {
        debug_assert_eq!(self.dtype, Dtype::F32);
        bytemuck::cast_slice(self.bytes)
    }

    /// Returns the elements as f32 or bf16.
    ///
    /// # Panics
    /// Panics when the dtype is another, or the bytes are not aligned.
    pub(crate) fn floats(&self) -> Floats<'a> {
        match self.dtype {
            Dtype::F32 => Floats::F32(bytemuck::cast_slice(self.bytes)),
            Dtype::Bf16 => Floats::Bf16(bytemuck::cast_slice(self.bytes)),
            other => panic!("{} is no number of tokens or weights", other.name()),
        }
    }

    /// Returns the elements as f64.
    ///
    /// # Panics
    /// Panics when the bytes are not aligned f64.
    pub fn f64(&self) -> &'a [f64] {
        debug_assert_eq!(self.dtype, Dtype::F64);
        bytemuck::cast_slice(self.bytes)
    }

    /// Returns the elements as i32.
    ///
    /// # Panics
    /// Panics when the bytes are not aligned i32.
    pub fn i32(&self) -> &'a [i32] {
        debug_assert_eq!(self.dtype, Dtype::I32);
        bytemuck::cast_slice(self.bytes)
    }
}

impl ViewMut<'_> {
    /// Returns the elements as f32.
    ///
    /// # Panics
    /// Panics when the bytes are not aligned f32.
    pub fn f32(&mut self) -> &mut [f32] {
        debug_assert_eq!(self.dtype, Dtype::F32);
        bytemuck::cast_slice_mut(self.bytes)
    }

    /// Returns the elements as f32 or bf16.
    ///
    /// # Panics
    /// Panics when the dtype is another, or the bytes are not aligned.
    pub(crate) fn floats(&mut self) -> FloatsMut<'_> {
        match self.dtype {
            Dtype::F32 => FloatsMut::F32(bytemuck::cast_slice_mut(self.bytes)),
            Dtype::Bf16 => FloatsMut::Bf16(bytemuck::cast_slice_mut(self.bytes)),
            other => panic!("{} is no number of tokens or weights", other.name()),
        }
    }

    /// Returns the elements as f64.
    ///
    /// # Panics
    /// Panics when the bytes are not aligned f64.
    pub fn f64(&mut self) -> &mut [f64] {
        debug_assert_eq!(self.dtype, Dtype::F64);
        bytemuck::cast_slice_mut(self.bytes)
    }
}
