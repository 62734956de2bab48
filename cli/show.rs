//! `adapt show RECIPE`: the whole recipe with every value, and where each came from.
//!
//! The output is a recipe again: `defaults` are merged, parameters replaced, files joined.

use lang::Checked;
use lang::resolved::{ResolvedNode, ResolvedValue};
use lang::source::{Origin, Source, SourceKind};
use std::fmt::Write as _;

/// Show a recipe with every value filled in, and where each came from
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe, or `-` for standard input
    pub recipe: String,
    /// Set a value: PATH=VALUE
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

/// Writes the resolved recipe; with `comments` every line says where its values came from.
pub fn text(checked: &Checked, comments: bool) -> String {
    let mut out = String::from("adapt 1\n");
    for node in &checked.resolved.nodes {
        out.push('\n');
        write_node(node, 0, &checked.sources, comments, &mut out);
    }
    out
}

fn write_node(node: &ResolvedNode, depth: usize, sources: &[Source], comments: bool, out: &mut String) {
    let mut line = format!("{}{}", "    ".repeat(depth), node.head);
    for value in &node.values {
        line.push(' ');
        line.push_str(&written(value));
    }
    if !node.children.is_empty() {
        line.push_str(" {");
    }
    let comment = if comments { origins(node, sources) } else { String::new() };
    // Writing to a string cannot fail.
    let _ =
        if comment.is_empty() { writeln!(out, "{line}") } else { writeln!(out, "{line:<56} // {comment}") };
    for child in &node.children {
        write_node(child, depth + 1, sources, comments, out);
    }
    if !node.children.is_empty() {
        let _ = writeln!(out, "{}}}", "    ".repeat(depth));
    }
}

fn written(value: &ResolvedValue) -> String {
    match value.key {
        Some(key) => format!("{key}={}", value.text),
        None => value.text.clone(),
    }
}

/// Says where the values of a line came from: once when all agree, else by value.
fn origins(node: &ResolvedNode, sources: &[Source]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for value in &node.values {
        let origin = origin(value, sources);
        let name = value.key.unwrap_or(&value.text);
        match groups.iter_mut().find(|(known, _)| *known == origin) {
            Some((_, names)) => names.push(name),
            None => groups.push((origin, vec![name])),
        }
    }
    if let [(origin, _)] = groups.as_slice() {
        return origin.clone();
    }
    let parts: Vec<String> =
        groups.iter().map(|(origin, names)| format!("{}: {origin}", names.join(", "))).collect();
    parts.join("; ")
}

fn origin(value: &ResolvedValue, sources: &[Source]) -> String {
    let source = &sources[value.span.source.0 as usize];
    if let SourceKind::Set(_) = source.kind {
        return format!("--set {}", source.text);
    }
    let (line, _) = crate::diagnostics::position(&source.text, value.span.start);
    let place = format!("{}:{line}", source.path);
    match value.origin {
        Origin::Default => "default".into(),
        Origin::Written if value.text.starts_with("\"std:") || value.text.starts_with("std:") => {
            format!("std, {place}")
        }
        Origin::Written | Origin::Set => place,
        Origin::Defaults => format!("defaults, {place}"),
        Origin::Like => format!("like, {place}"),
        Origin::Derived => "derived".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lang::facts::Facts;
    use lang::{Input, check};

    fn checked(text: &str, sets: &[&str]) -> Checked {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        check(&Input { path: "a.kdl", text, sets: &sets }, &Facts::default())
    }

    const RECIPE: &str = r#"adapt 1
param peak 3e-4
model base "base"
dataset talks "talks.jsonl" { rows chat; holdout "5%" }
defaults { epochs 2; precision f32 }
sft chat {
    model base
    data talks
    template std:zephyr
    batch 8
    optimizer adamw lr=$peak
    sequence 128
}
"#;

    #[test]
    fn every_value_names_its_origin() {
        insta::assert_snapshot!(text(&checked(RECIPE, &["chat.seed=7"]), true), @r###"
adapt 1

model base "base"                                        // a.kdl:3

dataset talks "talks.jsonl" {                            // a.kdl:4
    rows chat system="system" messages="messages"        // chat: a.kdl:4; system, messages: default
    holdout "5%"                                         // a.kdl:4
    on-bad-row error                                     // default
}

sft chat {
    model base                                           // a.kdl:7
    data talks                                           // a.kdl:8
    template std:zephyr                                  // std, a.kdl:9
    batch 8                                              // a.kdl:10
    optimizer adamw lr=3e-4 weight-decay=0 beta1=0.9 beta2=0.999 eps=1e-8 state=f32 clip=1 // adamw: a.kdl:11; lr: a.kdl:2; weight-decay, beta1, beta2, eps, state, clip: default
    sequence 128 pack=#false overflow=drop               // 128: a.kdl:12; pack, overflow: default
    epochs 2                                             // defaults, a.kdl:5
    precision f32                                        // defaults, a.kdl:5
    seed 7                                               // --set chat.seed=7
    schedule cosine warmup="3%" floor="0%"               // default
    recompute auto                                       // default
    loss-on assistant                                    // default
    evaluate every="1 epoch"                             // default
}
"###);
    }

    #[test]
    fn what_is_shown_is_a_recipe_that_means_the_same() {
        let first = checked(RECIPE, &["chat.seed=7"]);
        assert!(first.recipe.is_some(), "{:?}", first.diagnostics);
        let again = checked(&text(&first, true), &[]);
        assert_eq!(again.diagnostics, []);
        assert_eq!(text(&first, false), text(&again, false));
    }
}
