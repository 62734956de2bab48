//! `adapt show RECIPE`: the whole recipe with every value, and where each came from.
//!
//! The output is a recipe again: `defaults` are merged, parameters replaced, files joined.

use crate::diagnostics;
use crate::effect::{Mark, in_effect};
use crate::facts::Gatherer;
use crate::rounds::{Request, compile};
use crate::terminal;
use lang::Checked;
use lang::facts::Facts;
use lang::resolved::{Resolved, ResolvedNode, ResolvedValue};
use lang::source::{Origin, Source, SourceId, SourceKind, Span};
use lang::syntax;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Print a recipe with every value, and where each came from
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt show recipe.kdl                              a recipe again, each line with its origin
  adapt show recipe.kdl --set chat.lr=1e-4           what a run with this value would use
  adapt show recipe.kdl --format json                for machines

Origins: `default`; `std`; a file and line; `defaults`, `like` or `param` with theirs; `--set`.")]
pub struct Args {
    /// Recipe; `-` is standard input
    pub recipe: String,
    /// Set a value: `dutch.lr=1e-4`, `warmup=10%`, a parameter by its name
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// A form that a resolved recipe can be printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A recipe with comments.
    Text,
    /// One JSON object.
    Json,
}

/// The column where the origins of a line begin, where it is short enough.
const ORIGINS_AT: usize = 56;

/// Prints a recipe with every value filled in.
pub fn run(args: &Args) -> ExitCode {
    let request = match Request::read(&args.recipe, &args.sets, None) {
        Ok(request) => request,
        Err(error) => return terminal::wrong_use(&error),
    };
    let mut facts = Facts::default();
    let compiled = compile(&request, &mut facts, &mut Gatherer::quick());
    if let Some(failed) = compiled.report(diagnostics::Format::Full) {
        return failed;
    }
    let text = match args.format {
        Format::Text => text(&compiled.checked, &facts, true),
        Format::Json => {
            let json = to_json(&compiled.checked, &facts);
            serde_json::to_string_pretty(&json).expect("values are plain data") + "\n"
        }
    };
    terminal::print(&text)
}

/// Writes the resolved recipe; with `comments` every line says where its values came from.
pub fn text(checked: &Checked, facts: &Facts, comments: bool) -> String {
    let places = Places::of(&checked.sources);
    let mut writer = Writer { places: comments.then_some(&places), ..Writer::default() };
    writer.recipe(&in_effect(checked, facts));
    writer.out
}

/// Writes a resolved recipe without comments, and where each of its values stands.
pub fn marked(resolved: &Resolved) -> (String, Vec<Mark>) {
    let mut writer = Writer::default();
    writer.recipe(resolved);
    (writer.out, writer.marks)
}

/// A recipe in the making.
#[derive(Default)]
struct Writer<'a> {
    /// Where values came from, when lines say so.
    places: Option<&'a Places<'a>>,
    out: String,
    marks: Vec<Mark>,
    /// The node that is written.
    path: Vec<usize>,
}

impl Writer<'_> {
    fn recipe(&mut self, resolved: &Resolved) {
        self.out.push_str("adapt 1\n");
        for (index, node) in resolved.nodes.iter().enumerate() {
            self.out.push('\n');
            self.path = vec![index];
            self.node(node);
        }
    }

    fn node(&mut self, node: &ResolvedNode) {
        let start = self.out.len();
        let depth = self.path.len() - 1;
        self.out.push_str(&"    ".repeat(depth));
        self.mark(&node.head, None);
        for (index, value) in node.values.iter().enumerate() {
            self.out.push(' ');
            self.mark(&written(value), Some(index));
        }
        if !node.children.is_empty() {
            self.out.push_str(" {");
        }
        let comment = self.places.map_or(String::new(), |places| origins(node, places));
        if !comment.is_empty() {
            let width = self.out[start..].chars().count();
            self.out.push_str(&" ".repeat(ORIGINS_AT.saturating_sub(width)));
            self.out.push_str(" // ");
            self.out.push_str(&comment);
        }
        self.out.push('\n');
        for (index, child) in node.children.iter().enumerate() {
            self.path.push(index);
            self.node(child);
            self.path.pop();
        }
        if !node.children.is_empty() {
            self.out.push_str(&"    ".repeat(depth));
            self.out.push_str("}\n");
        }
    }

    fn mark(&mut self, text: &str, value: Option<usize>) {
        let start = self.out.len();
        self.out.push_str(text);
        self.marks.push(Mark { start, end: self.out.len(), path: self.path.clone(), value });
    }
}

fn written(value: &ResolvedValue) -> String {
    match value.key {
        Some(key) => format!("{key}={}", value.text),
        None => value.text.clone(),
    }
}

/// Says where the values of a line came from: once when all agree, else by value.
fn origins(node: &ResolvedNode, places: &Places) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for value in &node.values {
        let origin = places.origin(value).words();
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

/// The texts of a compilation, and the parameters that they declare.
struct Places<'a> {
    sources: &'a [Source],
    /// The place of each parameter's value, with its name.
    params: Vec<(Span, String)>,
}

/// Where a value came from.
struct From {
    kind: &'static str,
    /// The parameter that it is the value of.
    param: Option<String>,
    /// The file and line, when it was written in a file.
    place: Option<(String, usize)>,
    /// The argument, when it was given with `--set`.
    set: Option<(u32, String)>,
}

impl<'a> Places<'a> {
    fn of(sources: &'a [Source]) -> Self {
        let files = (0u32..).zip(sources).filter(|(_, source)| source.kind == SourceKind::Recipe);
        let params = files.flat_map(|(index, source)| params_of(SourceId(index), &source.text)).collect();
        Self { sources, params }
    }

    fn origin(&self, value: &ResolvedValue) -> From {
        let source = &self.sources[value.span.source.0 as usize];
        let from = |kind| From { kind, param: None, place: None, set: None };
        if let SourceKind::Set(index) = source.kind {
            return From { set: Some((index, source.text.clone())), ..from("set") };
        }
        let (line, _) = diagnostics::position(&source.text, value.span.start);
        let param = self.params.iter().find(|(span, _)| *span == value.span).map(|(_, name)| name.clone());
        let is_std = value.text.trim_start_matches('"').starts_with("std:");
        let kind = match value.origin {
            Origin::Default => return from("default"),
            Origin::Derived => return from("derived"),
            Origin::Defaults => "defaults",
            Origin::Like => "like",
            Origin::Written | Origin::Set if param.is_some() => "param",
            Origin::Written | Origin::Set if is_std => "std",
            Origin::Written | Origin::Set => "file",
        };
        From { param, place: Some((source.path.clone(), line)), ..from(kind) }
    }
}

/// The parameters that a file declares: the place of each one's value, and its name.
fn params_of(source: SourceId, text: &str) -> Vec<(Span, String)> {
    let (document, _) = syntax::parse(source, text);
    let params = document.nodes.iter().filter(|node| node.name.text == "param");
    params
        .filter_map(|node| Some((node.arguments.get(1)?.span, node.arguments.first()?.text()?.to_owned())))
        .collect()
}

impl From {
    /// Says it in a line: `a.kdl:4`, `defaults, a.kdl:5`, `param peak, a.kdl:2`, `--set a.lr=1e-4`.
    fn words(&self) -> String {
        if let Some((_, argument)) = &self.set {
            return format!("--set {argument}");
        }
        let Some((file, line)) = &self.place else { return self.kind.to_owned() };
        let kind = Some(self.kind).filter(|kind| !matches!(*kind, "file" | "param")).map(str::to_owned);
        let param = self.param.as_ref().map(|name| format!("param {name}"));
        kind.into_iter().chain(param).chain([format!("{file}:{line}")]).collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> Value {
        let mut value = json!({ "kind": self.kind });
        if let Some((file, line)) = &self.place {
            value["file"] = json!(file);
            value["line"] = json!(line);
        }
        if let Some(name) = &self.param {
            value["param"] = json!(name);
        }
        if let Some((index, argument)) = &self.set {
            value["set"] = json!(index);
            value["argument"] = json!(argument);
        }
        value
    }
}

/// Builds the resolved recipe for machines: nodes with their values as a recipe writes them.
pub fn to_json(checked: &Checked, facts: &Facts) -> Value {
    let places = Places::of(&checked.sources);
    let resolved = in_effect(checked, facts);
    let nodes = resolved.nodes.iter().map(|node| {
        let (kind, name) =
            node.head.split_once(' ').map_or((node.head.as_str(), None), |(kind, name)| (kind, Some(name)));
        let mut value = node_json(node, &places);
        value["kind"] = json!(kind);
        value["name"] = json!(name.map(|name| name.trim_matches('"')));
        value
    });
    json!({ "version": 1, "language": 1, "nodes": nodes.collect::<Vec<_>>() })
}

fn node_json(node: &ResolvedNode, places: &Places) -> Value {
    let value = |value: &ResolvedValue| json!({ "property": value.key, "value": value.text, "origin": places.origin(value).json() });
    json!({
        "kind": node.head,
        "values": node.values.iter().map(value).collect::<Vec<_>>(),
        "children": node.children.iter().map(|child| node_json(child, places)).collect::<Vec<_>>(),
    })
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
        insta::assert_snapshot!(text(&checked(RECIPE, &["chat.seed=7"]), &Facts::default(), true), @r###"
adapt 1

model base "base"                                        // a.kdl:3

dataset talks "talks.jsonl" {                            // a.kdl:4
    rows chat system="system" messages="messages" tools="tools" // chat: a.kdl:4; system, messages, tools: default
    holdout "5%"                                         // a.kdl:4
    on-bad-row error                                     // default
}

sft chat {
    model base                                           // a.kdl:7
    data talks                                           // a.kdl:8
    template std:zephyr                                  // std, a.kdl:9
    batch 8                                              // a.kdl:10
    optimizer adamw lr=3e-4 weight-decay=0 beta1=0.9 beta2=0.999 eps=1e-8 state=f32 clip=1 // adamw: a.kdl:11; lr: param peak, a.kdl:2; weight-decay, beta1, beta2, eps, state, clip: default
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
        let again = checked(&text(&first, &Facts::default(), true), &[]);
        assert_eq!(again.diagnostics, []);
        let shown = |checked| text(checked, &Facts::default(), false);
        assert_eq!(shown(&first), shown(&again));
    }

    #[test]
    fn json_names_every_origin() {
        let text = RECIPE
            .replace("epochs 2;", "epochs $passes;")
            .replace("param peak", "param passes 2\nparam peak");
        let json = to_json(&checked(&text, &["chat.seed=7", "peak=1e-3"]), &Facts::default());
        let sft = json["nodes"].as_array().expect("a list").iter().find(|node| node["kind"] == "sft");
        let sft = sft.expect("the stage is shown");
        assert_eq!(sft["name"], "chat");
        let origin = |kind: &str, index: usize| {
            let child =
                sft["children"].as_array().expect("a list").iter().find(|child| child["kind"] == kind);
            child.expect(kind)["values"][index]["origin"].clone()
        };
        assert_eq!(origin("batch", 0), json!({ "kind": "file", "file": "a.kdl", "line": 11 }));
        assert_eq!(origin("template", 0)["kind"], "std");
        assert_eq!(origin("seed", 0), json!({ "kind": "set", "set": 0, "argument": "chat.seed=7" }));
        assert_eq!(origin("optimizer", 1)["argument"], "peak=1e-3");
        assert_eq!(
            origin("epochs", 0),
            json!({ "kind": "defaults", "file": "a.kdl", "line": 2, "param": "passes" })
        );
        assert_eq!(origin("recompute", 0), json!({ "kind": "default" }));
    }

    #[test]
    fn what_like_takes_over_names_its_place() {
        let text = format!("{RECIPE}sft again like=chat {{ model base; data talks }}\n");
        let shown = super::text(&checked(&text, &[]), &Facts::default(), true);
        let again = shown.split("sft again").nth(1).expect("the stage is shown");
        assert!(again.contains("batch 8 ") && again.contains("// like, a.kdl:10"), "{shown}");
    }
}
