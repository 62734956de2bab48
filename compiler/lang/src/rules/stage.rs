//! Rules about stages.

use super::Context;
use super::data::{has_held_out, row_type, row_type_slot};
use super::flow::{self, ModelType};
use super::{
    adapter, groups, leaks, preference, sampling, schedule, sequence, template, updated, watch, weights,
};
use crate::capability::Missing;
use crate::diagnostic::Diagnostic;
use crate::suggest;
use crate::tree::{Item, Slot};
use crate::values::{Typed, show_number};

/// Checks a training stage.
pub fn check_training(context: &mut Context, item: &Item) {
    check_budget(context, item);
    check_batch(context, item);
    let start = flow::start(context, item);
    schedule::check(context, item);
    sequence::check_training(context, item, &start);
    adapter::check(context, item, &start);
    updated::check(context, item, &start);
    groups::check(context, item, &start);
    preference::check(context, item, &start);
    check_router_loss(context, item, &start);
    check_switches(context, item);
    check_samples(context, item);
    let fit = check_rows(context, item, item.child_argument("data"));
    check_evaluation(context, item);
    watch::check(context, item);
    template::check_use(context, item, &start, fit);
}

/// Checks a stage that gives rows.
pub fn check_data_stage(context: &mut Context, item: &Item) {
    check_rows(context, item, item.child_argument("data"));
}

/// Checks an `evaluate` stage.
pub fn check_evaluate(context: &mut Context, item: &Item) {
    let start = flow::start(context, item);
    sequence::check_positions(context, item, &start);
    let fit = check_rows(context, item, item.child_argument("data"));
    template::check_use(context, item, &start, fit);
    if fit {
        sampling::check_template(context, item);
    }
    leaks::check_evaluate(context, item);
}

/// Checks a `generate` stage.
pub fn check_generate(context: &mut Context, item: &Item) {
    sampling::check(context, item);
    match (item.child("prompt"), item.child("data")) {
        (None, None) if !item.damaged => context.report(
            Diagnostic::error(
                "missing-option",
                "`generate` has nothing to answer",
                item.at,
                "needs `prompt` or `data`",
            )
            .with_help("write `prompt \"…\"` in its block"),
        ),
        (Some(prompt), Some(data)) => {
            let (first, second) = if prompt.at < data.at { (prompt, data) } else { (data, prompt) };
            context.report(
                Diagnostic::error(
                    "conflicting-options",
                    "`generate` takes prompts or data, not both",
                    second.at,
                    "the second",
                )
                .with_label(first.at, "the first")
                .with_help("keep one of them"),
            );
        }
        (None, None) | (Some(_), None) | (None, Some(_)) => {}
    }
    let fit = check_rows(context, item, item.child_argument("data"));
    template::check_use(context, item, &flow::start(context, item), fit);
}

fn check_budget(context: &mut Context, item: &Item) {
    let has_budget = item.children.iter().any(|child| child.schema.group == "budget");
    if !has_budget && !item.damaged {
        let message = format!("`{}` lacks a budget", item.kind());
        context.report(
            Diagnostic::error("missing-option", message, item.at, "needs `epochs`, `steps` or `tokens`")
                .with_help("write `epochs 1` in its block, or in `defaults`"),
        );
    }
}

fn check_batch(context: &mut Context, item: &Item) {
    let Some(batch) = item.child("batch") else { return };
    let (count, tokens) = (batch.argument(), batch.property("tokens"));
    if let (Some(count), Some(tokens)) = (count, tokens) {
        context.report(
            Diagnostic::error(
                "conflicting-options",
                "`batch` counts sequences or tokens, not both",
                tokens.key,
                "the second",
            )
            .with_label(count.span, "the first")
            .with_help("keep one of them"),
        );
    }
    let is_empty = batch.arguments.is_empty() && !batch.properties.iter().any(|slot| slot.name == "tokens");
    if is_empty && !batch.damaged {
        context.report(
            Diagnostic::error("missing-value", "`batch` has no size", batch.at, "of how many sequences?")
                .with_help("write `batch 8`, or `batch tokens=\"64Ki\"`"),
        );
    }
    if let (Some(micro), Some(count)) = (batch.property("micro"), count)
        && micro.number() > count.number()
    {
        context.report(
            Diagnostic::error(
                "out-of-range",
                "`micro` is larger than the batch",
                micro.span,
                "more than a step has",
            )
            .with_label(count.span, "the batch")
            .with_help("write at most the size of the batch"),
        );
    }
    check_batch_tokens(context, item, tokens);
    check_micro_tokens(context, item, batch);
    check_budget_tokens(context, item, tokens);
}

/// What one device takes at once is at most a step.
fn check_micro_tokens(context: &mut Context, item: &Item, batch: &Item) {
    let (Some(tokens), Some(micro)) = (batch.property("tokens"), batch.property("micro")) else { return };
    let Some(sequence) = item.child_argument("sequence") else { return };
    let (Some(all), Some(rows), Some(length)) = (tokens.number(), micro.number(), sequence.number()) else {
        return;
    };
    if rows > 1.0 && length <= all && rows * length > all {
        let message = format!(
            "{} sequences have {} tokens, more than a step",
            show_number(rows),
            show_number(rows * length)
        );
        context.report(
            Diagnostic::error("out-of-range", message, micro.span, "more than a step has")
                .with_label(tokens.span, "the tokens of a step")
                .with_label(sequence.span, "the tokens of a sequence")
                .with_help(format!("write `micro={}` or less", show_number((all / length).floor()))),
        );
    }
}

/// A budget of fewer tokens than one step has is none.
fn check_budget_tokens(context: &mut Context, item: &Item, tokens: Option<&Slot>) {
    let (Some(step), Some(budget)) = (tokens, item.child_argument("tokens")) else { return };
    if budget.number() < step.number() {
        context.report(
            Diagnostic::error(
                "out-of-range",
                "the budget has fewer tokens than one step",
                budget.span,
                "less than a step",
            )
            .with_label(step.span, "the tokens of a step")
            .with_help("raise the budget, or shrink the batch"),
        );
    }
}

/// A step of fewer tokens than one sequence is none.
fn check_batch_tokens(context: &mut Context, item: &Item, tokens: Option<&Slot>) {
    let (Some(tokens), Some(sequence)) = (tokens, item.child_argument("sequence")) else { return };
    if tokens.number() < sequence.number() {
        context.report(
            Diagnostic::error(
                "out-of-range",
                "a step has fewer tokens than one sequence",
                tokens.span,
                "less than a sequence",
            )
            .with_label(sequence.span, "the sequence")
            .with_help("raise `tokens`, or shorten `sequence`"),
        );
    }
}

/// The router loss is of models with experts.
fn check_router_loss(context: &mut Context, item: &Item, start: &ModelType) {
    let (Some(child), Some(architecture)) = (item.child("router-loss"), start.architecture) else { return };
    if child.origin.is_own() && architecture.experts.is_empty() {
        let message = format!("`router-loss` has no effect on a {} model", architecture.name);
        let diagnostic = Diagnostic::error("ineffective-option", message, child.at, "changes nothing here")
            .with_help("remove it");
        context.report(weights::with_base(diagnostic, start, "a model without experts"));
    }
}

/// `evaluate none`, `checkpoint none`, `lora none` say all there is to say.
fn check_switches(context: &mut Context, item: &Item) {
    for child in item.children.iter().filter(|child| child.word() == Some("none")) {
        let property =
            child.properties.iter().find(|slot| slot.is_written()).map(|slot| (slot.name, slot.key));
        let inner = || child.children.first().map(|inner| (inner.kind(), inner.at));
        let Some((name, at)) = property.or_else(inner) else { continue };
        let message = format!("`{name}` has no effect beside `none`");
        context.report(
            Diagnostic::error("ineffective-option", message, at, "changes nothing here")
                .with_label(child.arguments[0].span, "because of this")
                .with_help("remove one of them"),
        );
    }
}

fn check_samples(context: &mut Context, item: &Item) {
    for sample in item.children_of("sample") {
        let has_prompt = sample.children.iter().any(|child| child.kind() == "prompt")
            || sample.properties.iter().any(|slot| slot.name == "prompt");
        if !has_prompt && !sample.damaged {
            context.report(
                Diagnostic::error("missing-option", "`sample` has no prompt", sample.at, "needs `prompt`")
                    .with_help("write `sample prompt=\"…\"`"),
            );
        }
    }
}

/// The rows must be of a type that fits the stage; returns whether they are, as far as is known.
fn check_rows(context: &mut Context, item: &Item, reference: Option<&Slot>) -> bool {
    let Some(reference) = reference else { return true };
    let Some(data) = reference.text().and_then(|name| context.names.find(name)) else { return true };
    let Some(rows) = row_type_slot(context.names, data) else { return true };
    let kind = row_type(context.names, data).filter(|kind| !item.schema.fits.contains(kind));
    let Some(kind) = kind else { return true };
    let needs =
        suggest::list(item.schema.fits.iter().copied().filter(|fit| *fit != "tokens"), "or").replace('`', "");
    let message = format!("`{}` needs {needs} rows, but `{}` has {kind} rows", item.kind(), data.declared());
    context.diagnostics.push(
        Diagnostic::error("wrong-row-type", message, reference.span, format!("{needs} rows are needed"))
            .with_label(rows.span, format!("{kind} rows declared here"))
            .with_help(remedy(kind, item.kind())),
    );
    false
}

fn remedy(rows: &str, kind: &str) -> String {
    let fitting = match rows {
        "text" => "cpt",
        "preference" => "dpo",
        "labelled" => "kto",
        "tree" => "thread",
        _ => "sft",
    };
    if fitting == kind || matches!(kind, "evaluate" | "generate" | "thread" | "translate") {
        return format!("give `{kind}` a dataset of rows that fit");
    }
    if fitting == "thread" {
        return format!("make conversations or pairs of it with `thread`, or give `{kind}` rows that fit");
    }
    format!("train it with `{fitting}`, or give `{kind}` a dataset of rows that fit")
}

/// What a training stage evaluates on must be kept from training.
fn check_evaluation(context: &mut Context, item: &Item) {
    let all: Vec<&Item> = item.children_of("evaluate").collect();
    for (at, evaluate) in all.iter().enumerate() {
        if let Some(problem) = all[..at].iter().find_map(|first| same_evaluation(first, evaluate)) {
            context.report(problem);
            continue;
        }
        if at == 1 {
            let missing = Missing::new("a second `evaluate` of a stage", evaluate.at);
            let missing = missing.instead("measure the stage with `evaluate NAME { … }` of its own");
            context.later.push((item.declared().to_owned(), missing));
        }
        if evaluate.word() != Some("none") {
            check_one_evaluation(context, item, evaluate);
        }
    }
}

/// Two evaluations have their own data each.
fn same_evaluation(first: &Item, second: &Item) -> Option<Diagnostic> {
    let off = |item: &Item| item.word() == Some("none");
    if off(first) != off(second) {
        let message = "`evaluate none` switches off what another `evaluate` asks for";
        return Some(
            Diagnostic::error("conflicting-options", message, second.at, "the second")
                .with_label(first.at, "the first")
                .with_help("keep one of them"),
        );
    }
    let on =
        |item: &Item| item.properties.iter().find(|slot| slot.name == "on").map(|slot| slot.value.clone());
    let is_known = !first.damaged && !second.damaged && on(second) != Some(Typed::Broken);
    (is_known && on(first) == on(second)).then(|| {
        Diagnostic::error(
            "repeated-option",
            "`evaluate` stands twice for the same rows",
            second.at,
            "the second",
        )
        .with_label(first.at, "the first")
        .with_help("keep one of them, or name other data with `on=`")
    })
}

fn check_one_evaluation(context: &mut Context, item: &Item, evaluate: &Item) {
    let Some(on) = evaluate.properties.iter().find(|slot| slot.name == "on") else {
        if !evaluate.damaged {
            check_held_out(context, item, evaluate);
        }
        return;
    };
    if check_rows(context, item, Some(on)) {
        leaks::check_training(context, item, on);
    }
}

fn check_held_out(context: &mut Context, item: &Item, evaluate: &Item) {
    let Some(data) = context.names.follow(item, "data") else { return };
    if has_held_out(context.names, data) || data.schema.gives != "data" {
        return;
    }
    let message = format!("`{}` has no held-out rows to evaluate on", data.declared());
    let reference = item.child_argument("data").map_or(item.at, |slot| slot.span);
    context.report(
        Diagnostic::error("no-held-out-rows", message, evaluate.at, "evaluates on nothing")
            .with_label(reference, "every row of it is trained on")
            .with_help("add `holdout \"5%\"` to the dataset, or name other data with `on=`"),
    );
}
