//! What ranks come to beside one device, for every model, precision and part that is trained.

use crate::support::*;
use crate::world::DPO;
use plan::program::Mesh;
use plan::value::Dtype;
use plan::work::AdamW;
use serde_json::Value;

/// In f32 sums differ by their order alone.
const F32: (f64, f64) = (1e-5, 1e-5);

/// In bf16 a weight whose sum lies near the middle of two numbers falls to the other, a step of 2^-8 of it. Another
/// micro batch on one device does the same: 4e-4 of the losses and 2e-3 of the weights.
const BF16: (f64, f64) = (1e-3, 1e-2);

/// In bf16 where one device adds up what two ranks do: gradients are summed in f32, and nothing falls apart.
const EXACT: (f64, f64) = (1e-6, 1e-6);

/// Two sequences a step, one at a time. A norm that is computed by parts would scale gradients otherwise, so that
/// none is clipped.
const ONE_ORDER: Case = Case {
    precision: Dtype::Bf16,
    batch: 2,
    optimizer: AdamW { clip: f32::MAX as f64, ..OPTIMIZER },
    ..LLAMA
};
const ONE_AT_A_TIME: [(Mesh, u64); 2] = [(REPLICAS, 1), (SHARDS, 1)];

const EVENLY_AND_NOT: [(Mesh, u64); 4] = [(REPLICAS, 1), (REPLICAS, 2), (SHARDS, 1), (SHARDS, 2)];
const ONE_OF_EACH: [(Mesh, u64); 2] = [(REPLICAS, 2), (SHARDS, 2)];

/// Compares what ranks come to with one device, metrics and weights within what is given; returns all, that first.
fn check(case: Case, micro: u64, cuts: &[(Mesh, u64)], within: (f64, f64)) -> Vec<Trained> {
    let one = case.trained(ONE, micro);
    let steps = one.metrics.iter().filter(|line| line["grad_norm"].is_number()).count();
    assert_eq!(steps as u64, STEPS);
    let mut all = vec![one];
    for &(mesh, micro) in cuts {
        let found = case.trained(mesh, micro);
        let apart = all[0].apart(&found);
        let what =
            format!("{case:?} on {mesh:?}, micro {micro}: metrics {:.1e}, weights {:.1e}", apart.0, apart.1);
        println!("{what}");
        assert!(apart.0 < within.0 && apart.1 < within.1, "{what}");
        all.push(found);
    }
    all
}

fn is_clipped(line: &&Value) -> bool {
    line["grad_norm"].as_f64().is_some_and(|norm| norm > OPTIMIZER.clip)
}

#[test]
fn two_ranks_come_to_what_one_device_comes_to() {
    for case in [LLAMA, GPT2] {
        let all = check(case, 2, &EVENLY_AND_NOT, F32);
        // The divisor of the loss and the norm are over all ranks, or clipped steps would differ.
        assert!(all[0].metrics.iter().filter(is_clipped).count() > 0);
    }
}

#[test]
fn preferences_are_those_of_one_device() {
    check(Case { objective: DPO, batch: 3, ..LLAMA }, 2, &EVENLY_AND_NOT, F32);
    check(Case { objective: DPO, batch: 3, ..GPT2 }, 2, &ONE_OF_EACH, F32);
    check(Case { objective: DPO, batch: 3, precision: Dtype::Bf16, ..LLAMA }, 2, &ONE_OF_EACH, BF16);
}

#[test]
fn bf16_is_that_of_one_device() {
    for case in [LLAMA, GPT2] {
        check(Case { precision: Dtype::Bf16, ..case }, 2, &EVENLY_AND_NOT, BF16);
    }
}

#[test]
fn bf16_is_exact_where_sums_have_one_order() {
    for case in [ONE_ORDER, Case { architecture: "gpt2", tied: true, ..ONE_ORDER }] {
        check(case, 1, &ONE_AT_A_TIME, EXACT);
    }
}

/// What is frozen is whole on every rank, and its bytes are those of the start.
#[test]
fn a_part_that_is_trained_is_that_of_one_device() {
    let tied = Case { tied: true, ..LLAMA };
    let cases = [
        Case { train: &["layers 1..2"], ..tied },
        Case { train: &["embed_tokens lm_head", "norm"], ..tied },
        Case { train: &["lm_head q_proj"], ..LLAMA },
        Case { train: &["norm"], ..LLAMA },
        Case { train: &["c_attn ln_f"], ..GPT2 },
        Case { train: &["all-but wte layers"], ..GPT2 },
        Case { train: &["layers 1..2"], objective: DPO, batch: 3, ..GPT2 },
        Case { train: &["layers 0..1"], ..ONE_ORDER },
    ];
    for case in cases {
        let all = match case.precision {
            Dtype::Bf16 => check(case, 1, &ONE_AT_A_TIME, EXACT),
            _ => check(case, 2, &ONE_OF_EACH, F32),
        };
        let (world, _) = case.world();
        let start = tensors(&world.model_bytes("init:base"));
        let (one, ranks) = all.split_first().expect("one device is the first");
        let (frozen, trained): (Vec<_>, Vec<_>) =
            start.iter().partition(|(name, numbers)| one.weights[*name] == **numbers);
        assert!(!frozen.is_empty() && !trained.is_empty(), "{case:?}");
        for of_ranks in ranks {
            for (name, numbers) in &frozen {
                assert!(of_ranks.weights[*name] == **numbers, "{case:?}: `{name}` is frozen");
            }
            for (name, numbers) in &trained {
                assert!(of_ranks.weights[*name] != **numbers, "{case:?}: `{name}` is trained");
            }
        }
    }
}
