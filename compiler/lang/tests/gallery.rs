//! The recipes of `recipes/`: each checks, says what it is, has its sources in its lock file, and
//! holds the numbers of the system that it comes from.

use lang::facts::{Facts, Want};
use lang::lock::{self, Kind, Lock};
use lang::resolved::{Resolved, ResolvedNode};
use lang::{Checked, Input, check};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All recipes, as paths from the root, and the folders of systems among them.
fn recipes() -> (Vec<String>, BTreeSet<String>) {
    let entries = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).expect("the folder is there");
        entries.map(|entry| entry.expect("an entry is readable").path()).collect::<Vec<_>>()
    };
    let name = |path: &Path| path.file_name().expect("it has a name").to_string_lossy().into_owned();
    let is_recipe = |path: &Path| path.extension().is_some_and(|ending| ending == "kdl");
    let (mut found, mut folders) = (Vec::new(), BTreeSet::new());
    for path in entries("recipes") {
        if is_recipe(&path) {
            found.push(format!("recipes/{}", name(&path)));
        }
        if !path.is_dir() {
            continue;
        }
        let folder = format!("recipes/{}", name(&path));
        for inner in entries(&folder).into_iter().filter(|inner| is_recipe(inner)) {
            found.push(format!("{folder}/{}", name(&inner)));
            folders.insert(folder.clone());
        }
    }
    found.sort();
    (found, folders)
}

/// The facts that hold for every recipe: the texts of the others, which some use.
fn texts() -> Facts {
    let texts = recipes().0.into_iter().map(|path| (path.clone(), read(&path)));
    Facts { texts: texts.collect(), ..Facts::default() }
}

fn checked(path: &str, facts: &Facts) -> Checked {
    check(&Input { path, text: &read(path), sets: &[] }, facts)
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').expect("it lies in a folder").0
}

fn lock(folder: &str) -> Lock {
    let path = format!("{folder}/{}", lock::FILE);
    Lock::read(&read(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a recipe wants to know, as far as the lock file of its folder knows it.
fn locked(path: &str) -> Facts {
    let (lock, mut facts) = (lock(folder(path)), texts());
    for want in checked(path, &texts()).wants {
        lock.fill(&want, &mut facts);
    }
    facts
}

/// With and without the lock file, nothing is found but what this version cannot run yet.
#[test]
fn every_recipe_checks() {
    let (recipes, folders) = recipes();
    assert!(recipes.len() >= 22 && folders.len() >= 13, "{recipes:?}");
    let mut found = BTreeSet::new();
    for path in &recipes {
        let known = folders.contains(folder(path)).then(|| locked(path));
        for facts in [Some(texts()), known].into_iter().flatten() {
            let diagnostics = checked(path, &facts).diagnostics.into_iter();
            let diagnostics = diagnostics.filter(|found| found.code != "not-yet-runnable");
            found.extend(diagnostics.map(|found| (path.clone(), found.code, found.message)));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// What it is, where it comes from, how it is run, what it needs: in this order, before anything else.
#[test]
fn every_recipe_says_what_it_is() {
    for path in recipes().0 {
        let text = read(&path);
        let comment: Vec<&str> = text.lines().take_while(|line| line.starts_with("//")).collect();
        assert!(
            text.lines().nth(comment.len()) == Some("adapt 1"),
            "{path}: the comment stands before `adapt 1`"
        );
        let at = |word: &str| comment.iter().position(|line| line.starts_with(word));
        let parts = [at("// Source:  "), at("// Run it:  adapt run "), at("// Needs:   ")];
        let [Some(source), Some(command), Some(needs)] = parts else { panic!("{path}: {parts:?}") };
        assert!(0 < source && source < command && command < needs, "{path}: {parts:?}");
        assert!(comment[command].contains(&path), "{path}: the command runs another recipe");
    }
}

/// The sources that the recipes of a folder ask for are those of its lock file, under the same keys.
#[test]
fn lock_files_hold_the_sources_of_their_recipes() {
    let (recipes, folders) = recipes();
    for folder in folders {
        let own = recipes.iter().filter(|path| self::folder(path) == folder);
        let wants = own.flat_map(|path| checked(path, &texts()).wants);
        let wanted: BTreeSet<String> = wants
            .filter_map(|want| match want {
                Want::Model(key) | Want::Tokenizer(key) | Want::Rows(key) => Some(key),
                Want::Path(_) | Want::Text(_) | Want::Hash(_) | Want::Hardware => None,
            })
            .filter(|key| key.starts_with("hf:"))
            .collect();
        let held: BTreeSet<String> = lock(&folder).sources.into_keys().collect();
        assert_eq!(wanted, held, "{folder}");
    }
}

/// Each kind has its own fields, and what a published run kept is no more than there is.
#[test]
fn lock_files_hold_only_what_is_sound() {
    for folder in recipes().1 {
        for (key, entry) in lock(&folder).sources {
            let config = |name: &str| entry.config.as_ref().and_then(|config| config.get(name));
            let ids = entry.tokenizer.as_ref().and_then(|tokenizer| tokenizer.vocab_size);
            let has_rows = !entry.columns.is_empty() && !entry.splits.is_empty();
            let is_empty = entry.columns.is_empty() && entry.splits.is_empty() && entry.measured.is_none();
            let is_sound = match entry.kind {
                Kind::Model => {
                    let rows = config("vocab_size").and_then(Json::as_u64);
                    config("model_type").is_some() && is_empty && (ids.is_none() || ids <= rows)
                }
                Kind::Tokenizer => entry.config.is_none() && ids.is_some() && is_empty,
                Kind::Dataset => entry.config.is_none() && entry.tokenizer.is_none() && has_rows,
            };
            assert!(is_sound, "{folder}, {key}: {entry:#?}");
            if let Some(measured) = &entry.measured {
                let rows: u64 = entry.splits.values().flatten().sum();
                assert!(
                    measured.kept <= rows && entry.note.is_some(),
                    "{key}: more than there is, or no note"
                );
            }
            let texts = [&entry.revision, &entry.licence, &entry.note];
            assert!(texts.into_iter().flatten().all(|text| !text.is_empty()), "{key}: an empty text");
        }
    }
}

/// What the sources say: recipe, stage, values as `adapt show` writes them.
const NUMBERS: &str = r#"
gpt2-nl/gpt2-nl dutch                  batch=64 optimizer.lr=2e-4 sequence=1024 sequence.pack=#true epochs=1
gpt2-nl/gpt2-nl chat                   batch=32 optimizer.lr=2e-5 schedule.warmup="10%" sequence=1024
gpt2-nl/gpt2-nl aligned                batch=256 optimizer.lr=5e-7 beta=0.1 sequence.prompt=512
zephyr-7b-beta/full chat               batch=128 optimizer.lr=2e-5 sequence=2048
zephyr-7b-beta/full aligned            batch=128 optimizer.lr=5e-7 beta=0.01 epochs=1
zephyr-7b-beta/qlora chat              batch=8 optimizer.lr=2e-4 lora.rank=16 lora.alpha=16 lora.dropout=0.05
zephyr-7b-beta/qlora aligned           batch=128 optimizer.lr=5e-6 lora.rank=128 lora.alpha=128 quantize=nf4
zephyr-7b-gemma/zephyr-7b-gemma chat   batch=128 optimizer.lr=2e-5 epochs=3
zephyr-7b-gemma/zephyr-7b-gemma aligned batch=128 optimizer.lr=5e-7 beta=0.05 epochs=2
gemma-7b-qlora/gemma-7b-qlora coder    batch=4 optimizer.lr=2e-4 epochs=5 lora.rank=16 sequence=2048
starchat2-15b/starchat2-15b chat       batch=128 optimizer.lr=2e-5 epochs=3
starchat2-15b/starchat2-15b aligned    batch=128 optimizer.lr=5e-7 beta=0.05 epochs=2
zephyr-141b-orpo/zephyr-141b-orpo zephyr batch=32 optimizer.lr=5e-6 optimizer.state=int8 beta=0.05 epochs=3 schedule=inverse-sqrt schedule.warmup=100 sequence=2048 sequence.prompt=1792
constitutional-ai/constitutional-ai harmless batch=256 optimizer.lr=2e-5 epochs=1
constitutional-ai/constitutional-ai aligned batch=16 optimizer=rmsprop optimizer.lr=5e-7 schedule=linear beta=0.1 epochs=3
constitutional-ai/constitutional-ai grok batch=256 optimizer.lr=2e-5 sequence=2048
pref-align-scan/pref-align-scan zephyr-aligned batch=128 optimizer.lr=5e-7 beta=0.01 loss=sigmoid
pref-align-scan/pref-align-scan hermes-aligned batch=128 optimizer.lr=5e-7 beta=0.01 epochs=1
smollm2/smollm2 chat                   batch=128 optimizer.lr=3e-4 sequence=8192 epochs=2
smollm2/smollm2 aligned                batch=128 optimizer.lr=1e-6 beta=0.5 epochs=3
smollm2/smollm2 small-chat             batch=128 optimizer.lr=0.001 sequence=8192 epochs=2
smollm2/smollm2 small-aligned          batch=128 optimizer.lr=1e-6 beta=0.5 epochs=2
smollm3/smollm3 thinker                batch=128 optimizer.lr=2e-5 optimizer.clip=0.2 epochs=5 sequence=32768 schedule.floor="10%"
smollm3/smollm3 chat                   batch=128 optimizer.lr=2e-5 loss-on=assistant epochs=5 sequence=65536
smollm3/smollm3 aligned                batch=32 optimizer.lr=1e-6 loss=apo-zero beta=0.05 sequence=24576 epochs=1
vinasmol/vinasmol vinasmol             batch=64 optimizer.lr=1e-4 optimizer.weight-decay=0.1 optimizer.beta2=0.95 tokens=2000000000 seed=20250830
vinasmol/vinasmol annealed             batch=64 optimizer.lr=1e-4 tokens=500000000 seed=20250901
vinasmol/vinasmol vi-alpaca            batch=8 optimizer.lr=2e-4 epochs=2 lora.rank=16 sequence=1024 seed=20250901
vinasmol/vinasmol vi-dialogues         batch=8 optimizer.lr=2e-4 epochs=2 lora.alpha=16
vinasmol/vinasmol vi-muri              batch=8 optimizer.lr=2e-4 epochs=1
vinasmol/vinasmol lima-chat            batch=64 optimizer.lr=1e-4 epochs=8 lora.rank=16 lora.alpha=32 sequence=2048 seed=1337
vinasmol/eeve new-words                optimizer.lr=0.001 tokens=200000000 train="new-rows" batch=64
vinasmol/eeve all-words                optimizer.lr=5e-4 tokens=200000000 train="embed_tokens"
vinasmol/eeve everything               optimizer.lr=2e-4 tokens=1200000000
vinasmol/eeve layers-only              optimizer.lr=1e-4 tokens=400000000 train="layers"
vinasmol/vinasmol vi-merge             method=dare-ties method.normalize=#true method.lambda=1 base=vinasmol
vinasmol/vinasmol final                method=della-linear method.normalize=#true method.lambda=1
aguila-7b/aguila-7b aguila             tokens=26000000000
aguila-7b/sft instruct                 batch=8 optimizer.lr=2e-4 optimizer.weight-decay=1e-6 epochs=2 lora.rank=64 lora.alpha=16 lora.dropout=0.05 schedule.warmup=10 quantize=nf4
llama2lang/sft chat                    batch=4 optimizer.lr=2e-4 optimizer.weight-decay=0.001 optimizer.clip=0.3 epochs=2 lora.rank=64 lora.dropout=0.1 schedule=constant sequence=512
llama2lang/dpo aligned                 batch=4 optimizer.lr=5e-5 beta=0.1 schedule=cosine schedule.warmup=100 lora.alpha=16
"#;

/// Returns the text of a stage's argument or property: `batch`, `optimizer.lr`.
fn value(resolved: &Resolved, stage: &str, path: &str) -> Option<String> {
    let is_stage = |node: &&ResolvedNode| node.head.split_once(' ').is_some_and(|(_, name)| name == stage);
    let stage = resolved.nodes.iter().find(is_stage)?;
    let (child, key) = path.split_once('.').map_or((path, None), |(child, key)| (child, Some(key)));
    let child = stage.children.iter().find(|node| node.head == child)?;
    child.values.iter().find(|value| value.key == key).map(|value| value.text.clone())
}

#[test]
fn recipes_hold_the_numbers_of_their_sources() {
    let mut wrong = Vec::new();
    for line in NUMBERS.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let mut next = || words.next().expect("a line names a recipe and a stage");
        let (path, stage) = (format!("recipes/{}.kdl", next()), next());
        let resolved = checked(&path, &texts()).resolved;
        for (path_of, expected) in words.map(|word| word.split_once('=').expect("a path and a value")) {
            let found = value(&resolved, stage, path_of);
            if found.as_deref() != Some(expected) {
                wrong.push(format!("{path} {stage}.{path_of}: {found:?}, not {expected}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// What the comments advise to set can be set.
#[test]
fn values_that_comments_name_can_be_set() {
    let advised = [
        ("gemma-7b-qlora/gemma-7b-qlora", vec!["batch=16"], "coder", "batch", "16"),
        ("pref-align-scan/pref-align-scan", vec!["loss=ipo", "beta=0.3"], "hermes-aligned", "beta", "0.3"),
        (
            "pref-align-scan/pref-align-scan",
            vec!["zephyr-aligned.sequence=1024"],
            "zephyr-aligned",
            "sequence",
            "1024",
        ),
        (
            "vinasmol/vinasmol",
            vec!["vinasmol.batch=256", "vinasmol.lr=2e-4", "vinasmol.floor=0.05"],
            "vinasmol",
            "schedule.floor",
            "\"5%\"",
        ),
    ];
    for (name, sets, stage, path_of, expected) in advised {
        let (path, sets) =
            (format!("recipes/{name}.kdl"), sets.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let checked = check(&Input { path: &path, text: &read(&path), sets: &sets }, &texts());
        assert_eq!(checked.errors(), 0, "{path} {sets:?}");
        assert_eq!(value(&checked.resolved, stage, path_of).as_deref(), Some(expected), "{path} {sets:?}");
        for set in &sets {
            assert!(read(&path).contains(set.as_str()), "{path}: no comment advises {set}");
        }
    }
}

/// Returns a property of all children of one kind, in the order written.
fn all(resolved: &Resolved, name: &str, head: &str, key: &str) -> Vec<String> {
    let is_named = |node: &&ResolvedNode| node.head.split_once(' ').is_some_and(|(_, own)| own == name);
    let node = resolved.nodes.iter().find(is_named).unwrap_or_else(|| panic!("{name} is declared"));
    let values = node.children.iter().filter(|child| child.head == head).flat_map(|child| &child.values);
    values.filter(|value| value.key == Some(key)).map(|value| value.text.clone()).collect()
}

/// Weights of mixes and numbers of merges stand on lines of their own.
#[test]
fn mixes_and_merges_hold_the_numbers_of_their_sources() {
    let resolved = checked("recipes/vinasmol/vinasmol.kdl", &texts()).resolved;
    assert_eq!(all(&resolved, "corpus", "take", "weight"), ["0.55", "0.4", "0.05"]);
    assert_eq!(all(&resolved, "annealing-corpus", "take", "weight"), ["0.32", "0.25", "0.03", "0.4"]);
    assert_eq!(all(&resolved, "vi-merge", "from", "weight"), ["0.2", "0.5", "0.5"]);
    assert_eq!(all(&resolved, "vi-merge", "from", "density"), ["0.3", "0.6", "0.6"]);
    assert_eq!(all(&resolved, "final", "from", "weight"), ["0.7", "0.05", "0.25"]);
    assert_eq!(all(&resolved, "final", "from", "density"), ["0.8", "0.5", "0.5"]);
    assert_eq!(all(&resolved, "final", "from", "epsilon"), ["0.15", "0.4", "0.4"]);

    let resolved = checked("recipes/smollm3/smollm3.kdl", &texts()).resolved;
    let fractions = all(&resolved, "conversations", "take", "fraction");
    let less: Vec<&str> = fractions.iter().map(String::as_str).filter(|share| *share != "\"100%\"").collect();
    assert_eq!(fractions.len(), 25);
    assert_eq!(less, ["\"50%\"", "\"50%\"", "\"40%\"", "\"30%\"", "\"2%\""]);
    assert_eq!(all(&resolved, "pairs", "take", "fraction"), ["\"50%\"", "\"25%\""]);

    let resolved = checked("recipes/constitutional-ai/constitutional-ai.kdl", &texts()).resolved;
    assert_eq!(all(&resolved, "cheeky-chat", "take", "fraction"), ["\"15%\"", "\"100%\""]);
}

/// 6,854,619,456 frozen parameters and 130,547,712 of an adapter, 11,864 steps: as published.
#[test]
fn the_lock_of_aguila_gives_its_published_figures() {
    let sources = lock("recipes/aguila-7b").sources;
    let config = sources["hf:projecte-aina/aguila-7b"].config.as_ref().expect("the lock has its config");
    let field = |name: &str| config[name].as_u64().expect("a number");
    let (hidden, layers, heads, rows) =
        (field("hidden_size"), field("n_layer"), field("n_head"), field("vocab_size"));
    let head = hidden / heads;
    // One key and one value head; the MLP is four times as wide; one norm of two vectors per layer.
    let fused = hidden + 2 * head;
    let linear = [(hidden, fused), (hidden, hidden), (hidden, 4 * hidden), (4 * hidden, hidden)];
    let weights: u64 = linear.iter().map(|(input, output)| input * output).sum();
    let sides: u64 = linear.iter().map(|(input, output)| input + output).sum();
    assert_eq!(layers * (weights + 2 * hidden) + 2 * hidden + rows * hidden, 6_854_619_456);
    assert_eq!(64 * sides * layers, 130_547_712);
    let measured = sources["hf:MBZUAI/Bactrian-X#es"].measured.as_ref().expect("the lock has its rows");
    assert_eq!((measured.sequence, measured.kept * 2 / 8), (2048, 11_864));
}
