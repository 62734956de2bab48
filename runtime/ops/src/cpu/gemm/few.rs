//! Products with few rows: y [m,n] = x [m,k] · wᵀ, as in decoding.
//!
//! The weights are read once, where they lie; memory decides the time. Rows of w are taken four at a time, so
//! that their sums do not wait for each other, and a task asks for what it reads next: rows are too short for
//! the processor to see by itself where reading goes on.

use super::super::float::{Float, Floats};
use super::super::pool::{Parts, Pool, scratch};
use super::super::simd::{Base, Isa, LANES, ask, fold};
#[cfg(target_arch = "x86_64")]
use super::super::simd::{Level, level};
use super::{Finish, Matrix, Shape};

/// Bytes of w of one task, about: some µs of memory, so that threads end together also when one comes late.
const TASK: usize = 128 << 10;

/// Rows of w side by side.
const BESIDE: usize = 4;

/// Rows of w of one task at least, since a task begins with a wait for memory.
const LEAST: usize = 8 * BESIDE;

/// Bytes of w that are asked for ahead of the row read last: what memory delivers while it answers, and more.
const AHEAD: usize = 8 << 10;

/// Computes the product; `b` is the transpose of `[n,k]`.
pub fn product<E: Float>(
    pool: &Pool,
    Shape { m, n, k }: Shape,
    a: Matrix<'_>,
    b: Matrix<'_>,
    y: &mut [E],
    finish: Finish<'_>,
) {
    let y = Parts::new(y);
    let rows = rows_of_task(n, k * b.data.element_bytes(), pool.threads());
    pool.run(n.div_ceil(rows), m * n * k, |task| {
        let (first, count) = (task * rows, rows.min(n - task * rows));
        scratch(m * (k + count), |buffer| {
            let (x, sums) = buffer.split_at_mut(m * k);
            for row in 0..m {
                a.data.copy_to(row * a.stride, &mut x[row * k..][..k]);
            }
            match b.data {
                Floats::F32(w) => dots(m, x, &w[first * b.stride..], b.stride, count, sums),
                Floats::Bf16(w) => dots(m, x, &w[first * b.stride..], b.stride, count, sums),
            }
            for (row, sums) in sums.chunks_exact(count).enumerate() {
                #[allow(unsafe_code)] // tasks write columns of one matrix
                // SAFETY: columns `first..first + count` are this task's alone.
                let y = unsafe { y.get(row * n + first, count) };
                for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                    let bias = match finish.bias {
                        Some(Floats::F32(bias)) => bias[first + i],
                        Some(Floats::Bf16(bias)) => bias[first + i].widen(),
                        None => 0.0,
                    };
                    let sum = *sum + bias;
                    *y = E::round(if finish.add { y.widen() + sum } else { sum });
                }
            }
        });
    });
}

/// Returns the rows of w of one task: as many tasks for each thread, of about [`TASK`] bytes.
fn rows_of_task(n: usize, row_bytes: usize, threads: usize) -> usize {
    let bytes = TASK.max(LEAST * row_bytes);
    let tasks = threads * (n * row_bytes).div_ceil(threads * bytes).max(1);
    n.div_ceil(tasks).next_multiple_of(BESIDE)
}

/// Writes for each of the `m` rows of `x` the sums x·wᵢ over `count` rows of w that are `stride` apart.
fn dots<W: Wide>(m: usize, x: &[f32], w: &[W], stride: usize, count: usize, y: &mut [f32]) {
    let k = x.len() / m;
    let whole = k / LANES * LANES;
    let end = (count - 1) * stride + k;
    // Asked for in the order of memory, while rows are read side by side.
    let ahead = AHEAD / size_of::<W>() + (BESIDE - 1) * stride;
    ask(w, 0, ahead.min(end));
    for block in (0..count).step_by(BESIDE) {
        let beside = BESIDE.min(count - block);
        let at = |i: usize| &w[(block + i.min(beside - 1)) * stride..][..k];
        let rows = [at(0), at(1), at(2), at(3)];
        let mut next = w.get(block * stride + ahead..end).unwrap_or_default();
        for (row, y) in y.chunks_exact_mut(count).enumerate() {
            let x = &x[row * k..][..k];
            let sums = products(&x[..whole], rows, next);
            for ((y, w), sums) in y[block..].iter_mut().zip(rows).take(beside).zip(&sums) {
                let rest = x[whole..].iter().zip(&w[whole..]);
                *y = rest.fold(fold(sums), |sum, (x, w)| Base::fma(*x, w.widen(), sum));
            }
            next = &[]; // the other rows of x find the block in the cache
        }
    }
}

/// Sums of products of every `LANES`th element, for rows side by side.
type Sums = [[f32; LANES]; BESIDE];

/// Returns the sums for as many elements as x has, a multiple of `LANES`, and asks for as much of `next`.
///
/// # Panics
/// Panics when a row is shorter than x.
fn products<W: Wide>(x: &[f32], w: [&[W]; BESIDE], next: &[W]) -> Sums {
    assert!(x.len().is_multiple_of(LANES) && w.iter().all(|w| w.len() >= x.len()), "rows of one length");
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)] // calls functions compiled for more than the base of the target
    match level() {
        // SAFETY: `level` found the instructions, and no row is shorter than x.
        Level::Avx512 => return unsafe { x86::avx512(x, w, next) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { x86::avx2(x, w, next) },
        Level::Base => {}
    }
    let _ = next; // the base of a target has no word for it
    w.map(|w| {
        let mut sums = [0.0; LANES];
        for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
            for i in 0..LANES {
                sums[i] = Base::fma(x[i], w[i].widen(), sums[i]);
            }
        }
        sums
    })
}

#[cfg(not(target_arch = "x86_64"))]
use Float as Wide;
#[cfg(target_arch = "x86_64")]
use x86::Wide;

/// Written with intrinsics: from loops over rows and lanes the compiler makes shuffles, a tenth as fast.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::super::simd::{LINE, SECOND, ask_line};
    use super::{BESIDE, Float, LANES, Sums};
    use half::bf16;
    use std::arch::x86_64::*;

    /// The lines to ask for while a block is read.
    struct Lines<W> {
        at: *const W,
        step: usize,
    }

    impl<W> Lines<W> {
        /// Takes what comes next; where that is nothing, a line that is there already is asked for again and again.
        #[inline(always)]
        fn of(next: &[W], block: &[W]) -> Self {
            if next.is_empty() {
                Lines { at: block.as_ptr(), step: 0 }
            } else {
                Lines { at: next.as_ptr(), step: LINE }
            }
        }

        /// Asks for as many bytes as `LANES` weights of each row are.
        #[inline(always)]
        fn ask(&mut self) {
            for _ in 0..BESIDE * LANES * size_of::<W>() / LINE {
                ask_line::<SECOND, _>(self.at);
                self.at = self.at.wrapping_byte_add(self.step);
            }
        }
    }

    /// Weights that are widened in registers.
    #[allow(unsafe_code)] // loads of registers go through pointers
    pub trait Wide: Float {
        /// # Safety
        /// There are 16 elements at the pointer, and the machine has AVX-512.
        unsafe fn load_16(at: *const Self) -> __m512;
        /// # Safety
        /// There are 8 elements at the pointer, and the machine has AVX2.
        unsafe fn load_8(at: *const Self) -> __m256;
    }

    #[allow(unsafe_code)] // see the trait
    impl Wide for f32 {
        #[inline(always)]
        unsafe fn load_16(at: *const f32) -> __m512 {
            // SAFETY: the caller keeps what the trait asks for.
            unsafe { _mm512_loadu_ps(at) }
        }

        #[inline(always)]
        unsafe fn load_8(at: *const f32) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_loadu_ps(at) }
        }
    }

    #[allow(unsafe_code)] // see the trait
    impl Wide for bf16 {
        #[inline(always)]
        unsafe fn load_16(at: *const bf16) -> __m512 {
            // SAFETY: as above.
            unsafe {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
            }
        }

        #[inline(always)]
        unsafe fn load_8(at: *const bf16) -> __m256 {
            // SAFETY: as above.
            unsafe {
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            }
        }
    }

    /// # Safety
    /// No row is shorter than x.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    #[allow(unsafe_code)] // loads of registers go through pointers
    pub unsafe fn avx512<W: Wide>(x: &[f32], w: [&[W]; BESIDE], next: &[W]) -> Sums {
        let mut lines = Lines::of(next, w[0]);
        let mut sums = [_mm512_setzero_ps(); BESIDE];
        for at in (0..x.len()).step_by(LANES) {
            lines.ask();
            // SAFETY: `at` and the 15 elements behind it lie within x, whose length LANES divides, and in rows.
            unsafe {
                let x = _mm512_loadu_ps(x.as_ptr().add(at));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(x, W::load_16(w.as_ptr().add(at)), *sum);
                }
            }
        }
        let mut stored = [[0.0; LANES]; BESIDE];
        for (stored, sum) in stored.iter_mut().zip(sums) {
            // SAFETY: the array has 16 floats.
            unsafe { _mm512_storeu_ps(stored.as_mut_ptr(), sum) };
        }
        stored
    }

    /// # Safety
    /// No row is shorter than x.
    #[target_feature(enable = "avx2,fma")]
    #[allow(unsafe_code)] // as above
    pub unsafe fn avx2<W: Wide>(x: &[f32], w: [&[W]; BESIDE], next: &[W]) -> Sums {
        let mut lines = Lines::of(next, w[0]);
        let mut sums = [[_mm256_setzero_ps(); 2]; BESIDE];
        for at in (0..x.len()).step_by(LANES) {
            lines.ask();
            // SAFETY: as above.
            unsafe {
                let x = [_mm256_loadu_ps(x.as_ptr().add(at)), _mm256_loadu_ps(x.as_ptr().add(at + 8))];
                for (sums, w) in sums.iter_mut().zip(w) {
                    let w = w.as_ptr().add(at);
                    sums[0] = _mm256_fmadd_ps(x[0], W::load_8(w), sums[0]);
                    sums[1] = _mm256_fmadd_ps(x[1], W::load_8(w.add(8)), sums[1]);
                }
            }
        }
        let mut stored = [[0.0; LANES]; BESIDE];
        for (stored, [low, high]) in stored.iter_mut().zip(sums) {
            // SAFETY: the array has 16 floats.
            unsafe {
                _mm256_storeu_ps(stored.as_mut_ptr(), low);
                _mm256_storeu_ps(stored.as_mut_ptr().add(8), high);
            }
        }
        stored
    }
}
