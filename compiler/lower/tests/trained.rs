//! What `train` names is trained, and nothing is computed or kept for the rest.

use lower::builder::Capacities;
use lower::figures::shapes;
use lower::figures::trained::{Selection, lines, trained};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::{memory, trained as passes};
use lower::programs::{self, Training};
use plan::op::{HeadGrads, Op, OpKind, PreferenceLoss};
use plan::program::{Level, Module, Program, Recomputed};
use plan::value::{Dtype, Role};
use plan::work::AdamW;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ADAMW: AdamW = AdamW { lr: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

fn llama(tied: bool) -> Value {
    let sizes = json!({"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied});
    let fields: Vec<_> = sizes.as_object().unwrap().clone().into_iter().collect();
    Model::new_config("llama", &fields)
}

fn gpt2() -> Value {
    let sizes = json!({"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64});
    let fields: Vec<_> = sizes.as_object().unwrap().clone().into_iter().collect();
    Model::new_config("gpt2", &fields)
}

fn selection(train: &[&str]) -> Selection {
    let words = |line: &&str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    Selection { lora: None, train: train.iter().flat_map(|line| lines(&words(line), None)).collect() }
}

fn module_of(config: &Value, train: &[&str], objective: Objective) -> Module {
    let model = Model::from_config(config).unwrap();
    let part = passes::part(&model, &shapes(config).unwrap(), &selection(train));
    let training = Training { objective, optimizer: &ADAMW, part: part.as_ref() };
    let capacities = Capacities { tokens: 64, rows: 4, trained: 64, slots: 0, cached: 0 };
    programs::draft(&model, &training, capacities, Dtype::F32).plan(&[])
}

fn module(config: &Value, train: &[&str]) -> Module {
    module_of(config, train, Objective::CrossEntropy)
}

fn names(module: &Module, role: Role) -> BTreeSet<&str> {
    module.values.iter().filter(|value| value.role == role).map(|value| value.name.as_str()).collect()
}

/// The weights that have a gradient.
fn with_gradient(module: &Module) -> BTreeSet<&str> {
    names(module, Role::Gradient).into_iter().map(|name| name.trim_end_matches(".grad")).collect()
}

fn is_backward(op: &Op) -> bool {
    op.kind.name().ends_with("_grad")
        || op.kind.name().contains("_grad_")
        || matches!(op.kind, OpKind::Rope { inverse: true, .. })
}

/// The regions that backward ops work in.
fn backward_regions(module: &Module) -> BTreeSet<&str> {
    let ops = &module.program("micro").unwrap().ops;
    ops.iter().filter(|op| is_backward(op)).map(|op| op.region.as_str()).collect()
}

fn op_names(program: &Program, region: &str) -> Vec<&'static str> {
    let ops = program.ops.iter().filter(|op| op.region == region && is_backward(op));
    ops.map(|op| op.kind.name()).collect()
}

#[test]
fn gradients_state_and_update_are_of_what_is_named_alone() {
    let cases: [(Value, &[&str]); 8] = [
        (llama(true), &["layers 2..4"]),
        (llama(true), &["embed_tokens lm_head"]),
        (llama(false), &["lm_head", "norm", "layers 3..4"]),
        (llama(false), &["all-but embed_tokens"]),
        (llama(false), &["all-but layers"]),
        (llama(true), &["q_proj mlp"]),
        (gpt2(), &["c_attn ln_f"]),
        (gpt2(), &["all-but wte layers"]),
    ];
    for (config, train) in cases {
        let module = module(&config, train);
        let gradients = with_gradient(&module);
        let expected = trained(&shapes(&config).unwrap(), &selection(train)).parameters();
        let elements = |role: Role| {
            let values = module.values.iter().filter(|value| value.role == role);
            values.map(|value| value.elements(&module.capacities())).sum::<u64>()
        };
        assert_eq!(elements(Role::Gradient), expected, "{train:?}");
        assert_eq!(elements(Role::State), 2 * expected, "{train:?}");
        let update = module.program("update").unwrap();
        let updates = update.ops.iter().filter(|op| matches!(op.kind, OpKind::AdamW { .. }));
        let updated: BTreeSet<&str> =
            updates.map(|op| module.values[op.outputs[0].value.index()].name.as_str()).collect();
        assert_eq!(updated, gradients, "{train:?}");
        // Every gradient is written in the micro-step, from zero in the first.
        let micro = module.program("micro").unwrap();
        for name in names(&module, Role::Gradient) {
            let id = module.named(name).unwrap();
            assert!(micro.ops.iter().any(|op| op.outputs.iter().any(|o| o.value == id)), "{name}");
        }
    }
}

#[test]
fn everything_by_name_is_everything() {
    let config = llama(false);
    let model = Model::from_config(&config).unwrap();
    let part = |train: &[&str]| passes::part(&model, &shapes(&config).unwrap(), &selection(train));
    assert_eq!(part(&[]), None);
    assert_eq!(part(&["layers", "embed_tokens lm_head norm"]), None);
    let some = part(&["layers 0..1 3..4"]).unwrap();
    assert_eq!(some.tensors.len(), 2 * 9);
    assert!(some.tensors.contains(&"model.layers.3.mlp.up_proj.weight".to_owned()));
}

#[test]
fn backward_stops_above_what_is_frozen() {
    let module = module(&llama(true), &["layers 2..4"]);
    assert_eq!(backward_regions(&module), ["head", "layers.2", "layers.3"].into());
    // The lowest trained layer sends nothing further down: its three projections give no dx but that of the norm.
    let micro = module.program("micro").unwrap();
    let lowest = op_names(micro, "layers.2");
    assert_eq!(lowest.iter().filter(|name| **name == "linear_grad_x").count(), 7);
    assert_eq!(lowest.iter().filter(|name| **name == "linear_grad_w").count(), 7);
    assert_eq!(op_names(micro, "head"), ["rms_norm_grad"]);
}

#[test]
fn a_frozen_weight_between_trained_ones_gives_dx_but_no_dw() {
    let module = module(&llama(true), &["layers 0..1"]);
    let micro = module.program("micro").unwrap();
    let frozen = op_names(micro, "layers.3");
    assert!(!frozen.contains(&"linear_grad_w"), "{frozen:?}");
    assert_eq!(frozen.iter().filter(|name| **name == "linear_grad_x").count(), 7);
    // A frozen norm passes its gradient on and has none of its own.
    let norms = micro.ops.iter().filter(|op| op.region == "layers.3" && op.kind == OpKind::RmsNormGrad);
    assert!(norms.clone().count() == 2 && norms.into_iter().all(|op| op.outputs.len() == 1));
}

#[test]
fn the_head_alone_needs_no_backward_pass() {
    let module = module(&llama(false), &["lm_head"]);
    assert!(backward_regions(&module).is_empty());
    let micro = module.program("micro").unwrap();
    let OpKind::LmHeadLoss { grads } = micro.ops.last().unwrap().kind else { panic!("the loss is last") };
    assert_eq!(grads, HeadGrads::HiddenAndWeight);
    // Tied to the embedding, the gradient goes all the way down.
    let tied = self::module(&llama(true), &["embed_tokens lm_head"]);
    assert!(backward_regions(&tied).contains("embed"));
    assert_eq!(with_gradient(&tied), ["embed_tokens.weight"].into());
}

#[test]
fn the_text_of_a_program_tells_what_the_passes_did() {
    let config = llama(true);
    let model = Model::from_config(&config).unwrap();
    let part = passes::part(&model, &shapes(&config).unwrap(), &selection(&["layers 2..4", "v_proj"]));
    let training = Training { objective: Objective::CrossEntropy, optimizer: &ADAMW, part: part.as_ref() };
    let capacities = Capacities { tokens: 64, rows: 4, trained: 64, slots: 0, cached: 0 };
    let draft = programs::draft(&model, &training, capacities, Dtype::F32);
    let levels = [Level::Block, Level::Block, Level::Cheap].into_iter();
    let recompute = draft.regions().into_iter().zip(levels);
    let module =
        draft.plan(&recompute.map(|(region, level)| Recomputed { region, level }).collect::<Vec<_>>());
    let text = plan::text::program(&module, module.program("micro").unwrap());
    let lines: Vec<&str> = text.lines().take(3).collect();
    let frozen = "  # frozen, 18 weights: embed_tokens.weight, norm.weight, parts of layers.0..2";
    assert_eq!(lines[1], frozen);
    assert_eq!(lines[2], "  # computed again: block of layers.0..2; cheap of layers.2");
    assert!(text.contains("micro/layers.1.gate_proj.again f32[tokens, 64]@"), "{text}");
    assert!(text.contains("micro/layers.2.q_proj! f32[tokens, 32]@"), "{text}");
    // Whole layers are named as such.
    let module = self::module(&config, &["layers 3..4"]);
    let text = plan::text::program(&module, module.program("micro").unwrap());
    let line = text.lines().nth(1).unwrap();
    assert_eq!(line, "  # frozen, 29 weights: embed_tokens.weight, layers.0..3, norm.weight");
}

/// One tensor of the file is three values, and trained with all of them.
#[test]
fn the_fused_attention_of_gpt2_is_trained_as_one() {
    let module = module(&gpt2(), &["attn.c_attn"]);
    let parts = ["q_proj", "k_proj", "v_proj"];
    let expected: BTreeSet<String> = (0..2)
        .flat_map(|layer| {
            parts
                .iter()
                .flat_map(move |part| ["weight", "bias"].map(|kind| format!("layers.{layer}.{part}.{kind}")))
        })
        .collect();
    assert_eq!(with_gradient(&module), expected.iter().map(String::as_str).collect());
}

#[test]
fn what_only_frozen_weights_would_read_is_not_kept() {
    let bytes = |train: &[&str]| module(&llama(true), train).arena_bytes(Role::Activation);
    let (all, top, norms) = (bytes(&[]), bytes(&["layers 3..4"]), bytes(&["input_layernorm norm"]));
    assert!(top * 2 < all, "{top} of {all}");
    assert!(norms < all && top < norms, "{norms} of {all}");
    // Without the gradient of `down_proj` its input dies in the forward pass.
    let module = module(&llama(true), &["q_proj"]);
    let micro = module.program("micro").unwrap();
    let loss = micro.ops.iter().position(|op| matches!(op.kind, OpKind::LmHeadLoss { .. })).unwrap();
    for (id, _, last) in memory::lifetimes(&module, micro, Role::Activation) {
        let name = &module.values[id.index()].name;
        assert!(last < loss || !name.ends_with(".gated"), "{name} is kept");
        assert!(last < loss || !name.ends_with(".post_norm"), "{name} is kept");
    }
}

#[test]
fn preference_stages_freeze_too() {
    let dpo = Objective::Preference { loss: PreferenceLoss::Sigmoid { label_smoothing: 0.0 }, beta: 0.1 };
    let module = module_of(&llama(true), &["layers 3..4"], dpo);
    assert_eq!(backward_regions(&module), ["head", "layers.3"].into());
    let micro = module.program("micro").unwrap();
    let head = micro.ops.iter().find(|op| op.kind == OpKind::TokenLogprobsGrad).unwrap();
    assert_eq!(head.outputs.len(), 1);
}
