//! Recipes that cannot be run yet: what the plan says of them, from locks and without a network.

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
        return lower(recipe, &checked.sources, &facts, &Options { on, ..Options::default() });
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
    let file = root().join("recipes").join(path);
    let path = file.display().to_string();
    let text = std::fs::read_to_string(&file).expect("a recipe of the gallery");
    let lock = std::fs::read_to_string(file.with_file_name(lang::lock::FILE)).expect("its lock");
    let hardware = stdlib::hardware::find(hardware).expect("a profile");
    let machine = Machine { hardware, count, ghz: 3.0 };
    plan_of(&path, &text, &[], &Lock::read(&lock).expect("a sound lock"), Some(machine)).plan
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
    let lock = Lock::read(&format!(
        r#"{{"version": 1, "sources": {{"hf:o/m": {{"kind": "model", "config": {config}}}}}}}"#
    ));
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
