//! Names of weights: what an architecture has, what is named twice, and what is one matrix under two names.

use super::Context;
use super::flow::ModelType;
use crate::diagnostic::Diagnostic;
use crate::suggest;
use crate::tree::{Item, Slot};
use stdlib::schema::{self, Architecture, Weights};

/// The words for embedding and head, whatever an architecture calls them.
pub const EMBEDDING: &str = "embed_tokens";
pub const HEAD: &str = "lm_head";

/// Where a weight stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Linear,
    Norm,
    Outer,
    Embedding,
    Head,
}

impl Place {
    /// Whether it stands in the blocks.
    pub fn in_layers(self) -> bool {
        matches!(self, Self::Linear | Self::Norm)
    }
}

/// Finds a weight of an architecture.
pub fn place(weights: &Weights, name: &str) -> Option<Place> {
    match name {
        _ if name == EMBEDDING || name == weights.embedding => Some(Place::Embedding),
        _ if name == HEAD || name == weights.head => Some(Place::Head),
        _ if weights.linears.contains(&name) => Some(Place::Linear),
        _ if weights.norms.contains(&name) => Some(Place::Norm),
        _ if weights.outer.contains(&name) => Some(Place::Outer),
        _ => None,
    }
}

/// Returns one name for a weight that has two.
pub fn canonical<'n>(architecture: Option<&'static Architecture>, name: &'n str) -> &'n str {
    match architecture.and_then(|architecture| place(&architecture.weights, name)) {
        Some(Place::Embedding) => EMBEDDING,
        Some(Place::Head) => HEAD,
        _ => name,
    }
}

/// Returns the readable names among the values of nodes.
pub fn named<'i>(nodes: impl Iterator<Item = &'i Item>) -> Vec<&'i Slot> {
    nodes.flat_map(|node| &node.arguments).filter(|slot| slot.text().is_some()).collect()
}

/// Reports a name that the architecture does not have.
pub fn check_known(context: &mut Context, start: &ModelType, slot: &Slot) {
    let (Some(architecture), Some(name)) = (start.architecture, slot.text()) else { return };
    if place(&architecture.weights, name).is_some() {
        return;
    }
    let message = format!("a {} model has no weight `{name}`", architecture.name);
    let diagnostic = Diagnostic::error("unknown-weight", message, slot.span, "no such weight");
    let diagnostic = with_base(diagnostic, start, &format!("a {} model", architecture.name));
    context.report(suggested(diagnostic, slot, all(&architecture.weights), ""));
}

/// Reports what is nearly a word of the language and would be taken for a name; returns whether it did.
///
/// No architecture has such names, so that this is sure even where the model is not known.
pub fn check_words(context: &mut Context, code: &str, slot: &Slot, words: &[&'static str]) -> bool {
    let name = slot.text().unwrap_or_default();
    let found = |label| Diagnostic::error(code, format!("no weight is called `{name}`"), slot.span, label);
    if matches!(name, "all" | "none" | "everything") {
        let every = if words.contains(&"layers") {
            "leave `train` out to train everything"
        } else {
            "write `all-linear`"
        };
        context.report(found("not the name of a weight").with_help(format!("name weights, or {every}")));
        return true;
    }
    let near = suggest::nearest(name, words.iter().copied());
    if let Some(near) = near {
        context.report(suggest::offer(found("not the name of a weight"), name, near, slot.span, ""));
    }
    near.is_some()
}

/// Points at the model that a stage begins with.
pub fn with_base(diagnostic: Diagnostic, start: &ModelType, what: &str) -> Diagnostic {
    match start.base {
        Some(base) => diagnostic.with_label(base.argument().map_or(base.at, |source| source.span), what),
        None => diagnostic,
    }
}

/// Adds the nearest of some names, or all of them.
pub fn suggested(diagnostic: Diagnostic, slot: &Slot, names: Vec<&'static str>, more: &str) -> Diagnostic {
    let text = slot.text().unwrap_or_default();
    // Other tools write paths; here the last part names the weight.
    let last = text.rsplit('.').next().unwrap_or(text);
    // A weight of another architecture is no slip of the pen.
    let is_foreign = schema::ARCHITECTURES.iter().any(|other| place(&other.weights, last).is_some());
    let near = suggest::nearest(last, names.iter().copied());
    match near.filter(|near| *near == last || !is_foreign) {
        Some(near) => suggest::offer(diagnostic, last, near, slot.span, ""),
        None => diagnostic.with_help(format!("write {}{more}", suggest::list(names, "or"))),
    }
}

fn all(weights: &Weights) -> Vec<&'static str> {
    let own = weights.linears.iter().chain(weights.norms).chain(weights.outer);
    [EMBEDDING, HEAD].into_iter().chain(own.copied()).collect()
}

/// Reports a weight that is named twice.
pub fn check_repeated(context: &mut Context, start: &ModelType, slots: &[&Slot]) {
    let name = |slot: &Slot| canonical(start.architecture, slot.text().unwrap_or_default()).to_owned();
    for (at, slot) in slots.iter().enumerate() {
        if let Some(first) = slots[..at].iter().find(|first| name(first) == name(slot)) {
            let message = format!("`{}` is named twice", slot.text().unwrap_or_default());
            context.report(
                Diagnostic::error("repeated-option", message, slot.span, "the second")
                    .with_label(first.span, "the first")
                    .with_help("keep one of them"),
            );
        }
    }
}

/// Embedding and head of a tied model are one matrix, which is the embedding in its checkpoint: `lm_head` alone means
/// what is not there.
pub fn check_head(context: &mut Context, start: &ModelType, slots: &[&Slot]) {
    if let (None, Some(head)) = (find(start, slots, EMBEDDING), find(start, slots, HEAD)) {
        check_alone(context, start, head, EMBEDDING);
    }
}

/// What is trained in full beside an adapter is saved with it under its name, so that both are named.
pub fn check_both(context: &mut Context, start: &ModelType, slots: &[&Slot]) {
    check_head(context, start, slots);
    if let (Some(embedding), None) = (find(start, slots, EMBEDDING), find(start, slots, HEAD)) {
        check_alone(context, start, embedding, HEAD);
    }
}

fn find<'i>(start: &ModelType, slots: &[&'i Slot], word: &str) -> Option<&'i Slot> {
    let is_it = |slot: &&&Slot| canonical(start.architecture, slot.text().unwrap_or_default()) == word;
    slots.iter().find(is_it).copied()
}

fn check_alone(context: &mut Context, start: &ModelType, alone: &Slot, other: &str) {
    if start.tied != Some(true) {
        return;
    }
    let name = alone.text().unwrap_or_default();
    let message =
        format!("`{name}` and `{other}` are one matrix in this model, and `{name}` alone would split it");
    let both = if other == HEAD { format!("{name} {other}") } else { format!("{other} {name}") };
    let diagnostic = Diagnostic::error("tied-weights", message, alone.span, "one of two names")
        .with_help(format!("name both: `{both}`"))
        .with_fix(format!("replace with `{both}`"), alone.span, both);
    context.report(with_base(diagnostic, start, "embedding and head are tied here"));
}
