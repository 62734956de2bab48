//! Every option of the language changes the plan: each is flipped in turn, and the tasks must differ.
//!
//! The options come from the schema, so a new one that no lowering reads fails here.

use lang::diagnostic::Severity;
mod common;

use common::{model, prepared, tokenizer};
use lang::facts::Facts;
use lang::{Input, check};
use lower::{Options, lower};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use stdlib::schema::{self, Literal, Node, Range, Type, Unit};

/// One stage or declaration of each kind, each with what it must have.
const BASE: &str = r#"adapt 1

model base "base"
model other "other"
model far "hf:owner/model"
tokenizer words "words"
tokenizer hubbed "hf:owner/words"
tokenizer letters "letters"
tokenizer trained { train bpe vocab=300 on=text }
template plain { turns { user "{content}"; assistant "{content}" } }
template jinja { jinja "{{ messages }}" }
template filed { file "t.jinja" }
dataset text "text.jsonl" { rows text }
dataset more "more.jsonl" { rows text }
dataset remote "hf:owner/data" { rows text }
dataset tasks "tasks.jsonl" { rows instruction }
dataset chats "chats.jsonl" { rows chat }
dataset held "held.jsonl" { rows chat; holdout "10%" }
dataset heldtext "heldtext.jsonl" { rows text; holdout "10%" }
dataset heldpairs "heldpairs.jsonl" { rows preference; holdout "10%" }
dataset helds "helds.jsonl" { rows labelled; holdout "10%" }
dataset pairs "pairs.jsonl" { rows preference }
dataset labels "labels.jsonl" { rows labelled }
dataset ids "ids.jsonl" { rows tokens }
dataset trees "trees.jsonl" { rows tree best=lowest }
dataset forest "forest.jsonl" { rows tree best=lowest }
dataset evaltext "evaltext.jsonl" { rows text }
dataset evalchats "evalchats.jsonl" { rows chat }
dataset evalpairs "evalpairs.jsonl" { rows preference }
dataset evallabels "evallabels.jsonl" { rows labelled }
mix both { take text weight=1; take more weight=2 }
mix weighted { take text weight=1 }
mix shared { take text fraction="50%" }
mix counted { take text rows=5 }
mix tokened { take text tokens=500 }
mix passes { take text epochs=2 }
mix all { take both weight=1; take weighted weight=1 }
mix amounts { take shared rows=5; take counted rows=5; take tokened rows=5; take passes rows=5 }
defaults { batch 8; steps 100; sequence 64; optimizer adamw lr=1e-4 }
cpt a { model base; data heldtext }
cpt from-mix { model base; data all }
cpt from-amounts { model base; data amounts }
cpt on-remote { model far; data remote }
cpt on-ids { model base; data ids }
sft b { model base; data held; template plain }
sft from-tasks { model base; data tasks; template jinja }
sft from-chats { model base; data chats; template filed; seed 7 }
dpo c { model base; data heldpairs; template plain }
dpo c2 { model base; data heldpairs; template plain; seed 7 }
orpo d { model base; data heldpairs; template plain }
kto e { model base; data helds; template plain }
kto e2 { model base; data labels; template plain }
simpo f { model base; data heldpairs; template plain }
simpo f2 { model base; data pairs; template plain }
swap-tokenizer g { model base; tokenizer words }
extend-tokenizer h { model base; add "<a>" }
swap-tokenizer g2 { model base; tokenizer hubbed }
cpt new-rows { model h; data text }
thread i { data trees; pick best-path }
thread i2 { data forest; pick best-path }
translate j { data text; from en; to nl; with base }
translate j2 { data chats; from column=lang; to nl; with base }
merge k { method della; base base; from a weight=1 density=0.5; from on-ids weight=1 density=0.5 }
merge k2 { method task-arithmetic; base base; from a weight=1 }
merge k3 { method slerp t=0.5; base base; from a }
merge k4 { method model-stock; base base; from a; from on-ids }
merge k5 { method passthrough; from a }
evaluate l { model base; data held; template plain }
generate m { model base; prompt "x"; template plain; temperature 1 }
generate n { model base; data chats; template plain }
export o { model a; to "o"; format safetensors }
publish p { model a; to "hf:owner/name" }
model fresh new:llama { tokenizer trained; config { hidden_size 64; num_attention_heads 4 } }
cpt q { model fresh; data text }
"#;

/// The name of the node of each kind whose options are flipped.
const NAMES: [(&str, &[&str]); 24] = [
    ("model", &["base", "far", "fresh"]),
    ("tokenizer", &["words", "trained", "hubbed"]),
    ("template", &["plain", "jinja", "filed"]),
    ("dataset", &["text", "remote", "tasks", "chats", "pairs", "labels", "ids", "trees"]),
    ("mix", &["both", "weighted", "shared", "counted", "tokened", "passes"]),
    // What stands in `defaults` is what stands in a stage: it is copied there before anything reads it.
    ("defaults", &[]),
    ("cpt", &["a", "new-rows"]),
    ("sft", &["b"]),
    ("dpo", &["c"]),
    ("orpo", &["d"]),
    ("kto", &["e"]),
    ("simpo", &["f"]),
    ("swap-tokenizer", &["g"]),
    ("extend-tokenizer", &["h"]),
    ("thread", &["i"]),
    ("translate", &["j", "j2"]),
    ("merge", &["k", "k2", "k3", "k4", "k5"]),
    ("evaluate", &["l"]),
    ("generate", &["m", "n"]),
    ("export", &["o"]),
    ("publish", &["p"]),
    ("adapt", &[]),
    ("use", &[]),
    ("param", &[]),
];

/// Tasks as JSON, or the codes of the errors.
fn tasks(sets: &[String]) -> Result<Value, Vec<String>> {
    let mut facts = Facts::default();
    facts.texts.insert("t.jinja".into(), "{{ messages }}".into());
    // What runs is lowered to programs, which takes a known model and prepared rows.
    facts.models.insert("base".into(), model());
    facts.tokenizers.insert("base".into(), tokenizer());
    let stages = ["a", "from-mix", "from-amounts", "b", "from-tasks", "from-chats", "c", "c2"];
    facts.prepared.extend(stages.map(|stage| (format!("data:{stage}"), prepared(500))));
    let checked = check(&Input { path: "r.kdl", text: BASE, sets }, &facts);
    let Some(recipe) = &checked.recipe else {
        let errors = checked.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        return Err(errors.map(|found| format!("{}: {}", found.code, found.message)).collect());
    };
    let lowered = lower(recipe, &checked.sources, &facts, &Options::default());
    let mut tasks = serde_json::to_value(&lowered.plan.tasks).expect("plans are plain data");
    // Figures are for people, places are where it was written.
    for task in tasks.as_array_mut().expect("a list").iter_mut().filter_map(Value::as_object_mut) {
        task.remove("figures");
        task.remove("origin");
    }
    Ok(tasks)
}

/// Values that an option may have, as `--set` takes them.
fn values(ty: &Type) -> Vec<String> {
    match ty {
        Type::Text => vec![
            "embed_tokens".into(),
            "other".into(),
            "len(text) > 1".into(),
            "hf:owner/else".into(),
            "hf:owner/third".into(),
            "{content}!".into(),
        ],
        Type::Source | Type::Path => vec!["else.jsonl".into(), "else".into()],
        Type::Bool => vec!["true".into(), "false".into()],
        Type::Literal => vec!["3".into()],
        Type::Integer(range) => numbers(*range, true),
        Type::Number(range) => numbers(*range, false),
        Type::Word(choices) => choices.iter().map(|choice| choice.name.to_owned()).collect(),
        Type::NameOr { to, words } => {
            words.iter().map(|choice| choice.name.to_owned()).chain(references(to)).collect()
        }
        Type::Reference(to) => references(to),
        Type::Quantity { units, range, .. } => {
            units.iter().flat_map(|unit| quantities(*unit, *range)).collect()
        }
    }
}

fn references(to: &str) -> Vec<String> {
    let names: &[&str] = match to {
        "model" => &["other", "base", "a", "b", "from-mix", "from-chats", "c2"],
        "tokenizer" => &["letters", "words"],
        "template" => &["jinja", "std:zephyr"],
        "data" => &[
            "more",
            "chats",
            "pairs",
            "held",
            "labels",
            "evaltext",
            "evalchats",
            "evalpairs",
            "evallabels",
            "trees",
            "forest",
        ],
        _ => &[],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn numbers(range: Range, whole: bool) -> Vec<String> {
    let tried = [0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 7.0, 48.0, 32.0, 0.001];
    let fits = |value: &f64| {
        let above = if range.above { *value > range.min } else { *value >= range.min };
        let below = if range.below { *value < range.max } else { *value <= range.max };
        above && below && (!whole || value.fract() == 0.0)
    };
    tried.into_iter().filter(fits).map(|value| value.to_string()).collect()
}

fn quantities(unit: Unit, range: Range) -> Vec<String> {
    let written = |value: String| match unit {
        Unit::Share => format!("{value}%"),
        Unit::Time => format!("{value}min"),
        unit => format!("{value} {}", unit.noun()),
    };
    match unit {
        Unit::Share => vec!["7%".into(), "40%".into(), "100%".into()],
        Unit::Ids => ["512", "600"].map(|value| written(value.into())).to_vec(),
        Unit::Tokens => ["512", "4096", "8192"].map(|value| written(value.into())).to_vec(),
        _ => numbers(Range { min: range.min.max(1.0), ..range }, true).into_iter().map(written).collect(),
    }
}

/// An option by the path of `--set`, with its values and the words beside which it has an effect.
struct Flip {
    path: String,
    values: Vec<String>,
    beside: Vec<String>,
}

/// Collects the options of a node and of all nodes in it.
fn flips(node: &'static Node, path: &str, beside: &[String], found: &mut Vec<Flip>) {
    for property in node.properties {
        let words = property.only.iter().map(|word| format!("{path}={word}"));
        let contexts: Vec<Vec<String>> = match property.only {
            [] => vec![beside.to_vec()],
            _ => words.map(|word| beside.iter().cloned().chain([word]).collect()).collect(),
        };
        for beside in contexts {
            found.push(Flip {
                path: format!("{path}.{}", property.name),
                values: values(&property.ty),
                beside,
            });
        }
    }
    for child in node.children {
        let path = format!("{path}.{}", child.name);
        // A child without a value of its own is flipped by what stands on and in it.
        let is_only_choice = |ty: &Type| matches!(ty, Type::Word([_]));
        if let Some(argument) = child.arguments.first().filter(|argument| !is_only_choice(&argument.ty)) {
            found.push(Flip { path: path.clone(), values: values(&argument.ty), beside: beside.to_vec() });
        }
        flips(child, &path, beside, found);
    }
}

/// What must be set too for an option to be legal, by the end of its path.
fn needs(path: &str) -> Vec<Vec<&'static str>> {
    let contexts: &[(&str, &[&[&str]])] = &[
        (".quantize", &[&[".lora=true"]]),
        (".quantize.double", &[&[".lora=true", ".quantize=nf4"]]),
        (".quantize.block", &[&[".lora=true", ".quantize=nf4"]]),
        (".lora.init", &[&[".lora=true", ".quantize=nf4"]]),
        (".lora.targets.rank", &[&[".lora.targets=q_proj"]]),
        (".lora.targets.alpha", &[&[".lora.targets=q_proj"]]),
        (".optimizer.group", &[&[".optimizer.group.lr=1e-3"]]),
        (".optimizer.group.lr", &[&[".optimizer.group=embed_tokens"]]),
        (".optimizer.group.weight-decay", &[&[".optimizer.group=embed_tokens"]]),
        (".sample.every", &[&[".sample.prompt=x"]]),
        (".sample.max-tokens", &[&[".sample.prompt=x"]]),
        (".stop-when.rises", &[&[".stop-when=eval_loss"]]),
        (".checkpoint.best", &[&[".checkpoint.every=5 steps"]]),
        (".checkpoint.keep", &[&[".checkpoint.every=5 steps"]]),
        (".role", &[&[".role.as=user"]]),
        (".role.as", &[&[".role=bing"]]),
        (".on-bad-row", &[&[".on-bad-row.max=3"]]),
        (".filter.threshold", &[&[".filter.is=nl"]]),
        (".filter.of", &[&[".filter.max=7"]]),
        (".init.share", &[&[".init.file=pairs.tsv"]]),
        (".label-smoothing", &[&[".loss=sigmoid"]]),
        (".loss", &[&[".label-smoothing=0.1"]]),
    ];
    let found = contexts.iter().find(|(end, _)| path.ends_with(end));
    found.map_or(vec![vec![]], |(_, sets)| {
        std::iter::once(vec![]).chain(sets.iter().map(|set| set.to_vec())).collect()
    })
}

/// Options that no recipe can flip with a single `--set`, each with the reason.
const ELSEWHERE: [(&str, &str); 3] = [
    (".schedule.from", "`lr` has to go, which `--set` cannot say; tested below"),
    ("cpt.sequence.prompt", "refused, for text has no prompt"),
    ("sft.sequence.prompt", "refused, for only rows of pairs have a prompt of their own"),
];

#[test]
fn the_base_is_sound() {
    if let Err(errors) = tasks(&[]) {
        panic!("{errors:#?}");
    }
}

#[test]
fn every_option_changes_the_plan() {
    let names: BTreeMap<&str, &[&str]> = NAMES.into_iter().collect();
    let of = |top: &'static Node| {
        let names = names.get(top.name).unwrap_or_else(|| panic!("no node of the kind `{}`", top.name));
        unflipped(top, names)
    };
    // Each flip is a whole compilation; the kinds are dealt out to two threads.
    let unflipped: Vec<String> = std::thread::scope(|scope| {
        let half = |odd: usize| schema::TOP.iter().skip(odd).step_by(2).flat_map(|top| of(top)).collect();
        let other = scope.spawn(move || half(1));
        let mut found: Vec<String> = half(0);
        found.extend(other.join().expect("the other half ends"));
        found
    });
    assert!(unflipped.is_empty(), "{} options change nothing:\n{}", unflipped.len(), unflipped.join("\n"));
}

/// Returns the options of a kind of node that change nothing.
fn unflipped(top: &'static Node, names: &[&str]) -> Vec<String> {
    let mut of_kind: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut done = BTreeSet::new();
    for name in names {
        let mut found = Vec::new();
        flips(top, name, &[], &mut found);
        for flip in found {
            let option = format!("{}{}", top.name, &flip.path[name.len()..]);
            if done.contains(&option) {
                continue;
            }
            match flipped(&flip, name) {
                Ok(()) => {
                    of_kind.remove(&option);
                    done.insert(option);
                }
                Err(errors) => of_kind.entry(option).or_default().extend(errors),
            }
        }
    }
    of_kind.retain(|option, _| !ELSEWHERE.iter().any(|(known, _)| option.ends_with(known)));
    let show = |(option, errors): (String, Vec<String>)| {
        format!("{option}: {}", errors.into_iter().take(3).collect::<Vec<_>>().join(" | "))
    };
    of_kind.into_iter().map(show).collect()
}

/// Tries the values of an option until two of them give different plans.
fn flipped(flip: &Flip, name: &str) -> Result<(), Vec<String>> {
    let mut errors = vec![format!("`{}` changed nothing", flip.path)];
    let mut seen = None;
    for context in needs(&flip.path) {
        let mut sets: Vec<String> = flip.beside.clone();
        sets.extend(context.iter().map(|set| format!("{name}{set}")));
        seen = tasks(&sets).ok().or(seen);
        for value in &flip.values {
            let mut sets = sets.clone();
            sets.push(format!("{}={value}", flip.path));
            let mut after = tasks(&sets);
            if after.as_ref().is_err_and(|errors| errors[0].starts_with("ambiguous-path")) {
                let last = sets.last_mut().expect("it was just added");
                *last = format!("*.{last}");
                after = tasks(&sets);
            }
            match after {
                Ok(after) => match &seen {
                    Some(before) if *before != after => return Ok(()),
                    _ => seen = Some(after),
                },
                Err(found) => {
                    errors.extend(found.into_iter().take(1).map(|error| format!("{value}: {error}")))
                }
            }
        }
    }
    Err(errors)
}

#[test]
fn a_rate_that_goes_on_changes_the_plan() {
    let stage = |optimizer: &str, schedule: &str| {
        let text = format!(
            "{BASE}cpt s {{ model base; data text; schedule constant }}\ncpt r {{ model s; data text; optimizer {optimizer}; schedule {schedule} }}\n"
        );
        let facts = Facts::default();
        let checked = check(&Input { path: "r.kdl", text: &text, sets: &[] }, &facts);
        let recipe = checked.recipe.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        let plan = lower(&recipe, &checked.sources, &facts, &Options::default()).plan;
        plan.task("r").expect("the stage").work.clone()
    };
    assert_ne!(stage("adamw", "cosine from=previous"), stage("adamw lr=1e-4", "cosine"));
}

/// The defaults of the schema are values of their types.
#[test]
fn a_default_that_is_written_changes_nothing() {
    let before = tasks(&[]).expect("sound");
    let mut wrong = Vec::new();
    for (kind, names) in NAMES {
        let Some(top) = schema::top(kind).filter(|_| kind != "defaults") else { continue };
        for name in names {
            // A schedule that is written has no warmup; one that is absent has.
            for child in
                top.children.iter().filter(|child| !child.absent.is_empty() && child.name != "schedule")
            {
                for property in child.properties {
                    let Some(default) = property.default.filter(|_| property.only.is_empty()) else {
                        continue;
                    };
                    let set = format!("{name}.{}.{}={}", child.name, property.name, literal(default));
                    if tasks(std::slice::from_ref(&set)).is_ok_and(|after| after != before) {
                        wrong.push(set);
                    }
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

fn literal(literal: Literal) -> String {
    match literal {
        Literal::Integer(value) => value.to_string(),
        Literal::Number(value) => value.to_string(),
        Literal::Bool(value) => value.to_string(),
        Literal::Text(text) => text.to_owned(),
    }
}
