//! Rules about what a stage updates: its `train` lines.

use super::Context;
use super::flow::{ModelType, switched_on};
use super::overlap;
use super::weights::{self, EMBEDDING, HEAD};
use crate::capability;
use crate::diagnostic::Diagnostic;
use crate::suggest;
use crate::tree::{Item, Slot};

/// Words that begin what a `train` line says, beside names of weights.
const WORDS: [&str; 3] = ["new-rows", "layers", "all-but"];

/// A part of a `train` line.
#[derive(Debug, Clone)]
pub enum Part<'i> {
    NewRows(&'i Slot),
    /// `layers` with the ranges that follow it.
    Layers(&'i Slot, Vec<&'i Slot>),
    /// `all-but` with all names that follow it.
    AllBut(&'i Slot, Vec<&'i Slot>),
    Weight(&'i Slot),
}

/// Reads the `train` lines of a stage.
pub fn parts(item: &Item) -> Vec<Part<'_>> {
    item.children_of("train").flat_map(line).collect()
}

fn line(train: &Item) -> Vec<Part<'_>> {
    let mut parts: Vec<Part> = Vec::new();
    for slot in weights::named([train].into_iter()) {
        match (slot.text().unwrap_or_default(), parts.last_mut()) {
            (_, Some(Part::AllBut(_, names))) => names.push(slot),
            (text, Some(Part::Layers(_, ranges))) if is_range(text) => ranges.push(slot),
            // What was meant by the word before it is reported there.
            (text, Some(Part::Weight(word))) if is_range(text) && is_nearly_layers(word) => {}
            ("all-but", None) => parts.push(Part::AllBut(slot, Vec::new())),
            ("new-rows", _) => parts.push(Part::NewRows(slot)),
            ("layers", _) => parts.push(Part::Layers(slot, Vec::new())),
            (_, _) => parts.push(Part::Weight(slot)),
        }
    }
    parts
}

/// Whether a text is meant to be a range: no name begins with a digit.
fn is_range(text: &str) -> bool {
    text.contains("..") || text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// Reads a range of layers that holds some.
pub fn range(slot: &Slot) -> Option<std::ops::Range<u64>> {
    let (from, to) = slot.text()?.split_once("..")?;
    let range = from.parse().ok()?..to.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

fn is_nearly_layers(slot: &Slot) -> bool {
    suggest::nearest(slot.text().unwrap_or_default(), ["layers"]).is_some()
}

/// Checks what a training stage updates.
pub fn check(context: &mut Context, item: &Item, start: &ModelType) {
    let Some(train) = item.child("train") else { return };
    if let Some(lora) = switched_on(item, "lora") {
        context.report(with_adapter(train, lora));
        return;
    }
    let parts = parts(item);
    let names: Vec<&Slot> = parts.iter().filter_map(weight).collect();
    names.iter().for_each(|slot| check_name(context, start, slot));
    weights::check_repeated(context, start, &names);
    weights::check_head(context, start, &names);
    for part in &parts {
        match part {
            Part::NewRows(slot) => {
                let missing = capability::of_word("train", "new-rows", slot.span);
                context.later.extend(missing.map(|missing| (item.declared().to_owned(), missing)));
                check_new_rows(context, item, start, slot);
            }
            Part::Layers(_, ranges) => ranges.iter().for_each(|range| check_range(context, start, range)),
            Part::AllBut(word, names) => check_all_but(context, start, word, names),
            Part::Weight(_) => {}
        }
    }
    overlap::check(context, start, &parts);
}

fn weight<'i>(part: &Part<'i>) -> Option<&'i Slot> {
    match part {
        Part::Weight(slot) => Some(slot),
        Part::NewRows(_) | Part::Layers(..) | Part::AllBut(..) => None,
    }
}

/// With an adapter the base is frozen.
fn with_adapter(train: &Item, lora: &Item) -> Diagnostic {
    let instead = if lora.origin.is_own() { "remove `lora`" } else { "write `lora none`" };
    Diagnostic::error(
        "conflicting-options",
        "`train` says which weights are updated, but with `lora` they are frozen",
        train.at,
        "updates weights of the base",
    )
    .with_label(lora.at, "freezes the base")
    .with_help(format!("name the weights with `also` in the block of `lora`, or {instead}"))
}

fn check_name(context: &mut Context, start: &ModelType, slot: &Slot) {
    match slot.text().unwrap_or_default() {
        "all-but" => context.report(
            Diagnostic::error(
                "misplaced-option",
                "`all-but` does not stand behind other words",
                slot.span,
                "stands first on its line",
            )
            .with_help("write `train all-but` and names on a line of its own"),
        ),
        text if is_range(text) => context.report(
            Diagnostic::error(
                "misplaced-option",
                format!("the range `{text}` does not stand behind `layers`"),
                slot.span,
                "a range of what?",
            )
            .with_help(bare_range_help(text)),
        ),
        _ if !weights::check_words(context, "unknown-weight", slot, &WORDS) => {
            weights::check_known(context, start, slot);
        }
        _ => {}
    }
}

/// Says how a range is written, also one that stands in one text with its word, as a `--set` writes it.
fn bare_range_help(text: &str) -> String {
    match text.strip_prefix("layers").map(str::trim_start) {
        Some(range) if range.len() < text.len() => {
            let range = range.trim_matches(['"', '\'']);
            format!("write `train layers \"{range}\"` in the recipe, where word and range are two values")
        }
        _ => format!("write `train layers \"{text}\"`"),
    }
}

/// New rows come from a stage that adds some.
fn check_new_rows(context: &mut Context, item: &Item, start: &ModelType, slot: &Slot) {
    if start.tokenizer.is_none() || start.grown.is_some() {
        return;
    }
    let reference = item.child_argument("model").map_or(item.at, |model| model.span);
    context.report(
        Diagnostic::error(
            "no-new-rows",
            "no stage before this one gives the model new rows",
            slot.span,
            "there are none",
        )
        .with_label(reference, "has the rows that it was published with")
        .with_help(
            "start from a `swap-tokenizer` or `extend-tokenizer` stage, or train `embed_tokens lm_head`",
        ),
    );
}

/// A range is written as the first layer and the one after the last.
fn check_range(context: &mut Context, start: &ModelType, range: &Slot) {
    let text = range.text().unwrap_or_default();
    let number = |part: &str| part.parse::<u64>().ok();
    let ends = text.split_once("..").and_then(|(from, to)| Some((number(from)?, number(to)?)));
    let inclusive =
        text.split_once("..=").and_then(|(from, to)| Some((number(from)?, number(to)?.checked_add(1)?)));
    match (ends, inclusive, start.layers) {
        (Some((from, to)), _, Some(layers)) if from < to && to > layers => {
            let message = format!("the model has {layers} layers, and the range `{text}` goes beyond them");
            let diagnostic = Diagnostic::error("out-of-range", message, range.span, "not all of them exist")
                .with_help(format!("write a range within `\"0..{layers}\"`"));
            context.report(weights::with_base(diagnostic, start, &format!("{layers} layers")));
        }
        (Some((from, to)), ..) if from < to => {}
        (Some(_), ..) => context.report(bad_range(range, "holds no layer")),
        (None, Some((from, to)), _) => {
            let right = format!("\"{from}..{to}\"");
            let found = bad_range(range, "not a range");
            context.report(found.with_help(format!("write `{right}`")).with_fix(
                format!("replace with `{right}`"),
                range.span,
                right,
            ));
        }
        (None, None, _) => context.report(bad_range(range, "not a range")),
    }
}

fn bad_range(range: &Slot, label: &str) -> Diagnostic {
    let message = format!("`{}` is not a range of layers", range.text().unwrap_or_default());
    Diagnostic::error("bad-layer-range", message, range.span, label)
        .with_help("write the first layer and the one after the last, such as `\"0..8\"` for 0 to 7")
}

/// `all-but` says what, and leaves something to train.
fn check_all_but(context: &mut Context, start: &ModelType, word: &Slot, names: &[&Slot]) {
    if names.is_empty() {
        context.report(
            Diagnostic::error("missing-value", "`all-but` names nothing", word.span, "all but what?")
                .with_help("write what stays as it is, such as `train all-but embed_tokens lm_head`"),
        );
    }
    names.iter().for_each(|slot| check_left_out(context, start, slot));
    weights::check_repeated(context, start, names);
    weights::check_head(context, start, names);
    if leaves_nothing(start, names) {
        context.report(
            Diagnostic::error(
                "nothing-to-train",
                "every weight is left out",
                word.span,
                "leaves nothing to train",
            )
            .with_help("name fewer weights"),
        );
    }
}

/// What is left out is a weight, or all layers.
fn check_left_out(context: &mut Context, start: &ModelType, slot: &Slot) {
    match slot.text().unwrap_or_default() {
        "layers" => {}
        text if is_range(text) || matches!(text, "all-but" | "new-rows") => context.report(
            Diagnostic::error(
                "misplaced-option",
                format!("`{text}` does not stand behind `all-but`"),
                slot.span,
                "not the name of a weight",
            )
            .with_help("leave it out, and say what is trained on lines of their own, such as `train layers \"4..8\"`"),
        ),
        _ => weights::check_known(context, start, slot),
    }
}

fn leaves_nothing(start: &ModelType, names: &[&Slot]) -> bool {
    let Some(architecture) = start.architecture else { return false };
    let weights = &architecture.weights;
    let is_named = |name: &str| {
        names
            .iter()
            .any(|slot| weights::canonical(Some(architecture), slot.text().unwrap_or_default()) == name)
    };
    let in_layers = weights.linears.iter().chain(weights.norms);
    // The head of a tied model goes with its embedding.
    let ends = if start.tied == Some(true) { &[EMBEDDING][..] } else { &[EMBEDDING, HEAD] };
    let outside = weights.outer.iter().chain(ends);
    (is_named("layers") || in_layers.into_iter().all(|name| is_named(name)))
        && outside.into_iter().all(|name| is_named(name))
}
