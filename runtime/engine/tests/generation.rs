//! Greedy answers of the reference models: the tokens that Hugging Face transformers gives.

use engine::executor::Executor;
use engine::generate::{Decoding, generate};
use lower::builder::Capacities;
use lower::models::Model;
use ops::cpu::Cpu;
use plan::value::Dtype;
use plan::work::Sampling;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const MODELS: [&str; 4] = ["gpt2", "llama", "llama2", "llama3_rope"];

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity").join(model)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("committed")).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Answers prompts with 16 tokens each, `slots` prompts at a time.
fn answers(model: &str, prompts: &[Vec<u32>], slots: u64, repetition_penalty: f64) -> Vec<Vec<u32>> {
    let folder = folder(model);
    let model = Model::from_config(&json(&folder.join("config.json"))).expect("a known model");
    let capacities = Capacities { tokens: 64, rows: slots, trained: 0, slots, cached: 64 };
    let module = lower::programs::generate(&model, capacities, Dtype::F32);
    let backend = Cpu::new(1);
    let mut executor = Executor::new(&module, &backend).expect("a sound module");
    let map = lower::programs::file_tensors(&model, &module);
    engine::weights::load(&mut executor, &map, &folder).expect("loaded");
    let sampling =
        Sampling { max_tokens: 16, temperature: 0.0, top_p: 1.0, top_k: 0, repetition_penalty, seed: 1 };
    let decoding = Decoding { sampling: &sampling, stop_ids: &[], context: None };
    let mut heard = vec![Vec::new(); prompts.len()];
    let stop = AtomicBool::new(false);
    let generated =
        generate(&mut executor, &decoding, prompts, &stop, &mut |prompt, id| heard[prompt].push(id))
            .expect("runs")
            .expect("nobody asked to stop");
    let ids: Vec<Vec<u32>> = generated.into_iter().map(|answer| answer.ids).collect();
    assert_eq!(ids, heard);
    ids
}

/// Prompts of five, eight, nine and forty tokens and what follows them.
fn cases(model: &str) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let golden = json(&folder(model).join("golden.json"));
    let mut sequences =
        vec![(8, ids(&golden["greedy"]["sequence"])), (40, ids(&golden["greedy_long_prompt"]["sequence"]))];
    let padded = &golden["greedy_left_padded"];
    for (mask, sequence) in
        ids_of_rows(&padded["attention_mask"]).iter().zip(ids_of_rows(&padded["sequences"]))
    {
        let pads = mask.iter().filter(|&&seen| seen == 0).count();
        sequences.push((mask.len() - pads, sequence[pads..].to_vec()));
    }
    sequences.into_iter().map(|(prompt, ids)| (ids[..prompt].to_vec(), ids[prompt..].to_vec())).unzip()
}

fn ids_of_rows(value: &Value) -> Vec<Vec<u32>> {
    value.as_array().expect("rows").iter().map(ids).collect()
}

#[test]
fn greedy_answers_are_those_of_hugging_face_alone_and_together() {
    for model in MODELS {
        let (prompts, expected) = cases(model);
        for slots in [1, 2, 4] {
            assert_eq!(answers(model, &prompts, slots, 1.0), expected, "{model}, {slots} slots");
        }
    }
}

#[test]
fn the_repetition_penalty_is_that_of_hugging_face() {
    for model in MODELS {
        let golden = json(&folder(model).join("golden.json"));
        let expected = ids(&golden["greedy_repetition_penalty_1.3"]);
        assert_eq!(answers(model, &[expected[..8].to_vec()], 1, 1.3), [expected[8..].to_vec()], "{model}");
    }
}

#[test]
fn prompts_that_cannot_be_answered_are_named() {
    for (prompt, code) in [(vec![], "empty-prompt"), (vec![1; 64], "prompt-too-long")] {
        let folder = folder("llama");
        let model = Model::from_config(&json(&folder.join("config.json"))).expect("a known model");
        let capacities = Capacities { tokens: 64, rows: 1, trained: 0, slots: 1, cached: 64 };
        let module = lower::programs::generate(&model, capacities, Dtype::F32);
        let backend = Cpu::new(1);
        let mut executor = Executor::new(&module, &backend).expect("a sound module");
        let sampling = Sampling {
            max_tokens: 1,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
            seed: 1,
        };
        let decoding = Decoding { sampling: &sampling, stop_ids: &[], context: None };
        let stop = AtomicBool::new(false);
        let error = generate(&mut executor, &decoding, &[vec![1], prompt], &stop, &mut |_, _| {});
        let error = error.expect_err("refused");
        assert_eq!(error.code, code);
        assert!(error.message.starts_with("prompt 2 has"), "{}", error.message);
    }
}
