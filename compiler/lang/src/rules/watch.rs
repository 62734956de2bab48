//! Rules about what is watched while a stage trains: the best checkpoint, and when to stop.

use super::Context;
use super::data::has_held_out;
use super::flow::switched_on;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};
use crate::values::{Typed, show_number};
use stdlib::schema::Unit;

/// What is said of a stage that evaluates on nothing because it says so.
const OFF: &str = "evaluation is switched off";

/// A length of training in a unit that steps and epochs are written in.
pub type Length = (f64, Unit);

/// Checks `best=` of `checkpoint`, and `stop-when`.
pub fn check(context: &mut Context, item: &Item) {
    let checkpoint = switched_on(item, "checkpoint");
    let best = checkpoint.and_then(|checkpoint| checkpoint.property("best"));
    let stop = switched_on(item, "stop-when").filter(|stop| stop.argument().is_some());
    if let Some(why) = never_evaluates(context, item) {
        let best = best.map(|best| ("best", best.key));
        let stop = stop.map(|stop| ("stop-when", stop.at));
        best.into_iter().chain(stop).for_each(|(name, at)| context.report(unwatched(name, at, why)));
        return;
    }
    if let (Some(checkpoint), Some(best)) = (checkpoint, best) {
        check_best(context, item, checkpoint, best);
    }
    if let Some(stop) = stop {
        check_stop(context, item, stop);
    }
}

/// A measure is watched only where something is evaluated.
fn unwatched(name: &str, at: Span, (why, label): (Span, &str)) -> Diagnostic {
    let help = match label {
        OFF => "remove `evaluate none`, or what watches",
        _ => "add `holdout \"5%\"` to the dataset or `evaluate on=…` to the stage",
    };
    let message = format!("`{name}` watches the loss on held-out rows, and this stage evaluates on none");
    Diagnostic::error("nothing-to-watch", message, at, "watches nothing")
        .with_label(why, label)
        .with_help(help)
}

/// Returns why a stage does not evaluate, when that is sure and not reported elsewhere.
fn never_evaluates(context: &Context, item: &Item) -> Option<(Span, &'static str)> {
    if let Some(evaluate) = item.child("evaluate") {
        let none = evaluate.argument().filter(|none| none.text() == Some("none"))?;
        return Some((none.span, OFF));
    }
    let data =
        context.names.follow(item, "data").filter(|data| data.schema.gives == "data" && !item.damaged)?;
    let reference = item.child_argument("data")?;
    (!has_held_out(context.names, data)).then_some((reference.span, "every row of it is trained on"))
}

/// Notes how often a stage evaluates that does not say so.
fn with_evaluation(found: Diagnostic, item: &Item) -> Diagnostic {
    match item.child("evaluate") {
        Some(evaluate) => match evaluate.property("every") {
            Some(every) => found.with_default(every, evaluate),
            None => found,
        },
        None => found.with_note(
            "`evaluate` is not written; a stage whose data has held-out rows evaluates every epoch",
        ),
    }
}

/// How often a stage evaluates, when it does so on one kind of rows.
fn evaluation(item: &Item) -> Option<Length> {
    let mut all = item.children_of("evaluate");
    match (all.next(), all.next()) {
        (Some(evaluate), None) => length(evaluate.property("every")?),
        (Some(_), Some(_)) => None,
        (None, _) => Some((1.0, Unit::Epochs)),
    }
}

/// How long a stage trains.
pub fn budget(item: &Item) -> Option<(Length, Span)> {
    let slot = ["steps", "epochs"].into_iter().find_map(|name| item.child_argument(name))?;
    Some((length(slot)?, slot.span))
}

/// Returns a length in steps or epochs.
pub fn length(slot: &Slot) -> Option<Length> {
    match slot.value {
        Typed::Quantity(amount, unit @ (Unit::Steps | Unit::Epochs)) => Some((amount, unit)),
        _ => None,
    }
}

/// Returns the word for a number of steps or epochs.
pub fn noun(count: f64, unit: Unit) -> &'static str {
    if count == 1.0 { unit.noun().trim_end_matches('s') } else { unit.noun() }
}

/// Every checkpoint must have a measure, and there must be one to choose before the end.
fn check_best(context: &mut Context, item: &Item, checkpoint: &Item, best: &Slot) {
    let Some(every) = checkpoint.property("every") else { return };
    let Some((interval, unit)) = length(every) else { return };
    if let Some(((whole, of), at)) = budget(item).filter(|((whole, of), _)| *of == unit && interval >= *whole)
    {
        let message = format!(
            "the stage ends after {} {}, and has no checkpoint before that to choose",
            show_number(whole),
            noun(whole, of)
        );
        context.report(
            Diagnostic::error("ineffective-option", message, best.key, "changes nothing here")
                .with_label(every.span, "the first checkpoint")
                .with_label(at, "the end of the stage")
                .with_help("save checkpoints more often, or remove `best`"),
        );
        return;
    }
    let Some((evaluated, _)) = evaluation(item).filter(|(_, of)| *of == unit) else { return };
    let times = interval / evaluated;
    if (times - times.round()).abs() < 1e-9 {
        return;
    }
    let written = item.child("evaluate").and_then(|evaluate| evaluate.property("every"));
    let (place, label) =
        written.map_or((item.at, "evaluated once per epoch"), |slot| (slot.span, "evaluated here"));
    let found = Diagnostic::error(
        "checkpoint-not-evaluated",
        "some checkpoints have no loss to be chosen by",
        every.span,
        "between two evaluations",
    )
    .with_label(place, label)
    .with_label(best.key, "chooses by the loss")
    .with_help("let `every` of `checkpoint` be a multiple of `every` of `evaluate`");
    context.report(with_evaluation(found, item));
}

/// As many evaluations as must be worse have to come before the end.
fn check_stop(context: &mut Context, item: &Item, stop: &Item) {
    let Some(written) = stop.property("rises") else { return };
    let (Some(rises), Some((every, unit))) = (written.number(), evaluation(item)) else { return };
    let Some(((whole, of), at)) = budget(item).filter(|((_, of), _)| *of == unit) else { return };
    if rises * every < whole {
        return;
    }
    let message = format!(
        "the loss cannot rise {} times in a row before the stage ends after {} {}",
        show_number(rises),
        show_number(whole),
        noun(whole, of)
    );
    let found = Diagnostic::error("ineffective-option", message, stop.at, "can never stop the stage")
        .with_label(at, "the end of the stage")
        .with_help("evaluate more often with `evaluate every=…`, or lower `rises`")
        .with_default(written, stop);
    context.report(with_evaluation(found, item));
}
