//! What became of every key, and how that is shown.

use crate::problem::Place;
use crate::yaml::{Node, Value};
use lang::diagnostic::visible;
use std::collections::HashMap;
use std::fmt::Write as _;

/// One key of the file and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The dotted path in the file, with list positions from 0: `datasets[0].type`.
    pub key: String,
    pub line: u32,
    pub outcome: Outcome,
    /// One clause: how it is said in the recipe, or why it is not.
    pub why: String,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The recipe says the same, or means it by default.
    Carried,
    /// The recipe says something near to it.
    Changed,
    /// The recipe says nothing of it.
    NoCounterpart,
    /// The tool does not know it either, so it was never in effect.
    Unknown,
    /// It is written without a value, which is the same as not writing it.
    Empty,
    /// It is written again further down, and the last one wins.
    Repeated,
}

/// Accounts for the keys of a file while it is read.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Line>,
    /// Where the values stand.
    values: HashMap<String, Place>,
    index: HashMap<String, usize>,
}

/// One key while the file is read.
#[derive(Debug)]
struct Line {
    key: String,
    at: Place,
    stated: Option<(Outcome, String)>,
    kind: Kind,
}

/// What stands behind a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    Empty,
    /// A mapping, or a list that holds one: its keys have entries of their own.
    Parent,
    Repeated,
}

impl Ledger {
    /// Enters every key of a document under a prefix.
    pub fn enter(&mut self, node: &Node, prefix: &str) {
        for pair in node.pairs() {
            let path = join(prefix, &pair.key);
            for place in &pair.earlier {
                let why = format!("written again on line {}, which wins", pair.at.line);
                self.repeated(path.clone(), *place, why);
            }
            for (below, place) in &pair.lost {
                let why = format!("its parent is written again on line {}, which wins", pair.at.line);
                let path = format!("{path}{below}");
                self.repeated(path, *place, why);
            }
            self.index.insert(path.clone(), self.entries.len());
            self.values.insert(path.clone(), pair.value.at);
            let kind = match &pair.value.value {
                Value::Null => Kind::Empty,
                _ if holds_keys(&pair.value) => Kind::Parent,
                _ => Kind::Scalar,
            };
            self.entries.push(Line { key: path.clone(), at: pair.at, stated: None, kind });
            if pair.key == "<<" {
                self.mark(&path, Outcome::Carried, "its keys stand here as if they were written");
                self.below_merge(&pair.value, &path);
            } else {
                self.enter(&pair.value, &path);
            }
        }
        for (at, item) in node.items().iter().enumerate() {
            self.enter(item, &format!("{prefix}[{at}]"));
        }
    }

    /// Enters a key that does not count, since it is written again.
    fn repeated(&mut self, key: String, at: Place, why: String) {
        self.entries.push(Line { key, at, stated: Some((Outcome::Repeated, why)), kind: Kind::Repeated });
    }

    /// The keys under `<<` were entered where they act; here they are named once more.
    fn below_merge(&mut self, node: &Node, path: &str) {
        let first = self.entries.len();
        self.enter(node, path);
        for entry in &mut self.entries[first..] {
            entry
                .stated
                .get_or_insert((Outcome::Carried, "stands in the mapping that it is merged into".into()));
        }
    }

    /// States what became of a key; the first statement stays.
    pub fn mark(&mut self, path: &str, outcome: Outcome, why: impl Into<String>) {
        if let Some(&at) = self.index.get(path) {
            self.entries[at].stated.get_or_insert((outcome, why.into()));
        }
    }

    /// Returns where a key stands.
    pub fn place(&self, path: &str) -> Option<Place> {
        self.index.get(path).map(|&at| self.entries[at].at)
    }

    /// Returns where the value of a key stands.
    pub fn value_place(&self, path: &str) -> Option<Place> {
        self.values.get(path).copied()
    }

    /// Returns the keys with their places, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = (&str, Place)> {
        self.entries
            .iter()
            .filter(|entry| entry.kind != Kind::Repeated)
            .map(|entry| (entry.key.as_str(), entry.at))
    }

    /// Returns the keys that nothing was stated of: path, and whether they are empty.
    pub fn open(&self) -> Vec<(String, bool)> {
        let open = self.entries.iter().filter(|entry| entry.stated.is_none() && entry.kind != Kind::Parent);
        open.map(|entry| (entry.key.clone(), entry.kind == Kind::Empty)).collect()
    }

    /// Returns the parents that nothing was stated of.
    pub fn open_parents(&self) -> Vec<String> {
        let open = self.entries.iter().filter(|entry| entry.stated.is_none() && entry.kind == Kind::Parent);
        open.map(|entry| entry.key.clone()).collect()
    }

    /// Returns what was stated of a key.
    pub fn stated(&self, path: &str) -> Option<(Outcome, String)> {
        self.index.get(path).and_then(|&at| self.entries[at].stated.clone())
    }

    /// Returns what was stated of the keys below a key.
    pub fn below(&self, path: &str) -> Vec<Outcome> {
        let is_below = |key: &str| {
            key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
        };
        let below = self.entries.iter().filter(|entry| is_below(&entry.key));
        below.filter_map(|entry| entry.stated.as_ref().map(|(outcome, _)| *outcome)).collect()
    }

    /// Turns the account into the report.
    pub fn finish(self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .entries
            .into_iter()
            .map(|Line { key, at, stated, .. }| {
                // Only a key that cannot be told from another by its path was not asked for.
                let nameless = || (Outcome::Unknown, "a key without a name".to_owned());
                let (outcome, why) = stated.unwrap_or_else(nameless);
                Entry { key, line: at.line, outcome, why }
            })
            .collect();
        entries.sort_by_key(|entry| entry.line);
        entries
    }
}

pub(crate) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn holds_keys(node: &Node) -> bool {
    !node.pairs().is_empty() || node.items().iter().any(holds_keys)
}

/// Says of a parent what became of it when only its keys were read.
pub(crate) const BY_ITS_KEYS: &str = "by its keys";

/// Writes a report for the terminal: by outcome, aligned, keys of one reason on one line.
pub fn render(report: &[Entry]) -> String {
    let groups = [
        (Outcome::Changed, "changed"),
        (Outcome::NoCounterpart, "not carried over"),
        (Outcome::Unknown, "never in effect"),
        (Outcome::Repeated, "written twice"),
        (Outcome::Carried, "carried over"),
        (Outcome::Empty, "without a value"),
    ];
    let report: Vec<Entry> = report.iter().map(shown).collect();
    let mut out = String::new();
    for (outcome, title) in groups {
        let entries: Vec<&Entry> =
            report.iter().filter(|entry| entry.outcome == outcome && entry.why != BY_ITS_KEYS).collect();
        if entries.is_empty() {
            continue;
        }
        let _ = writeln!(out, "{title} ({}):", entries.len());
        if matches!(outcome, Outcome::Carried | Outcome::Empty) {
            wrap(&mut out, entries.iter().map(|entry| entry.key.as_str()));
        } else {
            explain(&mut out, &entries);
        }
    }
    out
}

/// An entry as it can be printed: keys and values of the file may hold any character.
fn shown(entry: &Entry) -> Entry {
    Entry { key: visible(entry.key.clone()), why: visible(entry.why.clone()), ..*entry }
}

/// Writes one line per reason, with the keys that share it before it.
fn explain(out: &mut String, entries: &[&Entry]) {
    let mut reasons: Vec<(String, &str, u32)> = Vec::new();
    for entry in entries {
        match reasons.iter_mut().find(|(_, why, _)| *why == entry.why) {
            Some((keys, ..)) => *keys += &format!(", {}", entry.key),
            None => reasons.push((entry.key.clone(), &entry.why, entry.line)),
        }
    }
    let short = reasons.iter().map(|(keys, ..)| keys.chars().count()).filter(|&width| width <= 32);
    let width = short.max().unwrap_or(0);
    let digits = reasons.iter().map(|(.., line)| line.to_string().len()).max().unwrap_or(1);
    for (keys, why, line) in reasons {
        if keys.chars().count() <= width {
            let _ = writeln!(out, "  {line:>digits$}  {keys:<width$}  {why}");
        } else {
            let _ = writeln!(out, "  {line:>digits$}  {keys}");
            let _ = writeln!(out, "  {:digits$}  {:width$}  {why}", "", "");
        }
    }
}

/// Writes words in lines of at most 100 columns.
fn wrap<'a>(out: &mut String, words: impl Iterator<Item = &'a str>) {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && line.len() + word.len() + 4 > 100 {
            let _ = writeln!(out, "  {line},");
            line.clear();
        }
        if !line.is_empty() {
            line += ", ";
        }
        line += word;
    }
    let _ = writeln!(out, "  {line}");
}
