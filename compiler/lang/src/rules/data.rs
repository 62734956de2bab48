//! Rules about datasets and mixes.

use super::{Context, amounts, conditions, sources, steps};
use crate::capability;
use crate::diagnostic::Diagnostic;
use crate::facts::Want;
use crate::names::Names;
use crate::paths;
use crate::suggest;
use crate::tree::{Item, Slot};
use crate::values::Typed;
use std::collections::{BTreeMap, BTreeSet};
use stdlib::schema::{Type, Unit};

/// Returns the row type of data, when it is known: of a mix that of its first readable part.
pub fn row_type<'a>(names: &Names<'a>, data: &'a Item) -> Option<&'a str> {
    parts(names, data).into_iter().find_map(|part| match part.kind() {
        "thread" => part.child_argument("pick").and_then(Slot::text).map(picked),
        _ => part.child_argument("rows").and_then(Slot::text),
    })
}

/// The rows that are picked from trees.
fn picked(what: &str) -> &'static str {
    if what == "best-path" { "chat" } else { "preference" }
}

/// Returns the value that states the row type.
pub fn row_type_slot<'a>(names: &Names<'a>, data: &'a Item) -> Option<&'a Slot> {
    let stated = |part: &'a Item| if part.kind() == "thread" { "pick" } else { "rows" };
    parts(names, data).into_iter().find_map(|part| part.child_argument(stated(part)))
}

/// Returns the datasets and threads that data is made of, each once; a translation is made of what it translates.
pub fn parts<'a>(names: &Names<'a>, data: &'a Item) -> Vec<&'a Item> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![data];
    while let Some(item) = open.pop() {
        if !seen.insert(item.declared()) {
            continue;
        }
        match item.kind() {
            "dataset" | "thread" => found.push(item),
            "translate" => open.extend(names.follow(item, "data")),
            "mix" => {
                let takes: Vec<&Item> = item.children_of("take").collect();
                let parts = takes.iter().filter_map(|take| take.argument().and_then(Slot::text));
                open.extend(parts.rev().filter_map(|name| names.find(name)));
            }
            _ => {}
        }
    }
    found
}

/// Returns the datasets that rows come from in the end.
pub fn origins<'a>(names: &Names<'a>, data: &'a Item) -> Vec<&'a Item> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = parts(names, data);
    open.reverse();
    while let Some(item) = open.pop().filter(|_| seen.len() < 10_000) {
        if !seen.insert(item.declared()) {
            continue;
        }
        match item.kind() {
            "thread" => {
                open.extend(names.follow(item, "data").into_iter().flat_map(|data| parts(names, data)))
            }
            _ => found.push(item),
        }
    }
    found
}

/// Whether data has rows that are kept from training.
pub fn has_held_out<'a>(names: &Names<'a>, data: &'a Item) -> bool {
    origins(names, data).into_iter().any(holds_out)
}

/// Whether a dataset has rows that are kept from training.
pub fn holds_out(dataset: &Item) -> bool {
    dataset.child("holdout").is_some()
        || dataset.child("split").is_some_and(|split| split.property("eval").is_some())
}

/// Checks one dataset.
pub fn check_dataset(context: &mut Context, item: &Item) {
    check_split(context, item);
    check_holdout(context, item);
    conditions::check(context, item);
    steps::check(context, item);
    amounts::check(context, item);
    if let Some(source) = item.argument()
        && sources::check(context, item, source)
    {
        check_source(context, item, source);
    }
}

fn check_split(context: &mut Context, item: &Item) {
    let Some(split) = item.child("split") else { return };
    if split.properties.is_empty() && !split.damaged {
        context.report(
            Diagnostic::error(
                "missing-option",
                "`split` names no split",
                split.at,
                "needs `train` or `eval`",
            )
            .with_help("write `split train=NAME eval=NAME`"),
        );
    }
    let (Some(train), Some(eval)) = (split.property("train"), split.property("eval")) else { return };
    if train.text() == eval.text() {
        let message = format!("`{}` is trained on and held out", eval.text().unwrap_or_default());
        context.report(
            Diagnostic::error("shared-split", message, eval.span, "held out here")
                .with_label(train.span, "trained on here")
                .with_help("name two splits, or hold rows out with `holdout \"5%\"`"),
        );
    }
}

/// Held-out rows come from one place, and leave something to train on.
fn check_holdout(context: &mut Context, item: &Item) {
    let Some(holdout) = item.child("holdout") else { return };
    if let Some(amount) = holdout.argument().filter(|slot| slot.value == Typed::Quantity(1.0, Unit::Share)) {
        context.report(
            Diagnostic::error(
                "out-of-range",
                "`holdout` leaves nothing to train on",
                amount.span,
                "holds everything out",
            )
            .with_help("hold out less, such as `\"5%\"`"),
        );
    }
    let Some(eval) = item.child("split").and_then(|split| split.property("eval")) else { return };
    let (first, second) =
        if holdout.at.start < eval.key.start { (holdout.at, eval.key) } else { (eval.key, holdout.at) };
    context.report(
        Diagnostic::error(
            "conflicting-options",
            "rows are held out twice, by a split and by `holdout`",
            second,
            "the second",
        )
        .with_label(first, "the first")
        .with_help("keep one of them"),
    );
}

fn check_source(context: &mut Context, item: &Item, source: &Slot) {
    let Some(text) = source.text() else { return };
    refuse_hub_options(context, item, text);
    let Some(key) = context.source_key(item) else { return };
    let is_later = capability::of_source(text, "dataset", source.span).is_some();
    // Of tables of text the first line names the columns, so that they are looked at before they can be read.
    let has_header = [".csv", ".tsv"].iter().any(|end| text.ends_with(end));
    if paths::is_remote(text) || context.is_there(&key, source.span, true) && (!is_later || has_header) {
        check_rows(context, item, source, &key);
    }
}

/// `config` and `revision` belong to what comes from the hub.
fn refuse_hub_options(context: &mut Context, item: &Item, source: &str) {
    if source.starts_with("hf:") {
        return;
    }
    for option in item.properties.iter().filter(|slot| matches!(slot.name, "config" | "revision")) {
        let message = format!("`{}` has no effect on data that is not from the hub", option.name);
        context.report(
            Diagnostic::error("ineffective-option", message, option.key, "changes nothing here")
                .with_help("remove it"),
        );
    }
}

/// What the first rows of the source tell.
fn check_rows(context: &mut Context, item: &Item, source: &Slot, path: &str) {
    let Some(fact) = context.facts.rows.get(path) else {
        context.wants.push(Want::Rows(path.to_owned()));
        return;
    };
    if let Some(problem) = &fact.problem {
        let message = format!("the rows of `{path}` cannot be read: {problem}");
        context.report(
            Diagnostic::error("broken-data", message, source.span, "not readable")
                .with_help("correct the file, or name the one that was meant"),
        );
        return;
    }
    check_columns(context, item, &fact.columns, &fact.file);
    check_roles(context, item, &fact.roles);
    check_split_names(context, item, &fact.splits, path);
}

fn check_columns(context: &mut Context, item: &Item, columns: &[String], file: &str) {
    let Some(rows) = item.child("rows") else { return };
    let missing: Vec<(&Slot, &str)> = columns_of(rows)
        .filter(|(slot, column)| {
            let is_there = columns.iter().any(|known| known == column) || columns.is_empty();
            !is_there && must_have(rows, slot, columns)
        })
        .collect();
    let meant = type_of(rows, columns).filter(|_| missing.iter().all(|(slot, _)| !slot.is_written()));
    if let (Some(meant), [_, ..]) = (meant, missing.as_slice()) {
        context.report(other_type(rows, meant, &missing, columns, file));
        return;
    }
    for (slot, column) in missing {
        context.report(missing_column(rows, slot, column, columns, file));
    }
}

/// The columns that rows read; `best` is none.
fn columns_of(rows: &Item) -> impl Iterator<Item = (&Slot, &str)> {
    let columns = rows.properties.iter().filter(|slot| matches!(slot.ty, Type::Text));
    columns.filter_map(|slot| Some((slot, slot.text()?)))
}

/// Returns the one row type, other than the one that is written, whose columns are all there.
fn type_of(rows: &Item, columns: &[String]) -> Option<&'static str> {
    let Type::Word(types) = &rows.schema.arguments.first()?.ty else { return None };
    let needs = |name: &'static str| {
        let own = rows.schema.properties.iter().filter(move |property| property.only.contains(&name));
        own.filter(|property| !property.optional && matches!(property.ty, Type::Text))
    };
    let has = |name: &str| columns.iter().any(|known| known == name);
    let fits = |name: &&'static str| {
        Some(*name) != rows.word()
            && needs(name).next().is_some()
            && needs(name).all(|column| has(column.name))
    };
    let mut fitting = types.iter().map(|choice| choice.name).filter(fits);
    fitting.next().filter(|_| fitting.next().is_none())
}

/// Rows of another type than the one that is written.
fn other_type(
    rows: &Item,
    meant: &str,
    missing: &[(&Slot, &str)],
    columns: &[String],
    file: &str,
) -> Diagnostic {
    let kind = rows.argument().map_or(rows.at, |argument| argument.span);
    let lacking = suggest::list(missing.iter().map(|(_, column)| *column), "and");
    let noun = if missing.len() == 1 { "column" } else { "columns" };
    let message = format!("the rows of `{file}` have no {noun} {lacking}");
    Diagnostic::error("missing-column", message, kind, format!("needs {lacking}"))
        .with_note(format!("the columns are {}", suggest::list(columns.iter().map(String::as_str), "and")))
        .with_help(format!(
            "this looks like `rows {meant}`; for rows of this type name the columns, as in `{}=…`",
            missing[0].0.name
        ))
}

/// Roles that the reader of rows knows.
const ROLES: [&str; 6] = ["system", "user", "human", "assistant", "gpt", "tool"];

/// Every role in the first rows is known, mapped by `role`, or in rows that may be left out.
fn check_roles(context: &mut Context, item: &Item, roles: &BTreeMap<String, String>) {
    let rows = item.child_argument("rows").filter(|rows| rows.text() == Some("chat"));
    let Some(rows) = rows.filter(|_| item.child_argument("on-bad-row").and_then(Slot::text) == Some("error"))
    else {
        return;
    };
    if item.damaged {
        return;
    }
    let mapped: Vec<&str> = item.children_of("role").filter_map(Item::word).collect();
    for (role, place) in roles {
        if ROLES.contains(&role.as_str()) || mapped.contains(&role.as_str()) {
            continue;
        }
        let name = if role.chars().all(|c| c.is_alphanumeric()) && !role.is_empty() {
            role.clone()
        } else {
            format!("{role:?}")
        };
        let message = format!("`{place}` has the role `{role}`");
        context.report(
            Diagnostic::error("unknown-role", message, rows.span, "roles are `system`, `user`, `assistant` and `tool`")
                .with_help(format!("write `role {name} as=…` in the block, or allow such rows to be left out: `on-bad-row skip max=20`")),
        );
    }
}

/// Whether rows must have a column: one that is written, or one that the row type cannot do without.
fn must_have(rows: &Item, slot: &Slot, columns: &[String]) -> bool {
    // Conversations are also recognised under the name that other tools gave them.
    let is_recognised = slot.name == "messages" && columns.iter().any(|column| column == "conversations");
    let is_optional = rows.schema.property(slot.name).is_some_and(|property| property.optional);
    slot.is_written() || !is_optional && !is_recognised
}

fn missing_column(rows: &Item, slot: &Slot, column: &str, columns: &[String], file: &str) -> Diagnostic {
    let kind = rows.argument().map_or(rows.at, |argument| argument.span);
    let (at, label) = if slot.is_written() {
        (slot.span, "no such column".to_owned())
    } else {
        (kind, format!("needs a column `{}`", slot.name))
    };
    let names = || columns.iter().map(String::as_str);
    let diagnostic = Diagnostic::error(
        "missing-column",
        format!("the rows of `{file}` have no column `{column}`"),
        at,
        label,
    )
    .with_note(format!("the columns are {}", suggest::list(names(), "and")))
    .with_default(slot, rows);
    match suggest::nearest(column, names()) {
        Some(near) if slot.is_written() => suggest::offer(diagnostic, column, near, at, ""),
        Some(near) => diagnostic.with_help(format!("did you mean `{}={near}`?", slot.name)),
        None => diagnostic.with_help(format!("name the column with `{}=…`", slot.name)),
    }
}

fn check_split_names(context: &mut Context, item: &Item, splits: &[String], path: &str) {
    // A lock file may not know the splits.
    let Some(split) = item.child("split").filter(|_| !splits.is_empty()) else { return };
    let names = || splits.iter().map(String::as_str);
    for slot in &split.properties {
        let Some(name) = slot.text().filter(|name| names().all(|known| known != *name)) else { continue };
        let diagnostic = Diagnostic::error(
            "unknown-split",
            format!("`{path}` has no split `{name}`"),
            slot.span,
            "no such split",
        )
        .with_note(format!("the splits are {}", suggest::list(names(), "and")));
        context.report(match suggest::nearest(name, names()) {
            Some(near) => suggest::offer(diagnostic, name, near, slot.span, ""),
            None => diagnostic.with_help("write the name of one of its files without the ending"),
        });
    }
}

/// Checks one mix.
pub fn check_mix(context: &mut Context, item: &Item) {
    let takes: Vec<&Item> = item.children_of("take").collect();
    takes.iter().for_each(|take| check_amount(context, take));
    check_repeats(context, &takes);
    takes.iter().for_each(|take| amounts::check_part(context, take));
    check_one_kind(context, item, &takes);
    check_row_types(context, item, &takes);
    if let Some(stop) = item.child("stop") {
        check_stop(context, stop);
    }
}

/// Every part says how much of it is taken, once.
fn check_amount(context: &mut Context, take: &Item) {
    if take.damaged {
        return;
    }
    match take.properties.as_slice() {
        [] => context.report(
            Diagnostic::error(
                "missing-option",
                "this part of the mix has no amount",
                take.at,
                "how much of it?",
            )
            .with_help("write `weight=`, `fraction=`, `rows=`, `tokens=` or `epochs=`"),
        ),
        [_] => {}
        [first, second, ..] => context.report(
            Diagnostic::error(
                "conflicting-options",
                "this part of the mix has two amounts",
                second.key,
                "the second",
            )
            .with_label(first.key, "the first")
            .with_help("keep one of them"),
        ),
    }
}

/// A part stands once: twice in a list is twice as much in one tool and the same in another.
fn check_repeats(context: &mut Context, takes: &[&Item]) {
    for (at, take) in takes.iter().enumerate() {
        let Some(part) = take.argument() else { continue };
        let mut before = takes[..at].iter().filter_map(|first| first.argument());
        let Some(first) = before.find(|first| first.text() == part.text()) else { continue };
        let message = format!("the mix takes `{}` twice", part.text().unwrap_or_default());
        context.report(
            Diagnostic::error("repeated-option", message, part.span, "the second")
                .with_label(first.span, "the first")
                .with_help("keep one of them, with the amount of both"),
        );
    }
}

/// Weights and absolute amounts exclude each other; `measure` and `stop` belong to weights.
fn check_one_kind(context: &mut Context, item: &Item, takes: &[&Item]) {
    let amounts: Vec<&Slot> = takes.iter().filter_map(|take| take.properties.first()).collect();
    let Some((first, rest)) = amounts.split_first() else { return };
    let by_weight = first.name == "weight";
    if let Some(other) = rest.iter().find(|slot| (slot.name == "weight") != by_weight) {
        context.report(
            Diagnostic::error(
                "conflicting-options",
                "a mix has weights or amounts, not both",
                other.key,
                "of the other kind",
            )
            .with_label(first.key, "the first part is of this kind")
            .with_help("give every part a `weight`, or none"),
        );
        return;
    }
    for child in item.children.iter().filter(|child| !by_weight && matches!(child.kind(), "measure" | "stop"))
    {
        let message = format!("`{}` has no effect in a mix of absolute amounts", child.kind());
        context.report(
            Diagnostic::error("ineffective-option", message, child.at, "changes nothing here")
                .with_label(first.key, "an absolute amount")
                .with_help("remove it, or give every part a `weight`"),
        );
    }
}

fn check_row_types(context: &mut Context, item: &Item, takes: &[&Item]) {
    let mut first: Option<(&str, &Slot)> = None;
    for take in takes {
        let Some(reference) = take.argument() else { continue };
        let Some(part) = reference.text().and_then(|name| context.names.find(name)) else { continue };
        let Some(rows) = row_type(context.names, part) else { continue };
        match first {
            None => first = Some((rows, reference)),
            Some((kind, at)) if kind != rows => {
                let message = format!("the mix `{}` joins {kind} rows and {rows} rows", item.declared());
                context.diagnostics.push(
                    Diagnostic::error("mixed-row-types", message, reference.span, format!("{rows} rows"))
                        .with_label(at.span, format!("{kind} rows"))
                        .with_help("mix datasets of one row type, and give each row type a stage of its own"),
                );
            }
            Some(_) => {}
        }
    }
}

fn check_stop(context: &mut Context, stop: &Item) {
    match (stop.argument(), stop.property("tokens")) {
        (Some(word), Some(tokens)) => context.report(
            Diagnostic::error("conflicting-options", "`stop` has two conditions", tokens.key, "the second")
                .with_label(word.span, "the first")
                .with_help("keep one of them"),
        ),
        (None, None) if !stop.damaged && stop.slots().next().is_none() => context.report(
            Diagnostic::error("missing-value", "`stop` has no condition", stop.at, "when?")
                .with_help("write `stop all-seen`, `stop first-exhausted` or `stop tokens=\"2B\"`"),
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::facts::Facts;
    use crate::{Input, check};

    #[test]
    fn columns_of_another_row_type_are_one_mistake() {
        let facts: Facts = serde_json::from_value(serde_json::json!({
            "paths": {"p.jsonl": {"File": {"bytes": 9, "modified": 0, "inode": 1}}}, "models": {}, "tokenizers": {},
            "rows": {"p.jsonl": {"columns": ["chosen", "rejected"], "splits": [], "file": "p.jsonl"}},
            "prepared": {}, "hashes": {}, "texts": {}
        }))
        .expect("these are facts");
        let text = "adapt 1\ndataset a \"p.jsonl\" { rows instruction }";
        let found = check(&Input { path: "a.kdl", text, sets: &[] }, &facts).diagnostics;
        let helps = found.iter().filter(|found| found.code == "missing-column").map(|found| &found.help);
        let helps: Vec<&str> = helps.flatten().map(String::as_str).collect();
        assert!(matches!(helps.as_slice(), [help] if help.contains("`rows preference`")), "{helps:?}");
    }
}
