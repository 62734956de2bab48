//! Rules about `translate`: from which language to which, and by which model.

use super::Context;
use super::data::origins;
use crate::diagnostic::Diagnostic;
use crate::suggest;
use crate::tree::{Item, Slot};

/// Checks a `translate` stage.
pub fn check(context: &mut Context, item: &Item) {
    check_from(context, item);
    check_ends(context, item);
    check_protected(context, item);
    check_models(context, item);
    if let Some(column) = item.child("from").and_then(|from| from.property("column")) {
        check_column(context, item, column);
    }
}

/// The language that is stated for all rows.
fn stated(item: &Item) -> Option<&Slot> {
    item.child_argument("from")
}

/// Returns the language of a slot as it is compared.
fn language(slot: &Slot) -> Option<String> {
    slot.text().map(str::to_lowercase)
}

fn same(one: &Slot, other: &Slot) -> bool {
    language(one).is_some() && language(one) == language(other)
}

/// `from` names a language or a column.
fn check_from(context: &mut Context, item: &Item) {
    let Some(from) = item.child("from") else { return };
    match (from.argument(), from.property("column")) {
        (Some(language), Some(column)) => context.report(
            Diagnostic::error(
                "conflicting-options",
                "`from` names a language and a column",
                column.key,
                "the second",
            )
            .with_label(language.span, "the first")
            .with_help("keep one of them"),
        ),
        (None, None) if !from.damaged && from.slots().next().is_none() => context.report(
            Diagnostic::error("missing-value", "`from` names no language", from.at, "from which language?")
                .with_help("write `from en`, or `from column=lang` when a column names it"),
        ),
        _ => {}
    }
}

/// A translation leads from one language to another.
fn check_ends(context: &mut Context, item: &Item) {
    let (from, to, via) = (stated(item), item.child_argument("to"), item.child_argument("via"));
    if let (Some(from), Some(to)) = (from, to)
        && same(from, to)
    {
        let message = format!("translates `{}` to itself", to.text().unwrap_or_default());
        context.report(
            Diagnostic::error("same-language", message, to.span, "the language of the rows")
                .with_label(from.span, "translated from here")
                .with_help("name another language"),
        );
        return;
    }
    let Some(via) = via else { return };
    if let Some(end) = [from, to].into_iter().flatten().find(|end| same(end, via)) {
        let message = format!("`via {}` leads to an end of the translation", via.text().unwrap_or_default());
        context.report(
            Diagnostic::error("same-language", message, via.span, "nothing lies in between")
                .with_label(end.span, "the same language")
                .with_help("name a language in between, or remove `via`"),
        );
    }
}

fn check_protected(context: &mut Context, item: &Item) {
    let Some(protect) = item.child("protect") else { return };
    for (at, kind) in protect.arguments.iter().enumerate() {
        let before = protect.arguments[..at].iter();
        let Some(first) = before.clone().find(|first| first.text().is_some() && first.text() == kind.text())
        else {
            continue;
        };
        let message = format!("`{}` is protected twice", kind.text().unwrap_or_default());
        context.report(
            Diagnostic::error("repeated-option", message, kind.span, "the second")
                .with_label(first.span, "the first")
                .with_help("keep one of them"),
        );
    }
}

/// Every model has rows to translate, and every leg a model.
fn check_models(context: &mut Context, item: &Item) {
    let models: Vec<&Item> = item.children_of("with").collect();
    for (at, model) in models.iter().enumerate() {
        check_repeats(context, model, &models[..at]);
        check_is_needed(context, item, model);
    }
    check_legs(context, item, &models);
}

/// One model for all languages, and one for each.
fn check_repeats(context: &mut Context, model: &Item, before: &[&Item]) {
    let of = |model: &Item| model.property("from").and_then(language);
    if model.damaged || before.iter().any(|first| first.damaged) {
        return;
    }
    let Some(first) = before.iter().find(|first| of(first) == of(model)) else { return };
    let place = |model: &Item| model.property("from").map_or(model.at, |from| from.span);
    let what = model.property("from").and_then(Slot::text);
    let message = match what {
        Some(language) => format!("two models translate from `{language}`"),
        None => "two models translate from every language".to_owned(),
    };
    let help = if what.is_some() { "keep one of them" } else { "write `from=` for the language of each" };
    context.report(
        Diagnostic::error("repeated-option", message, place(model), "the second")
            .with_label(place(first), "the first")
            .with_help(help),
    );
}

/// A model for a language that no leg starts from is never asked.
fn check_is_needed(context: &mut Context, item: &Item, model: &Item) {
    let Some(of) = model.property("from") else { return };
    let (to, via) = (item.child_argument("to"), item.child_argument("via"));
    let other = match (stated(item), to.filter(|to| same(to, of))) {
        (_, Some(to)) => to,
        (Some(from), None) if !same(from, of) && !via.is_some_and(|via| same(via, of)) => from,
        _ => return,
    };
    let language = of.text().unwrap_or_default();
    context.report(
        Diagnostic::error(
            "ineffective-option",
            format!("nothing is translated from `{language}`"),
            of.span,
            "never asked",
        )
        .with_label(
            other.span,
            if to.is_some_and(|to| std::ptr::eq(to, other)) { "translated to" } else { "translated from" },
        )
        .with_help("name the language that the rows are in, or remove it"),
    );
}

/// With a stated language the legs are known: each needs a model, and a model for all others has none left.
fn check_legs(context: &mut Context, item: &Item, models: &[&Item]) {
    let Some(from) = stated(item) else { return };
    if item.damaged || models.iter().any(|model| model.damaged) || models.is_empty() {
        return;
    }
    let legs: Vec<&Slot> = [Some(from), item.child_argument("via")].into_iter().flatten().collect();
    let has_own =
        |leg: &Slot| models.iter().filter_map(|model| model.property("from")).any(|of| same(of, leg));
    let general = models.iter().find(|model| !model.properties.iter().any(|slot| slot.name == "from"));
    match (general, legs.iter().find(|leg| !has_own(leg))) {
        (Some(general), None) => context.report(
            Diagnostic::error(
                "ineffective-option",
                "this model has no language left",
                general.at,
                "never asked",
            )
            .with_label(from.span, "every language has a model of its own")
            .with_help("remove it"),
        ),
        // A model for a language that is not there is what was meant for this one, and is reported.
        (None, Some(leg)) if models.len() < legs.len() => context.report(
            Diagnostic::error(
                "missing-option",
                format!("no model translates from `{}`", leg.text().unwrap_or_default()),
                item.at,
                "needs another `with`",
            )
            .with_label(leg.span, "from this language")
            .with_help(format!("write `with MODEL from={}`", leg.text().unwrap_or_default())),
        ),
        _ => {}
    }
}

/// The column that names the language is one of the rows.
fn check_column(context: &mut Context, item: &Item, column: &Slot) {
    let (Some(name), Some(data)) = (column.text(), context.names.follow(item, "data")) else { return };
    for part in origins(context.names, data) {
        let fact = context.source_key(part).and_then(|key| context.facts.rows.get(&key));
        let Some(fact) = fact.filter(|fact| fact.problem.is_none() && !fact.columns.is_empty()) else {
            continue;
        };
        if fact.columns.iter().any(|known| known == name) {
            continue;
        }
        let names = || fact.columns.iter().map(String::as_str);
        let message = format!("the rows of `{}` have no column `{name}`", fact.file);
        let diagnostic = Diagnostic::error("missing-column", message, column.span, "no such column")
            .with_label(part.argument().map_or(part.at, |source| source.span), "the rows are read from here")
            .with_note(format!("the columns are {}", suggest::list(names(), "and")));
        let diagnostic = match suggest::nearest(name, names()) {
            Some(near) => suggest::offer(diagnostic, name, near, column.span, ""),
            None => diagnostic.with_help("name one of the columns, or a language with `from en`"),
        };
        context.report(diagnostic);
        return;
    }
}
