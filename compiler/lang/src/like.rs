//! `like=`: a stage takes over the children of another of its kind that it does not write.
//!
//! It comes before `defaults`: what the other stage writes wins over a default of the file.

use crate::defaults::key;
use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::source::Origin;
use crate::syntax::{Node, Property, Value};
use std::collections::{BTreeMap, BTreeSet};
use stdlib::schema;

/// Where a training stage stands: its file and its place among the nodes of the file.
type Place = (usize, usize);

/// Copies children along every `like=`, the stages that are referred to first.
///
/// A stage that cannot take over what it asks for is damaged: what it lacks may be what it did not get.
pub fn merge(files: &mut Files, diagnostics: &mut Vec<Diagnostic>) {
    let places = places(files);
    let mut done = BTreeSet::new();
    for &place in places.values() {
        let (chain, in_circle) = chain(files, &places, place, &mut done);
        for &stage in &chain[in_circle..] {
            node_mut(files, stage).damaged = true;
        }
        for stage in chain.into_iter().rev() {
            fill(files, &places, stage, diagnostics);
        }
    }
}

/// Returns a stage and those that it is like, one after the other, as far as they are not filled yet, and from
/// where on they are like each other in a circle.
///
/// A circle ends where it closes; it is reported where names are followed.
fn chain(
    files: &Files,
    places: &BTreeMap<String, Place>,
    start: Place,
    done: &mut BTreeSet<Place>,
) -> (Vec<Place>, usize) {
    let mut chain = Vec::new();
    let mut at = Some(start);
    while let Some(place) = at.filter(|place| done.insert(*place)) {
        chain.push(place);
        at = like(node(files, place)).and_then(|like| places.get(like.value.text()?).copied());
    }
    let closes = at.and_then(|at| chain.iter().position(|place| *place == at));
    let in_circle = closes.unwrap_or(chain.len());
    (chain, in_circle)
}

fn places(files: &Files) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for (at, file) in files.files.iter().enumerate() {
        for (index, node) in file.document.nodes.iter().enumerate() {
            let is_stage = schema::top(&node.name.text).is_some_and(|schema| schema.training);
            if let Some(name) = node.arguments.first().and_then(Value::text).filter(|_| is_stage) {
                places.entry(name.to_owned()).or_insert((at, index));
            }
        }
    }
    places
}

fn node(files: &Files, place: Place) -> &Node {
    &files.files[place.0].document.nodes[place.1]
}

fn node_mut(files: &mut Files, place: Place) -> &mut Node {
    &mut files.files[place.0].document.nodes[place.1]
}

fn like(node: &Node) -> Option<&Property> {
    node.properties.iter().find(|property| property.key.text == "like")
}

/// Copies to one stage what it does not write.
fn fill(
    files: &mut Files,
    places: &BTreeMap<String, Place>,
    place: Place,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(reference) = like(node(files, place)).map(|property| property.value.clone()) else { return };
    let Some(&target) = reference.text().and_then(|name| places.get(name)) else {
        node_mut(files, place).damaged = true;
        return;
    };
    let (own, other) = (node(files, place), node(files, target));
    if own.name.text != other.name.text {
        diagnostics.push(other_kind(own, other, &reference));
        node_mut(files, place).damaged = true;
        return;
    }
    let is_whole = !other.damaged;
    let Some(schema) = schema::top(&own.name.text) else { return };
    let present: Vec<String> = own.children.iter().map(|child| key(child, schema)).collect();
    let taken = other.children.iter().filter(|child| !present.contains(&key(child, schema)));
    let mut taken: Vec<Node> = taken.cloned().collect();
    taken.iter_mut().for_each(|child| child.set_origin(Origin::Like));
    let own = node_mut(files, place);
    own.children.extend(taken);
    own.damaged |= !is_whole;
}

fn other_kind(own: &Node, other: &Node, reference: &Value) -> Diagnostic {
    let name = reference.text().unwrap_or_default();
    let message =
        format!("`{name}` is a `{}` stage, but this is a `{}` stage", other.name.text, own.name.text);
    Diagnostic::error(
        "wrong-reference",
        message,
        reference.span,
        format!("a `{}` stage is needed here", own.name.text),
    )
    .with_label(other.name.span, format!("a `{}` stage", other.name.text))
    .with_help(format!("name a `{}` stage, or write the children here", own.name.text))
}
