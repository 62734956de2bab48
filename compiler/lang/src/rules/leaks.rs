//! Rows that are evaluated must not be rows that were trained on.

use super::Context;
use super::data::{holds_out, origins};
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};

/// Which part of a source is read.
#[derive(Clone, Copy, PartialEq)]
enum Side<'a> {
    All,
    Only(&'a str),
    Except(&'a str),
}

impl Side<'_> {
    fn meets(self, other: Side) -> bool {
        match (self, other) {
            (Side::Only(a), Side::Only(b)) => a == b,
            (Side::Only(a), Side::Except(b)) | (Side::Except(b), Side::Only(a)) => a != b,
            (Side::All | Side::Except(_), Side::All | Side::Except(_)) => true,
            (Side::All, Side::Only(_)) | (Side::Only(_), Side::All) => true,
        }
    }
}

fn split<'a>(dataset: &'a Item, side: &str) -> Option<&'a str> {
    dataset.child("split").and_then(|split| split.property(side)).and_then(Slot::text)
}

/// The part of its source that a dataset trains on; what `holdout` draws is taken from it.
fn trained(dataset: &Item) -> Side<'_> {
    match (split(dataset, "train"), split(dataset, "eval")) {
        (Some(train), _) => Side::Only(train),
        (None, Some(eval)) => Side::Except(eval),
        (None, None) => Side::All,
    }
}

/// The part of its source that a dataset is evaluated on.
fn evaluated(dataset: &Item) -> Side<'_> {
    split(dataset, "eval").map_or(trained(dataset), Side::Only)
}

/// Checks the data that a training stage names with `on=`.
pub fn check_training(context: &mut Context, item: &Item, on: &Slot) {
    let Some(data) = on.text().and_then(|name| context.names.find(name)) else { return };
    check(context, data, on, &[item]);
}

/// Checks the data of an `evaluate` stage against what its model was trained on.
pub fn check_evaluate(context: &mut Context, item: &Item) {
    let Some(reference) = item.child_argument("data") else { return };
    let Some(data) = context.names.follow(item, "data") else { return };
    let mut upstream = Vec::new();
    let mut at = context.names.follow(item, "model");
    while let Some(stage) = at.filter(|stage| stage.schema.training && upstream.len() < 1000) {
        upstream.push(stage);
        at = context.names.follow(stage, "model");
    }
    check(context, data, reference, &upstream);
}

fn check(context: &mut Context, data: &Item, reference: &Slot, stages: &[&Item]) {
    let Some(data) = context.names.find(data.declared()) else { return };
    let parts = origins(context.names, data);
    if let Some(part) = parts.iter().find(|part| !holds_out(part) && is_trained_on(context, part)) {
        let message = format!("`{}` is trained on and has no held-out rows", part.declared());
        let declared = part.name.as_ref().map_or(part.at, |name| name.span);
        context.report(
            Diagnostic::error("no-held-out-rows", message, reference.span, "all of its rows are trained on")
                .with_label(declared, "declared here")
                .with_help("add `holdout \"5%\"` to the dataset, or name other data"),
        );
        return;
    }
    for stage in stages {
        let Some(trained_on) = context.names.follow(stage, "data") else { continue };
        if report_shared(context, trained_on, &parts, reference) {
            return;
        }
    }
}

/// Whether some stage of the recipe trains on a dataset.
fn is_trained_on(context: &Context, dataset: &Item) -> bool {
    let stages = context.names.items.iter().filter(|item| item.schema.training);
    let mut data = stages.filter_map(|stage| context.names.follow(stage, "data"));
    data.any(|data| origins(context.names, data).iter().any(|part| part.declared() == dataset.declared()))
}

/// Reports two datasets that read the same rows of one source, one to train, one to evaluate.
fn report_shared(context: &mut Context, trained_on: &Item, evaluated_on: &[&Item], reference: &Slot) -> bool {
    let Some(trained_on) = context.names.find(trained_on.declared()) else { return false };
    for train in origins(context.names, trained_on) {
        for eval in evaluated_on.iter().filter(|eval| eval.declared() != train.declared()) {
            if source(context, train) != source(context, eval) || !trained(train).meets(evaluated(eval)) {
                continue;
            }
            let message =
                format!("`{}` evaluates on rows that `{}` trains on", eval.declared(), train.declared());
            let place = |item: &Item| item.argument().map_or(item.at, |source| source.span);
            context.report(
                Diagnostic::error("shared-split", message, reference.span, "the same rows are trained on")
                    .with_label(place(train), "trained on from here")
                    .with_label(place(eval), "evaluated on from here")
                    .with_help(
                        "give the two datasets different splits, or use one dataset with `holdout \"5%\"`",
                    ),
            );
            return true;
        }
    }
    false
}

fn source(context: &Context, dataset: &Item) -> Option<String> {
    context.source_key(dataset)
}
