//! Names for what a recipe declares, and sources, from the ids and paths of the file.

use std::collections::BTreeSet;

/// Names that would read oddly or are words of the language.
const RESERVED: [&str; 9] = ["defaults", "none", "true", "false", "null", "inf", "nan", "base", "union"];

/// Hub models that were once named without an owner.
const OLD_NAMES: [(&str, &str); 6] = [
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("distilgpt2", "distilbert/distilgpt2"),
    ("wikitext", "Salesforce/wikitext"),
];

/// Words that stand before a slash as folders, not as owners of the Hub.
const FOLDERS: [&str; 12] = [
    "data",
    "dataset",
    "datasets",
    "model",
    "models",
    "checkpoints",
    "out",
    "output",
    "outputs",
    "results",
    "saves",
    "train",
];

/// Hands out names, each once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    used: BTreeSet<String>,
}

impl Names {
    /// Returns a name made from an id or a path; `other` stands in when nothing is left of it.
    pub fn of(&mut self, id: &str, other: &str) -> String {
        let name = stem(id);
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !RESERVED.contains(&name.as_str());
        let name = match (fits, name.is_empty()) {
            (true, _) => name,
            (false, true) => other.to_owned(),
            (false, false) => format!("{other}-{name}"),
        };
        self.free(&name)
    }

    /// Returns a name, with a number behind it when it is taken.
    pub fn free(&mut self, name: &str) -> String {
        let numbered = (2..).map(|at| format!("{name}-{at}"));
        let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !self.used.contains(name));
        let free = free.expect("there are more numbers than names");
        self.used.insert(free.clone());
        free
    }
}

/// The last part of an id or a path, as a name: small letters, digits, `-` and `_`.
fn stem(id: &str) -> String {
    let last = id.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let endings = [".jsonl", ".json", ".parquet", ".csv", ".txt", ".arrow", ".gz", ".zst"];
    let mut last = last;
    while let Some(short) = endings.iter().find_map(|ending| last.strip_suffix(ending)) {
        last = short;
    }
    let words = last.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() || c == '_' => c.to_ascii_lowercase(),
        _ => '-',
    });
    let mut name = String::new();
    for c in words {
        if c != '-' || !(name.is_empty() || name.ends_with('-')) {
            name.push(c);
        }
    }
    shortened(&name).trim_end_matches('-').to_owned()
}

/// Cuts a name that is too long to read, between its words.
fn shortened(name: &str) -> &str {
    const LONGEST: usize = 40;
    if name.len() <= LONGEST {
        return name;
    }
    let cut = &name[..LONGEST];
    cut.rfind('-').map_or(cut, |at| &cut[..at])
}

/// Returns how a recipe names a model, tokenizer or dataset: a Hub id as `hf:owner/name`, a path as it is.
pub(crate) fn source(id: &str) -> String {
    if let Some((_, now)) = OLD_NAMES.iter().find(|(old, _)| *old == id) {
        return format!("hf:{now}");
    }
    if is_hub_id(id) { format!("hf:{id}") } else { id.to_owned() }
}

/// Whether an id is `owner/name` and not a path.
pub(crate) fn is_hub_id(id: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let endings = [".jsonl", ".json", ".parquet", ".csv", ".txt", ".arrow", ".gz", ".zst"];
    let has_ending = endings.iter().any(|ending| id.ends_with(ending));
    match id.split_once('/') {
        Some((owner, name)) => part(owner) && part(name) && !has_ending && !FOLDERS.contains(&owner),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_last_part() {
        let mut names = Names::default();
        for (id, expected) in [
            ("mistralai/Mistral-7B-v0.1", "mistral-7b-v0-1"),
            ("./curr-model", "curr-model"),
            ("./curr-model/", "curr-model-2"),
            ("data/prepared.instr.jsonl.gz", "prepared-instr"),
            ("70b-layered", "model-70b-layered"),
            ("..", "model"),
            ("none", "model-none"),
        ] {
            assert_eq!(names.of(id, "model"), expected);
        }
    }

    #[test]
    fn hub_ids_are_told_from_paths() {
        assert_eq!(source("mistralai/Mistral-7B-v0.1"), "hf:mistralai/Mistral-7B-v0.1");
        assert_eq!(source("gpt2"), "hf:openai-community/gpt2");
        for path in
            ["./a/b", "../a", "/a/b", "a/b/c", "data.jsonl", "data/x.jsonl", "curr-model", "~/x", "data/x"]
        {
            assert_eq!(source(path), path);
        }
    }
}
