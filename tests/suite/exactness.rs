//! Numbers of whole runs: `cpu` trains as `plain` does, bf16 learns as f32 does, threads leave no trace.
//!
//! The largest differences that were found are printed: `cargo test --workspace --test suite exactness -- --nocapture`.

use crate::support::parity;
use crate::workshop::Workshop;
use engine::folder::RunFolder;
use engine::observer::Silent;
use engine::run::{Options, run_task};
use lower::models::Model;
use ops::cpu::Cpu;
use plan::task::{Conduct, Figures, Key, Place, Task};
use plan::work::{Artifact, Initialize, Work};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Sizes of a model with the structure of SmolLM2-135M.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    vocab: u64,
    layers: u64,
    head_dim: u64,
    /// Tokens of a row; a step has two, so that `plain` is affordable.
    sequence: u64,
}

impl Sizes {
    const SMOLLM2: Sizes = Sizes { vocab: 49_152, layers: 30, head_dim: 64, sequence: 128 };

    /// config.json: nine heads on three pairs of keys and values, gated layers, tied embeddings.
    fn config(self) -> Value {
        let hidden = 9 * self.head_dim;
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": hidden,
            "intermediate_size": hidden * 8 / 3,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100_000,
            "hidden_act": "silu",
            "tie_word_embeddings": true,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "initializer_range": 1.0 / 24.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        })
    }
}

/// Trains everything on whole rows; the sequence is filled in.
const AGAINST_PLAIN: &str = r#"adapt 1
model start "start/init-start/model"
dataset reader "reader/train.jsonl" { rows text; }
cpt dutch {
    model start
    data reader
    precision f32
    sequence SEQUENCE pack=#true
    batch 2
    steps 50
    schedule constant
    optimizer adamw lr=1e-4 clip=1.0
}
"#;

/// Largest relative difference of the loss of a step: of the first ten, and of all.
const FIRST_TEN: f64 = 1e-5;
const ALL_FIFTY: f64 = 1e-4;

/// Writes a new model of these sizes; its tokenizer may have fewer tokens than the embedding has rows.
fn write_start(shop: &Workshop, sizes: Sizes) {
    let config = sizes.config();
    let work = Initialize {
        tokenizer: Artifact::Path(parity("tokenizer").display().to_string()),
        tensors: Model::from_config(&config).unwrap().new_tensors(),
        config,
        generation_config: json!({}),
        dtype: "f32".into(),
        seed: 5,
    };
    let task = Task {
        name: "init:start".into(),
        inputs: Vec::new(),
        work: Work::Initialize(work),
        key: Some(Key("start".into())),
        conduct: Conduct::default(),
        origin: Place::default(),
        figures: Figures::default(),
    };
    let folder = RunFolder::open(&shop.path("start"), &shop.path("cache"), "adapt").unwrap();
    let never = AtomicBool::new(false);
    run_task(&task, &folder, &Cpu::new(2), &mut Silent, &never, &Options::default()).unwrap();
}

/// Returns the largest relative differences of losses, with the step of each: of the first ten, of all.
fn largest(ours: &[f64], theirs: &[f64]) -> [(f64, usize); 2] {
    assert_eq!(ours.len(), theirs.len());
    let off = |step: usize| ((ours[step] - theirs[step]).abs() / theirs[step].abs(), step + 1);
    [10, ours.len()].map(|steps| (0..steps).map(off).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap())
}

/// Trains 50 steps on real text with both backends.
fn check_against_plain(sizes: Sizes) {
    let shop = Workshop::new();
    shop.write("reader/train.jsonl", &quickstart("reader/train.jsonl"));
    write_start(&shop, sizes);
    shop.write("exact.kdl", &AGAINST_PLAIN.replace("SEQUENCE", &sizes.sequence.to_string()));
    let losses = |backend: &str| {
        let args = ["run", "exact.kdl", "--backend", backend, "--name", backend];
        // The threads of candle spin while they wait for each other: beside other work, one is faster.
        let ran = shop.command(&args).env("RAYON_NUM_THREADS", "1").output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        shop.losses(&format!("runs/exact-{backend}"), "dutch")
    };
    let (cpu, plain) = (losses("cpu"), losses("plain"));
    assert_eq!(cpu.len(), 50);
    assert!(plain[49] < 0.9 * plain[0], "it learns: {} to {}", plain[0], plain[49]);
    let [first, all] = largest(&cpu, &plain);
    println!("{sizes:?}: loss {} to {}, off by {:.1e}, {:.1e}", plain[0], plain[49], first.0, all.0);
    assert!(first.0 <= FIRST_TEN, "{sizes:?}: step {} is off by {:e}", first.1, first.0);
    assert!(all.0 <= ALL_FIFTY, "{sizes:?}: step {} is off by {:e}", all.1, all.0);
}

/// Returns a file of the quickstart's data.
fn quickstart(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/quickstart");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Two of the layers at their full width, with the vocabulary of the tokenizer.
#[test]
fn cpu_trains_as_plain_does_at_the_width_of_smollm2() {
    check_against_plain(Sizes { vocab: 512, layers: 2, sequence: 64, ..Sizes::SMOLLM2 });
}

/// All of the layers, at an eighth of their width.
#[test]
fn cpu_trains_as_plain_does_at_the_depth_of_smollm2() {
    check_against_plain(Sizes { vocab: 512, head_dim: 8, sequence: 64, ..Sizes::SMOLLM2 });
}

/// All of it: 10 to 40 minutes, 6 GiB of memory.
#[test]
fn cpu_trains_as_plain_does_at_the_size_of_smollm2() {
    if std::env::var_os("ADAPT_SLOW").is_none() {
        eprintln!("skipped: set ADAPT_SLOW=1 to train SmolLM2-135M with the plain backend");
        return;
    }
    check_against_plain(Sizes::SMOLLM2);
}

/// The first stage of the quickstart, smaller steps at a third of its rate: steps of four rows at the whole rate
/// are not steady, and their losses drift apart in f32 alone (docs/benchmarks/2026-11-21-exactness.md).
fn reading(architecture: &str, sizes: &str) -> String {
    format!(
        r#"adapt 1
tokenizer words {{
    train bpe vocab=1536 on=reader
}}
model seed new:{architecture} {{
    tokenizer words
    config {{
        {sizes}
    }}
}}
dataset reader "reader" {{
    rows text
    split train=train eval=heldout
}}
cpt dutch {{
    model seed
    data reader
    sequence 256 pack=#true
    batch 4
    steps 200
    schedule cosine warmup="5%" floor=0.1
    optimizer adamw lr=1e-3 weight-decay=0.1 beta2=0.95
}}
"#
    )
}

const LLAMA: &str = "hidden_size 128; intermediate_size 352; num_hidden_layers 4; num_attention_heads 4; \
     num_key_value_heads 2; max_position_embeddings 512; tie_word_embeddings #true";
const GPT2: &str = "n_embd 128; n_layer 4; n_head 4; n_positions 512";

/// Largest relative difference between bf16 and f32 after 200 steps.
const BF16: f64 = 0.01;

fn check_bf16(architecture: &str, sizes: &str) {
    let shop = Workshop::new();
    for side in ["train", "heldout"] {
        let name = format!("reader/{side}.jsonl");
        shop.write(&name, &quickstart(&name));
    }
    shop.write("read.kdl", &reading(architecture, sizes));
    let losses = |precision: &str| {
        let set = format!("dutch.precision={precision}");
        shop.ok(&["run", "read.kdl", "--set", &set, "--name", precision]);
        let run = format!("runs/read-{precision}");
        let heldout =
            shop.metrics(&run, "dutch").iter().filter_map(|line| line.get("eval_loss")?.as_f64()).next_back();
        let losses = shop.losses(&run, "dutch");
        assert_eq!(losses.len(), 200);
        let last = losses[150..].iter().sum::<f64>() / 50.0;
        assert!(last < 0.75 * losses[0], "it learns: {} to {last}", losses[0]);
        (last, heldout.unwrap(), losses)
    };
    let ((wide, wide_heldout, wide_losses), (narrow, narrow_heldout, narrow_losses)) =
        (losses("f32"), losses("bf16"));
    assert_ne!(wide_losses, narrow_losses, "bf16 rounds");
    for (what, wide, narrow) in
        [("the last 50 steps", wide, narrow), ("held-out rows", wide_heldout, narrow_heldout)]
    {
        println!(
            "{architecture}, {what}: {wide:.4} in f32, {narrow:.4} in bf16, {:+.3} %",
            100.0 * (narrow / wide - 1.0)
        );
        assert!(
            (narrow - wide).abs() <= BF16 * wide,
            "{architecture}, {what}: {wide} in f32, {narrow} in bf16"
        );
    }
}

#[test]
fn a_llama_learns_in_bf16_as_in_f32() {
    check_bf16("llama", LLAMA);
}

#[test]
fn a_gpt2_learns_in_bf16_as_in_f32() {
    check_bf16("gpt2", GPT2);
}

/// Any number of threads gives the same files, in a model whose ops have work for several.
#[test]
fn runs_with_one_two_and_three_threads_are_bit_equal() {
    let shop = Workshop::new();
    shop.edit("hidden_size 32", "hidden_size 192");
    shop.edit("intermediate_size 64", "intermediate_size 512");
    for steps in ["steps 8", "steps 5", "steps 4"] {
        shop.edit(steps, "steps 3");
    }
    shop.write("llama.kdl", &shop.read("tiny.kdl"));
    let recipe = shop.read("tiny.kdl");
    let (before, rest) = recipe.split_once("new:llama").unwrap();
    let (_, after) = rest.split_once("dataset reader").unwrap();
    let config = "n_embd 192; n_layer 2; n_head 4; n_positions 256";
    let gpt2 =
        format!("{before}new:gpt2 {{ tokenizer words; config {{ {config}; }}; }}\ndataset reader{after}");
    shop.write("gpt2.kdl", &gpt2);
    for recipe in ["llama", "gpt2"] {
        for precision in ["f32", "bf16"] {
            let set = format!("*.precision={precision}");
            let files = |threads: &str| {
                let name = format!("{precision}-{threads}");
                let path = format!("{recipe}.kdl");
                shop.ok(&["run", &path, "--set", &set, "--threads", threads, "--name", &name]);
                let run = format!("runs/{recipe}-{name}");
                ["dutch", "chat", "aligned"]
                    .map(|stage| (shop.weights(&run, stage), shop.losses(&run, stage)))
            };
            let one = files("1");
            assert!(one[0].0 != one[1].0 && one[1].0 != one[2].0, "every stage trains");
            for threads in ["2", "3"] {
                // Not assert_eq: nobody wants to read megabytes of bytes.
                assert!(files(threads) == one, "{recipe} in {precision} is another with {threads} threads");
            }
        }
    }
}

/// Each thread has its scratch, which must not move what is decided, and so the results.
#[test]
fn what_is_decided_near_a_limit_does_not_depend_on_threads() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl", "--only", "dutch"]);
    let decided = |limit: &str, threads: &[&str]| {
        let plan =
            shop.run(&[&["plan", "tiny.kdl", "--format", "json", "--memory", limit], threads].concat());
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout).ok()?;
        let dutch = plan["tasks"].as_array()?.iter().find(|task| task["name"] == "dutch")?;
        dutch["figures"]["micro_batch_size"].as_u64()
    };
    let limits = (12_000..17_000).step_by(125).map(|size| format!("{size}KiB"));
    let both: Vec<_> =
        limits.map(|limit| [&["--threads", "1"][..], &[]].map(|threads| decided(&limit, threads))).collect();
    assert!(both.iter().all(|[one, all]| one == all), "{both:?}");
    for micro in [1, 2, 4].map(Some) {
        assert!(both.contains(&[micro; 2]), "the limits go from little to enough: {both:?}");
    }
}
