//! Rows that are evaluated must not be rows that were trained on.

use super::Context;
use super::data::{holds_out, origins};
use super::flow::ancestors;
use crate::diagnostic::Diagnostic;
use crate::paths;
use crate::tree::{Item, Slot};
use std::collections::BTreeSet;

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
    let mut stages = vec![item];
    stages.extend(upstream(context, item));
    check(context, data, on, &stages);
}

/// Checks the data of an `evaluate` stage against what its model was trained on.
pub fn check_evaluate(context: &mut Context, item: &Item) {
    let Some(reference) = item.child_argument("data") else { return };
    let Some(data) = context.names.follow(item, "data") else { return };
    let stages = upstream(context, item);
    check(context, data, reference, &stages);
}

/// The training stages that made what a stage starts from, through merges and new tokenizers.
fn upstream<'a>(context: &Context<'a>, item: &Item) -> Vec<&'a Item> {
    let mut stages = ancestors(context.names, item);
    stages.retain(|stage| stage.schema.training);
    stages
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
    let mut seen = BTreeSet::new();
    for stage in stages {
        let trained_on = context.names.follow(stage, "data").filter(|data| seen.insert(data.declared()));
        let Some(trained_on) = trained_on else { continue };
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
            let is_shared = source(context, train) == source(context, eval);
            if !is_shared || !trained(train).meets(evaluated(eval)) || removes(context, train, eval) {
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

/// Where a dataset is read from; the rows of two revisions are the same but for a few.
fn source(context: &Context, dataset: &Item) -> Option<String> {
    let text = dataset.argument()?.text()?;
    if paths::is_remote(text) {
        return Some(paths::remote_key(text, None, dataset.property("config").and_then(Slot::text)));
    }
    context.source_key(dataset)
}

/// Whether one of two datasets leaves out what the other has.
fn removes(context: &Context, train: &Item, eval: &Item) -> bool {
    let without = |one: &Item, other: &Item| {
        let steps = one.children_of("decontaminate").filter_map(|step| step.property("against"));
        let named = steps.filter_map(|against| context.names.find(against.text()?));
        named.flat_map(|data| origins(context.names, data)).any(|part| part.declared() == other.declared())
    };
    without(train, eval) || without(eval, train)
}
