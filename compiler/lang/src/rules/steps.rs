//! Rules about what is done to the rows of a dataset: columns, roles, filters.

use super::Context;
use super::data::origins;
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};

/// Row types that have no messages, and so no roles.
const WITHOUT_ROLES: [&str; 3] = ["text", "instruction", "tokens"];

/// Children of a dataset that leave some of its rows out.
pub const THINNING: [&str; 6] = ["limit", "filter", "keep", "drop", "dedup", "holdout"];

/// Checks the children of a dataset.
pub fn check(context: &mut Context, dataset: &Item) {
    if let Some(rows) = dataset.child("rows") {
        check_columns(context, rows);
        check_roles(context, dataset, rows);
        check_filters_fit(context, dataset, rows);
    }
    let filters: Vec<&Item> = dataset.children_of("filter").collect();
    for (at, filter) in filters.iter().enumerate() {
        check_filter(context, filter);
        check_filter_repeats(context, filter, &filters[..at]);
    }
    dataset.children_of("decontaminate").for_each(|step| check_against(context, dataset, step));
}

/// Two columns of the row type do not read the same column of the source.
fn check_columns(context: &mut Context, rows: &Item) {
    let Some(kind) = rows.argument() else { return };
    let read = rows.properties.iter().filter(|slot| slot.name != "best" && slot.text().is_some());
    let read: Vec<&Slot> = read.collect();
    for (at, slot) in read.iter().enumerate().filter(|(_, slot)| slot.is_written()) {
        let same = |other: &&&Slot| other.text() == slot.text() && reads(rows, other);
        // What is written counts once, at its second place.
        let others = read.iter().enumerate().filter(|(other, slot)| *other < at || !slot.is_written());
        let Some(other) = others.map(|(_, other)| other).find(same) else { continue };
        let column = slot.text().unwrap_or_default();
        let message = format!("`{}` and `{}` both read the column `{column}`", other.name, slot.name);
        let diagnostic = Diagnostic::error("conflicting-options", message, slot.span, "read twice");
        let diagnostic = match other.is_written() {
            true => diagnostic.with_label(other.span, "the first"),
            false => diagnostic.with_label(kind.span, format!("reads `{column}` as `{}`", other.name)),
        };
        let help = format!("name the column of `{}` with `{0}=…`", other.name);
        context.report(diagnostic.with_help(help).with_default(other, rows));
    }
}

/// Whether a column is certainly read: one that is written, or one that rows cannot do without.
fn reads(rows: &Item, slot: &Slot) -> bool {
    slot.is_written() || rows.schema.property(slot.name).is_some_and(|property| !property.optional)
}

/// Roles belong to messages; each is mapped once.
fn check_roles(context: &mut Context, dataset: &Item, rows: &Item) {
    let roles: Vec<&Item> = dataset.children_of("role").collect();
    if let (Some(kind), Some(role)) = (rows.argument(), roles.first())
        && let Some(word) = kind.text().filter(|word| WITHOUT_ROLES.contains(word))
    {
        let message = format!("`role` has no effect on {word} rows");
        context.report(
            Diagnostic::error("ineffective-option", message, role.at, "changes nothing here")
                .with_label(kind.span, "rows without roles")
                .with_help("remove it, or declare `rows chat`"),
        );
        return;
    }
    for (at, role) in roles.iter().enumerate() {
        let Some(name) = role.argument() else { continue };
        let first = roles[..at].iter().filter_map(|first| first.argument());
        if let Some(first) = first.into_iter().find(|first| first.text() == name.text()) {
            let message = format!("the role `{}` is mapped twice", name.text().unwrap_or_default());
            context.report(
                Diagnostic::error("repeated-option", message, name.span, "the second")
                    .with_label(first.span, "the first")
                    .with_help("keep one of them"),
            );
        }
    }
}

/// Token ids have no text that could be measured, only a length in tokens.
fn check_filters_fit(context: &mut Context, dataset: &Item, rows: &Item) {
    let Some(kind) = rows.argument().filter(|kind| kind.text() == Some("tokens")) else { return };
    for filter in dataset.children_of("filter") {
        let Some(name) = filter.argument() else { continue };
        let of = filter.property("of").filter(|of| of.text() != Some("tokens"));
        let is_length = name.text() == Some("length");
        let at = match (name.text(), of) {
            (Some("length"), None) => continue,
            (Some("length"), Some(of)) if of.is_written() => of.span,
            _ => name.span,
        };
        let found = Diagnostic::error(
            "ineffective-option",
            "this filter reads text, but the rows are token ids",
            at,
            "has no text to read",
        )
        .with_label(kind.span, "token ids")
        .with_help("remove it, or write `filter length of=tokens`");
        context.report(match of.filter(|_| is_length) {
            Some(of) => found.with_default(of, filter),
            None => found,
        });
    }
}

/// A filter has a bound, and lets something through.
fn check_filter(context: &mut Context, filter: &Item) {
    let Some(name) = filter.argument() else { return };
    let (min, max) = (filter.property("min"), filter.property("max"));
    let bounds = match name.text() {
        Some("length") => "`min=` or `max=`",
        Some("perplexity") => "`max=`",
        _ => return,
    };
    let has_bound = filter.properties.iter().any(|slot| matches!(slot.name, "min" | "max"));
    if !has_bound && !filter.damaged {
        let message = format!("`filter {}` has no bound", name.text().unwrap_or_default());
        context.report(
            Diagnostic::error("missing-option", message, filter.at, format!("needs {bounds}"))
                .with_help(format!("write {bounds}")),
        );
    }
    let (Some(min), Some(max)) = (min, max) else { return };
    if min.number() > max.number() {
        context.report(
            Diagnostic::error(
                "out-of-range",
                "nothing is as long as `min` and as short as `max`",
                max.span,
                "less than `min`",
            )
            .with_label(min.span, "the least that is kept")
            .with_help("write a `max` of at least `min`"),
        );
    }
}

/// A measure is taken once.
fn check_filter_repeats(context: &mut Context, filter: &Item, before: &[&Item]) {
    let of = |filter: &Item| filter.property("of").and_then(Slot::text).map(str::to_owned);
    let Some(name) = filter.argument() else { return };
    let same = |first: &&&Item| {
        first.argument().is_some_and(|first| first.text() == name.text()) && of(first) == of(filter)
    };
    let Some(first) = before.iter().find(same) else { return };
    let message = format!("`filter {}` stands twice", name.text().unwrap_or_default());
    let found = Diagnostic::error("repeated-option", message, name.span, "the second")
        .with_label(first.argument().map_or(first.at, |name| name.span), "the first")
        .with_help("join them into one");
    // Where one of two states the unit, the other has it by default.
    let units = [*first, filter].map(|filter| filter.property("of").map(|of| (of, filter)));
    let is_stated = units.iter().flatten().any(|(of, _)| of.is_written());
    let unstated = units.into_iter().flatten().filter(|_| is_stated);
    context.report(unstated.fold(found, |found, (of, filter)| found.with_default(of, filter)));
}

/// Removing the rows of a dataset from the same rows leaves nothing.
fn check_against(context: &mut Context, dataset: &Item, step: &Item) {
    let Some(against) = step.property("against") else { return };
    let Some(other) = against.text().and_then(|name| context.names.find(name)) else { return };
    let key = context.source_key(dataset);
    let splits = |item: &Item| -> Vec<Option<String>> {
        let split = |side| item.child("split").and_then(|split| split.property(side)).and_then(Slot::text);
        ["train", "eval"].map(|side| split(side).map(str::to_owned)).to_vec()
    };
    let is_whole = |item: &Item| !item.children.iter().any(|child| THINNING.contains(&child.kind()));
    let same = |item: &&&Item| {
        item.declared() != dataset.declared()
            && context.source_key(item) == key
            && splits(item) == splits(dataset)
            && is_whole(item)
    };
    let found = origins(context.names, other);
    let Some(part) = found.iter().find(same).filter(|_| key.is_some()) else { return };
    let message = format!(
        "`{}` has every row of `{}`, so that none would be left",
        part.declared(),
        dataset.declared()
    );
    let place = |item: &Item| item.argument().map_or(item.at, |source| source.span);
    context.report(
        Diagnostic::error("shared-split", message, against.span, "the same rows")
            .with_label(place(dataset), "read from here")
            .with_label(place(part), "and from here")
            .with_help("name another dataset, or give the two different splits"),
    );
}
