//! Gradient ops of the plain backend against central differences of its forward ops, in f64.

use crate::cases::{attention, cu_seqlens, row_numbers};
use crate::harness::{Case, Numbers, Operand, distance, floats, index, run};
use plain::Plain;
use plan::op::{Activation, Attention, Dropout, HeadGrads, OpKind, PreferenceLoss, Write};
use plan::value::Dtype;

/// Step of the difference; its error is near 1e-10 relative, that of rounding near 1e-10 too.
const STEP: f64 = 1e-5;

/// Largest ‖a − b‖/‖b‖.
const TOLERANCE: f64 = 1e-7;

fn evaluate(kind: &OpKind, inputs: &[Operand], outputs: &[Operand]) -> Vec<Vec<f64>> {
    let case = Case {
        name: kind.name().to_owned(),
        kind: kind.clone(),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
    };
    run(&Plain::new(), &case, Dtype::F64, Write::Set).unwrap_or_else(|error| panic!("{error}"))
}

/// A forward op, and the weights by which its outputs are summed to one number.
struct Forward {
    kind: OpKind,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    /// One per output; the other outputs count nothing.
    seeds: Vec<Operand>,
}

impl Forward {
    fn new(kind: OpKind, inputs: Vec<Operand>, shapes: &[&[usize]], seeds: Vec<Operand>) -> Self {
        let outputs = shapes.iter().map(|shape| Numbers::new(3).floats(shape, 1.0)).collect();
        Forward { kind, inputs, outputs, seeds }
    }

    fn value(&self, inputs: &[Operand]) -> f64 {
        let outputs = evaluate(&self.kind, inputs, &self.outputs);
        let products = outputs
            .iter()
            .zip(&self.seeds)
            .map(|(output, seed)| output.iter().zip(seed.numbers()).map(|(y, dy)| y * dy).sum::<f64>());
        products.sum()
    }

    /// Returns the central differences by every element of one input.
    fn differences(&self, input: usize) -> Vec<f64> {
        let mut inputs = self.inputs.clone();
        let numbers = self.inputs[input].numbers().to_vec();
        let mut slope = |element: usize| {
            let mut at = |value: f64| {
                let mut moved = numbers.clone();
                moved[element] = value;
                inputs[input] = self.inputs[input].with(moved);
                self.value(&inputs)
            };
            let (up, down) = (at(numbers[element] + STEP), at(numbers[element] - STEP));
            (up - down) / (2.0 * STEP)
        };
        (0..numbers.len()).map(&mut slope).collect()
    }

    /// Checks outputs of a gradient op against the differences by the inputs that they stand for.
    fn check(&self, name: &str, gradients: &[Vec<f64>], by: &[usize]) {
        assert_eq!(gradients.len(), by.len());
        for (gradient, &input) in gradients.iter().zip(by) {
            let error = distance(gradient, &self.differences(input));
            assert!(error <= TOLERANCE, "{name}: gradient by input {input} is off by {error:.1e}");
        }
    }

    /// Runs a gradient op whose outputs have the shapes of the inputs that they stand for, and checks it.
    fn check_op(&self, gradient: OpKind, inputs: Vec<Operand>, by: &[usize]) {
        let outputs: Vec<Operand> = by.iter().map(|&input| self.inputs[input].clone()).collect();
        self.check(gradient.name(), &evaluate(&gradient, &inputs, &outputs), by);
    }
}

#[test]
fn embed_and_linear() {
    let mut numbers = Numbers::new(2);
    let (table, dy, tokens) =
        (numbers.floats(&[5, 3], 1.0), numbers.floats(&[7, 3], 1.0), numbers.index(7, 5));
    let forward = Forward::new(OpKind::Embed, vec![tokens.clone(), table], &[&[7, 3]], vec![dy.clone()]);
    forward.check_op(OpKind::EmbedGrad, vec![dy, tokens], &[1]);

    let (x, w, b, dy) = (
        numbers.floats(&[4, 3], 1.0),
        numbers.floats(&[5, 3], 1.0),
        numbers.floats(&[5], 1.0),
        numbers.floats(&[4, 5], 1.0),
    );
    let kind = OpKind::Linear { quantized: None, adapter: None };
    let forward = Forward::new(kind, vec![x.clone(), w.clone(), b], &[&[4, 5]], vec![dy.clone()]);
    forward.check_op(OpKind::LinearGradX, vec![dy.clone(), w], &[0]);
    forward.check_op(OpKind::LinearGradW, vec![dy.clone(), x], &[1]);
    forward.check_op(OpKind::BiasGrad, vec![dy], &[2]);
}

#[test]
fn norms() {
    let mut numbers = Numbers::new(3);
    let shape: &[usize] = &[4, 6];
    let (x, residual) = (numbers.floats(shape, 1.0), numbers.floats(shape, 1.0));
    let (w, b) = (numbers.floats(&[6], 1.0), numbers.floats(&[6], 1.0));
    let (dy, dh, none) = (numbers.floats(shape, 1.0), numbers.floats(shape, 1.0), floats(vec![0.0; 4]));

    let shapes: [&[usize]; 3] = [shape, &[4], shape];
    let inputs = vec![x.clone(), w.clone(), residual.clone()];
    let seeds = vec![dy.clone(), none.clone(), dh.clone()];
    let forward = Forward::new(OpKind::RmsNorm { eps: 1e-2 }, inputs, &shapes, seeds);
    let saved = evaluate(&forward.kind, &forward.inputs, &forward.outputs);
    let (h, rstd) = (x.with(saved[2].clone()), floats(saved[1].clone()));
    let inputs = vec![dy.clone(), h, w.clone(), rstd, dh.clone()];
    forward.check_op(OpKind::RmsNormGrad, inputs.clone(), &[0, 1]);
    forward.check_op(OpKind::RmsNormGrad, inputs, &[2]);

    let shapes: [&[usize]; 4] = [shape, &[4], &[4], shape];
    let inputs = vec![x.clone(), w.clone(), b, residual];
    let seeds = vec![dy.clone(), none.clone(), none, dh.clone()];
    let forward = Forward::new(OpKind::LayerNorm { eps: 1e-2 }, inputs, &shapes, seeds);
    let saved = evaluate(&forward.kind, &forward.inputs, &forward.outputs);
    let h = x.with(saved[3].clone());
    let inputs = vec![dy, h, w, floats(saved[1].clone()), floats(saved[2].clone()), dh];
    forward.check_op(OpKind::LayerNormGrad, inputs, &[0, 1, 2]);
}

#[test]
fn rope_turned_back_is_its_gradient() {
    let mut numbers = Numbers::new(4);
    let (x, dy, positions) =
        (numbers.floats(&[5, 8], 1.0), numbers.floats(&[5, 8], 1.0), index(vec![0, 1, 2, 0, 9]));
    let rope = |inverse| OpKind::Rope { head_dim: 4, inv_freq: vec![1.0, 0.1], scale: 1.3, inverse };
    let forward = Forward::new(rope(false), vec![x, positions.clone()], &[&[5, 8]], vec![dy.clone()]);
    forward.check_op(rope(true), vec![dy, positions], &[0]);
}

#[test]
fn attention_in_all_its_forms() {
    let grouped = attention(4, 2, 3);
    let forms = [
        grouped.clone(),
        Attention { window: Some(3), ..grouped.clone() },
        Attention { softcap: Some(1.5), ..grouped.clone() },
        Attention { alibi: Some(vec![0.5, 0.2, 0.1, 0.05]), ..grouped.clone() },
        Attention { dropout: Some(Dropout { p: 0.3, site: 8 }), ..grouped },
    ];
    let lengths = [6, 1, 4];
    // Rows that begin anew, and two that go on from the first.
    let prefixes = [None, Some(index(vec![0, 3, 5]))];
    let with = |form: &Attention| match form.dropout {
        Some(_) => prefixes[..1].to_vec(),
        None => prefixes.to_vec(),
    };
    for (form, prefixes) in
        forms.iter().flat_map(|form| with(form).into_iter().map(move |p| (form.clone(), p)))
    {
        let mut numbers = Numbers::new(5);
        let (wide, narrow): (&[usize], &[usize]) = (&[11, 12], &[11, 6]);
        let (q, k, v) = (numbers.floats(wide, 1.0), numbers.floats(narrow, 1.0), numbers.floats(narrow, 1.0));
        let d_o = numbers.floats(wide, 1.0);
        let rows: Vec<Operand> =
            [cu_seqlens(&lengths), row_numbers(&lengths)].into_iter().chain(prefixes).collect();
        let inputs = [vec![q.clone(), k, v], rows.clone()].concat();
        let kind = OpKind::Attention(form.clone());
        let forward = Forward::new(kind, inputs.clone(), &[wide, &[11, 4]], vec![d_o.clone()]);
        let saved = evaluate(&forward.kind, &forward.inputs, &forward.outputs);
        let saved = vec![q.with(saved[0].clone()), forward.outputs[1].with(saved[1].clone())];
        let inputs = [vec![d_o], inputs[..3].to_vec(), saved, rows].concat();
        forward.check_op(OpKind::AttentionGrad(form), inputs, &[0, 1, 2]);
    }
}

#[test]
fn activations() {
    for f in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
        let mut numbers = Numbers::new(6);
        let shape: &[usize] = &[3, 5];
        let (gate, up, dy) =
            (numbers.floats(shape, 2.0), numbers.floats(shape, 1.0), numbers.floats(shape, 1.0));
        let forward = Forward::new(OpKind::Act { f }, vec![gate.clone()], &[shape], vec![dy.clone()]);
        forward.check_op(OpKind::ActGrad { f }, vec![dy.clone(), gate.clone()], &[0]);
        let inputs = vec![gate.clone(), up.clone()];
        let forward = Forward::new(OpKind::GatedAct { f }, inputs, &[shape], vec![dy.clone()]);
        forward.check_op(OpKind::GatedActGrad { f }, vec![dy, gate, up], &[0, 1]);
    }
}

#[test]
fn dropout_is_its_own_gradient() {
    let mut numbers = Numbers::new(7);
    let rows = [cu_seqlens(&[4, 3]), row_numbers(&[4, 3])];
    let (x, dy) = (numbers.floats(&[7, 6], 1.0), numbers.floats(&[7, 6], 1.0));
    let kind = OpKind::Dropout(Dropout { p: 0.4, site: 2 });
    let inputs = [vec![x], rows.to_vec()].concat();
    let forward = Forward::new(kind.clone(), inputs, &[&[7, 6]], vec![dy.clone()]);
    forward.check_op(kind, [vec![dy], rows.to_vec()].concat(), &[0]);
}

#[test]
fn heads() {
    let mut numbers = Numbers::new(8);
    let (h, w) = (numbers.floats(&[6, 4], 1.0), numbers.floats(&[7, 4], 1.0));
    // One token is trained for two labels.
    let index = index(vec![0, 2, 3, 5, 2]);
    let t = index.shape[0];
    let labels = numbers.index(t, 7);
    let inputs = vec![h, w, index, labels, floats(vec![0.3])];

    let loss = |grads| OpKind::LmHeadLoss { grads };
    let one = floats(vec![1.0]);
    let forward = Forward::new(loss(HeadGrads::None), inputs.clone(), &[&[1]], vec![one.clone()]);
    let outputs = vec![one, inputs[0].clone(), inputs[1].clone()];
    let results = evaluate(&loss(HeadGrads::HiddenAndWeight), &inputs, &outputs);
    forward.check("lm_head_loss", &results[1..], &[0, 1]);
    let results = evaluate(&loss(HeadGrads::Hidden), &inputs, &outputs[..2]);
    forward.check("lm_head_loss", &results[1..], &[0]);

    let slopes = numbers.floats(&[t], 1.0);
    let kind = OpKind::TokenLogprobs;
    let forward = Forward::new(kind, inputs[..4].to_vec(), &[&[t], &[t]], vec![slopes.clone()]);
    let lse = floats(evaluate(&forward.kind, &forward.inputs, &forward.outputs)[1].clone());
    let inputs = [vec![slopes], inputs[..4].to_vec(), vec![lse]].concat();
    forward.check_op(OpKind::TokenLogprobsGrad, inputs, &[0, 1]);
}

#[test]
fn preferences() {
    let mut numbers = Numbers::new(9);
    for mean in [false, true] {
        let (x, dy, rows) =
            (numbers.floats(&[6], 1.0), numbers.floats(&[4], 1.0), index(vec![0, 0, 1, 3, 3, 3]));
        let kind = OpKind::SumByRow { mean };
        let forward = Forward::new(kind, vec![x, rows.clone()], &[&[4]], vec![dy.clone()]);
        forward.check_op(OpKind::SpreadToTokens { mean }, vec![dy, rows], &[0]);
    }
    let losses = [
        PreferenceLoss::Sigmoid { label_smoothing: 0.0 },
        PreferenceLoss::Sigmoid { label_smoothing: 0.2 },
        PreferenceLoss::Ipo,
        PreferenceLoss::Hinge,
    ];
    for loss in losses {
        let kind = OpKind::PreferenceLoss { loss, beta: 0.4 };
        let inputs = vec![numbers.floats(&[8], 2.0), numbers.floats(&[8], 2.0), floats(vec![0.7])];
        let seeds = vec![floats(vec![1.0]), floats(vec![0.0; 4])];
        let forward = Forward::new(kind.clone(), inputs.clone(), &[&[1], &[4]], seeds.clone());
        let outputs = vec![seeds[0].clone(), inputs[0].clone(), seeds[1].clone()];
        let results = evaluate(&kind, &inputs, &outputs);
        forward.check("preference_loss", &results[1..2], &[0]);
    }
}
