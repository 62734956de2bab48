//! Predicted memory against the arenas of programs, where both exist: full training in f32 without recomputation.

use lower::builder::Capacities;
use lower::figures::activations::Recompute;
use lower::figures::formats::{Optimizer, Precision, State};
use lower::figures::memory::{Reference, Setup, memory};
use lower::figures::trained::{Selection, trained};
use lower::figures::{Shapes, shapes};
use lower::models::Model;
use lower::objectives::Objective;
use lower::programs;
use plan::op::PreferenceLoss;
use plan::program::Module;
use plan::value::{Dtype, Role};
use plan::work::AdamW;
use serde_json::{Value, json};

const ADAMW: AdamW = AdamW { lr: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

fn setup(tokens: u64) -> Setup {
    Setup {
        precision: Precision::F32,
        quantized: None,
        optimizer: Optimizer::AdamW(State::F32),
        recompute: Recompute::None,
        reference: Reference::Ahead,
        tokens,
        shards: 1,
        process: 0,
    }
}

fn llama(sizes: [u64; 6], tied: bool) -> Value {
    let [vocab, hidden, intermediate, layers, heads, kv_heads] = sizes;
    json!({"model_type": "llama", "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "tie_word_embeddings": tied})
}

fn gpt2(sizes: [u64; 4]) -> Value {
    let [vocab, hidden, layers, heads] = sizes;
    json!({"model_type": "gpt2", "vocab_size": vocab, "n_embd": hidden, "n_layer": layers, "n_head": heads,
        "n_positions": 1024})
}

/// The smallest real models and their like, from two layers to twenty-four.
fn configs() -> Vec<Value> {
    vec![
        llama([96, 32, 64, 2, 4, 2], true),
        llama([512, 64, 172, 5, 8, 4], true),
        llama([2000, 128, 336, 4, 4, 4], false),
        llama([49152, 576, 1536, 30, 9, 3], true),
        llama([32000, 2048, 5632, 22, 32, 4], false),
        gpt2([96, 32, 2, 4]),
        gpt2([2000, 128, 4, 4]),
        gpt2([50257, 768, 12, 12]),
        gpt2([50257, 1024, 24, 16]),
    ]
}

fn module(config: &Value, objective: Objective, tokens: u64) -> Module {
    let fields: Vec<_> = config.as_object().unwrap().clone().into_iter().collect();
    let whole = Model::new_config(config["model_type"].as_str().unwrap(), &fields);
    let model = Model::from_config(&whole).unwrap();
    let capacities = Capacities { tokens, rows: 8, trained: tokens, slots: 0, cached: 0 };
    programs::train(&model, objective, &ADAMW, capacities, Dtype::F32)
}

fn check(config: &Value, objective: Objective, tokens: u64) {
    let module = module(config, objective, tokens);
    let shapes: Shapes = shapes(config).unwrap();
    let predicted = memory(&shapes, &trained(&shapes, &Selection::default()), &setup(tokens));
    let close = |name: &str, predicted: u64, exact: u64, within: f64| {
        let ratio = predicted as f64 / exact as f64;
        assert!(
            (ratio - 1.0).abs() <= within,
            "{name} of {config}: {predicted}, exactly {exact}, {ratio:.3}"
        );
    };
    for role in [Role::Weight, Role::Gradient, Role::State] {
        // Arenas round every tensor up to 64 bytes.
        close(role.name(), predicted.bytes(role.name()), module.arena_bytes(role), 0.001);
    }
    for role in [Role::Activation, Role::Workspace] {
        close(role.name(), predicted.bytes(role.name()), module.arena_bytes(role), 0.04);
    }
    close("all", predicted.total(), module.total_bytes(), 0.03);
}

#[test]
fn predicted_memory_is_close_to_that_of_programs() {
    for config in configs() {
        for tokens in [256, 2048, 8192] {
            check(&config, Objective::CrossEntropy, tokens);
        }
    }
}

#[test]
fn preference_stages_too() {
    let loss = PreferenceLoss::Sigmoid { label_smoothing: 0.0 };
    for config in configs() {
        check(&config, Objective::Preference { loss, beta: 0.1 }, 2048);
    }
}
