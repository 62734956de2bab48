//! Rules about stages.

use super::Context;
use super::data::{has_held_out, row_type, row_type_slot};
use super::{leaks, model, template};
use crate::diagnostic::Diagnostic;
use crate::names::Names;
use crate::source::Origin;
use crate::suggest;
use crate::tree::{Item, Slot};
use crate::values::{Typed, show_number};
use stdlib::schema::Unit;

/// How many stages a chain of models may have before it is taken for a circle.
const CHAIN: usize = 1000;

/// Checks a training stage.
pub fn check_training(context: &mut Context, item: &Item) {
    check_budget(context, item);
    check_batch(context, item);
    check_rate(context, item);
    check_schedule(context, item);
    check_sequence(context, item);
    check_overflow(context, item);
    check_label_smoothing(context, item);
    check_switches(context, item);
    check_samples(context, item);
    check_rows(context, item, item.child_argument("data"));
    check_evaluation(context, item);
    template::check_use(context, item);
}

/// Checks a stage that gives rows.
pub fn check_data_stage(context: &mut Context, item: &Item) {
    check_rows(context, item, item.child_argument("data"));
}

/// Checks an `evaluate` stage.
pub fn check_evaluate(context: &mut Context, item: &Item) {
    check_positions(context, item);
    if check_rows(context, item, item.child_argument("data")) {
        template::check_use(context, item);
    }
    leaks::check_evaluate(context, item);
}

/// Checks a `generate` stage.
pub fn check_generate(context: &mut Context, item: &Item) {
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
    check_rows(context, item, item.child_argument("data"));
    template::check_use(context, item);
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

/// The learning rate is written, or goes on from the stage before.
fn check_rate(context: &mut Context, item: &Item) {
    let Some(optimizer) = item.child("optimizer") else { return };
    let from = item.child("schedule").and_then(|schedule| schedule.property("from"));
    let rate = optimizer.properties.iter().find(|slot| slot.name == "lr");
    match (rate, from) {
        (None, None) if !optimizer.damaged && !item.damaged => context.report(
            Diagnostic::error("missing-option", "`optimizer` lacks `lr`", optimizer.at, "needs `lr`")
                .with_help("write `lr=…`: the peak learning rate"),
        ),
        (Some(rate), Some(from)) => context.report(
            Diagnostic::error(
                "conflicting-options",
                "the learning rate is written, and goes on from the stage before",
                rate.key,
                "the second",
            )
            .with_label(from.span, "starts where that stage ended")
            .with_help("remove one of them"),
        ),
        (None, None | Some(_)) | (Some(_), None) => {}
    }
}

fn check_schedule(context: &mut Context, item: &Item) {
    let Some(warmup) = item.child("schedule").and_then(|schedule| schedule.property("warmup")) else {
        return;
    };
    let (Typed::Quantity(rise, Unit::Steps), Some(steps)) = (&warmup.value, item.child_argument("steps"))
    else {
        return;
    };
    if steps.number().is_some_and(|steps| *rise > steps) {
        let message = format!("warmup takes {} steps, more than the stage has", show_number(*rise));
        context.report(
            Diagnostic::error("out-of-range", message, warmup.span, "longer than the stage")
                .with_label(steps.span, "the stage's steps")
                .with_help("shorten the warmup, or write it as a share such as `\"3%\"`"),
        );
    }
}

fn check_sequence(context: &mut Context, item: &Item) {
    check_positions(context, item);
    let Some(sequence) = item.child("sequence") else { return };
    let Some(prompt) = sequence.property("prompt") else { return };
    if !item.schema.fits.contains(&"preference") && sequence.origin == Origin::Written {
        let message = format!("`prompt` of `sequence` has no effect in `{}`", item.kind());
        context.report(
            Diagnostic::error("ineffective-option", message, prompt.key, "changes nothing here")
                .with_label(item.at, "not a stage of preference rows")
                .with_help("remove it"),
        );
    } else if let Some(tokens) = sequence.argument().filter(|tokens| prompt.number() >= tokens.number()) {
        context.report(
            Diagnostic::error(
                "out-of-range",
                "the prompt may be as long as the whole sequence",
                prompt.span,
                "leaves no room for an answer",
            )
            .with_label(tokens.span, "the sequence")
            .with_help("write less than the length of the sequence"),
        );
    }
}

/// A sequence must not be longer than the model's positions.
fn check_positions(context: &mut Context, item: &Item) {
    let Some(sequence) = item.child_argument("sequence") else { return };
    let Some(base) = base_model(context, item) else { return };
    let (Some(positions), Some(length)) = (model::positions(context, base), sequence.number()) else {
        return;
    };
    if length <= positions as f64 {
        return;
    }
    let message = format!(
        "the sequence has {} tokens, but model `{}` has {positions} positions",
        show_number(length),
        base.declared()
    );
    context.report(
        Diagnostic::error("sequence-too-long", message, sequence.span, "longer than the model's positions")
            .with_label(
                base.argument().map_or(base.at, |source| source.span),
                format!("{positions} positions"),
            )
            .with_help(format!("write `sequence {positions}` or less")),
    );
}

/// Follows `model` to the declaration that a chain of stages starts from.
pub fn base_model<'a>(context: &Context<'a>, item: &Item) -> Option<&'a Item> {
    let names = context.names;
    let mut at = starts_from(names, item)?;
    for _ in 0..CHAIN {
        if at.kind() == "model" {
            return Some(at);
        }
        at = starts_from(names, at)?;
    }
    None
}

/// Returns what a stage starts from; of a merge its base, or what it merges first.
pub fn starts_from<'a>(names: &Names<'a>, item: &Item) -> Option<&'a Item> {
    let child = match item.kind() {
        "merge" if item.child("base").is_some() => "base",
        "merge" => "from",
        _ => "model",
    };
    names.follow(item, child)
}

fn check_overflow(context: &mut Context, item: &Item) {
    let Some(sequence) = item.child("sequence").filter(|sequence| sequence.origin == Origin::Written) else {
        return;
    };
    let Some(overflow) = sequence.property("overflow") else { return };
    let fits = match overflow.text() {
        Some("split") => item.kind() == "cpt",
        Some("truncate-prompt") => item.kind() != "cpt",
        _ => true,
    };
    if !fits {
        let word = overflow.text().unwrap_or_default();
        let message = format!("`overflow={word}` does not fit `{}`", item.kind());
        let reason =
            if word == "split" { "a row of this stage cannot be cut" } else { "plain text has no prompt" };
        context.report(
            Diagnostic::error("ineffective-option", message, overflow.span, reason)
                .with_label(item.at, "in this stage")
                .with_help("write `drop`, `truncate-end` or `error`, or leave it out"),
        );
    }
}

/// Label smoothing belongs to the sigmoid loss.
fn check_label_smoothing(context: &mut Context, item: &Item) {
    let (Some(share), Some(loss)) = (item.child("label-smoothing"), item.child_argument("loss")) else {
        return;
    };
    let is_set = share.argument().and_then(Slot::number).is_some_and(|share| share > 0.0);
    if is_set && loss.text() != Some("sigmoid") {
        let message =
            format!("`label-smoothing` has no effect with `loss {}`", loss.text().unwrap_or_default());
        context.report(
            Diagnostic::error("ineffective-option", message, share.at, "changes nothing here")
                .with_label(loss.span, "because of this")
                .with_help("remove it, or write `loss sigmoid`"),
        );
    }
}

/// `evaluate none` and `checkpoint none` say all there is to say.
fn check_switches(context: &mut Context, item: &Item) {
    for child in item.children.iter().filter(|child| child.word() == Some("none")) {
        let Some(slot) = child.properties.iter().find(|slot| slot.is_written()) else { continue };
        let message = format!("`{}` has no effect beside `none`", slot.name);
        context.report(
            Diagnostic::error("ineffective-option", message, slot.key, "changes nothing here")
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
    let Some(evaluate) = item.child("evaluate").filter(|child| child.word() != Some("none")) else { return };
    let Some(on) = evaluate.properties.iter().find(|slot| slot.name == "on") else {
        check_held_out(context, item, evaluate);
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
