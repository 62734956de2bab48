//! Numbers of tokens and weights in memory: f32 or bf16, computed in f32 either way.
//!
//! Kernels are written for f32 slices. Operands in bf16 are widened block by block into a buffer that
//! stays in the cache, and results are rounded once, to nearest even, when a block is stored.

use super::pool::{Parts, Pool, stage};
use super::simd::{multiversion, put_scaled};
use half::bf16;

/// A number that is stored.
pub trait Float: Copy + Send + Sync + 'static {
    /// Whether the type is f32 itself, so that sums may be kept in it.
    const IS_F32: bool;

    /// Returns the number as f32; exact.
    fn widen(self) -> f32;

    /// Returns the nearest stored number, ties to even.
    fn round(x: f32) -> Self;
}

impl Float for f32 {
    const IS_F32: bool = true;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round(x: f32) -> Self {
        x
    }
}

impl Float for bf16 {
    const IS_F32: bool = false;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Without branches, so that loops are vectorised; any NaN becomes the quiet one.
    #[inline(always)]
    fn round(x: f32) -> Self {
        let bits = x.to_bits();
        let even = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        bf16::from_bits(if x.is_nan() { 0x7fc0 } else { even as u16 })
    }
}

/// Numbers that are read.
#[derive(Debug, Clone, Copy)]
pub enum Floats<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// Numbers that are written.
#[derive(Debug)]
pub enum FloatsMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

impl<'a> Floats<'a> {
    pub fn len(&self) -> usize {
        match self {
            Floats::F32(x) => x.len(),
            Floats::Bf16(x) => x.len(),
        }
    }

    /// Returns the bytes of an element.
    pub fn element_bytes(&self) -> usize {
        match self {
            Floats::F32(_) => size_of::<f32>(),
            Floats::Bf16(_) => size_of::<bf16>(),
        }
    }

    /// Returns elements `at..`.
    pub fn from(&self, at: usize) -> Floats<'a> {
        match self {
            Floats::F32(x) => Floats::F32(&x[at..]),
            Floats::Bf16(x) => Floats::Bf16(&x[at..]),
        }
    }

    /// Returns elements `at..at + len` as f32: where they lie, or widened into the buffer.
    #[inline(always)]
    pub fn part<'b>(&self, at: usize, len: usize, buffer: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Floats::F32(x) => &x[at..at + len],
            Floats::Bf16(x) => {
                let buffer = &mut buffer[..len];
                widen(&x[at..at + len], buffer);
                buffer
            }
        }
    }

    /// Copies elements `at..` into `y`, widened.
    #[inline(always)]
    pub fn copy_to(&self, at: usize, y: &mut [f32]) {
        match self {
            Floats::F32(x) => y.copy_from_slice(&x[at..at + y.len()]),
            Floats::Bf16(x) => widen(&x[at..at + y.len()], y),
        }
    }
}

impl<'a> FloatsMut<'a> {
    pub fn len(&self) -> usize {
        match self {
            FloatsMut::F32(y) => y.len(),
            FloatsMut::Bf16(y) => y.len(),
        }
    }

    /// Writes elements from `at` on, or adds to them.
    #[inline(always)]
    pub fn put(&mut self, at: usize, x: &[f32], add: bool) {
        match self {
            FloatsMut::F32(y) => put_scaled(x, 1.0, &mut y[at..at + x.len()], add),
            FloatsMut::Bf16(y) => round(x, &mut y[at..at + x.len()], add),
        }
    }
}

multiversion! {
    /// Copies numbers, widened.
    pub fn widen[I](x: &[bf16], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x.widen();
        }
    }
}

multiversion! {
    /// Rounds numbers to bf16.
    pub fn round_in_place[I](x: &mut [f32]) {
        for x in x {
            *x = bf16::round(*x).widen();
        }
    }
}

multiversion! {
    /// Writes x·scale, or adds it to what is there, rounded once.
    pub fn round_scaled[I](x: &[f32], scale: f32, y: &mut [bf16], add: bool) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = bf16::round(if add { y.widen() + x * scale } else { x * scale });
        }
    }
}

multiversion! {
    /// Writes numbers, or adds them to what is there, rounded once.
    pub fn round[I](x: &[f32], y: &mut [bf16], add: bool) {
        if add {
            for (y, x) in y.iter_mut().zip(x) {
                *y = bf16::round(y.widen() + x);
            }
        } else {
            for (y, x) in y.iter_mut().zip(x) {
                *y = bf16::round(*x);
            }
        }
    }
}

/// An output of which tasks write parts that do not overlap.
pub enum OutParts<'a> {
    F32(Parts<'a, f32>),
    Bf16(Parts<'a, bf16>),
}

impl<'a> OutParts<'a> {
    pub fn new(numbers: FloatsMut<'a>) -> Self {
        match numbers {
            FloatsMut::F32(y) => OutParts::F32(Parts::new(y)),
            FloatsMut::Bf16(y) => OutParts::Bf16(Parts::new(y)),
        }
    }

    /// Lets a kernel write `len` elements from `at` on: where they lie, or in the buffer, from which they are
    /// then rounded. `add` says whether the kernel adds to what is there.
    ///
    /// # Safety
    /// While this runs nobody else asks for any of these elements.
    #[allow(unsafe_code)] // tasks on several threads write one output
    #[inline(always)]
    pub unsafe fn write(
        &self,
        at: usize,
        len: usize,
        add: bool,
        buffer: &mut [f32],
        kernel: impl FnOnce(&mut [f32], bool),
    ) {
        match self {
            // SAFETY: the caller keeps parts apart.
            OutParts::F32(y) => kernel(unsafe { y.get(at, len) }, add),
            OutParts::Bf16(y) => {
                let buffer = &mut buffer[..len];
                kernel(buffer, false);
                // SAFETY: as above.
                round(buffer, unsafe { y.get(at, len) }, add);
            }
        }
    }
}

impl OutParts<'_> {
    /// Lets a kernel rewrite `len` elements from `at` on, in f32.
    ///
    /// # Safety
    /// While this runs nobody else asks for any of these elements.
    #[allow(unsafe_code)] // tasks on several threads write one output
    #[inline(always)]
    pub unsafe fn rewrite(&self, at: usize, len: usize, buffer: &mut [f32], kernel: impl FnOnce(&mut [f32])) {
        match self {
            // SAFETY: the caller keeps parts apart.
            OutParts::F32(y) => kernel(unsafe { y.get(at, len) }),
            OutParts::Bf16(y) => {
                // SAFETY: as above.
                let (y, buffer) = (unsafe { y.get(at, len) }, &mut buffer[..len]);
                widen(y, buffer);
                kernel(buffer);
                round(buffer, y, false);
            }
        }
    }
}

/// Computes an output block by block from inputs of the same shape.
///
/// `kernel` gets the inputs' parts in f32 and what it writes, with whether it adds.
pub fn by_blocks<const N: usize>(
    pool: &Pool,
    inputs: [Floats<'_>; N],
    (y, add): (FloatsMut<'_>, bool),
    (block, work): (usize, usize),
    kernel: impl Fn([&[f32]; N], &mut [f32], bool) + Sync,
) {
    let len = y.len();
    let y = OutParts::new(y);
    pool.run(len.div_ceil(block.max(1)), work, |task| {
        let (at, count) = (task * block, block.min(len - task * block));
        stage((N + 1) * count, |buffer| {
            let (out, rest) = buffer.split_at_mut(count);
            let mut buffers = rest.chunks_exact_mut(count);
            let inputs = inputs.map(|x| x.part(at, count, buffers.next().expect("a buffer for each input")));
            #[allow(unsafe_code)] // tasks write blocks of one output
            // SAFETY: each task has its own block.
            unsafe {
                y.write(at, count, add, out, |y, add| kernel(inputs, y, add));
            }
        });
    });
}

/// Rewrites an output block by block, with an input of the same shape.
pub fn rewrite_by_blocks(
    pool: &Pool,
    x: Floats<'_>,
    y: FloatsMut<'_>,
    (block, work): (usize, usize),
    kernel: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let len = y.len();
    let y = OutParts::new(y);
    pool.run(len.div_ceil(block.max(1)), work, |task| {
        let (at, count) = (task * block, block.min(len - task * block));
        stage(2 * count, |buffer| {
            let (out, buffer) = buffer.split_at_mut(count);
            let x = x.part(at, count, buffer);
            #[allow(unsafe_code)] // tasks write blocks of one output
            // SAFETY: each task has its own block.
            unsafe {
                y.rewrite(at, count, out, |y| kernel(x, y));
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        let mut bits = 1u32;
        for _ in 0..if cfg!(miri) { 2000 } else { 2_000_000 } {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = f32::from_bits(bits);
            if !x.is_nan() {
                assert_eq!(<bf16 as Float>::round(x).to_bits(), bf16::from_f32(x).to_bits(), "{x}");
            }
        }
        assert!(<bf16 as Float>::round(f32::NAN).is_nan());
        assert!(<bf16 as Float>::round(f32::from_bits(0x7fff_ffff)).is_nan());
        assert_eq!(<bf16 as Float>::round(f32::MAX), bf16::INFINITY);
    }

    #[test]
    fn widening_is_exact() {
        for bits in (0..=u16::MAX).step_by(if cfg!(miri) { 37 } else { 1 }) {
            let x = bf16::from_bits(bits);
            assert!(x.widen() == x.to_f32() || x.is_nan() && x.widen().is_nan(), "{bits:#x}");
        }
    }
}
