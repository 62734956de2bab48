//! Rules about templates: when one is needed, and what it needs.

use super::Context;
use super::data::row_type;
use super::flow::{ModelType, TokenizerOf};
use super::turns;
use crate::diagnostic::Diagnostic;
use crate::facts::Want;
use crate::suggest;
use crate::tree::{Item, Slot};
use stdlib::schema::{self, LibraryEntry};

/// Checks a declared template.
pub fn check(context: &mut Context, item: &Item) {
    let has_form = item.children.iter().any(|child| child.schema.group == "form");
    if !has_form && !item.damaged {
        context.report(
            Diagnostic::error(
                "missing-option",
                "this template is empty",
                item.at,
                "needs `jinja`, `file` or `turns`",
            )
            .with_help("write `jinja \"…\"`, `file \"…\"` or `turns { … }` in its block"),
        );
    }
    if let Some(turns) = item.child("turns") {
        turns::check(context, turns);
    }
    if let Some(file) = item.child_argument("file") {
        check_file(context, item, file);
    }
}

fn check_file(context: &mut Context, item: &Item, file: &Slot) {
    let Some(text) = file.text() else { return };
    let path = context.resolve(item, text);
    if context.is_there(&path, file.span, true) && !context.facts.texts.contains_key(&path) {
        context.wants.push(Want::Text(path));
    }
}

/// Checks the template that a stage uses, or lacks; what rows need that do not fit the stage is not asked.
pub fn check_use(context: &mut Context, item: &Item, start: &ModelType, rows_fit: bool) {
    match item.child_argument("template") {
        Some(reference) => check_tokens(context, start, reference),
        None if rows_fit => check_needed(context, item, start),
        None => {}
    }
}

/// Rows of messages need a template: the stage's or the model's own.
fn check_needed(context: &mut Context, item: &Item, start: &ModelType) {
    if item.kind() == "generate" && item.child("data").is_none() || item.damaged {
        return;
    }
    let Some(data) = context.names.follow(item, "data") else { return };
    let Some(rows) = row_type(context.names, data).filter(|rows| !matches!(*rows, "text" | "tokens")) else {
        return;
    };
    if start.template != Some(false) {
        return;
    }
    let message =
        format!("`{}` has {rows} rows, but neither stage nor model has a template", data.declared());
    let reference = item.child_argument("model").map_or(item.at, |slot| slot.span);
    context.report(
        Diagnostic::error("missing-template", message, item.at, "needs `template`")
            .with_label(reference, "this model has no chat template")
            .with_help("write `template std:chatml`, `std:zephyr` or `std:alpaca` in its block"),
    );
}

/// A template of the library must find its tokens in the tokenizer.
fn check_tokens(context: &mut Context, start: &ModelType, reference: &Slot) {
    let Some(name) = reference.text().and_then(|name| name.strip_prefix("std:")) else { return };
    let Some(entry) = schema::TEMPLATES.iter().find(|entry| entry.name == name) else { return };
    let Some(tokenizer) = start.tokenizer else { return };
    let missing = missing_tokens(context, start, tokenizer, entry);
    if missing.is_empty() {
        return;
    }
    let listed = suggest::list(missing.iter().map(String::as_str), "and");
    let holder = start.grown.or(start.base).map_or("", Item::declared);
    let message = format!("`std:{name}` needs {listed}, which the tokenizer of `{holder}` lacks");
    context.report(
        Diagnostic::error("missing-token", message, reference.span, "needs tokens that are not there")
            .with_label(tokenizer.place(), "the tokenizer comes from here")
            .with_help("choose a template that needs no such tokens, such as `std:zephyr`, or train the tokenizer with `special`"),
    );
}

/// Returns what the tokenizer lacks; nothing when the tokenizer is unknown.
fn missing_tokens(
    context: &mut Context,
    start: &ModelType,
    tokenizer: TokenizerOf,
    entry: &'static LibraryEntry,
) -> Vec<String> {
    let source = tokenizer.item();
    if let Some(train) = source.child("train") {
        let special: Vec<&str> =
            train.children_of("special").flat_map(|child| &child.arguments).filter_map(Slot::text).collect();
        return lacking(entry, |token| special.contains(&token) || start.added.contains(&token));
    }
    let is_new = source.argument().and_then(Slot::text).is_none_or(|text| text.starts_with("new:"));
    let Some(path) = context.source_key(source).filter(|_| !is_new) else { return Vec::new() };
    let Some(fact) = context.facts.tokenizers.get(&path) else {
        context.wants.push(Want::Tokenizer(path));
        return Vec::new();
    };
    if fact.problem.is_some() || fact.partial {
        return Vec::new();
    }
    let is_special = |token: &str| fact.special.iter().any(|(text, _)| text == token);
    let mut missing = lacking(entry, |token| is_special(token) || start.added.contains(&token));
    if entry.eos && fact.eos.is_none() {
        missing.push("an end-of-text token".into());
    }
    missing
}

fn lacking(entry: &'static LibraryEntry, has: impl Fn(&str) -> bool) -> Vec<String> {
    entry.needs.iter().filter(|token| !has(token)).map(|token| (*token).to_owned()).collect()
}
