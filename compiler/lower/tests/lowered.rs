//! Recipes that can be run, lowered in rounds as the command does: tasks, counts, keys, micro batches.

mod common;

use common::{model, prepared, tokenizer};
use lang::diagnostic::{Diagnostic, Severity};
use lang::facts::{
    Facts, Fingerprint, HardwareFact, ModelFact, PathFact, Products, Rates, RowsFact, TokenizerFact, Want,
};
use lang::{Input, check};
use lower::builder::Capacities;
use lower::figures::process::PROCESS_BYTES;
use lower::figures::time::Machine;
use lower::models::Model;
use lower::objectives::Objective;
use lower::{Lowered, Options, lower, programs};
use plan::cost::program_cost;
use plan::op::PreferenceLoss;
use plan::program::{Decisions, Level, Recomputed};
use plan::task::{Every, Plan, Task};
use plan::text;
use plan::value::Dtype;
use plan::work::{AdamW, Artifact, Batch, Encode, MixAmount, Overflow, Sides, Work};
use serde_json::json;
use std::collections::BTreeMap;

/// A small Llama on a disk, with its tokenizer.
const MODEL: &str = "model base \"base\"\n";
const TEXTS: &str = "dataset texts \"texts\" { rows text; split train=train eval=test }\n";
const CHATS: &str = "dataset chats \"chats.jsonl\" { rows chat; dedup exact; shuffle seed=3; limit 900 head; holdout \"10%\" }\n";
const PAIRS: &str = "dataset pairs \"pairs.jsonl\" { rows preference; on-bad-row skip max=4 }\n";
const DEFAULTS: &str = "defaults { precision f32; optimizer adamw lr=1e-3; sequence 64 }\n";

const CPT: &str = "cpt a { model base; data texts; batch 8; epochs 2; sample every=\"10 steps\" prompt=\"once\" max-tokens=5 }\n";
const SFT: &str = "sft b { model a; data chats; batch 4; steps 30; template std:chatml; checkpoint every=\"5 steps\" keep=1 }\n";
const DPO: &str =
    "dpo c { model b; data pairs; batch 4; tokens \"40K\"; template std:chatml; loss ipo; beta 0.2 }\n";

/// Room for prompts is certain.
const SAMPLE: &str = " sample every=\"10 steps\" prompt=\"once\" max-tokens=5";

fn columns(path: &str) -> Vec<String> {
    let names: &[&str] = match path {
        "texts" => &["text"],
        "chats.jsonl" => &["messages"],
        _ => &["prompt", "chosen", "rejected"],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Answers what is wanted; returns whether anything was new.
fn fill(want: &Want, facts: &mut Facts) -> bool {
    let print = |bytes| Fingerprint { bytes, modified: 0, inode: 0 };
    match want {
        Want::Path(path) => {
            let many = ["test", "train"].map(|name| (format!("{path}/{name}.jsonl"), print(4_000)));
            let fact =
                if path == "texts" { PathFact::Many(many.to_vec()) } else { PathFact::File(print(8_000)) };
            facts.paths.insert(path.clone(), fact).is_none()
        }
        Want::Model(path) => facts.models.insert(path.clone(), model()).is_none(),
        Want::Tokenizer(path) => facts.tokenizers.insert(path.clone(), tokenizer()).is_none(),
        Want::Rows(path) => {
            let fact = RowsFact {
                columns: columns(path),
                splits: vec!["test".into(), "train".into()],
                file: path.clone(),
                split_rows: BTreeMap::new(),
                measured: None,
                roles: BTreeMap::new(),
                row_bytes: Some(100.0),
                problem: None,
            };
            facts.rows.insert(path.clone(), fact).is_none()
        }
        Want::Hash(path) => facts.hashes.insert(path.clone(), format!("hash of {path}")).is_none(),
        Want::Hardware => {
            let hardware = HardwareFact {
                name: "a machine".into(),
                memory: 8 << 30,
                threads: 2,
                cores: 2,
                profile: None,
                ghz: None,
                rates: None,
            };
            facts.hardware.replace(hardware).is_none()
        }
        Want::Text(_) => false,
    }
}

/// Lowers a recipe until nothing new is wanted; `counts` says how many rows each preparation yields.
fn lowered(text: &str, counts: &[(&str, u64)], options: &Options) -> Lowered {
    lowered_with(text, counts, options, Facts::default())
}

fn lowered_with(text: &str, counts: &[(&str, u64)], options: &Options, facts: Facts) -> Lowered {
    let text = format!("adapt 1\n{text}");
    let prepared = counts.iter().map(|(task, rows)| ((*task).to_owned(), prepared(*rows)));
    let mut facts = Facts { prepared: prepared.collect(), ..facts };
    facts.tokenizers.extend(
        counts.iter().map(|(task, _)| ((*task).to_owned(), TokenizerFact { vocab_size: 300, ..tokenizer() })),
    );
    loop {
        let checked = check(&Input { path: "r.kdl", text: &text, sets: &[] }, &facts);
        let recipe = checked.recipe.as_ref().unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        let lowered = lower(recipe, &checked.sources, &facts, options);
        let wants = checked.wants.iter().chain(&lowered.wants);
        if wants.filter(|want| fill(want, &mut facts)).count() == 0 {
            return lowered;
        }
    }
}

fn plan(text: &str, counts: &[(&str, u64)]) -> Plan {
    let lowered = lowered(text, counts, &Options::default());
    assert_eq!(lowered.diagnostics, []);
    lowered.plan
}

fn task<'p>(plan: &'p Plan, name: &str) -> &'p Task {
    let names: Vec<&str> = plan.tasks.iter().map(|task| task.name.as_str()).collect();
    plan.task(name).unwrap_or_else(|| panic!("no `{name}` among {names:?}"))
}

fn train<'p>(plan: &'p Plan, name: &str) -> &'p plan::work::Train {
    let Work::Train(work) = &task(plan, name).work else { panic!("`{name}` is no training") };
    work
}

fn whole() -> String {
    [MODEL, TEXTS, CHATS, PAIRS, DEFAULTS, CPT, SFT, DPO].concat()
}

const COUNTS: [(&str, u64); 3] = [("data:a", 100), ("data:b", 50), ("data:c", 80)];

#[test]
fn stages_become_tasks_in_an_order_that_runs() {
    let plan = plan(&whole(), &COUNTS);
    let names: Vec<&str> = plan.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["data:a", "a", "data:b", "b", "data:c", "c"]);
    assert_eq!(task(&plan, "b").inputs, ["a", "data:b"]);
    assert_eq!(task(&plan, "c").inputs, ["b", "data:c"]);
    assert_eq!(train(&plan, "a").model, Artifact::Path("base".into()));
    assert_eq!(train(&plan, "c").reference, Some(Artifact::Task("b".into())));
    assert!(plan.tasks.iter().all(|task| task.key.is_some()), "all is known");
    assert_eq!(plan.graph().edge_count(), 5);
}

#[test]
fn steps_follow_from_what_was_prepared() {
    let plan = plan(&whole(), &COUNTS);
    let steps = |name: &str| train(&plan, name).steps;
    // Two epochs of 100 rows, the last step of each smaller; 30 as written; pairs of two rows of 40 tokens.
    assert_eq!((steps("a"), steps("b")), (Some(26), Some(30)));
    let tokens_per_step = 80.0 * 40.0 / 10.0;
    assert_eq!(steps("c"), Some((40_000.0_f64 / tokens_per_step).ceil() as u64));
    assert_eq!(train(&plan, "a").batch, Batch::Sequences(8));
    let figures = &task(&plan, "a").figures;
    assert_eq!(figures.steps.map(|figure| (figure.value, figure.estimate)), Some((26.0, false)));
    assert_eq!(figures.tokens.map(|figure| figure.value), Some(8_000.0));
    assert!(figures.flops_per_token.is_some_and(|flops| flops > 6.0 * 10_000.0));
    assert_eq!(figures.loss.as_deref(), Some("mean over the trained tokens of 8 sequences"));
    assert_eq!(task(&plan, "c").figures.loss.as_deref(), Some("mean over the pairs of 4 pairs"));
}

#[test]
fn the_prompt_of_a_pair_needs_room_once() {
    let plan = plan(&whole(), &COUNTS);
    let module = train(&plan, "c").module.as_ref().expect("all is known");
    // The longest row has 60 tokens, the longest pair 90.
    assert_eq!((module.decisions.micro_batch_size, module.extents[0].capacity), (4, 4 * 90));
    let text = text::program(module, module.program("micro").expect("there"));
    assert!(text.contains("# the prompt of a pair is computed once\n"), "{text}");
    assert!(text.contains("cu_seqlens, row_numbers, prefixes)"), "{text}");
    // Of 40 tokens 10 are those of the row before.
    let micro = program_cost(module, module.program("micro").expect("there"), &module.capacities(), 40.0);
    let per_token = task(&plan, "c").figures.flops_per_token.expect("all is known");
    assert!((per_token / (0.75 * micro.flops / 360.0) - 1.0).abs() < 1e-9, "{per_token}");
}

#[test]
fn dropout_keeps_a_prompt_for_each_answer() {
    let objective =
        Objective::Preference { loss: PreferenceLoss::Sigmoid { label_smoothing: 0.0 }, beta: 0.1 };
    let fields =
        [("n_embd", 32), ("n_head", 2), ("n_layer", 1)].map(|(name, size)| (name.into(), size.into()));
    let config = Model::new_config("gpt2", &fields);
    let model = Model::from_config(&config).expect("sound");
    assert!(!objective.shares_prompts(&model));
    let capacities = Capacities { tokens: 64, rows: 4, trained: 64, slots: 0, cached: 0 };
    let optimizer = AdamW { lr: 1e-3, weight_decay: 0.0, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };
    let module = programs::train(&model, objective, &optimizer, capacities, Dtype::F32);
    let text = |name: &str| text::program(&module, module.program(name).expect("there"));
    assert!(
        text("micro").contains("# the prompt of a pair is computed for each answer: dropout draws by row\n")
    );
    assert_eq!(
        ["micro", "evaluate", "reference"].map(|name| text(name).contains("prefixes")),
        [false, true, true]
    );
}

#[test]
fn what_is_not_prepared_is_estimated_and_has_no_program() {
    let plan = plan(&whole(), &[]);
    let (work, figures) = (train(&plan, "a"), &task(&plan, "a").figures);
    assert!(work.module.is_none() && work.steps.is_none() && task(&plan, "a").key.is_none());
    assert!(figures.steps.is_some_and(|steps| steps.estimate) && figures.memory_is_estimate);
    // Steps that the recipe states are exact all the same.
    assert!(task(&plan, "b").figures.steps.is_some_and(|steps| !steps.estimate));
}

#[test]
fn a_key_is_of_what_shapes_the_result() {
    let key = |text: &str, counts: &[(&str, u64)], name: &str| {
        task(&plan(text, counts), name).key.clone().expect("all is known")
    };
    let (text, of_a, of_b) = (whole(), key(&whole(), &COUNTS, "a"), key(&whole(), &COUNTS, "b"));
    let same = [
        text.replace("prompt=\"once\"", "prompt=\"twice\""),
        text.replace("keep=1", "keep=3"),
        text.replace("cpt a", "cpt other").replace("model a", "model other"),
    ];
    for (at, changed) in same.iter().enumerate() {
        let (name, data) = if at == 2 { ("other", "data:other") } else { ("a", "data:a") };
        assert_eq!(key(changed, &[(data, 100), ("data:b", 50)], name), of_a, "{changed}");
        assert_eq!(key(changed, &[(data, 100), ("data:b", 50)], "b"), of_b, "{changed}");
    }
    let changed = text.replace("lr=1e-3", "lr=2e-3");
    assert!(key(&changed, &COUNTS, "a") != of_a && key(&changed, &COUNTS, "b") != of_b);
    let changed = text.replace("limit 900 head", "limit 900");
    assert!(key(&changed, &COUNTS, "a") == of_a && key(&changed, &COUNTS, "b") != of_b);
}

#[test]
fn a_new_model_takes_the_vocabulary_of_its_tokenizer() {
    let text = [
        "tokenizer words { train bpe vocab=300 on=texts { special \"<|im_end|>\" } }\n",
        "model seed new:llama { tokenizer words; config { hidden_size 32; intermediate_size 64; \
         num_hidden_layers 2; num_attention_heads 4 } }\n",
        TEXTS,
        DEFAULTS,
        &CPT.replace("model base", "model seed"),
    ]
    .concat();
    let known = plan(&text, &[("data:a", 100), ("tokenizer:words", 0)]);
    let names: Vec<&str> = known.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["tokenizer:words", "init:seed", "data:a", "a"]);
    let Work::Initialize(work) = &task(&known, "init:seed").work else { panic!("it is made anew") };
    assert_eq!((&work.config["vocab_size"], &work.config["eos_token_id"]), (&json!(300), &json!(2)));
    assert!(!work.tensors.is_empty());
    // Before the tokenizer is trained the size that was asked for gives an estimate.
    let early = plan(&text, &[]);
    let Work::Initialize(work) = &task(&early, "init:seed").work else { panic!("it is made anew") };
    assert!(work.config.is_null() && task(&early, "init:seed").key.is_none());
    assert_eq!(task(&early, "a").figures.parameters, task(&known, "a").figures.parameters);
}

fn decisions(lowered: &Lowered) -> Decisions {
    train(&lowered.plan, "a").module.as_ref().expect("it fits").decisions.clone()
}

#[test]
fn rows_that_are_not_prepared_are_refused_where_nothing_could_help() {
    let text = whole().replace(SAMPLE, "").replace("sequence 64", "sequence 128");
    let found = |options: Options| lowered(&text, &[], &options).diagnostics;
    let parameters = |plan: &Plan| task(plan, "a").figures.parameters.expect("a known model");
    let plan = lowered(&text, &[], &Options::default()).plan;
    // Weight, gradient and two moments in f32; activations depend on how long the rows are.
    let lasting = PROCESS_BYTES + 16 * parameters(&plan);
    let memory = |bytes: u64| Options { memory: Some(bytes), ..Options::default() };
    let severities = |found: Vec<Diagnostic>| {
        assert!(found.iter().all(|found| found.code == "exceeds-memory"), "{found:?}");
        found.into_iter().map(|found| found.severity).collect::<Vec<_>>()
    };
    assert_eq!(severities(found(memory(PROCESS_BYTES))), [Severity::Error; 3]);
    // With a little more it depends on the rows: it is said, and nothing is refused.
    let mut little = (1..64).map(|part| severities(found(memory(lasting + (part << 18)))));
    let warned = little.find(|found| !found.contains(&Severity::Error)).expect("enough");
    assert!(!warned.is_empty());
    assert_eq!(found(memory(1 << 30)), []);
    // A run is held against its machine, a check or a plan is not.
    let small = HardwareFact {
        name: "small".into(),
        memory: PROCESS_BYTES,
        threads: 1,
        cores: 1,
        profile: None,
        ghz: None,
        rates: None,
    };
    let on_small = |runs| {
        let facts = Facts { hardware: Some(small.clone()), ..Facts::default() };
        lowered_with(&text, &[], &Options { runs, ..Options::default() }, facts).diagnostics
    };
    assert_eq!(on_small(false), []);
    assert!(on_small(true).iter().any(|found| found.code == "exceeds-memory"));
}

/// Bytes of the stage `a`, and what is said of it.
fn held(text: &str, counts: &[(&str, u64)], options: &Options) -> (u64, Vec<Diagnostic>) {
    let lowered = lowered(text, counts, options);
    let memory = &task(&lowered.plan, "a").figures.memory;
    (memory.iter().map(|(_, bytes)| bytes).sum(), lowered.diagnostics)
}

/// What is predicted is below what may be used, or something is said.
#[test]
fn no_prediction_is_above_what_may_be_used_without_a_word() {
    let text = [MODEL, TEXTS, DEFAULTS, &CPT.replace(SAMPLE, "")].concat();
    let mut said = [0; 3];
    for memory in (8 << 20..24 << 20).step_by(128 << 10) {
        let (bytes, found) = held(&text, &[], &Options { memory: Some(memory), ..Options::default() });
        match found.first().map(|found| found.severity) {
            None => assert!(bytes <= memory, "{bytes} of {memory}"),
            Some(Severity::Warning) => assert!(bytes > memory, "{bytes} of {memory}"),
            Some(_) => {}
        }
        said[found.first().map_or(0, |found| if found.severity == Severity::Error { 2 } else { 1 })] += 1;
    }
    assert!(said.iter().all(|times| *times > 0), "{said:?}");
}

/// Rows of 100 bytes that are cut have 12 tokens at least, so that sequences of 8 are full; so are packed ones.
#[test]
fn what_is_certain_of_rows_refuses() {
    let least = |stage: &str| {
        let text = [MODEL, TEXTS, DEFAULTS, stage].concat();
        let found = |memory| held(&text, &[], &Options { memory: Some(memory), ..Options::default() }).1;
        let severity = |memory: u64| found(memory << 10).first().map(|found| found.severity);
        let fits =
            (8 << 10..40 << 10).step_by(64).find(|memory| severity(*memory).is_none()).expect("enough");
        let below = found((fits - 64) << 10).remove(0);
        (below.severity, below.message, below.help.expect("there is help"))
    };
    let stage = |sequence: &str| {
        format!("cpt a {{ model base; data texts; sequence {sequence}; batch 8; epochs 2 }}\n")
    };
    assert_eq!(least(&stage("8")).0, Severity::Error);
    assert_eq!(least(&stage("128 pack=#true")).0, Severity::Error);
    let (severity, message, help) = least(&stage("128"));
    assert_eq!(severity, Severity::Warning, "{message}");
    assert!(message.starts_with("stage `a` may need ~") && message.ends_with(" may be used"), "{message}");
    assert!(help.starts_with("write `sequence 64`, with which it fits, or give at least "), "{help}");
}

/// A model of 1.6 billion parameters, which needs 24.1 GiB without activations.
fn large() -> String {
    let model = "tokenizer words { train bpe vocab=300 on=texts }\nmodel base new:llama { tokenizer words; \
        config { hidden_size 4096; intermediate_size 11008; num_hidden_layers 8; num_attention_heads 32 } }\n";
    [model, TEXTS, DEFAULTS, CPT].concat()
}

#[test]
fn named_hardware_holds_a_stage_as_devices_do() {
    let large = large();
    let on = |name: &str, count| {
        let hardware = stdlib::hardware::find(name).expect("a profile");
        Options { on: Some(Machine { hardware, count, ghz: 3.0 }), ..Options::default() }
    };
    // What can only be estimated and what is known have the same verdict.
    for counts in [&[][..], &[("data:a", 100), ("tokenizer:words", 0)]] {
        let found = held(&large, counts, &on("rtx-3090", 1)).1;
        assert_eq!((found.len(), found[0].code.as_str()), (1, "exceeds-memory"));
        assert_eq!(found[0].severity, Severity::Error);
        assert!(found[0].message.ends_with(" on rtx-3090, which has 24.0 GiB"), "{}", found[0].message);
        let help = found[0].help.as_deref().expect("there is help");
        assert_eq!(help, "choose a smaller model, or take `--on 2xrtx-3090`, or take `--on a100-40`");
        let both = Options { memory: Some(2 << 30), ..on("rtx-3090", 1) };
        let help = held(&large, counts, &both).1[0].help.clone().expect("there is help");
        assert!(help.contains("take `--on a100-40` and `--memory 25."), "{help}");
        // Memory that is named beside hardware that has more is what helps.
        let both = Options { memory: Some(2 << 30), ..on("h100-80", 1) };
        let help = held(&large, counts, &both).1[0].help.clone().expect("there is help");
        assert!(help.contains("or give at least 25."), "{help}");

        // Two hold a part each, as two of this machine do, and each has the memory of one.
        assert_eq!(held(&large, counts, &on("rtx-3090", 2)).1, []);
        let of = |options: &Options| task(&lowered(&large, counts, options).plan, "a").figures.clone();
        let two = of(&on("rtx-3090", 2));
        assert_eq!(two.devices, Some(("rtx-3090".to_owned(), 2)));
        let here = of(&Options { devices: 2, memory: Some(26 << 30), ..Options::default() });
        let (ranks, own) = (two.ranks.expect("divided"), here.ranks.expect("divided"));
        assert_eq!((ranks.mesh.shards, own.mesh.shards), (2, 2));
        assert_eq!(two.memory[..3], own.memory[..3]);
        assert!(two.memory.iter().map(|(_, bytes)| bytes).sum::<u64>() < 24 << 30);
        // Where one has all of it, every device has all.
        let eight = of(&on("h100-80", 8)).ranks.expect("divided").mesh;
        assert_eq!((eight.replicas, eight.shards), (8, 1));
        let many = held(&large, counts, &on("rtx-3090", 16)).1;
        assert_eq!(many[0].code, "too-many-devices");
        assert_eq!(many[0].help.as_deref(), Some("take `--on 8xrtx-3090`, or write `batch 16` or more"));
    }
}

/// The largest size of each kind that is believed; the same under the names of GPT-2.
const LARGEST: [(&str, u64); 7] = [
    ("hidden_size", 1 << 18),
    ("intermediate_size", 1 << 20),
    ("num_hidden_layers", 1 << 10),
    ("num_attention_heads", 1 << 10),
    ("head_dim", 1 << 10),
    ("vocab_size", 1 << 24),
    ("max_position_embeddings", 1 << 24),
];

#[test]
fn sizes_that_no_model_has_are_refused_by_key() {
    let mut all = model().config;
    all.as_object_mut().expect("an object").remove("num_key_value_heads");
    for (key, most) in LARGEST {
        for wrong in [most + 1, 1 << 62, u64::MAX] {
            let mut config = all.clone();
            config[key] = json!(wrong);
            let problem = Model::from_config(&config).expect_err(key);
            assert_eq!(problem.field.as_deref(), Some(key));
            let message = format!("`{key}` must be a whole number from 1 to {most}, but is {wrong}");
            assert_eq!(problem.message, message);
        }
    }
    let gpt2 = |key: &str| Model::new_config("gpt2", &[(key.to_owned(), json!(1_u64 << 62))]);
    for key in ["n_embd", "n_inner", "n_layer", "n_head", "vocab_size", "n_positions"] {
        let problem = Model::from_config(&gpt2(key)).expect_err(key);
        assert_eq!(problem.field.as_deref(), Some(key));
    }
}

/// Sums that overflow panic in tests.
#[test]
fn no_size_that_is_believed_overflows() {
    let mut config = model().config;
    config.as_object_mut().expect("an object").remove("num_key_value_heads");
    for (key, most) in LARGEST {
        config[key] = json!(most);
    }
    // A few of the layers stand for all: their number alone takes the time.
    config["num_hidden_layers"] = json!(2);
    let large = Model::from_config(&config).expect("believed");
    assert!(large.parameters() < 1 << 44);
    let text = [MODEL, TEXTS, DEFAULTS, CPT].concat();
    let memory = |sequence: u64, batch: &str| {
        let facts = Facts {
            models: [("base".to_owned(), ModelFact { config: config.clone(), ..model() })].into(),
            ..Facts::default()
        };
        let text = text.replace("sequence 64", &format!("sequence {sequence}")).replace("batch 8", batch);
        lowered_with(&text, &[], &Options::default(), facts)
    };
    let most = memory(1 << 24, "batch 4 micro=4");
    assert_eq!(most.diagnostics, []);
    let bytes: u64 = task(&most.plan, "a").figures.memory.iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes < 1 << 53, "512 times the layers are below 2^62: {bytes}");
    let found = memory(1 << 24, "batch 5 micro=5").diagnostics;
    assert_eq!((found.len(), found[0].code.as_str()), (1, "out-of-range"));
    assert!(found[0].message.starts_with("a micro-step of `a` has 83886080 tokens"), "{}", found[0].message);
}

#[test]
fn a_size_that_no_model_has_is_refused_where_it_stands() {
    let new = large().replace("intermediate_size 11008", "intermediate_size 4611686018427387904");
    // Whether or not the tokenizer is trained.
    for counts in [&[][..], &[("data:a", 100), ("tokenizer:words", 0)]] {
        let found = lowered(&new, counts, &Options::default()).diagnostics;
        assert_eq!((found.len(), found[0].code.as_str()), (1, "unsupported-model"));
        let at = found[0].labels[0].span;
        let text = format!("adapt 1\n{new}");
        assert_eq!(&text[at.start as usize..at.end as usize], "4611686018427387904");
    }
    let mut fact = model();
    fact.config["hidden_size"] = json!(1_u64 << 62);
    let facts = Facts { models: [("base".to_owned(), fact)].into(), ..Facts::default() };
    let found =
        lowered_with(&[MODEL, TEXTS, DEFAULTS, CPT].concat(), &[], &Options::default(), facts).diagnostics;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.starts_with("`hidden_size` must be a whole number from 1 to 262144"));
    assert_eq!(found[0].notes, ["`hidden_size` stands in base/config.json"]);
}

#[test]
fn the_cheapest_that_fits_is_chosen() {
    let text = whole();
    let with =
        |text: &str, memory: Option<u64>| lowered(text, &COUNTS, &Options { memory, ..Options::default() });
    let bytes = |lowered: &Lowered| {
        task(&lowered.plan, "a").figures.memory.iter().map(|(_, bytes)| bytes).sum::<u64>()
    };
    let free = with(&text, None);
    assert_eq!((decisions(&free).micro_batch_size, decisions(&free).recompute.len()), (8, 0));
    // A byte too few: two micro-steps of a model this small cost less than activations that are made twice.
    let tight = with(&text, Some(bytes(&free) - 1));
    assert!(bytes(&tight) < bytes(&free));
    let levels = |lowered: &Lowered| {
        decisions(lowered).recompute.into_iter().map(|recomputed| recomputed.level).collect::<Vec<_>>()
    };
    assert_eq!((decisions(&tight).micro_batch_size, levels(&tight)), (4, vec![]));
    let written = text.replacen("batch 8", "batch 8 micro=8", 1);
    assert_eq!(levels(&with(&written, Some(bytes(&free) - 1))), [Level::Cheap; 2]);
    // Where nothing may be computed again there are fewer sequences at once.
    let keeping = text.replacen("batch 8", "recompute none; batch 8", 1);
    let few = with(&keeping, Some(bytes(&free) - 1));
    assert!(decisions(&few).micro_batch_size < 8 && levels(&few).is_empty());
    let blocks = text.replacen("batch 8", "recompute block; batch 8", 1);
    assert_eq!(levels(&with(&blocks, None)), [Level::Block; 2]);
    let written = text.replacen("batch 8", "batch 8 micro=4", 1);
    assert_eq!(decisions(&with(&written, None)).micro_batch_size, 4);
}

#[test]
fn a_resumed_run_takes_what_was_decided() {
    let recompute = vec![Recomputed { region: "layers.1".into(), level: Level::Block }];
    let before = Decisions { micro_batch_size: 2, recompute };
    let options = Options { decisions: [("a".to_owned(), before.clone())].into(), ..Options::default() };
    assert_eq!(decisions(&lowered(&whole(), &COUNTS, &options)), before);
    // What the recipe says now goes before what was decided.
    let written = whole().replacen("batch 8", "recompute none; batch 8 micro=4", 1);
    let now = decisions(&lowered(&written, &COUNTS, &options));
    assert_eq!((now.micro_batch_size, now.recompute.len()), (4, 0));
    // With less memory than then it is decided anew.
    let bytes = |lowered: &Lowered| {
        task(&lowered.plan, "a").figures.memory.iter().map(|(_, bytes)| bytes).sum::<u64>()
    };
    let free = lowered(&whole(), &COUNTS, &Options::default());
    let large = ("a".to_owned(), decisions(&free));
    let memory = Some(bytes(&free) - 1);
    let tight = Options { decisions: [large.clone()].into(), memory, ..Options::default() };
    assert_ne!(decisions(&lowered(&whole(), &COUNTS, &tight)), large.1);
}

#[test]
fn devices_hold_everything_where_it_fits_and_else_a_part() {
    let mesh = |lowered: &Lowered| {
        let Work::Train(work) = &task(&lowered.plan, "a").work else { panic!("a training task") };
        work.module.as_ref().map(|module| (module.mesh.replicas, module.mesh.shards, module.total_bytes()))
    };
    let on = |devices, memory| lowered(&whole(), &COUNTS, &Options { devices, memory, ..Options::default() });
    let (one, two) = (on(1, None), on(2, None));
    assert!(mesh(&one).is_some_and(|(replicas, shards, _)| (replicas, shards) == (1, 1)));
    let (replicas, shards, bytes) = mesh(&two).expect("planned");
    assert_eq!((replicas, shards), (2, 1));
    // A rank takes four of the eight sequences at most, whatever is decided for one device.
    assert!(decisions(&two).micro_batch_size <= 4);
    assert_eq!(task(&one.plan, "a").key, task(&two.plan, "a").key);
    let parameters = |lowered: &Lowered| task(&lowered.plan, "a").figures.trained_parameters;
    assert_eq!(parameters(&one), parameters(&two));
    // Memory goes down until not even one sequence of a whole copy fits.
    let all = task(&two.plan, "a").figures.memory.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let limits = (1..40).map(|part| all - 2 * bytes * part / 40);
    let cut = limits
        .map(|memory| on(2, Some(memory)))
        .find_map(|lowered| mesh(&lowered).filter(|(_, shards, _)| *shards == 2).map(|_| lowered));
    let cut = cut.expect("parts need less than the whole");
    assert_eq!(parameters(&cut), parameters(&one));
}

/// What all devices take is what each takes, what they exchange through, and the process.
#[test]
fn memory_of_devices_adds_up() {
    let on = |devices, memory| {
        let lowered = lowered(&whole(), &COUNTS, &Options { devices, memory, ..Options::default() });
        task(&lowered.plan, "a").figures.clone()
    };
    let sum = |table: &[(String, u64)]| table.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let of = |table: &[(String, u64)], name: &str| {
        table.iter().find(|(part, _)| part == name).map_or(0, |(_, bytes)| *bytes)
    };
    let one = on(1, None);
    assert!(one.ranks.is_none() && of(&one.memory, "exchange") == 0);
    for devices in [2, 3] {
        let figures = on(devices, None);
        let ranks = figures.ranks.as_ref().expect("divided");
        assert_eq!((ranks.mesh.replicas, ranks.mesh.shards), (devices, 1));
        assert_eq!(of(&figures.memory, "exchange"), ranks.mesh.exchange_bytes());
        for (role, bytes) in &ranks.memory {
            assert_eq!(of(&figures.memory, role), u64::from(devices) * bytes, "{role}");
        }
        // Exactly that much is enough, and a byte less is not.
        let bytes = sum(&figures.memory);
        assert_eq!(on(devices, Some(bytes)), figures);
        assert_ne!(on(devices, Some(bytes - 1)), figures);
    }
}

#[test]
fn more_devices_than_sequences_are_refused() {
    let found = |text: &str, counts: &[(&str, u64)], devices| {
        let found = lowered(text, counts, &Options { devices, ..Options::default() }).diagnostics;
        assert!(found.iter().all(|found| found.code == "too-many-devices"), "{found:?}");
        found.into_iter().map(|found| (found.message, found.help.expect("there is help"))).collect::<Vec<_>>()
    };
    // Before rows are prepared as after.
    for counts in [&COUNTS[..], &[]] {
        for devices in [0, 1, 3, 4] {
            assert_eq!(found(&whole(), counts, devices), [], "{devices}");
        }
        let of_all = found(&whole(), counts, 9);
        let messages: Vec<&str> = of_all.iter().map(|(message, _)| message.as_str()).collect();
        let expected = [
            "stage `a` takes 8 sequences per step, 9 devices need one each",
            "stage `b` takes 4 sequences per step, 9 devices need one each",
            "stage `c` takes 4 pairs per step, 9 devices need one each",
        ];
        assert_eq!(messages, expected);
        assert_eq!(of_all[0].1, "take `--devices 8`, or write `batch 9` or more");
    }
    let one = whole().replacen("batch 8", "batch 1", 1);
    assert_eq!(found(&one, &COUNTS, 2)[0].1, "write `batch 2` or more, or leave `--devices` out");
    // How many sequences some tokens are is known once rows are prepared.
    let tokens = whole().replacen("batch 8", "batch tokens=100", 1);
    assert_eq!(found(&tokens, &[], 4), []);
    let of_tokens = found(&tokens, &COUNTS, 4);
    assert!(of_tokens.len() == 1 && of_tokens[0].0.starts_with("stage `a` takes "), "{of_tokens:?}");
}

/// Where activations are most of the memory, shards need more than replicas: the lesser is what is told.
#[test]
fn what_is_told_of_devices_is_the_least() {
    let text = [MODEL, TEXTS, DEFAULTS, CPT].concat();
    let needed = |devices| {
        let options = Options { devices, memory: Some(1 << 20), ..Options::default() };
        let found = lowered(&text, &COUNTS, &options).diagnostics;
        let help = found.into_iter().find_map(|found| found.help).expect("there is help");
        let size = help.split("give at least ").nth(1).expect("a size").split("MiB").next().expect("in MiB");
        size.parse::<u64>().expect("a number") << 20
    };
    for devices in [1, 2] {
        let fits = |memory| {
            let options = Options { devices, memory: Some(memory), ..Options::default() };
            !lowered(&whole(), &COUNTS, &options)
                .diagnostics
                .iter()
                .any(|found| found.code == "exceeds-memory")
        };
        let least = (1..256).map(|mebibytes| mebibytes << 20).find(|memory| fits(*memory)).expect("enough");
        assert_eq!(needed(devices), least, "{devices}");
    }
}

#[test]
fn what_would_fit_is_told() {
    let help = |text: &str, memory: u64| {
        let found = lowered(text, &COUNTS, &Options { memory: Some(memory), ..Options::default() });
        let found = found.diagnostics.into_iter().find(|found| found.code == "exceeds-memory");
        found.expect("it does not fit").help.expect("there is help")
    };
    let fits = |text: &str, memory: u64| {
        let options = Options { memory: Some(memory), ..Options::default() };
        assert!(lowered(text, &COUNTS, &options).diagnostics.iter().all(|f| f.code != "exceeds-memory"));
    };
    // Without prompts, which need room for themselves.
    let stage = "cpt a { model base; data texts; sequence 128 pack=#true; batch 8; epochs 2 }\n";
    let text = [MODEL, TEXTS, DEFAULTS, stage].concat();
    let memory = |text: &str| {
        let plan = lowered(text, &COUNTS, &Options::default()).plan;
        task(&plan, "a").figures.memory.iter().map(|(_, bytes)| bytes).sum::<u64>()
    };
    let (all, one) = (text.replace("batch 8", "batch 8 micro=8"), text.replace("batch 8", "batch 8 micro=1"));
    let none = |text: &str| text.replace("batch 8", "recompute none; batch 8");
    assert_eq!(help(&none(&one), memory(&none(&one)) - 1), "write `recompute auto`, with which it fits");
    assert_eq!(
        help(&none(&all), memory(&none(&one))),
        "write `micro=1`, or leave it out and it is chosen to fit"
    );
    let least = memory(&one.replace("batch 8", "recompute block; batch 8"));
    let told = help(&text, least - 1);
    assert!(told.starts_with("write `sequence 64`, with which it fits, or give at least "), "{told}");
    fits(&text.replace("sequence 128", "sequence 64"), least - 1);
    let enough = told.split("at least ").nth(1).and_then(|rest| rest.split("MiB").next()).expect("a size");
    fits(&text, enough.parse::<u64>().expect("a number") << 20);
    assert!(help(&text, 1 << 20).starts_with("choose a smaller model, or give at least "));
}

/// Names, order and repetition of what is trained make no difference to the key; what it comes to does.
#[test]
fn what_is_trained_is_in_the_key_and_in_the_figures() {
    let of = |lines: &str| {
        let plan = plan(&whole().replacen("batch 8", &format!("{lines}; batch 8"), 1), &COUNTS);
        let task = task(&plan, "a");
        let trained = train(&plan, "a").trained.clone();
        (task.key.clone().expect("known"), task.figures.trained_parameters.expect("known"), trained)
    };
    let plain = of("seed 42");
    assert_eq!(plain.2, None);
    assert_eq!(of("train layers; train embed_tokens lm_head norm"), plain);
    let top = of("train layers \"1..2\"");
    assert_eq!(of("train all-but embed_tokens lm_head norm; seed 42").0, of("train layers").0);
    assert!(top.0 != plain.0 && top.1 < plain.1);
    let names = top.2.expect("a part");
    assert!(names.len() == 9 && names.iter().all(|name| name.starts_with("model.layers.1.")));
    // The figure is the number of elements that the program updates.
    let layer = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32 + 2 * 32;
    assert_eq!((top.1, of("train layers").1), (layer, 2 * layer));
}

#[test]
fn a_mix_of_mixes_keeps_its_shares() {
    let mixes = "dataset more \"more.jsonl\" { rows text text=prompt }\n\
        mix inner { take texts weight=1; take more weight=3 }\n\
        mix outer { take inner weight=2; take texts weight=1 }\n\
        mix amounts { take inner rows=40; take more tokens=900; take texts epochs=2 }\n";
    let of = |data: &str| {
        let stage = CPT.replace("data texts", &format!("data {data}"));
        let plan = plan(&[MODEL, TEXTS, mixes, DEFAULTS, &stage].concat(), &[]);
        let Work::Prepare(work) = &task(&plan, "data:a").work else { panic!("it prepares") };
        work.parts.iter().map(|part| (part.name.clone(), part.amount)).collect::<Vec<_>>()
    };
    let share = |name: &str, share| (name.to_owned(), MixAmount::Weight(share));
    assert_eq!(of("outer"), [share("texts", 0.5), share("more", 1.5), share("texts", 1.0)]);
    let amounts: Vec<MixAmount> = of("amounts").into_iter().map(|(_, amount)| amount).collect();
    assert_eq!(
        amounts,
        [MixAmount::Rows(10), MixAmount::Rows(30), MixAmount::Tokens(900), MixAmount::Epochs(2.0)]
    );
}

#[test]
fn evaluation_and_answers_have_programs_of_their_own() {
    let stages = "evaluate e { model a; data texts }\n\
        generate g { model a; prompt \"x\"; prompt \"yy\"; max-tokens 7; template std:chatml }\n";
    let text = [MODEL, TEXTS, DEFAULTS, CPT, stages].concat();
    let plan = plan(&text, &[("data:a", 100), ("data:e", 20)]);
    let Work::Evaluate(work) = &task(&plan, "e").work else { panic!("it evaluates") };
    assert!(work.module.as_ref().is_some_and(|module| module.program("evaluate").is_some()));
    let Work::Generate(work) = &task(&plan, "g").work else { panic!("it generates") };
    assert!(work.module.as_ref().is_some_and(|module| module.program("decode").is_some()));
    // What ends an answer: the tokenizer's end and the mark that the template writes behind one.
    assert_eq!(work.stop_ids, [2, 4]);
    let conduct = &task(&plan, "a").conduct;
    assert_eq!((conduct.evaluate, conduct.samples[0].every), (Some(Every::Epochs(1.0)), Every::Steps(10)));
}

#[test]
fn rows_are_answered_as_many_at_once_as_memory_holds() {
    let slots = |work: &plan::work::Generate| {
        let module = work.module.as_ref().expect("planned");
        let capacity = |name: &str| module.extents.iter().find(|e| e.name == name).map(|e| e.capacity);
        (capacity("slots").expect("there"), capacity("cached").expect("there"))
    };
    let stage = |data: &str, more: &str| {
        format!("generate g {{ model base; data {data}; template std:chatml; max-tokens 7; {more} }}\n")
    };
    let answering = |plan: &Plan| {
        let Work::Generate(work) = &task(plan, "g").work else { panic!("it generates") };
        (**work).clone()
    };
    let text = [MODEL, CHATS, &stage("chats", "")].concat();
    // Before the rows are counted there is no program.
    let waiting = plan(&text, &[]);
    assert_eq!((answering(&waiting).module, &task(&waiting, "g").key), (None, &None));
    assert_eq!(task(&waiting, "g").inputs, ["data:g"]);
    let Work::Prepare(work) = &task(&waiting, "data:g").work else { panic!("it prepares") };
    assert!(matches!(work.encode, Encode::Prompt { .. }));
    assert_eq!((work.sides, work.overflow, work.sequence), (Sides::EvalOnly, Overflow::Drop, 127));

    let counted = plan(&text, &[("data:g", 500)]);
    let work = answering(&counted);
    // The longest prompt and an answer.
    assert_eq!(slots(&work), (32, 60 + 7));
    // The model's weights are saved in bf16.
    assert_eq!(work.precision, Dtype::Bf16);
    let few = answering(&plan(&text, &[("data:g", 50)]));
    assert_eq!(slots(&few).0, 5);

    // With less memory fewer at once, which is the same work; without any to speak of an error.
    let bytes = work.module.as_ref().expect("planned").total_bytes();
    let memory = |plan: &Plan| task(plan, "g").figures.memory.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let process = memory(&counted) - bytes;
    let with =
        |memory| lowered(&text, &[("data:g", 500)], &Options { memory: Some(memory), ..Options::default() });
    let less = with(process + bytes - 1);
    assert_eq!((less.diagnostics.len(), slots(&answering(&less.plan)).0), (0, 16));
    assert_eq!(task(&less.plan, "g").key, task(&counted, "g").key);
    assert_eq!(
        with(PROCESS_BYTES).diagnostics.iter().map(|found| found.code.as_str()).collect::<Vec<_>>(),
        ["exceeds-memory"]
    );

    // Other rows are other work.
    let key = |text: String| task(&plan(&text, &[("data:g", 500)]), "g").key.clone().expect("known");
    let shorter = text.replace("limit 900 head", "limit 800 head");
    let pairs = [MODEL, PAIRS, &stage("pairs", "")].concat();
    assert_ne!(key(text.clone()), key(shorter));
    assert_ne!(key(text.clone()), key(pairs));
    assert_eq!(key(text.clone()), key(text));
}

#[test]
fn what_comes_before_is_kept_in_the_configuration_of_a_result() {
    let plan = plan(&whole(), &COUNTS);
    let work = train(&plan, "b");
    assert_eq!(work.config.as_ref().map(|config| &config["dtype"]), Some(&json!("bfloat16")));
    assert_eq!(
        work.generation_config.as_ref().map(|config| &config["eos_token_id"]),
        Some(&json!([2, 4, 7]))
    );
    assert!(work.chat_template.as_ref().is_some_and(|template| template.contains("<|im_end|>")));
}

#[test]
fn what_a_machine_reaches_moves_its_time_and_nothing_else() {
    let text = whole();
    let with = |rates: Option<Rates>| {
        let (profile, ghz) = (Some("cpu-avx512".to_owned()), Some(2.0));
        let hardware = HardwareFact {
            name: "measured".into(),
            memory: 8 << 30,
            threads: 2,
            cores: 2,
            profile,
            ghz,
            rates,
        };
        let facts = Facts { hardware: Some(hardware), ..Facts::default() };
        let mut plan = lowered_with(&text, &COUNTS, &Options::default(), facts).plan;
        let seconds: Vec<f64> =
            plan.tasks.iter_mut().filter_map(|task| Some(task.figures.seconds.take()?.value)).collect();
        (plan, seconds)
    };
    let products = Products { narrow: 1e11, wide: 2e11 };
    let rates = Rates { f32: products, bf16: products, attention: 5e10, bytes: 1e10, per_op: 1e-6 };
    let half = Products { narrow: 5e10, wide: 1e11 };
    let slower = Rates { f32: half, bf16: half, attention: 2.5e10, bytes: 5e9, per_op: 2e-6 };
    let ((estimated, _), (plan, fast), (same, slow)) = (with(None), with(Some(rates)), with(Some(slower)));
    assert!(plan == estimated && plan == same);
    assert!(!fast.is_empty() && fast.len() == slow.len());
    for (fast, slow) in fast.iter().zip(&slow) {
        assert!((slow / fast - 2.0).abs() < 1e-9, "everything takes twice as long: {fast} and {slow}");
    }
}
