//! What a checked recipe holds: the gallery checks, and values arrive with their defaults and origins.

use lang::facts::Facts;
use lang::recipe::*;
use lang::source::Origin;
use lang::{Checked, Input, check};
use std::path::Path;

fn run(text: &str, sets: &[&str]) -> Checked {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    check(&Input { path: "recipes/a.kdl", text, sets: &sets }, &Facts::default())
}

fn recipe(text: &str, sets: &[&str]) -> Recipe {
    let checked = run(text, sets);
    checked.recipe.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
}

fn train(recipe: &Recipe, name: &str) -> Train {
    let mut stages = recipe.stages.iter().filter_map(|stage| match stage {
        Stage::Train(train) if train.name == name => Some(train.as_ref().clone()),
        Stage::Train(_) | Stage::Evaluate(_) | Stage::Generate(_) => None,
    });
    stages.next().expect("the stage is there")
}

const WORDS: &str = r#"adapt 1
param rate 3e-4
model base "../base"
dataset words "words.jsonl" { rows text text=body; limit "1K" head; holdout "5%" }
dataset pairs "pairs.jsonl" { rows preference; shuffle seed=7 }
defaults { epochs 2; precision f32; batch 16; optimizer adamw lr=$rate }
defaults dpo { optimizer adamw lr=5e-7 }
cpt a { model base; data words }
dpo b { model a; data pairs; template std:zephyr; steps 100; sample { prompt "x"; prompt "y" } }
"#;

#[test]
fn every_recipe_of_the_gallery_checks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    for entry in std::fs::read_dir(folder).expect("recipes/ is there") {
        let path = entry.expect("an entry is readable").path();
        if path.extension().is_some_and(|ending| ending == "kdl") {
            let text = std::fs::read_to_string(&path).expect("a recipe is readable");
            let checked = run(&text, &[]);
            assert_eq!(checked.diagnostics, [], "{path:?}");
            assert!(checked.recipe.is_some(), "{path:?}");
        }
    }
}

#[test]
fn defaults_are_filled_in() {
    let recipe = recipe(WORDS, &[]);
    let a = train(&recipe, "a");
    assert_eq!((a.budget.value, a.budget.origin), (Budget::Epochs(2.0), Origin::Defaults));
    assert_eq!((a.optimizer.lr.value, a.optimizer.beta2.value, a.optimizer.eps.value), (3e-4, 0.999, 1e-8));
    assert_eq!((a.schedule.shape.value, a.schedule.warmup.value), (Shape::Cosine, Warmup::Share(0.03)));
    assert_eq!((a.overflow.value, a.seed.value, a.seed.origin), (Overflow::Split, 42, Origin::Default));
    assert_eq!(a.evaluate.map(|evaluate| evaluate.every.value), Some(Every::Epochs(1.0)));
    assert!(a.checkpoint.is_none() && a.sequence.is_none());
}

#[test]
fn what_a_stage_writes_wins_over_its_kind_over_all() {
    let recipe = recipe(WORDS, &[]);
    let b = train(&recipe, "b");
    assert_eq!((b.budget.value, b.budget.origin), (Budget::Steps(100), Origin::Written));
    assert_eq!(b.optimizer.lr.value, 5e-7);
    assert!(b.evaluate.is_none(), "its data holds nothing out");
    assert_eq!(b.samples[0].prompts.len(), 2);
    assert!(
        matches!(b.objective, Objective::Dpo { ref beta, .. } if beta.value == 0.1 && beta.origin == Origin::Default)
    );
    assert_eq!(
        b.template,
        Some(TemplateRef::Std(b.template.clone().and_then(std_name).expect("it is std:zephyr")))
    );
}

fn std_name(template: TemplateRef) -> Option<lang::source::Spanned<String>> {
    match template {
        TemplateRef::Std(name) => Some(name).filter(|name| name.value == "zephyr"),
        TemplateRef::Declared(_) => None,
    }
}

#[test]
fn paths_are_resolved_and_columns_renamed() {
    let recipe = recipe(WORDS, &[]);
    assert_eq!(recipe.models[0].source.value, ModelSource::Folder("base".into()));
    let words = &recipe.datasets[0];
    assert_eq!(words.source.value, "recipes/words.jsonl");
    assert_eq!(
        words.columns.iter().map(|(name, to)| (name.as_str(), to.value.as_str())).collect::<Vec<_>>(),
        [("text", "body")]
    );
    assert!(matches!(&words.transforms[0], Transform::Limit { rows, head: true } if rows.value == 1000));
    assert!(
        matches!(&words.transforms[1], Transform::Holdout { amount } if amount.value == Amount::Share(0.05))
    );
    assert_eq!(recipe.datasets[1].transforms.len(), 1);
}

#[test]
fn set_replaces_values_and_later_wins() {
    let recipe =
        recipe(WORDS, &["rate=1e-3", "a.seed=1", "a.seed=2", "b.epochs=3", "a.pack=true", "a.warmup=5%"]);
    let (a, b) = (train(&recipe, "a"), train(&recipe, "b"));
    assert_eq!((a.optimizer.lr.value, a.seed.value, a.seed.origin), (1e-3, 2, Origin::Set));
    assert_eq!((a.pack.value, a.schedule.warmup.value), (true, Warmup::Share(0.05)));
    assert_eq!(b.budget.value, Budget::Epochs(3.0));
}

#[test]
fn set_changes_an_inherited_child_for_one_stage_only() {
    let text = WORDS.replace("cpt a {", "cpt c { model base; data words }\ncpt a {");
    let recipe = recipe(&text, &["a.optimizer.beta2=0.95"]);
    let (a, c) = (train(&recipe, "a"), train(&recipe, "c"));
    assert_eq!((a.optimizer.beta2.value, a.optimizer.lr.value), (0.95, 3e-4));
    assert_eq!(c.optimizer.beta2.value, 0.999);
}

#[test]
fn what_is_wanted_is_asked_for_once() {
    let checked = run(WORDS, &[]);
    let wanted: Vec<String> = checked.wants.iter().map(|want| format!("{want:?}")).collect();
    assert_eq!(
        wanted,
        [
            r#"Path("base")"#,
            r#"Path("recipes/pairs.jsonl")"#,
            r#"Path("recipes/words.jsonl")"#,
            r#"Model("base")"#,
            r#"Tokenizer("base")"#,
            r#"Rows("recipes/pairs.jsonl")"#,
            r#"Rows("recipes/words.jsonl")"#,
        ]
    );
}

#[test]
fn turns_become_jinja() {
    let text = "adapt 1\nmodel base \"base\"\ntemplate t { turns { user \"U {content}\"; assistant \"A {content}{eos}\" } }\ngenerate g { model base; prompt \"x\"; template t }\n";
    let recipe = recipe(text, &[]);
    assert!(recipe.templates[0].jinja.value.contains("{% generation %}"));
    assert_eq!(recipe.templates[0].jinja.origin, Origin::Derived);
}

#[test]
fn what_is_found_in_a_used_file_says_where_that_is_used() {
    let mut facts = Facts::default();
    facts.texts.insert("a.kdl".into(), "adapt 1\nuse \"b.kdl\"\n".into());
    facts.texts.insert("b.kdl".into(), "adapt 1\ndefaults { epcohs 1 }\n".into());
    let text = "adapt 1\nuse \"a.kdl\"\n";
    let checked = check(&Input { path: "r.kdl", text, sets: &[] }, &facts);
    let found = checked.diagnostics.iter().find(|found| found.code == "unknown-option").expect("it is found");
    let places: Vec<&str> = found
        .labels
        .iter()
        .filter(|label| label.message == "used from here")
        .map(|label| checked.sources[label.span.source.0 as usize].path.as_str())
        .collect();
    assert_eq!(places, ["a.kdl", "r.kdl"], "the nearest first");
}

#[test]
fn models_without_a_common_ancestor_are_shown_where_they_begin() {
    let text = "adapt 1\nmodel read \"base\"\ntokenizer t \"base\"\n\
        model made \"new:gpt2\" { tokenizer t; config { n_embd 64; n_head 4 } }\n\
        merge both { method linear; from made weight=1; from read weight=1 }\n";
    let checked = run(text, &[]);
    let found = checked.diagnostics.iter().find(|found| found.code == "unrelated-models");
    let labels: Vec<(&str, &str)> = found
        .expect("one is new")
        .labels
        .iter()
        .map(|label| (&text[label.span.start as usize..label.span.end as usize], label.message.as_str()))
        .collect();
    let expected = [
        ("read", "of another ancestor"),
        ("made", "merged with this"),
        ("\"new:gpt2\"", "begins with random weights"),
        ("\"base\"", "begins with trained ones"),
    ];
    assert_eq!(labels, expected);
}
