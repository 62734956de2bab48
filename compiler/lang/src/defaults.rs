//! `defaults`: fills in the children that a training stage does not write.

use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::names::Names;
use crate::source::Origin;
use crate::syntax::{Damage, Node, Value};
use crate::tree::Item;
use stdlib::schema;

/// Copies to every training stage the children that it does not write, nearest `defaults` first.
pub fn merge(files: &mut Files) {
    for file in 0..files.files.len() {
        let reach = reach(files, file);
        let lists: Vec<Vec<Node>> = reach.iter().map(|&from| defaults_of(files, from)).collect();
        for node in &mut files.files[file].document.nodes {
            let Some(schema) = schema::top(&node.name.text).filter(|schema| schema.training) else {
                continue;
            };
            lists.iter().for_each(|list| fill(node, schema, list));
        }
    }
}

/// Returns the file itself and all files that it uses, nearest first.
fn reach(files: &Files, file: usize) -> Vec<usize> {
    let mut reach = vec![file];
    let mut at = 0;
    while at < reach.len() {
        for &used in &files.files[reach[at]].uses {
            if !reach.contains(&used) {
                reach.push(used);
            }
        }
        at += 1;
    }
    reach
}

fn defaults_of(files: &Files, file: usize) -> Vec<Node> {
    files.files[file].document.nodes.iter().filter(|node| node.name.text == "defaults").cloned().collect()
}

/// Fills a stage from the `defaults` of one file: those of its kind, then the plain ones.
fn fill(stage: &mut Node, schema: &'static schema::Node, list: &[Node]) {
    for specific in [true, false] {
        let of_kind = |node: &&Node| match node.arguments.first().and_then(Value::text) {
            Some(kind) => specific && kind == schema.name,
            None => !specific && node.arguments.is_empty(),
        };
        let present: Vec<String> = stage.children.iter().map(|child| key(child, schema)).collect();
        for child in list.iter().filter(of_kind).flat_map(|node| &node.children) {
            let applies = schema.child(&child.name.text).is_some();
            if applies && !present.contains(&key(child, schema)) {
                let mut copy = child.clone();
                copy.set_origin(Origin::Defaults);
                stage.children.push(copy);
            }
        }
    }
}

/// What counts as one child: its group, else its name.
pub fn key(child: &Node, schema: &'static schema::Node) -> String {
    match schema.child(&child.name.text) {
        Some(child) if !child.group.is_empty() => child.group.to_owned(),
        _ => child.name.text.clone(),
    }
}

/// Reports children of `defaults` in the first file that no kind of its stages takes.
pub fn check(files: &Files, names: &Names, diagnostics: &mut Vec<Diagnostic>) {
    let stages: Vec<&Item> =
        names.items.iter().filter(|item| item.schema.training && item.file == 0).collect();
    files.files.iter().for_each(|file| check_twice(&file.document.nodes, diagnostics));
    let root = &files.files[0];
    if root.document.damage > Damage::None || stages.is_empty() {
        return;
    }
    let nodes = root.document.nodes.iter().filter(|node| node.name.text == "defaults");
    for node in nodes {
        let kind = node.arguments.first().and_then(Value::text);
        // A kind that does not exist is reported for what it is.
        if kind.is_some_and(|kind| schema::top(kind).is_none_or(|schema| !schema.training)) {
            continue;
        }
        let reached = || stages.iter().filter(|stage| kind.is_none_or(|kind| kind == stage.kind()));
        for child in &node.children {
            let is_known =
                schema::top("defaults").is_some_and(|defaults| defaults.child(&child.name.text).is_some());
            if is_known && !reached().any(|stage| stage.schema.child(&child.name.text).is_some()) {
                diagnostics.push(without_effect(child));
            }
        }
    }
}

/// One block for each kind: of two the second would lose silently.
fn check_twice(nodes: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let blocks: Vec<&Node> = nodes.iter().filter(|node| node.name.text == "defaults").collect();
    let kind = |node: &Node| node.arguments.first().map(|value| value.text().map(str::to_owned));
    for (at, second) in blocks.iter().enumerate() {
        if let Some(first) = blocks[..at].iter().find(|first| kind(first) == kind(second)) {
            let of = second.arguments.first().and_then(Value::text);
            let what = of.map_or("defaults".to_owned(), |kind| format!("defaults {kind}"));
            diagnostics.push(
                Diagnostic::error(
                    "repeated-option",
                    format!("`{what}` stands twice"),
                    second.name.span,
                    "the second",
                )
                .with_label(first.name.span, "the first")
                .with_help("join the two blocks"),
            );
        }
    }
}

fn without_effect(child: &Node) -> Diagnostic {
    let message = format!("no stage of this recipe takes `{}`", child.name.text);
    Diagnostic::error("ineffective-option", message, child.name.span, "changes nothing here")
        .with_help("remove it")
}
