//! The table of cases: every op, shapes that fit no tile, rows of different length, large numbers.

use crate::harness::{Case, Numbers, Operand, floats, index};
use plan::op::{Activation, Attention, Dropout, HeadGrads, OpKind, PreferenceLoss};

/// Number of ops; [`place`] gives each one its place below it.
pub const OPS: usize = 41;

/// Returns the place of an op. A new op does not compile until it has one, and then lacks a case.
pub fn place(kind: &OpKind) -> usize {
    match kind {
        OpKind::Embed => 0,
        OpKind::EmbedGrad => 1,
        OpKind::Linear { .. } => 2,
        OpKind::LinearGradX => 3,
        OpKind::LinearGradW => 4,
        OpKind::BiasGrad => 5,
        OpKind::RmsNorm { .. } => 6,
        OpKind::RmsNormGrad => 7,
        OpKind::LayerNorm { .. } => 8,
        OpKind::LayerNormGrad => 9,
        OpKind::Rope { .. } => 10,
        OpKind::Attention(_) => 11,
        OpKind::AttentionGrad(_) => 12,
        OpKind::GatedAct { .. } => 13,
        OpKind::GatedActGrad { .. } => 14,
        OpKind::Act { .. } => 15,
        OpKind::ActGrad { .. } => 16,
        OpKind::Add => 17,
        OpKind::Copy => 18,
        OpKind::Dropout(_) => 19,
        OpKind::LmHeadLoss { .. } => 20,
        OpKind::TokenLogprobs => 21,
        OpKind::TokenLogprobsGrad => 22,
        OpKind::SumByRow { .. } => 23,
        OpKind::SpreadToTokens { .. } => 24,
        OpKind::PreferenceLoss { .. } => 25,
        OpKind::Reciprocal => 26,
        OpKind::SumSquares => 27,
        OpKind::ClipFactor { .. } => 28,
        OpKind::AdamW { .. } => 29,
        OpKind::Gather => 30,
        OpKind::CacheAppend => 31,
        OpKind::AttentionCached(_) => 32,
        OpKind::Cast => 33,
        OpKind::Route { .. } => 34,
        OpKind::Dispatch { .. } => 35,
        OpKind::GroupedLinear { .. } => 36,
        OpKind::Combine { .. } => 37,
        OpKind::AllGather { .. } => 38,
        OpKind::ReduceScatter { .. } => 39,
        OpKind::AllReduce { .. } => 40,
    }
}

/// Returns the largest ‖a − b‖/‖b‖ of an output in f32 against f64, and why it is that.
pub fn tolerance(kind: &OpKind) -> (f64, &'static str) {
    match kind {
        OpKind::Embed | OpKind::Gather | OpKind::Copy | OpKind::CacheAppend | OpKind::Cast => (0.0, "copies"),
        OpKind::Add | OpKind::Reciprocal | OpKind::ClipFactor { .. } => (2e-7, "a few roundings"),
        OpKind::Dropout(_) => (1e-7, "the factor is rounded, masks are equal"),
        OpKind::Attention(_) | OpKind::AttentionGrad(_) | OpKind::AttentionCached(_) => {
            (1e-5, "an error of a score of size s becomes s·6e-8 of its probability")
        }
        OpKind::LmHeadLoss { .. } | OpKind::TokenLogprobs | OpKind::TokenLogprobsGrad => {
            (5e-6, "sums over hidden_size and vocab_size, exp of logits of size 20")
        }
        OpKind::SumSquares | OpKind::SumByRow { .. } | OpKind::SpreadToTokens { .. } => {
            (2e-7, "summed in f64")
        }
        OpKind::PreferenceLoss { .. } => (1e-6, "computed in f64 from logprobs rounded to f32"),
        OpKind::Rope { .. } => (2e-7, "angles are f64, cos and sin rounded once"),
        OpKind::AdamW { .. } => (1e-6, "a dozen roundings per element"),
        OpKind::GatedAct { .. }
        | OpKind::GatedActGrad { .. }
        | OpKind::Act { .. }
        | OpKind::ActGrad { .. } => (1e-6, "exp within 2 units in the last place; 1 − tanh² loses two bits"),
        OpKind::RmsNorm { .. } | OpKind::RmsNormGrad | OpKind::LayerNorm { .. } | OpKind::LayerNormGrad => {
            (2e-6, "sums over hidden_size in f32, cancellation against the mean")
        }
        OpKind::EmbedGrad
        | OpKind::Linear { .. }
        | OpKind::LinearGradX
        | OpKind::LinearGradW
        | OpKind::BiasGrad => (2e-6, "sums of up to a few hundred products in f32"),
        OpKind::Route { .. }
        | OpKind::Dispatch { .. }
        | OpKind::GroupedLinear { .. }
        | OpKind::Combine { .. }
        | OpKind::AllGather { .. }
        | OpKind::ReduceScatter { .. }
        | OpKind::AllReduce { .. } => (0.0, "not run"),
    }
}

/// Lengths of the rows of a batch.
const ROWS: [usize; 5] = [37, 1, 130, 64, 65];

pub fn cu_seqlens(lengths: &[usize]) -> Operand {
    let mut ends = vec![0];
    for length in lengths {
        ends.push(ends[ends.len() - 1] + *length as i32);
    }
    index(ends)
}

/// Numbers of rows in the order of an epoch: not their places in the batch.
pub fn row_numbers(lengths: &[usize]) -> Operand {
    index((0..lengths.len() as i32).map(|row| 1000 - 7 * row).collect())
}

pub fn attention(heads: u32, kv_heads: u32, head_dim: u32) -> Attention {
    Attention {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / f64::from(head_dim).sqrt(),
        window: None,
        softcap: None,
        alibi: None,
        dropout: None,
    }
}

/// Every `step`-th token is trained; returns their indices.
pub fn trained(tokens: usize, step: usize) -> Operand {
    index((0..tokens).filter(|token| token % step != 1).map(|token| token as i32).collect())
}

/// Returns all cases that both backends run.
pub fn cases() -> Vec<Case> {
    let mut table = Table { cases: Vec::new(), numbers: Numbers::new(1) };
    table.lookups();
    table.linears();
    table.norms();
    table.ropes();
    table.attentions();
    table.activations();
    table.elementwise();
    table.heads();
    table.preferences();
    table.optimizers();
    table.decoding();
    table.long_rows();
    table.cases
}

struct Table {
    cases: Vec<Case>,
    numbers: Numbers,
}

impl Table {
    fn floats(&mut self, shape: &[usize]) -> Operand {
        self.numbers.floats(shape, 1.0)
    }

    fn add(&mut self, name: &str, kind: OpKind, inputs: Vec<Operand>, outputs: &[&[usize]]) {
        let outputs = outputs.iter().map(|shape| self.floats(shape)).collect();
        let name = format!("{} {name}", kind.name());
        self.cases.push(Case { name, kind, inputs, outputs });
    }

    fn lookups(&mut self) {
        for (n, v, h) in [(1, 1, 1), (123, 57, 5), (300, 40, 64), (77, 1000, 123)] {
            let name = format!("{n}×{h} of {v}");
            let (index, table, dy) = (self.numbers.index(n, v), self.floats(&[v, h]), self.floats(&[n, h]));
            self.add(&name, OpKind::Embed, vec![index.clone(), table.clone()], &[&[n, h]]);
            self.add(&name, OpKind::EmbedGrad, vec![dy, index.clone()], &[&[v, h]]);
            self.add(&name, OpKind::Gather, vec![table, index], &[&[n, h]]);
        }
    }

    fn linears(&mut self) {
        let linear = || OpKind::Linear { quantized: None, adapter: None };
        for (n, i, o) in
            [(1, 1, 1), (1, 64, 200), (5, 123, 123), (300, 64, 192), (257, 100, 31), (700, 256, 300)]
        {
            let name = format!("{n}×{i}×{o}");
            let (x, w, b, dy) =
                (self.floats(&[n, i]), self.floats(&[o, i]), self.floats(&[o]), self.floats(&[n, o]));
            self.add(&name, linear(), vec![x.clone(), w.clone()], &[&[n, o]]);
            self.add(&format!("{name} bias"), linear(), vec![x.clone(), w.clone(), b], &[&[n, o]]);
            self.add(&name, OpKind::LinearGradX, vec![dy.clone(), w], &[&[n, i]]);
            self.add(&name, OpKind::LinearGradW, vec![dy.clone(), x], &[&[o, i]]);
            self.add(&name, OpKind::BiasGrad, vec![dy], &[&[o]]);
        }
    }

    fn norms(&mut self) {
        for (n, h, scale) in [(1, 5, 1.0), (5, 123, 1.0), (200, 64, 1.0), (130, 257, 1e3), (66, 48, 1e-3)] {
            let name = format!("{n}×{h} at {scale}");
            let x = self.numbers.floats(&[n, h], scale);
            let residual = self.numbers.floats(&[n, h], scale);
            let (w, b, dy, dh) =
                (self.floats(&[h]), self.floats(&[h]), self.floats(&[n, h]), self.floats(&[n, h]));
            let (full, token): (&[usize], &[usize]) = (&[n, h], &[n]);
            let eps = 1e-5;
            let rms = || OpKind::RmsNorm { eps };
            self.add(&name, rms(), vec![x.clone(), w.clone()], &[full, token]);
            let inputs = vec![x.clone(), w.clone(), residual.clone()];
            self.add(&format!("{name} residual"), rms(), inputs, &[full, token, full]);
            let layer = || OpKind::LayerNorm { eps };
            self.add(&name, layer(), vec![x.clone(), w.clone(), b.clone()], &[full, token, token]);
            let inputs = vec![x.clone(), w.clone(), b, residual];
            self.add(&format!("{name} residual"), layer(), inputs, &[full, token, token, full]);
            let rows = || x.numbers().chunks(h);
            let mean: Vec<f64> = rows().map(|x| x.iter().sum::<f64>() / h as f64).collect();
            let rstd = |centre: &[f64]| {
                let square = |(x, c): (&[f64], &f64)| x.iter().map(|x| (x - c) * (x - c)).sum::<f64>();
                let of = |row| 1.0 / (square(row) / h as f64 + eps).sqrt();
                floats(rows().zip(centre).map(of).collect())
            };
            let (root, deviation) = (rstd(&vec![0.0; n]), rstd(&mean));
            let inputs = vec![dy.clone(), x.clone(), w.clone(), root];
            self.add(&name, OpKind::RmsNormGrad, inputs.clone(), &[full]);
            let inputs = [inputs, vec![dh.clone()]].concat();
            self.add(&format!("{name} dh dw"), OpKind::RmsNormGrad, inputs, &[full, &[h]]);
            let inputs = vec![dy, x.clone(), w, floats(mean.clone()), deviation];
            self.add(&name, OpKind::LayerNormGrad, inputs.clone(), &[full, &[h]]);
            let inputs = [inputs, vec![dh]].concat();
            self.add(&format!("{name} dh db"), OpKind::LayerNormGrad, inputs, &[full, &[h], &[h]]);
        }
    }

    fn ropes(&mut self) {
        for (n, heads, dim, inverse) in [(1, 1, 2, false), (297, 3, 10, false), (130, 4, 64, true)] {
            let inv_freq = (0..dim / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / dim as f64)).collect();
            let kind = OpKind::Rope { head_dim: dim as u32, inv_freq, scale: 1.1, inverse };
            let positions =
                index((0..n as i32).map(|token| if token < 70 { token } else { token - 70 }).collect());
            let x = self.floats(&[n, heads * dim]);
            self.add(&format!("{n}×{heads}×{dim}"), kind, vec![x, positions], &[&[n, heads * dim]]);
        }
    }

    fn attentions(&mut self) {
        let dropout = Some(Dropout { p: 0.3, site: 5 });
        let slopes = Some(vec![0.5, 0.25, 0.125, 0.0625, 0.03, 0.01]);
        let plain = attention(6, 6, 16);
        let table = [
            ("one token", attention(1, 1, 1), vec![1], 1.0),
            ("several rows", plain.clone(), ROWS.to_vec(), 1.0),
            ("odd head_dim", attention(2, 1, 5), vec![123, 5], 1.0),
            ("wide head_dim", attention(2, 2, 72), vec![70], 1.0),
            ("head_dim 48", attention(1, 1, 48), vec![300, 17], 1.0),
            ("head_dim 64", attention(2, 1, 64), vec![129, 200], 1.0),
            ("grouped heads", attention(6, 2, 24), ROWS.to_vec(), 1.0),
            ("empty row", attention(2, 1, 8), vec![3, 0, 9], 1.0),
            ("large scores", plain.clone(), vec![100, 9], 5.0),
            ("dropout", Attention { dropout, ..attention(6, 3, 16) }, ROWS.to_vec(), 1.0),
            ("window", Attention { window: Some(20), ..plain.clone() }, vec![300, 7], 1.0),
            ("softcap", Attention { softcap: Some(3.0), ..plain.clone() }, ROWS.to_vec(), 2.0),
            ("alibi", Attention { alibi: slopes.clone(), ..plain.clone() }, ROWS.to_vec(), 1.0),
            (
                "everything",
                Attention {
                    window: Some(70),
                    softcap: Some(9.0),
                    alibi: slopes.clone(),
                    dropout,
                    ..attention(6, 2, 9)
                },
                vec![200, 1, 66],
                1.0,
            ),
        ];
        for (name, a, lengths, scale) in table {
            self.attention(name, a, &lengths, None, scale);
        }
        let seen = Attention { window: Some(50), softcap: Some(9.0), alibi: slopes, ..attention(6, 2, 9) };
        let table = [
            ("prefixes", plain, vec![70, 130, 9, 64, 40, 3], [0, 67, 5, 0, 64, 0]),
            (
                "prefixes, grouped heads",
                attention(6, 2, 24),
                vec![3, 66, 1, 0, 200, 64],
                [0, 1, 3, 0, 0, 129],
            ),
            ("prefixes, window, softcap, alibi", seen, vec![300, 70, 9, 20, 1, 90], [0, 290, 64, 0, 20, 7]),
        ];
        for (name, a, lengths, prefixes) in table {
            self.attention(name, a, &lengths, Some(index(prefixes.to_vec())), 1.0);
        }
    }

    fn attention(
        &mut self,
        name: &str,
        a: Attention,
        lengths: &[usize],
        prefixes: Option<Operand>,
        scale: f64,
    ) {
        let (n, heads, dim) = (lengths.iter().sum(), a.heads as usize, a.head_dim as usize);
        let (wide, narrow) = (heads * dim, a.kv_heads as usize * dim);
        let q = self.numbers.floats(&[n, wide], scale);
        let k = self.numbers.floats(&[n, narrow], scale);
        let (v, d_o) = (self.floats(&[n, narrow]), self.floats(&[n, wide]));
        let rows = [cu_seqlens(lengths), row_numbers(lengths)].into_iter().chain(prefixes).collect();
        let inputs = [vec![q, k, v], rows].concat();
        self.add(name, OpKind::Attention(a.clone()), inputs.clone(), &[&[n, wide], &[n, heads]]);
        // The gradient needs o and lse of the forward op, in f64.
        let forward = self.cases.last().expect("just added");
        let plain = plain::Plain::new();
        let results = crate::harness::run(&plain, forward, plan::value::Dtype::F64, plan::op::Write::Set);
        let results = results.expect("the plain backend runs every case");
        let saved = forward.outputs.iter().zip(results).map(|(output, data)| output.with(data));
        let saved: Vec<Operand> = saved.collect();
        let inputs = [vec![d_o], inputs[..3].to_vec(), saved, inputs[3..].to_vec()].concat();
        let shapes: [&[usize]; 3] = [&[n, wide], &[n, narrow], &[n, narrow]];
        self.add(name, OpKind::AttentionGrad(a), inputs, &shapes);
    }

    /// From 2,048 tokens on the gradient is shared out by heads, of rows that go on from others too.
    fn long_rows(&mut self) {
        self.attention("a long row, grouped heads", attention(4, 2, 8), &[3, 2100, 70], None, 1.0);
        let prefixes = index(vec![0, 1490, 0]);
        self.attention("a long family", attention(3, 1, 5), &[1500, 700, 5], Some(prefixes), 1.0);
    }

    fn activations(&mut self) {
        let functions = [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu];
        for f in functions {
            for (n, i, scale) in [(1, 1, 1.0), (5, 123, 1.0), (130, 200, 4.0)] {
                let name = format!("{f:?} {n}×{i} at {scale}");
                let x = self.numbers.floats(&[n, i], scale);
                let (up, dy) = (self.floats(&[n, i]), self.floats(&[n, i]));
                let shape: &[usize] = &[n, i];
                self.add(&name, OpKind::Act { f }, vec![x.clone()], &[shape]);
                self.add(&name, OpKind::ActGrad { f }, vec![dy.clone(), x.clone()], &[shape]);
                self.add(&name, OpKind::GatedAct { f }, vec![x.clone(), up.clone()], &[shape]);
                self.add(&name, OpKind::GatedActGrad { f }, vec![dy, x, up], &[shape, shape]);
            }
        }
    }

    fn elementwise(&mut self) {
        for (n, h) in [(1, 1), (123, 7), (200, 130)] {
            let name = format!("{n}×{h}");
            let (a, b) = (self.floats(&[n, h]), self.floats(&[n, h]));
            self.add(&name, OpKind::Add, vec![a.clone(), b], &[&[n, h]]);
            self.add(&name, OpKind::Copy, vec![a.clone()], &[&[n, h]]);
            self.add(&name, OpKind::Cast, vec![a], &[&[n, h]]);
        }
        for h in [1, 5, 64, 130] {
            let n = ROWS.iter().sum();
            let inputs = vec![self.floats(&[n, h]), cu_seqlens(&ROWS), row_numbers(&ROWS)];
            self.add(&format!("{h}"), OpKind::Dropout(Dropout { p: 0.1, site: 3 }), inputs, &[&[n, h]]);
        }
    }

    fn heads(&mut self) {
        for (n, h, v, step, scale) in
            [(1, 1, 1, 2, 1.0), (5, 123, 123, 3, 0.3), (700, 64, 300, 5, 1.0), (40, 16, 1037, 2, 4.0)]
        {
            self.head(&format!("{n}×{h}×{v}"), [n, h, v], trained(n, step), scale);
        }
        // Tokens that are trained for several labels, in one chunk and in two.
        let again = [vec![4, 5, 4, 9, 9, 0], (0..260).collect(), vec![7, 250, 7]].concat();
        self.head("tokens that come again", [300, 16, 37], index(again[..6].to_vec()), 1.0);
        self.head("tokens that come again in chunks", [300, 16, 37], index(again), 1.0);
        let inputs = vec![self.floats(&[3, 4]), self.floats(&[5, 4]), index(vec![]), index(vec![])];
        let kind = OpKind::LmHeadLoss { grads: HeadGrads::HiddenAndWeight };
        self.add("without trained tokens", kind, inputs, &[&[1], &[3, 4], &[5, 4]]);
    }

    fn head(&mut self, name: &str, [n, h, v]: [usize; 3], index: Operand, scale: f64) {
        let hidden = self.numbers.floats(&[n, h], scale);
        let w = self.floats(&[v, h]);
        let t = index.shape[0];
        let labels = self.numbers.index(t, v);
        let inputs = vec![hidden, w, index, labels];
        let (one, full, weight): (&[usize], &[usize], &[usize]) = (&[1], &[n, h], &[v, h]);
        let loss = |grads| OpKind::LmHeadLoss { grads };
        let scaled = [inputs.clone(), vec![floats(vec![0.125])]].concat();
        self.add(name, loss(HeadGrads::None), inputs.clone(), &[one]);
        self.add(name, loss(HeadGrads::Hidden), scaled.clone(), &[one, full]);
        self.add(name, loss(HeadGrads::HiddenAndWeight), scaled, &[one, full, weight]);
        self.add(name, OpKind::TokenLogprobs, inputs.clone(), &[&[t], &[t]]);
        let forward = self.cases.last().expect("just added");
        let plain = plain::Plain::new();
        let results = crate::harness::run(&plain, forward, plan::value::Dtype::F64, plan::op::Write::Set);
        let lse = floats(results.expect("the plain backend runs every case").remove(1));
        let inputs = [vec![self.floats(&[t])], inputs, vec![lse]].concat();
        self.add(name, OpKind::TokenLogprobsGrad, inputs.clone(), &[full]);
        self.add(&format!("{name} dw"), OpKind::TokenLogprobsGrad, inputs, &[full, weight]);
    }

    fn preferences(&mut self) {
        for mean in [false, true] {
            let rows = index(vec![0, 0, 0, 2, 3, 3, 5, 5, 5, 5]);
            let (x, dy) = (self.floats(&[10]), self.floats(&[6]));
            self.add(&format!("mean {mean}"), OpKind::SumByRow { mean }, vec![x, rows.clone()], &[&[6]]);
            self.add(&format!("mean {mean}"), OpKind::SpreadToTokens { mean }, vec![dy, rows], &[&[10]]);
        }
        let losses = [
            PreferenceLoss::Sigmoid { label_smoothing: 0.0 },
            PreferenceLoss::Sigmoid { label_smoothing: 0.1 },
            PreferenceLoss::Ipo,
            PreferenceLoss::Hinge,
        ];
        for loss in losses {
            for (rows, scale) in [(2, 1.0), (14, 5.0), (8, 300.0)] {
                let policy = self.numbers.floats(&[rows], scale);
                let reference = self.numbers.floats(&[rows], scale);
                let inputs = vec![policy, reference, floats(vec![0.25])];
                let kind = || OpKind::PreferenceLoss { loss, beta: 0.1 };
                let name = format!("{loss:?} {rows} at {scale}");
                self.add(&name, kind(), inputs.clone(), &[&[1], &[4]]);
                self.add(&format!("{name} gradient"), kind(), inputs, &[&[1], &[rows], &[4]]);
            }
        }
    }

    fn optimizers(&mut self) {
        self.add("of a count", OpKind::Reciprocal, vec![floats(vec![24.0])], &[&[1]]);
        let gradients = vec![self.floats(&[1]), self.floats(&[123, 7]), self.floats(&[300, 100])];
        self.add("of three tensors", OpKind::SumSquares, gradients, &[&[1]]);
        for max_norm in [0.0, 1.0, 100.0] {
            let kind = OpKind::ClipFactor { max_norm };
            self.add(&format!("to {max_norm}"), kind, vec![floats(vec![30.0])], &[&[1], &[1]]);
        }
        for (len, weight_decay) in [(1, 0.0), (20_001, 0.1)] {
            let kind = OpKind::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, lr_scale: 0.5 };
            let scalars = floats(vec![f64::from(1e-2_f32), f64::from(0.271_f32), f64::from(0.003_f32)]);
            let inputs = vec![self.floats(&[len]), floats(vec![0.75]), scalars];
            let name = format!("{len} decay {weight_decay}");
            self.add(&name, kind, inputs, &[&[len], &[len], &[len]]);
            // Second moments are not negative.
            let v = &mut self.cases.last_mut().expect("just added").outputs[2];
            *v = v.with(v.numbers().iter().map(|x| x * x).collect());
        }
    }

    fn decoding(&mut self) {
        let (slots, cached, columns) = (3, 9, 10);
        let inputs = vec![self.floats(&[4, columns]), index(vec![0, 2, 2, 1]), index(vec![8, 0, 1, 3])];
        self.add("four tokens", OpKind::CacheAppend, inputs, &[&[slots, cached, columns]]);
        let slopes = Some(vec![0.5, 0.1]);
        for (name, a) in [
            ("plain", attention(2, 2, 5)),
            ("grouped", attention(4, 2, 5)),
            ("window", Attention { window: Some(3), ..attention(4, 2, 5) }),
            ("softcap, alibi", Attention { softcap: Some(2.0), alibi: slopes, ..attention(2, 2, 5) }),
        ] {
            let wide = (a.heads * a.head_dim) as usize;
            let caches = [self.floats(&[slots, cached, columns]), self.floats(&[slots, cached, columns])];
            let inputs =
                [vec![self.floats(&[slots, wide])], caches.to_vec(), vec![index(vec![1, 9, 6])]].concat();
            self.add(name, OpKind::AttentionCached(a), inputs, &[&[slots, wide]]);
        }
    }
}
