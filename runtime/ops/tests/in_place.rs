//! Ops that rewrite an operand give the bits of those that read it and write elsewhere.

use ops::backend::{Backend, Call, Draw};
use ops::cpu::Cpu;
use ops::view::{Dims, View, ViewMut};
use plan::op::{Activation, OpKind, Write, in_place};
use plan::value::Dtype;

/// Tokens and channels, more than one task of a kernel has.
const SIZES: [usize; 2] = [150, 96];

fn numbers(seed: u64) -> Vec<f32> {
    let mixed = |at: usize| (at as u64 + 1).wrapping_mul(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..SIZES[0] * SIZES[1]).map(|at| (mixed(at) >> 40) as f32 / (1 << 22) as f32 - 2.0).collect()
}

fn view<'a, T: bytemuck::Pod>(dtype: Dtype, sizes: &[usize], elements: &'a [T]) -> View<'a> {
    View { dtype, dims: Dims::new(sizes), bytes: bytemuck::cast_slice(elements) }
}

fn run(kind: &OpKind, inputs: &[View<'_>], outputs: &mut [Vec<f32>], write: Write) -> Result<(), String> {
    let mut outputs: Vec<ViewMut> = outputs
        .iter_mut()
        .map(|y| ViewMut {
            dtype: Dtype::F32,
            dims: Dims::new(&SIZES),
            write,
            bytes: bytemuck::cast_slice_mut(y),
        })
        .collect();
    let call = Call { kind, inputs, outputs: &mut outputs, workspace: &mut [], draw: Draw::default() };
    Cpu::new(2).run(call).map_err(|error| error.0)
}

#[test]
fn the_bits_are_those_of_separate_places() {
    let positions: Vec<i32> = (0..SIZES[0] as i32).map(|at| at % 70).collect();
    let floats = [numbers(3), numbers(5), numbers(7)];
    let rope = |inverse| OpKind::Rope {
        head_dim: 32,
        inv_freq: (0..16).map(|i| 0.5_f64.powi(i)).collect(),
        scale: 1.1,
        inverse,
    };
    let f = Activation::Silu;
    for kind in [
        rope(false),
        rope(true),
        OpKind::ActGrad { f },
        OpKind::ActGrad { f: Activation::GeluTanh },
        OpKind::GatedActGrad { f },
        OpKind::GatedActGrad { f: Activation::Gelu },
    ] {
        let count = match kind {
            OpKind::Rope { .. } => 1,
            OpKind::ActGrad { .. } => 2,
            _ => 3, // the gradient of a gate
        };
        let mut inputs: Vec<View> = floats[..count].iter().map(|x| view(Dtype::F32, &SIZES, x)).collect();
        if count == 1 {
            inputs.push(view(Dtype::I32, &SIZES[..1], &positions));
        }
        let pairs = in_place(&kind);
        let mut apart = vec![vec![f32::NAN; SIZES[0] * SIZES[1]]; pairs.len()];
        run(&kind, &inputs, &mut apart, Write::Set).unwrap();
        let mut together: Vec<Vec<f32>> = pairs.iter().map(|(input, _)| floats[*input].clone()).collect();
        let left: Vec<View> = (0..inputs.len())
            .filter(|at| pairs.iter().all(|(input, _)| input != at))
            .map(|at| inputs[at])
            .collect();
        run(&kind, &left, &mut together, Write::Update).unwrap();
        let bits = |all: &[Vec<f32>]| all.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(&together) == bits(&apart), "{kind:?}");
        // All operands and a rewritten output do not go together, nor do too few and a fresh one.
        assert!(run(&kind, &inputs, &mut together, Write::Update).is_err(), "{kind:?}");
        assert!(run(&kind, &left, &mut apart, Write::Set).is_err(), "{kind:?}");
    }
}
