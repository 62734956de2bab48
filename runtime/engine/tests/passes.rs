//! What passes change of a program leaves no trace in its results: the bits of loss and gradients, on the
//! CPU backend, with and without each.

use engine::executor::Executor;
use lower::builder::Capacities;
use lower::figures::shapes;
use lower::figures::trained::{Line, Selection};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::memory;
use lower::passes::trained::part;
use lower::programs::{self, Draft, Training};
use ops::backend::Draw;
use ops::cpu::Cpu;
use plan::op::{PreferenceLoss, Write};
use plan::program::{Level, Module, Recomputed};
use plan::value::{Dtype, Role, ValueId};
use plan::work::{AdamW, batch, extent, result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ADAMW: AdamW = AdamW { lr: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

/// Lengths of rows: two pairs.
const ROWS: [usize; 4] = [7, 12, 5, 9];
const TOKENS: usize = 33;

/// What the second row of each pair goes on from, where pairs share their prompts.
const PREFIXES: [i32; 4] = [0, 4, 0, 3];
const VOCAB: u64 = 61;

const DPO: Objective =
    Objective::Preference { loss: PreferenceLoss::Sigmoid { label_smoothing: 0.1 }, beta: 0.1 };

fn llama() -> Value {
    config(
        "llama",
        json!({"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true}),
    )
}

/// With dropout, whose draws must not depend on passes.
fn gpt2() -> Value {
    config("gpt2", json!({"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}))
}

fn config(architecture: &str, fields: Value) -> Value {
    let fields: Vec<_> = fields.as_object().expect("an object").clone().into_iter().collect();
    Model::new_config(architecture, &fields)
}

fn draft(config: &Value, objective: Objective, train: &[Line]) -> Draft {
    let model = Model::from_config(config).expect("sound");
    let selection = Selection { lora: None, train: train.to_vec() };
    let part = part(&model, &shapes(config).expect("known"), &selection);
    let training = Training { objective, optimizer: &ADAMW, part: part.as_ref() };
    let capacities = Capacities { tokens: 40, rows: 6, trained: 40, slots: 0, cached: 0 };
    programs::draft(&model, &training, capacities, Dtype::F32)
}

/// Numbers in −1 to 1 that follow from a name and a place.
fn number(name: &str, at: usize) -> f32 {
    let start = name.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mixed = (start ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Returns the bits of the loss and of every gradient after two micro-steps.
fn bits(module: &Module) -> BTreeMap<String, Vec<u32>> {
    let backend = Cpu::new(2);
    let mut executor = Executor::new(module, &backend).expect("a sound module");
    for (index, value) in module.values.iter().enumerate().filter(|(_, value)| value.role == Role::Weight) {
        let is_norm = value.shape.len() == 1 && value.name.ends_with("weight");
        let base = if is_norm { 1.0 } else { 0.0 };
        let bytes = executor.bytes_mut(ValueId(index as u32)).expect("there");
        for (at, weight) in bytemuck::cast_slice_mut::<u8, f32>(bytes).iter_mut().enumerate() {
            *weight = base + 0.2 * number(&value.name, at);
        }
    }
    write_batch(&mut executor);
    executor.run("begin", 0, Draw::default()).expect("runs");
    for micro in 0..2 {
        executor.run("micro", micro, Draw { seed: 5, step: 3 }).expect("runs");
    }
    let gradients = module.values.iter().filter(|value| value.role == Role::Gradient);
    let names = gradients.map(|value| value.name.as_str()).chain([result::LOSS]);
    let bits = |name: &str| {
        let numbers = executor.read(name).expect("there");
        assert!(numbers.iter().all(|number| number.is_finite()), "{name}");
        (name.to_owned(), numbers.iter().map(|number| (*number as f32).to_bits()).collect())
    };
    names.map(bits).collect()
}

fn write_batch(executor: &mut Executor) {
    let starts: Vec<usize> = ROWS
        .iter()
        .scan(0, |end, len| {
            *end += len;
            Some(*end - len)
        })
        .collect();
    let rows = || ROWS.iter().zip(&starts).enumerate();
    let trained: Vec<(usize, usize)> =
        rows().flat_map(|(row, (len, start))| (1..len - 1).map(move |at| (row, start + at))).collect();
    for (name, size) in [
        (extent::TOKENS, TOKENS),
        (extent::ROWS, ROWS.len()),
        (extent::BOUNDS, ROWS.len() + 1),
        (extent::TRAINED, trained.len()),
    ] {
        executor.set_extent(name, size as u64).expect("fits");
    }
    let id = |at: usize| (at * 7 % VOCAB as usize) as i32;
    let mut bounds: Vec<i32> = starts.iter().map(|start| *start as i32).collect();
    bounds.push(TOKENS as i32);
    let prefixes = if executor.reads("micro", batch::PREFIXES) { PREFIXES } else { [0; ROWS.len()] };
    let positions = |(row, (len, _)): (usize, (&usize, _))| prefixes[row]..prefixes[row] + *len as i32;
    let positions = rows().flat_map(positions).collect::<Vec<_>>();
    for (name, numbers) in [
        (batch::IDS, (0..TOKENS).map(id).collect::<Vec<_>>()),
        (batch::POSITIONS, positions),
        (batch::CU_SEQLENS, bounds),
        (batch::ROW_NUMBERS, (0..ROWS.len() as i32).map(|row| row + 4).collect()),
        (batch::TRAINED_INDEX, trained.iter().map(|(_, at)| *at as i32).collect()),
        (batch::TRAINED_LABELS, trained.iter().map(|(_, at)| id(at + 1)).collect()),
        (batch::TRAINED_ROW, trained.iter().map(|(row, _)| *row as i32).collect()),
    ] {
        executor.write_i32(name, &numbers).expect("written");
    }
    if executor.has(batch::PREFIXES) {
        executor.write_i32(batch::PREFIXES, &prefixes).expect("written");
    }
    executor.write_f32(batch::STEP_COUNT, &[2.0 * trained.len() as f32]).expect("written");
    executor.write_f32(batch::REFERENCE, &[-3.0, -5.0, -2.0, -4.5]).expect("written");
}

#[test]
fn what_is_trained_has_the_gradients_of_training_everything() {
    for config in [llama(), gpt2()] {
        for objective in [Objective::CrossEntropy, DPO] {
            let all = bits(&draft(&config, objective, &[]).plan(&[]));
            for train in [
                Line::Layers(Some(1..2)),
                Line::Modules(vec!["lm_head".into()]),
                Line::AllBut(vec!["embed_tokens".into()]),
                Line::Modules(vec!["c_attn".into(), "q_proj".into(), "ln_2".into(), "norm".into()]),
            ] {
                let part = bits(&draft(&config, objective, std::slice::from_ref(&train)).plan(&[]));
                assert!(part.len() > 1 && part.len() < all.len(), "{train:?}");
                for (name, bits) in part {
                    assert!(all[&name] == bits, "{name} with {train:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_computed_again_leaves_no_trace() {
    for config in [llama(), gpt2()] {
        for objective in [Objective::CrossEntropy, DPO] {
            let draft = draft(&config, objective, &[]);
            let kept = bits(&draft.plan(&[]));
            let some = |level: Level, count: usize| -> Vec<Recomputed> {
                let regions = draft.regions().into_iter().take(count);
                regions.map(|region| Recomputed { region, level }).collect()
            };
            let mixed = [some(Level::Block, 1), some(Level::Cheap, 3)[1..].to_vec()].concat();
            for recompute in [some(Level::Cheap, 3), some(Level::Block, 3), some(Level::Block, 2), mixed] {
                let module = draft.plan(&recompute);
                assert!(module.arena_bytes(Role::Activation) < draft.plan(&[]).arena_bytes(Role::Activation));
                assert!(bits(&module) == kept, "{recompute:?}");
            }
        }
    }
}

#[test]
fn what_is_written_in_place_leaves_no_trace() {
    for config in [llama(), gpt2()] {
        for objective in [Objective::CrossEntropy, DPO] {
            let draft = draft(&config, objective, &[]);
            let mut apart = draft.module().clone();
            memory::assign(&mut apart);
            let together = draft.plan(&[]);
            let rewriting = |module: &Module| {
                let ops = &module.program("micro").expect("there").ops;
                ops.iter().filter(|op| op.outputs.iter().any(|o| o.write == Write::Update)).count()
            };
            assert!(rewriting(&apart) == 0 && rewriting(&together) >= 3);
            assert!(together.arena_bytes(Role::Activation) < apart.arena_bytes(Role::Activation));
            assert!(bits(&together) == bits(&apart));
        }
    }
}
