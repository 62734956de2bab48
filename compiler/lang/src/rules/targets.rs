//! Rules about `export` and `publish`: what is written, and where.

use super::Context;
use super::{flow, sources};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};
use crate::values::Typed;

/// Checks an `export` stage.
pub fn check_export(context: &mut Context, item: &Item) {
    check_dtype(context, item);
    check_adapter(context, item);
    let Some(to) = item.child_argument("to") else { return };
    if to.text().is_some_and(|text| text.starts_with("hf:")) {
        context.report(
            Diagnostic::error(
                "bad-source",
                "`export` writes to a path, not to the hub",
                to.span,
                "not a path",
            )
            .with_help("write a path, or use `publish`"),
        );
        return;
    }
    check_shared(context, item, to);
    check_overwrites(context, item, to);
}

/// Checks a `publish` stage.
pub fn check_publish(context: &mut Context, item: &Item) {
    if let Some(to) = item.child_argument("to") {
        sources::check_target(context, to);
        check_shared(context, item, to);
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

/// Where a stage writes: a path from the current folder, or a name on the hub.
fn place(context: &Context, item: &Item, to: &Slot) -> Option<String> {
    let text = to.text().filter(|text| !text.is_empty())?;
    Some(if item.kind() == "publish" { text.to_lowercase() } else { context.resolve(item, text) })
}

/// Two stages do not write to one place.
fn check_shared(context: &mut Context, item: &Item, to: &Slot) {
    let Some(own) = place(context, item, to) else { return };
    let writers = context.names.items.iter().take_while(|other| !std::ptr::eq(*other, item));
    let mut before = writers.filter(|other| other.kind() == item.kind());
    let first = before.find_map(|other| {
        let to = other.child_argument("to")?;
        (place(context, other, to)? == own).then_some(to.span)
    });
    let Some(first) = first else { return };
    report_overwritten(context, format!("two stages write to `{own}`"), to.span, first, "written to here");
}

/// An export does not overwrite what the recipe reads.
fn check_overwrites(context: &mut Context, item: &Item, to: &Slot) {
    let Some(own) = place(context, item, to) else { return };
    let mut declared =
        context.names.items.iter().filter(|other| matches!(other.kind(), "model" | "tokenizer" | "dataset"));
    let Some(read) = declared.find(|other| context.source_key(other).as_ref() == Some(&own)) else { return };
    let Some(source) = read.argument().filter(|source| matches!(source.value, Typed::Text(_))) else {
        return;
    };
    report_overwritten(
        context,
        format!("`{own}` is read and written"),
        to.span,
        source.span,
        "read from here",
    );
}

fn report_overwritten(context: &mut Context, message: String, at: Span, first: Span, label: &str) {
    context.report(
        Diagnostic::error("shared-target", message, at, "would be overwritten")
            .with_label(first, label)
            .with_help("write another place"),
    );
}
