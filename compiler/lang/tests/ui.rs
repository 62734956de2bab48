//! Recipes in `tests/ui` against the diagnostics that their lines announce.
//!
//! A line with `// error: [code]` or `// warning: [code]` expects such a diagnostic whose primary
//! label begins on it; one line may expect several. `// set: PATH=VALUE` adds an argument of
//! `--set`, `// set-error: [code]` expects a diagnostic in one. Facts stand in a sibling
//! `NAME.facts.json`; files that are used stand in it as texts, and `// file-error: [code]` expects
//! a diagnostic in one of them.

use lang::diagnostic::{Diagnostic, Severity};
use lang::facts::Facts;
use lang::source::{Source, SourceKind};
use lang::{Checked, Input, check};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One case: a recipe, its facts and its `--set` arguments.
struct Case {
    name: String,
    text: String,
    facts: Facts,
    sets: Vec<String>,
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a case is readable");
        let name = path
            .strip_prefix(root().join("tests/ui"))
            .expect("cases stand in tests/ui")
            .display()
            .to_string();
        let sets = text.lines().filter_map(|line| line.trim().strip_prefix("// set: ")).map(str::to_owned);
        Self { name, sets: sets.collect(), facts: read_facts(&path.with_extension("facts.json")), text }
    }

    fn check(&self) -> Checked {
        check(&Input { path: "recipe.kdl", text: &self.text, sets: &self.sets }, &self.facts)
    }
}

/// Reads facts of which most parts may be left out.
fn read_facts(path: &Path) -> Facts {
    let Ok(text) = std::fs::read_to_string(path) else { return Facts::default() };
    let mut value = serde_json::to_value(Facts::default()).expect("facts are JSON");
    let partial: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    for (key, part) in partial.as_object().expect("facts are an object") {
        value[key] = part.clone();
    }
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn files(folder: PathBuf, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let path = entry.expect("an entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn cases() -> Vec<Case> {
    files(root().join("tests/ui"), "kdl").iter().map(|path| Case::read(path)).collect()
}

/// What a diagnostic is known by: its line, its severity and its code.
type Mark = (String, &'static str, String);

fn expected(text: &str) -> BTreeSet<Mark> {
    let lines = text.lines().enumerate();
    let marks =
        lines.flat_map(|(number, line)| line.split("//").skip(1).map(move |mark| (number + 1, mark.trim())));
    marks.filter_map(|(number, mark)| read_mark(&number.to_string(), mark)).collect()
}

fn read_mark(line: &str, mark: &str) -> Option<Mark> {
    let (kind, code) = mark.split_once(": [")?;
    let code = code.split_once(']')?.0.to_owned();
    match kind {
        "error" => Some((line.to_owned(), "error", code)),
        "warning" => Some((line.to_owned(), "warning", code)),
        "set-error" => Some(("set".to_owned(), "error", code)),
        "file-error" => Some(("file".to_owned(), "error", code)),
        _ => None,
    }
}

fn found(checked: &Checked) -> BTreeSet<Mark> {
    let mark = |found: &Diagnostic| (place(found, &checked.sources), severity(found), found.code.clone());
    checked.diagnostics.iter().map(mark).collect()
}

fn severity(diagnostic: &Diagnostic) -> &'static str {
    match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn place(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let at = diagnostic.primary();
    let source = &sources[at.source.0 as usize];
    match source.kind {
        SourceKind::Set(_) => "set".to_owned(),
        SourceKind::Recipe if at.source.0 != 0 => "file".to_owned(),
        SourceKind::Recipe => (source.text[..at.start as usize].matches('\n').count() + 1).to_string(),
    }
}

#[test]
fn every_case_gets_the_diagnostics_that_it_announces() {
    let wrong: String = cases().iter().filter_map(compare).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// Says how a case differs from what it announces.
fn compare(case: &Case) -> Option<String> {
    let checked = case.check();
    let (expected, found) = (expected(&case.text), found(&checked));
    if expected == found && checked.diagnostics.len() >= expected.len() {
        return None;
    }
    let missing = expected.difference(&found).map(|mark| format!("  missing    {mark:?}\n"));
    let surplus = found.difference(&expected).map(|mark| format!("  unexpected {mark:?}\n"));
    let lines: String = missing.chain(surplus).collect();
    let messages = checked.diagnostics.iter().map(|found| format!("    {}: {}\n", found.code, found.message));
    Some(format!("{}\n{lines}{}", case.name, messages.collect::<String>()))
}
