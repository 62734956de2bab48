//! Times of the ops of a training step, per op and per token: `cargo run --release -p ops --example bench_ops`.
//!
//! Arguments: threads (default: all), tokens of a micro-step (default 4096; fewer where other programs run,
//! so that a call fits between interruptions), then words that names of ops must contain.

use ops::backend::{Backend, Call, Draw};
use ops::cpu::Cpu;
use ops::view::{Dims, View, ViewMut};
use plan::op::{Activation, Attention, Dropout, HeadGrads, OpKind, Write, workspace_bytes};
use plan::value::Dtype;
use std::time::Instant;

/// Tokens of a row.
const ROW: usize = 256;

/// An operand: shape and words, indices below a bound when there is one.
struct Operand {
    shape: Vec<usize>,
    dtype: Dtype,
    words: Vec<u32>,
}

impl Operand {
    /// Returns the operand in bf16: of each pair of words the upper halves.
    fn bf16(self) -> Operand {
        let words = self.words.chunks(2).map(|pair| pair[0] >> 16 | pair[pair.len() - 1] & 0xffff_0000);
        Operand { words: words.collect(), dtype: Dtype::Bf16, shape: self.shape }
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes() as usize
    }
}

fn floats(shape: &[usize]) -> Operand {
    let count = shape.iter().product();
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 8_388_608.0 - 1.0).to_bits()
    };
    Operand { shape: shape.to_vec(), dtype: Dtype::F32, words: (0..count).map(|_| next()).collect() }
}

fn index(count: usize, of: impl Fn(usize) -> usize) -> Operand {
    Operand { shape: vec![count], dtype: Dtype::I32, words: (0..count).map(|i| of(i) as u32).collect() }
}

struct Bench {
    cpu: Cpu,
    tokens: usize,
    words: Vec<String>,
}

impl Bench {
    /// Prints the best and the median time of an op; `flops` counts multiplications and additions.
    fn time(&self, name: &str, kind: OpKind, inputs: Vec<Operand>, mut outputs: Vec<Operand>, flops: f64) {
        let label = format!("{} {name}", kind.name());
        if !self.words.iter().all(|word| label.contains(word.as_str())) {
            return;
        }
        let shapes = |operands: &[Operand]| -> Vec<Vec<u64>> {
            operands.iter().map(|o| o.shape.iter().map(|&size| size as u64).collect()).collect()
        };
        let need = workspace_bytes(&kind, &shapes(&inputs), inputs[0].dtype) as usize;
        let mut workspace = vec![0u64; need.div_ceil(8)];
        let views: Vec<View<'_>> = inputs
            .iter()
            .map(|o| View {
                dtype: o.dtype,
                dims: Dims::new(&o.shape),
                bytes: &bytemuck::cast_slice(&o.words)[..o.bytes()],
            })
            .collect();
        let write = if matches!(kind, OpKind::AdamW { .. }) { Write::Update } else { Write::Set };
        let mut times: Vec<f64> = (0..40)
            .map(|_| {
                let mut written: Vec<ViewMut<'_>> = outputs
                    .iter_mut()
                    .map(|o| ViewMut {
                        dtype: o.dtype,
                        dims: Dims::new(&o.shape),
                        write,
                        bytes: {
                            let bytes = o.bytes();
                            &mut bytemuck::cast_slice_mut(&mut o.words)[..bytes]
                        },
                    })
                    .collect();
                let call = Call {
                    kind: &kind,
                    inputs: &views,
                    outputs: &mut written,
                    workspace: &mut bytemuck::cast_slice_mut(&mut workspace)[..need],
                    draw: Draw { seed: 1, step: 1 },
                };
                let start = Instant::now();
                self.cpu.run(call).unwrap_or_else(|error| panic!("{label}: {error}"));
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let bytes: usize = inputs.iter().chain(&outputs).map(Operand::bytes).sum();
        println!(
            "{label:<42} {:>9.1} µs best {:>9.1} median {:>7.1} GFLOP/s {:>6.1} GB/s",
            times[0] * 1e6,
            times[times.len() / 2] * 1e6,
            flops / times[0] / 1e9,
            bytes as f64 / times[0] / 1e9,
        );
    }

    fn layer(&self, h: usize, heads: usize) {
        let (n, i, dim) = (self.tokens, h * 8 / 3 / 16 * 16, h / heads);
        let linear = || OpKind::Linear { quantized: None, adapter: None };
        for (inputs, outputs) in [(h, h), (h, i), (i, h)] {
            let flops = 2.0 * (n * inputs * outputs) as f64;
            let name = format!("{inputs}→{outputs}");
            let (x, dy) = (|| floats(&[n, inputs]), || floats(&[n, outputs]));
            let w = || floats(&[outputs, inputs]);
            self.time(&name, linear(), vec![x(), w()], vec![dy()], flops);
            self.time(&name, OpKind::LinearGradX, vec![dy(), w()], vec![x()], flops);
            self.time(&name, OpKind::LinearGradW, vec![dy(), x()], vec![w()], flops);
        }
        let (x, w, token) = (|| floats(&[n, h]), || floats(&[h]), || floats(&[n]));
        let name = format!("H {h}");
        let size = (n * h) as f64;
        self.time(
            &name,
            OpKind::RmsNorm { eps: 1e-5 },
            vec![x(), w(), x()],
            vec![x(), token(), x()],
            6.0 * size,
        );
        let inputs = vec![x(), x(), w(), token(), x()];
        self.time(&name, OpKind::RmsNormGrad, inputs, vec![x(), w()], 14.0 * size);
        let inv_freq: Vec<f64> = (0..dim / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / dim as f64)).collect();
        let rope = OpKind::Rope { head_dim: dim as u32, inv_freq, scale: 1.0, inverse: false };
        self.time(&name, rope, vec![x(), index(n, |token| token % ROW)], vec![x()], 6.0 * size);
        let wide = || floats(&[n, i]);
        let size = (n * i) as f64;
        for f in [Activation::Silu, Activation::Gelu] {
            let name = format!("{f:?} I {i}");
            self.time(&name, OpKind::GatedAct { f }, vec![wide(), wide()], vec![wide()], size);
            self.time(
                &name,
                OpKind::GatedActGrad { f },
                vec![wide(), wide(), wide()],
                vec![wide(), wide()],
                size,
            );
        }
        self.attention(h, heads, dim, None);
        self.attention(h, heads, dim, Some(Dropout { p: 0.1, site: 1 }));
    }

    /// The products of a layer and of the head, in both formats; shares of the peak follow from [`peak`].
    fn products(&self) {
        let linear = || OpKind::Linear { quantized: None, adapter: None };
        for (inputs, outputs) in [(768, 3072), (3072, 768), (576, 576), (576, 1536), (1536, 576), (576, 192)]
        {
            let n = self.tokens;
            let flops = 2.0 * (n * inputs * outputs) as f64;
            let (x, dy, w) =
                (|| floats(&[n, inputs]), || floats(&[n, outputs]), || floats(&[outputs, inputs]));
            let name = format!("{n}×{inputs}→{outputs}");
            self.time(&name, linear(), vec![x(), w()], vec![dy()], flops);
            self.time(&name, OpKind::LinearGradX, vec![dy(), w()], vec![x()], flops);
            self.time(&name, OpKind::LinearGradW, vec![dy(), x()], vec![w()], flops);
            let name = format!("{name} bf16");
            self.time(&name, linear(), vec![x().bf16(), w().bf16()], vec![dy().bf16()], flops);
            let inputs = vec![dy().bf16(), w().bf16()];
            self.time(&name, OpKind::LinearGradX, inputs, vec![x().bf16()], flops);
            self.time(&name, OpKind::LinearGradW, vec![dy().bf16(), x().bf16()], vec![w()], flops);
        }
        self.rest(576, 49152);
    }

    fn attention(&self, h: usize, heads: usize, dim: usize, dropout: Option<Dropout>) {
        let (n, rows) = (self.tokens, self.tokens / ROW);
        let attention = Attention {
            heads: heads as u32,
            kv_heads: heads as u32,
            head_dim: dim as u32,
            scale: 1.0 / (dim as f64).sqrt(),
            window: None,
            softcap: None,
            alibi: None,
            dropout,
        };
        let x = || floats(&[n, h]);
        let lse = || floats(&[n, heads]);
        let (cu, numbers) = (|| index(rows + 1, |row| row * ROW), || index(rows, |row| row));
        // Two products forward, five backward, of half the square.
        let product = (rows * ROW * ROW * h) as f64;
        let name = format!("{heads}×{dim}{}", if dropout.is_some() { " dropout" } else { "" });
        let forward = OpKind::Attention(attention.clone());
        self.time(&name, forward, vec![x(), x(), x(), cu(), numbers()], vec![x(), lse()], 2.0 * product);
        let inputs = vec![x(), x(), x(), x(), x(), lse(), cu(), numbers()];
        self.time(&name, OpKind::AttentionGrad(attention), inputs, vec![x(), x(), x()], 5.0 * product);
    }

    fn rest(&self, h: usize, v: usize) {
        let (n, t) = (self.tokens, self.tokens - self.tokens / ROW);
        let name = format!("H {h} V {v}");
        let (x, w) = (|| floats(&[n, h]), || floats(&[v, h]));
        let tokens = || index(n, |token| token * 7919 % v);
        self.time(&name, OpKind::Embed, vec![tokens(), w()], vec![x()], 0.0);
        self.time(&name, OpKind::EmbedGrad, vec![x(), tokens()], vec![w()], 0.0);
        let trained = index(t, |i| i + i / (ROW - 1));
        let labels = index(t, |i| i * 31 % v);
        let inputs = vec![x(), w(), trained, labels, floats(&[1])];
        let kind = OpKind::LmHeadLoss { grads: HeadGrads::HiddenAndWeight };
        self.time(&name, kind, inputs, vec![floats(&[1]), x(), w()], 6.0 * (t * h * v) as f64);
    }
}

/// Returns what one core multiplies and adds when nothing waits for memory, in GFLOP/s.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // calls functions compiled for more than the base of the target
fn peak() -> f64 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};
    const ROUNDS: usize = 300_000;
    const SUMS: usize = 12;
    #[target_feature(enable = "avx512f")]
    fn wide() {
        let (a, b) = (_mm512_set1_ps(0.999), _mm512_set1_ps(0.5));
        let mut sums = [b; SUMS];
        for _ in 0..ROUNDS {
            for _ in 0..16 {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, a, b);
                }
            }
        }
        std::hint::black_box(sums);
    }
    #[target_feature(enable = "avx2,fma")]
    fn narrow() {
        let (a, b) = (_mm256_set1_ps(0.999), _mm256_set1_ps(0.5));
        let mut sums = [b; SUMS];
        for _ in 0..ROUNDS {
            for _ in 0..16 {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, a, b);
                }
            }
        }
        std::hint::black_box(sums);
    }
    let lanes = if is_x86_feature_detected!("avx512f") { 16 } else { 8 };
    let run = || {
        let start = Instant::now();
        // SAFETY: the features are asked for; every machine that the kernels are for has the second.
        unsafe { if lanes == 16 { wide() } else { narrow() } }
        start.elapsed().as_secs_f64()
    };
    let best = (0..20).map(|_| run()).fold(f64::INFINITY, f64::min);
    (2 * lanes * 16 * SUMS * ROUNDS) as f64 / best / 1e9
}

/// No instruction set has been measured here.
#[cfg(not(target_arch = "x86_64"))]
fn peak() -> f64 {
    f64::NAN
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(available);
    let tokens: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(4096);
    let bench = Bench { cpu: Cpu::new(threads), tokens, words: arguments.collect() };
    println!("{threads} threads, {tokens} tokens in rows of {ROW}");
    println!("peak of f32 multiply-add on one core: {:.1} GFLOP/s", peak());
    bench.products();
    for (h, heads) in [(64, 8), (128, 4), (256, 4)] {
        bench.layer(h, heads);
        bench.rest(h, 512);
        bench.rest(h, 2000);
    }
    let weights = || floats(&[1 << 20]);
    let adamw = OpKind::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, lr_scale: 1.0 };
    let inputs = vec![weights(), floats(&[1]), floats(&[3])];
    bench.time("1M", adamw, inputs, vec![weights(), weights(), weights()], (12 << 20) as f64);
    bench.time("1M", OpKind::SumSquares, vec![weights()], vec![floats(&[1])], (2 << 20) as f64);
    let dropout = OpKind::Dropout(Dropout { p: 0.1, site: 1 });
    let rows = tokens / ROW;
    let inputs = vec![floats(&[tokens, 256]), index(rows + 1, |row| row * ROW), index(rows, |row| row)];
    bench.time("H 256", dropout, inputs, vec![floats(&[tokens, 256])], (tokens * 256) as f64);
}
