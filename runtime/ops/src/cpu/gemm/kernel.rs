//! The innermost product: MR × NR sums that stay in registers while k passes by.
//!
//! Written with intrinsics, each in a function of its own: the compiler finds the same loop in plain arrays
//! too, at 98 % of the peak, but loses it again (30 %) once it is inlined into the code around it.

#[cfg(target_arch = "x86_64")]
use super::pack::Pairs;
use super::pack::{Format, Wide};

/// Where a kernel finds a panel's rows: word p of row i is `data[i * row + p * step]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [u32],
    pub row: usize,
    pub step: usize,
}

/// Where a kernel finds a panel's columns: the words of all columns at p lie side by side from `data[p * step]` on.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    pub data: &'a [u32],
    pub step: usize,
    /// Words of k.
    pub words: usize,
}

impl<'a> Columns<'a> {
    /// Views a packed panel of `columns`.
    #[inline(always)]
    pub fn packed(data: &'a [u32], columns: usize) -> Self {
        Columns { data, step: columns, words: data.len() / columns }
    }
}

/// Where a kernel leaves its sums: row i begins `i * stride` floats after `start`.
#[derive(Clone, Copy)]
pub struct Sums {
    pub start: *mut f32,
    pub stride: usize,
    /// Whether the sums are added to what is there.
    pub add: bool,
}

/// The product of a panel of `MR` rows with one of `NR` columns.
pub trait Kernel<const MR: usize, const NR: usize> {
    /// How the panels hold their numbers.
    type Format: Format;

    /// Stores the products of the rows of `a` with the columns of `b`.
    ///
    /// # Safety
    /// The MR rows of NR floats of `sums` can be written (and read, to be added to) and nobody else uses them
    /// meanwhile. The machine has the instructions that the kernel is for.
    ///
    /// # Panics
    /// Panics when `a` or `b` holds fewer words than `b` says.
    #[allow(unsafe_code)] // tiles of several threads lie in one matrix
    unsafe fn tile(a: Rows<'_>, b: Columns<'_>, sums: Sums);
}

/// Any machine; on aarch64 the sums are NEON registers.
pub struct Portable;

impl<const NR: usize> Kernel<4, NR> for Portable {
    type Format = Wide;

    #[inline(never)]
    #[allow(unsafe_code)] // see the trait
    unsafe fn tile(a: Rows<'_>, b: Columns<'_>, sums: Sums) {
        use super::super::simd::{Base, Isa};
        let mut own = [[0.0; NR]; 4];
        for word in 0..b.words {
            let line = &b.data[word * b.step..][..NR];
            for (i, sums) in own.iter_mut().enumerate() {
                let a = f32::from_bits(a.data[i * a.row + word * a.step]);
                for (sum, b) in sums.iter_mut().zip(line) {
                    *sum = Base::fma(a, f32::from_bits(*b), *sum);
                }
            }
        }
        for (i, own) in own.iter().enumerate() {
            // SAFETY: the caller gives MR rows of NR floats.
            let line = unsafe { std::slice::from_raw_parts_mut(sums.start.add(i * sums.stride), NR) };
            super::super::simd::put_all(sums.add, line, own.iter().copied());
        }
    }
}

/// Checks that every word that a kernel reads through a pointer is there; returns the number of words of k.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn checked(a: Rows<'_>, b: Columns<'_>, rows: usize, columns: usize) -> usize {
    let words = b.words;
    let held = words > 0
        && a.data.len() > (rows - 1) * a.row + (words - 1) * a.step
        && b.data.len() >= (words - 1) * b.step + columns;
    assert!(held, "panels hold {words} words");
    words
}

/// Words of k between the moments at which a kernel asks for what comes next: a line of the caches.
#[cfg(target_arch = "x86_64")]
const PART: usize = 16;

/// Parts before the end when a kernel asks for the lines of its sums: early enough for a cache that other
/// cores share, late enough that the panels do not push them out again.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 3;

/// Defines a kernel of registers of one type: `$beside` of them hold a row's columns.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $format:ty, $mr:literal by $nr:literal, $beside:literal of $lanes:literal, $features:literal,
     $zero:ident, $load:expr, $broadcast:expr, $multiply:expr, $read:ident, $sum:ident, $store:ident) => {
        impl Kernel<$mr, $nr> for $name {
            type Format = $format;

            #[inline(always)]
            #[allow(unsafe_code)] // loads and stores of registers go through pointers
            unsafe fn tile(a: Rows<'_>, b: Columns<'_>, sums: Sums) {
                /// # Safety
                /// As [`Kernel::tile`].
                #[target_feature(enable = $features)]
                #[inline(never)]
                unsafe fn run(a: Rows<'_>, b: Columns<'_>, sums: Sums) {
                    let words = checked(a, b, $mr, $nr);
                    let mut own = [[$zero(); $beside]; $mr];
                    let (row, step, next) = (a.row, a.step, b.step);
                    let (mut a, mut b) = (a.data.as_ptr(), b.data.as_ptr());
                    let parts = words.div_ceil(PART);
                    for part in 0..parts {
                        // The next rows come to the second cache meanwhile.
                        for i in 0..$mr {
                            _mm_prefetch::<_MM_HINT_T1>(a.wrapping_add(($mr + i) * row).cast());
                        }
                        if part == parts.saturating_sub(AHEAD) {
                            for i in 0..$mr {
                                for line in 0..$nr / 16 {
                                    let to = sums.start.wrapping_add(i * sums.stride + 16 * line);
                                    _mm_prefetch::<_MM_HINT_T0>(to.cast());
                                }
                            }
                        }
                        for _ in 0..PART.min(words - part * PART) {
                            // SAFETY: `checked` found `words` words of each row of a, `step` apart, and as
                            // many lines of NR words of b, `next` apart.
                            unsafe {
                                let line: [_; $beside] = std::array::from_fn(|j| $load(b.add(j * $lanes)));
                                for (i, own) in own.iter_mut().enumerate() {
                                    let x = $broadcast(*a.add(i * row));
                                    for (sum, y) in own.iter_mut().zip(line) {
                                        *sum = $multiply(*sum, x, y);
                                    }
                                }
                                (a, b) = (a.wrapping_add(step), b.wrapping_add(next));
                            }
                        }
                    }
                    for (i, own) in own.iter().enumerate() {
                        for (j, own) in own.iter().enumerate() {
                            // SAFETY: the caller gives MR rows of NR floats.
                            unsafe {
                                let to = sums.start.add(i * sums.stride + j * $lanes);
                                let own = if sums.add { $sum($read(to), *own) } else { *own };
                                $store(to, own);
                            }
                        }
                    }
                }
                // SAFETY: the caller keeps what both ask for.
                unsafe {
                    run(a, b, sums);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Avx512Pairs};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{AHEAD, Columns, Kernel, PART, Pairs, Rows, Sums, Wide, checked};
    use std::arch::x86_64::*;

    pub struct Avx2;
    pub struct Avx512;
    /// `vdpbf16ps` flushes denormals and rounds each of its two additions on its own.
    pub struct Avx512Pairs;

    macro_rules! avx512 {
        ($nr:literal, $beside:literal) => {
            kernel!(
                Avx512, Wide, 8 by $nr, $beside of 16, "avx512f",
                _mm512_setzero_ps, |b: *const u32| _mm512_loadu_ps(b.cast()), |a| _mm512_set1_ps(f32::from_bits(a)),
                |sum, x, y| _mm512_fmadd_ps(x, y, sum), _mm512_loadu_ps, _mm512_add_ps, _mm512_storeu_ps
            );
        };
    }
    avx512!(48, 3);
    avx512!(32, 2);
    avx512!(16, 1);

    macro_rules! avx2 {
        ($nr:literal, $beside:literal) => {
            kernel!(
                Avx2, Wide, 4 by $nr, $beside of 8, "avx2,fma",
                _mm256_setzero_ps, |b: *const u32| _mm256_loadu_ps(b.cast()), |a| _mm256_set1_ps(f32::from_bits(a)),
                |sum, x, y| _mm256_fmadd_ps(x, y, sum), _mm256_loadu_ps, _mm256_add_ps, _mm256_storeu_ps
            );
        };
    }
    avx2!(24, 3);
    avx2!(16, 2);

    kernel!(
        Avx512Pairs, Pairs, 8 by 48, 3 of 16, "avx512f,avx512bf16",
        _mm512_setzero_ps,
        |b: *const u32| std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.cast())),
        |a: u32| std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(a as i32)),
        |sum, x, y| _mm512_dpbf16_ps(sum, x, y), _mm512_loadu_ps, _mm512_add_ps, _mm512_storeu_ps
    );
}
