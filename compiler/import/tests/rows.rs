//! The dataset types and templates of axolotl, the forms of its preference data, and the models of a merge: each
//! becomes rows, columns and a template of the language, or is refused for what it is.

mod support;

use import::{Imported, import};
use support::assert_sound;

const TRAIN: &str = "base_model: a/b\nsequence_len: 512\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\nnum_epochs: 1\nlearning_rate: 1.0e-4\n";

/// A file whose dataset has these keys beside its path.
fn file(dataset: &str, more: &str) -> String {
    let keys: String = dataset.lines().map(|line| format!("    {line}\n")).collect();
    format!("{TRAIN}{more}datasets:\n  - path: c/d\n{keys}")
}

fn imported(text: &str) -> Imported {
    let imported = import(text, "a.yml").unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    assert_sound("a.yml", text, &imported);
    imported
}

/// Asserts that an imported file has these lines, wherever they stand.
fn check(text: &str, lines: &[&str]) {
    let recipe = imported(text).recipe;
    for line in lines {
        let has = recipe.lines().any(|written| written.trim() == *line);
        assert!(has, "no line `{line}` in\n{recipe}\nof\n{text}");
    }
}

/// Asserts that a file is refused at a key for a reason.
fn refuse(text: &str, line: &str, reason: &str) {
    let problems = import(text, "a.yml").expect_err("it is refused");
    let found = problems.iter().find(|problem| problem.message.contains(reason));
    let found = found.unwrap_or_else(|| panic!("no `{reason}` in {problems:#?}"));
    let at = text.lines().nth(found.line as usize - 1).unwrap_or_default();
    assert!(at.contains(line), "`{reason}` stands at `{at}`");
}

#[test]
fn types_of_instructions_become_columns_and_a_template() {
    check(&file("type: alpaca:chatml", ""), &["rows instruction", "template std:chatml"]);
    check(
        &file("type: alpaca:chat", ""),
        &["rows instruction", "user \"USER: {content}\\nASSISTANT:\"", "assistant \"{content}{eos}\""],
    );
    check(
        &file("type: alpaca_w_system.load_open_orca", ""),
        &["rows instruction instruction=question output=response system=system_prompt"],
    );
    check(&file("type: alpaca_chat.load_qa", ""), &["rows instruction instruction=question output=answer"]);
    check(&file("type: gpteacher", ""), &["rows instruction output=response", "template std:alpaca"]);
    check(&file("type: oasst", ""), &["rows instruction instruction=INSTRUCTION output=RESPONSE"]);
    check(
        &file("type: metharme", ""),
        &[
            "rows instruction instruction=prompt output=generation",
            "system \"<|system|>{content}\"",
            "user \"<|user|>{content}<|model|>\"",
        ],
    );
    refuse(&file("type: alpaca:sharegpt", ""), "type: alpaca:sharegpt", "the prompt style `sharegpt`");
    refuse(&file("type: jeopardy", ""), "type: jeopardy", "fit no row type");
    refuse(&file("type: raw", ""), "type: raw", "axolotl has no dataset type `raw`");
}

#[test]
fn conversations_of_the_removed_type_keep_their_style() {
    for (style, template) in [
        ("chatml", "std:chatml"),
        ("llama-2", "std:llama2"),
        ("llama3", "std:llama3"),
        ("zephyr", "std:zephyr"),
        ("mistral", "std:mistral"),
        ("gemma", "std:gemma"),
    ] {
        let dataset = format!("type: sharegpt\nconversation: {style}\nfield_messages: talk");
        check(&file(&dataset, ""), &["rows chat messages=talk", &format!("template {template}")]);
    }
    let vicuna = ["rows chat", "system \"{content} \"", "user \"USER: {content} ASSISTANT:\""];
    check(&file("type: sharegpt", ""), &vicuna);
    check(&file("type: sharegpt.load_role\nconversation: vicuna_v1.1", ""), &vicuna);
    check(&file("type: sharegpt", "chat_template: chatml\n"), &["rows chat", "template std:chatml"]);
    refuse(
        &file("type: sharegpt\nconversation: dolly", ""),
        "conversation: dolly",
        "the conversation style `dolly`",
    );
}

#[test]
fn templates_are_named_or_written_out() {
    let chat = |template: &str| file("type: chat_template", &format!("{template}\n"));
    for name in ["mistral_v1", "inst", "mistral_v7_tekken"] {
        check(&chat(&format!("chat_template: {name}")), &["template std:mistral"]);
    }
    check(&chat("chat_template: metharme"), &["template metharme", "user \"<|user|>{content}<|model|>\""]);
    for own in ["tokenizer_default", "tokenizer_default_fallback_chatml", "phi_35"] {
        let recipe = imported(&chat(&format!("chat_template: {own}"))).recipe;
        assert!(!recipe.contains("template"), "the model's own is meant:\n{recipe}");
    }
    check(&chat("chat_template_jinja: ./own.jinja"), &["template chat {", "file \"./own.jinja\""]);
    check(&chat("chat_template_jinja: '{{ messages }}'"), &["jinja \"{{ messages }}\"", "template chat"]);
}

#[test]
fn parts_of_messages_go_by_the_names_that_are_read() {
    let dataset = "type: chat_template\nmessage_property_mappings:\n  role: from\n  content: value\nfield_tools: functions";
    check(&file(dataset, ""), &["rows chat tools=functions"]);
    refuse(
        &file("type: chat_template\nmessage_field_role: speaker", ""),
        "message_field_role",
        "messages call their role `speaker`",
    );
    check(&file("type: chat_template\nroles_to_train: [assistant, user]", ""), &["loss-on all"]);
    refuse(
        &file("type: chat_template\nroles_to_train: [user]", ""),
        "roles_to_train",
        "not other roles alone",
    );
    let recipe = imported(&file("type: chat_template\ntrain_on_eos: all\nroles_to_train: [gpt]", "")).recipe;
    assert!(!recipe.contains("loss-on"), "answers are the default:\n{recipe}");
    refuse(&file("type: chat_template\nroles:\n  narrator: [n]", ""), "narrator", "the role `narrator`");
}

#[test]
fn preference_data_of_every_form_becomes_pairs() {
    for (kind, rows) in [
        ("chatml.intel", "rows preference prompt=question"),
        ("llama3.icr", "rows preference prompt=input"),
        (
            "zephyr.argilla",
            "rows preference prompt=instruction chosen=chosen_response rejected=rejected_response",
        ),
        ("chatml.ultra", "rows preference"),
        ("chatml.prompt_pairs", "rows preference"),
    ] {
        check(&file(&format!("type: {kind}"), "rl: dpo\n"), &[rows]);
    }
    check(&file("type: llama3.argilla", "rl: kto\n"), &["rows labelled prompt=instruction"]);
    check(&file("type: chatml.ultra", "rl: kto\n"), &["rows labelled"]);
    refuse(&file("type: chatml.icr", "rl: kto\n"), "type: chatml.icr", "none of axolotl's types");
    let named = "type: chat_template\nfield_chosen: good\nfield_rejected: bad\nfield_messages: prompt";
    check(&file(named, "rl: dpo\n"), &["rows preference chosen=good rejected=bad"]);
}

#[test]
fn a_type_of_its_own_becomes_a_template_when_one_suffices() {
    let written = |chosen: &str, rejected: &str| {
        format!(
            "type:\n  field_prompt: question\n  field_chosen: chosen\n  field_rejected: worse\n  prompt_format: \"Q: {{prompt}} A:\"\n  chosen_format: \"{chosen}\"\n  rejected_format: \"{rejected}\""
        )
    };
    check(
        &file(&written(" {chosen}", " {rejected}"), "rl: dpo\n"),
        &[
            "rows preference prompt=question rejected=worse",
            "user \"Q: {content} A:\"",
            "assistant \" {content}{eos}\"",
        ],
    );
    let differ = file(&written(" {chosen}", "Bad: {rejected}"), "rl: dpo\n");
    refuse(&differ, "chosen_format", "cannot be said as one template");
    let twice = file("type:\n  prompt_format: \"{prompt} {prompt}\"", "rl: dpo\n");
    refuse(&twice, "prompt_format", "cannot be said as one template");
    check(
        &file("type:\n  field_completion: answer\n  field_label: good", "rl: kto\n"),
        &["rows labelled completion=answer label=good"],
    );
}

#[test]
fn losses_and_margins_of_preferences_are_carried() {
    let dpo = |line: &str| file("type: chatml.ultra", &format!("rl: dpo\n{line}\n"));
    check(&dpo("dpo_loss_type: [ipo]"), &["loss ipo"]);
    check(&dpo("dpo_loss_type: [apo_zero]"), &["loss apo-zero"]);
    let recipe = imported(&dpo("dpo_loss_type: [sigmoid]")).recipe;
    assert!(!recipe.contains("loss"), "it is the default:\n{recipe}");
    refuse(&dpo("dpo_loss_type: [bco_pair]"), "dpo_loss_type", "no loss `bco_pair`");
    refuse(&dpo("dpo_loss_type: [sigmoid, ipo]"), "dpo_loss_type", "several losses");
    let simpo = |line: &str| file("type: chatml.ultra", &format!("rl: simpo\n{line}\n"));
    check(&simpo("simpo_gamma: 1.0\nrl_beta: 2.5"), &["margin 1", "beta 2.5"]);
    check(&simpo("cpo_alpha: 0.0"), &["beta 0.1"]);
    refuse(&simpo("cpo_alpha: 1.0"), "cpo_alpha", "plain likelihood");
}

const MERGE: &str = "merge_method: linear\nmodels:\n  - model: a/b\n    parameters: {weight: 1}\n  - model: c/d\n    parameters: {weight: 0.5}\n";

#[test]
fn models_of_a_merge_are_named_in_three_ways() {
    let written = "merge_method: linear\nmodels:\n  - model: {model: {path: a/b, revision: v1}}\n    parameters: {weight: 1}\n  - model: {model: c/d}\n    parameters: {weight: 0.5}\n  - model: e/f@v2\n    parameters: {weight: 0.5}\n";
    check(
        written,
        &["model b \"hf:a/b\" revision=v1", "model d \"hf:c/d\"", "model f \"hf:e/f\" revision=v2"],
    );
    let adapter = "merge_method: linear\nmodels:\n  - model: {model: a/b, lora: c/d}\n    parameters: {weight: 1}\n  - model: e/f\n    parameters: {weight: 1}\n";
    refuse(adapter, "lora", "an adapter stands on the model");
}

#[test]
fn what_is_said_of_the_result_of_a_merge_is_carried() {
    check(&format!("{MERGE}dtype: float32\nout_dtype: float16\n"), &["dtype f16"]);
    check(&format!("{MERGE}dtype: float32\n"), &["dtype f32"]);
    refuse(&format!("{MERGE}dtype: int8\n"), "dtype: int8", "no dtype `int8`");
    check(&format!("{MERGE}tokenizer:\n  source: union\n  pad_to_multiple_of: 8\n"), &["tokenizer union"]);
    let tokens = format!("{MERGE}tokenizer:\n  source: union\n  tokens:\n    x: {{source: a/b}}\n");
    refuse(&tokens, "x: {source", "rows of single tokens");
    check(&format!("{MERGE}tokenizer_source: c/d\n"), &["tokenizer d-tokenizer"]);
}

#[test]
fn one_slice_of_whole_models_is_a_merge_of_them() {
    let slice = |from: u32| {
        format!(
            "merge_method: slerp\nbase_model: a/b\nslices:\n  - sources:\n      - model: a/b\n        layer_range: [{from}, 24]\n      - model: c/d\n        layer_range: [{from}, 24]\nparameters:\n  t: 0.3\n"
        )
    };
    check(&slice(0), &["method slerp t=0.3", "base b", "from d"]);
    refuse(&slice(4), "- sources:", "layers of a model are merged apart");
    refuse(&format!("{MERGE}modules:\n  text: {{}}\n"), "text: {}", "parts of models apart");
    refuse(&format!("{MERGE}---\nmodels: []\n"), "models: []", "`[1].merge_method` is missing");
}
