//! Recipes that cannot be run yet: what the plan says of them, from locks and without a network.

use lang::diagnostic::Severity;
use lang::facts::Facts;
use lang::lock::Lock;
use lang::{Input, check};
use lower::figures::time::Machine;
use lower::{Lowered, Options, lower};
use plan::task::{Figures, Plan};
use plan::work::Work;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Checks and lowers text with the facts of a lock, in rounds as the command does.
fn plan_of(path: &str, text: &str, sets: &[String], lock: &Lock, on: Option<Machine>) -> Lowered {
    plan_with(path, text, sets, lock, &Options { on, ..Options::default() })
}

fn plan_with(path: &str, text: &str, sets: &[String], lock: &Lock, options: &Options) -> Lowered {
    let mut facts = Facts::default();
    loop {
        let checked = check(&Input { path, text, sets }, &facts);
        let news = checked.wants.iter().filter(|want| is_new(want, &facts)).cloned().collect::<Vec<_>>();
        if news.iter().filter(|want| lock.fill(want, &mut facts) || read(want, &mut facts)).count() > 0 {
            continue;
        }
        let errors: Vec<_> =
            checked.diagnostics.iter().filter(|found| found.code != "not-yet-runnable").collect();
        let recipe = checked.recipe.as_ref().unwrap_or_else(|| panic!("{path}: {errors:#?}"));
        return lower(recipe, &checked.sources, &facts, options);
    }
}

/// Reads a file that a recipe uses.
fn read(want: &lang::facts::Want, facts: &mut Facts) -> bool {
    let lang::facts::Want::Text(path) = want else { return false };
    let text = std::fs::read_to_string(path).ok();
    text.map(|text| facts.texts.insert(path.clone(), text)).is_some()
}

fn is_new(want: &lang::facts::Want, facts: &Facts) -> bool {
    use lang::facts::Want;
    match want {
        Want::Model(key) => !facts.models.contains_key(key),
        Want::Tokenizer(key) => !facts.tokenizers.contains_key(key),
        Want::Rows(key) => !facts.rows.contains_key(key),
        Want::Text(path) => !facts.texts.contains_key(path),
        Want::Path(_) | Want::Hash(_) | Want::Hardware => false,
    }
}

/// The plan of a recipe of the gallery, on a named device.
fn gallery(path: &str, hardware: &str, count: u64) -> Plan {
    gallery_with(path, &[], &Options { on: Some(machine(hardware, count)), ..Options::default() }).plan
}

fn machine(hardware: &str, count: u64) -> Machine {
    Machine { hardware: stdlib::hardware::find(hardware).expect("a profile"), count, ghz: 3.0 }
}

fn gallery_with(path: &str, sets: &[&str], options: &Options) -> Lowered {
    let file = root().join("recipes").join(path);
    let path = file.display().to_string();
    let text = std::fs::read_to_string(&file).expect("a recipe of the gallery");
    let lock = std::fs::read_to_string(file.with_file_name(lang::lock::FILE)).expect("its lock");
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    plan_with(&path, &text, &sets, &Lock::read(&lock).expect("a sound lock"), options)
}

/// What is said of memory for a recipe of the gallery.
fn exceeding(path: &str, sets: &[&str], options: &Options) -> Vec<lang::diagnostic::Diagnostic> {
    let found = gallery_with(path, sets, options).diagnostics;
    assert!(found.iter().all(|found| found.code == "exceeds-memory"), "{found:?}");
    found
}

fn figures<'p>(plan: &'p Plan, task: &str) -> &'p Figures {
    &plan.task(task).unwrap_or_else(|| panic!("no task `{task}`")).figures
}

#[test]
fn the_published_figures_of_aguila_are_those_of_the_plan() {
    let plan = gallery("aguila-7b/sft.kdl", "a100-40", 1);
    let stage = figures(&plan, "instruct");
    assert_eq!(stage.trained_parameters, Some(130_547_712));
    assert_eq!(stage.parameters, Some(6_985_167_168));
    assert_eq!(stage.steps.map(|steps| (steps.value, steps.estimate)), Some((11_864.0, false)));
    let bytes: u64 = stage.memory.iter().map(|(_, bytes)| bytes).sum();
    assert!(stage.memory_is_estimate && bytes < 40 << 30, "{bytes}");
    assert!(stage.seconds.is_some_and(|seconds| seconds.value > 3600.0) && stage.seconds_at_most);
}

#[test]
fn the_batches_of_gpt2_nl_are_those_of_four_devices() {
    let plan = gallery("gpt2-nl/gpt2-nl.kdl", "rtx-3090", 4);
    for (stage, batch) in [("dutch", 64), ("chat", 32), ("aligned", 256)] {
        let Work::Declared(work) = &plan.task(stage).expect("a stage").work else {
            panic!("it is not run yet")
        };
        assert_eq!(work.settings["batch"]["sequences"], batch, "{stage}");
        assert_eq!(figures(&plan, stage).parameters, Some(124_439_808), "{stage}");
    }
}

#[test]
fn every_recipe_of_the_gallery_is_planned() {
    let mut seen = 0;
    for folder in std::fs::read_dir(root().join("recipes")).expect("readable").flatten() {
        let Ok(lock) = std::fs::read_to_string(folder.path().join(lang::lock::FILE)) else { continue };
        let lock = Lock::read(&lock).expect("a sound lock");
        for file in std::fs::read_dir(folder.path()).expect("readable").flatten() {
            if file.path().extension().is_none_or(|ending| ending != "kdl") {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).expect("text");
            let lowered = plan_of(&file.path().display().to_string(), &text, &[], &lock, None);
            assert_eq!(lowered.diagnostics, []);
            assert!(!lowered.plan.tasks.is_empty(), "{:?}", file.path());
            let inputs = lowered.plan.tasks.iter().flat_map(|task| &task.inputs);
            for input in inputs {
                assert!(lowered.plan.task(input).is_some(), "{:?}: no task `{input}`", file.path());
            }
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
}

#[test]
fn a_changed_tokenizer_changes_the_model_behind_it() {
    let config = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 1000, "tie_word_embeddings": true}"#;
    let lock_text =
        format!(r#"{{"version": 1, "sources": {{"hf:o/m": {{"kind": "model", "config": {config}}}}}}}"#);
    let lock = Lock::read(&lock_text);
    let recipe = r#"adapt 1
model base "hf:o/m"
dataset words "words.jsonl" { rows text }
extend-tokenizer more { model base; add "<a>" "<b>"; pad-to 64 }
cpt warm { model more; data words; batch 2; sequence 16; steps 3; train new-rows; optimizer adamw lr=1e-3 }
cpt all { model warm; data words; batch 2; sequence 16; steps 3; optimizer adamw lr=1e-3 }
"#;
    let plan = plan_of("r.kdl", recipe, &[], &lock.expect("sound"), None).plan;
    let base = figures(&plan, "fetch:base").parameters.expect("known");
    let grown = figures(&plan, "all").parameters.expect("known");
    assert_eq!(grown - base, 24 * 64, "1,002 rows are padded to 1,024");
    assert_eq!(figures(&plan, "warm").trained_parameters, Some(2 * 64));

    // Which rows of another tokenizer are new only its tokens tell: a count that lacks them is no count.
    let swapped = recipe.replace(
        r#"extend-tokenizer more { model base; add "<a>" "<b>"; pad-to 64 }"#,
        "tokenizer other { train bpe vocab=600 on=words }\nswap-tokenizer more { model base; tokenizer other; init focus }",
    );
    for train in ["train new-rows", "train all-but embed_tokens; train new-rows"] {
        let text = swapped.replace("train new-rows", train);
        let lock = Lock::read(&lock_text).expect("sound");
        let plan = plan_of("r.kdl", &text, &[], &lock, None).plan;
        let warm = figures(&plan, "warm");
        assert_eq!(warm.parameters, Some(base - (1_000 - 600) * 64), "{train}");
        assert_eq!((warm.trained_parameters, warm.memory.len(), warm.seconds), (None, 0, None), "{train}");
    }
    let notes = |text: &str| plan_of("r.kdl", text, &[], &Lock::read(&lock_text).expect("sound"), None).notes;
    assert_eq!(
        notes(&swapped),
        [
            "trained parameters and memory of `warm` are unknown: which rows of `more` are new only the tokens of its \
          tokenizers tell"
        ]
    );
    assert_eq!(notes(recipe), [""; 0]);
    let joined = swapped.replace("swap-tokenizer", "extend-tokenizer");
    assert_eq!(
        notes(&joined),
        [
            "parameters and memory of `warm`, `all` are unknown: `more` joins the tokens of two tokenizers, and those in \
          both count once"
        ]
    );
}

#[test]
fn rows_are_counted_where_they_are_known() {
    let lock = Lock::read(
        r#"{"version": 1, "sources": {
            "hf:o/a": {"kind": "dataset", "columns": ["messages"], "splits": {"train": 1000, "test": 100}},
            "hf:o/b": {"kind": "dataset", "columns": ["messages"], "splits": {"train": 600}}}}"#,
    )
    .expect("sound");
    let steps = |data: &str| {
        let recipe = format!(
            "adapt 1\nmodel base \"hf:o/m\"\n\
             dataset a \"hf:o/a\" {{ rows chat; split train=train eval=test }}\n\
             dataset b \"hf:o/b\" {{ rows chat; limit 500; holdout \"10%\" }}\n\
             dataset c \"hf:o/b\" {{ rows chat; dedup exact }}\n\
             mix ab {{ take a fraction=\"50%\"; take b rows=100 }}\n\
             mix weighted {{ take a weight=1; take b weight=1; measure rows }}\n\
             sft chat {{ model base; data {data}; template std:zephyr; batch 10; epochs 2; optimizer adamw lr=1e-5 }}\n\
             generate g {{ model base; data a }}\ngenerate h {{ model base; data b }}\n\
             generate i {{ model base; data c }}\ngenerate j {{ model base; data ab }}\n\
             generate k {{ model base; data weighted }}\n"
        );
        figures(&plan_of("r.kdl", &recipe, &[], &lock, None).plan, "chat").steps.map(|steps| steps.value)
    };
    assert_eq!(steps("a"), Some(200.0));
    assert_eq!(steps("b"), Some(90.0), "450 of 500 rows are trained on");
    assert_eq!(steps("c"), None, "duplicates are not counted before they are seen");
    assert_eq!(steps("ab"), Some(120.0));
    assert_eq!(steps("weighted"), Some(400.0), "the smaller part is repeated until all is seen");
}

#[test]
fn what_a_named_device_cannot_hold_is_an_error_with_what_would_fit() {
    let on = |hardware, count| Options { on: Some(machine(hardware, count)), ..Options::default() };
    let full = "zephyr-7b-beta/full.kdl";
    // Seven billion parameters at 16 bytes each: 108 GiB.
    let found = exceeding(full, &[], &on("h100-80", 1));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].message.contains("on h100-80, which has 80.0 GiB"), "{}", found[0].message);
    let help = found[0].help.as_deref().unwrap_or_default();
    assert!(help.contains("`--on 2xh100-80` (~") && help.contains("`state=int8` (~"), "{help}");
    assert_eq!(exceeding(full, &[], &on("h100-80", 4)), []);
    assert!(
        exceeding(full, &[], &on("rtx-3090", 4)).iter().all(|found| found.message.contains("each of 4 ×"))
    );
    // Nothing is said of what a machine has that nobody named.
    assert_eq!(exceeding(full, &[], &Options::default()), []);
    let hardware = |memory| Options { memory: Some(memory), ..Options::default() };
    assert_eq!(exceeding(full, &[], &hardware(16 << 30)).len(), 2);
    // The smaller of both counts.
    let both = Options { memory: Some(16 << 30), ..on("h100-80", 4) };
    assert!(exceeding(full, &[], &both)[0].message.contains("16.0 GiB may be used"));
}

/// Rows may turn out shorter than `sequence`, so their activations are no reason to refuse; packed ones are full.
#[test]
fn an_estimate_within_its_uncertainty_is_no_error() {
    let memory = |memory| Options { memory: Some(memory), ..Options::default() };
    let qlora = "zephyr-7b-beta/qlora.kdl";
    let stage = |plan: &Plan| -> u64 {
        let of = |name: &str| figures(plan, name).memory.iter().map(|(_, bytes)| bytes).sum();
        plan.tasks.iter().map(|task| of(&task.name)).max().expect("a task")
    };
    let predicted = stage(&gallery_with(qlora, &["*.micro=1"], &memory(1 << 40)).plan);
    let severities = |bytes| {
        let found = exceeding(qlora, &["*.micro=1"], &memory(bytes));
        found.into_iter().map(|found| (found.severity, found.message)).collect::<Vec<_>>()
    };
    assert_eq!(severities(predicted), []);
    let warned = severities(predicted * 19 / 20);
    assert!(
        !warned.is_empty() && warned.iter().all(|(severity, _)| *severity == Severity::Warning),
        "{warned:?}"
    );
    assert!(warned[0].1.contains("` may need ~"), "{warned:?}");
    assert!(severities(predicted / 2).iter().any(|(severity, _)| *severity == Severity::Error));
}
