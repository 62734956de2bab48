//! Recipes in `tests/ui` against the diagnostics that their lines announce.
//!
//! A line with `// error: [code] ‹text›` or `// warning: [code] ‹text›` expects such a diagnostic whose
//! primary label begins on it and covers exactly that text; one line may expect several.
//! `ADAPT_BLESS=1` fills in the text where a mark has none. `// set: PATH=VALUE` adds an argument of
//! `--set`, `// set-error: [code]` expects a diagnostic in one. Facts stand in a sibling
//! `NAME.facts.json`; files that are used stand in it as texts, and `// file-error: [code]` expects
//! a diagnostic in one of them. `// note: …` expects a note on where a value came from, in its words; all
//! such notes of a case stand in it. A case with the line `// no fixes` gets none.

mod common;

use common::{files, root};
use lang::diagnostic::{Diagnostic, Fix, Severity};
use lang::facts::Facts;
use lang::source::{Source, SourceKind};
use lang::{Checked, Input, check};
use std::collections::BTreeSet;
use std::path::Path;

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

    /// The case with a fix applied.
    fn with(&self, fix: &Fix) -> Self {
        let mut text = self.text.clone();
        for edit in fix.edits.iter().rev() {
            text.replace_range(edit.span.start as usize..edit.span.end as usize, &edit.text);
        }
        Self { name: self.name.clone(), text, facts: self.facts.clone(), sets: self.sets.clone() }
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

fn cases() -> Vec<Case> {
    files(root().join("tests/ui"), "kdl").iter().map(|path| Case::read(path)).collect()
}

/// What a diagnostic is known by: its line, its severity, its code and the characters that it points at.
type Mark = (String, &'static str, String, String);

/// The words that begin a mark, with the place that they mean when it is not their own line.
const KINDS: [(&str, Option<&str>, &str); 6] = [
    ("// error: [", None, "error"),
    ("// warning: [", None, "warning"),
    ("// set-error: [", Some("set"), "error"),
    ("// set-warning: [", Some("set"), "warning"),
    ("// file-error: [", Some("file"), "error"),
    ("// file-warning: [", Some("file"), "warning"),
];

fn expected(text: &str) -> BTreeSet<Mark> {
    let lines = text.lines().enumerate();
    lines.flat_map(|(number, line)| marks_of(&(number + 1).to_string(), line)).collect()
}

fn marks_of(number: &str, line: &str) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (word, place, severity) in KINDS {
        for (_, rest) in line.match_indices(word).map(|(at, _)| line.split_at(at + word.len())) {
            let (code, rest) = rest.split_once(']').expect("a mark ends with its code");
            let pointed = rest.strip_prefix(" ‹").and_then(|rest| rest.split_once('›'));
            let pointed = pointed.map_or(String::new(), |(text, _)| text.to_owned());
            marks.push((place.unwrap_or(number).to_owned(), severity, code.to_owned(), pointed));
        }
    }
    marks
}

fn found(checked: &Checked) -> BTreeSet<Mark> {
    let mark = |found: &Diagnostic| {
        let place = place(found, &checked.sources);
        (place, severity(found), found.code.clone(), pointed(found, &checked.sources))
    };
    checked.diagnostics.iter().map(mark).collect()
}

/// The characters under the primary label, on one line.
fn pointed(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let at = diagnostic.primary();
    let text = &sources[at.source.0 as usize].text[at.start as usize..at.end as usize];
    text.chars().take(48).map(|c| if c.is_control() || matches!(c, '‹' | '›') { '␤' } else { c }).collect()
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

#[test]
fn a_fix_removes_what_it_is_for() {
    let mut wrong = String::new();
    for case in cases() {
        let before = case.check().diagnostics;
        for found in &before {
            let count = |all: &[Diagnostic]| {
                all.iter()
                    .filter(|other| (&other.code, &other.message) == (&found.code, &found.message))
                    .count()
            };
            let in_recipe = |fix: &&Fix| fix.edits.iter().all(|edit| edit.span.source.0 == 0);
            for fix in found.fixes.iter().filter(in_recipe) {
                if count(&case.with(fix).check().diagnostics) >= count(&before) {
                    wrong += &format!("{}: `{}` leaves `{}`\n", case.name, fix.title, found.message);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_is_not_certain_has_no_fix() {
    let wrong = cases().into_iter().filter(|case| case.text.lines().any(|line| line == "// no fixes"));
    let fixes = |case: &Case| case.check().diagnostics.into_iter().flat_map(|found| found.fixes).next();
    let wrong: Vec<String> =
        wrong.filter_map(|case| Some(format!("{}: `{}`", case.name, fixes(&case)?.title))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a mark leaves open what is pointed at: one that stands inside the text that it is about.
fn any(mark: &Mark, expected: &BTreeSet<Mark>) -> bool {
    expected.contains(&wild(mark.clone()))
}

fn wild(mark: Mark) -> Mark {
    (mark.0, mark.1, mark.2, "*".to_owned())
}

/// The beginning of a mark for a note.
const NOTE: &str = "// note: ";

/// Words of notes on where a value came from that its node does not write.
const ORIGINS: [&str; 3] = [" is not written; ", "` from `defaults`", "`, with `like=`"];

/// The notes on origins that a case announces, with those that it gets.
fn notes(case: &Case, checked: &Checked) -> [BTreeSet<String>; 2] {
    let announced = case.text.lines().filter_map(|line| line.trim().strip_prefix(NOTE)).map(str::to_owned);
    let all = checked.diagnostics.iter().flat_map(|found| &found.notes);
    let found = all.filter(|note| ORIGINS.iter().any(|word| note.contains(word))).cloned();
    [announced.collect(), found.collect()]
}

#[test]
fn a_finding_says_where_a_value_came_from_that_nobody_wrote() {
    let mut wrong = String::new();
    for case in cases() {
        let [announced, found] = notes(&case, &case.check());
        let missing = announced.difference(&found).map(|note| format!("  missing    {note}\n"));
        let surplus = found.difference(&announced).map(|note| format!("  unexpected {note}\n"));
        let lines: String = missing.chain(surplus).collect();
        if lines.is_empty() {
            continue;
        }
        wrong += &format!("{}\n{lines}", case.name);
        if std::env::var_os("ADAPT_BLESS").is_some() {
            let lines = found.difference(&announced).map(|note| format!("{NOTE}{note}\n"));
            let text = format!("{}{}", case.text, lines.collect::<String>());
            std::fs::write(root().join("tests/ui").join(&case.name), text).expect("a case is writable");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Says how a case differs from what it announces.
fn compare(case: &Case) -> Option<String> {
    let checked = case.check();
    let (expected, mut found) = (expected(&case.text), found(&checked));
    found = found.into_iter().map(|mark| if any(&mark, &expected) { wild(mark) } else { mark }).collect();
    if expected == found && checked.diagnostics.len() >= expected.len() {
        return None;
    }
    if std::env::var_os("ADAPT_BLESS").is_some() {
        case.bless(&expected, &found);
    }
    let missing = expected.difference(&found).map(|mark| format!("  missing    {mark:?}\n"));
    let surplus = found.difference(&expected).map(|mark| format!("  unexpected {mark:?}\n"));
    let lines: String = missing.chain(surplus).collect();
    let messages = checked.diagnostics.iter().map(|found| format!("    {}: {}\n", found.code, found.message));
    Some(format!("{}\n{lines}{}", case.name, messages.collect::<String>()))
}

impl Case {
    /// Writes the characters that are pointed at into marks that lack them; `ADAPT_BLESS=1` asks for it.
    ///
    /// Places and codes are the author's: a mark that is missing or wrong stays so.
    fn bless(&self, expected: &BTreeSet<Mark>, found: &BTreeSet<Mark>) {
        let mut lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        for (place, severity, code, pointed) in found.difference(expected) {
            let word = KINDS.iter().find(|(_, of, kind)| {
                kind == severity && of.map_or(place.parse::<usize>().is_ok(), |of| of == place)
            });
            let bare = format!("{}{code}]", word.expect("every place has its word").0);
            let own = place.parse::<usize>().ok();
            let mut at = lines.iter_mut().enumerate().filter(|(at, _)| own.is_none_or(|own| own == at + 1));
            if let Some((_, line)) = at.find(|(_, line)| bare_mark(line, &bare).is_some()) {
                let end = bare_mark(line, &bare).expect("it was just found");
                line.insert_str(end, &format!(" ‹{pointed}›"));
            }
        }
        let path = root().join("tests/ui").join(&self.name);
        std::fs::write(path, lines.join("\n") + "\n").expect("a case is writable");
    }
}

/// Where a mark without characters ends.
fn bare_mark(line: &str, mark: &str) -> Option<usize> {
    let ends = line.match_indices(mark).map(|(at, _)| at + mark.len());
    ends.into_iter().find(|&end| !line[end..].starts_with(" ‹"))
}
