//! The prompt of a pair computed once, against computing it for each answer: the same loss, gradients, metrics and
//! log-probabilities up to rounding, of fewer tokens.

use data::store::TokenRow;
use data::{MicroBatch, Sequence, SequenceRow, Side, Store, StoreWriter};
use engine::batch::{self, shares};
use engine::evaluate::{evaluate, write_reference};
use engine::executor::Executor;
use engine::reference;
use lower::builder::Capacities;
use lower::models::Model;
use lower::objectives::Objective;
use lower::programs::{self, Training};
use ops::backend::Draw;
use ops::cpu::Cpu;
use plan::op::{OpKind, PreferenceLoss};
use plan::program::Module;
use plan::value::{Dtype, Role, ValueId};
use plan::work::{AdamW, Unit, batch as names, result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

const ADAMW: AdamW = AdamW { lr: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };
const VOCAB: u32 = 61;

/// Tokens of prompts, of chosen and of rejected answers: longer and shorter than a tile of attention, and a pair
/// whose rows begin differently.
const PAIRS: [[usize; 3]; 4] = [[90, 30, 70], [5, 3, 1], [0, 20, 9], [64, 64, 5]];
const TOKENS: usize = 600;

/// Every preference loss; one of them means over tokens.
const LOSSES: [PreferenceLoss; 3] =
    [PreferenceLoss::Sigmoid { label_smoothing: 0.1 }, PreferenceLoss::Ipo, PreferenceLoss::Hinge];

fn llama() -> Value {
    let sizes = json!({"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true});
    config("llama", sizes)
}

fn gpt2(dropout: f64) -> Value {
    let sizes = json!({"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256,
        "attn_pdrop": dropout, "embd_pdrop": dropout, "resid_pdrop": dropout});
    config("gpt2", sizes)
}

fn config(architecture: &str, fields: Value) -> Value {
    let fields: Vec<_> = fields.as_object().expect("an object").clone().into_iter().collect();
    Model::new_config(architecture, &fields)
}

fn module(config: &Value, loss: PreferenceLoss, dtype: Dtype) -> Module {
    let model = Model::from_config(config).expect("sound");
    let objective = Objective::Preference { loss, beta: 0.1 };
    let training = Training { objective, optimizer: &ADAMW, part: None };
    let tokens = TOKENS as u64;
    let capacities = Capacities { tokens, rows: 8, trained: tokens, slots: 0, cached: 0 };
    programs::draft(&model, &training, capacities, dtype).plan(&[])
}

/// Returns the module whose rows all begin anew.
fn apart(module: &Module) -> Module {
    let mut apart = module.clone();
    for op in apart.programs.iter_mut().flat_map(|program| &mut program.ops) {
        match op.kind {
            OpKind::Attention(_) => op.inputs.truncate(5),
            OpKind::AttentionGrad(_) => op.inputs.truncate(8),
            _ => {}
        }
    }
    apart
}

/// Numbers in −1 to 1 that follow from a name and a place.
fn number(name: &str, at: usize) -> f32 {
    let start = name.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mixed = (start ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn store(place: &std::path::Path) -> Store {
    let path = place.join("store");
    let mut writer = StoreWriter::create(&path, &["pairs".into()]).expect("created");
    for (pair, [prompt, chosen, rejected]) in PAIRS.into_iter().enumerate() {
        for (side, answer) in [chosen, rejected].into_iter().enumerate() {
            // Rows without a common prompt still begin with two tokens that are not trained.
            let own = if prompt == 0 { 2 } else { 0 };
            let id = |at: usize| {
                let name = if at < prompt { 0 } else { 1 + side };
                (((number("ids", 1000 * pair + 300 * name + at) + 1.0) * 0.5 * VOCAB as f32) as u32)
                    .min(VOCAB - 1)
            };
            let ids: Vec<u32> = (0..prompt + own + answer).map(id).collect();
            let mask = (0..ids.len()).map(|at| u8::from(at >= prompt + own)).collect();
            let shared = if side == 1 { prompt as u32 } else { 0 };
            writer.push(Side::Train, &TokenRow { ids, mask, shared, ..TokenRow::default() }).expect("pushed");
        }
    }
    writer.finish().expect("finished");
    Store::open(&path, Side::Train).expect("sound")
}

fn fill_weights(executor: &mut Executor, module: &Module) {
    for (index, value) in module.values.iter().enumerate() {
        if !matches!(value.role, Role::Weight | Role::Master) {
            continue;
        }
        let is_norm = value.shape.len() == 1 && value.name.contains("norm") || value.name.contains("ln_");
        let base = if is_norm && value.name.ends_with("weight") { 1.0 } else { 0.0 };
        let of = |at: usize| base + 0.2 * number(&value.name, at);
        let bytes = executor.bytes_mut(ValueId(index as u32)).expect("there");
        match value.dtype {
            Dtype::F32 => bytemuck::cast_slice_mut::<u8, f32>(bytes)
                .iter_mut()
                .enumerate()
                .for_each(|(at, weight)| *weight = of(at)),
            Dtype::Bf16 => bytemuck::cast_slice_mut::<u8, u16>(bytes)
                .iter_mut()
                .enumerate()
                .for_each(|(at, weight)| *weight = (of(at).to_bits() >> 16) as u16),
            other => panic!("weights are not {}", other.name()),
        }
    }
}

/// What a module gives for all pairs: numbers by name, and the tokens that it computed.
fn results(module: &Module, store: &Store) -> (BTreeMap<String, Vec<f64>>, usize) {
    let backend = Cpu::new(2);
    let mut executor = Executor::new(module, &backend).expect("a sound module");
    fill_weights(&mut executor, module);
    let stop = AtomicBool::new(false);
    let scored =
        reference::score(&mut executor, store, &stop, |_, _| {}).expect("scored").expect("not stopped");
    let mut results = BTreeMap::new();
    // Another reference than the policy itself, so that margins are not zero.
    let reference: Vec<f32> =
        scored.iter().enumerate().map(|(row, logprob)| logprob * (0.9 + 0.05 * (row % 4) as f32)).collect();
    results.insert("reference".to_owned(), scored.into_iter().map(f64::from).collect());
    let held = evaluate(&mut executor, store, Unit::Pairs, Some(&reference), &stop, |_, _| {});
    let held = held.expect("evaluated").expect("not stopped");
    let figures = [Some(held.loss), held.margin, held.rewards_chosen, held.rewards_rejected, held.accuracy];
    results.insert("evaluation".to_owned(), figures.map(|figure| figure.expect("pairs")).to_vec());
    let pair = |at: usize| Sequence {
        rows: [0, 1].map(|side| SequenceRow { row: 2 * at + side, number: (2 * at + side) as u64 }).to_vec(),
    };
    let (mut micro, mut tokens) = (MicroBatch::default(), 0);
    executor.write_f32(names::STEP_COUNT, &[PAIRS.len() as f32]).expect("written");
    executor.run("begin", 0, Draw::default()).expect("runs");
    for (number, pairs) in [[0, 1], [2, 3]].into_iter().enumerate() {
        micro.fill(store, &pairs.map(pair), shares(&executor, "micro"));
        tokens += micro.tokens();
        batch::write(&mut executor, &micro).expect("fits");
        write_reference(&mut executor, &micro, Some(&reference)).expect("fits");
        executor.run("micro", number as u64, Draw { seed: 5, step: 3 }).expect("runs");
    }
    let gradients = module.values.iter().filter(|value| value.role == Role::Gradient);
    for name in gradients.map(|value| value.name.as_str()).chain([result::LOSS, result::METRICS]) {
        results.insert(name.to_owned(), executor.read(name).expect("there"));
    }
    (results, tokens)
}

/// Returns ‖a − b‖/‖b‖.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm =
        |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|number| number * number).sum::<f64>().sqrt();
    let size = norm(&mut b.iter().copied());
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / size.max(f64::MIN_POSITIVE)
}

fn agree(config: &Value, loss: PreferenceLoss, dtype: Dtype, most: f64) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let store = store(place.path());
    let together = module(config, loss, dtype);
    let (once, few) = results(&together, &store);
    let (twice, many) = results(&apart(&together), &store);
    let shared: usize = PAIRS.iter().map(|[prompt, ..]| prompt).sum();
    assert_eq!(many - few, shared);
    assert!(once.len() > 10, "{:?}", once.keys());
    // Softmax takes no notice of what is added to all keys: that gradient is zero but for rounding.
    for (name, numbers) in once.iter().filter(|(name, _)| !name.ends_with("k_proj.bias.grad")) {
        let error = distance(numbers, &twice[name]);
        assert!(error <= most, "{name} is off by {error:.1e} with {loss:?} in {}", dtype.name());
    }
}

#[test]
fn a_prompt_computed_once_changes_no_loss_and_no_gradient() {
    for config in [llama(), gpt2(0.0)] {
        for loss in LOSSES {
            agree(&config, loss, Dtype::F32, 1e-5);
        }
    }
}

#[test]
fn in_bf16_it_differs_by_its_rounding() {
    agree(&llama(), LOSSES[0], Dtype::Bf16, 2e-2);
}

#[test]
fn with_dropout_only_what_has_no_draws_shares() {
    let module = module(&gpt2(0.1), LOSSES[0], Dtype::F32);
    let backend = Cpu::new(1);
    let executor = Executor::new(&module, &backend).expect("a sound module");
    assert_eq!(["micro", "evaluate", "reference"].map(|name| shares(&executor, name)), [false, true, true]);
}
