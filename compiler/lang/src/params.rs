//! Parameters: `param NAME DEFAULT` and the bare word `$NAME` that stands for it; sweeps over their values.

use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::source::{Origin, Span};
use crate::suggest;
use crate::syntax::{Damage, Data, Node, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A declared parameter.
struct Param {
    value: Value,
}

/// A parameter in place of whose default another value stands.
#[derive(Debug, Clone)]
pub struct Instead {
    pub name: String,
    pub value: Value,
}

/// The values of a parameter that `--sweep` runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    pub name: String,
    /// As `--set NAME=VALUE` takes them.
    pub values: Vec<String>,
}

/// Returns the sweeps of all files as they are written, in file order; one that `--set` fixes is none.
pub fn sweeps(files: &Files) -> Vec<(String, Vec<Value>)> {
    let nodes = files.files.iter().flat_map(|file| &file.document.nodes);
    let of = |node: &Node| {
        let (name, values) = node.arguments.split_first()?;
        let is_fixed = values.first().is_some_and(|value| value.origin == Origin::Set);
        let sweep = node.child("sweep").filter(|sweep| !is_fixed && !sweep.arguments.is_empty())?;
        Some((name.text()?.to_owned(), sweep.arguments.clone()))
    };
    nodes.filter(|node| node.name.text == "param").filter_map(of).collect()
}

/// Writes a value as `--set` takes it.
pub fn as_set(value: &Value) -> String {
    match &value.data {
        Data::Integer(number) => number.to_string(),
        Data::Number(number) => format!("{number:?}"),
        Data::Text(text) => text.clone(),
        Data::Bool(on) => on.to_string(),
        Data::Null | Data::Broken => String::new(),
    }
}

/// Reports values that a sweep lists twice: one run would overwrite the other.
pub fn check_sweeps(sweeps: &[(String, Vec<Value>)], diagnostics: &mut Vec<Diagnostic>) {
    for (_, values) in sweeps {
        let mut known: BTreeMap<String, &Value> = BTreeMap::new();
        for value in values {
            let shown = as_set(value);
            let Some(first) = known.get(&shown) else {
                known.insert(shown, value);
                continue;
            };
            let message = format!("the sweep has the value {shown} twice");
            diagnostics.push(
                Diagnostic::error("repeated-option", message, value.span, "the second")
                    .with_label(first.span, "the first")
                    .with_help("keep one of them"),
            );
        }
    }
}

/// Replaces every `$NAME` by its value; returns the names of the parameters that are used.
pub fn substitute(
    files: &mut Files,
    instead: Option<&Instead>,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeSet<String> {
    match instead {
        Some(instead) => replace(files, instead),
        None => check_bounds(files, diagnostics),
    }
    let params = collect(files, diagnostics);
    let mut pass = Pass { params: &params, damage: files.damage(), used: BTreeSet::new(), diagnostics };
    for file in &mut files.files {
        let nodes = file.document.nodes.iter_mut().filter(|node| node.name.text != "param");
        nodes.for_each(|node| pass.node(node));
    }
    pass.used
}

/// Puts another value in the place of a parameter's default.
fn replace(files: &mut Files, instead: &Instead) {
    let nodes = files.files.iter_mut().flat_map(|file| &mut file.document.nodes);
    for node in nodes.filter(|node| node.name.text == "param") {
        let is_meant = node.arguments.first().and_then(Value::text) == Some(instead.name.as_str());
        if let Some(value) = node.arguments.get_mut(1).filter(|_| is_meant) {
            *value = instead.value.clone();
        }
    }
}

fn collect(files: &Files, diagnostics: &mut Vec<Diagnostic>) -> BTreeMap<String, Param> {
    let mut params = BTreeMap::new();
    let nodes = files.files.iter().flat_map(|file| &file.document.nodes);
    for node in nodes.filter(|node| node.name.text == "param") {
        let Some((name, values)) = node.arguments.split_first() else { continue };
        let Some(name) = name.text() else { continue };
        let Some(value) = values.first() else {
            // That it has no value is reported where it is declared.
            let value = Value { data: Data::Broken, ..node.arguments[0].clone() };
            params.insert(name.to_owned(), Param { value });
            continue;
        };
        let value = if in_bounds(node, value, diagnostics) {
            value.clone()
        } else {
            Value { data: Data::Broken, ..value.clone() }
        };
        params.insert(name.to_owned(), Param { value });
    }
    params
}

/// Checks the value against `min` and `max`.
pub fn in_bounds(node: &Node, value: &Value, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let bound = |key: &str| node.properties.iter().find(|property| property.key.text == key);
    let Some(number) = as_number(&value.data) else { return true };
    let min = bound("min").and_then(|min| Some((as_number(&min.value.data)?, min.value.span, "at least")));
    let max = bound("max").and_then(|max| Some((as_number(&max.value.data)?, max.value.span, "at most")));
    if let (Some((least, low, _)), Some((most, high, _))) = (min, max)
        && least > most
    {
        diagnostics.push(reversed(low, high));
        return true;
    }
    let outside = min.filter(|(min, ..)| number < *min).or(max.filter(|(max, ..)| number > *max));
    let Some((limit, at, word)) = outside else { return true };
    let shown = crate::values::show_number(number);
    let limit = crate::values::show_number(limit);
    let message = format!("this parameter is {shown}, but must be {word} {limit}");
    let diagnostic = Diagnostic::error("out-of-range", message, value.span, "outside its own bounds")
        .with_label(at, "the bound")
        .with_help(format!("write a number of {word} {limit}"));
    diagnostics.push(crate::values::with_places(diagnostic, value));
    false
}

/// Only numbers have bounds.
fn check_bounds(files: &Files, diagnostics: &mut Vec<Diagnostic>) {
    let nodes = files.files.iter().flat_map(|file| &file.document.nodes);
    for node in nodes.filter(|node| node.name.text == "param") {
        let Some(value) = node.arguments.get(1).filter(|value| value.origin == Origin::Written) else {
            continue;
        };
        if !matches!(value.data, Data::Text(_) | Data::Bool(_)) {
            continue;
        }
        for bound in node.properties.iter().filter(|bound| matches!(bound.key.text.as_str(), "min" | "max")) {
            let message = format!("`{}` has no effect on a parameter that is no number", bound.key.text);
            diagnostics.push(
                Diagnostic::error("ineffective-option", message, bound.key.span, "changes nothing here")
                    .with_label(value.span, "not a number")
                    .with_help("remove it"),
            );
        }
    }
}

/// No number is at least `min` and at most `max`.
fn reversed(low: Span, high: Span) -> Diagnostic {
    let (first, second) = if low.start < high.start { (low, high) } else { (high, low) };
    let message = "`min` is above `max`, so that no number is allowed";
    Diagnostic::error("out-of-range", message, second, "the second bound")
        .with_label(first, "the first")
        .with_help("write a `min` of at most `max`")
}

fn as_number(data: &Data) -> Option<f64> {
    match data {
        Data::Integer(value) => Some(*value as f64),
        Data::Number(value) => Some(*value),
        _ => None,
    }
}

struct Pass<'a> {
    params: &'a BTreeMap<String, Param>,
    damage: Damage,
    used: BTreeSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Pass<'_> {
    fn node(&mut self, node: &mut Node) {
        node.arguments.iter_mut().for_each(|value| self.value(value));
        node.properties.iter_mut().for_each(|property| self.value(&mut property.value));
        node.children.iter_mut().for_each(|child| self.node(child));
    }

    fn value(&mut self, value: &mut Value) {
        let Some(name) = value.parameter() else { return };
        let at = value.span;
        match self.params.get(name) {
            Some(param) => {
                self.used.insert(name.to_owned());
                *value = Value { via: Some(at), ..param.value.clone() };
            }
            None => {
                if self.damage < Damage::Everywhere {
                    self.diagnostics.push(unknown(name, at, self.params));
                }
                // What was meant may well be what seems unused.
                let near = suggest::nearest(name, self.params.keys().map(String::as_str));
                self.used.insert(near.unwrap_or(leading_name(name)).to_owned());
                value.data = Data::Broken;
            }
        }
    }
}

/// The name that a word such as `n*2` begins with.
fn leading_name(word: &str) -> &str {
    let end = word.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
    &word[..end.unwrap_or(word.len())]
}

fn unknown(name: &str, at: Span, params: &BTreeMap<String, Param>) -> Diagnostic {
    let diagnostic =
        Diagnostic::error("unknown-param", format!("no parameter is called `{name}`"), at, "not declared");
    let part = leading_name(name);
    if part != name && params.contains_key(part) {
        return diagnostic
            .with_help(format!("write `${part}` alone or the value itself; a recipe does not calculate"));
    }
    match suggest::nearest(name, params.keys().map(String::as_str)) {
        Some(near) => suggest::offer(diagnostic, name, near, at, "$"),
        None => diagnostic
            .with_help(format!("declare it with `param {name} …`, or put it in quotes where text is meant")),
    }
}
