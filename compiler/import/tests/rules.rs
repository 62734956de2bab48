//! Rules of the tools that are easily missed: each a few lines of a file and what the recipe says.

use import::{Imported, Outcome, import};

const AXOLOTL: &str = "base_model: a/b\ndatasets:\n  - path: c/d\n    type: alpaca\nsequence_len: 512\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\nlearning_rate: 1.0e-4\n";
const HANDBOOK: &str = "model_name_or_path: a/b\ndataset_mixer:\n  c/d: 1.0\nper_device_train_batch_size: 2\nlearning_rate: 1.0e-4\n";

fn imported(text: &str) -> Imported {
    import(text, "a.yml").unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// Asserts that a file with some lines more has a line in its recipe.
fn check(base: &str, more: &str, line: &str) {
    let recipe = imported(&format!("{base}{more}\n")).recipe;
    assert!(recipe.lines().any(|written| written.trim() == line), "{more}: no line `{line}` in\n{recipe}");
}

fn outcome(text: &str, key: &str) -> (Outcome, String) {
    let report = imported(text).report;
    let entry = report.into_iter().rfind(|entry| entry.key == key).expect("the key has an entry");
    (entry.outcome, entry.why)
}

#[test]
fn a_warmup_beyond_the_run_only_rises() {
    let more = "max_steps: 20\nwarmup_steps: 100\nlr_scheduler: cosine";
    check(AXOLOTL, more, "optimizer adamw lr=2e-5");
    check(AXOLOTL, more, "schedule constant warmup=20");
    check(AXOLOTL, "max_steps: 20\nwarmup_steps: 100\nlr_scheduler: constant", "schedule constant");
    check(HANDBOOK, "max_steps: 20\nwarmup_steps: 40", "optimizer adamw lr=5e-5");
}

#[test]
fn defaults_of_the_tools_are_written() {
    check(AXOLOTL, "", "sft tuned {");
    check(AXOLOTL, "", "epochs 1");
    check(HANDBOOK, "", "epochs 3");
    check(HANDBOOK, "", "schedule linear");
    check(HANDBOOK, "", "loss-on all");
    check(HANDBOOK, "", "sequence 1024 pack=#true");
    check(HANDBOOK, "use_peft: true\nload_in_4bit: true", "quantize nf4 double=#false");
    check(HANDBOOK, "use_peft: true\nload_in_4bit: true", "lora alpha=32 dropout=0.05 {");
}

#[test]
fn the_script_of_a_handbook_file_is_told_by_its_keys_and_names() {
    check(HANDBOOK, "beta: 0.1\nhub_model_id: zephyr-orpo", "orpo zephyr-orpo {");
    check(HANDBOOK, "beta: 0.05\noutput_dir: data/x-dpo", "dpo x-dpo {");
    check(HANDBOOK, "text_column: body", "rows text text=body");
    check(HANDBOOK, "beta: 2.0\ngamma_beta_ratio: 0.5\noutput_dir: data/x-simpo", "margin 1");
}

#[test]
fn shares_pair_with_train_splits_as_the_script_pairs_them() {
    let base = HANDBOOK.replace("  c/d: 1.0\n", "  c/d: 1.0\n  e/f: 0.5\n");
    let recipe = imported(&format!("{base}dataset_splits: [train_a, train_b, test]\n")).recipe;
    assert!(recipe.contains("dataset d \"hf:c/d\"") && recipe.contains("dataset d-2 \"hf:c/d\""), "{recipe}");
    assert!(!recipe.contains("hf:e/f") && recipe.contains("take d-2 fraction=\"50%\""), "{recipe}");
}

#[test]
fn four_bits_without_qlora_are_what_the_library_takes() {
    let lora = "lora_r: 16\nlora_alpha: 16\nlora_target_linear: true\nload_in_4bit: true\nadapter: ";
    check(AXOLOTL, &format!("{lora}lora"), "quantize fp4 double=#false");
    check(AXOLOTL, &format!("{lora}qlora"), "quantize nf4");
}

#[test]
fn unknown_keys_name_the_nearest_real_one() {
    for (line, key, near) in [
        ("sample_paking: true", "sample_paking", "`sample_packing`"),
        ("eta_min: 1.0e-6", "eta_min", "`cosine_min_lr_ratio`"),
        ("max_seq_length: 4", "max_seq_length", "`sequence_len`"),
        ("context_parapllel_size: 2", "context_parapllel_size", "`context_parallel_size`"),
    ] {
        let (found, why) = outcome(&format!("{AXOLOTL}{line}\n"), key);
        assert_eq!(found, Outcome::Unknown, "{line}");
        assert!(why.contains(near), "{line}: {why}");
    }
    let (found, why) = outcome(&format!("{AXOLOTL}zzz: 1\n"), "zzz");
    assert_eq!((found, why.contains("nearest")), (Outcome::Unknown, false));
}

#[test]
fn text_for_a_number_is_told() {
    let text = AXOLOTL.replace("1.0e-4", "1e-4");
    assert_eq!(outcome(&text, "learning_rate").0, Outcome::Changed);
    assert_eq!(outcome(AXOLOTL, "learning_rate").0, Outcome::Carried);
}

#[test]
fn a_share_of_the_run_is_worked_out() {
    check(AXOLOTL, "val_set_size: 0.1\nnum_epochs: 3\neval_steps: 0.1", "evaluate every=\"0.3 epochs\"");
    check(AXOLOTL, "val_set_size: 0.1\nmax_steps: 50\neval_steps: 0.02", "evaluate every=\"1 step\"");
    check(AXOLOTL, "val_set_size: 0.1\nevals_per_epoch: 1", "holdout \"10%\"");
}

#[test]
fn slices_of_the_python_kind_become_words() {
    for (split, line) in [
        ("train", "split train=train"),
        ("validation", "split train=validation"),
        ("'train[:100]'", "limit 100 head"),
        ("'train[:25%]'", "take d fraction=\"25%\""),
    ] {
        check(&AXOLOTL.replace("type: alpaca", &format!("type: alpaca\n    split: {split}")), "", line);
    }
}

#[test]
fn streamed_text_has_no_held_out_rows_and_fills_sequences() {
    let base = AXOLOTL
        .replace("datasets:\n  - path: c/d\n    type: alpaca\n", "pretraining_dataset: c/d\nmax_steps: 10\n");
    check(&base, "val_set_size: 0.05", "sequence 512 pack=#true");
    let (found, why) = outcome(&format!("{base}val_set_size: 0.05\n"), "val_set_size");
    assert_eq!(found, Outcome::NoCounterpart, "{why}");
}

#[test]
fn keys_without_a_name_are_accounted_for() {
    let text =
        "base_model: m\ndatasets:\n  - path: l\n    type:\n     :\n: sequence_len:\ns:\nlearning_rate: 1\n";
    // Imported or refused, but with an answer.
    if let Ok(imported) = import::import(text, "a.yml") {
        assert!(imported.report.iter().any(|entry| entry.line == 6), "{:#?}", imported.report);
    }
}

/// A stage evaluates before its first step and after its last one, whatever LitGPT was told.
#[test]
fn validation_at_the_ends_is_what_a_stage_does() {
    let text = "checkpoint_dir: a/b\ndata:\n  class_path: litgpt.data.JSON\n  init_args:\n    json_path: d.json\n    \
                val_split_fraction: 0.1\ntrain:\n  global_batch_size: 8\n  micro_batch_size: 1\n  epochs: 1\neval:\n  interval: 100\n";
    for key in ["initial_validation", "final_validation"] {
        let of = |value: &str| outcome(&format!("{text}  {key}: {value}\n"), &format!("eval.{key}"));
        let (carried, why) = of("true");
        assert_eq!(carried, Outcome::Carried, "{key}: {why}");
        let (dropped, why) = of("false");
        assert_eq!(dropped, Outcome::NoCounterpart, "{key}");
        assert!(why.ends_with("all the same"), "{why}");
    }
}
