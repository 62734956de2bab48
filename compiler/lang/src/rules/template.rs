//! Rules about templates: when one is needed, and what it needs.

use super::Context;
use super::data::row_type;
use super::flow::{ModelType, TokenizerOf};
use super::{jinja, turns};
use crate::diagnostic::Diagnostic;
use crate::facts::Want;
use crate::source::Span;
use crate::suggest;
use crate::syntax;
use crate::tree::{Item, Slot};
use std::collections::BTreeSet;
use stdlib::schema::{self, LibraryEntry, Status};

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
    if let Some(jinja) = item.child_argument("jinja") {
        check_text(context, jinja);
    }
    if let Some(file) = item.child_argument("file") {
        check_file(context, item, file);
    }
}

/// A template that stands in the recipe, with its faults at their characters.
fn check_text(context: &mut Context, jinja: &Slot) {
    let Some(text) = jinja.text() else { return };
    let Some(fault) = jinja::fault(text) else { return };
    let places = syntax::offsets(text, context.written(jinja.span));
    let place = |byte: usize| Some(jinja.span.start + *places.as_ref()?.get(byte)? as u32);
    let exact = fault.at.as_ref().and_then(|at| Some((place(at.start)?, place(at.end)?)));
    let at = exact.map_or(jinja.span, |(start, end)| Span { start, end, ..jinja.span });
    context.report(
        Diagnostic::error("bad-template", fault.message, at, "not a template that can be used")
            .with_help(fault.help),
    );
}

fn check_file(context: &mut Context, item: &Item, file: &Slot) {
    let Some(text) = file.text() else { return };
    let path = context.resolve(item, text);
    if !context.is_there(&path, file.span, true) {
        return;
    }
    let Some(text) = context.facts.texts.get(&path) else {
        context.wants.push(Want::Text(path));
        return;
    };
    let Some(fault) = jinja::fault(text) else { return };
    let before = fault.at.map_or("", |at| text.get(..at.start).unwrap_or_default());
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    let message = format!("{}, in `{path}` at line {line}, column {column}", fault.message);
    context.report(
        Diagnostic::error("bad-template", message, file.span, "not a template that can be used")
            .with_help(fault.help),
    );
}

/// Checks the template that a stage uses, or lacks; what rows need that do not fit the stage is not asked.
pub fn check_use<'a>(context: &mut Context<'a>, item: &Item, start: &ModelType<'a>, rows_fit: bool) {
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

/// A template must find its tokens in the tokenizer.
fn check_tokens<'a>(context: &mut Context<'a>, start: &ModelType<'a>, reference: &Slot) {
    let (Some(name), Some(tokenizer)) = (reference.text(), start.tokenizer) else { return };
    let needs = match name.strip_prefix("std:") {
        Some(name) => schema::TEMPLATES.iter().find(|entry| entry.name == name).map(Needs::of_library),
        None => context.names.find(name).and_then(Needs::of_turns),
    };
    let Some(needs) = needs else { return };
    let Some(has) = Has::of(context, start, tokenizer) else { return };
    let missing = needs.missing(&has);
    if missing.is_empty() {
        return;
    }
    let listed = suggest::sentence(missing, "and");
    let holder = start.grown.or(start.base).map_or("", Item::declared);
    let message = format!("`{name}` needs {listed}, which the tokenizer of `{holder}` lacks");
    context.report(
        Diagnostic::error("missing-token", message, reference.span, "needs tokens that are not there")
            .with_label(tokenizer.place(), "the tokenizer comes from here")
            .with_help(remedy(&has)),
    );
}

/// Names templates whose tokens are there, or says how to get them.
fn remedy(has: &Has) -> String {
    let fitting = schema::TEMPLATES
        .iter()
        .filter(|entry| entry.status == Status::Built && Needs::of_library(entry).missing(has).is_empty());
    let names: Vec<String> = fitting.map(|entry| format!("std:{}", entry.name)).take(3).collect();
    match names.is_empty() {
        true => {
            "name the tokens in tokenizer_config.json of the tokenizer, or take another tokenizer".to_owned()
        }
        false => format!(
            "choose a template whose tokens are there, such as {}, or another tokenizer",
            suggest::list(names.iter().map(String::as_str), "or")
        ),
    }
}

/// What a template needs of a tokenizer.
struct Needs {
    tokens: &'static [&'static str],
    bos: bool,
    eos: bool,
}

impl Needs {
    fn of_library(entry: &'static LibraryEntry) -> Self {
        Self { tokens: entry.needs, bos: false, eos: entry.eos }
    }

    /// What the turns of a declared template name; Jinja may ask before it takes a token.
    fn of_turns(template: &Item) -> Option<Self> {
        let turns = template.child("turns")?;
        let holds = |mark: &str| {
            let texts = turns.children.iter().filter_map(|turn| turn.argument()?.text());
            texts.into_iter().any(|text| text.contains(mark))
        };
        Some(Self { tokens: &[], bos: holds("{bos}"), eos: holds("{eos}") })
    }

    /// Returns what is missing, in words.
    fn missing(&self, has: &Has) -> Vec<String> {
        let tokens = self.tokens.iter().filter(|token| !has.tokens.contains(**token));
        let mut missing: Vec<String> = tokens.map(|token| format!("`{token}`")).collect();
        if self.bos && !has.bos {
            missing.push("a begin-of-text token".into());
        }
        if self.eos && !has.eos {
            missing.push("an end-of-text token".into());
        }
        missing
    }
}

/// What a tokenizer has.
struct Has<'a> {
    tokens: BTreeSet<&'a str>,
    bos: bool,
    eos: bool,
}

impl<'a> Has<'a> {
    /// Returns what is known of a tokenizer; nothing when it is unknown.
    fn of(context: &mut Context<'a>, start: &ModelType<'a>, tokenizer: TokenizerOf<'a>) -> Option<Self> {
        let source = tokenizer.item();
        let added = start.added.iter().copied();
        if let Some(train) = source.child("train") {
            let special = train.children_of("special").flat_map(|child| &child.arguments);
            let tokens = special.filter_map(Slot::text).chain(added).collect();
            // What is trained has a token for either end.
            return Some(Self { tokens, bos: true, eos: true });
        }
        let is_new = source.argument().and_then(Slot::text).is_none_or(|text| text.starts_with("new:"));
        let path = context.source_key(source).filter(|_| !is_new)?;
        let Some(fact) = context.facts.tokenizers.get(&path) else {
            context.wants.push(Want::Tokenizer(path));
            return None;
        };
        if fact.problem.is_some() || fact.partial {
            return None;
        }
        let tokens = fact.special.iter().map(|(text, _)| text.as_str()).chain(added).collect();
        Some(Self { tokens, bos: fact.bos.is_some(), eos: fact.eos.is_some() })
    }
}
