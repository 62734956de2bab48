//! Rules about the languages that translating models know, where their facts tell it.
//!
//! The lock file states the pairs of a model, and a tokenizer may have a token for each language. The name of a
//! model is no fact.

use super::Context;
use crate::diagnostic::Diagnostic;
use crate::facts::Want;
use crate::languages::{self, Language};
use crate::suggest;
use crate::tree::{Item, Slot};

/// How many languages are listed.
const LISTED: usize = 12;

/// The languages that a model reads and writes; nothing where that is not known.
struct Known {
    from: Option<Vec<Language>>,
    to: Option<Vec<Language>>,
    /// What the facts say, in words.
    words: String,
}

/// Checks that every model of a `translate` stage knows the languages that it is asked for.
pub fn check(context: &mut Context, item: &Item) {
    let models: Vec<&Item> = item.children_of("with").collect();
    for model in &models {
        let Some(reference) = model.argument() else { continue };
        let Some(known) = known(context, reference) else { continue };
        let sources = sources(item, model, &models);
        let found = match sources.as_slice() {
            [] => missing(item, None, &known).map(|missing| (None, missing)),
            sources => {
                sources.iter().find_map(|source| Some((Some(*source), missing(item, Some(source), &known)?)))
            }
        };
        if let Some((source, at)) = found {
            context.report(no_pair(item, reference, source, at, &known));
        }
    }
}

/// The languages that a model is asked to translate from; none where a column names them.
fn sources<'i>(item: &'i Item, model: &'i Item, models: &[&'i Item]) -> Vec<&'i Slot> {
    if model.damaged || model.properties.iter().any(|slot| slot.name == "from") {
        return model.property("from").into_iter().collect();
    }
    let Some(stated) = item.child_argument("from") else { return Vec::new() };
    let own: Vec<&Slot> = models.iter().filter_map(|model| model.property("from")).collect();
    let has_own = |leg: &Slot| own.iter().any(|of| may_be(of, leg) != Some(false));
    let legs = [Some(stated), item.child_argument("via")].into_iter().flatten();
    legs.filter(|leg| !has_own(leg)).collect()
}

fn may_be(one: &Slot, other: &Slot) -> Option<bool> {
    let read = |slot: &Slot| slot.text().and_then(Language::read);
    Some(read(one)?.may_be(&read(other)?))
}

/// Returns the language that a model certainly lacks: the one that it translates from, or every one that it could lead to.
fn missing<'i>(item: &'i Item, source: Option<&'i Slot>, known: &Known) -> Option<&'i Slot> {
    let lacks = |side: &Option<Vec<Language>>, slot: &Slot| {
        let language = slot.text().and_then(Language::read);
        let known = side.as_ref().zip(language);
        known.is_some_and(|(side, language)| !side.iter().any(|other| other.may_be(&language)))
    };
    if let Some(source) = source.filter(|source| lacks(&known.from, source)) {
        return Some(source);
    }
    let (to, via) = (item.child_argument("to")?, item.child_argument("via"));
    // What is translated from the language in between leads to the end.
    let leads_on = |via: &&Slot| source.is_none_or(|source| may_be(source, via) == Some(false));
    let is_lost = lacks(&known.to, to) && via.filter(leads_on).is_none_or(|via| lacks(&known.to, via));
    is_lost.then_some(to)
}

/// Returns what the facts tell of a model.
fn known(context: &mut Context, reference: &Slot) -> Option<Known> {
    let model = context.names.find(reference.text()?).filter(|model| model.kind() == "model")?;
    let key = context.source_key(model)?;
    if let Some(stated) = context.facts.languages.get(&key) {
        // A group such as `mul` holds languages that it does not name.
        let all = |codes: &[String]| codes.iter().map(|code| Language::read(code)).collect();
        let list = |codes: &[String]| shown(codes.iter().map(String::as_str));
        let words = format!("it translates from {} to {}", list(&stated.from), list(&stated.to));
        return Some(Known { from: all(&stated.from), to: all(&stated.to), words });
    }
    let Some(tokenizer) = context.facts.tokenizers.get(&key) else {
        context.wants.push(Want::Tokenizer(key));
        return None;
    };
    let tokens = languages::of_tokens(tokenizer.special.iter().map(|(text, _)| text.as_str()));
    let read: Vec<Language> = tokens.iter().filter_map(|token| Language::read(token)).collect();
    // One such token may be something else.
    let is_certain = tokenizer.problem.is_none() && read.len() > 1;
    let words = format!("its tokenizer has tokens for {}", shown(tokens.into_iter()));
    is_certain.then(|| Known { from: Some(read.clone()), to: Some(read), words })
}

fn shown<'c>(codes: impl Iterator<Item = &'c str>) -> String {
    let codes: Vec<String> = codes.map(|code| format!("`{}`", code.trim_matches('_'))).collect();
    match codes.len() > LISTED {
        true => format!("{} languages", codes.len()),
        false => suggest::list(codes.iter().map(|code| code.trim_matches('`')), "and"),
    }
}

fn no_pair(
    item: &Item,
    reference: &Slot,
    source: Option<&Slot>,
    lacking: &Slot,
    known: &Known,
) -> Diagnostic {
    let text = |slot: Option<&Slot>| slot.and_then(Slot::text).unwrap_or_default().to_owned();
    let name = text(Some(reference));
    let to = item.child_argument("to");
    let via = item
        .child_argument("via")
        .filter(|via| source.is_none_or(|source| may_be(source, via) == Some(false)));
    let ends: Vec<String> = [to, via].into_iter().flatten().map(|end| text(Some(end))).collect();
    let ends = suggest::list(ends.iter().map(String::as_str), "or");
    let message = match source {
        Some(source) => format!("`{name}` has no translation from `{}` to {ends}", text(Some(source))),
        None => format!("`{name}` has no translation to {ends}"),
    };
    Diagnostic::error("no-translation-pair", message, reference.span, "does not know these languages")
        .with_label(lacking.span, "not among its languages")
        .with_note(known.words.clone())
        .with_help("name a model of these languages, or a language in between with `via`")
}
