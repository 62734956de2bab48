//! Every op on several threads, on operands without a byte to spare: results have the bits of one thread's.
//!
//! That they are right is shown in `runtime/plain/tests`. This is what sanitizers and Miri run (`.ci/sanitize`).

use half::bf16;
use ops::backend::{Backend, Call, Draw};
use ops::check::dtypes;
use ops::cpu::Cpu;
use ops::view::{Dims, View, ViewMut};
use plan::op::{Activation, Attention, Dropout, HeadGrads, OpKind, PreferenceLoss, Write, workspace_bytes};
use plan::value::Dtype;

/// Lengths of rows: several tiles of attention, and none. Miri takes a thousand times as long.
const ROWS: &[usize] = if cfg!(miri) { &[2, 0, 65] } else { &[37, 0, 130, 64, 65, 1] };

/// Most rows, columns and so on of an operand that has no need of a certain size.
const MOST: usize = if cfg!(miri) { 20 } else { 300 };

/// Elements of an operand, in an allocation that ends with them.
#[derive(Clone)]
enum Data {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    I32(Vec<i32>),
}

impl Data {
    /// Makes numbers between -1 and 1.
    fn floats(count: usize, dtype: Dtype) -> Data {
        let mut state = count as u32 + 7;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        match dtype {
            Dtype::F32 => Data::F32((0..count).map(|_| next()).collect()),
            Dtype::Bf16 => Data::Bf16((0..count).map(|_| bf16::from_f32(next())).collect()),
            other => panic!("no case has numbers in {}", other.name()),
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Data::F32(_) => Dtype::F32,
            Data::Bf16(_) => Dtype::Bf16,
            Data::I32(_) => Dtype::I32,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Data::F32(x) => bytemuck::cast_slice(x),
            Data::Bf16(x) => bytemuck::cast_slice(x),
            Data::I32(x) => bytemuck::cast_slice(x),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Data::F32(x) => bytemuck::cast_slice_mut(x),
            Data::Bf16(x) => bytemuck::cast_slice_mut(x),
            Data::I32(x) => bytemuck::cast_slice_mut(x),
        }
    }
}

/// An input: numbers of a shape, or indices.
#[derive(Clone)]
enum Input {
    Floats(Vec<usize>),
    Index(Vec<i32>),
}

impl Input {
    fn shape(&self) -> Vec<usize> {
        match self {
            Input::Floats(shape) => shape.clone(),
            Input::Index(index) => vec![index.len()],
        }
    }
}

struct Case {
    kind: OpKind,
    inputs: Vec<Input>,
    outputs: Vec<Vec<usize>>,
}

fn case(kind: OpKind, inputs: &[Input], outputs: &[&[usize]]) -> Case {
    Case { kind, inputs: inputs.to_vec(), outputs: outputs.iter().map(|shape| shape.to_vec()).collect() }
}

fn floats(shape: &[usize]) -> Input {
    Input::Floats(shape.to_vec())
}

fn index(count: usize, below: usize) -> Input {
    Input::Index((0..count).map(|at| (at * 7919 % below) as i32).collect())
}

/// Runs a case; returns the bytes of its outputs.
fn run(cpu: &Cpu, case: &Case, format: Dtype, write: Write) -> Vec<Data> {
    let (input_dtypes, output_dtypes) = dtypes(&case.kind, format).expect("an op of this backend");
    let of = |shape: &[usize], dtype| Data::floats(shape.iter().product(), dtype);
    let input = |(at, input): (usize, &Input)| match input {
        // Of gradients there may be any number.
        Input::Floats(shape) => of(shape, input_dtypes[at.min(input_dtypes.len() - 1)]),
        Input::Index(index) => Data::I32(index.clone()),
    };
    let inputs: Vec<Data> = case.inputs.iter().enumerate().map(input).collect();
    let mut outputs: Vec<Data> =
        case.outputs.iter().zip(output_dtypes).map(|(shape, dtype)| of(shape, dtype)).collect();
    let shapes: Vec<Vec<usize>> = case.inputs.iter().map(Input::shape).collect();
    let wide: Vec<Vec<u64>> = shapes.iter().map(|shape| shape.iter().map(|&n| n as u64).collect()).collect();
    let mut workspace = vec![f32::NAN; workspace_bytes(&case.kind, &wide, format) as usize / 4];
    let views = inputs.iter().zip(&shapes).map(|(data, shape)| View {
        dtype: data.dtype(),
        dims: Dims::new(shape),
        bytes: data.bytes(),
    });
    let written = outputs.iter_mut().zip(&case.outputs).map(|(data, shape)| ViewMut {
        dtype: data.dtype(),
        dims: Dims::new(shape),
        write,
        bytes: data.bytes_mut(),
    });
    let call = Call {
        kind: &case.kind,
        inputs: &views.collect::<Vec<_>>(),
        outputs: &mut written.collect::<Vec<_>>(),
        workspace: bytemuck::cast_slice_mut(&mut workspace),
        draw: Draw { seed: 42, step: 3 },
    };
    cpu.run(call).unwrap_or_else(|error| panic!("{:?}: {error}", case.kind));
    outputs
}

/// Runs cases on one thread and on three, in both formats, setting and adding.
fn check(cases: &[Case]) {
    let (one, three) = (Cpu::new(1), Cpu::new(3));
    for case in cases {
        let writes = match case.kind {
            OpKind::AdamW { .. } | OpKind::CacheAppend => &[Write::Update][..],
            _ => &[Write::Set, Write::Add], // all others
        };
        for format in [Dtype::F32, Dtype::Bf16] {
            for &write in writes {
                let (expected, found) = (run(&one, case, format, write), run(&three, case, format, write));
                let same = expected.iter().zip(&found).all(|(one, three)| one.bytes() == three.bytes());
                assert!(same, "{:?} in {format:?}, {write:?}", case.kind);
            }
        }
    }
}

fn tokens() -> usize {
    ROWS.iter().sum()
}

/// Returns `cu_seqlens` and `row_numbers`.
fn rows() -> [Input; 2] {
    rows_of(ROWS)
}

fn rows_of(lengths: &[usize]) -> [Input; 2] {
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as i32;
        Some(*end)
    });
    let cu = std::iter::once(0).chain(ends).collect();
    [Input::Index(cu), index(lengths.len(), 1000)]
}

#[test]
fn lookups() {
    for (n, v, h) in [(1, 1, 1), (MOST, 40, 33), (7, MOST, 64)] {
        check(&[
            case(OpKind::Embed, &[index(n, v), floats(&[v, h])], &[&[n, h]]),
            case(OpKind::EmbedGrad, &[floats(&[n, h]), index(n, v)], &[&[v, h]]),
            case(OpKind::Gather, &[floats(&[v, h]), index(n, v)], &[&[n, h]]),
        ]);
    }
}

#[test]
fn linears() {
    let linear = || OpKind::Linear { quantized: None, adapter: None };
    for (n, i, o) in [(1, 1, 1), (3, 65, MOST), (MOST, 17, 49), (9, MOST, 25), (MOST, MOST, 3)] {
        let (x, w, b, dy) = (floats(&[n, i]), floats(&[o, i]), floats(&[o]), floats(&[n, o]));
        check(&[
            case(linear(), &[x.clone(), w.clone()], &[&[n, o]]),
            case(linear(), &[x.clone(), w.clone(), b], &[&[n, o]]),
            case(OpKind::LinearGradX, &[dy.clone(), w], &[&[n, i]]),
            case(OpKind::LinearGradW, &[dy.clone(), x], &[&[o, i]]),
            case(OpKind::BiasGrad, &[dy], &[&[o]]),
        ]);
    }
}

#[test]
fn norms() {
    let eps = 1e-5;
    for (n, h) in [(1, 5), (MOST, 17), (66, 48)] {
        let (x, w, token) = (|| floats(&[n, h]), || floats(&[h]), || floats(&[n]));
        let (full, line, column): (&[usize], &[usize], &[usize]) = (&[n, h], &[n], &[h]);
        check(&[
            case(OpKind::RmsNorm { eps }, &[x(), w(), x()], &[full, line, full]),
            case(OpKind::LayerNorm { eps }, &[x(), w(), w(), x()], &[full, line, line, full]),
            case(OpKind::RmsNormGrad, &[x(), x(), w(), token(), x()], &[full, column]),
            case(OpKind::LayerNormGrad, &[x(), x(), w(), token(), token(), x()], &[full, column, column]),
        ]);
    }
}

#[test]
fn elementwise() {
    let n = tokens();
    for h in [1, 18, 66] {
        let (x, full): (_, &[usize]) = (|| floats(&[n, h]), &[n, h]);
        let f = [Activation::Silu, Activation::Gelu, Activation::GeluTanh][h % 3];
        let [cu, numbers] = rows();
        let dropout = OpKind::Dropout(Dropout { p: 0.1, site: 3 });
        let mut cases = vec![
            case(OpKind::Add, &[x(), x()], &[full]),
            case(OpKind::Copy, &[x()], &[full]),
            case(OpKind::Cast, &[x()], &[full]),
            case(OpKind::Act { f }, &[x()], &[full]),
            case(OpKind::ActGrad { f }, &[x(), x()], &[full]),
            case(OpKind::GatedAct { f }, &[x(), x()], &[full]),
            case(OpKind::GatedActGrad { f }, &[x(), x(), x()], &[full, full]),
            case(dropout, &[x(), cu, numbers], &[full]),
        ];
        if h % 6 == 0 {
            let inv_freq = vec![1.0, 0.1, 0.01];
            let kind = OpKind::Rope { head_dim: 6, inv_freq, scale: 1.1, inverse: h > 20 };
            cases.push(case(kind, &[x(), index(n, 80)], &[full]));
        }
        check(&cases);
    }
}

#[test]
fn attentions() {
    let n = tokens();
    let dropout = Some(Dropout { p: 0.3, site: 5 });
    let plain = |heads: u32, kv_heads: u32, head_dim: u32| Attention {
        heads,
        kv_heads,
        head_dim,
        scale: 0.5,
        window: None,
        softcap: None,
        alibi: None,
        dropout: None,
    };
    let seen =
        Attention { window: Some(50), softcap: Some(9.0), alibi: Some(vec![0.5, 0.1]), ..plain(2, 1, 5) };
    // The last row goes on from the one before it, whose tokens its task writes gradients of.
    let prefixes = (0..ROWS.len()).map(|row| if row + 1 == ROWS.len() { ROWS[row - 1] as i32 } else { 0 });
    let prefixes = Input::Index(prefixes.collect());
    for (a, prefixes) in
        [(plain(2, 2, 8), None), (Attention { dropout, ..plain(2, 1, 5) }, None), (seen, Some(prefixes))]
    {
        let (heads, wide) = (a.heads as usize, (a.heads * a.head_dim) as usize);
        let narrow = (a.kv_heads * a.head_dim) as usize;
        let (q, k) = (|| floats(&[n, wide]), || floats(&[n, narrow]));
        let rest = rows().into_iter().chain(prefixes).collect::<Vec<_>>();
        let forward = [vec![q(), k(), k()], rest.clone()].concat();
        let backward = [vec![q(), q(), k(), k(), q(), floats(&[n, heads])], rest].concat();
        check(&[
            case(OpKind::Attention(a.clone()), &forward, &[&[n, wide], &[n, heads]]),
            case(OpKind::AttentionGrad(a), &backward, &[&[n, wide], &[n, narrow], &[n, narrow]]),
        ]);
    }
    if !cfg!(miri) {
        // Shared out by heads.
        let (n, a) = (2133, plain(4, 2, 5));
        let (q, k) = (|| floats(&[n, 20]), || floats(&[n, 10]));
        let backward =
            [vec![q(), q(), k(), k(), q(), floats(&[n, 4])], rows_of(&[20, 2100, 13]).into()].concat();
        check(&[case(OpKind::AttentionGrad(a), &backward, &[&[n, 20], &[n, 10], &[n, 10]])]);
    }
    let (slots, cached, a) = (3, 9, Attention { window: Some(3), ..plain(4, 2, 5) });
    let cache = || floats(&[slots, cached, 10]);
    let lengths = Input::Index(vec![1, 9, 0]);
    check(&[
        case(
            OpKind::CacheAppend,
            &[floats(&[4, 10]), index(4, slots), index(4, cached)],
            &[&[slots, cached, 10]],
        ),
        case(OpKind::AttentionCached(a), &[floats(&[slots, 20]), cache(), cache(), lengths], &[&[slots, 20]]),
    ]);
}

#[test]
fn heads() {
    for (n, h, v, trained) in [(1, 1, 1, 1), (40, 5, 37, 30), (MOST, 16, MOST, MOST), (3, 4, 5, 0)] {
        let (one, full, weight, line): (&[usize], &[usize], &[usize], &[usize]) =
            (&[1], &[n, h], &[v, h], &[trained]);
        let operands = [floats(full), floats(weight), index(trained, n), index(trained, v)];
        let scaled = [&operands[..], &[floats(one)]].concat();
        let gradient = [&[floats(line)], &operands[..], &[floats(line)]].concat();
        let loss = |grads| OpKind::LmHeadLoss { grads };
        check(&[
            case(loss(HeadGrads::None), &operands, &[one]),
            case(loss(HeadGrads::HiddenAndWeight), &scaled, &[one, full, weight]),
            case(OpKind::TokenLogprobs, &operands, &[line, line]),
            case(OpKind::TokenLogprobsGrad, &gradient, &[full, weight]),
        ]);
    }
}

#[test]
fn ends_of_steps() {
    let (n, one): (_, &[usize]) = (if cfg!(miri) { 4100 } else { 20_001 }, &[1]);
    let adamw = OpKind::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, lr_scale: 0.5 };
    let in_rows = Input::Index(vec![0, 0, 2, 3, 3]);
    let preference = OpKind::PreferenceLoss { loss: PreferenceLoss::Ipo, beta: 0.1 };
    check(&[
        case(adamw, &[floats(&[n]), floats(one), floats(&[3])], &[&[n], &[n], &[n], &[n]]),
        case(OpKind::SumSquares, &[floats(&[n]), floats(&[3, 7]), floats(&[0])], &[one]),
        case(OpKind::ClipFactor { max_norm: 1.0 }, &[floats(one)], &[one, one]),
        case(OpKind::Reciprocal, &[floats(one)], &[one]),
        case(OpKind::SumByRow { mean: true }, &[floats(&[5]), in_rows.clone()], &[&[4]]),
        case(OpKind::SpreadToTokens { mean: true }, &[floats(&[4]), in_rows], &[&[5]]),
        case(preference, &[floats(&[4]), floats(&[4]), floats(one)], &[one, &[4], &[4]]),
    ]);
}
