//! One kernel text, compiled for several instruction sets, and the elementary functions in them.
//!
//! Kernels are plain loops that the compiler vectorises. [`multiversion!`] compiles the loop for
//! AVX-512, AVX2 and the base of the target, and picks one when the program runs. All sums have a
//! fixed number of lanes, [`LANES`], so that their order is the order of the text.

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

/// Partial sums of a vector reduction.
pub const LANES: usize = 16;

/// What kernels are compiled for.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // of no use elsewhere
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Base,
    Avx2,
    Avx512,
}

/// Returns the best level that this machine has.
#[cfg(target_arch = "x86_64")]
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, _) => Level::Base,
    }
}

/// Instruction set that a kernel body is compiled for.
pub trait Isa {
    const LEVEL: Level;

    /// Returns a·b + c, rounded once where the instruction set can.
    fn fma(a: f32, b: f32, c: f32) -> f32;

    /// Transposes a block of words.
    #[inline(always)]
    fn transpose(block: &mut [[u32; 16]; 16]) {
        let rows = *block;
        for (i, line) in block.iter_mut().enumerate() {
            for (word, row) in line.iter_mut().zip(&rows) {
                *word = row[i];
            }
        }
    }
}

/// The base of the target; aarch64 has fused multiply-add there, x86-64 has not.
pub struct Base;
#[cfg(target_arch = "x86_64")]
pub struct Avx2;
#[cfg(target_arch = "x86_64")]
pub struct Avx512;

impl Isa for Base {
    const LEVEL: Level = Level::Base;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    const LEVEL: Level = Level::Avx2;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx512 {
    const LEVEL: Level = Level::Avx512;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    /// Four rounds that interleave the lines of the upper half with those of the lower: each turns the
    /// eight bits of (line, word) by one, so that after four they have changed places.
    #[inline(always)]
    #[allow(unsafe_code)] // shuffles that the compiler does not find by itself
    fn transpose(block: &mut [[u32; 16]; 16]) {
        use std::arch::x86_64::{__m512i, _mm512_permutex2var_epi32};
        const LOW: [u32; 16] = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
        const HIGH: [u32; 16] = [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31];
        // SAFETY: arrays and vectors have the same size and no invalid bits; `Avx512` is only the parameter
        // of functions that run after `level` or `dots_pairs` found the instructions.
        unsafe {
            let low = std::mem::transmute::<[u32; 16], __m512i>(LOW);
            let high = std::mem::transmute::<[u32; 16], __m512i>(HIGH);
            let mut lines = std::mem::transmute::<[[u32; 16]; 16], [__m512i; 16]>(*block);
            for _ in 0..4 {
                let old = lines;
                for i in 0..8 {
                    lines[2 * i] = _mm512_permutex2var_epi32(old[i], low, old[i + 8]);
                    lines[2 * i + 1] = _mm512_permutex2var_epi32(old[i], high, old[i + 8]);
                }
            }
            *block = std::mem::transmute::<[__m512i; 16], [[u32; 16]; 16]>(lines);
        }
    }
}

/// Returns whether this machine has the product of bf16 pairs, `vdpbf16ps`.
#[cfg(target_arch = "x86_64")]
pub fn has_pairs() -> bool {
    level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
}

/// Returns whether the product of bf16 pairs is faster than that of widened numbers.
///
/// On Zen 4 and 5 it does twice the work of an f32 instruction at the same rate. Intel's server cores issue it
/// at a quarter of the rate (measured: 87 against 175 GFLOP/s of a core with avx512_bf16 and without AMX).
#[cfg(target_arch = "x86_64")]
pub fn dots_pairs() -> bool {
    static FASTER: OnceLock<bool> = OnceLock::new();
    *FASTER.get_or_init(|| has_pairs() && vendor() == *b"AuthenticAMD")
}

/// Returns whether bf16 pairs are multiplied: nowhere else.
#[cfg(not(target_arch = "x86_64"))]
pub fn dots_pairs() -> bool {
    false
}

/// Returns the name of what kernels run on here: between two names results agree to rounding only.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    match level() {
        Level::Avx512 if dots_pairs() => return "avx512-bf16",
        Level::Avx512 => return "avx512",
        Level::Avx2 => return "avx2",
        Level::Base => {}
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "scalar" }
}

/// Returns the name of the processor's maker.
#[cfg(target_arch = "x86_64")]
fn vendor() -> [u8; 12] {
    let leaf = std::arch::x86_64::__cpuid(0);
    let mut name = [0; 12];
    for (part, register) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        part.copy_from_slice(&register.to_le_bytes());
    }
    name
}

/// Defines a function that is compiled per instruction set and dispatches on [`level`].
///
/// The first name in brackets is the type parameter by which the body calls [`Isa`] and other kernels' parts;
/// others are parameters of the function.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident [$isa:ident $(, $type:ident: $bound:ident)*] ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)] // kernels take their slices one by one
        $vis fn $name<$($type: $bound),*>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)] // some bodies need no fused multiply-add
            fn body<$isa: $crate::cpu::simd::Isa, $($type: $bound),*>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512<$($type: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::cpu::simd::Avx512, $($type),*>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$($type: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::cpu::simd::Avx2, $($type),*>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)] // calls a function compiled for more than the base of the target
            match $crate::cpu::simd::level() {
                // SAFETY: `level` found every feature that the function was compiled for.
                $crate::cpu::simd::Level::Avx512 => return unsafe { avx512::<$($type),*>($($arg),*) },
                // SAFETY: as above.
                $crate::cpu::simd::Level::Avx2 => return unsafe { avx2::<$($type),*>($($arg),*) },
                $crate::cpu::simd::Level::Base => {}
            }
            body::<$crate::cpu::simd::Base, $($type),*>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// Returns eˣ within 2 units in the last place; 0 below −86.9, infinity above 88.7, NaN for NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; the series of eʳ to degree 7 is exact to 5e-9 there.
#[inline(always)]
pub fn exp<I: Isa>(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4; // 355/512: n·LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -86.9;
    const HIGHEST: f32 = 89.0;
    // Written so that NaN stays NaN.
    let clamped = if x > HIGHEST { HIGHEST } else { x };
    let shifted = I::fma(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = I::fma(n, -LN2_LOW, I::fma(n, -LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    p = I::fma(p, r, 1.0 / 720.0);
    p = I::fma(p, r, 1.0 / 120.0);
    p = I::fma(p, r, 1.0 / 24.0);
    p = I::fma(p, r, 1.0 / 6.0);
    p = I::fma(p, r, 0.5);
    p = I::fma(p, r, 1.0);
    p = I::fma(p, r, 1.0);
    // 2ⁿ⁻¹ and a doubling, because 2¹²⁸ is no number.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(126) << 23);
    let y = p * scale * 2.0;
    if x < LOWEST { 0.0 } else { y }
}

/// Returns 1/(1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid<I: Isa>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<I>(-x))
}

/// Returns tanh x with an absolute error near 1e-7.
#[inline(always)]
pub fn tanh<I: Isa>(x: f32) -> f32 {
    1.0 - 2.0 / (exp::<I>(2.0 * x) + 1.0)
}

/// Returns the sum of the lanes, in a fixed tree.
#[inline(always)]
pub fn fold(lanes: &[f32; LANES]) -> f32 {
    let (mut eight, mut four) = ([0.0; 8], [0.0; 4]);
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Returns Σ aᵢ·bᵢ over the shorter length.
#[inline(always)]
pub fn dot<I: Isa>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_blocks.remainder(), b_blocks.remainder());
    for (x, y) in a_blocks.zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] = I::fma(x[i], y[i], lanes[i]);
        }
    }
    let mut sum = fold(&lanes);
    for (x, y) in a_rest.iter().zip(b_rest) {
        sum = I::fma(*x, *y, sum);
    }
    sum
}

/// Returns the largest element; −∞ for none. NaN is passed over: callers' sums still meet it.
#[inline(always)]
pub fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let blocks = a.chunks_exact(LANES);
    let rest = blocks.remainder();
    for x in blocks {
        for i in 0..LANES {
            lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = if lanes[i + width] > lanes[i] { lanes[i + width] } else { lanes[i] };
        }
        width /= 2;
    }
    rest.iter().fold(lanes[0], |most, &x| if x > most { x } else { most })
}

/// Bytes of a line of the caches.
pub const LINE: usize = 64;

/// Asks for elements `at..at + len`, or those of them that are there, to come to the second cache.
#[inline(always)]
pub fn ask<T>(x: &[T], at: usize, len: usize) {
    let soon = x.get(at..).unwrap_or_default();
    let bytes = size_of_val(&soon[..soon.len().min(len)]);
    for at in (0..bytes).step_by(LINE) {
        ask_line::<SECOND, _>(soon.as_ptr().wrapping_byte_add(at));
    }
}

/// The cache that a line is asked to: `_MM_HINT_T0` and `_MM_HINT_T1` of x86-64.
pub const FIRST: i32 = 3;
pub const SECOND: i32 = 2;

/// Asks for the line of a pointer, whatever it points at, to come to a cache.
#[inline(always)]
pub fn ask_line<const CACHE: i32, T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[allow(unsafe_code)] // an intrinsic on a pointer
    // SAFETY: a hint, which reads nothing; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<CACHE>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// Writes or adds one number.
#[inline(always)]
pub fn put(add: bool, y: &mut f32, value: f32) {
    *y = if add { *y + value } else { value };
}

/// Writes or adds values to the elements of `y`.
///
/// The two loops are apart so that each is vectorised without reading what `Set` must not read. Values come
/// from zipped slices and not by index: a check of bounds in the loop would keep it from being vectorised.
#[inline(always)]
pub fn put_all(add: bool, y: &mut [f32], values: impl Iterator<Item = f32>) {
    if add {
        for (y, value) in y.iter_mut().zip(values) {
            *y += value;
        }
    } else {
        for (y, value) in y.iter_mut().zip(values) {
            *y = value;
        }
    }
}

multiversion! {
    /// Writes or adds x·scale.
    ///
    /// A function of its own: only as its arguments does the compiler know that x and y are apart.
    pub fn put_scaled[I](x: &[f32], scale: f32, y: &mut [f32], add: bool) {
        put_all(add, y, x.iter().map(|x| x * scale));
    }
}

multiversion! {
    /// Writes or adds a + b.
    pub fn put_sum[I](a: &[f32], b: &[f32], y: &mut [f32], add: bool) {
        put_all(add, y, a.iter().zip(b).map(|(a, b)| a + b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    multiversion! {
        fn exp_all[I](x: &[f32], y: &mut [f32]) {
            for (x, y) in x.iter().zip(y) {
                *y = exp::<I>(*x);
            }
        }
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let x: Vec<f32> =
            (-86_800..88_700).step_by(if cfg!(miri) { 199 } else { 1 }).map(|i| i as f32 / 1000.0).collect();
        let mut y = vec![0.0; x.len()];
        exp_all(&x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let exact = f64::from(*x).exp();
            let unit = exact * f64::from(f32::EPSILON);
            assert!((f64::from(*y) - exact).abs() <= 2.0 * unit, "exp({x}) = {y}, not {exact}");
        }
    }

    #[test]
    fn exp_has_the_limits_that_it_states() {
        let x = [f32::NEG_INFINITY, -200.0, 0.0, 88.72, 89.5, f32::INFINITY, f32::NAN];
        let mut y = [0.0; 7];
        exp_all(&x, &mut y);
        assert_eq!(&y[..3], &[0.0, 0.0, 1.0]);
        assert!(y[3].is_finite());
        assert_eq!(&y[4..6], &[f32::INFINITY; 2]);
        assert!(y[6].is_nan());
    }
}
