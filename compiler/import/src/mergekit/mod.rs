//! mergekit: one merge per document; mergekit-multi reads several, which may use each other by name.

mod keys;
mod numbers;

pub(crate) use keys::TOOL;

use crate::kdl::Line;
use crate::names::{is_hub_id, source};
use crate::section::Section;
use crate::yaml::Value;
use numbers::{Number, of_model, of_parameters};

/// Methods of mergekit that the language has.
const METHODS: [(&str, &str); 11] = [
    ("linear", "linear"),
    ("slerp", "slerp"),
    ("task_arithmetic", "task-arithmetic"),
    ("ties", "ties"),
    ("dare_linear", "dare-linear"),
    ("dare_ties", "dare-ties"),
    ("della", "della"),
    ("della_linear", "della-linear"),
    ("breadcrumbs", "breadcrumbs"),
    ("model_stock", "model-stock"),
    ("passthrough", "passthrough"),
];

/// What is declared so far: the id in the file and the name in the recipe.
struct Declared {
    models: Vec<(String, String)>,
    lines: Vec<Line>,
}

/// Turns documents into the nodes of a recipe.
pub(crate) fn read(documents: &[Section]) -> Vec<Line> {
    let mut declared = Declared { models: Vec::new(), lines: Vec::new() };
    let mut merges = Vec::new();
    // Names first: a document may use one that stands further down.
    let names: Vec<String> = documents.iter().map(|document| merge_name(document, &mut declared)).collect();
    for (document, name) in documents.iter().zip(names) {
        if document.node.pairs().is_empty() {
            continue;
        }
        if !document.is_on("merge_method") {
            document.missing("merge_method", "write the method of this merge");
            continue;
        }
        merges.push(merge(document, &name, &mut declared));
    }
    declared.lines.extend(merges);
    declared.lines
}

fn merge_name(document: &Section, declared: &mut Declared) -> String {
    let Some(name) = document.text("name") else { return document.import.free("merged") };
    document.carried("name", "the name of the merge");
    let ours = document.import.name(&name, "merge");
    declared.models.push((name, ours.clone()));
    ours
}

fn merge(document: &Section, name: &str, declared: &mut Declared) -> Line {
    let mut line = Line::new("merge").word(name);
    let theirs = document.text("merge_method").unwrap_or_default();
    let Some((_, method)) = METHODS.iter().find(|(known, _)| *known == theirs) else {
        let help = "use a method that the language has, such as `ties` or `della`";
        document.refuse("merge_method", format!("the language has no merge method `{theirs}`"), help);
        return line;
    };
    document.carried("merge_method", format!("`method {method}`"));
    for key in ["modules", "tokenizer.tokens"] {
        if document.is_on(key) {
            document.refuse(
                key,
                format!("`{key}` merges parts of models apart, which the language does not do"),
                "merge whole models",
            );
        }
    }
    let base = document.node("base_model").and_then(|_| model(document, "base_model", declared));
    let mut members = members(document, declared);
    numbers::share(document, method, &mut members);
    line.push(of_parameters(document, method).from(document.key("merge_method")));
    if let Some(base) = &base {
        line.push(Line::new("base").word(base).from(document.key("base_model")));
    }
    let needs_base = !matches!(*method, "linear" | "passthrough");
    if needs_base && base.is_none() {
        document.missing("base_model", "name the model that the others are compared with");
    }
    let takes_base = *method == "linear";
    for member in &members {
        // Other methods merge the changes against the base; the base itself has none.
        if base.as_ref() == Some(&member.name) && !takes_base {
            member.section.carried(member.key, "the base");
            continue;
        }
        line.push(of_model(member, method));
    }
    rest(document, declared).into_iter().for_each(|child| line.push(child));
    line
}

/// One model of a merge.
pub(crate) struct Member<'a> {
    pub name: String,
    pub section: Section<'a>,
    pub key: &'static str,
    pub numbers: Vec<(&'static str, Number, String)>,
}

/// The models of `models`, or of the one slice that spans whole models.
fn members<'a>(document: &Section<'a>, declared: &mut Declared) -> Vec<Member<'a>> {
    let mut sections = document.sections("models");
    let slices = document.sections("slices");
    if let [slice] = slices.as_slice() {
        sections = slice.sections("sources");
        let starts: Vec<bool> = sections.iter().map(starts_at_the_first_layer).collect();
        if starts.contains(&false) {
            document.refuse(
                "slices",
                "layers of a model are merged apart, which the language does not do",
                "merge whole models",
            );
        }
    } else if !slices.is_empty() {
        let help = "merge whole models; stacking layers of several has no word in the language";
        document.refuse("slices", "layers of models are stacked or merged in slices", help);
        return Vec::new();
    }
    let mut members = Vec::new();
    for section in sections {
        let Some(name) = model(&section, "model", declared) else { continue };
        let numbers = numbers::of(&section);
        members.push(Member { name, section, key: "model", numbers });
    }
    members
}

/// A slice from the first layer on is taken for the whole model: how many layers it has is not in the file.
fn starts_at_the_first_layer(source: &Section) -> bool {
    let range = source.node("layer_range").map(|node| node.items()).unwrap_or_default();
    source.changed("layer_range", "whole models are merged; the range must be all of their layers");
    matches!(range.first().map(|node| &node.value), None | Some(Value::Int(0)))
}

/// Declares the model behind a key and returns its name.
fn model(section: &Section, key: &str, declared: &mut Declared) -> Option<String> {
    let (id, revision) = match section.section(key) {
        Some(inner) => written_out(&inner)?,
        None => (section.text(key)?, None),
    };
    if id.contains('+') && !id.starts_with(['.', '/'])
        || id.split_once('+').is_some_and(|(_, lora)| lora.contains('/'))
    {
        let help = "merge the adapter into its base first, and name the result";
        section.refuse(key, "an adapter stands on the model, and a merge takes whole models", help);
        return None;
    }
    let (id, revision) = match id.split_once('@') {
        Some((name, at)) if is_hub_id(name) => (name.to_owned(), Some(at.to_owned())),
        _ => (id, revision),
    };
    section.carried(key, "a model");
    let full = match &revision {
        Some(revision) => format!("{id}@{revision}"),
        None => id.clone(),
    };
    if let Some((_, name)) = declared.models.iter().find(|(known, _)| *known == full) {
        return Some(name.clone());
    }
    let name = section.import.name(&id, "model");
    let mut line = Line::new("model").word(&name).quoted(&source(&id)).from(section.key(key));
    if let Some(revision) = revision {
        line = line.with_text("revision", &revision);
    }
    declared.lines.push(line);
    declared.models.push((full, name.clone()));
    Some(name)
}

/// A model reference that is written out: `{model: {path, revision}, lora}`.
fn written_out(inner: &Section) -> Option<(String, Option<String>)> {
    if inner.is_on("lora") {
        inner.refuse(
            "lora",
            "an adapter stands on the model, and a merge takes whole models",
            "merge the adapter into its base first",
        );
        return None;
    }
    let path_of = |section: &Section| {
        section.carried("path", "the model");
        section.carried("revision", "`revision=` of the model");
        Some((section.text("path")?, section.text("revision")))
    };
    if let Some(model) = inner.section("model") {
        return path_of(&model);
    }
    if let Some(id) = inner.text("model") {
        inner.carried("model", "the model");
        return Some((id, None));
    }
    let found = path_of(inner);
    if found.is_none() {
        inner.missing("model", "name the model");
    }
    found
}

/// Tokenizer, dtype: what is said of the result.
fn rest(document: &Section, declared: &mut Declared) -> Vec<Line> {
    let mut lines = Vec::new();
    let inner = document.section("tokenizer");
    let (section, key) = match &inner {
        Some(inner) => (inner, "source"),
        None => (document, "tokenizer_source"),
    };
    if let Some(inner) = &inner {
        if inner.is_on("tokens") {
            inner.refuse(
                "tokens",
                "rows of single tokens are chosen, which has no word in the language",
                "remove the list",
            );
        }
        inner.dropped("pad_to_multiple_of", "use `extend-tokenizer` with `pad-to` on the result");
    }
    if let Some(from) = section.text(key) {
        match from.as_str() {
            "base" => section.carried(key, "`tokenizer base`, the default"),
            "union" => {
                section.carried(key, "`tokenizer union`");
                lines.push(Line::new("tokenizer").word("union").from(section.key(key)));
            }
            other => {
                let id = other.strip_prefix("model:").unwrap_or(other);
                section.carried(key, "`tokenizer`");
                let name = section.import.name(&format!("{id}-tokenizer"), "tokenizer");
                declared
                    .lines
                    .push(Line::new("tokenizer").word(&name).quoted(&source(id)).from(section.key(key)));
                lines.push(Line::new("tokenizer").word(name).from(section.key(key)));
            }
        }
    }
    let key = if document.is_on("out_dtype") { "out_dtype" } else { "dtype" };
    if let Some(dtype) = document.text(key) {
        let ours = match dtype.as_str() {
            "bfloat16" => "bf16",
            "float16" => "f16",
            "float32" => "f32",
            other => {
                document.refuse(
                    key,
                    format!("the language has no dtype `{other}`"),
                    "write bfloat16, float16 or float32",
                );
                return lines;
            }
        };
        document.carried(key, "`dtype`");
        if key == "out_dtype" {
            document.dropped("dtype", "merging is done in f32; `out_dtype` is what is saved");
        }
        lines.push(Line::new("dtype").word(ours).from(document.key(key)));
    }
    lines
}
