//! Models that are merged come from one ancestor, and their rows of embeddings stand for the same tokens.
//!
//! What a recipe tells of it is certain; whether two models of the hub were trained from one base is not known.

use super::Context;
use super::embeddings::read_from;
use super::flow::{self, ModelType, TokenizerOf};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};
use std::rc::Rc;

/// A model that is merged.
struct Merged<'i, 'a> {
    slot: &'i Slot,
    name: &'i str,
    ty: Rc<ModelType<'a>>,
    /// The declared models that it comes from.
    roots: Vec<&'a Item>,
}

/// Compares every model of a merge with its base, or with the first.
pub fn check(context: &mut Context, merge: &Item, models: &[&Item]) {
    let references = merge.children_of("base").chain(models.iter().copied()).filter_map(Item::argument);
    let merged: Vec<Merged> = references.filter_map(|slot| read(context, slot)).collect();
    let Some((first, rest)) = merged.split_first() else { return };
    let tokenizer = merge.child("tokenizer").and_then(|child| Some((child.argument()?, child)));
    let joins_tokens = tokenizer.is_some_and(|(word, _)| word.text() != Some("base"));
    for other in rest.iter().filter(|other| other.name != first.name) {
        if let Some((new, read)) = unrelated(first, other) {
            context.report(of_two_starts(first, other, (new, read)));
        } else if !joins_tokens && let Some([one, two]) = other_tokens(context, &first.ty, &other.ty) {
            let found = of_other_tokens(first, other, one, two);
            context.report(match tokenizer {
                Some((word, child)) => found.with_default(word, child),
                None => found,
            });
        }
    }
}

fn read<'i, 'a>(context: &Context<'a>, slot: &'i Slot) -> Option<Merged<'i, 'a>> {
    let name = slot.text()?;
    let item = context.names.find(name).filter(|item| item.schema.gives == "model")?;
    let (ty, roots) = (flow::model_type(context, item), flow::roots(context.names, item));
    Some(Merged { slot, name, ty, roots })
}

/// Whether a model begins with random weights; those of one shape are drawn alike, so that two of them are related.
fn is_new(model: &Item) -> bool {
    model.argument().and_then(Slot::text).is_some_and(|source| source.starts_with("new:"))
}

/// Returns a model that begins with random weights and one that is read, when two models have no ancestor in common.
fn unrelated<'a>(one: &Merged<'_, 'a>, other: &Merged<'_, 'a>) -> Option<(&'a Item, &'a Item)> {
    let all = |merged: &Merged<'_, 'a>, new: bool| {
        let mut roots = merged.roots.iter();
        roots.all(|root| is_new(root) == new).then(|| merged.roots.first().copied()).flatten()
    };
    let pair = |one, other| all(one, true).zip(all(other, false));
    pair(one, other).or_else(|| pair(other, one))
}

fn source(model: &Item) -> Span {
    model.argument().map_or(model.at, |source| source.span)
}

fn of_two_starts(first: &Merged, other: &Merged, (new, read): (&Item, &Item)) -> Diagnostic {
    let message =
        format!("`{}` and `{}` cannot be merged: they come from no common model", first.name, other.name);
    Diagnostic::error("unrelated-models", message, other.slot.span, "of another ancestor")
        .with_label(first.slot.span, "merged with this")
        .with_label(source(new), "begins with random weights")
        .with_label(source(read), "begins with trained ones")
        .with_help("merge models that were trained from one model")
}

/// Returns the places that say so when the rows of two models certainly stand for other tokens.
fn other_tokens<'a>(context: &Context<'a>, one: &ModelType<'a>, other: &ModelType<'a>) -> Option<[Span; 2]> {
    let (of_one, of_other) = (one.tokenizer?, other.tokenizer?);
    if !std::ptr::eq(of_one.item(), of_other.item()) {
        let is_other = || is_swapped(one, other) && !is_one_place(context, of_one, of_other);
        let differs = are_trained_apart(of_one.item(), of_other.item()).unwrap_or_else(is_other);
        return differs.then(|| [of_one.place(), of_other.place()]);
    }
    // Tokens are added in order, so that two lists agree as far as both go.
    let agree = one.added.iter().zip(&other.added).all(|(one, other)| one == other);
    let place = |ty: &ModelType| ty.grown.map(|stage| stage.at);
    place(one).zip(place(other)).filter(|_| !agree).map(|(one, other)| [one, other])
}

/// Whether one tokenizer is trained in the recipe and the other is not, or on other text; nothing when none is.
fn are_trained_apart(one: &Item, other: &Item) -> Option<bool> {
    match (one.child("train"), other.child("train")) {
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => Some(true),
        (Some(one), Some(other)) => {
            let value = |train: &Item, name: &str| train.property(name).map(|slot| slot.value.clone());
            Some(["vocab", "on"].into_iter().any(|name| value(one, name) != value(other, name)))
        }
    }
}

/// Whether two models come from one, and at least one of them got another tokenizer since.
fn is_swapped(one: &ModelType, other: &ModelType) -> bool {
    one.base.zip(other.base).is_some_and(|(one, other)| std::ptr::eq(one, other))
}

fn is_one_place(context: &Context, one: TokenizerOf, other: TokenizerOf) -> bool {
    let place = read_from(context, one.item());
    place.is_some() && place == read_from(context, other.item())
}

fn of_other_tokens(first: &Merged, other: &Merged, one: Span, two: Span) -> Diagnostic {
    let message = format!(
        "the rows of embeddings of `{}` stand for other tokens than those of `{}`",
        other.name, first.name
    );
    Diagnostic::error("vocabulary-mismatch", message, other.slot.span, "rows of other tokens")
        .with_label(first.slot.span, "merged with these")
        .with_label(one, format!("`{}` has its tokens from here", first.name))
        .with_label(two, format!("`{}` has its tokens from here", other.name))
        .with_help("write `tokenizer union`, or merge models of one tokenizer")
}
