//! Rules about how answers are drawn, and about templates that nothing renders.

use super::Context;
use super::data::{row_type, row_type_slot};
use super::flow;
use super::sequence::positions_place;
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};
use crate::values::show_number;

/// What draws read, and the value with which each changes nothing.
const OF_DRAWS: [(&str, f64); 3] = [("top-p", 1.0), ("top-k", 0.0), ("seed", 42.0)];

/// Checks how a `generate` stage draws.
pub fn check(context: &mut Context, item: &Item) {
    check_draws(context, item);
    check_length(context, item);
}

/// The most likely token is taken, not drawn, at temperature 0.
fn check_draws(context: &mut Context, item: &Item) {
    let Some(temperature) = item.child_argument("temperature").filter(|slot| slot.number() == Some(0.0))
    else {
        return;
    };
    for (name, default) in OF_DRAWS {
        let Some(child) = item.child(name) else { continue };
        let is_set = child.argument().is_some_and(|slot| slot.is_written() && slot.number() != Some(default));
        if !is_set {
            continue;
        }
        let message = format!("`{name}` has no effect at temperature 0");
        let diagnostic = Diagnostic::error("ineffective-option", message, child.at, "nothing is drawn")
            .with_help("write `temperature 0.7` or another one, or remove it");
        context.report(match temperature.is_written() {
            true => diagnostic.with_label(temperature.span, "because of this"),
            false => diagnostic.with_note("without `temperature` it is 0: the most likely token is taken"),
        });
    }
}

/// Prompt and answer stand in the model's positions together.
fn check_length(context: &mut Context, item: &Item) {
    let Some(child) = item.child("max-tokens") else { return };
    let Some(tokens) = child.argument() else { return };
    let start = flow::start(context, item);
    let (Some(base), Some(positions), Some(length)) = (start.base, start.positions, tokens.number()) else {
        return;
    };
    if length < positions as f64 {
        return;
    }
    let message = format!(
        "an answer of {} tokens and its prompt do not fit the {positions} positions of `{}`",
        show_number(length),
        base.declared()
    );
    context.report(
        Diagnostic::error("sequence-too-long", message, tokens.span, "leaves no room for a prompt")
            .with_label(positions_place(base, &start), format!("{positions} positions"))
            .with_help(match tokens.is_written() {
                true => format!("write less than {positions}"),
                false => format!("write `max-tokens` of less than {positions}"),
            })
            .with_default(tokens, child),
    );
}

/// Text is read as it is; a template renders messages.
pub fn check_template(context: &mut Context, item: &Item) {
    let Some(template) = item.child("template") else { return };
    let Some(data) = context.names.follow(item, "data") else { return };
    let Some(kind) = row_type(context.names, data).filter(|kind| matches!(*kind, "text" | "tokens")) else {
        return;
    };
    if !item.schema.fits.contains(&kind) {
        return;
    }
    let rows = row_type_slot(context.names, data).map(|slot: &Slot| slot.span);
    let message = format!("`template` has no effect on {kind} rows");
    let diagnostic = Diagnostic::error("ineffective-option", message, template.at, "renders nothing")
        .with_help("remove it");
    context.report(match rows {
        Some(rows) => diagnostic.with_label(rows, format!("{kind} rows declared here")),
        None => diagnostic,
    });
}
