//! Sweeps: what each value of a parameter comes to, without checking everything anew.
//!
//! After a check with the defaults only the nodes that hold a parameter are read again, with one of its values
//! instead. Rules then look at all nodes, and what they say of that value is kept.

use crate::diagnostic::{Diagnostic, Severity};
use crate::facts::{Facts, Want};
use crate::files::Files;
use crate::names::{Names, Refused};
use crate::params;
use crate::rules::Context;
use crate::rules::flow::Types;
use crate::source::{Source, Span};
use crate::syntax::{Damage, Data, Node, Value};
use crate::tree::Item;
use crate::typing::Typing;
use crate::uses::Uses;
use std::collections::{BTreeMap, HashSet};

/// A node at the top level: the file, and which of its nodes.
pub type NodePlace = (usize, usize);

/// A sweep as it is written: the parameter's name and its values.
pub type Written = (String, Vec<Value>);

/// A recipe that was checked with the defaults of its parameters.
pub struct Whole {
    pub files: Files,
    pub items: Vec<Item>,
    /// Which item each node is.
    pub places: BTreeMap<NodePlace, usize>,
    pub folders: Vec<String>,
    pub refused: Refused,
    /// What is swept, in file order.
    pub sweeps: Vec<Written>,
}

/// Where a parameter stands.
pub enum Place {
    /// In the values of nodes.
    Values(Holders),
    /// Where it decides how nodes are put together, so that one can not be read without the others.
    Anywhere,
    /// It has no value, or another declaration of the same name comes later, which is reported.
    Nowhere,
}

/// A parameter and the nodes that hold it.
pub struct Holders {
    /// The place of its default, which every value that came from it has.
    default: Span,
    param: NodePlace,
    nodes: Vec<NodePlace>,
}

/// Whether an error comes from a value of a sweep.
pub fn is_of(found: &Diagnostic, value: Span) -> bool {
    found.severity == Severity::Error && found.labels.iter().any(|label| label.span == value)
}

/// Leaves out values that were there before; that they stand twice is reported.
pub fn distinct(values: &[Value]) -> impl Iterator<Item = &Value> {
    let mut seen = HashSet::new();
    values.iter().filter(move |value| seen.insert(params::as_set(value)))
}

impl Whole {
    /// Finds where a parameter stands.
    pub fn place(&self, name: &str) -> Place {
        let declares = |node: &Node| {
            node.name.text == "param" && node.arguments.first().and_then(Value::text) == Some(name)
        };
        let mut nodes = self.nodes().filter(|(_, node)| declares(node));
        let Some((param, default)) =
            nodes.next().and_then(|(at, node)| Some((at, node.arguments.get(1)?.span)))
        else {
            return Place::Nowhere;
        };
        if nodes.next().is_some() {
            return Place::Nowhere;
        }
        let is_it = |value: &Value| value.via.is_some() && value.span == default;
        let holders = self.nodes().filter(|(at, node)| *at != param && holds(node, &is_it));
        let (mut found, mut decides) = (Vec::new(), false);
        for (at, node) in holders {
            decides |= decides_much(node, &is_it);
            found.push(at);
        }
        if decides { Place::Anywhere } else { Place::Values(Holders { default, param, nodes: found }) }
    }

    fn nodes(&self) -> impl Iterator<Item = (NodePlace, &Node)> {
        let files = self.files.files.iter().enumerate();
        files.flat_map(|(file, known)| {
            known.document.nodes.iter().enumerate().map(move |(index, node)| ((file, index), node))
        })
    }

    /// Checks what stands at a place with each of some values; returns the errors that come from them.
    pub fn check_values(
        &mut self,
        holders: &Holders,
        values: &[Value],
        facts: &Facts,
        sources: &[Source],
    ) -> (Vec<Diagnostic>, Vec<Want>) {
        let (mut errors, mut wants) = (Vec::new(), Vec::new());
        for value in distinct(values) {
            let mut found = Vec::new();
            self.check_value(holders, value, facts, sources, &mut found, &mut wants);
            errors.extend(found.into_iter().filter(|found| is_of(found, value.span)));
        }
        self.files.say_where_used(&mut errors);
        if errors.iter().any(|found| found.code == "secret-in-recipe") {
            errors.iter_mut().for_each(crate::check::mask);
        }
        (errors, wants)
    }

    fn check_value(
        &mut self,
        holders: &Holders,
        value: &Value,
        facts: &Facts,
        sources: &[Source],
        diagnostics: &mut Vec<Diagnostic>,
        wants: &mut Vec<Want>,
    ) {
        let changed = self.read(holders, value, sources, diagnostics);
        let indices: Vec<usize> = changed.iter().map(|(index, _)| *index).collect();
        let before = self.swap(changed);
        if !holders.nodes.is_empty() {
            self.relate(&indices, value, facts, sources, diagnostics, wants);
        }
        self.swap(before);
    }

    /// Puts items in the place of others, which are returned.
    fn swap(&mut self, items: Vec<(usize, Item)>) -> Vec<(usize, Item)> {
        let swapped =
            items.into_iter().map(|(index, item)| (index, std::mem::replace(&mut self.items[index], item)));
        swapped.collect()
    }

    /// Reads the nodes that hold a parameter with another value instead.
    fn read(
        &self,
        holders: &Holders,
        value: &Value,
        sources: &[Source],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<(usize, Item)> {
        let declared = self.node(holders.param);
        let mut param = Node {
            name: declared.name.clone(),
            arguments: vec![declared.arguments[0].clone(), value.clone()],
            properties: declared.properties.clone(),
            // The list of values is the same with each of them.
            children: Vec::new(),
            ..*declared
        };
        param.arguments.extend(declared.arguments.iter().skip(2).cloned());
        let is_fine = params::in_bounds(&param, value, diagnostics);
        let inner = if is_fine { value.clone() } else { Value { data: Data::Broken, ..value.clone() } };
        let mut uses = Uses::default();
        let mut items = Vec::new();
        for &at in holders.nodes.iter().chain([&holders.param]) {
            let mut node = if at == holders.param { param.clone() } else { self.node(at).clone() };
            if at != holders.param {
                replace(&mut node, holders.default, &inner);
            }
            // A node of an unknown kind has no item, and nothing is said of its values.
            let Some(&index) = self.places.get(&at) else { continue };
            let mut typing = Typing {
                file: at.0,
                diagnostics,
                sources,
                misplaced: self.files.files[at.0].document.braces_in_doubt,
                lost: self.files.damage() == Damage::Everywhere,
                uses: &mut uses,
                strays: Vec::new(),
                later: Vec::new(),
            };
            items.extend(typing.top(&node).map(|item| (index, item)));
        }
        uses.check(diagnostics);
        items
    }

    fn node(&self, (file, index): NodePlace) -> &Node {
        &self.files.files[file].document.nodes[index]
    }

    /// What names and rules say, now that some items are others.
    fn relate(
        &self,
        changed: &[usize],
        value: &Value,
        facts: &Facts,
        sources: &[Source],
        diagnostics: &mut Vec<Diagnostic>,
        wants: &mut Vec<Want>,
    ) {
        let names = Names::collect(&self.items, &self.refused, &mut Vec::new());
        changed
            .iter()
            .for_each(|&index| names.check_item(&self.items[index], self.files.damage(), diagnostics));
        if value.text().is_some_and(|text| names.find(text).is_some()) {
            names.check_circles(diagnostics);
        }
        let (mut later, folders) = (Vec::new(), &self.folders);
        let lost = self.files.damage() == Damage::Everywhere;
        let types = Types::default();
        Context {
            names: &names,
            facts,
            types,
            folders,
            sources,
            lost,
            current: None,
            diagnostics,
            wants,
            later: &mut later,
        }
        .check();
    }
}

/// Whether a node holds a value anywhere.
fn holds(node: &Node, is_it: &impl Fn(&Value) -> bool) -> bool {
    node.arguments.iter().any(is_it)
        || node.properties.iter().any(|property| is_it(&property.value))
        || node.children.iter().any(|child| holds(child, is_it))
}

/// Whether a value decides which nodes are joined: the name that one declares, the stage that it is like, or the
/// kind of stage that `defaults` are for.
fn decides_much(node: &Node, is_it: &impl Fn(&Value) -> bool) -> bool {
    let is_like = |property: &crate::syntax::Property| property.key.text == "like" && is_it(&property.value);
    node.arguments.first().is_some_and(is_it) || node.properties.iter().any(is_like)
}

/// Puts a value in the place of all that came from a parameter's default.
fn replace(node: &mut Node, default: Span, value: &Value) {
    let properties = node.properties.iter_mut().map(|property| &mut property.value);
    for slot in node.arguments.iter_mut().chain(properties) {
        if let Some(via) = slot.via.filter(|_| slot.span == default) {
            *slot = Value { via: Some(via), origin: slot.origin, ..value.clone() };
        }
    }
    node.children.iter_mut().for_each(|child| replace(child, default, value));
}
