//! Names: one namespace, references to declarations of the right type, circles, and what nothing uses.

use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::source::Span;
use crate::suggest;
use crate::syntax::{Damage, Node, Value};
use crate::tree::Item;
use crate::values::{Typed, describe_gives};
use std::collections::{BTreeMap, BTreeSet};
use stdlib::schema::{self, Type};

/// The path of the reference that takes over the children of another stage.
const LIKE: &str = "like";

/// All declarations by name.
pub struct Names<'a> {
    pub items: &'a [Item],
    by_name: BTreeMap<&'a str, usize>,
    refused: &'a Refused,
}

/// What nodes say that are not checked: unknown or misplaced ones, and those of later versions.
#[derive(Debug, Default)]
pub struct Refused {
    /// Names that unknown nodes may declare.
    declared: BTreeSet<String>,
    /// Names that any of them may refer to, and parameters in quotes or arithmetic.
    used: BTreeSet<String>,
}

impl Refused {
    /// Collects what the nodes of all files say.
    pub fn of(files: &Files) -> Self {
        let mut refused = Self::default();
        for node in files.files.iter().flat_map(|file| &file.document.nodes) {
            let schema = schema::top(&node.name.text);
            if schema.is_none() {
                refused.declared.extend(node.arguments.first().and_then(Value::text).map(str::to_owned));
            }
            refused.node(node, schema);
        }
        refused
    }

    fn node(&mut self, node: &Node, schema: Option<&'static schema::Node>) {
        let properties = node.properties.iter().map(|property| &property.value);
        for text in node.arguments.iter().chain(properties).filter_map(Value::text) {
            if let Some(name) = text.strip_prefix('$') {
                let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
                self.used.insert(name.chars().take_while(|&c| is_part(c)).collect());
            } else if schema.is_none() {
                self.used.insert(text.to_owned());
            }
        }
        for child in &node.children {
            self.node(child, schema.and_then(|schema| schema.child(&child.name.text)));
        }
    }
}

/// A reference inside a node.
struct Reference<'a> {
    to: &'static str,
    name: &'a str,
    at: Span,
}

impl<'a> Names<'a> {
    /// Collects the declarations; a name that is declared twice is reported.
    pub fn collect(items: &'a [Item], refused: &'a Refused, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let Some(name) = &item.name else { continue };
            match by_name.get(name.text.as_str()) {
                Some(&first) => diagnostics.push(duplicate(name, &items[first])),
                None => {
                    by_name.insert(&name.text, index);
                }
            }
        }
        Self { items, by_name, refused }
    }

    /// Finds a declaration.
    pub fn find(&self, name: &str) -> Option<&'a Item> {
        self.by_name.get(name).map(|&index| &self.items[index])
    }

    /// Follows a reference that a child holds.
    pub fn follow(&self, item: &Item, child: &str) -> Option<&'a Item> {
        item.child_argument(child).and_then(|slot| slot.text()).and_then(|name| self.find(name))
    }

    /// Checks every reference.
    pub fn check(&self, damage: Damage, diagnostics: &mut Vec<Diagnostic>) {
        self.items.iter().for_each(|item| self.check_item(item, damage, diagnostics));
    }

    /// Checks the references of one node.
    pub fn check_item(&self, item: &Item, damage: Damage, diagnostics: &mut Vec<Diagnostic>) {
        for (path, reference) in references_at(item) {
            diagnostics.extend(match path.as_str() {
                LIKE => self.check_like(&reference, item, damage),
                _ => self.check_reference(&reference, damage),
            });
        }
    }

    /// What a stage is like is a training stage; that it is one of the same kind is checked where it is copied.
    fn check_like(&self, reference: &Reference, stage: &Item, damage: Damage) -> Option<Diagnostic> {
        let kind = stage.kind();
        match self.find(reference.name) {
            Some(item) if item.schema.training => None,
            Some(item) => Some(wrong_like(reference, item, kind)),
            None if damage == Damage::Everywhere => None,
            None if self.refused.declared.contains(reference.name) => None,
            None => Some(self.unknown_like(reference, stage)),
        }
    }

    fn unknown_like(&self, reference: &Reference, stage: &Item) -> Diagnostic {
        let kind = stage.kind();
        let message = format!("no `{kind}` stage is called `{}`", reference.name);
        let diagnostic = Diagnostic::error("unknown-name", message, reference.at, "not declared");
        let others = self.items.iter().filter(|item| item.kind() == kind && !std::ptr::eq(*item, stage));
        let names: Vec<&str> = others.map(Item::declared).filter(|name| !name.is_empty()).collect();
        match suggest::nearest(reference.name, names.iter().copied()) {
            Some(near) => suggest::offer(diagnostic, reference.name, near, reference.at, ""),
            None if names.is_empty() => {
                diagnostic.with_help(format!("write the children here; there is no other `{kind}` stage"))
            }
            None => diagnostic.with_help(format!(
                "write {}, or the children here",
                suggest::list(names.into_iter().take(8), "or")
            )),
        }
    }

    fn check_reference(&self, reference: &Reference, damage: Damage) -> Option<Diagnostic> {
        if let Some(name) = reference.name.strip_prefix("std:").filter(|_| reference.to == "template") {
            return check_library(name, reference.at);
        }
        match self.find(reference.name) {
            Some(item) if item.schema.gives == reference.to => None,
            Some(item) => Some(wrong_reference(reference, item)),
            None if damage == Damage::Everywhere => None,
            None if self.refused.declared.contains(reference.name) => None,
            None => Some(self.unknown_name(reference)),
        }
    }

    fn unknown_name(&self, reference: &Reference) -> Diagnostic {
        let gives = describe_gives(reference.to);
        let message = format!("no {gives} is called `{}`", reference.name);
        let diagnostic = Diagnostic::error("unknown-name", message, reference.at, "not declared");
        let fitting = self
            .by_name
            .values()
            .map(|&index| &self.items[index])
            .filter(|item| item.schema.gives == reference.to);
        let names: Vec<&str> = fitting.map(Item::declared).collect();
        if let Some(near) = library_name(reference).filter(|_| !names.contains(&reference.name)) {
            return diagnostic.with_help(format!("did you mean `{near}`?")).with_fix(
                format!("replace with `{near}`"),
                reference.at,
                near,
            );
        }
        match suggest::nearest(reference.name, names.iter().copied()) {
            Some(near) => suggest::offer(diagnostic, reference.name, near, reference.at, ""),
            None if names.is_empty() => diagnostic.with_help(format!("declare it with `{gives} NAME …`")),
            None => diagnostic.with_help(format!(
                "write {}, or declare it with `{gives} NAME …`",
                suggest::list(names.into_iter().take(8), "or")
            )),
        }
    }

    /// Reports every circle once, at its first reference in file order.
    pub fn check_circles(&self, diagnostics: &mut Vec<Diagnostic>) {
        self.check_circles_of(|path| path != LIKE, diagnostics);
        // What a stage is like has been copied, and it does not wait for that stage.
        self.check_circles_of(|path| path == LIKE, diagnostics);
    }

    /// Reports the circles of some references.
    fn check_circles_of(&self, counts: impl Fn(&str) -> bool, diagnostics: &mut Vec<Diagnostic>) {
        let edges: Vec<Vec<(usize, Span)>> =
            self.items.iter().map(|item| self.edges(item, &counts)).collect();
        let mut walk = Walk {
            edges: &edges,
            state: vec![State::New; edges.len()],
            path: Vec::new(),
            circles: Vec::new(),
        };
        (0..edges.len()).for_each(|start| walk.visit(start));
        for mut circle in walk.circles {
            circle.sort();
            let mut diagnostic = Diagnostic::error(
                "circular-reference",
                "these refer to each other in a circle",
                circle[0],
                "the circle begins here",
            )
            .with_help("let one of them refer to something outside the circle");
            for at in &circle[1..] {
                diagnostic = diagnostic.with_label(*at, "and goes on here");
            }
            diagnostics.push(diagnostic);
        }
    }

    /// Returns the references in an item by the path of the option, with what they refer to.
    pub fn references(&self, item: &'a Item) -> Vec<(String, &'a str, Span, Option<&'a Item>)> {
        let found = references_at(item).into_iter();
        found
            .map(|(path, reference)| (path, reference.name, reference.at, self.find(reference.name)))
            .collect()
    }

    fn edges(&self, item: &Item, counts: &impl Fn(&str) -> bool) -> Vec<(usize, Span)> {
        if item.name.is_none() {
            return Vec::new();
        }
        let targets = references_at(item).into_iter().filter(|(path, _)| counts(path));
        targets
            .filter_map(|(_, reference)| Some((*self.by_name.get(reference.name)?, reference.at)))
            .collect()
    }

    /// Warns of declarations in the first file that nothing uses.
    pub fn check_unused(&self, params: &BTreeSet<String>, diagnostics: &mut Vec<Diagnostic>) {
        let references: Vec<Reference> = self.items.iter().flat_map(references).collect();
        let used: BTreeSet<&str> = references.iter().map(|reference| reference.name).collect();
        // What a dangling reference meant may well be what seems unused.
        let dangling: BTreeSet<&str> = references
            .iter()
            .filter(|reference| !reference.name.starts_with("std:") && self.find(reference.name).is_none())
            .map(|reference| reference.to)
            .collect();
        for item in self.items.iter().filter(|item| item.file == 0) {
            let Some(name) = &item.name else { continue };
            let is_ingredient =
                matches!(item.kind(), "model" | "tokenizer" | "template" | "dataset" | "mix" | "param");
            let is_used = used.contains(name.text.as_str())
                || self.refused.used.contains(&name.text)
                || item.kind() == "param" && params.contains(&name.text);
            if is_ingredient && !is_used && !dangling.contains(item.schema.gives) && !self.is_lacked(item) {
                let message = format!("nothing uses the {} `{}`", item.kind(), name.text);
                diagnostics.push(
                    Diagnostic::warning("unused-declaration", message, name.span, "never used")
                        .with_help("remove it, or refer to it"),
                );
            }
        }
    }

    /// Whether another node lacks something that this one may have been meant for.
    fn is_lacked(&self, item: &Item) -> bool {
        let others = self.items.iter().filter(|other| !std::ptr::eq(*other, item));
        others.flat_map(lacking).any(|gives| gives == item.schema.gives)
    }
}

fn duplicate(name: &crate::syntax::Word, first: &Item) -> Diagnostic {
    let first_span = first.name.as_ref().map_or(first.at, |name| name.span);
    Diagnostic::error("duplicate-name", format!("`{}` is declared twice", name.text), name.span, "the second")
        .with_label(first_span, "the first")
        .with_help("give one of them another name")
}

/// Returns the references in a node.
fn references(item: &Item) -> Vec<Reference<'_>> {
    references_at(item).into_iter().map(|(_, reference)| reference).collect()
}

/// Returns the references in a node with the paths of their options.
fn references_at(item: &Item) -> Vec<(String, Reference<'_>)> {
    let mut found = Vec::new();
    collect_references(item, "", &mut found);
    found
}

fn collect_references<'i>(item: &'i Item, path: &str, found: &mut Vec<(String, Reference<'i>)>) {
    let own = item.arguments.iter().map(|slot| (slot, path.to_owned()));
    let named = item.properties.iter().map(|slot| (slot, join(path, slot.name)));
    for (slot, path) in own.chain(named) {
        if let (Type::Reference(to) | Type::NameOr { to, .. }, Typed::Text(name)) = (slot.ty, &slot.value) {
            found.push((path, Reference { to, name, at: slot.span }));
        }
    }
    for child in &item.children {
        collect_references(child, &join(path, child.kind()), found);
    }
}

fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") }
}

/// The types of references that a node must have and lacks.
fn lacking(item: &Item) -> impl Iterator<Item = &'static str> {
    let absent =
        item.schema.children.iter().filter(|child| child.required && item.child(child.name).is_none());
    absent.flat_map(|child| child.arguments).filter_map(|argument| match argument.ty {
        Type::Reference(to) => Some(to),
        _ => None,
    })
}

/// The template of the library that has this name, for a reference that forgot `std:`.
fn library_name(reference: &Reference) -> Option<String> {
    let mut entries = schema::TEMPLATES.iter().filter(|_| reference.to == "template");
    entries.find(|entry| entry.name == reference.name).map(|entry| format!("std:{}", entry.name))
}

fn check_library(name: &str, at: Span) -> Option<Diagnostic> {
    let names = || schema::TEMPLATES.iter().map(|entry| entry.name);
    match schema::TEMPLATES.iter().find(|entry| entry.name == name) {
        Some(_) => None,
        None => {
            let diagnostic = Diagnostic::error(
                "unknown-name",
                format!("no template is called `std:{name}`"),
                at,
                "not in the library",
            );
            Some(match suggest::nearest(name, names()) {
                Some(near) => suggest::offer(diagnostic, name, near, at, "std:"),
                None => diagnostic.with_help(format!("the library has {}", suggest::list(names(), "and"))),
            })
        }
    }
}

fn wrong_reference(reference: &Reference, item: &Item) -> Diagnostic {
    let wanted = describe_gives(reference.to);
    let found = if item.schema.gives.is_empty() { item.kind() } else { describe_gives(item.schema.gives) };
    let message = format!("`{}` is a {found}, not a {wanted}", reference.name);
    let declared = item.name.as_ref().map_or(item.at, |name| name.span);
    Diagnostic::error("wrong-reference", message, reference.at, format!("a {wanted} is needed here"))
        .with_label(declared, format!("declared here as a {found}"))
        .with_help(format!("write the name of a {wanted}"))
}

/// `like=` names something that is no training stage.
fn wrong_like(reference: &Reference, item: &Item, kind: &str) -> Diagnostic {
    let message = format!("`{}` is a `{}`, not a `{kind}` stage", reference.name, item.kind());
    let declared = item.name.as_ref().map_or(item.at, |name| name.span);
    Diagnostic::error("wrong-reference", message, reference.at, format!("a `{kind}` stage is needed here"))
        .with_label(declared, format!("declared here as a `{}`", item.kind()))
        .with_help(format!("name a `{kind}` stage, or write the children here"))
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// A depth-first walk that collects circles.
struct Walk<'a> {
    edges: &'a [Vec<(usize, Span)>],
    state: Vec<State>,
    path: Vec<(usize, Span)>,
    circles: Vec<Vec<Span>>,
}

impl Walk<'_> {
    /// Walks from one node; the path is a list of its own, since a recipe may be a very long chain.
    fn visit(&mut self, start: usize) {
        if self.state[start] != State::New {
            return;
        }
        let mut open = vec![(start, 0)];
        self.state[start] = State::Open;
        while let Some((node, next)) = open.last_mut() {
            let Some(&(target, at)) = self.edges[*node].get(*next) else {
                self.state[*node] = State::Done;
                open.pop();
                self.path.pop();
                continue;
            };
            *next += 1;
            match self.state[target] {
                State::New => {
                    self.path.push((*node, at));
                    self.state[target] = State::Open;
                    open.push((target, 0));
                }
                State::Open => self.close(*node, target, at),
                State::Done => {}
            }
        }
    }

    /// Records the circle that leads from `node` back to `target`, which is on the path.
    fn close(&mut self, node: usize, target: usize, at: Span) {
        let start = self.path.iter().position(|(from, _)| *from == target).unwrap_or(self.path.len());
        let inner = self.path[start..].iter().map(|(_, at)| *at);
        debug_assert!(start < self.path.len() || node == target);
        self.circles.push(inner.chain([at]).collect());
    }
}
