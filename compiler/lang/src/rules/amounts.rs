//! Rules about numbers of rows: of `limit`, `holdout` and the parts of mixes, against the rows that there are.

use super::Context;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};
use crate::values::{Typed, show_number};
use stdlib::schema::Unit;

/// The most rows that can be there at some point, and what says so.
#[derive(Clone, Copy)]
struct Bound {
    rows: f64,
    at: Span,
    why: &'static str,
}

/// Checks the numbers of a dataset in the order in which they are applied.
pub fn check(context: &mut Context, dataset: &Item) {
    let source = known_rows(context, dataset);
    if let (Some(source), Some(limit)) = (source, dataset.child_argument("limit")) {
        check_limit(context, source, limit);
    }
    let bound = bound(dataset, source);
    if let (Some(bound), Some(holdout)) = (bound, dataset.child_argument("holdout")) {
        check_holdout(context, bound, holdout);
    }
}

/// A limit above the number of rows limits nothing.
fn check_limit(context: &mut Context, source: Bound, limit: &Slot) {
    if limit.number().is_some_and(|rows| rows > source.rows) {
        let rows = show_number(source.rows);
        let message = format!("`limit` is above the {rows} rows that there are");
        context.report(
            Diagnostic::error("ineffective-option", message, limit.span, "limits nothing")
                .with_label(source.at, format!("{rows} rows"))
                .with_help(format!("write less than {rows}, or remove it")),
        );
    }
}

/// A holdout leaves rows to train on.
fn check_holdout(context: &mut Context, bound: Bound, holdout: &Slot) {
    let (takes, is_nothing) = match holdout.value {
        Typed::Quantity(rows, Unit::Rows) => (rows, false),
        // What is drawn is rounded; a share that is less than half a row draws none.
        Typed::Quantity(share, Unit::Share) => (share * bound.rows, share * bound.rows < 0.5),
        _ => return,
    };
    let rows = show_number(bound.rows);
    if is_nothing {
        let message = format!("this share of {rows} rows is less than one row");
        context.report(
            Diagnostic::error("out-of-range", message, holdout.span, "holds nothing out")
                .with_label(bound.at, bound.why)
                .with_help("hold more out, or write a number of rows"),
        );
    } else if matches!(holdout.value, Typed::Quantity(_, Unit::Rows)) && takes >= bound.rows {
        let message = format!("`holdout` takes {} of at most {rows} rows", show_number(takes));
        context.report(
            Diagnostic::error("holdout-too-large", message, holdout.span, "leaves nothing to train on")
                .with_label(bound.at, bound.why)
                .with_help("hold less out, such as `\"5%\"`"),
        );
    }
}

/// Checks one part of a mix against the rows that it has.
pub fn check_part(context: &mut Context, take: &Item) {
    let part = take.argument().and_then(Slot::text).and_then(|name| context.names.find(name));
    let Some(dataset) = part.filter(|part| part.kind() == "dataset") else { return };
    let source = known_rows(context, dataset);
    let Some(bound) = bound(dataset, source) else { return };
    let rows = show_number(bound.rows);
    if let Some(wanted) = take.property("rows").filter(|wanted| wanted.number() > Some(bound.rows)) {
        let message = format!("the mix takes more than the {rows} rows of `{}`", dataset.declared());
        context.report(
            Diagnostic::error("mix-exceeds-part", message, wanted.span, "more than there are")
                .with_label(bound.at, bound.why)
                .with_help("write less, or `epochs=` to repeat rows"),
        );
    }
    let share = take.property("fraction").and_then(|share| Some((share, share.number()?)));
    if let Some((share, _)) = share.filter(|(_, number)| number * bound.rows < 0.5) {
        let message =
            format!("this share of the {rows} rows of `{}` is less than one row", dataset.declared());
        context.report(
            Diagnostic::error("out-of-range", message, share.span, "takes nothing")
                .with_label(bound.at, bound.why)
                .with_help("take more, or write a number of rows with `rows=`"),
        );
    }
}

/// The most rows that a dataset can have once `limit` was applied.
fn bound(dataset: &Item, source: Option<Bound>) -> Option<Bound> {
    let limit = dataset.child_argument("limit");
    let limit =
        limit.and_then(|limit| Some(Bound { rows: limit.number()?, at: limit.span, why: "the limit" }));
    match (source, limit) {
        (Some(source), Some(limit)) if source.rows < limit.rows => Some(source),
        (source, limit) => limit.or(source),
    }
}

/// The rows of the splits that a dataset trains on, when they are known.
fn known_rows(context: &Context, dataset: &Item) -> Option<Bound> {
    let fact = context.facts.rows.get(&context.source_key(dataset)?)?;
    let fact = Some(fact).filter(|fact| fact.problem.is_none() && !fact.split_rows.is_empty())?;
    let split = |side| dataset.child("split").and_then(|split| split.property(side));
    let at = dataset.argument()?.span;
    if let Some(train) = split("train") {
        let rows = *fact.split_rows.get(train.text()?)?;
        return Some(Bound { rows: rows as f64, at: train.span, why: "the rows of this split" });
    }
    let held_out = split("eval").and_then(Slot::text);
    let trained = || fact.splits.iter().filter(|name| Some(name.as_str()) != held_out);
    let rows = trained().try_fold(0_u64, |all, name| all.checked_add(*fact.split_rows.get(name)?));
    let rows = rows.filter(|_| trained().next().is_some())?;
    Some(Bound { rows: rows as f64, at, why: "the rows of this source" })
}
