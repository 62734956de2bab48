//! The peak of a machine: what its cores multiply and add when nothing waits for memory.
//!
//! Each thread keeps twelve sums in registers, enough to hide the latency of the instruction, and reads nothing.
//! Shares of a peak mean something only beside a peak of the same moment: clocks fall under load.

use crate::backend::Backend;
use crate::cpu::Cpu;
use plan::value::Dtype;
use std::time::Instant;

/// Sums that are kept at once.
const SUMS: usize = 12;

/// Additions to each sum in one round.
const ROUND: usize = 16;

/// Returns the operations per second of all threads; nothing where no instruction has been written down.
///
/// Of bf16 it is that of the instruction for pairs, where the machine has it, and of f32 else.
pub fn flops(cpu: &Cpu, threads: usize, format: Dtype, rounds: usize) -> Option<f64> {
    let kernel = kernel(format)?;
    let run = || {
        let begun = Instant::now();
        cpu.parallel(threads, &|_| (kernel.run)(rounds));
        begun.elapsed().as_secs_f64()
    };
    let best = (0..12).map(|_| run()).fold(f64::INFINITY, f64::min);
    Some((threads * rounds * ROUND * SUMS * kernel.per_instruction) as f64 / best)
}

/// A loop over one instruction.
struct Kernel {
    run: fn(usize),
    /// Operations of one instruction.
    per_instruction: usize,
}

#[cfg(not(target_arch = "x86_64"))]
fn kernel(_format: Dtype) -> Option<Kernel> {
    None
}

#[cfg(target_arch = "x86_64")]
fn kernel(format: Dtype) -> Option<Kernel> {
    let wide = is_x86_feature_detected!("avx512f");
    if format == Dtype::Bf16 && wide && is_x86_feature_detected!("avx512bf16") && pairs_are_faster() {
        return Some(Kernel { run: x86::pairs, per_instruction: 64 });
    }
    if wide {
        return Some(Kernel { run: x86::wide, per_instruction: 32 });
    }
    let narrow = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    narrow.then_some(Kernel { run: x86::narrow, per_instruction: 16 })
}

/// Returns whether the instruction for pairs does more than the one for f32, on one core.
#[cfg(target_arch = "x86_64")]
fn pairs_are_faster() -> bool {
    const ROUNDS: usize = 20_000;
    let best = |run: fn(usize)| {
        let one = || {
            let begun = Instant::now();
            run(ROUNDS);
            begun.elapsed().as_secs_f64()
        };
        (0..5).map(|_| one()).fold(f64::INFINITY, f64::min)
    };
    best(x86::pairs) < 2.0 * best(x86::wide)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ROUND, SUMS};
    use std::arch::x86_64::*;

    /// Writes a loop over one instruction, and the function that enters it.
    macro_rules! kernel {
        ($name:ident, $feature:literal, $sums:expr, |$sum:ident| $step:expr) => {
            #[allow(unsafe_code, reason = "enters a function compiled for more than the base of the target")]
            pub fn $name(rounds: usize) {
                #[target_feature(enable = $feature)]
                fn run(rounds: usize) {
                    let mut sums = [$sums; SUMS];
                    for _ in 0..rounds {
                        for _ in 0..ROUND {
                            for $sum in &mut sums {
                                *$sum = $step;
                            }
                        }
                    }
                    std::hint::black_box(sums);
                }
                // SAFETY: `kernel` gives this function only to machines that have the features.
                unsafe { run(rounds) }
            }
        };
    }

    kernel!(wide, "avx512f", _mm512_set1_ps(0.5), |sum| {
        _mm512_fmadd_ps(*sum, _mm512_set1_ps(0.999), _mm512_set1_ps(0.5))
    });
    kernel!(narrow, "avx2,fma", _mm256_set1_ps(0.5), |sum| {
        _mm256_fmadd_ps(*sum, _mm256_set1_ps(0.999), _mm256_set1_ps(0.5))
    });
    // Pairs of 0.5: the bits of two bf16 numbers in each word.
    kernel!(pairs, "avx512f,avx512bf16", _mm512_set1_ps(0.5), |sum| {
        let pairs = bits(_mm512_set1_epi32(0x3f00_3f00));
        _mm512_dpbf16_ps(*sum, pairs, pairs)
    });

    #[allow(unsafe_code, reason = "two types of the same 64 bytes")]
    #[inline(always)]
    fn bits(words: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes of which every pattern is valid.
        unsafe { std::mem::transmute(words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_more_than_a_product_reaches() {
        let cpu = Cpu::new(1);
        let Some(peak) = flops(&cpu, 1, Dtype::F32, 20_000) else { return };
        let shape = crate::probe::products::Shape { tokens: 256, inputs: 256, outputs: 256 };
        let product = crate::probe::products::Product::Forward;
        let reached = product.flops(shape) / product.time(&cpu, shape, Dtype::F32, 20).best;
        // Beside other work either may be interrupted.
        assert!(peak > 1e9 && reached < 1.5 * peak, "{reached} of {peak}");
        assert!(flops(&cpu, 1, Dtype::Bf16, 20_000).is_some());
    }
}
