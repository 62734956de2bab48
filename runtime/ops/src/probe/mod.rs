//! What a machine reaches: short measurements with the kernels that will run.
//!
//! [`rates`] takes half a second, on a busy machine two, and is what predictions are calibrated by; [`products`] are
//! the figures of `adapt bench`, beside the [`peak`] of the same moment. Every figure is the best of several short
//! calls: other work on the machine can only make one slower.

mod call;
pub mod peak;
pub mod products;

pub use call::{Operand, Timed, bf16, floats, index, time};

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cpu::simd::multiversion;
use plan::op::{Attention, OpKind};
use std::time::{Duration, Instant};

/// What a machine reaches on all threads of a backend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Operations per second of products in f32 with matrices of these widths.
    pub f32: [f64; 2],
    pub bf16: [f64; 2],
    /// Operations per second of attention.
    pub attention: f64,
    /// Bytes per second that a copy reads and writes together.
    pub copy: f64,
    /// Bytes per second that a sum reads.
    pub read: f64,
    /// Seconds of an op that has next to nothing to do.
    pub per_op: f64,
}

impl Rates {
    /// Returns the better of each figure.
    fn or_better(self, other: Self) -> Self {
        let both = |a: [f64; 2], b: [f64; 2]| [a[0].max(b[0]), a[1].max(b[1])];
        Rates {
            f32: both(self.f32, other.f32),
            bf16: both(self.bf16, other.bf16),
            attention: self.attention.max(other.attention),
            copy: self.copy.max(other.copy),
            read: self.read.max(other.read),
            per_op: self.per_op.min(other.per_op),
        }
    }

    /// Returns whether a figure that predictions rest on is better by more than such figures spread.
    fn is_news_to(self, other: Self) -> bool {
        let all = |rates: Self| {
            let Rates { f32: [a, b], bf16: [c, d], attention, copy, .. } = rates;
            [a, b, c, d, attention, copy]
        };
        all(self).into_iter().zip(all(other)).any(|(new, old)| new > 1.1 * old)
    }
}

/// Tokens of the products of a probe.
const TOKENS: usize = 512;

/// Bytes that are copied, and read: more than the caches of a core hold. A last-level cache may hold more; what it
/// would take to go beyond that, and what it would change, stands in `docs/benchmarks/README.md`.
const BYTES: usize = 32 << 20;

/// Time after which [`rates`] takes what it has, and between two looks at a machine that has other work.
const PATIENCE: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(100);

/// Measures what a machine reaches; `widths` are those of square matrices, a narrow and a wide one.
///
/// It measures twice, and again for a second or two where the second time was better or threads have to share a
/// core meanwhile. Where they always do, as more threads than cores, that is what the machine reaches.
pub fn rates(cpu: &Cpu, widths: [usize; 2]) -> Rates {
    let begun = Instant::now();
    let mut best = measured(cpu, widths);
    loop {
        let was_crowded = crowded(cpu);
        let before = best;
        best = best.or_better(measured(cpu, widths));
        if !was_crowded && !best.is_news_to(before) || begun.elapsed() >= PATIENCE {
            return best;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns whether all threads together mostly take much longer for what one does alone.
fn crowded(cpu: &Cpu) -> bool {
    // It stays in the first cache: what threads share of the memory is no other's work.
    let words = [1; 4096];
    let work = |_| {
        for _ in 0..4000 {
            std::hint::black_box(parity(std::hint::black_box(&words)));
        }
    };
    let median = |tasks| {
        let mut times = [0.0; 9];
        for time in &mut times {
            let begun = Instant::now();
            cpu.parallel(tasks, &work);
            *time = begun.elapsed().as_secs_f64();
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    cpu.threads() > 1 && median(cpu.threads()) > 1.3 * median(1)
}

/// Measures once.
fn measured(cpu: &Cpu, widths: [usize; 2]) -> Rates {
    let numbers = vec![floats(&[BYTES / 4])];
    let copy = best(cpu, &OpKind::Copy, &numbers, vec![zeros(&[BYTES / 4])]);
    let read = best(cpu, &OpKind::SumSquares, &numbers, vec![zeros(&[1])]);
    Rates {
        f32: widths.map(|width| product(cpu, width, floats)),
        bf16: widths.map(|width| product(cpu, width, |shape| bf16(floats(shape)))),
        attention: attention(cpu),
        copy: 2.0 * BYTES as f64 / copy,
        read: BYTES as f64 / read,
        per_op: best(cpu, &OpKind::Copy, &[floats(&[16])], vec![zeros(&[16])]),
    }
}

/// Returns the bytes per second that all threads read of words that lie in memory: the best of a few times.
pub fn bandwidth(cpu: &Cpu, words: &[u32]) -> f64 {
    const PART: usize = 1 << 20;
    let read = || {
        let begun = Instant::now();
        cpu.parallel(words.len().div_ceil(PART), &|part| {
            let words = &words[part * PART..words.len().min((part + 1) * PART)];
            std::hint::black_box(parity(words));
        });
        begun.elapsed().as_secs_f64()
    };
    size_of_val(words) as f64 / (0..5).map(|_| read()).fold(f64::INFINITY, f64::min)
}

multiversion! {
    /// Combines words in as many registers as hide what one costs.
    fn parity[I](words: &[u32]) -> u32 {
        const BESIDE: usize = 128;
        let mut all = [0; BESIDE];
        for block in words.as_chunks::<BESIDE>().0 {
            for (all, word) in all.iter_mut().zip(block) {
                *all ^= word;
            }
        }
        all.iter().fold(0, |all, word| all ^ word)
    }
}

fn zeros(shape: &[usize]) -> Operand {
    Operand::zeros(shape, plan::value::Dtype::F32)
}

/// Returns the best time of an op within a few hundredths of a second (three calls at least), after one call to
/// warm up.
fn best(cpu: &Cpu, kind: &OpKind, inputs: &[Operand], mut outputs: Vec<Operand>) -> f64 {
    const MOST: Duration = Duration::from_millis(25);
    time(cpu, kind, inputs, &mut outputs, 1);
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    for call in 0.. {
        if call >= 3 && begun.elapsed() >= MOST {
            break;
        }
        best = best.min(time(cpu, kind, inputs, &mut outputs, 1).best);
    }
    best
}

/// Returns the operations per second of a layer's product.
fn product(cpu: &Cpu, width: usize, numbers: impl Fn(&[usize]) -> Operand) -> f64 {
    let kind = OpKind::Linear { quantized: None, adapter: None };
    let inputs = [numbers(&[TOKENS, width]), numbers(&[width, width])];
    let seconds = best(cpu, &kind, &inputs, vec![numbers(&[TOKENS, width])]);
    2.0 * (TOKENS * width * width) as f64 / seconds
}

/// Returns the operations per second of attention, as `plan::cost` counts them.
fn attention(cpu: &Cpu) -> f64 {
    const ROW: usize = 256;
    const HEADS: usize = 8;
    const DIM: usize = 64;
    let attention = Attention {
        heads: HEADS as u32,
        kv_heads: HEADS as u32,
        head_dim: DIM as u32,
        scale: 1.0 / (DIM as f64).sqrt(),
        window: None,
        softcap: None,
        alibi: None,
        dropout: None,
    };
    let x = || floats(&[TOKENS, HEADS * DIM]);
    let rows = TOKENS / ROW;
    let inputs = [x(), x(), x(), index(rows + 1, |row| row * ROW), index(rows, |row| row)];
    let seconds = best(cpu, &OpKind::Attention(attention), &inputs, vec![x(), zeros(&[TOKENS, HEADS])]);
    2.0 * (TOKENS * HEADS * DIM * ROW) as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_share_a_core_are_seen() {
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!(crowded(&Cpu::new(3 * cores)));
    }

    #[test]
    fn what_is_remembered_is_the_best_of_both() {
        let slow =
            Rates { f32: [1.0; 2], bf16: [1.0, 4.0], attention: 1.0, copy: 1.0, read: 1.0, per_op: 2.0 };
        let other = Rates { f32: [0.5, 1.05], bf16: [1.0; 2], per_op: 1.0, ..slow };
        let best = slow.or_better(other);
        assert_eq!(best, Rates { f32: [1.0, 1.05], bf16: [1.0, 4.0], per_op: 1.0, ..slow });
        assert!(best.is_news_to(other) && !best.is_news_to(slow));
    }

    #[test]
    fn a_probe_is_short_and_finds_something() {
        let cpu = Cpu::new(2);
        let begun = Instant::now();
        let found = rates(&cpu, [128, 768]);
        // A tenth of that on a quiet machine of today.
        assert!(begun.elapsed() < Duration::from_secs(8));
        println!("{found:?} in {:?}", begun.elapsed());
        println!("crowded: {:?}", (0..10).map(|_| crowded(&cpu)).collect::<Vec<_>>());
        let Rates { f32, bf16, attention, copy, read, per_op } = found;
        for rate in [f32[0], f32[1], bf16[0], bf16[1], attention, copy, read] {
            assert!(rate.is_finite() && rate > 1e7, "{found:?}");
        }
        assert!(per_op > 0.0 && per_op < 0.01, "{found:?}");
    }
}
