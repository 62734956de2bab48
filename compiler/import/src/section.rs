//! Reading one file: typed access to its keys, and what is stated of them on the way.

use crate::keys::Tool;
use crate::names::Names;
use crate::problem::{Place, Problem};
use crate::report::{BY_ITS_KEYS, Ledger, Outcome, join};
use crate::yaml::{Node, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Everything that is collected while a file is read.
pub(crate) struct Import {
    pub tool: Tool,
    pub ledger: RefCell<Ledger>,
    pub problems: RefCell<Vec<Problem>>,
    pub names: RefCell<Names>,
    /// Defaults of the tool that the recipe writes because its own differ.
    pub defaults: RefCell<Vec<String>>,
    /// What must be there before the recipe runs and cannot be read from the file.
    pub needs: RefCell<Vec<String>>,
    /// Keys whose number is text to PyYAML.
    text_numbers: RefCell<BTreeSet<String>>,
}

impl Import {
    pub fn new(tool: Tool) -> Self {
        Self {
            tool,
            ledger: RefCell::default(),
            problems: RefCell::default(),
            names: RefCell::default(),
            defaults: RefCell::default(),
            needs: RefCell::default(),
            text_numbers: RefCell::default(),
        }
    }

    pub fn default(&self, text: impl Into<String>) {
        self.defaults.borrow_mut().push(text.into());
    }

    pub fn need(&self, text: impl Into<String>) {
        self.needs.borrow_mut().push(text.into());
    }

    pub fn name(&self, id: &str, other: &str) -> String {
        self.names.borrow_mut().of(id, other)
    }

    pub fn free(&self, name: &str) -> String {
        self.names.borrow_mut().free(name)
    }

    /// States something of every key that reading the file left open.
    pub fn finish(&self, documents: &[Node]) {
        let open = self.ledger.borrow().open();
        for (key, is_empty) in open {
            let node = find(documents, &key);
            let (outcome, why) = self.left_over(&key, is_empty, node);
            self.ledger.borrow_mut().mark(&key, outcome, why);
        }
        let mut parents = self.ledger.borrow().open_parents();
        // Inner ones first, so that the outer ones can sum them up.
        parents.reverse();
        for key in parents {
            let (outcome, why) = match self.inherited(&key) {
                Some(inherited) => inherited,
                None if !self.tool.knows(&key) => (Outcome::Unknown, self.tool.unknown(&key)),
                None => (self.sum(&key), BY_ITS_KEYS.to_owned()),
            };
            self.ledger.borrow_mut().mark(&key, outcome, why);
        }
    }

    fn sum(&self, key: &str) -> Outcome {
        let below = self.ledger.borrow().below(key);
        let has = |outcome| below.contains(&outcome);
        match () {
            () if below.iter().all(|outcome| *outcome == Outcome::Carried) => Outcome::Carried,
            () if has(Outcome::Carried) || has(Outcome::Changed) => Outcome::Changed,
            () => Outcome::NoCounterpart,
        }
    }

    fn left_over(&self, key: &str, is_empty: bool, node: Option<&Node>) -> (Outcome, String) {
        if let Some(inherited) = self.inherited(key) {
            return inherited;
        }
        let Some(why) = self.tool.why(key) else {
            return (Outcome::Unknown, self.tool.unknown(key));
        };
        if is_empty {
            return (Outcome::Empty, "no value: the same as not writing it".into());
        }
        if node.is_some_and(Node::is_off) {
            return (Outcome::Carried, "off, as it is here".into());
        }
        (Outcome::NoCounterpart, why.to_owned())
    }

    /// What was stated of a parent holds for its keys; a parent without keys of its own in the table
    /// is one thing, whatever stands in it.
    fn inherited(&self, key: &str) -> Option<(Outcome, String)> {
        let cuts = key.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(at, _)| at);
        for at in cuts.collect::<Vec<_>>().into_iter().rev() {
            let parent = &key[..at];
            let stated = self.ledger.borrow().stated(parent);
            if let Some((outcome, _)) = stated.filter(|(_, why)| why != BY_ITS_KEYS) {
                return Some((outcome, format!("part of `{parent}`")));
            }
            if self.ledger.borrow().place(parent).is_none() {
                continue;
            }
            if !self.tool.knows(parent) {
                return Some((Outcome::Unknown, format!("part of `{parent}`, which is unknown")));
            }
            if !self.tool.opens(parent) {
                let why = self.tool.why(parent).unwrap_or_default().to_owned();
                return Some((Outcome::NoCounterpart, why));
            }
        }
        None
    }
}

/// Finds the node of a path such as `datasets[0].type`.
fn find<'a>(documents: &'a [Node], path: &str) -> Option<&'a Node> {
    let (at, rest) = match path.strip_prefix('[').and_then(|path| path.split_once("].")) {
        Some((at, rest)) if documents.len() > 1 => (at.parse().ok()?, rest),
        _ => (0, path),
    };
    step(documents.get::<usize>(at)?, rest)
}

fn step<'a>(node: &'a Node, path: &str) -> Option<&'a Node> {
    if path.is_empty() {
        return Some(node);
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (index, rest) = rest.split_once(']')?;
        return step(node.items().get(index.parse::<usize>().ok()?)?, rest.trim_start_matches('.'));
    }
    // Keys may hold dots themselves; the longest that fits is meant.
    let fits = |key: &str| {
        path.strip_prefix(key)
            .filter(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
    };
    node.pairs().iter().find_map(|pair| {
        let rest = fits(&pair.key)?;
        step(&pair.value, rest.strip_prefix('.').unwrap_or(rest))
    })
}

/// A mapping of the file and where it stands.
#[derive(Clone)]
pub(crate) struct Section<'a> {
    pub import: &'a Import,
    pub node: &'a Node,
    pub path: String,
}

impl<'a> Section<'a> {
    pub fn new(import: &'a Import, node: &'a Node, path: impl Into<String>) -> Self {
        Self { import, node, path: path.into() }
    }

    /// Returns the path of a key.
    pub fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Returns a value that is not null.
    pub fn node(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|node| node.value != Value::Null)
    }

    /// Whether a key has a value that switches something on.
    pub fn is_on(&self, key: &str) -> bool {
        self.node(key).is_some_and(|node| !node.is_off())
    }

    /// Returns the mapping behind a key.
    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        let node = self.node(key)?;
        if !matches!(node.value, Value::Map(_)) {
            return None;
        }
        Some(Section::new(self.import, node, self.key(key)))
    }

    /// Returns the mappings of the list behind a key; one alone counts as a list of one.
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let path = self.key(key);
        match &node.value {
            Value::Map(_) => vec![Section::new(self.import, node, path)],
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| Section::new(self.import, item, format!("{path}[{at}]")))
                .collect(),
            _ => {
                self.refuse(key, format!("`{key}` takes a list of mappings"), "write a list, each with `- `");
                Vec::new()
            }
        }
    }

    /// Returns text; a number or boolean counts as what it is written as.
    pub fn text(&self, key: &str) -> Option<String> {
        let node = self.node(key)?;
        let text = as_text(node);
        if text.is_none() {
            self.refuse(key, format!("`{key}` takes text, not a list or a mapping"), "write one value");
        }
        text.filter(|text| !text.is_empty())
    }

    /// Returns texts: a list, or one alone.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let Some(node) = self.node(key) else { return Vec::new() };
        match &node.value {
            Value::List(items) => items.iter().filter_map(as_text).collect(),
            _ => self.text(key).into_iter().collect(),
        }
    }

    /// Returns a number, also one that PyYAML takes for text.
    pub fn number(&self, key: &str) -> Option<f64> {
        let node = self.node(key)?;
        let number = match &node.value {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Text(text) => {
                self.import.text_numbers.borrow_mut().insert(self.key(key));
                text.trim().parse().ok()
            }
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        if number.is_none() {
            self.refuse(key, format!("`{key}` takes a number"), "write a number such as 2.0e-5");
        }
        number
    }

    /// Returns a whole number of at least 0.
    pub fn count(&self, key: &str) -> Option<u64> {
        let number = self.number(key)?;
        if number < 0.0 || number.fract() != 0.0 || number > 9e15 {
            self.refuse(key, format!("`{key}` takes a whole number"), "write a whole number of at least 0");
            return None;
        }
        Some(number as u64)
    }

    /// Whether a switch is on. Words that mean a boolean count as one, as pydantic takes them.
    pub fn flag(&self, key: &str) -> bool {
        self.switch(key).unwrap_or(false)
    }

    /// Returns a switch, when it is written.
    pub fn switch(&self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Bool(on) => Some(*on),
            Value::Int(number) => Some(*number != 0),
            Value::Text(text) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
                "false" | "no" | "off" | "0" | "f" | "n" | "" => Some(false),
                _ => self.no_switch(key),
            },
            Value::Null | Value::Float(_) | Value::List(_) | Value::Map(_) => self.no_switch(key),
        }
    }

    fn no_switch(&self, key: &str) -> Option<bool> {
        self.refuse(key, format!("`{key}` takes true or false"), "write `true` or `false`");
        None
    }

    /// The recipe says the same as a key.
    pub fn carried(&self, key: &str, why: impl Into<String>) {
        let path = self.key(key);
        if self.import.text_numbers.borrow().contains(&path) {
            let why = format!("{}; to PyYAML the number is text, for want of a dot or by quotes", why.into());
            self.import.ledger.borrow_mut().mark(&path, Outcome::Changed, why);
            return;
        }
        self.import.ledger.borrow_mut().mark(&path, Outcome::Carried, why);
    }

    /// The recipe says something near to a key.
    pub fn changed(&self, key: &str, why: impl Into<String>) {
        self.import.ledger.borrow_mut().mark(&self.key(key), Outcome::Changed, why);
    }

    /// The recipe says nothing of a key.
    pub fn dropped(&self, key: &str, why: impl Into<String>) {
        self.import.ledger.borrow_mut().mark(&self.key(key), Outcome::NoCounterpart, why);
    }

    /// States the same of several keys that have a value.
    pub fn drop_all(&self, keys: &[&str], why: &str) {
        for key in keys.iter().filter(|key| self.is_on(key)) {
            self.dropped(key, why);
        }
    }

    /// The file cannot become a recipe because of a key.
    pub fn refuse(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let at = self.node(key).map_or_else(|| self.place(key), |node| node.at);
        self.import.problems.borrow_mut().push(Problem::refuse(message, at, help));
    }

    /// The file cannot become a recipe because a key is missing.
    pub fn missing(&self, key: &str, help: impl Into<String>) {
        // A value that cannot be read was refused where it stands.
        if self.node(key).is_some() {
            return;
        }
        let at = Place { end: self.node.at.start, ..self.node.at };
        let message = format!("`{}` is missing", self.key(key));
        self.import.problems.borrow_mut().push(Problem::refuse(message, at, help));
    }

    fn place(&self, key: &str) -> Place {
        self.import.ledger.borrow().place(&self.key(key)).unwrap_or(self.node.at)
    }
}

/// Returns a scalar as text.
pub(crate) fn as_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}
