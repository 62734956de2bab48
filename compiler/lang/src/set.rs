//! `--set PATH=VALUE`: finds the one value that a path means and replaces it.
//!
//! Paths are looked up among the values that the recipe writes, then among all that it could
//! write. Values of stages are replaced after `defaults` were merged, all others before.

use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::source::Origin;
use crate::source::{Source, SourceId, SourceKind, Span};
use crate::suggest;
use crate::syntax::{self, Damage, Data, Document, Node, Property, Value, Word};
use stdlib::schema::{self, Status, Type};

/// One argument of `--set`.
pub struct Set {
    path: String,
    at: Span,
    value: Value,
}

/// A value that a path may mean.
#[derive(Debug, Clone)]
struct Place {
    /// The parts of the full path.
    parts: Vec<String>,
    file: usize,
    /// The node among those of its file; absent for a `defaults` node that nobody wrote.
    node: Option<usize>,
    /// Children from the node on: the name, and which of several.
    children: Vec<(String, usize)>,
    slot: PlaceSlot,
    /// Where the value stands, when it does.
    span: Option<Span>,
    /// Whether it is of a part of the language that is not built yet.
    later: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum PlaceSlot {
    /// An argument, counted without the declared name.
    Argument,
    Property(String),
}

/// Splits an argument at its first `=`; nothing when it has none, which is wrong use.
pub fn split(argument: &str) -> Option<(&str, &str)> {
    argument.split_once('=').filter(|(path, _)| !path.is_empty())
}

/// Reads the arguments; each becomes a source of its own.
pub fn read(arguments: &[String], sources: &mut Vec<Source>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Set> {
    let mut sets = Vec::new();
    for (index, text) in arguments.iter().enumerate() {
        let source = SourceId(sources.len() as u32);
        sources.push(Source {
            path: "--set".into(),
            kind: SourceKind::Set(index as u32),
            text: syntax::mask(text),
        });
        sets.extend(read_one(source, text, diagnostics));
    }
    sets
}

fn read_one(source: SourceId, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Set> {
    let span = |start: usize, end: usize| Span { source, start: start as u32, end: end as u32 };
    let Some((path, value)) = split(text) else {
        diagnostics.push(
            Diagnostic::error(
                "unknown-path",
                "this argument has no `=`",
                span(0, text.len()),
                "neither path nor value",
            )
            .with_help("write `--set PATH=VALUE`"),
        );
        return None;
    };
    let at = span(path.len() + 1, text.len());
    let data = syntax::literal(value).unwrap_or_else(|size| {
        diagnostics.push(syntax::does_not_fit(size, value, at));
        Data::Broken
    });
    let value = Value { data, span: at, bare: false, origin: Origin::Set, via: None, overrides: None };
    Some(Set { path: path.to_owned(), at: span(0, path.len()), value })
}

/// A value and the place that it goes to.
pub struct Assignment {
    place: Place,
    value: Value,
}

/// Finds the place of every value; parameters, `defaults` and declarations are set at once, and so is what a stage
/// is like, which decides what it has. The other values of stages are returned.
pub fn apply(sets: Vec<Set>, files: &mut Files, diagnostics: &mut Vec<Diagnostic>) -> Vec<Assignment> {
    let mut later = Vec::new();
    for set in sets {
        if set_param(&set, files) {
            continue;
        }
        let damage = files.damage();
        match find(&set, files) {
            Ok(places) => {
                for place in places {
                    let assignment = Assignment { place, value: set.value.clone() };
                    if is_training(files, &assignment.place) && !is_like(&assignment.place) {
                        later.push(assignment)
                    } else {
                        assign(assignment, files)
                    }
                }
            }
            Err(diagnostic) if damage < Damage::Everywhere || diagnostic.code != "unknown-path" => {
                diagnostics.push(*diagnostic)
            }
            Err(_) => {}
        }
    }
    later
}

/// Sets the values of stages, which now have their defaults.
pub fn finish(assignments: Vec<Assignment>, files: &mut Files) {
    assignments.into_iter().for_each(|assignment| assign(assignment, files));
}

fn is_training(files: &Files, place: &Place) -> bool {
    let node = place.node.map(|node| &files.files[place.file].document.nodes[node]);
    node.and_then(|node| schema::top(&node.name.text)).is_some_and(|schema| schema.training)
}

fn is_like(place: &Place) -> bool {
    place.children.is_empty() && matches!(&place.slot, PlaceSlot::Property(name) if name == "like")
}

/// A parameter wins over every other meaning of a path.
fn set_param(set: &Set, files: &mut Files) -> bool {
    let nodes = files.files.iter_mut().flat_map(|file| &mut file.document.nodes);
    let is_param = |node: &&mut Node| {
        node.name.text == "param" && node.arguments.len() > 1 && node.arguments[0].text() == Some(&set.path)
    };
    let Some(param) = { nodes }.find(is_param) else { return false };
    let old = param.arguments[1].span;
    param.arguments[1] = Value { overrides: Some(old), ..set.value.clone() };
    true
}

/// Finds the places that a path means: one, or with `*` all.
fn find(set: &Set, files: &Files) -> Result<Vec<Place>, Box<Diagnostic>> {
    let all = set.path.starts_with("*.");
    let path = set.path.strip_prefix("*.").unwrap_or(&set.path);
    let parts: Vec<&str> = path.split('.').collect();
    let written = written_places(files);
    let legal = legal_places(files);
    let exact =
        |places: &[Place]| places.iter().filter(|place| place.parts == parts).cloned().collect::<Vec<_>>();
    let matching = |places: &[Place]| {
        places.iter().filter(|place| means(&parts, &place.parts)).cloned().collect::<Vec<_>>()
    };
    let unwritten: Vec<Place> =
        legal.iter().filter(|place| place.node.is_some() && place.parts[0] != "defaults").cloned().collect();
    let mut candidates = if all { Vec::new() } else { exact(&written) };
    if candidates.is_empty() && !all {
        candidates = exact(&legal);
    }
    if candidates.is_empty() {
        candidates = matching(&written);
    }
    if candidates.is_empty() {
        candidates = matching(&unwritten);
        if candidates.iter().any(|place| !place.later) {
            candidates.retain(|place| !place.later);
        }
    }
    if candidates.is_empty() {
        candidates = config_places(&parts, files);
    }
    prefer_property(&mut candidates);
    match candidates.len() {
        0 => Err(Box::new(unknown_path(set, path, &legal))),
        1 => Ok(candidates),
        _ if all => Ok(candidates),
        _ => Err(Box::new(ambiguous_path(set, &candidates))),
    }
}

/// Where a property and a child have one name, as `prompt` of `sample`, an unwritten path means the property.
fn prefer_property(candidates: &mut Vec<Place>) {
    let alike = candidates.windows(2).all(|pair| pair[0].parts == pair[1].parts && pair[0].span.is_none());
    let is_property = |place: &Place| matches!(place.slot, PlaceSlot::Property(_));
    if alike && candidates.iter().any(is_property) {
        candidates.retain(is_property);
    }
}

/// Whether parts mean a full path: they end alike, and leading or middle parts may be left out.
fn means(parts: &[&str], full: &[String]) -> bool {
    let Some((last, front)) = parts.split_last() else { return false };
    if full.last().map(String::as_str) != Some(last) {
        return false;
    }
    let mut rest = full[..full.len() - 1].iter();
    front.iter().all(|part| rest.any(|full| full == part))
}

/// Returns the declared name of a node, or `defaults` with its kind.
fn head(node: &Node) -> Option<Vec<String>> {
    if node.name.text == "defaults" {
        let kind = node.arguments.first().and_then(Value::text);
        return Some(["defaults"].into_iter().chain(kind).map(str::to_owned).collect());
    }
    schema::top(&node.name.text).filter(|schema| schema.declares && schema.name != "param")?;
    node.arguments.first().and_then(Value::text).map(|name| vec![name.to_owned()])
}

/// Returns the places of all values that the files write.
fn written_places(files: &Files) -> Vec<Place> {
    let mut places = Vec::new();
    for (file, node, top) in tops(files) {
        let Some(parts) = head(top) else { continue };
        let place = Place {
            parts,
            file,
            node: Some(node),
            children: Vec::new(),
            slot: PlaceSlot::Argument,
            span: None,
            later: false,
        };
        let skip = if top.name.text == "defaults" { top.arguments.len() } else { 1 };
        if let Some(source) = top.arguments.get(skip) {
            places.push(extend(&place, "source", Some(source.span), PlaceSlot::Argument));
        }
        written_properties(top, &place, &mut places);
        written_children(top, &place, &mut places);
    }
    places
}

fn tops(files: &Files) -> impl Iterator<Item = (usize, usize, &Node)> {
    files
        .files
        .iter()
        .enumerate()
        .flat_map(|(file, of)| of.document.nodes.iter().enumerate().map(move |(node, top)| (file, node, top)))
}

/// Returns the place of something inside another.
fn extend(place: &Place, part: &str, span: Option<Span>, slot: PlaceSlot) -> Place {
    let mut place = Place { slot, span, ..place.clone() };
    place.parts.push(part.to_owned());
    place
}

fn written_properties(node: &Node, place: &Place, places: &mut Vec<Place>) {
    for property in &node.properties {
        let key = &property.key.text;
        places.push(extend(place, key, Some(property.value.span), PlaceSlot::Property(key.clone())));
    }
}

fn written_children(node: &Node, place: &Place, places: &mut Vec<Place>) {
    for (at, child) in node.children.iter().enumerate() {
        let name = &child.name.text;
        let which = node.children[..at].iter().filter(|other| other.name.text == *name).count();
        let span = child.arguments.first().map_or(child.name.span, |value| value.span);
        let mut inner = extend(place, name, Some(span), PlaceSlot::Argument);
        inner.children.push((name.clone(), which));
        places.push(inner.clone());
        written_properties(child, &inner, places);
        written_children(child, &inner, places);
    }
}

/// Returns the places of all values that the schema allows.
fn legal_places(files: &Files) -> Vec<Place> {
    let mut places = Vec::new();
    let mut plain_defaults = false;
    for (file, node, top) in tops(files) {
        let (Some(parts), Some(schema)) = (head(top), schema::top(&top.name.text)) else { continue };
        plain_defaults |= parts == ["defaults"];
        let place = Place {
            parts,
            file,
            node: Some(node),
            children: Vec::new(),
            slot: PlaceSlot::Argument,
            span: None,
            later: false,
        };
        if schema.name != "defaults" && !schema.arguments.is_empty() {
            places.push(extend(&place, "source", None, PlaceSlot::Argument));
        }
        legal_inside(schema, &place, &mut places);
    }
    if let Some(schema) = schema::top("defaults").filter(|_| !plain_defaults) {
        let parts = vec!["defaults".to_owned()];
        let place = Place {
            parts,
            file: 0,
            node: None,
            children: Vec::new(),
            slot: PlaceSlot::Argument,
            span: None,
            later: false,
        };
        legal_inside(schema, &place, &mut places);
    }
    places
}

fn legal_inside(schema: &'static schema::Node, place: &Place, places: &mut Vec<Place>) {
    for property in schema.properties {
        places.push(extend(place, property.name, None, PlaceSlot::Property(property.name.to_owned())));
    }
    for child in schema.children {
        let mut inner = extend(place, child.name, None, PlaceSlot::Argument);
        inner.later |= child.status == Status::Later;
        inner.children.push((child.name.to_owned(), 0));
        places.push(inner.clone());
        legal_inside(child, &inner, places);
    }
}

/// Returns the fields of config.json that a path means: `base.config.n_layer`.
fn config_places(parts: &[&str], files: &Files) -> Vec<Place> {
    let [.., config, field] = parts else { return Vec::new() };
    let models = tops(files).filter(|(_, _, top)| top.name.text == "model" && *config == "config");
    let places = models.filter_map(|(file, node, top)| {
        let head = head(top)?;
        let children = vec![("config".to_owned(), 0), ((*field).to_owned(), 0)];
        let full = vec![head[0].clone(), "config".into(), (*field).to_owned()];
        Some(Place {
            parts: full,
            file,
            node: Some(node),
            children,
            slot: PlaceSlot::Argument,
            span: None,
            later: false,
        })
    });
    places.filter(|place| means(parts, &place.parts)).collect()
}

fn unknown_path(set: &Set, path: &str, legal: &[Place]) -> Diagnostic {
    let message = format!("`{path}` names no value of the recipe");
    let diagnostic = Diagnostic::error("unknown-path", message, set.at, "names nothing");
    let near = nearest_paths(path, legal);
    if near.is_empty() {
        return diagnostic
            .with_help("write the name of a stage, a point and an option, such as `chat.epochs`");
    }
    diagnostic.with_help(format!("did you mean {}?", suggest::list(near.iter().map(String::as_str), "or")))
}

/// Returns up to three legal paths that are nearest: alike in the last part first, then as a whole.
fn nearest_paths(path: &str, legal: &[Place]) -> Vec<String> {
    let parts: Vec<&str> = path.split('.').collect();
    let score = |place: &Place| {
        let full = &place.parts;
        let ends =
            |part: &str, other: Option<&String>| other.map_or(9, |other| strsim::osa_distance(part, other));
        let last = ends(parts[parts.len() - 1], full.last());
        let first = if parts.len() > 1 { ends(parts[0], full.first()) } else { 0 };
        (2 * last + first, full.len())
    };
    let limit = 2 * (parts.iter().map(|part| part.len()).max().unwrap_or(0) / 3).clamp(1, 3) + 1;
    let mut scored: Vec<((usize, usize), String)> = legal
        .iter()
        .map(|place| (score(place), place.parts.join(".")))
        .filter(|((score, _), _)| *score <= limit)
        .collect();
    scored.sort();
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, path)| path).collect()
}

fn ambiguous_path(set: &Set, candidates: &[Place]) -> Diagnostic {
    let message = format!("`{}` means {} values", set.path, candidates.len());
    let mut diagnostic = Diagnostic::error("ambiguous-path", message, set.at, "more than one value");
    for place in candidates.iter().filter_map(|place| place.span).take(8) {
        diagnostic = diagnostic.with_label(place, "one of them");
    }
    let mut paths: Vec<String> = candidates.iter().map(|place| place.parts.join(".")).collect();
    paths.dedup();
    let last = set.path.rsplit('.').next().unwrap_or(&set.path);
    let shown = suggest::list(paths.iter().take(8).map(String::as_str), "or");
    diagnostic.with_help(format!("write {shown}, or `*.{last}` for all"))
}

/// Puts a value in its place; nodes on the way are added where they are missing.
fn assign(assignment: Assignment, files: &mut Files) {
    let Assignment { place, value } = assignment;
    let document = &mut files.files[place.file].document;
    let at = place.node.unwrap_or_else(|| add_defaults(document, value.span));
    let top = &mut document.nodes[at];
    let Some(mut schema) = schema::top(&top.name.text) else { return };
    let mut node = top;
    for (name, which) in &place.children {
        remove_rivals(node, name, schema);
        let absent = schema.child(name).map_or("", |child| child.absent);
        node = child_or_new(node, name, *which, absent, value.span);
        // Children of an open node have no schema of their own.
        schema = schema.child(name).unwrap_or(schema);
    }
    let skip = if place.children.is_empty() { 1 } else { 0 };
    match &place.slot {
        PlaceSlot::Argument => assign_argument(node, skip, value, schema),
        PlaceSlot::Property(key) => assign_property(node, key, value),
    }
}

/// Adds a `defaults` node; returns its place.
fn add_defaults(document: &mut Document, at: Span) -> usize {
    let is_plain = |node: &Node| node.name.text == "defaults" && node.arguments.is_empty();
    if let Some(known) = document.nodes.iter().position(is_plain) {
        return known;
    }
    document.nodes.push(new_node("defaults", at));
    document.nodes.len() - 1
}

fn new_node(name: &str, span: Span) -> Node {
    Node {
        name: Word { text: name.to_owned(), span },
        arguments: Vec::new(),
        properties: Vec::new(),
        children: Vec::new(),
        has_block: false,
        origin: Origin::Set,
        damaged: false,
    }
}

/// Setting a budget replaces the budget; so with every group of which one may stand.
fn remove_rivals(node: &mut Node, name: &str, schema: &'static schema::Node) {
    let Some(group) = schema.child(name).map(|child| child.group).filter(|group| !group.is_empty()) else {
        return;
    };
    node.children.retain(|child| {
        child.name.text == name || schema.child(&child.name.text).is_none_or(|other| other.group != group)
    });
}

/// Finds a child; one that nobody wrote begins as it stands when it is absent.
fn child_or_new<'n>(node: &'n mut Node, name: &str, which: usize, absent: &str, at: Span) -> &'n mut Node {
    let found = node.children.iter().enumerate().filter(|(_, child)| child.name.text == name).nth(which);
    let index = match found {
        Some((index, _)) => index,
        None => {
            node.children.push(absent_child(absent, at).unwrap_or_else(|| new_node(name, at)));
            node.children.len() - 1
        }
    };
    &mut node.children[index]
}

fn absent_child(absent: &str, at: Span) -> Option<Node> {
    let document = syntax::parse_default(at.source, absent);
    let mut child = document.nodes.into_iter().next()?;
    child.set_place(at);
    child.set_origin(Origin::Default);
    child.origin = Origin::Set;
    Some(child)
}

fn assign_argument(node: &mut Node, skip: usize, value: Value, schema: &'static schema::Node) {
    let takes_bool =
        schema.arguments.first().is_some_and(|argument| matches!(argument.ty, Type::Bool | Type::Literal));
    let stands_alone = schema.arguments.iter().all(|argument| !argument.required);
    if value.data == Data::Bool(true) && !takes_bool && stands_alone && skip == 0 {
        node.arguments.clear();
        return;
    }
    if matches!(value.text(), Some("none")) {
        node.properties.clear();
        node.children.clear();
    }
    // A number of sequences and a number of tokens are one choice.
    if schema.name == "batch" || schema.name == "stop" {
        node.properties.retain(|property| property.key.text != "tokens");
    }
    let overrides = node.arguments.get(skip).map(|old| old.span);
    node.arguments.truncate(skip);
    node.arguments.push(Value { overrides, ..value });
}

fn assign_property(node: &mut Node, key: &str, value: Value) {
    if (node.name.text == "batch" || node.name.text == "stop") && key == "tokens" {
        node.arguments.clear();
    }
    let old = node.properties.iter_mut().find(|property| property.key.text == key);
    match old {
        Some(old) => old.value = Value { overrides: Some(old.value.span), ..value },
        None => {
            node.properties.push(Property { key: Word { text: key.to_owned(), span: value.span }, value })
        }
    }
}

/// Reports secrets in values; the text itself is masked already.
pub fn report_secrets(sets: &[Set], diagnostics: &mut Vec<Diagnostic>) {
    for set in sets {
        let mut node = new_node("", set.at);
        node.arguments.push(set.value.clone());
        syntax::report_secrets(std::slice::from_ref(&node), diagnostics);
    }
}
