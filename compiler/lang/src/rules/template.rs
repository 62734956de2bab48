//! Rules about templates: when one is needed, and what it needs.

use super::Context;
use super::data::row_type;
use super::stage::base_model;
use crate::diagnostic::Diagnostic;
use crate::facts::Want;
use crate::source::Span;
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
        check_turns(context, turns);
    }
    if let Some(file) = item.child_argument("file") {
        check_file(context, item, file);
    }
}

/// Every turn has a place for its message.
fn check_turns(context: &mut Context, turns: &Item) {
    for turn in &turns.children {
        let Some(slot) = turn.argument() else { continue };
        if slot.text().is_some_and(|text| !text.contains("{content}")) {
            let message = format!("the turn `{}` has no place for its message", turn.kind());
            context.report(
                Diagnostic::error("missing-content", message, slot.span, "without `{content}`")
                    .with_help("write `{content}` where the message goes"),
            );
        }
    }
}

fn check_file(context: &mut Context, item: &Item, file: &Slot) {
    let Some(text) = file.text() else { return };
    let path = context.resolve(item, text);
    if context.is_there(&path, file.span, true) && !context.facts.texts.contains_key(&path) {
        context.wants.push(Want::Text(path));
    }
}

/// Checks the template that a stage uses, or lacks.
pub fn check_use(context: &mut Context, item: &Item) {
    match item.child_argument("template") {
        Some(reference) => check_tokens(context, item, reference),
        None => check_needed(context, item),
    }
}

/// Rows of messages need a template: the stage's or the model's own.
fn check_needed(context: &mut Context, item: &Item) {
    if item.kind() == "generate" && item.child("data").is_none() || item.damaged {
        return;
    }
    let Some(data) = context.names.follow(item, "data") else { return };
    let Some(rows) = row_type(context.names, data).filter(|rows| *rows != "text") else { return };
    if has_template(context, item) != Some(false) {
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

/// Whether the model that an item starts from has a chat template; nothing when unknown.
fn has_template(context: &Context, item: &Item) -> Option<bool> {
    let mut at = context.names.follow(item, "model")?;
    for _ in 0..1000 {
        if at.kind() == "model" {
            return model_has_template(context, at);
        }
        if at.child("template").is_some() {
            return Some(true);
        }
        at = context.names.follow(at, "model")?;
    }
    None
}

fn model_has_template(context: &Context, model: &Item) -> Option<bool> {
    if model.child("tokenizer").is_some() {
        let tokenizer = context.names.follow(model, "tokenizer")?;
        if tokenizer.child("train").is_some() {
            return Some(false);
        }
        let key = context.source_key(tokenizer)?;
        let fact = context.facts.tokenizers.get(&key)?;
        return (!fact.partial || fact.chat_template.is_some()).then_some(fact.chat_template.is_some());
    }
    let fact = context.facts.models.get(&context.source_key(model)?).filter(|fact| fact.problem.is_none())?;
    (!fact.partial || fact.chat_template.is_some()).then_some(fact.chat_template.is_some())
}

/// A template of the library must find its tokens in the tokenizer.
fn check_tokens(context: &mut Context, item: &Item, reference: &Slot) {
    let Some(name) = reference.text().and_then(|name| name.strip_prefix("std:")) else { return };
    let Some(entry) = schema::TEMPLATES.iter().find(|entry| entry.name == name) else { return };
    let Some(base) = base_model(context, item) else { return };
    let missing = missing_tokens(context, base, entry);
    if missing.is_empty() {
        return;
    }
    let listed = suggest::list(missing.iter().map(String::as_str), "and");
    let message = format!("`std:{name}` needs {listed}, which the tokenizer of `{}` lacks", base.declared());
    let place = tokenizer_place(context, base);
    context.report(
        Diagnostic::error("missing-token", message, reference.span, "needs tokens that are not there")
            .with_label(place, "the tokenizer comes from here")
            .with_help("choose a template that needs no such tokens, such as `std:zephyr`, or train the tokenizer with `special`"),
    );
}

fn tokenizer_place(context: &Context, model: &Item) -> Span {
    let tokenizer = context.names.follow(model, "tokenizer");
    let declared = tokenizer.and_then(|tokenizer| tokenizer.name.as_ref()).map(|name| name.span);
    declared.or(model.argument().map(|source| source.span)).unwrap_or(model.at)
}

/// Returns what the tokenizer lacks; nothing when the tokenizer is unknown.
fn missing_tokens(context: &mut Context, model: &Item, entry: &'static LibraryEntry) -> Vec<String> {
    let source = match context.names.follow(model, "tokenizer") {
        Some(tokenizer) => tokenizer,
        None if model.child("tokenizer").is_some() => return Vec::new(),
        None => model,
    };
    if let Some(train) = source.child("train") {
        let special: Vec<&str> =
            train.children_of("special").flat_map(|child| &child.arguments).filter_map(Slot::text).collect();
        return lacking(entry, |token| special.contains(&token));
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
    let mut missing = lacking(entry, |token| fact.special.iter().any(|(text, _)| text == token));
    if entry.eos && fact.eos.is_none() {
        missing.push("an end-of-text token".into());
    }
    missing
}

fn lacking(entry: &'static LibraryEntry, has: impl Fn(&str) -> bool) -> Vec<String> {
    entry.needs.iter().filter(|token| !has(token)).map(|token| (*token).to_owned()).collect()
}
