//! Completion, hover, hints, actions.

use crate::desk::{Desk, edit};
use lsp::Encoding;
use lsp_types::{Contents, Label, Range};

const RECIPE: &str = r#"adapt 1
param peak 3e-4
model seed new:llama {
    tokenizer words
    config {
        hidden_size 64
    }
}
tokenizer words "words"
dataset talks "talks" {
    rows chat
    split train=train eval=heldout
}
defaults {
    epochs 2
    precision f32
}
sft chat {
    model seed
    data talks
    template std:zephyr
    batch 8
    optimizer adamw lr=$peak
}
"#;

fn check(marked: &str, offered: &[&str], not_offered: &[&str]) {
    let labels = Desk::of("").labels(marked);
    for label in offered {
        assert!(labels.iter().any(|found| found == label), "`{label}` at {marked:?}: {labels:?}");
    }
    for label in not_offered {
        assert!(labels.iter().all(|found| found != label), "no `{label}` at {marked:?}");
    }
}

#[test]
fn nodes_are_offered_that_are_legal_and_not_used() {
    check("|", &["adapt", "model", "sft"], &[]);
    check("adapt 1\n|", &["model"], &["adapt"]);
    check("sft a {\n    model m\n    |\n}", &["data", "batch", "epochs", "loss-on"], &["model", "beta"]);
    check("sft a {\n    epochs 1\n    |\n}", &["batch"], &["epochs", "steps", "tokens"]);
    check("sft a {\n    sample prompt=\"x\"\n    s|\n}", &["sample"], &[]);
    check("dpo a {\n    optimizer adamw {\n        |\n    }\n}", &["group"], &["model"]);
}

#[test]
fn what_is_required_comes_first() {
    let mut desk = Desk::of("");
    let first = desk.labels("adapt 1\nsft a {\n    |\n}");
    assert_eq!(first[..4], ["model", "data", "batch", "epochs"]);
    let supplied = desk.complete("adapt 1\ndefaults { batch 8; epochs 1 }\nsft a {\n    |\n}");
    let labels: Vec<&str> = supplied.iter().map(|item| item.label.as_str()).collect();
    assert_eq!(labels[..3], ["model", "data", "optimizer"]);
    let batch =
        supplied.iter().find(|item| item.label == "batch").expect("a stage may write it all the same");
    assert!(batch.detail.as_ref().is_some_and(|detail| detail.contains("from `defaults`")), "{batch:?}");
    let like = desk.labels("adapt 1\nsft a { model m; data d }\nsft b like=a {\n    |\n}");
    assert_eq!(like[..2], ["batch", "epochs"]);
}

#[test]
fn completion_works_while_the_text_is_broken() {
    check("adapt 1\nsft a {\n    model m\n    opt|\n\ndpo b {\n    model a\n}\n", &["optimizer"], &["adapt"]);
    check("adapt 1\nsft a {\n    model m\n    optimizer adamw lr=\n    |\n", &["batch"], &["optimizer"]);
    let first = Desk::of("").labels("adapt 1\nsft a {\n    model m\n    |\ndpo b {\n}\n");
    assert_eq!(first[..2], ["data", "batch"], "the block that lacks its brace comes first");
    check("model m \"x\nsft a {\n    |\n}", &["data"], &[]);
    check("adapt 1\nsf|", &["sft"], &[]);
    check("adapt 1\nsfd a {\n    |\n}", &["batch"], &[]);
    check("zzz a {\n    model m\n    data d\n    loss-on all\n    |\n}", &["batch"], &["model"]);
}

#[test]
fn values_are_those_of_the_type() {
    check("sft a {\n    optimizer |\n}", &["adamw", "lr"], &["beta"]);
    check("sft a {\n    optimizer adamw lr=1 |\n}", &["weight-decay", "clip"], &["lr", "adamw"]);
    check("sft a {\n    schedule constant |\n}", &["warmup"], &["floor"]);
    check("sft a {\n    sequence 1 pack=|\n}", &["#true", "#false"], &[]);
    check("sft a {\n    seed |\n}", &["42"], &[]);
    check("model m new|", &["new:llama", "new:gpt2"], &[]);
    let names = RECIPE.replace("    model seed\n", "    model |\n");
    check(&names, &["seed"], &["chat", "talks", "words"]);
    check(&RECIPE.replace("std:zephyr", "|"), &["std:zephyr", "std:chatml"], &["talks"]);
    check(&RECIPE.replace("$peak", "|"), &["$peak"], &[]);
    check(&RECIPE.replace("hidden_size 64", "hidden_size 64\n        |"), &["vocab_size"], &["hidden_size"]);
}

#[test]
fn paths_columns_and_splits_come_from_the_disk() {
    let files = [
        ("talks/train.jsonl", "{\"turns\": [], \"my id\": 1}\n"),
        ("talks/heldout.jsonl", "{}\n"),
        ("common.kdl", "adapt 1\n"),
        (".hidden.kdl", ""),
    ];
    let mut desk = Desk::with(&files, Encoding::Utf16);
    assert_eq!(desk.labels("use \"./|\""), ["common.kdl", "talks/"]);
    assert_eq!(desk.labels("dataset d \"talks/|"), ["heldout.jsonl", "train.jsonl"]);
    let items = desk.complete("adapt 1\nuse |");
    let item = items.iter().find(|item| item.label == "common.kdl").expect("the file is offered");
    assert_eq!(edit(item).new_text, "\"common.kdl\"");
    let dataset = "adapt 1\ndataset d \"talks\" {\n    rows chat messages=|\n}\ncpt a { data d }";
    let items = desk.complete(dataset);
    let mut written: Vec<String> = items.iter().take(2).map(|item| edit(item).new_text).collect();
    written.sort();
    assert_eq!(written, ["\"my id\"", "turns"]);
    let dataset = dataset.replace("rows chat messages=|", "rows chat\n    split train=|");
    assert_eq!(desk.labels(&dataset)[..2], ["heldout", "train"]);
}

#[test]
fn what_is_typed_is_replaced() {
    let mut desk = Desk::of("");
    let items = desk.complete("// 𝄞\nsft \"𝄞\" {\n    batch 1; opt|im adamw\n}");
    let item = items.iter().find(|item| item.label == "optimizer").expect("it is offered");
    let written = desk.applied("a.kdl", &[edit(item)]);
    assert_eq!(written, "// 𝄞\nsft \"𝄞\" {\n    batch 1; optimizer adamw\n}");
    let property = desk.complete("sft a {\n    optimizer adamw l|\n}").remove(0);
    assert_eq!(edit(&property).new_text, "lr=");
}

fn hover(desk: &mut Desk, word: &str) -> String {
    let (uri, position) = (desk.uri("a.kdl"), desk.behind("a.kdl", word));
    match desk.editor.hover(&uri, position).map(|hover| hover.contents) {
        Some(Contents::MarkupContent(markup)) => markup.value,
        other => panic!("an explanation of `{word}`, not {other:?}"),
    }
}

#[test]
fn hover_says_what_counts_and_why() {
    let mut desk = Desk::of(RECIPE);
    let lr = hover(&mut desk, "    optimizer adamw lr");
    assert!(lr.contains("The peak learning rate"), "{lr}");
    assert!(lr.contains("a number, above 0 and at most 10"), "{lr}");
    assert!(lr.contains("Here: `3e-4`, written in line 2"), "{lr}");
    let optimizer = hover(&mut desk, "    optimizer");
    assert!(optimizer.contains("- `beta1` = `0.9`, the default"), "{optimizer}");
    let stage = hover(&mut desk, "\nsft");
    assert!(stage.contains("epochs 2  // from `defaults`, line 15"), "{stage}");
    assert!(stage.contains("seed 42  // the default"), "{stage}");
    let name = hover(&mut desk, "    data talks");
    assert!(name.contains("a dataset of this recipe, line 10"), "{name}");
    let template = hover(&mut desk, "std:zephyr");
    assert!(template.contains("```jinja\n"), "{template}");
    assert!(hover(&mut desk, "$peak").contains("param peak 3e-4"));
    let word = hover(&mut desk, "rows chat");
    assert!(word.contains("`chat`: Lists of messages."), "{word}");
}

#[test]
fn hover_shows_no_secret() {
    let secret = format!("hf_{}", "a1B2".repeat(9));
    let mut desk = Desk::of(&format!("adapt 1\nmodel m \"{secret}\"\nsft s {{\n    model m\n}}\n"));
    for word in ["    model m", "\nmodel m", "\nmodel"] {
        assert!(!hover(&mut desk, word).contains("a1B2"), "{word}");
    }
    let shown = format!("{:?} {:?}", desk.diagnostics("a.kdl"), desk.editor.symbols(&desk.uri("a.kdl")));
    assert!(!shown.contains("a1B2"), "{shown}");
}

#[test]
fn every_fix_is_an_action() {
    let mut desk =
        Desk::of("adapt 1\nmodel 𝄞 \"m\"\nsft a {\n    sequence 1 pack=true; learning-rate 1\n}\n");
    let uri = desk.uri("a.kdl");
    let line = Range { start: desk.behind("a.kdl", "sft a {\n"), end: desk.behind("a.kdl", "pack=true") };
    let actions = desk.editor.actions(&uri, line);
    let action = actions.first().expect("`true` can be fixed");
    let edits = action.edit.as_ref().and_then(|edit| edit.changes.as_ref()).expect("it changes texts");
    assert!(desk.applied("a.kdl", &edits[&uri]).contains("pack=#true;"), "{actions:?}");
    assert_eq!(action.diagnostics.as_ref().map(Vec::len), Some(1));
    let elsewhere = Range { start: desk.behind("a.kdl", "adapt"), end: desk.behind("a.kdl", "adapt 1") };
    assert_eq!(desk.editor.actions(&uri, elsewhere), []);
}

#[test]
fn stages_say_what_they_come_to() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let text = std::fs::read_to_string(root.join("quickstart.kdl")).expect("the recipe is there");
    let abilities = lsp::Abilities::default();
    let base = root.canonicalize().expect("the folder is there").to_str().expect("UTF-8").to_owned();
    let mut editor = lsp::Editor::new(crate::desk::Disk::at(&root), &base, abilities);
    let uri = lsp_types::Uri::from_file_path(format!("{base}/quickstart.kdl")).expect("the path is absolute");
    editor.open(uri.clone(), 1, text.clone(), true);
    assert_eq!(editor.diagnostics(&uri), []);
    let end = lsp_types::Position { line: 999, character: 0 };
    let hints = editor.hints(&uri, Range { start: Default::default(), end });
    let shown: Vec<(String, String)> = hints
        .into_iter()
        .map(|hint| {
            let line = text.lines().nth(hint.position.line as usize).unwrap_or_default().trim().to_owned();
            let Label::String(label) = hint.label else { panic!("labels are texts") };
            (line, label)
        })
        .collect();
    let at = |line: &str| {
        let found = shown.iter().find(|(found, _)| found == line);
        found.map_or_else(|| panic!("a hint at `{line}`: {shown:?}"), |(_, label)| label.clone())
    };
    assert!(at("cpt dutch {").contains("parameters trained"), "{shown:?}");
    assert!(at("cpt dutch {").contains("MiB of memory"), "{shown:?}");
    assert!(at("epochs 8").starts_with("= ~"), "{shown:?}");
    assert!(at("epochs 8").ends_with(" steps"), "{shown:?}");
}

#[test]
fn a_batch_says_its_accumulation_however_it_is_written() {
    let hint = |batch: &str, precision: &str| {
        let text = RECIPE.replace("batch 8", batch).replace("precision f32", precision);
        let model = "tokenizer words\n    config {\n        hidden_size 64\n";
        let sizes = "intermediate_size 128\n num_hidden_layers 2\n num_attention_heads 4\n max_position_embeddings 256\n";
        let text = text.replace(model, &format!("{model}{sizes}"));
        let text = text.replace(
            "tokenizer words \"words\"",
            "tokenizer words { train bpe vocab=400 on=plain }\ndataset plain \"plain.jsonl\" { rows text }",
        );
        let row = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n";
        let files = [
            ("talks/train.jsonl", row),
            ("talks/heldout.jsonl", row),
            ("plain.jsonl", "{\"text\": \"a\"}\n"),
        ];
        let mut desk = Desk::with(&files, Encoding::Utf16);
        desk.open("a.kdl", &text);
        let uri = desk.uri("a.kdl");
        let end = lsp_types::Position { line: 999, character: 0 };
        let line = text.lines().position(|line| line.trim() == batch).expect("the batch is there") as u32;
        let hints = desk.editor.hints(&uri, Range { start: Default::default(), end });
        let found = hints.into_iter().find(|hint| hint.position.line == line);
        let Some(Label::String(label)) = found.map(|hint| hint.label) else {
            panic!("no hint at `{batch}`: {:?}", desk.diagnostics("a.kdl"))
        };
        label
    };
    for precision in ["precision f32", "precision bf16"] {
        assert_eq!(hint("batch 8 micro=2", precision), "= 8 sequences per step, in 4 micro-steps of 2");
        let chosen = hint("batch 64", precision);
        assert!(chosen.starts_with("= 64 sequences per step, in ~"), "{precision}: {chosen}");
    }
}

#[test]
fn weights_are_those_of_the_model_and_words_that_stand_for_several() {
    let words = ["new-rows", "layers", "all-but"];
    let stage = |line: &str| format!("adapt 1\nmodel m new:llama\ncpt a {{\n    model m\n    {line}\n}}\n");
    check(&stage("train |"), &[&words[..], &["embed_tokens", "lm_head", "q_proj"]].concat(), &["all-linear"]);
    check(&stage("train embed_tokens |"), &["lm_head", "down_proj"], &["embed_tokens", "new-rows"]);
    check(&stage("train all-but |"), &["embed_tokens"], &words);
    check(&stage("train layers |"), &[], &["embed_tokens"]);
    check(&stage("lora { targets | }"), &["all-linear", "q_proj", "v_proj"], &["embed_tokens", "new-rows"]);
    check(&stage("lora { targets q_proj | }"), &["v_proj"], &["q_proj", "all-linear"]);
    check(&stage("lora { also | }"), &["embed_tokens", "lm_head"], &["all-linear", "new-rows"]);
    check(&stage("optimizer adamw lr=1 { group | }"), &["embed_tokens", "q_proj"], &["new-rows"]);
    // Through the stages that it started from; and of a model of which nothing is known what all have.
    let second = format!("{}cpt b {{\n    model a\n    train |\n}}\n", stage("train layers"));
    check(&second, &["gate_proj"], &[]);
    check(&second.replace("new:llama", "\"hf:o/m\""), &["embed_tokens", "layers"], &["gate_proj"]);
}

#[test]
fn what_is_offered_has_the_right_type() {
    let text = "adapt 1\nparam rate 1e-4\nparam warm \"10%\"\nparam what base\nparam form f32\nparam off #false\n\
                model base \"b\"\ncpt one { model base }\nsft two { model one }\n";
    let cpt = |line: &str| format!("{text}cpt three {{\n    {line}\n}}\n");
    check(&format!("{text}cpt three like=|\n"), &["one"], &["base", "two", "three", "$rate"]);
    check(&cpt("precision |"), &["bf16", "$form"], &["$rate", "$what", "$off"]);
    check(&cpt("model |"), &["base", "one", "$what"], &["$rate", "$form"]);
    check(&cpt("optimizer adamw lr=|"), &["$rate"], &["$what", "$off", "$warm"]);
    check(&cpt("schedule cosine warmup=|"), &["$rate", "$warm"], &["$what"]);
    check(&cpt("sequence 8 pack=|"), &["$off"], &["$rate", "$form"]);
    check(&cpt("train |"), &["layers"], &["$rate"]);
}

#[test]
fn pinned_sources_are_offered_where_they_fit() {
    let entry = |kind: &str| {
        format!(r#"{{"kind": "{kind}", "revision": null, "config": {{"model_type": "llama"}}}}"#)
    };
    let lock = format!(
        r#"{{"version": 1, "sources": {{"hf:o/model": {}, "hf:o/rows#tiny": {}, "hf:o/words": {}}}}}"#,
        entry("model"),
        entry("dataset"),
        entry("tokenizer")
    );
    let mut desk = Desk::with(&[("adapt.lock", &lock)], Encoding::Utf16);
    let mut remote = |marked: &str| {
        let mut labels = desk.labels(marked);
        labels.retain(|label| label.starts_with("hf:"));
        labels
    };
    assert_eq!(remote("adapt 1\nmodel z \"hf:|"), ["hf:o/model"]);
    assert_eq!(remote("adapt 1\ndataset z |"), ["hf:o/rows"]);
    assert_eq!(remote("adapt 1\ntokenizer z |"), ["hf:o/model", "hf:o/words"]);
}

#[test]
fn formatting_gives_a_recipe_its_one_form() {
    let text = "adapt 1\n// 𝄞\nmodel   m \"𝄞\"\nsft a {\n  model m // stays\n}\n";
    let mut desk = Desk::of(text);
    let uri = desk.uri("a.kdl");
    let edits = desk.editor.format(&uri);
    let formatted = desk.applied("a.kdl", &edits);
    assert_eq!(Ok(formatted.clone()), lang::format::format(text));
    assert_ne!(formatted, text);
    desk.open("a.kdl", &formatted);
    assert_eq!(desk.editor.format(&uri), []);
    desk.open("a.kdl", "sft a {\n  model m\n");
    assert_eq!(desk.editor.format(&uri), [], "what is broken stays as it is");
}

#[test]
fn a_lock_file_tells_what_lies_elsewhere() {
    let entry = r#"{"kind": "model", "revision": null, "config": {"model_type": "llama"}}"#;
    let lock = format!(r#"{{"version": 1, "sources": {{"hf:owner/name": {entry}}}}}"#);
    let mut desk = Desk::with(&[("adapt.lock", &lock)], Encoding::Utf16);
    let labels = desk.labels("adapt 1\nmodel m |");
    assert!(labels.contains(&"hf:owner/name".to_owned()), "{labels:?}");
    let fields = desk.labels("adapt 1\nmodel m \"hf:owner/name\" {\n    config {\n        |\n    }\n}");
    assert!(fields.contains(&"hidden_size".to_owned()), "{fields:?}");
    desk.write("adapt.lock", "{");
    desk.editor.refresh();
    let found = desk.diagnostics("a.kdl");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, Some(lsp_types::Code::String("broken-lock".into())));
}
