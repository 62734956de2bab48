//! Rules about how the learning rate moves.

use super::Context;
use super::flow::switched_on;
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};
use crate::values::{Typed, show_number};
use stdlib::schema::Unit;

/// Checks learning rate and schedule of a training stage.
pub fn check(context: &mut Context, item: &Item) {
    check_rate(context, item);
    check_previous(context, item);
    let Some(schedule) = item.child("schedule") else { return };
    let steps = item.child_argument("steps");
    if !check_warmup(context, schedule, steps) {
        check_sum(context, schedule, steps);
    }
}

/// A warmup in steps fits into a stage of so many steps; returns whether it does not.
fn check_warmup(context: &mut Context, schedule: &Item, steps: Option<&Slot>) -> bool {
    let Some(warmup) = schedule.property("warmup") else { return false };
    let (Typed::Quantity(rise, Unit::Steps), Some(steps)) = (&warmup.value, steps) else { return false };
    if !steps.number().is_some_and(|steps| *rise > steps) {
        return false;
    }
    let message = format!("warmup takes {} steps, more than the stage has", show_number(*rise));
    context.report(
        Diagnostic::error("out-of-range", message, warmup.span, "longer than the stage")
            .with_label(steps.span, "the stage's steps")
            .with_help("shorten the warmup, or write it as a share such as `\"3%\"`"),
    );
    true
}

/// Warmup and decay fit into a stage together.
fn check_sum(context: &mut Context, schedule: &Item, steps: Option<&Slot>) {
    let (Some(warmup), Some(decay)) = (schedule.property("warmup"), schedule.property("decay")) else {
        return;
    };
    let budget = steps.and_then(Slot::number);
    let (Some(rise), Some(fall)) = (share(warmup, budget), share(decay, budget)) else { return };
    if rise + fall <= 1.0 + 1e-9 {
        return;
    }
    let (at, other) = if decay.is_written() { (decay, warmup) } else { (warmup, decay) };
    let percent = show_number(((rise + fall) * 100.0).round());
    let message = match rise {
        0.0 => format!("`decay` takes {percent}% of the stage"),
        _ => format!("`warmup` and `decay` take {percent}% of the stage together"),
    };
    let label = if other.is_written() { "and this" } else { "falls at the end of it" };
    let diagnostic =
        Diagnostic::error("out-of-range", message, at.span, "more than what is left of the stage")
            .with_help("shorten it, or write shares of the stage such as `\"10%\"`");
    let diagnostic = match rise > 0.0 {
        true => diagnostic.with_label(other.span, label).with_default(other, schedule),
        false => diagnostic,
    };
    context.report(match steps {
        Some(steps) => diagnostic.with_label(steps.span, "the stage's steps"),
        None => diagnostic,
    });
}

/// Returns the share of a stage that a part of its schedule takes, when it is known.
fn share(part: &Slot, steps: Option<f64>) -> Option<f64> {
    match part.value {
        Typed::Quantity(share, Unit::Share) => Some(share),
        Typed::Quantity(length, Unit::Steps) => Some(length / steps?),
        _ => None,
    }
}

/// `from=previous` goes on from the rate of the stage before, so that there must be one that ended with a rate.
fn check_previous(context: &mut Context, item: &Item) {
    let Some(schedule) = item.child("schedule") else { return };
    let Some(from) = schedule.property("from") else { return };
    if let Some(warmup) = schedule.property("warmup").filter(|warmup| warmup.number() > Some(0.0)) {
        context.report(
            Diagnostic::error(
                "conflicting-options",
                "`warmup` starts the rate at 0, and `from=previous` where the stage before ended",
                warmup.key,
                "starts at 0",
            )
            .with_label(from.span, "starts at the rate of the stage before")
            .with_help("remove one of them"),
        );
    }
    let Some(reference) = item.child_argument("model") else { return };
    let Some(previous) = context.names.follow(item, "model") else { return };
    if previous.schema.gives != "model" {
        return;
    }
    if !previous.schema.training {
        context.report(no_previous(previous, from, reference));
    } else if let Some((schedule, end, floor)) = ends_at_zero(previous) {
        let found = starts_at_zero(previous, from, end);
        context.report(found.with_default(end, schedule).with_default(floor, schedule));
    }
}

fn no_previous(model: &Item, from: &Slot, reference: &Slot) -> Diagnostic {
    let message =
        format!("`{}` is no training stage, and has no learning rate to go on from", model.declared());
    Diagnostic::error("no-previous-stage", message, from.span, "the rate of which stage?")
        .with_label(reference.span, "not a training stage")
        .with_help("start from a training stage, or write `lr` and remove `from`")
}

/// Returns the schedule of a stage that ends at a rate of 0, with its name and its floor.
fn ends_at_zero(stage: &Item) -> Option<(&Item, &Slot, &Slot)> {
    let schedule = stage.child("schedule").filter(|schedule| !schedule.damaged)?;
    let name = schedule.argument()?;
    let falls = matches!(name.text(), Some("cosine" | "linear" | "wsd"));
    let floor = schedule.properties.iter().find(|slot| slot.name == "floor")?;
    let stops_early = switched_on(stage, "stop-when").is_some();
    (falls && floor.number() == Some(0.0) && !stops_early && !stage.damaged)
        .then_some((schedule, name, floor))
}

fn starts_at_zero(previous: &Item, from: &Slot, end: &Slot) -> Diagnostic {
    let message = format!(
        "the learning rate of `{}` ends at 0, so that this stage would learn nothing",
        previous.declared()
    );
    Diagnostic::error("starts-at-zero", message, from.span, "goes on at a rate of 0")
        .with_label(end.span, if end.is_written() { "falls to 0" } else { "its schedule falls to 0" })
        .with_help(format!(
            "give the schedule of `{}` a `floor`, or write `lr` here and remove `from`",
            previous.declared()
        ))
}

/// The learning rate is written, or goes on from the stage before.
fn check_rate(context: &mut Context, item: &Item) {
    let Some(optimizer) = item.child("optimizer") else { return };
    let from = item.child("schedule").and_then(|schedule| schedule.property("from"));
    let rate = optimizer.properties.iter().find(|slot| slot.name == "lr");
    match (rate, from) {
        (None, None) if !optimizer.damaged && !item.damaged => context.report(
            Diagnostic::error("missing-option", "`optimizer` lacks `lr`", optimizer.at, "needs `lr`")
                .with_help("write `lr=…`: the peak learning rate"),
        ),
        (Some(rate), Some(from)) => context.report(
            Diagnostic::error(
                "conflicting-options",
                "the learning rate is written, and goes on from the stage before",
                rate.key,
                "the second",
            )
            .with_label(from.span, "starts where that stage ended")
            .with_help("remove one of them"),
        ),
        (None, None | Some(_)) | (Some(_), None) => {}
    }
}
