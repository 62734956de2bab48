//! Rules about `export` and `publish`: what is written, and where.

use super::Context;
use super::{flow, sources};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};
use std::collections::BTreeMap;

/// Declarations that are read from somewhere.
const SOURCES: [&str; 3] = ["model", "tokenizer", "dataset"];

/// What is said of a place that is read.
const READ: &str = "read from here";

/// Sets places of the hub apart from paths.
const PUBLISHED: &str = "publish ";

/// Checks an `export` stage.
pub fn check_export(context: &mut Context, item: &Item) {
    check_dtype(context, item);
    check_adapter(context, item);
    let hub = item.child_argument("to").filter(|to| to.text().is_some_and(|text| text.starts_with("hf:")));
    if let Some(to) = hub {
        let message = "`export` writes to a path, not to the hub";
        context.report(
            Diagnostic::error("bad-source", message, to.span, "not a path")
                .with_help("write a path, or use `publish`"),
        );
    }
}

/// Checks a `publish` stage.
pub fn check_publish(context: &mut Context, item: &Item) {
    if let Some(to) = item.child_argument("to") {
        sources::check_target(context, to);
    }
}

/// A quantised file has the dtype of its quantisation.
fn check_dtype(context: &mut Context, item: &Item) {
    let quantize = item.child("format").and_then(|format| format.property("quantize"));
    let (Some(quantize), Some(dtype)) = (quantize, item.child("dtype")) else { return };
    let mut places = [quantize.key, dtype.at];
    places.sort();
    context.report(
        Diagnostic::error(
            "conflicting-options",
            "`quantize` and `dtype` both say how numbers are stored",
            places[1],
            "the second",
        )
        .with_label(places[0], "the first")
        .with_help("keep one of them"),
    );
}

/// The adapter alone can be written only where there is one.
fn check_adapter(context: &mut Context, item: &Item) {
    let Some(format) = item.child_argument("format").filter(|format| format.text() == Some("peft")) else {
        return;
    };
    let Some(from) = flow::starts_from(context.names, item).filter(|from| from.schema.gives == "model")
    else {
        return;
    };
    if from.damaged || flow::model_type(context, from).adapter.is_some() {
        return;
    }
    let message = format!("`{}` has no adapter that could be written", from.declared());
    let diagnostic = Diagnostic::error("no-adapter", message, format.span, "writes an adapter alone");
    let made = from.name.as_ref().map_or(from.at, |name| name.span);
    let what = match from.kind() {
        "model" => "a whole model",
        _ if from.schema.training => "trains without `lora`",
        _ => "gives a whole model",
    };
    context.report(
        diagnostic
            .with_label(made, what)
            .with_help("write `format safetensors`, or name a stage that trains with `lora`"),
    );
}

/// Checks that no two stages write to one place, and none to a place that is read.
pub fn check_places(context: &mut Context) {
    let mut taken: BTreeMap<String, (Span, &str)> = BTreeMap::new();
    for item in context.names.items.iter().filter(|item| SOURCES.contains(&item.kind())) {
        if let (Some(key), Some(source)) = (context.source_key(item), item.argument()) {
            taken.entry(key).or_insert((source.span, READ));
        }
    }
    for item in context.names.items.iter().filter(|item| matches!(item.kind(), "export" | "publish")) {
        let written = item.child_argument("to").and_then(|to| Some((to.span, place(context, item, to)?)));
        let Some((at, place)) = written else { continue };
        match taken.get(&place) {
            Some((first, label)) => report_overwritten(context, &place, at, *first, label),
            None => {
                taken.insert(place, (at, "written to here"));
            }
        }
    }
}

/// Where a stage writes: a path from the current folder, or a name on the hub.
fn place(context: &Context, item: &Item, to: &Slot) -> Option<String> {
    let text = to.text().filter(|text| !text.is_empty())?;
    match item.kind() {
        // The hub does not tell capitals apart; that a model is read from where it goes may be meant.
        "publish" => Some(format!("{PUBLISHED}{}", text.to_lowercase())),
        _ => Some(context.resolve(item, text)).filter(|_| !text.starts_with("hf:")),
    }
}

fn report_overwritten(context: &mut Context, place: &str, at: Span, first: Span, label: &str) {
    let place = place.trim_start_matches(PUBLISHED);
    let message = match label {
        READ => format!("`{place}` is read and written"),
        _ => format!("two stages write to `{place}`"),
    };
    context.report(
        Diagnostic::error("shared-target", message, at, "would be overwritten")
            .with_label(first, label)
            .with_help("write another place"),
    );
}
