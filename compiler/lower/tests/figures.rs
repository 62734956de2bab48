//! Predicted figures against those of programs, where both exist: full training in f32 without recomputation,
//! evaluation and generation.

use lower::builder::Capacities;
use lower::figures::activations::Recompute;
use lower::figures::cost::{Pass, flops};
use lower::figures::formats::{Optimizer, Precision, State};
use lower::figures::memory::{Inference, Memory, Reference, Setup, inference, memory};
use lower::figures::trained::{Line, Selection, trained};
use lower::figures::{Shapes, devices, shapes};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::trained::part;
use lower::programs::{self, Training};
use plan::cost::program_cost;
use plan::op::PreferenceLoss;
use plan::program::{Level, Module, Recomputed};
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
        reference: Reference::None,
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

fn model(config: &Value) -> Model {
    let fields: Vec<_> = config.as_object().unwrap().clone().into_iter().collect();
    let whole = Model::new_config(config["model_type"].as_str().unwrap(), &fields);
    Model::from_config(&whole).unwrap()
}

fn module(config: &Value, objective: Objective, tokens: u64) -> Module {
    let capacities = Capacities { tokens, rows: 8, trained: tokens, slots: 0, cached: 0 };
    programs::train(&model(config), objective, &ADAMW, capacities, Dtype::F32)
}

fn close(what: &str, config: &Value, predicted: f64, exact: f64, within: f64) {
    let ratio = predicted / exact;
    assert!((ratio - 1.0).abs() <= within, "{what} of {config}: {predicted}, exactly {exact}, {ratio:.3}");
}

/// Compares the items that arenas have, and the sums.
fn compare(config: &Value, predicted: &Memory, exact: &Module, bounds: [f64; 2]) {
    let [activations, all] = bounds;
    for role in Role::ALL.into_iter().filter(|&role| exact.arena_bytes(role) > 0) {
        let within = match role {
            // Arenas round every tensor up to 64 bytes.
            Role::Weight | Role::Master | Role::Gradient | Role::State | Role::Cache | Role::Workspace => {
                0.001
            }
            Role::Activation => activations,
            // A few numbers per row are left out; it is small, and in the sum.
            Role::Batch => continue,
        };
        let (predicted, exact) = (predicted.bytes(role.name()), exact.arena_bytes(role));
        close(role.name(), config, predicted as f64, exact as f64, within);
    }
    close("all", config, predicted.total() as f64, exact.total_bytes() as f64, all);
}

fn check(config: &Value, objective: Objective, tokens: u64) {
    let reference = match objective {
        Objective::CrossEntropy => Reference::None,
        Objective::Preference { .. } => Reference::Ahead,
    };
    let module = module(config, objective, tokens);
    let shapes: Shapes = shapes(config).unwrap();
    let setup = Setup { reference, ..setup(tokens) };
    let predicted = memory(&shapes, &trained(&shapes, &Selection::default()), &setup);
    compare(config, &predicted, &module, [0.04, 0.03]);
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

/// What the lowest trained layer keeps is counted as a whole, so that models of few layers are left out.
#[test]
fn stages_that_train_a_part_too() {
    for config in configs() {
        let shapes: Shapes = shapes(&config).unwrap();
        if shapes.layers < 12 {
            continue;
        }
        for train in [
            vec![Line::Layers(Some(2..12))],
            vec![Line::Modules(vec!["embed_tokens".into(), "lm_head".into()])],
            vec![Line::AllBut(vec!["embed_tokens".into(), "lm_head".into()])],
            vec![Line::Modules(vec!["norm".into(), "ln_f".into(), "mlp".into()])],
        ] {
            let selection = Selection { lora: None, train };
            let model = model(&config);
            let part = part(&model, &shapes, &selection);
            let training =
                Training { objective: Objective::CrossEntropy, optimizer: &ADAMW, part: part.as_ref() };
            let capacities = Capacities { tokens: 2048, rows: 8, trained: 2048, slots: 0, cached: 0 };
            let exact = programs::draft(&model, &training, capacities, Dtype::F32).plan(&[]);
            let predicted = memory(&shapes, &trained(&shapes, &selection), &setup(2048));
            compare(&config, &predicted, &exact, [0.1, 0.05]);
        }
    }
}

#[test]
fn blocks_that_are_computed_again_too() {
    let training = Training { objective: Objective::CrossEntropy, optimizer: &ADAMW, part: None };
    for config in configs() {
        let capacities = Capacities { tokens: 2048, rows: 8, trained: 2048, slots: 0, cached: 0 };
        let draft = programs::draft(&model(&config), &training, capacities, Dtype::F32);
        let blocks = draft.regions().into_iter().map(|region| Recomputed { region, level: Level::Block });
        let exact = draft.plan(&blocks.collect::<Vec<_>>());
        let shapes: Shapes = shapes(&config).unwrap();
        let setup = Setup { recompute: Recompute::Block, ..setup(2048) };
        let predicted = memory(&shapes, &trained(&shapes, &Selection::default()), &setup);
        compare(&config, &predicted, &exact, [0.1, 0.05]);
    }
}

#[test]
fn evaluation_and_generation_too() {
    for config in configs() {
        let shapes = shapes(&config).unwrap();
        for slots in [0, 4] {
            let capacities = Capacities { tokens: 1024, rows: 8, trained: 1024, slots, cached: 512 };
            let exact = match slots {
                0 => programs::evaluate(&model(&config), Objective::CrossEntropy, capacities, Dtype::F32),
                _ => programs::generate(&model(&config), capacities, Dtype::F32),
            };
            let needs = Inference { compute: Dtype::F32, tokens: 1024, slots, cached: 512, process: 0 };
            compare(&config, &inference(&shapes, &needs), &exact, [0.1, 0.05]);
        }
    }
}

/// Attention's gradient computes its scores again in programs, and elementwise ops count there.
#[test]
fn operations_are_close_to_those_of_programs() {
    let (tokens, row) = (2048, 256.0);
    for config in configs() {
        let module = module(&config, Objective::CrossEntropy, tokens);
        let shapes = shapes(&config).unwrap();
        let pass = Pass {
            row_tokens: row,
            trained_share: 1.0,
            recompute: Recompute::None,
            reference: Reference::None,
        };
        let predicted = flops(&shapes, &trained(&shapes, &Selection::default()), &pass).total();
        let micro = module.program("micro").unwrap();
        let exact = program_cost(&module, micro, &module.capacities(), row).flops / tokens as f64;
        close("operations", &config, predicted, exact, 0.08);
    }
}

/// A check of a recipe has 15 ms for everything, in an optimised build; tests are not one.
#[test]
fn the_largest_model_is_predicted_in_time() {
    let config = json!({"model_type": "mixtral", "hidden_size": 6144, "intermediate_size": 16384,
        "num_hidden_layers": 56, "num_attention_heads": 48});
    let start = std::time::Instant::now();
    let shapes = shapes(&config).unwrap();
    let all = trained(&shapes, &Selection::default());
    // As Zephyr-141B was trained: 32 GPUs, AdamW with 8-bit state; two answers of 2048 tokens per GPU fit.
    let zephyr = Setup {
        precision: Precision::BF16,
        optimizer: Optimizer::AdamW(State::Int8),
        recompute: Recompute::Block,
        reference: Reference::Ahead,
        ..setup(2 * 2048)
    };
    let fitting = devices(80 << 30, 32).largest_micro(&shapes, &all, &zephyr, 64);
    assert!(fitting.is_some());
    assert!(start.elapsed().as_millis() < 150, "{:?}", start.elapsed());
}
