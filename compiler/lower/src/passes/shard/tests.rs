//! What each rank holds and exchanges, of a small model.

use super::*;
use crate::builder::Capacities;
use crate::models::Model;
use crate::objectives::Objective;
use crate::programs::{Draft, Training, draft};
use plan::work::AdamW;
use serde_json::json;

const ADAMW: AdamW = AdamW { lr: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

fn small() -> Draft {
    let fields =
        [("vocab_size", 61), ("hidden_size", 16), ("intermediate_size", 24), ("num_hidden_layers", 2)];
    let fields = fields.into_iter().chain([("num_attention_heads", 2)]);
    let fields: Vec<_> = fields.map(|(name, size)| (name.to_owned(), json!(size))).collect();
    let model = Model::from_config(&Model::new_config("llama", &fields)).expect("sound");
    let training = Training { objective: Objective::CrossEntropy, optimizer: &ADAMW, part: None };
    let capacities = Capacities { tokens: 8, rows: 2, trained: 8, slots: 1, cached: 8 };
    draft(&model, &training, capacities, Dtype::F32)
}

fn kinds(module: &Module, program: &str, name: &str) -> usize {
    let ops = &module.program(program).expect("there").ops;
    ops.iter().filter(|op| op.kind.name() == name).count()
}

#[test]
fn replicas_add_up_every_gradient_once() {
    let one = small().plan(&[]);
    let module = small().divided(Mesh { replicas: 2, shards: 1 }).plan(&[]);
    let gradients = module.values.iter().filter(|value| value.role == Role::Gradient).count();
    assert!(gradients > 10);
    assert_eq!(kinds(&module, "update", "all_reduce"), gradients);
    assert_eq!(kinds(&module, "micro", "all_gather") + kinds(&module, "micro", "reduce_scatter"), 0);
    assert_eq!(module.arenas, one.arenas);
}

#[test]
fn shards_hold_their_part_of_weights_gradients_and_state() {
    let one = small().plan(&[]);
    let module = small().divided(Mesh { replicas: 1, shards: 2 }).plan(&[]);
    for role in [Role::Weight, Role::Gradient, Role::State] {
        let of = |module: &Module, whole: bool| -> u64 {
            let values = module.values.iter().filter(|value| value.role == role);
            let sizes = values.map(|value| if whole { value.whole_sizes(&[]) } else { value.sizes(&[]) });
            sizes.map(|sizes| sizes.iter().product::<u64>()).sum()
        };
        assert_eq!(of(&module, true), of(&one, true), "{role:?}");
        // Norms are whole, and 61 rows are cut into 31 and 30.
        let (half, all) = (of(&module, false), of(&one, false));
        assert!(half > all / 2 && half < all * 27 / 50, "{role:?}: {half} of {all}");
        assert!(module.arena_bytes(role) < one.arena_bytes(role) * 56 / 100);
    }
    let norms = |value: &&plan::value::Value| value.role == Role::Weight && value.shape.len() == 1;
    let small = module.values.iter().filter(norms).count();
    // The norms' gradients, and the sum of squares.
    assert_eq!(kinds(&module, "update", "all_reduce"), small + 1);
    let matrices = module.values.iter().filter(|v| v.role == Role::Weight && v.whole_rows.is_some()).count();
    assert_eq!(kinds(&module, "evaluate", "all_gather"), matrices);
    assert!(kinds(&module, "micro", "reduce_scatter") >= matrices);
}

#[test]
fn what_is_gathered_does_not_outlive_its_region() {
    let module = small().divided(Mesh { replicas: 1, shards: 2 }).plan(&[]);
    let micro = module.program("micro").expect("there");
    let mut seen = 0;
    for op in micro.ops.iter().filter(|op| matches!(op.kind, OpKind::AllGather { .. })) {
        let made = op.outputs[0].value;
        let readers: Vec<&Op> = micro.ops.iter().filter(|op| op.inputs.contains(&made)).collect();
        assert!(!readers.is_empty() && readers.iter().all(|reader| reader.region == op.region));
        seen += 1;
    }
    // Every projection of a layer, in the forward pass and again in the backward pass.
    assert!(seen >= 2 * 2 * 7, "{seen}");
}
