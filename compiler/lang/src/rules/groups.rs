//! Rules about groups of the optimizer: they name weights that are updated, and give them other numbers.

use super::Context;
use super::adapter;
use super::flow::{ModelType, switched_on};
use super::updated::{Part, parts};
use super::weights::{self, Place};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};

/// Checks the groups of a training stage.
pub fn check(context: &mut Context, item: &Item, start: &ModelType) {
    let Some(optimizer) = item.child("optimizer") else { return };
    let slots = weights::named(optimizer.children_of("group"));
    slots.iter().for_each(|slot| weights::check_known(context, start, slot));
    weights::check_repeated(context, start, &slots);
    for group in optimizer.children_of("group") {
        weights::check_head(context, start, &weights::named([group].into_iter()));
        if group.properties.is_empty() && !group.damaged {
            context.report(
                Diagnostic::error(
                    "missing-option",
                    "`group` gives its weights no number",
                    group.at,
                    "needs `lr` or `weight-decay`",
                )
                .with_help("write `lr=…` or `weight-decay=…`"),
            );
        }
    }
    for slot in slots {
        if let Some((at, label)) = frozen(item, start, slot) {
            let message = format!("`{}` is not updated in this stage", slot.text().unwrap_or_default());
            context.report(
                Diagnostic::error("ineffective-option", message, slot.span, "changes nothing here")
                    .with_label(at, label)
                    .with_help("train the weight, or remove it from the group"),
            );
        }
    }
}

/// Returns what keeps a weight from being updated, as far as is known.
fn frozen(item: &Item, start: &ModelType, slot: &Slot) -> Option<(Span, &'static str)> {
    let place = start.architecture.and_then(|known| weights::place(&known.weights, slot.text()?))?;
    if let Some(lora) = switched_on(item, "lora") {
        let updated = weights::named(lora.children_of("targets").chain(lora.children_of("also")));
        let by_default = lora.child("targets").is_none() && place == Place::Linear;
        let is_updated = by_default || updated.iter().any(|other| adapter::covers(start, other, slot));
        return (!is_updated && !lora.damaged).then_some((lora.at, "freezes the base"));
    }
    let train = item.child("train")?;
    let is_same = |other: &&Slot| adapter::covers(start, other, slot);
    let is_updated = parts(item).iter().any(|part| match part {
        Part::Weight(other) => is_same(other),
        Part::Layers(..) => place.in_layers(),
        Part::NewRows(_) => matches!(place, Place::Embedding | Place::Head),
        Part::AllBut(_, names) => {
            let no_layers = names.iter().any(|name| name.text() == Some("layers"));
            !(names.iter().any(is_same) || no_layers && place.in_layers())
        }
    });
    (!is_updated).then_some((train.at, "only what `train` names is updated"))
}
