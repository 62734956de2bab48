//! How long a token takes in decoding, against the time that reading the weights takes.
//!
//! Decodes with a model of SmolLM2-135M's shape and random weights, in f32 and in bf16, for one slot and for
//! several: `cargo run --release -p engine --example decode`, with `-- THREADS` for another number than two.

use engine::executor::Executor;
use engine::generate::{Decoding, generate};
use lower::builder::Capacities;
use lower::models::Model;
use lower::programs;
use ops::backend::{Backend, Call, OpError};
use ops::cpu::Cpu;
use plan::op::OpKind;
use plan::value::{Dtype, Role, ValueId};
use plan::work::Sampling;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const PROMPT: usize = 16;
const TOKENS: u64 = 64;

/// SmolLM2-135M.
fn fields() -> Vec<(String, Value)> {
    let fields = [
        ("vocab_size", json!(49_152)),
        ("hidden_size", json!(576)),
        ("intermediate_size", json!(1536)),
        ("num_hidden_layers", json!(30)),
        ("num_attention_heads", json!(9)),
        ("num_key_value_heads", json!(3)),
        ("tie_word_embeddings", json!(true)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The CPU backend, which adds up the time of each kind of op.
struct Clocked {
    cpu: Cpu,
    kinds: Mutex<BTreeMap<&'static str, (Duration, u64)>>,
}

impl Backend for Clocked {
    fn name(&self) -> &'static str {
        self.cpu.name()
    }

    fn supports(&self, kind: &OpKind, float: Dtype) -> Result<(), OpError> {
        self.cpu.supports(kind, float)
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError> {
        let (kind, start) = (call.kind.name(), Instant::now());
        let ran = self.cpu.run(call);
        let mut kinds = self.kinds.lock().expect("nothing panics under it");
        let (time, count) = kinds.entry(kind).or_default();
        *time += start.elapsed();
        *count += 1;
        ran
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        self.cpu.parallel(count, task);
    }
}

/// Fills the weights with numbers of the size that trained ones have.
fn fill(executor: &mut Executor) {
    let weights: Vec<(ValueId, Dtype)> = executor
        .module()
        .values
        .iter()
        .enumerate()
        .filter(|(_, value)| value.role == Role::Weight)
        .map(|(index, value)| (ValueId(index as u32), value.dtype))
        .collect();
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 0.1 - 0.05
    };
    for (id, dtype) in weights {
        let bytes = executor.bytes_mut(id).expect("a weight has a place");
        match dtype {
            Dtype::Bf16 => bytes
                .as_chunks_mut::<2>()
                .0
                .iter_mut()
                .for_each(|b| b.copy_from_slice(&next().to_le_bytes()[2..])),
            _ => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|b| *b = next().to_le_bytes()),
        }
    }
}

/// Returns bytes per second when every thread reads memory of that size.
fn bandwidth(cpu: &Cpu, bytes: usize) -> f64 {
    let words = vec![1_u64; bytes / 8];
    let pieces: Vec<&[u64]> = words.chunks(1 << 17).collect();
    let mut best = 0.0_f64;
    for _ in 0..10 {
        let start = Instant::now();
        cpu.parallel(pieces.len(), &|piece| {
            std::hint::black_box(pieces[piece].iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        });
        best = best.max(bytes as f64 / start.elapsed().as_secs_f64());
    }
    best
}

fn measure(threads: usize, precision: Dtype, slots: u64) {
    let model = Model::from_config(&Model::new_config("llama", &fields())).expect("sound");
    let cached = PROMPT as u64 + TOKENS;
    let tokens = PROMPT as u64 * slots;
    let module =
        programs::generate(&model, Capacities { tokens, rows: slots, trained: 0, slots, cached }, precision);
    let backend = Clocked { cpu: Cpu::new(threads), kinds: Mutex::default() };
    let mut executor = Executor::new(&module, &backend).expect("it fits");
    fill(&mut executor);
    let sampling = Sampling {
        max_tokens: TOKENS,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repetition_penalty: 1.0,
        seed: 1,
    };
    let decoding = Decoding { sampling: &sampling, stop_ids: &[], context: None };
    let prompts: Vec<Vec<u32>> =
        (0..slots as u32).map(|slot| (0..PROMPT as u32).map(|at| slot * 100 + at).collect()).collect();
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let mut times = Vec::new();
        backend.kinds.lock().expect("nothing panics under it").clear();
        generate(&mut executor, &decoding, &prompts, &AtomicBool::new(false), &mut |prompt, _| {
            if prompt == 0 {
                times.push(Instant::now());
            }
        })
        .expect("it runs");
        let steps = times.len() - 1;
        best = best.min((times[steps] - times[0]).as_secs_f64() / steps as f64);
    }
    let weights = module.arena_bytes(Role::Weight) as f64;
    let limit = weights / bandwidth(&backend.cpu, weights as usize);
    println!(
        "{precision:?}, {slots} slots: {:.2} ms a step, {:.2} ms to read the weights: {:.0} %",
        1e3 * best,
        1e3 * limit,
        100.0 * limit / best
    );
    for (kind, (time, count)) in backend.kinds.lock().expect("nothing panics under it").iter() {
        println!("  {kind:<18} {:>8.2} ms in {count} (prefill and {TOKENS} steps)", 1e3 * time.as_secs_f64());
    }
}

fn main() {
    let threads = std::env::args().nth(1).map_or(2, |threads| threads.parse().expect("a number of threads"));
    for precision in [Dtype::F32, Dtype::Bf16] {
        for slots in [1, 8, 32] {
            measure(threads, precision, slots);
        }
    }
}
