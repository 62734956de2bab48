//! `import`: what becomes a recipe is one that checks and is formatted; what does not is refused with reasons
//! at their places; the same file gives the same.

use crate::mutate::mutate;
use crate::outcome::{Features, Finding, note, timed};
use crate::random::{Random, hash};
use crate::seeds::{root, texts};
use lang::facts::Facts;
use lang::format::format;
use lang::{Input, check};

/// What YAML 1.1 reads otherwise than people think, and what breaks it.
const TRAPS: &[&str] = &[
    "2e-5",
    "2.0e-5",
    "yes",
    "on",
    "No",
    "~",
    "null",
    "!!python/name:x",
    "!!str 1",
    "&a",
    "*a",
    "<<: *a",
    "0o17",
    "010",
    "1_000",
    ".inf",
    ".nan",
    "1:30",
    "2024-01-01",
    "[1, 2",
    "{a: b}",
    "- ",
    "? ",
    "|\n  x",
    ">-\n  x",
    "---\n",
    "...\n",
    "\t",
    "'",
    "\"",
    "#",
    ": ",
    "%YAML 1.2\n",
    "@x",
    "`x`",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "sequence_len: 4096",
    "adapter: qlora",
    "load_in_4bit: true",
    "merge_method: ties",
    "chat_template: chatml",
    "datasets:\n  - path: a/b\n",
    "learning_rate: 1e999",
    "micro_batch_size: 0",
    "num_epochs: -1",
    "base_model: ''",
    "slices:\n",
    "parameters:\n",
];

/// Files of all four dialects: our own, and those that people published where they lie beside the checkout.
pub fn fixtures() -> Vec<Vec<u8>> {
    let folders = ["compiler/import", "../shared/data/configs"].map(|folder| root().join(folder));
    folders.iter().flat_map(|folder| [texts(folder, ".yml"), texts(folder, ".yaml")].concat()).collect()
}

/// Draws a changed file: as recipes are changed, or by YAML's own traps.
pub fn input(base: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(base).into_owned();
    for _ in 0..random.below(4) {
        trap(&mut text, random);
    }
    if random.one_in(2) { mutate(text.as_bytes(), others, false, random) } else { text.into_bytes() }
}

/// Puts a trap in place of a value or a line, or changes how deep a line stands.
fn trap(text: &mut String, random: &mut Random) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return;
    }
    let at = random.below(lines.len());
    let piece = random.one(TRAPS);
    match random.below(5) {
        0 => lines.insert(at, piece.to_owned()),
        1 => drop(lines.remove(at)),
        2 => lines[at].insert_str(0, "  "),
        3 => lines.insert(at, lines[random.below(at + 1)].clone()),
        _ => {
            let key = lines[at].split_once(':').map(|(key, _)| key.to_owned());
            lines[at] = key.map_or_else(|| piece.to_owned(), |key| format!("{key}: {piece}"));
        }
    }
    *text = lines.join("\n") + "\n";
}

pub fn run(input: &[u8], features: &mut Features) -> Result<(), Finding> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(()) };
    let imported = timed(|| import::import(text, "config.yml"));
    if hash(input).is_multiple_of(4) && import::import(text, "config.yml") != imported {
        return Err(Finding::new("another import differs", text));
    }
    match imported {
        Ok(imported) => {
            let recipe = Input { path: "recipe.kdl", text: &imported.recipe, sets: &[] };
            let checked = timed(|| check(&recipe, &Facts::default()));
            checked.diagnostics.iter().for_each(|found| note(features, found));
            if checked.errors() > 0 {
                let detail = format!("{}\n{:#?}", imported.recipe, checked.diagnostics);
                return Err(Finding::new("the imported recipe has errors", detail));
            }
            if format(&imported.recipe).as_ref() != Ok(&imported.recipe) {
                return Err(Finding::new("the imported recipe is not formatted", imported.recipe));
            }
            let account = import::render(&imported.report);
            if account.contains(|c: char| c.is_control() && c != '\n') {
                return Err(Finding::new("an account with control characters", account));
            }
            features.insert(hash(format!("{:?} {}", imported.dialect, imported.report.len()).as_bytes()));
            Ok(())
        }
        Err(problems) => {
            let lies_within = |problem: &import::Problem| {
                let range = problem.start as usize..problem.end as usize;
                text.get(range).is_some()
                    && ![&problem.message, &problem.help].iter().any(|said| said.contains(char::is_control))
            };
            features.extend(problems.iter().map(|problem| {
                let words = problem.message.split('`').step_by(2).collect::<String>();
                hash(words.as_bytes())
            }));
            match problems.iter().find(|problem| !lies_within(problem)) {
                None if !problems.is_empty() => Ok(()),
                wrong => Err(Finding::new("refused without a sound reason", format!("{wrong:#?}"))),
            }
        }
    }
}
