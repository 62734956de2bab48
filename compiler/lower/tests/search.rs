//! Recomputation and the search for what fits: memory and decisions, on models of real shapes.

use lower::builder::Capacities;
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::memory;
use lower::passes::search::{Choices, Recompute, cheapest};
use lower::programs::{self, Draft, Training};
use plan::program::{Level, Module, Recomputed};
use plan::value::{Dtype, Role};
use plan::work::AdamW;
use serde_json::{Value, json};

const ADAMW: AdamW = AdamW { lr: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

fn llama(layers: u64, [vocab, hidden, intermediate, heads, kv_heads]: [u64; 5]) -> Model {
    of(
        "llama",
        json!({"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "tie_word_embeddings": true}),
    )
}

fn smollm2() -> Model {
    llama(30, [49152, 576, 1536, 9, 3])
}

fn gpt2() -> Model {
    of("gpt2", json!({}))
}

fn of(architecture: &str, fields: Value) -> Model {
    let fields: Vec<_> = fields.as_object().unwrap().clone().into_iter().collect();
    Model::from_config(&Model::new_config(architecture, &fields)).unwrap()
}

fn capacities(tokens: u64) -> Capacities {
    Capacities { tokens, rows: 64, trained: tokens, slots: 0, cached: 0 }
}

fn draft(model: &Model, tokens: u64) -> Draft {
    let training = Training { objective: Objective::CrossEntropy, optimizer: &ADAMW, part: None };
    programs::draft(model, &training, capacities(tokens), Dtype::F32)
}

fn every(draft: &Draft, level: Level) -> Vec<Recomputed> {
    draft.regions().into_iter().map(|region| Recomputed { region, level }).collect()
}

/// The most bytes of activations that live at once, which no layout can go below.
fn most_alive(module: &Module) -> u64 {
    let capacities = module.capacities();
    let of_program = |program| {
        let lives = memory::lifetimes(module, program, Role::Activation);
        let mut changes: Vec<(usize, i64)> = Vec::new();
        for (id, first, last) in lives {
            let bytes = module.values[id.index()].bytes(&capacities).next_multiple_of(64) as i64;
            changes.extend([(first, bytes), (last + 1, -bytes)]);
        }
        changes.sort_unstable();
        let alive = changes.iter().scan(0, |alive, (_, bytes)| {
            *alive += bytes;
            Some(*alive)
        });
        alive.max().unwrap_or(0) as u64
    };
    module.programs.iter().map(of_program).max().unwrap_or(0)
}

#[test]
fn measure() {
    for (name, model) in [("SmolLM2-135M", smollm2()), ("GPT-2 124M", gpt2())] {
        let draft = draft(&model, 2048);
        for (level, recompute) in [
            ("none", Vec::new()),
            ("cheap", every(&draft, Level::Cheap)),
            ("block", every(&draft, Level::Block)),
        ] {
            let module = draft.plan(&recompute);
            let (arena, alive) = (module.arena_bytes(Role::Activation), most_alive(&module));
            println!(
                "{name} {level}: {:.1} MiB, alive {:.1}, all {:.1}",
                arena as f64 / 1048576.,
                alive as f64 / 1048576.,
                module.total_bytes() as f64 / 1048576.
            );
        }
    }
}
