//! Rules about `turns`: what stands in braces.

use super::Context;
use crate::conditions::Place;
use crate::diagnostic::Diagnostic;
use crate::suggest;
use crate::tree::{Item, Slot};
use std::ops::Range;

/// What a turn may hold.
const PLACEHOLDERS: [&str; 3] = ["content", "bos", "eos"];

/// Words of other tools for the message.
const MESSAGE: [&str; 6] = ["message", "text", "input", "prompt", "response", "output"];

/// A longer text in braces is no placeholder.
const LONGEST: usize = 64;

/// Checks every turn of a template.
pub fn check(context: &mut Context, turns: &Item) {
    for turn in &turns.children {
        let Some(slot) = turn.argument() else { continue };
        let Some(text) = slot.text() else { continue };
        let found = placeholders(text);
        let place = Place::of(text, slot.span, context.written(slot.span));
        let unknown: Vec<_> = found.iter().filter(|(_, name)| !PLACEHOLDERS.contains(name)).collect();
        for (bytes, name) in &unknown {
            context.report(unknown_placeholder(name, bytes, place));
        }
        let contents: Vec<_> = found.iter().filter(|(_, name)| *name == "content").collect();
        match contents.as_slice() {
            [] if unknown.is_empty() => context.report(missing_content(turn, slot)),
            [(first, _), (second, _), ..] => context.report(
                Diagnostic::error(
                    "repeated-option",
                    format!("the turn `{}` holds its message twice", turn.kind()),
                    place.at(second),
                    "the second",
                )
                .with_label(place.at(first), "the first")
                .with_help("keep one of them"),
            ),
            _ => {}
        }
    }
}

/// The words in braces with their places.
fn placeholders(text: &str) -> Vec<(Range<usize>, &str)> {
    let opens = text.match_indices('{').map(|(at, _)| at);
    let found = opens.filter_map(|at| {
        let end = text[at..].bytes().take(LONGEST).position(|byte| byte == b'}')?;
        let inner = &text[at + 1..at + end];
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_placeholder =
            inner.trim().starts_with(|c: char| c.is_ascii_alphabetic()) && inner.trim().chars().all(is_word);
        is_placeholder.then_some((at..at + inner.len() + 2, inner))
    });
    found.collect()
}

/// Every turn has a place for its message.
fn missing_content(turn: &Item, slot: &Slot) -> Diagnostic {
    let message = format!("the turn `{}` has no place for its message", turn.kind());
    Diagnostic::error("missing-content", message, slot.span, "without `{content}`")
        .with_help("write `{content}` where the message goes")
}

fn unknown_placeholder(name: &str, bytes: &Range<usize>, place: Place) -> Diagnostic {
    let at = place.at(bytes);
    let message = format!("a turn has no placeholder `{{{name}}}`");
    let diagnostic =
        Diagnostic::error("unknown-placeholder", message, at, "would stand in the text as it is");
    let word = name.trim().to_lowercase();
    let near = match MESSAGE.contains(&word.as_str()) {
        true => Some("content"),
        false => suggest::nearest(&word, PLACEHOLDERS),
    };
    match near {
        Some(near) => {
            let meant = format!("{{{near}}}");
            let diagnostic = diagnostic.with_help(format!("did you mean `{meant}`?"));
            if place.is_exact() {
                diagnostic.with_fix(format!("replace with `{meant}`"), at, meant)
            } else {
                diagnostic
            }
        }
        None => diagnostic.with_help("write `{content}`, `{bos}` or `{eos}`; `jinja` takes any text"),
    }
}
