//! Words that nobody knows, and which were meant.

use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::suggest;
use crate::syntax::{Node, Word};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use stdlib::schema;

/// A word that nothing knows, and the address of the node that it stands in; 0 for none.
type Unknown = (usize, String);

thread_local! {
    /// What is said of an unknown word follows from the schema alone, and a text may have one a thousand times.
    static UNKNOWN: RefCell<HashMap<Unknown, Diagnostic>> = RefCell::default();
    static MEANT: RefCell<HashMap<String, String>> = RefCell::default();
}

/// Every option once: most stand in many places, and a text may hold thousands that stand in none.
static ALL_OPTIONS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut seen = HashSet::new();
    let all = schema::TOP.iter().flat_map(|top| {
        let inner = top.children.iter().flat_map(|child| options(child));
        options(top).chain(inner)
    });
    all.filter(|name| seen.insert(*name)).collect()
});

/// Collects what stands in the wrong place of a node, under the name that was most likely meant.
pub(super) fn stray(node: &Node, schema: &'static schema::Node, found: &mut Vec<String>) {
    if schema.open {
        return;
    }
    let properties = node.properties.iter().map(|property| property.key.text.as_str());
    let unknown = properties.filter(|key| schema.property(key).is_none());
    found.extend(unknown.map(meant));
    for child in &node.children {
        match schema.child(&child.name.text) {
            Some(schema) => stray(child, schema, found),
            None => found.push(meant(&child.name.text)),
        }
    }
}

fn meant(name: &str) -> String {
    let name = name.split_once(':').map_or(name, |(key, _)| key);
    MEANT.with_borrow_mut(|known| {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let nearest = || suggest::nearest(name, all_options()).unwrap_or(name).to_owned();
        known.entry(name.to_owned()).or_insert_with(nearest).clone()
    })
}

/// `lr:1e-4` or `epochs:1`.
pub(super) fn stray_colon(word: &Word, right: &str) -> Diagnostic {
    let message = format!("`{}` joins a name and its value by a colon", word.text);
    Diagnostic::error("stray-colon", message, word.span, "read as one word")
        .with_help(format!("write `{right}`"))
        .with_fix(format!("replace with `{right}`"), word.span, right)
}

/// A property that is written as a child of its node.
pub(super) fn property_as_child(name: &Word, within: &'static schema::Node) -> Diagnostic {
    let message = format!("`{}` is a property of `{}`, not a child", name.text, within.name);
    Diagnostic::error(
        "misplaced-option",
        message,
        name.span,
        format!("stands on the line of `{}`", within.name),
    )
    .with_help(format!("write `{}=…` on the line of `{}`", name.text, within.name))
}

/// A child that is written as a property of its node.
pub(super) fn child_as_property(key: &Word, child: &str, within: &'static schema::Node) -> Diagnostic {
    let message = format!("`{}` is no property of `{}`", key.text, within.name);
    Diagnostic::error(
        "misplaced-option",
        message,
        key.span,
        format!("stands in the block of `{}`", within.name),
    )
    .with_help(format!("write `{child}` and its value on a line of its own in the block"))
}

/// Says why a text cannot be a name.
pub(super) fn refuse_name(text: &str) -> Option<&'static str> {
    if text == "defaults" || text == "none" {
        return Some("this word has a meaning of its own");
    }
    let begins = text.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let holds = text.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    (!begins || !holds).then_some("a name is made of letters, digits, `-` and `_`")
}

pub(super) fn bad_name(reason: &str, at: Span) -> Diagnostic {
    Diagnostic::error("bad-name", format!("this cannot be a name: {reason}"), at, reason)
        .with_help("choose a name such as `dutch` or `chat-2`")
}

/// How many unknown words are remembered with what is said of them.
const REMEMBERED: usize = 1024;

/// Returns what is said of a word at its place.
fn said_of(
    name: &Word,
    within: Option<&'static schema::Node>,
    say: impl FnOnce() -> Diagnostic,
) -> Diagnostic {
    let key = (within.map_or(0, |node| std::ptr::from_ref(node) as usize), name.text.clone());
    let mut found = UNKNOWN.with_borrow_mut(|known| {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.entry(key).or_insert_with(say).clone()
    });
    found.labels.iter_mut().for_each(|label| label.span = name.span);
    found.fixes.iter_mut().flat_map(|fix| &mut fix.edits).for_each(|edit| edit.span = name.span);
    found
}

pub(super) fn unknown_node(name: &Word) -> Diagnostic {
    said_of(name, None, || say_unknown_node(name))
}

fn say_unknown_node(name: &Word) -> Diagnostic {
    let tops = || schema::TOP.iter().map(|node| node.name);
    let places = places(&name.text);
    if !places.is_empty() {
        return misplaced(name, "at the top level", &places);
    }
    let diagnostic = Diagnostic::error(
        "unknown-node",
        format!("unknown node `{}`", name.text),
        name.span,
        "not a node of the language",
    );
    match suggest::nearest(&name.text, tops()) {
        Some(near) => suggest::offer(diagnostic, &name.text, near, name.span, ""),
        None => diagnostic.with_help(format!("write {}", suggest::list(tops(), "or"))),
    }
}

/// An option that does not stand here: misplaced when it stands elsewhere, else unknown.
pub(super) fn unknown_option(name: &Word, within: &'static schema::Node) -> Diagnostic {
    said_of(name, Some(within), || say_unknown_option(name, within))
}

fn say_unknown_option(name: &Word, within: &'static schema::Node) -> Diagnostic {
    let near = suggest::nearest(&name.text, options(within));
    let places = places(&name.text);
    if !places.is_empty() {
        let found = misplaced(name, &format!("in `{}`", within.name), &places);
        return match near {
            Some(near) => found.with_help(format!(
                "did you mean `{near}`? `{}` belongs to {}",
                name.text,
                places.join(" or ")
            )),
            None => found,
        };
    }
    let message = format!("unknown option `{}` in `{}`", name.text, within.name);
    let diagnostic = Diagnostic::error(
        "unknown-option",
        message,
        name.span,
        format!("not an option of `{}`", within.name),
    );
    if let Some(near) = near {
        return suggest::offer(diagnostic, &name.text, near, name.span, "");
    }
    let elsewhere: Vec<&str> = all_options().collect();
    match suggest::nearest(&name.text, elsewhere) {
        Some(near) => diagnostic.with_help(format!(
            "did you mean `{near}`, which stands in {}?",
            self::places(near).join(" or ")
        )),
        None if options(within).next().is_none() => diagnostic.with_help("remove it"),
        None => {
            diagnostic.with_help(format!("`{}` takes {}", within.name, suggest::list(options(within), "and")))
        }
    }
}

pub(super) fn misplaced(name: &Word, here: &str, places: &[String]) -> Diagnostic {
    let message = format!("`{}` does not stand {here}", name.text);
    Diagnostic::error("misplaced-option", message, name.span, format!("belongs to {}", places.join(" or ")))
        .with_help(format!("move it to {}, or remove it", places.join(" or ")))
}

/// Names of everything that may stand on or in a node.
pub(super) fn options(node: &'static schema::Node) -> impl Iterator<Item = &'static str> {
    let children = node.children.iter().map(|child| child.name);
    children.chain(node.properties.iter().map(|property| property.name))
}

fn all_options() -> impl Iterator<Item = &'static str> {
    ALL_OPTIONS.iter().copied()
}

/// Where an option stands, in words.
fn places(name: &str) -> Vec<String> {
    let mut places = Vec::new();
    if schema::top(name).is_some() {
        places.push("the top level".to_owned());
    }
    for top in schema::TOP.iter().filter(|top| top.name != "defaults") {
        let holds = top.child(name).is_some() || top.property(name).is_some();
        let inner =
            top.children.iter().filter(|child| child.child(name).is_some() || child.property(name).is_some());
        let found = inner.map(|child| child.name).chain(holds.then_some(top.name));
        for place in found.map(|place| format!("`{place}`")) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}
