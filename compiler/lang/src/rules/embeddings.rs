//! Rules about `swap-tokenizer` and `extend-tokenizer`: that something changes, and that it can be read.

use super::Context;
use super::flow::{self, ModelType, TokenizerOf};
use crate::diagnostic::Diagnostic;
use crate::paths;
use crate::source::Span;
use crate::tree::Item;
use std::collections::BTreeMap;

/// Checks a stage that gives a model new rows.
pub fn check(context: &mut Context, item: &Item) {
    let start = flow::start(context, item);
    check_tokenizer(context, item, &start);
    check_translations(context, item);
    if item.kind() == "extend-tokenizer" {
        check_adds_something(context, item);
        check_tokens(context, item, &start);
    }
}

/// The tokenizer is another than the model has.
fn check_tokenizer(context: &mut Context, item: &Item, start: &ModelType) {
    let Some(reference) = item.child_argument("tokenizer") else { return };
    let Some(new) = context.names.follow(item, "tokenizer").filter(|new| new.kind() == "tokenizer") else {
        return;
    };
    let Some(old) = start.tokenizer.filter(|_| start.added.is_empty()) else { return };
    let is_same = match old {
        TokenizerOf::Declared(old) if old.declared() == new.declared() => true,
        old => read_from(context, new)
            .is_some_and(|place| read_from(context, old.item()).as_ref() == Some(&place)),
    };
    if is_same {
        let message = format!("`{}` is the tokenizer that the model has", new.declared());
        context.report(
            Diagnostic::error("ineffective-option", message, reference.span, "changes nothing here")
                .with_label(old.place(), "the model has it from here")
                .with_help("name another tokenizer, or remove this stage"),
        );
    }
}

/// Where a tokenizer is read from: a folder and the tokenizer.json in it are one place.
pub fn read_from(context: &Context, item: &Item) -> Option<String> {
    let text = item.argument()?.text()?;
    let key = context.source_key(item).filter(|_| !text.starts_with("new:"))?;
    Some(if paths::is_remote(text) { key } else { key.trim_end_matches("/tokenizer.json").to_owned() })
}

/// `init translated` reads a file.
fn check_translations(context: &mut Context, item: &Item) {
    let Some(file) = item.child("init").and_then(|init| init.property("file")) else { return };
    let Some(path) = file.text().map(|text| context.resolve(item, text)) else { return };
    context.is_there(&path, file.span, false);
}

fn check_adds_something(context: &mut Context, item: &Item) {
    if item.child("tokenizer").is_none() && item.child("add").is_none() && !item.damaged {
        context.report(
            Diagnostic::error(
                "missing-option",
                "`extend-tokenizer` adds nothing",
                item.at,
                "needs `add` or `tokenizer`",
            )
            .with_help("write `add \"…\"` with the tokens, or `tokenizer NAME`"),
        );
    }
}

/// Every token is new, and added once.
fn check_tokens(context: &mut Context, item: &Item, start: &ModelType) {
    let known = known_tokens(context, start);
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for slot in item.children_of("add").flat_map(|child| &child.arguments) {
        let Some(token) = slot.text() else { continue };
        if let Some(first) = seen.get(token) {
            let message = format!("the token `{token}` stands twice");
            context.report(
                Diagnostic::error("repeated-option", message, slot.span, "the second")
                    .with_label(*first, "the first")
                    .with_help("keep one of them"),
            );
            continue;
        }
        seen.insert(token, slot.span);
        if token.is_empty() {
            let message = "a token without text is found nowhere";
            context.report(
                Diagnostic::error("ineffective-option", message, slot.span, "empty")
                    .with_help("write the text of the token"),
            );
        } else if let Some(place) = known.get(token) {
            let message = format!("the tokenizer has the token `{token}` already");
            context.report(
                Diagnostic::error("ineffective-option", message, slot.span, "adds nothing")
                    .with_label(*place, "the tokenizer has it from here")
                    .with_help("remove it"),
            );
        }
    }
}

/// The tokens that a tokenizer certainly has, each with where it has it from.
fn known_tokens(context: &Context, start: &ModelType) -> BTreeMap<String, Span> {
    let mut known = BTreeMap::new();
    if let Some(grown) = start.grown {
        let place = grown.name.as_ref().map_or(grown.at, |name| name.span);
        known.extend(start.added.iter().map(|token| ((*token).to_owned(), place)));
    }
    let Some(tokenizer) = start.tokenizer else { return known };
    let place = tokenizer.place();
    if let Some(train) = tokenizer.item().child("train") {
        let special = train.children_of("special").flat_map(|child| &child.arguments);
        known.extend(special.filter_map(|slot| Some((slot.text()?.to_owned(), place))));
        return known;
    }
    let key = context.source_key(tokenizer.item());
    let fact = key.and_then(|key| context.facts.tokenizers.get(&key)).filter(|fact| fact.problem.is_none());
    known.extend(fact.into_iter().flat_map(|fact| &fact.special).map(|(text, _)| (text.clone(), place)));
    known
}
