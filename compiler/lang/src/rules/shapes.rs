//! Models that are merged have weights of the same shapes.

use super::Context;
use super::flow::{self, ModelType};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};
use serde_json::Value as Json;
use std::rc::Rc;

/// Fields of config.json that shape weights and have one name in all architectures that have them.
pub const SHARED_FIELDS: [&str; 3] = ["intermediate_size", "head_dim", "n_inner"];

/// Compares every model of a merge with its base, or with the first; returns whether they fit, as far as is known.
pub fn check(context: &mut Context, merge: &Item, models: &[&Item]) -> bool {
    let references = merge.children_of("base").chain(models.iter().copied()).filter_map(Item::argument);
    let known: Vec<(&Slot, Rc<ModelType>)> =
        references.filter_map(|slot| Some((slot, type_of(context, slot)?))).collect();
    let Some(((first, ty), rest)) = known.split_first() else { return true };
    let mut fit = true;
    let tokenizer = merge.child("tokenizer");
    let joins_tokens = match tokenizer.and_then(Item::argument).and_then(Slot::text) {
        None | Some("base") => false,
        Some(_) => true,
    };
    for (slot, other) in rest.iter().filter(|(slot, _)| slot.text() != first.text()) {
        if let Some(difference) = architectures(ty, other).or_else(|| shapes(ty, other)) {
            context.report(mismatch(first, ty, slot, other, &difference));
            fit = false;
        } else if let (Some(one), Some(two), false) = (ty.vocab, other.vocab, joins_tokens)
            && one != two
        {
            let found = vocabularies(first, one, slot, two);
            context.report(match tokenizer.and_then(|child| Some((child.argument()?, child))) {
                Some((of_base, child)) => found.with_default(of_base, child),
                None => found,
            });
            fit = false;
        }
    }
    fit
}

fn type_of<'a>(context: &Context<'a>, slot: &Slot) -> Option<Rc<ModelType<'a>>> {
    let item = context.names.find(slot.text()?).filter(|item| item.schema.gives == "model")?;
    Some(flow::model_type(context, item))
}

/// How two architectures differ: what the one and what the other is.
fn architectures(one: &ModelType, other: &ModelType) -> Option<(String, String)> {
    let (one, other) = (one.architecture?, other.architecture?);
    (one.name != other.name).then(|| (format!("a {}", one.name), format!("a {}", other.name)))
}

/// How two models of one architecture differ in shape.
fn shapes(one: &ModelType, other: &ModelType) -> Option<(String, String)> {
    let architecture = one.architecture?;
    let named = [
        architecture.hidden,
        architecture.layers,
        architecture.heads,
        architecture.kv_heads,
        architecture.experts,
    ];
    let fields = named.into_iter().chain(SHARED_FIELDS).filter(|field| !field.is_empty());
    let size = |ty: &ModelType, field: &str| ty.config.as_ref()?.get(field).and_then(Json::as_u64);
    let mut differing = fields.filter_map(|field| Some((field, size(one, field)?, size(other, field)?)));
    if let Some((field, one, other)) = differing.find(|(_, one, other)| one != other) {
        return Some((format!("`{field}` is {one}"), format!("`{field}` is {other}")));
    }
    let tied = |tied: bool| if tied { "embedding and head are one" } else { "embedding and head are two" };
    let (one, other) = (one.tied?, other.tied?);
    (one != other).then(|| (tied(one).to_owned(), tied(other).to_owned()))
}

fn base_of(ty: &ModelType) -> Option<Span> {
    ty.base.and_then(Item::argument).map(|source| source.span)
}

fn mismatch(
    first: &Slot,
    ty: &ModelType,
    slot: &Slot,
    other: &ModelType,
    (one, two): &(String, String),
) -> Diagnostic {
    let name = |slot: &Slot| slot.text().unwrap_or_default().to_owned();
    let message =
        format!("`{}` and `{}` cannot be merged: {one} in one, {two} in the other", name(first), name(slot));
    let diagnostic = Diagnostic::error("architecture-mismatch", message, slot.span, two.clone())
        .with_label(first.span, one.clone())
        .with_help("merge models that come from one base");
    // Names that stand for a chain of stages are followed to what they begin with.
    let sources = [(base_of(ty), first), (base_of(other), slot)];
    sources.into_iter().fold(diagnostic, |diagnostic, (source, slot)| match source {
        Some(source) => diagnostic.with_label(source, format!("`{}` begins here", name(slot))),
        None => diagnostic,
    })
}

fn vocabularies(first: &Slot, one: u64, slot: &Slot, two: u64) -> Diagnostic {
    let name = |slot: &Slot| slot.text().unwrap_or_default().to_owned();
    let message = format!("`{}` has {two} rows of embeddings, but `{}` has {one}", name(slot), name(first));
    Diagnostic::error("vocabulary-mismatch", message, slot.span, format!("{two} rows"))
        .with_label(first.span, format!("{one} rows"))
        .with_help("write `tokenizer union`, or merge models of one vocabulary")
}
