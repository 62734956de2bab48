//! Times of the ops of a training step, per op and per token: `cargo run --release -p ops --example bench_ops`.
//!
//! Arguments: threads (default: all), tokens of a micro-step (default 4096; fewer where other programs run,
//! so that a call fits between interruptions), then words that names of ops must contain. For products of real
//! models beside the machine's peak there is `adapt bench products`.

use ops::cpu::Cpu;
use ops::probe::{self, Operand, floats, index};
use plan::op::{Activation, Attention, Dropout, HeadGrads, OpKind};

/// Tokens of a row.
const ROW: usize = 256;

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
        let timed = probe::time(&self.cpu, &kind, &inputs, &mut outputs, 40);
        let bytes: usize = inputs.iter().chain(&outputs).map(Operand::bytes).sum();
        println!(
            "{label:<42} {:>9.1} µs best {:>9.1} median {:>7.1} GFLOP/s {:>6.1} GB/s",
            timed.best * 1e6,
            timed.median * 1e6,
            flops / timed.best / 1e9,
            bytes as f64 / timed.best / 1e9,
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

fn main() {
    let mut arguments = std::env::args().skip(1);
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(available);
    let tokens: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(4096);
    let bench = Bench { cpu: Cpu::new(threads), tokens, words: arguments.collect() };
    println!("{threads} threads, {tokens} tokens in rows of {ROW}");
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
